/* SPDX-License-Identifier: MIT
 *
 * test_calibrate.c - ranges of a forward pass against those that PyTorch's run saw (QC_DATA), against
 * themselves over threads, memory and segments, how they become constants, and every error by its words.
 */
#include "tests/unit/check.h"

#include <math.h>
#include <unistd.h>

#include "frontends/hf/hf.h"
#include "frontends/text/dataset.h"
#include "ir/ctx.h"
#include "ir/dtype/codec.h"
#include "ir/dtype/quantizer.h"
#include "ir/support/io.h"
#include "ir/support/safetensors.h"
#include "passes/manager.h"
#include "runtime/calibrate.h"
#include "runtime/segments.h"
#include "tests/unit/host_util.h"
#include "tests/unit/messages.h"
#include "tests/unit/shard.h"

typedef struct job {
    messages said;
    qc_ctx *ctx;
    qc_arena arena;
    qc_module *module;
    qc_dataset data;
    qc_stats stats;
    bool rotated; /* ranges under R3 too */
} job;

static void begin(job *j)
{
    *j = (job){0};
    j->ctx = qc_ctx_create(NULL, keep_message, &j->said);
    qc_arena_init(&j->arena, NULL);
    qc_stats_init(&j->stats, &j->arena);
}

static void end(job *j)
{
    if (j->module)
        qc_module_destroy(j->module);
    qc_ctx_destroy(j->ctx);
    qc_arena_fini(&j->arena);
}

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

/* The model with that pipeline, and random token sequences of several lengths. */
static bool open_model(job *j, const char *directory, qc_dtype dtype, const char *pipeline)
{
    begin(j);
    j->module = qc_hf_import(j->ctx, directory, &(qc_hf_options){.dtype = dtype});
    if (!j->module)
        CHECK_FAIL("%s", j->said.last);
    return j->module && apply(j, pipeline);
}

static const char *stories(void)
{
    static char path[1024];
    const char *root = getenv("QC_SOURCE_ROOT");
    snprintf(path, sizeof path, "%s/tests/data/stories260k", root ? root : ".");
    return path;
}

static void random_data(job *j, size_t count, size_t longest)
{
    qc_token_sequence *sequences = QC_NEW_ARRAY(&j->arena, qc_token_sequence, count);
    uint32_t seed = 5;
    j->data = (qc_dataset){.sequences = sequences, .count = count};
    for (size_t i = 0; i < count; i++) {
        size_t tokens = longest - i * 7 % (longest - 1);
        int32_t *ids = QC_NEW_ARRAY(&j->arena, int32_t, tokens);
        for (size_t k = 0; k < tokens; k++) {
            seed = seed * 1664525u + 1013904223u;
            ids[k] = (int32_t)(seed >> 16) % 512;
        }
        sequences[i] = (qc_token_sequence){ids, tokens, i + 1};
        j->data.token_count += tokens;
    }
}

static bool calibrate(job *j, int threads, uint64_t max_memory)
{
    qc_calibrate_options options = {
        .threads = threads, .max_memory_bytes = max_memory, .rotated = j->rotated};
    qc_stats_init(&j->stats, &j->arena);
    qc_status status = qc_calibrate(j->ctx, j->module, &j->data, &options, &j->stats);
    if (status != QC_OK)
        CHECK_FAIL("%s", j->said.last);
    return status == QC_OK;
}

static bool same_stats(const qc_stats *a, const qc_stats *b)
{
    bool same = a->records.count == b->records.count && a->records.count > 0;
    for (size_t i = 0; same && i < a->records.count; i++) {
        const qc_stats_record *x = a->records.entries[i].value, *y = qc_stats_find(b, x->tap, x->kind);
        same = y && x->sequences == y->sequences && x->heads == y->heads && x->columns == y->columns &&
               x->tokens == y->tokens;
        size_t bytes = (x->kind == QC_STATS_MINMAX ? x->sequences * x->heads : x->columns) * sizeof(float);
        if (same && x->sums)
            same = memcmp(x->sums, y->sums, x->columns * sizeof *x->sums) == 0;
        else if (same)
            same = memcmp(x->min, y->min, bytes) == 0 && memcmp(x->max, y->max, bytes) == 0;
    }
    return same;
}

