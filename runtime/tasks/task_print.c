/* SPDX-License-Identifier: MIT
 *
 * task_print.c - results as lm-evaluation-harness prints and writes them: see task.h. Its table comes from
 * pytablewriter: headings centred, numbers of a column with as many decimals as the one that needs most (of the
 * four they are rounded to), to the right where all cells of the column are numbers.
 */
#include "ir/support/io.h"
#include "runtime/tasks/internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "frontends/text/python_text.h"

enum { COLUMNS = 9 };

/* ---- the table ----------------------------------------------------------------------------------------- */

typedef struct cell {
    const char *text;
    double number;
    bool is_number;
} cell;

static cell text_cell(const char *text)
{
    return (cell){.text = text};
}

static cell number_cell(double number)
{
    if (isnan(number))
        return text_cell("   N/A");
    return (cell){.number = number, .is_number = true, .text = ""};
}

/* Decimals that a number needs when it is rounded to four. */
static int decimals_of(double number)
{
    char text[400];
    int length = snprintf(text, sizeof text, "%.4f", number), decimals = 4;
    while (decimals > 0 && text[--length] == '0')
        decimals--;
    return decimals;
}

static size_t width_of(const char *text)
{
    return qc_python_length(text, strlen(text));
}

static void add_padding(qc_str *out, size_t count, char c)
{
    while (count-- > 0)
        qc_str_add_char(out, c);
}

/* "|" stands for itself only behind a backslash, which takes no room. */
static void add_cell(qc_str *out, const char *text, size_t width, size_t left_part, size_t parts)
{
    size_t room = width > width_of(text) ? width - width_of(text) : 0, left = room * left_part / parts;
    add_padding(out, left, ' ');
    for (const char *c = text; *c; c++) {
        if (*c == '|')
            qc_str_add_char(out, '\\');
        qc_str_add_char(out, *c);
    }
    add_padding(out, room - left, ' ');
    qc_str_add_char(out, '|');
}

static int by_name(const void *a, const void *b)
{
    const qc_task_row *x = *(const qc_task_row *const *)a, *y = *(const qc_task_row *const *)b;
    char left[256], right[256]; /* as keys of its results, METRIC,FILTER */
    snprintf(left, sizeof left, "%s,%s", x->metric, x->filter);
    snprintf(right, sizeof right, "%s,%s", y->metric, y->filter);
    return strcmp(left, right);
}

static const qc_task_row **sorted_rows(const qc_task *task, qc_arena *arena)
{
    const qc_task_row **rows = QC_NEW_ARRAY(arena, const qc_task_row *, task->row_count);
    for (size_t i = 0; i < task->row_count; i++)
        rows[i] = &task->rows[i];
    qsort(rows, task->row_count, sizeof(const qc_task_row *), by_name);
    return rows;
}

static void fill_row(const qc_task *task, qc_arena *arena, const qc_task_row *row, bool first, cell *cells)
{
    cells[0] = text_cell(first ? task->name : "");
    cells[1] = text_cell(!first ? "" : task->version ? task->version : "    N/A");
    cells[2] = text_cell(row->filter);
    cells[3] = text_cell(task->shots < 0 ? "" : qc_arena_printf(arena, "%lld", (long long)task->shots));
    cells[4] = text_cell(row->metric);
    cells[5] = text_cell(row->higher_is_better ? "\xe2\x86\x91" : "\xe2\x86\x93");
    cells[6] = number_cell(row->value);
    cells[7] = text_cell("\xc2\xb1");
    cells[8] = number_cell(row->error);
}

/* Numbers become texts; true if nothing but numbers is in the column. */
static bool settle_column(const qc_task *task, qc_arena *arena, cell (*cells)[COLUMNS], size_t column)
{
    int decimals = 0;
    bool numbers = column == 6 || column == 8;
    for (size_t i = 0; i < task->row_count; i++) {
        const cell *c = &cells[i][column];
        numbers = numbers && c->is_number;
        if (c->is_number && decimals_of(c->number) > decimals)
            decimals = decimals_of(c->number);
    }
    for (size_t i = 0; i < task->row_count; i++)
        if (cells[i][column].is_number)
            cells[i][column].text = qc_arena_printf(arena, "%.*f", decimals, cells[i][column].number);
    return numbers || (column == 1 && task->version) || (column == 3 && task->shots >= 0);
}

