/* SPDX-License-Identifier: MIT
 *
 * test_host_rows.c - the CPU kernels that work on rows: norms, RoPE, elementwise, Hadamard, softmax,
 * statistics, evaluation. Against PyTorch (host_goldens.h), against f64, and bit against bit over threads and
 * instruction sets.
 */
#include "backends/host/host.h"
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

enum { SETS = 3 };
static const char *const isas[SETS] = {"generic", "avx2", "avx512"};

/* NULL where this processor lacks the set. */
static qc_host_engine *engine_of(size_t isa)
{
    return qc_host_engine_create(&diag, &(qc_host_options){.thread_count = (int)isa + 1, .isa = isas[isa]});
}

/* Runs `body` with `e` once an instruction set (and thread count). */
#define FOR_EACH_ENGINE(e)                                                                                   \
    for (size_t set = 0; set < SETS; set++)                                                                  \
        for (qc_host_engine *e = engine_of(set); e; qc_host_engine_destroy(e), e = NULL)

static void test_rmsnorm_torch(void)
{
    uint16_t *x = random_values(7, 6 * 72, QC_BF16, 2.0), *w = random_values(8, 72, QC_BF16, 2.0), y[6 * 72];

    FOR_EACH_ENGINE(e)
    {
        qc_host_norm n = {.dtype = QC_BF16,
            .x = x,
            .y = y,
            .tokens = 6,
            .heads = 1,
            .token_stride = 72,
            .size = 72,
            .weight_dtype = QC_BF16,
            .weight = w,
            .eps = 1e-5f};
        qc_host_rmsnorm(e, &n);
        CHECK(memcmp(y, golden_rmsnorm_bf16, sizeof y) == 0);
        n.style = QC_HOST_NORM_SCALE_THEN_ROUND;
        n.weight_offset = 1.0f;
        n.eps = 1e-6f;
        qc_host_rmsnorm(e, &n);
        CHECK(memcmp(y, golden_rmsnorm_offset_bf16, sizeof y) == 0);
    }
    free(x), free(w);
}

/* A long row (several pieces), per-head rows in place, no weight. */
static void test_rmsnorm_against_f64(void)
{
    enum { TOKENS = 3, HEADS = 2, SIZE = 2500, STRIDE = 2600 };
    float *x = random_values(20, TOKENS * HEADS * STRIDE, QC_F32, 3.0), *first = NULL;
    size_t bytes = TOKENS * HEADS * STRIDE * sizeof *x;

    FOR_EACH_ENGINE(e)
    {
        float *y = malloc(bytes);
        memcpy(y, x, bytes);
        qc_host_rmsnorm(e, &(qc_host_norm){.dtype = QC_F32,
                               .x = y,
                               .y = y,
                               .tokens = TOKENS,
                               .heads = HEADS,
                               .token_stride = HEADS * STRIDE,
                               .head_stride = STRIDE,
                               .size = SIZE,
                               .eps = 1e-6f});
        for (size_t r = 0; r < TOKENS * HEADS; r++) {
            double sum = 0.0;
            for (size_t c = 0; c < SIZE; c++)
                sum += (double)x[r * STRIDE + c] * x[r * STRIDE + c];
            for (size_t c = 0; c < STRIDE; c++)
                CHECK_NEAR(y[r * STRIDE + c],
                    c < SIZE ? x[r * STRIDE + c] / sqrt(sum / SIZE + 1e-6) : x[r * STRIDE + c], 2e-6);
        }
        if (first) {
            CHECK(memcmp(y, first, bytes) == 0);
            free(y);
        } else {
            first = y;
        }
    }
    free(x), free(first);
}

static void test_rope_torch(void)
{
    uint16_t *x = random_values(9, 5 * 3 * 20, QC_BF16, 2.0), y[5 * 3 * 20];

    FOR_EACH_ENGINE(e)
    {
        qc_host_rope r = {.dtype = QC_BF16,
            .x = x,
            .y = y,
            .tokens = 5,
            .heads = 3,
            .head_size = 20,
            .token_stride = 60,
            .head_stride = 20,
            .rotary_size = 16,
            .cos = golden_rope_cos_bf16,
            .sin = golden_rope_sin_bf16,
            .table_dtype = QC_BF16,
            .table_stride = 16};
        qc_host_rope_apply(e, &r);
        CHECK(memcmp(y, golden_rope_bf16, sizeof y) == 0);
        memcpy(y, x, sizeof y);
        r.x = y;
        qc_host_rope_apply(e, &r);
        CHECK(memcmp(y, golden_rope_bf16, sizeof y) == 0);
    }
    free(x);
}

