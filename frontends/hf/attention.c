/* SPDX-License-Identifier: MIT
 *
 * attention.c - the attention of a decoder layer: its numbers, its modules, and its part of the graph
 *
 *   o_proj(attention(rope(q_norm(q)), rope(k_norm(k)), v))
 *
 * with the roundings of Transformers' eager attention: scores, probabilities and rotary tables in D, softmax in f32.
 */
#include "frontends/hf/attention.h"

#include <math.h>

#include "frontends/hf/graph.h"
#include "frontends/hf/tree.h"
#include "qc/ops.h"

/* Reading one file: where its values go and where its errors do. */
typedef struct reader {
    qc_diag *diag;
    qc_arena *arena;
    const qc_json *root;
    qc_hf_config *config;
} reader;

static bool is_null(const qc_json *root, const char *key)
{
    const qc_json *value = qc_json_get(root, key);
    return value && value->kind == QC_JSON_NULL;
}

static qc_status read_size(const reader *r, const char *key, int64_t *value)
{
    return qc_hf_config_size(r->diag, r->config, r->root, key, value);
}

static qc_status read_heads(const reader *r)
{
    const qc_hf_config *c = r->config;
    const qc_hf_attention_rule *rule = &c->arch->attention;
    qc_hf_attention_config *a = &r->config->attention;
    a->heads = rule->heads;
    if (read_size(r, "num_attention_heads", &a->heads))
        return QC_ERROR;
    bool same = rule->kv_heads == 0 || is_null(r->root, "num_key_value_heads");
    a->kv_heads = same ? a->heads : rule->kv_heads;
    if (read_size(r, "num_key_value_heads", &a->kv_heads))
        return QC_ERROR;
    if (a->heads % a->kv_heads != 0)
        return qc_error(r->diag, c->path,
            "num_attention_heads %lld is not a multiple of num_key_value_heads %lld", (long long)a->heads,
            (long long)a->kv_heads);

    const qc_json *head_dim = qc_json_get(r->root, "head_dim");
    bool given = head_dim && head_dim->kind != QC_JSON_NULL;
    if (head_dim && !given && rule->head_dim)
        return qc_error(
            r->diag, c->path, "head_dim is null, and %s has no rule for that", c->arch->info.architecture);
    if (!given && !rule->head_dim && c->hidden % a->heads != 0)
        return qc_error(r->diag, c->path,
            "hidden_size %lld is not a multiple of num_attention_heads %lld, and there is no head_dim",
            (long long)c->hidden, (long long)a->heads);
    a->head_dim = rule->head_dim ? rule->head_dim : c->hidden / a->heads;
    if (read_size(r, "head_dim", &a->head_dim))
        return QC_ERROR;
    if (a->head_dim % 2 != 0)
        return qc_error(r->diag, c->path, "head_dim %lld is odd, and rotary embeddings turn pairs",
            (long long)a->head_dim);
    return QC_OK;
}

/* layer_types[layer]: whether that layer slides. */
static qc_status read_layer_types(const reader *r, const qc_json *types, bool *slides)
{
    const char *path = r->config->path;
    if (types->kind != QC_JSON_ARRAY || (int64_t)types->length != r->config->layers)
        return qc_error(r->diag, path, "layer_types must be a list of num_hidden_layers = %lld strings",
            (long long)r->config->layers);
    size_t layer = 0;
    for (const qc_json *type = types->first; type; type = type->next, layer++) {
        const char *name = type->kind == QC_JSON_STRING ? type->text : "";
        slides[layer] = strcmp(name, "sliding_attention") == 0;
        if (!slides[layer] && strcmp(name, "full_attention") != 0)
            return qc_error(r->diag, path,
                "layer_types[%zu] is '%s'; supported are full_attention and sliding_attention", layer, name);
    }
    return QC_OK;
}

/* Windows of all layers. Where layer_types is given it must say what the model does, also where Transformers
 * does not look at it (Llama, Mistral). */
