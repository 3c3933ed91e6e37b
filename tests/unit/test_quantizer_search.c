/* SPDX-License-Identifier: MIT
 *
 * test_quantizer_search.c - local scales that are searched on the grid of e4m3 (ir/dtype/quantizer.h). Yardsticks: groups
 * worked out by hand, the choices of the rule written once more in numpy (float32), one candidate after the other through
 * the codecs, and the error of what comes back in f64.
 */
#include "check.h"

#include "ir/dtype/codec.h"
#include "ir/dtype/quantizer.h"

enum { PATTERNS = 65536, MOST_GROUPS = PATTERNS / 16 };

static qc_quantizer quantizer_of(qc_dtype model, qc_search search)
{
    return (qc_quantizer){
        .arith = qc_arith_find("ct_cpu", 6),
        .model_dtype = model,
        .grid = qc_grid_of(QC_F4E2M1),
        .symmetric = true,
        .global = true,
        .scale_type = QC_F8E4M3,
        .search = search,
    };
}

static uint32_t next_pattern(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 32);
}

static size_t width_of(qc_dtype model)
{
    return (size_t)qc_dtype_bits(model) / 8;
}

static void put(qc_dtype model, void *x, size_t i, float value)
{
    qc_encode_f32(model, &value, (char *)x + i * width_of(model), 1);
}

static float get(qc_dtype model, const void *x, size_t i)
{
    float value;
    qc_decode_f32(model, (const char *)x + i * width_of(model), &value, 1);
    return value;
}

/* ---- by hand ------------------------------------------------------------------------------------------- */

static float scale_of(qc_search search, const float *x, size_t count, float global)
{
    qc_quantizer q = quantizer_of(QC_F32, search);
    float scale, zero_point = 7;
    qc_quantizer_group_scale(&q, x, count, global, &scale, &zero_point);
    CHECK(zero_point == 0);
    return scale;
}

static void test_by_hand(void)
{
    /* 5 / 6 is nearest to 13/16, of which 5 is 6.15 times as much; 5/4 has the code 4 for it */
    float x[16] = {0, -5, 2.5f};
    CHECK(scale_of(QC_SEARCH_NONE, x, 16, 1) == 0.8125f);
    CHECK(scale_of(QC_SEARCH_MSE, x, 16, 1) == 1.25f);
    CHECK(scale_of(QC_SEARCH_FOUR_SIX, x, 16, 1) == 1.25f);
    /* 6 is 6 times 1 and 4 times 1.5: the larger one */
    x[1] = 6;
    x[2] = 0;
    CHECK(scale_of(QC_SEARCH_NONE, x, 16, 1) == 1);
    CHECK(scale_of(QC_SEARCH_MSE, x, 16, 1) == 1.5f);
    CHECK(scale_of(QC_SEARCH_FOUR_SIX, x, 16, 1) == 1.5f);
    /* 6, 2 and 1 are codes of 1 (and of 2), not of 1.5: 2 is beyond the reach of five codes, so 1 */
    x[2] = 1;
    x[3] = 2;
    x[4] = 0.5f;
    CHECK(scale_of(QC_SEARCH_MSE, x, 16, 1) == 1);
    CHECK(scale_of(QC_SEARCH_FOUR_SIX, x, 16, 1) == 1);
    /* under a global scale of 2, scales are twice as large */
    CHECK(scale_of(QC_SEARCH_MSE, x, 16, 2) == 2);
    /* nothing to choose by */
    const float zeros[16] = {0}, bad[16] = {1, NAN}, wide[16] = {1, INFINITY}, tiny[16] = {0x1p-40f};
    CHECK(scale_of(QC_SEARCH_MSE, zeros, 16, 5) == 0.125f);
    CHECK(isnan(scale_of(QC_SEARCH_MSE, bad, 16, 5)));
    CHECK(scale_of(QC_SEARCH_MSE, wide, 16, 5) == 448);
    /* where amax / 6 is nearest to 0, what lies above that is tried */
    CHECK(scale_of(QC_SEARCH_NONE, tiny, 16, 5) == 0.125f);
    const float small = scale_of(QC_SEARCH_MSE, tiny, 16, 5);
    CHECK(small >= 0x1p-9f && small <= 5 * 0x1p-9f);
}

