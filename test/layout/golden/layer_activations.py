"""Bytes that autograd keeps of one layer of legacy Megatron at tp 1, counted by storage. See README.md."""
import torch
import torch.nn.functional as F


class FusedRmsNorm(torch.autograd.Function):
    """Keeps input, weight and one float32 factor a token, as npu_rms_norm does."""

    @staticmethod
    def forward(ctx, x, weight):
        factor = torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + 1e-5)
        ctx.save_for_backward(x, weight, factor)
        return (x.float() * factor).to(x.dtype) * weight


class FusedSwiglu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        gate, up = x.chunk(2, -1)
        return F.silu(gate) * up


class FlashAttention(torch.autograd.Function):
    """Keeps q, k, v, output, and maxima and sums of [batch, heads, tokens, 8] float32, as npu_fusion_attention does."""

    @staticmethod
    def forward(ctx, q, k, v):
        s, b, n, d = q.shape
        heads = [x.permute(1, 2, 0, 3) for x in (q, k, v)]
        out = F.scaled_dot_product_attention(*heads, is_causal=True).permute(2, 0, 1, 3).reshape(s, b, n * d)
        ctx.save_for_backward(q, k, v, out, torch.zeros(b, n, s, 8), torch.zeros(b, n, s, 8))
        return out


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat((-b, a), -1) * sin


def layer(x, p, heads, groups, fused_swiglu):
    s, b, h = x.shape
    d = h // heads
    mixed = F.linear(FusedRmsNorm.apply(x, p["norm1"]), p["qkv"]).view(s, b, groups, (heads // groups + 2) * d)
    q, k, v = mixed.split([heads // groups * d, d, d], -1)
    q = q.reshape(s, b, heads, d)
    if heads > groups:
        k, v = (t.repeat_interleave(heads // groups, 2) for t in (k, v))
    q, k = (rotate(t, p["cos"], p["sin"]) for t in (q, k))
    x = x + F.linear(FlashAttention.apply(q, k, v), p["dense"])
    up = F.linear(FusedRmsNorm.apply(x, p["norm2"]), p["fc1"])
    gate, value = up.chunk(2, -1)
    return x + F.linear(FusedSwiglu.apply(up) if fused_swiglu else F.silu(gate) * value, p["fc2"])


def kept_bytes(h, ffn, heads, groups, tokens, batch, fused_swiglu):
    d = h // heads
    shapes = {
        **{"norm1": (h,), "norm2": (h,), "qkv": ((heads + 2 * groups) * d, h), "dense": (h, h)},
        **{"fc1": (2 * ffn, h), "fc2": (h, ffn)},
    }
    p = {name: torch.zeros(shape, dtype=torch.bfloat16, requires_grad=True) for name, shape in shapes.items()}
    p |= {name: torch.zeros(tokens, 1, 1, d, dtype=torch.bfloat16) for name in ("cos", "sin")}
    own = {t.untyped_storage().data_ptr() for t in p.values()}
    kept = {}

    def pack(t):
        storage = t.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = (storage.nbytes(), t)
        return t

    x = torch.zeros(tokens, batch, h, dtype=torch.bfloat16, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        out = layer(x, p, heads, groups, fused_swiglu)
    assert out.shape == x.shape
    return sum(size for size, _ in kept.values())


for case in [
    (512, 1376, 4, 4, 64, 2, True),
    (4096, 11008, 32, 32, 16, 1, True),
    (1024, 3584, 8, 2, 128, 1, True),
    (896, 4864, 14, 2, 64, 1, True),
    (512, 1376, 4, 4, 64, 2, False),
    (1024, 3584, 8, 2, 128, 1, False),
]:
    print(case, kept_bytes(*case))
