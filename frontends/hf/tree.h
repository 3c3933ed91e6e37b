/* SPDX-License-Identifier: MIT
 *
 * tree.h - what the parts of the module tree are made of; shared by attention, MLP and experts. Every module of
 * Transformers' class tree is a node with Transformers' class name: targets and ignore lists of schemes mean them.
 */
#ifndef QC_FRONTENDS_HF_TREE_H
#define QC_FRONTENDS_HF_TREE_H

#include "frontends/hf/import.h"

/* The node NAME below `parent` (NULL: the root). */
qc_node *qc_hf_tree_node(qc_hf_state *state, const qc_node *parent, const char *name, const char *class_name);
/* The same, of the class that is the architecture's prefix with this suffix: "Llama" + "Attention". */
qc_node *qc_hf_tree_classed(
    qc_hf_state *state, const qc_node *parent, const char *name, const char *class_suffix);
/* A linear layer, its weight as numbers or codes, and its bias; `keys` of config.json are where the sizes come from. */
qc_hf_linear qc_hf_tree_linear(qc_hf_state *state, const qc_node *parent, const char *name, int64_t out,
    int64_t in, bool bias, const char *keys);
/* An RMSNorm of the architecture over `size` columns, with its weight. */
qc_node *qc_hf_tree_norm(
    qc_hf_state *state, const qc_node *parent, const char *name, int64_t size, const char *key);
/* Is there a weight of this name, as it is or as packed codes? */
bool qc_hf_is_stored(const qc_hf_state *state, const char *tensor);
/* Lists a tensor that need not be there, and takes it out of the strangers. */
void qc_hf_tree_own_if_there(qc_hf_state *state, qc_node *node, const char *short_name);

#endif