/* ---- against PyTorch ----------------------------------------------------------------------------------- */

typedef struct tally {
    size_t values, equal, near; /* near: within a unit of bf16 */
} tally;

static void compare_values(const float *ours, const float *theirs, size_t count, tally *t)
{
    for (size_t i = 0; i < count; i++) {
        uint16_t a = qc_bf16_from_f32(ours[i]), b = qc_bf16_from_f32(theirs[i]);
        t->values++;
        t->equal += a == b;
        t->near += (a > b ? a - b : b - a) <= 1;
    }
}

/* Every tensor `<tap>.min`, `<tap>.max` of the file against the record of that tap. */
static void compare_file(job *j, const char *path, tally *t)
{
    qc_st_set set;
    if (qc_st_open_file(qc_ctx_diag(j->ctx), &j->arena, path, &set) != QC_OK) {
        CHECK_FAIL("%s", j->said.last);
        return;
    }
    for (size_t i = 0; i < set.tensor_count; i++) {
        const qc_st_tensor *tensor = &set.tensors[i];
        size_t length = strlen(tensor->name), count = (size_t)tensor->size_bytes / sizeof(float);
        const qc_stats_record *r =
            qc_stats_find(&j->stats, qc_arena_strndup(&j->arena, tensor->name, length - 4), QC_STATS_MINMAX);
        float *theirs = malloc((size_t)tensor->size_bytes);
        if (!r || r->sequences * r->heads != count)
            CHECK_FAIL("%s has no record of that shape", tensor->name);
        else if (qc_st_read(qc_ctx_diag(j->ctx), &set, tensor, theirs) == QC_OK)
            compare_values(qc_ends_with(tensor->name, ".min") ? r->min : r->max, theirs, count, t);
        free(theirs);
    }
    qc_st_close(&set);
}

/* What llm-compressor's observers saw, row by row: 16 sequences of the model's calib.jsonl. Half of the last bit of a
 * sum is not reproducible (PyTorch differs from itself with another library of products): nearly all values are
 * equal, and all within a unit in the last place of bf16 but few. */
static void check_golden(const char *golden, const char *pipeline, size_t records)
{
    const char *data = getenv("QC_DATA");
    job j;
    tally t = {0};
    if (!data)
        SKIP("QC_DATA does not say where the models are");
    char model[1024], path[1024];
    snprintf(model, sizeof model, "%s/models/grid_llama", data);
    snprintf(path, sizeof path, "%s/goldens/%s/observed/amax.safetensors", data, golden);
    if (!open_model(&j, model, QC_BF16, pipeline))
        return;
    qc_dataset_options options = {.vocabulary = 256};
    char calib[1100];
    snprintf(calib, sizeof calib, "%s/calib.jsonl", model);
    if (qc_dataset_read(qc_ctx_diag(j.ctx), &j.arena, calib, NULL, &options, &j.data) != QC_OK)
        CHECK_FAIL("%s", j.said.last);
    else if (calibrate(&j, 2, 0)) {
        CHECK_INT(j.stats.records.count, records);
        compare_file(&j, path, &t);
        printf("# %s: of %zu values %zu are equal, %zu within a unit of bf16\n", golden, t.values, t.equal,
            t.near);
        CHECK(t.values > 0 && t.near * 1000 >= t.values * 995 && t.equal * 100 >= t.values * 97);
    }
    end(&j);
}

#define INT8_STATIC(observer, symmetric)                                                                     \
    "quant-linear{ignore=[lm_head], weights={type=i8, granularity=channel}, input={type=i8, "                \
    "granularity=tensor, observer=" observer ", " symmetric "}}"

static void test_attention_goldens(void)
{
    check_golden("attn_fp8_head_static", "quant-fp8-attn,insert-observers", 12);
    check_golden("attn_fp8_tensor", "quant-fp8-attn{granularity=tensor},insert-observers", 12);
    check_golden("kv_fp8_tensor", "quant-kv,insert-observers", 8);
}

static void test_linear_goldens(void)
{
    check_golden("fp8_static", "quant-linear{ignore=[lm_head], scheme=FP8},insert-observers", 14);
    check_golden("nvfp4", "quant-linear{ignore=[lm_head], scheme=NVFP4},insert-observers", 14);
    check_golden("int8_static_asym", INT8_STATIC("static_minmax", "symmetric=false") ",insert-observers", 14);
}

