/* SPDX-License-Identifier: MIT
 *
 * codec.h - encoding and decoding of element types: the one home of rounding.
 *
 * Encoders take f32 (or f64), round to nearest even, and treat NaN, infinities, saturation and -0 as the
 * format says: f8e4m3 (OCP "fn": no infinity, 0x7f/0xff NaN) and f8e5m2 here have the saturating and the
 * plain form; bf16/f16 overflow to infinity; NaN becomes the canonical quiet NaN (bf16 0x7fc0 with the sign
 * dropped as PyTorch does).
 */
#ifndef QC_DTYPE_CODEC_H
#define QC_DTYPE_CODEC_H

#include <string.h>

#include "qc/dtype.h"

static inline uint32_t qc_f32_bits(float x)
{
    uint32_t u;
    memcpy(&u, &x, 4);
    return u;
}

static inline float qc_f32_from_bits(uint32_t u)
{
    float x;
    memcpy(&x, &u, 4);
    return x;
}

static inline float qc_bf16_to_f32(uint16_t h)
{
    return qc_f32_from_bits((uint32_t)h << 16);
}

/* Branch-free but for NaN; vectorises. */
static inline uint16_t qc_bf16_from_f32(float x)
{
    uint32_t u = qc_f32_bits(x);
    uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
    return (uint16_t)((u & 0x7fffffffu) > 0x7f800000u ? 0x7fc0u : rounded);
}

/* f32 rounded to the nearest bf16, still as f32. */
static inline float qc_round_bf16(float x)
{
    return qc_bf16_to_f32(qc_bf16_from_f32(x));
}

/* Code number `index` of a dense little-endian stream of codes of `bits` bits, 1 to 8: bits [index * bits,
 * index * bits + bits), lowest first. Reads no byte in which the code has no part. */
static inline uint32_t qc_code_get(const void *stream, int bits, size_t index)
{
    size_t at = index * (size_t)bits;
    const uint8_t *byte = (const uint8_t *)stream + at / 8;
    uint32_t both = at % 8 + (size_t)bits > 8 ? byte[0] | (uint32_t)byte[1] << 8 : byte[0];
    return both >> at % 8 & ((1u << bits) - 1);
}

/* Its counterpart; the codes beside it keep their values. */
static inline void qc_code_put(void *stream, int bits, size_t index, uint32_t code)
{
    size_t at = index * (size_t)bits;
    uint8_t *byte = (uint8_t *)stream + at / 8;
    uint32_t mask = ((1u << bits) - 1) << at % 8, value = code << at % 8 & mask;
    byte[0] = (uint8_t)((byte[0] & ~mask) | value);
    if (at % 8 + (size_t)bits > 8)
        byte[1] = (uint8_t)((byte[1] & ~(mask >> 8)) | value >> 8);
}

/* A code of `bits` bits as the signed integer that it is. */
static inline int32_t qc_code_signed(uint32_t code, int bits)
{
    uint32_t sign = 1u << (bits - 1);
    return (int32_t)((code & (2 * sign - 1)) ^ sign) - (int32_t)sign;
}

float qc_f16_to_f32(uint16_t h);
uint16_t qc_f16_from_f32(float x);
float qc_f8e4m3_to_f32(uint8_t code);
uint8_t qc_f8e4m3_from_f32(float x); /* beyond 464 (the rounding limit) and infinities: NaN, as torch */
uint8_t qc_f8e4m3_from_f32_saturate(float x); /* beyond 448: +-448; NaN stays NaN */
float qc_f8e5m2_to_f32(uint8_t code);
uint8_t qc_f8e5m2_from_f32(float x); /* overflows to infinity, as torch */
uint8_t qc_f8e5m2_from_f32_saturate(float x);
float qc_f8e8m0_to_f32(uint8_t code); /* 2^(code-127); 255 is NaN */
uint8_t qc_f8e8m0_from_f32(float x);  /* nearest exponent of |x|, ties up; infinity and NaN: 255 */
float qc_f4e2m1_to_f32(uint8_t code); /* low nibble */
/* Saturates at 6, ties to the even code; +-0 and NaN give 0, a negative that rounds to zero gives 8. */
uint8_t qc_f4e2m1_from_f32(float x);

/* x rounded to what `dtype` (a float type) can hold, saturating only where the type has no infinity. */
float qc_round_to(qc_dtype dtype, float x);

/* Whole arrays, vectorised. `count` elements; types of less than 8 bits: a dense stream, the spare bits
 * behind the last element written as zero. Integers saturate and round half to even from floats, NaN becomes 0. Floats
 * encode as qc_round_to rounds: saturating only where the type has no infinity. src and dst do not overlap.
 */
void qc_decode_f32(qc_dtype dtype, const void *src, float *dst, size_t count);
void qc_encode_f32(qc_dtype dtype, const float *src, void *dst, size_t count);
/* Between any two types: integer to integer and f64 from and to integers exactly, everything else through f32
 * (so f64 to bf16 rounds twice, as PyTorch does). Into bool: whether not zero. */
void qc_convert(qc_dtype from, const void *src, qc_dtype to, void *dst, size_t count);

#endif
