/* SPDX-License-Identifier: MIT
 *
 * simd_codes.c - codes to values, and rows to columns: how a cache of codes becomes panels of a product.
 *
 * A value is D(number(code) * factor): an f32 product, rounded. With AVX2 sixteen codes at a time become
 * numbers (4-bit codes through a byte shuffle, which makes i8 of i4 and e5m2 of e2m1; 8-bit floats through the
 * f16 whose upper byte they nearly are), are multiplied and rounded. Where D has 16 bits and one factor covers
 * many columns there are shorter ways, all of them byte shuffles in tables of rounded products:
 *   4-bit codes under one factor a row: the values themselves;
 *   e2m1 in groups of 16: the eight magnitudes, two groups at a time;
 *   e4m3 in bf16: scaling by a power of two moves nothing but the exponent, so the values of codes 8 to 23 (two
 *   exponents) plus 256 for every two exponents more are those of all normal codes; 0 to 7 are eight others. e5m2
 *   likewise, four exponents from code 4 on and 512.
 *   This holds while no value leaves bf16's normal range, which the factor's own range tells.
 */
#include "backends/host/simd.h"
#include "ir/dtype/codec.h"

#define INLINE static inline __attribute__((always_inline))
#define JOIN2(a, b) a##b
#define JOIN(a, b) JOIN2(a, b)

/* ---- any processor ------------------------------------------------------------------------------------- */

static float number_of(qc_dtype codes, uint32_t code)
{
    switch (codes) {
    case QC_F8E4M3:
        return qc_f8e4m3_to_f32((uint8_t)code);
    case QC_F8E5M2:
        return qc_f8e5m2_to_f32((uint8_t)code);
    case QC_F4E2M1:
        return qc_f4e2m1_to_f32((uint8_t)(code & 15));
    case QC_I4:
        return (float)qc_code_signed(code & 15, 4);
    default:
        return (float)qc_code_signed(code & 255, 8);
    }
}

#if !defined(__AVX2__)

static void store_one(qc_dtype dtype, float value, void *values, size_t i)
{
    if (dtype == QC_F32)
        ((float *)values)[i] = value;
    else
        ((uint16_t *)values)[i] = dtype == QC_BF16 ? qc_bf16_from_f32(value) : qc_f16_from_f32(value);
}

static void any_codes(const qc_host_codes *c)
{
    float numbers[256];
    size_t bytes = qc_host_dtype_bytes(c->dtype);

    for (uint32_t code = 0; code < 256; code++)
        numbers[code] = number_of(c->codes, code);
    for (size_t r = 0; r < c->rows; r++) {
        const float *factors = c->factors + r * c->factor_stride;
        for (size_t i = 0; i < c->columns; i++) {
            void *values = (char *)c->values + (r * c->stride + i / 16 * c->block) * bytes;
            uint32_t code = c->packed ? qc_code_get(c->row[r], 4, i) : ((const uint8_t *)c->row[r])[i];
            store_one(c->dtype, numbers[code] * factors[(c->first + i) / c->group], values, i % 16);
        }
    }
}

#define codes_to_values any_codes

#else /* ---- AVX2 ---------------------------------------------------------------------------------------- */

#include <immintrin.h>

enum { NEAREST = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC };

typedef enum kind {
    BYTE_I8,
    BYTE_E5M2,
    BYTE_E4M3
} kind; /* what sixteen bytes hold before they are numbers */

enum { LANES = 16 };

INLINE __m128i nibble_table(qc_dtype codes)
{
    /* i8 of i4; e5m2, the upper half of an f16, of e2m1 */
    return codes == QC_I4 ? _mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, -8, -7, -6, -5, -4, -3, -2, -1)
                          : _mm_setr_epi8(0, 0x38, 0x3c, 0x3e, 0x40, 0x42, 0x44, 0x46, (char)0x80, (char)0xb8,
                                (char)0xbc, (char)0xbe, (char)0xc0, (char)0xc2, (char)0xc4, (char)0xc6);
}

