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

/* Where a norm stands in a decoder layer. */
typedef enum qc_hf_norm_place {
    QC_HF_NORM_BEFORE_ATTENTION,
    QC_HF_NORM_AFTER_ATTENTION, /* before its output is added */
    QC_HF_NORM_BEFORE_MLP,
    QC_HF_NORM_AFTER_MLP,
    QC_HF_NORM_PLACES
} qc_hf_norm_place;

typedef struct qc_hf_layer_norm {
    const char *name; /* NULL: none */
    qc_hf_norm_place place;
} qc_hf_layer_norm;

/* Norms before attention and before the MLP, as most have them. */
#define QC_HF_NORMS_LLAMA                                                                                    \
    {                                                                                                        \
        {"input_layernorm", QC_HF_NORM_BEFORE_ATTENTION},                                                    \
        {                                                                                                    \
            "post_attention_layernorm", QC_HF_NORM_BEFORE_MLP                                                \
        }                                                                                                    \
    }

/* What the embedding is multiplied by. */
typedef enum qc_hf_embedding_scale {
    QC_HF_EMBEDDING_SCALE_NONE,
    QC_HF_EMBEDDING_SCALE_ROOT,      /* the square root of the hidden size, rounded to D */
    QC_HF_EMBEDDING_SCALE_BY_FACTOR, /* the key embedding_multiplier; absent: 1 */
} qc_hf_embedding_scale;

typedef struct qc_hf_arch {
    qc_hf_arch_info info;
    const char *prefix; /* of class names: "Llama" as in LlamaAttention */
    /* Classes that are not called by the prefix; NULL: PrefixModel, Embedding. */
    const char *model_class, *embedding_class;
    qc_hf_layer_norm norms[QC_HF_NORM_PLACES]; /* in the order of the module tree */
    double norm_offset;                        /* is added to the weights of all norms */
    bool norm_wide;                            /* norms round once, behind the product with the weight */
    bool dropouts;                             /* a layer has modules for dropout, which do nothing here */
    qc_hf_mlp_rule mlp;
    qc_hf_embedding_scale embedding_scale;
    bool multipliers; /* the keys residual_multiplier and logits_scaling are read */
    bool logits_cap;  /* the key final_logit_softcapping is read */
    qc_hf_attention_rule attention;
    const qc_hf_moe_rule *moe; /* NULL: no layer has experts */
    /* Defaults. */
    int64_t vocabulary, hidden, intermediate, layers, positions;
    double norm_eps; /* 0: 1e-6 */
    double logits_cap_default;
    bool tied;
} qc_hf_arch;

/* NULL when unknown. */
const qc_hf_arch *qc_hf_arch_by_name(const char *architecture);
const qc_hf_arch *qc_hf_arch_by_model_type(const char *model_type);
/* "LlamaForCausalLM, MistralForCausalLM, ..." in `arena`. */
const char *qc_hf_arch_names(qc_arena *arena);

/* Why a known architecture is not supported, by class or model_type: "layers of ..."; NULL: it is not known. */
const char *qc_hf_arch_refusal(const char *name);

#endif
