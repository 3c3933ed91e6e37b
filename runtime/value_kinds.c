/* SPDX-License-Identifier: MIT
 *
 * value_kinds.c - see value_kinds.h. A value is of the most dependent kind of its op's operands; an op that
 * keeps state, observes, or is neither cheap nor elementwise makes data of what depends on ids.
 */
#include "runtime/value_kinds.h"

#include <string.h>

static void set_kind(qc_value_kinds *kinds, const qc_value *value, qc_value_kind kind)
{
    qc_map_set_n(&kinds->kinds, (const char *)&value, sizeof value, (void *)(uintptr_t)kind);
}

qc_value_kind qc_value_kind_of(const qc_value_kinds *kinds, const qc_value *value)
{
    void *kind = qc_map_get_n(&kinds->kinds, (const char *)&value, sizeof value);
    return kind ? (qc_value_kind)(uintptr_t)kind : QC_VALUE_DATA;
}

void qc_value_kinds_init(qc_value_kinds *kinds, qc_arena *arena)
{
    qc_map_init(&kinds->kinds, arena);
}

void qc_value_kinds_add(qc_value_kinds *kinds, const qc_func *func)
{
    for (size_t i = 0; i < qc_func_argument_count(func); i++)
        set_kind(kinds, qc_func_argument(func, i), QC_VALUE_INDEPENDENT);
    for (const qc_op *op = qc_func_first_op(func); op; op = qc_op_next(op)) {
        qc_value_kind kind = QC_VALUE_WEIGHT;
        for (size_t i = 0; i < qc_op_operand_count(op); i++) {
            qc_value *operand = qc_op_operand(op, i);
            qc_value_kind of = operand ? qc_value_kind_of(kinds, operand) : QC_VALUE_WEIGHT;
            kind = of > kind ? of : kind;
        }
        bool cheap = qc_op_is_independent(op) || qc_op_is_elementwise(op);
        if (qc_op_has_effect(op) || qc_op_is(op, "observe") || (kind == QC_VALUE_INDEPENDENT && !cheap))
            kind = QC_VALUE_DATA;
        for (size_t i = 0; i < qc_op_result_count(op); i++)
            set_kind(kinds, qc_op_result(op, i), kind);
    }
}

const qc_value *qc_value_without_codes(const qc_value *value)
{
    for (;;) {
        const qc_op *outer = qc_value_op(value);
        if (!outer || !qc_op_is(outer, "dequantize"))
            return value;
        const qc_value *codes = qc_op_operand(outer, 0);
        const qc_op *inner = qc_value_op(codes);
        if (!inner || !qc_op_is(inner, "quantize"))
            return value;
        value = qc_op_operand(inner, 0);
    }
}

/* Is the value, or what it is cast from, an observed mean? */
static bool is_observed_mean(const qc_value *value)
{
    const qc_op *op = qc_value_op(value);
    if (op && qc_op_is(op, "cast"))
        op = qc_value_op(qc_op_operand(op, 0));
    return op && qc_op_is(op, "observe") && strcmp(qc_attr_as_text(qc_op_attr(op, "observer")), "mean") == 0;
}

bool qc_op_stands_for_operand(const qc_op *op)
{
    return qc_op_is(op, "quantize") || qc_op_is(op, "dequantize") ||
           (qc_op_is(op, "sub") && qc_type_rank(qc_value_type(qc_op_operand(op, 0))) == 4 &&
               is_observed_mean(qc_op_operand(op, 1)));
}

static bool ends_with(const char *name, const char *end)
{
    size_t length = strlen(name), tail = strlen(end);
    return length >= tail && strcmp(name + length - tail, end) == 0;
}

bool qc_operand_is_read(const qc_op *op, size_t slot, bool calibrating)
{
    const char *name = qc_op_operand_name(op, slot);
    if (!calibrating || !name)
        return true;
    if (qc_op_is(op, "observe"))
        return slot == 0;
    if (qc_op_is(op, "sub"))
        return slot == 0 || !qc_op_stands_for_operand(op);
    bool coded = qc_op_is(op, "quantize") || qc_op_is(op, "dequantize") || qc_op_is(op, "attention");
    return !coded ||
           !(ends_with(name, "scale") || ends_with(name, "global") || strcmp(name, "zero_point") == 0);
}

static bool set_has(const qc_map *set, const void *item)
{
    return qc_map_find_n(set, (const char *)&item, sizeof item) != NULL;
}

static void set_add(qc_map *set, const void *item)
{
    qc_map_set_n(set, (const char *)&item, sizeof item, NULL);
}

const qc_op **qc_needed_ops(qc_arena *arena, const qc_need *need, size_t *count)
{
    qc_map ops, values, given;
    size_t total = 0;
    qc_map_init(&ops, arena);
    qc_map_init(&values, arena);
    qc_map_init(&given, arena);
    for (size_t i = 0; i < need->given_count; i++)
        set_add(&given, need->given[i]);
    for (size_t i = 0; i < need->output_count; i++)
        set_add(&values, need->outputs[i]);
    for (size_t i = 0; i < need->op_count; i++)
        set_add(&ops, need->ops[i]);
    for (const qc_op *op = qc_func_first_op(need->func); op; op = qc_op_next(op))
        total++;
    const qc_op **order = QC_NEW_ARRAY(arena, const qc_op *, total + 1);
    size_t at = total;
    /* Users stand behind what they use: one walk backwards meets every user first. */
    for (const qc_op *op = qc_func_last_op(need->func); op; op = qc_op_prev(op)) {
        bool needed = set_has(&ops, op);
        for (size_t i = 0; i < qc_op_result_count(op); i++) {
            const qc_value *result = qc_op_result(op, i);
            needed |= set_has(&values, result) && !set_has(&given, result) &&
                      qc_value_kind_of(need->kinds, result) != QC_VALUE_WEIGHT;
        }
        if (!needed)
            continue;
        order[--at] = op;
        for (size_t i = 0; i < qc_op_operand_count(op); i++)
            if (qc_op_operand(op, i) && qc_operand_is_read(op, i, need->calibrating))
                set_add(&values, qc_op_operand(op, i));
    }
    *count = total - at;
    return order + at;
}
