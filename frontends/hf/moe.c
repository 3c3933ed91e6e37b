/* SPDX-License-Identifier: MIT
 *
 * moe.c - layers of experts. No row of the table has a rule for them: every layer has its MLP.
 */
#include "frontends/hf/moe.h"

#include "frontends/hf/import.h"

qc_status qc_hf_moe_config_read(qc_diag *diag, qc_arena *arena, const qc_json *root, qc_hf_config *config)
{
    (void)arena;
    (void)root;
    if (config->arch->moe)
        return qc_error(
            diag, config->path, "the experts of %s are not supported", config->arch->info.architecture);
    return QC_OK;
}

bool qc_hf_moe_reads_key(const qc_hf_config *config, const char *key)
{
    (void)config;
    (void)key;
    return false;
}

bool qc_hf_moe_layer(const qc_hf_config *config, int64_t index)
{
    return config->moe.experts > 0 && index >= 0;
}

void qc_hf_moe_tree(qc_hf_state *s, qc_hf_layer *layer, int64_t index)
{
    (void)index;
    qc_hf_tensor_error(s, NULL, qc_arena_printf(s->arena, "%s has no experts", qc_node_path(layer->node)));
}

qc_value *qc_hf_moe_build(qc_hf_graph *g, const qc_hf_layer *layer, int64_t index, qc_value *x)
{
    (void)g;
    (void)layer;
    (void)index;
    return x;
}