/* ---- scales of given statistics ------------------------------------------------------------------------ */

/* The elements of a constant of the IR against a stored tensor, bit for bit. */
static void compare_constant(
    job *j, const qc_st_set *set, const char *name, const qc_value *value, size_t *seen)
{
    const qc_st_tensor *tensor = qc_st_find(set, name);
    const qc_op *op = value ? qc_value_op(value) : NULL;
    if (!value)
        return;
    if (!tensor || !op || !qc_op_is(op, "const")) {
        CHECK_FAIL("%s is not in the golden, or no constant", name);
        return;
    }
    const qc_attr *data = qc_op_attr(op, "value");
    unsigned char *stored = QC_NEW_ARRAY(&j->arena, unsigned char, (size_t)tensor->size_bytes);
    CHECK_INT(qc_st_read(qc_ctx_diag(j->ctx), set, tensor, stored), QC_OK);
    size_t bytes = qc_attr_count(data) * (size_t)qc_dtype_bits(qc_attr_data_dtype(data)) / 8;
    CHECK(bytes == tensor->size_bytes);
    CHECK(qc_attr_data_dtype(data) == qc_dtype_from_safetensors_name(tensor->dtype));
    if (bytes != tensor->size_bytes || memcmp(stored, qc_attr_data_bytes(data), bytes) != 0)
        CHECK_FAIL("%s differs", name);
    ++*seen;
}

/* From the ranges that llm-compressor's observers saw, its scales: what a forward pass rounds is left out. */
static void check_recomputed(const char *golden, const char *pipeline, size_t tensors)
{
    const char *data = getenv("QC_DATA");
    size_t seen = 0;
    qc_st_set set;
    job j;
    if (!data)
        SKIP("QC_DATA does not say where the models are");
    char model[1024], path[1024], file[1100];
    snprintf(model, sizeof model, "%s/models/grid_llama", data);
    snprintf(path, sizeof path, "%s/goldens/%s", data, golden);
    if (!open_model(&j, model, QC_BF16, pipeline))
        return;
    snprintf(file, sizeof file, "%s/observed/amax.safetensors", path);
    if (qc_stats_load(qc_ctx_diag(j.ctx), &j.stats, file) != QC_OK ||
        qc_calibrate_resolve(j.ctx, j.module, &j.stats) != QC_OK || !apply(&j, "resolve-observers"))
        CHECK_FAIL("%s: %s", golden, j.said.last);
    snprintf(file, sizeof file, "%s/small.golden", path);
    if (access(file, R_OK) != 0)
        snprintf(file, sizeof file, "%s/model.safetensors", path);
    if (qc_st_open_file(qc_ctx_diag(j.ctx), &j.arena, file, &set) != QC_OK) {
        CHECK_FAIL("%s", j.said.last);
        return;
    }
    const qc_func *func = qc_module_func(j.module, "main");
    for (const qc_op *op = qc_func_first_op(func); op; op = qc_op_next(op)) {
        if (!qc_op_is(op, "quantize") || strcmp(qc_attr_as_text(qc_op_attr(op, "arg")), "input") != 0)
            continue;
        const char *node = qc_node_path(qc_op_node(op)), *hint = qc_value_hint(qc_op_operand(op, 1));
        bool attention = qc_ends_with(node, "self_attn"), local = qc_op_operand(op, 2) != NULL;
        const char *scale = attention ? hint : "input_scale";
        compare_constant(&j, &set, qc_arena_printf(&j.arena, "%s.%s", node, scale),
            local ? NULL : qc_op_operand(op, 1), &seen);
        compare_constant(
            &j, &set, qc_arena_printf(&j.arena, "%s.input_global_scale", node), qc_op_operand(op, 2), &seen);
        compare_constant(
            &j, &set, qc_arena_printf(&j.arena, "%s.input_zero_point", node), qc_op_operand(op, 3), &seen);
    }
    CHECK_INT(seen, tensors);
    qc_st_close(&set);
    end(&j);
}

