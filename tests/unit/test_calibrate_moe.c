/* SPDX-License-Identifier: MIT
 *
 * test_calibrate_moe.c - what each expert's down projection reads against what llm-compressor's hooks saw in its
 * linearized models (make_expert_amax.py): the largest absolute value over all tokens, over those that were routed there,
 * and how many those are (QC_DATA); what comes of the trained model's experts that no token reaches.
 */
#include "tests/unit/check.h"

#include <math.h>
#include <stdlib.h>

#include "frontends/hf/hf.h"
#include "frontends/text/dataset.h"
#include "ir/ctx.h"
#include "ir/dtype/codec.h"
#include "ir/experts.h"
#include "ir/support/io.h"
#include "ir/support/safetensors.h"
#include "passes/manager.h"
#include "runtime/calibrate.h"
#include "tests/unit/messages.h"

enum { MOST_EXPERTS = 8 };

typedef struct job {
    messages said;
    qc_ctx *ctx;
    qc_arena arena;
    qc_module *module;
    qc_dataset data;
    qc_stats stats;
    qc_st_set goldens;
} job;

static bool apply(job *j, const char *text)
{
    qc_registry *registry = qc_registry_create(j->ctx, NULL);
    qc_pipeline *pipeline = qc_pipeline_create(registry);
    qc_run_settings settings = {0};
    bool ok = qc_pipeline_parse(pipeline, "test", text) == QC_OK &&
              qc_pipeline_run(pipeline, j->module, &settings) == QC_OK;
    if (!ok)
        CHECK_FAIL("%s", j->said.last);
    qc_registry_destroy(registry);
    return ok;
}

/* The rows of the model's golden. */
static void take_data(job *j, const char *model)
{
    qc_st_set golden;
    const char *path = qc_path_join(&j->arena, model, "golden.safetensors");
    CHECK_INT(qc_st_open_file(qc_ctx_diag(j->ctx), &j->arena, path, &golden), QC_OK);
    const qc_st_tensor *ids = qc_st_find(&golden, "input_ids");
    size_t rows = (size_t)ids->shape[0], columns = (size_t)ids->shape[1];
    int64_t *wide = QC_NEW_ARRAY(&j->arena, int64_t, rows * columns);
    int32_t *narrow = QC_NEW_ARRAY(&j->arena, int32_t, rows * columns);
    CHECK_INT(qc_st_read(qc_ctx_diag(j->ctx), &golden, ids, wide), QC_OK);
    for (size_t i = 0; i < rows * columns; i++)
        narrow[i] = (int32_t)wide[i];
    j->data = (qc_dataset){QC_NEW_ARRAY(&j->arena, qc_token_sequence, rows), rows, rows * columns};
    for (size_t i = 0; i < rows; i++)
        j->data.sequences[i] = (qc_token_sequence){narrow + i * columns, columns, i + 1};
    qc_st_close(&golden);
}

/* "small.NAME": in the tree; else in QC_DATA. */
static bool open_job(job *j, const char *model, const char *mode)
{
    char path[1024], pipeline[512];
    const char *root = getenv("QC_SOURCE_ROOT");
    *j = (job){0};
    if (strncmp(model, "small.", 6) == 0)
        snprintf(path, sizeof path, "%s/tests/data/moe_models/%s", root ? root : ".", model + 6);
    else
        snprintf(path, sizeof path, "%s/models/%s", getenv("QC_DATA"), model);
    j->ctx = qc_ctx_create(NULL, keep_message, &j->said);
    qc_arena_init(&j->arena, NULL);
    qc_stats_init(&j->stats, &j->arena);
    j->module = qc_hf_import(j->ctx, path, &(qc_hf_options){.dtype = QC_BF16});
    if (!j->module) {
        CHECK_FAIL("%s", j->said.last);
        return false;
    }
    take_data(j, path);
    snprintf(pipeline, sizeof pipeline,
        "linearize-moe,quant-linear{scheme=FP8, targets=[\"re:.*experts.*(down_proj|w2)$\"]},"
        "calibrate-all-experts{mode=%s},insert-observers",
        mode);
    return apply(j, pipeline);
}

static void close_job(job *j)
{
    if (j->module)
        qc_module_destroy(j->module);
    qc_ctx_destroy(j->ctx);
    qc_arena_fini(&j->arena);
}

/* The number behind "layers." in a tap. */
static int layer_of(const char *tap)
{
    const char *at = strstr(tap, "layers.");
    return at ? atoi(at + 7) : -1;
}

static size_t read_golden(job *j, const qc_st_set *goldens, const char *name, void *values)
{
    const qc_st_tensor *tensor = qc_st_find(goldens, name);
    if (!tensor || tensor->shape[0] > MOST_EXPERTS ||
        qc_st_read(qc_ctx_diag(j->ctx), goldens, tensor, values) != QC_OK) {
        CHECK_FAIL("there is no %s", name);
        return 0;
    }
    return (size_t)tensor->shape[0];
}

typedef struct tally {
    size_t values, equal, near;
    double largest; /* difference in units of bf16 */
} tally;

