/* SPDX-License-Identifier: MIT
 *
 * test_dtype.c - element types and codecs. Three yardsticks: what PyTorch makes of every 8-bit code and every
 * 16-bit pattern (data/dtype_goldens.inc, see its generator), a nearest-value search written as plainly as
 * possible, and hand-written cases for conversions.
 */
#include "check.h"

#include "ir/dtype/codec.h"
#include "ir/support/io.h"

#include "data/dtype_goldens.inc"

enum { PATTERNS = 65536, GOLDEN_INPUTS = 7 * PATTERNS };

static uint32_t without_nan_sign(float x)
{
    return isnan(x) ? 0x7fc00000u : qc_f32_bits(x);
}

static void hash_is(const char *name, const void *data, size_t size_bytes, const char *expected)
{
    qc_sha256 h;
    char hex[65];
    qc_sha256_init(&h);
    qc_sha256_add(&h, data, size_bytes);
    qc_sha256_hex(&h, hex);
    if (strcmp(hex, expected) != 0)
        CHECK_FAIL("%s: sha256 %s, expected %s", name, hex, expected);
}

static void test_names(void)
{
    CHECK_STR(qc_dtype_name(QC_BF16), "bf16");
    CHECK_STR(qc_dtype_name(QC_DTYPE_NONE), "none");
    CHECK_STR(qc_dtype_name((qc_dtype)99), "none");
    CHECK_INT(qc_dtype_from_name("f8e4m3x", 6), QC_F8E4M3);
    CHECK_INT(qc_dtype_from_name("f8e4m3x", 7), QC_DTYPE_NONE);
    CHECK_INT(qc_dtype_from_name("none", 4), QC_DTYPE_NONE);
    CHECK_INT(qc_dtype_from_safetensors_name("F8_E4M3"), QC_F8E4M3);
    CHECK_INT(qc_dtype_from_safetensors_name(""), QC_DTYPE_NONE);
    CHECK_INT(qc_dtype_from_safetensors_name("f32"), QC_DTYPE_NONE);
    CHECK_STR(qc_dtype_safetensors_name(QC_I4), "");
    for (int i = 1; i < QC_DTYPE_COUNT; i++) {
        qc_dtype d = (qc_dtype)i;
        CHECK_INT(qc_dtype_from_name(qc_dtype_name(d), strlen(qc_dtype_name(d))), d);
        if (qc_dtype_safetensors_name(d)[0])
            CHECK_INT(qc_dtype_from_safetensors_name(qc_dtype_safetensors_name(d)), d);
        CHECK(qc_dtype_bits(d) >= 2 && qc_dtype_max(d) > 0);
        CHECK_INT(qc_dtype_is_float(d) + qc_dtype_is_int(d), d != QC_BOOL);
    }
    CHECK_INT(qc_dtype_bits(QC_F4E2M1), 4);
    CHECK_INT(qc_dtype_bits(QC_F64), 64);
    CHECK_INT(qc_dtype_max(QC_F8E5M2), 57344);
    CHECK_INT(qc_dtype_max(QC_U32), 4294967295u);
}

/* ---- decoding ------------------------------------------------------------------------------------------ */

static void codes_decode_to(qc_dtype dtype, float (*one)(uint8_t), const uint32_t *golden, int count)
{
    for (int c = 0; c < count; c++) {
        uint8_t code = (uint8_t)c;
        float from_array[1];
        qc_decode_f32(dtype, &code, from_array, 1);
        if (without_nan_sign(one(code)) != golden[c] || without_nan_sign(from_array[0]) != golden[c])
            CHECK_FAIL("%s code %02x: %08x and %08x, expected %08x", qc_dtype_name(dtype), (unsigned)c,
                (unsigned)qc_f32_bits(one(code)), (unsigned)qc_f32_bits(from_array[0]), (unsigned)golden[c]);
    }
}

