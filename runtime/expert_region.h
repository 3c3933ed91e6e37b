/* SPDX-License-Identifier: MIT
 *
 * expert_region.h - the experts of a layer: the ops from expert_rows to expert_combine, and what one expert computes of
 * them as a function of its own.
 *
 * Rows [R, n] of the region are data of tokens [B, S, n] in the function of one expert, S being the tokens that it sees,
 * so all that runs dense models runs an expert.
 */
#ifndef QC_RUNTIME_EXPERT_REGION_H
#define QC_RUNTIME_EXPERT_REGION_H

#include "runtime/value_kinds.h"

/* Of a layer: a range for each fits a constant of the IR. */
enum { QC_MOST_EXPERTS = 1 << 15 };

/* What crosses into the region for each token: rows of x, or the token's weight for the expert. */
typedef struct qc_expert_input {
    const qc_op *op;       /* expert_gather or expert_score */
    const qc_value *value; /* [B, S, n]; of a score [B, S, k] */
    bool is_score;
    bool
        first; /* score: tokens that were not sent to the expert have the weight of their first slot, not 0 */
} qc_expert_input;

typedef struct qc_expert_region {
    const qc_op *rows;    /* expert_rows */
    const qc_op *combine; /* expert_combine; NULL: nobody needs its result */
    const char *path;     /* of the module that holds the experts */
    int64_t experts, chosen;
    bool all;            /* every token goes through every expert */
    bool once;           /* the sum is rounded once */
    const qc_value *ids; /* [B, S, chosen] */
    const qc_op **ops;   /* all others that are needed, in order */
    size_t op_count;
    const qc_op **observes; /* those of them that observe, one range an expert */
    size_t observe_count;
    const qc_expert_input *inputs;
    size_t input_count;
    size_t weight_bytes; /* of one expert, as they are in the IR */
} qc_expert_region;

/* Finds the regions among `ops` (of qc_needed_ops, while calibrating) and moves the ops of each to where its last one
 * stands, so that they follow each other. `region_of[i]`, for each op in the new order: the number of its region + 1, or
 * 0. An op that mixes rows, or a value that leaves a region without being combined, is an error. */
qc_status qc_expert_regions_find(qc_arena *arena, const qc_value_kinds *kinds, const qc_op **ops,
    size_t op_count, size_t *region_of, qc_expert_region **regions, size_t *region_count);

/* While nothing is quantized: the value without the codes that it went through. */
const qc_value *qc_value_uncoded(const qc_value *value);

/* What one expert computes, as a function of a scratch module. */
typedef struct qc_expert_body {
    qc_arena arena;
    qc_module *module;
    const qc_func *func;      /* ids i64[B, S], then the inputs */
    const qc_value **inputs;  /* of the function, one each of the region's */
    const qc_value *output;   /* what expert_combine sums up; NULL where the region has none */
    const qc_op **observes;   /* one each of the region's */
    const qc_value **weights; /* the weight expressions that its ops read */
    size_t weight_count;
    qc_value_kinds kinds;
} qc_expert_body;

/* NULL after a diagnostic. */
qc_expert_body *qc_expert_body_create(qc_ctx *ctx, const qc_module *module, const qc_expert_region *region,
    const qc_value_kinds *kinds, int64_t expert);
void qc_expert_body_destroy(qc_expert_body *body);

#endif
