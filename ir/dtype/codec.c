/* SPDX-License-Identifier: MIT
 *
 * codec.c - element type codecs: one value at a time, and whole arrays to and from f32.
 *
 * Sources: IEEE 754-2019 (f16, f32, round half to even), OCP 8-bit Floating Point 1.0 (e4m3, e5m2), OCP
 * Microscaling 1.0 (e2m1, e8m0); where these leave a choice, what PyTorch does. The bit arithmetic is in
 * codec_bits.h. Invariant: an array function gives, element for element, what the one-value function gives.
 */
#include "ir/dtype/codec.h"

#include <math.h>

#include "ir/dtype/codec_bits.h"

float qc_f16_to_f32(uint16_t h)
{
    return qc_f32_from_bits(qc_bits_f16_decode(h));
}

uint16_t qc_f16_from_f32(float x)
{
    return (uint16_t)qc_bits_f16_encode(qc_f32_bits(x));
}

float qc_f8e4m3_to_f32(uint8_t code)
{
    return qc_f32_from_bits(qc_bits_f8e4m3_decode(code));
}

uint8_t qc_f8e4m3_from_f32(float x)
{
    return (uint8_t)qc_bits_f8e4m3_encode(qc_f32_bits(x), false);
}

uint8_t qc_f8e4m3_from_f32_saturate(float x)
{
    return (uint8_t)qc_bits_f8e4m3_encode(qc_f32_bits(x), true);
}

float qc_f8e5m2_to_f32(uint8_t code)
{
    return qc_f32_from_bits(qc_bits_f8e5m2_decode(code));
}

uint8_t qc_f8e5m2_from_f32(float x)
{
    return (uint8_t)qc_bits_f8e5m2_encode(qc_f32_bits(x), false);
}

uint8_t qc_f8e5m2_from_f32_saturate(float x)
{
    return (uint8_t)qc_bits_f8e5m2_encode(qc_f32_bits(x), true);
}

float qc_f8e8m0_to_f32(uint8_t code)
{
    return qc_f32_from_bits(qc_bits_f8e8m0_decode(code));
}

uint8_t qc_f8e8m0_from_f32(float x)
{
    return (uint8_t)qc_bits_f8e8m0_encode(qc_f32_bits(x));
}

float qc_f4e2m1_to_f32(uint8_t code)
{
    return qc_f32_from_bits(qc_bits_f4e2m1_decode(code));
}

uint8_t qc_f4e2m1_from_f32(float x)
{
    return (uint8_t)qc_bits_f4e2m1_encode(qc_f32_bits(x));
}

float qc_round_to(qc_dtype dtype, float x)
{
    switch (dtype) {
    case QC_BF16:
        return qc_round_bf16(x);
    case QC_F16:
        return qc_f16_to_f32(qc_f16_from_f32(x));
    case QC_F8E4M3:
        return qc_f8e4m3_to_f32(qc_f8e4m3_from_f32_saturate(x));
    case QC_F8E5M2:
        return qc_f8e5m2_to_f32(qc_f8e5m2_from_f32(x));
    case QC_F8E8M0:
        return qc_f8e8m0_to_f32(qc_f8e8m0_from_f32(x));
    case QC_F4E2M1:
        return qc_f4e2m1_to_f32(qc_f4e2m1_from_f32(x));
    default:
        return x; /* f32 and f64 hold every f32 */
    }
}

/* One loop a type, each in its own function so that it is cloned per vector width. */
#define DECODER(name, type, value)                                                                           \
    QC_WIDE static void name(const type *restrict src, float *restrict dst, size_t count)                    \
    {                                                                                                        \
        for (size_t i = 0; i < count; i++) {                                                                 \
            type v = src[i];                                                                                 \
            dst[i] = (value);                                                                                \
        }                                                                                                    \
    }
#define ENCODER(name, type, value)                                                                           \
    QC_WIDE static void name(const float *restrict src, type *restrict dst, size_t count)                    \
    {                                                                                                        \
        for (size_t i = 0; i < count; i++) {                                                                 \
            float x = src[i];                                                                                \
            dst[i] = (type)(value);                                                                          \
        }                                                                                                    \
    }

