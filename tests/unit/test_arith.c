/* SPDX-License-Identifier: MIT
 *
 * test_arith.c - the arithmetic of quantization. Yardsticks: hashes of what compressed-tensors computes from
 * the same inputs (data/arith_goldens.inc, see its generator), every static activation scale of the
 * checkpoints that llm-compressor wrote for us, whole checkpoints where they are at hand, and for the rest
 * one value after the other, as plainly as possible.
 */
#include "check.h"

#include "ir/dtype/codec.h"
#include "ir/dtype/quantizer.h"
#include "ir/support/io.h"
#include "ir/support/safetensors.h"

#include "data/arith_goldens.inc"

enum { PATTERNS = 65536, RANGES = 4096 };

static const qc_arith *dialect(const char *name)
{
    return qc_arith_find(name, strlen(name));
}

static qc_grid grid_named(const char *name)
{
    return name[0] == 'f' ? qc_grid_of(QC_F8E4M3) : qc_grid_int(atoi(name + 1));
}

static qc_quantizer quantizer_of(const qc_arith *arith, qc_dtype model, qc_grid grid, bool symmetric)
{
    return (qc_quantizer){.arith = arith, .model_dtype = model, .grid = grid, .symmetric = symmetric};
}

static void scale_of(const qc_arith *arith, qc_dtype model, qc_grid grid, bool symmetric, float min,
    float max, float *scale, float *zero_point)
{
    const qc_quantizer q = quantizer_of(arith, model, grid, symmetric);
    qc_quantizer_scale(&q, min, max, 0, scale, zero_point);
}

static void quantize(const qc_arith *arith, qc_dtype model, qc_grid grid, const void *x, size_t count,
    float scale, float zero_point, void *codes)
{
    const qc_quantizer q = quantizer_of(arith, model, grid, zero_point == 0);
    qc_quantizer_quantize(&q, x, count, scale, 0, zero_point, codes);
}

static void dequantize(
    qc_dtype model, qc_grid grid, const void *codes, size_t count, float scale, float zero_point, void *x)
{
    const qc_quantizer q = quantizer_of(qc_arith_at(0), model, grid, zero_point == 0);
    qc_quantizer_dequantize(&q, model, codes, count, scale, 0, zero_point, x);
}

static void hash_is(qc_sha256 *h, const char *what, qc_dtype model, const char *grid, const char *expected)
{
    char hex[65];
    qc_sha256_hex(h, hex);
    if (strcmp(hex, expected) != 0)
        CHECK_FAIL("%s in %s, %s: sha256 %s, expected %s", what, qc_dtype_name(model), grid, hex, expected);
}

/* The generator's sequence. */
static uint32_t next_pattern(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 32);
}

/* The upper bits of a pattern, read as a number of the type. */
static float number(qc_dtype model, uint32_t pattern)
{
    return model == QC_F32   ? qc_f32_from_bits(pattern)
           : model == QC_F16 ? qc_f16_to_f32((uint16_t)(pattern >> 16))
                             : qc_bf16_to_f32((uint16_t)(pattern >> 16));
}

static uint32_t comparable(float x)
{
    return isnan(x) ? 0x7fc00000u : qc_f32_bits(x + 0.0f);
}

/* ---- the table and the grids --------------------------------------------------------------------------- */

