/* SPDX-License-Identifier: MIT
 *
 * eval_expert.c - reference semantics of what runs between expert_rows and expert_combine (see eval.h). `rows` is i32[3, R]: of each row its expert, its token and its slot among the token's ids, -1 where the token
 * was not sent to that expert. What `rows` says is checked against the tensors that it points into.
 */
#include <stdlib.h>
#include <string.h>

#include "ir/eval.h"
#include "ir/ir.h"
#include "op_table.h"

static qc_status mismatch(qc_eval *eval, const qc_op *op, const qc_tensor *x, const qc_tensor *y)
{
    return qc_error(eval->diag, qc_eval_where(eval, op), "%s and %s do not fit",
        qc_tensor_text(eval->scratch, x), qc_tensor_text(eval->scratch, y));
}

typedef enum row_part { ROW_EXPERT, ROW_TOKEN, ROW_SLOT } row_part;

static int64_t row_count(const qc_tensor *rows)
{
    return rows->rank == 2 && rows->dims[0] == 3 ? rows->dims[1] : -1;
}

/* Part `part` of row `row`, which must lie in [least, limit). */
static qc_status read_row(qc_eval *eval, const qc_op *op, const qc_tensor *rows, int64_t row, row_part part,
    int64_t least, int64_t limit, int64_t *value)
{
    static const char *const names[] = {"expert", "token", "slot"};
    *value = qc_tensor_int(rows, (int64_t)part * rows->dims[1] + row);
    if (*value >= least && *value < limit)
        return QC_OK;
    return qc_error(eval->diag, qc_eval_where(eval, op),
        "row %lld is of %s %lld, outside the %lld that there are", (long long)row, names[part],
        (long long)*value, (long long)limit);
}

/* ---- rows of tokens and of parameters ------------------------------------------------------------------ */

qc_status qc_eval_expert_gather(
    qc_eval *eval, const qc_op *op, const qc_tensor *const *operands, qc_tensor *results)
{
    const qc_tensor *x = operands[0], *rows = operands[1];
    int64_t size = qc_tensor_dim(x, -1), tokens = size ? x->count / size : 0, token;

    if (x->rank < 2 || results->rank != 2 || results->dims[0] != row_count(rows) ||
        results->dims[1] != size || x->dtype != results->dtype)
        return mismatch(eval, op, x, results);
    for (int64_t row = 0; row < results->dims[0]; row++) {
        if (read_row(eval, op, rows, row, ROW_TOKEN, 0, tokens, &token) != QC_OK)
            return QC_ERROR;
        qc_tensor_copy(results, row * size, x, token * size, size);
    }
    return QC_OK;
}

qc_status qc_eval_expert_score(
    qc_eval *eval, const qc_op *op, const qc_tensor *const *operands, qc_tensor *results)
{
    const qc_tensor *w = operands[0], *rows = operands[1];
    bool first = strcmp(qc_attr_as_text(qc_op_attr(op, "unrouted")), "first") == 0;
    int64_t k = qc_tensor_dim(w, -1), tokens = k ? w->count / k : 0, token, slot;

    if (w->rank < 1 || results->rank != 2 || results->dims[0] != row_count(rows) || results->dims[1] != 1 ||
        w->dtype != results->dtype)
        return mismatch(eval, op, w, results);
    for (int64_t row = 0; row < results->dims[0]; row++) {
        const float zero = 0.0f;
        if (read_row(eval, op, rows, row, ROW_TOKEN, 0, tokens, &token) != QC_OK ||
            read_row(eval, op, rows, row, ROW_SLOT, -1, k, &slot) != QC_OK)
            return QC_ERROR;
        if (slot < 0 && !first)
            qc_tensor_write(results, row, 1, &zero);
        else
            qc_tensor_copy(results, row, w, token * k + (slot < 0 ? 0 : slot), 1);
    }
    return QC_OK;
}

qc_status qc_eval_expert_param(
    qc_eval *eval, const qc_op *op, const qc_tensor *const *operands, qc_tensor *results)
{
    const qc_tensor *p = operands[0], *rows = operands[1];
    int64_t size = qc_tensor_dim(p, -1), expert;

    if (p->rank < 2 || p->count != p->dims[0] * size || results->rank != 2 ||
        results->dims[0] != row_count(rows) || results->dims[1] != size || p->dtype != results->dtype)
        return mismatch(eval, op, p, results);
    for (int64_t row = 0; row < results->dims[0]; row++) {
        if (read_row(eval, op, rows, row, ROW_EXPERT, 0, p->dims[0], &expert) != QC_OK)
            return QC_ERROR;
        qc_tensor_copy(results, row * size, p, expert * size, size);
    }
    return QC_OK;
}

