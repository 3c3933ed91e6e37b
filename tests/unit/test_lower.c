/* SPDX-License-Identifier: MIT
 *
 * test_lower.c - the lowered form means what it was made of: for every type of codes and granularity the
 * reference gives the same bits before and after, over calls of several lengths; the host, which executes the
 * lowered form out of pages, gives what the reference gives to rounding, and the same bits for every layout and
 * size of page. And what pages take.
 */
#include "tests/unit/check.h"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backends/reference/reference.h"
#include "ir/ctx.h"
#include "ir/dtype/codec.h"
#include "ir/support/io.h"
#include "ir/support/safetensors.h"
#include "passes/lower.h"
#include "passes/manager.h"
#include "runtime/executor.h"
#include "runtime/executor_work.h"
#include "runtime/kv_cache.h"
#include "runtime/pages.h"
#include "tests/unit/host_util.h"
#include "tests/unit/messages.h"
#include "tests/unit/shard.h"

enum { ROWS = 40, COLUMNS = 64, TOKENS = 37 };

typedef struct fixture {
    messages said;
    qc_ctx *ctx;
    qc_module *module;
    char directory[40];
    int32_t ids[TOKENS];
    qc_tensor table;
} fixture;

static bool write_table(fixture *f)
{
    qc_arena *arena = qc_ctx_arena(f->ctx);
    qc_diag *diag = qc_ctx_diag(f->ctx);
    int64_t shape[2] = {ROWS, COLUMNS};
    qc_st_out out = {.name = "table", .dtype = "BF16", .rank = 2, .shape = shape};
    snprintf(f->directory, sizeof f->directory, "qc-test-lower-XXXXXX");
    if (!mkdtemp(f->directory) || qc_tensor_create(diag, "table", QC_BF16, 2, shape, &f->table) != QC_OK)
        return false;
    void *values = random_values(7, ROWS * COLUMNS, QC_BF16, 0.5);
    memcpy(f->table.data, values, ROWS * COLUMNS * 2);
    free(values);
    out.user = f->table.data;
    return write_shard(diag, arena, f->directory, &out, 1);
}

static bool begin(fixture *f)
{
    *f = (fixture){0};
    f->ctx = qc_ctx_create(NULL, keep_message, &f->said);
    for (size_t i = 0; i < TOKENS; i++)
        f->ids[i] = (int32_t)(i * 7 % ROWS);
    return write_table(f);
}

static void end(fixture *f)
{
    if (f->module)
        qc_module_destroy(f->module);
    if (f->directory[0])
        CHECK_INT(qc_remove_tree(qc_ctx_diag(f->ctx), f->directory), QC_OK);
    qc_tensor_free(&f->table);
    qc_ctx_destroy(f->ctx);
}

/* Two query heads on each of two key heads of 16; values of about 8, so that codes under a scale of 1 say
 * something. %s: the element type. */
static const char model_text[] =
    "qc 1\ndim B, P, S\nmodule \"\" Root\nmodule \"attn\" TinyAttention\n"
    "func @main(%%ids: i64[B, S]) -> %s[B, S, 64] {\n"
    "  %%pos = positions %%ids : i64[B, S]\n"
    "  at \"attn\" {\n"
    "    %%w0 = weight \"table\" : bf16[40, 64]\n    %%w = cast %%w0 {to = %s} : %s[40, 64]\n"
    "    %%e = embedding %%ids, %%w : %s[B, S, 64]\n    %%c = const [16.0] : %s[1]\n"
    "    %%x = mul %%e, %%c : %s[B, S, 64]\n"
    "    %%q0 = split_heads %%x {heads = 4} : %s[B, 4, S, 16]\n"
    "    %%q = rope %%q0, %%pos {tables = %s, theta = 10000.0} : %s[B, 4, S, 16]\n"
    "    %%k0 = slice %%x {axis = 2, start = 3, stop = 35} : %s[B, S, 32]\n"
    "    %%k1 = split_heads %%k0 {heads = 2} : %s[B, 2, S, 16]\n"
    "    %%k2 = rope %%k1, %%pos {tables = %s, theta = 10000.0} : %s[B, 2, S, 16]\n"
    "    %%k = cache_append %%k2 {slot = k} : %s[B, 2, P + S, 16]\n"
    "    %%v0 = slice %%x {axis = 2, start = 30, stop = 62} : %s[B, S, 32]\n"
    "    %%v1 = split_heads %%v0 {heads = 2} : %s[B, 2, S, 16]\n"
    "    %%v = cache_append %%v1 {slot = v} : %s[B, 2, P + S, 16]\n"
    "    %%o = attention %%q, %%k, %%v {causal, probs = %s, scale = 0.005, scores = %s, softmax = f32%s} : "
    "%s[B, 4, S, 16]\n"
    "    %%m = merge_heads %%o : %s[B, S, 64]\n  }\n  return %%m\n}\n";

