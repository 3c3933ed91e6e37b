/* SPDX-License-Identifier: MIT
 *
 * tree.c - the module tree of a Llama-like model in the order of PyTorch's named_modules(), and the check of
 * every tensor against the shapes that config.json implies. A tensor without a place in the model stays with
 * the nearest node above it, so that an exporter copies it.
 */
#include "frontends/hf/tree.h"

#include "frontends/hf/alias.h"
#include "ir/support/io.h"

qc_node *qc_hf_named_node(qc_hf_state *s, const char *path, const char *class_name)
{
    const qc_hf_config *c = &s->config;
    qc_node *node = qc_module_add_node(s->module, path, class_name);
    const char *alias =
        s->model.path ? qc_hf_alias(s->arena,
                            c->wrapper ? c->wrapper->info.architecture : c->arch->info.architecture, path)
                      : NULL;
    if (alias)
        qc_node_set_alias(node, alias);
    return node;
}

qc_node *qc_hf_tree_node(qc_hf_state *s, const qc_node *parent, const char *name, const char *class_name)
{
    const char *above = parent ? qc_node_path(parent) : "";
    const char *path = *above ? qc_arena_printf(s->arena, "%s.%s", above, name) : name;
    return qc_hf_named_node(s, path, class_name);
}

qc_node *qc_hf_tree_classed(qc_hf_state *s, const qc_node *parent, const char *name, const char *class_suffix)
{
    return qc_hf_tree_node(
        s, parent, name, qc_arena_printf(s->arena, "%s%s", s->config.arch->prefix, class_suffix));
}

static const char *shape_text(qc_arena *arena, int rank, const int64_t *shape)
{
    const char *text = "";
    for (int i = 0; i < rank; i++)
        text = qc_arena_printf(arena, "%s%s%lld", text, i ? ", " : "", (long long)shape[i]);
    return qc_arena_printf(arena, "[%s]", text);
}

void qc_hf_tensor_error(qc_hf_state *s, const qc_st_tensor *tensor, const char *what)
{
    if (s->error_count++ == 0)
        qc_error(s->diag, tensor ? s->set.files[tensor->file].path : s->directory, "%s", what);
}

qc_status qc_hf_tensor_errors(qc_hf_state *s)
{
    if (s->error_count > 1)
        qc_note(s->diag, "%zu more tensors are missing or do not fit config.json", s->error_count - 1);
    return s->error_count ? QC_ERROR : QC_OK;
}

static bool dtype_fits(qc_dtype dtype, qc_dtype code)
{
    return code ? dtype == code : dtype == QC_BF16 || dtype == QC_F16 || dtype == QC_F32;
}

/* Where weights are FP8 in blocks, those are quantized that have scales: codes without one are read as numbers. */
static bool is_code_without_scale(
    const qc_hf_state *s, const qc_st_tensor *tensor, const qc_hf_expectation *e)
{
    return s->quantization.fp8 && !e->code &&
           qc_dtype_from_safetensors_name(tensor->dtype) == s->quantization.groups[0].weights.code;
}

/* Checks one tensor; false when it is missing. */
static bool check_tensor(qc_hf_state *s, const char *name, const qc_hf_expectation *e)
{
    const qc_st_tensor *tensor = qc_st_find(&s->set, name);
    if (!tensor) {
        qc_hf_tensor_error(s, NULL, qc_arena_printf(s->arena, "tensor %s is missing", name));
        return false;
    }
    if (tensor->rank != e->rank || memcmp(tensor->shape, e->shape, (size_t)e->rank * sizeof *e->shape) != 0)
        qc_hf_tensor_error(s, tensor,
            qc_arena_printf(s->arena, "tensor %s has shape %s, but config.json implies %s (%s)", name,
                shape_text(s->arena, tensor->rank, tensor->shape), shape_text(s->arena, e->rank, e->shape),
                e->keys));
    else if (is_code_without_scale(s, tensor, e))
        qc_hf_tensor_error(s, tensor,
            qc_arena_printf(s->arena, "tensor %s holds codes (%s), but %s_scale_inv is missing", name,
                tensor->dtype, name));
    else if (!dtype_fits(qc_dtype_from_safetensors_name(tensor->dtype), e->code))
        qc_hf_tensor_error(s, tensor,
            qc_arena_printf(s->arena, "tensor %s has element type %s; expected %s", name, tensor->dtype,
                e->code ? qc_dtype_safetensors_name(e->code) : "BF16, F16 or F32"));
    return true;
}

