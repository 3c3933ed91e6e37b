/* SPDX-License-Identifier: MIT
 *
 * experts.c - see experts.h. Copying walks the operands with a stack of its own, so the depth of an expression does
 * not matter; each value is copied once.
 */
#include "ir/experts.h"

#include "ir/ir.h"
#include "op_table.h"

bool qc_expert_name_is_valid(const char *name)
{
    const char *first = strstr(name, "{e}");
    return first && !strstr(first + 1, "{e}");
}

const char *qc_expert_name(qc_arena *arena, const char *pattern, int64_t expert)
{
    const char *at = strstr(pattern, "{e}");
    if (!at)
        return qc_arena_strdup(arena, pattern);
    return qc_arena_printf(arena, "%.*s%lld%s", (int)(at - pattern), pattern, (long long)expert, at + 3);
}

const char *qc_expert_path(qc_arena *arena, const qc_op *op, int64_t expert)
{
    const qc_attr *module = qc_op_attr(op, "module");
    if (!module || !op->node)
        return NULL;
    const char *name = qc_expert_name(arena, qc_attr_as_text(module), expert);
    return *op->node->path ? qc_arena_printf(arena, "%s.%s", op->node->path, name) : name;
}

int64_t qc_bank_experts(const qc_value *bank)
{
    int64_t experts;
    if (!bank || !bank->type || bank->type->rank < 2 || !qc_dim_as_int(bank->type->dims[0], &experts))
        return 0;
    return experts;
}

qc_module *qc_experts_scratch(const qc_module *module)
{
    qc_module *scratch = qc_module_create(module->ctx);
    scratch->source = module->source;
    for (size_t i = 0; i < module->shards.count; i++)
        QC_PUSH(&scratch->arena, &scratch->shards, module->shards.items[i]);
    for (size_t i = 0; i < module->dims.count; i++)
        QC_PUSH(&scratch->arena, &scratch->dims, module->dims.items[i]);
    for (qc_symbol *s = module->first_symbol; s; s = s->next)
        qc_module_add_symbol(scratch, s->kind, s->name, s->fields);
    return scratch;
}

void qc_expert_copy_init(
    qc_expert_copy *copy, qc_arena *arena, qc_builder *b, int64_t experts, int64_t expert)
{
    *copy = (qc_expert_copy){.b = b, .arena = arena, .experts = experts, .expert = expert};
    qc_map_init(&copy->values, arena);
}

static qc_value *copied(qc_expert_copy *copy, const qc_value *value)
{
    return qc_map_get_n(&copy->values, (const char *)&value, sizeof value);
}

void qc_expert_copy_set(qc_expert_copy *copy, const qc_value *value, qc_value *stands_for_it)
{
    qc_map_set_n(&copy->values, (const char *)&value, sizeof value, stands_for_it);
}

static bool is_bank(const qc_expert_copy *copy, const qc_value *value)
{
    return copy->experts > 0 && qc_bank_experts(value) == copy->experts;
}

static qc_value *make_const(qc_builder *b, const qc_attr *data, const qc_type *type, const char *hint)
{
    qc_make(b, "const");
    qc_make_attr(b, "value", data);
    qc_make_type(b, type);
    return qc_make_end(b, hint);
}

static qc_status refuse(const qc_op *op, const char *what)
{
    return qc_error(&op->func->module->ctx->diag, op->node ? op->node->path : op->func->name, "%s: %s",
        op->info->name, what);
}

/* The type of one expert's part: without the first dimension, [1] where only ones are left. */
static const qc_type *part_type(qc_ctx *ctx, const qc_type *type)
{
    const qc_dim *one = qc_dim_int(ctx, 1);
    bool single = true; /* only ones are left */
    for (int i = 1; i < type->rank; i++)
        single = single && type->dims[i] == one;
    return single ? qc_type_tensor(ctx, type->dtype, 1, &one)
                  : qc_type_tensor(ctx, type->dtype, type->rank - 1, type->dims + 1);
}

