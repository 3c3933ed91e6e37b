/* SPDX-License-Identifier: MIT
 *
 * linear.h - a linear layer of the model as the steps of an import hand it on: tree.c finds it, graph.c builds it.
 */
#ifndef QC_FRONTENDS_HF_LINEAR_H
#define QC_FRONTENDS_HF_LINEAR_H

#include "qc/ir.h"

typedef struct qc_hf_group qc_hf_group;
typedef struct qc_hf_state qc_hf_state;
typedef struct qc_hf_graph qc_hf_graph;
typedef struct qc_hf_config qc_hf_config;
typedef struct qc_hf_layer qc_hf_layer;

/* A linear layer, or the embedding: out is the vocabulary then. */
typedef struct qc_hf_linear {
    qc_node *node;
    int64_t out, in;
    bool bias;
    const qc_hf_group *group; /* NULL: not quantized */
    const qc_node *weights;   /* the module that stores the codes; NULL: its own */
} qc_hf_linear;

#endif
