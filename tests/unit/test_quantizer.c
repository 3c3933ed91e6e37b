/* SPDX-License-Identifier: MIT
 *
 * test_quantizer.c - scales, codes, values and searched ranges of every kind of scheme. Yardsticks: hashes of
 * what compressed-tensors and llm-compressor compute from the same inputs (data/quantizer_goldens.inc, see its
 * generator), a row worked out by hand, and for the forms over rows one element after the other, as plainly as
 * possible.
 */
#include "check.h"

#include "ir/dtype/codec.h"
#include "ir/dtype/mse.h"
#include "ir/dtype/pack.h"
#include "ir/dtype/quantizer.h"
#include "ir/support/io.h"

#include "data/quantizer_goldens.inc"

enum { PATTERNS = 65536, RANGES = 4096, ROWS = 64, COLUMNS = 256 };

static const float globals[] = {0.0f, 5376.0f, 44.75f, 1.0f, 25165824.0f};

typedef struct scheme {
    const char *name;
    qc_dtype type;
    int group; /* 0: one scale a row */
    qc_dtype scale_type;
    bool global, symmetric;
} scheme;

static const scheme schemes[] = {
    {"nvfp4", QC_F4E2M1, 16, QC_F8E4M3, true, true},
    {"mxfp4", QC_F4E2M1, 32, QC_F8E8M0, false, true},
    {"mxfp8", QC_F8E4M3, 32, QC_F8E8M0, false, true},
    {"f4", QC_F4E2M1, 16, QC_DTYPE_NONE, false, true},
    {"f8", QC_F8E4M3, 0, QC_DTYPE_NONE, false, true},
    {"f8_s8", QC_F8E4M3, 32, QC_F8E4M3, false, true},
    {"i2", QC_I2, 128, QC_DTYPE_NONE, false, true},
    {"i3", QC_I3, 128, QC_DTYPE_NONE, false, true},
    {"i4", QC_I4, 128, QC_DTYPE_NONE, false, true},
    {"i4_asym", QC_I4, 128, QC_DTYPE_NONE, false, false},
    {"i4_s8", QC_I4, 128, QC_F8E4M3, false, true},
    {"i4_sbf16_asym", QC_I4, 128, QC_BF16, false, false},
    {"i4_sf16_asym", QC_I4, 128, QC_F16, false, false},
    {"i4_sf32", QC_I4, 128, QC_F32, false, true},
    {"i7_asym", QC_I7, 32, QC_DTYPE_NONE, false, false},
    {"i8", QC_I8, 0, QC_DTYPE_NONE, false, true},
    {"i8_asym", QC_I8, 0, QC_DTYPE_NONE, false, false},
};
enum { SCHEMES = sizeof schemes / sizeof schemes[0] };

static const scheme *scheme_named(const char *name)
{
    for (int i = 0; i < SCHEMES; i++)
        if (strcmp(schemes[i].name, name) == 0)
            return &schemes[i];
    CHECK_FAIL("no scheme %s", name);
    return &schemes[0];
}

static qc_quantizer quantizer_of(const scheme *s, qc_dtype model, const char *dialect)
{
    return (qc_quantizer){
        .arith = qc_arith_find(dialect, strlen(dialect)),
        .model_dtype = model,
        .grid = qc_grid_of(s->type),
        .symmetric = s->symmetric,
        .global = s->global,
        .scale_type = s->scale_type,
    };
}

static void hash_is(qc_sha256 *h, const char *what, qc_dtype model, const char *name, const char *expected)
{
    char hex[65];
    qc_sha256_hex(h, hex);
    if (strcmp(hex, expected) != 0)
        CHECK_FAIL("%s in %s, %s: sha256 %s, expected %s", what, qc_dtype_name(model), name, hex, expected);
}

/* ---- the generator's inputs ---------------------------------------------------------------------------- */

static uint32_t next_pattern(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 32);
}

static size_t width_of(qc_dtype model)
{
    return (size_t)qc_dtype_bits(model) / 8;
}

static float number(qc_dtype model, uint32_t bits)
{
    return model == QC_F32   ? qc_f32_from_bits(bits)
           : model == QC_F16 ? qc_f16_to_f32((uint16_t)bits)
                             : qc_bf16_to_f32((uint16_t)bits);
}

static void put(qc_dtype model, void *x, size_t i, uint32_t bits)
{
    if (model == QC_F32)
        ((uint32_t *)x)[i] = bits;
    else
        ((uint16_t *)x)[i] = (uint16_t)bits;
}

