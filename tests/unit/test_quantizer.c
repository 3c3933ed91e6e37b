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
static void search_weight(const qc_quantizer *q, const qc_mse *mse, const void *x, int64_t rows,
    int64_t columns, int64_t group, int64_t piece, const float *importance, float *mins, float *maxs)
{
    uint64_t improved[QC_MSE_WORDS] = {0}, scratch[QC_MSE_WORDS];
    const int64_t groups = (columns + group - 1) / group;
    int stop = qc_mse_steps(mse);
    for (int run = 0; run < 2; run++) {
        for (int64_t r = 0; r < rows; r += piece)
            CHECK(qc_mse_search(q, mse, (const char *)x + (size_t)(r * columns) * width_of(q->model_dtype),
                piece, columns, group, importance, stop, mins + r * groups, maxs + r * groups,
                run == 0 ? improved : scratch));
        stop = qc_mse_stop_step(mse, improved);
        if (!qc_mse_improved_after(improved, stop))
            return;
    }
}

/* Ordinary rows only, end to end; returns how many elements that are. */
static int64_t ordinary_rows(qc_dtype model, void *x)
{
    const size_t row_bytes = COLUMNS * width_of(model);
    int64_t kept = 0;
    for (int r = 0; r < ROWS; r++)
        if (r % 16 < 8)
            memmove((char *)x + (size_t)kept++ * row_bytes, (char *)x + (size_t)r * row_bytes, row_bytes);
    return kept * COLUMNS;
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
        const int64_t columns = golden->columns, group = s->group ? s->group : columns,
                      groups = columns / group;
        test_weight(golden->model, x);
        const int64_t rows = columns == COLUMNS ? ROWS : ordinary_rows(golden->model, x) / columns;
        for (int64_t piece = rows; piece >= (rows + 7) / 8; piece /= 8) {
            search_weight(
                &q, &mse, x, rows, columns, group, piece, mse.imatrix ? importance : NULL, mins, maxs);
            qc_sha256 h;
            qc_sha256_init(&h);
            hash_numbers(&h, mins, (size_t)(rows * groups));
            hash_numbers(&h, maxs, (size_t)(rows * groups));
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

/* ---- rows against one element after the other ---------------------------------------------------------- */

/* One code, step by step. */
static uint8_t plain_code(const qc_quantizer *q, float x, float scale, float global, float zero_point)
{
    const qc_grid grid = q->grid;
    qc_dtype step = q->arith->round_quotient && global == 0 ? q->model_dtype : QC_F32;
    float t = qc_round_to(step, x / (global != 0 ? scale / global : scale));
    if (q->arith->add_zero_point || zero_point != 0)
        t = qc_round_to(step, t + zero_point);
    if (isnan(t))
        return grid.storage == QC_I8 || grid.storage == QC_F4E2M1 ? 0 : 0x7f;
    t = t < grid.min ? grid.min : t > grid.max ? grid.max : t;
    switch (grid.storage) {
    case QC_I8:
        return (uint8_t)(int8_t)nearbyintf(t);
    case QC_F4E2M1:
        return qc_f4e2m1_from_f32(t);
    case QC_F8E4M3:
        return qc_f8e4m3_from_f32(t);
    default:
        return qc_f8e5m2_from_f32(t);
    }
}

static float value_of(const qc_quantizer *q, uint8_t code)
{
    switch (q->grid.storage) {
    case QC_I8:
        return (float)(int8_t)code;
    case QC_F4E2M1:
        return qc_f4e2m1_to_f32(code);
    case QC_F8E4M3:
        return qc_f8e4m3_to_f32(code);
    default:
        return qc_f8e5m2_to_f32(code);
    }
}

static float plain_value(
    const qc_quantizer *q, qc_dtype to, uint8_t code, float scale, float global, float zero_point)
{
    qc_dtype step = global != 0 ? QC_F32 : q->model_dtype;
    float difference = qc_round_to(step, value_of(q, code) - zero_point);
    return qc_round_to(to, qc_round_to(step, difference * (global != 0 ? scale / global : scale)));
}

/* Scales that make ties, that are exact, and that are at the ends of the type. */
static float some_scale(qc_dtype model, uint64_t *state)
{
    static const float ends[] = {
        0x1p-126f, 0x1p-133f, 0x1.fep127f, 0x1p126f, 0x1p-100f, INFINITY, 0, NAN, 0x1p-24f, 65504};
    uint32_t p = next_pattern(state);
    if (p % 8 == 0)
        return qc_round_to(model, ends[p / 8 % 10]);
    float x = qc_f32_from_bits((p & 0x7fffffu) | (112u + (p >> 23) % 24u) << 23);
    return p % 8 < 3 ? qc_f32_from_bits(qc_f32_bits(x) & 0xffc00000u) : qc_round_to(model, x);
}

/* `count` elements of x as rows of `columns`, with random scales and zero points. */
static void rows_are_plain(const qc_quantizer *q, const void *x, size_t count, int64_t columns, int64_t group,
    float global, uint64_t *state)
{
    static uint8_t codes[PATTERNS + 1];
    static float scales[PATTERNS], zero_points[PATTERNS];
    static uint32_t back[PATTERNS];
    const int64_t rows = (int64_t)count / columns, groups = (columns + group - 1) / group;
    const bool zeros = q->symmetric && q->grid.bits % 2 == 0; /* pass none at all */
    int wrong = 0;
    for (int64_t i = 0; i < rows * groups; i++) {
        scales[i] = some_scale(global != 0 ? QC_F8E4M3 : q->model_dtype, state);
        zero_points[i] = q->symmetric ? 0 : (float)(int)(next_pattern(state) % 5) - 2;
    }
    codes[rows * columns] = 0xa5;
    qc_quantizer_rows_codes(q, x, rows, columns, group, scales, global, zeros ? NULL : zero_points, codes);
    CHECK(codes[rows * columns] == 0xa5);
    const qc_dtype to = global != 0 && group == 16 ? QC_F32 : q->model_dtype;
    qc_quantizer_rows_dequantize(
        q, to, codes, rows, columns, group, scales, global, zeros ? NULL : zero_points, back);
    for (int64_t i = 0; i < rows * columns && wrong < 4; i++) {
        int64_t g = i / columns * groups + i % columns / group;
        float v = get(q->model_dtype, x, (size_t)i);
        uint8_t want = plain_code(q, v, scales[g], global, zero_points[g]);
        if (codes[i] != want && ++wrong)
            CHECK_FAIL("%s, %d bits, %s: %a / %a + %g (global %g): code %02x, expected %02x",
                qc_dtype_name(q->model_dtype), q->grid.bits, q->arith->name, v, scales[g], zero_points[g],
                global, codes[i], want);
        float y = get(to, back, (size_t)i),
              plain = plain_value(q, to, codes[i], scales[g], global, zero_points[g]);
        if (comparable(y) != comparable(plain) && ++wrong)
            CHECK_FAIL("%s: code %02x * %a: %a, expected %a", qc_dtype_name(q->model_dtype), codes[i],
                scales[g], y, plain);
    }
}

/* Every number of a 16-bit type, under many scales, in groups that the vector loops take and others. */
static void test_rows(void)
{
    static const struct {
        int64_t columns, group;
    } shapes[] = {{256, 16}, {4096, 32}, {1024, 128}, {8192, 8192}, {1000, 1000}, {600, 128}, {77, 16},
        {320, 20}, {48, 5}, {5, 9}};
    static const qc_dtype models[] = {QC_BF16, QC_F16, QC_F32};
    static uint32_t x[PATTERNS];
    uint64_t state = 3;
    for (int m = 0; m < 3; m++) {
        all_numbers(models[m], x);
        for (int with_nan = 0; with_nan < 2; with_nan++) {
            for (uint32_t i = 0; with_nan && i < PATTERNS; i += 5000)
                put(models[m], x, i, models[m] == QC_F32 ? 0xffc00001u : 0xffffu);
            for (int s = 0; s < SCHEMES; s++)
                for (size_t k = 0; k < sizeof shapes / sizeof shapes[0]; k++)
                    for (size_t a = 0; qc_arith_at(a); a++) {
                        if ((with_nan || k > 3) && k % 4 != a % 4)
                            continue; /* what takes the slow way is slow: a part will do */
                        qc_quantizer q = quantizer_of(&schemes[s], models[m], qc_arith_at(a)->name);
                        if (s == 4 && k > 4)
                            q.grid = qc_grid_of(QC_F8E5M2);
                        rows_are_plain(&q, x, PATTERNS, shapes[k].columns, shapes[k].group,
                            schemes[s].global ? globals[1 + k % 4] : 0, &state);
                    }
        }
    }
}

/* Every bf16 number over every one of the scales whose significands are all there are: no quotient of these is
 * rounded wrongly by the loop that multiplies. */
static void test_every_quotient(void)
{
    static uint16_t x[PATTERNS];
    static uint8_t codes[PATTERNS];
    static const char *const names[] = {"f8", "i8", "f4", "i4_asym"};
    for (uint32_t i = 0; i < PATTERNS; i++)
        x[i] = (uint16_t)(isnan(qc_bf16_to_f32((uint16_t)i)) ? 0 : i);
    for (int n = 0; n < 4; n++) {
        qc_quantizer q = quantizer_of(scheme_named(names[n]), QC_BF16, "ct_cpu");
        for (uint32_t significand = 0; significand < 128; significand++) {
            float scale = qc_bf16_to_f32((uint16_t)(118u << 7 | significand)),
                  zero_point = q.symmetric ? 0 : -3;
            int wrong = 0;
            qc_quantizer_rows_codes(&q, x, 1, PATTERNS, PATTERNS, &scale, 0, &zero_point, codes);
            for (uint32_t i = 0; i < PATTERNS && wrong < 4; i++)
                if (codes[i] != plain_code(&q, qc_bf16_to_f32(x[i]), scale, 0, zero_point) && ++wrong)
                    CHECK_FAIL("%s: %a / %a: code %02x", names[n], qc_bf16_to_f32(x[i]), scale, codes[i]);
        }
    }
}

/* Ranges and scales of groups of any size; vector and plain forms of the scale. */
static void test_row_scales(void)
{
    static const int64_t widths[] = {16, 32, 64, 128, 256, 20, 7};
    static const qc_dtype models[] = {QC_BF16, QC_F16, QC_F32};
    static uint32_t x[PATTERNS];
    static float scales[PATTERNS], zero_points[PATTERNS], mins[PATTERNS], maxs[PATTERNS];
    for (int m = 0; m < 3; m++) {
        all_numbers(models[m], x);
        put(models[m], x, 3000, models[m] == QC_F32 ? 0xffc00001u : 0xffffu);
        for (int s = 0; s < SCHEMES; s++)
            for (int w = 0; w < 7; w++) {
                qc_quantizer q = quantizer_of(&schemes[s], models[m], "ct_cpu");
                const int64_t rows = 3, columns = 5000, groups = (columns + widths[w] - 1) / widths[w];
                const float global = schemes[s].global ? 44.75f : 0;
                qc_quantizer_rows_ranges(&q, x, rows, columns, widths[w], mins, maxs);
                qc_quantizer_rows_scales(&q, x, rows, columns, widths[w], global, scales, zero_points);
                for (int64_t i = 0; i < rows * groups; i++) {
                    int64_t r = i / groups, c = i % groups * widths[w];
                    int64_t n = columns - c < widths[w] ? columns - c : widths[w];
                    float low, high, scale, zero_point;
                    qc_arith_minmax(models[m], (char *)x + (size_t)(r * columns + c) * width_of(models[m]),
                        (size_t)n, &low, &high);
                    qc_quantizer_scale(&q, low, high, global, &scale, &zero_point);
                    CHECK(comparable(low) == comparable(mins[i]) && comparable(high) == comparable(maxs[i]));
                    if (comparable(scale) != comparable(scales[i]) ||
                        comparable(zero_point) != comparable(zero_points[i]))
                        CHECK_FAIL("%s, %s: [%a, %a]: %a, %g, expected %a, %g", schemes[s].name,
                            qc_dtype_name(models[m]), low, high, scales[i], zero_points[i], scale,
                            zero_point);
                }
            }
    }
}

/* Blocks cut off at the edges: the same as gathering each. */
static void test_blocks(void)
{
    enum { R = 50, C = 75, BR = 16, BC = 32 };
    uint16_t x[R * C], block[BR * BC], back[R * C];
    uint8_t codes[R * C], some[BR * BC];
    float scales[4 * 3], again[4 * 3], zero_points[4 * 3], mins[4 * 3], maxs[4 * 3];
    uint64_t state = 5;
    for (int i = 0; i < R * C; i++)
        x[i] = (uint16_t)(next_pattern(&state) >> 16 & 0xbcffu);
    for (int s = 4; s < SCHEMES; s += 5) {
        qc_quantizer q = quantizer_of(&schemes[s], QC_BF16, "ct_cpu");
        qc_quantizer_blocks_scales(&q, x, R, C, BR, BC, 0, scales, zero_points);
        qc_quantizer_blocks_ranges(&q, x, R, C, BR, BC, mins, maxs);
        qc_quantizer_scales(&q, mins, maxs, 12, 0, again, NULL);
        CHECK(memcmp(scales, again, sizeof scales) == 0);
        qc_quantizer_blocks_codes(&q, x, R, C, BR, BC, scales, 0, zero_points, codes);
        qc_quantizer_blocks_dequantize(&q, QC_BF16, codes, R, C, BR, BC, scales, 0, zero_points, back);
        for (int b = 0; b < 12; b++) {
            int n = 0;
            for (int r = b / 3 * BR; r < R && r < (b / 3 + 1) * BR; r++)
                for (int c = b % 3 * BC; c < C && c < (b % 3 + 1) * BC; c++)
                    block[n++] = x[r * C + c];
            float scale, zero_point;
            uint16_t values[BR * BC];
            qc_quantizer_rows_scales(&q, block, 1, n, n, 0, &scale, &zero_point);
            CHECK(scale == scales[b] && zero_point == zero_points[b]);
            qc_quantizer_rows_codes(&q, block, 1, n, n, &scale, 0, &zero_point, some);
            qc_quantizer_dequantize(&q, QC_BF16, some, (size_t)n, scale, 0, zero_point, values);
            n = 0;
            for (int r = b / 3 * BR; r < R && r < (b / 3 + 1) * BR; r++)
                for (int c = b % 3 * BC; c < C && c < (b % 3 + 1) * BC; c++, n++)
                    CHECK(codes[r * C + c] == some[n] && back[r * C + c] == values[n]);
        }
    }
}

/* ---- the end of a search, and weights of columns ------------------------------------------------------- */

static void test_stop(void)
{
    qc_mse mse;
    uint64_t improved[QC_MSE_WORDS] = {0};
    CHECK(qc_mse_from_observer("memoryless_mse", 14, &mse) && mse.memoryless && !mse.imatrix);
    CHECK(!qc_mse_from_observer("memoryless_ms", 13, &mse) && !qc_mse_from_observer("minmax", 6, &mse));
    CHECK_INT(qc_mse_steps(&mse), 20);
    CHECK_INT(qc_mse_stop_step(&mse, improved), 5); /* never improved */
    improved[0] = 0x81;
    CHECK_INT(qc_mse_stop_step(&mse, improved), 6); /* 1 to 5 in vain: 7 is never tried */
    CHECK(qc_mse_improved_after(improved, 6) && !qc_mse_improved_after(improved, 8));
    improved[0] = 0x91;
    CHECK_INT(qc_mse_stop_step(&mse, improved), 13);
    improved[0] = 0x84210;
    CHECK_INT(qc_mse_stop_step(&mse, improved), 20);
    mse.patience = 0; /* as 1 */
    improved[0] = 0x3;
    CHECK_INT(qc_mse_stop_step(&mse, improved), 3);
    CHECK(qc_mse_from_observer("nvfp4_expanded_mse", 18, &mse));
    CHECK_INT(qc_mse_steps(&mse), 111);
    improved[0] = improved[1] = 0;
    CHECK_INT(qc_mse_stop_step(&mse, improved), 111);
    CHECK(qc_mse_from_observer("imatrix_mse", 11, &mse) && mse.imatrix);
    CHECK_INT(qc_mse_steps(&mse), 20);
    mse.patience = 0; /* no end */
    CHECK_INT(qc_mse_stop_step(&mse, improved), 20);
    CHECK(qc_mse_fault(&mse) == NULL);
    static const qc_mse bad[] = {{.grid = 0, .norm = 2, .expand = 1}, {.grid = 10, .norm = -1, .expand = 1},
        {.grid = 10, .norm = 2, .expand = 0.5}, {.grid = 10, .norm = 2, .expand = 1, .maxshrink = 1.5},
        {.grid = 1e9, .norm = 2, .expand = 1, .maxshrink = 1},
        {.grid = 10, .norm = 2, .expand = 1, .patience = -1}, {.grid = NAN, .norm = 2, .expand = 1},
        {.grid = 10, .norm = INFINITY, .expand = 1}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        CHECK(qc_mse_fault(&bad[i]) != NULL);
}

static void test_importance(void)
{
    float x[3] = {1, 2, 6}, y[3];
    CHECK(qc_mse_importance(x, 3, y) && y[0] == 1 / 3.0f && y[2] == 2);
    const float bad[3][3] = {{0, 0, 0}, {1, -1, 1}, {1, INFINITY, 1}};
    for (int i = 0; i < 3; i++)
        CHECK(!qc_mse_importance(bad[i], 3, y));
}

/* ---- packing ------------------------------------------------------------------------------------------- */

static void test_packing(void)
{
    enum { MOST = 300 };
    uint8_t codes[MOST] = {0}, packed[MOST * 4 + 1], back[MOST];
    uint64_t state = 9;
    for (size_t n = 0; n < MOST; n += n < 70 ? 1 : 37) {
        for (size_t i = 0; i < n; i++)
            codes[i] = next_pattern(&state) >> 28;
        packed[(n + 1) / 2] = 0xa5;
        qc_pack_nibbles(codes, n, packed);
        CHECK(packed[(n + 1) / 2] == 0xa5 && (n % 2 == 0 || packed[n / 2] >> 4 == 0));
        for (size_t i = 0; i < n; i++)
            CHECK((packed[i / 2] >> (i % 2 * 4) & 15) == codes[i]);
        qc_unpack_nibbles(packed, n, back);
        CHECK(memcmp(codes, back, n) == 0);
        qc_pack_nibbles(codes, n, codes); /* in place */
        CHECK(memcmp(codes, packed, (n + 1) / 2) == 0);
        for (int bits = 1; bits <= 8; bits++) {
            const size_t words = qc_pack_word_count(bits, n), half = (size_t)1 << (bits - 1);
            CHECK_INT(words, (n * (size_t)bits + 31) / 32);
            for (size_t i = 0; i < n; i++)
                codes[i] = (uint8_t)((next_pattern(&state) >> (32 - bits)) - half);
            memset(packed, 0xff, sizeof packed);
            packed[words * 4] = 0xa5;
            qc_pack_words(bits, (int8_t *)codes, n, packed);
            CHECK(packed[words * 4] == 0xa5);
            for (size_t k = 0; k < words * 32; k++) {
                size_t i = k / (size_t)bits;
                unsigned want = i < n ? (unsigned)((int8_t)codes[i] + (int)half) >> k % (size_t)bits & 1u : 0;
                if ((packed[k / 8] >> k % 8 & 1u) != want)
                    CHECK_FAIL("%d bits, %zu columns: bit %zu", bits, n, k);
            }
            qc_unpack_words(bits, packed, n, (int8_t *)back);
            CHECK(memcmp(codes, back, n) == 0);
        }
    }
}

int main(void)
{
    RUN(test_rows);
    RUN(test_every_quotient);
    RUN(test_row_scales);
    RUN(test_blocks);
    RUN(test_stop);
    RUN(test_importance);
    RUN(test_packing);
    RUN(test_one_row);
    RUN(test_globals);
    RUN(test_scales);
    RUN(test_codes);
    RUN(test_searches);
    return check_done();
}
