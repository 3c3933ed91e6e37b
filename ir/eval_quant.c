/* SPDX-License-Identifier: MIT
 *
 * eval_quant.c - reference semantics of quantization (see eval.h). The arithmetic is ir/dtype/arith.h; here
 * is which elements share a scale.
 */
#include <math.h>
#include <stdlib.h>

#include "ir/dtype/codec.h"
#include "ir/eval.h"
#include "ir/ir.h"
#include "ir/scheme.h"
#include "op_table.h"

static qc_status need_model_type(qc_eval *eval, const qc_op *op, qc_dtype dtype)
{
    if (dtype == QC_BF16 || dtype == QC_F16 || dtype == QC_F32)
        return QC_OK;
    return qc_error(eval->diag, qc_eval_where(eval, op), "quantization works on bf16, f16 and f32, not %s",
        qc_dtype_name(dtype));
}

static qc_status mismatch(qc_eval *eval, const qc_op *op, const qc_tensor *x, const qc_tensor *y)
{
    return qc_error(eval->diag, qc_eval_where(eval, op), "%s and %s do not fit",
        qc_tensor_text(eval->scratch, x), qc_tensor_text(eval->scratch, y));
}

static const void *at(const qc_tensor *x, int64_t offset)
{
    return (const char *)x->data + qc_tensor_bytes(x->dtype, offset);
}

static void join(float *min, float *max, float low, float high)
{
    *min = isnan(low) || low < *min ? low : *min;
    *max = isnan(high) || high > *max ? high : *max;
}

/* Weight of a new sequence in the moving average of the observer `minmax`. */
#define QC_AVERAGING_CONSTANT 0.01

/* ---- observe ------------------------------------------------------------------------------------------- */

/* The first dimension counts sequences; each gives one range a head (or tensor), which fold in order.
 * Statistics over several calls fold the same way, from the ranges of all their sequences. */
qc_status qc_eval_observe(
    qc_eval *eval, const qc_op *op, const qc_tensor *const *operands, qc_tensor *results)
{
    const qc_tensor *x = operands[0];
    const char *observer = qc_attr_as_text(qc_op_attr(op, "observer"));
    bool by_head = strcmp(qc_attr_as_text(qc_op_attr(op, "granularity")), "head") == 0;
    qc_fold fold;

    if (need_model_type(eval, op, x->dtype) != QC_OK)
        return QC_ERROR;
    if (!qc_fold_from_observer(observer, strlen(observer), &fold))
        return qc_error(eval->diag, qc_eval_where(eval, op), "unknown observer '%s'", observer);
    int64_t groups = by_head ? qc_tensor_dim(x, 1) : 1, sequences = qc_tensor_dim(x, 0);
    if (x->count == 0 || x->rank < (by_head ? 2 : 1) || results->count != 2 * groups)
        return mismatch(eval, op, x, results);
    int64_t run = x->count / (sequences * groups);
    float *mins = qc_eval_row(eval, sequences * groups), *maxs = qc_eval_row(eval, sequences * groups);
    for (int64_t i = 0; i < sequences * groups; i++)
        qc_arith_minmax(x->dtype, at(x, i * run), (size_t)run, &mins[i], &maxs[i]);
    for (int64_t g = 0; g < groups; g++) {
        float min, max;
        qc_arith_fold_minmax(fold, x->dtype, mins + g, maxs + g, (size_t)sequences, (size_t)groups,
            QC_AVERAGING_CONSTANT, &min, &max);
        qc_tensor_write(results, g, 1, &min);
        qc_tensor_write(results, groups + g, 1, &max);
    }
    return QC_OK;
}

/* ---- qparams ------------------------------------------------------------------------------------------- */

/* Range of the elements that share scale number `index` of `count`. */
static void range_of(
    const qc_tensor *x, qc_granularity granularity, int64_t index, int64_t count, float *min, float *max)
{
    if (granularity != QC_GRANULARITY_HEAD) {
        int64_t run = x->count / count;
        qc_arith_minmax(x->dtype, at(x, index * run), (size_t)run, min, max);
        return;
    }
    int64_t run = qc_tensor_dim(x, 2) * qc_tensor_dim(x, 3);
    qc_arith_minmax(x->dtype, at(x, index * run), (size_t)run, min, max);
    for (int64_t b = 1; b < x->dims[0]; b++) {
        float low, high;
        qc_arith_minmax(x->dtype, at(x, (b * count + index) * run), (size_t)run, &low, &high);
        join(min, max, low, high);
    }
}

