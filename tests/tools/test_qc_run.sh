#!/bin/sh
# SPDX-License-Identifier: MIT
# usage: test_qc_run.sh QC-RUN SOURCE-ROOT
# Every command of qc-run on the model in the tree, and every kind of bad input. TAP on standard output.
# Expected figures: perplexities, golden logits and the greedy text are Transformers' (tests/data/README.md), token
# ids those of the Python package tokenizers.
run=$1
model=$2/tests/data/stories260k
command=
. "$2/tests/tools/qc_run_tap.sh"

# number KEY: its value in the JSON object on standard output.
number()
{
    sed -n "s/.*\"$1\": \\([^,}]*\\).*/\\1/p" "$work/out"
}

# near VALUE EXPECTED TOLERANCE
near()
{
    awk -v a="$1" -v b="$2" -v t="$3" 'BEGIN { d = a - b; exit !(a != "" && d <= t && -d <= t) }'
}

# ---- tokenize

printf 'Once upon a time\n\n  two  spaces \nna\303\257ve \346\227\245\346\234\254 "q"' >"$work/texts"
"$run" tokenize "$model" <"$work/texts" >"$work/out" 2>"$work/err"
status=$?
cat >"$work/want" <<'IDS'
[1, 403, 407, 261, 378]
[1]
[1, 410, 410, 259, 424, 414, 410, 262, 427, 412, 331, 419, 410]
[1, 297, 412, 198, 178, 360, 410, 233, 154, 168, 233, 159, 175, 313, 456, 436]
IDS
[ $status -eq 0 ] && cmp -s "$work/out" "$work/want"
ok "tokenize gives the ids of the tokenizers package, the last line without newline too" $?

"$run" tokenize "$model" --decode <"$work/want" >"$work/out" 2>"$work/err"
printf '<s> Once upon a time\n<s>\n<s>   two  spaces \n<s> na\303\257ve \346\227\245\346\234\254 "q"\n' >"$work/want"
cmp -s "$work/out" "$work/want"
ok "tokenize --decode keeps special tokens" $?

printf '"a\\nb"\n"\\u65e5"\n' | "$run" tokenize "$model" --jsonl >"$work/out" 2>"$work/err"
[ $? -eq 0 ] && [ "$(head -n 1 "$work/out")" = "[1, 261, 13, 430]" ]
ok "tokenize --jsonl reads JSON strings" $?
"$run" tokenize "$model" --jsonl --decode <"$work/out" >"$work/back" 2>"$work/err"
[ "$(head -n 1 "$work/back")" = '"<s> a\nb"' ] && [ "$(sed -n 2p "$work/back")" = '"<s> \u65e5"' ]
ok "tokenize --jsonl --decode writes them" $?

printf 'good\nbad \377 byte\n' | "$run" tokenize "$model" >"$work/out" 2>"$work/err"
[ $? -eq 1 ] && grep -q '^qc-run: error: standard input:2: .*UTF-8 at byte 4' "$work/err"
ok "tokenize names the line that is not UTF-8" $?
printf '{"a": 1}\n' | "$run" tokenize "$model" --jsonl >"$work/out" 2>"$work/err"
[ $? -eq 1 ] && grep -q '^qc-run: error: standard input:1: ' "$work/err"
ok "tokenize --jsonl refuses what is no string" $?
printf '"good"\n"bad\n' | "$run" tokenize "$model" --jsonl >"$work/out" 2>"$work/err"
[ $? -eq 1 ] && grep -q '^qc-run: error: standard input:2:1: ' "$work/err"
ok "tokenize --jsonl names line and column of bad JSON" $?
printf '[1, 512]\n' | "$run" tokenize "$model" --decode >"$work/out" 2>"$work/err"
[ $? -eq 1 ] && grep -q '^qc-run: error: standard input:1: no token has the id 512' "$work/err"
ok "tokenize --decode refuses an id that no token has" $?
printf '[1, "x"]\n' | "$run" tokenize "$model" --decode >"$work/out" 2>"$work/err"
[ $? -eq 1 ] && grep -q 'item 2 is no token id' "$work/err"
ok "tokenize --decode refuses what is no id" $?
"$run" tokenize "$model" </dev/null >"$work/out" 2>"$work/err"
[ $? -eq 0 ] && [ ! -s "$work/out" ]
ok "tokenize of nothing is nothing" $?

