/* SPDX-License-Identifier: MIT
 *
 * build.c - the builder: collects one op's operands and attributes, infers its result types, inserts it.
 * Errors stick, so that a pass asks once.
 */
#include "ir/ir.h"

static qc_builder *builder_new(qc_func *func, qc_op *before, qc_node *node)
{
    qc_builder *b = QC_NEW(&func->module->arena, qc_builder);
    b->func = func;
    b->before = before;
    b->node = node;
    return b;
}

qc_builder *qc_builder_at_end(qc_func *func)
{
    return builder_new(func, NULL, NULL);
}

qc_builder *qc_builder_before(qc_op *op)
{
    return builder_new(op->func, op, op->node);
}

qc_builder *qc_builder_after(qc_op *op)
{
    return builder_new(op->func, op->next, op->node);
}

void qc_builder_set_node(qc_builder *b, qc_node *node)
{
    b->node = node;
}

bool qc_builder_ok(const qc_builder *b)
{
    return !b->failed;
}

void qc_builder_fail(qc_builder *b)
{
    b->failed = true;
}

qc_op *qc_builder_last(const qc_builder *b)
{
    return b->last;
}

static const char *where_of(const qc_builder *b)
{
    return b->node && *b->node->path ? b->node->path : b->func->name;
}

static void fail(qc_builder *b, const char *what, const char *name)
{
    if (!b->failed)
        qc_error(&b->func->module->ctx->diag, where_of(b), "building %s: %s '%s'",
            b->info ? b->info->name : "an op", what, name);
    b->failed = true;
}

void qc_make(qc_builder *b, const char *op_name)
{
    b->info = qc_map_get(&b->func->module->ctx->ops, op_name);
    b->variadic.count = b->types.count = b->operands.count = 0;
    memset(b->attrs, 0, sizeof b->attrs);
    if (!b->info) {
        fail(b, "there is no op named", op_name);
        return;
    }
    for (int i = 0; i < b->info->operand_count; i++)
        QC_PUSH(&b->func->module->arena, &b->operands, NULL);
}

void qc_make_operand(qc_builder *b, const char *name, qc_value *value)
{
    if (!b->info || !value)
        return;
    int slot = qc_op_operand_slot(b->info, name);
    if (slot < 0)
        fail(b, "no operand is named", name);
    else if (b->info->operands[slot].variadic)
        qc_make_variadic(b, value);
    else
        b->operands.items[slot] = value;
}

static bool is_variadic(const qc_op_info *info)
{
    return info->operand_count && info->operands[info->operand_count - 1].variadic;
}

void qc_make_variadic(qc_builder *b, qc_value *value)
{
    if (!b->info)
        return;
    if (!is_variadic(b->info))
        fail(b, "it has no variadic operand; one too many is", value && value->hint ? value->hint : "");
    else if (!value)
        fail(b, "missing operand", b->info->operands[b->info->operand_count - 1].name);
    else
        QC_PUSH(&b->func->module->arena, &b->variadic, value);
}

void qc_make_attr(qc_builder *b, const char *name, const qc_attr *value)
{
    if (!b->info || !value)
        return;
    int slot = qc_op_attr_slot(b->info, name);
    if (slot < 0) {
        fail(b, "no attribute is named", name);
        return;
    }
    if (!qc_attr_fits(b->info, slot, value)) {
        if (!b->failed)
            qc_attr_check(&b->func->module->ctx->diag, where_of(b), b->info, slot, value);
        b->failed = true;
        return;
    }
    const qc_attr *standard = qc_op_default_attr(b->func->module->ctx, b->info, (size_t)slot);
    b->attrs[slot] = standard && qc_attr_equal(standard, value) ? NULL : value;
}

void qc_make_attr_int(qc_builder *b, const char *name, int64_t value)
{
    qc_make_attr(b, name, qc_attr_int(b->func->module->ctx, value));
}

