/* SPDX-License-Identifier: MIT
 *
 * transforms.c - transform_config of compressed-tensors: rotations that the weights hold already, and rotations of a model
 * at work, which become `hadamard` ops. The module gets `transform` symbols of both.
 *
 *   input, output    of a linear: x M before it, y M^T (as `inverse` says) behind it
 *   q_attn, k_cache  of attention: behind RoPE, before codes
 *   weight_input, weight_output   are in the weights
 *
 * M is H / sqrt(n) (ir/dtype/hadamard.h), of the size that head_dim says, else of the whole side; products are taken in
 * `precision`. Matrices that are stored, +-1, one for each size, are compared with those of their kind.
 */
#include "frontends/hf/import.h"

#include <stdlib.h>

#include "ir/ctx.h"
#include "ir/dtype/codec.h"
#include "ir/dtype/hadamard.h"
#include "ir/support/io.h"

enum { MAX_SIZE = 1 << 20 };

/* ---- transform_config ---------------------------------------------------------------------------------- */

static qc_status read_names(qc_hf_state *s, const char *where, const qc_json *object, const char *key,
    const char ***names, size_t *count)
{
    const qc_json *list = qc_json_get(object, key);
    *count = 0;
    if (!list)
        return QC_OK;
    if (list->kind != QC_JSON_ARRAY)
        return qc_error(s->diag, where, "%s must be a list of strings", key);
    *names = QC_NEW_ARRAY(s->arena, const char *, list->length + 1);
    for (const qc_json *item = list->first; item; item = item->next) {
        if (item->kind != QC_JSON_STRING)
            return qc_error(s->diag, where, "%s must be a list of strings", key);
        if (qc_target_check_at(s->ctx, where, item->text) != QC_OK)
            return QC_ERROR;
        (*names)[(*count)++] = item->text;
    }
    return QC_OK;
}

static qc_status read_place(
    qc_hf_state *s, const char *where, const qc_json *object, qc_hf_transform *t, qc_hf_place *p)
{
    static const char *const locations[] = {
        "input", "output", "q_attn", "k_cache", "weight_input", "weight_output"};
    size_t known = 0;
    if (object->kind != QC_JSON_OBJECT)
        return qc_error(s->diag, where, "apply must be a list of objects");
    if (qc_json_string(s->diag, where, object, "location", true, &p->location) ||
        qc_json_bool(s->diag, where, object, "inverse", false, &p->inverse) ||
        read_names(s, where, object, "targets", &p->targets, &p->target_count) ||
        read_names(s, where, object, "ignore", &p->ignore, &p->ignore_count))
        return QC_ERROR;
    while (known < 6 && strcmp(locations[known], p->location) != 0)
        known++;
    if (known == 6)
        return qc_error(s->diag, where, "location '%s' is not supported", p->location);
    p->online = known < 4;
    t->online = t->online || p->online;
    return QC_OK;
}

/* What only matters to rotations of a model at work. */
static qc_status check_online(
    qc_hf_state *s, const char *where, const qc_json *object, const char *type, const qc_hf_transform *t)
{
    bool randomize = false;
    if (strcmp(type, "hadamard") != 0 && strcmp(type, "random-hadamard") != 0)
        return qc_error(s->diag, where, "type '%s' of a rotation at run time is not supported", type);
    if (qc_json_bool(s->diag, where, object, "randomize", false, &randomize))
        return QC_ERROR;
    if (randomize)
        return qc_error(s->diag, where, "a randomized rotation at run time is not supported");
    if (strcmp(t->precision, "float64") != 0 && strcmp(t->precision, "float32") != 0)
        return qc_error(
            s->diag, where, "precision '%s' of a rotation at run time is not supported", t->precision);
    return QC_OK;
}

static qc_status read_transform(qc_hf_state *s, const char *where, const qc_json *object, qc_hf_transform *t)
{
    static const char prefix[] = "torch.";
    const char *type = NULL;
    const qc_json *apply = qc_json_get(object, "apply");
    t->precision = "float32";
    if (object->kind != QC_JSON_OBJECT)
        return qc_error(s->diag, where, "must be an object");
    if (!apply || apply->kind != QC_JSON_ARRAY)
        return qc_error(s->diag, where, "apply must be a list");
    if (qc_json_string(s->diag, where, object, "type", true, &type) ||
        qc_json_string(s->diag, where, object, "precision", false, &t->precision) ||
        qc_json_int(s->diag, where, object, "head_dim", false, &t->head_dim))
        return QC_ERROR;
    t->precision += qc_starts_with(t->precision, prefix) ? sizeof prefix - 1 : 0;
    if (t->head_dim < 0 || t->head_dim > MAX_SIZE)
        return qc_error(s->diag, where, "head_dim %lld is no size", (long long)t->head_dim);
    t->random = strcmp(type, "random-hadamard") == 0;
    t->known = t->random || strcmp(type, "hadamard") == 0;
    t->places = QC_NEW_ARRAY(s->arena, qc_hf_place, apply->length + 1);
    for (const qc_json *one = apply->first; one; one = one->next)
        if (read_place(s, where, one, t, &t->places[t->place_count++]))
            return QC_ERROR;
    return t->online ? check_online(s, where, object, type, t) : QC_OK;
}

