/* SPDX-License-Identifier: MIT
 *
 * infer.c - result types from operands and attributes: by trait, else by the op's hook. A hook reports the
 * first contradiction it finds, in words that name operand and dimension.
 */
#include "ir/ir.h"
#include "op_table.h"

static const qc_type *operand_type(const qc_op *op, size_t slot)
{
    const qc_value *value = qc_op_operand(op, slot);
    return value ? value->type : NULL;
}

static qc_ctx *ctx_of(const qc_op *op)
{
    return op->func->module->ctx;
}

#define FAIL(...) return qc_error(&ctx_of(op)->diag, where, __VA_ARGS__)

/* numpy's broadcasting of two shapes; NULL when they do not fit. */
static const qc_type *broadcast(qc_op *op, const char *where, const qc_type *a, const qc_type *b)
{
    int rank = a->rank > b->rank ? a->rank : b->rank;
    const qc_dim *dims[QC_MAX_RANK];
    const qc_dim *one = qc_dim_int(ctx_of(op), 1);
    for (int i = 0; i < rank; i++) {
        const qc_dim *x = i < rank - a->rank ? one : a->dims[i - (rank - a->rank)];
        const qc_dim *z = i < rank - b->rank ? one : b->dims[i - (rank - b->rank)];
        if (x != z && x != one && z != one)
            return NULL;
        dims[i] = x == one ? z : x;
    }
    return qc_type_make(ctx_of(op), where, a->dtype, rank, dims);
}

static qc_status infer_elementwise(qc_op *op, const char *where, const qc_type **types)
{
    const qc_type *type = operand_type(op, 0);
    for (uint32_t i = 1; i < op->operand_count; i++) {
        const qc_type *other = operand_type(op, i);
        const qc_type *joined = broadcast(op, where, type, other);
        if (!joined)
            FAIL("%s: shapes %s and %s do not broadcast", op->info->name, type->text, other->text);
        type = joined;
    }
    const qc_attr *to = qc_op_attr(op, "to");
    if (to) {
        const char *name = qc_attr_as_text(to);
        type = qc_type_with_dtype(ctx_of(op), type, qc_dtype_from_name(name, strlen(name)));
    }
    types[0] = type;
    return type ? QC_OK : QC_ERROR;
}

static qc_status check_classes(qc_op *op, const char *where)
{
    const qc_op_info *info = op->info;
    for (uint32_t i = 0; i < op->operand_count; i++) {
        const qc_value *value = op->operands[i].value;
        uint32_t row = i < (uint32_t)info->operand_count ? i : (uint32_t)info->operand_count - 1;
        if (!value && info->operands[row].optional)
            continue;
        if (!value)
            FAIL("%s: operand %s is missing", info->name, info->operands[row].name);
        if (!value->type)
            FAIL("%s: operand %s has no type", info->name, info->operands[row].name);
        char cls = info->operands[row].element_class;
        if (cls == 'f' && !qc_dtype_is_float(value->type->dtype))
            FAIL("%s: operand %s must be of a float type, not %s", info->name, info->operands[row].name,
                qc_dtype_name(value->type->dtype));
        if (cls == 'i' && !qc_dtype_is_int(value->type->dtype))
            FAIL("%s: operand %s must be of an integer type, not %s", info->name, info->operands[row].name,
                qc_dtype_name(value->type->dtype));
    }
    return QC_OK;
}

qc_status qc_op_infer(qc_op *op, const char *where, const qc_type **types)
{
    if (check_classes(op, where) != QC_OK)
        return QC_ERROR;
    const qc_op_info *info = op->info;
    if (info->infer)
        return info->infer(op, where, types);
    if (info->traits & QC_TRAIT_ELEMENTWISE)
        return infer_elementwise(op, where, types);
    if (info->traits & QC_TRAIT_SAME_TYPE) {
        types[0] = operand_type(op, 0);
        return QC_OK;
    }
    for (uint32_t i = 0; i < op->result_count; i++)
        if (!types[i])
            FAIL("%s: the result type must be written, it cannot be inferred", info->name);
    return QC_OK;
}

static int64_t int_attr(const qc_op *op, const char *name)
{
    return qc_attr_as_int(qc_op_attr(op, name));
}

static qc_dtype dtype_attr(const qc_op *op, const char *name)
{
    const char *text = qc_attr_as_text(qc_op_attr(op, name));
    return qc_dtype_from_name(text, strlen(text));
}

