/* SPDX-License-Identifier: MIT
 *
 * kernels.c - see kernels.h: codes and values of pieces of rows.
 *
 * Division by multiplication. For bf16 x and s, both with 8 significant bits, x / s is no tie between two bf16
 * numbers and is away from every tie by more than 2^-17 of itself: with X, S and the tie T (9 bits, the last one
 * set) as integers, X * 2^k - T * S is an integer, not 0 because the odd part of T * S has more than 8 bits, and
 * T * S < 2^17. x times the f32 reciprocal of s is off by less than 2^-22, so it rounds to the same bf16 number.
 * Below the smallest normal number there are ties, but there the product is a multiple of 2^-149 and its error
 * smaller than half of that: a tie comes out as it is.
 */
#include "ir/dtype/kernels.h"

#include <math.h>

/* ---- NaN ----------------------------------------------------------------------------------------------- */

QC_WIDE static uint32_t largest_magnitude_16(const uint16_t *restrict x, size_t count)
{
    uint16_t most = 0;
    for (size_t i = 0; i < count; i++) {
        uint16_t a = x[i] & 0x7fffu;
        most = a > most ? a : most;
    }
    return most;
}

QC_WIDE static uint32_t largest_magnitude_32(const float *restrict x, size_t count)
{
    int32_t most = 0;
    for (size_t i = 0; i < count; i++) {
        int32_t a = (int32_t)(qc_f32_bits(x[i]) & 0x7fffffffu);
        most = a > most ? a : most;
    }
    return (uint32_t)most;
}

bool qc_kernel_has_nan(step_type model, const void *x, size_t count)
{
    if (model == STEP_F32)
        return largest_magnitude_32(x, count) > QC_F32_INF;
    return largest_magnitude_16(x, count) > (model == STEP_BF16 ? 0x7f80u : 0x7c00u);
}

/* ---- codes --------------------------------------------------------------------------------------------- */

/* What is done with a shift: nothing, a zero is added for the sake of -0.0, a number is added and the sum
 * rounded. */
typedef enum shift_kind { SHIFT_NONE, SHIFT_SIGN, SHIFT_NUMBER } shift_kind;

/* x / scale rounded to the type of the step. */
QC_INLINE float clean_quotient(step_type model, step_type step, float x, float factor)
{
    if (model == STEP_BF16 && step == STEP_BF16)
        return round_step(step, x * factor);
    return round_step(step, x / factor);
}

#define QUOTIENTS(name, type, model, step, kind)                                                             \
    QC_WIDE static void name(const void *x, size_t count, size_t group, const float *factors,                \
        const float *shifts, float *quotients)                                                               \
    {                                                                                                        \
        for (size_t start = 0, g = 0; start < count; start += group, g++) {                                  \
            const float factor = factors[g], shift = shifts[g];                                              \
            for (size_t i = start; i < start + group; i += KERNEL_STEP) {                                    \
                const type *restrict from = (const type *)x + i;                                             \
                float *restrict to = quotients + i;                                                          \
                for (size_t j = 0; j < KERNEL_STEP; j++) {                                                   \
                    float t = clean_quotient(model, step, step_load(model, from, j), factor);                \
                    t = kind == SHIFT_NONE ? t : t + shift;                                                  \
                    to[j] = kind == SHIFT_NUMBER ? round_step(step, t) : t;                                  \
                }                                                                                            \
            }                                                                                                \
        }                                                                                                    \
    }
