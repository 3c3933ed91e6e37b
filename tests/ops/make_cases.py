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

usage: make_cases.py [DIRECTORY]
"""

import json
import os
import sys
import zlib

import numpy as np
import torch
from compressed_tensors.compressors.nvfp4.helpers import pack_fp4_to_uint8
from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32
from compressed_tensors.quantization import QuantizationArgs
from compressed_tensors.quantization.lifecycle.forward import dequantize, quantize
from compressed_tensors.quantization.utils import calculate_qparams, compute_dynamic_scales_and_zp, generate_gparam
from compressed_tensors.transform.utils.hadamard import deterministic_hadamard_matrix, random_hadamard_matrix
from llmcompressor.observers import Observer
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import (LlamaRMSNorm, LlamaRotaryEmbedding, apply_rotary_pos_emb,
                                                      eager_attention_forward, repeat_kv, rotate_half)

torch.set_num_threads(1)
TYPES = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32, "f64": torch.float64,
         "f8e4m3": torch.float8_e4m3fn, "f8e5m2": torch.float8_e5m2, "f8e8m0": torch.float8_e8m0fnu, "i8": torch.int8,
         "i32": torch.int32, "i64": torch.int64, "u8": torch.uint8}
NAMES = {t: name for name, t in TYPES.items()}
FILES = {}
rng = None


class Codes:
    """Numbers of a type of less than 8 bits, stored as one dense stream, lowest bits first."""

    def __init__(self, dtype, values):
        self.dtype, self.values, self.shape = dtype, values, values.shape
        bits = 4 if dtype == "f4e2m1" else int(dtype[1:])
        if dtype == "f4e2m1":
            magnitude = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])
            codes = (values.float().abs()[..., None] == magnitude).int().argmax(-1) + 8 * torch.signbit(values.float())
        else:
            codes = values.to(torch.int64) & (2 ** bits - 1)
        stream = 0
        for i, code in enumerate(codes.reshape(-1).tolist()):
            stream |= int(code) << (i * bits)
        self.hex = stream.to_bytes((codes.numel() * bits + 7) // 8, "little").hex()


def tensor(x):
    if isinstance(x, Codes):
        return {"dtype": x.dtype, "shape": list(x.shape), "data": x.hex}
    raw = x.contiguous().view(torch.uint8) if x.dim() else x.reshape(1).view(torch.uint8)
    return {"dtype": NAMES[x.dtype], "shape": list(x.shape), "data": raw.numpy().tobytes().hex()}


def type_of(x):
    return "%s[%s]" % (x.dtype if isinstance(x, Codes) else NAMES[x.dtype], ", ".join(str(n) for n in x.shape))


def seed(op):
    global rng
    rng = np.random.default_rng(zlib.crc32(op.encode()))


def normal(shape, dtype="bf16", scale=1.0):
    return torch.from_numpy(rng.standard_normal(shape) * scale).to(TYPES[dtype])


def spread(count, dtype, low, high, both=True):
    """Magnitudes over many binades, both signs."""
    x = np.exp2(rng.uniform(low, high, count)) * (rng.choice([-1.0, 1.0], count) if both else 1.0)
    return torch.from_numpy(x).to(TYPES[dtype])


def case(op, text, source, runs, ulp=0, abs_=0.0, weights=None):
    entry = {"from": source, "text": text}
    if ulp:
        entry["ulp"] = ulp
    if abs_:
        entry["abs"] = abs_
    if weights:
        entry["weights"] = {k: tensor(v) for k, v in weights.items()}
    entry["runs"] = [{"inputs": [tensor(x) for x in i], "outputs": [tensor(y) for y in o]} for i, o in runs]
    FILES.setdefault(op, []).append(entry)


def simple(op, names, inputs, line, output, source, ulp=0, abs_=0.0, head=""):
    """One op over the named inputs."""
    arguments = ", ".join("%%%s: %s" % (n, type_of(x)) for n, x in zip(names, inputs))
    text = "qc 1\n%sfunc @main(%s) -> %s {\n  %%y = %s\n  return %%y\n}\n" % (head, arguments, type_of(output), line)
    case(op, text, source, [(inputs, [output])], ulp, abs_)


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
    x = torch.from_numpy(rng.uniform(-1e6, 1e6, 128)).float()
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


def mask(queries, keys, dtype, causal, window):
    """What Transformers adds to the scores: 0 where a key is seen, the lowest finite number elsewhere."""
    i = torch.arange(queries)[:, None] + keys - queries
    j = torch.arange(keys)[None, :]
    seen = torch.ones(queries, keys, dtype=torch.bool)
    if causal:
        seen &= j <= i
    if window:
        seen &= j > i - window
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
            positions = torch.from_numpy(np.sort(rng.choice(span, 3, replace=False)))[None]
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


# ---- quantization ------------------------------------------------------------------------------------------------

def scheme(part, type_, granularity, dynamic=False):
    return ("scheme @s {arith = ct_cpu, %s = {%sgranularity = %s, symmetric, type = %s}, targets = [\"Linear\"]}\n"
            % (part, "dynamic, " if dynamic else "", granularity, type_))


def args_of(type_, strategy):
    kind = "float" if type_.startswith("f8") else "int"
    return QuantizationArgs(num_bits=8, type=kind, symmetric=True, strategy=strategy, dynamic=strategy == "token",
                            observer=None)


def quantization():
    seed("observe")
    for observer in ("static_minmax", "memoryless_minmax", "minmax"):
        for granularity, strategy in (("head", "attn_head"), ("tensor", "tensor")):
            x = normal((3, 2, 5, 4))
            observed = Observer.load_from_registry(observer, base_name="q", args=args_of("f8e4m3", strategy))
            for sequence in x:
                observed(sequence[None])
            stat = torch.stack([observed.min_vals.reshape(-1), observed.max_vals.reshape(-1)])
            simple("observe", "x", [x], 'observe %%x {granularity = %s, observer = %s, tap = "q"}' % (granularity, observer),
                   stat, "llmcompressor Observer " + observer)
    seed("qparams")
    for type_ in ("f8e4m3", "i8"):
        for granularity, strategy, x in (("tensor", "tensor", normal((2, 3, 8))), ("head", "attn_head", normal((2, 3, 4, 8))),
                                         ("channel", "channel", normal((5, 16))), ("token", "token", normal((2, 3, 8)))):
            part = "weights" if granularity == "channel" else "input"
            if granularity == "tensor":
                low, high, shape_ = torch.amin(x), torch.amax(x), [1]
            elif granularity == "head":
                low, high, shape_ = torch.amin(x, (0, 2, 3)), torch.amax(x, (0, 2, 3)), [3, 1, 1]
            else:
                low, high = torch.amin(x, -1), torch.amax(x, -1)
                shape_ = list(x.shape[:-1]) + [1]
            scale, _ = calculate_qparams(low, high, args_of(type_, strategy))
            head = scheme(part, type_, granularity, granularity == "token")
            simple("qparams", "x", [x], "qparams %%x {arg = %s, scheme = @s}" % part, scale.reshape(shape_),
                   "compressed_tensors calculate_qparams", head=head)
            zero = torch.zeros_like(scale)
            codes = quantize(x, scale.reshape(shape_ if granularity != "tensor" else [1]), zero.reshape(shape_),
                             args_of(type_, strategy), dtype=TYPES[type_])
            simple("quantize", ["x", "s"], [x, scale.reshape(shape_)], "quantize %%x, %%s {arg = %s, scheme = @s}" % part, codes,
                   "compressed_tensors quantize", head=head)
            real = dequantize(codes, scale.reshape(shape_), zero.reshape(shape_), args_of(type_, strategy), torch.bfloat16)
            simple("dequantize", ["x", "s"], [codes, scale.reshape(shape_)], "dequantize %x, %s {to = bf16}", real,
                   "compressed_tensors dequantize")
    stat = torch.tensor([[-1.5, 0.0, -3.0], [1.25, 2.0, 0.0]], dtype=torch.bfloat16)
    scale, _ = calculate_qparams(stat[0], stat[1], args_of("f8e4m3", "attn_head"))
    simple("qparams", "x", [stat], "qparams %x {arg = input, from = stat, scheme = @s}", scale.reshape(3, 1, 1),
           "compressed_tensors calculate_qparams", head=scheme("input", "f8e4m3", "head"))
    zeros = torch.zeros(2, 1, dtype=torch.bfloat16)
    scale, _ = calculate_qparams(zeros[0], zeros[1], args_of("f8e4m3", "tensor"))
    simple("qparams", "x", [zeros], "qparams %x {arg = input, from = stat, scheme = @s}", scale.reshape(1),
           "compressed_tensors calculate_qparams", head=scheme("input", "f8e4m3", "tensor"))
    # far beyond the scale: codes saturate
    x = torch.tensor([[1000.0, -1000.0, 0.0, -0.0, 3.0]], dtype=torch.bfloat16)
    scale = torch.tensor([0.5], dtype=torch.bfloat16)
    for type_ in ("f8e4m3", "i8"):
        codes = quantize(x, scale, torch.zeros(1, dtype=torch.bfloat16), args_of(type_, "tensor"), dtype=TYPES[type_])
        simple("quantize", ["x", "s"], [x, scale], "quantize %x, %s {arg = input, scheme = @s}", codes,
               "compressed_tensors quantize", head=scheme("input", type_, "tensor"))


# Schemes beyond one scale a tensor, head, channel or token: the part of the IR, and what compressed-tensors calls it.

def part_args(part):
    """The arguments of compressed-tensors that a part of a scheme stands for."""
    kind = part["type"]
    args = {"num_bits": 8 if kind[:2] == "f8" else 4 if kind == "f4e2m1" else int(kind[1:]),
            "type": "float" if kind[0] == "f" else "int", "symmetric": part.get("symmetric", False),
            "strategy": {"head": "attn_head"}.get(part["granularity"], part["granularity"])}
    if "group" in part:
        args["group_size"] = part["group"]
        args["strategy"] = "tensor_group" if part.get("global") else "group"
    if "block" in part:
        args["block_structure"] = part["block"]
    if "scale" in part:
        args["scale_dtype"] = {"f8e4m3": torch.float8_e4m3fn, "f8e8m0": torch.uint8}[part["scale"]]
        args["zp_dtype"] = args["scale_dtype"]
    if part.get("dynamic"):
        args["dynamic"] = "local" if part.get("global") else True
    if "observer" in part and not part.get("dynamic"):
        args.update(observer=part["observer"], observer_kwargs=part.get("observer_args", {}))
    return QuantizationArgs(**args)


def attribute(value):
    if isinstance(value, dict):
        return "{%s}" % ", ".join(sorted(k if v is True else "%s = %s" % (k, attribute(v)) for k, v in value.items()))
    return "[%s]" % ", ".join(map(attribute, value)) if isinstance(value, list) else str(value)


def part_head(arg, part):
    return "scheme @s %s\n" % attribute({"arith": "ct_cpu", arg: part, "targets": ['"Linear"']})


def stored(values, dtype):
    """Numbers as a tensor of an element type that can hold them."""
    if dtype in TYPES:
        return values.to(TYPES[dtype])
    return Codes(dtype, values)


def observed(part, x, importance=None):
    """What an observer of llm-compressor makes of a weight: scale, zero point and global scale, and the chosen ranges."""
    args = part_args(part)
    observer = Observer.load_from_registry(part.get("observer", "memoryless_minmax"), base_name="weight", args=args)
    if importance is not None:
        observer._imatrix_sum, observer._imatrix_count = importance.clone(), torch.tensor(1)
    observer(x)
    ranges = observer.min_vals, observer.max_vals
    result = observer.get_qparams()
    return args, result["scale"], result["zero_point"], result["global_scale"], ranges


def weight_case(part, x, importance=None):
    """All ops of a weight's way through its codes and back."""
    args, scale, zero, global_scale, _ = observed(part, x, importance)
    named = part.get("observer", "memoryless_minmax")
    source, head = "llm-compressor observer " + named, part_head("weights", part)
    symmetric = part.get("symmetric", False)
    scale = stored(scale, part.get("scale", NAMES[x.dtype]))
    names, inputs, extra = ["x"], [x], ""
    if global_scale is not None:
        simple("global_scale", ["x"] + (["i"] if importance is not None else []),
               [x] + ([importance] if importance is not None else []),
               "global_scale %%%s {arg = weights, scheme = @s}" % ("x" if importance is None else "x, importance=%i"),
               global_scale, source, head=head)
        names, inputs, extra = ["x", "g"], [x, global_scale], ", global=%g"
    weigh = ([], [], "") if importance is None else (["i"], [importance], ", importance=%i")
    simple("qparams", names + weigh[0], inputs + weigh[1], "qparams %%x%s%s {arg = weights, scheme = @s}" % (extra, weigh[2]),
           scale, source, head=head)
    if not symmetric:
        zero = zero.to(torch.int8)
        simple("zero_point", ["x"] + weigh[0], [x] + weigh[1], "zero_point %%x%s {arg = weights, scheme = @s}" % weigh[2], zero,
               source, head=head)
    codes_case("weights", part, args, x, scale, zero, global_scale)