/* Pairs style: the same rotation as halves of the de-interleaved head; an offset leaves the front alone. */
static void test_rope_pairs(void)
{
    enum { T = 3, D = 10, R = 6, OFFSET = 2 };
    float *x = random_values(21, T * D, QC_F32, 2.0), *c = random_values(22, T * R / 2, QC_F32, 1.0);
    float *s = random_values(23, T * R / 2, QC_F32, 1.0), y[T * D];

    FOR_EACH_ENGINE(e)
    {
        qc_host_rope_apply(e, &(qc_host_rope){.dtype = QC_F32,
                                  .x = x,
                                  .y = y,
                                  .tokens = T,
                                  .heads = 1,
                                  .head_size = D,
                                  .token_stride = D,
                                  .rotary_offset = OFFSET,
                                  .rotary_size = R,
                                  .cos = c,
                                  .sin = s,
                                  .table_dtype = QC_F32,
                                  .table_stride = R / 2,
                                  .style = QC_HOST_ROPE_PAIRS,
                                  .round_once = true});
        for (size_t t = 0; t < T; t++)
            for (size_t d = 0; d < D; d++) {
                const float *row = x + t * D;
                float expected = row[d];
                if (d >= OFFSET && d < OFFSET + R) {
                    size_t p = (d - OFFSET) / 2;
                    float a = row[OFFSET + 2 * p], b = row[OFFSET + 2 * p + 1], cc = c[t * R / 2 + p],
                          ss = s[t * R / 2 + p];
                    expected = (d - OFFSET) % 2 ? b * cc + a * ss : a * cc - b * ss;
                }
                CHECK(y[t * D + d] == expected);
            }
    }
    free(x), free(c), free(s);
}

static void test_embed(void)
{
    static const int64_t ids[] = {3, 0, 3, 4};
    uint16_t *table = random_values(24, 5 * 7, QC_BF16, 1.0), y[4 * 7];

    FOR_EACH_ENGINE(e)
    {
        CHECK_INT(qc_host_embed(e, &diag, "embed_tokens", QC_BF16, table, 5, 7, ids, 4, 1.0f, y), QC_OK);
        for (size_t t = 0; t < 4; t++)
            CHECK(memcmp(y + t * 7, table + ids[t] * 7, 14) == 0);
        CHECK_INT(qc_host_embed(e, &diag, "embed_tokens", QC_BF16, table, 5, 7, ids, 4, 1.5f, y), QC_OK);
        CHECK_INT(y[7 + 2], qc_bf16_from_f32(qc_bf16_to_f32(table[2]) * 1.5f));
        CHECK_INT(qc_host_embed(e, &diag, "embed_tokens", QC_BF16, table, 4, 7, ids, 4, 1.0f, y), QC_ERROR);
        CHECK_STR(last_error, "embed_tokens: token id 4 is outside the table of 4 rows");
        CHECK_INT(qc_host_embed(e, &diag, "embed_tokens", QC_BF16, table, 5, 7, (int64_t[]){-1}, 1, 1.0f, y),
            QC_ERROR);
    }
    free(table);
}

/* exp and tanh over the whole range against libm in f64. */
static void test_exp_tanh(void)
{
    FOR_EACH_ENGINE(e)
    {
        enum { N = 4096 };
        float x[N], ex[N], th[N];
        double worst_exp = 0.0, worst_tanh = 0.0;
        for (uint32_t start = 0; start < 4096; start += 1) {
            if (start % 31)
                continue;
            for (uint32_t i = 0; i < N; i++)
                x[i] = qc_f32_from_bits((start * N + i) * 251u);
            qc_host_unary(e, QC_HOST_EXP, QC_F32, x, ex, N);
            qc_host_unary(e, QC_HOST_TANH, QC_F32, x, th, N);
            for (uint32_t i = 0; i < N; i++) {
                double want = exp((double)x[i]), t = tanh((double)x[i]);
                if (isnan(x[i])) {
                    CHECK(isnan(ex[i]) && isnan(th[i]));
                } else if (want < 0x1p-126) {
                    CHECK(ex[i] >= 0.0f && ex[i] <= 0x1p-126f);
                } else if (want > 0x1.fffffep127) {
                    CHECK(isinf(ex[i]));
                } else {
                    worst_exp = fmax(worst_exp, fabs(ex[i] - want) / (want * 0x1p-23));
                }
                if (!isnan(x[i]) && fabs(t) > 0x1p-100)
                    worst_tanh = fmax(worst_tanh, fabs(th[i] - t) / (fabs(t) * 0x1p-23));
            }
        }
        CHECK_NEAR(worst_exp, 0.0, 1.0);
        CHECK_NEAR(worst_tanh, 0.0, 2.0);
        float edges[] = {0.0f, -0.0f, INFINITY, -INFINITY}, out[4];
        qc_host_unary(e, QC_HOST_EXP, QC_F32, edges, out, 4);
        CHECK(out[0] == 1.0f && out[1] == 1.0f && isinf(out[2]) && out[3] == 0.0f);
        qc_host_unary(e, QC_HOST_TANH, QC_F32, edges, out, 4);
        CHECK(out[0] == 0.0f && out[2] == 1.0f && out[3] == -1.0f);
    }
}

