/* SPDX-License-Identifier: MIT
 *
 * test_weights_experts.c - weight expressions of single experts and of banks: the same as the reference semantics for
 * random expressions, in whatever pieces they are asked for; what is read of tensors that hold several experts.
 */
#include "tests/unit/check.h"
#include "tests/unit/messages.h"
#include "tests/unit/shard.h"

#include <fcntl.h>
#include <unistd.h>

#include "backends/reference/reference.h"
#include "ir/ctx.h"
#include "ir/experts.h"
#include "ir/support/io.h"
#include "runtime/weights.h"
#include "tests/unit/bank_expressions.h"

/* ---- random expressions -------------------------------------------------------------------------------- */

/* Elements as weights.h has them: those of less than 8 bits one byte each, integers sign-extended. */
static void *widened(qc_arena *arena, const qc_tensor *t)
{
    int bits = qc_dtype_bits(t->dtype);
    if (bits >= 8)
        return t->data;
    uint8_t *codes = qc_arena_alloc(arena, (size_t)t->count + 1);
    for (int64_t i = 0; i < t->count; i++) {
        uint32_t code = qc_code_get(t->data, bits, (size_t)i);
        codes[i] = qc_dtype_is_int(t->dtype) ? (uint8_t)qc_code_signed(code, bits) : (uint8_t)code;
    }
    return codes;
}

static bool write_tensors(bank_expression *b, const char *directory)
{
    qc_st_out outs[BANK_TENSORS] = {{0}};
    for (int i = 0; i < b->tensor_count; i++)
        outs[i] = (qc_st_out){.name = b->names[i],
            .dtype = qc_dtype_safetensors_name(b->tensors[i].dtype),
            .rank = b->tensors[i].rank,
            .shape = b->tensors[i].dims,
            .user = b->tensors[i].data};
    return write_shard(&b->diag, &b->arena, directory, outs, (size_t)b->tensor_count);
}

/* All of the value, then pieces of its rows, against `expected`. */
static void check_value(
    bank_expression *b, qc_weights *weights, const qc_value *value, const char *expected, const messages *m)
{
    int64_t count = 1;
    qc_type_static_count(qc_value_type(value), &count);
    int bits = qc_dtype_bits(qc_type_dtype(qc_value_type(value)));
    size_t each = bits < 8 ? 1 : (size_t)bits / 8;
    char *data = qc_arena_alloc(&b->arena, (size_t)count * each + 1);
    qc_weight_stream *s = qc_weight_stream_open(weights, value);
    if (!s || qc_weight_stream_read(s, 0, qc_weight_stream_rows(s), data) != QC_OK) {
        CHECK_FAIL("%s", m->last);
    } else {
        CHECK(memcmp(data, expected, (size_t)count * each) == 0);
        size_t row = (size_t)qc_weight_stream_row_elems(s) * each;
        for (int piece = 0; piece < 3; piece++) {
            int64_t rows = qc_weight_stream_rows(s), first = bank_one_of(b, (int)rows);
            int64_t some = 1 + bank_one_of(b, (int)(rows - first));
            CHECK_INT(qc_weight_stream_read(s, first, some, data), QC_OK);
            CHECK(memcmp(data, expected + (size_t)first * row, (size_t)some * row) == 0);
        }
    }
    qc_weight_stream_close(s);
}

