"""The embedded trainer's yardstick: the same model and step in PyTorch on the CPU.

python trainer.py '{"model": {...}, "threads": 2, "seconds": 4}' prints {"tokensPerSecond": .., "peakBytes": ..}.
"""
import json
import math
import resource
import sys
import time
import torch
import torch.nn.functional as F

job = json.loads(sys.argv[1])
c = job["model"]
torch.set_num_threads(job["threads"])
torch.manual_seed(1)
B, T, D, FF, V = c["microBatchSize"], c["seqLength"], c["hiddenSize"], c["ffnHiddenSize"], c["vocabSize"]
H, G, d = c["numAttentionHeads"], c["numQueryGroups"], c["kvChannels"]


class Layer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.input_norm, self.post_norm = torch.nn.RMSNorm(D, 1e-5), torch.nn.RMSNorm(D, 1e-5)
        self.qkv = torch.nn.Linear(D, (H + 2 * G) * d, bias=False)
        self.proj = torch.nn.Linear(H * d, D, bias=False)
        self.fc1 = torch.nn.Linear(D, 2 * FF, bias=False)
        self.fc2 = torch.nn.Linear(FF, D, bias=False)

    def forward(self, x, cos, sin):
        q, k, v = self.qkv(self.input_norm(x)).view(B, T, H + 2 * G, d).transpose(1, 2).split([H, G, G], 1)
        q, k = (t * cos + torch.cat([-t[..., d // 2 :], t[..., : d // 2]], -1) * sin for t in (q, k))
        o = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        x = x + self.proj(o.transpose(1, 2).reshape(B, T, H * d))
        gate, up = self.fc1(self.post_norm(x)).chunk(2, -1)
        return x + self.fc2(F.silu(gate) * up)


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.norm = torch.nn.Embedding(V, D), torch.nn.RMSNorm(D, 1e-5)
        self.layers = torch.nn.ModuleList(Layer() for _ in range(c["numLayers"]))
        self.head = torch.nn.Linear(D, V, bias=False)
        angles = torch.arange(T)[:, None] * 10000.0 ** (-torch.arange(0, d, 2) / d)[None]
        self.cos, self.sin = torch.cat([angles, angles], -1).cos(), torch.cat([angles, angles], -1).sin()

    def forward(self, tokens, labels):
        x = self.embedding(tokens)
        for layer in self.layers:
            x = layer(x, self.cos, self.sin)
        return F.cross_entropy(self.head(self.norm(x)).view(-1, V), labels.view(-1))


model = Model()
for p in model.parameters():
    if p.dim() > 1:
        torch.nn.init.normal_(p, std=0.02)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1, betas=(0.9, 0.95), fused=True)


def step():
    ids = torch.randint(V, (B, T + 1))
    loss = model(ids[:, :-1], ids[:, 1:].contiguous())
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    assert math.isfinite(loss.item())


for _ in range(3):
    step()
start, steps = time.perf_counter(), 0
while time.perf_counter() - start < job["seconds"]:
    step()
    steps += 1
speed = steps * B * T / (time.perf_counter() - start)
print(json.dumps({"tokensPerSecond": speed, "peakBytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))