static void test_table(void)
{
    CHECK(dialect("ct_cpu") && dialect("ct_cpu_bare") && !dialect("ct_cp") && !dialect(""));
    size_t rows = 0;
    for (const qc_arith *a; (a = qc_arith_at(rows)) != NULL; rows++)
        CHECK(dialect(a->name) == a && a->summary[0]);
    CHECK(rows >= 2);
    qc_grid i4 = qc_grid_of(QC_I4), f8 = qc_grid_of(QC_F8E4M3);
    CHECK(i4.storage == QC_I8 && i4.bits == 4 && i4.min == -8 && i4.max == 7);
    CHECK(f8.storage == QC_F8E4M3 && f8.max == 448 && f8.min == -448);
    CHECK(qc_grid_of(QC_F8E5M2).max == 57344);
    qc_grid f4 = qc_grid_of(QC_F4E2M1);
    CHECK(f4.storage == QC_F4E2M1 && f4.bits == 4 && f4.min == -6 && f4.max == 6);
    static const qc_dtype ints[] = {QC_I2, QC_I3, QC_I4, QC_I5, QC_I6, QC_I7, QC_I8};
    for (int i = 0; i < 7; i++)
        CHECK(qc_grid_of(ints[i]).storage == QC_I8 && qc_grid_of(ints[i]).bits == i + 2);
    CHECK_INT(qc_grid_of(QC_BF16).storage, QC_DTYPE_NONE);
    CHECK_INT(qc_grid_int(1).storage, QC_DTYPE_NONE);
    CHECK_INT(qc_grid_int(9).storage, QC_DTYPE_NONE);
    CHECK(qc_grid_int(2).min == -2 && qc_grid_int(8).max == 127);
    qc_fold fold;
    CHECK(qc_fold_from_observer("minmax", 6, &fold) && fold == QC_FOLD_MOVING_AVERAGE);
    CHECK(qc_fold_from_observer("memoryless_minmax", 17, &fold) && fold == QC_FOLD_LAST);
    CHECK(!qc_fold_from_observer("memoryless_mse", 14, &fold) && !qc_fold_from_observer("minmax", 5, &fold));
}

/* ---- scales -------------------------------------------------------------------------------------------- */

static void test_scales_against_compressed_tensors(void)
{
    static uint32_t out[RANGES][2];
    for (size_t g = 0; g < sizeof golden_scales / sizeof golden_scales[0]; g++) {
        const struct golden_scale *golden = &golden_scales[g];
        uint64_t state = 1;
        for (int i = 0; i < RANGES; i++) {
            uint32_t lo = next_pattern(&state), hi = next_pattern(&state);
            if (i % 2 != 0) {
                lo = (lo & 0x8fffffffu) | 0x38000000u;
                hi = (hi & 0x8fffffffu) | 0x38000000u;
            }
            float scale, zero_point;
            scale_of(dialect("ct_cpu"), golden->model, grid_named(golden->grid), golden->symmetric,
                number(golden->model, lo), number(golden->model, hi), &scale, &zero_point);
            out[i][0] = comparable(scale);
            out[i][1] = comparable(zero_point);
        }
        qc_sha256 h;
        qc_sha256_init(&h);
        qc_sha256_add(&h, out, sizeof out);
        hash_is(&h, golden->symmetric ? "symmetric scales" : "asymmetric scales", golden->model, golden->grid,
            golden->sha256);
    }
}

static void scale_is(const qc_arith *arith, qc_dtype model, qc_grid grid, bool symmetric, float min,
    float max, float expected_scale, float expected_zero_point)
{
    float scale, zero_point;
    scale_of(arith, model, grid, symmetric, min, max, &scale, &zero_point);
    if (comparable(scale) != comparable(expected_scale) ||
        comparable(zero_point) != comparable(expected_zero_point))
        CHECK_FAIL("[%g, %g] in %s: scale %a, zero point %g, expected %a, %g", min, max, qc_dtype_name(model),
            scale, zero_point, expected_scale, expected_zero_point);
}

static void test_zero_and_missing_ranges(void)
{
    const qc_arith *a = dialect("ct_cpu");
    qc_grid f8 = qc_grid_of(QC_F8E4M3), i8 = qc_grid_of(QC_I8), i4 = qc_grid_of(QC_I4);
    scale_is(a, QC_BF16, f8, true, 0, 0, 0.0078125f, 0);
    scale_is(a, QC_F16, f8, true, -0.0f, 0, 0.0009765625f, 0);
    scale_is(a, QC_F32, i8, true, 0, 0, 1.1920929e-7f, 0);
    scale_is(a, QC_BF16, i4, false, 0, 0, 0.0078125f, 0); /* 0/0 recorded as 0 */
    scale_is(a, QC_BF16, i8, true, NAN, 1, NAN, 0);
    scale_is(a, QC_BF16, i8, true, 1, NAN, NAN, 0);
    scale_is(a, QC_BF16, i8, true, 2, 255, 2, 0); /* a range that starts above 0 is widened to it */
    scale_is(a, QC_BF16, i8, false, 2, 255, 1, -128);
    scale_is(a, QC_BF16, i8, false, -255, -2, 1, 127);
}

