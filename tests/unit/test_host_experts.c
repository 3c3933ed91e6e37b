/* SPDX-License-Identifier: MIT
 *
 * test_host_experts.c - the CPU kernels of mixtures of experts: the largest elements against a sort, masks, the order of
 * rows by expert, what moves rows (bit against bit), and sums with each way of rounding.
 */
#include <math.h>

#include "backends/host/host.h"
#include "tests/unit/check.h"
#include "tests/unit/host_util.h"

static qc_arena arena;
static qc_diag diag;
static char last_error[256];

static void keep_error(void *user, qc_severity severity, const char *where, const char *what)
{
    (void)user;
    if (severity == QC_SEVERITY_ERROR)
        snprintf(last_error, sizeof last_error, "%s: %s", where, what);
}

static qc_host_engine *engine_of(int threads)
{
    return qc_host_engine_create(&diag, &(qc_host_options){.thread_count = threads});
}

/* ---- choosing ------------------------------------------------------------------------------------------ */

/* The place of column c among its row, largest first, equals by column. */
static size_t place_of(const float *row, size_t columns, size_t c)
{
    size_t place = 0;
    for (size_t i = 0; i < columns; i++)
        place += row[i] > row[c] || (row[i] == row[c] && i < c);
    return place;
}

static void test_topk(void)
{
    static const size_t columns[] = {1, 8, 60, 1500}, ks[] = {1, 2, 8};
    for (int threads = 1; threads <= 3; threads++)
        for (size_t n = 0; n < 4; n++)
            for (size_t j = 0; j < 3; j++) {
                enum { ROWS = 70 };
                size_t count = columns[n], k = ks[j] < count ? ks[j] : count;
                qc_host_engine *e = engine_of(threads);
                /* two bits of fraction: many are equal */
                uint8_t *few = random_values(3, ROWS * count, QC_F8E5M2, 4.0);
                float *values = as_f32(QC_F8E5M2, few, ROWS * count);
                uint16_t *x = malloc(ROWS * count * sizeof *x);
                int32_t *ids = malloc(ROWS * k * sizeof *ids);
                qc_encode_f32(QC_BF16, values, x, ROWS * count);
                CHECK_INT(qc_host_topk(e, &diag, "gate", QC_BF16, x, ROWS, count, k, ids), QC_OK);
                for (size_t r = 0; r < ROWS; r++)
                    for (size_t i = 0; i < k; i++)
                        CHECK_INT(place_of(values + r * count, count, (size_t)ids[r * k + i]), i);
                qc_host_engine_destroy(e);
                free(few), free(values), free(x), free(ids);
            }
}

static void test_topk_ends(void)
{
    const float x[] = {-INFINITY, -3.0f, NAN, -3.0f, INFINITY, -0.0f, 0.0f};
    int32_t ids[7];
    qc_host_engine *e = engine_of(1);

    CHECK_INT(qc_host_topk(e, &diag, "gate", QC_F32, x, 1, 7, 7, ids), QC_OK);
    static const int32_t expected[] = {2, 4, 5, 6, 1, 3, 0};
    CHECK(memcmp(ids, expected, sizeof expected) == 0);
    CHECK_INT(qc_host_topk(e, &diag, "gate", QC_F32, x, 1, 7, 8, ids), QC_ERROR);
    CHECK_STR(last_error, "gate: the 8 largest of 7 elements");
    qc_host_engine_destroy(e);
}

