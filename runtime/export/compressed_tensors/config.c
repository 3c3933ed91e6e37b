/* SPDX-License-Identifier: MIT
 *
 * config.c - config.json of the output: the source's own keys and quantization_config, as compressed-tensors
 * 0.19 serialises it (every field of every args object, keys sorted at all levels, indent 2, no newline at
 * the end).
 */
#include <string.h>

#include "ir/support/io.h"
#include "runtime/export/compressed_tensors/internal.h"

enum { MAX_CONFIG_BYTES = 64 << 20 };

static qc_json *null_value(qc_arena *arena)
{
    return qc_json_new(arena, QC_JSON_NULL);
}

static void set_text(qc_arena *arena, qc_json *object, const char *key, const char *text)
{
    qc_json_set(arena, object, key, text ? qc_json_new_string(arena, text) : null_value(arena));
}

const char *ct_torch_dtype(qc_dtype dtype)
{
    static const struct {
        qc_dtype dtype;
        const char *name;
    } names[] = {{QC_F8E4M3, "torch.float8_e4m3fn"}, {QC_F8E8M0, "torch.uint8"}, {QC_BF16, "torch.bfloat16"},
        {QC_F16, "torch.float16"}, {QC_F32, "torch.float32"}, {QC_I8, "torch.int8"}, {QC_I16, "torch.int16"},
        {QC_I32, "torch.int32"}, {QC_U8, "torch.uint8"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].dtype == dtype)
            return names[i].name;
    return NULL;
}

/* Numbers and words of observer_args; keys are sorted as the file is written. */
static qc_json *observer_kwargs(qc_arena *arena, const qc_attr *args)
{
    qc_json *o = qc_json_new(arena, QC_JSON_OBJECT);
    for (size_t i = 0; args && i < qc_attr_count(args); i++) {
        const qc_attr *value = qc_attr_item(args, i);
        qc_json *json = null_value(arena);
        switch (qc_attr_get_kind(value)) {
        case QC_ATTR_INT:
            json = qc_json_new_int(arena, qc_attr_as_int(value));
            break;
        case QC_ATTR_FLOAT:
            json = qc_json_new_double(arena, qc_attr_as_float(value));
            break;
        case QC_ATTR_BOOL:
            json = qc_json_new_bool(arena, qc_attr_as_bool(value));
            break;
        default:
            json = qc_json_new_string(arena, qc_attr_as_text(value));
        }
        qc_json_set(arena, o, qc_attr_key(args, i), json);
    }
    return o;
}

static qc_json *args_json(qc_arena *arena, const ct_args *args)
{
    if (!args->present)
        return null_value(arena);
    const qc_scheme_part *p = &args->part;
    qc_json *o = qc_json_new(arena, QC_JSON_OBJECT), *block = null_value(arena);
    if (p->granularity == QC_GRANULARITY_BLOCK) {
        block = qc_json_new(arena, QC_JSON_ARRAY);
        qc_json_push(arena, block, qc_json_new_int(arena, p->block_rows));
        qc_json_push(arena, block, qc_json_new_int(arena, p->block_columns));
    }
    set_text(arena, o, "actorder", *p->actorder ? p->actorder : NULL);
    qc_json_set(arena, o, "block_structure", block);
    qc_json_set(arena, o, "dynamic",
        args->local ? qc_json_new_string(arena, "local") : qc_json_new_bool(arena, args->dynamic));
    qc_json_set(
        arena, o, "group_size", p->group_elems ? qc_json_new_int(arena, p->group_elems) : null_value(arena));
    qc_json_set(arena, o, "num_bits", qc_json_new_int(arena, qc_dtype_bits(p->type)));
    set_text(arena, o, "observer", args->observer);
    qc_json *kwargs = observer_kwargs(arena, p->observer_args);
    if (args->local &&
        p->search != QC_SEARCH_NONE) /* scales that are searched as the model runs: qc-run does */
        set_text(arena, kwargs, "search", p->search == QC_SEARCH_MSE ? "mse" : "four_six");
    qc_json_set(arena, o, "observer_kwargs", kwargs);
    set_text(arena, o, "scale_dtype", ct_torch_dtype(p->scale_type));
    set_text(arena, o, "strategy", args->strategy);
    qc_json_set(arena, o, "symmetric", qc_json_new_bool(arena, p->symmetric));
    set_text(arena, o, "type", args->is_float ? "float" : "int");
    set_text(arena, o, "zp_dtype", p->symmetric ? NULL : ct_torch_dtype(p->zero_point_type));
    return o;
}

