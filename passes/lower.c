/* SPDX-License-Identifier: MIT
 *
 * lower.c - see lower.h.
 */
#include "passes/lower.h"

#include "passes/quant.h"

const qc_op *qc_lowered_op(const qc_module *module)
{
    for (const qc_func *f = qc_module_first_func(module); f; f = qc_func_next(f))
        for (const qc_op *op = qc_func_first_op(f); op; op = qc_op_next(op))
            if (qc_op_is(op, "cache_write") || qc_op_is(op, "cache_read") ||
                qc_op_is(op, "quantized_attention"))
                return op;
    return NULL;
}

qc_op *qc_lower_maker(const qc_value *value, const char *name, const char *other)
{
    qc_op *op = value ? qc_value_op(value) : NULL;
    return op && (qc_op_is(op, name) || qc_op_is(op, other)) ? op : NULL;
}

bool qc_lower_is_cache(const qc_op *op)
{
    return qc_op_is(op, "cache_append") || qc_op_is(op, "cache_write");
}

bool qc_lower_is_attention(const qc_op *op)
{
    return qc_op_is(op, "attention") || qc_op_is(op, "quantized_attention");
}

void qc_lower_erase_unused(qc_op *op)
{
    const qc_value *value = qc_op_result(op, 0);
    if (qc_value_use_count(value) == 0 && !qc_quant_is_returned(value))
        qc_op_erase(op);
}

void qc_lower_copy(qc_builder *b, const qc_op *op)
{
    for (size_t i = 0; i < qc_op_operand_count(op); i++)
        qc_make_operand(b, qc_op_operand_name(op, i), qc_op_operand(op, i));
    for (size_t i = 0; i < qc_op_attr_count(op); i++)
        if (qc_op_attr_given(op, qc_op_attr_name(op, i)))
            qc_make_attr(b, qc_op_attr_name(op, i), qc_op_attr(op, qc_op_attr_name(op, i)));
}