static qc_status read_windows(const reader *r)
{
    qc_hf_config *c = r->config;
    qc_hf_windowing rule = c->arch->attention.windowing;
    size_t layers = (size_t)c->layers;
    int64_t window = c->arch->attention.sliding_window, from = 28;
    bool use = false;
    const qc_json *number = qc_json_get(r->root, "sliding_window"),
                  *types = qc_json_get(r->root, "layer_types");
    if (rule == QC_HF_WINDOWING_BY_LAYER_TYPES &&
        (qc_json_bool(r->diag, c->path, r->root, "use_sliding_window", false, &use) ||
            qc_json_int(r->diag, c->path, r->root, "max_window_layers", false, &from)))
        return QC_ERROR;
    if (rule == QC_HF_WINDOWING_EVERY_LAYER)
        use = true;
    if (number && number->kind == QC_JSON_NULL)
        use = false;
    if (use && read_size(r, "sliding_window", &window))
        return QC_ERROR;

    bool *slides = QC_NEW_ARRAY(r->arena, bool, layers);
    int64_t *windows = QC_NEW_ARRAY(r->arena, int64_t, layers);
    bool typed = types && types->kind != QC_JSON_NULL;
    if (typed && read_layer_types(r, types, slides))
        return QC_ERROR;
    for (size_t i = 0; i < layers; i++) {
        bool rule_slides = use && (rule == QC_HF_WINDOWING_EVERY_LAYER || (int64_t)i >= from);
        if (!typed)
            slides[i] = rule_slides;
        else if (slides[i] && !use)
            return qc_error(
                r->diag, c->path, "layer_types[%zu] is sliding_attention, but no sliding window is set", i);
        else if (rule != QC_HF_WINDOWING_BY_LAYER_TYPES && slides[i] != rule_slides)
            return qc_error(r->diag, c->path,
                "layer_types[%zu] is %s: %s has one kind of attention in all layers", i,
                slides[i] ? "sliding_attention" : "full_attention", c->arch->info.architecture);
        windows[i] = slides[i] ? window : 0;
    }
    c->attention.windows = windows;
    return QC_OK;
}

qc_status qc_hf_attention_config_read(
    qc_diag *diag, qc_arena *arena, const qc_json *root, qc_hf_config *config)
{
    const reader r = {diag, arena, root, config};
    const qc_hf_attention_rule *rule = &config->arch->attention;
    if (read_heads(&r) || read_windows(&r) ||
        qc_hf_config_bias(diag, config, root, rule->qkv_bias, &config->attention.qkv_bias) ||
        qc_hf_config_bias(diag, config, root, rule->o_bias, &config->attention.o_bias))
        return QC_ERROR;
    return qc_hf_config_rope(diag, root, config);
}

bool qc_hf_attention_reads_key(const qc_hf_config *config, const char *key)
{
    const qc_hf_attention_rule *rule = &config->arch->attention;
    if (strcmp(key, "attention_bias") == 0)
        return rule->qkv_bias == QC_HF_BIAS_BY_ATTENTION_BIAS;
    if (strcmp(key, "sliding_window") == 0)
        return rule->windowing != QC_HF_WINDOWING_NEVER;
    if (strcmp(key, "use_sliding_window") == 0)
        return rule->windowing == QC_HF_WINDOWING_BY_LAYER_TYPES;
    return false;
}

/* Does a target name the module by its path or class, not by a pattern that may be for others? */
static bool targets_itself(const qc_hf_group *group, const qc_node *node)
{
    for (size_t i = 0; i < group->target_count; i++)
        if (strcmp(group->targets[i], qc_node_path(node)) == 0 ||
            strcmp(group->targets[i], qc_node_class(node)) == 0)
            return true;
    return false;
}

/* What keys are centered by, where it is stored. */
static void own_center(qc_hf_state *s, qc_node *node)
{
    const qc_hf_attention_config *c = &s->config.attention;
    const qc_hf_expectation e = {
        3, {c->kv_heads, 1, c->head_dim}, QC_DTYPE_NONE, "num_key_value_heads, head_dim"};
    if (qc_st_find(&s->set, qc_arena_printf(s->arena, "%s.k_center", qc_node_path(node))))
        qc_hf_own_tensor(s, node, "k_center", &e);
}

