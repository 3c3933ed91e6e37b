/* SPDX-License-Identifier: MIT
 *
 * kernel_scales.c - see kernels.h: ranges of short groups, and scales of many ranges at once.
 *
 * Bits of a float read as a sign and magnitude, turned into two's complement, order as the numbers do, NaN of
 * either sign beyond the infinities. Ranges of a group of 2^k elements come from k halvings of the whole
 * piece, each of them the smaller or larger of two neighbours: long loops instead of one short one a group.
 */
#include "ir/dtype/kernels.h"

/* ---- ranges -------------------------------------------------------------------------------------------- */

#define HALVE(name, type, compare)                                                                           \
    QC_WIDE static void name(const type *restrict from, type *restrict to, size_t count)                     \
    {                                                                                                        \
        for (size_t i = 0; i < count; i++) {                                                                 \
            type a = from[2 * i], b = from[2 * i + 1];                                                       \
            to[i] = a compare b ? a : b;                                                                     \
        }                                                                                                    \
    }
HALVE(halve_min_16, int16_t, <)
HALVE(halve_max_16, int16_t, >)
HALVE(halve_min_32, int32_t, <)
HALVE(halve_max_32, int32_t, >)

QC_WIDE static void first_16(
    const int16_t *restrict x, int16_t *restrict min, int16_t *restrict max, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int16_t a = x[2 * i], b = x[2 * i + 1];
        a = (int16_t)(a ^ ((a >> 15) & 0x7fff));
        b = (int16_t)(b ^ ((b >> 15) & 0x7fff));
        min[i] = a < b ? a : b;
        max[i] = a > b ? a : b;
    }
}

QC_WIDE static void first_32(
    const int32_t *restrict x, int32_t *restrict min, int32_t *restrict max, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int32_t a = x[2 * i], b = x[2 * i + 1];
        a = a ^ ((a >> 31) & 0x7fffffff);
        b = b ^ ((b >> 31) & 0x7fffffff);
        min[i] = a < b ? a : b;
        max[i] = a > b ? a : b;
    }
}

QC_WIDE static void first_magnitude_16(const uint16_t *restrict x, int16_t *restrict max, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int16_t a = (int16_t)(x[2 * i] & 0x7fffu), b = (int16_t)(x[2 * i + 1] & 0x7fffu);
        max[i] = a > b ? a : b;
    }
}

QC_WIDE static void first_magnitude_32(const uint32_t *restrict x, int32_t *restrict max, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int32_t a = (int32_t)(x[2 * i] & 0x7fffffffu), b = (int32_t)(x[2 * i + 1] & 0x7fffffffu);
        max[i] = a > b ? a : b;
    }
}

/* Numbers of keys; both NaN where either is. */
QC_INLINE void ends(step_type model, int32_t low, int32_t high, float *min, float *max)
{
    const int bits = model == STEP_F32 ? 31 : 15;
    uint32_t a = (uint32_t)(low ^ ((low >> 31) & (int32_t)((1u << bits) - 1)));
    uint32_t b = (uint32_t)(high ^ ((high >> 31) & (int32_t)((1u << bits) - 1)));
    if (model == STEP_BF16)
        a <<= 16, b <<= 16;
    else if (model == STEP_F16)
        a = qc_bits_f16_decode(a & 0xffffu), b = qc_bits_f16_decode(b & 0xffffu);
    uint32_t nan = 0u - (uint32_t)((a & 0x7fffffffu) > QC_F32_INF || (b & 0x7fffffffu) > QC_F32_INF);
    *min = qc_f32_from_bits((a & ~nan) | (0x7fc00000u & nan));
    *max = qc_f32_from_bits((b & ~nan) | (0x7fc00000u & nan));
}

#define ENDS(name, type, model)                                                                              \
    QC_WIDE static void name(const type *restrict low, const type *restrict high, float *restrict min,       \
        float *restrict max, size_t count)                                                                   \
    {                                                                                                        \
        for (size_t i = 0; i < count; i++)                                                                   \
            ends(model, low[i], high[i], &min[i], &max[i]);                                                  \
    }
ENDS(ends_bf16, int16_t, STEP_BF16)
ENDS(ends_f16, int16_t, STEP_F16)
ENDS(ends_f32, int32_t, STEP_F32)

