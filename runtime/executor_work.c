/* SPDX-License-Identifier: MIT
 *
 * executor_work.c - see executor_work.h.
 */
#include "runtime/executor_work.h"

#include <pthread.h>
#include <stdlib.h>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "ir/ctx.h"
#include "runtime/executor_internal.h"

bool qc_executor_keeps_tokens(const qc_executor *executor)
{
    return executor->keeps_tokens;
}

bool qc_executor_can_rewind(const qc_executor *executor)
{
    return executor->keeps_tokens && executor->backend == QC_BACKEND_HOST;
}

void qc_session_rewind(qc_session *session, size_t length)
{
    if (length >= session->length)
        return;
    if (length == 0 || !qc_executor_can_rewind(session->executor))
        qc_session_clear(session);
    else
        session->length = length;
}

typedef struct shift {
    size_t count, next, done;
    qc_work_fn work;
    void *user;
    const char *what;
    qc_progress_fn progress;
    void *progress_user;
    size_t failed_index; /* count: none */
    qc_session *failed;  /* its worker has the error */
    pthread_mutex_t lock;
} shift;

static size_t take(shift *s)
{
    pthread_mutex_lock(&s->lock);
    size_t index = s->failed ? s->count : s->next;
    s->next += index < s->count;
    pthread_mutex_unlock(&s->lock);
    return index;
}

static void give_back(shift *s, qc_session *session, size_t index, qc_status status)
{
    pthread_mutex_lock(&s->lock);
    if (status != QC_OK && index < s->failed_index) {
        s->failed_index = index;
        s->failed = session;
    } else if (status == QC_OK) {
        s->done++;
        if (s->progress)
            s->progress(s->progress_user, s->what, "samples", s->done, s->count);
    }
    pthread_mutex_unlock(&s->lock);
}

static void do_jobs(shift *s, qc_session *session)
{
    for (size_t index; (index = take(s)) < s->count;) {
        qc_status status = s->work(s->user, session, &session->worker.diag, index);
        give_back(s, session, index, status);
        if (status != QC_OK)
            break; /* the error stays in the session's worker */
    }
}

static qc_status run_shift(shift *s, qc_session **sessions, int threads)
{
    pthread_mutex_init(&s->lock, NULL);
#ifdef _OPENMP
    if (threads > 1) {
#pragma omp parallel num_threads(threads)
        do_jobs(s, sessions[omp_get_thread_num()]);
    } else
#endif
        do_jobs(s, sessions[0]);
    (void)threads;
    pthread_mutex_destroy(&s->lock);
    if (!s->failed)
        return QC_OK;
    qc_worker *worker = &s->failed->worker; /* without an error: it has been reported already */
    return worker->error_what ? qc_worker_report(worker, s->failed->executor->ctx) : QC_ERROR;
}

qc_status qc_executor_work(qc_executor *executor, size_t count, size_t capacity, qc_work_fn work, void *user,
    const char *what, qc_progress_fn progress, void *progress_user)
{
    shift s = {.count = count,
        .work = work,
        .user = user,
        .what = what,
        .progress = progress,
        .progress_user = progress_user,
        .failed_index = count};
    int threads =
        executor->backend == QC_BACKEND_REFERENCE ? 1 : qc_host_engine_thread_count(executor->engine);
    if (count < (size_t)threads)
        threads = 1;
    qc_session **sessions = calloc((size_t)threads, sizeof(qc_session *));
    if (!sessions)
        return qc_ctx_error(executor->ctx, "", "out of memory");
    qc_status status = QC_OK;
    for (int i = 0; i < threads && status == QC_OK; i++) {
        sessions[i] = qc_session_create(executor, capacity);
        status = sessions[i] ? QC_OK : QC_ERROR;
        if (sessions[i])
            sessions[i]->keeps_errors = true;
    }
    if (status == QC_OK)
        status = run_shift(&s, sessions, threads);
    for (int i = 0; i < threads; i++)
        qc_session_destroy(sessions[i]);
    free(sessions);
    return status;
}