/* The low and the high halves of the bytes of x, in turn. */
INLINE __m128i nibbles(__m128i x)
{
    const __m128i low = _mm_set1_epi8(15);
    return _mm_unpacklo_epi8(_mm_and_si128(x, low), _mm_and_si128(_mm_srli_epi16(x, 4), low));
}

/* Sixteen codes from column `i` of a row on; those behind the last column are 0. */
INLINE __m128i take(qc_dtype codes, bool packed, const uint8_t *row, size_t i, size_t columns)
{
    uint8_t last[LANES] = {0};
    size_t left = columns - i;
    const uint8_t *from = row + (packed ? i / 2 : i);
    __m128i x;

    if (left < LANES) {
        memcpy(last, from, packed ? (left + 1) / 2 : left);
        from = last;
    }
    if (packed)
        x = nibbles(_mm_loadl_epi64((const __m128i *)(const void *)from));
    else
        x = _mm_loadu_si128((const __m128i *)(const void *)from);
    if (codes == QC_F4E2M1 && !packed)
        x = _mm_and_si128(x, _mm_set1_epi8(15));
    return packed || codes == QC_F4E2M1 ? _mm_shuffle_epi8(nibble_table(codes), x) : x;
}

typedef struct pair {
    __m256 low, high;
} pair;

INLINE pair from_f16(__m256i x)
{
    return (pair){
        _mm256_cvtph_ps(_mm256_castsi256_si128(x)), _mm256_cvtph_ps(_mm256_extracti128_si256(x, 1))};
}

INLINE pair numbers(kind byte, __m128i x)
{
    if (byte == BYTE_I8)
        return (pair){_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(x)),
            _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(x, 8)))};
    __m256i wide = _mm256_cvtepu8_epi16(x);
    if (byte == BYTE_E5M2)
        return from_f16(_mm256_slli_epi16(wide, 8));
    /* exponents are biased by 7, those of f16 by 15: 2^8 too small */
    __m256i all = _mm256_set1_epi16(0x3f80), size = _mm256_and_si256(_mm256_slli_epi16(wide, 7), all);
    __m256i sign = _mm256_and_si256(_mm256_slli_epi16(wide, 8), _mm256_set1_epi16((short)0x8000));
    __m256i nan = _mm256_and_si256(_mm256_cmpeq_epi16(size, all), _mm256_set1_epi16(0x7e00));
    pair p = from_f16(_mm256_or_si256(_mm256_or_si256(size, sign), nan));
    const __m256 up = _mm256_set1_ps(256.0f);
    return (pair){_mm256_mul_ps(p.low, up), _mm256_mul_ps(p.high, up)};
}

