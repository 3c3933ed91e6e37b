# SPDX-License-Identifier: MIT
# golden_tap.sh - tap.sh and comparing a checkpoint with what llm-compressor wrote; sourced by tests.
. "$(dirname "$0")/tap.sh"
opt=$QC_BIN/qc-opt diff="$QC_BIN/qc-check --diff"

# same_bytes OUT GOLDEN: the weights equal those that the golden has, or has the sums of.
same_bytes() {
    if [ -f "$2/model.safetensors" ]; then
        cmp -s "$1/model.safetensors" "$2/model.safetensors"
        return
    fi
    tr -d ' \n' <"$2/golden.json" | sed 's/"tensors":.*//' >"$work/sums"
    grep -o '"model[-0-9a-z]*\.safetensors":' "$work/sums" | tr -d '":' >"$work/names"
    [ -s "$work/names" ] || return 1
    while IFS= read -r file; do
        sum=$(sha256sum "$1/$file" 2>/dev/null | cut -d' ' -f1)
        grep -qE "\"$file\":\{[^}]*\"sha256\":\"${sum:-none}\"" "$work/sums" || return 1
    done <"$work/names"
}

# golden NAME MODEL GOLDEN OPTION...
golden() {
    name=$1 source=$2 expected=$3 wrong=
    shift 3
    out=$work/out-$number
    if ! run 0 "$opt" "$@" "$source" -o "$out"; then
        not_ok "$name" "exit $got" "$(head -n 3 "$work/err")"
        return
    fi
    same_bytes "$out" "$expected" || wrong="model.safetensors"
    if [ -f "$expected/config.json" ]; then
        cmp -s "$out/config.json" "$expected/config.json" || wrong="$wrong config.json"
    fi
    if [ -f "$expected/model.safetensors.index.json" ]; then
        cmp -s "$out/model.safetensors.index.json" "$expected/model.safetensors.index.json" || wrong="$wrong index"
    fi
    if [ -f "$expected/recipe.yaml" ]; then
        cmp -s "$out/recipe.yaml" "$expected/recipe.yaml" || wrong="$wrong recipe.yaml"
    fi
    if [ -z "$wrong" ]; then
        ok "$name"
    else
        "$QC_BIN/qc-check" --diff "$out" "$expected" --only=tensors,config >"$work/differences" 2>&1
        not_ok "$name" "differ: $wrong" "$(head -n 6 "$work/differences")"
    fi
    rm -rf "$out"
}

# within_noise CHECKPOINT DIFFERENCES: is every difference one of values of scales, within these bounds: none differs by more than
# 4 units in the last place, of q, k and v at least 95 % by at most 1? Where a tensor's largest difference is over 1, all its
# differing elements count as such.
within_noise() {
    "$QC_BIN/qc-check" "$1" 2>"$work/err" | awk -v differences="$2" '
        BEGIN { size["BF16"] = size["F16"] = 2; size["F32"] = 4 }
        $1 ~ /\.[qkv]_scale$/ { total += $NF / size[$2] }
        END {
            while ((getline line < differences) > 0) {
                if (line ~ /^[0-9]+ differences?$/)
                    continue
                seen++
                split(line, word, " ")
                if (line ~ /^tensor [^ ]*\.input_zero_point: [0-9]+ of [0-9]+ elements differ, by at most 1; /)
                    continue
                if (line !~ /^tensor [^ ]*\.([qkv]|input|input_global)_scale: [0-9]+ of [0-9]+ elements differ, by at most [0-9]+ ulp; /)
                    exit bad = 1
                if (word[11] > (word[2] ~ /_global_scale:$/ ? 4 * 65536 : 4)) # bf16 numbers, as F32
                    exit bad = 1
                if (word[2] ~ /\.[qkv]_scale:$/ && word[11] > 1)
                    beyond += word[3]
            }
            exit bad = !seen || beyond > 0.05 * total
        }'
}

# calibrated NAME MODEL GOLDEN OPTION...: the same but for values of scales, which are within the noise of the forward pass.
calibrated() {
    name=$1 source=$2 expected=$3
    shift 3
    out=$work/out-$number
    if ! run 0 "$opt" "$@" "$source" -o "$out"; then
        not_ok "$name" "exit $got" "$(head -n 3 "$work/err")"
        return
    fi
    only=tensors,config files="config.json recipe.yaml"
    [ -f "$expected/config.json" ] || only=tensors files=
    for file in $files; do
        cmp -s "$out/$file" "$expected/$file" || name="$name, not $file"
    done
    if run 0 $diff "$out" "$expected" --only=$only --every-expert && [ "$name" = "${name%, not*}" ]; then
        ok "$name"
        return
    fi
    cp "$work/out" "$work/differences"
    if [ "$name" = "${name%, not*}" ] && within_noise "$out" "$work/differences"; then
        ok "$name (scales within the noise of the forward pass)"
        sed 's/^/# /' "$work/differences"
    else
        not_ok "$name" "$(head -n 8 "$work/differences")"
    fi
}
