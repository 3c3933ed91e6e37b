/* SPDX-License-Identifier: MIT
 *
 * attention_config.c - the numbers of attention out of config.json, with the defaults of the architecture's row.
 *
 * Source: the configuration classes of transformers/models at 5.17. What contradicts itself, or what the arithmetic
 * of the architecture has no place for, is refused by its key. Sizes are bounded here: rows of every projection fit
 * in 31 bits.
 */
#include <math.h>

#include "frontends/hf/attention.h"
#include "frontends/hf/config.h"

/* Reading one file: where its values go and where its errors do. */
typedef struct reader {
    qc_diag *diag;
    qc_arena *arena;
    const qc_json *root;
    qc_hf_config *config;
    const qc_hf_attention_rule *rule;
    qc_hf_attention_config *a;
} reader;

static bool is_given(const qc_json *root, const char *key)
{
    const qc_json *value = qc_json_get(root, key);
    return value && value->kind != QC_JSON_NULL;
}

static bool is_null(const qc_json *root, const char *key)
{
    const qc_json *value = qc_json_get(root, key);
    return value && value->kind == QC_JSON_NULL;
}

static qc_status read_size(const reader *r, const char *key, int64_t *value)
{
    return qc_hf_config_size(r->diag, r->config, r->root, key, value);
}

/* A finite number above 0; *value stays when the key is absent or null. */
static qc_status read_positive(const reader *r, const char *key, double *value)
{
    if (qc_json_double(r->diag, r->config->path, r->root, key, false, value))
        return QC_ERROR;
    if (is_given(r->root, key) && !(*value > 0))
        return qc_error(r->diag, r->config->path, "%s must be greater than 0", key);
    return QC_OK;
}

static qc_status read_bool(const reader *r, const char *key, bool *value)
{
    return qc_json_bool(r->diag, r->config->path, r->root, key, false, value);
}

/* ---- heads --------------------------------------------------------------------------------------------------- */

static qc_status check_rows(const reader *r, int64_t heads, int64_t columns, const char *keys)
{
    if (columns > INT32_MAX || heads > INT32_MAX / columns)
        return qc_error(r->diag, r->config->path, "%s: %lld heads of %lld columns are more than %d", keys,
            (long long)heads, (long long)columns, INT32_MAX);
    return QC_OK;
}

static qc_status read_counts(const reader *r)
{
    qc_hf_attention_config *a = r->a;
    a->heads = r->rule->heads;
    if (read_size(r, "num_attention_heads", &a->heads))
        return QC_ERROR;
    const bool same = r->rule->kv_heads == 0 || is_null(r->root, "num_key_value_heads");
    a->kv_heads = same ? a->heads : r->rule->kv_heads;
    if (read_size(r, "num_key_value_heads", &a->kv_heads))
        return QC_ERROR;
    if (a->heads % a->kv_heads != 0)
        return qc_error(r->diag, r->config->path,
            "num_attention_heads %lld is not a multiple of num_key_value_heads %lld", (long long)a->heads,
            (long long)a->kv_heads);
    return QC_OK;
}

static qc_status read_heads(const reader *r)
{
    qc_hf_attention_config *a = r->a;
    const qc_hf_config *c = r->config;
    const bool given = is_given(r->root, "head_dim");
    if (is_null(r->root, "head_dim") && r->rule->head_dim)
        return qc_error(
            r->diag, c->path, "head_dim is null, and %s has no rule for that", c->arch->info.architecture);
    if (!given && !r->rule->head_dim && c->hidden % a->heads != 0)
        return qc_error(r->diag, c->path,
            "hidden_size %lld is not a multiple of num_attention_heads %lld, and there is no head_dim",
            (long long)c->hidden, (long long)a->heads);
    a->head_dim = r->rule->head_dim ? r->rule->head_dim : c->hidden / a->heads;
    if (read_size(r, "head_dim", &a->head_dim))
        return QC_ERROR;
    if (a->head_dim % 2 != 0)
        return qc_error(r->diag, c->path, "head_dim %lld is odd, and rotary embeddings turn pairs",
            (long long)a->head_dim);
    a->value_dim = a->head_dim;
    return check_rows(
        r, a->heads + 2 * a->kv_heads, a->head_dim, "num_attention_heads, num_key_value_heads, head_dim");
}

