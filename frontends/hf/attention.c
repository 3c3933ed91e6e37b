/* SPDX-License-Identifier: MIT
 *
 * attention.c - the attention of a decoder layer: its modules, and its part of the graph
 *
 *   o_proj(attention(rope(q_norm(q)), rope(k_norm(k)), v))
 *
 * with the roundings of Transformers' eager attention (modeling_*.py at 5.17): scores, probabilities and rotary tables
 * in D, softmax in f32. What architectures do differently:
 *
 *   fused projection (Phi-3)      q, k and v are columns of one product
 *   norms of q and k              of each head (Qwen3, Gemma 3, GLM-4-MoE) or of all together (OLMo 2) before RoPE; of
 *                                 each head without a weight behind it (Llama 4)
 *   exact RoPE (Llama 4, OLMo 2)  tables and turned values in f32, rounded once
 *   layers without RoPE           (Llama 4) q times log(1 + floor((position + 1) / floor_scale)) * scale + 1 in f32
 *   latent attention              mla.c
 */
#include "frontends/hf/attention.h"

#include "frontends/hf/graph.h"
#include "frontends/hf/tree.h"
#include "qc/ops.h"

/* Does a target name the module by its path or class, not by a pattern that may be for others? */
static bool targets_itself(const qc_hf_group *group, const qc_node *node)
{
    for (size_t i = 0; i < group->target_count; i++)
        if (qc_node_is_named(node, group->targets[i]) || strcmp(group->targets[i], qc_node_class(node)) == 0)
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

/* The scale of a latent cache: one, which goes by the name of keys. Writers put that of values beside it, as loaders expect
 * two; what is cached is keys and values at once, and the first counts. */
static void own_latent_scale(qc_hf_state *s, qc_hf_attention *a)
{
    const qc_hf_args *x = &a->kv_group->input;
    const qc_hf_expectation e = {1, {1}, QC_DTYPE_NONE, "quantization_config"};
    if (x->dynamic || x->global || strcmp(x->granularity, "tensor") != 0)
        qc_hf_tensor_error(s, NULL,
            qc_arena_printf(s->arena,
                "kv_cache_scheme: %s has a latent cache, which takes one static scale of strategy tensor",
                qc_node_path(a->node)));
    else if (!a->unit_scales)
        qc_hf_own_tensor(s, a->node, "k_scale", &e);
    static const char *const others[] = {"k_zero_point", "v_scale", "v_zero_point"};
    for (size_t i = 0; i < 3; i++)
        qc_hf_tree_own_if_there(s, a->node, others[i]);
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
    a->unit_scales = a->kv_group && has_no_cache_scale(s, a->node, &a->kv_group->input);
    if (a->kv_group && s->config.arch->attention.projection == QC_HF_PROJECTION_LATENT) {
        own_latent_scale(s, a);
        return;
    }
    if (group)
        own_center(s, a->node);
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
            e = (qc_hf_expectation){3,
                {heads, 1, i == 2 ? s->config.attention.value_dim : s->config.attention.head_dim},
                QC_DTYPE_NONE, "quantization_config, head_dim"};
        qc_hf_own_tensor(s, a->node, names[i][0], &e);
        qc_hf_tree_own_if_there(s, a->node, names[i][1]);
    }
}