static void test_take_and_mask(void)
{
    const float x[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
    const int32_t ids[] = {5, 0, 2, 2}, groups[] = {2, 1}, wrong[] = {0, 3};
    float taken[4], masked[12];
    qc_host_engine *e = engine_of(1);
    qc_host_group_mask mask = {
        .dtype = QC_F32, .rows = 2, .columns = 6, .groups = 3, .chosen = 1, .fill = -1.0f};

    CHECK_INT(qc_host_take(e, &diag, "gate", 4, x, 2, 6, ids, 2, taken), QC_OK);
    CHECK(memcmp(taken, (float[]){6, 1, 9, 9}, sizeof taken) == 0);
    CHECK_INT(qc_host_mask_groups(e, &diag, "gate", &mask, x, groups, masked), QC_OK);
    CHECK(memcmp(masked, (float[]){-1, -1, -1, -1, 5, 6, -1, -1, 9, 10, -1, -1}, sizeof masked) == 0);
    CHECK_INT(qc_host_take(e, &diag, "gate", 4, x, 2, 3, wrong, 1, taken), QC_ERROR);
    CHECK_STR(last_error, "gate: number 3 is outside 0 to 2");
    CHECK_INT(qc_host_mask_groups(e, &diag, "gate", &mask, x, wrong, masked), QC_ERROR);
    CHECK_STR(last_error, "gate: number 3 is outside 0 to 2");
    mask.groups = 4;
    CHECK_INT(qc_host_mask_groups(e, &diag, "gate", &mask, x, groups, masked), QC_ERROR);
    qc_host_engine_destroy(e);
}

/* ---- rows ---------------------------------------------------------------------------------------------- */

static void test_expert_rows(void)
{
    static const int32_t ids[] = {3, 1, 0, 3, 1, 0}; /* three tokens */
    int32_t rows[3 * 12];
    size_t starts[5];

    CHECK_INT(qc_host_expert_rows(&diag, "experts", ids, 3, 2, 4, rows), QC_OK);
    static const int32_t routed[] = {0, 0, 1, 1, 3, 3, 1, 2, 0, 2, 0, 1, 0, 1, 1, 0, 0, 1};
    CHECK(memcmp(rows, routed, sizeof routed) == 0);
    CHECK_INT(qc_host_expert_starts(&diag, "experts", rows, 6, 4, starts), QC_OK);
    CHECK(memcmp(starts, (size_t[]){0, 2, 4, 4, 6}, sizeof starts) == 0);
    CHECK_INT(qc_host_expert_all_rows(&diag, "experts", ids, 3, 2, 4, rows), QC_OK);
    static const int32_t all[] = {0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2, -1,
        0, 1, 1, -1, 0, -1, -1, -1, 0, 1, -1};
    CHECK(memcmp(rows, all, sizeof all) == 0);
}

static void test_expert_row_errors(void)
{
    static const int32_t ids[] = {0, 1, 2, 2}, turned[] = {1, 0};
    int32_t rows[12];
    size_t starts[4];

    CHECK_INT(qc_host_expert_rows(&diag, "experts", ids, 2, 2, 2, rows), QC_ERROR);
    CHECK_STR(last_error, "experts: number 2 is outside 0 to 1");
    CHECK_INT(qc_host_expert_rows(&diag, "experts", ids, 2, 2, 3, rows), QC_ERROR);
    CHECK_STR(last_error, "experts: token 1 names expert 2 twice");
    CHECK_INT(qc_host_expert_all_rows(&diag, "experts", ids, 2, 2, 3, rows), QC_ERROR);
    CHECK_INT(qc_host_expert_starts(&diag, "experts", turned, 2, 2, starts), QC_ERROR);
    CHECK_STR(last_error, "experts: the rows of experts are not in their order");
}

/* ---- there and back ------------------------------------------------------------------------------------ */

enum { TOKENS = 90, K = 3, EXPERTS = 5, SIZE = 1100 };

typedef struct routing {
    int32_t ids[TOKENS * K], rows[3 * EXPERTS * TOKENS];
    size_t count;
} routing;

static void route(routing *r, bool all)
{
    for (size_t t = 0; t < TOKENS; t++)
        for (size_t i = 0; i < K; i++)
            r->ids[t * K + i] = (int32_t)((t * 7 + i * (1 + t % 2)) % EXPERTS);
    r->count = all ? EXPERTS * TOKENS : TOKENS * K;
    CHECK_INT((all ? qc_host_expert_all_rows : qc_host_expert_rows)(
                  &diag, "experts", r->ids, TOKENS, K, EXPERTS, r->rows),
        QC_OK);
}

/* Rows of f32 as every expert's own sum, rounded as said. */
static void expected_sums(const routing *r, qc_dtype dtype, const float *y, bool once, uint8_t *out)
{
    float *sums = calloc(TOKENS * SIZE, sizeof *sums);
    for (size_t row = 0; row < r->count; row++) {
        float *sum = sums + (size_t)r->rows[r->count + row] * SIZE;
        for (size_t c = 0; c < SIZE && r->rows[2 * r->count + row] >= 0; c++) {
            sum[c] += y[row * SIZE + c];
            if (!once) {
                uint32_t code;
                qc_encode_f32(dtype, &sum[c], &code, 1);
                qc_decode_f32(dtype, &code, &sum[c], 1);
            }
        }
    }
    qc_encode_f32(dtype, sums, out, TOKENS * SIZE);
    free(sums);
}

static void check_combine(qc_dtype dtype, bool all, bool once, int threads)
{
    static routing r;
    route(&r, all);
    qc_host_engine *e = engine_of(threads);
    size_t bytes = dtype_bytes(dtype);
    uint8_t *y = random_values(5, r.count * SIZE, dtype, 2.0), *out = malloc(TOKENS * SIZE * bytes),
            *expected = malloc(TOKENS * SIZE * bytes);
    float *values = as_f32(dtype, y, r.count * SIZE);
    const qc_host_combination c = {
        .dtype = dtype, .rows = r.count, .columns = SIZE, .tokens = TOKENS, .k = K, .round_once = once};

    CHECK_INT(qc_host_expert_combine(e, &diag, "experts", &c, y, r.rows, out), QC_OK);
    expected_sums(&r, dtype, values, once, expected);
    CHECK(memcmp(out, expected, TOKENS * SIZE * bytes) == 0);
    qc_host_engine_destroy(e);
    free(y), free(out), free(expected), free(values);
}

static void test_combine(void)
{
    for (int threads = 1; threads <= 3; threads += 2)
        for (int all = 0; all < 2; all++)
            for (int once = 0; once < 2; once++) {
                check_combine(QC_BF16, all, once, threads);
                check_combine(QC_F16, all, once, threads);
                check_combine(QC_F32, all, once, threads);
            }
}

static void test_combine_errors(void)
{
    static const int32_t rows[] = {0, 1, 2, 0, 0, 0, 0, 1, 0};
    const float y[3] = {1, 2, 3};
    float out[1];
    qc_host_engine *e = engine_of(1);
    const qc_host_combination c = {.dtype = QC_F32, .rows = 3, .columns = 1, .tokens = 1, .k = 2};

    CHECK_INT(qc_host_expert_combine(e, &diag, "experts", &c, y, rows, out), QC_ERROR);
    CHECK_STR(last_error, "experts: token 0 has more than 2 experts");
    qc_host_engine_destroy(e);
}

static void test_gather_and_scores(void)
{
    for (int all = 0; all < 2; all++) {
        static routing r;
        route(&r, all);
        qc_host_engine *e = engine_of(2);
        uint16_t *x = random_values(6, TOKENS * SIZE, QC_BF16, 1.0),
                 *w = random_values(7, TOKENS * K, QC_BF16, 1.0);
        uint16_t *y = malloc(r.count * SIZE * 2), *scores = malloc(r.count * 2), *first = malloc(r.count * 2);
        const int32_t *token = r.rows + r.count, *slot = r.rows + 2 * r.count;

        CHECK_INT(qc_host_gather_rows(e, &diag, "experts", x, TOKENS, SIZE * 2, token, r.count, y), QC_OK);
        CHECK_INT(
            qc_host_expert_scores(&diag, "experts", 2, w, TOKENS, K, r.rows, r.count, false, scores), QC_OK);
        CHECK_INT(
            qc_host_expert_scores(&diag, "experts", 2, w, TOKENS, K, r.rows, r.count, true, first), QC_OK);
        for (size_t i = 0; i < r.count; i++) {
            size_t t = (size_t)token[i];
            CHECK(memcmp(y + i * SIZE, x + t * SIZE, SIZE * 2) == 0);
            CHECK_INT(scores[i], slot[i] < 0 ? 0 : w[t * K + (size_t)slot[i]]);
            CHECK_INT(first[i], w[t * K + (size_t)(slot[i] < 0 ? 0 : slot[i])]);
        }
        CHECK_INT(
            qc_host_gather_rows(e, &diag, "experts", x, TOKENS - 1, SIZE * 2, token, r.count, y), QC_ERROR);
        CHECK_INT(qc_host_expert_scores(&diag, "experts", 2, w, TOKENS, K - 1, r.rows, r.count, true, first),
            QC_ERROR);
        qc_host_engine_destroy(e);
        free(x), free(w), free(y), free(scores), free(first);
    }
}

int main(void)
{
    qc_arena_init(&arena, NULL);
    qc_diag_init(&diag, &arena, keep_error, NULL);
    RUN(test_topk);
    RUN(test_topk_ends);
    RUN(test_take_and_mask);
    RUN(test_expert_rows);
    RUN(test_expert_row_errors);
    RUN(test_combine);
    RUN(test_combine_errors);
    RUN(test_gather_and_scores);
    qc_arena_fini(&arena);
    return check_done();
}