def codes_case(arg, part, args, x, scale, zero, global_scale):
    names, inputs, extra = ["x", "s"], [x, scale], "%x, %s"
    if global_scale is not None:
        names, inputs, extra = names + ["g"], inputs + [global_scale], extra + ", global=%g"
    if not part.get("symmetric", False):
        names, inputs, extra = names + ["z"], inputs + [zero], extra + ", zero_point=%z"
    # compressed-tensors holds local scales of any type in that of the model
    held = scale.float() if global_scale is not None else scale.to(x.dtype)
    floats = x.new_zeros(zero.shape) if part.get("symmetric", False) else zero.to(x.dtype)
    values = quantize(x, held, floats, args, global_scale=global_scale)
    codes = stored(values, part["type"])
    simple("quantize", names, inputs, "quantize %s {arg = %s, scheme = @s}" % (extra, arg), codes,
           "compressed_tensors quantize", head=part_head(arg, part))
    real = dequantize(values, held, floats, args, x.dtype, global_scale)
    attrs = ["to = " + NAMES[x.dtype]]
    attrs += ["group = %d" % part["group"]] if "group" in part else []
    attrs += ["block = [%d, %d]" % tuple(part["block"])] if "block" in part else []
    simple("dequantize", names, [codes] + inputs[1:], "dequantize %s {%s}" % (extra, ", ".join(sorted(attrs))), real,
           "compressed_tensors dequantize")


