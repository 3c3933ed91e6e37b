/* SPDX-License-Identifier: MIT
 *
 * simd_rows.c - loops over contiguous rows, written so that the compiler vectorises them.
 *
 * A sum keeps sixteen partial sums, element i in sum i mod 16, and folds them in halves: 8, 4, 2, 1. That is
 * one order for every vector width. Minimum and maximum compare the bits as integers (ordered key), which
 * settles -0 < +0 and shows infinities and NaN as out-of-range keys, so they do not depend on the order at
 * all.
 */
#include "backends/host/simd.h"
#include "backends/host/key.h"
#include "scalar.h" /* generated from the op table: what an elementwise op computes */

#if defined(__F16C__)
#include <immintrin.h>
#endif

#define JOIN2(a, b) a##b
#define JOIN(a, b) JOIN2(a, b)
enum { LANES = QC_HOST_LANES };

static void load_f16(const uint16_t *restrict src, float *restrict dst, size_t count)
{
    size_t i = 0;
#if defined(__F16C__)
    for (; i + 8 <= count; i += 8)
        _mm256_storeu_ps(dst + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(src + i))));
#endif
    for (; i < count; i++)
        dst[i] = qc_f16_to_f32(src[i]);
}

static void store_f16(const float *restrict src, uint16_t *restrict dst, size_t count)
{
    size_t i = 0;
#if defined(__F16C__)
    for (; i + 8 <= count; i += 8)
        _mm_storeu_si128((__m128i *)(void *)(dst + i),
            _mm256_cvtps_ph(_mm256_loadu_ps(src + i), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
#endif
    for (; i < count; i++)
        dst[i] = qc_f16_from_f32(src[i]);
}

static void load(qc_dtype dtype, const void *src, float *restrict dst, size_t count)
{
    const uint16_t *restrict half = src;

    if (dtype == QC_F32)
        memcpy(dst, src, count * sizeof *dst);
    else if (dtype == QC_F16)
        load_f16(half, dst, count);
    else
        for (size_t i = 0; i < count; i++)
            dst[i] = qc_bf16_to_f32(half[i]);
}

static void store(qc_dtype dtype, const float *restrict src, void *dst, size_t count)
{
    uint16_t *restrict half = dst;

    if (dtype == QC_F32)
        memcpy(dst, src, count * sizeof *src);
    else if (dtype == QC_F16)
        store_f16(src, half, count);
    else
        for (size_t i = 0; i < count; i++)
            half[i] = qc_bf16_from_f32(src[i]);
}

static void round_row(qc_dtype dtype, float *x, size_t count)
{
    if (dtype == QC_BF16) {
        for (size_t i = 0; i < count; i++)
            x[i] = qc_round_bf16(x[i]);
    } else if (dtype == QC_F16) {
        uint16_t half[256];
        for (size_t i = 0; i < count; i += 256) {
            size_t n = count - i < 256 ? count - i : 256;
            store_f16(x + i, half, n);
            load_f16(half, x + i, n);
        }
    }
}

static float fold_lanes(float *lane)
{
    for (size_t width = LANES / 2; width > 0; width /= 2)
        for (size_t l = 0; l < width; l++)
            lane[l] += lane[l + width];
    return lane[0];
}

/* By ordered keys: the compiler may take them in any order, and a NaN shows itself in the result. */
static float max_row(const float *x, size_t count)
{
    int32_t top = qc_host_key32(0xff800000u);

    for (size_t i = 0; i < count; i++) {
        int32_t key = qc_host_key32(qc_f32_bits(x[i]));
        top = key > top ? key : top;
    }
    return qc_f32_from_bits((uint32_t)qc_host_key32((uint32_t)top));
}

static float sum_row(const float *x, size_t count)
{
    float lane[LANES] = {0};
    size_t i = 0;

    for (; i + LANES <= count; i += LANES)
        for (size_t l = 0; l < LANES; l++)
            lane[l] += x[i + l];
    for (size_t l = 0; i < count; i++, l++)
        lane[l] += x[i];
    return fold_lanes(lane);
}

static float sum_squares(const float *x, size_t count)
{
    float lane[LANES] = {0};
    size_t i = 0;

    for (; i + LANES <= count; i += LANES)
        for (size_t l = 0; l < LANES; l++)
            lane[l] += x[i + l] * x[i + l];
    for (size_t l = 0; i < count; i++, l++)
        lane[l] += x[i] * x[i];
    return fold_lanes(lane);
}

static float exp_sum(float *x, size_t count, float shift)
{
    for (size_t i = 0; i < count; i++)
        x[i] = qc_scalar_exp(x[i] - shift);
    return sum_row(x, count);
}

static void scale(float *x, size_t count, float factor)
{
    for (size_t i = 0; i < count; i++)
        x[i] *= factor;
}

static void divide(float *x, size_t count, float divisor)
{
    for (size_t i = 0; i < count; i++)
        x[i] /= divisor;
}

#define BINARY_LOOP(expression)                                                                              \
    do {                                                                                                     \
        if (b_step) {                                                                                        \
            for (size_t i = 0; i < count; i++) {                                                             \
                float u = a[i], v = b[i];                                                                    \
                y[i] = expression;                                                                           \
            }                                                                                                \
        } else {                                                                                             \
            float v = b[0];                                                                                  \
            for (size_t i = 0; i < count; i++) {                                                             \
                float u = a[i];                                                                              \
                y[i] = expression;                                                                           \
            }                                                                                                \
        }                                                                                                    \
    } while (0)

static void binary(
    qc_host_binary_op op, const float *a, const float *b, size_t b_step, float *y, size_t count)
{
    switch (op) {
    case QC_HOST_ADD:
        BINARY_LOOP(qc_scalar_op_add(u, v));
        break;
    case QC_HOST_SUB:
        BINARY_LOOP(qc_scalar_op_sub(u, v));
        break;
    case QC_HOST_MUL:
        BINARY_LOOP(qc_scalar_op_mul(u, v));
        break;
    case QC_HOST_DIV:
        BINARY_LOOP(qc_scalar_op_div(u, v));
        break;
    case QC_HOST_MINIMUM:
        BINARY_LOOP(qc_scalar_op_minimum(u, v));
        break;
    case QC_HOST_MAXIMUM:
        BINARY_LOOP(qc_scalar_op_maximum(u, v));
        break;
    }
}

#define UNARY_LOOP(function)                                                                                 \
    for (size_t i = 0; i < count; i++)                                                                       \
        y[i] = function(x[i]);

static void unary(qc_host_unary_op op, const float *x, float *y, size_t count)
{
    switch (op) {
    case QC_HOST_SILU:
        UNARY_LOOP(qc_scalar_op_silu)
        break;
    case QC_HOST_SIGMOID:
        UNARY_LOOP(qc_scalar_op_sigmoid)
        break;
    case QC_HOST_GELU_TANH:
        UNARY_LOOP(qc_scalar_op_gelu_tanh)
        break;
    case QC_HOST_NEG:
        UNARY_LOOP(qc_scalar_op_neg)
        break;
    case QC_HOST_ABS:
        UNARY_LOOP(qc_scalar_op_abs)
        break;
    case QC_HOST_EXP:
        UNARY_LOOP(qc_scalar_op_exp)
        break;
    case QC_HOST_LOG:
        UNARY_LOOP(qc_scalar_op_log)
        break;
    case QC_HOST_SIN:
        UNARY_LOOP(qc_scalar_op_sin)
        break;
    case QC_HOST_COS:
        UNARY_LOOP(qc_scalar_op_cos)
        break;
    case QC_HOST_TANH:
        UNARY_LOOP(qc_scalar_op_tanh)
        break;
    case QC_HOST_SQRT:
        UNARY_LOOP(qc_scalar_op_sqrt)
        break;
    case QC_HOST_RSQRT:
        UNARY_LOOP(qc_scalar_op_rsqrt)
        break;
    case QC_HOST_FLOOR:
        UNARY_LOOP(qc_scalar_op_floor)
        break;
    }
}

static void minmax(qc_dtype dtype, const void *x, size_t count, int32_t *lowest, int32_t *highest)
{
    if (dtype == QC_F32) {
        const uint32_t *bits = x;
        int32_t low = INT32_MAX, high = INT32_MIN;
        for (size_t i = 0; i < count; i++) {
            int32_t key = qc_host_key32(bits[i]);
            low = key < low ? key : low;
            high = key > high ? key : high;
        }
        *lowest = low < *lowest ? low : *lowest;
        *highest = high > *highest ? high : *highest;
    } else {
        const uint16_t *bits = x;
        int16_t low = INT16_MAX, high = INT16_MIN;
        for (size_t i = 0; i < count; i++) {
            int16_t key = qc_host_key16(bits[i]);
            low = key < low ? key : low;
            high = key > high ? key : high;
        }
        *lowest = low < *lowest ? low : *lowest;
        *highest = high > *highest ? high : *highest;
    }
}

static void minmax_each(qc_dtype dtype, const void *x, size_t count, int32_t *lowest, int32_t *highest)
{
    const uint32_t *wide = x;
    const uint16_t *half = x;

    if (dtype == QC_F32)
        for (size_t i = 0; i < count; i++) {
            int32_t key = qc_host_key32(wide[i]);
            lowest[i] = key < lowest[i] ? key : lowest[i];
            highest[i] = key > highest[i] ? key : highest[i];
        }
    else
        for (size_t i = 0; i < count; i++) {
            int32_t key = qc_host_key16(half[i]);
            lowest[i] = key < lowest[i] ? key : lowest[i];
            highest[i] = key > highest[i] ? key : highest[i];
        }
}

#define TEXT2(x) #x
#define TEXT(x) TEXT2(x)

const qc_host_simd JOIN(qc_host_simd_, QC_HOST_ISA) = {
    .name = TEXT(QC_HOST_ISA),
    .product = JOIN(qc_host_product_, QC_HOST_ISA),
    .load = load,
    .store = store,
    .round = round_row,
    .max = max_row,
    .sum = sum_row,
    .sum_squares = sum_squares,
    .exp_sum = exp_sum,
    .scale = scale,
    .divide = divide,
    .binary = binary,
    .unary = unary,
    .minmax = minmax,
    .minmax_each = minmax_each,
    .codes = JOIN(qc_host_codes_, QC_HOST_ISA),
    .fwht = JOIN(qc_host_fwht_, QC_HOST_ISA),
    .transpose = JOIN(qc_host_transpose_, QC_HOST_ISA),
};
