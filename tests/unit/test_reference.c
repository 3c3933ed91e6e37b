/* SPDX-License-Identifier: MIT
 *
 * test_reference.c - the interpreter around the ops: dimensions, the cache, decompositions, evaluation of
 * single values, and what it says when something does not fit.
 */
#include "backends/reference/reference.h"
#include "ir/ctx.h"
#include "ir/decompose.h"
#include "ir/dtype/codec.h"
#include "ir/rope.h"
#include "tests/unit/check.h"
#include "tests/unit/messages.h"

typedef struct fixture {
    messages said;
    qc_ctx *ctx;
    qc_module *module;
    qc_reference *reference;
    const qc_func *main;
    int weight_reads, values_seen;
} fixture;

/* "ones" is bf16[2, 3], all 1. */
static qc_status give_weight(void *user, qc_diag *diag, const char *name, qc_tensor *stored)
{
    static uint16_t ones[6] = {0x3f80, 0x3f80, 0x3f80, 0x3f80, 0x3f80, 0x3f80};
    fixture *f = user;

    f->weight_reads++;
    if (strcmp(name, "ones") != 0)
        return qc_error(diag, name, "no such tensor");
    *stored = (qc_tensor){.dtype = QC_BF16, .rank = 2, .dims = {2, 3}, .count = 6, .data = ones};
    return QC_OK;
}

static void see_value(void *user, const qc_value *value, const qc_tensor *tensor)
{
    (void)value;
    (void)tensor;
    ((fixture *)user)->values_seen++;
}

static void open_text(fixture *f, const char *text)
{
    *f = (fixture){0};
    f->ctx = qc_ctx_create(NULL, keep_message, &f->said);
    f->module = qc_module_parse(f->ctx, "test", text, strlen(text));
    if (!f->module) {
        CHECK_FAIL("%s", f->said.last);
        return;
    }
    qc_reference_options options = {.user = f, .weight = give_weight, .observe = see_value};
    f->reference = qc_reference_create(f->module, &options);
    f->main = qc_module_func(f->module, "main");
}

static void close_fixture(fixture *f)
{
    qc_reference_destroy(f->reference);
    qc_module_destroy(f->module);
    qc_ctx_destroy(f->ctx);
}

static qc_tensor floats(int rank, const int64_t *dims, float start)
{
    qc_tensor t = {0};
    qc_arena arena;
    qc_diag diag;
    qc_arena_init(&arena, NULL);
    qc_diag_init(&diag, &arena, NULL, NULL);
    CHECK(qc_tensor_create(&diag, "input", QC_F32, rank, dims, &t) == QC_OK);
    for (int64_t i = 0; i < t.count; i++) {
        float x = start + (float)i;
        qc_tensor_write(&t, i, 1, &x);
    }
    qc_arena_fini(&arena);
    return t;
}

static const char *const cached = "qc 1\n"
                                  "dim B, S, P\n"
                                  "module \"\" Root\n"
                                  "module \"a\" Attention\n"
                                  "func @main(%x: f32[B, 1, S, 2]) -> f32[B, 1, P + S, 2] {\n"
                                  "  %k = cache_append %x {slot = k} : f32[B, 1, P + S, 2] at \"a\"\n"
                                  "  return %k\n"
                                  "}\n";

static void test_cache(void)
{
    fixture f;
    qc_tensor y;

    open_text(&f, cached);
    qc_tensor first = floats(4, (int64_t[]){1, 1, 2, 2}, 0), next = floats(4, (int64_t[]){1, 1, 1, 2}, 4);
    qc_tensor other = floats(4, (int64_t[]){2, 1, 1, 2}, 0);
    CHECK(qc_reference_run(f.reference, f.main, &first, 1, &y) == QC_OK);
    CHECK_INT(y.dims[2], 2);
    qc_tensor_free(&y);
    CHECK_INT(qc_reference_past_length(f.reference), 2);
    /* another batch does not continue it, and changes nothing */
    CHECK(qc_reference_run(f.reference, f.main, &other, 1, &y) == QC_ERROR);
    CHECK(said(&f.said, "a/k: the cache holds f32[1, 1, 2, 2], which f32[2, 1, 1, 2] does not continue"));
    CHECK(y.data == NULL);
    CHECK_INT(qc_reference_past_length(f.reference), 2);
    CHECK(qc_reference_run(f.reference, f.main, &next, 1, &y) == QC_OK);
    CHECK_INT(y.count, 6);
    for (int i = 0; i < 6 && y.data; i++)
        CHECK(((float *)y.data)[i] == (float)i);
    qc_tensor_free(&y);
    CHECK_INT(qc_reference_past_length(f.reference), 3);
    qc_reference_reset(f.reference);
    CHECK_INT(qc_reference_past_length(f.reference), 0);
    CHECK(qc_reference_run(f.reference, f.main, &other, 1, &y) == QC_OK);
    CHECK_INT(y.count, 4);
    qc_tensor_free(&y);
    qc_tensor_free(&first);
    qc_tensor_free(&next);
    qc_tensor_free(&other);
    close_fixture(&f);
}

