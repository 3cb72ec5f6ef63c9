"""Checks the trainer: loss of every iteration and final weights against transformers in float64 on the same batches.

python test/interop/training.py FOLDER: makes tiny models there; training.ts converts, trains and converts back.
The batches are read from the datasets in Megatron's order, restated here with numpy.
"""
import json
import math
import pathlib
import re
import sys

import numpy as np
import torch
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy
from transformers import (
    AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM,
)

import megatron_shards
from tap import check, node, require

# Printed losses have seven digits, which alone makes 5e-7; the trainer computes in float32, as do transformers' norms,
# softmax and rotary angles even in a float64 model. Rates much above these make the LoRA runs chaotic: float32 PyTorch
# leaves float64 PyTorch by as much then.
LOSS_TOLERANCE = 1e-5
WEIGHT_TOLERANCE = 1e-4

RECIPE = dict(trainIters=60, seqLength=104, microBatchSize=2, globalBatchSize=6, lr=2e-3, minLr=2e-4,
              lrWarmupFraction=0.1, lrDecayStyle='cosine', weightDecay=0.1, clipGrad=1.0, adamBeta1=0.9,
              adamBeta2=0.95, seed=4321)
ALL_TARGETS = list(megatron_shards.LORA_TARGETS)
CASES = {
    'pretraining': dict(model='llama', data='text', tp=2, pp=2, layout='mcore'),
    'masked SFT': dict(model='llama', data='rows', tp=2, pp=2, layout='legacy'),
    'tied embeddings': dict(model='llama-tied', data='text', tp=2, pp=2, layout='legacy'),
    'qkv bias': dict(model='qwen2', data='rows', tp=2, pp=1, layout='legacy'),
    # Windows of another length, of which the last epoch needs few enough to be shuffled apart.
    'tied embeddings and qkv bias': dict(model='qwen2-tied', data='text', tp=1, pp=4, layout='mcore',
                                         recipe=dict(seqLength=100)),
    'LoRA on all linears': dict(model='llama', data='rows', tp=2, pp=2, layout='legacy',
                                lora=dict(r=4, alpha=10, targets=ALL_TARGETS), recipe=dict(lr=4e-3)),
    'LoRA with qkv bias': dict(model='qwen2-tied', data='rows', tp=2, pp=2, layout='mcore',
                               lora=dict(r=3, alpha=16, targets=['qkv', 'fc2']), recipe=dict(lr=4e-3)),
}


def make_models(root):
    node('tokenizer.ts', root / 'tokenizer')
    tokenizer = AutoTokenizer.from_pretrained(root / 'tokenizer')
    torch.manual_seed(11)
    sizes = dict(hidden_size=48, intermediate_size=80, num_hidden_layers=4, num_attention_heads=6,
                 num_key_value_heads=2, vocab_size=len(tokenizer), max_position_embeddings=128, initializer_range=0.05)
    models = {
        'llama': LlamaForCausalLM(LlamaConfig(**sizes, head_dim=12, tie_word_embeddings=False)),
        'llama-tied': LlamaForCausalLM(LlamaConfig(**sizes, tie_word_embeddings=True)),
        'qwen2': Qwen2ForCausalLM(Qwen2Config(**sizes, rope_theta=1e6, tie_word_embeddings=False)),
        'qwen2-tied': Qwen2ForCausalLM(Qwen2Config(**sizes, rope_theta=1e6, tie_word_embeddings=True)),
    }
    for name, model in models.items():
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 1:
                    parameter.add_(torch.randn_like(parameter) / 10)
        model.save_pretrained(root / 'hf' / name)
        tokenizer.save_pretrained(root / 'hf' / name)


def make_rows(root):
    lines = pathlib.Path('examples/quickstart/instructions.jsonl').read_text().splitlines()
    # Of 70 to 122 tokens: some are cut at seqLength. As plain text 16 to 65, so that a window spans several documents.
    rows = [json.loads(line) for line in lines[:100]]
    texts = [{'text': ' '.join(row.values())} for row in rows[:70]]
    for name, records in (('rows', rows), ('text', texts)):
        (root / f'{name}.jsonl').write_text(''.join(json.dumps(record) + '\n' for record in records))


def sequences(prefix):
    """The sequences of an indexed dataset."""
    index = pathlib.Path(f'{prefix}.idx').read_bytes()
    require(index[:9] == b'MMIDIDX\0\0' and index[17] == 4)
    count, = np.frombuffer(index, '<u8', 1, 18)
    lengths = np.frombuffer(index, '<i4', int(count), 34)
    return np.split(np.fromfile(f'{prefix}.bin', '<i4'), np.cumsum(lengths)[:-1])


def samples_wanted(recipe):
    return recipe['trainIters'] * recipe['globalBatchSize']


