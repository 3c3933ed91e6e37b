/* SPDX-License-Identifier: MIT
 *
 * expert_usage.c - see expert_usage.h. Shares are of the mean of a layer, so layers with other numbers of experts or of
 * choices compare.
 */
#include "runtime/check/expert_usage.h"

#include <stdlib.h>

#include "runtime/report/html.h"
#include "runtime/report/plot.h"

enum { LISTED = 12, COLUMNS = 6 };

static const char *const heads[COLUMNS] = {"module", "experts", "mean", "least", "most", "never chosen"};

static qc_expert_layer describe(const qc_stats_record *r)
{
    qc_expert_layer layer = {.module = r->tap, .experts = r->columns, .routed = r->routed, .seen = r->seen};
    double sum = 0;
    for (size_t e = 0; e < r->columns; e++) {
        sum += (double)r->routed[e];
        layer.least = r->routed[e] < r->routed[layer.least] ? e : layer.least;
        layer.most = r->routed[e] > r->routed[layer.most] ? e : layer.most;
        layer.never += r->routed[e] == 0;
    }
    layer.mean = sum / (double)r->columns;
    return layer;
}

/* Paths by their text, runs of digits by their value: layers are kept by name in the file. */
static int compare_layers(const void *x, const void *y)
{
    const char *a = ((const qc_expert_layer *)x)->module, *b = ((const qc_expert_layer *)y)->module;
    while (*a && *b) {
        size_t m = strspn(a, "0123456789"), n = strspn(b, "0123456789");
        if (m && n && m != n)
            return m < n ? -1 : 1; /* paths have no leading zeros */
        if (*a != *b)
            break;
        a++;
        b++;
    }
    return (unsigned char)*a - (unsigned char)*b;
}

void qc_expert_usage_take(qc_arena *arena, const qc_stats *stats, qc_expert_usage *usage)
{
    *usage = (qc_expert_usage){0};
    usage->layers = QC_NEW_ARRAY(arena, qc_expert_layer, stats->records.count + 1);
    for (size_t i = 0; i < stats->records.count; i++) {
        const qc_stats_record *r = stats->records.entries[i].value;
        if (r->kind == QC_STATS_TOKENS && r->columns)
            usage->layers[usage->count++] = describe(r);
    }
    qsort(usage->layers, usage->count, sizeof *usage->layers, compare_layers);
}

/* "3, 7 and 5 more" */
static const char *list_never(qc_arena *arena, const qc_expert_layer *layer)
{
    const char *text = "";
    size_t listed = 0;
    for (size_t e = 0; e < layer->experts && listed < LISTED; e++)
        if (layer->routed[e] == 0)
            text = qc_arena_printf(arena, "%s%s%zu", text, listed++ ? ", " : "", e);
    return layer->never > listed ? qc_arena_printf(arena, "%s and %zu more", text, layer->never - listed)
                                 : text;
}

const char *qc_expert_usage_line(qc_arena *arena, const qc_expert_layer *layer)
{
    return qc_arena_printf(arena,
        "%s: %zu experts, chosen by %.*f tokens each on average, from %lld (expert %zu) to %lld (expert "
        "%zu)%s%s",
        layer->module, layer->experts, layer->mean < 100, layer->mean, (long long)layer->routed[layer->least],
        layer->least, (long long)layer->routed[layer->most], layer->most,
        layer->never ? "; never chosen: " : "", list_never(arena, layer));
}

static void fill_cells(qc_arena *arena, const qc_expert_layer *layer, const char **cells)
{
    cells[0] = layer->module;
    cells[1] = qc_arena_printf(arena, "%zu", layer->experts);
    cells[2] = qc_arena_printf(arena, "%.1f", layer->mean);
    cells[3] = qc_arena_printf(arena, "%zu: %lld", layer->least, (long long)layer->routed[layer->least]);
    cells[4] = qc_arena_printf(arena, "%zu: %lld", layer->most, (long long)layer->routed[layer->most]);
    cells[5] = layer->never ? list_never(arena, layer) : "-";
}

