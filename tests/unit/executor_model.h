/* SPDX-License-Identifier: MIT
 *
 * executor_model.h - what the tests of executors share: models of the test data with their goldens, runs of all their rows,
 * and how far two sets of logits are apart.
 */
#ifndef QC_TESTS_EXECUTOR_MODEL_H
#define QC_TESTS_EXECUTOR_MODEL_H

#include <unistd.h>

#include "frontends/hf/hf.h"
#include "ir/ctx.h"
#include "ir/dtype/codec.h"
#include "ir/support/io.h"
#include "ir/support/safetensors.h"
#include "passes/manager.h"
#include "runtime/executor.h"
#include "tests/unit/check.h"
#include "tests/unit/host_util.h"
#include "tests/unit/messages.h"
#include "tests/unit/shard.h"

typedef struct model {
    messages said;
    qc_ctx *ctx;
    qc_module *module;
    qc_executor *executor;
    qc_st_set golden;
    int32_t *ids;
    size_t rows, columns;
    char directory[40]; /* a checkpoint of the test's own; "" none */
} model;

/* NULL where the model is not at hand: of those with "moe_models/" and stories260k all are, of others those below QC_DATA. */
static const char *data_path(model *m, const char *name)
{
    const char *data = getenv("QC_DATA"), *root = getenv("QC_SOURCE_ROOT");
    if (strcmp(name, "stories260k") == 0 || strncmp(name, "moe_models/", 11) == 0)
        return qc_path_join(qc_ctx_arena(m->ctx), root ? root : ".",
            qc_arena_printf(qc_ctx_arena(m->ctx), "tests/data/%s", name));
    return data ? qc_arena_printf(qc_ctx_arena(m->ctx), "%s/models/%s", data, name) : NULL;
}

static void begin(model *m)
{
    *m = (model){0};
    m->ctx = qc_ctx_create(NULL, keep_message, &m->said);
}

static bool load(model *m, int threads, qc_backend backend)
{
    qc_executor_destroy(m->executor);
    m->executor = m->module ? qc_executor_create(m->ctx, m->module,
                                  &(qc_executor_options){.backend = backend, .threads = threads})
                            : NULL;
    if (!m->executor)
        CHECK_FAIL("%s", m->said.last);
    return m->executor != NULL;
}

/* False where the model is not at hand. */
static bool open_model(model *m, const char *name, qc_dtype dtype)
{
    qc_hf_options options = {.dtype = dtype, .dequantize = strstr(name, "_fp8") != NULL};
    begin(m);
    const char *directory = data_path(m, name);
    if (!directory)
        return false;
    m->module = qc_hf_import(m->ctx, directory, &options);
    const char *golden = qc_path_join(qc_ctx_arena(m->ctx), directory, "golden.safetensors");
    if (!m->module ||
        qc_st_open_file(qc_ctx_diag(m->ctx), qc_ctx_arena(m->ctx), golden, &m->golden) != QC_OK) {
        CHECK_FAIL("%s", m->said.last);
        return true;
    }
    const qc_st_tensor *ids = qc_st_find(&m->golden, "input_ids");
    m->rows = (size_t)ids->shape[0];
    m->columns = (size_t)ids->shape[1];
    int64_t *wide = malloc((size_t)ids->size_bytes);
    m->ids = malloc(m->rows * m->columns * sizeof *m->ids);
    CHECK_INT(qc_st_read(qc_ctx_diag(m->ctx), &m->golden, ids, wide), QC_OK);
    for (size_t i = 0; i < m->rows * m->columns; i++)
        m->ids[i] = (int32_t)wide[i];
    free(wide);
    return true;
}

static void end(model *m)
{
    qc_executor_destroy(m->executor);
    if (m->module)
        qc_module_destroy(m->module);
    if (m->golden.file_count)
        qc_st_close(&m->golden);
    if (m->directory[0])
        CHECK_INT(qc_remove_tree(qc_ctx_diag(m->ctx), m->directory), QC_OK);
    qc_ctx_destroy(m->ctx);
    free(m->ids);
}

static float *golden_values(model *m, const char *name)
{
    const qc_st_tensor *t = qc_st_find(&m->golden, name);
    void *bytes = malloc((size_t)t->size_bytes);
    qc_dtype dtype = qc_dtype_from_safetensors_name(t->dtype);
    size_t count = (size_t)t->size_bytes * 8 / (size_t)qc_dtype_bits(dtype);
    float *values = malloc(count * sizeof *values);
    CHECK_INT(qc_st_read(qc_ctx_diag(m->ctx), &m->golden, t, bytes), QC_OK);
    qc_decode_f32(dtype, bytes, values, count);
    free(bytes);
    return values;
}

/* ---- running ------------------------------------------------------------------------------------------- */

typedef struct collected {
    float *logits;
    size_t row_elems, next; /* of one sequence; sequences so far */
} collected;

static qc_status collect(void *user, size_t index, const float *logits)
{
    collected *c = user;
    CHECK_INT(index, c->next);
    c->next++;
    memcpy(c->logits + index * c->row_elems, logits, c->row_elems * sizeof *logits);
    return QC_OK;
}

