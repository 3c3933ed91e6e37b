/* SPDX-License-Identifier: MIT
 *
 * test_hadamard.c - Hadamard matrices: every known one is one, those of compressed-tensors bit for bit, products.
 */
#include "ir/dtype/hadamard.h"
#include "tests/unit/check.h"

static qc_arena arena;
static qc_diag diag;
static char last_error[256];

static void on_diag(void *user, qc_severity severity, const char *where, const char *what)
{
    (void)user;
    (void)severity;
    snprintf(last_error, sizeof last_error, "%s: %s", where, what);
}

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* H H^T = n I in integers. */
static bool is_hadamard(const double *matrix, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j <= i; j++) {
            int64_t sum = 0;
            for (int64_t k = 0; k < n; k++)
                sum += (int64_t)(matrix[i * n + k] * matrix[j * n + k]);
            if (sum != (i == j ? n : 0))
                return false;
        }
    for (int64_t i = 0; i < n * n; i++)
        if (matrix[i] != 1 && matrix[i] != -1)
            return false;
    return true;
}

static void check_size(int64_t n, bool random)
{
    qc_hadamard h = {0};
    double *matrix = malloc((size_t)(n * n) * sizeof *matrix);

    CHECK_INT(qc_hadamard_make(&diag, &arena, "test", n, random, &h), QC_OK);
    CHECK_INT(h.known << h.stages, n);
    CHECK_INT(h.size, n);
    qc_hadamard_matrix(&h, matrix);
    if (!is_hadamard(matrix, n))
        CHECK_FAIL("the matrix of size %lld (random: %d) is not a Hadamard matrix", (long long)n, random);
    free(matrix);
}

static void test_every_known_size_is_one(void)
{
    CHECK(!qc_hadamard_size_known(0));
    CHECK(!qc_hadamard_size_known(-4));
    CHECK(!qc_hadamard_size_known(QC_HADAMARD_MAX_SIZE * 2));
    CHECK(qc_hadamard_size_known(QC_HADAMARD_MAX_SIZE));
    int count = 0;
    for (int64_t n = 1; n <= 256; n++) {
        CHECK_INT(qc_hadamard_size_known(n), n <= 2 || n % 4 == 0);
        if (!qc_hadamard_size_known(n))
            continue;
        count++;
        check_size(n, false);
        check_size(n, true);
    }
    CHECK_INT(count, 66);
    CHECK(qc_hadamard_size_known(14336)); /* 224 * 64 */
    CHECK(qc_hadamard_size_known(18944)); /* 148 * 128 */
    CHECK(!qc_hadamard_size_known(260));  /* 65 * 4: 260 is beyond the known ones */
    check_size(576, false);
    check_size(1536, true);
}

static void test_other_sizes_are_errors(void)
{
    qc_hadamard h;
    CHECK_INT(qc_hadamard_make(&diag, &arena, "layer", 6, false, &h), QC_ERROR);
    CHECK_STR(last_error,
        "layer: no Hadamard matrix of size 6 is known: sizes are K * 2^m with K 1 or a multiple "
        "of 4 up to 256");
    CHECK_INT(qc_hadamard_make(&diag, &arena, "layer", 0, true, &h), QC_ERROR);
    CHECK_INT(qc_hadamard_make(&diag, &arena, "layer", QC_HADAMARD_MAX_SIZE + 1, true, &h), QC_ERROR);
    CHECK_INT(qc_hadamard_make_drawn(&diag, &arena, "layer", 4, true, -1, &h), QC_ERROR);
    CHECK_STR(last_error, "layer: -1 signs before those of a matrix are not from 0 to 67108864");
}

/* FNV-1a over the bits (1 for -1, first entry highest) of random_hadamard_matrix(n, generator=torch.Generator()) of
 * compressed-tensors 0.19 under PyTorch 2.10. */
static void test_random_matrices_are_those_of_compressed_tensors(void)
{
    static const struct {
        int64_t size;
        uint64_t hash;
        int64_t drawn;
    } rows[] = {
        {1, 0xaf643d4c8602915fu},
        {2, 0xaf645d4c8602c7bfu},
        {12, 0xb3676b606926c57eu},
        {20, 0xcfcf3e5d39788189u},
        {32, 0x9741563619699c09u},
        {36, 0x0b41b5676621b242u},
        {64, 0x460847cf0bbbe625u},
        {96, 0xf174c393603268d5u},
        {128, 0x688508ef9325b985u},
        {148, 0x6bf86474188061a3u},
        {192, 0xf72d40ba88f0db65u},
        {256, 0xfb019d2b218bcc65u},
        {288, 0xc9920c3acee7833du},
        {384, 0x8ef8f02fe1a6c579u},
        {384, 0x3026921c2900c4a5u, 256}, /* behind a matrix of 256 from the same generator */
        {512, 0x63862d2731f0fa25u},
        {576, 0x2730e48183a66cbdu},
        {640, 0x3e057e2ca8b82e5du},
        {1536, 0x092376b9f4a9d7f9u},
    };
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        int64_t n = rows[r].size;
        double *matrix = malloc((size_t)(n * n) * sizeof *matrix);
        uint64_t hash = 0xcbf29ce484222325u;
        qc_hadamard h;
        qc_hadamard_make_drawn(&diag, &arena, "test", n, true, rows[r].drawn, &h);
        qc_hadamard_matrix(&h, matrix);
        for (int64_t at = 0; at < n * n; at += 8) {
            unsigned byte = 0;
            for (int64_t i = at; i < at + 8; i++)
                byte = byte << 1 | (i < n * n && matrix[i] < 0);
            hash = (hash ^ byte) * 0x100000001b3u;
        }
        if (hash != rows[r].hash)
            CHECK_FAIL("another matrix of size %lld", (long long)n);
        free(matrix);
    }
}

