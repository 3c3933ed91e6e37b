/* SPDX-License-Identifier: MIT
 *
 * compare.c - see compare.h.
 */
#include "runtime/compare/compare.h"

#include <stdlib.h>

#include "frontends/text/dataset.h"
#include "ir/ctx.h"
#include "ir/support/io.h"
#include "passes/manager.h"
#include "runtime/calibrate.h"
#include "runtime/compare/unite.h"

enum { RANDOM_SAMPLES = 512, RANDOM_TOKENS = 512 };

typedef struct variant {
    qc_module *module;
    qc_executor *executor;
    size_t graph; /* in which it is calibrated; SIZE_MAX: none */
    bool resident;
} variant;

typedef struct graph {
    qc_unite *unite;
    qc_stats stats;
} graph;

typedef struct comparison {
    qc_ctx *ctx;
    qc_diag *diag;
    qc_arena *arena;
    const qc_compare_options *options;
    qc_compare_result *result;
    qc_compare_recipes recipes;
    qc_registry *registry;
    qc_numbering numbering;
    qc_model model; /* the baseline */
    variant *variants;
    QC_VEC(graph) graphs; /* the first is the model's own */
    size_t resident_bytes;
} comparison;

static void say(const comparison *c, const char *format, ...) QC_PRINTF(2, 3);

static void say(const comparison *c, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    const char *text = qc_arena_vprintf(c->arena, format, args);
    va_end(args);
    if (c->options->say)
        c->options->say(c->options->user, text);
}

static bool is_none(const comparison *c)
{
    return c->options->calib && strcmp(c->options->calib, "none") == 0;
}

/* ---- recipes ------------------------------------------------------------------------------------------- */

static qc_status in_recipe(const comparison *c, size_t index)
{
    qc_ctx_note(c->ctx, "in the recipe '%s'", c->recipes.items[index].label);
    return QC_ERROR;
}

static qc_status append_stage(
    const comparison *c, qc_pipeline *pipeline, const char *name, const char *options)
{
    if (qc_pipeline_has(pipeline, name))
        return QC_OK;
    return qc_pipeline_parse(pipeline, "compare", qc_arena_printf(c->arena, "%s%s", name, options));
}

/* The user's passes, then observers. The recipe prints as its own passes. */
static qc_status parse_recipe(comparison *c, size_t index, qc_pipeline **pipeline)
{
    qc_compare_row *row = &c->result->rows[index + 1];
    const qc_compare_recipe *recipe = &c->recipes.items[index];
    *pipeline = qc_pipeline_create(c->registry);
    if (qc_pipeline_parse(*pipeline, c->options->recipes[0] == '@' ? c->options->recipes + 1 : "--recipes",
            recipe->pipeline) != QC_OK)
        return in_recipe(c, index);
    qc_str text;
    qc_str_init(&text, c->arena);
    qc_pipeline_print_with(*pipeline, ", ", &text);
    row->pipeline = qc_arena_strndup(c->arena, text.data, text.length);
    qc_str_fini(&text);
    row->label = recipe->label;
    row->text = recipe->text;
    return append_stage(c, *pipeline, "insert-observers", "") ||
                   append_stage(c, *pipeline, "share-observers", "") ||
                   qc_pipeline_add_experts(
                       *pipeline, "compare", c->model.module, "calibrate-all-experts{mode=all}")
               ? QC_ERROR
               : QC_OK;
}

/* All are parsed before the first one runs. */
static qc_status make_variants(comparison *c)
{
    size_t count = c->recipes.count;
    qc_run_settings settings = {0};
    qc_pipeline **pipelines = QC_NEW_ARRAY(c->arena, qc_pipeline *, count + 1);
    for (size_t i = 0; i < count; i++)
        if (parse_recipe(c, i, &pipelines[i]) != QC_OK)
            return QC_ERROR;
    for (size_t i = 0; i < count; i++) {
        c->variants[i].module = qc_module_clone(c->model.module);
        if (qc_pipeline_run(pipelines[i], c->variants[i].module, &settings) != QC_OK)
            return in_recipe(c, i);
    }
    return QC_OK;
}

/* ---- calibration --------------------------------------------------------------------------------------- */

