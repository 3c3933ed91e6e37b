#!/bin/sh
# SPDX-License-Identifier: MIT
# qc-check --stats and --html on the model in the tree: numbers against the statistics file itself, pages, bad input.
. "$(dirname "$0")/tap.sh"
here=$(cd "$(dirname "$0")" && pwd)
check=$QC_BIN/qc-check qc_opt=$QC_BIN/qc-opt
head -n 12 "$model/calib.jsonl" >"$work/calib.jsonl"
stats=$work/stats.safetensors
"$qc_opt" --pass=quant-fp8-attn "$model" --calib="$work/calib.jsonl" --collect=amax@R3 --save-stats="$stats" -o "$work/ir.qc" 2>"$work/err"

passes "statistics explained, as JSON" "$check" --stats="$stats" --json
cp "$work/out" "$work/json"
cat >"$work/numbers.py" <<'PYTHON'
import json, struct, sys
from array import array
data = open(sys.argv[1], "rb").read()
size = struct.unpack("<Q", data[:8])[0]
header = json.loads(data[8:8 + size])
def tensor(name):
    e = header[name]
    assert e["dtype"] == "F32", name
    return e["shape"], array("f", data[8 + size + e["data_offsets"][0]:8 + size + e["data_offsets"][1]])
report = json.load(open(sys.argv[2]))
assert list(report) == ["stats", "sequences", "rotated", "layers", "recommended"], list(report)
assert report["sequences"] == 12 and report["rotated"] is True
assert [l["module"] for l in report["layers"]] == [f"model.layers.{i}.self_attn" for i in range(5)]
def check(got, amax_key, ratio_key, spread_key, tap):
    (sequences, heads), low = tensor(tap + ".min")
    _, high = tensor(tap + ".max")
    _, clow = tensor(tap + ".channel_min")
    _, chigh = tensor(tap + ".channel_max")
    amax = [max(max(abs(low[s * heads + h]), abs(high[s * heads + h])) for s in range(sequences)) for h in range(heads)]
    assert got[amax_key] == amax, tap
    d = len(clow) // heads
    for h in range(heads):
        c = sorted(max(abs(clow[h * d + i]), abs(chigh[h * d + i])) for i in range(d))
        assert c[-1] == amax[h], tap
        assert abs(got[ratio_key][h] - c[-1] / ((c[d // 2 - 1] + c[d // 2]) / 2)) < 1e-9, tap
    assert abs(got[spread_key] - max(amax) / min(amax)) < 1e-9
    return heads, d
for layer in report["layers"]:
    for part in "qkv":
        got = layer[part]
        assert check(got, "amax", "outlier_ratio", "head_spread", f"{layer['module']}.{part}") == (got["heads"], got["head_dim"])
        assert (got["heads"], got["head_dim"]) == ((8, 8) if part == "q" else (4, 8))
        assert ("amax_r3" in got) == (part != "v")
        if part != "v":
            check(got, "amax_r3", "outlier_ratio_r3", "head_spread_r3", f"{layer['module']}.{part}@R3")
    assert [r["type"] for r in layer["recommended"]] == ["fp8", "int8", "nvfp4"]
fp8, int8, nvfp4 = report["recommended"]
assert fp8["pipeline"] == "quant-fp8-attn{granularity=tensor}" and 1 < fp8["value"] < fp8["threshold"] == 5272
assert int8["possible"] and int8["pipeline"].endswith("quant-int8-attn{granularity=%s}" % int8["granularity"])
assert not nvfp4["possible"] and nvfp4["pipeline"] is None and "16" in nvfp4["rule"]
PYTHON
check "the numbers are those of the file" python3 "$work/numbers.py" "$stats" "$work/json"
passes "statistics explained, as text" "$check" --stats="$stats"
check "a line a head" test "$(grep -cE '^model.layers.[0-4].self_attn +[qkv] +[0-7] +[0-9.]+ +[0-9.]+ +([0-9.]+|-) +([0-9.]+|-)$' "$work/out")" -eq 80
check "a line a part" test "$(grep -cE '^model.layers.[0-4].self_attn +[qkv] +[48] +[0-9.]+ +[0-9.]+ +[0-9.]+ +([0-9.]+|-) +([0-9.]+|-)$' "$work/out")" -eq 15
check "three recommendations with their reason" test "$(grep -cE '^(fp8 +quant-fp8-attn.*the limit is 5272|int8 +.*quant-int8-attn.*recommended from|nvfp4 +not possible: groups of 16)' "$work/out")" -eq 3
passes "statistics explained, as a page" "$check" --stats="$stats" --html="$work/stats.html"
check "nothing else is printed" test ! -s "$work/out"
check "the page stands alone" python3 "$here/check_page.py" "$work/stats.html" "amax of k by layer and head, under R3" "5272"
check "plots: outliers, and a map of each" test "$(grep -c '<svg' "$work/stats.html")" -eq 6
"$qc_opt" --pass=quant-kv "$model" --calib="$work/calib.jsonl" --save-stats="$work/kv.safetensors" -o "$work/kv.qc" 2>"$work/err"
passes "keys and values alone, nothing under R3" "$check" --stats="$work/kv.safetensors"
check "which is said" grep -q "nothing under R3 (qc-opt --collect=amax@R3)" "$work/out"

"$qc_opt" --scheme=FP8 --ignore=lm_head "$model" --calib="$work/calib.jsonl" --save-stats="$work/linear.safetensors" -o "$work/fp8" 2>"$work/err"
fails "statistics without attention" 1 "holds no statistics of q, k or v of attention" "$check" --stats="$work/linear.safetensors"
check "how to get some" grep -q "note: .*--collect=amax@R3 --save-stats=FILE" "$work/err"
"$qc_opt" --pass=fold-r3 --pass=quant-fp8-attn "$model" --calib="$work/calib.jsonl" --save-stats="$work/r3.safetensors" -o "$work/r3.qc" 2>"$work/err"
fails "statistics under R3 alone" 1 "was observed under R3 alone" "$check" --stats="$work/r3.safetensors"
fails "no statistics" 1 "no.safetensors" "$check" --stats="$work/no.safetensors"
fails "a file of another kind" 1 "model.safetensors" "$check" --stats="$model/model.safetensors"
fails "a checkpoint beside statistics" 2 "takes no checkpoint" "$check" --stats="$stats" "$model"
fails "two questions" 2 "--stats and --baseline are two questions" "$check" --stats="$stats" --baseline="$model"
fails "a page that cannot be written" 1 "nowhere" "$check" --stats="$stats" --html="$work/nowhere/x.html"

passes "a listing as a page" "$check" "$work/fp8" --target=vllm --html="$work/list.html"
check "it stands alone" python3 "$here/check_page.py" "$work/list.html" "model.layers.4.mlp.down_proj.weight_scale" "float-quantized" "bytes by element type"
passes "errors of weights as a page" "$check" "$work/fp8" --baseline="$model" --html="$work/errors.html"
check "it stands alone, too" python3 "$here/check_page.py" "$work/errors.html" "relative error of the worst weights" "f8e4m3 tensor"
passes "a page and JSON" "$check" "$work/fp8" --baseline="$model" --html="$work/errors.html" --json
check "both" python3 -c 'import json, sys; assert json.load(open(sys.argv[1]))["summary"]["quantized"] == 35' "$work/out"
fails "no page of differences" 2 "--html does not go with --diff" "$check" --diff "$work/fp8" "$model" --html="$work/x.html"
finish