static void test_elementwise_torch(void)
{
    uint16_t *gate = random_values(10, 160, QC_BF16, 8.0), *up = random_values(11, 160, QC_BF16, 2.0), y[160],
             silu[160];
    float *x = random_values(12, 64, QC_F32, 6.0), g[64];
    const float *golden = (const float *)(const void *)golden_gelu_f32;

    FOR_EACH_ENGINE(e)
    {
        qc_host_silu_mul(e, QC_BF16, gate, 40, up, 40, y, 40, 4, 40);
        CHECK(memcmp(y, golden_silu_mul_bf16, sizeof y) == 0);
        qc_host_unary(e, QC_HOST_SILU, QC_BF16, gate, silu, 160);
        qc_host_binary(e, &(qc_host_pairing){.op = QC_HOST_MUL,
                              .a_dtype = QC_BF16,
                              .b_dtype = QC_BF16,
                              .y_dtype = QC_BF16,
                              .a = silu,
                              .b = up,
                              .y = silu,
                              .rows = 4,
                              .columns = 40,
                              .b_row_stride = 40,
                              .b_column_stride = 1});
        CHECK(memcmp(silu, golden_silu_mul_bf16, sizeof y) == 0);
        qc_host_unary(e, QC_HOST_GELU_TANH, QC_F32, x, g, 64);
        for (size_t i = 0; i < 64; i++)
            CHECK_NEAR(g[i], golden[i], 1e-6);
    }
    free(gate), free(up), free(x);
}

static void test_binary_broadcast(void)
{
    enum { ROWS = 20, COLUMNS = 1100 };
    float *a = random_values(25, ROWS * COLUMNS, QC_F32, 2.0),
          *b = random_values(26, ROWS * COLUMNS, QC_F32, 2.0);
    static const size_t strides[][2] = {{COLUMNS, 1}, {0, 1}, {1, 0}, {0, 0}};
    float *y = malloc(ROWS * COLUMNS * sizeof *y);

    FOR_EACH_ENGINE(e)
    for (size_t s = 0; s < 4; s++)
        for (int op = QC_HOST_ADD; op <= QC_HOST_DIV; op++) {
            int wrong = 0;
            qc_host_binary(e, &(qc_host_pairing){.op = (qc_host_binary_op)op,
                                  .a_dtype = QC_F32,
                                  .b_dtype = QC_F32,
                                  .y_dtype = QC_F32,
                                  .a = a,
                                  .b = b,
                                  .y = y,
                                  .rows = ROWS,
                                  .columns = COLUMNS,
                                  .b_row_stride = strides[s][0],
                                  .b_column_stride = strides[s][1]});
            for (size_t r = 0; r < ROWS; r++)
                for (size_t c = 0; c < COLUMNS; c++) {
                    float u = a[r * COLUMNS + c], v = b[r * strides[s][0] + c * strides[s][1]];
                    float want = op == QC_HOST_ADD   ? u + v
                                 : op == QC_HOST_SUB ? u - v
                                 : op == QC_HOST_MUL ? u * v
                                                     : u / v;
                    wrong += y[r * COLUMNS + c] != want;
                }
            CHECK_INT(wrong, 0);
        }
    free(a), free(b), free(y);
}

