"""Checks written checkpoints with PyTorch, zipfile and safetensors: every tensor of every rank, and LoRA merges.

python test/interop/checkpoint.py FOLDER: makes random models there with transformers, lets checkpoint.ts convert them.
"""
import argparse
import json
import pathlib
import sys
import zipfile

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

import megatron_shards
from tap import check, node, require

# Grouped queries, heads that do not make up the hidden size, a vocabulary that tp 2 has to pad.
SIZES = dict(hidden_size=64, intermediate_size=96, num_hidden_layers=4, num_attention_heads=8, num_key_value_heads=4,
             head_dim=12, vocab_size=101, max_position_embeddings=128)
R, ALPHA = 4, 10


def make_models(root):
    torch.manual_seed(3)
    models = {
        'llama': LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=False)),
        'qwen2': Qwen2ForCausalLM(Qwen2Config(**SIZES, tie_word_embeddings=True)),
    }
    for name, model in models.items():
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.randn_like(parameter))
        # float32, so that the conversion to bfloat16 is the product's.
        model.to(torch.float32).save_pretrained(root / 'hf-in' / name)
    adapters = {}
    qkv, heads = (8 + 2 * 4) * 12, 8 * 12
    shapes = {'qkv': (qkv, 64), 'proj': (64, heads), 'fc1': (192, 64), 'fc2': (64, 96)}
    for layer in range(4):
        for target, (rows, columns) in shapes.items():
            adapters[f'layers.{layer}.linear_{target}.lora_A.weight'] = torch.randn(R, columns).bfloat16()
            adapters[f'layers.{layer}.linear_{target}.lora_B.weight'] = torch.randn(rows, R).bfloat16()
    save_file(adapters, root / 'adapters.safetensors')
    return models, adapters


def load_shard(path):
    """Loads a shard in every way that PyTorch has; gives its state."""
    with zipfile.ZipFile(path) as archive:
        require(archive.testzip() is None, path)
        require(archive.read('model_optim_rng/version') == b'3\n')
        require(archive.read('model_optim_rng/byteorder') == b'little')
        for info in archive.infolist():
            require(info.compress_type == zipfile.ZIP_STORED and info.flag_bits == 0x800, info)
    with torch.serialization.safe_globals([argparse.Namespace]):
        states = [
            torch.load(path, weights_only=False),
            torch.load(path, weights_only=False, mmap=True),
            torch.load(path, weights_only=True),
        ]
    tensors, *others = [megatron_shards.flat(state['model']) for state in states]
    for other in others:
        require(list(other) == list(tensors))
        for name, tensor in tensors.items():
            require(tensor.is_contiguous() and torch.equal(tensor, other[name]), name)
    return states[0]


def check_shards(folder, model):
    """Compares every rank with the mapping of megatron_shards.py; gives how many files and tensors there were."""
    _, layout, tp, pp = folder.name.split('-')
    tp, pp = int(tp[2:]), int(pp[2:])
    require((folder / 'latest_checkpointed_iteration.txt').read_text() == '1')
    weights = {name: tensor.bfloat16() for name, tensor in model.state_dict().items()}
    expected = megatron_shards.cut(weights, model.config, layout, tp, pp)
    require(len(list(folder.glob('iter_*/*/*'))) == len(expected), 'files of', folder.name)
    compared = 0
    for (t, stage), tensors in expected.items():
        state = load_shard(megatron_shards.rank_file(folder, t, stage, pp))
        require(state['iteration'] == 1 and type(state['checkpoint_version']) is float)
        args = vars(state['args'])
        require(state['checkpoint_version'] == 3.0 and args['params_dtype'] is torch.bfloat16)
        require((args['tensor_model_parallel_size'], args['pipeline_model_parallel_size']) == (tp, pp))
        require((args['num_layers'], args['num_query_groups'], args['kv_channels']) == (4, 4, 12))
        require(args['padded_vocab_size'] == 101 + 101 % tp and args['add_qkv_bias'] == ('qwen2' in folder.name))
        require(args['untie_embeddings_and_output_weights'] == (not model.config.tie_word_embeddings))
        require(type(args['norm_epsilon']) is float and type(args['rotary_base']) is float)
        found = megatron_shards.flat(state['model'])
        require(sorted(found) == sorted(tensors), folder.name, t, stage, sorted(set(found) ^ set(tensors)))
        for name, tensor in tensors.items():
            require(found[name].dtype is torch.bfloat16 and torch.equal(found[name], tensor), folder.name, name)
            compared += 1
    return len(expected), compared


