/* SPDX-License-Identifier: MIT
 *
 * executor.c - sessions and runs of many sequences over one plan of @main in lowered form; see executor.h. The reference
 * backend is in executor_reference.c.
 */
#include "runtime/executor_internal.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "ir/ctx.h"
#include "ir/dtype/codec.h"
#include "passes/lower.h"
#include "passes/manager.h"

/* ---- making -------------------------------------------------------------------------------------------- */

static qc_status load(qc_executor *e, const qc_executor_options *options)
{
    qc_ctx *ctx = e->ctx;
    qc_diag *diag = qc_ctx_diag(ctx);
    const qc_value *result = qc_func_result(e->func, 0);
    e->engine = qc_host_engine_create(diag, &(qc_host_options){.thread_count = options->threads});
    if (!e->engine)
        return QC_ERROR;
    if (options->source || qc_module_source(e->module)) {
        e->weights = qc_weights_open(ctx, e->module, options->source);
        if (!e->weights)
            return QC_ERROR;
        qc_weights_set_threads(e->weights, qc_host_engine_thread_count(e->engine));
    }
    qc_value_kinds_init(&e->kinds, &e->arena);
    qc_value_kinds_add(&e->kinds, e->func);
    e->bank = qc_bank_create(&(qc_bank_options){.ctx = ctx,
        .engine = e->engine,
        .weights = e->weights,
        .lender = options->lender ? options->lender->bank : NULL});
    e->rope = qc_rope_tables_create(ctx);
    e->decomposer = qc_decomposer_create(ctx);
    if (!e->bank || !e->rope || !e->decomposer)
        return QC_ERROR;
    qc_plan_env env = {.ctx = ctx,
        .module = e->module,
        .engine = e->engine,
        .bank = e->bank,
        .rope = e->rope,
        .decomposer = e->decomposer,
        .kinds = &e->kinds};
    e->plan =
        qc_plan_create(&env, &(qc_plan_request){.func = e->func, .outputs = &result, .output_count = 1});
    if (!e->plan)
        return QC_ERROR;
    e->vocabulary = (int64_t)qc_plan_output_row_elems(e->plan, 0);
    return QC_OK;
}

/* What both backends run: ids [B, S] to logits [B, S, vocabulary]. */
static qc_status check_signature(qc_ctx *ctx, const qc_func *func)
{
    const qc_type *logits = qc_value_type(qc_func_result(func, 0));
    const qc_type *ids = qc_func_argument_count(func) == 1 ? qc_value_type(qc_func_argument(func, 0)) : NULL;
    qc_dtype dtype = qc_type_dtype(logits);
    int64_t vocabulary;
    if (!ids || qc_type_dtype(ids) != QC_I64 || qc_type_rank(ids) != 2)
        return qc_ctx_error(ctx, "main", "a function to run takes ids i64[B, S] alone");
    if (qc_type_rank(logits) != 3 || qc_type_dim(logits, 0) != qc_type_dim(ids, 0) ||
        qc_type_dim(logits, 1) != qc_type_dim(ids, 1) ||
        !qc_dim_as_int(qc_type_dim(logits, 2), &vocabulary) || vocabulary < 1 ||
        (dtype != QC_BF16 && dtype != QC_F16 && dtype != QC_F32))
        return qc_ctx_error(ctx, "main", "gives %s, not logits [B, S, vocabulary] of bf16, f16 or f32",
            qc_type_text(ctx, logits));
    return QC_OK;
}

/* Do all its attention ops see earlier tokens? What has no cache runs whole sequences alone. */
static bool keeps_tokens(qc_ctx *ctx, const qc_func *func)
{
    const qc_dim *past = qc_dim_symbol(ctx, "P");
    for (const qc_op *op = qc_func_first_op(func); op; op = qc_op_next(op)) {
        const char *mixing = qc_op_is(op, "quantized_attention") ? "k"
                             : qc_op_is(op, "attention_mask")    ? "x"
                                                                 : NULL;
        if (!mixing)
            continue;
        const qc_type *q = qc_value_type(qc_op_operand(op, 0));
        const qc_type *keys = qc_value_type(qc_op_operand_named(op, mixing));
        const qc_dim *count = qc_type_dim(keys, *mixing == 'k' ? 2 : 3);
        if (count != qc_dim_add(ctx, qc_type_dim(q, 2), past))
            return false;
    }
    return true;
}

