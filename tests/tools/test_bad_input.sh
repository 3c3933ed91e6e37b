#!/bin/sh
# SPDX-License-Identifier: MIT
# Bad input to the quantizing tools: recipes, options, data, weights, files that go away, places that cannot be written,
# checkpoints made to deceive. One line that names the place, exit status 1 (2 for the command line), nothing left behind.
. "$(dirname "$0")/tap.sh"
. "$(dirname "$0")/refused.sh"
grid=$QC_SOURCE_ROOT/tests/data/small_models/grid
grid_f16=$QC_SOURCE_ROOT/tests/data/small_models/grid_f16
random='--calib=random --calib-samples=2 --calib-seqlen=8'

# ---- recipes ---------------------------------------------------------------------------------------------------------

# recipe NAME TEXT YAML: of one modifier, in line 3.
recipe() {
    printf 's_stage:\n  q_modifiers:\n    %s\n' "$3" >"$work/r.yaml"
    refused "$1" "$2" --recipe="$work/r.yaml" "$model"
}
quantization() { recipe "$1" "$2" "QuantizationModifier: $3"; }
weights() {
    quantization "$1" "$2" "{config_groups: {g: {targets: [Linear], weights: $3, input_activations: ${4:-null}}}}"
}
recipe "an unknown modifier" "r.yaml:3: the modifier 'QuantisationModifier' is not known, nearest is 'QuantizationModifier'" 'QuantisationModifier: {scheme: FP8}'
recipe "a modifier that qc does not have" "r.yaml:3: qc does not have GPTQModifier" 'GPTQModifier: {scheme: W4A16}'
quantization "an unknown scheme" "nearest is 'W4A16'" '{scheme: W4A17}'
quantization "an unknown key" "the field 'schem' is not known, nearest is 'scheme'" '{schem: FP8}'
quantization "a scheme and groups" "give scheme or config_groups, not both" '{scheme: FP8, config_groups: {}}'
quantization "targets that are no list" "r.yaml:3: targets is a string or a list of strings" '{scheme: FP8, targets: 5}'
quantization "a pattern that does not compile" "r.yaml:3: re:.*(q_proj: bad pattern at offset 9" '{scheme: FP8_DYNAMIC, targets: ["re:.*(q_proj"]}'
quantization "a pattern that takes for ever" "match limit exceeded" '{scheme: FP8_DYNAMIC, ignore: ["re:(.*)*[XY](.*)*$"]}'
quantization "the cache by channel" "kv_cache_scheme: strategy channel cannot be applied to attention" '{kv_cache_scheme: {num_bits: 8, type: float, strategy: channel}}'
recipe "a rotation that is none" "r.yaml:3: the rotation 'R5' is not known" 'SpinQuantModifier: {rotations: [R1, R5]}'
recipe "a rotation that no seed fixes" "r.yaml:3: transform_type random-matrix draws a matrix" 'QuIPModifier: {transform_type: random-matrix}'
recipe "rotations that differ" "r.yaml:3: randomize: llm-compressor does not support it" 'SpinQuantModifier: {randomize: true}'
recipe "rotations of modules of one's own" "r.yaml:3: mappings: qc finds the modules in the graph" 'SpinQuantModifier: {mappings: {embedding: a}}'
recipe "blocks that do not divide" "size 24 does not divide 64" 'SpinQuantModifier: {transform_block_size: 24}'
recipe "blocks without a matrix" "no Hadamard matrix of size 3 is known" 'QuIPModifier: {transform_block_size: 3}'
recipe "rotations of what holds linears" "mlp: a target of @u names this module, which is no linear" 'QuIPModifier: {rotations: [u], targets: ["re:.*mlp.*"], transform_block_size: 4}'
recipe "Sylvester's matrix of 172" "@R4: compressed-tensors has a hadamard for powers of two alone, not for 172" 'SpinQuantModifier: {rotations: [R4]}'
recipe "R3 for vLLM" "which vLLM does not execute (rule r3)" 'SpinQuantModifier: {rotations: [R3]}'
check "with the way to have it" grep -q 'note: --allow=r3 writes it all the same' "$work/err"
refused "R3 behind codes" "the rotation must come before the quantizing passes" --pass=quant-fp8-attn --pass=fold-r3 "$model"
refused "R3 in heads without a matrix" "no Hadamard matrix of size 3 is known" '--pass=fold-r3{size=3}' "$model"
weights "a token's scale for weights" "weights: strategy token must be dynamic" '{num_bits: 8, type: float, strategy: token}'
weights "a channel's scale for inputs" "input_activations: strategy channel is not for inputs" '{num_bits: 8, type: float, strategy: channel}' '{num_bits: 8, type: float, strategy: channel}'
weights "groups without a size" "weights: strategy group needs a group_size above 0" '{num_bits: 4, type: int, strategy: group}'
weights "blocks of nothing" "block_structure is [rows, columns], two integers above 0" '{num_bits: 8, type: float, strategy: block, block_structure: [0, 128]}'
weights "a group of nothing" "group_size cannot be 0" '{num_bits: 4, type: int, strategy: group, group_size: 0}'
weights "a group beyond all integers" "is no integer of 64 bits" '{num_bits: 4, type: int, strategy: group, group_size: 99999999999999999999}'
weights "nine bits" "integers have 2 to 8 bits, not 9" '{num_bits: 9, type: int, strategy: channel}'
weights "asymmetric floats" "codes of floats are symmetric" '{num_bits: 8, type: float, strategy: channel, symmetric: false}'
weights "a search without steps" "observer_args: grid is a number from 0 (excluded)" '{num_bits: 8, type: int, strategy: channel, observer: mse, observer_kwargs: {grid: 0}}'
weights "a search that shrinks by NaN" "maxshrink must be finite" '{num_bits: 8, type: int, strategy: channel, observer: mse, observer_kwargs: {maxshrink: .nan}}'
refused "groups that do not divide the columns" "a group of 128 does not divide the columns of 36 of 36 modules: model.layers.0.self_attn.q_proj (64 columns)" --scheme=W4A16 "$model"
refused "nor 16 columns" "model.layers.0.mlp.down_proj (172 columns)" --scheme=NVFP4A16 "$model"
refused "a target that is nowhere" "targets select none" --scheme=FP8_DYNAMIC --targets=model.layers.0.self_attn.q_prj "$model"
check "with a warning that has the nearest name" grep -q "'model.layers.0.self_attn.q_prj' names no module .*, nearest is 'model.layers.0.self_attn.q_proj'" "$work/err"
warned "one target of several" "'Liner' names no module with a weight to quantize, nearest is 'Linear'" --scheme=FP8_DYNAMIC --targets=Linear --targets=Liner "$model"
mkdir "$work/directory.yaml"
refused "a recipe that is a directory" "directory.yaml: is a directory" --recipe="$work/directory.yaml" "$model"
: >"$work/r.yaml"
refused "an empty recipe" "r.yaml:1: a recipe is a map of NAME_stage" --recipe="$work/r.yaml" "$model"
printf '# nothing\n' >"$work/r.yaml"
refused "comments alone" "r.yaml:1: a recipe is a map of NAME_stage" --recipe="$work/r.yaml" "$model"
refused "a binary" "config.safetensors.yaml:1: no YAML" --recipe="$(cp "$grid/model.safetensors" "$work/config.safetensors.yaml" && echo "$work/config.safetensors.yaml")" "$model"
truncate -s 1G "$work/r.yaml"
refused "a recipe of 1 GiB" "is larger than 1048576 bytes" --recipe="$work/r.yaml" "$model"
python3 -c 'print("[" * 100000)' >"$work/r.yaml"
refused "a recipe nested deeply" "r.yaml:1: nested more than 64 deep" --recipe="$work/r.yaml" "$model"
{
    echo 'a0: &a0 [x, x, x, x, x, x, x, x]'
    for i in 1 2 3 4 5 6 7 8 9 10 11 12; do echo "a$i: &a$i [$(yes "*a$((i - 1))" | head -n 8 | paste -sd,)]"; done
} >"$work/r.yaml"
refused "aliases of aliases of aliases" "r.yaml:1: 'a0' at the top" --recipe="$work/r.yaml" "$model"

