/* SPDX-License-Identifier: MIT
 *
 * test_host.c - the CPU kernels: products, linear and attention. test_host_rows.c has the others.
 *
 * Against sums in f64 with the bound that the order of an f32 sum can not break, (K + 2) 2^-24 sum |x w|,
 * plus one rounding to the type; against PyTorch (host_goldens.h); and bit against bit over threads,
 * groupings, instruction sets and one query at a time.
 */
#include "backends/host/host.h"
#include "backends/host/onednn.h"
#include "tests/unit/check.h"
#include "tests/unit/host_goldens.h"
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

static qc_host_engine *engine_of(int threads, const char *isa)
{
    return qc_host_engine_create(&diag, &(qc_host_options){.thread_count = threads, .isa = isa});
}

/* Half the distance between neighbours of dtype at x. */
static double half_ulp(qc_dtype dtype, double x)
{
    int bits = dtype == QC_BF16 ? 8 : dtype == QC_F16 ? 11 : 24;
    return x == 0.0 ? 0.0 : ldexp(1.0, ilogb(x) - bits + (dtype == QC_F16 && fabs(x) < 1e-4 ? 12 : 0));
}

static const qc_host_sequences one_sequence = {NULL, 0};

/* ---- linear -------------------------------------------------------------------------------------------- */

typedef struct shape {
    size_t rows, columns, depth;
} shape;

static void check_linear(qc_host_engine *maker, shape s, qc_dtype in, qc_dtype weight_dtype, qc_dtype out)
{
    void *x = random_values(1, s.rows * s.depth, in, 1.0);
    void *w = random_values(2, s.columns * s.depth, weight_dtype, 1.0),
         *b = random_values(3, s.columns, QC_BF16, 1.0);
    float *xf = as_f32(in, x, s.rows * s.depth), *wf = as_f32(weight_dtype, w, s.columns * s.depth);
    float *bf = as_f32(QC_BF16, b, s.columns);
    void *y = malloc(s.rows * s.columns * 4);
    qc_host_linear *l = qc_host_linear_create(maker, &diag, "w",
        &(qc_host_linear_spec){.out_features = s.columns,
            .in_features = s.depth,
            .weight_dtype = weight_dtype,
            .weight = w,
            .bias_dtype = QC_BF16,
            .bias = b,
            .input_dtype = in,
            .output_dtype = out});

    CHECK(l != NULL);
    CHECK_INT(qc_host_linear_run(l, &diag, x, 0, y, 0, s.rows, one_sequence), QC_OK);
    float *yf = as_f32(out, y, s.rows * s.columns);
    for (size_t r = 0; r < s.rows; r++)
        for (size_t n = 0; n < s.columns; n++) {
            double sum = bf[n], size = fabs(bf[n]);
            for (size_t k = 0; k < s.depth; k++) {
                double product = (double)xf[r * s.depth + k] * wf[n * s.depth + k];
                sum += product;
                size += fabs(product);
            }
            double bound = (double)(s.depth + 2) * 0x1p-24 * size;
            CHECK_NEAR(yf[r * s.columns + n], sum, bound + 1.01 * half_ulp(out, fabs(sum) + bound));
        }
    qc_host_linear_destroy(l);
    free(x), free(w), free(b), free(xf), free(wf), free(bf), free(y), free(yf);
}

static const char *const isas[] = {"generic", "avx2", "avx512", "avx512_bf16"};

static void test_linear_against_f64(void)
{
    static const size_t rows[] = {1, 2, 3, 16, 17, 64, 65};
    static const shape sizes[] = {
        {0, 1, 1}, {0, 24, 37}, {0, 40, 576}, {0, 200, 130}, {0, 576, 40}, {0, 33, 4099}};

    for (size_t i = 0; i < 4; i++) {
        qc_host_engine *e = engine_of(2, isas[i]);
        if (!e)
            continue; /* this processor has no such set */
        for (size_t r = 0; r < sizeof rows / sizeof *rows; r++)
            for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
                shape sh = {rows[r], sizes[s].columns, sizes[s].depth};
                check_linear(e, sh, QC_BF16, QC_BF16, QC_BF16);
                check_linear(e, sh, QC_F32, QC_F32, QC_F32);
                if (r % 2 == 0) {
                    check_linear(e, sh, QC_F16, QC_F16, QC_F16);
                    check_linear(e, sh, QC_BF16, QC_BF16, QC_F32);
                    check_linear(e, sh, QC_F32, QC_BF16, QC_F32);
                }
            }
        qc_host_engine_destroy(e);
    }
}

