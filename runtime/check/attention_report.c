/* SPDX-License-Identifier: MIT
 *
 * attention_report.c - statistics of attention as text, JSON and a page of HTML; see attention_stats.h.
 */
#include <math.h>

#include "ir/support/json.h"
#include "runtime/check/attention_stats.h"
#include "runtime/report/html.h"
#include "runtime/report/plot.h"

static const char *const part_names[] = {"q", "k", "v"};
static const char *const type_names[] = {"fp8", "int8", "nvfp4"};

static bool has_part(const qc_attention_stats *s, size_t part)
{
    for (size_t i = 0; i < s->count; i++)
        if (s->layers[i].plain[part].heads)
            return true;
    return false;
}

static double largest(const double *values, size_t count)
{
    double most = 0;
    for (size_t i = 0; i < count; i++)
        most = values[i] > most ? values[i] : most;
    return most;
}

/* ---- cells --------------------------------------------------------------------------------------------- */

enum { HEAD_COLUMNS = 7, LAYER_COLUMNS = 8 };

static const char *const head_heads[] = {
    "module", "part", "head", "amax", "outlier", "amax R3", "outlier R3"};
static const char *const layer_heads[] = {
    "module", "part", "heads", "amax", "spread", "worst outlier", "amax R3", "worst outlier R3"};

static const char *number(qc_arena *arena, double value)
{
    return qc_arena_printf(arena, "%.4g", value);
}

static void head_cells(
    qc_arena *arena, const qc_attention_layer *layer, size_t part, size_t head, const char **cells)
{
    const qc_attention_ranges *r = &layer->plain[part], *rotated = &layer->rotated[part];
    cells[0] = layer->module;
    cells[1] = part_names[part];
    cells[2] = qc_arena_printf(arena, "%zu", head);
    cells[3] = number(arena, r->amax[head]);
    cells[4] = number(arena, r->outlier[head]);
    cells[5] = rotated->heads ? number(arena, rotated->amax[head]) : "-";
    cells[6] = rotated->heads ? number(arena, rotated->outlier[head]) : "-";
}

static void layer_cells(qc_arena *arena, const qc_attention_layer *layer, size_t part, const char **cells)
{
    const qc_attention_ranges *r = &layer->plain[part], *rotated = &layer->rotated[part];
    cells[0] = layer->module;
    cells[1] = part_names[part];
    cells[2] = qc_arena_printf(arena, "%zu", r->heads);
    cells[3] = number(arena, largest(r->amax, r->heads));
    cells[4] = number(arena, qc_attention_spread(r));
    cells[5] = number(arena, largest(r->outlier, r->heads));
    cells[6] = rotated->heads ? number(arena, largest(rotated->amax, r->heads)) : "-";
    cells[7] = rotated->heads ? number(arena, largest(rotated->outlier, r->heads)) : "-";
}

static const char *advice_text(qc_arena *arena, const qc_attention_advice *a)
{
    if (!a->possible)
        return qc_arena_printf(arena, "not possible: %s (%s.%s)", a->rule, a->module, a->part);
    if (a->type == QC_ADVICE_INT8)
        return qc_arena_printf(arena, "%s: %s (finer divides the square by %.3g; recommended from %.3g on)",
            a->pass, a->rule, a->value, a->threshold);
    if (!a->module)
        return qc_arena_printf(arena, "%s: all that was observed is zero", a->pass);
    return qc_arena_printf(arena, "%s: %s (%.4g in %s.%s, head %zu; the limit is %.4g)", a->pass, a->rule,
        a->value, a->module, a->part, a->head, a->threshold);
}

static const char *what(qc_arena *arena, const qc_attention_stats *s)
{
    return qc_arena_printf(arena, "%s: %zu attention module%s, %zu calibration sequence%s%s", s->path,
        s->count, s->count == 1 ? "" : "s", s->sequences, s->sequences == 1 ? "" : "s",
        s->rotated ? "" : "; nothing under R3 (qc-opt --collect=amax@R3)");
}

/* Calls `row` for each part of each layer that was observed. */
typedef void (*part_fn)(qc_arena *arena, const qc_attention_layer *layer, size_t part, void *user);