/* What the dialects differ in, one switch at a time. */
static void test_dialect_switches(void)
{
    qc_arith a = *dialect("ct_cpu");
    qc_grid i8 = qc_grid_of(QC_I8), i4 = qc_grid_of(QC_I4), f8 = qc_grid_of(QC_F8E4M3);
    scale_is(&a, QC_F32, i8, true, -255, 254, 2, 0);
    scale_is(&a, QC_F32, i4, true, -15, 0, 2, 0);
    a.int_divisor = QC_INT_DIVISOR_MAX;
    scale_is(&a, QC_F32, i8, true, -254, 254, 2, 0);
    scale_is(&a, QC_F32, i4, true, -14, 0, 2, 0);
    scale_is(&a, QC_F32, f8, true, -448, 0, 1, 0);
    a = *dialect("ct_cpu");
    a.zero_scale_bf16 = 1;
    scale_is(&a, QC_BF16, i8, true, 0, 0, 1, 0);
    /* steps in f32: the scale is rounded once, at the end, and a zero point may come out another integer */
    a = *dialect("ct_cpu");
    float rounded[2], exact[2];
    bool differs = false;
    qc_arith b = a;
    b.round_scale = false;
    for (int i = 1; i < 2000 && !differs; i++) {
        float lo = qc_round_bf16(-0.013f * (float)i), hi = qc_round_bf16(0.029f * (float)(i % 37));
        scale_of(&a, QC_BF16, i8, false, lo, hi, &rounded[0], &rounded[1]);
        scale_of(&b, QC_BF16, i8, false, lo, hi, &exact[0], &exact[1]);
        CHECK(qc_round_bf16(exact[0]) == exact[0] && exact[0] == qc_round_bf16((hi - lo) / 255));
        differs = rounded[1] != exact[1];
    }
    CHECK(differs);
}

/* ---- codes --------------------------------------------------------------------------------------------- */

static const double code_scales[] = {1.0, 0.0113525390625, 3.1e-5, 7.25, 123.0, 0.0};

static size_t width_of(qc_dtype model)
{
    return (size_t)qc_dtype_bits(model) / 8;
}

/* Every pattern of a 16-bit type, or one f32 for each upper half. */
static void pattern_inputs(qc_dtype model, void *x)
{
    uint64_t state = 1;
    for (uint32_t i = 0; i < PATTERNS; i++) {
        uint32_t low = next_pattern(&state) & 0xffffu;
        if (model == QC_F32)
            ((uint32_t *)x)[i] = i << 16 | low;
        else
            ((uint16_t *)x)[i] = (uint16_t)i;
    }
}

static void forget_nan(qc_dtype model, void *x)
{
    for (size_t i = 0; i < PATTERNS; i++)
        if (model == QC_F32) {
            if (isnan(((float *)x)[i]))
                ((float *)x)[i] = 0;
        } else if (isnan(number(model, (uint32_t)((uint16_t *)x)[i] << 16))) {
            ((uint16_t *)x)[i] = 0;
        }
}

static void test_codes_against_compressed_tensors(void)
{
    static uint32_t x[PATTERNS], back[PATTERNS];
    static uint8_t codes[PATTERNS];
    for (size_t g = 0; g < sizeof golden_codes / sizeof golden_codes[0]; g++) {
        const struct golden_code *golden = &golden_codes[g];
        qc_grid grid = grid_named(golden->grid);
        qc_sha256 code_hash, value_hash;
        qc_sha256_init(&code_hash);
        qc_sha256_init(&value_hash);
        pattern_inputs(golden->model, x);
        for (size_t s = 0; s < sizeof code_scales / sizeof code_scales[0]; s++) {
            float scale = qc_round_to(golden->model, (float)code_scales[s]);
            const float zero_points[] = {0, 0, -1, grid.max}; /* the first: none to add */
            for (int z = 0; z < (grid.storage == QC_I8 ? 4 : 2); z++) {
                const qc_arith *a = dialect(z == 0 ? "ct_cpu_bare" : "ct_cpu");
                quantize(a, golden->model, grid, x, PATTERNS, scale, zero_points[z], codes);
                qc_sha256_add(&code_hash, codes, sizeof codes);
                dequantize(golden->model, grid, codes, PATTERNS, scale, zero_points[z], back);
                forget_nan(golden->model, back);
                qc_sha256_add(&value_hash, back, PATTERNS * width_of(golden->model));
            }
        }
        hash_is(&code_hash, "codes", golden->model, golden->grid, golden->codes_sha256);
        hash_is(&value_hash, "values", golden->model, golden->grid, golden->values_sha256);
    }
}