/* A kv_cache_scheme speaks for every layer. Where one has neither scale, loaders take 1.0 for both. */
static bool has_no_cache_scale(const qc_hf_state *s, const qc_node *node, const qc_hf_args *x)
{
    return !x->dynamic && !x->global &&
           !qc_st_find(&s->set, qc_arena_printf(s->arena, "%s.k_scale", qc_node_path(node))) &&
           !qc_st_find(&s->set, qc_arena_printf(s->arena, "%s.v_scale", qc_node_path(node)));
}

void qc_hf_attention_warn(qc_hf_state *s)
{
    qc_str names;
    size_t count = 0;
    qc_str_init(&names, s->arena);
    for (int64_t i = 0; i < s->config.layers; i++) {
        if (!s->model.layers[i].attention.unit_scales)
            continue;
        qc_str_addf(&names, "%s%s", count++ ? ", " : "", qc_node_path(s->model.layers[i].attention.node));
    }
    if (count)
        qc_warning(s->diag, s->directory,
            "kv_cache_scheme speaks for attention modules that have neither k_scale nor v_scale; as loaders "
            "do, 1.0 is "
            "taken for: %s",
            names.data);
    qc_str_fini(&names);
}

/* q, k and v scales of a layer, and the zero points that some writers put beside them. */
static void own_attention_scales(qc_hf_state *s, qc_hf_attention *a)
{
    const qc_hf_group *group = qc_hf_group_of(s, a->node);
    if (s->dequantize)
        return;
    if (group && group->weights.present && !targets_itself(group, a->node))
        group = NULL; /* the pattern is for what lies in the attention module */
    const bool by_token = group && strcmp(group->input.granularity, "token") == 0;
    if (group && (group->weights.present || (group->input.dynamic && !group->input.global && !by_token))) {
        qc_hf_tensor_error(s, NULL,
            qc_arena_printf(s->arena,
                "quantization_config: group @%s is for linear layers, but it targets %s", group->symbol,
                qc_node_path(a->node)));
        return;
    }
    a->group = group;
    a->kv_group = group ? NULL : s->quantization.kv;
    if (!group)
        group = s->quantization.kv;
    static const char *const names[][3] = {{"q_scale", "q_zero_point", "q_global_scale"},
        {"k_scale", "k_zero_point", "k_global_scale"}, {"v_scale", "v_zero_point", "v_global_scale"}};
    if (group)
        own_center(s, a->node);
    a->unit_scales = a->kv_group && has_no_cache_scale(s, a->node, &a->kv_group->input);
    if (a->unit_scales)
        return;
    for (int i = a->group ? 0 : 1; group && i < 3; i++) {
        const int64_t heads = i == 0 ? s->config.attention.heads : s->config.attention.kv_heads;
        if (group->input.dynamic && !group->input.global)
            continue;
        bool per_head = strcmp(group->input.granularity, "head") == 0;
        qc_hf_expectation e = {1, {1}, QC_DTYPE_NONE, "quantization_config"};
        if (group->input.global) { /* the others are computed as the model runs */
            e.code = QC_F32;
            qc_hf_own_tensor(s, a->node, names[i][2], &e);
            continue;
        }
        if (per_head)
            e = (qc_hf_expectation){3, {heads, 1, 1}, QC_DTYPE_NONE, "quantization_config"};
        if (strcmp(group->input.granularity, "channel") == 0)
            e = (qc_hf_expectation){
                3, {heads, 1, s->config.attention.head_dim}, QC_DTYPE_NONE, "quantization_config, head_dim"};
        qc_hf_own_tensor(s, a->node, names[i][0], &e);
        qc_hf_tree_own_if_there(s, a->node, names[i][1]);
    }
}

