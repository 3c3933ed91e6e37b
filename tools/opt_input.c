/* SPDX-License-Identifier: MIT
 *
 * opt_input.c - where qc-opt's module comes from.
 */
#include <stdlib.h>

#include "frontends/hf/hf.h"
#include "ir/ctx.h"
#include "ir/support/io.h"
#include "tools/qc_opt.h"

enum { MAX_IR_BYTES = 1 << 30 };

static qc_module *read_text(opt_job *job, const char *path)
{
    qc_diag *diag = qc_ctx_diag(job->ctx);
    qc_arena *arena = &job->cli->arena;
    char *text;
    size_t length;
    bool standard_input = !strcmp(path, "-");
    qc_status status = standard_input ? qc_read_fd(diag, arena, 0, "<stdin>", &text, &length)
                                      : qc_read_file(diag, arena, path, MAX_IR_BYTES, &text, &length);
    if (status != QC_OK)
        return NULL;
    return qc_module_parse(job->ctx, standard_input ? "<stdin>" : path, text, length);
}

/* The snapshot that refs/main of a repository in the local Hub cache names; NULL when there is none.
 * Layout: HUB/models--ORG--NAME/{refs/main, snapshots/REVISION/}. */
static const char *hub_snapshot(opt_job *job, const char *model)
{
    qc_arena *arena = &job->cli->arena;
    const char *hub = getenv("HF_HUB_CACHE"), *home = getenv("HF_HOME"), *user = getenv("HOME");
    if (!hub && home)
        hub = qc_path_join(arena, home, "hub");
    if (!hub && user)
        hub = qc_arena_printf(arena, "%s/.cache/huggingface/hub", user);
    const char *slash = strchr(model, '/');
    if (!hub || !slash || slash == model || !slash[1] || strchr(slash + 1, '/') || *model == '.')
        return NULL;
    const char *repository =
        qc_arena_printf(arena, "%s/models--%.*s--%s", hub, (int)(slash - model), model, slash + 1);
    const char *ref = qc_arena_printf(arena, "%s/refs/main", repository);
    if (!qc_is_file(ref))
        return NULL;
    char *revision;
    size_t length;
    if (qc_read_file(qc_ctx_diag(job->ctx), arena, ref, 4096, &revision, &length) != QC_OK)
        return NULL;
    revision[strcspn(revision, "\r\n")] = 0;
    const char *snapshot = qc_arena_printf(arena, "%s/snapshots/%s", repository, revision);
    return qc_is_directory(snapshot) ? snapshot : NULL;
}

/* A quantized checkpoint that is to be quantized again is read as the numbers that its codes stand for. */
static qc_module *read_checkpoint(opt_job *job, const char *directory)
{
    const char *import = qc_cli_text(job->cli, "import", NULL);
    qc_hf_options options = {
        .mode = !import                          ? QC_HF_AUTO
                : strcmp(import, "tensors") == 0 ? QC_HF_TENSORS
                                                 : QC_HF_GRAPH,
        .dequantize = qc_pipeline_has(job->pipeline, "quant-linear"),
    };
    return qc_hf_import(job->ctx, directory, &options);
}

qc_module *opt_read_model(opt_job *job, const char *model)
{
    if (!strcmp(model, "-") || qc_ends_with(model, ".qc"))
        return read_text(job, model);
    if (qc_ends_with(model, ".onnx")) {
        qc_ctx_error(job->ctx, model, "this version does not read ONNX");
        return NULL;
    }
    if (!qc_is_directory(model)) {
        const char *snapshot = hub_snapshot(job, model);
        if (snapshot)
            return read_checkpoint(job, snapshot);
        qc_ctx_error(job->ctx, model,
            qc_is_file(model) ? "is a file; a checkpoint is given by its directory, IR as NAME.qc"
                              : "no such directory, and no repository of this name in the local Hub cache");
        return NULL;
    }
    return read_checkpoint(job, model);
}