static void test_sylvester(void)
{
    qc_hadamard h;
    double matrix[64];
    qc_hadamard_make(&diag, &arena, "test", 8, false, &h);
    qc_hadamard_matrix(&h, matrix);
    for (unsigned i = 0; i < 64; i++)
        CHECK(matrix[i] == (__builtin_popcount((i / 8) & (i % 8)) & 1 ? -1 : 1));
}

/* As of a dot product, which begins with +0. */
static void test_zeros_are_positive(void)
{
    double v[4] = {-0.0, -0.0, -0.0, -0.0};
    qc_hadamard h;
    qc_hadamard_make(&diag, &arena, "test", 4, false, &h);
    qc_hadamard_apply_f64(&h, false, v);
    for (int i = 0; i < 4; i++)
        CHECK(v[i] == 0 && !signbit(v[i]));
}

/* The steps against the dense product; integers of 8 bits make every f64 sum exact. */
static void check_products(int64_t n, bool random, int64_t lanes)
{
    size_t count = (size_t)(n * lanes);
    double *matrix = malloc((size_t)(n * n) * sizeof *matrix), *v = malloc(count * sizeof *v);
    double *x = malloc(count * sizeof *x);
    float *f = malloc(count * sizeof *f);
    uint32_t state = (uint32_t)n;
    qc_hadamard h;

    qc_hadamard_make(&diag, &arena, "test", n, random, &h);
    qc_hadamard_matrix(&h, matrix);
    for (size_t i = 0; i < count; i++)
        x[i] = (double)(next_random(&state) % 255) - 127;
    for (int inverse = 0; inverse < 2; inverse++) {
        for (size_t i = 0; i < count; i++)
            f[i] = (float)(v[i] = x[i]);
        qc_hadamard_apply_lanes_f64(&h, inverse, v, lanes);
        qc_hadamard_apply_lanes_f32(&h, inverse, f, lanes);
        for (int64_t l = 0; l < lanes; l++)
            for (int64_t j = 0; j < n; j++) {
                double sum = 0, at = v[j * lanes + l];
                for (int64_t i = 0; i < n; i++)
                    sum += x[i * lanes + l] * (inverse ? matrix[j * n + i] : matrix[i * n + j]);
                if (at != sum / sqrt((double)n))
                    CHECK_FAIL("size %lld, element %lld: %g", (long long)n, (long long)j, at);
                /* Sums of such integers are exact in f32 too: one rounding of the factor, one of the product. */
                CHECK_NEAR(f[j * lanes + l], at, fabs(at) * 0x1.8p-23);
            }
    }
    /* And there and back again. */
    qc_hadamard_apply_lanes_f64(&h, false, v, lanes);
    for (size_t i = 0; i < count; i++)
        CHECK_NEAR(v[i], x[i], 1e-10);
    free(matrix);
    free(v);
    free(x);
    free(f);
}

static void test_products(void)
{
    static const int64_t sizes[] = {1, 2, 4, 8, 12, 20, 24, 32, 36, 64, 96, 192, 288, 512, 576};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int random = 0; random < 2; random++) {
            check_products(sizes[i], random, 1);
            check_products(sizes[i], random, 3);
        }
}

/* A vector gets the same bits alone and beside others. */
static void test_lanes_do_not_show(void)
{
    static const int64_t sizes[] = {2, 4, 12, 64, 96};
    enum { LANES = 5 };
    float wide[96 * LANES], alone[96];
    uint32_t state = 7;
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        qc_hadamard h;
        int64_t n = sizes[s];
        qc_hadamard_make(&diag, &arena, "test", n, true, &h);
        for (int64_t i = 0; i < n * LANES; i++)
            wide[i] = (float)next_random(&state) / 3e5f;
        for (int64_t i = 0; i < n; i++)
            alone[i] = wide[i * LANES + 2];
        qc_hadamard_apply_f32(&h, false, alone);
        qc_hadamard_apply_lanes_f32(&h, false, wide, LANES);
        for (int64_t i = 0; i < n; i++)
            CHECK(alone[i] == wide[i * LANES + 2]);
    }
}

int main(void)
{
    qc_arena_init(&arena, NULL);
    qc_diag_init(&diag, &arena, on_diag, NULL);
    RUN(test_every_known_size_is_one);
    RUN(test_other_sizes_are_errors);
    RUN(test_random_matrices_are_those_of_compressed_tensors);
    RUN(test_sylvester);
    RUN(test_zeros_are_positive);
    RUN(test_products);
    RUN(test_lanes_do_not_show);
    qc_arena_fini(&arena);
    return check_done();
}