DECODER(decode_bool, uint8_t, v != 0 ? 1.0f : 0.0f)
DECODER(decode_i8, int8_t, (float)v)
DECODER(decode_i16, int16_t, (float)v)
DECODER(decode_i32, int32_t, (float)v)
DECODER(decode_i64, int64_t, (float)v)
DECODER(decode_u8, uint8_t, (float)v)
DECODER(decode_u16, uint16_t, (float)v)
DECODER(decode_u32, uint32_t, (float)v)
DECODER(decode_u64, uint64_t, (float)v)
DECODER(decode_f8e4m3, uint8_t, qc_f32_from_bits(qc_bits_f8e4m3_decode(v)))
DECODER(decode_f8e5m2, uint8_t, qc_f32_from_bits(qc_bits_f8e5m2_decode(v)))
DECODER(decode_f8e8m0, uint8_t, qc_f32_from_bits(qc_bits_f8e8m0_decode(v)))
DECODER(decode_f16, uint16_t, qc_f32_from_bits(qc_bits_f16_decode(v)))
DECODER(decode_bf16, uint16_t, qc_bf16_to_f32(v))
DECODER(decode_f64, double, (float)v)

ENCODER(encode_bool, uint8_t, x != 0.0f)
ENCODER(encode_i8, int8_t, qc_bits_to_small_int(x, -128.0f, 127.0f))
ENCODER(encode_u8, uint8_t, qc_bits_to_small_int(x, 0.0f, 255.0f))
ENCODER(encode_i16, int16_t, qc_bits_to_small_int(x, -32768.0f, 32767.0f))
ENCODER(encode_u16, uint16_t, qc_bits_to_small_int(x, 0.0f, 65535.0f))
ENCODER(encode_f8e4m3, uint8_t, qc_bits_f8e4m3_encode(qc_f32_bits(x), true))
ENCODER(encode_f8e5m2, uint8_t, qc_bits_f8e5m2_encode(qc_f32_bits(x), false))
ENCODER(encode_f8e8m0, uint8_t, qc_bits_f8e8m0_encode(qc_f32_bits(x)))
ENCODER(encode_f16, uint16_t, qc_bits_f16_encode(qc_f32_bits(x)))
ENCODER(encode_bf16, uint16_t, qc_bf16_from_f32(x))
ENCODER(encode_f64, double, x)

/* Two elements a byte, the first in the low nibble; the high nibble behind an odd last element is zero. */
QC_WIDE static void decode_i4(const uint8_t *restrict src, float *restrict dst, size_t count)
{
    for (size_t i = 0; i < count / 2; i++) {
        dst[2 * i] = (float)((int32_t)((src[i] & 15u) ^ 8u) - 8);
        dst[2 * i + 1] = (float)((int32_t)((src[i] >> 4) ^ 8u) - 8);
    }
    if (count % 2 != 0)
        dst[count - 1] = (float)((int32_t)((src[count / 2] & 15u) ^ 8u) - 8);
}

QC_WIDE static void encode_i4(const float *restrict src, uint8_t *restrict dst, size_t count)
{
    for (size_t i = 0; i < count / 2; i++) {
        uint32_t low = (uint32_t)qc_bits_to_small_int(src[2 * i], -8.0f, 7.0f) & 15u;
        uint32_t high = (uint32_t)qc_bits_to_small_int(src[2 * i + 1], -8.0f, 7.0f) & 15u;
        dst[i] = (uint8_t)(low | high << 4);
    }
    if (count % 2 != 0)
        dst[count / 2] = (uint8_t)((uint32_t)qc_bits_to_small_int(src[count - 1], -8.0f, 7.0f) & 15u);
}

QC_WIDE static void decode_f4e2m1(const uint8_t *restrict src, float *restrict dst, size_t count)
{
    for (size_t i = 0; i < count / 2; i++) {
        dst[2 * i] = qc_f32_from_bits(qc_bits_f4e2m1_decode(src[i] & 15u));
        dst[2 * i + 1] = qc_f32_from_bits(qc_bits_f4e2m1_decode((uint32_t)src[i] >> 4));
    }
    if (count % 2 != 0)
        dst[count - 1] = qc_f32_from_bits(qc_bits_f4e2m1_decode(src[count / 2] & 15u));
}