static void test_recomputed(void)
{
    check_recomputed("fp8_static", "quant-linear{ignore=[lm_head], scheme=FP8},insert-observers", 14);
    check_recomputed("nvfp4", "quant-linear{ignore=[lm_head], scheme=NVFP4},insert-observers", 14);
    check_recomputed("int8_static", INT8_STATIC("static_minmax", "symmetric") ",insert-observers", 14);
    check_recomputed(
        "int8_static_asym", INT8_STATIC("static_minmax", "symmetric=false") ",insert-observers", 28);
    check_recomputed("int8_static_default_obs", INT8_STATIC("minmax", "symmetric") ",insert-observers", 14);
    check_recomputed(
        "w4a16_attn_int8_head", "quant-int8-attn{granularity=head, observer=minmax},insert-observers", 6);
    check_recomputed("w4a16_attn_int8_head_static", "quant-int8-attn{granularity=head},insert-observers", 6);
    check_recomputed(
        "w4a16_attn_fp8_head", "quant-fp8-attn{granularity=head, observer=minmax},insert-observers", 6);
    check_recomputed("kv_fp8_head_static", "quant-kv{granularity=head},insert-observers", 4);
}

/* Largest absolute values a head that PyTorch's bf16 run saw on the two rows of input_ids. */
static void check_amax(const char *name)
{
    const char *data = getenv("QC_DATA");
    char model[1024];
    job j;
    qc_st_set golden;
    tally t = {0};
    bool in_tree = strcmp(name, "stories260k") == 0;
    if (!data && !in_tree)
        return;
    snprintf(model, sizeof model, "%s/models/%s", data ? data : "", name);
    if (!open_model(&j, in_tree ? stories() : model, QC_BF16, "quant-fp8-attn,insert-observers"))
        return;
    const char *path = qc_path_join(&j.arena, in_tree ? stories() : model, "golden.safetensors");
    CHECK_INT(qc_st_open_file(qc_ctx_diag(j.ctx), &j.arena, path, &golden), QC_OK);
    const qc_st_tensor *ids = qc_st_find(&golden, "input_ids");
    size_t rows = (size_t)ids->shape[0], columns = (size_t)ids->shape[1];
    int64_t *wide = QC_NEW_ARRAY(&j.arena, int64_t, rows * columns);
    int32_t *narrow = QC_NEW_ARRAY(&j.arena, int32_t, rows * columns);
    CHECK_INT(qc_st_read(qc_ctx_diag(j.ctx), &golden, ids, wide), QC_OK);
    for (size_t i = 0; i < rows * columns; i++)
        narrow[i] = (int32_t)wide[i];
    j.data = (qc_dataset){QC_NEW_ARRAY(&j.arena, qc_token_sequence, rows), rows, rows * columns};
    for (size_t i = 0; i < rows; i++)
        j.data.sequences[i] = (qc_token_sequence){narrow + i * columns, columns, i + 1};
    bool ok = calibrate(&j, 2, 0);
    for (size_t i = 0; ok && i < j.stats.records.count; i++) {
        const qc_stats_record *r = j.stats.records.entries[i].value;
        if (r->kind != QC_STATS_MINMAX)
            continue;
        const qc_st_tensor *amax = qc_st_find(&golden, qc_arena_printf(&j.arena, "%s_amax", r->tap));
        CHECK(amax && (size_t)amax->shape[0] == r->heads);
        float *theirs = QC_NEW_ARRAY(&j.arena, float, r->heads),
              *ours = QC_NEW_ARRAY(&j.arena, float, r->heads);
        for (size_t k = 0; k < r->sequences * r->heads; k++)
            ours[k % r->heads] = fmaxf(ours[k % r->heads], fmaxf(fabsf(r->min[k]), fabsf(r->max[k])));
        if (amax && qc_st_read(qc_ctx_diag(j.ctx), &golden, amax, theirs) == QC_OK)
            compare_values(ours, theirs, r->heads, &t);
    }
    printf("# %s: of %zu values %zu are equal, %zu within a unit of bf16\n", name, t.values, t.equal, t.near);
    CHECK(t.values > 0 && t.near == t.values && t.equal * 10 >= t.values * 9);
    qc_st_close(&golden);
    end(&j);
}

