/* SPDX-License-Identifier: MIT
 *
 * rope.h - the parameters of rotary embeddings: from config.json into the map that the op `rope` takes.
 */
#ifndef QC_FRONTENDS_HF_ROPE_H
#define QC_FRONTENDS_HF_ROPE_H

#include "frontends/hf/linear.h"
#include "ir/support/diag.h"
#include "ir/support/json.h"

typedef enum qc_hf_rope_type {
    QC_HF_ROPE_DEFAULT,
    QC_HF_ROPE_LINEAR,
    QC_HF_ROPE_DYNAMIC,
    QC_HF_ROPE_LLAMA3,
    QC_HF_ROPE_YARN,
} qc_hf_rope_type;

/* Defaults are filled in: what a type uses is always set. */
typedef struct qc_hf_rope {
    double theta;
    qc_hf_rope_type type;
    double factor;                            /* all but default */
    double low_freq_factor, high_freq_factor; /* llama3 */
    double beta_fast, beta_slow;              /* yarn */
    double attention_factor;                  /* yarn: cos and sin are multiplied by it */
    bool truncate;                            /* yarn: the correction range is rounded to whole dimensions */
    int64_t original_positions;               /* llama3, yarn; dynamic: max_position_embeddings */
} qc_hf_rope;

/* Fills config->attention.rope from the root object; needs config->positions, attention.head_dim and arch. */
qc_status qc_hf_config_rope(qc_diag *diag, const qc_json *root, qc_hf_config *config);

/* The parameters as the map that rope takes; NULL for the default type. */
const qc_attr *qc_hf_rope_attr(qc_ctx *ctx, const qc_hf_rope *rope);

#endif