QC_WIDE static void encode_f4e2m1(const float *restrict src, uint8_t *restrict dst, size_t count)
{
    for (size_t i = 0; i < count / 2; i++) {
        uint32_t low = qc_bits_f4e2m1_encode(qc_f32_bits(src[2 * i]));
        uint32_t high = qc_bits_f4e2m1_encode(qc_f32_bits(src[2 * i + 1]));
        dst[i] = (uint8_t)(low | high << 4);
    }
    if (count % 2 != 0)
        dst[count / 2] = (uint8_t)qc_bits_f4e2m1_encode(qc_f32_bits(src[count - 1]));
}

/* Integers of 2 to 7 bits: eight codes of b bits are b whole bytes. */
static void decode_int_stream(qc_dtype dtype, const uint8_t *src, float *dst, size_t count)
{
    const int bits = qc_dtype_bits(dtype);
    for (size_t i = 0; i < count; i++)
        dst[i] = (float)qc_code_signed(qc_code_get(src, bits, i), bits);
}

static void encode_int_stream(qc_dtype dtype, const float *src, uint8_t *dst, size_t count)
{
    const int bits = qc_dtype_bits(dtype);
    const float half = (float)(1 << (bits - 1));
    for (size_t i = 0; i < count; i += 8) {
        size_t n = count - i < 8 ? count - i : 8;
        uint64_t eight = 0;
        for (size_t j = 0; j < n; j++) {
            uint64_t code = (uint64_t)qc_bits_to_small_int(src[i + j], -half, half - 1) & ((1u << bits) - 1);
            eight |= code << (j * (size_t)bits);
        }
        for (size_t j = 0; j < (n * (size_t)bits + 7) / 8; j++)
            *dst++ = (uint8_t)(eight >> (8 * j));
    }
}

/* Half to even, saturating, NaN to 0. The limits are tested against the power of two above the range because
 * the largest value itself need not be a double. */
static int64_t int_from_f64(double x, double lo, double above, int64_t max)
{
    if (isnan(x))
        return 0;
    double r = nearbyint(x);
    return r >= above ? max : (int64_t)(r < lo ? lo : r);
}

static uint64_t u64_from_f64(double x)
{
    double r = nearbyint(x);
    return isnan(x) || r <= 0 ? 0 : r >= 0x1p64 ? UINT64_MAX : (uint64_t)r;
}

static void encode_wide_int(qc_dtype dtype, const float *src, void *dst, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        double x = src[i];
        if (dtype == QC_I32)
            ((int32_t *)dst)[i] = (int32_t)int_from_f64(x, -0x1p31, 0x1p31, INT32_MAX);
        else if (dtype == QC_U32)
            ((uint32_t *)dst)[i] = (uint32_t)int_from_f64(x, 0, 0x1p32, UINT32_MAX);
        else if (dtype == QC_I64)
            ((int64_t *)dst)[i] = int_from_f64(x, -0x1p63, 0x1p63, INT64_MAX);
        else
            ((uint64_t *)dst)[i] = u64_from_f64(x);
    }
}

#define ARRAY_CASE(dtype, function)                                                                          \
    case dtype:                                                                                              \
        function(src, dst, count);                                                                           \
        return