/* The projections and o_proj, in the order of the module tree. */
static void add_projections(qc_hf_state *s, qc_hf_attention *a)
{
    const qc_hf_attention_config *c = &s->config.attention;
    const int64_t hidden = s->config.hidden, q_size = c->heads * c->head_dim,
                  kv_size = c->kv_heads * c->head_dim;
    const char *q_keys = "num_attention_heads * head_dim, hidden_size";
    const char *kv_keys = "num_key_value_heads * head_dim, hidden_size";
    const char *o_keys = "hidden_size, num_attention_heads * head_dim";
    if (s->config.arch->attention.projection == QC_HF_PROJECTION_FUSED) {
        a->o = qc_hf_tree_linear(s, a->node, "o_proj", hidden, q_size, c->o_bias, o_keys);
        a->qkv = qc_hf_tree_linear(s, a->node, "qkv_proj", q_size + 2 * kv_size, hidden, c->qkv_bias,
            "(num_attention_heads + 2 * num_key_value_heads) * head_dim, hidden_size");
        return;
    }
    a->q = qc_hf_tree_linear(s, a->node, "q_proj", q_size, hidden, c->qkv_bias, q_keys);
    a->k = qc_hf_tree_linear(s, a->node, "k_proj", kv_size, hidden, c->qkv_bias, kv_keys);
    a->v = qc_hf_tree_linear(s, a->node, "v_proj", kv_size, hidden, c->qkv_bias, kv_keys);
    a->o = qc_hf_tree_linear(s, a->node, "o_proj", hidden, q_size, c->o_bias, o_keys);
}

static void add_norms(qc_hf_state *s, qc_hf_attention *a, const qc_hf_attention_span *span)
{
    const qc_hf_attention_config *c = &s->config.attention;
    const qc_hf_qk_norm kind = s->config.arch->attention.qk_norm;
    if (!c->qk_norm)
        return;
    if (kind == QC_HF_QK_NORM_L2_UNLESS) {
        if (span->rope >= 0)
            a->l2_norm = qc_hf_tree_classed(s, a->node, "qk_norm", "L2Norm");
        return;
    }
    const bool whole = kind == QC_HF_QK_NORM_WHOLE;
    const int64_t q_size = whole ? c->heads * c->head_dim : c->head_dim,
                  k_size = whole ? c->kv_heads * c->head_dim : c->head_dim;
    a->q_norm =
        qc_hf_tree_norm(s, a->node, "q_norm", q_size, whole ? "num_attention_heads * head_dim" : "head_dim");
    a->k_norm =
        qc_hf_tree_norm(s, a->node, "k_norm", k_size, whole ? "num_key_value_heads * head_dim" : "head_dim");
}

void qc_hf_attention_tree(qc_hf_state *s, qc_hf_layer *layer, int64_t index)
{
    qc_hf_attention *a = &layer->attention;
    const qc_hf_attention_rule *rule = &s->config.arch->attention;
    a->node = qc_hf_tree_classed(s, layer->node, "self_attn", "Attention");
    own_attention_scales(s, a);
    if (rule->projection == QC_HF_PROJECTION_LATENT)
        qc_hf_latent_tree(s, a);
    else
        add_projections(s, a);
    add_norms(s, a, &s->config.attention.spans[index]);
    if (rule->sinks)
        qc_hf_own_tensor(s, a->node, "sinks",
            &(qc_hf_expectation){1, {s->config.attention.heads}, QC_DTYPE_NONE, "num_attention_heads"});
}

void qc_hf_attention_begin(qc_hf_graph *g, qc_value *ids)
{
    const qc_hf_attention_config *c = &g->state->config.attention;
    g->attention = (qc_hf_attention_graph){.positions = qc_build_positions(g->b, ids, "pos")};
    for (int i = 0; i < 2; i++)
        g->attention.scalings[i] = qc_hf_rope_attr(g->ctx, g->state->arena, &c->ropes[i]);
}

qc_value *qc_hf_build_rope(qc_hf_graph *g, qc_value *x, int64_t size, int rope, const char *hint)
{
    const qc_hf_attention_config *c = &g->state->config.attention;
    const qc_hf_rope *r = &c->ropes[rope];
    const bool exact = g->state->config.arch->attention.rope.exact && g->state->dtype != QC_F32;
    if (exact)
        x = qc_build_cast(g->b, x, "f32", hint);
    x = qc_build_rope(g->b, x, g->attention.positions, r->theta, g->attention.scalings[rope],
        exact ? "f32" : g->dtype, c->interleaved, r->dims == size ? 0 : r->dims, hint);
    return exact ? qc_build_cast(g->b, x, g->dtype, hint) : x;
}

