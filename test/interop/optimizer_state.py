"""Classic Megatron training checkpoints of a tiny model, cut by rules written down here and saved by torch.

optimizer_state.py DIR NAME=layout:tp:pp[:dtype] ...  writes one checkpoint per NAME, all of the same full tensors,
and says in DIR/contents.json what torch finds in each: a value, or a tensor's type, shape and SHA-256.

The order of parameters comes from torch modules that are put together as Megatron-LM core_r0.6.0 puts its own together
(legacy: legacy/model/transformer.py, language_model.py, gpt_model.py; mcore: core/transformer/*.py, gpt_model.py), groups as
_get_param_groups makes them, the optimizer's state as apex's FusedAdam keeps it (step in the group).
"""

import argparse, enum, glob, hashlib, json, os, sys, types
import torch
from torch import nn

VOCAB, HIDDEN, FFN, HEADS, GROUPS, HEAD, LAYERS = 11, 8, 8, 4, 2, 2, 2


class ModelType(enum.Enum):
    encoder_or_decoder = 1


for name in ('megatron', 'megatron.core', 'megatron.core.enums'):
    sys.modules.setdefault(name, types.ModuleType(name))
ModelType.__module__ = 'megatron.core.enums'
sys.modules['megatron.core.enums'].ModelType = ModelType


def full(name, kind):
    """The whole tensor of a weight as one rank would hold it: rows of qkv group by group, gate above up."""
    qkv = (HEADS + 2 * GROUPS) * HEAD
    shapes = {'embedding': (VOCAB, HIDDEN), 'output': (VOCAB, HIDDEN), 'qkv': (qkv, HIDDEN), 'qkv_bias': (qkv,),
              'proj': (HIDDEN, HEADS * HEAD), 'fc1': (2 * FFN, HIDDEN), 'fc2': (HIDDEN, FFN), 'norm': (HIDDEN,)}
    shape = shapes[name.split('.')[0]]
    generator = torch.Generator().manual_seed(sum((i + 1) * ord(c) for i, c in enumerate(name + kind)))
    values = torch.randn(shape, generator=generator)
    return values.square() * 1e-3 if kind == 'exp_avg_sq' else values


