/* SPDX-License-Identifier: MIT
 *
 * calibrate.c - what a calibration needs before it starts: checks and segments. See calibrate.h.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "ir/ctx.h"
#include "passes/lower.h"
#include "runtime/calibrate_internal.h"

bool qc_calibrate_is_needed(const qc_module *module)
{
    for (const qc_func *func = qc_module_first_func(module); func; func = qc_func_next(func))
        for (const qc_op *op = qc_func_first_op(func); op; op = qc_op_next(op))
            if (qc_op_is(op, "observe"))
                return true;
    return false;
}

static const qc_func *main_func(qc_ctx *ctx, const qc_module *module)
{
    const qc_func *func = qc_module_func(module, "main");
    if (!func)
        qc_ctx_error(ctx, "", "the module has no function @main to calibrate");
    return func;
}

qc_status qc_calibrate_vocabulary(qc_ctx *ctx, const qc_module *module, int64_t *vocabulary)
{
    const qc_func *func = main_func(ctx, module);
    for (const qc_op *op = func ? qc_func_first_op(func) : NULL; op; op = qc_op_next(op)) {
        if (!qc_op_is(op, "embedding") || qc_value_op(qc_op_operand(op, 0)))
            continue;
        if (qc_dim_as_int(qc_type_dim(qc_value_type(qc_op_operand(op, 1)), 0), vocabulary))
            return QC_OK;
    }
    return func ? qc_ctx_error(ctx, "", "@main looks up no token ids, so it has no vocabulary") : QC_ERROR;
}

/* ---- data ---------------------------------------------------------------------------------------------- */

static int compare_ids(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return x < y ? -1 : x > y;
}

/* Checks the ids and collects those that occur. */
static qc_status take_ids(qc_calibration *c)
{
    const qc_dataset *d = c->dataset;
    int64_t vocabulary;
    if (d->count == 0)
        return qc_ctx_error(c->ctx, "", "there is no calibration data");
    if (qc_calibrate_vocabulary(c->ctx, c->module, &vocabulary) != QC_OK)
        return QC_ERROR;
    size_t total = 0, kept = 0;
    for (size_t i = 0; i < d->count; i++) {
        const qc_token_sequence *s = &d->sequences[i];
        char where[64];
        snprintf(where, sizeof where, "calibration data, line %zu", s->line);
        if (s->count == 0)
            return qc_ctx_error(c->ctx, where, "there are no tokens");
        for (size_t k = 0; k < s->count; k++)
            if (s->ids[k] < 0 || s->ids[k] >= vocabulary)
                return qc_ctx_error(c->ctx, where, "token id %d is outside the vocabulary of %lld",
                    (int)s->ids[k], (long long)vocabulary);
        total += s->count;
        c->longest = s->count > c->longest ? s->count : c->longest;
    }
    int32_t *ids = QC_NEW_ARRAY(&c->arena, int32_t, total);
    for (size_t i = 0, at = 0; i < d->count; at += d->sequences[i++].count)
        memcpy(ids + at, d->sequences[i].ids, d->sequences[i].count * sizeof *ids);
    qsort(ids, total, sizeof *ids, compare_ids);
    for (size_t i = 0; i < total; i++)
        if (i == 0 || ids[i] != ids[i - 1])
            ids[kept++] = ids[i];
    c->rows = (qc_bank_rows){ids, kept};
    return QC_OK;
}

static qc_status check_taps(qc_calibration *c)
{
    qc_map taps;
    qc_map_init(&taps, &c->arena);
    for (const qc_op *op = qc_func_first_op(c->func); op; op = qc_op_next(op)) {
        const char *tap = qc_op_is(op, "observe") ? qc_attr_as_text(qc_op_attr(op, "tap")) : NULL;
        if (tap && !qc_map_set(&taps, tap, NULL))
            return qc_ctx_error(c->ctx, tap, "two values are observed under this name");
    }
    return taps.count ? QC_OK : qc_ctx_error(c->ctx, "", "nothing is observed in @main");
}

/* ---- plans ----------------------------------------------------------------------------------------------- */

