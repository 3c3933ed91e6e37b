#!/bin/sh
# SPDX-License-Identifier: MIT
# qc-opt as a user meets it: the main job, text in and out, and what it says of bad input.
. "$(dirname "$0")/tap.sh"
opt=$QC_BIN/qc-opt

# ---- text ------------------------------------------------------------------------------------------------------------
passes "the IR of a model goes to stdout" "$opt" "$model"
cp "$work/out" "$work/model.qc"
"$opt" - <"$work/model.qc" >"$work/again.qc" 2>/dev/null
check "IR text read from stdin prints the same bytes" cmp "$work/model.qc" "$work/again.qc"
passes "IR text in a file" "$opt" "$work/model.qc" -o "$work/copy.qc"
check "and into one" cmp "$work/model.qc" "$work/copy.qc"
fails "an existing file is not overwritten" 1 "--force" "$opt" "$work/model.qc" -o "$work/copy.qc"
passes "but with --force" "$opt" --force "$work/model.qc" -o "$work/copy.qc"
passes "a pass without data prints IR" "$opt" --pass=quant-fp8-attn "$model"
check "with quantize ops in it" grep -q 'quantize %q' "$work/out"

# ---- the main job ----------------------------------------------------------------------------------------------------
pass='quant-fp8-attn{granularity=head}'
passes "FP8 attention, calibrated and exported" "$opt" --pass="$pass" "$model" --calib="$model/calib.jsonl" -o "$work/a"
passes "the same from IR text" "$opt" --pass="$pass" "$work/model.qc" --calib="$model/calib.jsonl" -o "$work/b"
check "gives the same checkpoint" diff -r "$work/a" "$work/b"
for threads in 1 2 3 7; do
    passes "with --threads=$threads" "$opt" --threads=$threads --pass="$pass" "$model" --calib="$model/calib.jsonl" -o "$work/t$threads"
    check "gives the same bytes" diff -r "$work/a" "$work/t$threads"
done
passes "the pipeline can be dumped" "$opt" --dump-pipeline --pass="$pass" "$model" --calib="$model/calib.jsonl"
"$opt" --dump-pipeline --pass="$pass" "$model" --calib="$model/calib.jsonl" -o "$work/dumped" >"$work/pipeline" 2>/dev/null
pipeline=$(cat "$work/pipeline")
passes "and given back" "$opt" --pipeline="$pipeline" "$model" --calib="$model/calib.jsonl" -o "$work/c"
check "with the same result" diff -r "$work/a" "$work/c"
passes "statistics can be kept" "$opt" --pass="$pass" "$model" --calib="$model/calib.jsonl" --save-stats="$work/stats.safetensors" -o "$work/d"
passes "and used again" "$opt" --pass="$pass" "$model" --stats="$work/stats.safetensors" -o "$work/e"
check "with the same result" diff -r "$work/a" "$work/e"
passes "for another scheme too" "$opt" --pass=quant-kv "$model" --stats="$work/stats.safetensors" -o "$work/f"
passes "random tokens" "$opt" --pass=quant-kv "$model" --calib=random --calib-samples=3 --calib-seqlen=40 -o "$work/g"
passes "no data: scales of 1.0" "$opt" --pass=quant-kv "$model" --calib=none -o "$work/h"
passes "whose IR" "$opt" "$work/h"
check "says so" grep -q 'k_scale = const \[1.0\]' "$work/out"
tr '\n' ' ' <"$model/eval.txt" | head -c 2000 >"$work/plain.txt"
"$QC_BIN/qc-run" tokenize "$model" <"$work/plain.txt" 2>/dev/null | tr -d '[],' | tr ' ' '\n' | tail -n +2 |
    awk '{line = line ", " $1} NR % 99 == 0 {print "{\"input_ids\": [1" line "]}"; line = ""} END {if (line) print "{\"input_ids\": [1" line "]}"}' >"$work/windows.jsonl"