/* The bits of bf16 in 32-bit lanes. A NaN here is a small one, so the sum does not leave the NaNs. */
INLINE __m256i round_bf16(__m256 x)
{
    __m256i u = _mm256_castps_si256(x);
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
    return _mm256_srli_epi32(_mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
}

INLINE void put(qc_dtype dtype, pair p, void *values)
{
    if (dtype == QC_F32) {
        _mm256_storeu_ps(values, p.low);
        _mm256_storeu_ps((float *)values + 8, p.high);
    } else if (dtype == QC_F16) {
        _mm_storeu_si128(values, _mm256_cvtps_ph(p.low, NEAREST));
        _mm_storeu_si128((__m128i *)values + 1, _mm256_cvtps_ph(p.high, NEAREST));
    } else {
        __m256i both = _mm256_packus_epi32(round_bf16(p.low), round_bf16(p.high));
        _mm256_storeu_si256(values, _mm256_permute4x64_epi64(both, 0xd8));
    }
}

/* Factors of sixteen columns from column `i` of c->columns on. */
INLINE pair factors_of(const qc_host_codes *c, const float *factors, size_t i)
{
    size_t column = c->first + i, left = c->columns - i;
    float each[LANES];

    if (c->group % LANES == 0 && column % LANES == 0) {
        __m256 one = _mm256_broadcast_ss(factors + column / c->group);
        return (pair){one, one};
    }
    if (c->group == 1 && left >= LANES)
        return (pair){_mm256_loadu_ps(factors + column), _mm256_loadu_ps(factors + column + 8)};
    for (size_t l = 0; l < LANES; l++)
        each[l] = factors[(column + (l < left ? l : left - 1)) / c->group];
    return (pair){_mm256_loadu_ps(each), _mm256_loadu_ps(each + 8)};
}

/* Columns from `from` on of all rows. The arguments but c and from are constants where this is expanded. Loops over
 * rows stand inside, here and below, so that constants are loaded once. */
INLINE void general_rows(kind byte, qc_dtype codes, bool packed, qc_dtype dtype, bool one_factor,
    const qc_host_codes *c, size_t from)
{
    const size_t bytes = qc_host_dtype_bytes(dtype), columns = c->columns, block = c->block * bytes;
    const float *factors = c->factors;
    char *values = (char *)c->values + from / LANES * block;

    for (size_t r = 0; r < c->rows; r++, factors += c->factor_stride, values += c->stride * bytes) {
        const uint8_t *row = c->row[r];
        __m256 one = _mm256_broadcast_ss(factors + c->first / c->group);
        pair f = {one, one};
        char *to = values;
        for (size_t i = from; i < columns; i += LANES, to += block) {
            pair x = numbers(byte, take(codes, packed, row, i, columns));
            if (!one_factor)
                f = factors_of(c, factors, i);
            x.low = _mm256_mul_ps(x.low, f.low);
            x.high = _mm256_mul_ps(x.high, f.high);
            put(dtype, x, to);
        }
    }
}

/* ---- tables of values of 16 bits ------------------------------------------------------------------------ */

/* Sixteen values, their lower and upper bytes, in both halves of a register. */
typedef struct table {
    __m256i low, high;
} table;

/* D(numbers[k] * factor), sixteen of them. */
INLINE table products(qc_dtype dtype, pair numbers, float factor)
{
    const __m256 f = _mm256_set1_ps(factor);
    __m256 a = _mm256_mul_ps(numbers.low, f), b = _mm256_mul_ps(numbers.high, f);
    __m256i both;
    if (dtype == QC_F16) {
        both = _mm256_set_m128i(_mm256_cvtps_ph(b, NEAREST), _mm256_cvtps_ph(a, NEAREST));
    } else {
        both = _mm256_permute4x64_epi64(_mm256_packus_epi32(round_bf16(a), round_bf16(b)), 0xd8);
    }
    __m256i bytes =
        _mm256_packus_epi16(_mm256_and_si256(both, _mm256_set1_epi16(255)), _mm256_srli_epi16(both, 8));
    return (table){_mm256_permute4x64_epi64(bytes, 0x88), _mm256_permute4x64_epi64(bytes, 0xdd)};
}

INLINE pair sixteen_numbers(qc_dtype codes, uint32_t first)
{
    float n[LANES];
    for (uint32_t k = 0; k < LANES; k++)
        n[k] = number_of(codes, first + k);
    return (pair){_mm256_loadu_ps(n), _mm256_loadu_ps(n + 8)};
}

/* Sixteen bytes as thirty-two nibbles: a byte's two halves stand beside each other, and the bytes where `order`
 * says. */
INLINE __m256i spread(const uint8_t *bytes, __m256i order)
{
    __m256i x = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)bytes));
    __m256i twice = _mm256_shuffle_epi8(x, order);
    return _mm256_or_si256(_mm256_and_si256(twice, _mm256_set1_epi16(0x000f)),
        _mm256_and_si256(_mm256_srli_epi16(twice, 4), _mm256_set1_epi16(0x0f00)));
}

/* What follows does columns [0, end), end a multiple of 32. */

