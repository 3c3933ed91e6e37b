#!/bin/sh
# SPDX-License-Identifier: MIT
# qc-check as a user meets it: listing, comparing, exit statuses, what it says of bad input.
. "$(dirname "$0")/tap.sh"
check=$QC_BIN/qc-check
goldens=$QC_SOURCE_ROOT/tests/data/goldens

# ---- listing ----
mkdir "$work/m"
cp "$model/config.json" "$model/model.safetensors" "$model/tokenizer.json" "$work/m"
passes "lists a checkpoint" "$check" "$work/m"
check "with every tensor" grep -Eq '^model\.layers\.4\.mlp\.up_proj\.weight +BF16 +\[172, 64\] +22016$' "$work/out"
check "its sum" grep -q '^47 tensors in 1 file, 520064 bytes: BF16 520064$' "$work/out"
check "and that it is not quantized" grep -q '^quantization: none$' "$work/out"
passes "lists one file" "$check" "$work/m/model.safetensors"
passes "lists as JSON" "$check" "$work/m" --json
check "with the same tensors" sh -c "[ \$(grep -c '\"dtype\"' '$work/out') -eq 47 ]"

# ---- comparing ----
cp -r "$work/m" "$work/n"
passes "a checkpoint equals its copy" "$check" --diff "$work/m" "$work/n"
check "and says so" grep -q '^equal: 47 tensors, config.json, 3 files$' "$work/out"
check "with nothing on stderr" test ! -s "$work/err"
printf '\200\077' | dd of="$work/n/model.safetensors" bs=1 seek=400000 conv=notrunc 2>"$work/dd"
sed -i 's/"vocab_size": 512/"vocab_size": 513/' "$work/n/config.json"
echo >>"$work/n/tokenizer.json"
check "a difference is exit status 1" run 1 "$check" --diff "$work/m" "$work/n"
check "names the tensor" grep -q '^tensor model\.[a-z0-9_.]*: 1 of [0-9]* elements differ, by at most [0-9]* ulp; first at \[' "$work/out"
check "names the value" grep -q '^config vocab_size: 512 != 513$' "$work/out"
check "names the file" grep -q '^file tokenizer.json: ' "$work/out"
check "counts them" grep -q '^4 differences$' "$work/out"
check "--only=config" run 1 "$check" --diff "$work/m" "$work/n" --only=config
check "compares nothing else" sh -c "[ \$(wc -l <'$work/out') -eq 2 ]"
check "--only=tensors,files" run 1 "$check" --diff --only=tensors,files "$work/m" "$work/n"
check "leaves config values alone" sh -c "! grep -q '^config' '$work/out'"
check "--json" run 1 "$check" --diff "$work/m" "$work/n" --json
check "has the differences" grep -q '"name": "vocab_size"' "$work/out"
check "a golden in place of B" run 1 "$check" --diff "$work/m" "$goldens/kv_fp8_tensor" --only=tensors,config
check "names what is missing" grep -q '^tensor model.layers.0.self_attn.k_scale: only in ' "$work/out"
check "by name and nothing else" sh -c "! grep -q 'elements differ' '$work/out'"

passes "two files are equal" "$check" --diff "$model/golden.safetensors" "$model/golden.safetensors"
check "in their tensors" grep -Eq '^equal: [0-9]+ tensors$' "$work/out"
check "or differ" run 1 "$check" --diff "$work/m/model.safetensors" "$work/n/model.safetensors"
check "in one" sh -c "[ \$(wc -l <'$work/out') -eq 2 ]"

# ---- errors of the weights ----
cp "$model/config.json" "$model/model.safetensors" "$work/n"
passes "a checkpoint to measure" "$QC_BIN/qc-opt" --scheme=FP8_DYNAMIC --ignore=lm_head "$model" -o "$work/q"
passes "--baseline" "$check" "$work/q" --baseline="$model"
check "has a line a weight" sh -c "[ \$(grep -c ' f8e4m3 channel  *model\.layers\.' '$work/out') -eq 35 ]"
check "the worst first" sh -c "grep f8e4m3 '$work/out' | awk 'NR > 1 && \$1 > last { exit 1 } { last = \$1 }'"
check "and sums them up" grep -Eq '^35 quantized weights, [0-9]+ elements: relative error 0\.02[0-9]* together, ' "$work/out"
check "the rest is as it was" grep -q "are not quantized: all equal the baseline's$" "$work/out"
cp "$work/out" "$work/table"
passes "with one thread" "$check" "$work/q" --baseline="$model" --threads=1
check "it says the same" cmp "$work/out" "$work/table"
passes "--baseline --json" "$check" "$work/q" --baseline="$model" --json
check "names every weight" sh -c "[ \$(grep -c '\"relative_error\"' '$work/out') -eq 48 ]"
fails "a baseline that is quantized" 1 "is quantized itself" "$check" "$work/q" --baseline="$work/q"
fails "nothing quantized" 1 "has no quantization_config" "$check" "$work/n" --baseline="$model"
fails "two questions" 2 "--diff and --baseline" "$check" --diff a b --baseline=c
fails "threads of nothing" 2 "--threads goes with --baseline" "$check" a --threads=2

