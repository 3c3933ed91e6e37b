/* SPDX-License-Identifier: MIT
 *
 * arch.c - the table of architectures. Source: the classes of transformers/models/ at 5.17, configuration and model, for
 * each row those of its model_type. What config.json leaves out has the default that stands there.
 */
#include "frontends/hf/arch.h"

#include "frontends/hf/wrapper.h"
#include "ir/support/str.h"

#define ROPE_TYPES "RoPE scaling linear, dynamic, llama3, yarn, longrope"

/* Norms of a layer, in the order of its modules; those of Llama are in arch.h. */
#define NORMS_GEMMA                                                                                          \
    {                                                                                                        \
        {"input_layernorm", QC_HF_NORM_BEFORE_ATTENTION},                                                    \
            {"post_attention_layernorm", QC_HF_NORM_AFTER_ATTENTION},                                        \
            {"pre_feedforward_layernorm", QC_HF_NORM_BEFORE_MLP},                                            \
        {                                                                                                    \
            "post_feedforward_layernorm", QC_HF_NORM_AFTER_MLP                                               \
        }                                                                                                    \
    }
#define NORMS_GLM4                                                                                           \
    {                                                                                                        \
        {"input_layernorm", QC_HF_NORM_BEFORE_ATTENTION},                                                    \
            {"post_attention_layernorm", QC_HF_NORM_BEFORE_MLP},                                             \
            {"post_self_attn_layernorm", QC_HF_NORM_AFTER_ATTENTION},                                        \
        {                                                                                                    \
            "post_mlp_layernorm", QC_HF_NORM_AFTER_MLP                                                       \
        }                                                                                                    \
    }
#define NORMS_OLMO2                                                                                          \
    {                                                                                                        \
        {"post_attention_layernorm", QC_HF_NORM_AFTER_ATTENTION},                                            \
        {                                                                                                    \
            "post_feedforward_layernorm", QC_HF_NORM_AFTER_MLP                                               \
        }                                                                                                    \
    }

