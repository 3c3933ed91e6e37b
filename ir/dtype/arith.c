/* SPDX-License-Identifier: MIT
 *
 * arith.c - scales, codes and folds of ranges, in the element type of the model (see arith.h).
 *
 * The rows ct_cpu and ct_cpu_bare follow what compressed-tensors 0.19 does on a CPU: every elementary
 * operation on bf16 or f16 is that operation in f32, rounded to the type. An f32 quotient, sum or product of
 * two such numbers is correctly rounded, so rounding it again is exactly what the hardware-independent
 * definition says.
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

static float zero_point_on_grid(qc_grid grid, float zero_point)
{
    float clamped = zero_point < grid.min ? grid.min : zero_point > grid.max ? grid.max : zero_point;
    if (grid.storage != QC_I8)
        return qc_round_to(grid.storage, clamped);
    return isnan(clamped) ? 0.0f : nearbyintf(clamped) + 0.0f; /* an integer has no -0 */
}

void qc_arith_scale(const qc_arith *arith, qc_dtype model_dtype, qc_grid grid, bool symmetric, float min,
    float max, float *scale, float *zero_point)
{
    qc_dtype step = arith->round_scale ? model_dtype : QC_F32;
    float s, zp = 0.0f;
    min = smaller(min, 0.0f);
    max = larger(max, 0.0f);
    if (symmetric) {
        bool by_max = grid.storage != QC_I8 || arith->int_divisor == QC_INT_DIVISOR_MAX;
        float divisor =
            by_max ? grid.max : (grid.max - grid.min) / 2; /* the float grids are symmetric anyway */
        s = qc_round_to(step, larger(fabsf(min), fabsf(max)) / divisor);
    } else {
        s = qc_round_to(step, qc_round_to(step, max - min) / (grid.max - grid.min));
        zp = zero_point_on_grid(grid, qc_round_to(step, grid.min - qc_round_to(step, min / s)));
    }
    s = qc_round_to(model_dtype, s);
    if (s == 0.0f)
        s = model_dtype == QC_BF16  ? arith->zero_scale_bf16
            : model_dtype == QC_F16 ? arith->zero_scale_f16
                                    : arith->zero_scale_f32;
    *scale = s;
    *zero_point = zp;
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

/* ---- codes ----
 * In blocks through the codecs, one loop for each rounding between them. Whole checkpoints go from bf16 to
 * e4m3 or integers, so those two have loops of their own without the detour through memory. */

enum { BLOCK_ELEMS = 1024 };

typedef enum step_type { STEP_BF16, STEP_F16, STEP_F32 } step_type;

static step_type step_of(bool rounded, qc_dtype model_dtype)
{
    return !rounded                 ? STEP_F32
           : model_dtype == QC_BF16 ? STEP_BF16
           : model_dtype == QC_F16  ? STEP_F16
                                    : STEP_F32;
}

QC_INLINE float round_step(step_type step, float x)
{
    switch (step) {
    case STEP_BF16:
        return qc_f32_from_bits(qc_bits_round_bf16(qc_f32_bits(x)));
    case STEP_F16:
        return qc_f32_from_bits(qc_bits_round_f16(qc_f32_bits(x)));
    default:
        return x;
    }
}

/* `shift` is the zero point, or -0.0, the one number whose addition changes nothing: a loop without a choice.
 * The sign that a processor gives to 0/0 is its own business: codes get the positive NaN. */
QC_INLINE float quotient(step_type step, float x, float scale, float shift)
{
    float t = qc_f32_from_bits(qc_bits_canonical(qc_f32_bits(x / scale)));
    return round_step(step, round_step(step, t) + shift);
}

QC_WIDE static void bf16_to_e4m3(
    const uint16_t *restrict x, size_t count, float scale, float shift, uint8_t *restrict codes)
{
    for (size_t i = 0; i < count; i++) {
        float t = quotient(STEP_BF16, qc_bf16_to_f32(x[i]), scale, shift);
        codes[i] = (uint8_t)qc_bits_f8e4m3_encode(qc_f32_bits(t), true);
    }
}

QC_WIDE static void bf16_to_int(
    const uint16_t *restrict x, size_t count, float scale, float shift, qc_grid grid, int8_t *restrict codes)
{
    for (size_t i = 0; i < count; i++) {
        float t = quotient(STEP_BF16, qc_bf16_to_f32(x[i]), scale, shift);
        codes[i] = (int8_t)qc_bits_to_small_int(t, grid.min, grid.max);
    }
}

#define QUOTIENTS(name, step)                                                                                \
    QC_WIDE static void name(float *x, size_t count, float scale, float shift, qc_grid grid)                 \
    {                                                                                                        \
        for (size_t i = 0; i < count; i++) {                                                                 \
            float t = quotient(step, x[i], scale, shift);                                                    \
            t = t < grid.min ? grid.min : t;                                                                 \
            x[i] = t > grid.max ? grid.max : t;                                                              \
        }                                                                                                    \
    }
QUOTIENTS(quotients_bf16, STEP_BF16)
QUOTIENTS(quotients_f16, STEP_F16)
QUOTIENTS(quotients_f32, STEP_F32)

void qc_arith_quantize(const qc_arith *arith, qc_dtype model_dtype, qc_grid grid, const void *x, size_t count,
    float scale, float zero_point, void *codes)
{
    static void (*const quotients[])(float *, size_t, float, float, qc_grid) = {
        [STEP_BF16] = quotients_bf16,
        [STEP_F16] = quotients_f16,
        [STEP_F32] = quotients_f32,
    };
    float shift = zero_point == 0.0f && !arith->add_zero_point ? -0.0f : zero_point + 0.0f;
    step_type step = step_of(arith->round_quotient, model_dtype);
    if (model_dtype == QC_BF16 && step == STEP_BF16 && grid.storage == QC_F8E4M3) {
        bf16_to_e4m3(x, count, scale, shift, codes);
        return;
    }
    if (model_dtype == QC_BF16 && step == STEP_BF16 && grid.storage == QC_I8) {
        bf16_to_int(x, count, scale, shift, grid, codes);
        return;
    }
    size_t elem_bytes = (size_t)qc_dtype_bits(model_dtype) / 8;
    float block[BLOCK_ELEMS];
    for (size_t start = 0; start < count; start += BLOCK_ELEMS) {
        size_t n = count - start < BLOCK_ELEMS ? count - start : BLOCK_ELEMS;
        qc_decode_f32(model_dtype, (const char *)x + start * elem_bytes, block, n);
        quotients[step](block, n, scale, shift, grid);
        qc_encode_f32(grid.storage, block, (char *)codes + start, n);
    }
}

#define PRODUCTS(name, step)                                                                                 \
    QC_WIDE static void name(float *x, size_t count, float scale, float zero_point)                          \
    {                                                                                                        \
        for (size_t i = 0; i < count; i++)                                                                   \
            x[i] = round_step(step, x[i] - zero_point) * scale;                                              \
    }
PRODUCTS(products_bf16, STEP_BF16)
PRODUCTS(products_f16, STEP_F16)
PRODUCTS(products_f32, STEP_F32)

void qc_arith_dequantize(qc_dtype model_dtype, qc_grid grid, const void *codes, size_t count, float scale,
    float zero_point, void *x)
{
    static void (*const products[])(float *, size_t, float, float) = {
        [STEP_BF16] = products_bf16,
        [STEP_F16] = products_f16,
        [STEP_F32] = products_f32,
    };
    size_t elem_bytes = (size_t)qc_dtype_bits(model_dtype) / 8;
    float block[BLOCK_ELEMS];
    for (size_t start = 0; start < count; start += BLOCK_ELEMS) {
        size_t n = count - start < BLOCK_ELEMS ? count - start : BLOCK_ELEMS;
        qc_decode_f32(grid.storage, (const char *)codes + start, block, n);
        products[step_of(true, model_dtype)](block, n, scale, zero_point);
        qc_encode_f32(model_dtype, block, (char *)x + start * elem_bytes, n);
    }
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
