/* SPDX-License-Identifier: MIT
 *
 * stats.h - calibration statistics: one record a (tap, kind), saved as a safetensors file of its own, so that one
 * calibration serves many schemes and targets.
 *
 * Kind `minmax`: per sequence, in file order, the minimum and maximum per tensor and per head of what the tap saw:
 * tensors `<tap>.min`, `<tap>.max` F32 [sequences, heads] (heads is 1 for taps without heads); the per-tensor value
 * is the fold over heads.
 */
#ifndef QC_RUNTIME_STATS_H
#define QC_RUNTIME_STATS_H

#include "ir/support/diag.h"
#include "ir/support/map.h"

typedef struct qc_stats_record {
    const char *tap;
    size_t sequences, heads;
    float *min, *max; /* [sequences, heads] */
} qc_stats_record;

typedef struct qc_stats {
    qc_arena *arena;
    qc_map records; /* tap -> qc_stats_record * */
} qc_stats;

void qc_stats_init(qc_stats *stats, qc_arena *arena);
qc_stats_record *qc_stats_find(const qc_stats *stats, const char *tap);
/* A record of that shape, filled with +inf / -inf; an existing one of the same shape is given back. */
qc_stats_record *qc_stats_add(qc_stats *stats, const char *tap, size_t sequences, size_t heads);
qc_status qc_stats_load(qc_diag *diag, qc_stats *stats, const char *path);
qc_status qc_stats_save(qc_diag *diag, const qc_stats *stats, const char *path);
/* Appends b's sequences to a's: files of disjoint data merge to the bytes of the whole. The taps must agree. */
qc_status qc_stats_merge(qc_diag *diag, qc_stats *a, const qc_stats *b, const char *b_name);

#endif
