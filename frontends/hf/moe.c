/* SPDX-License-Identifier: MIT
 *
 * moe.c - the rules of architectures with experts, and what config.json says of them. Source: configuration and
 * modeling files of transformers/models/{mixtral,qwen2_moe,qwen3_moe,llama4,gpt_oss,deepseek_v3,glm4_moe,qwen3_vl_moe} at 5.17.
 *
 * The number of experts is num_local_experts, num_experts or n_routed_experts: files on the hub and what Transformers
 * writes differ. Keys that ask for another arithmetic than the one of the modeling file are errors.
 */
#include "frontends/hf/moe.h"

#include <math.h>

#include "frontends/hf/import.h"

static const char *const no_keys[] = {NULL};
static const char *const qwen_keys[] = {"decoder_sparse_step", "mlp_only_layers", "moe_intermediate_size",
    "norm_topk_prob", "shared_expert_intermediate_size", NULL};
static const char *const qwen3_keys[] = {
    "decoder_sparse_step", "mlp_only_layers", "moe_intermediate_size", "norm_topk_prob", NULL};
static const char *const llama4_keys[] = {
    "intermediate_size_mlp", "interleave_moe_layer_step", "moe_layers", NULL};
static const char *const gpt_oss_keys[] = {"experts_per_token", "swiglu_limit", NULL};
static const char *const grouped_keys[] = {"first_k_dense_replace", "moe_intermediate_size", "moe_layer_freq",
    "n_group", "n_shared_experts", "norm_topk_prob", "routed_scaling_factor", "scoring_func", "topk_group",
    "topk_method", NULL};

const qc_hf_moe_rule qc_hf_moe_mixtral = {
    .blocks = {"block_sparse_moe", "mlp"},
    .block_class = "MixtralSparseMoeBlock",
    .router = "gate",
    .router_class = "MixtralTopKRouter",
    .experts_class = "MixtralExperts",
    .expert_class = "ExpertMLPWithGate",
    .routing = QC_HF_ROUTING_SOFTMAX,
    .always_normalized = true,
    .wide_weights = true,
    .intermediate_key = "intermediate_size",
    .keys = no_keys,
    .experts = 8,
    .top_k = 2,
};

const qc_hf_moe_rule qc_hf_moe_qwen2 = {
    .blocks = {"mlp", NULL},
    .block_class = "Qwen2MoeSparseMoeBlock",
    .router = "gate",
    .router_class = "Qwen2MoeTopKRouter",
    .experts_class = "Qwen2MoeExperts",
    .expert_class = "ExpertMLPWithGate",
    .shared = "shared_expert",
    .shared_gate = "shared_expert_gate",
    .routing = QC_HF_ROUTING_SOFTMAX,
    .where = QC_HF_MOE_BY_SPARSE_STEP,
    .sharing = QC_HF_SHARED_BY_KEY,
    .intermediate_key = "moe_intermediate_size",
    .keys = qwen_keys,
    .experts = 60,
    .top_k = 4,
    .intermediate = 1408,
    .shared_intermediate = 5632,
};

const qc_hf_moe_rule qc_hf_moe_qwen3 = {
    .blocks = {"mlp", NULL},
    .block_class = "Qwen3MoeSparseMoeBlock",
    .router = "gate",
    .router_class = "Qwen3MoeTopKRouter",
    .experts_class = "Qwen3MoeExperts",
    .expert_class = "ExpertMLPWithGate",
    .experts_first = true,
    .routing = QC_HF_ROUTING_SOFTMAX,
    .where = QC_HF_MOE_BY_SPARSE_STEP,
    .intermediate_key = "moe_intermediate_size",
    .keys = qwen3_keys,
    .experts = 128,
    .top_k = 8,
    .intermediate = 768,
};