/* How many scales x has; -1 when its shape does not suit the granularity. */
static int64_t scale_count(const qc_tensor *x, qc_granularity granularity)
{
    switch (granularity) {
    case QC_GRANULARITY_TENSOR:
        return 1;
    case QC_GRANULARITY_HEAD:
        return x->rank == 4 ? x->dims[1] : -1;
    case QC_GRANULARITY_CHANNEL:
        return x->rank == 2 ? x->dims[0] : -1;
    case QC_GRANULARITY_GROUP:
    case QC_GRANULARITY_BLOCK:
        return -1;
    case QC_GRANULARITY_TOKEN:
        return x->rank > 0 && qc_tensor_dim(x, -1) > 0 ? x->count / qc_tensor_dim(x, -1) : -1;
    }
    return -1;
}

qc_status qc_eval_qparams(
    qc_eval *eval, const qc_op *op, const qc_tensor *const *operands, qc_tensor *results)
{
    const qc_tensor *x = operands[0];
    bool from_stat = strcmp(qc_attr_as_text(qc_op_attr(op, "from")), "stat") == 0;
    const char *where = qc_eval_where(eval, op);
    const char *scheme = qc_attr_as_text(qc_op_attr(op, "scheme"));
    const char *arg = qc_attr_as_text(qc_op_attr(op, "arg"));
    qc_scheme_part part;

    if (need_model_type(eval, op, x->dtype) != QC_OK ||
        qc_scheme_read(eval->diag, where, eval->module, scheme, arg, &part) != QC_OK)
        return QC_ERROR;
    if (!part.symmetric)
        return qc_error(eval->diag, where, "@%s asks for a zero point, which qparams does not give", scheme);
    int64_t count =
        from_stat ? (x->rank == 2 && x->dims[0] == 2 ? x->dims[1] : -1) : scale_count(x, part.granularity);
    if (count < 0 || count != results->count || (!from_stat && count > 0 && x->count == 0))
        return mismatch(eval, op, x, results);
    for (int64_t i = 0; i < count; i++) {
        float min, max, scale, zero_point;
        if (from_stat) {
            qc_tensor_read(x, i, 1, &min);
            qc_tensor_read(x, count + i, 1, &max);
        } else {
            range_of(x, part.granularity, i, count, &min, &max);
        }
        if (!isfinite(min) || !isfinite(max))
            return qc_error(
                eval->diag, where, "values from %g to %g have no scale", (double)min, (double)max);
        qc_arith_scale(part.arith, x->dtype, part.grid, part.symmetric, min, max, &scale, &zero_point);
        qc_tensor_write(results, i, 1, &scale);
    }
    return QC_OK;
}

/* ---- quantize, dequantize ------------------------------------------------------------------------------ */

/* Scale of row `row` (of the last dimension of x) and the step from column to column, 0 or 1. */
static bool scale_strides(
    const qc_tensor *x, const qc_tensor *scale, int64_t row, int64_t *offset, int64_t *step)
{
    int64_t size = 1;

    if (scale->rank > x->rank)
        return false;
    *offset = 0;
    *step = qc_tensor_dim(scale, -1) == 1 ? 0 : 1;
    if (*step == 1 && qc_tensor_dim(scale, -1) != qc_tensor_dim(x, -1))
        return false;
    size = qc_tensor_dim(scale, -1);
    for (int i = -2; i >= -x->rank; i--) {
        int64_t dim = qc_tensor_dim(scale, i), in_x = qc_tensor_dim(x, i);
        if (dim != 1 && dim != in_x)
            return false;
        *offset += dim == 1 ? 0 : row % in_x * size;
        row /= in_x;
        size *= dim;
    }
    return true;
}

