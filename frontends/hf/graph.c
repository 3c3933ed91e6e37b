/* SPDX-License-Identifier: MIT
 *
 * graph.c - the function of a decoder model:
 *
 *   h = embedding(ids) * embedding scale
 *   h = h + m * norm(attention(norm(h)))
 *   h = h + m * norm(MLP or experts(norm(h)))      for each layer
 *   logits = lm_head(norm(h)) / divisor, capped
 *
 * where an architecture has each of the norms, scales and caps or not. Numbers that Transformers multiplies by stand in
 * f32, as PyTorch takes them; what is rounded between two steps is rounded here. Each op is put at the module that
 * computes it, and weights stand right before their use.
 */
#include "frontends/hf/graph.h"

#include "qc/ops.h"

qc_value *qc_hf_build_parameter(qc_hf_graph *g, const char *tensor, const char *hint)
{
    qc_dtype dtype;
    qc_value *value = qc_hf_build_stored(g->state, g->b, tensor, &dtype, hint);
    return dtype == g->state->dtype ? value : qc_build_cast(g->b, value, g->dtype, hint);
}

qc_value *qc_hf_build_node_parameter(
    qc_hf_graph *g, const qc_node *node, const char *short_name, const char *hint)
{
    return qc_hf_build_parameter(
        g, qc_arena_printf(g->state->arena, "%s.%s", qc_node_path(node), short_name), hint);
}

qc_value *qc_hf_build_norm(qc_hf_graph *g, qc_node *node, qc_value *x, const char *hint)
{
    const qc_hf_arch *arch = g->state->config.arch;
    qc_builder_set_node(g->b, node);
    qc_value *w = qc_hf_build_node_parameter(g, node, "weight", "w");
    return qc_build_rmsnorm(
        g->b, x, w, g->state->config.norm_eps, arch->norm_offset, arch->norm_wide ? "after" : NULL, hint);
}

qc_value *qc_hf_build_rotated(qc_hf_graph *g, const qc_node *node, const char *location, int64_t dimension,
    qc_value *x, const char *hint)
{
    qc_hf_rotated own = {0}, *last = strcmp(location, "input") == 0 ? &g->rotated : &own;
    qc_value *rotated =
        x ? qc_hf_build_rotation(g->state, g->b, node, location, dimension, x, last, hint) : NULL;
    if (!rotated)
        qc_builder_fail(g->b);
    return rotated ? rotated : x;
}

qc_value *qc_hf_build_linear(qc_hf_graph *g, const qc_hf_linear *linear, qc_value *x, const char *hint)
{
    qc_builder_set_node(g->b, linear->node);
    const char *path = qc_node_path(linear->node);
    const char *tensor = linear == &g->state->model.head
                             ? g->state->model.head_tensor
                             : qc_arena_printf(g->state->arena, "%s.weight", path);
    qc_value *w;
    x = qc_hf_build_rotated(g, linear->node, "input", linear->in, x, "x");
    if (linear->group) {
        w = qc_hf_build_coded_weight(g->state, g->b, linear);
        x = w ? qc_hf_build_coded_input(g->state, g->b, linear, x) : NULL;
        if (!x) {
            qc_builder_fail(g->b);
            return NULL;
        }
    } else {
        w = qc_hf_build_parameter(g, tensor, "w");
    }
    qc_value *bias = linear->bias ? qc_hf_build_node_parameter(g, linear->node, "bias", "b") : NULL;
    qc_value *y = qc_build_linear(g->b, x, w, bias, hint);
    return qc_hf_build_rotated(g, linear->node, "output", linear->out, y, hint);
}

/* A number of this element type that a value can be multiplied by. */
static qc_value *number(qc_hf_graph *g, qc_dtype dtype, double value, const char *hint)
{
    const qc_dim *dims[1] = {qc_dim_int(g->ctx, 1)};
    return qc_build_fill(g->b, value, qc_type_tensor(g->ctx, dtype, 1, dims), hint);
}