static void check_expression(bank_expression *b, qc_module *module, qc_weights *weights, const messages *m)
{
    const qc_value *bank = qc_func_result(qc_module_func(module, "main"), 0);
    qc_reference_options options = {.user = b, .weight = bank_weight};
    qc_reference *reference = qc_reference_create(module, &options);
    qc_tensor all = {0};
    if (qc_reference_evaluate(reference, bank, &all) != QC_OK) {
        CHECK_FAIL("the reference: %s", m->last);
    } else {
        const char *expected = widened(&b->arena, &all);
        size_t part_bytes = (size_t)(all.count / b->experts) *
                            (qc_dtype_bits(all.dtype) < 8 ? 1 : (size_t)qc_dtype_bits(all.dtype) / 8);
        qc_weights_set_threads(weights, 1 + bank_one_of(b, 3));
        check_value(b, weights, bank, expected, m);
        for (int64_t e = 0; e < b->experts; e++) {
            qc_module *scratch = qc_experts_scratch(module);
            qc_expert_copy copy;
            qc_expert_copy_init(
                &copy, &b->arena, qc_builder_at_end(qc_module_add_func(scratch, "f")), b->experts, e);
            const qc_value *value = qc_expert_copy_value(&copy, bank);
            if (!value)
                CHECK_FAIL("expert %lld: %s", (long long)e, m->last);
            else
                check_value(b, weights, value, expected + (size_t)e * part_bytes, m);
            qc_weights_forget(weights);
            qc_module_destroy(scratch);
        }
    }
    qc_tensor_free(&all);
    qc_reference_destroy(reference);
}

static void test_expressions(void)
{
    char directory[] = "qc-test-experts-XXXXXX";
    if (!mkdtemp(directory))
        SKIP("no directory can be made here");
    for (uint64_t seed = 1000; seed < 1250 && check_case_failures < 3; seed++) {
        bank_expression b;
        messages m = {0};
        int failures = check_case_failures;
        qc_ctx *ctx = qc_ctx_create(NULL, keep_message, &m);
        bank_begin(&b, seed);
        bank_source(&b);
        const char *text = bank_text(&b);
        qc_module *module = qc_module_parse(ctx, "bank", text, strlen(text));
        CHECK(module && write_tensors(&b, directory));
        qc_weights *weights = module ? qc_weights_open(ctx, module, directory) : NULL;
        if (weights)
            check_expression(&b, module, weights, &m);
        else
            CHECK_FAIL("%s", m.last);
        if (check_case_failures > failures)
            printf("# ... of seed %d:\n# %s\n", (int)seed, strstr(text, "func"));
        qc_weights_close(weights);
        if (module)
            qc_module_destroy(module);
        qc_ctx_destroy(ctx);
        bank_end(&b);
    }
    qc_arena arena;
    qc_diag diag;
    qc_arena_init(&arena, NULL);
    qc_diag_init(&diag, &arena, NULL, NULL);
    CHECK_INT(qc_remove_tree(&diag, directory), QC_OK);
    qc_arena_fini(&arena);
}

/* ---- large tensors ------------------------------------------------------------------------------------- */

enum { PARTS = 16, IN = 4096, OUT = 16384, MARK_ROWS = 3 };

/* A checkpoint of "all" bf16[PARTS, IN, OUT], 2 GiB that are a hole but for some rows, and "bytes" u8[4, 8, 2, 16]. */
typedef struct large {
    char directory[32];
    qc_arena arena;
    qc_diag diag;
    messages m;
    qc_ctx *ctx;
    qc_module *module;
    qc_weights *weights;
} large;

static bool put_row(int fd, off_t data, int64_t part, int64_t row, const uint16_t *values)
{
    off_t at = data + (off_t)((part * IN + row) * OUT) * 2;
    return pwrite(fd, values, OUT * 2, at) == OUT * 2;
}

/* Element j of the row that is there. */
static uint16_t element(int64_t part, int64_t row, int64_t j)
{
    return qc_bf16_from_f32((float)((part * 7 + row * 3 + j) % 251) - 100.0f);
}

