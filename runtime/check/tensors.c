/* SPDX-License-Identifier: MIT
 *
 * tensors.c - the tensors of two checkpoints: names, types, shapes, elements.
 *
 * Distance of two floats: steps between neighbours of their type (ulp), the codes taken as sign and magnitude, so
 * that both zeros are one point. Integers differ by their difference.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "ir/dtype/codec.h"
#include "ir/support/io.h"
#include "runtime/check/internal.h"

enum { BLOCK_BYTES = 1 << 20 };

/* What the elements of one tensor say. */
typedef struct tally {
    uint64_t differing, first; /* elements */
    uint64_t distance;         /* the largest */
    uint64_t nans;             /* elements that are NaN on one side only */
    double a, b;               /* the first pair */
} tally;

static uint64_t load(const unsigned char *p, size_t bytes)
{
    uint64_t v = 0;
    for (size_t i = bytes; i-- > 0;)
        v = v << 8 | p[i];
    return v;
}

/* Position of a float on the line of its type's values. */
static int64_t position(uint64_t code, int bits)
{
    uint64_t sign = code >> (bits - 1), magnitude = code & ((UINT64_C(1) << (bits - 1)) - 1);
    return sign ? -(int64_t)magnitude : (int64_t)magnitude;
}

static double value_of(qc_dtype dtype, const unsigned char *p)
{
    if (dtype == QC_F64) {
        double v;
        memcpy(&v, p, 8);
        return v;
    }
    float v;
    qc_decode_f32(dtype, p, &v, 1);
    return (double)v;
}

static uint64_t distance_of(qc_dtype dtype, uint64_t x, uint64_t y)
{
    int bits = qc_dtype_bits(dtype);
    if (qc_dtype_is_float(dtype)) {
        int64_t p = position(x, bits), q = position(y, bits);
        return p > q ? (uint64_t)p - (uint64_t)q : (uint64_t)q - (uint64_t)p;
    }
    bool is_signed = dtype == QC_I8 || dtype == QC_I16 || dtype == QC_I32 || dtype == QC_I64;
    uint64_t flip = is_signed ? UINT64_C(1) << (bits - 1) : 0;
    x ^= flip;
    y ^= flip;
    return x > y ? x - y : y - x;
}

static void tally_block(tally *t, qc_dtype dtype, const unsigned char *a, const unsigned char *b,
    size_t length, uint64_t first_element)
{
    size_t size = (size_t)qc_dtype_bits(dtype) / 8;
    for (size_t i = 0; i * size < length; i++) {
        const unsigned char *p = a + i * size, *q = b + i * size;
        if (memcmp(p, q, size) == 0)
            continue;
        double x = value_of(dtype, p), y = value_of(dtype, q);
        if (t->differing++ == 0) {
            t->first = first_element + i;
            t->a = x;
            t->b = y;
        }
        if ((x != x) != (y != y)) {
            t->nans++;
            continue;
        }
        uint64_t d = distance_of(dtype, load(p, size), load(q, size));
        t->distance = d > t->distance ? d : t->distance;
    }
}

/* "[3, 17]" of an element number. */
static const char *index_text(check_diff *d, const qc_st_tensor *t, uint64_t element)
{
    int64_t index[64];
    if (t->rank > 64)
        return "[...]";
    for (int i = t->rank; i-- > 0;) {
        uint64_t size = (uint64_t)t->shape[i];
        index[i] = size ? (int64_t)(element % size) : 0;
        element = size ? element / size : 0;
    }
    return check_shape_text(d->arena, index, t->rank);
}

static void report_tally(check_diff *d, const qc_st_tensor *t, qc_dtype dtype, const tally *sum)
{
    uint64_t count = t->size_bytes / ((uint64_t)qc_dtype_bits(dtype) / 8);
    const char *how = qc_dtype_is_float(dtype)
                          ? qc_arena_printf(d->arena, "by at most %" PRIu64 " ulp", sum->distance)
                          : qc_arena_printf(d->arena, "by at most %" PRIu64, sum->distance);
    if (sum->nans)
        how = qc_arena_printf(d->arena, "%s, %" PRIu64 " are NaN on one side only", how, sum->nans);
    check_differ(d, "tensor", t->name,
        "%" PRIu64 " of %" PRIu64 " elements differ, %s; first at %s: %.9g != %.9g", sum->differing, count,
        how, index_text(d, t, sum->first), sum->a, sum->b);
}