void qc_kernel_ranges(step_type model, const void *x, size_t count, size_t group, float *mins, float *maxs)
{
    enum { HALF = KERNEL_RANGE_ELEMS / 2 };
    union {
        int16_t narrow[2][2][HALF];
        int32_t wide[2][2][HALF];
    } keys; /* [which of two][min, max] */
    int from = 0;
    size_t n = count / 2;
    if (model == STEP_F32)
        first_32(x, keys.wide[0][0], keys.wide[0][1], n);
    else
        first_16(x, keys.narrow[0][0], keys.narrow[0][1], n);
    for (size_t left = group / 2; left > 1; left /= 2, from = !from) {
        n /= 2;
        if (model == STEP_F32) {
            halve_min_32(keys.wide[from][0], keys.wide[!from][0], n);
            halve_max_32(keys.wide[from][1], keys.wide[!from][1], n);
        } else {
            halve_min_16(keys.narrow[from][0], keys.narrow[!from][0], n);
            halve_max_16(keys.narrow[from][1], keys.narrow[!from][1], n);
        }
    }
    if (model == STEP_F32)
        ends_f32(keys.wide[from][0], keys.wide[from][1], mins, maxs, n);
    else
        (model == STEP_BF16 ? ends_bf16 : ends_f16)(
            keys.narrow[from][0], keys.narrow[from][1], mins, maxs, n);
}

void qc_kernel_magnitudes(step_type model, const void *x, size_t count, size_t group, float *maxs)
{
    enum { HALF = KERNEL_RANGE_ELEMS / 2 };
    union {
        int16_t narrow[2][HALF];
        int32_t wide[2][HALF];
    } keys;
    int from = 0;
    size_t n = count / 2;
    if (model == STEP_F32)
        first_magnitude_32(x, keys.wide[0], n);
    else
        first_magnitude_16(x, keys.narrow[0], n);
    for (size_t left = group / 2; left > 1; left /= 2, from = !from) {
        n /= 2;
        if (model == STEP_F32)
            halve_max_32(keys.wide[from], keys.wide[!from], n);
        else
            halve_max_16(keys.narrow[from], keys.narrow[!from], n);
    }
    float same[KERNEL_RANGE_ELEMS / KERNEL_STEP]; /* a magnitude is its own smaller end */
    if (model == STEP_F32)
        ends_f32(keys.wide[from], keys.wide[from], same, maxs, n);
    else
        (model == STEP_BF16 ? ends_bf16 : ends_f16)(keys.narrow[from], keys.narrow[from], same, maxs, n);
}

/* ---- scales -------------------------------------------------------------------------------------------- */

typedef enum scale_kind {
    SCALE_PLAIN,  /* in D */
    SCALE_GLOBAL, /* f8e4m3, relative to a global scale */
    SCALE_POWER,  /* a power of two */
    SCALE_ZERO,   /* in D, with a zero point */
} scale_kind;

typedef struct scale_params {
    float divisor, global, least, grid_min, span;
    int offset;
} scale_params;

/* As power_of_two in quantizer.c, without choices. */
QC_INLINE float clean_power(step_type model, float m, int offset)
{
    const int mantissa = model == STEP_F16    ? 10
                         : model == STEP_BF16 ? 7
                                              : 23,
              bias = model == STEP_F16 ? 15 : 127;
    const uint32_t u = qc_f32_bits(m);
    uint32_t bits = model == STEP_F16 ? qc_bits_f16_encode(u) : model == STEP_BF16 ? u >> 16 : u;
    int32_t exponent = (int32_t)((bits + (1u << (mantissa - 2))) >> mantissa);
    int32_t code = 127 + exponent - bias - offset;
    code = code < 0 ? 0 : code;
    code = exponent == 0 ? 0 : exponent == 2 * bias + 1 ? 255 : code;
    uint32_t power = code == 0 ? 0x00400000u : (uint32_t)code << 23;
    float s = round_step(model, qc_f32_from_bits(power));
    uint32_t nan = 0u - (uint32_t)((u & 0x7fffffffu) > QC_F32_INF);
    return qc_f32_from_bits((qc_f32_bits(s) & ~nan) | (0x7fc00000u & nan));
}

