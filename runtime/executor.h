/* SPDX-License-Identifier: MIT
 *
 * executor.h - runs a function of a module on the CPU, one sequence at a time or many.
 *
 * A function takes ids [B, S] and gives logits [B, S, vocabulary]; P is what the KV cache of the sequence already
 * holds. Sequences are independent: each is computed as if it were alone (B = 1), so results are the same bits for
 * any batch, any grouping and any thread count; several sequences run on several threads, one alone is spread
 * over the threads inside the kernels. Values are rounded where the IR has a narrow type, nowhere else.
 */
#ifndef QC_RUNTIME_EXECUTOR_H
#define QC_RUNTIME_EXECUTOR_H

#include "qc/ir.h"
#include "runtime/progress.h"

typedef struct qc_executor qc_executor;
typedef struct qc_session qc_session;

typedef enum qc_backend {
    QC_BACKEND_HOST,      /* oneDNN and the kernels of backends/host */
    QC_BACKEND_REFERENCE, /* the op table's semantics; slow */
} qc_backend;

typedef struct qc_executor_options {
    qc_backend backend;
    int threads;        /* 0: all processors */
    const char *source; /* where the weights lie; NULL: the module's source */
    /* One over the same source, to outlive this one: weights that both read as they are in the files are held once. May
     * be NULL. */
    const qc_executor *lender;
} qc_executor_options;

/* Loads all weights. NULL after a diagnostic. What is executed is a copy in lowered form (passes/lower.h): codes in
 * caches of pages, read by quantized_attention. */
qc_executor *qc_executor_create(qc_ctx *ctx, qc_module *module, const qc_executor_options *options);
void qc_executor_destroy(qc_executor *executor);
int64_t qc_executor_vocabulary(const qc_executor *executor);
/* Bytes of prepared weights; what is lent counts with the lender. */
size_t qc_executor_weight_bytes(const qc_executor *executor);
/* Bytes of KV cache per token of one sequence, as it is stored: codes of 4 bits take half a byte, scales that are
 * made as the model runs count. */
int64_t qc_executor_cache_bytes_per_token(const qc_executor *executor);
/* The most that the caches of one sequence of `tokens` tokens take, in whole pages. False when it overflows. */
bool qc_executor_cache_bytes(const qc_executor *executor, size_t tokens, uint64_t *bytes);

/* The KV cache of one sequence, for at most `capacity` tokens; its memory comes as tokens do. */
qc_session *qc_session_create(qc_executor *executor, size_t capacity);
void qc_session_destroy(qc_session *session);
size_t qc_session_length(const qc_session *session);
void qc_session_clear(qc_session *session);
/* Appends `count` tokens and computes their logits, f32: [count, vocabulary], or with last_only those of the last token
 * alone [1, vocabulary]. A token id outside the vocabulary, or more tokens than there is room for, is an error. */
qc_status qc_session_run(
    qc_session *session, const int32_t *ids, size_t count, bool last_only, float *logits);

/* Logits of many independent sequences, past 0. `emit` gets each sequence's [count, vocabulary] logits, called in
 * order of the sequences, one at a time, from any thread; a non-OK answer stops the run. Calls of `progress` come as
 * those of `emit` do. */
typedef struct qc_sequence {
    const int32_t *ids;
    size_t count;
} qc_sequence;
typedef qc_status (*qc_emit_fn)(void *user, size_t index, const float *logits);
qc_status qc_executor_run_many(qc_executor *executor, const qc_sequence *sequences, size_t count,
    qc_emit_fn emit, void *user, qc_progress_fn progress, void *progress_user);

#endif
