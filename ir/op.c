/* SPDX-License-Identifier: MIT
 *
 * op.c - operations and values: creating, linking, uses, attributes.
 */
#include <stdlib.h>

#include "ir/ir.h"

qc_op *qc_op_create(qc_func *func, const qc_op_info *info, size_t operand_count)
{
    qc_arena *arena = &func->module->arena;
    size_t results = (size_t)info->result_count, attrs = (size_t)info->attr_count;
    /* One piece: op, results, uses and attributes all consist of pointers and 32-bit numbers. */
    char *room = qc_arena_alloc(arena, sizeof(qc_op) + results * sizeof(qc_value) +
                                           operand_count * sizeof(qc_use) + attrs * sizeof(qc_attr *));
    qc_op *op = (qc_op *)room;
    op->info = info;
    op->func = func;
    op->operand_count = (uint32_t)operand_count;
    op->result_count = (uint32_t)results;
    op->results = (qc_value *)(op + 1);
    op->operands = (qc_use *)(op->results + results);
    op->attrs = (const qc_attr **)(op->operands + operand_count);
    for (uint32_t i = 0; i < op->operand_count; i++)
        op->operands[i].op = op;
    for (uint32_t i = 0; i < op->result_count; i++) {
        op->results[i].op = op;
        op->results[i].func = func;
        op->results[i].index = i;
    }
    return op;
}

void qc_op_insert(qc_op *op, qc_op *before)
{
    qc_func *func = op->func;
    op->next = before;
    op->prev = before ? before->prev : func->last;
    *(op->prev ? &op->prev->next : &func->first) = op;
    *(before ? &before->prev : &func->last) = op;
    op->linked = true;
}

static void op_unlink(qc_op *op)
{
    *(op->prev ? &op->prev->next : &op->func->first) = op->next;
    *(op->next ? &op->next->prev : &op->func->last) = op->prev;
    op->prev = op->next = NULL;
    op->linked = false;
}

static void use_remove(qc_use *use)
{
    if (!use->value)
        return;
    *(use->prev ? &use->prev->next : &use->value->uses) = use->next;
    if (use->next)
        use->next->prev = use->prev;
    use->prev = use->next = NULL;
    use->value = NULL;
}

void qc_op_set_operand(qc_op *op, size_t slot, qc_value *value)
{
    if (slot >= op->operand_count)
        return;
    qc_use *use = &op->operands[slot];
    use_remove(use);
    use->value = value;
    if (!value)
        return;
    use->next = value->uses;
    if (use->next)
        use->next->prev = use;
    value->uses = use;
}

void qc_op_erase(qc_op *op)
{
    for (uint32_t i = 0; i < op->operand_count; i++)
        use_remove(&op->operands[i]);
    if (op->linked)
        op_unlink(op);
}

void qc_op_move_before(qc_op *op, qc_op *before)
{
    if (op == before)
        return;
    if (op->linked)
        op_unlink(op);
    qc_op_insert(op, before);
}

qc_op *qc_op_next(const qc_op *op)
{
    return op->next;
}

qc_op *qc_op_prev(const qc_op *op)
{
    return op->prev;
}

const char *qc_op_name(const qc_op *op)
{
    return op->info->name;
}

bool qc_op_is(const qc_op *op, const char *name)
{
    return op && !strcmp(op->info->name, name);
}

qc_func *qc_op_func(const qc_op *op)
{
    return op->func;
}

qc_node *qc_op_node(const qc_op *op)
{
    return op->node;
}

void qc_op_set_node(qc_op *op, qc_node *node)
{
    op->node = node;
}

size_t qc_op_operand_count(const qc_op *op)
{
    return op->operand_count;
}

qc_value *qc_op_operand(const qc_op *op, size_t slot)
{
    return slot < op->operand_count ? op->operands[slot].value : NULL;
}

int qc_op_operand_slot(const qc_op_info *info, const char *name)
{
    for (int i = 0; i < info->operand_count; i++)
        if (!strcmp(info->operands[i].name, name))
            return i;
    return -1;
}

qc_value *qc_op_operand_named(const qc_op *op, const char *name)
{
    int slot = qc_op_operand_slot(op->info, name);
    return slot < 0 ? NULL : qc_op_operand(op, (size_t)slot);
}

size_t qc_op_result_count(const qc_op *op)
{
    return op->result_count;
}

qc_value *qc_op_result(const qc_op *op, size_t index)
{
    return index < op->result_count ? &op->results[index] : NULL;
}

bool qc_op_has_effect(const qc_op *op)
{
    return op->info->traits & QC_TRAIT_EFFECT;
}

bool qc_op_keeps_identity(const qc_op *op)
{
    return op->info->traits & QC_TRAIT_IDENTITY;
}

