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
    bool is_weight;         /* of a Linear */
} entry;

typedef struct listing {
    entry *entries;
    size_t count;
    qc_map linears; /* paths of modules */
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

static bool has_rows(const qc_st_tensor *t)
{
    return t->rank == 2 && t->shape[0] > 0 && t->shape[1] > 0;
}

static bool is_plain(const qc_st_tensor *t)
{
    qc_dtype dtype = qc_dtype_from_safetensors_name(t->dtype);
    return dtype == QC_BF16 || dtype == QC_F16 || dtype == QC_F32;
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
        qc_remark(s->diag, s->directory, "%zu tensor%s: %s%s %s", f->count, f->count == 1 ? "" : "s",
            f->names, f->count > 3 ? ", ..." : "", what);
}

static void split_name(qc_hf_state *s, const qc_st_tensor *tensor, entry *e)
{
    const char *dot = strrchr(tensor->name, '.');
    *e = (entry){.tensor = tensor,
        .module = dot ? qc_arena_strndup(s->arena, tensor->name, (size_t)(dot - tensor->name)) : "",
        .short_name = dot ? dot + 1 : tensor->name};
}

/* Why a tensor that has the name of a weight is none; NULL when it is one. */
static found *why_not(const entry *e, found *experts, found *shapes, found *types)
{
    if (e->tensor->rank == 3)
        return experts;
    if (!has_rows(e->tensor))
        return shapes;
    return is_plain(e->tensor) ? NULL : types;
}

static void list_tensors(qc_hf_state *s, listing *l)
{
    found experts = {0}, shapes = {0}, types = {0};
    l->entries = QC_NEW_ARRAY(s->arena, entry, s->set.tensor_count + 1);
    qc_map_init(&l->linears, s->arena);
    for (size_t i = 0; i < s->set.tensor_count; i++)
        if (qc_st_find(&s->set, s->set.tensors[i].name) == &s->set.tensors[i])
            split_name(s, &s->set.tensors[i], &l->entries[l->count++]);
    qsort(l->entries, l->count, sizeof *l->entries, by_name);
    for (size_t i = 0; i < l->count; i++) {
        entry *e = &l->entries[i];
        const bool named = strcmp(e->short_name, "weight") == 0 && !qc_ends_with(e->module, "norm");
        /* Experts in one tensor have no module of their own and no ".weight". */
        const bool fused = e->tensor->rank == 3 &&
                           (strstr(e->tensor->name, "gate_up_proj") || strstr(e->tensor->name, "down_proj"));
        if (!named && !fused)
            continue;
        found *reason = why_not(e, &experts, &shapes, &types);
        if (reason) {
            find(s, reason, e->tensor->name);
            continue;
        }
        e->is_weight = true;
        qc_map_set(&l->linears, e->module, e);
    }
    tell(s, &experts, "with three dimensions (experts in one tensor, convolutions): left alone");
    tell(s, &shapes, "are named like weights but are no matrices with elements: left alone");
    tell(s, &types, "are named like weights but are not BF16, F16 or F32: left alone");
}

/* ---- the module ---------------------------------------------------------------------------------------- */

static const char *class_of(const qc_hf_state *s, const listing *l, const char *path, size_t length)
{
    static const char attention[] = "self_attn";
    const size_t suffix = sizeof attention - 1;
    if (qc_map_find_n(&l->linears, path, length))
        return "Linear";
    if (s->outline.arch && length > suffix && path[length - suffix - 1] == '.' &&
        strncmp(path + length - suffix, attention, suffix) == 0)
        return s->outline.arch->info.attention_class;
    return "Module";
}

/* The node of a path, with all nodes above it. */
static qc_node *add_path(qc_hf_state *s, const listing *l, const char *path)
{
    qc_node *node = qc_module_find_node(s->module, path);
    for (const char *at = path; !node; at++) {
        if (*at != '.' && *at)
            continue;
        size_t length = (size_t)(at - path);
        qc_node *above = qc_module_add_node(
            s->module, qc_arena_strndup(s->arena, path, length), class_of(s, l, path, length));
        if (!*at)
            node = above;
    }
    return node;
}

static const qc_type *stored_type(qc_hf_state *s, const qc_st_tensor *t)
{
    const qc_dim *dims[2] = {qc_dim_int(s->ctx, t->shape[0]), qc_dim_int(s->ctx, t->shape[1])};
    return qc_type_tensor(s->ctx, qc_dtype_from_safetensors_name(t->dtype), 2, dims);
}

static qc_status build_main(qc_hf_state *s, const listing *l)
{
    qc_func *func = qc_module_add_func(s->module, "main");
    qc_builder *b = qc_builder_at_end(func);
    for (size_t i = 0; i < l->count; i++) {
        const entry *e = &l->entries[i];
        if (!e->is_weight)
            continue;
        qc_builder_set_node(b, qc_module_find_node(s->module, e->module));
        qc_build_keep(b, qc_build_weight(b, e->tensor->name, stored_type(s, e->tensor), "w"), NULL);
    }
    return qc_builder_ok(b) ? QC_OK : QC_ERROR;
}

qc_status qc_hf_tensors_build(qc_hf_state *s)
{
    listing l = {0};
    list_tensors(s, &l);
    qc_hf_import_symbol(s, "tensors", NULL);
    const char *root_class = s->outline.name && *s->outline.name ? s->outline.name : "Module";
    qc_module_add_node(s->module, "", root_class);
    for (size_t i = 0; i < l.count; i++)
        qc_node_add_tensor(add_path(s, &l, l.entries[i].module), l.entries[i].short_name);
    return build_main(s, &l);
}