static void test_inputs_that_do_not_fit(void)
{
    fixture f;
    qc_tensor y[2];

    open_text(&f, "qc 1\ndim B\nfunc @main(%x: f32[B, 3], %z: f32[B, 3]) -> f32[B, 3] {\n  %y = add %x, %z\n"
                  "  return %y\n}\n");
    qc_tensor in[2] = {floats(2, (int64_t[]){2, 3}, 0), floats(2, (int64_t[]){4, 3}, 0)};
    CHECK(qc_reference_run(f.reference, f.main, in, 1, y) == QC_ERROR);
    CHECK(said(&f.said, "main: takes 2 inputs, not 1"));
    CHECK(qc_reference_run(f.reference, f.main, in, 2, y) == QC_ERROR);
    CHECK(said(&f.said, "main: input 1 is f32[4, 3], but dimension 0 of f32[B, 3] is 2"));
    qc_tensor flat[2] = {in[0], floats(1, (int64_t[]){3}, 0)};
    CHECK(qc_reference_run(f.reference, f.main, flat, 2, y) == QC_ERROR);
    CHECK(said(&f.said, "main: input 1 is f32[3], not f32[B, 3]"));
    qc_tensor_free(&in[0]);
    qc_tensor_free(&in[1]);
    qc_tensor_free(&flat[1]);
    close_fixture(&f);
}

static void test_run_time_errors(void)
{
    fixture f;
    qc_tensor y;

    open_text(
        &f, "qc 1\nfunc @main() -> bf16[2, 2] {\n  %y = weight \"ones\" : bf16[2, 2]\n  return %y\n}\n");
    CHECK(qc_reference_run(f.reference, f.main, NULL, 0, &y) == QC_ERROR);
    CHECK(said(&f.said, "ones: the checkpoint holds bf16[2, 3], which is not exactly bf16[2, 2]"));
    close_fixture(&f);
    open_text(&f, "qc 1\nfunc @main() -> f16[2, 3] {\n  %y = weight \"ones\" : f16[2, 3]\n  return %y\n}\n");
    CHECK(qc_reference_run(f.reference, f.main, NULL, 0, &y) == QC_ERROR);
    CHECK(said(&f.said, "which is not exactly f16[2, 3]"));
    close_fixture(&f);
    open_text(&f, "qc 1\nfunc @main(%w: f32[2, 3]) -> f32[1, 3] {\n  %i = const [2] : i64[1]\n"
                  "  %y = embedding %i, %w\n  return %y\n}\n");
    qc_tensor w = floats(2, (int64_t[]){2, 3}, 0);
    CHECK(qc_reference_run(f.reference, f.main, &w, 1, &y) == QC_ERROR);
    CHECK(said(&f.said, "main: embedding: token id 2 is outside the 2 rows"));
    qc_tensor_free(&w);
    close_fixture(&f);
    open_text(&f,
        "qc 1\nscheme @s {arith = ct_cpu, input = {granularity = tensor, symmetric, type = f8e4m3}, "
        "targets = [\"Linear\"]}\nfunc @main(%x: f32[2, 1]) -> f32[1] {\n"
        "  %y = qparams %x {arg = input, from = stat, scheme = @s}\n  return %y\n}\n");
    qc_tensor stat = floats(2, (int64_t[]){2, 1}, 0);
    ((float *)stat.data)[1] = INFINITY;
    CHECK(qc_reference_run(f.reference, f.main, &stat, 1, &y) == QC_ERROR);
    CHECK(said(&f.said, "main: qparams: values from 0 to inf have no scale"));
    qc_tensor_free(&stat);
    close_fixture(&f);
}