static void add_text_row(qc_str *out, const char *const *cells, size_t width)
{
    qc_str_addf(out, "%-*s %8s %10s %14s %14s  %s\n", (int)width, cells[0], cells[1], cells[2], cells[3],
        cells[4], cells[5]);
}

void qc_expert_usage_print_text(qc_arena *arena, const qc_expert_usage *usage, qc_str *out)
{
    const char *cells[COLUMNS];
    size_t width = strlen(heads[0]);
    for (size_t i = 0; i < usage->count; i++)
        width = strlen(usage->layers[i].module) > width ? strlen(usage->layers[i].module) : width;
    add_text_row(out, heads, width);
    for (size_t i = 0; i < usage->count; i++) {
        fill_cells(arena, &usage->layers[i], cells);
        add_text_row(out, cells, width);
    }
}

static qc_json *counts(qc_arena *arena, const int64_t *values, size_t count)
{
    qc_json *list = qc_json_new(arena, QC_JSON_ARRAY);
    for (size_t i = 0; i < count; i++)
        qc_json_push(arena, list, qc_json_new_int(arena, values[i]));
    return list;
}

qc_json *qc_expert_usage_json(qc_arena *arena, const qc_expert_usage *usage)
{
    qc_json *layers = qc_json_new(arena, QC_JSON_ARRAY);
    for (size_t i = 0; i < usage->count; i++) {
        const qc_expert_layer *layer = &usage->layers[i];
        qc_json *o = qc_json_new(arena, QC_JSON_OBJECT);
        qc_json_set(arena, o, "module", qc_json_new_string(arena, layer->module));
        qc_json_set(arena, o, "experts", qc_json_new_int(arena, (int64_t)layer->experts));
        qc_json_set(arena, o, "mean_tokens", qc_json_new_double(arena, layer->mean));
        qc_json_set(arena, o, "least_chosen", qc_json_new_int(arena, (int64_t)layer->least));
        qc_json_set(arena, o, "most_chosen", qc_json_new_int(arena, (int64_t)layer->most));
        qc_json_set(arena, o, "never_chosen", qc_json_new_int(arena, (int64_t)layer->never));
        qc_json_set(arena, o, "routed_tokens", counts(arena, layer->routed, layer->experts));
        qc_json_set(arena, o, "seen_tokens", counts(arena, layer->seen, layer->experts));
        qc_json_push(arena, layers, o);
    }
    return layers;
}

void qc_expert_usage_print_html(qc_arena *arena, const qc_expert_usage *usage, qc_str *out)
{
    size_t columns = 0;
    const char *cells[COLUMNS];
    for (size_t i = 0; i < usage->count; i++)
        columns = usage->layers[i].experts > columns ? usage->layers[i].experts : columns;
    double *shares = QC_NEW_ARRAY(arena, double, usage->count *columns + 1);
    for (size_t i = 0; i < usage->count; i++)
        for (size_t e = 0; e < columns; e++) {
            const qc_expert_layer *layer = &usage->layers[i];
            shares[i * columns + e] =
                e >= layer->experts || !(layer->mean > 0) ? NAN : (double)layer->routed[e] / layer->mean;
        }
    qc_html_heading(out, 2, "Tokens of experts");
    qc_plot_map(out, "tokens that chose an expert, over the mean of its layer", "layer", "expert", shares,
        usage->count, columns);
    qc_html_table_begin(out, heads, COLUMNS);
    for (size_t i = 0; i < usage->count; i++) {
        fill_cells(arena, &usage->layers[i], cells);
        qc_html_row_begin(out);
        for (size_t k = 0; k < COLUMNS; k++)
            qc_html_cell(out, k > 0 && k < COLUMNS - 1, cells[k]);
        qc_html_row_end(out);
    }
    qc_html_table_end(out);
}
