/* SPDX-License-Identifier: MIT
 *
 * report.c - a comparison as text, Markdown, JSON and a page of HTML; see compare.h. One table of texts serves all but JSON.
 */
#include <inttypes.h>
#include <math.h>

#include "ir/support/json.h"
#include "runtime/compare/compare.h"
#include "runtime/report/html.h"
#include "runtime/report/plot.h"

enum { COLUMNS = 8 };

static const char *const statistics_words[] = {"none", "together", "apart", "kept"};

/* ---- cells --------------------------------------------------------------------------------------------- */

static size_t column_count(const qc_compare_result *r)
{
    return r->count > 1 && r->rows[1].has_against ? COLUMNS : COLUMNS - 1;
}

static const char *head(const qc_compare_result *r, size_t column, qc_arena *arena)
{
    static const char *const heads[] = {
        "recipe", "perplexity", "KL divergence", "KL 99.9 %", "top-1", "q.k error", "KV bytes/token"};
    return column < COLUMNS - 1 ? heads[column]
                                : qc_arena_printf(arena, "KL less %s", r->rows[r->against].label);
}

static const char *with_error(qc_arena *arena, const char *format, double value, double error)
{
    const char *number = qc_arena_printf(arena, format, value);
    if (!isfinite(error))
        return number;
    return qc_arena_printf(arena, "%s +- %s", number, qc_arena_printf(arena, format, error));
}

static const char *signed_with_error(qc_arena *arena, double value, double error)
{
    const char *text = with_error(arena, "%.6f", value, error);
    return value < 0 ? text : qc_arena_printf(arena, "+%s", text);
}

static const char *cell(const qc_compare_row *row, size_t column, qc_arena *arena)
{
    const qc_eval_result *e = &row->eval;
    bool baseline = !row->text[0];
    switch (column) {
    case 0:
        return row->label;
    case 1:
        return with_error(arena, "%.4f", qc_perplexity(&e->loss), qc_perplexity_error(&e->loss));
    case 2:
        return baseline ? "0" : with_error(arena, "%.6f", e->divergence.mean, qc_mean_error(&e->divergence));
    case 3:
        return baseline ? "0" : with_error(arena, "%.5f", e->divergence_q999, e->divergence_q999_error);
    case 4:
        return baseline ? "1" : with_error(arena, "%.5f", e->agreement.mean, qc_mean_error(&e->agreement));
    case 5:
        return row->qk.coded ? with_error(arena, "%.3e", row->qk.error.mean, qc_mean_error(&row->qk.error))
                             : "0";
    case 6:
        return qc_arena_printf(arena, "%.0f", row->cache_bytes);
    default:
        return baseline ? "" : signed_with_error(arena, row->against.mean, qc_mean_error(&row->against));
    }
}

/* ---- what was measured, in lines ----------------------------------------------------------------------- */

static const char *about_data(const qc_compare_result *r, const qc_compare_options *o, qc_arena *arena)
{
    const qc_eval_windows *w = &r->windows;
    const char *context = w->context ? qc_arena_printf(arena, " of at most %" PRId64, w->context) : "";
    return qc_arena_printf(arena, "%s: %" PRIu64 " tokens scored in %zu sequence%s%s", o->data, w->scored,
        w->count, w->count == 1 ? "" : "s", context);
}

static const char *about_calibration(const qc_compare_result *r, const qc_compare_options *o, qc_arena *arena)
{
    if (o->stats)
        return qc_arena_printf(arena, "statistics kept in %s", o->stats);
    if (!o->calib)
        return "none: no scale is static";
    if (strcmp(o->calib, "none") == 0)
        return "none: static scales are 1.0";
    if (!r->calib_sequences)
        return "none: no scale is static";
    const char *graphs = r->calibrations > 1
                             ? qc_arena_printf(arena, ", once for each of %zu graphs", r->calibrations)
                             : ", once for all recipes";
    return qc_arena_printf(arena, "%s: %zu sequences, %" PRIu64 " tokens%s", o->calib, r->calib_sequences,
        r->calib_tokens, graphs);
}

static const char *about_scores(const qc_compare_result *r, qc_arena *arena)
{
    return qc_arena_printf(arena, "%zu sequence%s of at most %d tokens, mean over layers and heads",
        r->qk_sequences, r->qk_sequences == 1 ? "" : "s", QC_QK_TOKENS);
}

