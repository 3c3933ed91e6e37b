#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Write arith_goldens.inc: what compressed-tensors and llm-compressor compute on a CPU.

usage: make_arith_goldens.py GOLDENS_DIR > arith_goldens.inc

Needs torch (2.10) and compressed_tensors (0.19); the test that reads the output needs none. GOLDENS_DIR holds
checkpoints that llm-compressor (0.14.0.1) wrote, each with observed/amax.safetensors: what its activation observers
saw, one row a sequence. Every static activation scale of every such checkpoint becomes one case.
Results that are NaN compare as a class: scales and codes are written with the positive quiet NaN.
"""
import hashlib
import json
import os
import sys

import numpy as np
import torch
from compressed_tensors.quantization import QuantizationArgs
from compressed_tensors.quantization.lifecycle.forward import dequantize, quantize
from compressed_tensors.quantization.utils.helpers import calculate_qparams
from safetensors import safe_open

MODEL = [("QC_BF16", torch.bfloat16, torch.int16), ("QC_F16", torch.float16, torch.int16),
         ("QC_F32", torch.float32, torch.int32)]
GRIDS = ["f8"] + ["i%d" % b for b in range(2, 9)]
SCALES = [1.0, 0.0113525390625, 3.1e-5, 7.25, 123.0, 0.0]
RANGES = 4096
NAN = np.uint32(0x7FC00000)


def patterns(count):
    """32-bit pseudo-random numbers, the upper halves of a linear congruential sequence"""
    state, out = 1, []
    for _ in range(count):
        state = (state * 6364136223846793005 + 1442695040888963407) & (2 ** 64 - 1)
        out.append(state >> 32)
    return np.array(out, np.uint32)


def tensor(bits32, float_type, int_type):
    """the upper bits of the patterns read as numbers of a type"""
    if int_type == torch.int16:
        return torch.from_numpy((bits32 >> 16).astype(np.uint16).view(np.int16)).view(float_type)
    return torch.from_numpy(bits32.view(np.int32).copy()).view(float_type)


def args(grid, symmetric):
    kind = dict(num_bits=8, type="float") if grid == "f8" else dict(num_bits=int(grid[1:]), type="int")
    return QuantizationArgs(strategy="tensor", symmetric=symmetric, **kind)


def f32_bits(t):
    x = t.float().numpy() + np.float32(0)
    return np.where(np.isnan(x), NAN, x.view(np.uint32))


def sha(*arrays):
    h = hashlib.sha256()
    for a in arrays:
        h.update(np.ascontiguousarray(a).tobytes())
    return h.hexdigest()


def scales():
    p = patterns(2 * RANGES).reshape(RANGES, 2)
    p[1::2] = (p[1::2] & np.uint32(0x8FFFFFFF)) | np.uint32(0x38000000)  # every other one of moderate size
    for name, ft, it in MODEL:
        lo, hi = tensor(p[:, 0].copy(), ft, it), tensor(p[:, 1].copy(), ft, it)
        for grid in GRIDS:
            for symmetric in (True, False):
                s, z = calculate_qparams(lo, hi, args(grid, symmetric))
                yield name, grid, symmetric, sha(np.stack([f32_bits(s), f32_bits(z)], 1))


def codes():
    i = np.arange(65536, dtype=np.uint32)
    x32 = i << 16 | patterns(65536) & np.uint32(0xFFFF)
    for name, ft, it in MODEL:
        x = tensor(x32, ft, it)
        for grid in GRIDS:
            store = torch.float8_e4m3fn if grid == "f8" else torch.int8
            top = 0 if grid == "f8" else 2 ** (int(grid[1:]) - 1) - 1
            q_all, x_all = [], []
            for s in SCALES:
                for zp in (None, 0) if grid == "f8" else (None, 0, -1, top):
                    st = torch.tensor([s]).to(ft)
                    zt = None if zp is None else torch.tensor([float(zp)]).to(store)
                    q = quantize(x, st, zt, args(grid, True), dtype=store)
                    back = dequantize(q, st, zt, args(grid, True))
                    assert back.dtype == ft
                    c = q.view(torch.uint8).numpy()
                    q_all.append(np.where(c & 127 == 127, 127, c).astype(np.uint8) if grid == "f8" else c)
                    b = back.view(it).numpy()
                    x_all.append(np.where(torch.isnan(back).numpy(), 0, b).astype(b.dtype))
            yield name, grid, sha(*q_all), sha(*x_all)


def hexes(values):
    return " ".join("0x%04x," % v for v in values)


def u16(t):
    return t.to(torch.bfloat16).view(torch.int16).numpy().view(np.uint16)


def observed(folder):
    """rows of ranges, shared between checkpoints, and the cases that refer to them"""
    rows, first_row, cases = [], {}, []
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        amax = os.path.join(path, "observed", "amax.safetensors")
        with open(os.path.join(path, "meta.json")) as f:
            if not json.load(f)["ok"] or not os.path.exists(amax):
                continue
        with open(os.path.join(path, "config.json")) as f:
            config = json.load(f)["quantization_config"]
        full = os.path.join(path, "model.safetensors")
        gold = safe_open(full if os.path.exists(full) else os.path.join(path, "small.golden"), "pt")
        seen = safe_open(amax, "pt")
        for key in sorted({k[:-4] for k in seen.keys()}):
            module, _, base = key.rpartition(".")
            a = config["kv_cache_scheme"] if base in "qkv" else next(
                g["input_activations"] for g in config["config_groups"].values() if g["input_activations"])
            if a is None or a["dynamic"]:
                continue
            # [heads][min, max][sequences]
            block = np.stack([u16(seen.get_tensor(key + ".min")), u16(seen.get_tensor(key + ".max"))]).transpose(2, 0, 1)
            ident = block.tobytes()
            if ident not in first_row:
                first_row[ident] = len(rows)
                rows.extend(block)
            want = u16(gold.get_tensor(f"{module}.{base}_scale").flatten())
            zero = "{0}"
            if not a["symmetric"]:
                zero = "{%d}" % int(gold.get_tensor(f"{module}.{base}_zero_point"))
            cases.append('    {"%s", "%s.%s", %d, %d, "%s", %s, %s, %s, {%s}, %s},' % (
                name, module.removeprefix("model."), base, first_row[ident], len(block), a["observer"] or "minmax",
                "QC_F8E4M3" if a["type"] == "float" else "QC_I8", str(a["strategy"] == "attn_head").lower(),
                str(a["symmetric"]).lower(), hexes(want).rstrip(","), zero))
    return rows, cases


def main():
    print("/* Made by make_arith_goldens.py with torch %s, compressed-tensors 0.19.0, llm-compressor 0.14.0.1; do not"
          " edit. */" % torch.__version__.split("+")[0])
    print("static const struct golden_scale {\n    qc_dtype model;\n    const char *grid;\n    bool symmetric;\n"
          "    const char *sha256;\n} golden_scales[] = {")
    for name, grid, symmetric, digest in scales():
        print(f'    {{{name}, "{grid}", {str(symmetric).lower()}, "{digest}"}},')
    print("};\nstatic const struct golden_code {\n    qc_dtype model;\n"
          "    const char *grid, *codes_sha256, *values_sha256;\n} golden_codes[] = {")
    for name, grid, q, x in codes():
        print(f'    {{{name}, "{grid}", "{q}",\n        "{x}"}},')
    rows, cases = observed(sys.argv[1])
    print("};\n/* What observers saw, bf16 bits: [head][min, max][sequence]. */")
    print(f"enum {{ SEQUENCES = {rows[0].shape[1]} }};")
    print(f"static const uint16_t seen[{len(rows)}][2][SEQUENCES] = {{")
    for r in rows:
        print("    {{" + hexes(r[0]).rstrip(",") + "},\n        {" + hexes(r[1]).rstrip(",") + "}},")
    print("};\nstatic const struct golden_activation {\n    const char *checkpoint, *tensor;\n    int first, heads;\n"
          "    const char *observer;\n    qc_dtype code;\n    bool per_head, symmetric;\n    uint16_t scale[4];\n"
          "    int zero_point[1];\n} golden_activations[] = {")
    print("\n".join(cases) + "\n};")


main()
