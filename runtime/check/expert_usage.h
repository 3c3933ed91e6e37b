/* SPDX-License-Identifier: MIT
 *
 * expert_usage.h - how many tokens of a calibration chose each expert: what statistics say of it, as a line a layer, text,
 * JSON and part of a page of HTML.
 */
#ifndef QC_RUNTIME_CHECK_EXPERT_USAGE_H
#define QC_RUNTIME_CHECK_EXPERT_USAGE_H

#include "ir/support/json.h"
#include "ir/support/str.h"
#include "runtime/stats.h"

/* The experts of a layer. */
typedef struct qc_expert_layer {
    const char *module; /* "model.layers.0.mlp.experts" */
    size_t experts;
    const int64_t *routed, *seen; /* tokens that chose each, tokens that each saw */
    double mean;                  /* tokens that chose one, on average */
    size_t least, most, never;    /* numbers of experts, the first of equals; how many no token chose */
} qc_expert_layer;

typedef struct qc_expert_usage {
    qc_expert_layer *layers; /* in the order of the model */
    size_t count;
} qc_expert_usage;

/* The counts stay those of the statistics. */
void qc_expert_usage_take(qc_arena *arena, const qc_stats *stats, qc_expert_usage *usage);
/* "MODULE: 8 experts, chosen by 128 tokens each on average, from 0 (expert 2) to 310 (expert 5); never chosen: 2, 6" */
const char *qc_expert_usage_line(qc_arena *arena, const qc_expert_layer *layer);
void qc_expert_usage_print_text(qc_arena *arena, const qc_expert_usage *usage, qc_str *out);
/* An array, one object a layer. */
qc_json *qc_expert_usage_json(qc_arena *arena, const qc_expert_usage *usage);
/* A map of all layers and a table, for a page that has begun. */
void qc_expert_usage_print_html(qc_arena *arena, const qc_expert_usage *usage, qc_str *out);

#endif
