/* SPDX-License-Identifier: MIT
 *
 * arith.c - dialects, grids, ranges and their folds, in the element type of the model (see arith.h).
 *
 * The rows ct_cpu and ct_cpu_bare follow what compressed-tensors 0.19 does on a CPU: every elementary
 * operation on bf16 or f16 is that operation in f32, rounded to the type. Its kernels for GPUs, which the rows
 * ct_cuda and ct_cuda_bare follow, divide and add in f32.
 *
 * Invariant: results depend on the numbers only, not on vector width, position or count.
 */
#include "ir/dtype/arith.h"

#include <math.h>

#include "ir/dtype/codec_bits.h"

static const qc_arith dialects[] = {
    {
        .name = "ct_cpu",
        .summary = "compressed-tensors on a CPU: each step in the model's type, zero points always added",
        .round_scale = true,
        .round_quotient = true,
        .add_zero_point = true,
        .int_divisor = QC_INT_DIVISOR_HALF_SPAN,
        .zero_scale_bf16 = 0x1p-7f,
        .zero_scale_f16 = 0x1p-10f,
        .zero_scale_f32 = 0x1p-23f,
        .zero_scale_f8e4m3 = 0.125f,
        .zero_scale_f8e8m0 = 1,
    },
    {
        .name = "ct_cpu_bare",
        .summary =
            "as ct_cpu for weights converted without a model: symmetric schemes have no zero point to add",
        .round_scale = true,
        .round_quotient = true,
        .add_zero_point = false,
        .int_divisor = QC_INT_DIVISOR_HALF_SPAN,
        .zero_scale_bf16 = 0x1p-7f,
        .zero_scale_f16 = 0x1p-10f,
        .zero_scale_f32 = 0x1p-23f,
        .zero_scale_f8e4m3 = 0.125f,
        .zero_scale_f8e8m0 = 1,
    },
    {
        .name = "ct_cuda",
        .summary =
            "compressed-tensors on a GPU: as ct_cpu, but quotients and sums with zero points stay in f32",
        .round_scale = true,
        .round_quotient = false,
        .add_zero_point = true,
        .int_divisor = QC_INT_DIVISOR_HALF_SPAN,
        .zero_scale_bf16 = 0x1p-7f,
        .zero_scale_f16 = 0x1p-10f,
        .zero_scale_f32 = 0x1p-23f,
        .zero_scale_f8e4m3 = 0.125f,
        .zero_scale_f8e8m0 = 1,
    },
    {
        .name = "ct_cuda_bare",
        .summary =
            "as ct_cuda for weights converted without a model: symmetric schemes have no zero point to add",
        .round_scale = true,
        .round_quotient = false,
        .add_zero_point = false,
        .int_divisor = QC_INT_DIVISOR_HALF_SPAN,
        .zero_scale_bf16 = 0x1p-7f,
        .zero_scale_f16 = 0x1p-10f,
        .zero_scale_f32 = 0x1p-23f,
        .zero_scale_f8e4m3 = 0.125f,
        .zero_scale_f8e8m0 = 1,
    },
};

const qc_arith *qc_arith_at(size_t index)
{
    return index < sizeof dialects / sizeof dialects[0] ? &dialects[index] : NULL;
}

const qc_arith *qc_arith_find(const char *name, size_t length)
{
    const qc_arith *row;
    for (size_t i = 0; (row = qc_arith_at(i)) != NULL; i++)
        if (strlen(row->name) == length && memcmp(row->name, name, length) == 0)
            return row;
    return NULL;
}

qc_grid qc_grid_int(int bits)
{
    if (bits < 2 || bits > 8)
        return (qc_grid){QC_DTYPE_NONE, 0, 0, 0};
    float half = (float)(1 << (bits - 1));
    return (qc_grid){QC_I8, bits, -half, half - 1};
}

qc_grid qc_grid_of(qc_dtype dtype)
{
    switch (dtype) {
    case QC_F8E4M3:
    case QC_F8E5M2: {
        float max = (float)qc_dtype_max(dtype);
        return (qc_grid){dtype, 8, -max, max};
    }
    case QC_F4E2M1:
        return (qc_grid){dtype, 4, -6, 6};
    case QC_I2:
    case QC_I3:
    case QC_I4:
    case QC_I5:
    case QC_I6:
    case QC_I7:
    case QC_I8:
        return qc_grid_int(qc_dtype_bits(dtype));
    default:
        return qc_grid_int(0);
    }
}

/* Unlike fminf and fmaxf these let a NaN win. */
static float smaller(float a, float b)
{
    return isnan(a) || a < b ? a : b;
}