def input_case(part, x, static=None):
    """The ops of an input whose scales are made as the model runs; `static`: its range [2, 1], of a global scale."""
    args, head = part_args(part), part_head("input", part)
    names, inputs, extra, global_scale = ["x"], [x], "", None
    if static is not None:
        global_scale = generate_gparam(static[0], static[1])
        simple("global_scale", ["x"], [static], "global_scale %x {arg = input, from = stat, scheme = @s}", global_scale,
               "compressed_tensors generate_gparam", head=head)
        names, inputs, extra = ["x", "g"], [x, global_scale], ", global=%g"
    scale, zero = compute_dynamic_scales_and_zp(x, args, None, global_scale)
    if part["granularity"] == "tensor":
        scale, zero = scale.reshape(1), zero.reshape(1)
    source = "compressed_tensors compute_dynamic_scales_and_zp"
    scale = stored(scale, part.get("scale", NAMES[x.dtype]))
    simple("qparams", names, inputs, "qparams %%x%s {arg = input, scheme = @s}" % extra, scale, source, head=head)
    if not part.get("symmetric", False):
        zero = zero.to(torch.int8)
        simple("zero_point", ["x"], [x], "zero_point %x {arg = input, scheme = @s}", zero, source, head=head)
    codes_case("input", part, args, x, scale, zero, global_scale)


