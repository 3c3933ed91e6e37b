/* SPDX-License-Identifier: MIT
 *
 * mlp.c - the dense MLP: down(act(gate(x)) * up(x)), in D after each step as Transformers rounds.
 */
#include "frontends/hf/mlp.h"

#include "frontends/hf/graph.h"
#include "frontends/hf/tree.h"
#include "qc/ops.h"

void qc_hf_mlp_tree(
    qc_hf_state *s, const qc_node *parent, const char *name, int64_t intermediate, qc_hf_mlp *mlp)
{
    const qc_hf_config *c = &s->config;
    const char *up_keys = "intermediate_size, hidden_size", *down_keys = "hidden_size, intermediate_size";
    mlp->node = qc_hf_tree_classed(s, parent, name, "MLP");
    mlp->gate = qc_hf_tree_linear(s, mlp->node, "gate_proj", intermediate, c->hidden, c->mlp_bias, up_keys);
    mlp->up = qc_hf_tree_linear(s, mlp->node, "up_proj", intermediate, c->hidden, c->mlp_bias, up_keys);
    mlp->down = qc_hf_tree_linear(s, mlp->node, "down_proj", c->hidden, intermediate, c->mlp_bias, down_keys);
    mlp->activation = qc_hf_tree_node(s, mlp->node, "act_fn", "SiLUActivation");
}

qc_value *qc_hf_mlp_build(qc_hf_graph *g, const qc_hf_mlp *mlp, qc_value *x)
{
    qc_value *gate = qc_hf_build_linear(g, &mlp->gate, x, "gate");
    qc_builder_set_node(g->b, mlp->activation);
    gate = qc_build_silu(g->b, gate, "gate");
    qc_value *up = qc_hf_build_linear(g, &mlp->up, x, "up");
    qc_builder_set_node(g->b, mlp->node);
    return qc_hf_build_linear(g, &mlp->down, qc_build_mul(g->b, gate, up, "m"), "down");
}
