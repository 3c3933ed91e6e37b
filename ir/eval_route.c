/* SPDX-License-Identifier: MIT
 *
 * eval_route.c - reference semantics of choosing experts: topk, take, mask_groups and expert_rows (see eval.h).
 *
 * Scores are compared as f32, as which every element type that they have is exact. A NaN is larger than every number,
 * as PyTorch has it. Ids that name what is not there are errors, and so is a token that names an expert twice: its
 * row of `expert_rows` with `all` could say only one of the two slots.
 */
#include <math.h>
#include <stdlib.h>

#include "ir/eval.h"
#include "ir/ir.h"
#include "op_table.h"

static qc_status mismatch(qc_eval *eval, const qc_op *op, const qc_tensor *x, const qc_tensor *y)
{
    return qc_error(eval->diag, qc_eval_where(eval, op), "%s and %s do not fit",
        qc_tensor_text(eval->scratch, x), qc_tensor_text(eval->scratch, y));
}

static void put_int(qc_tensor *t, int64_t at, int64_t value)
{
    int32_t narrow = (int32_t)value;
    memcpy((char *)t->data + (size_t)at * sizeof narrow, &narrow, sizeof narrow);
}

/* Do both have the same dimensions but for the last? */
static bool same_lines(const qc_tensor *x, const qc_tensor *y)
{
    bool same = x->rank == y->rank && x->rank > 0;
    for (int i = 0; same && i < x->rank - 1; i++)
        same = x->dims[i] == y->dims[i];
    return same;
}

static int64_t line_count(const qc_tensor *x)
{
    int64_t length = qc_tensor_dim(x, -1);
    return length ? x->count / length : 0;
}

/* ---- topk, take ---------------------------------------------------------------------------------------- */

static bool is_above(float a, float b)
{
    return isnan(a) ? !isnan(b) : a > b;
}

/* Fills chosen[k]: the largest first, of equals the one that stands first. */
static void choose(const float *scores, int64_t count, int64_t k, int64_t *chosen)
{
    int64_t filled = 0;
    for (int64_t i = 0; i < count; i++) {
        int64_t place = filled;
        while (place > 0 && is_above(scores[i], scores[chosen[place - 1]]))
            place--;
        if (place == k)
            continue;
        filled += filled < k;
        for (int64_t j = filled - 1; j > place; j--)
            chosen[j] = chosen[j - 1];
        chosen[place] = i;
    }
}

qc_status qc_eval_topk(qc_eval *eval, const qc_op *op, const qc_tensor *const *operands, qc_tensor *results)
{
    const qc_tensor *x = operands[0];
    int64_t k = qc_attr_as_int(qc_op_attr(op, "k")), count = qc_tensor_dim(x, -1);

    if (!same_lines(x, results) || k < 1 || k > count || qc_tensor_dim(results, -1) != k ||
        results->dtype != QC_I32)
        return mismatch(eval, op, x, results);
    float *scores = qc_eval_row(eval, count);
    int64_t *chosen = QC_NEW_ARRAY(eval->scratch, int64_t, (size_t)k);
    for (int64_t line = 0; line < line_count(x); line++) {
        qc_tensor_read(x, line * count, count, scores);
        choose(scores, count, k, chosen);
        for (int64_t j = 0; j < k; j++)
            put_int(results, line * k + j, chosen[j]);
    }
    return QC_OK;
}

/* Id `at` of ids, which must be below `count`; -1 after a diagnostic. */
static int64_t read_id(qc_eval *eval, const qc_op *op, const qc_tensor *ids, int64_t at, int64_t count)
{
    int64_t id = qc_tensor_int(ids, at);
    if (id >= 0 && id < count)
        return id;
    qc_error(
        eval->diag, qc_eval_where(eval, op), "id %lld is not one of %lld", (long long)id, (long long)count);
    return -1;
}

qc_status qc_eval_take(qc_eval *eval, const qc_op *op, const qc_tensor *const *operands, qc_tensor *results)
{
    const qc_tensor *x = operands[0], *ids = operands[1];
    int64_t count = qc_tensor_dim(x, -1), k = qc_tensor_dim(ids, -1);

    if (!same_lines(x, ids) || !qc_tensor_same_shape(ids, results) || x->dtype != results->dtype)
        return mismatch(eval, op, x, ids);
    for (int64_t at = 0; at < ids->count; at++) {
        int64_t id = read_id(eval, op, ids, at, count);
        if (id < 0)
            return QC_ERROR;
        qc_tensor_copy(results, at, x, at / k * count + id, 1);
    }
    return QC_OK;
}

