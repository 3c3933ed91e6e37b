/* SPDX-License-Identifier: MIT
 *
 * eval_product.c - reference semantics of products and reductions (see eval.h). Products of two f32 are exact
 * in f64; sums are f64, rounded to f32, then to the element type of the result.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ir/dtype/codec.h"
#include "ir/dtype/hadamard.h"
#include "ir/eval.h"
#include "ir/ir.h"
#include "op_table.h"

static qc_status mismatch(qc_eval *eval, const qc_op *op, const qc_tensor *a, const qc_tensor *b)
{
    return qc_error(eval->diag, qc_eval_where(eval, op), "%s and %s do not fit",
        qc_tensor_text(eval->scratch, a), qc_tensor_text(eval->scratch, b));
}

static float dot(const float *a, const float *b, int64_t b_stride, int64_t count)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i++)
        sum += (double)a[i] * (double)b[i * b_stride];
    return (float)sum;
}

qc_status qc_eval_linear(qc_eval *eval, const qc_op *op, const qc_tensor *const *operands, qc_tensor *results)
{
    const qc_tensor *x = operands[0], *w = operands[1], *bias = operands[2];
    const char *where = qc_eval_where(eval, op);

    if (w->rank != 2 || x->rank < 1 || qc_tensor_dim(x, -1) != w->dims[1])
        return mismatch(eval, op, x, w);
    int64_t in = w->dims[1], out = w->dims[0];
    if (bias && bias->count != out)
        return mismatch(eval, op, w, bias);
    int64_t rows = 1;
    for (int i = 0; i < x->rank - 1; i++)
        rows *= x->dims[i];
    if (results->count != rows * out)
        return mismatch(eval, op, x, results);

    float *xs = qc_tensor_decode(eval->diag, where, x);
    float *ws = qc_tensor_decode(eval->diag, where, w);
    float *bs = bias ? qc_tensor_decode(eval->diag, where, bias) : NULL;
    qc_status status = xs && ws && (bs || !bias) ? QC_OK : QC_ERROR;
    float *row = qc_eval_row(eval, out);
    for (int64_t r = 0; status == QC_OK && r < rows; r++) {
        for (int64_t n = 0; n < out; n++)
            row[n] = dot(xs + r * in, ws + n * in, 1, in) + (bs ? bs[n] : 0.0f);
        qc_tensor_write(results, r * out, out, row);
    }
    free(xs);
    free(ws);
    free(bs);
    return status;
}

/* Which of the matrices of an operand belongs to matrix `index` of the result: batch dimensions broadcast. */
static bool batch_offset(const qc_tensor *x, const qc_tensor *y, int64_t index, int64_t *offset)
{
    int64_t step = qc_tensor_dim(x, -1) * qc_tensor_dim(x, -2);

    *offset = 0;
    for (int i = -3; i >= -y->rank; i--) {
        int64_t size = qc_tensor_dim(x, i), in_y = qc_tensor_dim(y, i);
        if (size != 1 && size != in_y)
            return false;
        *offset += size == 1 ? 0 : index % in_y * step;
        index /= in_y;
        step *= size;
    }
    return x->rank <= y->rank;
}