void qc_decode_f32(qc_dtype dtype, const void *src, float *dst, size_t count)
{
    switch (dtype) {
        ARRAY_CASE(QC_BOOL, decode_bool);
        ARRAY_CASE(QC_I4, decode_i4);
    case QC_I2:
    case QC_I3:
    case QC_I5:
    case QC_I6:
    case QC_I7:
        decode_int_stream(dtype, src, dst, count);
        return;
        ARRAY_CASE(QC_I8, decode_i8);
        ARRAY_CASE(QC_I16, decode_i16);
        ARRAY_CASE(QC_I32, decode_i32);
        ARRAY_CASE(QC_I64, decode_i64);
        ARRAY_CASE(QC_U8, decode_u8);
        ARRAY_CASE(QC_U16, decode_u16);
        ARRAY_CASE(QC_U32, decode_u32);
        ARRAY_CASE(QC_U64, decode_u64);
        ARRAY_CASE(QC_F4E2M1, decode_f4e2m1);
        ARRAY_CASE(QC_F8E4M3, decode_f8e4m3);
        ARRAY_CASE(QC_F8E5M2, decode_f8e5m2);
        ARRAY_CASE(QC_F8E8M0, decode_f8e8m0);
        ARRAY_CASE(QC_F16, decode_f16);
        ARRAY_CASE(QC_BF16, decode_bf16);
        ARRAY_CASE(QC_F64, decode_f64);
    case QC_F32:
        memmove(dst, src, count * sizeof(float));
        return;
    case QC_DTYPE_NONE:
    case QC_DTYPE_COUNT:
        return;
    }
}

void qc_encode_f32(qc_dtype dtype, const float *src, void *dst, size_t count)
{
    switch (dtype) {
        ARRAY_CASE(QC_BOOL, encode_bool);
        ARRAY_CASE(QC_I4, encode_i4);
    case QC_I2:
    case QC_I3:
    case QC_I5:
    case QC_I6:
    case QC_I7:
        encode_int_stream(dtype, src, dst, count);
        return;
        ARRAY_CASE(QC_I8, encode_i8);
        ARRAY_CASE(QC_I16, encode_i16);
        ARRAY_CASE(QC_U8, encode_u8);
        ARRAY_CASE(QC_U16, encode_u16);
        ARRAY_CASE(QC_F4E2M1, encode_f4e2m1);
        ARRAY_CASE(QC_F8E4M3, encode_f8e4m3);
        ARRAY_CASE(QC_F8E5M2, encode_f8e5m2);
        ARRAY_CASE(QC_F8E8M0, encode_f8e8m0);
        ARRAY_CASE(QC_F16, encode_f16);
        ARRAY_CASE(QC_BF16, encode_bf16);
        ARRAY_CASE(QC_F64, encode_f64);
    case QC_I32:
    case QC_U32:
    case QC_I64:
    case QC_U64:
        encode_wide_int(dtype, src, dst, count);
        return;
    case QC_F32:
        memmove(dst, src, count * sizeof(float));
        return;
    case QC_DTYPE_NONE:
    case QC_DTYPE_COUNT:
        return;
    }
}

/* ---- between any two types, in blocks through i64, f64 or f32 ------------------------------------------ */

enum { BLOCK_ELEMS = 512 }; /* a multiple of 8, so that dense streams are cut between bytes */

static int64_t int_at(qc_dtype dtype, const void *src, size_t i)
{
    switch (dtype) {
    case QC_BOOL:
        return ((const uint8_t *)src)[i] != 0;
    case QC_I2:
    case QC_I3:
    case QC_I4:
    case QC_I5:
    case QC_I6:
    case QC_I7:
        return qc_code_signed(qc_code_get(src, qc_dtype_bits(dtype), i), qc_dtype_bits(dtype));
    case QC_I8:
        return ((const int8_t *)src)[i];
    case QC_I16:
        return ((const int16_t *)src)[i];
    case QC_I32:
        return ((const int32_t *)src)[i];
    case QC_I64:
        return ((const int64_t *)src)[i];
    case QC_U8:
        return ((const uint8_t *)src)[i];
    case QC_U16:
        return ((const uint16_t *)src)[i];
    case QC_U32:
        return ((const uint32_t *)src)[i];
    case QC_U64: { /* beyond i64 it saturates, which no other integer type can tell */
        uint64_t v = ((const uint64_t *)src)[i];
        return v > INT64_MAX ? INT64_MAX : (int64_t)v;
    }
    default:
        return 0;
    }
}

static int64_t clamp_int(int64_t v, int64_t lo, int64_t hi)
{
    return v < lo ? lo : v > hi ? hi : v;
}

