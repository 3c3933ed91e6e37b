/* SPDX-License-Identifier: MIT
 *
 * attention.h - the attention of a decoder layer: what its architecture says of it (rule), what config.json says
 * (config), its part of the module tree, and its part of the graph.
 */
#ifndef QC_FRONTENDS_HF_ATTENTION_H
#define QC_FRONTENDS_HF_ATTENTION_H

#include "frontends/hf/rope.h"

/* When a linear layer has a bias. */
typedef enum qc_hf_bias {
    QC_HF_BIAS_NEVER,
    QC_HF_BIAS_ALWAYS,
    QC_HF_BIAS_BY_ATTENTION_BIAS, /* as the key attention_bias says; absent: false */
    QC_HF_BIAS_BY_MLP_BIAS,       /* as the key mlp_bias says; absent: false */
} qc_hf_bias;

/* Which layers see no further back than sliding_window tokens. */
typedef enum qc_hf_windowing {
    QC_HF_WINDOWING_NEVER,
    QC_HF_WINDOWING_EVERY_LAYER,    /* all of them when sliding_window is a number */
    QC_HF_WINDOWING_BY_LAYER_TYPES, /* layer_types; else from max_window_layers on if use_sliding_window */
} qc_hf_windowing;

/* What an architecture's row says. */
typedef struct qc_hf_attention_rule {
    qc_hf_bias qkv_bias, o_bias;
    bool head_norms; /* RMSNorm over each head of q and k, before RoPE */
    qc_hf_windowing windowing;
    /* Defaults. */
    int64_t heads;
    int64_t kv_heads; /* 0: as many as heads */
    int64_t head_dim; /* 0: hidden / heads, also for null; else null is an error */
    int64_t sliding_window;
} qc_hf_attention_rule;

/* What config.json says, defaults filled in. */
typedef struct qc_hf_attention_config {
    int64_t heads, kv_heads, head_dim;
    bool qkv_bias, o_bias;
    const int64_t *windows; /* one a layer; 0: none */
    qc_hf_rope rope;
} qc_hf_attention_config;

/* The modules of one layer's attention. */
typedef struct qc_hf_attention {
    qc_node *node, *q_norm, *k_norm;
    qc_hf_linear q, k, v, o;
    const qc_hf_group *group;    /* q, k and v are codes */
    const qc_hf_group *kv_group; /* k and v are codes; never together with group */
    bool unit_scales;            /* of kv_group: none are stored, and 1.0 is taken */
} qc_hf_attention;

/* What the attention of all layers shares in a graph. */
typedef struct qc_hf_attention_graph {
    qc_value *positions;
    const qc_attr *rope_scaling;
    double score_scale;
} qc_hf_attention_graph;

/* Fills config->attention; needs arch, hidden, layers and positions. */
qc_status qc_hf_attention_config_read(
    qc_diag *diag, qc_arena *arena, const qc_json *root, qc_hf_config *config);

/* Does the attention of this architecture read the key? Those that every architecture reads are not asked for. */
bool qc_hf_attention_reads_key(const qc_hf_config *config, const char *key);

/* Makes the nodes of layer->attention below layer->node and checks their tensors. */
void qc_hf_attention_tree(qc_hf_state *state, qc_hf_layer *layer, int64_t index);

/* Warns, once the tree is whole, of layers whose cache has no scales. */
void qc_hf_attention_warn(qc_hf_state *state);

/* Builds what all layers share, at the current node, into graph->attention. */
void qc_hf_attention_begin(qc_hf_graph *graph, qc_value *ids);

/* The output of o_proj for x [B, S, hidden]. */
qc_value *qc_hf_attention_build(qc_hf_graph *graph, const qc_hf_layer *layer, int64_t index, qc_value *x);

#endif
