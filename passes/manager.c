/* SPDX-License-Identifier: MIT
 *
 * manager.c - running a pipeline: one pass after another, with everything checked that manager.h promises.
 *
 * The text of the module is printed once before the first pass and once after each: it serves --print-before
 * and
 * --print-after, shows whether the pass told the truth about "unchanged", and is the reproducer of the next
 * one.
 */
#include <stdio.h>
#include <time.h>

#include "passes/internal.h"

static const char reproducer_mark[] = "// pipeline: ";

typedef struct run_state {
    const qc_pipeline *pipeline;
    const qc_run_settings *settings;
    qc_module *module;
    qc_ctx *ctx;
    qc_arena arena;
    qc_analysis_cache *analyses;
    char *text; /* of the module now; from qc_module_print */
    size_t length;
    size_t index; /* of the pass */
} run_state;

static double now_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static bool names_contain(const char *const *names, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

/* state->text is the IR before the failing pass. */
static void write_reproducer(const run_state *state)
{
    const qc_run_settings *settings = state->settings;
    if (!settings->reproducer)
        return;
    qc_str out;
    qc_str_init(&out, &state->arena);
    qc_str_add(&out, reproducer_mark);
    for (size_t i = state->index; i < state->pipeline->items.count; i++) {
        qc_str_add(&out, i > state->index ? "," : "");
        qc_pass_instance_print(&state->pipeline->items.items[i], &out);
    }
    qc_str_addf(&out, "\n// qc %s\n", settings->version ? settings->version : "of unknown version");
    qc_str_add_bytes(&out, state->text, state->length);
    FILE *file = fopen(settings->reproducer, "wb");
    bool written = file && fwrite(out.data, 1, out.length, file) == out.length;
    written = file && fclose(file) == 0 && written;
    if (written)
        qc_ctx_note(state->ctx,
            "the IR before the pass is in %s; run it with --pipeline as its first line says",
            settings->reproducer);
    else
        qc_ctx_note(state->ctx, "the reproducer %s cannot be written", settings->reproducer);
    qc_str_fini(&out);
}

char *qc_reproducer_pipeline(qc_arena *arena, const char *text)
{
    size_t mark = sizeof reproducer_mark - 1;
    if (strncmp(text, reproducer_mark, mark) != 0)
        return NULL;
    return qc_arena_strndup(arena, text + mark, strcspn(text + mark, "\r\n"));
}

static void report_counts(const qc_pass_ctx *pc)
{
    for (size_t i = 0; i < pc->counts.count; i++)
        qc_ctx_remark(pc->ctx, pc->instance->pass->name, "%lld %s", (long long)pc->counts.items[i].amount,
            pc->counts.items[i].what);
}

/* Does what the pass said about its result hold? `errors` were reported before it ran. */
static qc_status check_claims(run_state *state, const qc_pass_ctx *pc, qc_pass_result result, size_t errors,
    const char *text, size_t length)
{
    const char *name = pc->instance->pass->name;
    bool same = length == state->length && memcmp(text, state->text, length) == 0;
    if (pc->failed || qc_ctx_error_count(state->ctx) > errors)
        return qc_ctx_error(state->ctx, name, "the pass reported an error and went on; it must fail then");
    if (result != QC_PASS_UNCHANGED && result != QC_PASS_CHANGED)
        return qc_ctx_error(state->ctx, name, "the pass gave %d, which is no result", (int)result);
    if (result == QC_PASS_UNCHANGED && !same)
        return qc_ctx_error(
            state->ctx, name, "the pass says that it changed nothing, but the module is another");
    if (qc_module_verify(state->module, name) != QC_OK)
        return QC_ERROR;
    if (result == QC_PASS_CHANGED)
        qc_analysis_cache_keep(
            state->analyses, pc->instance->pass->kept.items, pc->instance->pass->kept.count);
    const char *stale = state->settings->verify_keeps ? qc_analysis_cache_check(state->analyses) : NULL;
    if (stale)
        return qc_ctx_error(
            state->ctx, name, "the pass promised to keep the analysis '%s', which is another now", stale);
    return QC_OK;
}

/* Takes over `text`. */
static void finish_pass(run_state *state, const qc_pass_ctx *pc, char *text, size_t length)
{
    const qc_run_settings *settings = state->settings;
    const char *name = pc->instance->pass->name;
    qc_text_free(state->text);
    state->text = text;
    state->length = length;
    report_counts(pc);
    bool print =
        settings->print_after_all || names_contain(settings->print_after, settings->print_after_count, name);
    if (settings->print && print)
        settings->print(settings->user, "after", name, text, length);
}

static qc_status run_pass(run_state *state, const qc_pass_instance *item)
{
    const qc_run_settings *settings = state->settings;
    const char *name = item->pass->name;
    size_t errors = qc_ctx_error_count(state->ctx), length = 0;
    char *text = NULL;
    qc_arena scratch;
    qc_arena_init(&scratch, state->arena.oom);
    qc_pass_ctx pc = {
        .ctx = state->ctx,
        .arena = &scratch,
        .module = state->module,
        .instance = item,
        .settings = settings,
        .analyses = state->analyses,
    };
    if (settings->print && names_contain(settings->print_before, settings->print_before_count, name))
        settings->print(settings->user, "before", name, state->text, state->length);
    double start = now_seconds();
    qc_pass_result result = item->pass->run(&pc, state->module);
    double ran = now_seconds();
    qc_status status = QC_ERROR;
    if (result == QC_PASS_FAILED) {
        if (qc_ctx_error_count(state->ctx) == errors)
            qc_ctx_error(state->ctx, name, "the pass failed without saying why");
    } else {
        text = qc_module_print(state->module, &length);
        status = check_claims(state, &pc, result, errors, text, length);
    }
    if (status == QC_OK) {
        finish_pass(state, &pc, text, length);
        qc_run_report report = {name, state->index, state->pipeline->items.count, result == QC_PASS_CHANGED,
            ran - start, now_seconds() - ran};
        if (settings->report)
            settings->report(settings->user, &report);
    } else {
        write_reproducer(state);
        qc_text_free(text);
    }
    qc_arena_fini(&scratch);
    return status;
}

qc_status qc_pipeline_run(const qc_pipeline *pipeline, qc_module *module, const qc_run_settings *settings)
{
    run_state state = {
        .pipeline = pipeline, .settings = settings, .module = module, .ctx = qc_module_ctx(module)};
    if (qc_module_verify(module, NULL) != QC_OK)
        return QC_ERROR;
    for (size_t i = 0; i < settings->disable_count; i++)
        if (qc_target_check(state.ctx, settings->disable[i]) != QC_OK)
            return QC_ERROR;
    qc_arena_init(&state.arena, pipeline->registry->arena.oom);
    state.analyses = qc_analysis_cache_create(&state.arena, pipeline->registry, module);
    state.text = qc_module_print(module, &state.length);
    qc_status status = QC_OK;
    for (size_t i = 0; i < pipeline->items.count && status == QC_OK; i++) {
        state.index = i;
        status = run_pass(&state, &pipeline->items.items[i]);
    }
    qc_text_free(state.text);
    qc_analysis_cache_destroy(state.analyses);
    qc_arena_fini(&state.arena);
    return status;
}
