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
    QC_HF_ROPE_LONGROPE,
} qc_hf_rope_type;

/* What an architecture's row says. */
typedef struct qc_hf_rope_rule {
    double theta;       /* where config.json has none; 0: 10000 */
    double local_theta; /* > 0: sliding layers have a base of their own, rope_local_base_freq; absent: this */
    double partial;     /* > 0: partial_rotary_factor of a head is turned; absent: this. 0: the whole head */
    bool interleaved;   /* neighbours are turned, not halves */
    bool interleave_key; /* ... unless rope_interleave is false */
    bool exact;          /* tables are f32, and the turned values are rounded once (Llama 4, OLMo 2) */
    bool longrope_only;  /* no type but default and longrope (Phi-3) */
    bool yarn_unless;    /* without any parameters it is yarn with the numbers of gpt-oss */
    bool sections;       /* mrope_section: three kinds of positions, which are one for text */
} qc_hf_rope_rule;

/* Defaults are filled in: what a type uses is always set. */
typedef struct qc_hf_rope {
    double theta;
    int64_t dims; /* columns that are turned, the first ones of a head */
    qc_hf_rope_type type;
    double factor;                            /* linear, dynamic, llama3, yarn */
    double low_freq_factor, high_freq_factor; /* llama3 */
    double beta_fast, beta_slow;              /* yarn */
    double attention_factor;                  /* yarn, longrope: cos and sin are multiplied by it */
    double mscale_all;                        /* yarn: mscale_all_dim; 0: none */
    bool truncate;                            /* yarn: the correction range is rounded to whole dimensions */
    int64_t original_positions;               /* llama3, yarn, longrope; dynamic: max_position_embeddings */
    const double *short_factors, *long_factors; /* longrope: dims / 2 divisors each */
} qc_hf_rope;

/* Fills config->attention.ropes from the root object for heads of `size` columns; needs config->positions and arch. */
qc_status qc_hf_config_rope(
    qc_diag *diag, qc_arena *arena, const qc_json *root, int64_t size, qc_hf_config *config);

/* yarn's magnitude (Peng et al., 2023): 0.1 * m * ln(factor) + 1 beyond the original length. */
double qc_hf_rope_magnitude(double factor, double m);

/* The parameters as the map that rope takes; NULL for the default type. */
const qc_attr *qc_hf_rope_attr(qc_ctx *ctx, qc_arena *arena, const qc_hf_rope *rope);

#endif
