/* SPDX-License-Identifier: MIT
 *
 * simd_hadamard.c - the fast Walsh-Hadamard transform of rows whose size is a power of two.
 *
 * Butterflies over distances 1, 2, 4 ... size / 2, each a sum and a difference in f32, then one product and one
 * rounding: the order of ir/dtype/hadamard.h, so the bits are the same. With AVX2 up to 64 elements stay in
 * eight registers for all stages: distances 1, 2 and 4 are a shuffle and one multiply-add with +-1, which rounds
 * like the sum that it is; longer ones add and subtract registers. Larger rows do 64 elements at a time, then
 * the remaining stages over a buffer, the last of them on the way to memory.
 */
#include "backends/host/simd.h"
#include "ir/dtype/codec.h"

#define INLINE static inline __attribute__((always_inline))
#define JOIN2(a, b) a##b
#define JOIN(a, b) JOIN2(a, b)

/* Stages from distance `half` on, in memory. */
static void stages(float *v, size_t size, size_t half)
{
    for (; half < size; half *= 2)
        for (size_t base = 0; base < size; base += 2 * half)
            for (size_t i = base; i < base + half; i++) {
                float a = v[i], b = v[i + half];
                v[i] = a + b;
                v[i + half] = a - b;
            }
}

/* Rows that no register form fits. */
static void plain(qc_dtype dtype, const char *x, char *y, size_t size, float factor, float *buffer)
{
    for (size_t i = 0; i < size; i++)
        buffer[i] = dtype == QC_F32    ? ((const float *)(const void *)x)[i]
                    : dtype == QC_BF16 ? qc_bf16_to_f32(((const uint16_t *)(const void *)x)[i])
                                       : qc_f16_to_f32(((const uint16_t *)(const void *)x)[i]);
    stages(buffer, size, 1);
    for (size_t i = 0; i < size; i++) {
        float v = buffer[i] * factor;
        if (dtype == QC_F32)
            ((float *)(void *)y)[i] = v;
        else
            ((uint16_t *)(void *)y)[i] = dtype == QC_BF16 ? qc_bf16_from_f32(v) : qc_f16_from_f32(v);
    }
}

#if defined(__AVX2__)

#include <immintrin.h>

enum { NEAREST = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC };

enum { LANES = 8, REGISTERS = 8, IN_REGISTERS = LANES * REGISTERS };

/* Sixteen elements as two registers. Those of bf16 come as unpacking leaves them: elements 0 to 3 and 8 to 11, then 4 to
 * 7 and 12 to 15; packing puts them back. */
INLINE void take(qc_dtype dtype, const char *x, size_t i, __m256 *v)
{
    if (dtype == QC_F32) {
        v[0] = _mm256_loadu_ps((const float *)(const void *)x + i);
        v[1] = _mm256_loadu_ps((const float *)(const void *)x + i + 8);
    } else if (dtype == QC_F16) {
        v[0] = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(x + 2 * i)));
        v[1] = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(x + 2 * i + 16)));
    } else {
        __m256i half = _mm256_loadu_si256((const __m256i *)(const void *)(x + 2 * i));
        v[0] = _mm256_castsi256_ps(_mm256_unpacklo_epi16(_mm256_setzero_si256(), half));
        v[1] = _mm256_castsi256_ps(_mm256_unpackhi_epi16(_mm256_setzero_si256(), half));
    }
}

/* The upper halves, rounded. What comes of bf16 and f32 arithmetic are NaNs with few bits set, which rounding leaves
 * NaNs; of f32 others may come, but those are stored as they are. */