static float get(qc_dtype model, const void *x, size_t i)
{
    return number(model, model == QC_F32 ? ((const uint32_t *)x)[i] : ((const uint16_t *)x)[i]);
}

/* Every pattern of a 16-bit type, or one f32 for each upper half; NaN replaced by 0. */
static void all_numbers(qc_dtype model, void *x)
{
    uint64_t state = 1;
    for (uint32_t i = 0; i < PATTERNS; i++) {
        uint32_t low = next_pattern(&state) & 0xffffu, bits = model == QC_F32 ? i << 16 | low : i;
        put(model, x, i, isnan(number(model, bits)) ? 0 : bits);
    }
}

/* Rows of ordinary numbers, and of zeros, subnormal, huge, tiny, one-sided, sparse and spread ones. */
static void test_weight(qc_dtype model, void *x)
{
    const int mb = model == QC_F32 ? 23 : model == QC_F16 ? 10 : 7, eb = model == QC_F16 ? 5 : 8;
    const int bias = (1 << (eb - 1)) - 1;
    uint64_t state = 1;
    for (int r = 0; r < ROWS; r++)
        for (int c = 0; c < COLUMNS; c++) {
            uint32_t p = next_pattern(&state), sign = p >> 23 & 1, fraction = p & ((1u << mb) - 1);
            int more = (int)(p >> 24), e = bias - 2 - (more & 7) - r % 5, kind = r % 16;
            e = kind == 9    ? 0
                : kind == 10 ? 2 * bias - (more & 1)
                : kind == 11 ? 1 + (more & 3)
                : kind == 15 ? bias - 10 + more % 16
                             : e;
            if (kind == 8 || (kind == 14 && more % 8 != 0))
                e = 0, fraction = 0;
            sign = kind == 12 ? 0 : kind == 13 ? 1 : sign;
            put(model, x, (size_t)(r * COLUMNS + c), sign << (eb + mb) | (uint32_t)e << mb | fraction);
        }
}

static uint32_t comparable(float x)
{
    return isnan(x) ? 0x7fc00000u : qc_f32_bits(x + 0.0f);
}

static void hash_numbers(qc_sha256 *h, const float *x, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint32_t bits = comparable(x[i]);
        qc_sha256_add(h, &bits, 4);
    }
}

/* ---- against compressed-tensors ------------------------------------------------------------------------ */

static void test_globals(void)
{
    static uint32_t x[PATTERNS];
    static float out[PATTERNS];
    for (size_t g = 0; g < sizeof golden_globals / sizeof golden_globals[0]; g++) {
        qc_dtype model = golden_globals[g].model;
        qc_quantizer q = quantizer_of(scheme_named("nvfp4"), model, "ct_cpu");
        all_numbers(model, x);
        for (size_t i = 0; i < PATTERNS; i++) {
            float amax = fabsf(get(model, x, i));
            out[i] = qc_quantizer_global(&q, isinf(amax) ? 0 : amax);
        }
        qc_sha256 h;
        qc_sha256_init(&h);
        hash_numbers(&h, out, PATTERNS);
        hash_is(&h, "global scales", model, "nvfp4", golden_globals[g].sha256);
    }
}

static float finite_or_zero(float x)
{
    return isfinite(x) ? x : 0;
}

static void test_scales(void)
{
    static float mins[RANGES], maxs[RANGES], scales[RANGES], zero_points[RANGES];
    for (size_t g = 0; g < sizeof golden_scales / sizeof golden_scales[0]; g++) {
        const struct golden_scale *golden = &golden_scales[g];
        const scheme *s = scheme_named(golden->scheme);
        qc_quantizer q = quantizer_of(s, golden->model, "ct_cpu");
        uint64_t state = 1;
        for (int i = 0; i < RANGES; i++) {
            uint32_t p[2] = {next_pattern(&state), 0};
            p[1] = next_pattern(&state);
            float x[2];
            for (int k = 0; k < 2; k++) {
                p[k] = i % 2 != 0 ? (p[k] & 0x8fffffffu) | 0x38000000u : p[k];
                x[k] = finite_or_zero(number(golden->model, golden->model == QC_F32 ? p[k] : p[k] >> 16));
            }
            mins[i] = fminf(x[0], x[1]);
            maxs[i] = fmaxf(x[0], x[1]);
        }
        qc_sha256 h;
        qc_sha256_init(&h);
        for (int k = 0; k < (s->global ? 5 : 1); k++) {
            qc_quantizer_scales(&q, mins, maxs, RANGES, globals[k], scales, zero_points);
            hash_numbers(&h, scales, RANGES);
            hash_numbers(&h, zero_points, RANGES);
        }
        hash_is(&h, "scales", golden->model, golden->scheme, golden->sha256);
    }
}