/* Unused ops do not run, except those with effects; values are seen once; an input may be an output, twice.
 */
static void test_what_runs(void)
{
    fixture f;
    qc_tensor y[3];

    open_text(&f, "qc 1\nfunc @main(%x: f32[2]) -> f32[2], f32[2], f32[2] {\n"
                  "  %w = weight \"absent\" : bf16[9]\n  %a = add %x, %x\n  %b = mul %a, %a\n"
                  "  return %x, %a, %a\n}\n");
    qc_tensor x = floats(1, (int64_t[]){2}, 1);
    CHECK(qc_reference_run(f.reference, f.main, &x, 1, y) == QC_OK);
    CHECK_INT(f.weight_reads, 0);
    CHECK_INT(f.values_seen, 1);
    CHECK(y[0].data != x.data && y[1].data != y[2].data);
    CHECK(((float *)y[0].data)[1] == 2 && ((float *)y[1].data)[1] == 4 && ((float *)y[2].data)[0] == 2);
    for (int i = 0; i < 3; i++)
        qc_tensor_free(&y[i]);
    qc_tensor_free(&x);
    close_fixture(&f);
}

static void test_evaluate(void)
{
    fixture f;
    qc_tensor y;

    open_text(&f,
        "qc 1\nfunc @main(%x: bf16[2, 3]) -> bf16[3, 2] {\n  %w = weight \"ones\" : bf16[2, 3]\n"
        "  %v = weight \"absent\" : bf16[9]\n  %d = add %w, %w\n  %t = transpose %d {perm = [1, 0]}\n"
        "  %u = add %x, %d\n  %r = transpose %u {perm = [1, 0]}\n  return %r\n}\n");
    const qc_op *op = qc_func_first_op(f.main);
    while (op && !qc_op_is(op, "transpose"))
        op = qc_op_next(op);
    CHECK(qc_reference_evaluate(f.reference, qc_op_result(op, 0), &y) == QC_OK);
    CHECK_INT(y.dims[0], 3);
    CHECK_INT(((uint16_t *)y.data)[5], 0x4000); /* 2 in bf16 */
    CHECK_INT(f.weight_reads, 1);
    qc_tensor_free(&y);
    CHECK(qc_reference_evaluate(f.reference, qc_func_result(f.main, 0), &y) == QC_ERROR);
    CHECK(said(&f.said, "main: the value depends on input 0"));
    close_fixture(&f);
}

static const char *const quantized = "qc 1\n"
                                     "dim B, S, P\n"
                                     "func @main(%q: bf16[B, 4, S, 8], %k: f8e4m3[B, 2, P + S, 8], %v: "
                                     "bf16[B, 2, P + S, 8], %s: bf16[2, 1, 1]) -> "
                                     "bf16[B, 4, S, 8] {\n"
                                     "  %y = attention %q, %k, %v, k_scale=%s {causal, probs = bf16, scale = "
                                     "0.25, scores = bf16, softmax = f32}\n"
                                     "  return %y\n"
                                     "}\n";

static const char *const decomposed =
    "qc 1\n"
    "dim B, S, P\n"
    "func @attention(%q: bf16[B, 4, S, 8], %k: f8e4m3[B, 2, P + S, 8], %v: bf16[B, 2, P + S, 8], "
    "%k_scale: bf16[2, 1, 1]) -> bf16[B, 4, S, 8] {\n"
    "  %k_2 = dequantize %k, %k_scale {group = 0, to = bf16}\n"
    "  %kr = repeat_heads %k_2 {times = 2}\n"
    "  %vr = repeat_heads %v {times = 2}\n"
    "  %s0 = matmul %q, %kr {to = bf16, transpose_z}\n"
    "  %c = const [0.25] : f32[1]\n"
    "  %s1 = mul %s0, %c\n"
    "  %s2 = attention_mask %s1 {causal = true, window = 0, chunk = 0}\n"
    "  %s3 = cast %s2 {to = f32}\n"
    "  %p0 = softmax %s3\n"
    "  %p1 = cast %p0 {to = bf16}\n"
    "  %y = matmul %p1, %vr {to = bf16}\n"
    "  return %y\n"
    "}\n";