/* A size that must be what others make of it, where it is given. */
static qc_status check_derived(const reader *r, const char *key, int64_t value, const char *of)
{
    int64_t given = value;
    if (read_size(r, key, &given))
        return QC_ERROR;
    if (given != value)
        return qc_error(r->diag, r->config->path, "%s is %lld, but %s make it %lld", key, (long long)given,
            of, (long long)value);
    return QC_OK;
}

/* Latent attention: defaults of DeepSeek-V3. */
static qc_status read_latent(const reader *r)
{
    qc_hf_attention_config *a = r->a;
    a->q_rank = is_null(r->root, "q_lora_rank") ? 0 : 1536;
    a->kv_rank = 512;
    a->nope_dim = a->value_dim = 128;
    a->rope_dim = 64;
    if ((a->q_rank && read_size(r, "q_lora_rank", &a->q_rank)) || read_size(r, "kv_lora_rank", &a->kv_rank) ||
        read_size(r, "qk_nope_head_dim", &a->nope_dim) || read_size(r, "qk_rope_head_dim", &a->rope_dim) ||
        read_size(r, "v_head_dim", &a->value_dim))
        return QC_ERROR;
    if (a->rope_dim % 2 != 0)
        return qc_error(r->diag, r->config->path,
            "qk_rope_head_dim %lld is odd, and rotary embeddings turn pairs", (long long)a->rope_dim);
    if (a->kv_heads != a->heads)
        return qc_error(r->diag, r->config->path,
            "num_key_value_heads %lld is not num_attention_heads %lld: latent attention has a key for each "
            "head",
            (long long)a->kv_heads, (long long)a->heads);
    a->head_dim = a->nope_dim + a->rope_dim;
    if (check_rows(r, a->heads, a->head_dim, "num_attention_heads, qk_nope_head_dim, qk_rope_head_dim") ||
        check_rows(
            r, a->heads, a->nope_dim + a->value_dim, "num_attention_heads, qk_nope_head_dim, v_head_dim") ||
        check_rows(r, 1, a->kv_rank + a->rope_dim, "kv_lora_rank, qk_rope_head_dim") ||
        check_derived(r, "qk_head_dim", a->head_dim, "qk_nope_head_dim and qk_rope_head_dim"))
        return QC_ERROR;
    return check_derived(r, "head_dim", a->rope_dim, "rotary embeddings (qk_rope_head_dim)");
}

/* ---- scores -------------------------------------------------------------------------------------------------- */

/* Needs ropes. */
static qc_status read_scores(const reader *r)
{
    qc_hf_attention_config *a = r->a;
    double number = 0;
    switch (r->rule->scale) {
    case QC_HF_SCORE_SCALE_BY_HEAD_DIM:
        a->score_scale = pow((double)a->head_dim, -0.5);
        break;
    case QC_HF_SCORE_SCALE_BY_QUERY_PRE_ATTN_SCALAR:
        number = 256;
        if (read_positive(r, "query_pre_attn_scalar", &number))
            return QC_ERROR;
        a->score_scale = pow(number, -0.5);
        break;
    case QC_HF_SCORE_SCALE_BY_ATTENTION_MULTIPLIER:
        a->score_scale = 1;
        if (read_positive(r, "attention_multiplier", &a->score_scale))
            return QC_ERROR;
        break;
    }
    /* DeepSeek: what yarn does to the length of keys is made good in the scale. */
    if (r->rule->projection == QC_HF_PROJECTION_LATENT && a->ropes[0].mscale_all != 0) {
        const double m = qc_hf_rope_magnitude(a->ropes[0].factor, a->ropes[0].mscale_all);
        a->score_scale *= m * m;
    }
    if (!(a->score_scale > 0) || !isfinite((float)a->score_scale))
        return qc_error(
            r->diag, r->config->path, "scores are multiplied by %g, which is no scale", a->score_scale);
    if (r->rule->softcap) {
        a->softcap = is_null(r->root, "attn_logit_softcapping") ? 0 : 50;
        return read_positive(r, "attn_logit_softcapping", &a->softcap);
    }
    return QC_OK;
}