/* Packed 4-bit codes, one factor a row. */
INLINE void nibble_rows(qc_dtype codes, qc_dtype dtype, const qc_host_codes *c, size_t end)
{
    /* the halves of a register that unpacking keeps apart */
    const __m256i order = _mm256_setr_epi8(0, 0, 1, 1, 2, 2, 3, 3, 8, 8, 9, 9, 10, 10, 11, 11, 4, 4, 5, 5, 6,
        6, 7, 7, 12, 12, 13, 13, 14, 14, 15, 15);
    const pair all = sixteen_numbers(codes, 0);
    const float *factors = c->factors + c->first / c->group;
    table t = products(dtype, all, *factors);

    for (size_t r = 0; r < c->rows; r++, factors += c->factor_stride) {
        const uint8_t *row = c->row[r];
        uint16_t *values = (uint16_t *)c->values + r * c->stride;
        if (c->factor_stride)
            t = products(dtype, all, *factors);
        for (size_t i = 0; i < end; i += 32, values += 2 * c->block) {
            __m256i index = spread(row + i / 2, order);
            __m256i low = _mm256_shuffle_epi8(t.low, index), high = _mm256_shuffle_epi8(t.high, index);
            _mm256_storeu_si256((__m256i *)(void *)values, _mm256_unpacklo_epi8(low, high));
            _mm256_storeu_si256((__m256i *)(void *)(values + c->block), _mm256_unpackhi_epi8(low, high));
        }
    }
}

/* Packed e2m1 in bf16, a factor for every 16 columns. */
INLINE void e2m1_rows(const qc_host_codes *c, size_t end)
{
    const __m256i order = _mm256_setr_epi8(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10,
        11, 11, 12, 12, 13, 13, 14, 14, 15, 15);
    const __m256i bytes = _mm256_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15, 0, 2, 4, 6,
        8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15);
    const __m256 sizes = _mm256_setr_ps(0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f);
    const __m256i seven = _mm256_set1_epi8(7), eight = _mm256_set1_epi8(8);

    for (size_t r = 0; r < c->rows; r++) {
        const float *factors = c->factors + r * c->factor_stride + c->first / LANES;
        const uint8_t *row = c->row[r];
        uint16_t *values = (uint16_t *)c->values + r * c->stride;
        for (size_t i = 0; i < end; i += 32, factors += 2, values += 2 * c->block) {
            __m256i a = round_bf16(_mm256_mul_ps(sizes, _mm256_broadcast_ss(factors)));
            __m256i b = round_bf16(_mm256_mul_ps(sizes, _mm256_broadcast_ss(factors + 1)));
            /* a half for each group: lower bytes of its eight values, then upper ones */
            __m256i t = _mm256_permute4x64_epi64(_mm256_packus_epi32(a, b), 0xd8);
            t = _mm256_shuffle_epi8(t, bytes);
            __m256i index = spread(row + i / 2, order), size = _mm256_and_si256(index, seven);
            __m256i sign = _mm256_slli_epi16(_mm256_and_si256(index, eight), 4);
            __m256i low = _mm256_shuffle_epi8(t, size);
            __m256i high = _mm256_xor_si256(_mm256_shuffle_epi8(t, _mm256_or_si256(size, eight)), sign);
            __m256i first = _mm256_unpacklo_epi8(low, high), second = _mm256_unpackhi_epi8(low, high);
            _mm256_storeu_si256((__m256i *)(void *)values, _mm256_permute2x128_si256(first, second, 0x20));
            _mm256_storeu_si256(
                (__m256i *)(void *)(values + c->block), _mm256_permute2x128_si256(first, second, 0x31));
        }
    }
}

/* e4m3 or e5m2 in bf16, one factor a row. `usual` has the values of the sixteen codes from the first normal one on, `tiny`,
 * at its end, those of the codes below. A shuffle gives 0 where the index has its highest bit set, which is where the
 * other table counts. */