qc_status qc_infer_transpose(qc_op *op, const char *where, const qc_type **types)
{
    const qc_type *x = operand_type(op, 0);
    const qc_attr *perm = qc_op_attr(op, "perm");
    const qc_dim *dims[QC_MAX_RANK] = {0};
    unsigned seen = 0;
    if (qc_attr_count(perm) != (size_t)x->rank)
        FAIL("transpose: perm has %zu entries for a tensor of rank %d", qc_attr_count(perm), x->rank);
    for (int i = 0; i < x->rank; i++) {
        const qc_attr *item = qc_attr_item(perm, (size_t)i);
        int64_t from = item->kind == QC_ATTR_INT ? item->u.integer : -1;
        if (from < 0 || from >= x->rank || (seen >> from & 1u))
            FAIL("transpose: perm is not a permutation of 0..%d", x->rank - 1);
        seen |= 1u << from;
        dims[i] = x->dims[from];
    }
    types[0] = qc_type_make(ctx_of(op), where, x->dtype, x->rank, dims);
    return types[0] ? QC_OK : QC_ERROR;
}

/* Normalises a possibly negative axis; false when out of range. */
static bool axis_of(const qc_op *op, int rank, int *axis)
{
    int64_t value = int_attr(op, "axis");
    if (value < 0)
        value += rank;
    *axis = (int)value;
    return value >= 0 && value < rank;
}

static const qc_type *with_dim(qc_op *op, const char *where, const qc_type *x, int axis, const qc_dim *dim)
{
    const qc_dim *dims[QC_MAX_RANK];
    memcpy(dims, x->dims, sizeof dims);
    dims[axis] = dim;
    return qc_type_make(ctx_of(op), where, x->dtype, x->rank, dims);
}

qc_status qc_infer_slice(qc_op *op, const char *where, const qc_type **types)
{
    const qc_type *x = operand_type(op, 0);
    int axis;
    if (!axis_of(op, x->rank, &axis))
        FAIL("slice: axis is out of range for %s", x->text);
    int64_t start = int_attr(op, "start"), stop = int_attr(op, "stop"), size;
    if (start < 0 || stop < start || (qc_dim_as_int(x->dims[axis], &size) && stop > size))
        FAIL("slice: %lld..%lld is not inside dimension %d of %s", (long long)start, (long long)stop, axis,
            x->text);
    int64_t step = int_attr(op, "step");
    if (step < 1)
        FAIL("slice: step must be positive, not %lld", (long long)step);
    types[0] = with_dim(
        op, where, x, axis, qc_dim_int(ctx_of(op), (stop - start) / step + ((stop - start) % step > 0)));
    return types[0] ? QC_OK : QC_ERROR;
}

qc_status qc_infer_concat(qc_op *op, const char *where, const qc_type **types)
{
    if (!op->operand_count)
        FAIL("concat: at least one operand is needed");
    const qc_type *x = operand_type(op, 0);
    int axis;
    if (!axis_of(op, x->rank, &axis))
        FAIL("concat: axis is out of range for %s", x->text);
    const qc_dim *sum = x->dims[axis];
    for (uint32_t i = 1; i < op->operand_count; i++) {
        const qc_type *other = operand_type(op, i);
        bool fits = other->dtype == x->dtype && other->rank == x->rank;
        for (int d = 0; d < x->rank && fits; d++)
            fits = d == axis || other->dims[d] == x->dims[d];
        if (!fits)
            FAIL("concat: %s does not fit %s outside axis %d", other->text, x->text, axis);
        sum = qc_dim_add(ctx_of(op), sum, other->dims[axis]);
    }
    types[0] = with_dim(op, where, x, axis, sum);
    return types[0] ? QC_OK : QC_ERROR;
}

qc_status qc_infer_split_heads(qc_op *op, const char *where, const qc_type **types)
{
    const qc_type *x = operand_type(op, 0);
    int64_t heads = int_attr(op, "heads"), width;
    if (x->rank != 3 || !qc_dim_as_int(x->dims[2], &width))
        FAIL("split_heads: x must be [B, S, n], not %s", x->text);
    if (heads <= 0 || width % heads)
        FAIL("split_heads: %lld is not divisible by %lld heads", (long long)width, (long long)heads);
    const qc_dim *dims[4] = {
        x->dims[0], qc_dim_int(ctx_of(op), heads), x->dims[1], qc_dim_int(ctx_of(op), width / heads)};
    types[0] = qc_type_make(ctx_of(op), where, x->dtype, 4, dims);
    return types[0] ? QC_OK : QC_ERROR;
}

