"""Megatron's shards of a model, stated apart from the product: cut(...) makes them, gather(...) puts them together."""
import torch

# The two state dicts, as dotted paths. A layer's names follow `layer`, in which {} is its number within the stage.
NAMES = {
    'legacy': {
        'embedding': 'language_model.embedding.word_embeddings.weight',
        'layer': 'language_model.encoder.layers.{}.',
        'input_norm': 'input_norm.weight',
        'qkv': 'self_attention.query_key_value',
        'proj': 'self_attention.dense',
        'post_norm': 'post_attention_norm.weight',
        'fc1': 'mlp.dense_h_to_4h',
        'fc2': 'mlp.dense_4h_to_h',
        'final_norm': 'language_model.encoder.final_norm.weight',
        'head': 'language_model.output_layer.weight',
        'tied_head': 'word_embeddings_for_head.weight',
    },
    'mcore': {
        'embedding': 'embedding.word_embeddings.weight',
        'layer': 'decoder.layers.{}.',
        'input_norm': 'input_layernorm.weight',
        'qkv': 'self_attention.linear_qkv',
        'proj': 'self_attention.linear_proj',
        'post_norm': 'pre_mlp_layernorm.weight',
        'fc1': 'mlp.linear_fc1',
        'fc2': 'mlp.linear_fc2',
        'final_norm': 'decoder.final_layernorm.weight',
        'head': 'output_layer.weight',
        'tied_head': 'output_layer.weight',
    },
}
LORA_TARGETS = ('qkv', 'proj', 'fc1', 'fc2')


def fuse_qkv(config, q, k, v):
    """Per query group: its heads of q, then its k, then its v."""
    groups = config.num_key_value_heads
    return torch.cat([part.reshape(groups, -1, *part.shape[1:]) for part in (q, k, v)], 1).reshape(-1, *q.shape[1:])


def split_qkv(config, fused):
    groups = config.num_key_value_heads
    repeat = config.num_attention_heads // groups
    view = fused.reshape(groups, repeat + 2, -1, *fused.shape[1:])
    return [part.reshape(-1, *fused.shape[1:]) for part in (view[:, :repeat], view[:, repeat], view[:, repeat + 1])]


def pad_rows(matrix, rows):
    """The last row again and again: the padding of the vocabulary."""
    return torch.cat([matrix, matrix[-1:].expand(rows - len(matrix), -1)])