bool qc_op_is_independent(const qc_op *op)
{
    return op->info->traits & QC_TRAIT_INDEPENDENT;
}

bool qc_op_is_elementwise(const qc_op *op)
{
    return op->info->traits & QC_TRAIT_ELEMENTWISE;
}

int qc_op_attr_slot(const qc_op_info *info, const char *name)
{
    for (int i = 0; i < info->attr_count; i++)
        if (!strcmp(info->attrs[i].name, name))
            return i;
    return -1;
}

size_t qc_op_attr_count(const qc_op *op)
{
    return (size_t)op->info->attr_count;
}

const char *qc_op_attr_name(const qc_op *op, size_t index)
{
    return index < (size_t)op->info->attr_count ? op->info->attrs[index].name : NULL;
}

const qc_attr *qc_op_default_attr(qc_ctx *ctx, const qc_op_info *info, size_t slot)
{
    return ctx->defaults[(size_t)info->op * QC_MAX_ATTRS + slot];
}

static const qc_attr *default_from_text(qc_ctx *ctx, const qc_attr_info *a)
{
    switch (a->kind) {
    case QC_ATTR_BOOL:
        return qc_attr_bool(ctx, !strcmp(a->default_text, "true"));
    case QC_ATTR_INT:
        return qc_attr_int(ctx, strtoll(a->default_text, NULL, 10));
    case QC_ATTR_FLOAT:
        return qc_attr_float(ctx, strtod(a->default_text, NULL));
    case QC_ATTR_STRING:
        return qc_attr_string(ctx, a->default_text);
    default:
        return qc_attr_word(ctx, a->default_text);
    }
}

void qc_op_make_defaults(qc_ctx *ctx)
{
    ctx->defaults = QC_NEW_ARRAY(&ctx->arena, const qc_attr *, qc_op_info_count *QC_MAX_ATTRS);
    for (size_t i = 0; i < qc_op_info_count; i++)
        for (int j = 0; j < qc_op_infos[i].attr_count; j++)
            if (qc_op_infos[i].attrs[j].default_text)
                ctx->defaults[i * QC_MAX_ATTRS + (size_t)j] =
                    default_from_text(ctx, &qc_op_infos[i].attrs[j]);
}

const qc_attr *qc_op_attr(const qc_op *op, const char *name)
{
    int slot = qc_op_attr_slot(op->info, name);
    if (slot < 0)
        return NULL;
    if (op->attrs[slot])
        return op->attrs[slot];
    return qc_op_default_attr(op->func->module->ctx, op->info, (size_t)slot);
}

bool qc_op_set_attr(qc_op *op, const char *name, const qc_attr *value)
{
    int slot = qc_op_attr_slot(op->info, name);
    if (slot < 0)
        return false;
    const qc_attr *standard =
        value ? qc_op_default_attr(op->func->module->ctx, op->info, (size_t)slot) : NULL;
    op->attrs[slot] = standard && qc_attr_equal(standard, value) ? NULL : value;
    return true;
}

/* ---- values -------------------------------------------------------------------------------------------- */

const qc_type *qc_value_type(const qc_value *value)
{
    return value->type;
}

qc_op *qc_value_op(const qc_value *value)
{
    return value->op;
}

const char *qc_value_hint(const qc_value *value)
{
    return value->hint;
}

/* Hints are [A-Za-z_][A-Za-z0-9_]*; anything else numbers the value instead. */
void qc_value_set_hint(qc_value *value, const char *hint)
{
    value->hint = NULL;
    if (!hint || !*hint || (*hint >= '0' && *hint <= '9'))
        return;
    for (const char *c = hint; *c; c++)
        if (!((*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9') || *c == '_'))
            return;
    value->hint = qc_intern(value->func->module->ctx, hint, strlen(hint));
}

size_t qc_value_use_count(const qc_value *value)
{
    size_t count = 0;
    for (const qc_use *use = value->uses; use; use = use->next)
        count++;
    return count;
}

qc_op *qc_value_use(const qc_value *value, size_t index, size_t *slot)
{
    const qc_use *use = value->uses;
    while (use && index--)
        use = use->next;
    if (use && slot)
        *slot = (size_t)(use - use->op->operands);
    return use ? use->op : NULL;
}

void qc_value_replace_all_uses(qc_value *value, qc_value *with)
{
    if (value == with)
        return;
    while (value->uses) {
        qc_use *use = value->uses;
        qc_op_set_operand(use->op, (size_t)(use - use->op->operands), with);
    }
    qc_func *func = value->func;
    for (size_t i = 0; i < func->results.count; i++)
        if (func->results.items[i] == value)
            func->results.items[i] = with;
}