static qc_status read_norms(const reader *r)
{
    const qc_hf_qk_norm kind = r->rule->qk_norm;
    r->a->qk_norm = kind != QC_HF_QK_NORM_NONE && kind != QC_HF_QK_NORM_HEADS_IF_ASKED;
    if (kind == QC_HF_QK_NORM_HEADS_IF_ASKED || kind == QC_HF_QK_NORM_L2_UNLESS)
        return read_bool(r, "use_qk_norm", &r->a->qk_norm);
    return QC_OK;
}

/* ---- what layers see ----------------------------------------------------------------------------------------- */

typedef enum sight { SIGHT_FULL, SIGHT_SLIDING, SIGHT_CHUNKED } sight;

static const char *const sight_names[] = {"full_attention", "sliding_attention", "chunked_attention"};

/* layer_types, as far as the architecture knows them. */
static qc_status read_layer_types(const reader *r, const qc_json *types, sight *sights)
{
    const char *path = r->config->path;
    const sight other = r->rule->windowing == QC_HF_WINDOWING_CHUNKED ? SIGHT_CHUNKED : SIGHT_SLIDING;
    if (types->kind != QC_JSON_ARRAY || (int64_t)types->length != r->config->layers)
        return qc_error(r->diag, path, "layer_types must be a list of num_hidden_layers = %lld strings",
            (long long)r->config->layers);
    size_t layer = 0;
    for (const qc_json *type = types->first; type; type = type->next, layer++) {
        const char *name = type->kind == QC_JSON_STRING ? type->text : "";
        sights[layer] = strcmp(name, sight_names[other]) == 0 ? other : SIGHT_FULL;
        if (sights[layer] == SIGHT_FULL && strcmp(name, sight_names[SIGHT_FULL]) != 0)
            return qc_error(r->diag, path, "layer_types[%zu] is '%s'; supported are full_attention and %s",
                layer, name, sight_names[other]);
    }
    return QC_OK;
}

/* Which layers slide where layer_types does not say it. */
typedef struct slide_rule {
    bool use; /* a window is set */
    int64_t from, below, period;
} slide_rule;

static qc_status read_sliding(const reader *r, slide_rule *s, int64_t *window)
{
    const qc_hf_windowing kind = r->rule->windowing;
    bool flag = false;
    *s = (slide_rule){.use = true, .below = INT64_MAX};
    *window = r->rule->sliding_window;
    if (kind == QC_HF_WINDOWING_BY_LAYER_TYPES || kind == QC_HF_WINDOWING_EVEN_IF_USED ||
        kind == QC_HF_WINDOWING_EVERY_LAYER_IF_USED) {
        int64_t border = r->rule->max_window_layers ? r->rule->max_window_layers : 28;
        if (read_bool(r, "use_sliding_window", &flag) ||
            qc_json_int(r->diag, r->config->path, r->root, "max_window_layers", false, &border))
            return QC_ERROR;
        s->use = flag;
        if (kind == QC_HF_WINDOWING_BY_LAYER_TYPES)
            s->from = border;
        if (kind == QC_HF_WINDOWING_EVEN_IF_USED) {
            s->below = border;
            s->period = 2;
        }
    }
    if (kind == QC_HF_WINDOWING_BY_PATTERN) {
        s->period = r->rule->window_pattern;
        if (s->period != 2 && read_size(r, "sliding_window_pattern", &s->period))
            return QC_ERROR;
    }
    if (kind == QC_HF_WINDOWING_NEVER || is_null(r->root, "sliding_window") ||
        (*window == 0 && !is_given(r->root, "sliding_window")))
        s->use = false;
    return s->use ? read_size(r, "sliding_window", window) : QC_OK;
}

static bool slides(const slide_rule *s, int64_t layer)
{
    return s->use && layer >= s->from && layer < s->below && (s->period == 0 || (layer + 1) % s->period != 0);
}

/* Windows of all layers. Where layer_types is given it must say what the model does, also where Transformers
 * does not look at it (Llama, Mistral). */
