#!/bin/sh
# SPDX-License-Identifier: MIT
# qc-run compare on the model in the tree: its numbers against those of a checkpoint that qc-opt writes, the forms of its
# report, and bad input.
. "$(dirname "$0")/tap.sh"
here=$(cd "$(dirname "$0")" && pwd)
qc_run=$QC_BIN/qc-run qc_opt=$QC_BIN/qc-opt
head -c 6000 "$model/eval.txt" >"$work/eval.txt"
head -n 12 "$model/calib.jsonl" >"$work/calib.jsonl"
on="--calib=$work/calib.jsonl --data=$work/eval.txt --context=128"

# value LABEL KEY: of the row in $work/json.
value() {
    python3 -c 'import json, sys
rows = {r["label"]: r for r in json.load(open(sys.argv[1]))["rows"]}
print(rows[sys.argv[2]][sys.argv[3]])' "$work/json" "$1" "$2"
}

# near A B TOLERANCE (relative)
near() {
    awk -v a="$1" -v b="$2" -v t="$3" 'BEGIN { d = a - b; if (d < 0) d = -d; exit !(a != "" && b != "" && d <= t * (b < 0 ? -b : b)) }'
}

same() {
    [ -n "$1" ] && [ "$1" = "$2" ]
}

# ---- numbers

recipes='fp8=quant-fp8-attn,heads=quant-fp8-attn{granularity=head},kv=quant-kv,ones=quant-fp8-attn+resolve-observers{missing=one},r3=fold-r3,r3 fp8=fold-r3+quant-fp8-attn,FP8_DYNAMIC,all=fold-r1+FP8+quant-kv,token=quant-kv{granularity=token}'
passes "compare: nine recipes" "$qc_run" compare "$model" --recipes="$recipes" $on --json --against=fp8 --html="$work/report.html"
cp "$work/out" "$work/json"
cp "$work/err" "$work/said"
check "calibrated together, and what changes the graph apart" test "$(grep -c 'calibrating' "$work/said")" -eq 2
cat >"$work/schema.py" <<'PYTHON'
import json, math, sys
report = json.load(open(sys.argv[1]))
kinds = {"command": str, "version": str, "model": str, "data": str, "context": int, "sequences": int, "tokens": int, "calib": str,
         "stats": type(None), "calib_sequences": int, "calib_tokens": int, "calibrations": int, "qk_sequences": int, "against": str,
         "rows": list}
assert list(report) == list(kinds), list(report)
for key, kind in kinds.items():
    assert type(report[key]) is kind, key
assert report["calibrations"] == 2 and report["calib_sequences"] == 12 and report["qk_sequences"] > 1
row_kinds = {"label": str, "recipe": str, "pipeline": str, "statistics": str, "kv_bytes_per_token": int, "qk_error_by_layer": list}
means = ["perplexity", "nll", "kl_divergence", "kl_divergence_q999", "top1_agreement", "qk_error"]
assert [r["label"] for r in report["rows"]] == ["baseline", "fp8", "heads", "kv", "ones", "r3", "r3 fp8", "FP8_DYNAMIC", "all", "token"]
for i, row in enumerate(report["rows"]):
    for key, kind in row_kinds.items():
        assert type(row[key]) is kind, (row["label"], key)
    for key in means + (["kl_divergence_difference"] if i else []):
        assert math.isfinite(row[key]) and (row[key + "_stderr"] is None or row[key + "_stderr"] >= 0), (row["label"], key)
    assert row["kl_divergence_max"] >= row["kl_divergence_q999"] >= 0
    coded = "attn" in row["recipe"] or "quant-kv" in row["recipe"]
    assert (row["qk_error"] > 1e-5) == coded and len(row["qk_error_by_layer"]) == (5 if coded else 0), row["label"]
    if coded:
        assert abs(sum(row["qk_error_by_layer"]) / 5 - row["qk_error"]) < 1e-9
    assert i == 0 or (row["kl_divergence"] > 0 and row["kl_divergence_stderr"] > 0), row["label"]