/* y of one run; threads and sequences as given. */
static uint16_t *run_bf16(
    const char *isa, int threads, shape s, qc_host_sequences sequences, size_t first, size_t rows)
{
    qc_host_engine *e = engine_of(threads, isa);
    uint16_t *x = random_values(4, s.rows * s.depth, QC_BF16, 1.0),
             *w = random_values(5, s.columns * s.depth, QC_BF16, 1.0);
    uint16_t *y = calloc(s.rows * s.columns, sizeof *y);
    qc_host_linear *l = qc_host_linear_create(e, &diag, "w",
        &(qc_host_linear_spec){.out_features = s.columns,
            .in_features = s.depth,
            .weight_dtype = QC_BF16,
            .weight = w,
            .input_dtype = QC_BF16});

    CHECK(l && qc_host_linear_run(l, &diag, x + first * s.depth, 0, y, 0, rows, sequences) == QC_OK);
    qc_host_linear_destroy(l);
    qc_host_engine_destroy(e);
    free(x), free(w);
    return y;
}

static void test_linear_same_bits(void)
{
    static const size_t rows[] = {1, 3, 16, 17, 64, 65, 200}, starts[] = {0, 3, 3, 20, 85, 200};
    static const int threads[] = {2, 3, 7};

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        shape s = {rows[i], i % 2 ? 40 : 576, i % 2 ? 4100 : 130};
        uint16_t *expected = run_bf16(NULL, 1, s, one_sequence, 0, s.rows);
        for (size_t t = 0; t < 3; t++) {
            uint16_t *y = run_bf16(NULL, threads[t], s, one_sequence, 0, s.rows);
            CHECK(memcmp(y, expected, s.rows * s.columns * 2) == 0);
            free(y);
        }
        free(expected);
    }
    shape s = {200, 72, 4100};
    uint16_t *packed = run_bf16(NULL, 3, s, (qc_host_sequences){starts, 5}, 0, 200);
    for (size_t q = 0; q < 5; q++) {
        size_t count = starts[q + 1] - starts[q];
        uint16_t *alone = run_bf16(NULL, 2, s, one_sequence, starts[q], count);
        CHECK(memcmp(alone, packed + starts[q] * s.columns, count * s.columns * 2) == 0);
        free(alone);
    }
    free(packed);
}

static void test_linear_called_in_parallel(void)
{
    shape s = {65, 72, 300};
    uint16_t *expected = run_bf16(NULL, 1, s, one_sequence, 0, s.rows);
    int equal = 0;

#pragma omp parallel for num_threads(4) reduction(+ : equal)
    for (int i = 0; i < 4; i++) {
        uint16_t *y = run_bf16(NULL, 3, s, one_sequence, 0, s.rows);
        equal += memcmp(y, expected, s.rows * s.columns * 2) == 0;
        free(y);
    }
    CHECK_INT(equal, 4);
    free(expected);
}

static void test_isas_agree(void)
{
    shape s = {30, 100, 700};
    qc_host_engine *avx512 = engine_of(1, "avx512"), *avx2 = engine_of(1, "avx2");

    bool both = avx512 && avx2;
    qc_host_engine_destroy(avx512);
    qc_host_engine_destroy(avx2);
    if (!both)
        SKIP("this processor has only one of avx2, avx512");
    uint16_t *a = run_bf16("avx2", 2, s, one_sequence, 0, s.rows),
             *b = run_bf16("avx512", 2, s, one_sequence, 0, s.rows);
    CHECK(memcmp(a, b, s.rows * s.columns * 2) == 0);
    free(a), free(b);
}

