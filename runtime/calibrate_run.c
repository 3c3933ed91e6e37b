/* SPDX-License-Identifier: MIT
 *
 * calibrate_run.c - segment by segment, all sequences through each.
 *
 * Several sequences run at once, one a thread, each alone in its kernels; or, where there are fewer sequences
 * than threads, one after another on all threads. Each sequence's ranges go to rows of its own, those of columns are joined,
 * which knows no order, sums wait for their turn, and its hidden states overwrite those that it came with, so nothing
 * depends on which thread did what when.
 */
#include <limits.h>
#include <stdatomic.h>
#include <stdlib.h>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "ir/ctx.h"
#include "runtime/calibrate_internal.h"

typedef struct worker {
    qc_worker plan;
    char *buffer; /* of a block that is not in memory */
    size_t buffer_bytes;
    size_t failed; /* sequence of the error in plan.diag; SIZE_MAX: none */
} worker;

/* Where the numbers of an observe go. */
typedef struct observed_records {
    qc_observed observed;
    qc_stats_record *ranges[2], *columns[2]; /* the second ones under R3; NULL: there are none */
    qc_stats_record *sums;
} observed_records;

typedef struct pass {
    qc_calibration *c;
    const qc_segment *segment;
    const qc_plan *plan;
    const qc_hidden_store *store;
    observed_records *records; /* one an observe */
    size_t numbers,
        sums; /* that a sequence gives; those of them that are sums, which are added in the order of the file */
    float **waiting; /* [sequences] sums of those that came before their turn */
    size_t turn;
    uint64_t tokens_before, tokens_total;
    atomic_uint_least64_t tokens;
    atomic_size_t failed; /* the first sequence that failed so far */
} pass;

/* ---- one sequence -------------------------------------------------------------------------------------- */

/* Where the inputs of a sequence are: one after another in its block. */
static qc_status take_inputs(const pass *p, worker *w, size_t index, const void **inputs)
{
    size_t tokens = p->c->dataset->sequences[index].count, bytes = 0;
    for (size_t i = 0; i < p->segment->input_count; i++)
        bytes += tokens * qc_plan_input_row_bytes(p->plan, i);
    const char *block = p->store ? qc_hidden_store_block(p->store, index) : NULL;
    if (!block && bytes > 0) {
        if (bytes > w->buffer_bytes) {
            free(w->buffer);
            w->buffer = malloc(bytes);
            w->buffer_bytes = w->buffer ? bytes : 0;
            if (!w->buffer)
                return qc_error(&w->plan.diag, "", "out of memory for hidden states");
        }
        if (qc_hidden_store_read(p->store, &w->plan.diag, index, w->buffer, bytes) != QC_OK)
            return QC_ERROR;
        block = w->buffer;
    }
    for (size_t i = 0; i < p->segment->input_count; i++) {
        inputs[i] = block;
        block += tokens * qc_plan_input_row_bytes(p->plan, i);
    }
    return QC_OK;
}

static qc_status keep_outputs(const pass *p, worker *w, size_t index, const void *const *outputs)
{
    size_t tokens = p->c->dataset->sequences[index].count, offset = 0;
    for (size_t i = 0; i < p->segment->output_count; i++) {
        size_t bytes = tokens * qc_plan_output_row_bytes(p->plan, i);
        if (qc_hidden_store_write(p->store, &w->plan.diag, index, offset, outputs[i], bytes) != QC_OK)
            return QC_ERROR;
        offset += bytes;
    }
    return QC_OK;
}

/* Ranges have a row a sequence, or are joined to what the columns had; both in any order. */
static void keep_ranges(const observed_records *o, size_t index, const float *numbers)
{
    for (size_t i = 0; i < 2 && o->ranges[i]; i++) {
        qc_stats_record *heads = o->ranges[i], *columns = o->columns[i];
        memcpy(heads->min + index * heads->heads, numbers, heads->heads * sizeof *numbers);
        numbers += heads->heads;
        memcpy(heads->max + index * heads->heads, numbers, heads->heads * sizeof *numbers);
        numbers += heads->heads;
        for (size_t c = 0; columns && c < columns->columns; c++) {
            columns->min[c] = qc_stats_smaller(columns->min[c], numbers[c]);
            columns->max[c] = qc_stats_larger(columns->max[c], numbers[columns->columns + c]);
        }
        numbers += columns ? 2 * columns->columns : 0;
    }
}

/* Adds the sums of a sequence to the records. */
static void add_sums(const pass *p, size_t index, const float *sums)
{
    for (size_t i = 0; i < p->segment->observe_count; i++) {
        qc_stats_record *r = p->records[i].sums;
        for (size_t c = 0; r && c < r->columns; c++)
            r->sums[c] += (double)*sums++;
        if (r)
            r->tokens += (int64_t)p->c->dataset->sequences[index].count;
    }
}

