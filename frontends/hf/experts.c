/* SPDX-License-Identifier: MIT
 *
 * experts.c - the chosen experts of a layer, as the eager loop over experts of Transformers 5.17 computes them:
 *
 *   rows of x sorted by expert; gate and up of them by the expert's weights; down(act(gate) * up); times the router's
 *   weight, rounded once; summed up by token in the order of experts, with a rounding after each addition.
 *
 * Llama 4 scales what goes in, and sums with one rounding, because there every expert sees every token. The gate of
 * gpt-oss: min(gate, 7) * sigmoid(1.702 * gate) * (up + 1), up between -7 and 7. Its bias is added before the rounding of
 * the product, as a linear layer does; Transformers rounds the product first.
 *
 * A bank is [experts, out, in] whatever the file holds: tensors of each expert are stacked, fused ones cut and turned.
 */
#include "frontends/hf/graph.h"
#include "frontends/hf/moe.h"
#include "qc/ops.h"

/* ---- banks --------------------------------------------------------------------------------------------- */

/* A tensor of each expert, stacked, in D; `short_name` is weight or bias. */
static qc_value *build_stack(
    qc_hf_graph *g, const qc_hf_moe *moe, int part, const char *short_name, const char *hint)
{
    qc_hf_state *s = g->state;
    const qc_st_tensor *first = qc_st_find(
        &s->set, qc_arena_printf(s->arena, "%s.%s", qc_node_path(moe->parts[part].node), short_name));
    const qc_dim *dims[3] = {qc_dim_int(s->ctx, s->config.moe.experts)};
    for (int i = 0; i < first->rank && i < 2; i++)
        dims[i + 1] = qc_dim_int(s->ctx, first->shape[i]);
    qc_dtype dtype = qc_dtype_from_safetensors_name(first->dtype);
    if (s->dtype == QC_F32)
        dtype = QC_F32;
    qc_value *bank = qc_build_expert_weight(g->b,
        qc_arena_printf(s->arena, "%s.{e}.%s.%s", qc_node_path(moe->experts), moe->names[part], short_name),
        qc_type_tensor(s->ctx, dtype, first->rank + 1, dims), hint);
    return dtype == s->dtype ? bank : qc_build_cast(g->b, bank, g->dtype, hint);
}

/* Rows or columns of gate or up out of both, along `axis`. */
static qc_value *cut(qc_hf_graph *g, qc_value *both, int part, int64_t axis, const char *hint)
{
    const int64_t inner = g->state->config.moe.intermediate, second = part == QC_HF_UP;
    if (g->state->config.arch->moe->interleaved)
        return qc_build_slice(g->b, both, axis, second, 2 * inner, 2, hint);
    return qc_build_slice(g->b, both, axis, second * inner, (second + 1) * inner, 1, hint);
}

static qc_value *build_fused(qc_hf_graph *g, const qc_hf_moe *moe, int part)
{
    const bool down = part == QC_HF_DOWN;
    qc_value *w = qc_hf_build_node_parameter(
        g, moe->experts, down ? "down_proj" : "gate_up_proj", down ? "w" : "gate_up");
    if (!down)
        w = cut(g, w, part, moe->transposed ? 2 : 1, "w");
    if (!moe->transposed)
        return w;
    const qc_attr *order[3] = {qc_attr_int(g->ctx, 0), qc_attr_int(g->ctx, 2), qc_attr_int(g->ctx, 1)};
    return qc_build_transpose(g->b, w, qc_attr_list(g->ctx, order, 3), "w");
}

static qc_value *build_bank(qc_hf_graph *g, const qc_hf_moe *moe, int part)
{
    switch (moe->layout) {
    case QC_HF_EXPERTS_EACH:
        return moe->parts[part].group ? qc_hf_build_coded_bank(g, moe, part)
                                      : build_stack(g, moe, part, "weight", "w");
    case QC_HF_EXPERTS_FUSED:
        return build_fused(g, moe, part);
    case QC_HF_EXPERTS_MXFP4:
        return qc_hf_build_mxfp4_bank(g, moe, part);
    }
    return NULL;
}

/* [experts, out], NULL where there is none. */
static qc_value *build_bias(qc_hf_graph *g, const qc_hf_moe *moe, int part)
{
    if (!g->state->config.arch->moe->bias)
        return NULL;
    if (moe->layout == QC_HF_EXPERTS_EACH)
        return build_stack(g, moe, part, "bias", "b");
    if (part == QC_HF_DOWN)
        return qc_hf_build_node_parameter(g, moe->experts, "down_proj_bias", "b");
    return cut(
        g, qc_hf_build_node_parameter(g, moe->experts, "gate_up_proj_bias", "gate_up_b"), part, 1, "b");
}

/* ---- rows ---------------------------------------------------------------------------------------------- */

/* x as a transform of the checkpoint rotates it at this location of a part, in all experts alike. NULL after a
 * diagnostic. */
