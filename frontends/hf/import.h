/* SPDX-License-Identifier: MIT
 *
 * import.h - one import in progress, shared by the steps: config.c reads the numbers, tree.c makes the module
 * tree and checks every tensor against them, quantized.c reads the schemes of a quantized checkpoint, transforms.c its
 * rotations, graph.c builds the function.
 */
#ifndef QC_FRONTENDS_HF_IMPORT_H
#define QC_FRONTENDS_HF_IMPORT_H

#include "frontends/hf/config.h"
#include "ir/support/safetensors.h"
#include "qc/build.h"

/* One side of a quantized layer: what its codes are and how they are scaled; the fields of a part of a scheme. */
typedef struct qc_hf_args {
    bool present;
    qc_dtype code;
    const char *granularity; /* "tensor", "head", "token", "channel", "group", "block" */
    int64_t group, block[2]; /* 0: none */
    bool symmetric, dynamic, global;
    qc_dtype scale;               /* QC_DTYPE_NONE: that of the model */
    const char *observer;         /* NULL when all scales are dynamic */
    const qc_attr *observer_args; /* NULL: none */
    const char *search;           /* of local scales, as qc writes it; NULL: none */
    const char *actorder;         /* NULL: none */
} qc_hf_args;

/* How the codes of a weight lie in its tensor. */
typedef enum qc_hf_storage {
    QC_HF_STORAGE_NONE,
    QC_HF_STORAGE_PLAIN,   /* `weight`: a byte each */
    QC_HF_STORAGE_NIBBLES, /* `weight_packed`: two to a byte */
    QC_HF_STORAGE_WORDS,   /* `weight_packed`: a stream of bits over 32-bit words */
} qc_hf_storage;

/* A config group of quantization_config, or its kv_cache_scheme. */
struct qc_hf_group {
    const char *symbol, *kind; /* kind: "scheme" or "kv_scheme" */
    const char **targets;
    size_t target_count;
    const char *format; /* NULL: that of the whole */
    qc_hf_storage storage;
    const char *scale_name; /* short name of the tensor of scales */
    qc_hf_args weights, input;
};

/* One place of a rotation in transform_config. */
typedef struct qc_hf_place {
    const char *location;
    bool inverse, online; /* online: of the model at work */
    const char **targets, **ignore;
    size_t target_count, ignore_count;
} qc_hf_place;

typedef struct qc_hf_matrix {
    int64_t size, drawn;
    bool stored;
} qc_hf_matrix;

typedef struct qc_hf_transform {
    const char *name;
    bool known, random, online; /* known: hadamard or random-hadamard; online: some place is */
    int64_t head_dim;           /* size of the matrix; 0: the whole side */
    const char *precision;      /* "float64" */
    qc_hf_place *places;
    size_t place_count;
    /* Sizes of its matrices, as modules ask for them, and the signs that a generator gave to those before. */
    QC_VEC(qc_hf_matrix) matrices;
} qc_hf_transform;

typedef struct qc_hf_quantization {
    const char *format; /* NULL: none is given */
    qc_hf_group *groups;
    size_t group_count;
    const char **ignore;
    size_t ignore_count;
    qc_hf_group *kv; /* NULL: none */
    bool fp8;        /* groups[0] are FP8 blocks as DeepSeek stores them: who has a scale belongs to it */
    bool
        mxfp4; /* groups[0] are experts in blocks of MXFP4 as gpt-oss stores them: who is stored so belongs to it */
    const char *words; /* what it is, for people; NULL: not quantized */
    qc_hf_transform *transforms;
    size_t transform_count;
} qc_hf_quantization;

struct qc_hf_layer {
    qc_node *node, *norms[QC_HF_NORM_PLACES]; /* NULL: none there */
    qc_hf_attention attention;
    qc_hf_mlp mlp;
    qc_hf_moe moe; /* in the place of mlp where qc_hf_moe_layer() */
};

typedef struct qc_hf_model {
    const char *path, *head_path; /* of the modules model and head */
    qc_node *root, *model, *embedding, *norm;
    const char *embedding_tensor, *head_tensor; /* one name when tied */
    qc_hf_layer *layers;
    qc_hf_linear head, table; /* table: the embedding */
} qc_hf_model;

struct qc_hf_state {
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
};

/* Reads config.quantization into state->quantization; refuses by name what is not supported. */
qc_status qc_hf_quantization_read(qc_hf_state *state);
/* The group that a node belongs to, or NULL: groups that name it by path or pattern before those that name
 * its class; ignored nodes belong to none. */
const qc_hf_group *qc_hf_group_of(const qc_hf_state *state, const qc_node *node);
/* An IR symbol out of a group's name: letters, digits and '_' stay, all else becomes '_'. */
const char *qc_hf_symbol_of(qc_arena *arena, const char *name);
/* Adds the schemes that layers use to the module. */
qc_status qc_hf_quantization_symbols(qc_hf_state *state);

