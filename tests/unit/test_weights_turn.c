/* SPDX-License-Identifier: MIT
 *
 * test_weights_turn.c - rotated weights row by row and whole, against products worked out here; the memory that is
 * said for them.
 */
#include "tests/unit/check.h"
#include "tests/unit/messages.h"
#include "tests/unit/shard.h"

#include <unistd.h>

#include "ir/dtype/codec.h"
#include "ir/dtype/hadamard.h"
#include "ir/support/io.h"
#include "runtime/weights.h"

/* `big` is larger than what is turned in chunks. */
enum { ROWS = 48, COLUMNS = 40, BIG_ROWS = 768, BIG_COLUMNS = 720 };

typedef struct fixture {
    qc_arena arena;
    qc_diag diag;
    messages m;
    qc_ctx *ctx;
    qc_module *module;
    qc_weights *weights;
    char directory[40];
    uint16_t w[ROWS * COLUMNS], big[BIG_ROWS * BIG_COLUMNS], norm[COLUMNS], bias[ROWS];
} fixture;

static void fill_random(uint16_t *out, size_t count, uint32_t state)
{
    for (size_t i = 0; i < count; i++) {
        state = state * 1664525u + 1013904223u;
        out[i] = qc_bf16_from_f32(((float)(state >> 8) / 8388608.0f - 1.0f) * (state >> 30 ? 1.0f : 9.0f));
    }
}

static fixture *begin(void)
{
    static const int64_t w_shape[] = {ROWS, COLUMNS}, big_shape[] = {BIG_ROWS, BIG_COLUMNS},
                         norm_shape[] = {COLUMNS}, bias_shape[] = {ROWS};
    fixture *f = calloc(1, sizeof *f);
    if (!f)
        return NULL;
    snprintf(f->directory, sizeof f->directory, "qc-test-weights-turn-XXXXXX");
    if (!mkdtemp(f->directory)) {
        free(f);
        return NULL;
    }
    qc_arena_init(&f->arena, NULL);
    qc_diag_init(&f->diag, &f->arena, keep_message, &f->m);
    f->ctx = qc_ctx_create(NULL, keep_message, &f->m);
    fill_random(f->w, ROWS * COLUMNS, 1);
    fill_random(f->big, BIG_ROWS * BIG_COLUMNS, 2);
    fill_random(f->norm, COLUMNS, 3);
    fill_random(f->bias, ROWS, 4);
    qc_st_out outs[] = {
        {.name = "bias", .dtype = "BF16", .rank = 1, .shape = bias_shape, .user = f->bias},
        {.name = "big", .dtype = "BF16", .rank = 2, .shape = big_shape, .user = f->big},
        {.name = "norm", .dtype = "BF16", .rank = 1, .shape = norm_shape, .user = f->norm},
        {.name = "w", .dtype = "BF16", .rank = 2, .shape = w_shape, .user = f->w},
    };
    CHECK(write_shard(&f->diag, &f->arena, f->directory, outs, 4));
    return f;
}

static void end(fixture *f)
{
    qc_weights_close(f->weights);
    if (f->module)
        qc_module_destroy(f->module);
    qc_ctx_destroy(f->ctx);
    CHECK_INT(qc_remove_tree(&f->diag, f->directory), QC_OK);
    qc_arena_fini(&f->arena);
    free(f);
}

#define BEGIN()                                                                                              \
    fixture *f = begin();                                                                                    \
    if (!f)                                                                                                  \
    SKIP("no directory can be made here")

/* The value that a function with this body returns, of type `type`. */
static const qc_value *parse(fixture *f, const char *type, const char *body)
{
    const char *text = qc_arena_printf(
        &f->arena, "qc 1\nmodule \"\" Root\nfunc @main() -> %s {\n%s  return %%y\n}\n", type, body);
    if (f->module)
        qc_module_destroy(f->module);
    qc_weights_close(f->weights);
    f->weights = NULL;
    f->module = qc_module_parse(f->ctx, "test.qc", text, strlen(text));
    CHECK(f->module != NULL);
    if (!f->module) {
        printf("# %s\n", f->m.last);
        return NULL;
    }
    f->weights = qc_weights_open(f->ctx, f->module, f->directory);
    CHECK(f->weights != NULL);
    return qc_func_result(qc_module_first_func(f->module), 0);
}