/* Types that differ: computed in f32, rounded once to the type of y. */
static void test_binary_types(void)
{
    const uint16_t a[] = {0x3f80, 0x4049, 0xc2c8}; /* 1, 3.140625, -100 in bf16 */
    const float b = 1.001f, a32[] = {1.0f, 3.140625f, -100.0f};

    FOR_EACH_ENGINE(e)
    {
        uint16_t y[3], want[3];
        float wide[3];
        qc_host_pairing p = {.op = QC_HOST_MUL,
            .a_dtype = QC_BF16,
            .b_dtype = QC_F32,
            .y_dtype = QC_BF16,
            .a = a,
            .b = &b,
            .y = y,
            .rows = 1,
            .columns = 3};
        qc_host_binary(e, &p);
        for (size_t i = 0; i < 3; i++) {
            float product = a32[i] * b;
            qc_encode_f32(QC_BF16, &product, &want[i], 1);
        }
        CHECK(memcmp(y, want, sizeof y) == 0);
        p.y_dtype = QC_F32;
        p.y = wide;
        qc_host_binary(e, &p);
        for (size_t i = 0; i < 3; i++)
            CHECK(wide[i] == a32[i] * b);
    }
}

static void test_floor(void)
{
    const float x[] = {1.5f, -1.5f, 3.0f, -0.25f, 0.999f, 1e10f};
    FOR_EACH_ENGINE(e)
    {
        float y[6];
        qc_host_unary(e, QC_HOST_FLOOR, QC_F32, x, y, 6);
        CHECK(memcmp(y, (float[]){1.0f, -2.0f, 3.0f, -1.0f, 0.0f, 1e10f}, sizeof y) == 0);
    }
}

/* Every kind of matrix in every type: the bits of the plan's own functions, and nothing else behind the rows. */
static void check_rotation(qc_host_rotation r, size_t rows)
{
    size_t size = (size_t)r.matrix->size, count = rows * size, bytes = dtype_bytes(r.dtype);
    char *x = random_values(27, count, r.dtype, 2.0), *y = malloc(count * bytes + 1);
    float *v = as_f32(r.dtype, x, count);
    double *wide = malloc(size * sizeof *wide);
    char *expected = malloc(count * bytes);

    for (size_t i = 0; i < count; i += size) {
        for (size_t k = 0; k < size; k++)
            wide[k] = (double)v[i + k];
        if (r.wide)
            qc_hadamard_apply_f64(r.matrix, r.inverse, wide);
        else
            qc_hadamard_apply_f32(r.matrix, r.inverse, v + i);
        for (size_t k = 0; r.wide && k < size; k++)
            v[i + k] = (float)wide[k];
    }
    qc_encode_f32(r.dtype, v, expected, count);
    FOR_EACH_ENGINE(e)
    {
        memset(y, 0x55, count * bytes + 1);
        CHECK_INT(qc_host_hadamard(e, &diag, "R3", &r, x, y, count), QC_OK);
        CHECK(memcmp(y, expected, count * bytes) == 0 && y[count * bytes] == 0x55);
        memcpy(y, x, count * bytes);
        CHECK_INT(qc_host_hadamard(e, &diag, "R3", &r, y, y, count), QC_OK);
        CHECK(memcmp(y, expected, count * bytes) == 0);
        CHECK_INT(qc_host_hadamard(e, &diag, "R3", &r, x, y, 0), QC_OK);
        CHECK(size == 1 || qc_host_hadamard(e, &diag, "R3", &r, x, y, count - 1) == QC_ERROR);
    }
    free(x), free(y), free(v), free(wide), free(expected);
}

static void test_hadamard(void)
{
    static const int sizes[] = {1, 2, 4, 8, 16, 32, 64, 128, 256, 1024, 12, 20, 28, 36, 40, 96, 576, 1536};
    static const qc_dtype types[] = {QC_BF16, QC_F16, QC_F32};

    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (int random = 0; random < 2; random++) {
            qc_hadamard h;
            CHECK_INT(qc_hadamard_make(&diag, &arena, "R3", sizes[s], random, &h), QC_OK);
            for (int kind = 0; kind < 4; kind++)
                for (int t = 0; t < 3; t++)
                    check_rotation(
                        (qc_host_rotation){
                            .matrix = &h, .inverse = kind & 1, .wide = kind & 2, .dtype = types[t]},
                        sizes[s] < 100 ? 1 + 5000 / (size_t)sizes[s] : 7);
        }
}

