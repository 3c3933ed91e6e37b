/* SPDX-License-Identifier: MIT
 *
 * record_recipe.c - keeps how a recipe asked for the passes behind this one, for file formats that keep recipes.
 *
 * The text is the recipe reader's: what stands in a stage, in the spelling of recipe.yaml, with what was left out
 * filled in. Nothing but an exporter reads it.
 */
#include "passes/quant.h"

void qc_pass_record_recipe(qc_registry *registry);

static qc_pass_result run(qc_pass_ctx *pc, qc_module *module)
{
    qc_ctx *ctx = qc_pass_ctx_get(pc);
    static const char *const keys[] = {"covers", "stage", "text", NULL};
    const qc_attr *values[] = {
        qc_quant_list_option(pc, "covers"),
        qc_pass_option_attr(pc, "stage"),
        qc_pass_option_attr(pc, "text"),
    };
    if (!qc_pass_option_text(pc, "text")[0])
        return qc_pass_fail(pc, NULL, "text is empty: there is nothing to record");
    qc_quant_symbol(pc, module, "recipe", "recipe", 0, qc_quant_map(ctx, keys, values));
    return QC_PASS_CHANGED;
}

void qc_pass_record_recipe(qc_registry *registry)
{
    qc_pass *pass =
        qc_registry_add(registry, "record-recipe", "Record how a recipe asked for what follows", run);
    qc_pass_set_licence(pass, QC_LICENCE_EXACT);
    qc_pass_set_description(pass,
        "Adds `recipe @recipe_N`, from which exporters write the recipe of a checkpoint. "
        "`--recipe` puts it before the passes\nthat the recipe expands into; it changes no "
        "computation.");
    qc_pass_add_option(
        pass, "stage", QC_OPTION_STRING, "quant", NULL, "the name of the stage, without _stage");
    qc_pass_add_option(pass, "text", QC_OPTION_STRING, "", NULL, "what stands in the stage, as YAML");
    qc_pass_add_option(pass, "covers", QC_OPTION_LIST, "[]", NULL,
        "targets that the text speaks of, and kv_cache_scheme if it does: whatever else is quantized gets a "
        "stage of its own");
}