/* Checks the tensor of a node and lists it there. */
void qc_hf_own_tensor(qc_hf_state *s, qc_node *node, const char *short_name, const qc_hf_expectation *e)
{
    const char *name = qc_arena_printf(s->arena, "%s.%s", qc_node_path(node), short_name);
    if (!check_tensor(s, name, e))
        return;
    if (!s->dequantize)
        qc_node_add_tensor(node, short_name);
    else if (!qc_hf_is_scale_name(short_name))
        qc_node_add_tensor(node, strcmp(short_name, "weight_packed") == 0 ? "weight" : short_name);
    qc_map_set(&s->owned, name, (void *)(uintptr_t)name);
}

void qc_hf_tree_own_if_there(qc_hf_state *s, qc_node *node, const char *short_name)
{
    const char *name = qc_arena_printf(s->arena, "%s.%s", qc_node_path(node), short_name);
    if (qc_st_find(&s->set, name)) {
        qc_node_add_tensor(node, short_name);
        qc_map_set(&s->owned, name, (void *)(uintptr_t)name);
    }
}

static void check_linear_group(qc_hf_state *s, const qc_hf_linear *linear)
{
    if (linear->group && !linear->group->weights.present) {
        qc_hf_tensor_error(s, NULL,
            qc_arena_printf(s->arena,
                "quantization_config: group @%s quantizes the input of %s and not its weight; that is not "
                "supported",
                linear->group->symbol, qc_node_path(linear->node)));
    }
}

qc_hf_linear qc_hf_tree_linear(qc_hf_state *s, const qc_node *parent, const char *name, int64_t out,
    int64_t in, bool bias, const char *keys)
{
    qc_hf_linear linear = {
        .node = qc_hf_tree_node(s, parent, name, "Linear"), .out = out, .in = in, .bias = bias};
    linear.group = qc_hf_group_of(s, linear.node);
    check_linear_group(s, &linear);
    if (linear.group && linear.group->weights.present)
        qc_hf_own_codes(s, &linear, keys);
    else
        qc_hf_own_tensor(s, linear.node, "weight", &(qc_hf_expectation){2, {out, in}, QC_DTYPE_NONE, keys});
    if (bias)
        qc_hf_own_tensor(s, linear.node, "bias", &(qc_hf_expectation){1, {out}, QC_DTYPE_NONE, keys});
    return linear;
}

qc_node *qc_hf_tree_norm(
    qc_hf_state *s, const qc_node *parent, const char *name, int64_t size, const char *key)
{
    qc_node *node = qc_hf_tree_classed(s, parent, name, "RMSNorm");
    qc_hf_own_tensor(s, node, "weight", &(qc_hf_expectation){1, {size}, QC_DTYPE_NONE, key});
    return node;
}

static void add_layer(qc_hf_state *s, const qc_node *list, int64_t index, qc_hf_layer *layer)
{
    const qc_hf_config *c = &s->config;
    layer->node =
        qc_hf_tree_classed(s, list, qc_arena_printf(s->arena, "%lld", (long long)index), "DecoderLayer");
    qc_hf_attention_tree(s, layer, index);
    if (qc_hf_moe_layer(c, index))
        qc_hf_moe_tree(s, layer, index);
    else
        qc_hf_mlp_tree(s, layer->node, qc_hf_moe_dense_name(c), qc_hf_moe_dense_size(c),
            qc_hf_moe_dense_key(c), &layer->mlp);
    for (int i = 0; i < QC_HF_NORM_PLACES; i++) {
        const qc_hf_layer_norm *norm = &c->arch->norms[i];
        if (norm->name)
            layer->norms[norm->place] = qc_hf_tree_norm(s, layer->node, norm->name, c->hidden, "hidden_size");
    }
    if (c->arch->dropouts) {
        qc_hf_tree_node(s, layer->node, "resid_attn_dropout", "Dropout");
        qc_hf_tree_node(s, layer->node, "resid_mlp_dropout", "Dropout");
    }
}

bool qc_hf_is_stored(const qc_hf_state *s, const char *tensor)
{
    return qc_st_find(&s->set, tensor) || qc_st_find(&s->set, qc_arena_printf(s->arena, "%s_packed", tensor));
}

/* Where the embedding and the last linear layer get their weights. Transformers ties them only when one of
 * the two is missing, or both hold the same numbers; each with its own tensor gives the same logits in every
 * case. */