def cut(name, whole, tp, rank):
    kind = name.split('.')[0]
    if kind in ('embedding', 'output'):
        rows = -(-VOCAB // tp) * tp
        whole = torch.cat([whole, whole[-1:].expand(rows - VOCAB, -1)])
        return whole.chunk(tp, 0)[rank].clone()
    if kind in ('qkv', 'qkv_bias'):
        return whole.view(GROUPS, -1, *whole.shape[1:]).chunk(tp, 0)[rank].reshape(-1, *whole.shape[1:]).clone()
    if kind == 'fc1':
        gate, up = whole.chunk(2, 0)
        return torch.cat([gate.chunk(tp, 0)[rank], up.chunk(tp, 0)[rank]]).clone()
    if kind in ('proj', 'fc2'):
        return whole.chunk(tp, 1)[rank].clone()
    return whole.clone()


class Box(nn.Module):
    """A module with children and parameters in the order given; `source` maps a parameter to its full tensor's name."""

    def __init__(self, children=(), **parameters):
        super().__init__()
        for name, (parameter, source) in parameters.items():
            self.register_parameter(name, parameter)
            parameter.source = source
        for name, child in children:
            self.add_module(name, child)


def stage_model(layout, tp, rank, pp, stage, dtype, tied):
    def parameter(source):
        value = nn.Parameter(cut(source, full(source, 'weight'), tp, rank).to(dtype))
        value.tensor_model_parallel, value.partition_dim, value.partition_stride = True, 0, 1
        return value, source

    def weight(source):
        return Box(weight=parameter(source))

    per_stage = LAYERS // pp
    layers = []
    for local in range(per_stage):
        layer = stage * per_stage + local
        qkv = Box(weight=parameter(f'qkv.{layer}'), bias=parameter(f'qkv_bias.{layer}'))
        proj, fc1, fc2 = weight(f'proj.{layer}'), weight(f'fc1.{layer}'), weight(f'fc2.{layer}')
        first, second = weight(f'norm.{layer}.input'), weight(f'norm.{layer}.post')
        if layout == 'legacy':
            layers.append(Box([('input_norm', first),
                               ('self_attention', Box([('query_key_value', qkv), ('dense', proj)])),
                               ('post_attention_norm', second),
                               ('mlp', Box([('dense_h_to_4h', fc1), ('dense_4h_to_h', fc2)]))]))
        else:
            layers.append(Box([('input_layernorm', first),
                               ('self_attention', Box([('linear_proj', proj), ('linear_qkv', qkv)])),
                               ('pre_mlp_layernorm', second),
                               ('mlp', Box([('linear_fc1', fc1), ('linear_fc2', fc2)]))]))
    body = [('layers', nn.ModuleList(layers))]
    if stage == pp - 1:
        body.append(('final_norm' if layout == 'legacy' else 'final_layernorm', weight('norm.final')))
    parts = []
    if stage == 0:
        parts.append(('embedding', Box([('word_embeddings', weight('embedding'))])))
    parts.append(('encoder' if layout == 'legacy' else 'decoder', Box(body)))
    # A tied model has no output layer, but a copy of the embedding where that is on another stage.
    is_copy = tied and stage == pp - 1 and pp > 1
    if stage == pp - 1 and not tied:
        parts.append(('output_layer', weight('output')))
    if layout == 'mcore':
        return Box(parts + ([('output_layer', weight('embedding'))] if is_copy else []))
    return Box([('language_model', Box(parts))] + ([('word_embeddings', weight('embedding'))] if is_copy else []))


def state_dict(model, layout):
    if layout == 'mcore':
        return model.state_dict()
    parts = dict(model.language_model.named_children())
    saved = {}
    if 'embedding' in parts:
        saved['embedding'] = {'word_embeddings': parts['embedding'].word_embeddings.state_dict()}
    saved['encoder'] = parts['encoder'].state_dict()
    if 'output_layer' in parts:
        saved['output_layer'] = parts['output_layer'].state_dict()
    copy = dict(model.named_children()).get('word_embeddings')
    return {'language_model': saved, **({'word_embeddings_for_head': copy.state_dict()} if copy else {})}


class FusedAdam(torch.optim.Optimizer):
    """State as apex's: `step` beside the group's settings, two moments for each parameter."""

    def __init__(self, groups):
        defaults = dict(lr=1e-4, bias_correction=True, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
        super().__init__(groups, defaults)
        for group in self.param_groups:
            group['step'] = 7
            group['weight_decay'] = 0.1 * group['wd_mult']


def optimizer_state(model, tp, rank, dtype):
    groups = {}
    for name, parameter in model.named_parameters():
        no_decay = name.endswith('.bias') or len(parameter.shape) == 1
        groups.setdefault((0.0 if no_decay else 1.0, 1.0, False, False), []).append(parameter)
    sources = []
    main_groups, param_groups = [], []
    for (wd_mult, lr_mult, expert, decoupled), members in groups.items():
        mains = []
        for parameter in members:
            main = parameter
            if dtype != torch.float32:
                main = cut(parameter.source, full(parameter.source, 'weight'), tp, rank)
                for attribute in ('tensor_model_parallel', 'partition_dim', 'partition_stride'):
                    setattr(main, attribute, getattr(parameter, attribute))
            mains.append(main)
            sources.append((main, parameter.source))
        main_groups.append(mains)
        param_groups.append(dict(params=mains, wd_mult=wd_mult, lr_mult=lr_mult, is_expert_parallel=expert,
                                 is_decoupled_lr=decoupled, max_lr=3e-4, min_lr=3e-5))
    optimizer = FusedAdam(param_groups)
    for main, source in sources:
        for kind in ('exp_avg', 'exp_avg_sq'):
            optimizer.state[main][kind] = cut(source, full(source, kind), tp, rank)
    if dtype == torch.float32:
        return optimizer.state_dict()
    result = {'optimizer': optimizer.state_dict()}
    if dtype == torch.float16:
        result['grad_scaler'] = {'scale': torch.tensor([65536.0]), 'growth_tracker': 3, 'hysteresis_tracker': 2}
    result['fp32_from_fp16_params'] = main_groups
    return result


def write(path, layout, tp, pp, dtype, tied=False):
    for stage in range(pp):
        for rank in range(tp):
            model = stage_model(layout, tp, rank, pp, stage, dtype, tied)
            args = argparse.Namespace(
                num_layers=LAYERS, hidden_size=HIDDEN, ffn_hidden_size=FFN, num_attention_heads=HEADS,
                group_query_attention=True, num_query_groups=GROUPS, kv_channels=HEAD, max_position_embeddings=64,
                position_embedding_type='rope', add_qkv_bias=True, swiglu=True, normalization='RMSNorm',
                norm_epsilon=1e-6, rotary_base=10000, untie_embeddings_and_output_weights=not tied, vocab_size=None,
                padded_vocab_size=-(-VOCAB // tp) * tp, tensor_model_parallel_size=tp, pipeline_model_parallel_size=pp,
                virtual_pipeline_model_parallel_size=None, model_type=ModelType.encoder_or_decoder, seed=1234,
                use_mcore_models=layout == 'mcore', params_dtype=dtype, bf16=dtype == torch.bfloat16,
                fp16=dtype == torch.float16, iteration=7, consumed_train_samples=56, consumed_valid_samples=3,
                lr=3e-4, rank=rank, world_size=tp * pp, lora_target_modules=[])
            scheduler = {'max_lr': 3e-4, 'lr_warmup_steps': 16, 'num_steps': 56, 'lr_decay_style': 'cosine',
                         'lr_decay_steps': 800, 'min_lr': 3e-5, 'start_wd': 0.1, 'end_wd': 0.1,
                         'wd_incr_style': 'constant', 'wd_incr_steps': 800}
            state = {'args': args, 'checkpoint_version': 3.0, 'iteration': 7, 'model': state_dict(model, layout),
                     'optimizer': optimizer_state(model, tp, rank, dtype), 'opt_param_scheduler': scheduler,
                     'rng_state': [{'torch_rng_state': torch.get_rng_state()[:16]}],
                     'num_floating_point_operations_so_far': 123456789012}
            folder = f'{path}/iter_0000007/mp_rank_{rank:02d}' + (f'_{stage:03d}' if pp > 1 else '')
            os.makedirs(folder, exist_ok=True)
            torch.save(state, f'{folder}/model_optim_rng.pt')
    with open(f'{path}/latest_checkpointed_iteration.txt', 'w') as tracker:
        tracker.write('7')


def contents(path):
    """Everything but `args`, random states and the None that linear layers keep, by file and path of keys."""
    def walk(value, at):
        if isinstance(value, torch.Tensor):
            data = value.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
            yield at, [str(value.dtype), list(value.shape), hashlib.sha256(data).hexdigest()]
        elif isinstance(value, (dict, list, tuple)):
            for key, below in value.items() if isinstance(value, dict) else enumerate(value):
                if at or key not in ('args', 'rng_state'):
                    yield from walk(below, f'{at}/{key}')
        elif not at.endswith('_extra_state'):
            yield at, value

    files = sorted(glob.glob(f'{path}/iter_*/*/*.pt'))
    return {os.path.relpath(file, path): dict(walk(torch.load(file, weights_only=False), '')) for file in files}


if __name__ == '__main__':
    found = {}
    for task in sys.argv[2:]:
        name, spec = task.split('=')
        layout, tp, pp, *rest = spec.split(':')
        write(f'{sys.argv[1]}/{name}', layout, int(tp), int(pp), getattr(torch, rest[0] if rest else 'bfloat16'))
        found[name] = contents(f'{sys.argv[1]}/{name}')
    with open(f'{sys.argv[1]}/contents.json', 'w') as file:
        json.dump(found, file, indent=0)
