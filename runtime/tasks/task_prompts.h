/* SPDX-License-Identifier: MIT
 *
 * task_prompts.h - requests of a task as tokens.
 */
#ifndef QC_RUNTIME_TASKS_TASK_PROMPTS_H
#define QC_RUNTIME_TASKS_TASK_PROMPTS_H

#include "runtime/tasks/task_run.h"

/* A request as tokens: ids[count] are run; of the logits the last `scored` rows count, which foretell
 * targets[scored]. For a text to be generated, only the last row counts. */
typedef struct qc_task_prompt {
    const int32_t *ids, *targets;
    size_t count, scored;
} qc_task_prompt;

/* A document. */
typedef struct qc_task_prompts {
    const char *where; /* FILE:LINE */
    qc_task_prompt *items;
    size_t count;
    size_t shared; /* leading tokens that are the same in all and need no logits */
} qc_task_prompts;

/* One a document of the task; *shared: leading tokens that are the same in all documents. Contexts become those of the
 * chat template first, where that is asked for. */
qc_status qc_task_encode(qc_model *model, qc_task *task, const qc_task_run_options *options, qc_arena *arena,
    qc_task_prompts **prompts, size_t *shared);

#endif
