/* SPDX-License-Identifier: MIT
 *
 * eval_shape.c - reference semantics of ops that move elements without changing their bits (see eval.h), and
 * of rotate_half, which negates some.
 */
#include "ir/dtype/codec.h"
#include "ir/eval.h"
#include "ir/ir.h"
#include "op_table.h"

static qc_status mismatch(qc_eval *eval, const qc_op *op, const qc_tensor *x, const qc_tensor *y)
{
    return qc_error(eval->diag, qc_eval_where(eval, op), "%s cannot become %s",
        qc_tensor_text(eval->scratch, x), qc_tensor_text(eval->scratch, y));
}

/* Products of the dimensions before and after `axis`. */
static int64_t outer_count(const qc_tensor *t, int axis)
{
    int64_t count = 1;
    for (int i = 0; i < axis; i++)
        count *= t->dims[i];
    return count;
}

static int64_t inner_count(const qc_tensor *t, int axis)
{
    int64_t count = 1;
    for (int i = axis + 1; i < t->rank; i++)
        count *= t->dims[i];
    return count;
}

/* The axis attribute from 0; -1 when out of range. */
static int axis_of(const qc_op *op, int rank)
{
    int64_t axis = qc_attr_as_int(qc_op_attr(op, "axis"));
    axis += axis < 0 ? rank : 0;
    return axis >= 0 && axis < rank ? (int)axis : -1;
}

qc_status qc_eval_reshape(
    qc_eval *eval, const qc_op *op, const qc_tensor *const *operands, qc_tensor *results)
{
    if (operands[0]->count != results->count || operands[0]->dtype != results->dtype)
        return mismatch(eval, op, operands[0], results);
    qc_tensor_copy(results, 0, operands[0], 0, results->count);
    return QC_OK;
}

qc_status qc_eval_transpose(
    qc_eval *eval, const qc_op *op, const qc_tensor *const *operands, qc_tensor *results)
{
    const qc_tensor *x = operands[0];
    const qc_attr *perm = qc_op_attr(op, "perm");
    int64_t strides[QC_MAX_RANK];

    if (qc_attr_count(perm) != (size_t)x->rank || results->rank != x->rank)
        return mismatch(eval, op, x, results);
    for (int i = 0; i < x->rank; i++) {
        int64_t from = qc_attr_as_int(qc_attr_item(perm, (size_t)i));
        if (from < 0 || from >= x->rank || results->dims[i] != x->dims[from])
            return mismatch(eval, op, x, results);
        strides[i] = inner_count(x, (int)from);
    }
    for (int64_t at = 0; at < results->count; at++) {
        int64_t rest = at, from = 0;
        for (int i = x->rank - 1; i >= 0; i--) {
            from += rest % results->dims[i] * strides[i];
            rest /= results->dims[i];
        }
        qc_tensor_copy(results, at, x, from, 1);
    }
    return QC_OK;
}

qc_status qc_eval_slice(qc_eval *eval, const qc_op *op, const qc_tensor *const *operands, qc_tensor *results)
{
    const qc_tensor *x = operands[0];
    int64_t start = qc_attr_as_int(qc_op_attr(op, "start")), stop = qc_attr_as_int(qc_op_attr(op, "stop"));
    int64_t step = qc_attr_as_int(qc_op_attr(op, "step"));
    int axis = axis_of(op, x->rank);

    if (axis < 0 || start < 0 || stop < start || stop > x->dims[axis] || step < 1 ||
        results->dtype != x->dtype)
        return mismatch(eval, op, x, results);
    int64_t inner = inner_count(x, axis), length = (stop - start) / step + ((stop - start) % step != 0);
    if (results->count != outer_count(x, axis) * length * inner)
        return mismatch(eval, op, x, results);
    int64_t run = step == 1 ? length * inner : inner, runs = step == 1 ? 1 : length;
    for (int64_t i = 0; i < outer_count(x, axis); i++)
        for (int64_t j = 0; j < runs; j++)
            qc_tensor_copy(results, i * length * inner + j * run, x,
                (i * x->dims[axis] + start + j * step) * inner, run);
    return QC_OK;
}