/* A number in f32 that a value can be combined with. */
static qc_value *number(qc_hf_graph *g, double value, const char *hint)
{
    const qc_dim *dims[1] = {qc_dim_int(g->ctx, 1)};
    return qc_build_fill(g->b, value, qc_type_tensor(g->ctx, QC_F32, 1, dims), hint);
}

/* q of a layer without RoPE, longer the later the token is. */
static qc_value *build_temperature(qc_hf_graph *g, qc_value *q)
{
    const qc_hf_attention_config *c = &g->state->config.attention;
    const qc_type *type = qc_value_type(g->attention.positions);
    if (!type)
        return q;
    const qc_dim *dims[4] = {
        qc_type_dim(type, 0), qc_dim_int(g->ctx, 1), qc_type_dim(type, 1), qc_dim_int(g->ctx, 1)};
    qc_value *one = number(g, 1, "one");
    qc_value *t = qc_build_cast(g->b, g->attention.positions, "f32", "t");
    t = qc_build_div(g->b, qc_build_add(g->b, t, one, "t"), number(g, c->floor_scale, "floor_scale"), "t");
    t = qc_build_log(g->b, qc_build_add(g->b, qc_build_floor(g->b, t, "t"), one, "t"), "t");
    t = qc_build_add(g->b, qc_build_mul(g->b, t, number(g, c->temperature, "attn_scale"), "t"), one, "t");
    t = qc_build_reshape(g->b, t, qc_type_tensor(g->ctx, QC_F32, 4, dims), "t");
    return qc_build_mul(g->b, q, t, "q");
}

/* Each vector over its root mean square. */
static qc_value *build_l2_norm(qc_hf_graph *g, const qc_hf_attention *a, qc_value *x, const char *hint)
{
    const qc_dim *dims[1] = {qc_dim_int(g->ctx, g->state->config.attention.head_dim)};
    qc_builder_set_node(g->b, a->l2_norm);
    qc_value *w = qc_build_fill(g->b, 1.0, qc_type_tensor(g->ctx, g->state->dtype, 1, dims), "w");
    x = qc_build_rmsnorm(g->b, x, w, g->state->config.norm_eps, 0, NULL, hint);
    qc_builder_set_node(g->b, a->node);
    return x;
}

/* Columns from..to of the last dimension. */
static qc_value *columns(qc_hf_graph *g, qc_value *x, int64_t from, int64_t to, const char *hint)
{
    return qc_build_slice(g->b, x, -1, from, to, 1, hint);
}

/* q, k or v, [B, S, heads * head_dim]: columns of `fused`, or the product with its own weight. */
static qc_value *build_part(
    qc_hf_graph *g, const qc_hf_attention *a, qc_value *x, qc_value *fused, int part, const char *hint)
{
    const qc_hf_attention_config *c = &g->state->config.attention;
    const qc_hf_linear *linears[3] = {&a->q, &a->k, &a->v};
    if (!fused)
        return qc_hf_build_linear(g, linears[part], x, hint);
    const int64_t k_start = c->heads * c->head_dim, v_start = k_start + c->kv_heads * c->head_dim;
    const int64_t borders[4] = {0, k_start, v_start, a->qkv.out};
    qc_builder_set_node(g->b, a->node);
    return columns(g, fused, borders[part], borders[part + 1], hint);
}

/* q or k in heads, normed, when the architecture does, and turned. */
static qc_value *build_turned(qc_hf_graph *g, const qc_hf_attention *a, const qc_hf_attention_span *span,
    qc_node *norm, qc_value *x, int64_t heads, const char *hint)
{
    const bool whole = g->state->config.arch->attention.qk_norm == QC_HF_QK_NORM_WHOLE;
    if (norm && whole)
        x = qc_hf_build_norm(g, norm, x, hint);
    qc_builder_set_node(g->b, a->node);
    x = qc_build_split_heads(g->b, x, heads, hint);
    if (norm && !whole) {
        x = qc_hf_build_norm(g, norm, x, hint);
        qc_builder_set_node(g->b, a->node);
    }
    if (span->rope >= 0)
        x = qc_hf_build_rope(g, x, g->state->config.attention.head_dim, span->rope, hint);
    return a->l2_norm ? build_l2_norm(g, a, x, hint) : x;
}