/* One code, step by step. */
static uint8_t plain_code(
    const qc_arith *a, qc_dtype model, qc_grid grid, float x, float scale, float zero_point)
{
    qc_dtype step = a->round_quotient ? model : QC_F32;
    float t = qc_round_to(step, x / scale);
    if (a->add_zero_point || zero_point != 0)
        t = qc_round_to(step, t + zero_point);
    if (isnan(t))
        return grid.storage == QC_I8 ? 0 : 0x7f;
    t = t < grid.min ? grid.min : t > grid.max ? grid.max : t;
    if (grid.storage == QC_I8)
        return (uint8_t)(int8_t)nearbyintf(t);
    return grid.storage == QC_F8E4M3 ? qc_f8e4m3_from_f32(t) : qc_f8e5m2_from_f32(t);
}

/* Every pattern, every kind of loop: quotients rounded or not, with and without a zero point. */
static void test_codes_against_plain(void)
{
    static uint32_t x[PATTERNS];
    static uint8_t codes[PATTERNS];
    static const qc_dtype models[] = {QC_BF16, QC_F16, QC_F32};
    const qc_grid grids[] = {qc_grid_of(QC_F8E4M3), qc_grid_of(QC_F8E5M2), qc_grid_int(8), qc_grid_int(3)};
    for (int m = 0; m < 3; m++) {
        pattern_inputs(models[m], x);
        for (int variant = 0; variant < 4; variant++) {
            qc_arith a = *dialect("ct_cpu");
            a.round_quotient = variant % 2 == 0;
            a.add_zero_point = variant < 2;
            for (int g = 0; g < 4; g++)
                for (int s = 0; s < 3; s++) {
                    float scale = qc_round_to(models[m], (float)code_scales[s]);
                    float zero_point = s == 2 && grids[g].storage == QC_I8 ? -3.0f : 0.0f;
                    quantize(&a, models[m], grids[g], x, PATTERNS, scale, zero_point, codes);
                    for (size_t i = 0; i < PATTERNS; i++) {
                        float v =
                            models[m] == QC_F32 ? ((float *)x)[i] : number(models[m], (uint32_t)i << 16);
                        uint8_t want = plain_code(&a, models[m], grids[g], v, scale, zero_point);
                        if (codes[i] != want)
                            CHECK_FAIL("%s %a / %a + %g: code %02x, expected %02x", qc_dtype_name(models[m]),
                                v, scale, zero_point, codes[i], want);
                    }
                }
        }
    }
}

/* The number of elements, where they lie and how they are cut into calls change nothing. */
static void test_any_length(void)
{
    enum { MAX = 2500, GUARD = 0xa5 };
    static const size_t lengths[] = {0, 1, 2, 7, 31, 33, 64, 100, 1023, 1024, 1025, 2049};
    static const qc_dtype models[] = {QC_BF16, QC_F16, QC_F32};
    const qc_grid grids[] = {qc_grid_of(QC_F8E4M3), qc_grid_of(QC_F8E5M2), qc_grid_int(8)};
    static float f32[MAX];
    static uint32_t x[MAX];
    static uint8_t whole[MAX], codes[MAX];
    static float back[MAX], whole_back[MAX];
    for (int i = 0; i < MAX; i++)
        f32[i] = (float)(i % 777 - 300) * 0.0173f;
    for (int m = 0; m < 3; m++) {
        size_t width = width_of(models[m]);
        qc_encode_f32(models[m], f32, x, MAX);
        for (int g = 0; g < 3; g++) {
            float scale = qc_round_to(models[m], 0.0113f);
            quantize(dialect("ct_cpu"), models[m], grids[g], x, MAX, scale, 0, whole);
            dequantize(models[m], grids[g], whole, MAX, scale, 0, whole_back);
            for (size_t l = 0; l < sizeof lengths / sizeof lengths[0]; l++) {
                size_t n = lengths[l], at = l % 3;
                memset(codes, GUARD, sizeof codes);
                quantize(
                    dialect("ct_cpu"), models[m], grids[g], (char *)x + at * width, n, scale, 0, codes + at);
                CHECK(memcmp(codes + at, whole + at, n) == 0 && codes[at + n] == GUARD);
                memset(back, GUARD, sizeof back);
                dequantize(models[m], grids[g], whole + at, n, scale, 0, back);
                CHECK(memcmp(back, (char *)whole_back + at * width, n * width) == 0);
                CHECK(((uint8_t *)back)[n * width] == GUARD);
            }
        }
    }
}