def symmetric(type_, granularity, **more):
    return dict(more, type=type_, granularity=granularity, symmetric=True)


NVFP4 = symmetric("f4e2m1", "group", group=16, scale="f8e4m3", **{"global": True})
MXFP4 = symmetric("f4e2m1", "group", group=32, scale="f8e8m0")
MXFP8 = symmetric("f8e4m3", "group", group=32, scale="f8e8m0")


def weight_schemes():
    seed("weight_schemes")
    for part, shape_, dtype in (
            (symmetric("i4", "group", group=16), (3, 32), "bf16"), (symmetric("i3", "group", group=8), (3, 24), "bf16"),
            (symmetric("i2", "group", group=8), (3, 24), "bf16"), (symmetric("i5", "channel"), (3, 10), "bf16"),
            (symmetric("i6", "channel"), (3, 10), "bf16"), (symmetric("i7", "tensor"), (3, 11), "bf16"),
            (symmetric("i8", "group", group=16), (2, 32), "f16"), (symmetric("f8e4m3", "group", group=16), (2, 32), "f32"),
            ({"type": "i4", "granularity": "group", "group": 16}, (3, 32), "bf16"),
            ({"type": "i4", "granularity": "group", "group": 16}, (2, 32), "f32"),
            ({"type": "i4", "granularity": "channel"}, (4, 17), "bf16"), ({"type": "i8", "granularity": "tensor"}, (2, 9), "f16"),
            ({"type": "i3", "granularity": "group", "group": 8}, (2, 16), "bf16"),
            (symmetric("f8e4m3", "block", block=[4, 8]), (8, 16), "bf16"),
            (symmetric("f8e4m3", "block", block=[4, 8]), (10, 20), "bf16"),
            (symmetric("i8", "block", block=[128, 128]), (5, 12), "bf16"),
            (NVFP4, (3, 48), "bf16"), (NVFP4, (2, 32), "f32"), (MXFP4, (3, 64), "bf16"), (MXFP8, (3, 64), "bf16"),
            (MXFP4, (2, 32), "f16")):
        x = normal(shape_, dtype, 0.05)
        x[0, :8] = 0.0
        weight_case(part, x)
    # a range on one side of zero, and none at all
    x = normal((2, 32), "bf16").abs() + 1
    x[1] = 0.0
    weight_case({"type": "i4", "granularity": "group", "group": 16}, x)
    weight_case(NVFP4, x)
    weight_case(MXFP8, x)
    seed("searches")
    for part, shape_ in ((symmetric("i4", "group", group=16), (4, 64)), ({"type": "i4", "granularity": "group", "group": 16}, (4, 64)),
                         (symmetric("f8e4m3", "channel"), (4, 48)), (symmetric("i8", "tensor"), (3, 40)),
                         (symmetric("f8e4m3", "block", block=[2, 16]), (5, 40)), (NVFP4, (3, 64)), (MXFP4, (3, 64))):
        weight_case(dict(part, observer="memoryless_mse"), normal(shape_, "bf16", 0.05))
    weight_case(dict(NVFP4, observer="nvfp4_expanded_mse"), normal((3, 64), "bf16", 0.05))
    weight_case(symmetric("i4", "group", group=16, observer="memoryless_mse",
                          observer_args={"grid": 50, "maxshrink": 0.5, "patience": 3, "norm": 2.0}), normal((3, 32), "bf16", 0.05))
    for part in (symmetric("i4", "group", group=16), symmetric("i3", "channel"), {"type": "i4", "granularity": "group", "group": 16},
                 NVFP4):
        importance = torch.from_numpy(np.exp(rng.standard_normal(32) * 2)).float()
        weight_case(dict(part, observer="imatrix_mse"), normal((3, 32), "bf16", 0.05), importance)
    # members of a fused set share their global scale
    a, b = normal((2, 16), "bf16", 0.05), normal((3, 16), "bf16", 0.08)
    amax = torch.max(a.abs().max(), b.abs().max()).reshape(1)
    simple("global_scale", "ab", [a, b], "global_scale %a, %b {arg = weights, scheme = @s}", generate_gparam(-amax, amax),
           "compressed_tensors generate_gparam", head=part_head("weights", NVFP4))