def cut(weights, config, layout, tp, pp):
    """{(tensor rank, stage): {dotted name: tensor}}; the vocabulary is padded to a multiple of tp."""
    names = NAMES[layout]
    padded = -(-config.vocab_size // tp) * tp
    per_stage = config.num_hidden_layers // pp
    shards = {}
    for t in range(tp):
        rows = lambda matrix: matrix.chunk(tp, 0)[t]
        columns = lambda matrix: matrix.chunk(tp, 1)[t]
        vocabulary = lambda name: rows(pad_rows(weights[name], padded))
        for stage in range(pp):
            shard = shards[t, stage] = {}
            if stage == 0:
                shard[names['embedding']] = vocabulary('model.embed_tokens.weight')
            for local in range(per_stage):
                hf, mg = f'model.layers.{stage * per_stage + local}.', names['layer'].format(local)
                qkv = lambda kind: fuse_qkv(config, *(weights[f'{hf}self_attn.{n}_proj.{kind}'] for n in 'qkv'))
                shard[mg + names['input_norm']] = weights[hf + 'input_layernorm.weight']
                shard[mg + names['qkv'] + '.weight'] = rows(qkv('weight'))
                if hf + 'self_attn.q_proj.bias' in weights:
                    shard[mg + names['qkv'] + '.bias'] = rows(qkv('bias'))
                shard[mg + names['proj'] + '.weight'] = columns(weights[hf + 'self_attn.o_proj.weight'])
                shard[mg + names['post_norm']] = weights[hf + 'post_attention_layernorm.weight']
                gate_up = [rows(weights[f'{hf}mlp.{n}_proj.weight']) for n in ('gate', 'up')]
                shard[mg + names['fc1'] + '.weight'] = torch.cat(gate_up)
                shard[mg + names['fc2'] + '.weight'] = columns(weights[hf + 'mlp.down_proj.weight'])
            if stage == pp - 1:
                shard[names['final_norm']] = weights['model.norm.weight']
                if not config.tie_word_embeddings:
                    shard[names['head']] = vocabulary('lm_head.weight')
                elif pp > 1:
                    shard[names['tied_head']] = vocabulary('model.embed_tokens.weight')
    return shards


def rank_file(folder, t, stage, pp):
    """The file of one rank, in the iteration that the tracker names."""
    iteration = int((folder / 'latest_checkpointed_iteration.txt').read_text())
    rank = f'mp_rank_{t:02d}' + (f'_{stage:03d}' if pp > 1 else '')
    return folder / f'iter_{iteration:07d}' / rank / 'model_optim_rng.pt'


def flat(state, prefix=''):
    """The nested state dict by dotted paths, without the empty `_extra_state` entries."""
    out = {}
    for key, value in state.items():
        if isinstance(value, dict):
            out |= flat(value, f'{prefix}{key}.')
        elif value is not None or not key.endswith('_extra_state'):
            out[prefix + key] = value
    return out


def read(folder, tp, pp):
    """{(tensor rank, stage): {dotted name: tensor}}."""
    load = lambda t, stage: torch.load(rank_file(folder, t, stage, pp), weights_only=False)['model']
    return {(t, stage): flat(load(t, stage)) for t in range(tp) for stage in range(pp)}


def gather(folder, config, layout, tp, pp):
    """The weights under Hugging Face's names; adapters as (layer, target, 'A' or 'B'), whole and fused."""
    names, shards, out = NAMES[layout], read(folder, tp, pp), {}
    per_stage = config.num_hidden_layers // pp
    of = lambda stage, name: [shards[t, stage][name] for t in range(tp)]

    def alike(parts):
        if not all(torch.equal(parts[0], part) for part in parts):
            raise AssertionError('a replicated tensor differs between tensor ranks')
        return parts[0]

    def gate_up(parts):
        halves = [part.chunk(2) for part in parts]
        return torch.cat([half[0] for half in halves] + [half[1] for half in halves])

    vocabulary = lambda stage, name: torch.cat(of(stage, name))[: config.vocab_size]
    out['model.embed_tokens.weight'] = vocabulary(0, names['embedding'])
    for layer in range(config.num_hidden_layers):
        stage, local = divmod(layer, per_stage)
        hf, mg = f'model.layers.{layer}.', names['layer'].format(local)
        if mg + names['qkv'] + '.weight' in shards[0, stage]:
            out[hf + 'input_layernorm.weight'] = alike(of(stage, mg + names['input_norm']))
            out[hf + 'post_attention_layernorm.weight'] = alike(of(stage, mg + names['post_norm']))
            for kind in ('weight', 'bias'):
                if mg + names['qkv'] + '.' + kind in shards[0, stage]:
                    parts = split_qkv(config, torch.cat(of(stage, f'{mg}{names["qkv"]}.{kind}')))
                    out |= {f'{hf}self_attn.{n}_proj.{kind}': part for n, part in zip('qkv', parts)}
            out[hf + 'self_attn.o_proj.weight'] = torch.cat(of(stage, mg + names['proj'] + '.weight'), 1)
            fc1 = gate_up(of(stage, mg + names['fc1'] + '.weight'))
            out[hf + 'mlp.gate_proj.weight'], out[hf + 'mlp.up_proj.weight'] = fc1.chunk(2)
            out[hf + 'mlp.down_proj.weight'] = torch.cat(of(stage, mg + names['fc2'] + '.weight'), 1)
        for target in LORA_TARGETS:
            a, b = (f'{mg}{names[target]}.lora_{m}.default.weight' for m in 'AB')
            if a in shards[0, stage]:
                # Column-parallel layers replicate A and cut B by rows; row-parallel ones cut A by columns.
                column = target in ('qkv', 'fc1')
                out[layer, target, 'A'] = alike(of(stage, a)) if column else torch.cat(of(stage, a), 1)
                join = gate_up if target == 'fc1' else torch.cat if target == 'qkv' else alike
                out[layer, target, 'B'] = join(of(stage, b))
    if names['final_norm'] in shards[0, pp - 1]:
        out['model.norm.weight'] = alike(of(pp - 1, names['final_norm']))
    if not config.tie_word_embeddings:
        out['lm_head.weight'] = vocabulary(pp - 1, names['head'])
    elif pp > 1 and not torch.equal(vocabulary(pp - 1, names['tied_head']), out['model.embed_tokens.weight']):
        raise AssertionError("the last stage's copy of the tied embedding differs")
    return out