void qc_make_attr_float(qc_builder *b, const char *name, double value)
{
    qc_make_attr(b, name, qc_attr_float(b->func->module->ctx, value));
}

void qc_make_attr_bool(qc_builder *b, const char *name, bool value)
{
    qc_make_attr(b, name, qc_attr_bool(b->func->module->ctx, value));
}

void qc_make_attr_word(qc_builder *b, const char *name, const char *value)
{
    if (value)
        qc_make_attr(b, name, qc_attr_word(b->func->module->ctx, value));
}

void qc_make_attr_string(qc_builder *b, const char *name, const char *value)
{
    if (value)
        qc_make_attr(b, name, qc_attr_string(b->func->module->ctx, value));
}

void qc_make_attr_symbol(qc_builder *b, const char *name, const char *symbol)
{
    if (symbol)
        qc_make_attr(b, name, qc_attr_symbol(b->func->module->ctx, symbol));
}

void qc_make_type(qc_builder *b, const qc_type *type)
{
    if (!type)
        b->failed = true; /* making the type reported why */
    else if (b->info &&
             (!(b->info->traits & QC_TRAIT_TYPED) || b->types.count == (size_t)b->info->result_count))
        fail(b, "its result type is inferred, not", type->text);
    else
        QC_PUSH(&b->func->module->arena, &b->types, type);
}

/* A value of no type that is not in the function: passes may hand it on after a failure. */
static qc_value *poison(qc_builder *b)
{
    qc_value *value = QC_NEW(&b->func->module->arena, qc_value);
    value->func = b->func;
    return value;
}

static bool parts_complete(qc_builder *b)
{
    for (int i = 0; i < b->info->operand_count; i++) {
        const qc_operand_info *o = &b->info->operands[i];
        const qc_value *value = b->operands.items[i];
        if (value && !value->type)
            b->failed = true; /* poison: reported when it was made */
        else if (!value && !o->variadic && !o->optional)
            fail(b, "missing operand", o->name);
    }
    for (size_t i = 0; i < b->variadic.count; i++)
        b->failed = b->failed || !b->variadic.items[i]->type;
    for (int i = 0; i < b->info->attr_count; i++)
        if (b->info->attrs[i].required && !b->attrs[i])
            fail(b, "missing attribute", b->info->attrs[i].name);
    if (b->before && !b->before->linked)
        fail(b, "the op at the cursor was erased:", b->before->info->name);
    return !b->failed;
}

qc_value *qc_make_end(qc_builder *b, const char *hint)
{
    if (!b->info)
        fail(b, "nothing to end after", b->last ? b->last->info->name : "the beginning");
    if (b->failed || !parts_complete(b))
        return poison(b);
    const qc_op_info *info = b->info;
    bool variadic = is_variadic(info);
    b->info = NULL; /* every op is begun by qc_make */
    size_t fixed = (size_t)info->operand_count - variadic;
    qc_op *op = qc_op_create(b->func, info, fixed + (variadic ? b->variadic.count : 0));
    op->node = b->node;
    for (size_t i = 0; i < op->operand_count; i++)
        qc_op_set_operand(op, i, i < fixed ? b->operands.items[i] : b->variadic.items[i - fixed]);
    memcpy(op->attrs, b->attrs, (size_t)info->attr_count * sizeof *op->attrs);
    const qc_type *types[QC_MAX_RESULTS] = {0};
    for (size_t i = 0; i < b->types.count; i++)
        types[i] = b->types.items[i];
    if (qc_op_infer(op, where_of(b), types) != QC_OK) {
        b->failed = true;
        qc_op_erase(op);
        return poison(b);
    }
    for (uint32_t i = 0; i < op->result_count; i++)
        op->results[i].type = types[i];
    if (op->result_count)
        qc_value_set_hint(&op->results[0], hint);
    qc_op_insert(op, b->before);
    b->last = op;
    return op->result_count ? &op->results[0] : NULL;
}