def input_schemes():
    seed("input_schemes")
    input_case({"type": "i8", "granularity": "token", "dynamic": True}, normal((2, 3, 8)))
    input_case(symmetric("i4", "token", dynamic=True), normal((2, 3, 8)))
    input_case(symmetric("f8e4m3", "group", group=8, dynamic=True), normal((2, 3, 16)))
    input_case({"type": "i8", "granularity": "group", "group": 8, "dynamic": True}, normal((1, 3, 16), "f32"))
    input_case(symmetric("f8e4m3", "tensor", dynamic=True), normal((2, 3, 8)))
    input_case(dict(MXFP4, dynamic=True), normal((1, 2, 64)))
    input_case(dict(MXFP8, dynamic=True), normal((1, 2, 64)))
    input_case(dict(NVFP4, dynamic=True), normal((1, 2, 32)), torch.tensor([[-3.0], [2.5]], dtype=torch.bfloat16))
    part = {"type": "i8", "granularity": "tensor"}
    stat = torch.tensor([[-1.5], [4.25]], dtype=torch.bfloat16)
    scale, zero = calculate_qparams(stat[0], stat[1], part_args(part))
    simple("qparams", "x", [stat], "qparams %x {arg = input, from = stat, scheme = @s}", scale.reshape(1),
           "compressed_tensors calculate_qparams", head=part_head("input", part))
    simple("zero_point", "x", [stat], "zero_point %x {arg = input, from = stat, scheme = @s}", zero.to(torch.int8).reshape(1),
           "compressed_tensors calculate_qparams", head=part_head("input", part))
    codes_case("input", part, part_args(part), normal((2, 3, 8)), scale.reshape(1), zero.reshape(1).to(torch.int8), None)


