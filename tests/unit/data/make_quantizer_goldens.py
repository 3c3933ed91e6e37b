#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Write quantizer_goldens.inc: global scales, scales of every kind, codes, values and searched ranges as
compressed-tensors and llm-compressor compute them on a CPU.

usage: make_quantizer_goldens.py quantizer_goldens.inc

Needs torch (2.10, on a processor whose vectors hold 8 f32, which decides the order of sums), compressed_tensors
(0.19) and llmcompressor (0.14); the test that reads the output needs none. Inputs are integer patterns that the
test makes again. Results that are NaN compare as a class: the positive quiet NaN.
"""
import contextlib
import hashlib
import sys

import numpy as np
import torch
from compressed_tensors.quantization import QuantizationArgs
from compressed_tensors.quantization.lifecycle.forward import dequantize, quantize
from compressed_tensors.quantization.utils.helpers import calculate_qparams, generate_gparam
from llmcompressor.observers import Observer
from llmcompressor.observers.helpers import flatten_for_calibration

FORMATS = {"QC_BF16": (torch.bfloat16, 8, 7), "QC_F16": (torch.float16, 5, 10), "QC_F32": (torch.float32, 8, 23)}
SCHEMES = {  # bits, type, strategy, group, scale type, symmetric
    "nvfp4": (4, "float", "tensor_group", 16, torch.float8_e4m3fn, True),
    "mxfp4": (4, "float", "group", 32, torch.uint8, True),
    "mxfp8": (8, "float", "group", 32, torch.uint8, True),
    "f4": (4, "float", "group", 16, None, True),
    "f8": (8, "float", "channel", None, None, True),
    "f8_s8": (8, "float", "group", 32, torch.float8_e4m3fn, True),
    "i2": (2, "int", "group", 128, None, True),
    "i3": (3, "int", "group", 128, None, True),
    "i4": (4, "int", "group", 128, None, True),
    "i4_asym": (4, "int", "group", 128, None, False),
    "i4_s8": (4, "int", "group", 128, torch.float8_e4m3fn, True),
    "i4_sbf16_asym": (4, "int", "group", 128, torch.bfloat16, False),
    "i4_sf16_asym": (4, "int", "group", 128, torch.float16, False),
    "i4_sf32": (4, "int", "group", 128, torch.float32, True),
    "i7_asym": (7, "int", "group", 32, None, False),
    "i8": (8, "int", "channel", None, None, True),
    "i8_asym": (8, "int", "channel", None, None, False),
}
GLOBALS = [0.0, 5376.0, 44.75, 1.0, 25165824.0]
SCALES = [1.0, 0.0113525390625, 3.1e-5, 7.25, 448.0, 0.125]
RANGES, ROWS, COLUMNS = 4096, 64, 256
NAN = np.uint32(0x7FC00000)


def patterns(count, state=1):
    """32-bit pseudo-random numbers, the upper halves of a linear congruential sequence"""
    out = []
    for _ in range(count):
        state = (state * 6364136223846793005 + 1442695040888963407) & (2 ** 64 - 1)
        out.append(state >> 32)
    return np.array(out, np.uint32)


def tensor(bits, model):
    """bit patterns read as numbers of a type"""
    kind = FORMATS[model][0]
    if kind == torch.float32:
        return torch.from_numpy(bits.astype(np.uint32).view(np.int32).copy()).view(kind)
    return torch.from_numpy(bits.astype(np.uint16).view(np.int16).copy()).view(kind)


def numbers(model):
    """every pattern of a 16-bit type, or one f32 for each upper half"""
    i = np.arange(65536, dtype=np.uint32)
    return tensor(i if model != "QC_F32" else i << 16 | patterns(65536) & 0xFFFF, model)


def weight(model):
    """rows of ordinary numbers, and of zeros, subnormal, huge, tiny, one-sided, sparse and spread ones"""
    _, eb, mb = FORMATS[model]
    bias = (1 << (eb - 1)) - 1
    p = patterns(ROWS * COLUMNS).reshape(ROWS, COLUMNS).astype(np.int64)
    kind = np.arange(ROWS)[:, None] % 16
    more, sign, fraction = p >> 24, p >> 23 & 1, p & ((1 << mb) - 1)
    e = bias - 2 - (more & 7) - np.arange(ROWS)[:, None] % 5
    e = np.where(kind == 9, 0, e)
    e = np.where(kind == 10, 2 * bias - (more & 1), e)
    e = np.where(kind == 11, 1 + (more & 3), e)
    e = np.where(kind == 15, bias - 10 + more % 16, e)
    zero = (kind == 8) | (kind == 14) & (more % 8 != 0)
    e, fraction = np.where(zero, 0, e), np.where(zero, 0, fraction)
    sign = np.where(kind == 12, 0, np.where(kind == 13, 1, sign))
    return tensor(sign << (eb + mb) | e << mb | fraction, model)


def args(scheme, **more):
    bits, kind, strategy, group, scale, symmetric = SCHEMES[scheme]
    return QuantizationArgs(num_bits=bits, type=kind, strategy=strategy, group_size=group, scale_dtype=scale,
                            symmetric=symmetric, **more)


def f32_bits(t):
    x = t.float().numpy() + np.float32(0)
    return np.where(np.isnan(x), NAN, x.view(np.uint32)).astype(np.uint32)


def sha(*arrays):
    h = hashlib.sha256()
    for a in arrays:
        h.update(np.ascontiguousarray(a).tobytes())
    return h.hexdigest()


def fits(model, scheme):
    """compressed-tensors fails where the limits of the scale's type are no numbers of the model's"""
    kind = SCHEMES[scheme][4]
    if kind is None or not kind.is_floating_point:
        return True
    return bool(torch.isfinite(torch.tensor(torch.finfo(kind).max).to(FORMATS[model][0])))


def finite(t):
    return torch.where(torch.isfinite(t), t, torch.zeros_like(t))


def global_scales(model):
    x = finite(numbers(model)).abs()
    out = torch.cat([generate_gparam(-v.reshape(1), v.reshape(1)) for v in x])
    return sha(f32_bits(out))


def scales(model, scheme):
    """(scale, zero point) of ranges, under each global scale that the scheme can have"""
    p = patterns(2 * RANGES).reshape(RANGES, 2)
    p[1::2] = p[1::2] & 0x8FFFFFFF | 0x38000000
    x = finite(tensor(p.reshape(-1) >> (0 if model == "QC_F32" else 16), model)).reshape(RANGES, 2)
    lo, hi = x.min(1).values, x.max(1).values
    out = []
    for g in GLOBALS if scheme == "nvfp4" else [0.0]:
        s, z = calculate_qparams(lo, hi, args(scheme), torch.tensor([g]) if g else None)
        out += [f32_bits(s), f32_bits(z)]
    return sha(*out)


def nibbles(x):
    """FP4 numbers to codes, -0 kept apart"""
    values = np.array([0, .5, 1, 1.5, 2, 3, 4, 6], np.float32)
    v = x.float().numpy()
    return (np.searchsorted(values, np.abs(v)) | np.where(np.signbit(v), 8, 0)).astype(np.uint8)


def codes(model, scheme, wide=False):
    """codes and values of every number; numbers that are NaN are replaced by 0. Wide: quotients and sums are
    left in f32, which is what the kernels for GPUs do"""
    x = numbers(model)
    x = torch.where(torch.isnan(x), torch.zeros_like(x), x)
    a = args(scheme)
    token = a.model_copy(update={"strategy": "token"})
    out_codes, out_values = [], []
    for g in GLOBALS if scheme == "nvfp4" else [0.0]:
        glob = torch.tensor([g]) if g else None
        for scale in SCALES:
            s = torch.tensor([scale], dtype=FORMATS[model][0])
            for zero in [0.0] if a.symmetric else [0.0, -1.0, 3.0]:
                z = torch.tensor([zero]).to(torch.int8 if a.type == "int" else FORMATS[model][0])
                if wide:
                    q = quantize(x.float(), s.float(), z, token, global_scale=glob).to(x.dtype)
                else:
                    q = quantize(x, s, z, token, global_scale=glob)
                y = dequantize(q, s, z, token, global_scale=glob).to(x.dtype)
                if a.type == "int":
                    out_codes.append(q.to(torch.int8).numpy())
                elif a.num_bits == 8:
                    out_codes.append(q.to(torch.float8_e4m3fn).view(torch.uint8).numpy())
                else:
                    out_codes.append(nibbles(q))
                out_values.append(f32_bits(y))
    return sha(*out_codes), sha(*out_values)


def importance():
    p = patterns(COLUMNS, 7)
    return (p >> 8).astype(np.float32) * np.float32(2.0 ** -20)


def search(model, scheme, observer, kwargs):
    """chosen ranges of a whole weight, and how often each was tried is implied by the stop"""
    kwargs = dict(kwargs)
    columns = kwargs.pop("columns", COLUMNS)
    a = args(scheme, observer=observer, observer_kwargs=kwargs)
    w = weight(model)
    if columns != COLUMNS:  # ordinary rows only, end to end
        w = w[np.arange(ROWS) % 16 < 8].reshape(-1, columns)
    o = Observer.load_from_registry(observer, base_name="weight", args=a)
    if "imatrix" in observer and kwargs.get("weighted", True):
        o._imatrix_sum, o._imatrix_count = torch.from_numpy(importance()), torch.tensor(1)
    o.update_statistics_from_observed(flatten_for_calibration(w, "weight", a))
    return sha(f32_bits(o.min_vals), f32_bits(o.max_vals))


SEARCHES = [
    ("nvfp4", "memoryless_mse", {}), ("nvfp4", "nvfp4_expanded_mse", {}), ("mxfp4", "memoryless_mse", {}),
    ("mxfp8", "memoryless_mse", {}), ("f4", "memoryless_mse", {}), ("f8", "memoryless_mse", {}),
    ("f8_s8", "memoryless_mse", {}), ("i3", "memoryless_mse", {}), ("i4", "memoryless_mse", {}),
    ("i4_asym", "memoryless_mse", {}), ("i7_asym", "memoryless_mse", {}), ("i8", "memoryless_mse", {}),
    ("i8_asym", "memoryless_mse", {}), ("i4", "memoryless_mse", {"norm": 2.0, "patience": 1}),
    ("i4", "memoryless_mse", {"norm": 3.0, "maxshrink": 0.7, "grid": 50.0}),
    ("i4", "imatrix_mse", {}), ("i4_asym", "imatrix_mse", {}), ("nvfp4", "imatrix_mse", {}),
    ("f8", "memoryless_mse", {"columns": 4096}), ("i8", "memoryless_mse", {"columns": 8192}),
    ("i8_asym", "memoryless_mse", {"columns": 4096}), ("i4", "memoryless_mse", {"columns": 4096}),
    ("i8", "imatrix_mse", {}), ("nvfp4", "nvfp4_expanded_imatrix", {}),
]


def main():
    torch.set_num_threads(1)
    print("/* Made by make_quantizer_goldens.py with torch 2.10.0, compressed-tensors 0.19.0, llm-compressor "
          "0.14.0.1; do not edit. */")
    print("static const struct golden_global {\n    qc_dtype model;\n    const char *sha256;\n} golden_globals[] = {")
    for m in FORMATS:
        print('    {%s, "%s"},' % (m, global_scales(m)))
    print("};\nstatic const struct golden_scale {\n    qc_dtype model;\n    const char *scheme, *sha256;\n"
          "} golden_scales[] = {")
    for m in FORMATS:
        for s in SCHEMES:
            if fits(m, s):
                print('    {%s, "%s", "%s"},' % (m, s, scales(m, s)))
    print("};\nstatic const struct golden_code {\n    qc_dtype model;\n    const char *dialect, *scheme, *codes_sha256, "
          "*values_sha256;\n} golden_codes[] = {")
    for m in FORMATS:
        for s in SCHEMES:
            print('    {%s, "ct_cpu", "%s", "%s", "%s"},' % ((m, s) + codes(m, s)))
            print('    {%s, "ct_cuda", "%s", "%s", "%s"},' % ((m, s) + codes(m, s, True)))
    print("};\nstatic const struct golden_search {\n    qc_dtype model;\n    const char *scheme, *observer;\n"
          "    double norm, maxshrink, grid; /* 0: the observer's */\n    int patience, columns;\n    const char *sha256;\n"
          "} golden_searches[] = {")
    for m in FORMATS:
        for s, o, k in SEARCHES:
            print('    {%s, "%s", "%s", %s, %s, %s, %d, %d, "%s"},' % (
                m, s, o, k.get("norm", 0.0), k.get("maxshrink", 0.0), k.get("grid", 0.0), k.get("patience", 0),
                k.get("columns", COLUMNS), search(m, s, o, k)))
    print("};")


with open(sys.argv[1], "w") as out, contextlib.redirect_stdout(out):
    main()
