/* SPDX-License-Identifier: MIT
 *
 * test_columns.c - sums of columns, and the least range that holds a share of the elements: against numbers worked out by
 * hand, and against sorting and trying every window.
 */
#include "check.h"

#include "ir/dtype/codec.h"
#include "ir/dtype/columns.h"
#include "ir/dtype/mse.h"

enum { MOST = 3000 };

static uint32_t next_pattern(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 32);
}

static size_t width_of(qc_dtype model)
{
    return (size_t)qc_dtype_bits(model) / 8;
}

/* ---- by hand ------------------------------------------------------------------------------------------- */

static void range_is(qc_share_kind kind, double value, const float *x, size_t count, float min, float max)
{
    static const qc_dtype models[] = {QC_BF16, QC_F16, QC_F32};
    for (int m = 0; m < 3; m++) {
        const qc_share share = {.kind = kind, .value = value};
        uint32_t numbers[64];
        float low, high;
        qc_encode_f32(models[m], x, numbers, count);
        CHECK(qc_share_range(&share, models[m], numbers, 1, count, count, &low, &high));
        if (low != min || high != max)
            CHECK_FAIL("%s, kind %d, %g of %zu: [%g, %g], expected [%g, %g]", qc_dtype_name(models[m]),
                (int)kind, value, count, low, high, min, max);
    }
}

static void test_by_hand(void)
{
    const float ten[10] = {1, -2, 3, -4, 5, -6, 7, -8, 9, -10};
    range_is(QC_SHARE_PERCENTILE, 100, ten, 10, -10, 10);
    range_is(QC_SHARE_PERCENTILE, 90, ten, 10, -9, 9); /* 9 of 10, not 10: 0.9 is no binary number */
    range_is(QC_SHARE_PERCENTILE, 90.1, ten, 10, -10, 10);
    range_is(QC_SHARE_PERCENTILE, 70, ten, 10, -7, 7);
    range_is(QC_SHARE_PERCENTILE, 1, ten, 10, -1, 1);
    range_is(QC_SHARE_WINDOW, 1, ten, 10, -10, 9);
    /* sorted: -10 -8 -6 -4 -2 1 3 5 7 9; of five -10 to -2 and 1 to 9 are the narrowest, of three 1 to 5 ties with others */
    range_is(QC_SHARE_WINDOW, 0.5, ten, 10, -10, -2);
    range_is(QC_SHARE_WINDOW, 0.25, ten, 10, -10, -6);
    const float dense[8] = {40, 1, 2.5f, 2, -7, 1.5f, 9, -90};
    range_is(QC_SHARE_WINDOW, 0.5, dense, 8, 1, 2.5f);
    range_is(QC_SHARE_WINDOW, 0.51, dense, 8, 1, 9);
    range_is(QC_SHARE_WINDOW, 0.75, dense, 8, -7, 9);
    range_is(QC_SHARE_WINDOW, 0.1, ten, 10, -10, -10);
    /* of equally narrow ones the lowest: four of -6 -4 -2 0 2 4 */
    const float even[6] = {4, 2, 0, -2, -4, -6};
    range_is(QC_SHARE_WINDOW, 0.66, even, 6, -6, 0);
    /* equal elements are inside together */
    const float many[8] = {0, 0, 0, 0, -0.0f, 0, 100, -3};
    range_is(QC_SHARE_PERCENTILE, 50, many, 8, 0, 0);
    range_is(QC_SHARE_WINDOW, 0.75, many, 8, 0, 0);
    range_is(QC_SHARE_WINDOW, 0.8, many, 8, -3, 0);
    range_is(QC_SHARE_PERCENTILE, 80, many, 8, -3, 3);
    range_is(QC_SHARE_WINDOW, 0.0001, many, 1, 0, 0);
}

static void test_names(void)
{
    qc_share share;
    qc_fold fold;
    CHECK(qc_share_from_observer("percentile", 10, &share) && share.kind == QC_SHARE_PERCENTILE);
    CHECK(share.value == 99.99 && strcmp(share.argument, "percentile") == 0);
    CHECK(qc_share_from_observer("recall_window", 13, &share) && share.kind == QC_SHARE_WINDOW);
    CHECK(share.value == 0.9999 && strcmp(share.argument, "recall") == 0);
    CHECK(!qc_share_from_observer("percentiles", 11, &share) && !qc_share_from_observer("minmax", 6, &share));
    CHECK(qc_mse_fold("percentile", 10, &fold) && fold == QC_FOLD_RUNNING);
    CHECK(qc_mse_fold("recall_window", 13, &fold) && fold == QC_FOLD_RUNNING);
    CHECK(qc_mse_fold("static_minmax", 13, &fold) && fold == QC_FOLD_RUNNING);
    CHECK(qc_mse_fold("mse", 3, &fold) && fold == QC_FOLD_MOVING_AVERAGE);
    CHECK(qc_mse_fold("memoryless_mse", 14, &fold) && fold == QC_FOLD_LAST);
    CHECK(qc_mse_fold("mse_mean", 8, &fold) && fold == QC_FOLD_MEAN);
    CHECK(!qc_mse_fold("imatrix", 7, &fold) && !qc_mse_fold("mean", 4, &fold));
    qc_mse mse;
    CHECK(
        qc_mse_from_observer("mse_mean", 8, &mse) && qc_mse_fault(&mse) == NULL && qc_mse_steps(&mse) == 46);
}

