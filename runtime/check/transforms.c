/* SPDX-License-Identifier: MIT
 *
 * transforms.c - what contradicts the transform_config of a checkpoint, and what vLLM makes of it.
 *
 * Rotations of a model at work (input, output, q_attn, k_cache) have a matrix of each size in the checkpoint, stored once as
 * GROUP_LOCATION.weight in the first module that it belongs to. A size is head_dim, else the columns (input) or rows (output) of the
 * weight. Rotations of weights leave nothing behind.
 */
#include <math.h>
#include <string.h>

#include "ir/dtype/codec.h"
#include "ir/support/io.h"
#include "runtime/check/allow.h"
#include "runtime/check/quant.h"

typedef struct transforms {
    const check_model *model;
    check_problems *problems; /* NULL: of vLLM */
    check_verdict *verdict;
    /* The group and the place at hand. */
    const qc_json *group, *place;
    const char *location;
    int64_t head_dim; /* 0: null */
    qc_map sizes;     /* "384", of this group: needed */
    size_t matched;
} transforms;

static void problem(transforms *t, const char *text)
{
    if (t->problems)
        QC_PUSH(t->model->arena, t->problems, text);
}

static const char *text_of(const qc_json *object, const char *key)
{
    const qc_json *value = object && object->kind == QC_JSON_OBJECT ? qc_json_get(object, key) : NULL;
    return value && value->kind == QC_JSON_STRING ? value->text : "";
}

static bool is_online(const char *location)
{
    return !qc_starts_with(location, "weight_");
}

static bool is_of_attention(const char *location)
{
    return strcmp(location, "q_attn") == 0 || strcmp(location, "k_cache") == 0;
}

/* ---- places -------------------------------------------------------------------------------------------- */

static bool names(const qc_json *list, const qc_node *node)
{
    for (const qc_json *item = list && list->kind == QC_JSON_ARRAY ? list->first : NULL; item;
         item = item->next)
        if (item->kind == QC_JSON_STRING && qc_node_matches(node, item->text))
            return true;
    return false;
}

static bool is_here(const transforms *t, const qc_node *node)
{
    return names(qc_json_get(t->place, "targets"), node) && !names(qc_json_get(t->place, "ignore"), node);
}

/* Rows and columns of the module's weight; false when it has none that fits its group. */
static bool shape_of(const transforms *t, const check_module *m, int64_t *rows, int64_t *columns)
{
    const qc_st_tensor *w = m->parts[CHECK_WEIGHT];
    const check_group *g = check_group_of(t->model, m, NULL);
    check_problems ignored = {0};
    check_weight fit;
    if (w && w->rank == 2 && !m->parts[CHECK_WEIGHT_PACKED]) {
        *rows = w->shape[0];
        *columns = w->shape[1];
        return true;
    }
    if (!g || !m->parts[CHECK_WEIGHT_PACKED])
        return false;
    check_weight_fit(t->model, m, g, &fit, &ignored);
    *rows = fit.rows;
    *columns = fit.columns;
    return ignored.count == 0;
}

static void need_size(transforms *t, const char *path, int64_t dimension)
{
    qc_arena *arena = t->model->arena;
    const int64_t size = t->head_dim ? t->head_dim : dimension;
    if (size < 1 || (dimension && dimension % size != 0)) {
        problem(t, qc_arena_printf(arena, "transform_config.%s: blocks of %lld do not divide the %lld of %s",
                       t->group->key, (long long)size, (long long)dimension, path));
        return;
    }
    qc_map_set(&t->sizes, qc_arena_printf(arena, "%lld", (long long)size), (void *)(uintptr_t)size);
}

static void visit_linear(transforms *t, const check_module *m)
{
    int64_t rows, columns;
    if (m->kind == CHECK_OTHER || m->kind == CHECK_EMBEDDING || !is_here(t, m->node))
        return;
    t->matched++;
    if (shape_of(t, m, &rows, &columns))
        need_size(t, m->path, strcmp(t->location, "input") == 0 ? columns : rows);
    if (t->verdict && qc_st_find(t->model->set, qc_arena_printf(t->model->arena, "%s.bias", m->path)))
        check_find(t->model, t->verdict, CHECK_REFUSED,
            "%s has a bias, and transform_config.%s rotates its %s as the model runs: there the loader stops "
            "(rule " QC_RULE_TRANSFORM_BIAS ")",
            m->path, t->group->key, t->location);
}

