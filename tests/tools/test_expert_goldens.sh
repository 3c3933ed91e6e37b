#!/bin/sh
# SPDX-License-Identifier: MIT
# Mixtures of experts and other architectures, of which tests/data and QC_DATA have small ones: what is written is llm-compressor's, byte for
# byte; where data is involved, but for the noise of the forward pass in scales of activations. What make_expert_goldens.py
# puts right before is said there.
. "$(dirname "$0")/golden_tap.sh"
goldens=$QC_SOURCE_ROOT/tests/data/expert_goldens

for g in "$QC_SOURCE_ROOT"/tests/data/small_expert_goldens/*.*/ "$goldens"/*.*/; do
    g=${g%/}
    name=$(basename "$g")
    arch=${name%%.*}
    source=$data/models/$arch
    case $g in
    */small_expert_goldens/*) source=$QC_SOURCE_ROOT/tests/data/moe_models/$arch name="small $name" ;;
    *) [ -f "$g/config.json" ] || source=$QC_SOURCE_ROOT/tests/data/dense_models/$arch ;;
    esac
    if [ ! -d "$source" ]; then
        skip "$name" "QC_DATA has no models/$arch"
        continue
    fi
    recipe=$g/recipe.in.yaml # its own, or the one of most models of that scheme
    [ -f "$recipe" ] || recipe=$goldens/recipes/${name#*.}.yaml
    set -- "--recipe=$recipe"
    calib=calib.jsonl
    ! grep -q vision_config "$source/config.json" || calib=calib_64.jsonl # a vocabulary of 64
    case $name in
    *.nvfp4 | *.fp8_static) calibrated "$name" "$source" "$g" "$@" "--calib=$goldens/$calib" ;;
    *_in_shards) golden "$name" "$source" "$g" "$@" --max-shard-size=300KB ;;
    *) golden "$name" "$source" "$g" "$@" ;;
    esac
done

# Targets by names that only Transformers has: config.json has the checkpoint's, and everything reads it.
tree=$QC_SOURCE_ROOT/tests/data
for pair in "dense_models/qwen2_5_vl re:model.language_model.layers.* model.layers.0.self_attn.q_proj" \
    "dense_models/gemma3_vision re:model.language_model.layers.* language_model.model.layers.1.mlp.up_proj" \
    "moe_models/mixtral re:.*mlp.experts.* model.layers.1.block_sparse_moe.experts.3.w1"; do
    # shellcheck disable=SC2086
    set -- $pair
    out=$work/named
    passes "$1: targets by another name" "$opt" "--pass=quant-linear{scheme=FP8_DYNAMIC, targets=[\"$2\"]}" "$tree/$1" -o "$out"
    check "$1: config.json names modules of the checkpoint" sh -c "grep -q '\"$3\"' '$out/config.json' && ! grep -q '$2' '$out/config.json'"
    passes "$1: targets by another name, for vLLM" "$QC_BIN/qc-check" --target=vllm "$out"
    passes "$1: targets by another name, checked" "$QC_BIN/qc-check" "$out" "--baseline=$tree/$1"
    run 0 "$opt" "$out"
    check "$1: targets by another name, read" grep -q " = dequantize " "$work/out"
    rm -rf "$out"
done
# Lists that others wrote, in Transformers' names.
run 0 "$opt" --scheme=FP8_DYNAMIC --ignore=lm_head --ignore=model.language_model.layers.0.mlp.down_proj "$tree/dense_models/gemma3_vision" -o "$work/named"
sed -i 's/"language_model\.model\./"model.language_model./; s/"vision_tower/"model.vision_tower/' "$work/named/config.json"
check "Transformers' names in ignore" grep -q '"model.language_model.layers.0.mlp.down_proj"' "$work/named/config.json"
passes "Transformers' names in ignore, checked" "$QC_BIN/qc-check" "$work/named"
passes "Transformers' names in ignore, for vLLM" "$QC_BIN/qc-check" --target=vllm "$work/named"
passes "Transformers' names in ignore, read" "$opt" "$work/named" -o "$work/named.qc"
rm -rf "$work/named"

if [ ! -d "$data/models/moe_stories" ]; then
    skip "what vLLM has no experts for" "QC_DATA has no models/moe_stories"
    finish
    exit
fi

# refused RULE TEXT MODEL OPTION...: nothing is written, unless the rule is allowed; qc-check says the same of what is
# written then.
refused() {
    rule=$1 text=$2 source=$data/models/$3
    shift 3
    if run 1 "$opt" "$source" -o "$work/refused" "$@" && grep -q "error: .*$text.* (rule $rule)" "$work/err" &&
        grep -q "note: --allow=$rule writes it all the same" "$work/err" && [ ! -e "$work/refused" ]; then
        ok "refused: $text"
    else
        not_ok "refused: $text" "exit $got" "$(cat "$work/err")"
        return
    fi
    if run 0 "$opt" "$source" -o "$work/refused" "$@" --allow="$rule" && run 1 "$QC_BIN/qc-check" --target=vllm "$work/refused" &&
        cat "$work/out" "$work/err" | grep -q "vllm: refused: .*\((rule $rule)\|$text\)"; then
        ok "allowed and refused by vLLM's rules: $text"
    else
        not_ok "allowed and refused by vLLM's rules: $text" "exit $got" "$(grep refused "$work/out")" "$(cat "$work/err")"
    fi
    rm -rf "$work/refused"
}
# A latent cache has one scale, under both names; scales of q, k and v would be taken for it.
latent=$data/models/deepseek_v3 calib=--calib=$goldens/calib.jsonl
fails "refused: attention beside a latent cache" 1 "(rule latent)" "$opt" --pass=quant-fp8-attn "$latent" "$calib" -o "$work/latent"
passes "allowed: attention beside a latent cache" "$opt" --pass=quant-fp8-attn "$latent" "$calib" -o "$work/latent" --allow=latent
run 1 "$QC_BIN/qc-check" --target=vllm "$work/latent"
check "attention beside a latent cache, for vLLM" grep -q "vllm: wrong: .*(rule latent)" "$work/out"
passes "a latent cache" "$opt" --pass=quant-kv --scheme=FP8_DYNAMIC --ignore=lm_head "$latent" "$calib" -o "$work/latent" --force
passes "a latent cache, for vLLM" "$QC_BIN/qc-check" --target=vllm "$work/latent"
run 0 "$QC_BIN/qc-check" "$work/latent"
check "scales of a latent cache" grep -q "of attention 0 q, 2 k, 2 v" "$work/out"
run 0 "$opt" --scheme=FP8_DYNAMIC --ignore=lm_head "$latent" -o "$work/without"
run 1 "$QC_BIN/qc-check" --diff "$work/latent" "$work/without" --only=tensors
check "a latent cache leaves everything else as it is" sh -c "grep -cE '^tensor [^ ]*[kv]_scale: only in' '$work/out' | grep -qx 4 &&
    ! grep '^tensor' '$work/out' | grep -qvE '[kv]_scale: only in'"

plain="--ignore=lm_head --ignore=re:.*mlp.gate$ --ignore=re:.*shared_expert_gate$"
# shellcheck disable=SC2086
{
    refused experts "INT8 with static inputs" qwen3_moe \
        '--pass=quant-linear{scheme=W8A8, input={type=i8, granularity=tensor}, ignore=[lm_head]}' --calib=none
    refused experts "channel with static inputs" qwen3_moe \
        '--pass=quant-linear{scheme=FP8, weights={type=f8e4m3, granularity=channel}, ignore=[lm_head]}' --calib=none
    refused experts "4 or 8 bits" qwen3_moe --scheme=W3A16 --ignore=lm_head
    refused experts "in two schemes\|by two schemes" qwen3_moe '--pass=quant-linear{scheme=FP8_DYNAMIC, targets="re:.*(gate|up)_proj$"}' \
        '--pass=quant-linear{scheme=FP8_BLOCK, targets="re:.*experts.*down_proj$"}'
    refused experts "in part\|experts of one layer" qwen3_moe '--pass=quant-linear{scheme=FP8_DYNAMIC, targets="re:.*(gate|up)_proj$"}'
    refused experts "blocks of 96 rows\|no multiple of its blocks" qwen3_moe \
        '--pass=quant-linear{weights={type=f8e4m3, granularity=block, block=[96, 128]}, input={type=f8e4m3, granularity=group, group=128, dynamic}, targets="re:.*experts.*"}'
    refused experts "no target names\|no target of" mixtral '--pass=quant-linear{scheme=FP8_DYNAMIC, targets=["re:.*experts.*w[123]$"]}'
    passes "Mixtral, experts of a layer left alone" "$opt" --scheme=FP8_DYNAMIC --ignore=lm_head '--ignore=re:.*layers.0.*experts.*' \
        "$data/models/mixtral" -o "$work/alone"
    passes "Mixtral, experts of a layer left alone, for vLLM" "$QC_BIN/qc-check" --target=vllm "$work/alone"
    sed 's/experts\.\([0-9]*\)\.gate_proj/experts.\1.other/' "$work/alone/config.json" >"$work/config" && mv "$work/config" "$work/alone/config.json"
    run 1 "$QC_BIN/qc-check" --target=vllm --every-expert "$work/alone"
    check "Mixtral, experts that vLLM would take for quantized" grep -q "experts.0.w1.weight is BF16, but a class target reaches it" "$work/out"
    refused router "gate of a shared expert" qwen2_moe --scheme=FP8_DYNAMIC --ignore=lm_head
    for model in mixtral qwen2_moe qwen3_moe deepseek_v3 glm4_moe moe_stories llama4 gpt_oss; do
        for scheme in FP8_DYNAMIC NVFP4A16; do
            out=$work/$model.$scheme
            passes "$model, $scheme" "$opt" --scheme=$scheme $plain "$data/models/$model" -o "$out"
            passes "$model, $scheme: nothing contradicts" "$QC_BIN/qc-check" --target=vllm "$out"
            passes "$model, $scheme: errors" "$QC_BIN/qc-check" "$out" "--baseline=$data/models/$model"
            rm -rf "$out"
        done
    done
}
finish