static void test_decode_8_bit(void)
{
    codes_decode_to(QC_F8E4M3, qc_f8e4m3_to_f32, golden_f8e4m3, 256);
    codes_decode_to(QC_F8E5M2, qc_f8e5m2_to_f32, golden_f8e5m2, 256);
    codes_decode_to(QC_F8E8M0, qc_f8e8m0_to_f32, golden_f8e8m0, 256);
    codes_decode_to(QC_F4E2M1, qc_f4e2m1_to_f32, golden_f4e2m1, 16);
    CHECK(signbit(qc_f8e4m3_to_f32(0x80)) && signbit(qc_f4e2m1_to_f32(8)));
}

static void test_decode_16_bit(void)
{
    static uint16_t codes[PATTERNS];
    static float array[PATTERNS];
    static uint32_t bits[PATTERNS];
    for (int i = 0; i < PATTERNS; i++)
        codes[i] = (uint16_t)i;
    qc_decode_f32(QC_F16, codes, array, PATTERNS);
    for (int i = 0; i < PATTERNS; i++) {
        bits[i] = without_nan_sign(array[i]);
        if (bits[i] != without_nan_sign(qc_f16_to_f32((uint16_t)i)))
            CHECK_FAIL("f16 %04x: array and value differ", (unsigned)i);
    }
    hash_is("f16", bits, sizeof bits, golden_f16_sha256);
    qc_decode_f32(QC_BF16, codes, array, PATTERNS);
    for (int i = 0; i < PATTERNS; i++)
        if (qc_f32_bits(array[i]) != (uint32_t)i << 16)
            CHECK_FAIL("bf16 %04x", (unsigned)i);
}

/* ---- encoding ------------------------------------------------------------------------------------------ */

typedef struct encoder {
    const char *name;
    qc_dtype dtype; /* whose array function does the same; NONE: there is none */
    uint8_t (*one)(float);
    uint16_t (*one_wide)(float);
} encoder;

static uint16_t bf16_from_f32(float x)
{
    return qc_bf16_from_f32(x);
}

static const encoder encoders[] = {
    {"f8e4m3", QC_DTYPE_NONE, qc_f8e4m3_from_f32, NULL},
    {"f8e4m3_saturate", QC_F8E4M3, qc_f8e4m3_from_f32_saturate, NULL},
    {"f8e5m2", QC_F8E5M2, qc_f8e5m2_from_f32, NULL},
    {"f8e5m2_saturate", QC_DTYPE_NONE, qc_f8e5m2_from_f32_saturate, NULL},
    {"f8e8m0", QC_F8E8M0, qc_f8e8m0_from_f32, NULL},
    {"f4e2m1", QC_F4E2M1, qc_f4e2m1_from_f32, NULL},
    {"f16", QC_F16, NULL, qc_f16_from_f32},
    {"bf16", QC_BF16, NULL, bf16_from_f32},
    {"i8", QC_I8, NULL, NULL},
    {"u8", QC_U8, NULL, NULL},
};
enum { ENCODERS = sizeof encoders / sizeof encoders[0] };

/* The inputs of the generator, in its order; NaN as 0. */
static void golden_inputs(float *x)
{
    for (uint32_t i = 0; i < PATTERNS; i++) {
        uint32_t b = i << 16, h = qc_f32_bits(qc_f16_to_f32((uint16_t)i));
        h = isnan(qc_f32_from_bits(h)) ? 0 : h;
        const uint32_t row[7] = {b, h, b - 1, b + 1, h - 1, h + 1, b ^ 0x8000u};
        for (int k = 0; k < 7; k++) {
            float v = qc_f32_from_bits(row[k]);
            x[(uint32_t)k * PATTERNS + i] = isnan(v) ? 0.0f : v;
        }
    }
}

/* The generator writes NaN inputs as 0 into the codes whatever the type makes of 0 (e8m0 makes 0 of it too).
 */