const qc_hf_moe_rule qc_hf_moe_qwen3_vl = {
    .blocks = {"mlp", NULL},
    .block_class = "Qwen3VLMoeTextSparseMoeBlock",
    .router = "gate",
    .router_class = "Qwen3VLMoeTextTopKRouter",
    .experts_class = "Qwen3VLMoeTextExperts",
    .expert_class = "ExpertMLPWithGate",
    .experts_first = true,
    .routing = QC_HF_ROUTING_SOFTMAX,
    .always_normalized = true,
    .transposed = true,
    .either_way = true,
    .where = QC_HF_MOE_BY_SPARSE_STEP,
    .intermediate_key = "moe_intermediate_size",
    .keys = qwen3_keys,
    .experts = 60,
    .top_k = 4,
    .intermediate = 1408,
};

const qc_hf_moe_rule qc_hf_moe_llama4 = {
    .blocks = {"feed_forward", NULL},
    .block_class = "Llama4TextMoe",
    .router = "router",
    .router_class = "Llama4Router",
    .experts_class = "Llama4TextExperts",
    .expert_class = "ExpertMLPWithGate",
    .shared = "shared_expert",
    .experts_first = true,
    .routing = QC_HF_ROUTING_TOP_SIGMOID,
    .scores_input = true,
    .transposed = true,
    .where = QC_HF_MOE_BY_INTERLEAVE,
    .sharing = QC_HF_SHARED_AS_ONE,
    .intermediate_key = "intermediate_size",
    .dense_key = "intermediate_size_mlp",
    .keys = llama4_keys,
    .experts = 16,
    .top_k = 1,
    .dense = 16384,
};

const qc_hf_moe_rule qc_hf_moe_gpt_oss = {
    .blocks = {"mlp", NULL},
    .block_class = "GptOssMLP",
    .router = "router",
    .router_class = "GptOssTopKRouter",
    .experts_class = "GptOssExperts",
    .expert_class = "GptOssExpertMLP",
    .routing = QC_HF_ROUTING_TOP_SOFTMAX,
    .clamped = true,
    .router_bias = true,
    .bias = true,
    .transposed = true,
    .interleaved = true,
    .intermediate_key = "intermediate_size",
    .keys = gpt_oss_keys,
    .experts = 128,
    .top_k = 4,
};

const qc_hf_moe_rule qc_hf_moe_deepseek_v3 = {
    .blocks = {"mlp", NULL},
    .block_class = "DeepseekV3MoE",
    .router = "gate",
    .router_class = "DeepseekV3TopkRouter",
    .experts_class = "DeepseekV3Experts",
    .expert_class = "ExpertMLPWithGate",
    .shared = "shared_experts",
    .experts_first = true,
    .routing = QC_HF_ROUTING_GROUPED_SIGMOID,
    .wide_weights = true,
    .where = QC_HF_MOE_BEHIND_DENSE,
    .sharing = QC_HF_SHARED_AS_COUNT,
    .intermediate_key = "moe_intermediate_size",
    .keys = grouped_keys,
    .experts = 256,
    .top_k = 8,
    .intermediate = 2048,
    .groups = 8,
    .top_groups = 4,
    .first_dense = 3,
    .scaling = 2.5,
    .normalized = true,
};

const qc_hf_moe_rule qc_hf_moe_glm4 = {
    .blocks = {"mlp", NULL},
    .block_class = "Glm4MoeMoE",
    .router = "gate",
    .router_class = "Glm4MoeTopkRouter",
    .experts_class = "Glm4MoeExperts",
    .expert_class = "ExpertMLPWithGate",
    .shared = "shared_experts",
    .experts_first = true,
    .routing = QC_HF_ROUTING_GROUPED_SIGMOID,
    .wide_weights = true,
    .where = QC_HF_MOE_BEHIND_DENSE,
    .sharing = QC_HF_SHARED_AS_COUNT,
    .intermediate_key = "moe_intermediate_size",
    .keys = grouped_keys,
    .experts = 128,
    .top_k = 8,
    .intermediate = 1408,
    .groups = 1,
    .top_groups = 1,
    .first_dense = 1,
    .scaling = 1,
    .normalized = true,
};

/* ---- config.json --------------------------------------------------------------------------------------- */

