#!/bin/sh
# SPDX-License-Identifier: MIT
# The attention of every architecture: the ranges of q, k and v of each head that calibration sees, and with latent attention
# those of the cache, are those that Transformers' run on the same tokens saw (amax in golden.safetensors). One row a model.
. "$(dirname "$0")/tap.sh"
opt=$QC_BIN/qc-opt amax="python3 $QC_SOURCE_ROOT/tests/tools/attention_amax.py"

# observe MODEL PASS STATS: calibrates on the tokens of the golden.
observe() {
    run 0 "$opt" --force --pass="$2" "$1" --calib="$work/ids.jsonl" --save-stats="$3" -o "$work/model.qc"
}

# ranges MODEL
ranges() {
    name=$(basename "$1")
    $amax ids "$1/golden.safetensors" >"$work/ids.jsonl" || exit 1
    rm -f "$work"/*.safetensors
    if ! observe "$1" 'quant-fp8-attn{granularity=head}' "$work/heads.safetensors"; then
        not_ok "$name" "exit $got" "$(head -n 3 "$work/err")"
        return
    fi
    if grep -q kv_lora_rank "$1/config.json" && ! observe "$1" quant-kv "$work/latent.safetensors"; then
        not_ok "$name" "exit $got" "$(head -n 3 "$work/err")"
        return
    fi
    check "$name" $amax compare "$1/golden.safetensors" "$work"/*.safetensors
}

found=0
for m in "$data"/models/*/; do
    m=${m%/}
    if grep -qs _amax "$m/golden.safetensors"; then
        ranges "$m"
        found=1
    fi
done
[ $found -eq 1 ] || skip "models with goldens" "QC_DATA has none"
finish