static float larger(float a, float b)
{
    return isnan(a) || a > b ? a : b;
}

/* ---- minimum and maximum ----
 * Bits of a float read as a sign and magnitude, turned into two's complement, order as the numbers do, NaN of
 * either sign beyond the infinities. Integer minimum and maximum vectorise and need no rule for NaN. */

QC_WIDE static void minmax_16(const uint16_t *restrict x, size_t count, int *min, int *max)
{
    int16_t lo = INT16_MAX, hi = INT16_MIN;
    for (size_t i = 0; i < count; i++) {
        int16_t v = (int16_t)x[i];
        int16_t key = (int16_t)(v ^ ((v >> 15) & 0x7fff));
        lo = key < lo ? key : lo;
        hi = key > hi ? key : hi;
    }
    *min = lo;
    *max = hi;
}

QC_WIDE static void minmax_32(const float *restrict x, size_t count, int32_t *min, int32_t *max)
{
    int32_t lo = INT32_MAX, hi = INT32_MIN;
    for (size_t i = 0; i < count; i++) {
        int32_t v = (int32_t)qc_f32_bits(x[i]);
        int32_t key = v ^ ((v >> 31) & 0x7fffffff);
        lo = key < lo ? key : lo;
        hi = key > hi ? key : hi;
    }
    *min = lo;
    *max = hi;
}

void qc_arith_minmax(qc_dtype model_dtype, const void *x, size_t count, float *min, float *max)
{
    float lo, hi;
    if (model_dtype == QC_F32) {
        int32_t a, b;
        minmax_32(x, count, &a, &b);
        lo = qc_f32_from_bits((uint32_t)(a ^ ((a >> 31) & 0x7fffffff)));
        hi = qc_f32_from_bits((uint32_t)(b ^ ((b >> 31) & 0x7fffffff)));
    } else {
        int a, b;
        minmax_16(x, count, &a, &b);
        uint16_t first = (uint16_t)(a ^ ((a >> 15) & 0x7fff)), last = (uint16_t)(b ^ ((b >> 15) & 0x7fff));
        lo = model_dtype == QC_BF16 ? qc_bf16_to_f32(first) : qc_f16_to_f32(first);
        hi = model_dtype == QC_BF16 ? qc_bf16_to_f32(last) : qc_f16_to_f32(last);
    }
    if (isnan(lo) || isnan(hi))
        lo = hi = qc_f32_from_bits(0x7fc00000u);
    *min = lo;
    *max = hi;
}

/* ---- folds --------------------------------------------------------------------------------------------- */

bool qc_fold_from_observer(const char *name, size_t length, qc_fold *fold)
{
    static const char *const names[] = {
        [QC_FOLD_LAST] = "memoryless_minmax",
        [QC_FOLD_RUNNING] = "static_minmax",
        [QC_FOLD_MOVING_AVERAGE] = "minmax",
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strlen(names[i]) == length && memcmp(names[i], name, length) == 0) {
            *fold = (qc_fold)i;
            return true;
        }
    return false;
}

void qc_arith_fold_minmax(qc_fold fold, qc_dtype model_dtype, const float *mins, const float *maxs,
    size_t count, size_t stride_elems, double averaging_constant, float *min, float *max)
{
    const float fresh = (float)averaging_constant, kept = (float)(1.0 - averaging_constant);
    float lo = mins[0], hi = maxs[0];
    if (fold == QC_FOLD_MEAN) {
        double sum_lo = 0, sum_hi = 0;
        for (size_t i = 0; i < count; i++) {
            sum_lo += (double)mins[i * stride_elems];
            sum_hi += (double)maxs[i * stride_elems];
        }
        *min = qc_round_to(model_dtype, (float)(sum_lo / (double)count));
        *max = qc_round_to(model_dtype, (float)(sum_hi / (double)count));
        return;
    }
    for (size_t i = 1; i < count; i++) {
        float next_lo = mins[i * stride_elems], next_hi = maxs[i * stride_elems];
        if (fold == QC_FOLD_RUNNING) {
            lo = smaller(next_lo, lo);
            hi = larger(next_hi, hi);
        } else if (fold == QC_FOLD_LAST || averaging_constant == 1.0) {
            lo = next_lo;
            hi = next_hi;
        } else {
            lo = qc_round_to(
                model_dtype, qc_round_to(model_dtype, lo * kept) + qc_round_to(model_dtype, next_lo * fresh));
            hi = qc_round_to(
                model_dtype, qc_round_to(model_dtype, hi * kept) + qc_round_to(model_dtype, next_hi * fresh));
        }
    }
    *min = lo;
    *max = hi;
}
