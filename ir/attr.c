/* SPDX-License-Identifier: MIT
 *
 * attr.c - attribute values: immutable, owned by the context. Maps are kept sorted by key, so that equal maps
 * print equally.
 */
#include "ir/ir.h"

/* An attribute is found by kind and content, so equal values of one context are one object and a context
 * that reads many modules does not grow with them. */
static const qc_attr *scalar(qc_ctx *ctx, qc_attr attr, uint64_t bits)
{
    const uint64_t key[2] = {attr.kind, bits};
    qc_map_entry *entry = qc_map_add_n(&ctx->attrs, (const char *)key, sizeof key);
    if (!entry->value) {
        qc_attr *copy = QC_NEW(&ctx->arena, qc_attr);
        *copy = attr;
        entry->value = copy;
    }
    return entry->value;
}

/* The attribute whose key was put together in `key`; a new one, of no kind yet, when there is none. */
static qc_attr *aggregate(qc_ctx *ctx, qc_str *key, bool *known)
{
    qc_map_entry *entry = qc_map_add_n(&ctx->attrs, key->data, key->length);
    *known = entry->value != NULL;
    if (!entry->value)
        entry->value = QC_NEW(&ctx->arena, qc_attr);
    qc_str_fini(key);
    return entry->value;
}

static void begin_key(qc_ctx *ctx, qc_str *key, qc_attr_kind kind, size_t count)
{
    uint64_t head[3] = {kind, count, 0}; /* longer than a scalar's key */
    qc_str_init(key, &ctx->arena);
    qc_str_add_bytes(key, (const char *)head, sizeof head);
}

const qc_attr *qc_attr_bool(qc_ctx *ctx, bool value)
{
    return scalar(ctx, (qc_attr){.kind = QC_ATTR_BOOL, .u.boolean = value}, value);
}

const qc_attr *qc_attr_int(qc_ctx *ctx, int64_t value)
{
    return scalar(ctx, (qc_attr){.kind = QC_ATTR_INT, .u.integer = value}, (uint64_t)value);
}

/* By bits: -0.0 is not 0.0, and a NaN equals itself. */
const qc_attr *qc_attr_float(qc_ctx *ctx, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return scalar(ctx, (qc_attr){.kind = QC_ATTR_FLOAT, .u.number = value}, bits);
}

static const qc_attr *attr_text(qc_ctx *ctx, qc_attr_kind kind, const char *text)
{
    text = qc_intern(ctx, text, strlen(text));
    return scalar(ctx, (qc_attr){.kind = kind, .u.text = text}, (uintptr_t)text);
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
    qc_str key;
    bool known;
    begin_key(ctx, &key, QC_ATTR_LIST, count);
    qc_str_add_bytes(&key, (const char *)items, count * sizeof *items);
    qc_attr *attr = aggregate(ctx, &key, &known);
    if (known)
        return attr;
    const qc_attr **copy = QC_NEW_ARRAY(&ctx->arena, const qc_attr *, count + 1);
    if (count)
        memcpy(copy, items, count * sizeof *copy);
    attr->kind = QC_ATTR_LIST;
    attr->u.list.count = count;
    attr->u.list.items = copy;
    return attr;
}

const qc_attr *qc_attr_map(qc_ctx *ctx, const char *const *keys, const qc_attr *const *values, size_t count)
{
    qc_arena arena; /* of the sorted copy, until it is known to be new */
    qc_arena_init(&arena, ctx->arena.oom);
    const qc_attr **items = QC_NEW_ARRAY(&arena, const qc_attr *, count);
    const char **names = QC_NEW_ARRAY(&arena, const char *, count);
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        if (!values[i])
            continue; /* an absent field */
        size_t j = n;
        while (j > 0 && strcmp(names[j - 1], keys[i]) > 0)
            j--;
        if (j > 0 && !strcmp(names[j - 1], keys[i])) {
            items[j - 1] = values[i]; /* the last one counts */
            continue;
        }
        memmove(names + j + 1, names + j, (n - j) * sizeof *names);
        memmove(items + j + 1, items + j, (n - j) * sizeof *items);
        names[j] = qc_intern(ctx, keys[i], strlen(keys[i]));
        items[j] = values[i];
        n++;
    }
    qc_str key;
    bool known;
    begin_key(ctx, &key, QC_ATTR_MAP, n);
    qc_str_add_bytes(&key, (const char *)names, n * sizeof *names);
    qc_str_add_bytes(&key, (const char *)items, n * sizeof *items);
    qc_attr *attr = aggregate(ctx, &key, &known);
    if (!known) {
        const qc_attr **kept_items = QC_NEW_ARRAY(&ctx->arena, const qc_attr *, n + 1);
        const char **kept_names = QC_NEW_ARRAY(&ctx->arena, const char *, n + 1);
        memcpy(kept_items, items, n * sizeof *items);
        memcpy(kept_names, names, n * sizeof *names);
        attr->kind = QC_ATTR_MAP;
        attr->u.list.count = n;
        attr->u.list.items = kept_items;
        attr->u.list.keys = kept_names;
    }
    qc_arena_fini(&arena);
    return attr;
}

static size_t data_bytes(qc_dtype dtype, size_t count)
{
    return (count * (size_t)qc_dtype_bits(dtype) + 7) / 8;
}

const qc_attr *qc_attr_data(qc_ctx *ctx, qc_dtype dtype, const void *bytes, size_t count)
{
    qc_str key;
    bool known;
    size_t size_bytes = data_bytes(dtype, count);
    begin_key(ctx, &key, QC_ATTR_DATA, count);
    qc_str_add_char(&key, (char)dtype);
    qc_str_add_bytes(&key, bytes, size_bytes);
    qc_attr *attr = aggregate(ctx, &key, &known);
    if (known)
        return attr;
    void *copy = qc_arena_alloc(&ctx->arena, size_bytes + 1);
    if (size_bytes)
        memcpy(copy, bytes, size_bytes);
    attr->kind = QC_ATTR_DATA;
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

bool qc_is_identifier(const char *text)
{
    if (!((*text >= 'a' && *text <= 'z') || (*text >= 'A' && *text <= 'Z') || *text == '_'))
        return false;
    for (; *text; text++)
        if (!((*text >= 'a' && *text <= 'z') || (*text >= 'A' && *text <= 'Z') ||
                (*text >= '0' && *text <= '9') || *text == '_'))
            return false;
    return true;
}

static const char *problem_at(const qc_attr *attr, int depth)
{
    if (!attr)
        return "a missing value in a list";
    if (depth > QC_MAX_ATTR_DEPTH)
        return "values nested too deep";
    switch (attr->kind) {
    case QC_ATTR_WORD:
        if (!strcmp(attr->u.text, "true") || !strcmp(attr->u.text, "false") || !strcmp(attr->u.text, "inf") ||
            !strcmp(attr->u.text, "nan"))
            return "a word that reads as another value";
        return qc_is_identifier(attr->u.text) ? NULL : "a word that is no identifier";
    case QC_ATTR_SYMBOL:
        return qc_is_identifier(attr->u.text) ? NULL : "a symbol name that is no identifier";
    case QC_ATTR_DATA:
        return depth ? "data inside a list or map" : NULL;
    case QC_ATTR_LIST:
    case QC_ATTR_MAP:
        for (size_t i = 0; i < attr->u.list.count; i++) {
            const char *problem = problem_at(attr->u.list.items[i], depth + 1);
            if (problem)
                return problem;
        }
        return NULL;
    default:
        return NULL;
    }
}

const char *qc_attr_problem(const qc_attr *attr)
{
    return problem_at(attr, 0);
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