# ---- schemes that no loader has --------------------------------------------------------------------------------------
warned "W4AFP8 as int8" "vLLM will refuse it: group_0: no scheme has such weights and inputs: 4-bit integers with FP8 inputs must be stored as pack-quantized" --pass='quant-linear{weights={type=i4, granularity=group, group=32}, input={type=f8e4m3, granularity=token, dynamic}, ignore=[lm_head]}' "$grid" -o "$out"
check "with the way out" grep -q -- '--format=pack-quantized' "$work/err"
check "and no command to serve it" sh -c "! grep -q 'serve it' '$work/err'"
warned "asymmetric INT8 weights" "INT8 weights must be symmetric" --pass='quant-linear{weights={type=i8, granularity=channel, symmetric=false}, input={type=i8, granularity=token, dynamic}, ignore=[lm_head]}' "$grid" -o "$out"
# shellcheck disable=SC2086
warned "an INT8 cache" "kv_cache_scheme: int of 8 bits; only float of 8 is read" --pass=quant-int8-attn "$grid" $random -o "$out"
check "before the data are run" sh -c "head -n 1 '$work/err' | grep -q 'will refuse it'"

# ---- options that contradict each other ------------------------------------------------------------------------------
refused "a format that packs other codes" "nvfp4-pack-quantized packs f4e2m1; its weights are i4" --pass='quant-linear{weights={type=i4, granularity=group, group=32}}' --format=nvfp4-pack-quantized "$grid"
fails "an arithmetic for nothing" 2 "no pass that runs has an option 'arith'" "$opt" --arith=cuda "$grid"
refused "attention without a graph" "without a graph there is no attention to quantize" --import=tensors --pass=quant-fp8-attn "$grid" --calib=random
refused "static inputs without a graph" "static scales need a model that runs" --import=tensors --scheme=FP8 "$grid" --calib=random
fails "statistics in place of the output" 2 "--save-stats and -o cannot both be" "$opt" --pass=quant-kv "$grid" --calib=random --save-stats="$out" -o "$out"
refused "a pattern to disable that takes for ever" "match limit exceeded" --scheme=FP8_DYNAMIC --disable='re:(.*)*[XY](.*)*$' "$model"
warned "a disabled module of a model without a graph" "writing" --import=tensors --scheme=FP8_DYNAMIC --disable='re:.*q_proj' "$grid" -o "$out"
check "is found" sh -c "! grep -q 'names no module' '$work/err'"