/* Training, and layers behind the last that Transformers does not load either. */
static const char *const harmless_keys[] = {"aux_loss_alpha", "ep_size", "num_mtp_layers",
    "num_nextn_predict_layers", "output_router_logits", "router_aux_loss_coef", "router_jitter_noise",
    "seq_aux"};
static const char *const count_keys[] = {"num_local_experts", "num_experts", "n_routed_experts"};

enum { EXPERTS_MAX = 1 << 16 }; /* so many numbers a constant holds */
enum { COUNT_KEYS = sizeof count_keys / sizeof *count_keys };

typedef struct reader {
    qc_diag *diag;
    qc_arena *arena;
    const qc_json *root;
    qc_hf_config *config;
    const qc_hf_moe_rule *rule;
    qc_hf_moe_config *moe;
} reader;

static bool is_given(const reader *r, const char *key)
{
    const qc_json *value = qc_json_get(r->root, key);
    return value && value->kind != QC_JSON_NULL;
}

static qc_status read_size(const reader *r, const char *key, int64_t *value)
{
    return qc_hf_config_size(r->diag, r->config, r->root, key, value);
}

static qc_status read_count(const reader *r)
{
    r->moe->experts = r->rule->experts;
    r->moe->experts_key = "the default number of experts";
    const char *first = NULL;
    for (size_t i = 0; i < COUNT_KEYS; i++) {
        int64_t count = r->moe->experts;
        if (!is_given(r, count_keys[i]))
            continue;
        if (read_size(r, count_keys[i], &count))
            return QC_ERROR;
        if (first && count != r->moe->experts)
            return qc_error(r->diag, r->config->path, "%s = %lld and %s = %lld contradict each other", first,
                (long long)r->moe->experts, count_keys[i], (long long)count);
        if (count > EXPERTS_MAX)
            return qc_error(r->diag, r->config->path, "%s %lld is more than %d", count_keys[i],
                (long long)count, EXPERTS_MAX);
        r->moe->experts = count;
        r->moe->experts_key = first = count_keys[i];
    }
    return QC_OK;
}

/* How many experts a token goes through. */
static qc_status read_top_k(const reader *r)
{
    const char *key = "num_experts_per_tok", *other = "experts_per_token";
    r->moe->top_k = r->rule->top_k;
    if (r->rule->clamped && is_given(r, other)) {
        int64_t again = 0;
        if (read_size(r, other, &r->moe->top_k))
            return QC_ERROR;
        again = r->moe->top_k;
        if (read_size(r, key, &again))
            return QC_ERROR;
        if (again != r->moe->top_k)
            return qc_error(r->diag, r->config->path, "%s = %lld and %s = %lld contradict each other", other,
                (long long)r->moe->top_k, key, (long long)again);
    }
    if (read_size(r, key, &r->moe->top_k))
        return QC_ERROR;
    if (r->moe->top_k > r->moe->experts)
        return qc_error(r->diag, r->config->path, "%s %lld is more than there are experts, %lld (%s)", key,
            (long long)r->moe->top_k, (long long)r->moe->experts, r->moe->experts_key);
    return QC_OK;
}

static qc_status read_sizes(const reader *r)
{
    qc_hf_moe_config *m = r->moe;
    int64_t count = 1;
    m->intermediate = r->rule->intermediate ? r->rule->intermediate : r->config->intermediate;
    m->dense = r->rule->dense_key ? r->rule->dense : r->config->intermediate;
    if (read_size(r, r->rule->intermediate_key, &m->intermediate) ||
        (r->rule->dense_key && read_size(r, r->rule->dense_key, &m->dense)))
        return QC_ERROR;
    switch (r->rule->sharing) {
    case QC_HF_SHARED_NONE:
        return QC_OK;
    case QC_HF_SHARED_BY_KEY:
        m->shared = r->rule->shared_intermediate;
        return read_size(r, "shared_expert_intermediate_size", &m->shared);
    case QC_HF_SHARED_AS_ONE:
        m->shared = m->intermediate;
        return QC_OK;
    case QC_HF_SHARED_AS_COUNT:
        if (read_size(r, "n_shared_experts", &count))
            return QC_ERROR;
        m->shared = m->intermediate * count;
        if (m->shared > INT32_MAX)
            return qc_error(r->diag, r->config->path,
                "n_shared_experts %lld times moe_intermediate_size %lld is more than %d", (long long)count,
                (long long)m->intermediate, INT32_MAX);
        return QC_OK;
    }
    return QC_OK;
}

