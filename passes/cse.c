/* SPDX-License-Identifier: MIT
 *
 * cse.c - ops that compute the same from the same operands become the first of them.
 *
 * Paths are part of what some ops are: a checkpoint stores tensors by module, and scales belong to one. Ops
 * with the identity trait, and linear, which schemes select by module, are therefore never merged; a weight
 * read twice by one module is one weight. Ops with effects stay. A function is one list in order, so whatever
 * comes first dominates.
 *
 * Algorithm: hashing by name, operands and result types into an open table; attributes are compared in full.
 * The hash takes addresses, which differ from run to run, but only equality decides, so the result does not.
 */
#include <string.h>

#include "qc/pass.h"

void qc_pass_cse(qc_registry *registry);

static uint64_t mix(uint64_t hash, uint64_t value)
{
    hash = (hash ^ value) * 0x9e3779b97f4a7c15u;
    return hash ^ (hash >> 29);
}

static uint64_t op_hash(const qc_op *op)
{
    uint64_t hash = 0;
    for (const char *c = qc_op_name(op); *c; c++)
        hash = mix(hash, (unsigned char)*c);
    for (size_t i = 0; i < qc_op_operand_count(op); i++)
        hash = mix(hash, (uint64_t)(uintptr_t)qc_op_operand(op, i));
    for (size_t i = 0; i < qc_op_result_count(op); i++)
        hash = mix(hash, (uint64_t)(uintptr_t)qc_value_type(qc_op_result(op, i)));
    return hash;
}

static bool is_weight(const qc_op *op)
{
    return qc_op_is(op, "weight") || qc_op_is(op, "expert_weight");
}

static bool ops_equal(const qc_op *a, const qc_op *b)
{
    if (strcmp(qc_op_name(a), qc_op_name(b)) != 0 || qc_op_operand_count(a) != qc_op_operand_count(b) ||
        qc_op_result_count(a) != qc_op_result_count(b))
        return false;
    for (size_t i = 0; i < qc_op_operand_count(a); i++)
        if (qc_op_operand(a, i) != qc_op_operand(b, i))
            return false;
    for (size_t i = 0; i < qc_op_result_count(a); i++)
        if (qc_value_type(qc_op_result(a, i)) != qc_value_type(qc_op_result(b, i)))
            return false;
    for (size_t i = 0; i < qc_op_attr_count(a); i++) {
        const qc_attr *x = qc_op_attr(a, qc_op_attr_name(a, i)), *y = qc_op_attr(b, qc_op_attr_name(a, i));
        if (x != y && (!x || !y || !qc_attr_equal(x, y)))
            return false;
    }
    return !is_weight(a) || qc_op_node(a) == qc_op_node(b);
}

static bool may_merge(const qc_op *op)
{
    if (qc_op_has_effect(op) || qc_op_result_count(op) == 0 || qc_op_is(op, "linear"))
        return false;
    return is_weight(op) || !qc_op_keeps_identity(op);
}

static size_t merge_in(qc_pass_ctx *pc, qc_func *func)
{
    size_t ops = 0, merged = 0, capacity = 16;
    for (const qc_op *op = qc_func_first_op(func); op; op = qc_op_next(op))
        ops++;
    while (capacity < 2 * ops)
        capacity *= 2;
    qc_op **table = qc_pass_alloc(pc, capacity * sizeof *table);
    for (qc_op *op = qc_func_first_op(func), *next; op; op = next) {
        next = qc_op_next(op);
        if (!may_merge(op))
            continue;
        size_t slot = op_hash(op) & (capacity - 1);
        while (table[slot] && !ops_equal(table[slot], op))
            slot = (slot + 1) & (capacity - 1);
        if (!table[slot]) {
            table[slot] = op;
            continue;
        }
        for (size_t i = 0; i < qc_op_result_count(op); i++)
            qc_value_replace_all_uses(qc_op_result(op, i), qc_op_result(table[slot], i));
        qc_op_erase(op);
        merged++;
    }
    return merged;
}

static qc_pass_result run(qc_pass_ctx *pc, qc_module *module)
{
    size_t merged = 0;
    for (qc_func *func = qc_module_first_func(module); func; func = qc_func_next(func))
        merged += merge_in(pc, func);
    if (merged == 0)
        return QC_PASS_UNCHANGED;
    qc_pass_count(pc, "ops merged", (int64_t)merged);
    return QC_PASS_CHANGED;
}

void qc_pass_cse(qc_registry *registry)
{
    qc_pass *pass =
        qc_registry_add(registry, "cse", "Merge ops that compute the same from the same operands", run);
    qc_pass_set_licence(pass, QC_LICENCE_EXACT);
    qc_pass_set_description(pass,
        "Ops whose module path is part of what they are (`linear`, `expert_linear`, `observe`, "
        "`qparams`, `quantize`, `cache_append`) "
        "are never\nmerged, and a `weight` only with one of the same module.");
}