/* A NaN stays one through every step: comparisons with it are false. */
QC_INLINE float clean_scale(
    scale_kind kind, step_type model, float min, float max, const scale_params *p, float *zero_point)
{
    min = min > 0.0f ? 0.0f : min;
    max = max < 0.0f ? 0.0f : max;
    float s, m = max > -min ? max : -min;
    m = max == max ? m : max;
    m = qc_f32_from_bits(qc_f32_bits(m) & 0x7fffffffu); /* of two zeros the negative one may have won */
    if (kind == SCALE_ZERO) {
        s = round_step(model, round_step(model, max - min) / p->span);
        float t = round_step(model, qc_f32_from_bits(qc_bits_canonical(qc_f32_bits(min / s))));
        t = round_step(model, p->grid_min - t);
        *zero_point = (float)qc_bits_to_small_int(t, p->grid_min, p->grid_min + p->span);
    } else if (kind == SCALE_POWER) {
        s = clean_power(model, m, p->offset);
    } else {
        s = round_step(model, m / p->divisor);
    }
    if (kind == SCALE_GLOBAL) {
        s = p->global * s;
        float near = step_nearest_e4m3(s);
        s = s == s ? near : s;
    }
    return s == 0.0f ? p->least : s;
}

#define SCALES(name, kind, model)                                                                            \
    QC_WIDE static void name(const float *restrict mins, const float *restrict maxs, size_t count,           \
        scale_params params, float *restrict scales, float *restrict zero_points)                            \
    {                                                                                                        \
        for (size_t i = 0; i < count; i++) {                                                                 \
            float zero_point = 0.0f;                                                                         \
            scales[i] = clean_scale(kind, model, mins[i], maxs[i], &params, &zero_point);                    \
            if (kind == SCALE_ZERO)                                                                          \
                zero_points[i] = zero_point;                                                                 \
        }                                                                                                    \
    }
#define SCALES_OF(name, model)                                                                               \
    SCALES(plain_##name, SCALE_PLAIN, model)                                                                 \
    SCALES(global_##name, SCALE_GLOBAL, model)                                                               \
    SCALES(power_##name, SCALE_POWER, model)                                                                 \
    SCALES(zero_##name, SCALE_ZERO, model)
SCALES_OF(bf16, STEP_BF16)
SCALES_OF(f16, STEP_F16)
SCALES_OF(f32, STEP_F32)

typedef void scales_kernel(const float *restrict mins, const float *restrict maxs, size_t count,
    scale_params params, float *restrict scales, float *restrict zero_points);

bool qc_kernel_scales(const qc_quantizer *q, const float *mins, const float *maxs, size_t count, float global,
    float *scales, float *zero_points)
{
    static scales_kernel *const kernels[][3] = {
        [SCALE_PLAIN] = {plain_bf16, plain_f16, plain_f32},
        [SCALE_GLOBAL] = {global_bf16, global_f16, global_f32},
        [SCALE_POWER] = {power_bf16, power_f16, power_f32},
        [SCALE_ZERO] = {zero_bf16, zero_f16, zero_f32},
    };
    const bool integers = q->grid.storage == QC_I8;
    const float span = q->grid.max - q->grid.min;
    const step_type model = step_of(q->model_dtype);
    scale_params p = {
        .divisor = !integers || q->arith->int_divisor == QC_INT_DIVISOR_MAX ? q->grid.max : span / 2,
        .global = global,
        .grid_min = q->grid.min,
        .span = span,
        .offset = q->grid.bits == 4 ? 2 : 8,
    };
    scale_kind kind;
    if (!q->arith->round_scale)
        return false;
    if (q->symmetric && q->scale_type == QC_F8E4M3 && global != 0.0f) {
        kind = SCALE_GLOBAL;
        p.least = q->arith->zero_scale_f8e4m3;
    } else if (q->symmetric && q->scale_type == QC_F8E8M0 && global == 0.0f) {
        kind = SCALE_POWER;
        p.least = q->arith->zero_scale_f8e8m0;
    } else if (q->scale_type == QC_DTYPE_NONE && global == 0.0f &&
               (q->symmetric || (integers && zero_points))) {
        kind = q->symmetric ? SCALE_PLAIN : SCALE_ZERO;
        p.least = model == STEP_BF16  ? q->arith->zero_scale_bf16
                  : model == STEP_F16 ? q->arith->zero_scale_f16
                                      : q->arith->zero_scale_f32;
    } else {
        return false;
    }
    kernels[kind][model](mins, maxs, count, p, scales, zero_points);
    for (size_t i = 0; q->symmetric && zero_points && i < count; i++)
        zero_points[i] = 0;
    return true;
}