/* Lines with conditions, hidden names, facts of types, absent attributes. */
static void test_decomposition_text(void)
{
    fixture f;
    qc_arena arena;

    qc_arena_init(&arena, NULL);
    open_text(&f, quantized);
    CHECK_STR(qc_decomposition_text(&arena, qc_func_first_op(f.main)), decomposed);
    close_fixture(&f);
    open_text(&f,
        "qc 1\nfunc @main(%x: bf16[1, 1, 2, 4], %p: i64[1, 2]) -> bf16[1, 1, 2, 4] {\n"
        "  %a = rope %x, %p {scaling = {factor = 4.0, type = linear}, tables = bf16, theta = 10000.0}\n"
        "  %b = rope %x, %p {tables = bf16, theta = 10000.0}\n  %n = neg %b\n  return %a\n}\n");
    const qc_op *op = qc_func_first_op(f.main);
    const char *text = qc_decomposition_text(&arena, op);
    CHECK(text &&
          strstr(text, "rope_cos %pos {dims = 4, theta = 10000.0, scaling = {factor = 4.0, type = linear}, "
                       "interleaved = false}\n"));
    text = qc_decomposition_text(&arena, qc_op_next(op));
    CHECK(text && strstr(text, "rope_cos %pos {dims = 4, theta = 10000.0, interleaved = false}\n"));
    CHECK(qc_decomposition_text(&arena, qc_op_next(qc_op_next(op))) == NULL);
    CHECK(said(&f.said, "neg: is no composite op"));
    close_fixture(&f);
    qc_arena_fini(&arena);
}

static const qc_attr *scaling_of(qc_ctx *ctx, const char *type, const char *key, double value)
{
    const char *keys[2] = {"type", key};
    const qc_attr *values[2] = {qc_attr_word(ctx, type), qc_attr_float(ctx, value)};
    return qc_attr_map(ctx, keys, values, key ? 2 : 1);
}

static void test_rope_errors(void)
{
    messages m = {0};
    qc_ctx *ctx = qc_ctx_create(NULL, keep_message, &m);
    qc_diag *diag = qc_ctx_diag(ctx);
    float f[4], factor;

    CHECK(qc_rope_frequencies(diag, NULL, 10000.0, 7, 1, f, &factor) == QC_ERROR);
    CHECK(said(&m, "rope: 7 dimensions do not split in two halves"));
    CHECK(qc_rope_frequencies(diag, NULL, 0.0, 8, 1, f, &factor) == QC_ERROR);
    CHECK(said(&m, "rope: theta must be positive, not 0"));
    CHECK(
        qc_rope_frequencies(diag, scaling_of(ctx, "linear", NULL, 0), 10000.0, 8, 1, f, &factor) == QC_ERROR);
    CHECK(said(&m, "rope scaling: type linear needs 'factor'"));
    CHECK(qc_rope_frequencies(diag, scaling_of(ctx, "linear", "factor", -2), 10000.0, 8, 1, f, &factor) ==
          QC_ERROR);
    CHECK(said(&m, "rope scaling: 'factor' must be positive, not -2"));
    CHECK(qc_rope_frequencies(diag, scaling_of(ctx, "longrope", "factor", 2), 10000.0, 8, 1, f, &factor) ==
          QC_ERROR);
    CHECK(said(&m, "rope scaling: type longrope needs 'original_max_position_embeddings'"));
    CHECK(
        qc_rope_frequencies(diag, scaling_of(ctx, "su", "factor", 2), 10000.0, 8, 1, f, &factor) == QC_ERROR);
    CHECK(said(&m, "supported are default, linear, dynamic, llama3, yarn and longrope"));
    CHECK(qc_rope_frequencies(diag, NULL, 10000.0, 8, 1, f, &factor) == QC_OK);
    CHECK(f[0] == 1.0f && f[1] == 0.1f && f[2] == 0.01f && f[3] == 0.001f && factor == 1.0f);
    qc_ctx_destroy(ctx);
}

int main(void)
{
    RUN(test_cache);
    RUN(test_inputs_that_do_not_fit);
    RUN(test_run_time_errors);
    RUN(test_what_runs);
    RUN(test_evaluate);
    RUN(test_decomposition_text);
    RUN(test_rope_errors);
    return check_done();
}
