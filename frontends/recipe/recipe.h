/* SPDX-License-Identifier: MIT
 *
 * recipe.h - llm-compressor's recipes: YAML, JSON or Markdown with front matter, expanded into passes.
 *
 * What a recipe means is what llm-compressor 0.14 does with it (docs/recipes.md). Everything that it does not know,
 * or that qc cannot do, is an error `FILE:LINE: ...`; nothing is skipped.
 */
#ifndef QC_FRONTENDS_RECIPE_RECIPE_H
#define QC_FRONTENDS_RECIPE_RECIPE_H

#include "ir/support/diag.h"
#include "qc/ir.h"

typedef struct qc_recipe {
    const char *pipeline;   /* text for qc_pipeline_parse */
    const char *needs_data; /* "FILE:LINE: input_activations of group_0 are static", or NULL */
} qc_recipe;

/* Reads the file; what is in *recipe lies in `arena`. Remarks say what a recipe would do better. */
qc_status qc_recipe_read(qc_ctx *ctx, qc_arena *arena, const char *path, qc_recipe *recipe);
/* The same of text[length], as if it were in the file `path`, whose ending says how it is read. */
qc_status qc_recipe_parse(
    qc_ctx *ctx, qc_arena *arena, const char *path, const char *text, size_t length, qc_recipe *recipe);

#endif