passes "plain text is cut into windows" "$opt" --pass="$pass" "$model" --calib="$work/plain.txt" --calib-seqlen=100 --save-stats="$work/plain.stats" -o "$work/plain.qc"
passes "each behind BOS" "$opt" --pass="$pass" "$model" --calib="$work/windows.jsonl" --save-stats="$work/windows.stats" -o "$work/windows.qc"
check "as if they were lines" cmp "$work/plain.stats" "$work/windows.stats"
check "of which there are many" sh -c "test \$(wc -l <'$work/windows.jsonl') -gt 5"
passes "text that is too long for the model" "$opt" --pass=quant-kv "$model" --calib="$model/eval.txt" --calib-samples=1 -o "$work/long.qc"
check "is said" grep -q 'up to 2048 tokens; the model was made for 512' "$work/err"
passes "a dry run without calibration says what it takes" sh -c "'$opt' --dry-run --scheme=FP8_DYNAMIC '$model' -o '$work/dry' 2>&1 | grep 'writing .* MB; planned peak memory: [0-9]* MiB' && [ ! -e '$work/dry' ]"
passes "a dry run writes nothing" "$opt" --dry-run --pass="$pass" "$model" --calib="$model/calib.jsonl" -o "$work/dry"
check "indeed" test ! -e "$work/dry"
passes "FP8 linears need no data" "$opt" --scheme=FP8_DYNAMIC --ignore=lm_head "$model" -o "$work/fp8"
passes "and are read back" "$opt" "$work/fp8"

# ---- recipes ---------------------------------------------------------------------------------------------------------
recipes=$QC_SOURCE_ROOT/tests/data/recipes
passes "a recipe" "$opt" --recipe="$recipes/fp8-kv.yaml" "$model" --calib="$model/calib.jsonl" -o "$work/recipe"
"$opt" --dump-pipeline --recipe="$recipes/fp8-kv.yaml" "$model" --calib="$model/calib.jsonl" >"$work/pipeline" 2>/dev/null
check "shows what it expands into" sh -c "grep -q '^quant-linear{weights=.*},\$' '$work/pipeline' && grep -q '^quant-kv{granularity=tensor, observer=unset},\$' '$work/pipeline'"
passes "which does the same" "$opt" --pipeline="$(cat "$work/pipeline")" "$model" --calib="$model/calib.jsonl" -o "$work/recipe-again"
check "to the byte" diff -r "$work/recipe" "$work/recipe-again"
check "and is written beside the checkpoint" grep -q '^ *kv_cache_scheme:' "$work/recipe/recipe.yaml"
passes "the recipe that was written" "$opt" --recipe="$work/recipe/recipe.yaml" "$model" --calib="$model/calib.jsonl" -o "$work/recipe-of-recipe"
check "asks for the same checkpoint" cmp "$work/recipe/model.safetensors" "$work/recipe-of-recipe/model.safetensors"
check "with the same recipe" cmp "$work/recipe/recipe.yaml" "$work/recipe-of-recipe/recipe.yaml"
fails "groups that do not divide the columns" 1 "model.layers.0.mlp.down_proj" "$opt" --recipe="$recipes/card.md" "$model" -o "$work/x"
passes "groups of several schemes" "$opt" --recipe="$recipes/mixed.yaml" "$model" -o "$work/mixed"
check "keep their names" grep -q '^        table:' "$work/mixed/recipe.yaml"
passes "a path before a pattern before a class" "$opt" "$work/mixed"
check "decides" grep -q 'weight "model.layers.0.self_attn.o_proj.weight_packed"' "$work/out"
passes "a recipe and a pass beside it" "$opt" --recipe="$recipes/mixed.yaml" --pass=quant-kv "$model" --calib=random -o "$work/beside"
check "give two stages" sh -c "grep -c '_stage:$' '$work/beside/recipe.yaml' | grep -q 2"
passes "JSON" "$opt" --recipe="$recipes/attention.json" "$model" --calib=random -o "$work/json"
fails "a recipe without its data" 1 "fp8-kv.yaml:21: kv_cache_scheme has static scales" "$opt" --recipe="$recipes/fp8-kv.yaml" "$model" -o "$work/x"
passes "remarks" "$opt" --remarks --recipe="$recipes/fp8-kv.yaml" "$model"
check "say what a recipe would do better" grep -q 'fp8-kv.yaml:14: input_activations of group_0: no observer is named' "$work/err"
printf 'a_stage:\n  b_modifiers:\n    QuantizationModifier: {scheme: FP7}\n' >"$work/fp7.yaml"
fails "a scheme that does not exist" 1 "fp7.yaml:3: the scheme 'FP7' is not known, nearest is 'FP8'" "$opt" --recipe="$work/fp7.yaml" "$model"
fails "a recipe that is not there" 1 "no-such.yaml" "$opt" --recipe=no-such.yaml "$model"
fails "a format that does not exist" 2 "pack-quantized" "$opt" --scheme=W4A16 --format=packed "$model"
fails "a format for nothing" 2 "no pass that runs has an option 'format'" "$opt" --pass=quant-kv --format=pack-quantized "$model"
fails "an arithmetic for nothing" 2 "no pass that runs" "$opt" --arith=cuda "$model"
fails "an arithmetic that does not exist" 2 "cpu" "$opt" --arith=tpu --scheme=FP8 "$model"
passes "the arithmetic of a GPU" "$opt" --arith=cuda --dump-pipeline --scheme=FP8_DYNAMIC --pass=quant-kv "$model"
check "goes to all passes" test "$(grep -c 'arith=ct_cuda}' "$work/out")" -eq 2