void qc_hf_attention_tree(qc_hf_state *s, qc_hf_layer *layer, int64_t index)
{
    (void)index;
    qc_hf_attention *a = &layer->attention;
    const qc_hf_attention_config *c = &s->config.attention;
    const int64_t hidden = s->config.hidden, q_size = c->heads * c->head_dim,
                  kv_size = c->kv_heads * c->head_dim;
    const char *q_keys = "num_attention_heads * head_dim, hidden_size";
    const char *kv_keys = "num_key_value_heads * head_dim, hidden_size";
    const char *o_keys = "hidden_size, num_attention_heads * head_dim";
    a->node = qc_hf_tree_classed(s, layer->node, "self_attn", "Attention");
    own_attention_scales(s, a);
    a->q = qc_hf_tree_linear(s, a->node, "q_proj", q_size, hidden, c->qkv_bias, q_keys);
    a->k = qc_hf_tree_linear(s, a->node, "k_proj", kv_size, hidden, c->qkv_bias, kv_keys);
    a->v = qc_hf_tree_linear(s, a->node, "v_proj", kv_size, hidden, c->qkv_bias, kv_keys);
    a->o = qc_hf_tree_linear(s, a->node, "o_proj", hidden, q_size, c->o_bias, o_keys);
    if (s->config.arch->attention.head_norms) {
        a->q_norm = qc_hf_tree_norm(s, a->node, "q_norm", c->head_dim, "head_dim");
        a->k_norm = qc_hf_tree_norm(s, a->node, "k_norm", c->head_dim, "head_dim");
    }
}

void qc_hf_attention_begin(qc_hf_graph *g, qc_value *ids)
{
    const qc_hf_attention_config *c = &g->state->config.attention;
    g->attention = (qc_hf_attention_graph){.positions = qc_build_positions(g->b, ids, "pos"),
        .rope_scaling = qc_hf_rope_attr(g->ctx, &c->rope),
        .score_scale = pow((double)c->head_dim, -0.5)};
}

static qc_value *build_rope(qc_hf_graph *g, qc_value *x, const char *hint)
{
    return qc_build_rope(g->b, x, g->attention.positions, g->state->config.attention.rope.theta,
        g->attention.rope_scaling, g->dtype, false, 0, hint);
}

/* q, k or v in heads; q and k normed, when the architecture does, and turned. */
static qc_value *build_heads(qc_hf_graph *g, const qc_hf_attention *a, const qc_hf_linear *linear,
    qc_node *norm, bool turned, qc_value *x, int64_t heads, const char *hint)
{
    qc_value *y = qc_hf_build_linear(g, linear, x, hint);
    qc_builder_set_node(g->b, a->node);
    y = qc_build_split_heads(g->b, y, heads, hint);
    if (norm) {
        y = qc_hf_build_norm(g, norm, y, hint);
        qc_builder_set_node(g->b, a->node);
    }
    return turned ? build_rope(g, y, hint) : y;
}

/* q, k or v as attention takes it: codes with their scales, or values. */
typedef struct coded {
    qc_value *x, *scale, *global;
    int64_t group;
    bool dynamic; /* the scales are computed as the model runs */
} coded;

static const char *name_of(qc_hf_graph *g, const char *part, const char *suffix)
{
    return qc_arena_printf(g->state->arena, "%s_%s", part, suffix);
}

/* x as codes under scales of the a; as it is when the group is NULL. */
static coded build_codes(qc_hf_graph *g, const qc_hf_attention *a, const qc_hf_group *group, const char *part,
    int64_t heads, qc_value *x)
{
    coded c = {.x = x, .dynamic = group && group->input.dynamic};
    if (!group)
        return c;
    qc_hf_state *s = g->state;
    const char *scale_name = name_of(g, part, "scale"), *path = qc_node_path(a->node);
    const char *granularity = group->input.granularity;
    const int64_t count = strcmp(granularity, "head") == 0      ? heads
                          : strcmp(granularity, "channel") == 0 ? heads * s->config.attention.head_dim
                                                                : 1;
    if (group->input.global) {
        c.global = qc_hf_build_global_scale(s, g->b,
            qc_arena_printf(s->arena, "%s.%s", path, name_of(g, part, "global_scale")),
            name_of(g, part, "global"));
        c.group = group->input.group;
        if (c.global)
            c.scale = qc_build_qparams(g->b, x, c.global, NULL, group->symbol, "input", NULL, 0, scale_name);
    } else if (c.dynamic) {
        c.scale = qc_build_qparams(g->b, x, NULL, NULL, group->symbol, "input", NULL, 0, scale_name);
    } else if (a->unit_scales) {
        c.scale =
            qc_hf_build_unit_scale(s, g->b, count > 1 ? heads : 0, count > 1 ? count / heads : 1, scale_name);
    } else {
        c.scale = qc_hf_build_scale(
            s, g->b, qc_arena_printf(s->arena, "%s.%s", path, scale_name), count, scale_name);
    }
    g->failed |= c.scale == NULL;
    if (c.scale)
        c.x = qc_build_quantize(
            g->b, x, c.scale, c.global, NULL, group->symbol, "input", name_of(g, part, "codes"));
    return c;
}