static void add_graph(comparison *c, const qc_module *base)
{
    graph g = {.unite = qc_unite_create(c->arena, &c->numbering, base)};
    qc_stats_init(&g.stats, c->arena);
    QC_PUSH(c->arena, &c->graphs, g);
}

/* The graph that has what the recipe observes. */
static qc_status choose_graph(comparison *c, size_t index)
{
    bool fits = false;
    variant *v = &c->variants[index];
    for (v->graph = 0; v->graph < c->graphs.count; v->graph++) {
        if (qc_unite_take(c->graphs.items[v->graph].unite, v->module, &fits) != QC_OK)
            return in_recipe(c, index);
        if (fits)
            break;
    }
    if (!fits)
        add_graph(c, v->module);
    c->result->rows[index + 1].statistics = v->graph ? QC_COMPARE_APART : QC_COMPARE_TOGETHER;
    if (v->graph && c->options->stats)
        return qc_ctx_error(c->ctx, c->options->stats,
            "the recipe '%s' changes what is observed, so statistics of the model do not serve it",
            c->recipes.items[index].label);
    return QC_OK;
}

static qc_status read_dataset(comparison *c, qc_dataset *dataset)
{
    const qc_compare_options *o = c->options;
    qc_dataset_options options = {
        .max_samples = o->calib_samples, .max_tokens = o->calib_tokens, .seed = o->seed};
    if (qc_calibrate_vocabulary(c->ctx, c->model.module, &options.vocabulary) != QC_OK)
        return QC_ERROR;
    if (strcmp(o->calib, "random") == 0) {
        options.max_samples = options.max_samples ? options.max_samples : RANDOM_SAMPLES;
        options.max_tokens = options.max_tokens ? options.max_tokens : RANDOM_TOKENS;
        return qc_dataset_random(c->diag, c->arena, &options, dataset);
    }
    options.model_directory = c->model.directory;
    const char *tokenizer =
        c->model.directory ? qc_path_join(c->arena, c->model.directory, "tokenizer.json") : NULL;
    if (!c->model.tokenizer && tokenizer && qc_is_file(tokenizer) &&
        qc_model_load_tokenizer(&c->model, &o->run) != QC_OK)
        return QC_ERROR;
    return qc_dataset_read(c->diag, c->arena, o->calib, c->model.tokenizer, &options, dataset);
}

static qc_status calibrate_graphs(comparison *c)
{
    const qc_compare_options *o = c->options;
    qc_dataset dataset;
    qc_calibrate_options options = {.threads = o->run.threads,
        .source = o->run.source,
        .progress = o->progress,
        .progress_user = o->user};
    if (read_dataset(c, &dataset) != QC_OK)
        return QC_ERROR;
    c->result->calib_sequences = dataset.count;
    c->result->calib_tokens = dataset.token_count;
    for (size_t i = 0; i < c->graphs.count; i++) {
        graph *g = &c->graphs.items[i];
        if (qc_unite_observer_count(g->unite) == 0)
            continue;
        c->result->calibrations++;
        say(c, "calibrating %zu observers on %zu sequences, %llu tokens", qc_unite_observer_count(g->unite),
            dataset.count, (unsigned long long)dataset.token_count);
        if (qc_module_verify(qc_unite_module(g->unite), "compare") != QC_OK ||
            qc_calibrate(c->ctx, qc_unite_module(g->unite), &dataset, &options, &g->stats) != QC_OK)
            return QC_ERROR;
    }
    return QC_OK;
}

static qc_status resolve(comparison *c, size_t index)
{
    variant *v = &c->variants[index];
    qc_run_settings settings = {0};
    qc_pipeline *pipeline = qc_pipeline_create(c->registry);
    if (v->graph != SIZE_MAX &&
        qc_calibrate_resolve(c->ctx, v->module, &c->graphs.items[v->graph].stats) != QC_OK)
        return in_recipe(c, index);
    if (append_stage(c, pipeline, "resolve-observers", is_none(c) ? "{missing=one}" : "") != QC_OK)
        return QC_ERROR;
    return qc_pipeline_run(pipeline, v->module, &settings) == QC_OK ? QC_OK : in_recipe(c, index);
}

