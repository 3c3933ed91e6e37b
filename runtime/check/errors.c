/* SPDX-License-Identifier: MIT
 *
 * errors.c - the report of baseline.c: one line a weight, the most harmed first.
 */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/check/baseline.h"
#include "runtime/check/merge.h"

/* What holds for all weights that are quantized. */
typedef struct summary {
    size_t quantized, plain, plain_differing;
    uint64_t elements;
    double error_squares, squares;
    double mean; /* of relative errors, weighted by elements */
    const check_pair *worst;
} summary;

static bool is_coded(const check_pair *p)
{
    return p->coded.group != NULL;
}

/* A tensor that should be as it was, and is not. */
static bool has_changed(const check_pair *p)
{
    return !is_coded(p) && (p->sums.error_squares > 0 || p->sums.not_finite);
}

static int64_t elements_of(const check_pair *p)
{
    return p->coded.rows * p->coded.columns;
}

static double share(uint64_t count, const check_pair *p)
{
    return (double)count / (double)elements_of(p);
}

/* Decibels of signal over error; infinite where there is no error. */
static double sqnr(const check_sums *sums)
{
    return 10 * log10(sums->squares / sums->error_squares);
}

static int by_harm(const void *a, const void *b)
{
    const check_pair *x = a, *y = b;
    if (x->relative_error != y->relative_error)
        return x->relative_error > y->relative_error ? -1 : 1;
    return strcmp(x->name, y->name);
}

static summary summarize(qc_arena *arena, check_baseline *b)
{
    summary s = {0};
    for (size_t i = 0; i < b->pair_count; i++) {
        const check_pair *p = &b->pairs[i];
        const check_sums *t = &p->sums;
        if (t->not_finite && is_coded(p))
            QC_PUSH(arena, &b->problems,
                qc_arena_printf(arena,
                    "%s: %" PRIu64 " of its elements are not finite here or in the baseline, "
                    "the first at [%" PRId64 ", %" PRId64 "]",
                    p->name, t->not_finite, t->first_not_finite / p->coded.columns,
                    t->first_not_finite % p->coded.columns));
        if (t->outside)
            QC_PUSH(arena, &b->problems,
                qc_arena_printf(arena, "%s: %" PRIu64 " codes are no %s", p->coded.codes->name, t->outside,
                    qc_dtype_name(p->coded.code)));
        s.plain += !is_coded(p);
        s.plain_differing += has_changed(p);
        if (!is_coded(p))
            continue;
        s.quantized++;
        s.elements += (uint64_t)elements_of(p);
        s.error_squares += t->error_squares;
        s.squares += t->squares;
        s.mean += p->relative_error * (double)elements_of(p);
        s.worst = s.worst ? s.worst : p;
    }
    s.mean /= s.elements ? (double)s.elements : 1;
    return s;
}

/* ---- text ---------------------------------------------------------------------------------------------- */

/* A weight, in a line that stands for `count` experts of which it is the worst and `best` the best. */
static void add_row(
    qc_arena *arena, qc_str *out, const check_pair *p, const check_pair *best, size_t count, int width)
{
    const check_sums *t = &p->sums;
    const char *scheme = check_weight_text(arena, &p->coded);
    if (isfinite(p->relative_error))
        qc_str_addf(out, "%14.6f", p->relative_error);
    else
        qc_str_addf(out, "%14s", "infinite");
    if (t->error_squares > 0 && t->squares > 0)
        qc_str_addf(out, "  %7.2f", sqnr(t));
    else
        qc_str_addf(out, "  %7s", "-");
    qc_str_addf(out, "  %10.4g", t->max_error);
    if (is_coded(p))
        qc_str_addf(out, "  %7.3f %%  %7.3f %%", 100 * share(t->saturated, p), 100 * share(t->zeros, p));
    else
        qc_str_addf(out, "  %9s  %9s", "-", "-");
    qc_str_addf(out, "  %10" PRId64 "  %-*s  ", elements_of(p), width, scheme);
    check_add_safe(out, p->name);
    if (count > 1)
        qc_str_addf(out, " (the worst of %zu experts; the best: %.6f)", count, best->relative_error);
    qc_str_add_char(out, '\n');
}

/* The lines, and in `shown` the pairs that they are of. */
static void merge_pairs(
    qc_arena *arena, const check_baseline *b, bool every_expert, check_merge *merge, const check_pair **shown)
{
    check_merge_init(merge, arena, every_expert);
    for (size_t i = 0; i < b->pair_count; i++) {
        const check_pair *p = &b->pairs[i];
        if (!is_coded(p) && !has_changed(p))
            continue;
        shown[merge->items] = p;
        check_merge_add(merge, p->name, check_weight_text(arena, &p->coded));
    }
}