static void test_linear_strides(void)
{
    qc_host_engine *e = engine_of(2, NULL);
    float *x = random_values(6, 5 * 30, QC_F32, 1.0), *w = random_values(7, 8 * 25, QC_F32, 1.0), y[5 * 11],
          plain[5 * 7];
    float packed_x[5 * 20];

    for (size_t r = 0; r < 5; r++)
        memcpy(packed_x + r * 20, x + r * 30, 20 * sizeof *x);
    for (size_t i = 0; i < 55; i++)
        y[i] = 99.0f;
    qc_host_linear *l = qc_host_linear_create(e, &diag, "w",
        &(qc_host_linear_spec){.out_features = 7,
            .in_features = 20,
            .weight_dtype = QC_F32,
            .weight = w,
            .weight_stride = 25,
            .input_dtype = QC_F32});
    CHECK_INT(qc_host_linear_run(l, &diag, x, 30, y, 11, 5, one_sequence), QC_OK);
    CHECK_INT(qc_host_linear_run(l, &diag, packed_x, 0, plain, 0, 5, one_sequence), QC_OK);
    for (size_t r = 0; r < 5; r++) {
        CHECK(memcmp(y + r * 11, plain + r * 7, 7 * sizeof *y) == 0);
        for (size_t c = 7; c < 11; c++)
            CHECK(y[r * 11 + c] == 99.0f);
        double sum = 0.0;
        for (size_t k = 0; k < 20; k++)
            sum += (double)x[r * 30 + k] * w[3 * 25 + k];
        CHECK_NEAR(plain[r * 7 + 3], sum, 1e-5);
    }
    CHECK_INT(qc_host_linear_run(l, &diag, x, 0, y, 0, 0, one_sequence), QC_OK);
    qc_host_linear_destroy(l);
    qc_host_engine_destroy(e);
    free(x), free(w);
}

/* Groups of rows with a weight each: the bits of each group alone. */
static void test_linear_groups(void)
{
    enum { GROUPS_OF_ROWS = 6, COLUMNS = 200, DEPTH = 500 };
    static const size_t starts[] = {0, 1, 1, 18, 83, 84, 220};

    for (size_t i = 0; i < 4; i++)
        for (int threads = 1; threads <= 3; threads++)
            for (int small = 0; small < 2; small++) {
                qc_host_engine *e = engine_of(threads, isas[i]);
                if (!e)
                    continue;
                size_t depth = small ? 10 : DEPTH, bytes = COLUMNS * sizeof(uint16_t);
                uint16_t *x = random_values(20, 220 * depth, QC_BF16, 1.0), *y = malloc(220 * bytes),
                         *alone = malloc(220 * bytes);
                uint16_t *bias = random_values(30, COLUMNS, QC_BF16, 1.0);
                qc_host_linear *all[GROUPS_OF_ROWS];
                for (size_t g = 0; g < GROUPS_OF_ROWS; g++) {
                    uint16_t *w = random_values(21 + (uint32_t)g, COLUMNS * depth, QC_BF16, 1.0);
                    all[g] = qc_host_linear_create(e, &diag, "w",
                        &(qc_host_linear_spec){.out_features = COLUMNS,
                            .in_features = depth,
                            .weight_dtype = QC_BF16,
                            .weight = w,
                            .bias_dtype = QC_BF16,
                            .bias = g % 2 ? bias : NULL,
                            .input_dtype = QC_BF16});
                    free(w);
                }
                CHECK_INT(qc_host_linear_run_groups((const qc_host_linear *const *)all, &diag, x, 0, y, 0,
                              (qc_host_sequences){starts, GROUPS_OF_ROWS}),
                    QC_OK);
                for (size_t g = 0; g < GROUPS_OF_ROWS; g++)
                    CHECK_INT(qc_host_linear_run(all[g], &diag, x + starts[g] * depth, 0,
                                  alone + starts[g] * COLUMNS, 0, starts[g + 1] - starts[g], one_sequence),
                        QC_OK);
                CHECK(memcmp(y, alone, 220 * bytes) == 0);
                for (size_t g = 0; g < GROUPS_OF_ROWS; g++)
                    qc_host_linear_destroy(all[g]);
                qc_host_engine_destroy(e);
                free(x), free(y), free(alone), free(bias);
            }
}

