/* SPDX-License-Identifier: MIT
 *
 * calibrate_run.c - segment by segment, all sequences through each.
 *
 * Several sequences run at once, one a thread, each alone in its kernels; or, where there are fewer sequences
 * than threads, one after another on all threads. Each sequence's hidden states overwrite those that it came with: values
 * that pass through move towards the front of its block, in order, so none is written over before it has moved.
 */
#include <limits.h>
#include <stdlib.h>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "ir/ctx.h"
#include "runtime/calibrate_internal.h"

/* ---- all sequences ------------------------------------------------------------------------------------- */

void qc_calibration_progress(const qc_calibration_pass *p, uint64_t tokens)
{
    const qc_calibrate_options *o = &p->c->options;
    if (o->progress)
        o->progress(o->progress_user, "calibrate", "tokens", p->tokens_before + tokens, p->tokens_total);
}

typedef struct visit {
    qc_calibration_pass *p;
    qc_sequence_fn fn;
    void *user;
    bool progress;
} visit;

/* Sequences behind one that failed need not run; those before it must, for the first error is the one to
 * tell. */
static void visit_one(const visit *v, qc_calibration_worker *w, size_t index, bool first_thread)
{
    qc_calibration_pass *p = v->p;
    if (index > atomic_load(&p->failed))
        return;
    if (v->fn(v->user, w, index) != QC_OK) {
        size_t known = atomic_load(&p->failed);
        w->failed = index;
        while (index < known && !atomic_compare_exchange_weak(&p->failed, &known, index))
            ;
        return;
    }
    uint64_t tokens = p->c->dataset->sequences[index].count;
    tokens += atomic_fetch_add(&p->tokens, tokens);
    if (first_thread && v->progress)
        qc_calibration_progress(p, tokens);
}

static void visit_all(const visit *v)
{
    const qc_calibration *c = v->p->c;
    size_t count = c->dataset->count;
#ifdef _OPENMP
    if (c->workers > 1) {
#pragma omp parallel for schedule(monotonic : dynamic, 1) num_threads(c->workers)
        for (size_t i = 0; i < count; i++)
            visit_one(v, &v->p->workers[omp_get_thread_num()], i, omp_get_thread_num() == 0);
        return;
    }
#endif
    for (size_t i = 0; i < count; i++)
        visit_one(v, &v->p->workers[0], i, true);
}

static qc_status report_failure(const qc_calibration_pass *p)
{
    for (int i = 0; i < p->c->workers; i++) {
        qc_calibration_worker *w = &p->workers[i];
        if (w->failed != atomic_load(&p->failed) || !w->plan.error_what)
            continue;
        return qc_ctx_error(p->c->ctx, w->plan.error_where,
            "%s, in sequence %zu of the calibration data (line %zu)", w->plan.error_what, w->failed,
            p->c->dataset->sequences[w->failed].line);
    }
    return qc_ctx_error(p->c->ctx, "", "the calibration failed");
}

qc_status qc_calibration_visit(qc_calibration_pass *p, qc_sequence_fn fn, void *user, bool progress)
{
    visit v = {.p = p, .fn = fn, .user = user, .progress = progress};
    atomic_store(&p->tokens, 0);
    visit_all(&v);
    return atomic_load(&p->failed) == SIZE_MAX ? QC_OK : report_failure(p);
}

void qc_calibration_forget_plans(qc_calibration_pass *p)
{
    for (int i = 0; i < p->c->workers; i++)
        p->workers[i].plan.laid_out_plan = NULL;
}

bool qc_calibration_room(qc_calibration_worker *w, char **buffer, size_t *have, size_t bytes)
{
    if (bytes <= *have)
        return true;
    free(*buffer);
    *buffer = bytes > SIZE_MAX - 63 ? NULL : aligned_alloc(64, (bytes + 63) / 64 * 64);
    *have = *buffer ? bytes : 0;
    if (!*buffer)
        qc_error(&w->plan.diag, "", "out of memory for hidden states");
    return *buffer != NULL;
}

char *qc_calibration_block(
    const qc_calibration_pass *p, qc_calibration_worker *w, size_t sequence, size_t bytes)
{
    char *block = qc_hidden_store_block(p->store, sequence);
    if (block)
        return block;
    if (!qc_calibration_room(w, &w->buffer, &w->buffer_bytes, bytes ? bytes : 1) ||
        qc_hidden_store_read(p->store, &w->plan.diag, sequence, 0, w->buffer, bytes) != QC_OK)
        return NULL;
    return w->buffer;
}

/* ---- an ordinary segment ------------------------------------------------------------------------------- */

typedef struct segment_run {
    qc_calibration_pass *p;
    const qc_plan *plan;
    qc_observed_set observed;
} segment_run;

/* Where the inputs of a sequence are. */
static qc_status take_inputs(
    const segment_run *r, qc_calibration_worker *w, size_t index, const void **inputs, size_t *offsets)
{
    const qc_segment *s = r->p->segment;
    size_t tokens = r->p->c->dataset->sequences[index].count, bytes = 0;
    for (size_t i = 0; i < s->input_count; i++)
        bytes = qc_block_next(bytes, qc_plan_input_row_bytes(r->plan, i), tokens, &offsets[i]);
    const char *block = s->input_count ? qc_calibration_block(r->p, w, index, bytes) : NULL;
    for (size_t i = 0; i < s->input_count && block; i++)
        inputs[i] = block + offsets[i];
    return block || !s->input_count ? QC_OK : QC_ERROR;
}

