/* SPDX-License-Identifier: MIT
 *
 * pass_ctx.c - what a pass sees while it runs: its options, remarks, counts, analyses (qc/pass.h).
 *
 * Options go by name. A pass that asks for one it did not declare has a bug, which is reported once as an
 * error and makes the run fail, however the pass goes on.
 */
#include "passes/internal.h"

qc_ctx *qc_pass_ctx_get(const qc_pass_ctx *pc)
{
    return pc->ctx;
}

const char *qc_pass_ctx_name(const qc_pass_ctx *pc)
{
    return pc->instance->pass->name;
}

void *qc_pass_ctx_user(const qc_pass_ctx *pc)
{
    return pc->instance->pass->user;
}

const qc_attr *qc_pass_option_attr(const qc_pass_ctx *pc, const char *name)
{
    const qc_pass *pass = pc->instance->pass;
    int index = qc_pass_option_index(pass, name);
    if (index < 0) {
        qc_ctx_error(pc->ctx, pass->name, "the pass asks for an option '%s' that it does not declare", name);
        return NULL;
    }
    const qc_attr *value = pc->instance->values[index];
    return value ? value : pass->options.items[index].default_value;
}

bool qc_pass_option_bool(const qc_pass_ctx *pc, const char *name)
{
    return qc_attr_as_bool(qc_pass_option_attr(pc, name));
}

int64_t qc_pass_option_int(const qc_pass_ctx *pc, const char *name)
{
    return qc_attr_as_int(qc_pass_option_attr(pc, name));
}

double qc_pass_option_float(const qc_pass_ctx *pc, const char *name)
{
    return qc_attr_as_float(qc_pass_option_attr(pc, name));
}

const char *qc_pass_option_text(const qc_pass_ctx *pc, const char *name)
{
    return qc_attr_as_text(qc_pass_option_attr(pc, name));
}

size_t qc_pass_option_count(const qc_pass_ctx *pc, const char *name)
{
    return qc_attr_count(qc_pass_option_attr(pc, name));
}

const char *qc_pass_option_item(const qc_pass_ctx *pc, const char *name, size_t index)
{
    const qc_attr *list = qc_pass_option_attr(pc, name);
    return index < qc_attr_count(list) ? qc_attr_as_text(qc_attr_item(list, index)) : "";
}

bool qc_pass_option_given(const qc_pass_ctx *pc, const char *name)
{
    int index = qc_pass_option_index(pc->instance->pass, name);
    return index >= 0 && pc->instance->values[index] != NULL;
}

bool qc_pass_option_matches(const qc_pass_ctx *pc, const char *name, const qc_node *node, bool if_empty)
{
    size_t count = qc_pass_option_count(pc, name);
    if (!node)
        return count == 0 && if_empty;
    if (strcmp(name, "ignore") == 0)
        for (size_t i = 0; i < pc->settings->disable_count; i++)
            if (qc_node_matches(node, pc->settings->disable[i]))
                return true;
    for (size_t i = 0; i < count; i++)
        if (qc_node_matches(node, qc_pass_option_item(pc, name, i)))
            return true;
    return count == 0 && if_empty;
}

static const char *op_place(const qc_op *op)
{
    const qc_node *node = op ? qc_op_node(op) : NULL;
    return node ? qc_node_path(node) : "";
}

void qc_pass_remark(qc_pass_ctx *pc, const qc_op *op, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *what = qc_arena_vprintf(pc->arena, format, args);
    va_end(args);
    qc_ctx_remark(pc->ctx, op_place(op), "%s: %s", pc->instance->pass->name, what);
}

qc_pass_result qc_pass_fail(qc_pass_ctx *pc, const qc_op *op, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *what = qc_arena_vprintf(pc->arena, format, args);
    va_end(args);
    qc_ctx_error(pc->ctx, op_place(op), "%s: %s", pc->instance->pass->name, what);
    pc->failed = true;
    return QC_PASS_FAILED;
}

void qc_pass_count(qc_pass_ctx *pc, const char *what, int64_t amount)
{
    for (size_t i = 0; i < pc->counts.count; i++)
        if (strcmp(pc->counts.items[i].what, what) == 0) {
            pc->counts.items[i].amount += amount;
            return;
        }
    qc_pass_count_entry entry = {qc_arena_strdup(pc->arena, what), amount};
    QC_PUSH(pc->arena, &pc->counts, entry);
}

void *qc_pass_alloc(qc_pass_ctx *pc, size_t size_bytes)
{
    return qc_arena_alloc(pc->arena, size_bytes);
}

const void *qc_pass_analysis(qc_pass_ctx *pc, const char *name)
{
    const void *result = qc_analysis_cache_get(pc->analyses, name);
    if (!result)
        qc_ctx_error(pc->ctx, pc->instance->pass->name, "the pass asks for an unknown analysis '%s'", name);
    return result;
}
