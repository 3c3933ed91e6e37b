#!/bin/sh
# SPDX-License-Identifier: MIT
# The generator of models with experts: whole models in their published shapes import, although their data are holes.
. "$(dirname "$0")/../tools/tap.sh"
make=$1
for model in llama4-scout:48 qwen3-30b-a3b:48 deepseek-v3:62 gpt-oss-20b:24; do
	shape=${model%:*}
	passes "$shape" "$make" "$work/$shape" --model="$shape" --holes
	check "says what it is" grep -q "^${model#*:} layers, [0-9]* tensors, [0-9]* bytes" "$work/out"
	check "takes no space" test "$(du -sm "$work/$shape" | cut -f1)" -lt 64
	passes "imports" "$QC_BIN/qc-opt" --import=graph "$work/$shape"
	check "with its experts" grep -q "expert_combine" "$work/out"
done
if run 2 "$make" "$work/x" --model=other; then ok "models are known ones"; else not_ok "models are known ones" "exit $got"; fi
if run 1 "$make" "$work/gpt-oss-20b" --model=gpt-oss-20b; then ok "replaces nothing"; else not_ok "replaces nothing" "exit $got"; fi
finish