INLINE void float_rows(qc_dtype codes, const qc_host_codes *c, size_t end)
{
    const bool e4m3 = codes == QC_F8E4M3;
    const char first = e4m3 ? 8 : 4;
    const __m256i all = _mm256_set1_epi8(0x7f), zero = _mm256_setzero_si256();
    const pair usual_numbers = sixteen_numbers(codes, (uint32_t)first);
    float below_first[LANES] = {0};
    for (uint32_t k = 0; k < (uint32_t)first; k++)
        below_first[LANES - (uint32_t)first + k] = number_of(codes, k);
    const pair tiny_numbers = {_mm256_loadu_ps(below_first), _mm256_loadu_ps(below_first + 8)};
    const float *factors = c->factors + c->first / c->group;
    table usual = products(QC_BF16, usual_numbers, *factors),
          tiny = products(QC_BF16, tiny_numbers, *factors);

    for (size_t r = 0; r < c->rows; r++, factors += c->factor_stride) {
        const uint8_t *row = c->row[r];
        uint16_t *values = (uint16_t *)c->values + r * c->stride;
        if (c->factor_stride) {
            usual = products(QC_BF16, usual_numbers, *factors);
            tiny = products(QC_BF16, tiny_numbers, *factors);
        }
        for (size_t i = 0; i < end; i += 32, values += 2 * c->block) {
            __m256i x = _mm256_loadu_si256((const __m256i *)(const void *)(row + i));
            x = _mm256_permute4x64_epi64(x, 0xd8);
            __m256i size = _mm256_and_si256(x, all);
            __m256i above = _mm256_sub_epi8(size, _mm256_set1_epi8(first));
            __m256i below = _mm256_adds_epu8(size, _mm256_set1_epi8((char)(0x80 - first)));
            __m256i low =
                _mm256_or_si256(_mm256_shuffle_epi8(usual.low, above), _mm256_shuffle_epi8(tiny.low, below));
            __m256i high = _mm256_or_si256(
                _mm256_shuffle_epi8(usual.high, above), _mm256_shuffle_epi8(tiny.high, below));
            /* exponents above the table's, two in the upper byte's lowest bit */
            __m256i up = _mm256_srli_epi16(_mm256_max_epi8(above, zero), e4m3 ? 4 : 3);
            high = _mm256_add_epi8(high, _mm256_and_si256(up, _mm256_set1_epi8(e4m3 ? 7 : 14)));
            if (e4m3) {
                __m256i nan = _mm256_cmpeq_epi8(size, all);
                low = _mm256_or_si256(low, nan);
                high = _mm256_or_si256(high, _mm256_and_si256(nan, all));
            } else { /* the last exponent: infinity, and three NaNs */
                __m256i last = _mm256_cmpgt_epi8(size, _mm256_set1_epi8(0x7b));
                __m256i bits = _mm256_or_si256(
                    _mm256_and_si256(size, _mm256_set1_epi8(3)), _mm256_set1_epi8((char)0x80));
                low = _mm256_blendv_epi8(low, bits, last);
                high = _mm256_or_si256(high, _mm256_and_si256(last, all));
            }
            high = _mm256_xor_si256(high, _mm256_xor_si256(x, size));
            _mm256_storeu_si256((__m256i *)(void *)values, _mm256_unpacklo_epi8(low, high));
            _mm256_storeu_si256((__m256i *)(void *)(values + c->block), _mm256_unpackhi_epi8(low, high));
        }
    }
}

/* Is every row's factor one that keeps 8-bit floats within bf16's normal numbers? */
INLINE bool usual_factors(const qc_host_codes *c)
{
    const float *factors = c->factors + c->first / c->group;
    bool usual = true;
    for (size_t r = 0; r < c->rows; r++, factors += c->factor_stride)
        usual = usual && *factors >= 0x1p-100f && *factors <= 0x1p+100f;
    return usual;
}

INLINE void rows_of(kind byte, qc_dtype codes, bool packed, qc_dtype dtype, const qc_host_codes *c)
{
    bool one = c->first / c->group == (c->first + c->columns - 1) / c->group;
    size_t end = c->columns / 32 * 32, done = end;

    if (packed && dtype != QC_F32 && one)
        nibble_rows(codes, dtype, c, end);
    else if (packed && codes == QC_F4E2M1 && dtype == QC_BF16 && c->group == LANES && c->first % LANES == 0)
        e2m1_rows(c, end);
    else if (byte != BYTE_I8 && !packed && codes != QC_F4E2M1 && dtype == QC_BF16 && one && usual_factors(c))
        float_rows(codes, c, end);
    else
        done = 0;
    if (done == c->columns)
        return;
    if (one)
        general_rows(byte, codes, packed, dtype, true, c, done);
    else
        general_rows(byte, codes, packed, dtype, false, c, done);
}