by = {r["label"]: r for r in report["rows"]}
assert [by[n]["statistics"] for n in ("fp8", "ones", "r3 fp8", "all", "token")] == ["together", "none", "together", "apart", "none"]
assert by["fp8"]["kl_divergence_difference"] == 0
d = by["kv"]["kl_divergence_difference"]
assert abs(d - (by["kv"]["kl_divergence"] - by["fp8"]["kl_divergence"])) < 1e-9
# 5 layers, 4 heads of 8, k and v: 640 bytes in bf16, half of it as codes, f32 scales for each token and head beside them
assert [by[n]["kv_bytes_per_token"] for n in ("baseline", "fp8", "r3", "token")] == [640, 320, 640, 480]
assert by["baseline"]["kl_divergence"] == 0 and by["baseline"]["top1_agreement"] == 1
PYTHON
check "the JSON has its keys, and numbers that go together" python3 "$work/schema.py" "$work/json"
check "a page: well-formed, alone, with plots" python3 "$here/check_page.py" "$work/report.html" "r3 fp8" "Error of q.k by layer" \
    "quant-fp8-attn{granularity=head}" "qc-run compare" "+-"
check "plots of both kinds" test "$(grep -c '<svg' "$work/report.html")" -eq 2

"$qc_opt" --pass='quant-fp8-attn{granularity=head}' "$model" --calib="$work/calib.jsonl" -o "$work/heads" 2>"$work/err"
"$qc_run" perplexity "$work/heads" --baseline="$model" --data="$work/eval.txt" --context=128 --json >"$work/one" 2>>"$work/err"
one() {
    sed -n "s/.*\"$1\": \\([^,}]*\\).*/\\1/p" "$work/one"
}
check "perplexity is that of the checkpoint" same "$(value heads perplexity)" "$(one perplexity)"
check "divergence is that of the checkpoint" same "$(value heads kl_divergence)" "$(one kl_divergence)"
check "its quantile, too" same "$(value heads kl_divergence_q999)" "$(one kl_divergence_q999)"
check "agreement is that of the checkpoint" same "$(value heads top1_agreement)" "$(one top1_agreement)"
check "the baseline is the model" same "$(value baseline perplexity)" "$(one baseline_perplexity)"
check "a rotation alone moves little" awk -v a="$(value r3 kl_divergence)" -v b="$(value fp8 kl_divergence)" 'BEGIN { exit !(a > 0 && a < b / 10) }'
"$qc_opt" --pass=fold-r3 --pass=quant-fp8-attn "$model" --calib="$work/calib.jsonl" -o "$work/r3.qc" 2>"$work/err"
"$qc_run" perplexity "$work/r3.qc" --baseline="$model" --data="$work/eval.txt" --context=128 --json >"$work/one" 2>>"$work/err"
check "observed through a rotation or behind it: the same but for rounding" near "$(value 'r3 fp8' kl_divergence)" "$(one kl_divergence)" 0.15

passes "compare: again by one thread" "$qc_run" compare "$model" --recipes="$recipes" $on --json --against=fp8 --threads=1
check "the same numbers, and the command without what changes none" cmp "$work/out" "$work/json"

# ---- forms

passes "compare: lines for people" "$qc_run" compare "$model" --recipes='quant-kv' $on
check "a table" grep -q '^quant-kv  *[0-9.]* +- [0-9.]*  *[0-9.]* +- [0-9.]*  .*  320$' "$work/out"
check "what made it" grep -qF "command     qc-run compare $model --recipes=quant-kv" "$work/out"
check "what it was made of" grep -q "^data .*eval.txt: [0-9]* tokens scored in [0-9]* sequences of at most 128" "$work/out"
passes "compare: Markdown" "$qc_run" compare "$model" --recipes='k|v=quant-kv' $on --markdown --against=baseline
check "a table of as many columns in each row, whatever labels hold" awk -F'|' '{ gsub(/\\[|]/, "") } /^\|/ { rows++; if (NF != 10) exit 1 } END { exit rows != 4 }' "$work/out"
printf '# two\na=quant-kv\nb=fold-r3,quant-kv{type=int8, granularity=head}\n' >"$work/recipes.txt"
cat >"$work/recipe.yaml" <<'YAML'
quant_stage:
  quant_modifiers:
    QuantizationModifier:
      targets: ["Linear"]
      ignore: ["lm_head"]
      scheme: FP8_DYNAMIC
