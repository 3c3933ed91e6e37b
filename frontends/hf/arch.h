/* SPDX-License-Identifier: MIT
 *
 * arch.h - the table of architectures: one row describes a decoder model of the Llama family, and everything
 * else in this folder works from rows. Defaults are those that the configuration classes of Transformers 5.17
 * have for keys missing from config.json.
 */
#ifndef QC_FRONTENDS_HF_ARCH_H
#define QC_FRONTENDS_HF_ARCH_H

#include "frontends/hf/hf.h"

/* When a linear layer has a bias. */
typedef enum qc_hf_bias {
    QC_HF_BIAS_NEVER,
    QC_HF_BIAS_ALWAYS,
    QC_HF_BIAS_BY_ATTENTION_BIAS, /* as the key attention_bias says; absent: false */
    QC_HF_BIAS_BY_MLP_BIAS,       /* as the key mlp_bias says; absent: false */
} qc_hf_bias;

/* Which layers see no further back than sliding_window tokens. */
typedef enum qc_hf_windowing {
    QC_HF_WINDOWING_NEVER,
    QC_HF_WINDOWING_EVERY_LAYER,    /* all of them when sliding_window is a number */
    QC_HF_WINDOWING_BY_LAYER_TYPES, /* layer_types; else from max_window_layers on if use_sliding_window */
} qc_hf_windowing;

typedef struct qc_hf_arch {
    qc_hf_arch_info info;
    const char *prefix; /* of class names: "Llama" as in LlamaAttention */
    qc_hf_bias qkv_bias, o_bias, mlp_bias;
    bool head_norms; /* RMSNorm over each head of q and k, before RoPE */
    qc_hf_windowing windowing;
    /* Defaults. */
    int64_t vocabulary, hidden, intermediate, layers, heads;
    int64_t kv_heads; /* 0: as many as heads */
    int64_t head_dim; /* 0: hidden / heads, also for null; else null is an error */
    int64_t positions, sliding_window;
} qc_hf_arch;

/* Row `index`, NULL behind the last. */
const qc_hf_arch *qc_hf_arch_at(size_t index);
/* NULL when unknown. */
const qc_hf_arch *qc_hf_arch_by_name(const char *architecture);
const qc_hf_arch *qc_hf_arch_by_model_type(const char *model_type);
/* "LlamaForCausalLM, MistralForCausalLM, ..." in `arena`. */
const char *qc_hf_arch_names(qc_arena *arena);

#endif