static bool write_large(large *l)
{
    static const int64_t shape[] = {PARTS, IN, OUT};
    static uint16_t values[OUT];
    qc_st_out out = {.name = "all", .dtype = "BF16", .rank = 3, .shape = shape};
    char *header;
    size_t header_bytes;
    if (qc_st_layout(&l->diag, &l->arena, &out, 1, true, &header, &header_bytes) != QC_OK)
        return false;
    const char *path = qc_path_join(&l->arena, l->directory, "model.safetensors");
    int fd = open(path, O_CREAT | O_RDWR | O_TRUNC, 0600);
    bool ok = fd >= 0 && pwrite(fd, header, header_bytes, 0) == (ssize_t)header_bytes &&
              ftruncate(fd, (off_t)(header_bytes + out.size_bytes)) == 0;
    for (int64_t row = 0; ok && row < MARK_ROWS; row++)
        for (int64_t part = PARTS - 2; ok && part < PARTS; part++) {
            for (int64_t j = 0; j < OUT; j++)
                values[j] = element(part, row * 1000, j);
            ok = put_row(fd, (off_t)header_bytes, part, row * 1000, values);
        }
    /* what nobody asks for: NaNs around the part, and in the other half of its rows */
    for (int64_t j = 0; j < OUT; j++)
        values[j] = 0x7fc0;
    ok = ok && put_row(fd, (off_t)header_bytes, PARTS - 3, IN - 1, values);
    for (int64_t j = OUT / 2; j < OUT; j++)
        values[j] = 0;
    ok = ok && put_row(fd, (off_t)header_bytes, PARTS - 1, 5, values);
    return fd >= 0 && close(fd) == 0 && ok;
}

static large *begin_large(void)
{
    large *l = calloc(1, sizeof *l);
    if (!l)
        return NULL;
    snprintf(l->directory, sizeof l->directory, "qc-test-large-XXXXXX");
    qc_arena_init(&l->arena, NULL);
    qc_diag_init(&l->diag, &l->arena, keep_message, &l->m);
    l->ctx = qc_ctx_create(NULL, keep_message, &l->m);
    if (mkdtemp(l->directory) && write_large(l))
        return l;
    qc_remove_tree(&l->diag, l->directory);
    qc_ctx_destroy(l->ctx);
    qc_arena_fini(&l->arena);
    free(l);
    return NULL;
}

static void end_large(large *l)
{
    qc_weights_close(l->weights);
    if (l->module)
        qc_module_destroy(l->module);
    qc_ctx_destroy(l->ctx);
    CHECK_INT(qc_remove_tree(&l->diag, l->directory), QC_OK);
    qc_arena_fini(&l->arena);
    free(l);
}

static qc_weight_stream *open_large(large *l, const char *type, const char *body)
{
    const char *text = qc_arena_printf(
        &l->arena, "qc 1\nmodule \"\" Root\nfunc @main() -> %s {\n%s  return %%y\n}\n", type, body);
    qc_weights_close(l->weights);
    if (l->module)
        qc_module_destroy(l->module);
    l->module = qc_module_parse(l->ctx, "large", text, strlen(text));
    l->weights = l->module ? qc_weights_open(l->ctx, l->module, l->directory) : NULL;
    qc_weight_stream *s =
        l->weights ? qc_weight_stream_open(l->weights, qc_func_result(qc_module_func(l->module, "main"), 0))
                   : NULL;
    if (!s)
        printf("# %s\n", l->m.last);
    CHECK(s != NULL);
    return s;
}

