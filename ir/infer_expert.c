/* SPDX-License-Identifier: MIT
 *
 * infer_expert.c - result types and rules of the ops of mixtures of experts: routing, rows by expert, and banks,
 * the weights of all experts stacked along a first dimension.
 */
#include <math.h>

#include "ir/experts.h"
#include "ir/ir.h"
#include "op_table.h"

#define FAIL(...) return qc_error(&op->func->module->ctx->diag, where, __VA_ARGS__)

static const qc_type *operand_type(const qc_op *op, size_t slot)
{
    const qc_value *value = qc_op_operand(op, slot);
    return value ? value->type : NULL;
}

static int64_t int_attr(const qc_op *op, const char *name)
{
    return qc_attr_as_int(qc_op_attr(op, name));
}

static qc_status make(
    qc_op *op, const char *where, qc_dtype dtype, int rank, const qc_dim *const *dims, const qc_type **types)
{
    types[0] = qc_type_make(op->func->module->ctx, where, dtype, rank, dims);
    return types[0] ? QC_OK : QC_ERROR;
}

/* x's shape with another last dimension. */
static qc_status with_last(
    qc_op *op, const char *where, const qc_type *x, qc_dtype dtype, const qc_dim *last, const qc_type **types)
{
    const qc_dim *dims[QC_MAX_RANK];
    memcpy(dims, x->dims, sizeof dims);
    dims[x->rank - 1] = last;
    return make(op, where, dtype, x->rank, dims, types);
}

/* Do the shapes agree but for the last dimension? */
static bool same_but_last(const qc_type *a, const qc_type *b)
{
    if (a->rank != b->rank || a->rank < 1)
        return false;
    for (int i = 0; i < a->rank - 1; i++)
        if (a->dims[i] != b->dims[i])
            return false;
    return true;
}

qc_status qc_infer_topk(qc_op *op, const char *where, const qc_type **types)
{
    const qc_type *x = operand_type(op, 0);
    int64_t k = int_attr(op, "k"), size;
    if (x->rank < 1 || !qc_dim_as_int(x->dims[x->rank - 1], &size))
        FAIL("topk: the last dimension of %s must be a number", x->text);
    if (k < 1 || k > size)
        FAIL("topk: k = %lld of %lld elements", (long long)k, (long long)size);
    return with_last(op, where, x, QC_I32, qc_dim_int(op->func->module->ctx, k), types);
}

qc_status qc_infer_take(qc_op *op, const char *where, const qc_type **types)
{
    const qc_type *x = operand_type(op, 0), *ids = operand_type(op, 1);
    if (!same_but_last(x, ids))
        FAIL("take: ids %s do not fit x %s", ids->text, x->text);
    return with_last(op, where, x, x->dtype, ids->dims[ids->rank - 1], types);
}

qc_status qc_infer_mask_groups(qc_op *op, const char *where, const qc_type **types)
{
    const qc_type *x = operand_type(op, 0), *ids = operand_type(op, 1);
    int64_t groups = int_attr(op, "groups"), size;
    if (!same_but_last(x, ids))
        FAIL("mask_groups: ids %s do not fit x %s", ids->text, x->text);
    if (groups < 1 || !qc_dim_as_int(x->dims[x->rank - 1], &size) || size % groups)
        FAIL("mask_groups: the last dimension of %s does not split in %lld groups", x->text,
            (long long)groups);
    if (isnan(qc_attr_as_float(qc_op_attr(op, "fill"))))
        FAIL("mask_groups: fill must be a number");
    types[0] = x;
    return QC_OK;
}

qc_status qc_infer_expert_rows(qc_op *op, const char *where, const qc_type **types)
{
    qc_ctx *ctx = op->func->module->ctx;
    const qc_type *ids = operand_type(op, 0);
    int64_t experts = int_attr(op, "experts"), k;
    if (ids->rank != 3 || !qc_dim_as_int(ids->dims[2], &k))
        FAIL("expert_rows: ids must be [B, S, k], not %s", ids->text);
    if (experts < 1 || k < 1 || k > experts)
        FAIL("expert_rows: a token cannot choose %lld of %lld experts", (long long)k, (long long)experts);
    int64_t times = qc_attr_as_bool(qc_op_attr(op, "all")) ? experts : k;
    const qc_dim *tokens = qc_dim_mul(ctx, ids->dims[0], ids->dims[1]);
    const qc_dim *dims[2] = {
        qc_dim_int(ctx, 3), tokens ? qc_dim_mul(ctx, tokens, qc_dim_int(ctx, times)) : NULL};
    if (!dims[1])
        FAIL("expert_rows: too many rows");
    return make(op, where, QC_I32, 2, dims, types);
}

/* Operand `slot` must be what expert_rows gives. */
static qc_status check_rows(qc_op *op, const char *where, size_t slot, const qc_type **rows)
{
    const qc_type *type = *rows = operand_type(op, slot);
    if (type->dtype != QC_I32 || type->rank != 2 || type->dims[0] != qc_dim_int(op->func->module->ctx, 3))
        FAIL("%s: rows must be i32[3, R] as expert_rows gives them, not %s", op->info->name, type->text);
    return QC_OK;
}

/* A bank must have as many experts as the rows speak of, where that is known. */
static qc_status check_experts(qc_op *op, const char *where, size_t slot, size_t rows_slot)
{
    const qc_op *rows = qc_op_operand(op, rows_slot)->op;
    const qc_value *bank = qc_op_operand(op, slot);
    int64_t experts = rows && rows->info->op == QC_OP_EXPERT_ROWS ? int_attr(rows, "experts") : 0;
    if (experts && qc_bank_experts(bank) != experts)
        FAIL("%s: %s %s is not of the %lld experts of its rows", op->info->name, qc_op_operand_name(op, slot),
            bank->type->text, (long long)experts);
    return QC_OK;
}