/* NaN and infinities stay what they are, in the row that has them. */
static void test_hadamard_not_finite(void)
{
    enum { SIZE = 64 };
    uint16_t x[3 * SIZE] = {0}, y[3 * SIZE];
    qc_hadamard h;

    CHECK_INT(qc_hadamard_make(&diag, &arena, "R3", SIZE, false, &h), QC_OK);
    x[SIZE + 5] = 0x7fff;
    FOR_EACH_ENGINE(e)
    {
        const qc_host_rotation r = {.matrix = &h, .dtype = QC_BF16};
        CHECK_INT(qc_host_hadamard(e, &diag, "R3", &r, x, y, 3 * SIZE), QC_OK);
        for (size_t i = 0; i < 3 * SIZE; i++)
            CHECK_INT((y[i] & 0x7fff) > 0x7f80, i / SIZE == 1);
    }
}

static void test_softmax_torch(void)
{
    float *x = random_values(13, 100, QC_F32, 10.0), y[100];
    const float *golden = (const float *)(const void *)golden_softmax_f32;
    const float *logs = (const float *)(const void *)golden_log_softmax_f32;

    FOR_EACH_ENGINE(e)
    {
        qc_host_softmax(e, QC_F32, x, y, 2, 50);
        for (size_t i = 0; i < 100; i++) {
            CHECK_NEAR(y[i], golden[i], 4e-7 * golden[i]);
            CHECK_NEAR(qc_host_log_prob(e, x + i / 50 * 50, 50, i % 50), logs[i], 2e-6);
        }
    }
    free(x);
}

static void test_convert(void)
{
    enum { N = 3001 };
    float *x = random_values(28, N, QC_F32, 500.0);
    static const qc_dtype types[] = {QC_BF16, QC_F16, QC_F8E4M3, QC_F8E5M2, QC_I8, QC_F4E2M1};

    FOR_EACH_ENGINE(e)
    for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
        uint8_t a[2 * N], b[2 * N];
        float fa[N], fb[N];
        size_t bytes = (N * (size_t)qc_dtype_bits(types[t]) + 7) / 8;
        qc_host_convert(e, QC_F32, x, types[t], a, N);
        qc_convert(QC_F32, x, types[t], b, N);
        CHECK(memcmp(a, b, bytes) == 0);
        qc_host_convert(e, types[t], a, QC_F32, fa, N);
        qc_decode_f32(types[t], b, fb, N);
        CHECK(memcmp(fa, fb, sizeof fa) == 0);
    }
    free(x);
}

static void test_minmax(void)
{
    enum { T = 700, H = 3, D = 24, STRIDE = 30, ROW = H * STRIDE };
    static const qc_dtype types[] = {QC_BF16, QC_F16, QC_F32};

    for (size_t t = 0; t < 3; t++) {
        qc_dtype type = types[t];
        char *x = random_values(29, T * ROW, type, 100.0);
        float *f = as_f32(type, x, T * ROW), min[ROW], max[ROW];
        FOR_EACH_ENGINE(e)
        {
            CHECK(qc_host_minmax_heads(e, type, x, T, H, D, ROW, STRIDE, min, max));
            for (size_t h = 0; h < H; h++) {
                float low = INFINITY, high = -INFINITY;
                for (size_t i = 0; i < T * D; i++) {
                    float v = f[i / D * ROW + h * STRIDE + i % D];
                    low = v < low ? v : low;
                    high = v > high ? v : high;
                }
                CHECK(min[h] == low && max[h] == high);
            }
            CHECK(qc_host_minmax_columns(e, type, x, T, ROW, ROW, min, max));
            for (size_t c = 0; c < ROW; c++) {
                float low = INFINITY, high = -INFINITY;
                for (size_t r = 0; r < T; r++) {
                    low = f[r * ROW + c] < low ? f[r * ROW + c] : low;
                    high = f[r * ROW + c] > high ? f[r * ROW + c] : high;
                }
                CHECK(min[c] == low && max[c] == high);
            }
            CHECK(!qc_host_minmax_heads(e, type, x, 0, H, D, ROW, STRIDE, min, max));
        }
        free(x), free(f);
    }
}