static void each_part(qc_arena *arena, const qc_attention_stats *s, part_fn visit, void *user)
{
    for (size_t i = 0; i < s->count; i++)
        for (size_t p = 0; p < QC_ATTENTION_PARTS; p++)
            if (s->layers[i].plain[p].heads)
                visit(arena, &s->layers[i], p, user);
}

/* ---- text ---------------------------------------------------------------------------------------------- */

/* Names to the left, numbers to the right. `width` is of the first column. */
static void add_text_row(qc_str *out, const char *const *cells, size_t count, size_t width)
{
    qc_str_addf(out, "%-*s  %-4s", (int)width, cells[0], cells[1]);
    for (size_t i = 2; i < count; i++) {
        const int room = i == 2 ? 5 : i == 7 ? 17 : i == 5 && count == LAYER_COLUMNS ? 14 : 11;
        qc_str_addf(out, " %*s", room, cells[i]);
    }
    qc_str_add_char(out, '\n');
}

typedef struct text_table {
    qc_str *out;
    size_t width;
} text_table;

static void text_heads(qc_arena *arena, const qc_attention_layer *layer, size_t part, void *user)
{
    text_table *t = user;
    const char *cells[HEAD_COLUMNS];
    for (size_t h = 0; h < layer->plain[part].heads; h++) {
        head_cells(arena, layer, part, h, cells);
        add_text_row(t->out, cells, HEAD_COLUMNS, t->width);
    }
}

static void text_layer(qc_arena *arena, const qc_attention_layer *layer, size_t part, void *user)
{
    text_table *t = user;
    const char *cells[LAYER_COLUMNS];
    layer_cells(arena, layer, part, cells);
    add_text_row(t->out, cells, LAYER_COLUMNS, t->width);
}

void qc_attention_stats_print_text(qc_arena *arena, const qc_attention_stats *s, qc_str *out)
{
    text_table t = {out, 6};
    if (s->experts.count) {
        qc_expert_usage_print_text(arena, &s->experts, out);
        if (s->count == 0)
            return;
        qc_str_add_char(out, '\n');
    }
    for (size_t i = 0; i < s->count; i++)
        t.width = strlen(s->layers[i].module) > t.width ? strlen(s->layers[i].module) : t.width;
    add_text_row(out, head_heads, HEAD_COLUMNS, t.width);
    each_part(arena, s, text_heads, &t);
    qc_str_add_char(out, '\n');
    add_text_row(out, layer_heads, LAYER_COLUMNS, t.width);
    each_part(arena, s, text_layer, &t);
    qc_str_addf(out, "\n%s\n", what(arena, s));
    for (size_t i = 0; i < QC_ADVICE_TYPES; i++)
        qc_str_addf(out, "%-6s %s\n", type_names[i], advice_text(arena, &s->advice[i]));
}

/* ---- JSON ---------------------------------------------------------------------------------------------- */

static qc_json *numbers(qc_arena *arena, const double *values, size_t count)
{
    qc_json *list = qc_json_new(arena, QC_JSON_ARRAY);
    for (size_t i = 0; i < count; i++)
        qc_json_push(arena, list, qc_json_new_double(arena, values[i]));
    return list;
}

static void set_text(qc_arena *arena, qc_json *object, const char *key, const char *text)
{
    qc_json_set(
        arena, object, key, text ? qc_json_new_string(arena, text) : qc_json_new(arena, QC_JSON_NULL));
}

static qc_json *ranges_object(
    qc_arena *arena, const qc_attention_ranges *plain, const qc_attention_ranges *rotated)
{
    qc_json *o = qc_json_new(arena, QC_JSON_OBJECT);
    qc_json_set(arena, o, "heads", qc_json_new_int(arena, (int64_t)plain->heads));
    qc_json_set(arena, o, "head_dim", qc_json_new_int(arena, (int64_t)plain->columns));
    qc_json_set(arena, o, "amax", numbers(arena, plain->amax, plain->heads));
    qc_json_set(arena, o, "outlier_ratio", numbers(arena, plain->outlier, plain->heads));
    qc_json_set(arena, o, "head_spread", qc_json_new_double(arena, qc_attention_spread(plain)));
    if (rotated->heads) {
        qc_json_set(arena, o, "amax_r3", numbers(arena, rotated->amax, rotated->heads));
        qc_json_set(arena, o, "outlier_ratio_r3", numbers(arena, rotated->outlier, rotated->heads));
        qc_json_set(arena, o, "head_spread_r3", qc_json_new_double(arena, qc_attention_spread(rotated)));
    }
    return o;
}