#define QUOTIENTS_OF(name, type, model, step)                                                                \
    QUOTIENTS(name##_plain, type, model, step, SHIFT_NONE)                                                   \
    QUOTIENTS(name##_sign, type, model, step, SHIFT_SIGN)                                                    \
    QUOTIENTS(name##_number, type, model, step, SHIFT_NUMBER)
QUOTIENTS_OF(bf16, uint16_t, STEP_BF16, STEP_BF16)
QUOTIENTS_OF(bf16_wide, uint16_t, STEP_BF16, STEP_F32)
QUOTIENTS_OF(f16, uint16_t, STEP_F16, STEP_F16)
QUOTIENTS_OF(f16_wide, uint16_t, STEP_F16, STEP_F32)
QUOTIENTS_OF(f32, float, STEP_F32, STEP_F32)

/* The low byte is the code. Signs go in where the number is still a wide one: compilers narrow what they can,
 * and would narrow code and sign apart. f4e2m1: of the three lines 2a, a + 2 and a/2 + 4 the lowest one is the
 * code before rounding; the sum with 2^23 * 1.5 rounds each. e4m3: as in qc_bits_encode, with 2^-6 added to
 * what is below it, which makes a subnormal code of the fraction. */
QC_INLINE uint32_t clean_code(qc_dtype storage, float t, float lo, float hi)
{
    const float round = 12582912.0f;
    if (storage == QC_F8E4M3) {
        uint32_t u = qc_f32_bits(t);
        int32_t a = (int32_t)(u & 0x7fffffffu);
        a = a < 0x43e00000 ? a : 0x43e00000;
        int32_t tiny = (int32_t)qc_f32_bits(qc_f32_from_bits((uint32_t)a) + 0x1p-6f) - (121 << 23);
        uint32_t code = (uint32_t)(a < 0x3c800000 ? tiny : a - (120 << 23));
        code = code + 0x7ffffu + (code >> 20 & 1u);
        return (code | (u >> 4 & 0x08000000u)) >> 20;
    }
    if (storage == QC_F4E2M1) {
        float a = qc_f32_from_bits(qc_f32_bits(t) & 0x7fffffffu);
        float one = (a + a) + round, two = a + (round + 2), three = a * 0.5f + (round + 4);
        float least = one < two ? one : two;
        least = least < three ? least : three;
        least = least < round + 7 ? least : round + 7;
        return qc_f32_bits(least + (t < 0.0f ? 8.0f : 0.0f));
    }
    t = t > lo ? t : lo;
    t = t < hi ? t : hi;
    return qc_f32_bits(t + round);
}

#define ENCODE(name, storage)                                                                                \
    QC_WIDE static void name(                                                                                \
        const float *restrict t, size_t count, float lo, float hi, uint8_t *restrict codes)                  \
    {                                                                                                        \
        for (size_t i = 0; i < count; i++)                                                                   \
            codes[i] = (uint8_t)clean_code(storage, t[i], lo, hi);                                           \
    }
ENCODE(encode_e4m3, QC_F8E4M3)
ENCODE(encode_e2m1, QC_F4E2M1)
ENCODE(encode_int, QC_I8)

QC_WIDE bool qc_kernel_factors(
    const float *restrict scales, size_t count, float global, bool multiply, float *restrict factors)
{
    int unusual = 0;
    const float unit = global != 0.0f ? global : 1.0f; /* division by 1 changes nothing */
    for (size_t g = 0; g < count; g++) {
        const float scale = scales[g] / unit;
        unusual |= scale >= 0x1p-126f ? 0 : 1;
        unusual |= scale <= 0x1p126f ? 0 : 1;
        factors[g] = multiply ? 1.0f / scale : scale;
    }
    return !unusual;
}

typedef void quotients_kernel(
    const void *x, size_t count, size_t group, const float *factors, const float *shifts, float *quotients);

bool qc_kernel_quotients(step_type model, step_type step, qc_dtype storage, bool shifted, const void *x,
    size_t count, size_t group, const float *factors, const float *shifts, float *quotients)
{
#define ROW(name)                                                                                            \
    {                                                                                                        \
        name##_plain, name##_sign, name##_number                                                             \
    }
    static quotients_kernel *const kernels[][3] = {
        ROW(bf16), ROW(bf16_wide), ROW(f16), ROW(f16_wide), ROW(f32)};
#undef ROW
    const int row = model == STEP_F32 ? 4 : (model == STEP_F16 ? 2 : 0) + (step == STEP_F32 ? 1 : 0);
    if (storage == QC_F8E5M2 || (shifted && storage != QC_I8))
        return false;
    shift_kind kind = shifted ? SHIFT_NUMBER : storage == QC_F8E4M3 ? SHIFT_SIGN : SHIFT_NONE;
    kernels[row][kind](x, count, group, factors, shifts, quotients);
    return true;
}

void qc_kernel_encode(qc_grid grid, const float *quotients, size_t count, uint8_t *codes)
{
    (grid.storage == QC_I8          ? encode_int
        : grid.storage == QC_F4E2M1 ? encode_e2m1
                                    : encode_e4m3)(quotients, count, grid.min, grid.max, codes);
}

bool qc_kernel_by_reciprocal(step_type model, step_type step)
{
    return model == STEP_BF16 && step == STEP_BF16;
}

/* ---- e4m3 from bf16, by thresholds ----
 * Under one scale s the code of a bf16 magnitude, read as an integer, is how many thresholds it has reached. The
 * one of code k is the least x with x / s above M(k), the middle between the least bf16 number that rounds to k
 * or more and the one below it; there are no ties (see above), so it is s * M(k), exact in f32, rounded up to
 * bf16. From code 16 on thresholds repeat from binade to binade: their distances to the first one of a binade are
 * seven numbers below 128, and all arithmetic is in 16 bits. Magnitudes between the thresholds of 1 and of half
 * of that of 16 are rare in weights; blocks with one of them go the other way. */

enum { THRESHOLD_BLOCK = 1024 };

typedef struct thresholds {
    int16_t first;        /* of code 1 */
    int16_t base;         /* of code 16, one binade down */
    int16_t steps[7];     /* of codes 17 to 23, less that of 16, less 1 */
    int16_t signed_above; /* magnitudes above it keep their sign */
} thresholds;

static int16_t threshold(float scale, float middle)
{
    return (int16_t)((qc_f32_bits(scale * middle) + 0xffffu) >> 16);
}

static thresholds thresholds_of(float scale, float shift)
{
    /* in bf16 a tie goes to the even code, so a threshold lies half a place below it or above it */
    thresholds t = {.first = threshold(scale, 0x1.01p-10f), .signed_above = signbit(shift) ? -1 : 0};
    int16_t sixteen = threshold(scale, 0x1.efp-6f);
    t.base = (int16_t)(sixteen - 128);
    for (int i = 1; i < 8; i++) {
        float tie = (1.0f + ((float)i - 0.5f) / 8) * 0x1p-5f;
        float middle = tie + (i % 2 == 0 ? -0x1p-13f : 0x1p-13f);
        t.steps[i - 1] = (int16_t)(threshold(scale, middle) - sixteen - 1);
    }
    return t;
}

QC_WIDE static bool are_usual(const uint16_t *restrict x, size_t count, thresholds t)
{
    const uint16_t first = (uint16_t)t.first, span = (uint16_t)(t.base - t.first);
    uint16_t unusual = 0;
    for (size_t i = 0; i < count; i++) {
        uint16_t above = (uint16_t)((x[i] & 0x7fffu) - first);
        unusual |= above < span ? 0xffffu : 0;
    }
    return unusual == 0;
}

QC_WIDE static void count_thresholds(
    const uint16_t *restrict x, size_t count, thresholds t, uint8_t *restrict codes)
{
    const int16_t s1 = t.steps[0], s2 = t.steps[1], s3 = t.steps[2], s4 = t.steps[3], s5 = t.steps[4],
                  s6 = t.steps[5], s7 = t.steps[6], base = t.base, signed_above = t.signed_above;
#define REACHED(step) n = (int16_t)(n - (int16_t)(rest > (step) ? -1 : 0))
    for (size_t i = 0; i < count; i++) {
        int16_t a = (int16_t)(x[i] & 0x7fffu), above = (int16_t)(a - base), rest = above & 127;
        int16_t n = (int16_t)(((above >> 4) & ~7) + 8);
        REACHED(s1);
        REACHED(s2);
        REACHED(s3);
        REACHED(s4);
        REACHED(s5);
        REACHED(s6);
        REACHED(s7);
        n = n < 126 ? n : 126;
        n = above >= 0 ? n : 0;
        int16_t sign = a > signed_above ? (int16_t)(x[i] >> 8 & 0x80u) : 0;
        codes[i] = (uint8_t)(n | sign);
    }
#undef REACHED
}

void qc_kernel_e4m3_codes(const uint16_t *x, size_t count, float scale, float shift, uint8_t *codes)
{
    const thresholds t = thresholds_of(scale, shift);
    const float factor = 1.0f / scale;
    for (size_t i = 0; i < count; i += THRESHOLD_BLOCK) {
        const size_t n = count - i < THRESHOLD_BLOCK ? count - i : THRESHOLD_BLOCK;
        if (are_usual(x + i, n, t)) {
            count_thresholds(x + i, n, t, codes + i);
            continue;
        }
        float quotients[THRESHOLD_BLOCK];
        bf16_sign(x + i, n, n, &factor, &shift, quotients);
        encode_e4m3(quotients, n, 0, 0, codes + i);
    }
}

/* ---- values -------------------------------------------------------------------------------------------- */

#define PRODUCTS(name, step)                                                                                 \
    QC_WIDE static void name(                                                                                \
        float *restrict x, size_t count, size_t group, const float *scales, const float *zero_points)        \
    {                                                                                                        \
        for (size_t start = 0, g = 0; start < count; start += group, g++) {                                  \
            const float scale = scales[g], zero_point = zero_points[g];                                      \
            for (size_t i = start; i < start + group; i += KERNEL_STEP)                                      \
                for (size_t j = 0; j < KERNEL_STEP; j++)                                                     \
                    x[i + j] = round_step(step, round_step(step, x[i + j] - zero_point) * scale);            \
        }                                                                                                    \
    }
PRODUCTS(products_bf16, STEP_BF16)
PRODUCTS(products_f16, STEP_F16)
PRODUCTS(products_f32, STEP_F32)

void qc_kernel_products(
    step_type step, float *values, size_t count, size_t group, const float *scales, const float *zero_points)
{
    (step == STEP_BF16     ? products_bf16
        : step == STEP_F16 ? products_f16
                           : products_f32)(values, count, group, scales, zero_points);
}
