#!/bin/sh
# SPDX-License-Identifier: MIT
# Calibration of experts from the command line: the tokens that each sees, what is said of them, what those get that saw too
# few, counts in kept statistics and what qc-check says of them, bad input.
. "$(dirname "$0")/tap.sh"
here=$(cd "$(dirname "$0")" && pwd)
check=$QC_BIN/qc-check opt=$QC_BIN/qc-opt
moe=$QC_SOURCE_ROOT/tests/data/moe_models/qwen3_moe
fp8="--scheme=FP8 --ignore=lm_head"

passes "all tokens through all experts" "$opt" $fp8 "$moe" --calib=random --calib-samples=5 --calib-seqlen=30 --save-stats="$work/all.stats" -o "$work/all"
check "a line a layer" test "$(grep -cE 'model\.layers\.[0-9]\.mlp\.experts: [0-9]+ experts, chosen by [0-9.]+ tokens each on average, from [0-9]+ \(expert [0-9]+\) to [0-9]+ \(expert [0-9]+\)' "$work/err")" -ge 1
check "what it will cost" grep -qxE 'qc-opt: every token goes through every expert: 2\.7 times the routed products \(--moe-calib=routed runs those alone\)' "$work/err"
check "and what it did" grep -qE 'experts took [0-9.]+ s, [0-9]+ % of the calibration: 2400 rows, 900 of them routed' "$work/err"
for threads in 1 3; do
    passes "with --threads=$threads" "$opt" $fp8 "$moe" --threads=$threads --calib=random --calib-samples=5 --calib-seqlen=30 -o "$work/t$threads"
    check "the same bytes" diff -r "$work/all" "$work/t$threads"
done
passes "kept statistics in place of data" "$opt" $fp8 "$moe" --stats="$work/all.stats" -o "$work/again"
check "the same bytes" diff -r "$work/all" "$work/again"
passes "what it holds" "$check" "$work/all"
check "a line for the experts of a layer" grep -qE '^model\.layers\.1\.mlp\.experts\.\{0-[0-9]+\}\.up_proj\.weight +F8_E4M3 +[0-9]+ x \[[0-9]+, [0-9]+\] +[0-9]+$' "$work/out"
check "and none for one of them" sh -c "! grep -q 'experts\.0\.' '$work/out'"
passes "as a page" "$check" "$work/all" --html="$work/all.html"
check "with these lines" python3 "$here/check_page.py" "$work/all.html" 'experts.{0-' "Tensors"
passes "expert by expert" "$check" "$work/all" --every-expert
check "a line each" grep -qE '^model\.layers\.1\.mlp\.experts\.0\.up_proj\.weight +F8_E4M3 +\[' "$work/out"
passes "errors of the weights" "$check" "$work/all" --baseline="$moe"
check "are those of the worst expert of a layer" grep -qE 'model\.layers\.1\.mlp\.experts\.[0-9]+\.up_proj\.weight \(the worst of [0-9]+ experts; the best: 0\.[0-9]+\)$' "$work/out"
passes "as a page" "$check" "$work/all" --baseline="$moe" --html="$work/errors.html"
check "too" python3 "$here/check_page.py" "$work/errors.html" "(the worst of" "Weights"
passes "expert by expert" "$check" "$work/all" --baseline="$moe" --every-expert
check "a line each" test "$(grep -cE 'model\.layers\.1\.mlp\.experts\.[0-9]+\.up_proj\.weight$' "$work/out")" -gt 1
passes "routed tokens alone" "$opt" $fp8 "$moe" --calib=random --calib-samples=20 --calib-seqlen=30 --moe-calib=routed --save-stats="$work/routed.stats" -o "$work/routed"
check "it says so" grep -qE 'experts took .*: the [0-9]+ rows routed to them' "$work/err"
check "and nothing of all tokens" sh -c "! grep -q 'every token' '$work/err'"
passes "all of the same data" "$opt" $fp8 "$moe" --calib=random --calib-samples=20 --calib-seqlen=30 --save-stats="$work/full.stats" -o "$work/full"
check "has other scales" sh -c "! cmp -s '$work/full/model.safetensors' '$work/routed/model.safetensors'"
fails "statistics of the others" 1 "there are no statistics of it" "$opt" $fp8 "$moe" --stats="$work/all.stats" --moe-calib=routed -o "$work/none"
check "says which they are" grep -q 'note: these statistics were made with --moe-calib=all: give it here, too' "$work/err"
fails "and the other way round" 1 "there are no statistics of it" "$opt" $fp8 "$moe" --stats="$work/routed.stats" -o "$work/none"
check "says so, too" grep -q 'note: these statistics were made with --moe-calib=routed: ' "$work/err"

few="--calib=random --calib-samples=1 --calib-seqlen=2"
fails "experts that saw nothing" 1 "experts saw fewer than 1 token: " "$opt" $fp8 "$moe" $few --moe-calib=routed -o "$work/none"
check "what helps is said" grep -q 'note: --moe-calib=all .*routed{fallback=layer}.*routed{fallback=weights}' "$work/err"
check "nothing is written" test ! -e "$work/none"
fails "experts that saw nothing, statistics kept" 1 "experts saw fewer than 1 token: " "$opt" $fp8 "$moe" $few --moe-calib=routed --save-stats="$work/few.stats" -o "$work/none"
passes "which serve with a fallback" "$opt" $fp8 "$moe" --stats="$work/few.stats" '--moe-calib=routed{fallback=layer}' -o "$work/kept"
for fallback in layer weights; do
    passes "the range of the $fallback" "$opt" $fp8 "$moe" $few "--moe-calib=routed{fallback=$fallback}" -o "$work/$fallback"
    check "which is said" grep -qE 'warning: model\.layers\.[0-9]\.mlp\.experts: [0-9]+ of [0-9]+ experts saw fewer than 1 token and get the range of (the others|their weights): [0-9]+ \(0 tokens\)' "$work/err"
