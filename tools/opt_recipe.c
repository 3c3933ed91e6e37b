/* SPDX-License-Identifier: MIT
 *
 * opt_recipe.c - recipes, presets and what goes for all passes, as parts of the pipeline.
 */
#include "frontends/recipe/recipe.h"
#include "ir/ctx.h"
#include "passes/schemes.h"
#include "tools/qc_opt.h"

qc_status opt_append_recipe(opt_job *job, const char *path)
{
    qc_recipe recipe;
    job->bad_recipe = true; /* until it is read */
    if (qc_recipe_read(job->ctx, &job->cli->arena, path, &recipe) != QC_OK)
        return QC_ERROR;
    job->bad_recipe = false;
    if (!job->needs_data)
        job->needs_data = recipe.needs_data;
    return qc_pipeline_parse(job->pipeline, path, recipe.pipeline);
}

/* The preset has static inputs: data are asked for in its name. */
static void note_needs(opt_job *job, const qc_scheme_preset *preset)
{
    const qc_attr *input = qc_scheme_preset_part(job->ctx, preset, "input");
    if (!input || job->needs_data ||
        (qc_attr_as_bool(qc_attr_find(input, "dynamic")) && !qc_attr_as_bool(qc_attr_find(input, "global"))))
        return;
    const char *weights_alone = qc_arena_printf(&job->cli->arena, "%sA16", preset->name);
    const qc_scheme_preset *other = qc_scheme_preset_find(weights_alone);
    job->needs_data = qc_arena_printf(&job->cli->arena, "%s has static scales of inputs%s%s%s", preset->name,
        other ? "; " : "", other ? other->name : "", other ? ", of weights alone, needs none" : "");
}

static qc_status no_such_scheme(opt_job *job, const char *name)
{
    const qc_scheme_preset *preset;
    QC_VEC(const char *) names = {0};
    for (size_t i = 0; (preset = qc_scheme_preset_at(i)); i++)
        QC_PUSH(&job->cli->arena, &names, preset->name);
    const char *nearest = qc_nearest_name(name, names.items, names.count);
    qc_ctx_error(job->ctx, "--scheme", "no preset '%s'%s%s%s; --list-schemes lists them", name,
        nearest ? ", nearest is '" : "", nearest ? nearest : "", nearest ? "'" : "");
    return QC_ERROR;
}

qc_status opt_append_scheme(opt_job *job, const char *name)
{
    static const char *const lists[] = {"targets", "ignore"};
    const qc_scheme_preset *preset = qc_scheme_preset_find(name);
    if (!preset)
        return no_such_scheme(job, name);
    note_needs(job, preset);
    qc_str text;
    qc_str_init(&text, &job->cli->arena);
    qc_str_add(&text, "quant-linear{scheme=");
    qc_str_add_quoted(&text, name, strlen(name));
    for (size_t k = 0; k < 2; k++) {
        bool any = false;
        for (size_t i = 0; i < job->cli->args.count; i++) {
            const qc_cli_arg *arg = &job->cli->args.items[i];
            if (strcmp(arg->option->name, lists[k]) != 0)
                continue;
            qc_str_addf(&text, any ? ", " : ", %s=[", lists[k]);
            qc_str_add_quoted(&text, arg->text, strlen(arg->text));
            any = true;
        }
        qc_str_add(&text, any ? "]" : "");
    }
    qc_str_add_char(&text, '}');
    qc_status status = qc_pipeline_parse(job->pipeline, "--scheme", text.data);
    qc_str_fini(&text);
    return status;
}

qc_status opt_set_defaults(opt_job *job)
{
    const char *arith = qc_cli_text(job->cli, "arith", NULL), *format = qc_cli_text(job->cli, "format", NULL);
    if (arith && qc_pipeline_set_default(job->pipeline, "--arith", "arith",
                     strcmp(arith, "cuda") == 0 ? "ct_cuda" : "ct_cpu") != QC_OK)
        return QC_ERROR;
    return format ? qc_pipeline_set_default(job->pipeline, "--format", "format", format) : QC_OK;
}