static void test_encode_against_torch(void)
{
    static float x[GOLDEN_INPUTS];
    static uint8_t narrow[GOLDEN_INPUTS];
    static uint16_t wide[GOLDEN_INPUTS];
    static uint8_t packed[GOLDEN_INPUTS];
    golden_inputs(x);
    CHECK_INT(sizeof golden_encodes / sizeof golden_encodes[0], ENCODERS);
    for (int e = 0; e < ENCODERS; e++) {
        const encoder *enc = &encoders[e];
        CHECK_STR(golden_encodes[e].name, enc->name);
        if (enc->dtype == QC_F4E2M1) {
            qc_encode_f32(enc->dtype, x, packed, GOLDEN_INPUTS);
            for (size_t i = 0; i < GOLDEN_INPUTS; i++)
                narrow[i] = packed[i / 2] >> (i % 2 * 4) & 15u;
        } else if (enc->dtype != QC_DTYPE_NONE) {
            qc_encode_f32(enc->dtype, x, enc->one_wide ? (void *)wide : (void *)narrow, GOLDEN_INPUTS);
        }
        for (size_t i = 0; i < GOLDEN_INPUTS; i++) {
            bool first_form = enc->dtype == QC_DTYPE_NONE;
            if (enc->one && first_form)
                narrow[i] = enc->one(x[i]);
            if ((enc->one && narrow[i] != enc->one(x[i])) ||
                (enc->one_wide && wide[i] != enc->one_wide(x[i])))
                CHECK_FAIL("%s of %a: array and value differ", enc->name, x[i]);
        }
        const void *codes = enc->one_wide ? (const void *)wide : (const void *)narrow;
        hash_is(enc->name, codes, GOLDEN_INPUTS * (enc->one_wide ? 2u : 1u), golden_encodes[e].sha256);
    }
}

/* Nearest of the first `finite` codes' values by search; a tie to the even code; beyond the last by its
 * limit. */
static uint32_t nearest_code(float (*decode)(uint32_t), uint32_t finite, double overflow_limit, float x)
{
    double a = fabs((double)x);
    uint32_t lo = 0, hi = finite - 1;
    if (a >= overflow_limit)
        return finite;
    while (hi - lo > 1) {
        uint32_t middle = (lo + hi) / 2;
        if (decode(middle) <= a)
            lo = middle;
        else
            hi = middle;
    }
    double below = a - decode(lo), above = decode(hi) - a;
    return below < above || (below == above && lo % 2 == 0) ? lo : hi;
}

static float value_e4m3(uint32_t c)
{
    return qc_f32_from_bits(golden_f8e4m3[c]);
}
static float value_e5m2(uint32_t c)
{
    return qc_f32_from_bits(golden_f8e5m2[c]);
}
static float value_e2m1(uint32_t c)
{
    return qc_f32_from_bits(golden_f4e2m1[c]);
}
static float value_f16(uint32_t c)
{
    return qc_f16_to_f32((uint16_t)c);
}

static void encodes_nearest(float x)
{
    uint32_t sign = signbit(x) ? 1u : 0u;
    uint32_t e4m3 = nearest_code(value_e4m3, 127, INFINITY, x),
             e5m2 = nearest_code(value_e5m2, 124, 61440, x);
    uint32_t e2m1 = nearest_code(value_e2m1, 8, INFINITY, x), f16 = nearest_code(value_f16, 0x7c00, 65520, x);
    uint32_t e4m3_plain = fabsf(x) > 464 ? 127 : e4m3, e5m2_saturated = e5m2 > 123 ? 123 : e5m2;
    uint32_t e2m1_sign = x == 0 ? 0 : sign;
    if (isinf(x)) { /* the search has no answer to infinity less infinity */
        e4m3 = 126;
        e2m1 = 7;
    }
    if (qc_f8e4m3_from_f32_saturate(x) != (sign << 7 | e4m3) ||
        qc_f8e4m3_from_f32(x) != (sign << 7 | e4m3_plain) || qc_f8e5m2_from_f32(x) != (sign << 7 | e5m2) ||
        qc_f8e5m2_from_f32_saturate(x) != (sign << 7 | e5m2_saturated) ||
        qc_f4e2m1_from_f32(x) != (e2m1_sign << 3 | e2m1) || qc_f16_from_f32(x) != (sign << 15 | f16))
        CHECK_FAIL("%a: %02x %02x %02x %02x %x %04x", x, qc_f8e4m3_from_f32_saturate(x),
            qc_f8e4m3_from_f32(x), qc_f8e5m2_from_f32(x), qc_f8e5m2_from_f32_saturate(x),
            qc_f4e2m1_from_f32(x), qc_f16_from_f32(x));
}

