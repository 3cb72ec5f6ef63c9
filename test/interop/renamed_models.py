"""Families whose code is not in transformers, as models that are: the same weights under the names of the family.

rename(...) stores a model as its family does; restore(...) makes the model again of such a folder.
"""
import json

import torch
from safetensors.torch import load_file, save_file

# transformers' name within a layer -> the family's; several that are stacked become one.
QKV = [f'self_attn.{n}_proj' for n in 'qkv']
LAYERS = {
    'qwen': ('model.layers.', 'transformer.h.', [
        (['input_layernorm'], 'ln_1'), (QKV, 'attn.c_attn'), (['self_attn.o_proj'], 'attn.c_proj'),
        (['post_attention_layernorm'], 'ln_2'), (['mlp.up_proj'], 'mlp.w1'), (['mlp.gate_proj'], 'mlp.w2'),
        (['mlp.down_proj'], 'mlp.c_proj'),
    ]),
    'chatglm': ('model.layers.', 'transformer.encoder.layers.', [
        (['input_layernorm'], 'input_layernorm'), (QKV, 'self_attention.query_key_value'),
        (['self_attn.o_proj'], 'self_attention.dense'), (['post_attention_layernorm'], 'post_attention_layernorm'),
        (['mlp.gate_up_proj'], 'mlp.dense_h_to_4h'), (['mlp.down_proj'], 'mlp.dense_4h_to_h'),
    ]),
    'baichuan': ('model.layers.', 'model.layers.', [(QKV, 'self_attn.W_pack')]),
}
OUTSIDE = {
    'qwen': {'model.embed_tokens.weight': 'transformer.wte.weight', 'model.norm.weight': 'transformer.ln_f.weight'},
    'chatglm': {
        'model.embed_tokens.weight': 'transformer.embedding.word_embeddings.weight',
        'model.norm.weight': 'transformer.encoder.final_layernorm.weight',
        'lm_head.weight': 'transformer.output_layer.weight',
    },
    'baichuan': {},
}


def config_of(family, c, rope_theta):
    shared = {'num_attention_heads': c.num_attention_heads, 'hidden_size': c.hidden_size, 'model_type': family}
    if family == 'qwen':
        return shared | {'num_hidden_layers': c.num_hidden_layers, 'intermediate_size': 2 * c.intermediate_size,
                         'kv_channels': c.head_dim, 'vocab_size': c.vocab_size, 'no_bias': True, 'bf16': True,
                         'layer_norm_epsilon': c.rms_norm_eps, 'rotary_emb_base': rope_theta}
    if family == 'chatglm':
        return shared | {'num_layers': c.num_hidden_layers, 'ffn_hidden_size': c.intermediate_size,
                         'kv_channels': c.head_dim, 'padded_vocab_size': c.vocab_size, 'add_qkv_bias': True,
                         'multi_query_attention': True, 'multi_query_group_num': c.num_key_value_heads,
                         'layernorm_epsilon': c.rms_norm_eps, 'rope_ratio': rope_theta / 10000,
                         'torch_dtype': 'bfloat16'}
    return shared | {'num_hidden_layers': c.num_hidden_layers, 'intermediate_size': c.intermediate_size,
                     'vocab_size': c.vocab_size, 'rms_norm_eps': c.rms_norm_eps, 'model_max_length': 256,
                     'tie_word_embeddings': False, 'torch_dtype': 'bfloat16'}


def places(family, layers, weights):
    """(names in transformers, name in the family) of everything that a model has."""
    ours, theirs, modules = LAYERS[family]
    for layer in range(layers):
        for names, name in modules:
            for kind in ('weight', 'bias'):
                parts = [f'{ours}{layer}.{n}.{kind}' for n in names]
                if parts[0] in weights:
                    yield parts, f'{theirs}{layer}.{name}.{kind}'
    for name, other in OUTSIDE[family].items():
        yield [name], other


def rename(family, model, rope_theta, folder):
    folder.mkdir(parents=True)
    weights = {name: tensor.bfloat16() for name, tensor in model.state_dict().items()}
    stored = dict(weights)
    for parts, name in places(family, model.config.num_hidden_layers, weights):
        stored[name] = torch.cat([stored.pop(part) for part in parts]).contiguous()
    if family == 'chatglm':
        # A constant that its own code stores; it must come along though Megatron does not have it.
        stored['transformer.rotary_pos_emb.inv_freq'] = torch.rand(4)
    save_file(stored, folder / 'model.safetensors', metadata={'format': 'pt'})
    (folder / 'config.json').write_text(json.dumps(config_of(family, model.config, rope_theta)))


def restore(family, model, folder):
    """The weights of the folder as `model`, a transformers model of the same sizes, names them."""
    stored = load_file(folder / 'model.safetensors')
    stored.pop('transformer.rotary_pos_emb.inv_freq', None)
    weights = model.state_dict()
    for parts, name in places(family, model.config.num_hidden_layers, weights):
        rows = [len(weights[part]) for part in parts]
        stored |= dict(zip(parts, stored.pop(name).split(rows), strict=True)) if name not in parts else {}
    return stored


def baichuan_logits(weights, config, ids):
    """Baichuan2 13B: ALiBi in place of RoPE, an output layer with rows of length 1. For want of a class of its own."""
    heads, width = config.num_attention_heads, config.head_dim
    norm = lambda x, name: torch.nn.functional.rms_norm(x, x.shape[-1:], weights[name + '.weight'], config.rms_norm_eps)
    linear = lambda x, name: x @ weights[name + '.weight'].T
    x = weights['model.embed_tokens.weight'][ids[0]]
    length = len(x)
    slopes = torch.tensor([2 ** (-8 * (head + 1) / heads) for head in range(heads)])
    distance = torch.arange(length)[None, :] - torch.arange(length)[:, None]
    bias = slopes[:, None, None] * distance + torch.full((length, length), float('-inf')).triu(1)
    for layer in range(config.num_hidden_layers):
        at = f'model.layers.{layer}.'
        q, k, v = (linear(norm(x, at + 'input_layernorm'), f'{at}self_attn.{n}_proj').reshape(length, heads, width)
                   .transpose(0, 1) for n in 'qkv')
        scores = (q.float() @ k.float().transpose(1, 2)) / width ** 0.5 + bias
        mixed = scores.softmax(-1).to(x.dtype) @ v
        x = x + linear(mixed.transpose(0, 1).reshape(length, -1), at + 'self_attn.o_proj')
        y = norm(x, at + 'post_attention_layernorm')
        gated = torch.nn.functional.silu(linear(y, at + 'mlp.gate_proj')) * linear(y, at + 'mlp.up_proj')
        x = x + linear(gated, at + 'mlp.down_proj')
    return norm(x, 'model.norm') @ torch.nn.functional.normalize(weights['lm_head.weight']).T
