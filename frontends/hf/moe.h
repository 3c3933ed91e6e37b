/* SPDX-License-Identifier: MIT
 *
 * moe.h - layers of experts in the place of an MLP: what an architecture says of them (rule), what config.json says
 * (config), their part of the module tree, and their part of the graph.
 */
#ifndef QC_FRONTENDS_HF_MOE_H
#define QC_FRONTENDS_HF_MOE_H

#include "frontends/hf/mlp.h"
#include "ir/support/diag.h"
#include "ir/support/json.h"

/* What an architecture's row says; rows of dense models have none. */
typedef struct qc_hf_moe_rule qc_hf_moe_rule;

/* What config.json says, defaults filled in. */
typedef struct qc_hf_moe_config {
    int64_t experts; /* 0: no layer has any */
} qc_hf_moe_config;

/* The modules of one layer's experts. */
typedef struct qc_hf_moe {
    qc_node *node;
} qc_hf_moe;

/* Fills config->moe; needs arch, hidden and layers. Nothing to do where the row has no rule. */
qc_status qc_hf_moe_config_read(qc_diag *diag, qc_arena *arena, const qc_json *root, qc_hf_config *config);

/* Do the experts of this architecture read the key? */
bool qc_hf_moe_reads_key(const qc_hf_config *config, const char *key);

/* Has this layer experts in the place of its MLP? */
bool qc_hf_moe_layer(const qc_hf_config *config, int64_t index);

/* Makes the nodes of layer->moe below layer->node and checks their tensors. */
void qc_hf_moe_tree(qc_hf_state *state, qc_hf_layer *layer, int64_t index);

/* The output of the experts for x [B, S, hidden]. */
qc_value *qc_hf_moe_build(qc_hf_graph *graph, const qc_hf_layer *layer, int64_t index, qc_value *x);

#endif
