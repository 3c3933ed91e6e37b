/* SPDX-License-Identifier: MIT
 *
 * import.h - one import in progress, shared by the steps: config.c reads the numbers, tree.c makes the module
 * tree and checks every tensor against them, quantized.c reads the schemes of a quantized checkpoint, graph.c
 * builds the function.
 */
#ifndef QC_FRONTENDS_HF_IMPORT_H
#define QC_FRONTENDS_HF_IMPORT_H

#include "frontends/hf/config.h"
#include "ir/support/safetensors.h"

/* One side of a quantized layer: what its codes are and how they are scaled. */
typedef struct qc_hf_args {
    bool present;
    qc_dtype code;           /* QC_F8E4M3 or QC_I8 */
    const char *granularity; /* "tensor", "head", "token", "channel" */
    bool dynamic;
    const char *observer; /* NULL when dynamic */
} qc_hf_args;

/* A config group of quantization_config, or its kv_cache_scheme. */
typedef struct qc_hf_group {
    const char *symbol, *kind; /* kind: "scheme" or "kv_scheme" */
    const char **targets;
    size_t target_count;
    qc_hf_args weights, input;
} qc_hf_group;

typedef struct qc_hf_quantization {
    qc_hf_group *groups;
    size_t group_count;
    const char **ignore;
    size_t ignore_count;
    qc_hf_group *kv; /* NULL: none */
} qc_hf_quantization;

typedef struct qc_hf_linear {
    qc_node *node;
    int64_t out, in;
    bool bias;
    const qc_hf_group *group; /* NULL: not quantized */
} qc_hf_linear;

typedef struct qc_hf_layer {
    qc_node *node, *input_norm, *attention, *q_norm, *k_norm, *post_norm, *mlp, *activation;
    qc_hf_linear q, k, v, o, gate, up, down;
    const qc_hf_group *attention_group; /* q, k and v are codes */
    const qc_hf_group *kv_group;        /* k and v are codes; never together with attention_group */
} qc_hf_layer;

typedef struct qc_hf_model {
    qc_node *root, *model, *embedding, *norm;
    const char *embedding_tensor, *head_tensor; /* one name when tied */
    qc_hf_layer *layers;
    qc_hf_linear head;
} qc_hf_model;

typedef struct qc_hf_state {
    qc_ctx *ctx;
    qc_diag *diag;
    qc_arena *arena; /* lives until the import ends */
    const char *directory;
    qc_hf_outline outline;
    qc_hf_config config; /* not read for a module of tensors */
    qc_hf_quantization quantization;
    bool dequantize; /* as the options say */
    qc_st_set set;
    qc_dtype dtype; /* D, to compute in */
    qc_module *module;
    qc_hf_model model;
    qc_map owned;       /* names of the tensors that the tree has a place for */
    size_t error_count; /* tensors found wrong; the first is reported, the others are counted */
} qc_hf_state;

/* Reads config.quantization into state->quantization; refuses by name what is not supported. */
qc_status qc_hf_quantization_read(qc_hf_state *state);
/* The group that a node belongs to, or NULL: groups that name it by path or pattern before those that name
 * its class; ignored nodes belong to none. */
const qc_hf_group *qc_hf_group_of(const qc_hf_state *state, const qc_node *node);
/* Adds the schemes that layers use to the module. */
qc_status qc_hf_quantization_symbols(qc_hf_state *state);
/* A scale tensor of `count` finite numbers > 0 as an attribute of element type D; NULL after an error. */
const qc_attr *qc_hf_read_scales(qc_hf_state *state, const char *tensor, size_t count);

/* Makes the module tree and checks every tensor that the graph will read. */
qc_status qc_hf_tree_build(qc_hf_state *state);
/* Makes @main. */
qc_status qc_hf_graph_build(qc_hf_state *state);

/* tensors.c: tree and @main of a module of tensors. */
qc_status qc_hf_tensors_build(qc_hf_state *state);
/* `import @import {mode = MODE, dequantized = WORDS}`; `dequantized` may be NULL. */
void qc_hf_import_symbol(qc_hf_state *state, const char *mode, const char *dequantized);

#endif
