/* SPDX-License-Identifier: MIT
 *
 * graph.c - the function of a Llama-like model:
 *
 *   h = embedding(ids)
 *   h = h + o_proj(attention(rope(q_norm(q)), rope(k_norm(k)), v))   of x = input_layernorm(h)
 *   h = h + down_proj(silu(gate_proj(x)) * up_proj(x))               of x = post_attention_layernorm(h)
 *   logits = lm_head(norm(h))
 *
 * with the roundings of Transformers' eager attention: scores, probabilities and rotary tables in D, softmax
 * in f32. Each op is put at the module that computes it, and weights stand right before their use.
 */
#include "frontends/hf/import.h"

#include <math.h>

#include "qc/ops.h"

/* What all ops need. */
typedef struct graph {
    qc_hf_state *state;
    qc_ctx *ctx;
    qc_builder *b;
    qc_value *positions;
    const char *dtype; /* name of D */
    const qc_attr *rope_scaling;
    double score_scale;
    bool failed; /* a scale could not be read, or something cannot be rotated */
    qc_hf_rotated rotated;
} graph;

/* A parameter in D: Transformers rounds to D what is stored in another type. */
static qc_value *build_parameter(graph *g, const char *tensor, const char *hint)
{
    qc_dtype dtype;
    qc_value *value = qc_hf_build_stored(g->state, g->b, tensor, &dtype, hint);
    return dtype == g->state->dtype ? value : qc_build_cast(g->b, value, g->dtype, hint);
}

static qc_value *node_parameter(graph *g, const qc_node *node, const char *short_name, const char *hint)
{
    return build_parameter(
        g, qc_arena_printf(g->state->arena, "%s.%s", qc_node_path(node), short_name), hint);
}

static qc_value *build_norm(graph *g, qc_node *node, qc_value *x, const char *hint)
{
    qc_builder_set_node(g->b, node);
    qc_value *w = node_parameter(g, node, "weight", "w");
    return qc_build_rmsnorm(g->b, x, w, g->state->config.norm_eps, hint);
}

/* x, or x as a transform of the checkpoint rotates it there. */
static qc_value *build_rotation(
    graph *g, const qc_node *node, const char *location, int64_t dimension, qc_value *x, const char *hint)
{
    qc_hf_rotated own = {0}, *last = strcmp(location, "input") == 0 ? &g->rotated : &own;
    qc_value *rotated =
        x ? qc_hf_build_rotation(g->state, g->b, node, location, dimension, x, last, hint) : NULL;
    g->failed |= !rotated;
    return rotated ? rotated : x;
}

static qc_value *build_linear(graph *g, const qc_hf_linear *linear, qc_value *x, const char *hint)
{
    qc_builder_set_node(g->b, linear->node);
    const char *path = qc_node_path(linear->node);
    const char *tensor = linear == &g->state->model.head
                             ? g->state->model.head_tensor
                             : qc_arena_printf(g->state->arena, "%s.weight", path);
    qc_value *w;
    x = build_rotation(g, linear->node, "input", linear->in, x, "x");
    if (linear->group) {
        w = qc_hf_build_coded_weight(g->state, g->b, linear);
        x = w ? qc_hf_build_coded_input(g->state, g->b, linear, x) : NULL;
        if (!x) {
            g->failed = true;
            return NULL;
        }
    } else {
        w = build_parameter(g, tensor, "w");
    }
    qc_value *bias = linear->bias ? node_parameter(g, linear->node, "bias", "b") : NULL;
    qc_value *y = qc_build_linear(g->b, x, w, bias, hint);
    return build_rotation(g, linear->node, "output", linear->out, y, hint);
}

static qc_value *build_rope(graph *g, qc_value *x, const char *hint)
{
    return qc_build_rope(g->b, x, g->positions, g->state->config.rope.theta, g->rope_scaling, g->dtype, hint);
}

/* q, k or v in heads; q and k normed, when the architecture does, and turned. */
static qc_value *build_heads(graph *g, const qc_hf_layer *layer, const qc_hf_linear *linear, qc_node *norm,
    bool turned, qc_value *x, int64_t heads, const char *hint)
{
    qc_value *y = build_linear(g, linear, x, hint);
    qc_builder_set_node(g->b, layer->attention);
    y = qc_build_split_heads(g->b, y, heads, hint);
    if (norm) {
        y = build_norm(g, norm, y, hint);
        qc_builder_set_node(g->b, layer->attention);
    }
    return turned ? build_rope(g, y, hint) : y;
}

/* q, k or v as attention takes it: codes with their scales, or values. */
typedef struct coded {
    qc_value *x, *scale, *global;
    int64_t group;
    bool dynamic; /* the scales are computed as the model runs */
} coded;

