/* SPDX-License-Identifier: MIT
 *
 * test_weights.c - weight expressions: what is one, their values row by row against values worked out here, and what
 * is wrong with a source.
 */
#include "tests/unit/check.h"
#include "tests/unit/messages.h"
#include "tests/unit/shard.h"

#include <unistd.h>

#include "ir/dtype/codec.h"
#include "ir/support/io.h"
#include "runtime/weights.h"

enum { ROWS = 7, COLUMNS = 5 };

/* A source of three tensors in a directory of its own, and IR text over it. */
typedef struct fixture {
    qc_arena arena;
    qc_diag diag;
    messages m;
    qc_ctx *ctx;
    qc_module *module;
    qc_weights *weights;
    char directory[32];
    uint16_t w[ROWS * COLUMNS]; /* bf16 */
} fixture;

static void write_source(fixture *f, uint16_t first)
{
    static const int64_t w_shape[] = {ROWS, COLUMNS}, codes_shape[] = {2, 4}, v_shape[] = {COLUMNS};
    static const float v[COLUMNS] = {1, 2, 3, 4, 5};
    static const uint8_t codes[] = {0x38, 0x40, 0xb8, 0x00, 0x7e, 0xfe, 0x01, 0x80};
    for (int i = 0; i < ROWS * COLUMNS; i++)
        f->w[i] = qc_bf16_from_f32((float)(i * i % 37 - 18) * 0.37f + (i == 12 ? 40.0f : 0.0f));
    if (first)
        f->w[0] = first;
    memset(f->w + 3 * COLUMNS, 0, COLUMNS * 2); /* a row of zeros */
    uint16_t u[ROWS * COLUMNS];                 /* 1.0, and one 64.0 */
    for (int i = 0; i < ROWS * COLUMNS; i++)
        u[i] = i == 9 ? 0x4280 : 0x3f80;
    qc_st_out outs[] = {
        {.name = "u", .dtype = "BF16", .rank = 2, .shape = w_shape, .user = u},
        {.name = "w", .dtype = "BF16", .rank = 2, .shape = w_shape, .user = f->w},
        {.name = "v", .dtype = "F32", .rank = 1, .shape = v_shape, .user = (void *)(uintptr_t)v},
        {.name = "codes",
            .dtype = "F8_E4M3",
            .rank = 2,
            .shape = codes_shape,
            .user = (void *)(uintptr_t)codes},
    };
    CHECK(write_shard(&f->diag, &f->arena, f->directory, outs, 4));
}

