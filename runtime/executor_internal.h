/* SPDX-License-Identifier: MIT
 *
 * executor_internal.h - executors and sessions from inside: the host's plan, or the reference interpreter.
 */
#ifndef QC_RUNTIME_EXECUTOR_INTERNAL_H
#define QC_RUNTIME_EXECUTOR_INTERNAL_H

#include "backends/reference/reference.h"
#include "runtime/executor.h"
#include "runtime/plan.h"

struct qc_executor {
    qc_ctx *ctx;
    qc_module *module; /* the executor's own, in lowered form */
    const qc_func *func;
    qc_backend backend;
    int64_t vocabulary, cache_bytes_per_token;
    bool keeps_tokens; /* attention sees the tokens of earlier calls */
    qc_arena arena;
    QC_VEC(qc_cache_layout) caches;
    qc_weights *weights; /* NULL when the module names no source */
    /* host */
    qc_host_engine *engine;
    qc_value_kinds kinds;
    qc_bank *bank;
    qc_rope_tables *rope;
    qc_decomposer *decomposer;
    qc_plan *plan;
    /* reference */
    qc_reference *reference;
    qc_map stored; /* tensor name -> qc_tensor *, read so far */
};

struct qc_session {
    qc_executor *executor;
    size_t capacity, length;
    bool keeps_errors; /* errors of runs stay in the worker: other threads use the context too */
    qc_worker worker;
    qc_pages *pages;         /* host: the caches of the plan */
    qc_reference *reference; /* reference: holds the cache */
};

qc_status qc_executor_load_reference(qc_executor *executor, const qc_executor_options *options);
void qc_executor_unload_reference(qc_executor *executor);
qc_status qc_session_open_reference(qc_session *session);
void qc_session_close_reference(qc_session *session);
qc_status qc_session_run_reference(
    qc_session *session, const int32_t *ids, size_t count, bool last_only, float *logits);
qc_status qc_executor_run_many_reference(
    qc_executor *executor, const qc_sequence *sequences, size_t count, qc_emit_fn emit, void *user);

#endif