/* The caches of the function, as cache_write says. */
static qc_status take_caches(qc_executor *e)
{
    for (const qc_op *op = qc_func_first_op(e->func); op; op = qc_op_next(op)) {
        int64_t heads, size;
        if (!qc_op_is(op, "cache_write"))
            continue;
        const qc_type *type = qc_value_type(qc_op_result(op, 0));
        if (!qc_dim_as_int(qc_type_dim(type, 1), &heads) || !qc_dim_as_int(qc_type_dim(type, 3), &size) ||
            heads < 1 || size < 1 || heads > INT32_MAX || size > INT32_MAX)
            return qc_ctx_error(e->ctx, "main", "a cache must hold [B, heads, P + S, d]");
        qc_cache_layout layout = {.heads = (size_t)heads,
            .row_bytes = ((size_t)size * (size_t)qc_dtype_bits(qc_type_dtype(type)) + 7) / 8,
            .page_tokens = (size_t)qc_attr_as_int(qc_op_attr(op, "page"))};
        QC_PUSH(&e->arena, &e->caches, layout);
        e->cache_bytes_per_token += (int64_t)(layout.heads * layout.row_bytes);
    }
    return QC_OK;
}

/* A copy of the module in lowered form: what is executed. */
static qc_module *lower(qc_ctx *ctx, const qc_module *module)
{
    qc_module *lowered = qc_module_clone(module);
    qc_registry *registry = qc_registry_create(ctx, qc_ctx_arena(ctx)->oom);
    qc_pipeline *pipeline = qc_pipeline_create(registry);
    qc_run_settings settings = {0};
    qc_status status = qc_pipeline_parse(pipeline, "lowering", QC_LOWER_PIPELINE);
    if (status == QC_OK)
        status = qc_pipeline_run(pipeline, lowered, &settings);
    qc_registry_destroy(registry);
    if (status == QC_OK)
        return lowered;
    qc_module_destroy(lowered);
    return NULL;
}

static qc_status prepare(qc_executor *e, const qc_module *module, const qc_executor_options *options)
{
    e->module = lower(e->ctx, module);
    if (!e->module)
        return QC_ERROR;
    e->func = qc_module_func(e->module, "main");
    e->keeps_tokens = keeps_tokens(e->ctx, e->func);
    if (take_caches(e))
        return QC_ERROR;
    return e->backend == QC_BACKEND_REFERENCE ? qc_executor_load_reference(e, options) : load(e, options);
}

qc_executor *qc_executor_create(qc_ctx *ctx, qc_module *module, const qc_executor_options *options)
{
    const qc_executor_options defaults = {0};
    options = options ? options : &defaults;
    const qc_func *func = qc_module_func(module, "main");
    if (!func || qc_func_result_count(func) != 1) {
        qc_ctx_error(ctx, "", "the module has no function @main with one result to run%s",
            qc_module_find_symbol(module, "import") ? ": it was imported as tensors, without a graph" : "");
        return NULL;
    }
    if (check_signature(ctx, func) != QC_OK)
        return NULL;
    qc_executor *e = calloc(1, sizeof *e);
    if (!e) {
        qc_ctx_error(ctx, "", "out of memory");
        return NULL;
    }
    e->ctx = ctx;
    e->backend = options->backend;
    qc_arena_init(&e->arena, qc_ctx_arena(ctx)->oom);
    if (prepare(e, module, options) == QC_OK)
        return e;
    qc_executor_destroy(e);
    return NULL;
}

void qc_executor_destroy(qc_executor *executor)
{
    if (!executor)
        return;
    qc_executor_unload_reference(executor);
    qc_plan_destroy(executor->plan);
    qc_decomposer_destroy(executor->decomposer);
    qc_rope_tables_destroy(executor->rope);
    qc_bank_destroy(executor->bank);
    qc_weights_close(executor->weights);
    qc_host_engine_destroy(executor->engine);
    if (executor->module)
        qc_module_destroy(executor->module);
    qc_arena_fini(&executor->arena);
    free(executor);
}

int64_t qc_executor_vocabulary(const qc_executor *executor)
{
    return executor->vocabulary;
}

size_t qc_executor_weight_bytes(const qc_executor *executor)
{
    return executor->bank ? qc_bank_bytes(executor->bank) : 0;
}

int64_t qc_executor_cache_bytes_per_token(const qc_executor *executor)
{
    return executor->cache_bytes_per_token;
}

bool qc_executor_cache_bytes(const qc_executor *executor, size_t tokens, uint64_t *bytes)
{
    return qc_pages_bytes(executor->caches.items, executor->caches.count, tokens, bytes);
}

