/* SPDX-License-Identifier: MIT
 *
 * task_run.c - see task_run.h. A document is a job for one session (executor_work.h): its prompts differ only
 * behind what they share, so the session goes back there for each of them.
 */
#include "runtime/tasks/task_run.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "backends/host/host.h"
#include "frontends/hf/hf.h"
#include "ir/ctx.h"
#include "ir/support/io.h"
#include "runtime/executor_work.h"
#include "runtime/tasks/internal.h"
#include "runtime/tasks/task_prompts.h"

#define LOGITS_BYTES ((size_t)64 << 20) /* kept at a time, of one thread */

typedef struct run {
    qc_model *model;
    qc_task *task;
    const qc_task_prompts *prompts; /* one a document */
    size_t shared;
    bool rewinds; /* sessions can go back to what prompts share */
    qc_host_engine *engine;
    size_t vocabulary;
    qc_hf_generation config;
    qc_task_text end_text; /* of the tokenizer's end token: generated texts end there too */
    qc_str *answers;       /* one a document */
    uint64_t *generated;   /* tokens, one a document */
} run;

/* Runs the tokens of a prompt up to `end`, of which the session holds some. */
static qc_status advance(qc_session *session, const qc_task_prompt *prompt, size_t end, float *logits)
{
    size_t have = qc_session_length(session);
    return have < end ? qc_session_run(session, prompt->ids + have, end - have, true, logits) : QC_OK;
}

/* ---- log-likelihoods ----------------------------------------------------------------------------------- */

/* Rows of logits, of which the first is that of token `first` of the prompt. */
static qc_status score_rows(const run *r, const qc_task_prompts *prompts, qc_diag *diag,
    const qc_task_prompt *prompt, size_t first, size_t rows, const float *logits, qc_task_request *request)
{
    size_t v = r->vocabulary, begin = prompt->count - prompt->scored;
    for (size_t i = 0; i < rows; i++) {
        if (first + i < begin)
            continue;
        size_t target = (size_t)prompt->targets[first + i - begin];
        double log_prob = qc_host_log_prob(r->engine, logits + i * v, v, target);
        if (!isfinite(log_prob))
            return qc_error(diag, prompts->where,
                "the logits for a continuation are not finite or rule it out: it has no log-likelihood");
        request->log_prob += log_prob;
        request->greedy = request->greedy && qc_host_argmax(logits + i * v, v) == target;
    }
    return QC_OK;
}

static qc_status score_prompt(const run *r, qc_session *session, qc_diag *diag,
    const qc_task_prompts *prompts, size_t index, float *logits, size_t rows, qc_task_request *request)
{
    const qc_task_prompt *prompt = &prompts->items[index];
    size_t begin = prompt->count - prompt->scored;
    request->log_prob = 0;
    request->greedy = true;
    qc_session_rewind(session, r->rewinds ? prompts->shared : 0);
    if (!r->rewinds) /* at once, for nothing may be kept from call to call */
        return qc_session_run(session, prompt->ids, prompt->count, false, logits) ||
                       score_rows(r, prompts, diag, prompt, 0, prompt->count, logits, request)
                   ? QC_ERROR
                   : QC_OK;
    if (advance(session, prompt, begin, logits))
        return QC_ERROR;
    for (size_t at = begin; at < prompt->count; at += rows) {
        size_t part = prompt->count - at < rows ? prompt->count - at : rows;
        if (qc_session_run(session, prompt->ids + at, part, false, logits) ||
            score_rows(r, prompts, diag, prompt, at, part, logits, request))
            return QC_ERROR;
    }
    return QC_OK;
}

static bool is_same_input(const qc_task_prompt *a, const qc_task_prompt *b)
{
    return a->count == b->count && memcmp(a->ids, b->ids, a->count * sizeof *a->ids) == 0;
}

static qc_status score_doc(void *user, qc_session *session, qc_diag *diag, size_t index)
{
    run *r = user;
    const qc_task_prompts *prompts = &r->prompts[index];
    qc_task_doc *doc = &r->task->docs[index];
    size_t rows = 1, most = LOGITS_BYTES / sizeof(float) / r->vocabulary;
    for (size_t i = 0; i < prompts->count; i++) {
        size_t need = r->rewinds ? prompts->items[i].scored : prompts->items[i].count;
        rows = need > rows ? need : rows;
    }
    if (r->rewinds && rows > most)
        rows = most ? most : 1;
    float *logits = malloc(rows * r->vocabulary * sizeof *logits);
    if (!logits)
        return qc_error(diag, prompts->where, "out of memory for the logits of %zu tokens", rows);
    qc_status status = QC_OK;
    if (r->rewinds) {
        qc_session_rewind(session, r->shared);
        status = advance(session, &prompts->items[0], r->shared, logits);
        if (status == QC_OK)
            status = advance(session, &prompts->items[0], prompts->shared, logits);
    }
    for (size_t i = 0; i < prompts->count && status == QC_OK; i++) {
        const qc_task_prompt *prompt = &prompts->items[i];
        if (i && prompt->scored == 1 && prompts->items[i - 1].scored == 1 &&
            is_same_input(prompt, prompt - 1) &&
            r->rewinds) { /* choices of one token: the same row of logits */
            doc->requests[i].log_prob = 0;
            doc->requests[i].greedy = true;
            status = score_rows(r, prompts, diag, prompt, prompt->count - 1, 1, logits, &doc->requests[i]);
        } else {
            status = score_prompt(r, session, diag, prompts, i, logits, rows, &doc->requests[i]);
        }
    }
    free(logits);
    return status;
}

