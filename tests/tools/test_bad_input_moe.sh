#!/bin/sh
# SPDX-License-Identifier: MIT
# Bad input of models with experts: counts that contradict tensors, experts that are missing, too many or unlike the others,
# routers that are codes, tensors that lie the other way round, numbers that are none, features that qc does not have,
# targets that split a layer's experts, and IR of experts that was changed by hand.
. "$(dirname "$0")/tap.sh"
. "$(dirname "$0")/refused.sh"
models=$QC_SOURCE_ROOT/tests/data/moe_models
random='--calib=random --calib-samples=2 --calib-seqlen=8'

# changed NAME TEXT MODEL CODE OPTION...: the model with the change, to FP8, is refused.
changed() {
    name=$1 text=$2 source=$3 code=$4
    shift 4
    edit "$models/$source" "$work/changed" "$code"
    refused "$source: $name" "$text" --scheme=FP8_DYNAMIC '--ignore=re:.*(gate|router|lm_head)$' "$@" "$work/changed"
}

# told NAME TEXT MODEL CODE: the model with the change is written, with a line that holds TEXT.
told() {
    edit "$models/$3" "$work/changed" "$4"
    warned "$3: $1" "$2" --scheme=FP8_DYNAMIC '--ignore=re:.*(gate|router|lm_head)$' "$work/changed" -o "$out"
}

# ---- config.json -----------------------------------------------------------------------------------------------------
changed "more experts a token than there are" "num_experts_per_tok 9 is more than there are experts, 8 (num_experts)" qwen3_moe 'c["num_experts_per_tok"] = 9'
changed "no expert a token" "num_experts_per_tok must be from 1 to" mixtral 'c["num_experts_per_tok"] = 0'
changed "a count of experts in a string" "num_local_experts must be an integer" mixtral 'c["num_local_experts"] = "4"'
changed "experts beyond 32 bits" "num_experts must be from 1 to 2147483647" qwen3_moe 'c["num_experts"] = 2**31'
changed "a count that is missing" "are missing: 120 of 128 (the default number of experts)" qwen3_moe 'del c["num_experts"]'
changed "groups that do not divide" "n_routed_experts 8 is not a multiple of n_group 3" deepseek_v3 'c["n_group"] = 3'
changed "shared experts of another size" "config.json implies [96, 32] (n_shared_experts * moe_intermediate_size, hidden_size)" deepseek_v3 'c["n_shared_experts"] = 3'
changed "a shared expert of another size" "config.json implies [64, 32] (shared_expert_intermediate_size, hidden_size)" qwen2_moe 'c["shared_expert_intermediate_size"] = 64'
changed "dense layers of another size" "config.json implies [49, 32] (intermediate_size_mlp, hidden_size)" llama4 'c["intermediate_size_mlp"] = 49'
changed "dense layers that have experts" "tensor model.layers.1.mlp.gate_proj.weight is missing" deepseek_v3 'c["first_k_dense_replace"] = 2'
changed "experts in every second layer" "moe_layer_freq 2 is not supported" deepseek_v3 'c["moe_layer_freq"] = 2'
changed "ranks where there is no latent attention" "kv_lora_rank is set, and qc does not know what it does in Qwen3MoeForCausalLM" qwen3_moe 'c["kv_lora_rank"] = 16'
changed "scores of another architecture" "scoring_func is set" mixtral 'c["scoring_func"] = "sigmoid"'

