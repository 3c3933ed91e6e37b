/* SPDX-License-Identifier: MIT
 *
 * plan_run.c - memory of a run and its steps, one after another.
 *
 * Slots get offsets in one arena a worker: in the order of steps, each at the lowest gap between the slots
 * that live at its step (first fit). The layout depends on tokens and past alone and is kept until they
 * change.
 */
#include <limits.h>
#include <stdlib.h>

#include "ir/ctx.h"
#include "ir/dim.h"
#include "runtime/plan_internal.h"

enum { ALIGNMENT = 64 };

/* ---- sizes --------------------------------------------------------------------------------------------- */

typedef struct shape {
    const qc_plan *plan;
    size_t tokens, past;
    bool last_only;
} shape;

static bool dim_value(const shape *s, const qc_dim *dim, int64_t *value)
{
    const qc_plan *p = s->plan;
    if (qc_dim_as_int(dim, value))
        return true;
    if (dim == p->sequence || dim == p->batch || dim == p->past || dim == p->total) {
        *value = dim == p->batch      ? 1
                 : dim == p->past     ? (int64_t)s->past
                 : dim == p->sequence ? (int64_t)s->tokens
                                      : (int64_t)(s->past + s->tokens);
        return true;
    }
    const qc_dim_binding bindings[3] = {{"B", 1}, {"S", (int64_t)s->tokens}, {"P", (int64_t)s->past}};
    return qc_dim_evaluate(dim, bindings, 3, value) && *value >= 0;
}

/* Elements of a slot; with `tail` those of its last token alone. */
static bool slot_count(const shape *s, const qc_slot *slot, bool tail, size_t *count)
{
    if (slot->token_rows)
        return !__builtin_mul_overflow(tail ? 1 : s->tokens, slot->row_elems, count);
    *count = 1;
    for (int i = 0; i < slot->rank; i++) {
        int64_t n;
        if (!dim_value(s, slot->dims[i], &n) || __builtin_mul_overflow(*count, (size_t)n, count))
            return false;
    }
    return true;
}