static void test_global(void)
{
    qc_quantizer q = quantizer_of(QC_BF16, QC_SEARCH_MSE);
    CHECK(qc_quantizer_global(&q, 0.5f) == 5376);
    q.scale_max = 448;
    CHECK(qc_quantizer_global(&q, 0.5f) == 5376);
    q.scale_max = 256;
    CHECK(qc_quantizer_global(&q, 0.5f) == 3072);
    /* under it the largest group has five codes above amax / 6 */
    const uint16_t x[16] = {0x3f00, 0x3eaa}; /* 0.5, 0.332 */
    float scale, zero_point;
    qc_quantizer_group_scale(&q, x, 16, 3072, &scale, &zero_point);
    CHECK(scale == 256);                     /* 6 and 4 (3.984) */
    const uint16_t y[16] = {0x3f00, 0x3ec0}; /* 0.5, 0.375 */
    qc_quantizer_group_scale(&q, y, 16, 3072, &scale, &zero_point);
    CHECK(scale == 384); /* 4 and 3 */
    CHECK(qc_quantizer_searches(&q, 3072) && !qc_quantizer_searches(&q, 0));
    q.scale_type = QC_DTYPE_NONE;
    CHECK(!qc_quantizer_searches(&q, 3072));
}

/* ---- against numpy ------------------------------------------------------------------------------------- */

/* Sums of four bytes, wider from group to group, one in 97 twenty times as large. */
static void bell_shaped(uint16_t *x, size_t count)
{
    uint64_t state = 11;
    for (size_t i = 0; i < count; i++) {
        uint32_t a = next_pattern(&state), b = next_pattern(&state);
        int sum = (int)((a & 255) + (a >> 8 & 255) + (a >> 16 & 255) + (a >> 24)) - 510;
        double v = sum * 0x1p-12 * (1 + (int)(i / 16 % 7)) * (b % 97 == 0 ? 20 : 1);
        x[i] = qc_bf16_from_f32((float)v);
    }
}

static void test_numpy(void)
{
    enum { GROUPS = 24 };
    static const struct {
        qc_search search;
        float global;
        uint8_t codes[GROUPS];
    } rows[] = {
        {QC_SEARCH_NONE, 1344,
            {91, 100, 97, 102, 104, 111, 113, 88, 96, 104, 106, 126, 105, 126, 85, 97, 100, 99, 105, 111, 114,
                84, 96, 104}},
        {QC_SEARCH_MSE, 1344,
            {96, 100, 98, 102, 107, 110, 113, 92, 96, 103, 111, 126, 104, 126, 85, 100, 99, 104, 105, 110,
                115, 89, 96, 104}},
        {QC_SEARCH_MSE, 150,
            {70, 75, 73, 77, 82, 85, 88, 63, 70, 78, 86, 112, 78, 107, 60, 75, 73, 79, 80, 85, 94, 64, 70,
                78}},
        {QC_SEARCH_FOUR_SIX, 1344,
            {96, 100, 97, 102, 108, 111, 113, 88, 96, 104, 111, 126, 110, 126, 85, 97, 105, 104, 105, 111,
                119, 89, 96, 104}},
        {QC_SEARCH_FOUR_SIX, 150,
            {70, 79, 72, 77, 78, 85, 88, 63, 70, 78, 85, 112, 84, 107, 59, 72, 74, 79, 80, 86, 94, 64, 75,
                83}},
    };
    static uint16_t x[16 * GROUPS];
    bell_shaped(x, 16 * GROUPS);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        qc_quantizer q = quantizer_of(QC_BF16, rows[i].search);
        float scales[GROUPS], zero_points[GROUPS];
        qc_quantizer_rows_scales(&q, x, 3, 16 * GROUPS / 3, 16, rows[i].global, scales, zero_points);
        for (int g = 0; g < GROUPS; g++) {
            CHECK_INT(qc_f8e4m3_from_f32(scales[g]), rows[i].codes[g]);
            CHECK(zero_points[g] == 0);
        }
    }
}

/* ---- vectors against one after the other ---------------------------------------------------------------- */

static float nearest_code(float t)
{
    float best = 0;
    for (uint8_t code = 0; code < 8; code++) {
        float value = qc_f4e2m1_to_f32(code);
        best = fabsf(t - value) < fabsf(t - best) ? value : best;
    }
    return best;
}

