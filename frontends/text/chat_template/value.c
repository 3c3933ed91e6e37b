/* SPDX-License-Identifier: MIT
 *
 * value.c - values of a rendering and what Python answers about them: truth, equality, order,
 * length, items, membership. Walks over long texts and lists are counted as work.
 */
#include "frontends/text/chat_template/internal.h"
#include "frontends/text/tokenizer/internal.h"

/* ---- making -------------------------------------------------------------------------------------------- */

qc_chat_value qc_chat_none(void)
{
    return (qc_chat_value){.kind = QC_CHAT_NONE};
}

qc_chat_value qc_chat_bool(bool value)
{
    return (qc_chat_value){.kind = QC_CHAT_BOOL, .boolean = value};
}

qc_chat_value qc_chat_int(int64_t value)
{
    return (qc_chat_value){.kind = QC_CHAT_INT, .integer = value};
}

qc_chat_value qc_chat_float(double value)
{
    return (qc_chat_value){.kind = QC_CHAT_FLOAT, .number = value};
}

qc_chat_value qc_chat_string(const char *text, size_t length)
{
    return (qc_chat_value){.kind = QC_CHAT_STRING, .text = text, .length = length};
}

qc_chat_value qc_chat_stringz(const char *text)
{
    return qc_chat_string(text, strlen(text));
}

qc_chat_value qc_chat_missing(const char *name)
{
    return (qc_chat_value){.kind = QC_CHAT_UNDEFINED, .text = name};
}

qc_chat_list *qc_chat_list_new(qc_chat_run *run, qc_chat_flavor flavor, size_t capacity)
{
    qc_chat_list *list = QC_NEW(&run->arena, qc_chat_list);
    list->flavor = flavor;
    list->items = capacity ? QC_NEW_ARRAY(&run->arena, qc_chat_value, capacity) : NULL;
    list->capacity = capacity;
    return list;
}

qc_chat_value qc_chat_list_value(qc_chat_list *list)
{
    return (qc_chat_value){.kind = QC_CHAT_LIST, .list = list};
}

void qc_chat_push(qc_chat_run *run, qc_chat_list *list, qc_chat_value value)
{
    QC_PUSH(&run->arena, list, value);
}

qc_chat_dict *qc_chat_dict_new(qc_chat_run *run)
{
    return QC_NEW(&run->arena, qc_chat_dict);
}

qc_chat_value *qc_chat_dict_find(qc_chat_run *run, const qc_chat_dict *dict, qc_chat_value key)
{
    for (size_t i = 0; i < dict->count; i++) {
        bool equal = false;
        if (qc_chat_equal(run, NULL, dict->keys[i], key, &equal) == QC_OK && equal)
            return &dict->values[i];
    }
    return NULL;
}

void qc_chat_dict_set(qc_chat_run *run, qc_chat_dict *dict, qc_chat_value key, qc_chat_value value)
{
    qc_chat_value *found = qc_chat_dict_find(run, dict, key);
    if (found) {
        *found = value;
        return;
    }
    size_t capacity = dict->capacity;
    if (dict->count == capacity) {
        dict->keys = qc_arena_grow(
            &run->arena, dict->keys, dict->count, &capacity, dict->count + 1, sizeof *dict->keys);
        capacity = dict->capacity;
        dict->values = qc_arena_grow(
            &run->arena, dict->values, dict->count, &capacity, dict->count + 1, sizeof *dict->values);
        dict->capacity = capacity;
    }
    dict->keys[dict->count] = key;
    dict->values[dict->count++] = value;
}

