/* SPDX-License-Identifier: MIT
 *
 * eval.c - see eval.h. Threads score rows of logits into arrays; the sums over them are taken in order by
 * one.
 */
#include "runtime/eval.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "backends/host/host.h"
#include "ir/ctx.h"
#include "ir/support/json.h"

/* One subject: what is known of it so far. */
typedef struct tally {
    const char *name;
    qc_eval_result *result;
    double *divergence; /* of every scored token so far */
} tally;

/* One run. Arrays of rows have one entry a scored token of the current group. */
typedef struct evaluation {
    qc_diag *diag;
    const qc_eval_windows *windows;
    const qc_eval_options *options;
    const qc_eval_subjects *subjects;
    qc_executor *baseline;
    const char *baseline_name;
    qc_mean baseline_loss;
    tally *tallies, *current;
    qc_host_engine *engine;
    size_t vocabulary;
    size_t first_window;                   /* of the group */
    size_t row;                            /* of the group, where the next window's rows go */
    float *kept;                           /* baseline logits of the group, [rows, vocabulary] */
    double *loss, *divergence, *agreement; /* of one window's rows */
    double *all_divergence;                /* [subjects, scored] where the caller has no room of its own */
    double *sorted;                        /* [scored] */
    uint64_t done, total;                  /* tokens run, for progress */
} evaluation;

static size_t scored_rows(const qc_eval_window *w)
{
    return w->count - w->first;
}

static void report_progress(evaluation *e, size_t rows)
{
    e->done += rows;
    if (e->options->progress)
        e->options->progress(e->options->progress_user, "perplexity", "tokens", e->done, e->total);
}

/* Losses of a window; row r of `logits` foretells token r + 1. */
static qc_status score_losses(evaluation *e, const qc_eval_window *w, size_t index, const float *logits,
    const char *name, qc_mean *mean)
{
    size_t rows = scored_rows(w), v = e->vocabulary;
#pragma omp parallel for schedule(static) num_threads(qc_host_engine_thread_count(e->engine)) if (rows > 4)
    for (size_t r = 0; r < rows; r++)
        e->loss[r] =
            -qc_host_log_prob(e->engine, logits + (w->first - 1 + r) * v, v, (size_t)w->ids[w->first + r]);
    for (size_t r = 0; r < rows; r++) {
        if (!isfinite(e->loss[r]))
            return qc_error(e->diag, name,
                "the logits for token %zu of sequence %zu are not finite or rule it out: there is no "
                "perplexity",
                w->first + r + 1, index + 1);
        qc_mean_add(mean, e->loss[r]);
    }
    return QC_OK;
}

static qc_status take_baseline(void *user, size_t index, const float *logits)
{
    evaluation *e = user;
    const qc_eval_window *w = &e->windows->items[e->first_window + index];
    size_t rows = scored_rows(w);
    memcpy(e->kept + e->row * e->vocabulary, logits + (w->first - 1) * e->vocabulary,
        rows * e->vocabulary * sizeof *logits);
    e->row += rows;
    if (score_losses(e, w, e->first_window + index, logits, e->baseline_name, &e->baseline_loss))
        return QC_ERROR;
    report_progress(e, rows);
    return QC_OK;
}

static void compare_rows(evaluation *e, const qc_eval_window *w, const float *logits)
{
    size_t rows = scored_rows(w), v = e->vocabulary;
    qc_eval_result *result = e->current->result;
    const float *kept = e->kept + e->row * v, *mine = logits + (w->first - 1) * v;
#pragma omp parallel for schedule(static) num_threads(qc_host_engine_thread_count(e->engine)) if (rows > 4)
    for (size_t r = 0; r < rows; r++) {
        e->divergence[r] = qc_host_kl(e->engine, kept + r * v, mine + r * v, v);
        e->agreement[r] = qc_host_argmax(kept + r * v, v) == qc_host_argmax(mine + r * v, v);
    }
    for (size_t r = 0; r < rows; r++) {
        e->current->divergence[result->divergence.count] = e->divergence[r];
        qc_mean_add(&result->divergence, e->divergence[r]);
        qc_mean_add(&result->agreement, e->agreement[r]);
    }
}

