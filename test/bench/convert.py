"""A converter as the toolchain is built: the model in memory, every shard chunked, torch.save.

python convert.py hfToMegatron|megatronToHf FROM TO TP PP; prints seconds and peak bytes as JSON.
"""
import glob
import json
import os
import resource
import sys
import time

import torch
from safetensors import safe_open
from safetensors.torch import save_file

direction, source, target, tp, pp = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])


def config_of(folder):
    with open(os.path.join(folder, "config.json")) as file:
        return json.load(file)


def fuse(q, k, v, config):
    heads, groups = config["num_attention_heads"], config["num_key_value_heads"]
    hidden = q.shape[1]
    width = q.shape[0] // heads
    return torch.cat(
        [q.view(groups, -1, hidden), k.view(groups, width, hidden), v.view(groups, width, hidden)], dim=1
    ).view(-1, hidden)


def hf_to_megatron():
    config = config_of(source)
    state = {}
    for path in sorted(glob.glob(os.path.join(source, "*.safetensors"))):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():
                state[name] = file.get_tensor(name)
    layers = config["num_hidden_layers"]
    per_stage = [layers // pp + (stage < layers % pp) for stage in range(pp)]
    start = 0
    for stage in range(pp):
        ranks = [{} for _ in range(tp)]

        def put(key, tensor, axis):
            for rank, piece in enumerate([tensor] * tp if axis is None else torch.chunk(tensor, tp, dim=axis)):
                ranks[rank][key] = torch.empty_like(piece, memory_format=torch.contiguous_format).copy_(piece)

        if stage == 0:
            put("embedding.word_embeddings.weight", state["model.embed_tokens.weight"], 0)
        for local in range(per_stage[stage]):
            at = f"model.layers.{start + local}."
            to = f"encoder.layers.{local}."
            q, k, v = (state[f"{at}self_attn.{name}_proj.weight"] for name in "qkv")
            put(f"{to}self_attention.query_key_value.weight", fuse(q, k, v, config), 0)
            put(f"{to}self_attention.dense.weight", state[f"{at}self_attn.o_proj.weight"], 1)
            gate = torch.chunk(state[f"{at}mlp.gate_proj.weight"], tp, dim=0)
            up = torch.chunk(state[f"{at}mlp.up_proj.weight"], tp, dim=0)
            for rank in range(tp):
                ranks[rank][f"{to}mlp.dense_h_to_4h.weight"] = torch.cat([gate[rank], up[rank]], dim=0)
            put(f"{to}mlp.dense_4h_to_h.weight", state[f"{at}mlp.down_proj.weight"], 1)
            put(f"{to}input_norm.weight", state[f"{at}input_layernorm.weight"], None)
            put(f"{to}post_attention_norm.weight", state[f"{at}post_attention_layernorm.weight"], None)
        start += per_stage[stage]
        if stage == pp - 1:
            put("encoder.final_norm.weight", state["model.norm.weight"], None)
            put("output_layer.weight", state["lm_head.weight"], 0)
        for rank in range(tp):
            folder = os.path.join(target, "iter_0000001", f"mp_rank_{rank:02d}_{stage:03d}")
            os.makedirs(folder)
            torch.save({"model": ranks[rank], "iteration": 1}, os.path.join(folder, "model_optim_rng.pt"))


def megatron_to_hf():
    config = config_of(source)
    layers, heads, groups = (
        config[name] for name in ("num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    )
    state, start = {}, 0
    for stage in range(pp):
        ranks = [
            torch.load(
                os.path.join(source, "iter_0000001", f"mp_rank_{rank:02d}_{stage:03d}", "model_optim_rng.pt"),
                weights_only=True,
            )["model"]
            for rank in range(tp)
        ]
        count = layers // pp + (stage < layers % pp)

        def get(key, axis):
            return ranks[0][key] if axis is None else torch.cat([rank[key] for rank in ranks], dim=axis)

        if stage == 0:
            state["model.embed_tokens.weight"] = get("embedding.word_embeddings.weight", 0)
        for local in range(count):
            at, to = f"encoder.layers.{local}.", f"model.layers.{start + local}."
            fused = get(f"{at}self_attention.query_key_value.weight", 0)
            hidden = fused.shape[1]
            width = fused.shape[0] // (heads + 2 * groups)
            q, k, v = torch.split(
                fused.view(groups, -1, hidden), [heads // groups * width, width, width], dim=1
            )
            for name, tensor in (("q", q), ("k", k), ("v", v)):
                state[f"{to}self_attn.{name}_proj.weight"] = tensor.reshape(-1, hidden)
            state[f"{to}self_attn.o_proj.weight"] = get(f"{at}self_attention.dense.weight", 1)
            pairs = [torch.chunk(rank[f"{at}mlp.dense_h_to_4h.weight"], 2, dim=0) for rank in ranks]
            state[f"{to}mlp.gate_proj.weight"] = torch.cat([gate for gate, _ in pairs], dim=0)
            state[f"{to}mlp.up_proj.weight"] = torch.cat([up for _, up in pairs], dim=0)
            state[f"{to}mlp.down_proj.weight"] = get(f"{at}mlp.dense_4h_to_h.weight", 1)
            state[f"{to}input_layernorm.weight"] = get(f"{at}input_norm.weight", None)
            state[f"{to}post_attention_layernorm.weight"] = get(f"{at}post_attention_norm.weight", None)
        start += count
        if stage == pp - 1:
            state["model.norm.weight"] = get("encoder.final_norm.weight", None)
            state["lm_head.weight"] = get("output_layer.weight", 0)
    os.makedirs(target)
    save_file(state, os.path.join(target, "model.safetensors"), metadata={"format": "pt"})


begin = time.perf_counter()
hf_to_megatron() if direction == "hfToMegatron" else megatron_to_hf()
seconds = time.perf_counter() - begin
usage = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"seconds": seconds, "peakBytes": usage.ru_maxrss * 1024, "cpuSeconds": usage.ru_utime + usage.ru_stime}))