/* One byte a code, while the tensor may pack two to a byte. */
static uint8_t *codes_of(qc_eval *eval, const qc_op *op, const qc_tensor *t, qc_grid grid, bool fill)
{
    uint8_t *codes = malloc((size_t)t->count + 1);
    if (!codes)
        qc_error(eval->diag, qc_eval_where(eval, op), "no memory for %lld codes", (long long)t->count);
    else if (fill)
        qc_convert(t->dtype, t->data, grid.storage, codes, (size_t)t->count);
    return codes;
}

qc_status qc_eval_quantize(
    qc_eval *eval, const qc_op *op, const qc_tensor *const *operands, qc_tensor *results)
{
    const qc_tensor *x = operands[0], *scale = operands[1];
    const char *scheme = qc_attr_as_text(qc_op_attr(op, "scheme"));
    qc_scheme_part part;

    if (need_model_type(eval, op, x->dtype) != QC_OK ||
        qc_scheme_read(eval->diag, qc_eval_where(eval, op), eval->module, scheme,
            qc_attr_as_text(qc_op_attr(op, "arg")), &part) != QC_OK)
        return QC_ERROR;
    if (part.type != results->dtype || !qc_tensor_same_shape(x, results))
        return mismatch(eval, op, x, results);
    int64_t length = qc_tensor_dim(x, -1), offset, step;
    uint8_t *codes = codes_of(eval, op, x, part.grid, false);
    qc_status status = codes ? QC_OK : QC_ERROR;
    for (int64_t row = 0; status == QC_OK && length > 0 && row < x->count / length; row++) {
        if (!scale_strides(x, scale, row, &offset, &step)) {
            status = mismatch(eval, op, x, scale);
            break;
        }
        int64_t run = step == 0 ? length : 1;
        for (int64_t j = 0; j < length; j += run) {
            float s;
            qc_tensor_read(scale, offset + j * step, 1, &s);
            qc_arith_quantize(part.arith, x->dtype, part.grid, at(x, row * length + j), (size_t)run, s, 0.0f,
                codes + row * length + j);
        }
    }
    if (status == QC_OK)
        qc_convert(part.grid.storage, codes, results->dtype, results->data, (size_t)results->count);
    free(codes);
    return status;
}

qc_status qc_eval_dequantize(
    qc_eval *eval, const qc_op *op, const qc_tensor *const *operands, qc_tensor *results)
{
    const qc_tensor *x = operands[0], *scale = operands[1];
    qc_grid grid = qc_grid_of(x->dtype);

    if (need_model_type(eval, op, results->dtype) != QC_OK)
        return QC_ERROR;
    if (grid.storage == QC_DTYPE_NONE || !qc_tensor_same_shape(x, results))
        return mismatch(eval, op, x, results);
    int64_t length = qc_tensor_dim(x, -1), offset, step;
    uint8_t *codes = codes_of(eval, op, x, grid, true);
    qc_status status = codes ? QC_OK : QC_ERROR;
    for (int64_t row = 0; status == QC_OK && length > 0 && row < x->count / length; row++) {
        if (!scale_strides(x, scale, row, &offset, &step)) {
            status = mismatch(eval, op, x, scale);
            break;
        }
        int64_t run = step == 0 ? length : 1;
        for (int64_t j = 0; j < length; j += run) {
            float s;
            qc_tensor_read(scale, offset + j * step, 1, &s);
            qc_arith_dequantize(results->dtype, grid, codes + row * length + j, (size_t)run, s, 0.0f,
                (char *)results->data + qc_tensor_bytes(results->dtype, row * length + j));
        }
    }
    free(codes);
    return status;
}

/* ---- zero points, global scales ------------------------------------------------------------------------ */

qc_status qc_eval_zero_point(
    qc_eval *eval, const qc_op *op, const qc_tensor *const *operands, qc_tensor *results)
{
    (void)operands;
    (void)results;
    return qc_error(eval->diag, qc_eval_where(eval, op), "has no reference semantics");
}

qc_status qc_eval_global_scale(
    qc_eval *eval, const qc_op *op, const qc_tensor *const *operands, qc_tensor *results)
{
    (void)operands;
    (void)results;
    return qc_error(eval->diag, qc_eval_where(eval, op), "has no reference semantics");
}
