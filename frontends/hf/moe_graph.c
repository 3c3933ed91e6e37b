/* SPDX-License-Identifier: MIT
 *
 * moe_graph.c - the block of a layer with experts: router, chosen experts, shared expert.
 *
 *   softmax           p = softmax_f32(logits); ids = largest p; w = p[ids], over their sum where normalized
 *   top softmax       ids = largest logits; w = softmax_f32(logits[ids])
 *   top sigmoid       ids = largest logits; w = sigmoid_f32(logits[ids])
 *   grouped sigmoid   p = sigmoid(logits), all in f32; c = p + correction; a group is worth the sum of its two largest c,
 *                     and ids are the largest c in the best groups; w = p[ids], over their sum + 1e-20 where
 *                     normalized, times a factor
 *
 * w is rounded to D where the modeling file does (Transformers 5.17; not Mixtral, DeepSeek-V3 and GLM-4).
 */
#include "frontends/hf/moe.h"

#include <math.h>

#include "frontends/hf/graph.h"
#include "qc/ops.h"

qc_value *qc_hf_build_number(qc_hf_graph *g, double value, const char *hint)
{
    const float narrow = (float)value;
    const qc_dim *one = qc_dim_int(g->ctx, 1);
    return qc_build_const(
        g->b, qc_attr_data(g->ctx, QC_F32, &narrow, 1), qc_type_tensor(g->ctx, QC_F32, 1, &one), hint);
}

static qc_value *to_f32(qc_hf_graph *g, qc_value *x, const char *hint)
{
    const qc_type *type = qc_value_type(x);
    return type && qc_type_dtype(type) == QC_F32 ? x : qc_build_cast(g->b, x, "f32", hint);
}

static qc_value *to_model(qc_hf_graph *g, qc_value *x, const char *hint)
{
    return g->state->dtype == QC_F32 ? x : qc_build_cast(g->b, x, g->dtype, hint);
}

/* x with its last dimension, experts, split in `groups`, or a dimension of 1 behind it dropped. */
static qc_value *reshape_last(qc_hf_graph *g, qc_value *x, int64_t a, int64_t b, const char *hint)
{
    const qc_type *type = qc_value_type(x);
    if (!type)
        return x;
    const qc_dim *dims[4] = {
        qc_type_dim(type, 0), qc_type_dim(type, 1), qc_dim_int(g->ctx, a), qc_dim_int(g->ctx, b)};
    return qc_build_reshape(g->b, x, qc_type_tensor(g->ctx, qc_type_dtype(type), b ? 4 : 3, dims), hint);
}

/* What a choice is made by: c, outside of the best groups less than anything. */
static qc_value *build_best_groups(qc_hf_graph *g, qc_value *c)
{
    const qc_hf_moe_config *m = &g->state->config.moe;
    if (m->top_groups == m->groups)
        return c;
    qc_value *grouped = reshape_last(g, c, m->groups, m->experts / m->groups, "by_group");
    qc_value *two = qc_build_topk(g->b, grouped, 2, "two");
    qc_value *worth = qc_build_reduce_sum(g->b, qc_build_take(g->b, grouped, two, "best"), "worth");
    worth = reshape_last(g, worth, m->groups, 0, "worth");
    qc_value *groups = qc_build_topk(g->b, worth, m->top_groups, "groups");
    return qc_build_mask_groups(g->b, c, groups, m->groups, -INFINITY, "open");
}

/* The choice of a router. */
typedef struct choice {
    qc_value *ids, *weights; /* [B, S, k] */
} choice;

static qc_value *over_sum(qc_hf_graph *g, qc_value *w, double more)
{
    qc_value *sum = qc_build_reduce_sum(g->b, w, "sum");
    if (more > 0)
        sum = qc_build_add(g->b, sum, qc_hf_build_number(g, more, "tiny"), "sum");
    return qc_build_div(g->b, w, sum, "w");
}