def pretraining_samples(prefix, recipe):
    """Megatron's GPTDataset: windows over shuffled epochs of documents, shuffled; gives (tokens, labels)."""
    documents, n, count = sequences(prefix), recipe['seqLength'], samples_wanted(recipe)
    per_epoch = sum(map(len, documents))
    epochs = 1
    while (epochs * per_epoch - 1) // n < count:
        epochs += 1
    before_last = ((epochs - 1) * per_epoch - 1) // n
    apart = epochs > 1 and count - before_last < int(0.8 * ((per_epoch - 1) // n))
    random = np.random.RandomState(recipe['seed'])

    def document_order(passes):
        order = np.tile(np.arange(len(documents), dtype=np.int32), passes)
        random.shuffle(order)
        return order

    order = np.concatenate([document_order(epochs - 1), document_order(1)]) if apart else document_order(epochs)
    stream = np.concatenate([documents[i] for i in order])
    windows = (epochs * per_epoch - 1) // n
    first = np.arange(before_last if apart else windows, dtype=np.uint32)
    rest = np.arange(len(first), windows, dtype=np.uint32)
    random.shuffle(first)
    random.shuffle(rest)
    for window in np.concatenate([first, rest])[:count].astype(int):
        ids = stream[window * n: window * n + n + 1]
        yield ids[:-1], ids[1:]


def instruction_samples(prefix, recipe):
    """ModelLink's packed reader: whole shuffled passes; labels are shifted, cut and filled up with -100."""
    keys = ('input_ids', 'attention_mask', 'labels')
    ids, mask, labels = (sequences(f'{prefix}_packed_{key}_document') for key in keys)
    require(all((field == 1).all() for field in mask))
    random, order = np.random.RandomState(recipe['seed']), []
    n, count = recipe['seqLength'], samples_wanted(recipe)
    while len(order) <= count:
        one_pass = np.arange(len(ids), dtype=np.int32)
        random.shuffle(one_pass)
        order.extend(one_pass.tolist())
    for row in order[:count]:
        tokens, targets = np.zeros(n, np.int32), np.full(n, -100, np.int32)
        used = min(n, len(ids[row]) - 1)
        tokens[:used], targets[:used] = ids[row][:used], labels[row][1:used + 1]
        yield tokens, targets


def learning_rate(iteration, recipe):
    """Of an iteration counted from 1: Megatron steps its schedule after the update, so the first one has rate 0."""
    batch, iterations = recipe['globalBatchSize'], recipe['trainIters']
    done, total = (iteration - 1) * batch, iterations * batch
    warmup = recipe['lrWarmupFraction'] * total
    if warmup > 0 and done <= warmup:
        return recipe['lr'] * done / warmup
    ratio = (done - warmup) / (total - warmup)
    return recipe['minLr'] + (math.cos(math.pi * ratio) + 1) / 2 * (recipe['lr'] - recipe['minLr'])


def adapted(config, weights, adapters, lora):
    """The weights with alpha / r times B A on the fused matrices, under Hugging Face's names."""
    out = dict(weights)
    for (layer, target, matrix), a in adapters.items():
        if matrix != 'A':
            continue
        change = adapters[layer, target, 'B'] @ a * (lora['alpha'] / lora['r'])
        prefix = f'model.layers.{layer}.'
        if target == 'qkv':
            parts = {f'self_attn.{n}_proj': part for n, part in zip('qkv', megatron_shards.split_qkv(config, change))}
        elif target == 'fc1':
            parts = {f'mlp.{n}_proj': part for n, part in zip(('gate', 'up'), change.chunk(2))}
        else:
            parts = {'self_attn.o_proj' if target == 'proj' else 'mlp.down_proj': change}
        for name, part in parts.items():
            out[f'{prefix}{name}.weight'] = weights[f'{prefix}{name}.weight'] + part
    return out


def reference(model, samples, adapters, lora, recipe):
    """Trains in float64; gives losses and gradient norms of the iterations, the final weights, and what was trained."""
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    trained = adapters or weights
    for tensor in trained.values():
        tensor.requires_grad_()
    groups = [{'params': [tensor for tensor in trained.values() if (tensor.dim() > 1) is decays],
               'weight_decay': recipe['weightDecay'] if decays else 0.0} for decays in (True, False)]
    optimizer = torch.optim.AdamW([group for group in groups if group['params']], lr=0.0, eps=1e-8,
                                  betas=(recipe['adamBeta1'], recipe['adamBeta2']))
    size, micro_batches = recipe['microBatchSize'], recipe['globalBatchSize'] // recipe['microBatchSize']
    losses, norms = [], []
    for iteration in range(1, recipe['trainIters'] + 1):
        total = 0.0
        for _ in range(micro_batches):
            batch = zip(*(next(samples) for _ in range(size)))
            tokens, labels = (torch.tensor(np.stack(part)).long() for part in batch)
            used = adapted(model.config, weights, adapters, lora) if lora else weights
            logits = torch.func.functional_call(model, used, (tokens,)).logits
            loss = cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100) / micro_batches
            loss.backward()
            total += loss.item()
        losses.append(total)
        norms.append(torch.nn.utils.clip_grad_norm_(list(trained.values()), recipe['clipGrad']).item())
        for group in optimizer.param_groups:
            group['lr'] = learning_rate(iteration, recipe)
        optimizer.step()
        optimizer.zero_grad()
    final = adapted(model.config, weights, adapters, lora) if lora else weights
    detach = lambda tensors: {name: tensor.detach() for name, tensor in tensors.items()}
    return losses, norms, detach(final), detach(trained)


def printed(lines):
    """{iteration: (loss, gradient norm, learning rate)} of Megatron's iteration lines."""
    pattern = re.compile(r' iteration +(\d+)/.* learning rate: (\S+) .* lm loss: (\S+) .* grad norm: (\S+) ')
    found = filter(None, (pattern.search(line) for line in lines))
    return {int(match[1]): (float(match[3]), float(match[4]), float(match[2])) for match in found}


def distance(found, expected):
    """Largest absolute difference over all tensors, and the norm of the difference over that of the expected."""
    require(found.keys() == expected.keys(), sorted(map(str, found.keys() ^ expected.keys())))
    differences = [(found[name].double() - tensor) for name, tensor in expected.items()]
    norm = lambda tensors: math.sqrt(sum(tensor.pow(2).sum().item() for tensor in tensors))
    return max(d.abs().max().item() for d in differences), norm(differences) / norm(expected.values())


def check_case(name, case, root, figures):
    result = json.loads((root / f'{name}.json').read_text())
    folder, lora, recipe = root / 'hf' / case['model'], case.get('lora'), RECIPE | case.get('recipe', {})
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation='eager')
    read = lambda place: megatron_shards.gather(
        pathlib.Path(place), model.config, case['layout'], case['tp'], case['pp'])
    only_adapters = lambda tensors: {key: tensor for key, tensor in tensors.items() if isinstance(key, tuple)}
    adapters = {key: tensor.double() for key, tensor in only_adapters(read(result['start'])).items()} if lora else {}
    for (layer, target, matrix), tensor in adapters.items():
        # The first update has rate 0, so this is how the adapters began: A as peft draws it, B zero.
        bound = 1 / math.sqrt(tensor.shape[1]) if matrix == 'A' else 0
        require(tensor.abs().max().item() <= bound and (tensor.unique().numel() > 1) is (matrix == 'A'), layer, target)
    samples = (pretraining_samples if case['data'] == 'text' else instruction_samples)(result['data'], recipe)
    losses, norms, weights, trained = reference(model, samples, adapters, lora, recipe)

    lines = printed(result['lines'])
    require(sorted(lines) == list(range(1, len(losses) + 1)), 'iterations printed:', sorted(lines))
    loss_error = max(abs(lines[i + 1][0] - loss) for i, loss in enumerate(losses))
    # A line shows the rate of the iteration to come.
    rate_error = max(abs(lines[i][2] - learning_rate(i + 1, recipe)) for i in lines)
    found = read(result['checkpoint'])
    absolute, relative = distance(only_adapters(found) if lora else found, trained)
    merged = load_file(pathlib.Path(result['hf']) / 'model.safetensors')
    hf_absolute, _ = distance({key: merged[key] for key in merged if key in weights}, weights)
    figures += [
        f'{len(losses)} iterations, loss {losses[0]:.3f} to {losses[-1]:.3f}',
        f'max |loss difference| {loss_error:.1e}',
        f'final {"adapters" if lora else "weights"} max {absolute:.1e}, {relative:.1e} relative',
        f'Hugging Face weights max {hf_absolute:.1e}',
    ]
    require(losses[-1] < losses[0] - (0.2 if lora else 1), 'the loss hardly falls:', *figures)
    require(loss_error <= LOSS_TOLERANCE, *figures)
    require(max(absolute, hf_absolute) <= WEIGHT_TOLERANCE, *figures)
    # Printed with three decimals, and with seven digits.
    require(all(abs(lines[i + 1][1] - norm) <= 6e-4 + 1e-4 * norm for i, norm in enumerate(norms)), *figures)
    require(rate_error <= recipe['lr'] * 1e-6, 'learning rate differs by', rate_error)


def main(root):
    make_models(root)
    make_rows(root)
    (root / 'cases.json').write_text(json.dumps(dict(recipe=RECIPE, cases=CASES)))
    node('training.ts', root)
    for name, case in CASES.items():
        with check(f'training against float64: {name}') as figures:
            check_case(name, case, root, figures)


if __name__ == '__main__':
    main(pathlib.Path(sys.argv[1]))