static void resolve_tying(qc_hf_state *s)
{
    const char *embedding = qc_arena_printf(s->arena, "%s.embed_tokens.weight", s->model.path);
    const char *head = qc_arena_printf(s->arena, "%s.weight", s->model.head_path);
    bool has_embedding = qc_hf_is_stored(s, embedding), has_head = qc_hf_is_stored(s, head);
    s->model.embedding_tensor = embedding;
    s->model.head_tensor = head;
    if (!s->config.tied)
        return;
    if (has_embedding && has_head)
        qc_remark(s->diag, s->config.path,
            "tie_word_embeddings is true, but %s is stored beside %s: both are used", head, embedding);
    else if (has_head)
        s->model.embedding_tensor = head;
    else
        s->model.head_tensor = embedding;
}

/* Does the head read a tensor of its own? */
static bool has_own_head(const qc_hf_state *s)
{
    return qc_starts_with(s->model.head_tensor, s->model.head_path);
}

/* Are weights of both groups stored alike? */
static bool same_weights(const qc_hf_group *a, const qc_hf_group *b)
{
    const qc_hf_args *x = &a->weights, *y = &b->weights;
    return a->storage == b->storage && x->code == y->code && strcmp(x->granularity, y->granularity) == 0 &&
           x->group == y->group && x->block[0] == y->block[0] && x->block[1] == y->block[1] &&
           x->symmetric == y->symmetric && x->global == y->global && x->scale == y->scale;
}

/* A head that is the embedding, of which only codes are stored: they are the head's too. */
static void add_tied_codes(qc_hf_state *s, const qc_hf_group *table)
{
    qc_hf_linear *head = &s->model.head;
    const qc_hf_group *group = qc_hf_group_of(s, head->node);
    if (!group || !group->weights.present || !same_weights(group, table))
        qc_hf_tensor_error(s, NULL,
            "quantization_config targets the embedding, lm_head.weight is not stored beside it, and no "
            "group gives lm_head the same codes");
    else if (group->input.present && (!group->input.dynamic || group->input.global))
        qc_hf_tensor_error(s, NULL, "lm_head is the embedding, which has no scale of inputs");
    head->group = group;
    head->weights = s->model.embedding;
}

static void add_head(qc_hf_state *s)
{
    const qc_hf_config *c = &s->config;
    const char *keys = "vocab_size, hidden_size";
    if (has_own_head(s)) {
        if (!c->tied && !qc_hf_is_stored(s, s->model.head_tensor)) {
            qc_hf_tensor_error(s, NULL,
                qc_arena_printf(s->arena,
                    "tensor %s is missing, and config.json says tie_word_embeddings is false",
                    s->model.head_tensor));
            return;
        }
        s->model.head = qc_hf_tree_linear(s, NULL, s->model.head_path, c->vocabulary, c->hidden, false, keys);
        return;
    }
    qc_node *node = qc_hf_tree_node(s, NULL, s->model.head_path, "Linear");
    s->model.head = (qc_hf_linear){.node = node, .out = c->vocabulary, .in = c->hidden};
    if (s->model.table.group)
        add_tied_codes(s, s->model.table.group);
    else if (qc_hf_group_of(s, node))
        qc_remark(s->diag, s->config.path,
            "quantization_config targets lm_head, which is the embedding: it is read as not quantized");
}

static void add_embedding(qc_hf_state *s, const qc_node *model)
{
    const qc_hf_config *c = &s->config;
    const char *keys = "vocab_size, hidden_size";
    qc_node *node = s->model.embedding = qc_hf_tree_node(
        s, model, "embed_tokens", c->arch->embedding_class ? c->arch->embedding_class : "Embedding");
    qc_hf_linear *table = &s->model.table;
    *table =
        (qc_hf_linear){.node = node, .out = c->vocabulary, .in = c->hidden, .group = qc_hf_group_of(s, node)};
    bool coded = table->group && table->group->weights.present;
    const qc_hf_args *input = coded ? &table->group->input : NULL;
    if (table->group && (!coded || (input->present && (!input->dynamic || input->global))))
        qc_hf_tensor_error(s, NULL,
            qc_arena_printf(s->arena,
                "quantization_config: group @%s has static inputs, but it targets %s, whose inputs are token "
                "ids",
                table->group->symbol, qc_node_path(node)));
    else if (coded)
        qc_hf_own_codes(s, table, keys);
    else if (!qc_starts_with(s->model.embedding_tensor, s->model.head_path))
        qc_hf_own_tensor(
            s, node, "weight", &(qc_hf_expectation){2, {c->vocabulary, c->hidden}, QC_DTYPE_NONE, keys});
}