YAML
passes "compare: recipes of files, random tokens" "$qc_run" compare "$model" --recipes="@$work/recipes.txt,y=$work/recipe.yaml+quant-kv" \
    --calib=random --calib-samples=4 --calib-seqlen=32 --seed=3 --data="$work/eval.txt" --context=64 --json
cp "$work/out" "$work/json"
check "three of them" test "$(value y statistics)$(value a statistics)$(value b statistics)" = togethertogethertogether
passes "compare: scales of one" "$qc_run" compare "$model" --recipes='kv=quant-kv' --calib=none --data="$work/eval.txt" --context=64 --json
cp "$work/out" "$work/json"
check "no statistics" test "$(value kv statistics)" = none
"$qc_opt" --pass=quant-fp8-attn "$model" --calib="$work/calib.jsonl" --save-stats="$work/stats.safetensors" -o "$work/kept" 2>"$work/err"
passes "compare: kept statistics" "$qc_run" compare "$model" --recipes='quant-kv' --stats="$work/stats.safetensors" --data="$work/eval.txt" --context=128 --json
cp "$work/out" "$work/json"
kept=$(value quant-kv kl_divergence)
"$qc_run" compare "$model" --recipes='quant-kv' $on --json >"$work/json" 2>"$work/err"
check "they give what a calibration gives" same "$kept" "$(value quant-kv kl_divergence)"
passes "compare: no data where none is needed" "$qc_run" compare "$model" --recipes='FP8_DYNAMIC' --data="$work/eval.txt" --context=64
passes "compare: labels are escaped" "$qc_run" compare "$model" --recipes='<b>&"x"'"'"'=FP8_DYNAMIC' --data="$work/eval.txt" --context=64 --html="$work/escaped.html"
check "in the page" python3 "$here/check_page.py" "$work/escaped.html" '<b>&"x"'"'"

# ---- bad input

with="$qc_run compare $model --data=$work/eval.txt"
fails "no recipes" 2 "compare needs --recipes" "$qc_run" compare "$model" --data="$work/eval.txt"
fails "no data" 2 "compare needs --data" "$qc_run" compare "$model" --recipes=quant-kv
fails "an unknown pass" 1 "unknown pass 'quant-fp9-attn', nearest is 'quant-fp8-attn'" $with --recipes=quant-fp9-attn
check "the recipe is named" grep -q "note: in the recipe 'quant-fp9-attn'" "$work/err"
fails "an unknown option" 1 "unknown option 'granularty'" $with --recipes='a=quant-kv{granularty=head}'
fails "an open brace" 1 "left open" $with --recipes='quant-kv{granularity=head'
fails "two of a name" 1 "two recipes are called 'a'" $with --recipes='a=quant-kv,a=FP8'
fails "the baseline's name" 1 "'baseline' is that of the model" $with --recipes='baseline=quant-kv'
fails "static scales without data" 1 "static scales need statistics" $with --recipes='quant-kv'
fails "no such label" 1 "no recipe has the label 'c'" $with --recipes='a=FP8_DYNAMIC' --against=c
fails "a pass that fails" 1 "holds codes already" $with --recipes='a=quant-kv+fold-r3'
fails "statistics of another graph" 1 "statistics of the model do not serve it" $with --recipes='a=fold-r1+quant-kv' --stats="$work/stats.safetensors"
fails "statistics that lack a record" 1 "there are no statistics of it" $with --recipes='a=FP8' --stats="$work/stats.safetensors"
fails "data twice" 2 "--stats takes the place of --calib" $with --recipes=quant-kv --calib=random --stats=x
fails "samples of nothing" 2 "do nothing without calibration data" $with --recipes=FP8_DYNAMIC --calib-samples=3
fails "a seed of nothing" 2 "--seed does nothing" $with --recipes=FP8_DYNAMIC --seed=3
fails "two forms" 2 "give one of them" $with --recipes=FP8_DYNAMIC --json --markdown
fails "a page that cannot be written" 1 "nowhere" $with --recipes=FP8_DYNAMIC --html="$work/nowhere/x.html"
fails "a page over a folder" 1 "is a directory" $with --recipes=FP8_DYNAMIC --html="$work"
fails "a file without recipes" 1 "missing.txt" $with --recipes=@missing.txt
finish
