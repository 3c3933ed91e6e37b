/* SPDX-License-Identifier: MIT
 *
 * calibrate_memory.c - how much memory each part of a calibration may take.
 *
 * Of each segment the weights and the arenas are added up by planning it without reading anything; the most that any
 * segment takes, together with what the process is already, is the floor. The number of sequences at once falls until the
 * floor is below the limit; what is left belongs to hidden states. Of the experts of a layer one is resident. Where hidden
 * states do not fit, every pass over experts reads and writes the others on disk: then as many experts are resident as
 * make the bytes that move the fewest.
 */
#include <stdio.h>
#include <unistd.h>

#include "ir/ctx.h"
#include "runtime/calibrate_internal.h"

/* The C library, oneDNN's primitives and thread stacks grow the process while it works. */
static const uint64_t growth_bytes = (uint64_t)40 << 20, growth_bytes_a_worker = (uint64_t)3 << 20;

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

/* What the parts of all segments take at most. */
typedef struct needs {
    uint64_t weights, loading, worker;
    uint64_t records; /* of all segments together */
    size_t row_bytes, values;
    qc_experts_needs experts; /* of all that are segments of experts */
    int64_t most_experts;     /* of a layer; 0: there are none */
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
        *numbers += o.numbers * sizeof(float);
        n->records += qc_observed_bytes(o, c->dataset->count);
    }
}

static void take_block(needs *n, size_t row_bytes, size_t values)
{
    n->row_bytes = row_bytes > n->row_bytes ? row_bytes : n->row_bytes;
    n->values = values > n->values ? values : n->values;
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
                                          qc_block_bytes(inputs, s->input_count, c->longest) +
                                          c->longest * 2 * sizeof(int64_t) + numbers);
        take_block(n, outputs, s->output_count);
    }
    qc_plan_destroy(plan);
    qc_bank_destroy(bank);
    return status;
}

static qc_status measure_experts(qc_calibration *c, size_t segment, needs *n)
{
    qc_experts_needs of, *most = &n->experts;
    const int64_t experts = c->segments.items[segment].region->experts;
    if (qc_calibration_measure_experts(c, segment, &of) != QC_OK)
        return QC_ERROR;
    most->weights = larger(most->weights, of.weights);
    most->loading = larger(most->loading, of.loading);
    most->worker = larger(most->worker, of.worker);
    n->records += of.records;
    n->most_experts = experts > n->most_experts ? experts : n->most_experts;
    take_block(n, of.row_bytes, of.values);
    return QC_OK;
}

/* What is there at a time, at most. The arenas of workers stay while the next weights are read. */
static uint64_t at_once(const needs *n, int workers, int64_t experts)
{
    const qc_experts_needs *e = &n->experts;
    uint64_t weights = larger(n->loading, n->weights), worker = n->worker;
    if (n->most_experts) {
        weights = larger(weights, (uint64_t)(experts - 1) * e->weights + larger(e->loading, e->weights));
        worker = larger(worker, e->worker);
    }
    return weights + (uint64_t)workers * (worker + growth_bytes_a_worker);
}

static uint64_t floor_of(const qc_calibration *c, const needs *n, uint64_t base, int workers, int64_t experts)
{
    return base + n->records + at_once(n, workers, experts) + qc_rope_tables_bytes(c->rope, c->longest);
}

static qc_status measure(qc_calibration *c, needs *n)
{
    for (size_t i = 0; i < c->segments.count; i++)
        if ((c->segments.items[i].region ? measure_experts : measure_segment)(c, i, n) != QC_OK)
            return QC_ERROR;
    c->block_bytes = QC_NEW_ARRAY(&c->arena, size_t, c->dataset->count);
    for (size_t i = 0; i < c->dataset->count; i++)
        c->block_bytes[i] = qc_block_bytes(n->row_bytes, n->values, c->dataset->sequences[i].count);
    return QC_OK;
}

/* Experts at once: those for which passes times bytes on disk are the fewest; of equals the fewest. */
static int64_t choose_experts(const qc_calibration *c, const needs *n, uint64_t base, uint64_t limit)
{
    uint64_t total = 0, best = UINT64_MAX;
    int64_t chosen = 1;
    for (size_t i = 0; i < c->dataset->count; i++)
        total += c->block_bytes[i];
    for (int64_t e = 1; limit && e <= n->most_experts; e++) {
        uint64_t least = floor_of(c, n, base, c->workers, e);
        if (least > limit)
            break;
        uint64_t kept = qc_hidden_store_memory(c->block_bytes, c->dataset->count, limit - least);
        uint64_t passes = (uint64_t)((n->most_experts + e - 1) / e), moved = passes * ((total - kept) >> 10);
        if (moved >= best)
            continue;
        best = moved;
        chosen = e;
    }
    return chosen;
}

qc_status qc_calibration_plan_memory(qc_calibration *c)
{
    needs n = {0};
    uint64_t limit = c->options.max_memory_bytes;
    if (measure(c, &n) != QC_OK)
        return QC_ERROR;
    uint64_t base = resident_bytes() + growth_bytes;
    int threads = qc_host_engine_thread_count(c->engine);
    /* Fewer sequences than threads: one after another, each on all threads. */
    c->workers = c->dataset->count < (size_t)threads ? 1 : threads;
    while (limit && c->workers > 1 && floor_of(c, &n, base, c->workers, 1) > limit)
        c->workers--;
    c->experts = choose_experts(c, &n, base, limit);
    uint64_t least = floor_of(c, &n, base, c->workers, c->experts);
    if (limit && least > limit)
        return qc_ctx_error(c->ctx, "",
            "the calibration takes %llu MiB at least, more than the limit of %llu MiB",
            (unsigned long long)((least + (1 << 20) - 1) >> 20), (unsigned long long)(limit >> 20));
    c->hidden_memory =
        qc_hidden_store_memory(c->block_bytes, c->dataset->count, limit ? limit - least : UINT64_MAX);
    c->peak_bytes = least + c->hidden_memory;
    return QC_OK;
}