/* Every midpoint between neighbours and the f32 next to it, then a walk over all of f32. */
static void test_encode_against_search(void)
{
    static float (*const values[])(uint32_t) = {value_e4m3, value_e5m2, value_e2m1, value_f16};
    static const uint32_t finite[] = {127, 124, 8, 0x7c00};
    for (int t = 0; t < 4; t++)
        for (uint32_t c = 0; c + 1 < finite[t]; c++) {
            float middle = (values[t](c) + values[t](c + 1)) / 2;
            for (int side = -1; side <= 1; side++) {
                float x = qc_f32_from_bits(qc_f32_bits(middle) + (uint32_t)side);
                encodes_nearest(x);
                encodes_nearest(-x);
            }
        }
    for (uint64_t u = 0; u <= UINT32_MAX; u += 2039) {
        float x = qc_f32_from_bits((uint32_t)u);
        if (!isnan(x))
            encodes_nearest(x);
    }
}

static void test_nan_and_limits(void)
{
    float nan = qc_f32_from_bits(0x7fc00001u), negative_nan = qc_f32_from_bits(0xff800001u);
    CHECK_INT(qc_f8e4m3_from_f32(nan), 0x7f);
    CHECK_INT(qc_f8e4m3_from_f32_saturate(nan), 0x7f);
    CHECK_INT(qc_f8e4m3_from_f32_saturate(negative_nan), 0xff);
    CHECK_INT(qc_f8e5m2_from_f32(nan), 0x7f);
    CHECK_INT(qc_f8e5m2_from_f32_saturate(negative_nan), 0xff);
    CHECK_INT(qc_f8e8m0_from_f32(nan), 255);
    CHECK_INT(qc_f4e2m1_from_f32(negative_nan), 0);
    CHECK_INT(qc_bf16_from_f32(negative_nan), 0x7fc0);
    CHECK(isnan(qc_f16_to_f32(qc_f16_from_f32(negative_nan))) && isnan(qc_round_to(QC_F16, nan)));
    CHECK_INT(qc_f8e4m3_from_f32(464.0f), 0x7e);
    CHECK_INT(qc_f8e4m3_from_f32(-INFINITY), 0xff);
    CHECK_INT(qc_f8e4m3_from_f32_saturate(-INFINITY), 0xfe);
    CHECK_INT(qc_f8e5m2_from_f32(INFINITY), 0x7c);
    CHECK_INT(qc_f8e5m2_from_f32_saturate(INFINITY), 0x7b);
    CHECK_INT(qc_f8e4m3_from_f32(-0.0f), 0x80);
    CHECK_INT(qc_f8e4m3_from_f32(-0x1p-11f), 0x80);
    CHECK_INT(qc_f4e2m1_from_f32(-0.0f), 0);
    CHECK_INT(qc_f4e2m1_from_f32(-0.25f), 8);
    CHECK_INT(qc_f8e8m0_from_f32(0.0f), 0);
    CHECK(qc_round_to(QC_F8E4M3, 1e9f) == 448.0f && qc_round_to(QC_F4E2M1, -7.0f) == -6.0f);
    CHECK(isinf(qc_round_to(QC_F16, 65520.0f)) && isinf(qc_round_to(QC_F8E5M2, 1e9f)));
    CHECK(isinf(qc_round_to(QC_BF16, 3.4e38f)) && qc_round_to(QC_F32, 0.1f) == 0.1f);
    CHECK(qc_round_to(QC_BF16, 1.00390625f) == 1.0f && qc_round_to(QC_F8E8M0, 5.9f) == 4.0f);
}