static qc_status find_statistics(comparison *c)
{
    const qc_compare_options *o = c->options;
    bool any = false;
    add_graph(c, c->model.module);
    for (size_t i = 0; i < c->recipes.count; i++) {
        c->variants[i].graph = SIZE_MAX;
        if (!qc_calibrate_is_needed(c->variants[i].module) || is_none(c))
            continue;
        if (!o->calib && !o->stats) {
            qc_ctx_error(
                c->ctx, c->recipes.items[i].label, "static scales need statistics of the activations");
            qc_ctx_note(c->ctx, "give data with --calib=FILE (or random, or none for scales of 1.0), or kept "
                                "statistics with --stats=FILE");
            return QC_ERROR;
        }
        any = true;
        if (choose_graph(c, i) != QC_OK)
            return QC_ERROR;
        if (o->stats)
            c->result->rows[i + 1].statistics = QC_COMPARE_KEPT;
    }
    if (any && (o->stats ? qc_stats_load(c->diag, &c->graphs.items[0].stats, o->stats)
                         : calibrate_graphs(c)) != QC_OK)
        return QC_ERROR;
    for (size_t i = 0; i < c->recipes.count; i++)
        if (resolve(c, i) != QC_OK)
            return QC_ERROR;
    return QC_OK;
}

/* ---- evaluation ---------------------------------------------------------------------------------------- */

static qc_executor *open_variant(void *user, size_t index)
{
    comparison *c = user;
    variant *v = &c->variants[index];
    if (v->executor)
        return v->executor;
    qc_executor_options options = {.threads = c->options->run.threads,
        .source = qc_is_directory(c->model.path) ? NULL : c->options->run.source,
        .lender = c->model.executor};
    v->executor = qc_executor_create(c->ctx, v->module, &options);
    if (!v->executor) {
        in_recipe(c, index);
        return NULL;
    }
    qc_compare_row *row = &c->result->rows[index + 1];
    row->weight_bytes = qc_executor_weight_bytes(v->executor);
    row->cache_bytes = (double)qc_executor_cache_bytes_per_token(v->executor);
    v->resident = c->resident_bytes + row->weight_bytes <= QC_COMPARE_WEIGHT_BYTES;
    c->resident_bytes += v->resident ? row->weight_bytes : 0;
    return v->executor;
}

static void close_variant(void *user, size_t index)
{
    comparison *c = user;
    variant *v = &c->variants[index];
    if (v->resident)
        return;
    qc_executor_destroy(v->executor);
    v->executor = NULL;
}

static qc_status measure_scores(comparison *c)
{
    size_t count = c->recipes.count;
    qc_module **modules = QC_NEW_ARRAY(c->arena, qc_module *, count);
    const char **names = QC_NEW_ARRAY(c->arena, const char *, count);
    qc_qk_error *errors = QC_NEW_ARRAY(c->arena, qc_qk_error, count);
    for (size_t i = 0; i < count; i++) {
        modules[i] = c->variants[i].module;
        names[i] = c->recipes.items[i].label;
    }
    qc_qk_options options = {.source = qc_is_directory(c->model.path) ? NULL : c->options->run.source,
        .lender = c->model.executor,
        .threads = c->options->run.threads,
        .progress = c->options->progress,
        .progress_user = c->options->user};
    if (qc_qk_error_measure(
            c->arena, c->model.module, modules, names, count, &c->result->windows, &options, errors) != QC_OK)
        return QC_ERROR;
    for (size_t i = 0; i < count; i++) {
        c->result->rows[i + 1].qk = errors[i];
        c->result->qk_sequences =
            errors[i].error.count > c->result->qk_sequences ? errors[i].error.count : c->result->qk_sequences;
    }
    return QC_OK;
}

/* Token by token, so that what is hard for all recipes alike does not hide a difference. */
static void compare_with(comparison *c, double *const *divergences)
{
    qc_compare_result *r = c->result;
    for (size_t i = 1; c->options->against && i < r->count; i++) {
        qc_compare_row *row = &r->rows[i];
        for (size_t t = 0; t < r->windows.scored; t++)
            qc_mean_add(
                &row->against, divergences[i - 1][t] - (r->against ? divergences[r->against - 1][t] : 0));
        row->has_against = true;
    }
}