/* ---- mask_groups --------------------------------------------------------------------------------------- */

qc_status qc_eval_mask_groups(
    qc_eval *eval, const qc_op *op, const qc_tensor *const *operands, qc_tensor *results)
{
    const qc_tensor *x = operands[0], *ids = operands[1];
    int64_t groups = qc_attr_as_int(qc_op_attr(op, "groups")), count = qc_tensor_dim(x, -1);
    int64_t chosen = qc_tensor_dim(ids, -1);
    float fill = (float)qc_attr_as_float(qc_op_attr(op, "fill"));

    if (!same_lines(x, ids) || groups < 1 || count % groups != 0 || !qc_tensor_same_shape(x, results) ||
        x->dtype != results->dtype)
        return mismatch(eval, op, x, ids);
    int64_t size = count / groups;
    float *masked = qc_eval_row(eval, count);
    for (int64_t i = 0; i < count; i++)
        masked[i] = fill;
    for (int64_t line = 0; line < line_count(x); line++) {
        qc_tensor_write(results, line * count, count, masked);
        for (int64_t j = 0; j < chosen; j++) {
            int64_t group = read_id(eval, op, ids, line * chosen + j, groups);
            if (group < 0)
                return QC_ERROR;
            int64_t first = line * count + group * size;
            qc_tensor_copy(results, first, x, first, size);
        }
    }
    return QC_OK;
}

/* ---- expert_rows --------------------------------------------------------------------------------------- */

typedef struct choice {
    int64_t expert, token, slot;
} choice;

static int compare_choices(const void *a, const void *b)
{
    const choice *x = a, *y = b;
    if (x->expert != y->expert)
        return x->expert < y->expert ? -1 : 1;
    return x->token < y->token ? -1 : x->token > y->token;
}

/* What tokens chose, by expert, then token. NULL after a diagnostic. */
static choice *sorted_choices(qc_eval *eval, const qc_op *op, const qc_tensor *ids, int64_t experts)
{
    int64_t k = qc_tensor_dim(ids, -1);
    choice *choices = QC_NEW_ARRAY(eval->scratch, choice, (size_t)ids->count + 1);
    for (int64_t at = 0; at < ids->count; at++) {
        choices[at] = (choice){read_id(eval, op, ids, at, experts), at / k, at % k};
        if (choices[at].expert < 0)
            return NULL;
    }
    if (ids->count)
        qsort(choices, (size_t)ids->count, sizeof *choices, compare_choices);
    for (int64_t at = 1; at < ids->count; at++)
        if (compare_choices(&choices[at - 1], &choices[at]) == 0) {
            qc_error(eval->diag, qc_eval_where(eval, op), "token %lld names expert %lld twice",
                (long long)choices[at].token, (long long)choices[at].expert);
            return NULL;
        }
    return choices;
}

qc_status qc_eval_expert_rows(
    qc_eval *eval, const qc_op *op, const qc_tensor *const *operands, qc_tensor *results)
{
    const qc_tensor *ids = operands[0];
    int64_t experts = qc_attr_as_int(qc_op_attr(op, "experts")), tokens = line_count(ids);
    bool all = qc_attr_as_bool(qc_op_attr(op, "all"));
    int64_t rows = qc_tensor_dim(results, 1), next = 0;

    if (ids->rank < 1 || experts < 1 || experts > INT32_MAX || tokens > INT32_MAX || results->rank != 2 ||
        results->dims[0] != 3 || rows != (all ? experts * tokens : ids->count) || results->dtype != QC_I32)
        return mismatch(eval, op, ids, results);
    choice *choices = sorted_choices(eval, op, ids, experts);
    if (!choices)
        return QC_ERROR;
    for (int64_t row = 0; row < rows; row++) {
        choice c = all ? (choice){row / tokens, row % tokens, -1} : choices[row];
        if (all && next < ids->count && compare_choices(&c, &choices[next]) == 0)
            c = choices[next++];
        put_int(results, row, c.expert);
        put_int(results, rows + row, c.token);
        put_int(results, 2 * rows + row, c.slot);
    }
    return QC_OK;
}
