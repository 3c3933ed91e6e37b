/* SPDX-License-Identifier: MIT
 *
 * tensors.c - a checkpoint without an architecture: its tensors as a module.
 *
 * The tree comes from the names: every prefix up to a dot is a node. Order: as people count, component by component,
 * runs of digits by their value (layer 2 before layer 10); a file has them by type and bytes. A weight to quantize is
 * what llm-compressor's model_free_ptq takes for one: a tensor NAME.weight whose NAME does not end with "norm"; unlike
 * there, one that has not two dimensions, has no elements or is not bf16, f16 or f32 is left alone instead of an error.
 * Its node is a Linear, also that of an embedding: nothing tells them apart. All other nodes are of the class Module,
 * but for attention where the table knows the architecture.
 *
 * Weights that the checkpoint holds as codes are numbers here, dequantized to the model's element type, when the import
 * is to dequantize; else they are left alone too.
 *
 *   @main()  %w = weight "NAME.weight" : D[rows, columns]    keep %w
 */
#include "frontends/hf/import.h"

#include <stdlib.h>

#include "qc/ops.h"

/* A tensor of the checkpoint and the parts of its name. */
typedef struct entry {
    const qc_st_tensor *tensor;
    const char *module;     /* what is before the last dot; "" without one */
    const char *short_name; /* behind it */
    bool is_weight;         /* a matrix of numbers */
    bool is_codes;          /* or its codes, which are read as numbers */
    bool dropped;           /* means nothing beside the numbers */
} entry;

typedef struct listing {
    entry *entries;
    size_t count;
} listing;

void qc_hf_import_symbol(qc_hf_state *s, const char *mode, const char *dequantized)
{
    const char *keys[2] = {"mode", "dequantized"};
    const qc_attr *values[2] = {qc_attr_word(s->ctx, mode)};
    if (dequantized)
        values[1] = qc_attr_string(s->ctx, dequantized);
    qc_module_add_symbol(
        s->module, "import", "import", qc_attr_map(s->ctx, keys, values, dequantized ? 2 : 1));
}

/* ---- order --------------------------------------------------------------------------------------------- */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Of two runs of digits; leading zeros count only when all else is equal, in the caller's comparison of bytes. */
static int compare_numbers(const char **a, const char **b)
{
    while (**a == '0' && is_digit((*a)[1]))
        ++*a;
    while (**b == '0' && is_digit((*b)[1]))
        ++*b;
    int first = 0;
    for (; is_digit(**a) && is_digit(**b); ++*a, ++*b)
        if (!first && **a != **b)
            first = **a < **b ? -1 : 1;
    if (is_digit(**a) != is_digit(**b))
        return is_digit(**b) ? -1 : 1;
    return first;
}

/* A dot ends a component, so it comes before every other character. */
static int weight_of(char c)
{
    return c == '\0' ? 0 : c == '.' ? 1 : 1 + (unsigned char)c;
}

static int compare_names(const char *a, const char *b)
{
    const char *x = a, *y = b;
    while (*x || *y) {
        if (is_digit(*x) && is_digit(*y)) {
            int order = compare_numbers(&x, &y);
            if (order)
                return order;
        } else if (*x != *y) {
            return weight_of(*x) < weight_of(*y) ? -1 : 1;
        } else {
            x++;
            y++;
        }
    }
    return strcmp(a, b);
}

static int by_name(const void *a, const void *b)
{
    return compare_names(((const entry *)a)->tensor->name, ((const entry *)b)->tensor->name);
}

/* ---- which are weights --------------------------------------------------------------------------------- */

const char *qc_hf_short_name(const char *tensor)
{
    const char *dot = strrchr(tensor, '.');
    return dot ? dot + 1 : tensor;
}

static bool is_named_weight(const char *name)
{
    static const char norm[] = "norm.weight";
    return strcmp(qc_hf_short_name(name), "weight") == 0 && !qc_ends_with(name, norm);
}

static bool has_elements(const qc_st_tensor *t)
{
    return t->rank == 2 && t->shape[0] > 0 && t->shape[1] > 0;
}

static bool is_plain(const qc_st_tensor *t)
{
    qc_dtype dtype = qc_dtype_from_safetensors_name(t->dtype);
    return dtype == QC_BF16 || dtype == QC_F16 || dtype == QC_F32;
}

bool qc_hf_is_matrix(const qc_st_tensor *t)
{
    return is_named_weight(t->name) && strcmp(t->name, "weight") != 0 && has_elements(t) && is_plain(t);
}

/* Names of the first tensors of one kind, and how many there are. */
typedef struct found {
    size_t count;
    const char *names;
} found;

static void find(qc_hf_state *s, found *f, const char *name)
{
    if (f->count++ < 3)
        f->names =
            qc_arena_printf(s->arena, "%s%s%s", f->count > 1 ? f->names : "", f->count > 1 ? ", " : "", name);
}

static void tell(qc_hf_state *s, const found *f, const char *what)
{
    if (f->count)
        qc_remark(s->diag, s->directory, "%zu tensor%s left alone, %s: %s%s", f->count,
            f->count == 1 ? "" : "s", what, f->names, f->count > 3 ? ", ..." : "");
}