static void test_amax(void)
{
    static const char *const names[] = {"stories260k", "llama", "llama_bias", "mistral", "qwen2", "qwen3"};
    for (size_t i = 0; i < 6; i++)
        check_amax(names[i]);
}

/* ---- against itself ------------------------------------------------------------------------------------ */

static const char attention[] = "quant-fp8-attn,insert-observers";

static void test_threads(void)
{
    static const int threads[] = {1, 2, 3, 7};
    job j;
    qc_stats first;
    if (!open_model(&j, stories(), QC_BF16, attention))
        return;
    random_data(&j, 40, 300);
    if (!calibrate(&j, 1, 0))
        return;
    first = j.stats;
    CHECK_INT(first.records.count, 30);
    for (size_t i = 0; i < 4; i++)
        CHECK(calibrate(&j, threads[i], 0) && same_stats(&first, &j.stats));
    end(&j);
}

/* Half of the hidden states go to disk. The process itself may grow or shrink a little between plan and run. */
static void test_little_memory(void)
{
    job j;
    uint64_t all, half, hidden;
    if (!open_model(&j, stories(), QC_F32, attention))
        return;
    random_data(&j, 300, 300);
    hidden = j.data.token_count * 64 * sizeof(float);
    if (!calibrate(&j, 1, 0))
        return;
    qc_stats first = j.stats;
    qc_calibrate_options options = {.threads = 1};
    CHECK_INT(qc_calibrate_plan(j.ctx, j.module, &j.data, &options, &all), QC_OK);
    options.max_memory_bytes = all - hidden / 2;
    CHECK_INT(qc_calibrate_plan(j.ctx, j.module, &j.data, &options, &half), QC_OK);
    CHECK(half <= options.max_memory_bytes && half > all - hidden);
    CHECK(calibrate(&j, 1, options.max_memory_bytes) && same_stats(&first, &j.stats));
    /* Seven sequences at once do not fit: fewer run, and all states are on disk. */
    options = (qc_calibrate_options){.threads = 7};
    CHECK_INT(qc_calibrate_plan(j.ctx, j.module, &j.data, &options, &all), QC_OK);
    options.max_memory_bytes = all - hidden - (6 << 20);
    CHECK_INT(qc_calibrate_plan(j.ctx, j.module, &j.data, &options, &half), QC_OK);
    CHECK(half <= options.max_memory_bytes);
    CHECK(calibrate(&j, 7, options.max_memory_bytes) && same_stats(&first, &j.stats));
    end(&j);
}

/* A sequence's ranges are those that it has alone. */
static void test_grouping(void)
{
    job j;
    if (!open_model(&j, stories(), QC_BF16, "quant-linear{scheme=FP8},insert-observers"))
        return;
    random_data(&j, 5, 60);
    qc_dataset all = j.data;
    if (!calibrate(&j, 2, 0))
        return;
    qc_stats whole = j.stats, merged = {0};
    for (size_t i = 0; i < all.count; i++) {
        j.data = (qc_dataset){&all.sequences[i], 1, all.sequences[i].count};
        if (!calibrate(&j, 3, 0))
            return;
        if (i == 0)
            merged = j.stats;
        else
            CHECK_INT(qc_stats_merge(qc_ctx_diag(j.ctx), &merged, &j.stats, "more"), QC_OK);
    }
    CHECK(same_stats(&whole, &merged));
    end(&j);
}

static void find_segments(job *j, qc_segments *segments)
{
    qc_value_kinds kinds;
    const qc_func *func = qc_module_func(j->module, "main");
    qc_value_kinds_init(&kinds, &j->arena);
    qc_value_kinds_add(&kinds, func);
    qc_segments_find(&j->arena, func, &kinds, segments);
}

