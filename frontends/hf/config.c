/* SPDX-License-Identifier: MIT
 *
 * config.c - config.json: which architecture, and its numbers with the defaults of the architecture's row.
 */
#include "frontends/hf/config.h"

#include "ir/support/io.h"

#define CONFIG_BYTES_MAX (16u << 20)
#define LAYERS_MAX 65536

/* Reading one file: where its values go and where its errors do. */
typedef struct reader {
    qc_diag *diag;
    qc_arena *arena;
    const qc_json *root;
    qc_hf_config *config;
} reader;

static const qc_json *parse_object(
    qc_diag *diag, qc_arena *arena, const char *path, const char *text, size_t length)
{
    qc_json *root = qc_json_parse(diag, arena, path, text, length);
    if (root && root->kind != QC_JSON_OBJECT) {
        qc_error(diag, path, "must hold a JSON object");
        return NULL;
    }
    return root;
}

const qc_json *qc_hf_read_json_object(qc_diag *diag, qc_arena *arena, const char *path)
{
    char *text;
    size_t length;
    if (qc_read_file(diag, arena, path, CONFIG_BYTES_MAX, &text, &length))
        return NULL;
    return parse_object(diag, arena, path, text, length);
}

qc_status qc_hf_config_size(
    qc_diag *diag, const qc_hf_config *config, const qc_json *root, const char *key, int64_t *value)
{
    if (qc_json_int(diag, config->path, root, key, false, value))
        return QC_ERROR;
    if (*value < 1 || *value > INT32_MAX)
        return qc_error(
            diag, config->path, "%s must be from 1 to %d, not %lld", key, INT32_MAX, (long long)*value);
    return QC_OK;
}

qc_status qc_hf_config_bias(
    qc_diag *diag, const qc_hf_config *config, const qc_json *root, qc_hf_bias rule, bool *bias)
{
    if (rule == QC_HF_BIAS_BY_MLP_BIAS) {
        *bias = false;
        return qc_json_bool(diag, config->path, root, "mlp_bias", false, bias);
    }
    *bias = rule != QC_HF_BIAS_NEVER && rule != QC_HF_BIAS_BY_ATTENTION_BIAS;
    if (rule == QC_HF_BIAS_NEVER || rule == QC_HF_BIAS_ALWAYS)
        return QC_OK;
    const char *key = rule == QC_HF_BIAS_UNLESS_QKV_BIAS ? "qkv_bias" : "attention_bias";
    return qc_json_bool(diag, config->path, root, key, false, bias);
}

static qc_status read_size(const reader *r, const char *key, int64_t *value)
{
    return qc_hf_config_size(r->diag, r->config, r->root, key, value);
}

/* The class of the model: architectures[0], or where that is missing what model_type stands for. */
static qc_status read_arch(const reader *r)
{
    const char *path = r->config->path, *model_type = NULL, *name = NULL;
    const qc_json *list = qc_json_get(r->root, "architectures");
    if (list && list->kind != QC_JSON_NULL) {
        if (list->kind != QC_JSON_ARRAY || (list->first && list->first->kind != QC_JSON_STRING))
            return qc_error(r->diag, path, "architectures must be a list of strings");
        if (list->first)
            name = list->first->text;
    }
    if (qc_json_string(r->diag, path, r->root, "model_type", false, &model_type))
        return QC_ERROR;
    if (!name && !model_type)
        return qc_error(r->diag, path, "neither architectures nor model_type says what this model is");
    const qc_hf_arch *arch = name ? qc_hf_arch_by_name(name) : qc_hf_arch_by_model_type(model_type);
    if (!arch)
        return qc_error(r->diag, path, "%s '%s' is not supported; supported are %s",
            name ? "architecture" : "model_type", name ? name : model_type, qc_hf_arch_names(r->arena));
    if (model_type && strcmp(model_type, arch->info.model_type) != 0)
        return qc_error(
            r->diag, path, "architecture %s and model_type '%s' contradict each other", name, model_type);
    r->config->arch = arch;
    return QC_OK;
}

/* bf16, f16 or f32 by their names in PyTorch; else QC_DTYPE_NONE. */
static qc_dtype dtype_of(const char *name)
{
    static const struct {
        const char *name;
        qc_dtype dtype;
    } known[] = {{"bfloat16", QC_BF16}, {"float16", QC_F16}, {"float32", QC_F32}};
    const char *plain = qc_starts_with(name, "torch.") ? name + strlen("torch.") : name;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(plain, known[i].name) == 0)
            return known[i].dtype;
    return QC_DTYPE_NONE;
}

static qc_status read_dtype(const reader *r)
{
    const char *name = NULL, *key = "dtype", *path = r->config->path;
    if (qc_json_string(r->diag, path, r->root, key, false, &name))
        return QC_ERROR;
    if (!name) {
        key = "torch_dtype";
        if (qc_json_string(r->diag, path, r->root, key, false, &name))
            return QC_ERROR;
    }
    if (!name)
        return QC_OK;
    r->config->dtype = dtype_of(name);
    if (r->config->dtype == QC_DTYPE_NONE)
        return qc_error(r->diag, path,
            "%s '%s' is not supported; supported are bfloat16, float16 and float32", key, name);
    return QC_OK;
}

