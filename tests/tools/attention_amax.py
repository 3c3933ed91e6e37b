# SPDX-License-Identifier: MIT
"""usage: attention_amax.py ids GOLDEN.safetensors > IDS.jsonl
       attention_amax.py compare GOLDEN.safetensors STATS.safetensors [STATS.safetensors]

The golden of a model holds token ids and what Transformers' bf16 run of them saw: MODULE.q_amax, k_amax and v_amax, the largest
absolute value of each head as the attention function gets it; with latent attention also kv_latent_amax and k_rope_amax, of
what a latent cache holds. `compare` looks for each in the statistics that qc-opt saved on the same ids. Sums in another order move a value by a unit in
the last place of bf16, and the value behind it by another: those that are further apart are named, and the exit status is 1.
Standard library alone.
"""
import json
import math
import struct
import sys

CODES = {"F32": "f", "F64": "d", "I64": "q"}
UNITS = 2


def read_safetensors(path):
    """{name: (sizes, numbers)} of the tensors whose types Python can read."""
    data = open(path, "rb").read()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__" and entry["dtype"] in CODES:
            begin, end = entry["data_offsets"]
            code = CODES[entry["dtype"]]
            raw = data[8 + size + begin : 8 + size + end]
            tensors[name] = (entry["shape"], struct.unpack("<%d%s" % (len(raw) // struct.calcsize(code), code), raw))
    return tensors


def amax_of(stats, tap):
    """Largest absolute value of each head, over all sequences."""
    (_, heads), least = stats[tap + ".min"]
    most = stats[tap + ".max"][1]
    return [max(max(-x for x in least[h::heads]), max(most[h::heads])) for h in range(heads)]


def columns_of(stats, tap):
    """The same of each column of the one head of a latent cache."""
    return [max(-a, b) for a, b in zip(stats[tap + ".channel_min"][1], stats[tap + ".channel_max"][1])]


def observed(stats, name):
    module, what = name.rsplit(".", 1)
    if what in ("q_amax", "k_amax", "v_amax"):
        return amax_of(stats, module + "." + what[0]) if module + "." + what[0] + ".min" in stats else None
    if module + ".kv_latent.channel_min" not in stats:
        return None
    columns = columns_of(stats, module + ".kv_latent")
    # the columns of the shared key are the last ones: as many as there are turned ones in config.json
    turned = stats["turned"]
    return [max(columns[:-turned] if what == "kv_latent_amax" else columns[-turned:])]


def units(a, b):
    """How many units in the last place of bf16 lie between the two."""
    if a == b:
        return 0.0
    return abs(a - b) / 2.0 ** (math.frexp(b)[1] - 8) if b else math.inf


def main():
    golden = read_safetensors(sys.argv[2])
    if sys.argv[1] == "ids":
        (rows, length), ids = golden["input_ids"]
        for row in range(rows):
            print(json.dumps({"input_ids": ids[row * length : (row + 1) * length]}))
        return
    stats = {}
    for path in sys.argv[3:]:
        stats.update(read_safetensors(path))
    config = json.load(open(sys.argv[2].replace("golden.safetensors", "config.json"), encoding="utf-8"))
    stats["turned"] = config.get("qk_rope_head_dim", 0)
    names = [name for name in golden if name.endswith("_amax")]
    wrong, missing = [], []
    for name in names:
        ours, theirs = observed(stats, name), golden[name][1]
        if ours is None or len(ours) != len(theirs):
            missing.append(name)
        elif max(units(a, b) for a, b in zip(ours, theirs)) > UNITS:
            wrong.append("%s: %s, not %s" % (name, ours, list(theirs)))
    if not names:
        sys.exit("no amax in " + sys.argv[2])
    if wrong or missing:
        sys.exit("\n".join(wrong + [name + ": not observed" for name in missing]))
    print("%d ranges" % len(names))


main()
