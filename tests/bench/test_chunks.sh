#!/bin/sh
# SPDX-License-Identifier: MIT
# Weights of several chunks: codes, scales and packed zero points of each must land in their place. The files are the same
# for one thread and for three, and no weight is further from its original than one chunk's worth of rounding: a misplaced
# scale or zero point would make the error near 1 or above.
. "$(dirname "$0")/../tools/tap.sh"
make=$1 # 4 MiB a weight, chunks are of 1 MiB
passes "a checkpoint of weights of 4 MiB" "$make" "$work/m" --size=24MiB --shards=2 --hidden=2048 --intermediate=1024 --vocabulary=512
for scheme in FP8_DYNAMIC FP8_BLOCK W8A8 W3A16 W4A16 W4A16_ASYM NVFP4A16 MXFP4A16 MXFP8A16; do
    rm -rf "$work/one" "$work/three"
    if ! run 0 "$QC_BIN/qc-opt" --scheme=$scheme --ignore=lm_head --threads=1 "$work/m" -o "$work/one" ||
        ! run 0 "$QC_BIN/qc-opt" --scheme=$scheme --ignore=lm_head --threads=3 "$work/m" -o "$work/three"; then
        not_ok "$scheme is written" "$(head -n 3 "$work/err")"
        continue
    fi
    check "$scheme: any number of threads" cmp "$work/one/model.safetensors" "$work/three/model.safetensors"
    run 0 "$QC_BIN/qc-check" "$work/three" --baseline="$work/m"
    worst=$(awk '/model\.layers/ { print $1; exit }' "$work/out")
    # 3 bits: a step is 2/7 of the range, the rounding of it some 0.2 of the values; all others are finer.
    check "$scheme: relative error ${worst:-none}" awk -v e="${worst:-9}" 'BEGIN { exit !(e > 0 && e < 0.35) }'
done
finish
