"""Checks resharded training checkpoints with PyTorch, tensor by tensor, and PEFT adapters that were in Megatron.

python test/interop/reshard.py FOLDER: makes checkpoints there (optimizer_state.py), lets reshard.ts cut them anew.
"""
import importlib.util
import json
import pathlib
import sys

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

import optimizer_state
from tap import check, node, require

CUTS = [(layout, tp, pp) for layout in ('legacy', 'mcore') for tp in (1, 2) for pp in (1, 2)]
# A model in each type, and one in bfloat16 whose output layer is the embedding.
KINDS = ('bfloat16', 'float16', 'float32', 'tied')
HAS_PEFT = importlib.util.find_spec('peft') is not None


def make_checkpoints(root):
    tasks = []
    for dtype in KINDS:
        for i, (layout, tp, pp) in enumerate(CUTS):
            source = root / 'in' / f'{dtype}-{layout}-{tp}-{pp}'
            tied = dtype == 'tied'
            optimizer_state.write(str(source), layout, tp, pp, getattr(torch, 'bfloat16' if tied else dtype), tied)
            others = CUTS if dtype in ('bfloat16', 'tied') else [CUTS[(i + 3) % 8], CUTS[(i + 4) % 8]]
            for to in others:
                name = f'{source.name}.{to[0]}-{to[1]}-{to[2]}'
                cut = [dict(tied=tied, layout=l, tp=t, pp=p) for l, t, p in ((layout, tp, pp), to)]
                tasks.append({'name': name, 'from': {**cut[0], 'path': str(source)}, 'to': cut[1]})
    (root / 'tasks.json').write_text(json.dumps(tasks))
    return [task['name'] for task in tasks]


def make_adapter(root):
    from peft import LoraConfig, get_peft_model
    torch.manual_seed(5)
    sizes = dict(hidden_size=64, intermediate_size=96, num_hidden_layers=4, num_attention_heads=8, vocab_size=101,
                 num_key_value_heads=4, head_dim=12, max_position_embeddings=128, tie_word_embeddings=False)
    LlamaForCausalLM(LlamaConfig(**sizes)).save_pretrained(root / 'model')
    config = LoraConfig(r=4, lora_alpha=10, target_modules=['q_proj', 'v_proj', 'o_proj', 'up_proj'],
                        init_lora_weights=False, task_type='CAUSAL_LM')
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(root / 'model'), config)
    model.save_pretrained(root / 'adapter')


def check_adapter(root, figures):
    from peft import PeftModel

    def loaded(adapter):
        model = AutoModelForCausalLM.from_pretrained(root / 'model', dtype=torch.float64)
        return PeftModel.from_pretrained(model, root / adapter).double().eval()

    tokens = torch.arange(40).view(2, 20) % 101
    before, after = loaded('adapter'), loaded('adapter-back')
    with torch.no_grad():
        difference = (before(tokens).logits - after(tokens).logits).abs().max().item()
    require(difference < 1e-12, difference)
    figures.append(f'logits of float64 differ by {difference:.1e}')
    merged = AutoModelForCausalLM.from_pretrained(root / 'merged', dtype='auto').state_dict()
    expected = before.merge_and_unload().state_dict()
    different = sum((merged[name] != tensor.float()).sum().item() for name, tensor in expected.items())
    total = sum(tensor.numel() for tensor in expected.values())
    # Sums in another order may fall on the other side of a tie.
    require(merged.keys() == expected.keys() and different <= 2, different)
    figures.append(f'{different} of {total} merged elements are others than merge_and_unload rounds to')


def main(root):
    names = make_checkpoints(root)
    if HAS_PEFT:
        make_adapter(root)
    node('reshard.ts', root, 'peft' if HAS_PEFT else '')
    for dtype in KINDS:
        with check(f'torch finds weights and optimizer of {dtype} checkpoints where a training in that layout has them') as figures:
            compared = 0
            mine = [name for name in names if name.startswith(dtype)]
            for name in mine:
                expected = optimizer_state.contents(root / 'in' / f'{dtype}-{name.split(".")[1]}')
                found = optimizer_state.contents(root / 'out' / name)
                require(found == expected, name)
                compared += sum(len(file) for file in found.values())
            figures += [f'{len(mine)} pairs of layouts', f'{compared} tensors and values equal']
    if HAS_PEFT:
        with check('PEFT computes the same with adapters that were in Megatron') as figures:
            check_adapter(root, figures)


main(pathlib.Path(sys.argv[1]))
