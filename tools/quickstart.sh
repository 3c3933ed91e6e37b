#!/bin/sh
# SPDX-License-Identifier: MIT
# All set-up (packages, build), then the main job on the model in the tree: FP8 attention with one scale a head,
# calibrated, exported, executed and compared with the original and with other schemes. Everything shown is computed
# here and now.
. "$(dirname -- "$0")/setup.sh"

# shellcheck disable=SC2086
setup_packages $BUILD_PACKAGES
say "building"
setup_build build

model=tests/data/stories260k
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
out=$work/stories260k-fp8-attn
pass='quant-fp8-attn{granularity=head}'

title() { printf '\n== %s\n\n' "$*"; }
show() { printf '$ %s\n' "$*"; }

title "Quantize: attention of a Llama in FP8, a scale for every head"
show "qc-opt --pass='$pass' $model --calib=$model/calib.jsonl -o OUT"
build/tools/qc-opt --pass="$pass" "$model" --calib="$model/calib.jsonl" -o "$out" 2>&1 | sed "s|$out|OUT|g"

title "The scales of layer 0, as they stand in the checkpoint's IR"
show "qc-opt OUT | grep -A 40 'at \"model.layers.0.self_attn\"' | grep _scale"
build/tools/qc-opt "$out" | grep -A 40 'at "model.layers.0.self_attn" {' | grep -E '^ *%[qkv]_scale(\.[0-9]+)? = ' | head -n 3

title "Perplexity on text that calibration did not see, before and after"
show "qc-run perplexity OUT --baseline=$model --data=$model/eval.txt --context=256"
build/tools/qc-run perplexity "$out" --baseline="$model" --data="$model/eval.txt" --context=256

title "Which scheme? Calibrated once, run on the same text; R3 rotates queries and keys"
recipes='fp8=quant-fp8-attn{granularity=head},int8=quant-int8-attn{granularity=head},int8-r3=fold-r3+quant-int8-attn{granularity=head}'
head -c 8000 "$model/eval.txt" >"$work/text.txt"
show "qc-run compare $model --recipes='$recipes' --calib=$model/calib.jsonl --calib-samples=16 --data=TEXT --context=256"
build/tools/qc-run compare "$model" --recipes="$recipes" --calib="$model/calib.jsonl" --calib-samples=16 \
    --data="$work/text.txt" --context=256 | sed '/^$/,$d'

title "A mixture of experts in NVFP4: calibration shows every token to every expert"
moe=tests/data/moe_models/qwen3_moe
show "qc-opt --scheme=NVFP4 --ignore=lm_head $moe --calib=random --calib-samples=16 --calib-seqlen=64 -o MOE"
build/tools/qc-opt --scheme=NVFP4 --ignore=lm_head "$moe" --calib=random --calib-samples=16 --calib-seqlen=64 \
    -o "$work/moe" 2>&1 | sed "s|$work/moe|MOE|g"

title "A story by both models"
prompt='Once upon a time'
show "qc-run generate $model --prompt='$prompt' --max-tokens=120"
build/tools/qc-run generate "$model" --prompt="$prompt" --max-tokens=120
echo
show "qc-run generate OUT --prompt='$prompt' --max-tokens=120"
build/tools/qc-run generate "$out" --prompt="$prompt" --max-tokens=120

title "Your own model"
show "PATH=$top/build/tools:\$PATH"
show "qc-opt --pass='$pass' MODEL --calib=TEXTS.jsonl -o OUT"
show "qc-run compare MODEL --recipes='quant-fp8-attn,fold-r3+quant-nvfp4-attn{search=mse}' --calib=TEXTS.jsonl --data=TEXT"
show "qc-opt --recipe=RECIPE.yaml MODEL --calib=CONVERSATIONS.jsonl -o OUT"
show "qc-opt --scheme=NVFP4A16 --ignore=lm_head MODEL -o OUT && qc-check OUT --baseline=MODEL"
