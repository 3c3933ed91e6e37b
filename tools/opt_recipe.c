/* SPDX-License-Identifier: MIT
 *
 * opt_recipe.c - recipes, presets and what goes for all passes, as parts of the pipeline.
 */
#include "frontends/recipe/recipe.h"
#include "ir/ctx.h"
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

qc_status opt_append_scheme(opt_job *job, const char *name)
{
    static const char *const lists[] = {"targets", "ignore"};
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
