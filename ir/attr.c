/* SPDX-License-Identifier: MIT
 *
 * attr.c - attribute values: immutable, owned by the context. Maps are kept sorted by key, so that equal maps
 * print equally.
 */
#include "ir/ir.h"

static qc_attr *attr_new(qc_ctx *ctx, qc_attr_kind kind)
{
    qc_attr *attr = QC_NEW(&ctx->arena, qc_attr);
    attr->kind = kind;
    return attr;
}

const qc_attr *qc_attr_bool(qc_ctx *ctx, bool value)
{
    qc_attr *attr = attr_new(ctx, QC_ATTR_BOOL);
    attr->u.boolean = value;
    return attr;
}

const qc_attr *qc_attr_int(qc_ctx *ctx, int64_t value)
{
    qc_attr *attr = attr_new(ctx, QC_ATTR_INT);
    attr->u.integer = value;
    return attr;
}

const qc_attr *qc_attr_float(qc_ctx *ctx, double value)
{
    qc_attr *attr = attr_new(ctx, QC_ATTR_FLOAT);
    attr->u.number = value;
    return attr;
}

static const qc_attr *attr_text(qc_ctx *ctx, qc_attr_kind kind, const char *text)
{
    qc_attr *attr = attr_new(ctx, kind);
    attr->u.text = qc_intern(ctx, text, strlen(text));
    return attr;
}

const qc_attr *qc_attr_string(qc_ctx *ctx, const char *text)
{
    return attr_text(ctx, QC_ATTR_STRING, text);
}

const qc_attr *qc_attr_word(qc_ctx *ctx, const char *word)
{
    return attr_text(ctx, QC_ATTR_WORD, word);
}

const qc_attr *qc_attr_symbol(qc_ctx *ctx, const char *name)
{
    return attr_text(ctx, QC_ATTR_SYMBOL, name);
}

const qc_attr *qc_attr_list(qc_ctx *ctx, const qc_attr *const *items, size_t count)
{
    qc_attr *attr = attr_new(ctx, QC_ATTR_LIST);
    const qc_attr **copy = QC_NEW_ARRAY(&ctx->arena, const qc_attr *, count + 1);
    if (count)
        memcpy(copy, items, count * sizeof *copy);
    attr->u.list.count = count;
    attr->u.list.items = copy;
    return attr;
}

const qc_attr *qc_attr_map(qc_ctx *ctx, const char *const *keys, const qc_attr *const *values, size_t count)
{
    qc_attr *attr = attr_new(ctx, QC_ATTR_MAP);
    const qc_attr **items = QC_NEW_ARRAY(&ctx->arena, const qc_attr *, count + 1);
    const char **names = QC_NEW_ARRAY(&ctx->arena, const char *, count + 1);
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        if (!values[i])
            continue; /* an absent field */
        size_t j = n++;
        for (; j > 0 && strcmp(names[j - 1], keys[i]) > 0; j--) {
            names[j] = names[j - 1];
            items[j] = items[j - 1];
        }
        names[j] = qc_intern(ctx, keys[i], strlen(keys[i]));
        items[j] = values[i];
    }
    attr->u.list.count = n;
    attr->u.list.items = items;
    attr->u.list.keys = names;
    return attr;
}

static size_t data_bytes(qc_dtype dtype, size_t count)
{
    return (count * (size_t)qc_dtype_bits(dtype) + 7) / 8;
}

const qc_attr *qc_attr_data(qc_ctx *ctx, qc_dtype dtype, const void *bytes, size_t count)
{
    qc_attr *attr = attr_new(ctx, QC_ATTR_DATA);
    size_t size_bytes = data_bytes(dtype, count);
    void *copy = qc_arena_alloc(&ctx->arena, size_bytes + 1);
    if (size_bytes)
        memcpy(copy, bytes, size_bytes);
    attr->u.data.dtype = dtype;
    attr->u.data.count = count;
    attr->u.data.bytes = copy;
    return attr;
}