static void test_linear_groups_that_differ(void)
{
    static const size_t starts[] = {0, 1, 2};
    float w[6] = {1, 2, 3, 4, 5, 6}, x[4] = {1, 1, 1, 1}, y[6];
    qc_host_engine *e = engine_of(1, NULL);
    qc_host_linear *two[2];

    for (size_t g = 0; g < 2; g++)
        two[g] = qc_host_linear_create(e, &diag, "w",
            &(qc_host_linear_spec){.out_features = 2 + g,
                .in_features = 2,
                .weight_dtype = QC_F32,
                .weight = w,
                .input_dtype = QC_F32});
    CHECK_INT(qc_host_linear_run_groups(
                  (const qc_host_linear *const *)two, &diag, x, 0, y, 0, (qc_host_sequences){starts, 2}),
        QC_ERROR);
    CHECK_STR(last_error, "host: the weights of groups of rows have different sizes or types");
    CHECK_INT(
        qc_host_linear_run_groups(NULL, &diag, x, 0, y, 0, (qc_host_sequences){(const size_t[]){0, 0, 0}, 2}),
        QC_OK);
    for (size_t g = 0; g < 2; g++)
        qc_host_linear_destroy(two[g]);
    qc_host_engine_destroy(e);
}

static void test_linear_errors(void)
{
    qc_host_engine *e = engine_of(1, NULL);
    uint8_t w[4] = {0};

    CHECK(!qc_host_linear_create(e, &diag, "layers.0.q_proj",
        &(qc_host_linear_spec){.out_features = 2,
            .in_features = 2,
            .weight_dtype = QC_F8E4M3,
            .weight = w,
            .input_dtype = QC_BF16}));
    CHECK_STR(last_error, "layers.0.q_proj: the host multiplies bf16, f16 and f32, not bf16 by f8e4m3");
    CHECK(!qc_host_linear_create(e, &diag, "w",
        &(qc_host_linear_spec){
            .out_features = 2, .weight_dtype = QC_F32, .weight = w, .input_dtype = QC_F32}));
    CHECK(!engine_of(1, "mmx"));
    CHECK(strstr(last_error, "mmx") != NULL);
    qc_host_engine_destroy(e);
}

/* |actual - golden| in units of the type's last place at the golden; equal results counted. */
static void check_golden(const char *what, qc_dtype dtype, const void *actual, const void *golden,
    size_t count, double worst_ulps, double least_equal)
{
    float *a = as_f32(dtype, actual, count), *g = as_f32(dtype, golden, count);
    size_t equal = 0;
    double worst = 0.0, floor = 0.0;

    for (size_t i = 0; i < count; i++)
        floor = fmax(floor, fabs(g[i]) / 16);
    for (size_t i = 0; i < count; i++) {
        equal += a[i] == g[i];
        worst = fmax(worst, fabs((double)a[i] - g[i]) / (2 * half_ulp(dtype, fmax(fabs(g[i]), floor))));
    }
    if (!(worst <= worst_ulps) || (double)equal < least_equal * (double)count)
        CHECK_FAIL("%s: %zu of %zu equal, worst %g ulp", what, equal, count, worst);
    free(a), free(g);
}