qc_status qc_hf_transforms_read(qc_hf_state *s, const char *where, const qc_json *object)
{
    qc_hf_quantization *q = &s->quantization;
    if (qc_hf_json_is_off(object))
        return QC_OK;
    const qc_json *groups = qc_json_get(object, "config_groups");
    if (!groups || groups->kind != QC_JSON_OBJECT)
        return qc_error(s->diag, where, "config_groups must be an object");
    q->transforms = QC_NEW_ARRAY(s->arena, qc_hf_transform, groups->length + 1);
    for (const qc_json *group = groups->first; group; group = group->next) {
        qc_hf_transform *t = &q->transforms[q->transform_count++];
        *t = (qc_hf_transform){.name = group->key};
        if (read_transform(s, qc_arena_printf(s->arena, "%s.config_groups.%s", where, group->key), group, t))
            return QC_ERROR;
    }
    return QC_OK;
}

/* ---- places -------------------------------------------------------------------------------------------- */

static bool names_any(const qc_node *node, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (qc_node_matches(node, names[i]))
            return true;
    return false;
}

static bool is_at(const qc_hf_place *p, const qc_node *node, const char *location)
{
    return strcmp(p->location, location) == 0 && names_any(node, p->targets, p->target_count) &&
           !names_any(node, p->ignore, p->ignore_count);
}

/* The matrix of that size; matrices of one transform share a generator of signs. */
static const qc_hf_matrix *matrix_of(qc_hf_state *s, qc_hf_transform *t, int64_t size)
{
    qc_hf_matrix m = {size, 0};
    for (size_t i = 0; i < t->matrices.count; i++) {
        if (t->matrices.items[i].size == size)
            return &t->matrices.items[i];
        m.drawn += t->random ? t->matrices.items[i].size : 0;
    }
    QC_PUSH(s->arena, &t->matrices, m);
    return &t->matrices.items[t->matrices.count - 1];
}

static qc_value *build_matrix(qc_hf_state *s, qc_builder *b, qc_hf_transform *t, int64_t size, bool inverse,
    qc_value *x, const char *hint)
{
    const qc_hf_matrix *m = matrix_of(s, t, size);
    qc_make(b, "hadamard");
    qc_make_operand(b, "x", x);
    qc_make_attr_int(b, "size", size);
    if (t->random)
        qc_make_attr_word(b, "matrix", "random_hadamard");
    if (inverse)
        qc_make_attr_bool(b, "inverse", true);
    if (m->drawn)
        qc_make_attr_int(b, "drawn", m->drawn);
    if (strcmp(t->precision, "float64") == 0)
        qc_make_attr_word(b, "compute", "f64");
    return qc_make_end(b, hint);
}

qc_value *qc_hf_build_rotation(qc_hf_state *s, qc_builder *b, const qc_node *node, const char *location,
    int64_t dimension, qc_value *x, qc_hf_rotated *last, const char *hint)
{
    const qc_hf_quantization *q = &s->quantization;
    const qc_hf_transform *found = NULL;
    const qc_hf_place *place = NULL;
    for (size_t i = 0; i < q->transform_count; i++)
        for (size_t k = 0; k < q->transforms[i].place_count; k++) {
            if (!is_at(&q->transforms[i].places[k], node, location))
                continue;
            if (found) {
                qc_error(s->diag, s->config.path, "transform_config: %s and %s both rotate the %s of %s",
                    found->name, q->transforms[i].name, location, qc_node_path(node));
                return NULL;
            }
            found = &q->transforms[i];
            place = &q->transforms[i].places[k];
        }
    if (!found)
        return x;
    if (last->result && last->x == x && last->place == place)
        return last->result;
    const int64_t size = found->head_dim ? found->head_dim : dimension;
    if (size < 1 || dimension % size != 0 || !qc_hadamard_size_known(size) ||
        (!found->random && !qc_hadamard_is_sylvester(size))) {
        qc_error(s->diag, s->config.path,
            "transform_config: %s has no %s matrix of size %lld for the %s of %s", found->name,
            found->random ? "random-hadamard" : "hadamard", (long long)size, location, qc_node_path(node));
        return NULL;
    }
    last->x = x;
    last->place = place;
    last->result = build_matrix(s, b, (qc_hf_transform *)(uintptr_t)found, size, place->inverse, x, hint);
    return last->result;
}