/* q, k and v in heads, as attention and its codes take them. */
static void build_heads(qc_hf_graph *g, const qc_hf_attention *a, const qc_hf_attention_span *span,
    qc_value *x, qc_value *heads[3])
{
    const qc_hf_attention_config *c = &g->state->config.attention;
    qc_value *fused = a->qkv.node ? qc_hf_build_linear(g, &a->qkv, x, "qkv") : NULL;
    heads[0] = build_turned(g, a, span, a->q_norm, build_part(g, a, x, fused, 0, "q"), c->heads, "q");
    if (span->rope < 0 && c->temperature > 0)
        heads[0] = build_temperature(g, heads[0]);
    heads[1] = build_turned(g, a, span, a->k_norm, build_part(g, a, x, fused, 1, "k"), c->kv_heads, "k");
    qc_value *v = build_part(g, a, x, fused, 2, "v");
    qc_builder_set_node(g->b, a->node);
    heads[2] = qc_build_split_heads(g->b, v, c->kv_heads, "v");
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

/* x as codes under scales of the layer; as it is when the group is NULL. */
static coded build_codes(qc_hf_graph *g, const qc_hf_attention *a, const qc_hf_group *group, const char *part,
    int64_t heads, int64_t size, qc_value *x)
{
    coded c = {.x = x, .dynamic = group && group->input.dynamic};
    if (!group)
        return c;
    qc_hf_state *s = g->state;
    const char *scale_name = name_of(g, part, "scale"), *path = qc_node_path(a->node);
    const char *granularity = group->input.granularity;
    const int64_t count = strcmp(granularity, "head") == 0      ? heads
                          : strcmp(granularity, "channel") == 0 ? heads * size
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
    if (!c.scale)
        qc_builder_fail(g->b);
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
    if (!center)
        qc_builder_fail(g->b);
    return qc_build_sub(g->b, k, center, "k_centered");
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
    const qc_hf_attention_span *span = &c->spans[index];
    const bool latent = g->state->config.arch->attention.projection == QC_HF_PROJECTION_LATENT;
    /* A latent cache holds the latents: its codes are made and read before k and v are. */
    const qc_hf_group *group = a->group, *kv_group = group ? group : latent ? NULL : a->kv_group;
    qc_value *heads[3];
    if (latent)
        qc_hf_latent_build(g, a, x, heads);
    else
        build_heads(g, a, span, x, heads);
    heads[0] = qc_hf_build_rotated(g, a->node, "q_attn", c->head_dim, heads[0], "q");
    heads[1] = qc_hf_build_rotated(g, a->node, "k_cache", c->head_dim, heads[1], "k");
    if (kv_group)
        heads[1] = build_center(g, a, heads[1]);
    coded q = build_codes(g, a, group, "q", c->heads, c->head_dim, heads[0]);
    coded k = build_codes(g, a, kv_group, "k", c->kv_heads, c->head_dim, heads[1]);
    coded v = build_codes(g, a, kv_group, "v", c->kv_heads, c->value_dim, heads[2]);
    build_cache(g, &k, "k");
    build_cache(g, &v, "v");
    qc_value *sinks = g->state->config.arch->attention.sinks
                          ? qc_hf_build_node_parameter(g, a->node, "sinks", "sinks")
                          : NULL;
    qc_value *o = qc_build_attention(g->b, q.x, k.x, v.x, q.scale, k.scale, v.scale, q.global, k.global,
        v.global, sinks, c->score_scale, true, span->window, g->dtype, "f32", g->dtype, q.group, k.group,
        v.group, NULL, 1.0, c->softcap, span->chunk, "o");
    o = qc_build_merge_heads(g->b, o, "o");
    return qc_hf_build_linear(g, &a->o, o, "o");
}
