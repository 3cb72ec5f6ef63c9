"""Checks that a model taken from Hugging Face to Megatron and back by the steps computes the very same logits.

python test/interop/round_trip.py FOLDER: makes small models there with transformers, with a tokenizer; those of families
that transformers does not have are stored as their own code does (renamed_models.py).
"""
import pathlib
import sys

import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM, AutoTokenizer, GlmConfig, GlmForCausalLM, LlamaConfig, LlamaForCausalLM, MistralConfig,
    MistralForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM,
)

import renamed_models
from tap import check, node, require

SIZES = dict(hidden_size=64, intermediate_size=112, num_hidden_layers=4, num_attention_heads=8, num_key_value_heads=2,
             max_position_embeddings=256)
TEXT = 'What is the capital of France?\n法国的首都是哪里？ 🙂'


def main(root):
    node('tokenizer.ts', root / 'tokenizer')
    tokenizer = AutoTokenizer.from_pretrained(root / 'tokenizer')
    torch.manual_seed(5)
    # A vocabulary that tp 2 has to pad; weights that reach far, so that a single wrong one shows.
    sizes = dict(SIZES, vocab_size=len(tokenizer) + 1 + len(tokenizer) % 2, initializer_range=0.2)
    models = {
        'llama': LlamaForCausalLM(LlamaConfig(**sizes, head_dim=16, rope_theta=500000.0, tie_word_embeddings=False)),
        'qwen2': Qwen2ForCausalLM(Qwen2Config(**sizes, rope_theta=1e6, tie_word_embeddings=True)),
        'mistral': MistralForCausalLM(MistralConfig(**sizes, head_dim=8, tie_word_embeddings=False)),
        'qwen3': Qwen3ForCausalLM(Qwen3Config(**sizes, head_dim=16, tie_word_embeddings=True)),
        'glm': GlmForCausalLM(GlmConfig(**sizes, head_dim=16, pad_token_id=0)),
    }
    # Of families without a class in transformers: a model that computes the same, and stored under their names.
    full = sizes | {'num_key_value_heads': 8}
    renamed = {
        'qwen': Qwen2ForCausalLM(Qwen2Config(**full, rope_theta=1e4, tie_word_embeddings=False)),
        'chatglm': GlmForCausalLM(GlmConfig(**sizes, head_dim=8, rope_theta=5e6, pad_token_id=0)),
        'baichuan': LlamaForCausalLM(LlamaConfig(**full, head_dim=8, tie_word_embeddings=False)),
    }
    for name, model in (models | renamed).items():
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                if parameter.dim() == 1:
                    parameter.add_(torch.randn_like(parameter) / 4)
        model.to(torch.bfloat16)
        if name in models:
            model.save_pretrained(root / 'hf' / name)
        else:
            model.config.head_dim = 8
            renamed_models.rename(name, model, {'qwen': 1e4, 'chatglm': 5e6}.get(name), root / 'hf' / name)
        tokenizer.save_pretrained(root / 'hf' / name)
    node('round-trip.ts', root)
    for folder in sorted((root / 'back').iterdir()):
        name = folder.name.split('-')[0]
        with check(f'logits after Hugging Face -> Megatron -> Hugging Face, {folder.name}') as figures:
            ids = AutoTokenizer.from_pretrained(folder)(TEXT, return_tensors='pt')['input_ids']
            require(torch.equal(ids, tokenizer(TEXT, return_tensors='pt')['input_ids']), 'the tokenizer came along')
            logits = of_renamed if name in renamed else of_published
            with torch.no_grad():
                before, after = logits(root / 'hf' / name, folder, ids, renamed.get(name))
            difference = (before - after).abs().max().item()
            require(difference == 0, 'largest difference', difference)
            figures += [f'largest difference {difference:g}', f'{ids.shape[1]} tokens x {after.shape[-1]}']


def of_published(folder, back_folder, ids, _):
    original = AutoModelForCausalLM.from_pretrained(folder, dtype='auto')
    back, info = AutoModelForCausalLM.from_pretrained(back_folder, dtype='auto', output_loading_info=True)
    require(not info['missing_keys'] and not info['unexpected_keys'] and not info['mismatched_keys'], info)
    require(type(back) is type(original) and back.dtype is torch.bfloat16)
    return original(ids).logits, back(ids).logits


def of_renamed(folder, back_folder, ids, model):
    """The model before it was stored beside the one made of the folder that came back."""
    name = folder.name
    require((back_folder / 'config.json').read_bytes() == (folder / 'config.json').read_bytes(), 'config.json')
    stored, back = (load_file(path / 'model.safetensors') for path in (folder, back_folder))
    require(sorted(stored) == sorted(back) and all(torch.equal(stored[key], back[key]) for key in stored))
    weights = renamed_models.restore(name, model, back_folder)
    if name == 'baichuan':
        return [renamed_models.baichuan_logits(it, model.config, ids) for it in (model.state_dict(), weights)]
    again = type(model)(model.config).to(torch.bfloat16)
    again.load_state_dict(weights, strict=True)
    return model.eval()(ids).logits, again.eval()(ids).logits


if __name__ == '__main__':
    main(pathlib.Path(sys.argv[1]))