static qc_status measure_logits(comparison *c)
{
    size_t count = c->recipes.count;
    qc_compare_result *r = c->result;
    qc_eval_result *results = QC_NEW_ARRAY(c->arena, qc_eval_result, count);
    const char **names = QC_NEW_ARRAY(c->arena, const char *, count);
    double **divergences = QC_NEW_ARRAY(c->arena, double *, count);
    for (size_t i = 0; i < count; i++) {
        names[i] = c->recipes.items[i].label;
        divergences[i] = QC_NEW_ARRAY(c->arena, double, r->windows.scored);
    }
    qc_eval_options options = {.threads = c->options->run.threads,
        .progress = c->options->progress,
        .progress_user = c->options->user};
    qc_eval_subjects subjects = {count, names, open_variant, close_variant, c};
    if (qc_eval_run_subjects(c->ctx, c->model.executor, c->model.path, &subjects, &r->windows, &options,
            results, divergences) != QC_OK)
        return QC_ERROR;
    for (size_t i = 0; i < count; i++)
        r->rows[i + 1].eval = results[i];
    r->rows[0].eval.loss = results[0].baseline_loss;
    r->rows[0].eval.has_baseline = true;
    r->rows[0].eval.divergence.count = r->rows[0].eval.agreement.count = results[0].divergence.count;
    r->rows[0].eval.agreement.mean = 1;
    r->rows[0].cache_bytes = (double)qc_executor_cache_bytes_per_token(c->model.executor);
    compare_with(c, divergences);
    return QC_OK;
}

/* ---- the run ------------------------------------------------------------------------------------------- */

static qc_status find_against(comparison *c)
{
    const char *label = c->options->against;
    for (size_t i = 0; label && i < c->result->count; i++)
        if (strcmp(c->result->rows[i].label, label) == 0) {
            c->result->against = i;
            return QC_OK;
        }
    return label ? qc_ctx_error(c->ctx, "--against", "no recipe has the label '%s'", label) : QC_OK;
}

static qc_status run(comparison *c)
{
    const qc_compare_options *o = c->options;
    qc_compare_result *r = c->result;
    if (qc_model_open(c->ctx, o->model, &o->run, &c->model) ||
        qc_compare_recipes_read(c->ctx, c->arena, "--recipes", o->recipes, &c->recipes))
        return QC_ERROR;
    r->count = c->recipes.count + 1;
    r->rows = QC_NEW_ARRAY(c->arena, qc_compare_row, r->count);
    r->rows[0] = (qc_compare_row){.label = "baseline", .text = "", .pipeline = ""};
    c->variants = QC_NEW_ARRAY(c->arena, variant, c->recipes.count);
    for (size_t i = 0; i < c->recipes.count; i++)
        if (strcmp(c->recipes.items[i].label, "baseline") == 0)
            return qc_ctx_error(c->ctx, "--recipes", "the label 'baseline' is that of the model itself");
    if (make_variants(c) || find_against(c) ||
        qc_eval_read(&c->model, &o->run, c->arena, o->data, o->context, &r->windows) || find_statistics(c) ||
        qc_model_load_weights(&c->model, &o->run) || measure_scores(c) || measure_logits(c))
        return QC_ERROR;
    return QC_OK;
}

qc_status qc_compare_run(
    qc_ctx *ctx, qc_arena *arena, const qc_compare_options *options, qc_compare_result *result)
{
    *result = (qc_compare_result){0};
    comparison c = {
        .ctx = ctx, .diag = qc_ctx_diag(ctx), .arena = arena, .options = options, .result = result};
    c.registry = qc_registry_create(ctx, arena->oom);
    qc_numbering_init(&c.numbering, arena);
    qc_status status = run(&c);
    for (size_t i = 0; c.variants && i < c.recipes.count; i++) {
        qc_executor_destroy(c.variants[i].executor);
        if (c.variants[i].module)
            qc_module_destroy(c.variants[i].module);
    }
    for (size_t i = 0; i < c.graphs.count; i++)
        qc_module_destroy(qc_unite_module(c.graphs.items[i].unite));
    qc_model_close(&c.model);
    qc_registry_destroy(c.registry);
    return status;
}