/* ---- texts --------------------------------------------------------------------------------------------- */

static bool is_end(const run *r, int32_t token)
{
    for (size_t i = 0; i < r->config.eos_count; i++)
        if (r->config.eos_ids[i] == token)
            return true;
    return token == qc_tokenizer_eos_id(r->model->tokenizer);
}

/* Where the first of the texts that end an answer begins in text[length]; `length` if there is none. */
static size_t find_end(
    const run *r, const qc_task_generation *g, const char *text, size_t length, size_t from)
{
    size_t first = length;
    for (size_t i = 0; i <= g->until_count; i++) {
        qc_task_text end = i < g->until_count ? g->until[i] : r->end_text;
        size_t start = from > end.length ? from - end.length : 0;
        const char *at = end.length ? memmem(text + start, length - start, end.data, end.length) : NULL;
        if (at && (size_t)(at - text) < first)
            first = (size_t)(at - text);
    }
    return first;
}

/* Of one answer. */
typedef struct writer {
    const run *r;
    const qc_task_generation *generation;
    qc_session *session;
    qc_diag *diag;
    qc_sampler *sampler;
    float *logits;
    int32_t *tokens;
    size_t count, most;
    qc_token_stream stream;
    qc_str text; /* with special tokens */
} writer;

/* The prompt has been run: a->logits are those of its last token. */
static qc_status generate_tokens(writer *a)
{
    while (a->count < a->most) {
        int32_t token;
        size_t before = a->text.length;
        if (qc_sampler_next(a->sampler, a->diag, a->logits, &token))
            return QC_ERROR;
        if (is_end(a->r, token))
            break;
        a->tokens[a->count++] = token;
        qc_token_stream_push(&a->stream, token, &a->text);
        if (find_end(a->r, a->generation, a->text.data, a->text.length, before) < a->text.length)
            break;
        if (a->count < a->most && qc_session_run(a->session, &token, 1, true, a->logits))
            return QC_ERROR;
    }
    return QC_OK;
}

static qc_status answer_prompt(writer *a, const qc_task_prompts *prompts, qc_str *out)
{
    const run *r = a->r;
    const qc_task_prompt *prompt = &prompts->items[0];
    qc_session_rewind(a->session, r->rewinds ? r->shared : 0);
    if ((r->rewinds && advance(a->session, prompt, r->shared, a->logits)) ||
        advance(a->session, prompt, prompt->count, a->logits) || generate_tokens(a))
        return QC_ERROR;
    qc_tokenizer_decode(r->model->tokenizer, a->tokens, a->count, true, out);
    size_t end = find_end(r, a->generation, out->data, out->length, 0);
    out->data[end] = 0;
    out->length = end;
    return QC_OK;
}

static qc_status answer_doc(void *user, qc_session *session, qc_diag *diag, size_t index)
{
    run *r = user;
    const qc_task_prompts *prompts = &r->prompts[index];
    const qc_task_generation *g = r->task->docs[index].requests[0].generation;
    const qc_arena *arena = qc_ctx_arena(r->model->ctx);
    size_t positions = (size_t)r->model->positions, prompt = prompts->items[0].count;
    writer a = {.r = r, .generation = g, .session = session, .diag = diag, .most = g->max_tokens};
    if (positions && positions - prompt < a.most)
        a.most = positions - prompt;
    qc_sampler_options sampling = g->sampling;
    sampling.seed += (uint64_t)index * 0x9e3779b97f4a7c15u; /* an answer is drawn by itself, in any order */
    a.sampler = qc_sampler_create(diag, r->vocabulary, &sampling);
    a.logits = calloc(r->vocabulary, sizeof *a.logits);
    a.tokens = calloc(a.most, sizeof *a.tokens);
    qc_status status = a.sampler ? QC_OK : QC_ERROR;
    if (status == QC_OK && (!a.logits || !a.tokens))
        status = qc_error(diag, prompts->where, "out of memory for an answer of %zu tokens", a.most);
    qc_str_init(&a.text, arena);
    qc_token_stream_init(&a.stream, r->model->tokenizer, false, arena);
    if (status == QC_OK)
        status = answer_prompt(&a, prompts, &r->answers[index]);
    r->generated[index] = a.count;
    qc_token_stream_fini(&a.stream);
    qc_str_fini(&a.text);
    qc_sampler_destroy(a.sampler);
    free(a.logits);
    free(a.tokens);
    return status;
}