/* The mean of ranges, rounded once: in bf16 the mean of 1, 1 and 1 + 2^-7 is nearest to 1, step by step it is not. */
static void test_mean(void)
{
    const float mins[] = {-1, -2, -6}, maxs[] = {1, 1, 1.0078125f};
    float min, max;
    qc_arith_fold_minmax(QC_FOLD_MEAN, QC_BF16, mins, maxs, 3, 1, 0.01, &min, &max);
    CHECK(min == -3 && max == 1);
    qc_arith_fold_minmax(QC_FOLD_MEAN, QC_F32, mins, maxs, 3, 1, 0.01, &min, &max);
    CHECK(min == -3 && max == (float)(3.0078125 / 3));
    const float strided[] = {1, 50, 3, 60};
    qc_arith_fold_minmax(QC_FOLD_MEAN, QC_F32, strided, strided, 2, 2, 0.01, &min, &max);
    CHECK(min == 2 && max == 2);
}

/* ---- against sorting ----------------------------------------------------------------------------------- */

static int compare(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void plain_range(const qc_share *share, const float *x, size_t count, float *min, float *max)
{
    static float sorted[MOST];
    const bool percentile = share->kind == QC_SHARE_PERCENTILE;
    size_t wanted = 1;
    double least = INFINITY;
    for (size_t i = 0; i < count; i++)
        sorted[i] = percentile ? fabsf(x[i]) : x[i];
    qsort(sorted, count, sizeof *sorted, compare);
    while ((double)wanted < share->value / (percentile ? 100 : 1) * (double)count * (1 - 1e-12))
        wanted++;
    for (size_t i = 0; i + wanted <= count && !percentile; i++) {
        double width = (double)sorted[i + wanted - 1] - (double)sorted[i];
        if (width < least) {
            least = width;
            *min = sorted[i];
            *max = sorted[i + wanted - 1];
        }
    }
    if (percentile) {
        *max = sorted[wanted - 1];
        *min = -*max;
    }
}

/* Columns of a wider matrix, as a head is one. */
static void test_sorted(void)
{
    static const double values[] = {100, 99.99, 99, 50, 12.5, 0.01};
    static const qc_dtype models[] = {QC_BF16, QC_F16, QC_F32};
    static uint32_t numbers[MOST];
    static float x[MOST], picked[MOST];
    uint64_t state = 9;
    for (int m = 0; m < 3; m++)
        for (int round = 0; round < 12; round++) {
            const size_t stride = 1 + (size_t)round * 5 % 13, columns = 1 + stride / 2,
                         rows = MOST / stride - 1;
            size_t count = 0;
            for (size_t i = 0; i < MOST; i++) {
                float v = (float)(int32_t)next_pattern(&state) * 0x1p-31f;
                x[i] = round % 3 == 0 ? v : round % 3 == 1 ? v * v * v * 100 : rintf(v * 8);
            }
            qc_encode_f32(models[m], x, numbers, MOST);
            qc_decode_f32(models[m], numbers, x, MOST);
            for (size_t r = 0; r < rows; r++)
                for (size_t c = 0; c < columns; c++)
                    picked[count++] = x[r * stride + c];
            for (int k = 0; k < 12; k++) {
                const bool window = k >= 6;
                const qc_share share = {.kind = window ? QC_SHARE_WINDOW : QC_SHARE_PERCENTILE,
                    .value = values[k % 6] / (window ? 100 : 1)};
                float min, max, low = 0, high = 0;
                plain_range(&share, picked, count, &low, &high);
                CHECK(qc_share_range(&share, models[m], numbers, rows, columns, stride, &min, &max));
                if (min != low || max != high)
                    CHECK_FAIL("%s, %s %g of %zu x %zu: [%g, %g], expected [%g, %g]",
                        qc_dtype_name(models[m]), window ? "window" : "percentile", share.value, rows,
                        columns, min, max, low, high);
            }
        }
}

/* ---- sums ---------------------------------------------------------------------------------------------- */

static void test_sums(void)
{
    enum { ROWS = 3, COLUMNS = 1030 };
    static uint16_t x[ROWS * COLUMNS];
    static double sums[COLUMNS];
    for (size_t i = 0; i < ROWS * COLUMNS; i++)
        x[i] = qc_bf16_from_f32((float)(i % 251) - 125);
    for (size_t c = 0; c < COLUMNS; c++)
        sums[c] = 0.5;
    qc_columns_sum(QC_BF16, x, ROWS, COLUMNS, sums);
    for (size_t c = 0; c < COLUMNS; c++) {
        double want = 0.5;
        for (size_t r = 0; r < ROWS; r++)
            want += (double)((r * COLUMNS + c) % 251) - 125;
        CHECK(sums[c] == want);
    }
    CHECK(qc_columns_kept_sum(3) == 3 && qc_columns_kept_sum(-0.75) == -0.75f);
    CHECK(qc_columns_kept_sum(0x1p-24 * 1.4) == 0x1p-24f && qc_columns_kept_sum(-0x1p-24 * 1.6) == -0x1p-23f);
    CHECK(qc_columns_kept_sum(0x1p-30) == 0 && qc_columns_kept_sum(1 + 0x1p-30) == 1);
    CHECK(isinf(qc_columns_kept_sum(1e40)));
    /* in any order the same */
    double forth = 0, back = 0;
    uint64_t state = 4;
    float parts[500];
    for (int i = 0; i < 500; i++)
        parts[i] = qc_columns_kept_sum(ldexp((double)(int32_t)next_pattern(&state), -8 - i % 60));
    for (int i = 0; i < 500; i++) {
        forth += (double)parts[i];
        back += (double)parts[499 - i];
    }
    CHECK(forth == back);
}

int main(void)
{
    RUN(test_by_hand);
    RUN(test_names);
    RUN(test_mean);
    RUN(test_sorted);
    RUN(test_sums);
    return check_done();
}
