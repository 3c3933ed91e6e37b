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
    QC_HF_BIAS_BY_ATTENTION_BIAS,     /* as the key attention_bias says; absent: false */
    QC_HF_BIAS_UNLESS_ATTENTION_BIAS, /* as the key attention_bias says; absent: true */
    QC_HF_BIAS_UNLESS_QKV_BIAS,       /* as the key qkv_bias says; absent: true */
} qc_hf_bias;

/* How q, k and v come about. */
typedef enum qc_hf_projection {
    QC_HF_PROJECTION_APART,  /* q_proj, k_proj, v_proj */
    QC_HF_PROJECTION_FUSED,  /* qkv_proj: the rows of q, then of k, then of v */
    QC_HF_PROJECTION_LATENT, /* multi-head latent attention (DeepSeek), mla.c */
} qc_hf_projection;

/* What norms q and k. */
typedef enum qc_hf_qk_norm {
    QC_HF_QK_NORM_NONE,
    QC_HF_QK_NORM_HEADS,          /* each head, before RoPE */
    QC_HF_QK_NORM_HEADS_IF_ASKED, /* the same where use_qk_norm is true; absent: false */
    QC_HF_QK_NORM_WHOLE,          /* all heads together, before RoPE */
    QC_HF_QK_NORM_L2_UNLESS, /* each head, without a weight, behind RoPE, in layers with RoPE, unless use_qk_norm is false */
} qc_hf_qk_norm;

/* Which layers do not see all that was before. */
typedef enum qc_hf_windowing {
    QC_HF_WINDOWING_NEVER,
    QC_HF_WINDOWING_EVERY_LAYER,         /* all of them when sliding_window is a number */
    QC_HF_WINDOWING_EVERY_LAYER_IF_USED, /* the same, if use_sliding_window */
    QC_HF_WINDOWING_BY_LAYER_TYPES, /* layer_types; else from max_window_layers on if use_sliding_window */
    QC_HF_WINDOWING_EVEN_IF_USED, /* layer_types; else even ones below max_window_layers if use_sliding_window */
    QC_HF_WINDOWING_BY_PATTERN, /* layer_types; else all but every window_pattern-th */
    /* Llama 4: no_rope_layers says which layers have RoPE. Those see chunks of attention_chunk_size; the others scale q
     * with its position, unless attn_temperature_tuning is false. */
    QC_HF_WINDOWING_CHUNKED,
} qc_hf_windowing;

/* What scores are multiplied by. */
typedef enum qc_hf_score_scale {
    QC_HF_SCORE_SCALE_BY_HEAD_DIM,              /* head_dim^-0.5 */
    QC_HF_SCORE_SCALE_BY_QUERY_PRE_ATTN_SCALAR, /* of that key; absent: 256 */
    QC_HF_SCORE_SCALE_BY_ATTENTION_MULTIPLIER,  /* that key; absent: 1 */
} qc_hf_score_scale;

/* What an architecture's row says. */
typedef struct qc_hf_attention_rule {
    qc_hf_projection projection;
    qc_hf_bias qkv_bias, o_bias;
    qc_hf_qk_norm qk_norm;
    qc_hf_windowing windowing;
    qc_hf_score_scale scale;
    qc_hf_rope_rule rope;
    bool softcap; /* attn_logit_softcapping; absent: 50, null: none */
    bool sinks;   /* a score for each head that takes a share and gives no value */
    /* Defaults. */
    int64_t heads;
    int64_t kv_heads;          /* 0: as many as heads */
    int64_t head_dim;          /* 0: hidden / heads, also for null; else null is an error */
    int64_t sliding_window;    /* 0: none */
    int64_t max_window_layers; /* 0: 28 */
    int64_t window_pattern;    /* by pattern: 2 is fixed, others are the default of sliding_window_pattern */
} qc_hf_attention_rule;

/* What one layer sees. */
typedef struct qc_hf_attention_span {
    int64_t window, chunk; /* 0: none */
    int rope;              /* index of config->attention.ropes; -1: positions are not told */
} qc_hf_attention_span;

/* What config.json says, defaults filled in. */
typedef struct qc_hf_attention_config {
    int64_t heads, kv_heads;
    int64_t head_dim;                            /* of q and k */
    int64_t value_dim;                           /* of v */
    bool qkv_bias, o_bias, qk_norm, interleaved; /* interleaved: RoPE turns neighbours */
    double score_scale;
    double softcap; /* 0: none */
    double temperature,
        floor_scale; /* temperature 0: q is not scaled; else log(1 + floor((position + 1) / floor_scale)) * temperature + 1 */
    const qc_hf_attention_span *spans; /* one a layer */
    qc_hf_rope ropes[2];               /* [1]: of sliding layers where those have their own */
    /* Latent attention: columns of the latents (q_rank 0: q is projected at once), and of the two parts of q and k. */
    int64_t q_rank, kv_rank, nope_dim, rope_dim;
} qc_hf_attention_config;

/* The modules of one layer's attention. */
typedef struct qc_hf_attention {
    qc_node *node, *q_norm, *k_norm, *l2_norm;
    qc_hf_linear q, k, v, o;
    qc_hf_linear qkv;             /* fused projection, in the place of q, k and v */
    qc_hf_linear q_a, kv_a, kv_b; /* latent attention; q_b or q_proj is q */
    qc_node *q_a_norm, *kv_a_norm;
    const qc_hf_group *group;    /* q, k and v are codes */
    const qc_hf_group *kv_group; /* k and v are codes; never together with group */
    bool unit_scales;            /* of kv_group: none are stored, and 1.0 is taken */
} qc_hf_attention;

/* What the attention of all layers shares in a graph. */
typedef struct qc_hf_attention_graph {
    qc_value *positions;
    const qc_attr *scalings[2]; /* of config->attention.ropes; NULL: none */
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

/* x [B, heads, S, size] turned by config->attention.ropes[rope], at the current node. */
qc_value *qc_hf_build_rope(qc_hf_graph *graph, qc_value *x, int64_t size, int rope, const char *hint);

/* mla.c: the modules of latent attention; and q, k and v in heads out of x [B, S, hidden]. */
void qc_hf_latent_tree(qc_hf_state *state, qc_hf_attention *attention);
void qc_hf_latent_build(
    qc_hf_graph *graph, const qc_hf_attention *attention, qc_value *x, qc_value *heads[3]);

/* The output of o_proj for x [B, S, hidden]. */
qc_value *qc_hf_attention_build(qc_hf_graph *graph, const qc_hf_layer *layer, int64_t index, qc_value *x);

#endif