static const qc_hf_arch archs[] = {
    {
        .info = {"LlamaForCausalLM", "llama", "LlamaAttention",
            "grouped-query attention, head_dim, attention_bias, mlp_bias, tied embeddings, " ROPE_TYPES},
        .prefix = "Llama",
        .norms = QC_HF_NORMS_LLAMA,
        .mlp = {.bias_key = true},
        .attention =
            {
                .qkv_bias = QC_HF_BIAS_BY_ATTENTION_BIAS,
                .o_bias = QC_HF_BIAS_BY_ATTENTION_BIAS,
                .windowing = QC_HF_WINDOWING_NEVER,
                .heads = 32,
            },
        .vocabulary = 32000,
        .hidden = 4096,
        .intermediate = 11008,
        .layers = 32,
        .positions = 2048,
    },
    {
        .info = {"MistralForCausalLM", "mistral", "MistralAttention",
            "grouped-query attention, head_dim, sliding_window, tied embeddings, " ROPE_TYPES},
        .prefix = "Mistral",
        .norms = QC_HF_NORMS_LLAMA,
        .attention =
            {
                .windowing = QC_HF_WINDOWING_EVERY_LAYER,
                .heads = 32,
                .kv_heads = 8,
                .sliding_window = 4096,
            },
        .vocabulary = 32000,
        .hidden = 4096,
        .intermediate = 14336,
        .layers = 32,
        .positions = 4096 * 32,
    },
    {
        .info = {"Qwen2ForCausalLM", "qwen2", "Qwen2Attention",
            "grouped-query attention, q/k/v bias, use_sliding_window, layer_types, tied "
            "embeddings, " ROPE_TYPES},
        .prefix = "Qwen2",
        .norms = QC_HF_NORMS_LLAMA,
        .attention =
            {
                .qkv_bias = QC_HF_BIAS_ALWAYS,
                .windowing = QC_HF_WINDOWING_BY_LAYER_TYPES,
                .heads = 32,
                .kv_heads = 32,
                .sliding_window = 4096,
            },
        .vocabulary = 151936,
        .hidden = 4096,
        .intermediate = 22016,
        .layers = 32,
        .positions = 32768,
    },
    {
        .info = {"Qwen3ForCausalLM", "qwen3", "Qwen3Attention",
            "grouped-query attention, head_dim, q/k norm per head, attention_bias, use_sliding_window, "
            "layer_types, "
            "tied embeddings, " ROPE_TYPES},
        .prefix = "Qwen3",
        .norms = QC_HF_NORMS_LLAMA,
        .attention =
            {
                .qkv_bias = QC_HF_BIAS_BY_ATTENTION_BIAS,
                .o_bias = QC_HF_BIAS_BY_ATTENTION_BIAS,
                .qk_norm = QC_HF_QK_NORM_HEADS,
                .windowing = QC_HF_WINDOWING_BY_LAYER_TYPES,
                .heads = 32,
                .kv_heads = 32,
                .head_dim = 128,
                .sliding_window = 4096,
            },
        .vocabulary = 151936,
        .hidden = 4096,
        .intermediate = 22016,
        .layers = 32,
        .positions = 32768,
    },
    {
        .info = {"Phi3ForCausalLM", "phi3", "Phi3Attention",
            "fused qkv_proj and gate_up_proj, partial_rotary_factor, sliding_window, tied embeddings, RoPE "
            "scaling "
            "longrope (Phi-3, Phi-3.5, Phi-4-mini)"},
        .prefix = "Phi3",
        .norms = QC_HF_NORMS_LLAMA,
        .dropouts = true,
        .mlp = {.fused = true, .activation = "activation_fn"},
        .attention =
            {
                .projection = QC_HF_PROJECTION_FUSED,
                .windowing = QC_HF_WINDOWING_EVERY_LAYER,
                .rope = {.partial = 1, .longrope_only = true},
                .heads = 32,
            },
        .vocabulary = 32064,
        .hidden = 3072,
        .intermediate = 8192,
        .layers = 32,
        .positions = 4096,
        .norm_eps = 1e-5,
    },
    {
        .info = {"Gemma2ForCausalLM", "gemma2", "Gemma2Attention",
            "sliding and full layers, query_pre_attn_scalar, soft caps of scores and logits, scaled "
            "embeddings, " ROPE_TYPES},
        .prefix = "Gemma2",
        .norms = NORMS_GEMMA,
        .embedding_class = "Gemma2TextScaledWordEmbedding",
        .norm_offset = 1,
        .norm_wide = true,
        .mlp = {.activation_key = "hidden_activation", .activation_default = "gelu_pytorch_tanh"},
        .embedding_scale = QC_HF_EMBEDDING_SCALE_ROOT,
        .logits_cap = true,
        .logits_cap_default = 30,
        .attention =
            {
                .qkv_bias = QC_HF_BIAS_BY_ATTENTION_BIAS,
                .o_bias = QC_HF_BIAS_BY_ATTENTION_BIAS,
                .windowing = QC_HF_WINDOWING_BY_PATTERN,
                .window_pattern = 2,
                .scale = QC_HF_SCORE_SCALE_BY_QUERY_PRE_ATTN_SCALAR,
                .softcap = true,
                .heads = 8,
                .kv_heads = 4,
                .head_dim = 256,
                .sliding_window = 4096,
            },
        .vocabulary = 256000,
        .hidden = 2304,
        .intermediate = 9216,
        .layers = 26,
        .positions = 8192,
        .tied = true,
    },
    {
        .info = {"Gemma3ForCausalLM", "gemma3_text", "Gemma3Attention",
            "sliding and full layers with rotary bases of their own, q/k norm per head, "
            "query_pre_attn_scalar, "
            "soft cap of logits, scaled embeddings, " ROPE_TYPES},
        .prefix = "Gemma3",
        .norms = NORMS_GEMMA,
        .model_class = "Gemma3TextModel",
        .embedding_class = "Gemma3TextScaledWordEmbedding",
        .norm_offset = 1,
        .norm_wide = true,
        .mlp = {.activation_key = "hidden_activation", .activation_default = "gelu_pytorch_tanh"},
        .embedding_scale = QC_HF_EMBEDDING_SCALE_ROOT,
        .logits_cap = true,
        .attention =
            {
                .qkv_bias = QC_HF_BIAS_BY_ATTENTION_BIAS,
                .o_bias = QC_HF_BIAS_BY_ATTENTION_BIAS,
                .qk_norm = QC_HF_QK_NORM_HEADS,
                .windowing = QC_HF_WINDOWING_BY_PATTERN,
                .window_pattern = 6,
                .scale = QC_HF_SCORE_SCALE_BY_QUERY_PRE_ATTN_SCALAR,
                .rope = {.theta = 1e6, .local_theta = 1e4},
                .heads = 8,
                .kv_heads = 4,
                .head_dim = 256,
                .sliding_window = 4096,
            },
        .vocabulary = 262208,
        .hidden = 2304,
        .intermediate = 9216,
        .layers = 26,
        .positions = 131072,
        .tied = true,
    },
    {
        .info = {"Olmo2ForCausalLM", "olmo2", "Olmo2Attention",
            "grouped-query attention, norms behind attention and MLP, q/k norm over all heads, "
            "attention_bias, " ROPE_TYPES},
        .prefix = "Olmo2",
        .norms = NORMS_OLMO2,
        .norm_wide = true,
        .attention =
            {
                .qkv_bias = QC_HF_BIAS_BY_ATTENTION_BIAS,
                .o_bias = QC_HF_BIAS_BY_ATTENTION_BIAS,
                .qk_norm = QC_HF_QK_NORM_WHOLE,
                .rope = {.exact = true},
                .heads = 32,
            },
        .vocabulary = 50304,
        .hidden = 4096,
        .intermediate = 11008,
        .layers = 32,
        .positions = 2048,
        .norm_eps = 1e-5,
    },
    {
        .info = {"GraniteForCausalLM", "granite", "GraniteAttention",
            "embedding_multiplier, attention_multiplier, residual_multiplier, logits_scaling, "
            "attention_bias, "
            "mlp_bias, tied embeddings, " ROPE_TYPES},
        .prefix = "Granite",
        .norms = QC_HF_NORMS_LLAMA,
        .mlp = {.bias_key = true},
        .embedding_scale = QC_HF_EMBEDDING_SCALE_BY_FACTOR,
        .multipliers = true,
        .attention =
            {
                .qkv_bias = QC_HF_BIAS_BY_ATTENTION_BIAS,
                .o_bias = QC_HF_BIAS_BY_ATTENTION_BIAS,
                .scale = QC_HF_SCORE_SCALE_BY_ATTENTION_MULTIPLIER,
                .heads = 32,
            },
        .vocabulary = 32000,
        .hidden = 4096,
        .intermediate = 11008,
        .layers = 32,
        .positions = 2048,
    },
    {
        .info = {"Glm4ForCausalLM", "glm4", "Glm4Attention",
            "norms on both sides, fused gate_up_proj, partial_rotary_factor with neighbours turned, "
            "attention_bias, " ROPE_TYPES},
        .prefix = "Glm4",
        .norms = NORMS_GLM4,
        .mlp = {.fused = true, .activation = "activation_fn"},
        .attention =
            {
                .qkv_bias = QC_HF_BIAS_UNLESS_ATTENTION_BIAS,
                .rope = {.partial = 0.5, .interleaved = true},
                .heads = 32,
                .kv_heads = 2,
                .head_dim = 128,
            },
        .vocabulary = 151552,
        .hidden = 4096,
        .intermediate = 13696,
        .layers = 40,
        .positions = 131072,
        .norm_eps = 1.5625e-7,
    },
    {
        .info = {"MixtralForCausalLM", "mixtral", "MixtralAttention",
            "experts (one by one or fused), grouped-query attention, head_dim, sliding_window, " ROPE_TYPES},
        .prefix = "Mixtral",
        .norms = QC_HF_NORMS_LLAMA,
        .attention =
            {
                .windowing = QC_HF_WINDOWING_EVERY_LAYER,
                .rope = {.theta = 1000000},
                .heads = 32,
                .kv_heads = 8,
            },
        .moe = &qc_hf_moe_mixtral,
        .vocabulary = 32000,
        .hidden = 4096,
        .intermediate = 14336,
        .layers = 32,
        .positions = 4096 * 32,
        .norm_eps = 1e-5,
    },
    {
        .info = {"Qwen2MoeForCausalLM", "qwen2_moe", "Qwen2MoeAttention",
            "experts (one by one or fused), shared expert and its gate, decoder_sparse_step, "
            "mlp_only_layers, "
            "norm_topk_prob, qkv_bias, use_sliding_window, layer_types, " ROPE_TYPES},
        .prefix = "Qwen2Moe",
        .norms = QC_HF_NORMS_LLAMA,
        .attention =
            {
                .qkv_bias = QC_HF_BIAS_UNLESS_QKV_BIAS,
                .windowing = QC_HF_WINDOWING_EVEN_IF_USED,
                .heads = 16,
                .kv_heads = 16,
                .sliding_window = 4096,
            },
        .moe = &qc_hf_moe_qwen2,
        .vocabulary = 151936,
        .hidden = 2048,
        .intermediate = 5632,
        .layers = 24,
        .positions = 32768,
    },
    {
        .info = {"Qwen3MoeForCausalLM", "qwen3_moe", "Qwen3MoeAttention",
            "experts (one by one or fused), decoder_sparse_step, mlp_only_layers, norm_topk_prob, q/k norm "
            "per "
            "head, attention_bias, use_sliding_window, " ROPE_TYPES},
        .prefix = "Qwen3Moe",
        .norms = QC_HF_NORMS_LLAMA,
        .attention =
            {
                .qkv_bias = QC_HF_BIAS_BY_ATTENTION_BIAS,
                .o_bias = QC_HF_BIAS_BY_ATTENTION_BIAS,
                .qk_norm = QC_HF_QK_NORM_HEADS,
                .windowing = QC_HF_WINDOWING_EVERY_LAYER_IF_USED,
                .heads = 32,
                .kv_heads = 4,
                .sliding_window = 4096,
            },
        .moe = &qc_hf_moe_qwen3,
        .vocabulary = 151936,
        .hidden = 2048,
        .intermediate = 6144,
        .layers = 24,
        .positions = 32768,
    },
    {
        .info = {"Llama4ForCausalLM", "llama4_text", "Llama4TextAttention",
            "experts (fused and transposed, or one by one), shared expert, dense layers, chunked attention, "
            "layers without RoPE, q/k norm, attention temperature, " ROPE_TYPES},
        .prefix = "Llama4Text",
        .norms = QC_HF_NORMS_LLAMA,
        .mlp = {.activation = "activation_fn"},
        .attention =
            {
                .qkv_bias = QC_HF_BIAS_BY_ATTENTION_BIAS,
                .o_bias = QC_HF_BIAS_BY_ATTENTION_BIAS,
                .qk_norm = QC_HF_QK_NORM_L2_UNLESS,
                .windowing = QC_HF_WINDOWING_CHUNKED,
                .rope = {.theta = 500000, .interleaved = true, .exact = true},
                .heads = 40,
                .kv_heads = 8,
                .head_dim = 128,
            },
        .moe = &qc_hf_moe_llama4,
        .vocabulary = 202048,
        .hidden = 5120,
        .intermediate = 8192,
        .layers = 48,
        .positions = 4096 * 32,
        .norm_eps = 1e-5,
    },
    {
        .info = {"GptOssForCausalLM", "gpt_oss", "GptOssAttention",
            "experts (fused, transposed and interleaved, in blocks of MXFP4, or one by one) with biases, "
            "attention sinks, sliding and full layers, RoPE scaling yarn"},
        .prefix = "GptOss",
        .norms = QC_HF_NORMS_LLAMA,
        .norm_wide = true,
        .attention =
            {
                .qkv_bias = QC_HF_BIAS_UNLESS_ATTENTION_BIAS,
                .o_bias = QC_HF_BIAS_UNLESS_ATTENTION_BIAS,
                .windowing = QC_HF_WINDOWING_BY_PATTERN,
                .rope = {.theta = 150000, .yarn_unless = true},
                .sinks = true,
                .heads = 64,
                .kv_heads = 8,
                .head_dim = 64,
                .sliding_window = 128,
                .window_pattern = 2,
            },
        .moe = &qc_hf_moe_gpt_oss,
        .vocabulary = 201088,
        .hidden = 2880,
        .intermediate = 2880,
        .layers = 36,
        .positions = 131072,
        .norm_eps = 1e-5,
    },
    {
        .info = {"DeepseekV3ForCausalLM", "deepseek_v3", "DeepseekV3Attention",
            "multi-head latent attention, experts (one by one or fused) with grouped sigmoid routing and "
            "correction bias, leading dense layers, shared experts, FP8 blocks, RoPE scaling yarn"},
        .prefix = "DeepseekV3",
        .norms = QC_HF_NORMS_LLAMA,
        .attention =
            {
                .projection = QC_HF_PROJECTION_LATENT,
                .qkv_bias = QC_HF_BIAS_BY_ATTENTION_BIAS,
                .o_bias = QC_HF_BIAS_BY_ATTENTION_BIAS,
                .rope = {.interleaved = true, .interleave_key = true},
                .heads = 128,
                .kv_heads = 128,
            },
        .moe = &qc_hf_moe_deepseek_v3,
        .vocabulary = 129280,
        .hidden = 7168,
        .intermediate = 18432,
        .layers = 61,
        .positions = 4096,
    },
    {
        .info = {"Glm4MoeForCausalLM", "glm4_moe", "Glm4MoeAttention",
            "experts (one by one or fused) with grouped sigmoid routing and correction bias, leading dense "
            "layers, shared experts, attention_bias, use_qk_norm, partial_rotary_factor, " ROPE_TYPES},
        .prefix = "Glm4Moe",
        .norms = QC_HF_NORMS_LLAMA,
        .attention =
            {
                .qkv_bias = QC_HF_BIAS_BY_ATTENTION_BIAS,
                .qk_norm = QC_HF_QK_NORM_HEADS_IF_ASKED,
                .rope = {.partial = 0.5},
                .heads = 96,
                .kv_heads = 8,
            },
        .moe = &qc_hf_moe_glm4,
        .vocabulary = 151552,
        .hidden = 4096,
        .intermediate = 10944,
        .layers = 46,
        .positions = 131072,
        .norm_eps = 1e-5,
    },
};