qc_status qc_infer_merge_heads(qc_op *op, const char *where, const qc_type **types)
{
    const qc_type *x = operand_type(op, 0);
    if (x->rank != 4)
        FAIL("merge_heads: x must be [B, heads, S, d], not %s", x->text);
    const qc_dim *dims[3] = {x->dims[0], x->dims[2], qc_dim_mul(ctx_of(op), x->dims[1], x->dims[3])};
    types[0] = qc_type_make(ctx_of(op), where, x->dtype, 3, dims);
    return types[0] ? QC_OK : QC_ERROR;
}

qc_status qc_infer_repeat_heads(qc_op *op, const char *where, const qc_type **types)
{
    const qc_type *x = operand_type(op, 0);
    int64_t times = int_attr(op, "times");
    if (x->rank != 4 || times < 1)
        FAIL("repeat_heads: x must be [B, heads, S, d] and times positive");
    types[0] = with_dim(op, where, x, 1, qc_dim_mul(ctx_of(op), x->dims[1], qc_dim_int(ctx_of(op), times)));
    return types[0] ? QC_OK : QC_ERROR;
}

qc_status qc_infer_linear(qc_op *op, const char *where, const qc_type **types)
{
    const qc_type *x = operand_type(op, 0), *w = operand_type(op, 1), *bias = operand_type(op, 2);
    if (x->rank < 1 || w->rank != 2)
        FAIL("linear: x %s and w %s must be [..., in] and [out, in]", x->text, w->text);
    if (x->dims[x->rank - 1] != w->dims[1])
        FAIL("linear: x %s has %s inputs, w %s has %s", x->text, x->dims[x->rank - 1]->text, w->text,
            w->dims[1]->text);
    if (bias && (bias->rank != 1 || bias->dims[0] != w->dims[0]))
        FAIL("linear: bias %s does not fit w %s", bias->text, w->text);
    types[0] = with_dim(op, where, x, x->rank - 1, w->dims[0]);
    return types[0] ? QC_OK : QC_ERROR;
}

qc_status qc_infer_matmul(qc_op *op, const char *where, const qc_type **types)
{
    const qc_type *x = operand_type(op, 0), *z = operand_type(op, 1);
    bool transposed = qc_attr_as_bool(qc_op_attr(op, "transpose_z"));
    if (x->rank < 2 || x->rank != z->rank)
        FAIL("matmul: %s and %s must have the same rank of at least 2", x->text, z->text);
    for (int i = 0; i < x->rank - 2; i++)
        if (x->dims[i] != z->dims[i])
            FAIL("matmul: batch dimensions of %s and %s differ", x->text, z->text);
    const qc_dim *inner = z->dims[z->rank - (transposed ? 1 : 2)],
                 *columns = z->dims[z->rank - (transposed ? 2 : 1)];
    if (x->dims[x->rank - 1] != inner)
        FAIL("matmul: inner dimensions of %s and %s differ", x->text, z->text);
    if (!qc_dtype_is_float(dtype_attr(op, "to")))
        FAIL("matmul: to must be a float type");
    const qc_type *type = with_dim(op, where, x, x->rank - 1, columns);
    types[0] = qc_type_with_dtype(ctx_of(op), type, dtype_attr(op, "to"));
    return types[0] ? QC_OK : QC_ERROR;
}

qc_status qc_infer_embedding(qc_op *op, const char *where, const qc_type **types)
{
    const qc_type *ids = operand_type(op, 0), *w = operand_type(op, 1);
    if (w->rank != 2)
        FAIL("embedding: w must be [vocabulary, hidden], not %s", w->text);
    if (ids->rank == QC_MAX_RANK)
        FAIL("embedding: ids %s has no room for one more dimension", ids->text);
    const qc_dim *dims[QC_MAX_RANK];
    memcpy(dims, ids->dims, sizeof dims);
    dims[ids->rank] = w->dims[1];
    types[0] = qc_type_make(ctx_of(op), where, w->dtype, ids->rank + 1, dims);
    return types[0] ? QC_OK : QC_ERROR;
}

static qc_status infer_reduce(qc_op *op, const char *where, const qc_type **types)
{
    const qc_type *x = operand_type(op, 0);
    if (x->rank < 1)
        FAIL("%s: x has no dimension to reduce", op->info->name);
    types[0] = with_dim(op, where, x, x->rank - 1, qc_dim_int(ctx_of(op), 1));
    return types[0] ? QC_OK : QC_ERROR;
}

qc_status qc_infer_reduce_sum(qc_op *op, const char *where, const qc_type **types)
{
    return infer_reduce(op, where, types);
}