qc_status qc_infer_expert_gather(qc_op *op, const char *where, const qc_type **types)
{
    const qc_type *x = operand_type(op, 0), *rows;
    if (check_rows(op, where, 1, &rows) != QC_OK)
        return QC_ERROR;
    if (x->rank != 3)
        FAIL("expert_gather: x must be [B, S, n], not %s", x->text);
    const qc_dim *dims[2] = {rows->dims[1], x->dims[2]};
    return make(op, where, x->dtype, 2, dims, types);
}

qc_status qc_infer_expert_score(qc_op *op, const char *where, const qc_type **types)
{
    const qc_type *w = operand_type(op, 0), *rows;
    if (check_rows(op, where, 1, &rows) != QC_OK)
        return QC_ERROR;
    if (w->rank != 3)
        FAIL("expert_score: w must be [B, S, k], not %s", w->text);
    const qc_dim *dims[2] = {rows->dims[1], qc_dim_int(op->func->module->ctx, 1)};
    return make(op, where, w->dtype, 2, dims, types);
}

qc_status qc_infer_expert_param(qc_op *op, const char *where, const qc_type **types)
{
    const qc_type *p = operand_type(op, 0), *rows;
    if (check_rows(op, where, 1, &rows) != QC_OK)
        return QC_ERROR;
    if (p->rank != 2 && !(p->rank == 3 && p->dims[1] == qc_dim_int(op->func->module->ctx, 1)))
        FAIL("expert_param: p must be [E, n] or [E, 1, n], not %s", p->text);
    if (check_experts(op, where, 0, 1) != QC_OK)
        return QC_ERROR;
    const qc_dim *dims[2] = {rows->dims[1], p->dims[p->rank - 1]};
    return make(op, where, p->dtype, 2, dims, types);
}

qc_status qc_infer_expert_linear(qc_op *op, const char *where, const qc_type **types)
{
    const qc_type *x = operand_type(op, 0), *w = operand_type(op, 1), *bias = operand_type(op, 3), *rows;
    const qc_attr *module = qc_op_attr(op, "module");
    if (check_rows(op, where, 2, &rows) != QC_OK)
        return QC_ERROR;
    if (x->rank != 2 || w->rank != 3 || x->dims[0] != rows->dims[1])
        FAIL("expert_linear: x %s, w %s and rows %s must be [R, in], [E, out, in] and [3, R]", x->text,
            w->text, rows->text);
    if (x->dims[1] != w->dims[2])
        FAIL("expert_linear: x %s has %s inputs, w %s has %s", x->text, x->dims[1]->text, w->text,
            w->dims[2]->text);
    if (bias && (bias->rank != 2 || bias->dims[0] != w->dims[0] || bias->dims[1] != w->dims[1]))
        FAIL("expert_linear: bias %s does not fit w %s", bias->text, w->text);
    if (check_experts(op, where, 1, 2) != QC_OK)
        return QC_ERROR;
    if (module && !qc_expert_name_is_valid(qc_attr_as_text(module)))
        FAIL("expert_linear: module \"%s\" must have {e} once, for the number of the expert",
            qc_attr_as_text(module));
    const qc_dim *dims[2] = {x->dims[0], w->dims[1]};
    return make(op, where, x->dtype, 2, dims, types);
}

qc_status qc_infer_expert_combine(qc_op *op, const char *where, const qc_type **types)
{
    const qc_type *y = operand_type(op, 0), *ids = operand_type(op, 2), *rows;
    if (check_rows(op, where, 1, &rows) != QC_OK)
        return QC_ERROR;
    if (y->rank != 2 || y->dims[0] != rows->dims[1])
        FAIL("expert_combine: y %s must have a row for each of rows %s", y->text, rows->text);
    if (ids->rank != 3)
        FAIL("expert_combine: ids must be [B, S, k], not %s", ids->text);
    const qc_dim *dims[3] = {ids->dims[0], ids->dims[1], y->dims[1]};
    return make(op, where, y->dtype, 3, dims, types);
}

qc_status qc_infer_latent_kv(qc_op *op, const char *where, const qc_type **types)
{
    qc_ctx *ctx = op->func->module->ctx;
    const qc_type *latent = operand_type(op, 0), *rope = operand_type(op, 1);
    if (latent->rank != 4 || rope->rank != 4 || latent->dims[1] != qc_dim_int(ctx, 1) ||
        !same_but_last(latent, rope) || latent->dtype != rope->dtype)
        FAIL("latent_kv: latent %s and rope %s must be [B, 1, S, r] and [B, 1, S, d]", latent->text,
            rope->text);
    return with_last(
        op, where, latent, latent->dtype, qc_dim_add(ctx, latent->dims[3], rope->dims[3]), types);
}

qc_status qc_verify_expert_weight(const qc_op *op, const char *where)
{
    const qc_type *y = op->results[0].type;
    const char *name = qc_attr_as_text(qc_op_attr(op, "tensor"));
    int64_t count;
    if (y->rank < 2 || !qc_type_static_count(y, &count))
        FAIL("expert_weight: the shape %s must be static, [E, ...]", y->text);
    if (!qc_expert_name_is_valid(name))
        FAIL("expert_weight: \"%s\" must have {e} once, for the number of the expert", name);
    return QC_OK;
}
