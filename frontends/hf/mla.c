/* SPDX-License-Identifier: MIT
 *
 * mla.c - multi-head latent attention (DeepSeek-V2, 2024, section 2.1): keys and values of all heads come out of one
 * short latent for each token, beside one rotated key that all heads share.
 *
 *   q       = q_b_proj(q_a_layernorm(q_a_proj(x))), or q_proj(x); of each head the last columns are turned
 *   l, r    = kv_a_proj_with_mqa(x): the latent, through kv_a_layernorm, and the shared key, turned
 *   cache   = latent_kv(l, r)
 *   k, v    = kv_b_proj(l) in heads; k ends in r
 *
 * A kv_cache_scheme is for what is cached: l and r go through codes, under one scale, before k and v are made of them.
 *
 * Source: transformers/models/deepseek_v3/modeling_deepseek_v3.py at 5.17. Both norms have an eps of 1e-6, whatever
 * rms_norm_eps says. Turned columns stay where they are, Transformers moves those of q and k alike: scores are the same.
 */
#include "frontends/hf/attention.h"
#include "frontends/hf/graph.h"
#include "frontends/hf/tree.h"
#include "qc/ops.h"

#define LATENT_NORM_EPS 1e-6

void qc_hf_latent_tree(qc_hf_state *s, qc_hf_attention *a)
{
    const qc_hf_attention_config *c = &s->config.attention;
    const int64_t hidden = s->config.hidden, q_size = c->heads * c->head_dim;
    const char *q_keys = "num_attention_heads * (qk_nope_head_dim + qk_rope_head_dim)";
    if (c->q_rank) {
        a->q_a = qc_hf_tree_linear(
            s, a->node, "q_a_proj", c->q_rank, hidden, c->qkv_bias, "q_lora_rank, hidden_size");
        a->q_a_norm = qc_hf_tree_norm(s, a->node, "q_a_layernorm", c->q_rank, "q_lora_rank");
        a->q = qc_hf_tree_linear(s, a->node, "q_b_proj", q_size, c->q_rank, false,
            qc_arena_printf(s->arena, "%s, q_lora_rank", q_keys));
    } else {
        a->q = qc_hf_tree_linear(s, a->node, "q_proj", q_size, hidden, false,
            qc_arena_printf(s->arena, "%s, hidden_size", q_keys));
    }
    a->kv_a = qc_hf_tree_linear(s, a->node, "kv_a_proj_with_mqa", c->kv_rank + c->rope_dim, hidden,
        c->qkv_bias, "kv_lora_rank + qk_rope_head_dim, hidden_size");
    a->kv_a_norm = qc_hf_tree_norm(s, a->node, "kv_a_layernorm", c->kv_rank, "kv_lora_rank");
    a->kv_b = qc_hf_tree_linear(s, a->node, "kv_b_proj", c->heads * (c->nope_dim + c->value_dim), c->kv_rank,
        false, "num_attention_heads * (qk_nope_head_dim + v_head_dim), kv_lora_rank");
    a->o = qc_hf_tree_linear(s, a->node, "o_proj", hidden, c->heads * c->value_dim, c->o_bias,
        "hidden_size, num_attention_heads * v_head_dim");
}

static qc_value *build_latent_norm(qc_hf_graph *g, qc_node *node, qc_value *x, const char *hint)
{
    qc_builder_set_node(g->b, node);
    qc_value *w = qc_hf_build_node_parameter(g, node, "weight", "w");
    return qc_build_rmsnorm(g->b, x, w, LATENT_NORM_EPS, 0, NULL, hint);
}

/* Columns from..to of the last dimension. */
static qc_value *columns(qc_hf_graph *g, qc_value *x, int64_t from, int64_t to, const char *hint)
{
    return qc_build_slice(g->b, x, -1, from, to, 1, hint);
}

/* Two values side by side. */
static qc_value *beside(qc_hf_graph *g, qc_value *left, qc_value *right, const char *hint)
{
    qc_value *const both[2] = {left, right};
    return qc_build_concat(g->b, both, 2, -1, hint);
}