static qc_status read_rest(const reader *r)
{
    qc_hf_config *c = r->config;
    const char *activation = "silu";
    c->norm_eps = 1e-6;
    if (qc_json_double(r->diag, c->path, r->root, "rms_norm_eps", false, &c->norm_eps) ||
        qc_json_bool(r->diag, c->path, r->root, "tie_word_embeddings", false, &c->tied) ||
        qc_json_string(r->diag, c->path, r->root, "hidden_act", false, &activation) ||
        qc_hf_config_bias(r->diag, c, r->root, c->arch->mlp_bias, &c->mlp_bias))
        return QC_ERROR;
    if (!(c->norm_eps >= 0))
        return qc_error(r->diag, c->path, "rms_norm_eps must not be negative");
    if (strcmp(activation, "silu") != 0)
        return qc_error(r->diag, c->path, "hidden_act '%s' is not supported; supported is silu", activation);
    const qc_json *quantization = qc_json_get(r->root, "quantization_config");
    if (!qc_hf_json_is_off(quantization)) {
        if (quantization->kind != QC_JSON_OBJECT)
            return qc_error(r->diag, c->path, "quantization_config must be an object");
        c->quantization = quantization;
    }
    return QC_OK;
}

static qc_status read_all(
    qc_diag *diag, qc_arena *arena, const char *path, const qc_json *root, qc_hf_config *config)
{
    *config = (qc_hf_config){.path = path};
    reader r = {diag, arena, root, config};
    if (!root || read_arch(&r))
        return QC_ERROR;
    const qc_hf_arch *arch = config->arch;
    config->vocabulary = arch->vocabulary;
    config->hidden = arch->hidden;
    config->intermediate = arch->intermediate;
    config->layers = arch->layers;
    config->positions = arch->positions;
    if (read_size(&r, "vocab_size", &config->vocabulary) || read_size(&r, "hidden_size", &config->hidden) ||
        read_size(&r, "intermediate_size", &config->intermediate) ||
        read_size(&r, "num_hidden_layers", &config->layers) ||
        read_size(&r, "max_position_embeddings", &config->positions))
        return QC_ERROR;
    if (config->layers > LAYERS_MAX)
        return qc_error(diag, config->path, "num_hidden_layers %lld is more than %d",
            (long long)config->layers, LAYERS_MAX);
    if (read_dtype(&r) || qc_hf_attention_config_read(diag, arena, root, config) || read_rest(&r) ||
        qc_hf_moe_config_read(diag, arena, root, config))
        return QC_ERROR;
    return qc_hf_config_check_keys(diag, r.root, config);
}

qc_status qc_hf_config_read(qc_diag *diag, qc_arena *arena, const char *directory, qc_hf_config *config)
{
    const char *path = qc_path_join(arena, directory, "config.json");
    if (!qc_is_directory(directory))
        return qc_error(diag, directory, "is not a directory");
    return read_all(diag, arena, path, qc_hf_read_json_object(diag, arena, path), config);
}

qc_status qc_hf_config_parse(
    qc_diag *diag, qc_arena *arena, const char *path, const char *text, size_t length, qc_hf_config *config)
{
    return read_all(diag, arena, path, parse_object(diag, arena, path, text, length), config);
}

/* The text of a string member, of the first object that has it. */
static const char *text_member(const qc_json *const *objects, size_t count, const char *key)
{
    for (size_t i = 0; i < count; i++) {
        const qc_json *value = qc_json_get(objects[i], key);
        if (value && value->kind == QC_JSON_STRING)
            return value->text;
    }
    return NULL;
}

qc_status qc_hf_outline_read(qc_diag *diag, qc_arena *arena, const char *directory, qc_hf_outline *outline)
{
    *outline = (qc_hf_outline){.path = qc_path_join(arena, directory, "config.json")};
    if (!qc_is_directory(directory))
        return qc_error(diag, directory, "is not a directory");
    if (!qc_is_file(outline->path))
        return QC_OK;
    const qc_json *root = qc_hf_read_json_object(diag, arena, outline->path);
    if (!root)
        return QC_ERROR;
    const qc_json *list = qc_json_get(root, "architectures"),
                  *objects[] = {root, qc_json_get(root, "text_config")};
    const bool listed =
        list && list->kind == QC_JSON_ARRAY && list->first && list->first->kind == QC_JSON_STRING;
    const char *model_type = text_member(objects, 1, "model_type"), *dtype = text_member(objects, 2, "dtype");
    dtype = dtype ? dtype : text_member(objects, 2, "torch_dtype");
    outline->root = root;
    outline->name = listed ? list->first->text : model_type;
    outline->arch = listed       ? qc_hf_arch_by_name(outline->name)
                    : model_type ? qc_hf_arch_by_model_type(model_type)
                                 : NULL;
    outline->dtype = dtype ? dtype_of(dtype) : QC_DTYPE_NONE;
    for (size_t i = 0; i < 2 && !outline->quantization; i++) {
        const qc_json *quantization = qc_json_get(objects[i], "quantization_config");
        if (!qc_hf_json_is_off(quantization))
            outline->quantization = quantization;
    }
    return QC_OK;
}