/* ---- arrays -------------------------------------------------------------------------------------------- */

/* Any length and any alignment give the same as one element after the other, and nothing beside them is
 * touched. */
static void test_array_lengths(void)
{
    enum { MAX = 150, GUARD = 0xa5 };
    float x[MAX + 3], back[MAX + 3];
    uint8_t codes[8 * (MAX + 3)], whole[8 * MAX];
    for (int i = 0; i < MAX + 3; i++)
        x[i] = (float)(i - 70) * 0.37f;
    for (int d = 1; d < QC_DTYPE_COUNT; d++) {
        qc_dtype dtype = (qc_dtype)d;
        size_t bits = (size_t)qc_dtype_bits(dtype), step = bits < 8 ? 1 : bits / 8;
        qc_encode_f32(dtype, x, whole, MAX);
        for (size_t n = 0; n <= 70; n++)
            for (size_t shift = 0; shift < 3; shift++) {
                size_t used = (n * bits + 7) / 8;
                memset(codes, GUARD, sizeof codes);
                qc_encode_f32(dtype, x, codes + shift * step, n);
                size_t spare = n * bits % 8; /* bits of the last byte that are in use, 0: all */
                size_t full = used - (spare != 0 ? 1 : 0);
                CHECK(memcmp(codes + shift * step, whole, full) == 0);
                CHECK(spare == 0 || codes[shift + full] == (whole[full] & ((1u << spare) - 1)));
                CHECK(codes[shift * step + used] == GUARD);
                back[n] = 1234.5f;
                qc_decode_f32(dtype, codes + shift * step, back, n);
                CHECK(back[n] == 1234.5f);
                for (size_t i = 0; i < n; i++) {
                    float one;
                    uint8_t code = bits < 8 ? (uint8_t)qc_code_get(whole, (int)bits, i) : 0;
                    qc_decode_f32(dtype, bits < 8 ? &code : whole + i * bits / 8, &one, 1);
                    CHECK(qc_f32_bits(back[i]) == qc_f32_bits(one));
                }
            }
    }
}

/* A dense stream is what it says: bit k of the stream is bit k % 8 of byte k / 8. */
static void test_streams(void)
{
    static const qc_dtype types[] = {QC_I2, QC_I3, QC_I4, QC_I5, QC_I6, QC_I7};
    enum { N = 67 };
    for (size_t t = 0; t < sizeof types / sizeof types[0]; t++) {
        const int bits = qc_dtype_bits(types[t]), half = 1 << (bits - 1);
        const size_t used = ((size_t)bits * N + 7) / 8;
        float x[N], back[N];
        int64_t wide[N], wide_back[N];
        uint8_t by_bit[N] = {0}, encoded[N + 1], converted[N + 1], put[N + 1];
        CHECK_INT(qc_dtype_max(types[t]), half - 1);
        for (int i = 0; i < N; i++) {
            int v = (i * 37 + i / 5) % (2 * half) - half;
            x[i] = (float)v;
            wide[i] = v;
            for (int k = 0; k < bits; k++)
                by_bit[(i * bits + k) / 8] |= (uint8_t)(((unsigned)v >> k & 1u) << (i * bits + k) % 8);
        }
        memset(encoded, 0xa5, sizeof encoded);
        memset(converted, 0xa5, sizeof converted);
        memset(put, 0xff, sizeof put);
        qc_encode_f32(types[t], x, encoded, N);
        qc_convert(QC_I64, wide, types[t], converted, N);
        for (size_t i = N; i-- > 0;)
            qc_code_put(put, bits, i, (uint32_t)wide[i]);
        CHECK(memcmp(encoded, by_bit, used) == 0 && encoded[used] == 0xa5);
        CHECK(memcmp(converted, by_bit, used) == 0 && converted[used] == 0xa5);
        CHECK(memcmp(put, by_bit, (size_t)bits * N / 8) == 0);
        qc_decode_f32(types[t], by_bit, back, N);
        qc_convert(types[t], by_bit, QC_I64, wide_back, N);
        CHECK(memcmp(back, x, sizeof x) == 0 && memcmp(wide_back, wide, sizeof wide) == 0);
        qc_convert(types[t], by_bit, types[t], converted, N);
        CHECK(memcmp(converted, by_bit, used) == 0 && converted[used] == 0xa5);
    }
}