/* One row of 16 weights, worked out by hand elsewhere: bf16 bits in, codes of four schemes out. */
static void test_one_row(void)
{
    static const uint16_t w[16] = {0x3c4a, 0xbf00, 0x3ea9, 0xb9d2, 0x3d91, 0x8000, 0x3e80, 0xbe40, 0x0000,
        0x3eff, 0xbe85, 0x3b45, 0xbca4, 0x3e1a, 0xbefb, 0x3ecd};
    static const uint8_t f8[16] = {
        0x53, 0xfe, 0x79, 0xac, 0x68, 0x00, 0x76, 0xf2, 0x00, 0x7e, 0xf7, 0x43, 0xd9, 0x70, 0xfe, 0x7b};
    static const int8_t i8[16] = {3, -127, 84, 0, 18, 0, 64, -48, 0, 126, -66, 1, -5, 38, -124, 102};
    static const int8_t i4[16] = {0, -7, 5, 0, 1, 0, 4, -3, 0, 7, -4, 0, 0, 2, -7, 6};
    static const int8_t i4_asymmetric[16] = {-1, -8, 4, -1, 0, -1, 3, -4, -1, 6, -5, -1, -1, 1, -8, 5};
    const struct {
        qc_grid grid;
        bool symmetric;
        uint16_t scale;
        float zero_point;
        const void *codes;
    } cases[] = {
        {qc_grid_of(QC_F8E4M3), true, 0x3a92, 0, f8},
        {qc_grid_of(QC_I8), true, 0x3b81, 0, i8},
        {qc_grid_of(QC_I4), true, 0x3d89, 0, i4},
        {qc_grid_of(QC_I4), false, 0x3d89, -1, i4_asymmetric},
    };
    float min, max, scale, zero_point;
    qc_arith_minmax(QC_BF16, w, 16, &min, &max);
    CHECK(min == -0.5f && max == qc_bf16_to_f32(0x3eff));
    for (int c = 0; c < 4; c++) {
        uint8_t codes[16];
        scale_of(
            dialect("ct_cpu"), QC_BF16, cases[c].grid, cases[c].symmetric, min, max, &scale, &zero_point);
        CHECK_INT(qc_bf16_from_f32(scale), cases[c].scale);
        CHECK(zero_point == cases[c].zero_point);
        quantize(dialect("ct_cpu"), QC_BF16, cases[c].grid, w, 16, scale, zero_point, codes);
        CHECK(memcmp(codes, cases[c].codes, 16) == 0);
    }
    scale_of(dialect("ct_cpu"), QC_BF16, cases[0].grid, true, min, max, &scale, &zero_point);
    uint8_t bare[16];
    quantize(dialect("ct_cpu_bare"), QC_BF16, cases[0].grid, w, 16, scale, zero_point, bare);
    CHECK_INT(bare[5], 0x80); /* -0.0 keeps its sign without a zero point */
    quantize(dialect("ct_cpu"), QC_BF16, cases[0].grid, w, 16, scale, -0.0f, bare);
    CHECK_INT(bare[5], 0x00); /* and loses it to one, whatever that one's own sign */
    const uint8_t top = 0x7e;
    uint16_t value;
    dequantize(QC_BF16, cases[0].grid, &top, 1, 1.0078125f, -3.0f, &value);
    CHECK(qc_bf16_to_f32(value) == 456); /* 451 is 452 in bf16, times the scale 455.5; at once it were 454 */
}

/* ---- ranges -------------------------------------------------------------------------------------------- */