static fixture *begin(uint16_t first)
{
    fixture *f = calloc(1, sizeof *f);
    if (!f)
        return NULL;
    snprintf(f->directory, sizeof f->directory, "qc-test-weights-XXXXXX");
    if (!mkdtemp(f->directory)) {
        free(f);
        return NULL;
    }
    qc_arena_init(&f->arena, NULL);
    qc_diag_init(&f->diag, &f->arena, keep_message, &f->m);
    f->ctx = qc_ctx_create(NULL, keep_message, &f->m);
    write_source(f, first);
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

#define BEGIN(first)                                                                                         \
    fixture *f = begin(first);                                                                               \
    if (!f)                                                                                                  \
    SKIP("no directory can be made here")

static const char symbols[] =
    "dim B\n"
    "module \"\" Root\n"
    "scheme @row {arith = ct_cpu, input = {dynamic, granularity = token, symmetric, type = f8e4m3}, targets "
    "= [\"Linear\"],"
    " weights = {granularity = channel, observer = memoryless_minmax, symmetric, type = f8e4m3}}\n"
    "scheme @all {arith = ct_cpu, targets = [\"Linear\"], weights = {granularity = tensor, observer = "
    "memoryless_minmax,"
    " symmetric, type = i8}}\n"
    "scheme @asym {arith = ct_cpu, targets = [\"Linear\"], weights = {granularity = group, group = 3, "
    "observer = "
    "memoryless_minmax, symmetric = false, type = i4}}\n"
    "scheme @block {arith = ct_cpu, targets = [\"Linear\"], weights = {block = [2, 3], granularity = block, "
    "observer = "
    "memoryless_minmax, symmetric, type = f8e4m3}}\n"
    "scheme @mx {arith = ct_cpu, targets = [\"Linear\"], weights = {granularity = group, group = 32, "
    "observer = "
    "memoryless_minmax, scale = f8e8m0, symmetric, type = f4e2m1}}\n"
    "scheme @nv {arith = ct_cpu, targets = [\"Linear\"], weights = {global, granularity = group, group = 3, "
    "observer = "
    "memoryless_minmax, scale = f8e4m3, symmetric, type = f4e2m1}}\n";

/* Parses a function with the body and gives the value that it returns. */
static const qc_value *parse(fixture *f, const char *body)
{
    size_t at = strlen(body) - 1;
    while (at > 0 && strncmp(body + at, " : ", 3) != 0)
        at--;
    const char *type = qc_arena_strndup(&f->arena, body + at + 3, strlen(body) - at - 4);
    const char *text = qc_arena_printf(
        &f->arena, "qc 1\n%sfunc @main(%%x: bf16[B, 5]) -> %s {\n%s  return %%y\n}\n", symbols, type, body);
    f->module = qc_module_parse(f->ctx, "test.qc", text, strlen(text));
    CHECK(f->module != NULL);
    if (!f->module) {
        printf("# %s\n", f->m.last);
        return NULL;
    }
    if (!f->weights)
        f->weights = qc_weights_open(f->ctx, f->module, f->directory);
    CHECK(f->weights != NULL);
    return qc_func_result(qc_module_first_func(f->module), 0);
}

static float w_at(const fixture *f, int row, int column)
{
    return qc_bf16_to_f32(f->w[row * COLUMNS + column]);
}

static float round_bf16(float x)
{
    return qc_bf16_to_f32(qc_bf16_from_f32(x));
}

/* Scale of a row as compressed-tensors has it: amax / 448, rounded to bf16. */
static float row_scale(const fixture *f, int row)
{
    float amax = 0;
    for (int i = 0; i < COLUMNS; i++)
        amax = fabsf(w_at(f, row, i)) > amax ? fabsf(w_at(f, row, i)) : amax;
    return round_bf16(amax / 448.0f);
}

static void test_what_is_one(void)
{
    BEGIN(0);
    const qc_value *y =
        parse(f, "  %w = weight \"w\" : bf16[7, 5]\n  %c = cast %w {to = f32}\n  %m = mul %c, %c\n"
                 "  %y = linear %x, %w : bf16[B, 7]\n");
    qc_op *op = y ? qc_func_first_op(qc_module_first_func(f->module)) : NULL;
    for (int i = 0; op; op = qc_op_next(op), i++)
        CHECK_INT(qc_value_is_weight_expression(qc_op_result(op, 0)), i < 3);
    if (y) {
        CHECK(!qc_value_is_weight_expression(qc_func_argument(qc_module_first_func(f->module), 0)));
        unsigned char buffer[512];
        CHECK_INT(qc_weights_evaluate(f->weights, y, buffer), QC_ERROR);
        CHECK(said(&f->m, "is no weight expression"));
    }
    end(f);
}

static void test_conversion(void)
{
    BEGIN(0);
    const qc_value *y = parse(f, "  %y = weight \"w\" : f32[7, 5]\n");
    float values[ROWS * COLUMNS];
    size_t bytes = 0;
    if (y) {
        CHECK(qc_value_size_bytes(f->ctx, y, &bytes));
        CHECK_INT(bytes, sizeof values);
        CHECK_INT(qc_weights_evaluate(f->weights, y, values), QC_OK);
        for (int i = 0; i < ROWS * COLUMNS; i++)
            CHECK(values[i] == qc_bf16_to_f32(f->w[i]));
    }
    end(f);
}

/* Where a sink puts rows of codes and, in bf16, their scales. */
typedef struct collected {
    uint8_t *codes;
    uint16_t *scales;
    bool refuse;
} collected;

static bool collect(void *user, const qc_weight_rows *rows)
{
    collected *c = user;
    if (c->refuse)
        return false;
    memcpy(c->codes + rows->first * COLUMNS, rows->data, (size_t)(rows->count * COLUMNS));
    for (int64_t i = 0; c->scales && i < rows->scale_count; i++)
        c->scales[rows->first_scale + i] = qc_bf16_from_f32(rows->scales[i]);
    return true;
}

static void test_channel_codes(void)
{
    BEGIN(0);
    const qc_value *y = parse(f, "  %w = weight \"w\" : bf16[7, 5]\n"
                                 "  %s = qparams %w {arg = weights, scheme = @row} : bf16[7, 1]\n"
                                 "  %y = quantize %w, %s {arg = weights, scheme = @row} : f8e4m3[7, 5]\n");
    uint8_t codes[ROWS * COLUMNS], again[ROWS * COLUMNS], part[2 * COLUMNS];
    uint16_t scales[ROWS];
    qc_weight_stream *s = y ? qc_weight_stream_open(f->weights, y) : NULL;
    CHECK(s != NULL);
    if (s) {
        CHECK_INT(qc_weight_stream_rows(s), ROWS);
        CHECK_INT(qc_weight_stream_row_elems(s), COLUMNS);
        CHECK_INT(qc_weight_stream_read(s, 0, ROWS, codes), QC_OK);
        CHECK_INT(qc_weight_stream_read(s, 4, 2, part), QC_OK);
        CHECK(qc_weight_stream_brings_scales(s));
        collected c = {.codes = again, .scales = scales};
        qc_weight_job job = {.stream = s, .sink = collect, .user = &c};
        bool refused;
        CHECK_INT(qc_weights_run_jobs(f->weights, &job, 1, &refused), QC_OK);
        CHECK(!refused && memcmp(again, codes, sizeof codes) == 0);
        CHECK(memcmp(part, codes + 4 * COLUMNS, sizeof part) == 0);
        for (int r = 0; r < ROWS; r++) {
            float scale = qc_bf16_to_f32(scales[r]);
            if (r == 3) {
                CHECK(scale > 0);
                for (int i = 0; i < COLUMNS; i++)
                    CHECK_INT(codes[r * COLUMNS + i], 0);
                continue;
            }
            CHECK(scale == row_scale(f, r));
            for (int i = 0; i < COLUMNS; i++) {
                float quotient = round_bf16(w_at(f, r, i) / scale);
                float code = qc_f8e4m3_to_f32(codes[r * COLUMNS + i]);
                float clamped = quotient > 448 ? 448 : quotient < -448 ? -448 : quotient;
                CHECK(fabsf(code - clamped) <= fabsf(clamped) / 16 + 0.001f);
            }
        }
        qc_weight_stream_close(s);
    }
    /* the scales by themselves */
    uint16_t alone[ROWS];
    if (y) {
        CHECK_INT(qc_weights_evaluate(f->weights, qc_op_operand(qc_value_op(y), 1), alone), QC_OK);
        CHECK(memcmp(alone, scales, sizeof alone) == 0);
    }
    end(f);
}

static void test_there_and_back(void)
{
    BEGIN(0);
    const qc_value *y = parse(f, "  %w = weight \"w\" : bf16[7, 5]\n"
                                 "  %s = qparams %w {arg = weights, scheme = @row} : bf16[7, 1]\n"
                                 "  %c = quantize %w, %s {arg = weights, scheme = @row} : f8e4m3[7, 5]\n"
                                 "  %y = dequantize %c, %s {to = bf16} : bf16[7, 5]\n");
    uint8_t codes[ROWS * COLUMNS];
    uint16_t values[ROWS * COLUMNS], scales[ROWS];
    if (y) {
        const qc_op *op = qc_value_op(y);
        CHECK_INT(qc_weights_evaluate(f->weights, y, values), QC_OK);
        CHECK_INT(qc_weights_evaluate(f->weights, qc_op_operand(op, 0), codes), QC_OK);
        CHECK_INT(qc_weights_evaluate(f->weights, qc_op_operand(op, 1), scales), QC_OK);
        for (int i = 0; i < ROWS * COLUMNS; i++)
            CHECK(qc_bf16_to_f32(values[i]) ==
                  round_bf16(qc_f8e4m3_to_f32(codes[i]) * qc_bf16_to_f32(scales[i / COLUMNS])));
    }
    end(f);
}

static void test_tensor_codes(void)
{
    BEGIN(0);
    const qc_value *y = parse(f, "  %w = weight \"w\" : bf16[7, 5]\n"
                                 "  %s = qparams %w {arg = weights, scheme = @all} : bf16[1]\n"
                                 "  %y = quantize %w, %s {arg = weights, scheme = @all} : i8[7, 5]\n");
    int8_t codes[ROWS * COLUMNS];
    uint16_t stored;
    float amax = 0;
    for (int i = 0; i < ROWS * COLUMNS; i++)
        amax = fabsf(qc_bf16_to_f32(f->w[i])) > amax ? fabsf(qc_bf16_to_f32(f->w[i])) : amax;
    if (y) {
        CHECK_INT(qc_weights_evaluate(f->weights, y, codes), QC_OK);
        CHECK_INT(qc_weights_evaluate(f->weights, qc_op_operand(qc_value_op(y), 1), &stored), QC_OK);
        float scale = qc_bf16_to_f32(stored);
        CHECK(scale == round_bf16(amax / 127.5f));
        for (int i = 0; i < ROWS * COLUMNS; i++) {
            float q = rintf(round_bf16(qc_bf16_to_f32(f->w[i]) / scale));
            CHECK_INT(codes[i], (int)(q > 127 ? 127 : q < -128 ? -128 : q));
        }
    }
    end(f);
}

/* Operations that do not go row by row take the reference semantics. */
static void test_other_operations(void)
{
    BEGIN(0);
    const qc_value *y = parse(f, "  %w = weight \"w\" : f32[7, 5]\n  %v = weight \"v\" : f32[5]\n"
                                 "  %m = mul %w, %v : f32[7, 5]\n"
                                 "  %t = transpose %m {perm = [1, 0]} : f32[5, 7]\n"
                                 "  %s = slice %t {axis = 0, start = 1, stop = 3} : f32[2, 7]\n"
                                 "  %y = cast %s {to = bf16} : bf16[2, 7]\n");
    uint16_t values[2 * ROWS];
    if (y) {
        CHECK_INT(qc_weights_evaluate(f->weights, y, values), QC_OK);
        for (int i = 0; i < 2 * ROWS; i++)
            CHECK_INT(values[i], qc_bf16_from_f32(w_at(f, i % ROWS, 1 + i / ROWS) * (float)(2 + i / ROWS)));
    }
    end(f);
}

static void test_stored_codes(void)
{
    BEGIN(0);
    const qc_value *y = parse(f, "  %c = weight \"codes\" : f8e4m3[2, 4]\n"
                                 "  %s = const [0.5, 2.0] : bf16[2, 1]\n"
                                 "  %y = dequantize %c, %s {to = bf16} : bf16[2, 4]\n");
    static const float expected[] = {0.5f, 1, -0.5f, 0, 896, -896, 0.00390625f, -0.0f};
    uint16_t values[8];
    if (y) {
        CHECK_INT(qc_weights_evaluate(f->weights, y, values), QC_OK);
        for (int i = 0; i < 8; i++)
            CHECK(qc_bf16_to_f32(values[i]) == expected[i]);
    }
    end(f);
}

/* Ops between a weight and the numbers that its codes stand for, by scheme. */
static const struct {
    const char *name, *body;
} schemes[] = {
    {"row", "  %s = qparams %w {arg = weights, scheme = @row} : bf16[7, 1]\n"
            "  %c = quantize %w, %s {arg = weights, scheme = @row} : f8e4m3[7, 5]\n"
            "  %y = dequantize %c, %s {to = bf16} : bf16[7, 5]\n"},
    {"all", "  %s = qparams %w {arg = weights, scheme = @all} : bf16[1]\n"
            "  %c = quantize %w, %s {arg = weights, scheme = @all} : i8[7, 5]\n"
            "  %y = dequantize %c, %s {to = bf16} : bf16[7, 5]\n"},
    {"asym", "  %s = qparams %w {arg = weights, scheme = @asym} : bf16[7, 2]\n"
             "  %z = zero_point %w {arg = weights, scheme = @asym} : i8[7, 2]\n"
             "  %c = quantize %w, %s, zero_point=%z {arg = weights, scheme = @asym} : i4[7, 5]\n"
             "  %y = dequantize %c, %s, zero_point=%z {group = 3, to = bf16} : bf16[7, 5]\n"},
    {"block", "  %s = qparams %w {arg = weights, scheme = @block} : bf16[4, 2]\n"
              "  %c = quantize %w, %s {arg = weights, scheme = @block} : f8e4m3[7, 5]\n"
              "  %y = dequantize %c, %s {block = [2, 3], to = bf16} : bf16[7, 5]\n"},
    {"mx", "  %s = qparams %w {arg = weights, scheme = @mx} : f8e8m0[7, 1]\n"
           "  %c = quantize %w, %s {arg = weights, scheme = @mx} : f4e2m1[7, 5]\n"
           "  %y = dequantize %c, %s {group = 32, to = bf16} : bf16[7, 5]\n"},
    {"nv", "  %u = weight \"u\" : bf16[7, 5]\n"
           "  %g = global_scale %w, %u {arg = weights, scheme = @nv} : f32[1]\n"
           "  %s = qparams %w, global=%g {arg = weights, scheme = @nv} : f8e4m3[7, 2]\n"
           "  %c = quantize %w, %s, global=%g {arg = weights, scheme = @nv} : f4e2m1[7, 5]\n"
           "  %y = dequantize %c, %s, global=%g {group = 3, to = bf16} : bf16[7, 5]\n"},
};

/* Rows by themselves, in threes, and all at once are the same; so are those that the reference semantics of the ops
 * give, and they are near the weights. */
static void test_every_granularity(void)
{
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++) {
        BEGIN(0);
        const qc_value *y =
            parse(f, qc_arena_printf(&f->arena, "  %%w = weight \"w\" : bf16[7, 5]\n%s", schemes[i].body));
        qc_weight_stream *stream = y ? qc_weight_stream_open(f->weights, y) : NULL;
        uint16_t all[ROWS * COLUMNS], part[3 * COLUMNS];
        CHECK(stream != NULL);
        if (stream) {
            CHECK_INT(qc_weight_stream_read(stream, 0, ROWS, all), QC_OK);
            for (int r = 0; r < ROWS; r++) {
                int count = r + 3 <= ROWS ? 3 : 1;
                CHECK_INT(qc_weight_stream_read(stream, r, count, part), QC_OK);
                CHECK(memcmp(part, all + r * COLUMNS, (size_t)(count * COLUMNS) * 2) == 0);
            }
            float largest = 0;
            for (int k = 0; k < ROWS * COLUMNS; k++) {
                float error = fabsf(qc_bf16_to_f32(all[k]) - qc_bf16_to_f32(f->w[k]));
                largest = error > largest ? error : largest;
            }
            CHECK(largest > 0 && largest < 4);
            if (largest >= 4)
                printf("# %s: off by %g\n", schemes[i].name, (double)largest);
            qc_weight_stream_close(stream);
        }
        end(f);
    }
}