/* Bytes of two tensors of one type and shape. */
static qc_status compare_bytes(
    check_diff *d, const qc_st_tensor *a, const qc_st_tensor *b, unsigned char *blocks)
{
    const qc_st_file *fa = &d->a.set.files[a->file], *fb = &d->b.set.files[b->file];
    qc_dtype dtype = qc_dtype_from_safetensors_name(a->dtype);
    bool elements = dtype != QC_DTYPE_NONE && qc_dtype_bits(dtype) >= 8;
    tally sum = {0};
    bool differ = false;
    for (uint64_t at = 0; at < a->size_bytes; at += BLOCK_BYTES) {
        size_t n = a->size_bytes - at < BLOCK_BYTES ? (size_t)(a->size_bytes - at) : BLOCK_BYTES;
        if (qc_pread_all(d->diag, fa->fd, fa->path, blocks, n, a->offset_bytes + at) != QC_OK ||
            qc_pread_all(d->diag, fb->fd, fb->path, blocks + BLOCK_BYTES, n, b->offset_bytes + at) != QC_OK)
            return QC_ERROR;
        if (memcmp(blocks, blocks + BLOCK_BYTES, n) != 0) {
            differ = true;
            if (elements)
                tally_block(
                    &sum, dtype, blocks, blocks + BLOCK_BYTES, n, at / ((uint64_t)qc_dtype_bits(dtype) / 8));
        }
        d->done_bytes += n;
        if (d->options->progress)
            d->options->progress(d->options->progress_user, "compare", "B", d->done_bytes, d->total_bytes);
    }
    if (differ && elements)
        report_tally(d, a, dtype, &sum);
    else if (differ)
        check_differ(d, "tensor", a->name, "the bytes differ");
    return QC_OK;
}

static bool same_type(check_diff *d, const qc_st_tensor *a, const char *dtype, const int64_t *shape, int rank)
{
    bool same = true;
    if (strcmp(a->dtype, dtype) != 0) {
        check_differ(d, "tensor", a->name, "dtype %s != %s", a->dtype, dtype);
        same = false;
    }
    if (a->rank != rank || (rank && memcmp(a->shape, shape, (size_t)rank * sizeof *shape) != 0)) {
        check_differ(d, "tensor", a->name, "shape %s != %s", check_shape_text(d->arena, a->shape, a->rank),
            check_shape_text(d->arena, shape, rank));
        same = false;
    }
    return same;
}

/* ---- a golden ------------------------------------------------------------------------------------------ */

static qc_status hash_tensor(check_diff *d, const qc_st_tensor *t, unsigned char *block, char hex[65])
{
    const qc_st_file *f = &d->a.set.files[t->file];
    qc_sha256 h;
    qc_sha256_init(&h);
    for (uint64_t at = 0; at < t->size_bytes; at += BLOCK_BYTES) {
        size_t n = t->size_bytes - at < BLOCK_BYTES ? (size_t)(t->size_bytes - at) : BLOCK_BYTES;
        if (qc_pread_all(d->diag, f->fd, f->path, block, n, t->offset_bytes + at) != QC_OK)
            return QC_ERROR;
        qc_sha256_add(&h, block, n);
        d->done_bytes += n;
        if (d->options->progress)
            d->options->progress(d->options->progress_user, "compare", "B", d->done_bytes, d->total_bytes);
    }
    qc_sha256_hex(&h, hex);
    return QC_OK;
}

static qc_status golden_shape(check_diff *d, const qc_json *entry, const int64_t **shape, int *rank)
{
    const qc_json *list = qc_json_get(entry, "shape");
    if (!list || list->kind != QC_JSON_ARRAY || list->length > 64)
        return qc_error(d->diag, "golden.json", "%s: shape must be a list of integers", entry->key);
    int64_t *dims = QC_NEW_ARRAY(d->arena, int64_t, list->length + 1);
    *rank = 0;
    for (const qc_json *item = list->first; item; item = item->next) {
        if (item->kind != QC_JSON_NUMBER || !item->is_integer)
            return qc_error(d->diag, "golden.json", "%s: shape must be a list of integers", entry->key);
        dims[(*rank)++] = item->integer;
    }
    *shape = dims;
    return QC_OK;
}

