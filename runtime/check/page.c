/* SPDX-License-Identifier: MIT
 *
 * page.c - the JSON report of a checkpoint as a page of HTML: qc_check_page of check.h. It is made of the report, so the
 * page says what the report does.
 */
#include <math.h>

#include "ir/support/json.h"
#include "runtime/check/check.h"
#include "runtime/check/merge.h"
#include "runtime/report/html.h"
#include "runtime/report/plot.h"

enum { MAX_BARS = 60 };

static const char *text_of(const qc_json *object, const char *key)
{
    const qc_json *value = qc_json_get(object, key);
    return value && value->kind == QC_JSON_STRING ? value->text : "";
}

static double number_of(const qc_json *object, const char *key)
{
    const qc_json *value = qc_json_get(object, key);
    return value && value->kind == QC_JSON_NUMBER ? value->number : NAN;
}

static bool is_true(const qc_json *object, const char *key)
{
    const qc_json *value = qc_json_get(object, key);
    return value && value->kind == QC_JSON_BOOL && value->boolean;
}

static const qc_json *children(const qc_json *object, const char *key)
{
    const qc_json *list = qc_json_get(object, key);
    return list && list->kind == QC_JSON_ARRAY ? list->first : NULL;
}

static void add_number_cell(qc_arena *arena, qc_str *out, const char *format, double value)
{
    qc_html_cell(out, true, isnan(value) ? "-" : qc_arena_printf(arena, format, value));
}

/* ---- problems, and anything else that is told in words ------------------------------------------------- */

static void add_json(qc_arena *arena, const char *heading, const qc_json *value, qc_str *out)
{
    qc_str text;
    if (!value || value->kind == QC_JSON_NULL)
        return;
    qc_str_init(&text, arena);
    qc_json_write(&text, value, 2, false);
    qc_html_heading(out, 2, heading);
    qc_html_code(out, text.data);
    qc_str_fini(&text);
}

static void add_problems(qc_arena *arena, const qc_json *report, qc_str *out)
{
    const qc_json *first = children(report, "problems");
    qc_html_heading(out, 2, "Problems");
    if (!first)
        qc_html_paragraph(out, "None.");
    check_merge merge;
    check_merge_init(&merge, arena, false);
    for (const qc_json *p = first; p; p = p->next)
        check_merge_add(&merge, p->kind == QC_JSON_STRING ? p->text : "", "");
    for (size_t i = 0; i < merge.lines.count; i++)
        qc_html_paragraph(out, check_merged_name(arena, merge.lines.items[i]));
}

/* ---- a listing ----------------------------------------------------------------------------------------- */

static const char *shape_of(qc_arena *arena, const qc_json *tensor)
{
    const char *text = "";
    for (const qc_json *d = children(tensor, "shape"); d; d = d->next)
        text = qc_arena_printf(arena, "%s%s%lld", text, text[0] ? ", " : "", (long long)d->integer);
    return qc_arena_printf(arena, "[%s]", text);
}

/* Bytes of all tensors of each element type. */
static void add_types(qc_arena *arena, const qc_json *report, qc_str *out)
{
    qc_map types;
    qc_map_init(&types, arena);
    for (const qc_json *t = children(report, "tensors"); t; t = t->next) {
        double *bytes = qc_map_get(&types, text_of(t, "dtype"));
        if (!bytes) {
            bytes = QC_NEW(arena, double);
            qc_map_set(&types, text_of(t, "dtype"), bytes);
        }
        *bytes += number_of(t, "bytes");
    }
    qc_plot_bar *bars = QC_NEW_ARRAY(arena, qc_plot_bar, types.count + 1);
    for (size_t i = 0; i < types.count; i++)
        bars[i] = (qc_plot_bar){types.entries[i].key, *(double *)types.entries[i].value};
    qc_plot_bars(out, "bytes by element type", "bytes", bars, types.count);
}