static qc_status take_model(void *user, size_t index, const float *logits)
{
    evaluation *e = user;
    const qc_eval_window *w = &e->windows->items[e->first_window + index];
    if (score_losses(e, w, e->first_window + index, logits, e->current->name, &e->current->result->loss))
        return QC_ERROR;
    if (e->kept)
        compare_rows(e, w, logits);
    e->row += scored_rows(w);
    report_progress(e, scored_rows(w));
    return QC_OK;
}

static qc_status run_group(
    evaluation *e, qc_executor *executor, qc_arena *arena, size_t first, size_t count, qc_emit_fn emit)
{
    qc_sequence *sequences = QC_NEW_ARRAY(arena, qc_sequence, count);
    for (size_t i = 0; i < count; i++)
        sequences[i] = (qc_sequence){e->windows->items[first + i].ids, e->windows->items[first + i].count};
    e->first_window = first;
    e->row = 0;
    return qc_executor_run_many(executor, sequences, count, emit, e, NULL, NULL);
}

/* Windows from `first` on whose kept logits fit; *rows of them. */
static size_t group_size(const evaluation *e, size_t first, size_t *rows)
{
    size_t count = 0, limit = QC_EVAL_GROUP_BYTES / sizeof(float) / e->vocabulary;
    for (*rows = 0; first + count < e->windows->count; count++) {
        size_t more = scored_rows(&e->windows->items[first + count]);
        if (count && *rows + more > limit)
            break;
        *rows += more;
    }
    return count;
}

/* Room for the divergences of each subject, the caller's or our own. */
static qc_status allocate_divergences(evaluation *e, double *const *divergences)
{
    size_t scored = e->windows->scored, count = e->subjects->count;
    e->sorted = calloc(scored, sizeof *e->sorted);
    if (!divergences)
        e->all_divergence =
            scored <= SIZE_MAX / sizeof(double) / count ? calloc(scored * count, sizeof(double)) : NULL;
    if (!e->sorted || (!divergences && !e->all_divergence))
        return qc_error(e->diag, e->baseline_name, "out of memory for the divergences of %zu tokens", scored);
    for (size_t i = 0; i < count; i++)
        e->tallies[i].divergence = divergences ? divergences[i] : e->all_divergence + i * scored;
    return QC_OK;
}

/* Room for the largest group and the longest window. */
static qc_status allocate(evaluation *e, double *const *divergences)
{
    size_t longest = 0, most = 0, rows;
    for (size_t i = 0; i < e->windows->count; i++)
        longest = scored_rows(&e->windows->items[i]) > longest ? scored_rows(&e->windows->items[i]) : longest;
    for (size_t i = 0; e->baseline && i < e->windows->count;) {
        i += group_size(e, i, &rows);
        most = rows > most ? rows : most;
    }
    e->loss = calloc(longest, sizeof *e->loss);
    if (!e->loss)
        return qc_error(e->diag, "", "out of memory for the losses of %zu tokens", longest);
    if (!e->baseline)
        return QC_OK;
    e->divergence = calloc(longest, sizeof *e->divergence);
    e->agreement = calloc(longest, sizeof *e->agreement);
    e->kept = most <= SIZE_MAX / sizeof *e->kept / e->vocabulary
                  ? malloc(most * e->vocabulary * sizeof *e->kept)
                  : NULL;
    if (!e->divergence || !e->agreement || !e->kept)
        return qc_error(e->diag, e->baseline_name, "out of memory for the logits of %zu tokens", most);
    return allocate_divergences(e, divergences);
}

static void release(evaluation *e)
{
    free(e->loss);
    free(e->divergence);
    free(e->agreement);
    free(e->all_divergence);
    free(e->sorted);
    free(e->kept);
    qc_host_engine_destroy(e->engine);
}