INLINE __m256i to_bf16(__m256 x)
{
    __m256i u = _mm256_castps_si256(x);
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
    return _mm256_srli_epi32(_mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
}

INLINE void put_bytes(bool past, char *y, __m256i x)
{
    if (past)
        _mm256_stream_si256((__m256i *)(void *)y, x);
    else
        _mm256_storeu_si256((__m256i *)(void *)y, x);
}

/* Sixteen elements. `past`: past the caches, to a multiple of 32 bytes. */
INLINE void put(qc_dtype dtype, bool past, __m256 a, __m256 b, float factor, char *y, size_t i)
{
    const __m256 f = _mm256_set1_ps(factor);
    a = _mm256_mul_ps(a, f);
    b = _mm256_mul_ps(b, f);
    if (dtype == QC_F32) {
        put_bytes(past, y + 4 * i, _mm256_castps_si256(a));
        put_bytes(past, y + 4 * i + 32, _mm256_castps_si256(b));
    } else if (dtype == QC_F16) {
        put_bytes(
            past, y + 2 * i, _mm256_set_m128i(_mm256_cvtps_ph(b, NEAREST), _mm256_cvtps_ph(a, NEAREST)));
    } else {
        put_bytes(past, y + 2 * i, _mm256_packus_epi32(to_bf16(a), to_bf16(b)));
    }
}

/* (v[r], v[r + half]) = (sum, difference) */
INLINE void across(__m256 *v, int count, int half)
{
#pragma GCC unroll 8
    for (int r = 0; r < count; r++)
        if (!(r & half)) {
            __m256 a = v[r], b = v[r + half];
            v[r] = _mm256_add_ps(a, b);
            v[r + half] = _mm256_sub_ps(a, b);
        }
}

/* All stages of 8 * count elements; count is a constant power of two. In the order of bf16 (see take) the registers of a
 * pair are 4 elements apart, the halves of one 8. */
INLINE void in_registers(qc_dtype dtype, __m256 *v, int count)
{
    const __m256 one = _mm256_setr_ps(1, -1, 1, -1, 1, -1, 1, -1);
    const __m256 two = _mm256_setr_ps(1, 1, -1, -1, 1, 1, -1, -1);
    const __m256 halves = _mm256_setr_ps(1, 1, 1, 1, -1, -1, -1, -1);

#pragma GCC unroll 8
    for (int r = 0; r < count; r++)
        v[r] = _mm256_fmadd_ps(v[r], one, _mm256_permute_ps(v[r], 0xb1));
#pragma GCC unroll 8
    for (int r = 0; r < count; r++)
        v[r] = _mm256_fmadd_ps(v[r], two, _mm256_permute_ps(v[r], 0x4e));
    if (dtype == QC_BF16)
        across(v, count, 1);
#pragma GCC unroll 8
    for (int r = 0; r < count; r++)
        v[r] = _mm256_fmadd_ps(v[r], halves, _mm256_permute2f128_ps(v[r], v[r], 1));
    if (dtype != QC_BF16)
        across(v, count, 1);
#pragma GCC unroll 3
    for (int half = 2; half < count; half *= 2)
        across(v, count, half);
}

/* A row of 16, 32 or 64 elements. */
INLINE void short_row(qc_dtype dtype, bool past, const char *x, char *y, int registers, float factor)
{
    __m256 v[REGISTERS];
#pragma GCC unroll 8
    for (int r = 0; r < registers; r += 2)
        take(dtype, x, (size_t)r * LANES, v + r);
    in_registers(dtype, v, registers);
#pragma GCC unroll 8
    for (int r = 0; r < registers; r += 2)
        put(dtype, past, v[r], v[r + 1], factor, y, (size_t)r * LANES);
}

/* A row of 128 elements and more. */
INLINE void long_row(
    qc_dtype dtype, bool past, const char *x, char *y, size_t size, float factor, float *buffer)
{
    size_t half = size / 2;

    for (size_t i = 0; i < size; i += IN_REGISTERS) {
        __m256 v[REGISTERS];
#pragma GCC unroll 8
        for (size_t r = 0; r < REGISTERS; r += 2)
            take(dtype, x, i + r * LANES, v + r);
        in_registers(dtype, v, REGISTERS);
#pragma GCC unroll 8
        for (size_t r = 0; r < REGISTERS; r++)
            _mm256_storeu_ps(buffer + i + r * LANES, v[r]);
    }
    stages(buffer, half, IN_REGISTERS);
    stages(buffer + half, half, IN_REGISTERS);
    for (size_t i = 0; i < half; i += 2 * LANES) {
        const float *low = buffer + i, *high = buffer + half + i;
        __m256 a = _mm256_loadu_ps(low), b = _mm256_loadu_ps(low + LANES);
        __m256 c = _mm256_loadu_ps(high), d = _mm256_loadu_ps(high + LANES);
        put(dtype, past, _mm256_add_ps(a, c), _mm256_add_ps(b, d), factor, y, i);
        put(dtype, past, _mm256_sub_ps(a, c), _mm256_sub_ps(b, d), factor, y, half + i);
    }
}

/* One loop a size, so that what a row needs is in registers before it. */
INLINE void rows_of(
    qc_dtype dtype, bool past, const char *x, char *y, size_t rows, size_t size, float factor, float *buffer)
{
    size_t bytes = size * qc_host_dtype_bytes(dtype), all = rows * bytes;

    if (size == 64)
        for (size_t i = 0; i < all; i += bytes)
            short_row(dtype, past, x + i, y + i, 8, factor);
    else if (size == 128)
        for (size_t i = 0; i < all; i += bytes)
            long_row(dtype, past, x + i, y + i, 128, factor, buffer);
    else if (size == 32)
        for (size_t i = 0; i < all; i += bytes)
            short_row(dtype, past, x + i, y + i, 4, factor);
    else if (size == 16)
        for (size_t i = 0; i < all; i += bytes)
            short_row(dtype, past, x + i, y + i, 2, factor);
    else if (size > 128)
        for (size_t i = 0; i < all; i += bytes)
            long_row(dtype, past, x + i, y + i, size, factor, buffer);
    else
        for (size_t i = 0; i < all; i += bytes)
            plain(dtype, x + i, y + i, size, factor, buffer);
}

/* Results that no cache would hold go past it, as memcpy's do: a line need not be read before it is written. */
static void transform(
    qc_dtype dtype, const char *x, char *y, size_t rows, size_t size, float factor, float *buffer, bool past)
{
    past = past && x != y && size >= 2 * LANES && (uintptr_t)y % sizeof(__m256i) == 0;
    if (dtype == QC_BF16 && past)
        rows_of(QC_BF16, true, x, y, rows, size, factor, buffer);
    else if (dtype == QC_BF16)
        rows_of(QC_BF16, false, x, y, rows, size, factor, buffer);
    else if (dtype == QC_F16)
        rows_of(QC_F16, false, x, y, rows, size, factor, buffer);
    else if (past)
        rows_of(QC_F32, true, x, y, rows, size, factor, buffer);
    else
        rows_of(QC_F32, false, x, y, rows, size, factor, buffer);
    if (past)
        _mm_sfence();
}

#else

static void transform(
    qc_dtype dtype, const char *x, char *y, size_t rows, size_t size, float factor, float *buffer, bool past)
{
    (void)past;
    size_t bytes = size * qc_host_dtype_bytes(dtype);

    for (size_t r = 0; r < rows; r++, x += bytes, y += bytes)
        plain(dtype, x, y, size, factor, buffer);
}

#endif

void JOIN(qc_host_fwht_, QC_HOST_ISA)(
    qc_dtype dtype, const void *x, void *y, size_t rows, size_t size, float factor, float *buffer, bool past)
{
    transform(dtype, x, y, rows, size, factor, buffer, past);
}