static bool parse(fixture *f, const char *text)
{
    f->module = qc_module_parse(f->ctx, "test", text, strlen(text));
    if (!f->module || qc_module_verify(f->module, NULL) != QC_OK) {
        CHECK_FAIL("%s", f->said.last);
        return false;
    }
    qc_module_set_source(f->module, f->directory);
    return true;
}

static bool parse_model(fixture *f, const char *d, const char *window)
{
    return parse(f, qc_arena_printf(qc_ctx_arena(f->ctx), model_text, d, d, d, d, d, d, d, d, d, d, d, d, d,
                        d, d, d, d, d, d, window, d, d));
}

static bool apply(fixture *f, qc_module *module, const char *pipeline_text)
{
    qc_registry *registry = qc_registry_create(f->ctx, NULL);
    qc_pipeline *pipeline = qc_pipeline_create(registry);
    qc_run_settings settings = {0};
    bool ok = qc_pipeline_parse(pipeline, "test", pipeline_text) == QC_OK &&
              qc_pipeline_run(pipeline, module, &settings) == QC_OK;
    if (!ok)
        CHECK_FAIL("%s: %s", pipeline_text, f->said.last);
    qc_registry_destroy(registry);
    return ok;
}

/* ---- running ------------------------------------------------------------------------------------------- */

static const size_t chunkings[][6] = {{TOKENS}, {5, 1, 1, 13, 1, 16}};

static qc_status give_table(void *user, qc_diag *diag, const char *name, qc_tensor *stored)
{
    (void)diag, (void)name;
    *stored = ((fixture *)user)->table;
    return QC_OK;
}

static float *by_reference(fixture *f, qc_module *module, const size_t *chunks)
{
    qc_reference *reference =
        qc_reference_create(module, &(qc_reference_options){.user = f, .weight = give_table});
    float *all = calloc(TOKENS * COLUMNS, sizeof *all);
    for (size_t at = 0, i = 0; at < TOKENS; at += chunks[i++]) {
        int64_t dims[2] = {1, (int64_t)chunks[i]};
        qc_tensor ids, output;
        if (qc_tensor_create(qc_ctx_diag(f->ctx), "ids", QC_I64, 2, dims, &ids) != QC_OK)
            break;
        for (size_t k = 0; k < chunks[i]; k++)
            ((int64_t *)ids.data)[k] = f->ids[at + k];
        qc_status status = qc_reference_run(reference, qc_module_func(module, "main"), &ids, 1, &output);
        qc_tensor_free(&ids);
        if (status != QC_OK) {
            CHECK_FAIL("%s", f->said.last);
            break;
        }
        qc_tensor_read(&output, 0, output.count, all + at * COLUMNS);
        qc_tensor_free(&output);
    }
    qc_reference_destroy(reference);
    return all;
}

static float *by_host(fixture *f, qc_module *module, const size_t *chunks, int threads, int64_t *bytes)
{
    qc_executor *e = qc_executor_create(f->ctx, module, &(qc_executor_options){.threads = threads});
    qc_session *s = e ? qc_session_create(e, TOKENS) : NULL;
    float *all = calloc(TOKENS * COLUMNS, sizeof *all);
    if (!s)
        CHECK_FAIL("%s", f->said.last);
    for (size_t at = 0, i = 0; s && at < TOKENS; at += chunks[i++])
        if (qc_session_run(s, f->ids + at, chunks[i], false, all + at * COLUMNS) != QC_OK) {
            CHECK_FAIL("%s", f->said.last);
            break;
        }
    *bytes = e ? qc_executor_cache_bytes_per_token(e) : 0;
    qc_session_destroy(s);
    qc_executor_destroy(e);
    return all;
}

static qc_status keep(void *user, size_t index, const float *logits)
{
    (void)index;
    memcpy(user, logits, TOKENS * COLUMNS * sizeof *logits);
    return QC_OK;
}

