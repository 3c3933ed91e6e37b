#!/bin/sh
# SPDX-License-Identifier: MIT
# usage: test_eval.sh QC-RUN SOURCE-ROOT
# qc-run eval on the tasks in tests/data/tasks: tables and logged samples against those of lm-evaluation-harness, and
# every kind of bad task. TAP on standard output.
run=$1
model=$2/tests/data/stories260k
tasks=$2/tests/data/tasks
command=eval
. "$2/tests/tools/qc_run_tap.sh"

# bad NAME TEXT LINES [OPTION]: a task of these lines is refused with TEXT behind its name.
bad()
{
    printf '%b' "$3" >"$work/bad.jsonl"
    fails "$1" 1 "bad.jsonl$2" "$model" --task="$work/bad.jsonl" "${4:---fewshot=0}"
}

log()
{
    for file in "$tasks"/samples_"$1"_*.jsonl; do
        echo "$file"
    done
}

# ---- against lm-evaluation-harness: the same model, f32

qc "$model" --task="$tasks/short.jsonl" --fewshot=1 --max-tokens=32 --dtype=f32 --log-samples="$work/short.jsonl"
[ $status -eq 0 ] && cmp -s "$work/out" "$tasks/short.table"
ok "the table of generated answers" $?
cmp -s "$work/short.jsonl" "$(log short)"
ok "their samples, byte for byte: prompts, answers, hashes, scores" $?

tail -n +2 "$tasks/mc.jsonl" >"$work/mc.jsonl"
qc "$model" --task="$work/mc.jsonl" --fewshot-file="$tasks/mc.jsonl" --fewshot=1 --dtype=f32 --log-samples="$work/log"
[ $status -eq 0 ] && cmp -s "$work/out" "$tasks/mc.table"
ok "the table of choices" $?
cut_numbers() { sed 's/"-[0-9.]*", "\(True\|False\)"/"N", "\1"/g' "$1"; }
numbers() { grep -o '"-[0-9.]*"' "$1" | tr -d '"'; }
[ "$(cut_numbers "$work/log" | sed 's/"metrics": [^]]*\]//' | sha256sum)" = \
    "$(cut_numbers "$(log mc)" | sed 's/"metrics": [^]]*\]//' | sha256sum)" ]
ok "their samples, log-likelihoods aside" $?
numbers "$work/log" >"$work/a"
numbers "$(log mc)" >"$work/b"
paste "$work/a" "$work/b" | awk '{ d = $1 - $2; n++; if (d > 1e-4 || d < -1e-4) bad = 1 } END { exit bad || n != 42 }'
ok "and those within 1e-4" $?

for name in short mc sums; do
    qc --stored --task="$(log $name)"
    [ $status -eq 0 ] && cmp -s "$work/out" "$tasks/$name.stored.table" && [ ! -s "$work/err" ]
    ok "stored answers of $name score the same" $?
done
for name in short mc; do
    qc "$model" --task="$(log $name)" --dtype=f32 --log-samples="$work/log"
    [ $status -eq 0 ] && cmp -s "$work/out" "$tasks/$name.stored.table" &&
        [ "$(cut_numbers "$work/log" | sha256sum)" = "$(cut_numbers "$(log $name)" | sha256sum)" ]
    ok "the prompts of logged samples of $name are run" $?
done
qc --stored --task="$work/short.jsonl"
[ $status -eq 0 ] && grep -q '^|short' "$work/out"
ok "samples that qc-run logs are read again" $?
qc --stored --task="$(log sums)" --json
grep -qF '"exact_match,strict-match": 0.5, "exact_match_stderr,strict-match": 0.16666666666666666' "$work/out" &&
    grep -qF '"n-samples": {"sums": {"original": 10, "effective": 10}}' "$work/out"
ok "value and standard error to the last digit" $?
qc --stored --task="$(log sums)" --json --limit=1
grep -qF '"exact_match_stderr,strict-match": "N/A"' "$work/out"
ok "one question has no standard error" $?

# ---- the same whatever computes

qc "$model" --task="$tasks/questions.jsonl" --limit=20 --threads=1 --log-samples="$work/one"
cp "$work/out" "$work/table"
qc "$model" --task="$tasks/questions.jsonl" --limit=20 --threads=3 --log-samples="$work/three"
[ $status -eq 0 ] && cmp -s "$work/out" "$work/table" && cmp -s "$work/one" "$work/three"
ok "results do not depend on threads" $?
qc "$model" --task="$tasks/mc.jsonl" --dtype=f32 --backend=reference --log-samples="$work/log"
cp "$work/out" "$work/table"
qc "$model" --task="$tasks/mc.jsonl" --dtype=f32 --log-samples="$work/log2"
numbers "$work/log" >"$work/a"
numbers "$work/log2" >"$work/b"
cmp -s "$work/out" "$work/table" && paste "$work/a" "$work/b" |
    awk '{ d = $1 - $2; n++; if (d > 1e-4 || d < -1e-4) bad = 1 } END { exit bad || n != 48 }'
