/* SPDX-License-Identifier: MIT
 *
 * source.h - what stands between RoPE and attention: codes, the cache, rotations, the mean that keys are less of.
 */
#ifndef QC_RUNTIME_COMPARE_SOURCE_H
#define QC_RUNTIME_COMPARE_SOURCE_H

#include "qc/ir.h"

#define QC_SOURCE_MAX_ROTATIONS 4

/* An operand of attention traced back. */
typedef struct qc_source {
    qc_value *value;                                 /* before all of this */
    const qc_op *rotations[QC_SOURCE_MAX_ROTATIONS]; /* `hadamard` ops, the last one first */
    size_t rotation_count;
    const qc_op *cache; /* NULL: none */
    bool coded;         /* quantized somewhere */
} qc_source;

qc_source qc_source_find(qc_value *operand);
/* Are q and k rotated alike, so that q k^T is what it is without? */
bool qc_source_same_rotations(const qc_source *q, const qc_source *k);

/* `attention` or `quantized_attention`. */
bool qc_op_is_attention(const qc_op *op);

#endif