static void test_linear_torch(void)
{
    uint16_t *x = random_values(4, 5 * 200, QC_BF16, 2.0), *w = random_values(5, 40 * 200, QC_BF16, 0.25);
    uint16_t *b = random_values(6, 40, QC_BF16, 2.0), y[5 * 40];

    for (size_t i = 0; i < 4; i++) {
        qc_host_engine *e = engine_of(2, isas[i]);
        if (!e)
            continue;
        qc_host_linear *l = qc_host_linear_create(e, &diag, "w",
            &(qc_host_linear_spec){.out_features = 40,
                .in_features = 200,
                .weight_dtype = QC_BF16,
                .weight = w,
                .bias_dtype = QC_BF16,
                .bias = b,
                .input_dtype = QC_BF16});
        CHECK_INT(qc_host_linear_run(l, &diag, x, 0, y, 0, 5, one_sequence), QC_OK);
        check_golden("linear", QC_BF16, y, golden_linear_bf16, 200, 1.0, 0.97);
        qc_host_linear_destroy(l);
        qc_host_engine_destroy(e);
    }
    free(x), free(w), free(b);
}

/* ---- oneDNN -------------------------------------------------------------------------------------------- */

/* The wrapper on f32 factors, which every processor has; bf16 ones are tested through linear where they
 * exist. */
static void test_onednn_kernels(void)
{
    enum { ROWS = 64, COLUMNS = 40, DEPTH = 130 };
    qc_host_onednn *context = qc_host_onednn_create(&diag);

    if (!context)
        SKIP("built without oneDNN");
    const qc_host_onednn_kernel *k = qc_host_onednn_get(context, &diag, "w", ROWS, COLUMNS, DEPTH, QC_F32);
    const qc_host_onednn_kernel *few = qc_host_onednn_get(context, &diag, "w", 16, COLUMNS, DEPTH, QC_F32);
    CHECK(k && few && k == qc_host_onednn_get(context, &diag, "w", ROWS, COLUMNS, DEPTH, QC_F32));
    CHECK_INT(qc_host_onednn_weight_bytes(k), qc_host_onednn_weight_bytes(few));
    float *x = random_values(8, ROWS * DEPTH, QC_F32, 1.0),
          *w = random_values(9, COLUMNS * DEPTH, QC_F32, 1.0);
    void *packed = aligned_alloc(64, (qc_host_onednn_weight_bytes(k) + 63) / 64 * 64);
    CHECK_INT(qc_host_onednn_pack(k, &diag, "w", w, DEPTH, packed), QC_OK);
    int failures = 0, wrong = 0;
#pragma omp parallel for num_threads(3) reduction(+ : failures, wrong)
    for (int round = 0; round < 12; round++) {
        const qc_host_onednn_kernel *kernel = round % 2 ? few : k;
        int rows = round % 2 ? 16 : ROWS;
        float *c = aligned_alloc(64, ROWS * COLUMNS * sizeof *c);
        void *scratch = aligned_alloc(64, (qc_host_onednn_scratch_bytes(kernel) + 127) / 64 * 64);
        qc_host_onednn_runner *runner = qc_host_onednn_runner_create(context);
        failures += qc_host_onednn_run(runner, kernel, x, packed, c, scratch) != 0;
        for (int r = 0; r < rows; r++)
            for (int n = 0; n < COLUMNS; n++) {
                double sum = 0.0;
                for (int d = 0; d < DEPTH; d++)
                    sum += (double)x[r * DEPTH + d] * w[n * DEPTH + d];
                wrong += !(fabs(sum - c[r * COLUMNS + n]) < 1e-4);
            }
        qc_host_onednn_runner_destroy(runner);
        free(c), free(scratch);
    }
    CHECK_INT(failures, 0);
    CHECK_INT(wrong, 0);
    free(x), free(w), free(packed);
    qc_host_onednn_destroy(context);
}

/* ---- attention ----------------------------------------------------------------------------------------- */

enum { HEADS = 4, GROUPS = 2, SIZE = 12 };

static qc_host_attention attention_of(qc_dtype dtype, const void *q, const void *k, const void *v, void *out,
    size_t queries, size_t past, size_t window)
{
    return (qc_host_attention){.dtype = dtype,
        .q = {.dtype = dtype, .data = q, .token_stride = HEADS * SIZE, .head_stride = SIZE},
        .k = {.dtype = dtype, .data = k, .token_stride = GROUPS * SIZE, .head_stride = SIZE},
        .v = {.dtype = dtype, .data = v, .token_stride = GROUPS * SIZE, .head_stride = SIZE},
        .out = out,
        .out_token_stride = HEADS * SIZE,
        .out_head_stride = SIZE,
        .queries = queries,
        .past = past,
        .keys = past + queries,
        .query_heads = HEADS,
        .kv_heads = GROUPS,
        .head_size = SIZE,
        .scale = 0.28867513459481287f,
        .causal = true,
        .window = window};
}