static void check_fails(const char *body, uint16_t first, const char *what)
{
    BEGIN(first);
    const qc_value *y = parse(f, body);
    unsigned char buffer[1024];
    if (y) {
        CHECK_INT(qc_weights_evaluate(f->weights, y, buffer), QC_ERROR);
        CHECK(said(&f->m, what));
    }
    end(f);
}

static void test_errors(void)
{
    check_fails("  %y = weight \"missing\" : bf16[7, 5]\n", 0, "there is no tensor missing");
    check_fails("  %y = weight \"w\" : bf16[5, 7]\n", 0, "w: has another shape in qc-test-weights-");
    check_fails("  %y = weight \"w\" : f16[7, 5]\n", 0,
        "w: is stored as BF16, which does not convert exactly to the IR's f16");
    check_fails("  %y = weight \"v\" : bf16[5]\n", 0, "v: is stored as F32, which does not convert exactly");
    check_fails("  %y = weight \"w\" : bf16[7, 5]\n", 0x7f80, "w: holds a NaN or an infinity (element 0)");
    check_fails("  %y = weight \"w\" : f32[7, 5]\n", 0xffc1, "w: holds a NaN or an infinity (element 0)");
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++) {
        char body[1024];
        snprintf(body, sizeof body, "  %%w = weight \"w\" : bf16[7, 5]\n%s", schemes[i].body);
        check_fails(body, 0x7f80, "w: holds a NaN or an infinity (element 0)");
        check_fails(body, 0xffc1, "w: holds a NaN or an infinity (element 0)");
    }
    /* 2^59 elements: their bits are 2^65. */
    check_fails("  %v = weight \"v\" : f32[5]\n  %c = cast %v {to = f64} : f64[5]\n"
                "  %f = slice %c {axis = 0, start = 0, stop = 4} : f64[4]\n"
                "  %r = reshape %f : f64[1, 1, 1, 4]\n"
                "  %l = repeat_heads %r {times = 144115188075855872} : f64[1, 144115188075855872, 1, 4]\n"
                "  %y = slice %l {axis = 1, start = 0, stop = 1} : f64[1, 1, 1, 4]\n",
        0, "must have a static shape that fits memory, not f64[1, 144115188075855872, 1, 4]");
}

