#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes tests/ops/OP.json: cases of every operation, with results computed by others.

Made with Python 3.11, numpy 2.4.6, PyTorch 2.10.0 (CPU), Transformers 5.17.0, compressed-tensors 0.19.0, llm-compressor
0.14.0.1; nothing of this project takes part. Every case names where its numbers come from. Inputs are drawn from
numpy's PCG64 seeded by the name of the op, so a second run writes the same files.

A file is {"op", "cases"}; a case {"from", "text", "runs"}: IR text of a module with @main, and calls of it, one after
another on one cache, each {"inputs", "outputs"}. A tensor is {"dtype", "shape", "data"}, data being the elements in
storage form, row-major, in hexadecimal. "ulp" is how many steps of its element type an output may be off (0 unless
given), "abs" an error that is allowed besides (sums that cancel). "weights" maps names to tensors.

The cases of quantization are in quant_cases.py, those of mixtures of experts in expert_cases.py, what all are written with
in cases.py.

usage: make_cases.py [DIRECTORY]
"""

import json
import os
import sys

import numpy as np
import torch
from compressed_tensors.quantization.lifecycle.forward import dequantize, quantize
from compressed_tensors.quantization.utils import calculate_qparams
from compressed_tensors.transform.utils.hadamard import deterministic_hadamard_matrix, random_hadamard_matrix
from transformers import LlamaConfig
from transformers.models.gemma2.modeling_gemma2 import eager_attention_forward as gemma2_attention
from transformers.models.gemma3.modeling_gemma3 import Gemma3RMSNorm
from transformers.models.glm4.modeling_glm4 import apply_rotary_pos_emb as rotate_neighbours_at
from transformers.models.glm4.modeling_glm4 import rotate_half as rotate_neighbours
from transformers.models.gpt_oss.modeling_gpt_oss import GptOssRMSNorm
from transformers.models.gpt_oss.modeling_gpt_oss import eager_attention_forward as gpt_oss_attention
from transformers.models.llama.modeling_llama import (LlamaRMSNorm, LlamaRotaryEmbedding, apply_rotary_pos_emb,
                                                      eager_attention_forward, repeat_kv, rotate_half)
from transformers.models.olmo2.modeling_olmo2 import Olmo2RMSNorm

import cases
from cases import FILES, TYPES, Codes, case, normal, seed, simple, spread, type_of
from expert_cases import expert_cases
from quant_cases import (input_schemes, own_observers, packing, part_args, quantization, scheme, searched_scales,
                         searching_observers, weight_schemes)


# ---- sources -------------------------------------------------------------------------------------------------

def sources():
    seed("weight")
    w = normal((3, 5))
    case("weight", 'qc 1\nfunc @main() -> bf16[3, 5] {\n  %y = weight "a.weight" : bf16[3, 5]\n  return %y\n}\n',
         "torch", [([], [w])], weights={"a.weight": w})
    case("weight", 'qc 1\nfunc @main() -> f32[3, 5] {\n  %y = weight "a.weight" : f32[3, 5]\n  return %y\n}\n',
         "torch, bfloat16 to float32", [([], [w.float()])], weights={"a.weight": w})
    h = normal((7,), "f16")
    case("weight", 'qc 1\nfunc @main() -> f64[7] {\n  %y = weight "h" : f64[7]\n  return %y\n}\n',
         "torch, float16 to float64", [([], [h.double()])], weights={"h": h})
    values = torch.tensor([1.5, -0.25, 0.1, 3e38], dtype=torch.float32)
    case("const", "qc 1\nfunc @main() -> f32[2, 2] {\n  %y = const [1.5, -0.25, 0.1, 3e38] : f32[2, 2]\n  return %y\n}\n",
         "torch.tensor", [([], [values.reshape(2, 2)])])
    case("const", "qc 1\nfunc @main() -> bf16[3] {\n  %y = const [0.01123046875, -2.0, 1e-05] : bf16[3]\n  return %y\n}\n",
         "torch.tensor", [([], [torch.tensor([0.01123046875, -2.0, 1e-05], dtype=torch.bfloat16)])])
    case("const", "qc 1\nfunc @main() -> i64[3] {\n  %y = const [1, -2, 9007199254740993] : i64[3]\n  return %y\n}\n",
         "torch.tensor", [([], [torch.tensor([1, -2, 9007199254740993])])])
    ids = torch.tensor([[5, 9, 2], [1, 0, 7]])
    simple("positions", ["ids"], [ids], "positions %ids", torch.arange(3).repeat(2, 1), "torch.arange")
    # the same with a cache: the second call starts at 3
    text = ("qc 1\ndim B, S, P\nmodule \"\" Root\nmodule \"a\" A\nfunc @main(%ids: i64[B, S], %x: bf16[B, 2, S, 4]) -> i64[B, S], bf16[B, 2, P + S, 4] {\n"
            "  %p = positions %ids : i64[B, S]\n  %k = cache_append %x {slot = k} : bf16[B, 2, P + S, 4] at \"a\"\n"
            "  return %p, %k\n}\n")
    a, b, c = normal((2, 2, 3, 4)), normal((2, 2, 1, 4)), normal((2, 2, 2, 4))
    ids1, ids2 = torch.tensor([[3], [4]]), torch.tensor([[1, 2], [3, 4]])
    runs = [([ids, a], [torch.arange(3).repeat(2, 1), a]),
            ([ids1, b], [torch.tensor([[3], [3]]), torch.cat([a, b], 2)]),
            ([ids2, c], [torch.tensor([[4, 5], [4, 5]]), torch.cat([a, b, c], 2)])]
    case("positions", text, "torch.arange, torch.cat", runs)
    case("cache_append", text, "torch.cat", runs)
    codes = [normal((1, 2, n, 4)).to(torch.float8_e4m3fn) for n in (2, 1)]
    text = ("qc 1\ndim B, S, P\nmodule \"\" Root\nmodule \"a\" A\n"
            "func @main(%x: f8e4m3[B, 2, S, 4]) -> f8e4m3[B, 2, P + S, 4] {\n"
            "  %y = cache_append %x {slot = v} : f8e4m3[B, 2, P + S, 4] at \"a\"\n  return %y\n}\n")
    both = torch.cat([c.view(torch.uint8) for c in codes], 2).view(torch.float8_e4m3fn)
    case("cache_append", text, "torch.cat", [([codes[0]], [codes[0]]), ([codes[1]], [both])])


# ---- elementwise ---------------------------------------------------------------------------------------------

BINARY = {"add": torch.add, "sub": torch.sub, "mul": torch.mul, "div": torch.div, "minimum": torch.minimum,
          "maximum": torch.maximum}
def square_root(x):
    """PyTorch's own is MKL's for float32, which is not correctly rounded."""
    with np.errstate(invalid="ignore"):
        return torch.from_numpy(np.sqrt(x.double().numpy())).float().to(x.dtype)


EXACT = {"neg": torch.neg, "abs": torch.abs, "sqrt": square_root}
# f64 functions: the op is 1 unit of f32 from them at most where it says so, and rounds like them to bf16 nearly always
FUNCTIONS = {"rsqrt": (lambda x: 1 / np.sqrt(x), 1), "exp": (np.exp, 1), "log": (np.log, 1), "sin": (np.sin, 1),
             "cos": (np.cos, 1), "tanh": (np.tanh, 2), "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), 3),
             "silu": (lambda x: x / (1 + np.exp(-x)), 3),
             "gelu_tanh": (lambda x: 0.5 * x * (1 + np.tanh(0.7978845608028654 * (x + 0.044715 * x**3))), 4)}
DOMAINS = {"exp": (-6, 6.4), "log": (-120, 120), "sin": (-20, 20), "cos": (-20, 20), "tanh": (-12, 4), "sigmoid": (-8, 4),
           "silu": (-12, 4), "gelu_tanh": (-8, 1.2), "rsqrt": (-100, 100)}
SPECIAL = [0.0, -0.0, float("inf"), float("-inf"), float("nan"), 1e-40, 1.0, -1.0]
# values at the ends, from the definitions: 0, -0, inf, -inf, nan, 1e-40 (subnormal), 1, -1
ENDS = {"exp": [1, 1, np.inf, 0, np.nan, 1, np.exp(1), np.exp(-1)],
        "log": [-np.inf, -np.inf, np.inf, np.nan, np.nan, np.log(float(np.float32(1e-40))), 0, np.nan],
        "sin": [0, -0.0, np.nan, np.nan, np.nan, 1e-40, np.sin(1), np.sin(-1)],
        "cos": [1, 1, np.nan, np.nan, np.nan, 1, np.cos(1), np.cos(-1)],
        "tanh": [0, -0.0, 1, -1, np.nan, 1e-40, np.tanh(1), np.tanh(-1)],
        "rsqrt": [np.inf, -np.inf, 0, np.nan, np.nan, 1 / np.sqrt(float(np.float32(1e-40))), 1, np.nan],
        "sigmoid": [0.5, 0.5, 1, 0, np.nan, 0.5, 1 / (1 + np.exp(-1)), 1 / (1 + np.exp(1))]}


def elementwise():
    for op, function in BINARY.items():
        seed(op)
        for dtype in ("bf16", "f32", "f16"):
            x, z = spread(24, dtype, -6, 6).reshape(4, 6), spread(24, dtype, -6, 6).reshape(4, 6)
            simple(op, "xz", [x, z], "%s %%x, %%z" % op, function(x, z), "torch.%s" % op)
        x, z = normal((2, 3, 4)), normal((3, 1))
        simple(op, "xz", [x, z], "%s %%x, %%z" % op, function(x, z), "torch.%s, broadcast" % op)
        z = normal((1,), "f32")
        simple(op, "xz", [x.float(), z], "%s %%x, %%z" % op, function(x.float(), z), "torch.%s, broadcast" % op)
        if op in ("minimum", "maximum"):
            x = torch.tensor([float("nan"), 1.0, float("nan"), float("inf"), -2.0])
            z = torch.tensor([1.0, float("nan"), float("nan"), float("-inf"), -1.0])
            simple(op, "xz", [x, z], "%s %%x, %%z" % op, function(x, z), "torch.%s" % op)
    # the result has the element type of the first operand, rounded once from f32
    x, z = normal((6,)), normal((6,), "f32")
    simple("mul", "xz", [x, z], "mul %x, %z", (x.float() * z).bfloat16(), "torch.mul in float32")
    for op, function in EXACT.items():
        seed(op)
        source = "numpy float64" if op == "sqrt" else "torch.%s" % op
        for dtype in ("bf16", "f32", "f16"):
            x = spread(32, dtype, -10, 10, op != "sqrt")
            simple(op, "x", [x], "%s %%x" % op, function(x), source)
        x = torch.tensor(SPECIAL)
        simple(op, "x", [x], "%s %%x" % op, function(x), source)
    for op, (function, ulp) in FUNCTIONS.items():
        seed(op)
        low, high = DOMAINS[op]
        positive = op in ("log", "rsqrt")
        for dtype, count in (("f32", 96), ("bf16", 64), ("f16", 32)):
            limit = 12 if dtype == "f16" else high
            x = spread(count, dtype, max(low, -12) if dtype == "f16" else low, min(high, limit), not positive)
            with np.errstate(all="ignore"):
                y = torch.from_numpy(function(x.double().numpy())).float()
            # gelu near -3 cancels: 1 + tanh loses the digits below 2^-24
            simple(op, "x", [x], "%s %%x" % op, y.to(x.dtype), "numpy float64", ulp if dtype == "f32" else 1,
                   6e-7 if op == "gelu_tanh" else 0.0)
        if op in ENDS:
            y = torch.tensor(ENDS[op], dtype=torch.float64).float()
            simple(op, "x", [torch.tensor(SPECIAL)], "%s %%x" % op, y, "numpy float64 and IEEE 754 limits", ulp)
    seed("angles")
    x = torch.from_numpy(cases.rng.uniform(-1e6, 1e6, 128)).float()
    for op, function in (("sin", np.sin), ("cos", np.cos)):
        y = torch.from_numpy(function(x.double().numpy())).float()
        simple(op, "x", [x], "%s %%x" % op, y, "numpy float64", 1)
    x = torch.tensor([-104.5, -103.9, -100.0, -88.0, -87.4, 88.7, 88.72284, 89.5])
    simple("exp", "x", [x], "exp %x", torch.from_numpy(np.exp(x.double().numpy())).float(), "numpy float64", 1)
    x = normal((48,), "f32", 3)
    simple("silu", "x", [x], "silu %x", torch.nn.functional.silu(x), "torch.nn.functional.silu", 3)
    simple("gelu_tanh", "x", [x], "gelu_tanh %x", torch.nn.functional.gelu(x, approximate="tanh"),
           "torch.nn.functional.gelu", 4, 6e-7)
    simple("sigmoid", "x", [x], "sigmoid %x", torch.sigmoid(x), "torch.sigmoid", 3)


def cast():
    seed("cast")
    x = spread(32, "f32", -30, 8)
    for dtype in ("bf16", "f16", "f8e4m3", "f8e5m2", "f64"):
        simple("cast", "x", [x], "cast %%x {to = %s}" % dtype, x.to(TYPES[dtype]), "torch.Tensor.to")
    ties = torch.tensor([1 + 2**-8, 1 + 3 * 2**-8, -1 - 2**-8, 65504.0, 3.4e38, 1e-40, float("nan"), float("inf")])
    simple("cast", "x", [ties], "cast %x {to = bf16}", ties.bfloat16(), "torch.Tensor.to")
    bits = torch.arange(256, dtype=torch.int64).to(torch.uint8)
    for dtype in ("f8e4m3", "f8e5m2"):
        codes = bits.view(TYPES[dtype])
        simple("cast", "x", [codes], "cast %x {to = f32}", codes.float(), "torch.Tensor.to")
    ints = torch.tensor([-128, -1, 0, 5, 127], dtype=torch.int8)
    simple("cast", "x", [ints], "cast %x {to = bf16}", ints.bfloat16(), "torch.Tensor.to")
    simple("cast", "x", [ints], "cast %x {to = i64}", ints.long(), "torch.Tensor.to")


# ---- shape ---------------------------------------------------------------------------------------------------

def shape():
    seed("shape")
    x = normal((2, 3, 4))
    simple("reshape", "x", [x], "reshape %x : bf16[6, 4]", x.reshape(6, 4), "torch.reshape")
    simple("reshape", "x", [x], "reshape %x : bf16[2, 2, 6]", x.reshape(2, 2, 6), "torch.reshape")
    ids = torch.arange(12).reshape(3, 4)
    for perm in ([1, 0, 2], [2, 1, 0], [0, 2, 1]):
        simple("transpose", "x", [x], "transpose %%x {perm = %s}" % perm, x.permute(perm).contiguous(), "torch.permute")
    simple("transpose", "x", [ids], "transpose %x {perm = [1, 0]}", ids.T.contiguous(), "torch.permute")
    for axis, start, stop in ((0, 1, 2), (1, 0, 2), (2, 1, 4), (-1, 3, 4)):
        y = x.narrow(axis, start, stop - start).contiguous()
        simple("slice", "x", [x], "slice %%x {axis = %d, start = %d, stop = %d}" % (axis, start, stop), y, "torch.narrow")
    for axis in (0, 1, -1):
        shapes = [[2, 3, 4], [2, 3, 4], [2, 3, 4]]
        shapes[1][axis] = 1
        parts = [normal(s) for s in shapes]
        simple("concat", ["a", "b", "c"], parts, "concat %%a, %%b, %%c {axis = %d}" % axis, torch.cat(parts, axis),
               "torch.cat")
    x = normal((2, 3, 12))
    for heads in (1, 3, 4):
        y = x.view(2, 3, heads, 12 // heads).transpose(1, 2).contiguous()
        simple("split_heads", "x", [x], "split_heads %%x {heads = %d}" % heads, y, "torch.view, torch.transpose")
        simple("merge_heads", "x", [y], "merge_heads %x", x, "torch.view, torch.transpose")
    x = normal((2, 3, 2, 4))
    for times in (1, 2, 4):
        simple("repeat_heads", "x", [x], "repeat_heads %%x {times = %d}" % times, repeat_kv(x, times).contiguous(),
               "transformers repeat_kv")
    for dtype, size in (("bf16", (2, 1, 3, 8)), ("f32", (5, 2)), ("f16", (3, 6))):
        x = normal(size, dtype)
        simple("rotate_half", "x", [x], "rotate_half %x", rotate_half(x), "transformers rotate_half")


# ---- products and reductions ---------------------------------------------------------------------------------

def products():
    seed("products")
    for dtype, ulp in (("bf16", 1), ("f32", 2), ("f16", 1)):
        x, w, b = normal((2, 3, 16), dtype), normal((5, 16), dtype), normal((5,), dtype)
        exact = (x.double() @ w.double().T)
        abs_ = 1e-5 if dtype == "f32" else 1e-4
        simple("linear", "xw", [x, w], "linear %x, %w", exact.float().to(x.dtype), "torch.matmul in float64", ulp, 1e-6)
        simple("linear", "xwb", [x, w, b], "linear %x, %w, bias=%b", torch.nn.functional.linear(x, w, b),
               "torch.nn.functional.linear", ulp, abs_)
        simple("linear", "xw", [x, w], "linear %x, %w", torch.nn.functional.linear(x, w), "torch.nn.functional.linear",
               ulp, abs_)
    a, z = normal((2, 3, 4, 8)), normal((2, 3, 5, 8))
    for to in ("bf16", "f32"):
        y = (a.double() @ z.double().transpose(2, 3)).float().to(TYPES[to])
        simple("matmul", "xz", [a, z], "matmul %%x, %%z {to = %s, transpose_z}" % to, y, "torch.matmul in float64", 1, 1e-7)
    v = normal((2, 3, 8, 6))
    simple("matmul", "xz", [a, v], "matmul %x, %z {to = bf16}", torch.matmul(a, v), "torch.matmul", 1, 1e-4)
    a, z = normal((4, 8), "f32"), normal((8, 3), "f32")
    simple("matmul", "xz", [a, z], "matmul %x, %z {to = f32}", (a.double() @ z.double()).float(), "torch.matmul in float64",
           0, 1e-6)
    w = normal((10, 6))
    for ids in (torch.tensor([[0, 9, 3]]), torch.tensor([[1, 1], [2, 8], [5, 0]])):
        simple("embedding", ["ids", "w"], [ids, w], "embedding %ids, %w", torch.nn.functional.embedding(ids, w),
               "torch.nn.functional.embedding")
    f8 = w.to(torch.float8_e4m3fn)
    ids = torch.tensor([[7, 2]], dtype=torch.int32)
    y = f8.view(torch.uint8)[ids.long()].view(torch.float8_e4m3fn)
    simple("embedding", ["ids", "w"], [ids, f8], "embedding %ids, %w", y, "torch indexing")
    for dtype in ("f32", "bf16", "f16"):
        x = normal((3, 2, 33), dtype)
        total = x.double().sum(-1, keepdim=True)
        simple("reduce_sum", "x", [x], "reduce_sum %x", total.float().to(x.dtype), "torch.sum in float64", 0, 1e-7)
        simple("reduce_mean", "x", [x], "reduce_mean %x", (total / 33).float().to(x.dtype), "torch.mean in float64", 1, 1e-7)
        simple("reduce_max", "x", [x], "reduce_max %x", torch.amax(x, -1, keepdim=True), "torch.amax")
    simple("reduce_sum", "x", [x], "reduce_sum %x", torch.sum(x, -1, keepdim=True), "torch.sum", 1, 1e-2)
    x = torch.tensor([[1.0, float("nan"), 3.0], [float("-inf"), float("-inf"), float("-inf")]])
    simple("reduce_max", "x", [x], "reduce_max %x", torch.amax(x, -1, keepdim=True), "torch.amax")


def mask(queries, keys, dtype, causal, window, chunk=0):
    """What Transformers adds to the scores: 0 where a key is seen, the lowest finite number elsewhere."""
    i = torch.arange(queries)[:, None] + keys - queries
    j = torch.arange(keys)[None, :]
    seen = torch.ones(queries, keys, dtype=torch.bool)
    if causal:
        seen &= j <= i
    if window:
        seen &= j > i - window
    if chunk:
        seen &= j // chunk == i // chunk
    return torch.zeros(queries, keys, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)


def attention_parts():
    seed("attention_mask")
    for dtype, queries, keys, causal, window in (("bf16", 4, 4, True, 0), ("f32", 2, 6, True, 3), ("bf16", 5, 5, True, 2),
                                                 ("f16", 3, 5, False, 2), ("bf16", 2, 3, False, 0)):
        x = normal((1, 2, queries, keys), dtype, 4)
        y = x + mask(queries, keys, x.dtype, causal, window)
        items = ([] if not causal else ["causal"]) + ([] if not window else ["window = %d" % window])
        simple("attention_mask", "x", [x], "attention_mask %x" + (" {%s}" % ", ".join(items) if items else ""), y,
               "torch.add of a mask as Transformers makes it")
    seed("softmax")
    for count in (5, 40):
        x = normal((2, 3, count), "f32", 4)
        e = torch.exp((x - torch.amax(x, -1, keepdim=True)).double()).float()
        y = e / e.double().sum(-1, keepdim=True).float()
        simple("softmax", "x", [x], "softmax %x", y, "torch step by step, exp in float64", 3)
    # the rounding of x - max alone moves small probabilities by up to 2^-20
    simple("softmax", "x", [x], "softmax %x", torch.softmax(x, -1), "torch.softmax", 16)
    x = normal((4, 9), "bf16", 2)
    d = x - torch.amax(x, -1, keepdim=True)
    e = torch.exp(d.double()).float().bfloat16()
    y = e / e.double().sum(-1, keepdim=True).float().bfloat16()
    simple("softmax", "x", [x], "softmax %x", y, "torch in bfloat16 step by step", 1)
    x = torch.full((1, 4), torch.finfo(torch.float32).min)
    x[0, 1] = 2.0
    simple("softmax", "x", [x], "softmax %x", torch.softmax(x, -1), "torch.softmax")
    seed("rmsnorm")
    for dtype, size, eps in (("bf16", 64, 1e-5), ("f32", 32, 1e-6), ("f16", 48, 1e-5)):
        norm = LlamaRMSNorm(size, eps).to(TYPES[dtype])
        norm.weight.data = normal((size,), dtype) * 0.1 + 1
        x = normal((2, 3, size), dtype, 3)
        simple("rmsnorm", "xw", [x, norm.weight.data], "rmsnorm %%x, %%w {eps = %r}" % eps, norm(x).detach(),
               "transformers LlamaRMSNorm", 1 if dtype != "f32" else 4)


# ---- rotary position embeddings --------------------------------------------------------------------------------

ROPES = [
    ("default", 10000.0, 8, 2048, {}),
    ("default", 500000.0, 128, 8192, {}),
    ("linear", 10000.0, 16, 2048, {"factor": 4.0}),
    ("llama3", 500000.0, 64, 131072, {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                                      "original_max_position_embeddings": 8192}),
    ("yarn", 1000000.0, 64, 131072, {"factor": 4.0, "original_max_position_embeddings": 32768}),
    ("yarn", 150000.0, 64, 131072, {"factor": 32.0, "original_max_position_embeddings": 4096, "beta_fast": 32.0,
                                    "beta_slow": 1.0, "truncate": False}),
    ("yarn", 10000.0, 32, 163840, {"factor": 40.0, "original_max_position_embeddings": 4096, "mscale": 1.0,
                                   "mscale_all_dim": 0.5}),
    ("yarn", 10000.0, 32, 4096, {"factor": 2.0, "original_max_position_embeddings": 2048, "attention_factor": 1.5}),
    ("dynamic", 10000.0, 16, 64, {"factor": 2.0}),
    ("dynamic", 10000.0, 32, 256, {"factor": 4.0}),
]


def literal(value):
    return "true" if value is True else "false" if value is False else repr(value)


def rope_attrs(kind, theta, parameters, limit):
    if kind == "default":
        return "theta = %r" % theta
    items = dict(parameters, type=kind)
    if kind == "dynamic":
        items["max_position_embeddings"] = limit
    text = ", ".join("%s = %s" % (k, v if k == "type" else literal(v)) for k, v in sorted(items.items()))
    return "scaling = {%s}, theta = %r" % (text, theta)


def rotary(kind, theta, dims, limit, parameters):
    config = LlamaConfig(hidden_size=4 * dims, num_attention_heads=4, head_dim=dims, max_position_embeddings=limit,
                         rope_parameters=dict(parameters, rope_type=kind, rope_theta=theta))
    return LlamaRotaryEmbedding(config)


def rope():
    for index, (kind, theta, dims, limit, parameters) in enumerate(ROPES):
        seed("rope%d" % index)
        spans = [9, 5 * limit // 2] if kind == "dynamic" else [min(limit, 4096)]
        for span in spans:
            positions = torch.from_numpy(np.sort(cases.rng.choice(span, 3, replace=False)))[None]
            positions[0, -1] = span - 1
            cos, sin = rotary(kind, theta, dims, limit, parameters)(torch.zeros(1), positions)
            attrs = rope_attrs(kind, theta, parameters, limit)
            # an inverse frequency one unit off (PyTorch's power) moves an angle of thousands by as much
            error = 2.5e-7 * max(2.0, span / 2)
            for op, table in (("rope_cos", cos), ("rope_sin", sin)):
                simple(op, ["pos"], [positions], "%s %%pos {dims = %d, %s}" % (op, dims, attrs), table[:, None].contiguous(),
                       "transformers LlamaRotaryEmbedding, " + kind, 2, error)
            x = normal((1, 2, 3, dims))
            y, _ = apply_rotary_pos_emb(x, x, cos.bfloat16(), sin.bfloat16())
            if index in (0, 3, 4, 8):
                simple("rope", ["x", "pos"], [x, positions], "rope %%x, %%pos {%s, tables = bf16}" % attrs, y.contiguous(),
                       "transformers apply_rotary_pos_emb, " + kind, 0 if index < 4 else 1, 0.02 if index == 3 else 0.0)
    seed("rope")
    positions = torch.arange(6).reshape(2, 3) * 7
    cos, sin = rotary("default", 10000.0, 8, 2048, {})(torch.zeros(1), positions)
    x = normal((2, 3, 3, 8), "f32")
    y, _ = apply_rotary_pos_emb(x, x, cos, sin)
    simple("rope", ["x", "pos"], [x, positions], "rope %x, %pos {tables = f32, theta = 10000.0}", y.contiguous(),
           "transformers apply_rotary_pos_emb", 2, 1e-6)


# ---- attention -------------------------------------------------------------------------------------------------

def eager(q, k, v, scale, causal=True, window=0):
    class Module:
        num_key_value_groups = q.shape[1] // k.shape[1]
        training = False
    m = mask(q.shape[2], k.shape[2], q.dtype, causal, window)[None, None] if causal or window else None
    out, _ = eager_attention_forward(Module, q, k, v, m, scale)
    return out.transpose(1, 2).contiguous()


def attention():
    seed("attention")
    for dtype, heads, groups, queries, keys, size, window in (
            ("bf16", 4, 4, 5, 5, 8, 0), ("bf16", 4, 2, 6, 6, 16, 0), ("bf16", 2, 1, 2, 7, 8, 0), ("bf16", 2, 1, 6, 6, 8, 3),
            ("f32", 2, 2, 4, 4, 8, 0), ("f16", 2, 1, 4, 4, 8, 0)):
        q, k, v = (normal((2, n, s, size), dtype) for n, s in ((heads, queries), (groups, keys), (groups, keys)))
        scale = size ** -0.5
        attrs = "causal, probs = %s, scale = %r, scores = %s, softmax = f32" % (dtype, scale, dtype)
        attrs += ", window = %d" % window if window else ""
        simple("attention", "qkv", [q, k, v], "attention %%q, %%k, %%v {%s}" % attrs, eager(q, k, v, scale, True, window),
               "transformers eager_attention_forward", 2 if dtype != "f32" else 8, 4e-3 if dtype != "f32" else 1e-6)
    q, k, v = (normal((1, n, 4, 8)) for n in (2, 1, 1))
    simple("attention", "qkv", [q, k, v], "attention %q, %k, %v {probs = bf16, scale = 0.25, scores = bf16, softmax = f32}",
           eager(q, k, v, 0.25, False), "transformers eager_attention_forward", 2, 4e-3)
    # codes: dequantized by compressed-tensors first
    sq, sk, sv = ((normal((n, 1, 1)).abs() * 0.01 + 0.01) for n in (2, 1, 1))
    codes = [(x.float() / s.float()).clamp(-448, 448).to(torch.float8_e4m3fn) for x, s in ((q, sq), (k, sk), (v, sv))]
    real = [c.bfloat16() * s for c, s in zip(codes, (sq, sk, sv))]
    attrs = "causal, probs = bf16, scale = 0.25, scores = bf16, softmax = f32"
    simple("attention", ["q", "k", "v", "a", "b", "c"], codes + [sq, sk, sv],
           "attention %%q, %%k, %%v, q_scale=%%a, k_scale=%%b, v_scale=%%c {%s}" % attrs, eager(*real, 0.25),
           "transformers eager_attention_forward over codes * scale in bfloat16", 2, 4e-3)
    simple("attention", ["q", "k", "v", "b"], [q, codes[1], v, sk],
           "attention %%q, %%k, %%v, k_scale=%%b {%s}" % attrs, eager(q, real[1], v, 0.25),
           "transformers eager_attention_forward over codes * scale in bfloat16", 2, 4e-3)


def local_codes(x, group, global_scale):
    """x in NVFP4 as compressed-tensors makes it: codes, local scales, and the values they stand for."""
    part = {"type": "f4e2m1", "granularity": "group", "group": group, "global": True, "scale": "f8e4m3", "symmetric": True,
            "dynamic": True}
    args = part_args(part)
    groups = x.reshape(-1, x.shape[-1]).unflatten(-1, (-1, group))
    scale, zero = calculate_qparams(groups.amin(-1), groups.amax(-1), args, global_scale=global_scale)
    flat = x.reshape(-1, x.shape[-1])
    values = quantize(flat, scale, zero.to(x.dtype), args, global_scale=global_scale)
    real = dequantize(values, scale, zero.to(x.dtype), args, x.dtype, global_scale)
    shape = list(x.shape[:-1]) + [x.shape[-1] // group]
    return (Codes("f4e2m1", values.reshape(x.shape)), scale.reshape(shape).to(torch.float8_e4m3fn), real.reshape(x.shape))


def rounded_probs(q, k, v, scale, codes, step):
    """Attention whose exponentials are rounded to codes, in f64 but for the roundings that the op names."""
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
    s = (((q.double() @ k.double().transpose(-1, -2)).float().to(q.dtype)).float() * scale).to(q.dtype)
    s = (s + torch.triu(torch.full((q.shape[2], k.shape[2]), torch.finfo(q.dtype).min, dtype=q.dtype), k.shape[2] - q.shape[2] + 1))
    e = torch.exp(s.double() - s.double().amax(-1, keepdim=True))
    e1 = (e / step).float()
    rounded = e1.to(codes).double() if codes.is_floating_point else torch.round(e1).double()
    return ((rounded @ v.double()) * step / e.sum(-1, keepdim=True)).float().to(q.dtype)


def quantized_attention():
    seed("quantized_attention")
    plain = "causal, probs = bf16, scale = 0.25, scores = bf16, softmax = f32"
    for op in ("attention", "quantized_attention"):
        q, k, v = normal((2, 4, 3, 16)), normal((2, 2, 7, 16)), normal((2, 2, 7, 16))
        source = "transformers eager_attention_forward over compressed_tensors dequantize"
        g = torch.tensor([900.0])
        kc, ks, kr = local_codes(k, 8, g)
        vc, vs, vr = local_codes(v, 8, g)
        simple(op, ["q", "k", "v", "a", "b", "g"], [q, kc, vc, ks, vs, g],
               op + " %q, %k, %v, k_scale=%a, v_scale=%b, k_global=%g, v_global=%g {causal, k_group = 8, probs = bf16, "
               "scale = 0.25, scores = bf16, softmax = f32, v_group = 8}", eager(q, kr, vr, 0.25), source, 2, 4e-3)
        # a scale a token and head, and one a channel
        ts, cs = k.abs().amax(-1, keepdim=True).float() / 127.5, (v.abs().amax((0, 2), keepdim=True)[0].float() / 127.5).bfloat16()
        kc = torch.round(k.float() / ts).clamp(-128, 127).to(torch.int8)
        vc = torch.round(v.float() / cs.float()).clamp(-128, 127).to(torch.int8)
        simple(op, ["q", "k", "v", "a", "b"], [q, kc, vc, ts, cs], op + " %%q, %%k, %%v, k_scale=%%a, v_scale=%%b {%s}" % plain,
               eager(q, (kc.float() * ts).bfloat16(), (vc.float() * cs.float()).bfloat16(), 0.25), source, 2, 4e-3)
        for codes, step in (("f8e4m3", 1 / 256), ("f8e5m2", 1.0), ("i8", 1 / 127)):
            simple(op, "qkv", [q, k, v], op + " %%q, %%k, %%v {causal, probs = bf16, probs_codes = %s, probs_scale = %r, scale = 0.25, "
                   "scores = bf16, softmax = f32}" % (codes, float(np.float32(step))),
                   rounded_probs(q, k, v, 0.25, TYPES[codes], float(np.float32(step))), "torch, float64 and its casts", 4, 2e-2)


def caches():
    seed("cache_write")
    head = "dim B, S, P\nmodule \"\" Root\nmodule \"a\" A\n"
    a, b = normal((1, 2, 3, 4)), normal((1, 2, 2, 4))
    text = ("qc 1\n" + head + "func @main(%x: bf16[B, 2, S, 4]) -> bf16[B, 2, P + S, 4] {\n"
            "  %y = cache_write %x {layout = hnd, page = 2, slot = k} : bf16[B, 2, P + S, 4] at \"a\"\n  return %y\n}\n")
    case("cache_write", text, "torch.cat", [([a], [a]), ([b], [torch.cat([a, b], 2)])])
    scale = torch.tensor([[[0.0078125]], [[0.01171875]]]).bfloat16()
    text = ("qc 1\n" + head.replace("module \"a\" A\n", "module \"a\" A\n" + scheme("input", "f8e4m3", "head"))
            + "func @main(%x: bf16[B, 2, S, 4], %s: bf16[2, 1, 1]) -> f8e4m3[B, 2, P + S, 4] {\n"
            "  %y = cache_write %x, scale=%s {scheme = @s, slot = v} : f8e4m3[B, 2, P + S, 4] at \"a\"\n  return %y\n}\n")
    codes = [(x / scale).clamp(-448, 448).to(torch.float8_e4m3fn) for x in (a, b)]
    both = torch.cat([c.view(torch.uint8) for c in codes], 2).view(torch.float8_e4m3fn)
    case("cache_write", text, "torch, bfloat16 quotients", [([a, scale], [codes[0]]), ([b, scale], [both])])
    seed("cache_read")
    simple("cache_read", "x", [a], "cache_read %x {to = f32}", a.float(), "torch")
    simple("cache_read", "xs", [codes[0], scale], "cache_read %x, scale=%s {to = bf16}", codes[0].bfloat16() * scale, "torch")
    g = torch.tensor([700.0])
    codes, scale, real = local_codes(normal((1, 2, 3, 16)), 8, g)
    simple("cache_read", "xsg", [codes, scale, g], "cache_read %x, scale=%s, global=%g {group = 8, to = bf16}", real,
           "compressed_tensors dequantize")


def hadamard():
    seed("hadamard")
    for dtype, count, size in (("bf16", 64, 64), ("f32", 24, 8), ("bf16", 32, 2), ("f16", 16, 16), ("f32", 3, 1)):
        h = torch.ones(1, 1, dtype=torch.float64)
        while h.shape[0] < size:
            h = torch.kron(torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64), h)
        x = normal((3, count), dtype)
        y = (x.double().reshape(3, -1, size) @ h / size ** 0.5).reshape(3, count)
        simple("hadamard", "x", [x], "hadamard %%x {size = %d}" % size, y.float().to(x.dtype), "torch.kron, float64", 1, 1e-7)
    for dtype, shape, size, matrix, inverse, axis, compute in (
            ("bf16", (3, 128), 64, "random_hadamard", False, -1, "f64"),
            ("bf16", (3, 96), 96, "random_hadamard", True, -1, "f64"), ("f32", (2, 24), 12, "random_hadamard", False, -1, "f32"),
            ("f16", (64, 3), 32, "random_hadamard", False, 0, "f64"), ("bf16", (48, 5), 24, "random_hadamard", True, 0, "f64"),
            ("bf16", (16, 3), 8, "hadamard", False, 0, "f64"), ("f32", (40,), 20, "random_hadamard", True, 0, "f64"),
            ("bf16", (2, 1, 2, 64), 32, "hadamard", False, -1, "f64"), ("f32", (2, 72), 36, "hadamard", True, -1, "f64")):
        h = random_hadamard_matrix(size, torch.float64, torch.device("cpu"), torch.Generator())
        source = "compressed_tensors random_hadamard_matrix, float64"
        if matrix == "hadamard" and size & (size - 1) == 0:
            h, source = deterministic_hadamard_matrix(size, torch.float64), "compressed_tensors deterministic_hadamard_matrix, float64"
        elif matrix == "hadamard":  # the signs of the random one taken away: its rows are those of the plain one
            h, source = h * (torch.randint(0, 2, (size,), generator=torch.Generator(), dtype=torch.float64) * 2 - 1)[:, None], \
                source + " without its signs"
        x = normal(shape, dtype)
        m = h.T if inverse else h
        wide = x.double().reshape(-1, 1) if len(shape) == 1 else x.double()
        if axis == 0:
            y = (m.T @ wide.reshape(-1, size, wide.shape[-1]) / size ** 0.5).reshape(shape)
        else:
            y = (wide.reshape(*shape[:-1], -1, size) @ m / size ** 0.5).reshape(shape)
        attrs = ["size = %d" % size] + ["matrix = random_hadamard"] * (matrix != "hadamard") + ["inverse"] * inverse
        attrs += ["axis = 0"] * (axis == 0) + ["compute = f64"] * (compute == "f64")
        simple("hadamard", "x", [x], "hadamard %%x {%s}" % ", ".join(attrs), y.float().to(x.dtype), source, 1, 1e-7)


def center():
    seed("center")
    for dtype, shape in (("bf16", (5, 24)), ("f32", (2, 3, 7)), ("f16", (4, 1))):
        x = normal(shape, dtype) + 3
        y = x.double() - x.double().mean(dim=-1, keepdim=True)
        simple("center", "x", [x], "center %x", y.float().to(x.dtype), "torch, the steps of llm-compressor's center_embeddings", 1,
               1e-7)
    seed("fill")
    for dtype, value in (("bf16", 1.0), ("f32", -0.3), ("f16", 2.5)):
        y = torch.full((3, 2), value, dtype=TYPES[dtype])
        simple("fill", "", [], "fill {value = %s} : %s" % (value, type_of(y)), y, "torch.full")


# ---- variants of architectures ---------------------------------------------------------------------------------

def plain_variants():
    seed("floor")
    for dtype in ("bf16", "f32", "f16"):
        x = spread(32, dtype, -6, 8)
        simple("floor", "x", [x], "floor %x", torch.floor(x), "torch.floor")
    simple("floor", "x", [torch.tensor(SPECIAL)], "floor %x", torch.floor(torch.tensor(SPECIAL)), "torch.floor")
    seed("slice_step")
    x = normal((2, 3, 11))
    for axis, start, stop, step in ((2, 0, 11, 2), (-1, 1, 11, 2), (2, 3, 9, 4), (1, 0, 3, 2), (0, 1, 2, 5)):
        index = [slice(None)] * 3
        index[axis] = slice(start, stop, step)
        simple("slice", "x", [x], "slice %%x {axis = %d, start = %d, step = %d, stop = %d}" % (axis, start, step, stop),
               x[tuple(index)].contiguous(), "torch slices with a step")
    w = normal((10, 6), "f16")
    for ids in (torch.tensor([3, 0, 9, 3]), torch.tensor([[[1, 2], [8, 0]], [[4, 4], [5, 6]]])):
        simple("embedding", ["ids", "w"], [ids, w], "embedding %ids, %w", torch.nn.functional.embedding(ids, w),
               "torch.nn.functional.embedding")
    for dtype, size in (("bf16", (2, 1, 3, 8)), ("f32", (5, 2)), ("f16", (3, 6))):
        x = normal(size, dtype)
        simple("rotate_half", "x", [x], "rotate_half %x {interleaved}", rotate_neighbours(x), "transformers glm4 rotate_half")
    seed("latent_kv")
    for dtype in ("bf16", "f32"):
        a, b = normal((2, 1, 3, 8), dtype), normal((2, 1, 3, 4), dtype)
        simple("latent_kv", "ab", [a, b], "latent_kv %a, %b", torch.cat([a, b], -1), "torch.cat")
    seed("chunks")
    for dtype, queries, keys, chunk in (("bf16", 6, 6, 4), ("f32", 3, 8, 3), ("bf16", 1, 5, 4)):
        x = normal((1, 2, queries, keys), dtype, 4)
        y = x + mask(queries, keys, x.dtype, True, 0, chunk)
        simple("attention_mask", "x", [x], "attention_mask %%x {causal, chunk = %d}" % chunk, y,
               "torch.add of a mask as Transformers makes it")


def norm_variants():
    seed("rmsnorm_variants")
    for name, norm_class, attrs in (("GptOssRMSNorm", GptOssRMSNorm, "round = after"), ("Olmo2RMSNorm", Olmo2RMSNorm, "round = after"),
                                    ("Gemma3RMSNorm", Gemma3RMSNorm, "offset = 1.0, round = after")):
        for dtype, size in (("bf16", 64), ("f32", 32)):
            norm = norm_class(size, 1e-6).to(TYPES[dtype])
            norm.weight.data = normal((size,), dtype) * 0.1 + (0 if norm_class is Gemma3RMSNorm else 1)
            x = normal((2, 3, size), dtype, 3)
            simple("rmsnorm", "xw", [x, norm.weight.data], "rmsnorm %%x, %%w {eps = 1e-06, %s}" % attrs, norm(x).detach(),
                   "transformers " + name, 1 if dtype != "f32" else 4)


def rope_variants():
    for dims, size, theta in ((8, 8, 10000.0), (16, 24, 500000.0)):
        seed("rope_interleaved%d" % dims)
        positions = torch.from_numpy(np.sort(cases.rng.choice(200, (1, 3), replace=False)))
        cos, sin = rotary("default", theta, dims, 2048, {})(torch.zeros(1), positions)
        for op, table in (("rope_cos", cos), ("rope_sin", sin)):
            neighbours = table[..., :dims // 2].repeat_interleave(2, -1)
            simple(op, ["pos"], [positions], "%s %%pos {dims = %d, interleaved, theta = %r}" % (op, dims, theta),
                   neighbours[:, None].contiguous(), "transformers LlamaRotaryEmbedding, repeat_interleave", 2, 2.5e-5)
        part = "" if dims == size else "dims = %d, " % dims
        for dtype, ulp in (("bf16", 0), ("f32", 4)):
            x = normal((1, 2, 3, size), dtype)
            y, _ = rotate_neighbours_at(x, x, cos.to(x.dtype), sin.to(x.dtype))
            simple("rope", ["x", "pos"], [x, positions], "rope %%x, %%pos {%sinterleaved, tables = %s, theta = %r}" % (part, dtype, theta),
                   y.contiguous(), "transformers glm4 apply_rotary_pos_emb", ulp, 2e-5 if dtype == "f32" else 0.004)
            rot, rest = x[..., :dims], x[..., dims:]
            y, _ = apply_rotary_pos_emb(rot, rot, cos.to(x.dtype), sin.to(x.dtype))
            if part:
                simple("rope", ["x", "pos"], [x, positions], "rope %%x, %%pos {%stables = %s, theta = %r}" % (part, dtype, theta),
                       torch.cat([y, rest], -1), "transformers apply_rotary_pos_emb of a part", ulp, 2e-5 if dtype == "f32" else 0.004)


def attention_variants():
    seed("attention_variants")

    class Module:
        num_key_value_groups, training = 2, False
    for op in ("attention", "quantized_attention"):
        for dtype, ulp, abs_ in (("bf16", 2, 8e-3), ("f32", 8, 1e-6)):
            q, k, v = normal((1, 4, 5, 8), dtype, 2), normal((1, 2, 7, 8), dtype, 2), normal((1, 2, 7, 6), dtype)
            attrs = "causal, %s" + ("probs = %s, scale = 0.25, scores = %s, softmax = f32" % (dtype, dtype))
            m = mask(5, 7, q.dtype, True, 0)[None, None]
            simple(op, "qkv", [q, k, v], op + " %%q, %%k, %%v {%s}" % (attrs % ""), eager(q, k, v, 0.25),
                   "transformers eager_attention_forward, values of other columns", ulp, abs_)
            y = gemma2_attention(Module, q, k, v, m, scaling=0.25, softcap=2.5)[0].transpose(1, 2).contiguous()
            simple(op, "qkv", [q, k, v], op + " %%q, %%k, %%v {%s, softcap = 2.5}" % (attrs % ""), y,
                   "transformers gemma2 eager_attention_forward", ulp, abs_)
            Module.sinks = normal((4,), dtype)
            y = gpt_oss_attention(Module, q, k, v, m, 0.25)[0].transpose(1, 2).contiguous()
            simple(op, "qkvs", [q, k, v, Module.sinks], op + " %%q, %%k, %%v, sinks=%%s {%s}" % (attrs % ""), y,
                   "transformers gpt_oss eager_attention_forward", ulp, 2 * abs_)
            chunked = mask(5, 7, q.dtype, True, 0, 3)[None, None]
            y = eager_attention_forward(Module, q, k, v, chunked, 0.25)[0].transpose(1, 2).contiguous()
            simple(op, "qkv", [q, k, v], op + " %%q, %%k, %%v {%s}" % (attrs % "chunk = 3, "), y,
                   "transformers eager_attention_forward, keys of the same chunk", ulp, abs_)


def main():
    directory = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))
    for part in (sources, elementwise, cast, shape, products, attention_parts, rope, attention, hadamard, center, quantization, quantized_attention, caches,
                 weight_schemes, input_schemes, searching_observers, own_observers,
                 searched_scales, packing, plain_variants, norm_variants, rope_variants, attention_variants, expert_cases):
        part()
    for op, cases in sorted(FILES.items()):
        with open(os.path.join(directory, op + ".json"), "w", encoding="utf-8") as file:
            file.write('{"op": %s, "cases": [\n' % json.dumps(op))
            file.write(",\n".join(json.dumps(c) for c in cases))
            file.write("\n]}\n")


main()
