/* SPDX-License-Identifier: MIT
 *
 * graph.h - a graph in the making, and what its parts are built with; shared by attention, MLP and experts. Each op is
 * put at the module that computes it, and weights stand right before their use.
 */
#ifndef QC_FRONTENDS_HF_GRAPH_H
#define QC_FRONTENDS_HF_GRAPH_H

#include "frontends/hf/import.h"

/* What all ops need. */
struct qc_hf_graph {
    qc_hf_state *state;
    qc_ctx *ctx;
    qc_builder *b;
    const char *dtype; /* name of D */
    qc_hf_attention_graph attention;
    qc_hf_rotated rotated;
};

/* A stored tensor in D: Transformers rounds to D what is stored in another type. */
qc_value *qc_hf_build_parameter(qc_hf_graph *graph, const char *tensor, const char *hint);
/* The same of a node's tensor. */
qc_value *qc_hf_build_node_parameter(
    qc_hf_graph *graph, const qc_node *node, const char *short_name, const char *hint);
/* The architecture's RMSNorm; leaves the builder at `node`. */
qc_value *qc_hf_build_norm(qc_hf_graph *graph, qc_node *node, qc_value *x, const char *hint);
/* x through a linear layer, its codes and rotations included; leaves the builder at its node. */
qc_value *qc_hf_build_linear(qc_hf_graph *graph, const qc_hf_linear *linear, qc_value *x, const char *hint);
/* x, or x as a transform of the checkpoint rotates it at this location of the node. */
qc_value *qc_hf_build_rotated(qc_hf_graph *graph, const qc_node *node, const char *location,
    int64_t dimension, qc_value *x, const char *hint);

#endif
