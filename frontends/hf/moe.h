/* SPDX-License-Identifier: MIT
 *
 * moe.h - layers of experts in the place of an MLP: what an architecture says of them (rule), what config.json says
 * (config), their part of the module tree, and their part of the graph.
 *
 * moe.c reads the configuration, moe_tree.c makes the tree and decides by the files how the experts are stored,
 * moe_graph.c builds routers and shared experts, experts.c the experts, experts_coded.c experts that are codes.
 */
#ifndef QC_FRONTENDS_HF_MOE_H
#define QC_FRONTENDS_HF_MOE_H

#include "frontends/hf/mlp.h"
#include "ir/support/diag.h"
#include "ir/support/json.h"

/* How a router makes ids and weights of its logits. */
typedef enum qc_hf_routing {
    QC_HF_ROUTING_SOFTMAX,     /* the largest of a softmax over all experts */
    QC_HF_ROUTING_TOP_SOFTMAX, /* the largest logits, then a softmax over those */
    QC_HF_ROUTING_TOP_SIGMOID, /* the largest logits, then the sigmoid of each */
    QC_HF_ROUTING_GROUPED_SIGMOID, /* sigmoids; the best groups by sigmoid + correction, the best experts in those */
} qc_hf_routing;

/* Which layers have experts. */
typedef enum qc_hf_moe_where {
    QC_HF_MOE_EVERY_LAYER,
    QC_HF_MOE_BY_SPARSE_STEP, /* decoder_sparse_step, but for mlp_only_layers */
    QC_HF_MOE_BY_INTERLEAVE,  /* moe_layers; without it interleave_moe_layer_step */
    QC_HF_MOE_BEHIND_DENSE,   /* from first_k_dense_replace on */
} qc_hf_moe_where;

/* How wide the shared expert is. */
typedef enum qc_hf_shared {
    QC_HF_SHARED_NONE,
    QC_HF_SHARED_BY_KEY,   /* shared_expert_intermediate_size */
    QC_HF_SHARED_AS_ONE,   /* as an expert */
    QC_HF_SHARED_AS_COUNT, /* as n_shared_experts experts */
} qc_hf_shared;

/* What an architecture's row says; rows of dense models have none. */
typedef struct qc_hf_moe_rule {
    /* Modules: names in the layer, and classes. */
    const char *blocks[2]; /* the second: as other writers call it; NULL: none */
    const char *block_class, *router, *router_class, *experts_class, *expert_class;
    const char *shared;      /* NULL: no shared expert */
    const char *shared_gate; /* NULL: the shared expert is added as it is */
    bool experts_first;      /* in the tree: before the router */
    /* Arithmetic. */
    qc_hf_routing routing;
    bool always_normalized; /* weights of the chosen experts add up to 1, whatever norm_topk_prob says */
    bool wide_weights;      /* they stay in f32 */
    bool scores_input;      /* they scale what goes into an expert, not what comes out */
    bool clamped;           /* the gate is that of gpt-oss */
    bool router_bias, bias;
    /* Experts in one tensor. */
    bool transposed;  /* [experts, in, out] */
    bool either_way;  /* that, or [experts, out, in]: the shapes tell */
    bool interleaved; /* gate and up by turns; else gate before up */
    /* Numbers. */
    qc_hf_moe_where where;
    qc_hf_shared sharing;
    const char *intermediate_key, *dense_key;
    const char *const *keys; /* of config.json that are read besides; NULL behind the last */
    int64_t experts, top_k, intermediate, dense, shared_intermediate, groups, top_groups, first_dense;
    double scaling;
    bool normalized;
} qc_hf_moe_rule;

extern const qc_hf_moe_rule qc_hf_moe_mixtral, qc_hf_moe_qwen2, qc_hf_moe_qwen3, qc_hf_moe_qwen3_vl,
    qc_hf_moe_llama4, qc_hf_moe_gpt_oss, qc_hf_moe_deepseek_v3, qc_hf_moe_glm4;