static void check_attention_golden(const char *what, qc_dtype dtype, size_t queries, size_t past,
    size_t window, const void *golden, double worst_ulps, double least_equal)
{
    size_t keys = past + queries;
    void *q = random_values(1, queries * HEADS * SIZE, dtype, 2.0),
         *k = random_values(2, keys * GROUPS * SIZE, dtype, 2.0);
    void *v = random_values(3, keys * GROUPS * SIZE, dtype, 2.0), *out = malloc(queries * HEADS * SIZE * 4);

    for (size_t i = 0; i < 4; i++) {
        qc_host_engine *e = engine_of(2, isas[i]);
        if (!e)
            continue;
        qc_host_attention at = attention_of(dtype, q, k, v, out, queries, past, window);
        CHECK_INT(qc_host_attention_run(e, &diag, "attn", &at), QC_OK);
        check_golden(what, dtype, out, golden, queries * HEADS * SIZE, worst_ulps, least_equal);
        qc_host_engine_destroy(e);
    }
    free(q), free(k), free(v), free(out);
}

static void test_attention_torch(void)
{
    check_attention_golden("bf16", QC_BF16, 37, 0, 0, golden_attention_bf16, 1.0, 0.97);
    check_attention_golden("window", QC_BF16, 20, 11, 9, golden_attention_window_bf16, 1.0, 0.97);
    check_attention_golden("f16", QC_F16, 21, 3, 0, golden_attention_f16, 1.0, 0.97);
    /* scores of about 10 carry an error of some 1e-6, which the exponential makes a relative one */
    check_attention_golden("f32", QC_F32, 19, 2, 6, golden_attention_f32, 64.0, 0.0);
}

static void test_attention_codes_torch(void)
{
    static const float q_scale[] = {0.5f, 0.75f, 1.25f, 0.0625f}, k_scale[] = {0.375f, 0.8125f},
                       v_scale[] = {1.5f, 0.21875f};
    uint8_t *q = random_values(1, 18 * HEADS * SIZE, QC_F8E4M3, 2.0),
            *k = random_values(2, 18 * GROUPS * SIZE, QC_F8E4M3, 2.0);
    uint8_t *v = random_values(3, 18 * GROUPS * SIZE, QC_F8E4M3, 2.0);
    uint16_t out[18 * HEADS * SIZE];
    qc_host_engine *e = engine_of(2, NULL);
    qc_host_attention at = attention_of(QC_F8E4M3, q, k, v, out, 18, 0, 0);

    at.dtype = QC_BF16;
    at.q.scale = q_scale, at.k.scale = k_scale, at.v.scale = v_scale;
    at.q.scale_stride = at.k.scale_stride = at.v.scale_stride = 1;
    CHECK_INT(qc_host_attention_run(e, &diag, "attn", &at), QC_OK);
    check_golden("codes", QC_BF16, out, golden_attention_codes_bf16, 18 * HEADS * SIZE, 1.0, 0.97);
    at.q.dtype = QC_I16;
    CHECK_INT(qc_host_attention_run(e, &diag, "layers.3.self_attn", &at), QC_ERROR);
    CHECK(strncmp(last_error, "layers.3.self_attn: ", 20) == 0);
    qc_host_engine_destroy(e);
    free(q), free(k), free(v);
}