/* One a layer, the hidden state alone between them; the last holds what the last q, k and v need. */
static void test_segments(void)
{
    job j;
    qc_segments s;
    if (!open_model(&j, stories(), QC_BF16, attention))
        return;
    find_segments(&j, &s);
    CHECK_INT(s.count, 5);
    for (size_t i = 0; i < s.count; i++) {
        CHECK_INT(s.items[i].observe_count, 3);
        CHECK_INT(s.items[i].input_count, i > 0);
        CHECK_INT(s.items[i].output_count, i < 4);
        CHECK(i == 0 || s.items[i].inputs == s.items[i - 1].outputs);
        CHECK(i == 4 ? s.items[i].weight_bytes < s.items[0].weight_bytes / 3
                     : s.items[i].weight_bytes == s.items[0].weight_bytes);
    }
    CHECK_INT(s.items[0].weight_bytes, 2 * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 64 * 172 + 2 * 64));
    end(&j);
    if (!open_model(&j, stories(), QC_BF16, "quant-linear{scheme=FP8},insert-observers"))
        return;
    find_segments(&j, &s);
    CHECK(s.count == 5 || s.count == 6);
    end(&j);
}

/* ---- constants ----------------------------------------------------------------------------------------- */

static const qc_op *first_op(const job *j, const char *name)
{
    for (const qc_op *op = qc_func_first_op(qc_module_func(j->module, "main")); op; op = qc_op_next(op))
        if (qc_op_is(op, name))
            return op;
    return NULL;
}

/* The statistics of the first tap, after folding, against a fold written out here. */
static void check_fold(const char *observer, bool by_head)
{
    job j;
    char pipeline[128], tap[128];
    snprintf(pipeline, sizeof pipeline, "quant-fp8-attn{granularity=%s, observer=%s},insert-observers",
        by_head ? "head" : "tensor", observer);
    if (!open_model(&j, stories(), QC_BF16, pipeline))
        return;
    random_data(&j, 6, 40);
    const qc_op *observe = first_op(&j, "observe");
    size_t slot;
    const qc_op *reader = qc_value_use(qc_op_result(observe, 0), 0, &slot);
    snprintf(tap, sizeof tap, "%s", qc_attr_as_text(qc_op_attr(observe, "tap")));
    CHECK(qc_calibrate_is_needed(j.module));
    if (!calibrate(&j, 2, 0))
        return;
    CHECK_INT(qc_calibrate_resolve(j.ctx, j.module, &j.stats), QC_OK);
    CHECK_INT(qc_module_verify(j.module, "calibrate"), QC_OK);
    CHECK(!qc_calibrate_is_needed(j.module));
    const qc_stats_record *r = qc_stats_find(&j.stats, tap, QC_STATS_MINMAX);
    const qc_attr *value = qc_op_attr(qc_value_op(qc_op_operand(reader, 0)), "value");
    size_t groups = by_head ? r->heads : 1;
    CHECK_INT(qc_attr_count(value), 2 * groups);
    for (size_t g = 0; g < groups; g++) {
        float folded = 0.0f, stored;
        for (size_t s = 0; s < r->sequences; s++) {
            float max = r->max[s * r->heads + g];
            for (size_t h = 0; !by_head && h < r->heads; h++)
                max = fmaxf(max, r->max[s * r->heads + h]);
            if (s == 0 || strcmp(observer, "memoryless_minmax") == 0)
                folded = max;
            else if (strcmp(observer, "static_minmax") == 0)
                folded = fmaxf(folded, max);
            else
                folded = qc_round_bf16(qc_round_bf16(folded * 0.99f) + qc_round_bf16(max * 0.01f));
        }
        qc_decode_f32(QC_BF16, (const uint16_t *)qc_attr_data_bytes(value) + groups + g, &stored, 1);
        CHECK_NEAR(stored, folded, 0);
    }
    end(&j);
}

static void test_folds(void)
{
    check_fold("static_minmax", true);
    check_fold("static_minmax", false);
    check_fold("memoryless_minmax", true);
    check_fold("minmax", false);
}

#include "tests/unit/calibrate_search.h"
#include "tests/unit/calibrate_observers.h"

/* ---- errors -------------------------------------------------------------------------------------------- */

