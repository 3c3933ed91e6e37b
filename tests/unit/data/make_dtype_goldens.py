#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Write dtype_goldens.inc: what PyTorch, ml_dtypes and compressed-tensors make of element types.

usage: make_dtype_goldens.py > dtype_goldens.inc

Needs torch (2.10), ml_dtypes (0.6) and compressed_tensors (0.19); the test that reads the output needs none.
NaN results compare as a class, because torch itself answers with several bit patterns: decoded NaN are written as
7fc00000, and inputs that are NaN are left out of the hashes (their code counts as 0).
"""
import hashlib

import ml_dtypes
import numpy as np
import torch
from compressed_tensors.quantization.utils.fp4_utils import cast_to_fp4

F32, U32 = np.float32, np.uint32
TORCH = {"f8e4m3": torch.float8_e4m3fn, "f8e5m2": torch.float8_e5m2, "f8e8m0": torch.float8_e8m0fnu,
         "f16": torch.float16, "bf16": torch.bfloat16}
E2M1 = np.arange(16, dtype=np.uint8).view(ml_dtypes.float4_e2m1fn).astype(F32)


def decode(name, codes):
    if name == "f4e2m1":
        return E2M1[codes]
    wide = TORCH[name].itemsize
    t = torch.from_numpy(codes.astype({1: np.uint8, 2: np.uint16}[wide]).view({1: np.int8, 2: np.int16}[wide]))
    return t.view(TORCH[name]).float().numpy()


def encode(name, x):
    """f32 -> codes, through torch; f4e2m1 through compressed-tensors"""
    if name == "f4e2m1":
        y = cast_to_fp4(torch.from_numpy(x.copy())).numpy()
        return (np.searchsorted(E2M1[:8], np.abs(y)) | np.where(np.signbit(y), 8, 0)).astype(np.uint8)
    if name.startswith("i8") or name.startswith("u8"):
        lo, hi, t = (-128, 127, np.int8) if name[0] == "i" else (0, 255, np.uint8)
        return torch.round(torch.clamp(torch.from_numpy(x), lo, hi)).numpy().astype(t).view(np.uint8)
    base, _, saturate = name.partition("_")
    t = torch.from_numpy(x)
    if saturate:
        t = torch.clamp(t, -torch.finfo(TORCH[base]).max, torch.finfo(TORCH[base]).max)
    t = t.to(TORCH[base])
    return t.view(torch.int16).numpy().view(np.uint16) if t.itemsize == 2 else t.view(torch.uint8).numpy()


def inputs():
    """every bf16, every f16, and the f32 neighbours of each: 65536 of each kind in this order"""
    b = np.arange(65536, dtype=U32) << 16
    h = decode("f16", np.arange(65536)).view(U32)
    h = np.where(np.isnan(h.view(F32)), U32(0), h)
    # neighbours are what the test makes too: bits - 1 and bits + 1, mod 2^32
    return np.concatenate([b, h, b - U32(1), b + U32(1), h - U32(1), h + U32(1), b ^ U32(0x8000)]).view(F32)


def sha(a):
    return hashlib.sha256(np.ascontiguousarray(a).tobytes()).hexdigest()


def main():
    print("/* Made by make_dtype_goldens.py with torch %s, ml_dtypes %s; do not edit. */"
          % (torch.__version__.split("+")[0], ml_dtypes.__version__))
    for name, n in (("f8e4m3", 256), ("f8e5m2", 256), ("f8e8m0", 256), ("f4e2m1", 16)):
        u = decode(name, np.arange(n)).view(U32)
        u = np.where(np.isnan(u.view(F32)), U32(0x7fc00000), u)
        print(f"static const uint32_t golden_{name}[{n}] = {{")
        for i in range(0, n, 8):
            print("    " + " ".join(f"0x{int(v):08x}," for v in u[i:i + 8]))
        print("};")
    u = decode("f16", np.arange(65536)).view(U32)
    print(f'static const char golden_f16_sha256[] = "{sha(np.where(np.isnan(u.view(F32)), U32(0x7fc00000), u))}";')
    x = inputs()
    nan = np.isnan(x)
    x = np.where(nan, F32(0), x)
    print("static const struct golden_encode {\n    const char *name, *sha256;\n} golden_encodes[] = {")
    for name in ("f8e4m3", "f8e4m3_saturate", "f8e5m2", "f8e5m2_saturate", "f8e8m0", "f4e2m1", "f16", "bf16", "i8",
                 "u8"):
        codes = encode(name, x)
        print(f'    {{"{name}", "{sha(np.where(nan, 0, codes).astype(codes.dtype))}"}},')
    print("};")


main()