/* Rows of one part, of half of its columns and of every second row are read and nothing else: NaNs lie beside them. */
static void test_parts(void)
{
    static uint16_t rows[2 * OUT];
    large *l = begin_large();
    if (!l)
        SKIP("no large file can be made here");
    qc_weight_stream *s =
        open_large(l, "bf16[4096, 16384]", "  %y = weight \"all\" {index = 14} : bf16[4096, 16384]\n");
    if (s) {
        CHECK_INT(qc_weight_stream_bytes(s), 0);
        CHECK_INT(qc_weight_stream_rows(s), IN);
        CHECK_INT(qc_weight_stream_read(s, 1000, 2, rows), QC_OK);
        for (int64_t j = 0; j < OUT; j++)
            CHECK_INT(rows[j], element(14, 1000, j));
        CHECK_INT(rows[OUT + 17], 0);
        qc_weight_needs needs =
            qc_weights_needs(l->weights, qc_func_result(qc_module_func(l->module, "main"), 0), 1);
        CHECK_INT(needs.whole_bytes, 0);
        CHECK(needs.chunk_bytes < (8u << 20));
        CHECK_INT(qc_weights_read_ahead(l->weights, qc_func_result(qc_module_func(l->module, "main"), 0)),
            (int64_t)IN * OUT * 2);
    }
    qc_weight_stream_close(s);
    s = open_large(l, "bf16[4096, 8192]",
        "  %w = weight \"all\" {index = 15} : bf16[4096, 16384]\n"
        "  %y = slice %w {axis = 1, start = 8192, stop = 16384} : bf16[4096, 8192]\n");
    if (s) { /* row 5 is NaN in its first half */
        CHECK_INT(qc_weight_stream_read(s, 2000, 1, rows), QC_OK);
        for (int64_t j = 0; j < OUT / 2; j++)
            CHECK_INT(rows[j], element(15, 2000, OUT / 2 + j));
        CHECK_INT(qc_weight_stream_read(s, 4, 3, rows), QC_OK);
    }
    qc_weight_stream_close(s);
    s = open_large(l, "bf16[2048, 16384]",
        "  %w = weight \"all\" {index = 14} : bf16[4096, 16384]\n"
        "  %y = slice %w {axis = 0, start = 0, step = 2, stop = 4096} : bf16[2048, 16384]\n");
    if (s) {
        CHECK_INT(qc_weight_stream_bytes(s), 0);
        CHECK_INT(qc_weight_stream_read(s, 499, 2, rows), QC_OK);
        for (int64_t j = 0; j < OUT; j++)
            CHECK_INT(rows[OUT + j], element(14, 1000, j));
    }
    qc_weight_stream_close(s);
    end_large(l);
}

/* A part turned over takes the memory of what is asked for, not that of the part; NaNs in it are named. */
static void test_turned(void)
{
    static uint16_t row[2 * IN];
    large *l = begin_large();
    if (!l)
        SKIP("no large file can be made here");
    const char *body = "  %w = weight \"all\" {index = 14} : bf16[4096, 16384]\n"
                       "  %h = slice %w {axis = 1, start = 1, step = 2, stop = 1024} : bf16[4096, 512]\n"
                       "  %y = transpose %h {perm = [1, 0]} : bf16[512, 4096]\n";
    qc_weight_stream *s = open_large(l, "bf16[512, 4096]", body);
    if (s) {
        CHECK_INT(qc_weight_stream_bytes(s), 512 * IN * 2);
        qc_weight_needs needs =
            qc_weights_needs(l->weights, qc_func_result(qc_module_func(l->module, "main"), 0), 1);
        CHECK_INT(needs.whole_bytes, 512 * IN * 2);
        CHECK_INT(qc_weight_stream_read(s, 100, 2, row), QC_OK);
        for (int64_t i = 0; i < IN; i++)
            CHECK_INT(row[i], i % 1000 == 0 && i < 1000 * MARK_ROWS ? element(14, i, 201) : 0);
    }
    qc_weight_stream_close(s);
    const char *text = "qc 1\nmodule \"\" Root\nfunc @main() -> bf16[16384, 4096] {\n"
                       "  %w = weight \"all\" {index = 15} : bf16[4096, 16384]\n"
                       "  %y = transpose %w {perm = [1, 0]} : bf16[16384, 4096]\n  return %y\n}\n";
    qc_module *module = qc_module_parse(l->ctx, "large", text, strlen(text));
    qc_weights *weights = module ? qc_weights_open(l->ctx, module, l->directory) : NULL;
    CHECK(weights && !qc_weight_stream_open(weights, qc_func_result(qc_module_func(module, "main"), 0)));
    CHECK(said(&l->m, "all: holds a NaN or an infinity (element "));
    CHECK(said(&l->m, qc_arena_printf(&l->arena, "%lld", (long long)((int64_t)15 * IN + 5) * OUT)));
    qc_weights_close(weights);
    qc_module_destroy(module);
    end_large(l);
}

/* ---- coded experts ------------------------------------------------------------------------------------- */