# ---- what vLLM would say ----
passes "--target=vllm" "$check" "$work/q" --target=vllm
check "names the scheme" grep -q '^vllm: group_0 is FP8 W8A8 ' "$work/out"
check "and has nothing against it" grep -q '^vllm: nothing against it$' "$work/out"
cp -r "$work/q" "$work/u"
cp "$model/golden.safetensors" "$work/u/statistics.safetensors"
check "a finding is exit status 1" run 1 "$check" "$work/u" --target=vllm
check "with its effect" grep -q '^vllm: refused: statistics.safetensors lies beside model.safetensors' "$work/out"
check "as JSON" run 1 "$check" "$work/u" --target=vllm --json
check "too" grep -q '"effect": "refused"' "$work/out"
fails "an unknown target" 1 "target 'tpu' has no rules here; known is vllm" "$check" "$work/q" --target=tpu
fails "a target of a comparison" 2 "--target goes with a listing" "$check" --diff a b --target=vllm

# ---- what llm-compressor wrote ----
# Nothing in it contradicts itself; vLLM refuses what it is known to refuse, and loads the rest.
for g in "$data"/goldens/*/; do
    [ -f "$g/model.safetensors" ] || continue
    golden=$(basename "$g")
    passes "golden $golden" "$check" "$g"
    case $golden in
    fp8_dynamic_lm_head) line='refused: lm_head.weight holds codes, but only a class target' ;;
    *attn_int8*) line='refused: kv_cache_scheme: int of 8 bits' ;;
    spin_*r3*) line='wrong: transform_config.R3 rotates q and k' ;;
    *) line= ;;
    esac
    if [ -n "$line" ]; then
        check "vLLM on $golden" run 1 "$check" "$g" --target=vllm
        check "says why" grep -q "^vllm: $line" "$work/out"
    else
        passes "vLLM on $golden" "$check" "$g" --target=vllm
    fi
    grep -q 'weight_scale' "$work/out" || continue
    passes "errors of $golden" "$check" "$g" --baseline="$data/models/grid_llama"
done
[ -d "$data/goldens" ] || skip "goldens of llm-compressor" "QC_DATA has no goldens"

# ---- bad input ----
fails "no directory" 2 "one checkpoint is expected" "$check"
fails "two directories without --diff" 2 "one checkpoint is expected" "$check" a b
fails "one directory with --diff" 2 "--diff takes two checkpoints" "$check" --diff "$work/m"
fails "unknown option" 2 "did you mean --diff?" "$check" --dif a b
fails "a part that is none" 2 "tensors,config,files" "$check" --diff a b --only=tensor
fails "--only without --diff" 2 "--only goes with --diff" "$check" a --only=config
fails "a value for a flag" 2 "--json takes no value" "$check" a --json=1
fails "a word that is none" 2 "auto|never|always" "$check" a --progress=yes
fails "missing directory" 1 "no-such-checkpoint: " "$check" no-such-checkpoint
fails "missing second directory" 1 "no-such-checkpoint: is no directory" "$check" --diff "$work/m" no-such-checkpoint
fails "a golden first" 1 "a golden is the second of the two" "$check" --diff "$goldens/kv_fp8_tensor" "$work/m"
head -c 1000 "$model/model.safetensors" >"$work/n/model.safetensors"
fails "a file cut short" 1 "model.safetensors: " "$check" "$work/n"
echo '{' >"$work/m/config.json"
fails "a broken config.json" 1 "config.json:2:1: " "$check" "$work/m"
passes "help" "$check" --help
check "names each option" sh -c "for o in baseline diff only json target threads progress help version; do grep -q -- \"--\$o\" '$work/out' || exit 1; done"
passes "version" "$check" --version
check "is one line" grep -Eq '^qc-check [0-9]+\.[0-9]+\.[0-9]+$' "$work/out"
if [ -c /dev/full ]; then
    "$check" --help >/dev/full 2>"$work/err"
    check "a full disk behind stdout is exit status 1" test $? -eq 1
    check "and is said" grep -q 'qc-check: error: standard output: ' "$work/err"
fi
finish