# ---- conversations: a copy of the model with a chat template; expected ids are Transformers'

mkdir "$work/chat" && cp "$model"/*.json "$model"/model.safetensors "$work/chat/" && chmod -R u+w "$work/chat"
printf '%s\n%s' '{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content | trim }}' \
    '{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}' >"$work/chat/chat_template.jinja"
said='[{"role": "system", "content": " Be kind. "}, {"role": "user", "content": "na\u00efve \u65e5\u672c\n"}]'
ids='1, 262, 422, 356, 411, 423, 467, 368, 411, 409, 417, 264, 426, 13, 425, 419, 285, 467, 297, 412, 198, 178, 360, 410, 233, 154, 168, 233, 159, 175, 13'
printf '{"messages": %s}\n{"messages": %s, "add_generation_prompt": true}\n' "$said" "$said" |
    "$run" tokenize "$work/chat" --chat >"$work/out" 2>"$work/err"
status=$?
printf '[%s]\n[%s, 412, 419, 419, 293, 413, 303, 413, 467]\n' "$ids" "$ids" >"$work/want"
[ $status -eq 0 ] && cmp -s "$work/out" "$work/want"
ok "tokenize --chat gives the ids of apply_chat_template" $?
refuses_chat()
{
    printf '%s\n' "$3" | "$run" tokenize "$2" --chat >"$work/out" 2>"$work/err"
    [ $? -eq 1 ] && [ ! -s "$work/out" ] && [ "$(grep -c . "$work/err")" -eq 1 ] && grep -qF -- "$4" "$work/err"
    ok "tokenize --chat: $1" $?
}
refuses_chat "a line without messages" "$work/chat" '{"text": "x"}' 'standard input:1: a line must be an object with messages'
refuses_chat "an unknown member" "$work/chat" '{"messages": [], "tool": []}' 'standard input:1: there is no member "tool"'
refuses_chat "no message" "$work/chat" '{"messages": []}' 'standard input:1: messages has no message'
refuses_chat "a message without role" "$work/chat" '{"messages": [{"from": "human", "value": "x"}]}' \
    'message 1 of messages has "from", "value", but no role'
refuses_chat "no template" "$model" '{"messages": []}' 'there is no chat template'
printf '{%%- for m in messages -%%}\n{%% if m.role == "tool" %%}{{ raise_exception("no tools here") }}{%% endif %%}\n{%%- endfor -%%}' >"$work/chat/chat_template.jinja"
refuses_chat "what the template refuses" "$work/chat" '{"messages": [{"role": "tool", "content": ""}]}' \
    'chat_template.jinja:2: the template refuses the conversation: no tools here'
printf 'a\n{%% include "x" %%}' >"$work/chat/chat_template.jinja"
refuses_chat "a construct beyond the language" "$work/chat" '{"messages": []}' "chat_template.jinja:2: the block 'include' is not supported"
fails "tokenize --chat goes without --decode" 2 "--chat goes with neither" tokenize "$work/chat" --chat --decode
printf '%s\n%s' '{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content | trim }}' \
    '{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}' >"$work/chat/chat_template.jinja"
printf '{"messages": %s}\n' "$said" >"$work/chat.jsonl"
printf '{"input_ids": [%s]}\n' "$ids" >"$work/chat-ids.jsonl"
qc perplexity "$work/chat" --data="$work/chat-ids.jsonl" --json
perplexity=$(number perplexity)
qc perplexity "$work/chat" --data="$work/chat.jsonl" --json
[ $status -eq 0 ] && [ -n "$perplexity" ] && [ "$(number perplexity)" = "$perplexity" ]
ok "perplexity of messages is that of their ids" $?
fails "perplexity of messages without a template" 1 "there is no chat template" perplexity "$model" --data="$work/chat.jsonl"
qc generate "$work/chat" --chat --prompt=Once --max-tokens=8
[ $status -eq 0 ] && [ -s "$work/out" ] && grep -q 'prompt: 15 tokens' "$work/err"
ok "generate --chat puts the prompt into the template" $?
fails "generate --chat without a template" 1 "there is no chat template" generate "$model" --chat --prompt=x

# ---- generate

story=', there was a little girl named Lily. She loved to play outside in the park. One day, she saw a big, red ball.'
qc generate "$model" --prompt='Once upon a time' --max-tokens=60
[ $status -eq 0 ] && head -n 1 "$work/out" | grep -qF -- "$story" && grep -q 'KV cache: .* of bf16 for 65 tokens' "$work/err"
ok "generate: greedy text as Transformers has it, the size of the KV cache said" $?
case $(cat "$work/out") in ", there"*) true ;; *) false ;; esac
ok "generate: the text begins where the prompt ends" $?
cp "$work/out" "$work/greedy"
qc generate "$model" --prompt='Once upon a time' --max-tokens=60 --threads=1
cmp -s "$work/out" "$work/greedy"
ok "generate: the same text by one thread" $?
qc generate "$model" --prompt='Once upon a time' --max-tokens=60 --temperature=0
cmp -s "$work/out" "$work/greedy"
ok "generate: temperature 0 is greedy" $?
qc generate "$model" --prompt='Once upon a time' --max-tokens=40 --temperature=1 --seed=5
cp "$work/out" "$work/drawn"
qc generate "$model" --prompt='Once upon a time' --max-tokens=40 --temperature=1 --seed=5
[ $status -eq 0 ] && cmp -s "$work/out" "$work/drawn"
ok "generate: equal seeds draw equal texts" $?
qc generate "$model" --prompt='Once upon a time' --max-tokens=40 --temperature=1 --seed=6
[ $status -eq 0 ] && ! cmp -s "$work/out" "$work/drawn"
ok "generate: other seeds draw other texts" $?
qc generate "$model" --prompt='Once upon a time' --max-tokens=60 --temperature=1 --top-k=1
cmp -s "$work/out" "$work/greedy"
ok "generate: the likeliest one token is the greedy one" $?
qc generate "$model" --prompt='Once upon a time' --max-tokens=60 --temperature=1 --top-p=0.000001
cmp -s "$work/out" "$work/greedy"
ok "generate: so is the smallest nucleus" $?
qc generate "$model" --prompt='Once upon a time' --max-tokens=60 --kv-cache-dtype=fp8
[ $status -eq 0 ] && grep -q 'KV cache: .* of f8e4m3 for 65 tokens' "$work/err" && [ -s "$work/out" ]
ok "generate: an FP8 KV cache at scale 1" $?
qc generate "$model" --prompt='Once upon a time' --max-tokens=8 --kv-cache-dtype=fp8_e5m2 --kv-scales=one
[ $status -eq 0 ] && grep -q 'of f8e5m2 for 13 tokens' "$work/err"
ok "generate: e5m2 in the KV cache" $?
for kind in fp8:320:f8e4m3 fp8_e4m3:320:f8e4m3 fp8_e5m2:320:f8e5m2 int8:320:i8:one int4:160:i4:random \
    fp8_per_token_head:480:f8e4m3 int8_per_token_head:480:i8 int4_per_token_head:320:i4; do
    IFS=: read -r name bytes type scales <<KIND
$kind
KIND
    qc generate "$model" --prompt='Once upon a time' --max-tokens=12 --kv-cache-dtype=$name ${scales:+--kv-scales=$scales}
    [ $status -eq 0 ] && grep -q "KV cache: at most .*, $bytes bytes a token, of $type for 17 tokens" "$work/err" && [ -s "$work/out" ]
    ok "generate: a cache of $name" $?
done
qc generate "$model" --prompt='Once upon a time' --max-tokens=12 --kv-cache-dtype=int4_per_token_head
cp "$work/out" "$work/int4"
qc generate "$model" --prompt='Once upon a time' --max-tokens=12 --kv-cache-dtype=int4_per_token_head --backend=reference
[ $status -eq 0 ] && cmp -s "$work/out" "$work/int4" && grep -q ' 320 bytes a token' "$work/err"
ok "generate: codes of 4 bits as the reference has them" $?
fails "generate: integers under a scale of 1 are not a default" 1 "int4 under a scale of 1" \
    generate "$model" --prompt=x --kv-cache-dtype=int4
fails "generate: NVFP4 needs groups of 16" 1 "must be a multiple of 16 for NVFP4" \
    generate "$model" --prompt=x --kv-cache-dtype=nvfp4
fails "generate: scales that are made as the model runs are not chosen" 1 "made for each token and head" \
    generate "$model" --prompt=x --kv-cache-dtype=fp8_per_token_head --kv-scales=one
fails "generate: random scales of a plain cache" 1 "--kv-scales says nothing" generate "$model" --prompt=x --kv-scales=random
fails "generate: a type that there is not" 2 "--kv-cache-dtype" generate "$model" --prompt=x --kv-cache-dtype=fp16
fails "generate: a seed that nothing is drawn by" 2 "--kv-scales=random" generate "$model" --prompt=x --seed=3
qc generate "$model" --prompt='Once upon a time' --max-tokens=60 --kv-cache-dtype=bf16
cmp -s "$work/out" "$work/greedy"
ok "generate: a bf16 cache of a bf16 model changes nothing" $?
qc generate "$model" --prompt='Once' --max-tokens=4 --dtype=f32 --kv-cache-dtype=bf16
[ $status -eq 0 ] && grep -q 'of bf16 for' "$work/err"
ok "generate: a bf16 cache under an f32 model" $?
qc generate "$model" --prompt='Once upon a time' --max-tokens=20 --backend=reference
[ $status -eq 0 ] && [ "$(head -c 40 "$work/out")" = "$(head -c 40 "$work/greedy")" ]
ok "generate: the reference backend agrees" $?

# An end token: a copy of the model whose generation_config.json ends at token 426 (a full stop, in a list).
mkdir "$work/ends" && cp "$model"/*.json "$model"/model.safetensors "$work/ends/" && chmod -R u+w "$work/ends"
stop=$(printf 'x.' | "$run" tokenize "$model" | sed 's/.*, \([0-9]*\)\]/\1/')
echo "{\"bos_token_id\": 1, \"eos_token_id\": [2, $stop]}" >"$work/ends/generation_config.json"
qc generate "$work/ends" --prompt='Once upon a time' --max-tokens=60
[ $status -eq 0 ] && [ "$(cat "$work/out")" = ", there was a little girl named Lily" ] && grep -q 'up to an end token' "$work/err"
ok "generate: ends at any of the end tokens, which give no text" $?

qc generate "$model" --prompt='Once upon a time' --max-tokens=510 --temperature=1
[ $status -eq 0 ] && grep -q '^qc-run: warning: .* made for 512$' "$work/err"
ok "generate: more tokens than the model was made for is a warning" $?
fails "generate: scales of a checkpoint that has none" 1 "--kv-scales=one" \
    generate "$model" --prompt=x --kv-cache-dtype=fp8 --kv-scales=checkpoint
fails "generate: scales without codes" 1 "--kv-scales" generate "$model" --prompt=x --kv-scales=one
fails "generate: a prompt is needed" 2 "generate needs --prompt" generate "$model"
fails "generate: --top-p without a temperature" 2 "--temperature" generate "$model" --prompt=x --top-p=0.5
fails "generate: --top-p out of range" 2 "--top-p must be between" generate "$model" --prompt=x --temperature=1 --top-p=1.5
fails "generate: more tokens than memory holds" 1 "--max-tokens: a KV cache of" generate "$model" --prompt=x --max-tokens=2147483647
fails "generate: --max-tokens out of range" 2 "--max-tokens must be" generate "$model" --prompt=x --max-tokens=0
fails "generate: a prompt that is not UTF-8" 1 "--prompt: the text is not UTF-8" generate "$model" --prompt="$(printf '\377')"
if [ -w /dev/full ]; then
    "$run" generate "$model" --prompt=Once --max-tokens=5 >/dev/full 2>"$work/err"
    [ $? -eq 1 ] && grep -q '^qc-run: error: standard output: No space' "$work/err"
    ok "generate: a full disk is an error" $?
fi

# ---- perplexity

qc perplexity "$model" --data="$model/eval.txt" --context=256 --json
[ $status -eq 0 ] && near "$(number perplexity)" 7.226 0.0015 && [ "$(number tokens)" = 55135 ] && [ ! -s "$work/err" ]
ok "perplexity: Transformers' in bf16" $?
cp "$work/out" "$work/json"
qc perplexity "$model" --data="$model/eval.txt" --context=256 --json --threads=1
cmp -s "$work/out" "$work/json"
ok "perplexity: the same bits by one thread" $?
qc perplexity "$model" --data="$model/eval.txt" --context=256 --json --dtype=f32
[ $status -eq 0 ] && near "$(number perplexity)" 7.223 0.0006
ok "perplexity: Transformers' in f32" $?
head -c 4000 "$model/eval.txt" >"$work/short.txt"
qc perplexity "$model" --data="$work/short.txt" --baseline="$model" --json
[ $status -eq 0 ] && [ "$(number kl_divergence)" = 0.0 ] && [ "$(number top1_agreement)" = 1.0 ] &&
    [ "$(number perplexity)" = "$(number baseline_perplexity)" ] && [ "$(number context)" = 512 ]
ok "perplexity: a model is no distance from itself; the context is the model's" $?
qc perplexity "$model" --data="$work/short.txt" --baseline="$model" --kv-cache-dtype=fp8 --json
[ $status -eq 0 ] && awk -v k="$(number kl_divergence)" -v q="$(number kl_divergence_q999)" \
    'BEGIN { exit !(k > 1e-5 && k < 0.2 && q > k) }'
ok "perplexity: an FP8 KV cache has a small distance" $?
# Scales of random tokens are those of qc-opt's --calib=random with as many: amax over the largest code.
"${run%qc-run}qc-opt" --pass='quant-kv{type=int8}' --calib=random --calib-samples=4 --calib-seqlen=512 --seed=7 "$model" \
    -o "$work/random.qc" 2>"$work/err"
qc perplexity "$work/random.qc" --source="$model" --data="$work/short.txt" --json
a=$(number perplexity)
qc perplexity "$model" --data="$work/short.txt" --kv-cache-dtype=int8 --kv-scales=random --seed=7 --json
[ $status -eq 0 ] && [ -n "$a" ] && [ "$a" = "$(number perplexity)" ] && grep -q 'KV cache: 320 bytes a token, of i8' "$work/err"
ok "--kv-scales=random: scales of exactly those tokens" $?
qc perplexity "$model" --data="$work/short.txt" --kv-cache-dtype=int8 --kv-scales=random --seed=8 --json
[ $status -eq 0 ] && [ "$a" != "$(number perplexity)" ]
ok "--kv-scales=random: of others by another seed" $?
qc perplexity "$model" --data="$work/short.txt" --baseline="$model"
[ $status -eq 0 ] && grep -q '^perplexity  *[0-9.]* +- [0-9.]*$' "$work/out" && grep -q '^top-1 agreement' "$work/out"
ok "perplexity: lines for people" $?
head -n 3 "$model/calib.jsonl" >"$work/three.jsonl"
qc perplexity "$model" --data="$work/three.jsonl" --json
[ $status -eq 0 ] && [ "$(number sequences)" = 3 ] && [ "$(number context)" = null ]
ok "perplexity: a sequence a line" $?
echo '{"input_ids": [1, 403, 407, 261, 378]}' >"$work/ids.jsonl"
qc perplexity "$model" --data="$work/ids.jsonl" --json
a=$(number perplexity)
printf 'Once upon a time' >"$work/once.txt"
qc perplexity "$model" --data="$work/once.txt" --json
[ $status -eq 0 ] && [ "$(number tokens)" = 4 ] && [ -n "$a" ] && [ "$a" = "$(number perplexity)" ]
ok "perplexity: ids and the text they stand for score the same" $?

printf '{"text": "good"}\n{"text": \n' >"$work/bad.jsonl"
fails "perplexity: a bad JSONL line" 1 "bad.jsonl:2" perplexity "$model" --data="$work/bad.jsonl"
echo '{"input_ids": [1, 600]}' >"$work/beyond.jsonl"
fails "perplexity: an id beyond the vocabulary" 1 "600" perplexity "$model" --data="$work/beyond.jsonl"
: >"$work/empty.txt"
fails "perplexity: an empty file" 1 "empty.txt: the file is empty" perplexity "$model" --data="$work/empty.txt"
: >"$work/empty.jsonl"
fails "perplexity: an empty JSONL file" 1 "empty.jsonl" perplexity "$model" --data="$work/empty.jsonl"
printf 'ab\377' >"$work/binary.txt"
fails "perplexity: a file that is not UTF-8" 1 "binary.txt: the text is not UTF-8 at byte 2" \
    perplexity "$model" --data="$work/binary.txt"
fails "perplexity: no such data" 1 "nothing.txt" perplexity "$model" --data="$work/nothing.txt"
fails "perplexity: data is needed" 2 "perplexity needs --data" perplexity "$model"
fails "perplexity: no such baseline" 1 "nowhere" perplexity "$model" --data="$work/short.txt" --baseline="$work/nowhere"

# ---- a quantized checkpoint: the model with the KV scales that llm-compressor wrote, as a second shard

kv=$work/kv
mkdir "$kv" && cp "$model"/*.json "$model/model.safetensors" "$kv/" && chmod -R u+w "$kv"
cp "$2/tests/data/goldens/kv_fp8_tensor/config.json" "$kv/config.json"
cp "$2/tests/data/goldens/kv_fp8_tensor/small.golden" "$kv/scales.safetensors"
python3 - "$kv" <<'PYTHON'
import json, os, struct, sys
where = {}
for name in ("model.safetensors", "scales.safetensors"):
    with open(os.path.join(sys.argv[1], name), "rb") as f:
        header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
    where.update({tensor: name for tensor in header if tensor != "__metadata__"})
with open(os.path.join(sys.argv[1], "model.safetensors.index.json"), "w") as f:
    json.dump({"metadata": {}, "weight_map": where}, f)
PYTHON
# 7.3769, 0.02984, 0.9128: Transformers with k and v rounded to these codes in its eager attention.
qc perplexity "$kv" --data="$model/eval.txt" --context=256 --baseline="$model" --json
[ $status -eq 0 ] && near "$(number perplexity)" 7.3769 0.003 && near "$(number kl_divergence)" 0.02984 0.0003 &&
    near "$(number top1_agreement)" 0.9128 0.001 && near "$(number baseline_perplexity)" 7.226 0.0015
ok "an FP8 KV cache with calibrated scales: distances as Transformers computes them" $?
qc generate "$kv" --prompt='Once upon a time' --max-tokens=8 --kv-cache-dtype=fp8 --kv-scales=checkpoint
[ $status -eq 0 ] && grep -q 'KV cache: .* of f8e4m3 for 13 tokens' "$work/err"
ok "its scales serve --kv-scales=checkpoint" $?
cp "$work/out" "$work/scaled"
qc generate "$kv" --prompt='Once upon a time' --max-tokens=60 --kv-scales=one
cp "$work/out" "$work/ones"
qc generate "$model" --prompt='Once upon a time' --max-tokens=60 --kv-cache-dtype=fp8 --kv-scales=one
[ $status -eq 0 ] && [ -s "$work/ones" ] && cmp -s "$work/out" "$work/ones" && ! cmp -s "$work/scaled" "$work/ones"
ok "--kv-scales=one forgets them" $?
fails "random scales in place of the model's" 1 "scales of its own" generate "$kv" --prompt=x --kv-scales=random
fails "scales of each token in place of the model's" 1 "cannot make it fp8_per_token_head" \
    generate "$kv" --prompt=x --kv-cache-dtype=fp8_per_token_head
fails "codes of another type than the scales are for" 1 "holds f8e4m3 codes" generate "$kv" --prompt=x --kv-cache-dtype=fp8_e5m2

# ---- logits

# compare NAME TOLERANCE: largest difference of $work/logits.safetensors to the tensor NAME of the golden file.
cat >"$work/compare.py" <<'PYTHON'
import array, json, struct, sys
def read(path, name):
    data = open(path, "rb").read()
    size = struct.unpack("<Q", data[:8])[0]
    entry = json.loads(data[8:8 + size])[name]
    start, stop = entry["data_offsets"]
    raw = data[8 + size + start:8 + size + stop]
    if entry["dtype"] == "BF16":
        raw = b"".join(b"\0\0" + raw[i:i + 2] for i in range(0, len(raw), 2))
    return entry["shape"], array.array("f", raw)
shape, got = read(sys.argv[1], "logits")
wanted_shape, want = read(sys.argv[2], sys.argv[3])
worst = max(abs(a - b) for a, b in zip(got, want))
print("largest difference to", sys.argv[3], worst)
sys.exit(not (shape == wanted_shape and worst <= float(sys.argv[4])))
PYTHON
golden=$model/golden.safetensors
qc logits "$model" --input="$golden" -o "$work/logits.safetensors" --dtype=f32
[ $status -eq 0 ] && [ ! -s "$work/out" ] &&
    python3 "$work/compare.py" "$work/logits.safetensors" "$golden" logits 0.001 >"$work/out" 2>"$work/err"
ok "logits: Transformers' in f32" $?
qc logits "$model" --input="$golden" -o "$work/logits.safetensors"
[ $status -eq 0 ] && python3 "$work/compare.py" "$work/logits.safetensors" "$golden" logits_bf16 0.26 >"$work/out" 2>"$work/err"
ok "logits: Transformers' in bf16" $?
for other in "$2"/tests/data/dense_models/*; do
    qc logits "$other" --input="$other/golden.safetensors" -o "$work/logits.safetensors" --dtype=f32
    [ $status -eq 0 ] && python3 "$work/compare.py" "$work/logits.safetensors" "$other/golden.safetensors" logits 0.0002 \
        >"$work/out" 2>"$work/err"
    ok "logits: Transformers' of $(basename "$other") in f32" $?
done

# tensor DTYPE SHAPE BYTES DATA: a safetensors file $work/in.safetensors with input_ids.
tensor()
{
    header="{\"$5\":{\"dtype\":\"$1\",\"shape\":$2,\"data_offsets\":[0,$3]}}"
    printf "\\$(printf %o ${#header})\\0\\0\\0\\0\\0\\0\\0%s$4" "$header" >"$work/in.safetensors"
}
tensor I64 '[1,2]' 16 '\1\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0' input_ids
qc logits "$model" --input="$work/in.safetensors" -o "$work/two.safetensors"
[ $status -eq 0 ] && grep -aq '"shape":\[1,2,512\]' "$work/two.safetensors"
ok "logits: of a file made by hand" $?
cp "$work/two.safetensors" "$work/before"
bad="-o $work/two.safetensors"
tensor I64 '[1,2]' 16 '\1\0\0\0\0\0\0\0\0\2\0\0\0\0\0\0' input_ids
fails "logits: an id beyond the vocabulary" 1 "input_ids[0, 1] is 512" logits "$model" --input="$work/in.safetensors" $bad
tensor I64 '[1,1]' 8 '\377\377\377\377\377\377\377\377' input_ids
fails "logits: a negative id" 1 "input_ids[0, 0] is -1" logits "$model" --input="$work/in.safetensors" $bad
tensor I32 '[1,2]' 8 '\1\0\0\0\2\0\0\0' input_ids
fails "logits: ids of another type" 1 "input_ids must be I64" logits "$model" --input="$work/in.safetensors" $bad
tensor I64 '[2]' 16 '\1\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0' input_ids
fails "logits: ids of another rank" 1 "rank 1" logits "$model" --input="$work/in.safetensors" $bad
tensor I64 '[0,2]' 0 '' input_ids
fails "logits: no ids" 1 "input_ids is empty" logits "$model" --input="$work/in.safetensors" $bad
tensor I64 '[1,1]' 8 '\1\0\0\0\0\0\0\0' ids
fails "logits: no tensor input_ids" 1 "no tensor input_ids" logits "$model" --input="$work/in.safetensors" $bad
fails "logits: no safetensors file" 1 "eval.txt" logits "$model" --input="$model/eval.txt" $bad
cmp -s "$work/two.safetensors" "$work/before" && [ "$(ls "$work" | grep -c tmp)" -eq 0 ]
ok "logits: failures leave the old output alone, and nothing beside it" $?
tensor I64 '[1,1]' 8 '\1\0\0\0\0\0\0\0' input_ids
fails "logits: an output that cannot be written" 1 "nowhere/x.safetensors: cannot write" \
    logits "$model" --input="$work/in.safetensors" -o "$work/nowhere/x.safetensors"
fails "logits: a directory for output" 1 "is a directory" logits "$model" --input="$work/in.safetensors" -o "$work"
if [ -w /dev/full ]; then
    fails "logits: a full disk" 1 "No space left" logits "$model" --input="$work/in.safetensors" -o /dev/full
fi
fails "logits: an output is needed" 2 "logits needs --output" logits "$model" --input="$work/in.safetensors"

# ---- bench

qc bench "$model" --json --context=64 --max-tokens=8
[ $status -eq 0 ] && [ "$(number prefill_tokens)" = 64 ] && [ "$(number decode_tokens)" = 8 ] &&
    awk -v a="$(number prefill_tokens_per_second)" -v b="$(number decode_tokens_per_second)" \
        -v c="$(number memory_copy_gb_per_second)" -v d="$(number decode_weight_bytes)" \
        'BEGIN { exit !(a > 0 && b > 0 && c > 0 && d > 400000 && d < 600000) }'
ok "bench: rates, and the bytes of the model's weights" $?
qc bench "$model" --context=16 --max-tokens=2
[ $status -eq 0 ] && grep -q '^decode .* tokens/s (2 tokens)$' "$work/out"
ok "bench: lines for people" $?
# 2 layers of attention (3072 numbers), norms (64), router (128) and two of four experts (6144), a norm, the head; bf16
qc bench "$2/tests/data/moe_models/mixtral" --json --context=8 --max-tokens=2
[ $status -eq 0 ] && [ "$(number decode_weight_bytes)" = $((2 * (2 * (3072 + 64 + 128 + 6144) + 32 + 2048))) ]
ok "bench: a token reads the experts that it goes through" $?

# ---- the command line and the model

qc --help
[ $status -eq 0 ] && grep -q -- '--kv-cache-dtype' "$work/out" && grep -q 'examples:' "$work/out" && grep -q -- '--chat' "$work/out"
ok "--help" $?
qc generate --help
[ $status -eq 0 ] && grep -q -- '--prompt' "$work/out" && ! grep -q -- '--baseline' "$work/out"
ok "--help of one command" $?
fails "no command" 2 "a command is missing"
fails "an unknown command" 2 "did you mean generate" generat "$model"
fails "eval without a task" 2 "eval needs --task" eval "$model"
fails "an unknown option" 2 "did you mean --prompt?" generate "$model" --promt=x
fails "an option of another command" 2 "tokenize takes no option --prompt" tokenize "$model" --prompt=x
fails "no model" 2 "generate needs a model" generate --prompt=x
fails "two models" 2 "takes one model" generate "$model" "$model" --prompt=x
fails "a word that is none of the choices" 2 "--backend must be one of" generate "$model" --prompt=x --backend=cuda
text=$2/tests/unit/data/stories260k.qc
qc generate "$text" --source="$model" --prompt='Once upon a time' --max-tokens=60
[ $status -eq 0 ] && cmp -s "$work/out" "$work/greedy"
ok "an IR file runs as the directory it came from" $?
qc perplexity "$text" --source="$model" --dtype=f32 --baseline="$model" --data="$work/short.txt" --json
[ $status -eq 0 ] && [ "$(number kl_divergence)" = 0.0 ] && [ "$(number top1_agreement)" = 1.0 ]
ok "an IR file in another element type computes what the directory does in it" $?
fails "an IR file whose source is elsewhere" 1 "--source=DIR" generate "$text" --prompt=x
fails "--source with a directory" 2 "--source is for an IR file" generate "$model" --source="$model" --prompt=x
fails "no such model" 1 "nowhere: there is no such model" generate "$work/nowhere" --prompt=x
fails "a file that is no model" 1 "eval.txt" generate "$model/eval.txt" --prompt=x
mkdir "$work/hollow"
fails "a directory without a model" 1 "hollow" generate "$work/hollow" --prompt=x
printf 'nonsense' >"$work/bad.qc"
fails "an IR file that is none" 1 "bad.qc:1" generate "$work/bad.qc" --prompt=x
cp "$work/ends/config.json" "$work/ends/tokenizer.json" "$work/hollow/"
head -c 1000 "$model/model.safetensors" >"$work/hollow/model.safetensors"
fails "a shard that is cut off" 1 "model.safetensors" generate "$work/hollow" --prompt=x

finish
