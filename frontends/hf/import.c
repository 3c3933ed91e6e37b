/* SPDX-License-Identifier: MIT
 *
 * import.c - a checkpoint directory becomes a module: config.json, headers of the shards, module tree,
 * function.
 */
#include "frontends/hf/import.h"

#include "ir/ctx.h"

/* D: as asked for, else as config.json says, else the one type that all float tensors have. */
static qc_status choose_dtype(qc_hf_state *s, const qc_hf_options *options)
{
    qc_dtype asked = options ? options->dtype : QC_DTYPE_NONE;
    if (asked != QC_DTYPE_NONE && asked != QC_BF16 && asked != QC_F16 && asked != QC_F32)
        return qc_error(s->diag, s->directory, "cannot compute in %s; possible are bf16, f16 and f32",
            qc_dtype_name(asked));
    s->dtype = asked ? asked : s->config.dtype;
    for (size_t i = 0; !asked && !s->config.dtype && i < s->set.tensor_count; i++) {
        const qc_st_tensor *tensor = &s->set.tensors[i];
        qc_dtype dtype = qc_dtype_from_safetensors_name(tensor->dtype);
        if (dtype != QC_BF16 && dtype != QC_F16 && dtype != QC_F32)
            continue;
        if (s->dtype && s->dtype != dtype)
            return qc_error(s->diag, s->config.path,
                "no dtype is given, and the tensors have several: tensor %s is %s, others are %s",
                tensor->name, tensor->dtype, qc_dtype_safetensors_name(s->dtype));
        s->dtype = dtype;
    }
    if (!s->dtype)
        return qc_error(s->diag, s->config.path, "no dtype is given, and no tensor is BF16, F16 or F32");
    return QC_OK;
}

static qc_status import(qc_hf_state *s, const qc_hf_options *options)
{
    if (choose_dtype(s, options))
        return QC_ERROR;
    qc_module_set_source(s->module, s->directory);
    for (size_t i = 0; i < s->set.file_count; i++) {
        const qc_st_file *file = &s->set.files[i];
        qc_module_add_shard(s->module, file->name, file->size_bytes, file->header_sha256);
    }
    if (qc_hf_quantization_read(s) || qc_hf_tree_build(s) || qc_hf_quantization_symbols(s))
        return QC_ERROR;
    return qc_hf_graph_build(s);
}

qc_module *qc_hf_import(qc_ctx *ctx, const char *directory, const qc_hf_options *options)
{
    qc_arena arena;
    qc_arena_init(&arena, qc_ctx_arena(ctx)->oom);
    qc_hf_state state = {.ctx = ctx, .diag = qc_ctx_diag(ctx), .arena = &arena, .directory = directory};
    if (!qc_hf_config_read(state.diag, &arena, directory, &state.config) &&
        !qc_st_open_directory(state.diag, &arena, directory, &state.set)) {
        state.module = qc_module_create(ctx);
        if (import(&state, options)) {
            qc_module_destroy(state.module);
            state.module = NULL;
        }
        qc_st_close(&state.set);
    }
    qc_arena_fini(&arena);
    return state.module;
}