qc_status qc_eval_concat(qc_eval *eval, const qc_op *op, const qc_tensor *const *operands, qc_tensor *results)
{
    int axis = axis_of(op, results->rank);
    int64_t filled = 0;

    for (uint32_t k = 0; k < op->operand_count; k++) {
        const qc_tensor *x = operands[k];
        if (axis < 0 || x->rank != results->rank || x->dtype != results->dtype)
            return mismatch(eval, op, x, results);
        for (int i = 0; i < x->rank; i++)
            if (i == axis ? filled + x->dims[i] > results->dims[i] : x->dims[i] != results->dims[i])
                return mismatch(eval, op, x, results);
        int64_t inner = inner_count(x, axis), run = x->dims[axis] * inner;
        for (int64_t i = 0; i < outer_count(x, axis); i++)
            qc_tensor_copy(results, (i * results->dims[axis] + filled) * inner, x, i * run, run);
        filled += x->dims[axis];
    }
    if (axis < 0 || filled != results->dims[axis])
        return qc_error(eval->diag, qc_eval_where(eval, op), "the operands do not fill %s",
            qc_tensor_text(eval->scratch, results));
    return QC_OK;
}

/* flat [B, S, H * d] and split [B, H, S, d]; copies either way. */
static void move_heads(const qc_tensor *flat, const qc_tensor *split, qc_tensor *to)
{
    int64_t heads = split->dims[1], length = split->dims[2], size = split->dims[3];

    for (int64_t b = 0; b < split->dims[0]; b++)
        for (int64_t h = 0; h < heads; h++)
            for (int64_t s = 0; s < length; s++) {
                int64_t in_flat = ((b * length + s) * heads + h) * size;
                int64_t in_split = ((b * heads + h) * length + s) * size;
                if (to == flat)
                    qc_tensor_copy(to, in_flat, split, in_split, size);
                else
                    qc_tensor_copy(to, in_split, flat, in_flat, size);
            }
}

static bool heads_match(const qc_tensor *flat, const qc_tensor *split)
{
    return flat->rank == 3 && split->rank == 4 && flat->dims[0] == split->dims[0] &&
           flat->dims[1] == split->dims[2] && flat->count == split->count && flat->dtype == split->dtype;
}

qc_status qc_eval_split_heads(
    qc_eval *eval, const qc_op *op, const qc_tensor *const *operands, qc_tensor *results)
{
    if (!heads_match(operands[0], results) || results->dims[1] != qc_attr_as_int(qc_op_attr(op, "heads")))
        return mismatch(eval, op, operands[0], results);
    move_heads(operands[0], results, results);
    return QC_OK;
}

qc_status qc_eval_merge_heads(
    qc_eval *eval, const qc_op *op, const qc_tensor *const *operands, qc_tensor *results)
{
    if (!heads_match(results, operands[0]))
        return mismatch(eval, op, operands[0], results);
    move_heads(results, operands[0], results);
    return QC_OK;
}

qc_status qc_eval_repeat_heads(
    qc_eval *eval, const qc_op *op, const qc_tensor *const *operands, qc_tensor *results)
{
    const qc_tensor *x = operands[0];
    int64_t times = qc_attr_as_int(qc_op_attr(op, "times"));

    if (x->rank != 4 || results->rank != 4 || times < 1 || results->dims[0] != x->dims[0] ||
        results->dims[1] / times != x->dims[1] || results->dims[1] % times != 0 ||
        results->count != x->count * times)
        return mismatch(eval, op, x, results);
    int64_t run = x->dims[2] * x->dims[3];
    for (int64_t i = 0; i < results->dims[0] * results->dims[1]; i++)
        qc_tensor_copy(results, i * run, x, i / times * run, run);
    return QC_OK;
}

qc_status qc_eval_rotate_half(
    qc_eval *eval, const qc_op *op, const qc_tensor *const *operands, qc_tensor *results)
{
    const qc_tensor *x = operands[0];
    bool interleaved = qc_attr_as_bool(qc_op_attr(op, "interleaved"));
    int64_t size = qc_tensor_dim(x, -1), half = size / 2;
    /* Pairs of elements that change places: runs of `run` elements, each behind its partner. */
    int64_t run = interleaved ? 1 : half;

    if (size % 2 != 0 || !qc_tensor_same_shape(x, results))
        return mismatch(eval, op, x, results);
    float *row = qc_eval_row(eval, run);
    for (int64_t at = 0; at < x->count; at += 2 * run) {
        qc_tensor_read(x, at + run, run, row);
        for (int64_t i = 0; i < run; i++)
            row[i] = -row[i];
        qc_tensor_write(results, at, run, row);
        qc_tensor_copy(results, at + run, x, at, run);
    }
    return QC_OK;
}
