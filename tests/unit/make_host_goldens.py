#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes host_goldens.h: what PyTorch on a CPU computes for the cases of test_host.c.

Inputs come from one linear congruential generator that the test has too, so only results are stored. Run by hand
(needs torch; the file in the tree was made with 2.10): make_host_goldens.py > host_goldens.h
"""
import torch
import torch.nn.functional as F

torch.set_num_threads(1)
TYPES = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}


def values(seed, shape, dtype, amplitude=2.0):
    n, out, state = 1, [], seed
    for d in shape:
        n *= d
    for _ in range(n):
        state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
        out.append(((state >> 8) / 2**23 - 1.0) * amplitude)
    return torch.tensor(out, dtype=torch.float64).to(torch.float32).to(dtype).reshape(shape)


def emit(name, x):
    x = x.contiguous().flatten()
    if x.dtype == torch.float32:
        words = [f"0x{v & 0xffffffff:08x}" for v in x.view(torch.int32).tolist()]
        ctype = "uint32_t"
    else:
        words = [f"0x{v & 0xffff:04x}" for v in x.view(torch.int16).tolist()]
        ctype = "uint16_t"
    print(f"static const {ctype} golden_{name}[{len(words)}] = {{")
    for i in range(0, len(words), 12):
        print("    " + ", ".join(words[i:i + 12]) + ",")
    print("};\n")


def eager(q, k, v, scale, past, window, dtype):
    """Transformers 5 eager_attention_forward on [tokens, heads, size], mask as its causal masks are made."""
    s, keys = q.shape[0], k.shape[0]
    group = q.shape[1] // k.shape[1]
    q, k, v = (t.transpose(0, 1).unsqueeze(0) for t in (q, k, v))
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    i, j = torch.arange(s)[:, None] + past, torch.arange(keys)[None]
    seen = j <= i
    if window:
        seen &= i - j < window
    mask = torch.where(seen, torch.tensor(0.0, dtype=dtype), torch.tensor(torch.finfo(dtype).min, dtype=dtype))
    weights = torch.matmul(q, k.transpose(2, 3)) * scale + mask[None, None]
    weights = F.softmax(weights, dim=-1, dtype=torch.float32).to(dtype)
    return torch.matmul(weights, v)[0].transpose(0, 1)


print("/* SPDX-License-Identifier: MIT\n *\n * host_goldens.h - results of PyTorch for test_host.c; made by make_host_goldens.py.\n */")
print("#ifndef QC_TESTS_HOST_GOLDENS_H\n#define QC_TESTS_HOST_GOLDENS_H\n\n#include <stdint.h>\n")
for name, (dtype, s, past, window) in {
    "attention_bf16": ("bf16", 37, 0, 0),
    "attention_window_bf16": ("bf16", 20, 11, 9),
    "attention_f16": ("f16", 21, 3, 0),
    "attention_f32": ("f32", 19, 2, 6),
}.items():
    t = TYPES[dtype]
    q, k, v = values(1, (s, 4, 12), t), values(2, (past + s, 2, 12), t), values(3, (past + s, 2, 12), t)
    emit(name, eager(q, k, v, 12 ** -0.5, past, window, t))

scales = [torch.tensor(x, dtype=torch.float32) for x in ([0.5, 0.75, 1.25, 0.0625], [0.375, 0.8125], [1.5, 0.21875])]
codes = []
for seed, heads, scale in zip((1, 2, 3), (4, 2, 2), scales):
    x = values(seed, (18, heads, 12), torch.float32).to(torch.float8_e4m3fn).to(torch.float32)
    codes.append((x * scale[None, :, None]).to(torch.bfloat16))
emit("attention_codes_bf16", eager(*codes, 12 ** -0.5, 0, 0, torch.bfloat16))

emit("linear_bf16", F.linear(values(4, (5, 200), torch.bfloat16), values(5, (40, 200), torch.bfloat16, 0.25),
                             values(6, (40,), torch.bfloat16)))
x, w = values(7, (6, 72), torch.bfloat16), values(8, (72,), torch.bfloat16)
f = x.float()
emit("rmsnorm_bf16", w * (f * torch.rsqrt(f.pow(2).mean(-1, keepdim=True) + 1e-5)).to(torch.bfloat16))
f = x.float()
emit("rmsnorm_offset_bf16", (f * torch.rsqrt(f.pow(2).mean(-1, keepdim=True) + 1e-6) * (1.0 + w.float())).to(torch.bfloat16))

x = values(9, (5, 3, 20), torch.bfloat16)
angle = torch.arange(5).float()[:, None] * (10000.0 ** (-torch.arange(8).float() / 8))[None]
cos, sin = (torch.cat((t, t), -1).to(torch.bfloat16)[:, None] for t in (angle.cos(), angle.sin()))
emit("rope_cos_bf16", cos)
emit("rope_sin_bf16", sin)
r = x[..., :16]
turned = torch.cat((-r[..., 8:], r[..., :8]), -1)
emit("rope_bf16", torch.cat((r * cos + turned * sin, x[..., 16:]), -1))

gate, up = values(10, (4, 40), torch.bfloat16, 8.0), values(11, (4, 40), torch.bfloat16)
emit("silu_mul_bf16", F.silu(gate) * up)
emit("gelu_f32", F.gelu(values(12, (64,), torch.float32, 6.0), approximate="tanh"))
emit("softmax_f32", F.softmax(values(13, (2, 50), torch.float32, 10.0), -1))
emit("log_softmax_f32", F.log_softmax(values(13, (2, 50), torch.float32, 10.0), -1))
print("#endif")
