#!/bin/sh
# SPDX-License-Identifier: MIT
# Quantized attention from end to end: what calibration makes of random tokens, of data and of none, for every form.
. "$(dirname "$0")/tap.sh"
opt=$QC_BIN/qc-opt
small=$QC_SOURCE_ROOT/tests/data/small_models/qwen3 # heads of 16 columns

# ---- scales are those of the tokens that were seen --------------------------------------------------------------------
# scales PASS TYPE GRANULARITY [WHAT...]
scales() {
    pipeline=$1
    shift
    passes "$pipeline of random tokens" "$opt" --force --pipeline="$pipeline" "$small" --calib=random --calib-samples=3 \
        --calib-seqlen=24 --save-stats="$work/stats.safetensors" -o "$work/model.qc"
    check "has scales of exactly those tokens" python3 "$QC_SOURCE_ROOT/tests/tools/attention_scales.py" "$work/model.qc" \
        "$work/stats.safetensors" "$@"
}
scales 'quant-fp8-attn' e4m3 tensor
scales 'quant-fp8-attn{granularity=head}' e4m3 head
scales 'quant-fp8-attn{type=e5m2, granularity=head, headroom=1.5}' e5m2 head headroom=1.5
scales 'quant-kv{granularity=head, center_k=true}' e4m3 head center
scales 'quant-int8-attn{headroom=1.1}' int8 tensor headroom=1.1
scales 'quant-int8-attn{granularity=channel}' int8 channel
scales 'quant-int8-attn{type=int4, granularity=channel, center_k=true}' int4 channel center
scales 'quant-kv{type=int4}' int4 tensor
scales 'quant-nvfp4-attn' nvfp4 tensor
scales 'quant-kv{type=nvfp4, center_k=true, headroom=2}' nvfp4 tensor center headroom=2
scales 'fold-r3,quant-nvfp4-attn' nvfp4 tensor rotated
scales 'fold-r3,quant-int8-attn{granularity=channel, center_k=true}' int8 channel center rotated
run 0 "$opt" --pass='quant-fp8-attn' "$small" --calib=random --calib-samples=3 --calib-seqlen=24 --seed=7 -o "$work/seed.qc"
"$opt" --force --pass='quant-fp8-attn' "$small" --calib=random --calib-samples=3 --calib-seqlen=24 -o "$work/model.qc" 2>/dev/null
check "other tokens give other scales" sh -c "! cmp -s '$work/seed.qc' '$work/model.qc'"

# ---- every form runs, with data and without ---------------------------------------------------------------------------
echo '{"input_ids": [1, 7, 30, 20, 9, 9, 41, 5, 63, 3]}' >"$work/ids.jsonl"
# ones PASS: every scale is 1.0 without data, and what comes of it runs
ones() {
    passes "$1 without data" "$opt" --force --pass="$1" "$small" --calib=none -o "$work/none.qc"
    check "has scales of 1.0 alone" python3 -c '
import re, sys
names = re.findall(r"%[qkv]_(?:scale|global)(?:\.\d+)? = const \[([^]]*)\]", open(sys.argv[1]).read())
sys.exit(any(float(x) != 1.0 for n in names for x in n.split(",")) or "observe " in open(sys.argv[1]).read())' "$work/none.qc"
    passes "and runs" "$QC_BIN/qc-run" perplexity "$work/none.qc" --data="$work/ids.jsonl"
}
ones 'quant-fp8-attn{granularity=head, probs=e4m3}'
ones 'quant-fp8-attn{granularity=token, probs=int8}'
ones 'quant-int8-attn{granularity=channel, center_k=true}'
ones 'quant-int8-attn{type=int4, granularity=token}'
ones 'quant-nvfp4-attn{search=mse, center_k=true}'
ones 'quant-kv{type=nvfp4, search=four_six}'
ones 'quant-kv{type=e5m2, search=mse}'
ones 'quant-kv{observer=percentile}'

# ---- kernels and reference semantics compute the same ------------------------------------------------------------------
# The perplexities of a model that rounds to bf16 differ where a sum falls on the other side of a tie.
same() {
    "$opt" --force --pipeline="$1" "$small" --calib=random --calib-samples=2 --calib-seqlen=16 -o "$work/same.qc" 2>/dev/null
    for backend in host reference; do
        "$QC_BIN/qc-run" perplexity "$work/same.qc" --backend=$backend --data="$work/ids.jsonl" 2>&1 | awk '/^perplexity/ {print $2}'
    done >"$work/both.txt"
    check "$1: host and reference agree" awk '{x[NR] = $1} END {exit !(NR == 2 && x[1] > 1 && x[1] < 1.005 * x[2] && x[2] < 1.005 * x[1])}' \
        "$work/both.txt"
}
same 'quant-fp8-attn{granularity=token, type=e5m2}'
same 'quant-fp8-attn{granularity=head, probs=e4m3}'
same 'quant-fp8-attn{probs=e5m2, center_k=true}'
same 'quant-int8-attn{granularity=channel, probs=int8}'
same 'quant-int8-attn{granularity=head, search=mse}'
same 'quant-int8-attn{type=int4, granularity=channel, center_k=true}'
same 'quant-int8-attn{type=int4, granularity=token}'
same 'quant-nvfp4-attn'
same 'fold-r3,quant-nvfp4-attn{search=mse, center_k=true}'
same 'quant-nvfp4-attn{search=four_six}'
same 'quant-kv{type=nvfp4}'
same 'quant-kv{type=int4, granularity=head}'