/* ---- stored matrices ----------------------------------------------------------------------------------- */

/* Does it hold the entries of H? */
static qc_status compare_matrix(qc_hf_state *s, const qc_st_tensor *t, const qc_hadamard *h, bool *same)
{
    enum { BLOCK_ELEMS = 1 << 16 };
    const qc_st_file *file = &s->set.files[t->file];
    const qc_dtype dtype = qc_dtype_from_safetensors_name(t->dtype);
    const size_t each = (size_t)qc_dtype_bits(dtype) / 8, columns = (size_t)h->size;
    const int64_t block = columns > BLOCK_ELEMS ? 1 : (int64_t)(BLOCK_ELEMS / columns);
    double *wanted = malloc((size_t)block * columns * sizeof *wanted);
    unsigned char *bytes = malloc((size_t)block * columns * each);
    qc_status status = wanted && bytes ? QC_OK : qc_error(s->diag, file->path, "out of memory");
    *same = true;
    for (int64_t row = 0; status == QC_OK && *same && row < h->size; row += block) {
        const int64_t rows = h->size - row < block ? h->size - row : block;
        const size_t count = (size_t)rows * columns;
        status = qc_pread_all(s->diag, file->fd, file->path, bytes, count * each,
            t->offset_bytes + (uint64_t)row * columns * each);
        if (status != QC_OK)
            break;
        qc_hadamard_rows(h, row, rows, wanted);
        for (size_t i = 0; *same && i < count; i++) {
            double value;
            float narrow = 0;
            if (dtype == QC_F64)
                memcpy(&value, bytes + 8 * i, 8);
            else
                qc_decode_f32(dtype, bytes + each * i, &narrow, 1);
            *same = (dtype == QC_F64 ? value : (double)narrow) == wanted[i];
        }
    }
    free(wanted);
    free(bytes);
    return status;
}

/* A matrix of the transform: is it the one of its kind? */
static qc_status check_matrix(qc_hf_state *s, const qc_st_tensor *t, qc_hf_transform *transform)
{
    const char *path = s->set.files[t->file].path;
    const qc_dtype dtype = qc_dtype_from_safetensors_name(t->dtype);
    const bool plain = dtype == QC_F64 || dtype == QC_F32 || dtype == QC_BF16 || dtype == QC_F16;
    qc_hadamard h;
    bool same;
    if (t->rank != 2 || t->shape[0] != t->shape[1] || t->shape[0] < 1 || t->shape[0] > MAX_SIZE || !plain)
        return qc_error(s->diag, path,
            "tensor %s is no square matrix of floats, as transform_config.%s needs", t->name,
            transform->name);
    if (transform->head_dim && t->shape[0] != transform->head_dim)
        return qc_error(s->diag, path, "tensor %s is of size %lld, but transform_config.%s says %lld",
            t->name, (long long)t->shape[0], transform->name, (long long)transform->head_dim);
    if (qc_hadamard_make_drawn(s->diag, s->arena, path, t->shape[0], transform->random,
            matrix_of(s, transform, t->shape[0])->drawn, &h) != QC_OK ||
        compare_matrix(s, t, &h, &same) != QC_OK)
        return QC_ERROR;
    return same ? QC_OK
                : qc_error(s->diag, path,
                      "tensor %s is not the %s matrix that transform_config.%s names; matrices of one's own "
                      "are not supported",
                      t->name, transform->random ? "random-hadamard" : "hadamard", transform->name);
}

/* The place whose matrix would be stored in the module `child` of the node. */
static qc_hf_transform *owner_of(const qc_hf_state *s, const qc_node *node, const char *child)
{
    const qc_hf_quantization *q = &s->quantization;
    for (size_t i = 0; i < q->transform_count; i++)
        for (size_t k = 0; k < q->transforms[i].place_count; k++) {
            const qc_hf_place *p = &q->transforms[i].places[k];
            if (p->online && is_at(p, node, p->location) &&
                strcmp(child, qc_arena_printf(s->arena, "%s_%s", q->transforms[i].name, p->location)) == 0)
                return &q->transforms[i];
        }
    return NULL;
}

