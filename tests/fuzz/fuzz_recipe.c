/* SPDX-License-Identifier: MIT
 *
 * fuzz_recipe.c - any bytes as a recipe: the first says how it is read, the rest is the file. What is taken must be a
 * pipeline, and the same pipeline when its canonical text is parsed again; what is refused must be said in exactly one
 * error.
 */
#include <stdio.h>
#include <stdlib.h>

#include "frontends/recipe/recipe.h"
#include "ir/support/str.h"
#include "passes/manager.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(bool condition, const char *what)
{
    if (condition)
        return;
    fprintf(stderr, "fuzz_recipe: %s\n", what);
    abort();
}

static void check_pipeline(qc_ctx *ctx, const char *text)
{
    qc_arena arena;
    qc_arena_init(&arena, NULL);
    qc_registry *registry = qc_registry_create(ctx, NULL);
    qc_pipeline *pipeline = qc_pipeline_create(registry), *again = qc_pipeline_create(registry);
    qc_str first, second;
    qc_str_init(&first, &arena);
    qc_str_init(&second, &arena);
    demand(qc_pipeline_parse(pipeline, "recipe", text) == QC_OK, "the recipe is taken, its pipeline is not");
    qc_pipeline_print(pipeline, &first);
    demand(qc_pipeline_parse(again, "again", first.data) == QC_OK, "the pipeline does not read back");
    qc_pipeline_print(again, &second);
    demand(strcmp(first.data, second.data) == 0, "the pipeline changes when it is written again");
    qc_str_fini(&first);
    qc_str_fini(&second);
    qc_registry_destroy(registry);
    qc_arena_fini(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const paths[] = {"r.yaml", "r.json", "r.md", "r"};
    qc_arena arena;
    qc_recipe recipe;
    if (size == 0)
        return 0;
    qc_arena_init(&arena, NULL);
    qc_ctx *ctx = qc_ctx_create(NULL, NULL, NULL);
    char *copy = malloc(size); /* of exactly this size, so that reading past it is seen */
    demand(copy != NULL, "out of memory");
    memcpy(copy, data, size);
    qc_status status = qc_recipe_parse(ctx, &arena, paths[data[0] % 4], copy + 1, size - 1, &recipe);
    free(copy);
    demand(qc_ctx_error_count(ctx) == (status == QC_OK ? 0 : 1), "one error for each refusal");
    if (status == QC_OK)
        check_pipeline(ctx, recipe.pipeline);
    qc_arena_fini(&arena);
    qc_ctx_destroy(ctx);
    return 0;
}
