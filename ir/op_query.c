/* SPDX-License-Identifier: MIT
 *
 * op_query.c - what passes may ask about an op beyond its own operands and attributes: names of its slots, and
 * the traits that the op table gives to it. Generic passes (cse, set-dtype) walk ops through these.
 */
#include <string.h>

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

size_t qc_op_attr_count(const qc_op *op)
{
    return (size_t)op->info->attr_count;
}

const char *qc_op_attr_name(const qc_op *op, size_t index)
{
    return index < (size_t)op->info->attr_count ? op->info->attrs[index].name : NULL;
}

bool qc_op_attr_given(const qc_op *op, const char *name)
{
    int slot = qc_op_attr_slot(op->info, name);
    return slot >= 0 && op->attrs[slot] != NULL;
}

bool qc_op_has_trait(const qc_op *op, const char *trait)
{
    static const struct {
        const char *name;
        uint32_t bit;
    } traits[] = {
        {"effect", QC_TRAIT_EFFECT},
        {"identity", QC_TRAIT_IDENTITY},
        {"elementwise", QC_TRAIT_ELEMENTWISE},
        {"same_type", QC_TRAIT_SAME_TYPE},
        {"typed", QC_TRAIT_TYPED},
        {"independent", QC_TRAIT_INDEPENDENT},
    };
    for (size_t i = 0; i < sizeof traits / sizeof traits[0]; i++)
        if (strcmp(trait, traits[i].name) == 0)
            return (op->info->traits & traits[i].bit) != 0;
    return false;
}