def searching_observers():
    seed("searching_observers")
    for observer in ("mse", "memoryless_mse"):
        for granularity, name, part in (("tensor", "input", {"type": "i8", "granularity": "tensor"}),
                                        ("tensor", "input", symmetric("f8e4m3", "tensor")),
                                        ("head", "k", symmetric("i4", "head"))):
            x = normal((3, 2, 5, 4)) if granularity == "head" else normal((3, 5, 16))
            it = Observer.load_from_registry(observer, base_name=name, args=part_args(dict(part, observer=observer)))
            for sequence in x:
                it(sequence[None])
            stat = torch.stack([it.min_vals.reshape(-1), it.max_vals.reshape(-1)])
            simple("observe", "x", [x], 'observe %%x {arg = input, granularity = %s, observer = %s, scheme = @s, tap = "t"}'
                   % (granularity, observer), stat, "llmcompressor Observer " + observer, head=part_head("input", part))
    x = normal((4, 3, 8))
    it = Observer.load_from_registry("minmax", base_name="input", averaging_constant=0.25, args=args_of("f8e4m3", "tensor"))
    for sequence in x:
        it(sequence[None])
    simple("observe", "x", [x], 'observe %x {averaging = 0.25, granularity = tensor, observer = minmax, tap = "t"}',
           torch.stack([it.min_vals.reshape(-1), it.max_vals.reshape(-1)]), "llmcompressor Observer minmax")
    for dtype in ("bf16", "f32"):
        x = normal((3, 4, 6), dtype)
        linear = torch.nn.Linear(6, 2, bias=False, dtype=TYPES[dtype])
        it = Observer.load_from_registry("imatrix_mse", base_name="weight", args=part_args(symmetric("i4", "channel")))
        it.attach(linear)
        for sequence in x:
            linear(sequence[None])
        simple("observe", "x", [x], 'observe %x {granularity = channel, observer = imatrix, tap = "t"}',
               it._imatrix_sum / it._imatrix_count.float(), "llmcompressor Observer imatrix_mse", 2)


def share_range(x, kind, share):
    """The least range that holds a share of the elements: by sorting, and trying every window."""
    values = np.sort(np.abs(x) if kind == "percentile" else x)
    wanted = max(1, int(np.ceil(share * len(values) / (100 if kind == "percentile" else 1) - 1e-9)))
    if kind == "percentile":
        return -values[wanted - 1], values[wanted - 1]
    widths = values[wanted - 1:] - values[:len(values) - wanted + 1]
    first = int(np.argmin(widths))
    return values[first], values[first + wanted - 1]


def mse_mean_range(x, dtype):
    """The range of x * (1 - i / 50) with the least squared error in int8, symmetric: the divisor is 127.5, steps in D."""
    def in_d(v):
        return np.float64(torch.tensor(v, dtype=torch.float32).to(dtype).float())
    low, high, best, chosen, stale = x.min(), x.max(), None, None, 0
    for i in range(46):
        factor = np.float64(np.float32(1 - i / 50))
        a, b = in_d(low * factor), in_d(high * factor)
        scale = in_d(max(-min(a, 0), max(b, 0)) / 127.5)
        codes = np.rint([min(max(in_d(v / scale), -128), 127) for v in x])
        error = sum((in_d(c * scale) - v) ** 2 for c, v in zip(codes, x))
        stale += 1
        if best is None or error < best:
            best, chosen, stale = error, (a, b), 0
        if stale >= 5:
            break
    return chosen