# ---- bad input -------------------------------------------------------------------------------------------------------
fails "no model" 2 "which MODEL" "$opt"
fails "unknown option" 2 "--pass" "$opt" --pas=x "$model"
fails "missing directory" 1 "no-such-model" "$opt" no-such-model
fails "unknown pass" 2 "quant-fp8-attn" "$opt" --pass=quant-fp8-atn "$model"
fails "unknown option of a pass" 2 "granularity" "$opt" --pass='quant-kv{granularty=head}' "$model"
fails "unknown value of an option" 2 "head" "$opt" --pass='quant-kv{granularity=heads}' "$model"
fails "static inputs without data" 1 "NVFP4A16, of weights alone, needs none" "$opt" --scheme=NVFP4 --ignore='re:.*down_proj' "$model" -o "$work/x"
fails "groups that do not divide" 1 "choose one that does (64), or ignore them" "$opt" --scheme=W4A16 --ignore='re:.*down_proj' "$model"
fails "unknown scheme" 2 "nearest is 'FP8_DYNAMIC'" "$opt" --scheme=FP8_DYNAMC "$model"
fails "statistics are missing" 1 "calib" "$opt" --pass=quant-kv "$model" -o "$work/x"
fails "missing data" 1 "no-such.jsonl" "$opt" --pass=quant-kv "$model" --calib=no-such.jsonl -o "$work/x"
printf '{"text": "a"}\n{"text": 3}\n' >"$work/bad.jsonl"
fails "bad line of data" 1 "bad.jsonl:2: " "$opt" --pass=quant-kv "$model" --calib="$work/bad.jsonl" -o "$work/x"
: >"$work/empty.jsonl"
fails "empty data" 1 "no sequence" "$opt" --pass=quant-kv "$model" --calib="$work/empty.jsonl" -o "$work/x"
echo '{"input_ids": [1, 512]}' >"$work/ids.jsonl"
fails "an id beyond the vocabulary" 1 "512" "$opt" --pass=quant-kv "$model" --calib="$work/ids.jsonl" -o "$work/x"
fails "statistics of another kind" 1 "statistic" "$opt" --pass=quant-kv "$model" --stats="$model/model.safetensors" -o "$work/x"
"$opt" --pass=quant-kv "$QC_SOURCE_ROOT/tests/data/small_models/qwen3" --calib=random --calib-samples=1 --calib-seqlen=4 --save-stats="$work/qwen3" -o "$work/qwen3.qc" 2>/dev/null
fails "statistics of another model" 1 "its statistics are of" "$opt" --pass=quant-kv "$model" --stats="$work/qwen3"
fails "the output exists" 1 "exists" "$opt" --scheme=FP8_DYNAMIC "$model" -o "$work/fp8"
passes "and is replaced by --force" "$opt" --force --scheme=FP8_DYNAMIC --ignore=lm_head "$model" -o "$work/fp8"
fails "not writable" 1 "/proc/nothing" "$opt" --scheme=FP8_DYNAMIC "$model" -o /proc/nothing
fails "ONNX is not read" 1 "ONNX" "$opt" model.onnx
echo 'hello' >"$work/hello.qc"
fails "not IR text" 1 "hello.qc:1:1" "$opt" "$work/hello.qc"
fails "missing plug-in" 1 "no-such.so" "$opt" --load=./no-such.so "$model"
fails "stdout is full" 1 "No space left" sh -c "'$opt' '$model' >/dev/full"
fails "memory that is no size" 2 "--max-memory" "$opt" --pass=quant-kv "$model" --calib=random --max-memory=-1 -o "$work/x"
fails "length that is no length" 2 "--calib-seqlen" "$opt" --pass=quant-kv "$model" --calib=random --calib-seqlen=0 -o "$work/x"
fails "more random tokens than anybody needs" 1 "random tokens: " "$opt" --pass=quant-kv "$model" --calib=random --calib-seqlen=2147483647 -o "$work/x"
fails "data and statistics" 2 "--stats takes the place of --calib" "$opt" --pass=quant-kv "$model" --calib=random --stats="$work/stats.safetensors" -o "$work/x"
fails "statistics to keep of no data" 2 "--save-stats does nothing" "$opt" --pass=quant-kv "$model" --calib=none --save-stats="$work/s" -o "$work/x"
fails "samples of no data" 2 "--calib-samples does nothing" "$opt" --pass=quant-kv "$model" --calib-samples=3
fails "what is ignored without a scheme" 2 "--ignore does nothing without --scheme" "$opt" --pass=quant-kv --ignore=lm_head "$model"
fails "IR after a pass that does not run" 2 "--print-after=dce" "$opt" --pass=quant-kv --print-after=dce "$model"
fails "E5M2 is refused before the data are run" 1 "stores no f8e5m2" "$opt" --pass='quant-kv{type=e5m2}' "$model" --calib=random -o "$work/x"
check "indeed" sh -c "! grep -q calibrating '$work/err'"
passes "what vLLM will not read" "$opt" --scheme=FP8 "$model" --calib=random --calib-samples=1 --calib-seqlen=4 -o "$work/head"
check "is said once, before the data are run" sh -c "test \$(grep -c 'warning: lm_head: vLLM' '$work/err') -eq 1 && head -n 1 '$work/err' | grep -q lm_head"
passes "what names nothing" "$opt" --scheme=FP8_DYNAMIC --ignore=lmhead --disable=model.layers.0 "$model"
check "is said of --ignore" grep -q "warning: quant-linear: ignore: 'lmhead' names no module" "$work/err"
check "and of --disable" grep -q "warning: --disable: 'model.layers.0' names no module" "$work/err"
passes "a pass that comes too late" "$opt" --pass=quant-kv --pass=quant-fp8-attn "$model"
check "says so" grep -q 'quant-fp8-attn: none of the 5 .*: k is quantized already' "$work/err"
passes "data that nobody asks for" "$opt" --scheme=FP8_DYNAMIC "$model" --calib="$model/calib.jsonl" -o "$work/asked.qc"
check "is said" grep -q 'no scale asks for data' "$work/err"
fails "no directory for the text" 1 "missing: is no directory" "$opt" --pass=quant-kv "$model" --calib=random -o "$work/missing/x.qc"
fails "no directory for the statistics" 1 "missing: is no directory" "$opt" --pass=quant-kv "$model" --calib=random --save-stats="$work/missing/s" -o "$work/x"
fails "the text is a directory" 1 "is a directory" "$opt" --force "$model" --emit=ir -o "$work"
fails "standard input is closed" 1 "<stdin>: " sh -c "'$opt' - <&-"
fails "standard output is closed" 1 "standard output" sh -c "'$opt' '$model' >&-"
passes "all streams closed" sh -c "'$opt' --remarks --print-after-all --pass='$pass' '$model' --calib='$model/calib.jsonl' -o '$work/closed' <&- >&- 2>&-"
check "no message went into a file of the checkpoint" diff -r "$work/a" "$work/closed"
fails "quantized already, said before the calibration" 1 "config.json: the source is quantized already" "$opt" --pass=quant-kv "$work/a" --calib=no-such.jsonl -o "$work/x"
fails "help for an unknown pass" 2 "nearest is 'quant-kv'" "$opt" --help-pass=quant-vk
check "nothing half-written is left" test ! -e "$work/x" -a ! -e "$work/x.partial"