/* ---- all ----------------------------------------------------------------------------------------------- */

static double now_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* End tokens, as generate.c reads them. */
static qc_status read_ends(run *r, qc_arena *arena)
{
    const char *directory = r->model->directory;
    int32_t eos = qc_tokenizer_eos_id(r->model->tokenizer);
    if (eos >= 0)
        r->end_text.data = qc_tokenizer_id_to_token(r->model->tokenizer, eos, &r->end_text.length);
    if (!qc_is_file(qc_path_join(arena, directory, "generation_config.json")) &&
        !qc_is_file(qc_path_join(arena, directory, "config.json")))
        return QC_OK;
    return qc_hf_read_generation(qc_ctx_diag(r->model->ctx), arena, directory, &r->config);
}

/* Tokens that a session must have room for. */
static size_t count_capacity(const run *r, qc_task_run_report *report)
{
    size_t capacity = 1, positions = (size_t)r->model->positions;
    for (size_t d = 0; d < r->task->doc_count; d++)
        for (size_t i = 0; i < r->prompts[d].count; i++) {
            size_t need = r->prompts[d].items[i].count;
            if (r->task->kind == QC_TASK_GENERATE) {
                size_t more = r->task->docs[d].requests[i].generation->max_tokens;
                bool cut = positions && positions - need < more;
                report->cut_short += cut;
                need += cut ? positions - need : more;
            }
            capacity = need > capacity ? need : capacity;
        }
    return capacity;
}

static qc_status check_memory(const run *r, size_t capacity)
{
    uint64_t memory = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE), bytes;
    uint64_t threads = (uint64_t)qc_host_engine_thread_count(r->engine);
    if (!qc_executor_cache_bytes(r->model->executor, capacity, &bytes) || bytes > memory / threads)
        return qc_ctx_error(r->model->ctx, r->task->path,
            "KV caches of %zu tokens for %" PRIu64 " threads are too large for the %" PRIu64
            " MiB of this machine (--threads, --max-tokens)",
            capacity, threads, memory >> 20);
    return QC_OK;
}

static qc_status run_all(run *r, const qc_task_run_options *options, qc_task_run_report *report)
{
    bool generate = r->task->kind == QC_TASK_GENERATE;
    if (generate && !qc_executor_keeps_tokens(r->model->executor))
        return qc_ctx_error(
            r->model->ctx, r->model->path, "its attention reads no KV cache, so it cannot generate texts");
    size_t capacity = count_capacity(r, report);
    if (check_memory(r, capacity))
        return QC_ERROR;
    if (report->cut_short)
        qc_warning(qc_ctx_diag(r->model->ctx), r->task->path,
            "%zu answers end at the model's %lld positions, before as many tokens as they might have",
            report->cut_short, (long long)r->model->positions);
    return qc_executor_work(r->model->executor, r->task->doc_count, capacity,
        generate ? answer_doc : score_doc, r, "eval", options->progress, options->progress_user);
}

qc_status qc_task_run(qc_model *model, qc_task *task, const qc_task_run_options *options, qc_arena *arena,
    qc_task_run_report *report)
{
    qc_task_prompts *prompts;
    run r = {.model = model, .task = task};
    double start = now_seconds();
    *report = (qc_task_run_report){0};
    if (qc_task_encode(model, task, options, arena, &prompts, &r.shared) || read_ends(&r, arena))
        return QC_ERROR;
    r.prompts = prompts;
    r.vocabulary = (size_t)qc_executor_vocabulary(model->executor);
    r.rewinds = qc_executor_can_rewind(model->executor);
    report->shared_tokens = r.rewinds ? r.shared : 0;
    r.answers = QC_NEW_ARRAY(arena, qc_str, task->doc_count);
    r.generated = QC_NEW_ARRAY(arena, uint64_t, task->doc_count);
    for (size_t i = 0; i < task->doc_count; i++)
        qc_str_init(&r.answers[i], arena);
    qc_host_options host = {.thread_count = options->threads};
    r.engine = qc_host_engine_create(qc_ctx_diag(model->ctx), &host);
    qc_status status = r.engine ? run_all(&r, options, report) : QC_ERROR;
    for (size_t i = 0; i < task->doc_count; i++) {
        const qc_str *answer = &r.answers[i];
        if (task->kind == QC_TASK_GENERATE)
            task->docs[i].requests[0].text =
                (qc_task_text){qc_arena_strndup(arena, answer->data, answer->length), answer->length};
        report->generated_tokens += r.generated[i];
        qc_str_fini(&r.answers[i]);
    }
    qc_host_engine_destroy(r.engine);
    report->seconds = now_seconds() - start;
    return status;
}