/* Without anything kept. */
static float *at_once(fixture *f, qc_module *module)
{
    qc_executor *e = qc_executor_create(f->ctx, module, NULL);
    float *all = calloc(TOKENS * COLUMNS, sizeof *all);
    qc_sequence sequence = {f->ids, TOKENS};
    if (!e || qc_executor_run_many(e, &sequence, 1, keep, all, NULL, NULL) != QC_OK)
        CHECK_FAIL("%s", f->said.last);
    qc_executor_destroy(e);
    return all;
}

/* After other tokens, taken back: what was kept of them must not show. */
static float *rewound(fixture *f, qc_module *module)
{
    enum { KEPT = TOKENS / 2 };
    qc_executor *e = qc_executor_create(f->ctx, module, NULL);
    qc_session *s = e ? qc_session_create(e, TOKENS) : NULL;
    float *all = calloc(TOKENS * COLUMNS, sizeof *all), *rest = all + KEPT * COLUMNS;
    if (!s || qc_session_run(s, f->ids, KEPT, false, all) != QC_OK ||
        qc_session_run(s, f->ids, TOKENS - KEPT, false, rest) != QC_OK)
        CHECK_FAIL("%s", f->said.last);
    if (s) {
        qc_session_rewind(s, KEPT);
        CHECK_INT(qc_session_length(s), KEPT);
        CHECK_INT(qc_session_run(s, f->ids + KEPT, TOKENS - KEPT, false, rest), QC_OK);
    }
    qc_session_destroy(s);
    qc_executor_destroy(e);
    return all;
}

static bool same(const float *a, const float *b)
{
    return memcmp(a, b, TOKENS * COLUMNS * sizeof *a) == 0;
}

/* The largest difference, in units of the range. */
static double distance(const float *a, const float *b)
{
    double low = b[0], high = b[0], most = 0;
    for (size_t i = 0; i < TOKENS * COLUMNS; i++) {
        double error = fabs((double)a[i] - (double)b[i]);
        most = error > most || error != error ? error : most;
        low = fmin(low, (double)b[i]);
        high = fmax(high, (double)b[i]);
    }
    return most / (high - low);
}

/* ---- types and granularities --------------------------------------------------------------------------- */

/* `bytes`: of the cache for a token, 2 heads of 16 for keys and values. */
static void check_exact(const char *pipeline, const char *dtype, const char *window, int64_t bytes)
{
    static const char *const layouts[] = {"lower-kv-cache{layout=hnd, page=3}", "lower-kv-cache{page=64}",
        "lower-attention,lower-kv-cache{layout=hnd},lower-quant"};
    double tolerance = strcmp(dtype, "f32") == 0 ? 2e-6 : 0.008;
    fixture f;
    if (!begin(&f) || !parse_model(&f, dtype, window) || !apply(&f, f.module, pipeline)) {
        end(&f);
        return;
    }
    qc_module *lowered = qc_module_clone(f.module);
    CHECK(qc_lowered_op(lowered) == NULL);
    apply(&f, lowered, QC_LOWER_PIPELINE);
    CHECK(qc_lowered_op(lowered) != NULL);
    float *first = NULL;
    for (size_t c = 0; c < 2; c++) {
        int64_t stored;
        float *before = by_reference(&f, f.module, chunkings[c]),
              *after = by_reference(&f, lowered, chunkings[c]),
              *host = by_host(&f, f.module, chunkings[c], c ? 1 : 3, &stored);
        if (!same(before, after))
            CHECK_FAIL("%s in %s: lowering changes bits, chunks %zu", pipeline, dtype, c);
        if (!(distance(host, after) <= tolerance))
            CHECK_FAIL(
                "%s in %s: the host differs by %.3g, chunks %zu", pipeline, dtype, distance(host, after), c);
        CHECK_INT(stored, bytes);
        for (size_t l = 0; l < sizeof layouts / sizeof *layouts; l++) {
            qc_module *other = qc_module_clone(f.module);
            apply(&f, other, layouts[l]);
            float *paged = by_host(&f, other, chunkings[c], c ? 3 : 1, &stored);
            if (!same(paged, host))
                CHECK_FAIL("%s in %s: %s changes bits", pipeline, dtype, layouts[l]);
            CHECK_INT(stored, bytes);
            free(paged);
            qc_module_destroy(other);
        }
        free(before), free(after);
        if (c == 0)
            first = host;
        else
            free(host);
    }
    float *whole = at_once(&f, f.module), *again = rewound(&f, f.module);
    if (!same(whole, first))
        CHECK_FAIL("%s in %s: what lies in pages differs from what lies in one piece", pipeline, dtype);
    if (!same(again, first))
        CHECK_FAIL("%s in %s: tokens that were taken back show", pipeline, dtype);
    free(whole), free(again), free(first);
    qc_module_destroy(lowered);
    end(&f);
}