qc_plan *qc_calibration_plan(qc_calibration *c, size_t segment, bool dry, qc_bank **bank)
{
    const qc_segment *s = &c->segments.items[segment];
    *bank = qc_bank_create(&(qc_bank_options){.ctx = c->ctx,
        .engine = c->engine,
        .weights = c->weights,
        .rows = &c->rows,
        .without_codes = true,
        .dry = dry});
    if (!*bank)
        return NULL;
    qc_plan_env env = {.ctx = c->ctx,
        .module = c->module,
        .engine = c->engine,
        .bank = *bank,
        .rope = c->rope,
        .decomposer = c->decomposer,
        .kinds = &c->kinds};
    return qc_plan_create(&env, &(qc_plan_request){.func = c->func,
                                    .inputs = s->inputs,
                                    .input_count = s->input_count,
                                    .outputs = s->outputs,
                                    .output_count = s->output_count,
                                    .observes = s->observes,
                                    .observe_count = s->observe_count,
                                    .calibrating = true,
                                    .rotate_observed = c->options.rotated,
                                    .table_rows = &c->rows});
}

/* ---- beginning and end --------------------------------------------------------------------------------- */

/* What an expert's weights take is planned with the tensors that they are made of. */
static qc_status open_weights_of_experts(qc_calibration *c)
{
    bool experts = false;
    for (size_t i = 0; i < c->segments.count; i++)
        experts = experts || c->segments.items[i].region;
    if (!experts)
        return QC_OK;
    c->weights = qc_weights_open(c->ctx, c->module, c->options.source);
    if (c->weights)
        qc_weights_set_threads(c->weights, qc_host_engine_thread_count(c->engine));
    return c->weights ? QC_OK : QC_ERROR;
}

qc_status qc_calibration_begin(qc_calibration *c, qc_ctx *ctx, qc_module *module, const qc_dataset *dataset,
    const qc_calibrate_options *options)
{
    const qc_calibrate_options defaults = {0};
    *c = (qc_calibration){.ctx = ctx, .module = module, .dataset = dataset};
    c->options = options ? *options : defaults;
    qc_arena_init(&c->arena, qc_ctx_arena(ctx)->oom);
    const qc_op *lowered = qc_lowered_op(module);
    if (lowered)
        return qc_ctx_error(ctx, "calibrate",
            "the module is in lowered form (%s), which is executed, not calibrated: the lower- passes come "
            "behind "
            "calibration",
            qc_op_name(lowered));
    c->func = main_func(ctx, module);
    if (!c->func || check_taps(c) != QC_OK || take_ids(c) != QC_OK)
        return QC_ERROR;
    c->engine =
        qc_host_engine_create(qc_ctx_diag(ctx), &(qc_host_options){.thread_count = c->options.threads});
    c->rope = qc_rope_tables_create(ctx);
    c->decomposer = qc_decomposer_create(ctx);
    if (!c->engine || !c->rope || !c->decomposer)
        return QC_ERROR;
    qc_value_kinds_init(&c->kinds, &c->arena);
    qc_value_kinds_add(&c->kinds, c->func);
    if (qc_segments_find(&c->arena, c->func, &c->kinds, &c->segments) != QC_OK ||
        open_weights_of_experts(c) != QC_OK)
        return QC_ERROR;
    return qc_calibration_plan_memory(c);
}

void qc_calibration_end(qc_calibration *c)
{
    qc_weights_close(c->weights);
    qc_decomposer_destroy(c->decomposer);
    qc_rope_tables_destroy(c->rope);
    qc_host_engine_destroy(c->engine);
    qc_arena_fini(&c->arena);
}

qc_status qc_calibrate_plan(qc_ctx *ctx, qc_module *module, const qc_dataset *dataset,
    const qc_calibrate_options *options, uint64_t *peak_bytes)
{
    qc_calibration c;
    qc_status status = qc_calibration_begin(&c, ctx, module, dataset, options);
    *peak_bytes = c.peak_bytes;
    qc_calibration_end(&c);
    return status;
}

qc_status qc_calibrate(qc_ctx *ctx, qc_module *module, const qc_dataset *dataset,
    const qc_calibrate_options *options, qc_stats *stats)
{
    qc_calibration c;
    struct timespec start, end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    qc_status status = qc_calibration_begin(&c, ctx, module, dataset, options);
    if (status == QC_OK && c.options.cost)
        *c.options.cost = (qc_calibrate_cost){.experts_at_once = c.experts};
    if (status == QC_OK)
        status = qc_calibration_run(&c, stats);
    clock_gettime(CLOCK_MONOTONIC, &end);
    if (c.options.cost)
        c.options.cost->seconds =
            (double)(end.tv_sec - start.tv_sec) + (double)(end.tv_nsec - start.tv_nsec) * 1e-9;
    qc_calibration_end(&c);
    return status;
}
