/* SPDX-License-Identifier: MIT
 *
 * stats.h - calibration statistics: one record a (tap, kind), saved as a safetensors file of its own, so that one
 * calibration serves many schemes and targets.
 *
 * Kind `minmax`: per sequence, in file order, the minimum and maximum per tensor and per head of what the tap saw:
 * tensors `<tap>.min`, `<tap>.max` F32 [sequences, heads] (heads is 1 for taps without heads); the per-tensor value
 * is the fold over heads. Ranges that were searched or cut are kept alike, under a tap that names the search.
 *
 * Kind `channels`: over all sequences the minimum and maximum of each column of each head, `<tap>.channel_min` and
 * `<tap>.channel_max` F32 [heads * columns]. It stands beside the record `minmax` of a tap with heads.
 *
 * Kinds `squares` and `means`: over all sequences, in file order, the sum of each column or of its square:
 * `<tap>.squares` or `<tap>.sums` F64 [columns] and `<tap>.tokens` I64 [1]. What is added is the sum of one sequence,
 * rounded to f32; of `means` also to a multiple of 2^-24 (ir/dtype/columns.h).
 *
 * Kind `tokens`, of the experts of a layer: `<experts>.routed_tokens` I64 [E], how many tokens chose each, and
 * `<experts>.seen_tokens` I64 [E], how many were sent through each: the same, or all of them. What is observed in
 * expert e has taps `<experts>.e.*`; there are none of an expert that saw no token, and rows of `minmax` are of those
 * sequences alone that had tokens for it.
 */
#ifndef QC_RUNTIME_STATS_H
#define QC_RUNTIME_STATS_H

#include <math.h>

#include "ir/support/diag.h"
#include "ir/support/map.h"

typedef enum qc_stats_kind {
    QC_STATS_MINMAX,
    QC_STATS_SQUARES,
    QC_STATS_MEANS,
    QC_STATS_CHANNELS,
    QC_STATS_TOKENS,
} qc_stats_kind;
enum { QC_STATS_KINDS = QC_STATS_TOKENS + 1 };

typedef struct qc_stats_record {
    const char *tap;
    qc_stats_kind kind;
    size_t sequences, heads; /* minmax */
    float *min, *max;        /* minmax: [sequences, heads]; channels: [columns] */
    size_t columns;          /* of all heads; experts of tokens; not of minmax */
    int64_t tokens;          /* squares, means */
    double *sums;            /* the same: [columns] */
    int64_t *routed, *seen;  /* tokens: [columns] */
} qc_stats_record;

typedef struct qc_stats {
    qc_arena *arena;
    qc_map records; /* tap and kind -> qc_stats_record *, in the order in which they came */
} qc_stats;

/* Of two zeros -0 is the smaller one: then the order of a fold does not matter. */
static inline float qc_stats_smaller(float a, float b)
{
    return a < b || (a == b && signbit(a)) ? a : b;
}

static inline float qc_stats_larger(float a, float b)
{
    return a > b || (a == b && !signbit(a)) ? a : b;
}

void qc_stats_init(qc_stats *stats, qc_arena *arena);
/* "ranges of sequences", "sums of squares" ... */
const char *qc_stats_kind_text(qc_stats_kind kind);
/* NULL where there is none. */
qc_stats_record *qc_stats_find(const qc_stats *stats, const char *tap, qc_stats_kind kind);
/* A record of that shape, ranges filled with +inf / -inf, sums and counts with 0; an existing one of the same shape is given
 * back. `sequences` and `heads` of minmax, 0 and the number of columns (experts) of the others. */
qc_stats_record *qc_stats_add(
    qc_stats *stats, const char *tap, qc_stats_kind kind, size_t sequences, size_t width);
qc_status qc_stats_load(qc_diag *diag, qc_stats *stats, const char *path);
qc_status qc_stats_save(qc_diag *diag, const qc_stats *stats, const char *path);
/* The record of kind `tokens` of the layer that a tap of an expert belongs to, and the expert's number; NULL where there is
 * none. */
const qc_stats_record *qc_stats_find_experts(const qc_stats *stats, const char *tap, size_t *expert);
/* Appends b's sequences to a's: files of disjoint data merge to the bytes of the whole (sums of squares, and of more than
 * 2^29, as far as sums of doubles do not depend on their order). The taps and kinds must agree. */
qc_status qc_stats_merge(qc_diag *diag, qc_stats *a, const qc_stats *b, const char *b_name);

#endif
