/* SPDX-License-Identifier: MIT
 *
 * arch.h - the table of architectures: one row describes a decoder model of the Llama family, and everything
 * else in this folder works from rows. Defaults are those that the configuration classes of Transformers 5.17
 * have for keys missing from config.json.
 */
#ifndef QC_FRONTENDS_HF_ARCH_H
#define QC_FRONTENDS_HF_ARCH_H

#include "frontends/hf/attention.h"
#include "frontends/hf/hf.h"
#include "frontends/hf/moe.h"

typedef struct qc_hf_arch {
    qc_hf_arch_info info;
    const char *prefix; /* of class names: "Llama" as in LlamaAttention */
    qc_hf_bias mlp_bias;
    qc_hf_attention_rule attention;
    const qc_hf_moe_rule *moe; /* NULL: no layer has experts */
    /* Defaults. */
    int64_t vocabulary, hidden, intermediate, layers, positions;
} qc_hf_arch;

/* Row `index`, NULL behind the last. */
const qc_hf_arch *qc_hf_arch_at(size_t index);
/* NULL when unknown. */
const qc_hf_arch *qc_hf_arch_by_name(const char *architecture);
const qc_hf_arch *qc_hf_arch_by_model_type(const char *model_type);
/* "LlamaForCausalLM, MistralForCausalLM, ..." in `arena`. */
const char *qc_hf_arch_names(qc_arena *arena);

#endif