/* ---- sessions ------------------------------------------------------------------------------------------ */

static qc_status make_caches(qc_session *s)
{
    const qc_executor *e = s->executor;
    s->pages = qc_pages_create(
        qc_ctx_diag(e->ctx), qc_plan_caches(e->plan), qc_plan_cache_count(e->plan), s->capacity);
    return s->pages ? qc_rope_tables_ensure(e->rope, s->capacity) : QC_ERROR;
}

qc_session *qc_session_create(qc_executor *executor, size_t capacity)
{
    qc_session *s = calloc(1, sizeof *s);
    if (!s) {
        qc_ctx_error(executor->ctx, "", "out of memory");
        return NULL;
    }
    s->executor = executor;
    s->capacity = capacity;
    qc_worker_init(&s->worker, executor->ctx);
    qc_status status =
        executor->backend == QC_BACKEND_REFERENCE ? qc_session_open_reference(s) : make_caches(s);
    if (status == QC_OK)
        return s;
    qc_session_destroy(s);
    return NULL;
}

void qc_session_destroy(qc_session *session)
{
    if (!session)
        return;
    qc_pages_destroy(session->pages);
    qc_session_close_reference(session);
    qc_worker_fini(&session->worker);
    free(session);
}

size_t qc_session_length(const qc_session *session)
{
    return session->length;
}

void qc_session_clear(qc_session *session)
{
    session->length = 0;
    if (session->reference)
        qc_reference_reset(session->reference);
}

static qc_status check_ids(
    const qc_executor *e, qc_diag *diag, const char *where, const int32_t *ids, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (ids[i] < 0 || ids[i] >= e->vocabulary)
            return qc_error(diag, where, "token id %d is outside the vocabulary of %lld", (int)ids[i],
                (long long)e->vocabulary);
    return QC_OK;
}

qc_status qc_session_run(qc_session *session, const int32_t *ids, size_t count, bool last_only, float *logits)
{
    const qc_executor *e = session->executor;
    qc_diag *diag = session->keeps_errors ? &session->worker.diag : qc_ctx_diag(e->ctx);
    if (count == 0)
        return QC_OK;
    if (count > session->capacity - session->length)
        return qc_error(diag, "", "%zu tokens behind %zu do not fit into a cache of %zu", count,
            session->length, session->capacity);
    if (session->length && !e->keeps_tokens)
        return qc_error(diag, "main", "its attention reads no KV cache, so a token cannot follow %zu others",
            session->length);
    if (check_ids(e, diag, "", ids, count) != QC_OK)
        return QC_ERROR;
    if (e->backend == QC_BACKEND_REFERENCE)
        return qc_session_run_reference(session, ids, count, last_only, logits);
    const void *output;
    qc_run run = {.plan = e->plan,
        .worker = &session->worker,
        .ids = ids,
        .tokens = count,
        .past = session->length,
        .last_only = last_only,
        .caches = qc_pages_table(session->pages),
        .outputs = &output};
    if (qc_pages_reserve(session->pages, &session->worker.diag, session->length + count) != QC_OK ||
        qc_plan_run(&run) != QC_OK)
        return session->keeps_errors ? QC_ERROR : qc_worker_report(&session->worker, e->ctx);
    size_t rows = last_only ? 1 : count;
    qc_host_convert(
        e->engine, qc_plan_output_dtype(e->plan, 0), output, QC_F32, logits, rows * (size_t)e->vocabulary);
    session->length += count;
    return QC_OK;
}

/* ---- many sequences ------------------------------------------------------------------------------------ */

/* Sequences are handed out in order; whoever finishes one waits for its turn to emit it, so that no more
 * logits wait than there are threads. */
typedef struct crew {
    qc_executor *executor;
    const qc_sequence *sequences;
    size_t count, next, emitted;
    bool stopped;
    qc_worker *failed_worker; /* has the error of the first sequence that failed; NULL: emit reported it */
    qc_emit_fn emit;
    void *user;
    qc_progress_fn progress;
    void *progress_user;
    uint64_t tokens_done, tokens_total;
    pthread_mutex_t lock;
    pthread_cond_t turn;
} crew;

static size_t take(crew *c)
{
    pthread_mutex_lock(&c->lock);
    size_t index = c->stopped ? c->count : c->next;
    c->next += index < c->count;
    pthread_mutex_unlock(&c->lock);
    return index;
}