/* A key whose only known value is the one that the modeling file computes with. */
static qc_status expect_word(const reader *r, const char *key, const char *known)
{
    const char *text = known;
    if (qc_json_string(r->diag, r->config->path, r->root, key, false, &text))
        return QC_ERROR;
    if (strcmp(text, known) != 0)
        return qc_error(r->diag, r->config->path, "%s '%s' is not supported; %s computes with '%s'", key,
            text, r->config->arch->info.architecture, known);
    return QC_OK;
}

static qc_status expect_number(const reader *r, const char *key, double known)
{
    double number = known;
    if (qc_json_double(r->diag, r->config->path, r->root, key, false, &number))
        return QC_ERROR;
    if (number != known)
        return qc_error(r->diag, r->config->path, "%s %g is not supported; %s computes with %g", key, number,
            r->config->arch->info.architecture, known);
    return QC_OK;
}

static qc_status read_groups(const reader *r)
{
    qc_hf_moe_config *m = r->moe;
    const char *path = r->config->path;
    m->groups = r->rule->groups;
    m->top_groups = r->rule->top_groups;
    if (read_size(r, "n_group", &m->groups) || read_size(r, "topk_group", &m->top_groups) ||
        expect_word(r, "scoring_func", "sigmoid") || expect_word(r, "topk_method", "noaux_tc") ||
        expect_number(r, "moe_layer_freq", 1))
        return QC_ERROR;
    if (m->experts % m->groups != 0)
        return qc_error(r->diag, path, "%s %lld is not a multiple of n_group %lld", m->experts_key,
            (long long)m->experts, (long long)m->groups);
    if (m->experts / m->groups < 2)
        return qc_error(r->diag, path,
            "n_group %lld leaves a group %lld expert of %lld; groups are compared by their best two",
            (long long)m->groups, (long long)(m->experts / m->groups), (long long)m->experts);
    if (m->top_groups > m->groups)
        return qc_error(r->diag, path, "topk_group %lld is more than n_group %lld", (long long)m->top_groups,
            (long long)m->groups);
    if (m->top_k > m->top_groups * (m->experts / m->groups))
        return qc_error(r->diag, path,
            "num_experts_per_tok %lld is more than topk_group %lld groups have, %lld", (long long)m->top_k,
            (long long)m->top_groups, (long long)(m->top_groups * (m->experts / m->groups)));
    return QC_OK;
}

static qc_status read_weighting(const reader *r)
{
    qc_hf_moe_config *m = r->moe;
    const char *path = r->config->path;
    m->normalized = r->rule->normalized;
    m->scaling = r->rule->scaling;
    if (r->rule->always_normalized)
        m->normalized = true;
    else if (r->rule->where == QC_HF_MOE_BY_SPARSE_STEP || r->rule->where == QC_HF_MOE_BEHIND_DENSE)
        if (qc_json_bool(r->diag, path, r->root, "norm_topk_prob", false, &m->normalized))
            return QC_ERROR;
    if (r->rule->clamped && expect_number(r, "swiglu_limit", 7))
        return QC_ERROR;
    if (r->rule->routing != QC_HF_ROUTING_GROUPED_SIGMOID)
        return QC_OK;
    if (qc_json_double(r->diag, path, r->root, "routed_scaling_factor", false, &m->scaling))
        return QC_ERROR;
    if (!isfinite(m->scaling))
        return qc_error(r->diag, path, "routed_scaling_factor must be a finite number");
    return read_groups(r);
}

/* Gives the layers that a list of numbers names the value; those that there are not are passed over, as Transformers
 * does. */