static choice route_grouped(qc_hf_graph *g, const qc_hf_moe *moe, qc_value *x)
{
    const qc_hf_moe_config *m = &g->state->config.moe;
    choice c;
    qc_value *w = to_f32(g, qc_hf_build_node_parameter(g, moe->router, "weight", "w"), "w");
    qc_value *logits = qc_build_linear(g->b, to_f32(g, x, "x"), w, NULL, "router");
    qc_value *p = qc_build_sigmoid(g->b, logits, "p");
    qc_dtype dtype;
    qc_value *correction = qc_hf_build_stored(g->state, g->b,
        qc_arena_printf(g->state->arena, "%s.e_score_correction_bias", qc_node_path(moe->router)), &dtype,
        "correction");
    qc_value *corrected = qc_build_add(g->b, p, to_f32(g, correction, "correction"), "c");
    c.ids = qc_build_topk(g->b, build_best_groups(g, corrected), m->top_k, "ids");
    c.weights = qc_build_take(g->b, p, c.ids, "w");
    if (m->normalized)
        c.weights = over_sum(g, c.weights, 1e-20);
    if (m->scaling != 1)
        c.weights = qc_build_mul(g->b, c.weights, qc_hf_build_number(g, m->scaling, "scaling"), "w");
    return c;
}

static choice route(qc_hf_graph *g, const qc_hf_moe *moe, qc_value *x)
{
    const qc_hf_moe_config *m = &g->state->config.moe;
    const qc_hf_moe_rule *rule = g->state->config.arch->moe;
    choice c = {0};
    qc_builder_set_node(g->b, moe->router);
    if (rule->routing == QC_HF_ROUTING_GROUPED_SIGMOID)
        return route_grouped(g, moe, x);
    qc_value *w = qc_hf_build_node_parameter(g, moe->router, "weight", "w");
    qc_value *bias = rule->router_bias ? qc_hf_build_node_parameter(g, moe->router, "bias", "b") : NULL;
    qc_value *logits = qc_build_linear(g->b, x, w, bias, "router");
    if (rule->routing == QC_HF_ROUTING_SOFTMAX) {
        qc_value *p = qc_build_softmax(g->b, to_f32(g, logits, "p"), "p");
        c.ids = qc_build_topk(g->b, p, m->top_k, "ids");
        c.weights = qc_build_take(g->b, p, c.ids, "w");
        if (m->normalized)
            c.weights = over_sum(g, c.weights, 0);
    } else {
        c.ids = qc_build_topk(g->b, logits, m->top_k, "ids");
        c.weights = to_f32(g, qc_build_take(g->b, logits, c.ids, "w"), "w");
        c.weights = rule->routing == QC_HF_ROUTING_TOP_SOFTMAX ? qc_build_softmax(g->b, c.weights, "w")
                                                               : qc_build_sigmoid(g->b, c.weights, "w");
    }
    if (!rule->wide_weights)
        c.weights = to_model(g, c.weights, "w");
    return c;
}

/* The shared expert's output, where there is one behind its gate. */
static qc_value *build_shared(qc_hf_graph *g, const qc_hf_moe *moe, qc_value *x)
{
    qc_value *y = qc_hf_mlp_build(g, &moe->shared, x);
    if (!moe->shared_gate.node || !y)
        return y;
    qc_value *gate = qc_hf_build_linear(g, &moe->shared_gate, x, "gate");
    qc_builder_set_node(g->b, moe->node);
    return qc_build_mul(g->b, qc_build_sigmoid(g->b, gate, "gate"), y, "shared");
}

qc_value *qc_hf_moe_build(qc_hf_graph *g, const qc_hf_layer *layer, int64_t index, qc_value *x)
{
    const qc_hf_moe *moe = &layer->moe;
    (void)index;
    const choice c = route(g, moe, x);
    qc_value *y = qc_hf_experts_build(g, moe, x, c.ids, c.weights);
    if (!g->state->config.arch->moe->shared || !y)
        return y;
    qc_value *shared = build_shared(g, moe, x);
    qc_builder_set_node(g->b, moe->node);
    return qc_build_add(g->b, y, shared, "y");
}
