/* SPDX-License-Identifier: MIT
 *
 * value_kinds.h - what each value of a function depends on: nothing but weights, ids and positions in a cheap
 * way, or data.
 */
#ifndef QC_RUNTIME_VALUE_KINDS_H
#define QC_RUNTIME_VALUE_KINDS_H

#include "ir/support/map.h"
#include "qc/ir.h"

typedef enum qc_value_kind {
    QC_VALUE_WEIGHT = 1,  /* an expression over weights and constants */
    QC_VALUE_INDEPENDENT, /* arguments, ops with the trait `independent`, elementwise ops over such values */
    QC_VALUE_DATA,
} qc_value_kind;

typedef struct qc_value_kinds {
    qc_map kinds; /* address of the value -> qc_value_kind */
} qc_value_kinds;

/* One walk over the function; the map lives in `arena`. May be called for several functions. */
void qc_value_kinds_init(qc_value_kinds *kinds, qc_arena *arena);
void qc_value_kinds_add(qc_value_kinds *kinds, const qc_func *func);
qc_value_kind qc_value_kind_of(const qc_value_kinds *kinds, const qc_value *value);
/* While calibrating nothing is quantized: is the result of the op what its first operand is? Of codes and of what is decoded
 * from them; and of keys less a mean that is being observed, which leaves softmax unchanged. */
bool qc_op_stands_for_operand(const qc_op *op);
/* Does the op read this operand? While calibrating there are no scales yet, and nothing reads them. */
bool qc_operand_is_read(const qc_op *op, size_t slot, bool calibrating);

/* What to compute: outputs (values) and ops for their own sake, from the arguments and what is given. */
typedef struct qc_need {
    const qc_func *func;
    const qc_value_kinds *kinds;
    const qc_value *const *given;
    size_t given_count;
    const qc_value *const *outputs;
    size_t output_count;
    const qc_op *const *ops;
    size_t op_count;
    bool calibrating;
} qc_need;

/* The ops that have to run, in order, without those of weight expressions. */
const qc_op **qc_needed_ops(qc_arena *arena, const qc_need *need, size_t *count);
/* `w` of `dequantize (quantize w)`, any number of times: what a weight is when nothing is quantized. */
const qc_value *qc_value_without_codes(const qc_value *value);

#endif
