/* SPDX-License-Identifier: MIT
 *
 * config.c - config.json: which architecture, and its numbers with the defaults of the architecture's row.
 */
#include "frontends/hf/config.h"

#include <math.h>

#include "ir/support/io.h"

#define CONFIG_BYTES_MAX (16u << 20)
#define LAYERS_MAX 65536

/* Reading one file: where its values go and where its errors do. */
typedef struct reader {
    qc_diag *diag;
    qc_arena *arena;
    const qc_json *whole; /* the file's object */
    const qc_json *root;  /* the object that describes the text model; the whole but in wrappers */
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

qc_status qc_hf_config_positive(
    qc_diag *diag, const qc_hf_config *config, const qc_json *root, const char *key, double *value)
{
    if (qc_json_double(diag, config->path, root, key, false, value))
        return QC_ERROR;
    const qc_json *json = qc_json_get(root, key);
    if (json && json->kind == QC_JSON_NUMBER && !(*value > 0 && isfinite((float)*value)))
        return qc_error(diag, config->path, "%s must be greater than 0, not %s", key, json->text);
    return QC_OK;
}

qc_status qc_hf_config_bias(
    qc_diag *diag, const qc_hf_config *config, const qc_json *root, qc_hf_bias rule, bool *bias)
{
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
static qc_status read_arch(reader *r)
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
    const qc_hf_wrapper *wrapper = arch   ? NULL
                                   : name ? qc_hf_wrapper_by_name(name)
                                          : qc_hf_wrapper_by_model_type(model_type);
    const char *kind = name ? "architecture" : "model_type", *called = name ? name : model_type;
    const char *refusal = arch || wrapper ? NULL : qc_hf_arch_refusal(called);
    if (refusal)
        return qc_error(r->diag, path, "%s '%s' is not supported: it has %s", kind, called, refusal);
    if (!arch && !wrapper)
        return qc_error(r->diag, path, "%s '%s' is not supported; supported are %s", kind, called,
            qc_hf_arch_names(r->arena));
    if (model_type && strcmp(model_type, arch ? arch->info.model_type : wrapper->info.model_type) != 0)
        return qc_error(
            r->diag, path, "architecture %s and model_type '%s' contradict each other", name, model_type);
    r->config->arch = arch;
    r->config->wrapper = wrapper;
    if (!wrapper)
        return QC_OK;
    r->root = qc_hf_wrapper_text(r->diag, path, wrapper, r->root, &r->config->arch);
    return r->root ? QC_OK : QC_ERROR;
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
    static const char *const keys[] = {"dtype", "torch_dtype"};
    const char *name = NULL, *key = NULL, *path = r->config->path;
    for (int i = 0; !name && i < 4; i++) {
        key = keys[i % 2];
        if (qc_json_string(r->diag, path, i < 2 ? r->whole : r->root, key, false, &name))
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

/* final_logit_softcapping: null is none, an absent key the architecture's default. Gemma 3's wrapper has a head of its own in
 * Transformers, which leaves the cap out, where vLLM runs the text model's with it. */
static qc_status read_logits_cap(const reader *r)
{
    const char *key = "final_logit_softcapping";
    const qc_json *value = qc_json_get(r->root, key);
    if (!r->config->arch->logits_cap || (value && value->kind == QC_JSON_NULL))
        return QC_OK;
    if (value && r->config->wrapper)
        return qc_error(r->diag, r->config->path,
            "%s is set, and %s leaves it out in Transformers where %s does not", key,
            r->config->wrapper->info.architecture, r->config->arch->info.architecture);
    r->config->logits_cap = r->config->arch->logits_cap_default;
    return qc_hf_config_positive(r->diag, r->config, r->root, key, &r->config->logits_cap);
}

/* What scales the hidden state and the logits. */
static qc_status read_scales(const reader *r)
{
    qc_hf_config *c = r->config;
    const qc_hf_arch *arch = c->arch;
    c->embedding_scale = c->residual_multiplier = c->logits_divisor = 1;
    /* A tensor of PyTorch's default type first, then of D. */
    if (arch->embedding_scale == QC_HF_EMBEDDING_SCALE_ROOT)
        c->embedding_scale = (float)sqrt((double)c->hidden);
    if (arch->embedding_scale == QC_HF_EMBEDDING_SCALE_BY_FACTOR &&
        qc_hf_config_positive(r->diag, c, r->root, "embedding_multiplier", &c->embedding_scale))
        return QC_ERROR;
    if (arch->multipliers &&
        (qc_hf_config_positive(r->diag, c, r->root, "residual_multiplier", &c->residual_multiplier) ||
            qc_hf_config_positive(r->diag, c, r->root, "logits_scaling", &c->logits_divisor)))
        return QC_ERROR;
    return read_logits_cap(r);
}

/* Wrappers say it for the whole; some of them also, or only, inside. */
static qc_status read_tying(const reader *r)
{
    qc_hf_config *c = r->config;
    const char *key = "tie_word_embeddings";
    const qc_hf_wrapper *wrapper = c->wrapper;
    bool inside = false;
    c->tied = wrapper ? wrapper->tied : c->arch->tied;
    if (qc_json_bool(r->diag, c->path, r->whole, key, false, &c->tied) ||
        (wrapper && qc_json_bool(r->diag, c->path, r->root, key, false, &inside)))
        return QC_ERROR;
    c->tied |= wrapper && wrapper->tied_inside && inside;
    return QC_OK;
}

static qc_status read_rest(const reader *r)
{
    qc_hf_config *c = r->config;
    c->norm_eps = c->arch->norm_eps > 0 ? c->arch->norm_eps : 1e-6;
    if (qc_json_double(r->diag, c->path, r->root, "rms_norm_eps", false, &c->norm_eps) || read_tying(r) ||
        qc_hf_mlp_config_read(r->diag, r->root, c) || read_scales(r))
        return QC_ERROR;
    if (!(c->norm_eps >= 0))
        return qc_error(r->diag, c->path, "rms_norm_eps must not be negative");
    const qc_json *quantization = qc_json_get(r->whole, "quantization_config");
    if (qc_hf_json_is_off(quantization))
        quantization = qc_json_get(r->root, "quantization_config");
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
    reader r = {diag, arena, root, root, config};
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
    if (read_dtype(&r) || qc_hf_attention_config_read(diag, arena, r.root, config) || read_rest(&r) ||
        qc_hf_moe_config_read(diag, arena, r.root, config))
        return QC_ERROR;
    if (r.root != root && qc_hf_config_check_keys(diag, root, config))
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

/* The row of outline->name, which is a class when `listed`. */
static const qc_hf_arch *outline_arch(const qc_hf_outline *outline, bool listed)
{
    const char *name = outline->name;
    if (!name)
        return NULL;
    const qc_hf_arch *arch = listed ? qc_hf_arch_by_name(name) : qc_hf_arch_by_model_type(name);
    const qc_hf_wrapper *wrapper = listed ? qc_hf_wrapper_by_name(name) : qc_hf_wrapper_by_model_type(name);
    return arch || !wrapper ? arch : qc_hf_wrapper_arch(wrapper);
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
    outline->arch = outline_arch(outline, listed);
    outline->dtype = dtype ? dtype_of(dtype) : QC_DTYPE_NONE;
    for (size_t i = 0; i < 2 && !outline->quantization; i++) {
        const qc_json *quantization = qc_json_get(objects[i], "quantization_config");
        if (!qc_hf_json_is_off(quantization))
            outline->quantization = quantization;
    }
    return QC_OK;
}