qc_status qc_infer_reduce_mean(qc_op *op, const char *where, const qc_type **types)
{
    return infer_reduce(op, where, types);
}

qc_status qc_infer_reduce_max(qc_op *op, const char *where, const qc_type **types)
{
    return infer_reduce(op, where, types);
}

static qc_status infer_rope_table(qc_op *op, const char *where, const qc_type **types)
{
    const qc_type *pos = operand_type(op, 0);
    int64_t size = int_attr(op, "dims");
    if (pos->rank != 2 || size <= 0 || size % 2)
        FAIL("%s: pos must be [B, S] and dims even and positive", op->info->name);
    const qc_dim *dims[4] = {
        pos->dims[0], qc_dim_int(ctx_of(op), 1), pos->dims[1], qc_dim_int(ctx_of(op), size)};
    types[0] = qc_type_make(ctx_of(op), where, QC_F32, 4, dims);
    return types[0] ? QC_OK : QC_ERROR;
}

qc_status qc_infer_rope_cos(qc_op *op, const char *where, const qc_type **types)
{
    return infer_rope_table(op, where, types);
}

qc_status qc_infer_rope_sin(qc_op *op, const char *where, const qc_type **types)
{
    return infer_rope_table(op, where, types);
}

/* q, k and v of attention: an operand with a scale is codes, one without has the type `probs`. */
static qc_status check_attention_operand(qc_op *op, const char *where, size_t slot, qc_dtype compute)
{
    static const char *const groups[] = {"q_group", "k_group", "v_group"};
    const qc_operand_info *o = &op->info->operands[slot];
    const qc_type *x = operand_type(op, slot), *scale = operand_type(op, slot + 3),
                  *global = operand_type(op, slot + 6);
    int64_t group = int_attr(op, groups[slot]);
    const char *name = op->info->name;
    if (x->rank != 4)
        FAIL("%s: %s must be [B, heads, S, d], not %s", name, o->name, x->text);
    if (!scale && x->dtype != compute)
        FAIL("%s: %s is %s but probs is %s; codes need %s_scale", name, o->name, x->text,
            qc_dtype_name(compute), o->name);
    if (!scale && (global || group))
        FAIL("%s: %s has %s but no scale", name, o->name, global ? "a global scale" : "groups");
    if (group < 0)
        FAIL("%s: %s must not be negative", name, groups[slot]);
    if (scale && !qc_scale_fits(ctx_of(op), x, scale, group))
        FAIL("%s: %s_scale %s does not fit %s", name, o->name, scale->text, x->text);
    const qc_dim *one = qc_dim_int(ctx_of(op), 1);
    if (global && (global->dtype != QC_F32 || global->rank != 1 || global->dims[0] != one))
        FAIL("%s: %s_global must be f32[1], not %s", name, o->name, global->text);
    return QC_OK;
}

qc_status qc_infer_attention(qc_op *op, const char *where, const qc_type **types)
{
    const qc_type *q = operand_type(op, 0), *k = operand_type(op, 1), *v = operand_type(op, 2);
    qc_dtype compute = dtype_attr(op, "probs");
    static const char *const roundings[] = {"probs", "scores", "softmax"};
    for (size_t i = 0; i < 3; i++)
        if (!qc_dtype_is_float(dtype_attr(op, roundings[i])))
            FAIL("%s: %s must be a float type", op->info->name, roundings[i]);
    for (size_t i = 0; i < 3; i++)
        if (check_attention_operand(op, where, i, compute) != QC_OK)
            return QC_ERROR;
    int64_t heads, groups;
    if (!qc_dim_as_int(q->dims[1], &heads) || !qc_dim_as_int(k->dims[1], &groups) || !groups ||
        heads % groups)
        FAIL("%s: the heads of q %s are not a multiple of those of k %s", op->info->name, q->text, k->text);
    if (q->dims[0] != k->dims[0] || q->dims[3] != k->dims[3])
        FAIL("%s: q %s does not fit k %s", op->info->name, q->text, k->text);
    if (k->dims[0] != v->dims[0] || k->dims[1] != v->dims[1] || k->dims[2] != v->dims[2])
        FAIL("%s: k %s does not fit v %s", op->info->name, k->text, v->text);
    const qc_dim *dims[4] = {q->dims[0], q->dims[1], q->dims[2], v->dims[3]};
    types[0] = qc_type_make(ctx_of(op), where, compute, 4, dims);
    return types[0] ? QC_OK : QC_ERROR;
}

qc_status qc_infer_quantized_attention(qc_op *op, const char *where, const qc_type **types)
{
    return qc_infer_attention(op, where, types);
}
