#!/bin/sh
# SPDX-License-Identifier: MIT
# Every storage format runs as the IR that it was written from: the logits of a checkpoint and those of the module before
# export are the same bytes. So are those of a checkpoint by llm-compressor and of its recipe here, where scales are equal.
. "$(dirname "$0")/tap.sh"
opt=$QC_BIN/qc-opt run_model=$QC_BIN/qc-run

# 40 token ids below 40 as safetensors: a header of 88 bytes, then I64.
ids=$work/ids.safetensors
{
    printf '\130\0\0\0\0\0\0\0%-88s' '{"input_ids":{"dtype":"I64","shape":[1,40],"data_offsets":[0,320]}}'
    i=0
    while [ $i -lt 40 ]; do
        i=$((i + 1))
        printf "\\$(printf %03o $((i * i * 7 % 40)))\0\0\0\0\0\0\0"
    done
} >"$ids"

# logits MODEL FILE: true when they were written.
logits() {
    rm -f "$2"
    run 0 "$run_model" logits "$1" "--input=$ids" -o "$2"
}

# same NAME MODEL OPTION...: a checkpoint and its IR.
same() {
    name=$1 source=$2
    shift 2
    if ! run 0 "$opt" "$source" "$@" -o "$work/out.qc" --force || ! run 0 "$opt" "$source" "$@" -o "$work/checkpoint" --force; then
        not_ok "$name" "exit $got" "$(head -n 3 "$work/err")"
    elif ! logits "$work/out.qc" "$work/ir.logits" || ! logits "$work/checkpoint" "$work/checkpoint.logits"; then
        not_ok "$name" "exit $got" "$(head -n 3 "$work/err")"
    elif cmp "$work/ir.logits" "$work/checkpoint.logits" >"$work/out" 2>&1; then
        ok "$name"
    else
        not_ok "$name" "$(cat "$work/out")"
    fi
}

# linears NAME WEIGHTS [INPUT]: parts of quant-linear, on the linears that groups of 16 and 32 divide.
linears() {
    same "$1" "$model" --calib="$model/calib.jsonl" --calib-samples=6 \
        "--pass=quant-linear{weights={$2}, ${3:+input={$3\}, }targets=[Linear], ignore=[lm_head, \"re:.*down_proj\"]}"
}

nvfp4='type=f4e2m1, granularity=group, group=16, scale=f8e4m3, global'
mx='granularity=group, group=32, scale=f8e8m0'
linears "float-quantized, a scale a tensor, static inputs" "type=f8e4m3, granularity=tensor" \
    "type=f8e4m3, granularity=tensor, observer=static_minmax"
linears "float-quantized, a scale a row, dynamic inputs" "type=f8e4m3, granularity=channel" "type=f8e4m3, granularity=token, dynamic"
linears "float-quantized, blocks, inputs in groups" "type=f8e4m3, granularity=block, block=[24, 40]" \
    "type=f8e4m3, granularity=group, group=32, dynamic"
linears "naive-quantized" "type=f8e4m3, granularity=channel"
linears "int-quantized, INT8, dynamic inputs" "type=i8, granularity=channel" "type=i8, granularity=token, dynamic"
linears "int-quantized, INT8, static asymmetric inputs" "type=i8, granularity=channel" \
    "type=i8, granularity=tensor, symmetric=false, observer=static_minmax"
linears "int-quantized, INT8, inputs by their least error" "type=i8, granularity=channel" \
    "type=i8, granularity=tensor, observer=mse"
linears "int-quantized, INT4 in groups, asymmetric, dynamic asymmetric inputs" \
    "type=i4, granularity=group, group=16, symmetric=false" "type=i8, granularity=token, symmetric=false, dynamic"
for bits in 2 3 4 5 6 7 8; do
    linears "pack-quantized, INT$bits" "type=i$bits, granularity=group, group=32"
    linears "pack-quantized, INT$bits, asymmetric" "type=i$bits, granularity=channel, symmetric=false"