def own_observers():
    """Observers that llm-compressor does not have, in numpy."""
    seed("own_observers")
    for dtype in ("bf16", "f16", "f32"):
        for kind, name, value in (("percentile", "percentile", 90.0), ("percentile", "percentile", 99.99),
                                  ("recall_window", "recall", 0.75)):
            for granularity in ("head", "tensor"):
                x = normal((3, 2, 5, 4), dtype)
                numbers = x.double().numpy()
                ranges = [[share_range(part.reshape(-1), kind, value)
                           for part in (sequence if granularity == "head" else [sequence])] for sequence in numbers]
                stat = np.stack([np.min(ranges, axis=0)[:, 0], np.max(ranges, axis=0)[:, 1]])
                simple("observe", "x", [x],
                       'observe %%x {args = {%s = %s}, granularity = %s, observer = %s, tap = "t"}'
                       % (name, value, granularity, kind), torch.from_numpy(stat).to(TYPES[dtype]), "numpy sort")
        x = normal((3, 2, 5, 4), dtype)
        simple("observe", "x", [x], 'observe %x {granularity = channel, tap = "t"}',
               torch.stack([x.amin(dim=(0, 2)), x.amax(dim=(0, 2))]), "torch amin, amax")
        for x in (normal((3, 2, 5, 4), dtype), normal((3, 5, 6), dtype)):
            numbers = x.double().numpy()
            over = (2,) if x.dim() == 4 else (1,)
            for observer, parts in (("mean", numbers), ("imatrix", numbers * numbers)):
                kept = parts.sum(axis=over).astype(np.float32).astype(np.float64)
                kept = np.rint(kept * 2.0 ** 24) / 2.0 ** 24 if observer == "mean" else kept
                mean = kept.sum(axis=0) / (len(numbers) * numbers.shape[over[0]])
                mean = mean[:, None, :] if x.dim() == 4 else mean
                simple("observe", "x", [x], 'observe %%x {granularity = channel, observer = %s, tap = "t"}' % observer,
                       torch.from_numpy(mean).float(), "numpy sum", 2 if observer == "imatrix" else 0)
    for dtype in ("bf16", "f32"):
        x = normal((3, 2, 5, 4), dtype) ** 3
        ranges = np.array([[mse_mean_range(head.reshape(-1), TYPES[dtype]) for head in sequence]
                           for sequence in x.double().numpy()])
        stat = torch.from_numpy(ranges.mean(axis=0).T.copy()).float().to(TYPES[dtype])
        simple("observe", "x", [x], 'observe %x {arg = input, granularity = head, observer = mse_mean, scheme = @s, tap = "t"}',
               stat, "numpy, every range of the grid", head=part_head("input", symmetric("i8", "head")))


E4M3 = np.array([c * 2.0 ** -9 if c < 8 else (1 + (c & 7) / 8) * 2.0 ** ((c >> 3) - 7) for c in range(127)], dtype=np.float32)


def searched_scale(x, glob, search, dtype):
    """The local scale of a group: float32 throughout, candidates from the largest down, the first of the best."""
    amax = np.abs(x).max()
    def nearest(divisor):
        local = torch.tensor(np.float32(amax / np.float32(divisor))).to(dtype).float().numpy()
        return int(np.argmin(np.abs(E4M3.astype(np.float64) - np.float64(min(np.float32(glob * local), np.float32(448))))))
    centre = nearest(6)
    best, chosen = np.inf, None
    for code in [centre + 5 - i for i in range(11)] if search == "mse" else [nearest(4), centre]:
        scale = E4M3[min(max(code, 1), 126)]
        factor, total = np.float32(glob / scale), np.float32(0)
        for v in np.abs(x):
            t = np.float32(v * factor)
            grid = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], dtype=np.float32)
            distance = np.float32(t - grid[np.argmin(np.abs(grid.astype(np.float64) - np.float64(t)))])
            total = np.float32(total + np.float32(distance * distance))
        error = np.float32(total * np.float32(scale * scale))
        if error < best:
            best, chosen = error, scale
    return chosen


