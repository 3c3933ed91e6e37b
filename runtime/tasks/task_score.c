/* SPDX-License-Identifier: MIT
 *
 * task_score.c - scores of answers, and their means: see task.h. Means and standard errors are computed in
 * lm-evaluation-harness' order (a plain sum, then a plain sum of squared deviations), so that they are its numbers to the
 * last bit.
 */
#include "runtime/tasks/internal.h"

#include "frontends/text/python_text.h"

#include <math.h>

void qc_task_add_row(qc_task *task, qc_arena *arena, const char *filter, const char *metric)
{
    qc_task_row *rows = QC_NEW_ARRAY(arena, qc_task_row, task->row_count + 1);
    if (task->row_count)
        memcpy(rows, task->rows, task->row_count * sizeof *rows);
    rows[task->row_count++] = (qc_task_row){.filter = filter,
        .metric = metric,
        .higher_is_better = strcmp(metric, "perplexity") != 0,
        .value = NAN,
        .error = NAN};
    task->rows = rows;
}

size_t qc_task_row_index(const qc_task *task, const char *filter, const char *metric)
{
    size_t i = 0;
    while (i < task->row_count &&
           (strcmp(task->rows[i].filter, filter) != 0 || strcmp(task->rows[i].metric, metric) != 0))
        i++;
    return i;
}

static qc_status score_generated(
    qc_task_matcher *matcher, const qc_task *task, const char *where, qc_task_doc *doc)
{
    for (size_t f = 0; f < task->rules.filter_count; f++) {
        const qc_task_filter *filter = task->rules.filters[f];
        size_t row = qc_task_row_index(task, filter->name, "exact_match");
        bool equal = false;
        if (qc_task_filter_apply(matcher, where, filter, doc->requests[0].text, &doc->filtered[f]))
            return QC_ERROR;
        if (!task->rules.match || row == task->row_count)
            continue;
        if (qc_task_match_apply(matcher, where, task->rules.match, doc->filtered[f], doc->target, &equal))
            return QC_ERROR;
        doc->scores[row] = equal;
    }
    return QC_OK;
}

/* Is the right choice the first of those with the largest log-likelihood over length? */
static bool is_best(const qc_task_doc *doc, size_t (*length)(qc_task_text choice))
{
    size_t best = 0;
    double most = -INFINITY;
    for (size_t i = 0; i < doc->request_count; i++) {
        double value = doc->requests[i].log_prob;
        if (length)
            value /= (double)length(doc->choices[i]);
        if (value > most) {
            most = value;
            best = i;
        }
    }
    return best == doc->gold;
}

static size_t characters(qc_task_text choice)
{
    return qc_python_length(choice.data, choice.length);
}

static size_t bytes(qc_task_text choice)
{
    return choice.length;
}

qc_status qc_task_score_doc(
    qc_task_matcher *matcher, const qc_task *task, const char *where, qc_task_doc *doc)
{
    if (task->kind == QC_TASK_GENERATE)
        return score_generated(matcher, task, where, doc);
    for (size_t i = 0; i < task->row_count; i++) {
        const char *metric = task->rows[i].metric;
        if (strcmp(metric, "perplexity") == 0)
            doc->scores[i] = doc->requests[0].log_prob;
        else if (task->kind == QC_TASK_LIKELIHOOD)
            doc->scores[i] = doc->requests[0].greedy;
        else
            doc->scores[i] = is_best(doc, strcmp(metric, "acc_norm") == 0    ? characters
                                          : strcmp(metric, "acc_bytes") == 0 ? bytes
                                                                             : NULL);
    }
    return QC_OK;
}

static void take_mean(const qc_task *task, size_t row, qc_task_row *result)
{
    double sum = 0, squares = 0, count = (double)task->doc_count;
    bool perplexity = strcmp(result->metric, "perplexity") == 0;
    for (size_t i = 0; i < task->doc_count; i++)
        sum += task->docs[i].scores[row];
    double mean = sum / count;
    for (size_t i = 0; i < task->doc_count; i++) {
        double d = task->docs[i].scores[row] - mean;
        squares += d * d;
    }
    result->value = perplexity ? exp(-mean) : mean;
    /* A perplexity's is drawn by bootstrap there: it has none here. */
    result->error = task->doc_count < 2 || perplexity ? NAN : sqrt(squares / (count - 1)) / sqrt(count);
}

qc_status qc_task_score(qc_diag *diag, qc_arena *arena, qc_task *task)
{
    qc_task_matcher *matcher = qc_task_matcher_create(diag, arena);
    qc_status status = matcher ? QC_OK : QC_ERROR;
    for (size_t i = 0; i < task->doc_count && status == QC_OK; i++) {
        qc_task_doc *doc = &task->docs[i];
        if (task->kind == QC_TASK_GENERATE && !doc->filtered)
            doc->filtered = QC_NEW_ARRAY(arena, qc_task_text, task->rules.filter_count);
        status = qc_task_score_doc(matcher, task, qc_task_where(task, arena, doc), doc);
    }
    qc_task_matcher_destroy(matcher);
    for (size_t i = 0; i < task->row_count && status == QC_OK; i++)
        take_mean(task, i, &task->rows[i]);
    return status;
}