/* The JSON outlives the rendering, so texts are not copied. Its parser bounds the depth. */
qc_chat_value qc_chat_from_json(qc_chat_run *run, const qc_json *json)
{
    switch (json->kind) {
    case QC_JSON_NULL:
        return qc_chat_none();
    case QC_JSON_BOOL:
        return qc_chat_bool(json->boolean);
    case QC_JSON_NUMBER:
        if (json->is_integer)
            return qc_chat_int(json->integer);
        if (json->text[strcspn(json->text, ".eE")])
            return qc_chat_float(json->number);
        return (qc_chat_value){.kind = QC_CHAT_BIG, .text = json->text, .length = json->length};
    case QC_JSON_STRING:
        return qc_chat_string(json->text, json->length);
    case QC_JSON_ARRAY: {
        qc_chat_list *list = qc_chat_list_new(run, QC_CHAT_PLAIN, json->length);
        for (const qc_json *item = json->first; item; item = item->next)
            qc_chat_push(run, list, qc_chat_from_json(run, item));
        return qc_chat_list_value(list);
    }
    case QC_JSON_OBJECT:
        break;
    }
    /* Keys of a JSON object are different strings: no search for each. */
    qc_chat_dict *dict = qc_chat_dict_new(run);
    dict->capacity = json->length;
    dict->keys = QC_NEW_ARRAY(&run->arena, qc_chat_value, json->length);
    dict->values = QC_NEW_ARRAY(&run->arena, qc_chat_value, json->length);
    for (const qc_json *item = json->first; item; item = item->next) {
        dict->keys[dict->count] = qc_chat_string(item->key, item->key_length);
        dict->values[dict->count++] = qc_chat_from_json(run, item);
    }
    return (qc_chat_value){.kind = QC_CHAT_DICT, .dict = dict};
}

/* ---- what it is ---------------------------------------------------------------------------------------- */

const char *qc_chat_type_name(qc_chat_value value)
{
    static const char *const lists[] = {
        "list", "tuple", "range", "dict_keys", "dict_values", "dict_items", "generator"};
    switch (value.kind) {
    case QC_CHAT_UNDEFINED:
        return "Undefined";
    case QC_CHAT_NONE:
        return "NoneType";
    case QC_CHAT_BOOL:
        return "bool";
    case QC_CHAT_INT:
    case QC_CHAT_BIG:
        return "int";
    case QC_CHAT_FLOAT:
        return "float";
    case QC_CHAT_STRING:
        return value.safe ? "Markup" : "str";
    case QC_CHAT_LIST:
        return lists[value.list->flavor];
    case QC_CHAT_DICT:
        return "dict";
    case QC_CHAT_NAMESPACE:
        return "Namespace";
    case QC_CHAT_LOOP:
        return "LoopContext";
    case QC_CHAT_CALLABLE:
        break;
    }
    return value.callable->macro ? "Macro" : "function";
}

bool qc_chat_truth(qc_chat_value value)
{
    switch (value.kind) {
    case QC_CHAT_UNDEFINED:
    case QC_CHAT_NONE:
        return false;
    case QC_CHAT_BOOL:
        return value.boolean;
    case QC_CHAT_INT:
        return value.integer != 0;
    case QC_CHAT_FLOAT:
        return value.number != 0;
    case QC_CHAT_STRING:
        return value.length > 0;
    case QC_CHAT_LIST:
        return value.list->flavor == QC_CHAT_ITERATOR || value.list->count > 0;
    case QC_CHAT_DICT:
        return value.dict->count > 0;
    case QC_CHAT_BIG:
    case QC_CHAT_NAMESPACE:
    case QC_CHAT_LOOP:
    case QC_CHAT_CALLABLE:
        break;
    }
    return true;
}

bool qc_chat_is_text(qc_chat_value value, const char *text)
{
    return value.kind == QC_CHAT_STRING && value.length == strlen(text) &&
           memcmp(value.text, text, value.length) == 0;
}

bool qc_chat_is_integer(qc_chat_value value, int64_t *integer)
{
    *integer = value.kind == QC_CHAT_BOOL ? value.boolean : value.kind == QC_CHAT_INT ? value.integer : 0;
    return value.kind == QC_CHAT_BOOL || value.kind == QC_CHAT_INT;
}