/* Keys less what they are centered by, where that is stored. */
static qc_value *build_center(qc_hf_graph *g, const qc_hf_attention *a, qc_value *k)
{
    qc_hf_state *s = g->state;
    const char *tensor = qc_arena_printf(s->arena, "%s.k_center", qc_node_path(a->node));
    if (!k || !qc_st_find(&s->set, tensor))
        return k;
    qc_value *center = qc_hf_build_center(s, g->b, tensor, "k_center");
    g->failed |= !center;
    return center ? qc_build_sub(g->b, k, center, "k_centered") : k;
}

static qc_value *append(qc_hf_graph *g, qc_value *x, const char *slot, const char *hint)
{
    const qc_type *type = qc_value_type(x);
    if (!type)
        return x;
    const qc_dim *total = qc_dim_add(g->ctx, qc_dim_symbol(g->ctx, "P"), qc_dim_symbol(g->ctx, "S"));
    const qc_dim *dims[4] = {qc_type_dim(type, 0), qc_type_dim(type, 1), total, qc_type_dim(type, 3)};
    return qc_build_cache_append(g->b, x, slot, qc_type_tensor(g->ctx, qc_type_dtype(type), 4, dims), hint);
}

/* What is cached: the values or codes, and the scales that each call computes. */
static void build_cache(qc_hf_graph *g, coded *c, const char *slot)
{
    c->x = append(g, c->x, slot, slot);
    if (c->dynamic && c->scale)
        c->scale = append(g, c->scale, name_of(g, slot, "scale"), name_of(g, slot, "scales"));
}

qc_value *qc_hf_attention_build(qc_hf_graph *g, const qc_hf_layer *layer, int64_t index, qc_value *x)
{
    const qc_hf_attention *a = &layer->attention;
    const qc_hf_attention_config *c = &g->state->config.attention;
    const qc_hf_group *group = a->group;
    const qc_hf_group *kv_group = group ? group : a->kv_group;
    qc_value *heads[3];
    heads[0] = build_heads(g, a, &a->q, a->q_norm, true, x, c->heads, "q");
    heads[1] = build_heads(g, a, &a->k, a->k_norm, true, x, c->kv_heads, "k");
    heads[2] = build_heads(g, a, &a->v, NULL, false, x, c->kv_heads, "v");
    heads[0] = qc_hf_build_rotated(g, a->node, "q_attn", c->head_dim, heads[0], "q");
    heads[1] = qc_hf_build_rotated(g, a->node, "k_cache", c->head_dim, heads[1], "k");
    if (kv_group)
        heads[1] = build_center(g, a, heads[1]);
    coded q = build_codes(g, a, group, "q", c->heads, heads[0]);
    coded k = build_codes(g, a, kv_group, "k", c->kv_heads, heads[1]);
    coded v = build_codes(g, a, kv_group, "v", c->kv_heads, heads[2]);
    build_cache(g, &k, "k");
    build_cache(g, &v, "v");
    qc_value *o = qc_build_attention(g->b, q.x, k.x, v.x, q.scale, k.scale, v.scale, q.global, k.global,
        v.global, NULL, g->attention.score_scale, true, c->windows[index], g->dtype, "f32", g->dtype, q.group,
        k.group, v.group, NULL, 1.0, 0.0, 0, "o");
    o = qc_build_merge_heads(g->b, o, "o");
    return qc_hf_build_linear(g, &a->o, o, "o");
}