/* The same bits from any number of threads, and from one query at a time behind a growing past. */
static void test_attention_same_bits(void)
{
    enum { S = 150 };
    static const size_t windows[] = {0, 1, 17, 70, 0, 40, 0}, chunks[] = {0, 0, 0, 0, 30, 64, 1};
    static const float sinks[HEADS] = {0.5f, -3.0f, 9.0f, 0.0f};
    uint16_t *q = random_values(10, S * HEADS * SIZE, QC_BF16, 3.0),
             *k = random_values(11, S * GROUPS * SIZE, QC_BF16, 3.0);
    uint16_t *v = random_values(12, S * GROUPS * SIZE, QC_BF16, 3.0), *one, *other;
    size_t row = HEADS * SIZE, bytes = S * row * 2;

    one = malloc(bytes), other = malloc(bytes);
    for (size_t w = 0; w < 7; w++) {
        for (int threads = 1; threads <= 7; threads += 2) {
            qc_host_engine *e = engine_of(threads, NULL);
            qc_host_attention at =
                attention_of(QC_BF16, q, k, v, threads == 1 ? one : other, S, 0, windows[w]);
            at.chunk = chunks[w];
            at.softcap = w > 3 ? 2.5f : 0.0f;
            at.sinks = w > 3 ? sinks : NULL;
            CHECK(qc_host_attention_bytes(e, &at) > 0);
            CHECK_INT(qc_host_attention_run(e, &diag, "attn", &at), QC_OK);
            CHECK(threads == 1 || memcmp(one, other, bytes) == 0);
            qc_host_engine_destroy(e);
        }
        qc_host_engine *e = engine_of(2, NULL);
        for (size_t i = 0; i < S; i++) {
            qc_host_attention at =
                attention_of(QC_BF16, q + i * row, k, v, other + i * row, 1, i, windows[w]);
            at.chunk = chunks[w];
            at.softcap = w > 3 ? 2.5f : 0.0f;
            at.sinks = w > 3 ? sinks : NULL;
            CHECK_INT(qc_host_attention_run(e, &diag, "attn", &at), QC_OK);
        }
        CHECK(memcmp(one, other, bytes) == 0);
        qc_host_engine_destroy(e);
    }
    free(q), free(k), free(v), free(one), free(other);
}

/* Not causal, another value size, more keys than a strip of the short kind, heads that are not adjacent. */
static void test_attention_against_f64(void)
{
    enum { Q = 7, K = 1100, D = 20, V = 9, STRIDE = 25 };
    float *q = random_values(13, Q * STRIDE, QC_F32, 1.0), *k = random_values(14, K * STRIDE, QC_F32, 1.0);
    float *v = random_values(15, K * STRIDE, QC_F32, 1.0), out[Q * V];
    qc_host_engine *e = engine_of(2, NULL);
    qc_host_attention at = {.dtype = QC_F32,
        .q = {.dtype = QC_F32, .data = q, .token_stride = STRIDE, .head_stride = 0},
        .k = {.dtype = QC_F32, .data = k, .token_stride = STRIDE, .head_stride = 0},
        .v = {.dtype = QC_F32, .data = v, .token_stride = STRIDE, .head_stride = 0},
        .out = out,
        .out_token_stride = V,
        .queries = Q,
        .keys = K,
        .query_heads = 1,
        .kv_heads = 1,
        .head_size = D,
        .value_size = V,
        .scale = 1.5f};

    CHECK_INT(qc_host_attention_run(e, &diag, "attn", &at), QC_OK);
    for (int i = 0; i < Q; i++) {
        double p[K], total = 0.0;
        for (int j = 0; j < K; j++) {
            double s = 0.0;
            for (int d = 0; d < D; d++)
                s += (double)q[i * STRIDE + d] * k[j * STRIDE + d];
            total += p[j] = exp(1.5 * s);
        }
        for (int c = 0; c < V; c++) {
            double sum = 0.0;
            for (int j = 0; j < K; j++)
                sum += p[j] / total * v[j * STRIDE + c];
            CHECK_NEAR(out[i * V + c], sum, 2e-6);
        }
    }
    at.causal = true;
    CHECK_INT(qc_host_attention_run(e, &diag, "attn", &at), QC_ERROR);
    qc_host_engine_destroy(e);
    free(q), free(k), free(v);
}