qc_status qc_eval_matmul(qc_eval *eval, const qc_op *op, const qc_tensor *const *operands, qc_tensor *results)
{
    const qc_tensor *x = operands[0], *z = operands[1];
    bool transposed = qc_attr_as_bool(qc_op_attr(op, "transpose_z"));
    const char *where = qc_eval_where(eval, op);
    int64_t rows = qc_tensor_dim(x, -2), inner = qc_tensor_dim(x, -1);
    int64_t columns = qc_tensor_dim(z, transposed ? -2 : -1);

    if (x->rank < 2 || z->rank < 2 || qc_tensor_dim(z, transposed ? -1 : -2) != inner ||
        qc_tensor_dim(results, -2) != rows || qc_tensor_dim(results, -1) != columns)
        return mismatch(eval, op, x, z);
    float *xs = qc_tensor_decode(eval->diag, where, x);
    float *zs = qc_tensor_decode(eval->diag, where, z);
    qc_status status = xs && zs ? QC_OK : QC_ERROR;
    float *row = qc_eval_row(eval, columns);
    int64_t batches = results->count > 0 ? results->count / (rows * columns) : 0;
    for (int64_t b = 0; status == QC_OK && b < batches; b++) {
        int64_t x_at, z_at;
        if (!batch_offset(x, results, b, &x_at) || !batch_offset(z, results, b, &z_at)) {
            status = mismatch(eval, op, x, z);
            break;
        }
        for (int64_t r = 0; r < rows; r++) {
            for (int64_t c = 0; c < columns; c++) {
                const float *column = zs + z_at + (transposed ? c * inner : c);
                row[c] = dot(xs + x_at + r * inner, column, transposed ? 1 : columns, inner);
            }
            qc_tensor_write(results, (b * rows + r) * columns, columns, row);
        }
    }
    free(xs);
    free(zs);
    return status;
}

qc_status qc_eval_embedding(
    qc_eval *eval, const qc_op *op, const qc_tensor *const *operands, qc_tensor *results)
{
    const qc_tensor *ids = operands[0], *w = operands[1];

    if (w->rank != 2 || results->count != ids->count * w->dims[1] || results->dtype != w->dtype)
        return mismatch(eval, op, ids, w);
    for (int64_t i = 0; i < ids->count; i++) {
        int64_t id = qc_tensor_int(ids, i);
        if (id < 0 || id >= w->dims[0])
            return qc_error(eval->diag, qc_eval_where(eval, op), "token id %lld is outside the %lld rows",
                (long long)id, (long long)w->dims[0]);
        qc_tensor_copy(results, i * w->dims[1], w, id * w->dims[1], w->dims[1]);
    }
    return QC_OK;
}

/* ---- reductions over the last dimension ---------------------------------------------------------------- */

static float row_sum(const float *row, int64_t count)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i++)
        sum += (double)row[i];
    return (float)sum;
}

/* The division is f32: mean = sum / count, both rounded. */
static float row_mean(const float *row, int64_t count)
{
    return row_sum(row, count) / (float)count;
}

static float row_max(const float *row, int64_t count)
{
    float max = -INFINITY;
    for (int64_t i = 0; i < count; i++)
        max = row[i] > max || isnan(row[i]) || isnan(max) ? (isnan(max) ? max : row[i]) : max;
    return max;
}

static qc_status reduce(qc_eval *eval, const qc_op *op, const qc_tensor *x, qc_tensor *y,
    float (*function)(const float *row, int64_t count))
{
    int64_t length = qc_tensor_dim(x, -1);

    if (x->rank < 1 || length < 1 || y->count != x->count / length)
        return mismatch(eval, op, x, y);
    float *row = qc_eval_row(eval, length);
    for (int64_t r = 0; r < y->count; r++) {
        qc_tensor_read(x, r * length, length, row);
        float value = function(row, length);
        qc_tensor_write(y, r, 1, &value);
    }
    return QC_OK;
}

qc_status qc_eval_reduce_sum(
    qc_eval *eval, const qc_op *op, const qc_tensor *const *operands, qc_tensor *results)
{
    return reduce(eval, op, operands[0], results, row_sum);
}

qc_status qc_eval_reduce_mean(
    qc_eval *eval, const qc_op *op, const qc_tensor *const *operands, qc_tensor *results)
{
    return reduce(eval, op, operands[0], results, row_mean);
}

qc_status qc_eval_reduce_max(
    qc_eval *eval, const qc_op *op, const qc_tensor *const *operands, qc_tensor *results)
{
    return reduce(eval, op, operands[0], results, row_max);
}

/* ---- attention's mask and the Hadamard rotation -------------------------------------------------------- */