static qc_status read_windows(const reader *r, qc_hf_attention_span *spans)
{
    const qc_hf_windowing kind = r->rule->windowing;
    const bool obeyed = kind == QC_HF_WINDOWING_BY_LAYER_TYPES || kind == QC_HF_WINDOWING_EVEN_IF_USED ||
                        kind == QC_HF_WINDOWING_BY_PATTERN;
    const size_t layers = (size_t)r->config->layers;
    const bool typed = is_given(r->root, "layer_types");
    sight *sights = QC_NEW_ARRAY(r->arena, sight, layers);
    slide_rule s;
    int64_t window;
    if (read_sliding(r, &s, &window) ||
        (typed && read_layer_types(r, qc_json_get(r->root, "layer_types"), sights)))
        return QC_ERROR;
    for (size_t i = 0; i < layers; i++) {
        const bool by_rule = slides(&s, (int64_t)i), sliding = typed ? sights[i] == SIGHT_SLIDING : by_rule;
        if (sliding && !s.use)
            return qc_error(r->diag, r->config->path,
                "layer_types[%zu] is sliding_attention, but no sliding window is set", i);
        if (!obeyed && sliding != by_rule)
            return qc_error(r->diag, r->config->path,
                "layer_types[%zu] is %s: %s has one kind of attention in all layers", i,
                sight_names[sliding ? SIGHT_SLIDING : SIGHT_FULL], r->config->arch->info.architecture);
        spans[i] = (qc_hf_attention_span){
            .window = sliding ? window : 0, .rope = sliding && r->rule->rope.local_theta > 0};
    }
    return QC_OK;
}

/* no_rope_layers[layer]: 1 where RoPE is. Empty or absent: all but every no_rope_layer_interval-th. */
static qc_status read_rope_layers(const reader *r, qc_hf_attention_span *spans)
{
    const qc_json *list = qc_json_get(r->root, "no_rope_layers");
    int64_t interval = 4, layer = 0;
    if (read_size(r, "no_rope_layer_interval", &interval))
        return QC_ERROR;
    const bool given = list && !qc_hf_json_is_off(list);
    if (given && (list->kind != QC_JSON_ARRAY || (int64_t)list->length != r->config->layers))
        return qc_error(r->diag, r->config->path,
            "no_rope_layers must be a list of num_hidden_layers = %lld numbers",
            (long long)r->config->layers);
    for (int64_t i = 0; i < r->config->layers; i++)
        spans[i].rope = (i + 1) % interval != 0 ? 0 : -1;
    for (const qc_json *item = given ? list->first : NULL; item; item = item->next, layer++) {
        if (!item->is_integer || item->integer < 0 || item->integer > 1)
            return qc_error(
                r->diag, r->config->path, "no_rope_layers[%lld] must be 0 or 1", (long long)layer);
        spans[layer].rope = item->integer ? 0 : -1;
    }
    return QC_OK;
}

/* Some files have a number for attn_temperature_tuning, which says yes when it is not 0. */
static qc_status read_temperature(const reader *r)
{
    const qc_json *tuning = qc_json_get(r->root, "attn_temperature_tuning");
    bool on = true;
    r->a->floor_scale = 8192;
    r->a->temperature = 0.1;
    if (tuning && tuning->kind == QC_JSON_NUMBER)
        on = tuning->number != 0;
    else if (read_bool(r, "attn_temperature_tuning", &on))
        return QC_ERROR;
    if (read_positive(r, "attn_scale", &r->a->temperature) ||
        read_positive(r, "floor_scale", &r->a->floor_scale))
        return QC_ERROR;
    if (!on)
        r->a->temperature = 0;
    return QC_OK;
}

static qc_status read_chunks(const reader *r, qc_hf_attention_span *spans)
{
    const bool typed = is_given(r->root, "layer_types");
    sight *sights = QC_NEW_ARRAY(r->arena, sight, (size_t)r->config->layers);
    int64_t chunk = 8192;
    if (read_rope_layers(r, spans) || read_temperature(r) || read_size(r, "attention_chunk_size", &chunk) ||
        (typed && read_layer_types(r, qc_json_get(r->root, "layer_types"), sights)))
        return QC_ERROR;
    for (int64_t i = 0; i < r->config->layers; i++) {
        const bool chunked = typed ? sights[i] == SIGHT_CHUNKED : spans[i].rope >= 0;
        if (chunked && is_null(r->root, "attention_chunk_size"))
            return qc_error(r->diag, r->config->path,
                "layer %lld sees chunks, but attention_chunk_size is null", (long long)i);
        spans[i].chunk = chunked ? chunk : 0;
    }
    return QC_OK;
}

