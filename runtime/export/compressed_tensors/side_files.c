/* SPDX-License-Identifier: MIT
 *
 * side_files.c - the files beside config.json and the weights: what belongs to the model is copied byte for
 * byte (tokenizer, templates, processors, generation_config.json and other JSON, code, licences), everything
 * else is left out, and a note says so. Links are followed: a Hub cache holds nothing else.
 */
#include <string.h>
#include <strings.h>

#include "ir/support/io.h"
#include "runtime/export/compressed_tensors/internal.h"

/* Written by the exporter itself, or describing the source's files. */
static const char *const replaced[] = {"config.json", "recipe.yaml", "model.safetensors.index.json"};

static const char *const weight_endings[] = {".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".ggml",
    ".onnx", ".onnx_data", ".msgpack", ".h5", ".ot", ".npz", ".tflite", ".index.json"};

static const char *const model_endings[] = {".json", ".py", ".jinja", ".model", ".tiktoken", ".vocab"};
static const char *const model_names[] = {"merges.txt", "vocab.txt", "vocab.bpe", "bpe.codes"};
static const char *const model_prefixes[] = {
    "LICENSE", "LICENCE", "NOTICE", "COPYING", "USE_POLICY", "tokenizer", "chat_template"};

#define LENGTH(array) (sizeof(array) / sizeof *(array))

static bool any_ending(const char *name, const char *const *endings, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (qc_ends_with(name, endings[i]))
            return true;
    return false;
}

bool ct_is_replaced(const char *name)
{
    for (size_t i = 0; i < LENGTH(replaced); i++)
        if (strcmp(name, replaced[i]) == 0)
            return true;
    return false;
}

bool ct_is_weights_file(const char *name)
{
    return any_ending(name, weight_endings, LENGTH(weight_endings));
}

static bool belongs_to_model(const char *name)
{
    if (ct_is_weights_file(name))
        return false;
    for (size_t i = 0; i < LENGTH(model_names); i++)
        if (strcmp(name, model_names[i]) == 0)
            return true;
    for (size_t i = 0; i < LENGTH(model_prefixes); i++)
        if (strncasecmp(name, model_prefixes[i], strlen(model_prefixes[i])) == 0)
            return true;
    return any_ending(name, model_endings, LENGTH(model_endings));
}

/* Is it one of the source's own shards, whose tensors were all taken over? */
bool ct_is_shard(const ct_plan *plan, const char *name)
{
    const qc_st_set *set = qc_weights_tensors(plan->weights);
    for (size_t i = 0; i < set->file_count; i++)
        if (strcmp(set->files[i].name, name) == 0)
            return true;
    return false;
}

static qc_status copy_templates(qc_ctx *ctx, qc_arena *arena, const char *from, const char *to)
{
    qc_diag *diag = qc_ctx_diag(ctx);
    char **names;
    size_t count;
    if (qc_list_directory(diag, arena, from, &names, &count) != QC_OK)
        return QC_ERROR;
    if (ct_make_directory(diag, to) != QC_OK)
        return QC_ERROR;
    for (size_t i = 0; i < count; i++)
        if (qc_ends_with(names[i], ".jinja") && qc_is_file(qc_path_join(arena, from, names[i])) &&
            qc_copy_file(diag, qc_path_join(arena, from, names[i]), qc_path_join(arena, to, names[i])) !=
                QC_OK)
            return QC_ERROR;
    return QC_OK;
}

qc_status ct_copy_side_files(ct_plan *plan, const char *from, const char *to)
{
    static const char templates[] = "additional_chat_templates";
    if (plan->as_tensors)
        return ct_copy_all_files(plan, from, to);
    qc_diag *diag = qc_ctx_diag(plan->ctx);
    qc_arena *arena = &plan->arena;
    char **names;
    size_t count;
    if (qc_list_directory(diag, arena, from, &names, &count) != QC_OK)
        return QC_ERROR;
    const char *left_out = "";
    for (size_t i = 0; i < count; i++) {
        const char *name = names[i], *path = qc_path_join(arena, from, name);
        if (ct_is_replaced(name) || ct_is_shard(plan, name) || name[0] == '.' || qc_is_same_file(path, to))
            continue;
        qc_status status = QC_OK;
        if (strcmp(name, templates) == 0 && qc_is_directory(path))
            status = copy_templates(plan->ctx, arena, path, qc_path_join(arena, to, name));
        else if (qc_is_file(path) && belongs_to_model(name))
            status = qc_copy_file(diag, path, qc_path_join(arena, to, name));
        else
            left_out = qc_arena_printf(
                arena, "%s%s%s%s", left_out, *left_out ? ", " : "", name, qc_is_directory(path) ? "/" : "");
        if (status != QC_OK)
            return QC_ERROR;
    }
    if (*left_out)
        qc_ctx_note(plan->ctx, "not copied from %s: %s", from, left_out);
    return QC_OK;
}
