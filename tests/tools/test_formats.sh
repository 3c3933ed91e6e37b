#!/bin/sh
# SPDX-License-Identifier: MIT
# Every storage format, weights that need no data, rotated ones too: model.safetensors, config.json and recipe.yaml are
# llm-compressor's, byte for byte.
# The goldens of the tree hold SHA-256 sums in place of weights; QC_DATA has more of them, on a larger model.
. "$(dirname "$0")/golden_tap.sh"

# data_free NAME MODEL GOLDEN: as its recipe, or its name, says.
data_free() {
    case $(basename "$3") in
    *mf_*)
        scheme=$(basename "$3" | sed 's/.*mf_//' | tr '[:lower:]' '[:upper:]')
        golden "$1" "$2" "$3" --import=tensors "--scheme=$scheme" '--ignore=re:.*embed_tokens$' --ignore=lm_head
        ;;
    qwen2.*_in_shards) golden "$1" "$2" "$3" "--recipe=$3/recipe.in.yaml" --max-shard-size=4KB --allow=transform-bias ;;
    *_in_shards) golden "$1" "$2" "$3" "--recipe=$3/recipe.in.yaml" --max-shard-size=40KB --allow=r3 ;;
    qwen2.quip*) golden "$1" "$2" "$3" "--recipe=$3/recipe.in.yaml" --allow=transform-bias ;;
    *r3*) golden "$1" "$2" "$3" "--recipe=$3/recipe.in.yaml" --allow=r3 ;;
    *w4afp8_packed) golden "$1" "$2" "$3" "--recipe=$3/recipe.in.yaml" --format=pack-quantized ;;
    *) golden "$1" "$2" "$3" "--recipe=$3/recipe.in.yaml" ;;
    esac
}

for g in "$QC_SOURCE_ROOT"/tests/data/format_goldens/*/; do
    g=${g%/}
    name=$(basename "$g")
    data_free "$name" "$QC_SOURCE_ROOT/tests/data/small_models/${name%%.*}" "$g"
done

# The groups of two passes, where the patterns of one take in modules of the other: config.json names the modules, or a
# reader would take int8 codes for int4.
if run 0 "$opt" '--pass=quant-linear{scheme=W8A8, ignore=["re:.*mlp.*", lm_head]}' \
    '--pass=quant-linear{weights={type=i4, granularity=channel}, targets="re:model.layers.*"}' \
    "$QC_SOURCE_ROOT/tests/data/small_models/qwen2" -o "$work/overlap" && ! grep -q 're:model' "$work/overlap/config.json"; then
    passes "overlapping targets" "$opt" "$work/overlap"
else
    not_ok "overlapping targets" "$(head -n 3 "$work/err")" "$(grep -A4 '"targets"' "$work/overlap/config.json")"
fi

# A recipe that llm-compressor saved reads back, transform_config and all.
for g in grid.spin_block32_nvfp4a16 grid.quip_u_block16_w4a16 qwen2.spin_head_fp8; do
    path=$QC_SOURCE_ROOT/tests/data/format_goldens/$g
    golden "$g by the recipe that was saved" "$QC_SOURCE_ROOT/tests/data/small_models/${g%%.*}" "$path" "--recipe=$path/recipe.yaml"
done

# A rotated checkpoint is a source like others: rotated first and quantized then is rotated and quantized at once, and one
# that is written again as it is stays as it is.
small=$QC_SOURCE_ROOT/tests/data/small_models
set -- '--pass=fold-norms{center=true}' '--pass=fold-r1{matrix=random_hadamard}' '--pass=insert-r4{matrix=random_hadamard, compute=f64}'
if run 0 "$opt" "$@" "$small/qwen2" -o "$work/rotated" && run 0 "$opt" "$work/rotated" -o "$work/again" &&
    run 0 "$opt" --scheme=W8A8 --ignore=lm_head "$work/rotated" -o "$work/then" &&
    run 0 "$opt" "$@" --scheme=W8A8 --ignore=lm_head "$small/qwen2" -o "$work/once"; then
    for file in model.safetensors config.json; do
        check "a rotated source, unchanged: $file" cmp "$work/rotated/$file" "$work/again/$file"
        check "a rotated source, quantized: $file" cmp "$work/then/$file" "$work/once/$file"
    done
else
    not_ok "a rotated source" "exit $got" "$(head -n 3 "$work/err")"
fi

# What vLLM does not execute is refused by the name of a rule, and nothing is written.
refused() { # RULE MODEL OPTION...
    rule=$1 source=$2
    shift 2
    if run 1 "$opt" "$QC_SOURCE_ROOT/tests/data/small_models/$source" -o "$work/refused" "$@" &&
        grep -q "error: .* (rule $rule)\$" "$work/err" && grep -q "note: --allow=$rule writes it all the same" "$work/err" &&
        [ ! -e "$work/refused" ]; then
        passes "refused: $rule" "$opt" --allow="$rule" "$QC_SOURCE_ROOT/tests/data/small_models/$source" -o "$work/refused" "$@"
        rm -rf "$work/refused"
    else
        not_ok "refused: $rule" "exit $got" "$(cat "$work/err")"
    fi
}
refused r3 grid --pass=fold-r3
refused transform-bias qwen2 --pass=insert-quip
refused nvfp4-attention grid --pass=quant-nvfp4-attn --calib=none
refused attention-scales grid '--pass=quant-kv{granularity=token}'
refused attention-scales grid '--pass=quant-int8-attn{granularity=channel}' --calib=none

# The page of qc-opt has a line for each rule.
run 2 "$opt" --allow=none "$model" -o "$work/none"
rules=$(sed -n 's/.*no such rule; there are \(.*\)/\1/p' "$work/err" | tr -d ,)
missing=
for rule in $rules; do
    grep -q "^| \`$rule\` |" "$QC_SOURCE_ROOT/docs/qc-opt.md" || missing="$missing $rule"
done
if [ -n "$rules" ] && [ -z "$missing" ]; then ok "rules in docs/qc-opt.md"; else not_ok "rules in docs/qc-opt.md" "$missing"; fi

# For any number of threads.
for scheme in w4a16_asym nvfp4a16_mse fp8_block spin_r1r2_w4a16; do
    for threads in 1 5; do
        g=$QC_SOURCE_ROOT/tests/data/format_goldens/grid.$scheme
        golden "$scheme, $threads threads" "$QC_SOURCE_ROOT/tests/data/small_models/grid" "$g" "--recipe=$g/recipe.in.yaml" "--threads=$threads"
    done
done

if [ -d "$data/goldens" ] && [ -d "$data/models/grid_llama" ]; then
    for g in "$data"/goldens/*/; do
        g=${g%/}
        grep -q '"calibration"\|"ok": false' "$g/meta.json" && continue # calibrated ones are for test_goldens.sh
        data_free "grid_llama $(basename "$g")" "$data/models/grid_llama" "$g"
    done
else
    skip "goldens of grid_llama" "QC_DATA has none"
fi
finish
