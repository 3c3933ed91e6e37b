/* SPDX-License-Identifier: MIT
 *
 * mlp.c - the dense MLP: down(act(gate(x)) * up(x)), in D after each step as Transformers rounds. Where gate and up are one
 * linear layer (Phi-3, GLM-4), its output is cut in halves: gate, then up.
 */
#include "frontends/hf/mlp.h"

#include "frontends/hf/graph.h"
#include "frontends/hf/tree.h"
#include "qc/ops.h"

/* Activations by their names in Transformers' table (transformers/activations.py), and the classes there. */
static const struct {
    const char *name, *class_name;
} activations[] = {
    [QC_HF_ACTIVATION_SILU] = {"silu", "SiLUActivation"},
    [QC_HF_ACTIVATION_GELU_TANH] = {"gelu_pytorch_tanh", "GELUTanh"},
};

static const char *activation_key(const qc_hf_mlp_rule *rule)
{
    return rule->activation_key ? rule->activation_key : "hidden_act";
}

qc_status qc_hf_mlp_config_read(qc_diag *diag, const qc_json *root, qc_hf_config *config)
{
    const qc_hf_mlp_rule *rule = &config->arch->mlp;
    const char *key = activation_key(rule);
    const char *name = rule->activation_default ? rule->activation_default : "silu";
    if (qc_json_string(diag, config->path, root, key, false, &name) ||
        (rule->bias_key && qc_json_bool(diag, config->path, root, "mlp_bias", false, &config->mlp.bias)))
        return QC_ERROR;
    for (size_t i = 0; i < sizeof activations / sizeof *activations; i++)
        if (strcmp(activations[i].name, name) == 0) {
            config->mlp.activation = (qc_hf_activation)i;
            return QC_OK;
        }
    return qc_error(
        diag, config->path, "%s '%s' is not supported; supported are silu and gelu_pytorch_tanh", key, name);
}

bool qc_hf_mlp_reads_key(const qc_hf_config *config, const char *key)
{
    const qc_hf_mlp_rule *rule = &config->arch->mlp;
    return strcmp(key, activation_key(rule)) == 0 || (rule->bias_key && strcmp(key, "mlp_bias") == 0);
}

const char *qc_hf_activation_class(const qc_hf_config *config)
{
    return activations[config->mlp.activation].class_name;
}

void qc_hf_mlp_tree(qc_hf_state *s, const qc_node *parent, const char *name, int64_t intermediate,
    const char *key, qc_hf_mlp *mlp)
{
    const qc_hf_config *c = &s->config;
    const qc_hf_mlp_rule *rule = &c->arch->mlp;
    const char *up_keys = qc_arena_printf(s->arena, "%s, hidden_size", key),
               *down_keys = qc_arena_printf(s->arena, "hidden_size, %s", key);
    const bool bias = c->mlp.bias;
    mlp->node = rule->class_name ? qc_hf_tree_node(s, parent, name, rule->class_name)
                                 : qc_hf_tree_classed(s, parent, name, "MLP");
    mlp->intermediate = intermediate;
    if (rule->fused) {
        mlp->gate_up = qc_hf_tree_linear(s, mlp->node, "gate_up_proj", 2 * intermediate, c->hidden, bias,
            qc_arena_printf(s->arena, "2 * %s", up_keys));
    } else {
        mlp->gate = qc_hf_tree_linear(s, mlp->node, "gate_proj", intermediate, c->hidden, bias, up_keys);
        mlp->up = qc_hf_tree_linear(s, mlp->node, "up_proj", intermediate, c->hidden, bias, up_keys);
    }
    mlp->down = qc_hf_tree_linear(s, mlp->node, "down_proj", c->hidden, intermediate, bias, down_keys);
    mlp->activation = qc_hf_tree_node(
        s, mlp->node, rule->activation ? rule->activation : "act_fn", qc_hf_activation_class(c));
}

qc_value *qc_hf_activation_build(qc_hf_graph *g, qc_value *x, const char *hint)
{
    if (g->state->config.mlp.activation == QC_HF_ACTIVATION_GELU_TANH)
        return qc_build_gelu_tanh(g->b, x, hint);
    return qc_build_silu(g->b, x, hint);
}

/* Columns [start, stop) of the last dimension; NULL stays NULL. */
static qc_value *columns(qc_hf_graph *g, qc_value *x, int64_t start, int64_t stop, const char *hint)
{
    const qc_type *type = x ? qc_value_type(x) : NULL;
    return type ? qc_build_slice(g->b, x, qc_type_rank(type) - 1, start, stop, 1, hint) : x;
}

qc_value *qc_hf_mlp_build(qc_hf_graph *g, const qc_hf_mlp *mlp, qc_value *x)
{
    qc_value *gate, *up = NULL;
    if (mlp->gate_up.node) {
        qc_value *both = qc_hf_build_linear(g, &mlp->gate_up, x, "gate_up");
        qc_builder_set_node(g->b, mlp->node);
        gate = columns(g, both, 0, mlp->intermediate, "gate");
        up = columns(g, both, mlp->intermediate, 2 * mlp->intermediate, "up");
    } else {
        gate = qc_hf_build_linear(g, &mlp->gate, x, "gate");
    }
    qc_builder_set_node(g->b, mlp->activation);
    gate = qc_hf_activation_build(g, gate, "gate");
    if (!up)
        up = qc_hf_build_linear(g, &mlp->up, x, "up");
    qc_builder_set_node(g->b, mlp->node);
    return qc_hf_build_linear(g, &mlp->down, qc_build_mul(g->b, gate, up, "m"), "down");
}