bool qc_chat_is_number(qc_chat_value value, double *number)
{
    int64_t integer;
    bool is_integer = qc_chat_is_integer(value, &integer);
    *number = is_integer ? (double)integer : value.kind == QC_CHAT_FLOAT ? value.number : 0;
    return is_integer || value.kind == QC_CHAT_FLOAT;
}

bool qc_chat_is_hashable(qc_chat_value value)
{
    if (value.kind == QC_CHAT_DICT)
        return false;
    if (value.kind != QC_CHAT_LIST)
        return true;
    if (value.list->flavor != QC_CHAT_TUPLE)
        return value.list->flavor == QC_CHAT_ITERATOR || value.list->flavor == QC_CHAT_RANGE;
    for (size_t i = 0; i < value.list->count; i++)
        if (value.list->items[i].kind == QC_CHAT_LIST || !qc_chat_is_hashable(value.list->items[i]))
            return false; /* a tuple in a tuple would be fine in Python, but no template has that */
    return true;
}

qc_status qc_chat_defined(qc_chat_run *run, const qc_chat_node *at, qc_chat_value value)
{
    if (value.kind != QC_CHAT_UNDEFINED)
        return QC_OK;
    if (!value.text)
        return qc_chat_fail(run, at, "a value that an 'if' without 'else' left undefined is used");
    if (!value.of)
        return qc_chat_fail(run, at, "'%s' is undefined", value.text);
    if (qc_starts_with(value.of, "unsafe "))
        return qc_chat_fail(run, at, "'%s' of a %s would change it, which templates may not", value.text,
            value.of + strlen("unsafe "));
    return qc_chat_fail(run, at, "a %s has no '%s'", value.of, value.text);
}

/* ---- equality and order -------------------------------------------------------------------------------- */

/* Views of keys and of items are sets: their order does not count. */
static qc_status equal_views(
    qc_chat_run *run, const qc_chat_node *at, const qc_chat_list *a, const qc_chat_list *b, bool *equal)
{
    for (size_t i = 0; *equal && i < a->count; i++) {
        bool found = false;
        for (size_t k = 0; k < b->count && !found; k++)
            if (qc_chat_equal(run, at, a->items[i], b->items[k], &found))
                return QC_ERROR;
        *equal = found;
    }
    return QC_OK;
}

static qc_status equal_lists(
    qc_chat_run *run, const qc_chat_node *at, const qc_chat_list *a, const qc_chat_list *b, bool *equal)
{
    bool sets = a->flavor == QC_CHAT_KEYS || a->flavor == QC_CHAT_ITEMS;
    *equal = a == b;
    if (*equal || a->flavor != b->flavor || a->count != b->count || (!sets && a->flavor > QC_CHAT_RANGE))
        return QC_OK;
    *equal = true;
    if (sets)
        return equal_views(run, at, a, b, equal);
    for (size_t i = 0; *equal && i < a->count; i++)
        if (qc_chat_equal(run, at, a->items[i], b->items[i], equal))
            return QC_ERROR;
    return QC_OK;
}

static qc_status equal_dicts(
    qc_chat_run *run, const qc_chat_node *at, const qc_chat_dict *a, const qc_chat_dict *b, bool *equal)
{
    *equal = a->count == b->count;
    for (size_t i = 0; *equal && i < a->count; i++) {
        const qc_chat_value *other = qc_chat_dict_find(run, b, a->keys[i]);
        *equal = other != NULL;
        if (other && qc_chat_equal(run, at, a->values[i], *other, equal))
            return QC_ERROR;
    }
    return QC_OK;
}