/* One tensor against its entry; when the digest differs and the golden keeps the tensor, by elements. */
static qc_status compare_golden(
    check_diff *d, const qc_st_tensor *a, const qc_json *entry, unsigned char *blocks)
{
    const int64_t *shape = NULL;
    int rank = 0;
    const char *dtype, *expected;
    const char *where = qc_path_join(d->arena, d->b.directory, "golden.json");
    if (golden_shape(d, entry, &shape, &rank) != QC_OK ||
        qc_json_string(d->diag, where, entry, "dtype", true, &dtype) != QC_OK ||
        qc_json_string(d->diag, where, entry, "sha256", true, &expected) != QC_OK)
        return QC_ERROR;
    if (!same_type(d, a, dtype, shape, rank))
        return QC_OK;
    char hex[65];
    if (hash_tensor(d, a, blocks, hex) != QC_OK)
        return QC_ERROR;
    if (strcmp(hex, expected) == 0)
        return QC_OK;
    const qc_st_tensor *kept = qc_st_find(&d->b.set, a->name);
    size_t before = d->differences.count;
    if (kept && kept->size_bytes == a->size_bytes && compare_bytes(d, a, kept, blocks) != QC_OK)
        return QC_ERROR;
    if (d->differences.count == before)
        check_differ(d, "tensor", a->name, "the bytes differ: sha256 %.16s... != %.16s...", hex, expected);
    return QC_OK;
}

/* ---- all ----------------------------------------------------------------------------------------------- */

/* Names of one side, in byte order. */
typedef QC_VEC(const char *) name_list;

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void sort_names(name_list *names)
{
    if (names->count)
        qsort(names->items, names->count, sizeof *names->items, by_text);
}

static qc_status compare_named(check_diff *d, const char *name, unsigned char *blocks)
{
    const qc_st_tensor *a = qc_st_find(&d->a.set, name);
    d->tensor_count++;
    if (d->b.golden)
        return compare_golden(d, a, qc_json_get(qc_json_get(d->b.golden, "tensors"), name), blocks);
    const qc_st_tensor *b = qc_st_find(&d->b.set, name);
    return same_type(d, a, b->dtype, b->shape, b->rank) ? compare_bytes(d, a, b, blocks) : QC_OK;
}

static bool in_b(const check_diff *d, const char *name)
{
    return d->b.golden ? qc_json_get(qc_json_get(d->b.golden, "tensors"), name) != NULL
                       : qc_st_find(&d->b.set, name) != NULL;
}

static void list_names(check_diff *d, name_list *a, name_list *only_b)
{
    for (size_t i = 0; i < d->a.set.tensor_count; i++) {
        QC_PUSH(d->arena, a, d->a.set.tensors[i].name);
        d->total_bytes += d->a.set.tensors[i].size_bytes;
    }
    const qc_json *tensors = qc_json_get(d->b.golden, "tensors");
    for (const qc_json *t = tensors ? tensors->first : NULL; t; t = t->next)
        if (!qc_st_find(&d->a.set, t->key))
            QC_PUSH(d->arena, only_b, t->key);
    for (size_t i = 0; !d->b.golden && i < d->b.set.tensor_count; i++)
        if (!qc_st_find(&d->a.set, d->b.set.tensors[i].name))
            QC_PUSH(d->arena, only_b, d->b.set.tensors[i].name);
    sort_names(a);
    sort_names(only_b);
}

qc_status check_diff_tensors(check_diff *d)
{
    name_list names = {0}, only_b = {0};
    list_names(d, &names, &only_b);
    unsigned char *blocks = malloc(2 * (size_t)BLOCK_BYTES);
    if (!blocks)
        return qc_error(d->diag, "", "out of memory");
    qc_status status = QC_OK;
    for (size_t i = 0; status == QC_OK && i < names.count; i++) {
        if (in_b(d, names.items[i]))
            status = compare_named(d, names.items[i], blocks);
        else
            check_differ(d, "tensor", names.items[i], "only in %s", d->a.directory);
    }
    for (size_t i = 0; i < only_b.count; i++)
        check_differ(d, "tensor", only_b.items[i], "only in %s", d->b.directory);
    free(blocks);
    if (status == QC_OK && d->options->progress && d->total_bytes)
        d->options->progress(d->options->progress_user, "compare", "B", d->total_bytes, d->total_bytes);
    return status;
}