/* ---- expert_linear ------------------------------------------------------------------------------------- */

/* One row through its expert, as `linear` does it. */
static void linear_row(const float *x, const float *w, const float *bias, int64_t in, int64_t out, float *y)
{
    for (int64_t n = 0; n < out; n++) {
        double sum = 0;
        for (int64_t i = 0; i < in; i++)
            sum += (double)x[i] * (double)w[n * in + i];
        y[n] = (float)sum + (bias ? bias[n] : 0.0f);
    }
}

qc_status qc_eval_expert_linear(
    qc_eval *eval, const qc_op *op, const qc_tensor *const *operands, qc_tensor *results)
{
    const qc_tensor *x = operands[0], *w = operands[1], *rows = operands[2], *bias = operands[3];
    const char *where = qc_eval_where(eval, op);
    int64_t expert;

    if (x->rank != 2 || w->rank != 3 || x->dims[1] != w->dims[2] || x->dims[0] != row_count(rows))
        return mismatch(eval, op, x, w);
    int64_t experts = w->dims[0], out = w->dims[1], in = w->dims[2];
    if (bias && (bias->rank != 2 || bias->dims[0] != experts || bias->dims[1] != out))
        return mismatch(eval, op, w, bias);
    if (results->count != x->dims[0] * out)
        return mismatch(eval, op, x, results);
    float *ws = qc_tensor_decode(eval->diag, where, w);
    float *bs = bias ? qc_tensor_decode(eval->diag, where, bias) : NULL;
    float *input = qc_eval_row(eval, in), *output = qc_eval_row(eval, out);
    qc_status status = ws && (bs || !bias) ? QC_OK : QC_ERROR;
    for (int64_t row = 0; status == QC_OK && row < x->dims[0]; row++) {
        status = read_row(eval, op, rows, row, ROW_EXPERT, 0, experts, &expert);
        if (status != QC_OK)
            break;
        qc_tensor_read(x, row * in, in, input);
        linear_row(input, ws + expert * out * in, bs ? bs + expert * out : NULL, in, out, output);
        qc_tensor_write(results, row * out, out, output);
    }
    free(ws);
    free(bs);
    return status;
}

/* ---- expert_combine ------------------------------------------------------------------------------------ */

/* Rows come by ascending expert, so a token's are added in that order, from 0 on. f32 sums, which `each` rounds to the
 * element type one by one. */
qc_status qc_eval_expert_combine(
    qc_eval *eval, const qc_op *op, const qc_tensor *const *operands, qc_tensor *results)
{
    const qc_tensor *y = operands[0], *rows = operands[1], *ids = operands[2];
    bool each = strcmp(qc_attr_as_text(qc_op_attr(op, "sum")), "each") == 0;
    int64_t k = qc_tensor_dim(ids, -1), tokens = k ? ids->count / k : 0, token, slot;
    int64_t size = qc_tensor_dim(y, -1);

    if (y->rank != 2 || y->dims[0] != row_count(rows) || results->count != tokens * size ||
        qc_tensor_dim(results, -1) != size || y->dtype != results->dtype)
        return mismatch(eval, op, y, results);
    float *sums = calloc((size_t)results->count + 1, sizeof *sums), *row_values = qc_eval_row(eval, size);
    if (!sums)
        return qc_error(
            eval->diag, qc_eval_where(eval, op), "no memory for %s", qc_tensor_text(eval->scratch, results));
    qc_status status = QC_OK;
    for (int64_t row = 0; row < y->dims[0]; row++) {
        status = read_row(eval, op, rows, row, ROW_TOKEN, 0, tokens, &token);
        if (status == QC_OK)
            status = read_row(eval, op, rows, row, ROW_SLOT, -1, k, &slot);
        if (status != QC_OK)
            break;
        if (slot < 0)
            continue;
        float *sum = sums + token * size;
        qc_tensor_read(y, row * size, size, row_values);
        for (int64_t i = 0; i < size; i++)
            sum[i] += row_values[i];
        if (each) {
            qc_tensor_write(results, token * size, size, sum);
            qc_tensor_read(results, token * size, size, sum);
        }
    }
    if (status == QC_OK)
        qc_tensor_write(results, 0, results->count, sums);
    free(sums);
    return status;
}