# ---- data ------------------------------------------------------------------------------------------------------------
mkdir "$work/chat"
cp "$model"/*.json "$model/model.safetensors" "$work/chat" && chmod u+w "$work/chat"/*
data() { # NAME TEXT LINE
    printf '%s\n' "$3" >"$work/d.jsonl"
    refused "$1" "$2" --pass=quant-kv "$work/chat" --calib="$work/d.jsonl"
}
template() { # NAME TEXT TEMPLATE
    python3 - "$work/chat/tokenizer_config.json" "$3" <<'PYTHON'
import json, sys
c = json.load(open(sys.argv[1]))
c["chat_template"] = sys.argv[2]
json.dump(c, open(sys.argv[1], "w"))
PYTHON
    data "$1" "$2" '{"messages": [{"role": "user", "content": "hi"}]}'
}
data "no messages" 'd.jsonl:1: the line has no input_ids, no text and no messages; it has "prompt", "completion"' '{"prompt": "a", "completion": "b"}'
data "messages without a template" "there is no chat template" '{"messages": [{"role": "user", "content": "hi"}]}'
template "a block beyond the subset" "chat_template:2: the block 'include' is not supported" "$(printf '{%% for m in messages %%}\n{%% include "x" %%}{%% endfor %%}')"
template "a filter beyond the subset" "chat_template:1: there is no filter 'frobnicate'" '{{ messages[0].content | frobnicate }}'
template "a template that doubles" "a text is longer than 64 MiB" '{% set n = namespace(x="a") %}{% for m in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}{{ n.x }}'
template "a template that calls itself" "nested deeper than" '{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}'
template "a template that refuses" "the template refuses the conversation: no" '{{ raise_exception("no") }}'
data "messages without a list" "messages must be a list" '{"messages": null}'
data "a message without a role" "has \"content\", but no role" '{"messages": [{"content": "x"}]}'
printf 'text \377\376' >"$work/d.txt"
refused "text that is no UTF-8" "d.txt: the text is not valid UTF-8 at byte 5" --pass=quant-kv "$work/chat" --calib="$work/d.txt"

# ---- weights ---------------------------------------------------------------------------------------------------------
edit "$grid" "$work/nan" 't[up][2][2000:2002] = b"\xc0\xff"'
edit "$grid" "$work/inf" 't[up][2][-2:] = b"\x80\x7f"'
for scheme in FP8_DYNAMIC FP8_BLOCK NVFP4A16 MXFP4A16 MXFP8A16 W8A8 W4A16 W4A16_ASYM W3A16; do
    refused "NaN under $scheme" "model.layers.0.mlp.up_proj.weight: holds a NaN or an infinity (element 1000)" --scheme=$scheme "$work/nan"
    refused "infinity under $scheme, without a graph" "model.layers.0.mlp.up_proj.weight: holds a NaN or an infinity" --import=tensors --scheme=$scheme "$work/inf"
done
for part in 'type=f4e2m1, granularity=group, group=16, global, scale=f8e4m3, observer=mse' 'type=f4e2m1, granularity=group, group=16, global, scale=f8e4m3, observer=nvfp4_expanded_mse' \
    'type=f4e2m1, granularity=group, group=32, scale=f8e8m0, observer=mse' 'type=i4, granularity=group, group=32, observer=mse' 'type=f8e4m3, granularity=tensor, observer=memoryless_mse' \
    'type=f8e4m3, granularity=block, block=[128, 128], observer=mse' 'type=f8e4m3, granularity=tensor'; do
    refused "NaN under $part" "model.layers.0.mlp.up_proj.weight: holds a NaN or an infinity (element 1000)" --pass="quant-linear{weights={$part}}" "$work/nan"
done
# The largest number of f16 and its negative: the difference of a range's ends, and the power of two above, are infinite.
edit "$grid_f16" "$work/large" 't[up][2][:4] = b"\xff\x7b\xff\xfb"'
for scheme in W4A16_ASYM MXFP4A16 MXFP8A16; do
    refused "no scale large enough under $scheme" "model.layers.0.mlp.up_proj.weight: its numbers are too large: no scale of" --scheme=$scheme "$work/large"
done
refused "nor of a whole tensor" "model.layers.0.mlp.up_proj.weight: its numbers are too large: no scale of f16" --pass='quant-linear{weights={type=i8, granularity=tensor, symmetric=false}}' "$work/large"
passes "others have one" "$opt" --scheme=FP8_DYNAMIC "$work/large" -o "$out"
rm -rf "$out"
edit "$grid" "$work/zero" 't["model.embed_tokens.weight"][2][:] = bytes(len(t["model.embed_tokens.weight"][2]))'
# shellcheck disable=SC2086
for scheme in FP8 NVFP4; do
    refused "inputs of zero under $scheme" "model.layers.0.self_attn.q_proj: resolve-observers: x_" --scheme=$scheme "$work/zero" $random
    check "are named" grep -q 'the statistics are all zero' "$work/err"
done
# shellcheck disable=SC2086
refused "keys of zero" "model.layers.0.self_attn: resolve-observers: k_scale: the statistics are all zero" --pass=quant-kv "$work/zero" $random
edit "$grid" "$work/odd" 't["a.weight"] = ["BF16", [0, 128], b""]' 't["b.weight"] = ["BF16", [128, 0], b""]' 't["c.weight"] = ["BF16", [64, 1], bytes(128)]' \
    't["d.weight"] = ["BF16", [1, 128], bytes(256)]' 't["e.weight"] = ["BF16", [], bytes(2)]' 't["f.weight"] = ["I8", [8, 8], bytes(64)]' \
    't["g.experts.gate_up_proj"] = ["BF16", [2, 8, 8], bytes(256)]' 't["h\nqc-opt: error: i.weight"] = ["BF16", [8, 128], bytes(2048)]'
passes "no elements, one column, one row, no dimension" "$opt" --import=tensors --scheme=FP8_DYNAMIC "$work/odd" -o "$out"
check "what loaders would expect codes of is in ignore" python3 -c "
import json; assert json.load(open('$out/config.json'))['quantization_config']['ignore'] == ['f', 'g.experts']"
passes "and is read back" "$opt" --import=tensors "$out"
rm -rf "$out"
refused "one column in groups" "c (1 columns)" --import=tensors --scheme=NVFP4A16 "$work/odd"

# ---- files -----------------------------------------------------------------------------------------------------------
for file in config.json model.safetensors; do
    fails "$file is not written over by IR" 1 "$file: is a file of the model" "$opt" --force --emit=ir "$work/chat" -o "$work/chat/$file"
done
fails "nor by statistics" 1 "model.safetensors: is a file of the model" "$opt" --force --pass=quant-kv "$work/chat" --calib=random --save-stats="$work/chat/model.safetensors"
cp "$model/calib.jsonl" "$work/mine.jsonl"
ln -s mine.jsonl "$work/link.jsonl"
fails "data are not written over" 1 "link.jsonl: is what --calib reads" "$opt" --force --pass=quant-kv "$model" --calib="$work/mine.jsonl" --save-stats="$work/link.jsonl"
fails "nor the statistics of before" 1 "mine.jsonl: exists already; --force replaces it" "$opt" --pass=quant-kv "$model" --calib=random --save-stats="$work/mine.jsonl"
check "indeed" cmp "$model/calib.jsonl" "$work/mine.jsonl"
ln -s chat "$work/same"
for place in "$work/chat" "$work/same" "$work/chat/../chat" "$work"; do
    fails "the output is the input: $(basename "$place")" 1 "is the source's directory, or holds it" "$opt" --force --scheme=FP8_DYNAMIC "$work/chat" -o "$place"
done
passes "the output is in the input" "$opt" --scheme=FP8_DYNAMIC "$work/chat" -o "$work/chat/sub"
check "and does not tell of itself" sh -c "! grep -q partial '$work/err'"
passes "also without a graph" "$opt" --force --import=tensors --scheme=FP8_DYNAMIC "$work/chat" -o "$work/chat/sub"
check "where it does not hold itself" test ! -e "$work/chat/sub/sub" -a ! -e "$work/chat/sub/sub.partial"
mkdir "$work/other" && touch "$work/other/precious"
fails "a directory that is no checkpoint stays" 1 "holds no config.json" "$opt" --force --scheme=FP8_DYNAMIC "$model" -o "$work/other"
check "indeed" test -e "$work/other/precious"
mkdir "$out.partial"
fails "what an interrupted run left is said" 1 "exists already: a run was interrupted" "$opt" --scheme=FP8_DYNAMIC "$model" -o "$out"
passes "and replaced by --force" "$opt" --force --scheme=FP8_DYNAMIC "$model" -o "$out"
check "wholly" test ! -e "$out.partial"
rm -rf "$out"
fails "a file that grows too large" 1 "model.safetensors: cannot write: File too large" sh -c "ulimit -f 100; exec '$opt' --scheme=FP8_DYNAMIC '$model' -o '$out'"
check "leaves nothing" test ! -e "$out" -a ! -e "$out.partial"
mkdir "$work/small"
if mount -t tmpfs -o size=300k tmpfs "$work/small" 2>/dev/null; then
    fails "a disk that is full half-way" 1 "model.safetensors: cannot write: No space left on device" "$opt" --scheme=FP8_DYNAMIC "$model" -o "$work/small/o"
    check "is empty behind it" sh -c "test -z \"\$(ls '$work/small')\""
    umount "$work/small"
else
    skip "a disk that is full half-way" "nothing can be mounted"
fi

# ---- a source that changes, a run that is stopped -----------------------------------------------------------------------
if [ -x "${QC_MAKE_CHECKPOINT:-}" ]; then
    "$QC_MAKE_CHECKPOINT" "$work/large-model" --size=160MiB --shards=3 --vocabulary=4000 >/dev/null
    last=model-00003-of-00003.safetensors
    # while_running NAME TEXT CODE: the code runs once the output is being written.
    cat >"$work/while.py" <<'PYTHON'
import os, shutil, signal, subprocess, sys, time
opt, model, out, code = sys.argv[1:5]
p = subprocess.Popen([opt, "--threads=1", "--scheme=NVFP4A16", "--ignore=lm_head", model, "-o", out], stderr=subprocess.PIPE,
                     preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
while p.poll() is None and not os.path.exists(out + ".partial"):
    time.sleep(0.001)
exec(code)
sys.stderr.buffer.write(p.communicate()[1])
sys.exit(p.returncode if p.returncode >= 0 else 128 - p.returncode)
PYTHON
    while_running() {
        rm -rf "$work/changing" && cp -r "$work/large-model" "$work/changing"
        fails "$1" 1 "$2" python3 "$work/while.py" "$opt" "$work/changing" "$out" "shard = model + '/$last'; $3"
        check "nothing is left" test ! -e "$out" -a ! -e "$out.partial"
        rm -rf "$out" "$out.partial"
    }
    while_running "a shard that is cut" "$last: " 'os.truncate(shard, 100000)'
    while_running "a shard that goes away" "$last: went away while it was read" 'os.remove(shard)'
    while_running "a shard that is replaced" "$last: was replaced while it was read" 'shutil.copy(shard, model + "/new"); os.rename(model + "/new", shard)'
    while_running "a shard that is written to" "$last: changed while it was read" 'f = open(shard, "r+b"); f.seek(200000); f.write(bytes(9)); f.close()'
    for name in INT TERM; do
        run 0 python3 "$work/while.py" "$opt" "$work/large-model" "$out" "p.send_signal(signal.SIG$name)"
        check "SIG$name ends it ($got)" test "$got" -gt 128 -a ! -e "$out"
        fails "and the next run says what is left" 1 "out-checkpoint.partial: exists already: a run was interrupted" "$opt" --scheme=NVFP4A16 "$work/large-model" -o "$out"
        rm -rf "$out" "$out.partial"
    done
else
    skip "a source that changes, a run that is stopped" "no generator of checkpoints"
fi

# ---- attention, caches of codes, rotations ---------------------------------------------------------------------------
small=$QC_SOURCE_ROOT/tests/data/small_models/qwen3
golden=$model/golden.safetensors
quantization "attention by a pattern without an end" "r.yaml:3: g: 're:.*self_attn' names the linears below attention, too, whose inputs llm-compressor would take in its place: write 're:.*self_attn\$'" \
    '{config_groups: {g: {targets: ["re:.*self_attn"], input_activations: {num_bits: 8, type: float, strategy: tensor}}}}'
refused "three rules at once" "(rule nvfp4-attention); model.layers.0.self_attn: the mean of each channel is taken from k, which vLLM does not do (rule center-k); model.layers.0.self_attn: q and k are rotated" '--pass=fold-r3,quant-nvfp4-attn{center_k}' "$small" --calib=random
check "with all that allows them" grep -q 'note: --allow=nvfp4-attention --allow=center-k --allow=r3 writes it all the same' "$work/err"
refused "those left" "(rule nvfp4-attention); " '--pass=fold-r3,quant-nvfp4-attn{center_k}' --allow=r3 "$small" --calib=random
check "are named alone" grep -q 'note: --allow=nvfp4-attention --allow=center-k writes it all the same' "$work/err"

# Layers without codes under one kv_cache_scheme: qc-run reads 1.0 for them, as loaders do.
for pass in 'quant-kv{layers=[0]}' 'quant-kv{layers=[0], granularity=head}' 'quant-fp8-attn{layers=[0]}'; do
    rm -rf "$work/part"
    # shellcheck disable=SC2086
    passes "$pass" "$opt" "--pass=$pass" "$model" $random -o "$work/part"
    check "says once what a loader makes of the others" test "$(grep -c 'model.layers.1.self_attn: not quantized (nor are 3 more attention modules).*with 1.0 for their scales' "$work/err")" -eq 1
    passes "$pass is read" "$QC_BIN/qc-run" logits "$work/part" --input="$golden" -o "$work/part.logits"
    check "with a warning that names them" grep -q '1.0 is taken for: model.layers.1.self_attn, model.layers.2.self_attn, model.layers.3.self_attn, model.layers.4.self_attn$' "$work/err"
    edit "$work/part" "$work/ones" 'one = ["BF16", [4, 1, 1], b"\x80\x3f" * 4] if "head" in "'"$pass"'" else ["BF16", [1], b"\x80\x3f"]
for layer in range(1, 5):
    for x in "kv": t["model.layers.%d.self_attn.%s_scale" % (layer, x)] = one'
    passes "with ones stored" "$QC_BIN/qc-run" logits "$work/ones" --input="$golden" -o "$work/ones.logits"
    check "the logits are the same" cmp "$work/part.logits" "$work/ones.logits"
    edit "$work/part" "$work/half" 't["model.layers.1.self_attn.v_scale"] = t["model.layers.0.self_attn.v_scale"]'
    fails "one scale of the two" 1 "tensor model.layers.1.self_attn.k_scale is missing" "$QC_BIN/qc-run" logits "$work/half" --input="$golden" -o "$work/half.logits"
done
refused "a part of the cache in NVFP4" "model.layers.1.self_attn: not quantized, but the checkpoint's kv_cache_scheme speaks for all attention modules, and there is no global scale" '--pass=quant-kv{type=nvfp4, layers=[0]}' --allow=nvfp4-attention "$small" --calib=random

# shellcheck disable=SC2086
warned "a layer that is not there" "quant-kv: layers: '99' names no layer with attention" '--pass=quant-kv{layers=[0, 99]}' "$model" $random -o "$out"

# heads of 6 columns
edit "$model" "$work/six" 'c["head_dim"] = 6
for k in list(t):
    if "self_attn" in k:
        rows, columns = (64, 48) if "o_proj" in k else (48 if "q_proj" in k else 24, 64)
        t[k] = ["BF16", [rows, columns], b"\x00\x3c" * (rows * columns)]'
for pass in fold-r3 fold-r2; do
    refused "$pass of heads of 6 columns" "model.layers.0.self_attn: $pass: no Hadamard matrix of size 6 for the head dimension is known" --pass=$pass --allow=r3 "$work/six"
done
refused "NVFP4 of heads of 6 columns" "the head dimension must be a multiple of 16 for NVFP4" --pass=quant-nvfp4-attn "$work/six" --calib=random
fails "in a comparison" 1 "no Hadamard matrix of size 6" "$QC_BIN/qc-run" compare "$work/six" --recipes=fold-r3+quant-fp8-attn --calib=random --data="$model/eval.txt" --html="$work/c.html"
check "without a page" test ! -e "$work/c.html"
refused "a page of no tokens" "a page holds 1 to 65536 tokens, not 0" '--pass=quant-kv,lower-kv-cache{page=0}' "$model" --calib=random
refused "a page of too many" "a page holds 1 to 65536 tokens, not 9999999999999" '--pass=quant-kv,lower-kv-cache{page=9999999999999}' "$model" --calib=random
fails "headroom that is no number" 2 "option 'headroom' is a number, not 'nan'" "$opt" '--pass=quant-fp8-attn{headroom=nan}' "$model" --calib=random -o "$out"
refused "headroom that saturates" "headroom is a number from 1 to 1024" '--pass=quant-fp8-attn{headroom=0.5}' "$model" --calib=random
fails "statistics of nothing" 2 "--collect=nonsense: what can be kept" "$opt" --pass=quant-kv "$model" --calib=random --collect=nonsense --save-stats="$out"
fails "a cache of another type than the model's" 1 "the model's KV cache holds f8e4m3 codes with scales; --kv-cache-dtype cannot make it int4" "$QC_BIN/qc-run" generate "$work/part" --kv-cache-dtype=int4 --prompt=Once

edit "$model" "$work/nan-v" 't["model.layers.0.self_attn.v_proj.weight"][2][2:4] = b"\xc0\x7f"'
edit "$model" "$work/nan-down" 't["model.layers.0.mlp.down_proj.weight"][2][2:4] = b"\xc0\x7f"'
edit "$model" "$work/inf-norm" 't["model.layers.0.input_layernorm.weight"][2][2:4] = b"\x80\x7f"'
for pass in fold-norms fold-r1 fold-r2 insert-quip; do
    refused "NaN under $pass" "model.layers.0.self_attn.v_proj.weight: holds a NaN or an infinity (element 1)" --pass=$pass "$work/nan-v"
done
refused "NaN under insert-r4" "model.layers.0.mlp.down_proj.weight: holds a NaN or an infinity (element 1)" '--pass=insert-r4{matrix=random_hadamard}' "$work/nan-down"
refused "an infinite norm" "model.layers.0.input_layernorm.weight: holds a NaN or an infinity (element 1)" --pass=fold-r1 "$work/inf-norm"

# Centered embeddings have statistics of their own.
printf 's:\n  m:\n    SpinQuantModifier: {rotations: [R1]}\n    QuantizationModifier: {targets: [Linear], scheme: FP8, ignore: [lm_head]}\n' | sed 's/^s:/s_stage:/; s/^  m:/  q_modifiers:/' >"$work/r.yaml"
# shellcheck disable=SC2086
passes "statistics of a centered model" "$opt" --recipe="$work/r.yaml" "$model" $random --save-stats="$work/centered.safetensors"
check "name it" grep -aq 'q_proj.input@centered@normed@R1.max' "$work/centered.safetensors"
refused "and serve no other" "model.layers.0.self_attn.q_proj.input@normed@R1" '--pass=fold-r1,quant-linear{scheme=FP8, ignore=[lm_head]}' "$model" --stats="$work/centered.safetensors" --force

# transform_config: what does not fit is an error or a warning of qc-run and a problem to qc-check.
"$opt" '--pass=insert-r4{matrix=random_hadamard}' "$model" -o "$work/r4" 2>/dev/null
# rotated NAME STATUS TEXT PROBLEM CODE: qc-run ends with STATUS and a line with TEXT, qc-check finds PROBLEM.
rotated() {
    edit "$work/r4" "$work/hostile" "r = c['quantization_config']['transform_config']['config_groups']['R4']; m = [k for k in t if 'R4' in k][0]" "$5"
    rm -f "$work/r4.logits"
    run "$2" "$QC_BIN/qc-run" logits "$work/hostile" --input="$golden" -o "$work/r4.logits"
    check "$1: qc-run" sh -c "[ $got -eq $2 ] && grep -qF -- \"$3\" '$work/err' && { [ $2 -eq 0 ] || [ ! -e '$work/r4.logits' ]; }"
    run 1 "$QC_BIN/qc-check" "$work/hostile"
    check "$1: qc-check" grep -qF -- "problem: $4" "$work/out"
}
rotated "a matrix that is not there" 0 "rotates by a matrix of size 172 as the model runs, and none is stored" "transform_config.R4 rotates by a matrix of size 172 as the model runs, and none is stored" 'del t[m]'
rotated "a matrix of NaN" 1 "is not the random-hadamard matrix that transform_config.R4 names" "model.layers.0.mlp.down_proj.R4_input.weight holds entries that are neither 1 nor -1" 't[m][2][:4] = b"\x00\x00\xc0\x7f"'
rotated "a matrix of halves" 1 "is not the random-hadamard matrix that transform_config.R4 names" "model.layers.0.mlp.down_proj.R4_input.weight holds entries that are neither 1 nor -1" 't[m][2][-4:] = b"\x00\x00\x00\x3f"'
rotated "a matrix that is no square" 1 "is no square matrix of floats" "model.layers.0.mlp.down_proj.R4_input.weight is F32 [86, 344]" 't[m][1] = [86, 344]'
rotated "blocks that do not divide" 1 "R4 has no random-hadamard matrix of size 7" "transform_config.R4: blocks of 7 do not divide the 172" 'r["head_dim"] = 7'
rotated "a negative size" 1 "head_dim -8 is no size" "transform_config.R4: head_dim must be an integer above 0, or null" 'r["head_dim"] = -8'
rotated "a size beyond all integers" 1 "head_dim must be an integer of at most 64 bits" "transform_config.R4: head_dim must be an integer above 0, or null" 'r["head_dim"] = 10**30'
rotated "an unknown type" 1 "type 'frob' of a rotation at run time is not supported" "transform_config.R4 is of the type 'frob', which no loader knows" 'r["type"] = "frob"'
rotated "groups that are none" 1 "config_groups must be an object" "transform_config.config_groups must be an object" 'c["quantization_config"]["transform_config"]["config_groups"] = [1]'

# Statistics that are none.
# shellcheck disable=SC2086
"$opt" --pass=quant-kv "$model" $random --save-stats="$work/s.safetensors" >/dev/null 2>&1
statistics() { # NAME TEXT CODE: of the header h and the bytes b
    python3 - "$work/s.safetensors" "$work/h.safetensors" "$3" <<'PYTHON'
import json, struct, sys
data = open(sys.argv[1], "rb").read()
end = 8 + struct.unpack("<Q", data[:8])[0]
h, b = json.loads(data[8:end]), bytearray(data[end:])
k = "model.layers.0.self_attn.k.max"
exec(sys.argv[3])
text = json.dumps(h).encode()
open(sys.argv[2], "wb").write(struct.pack("<Q", len(text)) + text + bytes(b))
PYTHON
    refused "$1" "$2" --force --pass=quant-kv "$model" --stats="$work/h.safetensors"
}
statistics "a range of NaN" "model.layers.0.self_attn.k.max holds a value that is not finite" 'o = h[k]["data_offsets"][0]; b[o:o + 4] = b"\x00\x00\xc0\x7f"'
statistics "a range upside down" "model.layers.0.self_attn.k: a minimum is above its maximum" 'o = h[k]["data_offsets"][0]; b[o:o + 4] = b"\x00\x00\x80\xff"[:2] + b"\x7f\xff"'
statistics "a range of integers" "model.layers.0.self_attn.k.max must be F32" 'h[k]["dtype"] = "I32"'
statistics "an unknown kind" "model.layers.0.self_attn.k.frob is no statistic" 'h[k[:-3] + "frob"] = h.pop(k)'
statistics "statistics cut short" "it is cut short" 'b = b[:len(b) // 2]'
refused "the model's weights as statistics" "is no statistic" --force --pass=quant-kv "$model" --stats="$model/model.safetensors"
fails "a page over a full disk" 1 "/dev/full: cannot write" "$QC_BIN/qc-check" --stats="$work/s.safetensors" --html=/dev/full
fails "a comparison on it" 1 "/dev/full: cannot write" "$QC_BIN/qc-run" compare "$model" --recipes=FP8_DYNAMIC --data="$model/eval.txt" --context=64 --html=/dev/full

# Ctrl-C in a comparison and an evaluation
cat >"$work/interrupt.py" <<'PYTHON'
import signal, subprocess, sys, time
p = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
time.sleep(0.3)
p.send_signal(signal.SIGINT)
sys.exit(0 if p.wait() != 0 else 3)
PYTHON
mkdir "$work/interrupted"
python3 -c 'print("\n".join("{\"question\": \"Once upon a time %d\", \"answer\": \"1\"}" % i for i in range(4000)))' >"$work/questions.jsonl"
passes "Ctrl-C ends a comparison" python3 "$work/interrupt.py" "$QC_BIN/qc-run" compare "$model" --recipes=quant-kv --calib=random --calib-samples=4096 --calib-seqlen=512 --data="$model/eval.txt" --html="$work/interrupted/c.html"
passes "Ctrl-C ends an evaluation" python3 "$work/interrupt.py" "$QC_BIN/qc-run" eval "$model" --task="$work/questions.jsonl" --fewshot=0 --log-samples="$work/interrupted/log.jsonl"
check "nothing is left of either" sh -c "[ -z \"\$(ls -A '$work/interrupted')\" ]"

# ---- checkpoints that are quantized already, made to deceive -----------------------------------------------------------
"$opt" --scheme=W4A16_ASYM --ignore=lm_head "$grid" -o "$work/int4" 2>/dev/null
"$opt" --scheme=FP8_DYNAMIC --ignore=lm_head "$grid" -o "$work/fp8" 2>/dev/null
# deceives NAME SOURCE TEXT CODE...: it is not read, in one line with TEXT; qc-check finds a problem.
deceives() {
    name=$1 source=$2 text=$3
    shift 3
    edit "$source" "$work/hostile" "g = next(iter(c['quantization_config']['config_groups'].values())); p = 'model.layers.0.mlp.up_proj.'" "$@"
    fails "$name" 1 "$text" "$opt" "$work/hostile"
    run 1 "$QC_BIN/qc-check" "$work/hostile"
    check "qc-check sees it too" test "$got" -eq 1
}
deceives "codes without a scale" "$work/int4" "up_proj" 'del t[p + "weight_scale"]'
deceives "no weight_shape" "$work/int4" "up_proj" 'del t[p + "weight_shape"]'
deceives "a weight_shape that lies" "$work/int4" "up_proj" 't[p + "weight_shape"][2] = bytearray((2**62).to_bytes(8, "little") * 2)'
deceives "words too short" "$work/int4" "up_proj" 't[p + "weight_packed"][1][1] -= 1; t[p + "weight_packed"][2] = t[p + "weight_packed"][2][:4 * t[p + "weight_packed"][1][0] * t[p + "weight_packed"][1][1]]'
deceives "scales of another shape" "$work/fp8" "up_proj.weight_scale" 't[p + "weight_scale"] = ["BF16", [7, 3], bytes(42)]'
deceives "groups of a negative size" "$work/int4" "group_size" 'g["weights"]["group_size"] = -5'
deceives "nine bits" "$work/int4" "config.json" 'g["weights"]["num_bits"] = 9'
deceives "groups that are no map" "$work/int4" "config_groups" 'c["quantization_config"]["config_groups"] = 5'
python3 -c '
import struct, sys
text = b"{\"input_ids\": {\"dtype\": \"I64\", \"shape\": [1, 4], \"data_offsets\": [0, 32]}}"
open(sys.argv[1], "wb").write(struct.pack("<Q", len(text)) + text + struct.pack("<4q", 1, 2, 3, 4))' "$work/ids.safetensors"
edit "$work/fp8" "$work/hostile" 't["model.layers.0.mlp.up_proj.weight_scale"][2][:2] = b"\xc0\x7f"'
fails "a scale of NaN" 1 "up_proj.weight_scale: holds a NaN or an infinity" "$QC_BIN/qc-run" logits "$work/hostile" --input="$work/ids.safetensors" -o "$work/logits.safetensors"
refused "quantized again" "up_proj.weight_scale: holds a NaN or an infinity (element 0)" --import=tensors --scheme=W8A8 "$work/hostile"
run 1 "$QC_BIN/qc-check" "$work/hostile"
check "and looked at" grep -q '^problem: model.layers.0.mlp.up_proj.weight_scale holds nan' "$work/out"
# FP8 in blocks, by its maker
blocks='[t.update({k: ["F8_E4M3", t[k][1], bytes(len(t[k][2]) // 2)], k + "_scale_inv": ["F32", [(t[k][1][0] + 63) // 64, (t[k][1][1] + 63) // 64], b"\x00\x00\x80\x3f" * (((t[k][1][0] + 63) // 64) * ((t[k][1][1] + 63) // 64))]}) for k in list(t) if k.endswith("_proj.weight")]; c["quantization_config"] = {"quant_method": "fp8", "weight_block_size": [64, 64]}'
maker() { # NAME TEXT CODE
    edit "$grid" "$work/hostile" "$blocks" "$3"
    refused "$1" "$2" --import=tensors --scheme=W8A8 "$work/hostile"
}
maker "blocks without a scale" "up_proj.weight holds codes, but no scale lies beside it" 'del t[up + "_scale_inv"]'
maker "blocks with too few scales" "up_proj.weight_scale_inv has shape [1, 1]" 't[up + "_scale_inv"] = ["F32", [1, 1], bytes(4)]'
maker "blocks of no size" "weight_block_size must be [rows, columns]" 'c["quantization_config"]["weight_block_size"] = [0, 64]'
maker "a scale that overflows" "model.layers.0.mlp.up_proj.weight: what is computed from it is not finite" 't[up][2] = bytes([0x7e]) * len(t[up][2]); t[up + "_scale_inv"][2] = b"\xff\xff\x7f\x7f" * (len(t[up + "_scale_inv"][2]) // 4)'
maker "codes of NaN" "model.layers.0.mlp.up_proj.weight: holds a NaN or an infinity (element 0)" 't[up][2] = bytes([0x7f]) * len(t[up][2])'
finish