static qc_value *build_rotated(
    qc_hf_graph *g, const qc_hf_moe *moe, int part, const char *location, qc_value *x, const char *hint)
{
    qc_hf_state *s = g->state;
    const qc_hf_linear *first = &moe->parts[part];
    const bool input = strcmp(location, "input") == 0;
    qc_hf_rotated own = {0}, *last = input ? &g->rotated : &own;
    qc_value *rotated = x;
    for (int64_t e = 0; x && s->quantization.transform_count && e < s->config.moe.experts; e++) {
        const qc_node *node =
            qc_module_find_node(s->module, qc_arena_printf(s->arena, "%s.%lld.%s", qc_node_path(moe->experts),
                                               (long long)e, moe->names[part]));
        qc_value *y =
            qc_hf_build_rotation(s, g->b, node, location, input ? first->in : first->out, x, last, hint);
        if (!y)
            return NULL;
        if (e > 0 && y != rotated) {
            qc_error(s->diag, s->config.path,
                "transform_config does not rotate the %s of %s and of %s alike, which are experts of one "
                "layer",
                location, qc_node_path(first->node), qc_node_path(node));
            return NULL;
        }
        rotated = y;
    }
    return rotated;
}

static qc_value *build_linear(
    qc_hf_graph *g, const qc_hf_moe *moe, int part, qc_value *x, qc_value *rows, const char *hint)
{
    const bool each = moe->layout == QC_HF_EXPERTS_EACH;
    qc_builder_set_node(g->b, moe->experts);
    if (each)
        x = build_rotated(g, moe, part, "input", x, "x");
    qc_value *w = build_bank(g, moe, part);
    if (each && moe->parts[part].group && x)
        x = qc_hf_build_coded_rows(g, moe, part, x, rows);
    if (!w || !x) {
        qc_builder_fail(g->b);
        return NULL;
    }
    qc_value *bias = build_bias(g, moe, part);
    const char *module = each ? qc_arena_printf(g->state->arena, "{e}.%s", moe->names[part]) : NULL;
    qc_value *y = qc_build_expert_linear(g->b, x, w, rows, bias, module, hint);
    if (each)
        y = build_rotated(g, moe, part, "output", y, hint);
    if (!y)
        qc_builder_fail(g->b);
    return y;
}

/* act(gate) * up. */
static qc_value *build_gated(qc_hf_graph *g, const qc_hf_moe *moe, qc_value *gate, qc_value *up)
{
    const double limit = 7, alpha = 1.702;
    if (moe->activation) {
        qc_builder_set_node(g->b, moe->activation);
        gate = qc_hf_activation_build(g, gate, "gate");
        qc_builder_set_node(g->b, moe->experts);
        return qc_build_mul(g->b, gate, up, "m");
    }
    qc_value *high = qc_hf_build_number(g, limit, "high"), *low = qc_hf_build_number(g, -limit, "low");
    gate = qc_build_minimum(g->b, gate, high, "gate");
    up = qc_build_maximum(g->b, qc_build_minimum(g->b, up, high, "up"), low, "up");
    qc_value *open = qc_build_mul(g->b, gate, qc_hf_build_number(g, alpha, "alpha"), "open");
    qc_value *glu = qc_build_mul(g->b, gate, qc_build_sigmoid(g->b, open, "open"), "glu");
    return qc_build_mul(g->b, qc_build_add(g->b, up, qc_hf_build_number(g, 1, "one"), "up"), glu, "m");
}

qc_value *qc_hf_experts_build(
    qc_hf_graph *g, const qc_hf_moe *moe, qc_value *x, qc_value *ids, qc_value *weights)
{
    const qc_hf_moe_rule *rule = g->state->config.arch->moe;
    qc_builder_set_node(g->b, moe->experts);
    qc_value *rows = qc_build_expert_rows(g->b, ids, g->state->config.moe.experts, false, 1, NULL, "rows");
    qc_value *xs = qc_build_expert_gather(g->b, x, rows, "xs");
    qc_value *score =
        qc_build_expert_score(g->b, weights, rows, rule->scores_input ? "first" : NULL, "score");
    if (rule->scores_input)
        xs = qc_build_mul(g->b, xs, score, "xs");
    qc_value *gate = build_linear(g, moe, QC_HF_GATE, xs, rows, "gate");
    qc_value *up = build_linear(g, moe, QC_HF_UP, xs, rows, "up");
    if (!gate || !up)
        return NULL;
    qc_value *y = build_linear(g, moe, QC_HF_DOWN, build_gated(g, moe, gate, up), rows, "down");
    if (!y)
        return NULL;
    if (!rule->scores_input)
        y = qc_build_mul(g->b, y, score, "y");
    return qc_build_expert_combine(g->b, y, rows, ids, rule->scores_input ? "once" : NULL, "y");
}