static void test_errors(void)
{
    job j;
    int32_t ids[] = {1, 2, 512};
    qc_token_sequence sequence = {ids, 3, 41};
    if (!open_model(&j, stories(), QC_BF16, attention))
        return;
    CHECK_INT(qc_calibrate(j.ctx, j.module, &j.data, NULL, &j.stats), QC_ERROR);
    CHECK(said(&j.said, "there is no calibration data"));
    j.data = (qc_dataset){&sequence, 1, 3};
    CHECK_INT(qc_calibrate(j.ctx, j.module, &j.data, NULL, &j.stats), QC_ERROR);
    CHECK(said(&j.said, "line 41: token id 512 is outside the vocabulary of 512"));
    ids[2] = 3;
    CHECK_INT(
        qc_calibrate(j.ctx, j.module, &j.data, &(qc_calibrate_options){.max_memory_bytes = 1000}, &j.stats),
        QC_ERROR);
    CHECK(said(&j.said, "more than the limit of 0 MiB"));
    int64_t vocabulary = 0;
    CHECK(qc_calibrate_vocabulary(j.ctx, j.module, &vocabulary) == QC_OK && vocabulary == 512);
    CHECK_INT(qc_calibrate_resolve(j.ctx, j.module, &j.stats), QC_ERROR);
    CHECK(said(&j.said, "statistics hold what was observed"));
    end(&j);
}

/* Weights of a checkpoint of the test's own: a row of infinity times zero makes a NaN in one sequence alone. */
static void test_not_finite(void)
{
    static const char text[] =
        "qc 1\ndim B, S, P\nmodule \"\" Root\nmodule \"a\" Linear\n"
        "func @main(%ids: i64[B, S]) -> f16[B, S, 4] {\n"
        "  at \"a\" {\n"
        "  %w = weight \"w\" : f16[8, 4]\n  %u = weight \"u\" : f16[4, 4]\n"
        "  %x = embedding %ids, %w : f16[B, S, 4]\n  %y = linear %x, %u : f16[B, S, 4]\n"
        "  %m = observe %y {granularity = tensor, tap = \"a.input\"} : f16[2, 1]\n"
        "  }\n  return %y\n}\n";
    job j;
    char directory[] = "qc-test-calibrate-XXXXXX";
    float w[32], u[16];
    uint16_t bytes[48];
    int64_t shapes[2][2] = {{8, 4}, {4, 4}};
    qc_st_out out[2] = {{.name = "w", .dtype = "F16", .rank = 2, .shape = shapes[0], .user = bytes},
        {.name = "u", .dtype = "F16", .rank = 2, .shape = shapes[1], .user = bytes + 32}};
    begin(&j);
    for (size_t i = 0; i < 32; i++)
        w[i] = i / 4 == 5 ? 60000.0f : 1.0f; /* token 5 overflows */
    for (size_t i = 0; i < 16; i++)
        u[i] = 2.0f;
    qc_encode_f32(QC_F16, w, bytes, 32);
    qc_encode_f32(QC_F16, u, bytes + 32, 16);
    if (!mkdtemp(directory))
        SKIP("no directory can be made here");
    CHECK(write_shard(qc_ctx_diag(j.ctx), &j.arena, directory, out, 2));
    int32_t good[3] = {0, 1, 2}, bad[3] = {0, 5, 2};
    qc_token_sequence sequences[6];
    for (size_t i = 0; i < 6; i++)
        sequences[i] = (qc_token_sequence){i == 2 || i == 4 ? bad : good, 3, 10 + i};
    j.data = (qc_dataset){sequences, 6, 18};
    j.module = qc_module_parse(j.ctx, "test", text, strlen(text));
    if (j.module) {
        qc_module_set_source(j.module, directory);
        for (int threads = 1; threads <= 3; threads++) {
            qc_calibrate_options options = {.threads = threads};
            CHECK_INT(qc_calibrate(j.ctx, j.module, &j.data, &options, &j.stats), QC_ERROR);
            CHECK(said(&j.said,
                "a.input: a value is infinite or NaN, in sequence 2 of the calibration data (line 12)"));
        }
    } else {
        CHECK_FAIL("%s", j.said.last);
    }
    CHECK_INT(qc_remove_tree(qc_ctx_diag(j.ctx), directory), QC_OK);
    end(&j);
}

int main(void)
{
    RUN(test_attention_goldens);
    RUN(test_linear_goldens);
    RUN(test_recomputed);
    RUN(test_amax);
    RUN(test_threads);
    RUN(test_little_memory);
    RUN(test_grouping);
    RUN(test_segments);
    RUN(test_folds);
    RUN(test_searches);
    RUN(test_kinds);
    RUN(test_observers);
    RUN(test_errors);
    RUN(test_not_finite);
    return check_done();
}