static void test_integers_from_f32(void)
{
    const float x[] = {0.5f, 1.5f, -0.5f, -2.5f, 1e30f, -1e30f, NAN, 7.5f, -8.5f, INFINITY, 200.5f, 65535.4f,
        0x1p31f, 0x1p32f, 0x1p63f};
    enum { N = sizeof x / sizeof x[0] };
    static const int64_t rounded[N] = {0, 2, 0, -2, INT64_MAX, INT64_MIN, 0, 8, -8, INT64_MAX, 200, 65535,
        INT64_C(1) << 31, INT64_C(1) << 32, INT64_MAX};
    static const qc_dtype types[] = {QC_I2, QC_I3, QC_I4, QC_I5, QC_I6, QC_I7, QC_I8, QC_U8, QC_I16, QC_U16,
        QC_I32, QC_U32, QC_I64, QC_U64};
    static const int64_t lows[] = {
        -2, -4, -8, -16, -32, -64, INT8_MIN, 0, INT16_MIN, 0, INT32_MIN, 0, INT64_MIN, 0};
    static const int64_t highs[] = {1, 3, 7, 15, 31, 63, INT8_MAX, UINT8_MAX, INT16_MAX, UINT16_MAX,
        INT32_MAX, UINT32_MAX, INT64_MAX, INT64_MAX};
    for (size_t t = 0; t < sizeof types / sizeof types[0]; t++) {
        uint64_t storage[N];
        int64_t got[N];
        qc_encode_f32(types[t], x, storage, N);
        if (types[t] == QC_U64) { /* 2^64 - 1 is beyond i64 */
            CHECK(storage[4] == UINT64_MAX && storage[9] == UINT64_MAX);
        }
        qc_convert(types[t], storage, QC_I64, got, N);
        for (int i = 0; i < N; i++) {
            int64_t want = rounded[i] < lows[t] ? lows[t] : rounded[i] > highs[t] ? highs[t] : rounded[i];
            if (got[i] != want)
                CHECK_FAIL("%s of %g: %lld, expected %lld", qc_dtype_name(types[t]), x[i], (long long)got[i],
                    (long long)want);
        }
    }
}