/* The same for a value, but a scale of one block stays [1, 1]. */
static const qc_type *part_type_of(const qc_value *value)
{
    qc_ctx *ctx = value->func->module->ctx;
    size_t slot;
    for (size_t i = 0; i < qc_value_use_count(value); i++) {
        const qc_op *user = qc_value_use(value, i, &slot);
        if (value->type->rank == 3 && qc_op_is(user, "dequantize") && qc_op_attr_given(user, "block"))
            return qc_type_tensor(ctx, value->type->dtype, 2, value->type->dims + 1);
    }
    return part_type(ctx, value->type);
}

/* Columns or rows of a constant: `count` elements from `start`, `step` apart. */
static const qc_attr *part_of_data(const qc_op *op, size_t start, size_t count, size_t step)
{
    const qc_attr *data = qc_op_attr(op, "value");
    qc_dtype dtype = qc_attr_data_dtype(data);
    size_t bits = (size_t)qc_dtype_bits(dtype), size = bits / 8;
    if (bits % 8) {
        refuse(op, "a constant bank of less than 8 bits an element cannot be taken apart");
        return NULL;
    }
    char *bytes = qc_arena_alloc(&op->func->module->arena, count * size + 1);
    for (size_t i = 0; i < count; i++)
        memcpy(bytes + i * size, (const char *)qc_attr_data_bytes(data) + (start + i * step) * size, size);
    return qc_attr_data(op->func->module->ctx, dtype, bytes, count);
}

/* Axes of a bank count the experts; negative ones count from the end. */
static qc_status shift_axis(qc_expert_copy *copy, const qc_op *op, const char *name)
{
    int64_t axis = qc_attr_as_int(qc_op_attr(op, name));
    if (axis == 0 || axis == -op->operands[0].value->type->rank)
        return refuse(op, "a bank cannot be cut or joined along its experts");
    qc_make_attr_int(copy->b, name, axis > 0 ? axis - 1 : axis);
    return QC_OK;
}

static qc_status shift_perm(qc_expert_copy *copy, const qc_op *op)
{
    const qc_attr *perm = qc_op_attr(op, "perm"), *items[QC_MAX_RANK];
    qc_ctx *ctx = op->func->module->ctx;
    size_t count = qc_attr_count(perm);
    if (count < 1 || qc_attr_as_int(qc_attr_item(perm, 0)) != 0)
        return refuse(op, "the experts of a bank must stay its first dimension");
    for (size_t i = 1; i < count; i++)
        items[i - 1] = qc_attr_int(ctx, qc_attr_as_int(qc_attr_item(perm, i)) - 1);
    qc_make_attr(copy->b, "perm", qc_attr_list(ctx, items, count - 1));
    return QC_OK;
}

/* The attributes of the copy, where a bank's differ. */
static qc_status set_attrs(qc_expert_copy *copy, const qc_op *op, bool bank)
{
    for (int i = 0; i < op->info->attr_count; i++) {
        const char *name = op->info->attrs[i].name;
        if (bank && strcmp(name, "axis") == 0) {
            if (shift_axis(copy, op, name) != QC_OK)
                return QC_ERROR;
        } else if (bank && strcmp(name, "perm") == 0) {
            if (shift_perm(copy, op) != QC_OK)
                return QC_ERROR;
        } else if (strcmp(name, "experts") != 0 && op->attrs[i]) {
            qc_make_attr(copy->b, name, op->attrs[i]);
        }
    }
    return QC_OK;
}

/* The column of this expert of statistics [2, E]. */
static qc_value *copy_statistics(qc_expert_copy *copy, const qc_value *stat)
{
    qc_ctx *ctx = stat->func->module->ctx;
    if (!stat->op || stat->op->info->op != QC_OP_CONST) {
        if (stat->op)
            refuse(stat->op, "statistics of experts are not known yet");
        return NULL;
    }
    const qc_dim *dims[2] = {qc_dim_int(ctx, 2), qc_dim_int(ctx, 1)};
    const qc_attr *data = part_of_data(stat->op, (size_t)copy->expert, 2, (size_t)copy->experts);
    return data ? make_const(copy->b, data, qc_type_tensor(ctx, stat->type->dtype, 2, dims), stat->hint)
                : NULL;
}