static qc_status equal_same(
    qc_chat_run *run, const qc_chat_node *at, qc_chat_value a, qc_chat_value b, bool *equal)
{
    switch (a.kind) {
    case QC_CHAT_UNDEFINED:
    case QC_CHAT_NONE:
        *equal = true;
        return QC_OK;
    case QC_CHAT_STRING:
    case QC_CHAT_BIG:
        *equal = a.length == b.length && (a.text == b.text || memcmp(a.text, b.text, a.length) == 0);
        return *equal && at ? qc_chat_step(run, at, a.length / 64) : QC_OK;
    case QC_CHAT_LIST:
        return equal_lists(run, at, a.list, b.list, equal);
    case QC_CHAT_DICT:
        return equal_dicts(run, at, a.dict, b.dict, equal);
    default:
        *equal = a.dict == b.dict;
        return QC_OK;
    }
}

qc_status qc_chat_equal(
    qc_chat_run *run, const qc_chat_node *at, qc_chat_value a, qc_chat_value b, bool *equal)
{
    int64_t i, j;
    double x, y;
    if (qc_chat_is_integer(a, &i) && qc_chat_is_integer(b, &j)) {
        *equal = i == j;
        return QC_OK;
    }
    if (qc_chat_is_number(a, &x) && qc_chat_is_number(b, &y)) {
        *equal = x == y;
        return QC_OK;
    }
    *equal = false;
    if (a.kind != b.kind)
        return QC_OK;
    if (a.kind != QC_CHAT_LIST && a.kind != QC_CHAT_DICT)
        return equal_same(run, at, a, b, equal);
    if (run->depth >= QC_CHAT_RUN_DEPTH + QC_CHAT_VALUE_DEPTH || qc_chat_step(run, at, 1))
        return at ? qc_chat_fail(run, at, "values are nested too deep to be compared") : QC_ERROR;
    run->depth++;
    qc_status status = equal_same(run, at, a, b, equal);
    run->depth--;
    return status;
}

static qc_status order_lists(
    qc_chat_run *run, const qc_chat_node *at, const qc_chat_list *a, const qc_chat_list *b, int *order)
{
    for (size_t i = 0; i < a->count && i < b->count; i++) {
        bool equal;
        if (qc_chat_equal(run, at, a->items[i], b->items[i], &equal))
            return QC_ERROR;
        if (!equal)
            return qc_chat_order(run, at, a->items[i], b->items[i], order);
    }
    *order = a->count < b->count ? -1 : a->count > b->count;
    return QC_OK;
}

qc_status qc_chat_order(
    qc_chat_run *run, const qc_chat_node *at, qc_chat_value a, qc_chat_value b, int *order)
{
    int64_t i, j;
    double x, y;
    if (qc_chat_defined(run, at, a) || qc_chat_defined(run, at, b) || qc_chat_step(run, at, 1))
        return QC_ERROR;
    if (qc_chat_is_integer(a, &i) && qc_chat_is_integer(b, &j)) {
        *order = i < j ? -1 : i > j;
        return QC_OK;
    }
    if (qc_chat_is_number(a, &x) && qc_chat_is_number(b, &y)) {
        *order = x < y ? -1 : x > y ? 1 : x == y ? 0 : 2; /* 2: not a number, no comparison holds */
        return QC_OK;
    }
    if (a.kind == QC_CHAT_STRING && b.kind == QC_CHAT_STRING) {
        /* The order of UTF-8's bytes is that of code points. */
        int bytes = memcmp(a.text, b.text, a.length < b.length ? a.length : b.length);
        *order = bytes < 0 ? -1 : bytes > 0 ? 1 : a.length < b.length ? -1 : a.length > b.length;
        return QC_OK;
    }
    if (a.kind == QC_CHAT_LIST && b.kind == QC_CHAT_LIST && a.list->flavor == b.list->flavor &&
        a.list->flavor <= QC_CHAT_TUPLE && run->depth < QC_CHAT_RUN_DEPTH) {
        run->depth++;
        qc_status status = order_lists(run, at, a.list, b.list, order);
        run->depth--;
        return status;
    }
    return qc_chat_fail(run, at, "a %s and a %s have no order", qc_chat_type_name(a), qc_chat_type_name(b));
}

/* ---- containers ---------------------------------------------------------------------------------------- */

