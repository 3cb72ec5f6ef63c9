"""Checks that a model taken from Hugging Face to Megatron and back by the steps computes the very same logits.

python test/interop/round_trip.py FOLDER: makes a Llama and a Qwen2 there with transformers, with a tokenizer.
"""
import pathlib
import sys

import torch
from transformers import (
    AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM,
)

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
    }
    for name, model in models.items():
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                if parameter.dim() == 1:
                    parameter.add_(torch.randn_like(parameter) / 4)
        model.to(torch.bfloat16).save_pretrained(root / 'hf' / name)
        tokenizer.save_pretrained(root / 'hf' / name)
    node('round-trip.ts', root)
    for folder in sorted((root / 'back').iterdir()):
        name = folder.name.split('-')[0]
        with check(f'logits after Hugging Face -> Megatron -> Hugging Face, {folder.name}') as figures:
            original = AutoModelForCausalLM.from_pretrained(root / 'hf' / name, dtype='auto')
            back, info = AutoModelForCausalLM.from_pretrained(folder, dtype='auto', output_loading_info=True)
            require(not info['missing_keys'] and not info['unexpected_keys'] and not info['mismatched_keys'], info)
            require(type(back) is type(original) and back.dtype is torch.bfloat16)
            ids = AutoTokenizer.from_pretrained(folder)(TEXT, return_tensors='pt')['input_ids']
            require(torch.equal(ids, tokenizer(TEXT, return_tensors='pt')['input_ids']), 'the tokenizer came along')
            with torch.no_grad():
                difference = (back(ids).logits - original(ids).logits).abs().max().item()
            require(difference == 0, 'largest difference', difference)
            figures += [f'largest difference {difference:g}', f'{ids.shape[1]} tokens x {back.config.vocab_size}']


if __name__ == '__main__':
    main(pathlib.Path(sys.argv[1]))