/* The sums of a sequence, without what else it gave. */
static float *only_sums(const pass *p, float *numbers, const float *sums)
{
    memmove(numbers, sums, p->sums * sizeof *numbers);
    float *less = realloc(numbers, p->sums * sizeof *numbers);
    return less ? less : numbers;
}

/* Sums are added in file order: those of a later sequence wait. Takes `numbers`, which is [ranges, sums]. */
static void hand_in(pass *p, size_t index, float *numbers)
{
#ifdef _OPENMP
#pragma omp critical(qc_calibrate_hand_in)
#endif
    {
        const float *at = numbers;
        for (size_t i = 0; i < p->segment->observe_count; i++)
            if (!p->records[i].sums) {
                keep_ranges(&p->records[i], index, at);
                at += p->records[i].observed.numbers;
            }
        if (p->sums > 0)
            p->waiting[index] = only_sums(p, numbers, at);
        else
            free(numbers);
        for (; p->turn < p->c->dataset->count && p->waiting[p->turn]; p->turn++) {
            add_sums(p, p->turn, p->waiting[p->turn]);
            free(p->waiting[p->turn]);
            p->waiting[p->turn] = NULL;
        }
    }
}

/* Where each observe of a sequence writes: ranges first, then sums. */
static void lay_out(const pass *p, float *numbers, float **observed)
{
    float *sums = numbers + (p->numbers - p->sums);
    for (size_t i = 0; i < p->segment->observe_count; i++) {
        float **at = p->records[i].sums ? &sums : &numbers;
        observed[i] = *at;
        *at += p->records[i].observed.numbers;
    }
}

static qc_status run_sequence(pass *p, worker *w, size_t index)
{
    const qc_segment *s = p->segment;
    const qc_token_sequence *sequence = &p->c->dataset->sequences[index];
    qc_arena arena;
    qc_arena_init(&arena, w->plan.texts.oom);
    float **observed = QC_NEW_ARRAY(&arena, float *, s->observe_count + 1);
    const void **inputs = QC_NEW_ARRAY(&arena, const void *, s->input_count + 1);
    const void **outputs = QC_NEW_ARRAY(&arena, const void *, s->output_count + 1);
    float *numbers = malloc((p->numbers + 1) * sizeof *numbers);
    if (numbers)
        lay_out(p, numbers, observed);
    qc_run run = {.plan = p->plan,
        .worker = &w->plan,
        .ids = sequence->ids,
        .tokens = sequence->count,
        .inputs = inputs,
        .outputs = outputs,
        .observed = observed};
    qc_status status = take_inputs(p, w, index, inputs);
    if (!numbers)
        status = qc_error(&w->plan.diag, "", "out of memory for what is observed");
    if (status == QC_OK)
        status = qc_plan_run(&run);
    if (status == QC_OK)
        status = keep_outputs(p, w, index, outputs);
    if (status == QC_OK)
        hand_in(p, index, numbers);
    else
        free(numbers);
    qc_arena_fini(&arena);
    return status;
}

/* ---- all sequences ------------------------------------------------------------------------------------- */

static void report_progress(const pass *p, uint64_t tokens)
{
    const qc_calibrate_options *o = &p->c->options;
    if (o->progress)
        o->progress(o->progress_user, "calibrate", "tokens", p->tokens_before + tokens, p->tokens_total);
}

/* Sequences behind one that failed need not run; those before it must, for the first error is the one to
 * tell. */
static void visit(pass *p, worker *w, size_t index, bool first_thread)
{
    if (index > atomic_load(&p->failed))
        return;
    if (run_sequence(p, w, index) != QC_OK) {
        size_t known = atomic_load(&p->failed);
        w->failed = index;
        while (index < known && !atomic_compare_exchange_weak(&p->failed, &known, index))
            ;
        return;
    }
    uint64_t tokens = p->c->dataset->sequences[index].count;
    tokens += atomic_fetch_add(&p->tokens, tokens);
    if (first_thread)
        report_progress(p, tokens);
}

static void visit_all(pass *p, worker *workers)
{
    size_t count = p->c->dataset->count;
#ifdef _OPENMP
    if (p->c->workers > 1) {
#pragma omp parallel for schedule(monotonic : dynamic, 1) num_threads(p->c->workers)
        for (size_t i = 0; i < count; i++)
            visit(p, &workers[omp_get_thread_num()], i, omp_get_thread_num() == 0);
        return;
    }
#endif
    for (size_t i = 0; i < count; i++)
        visit(p, &workers[0], i, true);
}

static qc_status report_failure(const pass *p, worker *workers)
{
    for (int i = 0; i < p->c->workers; i++) {
        worker *w = &workers[i];
        if (w->failed != atomic_load(&p->failed) || !w->plan.error_what)
            continue;
        return qc_ctx_error(p->c->ctx, w->plan.error_where,
            "%s, in sequence %zu of the calibration data (line %zu)", w->plan.error_what, w->failed,
            p->c->dataset->sequences[w->failed].line);
    }
    return qc_ctx_error(p->c->ctx, "", "the calibration failed");
}

