/* SPDX-License-Identifier: MIT
 *
 * mlp.h - the dense MLP of a decoder layer: down(act(gate(x)) * up(x)).
 */
#ifndef QC_FRONTENDS_HF_MLP_H
#define QC_FRONTENDS_HF_MLP_H

#include "frontends/hf/linear.h"

typedef struct qc_hf_mlp {
    qc_node *node, *activation;
    qc_hf_linear gate, up, down;
} qc_hf_mlp;

/* Makes the nodes of an MLP of this many inner columns below `parent` and checks their tensors. */
void qc_hf_mlp_tree(
    qc_hf_state *state, const qc_node *parent, const char *name, int64_t intermediate, qc_hf_mlp *mlp);

/* The output of down_proj for x [..., hidden]. */
qc_value *qc_hf_mlp_build(qc_hf_graph *graph, const qc_hf_mlp *mlp, qc_value *x);

#endif