static const float code_scales[] = {1.0f, 0.0113525390625f, 3.1e-5f, 7.25f, 448.0f, 0.125f};

static void test_codes(void)
{
    static uint32_t x[PATTERNS];
    static uint8_t codes[PATTERNS];
    static float values[PATTERNS];
    static uint32_t back[PATTERNS];
    const float zero_points[] = {0, -1, 3};
    for (size_t i = 0; i < sizeof golden_codes / sizeof golden_codes[0]; i++) {
        const struct golden_code *golden = &golden_codes[i];
        const scheme *s = scheme_named(golden->scheme);
        qc_quantizer q = quantizer_of(s, golden->model, golden->dialect);
        qc_sha256 code_hash, value_hash;
        qc_sha256_init(&code_hash);
        qc_sha256_init(&value_hash);
        all_numbers(golden->model, x);
        for (int g = 0; g < (s->global ? 5 : 1); g++)
            for (int k = 0; k < 6; k++)
                for (int z = 0; z < (s->symmetric ? 1 : 3); z++) {
                    float scale = qc_round_to(golden->model, code_scales[k]);
                    qc_quantizer_quantize(&q, x, PATTERNS, scale, globals[g], zero_points[z], codes);
                    qc_sha256_add(&code_hash, codes, PATTERNS);
                    qc_quantizer_dequantize(
                        &q, golden->model, codes, PATTERNS, scale, globals[g], zero_points[z], back);
                    qc_decode_f32(golden->model, back, values, PATTERNS);
                    hash_numbers(&value_hash, values, PATTERNS);
                }
        hash_is(&code_hash, golden->dialect, golden->model, golden->scheme, golden->codes_sha256);
        hash_is(&value_hash, "values", golden->model, golden->scheme, golden->values_sha256);
    }
}

/* Searches a weight in pieces of some rows. */
static void search_weight(const qc_quantizer *q, const qc_mse *mse, const void *x, int64_t group, int piece,
    const float *importance, float *mins, float *maxs)
{
    uint64_t improved[QC_MSE_WORDS] = {0}, scratch[QC_MSE_WORDS];
    const int64_t groups = (COLUMNS + group - 1) / group;
    int stop = qc_mse_steps(mse);
    for (int run = 0; run < 2; run++) {
        for (int r = 0; r < ROWS; r += piece)
            CHECK(qc_mse_search(q, mse, (const char *)x + (size_t)(r * COLUMNS) * width_of(q->model_dtype),
                piece, COLUMNS, group, importance, stop, mins + r * groups, maxs + r * groups,
                run == 0 ? improved : scratch));
        stop = qc_mse_stop_step(mse, improved);
        if (!qc_mse_improved_after(improved, stop))
            return;
    }
}

static void test_searches(void)
{
    static uint32_t x[ROWS * COLUMNS];
    static float mins[ROWS * COLUMNS], maxs[ROWS * COLUMNS], importance[COLUMNS];
    uint64_t state = 7;
    for (int c = 0; c < COLUMNS; c++)
        importance[c] = (float)(next_pattern(&state) >> 8) * 0x1p-20f;
    CHECK(qc_mse_importance(importance, COLUMNS, importance));
    for (size_t i = 0; i < sizeof golden_searches / sizeof golden_searches[0]; i++) {
        const struct golden_search *golden = &golden_searches[i];
        const scheme *s = scheme_named(golden->scheme);
        qc_quantizer q = quantizer_of(s, golden->model, "ct_cpu");
        qc_mse mse;
        CHECK(qc_mse_from_observer(golden->observer, strlen(golden->observer), &mse));
        mse.norm = golden->norm != 0 ? golden->norm : mse.norm;
        mse.maxshrink = golden->maxshrink != 0 ? golden->maxshrink : mse.maxshrink;
        mse.grid = golden->grid != 0 ? golden->grid : mse.grid;
        mse.patience = golden->patience != 0 ? golden->patience : mse.patience;
        CHECK(qc_mse_fault(&mse) == NULL);
        int64_t group = s->group ? s->group : COLUMNS, groups = COLUMNS / group;
        test_weight(golden->model, x);
        for (int piece = 64; piece >= 8; piece /= 8) {
            search_weight(&q, &mse, x, group, piece, mse.imatrix ? importance : NULL, mins, maxs);
            qc_sha256 h;
            qc_sha256_init(&h);
            hash_numbers(&h, mins, (size_t)(ROWS * groups));
            hash_numbers(&h, maxs, (size_t)(ROWS * groups));
            hash_is(&h, golden->observer, golden->model, golden->scheme, golden->sha256);
        }
    }
}