static void compare(const char *tap, float ours, float theirs, tally *t)
{
    int a = qc_bf16_from_f32(ours), b = qc_bf16_from_f32(theirs), units = a > b ? a - b : b - a;
    t->values++;
    t->equal += a == b;
    t->near += units <= 2;
    t->largest = fmax(t->largest, units);
    if (units > 2)
        printf("# %s: %g, not %g\n", tap, (double)ours, (double)theirs);
}

static float amax_of(const qc_stats_record *r)
{
    float amax = 0;
    for (size_t i = 0; r && i < r->sequences * r->heads; i++)
        amax = fmaxf(amax, fmaxf(fabsf(r->min[i]), fabsf(r->max[i])));
    return amax;
}

/* All experts of the layer whose down projection this op observes. */
static void compare_layer(
    job *j, const qc_st_set *goldens, const char *model, const char *mode, const qc_op *op, tally *t)
{
    const char *pattern = qc_attr_as_text(qc_op_attr(op, "tap"));
    float theirs[MOST_EXPERTS];
    size_t count = read_golden(
        j, goldens, qc_arena_printf(&j->arena, "%s.%d.%s", model, layer_of(pattern), mode), theirs);
    for (size_t e = 0; e < count; e++) {
        const char *tap = qc_expert_name(&j->arena, pattern, (int64_t)e);
        const qc_stats_record *r = qc_stats_find(&j->stats, tap, QC_STATS_MINMAX);
        if (theirs[e] > 0 && !r)
            CHECK_FAIL("%s was not seen", tap);
        compare(tap, amax_of(r), theirs[e], t);
    }
}

/* Half of the last bit of a sum is not reproducible, so of the tokens whose scores are next to equal one may go elsewhere. */
static void compare_tokens(job *j, const qc_st_set *goldens, const char *model)
{
    for (size_t i = 0; i < j->stats.records.count; i++) {
        const qc_stats_record *r = j->stats.records.entries[i].value;
        int64_t theirs[MOST_EXPERTS];
        if (r->kind != QC_STATS_TOKENS)
            continue;
        const char *name = qc_arena_printf(&j->arena, "%s.%d.tokens", model, layer_of(r->tap));
        size_t count = read_golden(j, goldens, name, theirs);
        CHECK_INT(r->columns, count);
        int64_t ours_of_all = 0, theirs_of_all = 0;
        for (size_t e = 0; e < count; e++) {
            CHECK(llabs(r->routed[e] - theirs[e]) <= 1);
            ours_of_all += r->routed[e];
            theirs_of_all += theirs[e];
        }
        CHECK_INT(ours_of_all, theirs_of_all);
    }
}

static void check_model(const char *model, const char *mode)
{
    job j;
    qc_st_set goldens;
    tally t = {0};
    const char *root = getenv("QC_SOURCE_ROOT");
    if (open_job(&j, model, mode)) {
        const char *path =
            qc_path_join(&j.arena, root ? root : ".", "tests/unit/data/expert_amax.safetensors");
        CHECK_INT(qc_st_open_file(qc_ctx_diag(j.ctx), &j.arena, path, &goldens), QC_OK);
        if (qc_calibrate(j.ctx, j.module, &j.data, &(qc_calibrate_options){.threads = 2}, &j.stats) != QC_OK)
            CHECK_FAIL("%s: %s", model, j.said.last);
        for (const qc_op *op = qc_func_first_op(qc_module_func(j.module, "main")); op; op = qc_op_next(op))
            if (qc_op_is(op, "observe") && qc_op_operand_named(op, "rows"))
                compare_layer(&j, &goldens, model, mode, op, &t);
        if (!strstr(model, "llama4")) /* whose experts are given rows of zeros for all other tokens */
            compare_tokens(&j, &goldens, model);
        qc_st_close(&goldens);
        printf("# %s, %s: of %zu experts %zu equal, %zu within two units of bf16; the largest difference is "
               "%g\n",
            model, mode, t.values, t.equal, t.near, t.largest);
        /* a token whose scores are next to equal may have gone elsewhere, with its values */
        const size_t elsewhere = strcmp(mode, "routed") == 0;
        CHECK(t.values > 0 && t.near + elsewhere >= t.values && 10 * t.equal >= 6 * t.values);
    }
    close_job(&j);
}

static void test_small(void)
{
    static const char *const models[] = {"small.mixtral", "small.qwen2_moe", "small.qwen3_moe",
        "small.llama4", "small.gpt_oss", "small.deepseek_v3", "small.glm4_moe"};
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        check_model(models[i], "all");
        check_model(models[i], "routed");
    }
}

static void test_large(void)
{
    static const char *const models[] = {
        "mixtral", "qwen2_moe", "qwen3_moe", "llama4", "gpt_oss", "deepseek_v3", "glm4_moe", "moe_stories"};
    if (!getenv("QC_DATA"))
        SKIP("QC_DATA does not say where the models are");
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        check_model(models[i], "all");
        check_model(models[i], "routed");
    }
}

int main(void)
{
    RUN(test_small);
    RUN(test_large);
    return check_done();
}