static void check_both(const char *pipeline, int64_t bytes)
{
    check_exact(pipeline, "f32", "", bytes);
    check_exact(pipeline, "bf16", "", bytes);
}

static void test_values(void)
{
    check_exact("dce", "bf16", "", 128);
    check_exact("dce", "f16", ", window = 4", 128);
    check_exact("dce", "f32", "", 256);
}

#define RESOLVED ",resolve-observers{missing=one}"

static void test_static_scales(void)
{
    static const char *const types[] = {"e4m3", "e5m2", "int8", "int4"};
    for (size_t i = 0; i < 4; i++) {
        char pipeline[256];
        for (int head = 0; head < 2; head++) {
            snprintf(pipeline, sizeof pipeline, "quant-kv{type=%s, granularity=%s}" RESOLVED, types[i],
                head ? "head" : "tensor");
            check_both(pipeline, i == 3 ? 32 : 64);
        }
    }
    check_both("quant-kv{type=int8, granularity=channel}" RESOLVED, 64);
    check_both("quant-kv{type=int4, granularity=channel}" RESOLVED, 32);
}

static void test_dynamic_scales(void)
{
    /* in f32 a scale is 4 bytes for each head and of keys and values */
    check_both("quant-kv{type=e4m3, granularity=token}", 64 + 16);
    check_both("quant-kv{type=e5m2, granularity=token}", 64 + 16);
    check_both("quant-kv{type=int8, granularity=token}", 64 + 16);
    check_both("quant-kv{type=int4, granularity=token}", 32 + 16);
    check_both("quant-kv{type=nvfp4}" RESOLVED, 32 + 4);
    check_both("quant-kv{type=nvfp4, search=mse}" RESOLVED, 32 + 4);
}

static void test_attention(void)
{
    check_both("quant-fp8-attn{granularity=head}" RESOLVED, 64);
    check_both("quant-fp8-attn{granularity=token, q=false}", 64 + 16);
    check_both("quant-int8-attn{granularity=channel}" RESOLVED, 64);
    check_exact("quant-int8-attn{granularity=token, v=false}", "f32", "", 32 + 8 + 128);
    check_exact("quant-int8-attn{granularity=token, v=false}", "bf16", "", 32 + 8 + 64);
    check_both("quant-nvfp4-attn" RESOLVED, 32 + 4);
    check_exact("quant-fp8-attn{probs=e4m3}" RESOLVED, "bf16", ", window = 9", 64);
    check_both("quant-int8-attn{granularity=head, probs=int8}" RESOLVED, 64);
}

/* --kv-cache-dtype is the pass, with scales of 1. */
static void test_types_of_the_cache(void)
{
    static const struct {
        const char *name, *pipeline;
    } rows[] = {
        {"nvfp4", "quant-kv{type=nvfp4}" RESOLVED},
        {"fp8_e5m2", "quant-kv{type=e5m2}" RESOLVED},
        {"int4_per_token_head", "quant-kv{type=int4, granularity=token}"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        fixture f;
        if (!begin(&f) || !parse_model(&f, "bf16", "")) {
            end(&f);
            return;
        }
        qc_module *asked = qc_module_clone(f.module);
        int64_t bytes[2];
        const qc_kv_cache_request request = {.dtype = rows[i].name};
        CHECK_INT(qc_kv_cache_apply(asked, "model", &request), QC_OK);
        apply(&f, f.module, rows[i].pipeline);
        float *a = by_host(&f, asked, chunkings[1], 1, &bytes[0]),
              *b = by_host(&f, f.module, chunkings[1], 1, &bytes[1]);
        if (!same(a, b))
            CHECK_FAIL("%s is not %s", rows[i].name, rows[i].pipeline);
        CHECK_INT(bytes[0], bytes[1]);
        free(a), free(b);
        qc_module_destroy(asked);
        end(&f);
    }
}

#include "tests/unit/lower_readers.h"

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--measure") == 0) {
        peak p = measure(argv[2]);
        printf("%lld %ld\n", (long long)p.bytes_a_token, p.kib);
        return 0;
    }
    RUN(test_values);
    RUN(test_static_scales);
    RUN(test_dynamic_scales);
    RUN(test_attention);
    RUN(test_types_of_the_cache);
    RUN(test_readers);
    RUN(test_pages);
    RUN(test_memory_of_codes);
    return check_done();
}