def check_hf_folder(folder, model):
    index = json.loads((folder / 'model.safetensors.index.json').read_text())
    require(len(set(index['weight_map'].values())) > 1)
    loaded, info = AutoModelForCausalLM.from_pretrained(folder, dtype='auto', output_loading_info=True)
    require(not info['missing_keys'] and not info['unexpected_keys'] and not info['mismatched_keys'], info)
    require(loaded.dtype is torch.bfloat16)
    for name, tensor in model.state_dict().items():
        require(torch.equal(loaded.state_dict()[name], tensor.bfloat16()), folder.name, name)
    return len(model.state_dict())


def check_merge(weights, adapters, merged, config):
    """Counts elements that are not the merge in float64 rounded once; torch rounds by way of float32, hence not all."""
    def delta(layer, target):
        a, b = (adapters[f'layers.{layer}.linear_{target}.lora_{m}.weight'].double() for m in 'AB')
        return b @ a * (ALPHA / R)

    different = total = 0
    for layer in range(4):
        changes = [*megatron_shards.split_qkv(config, delta(layer, 'qkv')), delta(layer, 'proj'),
                   *delta(layer, 'fc1').chunk(2), delta(layer, 'fc2')]
        names = ('self_attn.q_proj', 'self_attn.k_proj', 'self_attn.v_proj', 'self_attn.o_proj',
                 'mlp.gate_proj', 'mlp.up_proj', 'mlp.down_proj')
        for short, change in zip(names, changes, strict=True):
            name = f'model.layers.{layer}.{short}.weight'
            expected = weights[name].bfloat16().double() + change
            require(torch.allclose(merged[name].double(), expected, rtol=2 ** -8, atol=0), name)
            different += (merged[name] != expected.bfloat16()).sum().item()
            total += expected.numel()
    for name in ('model.embed_tokens.weight', 'lm_head.weight', 'model.norm.weight'):
        require(torch.equal(merged[name], weights[name].bfloat16()), name)
    require(different <= total * 1e-4, different, 'of', total)
    return different, total


def main(root):
    models, adapters = make_models(root)
    node('checkpoint.ts', root)
    for name, model in models.items():
        with check(f'torch loads the shards of {name}, each tensor as cut in Python') as figures:
            counts = [check_shards(folder, model) for folder in sorted((root / 'mg').glob(f'{name}-*'))]
            files, tensors = (sum(column) for column in zip(*counts))
            figures += [f'{len(counts)} layouts', f'{files} files', f'{tensors} tensors equal']
        with check(f'transformers loads what comes back of {name}') as figures:
            counts = [check_hf_folder(folder, model) for folder in sorted((root / 'hf-out').glob(f'{name}-*'))]
            figures += [f'{len(counts)} folders of several files', f'{sum(counts)} tensors equal']
    with check('LoRA merges are one rounding away from float64') as figures:
        weights, config = models['llama'].state_dict(), models['llama'].config
        merges = [check_merge(weights, adapters, load_file(folder / 'model.safetensors'), config)
                  for folder in sorted((root / 'lora-out').iterdir())]
        different, total = (sum(column) for column in zip(*merges))
        figures += [f'{len(merges)} merges', f'{different} of {total} elements differ in the last place']


if __name__ == '__main__':
    main(pathlib.Path(sys.argv[1]))