/* Part 1 of gpt-oss's blocks of MXFP4, and an expert of DeepSeek's blocks of FP8: nothing of them is held whole. */
static void test_coded(void)
{
    static const int64_t blocks[] = {2, 4, 1, 16}, exponents[] = {2, 4, 1}, codes[] = {5, 6},
                         scales[] = {3, 2};
    static const float scale_values[] = {1, 2, 4, 8, 16, 32};
    uint8_t bytes[128], exponent_bytes[8], code_bytes[30];
    for (int i = 0; i < 128; i++)
        bytes[i] = (uint8_t)(i * 37);
    for (int i = 0; i < 8; i++)
        exponent_bytes[i] = (uint8_t)(125 + i);
    for (int i = 0; i < 30; i++)
        code_bytes[i] = (uint8_t)(0x30 + i);
    static const char *const bodies[][2] = {
        {"bf16[2, 32]", "  %b = weight \"b\" {index = 1} : u8[4, 1, 16]\n  %r = reshape %b : u8[4, 16]\n"
                        "  %c = unpack %r {axis = 1} : f4e2m1[4, 32]\n"
                        "  %e = weight \"e\" {index = 1} : u8[4, 1]\n  %s = unpack %e : f8e8m0[4, 1]\n"
                        "  %w = dequantize %c, %s {group = 32, to = bf16}\n"
                        "  %y = slice %w {axis = 0, start = 1, step = 2, stop = 4}\n"},
        {"f32[5, 6]", "  %c = weight \"c\" : f8e4m3[5, 6]\n  %s = weight \"s\" : f32[3, 2]\n"
                      "  %y = dequantize %c, %s {block = [2, 4], to = f32}\n"}};
    static const float fp4[] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
    char directory[] = "qc-test-coded-XXXXXX";
    messages m = {0};
    qc_arena arena;
    qc_diag diag;
    if (!mkdtemp(directory))
        SKIP("no directory can be made here");
    qc_arena_init(&arena, NULL);
    qc_diag_init(&diag, &arena, keep_message, &m);
    qc_ctx *ctx = qc_ctx_create(NULL, keep_message, &m);
    qc_st_out outs[] = {{.name = "b", .dtype = "U8", .rank = 4, .shape = blocks, .user = bytes},
        {.name = "e", .dtype = "U8", .rank = 3, .shape = exponents, .user = exponent_bytes},
        {.name = "c", .dtype = "F8_E4M3", .rank = 2, .shape = codes, .user = code_bytes},
        {.name = "s", .dtype = "F32", .rank = 2, .shape = scales, .user = (void *)(uintptr_t)scale_values}};
    CHECK(write_shard(&diag, &arena, directory, outs, 4));
    for (size_t i = 0; i < 2; i++) {
        const char *text = qc_arena_printf(
            &arena, "qc 1\nfunc @main() -> %s {\n%s  return %%y\n}\n", bodies[i][0], bodies[i][1]);
        qc_module *module = qc_module_parse(ctx, "coded", text, strlen(text));
        qc_weights *weights = module ? qc_weights_open(ctx, module, directory) : NULL;
        const qc_value *value = module ? qc_func_result(qc_module_func(module, "main"), 0) : NULL;
        qc_weight_stream *s = weights ? qc_weight_stream_open(weights, value) : NULL;
        uint16_t row[32] = {0};
        float real[30] = {0};
        if (!s || qc_weight_stream_read(s, i ? 0 : 1, i ? 5 : 1, i ? (void *)real : row) != QC_OK)
            CHECK_FAIL("%s", m.last);
        CHECK(s && qc_weight_stream_bytes(s) == 0);
        CHECK(weights && qc_weights_needs(weights, value, 1).whole_bytes == 0);
        for (int j = 0; j < 32 && i == 0; j++) { /* row 3 of part 1 */
            unsigned code = bytes[112 + j / 2] >> (j % 2 * 4) & 15u;
            float expected = fp4[code & 7] * (code & 8 ? -1.0f : 1.0f) * 32.0f; /* 2^(132 - 127) */
            CHECK_NEAR(qc_bf16_to_f32(row[j]), expected, 0);
        }
        for (int j = 0; j < 30 && i == 1; j++)
            CHECK_NEAR(real[j], qc_f8e4m3_to_f32(code_bytes[j]) * scale_values[j / 12 * 2 + j % 6 / 4], 0);
        qc_weight_stream_close(s);
        qc_weights_close(weights);
        if (module)
            qc_module_destroy(module);
    }
    qc_ctx_destroy(ctx);
    CHECK_INT(qc_remove_tree(&diag, directory), QC_OK);
    qc_arena_fini(&arena);
}