static qc_json *advice_object(qc_arena *arena, const qc_attention_advice *a)
{
    qc_json *o = qc_json_new(arena, QC_JSON_OBJECT);
    set_text(arena, o, "type", type_names[a->type]);
    qc_json_set(arena, o, "possible", qc_json_new_bool(arena, a->possible));
    set_text(arena, o, "granularity", a->granularity);
    qc_json_set(arena, o, "rotate", qc_json_new_bool(arena, a->rotate));
    set_text(arena, o, "pipeline", a->pass);
    set_text(arena, o, "rule", a->rule);
    qc_json_set(arena, o, "value", qc_json_new_double(arena, a->value));
    qc_json_set(arena, o, "threshold", qc_json_new_double(arena, a->threshold));
    set_text(arena, o, "module", a->module);
    set_text(arena, o, "part", a->part);
    qc_json_set(arena, o, "head", qc_json_new_int(arena, (int64_t)a->head));
    return o;
}

void qc_attention_stats_print_json(qc_arena *arena, const qc_attention_stats *s, qc_str *out)
{
    qc_json *o = qc_json_new(arena, QC_JSON_OBJECT), *layers = qc_json_new(arena, QC_JSON_ARRAY);
    qc_json *advice = qc_json_new(arena, QC_JSON_ARRAY);
    set_text(arena, o, "stats", s->path);
    qc_json_set(arena, o, "sequences", qc_json_new_int(arena, (int64_t)s->sequences));
    qc_json_set(arena, o, "rotated", qc_json_new_bool(arena, s->rotated));
    for (size_t i = 0; i < s->count; i++) {
        const qc_attention_layer *layer = &s->layers[i];
        qc_json *l = qc_json_new(arena, QC_JSON_OBJECT), *own = qc_json_new(arena, QC_JSON_ARRAY);
        set_text(arena, l, "module", layer->module);
        for (size_t p = 0; p < QC_ATTENTION_PARTS; p++)
            if (layer->plain[p].heads)
                qc_json_set(
                    arena, l, part_names[p], ranges_object(arena, &layer->plain[p], &layer->rotated[p]));
        for (size_t t = 0; t < QC_ADVICE_TYPES; t++) {
            qc_attention_advice a = qc_attention_stats_advise(arena, s, i, 1, (qc_advice_type)t);
            qc_json_push(arena, own, advice_object(arena, &a));
        }
        qc_json_set(arena, l, "recommended", own);
        qc_json_push(arena, layers, l);
    }
    qc_json_set(arena, o, "layers", layers);
    for (size_t t = 0; s->count && t < QC_ADVICE_TYPES; t++)
        qc_json_push(arena, advice, advice_object(arena, &s->advice[t]));
    qc_json_set(arena, o, "recommended", advice);
    if (s->experts.count)
        qc_json_set(arena, o, "experts", qc_expert_usage_json(arena, &s->experts));
    qc_json_write(out, o, 2, false);
    qc_str_add_char(out, '\n');
}

/* ---- HTML ---------------------------------------------------------------------------------------------- */

static void html_row(qc_str *out, const char *const *cells, size_t count)
{
    qc_html_row_begin(out);
    for (size_t i = 0; i < count; i++)
        qc_html_cell(out, i > 1, cells[i]);
    qc_html_row_end(out);
}

static void html_heads(qc_arena *arena, const qc_attention_layer *layer, size_t part, void *user)
{
    const char *cells[HEAD_COLUMNS];
    for (size_t h = 0; h < layer->plain[part].heads; h++) {
        head_cells(arena, layer, part, h, cells);
        html_row(user, cells, HEAD_COLUMNS);
    }
}

