/* SPDX-License-Identifier: MIT
 *
 * op_query.c - operands and attributes by the names of the op table. Generic passes (cse, set-dtype) compare
 * and rebuild ops through these, and rewrites need no slot numbers.
 */
#include "ir/ir.h"

const char *qc_op_operand_name(const qc_op *op, size_t slot)
{
    const qc_op_info *info = op->info;
    if (slot >= op->operand_count || info->operand_count == 0)
        return NULL;
    size_t last = (size_t)info->operand_count - 1;
    return info->operands[slot < last ? slot : last].name;
}

bool qc_op_set_operand_named(qc_op *op, const char *name, qc_value *value)
{
    int slot = qc_op_operand_slot(op->info, name);
    if (slot < 0 || (size_t)slot >= op->operand_count)
        return false;
    qc_op_set_operand(op, (size_t)slot, value);
    return true;
}

bool qc_op_attr_given(const qc_op *op, const char *name)
{
    int slot = qc_op_attr_slot(op->info, name);
    return slot >= 0 && op->attrs[slot] != NULL;
}

bool qc_op_is_typed(const qc_op *op)
{
    return (op->info->traits & QC_TRAIT_TYPED) != 0;
}