static qc_status compute(crew *c, qc_worker *worker, size_t index, float **logits, size_t *capacity)
{
    const qc_executor *e = c->executor;
    const qc_sequence *sequence = &c->sequences[index];
    size_t elems = sequence->count * (size_t)e->vocabulary;
    const void *output;
    qc_run run = {.plan = e->plan,
        .worker = worker,
        .ids = sequence->ids,
        .tokens = sequence->count,
        .outputs = &output};
    if (elems > *capacity) {
        free(*logits);
        *logits = malloc(elems * sizeof **logits);
        *capacity = *logits ? elems : 0;
        if (!*logits)
            return qc_error(&worker->diag, "", "out of memory for logits of %zu tokens", sequence->count);
    }
    if (sequence->count == 0)
        return QC_OK;
    if (qc_plan_run(&run) != QC_OK)
        return QC_ERROR;
    qc_host_convert(e->engine, qc_plan_output_dtype(e->plan, 0), output, QC_F32, *logits, elems);
    return QC_OK;
}

/* Waits until all before it are out, then gives it away. */
static void finish(crew *c, qc_worker *worker, size_t index, qc_status status, const float *logits)
{
    pthread_mutex_lock(&c->lock);
    while (c->emitted < index && !c->stopped)
        pthread_cond_wait(&c->turn, &c->lock);
    if (c->emitted == index && !c->stopped) {
        bool computed = status == QC_OK;
        if (computed)
            status = c->emit(c->user, index, logits);
        if (status != QC_OK) {
            c->stopped = true;
            c->failed_worker = computed ? NULL : worker;
        } else {
            c->emitted++;
            c->tokens_done += c->sequences[index].count;
            if (c->progress)
                c->progress(c->progress_user, "run", "tokens", c->tokens_done, c->tokens_total);
        }
    }
    pthread_cond_broadcast(&c->turn);
    pthread_mutex_unlock(&c->lock);
}

static void work(crew *c, qc_worker *worker)
{
    float *logits = NULL;
    size_t capacity = 0;
    for (size_t index; (index = take(c)) < c->count;) {
        qc_status status = compute(c, worker, index, &logits, &capacity);
        finish(c, worker, index, status, logits);
    }
    free(logits);
}

static qc_status run_crew(crew *c, int threads)
{
    qc_executor *e = c->executor;
    qc_worker *workers = calloc((size_t)threads, sizeof *workers);
    if (!workers)
        return qc_ctx_error(e->ctx, "", "out of memory");
    for (int i = 0; i < threads; i++)
        qc_worker_init(&workers[i], e->ctx);
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->turn, NULL);
#ifdef _OPENMP
    if (threads > 1) {
#pragma omp parallel num_threads(threads)
        work(c, &workers[omp_get_thread_num()]);
    } else
#endif
        work(c, &workers[0]);
    pthread_cond_destroy(&c->turn);
    pthread_mutex_destroy(&c->lock);
    qc_status status = c->stopped ? QC_ERROR : QC_OK;
    if (c->stopped && c->failed_worker)
        qc_worker_report(c->failed_worker, e->ctx);
    for (int i = 0; i < threads; i++)
        qc_worker_fini(&workers[i]);
    free(workers);
    return status;
}

qc_status qc_executor_run_many(qc_executor *executor, const qc_sequence *sequences, size_t count,
    qc_emit_fn emit, void *user, qc_progress_fn progress, void *progress_user)
{
    size_t longest = 0;
    crew c = {.executor = executor,
        .sequences = sequences,
        .count = count,
        .emit = emit,
        .user = user,
        .progress = progress,
        .progress_user = progress_user};
    for (size_t i = 0; i < count; i++) {
        char where[64];
        snprintf(where, sizeof where, "sequence %zu", i);
        if (check_ids(executor, qc_ctx_diag(executor->ctx), where, sequences[i].ids, sequences[i].count) !=
            QC_OK)
            return QC_ERROR;
        longest = sequences[i].count > longest ? sequences[i].count : longest;
        c.tokens_total += sequences[i].count;
    }
    if (executor->backend == QC_BACKEND_REFERENCE)
        return qc_executor_run_many_reference(executor, sequences, count, emit, user);
    if (qc_rope_tables_ensure(executor->rope, longest) != QC_OK)
        return QC_ERROR;
    /* Fewer sequences than threads: one after another, each on all threads. The bits are the same. */
    int threads = qc_host_engine_thread_count(executor->engine);
    return run_crew(&c, count >= (size_t)threads ? threads : 1);
}