static qc_value *scaled(qc_hf_graph *g, qc_value *x, double factor, const char *hint)
{
    return factor == 1 ? x : qc_build_mul(g->b, x, number(g, QC_F32, factor, "factor"), hint);
}

static qc_value *build_layer_norm(
    qc_hf_graph *g, const qc_hf_layer *layer, qc_hf_norm_place place, qc_value *x, const char *hint)
{
    return layer->norms[place] ? qc_hf_build_norm(g, layer->norms[place], x, hint) : x;
}

static qc_value *build_residual(qc_hf_graph *g, const qc_hf_layer *layer, qc_value *h, qc_value *y)
{
    qc_builder_set_node(g->b, layer->node);
    return qc_build_add(g->b, h, scaled(g, y, g->state->config.residual_multiplier, "y"), "h");
}

static qc_value *build_layer(qc_hf_graph *g, const qc_hf_layer *layer, int64_t index, qc_value *h)
{
    qc_value *x = build_layer_norm(g, layer, QC_HF_NORM_BEFORE_ATTENTION, h, "x");
    qc_value *y = qc_hf_attention_build(g, layer, index, x);
    h = build_residual(g, layer, h, build_layer_norm(g, layer, QC_HF_NORM_AFTER_ATTENTION, y, "y"));
    x = build_layer_norm(g, layer, QC_HF_NORM_BEFORE_MLP, h, "x");
    y = qc_hf_moe_layer(&g->state->config, index) ? qc_hf_moe_build(g, layer, index, x)
                                                  : qc_hf_mlp_build(g, &layer->mlp, x);
    return build_residual(g, layer, h, build_layer_norm(g, layer, QC_HF_NORM_AFTER_MLP, y, "y"));
}

/* The rows of the embedding, scaled. */
static qc_value *build_embedding(qc_hf_graph *g, qc_value *ids)
{
    qc_hf_state *s = g->state;
    const qc_hf_config *c = &s->config;
    qc_builder_set_node(g->b, s->model.embedding);
    qc_value *table = s->model.table.group ? qc_hf_build_coded_weight(s, g->b, &s->model.table)
                                           : qc_hf_build_parameter(g, s->model.embedding_tensor, "w");
    if (!table)
        return NULL;
    qc_value *h = qc_build_embedding(g->b, ids, table, "h");
    if (c->arch->embedding_scale == QC_HF_EMBEDDING_SCALE_ROOT)
        return qc_build_mul(g->b, h, number(g, s->dtype, c->embedding_scale, "factor"), "h");
    qc_builder_set_node(g->b, s->model.model);
    return scaled(g, h, c->embedding_scale, "h");
}

static qc_value *build_logits(qc_hf_graph *g, qc_value *x)
{
    const qc_hf_config *c = &g->state->config;
    x = qc_hf_build_linear(g, &g->state->model.head, x, "logits");
    qc_builder_set_node(g->b, g->state->model.root);
    if (c->logits_divisor != 1)
        x = qc_build_div(g->b, x, number(g, QC_F32, c->logits_divisor, "divisor"), "logits");
    if (c->logits_cap > 0) {
        qc_value *cap = number(g, QC_F32, c->logits_cap, "cap");
        x = qc_build_tanh(g->b, qc_build_div(g->b, x, cap, "logits"), "logits");
        x = qc_build_mul(g->b, x, cap, "logits");
    }
    return x;
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
    qc_hf_graph g = {.state = s, .ctx = ctx, .b = qc_builder_at_end(func), .dtype = qc_dtype_name(s->dtype)};
    qc_builder_set_node(g.b, s->model.model);
    qc_hf_attention_begin(&g, ids);
    qc_value *h = build_embedding(&g, ids);
    if (!h)
        return QC_ERROR;
    for (int64_t i = 0; i < c->layers && qc_builder_ok(g.b); i++)
        h = build_layer(&g, &s->model.layers[i], i, h);
    h = qc_hf_build_norm(&g, s->model.norm, h, "x");
    qc_func_add_result(func, build_logits(&g, h));
    return !qc_builder_ok(g.b) ? QC_ERROR : QC_OK;
}