/* One row of 16 weights, worked out by hand elsewhere: bf16 bits in, scale and codes of each scheme out. */
static void test_one_row(void)
{
    static const uint16_t w[16] = {0x3c4a, 0xbf00, 0x3ea9, 0xb9d2, 0x3d91, 0x8000, 0x3e80, 0xbe40, 0x0000,
        0x3eff, 0xbe85, 0x3b45, 0xbca4, 0x3e1a, 0xbefb, 0x3ecd};
    static const struct {
        const char *scheme;
        float global, scale, zero_point;
        uint8_t codes[16];
    } rows[] = {
        {"f8", 0, 0x1.24p-10f, 0,
            {0x53, 0xfe, 0x79, 0xac, 0x68, 0, 0x76, 0xf2, 0, 0x7e, 0xf7, 0x43, 0xd9, 0x70, 0xfe, 0x7b}},
        {"i8", 0, 0x1.02p-8f, 0, {3, 129, 84, 0, 18, 0, 64, 208, 0, 126, 190, 1, 251, 38, 132, 102}},
        {"i4", 0, 0x1.12p-4f, 0, {0, 249, 5, 0, 1, 0, 4, 253, 0, 7, 252, 0, 0, 2, 249, 6}},
        {"i4_asym", 0, 0x1.12p-4f, -1, {255, 248, 4, 255, 0, 255, 3, 252, 255, 6, 251, 255, 255, 1, 248, 5}},
        {"nvfp4", 5376, 448, 0, {0, 15, 6, 8, 2, 0, 5, 12, 0, 7, 13, 0, 8, 4, 15, 6}},
        {"mxfp4", 0, 0x1p-3f, 0, {0, 14, 5, 8, 1, 0, 4, 11, 0, 6, 12, 0, 8, 2, 14, 5}},
        {"mxfp8", 0, 0x1p-9f, 0,
            {0x4d, 0xf8, 0x73, 0xa5, 0x61, 0, 0x70, 0xec, 0, 0x78, 0xf0, 0x3c, 0xd2, 0x6a, 0xf8, 0x75}},
    };
    static const uint8_t nvfp4[8] = {0xf0, 0x86, 0x02, 0xc5, 0x70, 0x0d, 0x48, 0x6f};
    static const uint8_t mxfp4[8] = {0xe0, 0x85, 0x01, 0xb4, 0x60, 0x0c, 0x28, 0x5e};
    static const uint32_t int4[2] = {0x5c898d18, 0xe1a884f8};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        qc_quantizer q = quantizer_of(scheme_named(rows[i].scheme), QC_BF16, "ct_cpu");
        float scale, zero_point;
        uint8_t codes[16], packed[8];
        qc_quantizer_rows_scales(&q, w, 1, 16, 16, rows[i].global, &scale, &zero_point);
        CHECK(scale == rows[i].scale && zero_point == rows[i].zero_point);
        qc_quantizer_rows_codes(&q, w, 1, 16, 16, &scale, rows[i].global, &zero_point, codes);
        if (memcmp(codes, rows[i].codes, 16) != 0)
            CHECK_FAIL("%s: other codes", rows[i].scheme);
        qc_pack_nibbles(codes, 16, packed);
        if (q.grid.storage == QC_F4E2M1)
            CHECK(memcmp(packed, q.global ? nvfp4 : mxfp4, 8) == 0);
        qc_pack_words(4, (const int8_t *)codes, 16, packed);
        if (strcmp(rows[i].scheme, "i4") == 0)
            CHECK(memcmp(packed, int4, 8) == 0);
    }
    qc_quantizer nv = quantizer_of(scheme_named("nvfp4"), QC_BF16, "ct_cpu");
    CHECK(qc_quantizer_global(&nv, 0.5f) == 5376);
}

int main(void)
{
    RUN(test_one_row);
    RUN(test_globals);
    RUN(test_scales);
    RUN(test_codes);
    RUN(test_searches);
    return check_done();
}