static void test_minmax(void)
{
    enum { N = 777 };
    static const qc_dtype models[] = {QC_BF16, QC_F16, QC_F32};
    float f32[N], min, max;
    uint32_t x[N];
    uint64_t state = 7;
    for (int m = 0; m < 3; m++)
        for (int n = 1; n < N; n += 5) {
            float lo = INFINITY, hi = -INFINITY;
            for (int i = 0; i < n; i++) {
                f32[i] = qc_round_to(
                    models[m], (float)(int32_t)next_pattern(&state) * 0x1p-20f - (float)(n % 3 * 3000));
                lo = f32[i] < lo ? f32[i] : lo;
                hi = f32[i] > hi ? f32[i] : hi;
            }
            qc_encode_f32(models[m], f32, x, (size_t)n);
            qc_arith_minmax(models[m], x, (size_t)n, &min, &max);
            CHECK(min == lo && max == hi);
            f32[n / 2] = qc_f32_from_bits(n % 2 != 0 ? 0xffc00000u : 0x7fc00000u);
            qc_encode_f32(models[m], f32, x, (size_t)n);
            qc_arith_minmax(models[m], x, (size_t)n, &min, &max);
            CHECK(isnan(min) && isnan(max));
        }
    const float edges[] = {-INFINITY, INFINITY, 0.0f, -0.0f};
    qc_arith_minmax(QC_F32, edges, 4, &min, &max);
    CHECK(min == -INFINITY && max == INFINITY);
    qc_arith_minmax(QC_F32, edges + 2, 2, &min, &max);
    CHECK(min == 0 && max == 0);
}

static void test_folds(void)
{
    const float mins[] = {-1, 99, -3, 99, -2}, maxs[] = {5, 99, 4, 99, 6};
    float min, max;
    qc_arith_fold_minmax(QC_FOLD_LAST, QC_BF16, mins, maxs, 3, 2, 0.01, &min, &max);
    CHECK(min == -2 && max == 6);
    qc_arith_fold_minmax(QC_FOLD_RUNNING, QC_BF16, mins, maxs, 3, 2, 0.01, &min, &max);
    CHECK(min == -3 && max == 6);
    qc_arith_fold_minmax(QC_FOLD_MOVING_AVERAGE, QC_F32, mins, maxs, 2, 2, 0.25, &min, &max);
    CHECK(min == -1.5f && max == 4.75f);
    qc_arith_fold_minmax(QC_FOLD_MOVING_AVERAGE, QC_BF16, mins, maxs, 3, 2, 1.0, &min, &max);
    CHECK(min == -2 && max == 6);
    qc_arith_fold_minmax(QC_FOLD_MOVING_AVERAGE, QC_BF16, mins, maxs, 1, 2, 0.01, &min, &max);
    CHECK(min == -1 && max == 5);
    const float lost[] = {1, NAN, 2};
    for (int fold = QC_FOLD_RUNNING; fold <= QC_FOLD_MOVING_AVERAGE; fold++) {
        qc_arith_fold_minmax((qc_fold)fold, QC_BF16, lost, lost, 3, 1, 0.01, &min, &max);
        CHECK(isnan(min) && isnan(max));
    }
}

static void scale_of_seen(const struct golden_activation *c, int head, uint16_t *scale_bits, int *zero_point)
{
    float mins[SEQUENCES], maxs[SEQUENCES], min, max, scale, zp;
    for (int s = 0; s < SEQUENCES; s++) {
        mins[s] = INFINITY;
        maxs[s] = -INFINITY;
        for (int h = c->per_head ? head : 0; h < (c->per_head ? head + 1 : c->heads); h++) {
            mins[s] = fminf(mins[s], qc_bf16_to_f32(seen[c->first + h][0][s]));
            maxs[s] = fmaxf(maxs[s], qc_bf16_to_f32(seen[c->first + h][1][s]));
        }
    }
    qc_fold fold = QC_FOLD_LAST;
    CHECK(qc_fold_from_observer(c->observer, strlen(c->observer), &fold));
    qc_arith_fold_minmax(fold, QC_BF16, mins, maxs, SEQUENCES, 1, 0.01, &min, &max);
    scale_of(dialect("ct_cpu"), QC_BF16, qc_grid_of(c->code), c->symmetric, min, max, &scale, &zp);
    *scale_bits = qc_bf16_from_f32(scale);
    *zero_point = (int)zp;
}

/* Attention, KV cache and Linear inputs; FP8 and INT8; per tensor and per head; running and moving average.
 */
