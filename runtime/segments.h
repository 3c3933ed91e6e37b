/* SPDX-License-Identifier: MIT
 *
 * segments.h - a function cut where little has to be kept, so that calibration holds the weights of one piece
 * at a time.
 *
 * Only ops that observed values depend on are in a segment; the last one ends with the last observed value.
 * What ids and positions alone determine in a cheap way is computed again in each segment instead of kept. The experts of a
 * layer are a segment of their own kind (expert_region.h), which also counts tokens where nothing of it is observed.
 */
#ifndef QC_RUNTIME_SEGMENTS_H
#define QC_RUNTIME_SEGMENTS_H

#include "runtime/expert_region.h"
#include "runtime/value_kinds.h"

typedef struct qc_segment {
    const qc_expert_region *region; /* NULL: an ordinary segment */
    const qc_value **inputs;        /* what earlier segments left, in order of computation */
    size_t input_count;
    const qc_value **outputs; /* the inputs of the next segment */
    size_t output_count;
    const qc_op **observes;
    size_t observe_count;
    size_t weight_bytes; /* of the IR's weights that it reads, tables of embeddings aside; of one expert */
} qc_segment;

typedef struct qc_segments {
    qc_segment *items;
    size_t count;
} qc_segments;

/* All `observe` ops of `func`, and all `expert_rows`. Everything is allocated from `arena`. Fails, with a diagnostic, on
 * experts that cannot be run one by one. */
qc_status qc_segments_find(
    qc_arena *arena, const qc_func *func, const qc_value_kinds *kinds, qc_segments *segments);
/* Bytes of a token of a value that one segment leaves to another. */
size_t qc_segment_row_bytes(const qc_value *value);

#endif
