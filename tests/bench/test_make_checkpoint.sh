#!/bin/sh
# SPDX-License-Identifier: MIT
# The generator of big checkpoints, on a small one: it is a Llama that imports, of the size asked for, in the shards asked
# for, the same every time.
. "$(dirname "$0")/../tools/tap.sh"
make=$1
small="--hidden=256 --intermediate=512 --vocabulary=512"
passes "a checkpoint of 8 MiB" "$make" "$work/m" --size=8MiB --shards=3 $small
check "says what it is" grep -q "^7 layers, 66 tensors, [0-9]* bytes" "$work/out"
check "in three shards" test "$(ls "$work/m" | grep -c safetensors\$)" -eq 3
passes "imports" "$QC_BIN/qc-opt" --import=graph "$work/m"
passes "is quantized" "$QC_BIN/qc-opt" --scheme=FP8_DYNAMIC --ignore=lm_head "$work/m" -o "$work/out1"
run 0 "$make" "$work/again" --size=8MiB --shards=3 $small
check "the same bytes again" cmp "$work/m/model-00002-of-00003.safetensors" "$work/again/model-00002-of-00003.safetensors"
if run 1 "$make" "$work/m" $small; then ok "replaces nothing"; else not_ok "replaces nothing" "exit $got"; fi
if run 2 "$make" "$work/x" --hidden=100; then ok "sizes are checked"; else not_ok "sizes are checked" "exit $got"; fi
if run 2 "$make"; then ok "where to?"; else not_ok "where to?" "exit $got"; fi
finish