/* The nearest node at or above the tensor, and what is left of its name. */
static qc_node *nearest_node(qc_hf_state *s, const char *tensor, const char **rest)
{
    char *path = qc_arena_strdup(s->arena, tensor);
    for (char *dot = strrchr(path, '.'); dot; dot = strrchr(path, '.')) {
        *dot = '\0';
        qc_node *node = qc_module_find_node(s->module, path);
        if (node) {
            *rest = tensor + strlen(path) + 1;
            return node;
        }
    }
    *rest = tensor;
    return s->model.root;
}

static bool is_below(const char *tensor, const char *path)
{
    return qc_starts_with(tensor, path) && tensor[strlen(path)] == '.';
}

/* The module that a stranger belongs to. A matrix has one of its own, so that an exporter can say of it that it is not
 * quantized; beside the text model of a wrapper, every tensor has. */
static qc_node *stranger_node(qc_hf_state *s, const qc_st_tensor *tensor, const char **rest)
{
    const char *dot = strrchr(tensor->name, '.');
    const bool beside = s->config.wrapper && dot && !is_below(tensor->name, s->model.path);
    if (!beside && !qc_hf_is_matrix(tensor))
        return nearest_node(s, tensor->name, rest);
    *rest = dot + 1;
    return qc_hf_add_path(s, qc_arena_strndup(s->arena, tensor->name, (size_t)(dot - tensor->name)));
}

static void keep_strangers(qc_hf_state *s)
{
    size_t count = 0, tables = 0, copied = 0;
    const char *names = "";
    qc_str all;
    qc_str_init(&all, s->arena);
    for (size_t i = 0; i < s->set.tensor_count; i++) {
        const char *name = s->set.tensors[i].name, *rest;
        if (qc_map_find_n(&s->owned, name, strlen(name)))
            continue;
        qc_node *node = stranger_node(s, &s->set.tensors[i], &rest);
        if (s->dequantize && qc_hf_is_scale_name(qc_hf_short_name(name))) {
            if (qc_starts_with(qc_hf_short_name(name), "weight_"))
                qc_hf_tensor_error(s, &s->set.tensors[i],
                    qc_arena_printf(s->arena,
                        "%s is the scale of a weight that is no part of %s: only --import=tensors "
                        "dequantizes that",
                        name, s->config.arch->info.architecture));
            continue;
        }
        qc_node_add_tensor(node, rest);
        if (qc_ends_with(name, "rotary_emb.inv_freq"))
            tables++;
        else if (s->config.wrapper && !is_below(name, s->model.path))
            copied++;
        else {
            qc_str_addf(&all, "%s%s", count ? ", " : "", name);
            if (count++ < 3)
                names = qc_arena_strdup(s->arena, all.data);
        }
    }
    if (copied)
        qc_remark(s->diag, s->directory, "%zu tensors beside the text model are copied as they are", copied);
    if (tables)
        qc_remark(s->diag, s->directory, "%zu tensors rotary_emb.inv_freq are kept and not used", tables);
    if (count)
        qc_warning(s->diag, s->directory, "%zu tensors are no part of %s; they are kept and not used: %s%s",
            count, s->config.arch->info.architecture, names, count > 3 ? ", ..." : "");
    if (count > 3)
        qc_remark(s->diag, s->directory, "kept and not used: %s", all.data);
    qc_str_fini(&all);
}

qc_status qc_hf_tree_build(qc_hf_state *s)
{
    const qc_hf_config *c = &s->config;
    qc_hf_model *m = &s->model;
    qc_map_init(&s->owned, s->arena);
    qc_hf_wrapper_places(s);
    resolve_tying(s);
    qc_hf_wrapper_tree(s);
    m->model = c->arch->model_class ? qc_hf_tree_node(s, NULL, m->path, c->arch->model_class)
                                    : qc_hf_tree_classed(s, NULL, m->path, "Model");
    add_embedding(s, m->model);
    qc_node *list = qc_hf_tree_node(s, m->model, "layers", "ModuleList");
    m->layers = QC_NEW_ARRAY(s->arena, qc_hf_layer, (size_t)c->layers);
    for (int64_t i = 0; i < c->layers; i++)
        add_layer(s, list, i, &m->layers[i]);
    m->norm = qc_hf_tree_norm(s, m->model, "norm", c->hidden, "hidden_size");
    qc_hf_tree_classed(s, m->model, "rotary_emb", "RotaryEmbedding");
    add_head(s);
    if (!s->error_count) {
        qc_hf_transforms_own(s);
        qc_hf_moe_own_next(s);
        keep_strangers(s);
        qc_hf_attention_warn(s);
    }
    return qc_hf_tensor_errors(s);
}