static void test_minmax_not_finite(void)
{
    static const float bad[] = {INFINITY, -INFINITY, NAN, -NAN};
    static const qc_dtype types[] = {QC_BF16, QC_F16, QC_F32};

    FOR_EACH_ENGINE(e)
    for (size_t t = 0; t < 3; t++)
        for (size_t b = 0; b < 4; b++) {
            float x[40] = {0}, min[40], max[40];
            uint32_t packed[40];
            x[23] = bad[b];
            qc_encode_f32(types[t], x, packed, 40);
            CHECK(!qc_host_minmax_heads(e, types[t], packed, 1, 1, 40, 40, 40, min, max));
            CHECK(!qc_host_minmax_columns(e, types[t], packed, 2, 20, 20, min, max));
            x[23] = -0.0f;
            qc_encode_f32(types[t], x, packed, 40);
            CHECK(qc_host_minmax_heads(e, types[t], packed, 1, 1, 40, 40, 40, min, max));
            CHECK(signbit(min[0]) && !signbit(max[0]) && min[0] == 0.0f);
        }
}

static void test_sum_squares(void)
{
    enum { T = 130, COLUMNS = 600 };
    static const qc_dtype types[] = {QC_BF16, QC_F16, QC_F32};

    for (size_t t = 0; t < 3; t++) {
        char *x = random_values(41, T * COLUMNS, types[t], 3.0);
        float *f = as_f32(types[t], x, T * COLUMNS), sums[COLUMNS];
        FOR_EACH_ENGINE(e)
        {
            CHECK(qc_host_sum_squares(e, types[t], x, T, COLUMNS, sums));
            for (size_t c = 0; c < COLUMNS; c++) {
                double sum = 0;
                for (size_t r = 0; r < T; r++)
                    sum += (double)f[r * COLUMNS + c] * (double)f[r * COLUMNS + c];
                float rounded = (float)sum;
                CHECK(sums[c] == rounded);
            }
            f[5 * COLUMNS + 7] = NAN;
            CHECK(qc_host_sum_squares(e, types[t], x, T, COLUMNS, sums));
            qc_encode_f32(
                types[t], f + 5 * COLUMNS, x + 5 * COLUMNS * (size_t)qc_dtype_bits(types[t]) / 8, 8);
            CHECK(!qc_host_sum_squares(e, types[t], x, T, COLUMNS, sums));
            f[5 * COLUMNS + 7] = 1.0f;
            qc_encode_f32(
                types[t], f + 5 * COLUMNS, x + 5 * COLUMNS * (size_t)qc_dtype_bits(types[t]) / 8, 8);
        }
        free(x);
        free(f);
    }
}

static void test_evaluation(void)
{
    enum { N = 5000 };
    float *p = random_values(30, N, QC_F32, 12.0), *q = random_values(31, N, QC_F32, 0.01);
    double p_sum = 0.0, q_sum = 0.0, kl = 0.0;

    for (size_t i = 0; i < N; i++)
        q[i] += p[i];
    for (size_t i = 0; i < N; i++) {
        p_sum += exp(p[i]);
        q_sum += exp(q[i]);
    }
    for (size_t i = 0; i < N; i++)
        kl += exp(p[i]) / p_sum * ((p[i] - log(p_sum)) - (q[i] - log(q_sum)));
    FOR_EACH_ENGINE(e)
    {
        CHECK_NEAR(qc_host_logsumexp(e, p, N), log(p_sum), 1e-7);
        CHECK_NEAR(qc_host_log_prob(e, p, N, 17), p[17] - log(p_sum), 1e-7);
        CHECK_NEAR(qc_host_kl(e, p, q, N), kl, 1e-8);
        CHECK_NEAR(qc_host_kl(e, p, p, N), 0.0, 1e-12);
    }
    p[4321] = p[1234] = 50.0f;
    CHECK_INT(qc_host_argmax(p, N), 1234);
    p[1000] = NAN;
    CHECK_INT(qc_host_argmax(p, N), 1234);
    free(p), free(q);
}

int main(void)
{
    qc_arena_init(&arena, NULL);
    qc_diag_init(&diag, &arena, keep_error, NULL);
    RUN(test_rmsnorm_torch);
    RUN(test_rmsnorm_against_f64);
    RUN(test_rope_torch);
    RUN(test_rope_pairs);
    RUN(test_embed);
    RUN(test_exp_tanh);
    RUN(test_elementwise_torch);
    RUN(test_binary_broadcast);
    RUN(test_binary_types);
    RUN(test_floor);
    RUN(test_hadamard);
    RUN(test_hadamard_not_finite);
    RUN(test_softmax_torch);
    RUN(test_convert);
    RUN(test_minmax);
    RUN(test_minmax_not_finite);
    RUN(test_sum_squares);
    RUN(test_evaluation);
    qc_arena_fini(&arena);
    return check_done();
}