void qc_task_print_table(const qc_task *task, qc_arena *arena, qc_str *out)
{
    static const char *const heads[COLUMNS] = {
        "Tasks", "Version", "Filter", "n-shot", "Metric", "", "Value", "", "Stderr"};
    const qc_task_row **rows = sorted_rows(task, arena);
    cell(*cells)[COLUMNS] = qc_arena_calloc(arena, task->row_count, sizeof *cells);
    size_t widths[COLUMNS];
    bool right[COLUMNS], numeric[COLUMNS];
    for (size_t i = 0; i < task->row_count; i++)
        fill_row(task, arena, rows[i], i == 0, cells[i]);
    for (size_t c = 0; c < COLUMNS; c++) {
        numeric[c] = settle_column(task, arena, cells, c);
        right[c] = numeric[c] || c == 6 || c == 8;
        widths[c] = width_of(heads[c]) > 3 ? width_of(heads[c]) : 3;
        for (size_t i = 0; i < task->row_count; i++)
            if (width_of(cells[i][c].text) > widths[c])
                widths[c] = width_of(cells[i][c].text);
    }
    qc_str_add_char(out, '|');
    for (size_t c = 0; c < COLUMNS; c++)
        add_cell(out, heads[c], widths[c], 1, 2);
    qc_str_add(out, "\n|");
    for (size_t c = 0; c < COLUMNS; c++) {
        add_padding(out, widths[c] - numeric[c], '-');
        qc_str_add(out, numeric[c] ? ":|" : "|");
    }
    for (size_t i = 0; i < task->row_count; i++) {
        qc_str_add(out, "\n|");
        for (size_t c = 0; c < COLUMNS; c++)
            add_cell(out, cells[i][c].text, widths[c], right[c], 1);
    }
    qc_str_add_char(out, '\n');
}

/* ---- results as JSON ----------------------------------------------------------------------------------- */

/* {NAME: value} */
static void set_of_task(
    const qc_task *task, qc_arena *arena, qc_json *results, const char *key, qc_json *value)
{
    qc_json *object = qc_json_new(arena, QC_JSON_OBJECT);
    qc_json_set(arena, object, task->name, value);
    qc_json_set(arena, results, key, object);
}

void qc_task_print_json(const qc_task *task, const char *model, qc_arena *arena, qc_str *out)
{
    qc_json *o = qc_json_new(arena, QC_JSON_OBJECT), *values = qc_json_new(arena, QC_JSON_OBJECT),
            *better = qc_json_new(arena, QC_JSON_OBJECT), *samples = qc_json_new(arena, QC_JSON_OBJECT);
    qc_json_set(arena, values, "alias", qc_json_new_string(arena, task->name));
    qc_json_set(arena, values, "sample_len", qc_json_new_int(arena, (int64_t)task->doc_count));
    for (size_t i = 0; i < task->row_count; i++) {
        const qc_task_row *row = &task->rows[i];
        qc_json_set(arena, values, qc_arena_printf(arena, "%s,%s", row->metric, row->filter),
            qc_json_new_double(arena, row->value));
        qc_json_set(arena, values, qc_arena_printf(arena, "%s_stderr,%s", row->metric, row->filter),
            isnan(row->error) ? qc_json_new_string(arena, "N/A") : qc_json_new_double(arena, row->error));
        qc_json_set(arena, better, row->metric, qc_json_new_bool(arena, row->higher_is_better));
    }
    qc_json_set(arena, samples, "original", qc_json_new_int(arena, (int64_t)task->line_count));
    qc_json_set(arena, samples, "effective", qc_json_new_int(arena, (int64_t)task->doc_count));
    if (model)
        qc_json_set(arena, o, "model", qc_json_new_string(arena, model));
    qc_json_set(arena, o, "task", qc_json_new_string(arena, task->path));
    set_of_task(task, arena, o, "results", values);
    if (task->version)
        set_of_task(task, arena, o, "versions", qc_json_new_double(arena, atof(task->version)));
    if (task->shots >= 0)
        set_of_task(task, arena, o, "n-shot", qc_json_new_int(arena, task->shots));
    set_of_task(task, arena, o, "higher_is_better", better);
    set_of_task(task, arena, o, "n-samples", samples);
    qc_json_write(out, o, -1, false);
    qc_str_add_char(out, '\n');
}

/* ---- samples ------------------------------------------------------------------------------------------- */

static qc_json *text_json(qc_arena *arena, qc_task_text text)
{
    qc_json *value = qc_json_new(arena, QC_JSON_STRING);
    value->text = qc_arena_strndup(arena, text.data, text.length);
    value->length = text.length;
    return value;
}

/* Parsed values have parents: they are copied where they become part of another. */
static qc_json *copy_json(qc_arena *arena, const qc_json *value)
{
    qc_json *copy = qc_json_new(arena, value->kind);
    copy->boolean = value->boolean;
    copy->is_integer = value->is_integer;
    copy->integer = value->integer;
    copy->number = value->number;
    if (value->kind == QC_JSON_STRING || value->kind == QC_JSON_NUMBER) {
        copy->text = value->text;
        copy->length = value->length;
    }
    for (const qc_json *item = value->first; item; item = item->next)
        if (value->kind == QC_JSON_OBJECT)
            qc_json_set(arena, copy, item->key, copy_json(arena, item));
        else
            qc_json_push(arena, copy, copy_json(arena, item));
    return copy;
}

static qc_json *hash_json(qc_arena *arena, const char *data, size_t length)
{
    qc_sha256 hash;
    char hex[65];
    qc_sha256_init(&hash);
    qc_sha256_add(&hash, data, length);
    qc_sha256_hex(&hash, hex);
    return qc_json_new_string(arena, hex);
}

