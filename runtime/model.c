/* SPDX-License-Identifier: MIT
 *
 * model.c - see model.h.
 */
#include "runtime/model.h"

#include "frontends/hf/hf.h"
#include "frontends/text/dataset.h"
#include "ir/ctx.h"
#include "ir/support/io.h"
#include "ir/support/json.h"
#include "passes/manager.h"

enum { MAX_IR_BYTES = 1 << 30, MAX_CONFIG_BYTES = 1 << 24 };

/* ---- opening ------------------------------------------------------------------------------------------- */

/* As the pass set-dtype does it. */
static qc_status set_dtype(qc_model *model, qc_dtype dtype)
{
    qc_arena *arena = qc_ctx_arena(model->ctx);
    qc_registry *registry = qc_registry_create(model->ctx, arena->oom);
    qc_pipeline *pipeline = qc_pipeline_create(registry);
    qc_run_settings settings = {0};
    const char *text = qc_arena_printf(arena, "set-dtype{dtype=%s}", qc_dtype_name(dtype));
    qc_status status = qc_pipeline_parse(pipeline, "--dtype", text);
    if (status == QC_OK)
        status = qc_pipeline_run(pipeline, model->module, &settings);
    qc_registry_destroy(registry);
    return status;
}

static qc_status open_text(qc_model *model, const qc_model_options *options)
{
    char *text;
    size_t length;
    qc_ctx *ctx = model->ctx;
    if (qc_read_file(qc_ctx_diag(ctx), qc_ctx_arena(ctx), model->path, MAX_IR_BYTES, &text, &length))
        return QC_ERROR;
    model->module = qc_module_parse(ctx, model->path, text, length);
    if (!model->module || qc_module_verify(model->module, NULL))
        return QC_ERROR;
    const char *source = options->source ? options->source : qc_module_source(model->module);
    if (source) {
        if (!qc_is_directory(source))
            return qc_ctx_error(ctx, model->path,
                "its source '%s' is no directory here; --source=DIR says where the weights lie", source);
        model->directory = qc_arena_strdup(qc_ctx_arena(ctx), source);
    }
    return options->dtype == QC_DTYPE_NONE ? QC_OK : set_dtype(model, options->dtype);
}

qc_status qc_model_read_positions(qc_diag *diag, qc_arena *arena, const char *directory, int64_t *positions)
{
    char *text;
    size_t length;
    const char *path = directory ? qc_path_join(arena, directory, "config.json") : NULL;
    *positions = 0;
    if (!path || !qc_is_file(path))
        return QC_OK;
    if (qc_read_file(diag, arena, path, MAX_CONFIG_BYTES, &text, &length))
        return QC_ERROR;
    const qc_json *root = qc_json_parse(diag, arena, path, text, length);
    const qc_json *inner = root ? qc_json_get(root, "text_config") : NULL; /* of a multimodal model */
    const qc_json *holder = inner && inner->kind == QC_JSON_OBJECT ? inner : root;
    if (!root || qc_json_int(diag, path, holder, "max_position_embeddings", false, positions))
        return QC_ERROR;
    if (*positions < 0)
        return qc_error(diag, path, "max_position_embeddings must not be negative");
    return QC_OK;
}

qc_status qc_model_open(qc_ctx *ctx, const char *path, const qc_model_options *options, qc_model *model)
{
    *model = (qc_model){.ctx = ctx, .path = path};
    if (qc_ends_with(path, ".onnx"))
        return qc_ctx_error(ctx, path, "this version does not read ONNX");
    if (qc_is_directory(path)) {
        qc_hf_options hf = {.dtype = options->dtype};
        model->directory = path;
        if (options->tokenizer_only)
            return QC_OK;
        model->module = qc_hf_import(ctx, path, &hf);
        if (!model->module)
            return QC_ERROR;
    } else if (qc_ends_with(path, ".qc")) {
        if (open_text(model, options))
            return QC_ERROR;
    } else if (!qc_is_file(path)) {
        return qc_ctx_error(ctx, path, "there is no such model: neither a directory nor a file");
    } else {
        return qc_ctx_error(ctx, path, "a model is a checkpoint directory or an IR file NAME.qc");
    }
    if (qc_model_read_positions(qc_ctx_diag(ctx), qc_ctx_arena(ctx), model->directory, &model->positions))
        return QC_ERROR;
    return qc_kv_cache_apply(model->module, path, &options->cache);
}

qc_status qc_model_load_tokenizer(qc_model *model, const qc_model_options *options)
{
    if (!model->directory)
        return qc_ctx_error(
            model->ctx, model->path, "the IR names no source, and so no tokenizer; --source=DIR does");
    if (qc_tokenizer_load(
            qc_ctx_diag(model->ctx), qc_ctx_arena(model->ctx), model->directory, &model->tokenizer))
        return QC_ERROR;
    if (!options->truncate)
        qc_tokenizer_ignore_limits(model->tokenizer);
    return QC_OK;
}

qc_status qc_model_load_weights(qc_model *model, const qc_model_options *options)
{
    qc_executor_options executor = {.backend = options->backend,
        .threads = options->threads,
        .source = qc_is_directory(model->path) ? NULL : options->source};
    model->executor = qc_executor_create(model->ctx, model->module, &executor);
    return model->executor ? QC_OK : QC_ERROR;
}

void qc_model_close(qc_model *model)
{
    if (model->executor)
        qc_executor_destroy(model->executor);
    qc_tokenizer_fini(model->tokenizer);
    if (model->module)
        qc_module_destroy(model->module);
    *model = (qc_model){0};
}

int64_t qc_model_vocabulary(const qc_model *model)
{
    const qc_func *func = qc_module_func(model->module, "main");
    const qc_value *logits = func && qc_func_result_count(func) ? qc_func_result(func, 0) : NULL;
    const qc_dim *last = logits ? qc_type_dim(qc_value_type(logits), -1) : NULL;
    int64_t vocabulary;
    return last && qc_dim_as_int(last, &vocabulary) ? vocabulary : 0;
}

/* ---- texts --------------------------------------------------------------------------------------------- */

qc_status qc_model_prefix(qc_model *model, const int32_t **prefix, size_t *count)
{
    qc_arena *arena = qc_ctx_arena(model->ctx);
    qc_tokenizer_scratch *scratch = qc_tokenizer_scratch_create(model->tokenizer, arena->oom);
    qc_status status =
        qc_text_prefix(model->tokenizer, scratch, qc_ctx_diag(model->ctx), arena, prefix, count);
    qc_tokenizer_scratch_destroy(scratch);
    return status;
}

qc_status qc_text_check(qc_diag *diag, const char *where, const char *text, size_t length)
{
    for (size_t at = 0; at < length;) {
        int step = qc_utf8_length((const unsigned char *)text + at, length - at);
        if (step == 0)
            return qc_error(diag, where, "the text is not UTF-8 at byte %zu", at);
        at += (size_t)step;
    }
    return QC_OK;
}
