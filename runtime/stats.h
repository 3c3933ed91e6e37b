/* SPDX-License-Identifier: MIT
 *
 * stats.h - calibration statistics: one record a (tap, kind), saved as a safetensors file of its own, so that one
 * calibration serves many schemes and targets.
 *
 * Kind `minmax`: per sequence, in file order, the minimum and maximum per tensor and per head of what the tap saw:
 * tensors `<tap>.min`, `<tap>.max` F32 [sequences, heads] (heads is 1 for taps without heads); the per-tensor value
 * is the fold over heads. Ranges that were searched are kept alike, under a tap that names the search.
 *
 * Kind `squares`: over all sequences, in file order, the sum of the squares of each column: `<tap>.squares` F64
 * [columns] and `<tap>.tokens` I64 [1]. What is added is the sum of one sequence, rounded to f32.
 */
#ifndef QC_RUNTIME_STATS_H
#define QC_RUNTIME_STATS_H

#include "ir/support/diag.h"
#include "ir/support/map.h"

typedef enum qc_stats_kind { QC_STATS_MINMAX, QC_STATS_SQUARES } qc_stats_kind;

typedef struct qc_stats_record {
    const char *tap;
    qc_stats_kind kind;
    size_t sequences, heads; /* minmax */
    float *min, *max;        /* [sequences, heads] */
    size_t columns;          /* squares */
    int64_t tokens;
    double *squares; /* [columns] */
} qc_stats_record;

typedef struct qc_stats {
    qc_arena *arena;
    qc_map records; /* tap -> qc_stats_record * */
} qc_stats;

void qc_stats_init(qc_stats *stats, qc_arena *arena);
qc_stats_record *qc_stats_find(const qc_stats *stats, const char *tap);
/* A record of that shape, filled with +inf / -inf; an existing one of the same shape is given back. */
qc_stats_record *qc_stats_add(qc_stats *stats, const char *tap, size_t sequences, size_t heads);
/* A record of sums of squares, all 0; an existing one of that many columns is given back. */
qc_stats_record *qc_stats_add_squares(qc_stats *stats, const char *tap, size_t columns);
qc_status qc_stats_load(qc_diag *diag, qc_stats *stats, const char *path);
qc_status qc_stats_save(qc_diag *diag, const qc_stats *stats, const char *path);
/* Appends b's sequences to a's: files of disjoint data merge to the bytes of the whole (sums of squares as far as sums of
 * doubles do not depend on their order). The taps must agree. */
qc_status qc_stats_merge(qc_diag *diag, qc_stats *a, const qc_stats *b, const char *b_name);

#endif