static void test_no_source(void)
{
    BEGIN(0);
    const char *text = "qc 1\nfunc @main(%x: bf16[5]) -> bf16[5] {\n  return %x\n}\n";
    f->module = qc_module_parse(f->ctx, "test.qc", text, strlen(text));
    CHECK(f->module != NULL);
    if (f->module) {
        CHECK(qc_weights_open(f->ctx, f->module, NULL) == NULL);
        CHECK(said(&f->m, "give it with --source=DIR"));
        CHECK(qc_weights_open(f->ctx, f->module, "no-such-directory") == NULL);
        CHECK(said(&f->m, "no-such-directory"));
        CHECK(qc_weights_open(f->ctx, f->module, "") == NULL);
        CHECK(said(&f->m, "give it with --source=DIR"));
        qc_module_add_shard(f->module, "model-00001-of-00002.safetensors", 1, "00");
        qc_weights *w = qc_weights_open(f->ctx, f->module, f->directory);
        CHECK(w == NULL);
    }
    end(f);
}

int main(void)
{
    RUN(test_what_is_one);
    RUN(test_conversion);
    RUN(test_channel_codes);
    RUN(test_there_and_back);
    RUN(test_tensor_codes);
    RUN(test_every_granularity);
    RUN(test_other_operations);
    RUN(test_stored_codes);
    RUN(test_errors);
    RUN(test_no_source);
    return check_done();
}
