#!/bin/sh
# SPDX-License-Identifier: MIT
# What calibration keeps and what scales are made of it: kinds of statistics, observers, --collect; and searched scales of
# NVFP4 weights.
. "$(dirname "$0")/tap.sh"
opt=$QC_BIN/qc-opt
calib=--calib=$model/calib.jsonl

# tensor FILE NAME: the bytes of a tensor of a statistics file, in hex.
tensor() {
    python3 -c 'import json, struct, sys
data = open(sys.argv[1], "rb").read()
size = struct.unpack("<Q", data[:8])[0]
first, last = json.loads(data[8 : 8 + size])[sys.argv[2]]["data_offsets"]
print(data[8 + size + first : 8 + size + last].hex())' "$1" "$2"
}
# scales FILE: the scales in IR text, those of all layers.
scales() {
    grep -o '[qkv]_scale[.0-9]* = const .*' "$1"
}

# ---- kinds of statistics ---------------------------------------------------------------------------------------------
kept="$work/kept.safetensors"
passes "ranges of heads, of columns, and under R3" "$opt" --pass=quant-int8-attn "$model" "$calib" --collect=amax@R3 --save-stats="$kept" -o "$work/int8.qc"
passes "R3 itself" "$opt" --pass=fold-r3 --pass=quant-int8-attn "$model" "$calib" --save-stats="$work/r3.safetensors" -o "$work/r3.qc"
for part in q k; do
    for end in min max channel_min channel_max; do
        name=model.layers.0.self_attn.$part@R3.$end
        check "$name is what R3 sees" test "$(tensor "$kept" "$name")" = "$(tensor "$work/r3.safetensors" "$name")"
    done
done
check "v is not rotated" sh -c "! grep -aq 'self_attn.v@R3' '$kept'"
passes "they serve R3" "$opt" --pass=fold-r3 --pass=quant-int8-attn "$model" --stats="$kept" -o "$work/r3-kept.qc"
passes "and scales a column" "$opt" --pass='quant-int8-attn{granularity=channel}' "$model" --stats="$kept" -o "$work/channel.qc"
passes "as they come of data" "$opt" --pass='quant-int8-attn{granularity=channel}' "$model" "$calib" --save-stats="$work/channel.stats" -o "$work/channel-data.qc"
check "to the byte" cmp "$work/channel.qc" "$work/channel-data.qc"
passes "one thread" "$opt" --threads=1 --pass='quant-int8-attn{granularity=channel, center_k}' "$model" "$calib" --save-stats="$work/one" -o "$work/one.qc"
passes "or three" "$opt" --threads=3 --pass='quant-int8-attn{granularity=channel, center_k}' "$model" "$calib" --save-stats="$work/three" -o "$work/three.qc"
check "give the same sums and ranges" cmp "$work/one" "$work/three"
check "of which there are means" grep -aq 'self_attn.k@mean.sums' "$work/one"
fails "a kind that nobody knows" 2 "what can be kept beside what schemes ask for is amax@R3" "$opt" --pass=quant-kv "$model" "$calib" --collect=hessian --save-stats="$work/x" -o "$work/x.qc"
fails "kinds to keep nowhere" 2 "--collect does nothing without --save-stats" "$opt" --pass=quant-kv "$model" "$calib" --collect=amax@R3 -o "$work/x.qc"

