/* SPDX-License-Identifier: MIT
 *
 * recipes.h - the recipes that `qc-run compare --recipes` names, as pipelines.
 *
 *   --recipes=RECIPE,RECIPE,...       RECIPE = [LABEL=]TERM[+TERM]...
 *
 * A TERM is a pass with its options (`quant-fp8-attn{granularity=head}`), a preset of quant-linear (`FP8_DYNAMIC`) or an
 * llm-compressor recipe (a name that ends in .yaml, .yml, .json or .md). `@FILE` in place of a RECIPE reads one a line;
 * there a comma joins terms as `+` does, and lines that are empty or begin with # say nothing. Commas, `+` and `=`
 * inside braces, brackets and quotes belong to the pass. Without a LABEL the text names the row.
 */
#ifndef QC_RUNTIME_COMPARE_RECIPES_H
#define QC_RUNTIME_COMPARE_RECIPES_H

#include "ir/support/diag.h"
#include "qc/ir.h"

typedef struct qc_compare_recipe {
    const char *label;    /* unique */
    const char *text;     /* as written, without the label */
    const char *pipeline; /* for qc_pipeline_parse */
} qc_compare_recipe;

typedef struct qc_compare_recipes {
    qc_compare_recipe *items;
    size_t count;
} qc_compare_recipes;

#define QC_COMPARE_MAX_RECIPES 256

/* Errors are reported at `where` ("--recipes"), of a file at FILE:LINE. What is in *recipes lies in `arena`. */
qc_status qc_compare_recipes_read(
    qc_ctx *ctx, qc_arena *arena, const char *where, const char *text, qc_compare_recipes *recipes);

#endif