# ---- a checkpoint that is broken --------------------------------------------------------------------------------------
broken() { rm -rf "$work/m"; cp -r "$model" "$work/m"; chmod -R u+w "$work/m"; }
broken; rm "$work/m/model.safetensors"
fails "no weights" 1 "model.safetensors" "$opt" "$work/m"
broken; head -c 400000 "$model/model.safetensors" >"$work/m/model.safetensors"
fails "truncated weights" 1 "model.safetensors" "$opt" "$work/m"
broken; sed -i 's/"num_hidden_layers": 5/"num_hidden_layers": 6/' "$work/m/config.json"
fails "a tensor is missing" 1 "model.layers.5." "$opt" "$work/m"
broken; sed -i 's/"hidden_size": 64/"hidden_size": 32/' "$work/m/config.json"
fails "a shape contradicts config.json" 1 "config.json implies" "$opt" "$work/m"
broken; sed -i 's/LlamaForCausalLM/WombatForCausalLM/' "$work/m/config.json"
passes "unknown architecture: the tensors alone" "$opt" "$work/m"
check "every matrix is kept" grep -q "keep %w" "$work/out"
fails "unknown architecture, graph asked for" 1 "Qwen3ForCausalLM" "$opt" --import=graph "$work/m"
fails "--import of a third kind" 2 "graph|tensors" "$opt" --import=weights "$work/m"
broken; echo '{' >"$work/m/config.json"
fails "bad JSON" 1 "config.json:" "$opt" "$work/m"
finish