/* Labels of the rows whose graph was calibrated apart; NULL: none. */
static const char *apart(const qc_compare_result *r, qc_arena *arena)
{
    const char *labels = NULL;
    for (size_t i = 1; i < r->count; i++)
        if (r->rows[i].statistics == QC_COMPARE_APART)
            labels = labels ? qc_arena_printf(arena, "%s, %s", labels, r->rows[i].label) : r->rows[i].label;
    return labels;
}

typedef struct line {
    const char *name, *text;
} line;

enum { MAX_LINES = 8 };

static size_t about_lines(
    const qc_compare_result *r, const qc_compare_about *about, qc_arena *arena, line *lines)
{
    size_t count = 0;
    const char *alone = apart(r, arena);
    lines[count++] = (line){"command", about->command};
    lines[count++] = (line){"model", about->options->model};
    lines[count++] = (line){"data", about_data(r, about->options, arena)};
    lines[count++] = (line){"calibration", about_calibration(r, about->options, arena)};
    if (alone)
        lines[count++] = (line){
            "apart", qc_arena_printf(arena, "%s (what they observe is not in the model's graph)", alone)};
    if (r->qk_sequences)
        lines[count++] = (line){"q.k error", about_scores(r, arena)};
    lines[count++] = (line){"version", about->version};
    return count;
}

/* ---- text and Markdown --------------------------------------------------------------------------------- */

static void add_padded(qc_str *out, const char *text, size_t width, bool right)
{
    size_t length = strlen(text), blanks = width > length ? width - length : 0;
    for (size_t i = 0; right && i < blanks; i++)
        qc_str_add_char(out, ' ');
    qc_str_add(out, text);
    for (size_t i = 0; !right && i < blanks; i++)
        qc_str_add_char(out, ' ');
}

/* A bar would end the cell. */
static const char *without_bars(const char *text, qc_arena *arena)
{
    size_t bars = 0, at = 0;
    for (const char *c = text; *c; c++)
        bars += *c == '|';
    char *copy = qc_arena_alloc(arena, strlen(text) + bars + 1);
    for (; *text; text++) {
        if (*text == '|')
            copy[at++] = '\\';
        copy[at++] = *text;
    }
    copy[at] = '\0';
    return copy;
}

/* Row 0 is the head. */
static const char *text_at(
    const qc_compare_result *r, size_t row, size_t column, bool markdown, qc_arena *arena)
{
    const char *text = row == 0 ? head(r, column, arena) : cell(&r->rows[row - 1], column, arena);
    return markdown ? without_bars(text, arena) : text;
}

static void add_table(const qc_compare_result *r, qc_arena *arena, bool markdown, qc_str *out)
{
    size_t columns = column_count(r), width[COLUMNS] = {0};
    for (size_t c = 0; c < columns; c++)
        for (size_t i = 0; i <= r->count; i++) {
            size_t length = strlen(text_at(r, i, c, markdown, arena));
            width[c] = length > width[c] ? length : width[c];
        }
    for (size_t i = 0; i <= r->count; i++) {
        for (size_t c = 0; c < columns; c++) {
            qc_str_add(out, markdown ? "| " : c ? "  " : "");
            add_padded(out, text_at(r, i, c, markdown, arena), width[c], c > 0);
            qc_str_add(out, markdown ? " " : "");
        }
        qc_str_add(out, markdown ? "|\n" : "\n");
        if (markdown && i == 0) {
            for (size_t c = 0; c < columns; c++)
                qc_str_add(out, c ? "|---:" : "|---");
            qc_str_add(out, "|\n");
        }
    }
}

void qc_compare_print_text(const qc_compare_result *result, const qc_compare_about *about, qc_str *out)
{
    qc_arena arena;
    line lines[MAX_LINES];
    qc_arena_init(&arena, out->oom);
    add_table(result, &arena, false, out);
    qc_str_add_char(out, '\n');
    size_t count = about_lines(result, about, &arena, lines);
    for (size_t i = 0; i < count; i++) {
        add_padded(out, lines[i].name, 12, false);
        qc_str_addf(out, "%s\n", lines[i].text);
    }
    qc_arena_fini(&arena);
}