/* The module of attention that `m` makes the keys of. */
static void visit_attention(transforms *t, const check_module *m)
{
    static const char maker[] = ".k_proj";
    if (!qc_ends_with(m->path, maker))
        return;
    const char *path = qc_arena_strndup(t->model->arena, m->path, strlen(m->path) - (sizeof maker - 1));
    const qc_node *node = qc_module_find_node(t->model->tree, path);
    if (!node)
        node = check_add_node(t->model, path, "");
    if (!is_here(t, node))
        return;
    t->matched++;
    if (t->head_dim)
        need_size(t, path, 0);
}

static void visit_place(transforms *t)
{
    const check_model *model = t->model;
    static const char *const known[] = {
        "input", "output", "q_attn", "k_cache", "weight_input", "weight_output"};
    size_t k = 0;
    t->location = text_of(t->place, "location");
    while (k < 6 && strcmp(known[k], t->location) != 0)
        k++;
    if (k == 6) {
        problem(t,
            qc_arena_printf(model->arena, "transform_config.%s has the location '%s', which no loader knows",
                t->group->key, t->location));
        return;
    }
    if (!is_online(t->location))
        return;
    t->matched = 0;
    if (is_of_attention(t->location) && !t->head_dim)
        problem(t, qc_arena_printf(model->arena,
                       "transform_config.%s rotates heads, but head_dim is not given", t->group->key));
    for (size_t i = 0; i < model->module_count; i++) {
        if (is_of_attention(t->location))
            visit_attention(t, &model->modules[i]);
        else
            visit_linear(t, &model->modules[i]);
    }
    if (t->matched == 0)
        problem(
            t, qc_arena_printf(model->arena, "transform_config.%s: no module is a target of its location %s",
                   t->group->key, t->location));
}

/* ---- matrices ------------------------------------------------------------------------------------------ */

/* Is it a matrix of the group: "PATH.R4_input.weight"? */
static bool is_matrix(const transforms *t, const char *name)
{
    static const char ending[] = ".weight";
    if (!qc_ends_with(name, ending))
        return false;
    const char *path = qc_arena_strndup(t->model->arena, name, strlen(name) - (sizeof ending - 1));
    const char *last = strrchr(path, '.');
    const size_t length = strlen(t->group->key);
    return last && strncmp(last + 1, t->group->key, length) == 0 && last[1 + length] == '_' &&
           check_is_transform(t->model, path);
}

/* Does every entry of the matrix have one of two signs, as Hadamard matrices are stored, or (any) is it at least a
 * number? Blocks of rows, as matrices of 14336 rows are common. */
static bool has_entries(const transforms *t, const qc_st_tensor *m, bool any)
{
    enum { BLOCK_BYTES = 1 << 16 };
    unsigned char bytes[BLOCK_BYTES];
    const qc_st_file *file = &t->model->set->files[m->file];
    const qc_dtype dtype = qc_dtype_from_safetensors_name(m->dtype);
    const size_t each = dtype == QC_DTYPE_NONE ? 8 : (size_t)qc_dtype_bits(dtype) / 8;
    bool good = true;
    for (uint64_t at = 0; good && at < m->size_bytes; at += BLOCK_BYTES) {
        const uint64_t left = m->size_bytes - at;
        const size_t size = left < BLOCK_BYTES ? (size_t)left : BLOCK_BYTES;
        if (qc_pread_all(t->model->diag, file->fd, file->path, bytes, size, m->offset_bytes + at) != QC_OK)
            return false;
        for (size_t i = 0; good && i < size; i += each) {
            double value;
            float narrow = 0;
            if (each == 8) {
                memcpy(&value, bytes + i, 8);
            } else {
                qc_decode_f32(dtype, bytes + i, &narrow, 1);
                value = (double)narrow;
            }
            good = any ? isfinite(value) : value == 1 || value == -1;
        }
    }
    return good;
}