/* Is this operand statistics [2, E], of which an expert has a column? */
static bool is_statistics(const qc_expert_copy *copy, const qc_op *op, uint32_t slot)
{
    const qc_value *x = op->operands[slot].value;
    const char *name = qc_op_operand_name(op, slot);
    int64_t two, columns;
    return x && qc_attr_as_int(qc_op_attr(op, "experts")) == copy->experts && copy->experts > 0 &&
           strcmp(qc_attr_as_text(qc_op_attr(op, "from")), "stat") == 0 && name &&
           (strcmp(name, "x") == 0 || strcmp(name, "xs") == 0) && x->type->rank == 2 &&
           qc_dim_as_int(x->type->dims[0], &two) && two == 2 && qc_dim_as_int(x->type->dims[1], &columns) &&
           columns == copy->experts;
}

static qc_value *copy_const(qc_expert_copy *copy, const qc_op *op)
{
    const qc_type *type = part_type_of(&op->results[0]);
    int64_t count;
    if (!qc_type_static_count(type, &count))
        return NULL;
    const qc_attr *data = part_of_data(op, (size_t)copy->expert * (size_t)count, (size_t)count, 1);
    return data ? make_const(copy->b, data, type, op->results[0].hint) : NULL;
}

static qc_value *copy_weight(qc_expert_copy *copy, const qc_op *op)
{
    const char *tensor = qc_attr_as_text(qc_op_attr(op, "tensor"));
    if (qc_attr_as_int(qc_op_attr(op, "index")) >= 0 && op->info->op == QC_OP_WEIGHT) {
        refuse(op, "a part of a tensor is no bank");
        return NULL;
    }
    qc_make(copy->b, "weight");
    if (op->info->op == QC_OP_EXPERT_WEIGHT) {
        qc_make_attr_string(copy->b, "tensor", qc_expert_name(copy->arena, tensor, copy->expert));
    } else {
        qc_make_attr_string(copy->b, "tensor", tensor);
        qc_make_attr_int(copy->b, "index", copy->expert);
    }
    qc_make_type(copy->b, part_type_of(&op->results[0]));
    return qc_make_end(copy->b, op->results[0].hint);
}

static qc_value *operand(qc_expert_copy *copy, const qc_op *op, const char *name)
{
    const qc_value *value = qc_op_operand_named(op, name);
    return value ? copied(copy, value) : NULL;
}

static qc_value *copy_linear(qc_expert_copy *copy, const qc_op *op)
{
    static const char *const names[] = {"x", "w", "bias"};
    qc_make(copy->b, "linear");
    for (size_t i = 0; i < 3; i++)
        qc_make_operand(copy->b, names[i], operand(copy, op, names[i]));
    return qc_make_end(copy->b, op->results[0].hint);
}

static qc_value *copy_observe(qc_expert_copy *copy, const qc_op *op)
{
    qc_make(copy->b, "observe");
    qc_make_operand(copy->b, "x", operand(copy, op, "x"));
    for (int i = 0; i < op->info->attr_count; i++) {
        const char *name = op->info->attrs[i].name;
        bool own = strcmp(name, "tap") == 0 || strcmp(name, "granularity") == 0 ||
                   strcmp(name, "experts") == 0 || strcmp(name, "min_tokens") == 0 ||
                   strcmp(name, "fallback") == 0;
        if (!own && op->attrs[i])
            qc_make_attr(copy->b, name, op->attrs[i]);
    }
    qc_make_attr_word(copy->b, "granularity", "tensor");
    qc_make_attr_string(
        copy->b, "tap", qc_expert_name(copy->arena, qc_attr_as_text(qc_op_attr(op, "tap")), copy->expert));
    return qc_make_end(copy->b, op->results[0].hint);
}