static qc_value *build_q(qc_hf_graph *g, const qc_hf_attention *a, qc_value *x)
{
    const qc_hf_attention_config *c = &g->state->config.attention;
    if (a->q_a.node)
        x = build_latent_norm(g, a->q_a_norm, qc_hf_build_linear(g, &a->q_a, x, "q_a"), "q_a");
    qc_value *q = qc_hf_build_linear(g, &a->q, x, "q");
    qc_builder_set_node(g->b, a->node);
    q = qc_build_split_heads(g->b, q, c->heads, "q");
    qc_value *turned = columns(g, q, c->nope_dim, c->head_dim, "q_rope");
    turned = qc_hf_build_rope(g, turned, c->rope_dim, 0, "q_rope");
    return beside(g, columns(g, q, 0, c->nope_dim, "q_nope"), turned, "q");
}

/* What a cache of codes gives back. */
static qc_value *build_codes(qc_hf_graph *g, const qc_hf_attention *a, qc_value *cached)
{
    qc_hf_state *s = g->state;
    qc_value *scale = a->unit_scales
                          ? qc_hf_build_unit_scale(s, g->b, 0, 1, "k_scale")
                          : qc_hf_build_scale(s, g->b,
                                qc_arena_printf(s->arena, "%s.k_scale", qc_node_path(a->node)), 1, "k_scale");
    if (!scale) {
        qc_builder_fail(g->b);
        return cached;
    }
    qc_value *codes =
        qc_build_quantize(g->b, cached, scale, NULL, NULL, a->kv_group->symbol, "input", "k_codes");
    return qc_build_dequantize(g->b, codes, scale, NULL, NULL, g->dtype, 0, NULL, "kv_latent");
}

/* What the cache holds for each token: [B, 1, S, kv_rank + rope_dim]. */
static qc_value *build_cached(qc_hf_graph *g, const qc_hf_attention *a, qc_value *x)
{
    const qc_hf_attention_config *c = &g->state->config.attention;
    qc_value *both = qc_hf_build_linear(g, &a->kv_a, x, "kv_a");
    qc_builder_set_node(g->b, a->node);
    qc_value *latent = columns(g, both, 0, c->kv_rank, "latent");
    qc_value *key = columns(g, both, c->kv_rank, c->kv_rank + c->rope_dim, "k_rope");
    latent = build_latent_norm(g, a->kv_a_norm, latent, "latent");
    qc_builder_set_node(g->b, a->node);
    latent = qc_build_split_heads(g->b, latent, 1, "latent");
    key = qc_hf_build_rope(g, qc_build_split_heads(g->b, key, 1, "k_rope"), c->rope_dim, 0, "k_rope");
    return qc_build_latent_kv(g->b, latent, key, "kv_latent");
}

void qc_hf_latent_build(qc_hf_graph *g, const qc_hf_attention *a, qc_value *x, qc_value *heads[3])
{
    const qc_hf_attention_config *c = &g->state->config.attention;
    heads[0] = build_q(g, a, x);
    qc_value *cached = build_cached(g, a, x);
    if (a->kv_group)
        cached = build_codes(g, a, cached);
    qc_value *latent = columns(g, cached, 0, c->kv_rank, "latent");
    latent = qc_build_merge_heads(g->b, latent, "latent");
    qc_value *kv = qc_hf_build_linear(g, &a->kv_b, latent, "kv");
    qc_builder_set_node(g->b, a->node);
    kv = qc_build_split_heads(g->b, kv, c->heads, "kv");
    qc_value *key = columns(g, cached, c->kv_rank, c->kv_rank + c->rope_dim, "k_rope");
    key = qc_build_repeat_heads(g->b, key, c->heads, "k_rope");
    heads[1] = beside(g, columns(g, kv, 0, c->nope_dim, "k_nope"), key, "k");
    heads[2] = columns(g, kv, c->nope_dim, c->nope_dim + c->value_dim, "v");
}
