/* SPDX-License-Identifier: MIT
 *
 * eval_quant.h - what the reference semantics of observing and scaling (eval_quant.c) and of coding (eval_codes.c)
 * share.
 */
#ifndef QC_IR_EVAL_QUANT_H
#define QC_IR_EVAL_QUANT_H

#include "ir/eval.h"
#include "ir/scheme.h"

/* Quantization works on bf16, f16 and f32: an error for other types. */
qc_status qc_eval_need_model_type(qc_eval *eval, const qc_op *op, qc_dtype dtype);
/* The part of the scheme that the op names. */
qc_status qc_eval_read_part(qc_eval *eval, const qc_op *op, qc_scheme_part *part);

/* Where element `offset` lies; of types of less than 8 bits only where it begins a byte. */
static inline void *qc_eval_at(const qc_tensor *x, int64_t offset)
{
    return (char *)x->data + qc_tensor_bytes(x->dtype, offset);
}

/* Groups of `size` that hold `count` elements. */
static inline int64_t qc_eval_pieces(int64_t count, int64_t size)
{
    return count / size + (count % size != 0);
}

#endif
