/* SPDX-License-Identifier: MIT
 *
 * eval.c - reference semantics of sources, elementwise ops and state (see eval.h).
 */
#include <stdlib.h>

#include "ir/eval.h"

#include "ir/dtype/codec.h"
#include "ir/experts.h"
#include "ir/ir.h"
#include "op_table.h"

const char *qc_eval_where(const qc_eval *eval, const qc_op *op)
{
    const char *path = op->node ? op->node->path : eval->path;
    if (!path || !*path)
        return qc_arena_printf(eval->scratch, "%s: %s", op->func ? op->func->name : "op", op->info->name);
    return qc_arena_printf(eval->scratch, "%s: %s", path, op->info->name);
}

float *qc_eval_row(const qc_eval *eval, int64_t count)
{
    return QC_NEW_ARRAY(eval->scratch, float, (size_t)count + 1);
}

/* ---- sources ------------------------------------------------------------------------------------------- */

/* Does every number of `from` exist in `to`? */
static bool widens(qc_dtype from, qc_dtype to)
{
    if (from == to)
        return true;
    if (qc_dtype_bits(from) >= qc_dtype_bits(to))
        return false;
    if (qc_dtype_is_float(from) && qc_dtype_is_float(to))
        return from != QC_F8E8M0 || to != QC_F16;
    if (!qc_dtype_is_int(from) || !qc_dtype_is_int(to))
        return false;
    bool from_signed = qc_dtype_name(from)[0] == 'i', to_signed = qc_dtype_name(to)[0] == 'i';
    return to_signed || !from_signed;
}

/* The part `index` of the first dimension of what is stored, in place; all of it when index is negative. */
static bool take_part(qc_tensor *stored, int64_t index)
{
    if (index < 0)
        return true;
    if (stored->rank < 1 || index >= stored->dims[0])
        return false;
    stored->count /= stored->dims[0];
    stored->data = (char *)stored->data + qc_tensor_bytes(stored->dtype, index * stored->count);
    for (int i = 1; i < stored->rank; i++)
        stored->dims[i - 1] = stored->dims[i];
    stored->rank--;
    return qc_dtype_bits(stored->dtype) >= 8 || index * stored->count % 2 == 0;
}

/* Puts what is stored behind `at` elements of y; widened where it is narrower. */
static void put_stored(const qc_tensor *stored, qc_tensor *y, int64_t at)
{
    if (stored->dtype == y->dtype)
        qc_tensor_copy(y, at, stored, 0, stored->count);
    else
        qc_convert(stored->dtype, stored->data, y->dtype, (char *)y->data + qc_tensor_bytes(y->dtype, at),
            (size_t)stored->count);
}

/* A single number may be stored as [] or [1]. */
static bool is_number(const qc_tensor *stored, const qc_tensor *y)
{
    return stored->rank <= 1 && stored->count == 1 && y->count == 1;
}

qc_status qc_eval_weight(qc_eval *eval, const qc_op *op, const qc_tensor *const *operands, qc_tensor *results)
{
    const char *name = qc_attr_as_text(qc_op_attr(op, "tensor"));
    int64_t index = qc_attr_as_int(qc_op_attr(op, "index"));
    qc_tensor stored = {0};

    (void)operands;
    if (!eval->weight)
        return qc_error(eval->diag, name, "no checkpoint to read this tensor from");
    if (eval->weight(eval->user, eval->diag, name, &stored) != QC_OK)
        return QC_ERROR;
    qc_tensor part = stored;
    if (!take_part(&part, index) || !(qc_tensor_same_shape(&part, results) || is_number(&part, results)) ||
        !widens(stored.dtype, results->dtype))
        return qc_error(eval->diag, name, "the checkpoint holds %s, %s is not exactly %s",
            qc_tensor_text(eval->scratch, &stored),
            index < 0 ? "which" : qc_arena_printf(eval->scratch, "part %lld of which", (long long)index),
            qc_tensor_text(eval->scratch, results));
    put_stored(&part, results, 0);
    return QC_OK;
}