static void test_convert(void)
{
    const int64_t big[] = {9007199254740993, INT64_MIN, -1, 300, 0};
    double f64[5];
    int64_t back[5];
    qc_convert(QC_I64, big, QC_F64, f64, 5);
    CHECK(f64[0] == 9007199254740992.0 && f64[1] == -0x1p63 && f64[3] == 300);
    qc_convert(QC_F64, f64, QC_I64, back, 5);
    CHECK(back[0] == 9007199254740992 && back[1] == INT64_MIN && back[2] == -1);
    int32_t i32[5];
    uint8_t u8[5], flags[5], nibbles[3];
    qc_convert(QC_I64, big, QC_I32, i32, 5);
    CHECK(i32[0] == INT32_MAX && i32[1] == INT32_MIN && i32[2] == -1 && i32[3] == 300);
    qc_convert(QC_I64, big, QC_U8, u8, 5);
    CHECK(u8[0] == 255 && u8[1] == 0 && u8[2] == 0 && u8[3] == 255 && u8[4] == 0);
    qc_convert(QC_I64, big, QC_BOOL, flags, 5);
    CHECK(flags[0] == 1 && flags[1] == 1 && flags[4] == 0);
    qc_convert(QC_I64, big, QC_I4, nibbles, 5);
    CHECK(nibbles[0] == 0x87 && nibbles[1] == 0x7f && nibbles[2] == 0x00);
    qc_convert(QC_I4, nibbles, QC_I64, back, 5);
    CHECK(back[0] == 7 && back[1] == -8 && back[2] == -1 && back[3] == 7 && back[4] == 0);

    const uint64_t huge[] = {UINT64_MAX, 1};
    uint64_t copy[2];
    qc_convert(QC_U64, huge, QC_F64, f64, 2);
    CHECK(f64[0] == 0x1p64 && f64[1] == 1);
    qc_convert(QC_F64, f64, QC_U64, copy, 2);
    CHECK(copy[0] == UINT64_MAX && copy[1] == 1);
    qc_convert(QC_U64, huge, QC_U64, copy, 2);
    CHECK(copy[0] == UINT64_MAX);
    qc_convert(QC_U64, huge, QC_I64, back, 2);
    CHECK(back[0] == INT64_MAX && back[1] == 1);

    const double d[] = {0.1, 1e300, -2.5, NAN};
    float f32[4];
    qc_convert(QC_F64, d, QC_F32, f32, 4);
    CHECK(f32[0] == 0.1f && isinf(f32[1]) && isnan(f32[3]));
    qc_convert(QC_F64, d, QC_I8, u8, 4);
    CHECK(u8[0] == 0 && u8[1] == 127 && u8[2] == (uint8_t)-2 && u8[3] == 0);
    qc_convert(QC_F64, d, QC_BOOL, flags, 4);
    CHECK(flags[0] == 1 && flags[3] == 1);
}

/* Long enough to need several blocks, of an odd length, and between packed types. */
static void test_convert_blocks(void)
{
    enum { N = 1401 };
    static float x[N], direct[N], through[N];
    static uint16_t bf16[N], again[N];
    static uint8_t f4[(N + 1) / 2], i4[(N + 1) / 2], f4_again[(N + 1) / 2];
    for (int i = 0; i < N; i++)
        x[i] = (float)(i % 97 - 48) * 0.17f;
    qc_convert(QC_F32, x, QC_BF16, bf16, N);
    for (int i = 0; i < N; i++)
        CHECK_INT(bf16[i], qc_bf16_from_f32(x[i]));
    qc_convert(QC_BF16, bf16, QC_F4E2M1, f4, N);
    qc_decode_f32(QC_BF16, bf16, direct, N);
    qc_encode_f32(QC_F4E2M1, direct, f4_again, N);
    CHECK(memcmp(f4, f4_again, sizeof f4) == 0);
    qc_convert(QC_F4E2M1, f4, QC_I4, i4, N);
    qc_decode_f32(QC_F4E2M1, f4, direct, N);
    qc_decode_f32(QC_I4, i4, through, N);
    for (int i = 0; i < N; i++)
        CHECK(through[i] == nearbyintf(direct[i]));
    qc_convert(QC_BF16, bf16, QC_BF16, again, N);
    CHECK(memcmp(bf16, again, sizeof bf16) == 0);
    memset(f4_again, 0, sizeof f4_again);
    qc_convert(QC_F4E2M1, f4, QC_F4E2M1, f4_again, N);
    CHECK(memcmp(f4, f4_again, sizeof f4) == 0);
}

int main(void)
{
    RUN(test_names);
    RUN(test_decode_8_bit);
    RUN(test_decode_16_bit);
    RUN(test_encode_against_torch);
    RUN(test_encode_against_search);
    RUN(test_nan_and_limits);
    RUN(test_array_lengths);
    RUN(test_streams);
    RUN(test_integers_from_f32);
    RUN(test_convert);
    RUN(test_convert_blocks);
    return check_done();
}