static void check_matrices(transforms *t)
{
    const bool any = strcmp(text_of(t->group, "type"), "random-matrix") == 0;
    qc_map stored;
    qc_arena *arena = t->model->arena;
    qc_map_init(&stored, arena);
    for (size_t i = 0; i < t->model->set->tensor_count; i++) {
        const qc_st_tensor *m = &t->model->set->tensors[i];
        if (!is_matrix(t, m->name))
            continue;
        if (m->rank != 2 || m->shape[0] != m->shape[1] || !check_is_plain(m->dtype)) {
            problem(t, qc_arena_printf(arena, "%s is %s; a rotation has a square matrix of floats", m->name,
                           check_tensor_text(arena, m)));
            continue;
        }
        if (!has_entries(t, m, any))
            problem(t, qc_arena_printf(arena, "%s holds entries that are %s", m->name,
                           any ? "no numbers" : "neither 1 nor -1: it is no Hadamard matrix"));
        const char *size = qc_arena_printf(arena, "%lld", (long long)m->shape[0]);
        if (!qc_map_find_n(&t->sizes, size, strlen(size)))
            problem(t, qc_arena_printf(arena, "%s is of size %s, which transform_config.%s has no use for",
                           m->name, size, t->group->key));
        qc_map_set(&stored, size, (void *)(uintptr_t)m);
    }
    for (size_t i = 0; i < t->sizes.count; i++)
        if (!qc_map_find_n(&stored, t->sizes.entries[i].key, strlen(t->sizes.entries[i].key)))
            problem(
                t, qc_arena_printf(arena,
                       "transform_config.%s rotates by a matrix of size %s as the model runs, and none is "
                       "stored",
                       t->group->key, t->sizes.entries[i].key));
}

/* ---- groups -------------------------------------------------------------------------------------------- */

static void tell_vllm(transforms *t, const char *type)
{
    const check_model *m = t->model;
    const qc_json *apply = qc_json_get(t->group, "apply");
    bool linear = false, attention = false;
    for (const qc_json *p = apply ? apply->first : NULL; p; p = p->next) {
        const char *location = text_of(p, "location");
        attention = attention || is_of_attention(location);
        linear = linear || (is_online(location) && !is_of_attention(location));
    }
    if (attention)
        check_find(m, t->verdict, CHECK_WRONG,
            "transform_config.%s rotates q and k, which is not executed: their scales are those of rotated "
            "ones (rule " QC_RULE_R3 ")",
            t->group->key);
    if (linear) {
        check_kernel kernel = {
            t->group->key, strcmp(type, "hadamard") == 0
                               ? "a rotation at run time: tensor parallel size 1, by a Hadamard kernel"
                               : "a rotation at run time: tensor parallel size 1, by a dense product"};
        QC_PUSH(m->arena, &t->verdict->kernels, kernel);
    }
}

static void visit_group(transforms *t)
{
    const char *type = text_of(t->group, "type");
    const qc_json *apply = qc_json_get(t->group, "apply"), *head_dim = qc_json_get(t->group, "head_dim");
    qc_map_init(&t->sizes, t->model->arena);
    t->head_dim = head_dim && head_dim->is_integer && head_dim->integer > 0 ? head_dim->integer : 0;
    if (head_dim && head_dim->kind != QC_JSON_NULL && t->head_dim == 0)
        problem(t, qc_arena_printf(t->model->arena,
                       "transform_config.%s: head_dim must be an integer above 0, or null", t->group->key));
    if (strcmp(type, "hadamard") != 0 && strcmp(type, "random-hadamard") != 0 &&
        strcmp(type, "random-matrix") != 0)
        problem(
            t, qc_arena_printf(t->model->arena,
                   "transform_config.%s is of the type '%s', which no loader knows", t->group->key, type));
    if (!apply || apply->kind != QC_JSON_ARRAY) {
        problem(
            t, qc_arena_printf(t->model->arena, "transform_config.%s: apply must be a list", t->group->key));
        return;
    }
    if (t->verdict)
        tell_vllm(t, type);
    for (t->place = apply->first; t->place; t->place = t->place->next)
        visit_place(t);
    if (t->problems)
        check_matrices(t);
}

static void visit_all(transforms *t)
{
    const qc_json *config = qc_json_get(t->model->quantization, "transform_config"),
                  *groups = qc_json_get(config, "config_groups");
    const bool off = !config || config->kind == QC_JSON_NULL ||
                     (config->kind == QC_JSON_OBJECT && config->length == 0) ||
                     (config->kind == QC_JSON_BOOL && !config->boolean);
    if (!off && (!groups || groups->kind != QC_JSON_OBJECT))
        problem(t, "transform_config.config_groups must be an object");
    for (t->group = groups && groups->kind == QC_JSON_OBJECT ? groups->first : NULL; t->group;
         t->group = t->group->next)
        visit_group(t);
}

void check_transform_rules(const check_model *model, check_problems *problems)
{
    transforms t = {.model = model, .problems = problems};
    visit_all(&t);
}

void check_vllm_transforms(const check_model *model, check_verdict *verdict)
{
    transforms t = {.model = model, .verdict = verdict};
    visit_all(&t);
}
