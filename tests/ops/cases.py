# SPDX-License-Identifier: MIT
"""What make_cases.py writes with: tensors and cases in their file form, and seeded inputs."""

import zlib

import numpy as np
import torch

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
