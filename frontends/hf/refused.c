/* SPDX-License-Identifier: MIT
 *
 * refused.c - architectures that are known and not supported, with the reason: their layers hold state that is no KV cache,
 * or compute what the IR has no op for. Source: transformers/models/ at 5.17.
 */
#include "frontends/hf/arch.h"

#define LINEAR "layers of linear attention between those of full attention"
#define MAMBA "state-space (Mamba) layers"
#define CONVOLUTION "layers of short convolutions between those of attention"

/* A name of a class begins so: Qwen3NextForCausalLM. */
static const struct {
    const char *prefix, *model_type, *reason;
} refused[] = {
    {"Qwen3NextFor", "qwen3_next", LINEAR},
    {"Qwen3_5For", "qwen3_5", LINEAR},
    {"Qwen3_5MoeFor", "qwen3_5_moe", LINEAR},
    {"MiniMaxFor", "minimax", LINEAR},
    {"MiniMaxText01For", "minimax_text_01", LINEAR},
    {"MiniMaxM1For", "minimax_m1", LINEAR},
    {"KimiLinearFor", "kimi_linear", LINEAR},
    {"OlmoHybridFor", "olmo_hybrid", LINEAR},
    {"JambaFor", "jamba", MAMBA},
    {"MambaFor", "mamba", MAMBA},
    {"Mamba2For", "mamba2", MAMBA},
    {"FalconMambaFor", "falcon_mamba", MAMBA},
    {"FalconH1For", "falcon_h1", MAMBA},
    {"BambaFor", "bamba", MAMBA},
    {"ZambaFor", "zamba", MAMBA},
    {"Zamba2For", "zamba2", MAMBA},
    {"NemotronHFor", "nemotron_h", MAMBA},
    {"GraniteMoeHybridFor", "granitemoehybrid", MAMBA},
    {"Plamo2For", "plamo2", MAMBA},
    {"RecurrentGemmaFor", "recurrent_gemma", "recurrent layers"},
    {"RwkvFor", "rwkv", "recurrent layers"},
    {"xLSTMFor", "xlstm", "recurrent layers"},
    {"Lfm2For", "lfm2", CONVOLUTION},
    {"Lfm2MoeFor", "lfm2_moe", CONVOLUTION},
    {"Lfm2VlFor", "lfm2_vl", CONVOLUTION},
    {"Gemma3nFor", "gemma3n", "embeddings for each layer and layers that share a KV cache"},
};

const char *qc_hf_arch_refusal(const char *name)
{
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (strcmp(name, refused[i].model_type) == 0 ||
            strncmp(name, refused[i].prefix, strlen(refused[i].prefix)) == 0)
            return refused[i].reason;
    return NULL;
}