/* ---- segments ------------------------------------------------------------------------------------------ */

static observed_records records_of(qc_stats *stats, const char *tap, size_t sequences, qc_observed observed)
{
    observed_records o = {.observed = observed};
    if (observed.kind != QC_OBSERVED_RANGES) {
        const bool squares = observed.kind == QC_OBSERVED_SQUARES;
        o.sums = qc_stats_add(stats, tap, squares ? QC_STATS_SQUARES : QC_STATS_MEANS, 0, observed.columns);
        return o;
    }
    for (int i = 0; i < (observed.rotated ? 2 : 1); i++) {
        const char *name = i == 0 ? tap : qc_arena_printf(stats->arena, "%s@R3", tap);
        o.ranges[i] = qc_stats_add(stats, name, QC_STATS_MINMAX, sequences, observed.heads);
        if (observed.columns)
            o.columns[i] = qc_stats_add(stats, name, QC_STATS_CHANNELS, 0, observed.columns);
    }
    return o;
}

/* The records that the segment fills. */
static void add_records(pass *p, qc_stats *stats)
{
    const qc_segment *s = p->segment;
    size_t sequences = p->c->dataset->count;
    p->records = QC_NEW_ARRAY(&p->c->arena, observed_records, s->observe_count + 1);
    p->waiting = QC_NEW_ARRAY(&p->c->arena, float *, sequences);
    p->numbers = p->sums = p->turn = 0;
    for (size_t i = 0; i < s->observe_count; i++) {
        const qc_observed observed = qc_plan_observed(p->plan, i);
        p->records[i] =
            records_of(stats, qc_attr_as_text(qc_op_attr(s->observes[i], "tap")), sequences, observed);
        p->numbers += observed.numbers;
        p->sums += p->records[i].sums ? observed.numbers : 0;
    }
}

static qc_status run_segment(pass *p, worker *workers, size_t segment, qc_stats *stats)
{
    qc_calibration *c = p->c;
    qc_bank *bank;
    qc_plan *plan = qc_calibration_plan(c, segment, false, &bank);
    qc_status status = plan ? qc_rope_tables_ensure(c->rope, c->longest) : QC_ERROR;
    if (status == QC_OK) {
        p->segment = &c->segments.items[segment];
        p->plan = plan;
        add_records(p, stats);
        for (int i = 0; i < c->workers; i++)
            workers[i].plan.laid_out_plan = NULL; /* a plan may come to lie where the last one lay */
        atomic_store(&p->tokens, 0);
        visit_all(p, workers);
        for (size_t i = 0; i < c->dataset->count; i++) /* of sequences behind one that failed */
            free(p->waiting[i]);
        if (atomic_load(&p->failed) != SIZE_MAX)
            status = report_failure(p, workers);
        p->tokens_before += c->dataset->token_count;
        if (status == QC_OK)
            report_progress(p, 0);
    }
    qc_plan_destroy(plan);
    qc_bank_destroy(bank);
    return status;
}

static qc_status run_segments(qc_calibration *c, worker *workers, qc_stats *stats)
{
    pass p = {.c = c, .tokens_total = c->dataset->token_count * c->segments.count};
    qc_hidden_store *store = NULL;
    atomic_init(&p.tokens, 0);
    atomic_init(&p.failed, SIZE_MAX);
    if (c->segments.count > 1) {
        store = qc_hidden_store_create(
            qc_ctx_diag(c->ctx), c->block_bytes, c->dataset->count, c->hidden_memory, NULL);
        if (!store)
            return QC_ERROR;
    }
    p.store = store;
    qc_status status = QC_OK;
    for (size_t i = 0; i < c->segments.count && status == QC_OK; i++)
        status = run_segment(&p, workers, i, stats);
    qc_hidden_store_destroy(store);
    return status;
}

qc_status qc_calibration_run(qc_calibration *c, qc_stats *stats)
{
    c->weights = qc_weights_open(c->ctx, c->module, c->options.source);
    if (!c->weights)
        return QC_ERROR;
    qc_weights_set_threads(c->weights, qc_host_engine_thread_count(c->engine));
    worker *workers = calloc((size_t)c->workers, sizeof *workers);
    if (!workers)
        return qc_ctx_error(c->ctx, "", "out of memory");
    for (int i = 0; i < c->workers; i++) {
        qc_worker_init(&workers[i].plan, c->ctx);
        workers[i].failed = SIZE_MAX;
    }
    qc_status status = run_segments(c, workers, stats);
    for (int i = 0; i < c->workers; i++) {
        qc_worker_fini(&workers[i].plan);
        free(workers[i].buffer);
    }
    free(workers);
    return status;
}
