#!/bin/sh
# SPDX-License-Identifier: MIT
# From a model to a checkpoint, against what llm-compressor wrote: tensors, config.json and recipe.yaml equal. The forward
# pass is not reproducible to the last bit across machines, so values (never names, types or shapes) of calibrated scales
# may differ by units in the last place: none by more than 4, and of those of q, k and v at least 95 % by at most 1. Inputs
# of linears have no such share: q, k and v projections see one input, so a single value moves three scales at once.
. "$(dirname "$0")/golden_tap.sh"

calib=--calib=$model/calib.jsonl
for g in "$QC_SOURCE_ROOT"/tests/data/goldens/*/; do
    g=${g%/}
    case $(basename "$g") in
    *attn*head*) calibrated "$(basename "$g")" "$model" "$g" "--pass=quant-fp8-attn{granularity=head}" "$calib" ;;
    *kv*tensor*) calibrated "$(basename "$g")" "$model" "$g" "--pass=quant-kv{observer=unset}" "$calib" ;;
    *fp8_dynamic_lm_head) calibrated "$(basename "$g")" "$model" "$g" --scheme=FP8_DYNAMIC ;;
    *fp8_dynamic) calibrated "$(basename "$g")" "$model" "$g" --scheme=FP8_DYNAMIC --ignore=lm_head ;;
    *fp8_static*) calibrated "$(basename "$g")" "$model" "$g" --scheme=FP8 --ignore=lm_head "$calib" ;;
    *) skip "$(basename "$g")" "no recipe for it here" ;;
    esac
    calibrated "$(basename "$g") by its recipe" "$model" "$g" "--recipe=$g/recipe.in.yaml" "$calib"
done

# Windows, biases, norms of q and k, tied and sharded f16, RoPE scaling: what the model above does not have.
models=$QC_SOURCE_ROOT/tests/data/small_models goldens=$QC_SOURCE_ROOT/tests/data/small_goldens
small() { # NAME OPTION...
    name=$1 source=$models/${1%%.*}
    shift
    calibrated "$name" "$source" "$goldens/$name" "$@"
    calibrated "$name by its recipe" "$source" "$goldens/$name" "--recipe=$goldens/$name/recipe.in.yaml" "--calib=$source/calib.jsonl"
}
small mistral.attn_fp8_head_static "--pass=quant-fp8-attn{granularity=head}" "--calib=$models/mistral/calib.jsonl"
small qwen2.fp8_static --scheme=FP8 --ignore=lm_head "--calib=$models/qwen2/calib.jsonl"
small qwen2.fp8_dynamic_lm_head --scheme=FP8_DYNAMIC
small qwen3.kv_fp8_head "--pass=quant-kv{granularity=head, observer=unset}" "--calib=$models/qwen3/calib.jsonl"
# Observers that search, weigh columns, or average ranges of groups.
for recipe in w4a16_imatrix int8_mse_input nvfp4_local_minmax attn_fp8_head_mse; do
    calibrated "grid.$recipe" "$models/grid" "$goldens/grid.$recipe" "--recipe=$goldens/grid.$recipe/recipe.in.yaml" \
        "--calib=$models/grid/calib.jsonl"
done

grid=$data/models/grid_llama goldens=$data/goldens
if [ -d "$grid" ] && [ -d "$goldens" ]; then
    calib=--calib=$grid/calib.jsonl
    calibrated "grid_llama attn_fp8_head_static" "$grid" "$goldens/attn_fp8_head_static" "--pass=quant-fp8-attn{granularity=head}" "$calib"
    calibrated "grid_llama attn_fp8_tensor" "$grid" "$goldens/attn_fp8_tensor" "--pass=quant-fp8-attn{observer=minmax}" "$calib"
    calibrated "grid_llama kv_fp8_head_static" "$grid" "$goldens/kv_fp8_head_static" "--pass=quant-kv{granularity=head}" "$calib"
    calibrated "grid_llama kv_fp8_tensor" "$grid" "$goldens/kv_fp8_tensor" "--pass=quant-kv{observer=unset}" "$calib"
    calibrated "grid_llama fp8_dynamic" "$grid" "$goldens/fp8_dynamic" --scheme=FP8_DYNAMIC --ignore=lm_head
    calibrated "grid_llama fp8_dynamic_lm_head" "$grid" "$goldens/fp8_dynamic_lm_head" --scheme=FP8_DYNAMIC
    calibrated "grid_llama fp8_static" "$grid" "$goldens/fp8_static" --scheme=FP8 --ignore=lm_head "$calib"
    calibrated "grid_llama fp8_static_kv" "$grid" "$goldens/fp8_static_kv" --scheme=FP8 --ignore=lm_head "--pass=quant-kv{observer=unset}" "$calib"
    calibrated "grid_llama fp8_static_kv_static" "$grid" "$goldens/fp8_static_kv_static" --scheme=FP8 --ignore=lm_head --pass=quant-kv "$calib"
    # The other calibrated ones, as their recipes say. Searched weights are not these tests' matter.
    for g in "$goldens"/*/; do
        g=${g%/}
        name=$(basename "$g")
        grep -q '"calibration"' "$g/meta.json" && ! grep -q '"ok": false\|GPTQ\|AWQ\|SmoothQuant' "$g/meta.json" || continue
        calibrated "grid_llama $name" "$grid" "$g" "--recipe=$g/recipe.in.yaml" "$calib" --allow=r3
    done
    # Recipes at which llm-compressor fails: a checkpoint without contradictions, which runs.
    for beyond in attn_nvfp4 spin_r3_attn_nvfp4; do
        out=$work/$beyond
        passes "grid_llama $beyond is written" "$opt" "--recipe=$goldens/$beyond/recipe.in.yaml" "$grid" "$calib" -o "$out" \
            --allow=r3 --allow=nvfp4-attention
        passes "grid_llama $beyond contradicts nothing" "$QC_BIN/qc-check" "$out"
        passes "grid_llama $beyond runs" "$QC_BIN/qc-run" perplexity "$out" "--data=$grid/calib.jsonl"
        fails "grid_llama $beyond for vLLM" 1 "(rule nvfp4-attention)" "$opt" "--recipe=$goldens/$beyond/recipe.in.yaml" "$grid" \
            "$calib" -o "$work/refused" --allow=r3
    done
else
    skip "goldens of grid_llama" "QC_DATA has no models/grid_llama"
fi
finish