/* ---- what is not there --------------------------------------------------------------------------------- */

static void test_refusals(void)
{
    static const char *const cases[][3] = {
        {"bf16[2]", "weight \"b\" {index = 3} : bf16[2]", "has 3 parts"},
        {"bf16[3]", "weight \"b\" {index = 0} : bf16[3]", "has another shape"},
        {"bf16[2]", "weight \"s\" {index = 0} : bf16[2]", "has another shape"},
        {"bf16[3, 2]", "expert_weight \"a.{e}\" : bf16[3, 2]", "there is no tensor a.2"},
        {"bf16[2, 3]", "expert_weight \"a.{e}\" : bf16[2, 3]", "has another shape"},
        {"f16[2, 2]", "expert_weight \"a.{e}\" : f16[2, 2]",
            "is stored as BF16, which does not convert exactly"},
        {"bf16[2, 2]", "expert_weight \"n.{e}\" : bf16[2, 2]", "n.1: holds a NaN or an infinity (element 1)"},
    };
    static const int64_t three_two[] = {3, 2}, two[] = {2};
    static const uint16_t numbers[] = {0x3f80, 0x4000, 0x4040, 0x4080, 0x40a0, 0x40c0}, bad[] = {0, 0x7f80};
    char directory[] = "qc-test-refusals-XXXXXX";
    messages m = {0};
    qc_arena arena;
    qc_diag diag;
    if (!mkdtemp(directory))
        SKIP("no directory can be made here");
    qc_arena_init(&arena, NULL);
    qc_diag_init(&diag, &arena, keep_message, &m);
    qc_ctx *ctx = qc_ctx_create(NULL, keep_message, &m);
    void *data = (void *)(uintptr_t)numbers;
    qc_st_out outs[] = {{.name = "b", .dtype = "BF16", .rank = 2, .shape = three_two, .user = data},
        {.name = "s", .dtype = "BF16", .rank = 0, .user = data},
        {.name = "a.0", .dtype = "BF16", .rank = 1, .shape = two, .user = data},
        {.name = "a.1", .dtype = "BF16", .rank = 1, .shape = two, .user = data},
        {.name = "n.0", .dtype = "BF16", .rank = 1, .shape = two, .user = data},
        {.name = "n.1", .dtype = "BF16", .rank = 1, .shape = two, .user = (void *)(uintptr_t)bad}};
    CHECK(write_shard(&diag, &arena, directory, outs, 6));
    for (size_t i = 0; i <= sizeof cases / sizeof *cases; i++) {
        bool good = i == sizeof cases / sizeof *cases; /* a number that is stored as [] */
        const char *text = qc_arena_printf(&arena,
            "qc 1\nmodule \"\" Root\nfunc @main() -> %s {\n  %%y = %s\n  return %%y\n}\n",
            good ? "f32[1]" : cases[i][0], good ? "weight \"s\" : f32[1]" : cases[i][1]);
        qc_module *module = qc_module_parse(ctx, "refused", text, strlen(text));
        qc_weights *weights = module ? qc_weights_open(ctx, module, directory) : NULL;
        float buffer[8] = {0};
        CHECK(weights && qc_weights_evaluate(weights, qc_func_result(qc_module_func(module, "main"), 0),
                             buffer) == (good ? QC_OK : QC_ERROR));
        CHECK(good ? buffer[0] == 1.0f : said(&m, cases[i][2]));
        qc_weights_close(weights);
        if (module)
            qc_module_destroy(module);
    }
    qc_ctx_destroy(ctx);
    CHECK_INT(qc_remove_tree(&diag, directory), QC_OK);
    qc_arena_fini(&arena);
}

int main(void)
{
    RUN(test_expressions);
    RUN(test_parts);
    RUN(test_turned);
    RUN(test_coded);
    RUN(test_refusals);
    return check_done();
}