static qc_status read_listed(const reader *r, const char *key, bool value, bool *layers)
{
    const qc_json *list = qc_json_get(r->root, key);
    if (list->kind != QC_JSON_ARRAY)
        return qc_error(r->diag, r->config->path, "%s must be a list of layer numbers", key);
    for (const qc_json *item = list->first; item; item = item->next) {
        if (item->kind != QC_JSON_NUMBER || !item->is_integer)
            return qc_error(r->diag, r->config->path, "%s must be a list of layer numbers", key);
        if (item->integer >= 0 && item->integer < r->config->layers)
            layers[item->integer] = value;
    }
    return QC_OK;
}

static qc_status read_layers(const reader *r)
{
    const int64_t count = r->config->layers;
    const char *next_key = is_given(r, "num_mtp_layers") ? "num_mtp_layers" : "num_nextn_predict_layers";
    const char *step_key =
        r->rule->where == QC_HF_MOE_BY_SPARSE_STEP ? "decoder_sparse_step" : "interleave_moe_layer_step";
    bool *layers = QC_NEW_ARRAY(r->arena, bool, (size_t)count);
    int64_t step = 1, first = r->rule->first_dense;
    r->moe->layers = layers;
    if (r->rule->where == QC_HF_MOE_BEHIND_DENSE &&
        qc_json_int(r->diag, r->config->path, r->root, next_key, false, &r->moe->next))
        return QC_ERROR;
    switch (r->rule->where) {
    case QC_HF_MOE_EVERY_LAYER:
        break;
    case QC_HF_MOE_BY_INTERLEAVE:
        if (is_given(r, "moe_layers"))
            return read_listed(r, "moe_layers", true, layers);
        if (read_size(r, step_key, &step))
            return QC_ERROR;
        break;
    case QC_HF_MOE_BY_SPARSE_STEP:
        if (read_size(r, step_key, &step))
            return QC_ERROR;
        break;
    case QC_HF_MOE_BEHIND_DENSE:
        if (qc_json_int(r->diag, r->config->path, r->root, "first_k_dense_replace", false, &first))
            return QC_ERROR;
        break;
    }
    for (int64_t i = 0; i < count; i++)
        layers[i] = i >= first && (i + 1) % step == 0;
    if (r->rule->where == QC_HF_MOE_BY_SPARSE_STEP && is_given(r, "mlp_only_layers"))
        return read_listed(r, "mlp_only_layers", false, layers);
    return QC_OK;
}

qc_status qc_hf_moe_config_read(qc_diag *diag, qc_arena *arena, const qc_json *root, qc_hf_config *config)
{
    reader r = {diag, arena, root, config, config->arch->moe, &config->moe};
    if (!r.rule)
        return QC_OK;
    if (read_count(&r) || read_top_k(&r) || read_sizes(&r) || read_weighting(&r) || read_layers(&r))
        return QC_ERROR;
    return QC_OK;
}

static bool is_in(const char *key, const char *const *list, size_t count)
{
    for (size_t i = 0; i < count && list[i]; i++)
        if (strcmp(key, list[i]) == 0)
            return true;
    return false;
}

bool qc_hf_moe_reads_key(const qc_hf_config *config, const char *key)
{
    const qc_hf_moe_rule *rule = config->arch->moe;
    return rule && (strcmp(key, "num_experts_per_tok") == 0 || is_in(key, count_keys, COUNT_KEYS) ||
                       is_in(key, rule->keys, SIZE_MAX) ||
                       is_in(key, harmless_keys, sizeof harmless_keys / sizeof *harmless_keys));
}

bool qc_hf_moe_layer(const qc_hf_config *config, int64_t index)
{
    return config->arch->moe && config->moe.layers[index];
}

const char *qc_hf_moe_dense_name(const qc_hf_config *config)
{
    return config->arch->moe ? config->arch->moe->blocks[0] : "mlp";
}

const char *qc_hf_moe_dense_key(const qc_hf_config *config)
{
    const qc_hf_moe_rule *rule = config->arch->moe;
    return rule && rule->dense_key ? rule->dense_key : "intermediate_size";
}

int64_t qc_hf_moe_dense_size(const qc_hf_config *config)
{
    return config->arch->moe ? config->moe.dense : config->intermediate;
}