static uint16_t round_twice(double x)
{
    return qc_bf16_from_f32((float)x);
}

/* v M of every vector along an axis, in bf16. */
static void turn(
    fixture *f, uint16_t *w, int rows, int columns, int64_t size, bool random, bool inverse, bool along_rows)
{
    qc_hadamard h;
    double v[BIG_ROWS];
    CHECK_INT(qc_hadamard_make(&f->diag, &f->arena, "test", size, random, &h), QC_OK);
    int vectors = along_rows ? columns : rows, length = along_rows ? rows : columns;
    int step = along_rows ? columns : 1;
    for (int n = 0; n < vectors; n++)
        for (int block = 0; block < length; block += (int)size) {
            uint16_t *at = w + (along_rows ? n : n * columns) + block * step;
            for (int i = 0; i < size; i++)
                v[i] = (double)qc_bf16_to_f32(at[i * step]);
            qc_hadamard_apply_f64(&h, inverse, v);
            for (int i = 0; i < size; i++)
                at[i * step] = round_twice(v[i]);
        }
}

/* All rows at once, by three threads, and some of them, cut anywhere. */
static void check_rows(fixture *f, const qc_value *y, const uint16_t *expected, int rows, int columns)
{
    static const int cuts[][2] = {{0, 1}, {5, 3}, {7, 26}, {40, 8}};
    size_t count = (size_t)rows * (size_t)columns;
    uint16_t *got = malloc(count * sizeof *got);
    for (int threads = 1; threads <= 3; threads += 2) {
        qc_weights_set_threads(f->weights, threads);
        memset(got, 0xff, count * sizeof *got);
        CHECK_INT(qc_weights_evaluate(f->weights, y, got), QC_OK);
        CHECK(memcmp(got, expected, count * sizeof *got) == 0);
    }
    qc_weight_stream *s = qc_weight_stream_open(f->weights, y);
    CHECK(s != NULL);
    for (size_t i = 0; s && i < sizeof cuts / sizeof *cuts; i++) {
        size_t part = (size_t)(cuts[i][1] * columns);
        CHECK_INT(qc_weight_stream_read(s, cuts[i][0], cuts[i][1], got), QC_OK);
        CHECK(memcmp(got, expected + cuts[i][0] * columns, part * sizeof *got) == 0);
    }
    if (s) {
        qc_weight_needs needs = qc_weights_needs(f->weights, y, 1);
        CHECK(qc_weight_stream_bytes(s) <= needs.whole_bytes);
        CHECK(needs.chunk_bytes > 0);
    }
    qc_weight_stream_close(s);
    free(got);
}

static void test_rows_and_columns(void)
{
    BEGIN();
    const qc_value *y = parse(f, "bf16[48, 40]",
        "  %w = weight \"w\" : bf16[48, 40]\n"
        "  %a = hadamard %w {compute = f64, matrix = random_hadamard, size = 20} : bf16[48, 40]\n"
        "  %b = hadamard %a {axis = 0, compute = f64, size = 16} : bf16[48, 40]\n"
        "  %y = hadamard %b {axis = 0, compute = f64, inverse, matrix = random_hadamard, size = 24} : "
        "bf16[48, 40]\n");
    if (y) {
        turn(f, f->w, ROWS, COLUMNS, 20, true, false, false);
        turn(f, f->w, ROWS, COLUMNS, 16, false, false, true);
        turn(f, f->w, ROWS, COLUMNS, 24, true, true, true);
        check_rows(f, y, f->w, ROWS, COLUMNS);
        CHECK_INT(qc_weights_needs(f->weights, y, 1).whole_bytes, 0);
    }
    end(f);
}