qc_status qc_eval_attention_mask(
    qc_eval *eval, const qc_op *op, const qc_tensor *const *operands, qc_tensor *results)
{
    const qc_tensor *x = operands[0];
    bool causal = qc_attr_as_bool(qc_op_attr(op, "causal"));
    int64_t window = qc_attr_as_int(qc_op_attr(op, "window")),
            chunk = qc_attr_as_int(qc_op_attr(op, "chunk"));
    int64_t queries = qc_tensor_dim(x, -2), keys = qc_tensor_dim(x, -1), past = keys - queries;
    float lowest = -(float)qc_dtype_max(x->dtype);

    if (x->rank != 4 || past < 0 || window < 0 || chunk < 0)
        return qc_error(eval->diag, qc_eval_where(eval, op), "scores %s with window %lld and chunk %lld",
            qc_tensor_text(eval->scratch, x), (long long)window, (long long)chunk);
    float *row = qc_eval_row(eval, keys);
    for (int64_t r = 0; keys > 0 && r < x->count / keys; r++) {
        int64_t position = past + r % queries;
        qc_tensor_read(x, r * keys, keys, row);
        for (int64_t j = 0; j < keys; j++)
            if ((causal && j > position) || (window > 0 && j <= position - window) ||
                (chunk > 0 && j / chunk != position / chunk))
                row[j] += lowest;
        qc_tensor_write(results, r * keys, keys, row);
    }
    return QC_OK;
}

/* Sums in f64 whatever `compute` says, rounded to f32, then to the element type; see hadamard.h for the matrices. */
qc_status qc_eval_hadamard(
    qc_eval *eval, const qc_op *op, const qc_tensor *const *operands, qc_tensor *results)
{
    const qc_tensor *x = operands[0];
    bool inverse = qc_attr_as_bool(qc_op_attr(op, "inverse"));
    int64_t size = qc_attr_as_int(qc_op_attr(op, "size"));
    int axis = (int)qc_attr_as_int(qc_op_attr(op, "axis"));
    /* The vectors' elements lie `lanes` apart. */
    int64_t lanes = 1;
    const char *where = qc_eval_where(eval, op);
    qc_hadamard h;

    if (qc_hadamard_make_drawn(eval->diag, eval->scratch, where, size,
            strcmp(qc_attr_as_text(qc_op_attr(op, "matrix")), "random_hadamard") == 0,
            qc_attr_as_int(qc_op_attr(op, "drawn")), &h) != QC_OK)
        return QC_ERROR;
    for (int i = axis + 1; axis >= 0 && i < x->rank; i++)
        lanes *= x->dims[i];
    if (qc_tensor_dim(x, axis) % size != 0)
        return qc_error(eval->diag, where, "blocks of %lld do not divide %s", (long long)size,
            qc_tensor_text(eval->scratch, x));
    int64_t block = size * lanes;
    float *row = calloc((size_t)block + 1, sizeof *row);
    double *sums = calloc((size_t)block + 1, sizeof *sums);
    qc_status status = row && sums ? QC_OK : qc_error(eval->diag, where, "out of memory");
    for (int64_t at = 0; status == QC_OK && at < x->count; at += block) {
        qc_tensor_read(x, at, block, row);
        for (int64_t i = 0; i < block; i++)
            sums[i] = (double)row[i];
        qc_hadamard_apply_lanes_f64(&h, inverse, sums, lanes);
        for (int64_t i = 0; i < block; i++)
            row[i] = (float)sums[i];
        qc_tensor_write(results, at, block, row);
    }
    free(row);
    free(sums);
    return status;
}

qc_status qc_eval_center(qc_eval *eval, const qc_op *op, const qc_tensor *const *operands, qc_tensor *results)
{
    const qc_tensor *x = operands[0];
    int64_t columns = qc_tensor_dim(x, -1);
    float *row = qc_eval_row(eval, columns);
    (void)op;
    for (int64_t at = 0; columns > 0 && at < x->count; at += columns) {
        double sum = 0;
        qc_tensor_read(x, at, columns, row);
        for (int64_t i = 0; i < columns; i++)
            sum += (double)row[i];
        for (int64_t i = 0; i < columns; i++)
            row[i] = (float)((double)row[i] - sum / (double)columns);
        qc_tensor_write(results, at, columns, row);
    }
    return QC_OK;
}