static void test_activation_scales_of_checkpoints(void)
{
    int compared = 0;
    for (size_t i = 0; i < sizeof golden_activations / sizeof golden_activations[0]; i++) {
        const struct golden_activation *c = &golden_activations[i];
        for (int h = 0; h < (c->per_head ? c->heads : 1); h++, compared++) {
            uint16_t bits;
            int zero_point;
            scale_of_seen(c, h, &bits, &zero_point);
            if (bits != c->scale[h] || zero_point != c->zero_point[0])
                CHECK_FAIL("%s %s, head %d: scale %04x, zero point %d, expected %04x, %d", c->checkpoint,
                    c->tensor, h, (unsigned)bits, zero_point, (unsigned)c->scale[h], c->zero_point[0]);
        }
    }
    CHECK_INT(compared, 224);
}

/* ---- whole checkpoints --------------------------------------------------------------------------------- */

typedef struct files {
    qc_arena arena;
    qc_diag diag;
    const char *root;
} files;

static void print_diagnostic(void *user, qc_severity severity, const char *where, const char *what)
{
    (void)user;
    (void)severity;
    printf("# %s: %s\n", where, what);
}

static bool files_open(files *f)
{
    f->root = getenv("QC_DATA");
    qc_arena_init(&f->arena, NULL);
    qc_diag_init(&f->diag, &f->arena, print_diagnostic, NULL);
    return f->root && f->root[0];
}

static void *tensor_read(files *f, const qc_st_set *set, const qc_st_tensor *t)
{
    void *data = qc_arena_alloc(&f->arena, t->size_bytes + 1);
    CHECK_INT(qc_st_read(&f->diag, set, t, data), QC_OK);
    return data;
}

/* Scales and codes of a bf16 weight, one scale a row, or one in all. */
static void quantize_weight(const qc_arith *a, qc_grid grid, const uint16_t *w, size_t rows, size_t cols,
    size_t scale_count, uint16_t *scales, uint8_t *codes)
{
    size_t part = rows * cols / scale_count;
    for (size_t r = 0; r < scale_count; r++) {
        float min, max, scale, zero_point;
        qc_arith_minmax(QC_BF16, w + r * part, part, &min, &max);
        scale_of(a, QC_BF16, grid, true, min, max, &scale, &zero_point);
        scales[r] = qc_bf16_from_f32(scale);
        quantize(a, QC_BF16, grid, w + r * part, part, scale, zero_point, codes + r * part);
    }
}

/* Every quantized weight of a checkpoint, byte for byte. Returns how many there were. */
static int weights_are_equal(files *f, const qc_st_set *base, const char *name, qc_grid grid)
{
    qc_st_set golden;
    const char *path = qc_arena_printf(&f->arena, "%s/goldens/%s", f->root, name);
    if (qc_st_open_directory(&f->diag, &f->arena, path, &golden) != QC_OK) {
        CHECK_FAIL("%s does not open", path);
        return 0;
    }
    int count = 0;
    for (size_t i = 0; i < golden.tensor_count; i++) {
        const qc_st_tensor *s = &golden.tensors[i];
        size_t stem = strlen(s->name) < 6 ? 0 : strlen(s->name) - 6;
        if (stem < 8 || strcmp(s->name + stem - 7, ".weight_scale") != 0)
            continue;
        const char *weight = qc_arena_strndup(&f->arena, s->name, stem);
        const qc_st_tensor *w = qc_st_find(base, weight), *q = qc_st_find(&golden, weight);
        if (!w || !q || w->rank != 2) {
            CHECK_FAIL("%s: no %s", name, weight);
            continue;
        }
        size_t rows = (size_t)w->shape[0], cols = (size_t)w->shape[1];
        uint16_t *scales = qc_arena_alloc(&f->arena, s->size_bytes);
        uint8_t *codes = qc_arena_alloc(&f->arena, rows * cols);
        quantize_weight(
            dialect("ct_cpu"), grid, tensor_read(f, base, w), rows, cols, s->size_bytes / 2, scales, codes);
        if (memcmp(scales, tensor_read(f, &golden, s), s->size_bytes) != 0)
            CHECK_FAIL("%s: %s differs", name, s->name);
        if (q->size_bytes != rows * cols || memcmp(codes, tensor_read(f, &golden, q), rows * cols) != 0)
            CHECK_FAIL("%s: %s differs", name, weight);
        count++;
    }
    qc_st_close(&golden);
    return count;
}