# ---- tensors of each expert ------------------------------------------------------------------------------------------
changed "the last expert is missing" "experts 7 of model.layers.1.mlp.experts are missing: 1 of 8 (num_experts)" qwen3_moe '[t.pop(k) for k in list(t) if ".1.mlp.experts.7." in k]'
changed "one projection is missing" "tensor model.layers.0.block_sparse_moe.experts.2.w3.weight is missing" mixtral 't.pop("model.layers.0.block_sparse_moe.experts.2.w3.weight")'
changed "a number beyond all integers" "experts.99999999999999999999.up_proj.weight is of an expert that config.json does not count" qwen3_moe 'e = "model.layers.1.mlp.experts."; t[e + "99999999999999999999.up_proj.weight"] = t[e + "0.up_proj.weight"]'
changed "a number with a zero in front" "experts.01.up_proj.weight is of an expert that config.json does not count" qwen3_moe 'e = "model.layers.1.mlp.experts."; t[e + "01.up_proj.weight"] = t.pop(e + "1.up_proj.weight")'
changed "a NaN in one expert" "model.layers.1.mlp.experts.5.up_proj.weight: holds a NaN or an infinity (element 3)" qwen3_moe 't["model.layers.1.mlp.experts.5.up_proj.weight"][2][6:8] = b"\xc0\x7f"'
changed "a NaN in a router" "model.layers.1.mlp.gate.weight: holds a NaN or an infinity (element 3)" qwen3_moe 't["model.layers.1.mlp.gate.weight"][2][6:8] = b"\xc0\x7f"'
changed "an infinite correction" "model.layers.1.mlp.gate.e_score_correction_bias: holds a NaN or an infinity (element 1)" deepseek_v3 't["model.layers.1.mlp.gate.e_score_correction_bias"][2][4:8] = b"\0\0\x80\x7f"'
changed "a router in codes" "router model.layers.1.mlp.gate is quantized (tensor model.layers.1.mlp.gate.weight_scale_inv)" deepseek_v3_fp8 'g = "model.layers.1.mlp.gate.weight"; t[g] = ["F8_E4M3", t[g][1], t[g][2][::2]]; t[g + "_scale_inv"] = ["F32", [1, 2], bytearray(8)]'
changed "one scale is missing" "experts.3.up_proj.weight holds codes (F8_E4M3), but model.layers.1.mlp.experts.3.up_proj.weight_scale_inv is missing" deepseek_v3_fp8 't.pop("model.layers.1.mlp.experts.3.up_proj.weight_scale_inv")'
changed "one scale of another shape" "experts.3.up_proj.weight_scale_inv has shape [4, 1], but config.json implies [2, 2]" deepseek_v3_fp8 't["model.layers.1.mlp.experts.3.up_proj.weight_scale_inv"][1] = [4, 1]'
changed "one expert that is no codes" "experts.0.up_proj is not quantized, model.layers.1.mlp.experts.1.up_proj is quantized by @fp8" deepseek_v3_fp8 'w = "model.layers.1.mlp.experts.0.up_proj.weight"; t[w] = ["BF16", t[w][1], t[w][2] * 2]; t.pop(w + "_scale_inv")'
told "FP8 without a code" "quant_method is 'fp8', but no tensor ends in .weight_scale_inv: all weights are read as numbers" glm4_moe 'c["quantization_config"] = {"quant_method": "fp8", "weight_block_size": [16, 16]}'
told "a strange key beside FP8" "quantization_config: zero_scale is not known to qc" deepseek_v3_fp8 'c["quantization_config"]["zero_scale"] = 1'

# ---- tensors of all experts ------------------------------------------------------------------------------------------
changed "experts that lie the other way round" "experts.gate_up_proj is [4, 64, 32], which is [experts, out, in]" llama4 't["model.layers.1.feed_forward.experts.gate_up_proj"][1] = [4, 64, 32]'
changed "experts in two ways" "are stored in two ways" gpt_oss 't["model.layers.0.mlp.experts.0.gate_proj.weight"] = ["BF16", [32, 32], bytearray(2048)]'
changed "an expert less" "has shape [3, 32, 64], but config.json implies [4, 32, 64] (num_local_experts, hidden_size, intermediate_size)" gpt_oss 'x = t["model.layers.0.mlp.experts.gate_up_proj"]; x[1][0] = 3; x[2] = x[2][:3 * 32 * 64 * 2]'
changed "blocks without scales" "tensor model.layers.0.mlp.experts.down_proj_scales is missing" gpt_oss_mxfp4 't.pop("model.layers.0.mlp.experts.down_proj_scales")'
changed "blocks without a quantization_config" "are blocks of MXFP4, but config.json has no quantization_config" gpt_oss_mxfp4 'del c["quantization_config"]'
changed "a scale that is none" "model.layers.0.mlp.experts.gate_up_proj_blocks: what is computed from it is not finite" gpt_oss_mxfp4 't["model.layers.0.mlp.experts.gate_up_proj_scales"][2][3] = 255'
changed "no sinks" "tensor model.layers.1.self_attn.sinks is missing" gpt_oss 't.pop("model.layers.1.self_attn.sinks")'
changed "a NaN in sinks" "model.layers.1.self_attn.sinks: holds a NaN or an infinity (element 0)" gpt_oss 't["model.layers.1.self_attn.sinks"][2][0:2] = b"\xc0\x7f"'

# ---- multimodal models -----------------------------------------------------------------------------------------------
models=$QC_SOURCE_ROOT/tests/data/dense_models
changed "two text models" "the text model is stored twice, below language_model.model and below model.language_model" gemma3_vision '[t.__setitem__(k.replace("language_model.model.", "model.language_model."), t[k]) for k in list(t)]'
models=$QC_SOURCE_ROOT/tests/data/moe_models