/* Logits of all rows of ids, `repeat` times over. */
static float *run_all(model *m, size_t repeat)
{
    size_t vocabulary = (size_t)qc_executor_vocabulary(m->executor), count = m->rows * repeat;
    qc_sequence *sequences = calloc(count, sizeof *sequences);
    collected c = {.row_elems = m->columns * vocabulary};
    c.logits = calloc(count * c.row_elems, sizeof(float));
    for (size_t i = 0; i < count; i++)
        sequences[i] = (qc_sequence){m->ids + i % m->rows * m->columns, m->columns};
    if (qc_executor_run_many(m->executor, sequences, count, collect, &c, NULL, NULL) != QC_OK)
        CHECK_FAIL("%s", m->said.last);
    CHECK_INT(c.next, count);
    free(sequences);
    return c.logits;
}

typedef struct difference {
    double mean, max, range; /* of |a - b|; range: of b */
} difference;

static difference compare(const float *a, const float *b, size_t count)
{
    difference d = {0};
    float low = b[0], high = b[0];
    for (size_t i = 0; i < count; i++) {
        double error = fabs((double)a[i] - (double)b[i]);
        d.mean += error / (double)count;
        d.max = error > d.max || error != error ? error : d.max;
        low = b[i] < low ? b[i] : low;
        high = b[i] > high ? b[i] : high;
    }
    d.range = (double)high - (double)low;
    return d;
}

/* ---- functions as text --------------------------------------------------------------------------------- */

static inline bool parse(model *m, const char *text)
{
    m->module = qc_module_parse(m->ctx, "test", text, strlen(text));
    if (!m->module || qc_module_verify(m->module, NULL) != QC_OK) {
        CHECK_FAIL("%s", m->said.last);
        return false;
    }
    if (m->directory[0])
        qc_module_set_source(m->module, m->directory);
    return true;
}

static inline void take_ids(model *m, size_t rows, size_t columns, int32_t vocabulary)
{
    m->rows = rows;
    m->columns = columns;
    m->ids = malloc(rows * columns * sizeof *m->ids);
    for (size_t i = 0; i < rows * columns; i++)
        m->ids[i] = (int32_t)(i * 7 % (size_t)vocabulary);
}

/* A function of ids [B, S] to %y, TYPE = D[B, S, 32], where D is dtype: %w0 is the checkpoint's table [40, 32], %w the same in D,
 * %x its rows at the ids. */
static inline char *fill_in(model *m, const char *body, const char *dtype)
{
    qc_str s;
    qc_str_init(&s, qc_ctx_arena(m->ctx));
    qc_str_addf(&s,
        "qc 1\ndim B, S, P\nmodule \"\" Root\n"
        "scheme @d {arith = ct_cpu, input = {dynamic, granularity = token, symmetric, type = f8e4m3}, "
        "targets = [\"a\"], weights = {granularity = channel, symmetric, type = f8e4m3}}\n"
        "scheme @t {arith = ct_cpu, input = {dynamic, granularity = tensor, symmetric, type = i8}, targets = "
        "[\"a\"]}\n"
        "scheme @asym {arith = ct_cpu, input = {dynamic, granularity = token, type = i8}, targets = "
        "[\"a\"]}\n"
        "scheme @four {arith = ct_cpu, input = {dynamic, granularity = group, group = 5, type = i4}, targets "
        "= [\"a\"], "
        "weights = {granularity = group, group = 8, observer = memoryless_mse, type = i4}}\n"
        "scheme @mx {arith = ct_cpu, input = {dynamic, granularity = group, group = 32, scale = f8e8m0, "
        "symmetric, type = "
        "f4e2m1}, targets = [\"a\"], weights = {block = [16, 24], granularity = block, symmetric, type = "
        "f8e4m3}}\n"
        "scheme @nv {arith = ct_cpu, input = {dynamic, global, granularity = group, group = 16, scale = "
        "f8e4m3, symmetric, "
        "type = f4e2m1}, targets = [\"a\"], weights = {global, granularity = group, group = 16, scale = "
        "f8e4m3, "
        "symmetric, type = f4e2m1}}\n"
        "scheme @whole {arith = ct_cpu, input = {dynamic, granularity = tensor, type = i8}, targets = "
        "[\"a\"]}\n"
        "scheme @searched {arith = ct_cpu, input = {dynamic, global, granularity = group, group = 16, scale "
        "= "
        "f8e4m3, scale_max = 256.0, search = mse, symmetric, type = f4e2m1}, targets = [\"a\"]}\n"
        "scheme @four_six {arith = ct_cpu, input = {dynamic, global, granularity = group, group = 16, scale "
        "= "
        "f8e4m3, scale_max = 256.0, search = four_six, symmetric, type = f4e2m1}, targets = [\"a\"]}\n"
        "func @main(%%ids: i64[B, S]) -> %s[B, S, 32] {\n"
        "  at \"\" {\n  %%w0 = weight \"table\" : bf16[40, 32]\n  %%w = cast %%w0 {to = %s} : %s[40, 32]\n"
        "  %%x = embedding %%ids, %%w : %s[B, S, 32]\n  ",
        dtype, dtype, dtype, dtype);
    for (const char *at = body; *at;) {
        if (strncmp(at, "TYPE", 4) == 0) {
            qc_str_addf(&s, "%s[B, S, 32]", dtype);
            at += 4;
        } else if (*at == 'D' && (at[1] == '[' || at[1] == ',' || at[1] == '}')) {
            qc_str_add(&s, dtype);
            at++;
        } else {
            qc_str_add_char(&s, *at++);
        }
    }
    qc_str_add(&s, "\n  }\n  return %y\n}\n");
    char *text = qc_arena_strdup(qc_ctx_arena(m->ctx), s.data);
    qc_str_fini(&s);
    return text;
}

#endif