static qc_json *group_json(qc_arena *arena, const ct_group *g)
{
    qc_json *o = qc_json_new(arena, QC_JSON_OBJECT), *targets = qc_json_new(arena, QC_JSON_ARRAY);
    const qc_attr *list = g->named ? g->named : g->targets;
    for (size_t i = 0; i < qc_attr_count(list); i++)
        qc_json_push(arena, targets, qc_json_new_string(arena, qc_attr_as_text(qc_attr_item(list, i))));
    set_text(arena, o, "format", g->format);
    qc_json_set(arena, o, "input_activations", args_json(arena, &g->input));
    set_text(arena, o, "output_activations", NULL);
    qc_json_set(arena, o, "targets", targets);
    qc_json_set(arena, o, "weights", args_json(arena, &g->weights));
    return o;
}

/* Of a model that is rotated alone. */
static qc_json *rotation_config(ct_plan *plan, qc_arena *arena)
{
    qc_json *o = qc_json_new(arena, QC_JSON_OBJECT);
    set_text(arena, o, "quant_method", "compressed-tensors");
    qc_json_set(arena, o, "sparsity_config", qc_json_new(arena, QC_JSON_OBJECT));
    qc_json_set(arena, o, "transform_config", ct_transform_config(plan, arena));
    set_text(arena, o, "version", CT_VERSION);
    return o;
}

qc_json *ct_quantization_config(ct_plan *plan, qc_arena *arena)
{
    if (!plan->quantized)
        return rotation_config(plan, arena);
    qc_json *o = qc_json_new(arena, QC_JSON_OBJECT), *groups = qc_json_new(arena, QC_JSON_OBJECT);
    for (size_t i = 0; i < plan->groups.count; i++)
        qc_json_set(arena, groups, ct_group_name(plan, i), group_json(arena, &plan->groups.items[i]));
    qc_json *ignore = qc_json_new(arena, QC_JSON_ARRAY);
    for (size_t i = 0; i < plan->ignore.count; i++)
        qc_json_push(arena, ignore, qc_json_new_string(arena, plan->ignore.items[i]));
    qc_json_set(arena, o, "config_groups", groups);
    set_text(arena, o, "format", plan->format);
    set_text(arena, o, "global_compression_ratio", NULL);
    qc_json_set(arena, o, "ignore", ignore);
    qc_json_set(arena, o, "kv_cache_scheme", args_json(arena, &plan->kv));
    set_text(arena, o, "quant_method", "compressed-tensors");
    set_text(arena, o, "quantization_status", "compressed");
    if (!plan->as_tensors)
        qc_json_set(arena, o, "sparsity_config", qc_json_new(arena, QC_JSON_OBJECT));
    qc_json_set(arena, o, "transform_config", ct_transform_config(plan, arena));
    set_text(arena, o, "version", CT_VERSION);
    return o;
}

/* tie_word_embeddings is what the tensors now say. A config that leaves it to the class's default is only
 * touched where that default no longer holds. */
static void set_tie(ct_plan *plan, qc_arena *arena, qc_json *config)
{
    static const char key[] = "tie_word_embeddings";
    qc_json *text = (qc_json *)(uintptr_t)qc_json_get(config, "text_config");
    qc_json *holder = text && text->kind == QC_JSON_OBJECT ? text : config;
    const bool was_stored = qc_st_find(qc_weights_tensors(plan->weights), "lm_head.weight") != NULL;
    if (plan->tie < 0 || (!qc_json_get(holder, key) && plan->tie == 0 && was_stored))
        return;
    qc_json_set(arena, holder, key, qc_json_new_bool(arena, plan->tie == 1));
    /* A wrapper of a text model may say it for the whole too, and that is what Transformers 5 reads. */
    if (holder != config && qc_json_get(config, key))
        qc_json_set(arena, config, key, qc_json_new_bool(arena, plan->tie == 1));
}

/* The element type that the model computes in, where config.json says another one or none. Where the graph does not
 * tell, a config that leaves it out gets that of the weights: loaders guess differently. True when it was set. */
static bool set_dtype(ct_plan *plan, qc_arena *arena, qc_json *config)
{
    static const char *const names[][2] = {{"BF16", "bfloat16"}, {"F16", "float16"}, {"F32", "float32"}};
    const qc_json *old = qc_json_get(config, "torch_dtype"), *dtype = qc_json_get(config, "dtype");
    const qc_json *said = dtype && dtype->kind != QC_JSON_NULL ? dtype : old;
    const char *is = said && said->kind == QC_JSON_STRING ? said->text : NULL;
    const qc_dtype computed = ct_computed_dtype(plan->module);
    const char *name = computed == QC_DTYPE_NONE ? "" : qc_dtype_safetensors_name(computed);
    const qc_st_set *set = qc_weights_tensors(plan->weights);
    for (size_t i = 0; !*name && !said && i < set->tensor_count; i++)
        for (size_t n = 0; n < sizeof names / sizeof *names; n++)
            if (strcmp(set->tensors[i].dtype, names[n][0]) == 0)
                name = names[n][0];
    for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
        if (strcmp(name, names[n][0]) != 0 || (is && strcmp(is, names[n][1]) == 0))
            continue;
        if (dtype || !old)
            set_text(arena, config, "dtype", names[n][1]);
        if (old)
            set_text(arena, config, "torch_dtype", names[n][1]);
        return true;
    }
    return false;
}