static void test_weights_of_checkpoints(void)
{
    static const struct {
        const char *name;
        qc_dtype code;
    } cases[] = {
        {"fp8_dynamic", QC_F8E4M3}, /* one scale a row */
        {"fp8_weight_channel", QC_F8E4M3},
        {"fp8_dynamic_lm_head", QC_F8E4M3},
        {"fp8_static", QC_F8E4M3}, /* one scale a tensor */
        {"w8a8", QC_I8},
    };
    files f;
    if (!files_open(&f))
        SKIP("QC_DATA is not set");
    qc_st_set base;
    const char *path = qc_arena_printf(&f.arena, "%s/models/grid_llama", f.root);
    if (qc_st_open_directory(&f.diag, &f.arena, path, &base) != QC_OK) {
        CHECK_FAIL("%s does not open", path);
        return;
    }
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++)
        CHECK(weights_are_equal(&f, &base, cases[c].name, qc_grid_of(cases[c].code)) >= 14);
    qc_st_close(&base);
    qc_arena_fini(&f.arena);
}

/* The checkpoint that was converted without a model, of which hashes are kept: its -0.0 stay -0.0. */
static void test_weights_without_zero_point(void)
{
    files f;
    if (!files_open(&f))
        SKIP("QC_DATA is not set");
    qc_st_set base;
    const char *path = qc_arena_printf(&f.arena, "%s/models/grid_llama", f.root);
    const char *list = qc_arena_printf(&f.arena, "%s/goldens/mf_fp8_dynamic/golden.json", f.root);
    char *text = NULL;
    size_t length = 0;
    bool opened = qc_st_open_directory(&f.diag, &f.arena, path, &base) == QC_OK &&
                  qc_read_file(&f.diag, &f.arena, list, 1 << 20, &text, &length) == QC_OK;
    CHECK(opened);
    const qc_json *root = opened ? qc_json_parse(&f.diag, &f.arena, list, text, length) : NULL;
    const qc_json *tensors = qc_json_get(root, "tensors");
    int compared = 0, told_apart = 0;
    for (const qc_json *t = tensors ? tensors->first : NULL; t; t = t->next) {
        const char *dtype = qc_json_get(t, "dtype")->text, *sha256 = qc_json_get(t, "sha256")->text;
        const qc_st_tensor *w = qc_st_find(&base, t->key);
        if (strcmp(dtype, "F8_E4M3") != 0 || !w)
            continue;
        size_t rows = (size_t)w->shape[0], cols = (size_t)w->shape[1];
        uint16_t *scales = qc_arena_alloc(&f.arena, rows * 2);
        uint8_t *codes = qc_arena_alloc(&f.arena, rows * cols),
                *added = qc_arena_alloc(&f.arena, rows * cols);
        const uint16_t *data = tensor_read(&f, &base, w);
        qc_grid grid = qc_grid_of(QC_F8E4M3);
        quantize_weight(dialect("ct_cpu_bare"), grid, data, rows, cols, rows, scales, codes);
        quantize_weight(dialect("ct_cpu"), grid, data, rows, cols, rows, scales, added);
        told_apart += memcmp(codes, added, rows * cols) != 0;
        qc_sha256 h;
        qc_sha256_init(&h);
        qc_sha256_add(&h, codes, rows * cols);
        hash_is(&h, t->key, QC_BF16, "f8e4m3", sha256);
        compared++;
    }
    CHECK(compared >= 14 && told_apart > 0);
    if (opened)
        qc_st_close(&base);
    qc_arena_fini(&f.arena);
}

int main(void)
{
    RUN(test_table);
    RUN(test_scales_against_compressed_tensors);
    RUN(test_zero_and_missing_ranges);
    RUN(test_dialect_switches);
    RUN(test_codes_against_compressed_tensors);
    RUN(test_codes_against_plain);
    RUN(test_any_length);
    RUN(test_one_row);
    RUN(test_minmax);
    RUN(test_folds);
    RUN(test_activation_scales_of_checkpoints);
    RUN(test_weights_of_checkpoints);
    RUN(test_weights_without_zero_point);
    return check_done();
}