static float plain_error(const float *x, size_t count, float scale, float global)
{
    const float factor = global / scale;
    float sum = 0;
    for (size_t i = 0; i < count; i++) {
        float t = fabsf(x[i]) * factor, distance = t - nearest_code(t);
        float square = distance * distance;
        sum += square;
    }
    const float unit = scale * scale;
    return sum * unit;
}

static int code_of(const qc_quantizer *q, float amax, float divisor, float global)
{
    float scale = global * qc_round_to(q->model_dtype, amax / divisor);
    return qc_f8e4m3_from_f32_saturate(scale);
}

static float plain_scale(const qc_quantizer *q, const float *x, size_t count, float global)
{
    float amax = 0, least = INFINITY, best;
    for (size_t i = 0; i < count; i++) {
        if (isnan(x[i]))
            return NAN;
        amax = fmaxf(amax, fabsf(x[i]));
    }
    const int six = code_of(q, amax, 6, global), four = code_of(q, amax, 4, global);
    if (amax == 0)
        return 0.125f;
    if (isinf(amax))
        return 448;
    best = qc_f8e4m3_to_f32((uint8_t)(six < 1 ? 1 : six));
    for (int i = 0; i < (q->search == QC_SEARCH_MSE ? 11 : 2); i++) {
        int code = q->search == QC_SEARCH_MSE ? six + 5 - i : i == 0 ? four : six;
        float scale = qc_f8e4m3_to_f32((uint8_t)(code < 1 ? 1 : code > 126 ? 126 : code));
        float error = plain_error(x, count, scale, global);
        if (error < least) {
            least = error;
            best = scale;
        }
    }
    return best;
}

/* `count` elements of x as rows of `columns`. */
static void scales_are_plain(
    const qc_quantizer *q, const void *x, int64_t count, int64_t columns, int64_t group, float global)
{
    static float scales[PATTERNS], values[PATTERNS];
    const int64_t rows = count / columns, groups = (columns + group - 1) / group;
    int wrong = 0;
    scales[rows * groups] = -3;
    qc_quantizer_rows_scales(q, x, rows, columns, group, global, scales, NULL);
    CHECK(scales[rows * groups] == -3);
    for (int64_t i = 0; i < rows * groups && wrong < 4; i++) {
        int64_t first = i / groups * columns + i % groups * group, left = columns - i % groups * group,
                n = left < group ? left : group;
        for (int64_t k = 0; k < n; k++)
            values[k] = get(q->model_dtype, x, (size_t)(first + k));
        float want = plain_scale(q, values, (size_t)n, global), one, zero_point;
        qc_quantizer_group_scale(q, (const char *)x + (size_t)first * width_of(q->model_dtype), (size_t)n,
            global, &one, &zero_point);
        bool same = isnan(want) ? isnan(scales[i]) && isnan(one) : scales[i] == want && one == want;
        if (!same && ++wrong)
            CHECK_FAIL(
                "%s, search %d, groups of %lld, global %g, group %lld: %a in rows, %a alone, expected %a",
                qc_dtype_name(q->model_dtype), (int)q->search, (long long)group, global, (long long)i,
                scales[i], one, want);
    }
}

/* Numbers of every magnitude; groups of like ones, zeros, NaN and infinities among them. */
static void fill(qc_dtype model, void *x, int kind)
{
    uint64_t state = 5;
    for (size_t i = 0; i < PATTERNS; i++) {
        uint32_t p = next_pattern(&state);
        if (kind == 0 && model != QC_F32) {
            uint16_t pattern = (uint16_t)(i * 40503u); /* all of them, neighbours far apart */
            memcpy((char *)x + 2 * i, &pattern, 2);
            continue;
        }
        float v = ldexpf((float)(int32_t)p, -31 - (int)(i / 16 % (model == QC_F16 ? 24 : 60)));
        v = i / 16 % 11 == 3 ? 0 : i / 16 % 29 == 7 && i % 16 == 5 ? NAN : v;
        v = i / 16 % 31 == 9 && i % 16 == 1 ? -INFINITY : v;
        v = i / 16 % 13 == 4 && i % 16 < 15 ? 0 : v;
        v = i / 16 % 17 == 5 ? ldexpf(v, kind == 2 ? 40 : -60) : v;
        put(model, x, i, v);
    }
}

