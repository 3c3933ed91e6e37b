/* SPDX-License-Identifier: MIT
 *
 * rules.h - what of a generated text is the answer, and when it is the right one: the filters and the metric
 * exact_match of lm-evaluation-harness, with the patterns of its gsm8k tasks.
 *
 * Patterns are Python's, of a subset that PCRE2 reads alike. Matching is bounded, so that no text makes it take
 * forever.
 */
#ifndef QC_RUNTIME_TASKS_RULES_H
#define QC_RUNTIME_TASKS_RULES_H

#include "ir/support/diag.h"
#include "ir/support/str.h"

#define QC_TASK_MAX_FILTERS 4

typedef struct qc_task_text {
    const char *data; /* UTF-8, may hold NULs */
    size_t length;
} qc_task_text;

typedef struct qc_task_filter {
    const char *name;
    const char *task;    /* whose it is */
    const char *pattern; /* NULL: the text as it is */
    bool last;           /* of the matches the last one, else the first */
} qc_task_filter;

/* What exact_match takes away before it compares. */
typedef struct qc_task_match {
    const char *task;
    const char *const *ignored; /* patterns, applied in order */
    size_t ignored_count;
    bool ignore_case;
} qc_task_match;

typedef struct qc_task_rules {
    const qc_task_filter *filters[QC_TASK_MAX_FILTERS];
    size_t filter_count;
    const qc_task_match *match;
} qc_task_rules;

/* Rows of the table of filters of that name, NULL behind the last. */
const qc_task_filter *qc_task_filter_named(const char *name, size_t length, size_t index);
/* Rows of the table of metrics' rules, NULL behind the last; row 0 is gsm8k's. */
const qc_task_match *qc_task_match_at(size_t index);
/* strict-match and flexible-extract of gsm8k. */
qc_task_rules qc_task_gsm8k_rules(void);

typedef struct qc_task_matcher qc_task_matcher;

/* Compiles patterns when they are first used. NULL after a diagnostic (memory). */
qc_task_matcher *qc_task_matcher_create(qc_diag *diag, qc_arena *arena);
void qc_task_matcher_destroy(qc_task_matcher *matcher); /* NULL is fine */

/* What the filter makes of a text: a part of it, or "[invalid]". `where` names it in errors. */
qc_status qc_task_filter_apply(qc_task_matcher *matcher, const char *where, const qc_task_filter *filter,
    qc_task_text text, qc_task_text *part);
/* Are both equal once what is to be ignored has been taken away? */
qc_status qc_task_match_apply(qc_task_matcher *matcher, const char *where, const qc_task_match *match,
    qc_task_text answer, qc_task_text target, bool *equal);

#endif