ok "the reference backend, which shares no prefixes, gives the same" $?
qc "$model" --task="$tasks/short.jsonl" --fewshot=1 --max-tokens=8 --dtype=f32 --backend=reference --limit=2 \
    --log-samples="$work/log"
"$run" eval "$model" --task="$tasks/short.jsonl" --fewshot=1 --max-tokens=8 --dtype=f32 --limit=2 \
    --log-samples="$work/log2" >"$work/out" 2>"$work/err"
[ $status -eq 0 ] && cmp -s "$work/log" "$work/log2"
ok "and the same texts" $?
# A tokenizer that puts no BOS in front of texts, which this model's does.
mkdir "$work/bare" && cp "$model"/*.json "$model/model.safetensors" "$work/bare"
python3 - "$work/bare/tokenizer.json" <<'END'
import json
import sys
with open(sys.argv[1], encoding="utf-8") as file:
    tokenizer = json.load(file)
tokenizer["post_processor"] = None
with open(sys.argv[1], "w", encoding="utf-8") as file:
    json.dump(tokenizer, file)
END
qc "$model" --task="$tasks/mc.jsonl" --log-samples="$work/with.jsonl"
ok "choices behind the tokenizer's own BOS" $status
qc "$model" --task="$tasks/mc.jsonl" --add-bos --log-samples="$work/twice.jsonl"
[ $status -eq 0 ] && cmp -s "$work/with.jsonl" "$work/twice.jsonl"
ok "--add-bos adds no second one" $?
qc "$work/bare" --task="$tasks/mc.jsonl" --add-bos --log-samples="$work/added.jsonl"
[ $status -eq 0 ] && cmp -s "$work/with.jsonl" "$work/added.jsonl"
ok "--add-bos adds the one that the tokenizer does not" $?
qc "$work/bare" --task="$tasks/mc.jsonl" --log-samples="$work/without.jsonl"
[ $status -eq 0 ] && ! cmp -s "$work/with.jsonl" "$work/without.jsonl"
ok "without --add-bos there is none" $?
qc "$model" --task="$tasks/short.jsonl" --fewshot=1 --max-tokens=8 --kv-cache-dtype=fp8 --add-bos
[ $status -eq 0 ] && grep -q 'strict-match' "$work/out"
ok "with an FP8 cache" $?
sed 's/"do_sample": false, "temperature": 0.0/"do_sample": true, "temperature": 0.9, "top_p": 0.95/' "$(log short)" \
    >"$work/drawn.jsonl"
for seed in 1 1 2; do
    qc "$model" --task="$work/drawn.jsonl" --seed=$seed --log-samples="$work/drawn.$seed"
    [ -f "$work/first" ] || cp "$work/drawn.1" "$work/first"
done
[ $status -eq 0 ] && cmp -s "$work/first" "$work/drawn.1" && ! cmp -s "$work/drawn.1" "$work/drawn.2"
ok "answers are drawn where samples say so, by the seed" $?
qc "$model" --task="$tasks/short.jsonl" --fewshot=1 --max-tokens=500 --limit=1
[ $status -eq 0 ] && grep -q 'warning: .*short.jsonl: 1 answers end at the model' "$work/err"
ok "an answer that may need more positions than there are" $?

# ---- bad input

bad "an empty file" ": the file holds no line" ''
bad "only blank lines" ": the file holds no line" '\n  \n'
bad "no JSON" ":1:1: " 'x\n'
bad "a line that is no object" ":2: a line of a task must be a JSON object" '{"question": "a", "answer": "b"}\n[1]\n'
bad "an unknown shape" ':1: no task has such lines' '{"prompt": "a", "target": "b"}\n'
bad "a missing field" ':2: there is no "answer"' '{"question": "a", "answer": "b"}\n{"question": "a", "anwser": "b"}\n'
bad "a field of another type" ':1: "question" must be a string' '{"question": 1, "answer": "b"}\n'
bad "an empty question" ':1: "question" is empty' '{"question": "", "answer": "b"}\n'
bad "choices among answers" ':2: it has "choices"' \
    '{"question": "a", "answer": "b"}\n{"question": "a", "choices": ["b", "c"], "answer": 0}\n'
bad "no choices" ':2: there are no "choices"' \
    '{"question": "a", "choices": ["b", "c"], "answer": 0}\n{"question": "a", "answer": "b"}\n'
bad "one choice" ':1: there must be two choices' '{"question": "a", "choices": ["b"], "answer": 0}\n'
bad "choices that are no strings" ':1: "choices" must be a list of strings' \
    '{"question": "a", "choices": [1, 2], "answer": 0}\n'
bad "an index beyond the choices" ':1: answer 2 is no index of 2 choices' \
    '{"question": "a", "choices": ["b", "c"], "answer": 2}\n'
bad "an answer that is no choice" ':1: the answer "d" is none of the 2 choices' \
    '{"question": "a", "choices": ["b", "c"], "answer": "d"}\n'
bad "no answer to choices" ':1: "answer" must be the index' '{"question": "a", "choices": ["b", "c"]}\n'
long=$(printf 'word %.0s' $(seq 700))
bad "a prompt longer than the model's positions" ":2: the prompt has " \
    "{\"question\": \"a\", \"answer\": \"b\"}\n{\"question\": \"$long\", \"answer\": \"b\"}\n"
bad "choices longer than the model's positions" ":1: the prompt has " \
    "{\"context\": \"$long\", \"choices\": [\"b\", \"c\"], \"answer\": 1}\n"

sample='{"doc_id": 0, "doc": {}, "target": "5", "arguments": {"gen_args_0": {"arg_0": "x", "arg_1": {"until": ["y"]GEN}}}, "resps": [["RESP"]], "filtered_resps": ["5"], "filter": "FILTER", "metrics": ["exact_match"], "exact_match": SCORE}'
# sample GEN RESP FILTER SCORE
bad_log() { bad "$@" --limit=1; }
sample() { echo "$sample" | sed "s/GEN/$1/; s/RESP/$2/; s/FILTER/$3/; s/SCORE/$4/"; }
bad_log "samples of an unknown filter" ":1: no known rule of the filter made-up" "$(sample '' '#### 5' made-up 1.0)\n"
bad_log "samples of another rule" ":1: no known rule of the filter strict-match" \
    "$(sample '' 'It is 5' strict-match 1.0)\n"
bad_log "samples with another score" ":1: no known rule of the filter strict-match" \
    "$(sample '' '#### 5' strict-match 0.0)\n"
bad_log "samples generated in an unknown way" ':1: generation with "num_beams"' \
    "$(sample ', "num_beams": 4' '#### 5' strict-match 1.0)\n"
bad_log "a temperature below 0" ':1: temperature must not be negative' \
    "$(sample ', "temperature": -1' '#### 5' strict-match 1.0)\n"
bad_log "samples with a document twice" ":2: document 0 with filter strict-match is in line 1" \
    "$(sample '' '#### 5' strict-match 1.0)\n$(sample '' '#### 5' strict-match 1.0)\n"
bad_log "samples whose answers differ" ":2: document 0 has another prompt" \
    "$(sample '' '#### 5' strict-match 1.0)\n$(sample '' '#### 6' flexible-extract 1.0)\n"
bad_log "samples with an unknown metric" ":1: the metric bleu is not supported" \
    "$(sample '' '#### 5' strict-match 1.0 | sed 's/\["exact_match"\]/["bleu"]/')\n"
bad_log "samples without arguments" ":2: a logged sample must have" \
    "$(sample '' '#### 5' strict-match 1.0)\n{\"doc_id\": 1}\n"
bad_log "samples without answers" ':1: "resps" must be a list of 1' \
    "$(sample '' '#### 5' strict-match 1.0 | sed 's/\[\["#### 5"\]\]/[]/')\n"
bad_log "samples of whole texts" ':1: "arguments" must hold' \
    "$(sample '' '#### 5' strict-match 1.0 | sed 's/, "arg_1": {[^}]*}//')\n"

fails "no such file" 1 "nowhere.jsonl" "$model" --task=nowhere.jsonl
fails "more shots than lines" 1 "of 6 lines 6 are shots" "$model" --task="$tasks/short.jsonl" --fewshot=6
fails "more shots than their file has" 1 "7 shots are asked for, the file has 6 lines" "$model" \
    --task="$tasks/sums.jsonl" --fewshot=7 --fewshot-file="$tasks/short.jsonl"
fails "shots of another kind" 1 "mc.jsonl" "$model" --task="$tasks/sums.jsonl" --fewshot=1 \
    --fewshot-file="$tasks/mc.jsonl"
fails "shots for logged samples" 1 "hold their prompts" --stored --task="$(log sums)" --fewshot=1
fails "stored answers of a task" 1 "it holds no answers" --stored --task="$tasks/sums.jsonl"
fails "stored answers and a model" 2 "eval --stored takes no model" "$model" --stored --task="$(log sums)"
fails "a chat without a template" 1 "chat template" "$model" --task="$tasks/sums.jsonl" --fewshot=0 --chat
fails "no model" 2 "eval needs a model" --task="$tasks/sums.jsonl"
fails "no task" 2 "eval needs --task" "$model"
fails "samples that cannot be written" 1 "nowhere: is no directory" "$model" --task="$tasks/sums.jsonl" --log-samples=nowhere/log

finish
