/* SPDX-License-Identifier: MIT
 *
 * fuzz_passes.c - any bytes as a pipeline (the first line) and IR text (the rest). A pipeline that parses prints as one
 * that prints the same; passes refuse with a diagnostic or leave a module that verifies and tell the truth about it.
 */
#include <stdio.h>
#include <stdlib.h>

#include "passes/manager.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(bool condition, const char *what)
{
    if (condition)
        return;
    fprintf(stderr, "fuzz_passes: %s\n", what);
    abort();
}

static void on_diagnostic(void *user, qc_severity severity, const char *where, const char *what)
{
    bool *running = user;
    if (severity != QC_SEVERITY_ERROR || !*running)
        return;
    demand(strncmp(where, "<IR after", 9) != 0, "a pass broke the module");
    demand(!strstr(what, "the pass says that it changed nothing"), "a pass lied");
    demand(!strstr(what, "failed without saying why"), "a pass failed silently");
    demand(!strstr(what, "went on"), "a pass went on behind an error");
}

static char *print(const qc_pipeline *pipeline, qc_arena *arena)
{
    qc_str out;
    qc_str_init(&out, arena);
    qc_pipeline_print(pipeline, &out);
    char *text = qc_arena_strdup(arena, out.data);
    qc_str_fini(&out);
    return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bool running = false;
    qc_arena arena;
    qc_arena_init(&arena, NULL);
    qc_ctx *ctx = qc_ctx_create(NULL, on_diagnostic, &running);
    qc_registry *registry = qc_registry_create(ctx, NULL);
    qc_pipeline *pipeline = qc_pipeline_create(registry), *again = qc_pipeline_create(registry);
    const uint8_t *newline = size ? memchr(data, '\n', size) : NULL;
    size_t first = newline ? (size_t)(newline - data) : size;
    char *text = qc_arena_strndup(&arena, (const char *)data, first);
    qc_status status = qc_pipeline_parse(pipeline, "input", text);
    demand((status == QC_OK) == (qc_ctx_error_count(ctx) == 0), "an error for each refusal");
    if (status == QC_OK) {
        char *printed = print(pipeline, &arena);
        demand(qc_pipeline_parse(again, "printed", printed) == QC_OK, "what is printed parses");
        demand(strcmp(print(again, &arena), printed) == 0, "what is printed prints as itself");
    }
    qc_module *module = status == QC_OK && newline
                            ? qc_module_parse(ctx, "input", (const char *)newline + 1, size - first - 1)
                            : NULL;
    if (module) {
        qc_run_settings settings = {.verify_keeps = true};
        running = true;
        status = qc_pipeline_run(pipeline, module, &settings);
        running = false;
        demand((status == QC_OK) == (qc_ctx_error_count(ctx) == 0), "an error for each failure");
    }
    qc_module_destroy(module);
    qc_registry_destroy(registry);
    qc_ctx_destroy(ctx);
    qc_arena_fini(&arena);
    return 0;
}