void qc_compare_print_markdown(const qc_compare_result *result, const qc_compare_about *about, qc_str *out)
{
    qc_arena arena;
    line lines[MAX_LINES];
    qc_arena_init(&arena, out->oom);
    add_table(result, &arena, true, out);
    qc_str_add_char(out, '\n');
    size_t count = about_lines(result, about, &arena, lines);
    for (size_t i = 0; i < count; i++)
        qc_str_addf(out, i ? "* %s: %s\n" : "* %s: `%s`\n", lines[i].name, lines[i].text);
    qc_str_add_char(out, '\n');
    for (size_t i = 1; i < result->count; i++)
        qc_str_addf(out, "* %s: `%s`\n", result->rows[i].label, result->rows[i].pipeline);
    qc_arena_fini(&arena);
}

/* ---- JSON ---------------------------------------------------------------------------------------------- */

static void set_number(qc_arena *arena, qc_json *object, const char *key, double value)
{
    qc_json_set(arena, object, key, qc_json_new_double(arena, value));
}

static void set_text(qc_arena *arena, qc_json *object, const char *key, const char *text)
{
    qc_json_set(
        arena, object, key, text ? qc_json_new_string(arena, text) : qc_json_new(arena, QC_JSON_NULL));
}

static void set_mean(qc_arena *arena, qc_json *object, const char *key, const qc_mean *mean)
{
    set_number(arena, object, key, mean->mean);
    set_number(arena, object, qc_arena_printf(arena, "%s_stderr", key), qc_mean_error(mean));
}

static qc_json *row_object(const qc_compare_row *row, qc_arena *arena)
{
    qc_json *o = qc_json_new(arena, QC_JSON_OBJECT);
    const qc_eval_result *e = &row->eval;
    set_text(arena, o, "label", row->label);
    set_text(arena, o, "recipe", row->text);
    set_text(arena, o, "pipeline", row->pipeline);
    set_text(arena, o, "statistics", statistics_words[row->statistics]);
    set_number(arena, o, "perplexity", qc_perplexity(&e->loss));
    set_number(arena, o, "perplexity_stderr", qc_perplexity_error(&e->loss));
    set_mean(arena, o, "nll", &e->loss);
    set_mean(arena, o, "kl_divergence", &e->divergence);
    set_number(arena, o, "kl_divergence_q999", e->divergence_q999);
    set_number(arena, o, "kl_divergence_q999_stderr", e->divergence_q999_error);
    set_number(arena, o, "kl_divergence_max", e->divergence_max);
    set_mean(arena, o, "top1_agreement", &e->agreement);
    set_mean(arena, o, "qk_error", &row->qk.error);
    qc_json *layers = qc_json_new(arena, QC_JSON_ARRAY);
    for (size_t i = 0; row->qk.by_layer && i < row->qk.layers; i++)
        qc_json_push(arena, layers, qc_json_new_double(arena, row->qk.by_layer[i]));
    qc_json_set(arena, o, "qk_error_by_layer", layers);
    qc_json_set(arena, o, "kv_bytes_per_token", qc_json_new_int(arena, (int64_t)row->cache_bytes));
    if (row->has_against)
        set_mean(arena, o, "kl_divergence_difference", &row->against);
    return o;
}

void qc_compare_print_json(
    const qc_compare_result *result, const qc_compare_about *about, qc_arena *arena, qc_str *out)
{
    qc_json *o = qc_json_new(arena, QC_JSON_OBJECT), *rows = qc_json_new(arena, QC_JSON_ARRAY);
    const qc_eval_windows *w = &result->windows;
    set_text(arena, o, "command", about->command);
    set_text(arena, o, "version", about->version);
    set_text(arena, o, "model", about->options->model);
    set_text(arena, o, "data", about->options->data);
    qc_json_set(arena, o, "context",
        w->context ? qc_json_new_int(arena, w->context) : qc_json_new(arena, QC_JSON_NULL));
    qc_json_set(arena, o, "sequences", qc_json_new_int(arena, (int64_t)w->count));
    qc_json_set(arena, o, "tokens", qc_json_new_int(arena, (int64_t)w->scored));
    set_text(arena, o, "calib", about->options->calib);
    set_text(arena, o, "stats", about->options->stats);
    qc_json_set(arena, o, "calib_sequences", qc_json_new_int(arena, (int64_t)result->calib_sequences));
    qc_json_set(arena, o, "calib_tokens", qc_json_new_int(arena, (int64_t)result->calib_tokens));
    qc_json_set(arena, o, "calibrations", qc_json_new_int(arena, (int64_t)result->calibrations));
    qc_json_set(arena, o, "qk_sequences", qc_json_new_int(arena, (int64_t)result->qk_sequences));
    set_text(arena, o, "against", about->options->against);
    for (size_t i = 0; i < result->count; i++)
        qc_json_push(arena, rows, row_object(&result->rows[i], arena));
    qc_json_set(arena, o, "rows", rows);
    qc_json_write(out, o, -1, false);
    qc_str_add_char(out, '\n');
}