static qc_status run_subject(evaluation *e, qc_arena *arena, size_t index, size_t first, size_t count)
{
    qc_executor *executor = e->subjects->open(e->subjects->user, index);
    if (!executor)
        return QC_ERROR;
    e->current = &e->tallies[index];
    qc_status status = QC_OK;
    int64_t vocabulary = qc_executor_vocabulary(executor);
    if (e->baseline && (size_t)vocabulary != e->vocabulary)
        status = qc_error(e->diag, e->baseline_name,
            "has a vocabulary of %zu tokens, the model one of %" PRId64, e->vocabulary, vocabulary);
    e->vocabulary = (size_t)vocabulary;
    if (status == QC_OK)
        status = run_group(e, executor, arena, first, count, take_model);
    e->subjects->close(e->subjects->user, index);
    return status;
}

/* Quantiles, and the loss of the baseline, which is the same for all. */
static void finish(evaluation *e)
{
    for (size_t i = 0; i < e->subjects->count; i++) {
        qc_eval_result *r = e->tallies[i].result;
        size_t count = (size_t)r->divergence.count;
        memcpy(e->sorted, e->tallies[i].divergence, count * sizeof *e->sorted);
        r->baseline_loss = e->baseline_loss;
        r->divergence_q999 = qc_quantile(e->sorted, count, 0.999);
        r->divergence_q999_error = qc_quantile_error(e->sorted, count, 0.999);
        r->divergence_max = e->sorted[count - 1]; /* sorted by now */
    }
}

static qc_status run_windows(evaluation *e, qc_arena *arena)
{
    for (size_t first = 0, rows; first < e->windows->count;) {
        size_t count = e->baseline ? group_size(e, first, &rows) : e->windows->count;
        if (e->baseline && run_group(e, e->baseline, arena, first, count, take_baseline))
            return QC_ERROR;
        for (size_t i = 0; i < e->subjects->count; i++)
            if (run_subject(e, arena, i, first, count))
                return QC_ERROR;
        first += count;
    }
    if (e->baseline)
        finish(e);
    return QC_OK;
}

qc_status qc_eval_run_subjects(qc_ctx *ctx, qc_executor *baseline, const char *baseline_name,
    const qc_eval_subjects *subjects, const qc_eval_windows *windows, const qc_eval_options *options,
    qc_eval_result *results, double *const *divergences)
{
    qc_host_options host = {.thread_count = options->threads};
    evaluation e = {.diag = qc_ctx_diag(ctx),
        .windows = windows,
        .options = options,
        .subjects = subjects,
        .baseline = baseline,
        .baseline_name = baseline_name,
        .vocabulary = baseline ? (size_t)qc_executor_vocabulary(baseline) : 0,
        .total = windows->scored * (subjects->count + (baseline != NULL))};
    e.engine = qc_host_engine_create(e.diag, &host);
    if (!e.engine)
        return QC_ERROR;
    qc_arena arena;
    qc_arena_init(&arena, qc_ctx_arena(ctx)->oom);
    e.tallies = QC_NEW_ARRAY(&arena, tally, subjects->count);
    for (size_t i = 0; i < subjects->count; i++) {
        results[i] = (qc_eval_result){.has_baseline = baseline != NULL};
        e.tallies[i] = (tally){.name = subjects->names[i], .result = &results[i]};
    }
    qc_status status = allocate(&e, divergences);
    if (status == QC_OK)
        status = run_windows(&e, &arena);
    qc_arena_fini(&arena);
    release(&e);
    return status;
}

static qc_executor *open_only(void *user, size_t index)
{
    (void)index;
    return user;
}

static void close_only(void *user, size_t index)
{
    (void)user;
    (void)index;
}

qc_status qc_eval_run(qc_model *model, qc_model *baseline, const qc_eval_windows *windows,
    const qc_eval_options *options, qc_eval_result *result)
{
    qc_eval_subjects one = {1, (const char *const[]){model->path}, open_only, close_only, model->executor};
    return qc_eval_run_subjects(model->ctx, baseline ? baseline->executor : NULL,
        baseline ? baseline->path : NULL, &one, windows, options, result, NULL);
}