# ---- observers -------------------------------------------------------------------------------------------------------
passes "all of the values" "$opt" --pass='quant-int8-attn{granularity=head, observer=percentile, observer_args={percentile=100}}' "$model" "$calib" -o "$work/p100.qc"
passes "give the range of all values" "$opt" --pass='quant-int8-attn{granularity=head}' "$model" --stats="$kept" -o "$work/head.qc"
check "head by head" test "$(scales "$work/p100.qc")" = "$(scales "$work/head.qc")"
passes "so does the window of all" "$opt" --pass='quant-int8-attn{granularity=head, observer=recall_window, observer_args={recall=1.0}}' "$model" "$calib" -o "$work/w1.qc"
check "head by head" test "$(scales "$work/w1.qc")" = "$(scales "$work/head.qc")"
for observer in 'percentile, observer_args={percentile=99}' 'recall_window, observer_args={recall=0.98}' mse_mean; do
    passes "$observer" "$opt" --pass="quant-int8-attn{observer=$observer}" "$model" "$calib" --save-stats="$work/some" --force -o "$work/some.qc"
    passes "reads what it kept" "$opt" --pass="quant-int8-attn{observer=$observer}" "$model" --stats="$work/some" --force -o "$work/again.qc"
    check "and makes the same of it" cmp "$work/some.qc" "$work/again.qc"
    check "smaller scales than those of all values" python3 -c 'import re, sys
first, second = ([float(x) for x in re.findall(r"_scale[.0-9]* = const \[([0-9.e-]+)\]", open(f).read())] for f in sys.argv[1:])
sys.exit(not (len(first) == len(second) == 15 and all(a <= b for a, b in zip(first, second)) and sum(first) < sum(second)))' "$work/some.qc" "$work/int8.qc"
done
fails "another share is another statistic" 1 "there are no statistics of it" "$opt" --pass='quant-int8-attn{observer=percentile, observer_args={percentile=98}}' "$model" --stats="$work/some" -o "$work/x.qc"
fails "a share of more than all" 1 "percentile is a number from 0 (excluded) to 100" "$opt" --pass='quant-int8-attn{observer=percentile, observer_args={percentile=101}}' "$model" "$calib" -o "$work/x.qc"

# ---- searched scales of weights ---------------------------------------------------------------------------------------
rest='ignore=[lm_head, "re:.*down_proj"]'
passes "NVFP4" "$opt" --scheme=NVFP4A16 --ignore=lm_head --ignore='re:.*down_proj' "$model" -o "$work/nvfp4"
passes "and without a search" "$opt" --pass="quant-linear{scheme=NVFP4A16, search=none, $rest}" "$model" -o "$work/none"
check "are the same" "$QC_BIN/qc-check" --diff "$work/nvfp4" "$work/none"
for search in four_six mse; do
    passes "search=$search" "$opt" --pass="quant-linear{scheme=NVFP4A16, search=$search, $rest}" "$model" -o "$work/$search"
    passes "on one thread" "$opt" --threads=1 --pass="quant-linear{scheme=NVFP4A16, search=$search, $rest}" "$model" -o "$work/$search-1"
    check "to the byte" diff -r "$work/$search" "$work/$search-1"
    check "with the config of any NVFP4" cmp "$work/$search/config.json" "$work/nvfp4/config.json"
    passes "a checkpoint that vLLM reads" "$QC_BIN/qc-check" "$work/$search"
    passes "and qc-run" "$QC_BIN/qc-run" perplexity "$work/$search" --data="$model/eval.txt"
done
# error DIR: the relative error of all quantized weights together.
error() {
    "$QC_BIN/qc-check" "$1" --baseline="$model" 2>&1 | sed -n 's/.* relative error \([0-9.]*\) together.*/\1/p'
}
check "the search has the least error, then four or six" awk "BEGIN {exit !($(error "$work/mse") < 0.97 * $(error "$work/four_six") && $(error "$work/four_six") < 0.95 * $(error "$work/nvfp4"))}"
fails "FP8 has no local scales to search" 1 "search=four_six is for local scales under a global one (NVFP4)" "$opt" --pass='quant-linear{scheme=FP8_DYNAMIC, search=four_six}' "$model" -o "$work/x"
passes "but ranges" "$opt" --pass='quant-linear{weights={type=i4, granularity=group, group=32}, search=mse, targets="re:.*v_proj"}' "$model"
check "as memoryless_mse does" grep -q 'observer = memoryless_mse' "$work/out"
finish