/* The transform whose matrix the tensor would be, NULL: none's. */
static qc_hf_transform *transform_of(qc_hf_state *s, const qc_st_tensor *t)
{
    static const char ending[] = ".weight";
    char *path = qc_arena_strdup(s->arena, t->name);
    if (!qc_ends_with(path, ending))
        return NULL;
    path[strlen(path) + 1 - sizeof ending] = '\0';
    char *dot = strrchr(path, '.');
    if (!dot)
        return NULL;
    *dot = '\0';
    const qc_node *node = qc_module_find_node(s->module, path);
    return node ? owner_of(s, node, dot + 1) : NULL;
}

void qc_hf_transforms_own(qc_hf_state *s)
{
    for (size_t i = 0; s->quantization.transform_count && i < s->set.tensor_count; i++) {
        const qc_st_tensor *t = &s->set.tensors[i];
        if (transform_of(s, t))
            qc_map_set(&s->owned, t->name, (void *)(uintptr_t)t->name);
    }
}

static void mark_stored(qc_hf_transform *transform, int64_t size)
{
    for (size_t i = 0; i < transform->matrices.count; i++)
        transform->matrices.items[i].stored |= transform->matrices.items[i].size == size;
}

/* Loaders take the matrices of rotations at run time from the checkpoint; here they are made from their names. */
static void warn_of_missing(qc_hf_state *s)
{
    const qc_hf_quantization *q = &s->quantization;
    for (size_t i = 0; i < q->transform_count; i++)
        for (size_t k = 0; q->transforms[i].online && k < q->transforms[i].matrices.count; k++)
            if (!q->transforms[i].matrices.items[k].stored)
                qc_warning(s->diag, s->directory,
                    "transform_config.%s rotates by a matrix of size %lld as the model runs, and none is "
                    "stored: it "
                    "is made here, where loaders would have none",
                    q->transforms[i].name, (long long)q->transforms[i].matrices.items[k].size);
}

qc_status qc_hf_transforms_check(qc_hf_state *s)
{
    for (size_t i = 0; s->quantization.transform_count && i < s->set.tensor_count; i++) {
        qc_hf_transform *transform = transform_of(s, &s->set.tensors[i]);
        if (!transform)
            continue;
        if (check_matrix(s, &s->set.tensors[i], transform) != QC_OK)
            return QC_ERROR;
        mark_stored(transform, s->set.tensors[i].shape[0]);
    }
    warn_of_missing(s);
    return QC_OK;
}

/* ---- symbols ------------------------------------------------------------------------------------------- */

static const qc_attr *list_attr(qc_hf_state *s, const char *const *names, size_t count)
{
    const qc_attr **items = QC_NEW_ARRAY(s->arena, const qc_attr *, count + 1);
    for (size_t i = 0; i < count; i++)
        items[i] = qc_attr_string(s->ctx, names[i]);
    return qc_attr_list(s->ctx, items, count);
}

static const qc_attr *place_attr(qc_hf_state *s, const qc_hf_place *p)
{
    const char *keys[4] = {"location", "targets"};
    const qc_attr *values[4] = {qc_attr_word(s->ctx, p->location), list_attr(s, p->targets, p->target_count)};
    size_t count = 2;
    if (p->ignore_count) {
        keys[count] = "ignore";
        values[count++] = list_attr(s, p->ignore, p->ignore_count);
    }
    if (p->inverse) {
        keys[count] = "inverse";
        values[count++] = qc_attr_bool(s->ctx, true);
    }
    return qc_attr_map(s->ctx, keys, values, count);
}

qc_status qc_hf_transforms_symbols(qc_hf_state *s)
{
    const qc_hf_quantization *q = &s->quantization;
    for (size_t i = 0; i < q->transform_count; i++) {
        const qc_hf_transform *t = &q->transforms[i];
        const qc_attr **places = QC_NEW_ARRAY(s->arena, const qc_attr *, t->place_count + 1);
        if (!t->known) /* of the weights alone, which hold it */
            continue;
        for (size_t k = 0; k < t->place_count; k++)
            places[k] = place_attr(s, &t->places[k]);
        const char *keys[5] = {"apply", "precision", "size", "type", "head_dim"};
        const qc_attr *values[5] = {qc_attr_list(s->ctx, places, t->place_count),
            qc_attr_word(s->ctx, strcmp(t->precision, "float64") == 0 ? "f64" : "f32"),
            qc_attr_int(s->ctx, t->head_dim),
            qc_attr_word(s->ctx, t->random ? "random_hadamard" : "hadamard"),
            qc_attr_int(s->ctx, t->head_dim)};
        if (!qc_module_add_symbol(s->module, "transform", qc_hf_symbol_of(s->arena, t->name),
                qc_attr_map(s->ctx, keys, values, t->head_dim ? 5 : 4)))
            return qc_error(
                s->diag, s->config.path, "transform_config has two groups that are both @%s", t->name);
    }
    return QC_OK;
}
