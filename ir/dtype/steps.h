/* SPDX-License-Identifier: MIT
 *
 * steps.h - the elementary steps of quantization, one element at a time and inline, so that a loop around them
 * with constant arguments vectorises. Internal to ir/dtype/.
 *
 * An f32 quotient, sum or product of two numbers of bf16 or f16 is correctly rounded, so rounding it again to
 * the type is exactly the operation in that type.
 */
#ifndef QC_DTYPE_STEPS_H
#define QC_DTYPE_STEPS_H

#include "ir/dtype/codec_bits.h"
#include "ir/dtype/quantizer.h"

/* What a step is rounded to. */
typedef enum step_type { STEP_BF16, STEP_F16, STEP_F32 } step_type;

QC_INLINE step_type step_of(qc_dtype dtype)
{
    return dtype == QC_BF16 ? STEP_BF16 : dtype == QC_F16 ? STEP_F16 : STEP_F32;
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

/* x / scale + shift. `shift` is the zero point, or -0.0, the one number whose addition changes nothing: a loop
 * without a choice. The sign that a processor gives to 0/0 is its own business: codes get the positive NaN. */
QC_INLINE float step_quotient(step_type step, float x, float scale, float shift)
{
    float t = qc_f32_from_bits(qc_bits_canonical(qc_f32_bits(x / scale)));
    return round_step(step, round_step(step, t) + shift);
}

/* The code of a quotient on the grid. */
QC_INLINE uint32_t step_code(qc_dtype storage, float t, float grid_min, float grid_max)
{
    switch (storage) {
    case QC_F8E4M3:
        return qc_bits_f8e4m3_encode(qc_f32_bits(t), true);
    case QC_F8E5M2:
        return qc_bits_f8e5m2_encode(qc_f32_bits(t), true);
    case QC_F4E2M1:
        return qc_bits_f4e2m1_encode(qc_f32_bits(t));
    default:
        return (uint32_t)qc_bits_to_small_int(t, grid_min, grid_max);
    }
}

/* The number that a code stands for. */
QC_INLINE float step_value(qc_dtype storage, uint8_t code)
{
    switch (storage) {
    case QC_F8E4M3:
        return qc_f32_from_bits(qc_bits_f8e4m3_decode(code));
    case QC_F8E5M2:
        return qc_f32_from_bits(qc_bits_f8e5m2_decode(code));
    case QC_F4E2M1:
        return qc_f32_from_bits(qc_bits_f4e2m1_decode(code & 15u));
    default:
        return (float)(int8_t)code;
    }
}

/* The number of the e4m3 grid that is nearest to x, which is not negative and no NaN: saturates at 448. */
QC_INLINE float step_nearest_e4m3(float x)
{
    int32_t a = (int32_t)qc_f32_bits(x);
    a = a < 0x43e00000 ? a : 0x43e00000;
    float bounded = qc_f32_from_bits((uint32_t)a);
    float tiny = (bounded + 24576.0f) - 24576.0f; /* multiples of 2^-9 */
    float usual = qc_f32_from_bits(((uint32_t)a + 0x7ffffu + ((uint32_t)a >> 20 & 1u)) & 0xfff00000u);
    return a < 0x3c800000 ? tiny : usual;
}

/* Element `i` of an array of bf16, f16 or f32. */
QC_INLINE float step_load(step_type type, const void *x, size_t i)
{
    switch (type) {
    case STEP_BF16:
        return qc_bf16_to_f32(((const uint16_t *)x)[i]);
    case STEP_F16:
        return qc_f32_from_bits(qc_bits_f16_decode(((const uint16_t *)x)[i]));
    default:
        return ((const float *)x)[i];
    }
}

QC_INLINE void step_store(step_type type, void *x, size_t i, float value)
{
    switch (type) {
    case STEP_BF16:
        ((uint16_t *)x)[i] = qc_bf16_from_f32(value);
        return;
    case STEP_F16:
        ((uint16_t *)x)[i] = (uint16_t)qc_bits_f16_encode(qc_f32_bits(value));
        return;
    default:
        ((float *)x)[i] = value;
    }
}

/* What is added to every quotient. */
QC_INLINE float step_shift(const qc_arith *arith, float zero_point)
{
    return zero_point == 0.0f && !arith->add_zero_point ? -0.0f : zero_point + 0.0f;
}

/* What a quotient, and what a value, is rounded to. */
QC_INLINE step_type step_of_quotient(const qc_quantizer *q, float global)
{
    return global != 0.0f || !q->arith->round_quotient ? STEP_F32 : step_of(q->model_dtype);
}

QC_INLINE step_type step_of_value(const qc_quantizer *q, float global)
{
    return global != 0.0f ? STEP_F32 : step_of(q->model_dtype);
}

QC_INLINE float step_effective(float scale, float global)
{
    return global != 0.0f ? scale / global : scale;
}

#endif