static void test_norm_and_center(void)
{
    BEGIN();
    const qc_value *y = parse(f, "bf16[48, 40]",
        "  %w = weight \"w\" : bf16[48, 40]\n  %n = weight \"norm\" : bf16[40]\n"
        "  %m = mul %w, %n : bf16[48, 40]\n  %c = center %m : bf16[48, 40]\n"
        "  %y = hadamard %c {compute = f64, size = 8} : bf16[48, 40]\n");
    if (y) {
        for (int r = 0; r < ROWS; r++) {
            uint16_t *row = f->w + r * COLUMNS;
            double sum = 0;
            for (int i = 0; i < COLUMNS; i++) {
                row[i] = qc_bf16_from_f32(qc_bf16_to_f32(row[i]) * qc_bf16_to_f32(f->norm[i]));
                sum += (double)qc_bf16_to_f32(row[i]);
            }
            for (int i = 0; i < COLUMNS; i++)
                row[i] = round_twice((double)qc_bf16_to_f32(row[i]) - sum / COLUMNS);
        }
        turn(f, f->w, ROWS, COLUMNS, 8, false, false, false);
        check_rows(f, y, f->w, ROWS, COLUMNS);
        CHECK_INT(qc_weights_needs(f->weights, y, 1).whole_bytes, 2 * COLUMNS);
    }
    end(f);
}

/* All rows of a large weight under one matrix: one buffer of its size, and that is what is said. */
static void test_whole(void)
{
    BEGIN();
    const qc_value *y = parse(f, "bf16[768, 720]",
        "  %w = weight \"big\" : bf16[768, 720]\n"
        "  %a = hadamard %w {axis = 0, compute = f64, matrix = random_hadamard, size = 768} : bf16[768, "
        "720]\n"
        "  %y = hadamard %a {compute = f64, size = 720} : bf16[768, 720]\n");
    if (y) {
        turn(f, f->big, BIG_ROWS, BIG_COLUMNS, 768, true, false, true);
        turn(f, f->big, BIG_ROWS, BIG_COLUMNS, 720, false, false, false);
        check_rows(f, y, f->big, BIG_ROWS, BIG_COLUMNS);
        CHECK_INT(qc_weights_needs(f->weights, y, 1).whole_bytes, 2 * BIG_ROWS * BIG_COLUMNS);
    }
    end(f);
}

static void test_vectors(void)
{
    BEGIN();
    const qc_value *y = parse(f, "bf16[48]",
        "  %b = weight \"bias\" : bf16[48]\n"
        "  %y = hadamard %b {compute = f64, matrix = random_hadamard, size = 24} : bf16[48]\n");
    uint16_t got[ROWS];
    if (y) {
        turn(f, f->bias, 1, ROWS, 24, true, false, false);
        CHECK_INT(qc_weights_evaluate(f->weights, y, got), QC_OK);
        CHECK(memcmp(got, f->bias, sizeof got) == 0);
    }
    y = parse(f, "bf16[48]", "  %y = fill {value = 1.0} : bf16[48]\n");
    if (y) {
        CHECK_INT(qc_weights_evaluate(f->weights, y, got), QC_OK);
        for (int i = 0; i < ROWS; i++)
            CHECK_INT(got[i], 0x3f80);
    }
    end(f);
}

/* 3e38 in every column: the sum of two is beyond the type. */
static void test_overflow(void)
{
    BEGIN();
    const qc_value *y = parse(f, "bf16[2, 2]",
        "  %w = const [3e38, 3e38, 3e38, 3e38] : bf16[2, 2]\n"
        "  %y = hadamard %w {compute = f64, size = 2} : bf16[2, 2]\n");
    uint16_t got[4];
    if (y) {
        CHECK_INT(qc_weights_evaluate(f->weights, y, got), QC_ERROR);
        CHECK(said(&f->m, "what is computed from it is not finite"));
    }
    end(f);
}

int main(void)
{
    RUN(test_rows_and_columns);
    RUN(test_norm_and_center);
    RUN(test_whole);
    RUN(test_vectors);
    RUN(test_overflow);
    return check_done();
}