static bool is_empty(const qc_json *value)
{
    return !value || value->kind == QC_JSON_NULL || (value->kind == QC_JSON_OBJECT && !value->first);
}

/* Rotations alone are no quantization. */
static bool is_quantized(const qc_json *object)
{
    const qc_json *old = qc_json_get(object, "quantization_config"),
                  *method = qc_json_get(old, "quant_method");
    if (!old || old->kind == QC_JSON_NULL)
        return false;
    return !method || method->kind != QC_JSON_STRING || strcmp(method->text, "compressed-tensors") != 0 ||
           is_empty(qc_json_get(old, "transform_config")) || !is_empty(qc_json_get(old, "config_groups")) ||
           !is_empty(qc_json_get(old, "kv_cache_scheme"));
}

/* The source's config.json, its text in *data; NULL after a diagnostic. */
static qc_json *read_config(qc_diag *diag, qc_arena *arena, const char *source_directory, bool dequantized,
    char **data, size_t *length)
{
    const char *path = qc_path_join(arena, source_directory, "config.json");
    if (!qc_is_file(path)) {
        qc_error(diag, source_directory, "has no config.json; a checkpoint needs one");
        return NULL;
    }
    if (qc_read_file(diag, arena, path, MAX_CONFIG_BYTES, data, length) != QC_OK)
        return NULL;
    qc_json *config = qc_json_parse(diag, arena, path, *data, *length);
    if (!config)
        return NULL;
    if (config->kind != QC_JSON_OBJECT) {
        qc_error(diag, path, "must hold an object");
        return NULL;
    }
    if (!dequantized && (is_quantized(config) || is_quantized(qc_json_get(config, "text_config")))) {
        qc_error(diag, path, "the source is quantized already (it has a quantization_config)");
        qc_note(diag, "with --scheme or quant-linear its weights are dequantized and quantized again");
        return NULL;
    }
    return config;
}

qc_status ct_check_source(
    qc_diag *diag, qc_arena *arena, const qc_module *module, const char *source_directory)
{
    char *data;
    size_t length;
    bool dequantized = ct_is_dequantized(module);
    return read_config(diag, arena, source_directory, dequantized, &data, &length) ? QC_OK : QC_ERROR;
}

/* A copy of the object without the member, members in their order. */
static qc_json *without(qc_arena *arena, const qc_json *object, const char *key)
{
    qc_json *copy = qc_json_new(arena, QC_JSON_OBJECT);
    for (qc_json *item = object->first, *next; item; item = next) {
        next = item->next;
        item->next = NULL;
        if (strcmp(item->key, key) != 0)
            qc_json_set(arena, copy, item->key, item);
    }
    return copy;
}

/* The source's own quantization goes, wherever it stands. */
static qc_json *drop_quantization(qc_arena *arena, qc_json *config)
{
    static const char key[] = "quantization_config";
    const qc_json *text = qc_json_get(config, "text_config");
    if (is_quantized(text))
        qc_json_set(arena, config, "text_config", without(arena, text, key));
    return without(arena, config, key);
}

qc_status ct_config_text(ct_plan *plan, const char *source_directory, qc_str *text)
{
    qc_arena *arena = &plan->arena;
    char *data;
    size_t length;
    qc_json *config =
        read_config(qc_ctx_diag(plan->ctx), arena, source_directory, plan->dequantized, &data, &length);
    if (!config)
        return QC_ERROR;
    if (plan->dequantized)
        config = drop_quantization(arena, config);
    if (!plan->as_tensors)
        set_tie(plan, arena, config);
    bool retyped = !plan->as_tensors && set_dtype(plan, arena, config);
    if (!plan->quantized && !plan->rotated && plan->tie < 0 && !retyped &&
        !plan->dequantized) { /* as it is */
        qc_str_add_bytes(text, data, length);
        return QC_OK;
    }
    if (plan->quantized || plan->rotated)
        qc_json_set(arena, config, "quantization_config", ct_quantization_config(plan, arena));
    qc_json_write(text, config, 2, true);
    return QC_OK;
}
