/* SPDX-License-Identifier: MIT
 *
 * arch.c - the table of architectures. Source: the classes of transformers/models/{llama,mistral,qwen2,qwen3}
 * at 5.17, configuration and model.
 */
#include "frontends/hf/arch.h"

#include "ir/support/str.h"

#define ROPE_TYPES "RoPE scaling linear, dynamic, llama3, yarn"

static const qc_hf_arch archs[] = {
    {
        .info = {"LlamaForCausalLM", "llama", "LlamaAttention",
            "grouped-query attention, head_dim, attention_bias, mlp_bias, tied embeddings, " ROPE_TYPES},
        .prefix = "Llama",
        .mlp_bias = QC_HF_BIAS_BY_MLP_BIAS,
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
};

const qc_hf_arch *qc_hf_arch_at(size_t index)
{
    return index < sizeof archs / sizeof *archs ? &archs[index] : NULL;
}

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

const char *qc_hf_arch_names(qc_arena *arena)
{
    const char *names = archs[0].info.architecture;
    for (size_t i = 1; i < sizeof archs / sizeof *archs; i++)
        names = qc_arena_printf(arena, "%s, %s", names, archs[i].info.architecture);
    return names;
}

bool qc_hf_list_archs(size_t index, qc_hf_arch_info *info)
{
    const qc_hf_arch *arch = qc_hf_arch_at(index);
    if (!arch)
        return false;
    *info = arch->info;
    return true;
}