static void int_put(qc_dtype dtype, void *dst, size_t i, int64_t v)
{
    switch (dtype) {
    case QC_BOOL:
        ((uint8_t *)dst)[i] = v != 0;
        return;
    case QC_I2:
    case QC_I3:
    case QC_I4:
    case QC_I5:
    case QC_I6:
    case QC_I7: {
        const int bits = qc_dtype_bits(dtype);
        const int64_t half = INT64_C(1) << (bits - 1);
        if (i * (size_t)bits % 8 == 0) /* the bits behind the last element are zero */
            ((uint8_t *)dst)[i * (size_t)bits / 8] = 0;
        if (i * (size_t)bits % 8 + (size_t)bits > 8)
            ((uint8_t *)dst)[i * (size_t)bits / 8 + 1] = 0;
        qc_code_put(dst, bits, i, (uint32_t)clamp_int(v, -half, half - 1));
        return;
    }
    case QC_I8:
        ((int8_t *)dst)[i] = (int8_t)clamp_int(v, INT8_MIN, INT8_MAX);
        return;
    case QC_I16:
        ((int16_t *)dst)[i] = (int16_t)clamp_int(v, INT16_MIN, INT16_MAX);
        return;
    case QC_I32:
        ((int32_t *)dst)[i] = (int32_t)clamp_int(v, INT32_MIN, INT32_MAX);
        return;
    case QC_I64:
        ((int64_t *)dst)[i] = v;
        return;
    case QC_U8:
        ((uint8_t *)dst)[i] = (uint8_t)clamp_int(v, 0, UINT8_MAX);
        return;
    case QC_U16:
        ((uint16_t *)dst)[i] = (uint16_t)clamp_int(v, 0, UINT16_MAX);
        return;
    case QC_U32:
        ((uint32_t *)dst)[i] = (uint32_t)clamp_int(v, 0, UINT32_MAX);
        return;
    case QC_U64:
        ((uint64_t *)dst)[i] = (uint64_t)clamp_int(v, 0, INT64_MAX);
        return;
    default:
        return;
    }
}

/* One side f64, the other an integer: no detour through f32. */
static void convert_f64_int(qc_dtype from, const void *src, qc_dtype to, void *dst, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (to == QC_F64) {
            ((double *)dst)[i] =
                from == QC_U64 ? (double)((const uint64_t *)src)[i] : (double)int_at(from, src, i);
            continue;
        }
        double x = ((const double *)src)[i];
        if (to == QC_U64)
            ((uint64_t *)dst)[i] = u64_from_f64(x);
        else if (to == QC_BOOL)
            ((uint8_t *)dst)[i] = x != 0;
        else /* int_put saturates further */
            int_put(to, dst, i, int_from_f64(x, -0x1p63, 0x1p63, INT64_MAX));
    }
}

/* Bytes that hold `count` elements. */
static size_t stream_bytes(qc_dtype dtype, size_t count)
{
    size_t bits = (size_t)qc_dtype_bits(dtype);
    return count / 8 * bits + (count % 8 * bits + 7) / 8;
}

void qc_convert(qc_dtype from, const void *src, qc_dtype to, void *dst, size_t count)
{
    bool from_int = qc_dtype_is_int(from) || from == QC_BOOL, to_int = qc_dtype_is_int(to) || to == QC_BOOL;
    if (from == to) {
        memmove(dst, src, stream_bytes(from, count));
    } else if (from_int && to_int) {
        for (size_t i = 0; i < count; i++)
            int_put(to, dst, i, int_at(from, src, i));
    } else if ((from == QC_F64 && to_int) || (from_int && to == QC_F64)) {
        convert_f64_int(from, src, to, dst, count);
    } else {
        float block[BLOCK_ELEMS];
        for (size_t start = 0; start < count; start += BLOCK_ELEMS) {
            size_t n = count - start < BLOCK_ELEMS ? count - start : BLOCK_ELEMS;
            qc_decode_f32(from, (const char *)src + stream_bytes(from, start), block, n);
            qc_encode_f32(to, block, (char *)dst + stream_bytes(to, start), n);
        }
    }
}