qc_attr_kind qc_attr_get_kind(const qc_attr *attr)
{
    return attr->kind;
}

bool qc_attr_as_bool(const qc_attr *attr)
{
    return attr && attr->kind == QC_ATTR_BOOL && attr->u.boolean;
}

int64_t qc_attr_as_int(const qc_attr *attr)
{
    return attr && attr->kind == QC_ATTR_INT ? attr->u.integer : 0;
}

double qc_attr_as_float(const qc_attr *attr)
{
    if (attr && attr->kind == QC_ATTR_INT)
        return (double)attr->u.integer;
    return attr && attr->kind == QC_ATTR_FLOAT ? attr->u.number : 0.0;
}

static bool is_text(const qc_attr *attr)
{
    return attr->kind == QC_ATTR_STRING || attr->kind == QC_ATTR_WORD || attr->kind == QC_ATTR_SYMBOL;
}

const char *qc_attr_as_text(const qc_attr *attr)
{
    return attr && is_text(attr) ? attr->u.text : "";
}

size_t qc_attr_count(const qc_attr *attr)
{
    if (attr && (attr->kind == QC_ATTR_LIST || attr->kind == QC_ATTR_MAP))
        return attr->u.list.count;
    return attr && attr->kind == QC_ATTR_DATA ? attr->u.data.count : 0;
}

const qc_attr *qc_attr_item(const qc_attr *attr, size_t index)
{
    bool has =
        attr && (attr->kind == QC_ATTR_LIST || attr->kind == QC_ATTR_MAP) && index < attr->u.list.count;
    return has ? attr->u.list.items[index] : NULL;
}

const char *qc_attr_key(const qc_attr *attr, size_t index)
{
    return attr && attr->kind == QC_ATTR_MAP && index < attr->u.list.count ? attr->u.list.keys[index] : NULL;
}

const qc_attr *qc_attr_find(const qc_attr *map, const char *key)
{
    if (!map || map->kind != QC_ATTR_MAP)
        return NULL;
    for (size_t i = 0; i < map->u.list.count; i++)
        if (!strcmp(map->u.list.keys[i], key))
            return map->u.list.items[i];
    return NULL;
}

qc_dtype qc_attr_data_dtype(const qc_attr *attr)
{
    return attr && attr->kind == QC_ATTR_DATA ? attr->u.data.dtype : QC_DTYPE_NONE;
}

const void *qc_attr_data_bytes(const qc_attr *attr)
{
    return attr && attr->kind == QC_ATTR_DATA ? attr->u.data.bytes : NULL;
}

bool qc_attr_equal(const qc_attr *a, const qc_attr *b)
{
    if (a == b)
        return true;
    if (!a || !b || a->kind != b->kind)
        return false;
    switch (a->kind) {
    case QC_ATTR_BOOL:
        return a->u.boolean == b->u.boolean;
    case QC_ATTR_INT:
        return a->u.integer == b->u.integer;
    case QC_ATTR_FLOAT: /* by bits: -0.0 is not 0.0, a NaN equals itself */
        return !memcmp(&a->u.number, &b->u.number, sizeof a->u.number);
    case QC_ATTR_STRING:
    case QC_ATTR_WORD:
    case QC_ATTR_SYMBOL:
        return !strcmp(a->u.text, b->u.text);
    case QC_ATTR_DATA:
        return a->u.data.dtype == b->u.data.dtype && a->u.data.count == b->u.data.count &&
               !memcmp(a->u.data.bytes, b->u.data.bytes, data_bytes(a->u.data.dtype, a->u.data.count));
    case QC_ATTR_LIST:
    case QC_ATTR_MAP:
        break;
    }
    if (a->u.list.count != b->u.list.count)
        return false;
    for (size_t i = 0; i < a->u.list.count; i++) {
        if (a->kind == QC_ATTR_MAP && strcmp(a->u.list.keys[i], b->u.list.keys[i]) != 0)
            return false;
        if (!qc_attr_equal(a->u.list.items[i], b->u.list.items[i]))
            return false;
    }
    return true;
}
