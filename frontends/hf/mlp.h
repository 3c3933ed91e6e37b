/* SPDX-License-Identifier: MIT
 *
 * mlp.h - the dense MLP of a decoder layer: down(act(gate(x)) * up(x)).
 */
#ifndef QC_FRONTENDS_HF_MLP_H
#define QC_FRONTENDS_HF_MLP_H

#include "frontends/hf/linear.h"
#include "ir/support/diag.h"
#include "ir/support/json.h"

/* When a linear layer of the MLP has a bias, how its modules are called, and which keys of config.json speak of it. */
typedef struct qc_hf_mlp_rule {
    bool bias_key; /* mlp_bias says whether the linears have biases; else they have none */
    bool fused; /* gate_up_proj in the place of gate_proj and up_proj: the rows of gate, then those of up */
    const char *class_name;         /* NULL: the prefix and MLP */
    const char *activation;         /* name of the module; NULL: act_fn */
    const char *activation_key;     /* NULL: hidden_act */
    const char *activation_default; /* NULL: silu */
} qc_hf_mlp_rule;

/* The function between gate and up, and the class of its module. */
typedef enum qc_hf_activation {
    QC_HF_ACTIVATION_SILU,
    QC_HF_ACTIVATION_GELU_TANH,
} qc_hf_activation;

typedef struct qc_hf_mlp_config {
    qc_hf_activation activation;
    bool bias;
} qc_hf_mlp_config;

typedef struct qc_hf_mlp {
    qc_node *node, *activation;
    qc_hf_linear gate, up, down;
    qc_hf_linear gate_up; /* in the place of gate and up where its node is there */
    int64_t intermediate;
} qc_hf_mlp;

/* Fills config->mlp; needs arch. */
qc_status qc_hf_mlp_config_read(qc_diag *diag, const qc_json *root, qc_hf_config *config);

/* Does the MLP of this architecture read the key? */
bool qc_hf_mlp_reads_key(const qc_hf_config *config, const char *key);

/* "SiLUActivation": the class of the activation's module. */
const char *qc_hf_activation_class(const qc_hf_config *config);

/* The activation of x, at the current node. */
qc_value *qc_hf_activation_build(qc_hf_graph *graph, qc_value *x, const char *hint);

/* Makes the nodes of an MLP of this many inner columns below `parent` and checks their tensors. `key`: what of config.json
 * says how many. */
void qc_hf_mlp_tree(qc_hf_state *state, const qc_node *parent, const char *name, int64_t intermediate,
    const char *key, qc_hf_mlp *mlp);

/* The output of down_proj for x [..., hidden]. */
qc_value *qc_hf_mlp_build(qc_hf_graph *graph, const qc_hf_mlp *mlp, qc_value *x);

#endif