# ---- statistics are taken once -----------------------------------------------------------------------------------------
passes "statistics of attention" "$opt" --force --pass='quant-fp8-attn{granularity=head}' "$small" --calib=random --calib-samples=2 \
    --calib-seqlen=16 --save-stats="$work/once.safetensors" -o "$work/a.qc"
for pass in 'quant-int8-attn{granularity=channel}' 'quant-nvfp4-attn' 'quant-kv{type=int4, headroom=2}'; do
    passes "serve $pass" "$opt" --force --pass="$pass" "$small" --stats="$work/once.safetensors" -o "$work/b.qc"
    "$opt" --force --pass="$pass" "$small" --calib=random --calib-samples=2 --calib-seqlen=16 -o "$work/c.qc" 2>/dev/null
    check "as a calibration of its own does" cmp "$work/b.qc" "$work/c.qc"
done
fails "searched ranges are not among them" 1 "there are no statistics of it" "$opt" --force --pass='quant-fp8-attn{search=mse}' "$small" \
    --stats="$work/once.safetensors" -o "$work/b.qc"
fails "nor is a mean" 1 "there are no statistics of it" "$opt" --force --pass='quant-fp8-attn{center_k=true}' "$small" \
    --stats="$work/once.safetensors" -o "$work/b.qc"

# ---- checkpoints say what they can -------------------------------------------------------------------------------------
# stored PASS [--allow=RULE]: a checkpoint computes what the IR does
random="--calib=random --calib-samples=2 --calib-seqlen=16"
stored() {
    pass=$1
    shift
    # shellcheck disable=SC2086
    passes "a checkpoint of $pass" "$opt" --force --pass="$pass" "$@" "$small" $random -o "$work/stored"
    # shellcheck disable=SC2086
    "$opt" --force --pass="$pass" "$small" $random -o "$work/stored.qc" 2>/dev/null
    for form in stored stored.qc; do
        "$QC_BIN/qc-run" perplexity "$work/$form" --data="$work/ids.jsonl" 2>&1 | grep '^perplexity' >"$work/$form.txt"
    done
    check "computes what the IR does" sh -c "test -s '$work/stored.txt' && cmp '$work/stored.txt' '$work/stored.qc.txt'"
}
stored 'quant-nvfp4-attn{headroom=1.5}' --allow=nvfp4-attention
stored 'quant-nvfp4-attn{search=four_six}' --allow=nvfp4-attention
stored 'quant-kv{type=nvfp4, search=mse}' --allow=nvfp4-attention
stored 'quant-kv{type=nvfp4}' --allow=nvfp4-attention
stored 'quant-int8-attn{type=int4, granularity=head}'
stored 'quant-int8-attn{granularity=channel, center_k=true}' --allow=attention-scales --allow=center-k
stored 'quant-fp8-attn{granularity=token}' --allow=attention-scales
stored 'quant-kv{search=mse, headroom=1.25}'
stored 'quant-fp8-attn{observer=percentile, observer_args={percentile=99}}'
refuse() {
    # shellcheck disable=SC2086
    fails "$1 in a checkpoint" 1 "$2" "$opt" --force --pass="$1" --allow=nvfp4-attention "$small" $random -o "$work/x"
}
refuse 'quant-fp8-attn{probs=e4m3}' "model.layers.0.self_attn: probs: compressed-tensors has no word for quantized probabilities"
refuse 'quant-kv{type=e5m2}' "stores no f8e5m2"

# ---- bad input ---------------------------------------------------------------------------------------------------------
fails "NVFP4 with heads of 8 columns" 1 "model.layers.0.self_attn: quant-nvfp4-attn: q has heads of bf16[B, 8, S, 8]" "$opt" \
    --pass=quant-nvfp4-attn "$model" --calib=random -o "$work/x.qc"
fails "scales a channel of floats" 1 "granularity channel is for integers, not f8e4m3" "$opt" --pass='quant-kv{granularity=channel}' \
    "$model" --calib=random -o "$work/x.qc"
fails "probabilities of a KV cache" 2 "unknown option 'probs'" "$opt" --pass='quant-kv{probs=e4m3}' "$model"
fails "a rotation behind codes" 1 "the rotation must come before the quantizing passes" "$opt" --pipeline='quant-kv,fold-r3' "$model"
finish