/* ---- printing ------------------------------------------------------------------------------------------ */

static void add_with_error(qc_str *out, const char *what, const char *format, double value, double error)
{
    qc_str_addf(out, "%-22s ", what);
    qc_str_addf(out, format, value);
    if (isfinite(error)) {
        qc_str_add(out, " +- ");
        qc_str_addf(out, format, error);
    }
    qc_str_add_char(out, '\n');
}

void qc_eval_print_text(const qc_eval_windows *windows, const qc_eval_result *r, qc_str *out)
{
    add_with_error(out, "perplexity", "%.4f", qc_perplexity(&r->loss), qc_perplexity_error(&r->loss));
    if (r->has_baseline) {
        add_with_error(out, "baseline perplexity", "%.4f", qc_perplexity(&r->baseline_loss),
            qc_perplexity_error(&r->baseline_loss));
        add_with_error(out, "KL divergence", "%.6f", r->divergence.mean, qc_mean_error(&r->divergence));
        add_with_error(out, "KL divergence, 99.9 %", "%.6f", r->divergence_q999, r->divergence_q999_error);
        add_with_error(out, "KL divergence, max", "%.6f", r->divergence_max, NAN);
        add_with_error(out, "top-1 agreement", "%.5f", r->agreement.mean, qc_mean_error(&r->agreement));
    }
    qc_str_addf(out, "%-22s %" PRIu64 " scored in %zu sequence%s", "tokens", windows->scored, windows->count,
        windows->count == 1 ? "" : "s");
    if (windows->context)
        qc_str_addf(out, " of at most %" PRId64, windows->context);
    qc_str_add_char(out, '\n');
}

static void set_number(qc_arena *arena, qc_json *object, const char *key, double value)
{
    qc_json_set(arena, object, key, qc_json_new_double(arena, value));
}

void qc_eval_print_json(const char *model, const char *baseline, const char *data,
    const qc_eval_windows *windows, const qc_eval_result *r, qc_arena *arena, qc_str *out)
{
    qc_json *o = qc_json_new(arena, QC_JSON_OBJECT);
    qc_json_set(arena, o, "model", qc_json_new_string(arena, model));
    qc_json_set(arena, o, "data", qc_json_new_string(arena, data));
    qc_json_set(arena, o, "context",
        windows->context ? qc_json_new_int(arena, windows->context) : qc_json_new(arena, QC_JSON_NULL));
    qc_json_set(arena, o, "sequences", qc_json_new_int(arena, (int64_t)windows->count));
    qc_json_set(arena, o, "tokens", qc_json_new_int(arena, (int64_t)windows->scored));
    set_number(arena, o, "perplexity", qc_perplexity(&r->loss));
    set_number(arena, o, "perplexity_stderr", qc_perplexity_error(&r->loss));
    set_number(arena, o, "nll", r->loss.mean);
    if (r->has_baseline) {
        qc_json_set(arena, o, "baseline", qc_json_new_string(arena, baseline));
        set_number(arena, o, "baseline_perplexity", qc_perplexity(&r->baseline_loss));
        set_number(arena, o, "baseline_perplexity_stderr", qc_perplexity_error(&r->baseline_loss));
        set_number(arena, o, "kl_divergence", r->divergence.mean);
        set_number(arena, o, "kl_divergence_stderr", qc_mean_error(&r->divergence));
        set_number(arena, o, "kl_divergence_q999", r->divergence_q999);
        set_number(arena, o, "kl_divergence_q999_stderr", r->divergence_q999_error);
        set_number(arena, o, "kl_divergence_max", r->divergence_max);
        set_number(arena, o, "top1_agreement", r->agreement.mean);
        set_number(arena, o, "top1_agreement_stderr", qc_mean_error(&r->agreement));
    }
    qc_json_write(out, o, -1, false);
    qc_str_add_char(out, '\n');
}
