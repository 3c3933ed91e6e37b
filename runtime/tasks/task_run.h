/* SPDX-License-Identifier: MIT
 *
 * task_run.h - a model answers the requests of a task.
 *
 * Texts become tokens as lm-evaluation-harness makes them: with the special tokens that the tokenizer adds,
 * unless the text begins with one already; of a context and its continuation, white space at the context's end
 * goes to the continuation, both are encoded together and parted where the context alone would end. Tokens that
 * all prompts begin with are run once a thread, those that the choices of a question share once a question. What is
 * computed does not depend on the number of threads.
 */
#ifndef QC_RUNTIME_TASKS_TASK_RUN_H
#define QC_RUNTIME_TASKS_TASK_RUN_H

#include "runtime/model.h"
#include "runtime/tasks/task.h"

typedef struct qc_task_run_options {
    bool add_bos; /* every prompt begins with the BOS token, though the tokenizer would not put it there */
    bool chat;    /* prompts are put into the model's chat template: shots are turns of a conversation */
    int threads;
    qc_progress_fn progress; /* may be NULL */
    void *progress_user;
} qc_task_run_options;

typedef struct qc_task_run_report {
    size_t shared_tokens; /* that all prompts begin with */
    uint64_t generated_tokens;
    size_t cut_short; /* questions whose answer may be shorter for want of positions */
    double seconds;
} qc_task_run_report;

/* Fills the answers of the task's documents. The model needs its tokenizer and its weights. A prompt that is longer
 * than the model's positions is an error that names file and line. */
qc_status qc_task_run(qc_model *model, qc_task *task, const qc_task_run_options *options, qc_arena *arena,
    qc_task_run_report *report);

#endif
