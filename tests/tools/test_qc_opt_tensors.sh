#!/bin/sh
# SPDX-License-Identifier: MIT
# Checkpoints without an architecture, against what llm-compressor's model_free_ptq writes: the same files. And sources that
# are quantized already.
. "$(dirname "$0")/tap.sh"
opt=$QC_BIN/qc-opt diff="$QC_BIN/qc-check --diff"
embed='--ignore=re:.*embed_tokens$' down='--ignore=re:.*down_proj$'

# invented DIRECTORY SIZE: shards of at most SIZE, of an architecture that nobody knows.
invented() {
    "$opt" "$model" -o "$1" --max-shard-size="$2" 2>/dev/null &&
        sed -i 's/LlamaForCausalLM/WombatForCausalLM/; s/"model_type": "llama"/"model_type": "wombat"/' "$1/config.json"
}

# same NAME OPTION...: the files whose sums are in the tree.
same() {
    name=$1
    shift
    out=$work/$name
    if run 0 "$opt" "$@" -o "$out" && (cd "$out" && sha256sum -c --quiet) <"$sums/$name.sha256" >"$work/sums" 2>&1; then
        ok "$name: the files of model_free_ptq"
    else
        not_ok "$name" "exit $got" "$(head -n 4 "$work/err")" "$(head -n 6 "$work/sums")"
    fi
}

sums=$QC_SOURCE_ROOT/tests/data/tensors_goldens
wombat=$work/wombat
invented "$wombat" 440KB # the last layer's q_proj in the first shard, its k_proj and v_proj in the second
same fp8_dynamic --scheme=FP8_DYNAMIC "$embed" "$wombat"
same nvfp4a16 --scheme=NVFP4A16 "$embed" "$down" "$wombat"
same mxfp4a16 --scheme=MXFP4A16 "$embed" "$down" --ignore=lm_head "$wombat"
check "no recipe.yaml, every other file" sh -c "cd '$work/fp8_dynamic' && test ! -e recipe.yaml && cmp LICENSE '$wombat/LICENSE' && cmp tokenizer.json '$wombat/tokenizer.json'"
same nvfp4a16_fp8_dynamic --scheme=FP8_DYNAMIC "$embed" "$work/nvfp4a16"
check "what that cost is said" grep -q "30 weights are quantized again, 0 are plain now" "$work/err"
check "as a relative error" grep -q "relative error against the values of the source: 2.[0-9]* % on average" "$work/err"

for scheme in FP8_DYNAMIC FP8_BLOCK NVFP4A16 W4A16; do
    golden=$data/goldens/mf_$(echo $scheme | tr A-Z a-z)
    if [ ! -d "$golden" ] || [ ! -d "$data/models/grid_llama" ]; then
        skip "golden of $scheme" "not here"
        continue
    fi
    run 0 "$opt" --import=tensors --scheme=$scheme "$embed" --ignore=lm_head "$data/models/grid_llama" -o "$work/$scheme"
    rm -f "$work/$scheme/calib.jsonl"
    passes "golden of $scheme" $diff "$work/$scheme" "$golden"
done

# ---- a set of weights with one global scale, wherever its members lie -----------------------------------------

"$opt" --scheme=NVFP4A16 "$embed" "$down" "$wombat" -o "$work/two" 2>/dev/null
invented "$work/cut" 170KB
check "shards cut sets of layers in the middle" awk -F'"' '
    $2 ~ /[0-3][.]self_attn[.][qv]_proj[.]weight$/ { layer = $2; sub(/[.]._proj.*/, "", layer)
        if (layer in file && file[layer] != $4) cut = 1
        file[layer] = $4 }
    END { exit !cut }' "$work/cut/model.safetensors.index.json"
passes "sets cut by shards" "$opt" --scheme=NVFP4A16 "$embed" "$down" "$work/cut" -o "$work/pieces"
passes "have the same tensors" $diff "$work/pieces" "$work/two" --only=tensors,config

# ---- what a module of tensors has not --------------------------------------------------------------------------

passes "the module" "$opt" "$wombat"
check "has a keep for each matrix" test "$(grep -c 'keep %' "$work/out")" -eq 36
passes "which reads back" sh -c "'$opt' '$wombat' -o '$work/w.qc' && '$opt' '$work/w.qc' | cmp - '$work/w.qc'"
fails "attention needs a graph" 1 "imported as tensors: without a graph there is no attention to quantize" \
    "$opt" --pass=quant-fp8-attn "$wombat"
fails "so does the KV cache" 1 "without a graph there is no attention" "$opt" --pass=quant-kv --import=tensors "$model"
fails "and the rotation" 1 "without a graph there is no attention" "$opt" --pass=fold-r3 "$wombat"
fails "static inputs need one" 1 "imported as tensors" "$opt" --scheme=FP8 "$wombat"
fails "to run needs one" 1 "imported as tensors, without a graph" "$QC_BIN/qc-run" generate "$work/w.qc" --prompt=x
rm -rf "$work/bare" && mkdir "$work/bare" && cp "$wombat"/*.safetensors* "$work/bare"
passes "config.json is not needed to look" "$opt" "$work/bare"
fails "but to write" 1 "has no config.json; a checkpoint needs one" "$opt" --scheme=FP8_DYNAMIC "$work/bare" -o "$work/no"
passes "embeddings are linears" "$opt" --scheme=FP8_DYNAMIC "$wombat" -o "$work/table"
check "one warning of it" test "$(grep -c 'warning: .*model.embed_tokens.*: quantized as linear layers' "$work/err")" -eq 1
check "no word of serving it then" sh -c "! grep -q 'serve it' '$work/err'"
check "names what to say" grep -qF -- "--ignore='re:.*embed_tokens\$'" "$work/err"
passes "shards stay" "$opt" --max-shard-size=100KB --scheme=FP8_DYNAMIC "$embed" "$wombat" -o "$work/shards"
check "which is said" grep -q "keeps its shards" "$work/err"

# ---- sources that are quantized already ------------------------------------------------------------------------

fails "nothing asks to quantize again" 1 "the source is quantized already" "$opt" "$work/nvfp4a16" -o "$work/no"
passes "codes of a graph again" "$opt" --scheme=FP8_DYNAMIC --ignore=lm_head "$model" -o "$work/f8"
passes "from FP8 to INT8" "$opt" --scheme=INT8 --ignore=lm_head '--ignore=re:.*mlp.*' "$work/f8" -o "$work/i8"
check "says what stays plain" grep -q "20 weights are quantized again, 15 are plain now" "$work/err"
check "old scales are gone" sh -c "'$QC_BIN/qc-check' '$work/i8' 2>/dev/null | grep -c weight_scale | grep -qx 20"
passes "codes of the mlp become numbers, another module codes" "$opt" --scheme=FP8_DYNAMIC --targets=lm_head "$work/f8" -o "$work/plain"
check "no loss without codes from codes" grep -q "0 weights are quantized again, 35 are plain now" "$work/err"
finish
