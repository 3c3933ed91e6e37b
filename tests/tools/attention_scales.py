# SPDX-License-Identifier: MIT
"""usage: attention_scales.py MODEL.qc STATS.safetensors TYPE GRANULARITY [headroom=X] [center] [rotated]

Recomputes every constant that stands behind q, k and v in the IR from the statistics of the same run, by formulas of its own:
bf16(bf16(amax * headroom) / divisor), 448 for e4m3, 57344 for e5m2, 127.5 and 7.5 for integers; for nvfp4 the global scale,
2688 / amax in bf16. Exits with 1 and names the first that differs. Standard library alone.
"""
import json
import re
import struct
import sys

DIVISORS = {"e4m3": 448.0, "e5m2": 57344.0, "int8": 127.5, "int4": 7.5}


def bf16(x):
    bits = struct.unpack("<I", struct.pack("<f", x))[0]
    bits = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000
    return struct.unpack("<f", struct.pack("<I", bits))[0]


def read_safetensors(path):
    data = open(path, "rb").read()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        code = {"F32": "f", "F64": "d", "I64": "q"}[entry["dtype"]]
        raw = data[8 + size + begin : 8 + size + end]
        tensors[name] = (entry["shape"], struct.unpack("<%d%s" % (len(raw) // struct.calcsize(code), code), raw))
    return tensors


def read_constants(path):
    """{(module, "k_scale"): ([numbers], [sizes])} of the IR text."""
    found, module = {}, ""
    for line in open(path, encoding="utf-8"):
        at = re.match(r'\s*at "([^"]*)"', line)
        if at:
            module = at.group(1)
        const = re.match(r"\s*%([a-z_]+)(?:\.\d+)? = const \[(.*)\] : \w+\[(.*)\]", line)
        if const and const.group(1) in NAMES:
            key = (module, const.group(1))
            if key in found:
                sys.exit("two constants %s in %s" % (const.group(1), module))
            found[key] = ([float(x) for x in const.group(2).split(",")], [int(x) for x in const.group(3).split(",")])
    return found


NAMES = {part + "_" + what for part in "qkv" for what in ("scale", "global")} | {"k_mean"}


def means_of(stats, tap):
    sums, tokens = stats[tap + "@mean.sums"][1], stats[tap + "@mean.tokens"][1][0]
    return [struct.unpack("<f", struct.pack("<f", s / tokens))[0] for s in sums]


def ranges_of(stats, tap, center, heads_of_columns):
    """[(min, max)] a column or (heads_of_columns False) a head, over all sequences."""
    if heads_of_columns:
        low, high = stats[tap + ".channel_min"][1], stats[tap + ".channel_max"][1]
        if center:
            mean = [bf16(x) for x in means_of(stats, tap)]
            return [(bf16(a - m), bf16(b - m)) for a, b, m in zip(low, high, mean)]
        return list(zip(low, high))
    (sequences, heads), low = stats[tap + ".min"]
    high = stats[tap + ".max"][1]
    return [(min(low[h::heads]), max(high[h::heads])) for h in range(heads)]


def main():
    model, stats_path, kind, granularity = sys.argv[1:5]
    options = sys.argv[5:]
    headroom = next((float(o[9:]) for o in options if o.startswith("headroom=")), 1.0)
    stats, constants, checked = read_safetensors(stats_path), read_constants(model), 0
    for (module, name), (numbers, sizes) in sorted(constants.items()):
        part = name[0]
        tap = module + "." + part + ("@R3" if "rotated" in options and part != "v" else "")
        if name == "k_mean":
            expected = means_of(stats, tap)
        else:
            center = "center" in options and part == "k"
            ranges = ranges_of(stats, tap, center, center or granularity == "channel")
            amax = [max(-a, b) for a, b in ranges]
            heads = sizes[0] if granularity in ("head", "channel") else 1
            if granularity != "channel":
                each = len(amax) // heads
                amax = [max(amax[i * each : (i + 1) * each]) for i in range(heads)]
            amax = [bf16(a * headroom) for a in amax]
            if kind == "nvfp4":
                expected = [bf16(bf16(1.0 / a) * 2688.0) for a in amax]
            else:
                expected = [bf16(a / DIVISORS[kind]) for a in amax]
        # Constants are printed as the shortest decimals of their type.
        same = len(expected) == len(numbers) and all(
            abs(a - b) <= 1e-6 * abs(a) if name == "k_mean" else bf16(b) == a for a, b in zip(expected, numbers)
        )
        if not same:
            sys.exit("%s.%s: %s, expected %s" % (module, name, numbers[:8], expected[:8]))
        checked += len(numbers)
    if checked == 0:
        sys.exit("there is no constant to compare")
    print("%d numbers" % checked)


main()