static const qc_st_tensor *find_beside(const qc_hf_state *s, const char *module, const char *short_name)
{
    return qc_st_find(&s->set, *module ? qc_arena_printf(s->arena, "%s.%s", module, short_name) : short_name);
}

/* Is the weight of the module stored as codes, which this import makes numbers of? */
static bool has_codes(const qc_hf_state *s, const char *module)
{
    if (!s->dequantize || !s->quantization.words)
        return false;
    return find_beside(s, module, s->quantization.fp8 ? "weight_scale_inv" : "weight_scale") != NULL;
}

static void split_name(qc_hf_state *s, const qc_st_tensor *tensor, entry *e)
{
    const char *dot = strrchr(tensor->name, '.');
    *e = (entry){.tensor = tensor,
        .module = dot ? qc_arena_strndup(s->arena, tensor->name, (size_t)(dot - tensor->name)) : "",
        .short_name = dot ? dot + 1 : tensor->name};
    if (has_codes(s, e->module)) {
        e->is_codes = strcmp(e->short_name, "weight") == 0 || strcmp(e->short_name, "weight_packed") == 0;
        e->dropped = qc_hf_is_scale_name(e->short_name);
    } else {
        /* Scales of attention and of the KV cache are at modules without weights. */
        e->dropped = s->dequantize && qc_hf_is_scale_name(e->short_name);
    }
}

/* Experts in one tensor have no module of their own and no ".weight". */
static bool is_experts(const qc_st_tensor *t)
{
    return t->rank == 3 && (strstr(t->name, "gate_up_proj") || strstr(t->name, "down_proj"));
}

static void list_tensors(qc_hf_state *s, listing *l)
{
    found experts = {0}, deep = {0}, shapes = {0}, types = {0};
    l->entries = QC_NEW_ARRAY(s->arena, entry, s->set.tensor_count + 1);
    for (size_t i = 0; i < s->set.tensor_count; i++)
        if (qc_st_find(&s->set, s->set.tensors[i].name) == &s->set.tensors[i])
            split_name(s, &s->set.tensors[i], &l->entries[l->count++]);
    if (l->count)
        qsort(l->entries, l->count, sizeof *l->entries, by_name);
    for (size_t i = 0; i < l->count; i++) {
        entry *e = &l->entries[i];
        const qc_st_tensor *t = e->tensor;
        if (e->is_codes || (!is_named_weight(t->name) && !is_experts(t)))
            continue;
        e->is_weight = has_elements(t) && is_plain(t);
        if (!e->is_weight)
            find(s,
                is_experts(t)      ? &experts
                : t->rank == 3     ? &deep
                : !has_elements(t) ? &shapes
                                   : &types,
                t->name);
    }
    if (experts.count)
        qc_warning(s->diag, s->directory,
            "%zu tensor%s left alone, with the experts of a layer in one (three dimensions): %s%s",
            experts.count, experts.count == 1 ? "" : "s", experts.names, experts.count > 3 ? ", ..." : "");
    tell(s, &deep, "of three dimensions (convolutions)");
    tell(s, &shapes, "named like weights, but no matrices with elements");
    tell(s, &types, "named like weights, but not BF16, F16 or F32");
}

/* Where all codes become numbers, codes without a scale would be left as they are, and nobody could read them. */
static qc_status check_scales(const qc_hf_state *s, const listing *l)
{
    for (size_t i = 0; s->dequantize && s->quantization.words && i < l->count; i++) {
        const qc_st_tensor *t = l->entries[i].tensor;
        if (!l->entries[i].is_codes && is_named_weight(t->name) && has_elements(t) &&
            qc_starts_with(t->dtype, "F8_E4"))
            return qc_error(
                s->diag, s->set.files[t->file].path, "%s holds codes, but no scale lies beside it", t->name);
    }
    return QC_OK;
}

/* ---- the module ---------------------------------------------------------------------------------------- */

static const char *class_of(const qc_hf_state *s, const char *path)
{
    const qc_st_tensor *weight = find_beside(s, path, "weight");
    const bool in_graph =
        s->model.path != NULL; /* then attention is in the tree, and what is not is a vision tower's */
    if ((weight && is_named_weight(weight->name) && has_elements(weight) && is_plain(weight)) ||
        has_codes(s, path))
        return in_graph && strstr(qc_hf_short_name(path), "embed") ? "Embedding" : "Linear";
    return s->outline.arch && !in_graph && qc_ends_with(path, ".self_attn")
               ? s->outline.arch->info.attention_class
               : "Module";
}

qc_node *qc_hf_add_path(qc_hf_state *s, const char *path)
{
    qc_node *node = qc_module_find_node(s->module, path);
    for (const char *at = path; !node; at++) {
        if (*at != '.' && *at)
            continue;
        const char *above = qc_arena_strndup(s->arena, path, (size_t)(at - path));
        qc_node *added = qc_hf_named_node(s, above, class_of(s, above));
        if (!*at)
            node = added;
    }
    return node;
}