static void html_layer(qc_arena *arena, const qc_attention_layer *layer, size_t part, void *user)
{
    const char *cells[LAYER_COLUMNS];
    layer_cells(arena, layer, part, cells);
    html_row(user, cells, LAYER_COLUMNS);
}

/* amax of every head of every layer. */
static void add_map(qc_arena *arena, const qc_attention_stats *s, size_t part, bool rotated, qc_str *out)
{
    size_t columns = 0;
    for (size_t i = 0; i < s->count; i++)
        columns = s->layers[i].plain[part].heads > columns ? s->layers[i].plain[part].heads : columns;
    double *cells = QC_NEW_ARRAY(arena, double, s->count *columns);
    for (size_t i = 0; i < s->count; i++) {
        const qc_attention_ranges *r = rotated ? &s->layers[i].rotated[part] : &s->layers[i].plain[part];
        for (size_t h = 0; h < columns; h++)
            cells[i * columns + h] = h < r->heads ? r->amax[h] : NAN;
    }
    const char *title = qc_arena_printf(
        arena, "amax of %s by layer and head%s", part_names[part], rotated ? ", under R3" : "");
    qc_html_heading(out, 3, title);
    qc_plot_map(out, title, "layer", "head", cells, s->count, columns);
}

static void add_outliers(qc_arena *arena, const qc_attention_stats *s, qc_str *out)
{
    qc_plot_line lines[2 * QC_ATTENTION_PARTS];
    size_t count = 0;
    for (size_t k = 0; k < 2 * QC_ATTENTION_PARTS; k++) {
        size_t part = k % QC_ATTENTION_PARTS;
        bool rotated = k >= QC_ATTENTION_PARTS, any = false;
        double *values = QC_NEW_ARRAY(arena, double, s->count);
        for (size_t i = 0; i < s->count; i++) {
            const qc_attention_ranges *r = rotated ? &s->layers[i].rotated[part] : &s->layers[i].plain[part];
            values[i] = r->heads ? largest(r->outlier, r->heads) : NAN;
            any |= r->heads > 0;
        }
        if (any)
            lines[count++] = (qc_plot_line){
                qc_arena_printf(arena, "%s%s", part_names[part], rotated ? " under R3" : ""), values};
    }
    qc_html_heading(out, 2, "Worst outlier ratio by layer");
    qc_plot_lines(out,
        "largest channel amax over the median channel amax of a head, worst head of each layer",
        (qc_plot_axis){"layer", false}, (qc_plot_axis){"outlier ratio", true}, lines, count, s->count);
}

static void add_attention(qc_arena *arena, const qc_attention_stats *s, qc_str *out)
{
    static const char *const heads[] = {"codes", "recommended, and why"};
    qc_html_paragraph(out, what(arena, s));
    qc_html_table_begin(out, heads, 2);
    for (size_t i = 0; i < QC_ADVICE_TYPES; i++) {
        qc_html_row_begin(out);
        qc_html_cell(out, false, type_names[i]);
        qc_html_cell(out, false, advice_text(arena, &s->advice[i]));
        qc_html_row_end(out);
    }
    qc_html_table_end(out);
    add_outliers(arena, s, out);
    qc_html_heading(out, 2, "Largest absolute values");
    for (size_t p = 0; p < QC_ATTENTION_PARTS; p++) {
        if (has_part(s, p))
            add_map(arena, s, p, false, out);
        if (s->rotated && p < 2 && has_part(s, p))
            add_map(arena, s, p, true, out);
    }
    qc_html_heading(out, 2, "Layers");
    qc_html_table_begin(out, layer_heads, LAYER_COLUMNS);
    each_part(arena, s, html_layer, out);
    qc_html_table_end(out);
    qc_html_heading(out, 2, "Heads");
    qc_html_table_begin(out, head_heads, HEAD_COLUMNS);
    each_part(arena, s, html_heads, out);
    qc_html_table_end(out);
}

void qc_attention_stats_print_html(qc_arena *arena, const qc_attention_stats *s, qc_str *out)
{
    qc_html_begin(out, s->count ? "Queries, keys and values" : "Experts");
    if (s->count)
        add_attention(arena, s, out);
    if (s->experts.count)
        qc_expert_usage_print_html(arena, &s->experts, out);
    qc_html_end(out);
}