done
linears "pack-quantized, weighed by their inputs" "type=i4, granularity=group, group=16, observer=imatrix_mse"
linears "nvfp4-pack-quantized" "$nvfp4"
linears "nvfp4-pack-quantized, inputs with a static global scale" "$nvfp4" "$nvfp4, dynamic, observer=static_minmax"
linears "nvfp4-pack-quantized, a moving average of groups" "$nvfp4" "$nvfp4, dynamic, observer=minmax"
linears "mxfp4-pack-quantized" "type=f4e2m1, $mx"
linears "mxfp4-pack-quantized, inputs" "type=f4e2m1, $mx" "type=f4e2m1, $mx, dynamic"
linears "mxfp8-quantized, inputs" "type=f8e4m3, $mx" "type=f8e4m3, $mx, dynamic"
same "mixed-precision, with a quantized embedding, lm_head, attention and cache" "$QC_SOURCE_ROOT/tests/data/small_models/qwen3" \
    --calib="$QC_SOURCE_ROOT/tests/data/small_models/qwen3/calib.jsonl" \
    "--pass=quant-linear{groups={a={targets=[Embedding], weights={type=i8, granularity=channel}}, \
b={targets=[\"re:.*mlp.*\"], weights={type=f8e4m3, granularity=channel}, input={type=f8e4m3, granularity=token, dynamic}}, \
c={targets=[Linear], weights={type=i4, granularity=group, group=8}}}}" --pass=quant-int8-attn

# Rotations in the weights and at run time, and attention behind them in every form; what vLLM does not execute, qc-run does.
small=$QC_SOURCE_ROOT/tests/data/small_models
qwen3="$small/qwen3 --calib=$small/qwen3/calib.jsonl"
same "R1, R2, R3, R4, FP8 attention a head" "$model" --calib="$model/calib.jsonl" --calib-samples=6 \
    '--pass=fold-norms{center=true}' --pass=fold-r1 --pass=fold-r2 '--pass=fold-r3{compute=f64}' \
    '--pass=insert-r4{matrix=random_hadamard}' --scheme=W8A8 --ignore=lm_head '--pass=quant-fp8-attn{granularity=head}' --allow=r3
same "rotations in blocks, without quantization" "$model" '--pass=fold-r1{size=16}' '--pass=fold-r3{size=4}' \
    '--pass=insert-r4{matrix=random_hadamard, size=4}' --allow=r3
same "QuIP on both sides of linears with biases, tied" "$small/qwen2" '--pass=insert-quip{rotations=[v, u]}' --scheme=W8A8 \
    --ignore=lm_head --allow=transform-bias
same "QuIP in front of FP8 inputs" "$small/mistral" '--pass=insert-quip{size=4, matrix=hadamard}' --scheme=FP8_DYNAMIC --ignore=lm_head
same "NVFP4 attention behind R3" $qwen3 --pass=fold-r3 --pass=quant-nvfp4-attn --allow=r3 --allow=nvfp4-attention
for search in mse four_six; do
    same "NVFP4 attention, searched by $search" $qwen3 "--pass=quant-nvfp4-attn{search=$search}" --allow=nvfp4-attention
done
same "NVFP4 cache" $qwen3 '--pass=quant-kv{type=nvfp4}' --allow=nvfp4-attention
same "centered keys" $qwen3 '--pass=quant-fp8-attn{center_k=true, granularity=head}' --allow=center-k
same "centered keys behind R3, NVFP4" $qwen3 --pass=fold-r3 '--pass=quant-nvfp4-attn{center_k=true}' --allow=r3 --allow=center-k \
    --allow=nvfp4-attention
same "INT8 attention a channel" $qwen3 '--pass=quant-int8-attn{granularity=channel}' --allow=attention-scales
same "a cache with a scale a token" $qwen3 '--pass=quant-kv{granularity=token}' --allow=attention-scales
same "INT4 attention a head" $qwen3 '--pass=quant-int8-attn{type=int4, granularity=head}'