static const char *name_of(graph *g, const char *part, const char *suffix)
{
    return qc_arena_printf(g->state->arena, "%s_%s", part, suffix);
}

/* x as codes under scales of the layer; as it is when the group is NULL. */
static coded build_codes(graph *g, const qc_hf_layer *layer, const qc_hf_group *group, const char *part,
    int64_t heads, qc_value *x)
{
    coded c = {.x = x, .dynamic = group && group->input.dynamic};
    if (!group)
        return c;
    qc_hf_state *s = g->state;
    const char *scale_name = name_of(g, part, "scale"), *path = qc_node_path(layer->attention);
    const char *granularity = group->input.granularity;
    const int64_t count = strcmp(granularity, "head") == 0      ? heads
                          : strcmp(granularity, "channel") == 0 ? heads * s->config.head_dim
                                                                : 1;
    if (group->input.global) {
        c.global = qc_hf_build_global_scale(s, g->b,
            qc_arena_printf(s->arena, "%s.%s", path, name_of(g, part, "global_scale")),
            name_of(g, part, "global"));
        c.group = group->input.group;
        if (c.global)
            c.scale = qc_build_qparams(g->b, x, c.global, NULL, group->symbol, "input", NULL, scale_name);
    } else if (c.dynamic) {
        c.scale = qc_build_qparams(g->b, x, NULL, NULL, group->symbol, "input", NULL, scale_name);
    } else if (layer->unit_scales) {
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
static qc_value *build_center(graph *g, const qc_hf_layer *layer, qc_value *k)
{
    qc_hf_state *s = g->state;
    const char *tensor = qc_arena_printf(s->arena, "%s.k_center", qc_node_path(layer->attention));
    if (!k || !qc_st_find(&s->set, tensor))
        return k;
    qc_value *center = qc_hf_build_center(s, g->b, tensor, "k_center");
    g->failed |= !center;
    return center ? qc_build_sub(g->b, k, center, "k_centered") : k;
}

static qc_value *append(graph *g, qc_value *x, const char *slot, const char *hint)
{
    const qc_type *type = qc_value_type(x);
    if (!type)
        return x;
    const qc_dim *total = qc_dim_add(g->ctx, qc_dim_symbol(g->ctx, "P"), qc_dim_symbol(g->ctx, "S"));
    const qc_dim *dims[4] = {qc_type_dim(type, 0), qc_type_dim(type, 1), total, qc_type_dim(type, 3)};
    return qc_build_cache_append(g->b, x, slot, qc_type_tensor(g->ctx, qc_type_dtype(type), 4, dims), hint);
}

/* What is cached: the values or codes, and the scales that each call computes. */
static void build_cache(graph *g, coded *c, const char *slot)
{
    c->x = append(g, c->x, slot, slot);
    if (c->dynamic && c->scale)
        c->scale = append(g, c->scale, name_of(g, slot, "scale"), name_of(g, slot, "scales"));
}

static qc_value *build_attention(graph *g, const qc_hf_layer *layer, qc_value *x, int64_t window)
{
    const qc_hf_config *c = &g->state->config;
    const qc_hf_group *group = layer->attention_group;
    const qc_hf_group *kv_group = group ? group : layer->kv_group;
    qc_value *heads[3];
    heads[0] = build_heads(g, layer, &layer->q, layer->q_norm, true, x, c->heads, "q");
    heads[1] = build_heads(g, layer, &layer->k, layer->k_norm, true, x, c->kv_heads, "k");
    heads[2] = build_heads(g, layer, &layer->v, NULL, false, x, c->kv_heads, "v");
    heads[0] = build_rotation(g, layer->attention, "q_attn", c->head_dim, heads[0], "q");
    heads[1] = build_rotation(g, layer->attention, "k_cache", c->head_dim, heads[1], "k");
    if (kv_group)
        heads[1] = build_center(g, layer, heads[1]);
    coded q = build_codes(g, layer, group, "q", c->heads, heads[0]);
    coded k = build_codes(g, layer, kv_group, "k", c->kv_heads, heads[1]);
    coded v = build_codes(g, layer, kv_group, "v", c->kv_heads, heads[2]);
    build_cache(g, &k, "k");
    build_cache(g, &v, "v");
    qc_value *o = qc_build_attention(g->b, q.x, k.x, v.x, q.scale, k.scale, v.scale, q.global, k.global,
        v.global, g->score_scale, true, window, g->dtype, "f32", g->dtype, q.group, k.group, v.group, NULL,
        1.0, "o");
    o = qc_build_merge_heads(g->b, o, "o");
    return build_linear(g, &layer->o, o, "o");
}

static qc_value *build_mlp(graph *g, const qc_hf_layer *layer, qc_value *x)
{
    qc_value *gate = build_linear(g, &layer->gate, x, "gate");
    qc_builder_set_node(g->b, layer->activation);
    gate = qc_build_silu(g->b, gate, "gate");
    qc_value *up = build_linear(g, &layer->up, x, "up");
    qc_builder_set_node(g->b, layer->mlp);
    return build_linear(g, &layer->down, qc_build_mul(g->b, gate, up, "m"), "down");
}

static qc_value *build_layer(graph *g, const qc_hf_layer *layer, qc_value *h, int64_t window)
{
    qc_value *y = build_attention(g, layer, build_norm(g, layer->input_norm, h, "x"), window);
    qc_builder_set_node(g->b, layer->node);
    h = qc_build_add(g->b, h, y, "h");
    y = build_mlp(g, layer, build_norm(g, layer->post_norm, h, "x"));
    qc_builder_set_node(g->b, layer->node);
    return qc_build_add(g->b, h, y, "h");
}

/* The parameters of a RoPE type as the map that rope takes; NULL for the default type. */
static const qc_attr *scaling_attr(qc_ctx *ctx, const qc_hf_rope *rope)
{
    static const char *const names[] = {NULL, "linear", "dynamic", "llama3", "yarn"};
    const char *keys[8];
    const qc_attr *values[8];
    size_t count = 0;
#define ENTRY(key, value) (keys[count] = (key), values[count++] = (value))
    if (rope->type == QC_HF_ROPE_DEFAULT)
        return NULL;
    ENTRY("type", qc_attr_word(ctx, names[rope->type]));
    ENTRY("factor", qc_attr_float(ctx, rope->factor));
    if (rope->type == QC_HF_ROPE_DYNAMIC)
        ENTRY("max_position_embeddings", qc_attr_int(ctx, rope->original_positions));
    if (rope->type == QC_HF_ROPE_LLAMA3 || rope->type == QC_HF_ROPE_YARN)
        ENTRY("original_max_position_embeddings", qc_attr_int(ctx, rope->original_positions));
    if (rope->type == QC_HF_ROPE_LLAMA3) {
        ENTRY("low_freq_factor", qc_attr_float(ctx, rope->low_freq_factor));
        ENTRY("high_freq_factor", qc_attr_float(ctx, rope->high_freq_factor));
    }
    if (rope->type == QC_HF_ROPE_YARN) {
        ENTRY("attention_factor", qc_attr_float(ctx, rope->attention_factor));
        ENTRY("beta_fast", qc_attr_float(ctx, rope->beta_fast));
        ENTRY("beta_slow", qc_attr_float(ctx, rope->beta_slow));
        ENTRY("truncate", qc_attr_bool(ctx, rope->truncate));
    }
#undef ENTRY
    return qc_attr_map(ctx, keys, values, count);
}

qc_status qc_hf_graph_build(qc_hf_state *s)
{
    const qc_hf_config *c = &s->config;
    qc_ctx *ctx = s->ctx;
    qc_module_declare_dim(s->module, "B");
    qc_module_declare_dim(s->module, "S");
    qc_module_declare_dim(s->module, "P");
    const qc_dim *dims[2] = {qc_dim_symbol(ctx, "B"), qc_dim_symbol(ctx, "S")};
    qc_func *func = qc_module_add_func(s->module, "main");
    qc_value *ids = qc_func_add_argument(func, "ids", qc_type_tensor(ctx, QC_I64, 2, dims));
    graph g = {.state = s,
        .ctx = ctx,
        .b = qc_builder_at_end(func),
        .dtype = qc_dtype_name(s->dtype),
        .rope_scaling = scaling_attr(ctx, &c->rope),
        .score_scale = pow((double)c->head_dim, -0.5)};
    qc_builder_set_node(g.b, s->model.model);
    g.positions = qc_build_positions(g.b, ids, "pos");
    qc_builder_set_node(g.b, s->model.embedding);
    qc_value *table = s->model.table.group ? qc_hf_build_coded_weight(s, g.b, &s->model.table)
                                           : build_parameter(&g, s->model.embedding_tensor, "w");
    if (!table)
        return QC_ERROR;
    qc_value *h = qc_build_embedding(g.b, ids, table, "h");
    for (int64_t i = 0; i < c->layers && !g.failed; i++)
        h = build_layer(&g, &s->model.layers[i], h, c->windows[i]);
    h = build_norm(&g, s->model.norm, h, "x");
    qc_func_add_result(func, build_linear(&g, &s->model.head, h, "logits"));
    return g.failed || !qc_builder_ok(g.b) ? QC_ERROR : QC_OK;
}