static qc_status keep_outputs(
    const segment_run *r, qc_calibration_worker *w, size_t index, const void *const *outputs)
{
    const qc_calibration_pass *p = r->p;
    size_t tokens = p->c->dataset->sequences[index].count, offset, at = 0;
    for (size_t i = 0; i < p->segment->output_count; i++) {
        size_t row_bytes = qc_plan_output_row_bytes(r->plan, i);
        at = qc_block_next(at, row_bytes, tokens, &offset);
        if (qc_hidden_store_write(p->store, &w->plan.diag, index, offset, outputs[i], row_bytes * tokens) !=
            QC_OK)
            return QC_ERROR;
    }
    return QC_OK;
}

static qc_status run_sequence(void *user, qc_calibration_worker *w, size_t index)
{
    segment_run *r = user;
    const qc_segment *s = r->p->segment;
    const qc_token_sequence *sequence = &r->p->c->dataset->sequences[index];
    qc_arena arena;
    qc_arena_init(&arena, w->plan.texts.oom);
    float **observed = QC_NEW_ARRAY(&arena, float *, s->observe_count + 1);
    const void **inputs = QC_NEW_ARRAY(&arena, const void *, s->input_count + 1);
    const void **outputs = QC_NEW_ARRAY(&arena, const void *, s->output_count + 1);
    size_t *offsets = QC_NEW_ARRAY(&arena, size_t, s->input_count + 1);
    float *numbers = malloc((r->observed.numbers + 1) * sizeof *numbers);
    if (numbers)
        qc_observed_set_lay_out(&r->observed, numbers, observed);
    qc_run run = {.plan = r->plan,
        .worker = &w->plan,
        .ids = sequence->ids,
        .tokens = sequence->count,
        .inputs = inputs,
        .outputs = outputs,
        .observed = observed};
    qc_status status = take_inputs(r, w, index, inputs, offsets);
    if (!numbers)
        status = qc_error(&w->plan.diag, "", "out of memory for what is observed");
    if (status == QC_OK)
        status = qc_plan_run(&run);
    if (status == QC_OK)
        status = keep_outputs(r, w, index, outputs);
    if (status == QC_OK)
        qc_observed_set_hand_in(&r->observed, index, sequence->count, numbers);
    else
        free(numbers);
    qc_arena_fini(&arena);
    return status;
}

static qc_status run_segment(qc_calibration_pass *p, size_t segment, qc_stats *stats)
{
    qc_calibration *c = p->c;
    qc_bank *bank;
    segment_run r = {.p = p};
    qc_plan *plan = qc_calibration_plan(c, segment, false, &bank);
    qc_status status = plan ? qc_rope_tables_ensure(c->rope, c->longest) : QC_ERROR;
    r.plan = plan;
    if (status == QC_OK)
        status = qc_observed_set_init(&r.observed, c->ctx, plan, p->segment->observes,
            p->segment->observe_count, stats, c->dataset->count);
    if (status == QC_OK) {
        qc_calibration_forget_plans(p);
        status = qc_calibration_visit(p, run_sequence, &r, true);
    }
    qc_observed_set_fini(&r.observed);
    qc_plan_destroy(plan);
    qc_bank_destroy(bank);
    return status;
}

/* ---- segments ------------------------------------------------------------------------------------------ */

static qc_status run_segments(qc_calibration_pass *p, qc_stats *stats)
{
    const qc_calibration *c = p->c;
    qc_status status = QC_OK;
    for (size_t i = 0; i < c->segments.count && status == QC_OK; i++) {
        p->segment = &c->segments.items[i];
        status = p->segment->region ? qc_calibration_run_experts(p, stats) : run_segment(p, i, stats);
        p->tokens_before += c->dataset->token_count;
        if (status == QC_OK)
            qc_calibration_progress(p, 0);
    }
    return status;
}

qc_status qc_calibration_run(qc_calibration *c, qc_stats *stats)
{
    if (!c->weights)
        c->weights = qc_weights_open(c->ctx, c->module, c->options.source);
    if (!c->weights)
        return QC_ERROR;
    qc_weights_set_threads(c->weights, qc_host_engine_thread_count(c->engine));
    qc_calibration_pass p = {.c = c, .tokens_total = c->dataset->token_count * c->segments.count};
    atomic_init(&p.tokens, 0);
    atomic_init(&p.failed, SIZE_MAX);
    p.workers = calloc((size_t)c->workers, sizeof *p.workers);
    if (!p.workers)
        return qc_ctx_error(c->ctx, "", "out of memory");
    for (int i = 0; i < c->workers; i++) {
        qc_worker_init(&p.workers[i].plan, c->ctx);
        p.workers[i].failed = SIZE_MAX;
    }
    if (c->segments.count > 1)
        p.store = qc_hidden_store_create(
            qc_ctx_diag(c->ctx), c->block_bytes, c->dataset->count, c->hidden_memory, NULL);
    qc_status status = c->segments.count > 1 && !p.store ? QC_ERROR : run_segments(&p, stats);
    qc_hidden_store_destroy(p.store);
    for (int i = 0; i < c->workers; i++) {
        qc_worker_fini(&p.workers[i].plan);
        free(p.workers[i].buffer);
        free(p.workers[i].rows);
    }
    free(p.workers);
    return status;
}