/* Has the stored tensor the shape of one part of the bank? */
static bool is_part(const qc_tensor *stored, const qc_tensor *bank)
{
    bool same = stored->rank == bank->rank - 1;
    for (int i = 0; same && i < stored->rank; i++)
        same = stored->dims[i] == bank->dims[i + 1];
    return same || (stored->rank <= 1 && stored->count == 1 && bank->count == bank->dims[0]);
}

qc_status qc_eval_expert_weight(
    qc_eval *eval, const qc_op *op, const qc_tensor *const *operands, qc_tensor *results)
{
    const char *pattern = qc_attr_as_text(qc_op_attr(op, "tensor"));

    (void)operands;
    if (!eval->weight)
        return qc_error(eval->diag, pattern, "no checkpoint to read this tensor from");
    for (int64_t e = 0; e < qc_tensor_dim(results, 0); e++) {
        const char *name = qc_expert_name(eval->scratch, pattern, e);
        qc_tensor stored = {0};
        if (eval->weight(eval->user, eval->diag, name, &stored) != QC_OK)
            return QC_ERROR;
        if (!is_part(&stored, results) || !widens(stored.dtype, results->dtype))
            return qc_error(eval->diag, name, "the checkpoint holds %s, which is not exactly a part of %s",
                qc_tensor_text(eval->scratch, &stored), qc_tensor_text(eval->scratch, results));
        put_stored(&stored, results, e * stored.count);
    }
    return QC_OK;
}

qc_status qc_eval_const(qc_eval *eval, const qc_op *op, const qc_tensor *const *operands, qc_tensor *results)
{
    const qc_attr *value = qc_op_attr(op, "value");

    (void)operands;
    if (qc_attr_data_dtype(value) != results->dtype || qc_attr_count(value) != (size_t)results->count)
        return qc_error(eval->diag, qc_eval_where(eval, op), "%zu elements of %s for a %s",
            qc_attr_count(value), qc_dtype_name(qc_attr_data_dtype(value)),
            qc_tensor_text(eval->scratch, results));
    memcpy(results->data, qc_attr_data_bytes(value), qc_tensor_bytes(results->dtype, results->count));
    return QC_OK;
}

qc_status qc_eval_positions(
    qc_eval *eval, const qc_op *op, const qc_tensor *const *operands, qc_tensor *results)
{
    int64_t length = qc_tensor_dim(operands[0], -1);

    (void)op;
    for (int64_t i = 0; i < results->count; i++) {
        int64_t position = eval->past_length + i % length;
        qc_convert(
            QC_I64, &position, results->dtype, (char *)results->data + qc_tensor_bytes(results->dtype, i), 1);
    }
    return QC_OK;
}

/* ---- elementwise --------------------------------------------------------------------------------------- */

/* Steps of an operand through the index space of the result; 0 along dimensions that it repeats. */
static bool broadcast_strides(const qc_tensor *x, const qc_tensor *y, int64_t strides[QC_MAX_RANK])
{
    int64_t step = 1;
    int missing = y->rank - x->rank;

    if (missing < 0)
        return false;
    for (int i = y->rank - 1; i >= 0; i--) {
        int64_t size = i >= missing ? x->dims[i - missing] : 1;
        if (size != 1 && size != y->dims[i])
            return false;
        strides[i] = size == 1 ? 0 : step;
        step *= size;
    }
    return true;
}

static int64_t row_offset(const qc_tensor *y, const int64_t *strides, int64_t row)
{
    int64_t offset = 0;
    for (int i = y->rank - 2; i >= 0; i--) {
        offset += row % y->dims[i] * strides[i];
        row /= y->dims[i];
    }
    return offset;
}

