/* SPDX-License-Identifier: MIT
 *
 * source.c - see source.h.
 */
#include "runtime/compare/source.h"

#include <string.h>

bool qc_op_is_attention(const qc_op *op)
{
    return qc_op_is(op, "attention") || qc_op_is(op, "quantized_attention");
}

/* A mean of keys: an observed one, its constant, or a cast of them. */
static bool is_mean(const qc_value *value)
{
    const qc_op *op = value ? qc_value_op(value) : NULL;
    while (op && qc_op_is(op, "cast"))
        op = qc_value_op(qc_op_operand(op, 0));
    return op && (qc_op_is(op, "observe") || qc_op_is(op, "const"));
}

qc_source qc_source_find(qc_value *operand)
{
    qc_source s = {.value = operand};
    for (const qc_op *op; (op = qc_value_op(s.value)) != NULL; s.value = qc_op_operand(op, 0)) {
        if (qc_op_is(op, "cache_append") || qc_op_is(op, "cache_write")) {
            s.cache = op;
            s.coded |= qc_op_attr_given(op, "scheme");
        } else if (qc_op_is(op, "quantize") || qc_op_is(op, "dequantize")) {
            s.coded = true;
        } else if (qc_op_is(op, "hadamard") && s.rotation_count < QC_SOURCE_MAX_ROTATIONS) {
            s.rotations[s.rotation_count++] = op;
        } else if (!(qc_op_is(op, "sub") && is_mean(qc_op_operand(op, 1)))) {
            break;
        }
    }
    return s;
}

static bool same_rotation(const qc_op *a, const qc_op *b)
{
    for (size_t i = 0; i < qc_op_attr_count(a); i++)
        if (!qc_attr_equal(qc_op_attr(a, qc_op_attr_name(a, i)), qc_op_attr(b, qc_op_attr_name(b, i))))
            return false;
    return true;
}

bool qc_source_same_rotations(const qc_source *q, const qc_source *k)
{
    if (q->rotation_count != k->rotation_count)
        return false;
    for (size_t i = 0; i < q->rotation_count; i++)
        if (!same_rotation(q->rotations[i], k->rotations[i]))
            return false;
    return true;
}
