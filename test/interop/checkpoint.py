"""Checks what the product writes with the tools that will read it: PyTorch, zipfile, safetensors and transformers.

Makes small random models with transformers, lets test/interop/checkpoint.ts convert them there and back, and compares.
Usage: python test/interop/checkpoint.py (from the root of the repository; needs torch, transformers, safetensors)
"""
import json
import pathlib
import subprocess
import sys
import tempfile
import zipfile

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

COMMON = dict(hidden_size=64, intermediate_size=96, num_hidden_layers=4, num_attention_heads=8, num_key_value_heads=4,
              vocab_size=101, max_position_embeddings=128)
R, ALPHA = 4, 10


def make_models(root):
    torch.manual_seed(3)
    models = {
        'llama': LlamaForCausalLM(LlamaConfig(**COMMON, head_dim=12, tie_word_embeddings=False)),
        'qwen2': Qwen2ForCausalLM(Qwen2Config(**COMMON, tie_word_embeddings=True)),
    }
    for name, model in models.items():
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.randn_like(parameter))
        # float32, so that the conversion to bfloat16 is the product's.
        model.to(torch.float32).save_pretrained(root / 'hf-in' / name)
    adapters = {}
    qkv, proj = (8 + 2 * 4) * 12, 8 * 12
    for layer in range(4):
        for target, out, inp in (('linear_qkv', qkv, 64), ('linear_proj', 64, proj), ('linear_fc1', 192, 64), ('linear_fc2', 64, 96)):
            adapters[f'layers.{layer}.{target}.lora_A.weight'] = torch.randn(R, inp).bfloat16()
            adapters[f'layers.{layer}.{target}.lora_B.weight'] = torch.randn(out, R).bfloat16()
    save_file(adapters, root / 'adapters.safetensors')
    return models, adapters


def check_shard(path, mmap):
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None, path
        assert archive.read('model_optim_rng/version') == b'3\n'
        assert archive.read('model_optim_rng/byteorder') == b'little'
        for info in archive.infolist():
            assert info.compress_type == zipfile.ZIP_STORED and info.flag_bits == 0x800, info
    import argparse
    with torch.serialization.safe_globals([argparse.Namespace]):
        state = torch.load(path, weights_only=True, mmap=mmap)
    args = state['args']
    assert isinstance(args, argparse.Namespace) and args.params_dtype is torch.bfloat16
    assert isinstance(args.norm_epsilon, float) and isinstance(args.rotary_base, float) and args.num_layers == 4
    assert state['checkpoint_version'] == 3.0 and isinstance(state['checkpoint_version'], float)
    return state


def flat(state):
    model = state['model']
    if 'language_model' not in model:
        return dict(model)
    language = model['language_model']
    out = {f'encoder.{k}': v for k, v in language['encoder'].items()}
    if 'embedding' in language:
        out['embedding.word_embeddings.weight'] = language['embedding']['word_embeddings']['weight']
    if 'output_layer' in language:
        out |= {f'output_layer.{k}': v for k, v in language['output_layer'].items()}
    return out


def check_merge(weights, adapters, out):
    """The merge in float64, one rounding: float64 -> bfloat16 goes by way of float32 in torch, so allow its double rounding."""
    def delta(layer, target):
        a, b = (adapters[f'layers.{layer}.{target}.lora_{m}.weight'].double() for m in 'AB')
        return (b @ a) * (ALPHA / R)
    different = total = 0
    for layer in range(4):
        p = f'model.layers.{layer}.'
        qkv = delta(layer, 'linear_qkv').view(4, 2 + 2, 12, 64)
        fc1 = delta(layer, 'linear_fc1')
        deltas = {
            'self_attn.q_proj': qkv[:, :2].reshape(-1, 64), 'self_attn.k_proj': qkv[:, 2].reshape(-1, 64),
            'self_attn.v_proj': qkv[:, 3].reshape(-1, 64), 'self_attn.o_proj': delta(layer, 'linear_proj'),
            'mlp.gate_proj': fc1[:96], 'mlp.up_proj': fc1[96:], 'mlp.down_proj': delta(layer, 'linear_fc2'),
        }
        for name, change in deltas.items():
            expected = weights[f'{p}{name}.weight'].bfloat16().double() + change
            found = out[f'{p}{name}.weight']
            assert torch.allclose(found.double(), expected, rtol=2 ** -8, atol=0), name
            different += (found != expected.bfloat16()).sum().item()
            total += found.numel()
    assert different <= total * 1e-4, (different, total)
    for name in ('model.embed_tokens.weight', 'lm_head.weight', 'model.norm.weight'):
        assert torch.equal(out[name], weights[name].bfloat16()), name


def main():
    with tempfile.TemporaryDirectory() as temporary:
        root = pathlib.Path(temporary)
        models, adapters = make_models(root)
        subprocess.run(['npx', 'tsx', 'test/interop/checkpoint.ts', temporary], check=True)
        shards = 0
        for folder in sorted((root / 'mg').iterdir()):
            model = models[folder.name.split('-')[0]]
            assert (folder / 'latest_checkpointed_iteration.txt').read_text() == '1'
            whole = {k: v.bfloat16() for k, v in model.state_dict().items()}
            for path in sorted(folder.glob('iter_0000001/*/model_optim_rng.pt')):
                plain, mapped = check_shard(path, False), check_shard(path, True)
                for key, value in flat(plain).items():
                    assert (value is None) == key.endswith('_extra_state'), key
                    if value is not None:
                        assert value.is_contiguous() and torch.equal(value, flat(mapped)[key]), key
                shards += 1
            first = flat(torch.load(next(iter(sorted(folder.glob('iter_*/mp_rank_00*/*.pt')))), weights_only=False))
            rows = first['embedding.word_embeddings.weight'].shape[0]
            assert torch.equal(first['embedding.word_embeddings.weight'][:min(rows, 101)], whole['model.embed_tokens.weight'][:rows])
        folders = 0
        for folder in sorted((root / 'hf-out').iterdir()):
            name = folder.name.split('-')[0]
            index = json.loads((folder / 'model.safetensors.index.json').read_text())
            assert len(set(index['weight_map'].values())) > 1
            loaded, info = AutoModelForCausalLM.from_pretrained(folder, dtype='auto', output_loading_info=True)
            assert not info['missing_keys'] and not info['unexpected_keys'] and not info['mismatched_keys'], info
            assert loaded.dtype is torch.bfloat16
            for key, value in models[name].state_dict().items():
                assert torch.equal(loaded.state_dict()[key], value.bfloat16()), (folder.name, key)
            folders += 1
        merges = 0
        for folder in sorted((root / 'lora-out').iterdir()):
            check_merge(models['llama'].state_dict(), adapters, load_file(folder / 'model.safetensors'))
            merges += 1
        print(f'checkpoint interop: {shards} shards, {folders} Hugging Face folders, {merges} LoRA merges equal')


if __name__ == '__main__':
    sys.exit(main())