/* Does a tensor of this short name only say how to read codes, or go with quantized activations? Then it is of no use once
 * the codes are numbers. */
bool qc_hf_is_scale_name(const char *short_name);

/* What a tensor should be. */
typedef struct qc_hf_expectation {
    int rank;
    int64_t shape[4];
    qc_dtype code;    /* the exact element type; QC_DTYPE_NONE: bf16, f16 or f32 */
    const char *keys; /* of config.json, that the shape comes from */
} qc_hf_expectation;

/* Counts a wrong tensor (NULL: a missing one) and reports the first. */
void qc_hf_tensor_error(qc_hf_state *state, const qc_st_tensor *tensor, const char *what);
/* QC_ERROR when there were any, with a note on how many. */
qc_status qc_hf_tensor_errors(qc_hf_state *state);
/* Checks the tensor of a node and lists it there; when dequantizing, codes as the weight they stand for, scales not. */
void qc_hf_own_tensor(
    qc_hf_state *state, qc_node *node, const char *short_name, const qc_hf_expectation *expectation);

/* coded.c: the tensors of a layer whose weight is codes, and the ops that make numbers of them. */
void qc_hf_own_codes(qc_hf_state *state, const qc_hf_linear *linear, const char *keys);
/* A stored tensor in its own element type, or converted exactly to a wider D. */
qc_value *qc_hf_build_stored(
    qc_hf_state *state, qc_builder *b, const char *tensor, qc_dtype *dtype, const char *hint);
/* A static scale of q, k or v [1] or [heads, 1, 1], as a constant of D. NULL after a diagnostic, as below. */
qc_value *qc_hf_build_scale(
    qc_hf_state *state, qc_builder *b, const char *tensor, int64_t heads, const char *hint);
/* Scales of 1.0 for a checkpoint that has none, as a constant of D: shape [1], or [heads, 1, columns] where heads > 0. */
qc_value *qc_hf_build_unit_scale(
    qc_hf_state *state, qc_builder *b, int64_t heads, int64_t columns, const char *hint);
/* A global scale, as a constant f32[1]. */
qc_value *qc_hf_build_global_scale(qc_hf_state *state, qc_builder *b, const char *tensor, const char *hint);
qc_value *qc_hf_build_coded_weight(qc_hf_state *state, qc_builder *b, const qc_hf_linear *linear);
/* x through its codes and back, as the layer's scheme says; x itself where it says nothing. */
qc_value *qc_hf_build_coded_input(qc_hf_state *state, qc_builder *b, const qc_hf_linear *linear, qc_value *x);

/* transforms.c: reads transform_config, which may be NULL; takes the stored matrices out of the strangers; compares them,
 * once the graph is built; adds the symbols; rotates x [..., dimension] where a transform is at that location of the node:
 * x itself where none is, NULL after a diagnostic. */
qc_status qc_hf_transforms_read(qc_hf_state *state, const char *where, const qc_json *object);
void qc_hf_transforms_own(qc_hf_state *state);
qc_status qc_hf_transforms_check(qc_hf_state *state);
qc_status qc_hf_transforms_symbols(qc_hf_state *state);
typedef struct qc_hf_rotated { /* the last one built: linears that read one value share its rotation */
    const qc_value *x;
    const qc_hf_place *place;
    qc_value *result;
} qc_hf_rotated;
qc_value *qc_hf_build_rotation(qc_hf_state *state, qc_builder *b, const qc_node *node, const char *location,
    int64_t dimension, qc_value *x, qc_hf_rotated *last, const char *hint);
/* What keys are centered by, [heads, 1, size], as a constant of D. NULL after a diagnostic. */
qc_value *qc_hf_build_center(qc_hf_state *state, qc_builder *b, const char *tensor, const char *hint);

/* Adds the node, under the name that Transformers has for it, too, where a graph is made (alias.h). Modules of tensors
 * have names of tensors alone. */
qc_node *qc_hf_named_node(qc_hf_state *state, const char *path, const char *class_name);
/* Makes the module tree and checks every tensor that the graph will read. */
qc_status qc_hf_tree_build(qc_hf_state *state);
/* Makes @main. */
qc_status qc_hf_graph_build(qc_hf_state *state);

/* tensors.c: the name behind the last dot. */
const char *qc_hf_short_name(const char *tensor);
/* NAME.weight of two dimensions, with elements, bf16, f16 or f32, and no norm's. */
bool qc_hf_is_matrix(const qc_st_tensor *tensor);
/* The node of a path, with all nodes above it; new ones are a Linear where a matrix belongs to them. */
qc_node *qc_hf_add_path(qc_hf_state *state, const char *path);
/* Tree and @main of a module of tensors. */
qc_status qc_hf_tensors_build(qc_hf_state *state);
/* `import @import {mode = MODE, dequantized = WORDS}`; `dequantized` may be NULL. */
void qc_hf_import_symbol(qc_hf_state *state, const char *mode, const char *dequantized);

#endif