static qc_value *copy_plain(qc_expert_copy *copy, const qc_op *op, bool bank)
{
    /* Before the op is begun: parts of statistics are made here. */
    qc_value **operands = QC_NEW_ARRAY(copy->arena, qc_value *, op->operand_count + 1);
    for (uint32_t i = 0; i < op->operand_count; i++) {
        const qc_value *value = op->operands[i].value;
        if (value &&
            !(operands[i] = is_statistics(copy, op, i) ? copy_statistics(copy, value) : copied(copy, value)))
            return NULL;
    }
    qc_make(copy->b, op->info->name);
    for (uint32_t i = 0; i < op->operand_count; i++)
        if (operands[i])
            qc_make_operand(copy->b, qc_op_operand_name(op, i), operands[i]);
    if (set_attrs(copy, op, bank) != QC_OK)
        return NULL;
    if (op->info->traits & QC_TRAIT_TYPED)
        qc_make_type(copy->b, bank ? part_type_of(&op->results[0]) : op->results[0].type);
    return qc_make_end(copy->b, op->results[0].hint);
}

static qc_value *copy_op(qc_expert_copy *copy, const qc_op *op, const qc_value *value)
{
    const bool bank = is_bank(copy, value);
    qc_builder_set_node(copy->b, op->node);
    switch (op->info->op) {
    case QC_OP_EXPERT_WEIGHT:
        return copy_weight(copy, op);
    case QC_OP_WEIGHT:
        return bank ? copy_weight(copy, op) : copy_plain(copy, op, false);
    case QC_OP_CONST:
        return bank ? copy_const(copy, op) : copy_plain(copy, op, false);
    case QC_OP_EXPERT_LINEAR:
        return copy_linear(copy, op);
    case QC_OP_EXPERT_PARAM:
        return operand(copy, op, "p");
    case QC_OP_OBSERVE:
        return strcmp(qc_attr_as_text(qc_op_attr(op, "granularity")), "expert") == 0
                   ? copy_observe(copy, op)
                   : copy_plain(copy, op, false);
    case QC_OP_EXPERT_GATHER:
    case QC_OP_EXPERT_SCORE:
    case QC_OP_EXPERT_COMBINE:
    case QC_OP_EXPERT_ROWS:
        refuse(op, "is no part of what one expert computes");
        return NULL;
    default:
        return copy_plain(copy, op, bank);
    }
}

/* Does the copy of `op` read this operand? */
static bool is_read(const qc_expert_copy *copy, const qc_op *op, uint32_t slot)
{
    const char *name = qc_op_operand_name(op, slot);
    bool by_expert = op->info->op == QC_OP_EXPERT_LINEAR || op->info->op == QC_OP_EXPERT_PARAM ||
                     op->info->op == QC_OP_OBSERVE;
    if (!op->operands[slot].value || is_statistics(copy, op, slot))
        return false;
    return !(by_expert && name &&
             (strcmp(name, "rows") == 0 || (op->info->op == QC_OP_OBSERVE && strcmp(name, "w") == 0)));
}

qc_value *qc_expert_copy_value(qc_expert_copy *copy, const qc_value *value)
{
    QC_VEC(const qc_value *) stack = {0};
    QC_PUSH(copy->arena, &stack, value);
    while (stack.count) {
        const qc_value *top = stack.items[stack.count - 1];
        const qc_op *op = top->op;
        size_t before = stack.count;
        if (copied(copy, top)) {
            stack.count--;
            continue;
        }
        if (!op || !top->type) {
            qc_error(&copy->b->func->module->ctx->diag, copy->b->func->name,
                "%%%s is an input that nothing stands for", top->hint ? top->hint : "");
            return NULL;
        }
        for (uint32_t i = 0; i < op->operand_count; i++)
            if (is_read(copy, op, i) && !copied(copy, op->operands[i].value))
                QC_PUSH(copy->arena, &stack, op->operands[i].value);
        if (stack.count > before)
            continue;
        qc_value *made = copy_op(copy, op, top);
        if (!made || !made->type)
            return NULL;
        qc_expert_copy_set(copy, top, made);
        stack.count--;
    }
    return copied(copy, value);
}