qc_status qc_chat_length(qc_chat_run *run, const qc_chat_node *at, qc_chat_value value, size_t *length)
{
    *length = 0;
    switch (value.kind) {
    case QC_CHAT_UNDEFINED:
        return QC_OK;
    case QC_CHAT_STRING:
        *length = qc_chat_characters(value.text, value.length);
        return qc_chat_step(run, at, value.length / 64);
    case QC_CHAT_DICT:
        *length = value.dict->count;
        return QC_OK;
    case QC_CHAT_LOOP:
        *length = value.loop->count;
        return QC_OK;
    case QC_CHAT_LIST:
        *length = value.list->count;
        if (value.list->flavor != QC_CHAT_ITERATOR)
            return QC_OK;
        break;
    default:
        break;
    }
    return qc_chat_fail(run, at, "a %s has no length", qc_chat_type_name(value));
}

static qc_status characters_of(
    qc_chat_run *run, const qc_chat_node *at, qc_chat_value text, qc_chat_value **items, size_t *count)
{
    size_t total = qc_chat_characters(text.text, text.length);
    if (qc_chat_step(run, at, total))
        return QC_ERROR;
    *count = 0;
    *items = QC_NEW_ARRAY(&run->arena, qc_chat_value, total);
    for (size_t i = 0, size; i < text.length; i += size) {
        qc_text_get(text.text + i, text.length - i, &size);
        (*items)[(*count)++] = qc_chat_string(text.text + i, size); /* not safe, even if the text is */
    }
    return QC_OK;
}

qc_status qc_chat_items(
    qc_chat_run *run, const qc_chat_node *at, qc_chat_value value, qc_chat_value **items, size_t *count)
{
    *items = NULL;
    *count = 0;
    switch (value.kind) {
    case QC_CHAT_UNDEFINED:
        return QC_OK;
    case QC_CHAT_STRING:
        return characters_of(run, at, value, items, count);
    case QC_CHAT_DICT:
        *items = value.dict->keys;
        *count = value.dict->count;
        return qc_chat_step(run, at, *count);
    case QC_CHAT_LIST: {
        qc_chat_list *list = value.list;
        *items = list->items ? list->items + list->position : NULL;
        *count = list->count - list->position;
        if (list->flavor == QC_CHAT_ITERATOR)
            list->position = list->count;
        return qc_chat_step(run, at, *count);
    }
    default:
        return qc_chat_fail(run, at, "a %s cannot be iterated over", qc_chat_type_name(value));
    }
}

qc_status qc_chat_contains(
    qc_chat_run *run, const qc_chat_node *at, qc_chat_value value, qc_chat_value in, bool *found)
{
    qc_chat_value *items;
    size_t count;
    *found = false;
    if (in.kind == QC_CHAT_STRING) {
        if (value.kind != QC_CHAT_STRING)
            return qc_chat_defined(run, at, value) ||
                           qc_chat_fail(
                               run, at, "'in' a string takes a string, not a %s", qc_chat_type_name(value))
                       ? QC_ERROR
                       : QC_OK;
        *found = qc_chat_find(in, value, 0) != SIZE_MAX;
        return qc_chat_step(run, at, in.length / 16);
    }
    bool keys = in.kind == QC_CHAT_DICT || (in.kind == QC_CHAT_LIST && in.list->flavor == QC_CHAT_KEYS);
    if (keys && !qc_chat_is_hashable(value))
        return qc_chat_fail(run, at, "a %s cannot be the key of a dict", qc_chat_type_name(value));
    if (qc_chat_items(run, at, in, &items, &count))
        return QC_ERROR;
    for (size_t i = 0; i < count && !*found; i++) {
        if (qc_chat_equal(run, at, items[i], value, found))
            return QC_ERROR;
        if (*found && in.kind == QC_CHAT_LIST && in.list->flavor == QC_CHAT_ITERATOR)
            in.list->position = in.list->count - count + i + 1; /* what comes behind is left */
    }
    return QC_OK;
}