static void add_listing(qc_arena *arena, const qc_json *report, qc_str *out)
{
    static const char *const heads[] = {"tensor", "type", "shape", "bytes"};
    qc_html_heading(out, 2, "Element types");
    add_types(arena, report, out);
    add_problems(arena, report, out);
    add_json(arena, "Loader", qc_json_get(report, "target"), out);
    add_json(arena, "Quantization", qc_json_get(report, "quantization_config"), out);
    qc_html_heading(out, 2, "Tensors");
    qc_html_table_begin(out, heads, 4);
    check_merge merge;
    check_merge_init(&merge, arena, false);
    const qc_json *next = children(report, "tensors");
    for (const qc_json *t = next; t; t = t->next)
        check_merge_add(&merge, text_of(t, "name"),
            qc_arena_printf(arena, "%s %s", text_of(t, "dtype"), shape_of(arena, t)));
    for (size_t i = 0; next; next = next->next, i++) {
        const check_merged *line = merge.line_of.items[i];
        if (line->first != i)
            continue;
        qc_html_row_begin(out);
        qc_html_cell(out, false, check_merged_name(arena, line));
        qc_html_cell(out, false, text_of(next, "dtype"));
        qc_html_cell(out, false,
            line->count > 1 ? qc_arena_printf(arena, "%zu x %s", line->count, shape_of(arena, next))
                            : shape_of(arena, next));
        add_number_cell(arena, out, "%.0f", number_of(next, "bytes") * (double)line->count);
        qc_html_row_end(out);
    }
    qc_html_table_end(out);
}

/* ---- errors -------------------------------------------------------------------------------------------- */

/* The name of a line: of experts, that of the worst and how many they are. */
static const char *name_of(qc_arena *arena, const check_merged *line)
{
    return line->count > 1 ? qc_arena_printf(arena, "%s (the worst of %zu experts)", line->name, line->count)
                           : line->name;
}

/* A line a weight, experts of a layer in one: that of the worst, which comes first. */
static void add_weights(qc_arena *arena, const qc_json *report, const check_merge *merge, qc_str *out)
{
    static const char *const heads[] = {
        "weight", "scheme", "relative error", "SQNR dB", "max error", "saturated", "zero"};
    qc_html_table_begin(out, heads, 7);
    size_t i = 0;
    for (const qc_json *w = children(report, "weights"); w; w = w->next, i++) {
        if (merge->line_of.items[i]->first != i)
            continue;
        qc_html_row_begin(out);
        qc_html_cell(out, false, name_of(arena, merge->line_of.items[i]));
        qc_html_cell(out, false, text_of(w, "scheme"));
        add_number_cell(arena, out, "%.6f", number_of(w, "relative_error"));
        add_number_cell(arena, out, "%.2f", number_of(w, "sqnr_db"));
        add_number_cell(arena, out, "%.4g", number_of(w, "max_error"));
        add_number_cell(arena, out, "%.5f", number_of(w, "saturated"));
        add_number_cell(arena, out, "%.5f", number_of(w, "zero"));
        qc_html_row_end(out);
    }
    qc_html_table_end(out);
}

static void add_errors(qc_arena *arena, const qc_json *report, qc_str *out)
{
    const qc_json *summary = qc_json_get(report, "summary");
    qc_plot_bar bars[MAX_BARS];
    size_t count = 0, i = 0;
    check_merge merge;
    check_merge_init(&merge, arena, false);
    for (const qc_json *w = children(report, "weights"); w; w = w->next)
        check_merge_add(&merge, text_of(w, "name"), text_of(w, "scheme"));
    for (const qc_json *w = children(report, "weights"); w && count < MAX_BARS; w = w->next, i++)
        if (is_true(w, "quantized") && merge.line_of.items[i]->first == i)
            bars[count++] =
                (qc_plot_bar){name_of(arena, merge.line_of.items[i]), number_of(w, "relative_error")};
    qc_html_paragraph(out,
        qc_arena_printf(arena,
            "%.0f quantized weights, %.0f elements: relative error %.6f together, %.6f on average, %.6f at "
            "worst (%s). %.0f tensors are not quantized.",
            number_of(summary, "quantized"), number_of(summary, "elements"),
            number_of(summary, "relative_error"), number_of(summary, "mean_relative_error"),
            number_of(summary, "worst_relative_error"), text_of(summary, "worst"),
            number_of(summary, "not_quantized")));
    qc_html_heading(out, 2, "Errors of weights, worst first");
    qc_plot_bars(out, "relative error of the worst weights", "sqrt(sum (w - v)^2 / sum w^2)", bars, count);
    add_problems(arena, report, out);
    qc_html_heading(out, 2, "Weights");
    add_weights(arena, report, &merge, out);
}

qc_status qc_check_page(qc_diag *diag, qc_arena *arena, const char *report, size_t length, qc_str *out)
{
    const qc_json *root = qc_json_parse(diag, arena, "report", report, length);
    if (!root)
        return QC_ERROR;
    bool errors = qc_json_get(root, "weights") != NULL;
    qc_html_begin(out,
        errors ? qc_arena_printf(arena, "%s against %s", text_of(root, "path"), text_of(root, "baseline"))
               : text_of(root, "path"));
    if (errors)
        add_errors(arena, root, out);
    else
        add_listing(arena, root, out);
    qc_html_end(out);
    return QC_OK;
}