static void add_text(
    qc_arena *arena, qc_str *out, const check_baseline *b, const summary *s, bool every_expert)
{
    int width = (int)strlen("scheme");
    for (size_t i = 0; i < b->pair_count; i++) {
        const check_pair *p = &b->pairs[i];
        int length = (int)strlen(check_weight_text(arena, &p->coded));
        width = (is_coded(p) || has_changed(p)) && length > width ? length : width;
    }
    qc_str_addf(out, "%14s  %7s  %10s  %9s  %9s  %10s  %-*s  %s\n", "relative error", "SQNR dB", "max error",
        "saturated", "zero", "elements", width, "scheme", "weight");
    check_merge merge;
    const check_pair **shown = QC_NEW_ARRAY(arena, const check_pair *, b->pair_count + 1);
    merge_pairs(arena, b, every_expert, &merge, shown);
    for (size_t i = 0; i < merge.lines.count; i++) {
        const check_merged *line = merge.lines.items[i];
        add_row(arena, out, shown[line->first], shown[line->last], line->count, width);
    }
    qc_str_addf(out,
        "%zu quantized weights, %" PRIu64 " elements: relative error %.6f together, %.6f on average, "
        "%.6f at worst (",
        s->quantized, s->elements, s->squares > 0 ? sqrt(s->error_squares / s->squares) : 0.0, s->mean,
        s->worst->relative_error);
    check_add_safe(out, s->worst->name);
    qc_str_addf(out, ")\n%zu tensors are not quantized: ", s->plain);
    if (s->plain_differing)
        qc_str_addf(out, "%zu differ from the baseline's, so errors are not those of quantization alone\n",
            s->plain_differing);
    else
        qc_str_add(out, "all equal the baseline's\n");
    for (size_t i = 0; i < b->problems.count; i++) {
        qc_str_add(out, "problem: ");
        check_add_safe(out, b->problems.items[i]);
        qc_str_add_char(out, '\n');
    }
}

/* ---- JSON ---------------------------------------------------------------------------------------------- */

static void set_double(qc_arena *arena, qc_json *object, const char *key, double value)
{
    qc_json_set(arena, object, key, qc_json_new_double(arena, value));
}

static void set_string(qc_arena *arena, qc_json *object, const char *key, const char *text)
{
    qc_json_set(
        arena, object, key, text ? qc_json_new_string(arena, text) : qc_json_new(arena, QC_JSON_NULL));
}

static void set_int(qc_arena *arena, qc_json *object, const char *key, uint64_t value)
{
    qc_json_set(arena, object, key, qc_json_new_int(arena, (int64_t)value));
}

static qc_json *pair_json(qc_arena *arena, const check_pair *p)
{
    qc_json *o = qc_json_new(arena, QC_JSON_OBJECT);
    const check_sums *t = &p->sums;
    set_string(arena, o, "name", p->name);
    qc_json_set(arena, o, "quantized", qc_json_new_bool(arena, is_coded(p)));
    set_string(arena, o, "scheme", check_weight_text(arena, &p->coded));
    set_string(arena, o, "config_group", is_coded(p) ? p->coded.group->name : NULL);
    set_string(arena, o, "format", is_coded(p) ? p->coded.group->format : NULL);
    set_int(arena, o, "rows", (uint64_t)p->coded.rows);
    set_int(arena, o, "columns", (uint64_t)p->coded.columns);
    set_double(arena, o, "relative_error", p->relative_error);
    set_double(arena, o, "sqnr_db", sqnr(t));
    set_double(arena, o, "max_error", t->max_error);
    set_double(arena, o, "rms_error", sqrt(t->error_squares / (double)elements_of(p)));
    set_double(arena, o, "rms", sqrt(t->squares / (double)elements_of(p)));
    if (is_coded(p)) {
        set_double(arena, o, "saturated", share(t->saturated, p));
        set_double(arena, o, "zero", share(t->zeros, p));
    }
    set_int(arena, o, "not_finite", t->not_finite);
    return o;
}

static void add_json(qc_arena *arena, qc_str *out, const check_baseline *b, const summary *s)
{
    qc_json *root = qc_json_new(arena, QC_JSON_OBJECT), *weights = qc_json_new(arena, QC_JSON_ARRAY);
    qc_json *problems = qc_json_new(arena, QC_JSON_ARRAY), *all = qc_json_new(arena, QC_JSON_OBJECT);
    for (size_t i = 0; i < b->pair_count; i++)
        qc_json_push(arena, weights, pair_json(arena, &b->pairs[i]));
    for (size_t i = 0; i < b->problems.count; i++)
        qc_json_push(arena, problems, qc_json_new_string(arena, b->problems.items[i]));
    set_int(arena, all, "quantized", s->quantized);
    set_int(arena, all, "not_quantized", s->plain);
    set_int(arena, all, "not_quantized_that_differ", s->plain_differing);
    set_int(arena, all, "elements", s->elements);
    set_double(arena, all, "relative_error", s->squares > 0 ? sqrt(s->error_squares / s->squares) : 0.0);
    set_double(arena, all, "mean_relative_error", s->mean);
    set_double(arena, all, "worst_relative_error", s->worst->relative_error);
    set_string(arena, all, "worst", s->worst->name);
    set_string(arena, root, "path", b->directory);
    set_string(arena, root, "baseline", b->base_directory);
    qc_json_set(arena, root, "summary", all);
    qc_json_set(arena, root, "weights", weights);
    qc_json_set(arena, root, "problems", problems);
    qc_json_write(out, root, 2, false);
    qc_str_add_char(out, '\n');
}

void check_errors_report(
    qc_arena *arena, check_baseline *b, const qc_check_baseline_options *options, qc_str *out)
{
    qsort(b->pairs, b->pair_count, sizeof *b->pairs, by_harm);
    const summary s = summarize(arena, b);
    if (options->json)
        add_json(arena, out, b, &s);
    else
        add_text(arena, out, b, &s, options->every_expert);
}
