/* SPDX-License-Identifier: MIT
 *
 * calibrate.c - what a calibration needs before it starts: checks, segments, and how much memory each part
 * may take. See calibrate.h.
 *
 * Memory. Of each segment the weights and the arenas are added up by planning it without reading anything;
 * the most that any segment takes, together with what the process is already, is the floor. The number of
 * sequences at once falls until the floor is below the limit; what is left belongs to hidden states.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "ir/ctx.h"
#include "passes/lower.h"
#include "runtime/calibrate_internal.h"

/* The C library, oneDNN's primitives and thread stacks grow the process while it works. */
static const uint64_t growth_bytes = (uint64_t)40 << 20, growth_bytes_a_worker = (uint64_t)3 << 20;

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

/* ---- memory -------------------------------------------------------------------------------------------- */

/* What the process takes now, code and libraries included. */
static uint64_t resident_bytes(void)
{
    FILE *file = fopen("/proc/self/statm", "r");
    unsigned long long size = 0, resident = 0;
    if (!file)
        return 0;
    if (fscanf(file, "%llu %llu", &size, &resident) != 2)
        resident = 0;
    fclose(file);
    return (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

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

/* What the parts of all segments take at most. */
typedef struct needs {
    uint64_t weights, loading, worker, row_bytes;
    uint64_t records; /* of all segments together */
} needs;

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* What is observed of a sequence, and the records of it of all sequences. */
static void measure_observes(
    const qc_calibration *c, const qc_plan *plan, size_t segment, uint64_t *numbers, needs *n)
{
    *numbers = 0;
    for (size_t i = 0; i < c->segments.items[segment].observe_count; i++) {
        const qc_observed o = qc_plan_observed(plan, i);
        const bool ranges = o.kind == QC_OBSERVED_RANGES;
        const uint64_t heads = ranges ? 2 * o.heads * c->dataset->count : 0;
        const uint64_t once = heads * sizeof(float) + o.columns * sizeof(double);
        *numbers += o.numbers * sizeof(float);
        n->records += once * (o.rotated ? 2 : 1);
    }
}

static qc_status measure_segment(qc_calibration *c, size_t segment, needs *n)
{
    qc_bank *bank;
    qc_plan *plan = qc_calibration_plan(c, segment, true, &bank);
    const qc_segment *s = &c->segments.items[segment];
    size_t arena, inputs = 0, outputs = 0;
    uint64_t numbers;
    qc_status status = plan ? QC_OK : QC_ERROR;
    if (plan && !qc_plan_arena_bytes(plan, c->longest, 0, false, &arena))
        status = qc_ctx_error(c->ctx, "", "no memory can hold a sequence of %zu tokens", c->longest);
    if (status == QC_OK) {
        for (size_t i = 0; i < s->input_count; i++)
            inputs += qc_plan_input_row_bytes(plan, i);
        for (size_t i = 0; i < s->output_count; i++)
            outputs += qc_plan_output_row_bytes(plan, i);
        n->weights = larger(n->weights, qc_bank_bytes(bank));
        n->loading = larger(n->loading, qc_bank_peak_bytes(bank));
        measure_observes(c, plan, segment, &numbers, n);
        n->worker = larger(n->worker, arena + qc_plan_kernel_bytes(plan, c->longest, 0) +
                                          inputs * c->longest + c->longest * 2 * sizeof(int64_t) + numbers);
        n->row_bytes = larger(n->row_bytes, outputs);
    }
    qc_plan_destroy(plan);
    qc_bank_destroy(bank);
    return status;
}

static uint64_t floor_of(const qc_calibration *c, const needs *n, uint64_t base, int workers)
{
    uint64_t running = n->weights + (uint64_t)workers * (n->worker + growth_bytes_a_worker);
    return base + n->records + larger(n->loading, running) + qc_rope_tables_bytes(c->rope, c->longest);
}

static qc_status plan_memory(qc_calibration *c)
{
    needs n = {0};
    uint64_t limit = c->options.max_memory_bytes;
    for (size_t i = 0; i < c->segments.count; i++)
        if (measure_segment(c, i, &n) != QC_OK)
            return QC_ERROR;
    c->block_bytes = QC_NEW_ARRAY(&c->arena, size_t, c->dataset->count);
    for (size_t i = 0; i < c->dataset->count; i++)
        c->block_bytes[i] = (size_t)n.row_bytes * c->dataset->sequences[i].count;
    uint64_t base = resident_bytes() + growth_bytes;
    int threads = qc_host_engine_thread_count(c->engine);
    /* Fewer sequences than threads: one after another, each on all threads. */
    c->workers = c->dataset->count < (size_t)threads ? 1 : threads;
    while (limit && c->workers > 1 && floor_of(c, &n, base, c->workers) > limit)
        c->workers--;
    uint64_t least = floor_of(c, &n, base, c->workers);
    if (limit && least > limit)
        return qc_ctx_error(c->ctx, "",
            "the calibration takes %llu MiB at least, more than the limit of %llu MiB",
            (unsigned long long)((least + (1 << 20) - 1) >> 20), (unsigned long long)(limit >> 20));
    c->hidden_memory =
        qc_hidden_store_memory(c->block_bytes, c->dataset->count, limit ? limit - least : UINT64_MAX);
    c->peak_bytes = least + c->hidden_memory;
    return QC_OK;
}

/* ---- beginning and end --------------------------------------------------------------------------------- */

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
            "the module is in lowered form (%s), which is executed, not calibrated: the lower- passes come behind "
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
    qc_segments_find(&c->arena, c->func, &c->kinds, &c->segments);
    return plan_memory(c);
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
    qc_status status = qc_calibration_begin(&c, ctx, module, dataset, options);
    if (status == QC_OK)
        status = qc_calibration_run(&c, stats);
    qc_calibration_end(&c);
    return status;
}