qc_status qc_eval_elementwise(
    qc_eval *eval, const qc_op *op, const qc_tensor *const *operands, qc_tensor *results)
{
    const qc_scalar_row *scalar = &qc_scalar_rows[op->info->op];
    int count = scalar->binary ? 2 : 1;
    int64_t strides[2][QC_MAX_RANK];
    float *rows[2];

    for (int i = 0; i < count; i++)
        if (!broadcast_strides(operands[i], results, strides[i]))
            return qc_error(eval->diag, qc_eval_where(eval, op), "%s does not broadcast to %s",
                qc_tensor_text(eval->scratch, operands[i]), qc_tensor_text(eval->scratch, results));
    if (op->info->op == QC_OP_CAST) {
        qc_convert(
            operands[0]->dtype, operands[0]->data, results->dtype, results->data, (size_t)results->count);
        return QC_OK;
    }
    int64_t length = qc_tensor_dim(results, -1), row_count = length ? results->count / length : 0;
    for (int i = 0; i < count; i++)
        rows[i] = qc_eval_row(eval, length);
    float *out = qc_eval_row(eval, length);
    for (int64_t row = 0; row < row_count; row++) {
        for (int i = 0; i < count; i++) {
            bool repeats = results->rank > 0 && strides[i][results->rank - 1] == 0;
            qc_tensor_read(operands[i], row_offset(results, strides[i], row), repeats ? 1 : length, rows[i]);
            for (int64_t j = 1; repeats && j < length; j++)
                rows[i][j] = rows[i][0];
        }
        for (int64_t j = 0; j < length; j++)
            out[j] = scalar->binary ? scalar->binary(rows[0][j], rows[1][j]) : scalar->unary(rows[0][j]);
        qc_tensor_write(results, row * length, length, out);
    }
    return QC_OK;
}

/* ---- state --------------------------------------------------------------------------------------------- */

static qc_status append(qc_eval *eval, const qc_op *op, const qc_tensor *x, qc_tensor *results)
{
    if (x->rank != 4 || results->rank != 4 || x->dims[0] != results->dims[0] ||
        x->dims[1] != results->dims[1] || x->dims[3] != results->dims[3] || x->dtype != results->dtype ||
        results->dims[2] != eval->past_length + x->dims[2])
        return qc_error(eval->diag, qc_eval_where(eval, op), "%s behind %lld cached tokens is not %s",
            qc_tensor_text(eval->scratch, x), (long long)eval->past_length,
            qc_tensor_text(eval->scratch, results));
    if (eval->cache_append)
        return eval->cache_append(eval->user, eval->diag, op->node ? op->node->path : "",
            qc_attr_as_text(qc_op_attr(op, "slot")), x, results);
    if (eval->past_length != 0)
        return qc_error(eval->diag, qc_eval_where(eval, op),
            "no cache holds the %lld tokens of earlier calls", (long long)eval->past_length);
    qc_tensor_copy(results, 0, x, 0, x->count);
    return QC_OK;
}

/* Without a cache of the caller's, an empty one: the first call of a model. */
qc_status qc_eval_cache_append(
    qc_eval *eval, const qc_op *op, const qc_tensor *const *operands, qc_tensor *results)
{
    return append(eval, op, operands[0], results);
}

/* The layout of pages is a matter of kernels; what is stored is the same. */
qc_status qc_eval_cache_write(
    qc_eval *eval, const qc_op *op, const qc_tensor *const *operands, qc_tensor *results)
{
    const qc_tensor *quantized[4] = {operands[0], operands[1], operands[2], NULL};
    if (!operands[1])
        return append(eval, op, operands[0], results);
    qc_tensor codes = *operands[0];
    codes.dtype = results->dtype;
    codes.data = calloc(qc_tensor_bytes(codes.dtype, codes.count) + 1, 1);
    if (!codes.data)
        return qc_error(
            eval->diag, qc_eval_where(eval, op), "no memory for %s", qc_tensor_text(eval->scratch, &codes));
    qc_status status = qc_eval_quantize(eval, op, quantized, &codes);
    if (status == QC_OK)
        status = append(eval, op, &codes, results);
    free(codes.data);
    return status;
}

/* ---- constants ----------------------------------------------------------------------------------------- */

qc_status qc_eval_fill(qc_eval *eval, const qc_op *op, const qc_tensor *const *operands, qc_tensor *results)
{
    float value = (float)qc_attr_as_float(qc_op_attr(op, "value"));
    (void)eval;
    (void)operands;
    for (int64_t i = 0; i < results->count; i++)
        qc_tensor_write(results, i, 1, &value);
    return QC_OK;
}
