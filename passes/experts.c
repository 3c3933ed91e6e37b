/* SPDX-License-Identifier: MIT
 *
 * experts.c - see experts.h.
 */
#include "passes/experts.h"

#include <stdio.h>
#include <string.h>

#include "ir/experts.h"
#include "ir/support/map.h"
#include "passes/quant.h"

/* ---- modules ------------------------------------------------------------------------------------------- */

bool qc_is_linear(const qc_op *op)
{
    return qc_op_is(op, "linear") || qc_op_is(op, "expert_linear");
}

int64_t qc_linear_experts(const qc_op *op)
{
    return qc_op_is(op, "expert_linear") ? qc_bank_experts(qc_op_operand_named(op, "w")) : 0;
}

bool qc_linear_is_fused(const qc_op *op)
{
    return qc_op_is(op, "expert_linear") && !(qc_op_attr(op, "module") && qc_op_node(op));
}

size_t qc_linear_node_count(const qc_op *op)
{
    if (qc_op_is(op, "expert_linear"))
        return qc_linear_is_fused(op) ? 0 : (size_t)qc_linear_experts(op);
    return qc_op_node(op) ? 1 : 0;
}

/* Asked for each of tens of thousands of experts: a path of usual length needs no memory. */
qc_node *qc_linear_node(const qc_op *op, size_t index)
{
    enum { USUAL = 256 };
    qc_node *at = qc_op_node(op), *node = NULL;
    if (!qc_op_is(op, "expert_linear"))
        return at;
    if (qc_linear_is_fused(op))
        return NULL;
    qc_module *module = qc_func_module(qc_op_func(op));
    const char *name = qc_attr_as_text(qc_op_attr(op, "module")), *number = strstr(name, "{e}"),
               *path = qc_node_path(at);
    char usual[USUAL];
    int length = number ? snprintf(usual, sizeof usual, "%s%s%.*s%zu%s", path, path[0] ? "." : "",
                              (int)(number - name), name, index, number + 3)
                        : -1;
    if (length >= 0 && length < USUAL)
        return qc_module_find_node(module, usual);
    qc_arena arena;
    qc_arena_init(&arena, NULL);
    const char *unusual = qc_expert_path(&arena, op, (int64_t)index);
    node = unusual ? qc_module_find_node(module, unusual) : NULL;
    qc_arena_fini(&arena);
    return node;
}

const char *qc_linear_path(qc_arena *arena, const qc_op *op)
{
    const qc_node *node = qc_op_node(op);
    const char *path = node ? qc_node_path(node) : "";
    if (!qc_op_is(op, "expert_linear") || qc_linear_is_fused(op))
        return path;
    return qc_arena_printf(
        arena, "%s%s%s", path, path[0] ? "." : "", qc_attr_as_text(qc_op_attr(op, "module")));
}

bool qc_linear_matches(const qc_op *op, const char *pattern)
{
    for (size_t i = 0, count = qc_linear_node_count(op); i < count; i++) {
        const qc_node *node = qc_linear_node(op, i);
        if (node && qc_node_matches(node, pattern))
            return true;
    }
    return false;
}

/* ---- selection ----------------------------------------------------------------------------------------- */

static qc_selected share(size_t found, size_t count)
{
    return found == 0 ? QC_SELECTED_NONE : found < count ? QC_SELECTED_SOME : QC_SELECTED_ALL;
}

qc_selected qc_linear_selected(const qc_pass_ctx *pc, const char *option, const qc_op *op, bool if_empty)
{
    size_t count = qc_linear_node_count(op), found = 0;
    for (size_t i = 0; i < count; i++) {
        const qc_node *node = qc_linear_node(op, i);
        found += node && qc_pass_option_matches(pc, option, node, if_empty);
    }
    return share(found, count);
}

bool qc_linear_is_target(qc_pass_ctx *pc, const qc_op *op, bool *wrong)
{
    size_t count = qc_linear_node_count(op), found = 0;
    for (size_t i = 0; i < count; i++) {
        const qc_node *node = qc_linear_node(op, i);
        found += node && qc_pass_option_matches(pc, "targets", node, false) &&
                 !qc_pass_option_matches(pc, "ignore", node, false);
    }
    if (found == 0 || found == count)
        return found > 0;
    *wrong = true;
    qc_pass_fail(pc, op,
        "targets and ignore select %zu of the %zu experts: the experts of a layer are treated alike, all or "
        "none",
        found, count);
    return false;
}

/* ---- readers ------------------------------------------------------------------------------------------ */

bool qc_value_leads_to(const qc_value *value, qc_step (*step)(const qc_op *reader, size_t slot))
{
    qc_arena arena;
    qc_map seen;
    QC_VEC(const qc_value *) open = {0};
    bool found = false;
    qc_arena_init(&arena, NULL);
    qc_map_init(&seen, &arena);
    QC_PUSH(&arena, &open, value);
    while (open.count && !found) {
        size_t slot;
        value = open.items[--open.count];
        if (!qc_map_set_n(&seen, (const char *)&value, sizeof value, NULL))
            continue;
        for (size_t i = 0; i < qc_value_use_count(value) && !found; i++) {
            const qc_op *reader = qc_value_use(value, i, &slot);
            qc_step next = step(reader, slot);
            found = next == QC_STEP_FOUND;
            if (next == QC_STEP_ON && qc_op_result_count(reader))
                QC_PUSH(&arena, &open, qc_op_result(reader, 0));
        }
    }
    qc_arena_fini(&arena);
    return found;
}