done
check "they differ" sh -c "! cmp -s '$work/layer/model.safetensors' '$work/weights/model.safetensors'"
fails "a number that no expert reaches" 1 "saw 100 tokens, so there is no range" "$opt" $fp8 "$moe" $few "--moe-calib=routed{min_tokens=100,fallback=layer}" -o "$work/none"

passes "counts as text" "$check" --stats="$work/routed.stats"
check "a line a layer" grep -qE '^model\.layers\.1\.mlp\.experts +[0-9]+ +[0-9.]+ +[0-9]+: [0-9]+ +[0-9]+: [0-9]+ +(-|[0-9, ]+)$' "$work/out"
passes "as JSON" "$check" --stats="$work/full.stats" --json
cp "$work/out" "$work/json"
cat >"$work/counts.py" <<'PYTHON'
import json, sys
report = json.load(open(sys.argv[1]))
assert report["layers"] == [] and report["recommended"] == []
for layer in report["experts"]:
    routed, seen = layer["routed_tokens"], layer["seen_tokens"]
    assert len(routed) == len(seen) == layer["experts"]
    assert sum(routed) == 3 * 600 and seen == [600] * layer["experts"], (routed, seen)
    assert layer["mean_tokens"] == sum(routed) / len(routed)
    assert routed[layer["least_chosen"]] == min(routed) and routed[layer["most_chosen"]] == max(routed)
    assert layer["never_chosen"] == routed.count(0)
assert len({l["module"] for l in report["experts"]}) == len(report["experts"]) > 0
PYTHON
check "whose numbers go together" python3 "$work/counts.py" "$work/json"
passes "as a page" "$check" --stats="$work/routed.stats" --html="$work/stats.html"
check "which stands alone" python3 "$here/check_page.py" "$work/stats.html" "Tokens of experts" "model.layers.1.mlp.experts"
passes "attention alone" "$opt" --pass=quant-fp8-attn "$moe" --calib=random --calib-samples=2 --calib-seqlen=30 --save-stats="$work/attention.stats" -o "$work/attention.qc"
check "asks for no words about experts" sh -c "! grep -q 'chosen by' '$work/err'"
passes "their tokens are kept" "$check" --stats="$work/attention.stats"
check "all the same" grep -qE '^model\.layers\.1\.mlp\.experts ' "$work/out"
passes "beside attention" "$opt" $fp8 --pass=quant-fp8-attn "$moe" --calib=random --calib-samples=2 --calib-seqlen=30 --save-stats="$work/both.stats" -o "$work/both.qc"
passes "both are explained" "$check" --stats="$work/both.stats"
check "experts" grep -qE '^model\.layers\.1\.mlp\.experts ' "$work/out"
check "and heads" grep -qE '^model\.layers\.0\.self_attn +q ' "$work/out"

passes "experts of a layer left alone" "$opt" --scheme=FP8_DYNAMIC --ignore=lm_head '--disable=re:.*layers.1.mlp.experts' "$moe" -o "$work/alone"
check "they can be named" sh -c "! grep -q 'names no module' '$work/err'"
passes "experts in one tensor left alone" "$opt" --scheme=FP8_DYNAMIC --ignore=lm_head '--disable=re:.*layers.1.feed_forward.experts' "$QC_SOURCE_ROOT/tests/data/moe_models/llama4" -o "$work/fused"
check "too" sh -c "! grep -q 'names no module' '$work/err'"
passes "a name that no expert has" "$opt" --scheme=FP8_DYNAMIC --ignore=lm_head '--disable=re:.*experts.*w2' "$moe" -o "$work/nobody"
check "is said to name none" grep -q "warning: --disable: 're:.*experts.*w2' names no module" "$work/err"
fails "no such way" 2 "--moe-calib=some: all or routed" "$opt" $fp8 "$moe" --calib=random --moe-calib=some -o "$work/none"
fails "braces that do not end" 2 "all or routed, and in braces" "$opt" $fp8 "$moe" --calib=random '--moe-calib=routed{fallback=layer' -o "$work/none"
fails "a number that is none" 2 "option 'min_tokens' is an integer" "$opt" $fp8 "$moe" --calib=random '--moe-calib=routed{min_tokens=x}' -o "$work/none"
fails "no such fallback" 2 "fallback" "$opt" $fp8 "$moe" --calib=random '--moe-calib=routed{fallback=none}' -o "$work/none"
fails "without data" 2 "--moe-calib does nothing without" "$opt" $fp8 "$moe" --moe-calib=all -o "$work/none"
fails "said twice" 1 "has calibrate-all-experts already" "$opt" --pass=calibrate-all-experts $fp8 "$moe" --calib=random --moe-calib=all -o "$work/none"
passes "a model without experts" "$opt" $fp8 "$model" --calib=random --calib-samples=1 --calib-seqlen=9 --moe-calib=all -o "$work/dense"
check "is no error" grep -q 'warning: --moe-calib: the model has no experts' "$work/err"

# The experts of these lie in one tensor, gate before up and by turns: each must be compared with its own part.
for arch in llama4 gpt_oss; do
    fused=$QC_SOURCE_ROOT/tests/data/moe_models/$arch
    passes "$arch in FP8" "$opt" --scheme=FP8_DYNAMIC --ignore=lm_head "$fused" -o "$work/$arch"
    passes "beside its source" "$check" "$work/$arch" --baseline="$fused"
    check "the worst expert is off by the rounding of FP8" awk 'NR == 2 { exit !($1 > 0.01 && $1 < 0.05) }' "$work/out"
done
finish