const qc_hf_arch *qc_hf_arch_by_name(const char *architecture)
{
    for (size_t i = 0; i < sizeof archs / sizeof *archs; i++)
        if (strcmp(archs[i].info.architecture, architecture) == 0)
            return &archs[i];
    return NULL;
}

const qc_hf_arch *qc_hf_arch_by_model_type(const char *model_type)
{
    for (size_t i = 0; i < sizeof archs / sizeof *archs; i++)
        if (strcmp(archs[i].info.model_type, model_type) == 0)
            return &archs[i];
    return NULL;
}

bool qc_hf_experts_by_turns(const char *model_type)
{
    const qc_hf_arch *arch = qc_hf_arch_by_model_type(model_type);
    return arch && arch->moe && arch->moe->interleaved;
}

const char *qc_hf_arch_names(qc_arena *arena)
{
    const char *names = archs[0].info.architecture;
    for (size_t i = 1; i < sizeof archs / sizeof *archs; i++)
        names = qc_arena_printf(arena, "%s, %s", names, archs[i].info.architecture);
    const qc_hf_wrapper *wrapper;
    for (size_t i = 0; (wrapper = qc_hf_wrapper_at(i)); i++)
        names = qc_arena_printf(arena, "%s, %s", names, wrapper->info.architecture);
    return names;
}

bool qc_hf_list_archs(size_t index, qc_hf_arch_info *info)
{
    const size_t count = sizeof archs / sizeof *archs;
    const qc_hf_wrapper *wrapper = index < count ? NULL : qc_hf_wrapper_at(index - count);
    if (index >= count && !wrapper)
        return false;
    *info = wrapper ? wrapper->info : archs[index].info;
    return true;
}