# Mixtures of experts: what is stored expert by expert is the bank that it was, from tensors of each expert and from those of
# all (llama4, gpt_oss).
experts="$data/models/qwen3_moe"
if [ -d "$experts" ]; then
    set -- --ignore=lm_head '--ignore=re:.*shared_expert_gate$' "--calib=$QC_SOURCE_ROOT/tests/data/expert_goldens/calib.jsonl"
    for arch in mixtral qwen2_moe qwen3_moe llama4 gpt_oss deepseek_v3 glm4_moe; do
        for scheme in FP8 NVFP4; do
            same "experts: $arch, $scheme" "$data/models/$arch" --scheme=$scheme "$@"
        done
    done
    set -- --ignore=lm_head
    for arch in qwen3_moe gpt_oss; do
        for scheme in FP8_DYNAMIC FP8_BLOCK W8A8 NVFP4A16 MXFP4 MXFP8; do
            same "experts: $arch, $scheme" "$data/models/$arch" --scheme=$scheme "$@"
        done
        same "experts: $arch, INT4 in groups, asymmetric" "$data/models/$arch" \
            '--pass=quant-linear{weights={type=i4, granularity=group, group=16, symmetric=false}, ignore=[lm_head]}'
        same "experts: $arch, linear layers" "$data/models/$arch" --pass=linearize-moe
        run 0 "$opt" --scheme=FP8_BLOCK "$@" "$data/models/$arch" -o "$work/blocks" --force
        same "experts: $arch, FP8 in blocks quantized again" "$work/blocks" --scheme=NVFP4A16 "$@"
        case $arch in qwen3_moe) count=56 ;; *) count=44 ;; esac
        run 0 "$opt" --scheme=NVFP4A16 "$@" "$work/blocks" -o "$work/checkpoint" --force
        check "experts: $arch, each counts as a weight" grep -q " $count weights are quantized again, 0 are plain now" "$work/err"
    done
else
    skip "mixtures of experts" "QC_DATA has no models/qwen3_moe"
fi

# Distance from the model that it was made of.
run 0 "$opt" "$model" "--pass=quant-linear{weights={$nvfp4}, input={$nvfp4, dynamic}, ignore=[lm_head, \"re:.*down_proj\"]}" \
    --calib="$model/calib.jsonl" --calib-samples=6 -o "$work/checkpoint" --force
if run 0 "$run_model" perplexity "$work/checkpoint" --data="$model/eval.txt" --context=128 --baseline="$model" --json &&
    grep -q '"kl' "$work/out"; then
    ok "perplexity of a quantized checkpoint beside its baseline"
else
    not_ok "perplexity of a quantized checkpoint beside its baseline" "exit $got" "$(head -n 3 "$work/err")" "$(head -n 3 "$work/out")"
fi

# ---- checkpoints by llm-compressor --------------------------------------------------------------------------

# golden NAME: its logits, and those of its recipe without export.
golden() {
    source=$data/models/grid_llama
    if ! run 0 "$opt" "$source" --recipe="$data/goldens/$1/recipe.in.yaml" --calib="$source/calib.jsonl" -o "$work/out.qc" \
        --force || ! logits "$work/out.qc" "$work/ir.logits" || ! logits "$data/goldens/$1" "$work/golden.logits"
    then
        not_ok "$1" "exit $got" "$(head -n 3 "$work/err")"
    elif cmp "$work/ir.logits" "$work/golden.logits" >"$work/out" 2>&1; then
        ok "$1"
    else
        not_ok "$1" "$(cat "$work/out")"
    fi
}

for g in w2a16 w3a16 w4a16 w4a16_asym w4a16_channel_asym w4a16_g32 w4a16_mse w4a8 w4afp8_packed w8a16 w8a8 fp8_block fp8_dynamic \
    fp8_dynamic_lm_head fp8_weight_channel nvfp4a16 nvfp4a16_mse mxfp4 mxfp4a16 mxfp8 mixed_fp8_attn_nvfp4_mlp \
    embed_w8_linear_w4a16 spin_r1r2_w4a16 spin_r1r2r3r4_nvfp4a16_attn_fp8 spin_r3_attn_fp8_head fp8_static int8_static nvfp4 w4a16_attn_int8_head_static w4a16_kv_fp8_tensor_static; do
    if [ -f "$data/goldens/$g/model.safetensors" ]; then
        golden $g
    else
        skip $g "QC_DATA does not say where it is"
    fi
done
finish