/* ---- HTML ---------------------------------------------------------------------------------------------- */

static void add_html_table(const qc_compare_result *r, qc_arena *arena, qc_str *out)
{
    const char *heads[COLUMNS];
    size_t columns = column_count(r);
    for (size_t c = 0; c < columns; c++)
        heads[c] = head(r, c, arena);
    qc_html_table_begin(out, heads, columns);
    for (size_t i = 0; i < r->count; i++) {
        qc_html_row_begin(out);
        for (size_t c = 0; c < columns; c++)
            qc_html_cell(out, c > 0, cell(&r->rows[i], c, arena));
        qc_html_row_end(out);
    }
    qc_html_table_end(out);
}

static void add_plots(const qc_compare_result *r, qc_arena *arena, qc_str *out)
{
    qc_plot_point *points = QC_NEW_ARRAY(arena, qc_plot_point, r->count);
    qc_plot_line *lines = QC_NEW_ARRAY(arena, qc_plot_line, r->count);
    size_t line_count = 0, layers = 0;
    for (size_t i = 1; i < r->count; i++) {
        const qc_compare_row *row = &r->rows[i];
        points[i - 1] = (qc_plot_point){
            row->label, row->cache_bytes, row->eval.divergence.mean, qc_mean_error(&row->eval.divergence)};
        if (row->qk.by_layer) {
            lines[line_count++] = (qc_plot_line){row->label, row->qk.by_layer};
            layers = row->qk.layers;
        }
    }
    qc_html_heading(out, 2, "Divergence against memory");
    qc_plot_points(out, "KL divergence from the baseline against bytes of KV cache a token",
        (qc_plot_axis){"bytes of KV cache a token", false}, (qc_plot_axis){"KL divergence, nats", true},
        points, r->count - 1);
    if (!line_count)
        return;
    qc_html_heading(out, 2, "Error of q.k by layer");
    qc_plot_lines(out, "relative squared error of the scores q k^T by layer", (qc_plot_axis){"layer", false},
        (qc_plot_axis){"relative squared error", true}, lines, line_count, layers);
}

void qc_compare_print_html(
    const qc_compare_result *result, const qc_compare_about *about, qc_arena *arena, qc_str *out)
{
    static const char *const heads[] = {"recipe", "pipeline", "statistics"};
    line lines[MAX_LINES];
    size_t count = about_lines(result, about, arena, lines);
    qc_html_begin(out, qc_arena_printf(arena, "Recipes for %s", about->options->model));
    add_html_table(result, arena, out);
    qc_html_paragraph(out,
        "Behind +- stands the standard error. Divergences are KL(baseline, recipe) in nats a token; top-1 "
        "says how often both have the same likeliest token; q.k error is the relative squared error of "
        "the scores q k^T less their rows' means. Bytes of KV cache are counted, scales included.");
    add_plots(result, arena, out);
    qc_html_heading(out, 2, "Recipes");
    qc_html_table_begin(out, heads, 3);
    for (size_t i = 1; i < result->count; i++) {
        qc_html_row_begin(out);
        qc_html_cell(out, false, result->rows[i].label);
        qc_html_cell(out, false, result->rows[i].pipeline);
        qc_html_cell(out, false, statistics_words[result->rows[i].statistics]);
        qc_html_row_end(out);
    }
    qc_html_table_end(out);
    qc_html_heading(out, 2, "How this was measured");
    qc_str text;
    qc_str_init(&text, arena);
    for (size_t i = 0; i < count; i++)
        qc_str_addf(&text, "%s: %s\n", lines[i].name, lines[i].text);
    qc_html_code(out, text.data);
    qc_str_fini(&text);
    qc_html_end(out);
}