def searched_scales():
    """Searched local scales of NVFP4, and what else a part may add to the plain rule, in numpy."""
    seed("searched_scales")
    for dtype in ("bf16", "f16", "f32"):
        for search in ("mse", "four_six"):
            part = dict(NVFP4, search=search, scale_max=256.0)
            x = normal((4, 64), dtype, 0.05)
            amax = x.abs().max()
            glob = ((1 / amax) * 1536).float().reshape(1)
            simple("global_scale", "x", [x], "global_scale %x {arg = weights, scheme = @s}", glob, "torch",
                   head=part_head("weights", part))
            for shape_, arg in (((4, 64), "weights"), ((2, 2, 3, 32), "input")):
                x = x if arg == "weights" else normal(shape_, dtype, 0.05)
                numbers = x.float().numpy().reshape(-1, 16)
                scales = [searched_scale(group, glob.numpy()[0], search, TYPES[dtype]) for group in numbers]
                scales = torch.from_numpy(np.array(scales)).reshape(shape_[:-1] + (-1,)).to(torch.float8_e4m3fn)
                head = part_head(arg, dict(part, dynamic=True) if arg == "input" else part)
                simple("qparams", "xg", [x, glob], "qparams %%x, global=%%g {arg = %s, scheme = @s}" % arg, scales,
                       "numpy, every candidate", head=head)
    # statistics of columns, joined to what the scale is for, and widened
    for dtype in ("bf16", "f32"):
        low, high = -normal((2, 3, 4), dtype).abs(), normal((2, 3, 4), dtype).abs()
        stat = torch.stack([low[0], high[0]])
        for granularity, dims in (("channel", None), ("head", (1,)), ("tensor", (0, 1))):
            amax = torch.maximum(-stat[0], stat[1])
            amax = amax[:, None, :] if dims is None else amax.amax(dim=dims).reshape((3, 1, 1) if len(dims) == 1 else (1,))
            part = dict(symmetric("i8", granularity), headroom=1.25)
            simple("qparams", "x", [stat], "qparams %x {arg = input, from = stat, scheme = @s}",
                   ((amax * 1.25) / 127.5).to(TYPES[dtype]), "torch", head=part_head("input", part))


def packing():
    seed("unpack")
    for bits, columns in ((2, 17), (3, 32), (4, 8), (4, 11), (5, 13), (6, 16), (7, 9), (8, 5)):
        codes = torch.from_numpy(rng.integers(-2 ** (bits - 1), 2 ** (bits - 1), (3, columns))).to(torch.int8)
        output = codes if bits == 8 else Codes("i%d" % bits, codes)
        typed("unpack", pack_to_int32(codes, bits), "unpack %%x : %s" % type_of(output), output,
              "compressed_tensors pack_to_int32")
        output = codes.T.contiguous() if bits == 8 else Codes("i%d" % bits, codes.T.contiguous())
        typed("unpack", pack_to_int32(codes.T.contiguous(), bits, packed_dim=0), "unpack %%x {axis = 0} : %s" % type_of(output),
              output, "compressed_tensors pack_to_int32, packed_dim 0")
    values = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])
    numbers = values[torch.from_numpy(rng.integers(0, 8, (3, 10)))] * torch.from_numpy(rng.choice([-1.0, 1.0], (3, 10)))
    typed("unpack", pack_fp4_to_uint8(numbers.bfloat16()), "unpack %x : f4e2m1[3, 10]", Codes("f4e2m1", numbers),
          "compressed_tensors pack_fp4_to_uint8")
    exponents = torch.from_numpy(rng.integers(0, 255, (2, 5))).to(torch.uint8)
    typed("unpack", exponents, "unpack %x : f8e8m0[2, 5]", exponents.view(torch.float8_e8m0fnu), "torch, the same bytes")
    seed("keep")
    for dtype in ("bf16", "f32"):
        x = normal((3, 5), dtype)
        simple("keep", "x", [x], "keep %x", x, "torch, the same elements")


def typed(op, x, line, output, source):
    """As `simple`, for a line that names its type."""
    text = "qc 1\nfunc @main(%%x: %s) -> %s {\n  %%y = %s\n  return %%y\n}\n" % (type_of(x), type_of(output), line)
    case(op, text, source, [([x], [output])])


def main():
    directory = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))
    for part in (sources, elementwise, cast, shape, products, attention_parts, rope, attention, hadamard, center, quantization, quantized_attention, caches,
                 weight_schemes, input_schemes, searching_observers, own_observers,
                 searched_scales, packing):
        part()
    for op, cases in sorted(FILES.items()):
        with open(os.path.join(directory, op + ".json"), "w", encoding="utf-8") as file:
            file.write('{"op": %s, "cases": [\n' % json.dumps(op))
            file.write(",\n".join(json.dumps(c) for c in cases))
            file.write("\n]}\n")


main()