static void test_rows(void)
{
    static const struct {
        int64_t columns, group;
    } shapes[] = {{16, 16}, {64, 16}, {4096, 16}, {77, 16}, {96, 32}, {35, 5}, {9, 16}};
    static const qc_dtype models[] = {QC_BF16, QC_F16, QC_F32};
    static const float globals[] = {5376, 44.75f, 1, 25165824, 0x1p-20f, 0x1.8p120f};
    static uint32_t x[PATTERNS];
    for (int m = 0; m < 3; m++)
        for (int kind = 0; kind < 3; kind++) {
            fill(models[m], x, kind);
            for (int s = 0; s < 7; s++)
                for (int g = 0; g < 6; g++) {
                    if (s > 2 && g != s % 6)
                        continue; /* what goes one by one is slow: a part will do */
                    qc_quantizer q = quantizer_of(models[m], g % 2 ? QC_SEARCH_FOUR_SIX : QC_SEARCH_MSE);
                    scales_are_plain(
                        &q, x, PATTERNS / (s == 2 ? 1 : 3), shapes[s].columns, shapes[s].group, globals[g]);
                    q.search = g % 2 ? QC_SEARCH_MSE : QC_SEARCH_FOUR_SIX;
                    scales_are_plain(
                        &q, x, PATTERNS / (s == 2 ? 1 : 3), shapes[s].columns, shapes[s].group, globals[g]);
                }
        }
}

/* ---- what it is for ------------------------------------------------------------------------------------ */

/* The squared error of what codes stand for, in f64, over the square of the largest element of each group. */
static double error_of(const qc_quantizer *q, const uint16_t *x, size_t groups, float global, double *each)
{
    static float scales[MOST_GROUPS], values[PATTERNS];
    static uint8_t codes[PATTERNS];
    double sum = 0;
    qc_quantizer_rows_scales(q, x, 1, (int64_t)groups * 16, 16, global, scales, NULL);
    qc_quantizer_rows_codes(q, x, 1, (int64_t)groups * 16, 16, scales, global, NULL, codes);
    qc_quantizer_rows_dequantize(q, QC_F32, codes, 1, (int64_t)groups * 16, 16, scales, global, NULL, values);
    for (size_t g = 0; g < groups; g++) {
        double amax = 0x1p-20;
        each[g] = 0;
        for (size_t i = 16 * g; i < 16 * g + 16; i++) {
            double d = (double)qc_bf16_to_f32(x[i]) - (double)values[i];
            amax = fmax(amax, fabs((double)qc_bf16_to_f32(x[i])));
            each[g] += d * d;
        }
        each[g] /= amax * amax;
        sum += each[g];
    }
    return sum;
}

/* No group gets worse than under amax / 6, and all of them together far better. */
static void test_error(void)
{
    static uint16_t x[PATTERNS];
    static double plain[MOST_GROUPS], four_six[MOST_GROUPS], mse[MOST_GROUPS];
    bell_shaped(x, PATTERNS);
    qc_quantizer none = quantizer_of(QC_BF16, QC_SEARCH_NONE),
                 six = quantizer_of(QC_BF16, QC_SEARCH_FOUR_SIX), five = quantizer_of(QC_BF16, QC_SEARCH_MSE);
    float min, max;
    qc_arith_minmax(QC_BF16, x, PATTERNS, &min, &max);
    const float global = 1536 / fmaxf(-min, max);
    double a = error_of(&none, x, MOST_GROUPS, global, plain),
           b = error_of(&six, x, MOST_GROUPS, global, four_six),
           c = error_of(&five, x, MOST_GROUPS, global, mse);
    int worse = 0;
    for (int g = 0; g < MOST_GROUPS; g++)
        worse += four_six[g] > plain[g] * 1.00001 || mse[g] > plain[g] * 1.00001;
    CHECK_INT(worse, 0);
    if (!(b < 0.95 * a && c < 0.8 * a))
        CHECK_FAIL("errors of amax / 6, four or six, and the search: %g, %g, %g", a, b, c);
}

int main(void)
{
    RUN(test_by_hand);
    RUN(test_global);
    RUN(test_numpy);
    RUN(test_rows);
    RUN(test_error);
    return check_done();
}
