/* SPDX-License-Identifier: MIT
 *
 * task.h - questions with known answers, as lm-evaluation-harness (0.4) asks and scores them.
 *
 * A task is a JSONL file, a question a line, of one of these shapes:
 *   {"question", "answer"}                 an answer is generated and its number compared (gsm8k.yaml's rules)
 *   {"question" and/or "context", "choices", "answer"}   the likeliest of the choices
 *   {"doc_id", "arguments", "resps", ...}  samples that lm-evaluation-harness logged (--log_samples)
 * Reading makes requests of it: texts to continue, or pairs of a context and a continuation to be scored. The
 * requests are answered by a model (task_run.h), or by the answers that logged samples hold; both are scored alike.
 */
#ifndef QC_RUNTIME_TASKS_TASK_H
#define QC_RUNTIME_TASKS_TASK_H

#include "ir/support/json.h"
#include "runtime/sampler.h"
#include "runtime/tasks/rules.h"

#define QC_TASK_DEFAULT_TOKENS 256 /* generated at most, as there */
#define QC_TASK_GSM8K_SHOTS 5

typedef enum qc_task_kind {
    QC_TASK_GENERATE,   /* one text a question */
    QC_TASK_CHOICE,     /* log-likelihoods of several continuations */
    QC_TASK_LIKELIHOOD, /* of one; only from logged samples */
} qc_task_kind;

/* How a text is generated: gen_kwargs. */
typedef struct qc_task_generation {
    const qc_task_text *until; /* the answer ends before any of these */
    size_t until_count;
    size_t max_tokens;
    qc_sampler_options sampling; /* temperature 0: the likeliest token */
    const qc_json *written;      /* the object as samples log it */
} qc_task_generation;

typedef struct qc_task_request {
    qc_task_text context, continuation;   /* continuation: kinds with log-likelihoods */
    const qc_task_generation *generation; /* kind GENERATE */
    qc_task_text text;                    /* the answers */
    double log_prob;
    bool greedy; /* every token of the continuation is the likeliest */
} qc_task_request;

/* One question. */
typedef struct qc_task_doc {
    int64_t id;
    uint32_t line;        /* of the file */
    const qc_json *value; /* the line, or what a sample holds as `doc` */
    qc_task_text question,
        target;  /* question: what the prompt ends with, shots aside; none of logged samples */
    size_t gold; /* kind CHOICE */
    const qc_task_text *choices; /* kind CHOICE: without what delimits them from the context */
    qc_task_request *requests;
    size_t request_count;
    qc_task_text *filtered; /* kind GENERATE: one a filter */
    double *scores;         /* one a row of the task: [filter, metric] */
} qc_task_doc;

/* A line of the table. */
typedef struct qc_task_row {
    const char *filter, *metric;
    bool higher_is_better;
    double value, error; /* error: NaN where there is none */
} qc_task_row;

typedef struct qc_task {
    const char *path, *name;
    const char *version; /* of the rules; NULL: not known */
    qc_task_kind kind;
    bool logged;
    int64_t shots;     /* -1: not known */
    size_t line_count; /* questions in the file, shots not counted */
    /* Shots, as questions and answers: prompts in a chat template are put together from them. */
    const qc_task_doc *shot_docs;
    size_t shot_count;
    qc_task_doc *docs;
    size_t doc_count;
    qc_task_rules rules;
    qc_task_row *rows;
    size_t row_count;
} qc_task;

typedef struct qc_task_options {
    int64_t shots;          /* -1: as usual for such a task, 5 or none */
    const char *shots_path; /* NULL: the first lines of the task's file, which then are not asked */
    size_t limit;           /* questions; 0: all */
    size_t max_tokens;      /* 0: as the task says */
    uint64_t seed;          /* where samples were drawn */
} qc_task_options;

/* Everything lives in `arena`. Errors name file and line. Logged samples keep the answers they hold; a file of
 * which no known rule gives the scores it holds is an error. */
qc_status qc_task_read(
    qc_diag *diag, qc_arena *arena, const char *path, const qc_task_options *options, qc_task *task);
/* The same from the text of a file; `path` names it. */
qc_status qc_task_parse(qc_diag *diag, qc_arena *arena, const char *path, const char *text, size_t length,
    const qc_task_options *options, qc_task *task);

/* Fills scores of documents and rows from the answers. */
qc_status qc_task_score(qc_diag *diag, qc_arena *arena, qc_task *task);

/* The table that lm-evaluation-harness prints, in Markdown. */
void qc_task_print_table(const qc_task *task, qc_arena *arena, qc_str *out);
/* One JSON object on one line, with the keys of its results file; `model` NULL: stored answers. */
void qc_task_print_json(const qc_task *task, const char *model, qc_arena *arena, qc_str *out);
/* The samples as it logs them, a line each. */
void qc_task_print_samples(const qc_task *task, qc_arena *arena, qc_str *out);

#endif
