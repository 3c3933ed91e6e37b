/* SPDX-License-Identifier: MIT
 *
 * executor_work.h - jobs that each take a session, on all threads: what evaluations of tasks are made of.
 *
 * A session that was used for one job is used for the next; what the jobs have in common (the tokens that all
 * prompts begin with) stays in its KV cache, by qc_session_rewind.
 */
#ifndef QC_RUNTIME_EXECUTOR_WORK_H
#define QC_RUNTIME_EXECUTOR_WORK_H

#include "ir/support/diag.h"
#include "runtime/executor.h"

/* Does a token see those of earlier calls? Not in a model without a KV cache. */
bool qc_executor_keeps_tokens(const qc_executor *executor);
/* Can its sessions forget a part of their tokens? Not on the reference backend. */
bool qc_executor_can_rewind(const qc_executor *executor);
/* Forgets the tokens behind the first `length`; all of them where it cannot keep a part: qc_session_length says what is
 * left. */
void qc_session_rewind(qc_session *session, size_t length);

/* One job. Errors go to `diag`, which is the thread's own; those of qc_session_run get there by themselves. */
typedef qc_status (*qc_work_fn)(void *user, qc_session *session, qc_diag *diag, size_t index);

/* Calls work(0) ... work(count - 1), each once, in any order; sessions have room for `capacity` tokens. As many
 * jobs run at once as there are threads, or one at a time on all threads where there are fewer jobs; what they
 * compute does not depend on it. After an error no further job starts; one error is reported, that of the first job
 * (by index) that failed. `progress` (may be NULL) is called by one thread at a time. */
qc_status qc_executor_work(qc_executor *executor, size_t count, size_t capacity, qc_work_fn work, void *user,
    const char *what, qc_progress_fn progress, void *progress_user);

#endif