/* Caps, sinks and chunks, of queries behind a past, with another value size. */
static void check_attention_variant(
    int threads, size_t queries, size_t window, size_t chunk, float cap, const float *sinks)
{
    enum { PAST = 37, D = 20, V = 9, H = 4 };
    size_t keys = PAST + queries;
    float *q = random_values(13, queries * H * D, QC_F32, 2.0),
          *k = random_values(14, keys * 2 * D, QC_F32, 2.0);
    float *v = random_values(15, keys * 2 * V, QC_F32, 1.0), *out = malloc(queries * H * V * sizeof *out);
    double *p = malloc(keys * sizeof *p);
    qc_host_engine *e = engine_of(threads, NULL);
    qc_host_attention at = {.dtype = QC_F32,
        .q = {.dtype = QC_F32, .data = q, .token_stride = H * D, .head_stride = D},
        .k = {.dtype = QC_F32, .data = k, .token_stride = 2 * D, .head_stride = D},
        .v = {.dtype = QC_F32, .data = v, .token_stride = 2 * V, .head_stride = V},
        .out = out,
        .out_token_stride = H * V,
        .out_head_stride = V,
        .queries = queries,
        .past = PAST,
        .keys = keys,
        .query_heads = H,
        .kv_heads = 2,
        .head_size = D,
        .value_size = V,
        .scale = 0.5f,
        .causal = true,
        .window = window,
        .chunk = chunk,
        .softcap = cap,
        .sinks = sinks};

    CHECK_INT(qc_host_attention_run(e, &diag, "attn", &at), QC_OK);
    for (size_t i = 0; i < queries; i++)
        for (size_t h = 0; h < H; h++) {
            size_t here = PAST + i;
            double total = sinks ? exp((double)sinks[h]) : 0.0;
            for (size_t j = 0; j < keys; j++) {
                double s = 0.0;
                for (size_t d = 0; d < D; d++)
                    s += 0.5 * (double)q[(i * H + h) * D + d] * k[(j * 2 + h / 2) * D + d];
                s = cap > 0.0f ? cap * tanh(s / cap) : s;
                bool seen =
                    j <= here && (!window || here - j < window) && (!chunk || j / chunk == here / chunk);
                total += p[j] = seen ? exp(s) : 0.0;
            }
            for (size_t c = 0; c < V; c++) {
                double sum = 0.0;
                for (size_t j = 0; j < keys; j++)
                    sum += p[j] / total * v[(j * 2 + h / 2) * V + c];
                CHECK_NEAR(out[(i * H + h) * V + c], sum, 5e-6);
            }
        }
    qc_host_engine_destroy(e);
    free(q), free(k), free(v), free(out), free(p);
}

static void test_attention_variants(void)
{
    static const float sinks[] = {0.25f, 4.0f, -60.0f, 12.0f};
    static const size_t queries[] = {1, 3, 130}, windows[] = {0, 11}, chunks[] = {0, 1, 16, 100};

    for (size_t n = 0; n < 3; n++)
        for (size_t w = 0; w < 2; w++)
            for (size_t c = 0; c < 4; c++)
                for (int cap = 0; cap < 2; cap++)
                    for (int sink = 0; sink < 2; sink++)
                        check_attention_variant(1 + (int)c, queries[n], windows[w], chunks[c],
                            cap ? 3.0f : 0.0f, sink ? sinks : NULL);
}

int main(void)
{
    qc_arena_init(&arena, NULL);
    qc_diag_init(&diag, &arena, keep_error, NULL);
    RUN(test_linear_against_f64);
    RUN(test_linear_same_bits);
    RUN(test_linear_called_in_parallel);
    RUN(test_isas_agree);
    RUN(test_linear_strides);
    RUN(test_linear_groups);
    RUN(test_linear_groups_that_differ);
    RUN(test_linear_errors);
    RUN(test_linear_torch);
    RUN(test_onednn_kernels);
    RUN(test_attention_torch);
    RUN(test_attention_codes_torch);
    RUN(test_attention_same_bits);
    RUN(test_attention_against_f64);
    RUN(test_attention_variants);
    qc_arena_fini(&arena);
    return check_done();
}