INLINE void of_type(kind byte, qc_dtype codes, bool packed, const qc_host_codes *c)
{
    if (c->dtype == QC_BF16)
        rows_of(byte, codes, packed, QC_BF16, c);
    else if (c->dtype == QC_F16)
        rows_of(byte, codes, packed, QC_F16, c);
    else
        rows_of(byte, codes, packed, QC_F32, c);
}

static void codes_to_values(const qc_host_codes *c)
{
    if (c->codes == QC_F8E4M3)
        of_type(BYTE_E4M3, QC_F8E4M3, false, c);
    else if (c->codes == QC_F8E5M2)
        of_type(BYTE_E5M2, QC_F8E5M2, false, c);
    else if (c->codes == QC_F4E2M1 && c->packed)
        of_type(BYTE_E5M2, QC_F4E2M1, true, c);
    else if (c->codes == QC_F4E2M1)
        of_type(BYTE_E5M2, QC_F4E2M1, false, c);
    else if (c->packed)
        of_type(BYTE_I8, QC_I4, true, c);
    else
        of_type(BYTE_I8, QC_I8, false, c);
}

/* Eight columns of sixteen rows: the halves of a register hold rows 0 to 7 and 8 to 15. */
INLINE void eight_columns(const uint16_t *const *rows, size_t i, uint16_t *panel)
{
    __m256i x[8], y[8];

    for (int r = 0; r < 8; r++)
        x[r] = _mm256_set_m128i(_mm_loadu_si128((const __m128i *)(const void *)(rows[r + 8] + i)),
            _mm_loadu_si128((const __m128i *)(const void *)(rows[r] + i)));
    for (int r = 0; r < 4; r++) {
        y[2 * r] = _mm256_unpacklo_epi16(x[2 * r], x[2 * r + 1]);
        y[2 * r + 1] = _mm256_unpackhi_epi16(x[2 * r], x[2 * r + 1]);
    }
    for (int half = 0; half < 2; half++) { /* columns 0 1 | 2 3, then 4 5 | 6 7 */
        const __m256i *from = y + half;
        x[4 * half] = _mm256_unpacklo_epi32(from[0], from[2]);
        x[4 * half + 1] = _mm256_unpackhi_epi32(from[0], from[2]);
        x[4 * half + 2] = _mm256_unpacklo_epi32(from[4], from[6]);
        x[4 * half + 3] = _mm256_unpackhi_epi32(from[4], from[6]);
    }
    for (int half = 0; half < 2; half++)
        for (int k = 0; k < 2; k++) {
            __m256i a = x[4 * half + k], b = x[4 * half + 2 + k];
            uint16_t *to = panel + (i + (size_t)(4 * half + 2 * k)) * LANES;
            _mm256_storeu_si256((__m256i *)(void *)to, _mm256_unpacklo_epi64(a, b));
            _mm256_storeu_si256((__m256i *)(void *)(to + LANES), _mm256_unpackhi_epi64(a, b));
        }
}

#endif

/* panel[i][l] = rows[l][i] */
static void transpose(qc_dtype dtype, const void *const *rows, size_t columns, void *panel)
{
    size_t i = 0;

    if (dtype == QC_F32) {
        for (; i < columns; i++)
            for (size_t l = 0; l < QC_HOST_PANEL; l++)
                ((float *)panel)[i * QC_HOST_PANEL + l] = ((const float *)rows[l])[i];
        return;
    }
#if defined(__AVX2__)
    const uint16_t *half[QC_HOST_PANEL];
    for (size_t l = 0; l < QC_HOST_PANEL; l++)
        half[l] = rows[l];
    for (; i + 8 <= columns; i += 8)
        eight_columns(half, i, panel);
#endif
    for (; i < columns; i++)
        for (size_t l = 0; l < QC_HOST_PANEL; l++)
            ((uint16_t *)panel)[i * QC_HOST_PANEL + l] = ((const uint16_t *)rows[l])[i];
}

void JOIN(qc_host_codes_, QC_HOST_ISA)(const qc_host_codes *codes)
{
    codes_to_values(codes);
}

void JOIN(qc_host_transpose_, QC_HOST_ISA)(
    qc_dtype dtype, const void *const *rows, size_t columns, void *panel)
{
    transpose(dtype, rows, columns, panel);
}