# ---- targets ---------------------------------------------------------------------------------------------------------
refused "one expert alone" "quant-linear: targets and ignore treat 7 of the 8 experts of model.layers.1.mlp.experts.{e}.up_proj like the first" --scheme=FP8_DYNAMIC --targets=model.layers.1.mlp.experts.3.up_proj "$models/qwen3_moe"
refused "half of the experts ignored" "treat 4 of the 8 experts" --scheme=FP8_DYNAMIC '--ignore=re:.*experts\.[0-3]\..*' --ignore=lm_head "$models/qwen3_moe"
refused "a router named" "targets: 'Qwen3MoeTopKRouter' names a router, which stays in full precision" --scheme=FP8_DYNAMIC --targets=Linear --targets=Qwen3MoeTopKRouter "$models/qwen3_moe"

# ---- calibration -----------------------------------------------------------------------------------------------------
fp8="--scheme=FP8 --ignore=lm_head $random"
for mode in ALL all,routed 'routed{min_tokens=1}x'; do
    # shellcheck disable=SC2086
    fails "--moe-calib=$mode" 2 "all or routed, and in braces what is asked for" "$opt" $fp8 "--moe-calib=$mode" "$models/qwen3_moe"
done
# shellcheck disable=SC2086
refused "no token at least" "min_tokens is a number of tokens, at least 1" $fp8 '--moe-calib=routed{min_tokens=0}' "$models/qwen3_moe"
# shellcheck disable=SC2086
refused "more tokens than there are" "model.layers.0.mlp.experts: none of its 4 experts saw 100000 tokens" $fp8 '--moe-calib=routed{min_tokens=100000,fallback=layer}' "$models/gpt_oss"
# shellcheck disable=SC2086
refused "too little memory" "MiB at least, more than the limit of 8 MiB" $fp8 --max-memory=8MiB "$models/qwen3_moe"

# ---- global scales ---------------------------------------------------------------------------------------------------
echo '{"input_ids": [1, 2, 3, 4]}' >"$work/ids.jsonl"
passes "experts in NVFP4" "$opt" --scheme=NVFP4A16 --ignore=lm_head "$models/qwen3_moe" -o "$work/coded"
layer=model.layers.1 tensor=weight_global_scale
for part in mlp.experts.3.up_proj self_attn.q_proj; do
    edit "$work/coded" "$work/zeroed" "t['$layer.$part.$tensor'][2][:] = bytes(4)"
    fails "a global scale of 0: $part" 1 "$layer.$part.$tensor: is 0, and a global scale must be positive" \
        "$QC_BIN/qc-run" perplexity "$work/zeroed" "--data=$work/ids.jsonl"
    edit "$work/coded" "$work/zeroed" "t['$layer.$part.$tensor'][2][3] |= 0x80"
    fails "a negative one: $part" 1 "$layer.$part.$tensor: is -" "$QC_BIN/qc-run" perplexity "$work/zeroed" "--data=$work/ids.jsonl"
done

# ---- IR --------------------------------------------------------------------------------------------------------------
# rewritten NAME TEXT SED OPTION...: the IR of qwen3_moe with the change.
"$opt" "$models/qwen3_moe" >"$work/whole.qc" 2>/dev/null
rewritten() {
    sed -e "$3" "$work/whole.qc" >"$work/changed.qc"
    refused "IR: $1" "$2" --scheme=FP8_DYNAMIC --ignore=lm_head "$work/changed.qc"
}
rewritten "an embedding of another size" "model.embed_tokens.weight: has another shape in the source than the IR's bf16[65, 32]" 's/\("model.embed_tokens.weight" : bf16\)\[64/\1[65/'
rewritten "more experts than the bank has" "expert_linear: w bf16[8, 32, 32] is not of the 9 experts of its rows" 's/experts = 8/experts = 9/'
rewritten "a bank of giants" "the number of elements overflows 64 bits" 's/\(expert_weight "[^"]*" : bf16\)\[8, 32, 32\]/\1[4294967296, 4294967296, 4294967296]/'
rewritten "a bank of one tensor" "must have {e} once, for the number of the expert" 's/\(expert_weight "[^"]*experts\.\){e}/\13/'
rewritten "two numbers of one expert" "must have {e} once, for the number of the expert" 's/\(expert_weight "[^"]*experts\.\){e}/\1{e}.{e}/'
rewritten "a module that is not there" "module is {e}.odd_proj and in config.json {e}.gate_proj" 's/module = "{e}.gate_proj"/module = "{e}.odd_proj"/'
finish
