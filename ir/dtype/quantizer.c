/* SPDX-License-Identifier: MIT
 *
 * quantizer.c - scales and zero points, and codes and values under one scale (see quantizer.h). The forms over
 * rows and blocks are in quantizer_rows.c.
 *
 * The order of steps is that of compressed-tensors 0.19 on a CPU: range, widened to hold 0; local scale in D;
 * times the global scale, in f32; rounded to the type of the scale; a zero replaced. Powers of two follow the
 * OCP Microscaling formats with its rounding of the largest magnitude: up from a significand of 1.75.
 */
#include "ir/dtype/quantizer.h"

#include <math.h>

#include "ir/dtype/kernels.h"

/* Unlike fminf and fmaxf these let a NaN win. */
static float smaller(float a, float b)
{
    return isnan(a) || a < b ? a : b;
}

static float larger(float a, float b)
{
    return isnan(a) || a > b ? a : b;
}

float qc_quantizer_global(const qc_quantizer *q, float amax)
{
    const qc_dtype d = q->model_dtype;
    const float least = d == QC_F16 ? 0x1p-14f : 0x1p-126f; /* the smallest normal number */
    float m = larger(amax, 0.0f);
    m = m < least ? least : m;
    const float most = 6.0f * (q->scale_max != 0.0f ? q->scale_max : 448.0f);
    float g = qc_round_to(d, qc_round_to(d, 1.0f / m) * most);
    return isfinite(g) ? g : 1.0f;
}

static float zero_point_on_grid(qc_grid grid, float zero_point)
{
    float clamped = zero_point < grid.min ? grid.min : zero_point > grid.max ? grid.max : zero_point;
    if (grid.storage != QC_I8)
        return qc_round_to(grid.storage, clamped);
    return isnan(clamped) ? 0.0f : nearbyintf(clamped) + 0.0f; /* an integer has no -0 */
}

/* The power of two of an MX scale, as a number in D. The exponent field of m goes up by one where the upper
 * two bits of the fraction are set; subnormal numbers count as 0, whose exponent is below every other. */
static float power_of_two(const qc_quantizer *q, float m)
{
    if (isnan(m))
        return m;
    const int mantissa = q->model_dtype == QC_F16 ? 10 : q->model_dtype == QC_BF16 ? 7 : 23;
    const int bias = q->model_dtype == QC_F16 ? 15 : 127;
    uint32_t bits = q->model_dtype == QC_F16    ? qc_f16_from_f32(m)
                    : q->model_dtype == QC_BF16 ? qc_bf16_from_f32(m)
                                                : qc_f32_bits(m);
    int exponent = (int)((bits + (1u << (mantissa - 2))) >> mantissa);
    int code = exponent == 0              ? 0
               : exponent == 2 * bias + 1 ? 255
                                          : 127 + exponent - bias - (q->grid.bits == 4 ? 2 : 8);
    code = code < 0 ? 0 : code > 255 ? 255 : code;
    /* 2^-127 is a subnormal f32, 2^128 its infinity */
    float power = code == 0 ? 0x1p-127f : qc_f32_from_bits((uint32_t)code << 23);
    return qc_round_to(q->model_dtype, power);
}

/* What replaces a scale of 0 of that type. */
static float least_scale(const qc_arith *arith, qc_dtype type)
{
    switch (type) {
    case QC_BF16:
        return arith->zero_scale_bf16;
    case QC_F16:
        return arith->zero_scale_f16;
    case QC_F8E4M3:
        return arith->zero_scale_f8e4m3;
    case QC_F8E8M0:
        return arith->zero_scale_f8e8m0;
    default:
        return arith->zero_scale_f32;
    }
}

/* The scale before anything is made of it that depends on global scale or scale type. */
static float local_scale(const qc_quantizer *q, qc_dtype step, float min, float max)
{
    const qc_grid grid = q->grid;
    if (!q->symmetric)
        return qc_round_to(step, qc_round_to(step, max - min) / (grid.max - grid.min));
    float m = larger(fabsf(min), fabsf(max));
    if (q->scale_type == QC_F8E8M0)
        return power_of_two(q, m);
    bool by_max = grid.storage != QC_I8 || q->arith->int_divisor == QC_INT_DIVISOR_MAX;
    float divisor = by_max ? grid.max : (grid.max - grid.min) / 2; /* the float grids are symmetric anyway */
    return qc_round_to(step, m / divisor);
}

void qc_quantizer_scale(
    const qc_quantizer *q, float min, float max, float global, float *scale, float *zero_point)
{
    const qc_dtype step = q->arith->round_scale ? q->model_dtype : QC_F32;
    min = smaller(min, 0.0f);
    max = larger(max, 0.0f);
    float s = local_scale(q, step, min, max), zp = 0.0f;
    if (!q->symmetric) {
        float quotient = qc_round_to(step, q->grid.min - qc_round_to(step, min / s));
        zp = zero_point_on_grid(q->grid, quotient);
    }
    s = qc_round_to(q->model_dtype, s);
    qc_dtype held = q->model_dtype;
    if (global != 0.0f) {
        s = global * s;
        held = QC_F32;
    }
    qc_dtype type = q->scale_type != QC_DTYPE_NONE ? q->scale_type : held;
    if (q->scale_type != QC_DTYPE_NONE && type != QC_F8E8M0) {
        /* the limit is a number of the type that holds the scale: 65504 is 65536 in bf16, and no limit then */
        float most = qc_round_to(held, (float)qc_dtype_max(type));
        s = s > most ? most : s < -most ? -most : s;
        s = qc_round_to(held, qc_round_to(type, s));
    }
    *scale = s == 0.0f ? least_scale(q->arith, type) : s;
    *zero_point = zp;
}

/* ---- codes and values under one scale ------------------------------------------------------------------ */

void qc_quantizer_quantize(const qc_quantizer *q, const void *x, size_t count, float scale, float global,
    float zero_point, uint8_t *codes)
{
    qc_quantizer_rows_codes(q, x, 1, (int64_t)count, (int64_t)count, &scale, global, &zero_point, codes);
}

void qc_quantizer_dequantize(const qc_quantizer *q, qc_dtype to, const uint8_t *codes, size_t count,
    float scale, float global, float zero_point, void *x)
{
    qc_quantizer_rows_dequantize(
        q, to, codes, 1, (int64_t)count, (int64_t)count, &scale, global, &zero_point, x);
}

void qc_quantizer_scales(const qc_quantizer *q, const float *mins, const float *maxs, int64_t count,
    float global, float *scales, float *zero_points)
{
    if (qc_kernel_scales(q, mins, maxs, (size_t)count, global, scales, zero_points))
        return;
    for (int64_t i = 0; i < count; i++) {
        float zero_point;
        qc_quantizer_scale(q, mins[i], maxs[i], global, &scales[i], &zero_point);
        if (zero_points)
            zero_points[i] = zero_point;
    }
}
