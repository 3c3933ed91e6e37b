/* SPDX-License-Identifier: MIT
 *
 * internal.h - what the files of this folder share: see task.h.
 */
#ifndef QC_RUNTIME_TASKS_INTERNAL_H
#define QC_RUNTIME_TASKS_INTERNAL_H

#include "runtime/tasks/task.h"

/* A line of a log: what one filter made of the answers to a question. */
typedef struct qc_task_sample {
    size_t doc;
    uint32_t line;
    const qc_json *value;
} qc_task_sample;

/* Being read. */
typedef struct qc_task_reader {
    qc_diag *diag;
    qc_arena *arena;
    const qc_task_options *options;
    qc_task *task;
    size_t lines; /* so far */
    QC_VEC(qc_task_doc) docs;
    QC_VEC(qc_task_sample) samples; /* logs */
    qc_map doc_ids;                 /* logs: id -> document, plus one */
} qc_task_reader;

/* One line of a JSONL file. */
typedef struct qc_task_line {
    uint32_t number;
    const char *where; /* FILE:LINE */
    const qc_json *value;
} qc_task_line;

typedef qc_status (*qc_task_line_fn)(qc_task_reader *reader, const qc_task_line *line);
/* Every line of the text of `path` that is not blank, an object each. */
qc_status qc_task_each_line(
    qc_task_reader *reader, const char *path, const char *text, size_t length, qc_task_line_fn take);

/* A line of a log; and, when all have been taken, filters, rows and rules. */
qc_status qc_task_take_sample(qc_task_reader *reader, const qc_task_line *line);
qc_status qc_task_finish_log(qc_task_reader *reader);
/* Name of the task in the name of a log, samples_NAME_DATE.jsonl; else the file's without its ending. */
const char *qc_task_name(qc_arena *arena, const char *path, bool logged);

/* FILE:LINE of a document. */
const char *qc_task_where(const qc_task *task, qc_arena *arena, const qc_task_doc *doc);
qc_task_text qc_task_text_of(const qc_json *string);
qc_task_text qc_task_text_z(const char *text);
/* An array's strings. Errors say that `what` must be a list of them. */
qc_status qc_task_texts(
    qc_task_reader *reader, const char *where, const char *what, const qc_json *list, qc_task_text **texts);

/* Score of a document: index of the row of (filter, metric). */
size_t qc_task_row_index(const qc_task *task, const char *filter, const char *metric);
/* Adds a row; its filter and metric are not copied. */
void qc_task_add_row(qc_task *task, qc_arena *arena, const char *filter, const char *metric);
/* Scores of one document by the task's rules. */
qc_status qc_task_score_doc(
    qc_task_matcher *matcher, const qc_task *task, const char *where, qc_task_doc *doc);

#endif