static qc_value *build_plain(qc_hf_state *s, qc_builder *b, const qc_st_tensor *t)
{
    const qc_dim *dims[2] = {qc_dim_int(s->ctx, t->shape[0]), qc_dim_int(s->ctx, t->shape[1])};
    const qc_type *type = qc_type_tensor(s->ctx, qc_dtype_from_safetensors_name(t->dtype), 2, dims);
    return qc_build_weight(b, t->name, -1, type, "w");
}

/* Rows and columns of packed integers stand beside them. */
static qc_status read_shape(qc_hf_state *s, const entry *e, qc_hf_linear *linear)
{
    const qc_st_tensor *t = find_beside(s, e->module, "weight_shape");
    const qc_dtype dtype = t ? qc_dtype_from_safetensors_name(t->dtype) : QC_DTYPE_NONE;
    int64_t wide[2];
    if (!t || dtype != QC_I64 || t->rank != 1 || t->shape[0] != 2)
        return qc_error(
            s->diag, s->directory, "tensor %s has no weight_shape, I64 [2], beside it", e->tensor->name);
    if (qc_st_read(s->diag, &s->set, t, wide))
        return QC_ERROR;
    if (wide[0] < 1 || wide[1] < 1 || wide[0] > INT32_MAX || wide[1] > INT32_MAX)
        return qc_error(s->diag, s->set.files[t->file].path, "tensor %s says [%lld, %lld]", t->name,
            (long long)wide[0], (long long)wide[1]);
    linear->out = wide[0];
    linear->in = wide[1];
    return QC_OK;
}

/* The numbers that codes stand for; NULL after an error. */
static qc_value *build_codes(qc_hf_state *s, qc_builder *b, const entry *e)
{
    const qc_st_tensor *t = e->tensor;
    qc_hf_linear linear = {.node = qc_module_find_node(s->module, e->module)};
    linear.group = qc_hf_group_of(s, linear.node);
    if (!linear.group || !linear.group->weights.present || t->rank != 2) {
        qc_error(s->diag, s->directory, "tensor %s has scales, but %s", t->name,
            t->rank == 2 ? "no group of quantization_config is for its module" : "is no matrix");
        return NULL;
    }
    linear.out = t->shape[0];
    linear.in = linear.group->storage == QC_HF_STORAGE_NIBBLES ? 2 * t->shape[1] : t->shape[1];
    if (linear.group->storage == QC_HF_STORAGE_WORDS && read_shape(s, e, &linear))
        return NULL;
    qc_hf_own_codes(s, &linear, "the tensors beside it");
    return s->error_count ? NULL : qc_hf_build_coded_weight(s, b, &linear);
}

static qc_status build_main(qc_hf_state *s, const listing *l)
{
    qc_func *func = qc_module_add_func(s->module, "main");
    qc_builder *b = qc_builder_at_end(func);
    for (size_t i = 0; i < l->count; i++) {
        const entry *e = &l->entries[i];
        if (!e->is_weight && !e->is_codes)
            continue;
        qc_builder_set_node(b, qc_module_find_node(s->module, e->module));
        qc_value *w = e->is_codes ? build_codes(s, b, e) : build_plain(s, b, e->tensor);
        if (!w && s->error_count == 0)
            return QC_ERROR;
        if (w)
            qc_build_keep(b, w, NULL);
    }
    return qc_hf_tensor_errors(s) || !qc_builder_ok(b) ? QC_ERROR : QC_OK;
}

qc_status qc_hf_tensors_build(qc_hf_state *s)
{
    listing l = {0};
    s->config.path = s->outline.path;
    s->config.arch = s->outline.arch;
    s->config.quantization = s->outline.quantization;
    s->dtype = s->outline.dtype ? s->outline.dtype : QC_BF16;
    qc_map_init(&s->owned, s->arena);
    if (s->dequantize && qc_hf_quantization_read(s))
        return QC_ERROR;
    if (s->quantization.mxfp4)
        return qc_error(s->diag, s->config.path,
            "experts in blocks of MXFP4 become numbers by the graph that reads them: --import=graph");
    for (size_t i = 0; s->dequantize && i < s->quantization.transform_count; i++)
        if (s->quantization.transforms[i].online)
            return qc_error(s->diag, s->config.path,
                "transform_config.%s rotates as the model runs, which takes the graph: --import=graph",
                s->quantization.transforms[i].name);
    list_tensors(s, &l);
    if (check_scales(s, &l) != QC_OK)
        return QC_ERROR;
    qc_hf_import_symbol(s, "tensors", s->dequantize ? s->quantization.words : NULL);
    const char *root_class = s->outline.name && *s->outline.name ? s->outline.name : "Module";
    qc_module_add_node(s->module, "", root_class);
    for (size_t i = 0; i < l.count; i++) {
        qc_node *node = qc_hf_add_path(s, l.entries[i].module);
        if (!l.entries[i].dropped && !l.entries[i].is_codes) /* codes list themselves when they are checked */
            qc_node_add_tensor(node, l.entries[i].short_name);
    }
    return build_main(s, &l);
}