static bool slot_bytes(const shape *s, const qc_slot *slot, size_t *bytes)
{
    size_t count;
    if (!slot_count(s, slot, slot->tail && s->last_only, &count) || count > SIZE_MAX / 64)
        return false;
    *bytes = (count * (size_t)qc_dtype_bits(slot->dtype) + 7) / 8;
    *bytes = (*bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    *bytes += *bytes == 0 ? ALIGNMENT : 0;
    return true;
}

/* ---- layout -------------------------------------------------------------------------------------------- */

typedef struct block {
    size_t offset, bytes;
    int last;
} block;

/* Gives offsets to all slots (offsets may be NULL) and the bytes they need together. `blocks` has room for one
 * block a slot. */
static bool lay_out(const shape *s, block *blocks, size_t *offsets, size_t *total)
{
    const qc_plan *plan = s->plan;
    size_t live = 0;
    *total = 0;
    for (size_t i = 0; i < plan->steps.count; i++) {
        size_t kept = 0, bytes, offset = 0, at;
        int out = plan->steps.items[i].out;
        for (size_t b = 0; b < live; b++)
            if (blocks[b].last >= (int)i)
                blocks[kept++] = blocks[b];
        live = kept;
        if (out < 0 || plan->slots.items[out].place != QC_PLACE_ARENA)
            continue;
        if (!slot_bytes(s, &plan->slots.items[out], &bytes))
            return false;
        for (at = 0; at < live && blocks[at].offset - offset < bytes; at++)
            offset = blocks[at].offset + blocks[at].bytes;
        memmove(blocks + at + 1, blocks + at, (live - at) * sizeof *blocks);
        blocks[at] = (block){offset, bytes, plan->slots.items[out].last};
        live++;
        if (offsets)
            offsets[out] = offset;
        if (offset > SIZE_MAX - bytes)
            return false;
        *total = offset + bytes > *total ? offset + bytes : *total;
    }
    return true;
}

bool qc_plan_arena_bytes(const qc_plan *plan, size_t tokens, size_t past, bool last_only, size_t *bytes)
{
    shape s = {plan, tokens, past, last_only};
    block *blocks = malloc((plan->slots.count + 1) * sizeof *blocks);
    bool ok = blocks && lay_out(&s, blocks, NULL, bytes);
    free(blocks);
    return ok;
}

size_t qc_plan_kernel_bytes(const qc_plan *plan, size_t tokens, size_t past)
{
    size_t most = 0;
    for (size_t i = 0; i < plan->steps.count; i++) {
        const qc_step *step = &plan->steps.items[i];
        size_t bytes = step->bytes ? step->bytes(plan, step, tokens, past) : 0;
        most = bytes > most ? bytes : most;
    }
    return most;
}

static qc_status prepare(qc_run *run)
{
    const qc_plan *plan = run->plan;
    qc_worker *w = run->worker;
    shape s = {plan, run->tokens, run->past, run->last_only};
    size_t total;
    if (w->laid_out_plan == plan && w->laid_out_tokens == run->tokens && w->laid_out_past == run->past &&
        w->laid_out_last_only == run->last_only)
        return QC_OK;
    if (w->laid_out_plan != plan) {
        free(w->offsets);
        w->offsets = malloc((plan->slots.count + 1) * sizeof *w->offsets);
    }
    w->laid_out_plan = NULL;
    block *blocks = malloc((plan->slots.count + 1) * sizeof *blocks);
    bool ok = blocks && w->offsets && lay_out(&s, blocks, w->offsets, &total);
    free(blocks);
    if (!ok)
        return qc_error(&w->diag, "", "no memory can hold a sequence of %zu tokens", run->tokens);
    if (total > w->arena_bytes) {
        free(w->arena);
        w->arena = aligned_alloc(ALIGNMENT, total);
        w->arena_bytes = w->arena ? total : 0;
        if (!w->arena)
            return qc_error(
                &w->diag, "", "out of memory: a sequence of %zu tokens takes %zu bytes", run->tokens, total);
    }
    w->laid_out_plan = plan;
    w->laid_out_tokens = run->tokens;
    w->laid_out_past = run->past;
    w->laid_out_last_only = run->last_only;
    return QC_OK;
}

/* ---- what steps ask ------------------------------------------------------------------------------------ */

static void *slot_base(const qc_run *run, const qc_slot *slot)
{
    switch (slot->place) {
    case QC_PLACE_ARENA:
        return run->worker->arena + run->worker->offsets[slot - run->plan->slots.items];
    case QC_PLACE_FIXED:
        return (void *)(uintptr_t)slot->data;
    case QC_PLACE_IDS:
        return run->worker->ids;
    case QC_PLACE_INPUT:
        return (void *)(uintptr_t)run->inputs[slot->index];
    case QC_PLACE_ALIAS:
    case QC_PLACE_PAGES: /* of a run that keeps nothing; pages are found by qc_run_pages */
        return slot_base(run, &run->plan->slots.items[slot->alias]);
    }
    return NULL;
}

void *qc_run_at(const qc_run *run, const qc_step *step, int index)
{
    const qc_slot *slot = &run->plan->slots.items[index];
    char *base = slot_base(run, slot);
    if (step->tail && run->last_only && slot->token_rows && !slot->tail)
        base += (run->tokens - 1) * slot->row_elems * (size_t)qc_dtype_bits(slot->dtype) / 8;
    return base;
}

const void *const *qc_run_pages(const qc_run *run, int index)
{
    const qc_slot *slot = index < 0 ? NULL : &run->plan->slots.items[index];
    return slot && slot->place == QC_PLACE_PAGES && run->caches
               ? (const void *const *)run->caches[slot->index]
               : NULL;
}

bool qc_run_count(const qc_run *run, const qc_step *step, int slot, size_t *count)
{
    shape s = {run->plan, run->tokens, run->past, run->last_only};
    return slot_count(&s, &run->plan->slots.items[slot], step->tail && run->last_only, count);
}

bool qc_run_dim(const qc_run *run, const qc_dim *dim, int64_t *value)
{
    shape s = {run->plan, run->tokens, run->past, run->last_only};
    return dim_value(&s, dim, value);
}

/* ---- running ------------------------------------------------------------------------------------------- */

static int compare_ids(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return x < y ? -1 : x > y;
}

/* The ids, and behind them their rows in the tables. */
static qc_status take_ids(qc_run *run)
{
    qc_worker *w = run->worker;
    const qc_bank_rows *rows = run->plan->request.table_rows;
    if (run->tokens > w->ids_capacity) {
        free(w->ids);
        w->ids = malloc(2 * run->tokens * sizeof *w->ids);
        w->ids_capacity = w->ids ? run->tokens : 0;
        if (!w->ids)
            return qc_error(&w->diag, "", "out of memory for %zu tokens", run->tokens);
    }
    for (size_t i = 0; i < run->tokens; i++) {
        const int32_t *found = NULL;
        w->ids[i] = w->ids[run->tokens + i] = run->ids[i];
        if (!rows)
            continue;
        found = bsearch(&run->ids[i], rows->ids, rows->count, sizeof *rows->ids, compare_ids);
        w->ids[run->tokens + i] = found ? found - rows->ids : -1;
    }
    return QC_OK;
}

qc_status qc_plan_run(qc_run *run)
{
    const qc_plan *plan = run->plan;
    if (run->tokens == 0)
        return qc_error(&run->worker->diag, "", "a sequence without tokens has no values");
    if (take_ids(run) != QC_OK || prepare(run) != QC_OK)
        return QC_ERROR;
    for (size_t i = 0; i < plan->steps.count; i++)
        if (plan->steps.items[i].fn(run, &plan->steps.items[i]) != QC_OK)
            return QC_ERROR;
    for (size_t i = 0; i < plan->output_slots.count; i++) {
        const qc_slot *slot = &plan->slots.items[plan->output_slots.items[i]];
        size_t skipped = run->last_only && !slot->tail ? run->tokens - 1 : 0;
        run->outputs[i] = (char *)slot_base(run, slot) + skipped * qc_plan_output_row_bytes(plan, i);
    }
    return QC_OK;
}

/* ---- workers ------------------------------------------------------------------------------------------- */

static void keep_error(void *user, qc_severity severity, const char *where, const char *what)
{
    qc_worker *w = user;
    if (severity != QC_SEVERITY_ERROR || w->error_what)
        return;
    w->error_where = qc_arena_strdup(&w->texts, where);
    w->error_what = qc_arena_strdup(&w->texts, what);
}

void qc_worker_init(qc_worker *worker, qc_ctx *ctx)
{
    qc_oom_fn oom = qc_ctx_arena(ctx)->oom;
    *worker = (qc_worker){0};
    qc_arena_init(&worker->scratch, oom);
    qc_arena_init(&worker->texts, oom);
    qc_diag_init(&worker->diag, &worker->texts, keep_error, worker);
}

void qc_worker_fini(qc_worker *worker)
{
    free(worker->arena);
    free(worker->offsets);
    free(worker->ids);
    qc_arena_fini(&worker->scratch);
    qc_arena_fini(&worker->texts);
}

qc_status qc_worker_report(qc_worker *worker, qc_ctx *ctx)
{
    qc_ctx_error(ctx, worker->error_where ? worker->error_where : "", "%s",
        worker->error_what ? worker->error_what : "failed for an unknown reason");
    worker->error_where = worker->error_what = NULL;
    return QC_ERROR;
}