/* ["-1.25", "False"] */
static qc_json *likelihood_json(qc_arena *arena, const qc_task_request *request)
{
    qc_json *pair = qc_json_new(arena, QC_JSON_ARRAY);
    qc_str number;
    qc_str_init(&number, arena);
    qc_str_add_f64(&number, request->log_prob);
    qc_json_push(arena, pair, qc_json_new_string(arena, number.data));
    qc_json_push(arena, pair, qc_json_new_string(arena, request->greedy ? "True" : "False"));
    qc_str_fini(&number);
    return pair;
}

static void set_requests(
    const qc_task *task, const qc_task_doc *doc, size_t filter, qc_arena *arena, qc_json *sample)
{
    qc_json *arguments = qc_json_new(arena, QC_JSON_OBJECT), *answers = qc_json_new(arena, QC_JSON_ARRAY),
            *filtered = qc_json_new(arena, QC_JSON_ARRAY);
    for (size_t i = 0; i < doc->request_count; i++) {
        const qc_task_request *r = &doc->requests[i];
        qc_json *args = qc_json_new(arena, QC_JSON_OBJECT), *once = qc_json_new(arena, QC_JSON_ARRAY);
        bool generate = task->kind == QC_TASK_GENERATE;
        qc_json_set(arena, args, "arg_0", text_json(arena, r->context));
        qc_json_set(arena, args, "arg_1",
            generate ? copy_json(arena, r->generation->written) : text_json(arena, r->continuation));
        qc_json_set(arena, arguments, qc_arena_printf(arena, "gen_args_%zu", i), args);
        qc_json_push(arena, once, generate ? text_json(arena, r->text) : likelihood_json(arena, r));
        qc_json_push(arena, answers, once);
        qc_json_push(
            arena, filtered, generate ? text_json(arena, doc->filtered[filter]) : likelihood_json(arena, r));
    }
    qc_json_set(arena, sample, "arguments", arguments);
    qc_json_set(arena, sample, "resps", answers);
    qc_json_set(arena, sample, "filtered_resps", filtered);
}

static void set_metrics(const qc_task *task, const char *filter, qc_arena *arena, qc_json *sample)
{
    qc_json *metrics = qc_json_new(arena, QC_JSON_ARRAY);
    for (size_t i = 0; i < task->row_count; i++)
        if (strcmp(task->rows[i].filter, filter) == 0)
            qc_json_push(arena, metrics, qc_json_new_string(arena, task->rows[i].metric));
    qc_json_set(arena, sample, "metrics", metrics);
}

static void print_sample(const qc_task *task, const qc_task_doc *doc, size_t filter, const char *name,
    qc_arena *arena, qc_str *out)
{
    qc_json *sample = qc_json_new(arena, QC_JSON_OBJECT);
    qc_task_text target = doc->target;
    qc_str text;
    qc_str_init(&text, arena);
    if (task->kind == QC_TASK_CHOICE && !task->logged)
        target = qc_task_text_z(qc_arena_printf(arena, "%zu", doc->gold));
    qc_json_set(arena, sample, "doc_id", qc_json_new_int(arena, doc->id));
    qc_json_set(arena, sample, "doc", copy_json(arena, doc->value));
    qc_json_set(arena, sample, "target", text_json(arena, target));
    set_requests(task, doc, filter, arena, sample);
    qc_json_set(arena, sample, "filter", qc_json_new_string(arena, name));
    set_metrics(task, name, arena, sample);
    qc_json_write_utf8(&text, doc->value, 2);
    qc_json_set(arena, sample, "doc_hash", hash_json(arena, text.data, text.length));
    qc_json_set(arena, sample, "prompt_hash",
        hash_json(arena, doc->requests[0].context.data, doc->requests[0].context.length));
    qc_json_set(arena, sample, "target_hash", hash_json(arena, target.data, target.length));
    for (size_t i = 0; i < task->row_count; i++)
        if (strcmp(task->rows[i].filter, name) == 0)
            qc_json_set(arena, sample, task->rows[i].metric, qc_json_new_double(arena, doc->scores[i]));
    qc_json_write_utf8(out, sample, -1);
    qc_str_add_char(out, '\n');
    qc_str_fini(&text);
}

void qc_task_print_samples(const qc_task *task, qc_arena *arena, qc_str *out)
{
    bool generate = task->kind == QC_TASK_GENERATE;
    size_t filters = generate ? task->rules.filter_count : 1;
    qc_arena scratch;
    qc_arena_init(&scratch, arena->oom);
    for (size_t f = 0; f < filters; f++)
        for (size_t i = 0; i < task->doc_count; i++) {
            print_sample(task, &task->docs[i], f,
                generate ? task->rules.filters[f]->name : task->rows[0].filter, &scratch, out);
            qc_arena_fini(&scratch);
        }
    qc_arena_fini(&scratch);
}