/* What config.json says, defaults filled in. */
typedef struct qc_hf_moe_config {
    int64_t experts; /* 0: no layer has any */
    int64_t top_k, intermediate;
    int64_t shared;             /* inner columns of the shared expert; 0: none */
    int64_t dense;              /* of the MLP in a layer without experts */
    int64_t groups, top_groups; /* grouped routing: of how many, and how many of them are searched */
    bool normalized;
    double scaling;          /* of the weights */
    const bool *layers;      /* one a layer */
    int64_t next;            /* layers behind the last that predict further tokens, and take no part */
    const char *experts_key; /* that gave `experts` */
} qc_hf_moe_config;

enum { QC_HF_GATE, QC_HF_UP, QC_HF_DOWN, QC_HF_EXPERT_PARTS };

/* How a checkpoint stores the experts of a layer. */
typedef enum qc_hf_experts_layout {
    QC_HF_EXPERTS_EACH,  /* tensors of their own, as numbers or codes */
    QC_HF_EXPERTS_FUSED, /* gate_up_proj and down_proj of all */
    QC_HF_EXPERTS_MXFP4, /* the same in blocks of MXFP4, [experts, out, in] */
} qc_hf_experts_layout;

/* The modules of one layer's experts. */
typedef struct qc_hf_moe {
    qc_node *node, *router, *experts;
    qc_node *activation; /* NULL: the gate has no module of its own */
    qc_hf_experts_layout layout;
    bool transposed;                        /* tensors of all are [experts, in, out] */
    const char *const *names;               /* of gate, up and down, where each expert has tensors */
    qc_hf_linear parts[QC_HF_EXPERT_PARTS]; /* there: those of expert 0, which stand for all */
    qc_hf_mlp shared;
    qc_hf_linear shared_gate;
} qc_hf_moe;

/* Fills config->moe; needs arch, hidden and layers. Nothing to do where the row has no rule. */
qc_status qc_hf_moe_config_read(qc_diag *diag, qc_arena *arena, const qc_json *root, qc_hf_config *config);

/* Do the experts of this architecture read the key? */
bool qc_hf_moe_reads_key(const qc_hf_config *config, const char *key);

/* Has this layer experts in the place of its MLP? */
bool qc_hf_moe_layer(const qc_hf_config *config, int64_t index);

/* Name and inner columns of the MLP in a layer without experts. */
const char *qc_hf_moe_dense_name(const qc_hf_config *config);
const char *qc_hf_moe_dense_key(const qc_hf_config *config);
int64_t qc_hf_moe_dense_size(const qc_hf_config *config);

/* Makes the nodes of layer->moe below layer->node and checks their tensors. */
void qc_hf_moe_tree(qc_hf_state *state, qc_hf_layer *layer, int64_t index);

/* Takes the layers for next-token prediction out of the strangers: they are kept, or left out where they are codes and
 * everything else becomes numbers. */
void qc_hf_moe_own_next(qc_hf_state *state);

/* The output of the experts for x [B, S, hidden]. */
qc_value *qc_hf_moe_build(qc_hf_graph *graph, const qc_hf_layer *layer, int64_t index, qc_value *x);

/* A constant f32[1]. */
qc_value *qc_hf_build_number(qc_hf_graph *graph, double value, const char *hint);

/* The output of the chosen experts, [B, S, hidden], for their ids and weights [B, S, k]. */
qc_value *qc_hf_experts_build(
    qc_hf_graph *graph, const qc_hf_moe *moe, qc_value *x, qc_value *ids, qc_value *weights);

/* experts_coded.c: the bank [experts, out, in] that codes of each expert, or of all in blocks of MXFP4, stand for. */
qc_value *qc_hf_build_coded_bank(qc_hf_graph *graph, const qc_hf_moe *moe, int part);
qc_value *qc_hf_build_mxfp4_bank(qc_hf_graph *graph, const qc_hf_moe *moe, int part);
/* Rows of experts through codes and back, as the scheme of that part says; NULL after a diagnostic. */
qc_value *qc_hf_build_coded_rows(
    qc_hf_graph *graph, const qc_hf_moe *moe, int part, qc_value *x, qc_value *rows);

#endif