/* ---- routers ------------------------------------------------------------------------------------------- */

/* What stands between a router's products and topk, beside elementwise ops. */
#define BETWEEN "softmax|mask_groups|reduce_sum|reduce_max|reduce_mean|reshape|slice|concat"

static qc_step step_of_router(const qc_op *reader, size_t slot)
{
    (void)slot;
    if (qc_op_is(reader, "topk"))
        return QC_STEP_FOUND;
    return qc_op_is_elementwise(reader) || qc_quant_one_of(qc_op_name(reader), BETWEEN) ? QC_STEP_ON
                                                                                        : QC_STEP_STOP;
}

/* Some topk depends on the result, with no product of weights between: what feeds the next layer comes to its router's linear
 * and no further. */
bool qc_linear_is_router(const qc_op *op)
{
    return qc_op_is(op, "linear") && qc_value_leads_to(qc_op_result(op, 0), step_of_router);
}

/* ---- rows ---------------------------------------------------------------------------------------------- */

/* The op again, over the same operands: its types are inferred anew. NULL after a diagnostic. */
static qc_op *make_again(qc_op *op)
{
    qc_builder *b = qc_builder_before(op);
    qc_make(b, qc_op_name(op));
    for (size_t i = 0; i < qc_op_operand_count(op); i++) {
        if (strcmp(qc_op_operand_name(op, i), "xs") == 0)
            qc_make_variadic(b, qc_op_operand(op, i));
        else
            qc_make_operand(b, qc_op_operand_name(op, i), qc_op_operand(op, i));
    }
    for (size_t i = 0; i < qc_op_attr_count(op); i++)
        if (qc_op_attr_given(op, qc_op_attr_name(op, i)))
            qc_make_attr(b, qc_op_attr_name(op, i), qc_op_attr(op, qc_op_attr_name(op, i)));
    for (size_t i = 0; qc_op_is_typed(op) && i < qc_op_result_count(op); i++)
        qc_make_type(b, qc_value_type(qc_op_result(op, i)));
    qc_make_end(b, qc_op_result_count(op) ? qc_value_hint(qc_op_result(op, 0)) : NULL);
    return qc_builder_ok(b) ? qc_value_op(qc_op_result(qc_builder_last(b), 0)) : NULL;
}

/* Puts `made` in the place of `op`, which goes; values of another type are noted. */
static void put_in_place(qc_op *op, qc_op *made, qc_map *retyped)
{
    for (size_t i = 0; i < qc_op_result_count(op); i++) {
        const qc_value *value = qc_op_result(made, i);
        if (qc_value_type(value) != qc_value_type(qc_op_result(op, i)))
            qc_map_set_n(retyped, (const char *)&value, sizeof value, NULL);
        qc_value_replace_all_uses(qc_op_result(op, i), qc_op_result(made, i));
    }
    qc_op_erase(op);
}

static bool reads_one_of(const qc_op *op, const qc_map *values)
{
    for (size_t i = 0; i < qc_op_operand_count(op); i++) {
        const qc_value *value = qc_op_operand(op, i);
        if (value && qc_map_find_n(values, (const char *)&value, sizeof value))
            return true;
    }
    return false;
}

bool qc_experts_set_all(qc_op **rows, bool all)
{
    qc_op *op = *rows;
    qc_ctx *ctx = qc_module_ctx(qc_func_module(qc_op_func(op)));
    qc_arena arena;
    qc_map retyped;
    if (qc_attr_as_bool(qc_op_attr(op, "all")) == all)
        return true;
    qc_op_set_attr(op, "all", all ? qc_attr_bool(ctx, true) : NULL);
    qc_arena_init(&arena, NULL);
    qc_map_init(&retyped, &arena);
    qc_op *made = make_again(op);
    bool ok = made != NULL;
    if (ok) {
        put_in_place(op, made, &retyped);
        *rows = made;
    }
    for (qc_op *next = ok ? qc_op_next(made) : NULL; ok && next;) {
        op = next;
        next = qc_op_next(op);
        if (!reads_one_of(op, &retyped))
            continue;
        made = make_again(op);
        ok = made != NULL;
        if (ok)
            put_in_place(op, made, &retyped);
    }
    qc_arena_fini(&arena);
    return ok;
}

bool qc_experts_any(const qc_module *module)
{
    for (const qc_func *f = qc_module_first_func(module); f; f = qc_func_next(f))
        for (const qc_op *op = qc_func_first_op(f); op; op = qc_op_next(op))
            if (qc_op_is(op, "expert_rows"))
                return true;
    return false;
}

/* ---- values -------------------------------------------------------------------------------------------- */

qc_value *qc_plain_value(qc_value *value)
{
    for (qc_op *op = qc_value_op(value); op && (qc_op_is(op, "dequantize") || qc_op_is(op, "quantize"));
         op = qc_value_op(value))
        value = qc_op_operand_named(op, "x");
    return value;
}
