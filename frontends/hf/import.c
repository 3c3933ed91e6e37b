/* SPDX-License-Identifier: MIT
 *
 * import.c - a checkpoint directory becomes a module: config.json, headers of the shards, module tree,
 * function.
 */
#include "frontends/hf/import.h"

#include "ir/ctx.h"
#include "ir/support/io.h"

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

/* The graph, or the tensors alone: true. */
static bool only_tensors(qc_hf_state *s, const qc_hf_options *options)
{
    const qc_hf_outline *o = &s->outline;
    const qc_hf_mode mode = options ? options->mode : QC_HF_GRAPH;
    if (mode != QC_HF_AUTO || o->arch || (o->name && qc_hf_arch_refusal(o->name)))
        return mode == QC_HF_TENSORS;
    if (!o->root)
        qc_note(s->diag, "%s has no config.json: imported as tensors, without a graph", s->directory);
    else
        qc_note(s->diag, "%s %s%s%s: imported as tensors, without a graph", o->path,
            o->name ? "names the architecture " : "names no architecture", o->name ? o->name : "",
            o->name ? ", which is not known" : "");
    return true;
}

static bool is_shard(const qc_st_set *set, const char *name)
{
    for (size_t i = 0; i < set->file_count; i++)
        if (strcmp(set->files[i].name, name) == 0)
            return true;
    return false;
}

/* What lies in the directory and takes no part: tensors and files that the index does not know. */
static qc_status say_left_out(qc_hf_state *s)
{
    char **names;
    size_t count;
    if (s->set.unlisted_count)
        qc_warning(s->diag, s->directory,
            "%zu tensors of the shards are left out: the index does not list them there (%s%s)",
            s->set.unlisted_count, s->set.unlisted_name, s->set.unlisted_count > 1 ? ", ..." : "");
    if (qc_list_directory(s->diag, s->arena, s->directory, &names, &count))
        return QC_ERROR;
    for (size_t i = 0; i < count; i++)
        if (qc_ends_with(names[i], ".safetensors") && !is_shard(&s->set, names[i]))
            qc_remark(s->diag, s->directory, "%s is left out: no shard of this checkpoint", names[i]);
    return QC_OK;
}

static void set_source(qc_hf_state *s)
{
    qc_module_set_source(s->module, s->directory);
    for (size_t i = 0; i < s->set.file_count; i++) {
        const qc_st_file *file = &s->set.files[i];
        qc_module_add_shard(s->module, file->name, file->size_bytes, file->header_sha256);
    }
}

/* A source that is dequantized loses what quantizes its attention and its KV cache: only weights are read as numbers. */
static void warn_of_cache_scales(qc_hf_state *s)
{
    static const char *const names[] = {
        ".q_scale", ".k_scale", ".v_scale", ".q_global_scale", ".k_global_scale", ".v_global_scale"};
    size_t lost = 0;
    for (size_t i = 0; s->dequantize && i < s->set.tensor_count; i++)
        for (size_t n = 0; n < sizeof names / sizeof *names; n++)
            lost += qc_ends_with(s->set.tensors[i].name, names[n]);
    if (lost > 0)
        qc_warning(s->diag, s->directory,
            "its attention or KV cache is quantized too: %zu scales of that are left out; quant-kv makes new "
            "ones",
            lost);
}

static qc_status import(qc_hf_state *s, const qc_hf_options *options)
{
    if (qc_hf_outline_read(s->diag, s->arena, s->directory, &s->outline))
        return QC_ERROR;
    const bool tensors = only_tensors(s, options);
    if (!tensors && qc_hf_config_read(s->diag, s->arena, s->directory, &s->config)) {
        if (options && options->mode == QC_HF_AUTO)
            qc_note(s->diag, "--import=tensors quantizes weights without knowing the architecture");
        return QC_ERROR;
    }
    if (qc_st_open_directory(s->diag, s->arena, s->directory, &s->set))
        return QC_ERROR;
    if (say_left_out(s))
        return QC_ERROR;
    s->module = qc_module_create(s->ctx);
    set_source(s);
    s->dequantize = options && options->dequantize && s->outline.quantization;
    warn_of_cache_scales(s);
    if (tensors)
        return qc_hf_tensors_build(s);
    if (choose_dtype(s, options) || qc_hf_quantization_read(s) || qc_hf_tree_build(s) ||
        qc_hf_quantization_symbols(s))
        return QC_ERROR;
    return qc_hf_graph_build(s) ? QC_ERROR : qc_hf_transforms_check(s);
}

qc_module *qc_hf_import(qc_ctx *ctx, const char *directory, const qc_hf_options *options)
{
    qc_arena arena;
    qc_arena_init(&arena, qc_ctx_arena(ctx)->oom);
    qc_hf_state state = {.ctx = ctx, .diag = qc_ctx_diag(ctx), .arena = &arena, .directory = directory};
    if (import(&state, options)) {
        qc_module_destroy(state.module);
        state.module = NULL;
    }
    qc_st_close(&state.set);
    qc_arena_fini(&arena);
    return state.module;
}