qc_status qc_hf_attention_config_read(
    qc_diag *diag, qc_arena *arena, const qc_json *root, qc_hf_config *config)
{
    qc_hf_attention_config *a = &config->attention;
    const qc_hf_attention_rule *rule = &config->arch->attention;
    const reader r = {diag, arena, root, config, rule, a};
    const bool latent = rule->projection == QC_HF_PROJECTION_LATENT;
    qc_hf_attention_span *spans = QC_NEW_ARRAY(arena, qc_hf_attention_span, (size_t)config->layers);
    a->spans = spans;
    a->interleaved = rule->rope.interleaved;
    if (read_counts(&r) || (latent ? read_latent(&r) : read_heads(&r)) ||
        (rule->windowing == QC_HF_WINDOWING_CHUNKED ? read_chunks(&r, spans) : read_windows(&r, spans)) ||
        qc_hf_config_bias(diag, config, root, rule->qkv_bias, &a->qkv_bias) ||
        qc_hf_config_bias(diag, config, root, rule->o_bias, &a->o_bias) || read_norms(&r) ||
        (rule->rope.interleave_key && read_bool(&r, "rope_interleave", &a->interleaved)) ||
        qc_hf_config_rope(diag, arena, root, latent ? a->rope_dim : a->head_dim, config))
        return QC_ERROR;
    return read_scores(&r);
}

bool qc_hf_attention_reads_key(const qc_hf_config *config, const char *key)
{
    const qc_hf_attention_rule *rule = &config->arch->attention;
    const qc_hf_windowing w = rule->windowing;
    const bool used = w == QC_HF_WINDOWING_BY_LAYER_TYPES || w == QC_HF_WINDOWING_EVEN_IF_USED ||
                      w == QC_HF_WINDOWING_EVERY_LAYER_IF_USED;
    const bool chunked = w == QC_HF_WINDOWING_CHUNKED, latent = rule->projection == QC_HF_PROJECTION_LATENT;
    const bool pattern = w == QC_HF_WINDOWING_BY_PATTERN && rule->window_pattern != 2;
    const struct {
        const char *key;
        bool read;
    } rows[] = {
        {"attention_bias", rule->qkv_bias == QC_HF_BIAS_BY_ATTENTION_BIAS ||
                               rule->qkv_bias == QC_HF_BIAS_UNLESS_ATTENTION_BIAS},
        {"qkv_bias", rule->qkv_bias == QC_HF_BIAS_UNLESS_QKV_BIAS},
        {"sliding_window", w != QC_HF_WINDOWING_NEVER && !chunked},
        {"use_sliding_window", used},
        {"max_window_layers", used},
        {"sliding_window_pattern", pattern},
        {"_sliding_window_pattern",
            pattern}, /* Transformers 5 writes it beside layer_types and reads it nowhere */
        {"query_pre_attn_scalar", rule->scale == QC_HF_SCORE_SCALE_BY_QUERY_PRE_ATTN_SCALAR},
        {"attention_multiplier", rule->scale == QC_HF_SCORE_SCALE_BY_ATTENTION_MULTIPLIER},
        {"attn_logit_softcapping", rule->softcap},
        {"use_qk_norm",
            rule->qk_norm == QC_HF_QK_NORM_HEADS_IF_ASKED || rule->qk_norm == QC_HF_QK_NORM_L2_UNLESS},
        {"rope_local_base_freq", rule->rope.local_theta > 0},
        {"rope_interleave", rule->rope.interleave_key},
        {"no_rope_layers", chunked},
        {"no_rope_layer_interval", chunked},
        {"attention_chunk_size", chunked},
        {"attn_temperature_tuning", chunked},
        {"attn_scale", chunked},
        {"floor_scale", chunked},
        {"q_lora_rank", latent},
        {"kv_lora_rank", latent},
        {"qk_nope_head_dim", latent},
        {"qk_rope_head_dim", latent},
        {"qk_head_dim", latent},
        {"v_head_dim", latent},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].read && strcmp(rows[i].key, key) == 0)
            return true;
    return false;
}
