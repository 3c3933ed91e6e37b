/* SPDX-License-Identifier: MIT
 *
 * lists.c - see lists.h. Where Jinja gives a generator, the result is a list of the
 * flavor `iterator`: always true, without a length, used up by the first reading.
 */
#include "frontends/text/chat_template/lists.h"

/* ---- attributes of items ------------------------------------------------------------------------------- */

/* How an item is turned into what is looked at: an attribute path (a.b.0), a default, no case. */
typedef struct getter {
    qc_chat_value attribute; /* none: the item itself */
    qc_chat_value fallback;  /* none: none */
    bool ignore_case;
} getter;

static qc_status get(
    qc_chat_run *run, const qc_chat_call *call, const getter *g, qc_chat_value item, qc_chat_value *result)
{
    *result = item;
    qc_chat_value path = g->attribute;
    if (path.kind != QC_CHAT_NONE && path.kind != QC_CHAT_STRING &&
        (qc_chat_get_item(run, call->at, item, path, result)))
        return QC_ERROR;
    if (path.kind == QC_CHAT_STRING) {
        const qc_chat_value dot = qc_chat_stringz(".");
        const qc_chat_list *parts = qc_chat_split(run, path, &dot, -1);
        for (size_t i = 0; i < parts->count; i++) {
            qc_chat_value key = parts->items[i];
            int64_t index;
            if (qc_chat_has(key, QC_CHAT_DIGIT) && qc_chat_parse_int(key, 10, &index))
                key = qc_chat_int(index);
            if (qc_chat_get_item(run, call->at, *result, key, result))
                return QC_ERROR;
            if (result->kind == QC_CHAT_UNDEFINED && g->fallback.kind != QC_CHAT_NONE)
                *result = g->fallback;
        }
    } else if (path.kind != QC_CHAT_NONE && result->kind == QC_CHAT_UNDEFINED &&
               g->fallback.kind != QC_CHAT_NONE) {
        *result = g->fallback;
    }
    if (g->ignore_case && result->kind == QC_CHAT_STRING)
        *result = qc_chat_to_case(run, *result, QC_CHAT_LOWER);
    return QC_OK;
}

static qc_status check_attribute(qc_chat_run *run, const qc_chat_call *call, qc_chat_value attribute)
{
    int64_t index;
    if (attribute.kind != QC_CHAT_NONE && attribute.kind != QC_CHAT_STRING &&
        !qc_chat_is_integer(attribute, &index))
        return qc_chat_fail(run, call->at, "the attribute of %s must be a name or a number", call->name);
    return QC_OK;
}

static qc_chat_value new_list(
    qc_chat_run *run, qc_chat_flavor flavor, const qc_chat_value *items, size_t count)
{
    qc_chat_list *list = qc_chat_list_new(run, flavor, count);
    for (size_t i = 0; i < count; i++)
        qc_chat_push(run, list, items[i]);
    return qc_chat_list_value(list);
}

/* ---- one of all ---------------------------------------------------------------------------------------- */

qc_status qc_chat_filter_list(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value v, qc_chat_value *result)
{
    qc_chat_value *items;
    size_t count;
    if (qc_chat_bind(run, call, "", 0, NULL) || qc_chat_items(run, call->at, v, &items, &count))
        return QC_ERROR;
    *result = new_list(run, QC_CHAT_PLAIN, items, count);
    return QC_OK;
}

qc_status qc_chat_filter_first(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value v, qc_chat_value *result)
{
    qc_chat_value *items;
    size_t count;
    if (qc_chat_bind(run, call, "", 0, NULL) || qc_chat_items(run, call->at, v, &items, &count))
        return QC_ERROR;
    *result = count ? items[0] : (qc_chat_value){.text = "first item", .of = "list that is empty"};
    if (count && v.kind == QC_CHAT_LIST && v.list->flavor == QC_CHAT_ITERATOR)
        v.list->position = v.list->count - count + 1; /* the others are left in it */
    return QC_OK;
}

qc_status qc_chat_filter_last(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value v, qc_chat_value *result)
{
    qc_chat_value *items;
    size_t count;
    if (v.kind == QC_CHAT_LIST && v.list->flavor == QC_CHAT_ITERATOR)
        return qc_chat_fail(run, call->at, "a generator has no last item; '| list' makes a list of it");
    if (qc_chat_bind(run, call, "", 0, NULL) || qc_chat_items(run, call->at, v, &items, &count))
        return QC_ERROR;
    *result = count ? items[count - 1] : (qc_chat_value){.text = "last item", .of = "list that is empty"};
    return QC_OK;
}

static qc_status extreme(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value v, int sign, qc_chat_value *result)
{
    qc_chat_value a[2] = {qc_chat_bool(false), qc_chat_none()}, *items, best = {0}, key;
    size_t count;
    if (qc_chat_bind(run, call, "case_sensitive attribute", 0, a) || check_attribute(run, call, a[1]) ||
        qc_chat_items(run, call->at, v, &items, &count))
        return QC_ERROR;
    const getter g = {a[1], qc_chat_none(), !qc_chat_truth(a[0])};
    *result = (qc_chat_value){.text = "item", .of = "list that is empty"};
    for (size_t i = 0; i < count; i++) {
        int order = 0;
        if (get(run, call, &g, items[i], &key) || (i && qc_chat_order(run, call->at, key, best, &order)))
            return QC_ERROR;
        if (i == 0 || order == sign) {
            best = key;
            *result = items[i];
        }
    }
    return QC_OK;
}

qc_status qc_chat_filter_min(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value v, qc_chat_value *result)
{
    return extreme(run, call, v, -1, result);
}

qc_status qc_chat_filter_max(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value v, qc_chat_value *result)
{
    return extreme(run, call, v, 1, result);
}

qc_status qc_chat_filter_sum(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value v, qc_chat_value *result)
{
    qc_chat_value a[2] = {qc_chat_none(), qc_chat_int(0)}, *items, part;
    size_t count;
    if (qc_chat_bind(run, call, "attribute start", 0, a) || check_attribute(run, call, a[0]) ||
        qc_chat_items(run, call->at, v, &items, &count))
        return QC_ERROR;
    const getter g = {a[0], qc_chat_none(), false};
    *result = a[1];
    if (a[1].kind == QC_CHAT_STRING)
        return qc_chat_fail(run, call->at, "sum does not add strings");
    for (size_t i = 0; i < count; i++)
        if (get(run, call, &g, items[i], &part) ||
            qc_chat_binary(run, call->at, QC_CHAT_ADD, *result, part, result))
            return QC_ERROR;
    return QC_OK;
}

qc_status qc_chat_filter_join(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value v, qc_chat_value *result)
{
    qc_chat_value a[2] = {qc_chat_stringz(""), qc_chat_none()}, *items, part;
    size_t count;
    qc_chat_text out = {0};
    if (qc_chat_bind(run, call, "d attribute", 0, a) || check_attribute(run, call, a[1]) ||
        qc_chat_to_string(run, call->at, &a[0]) || qc_chat_items(run, call->at, v, &items, &count))
        return QC_ERROR;
    const getter g = {a[1], qc_chat_none(), false};
    for (size_t i = 0; i < count; i++) {
        if (i)
            qc_chat_text_add(run, &out, a[0].text, a[0].length);
        if (get(run, call, &g, items[i], &part) || qc_chat_add_str(run, call->at, part, &out))
            return QC_ERROR;
    }
    *result = qc_chat_text_value(&out);
    return QC_OK;
}

/* ---- every one ----------------------------------------------------------------------------------------- */

/* The arguments behind the first `skip`, for the filter or test that the first of them names. */
static qc_status inner_call(qc_chat_run *run, const qc_chat_call *call, size_t skip, bool filter,
    const qc_chat_builtin **builtin, qc_chat_call *inner)
{
    qc_chat_value name = call->args[skip];
    if (name.kind != QC_CHAT_STRING)
        return qc_chat_fail(
            run, call->at, "%s takes the name of a %s", call->name, filter ? "filter" : "test");
    *builtin =
        filter ? qc_chat_filter_find(name.text, name.length) : qc_chat_test_find(name.text, name.length);
    if (!*builtin || !(*builtin)->run)
        return qc_chat_fail(run, call->at, "the %s '%.*s' of %s is not supported", filter ? "filter" : "test",
            (int)(name.length < 40 ? name.length : 40), name.text, call->name);
    *inner = *call;
    inner->name = (*builtin)->name;
    inner->args += skip + 1;
    inner->count -= skip + 1;
    return QC_OK;
}

static qc_status map_attribute(
    qc_chat_run *run, const qc_chat_call *call, const qc_chat_value *items, size_t count, qc_chat_list *list)
{
    qc_chat_value a[2] = {qc_chat_none(), qc_chat_none()}, value;
    if (qc_chat_bind(run, call, "attribute default", 0, a) || check_attribute(run, call, a[0]))
        return QC_ERROR;
    const getter g = {a[0], a[1], false};
    for (size_t i = 0; i < count; i++) {
        if (get(run, call, &g, items[i], &value))
            return QC_ERROR;
        qc_chat_push(run, list, value);
    }
    return QC_OK;
}

qc_status qc_chat_filter_map(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value v, qc_chat_value *result)
{
    qc_chat_value *items, value;
    size_t count;
    const qc_chat_builtin *filter;
    qc_chat_call inner;
    *result = qc_chat_list_value(qc_chat_list_new(run, QC_CHAT_ITERATOR, 0));
    if (!qc_chat_truth(v)) /* Jinja asks that first, so none gives nothing too */
        return QC_OK;
    if (qc_chat_items(run, call->at, v, &items, &count))
        return QC_ERROR;
    qc_chat_list *list = result->list;
    if (call->count == 0 && call->named_count)
        return map_attribute(run, call, items, count, list);
    if (call->count == 0)
        return qc_chat_fail(run, call->at, "map takes the name of a filter or an attribute");
    if (inner_call(run, call, 0, true, &filter, &inner))
        return QC_ERROR;
    for (size_t i = 0; i < count; i++) {
        if (qc_chat_step(run, call->at, 1) || filter->run(run, &inner, items[i], &value))
            return QC_ERROR;
        qc_chat_push(run, list, value);
    }
    return QC_OK;
}

static qc_status choose(qc_chat_run *run, const qc_chat_call *call, qc_chat_value v, bool attribute,
    bool wanted, qc_chat_value *result)
{
    qc_chat_value *items, value, answer;
    size_t count, skip = attribute;
    const qc_chat_builtin *test = NULL;
    qc_chat_call inner;
    *result = qc_chat_list_value(qc_chat_list_new(run, QC_CHAT_ITERATOR, 0));
    if (!qc_chat_truth(v))
        return QC_OK;
    if (attribute && call->count == 0)
        return qc_chat_fail(run, call->at, "%s takes the name of an attribute", call->name);
    const getter g = {attribute ? call->args[0] : qc_chat_none(), qc_chat_none(), false};
    if (check_attribute(run, call, g.attribute) ||
        (call->count > skip && inner_call(run, call, skip, false, &test, &inner)) ||
        qc_chat_items(run, call->at, v, &items, &count))
        return QC_ERROR;
    for (size_t i = 0; i < count; i++) {
        if (qc_chat_step(run, call->at, 1) || get(run, call, &g, items[i], &value))
            return QC_ERROR;
        answer = value;
        if (test && test->run(run, &inner, value, &answer))
            return QC_ERROR;
        if (qc_chat_truth(answer) == wanted)
            qc_chat_push(run, result->list, items[i]);
    }
    return QC_OK;
}

qc_status qc_chat_filter_select(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value v, qc_chat_value *result)
{
    return choose(run, call, v, false, true, result);
}

qc_status qc_chat_filter_reject(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value v, qc_chat_value *result)
{
    return choose(run, call, v, false, false, result);
}

qc_status qc_chat_filter_selectattr(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value v, qc_chat_value *result)
{
    return choose(run, call, v, true, true, result);
}

qc_status qc_chat_filter_rejectattr(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value v, qc_chat_value *result)
{
    return choose(run, call, v, true, false, result);
}

qc_status qc_chat_filter_items(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value v, qc_chat_value *result)
{
    if (qc_chat_bind(run, call, "", 0, NULL))
        return QC_ERROR;
    qc_chat_list *list = qc_chat_list_new(run, QC_CHAT_ITERATOR, 0);
    *result = qc_chat_list_value(list);
    if (v.kind == QC_CHAT_UNDEFINED)
        return QC_OK;
    if (v.kind != QC_CHAT_DICT)
        return qc_chat_fail(run, call->at, "items takes a dict, not a %s", qc_chat_type_name(v));
    for (size_t i = 0; i < v.dict->count; i++) {
        const qc_chat_value pair[2] = {v.dict->keys[i], v.dict->values[i]};
        qc_chat_push(run, list, new_list(run, QC_CHAT_TUPLE, pair, 2));
    }
    return qc_chat_step(run, call->at, v.dict->count);
}

/* ---- order --------------------------------------------------------------------------------------------- */

typedef struct sortable {
    qc_chat_value key, item;
} sortable;

/* Keys are compared as the items of lists, as Jinja does: equal ones need no order. */
static qc_status order_keys(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value a, qc_chat_value b, int *order)
{
    bool equal = false;
    *order = 0;
    if (qc_chat_equal(run, call->at, a, b, &equal))
        return QC_ERROR;
    return equal ? QC_OK : qc_chat_order(run, call->at, a, b, order);
}

/* A stable merge sort: half-open [begin, end) of `from`, by way of `room`. */
static qc_status merge_sort(qc_chat_run *run, const qc_chat_call *call, sortable *from, sortable *room,
    size_t begin, size_t end, int sign)
{
    size_t middle = begin + (end - begin) / 2;
    if (end - begin < 2)
        return QC_OK;
    if (merge_sort(run, call, from, room, begin, middle, sign) ||
        merge_sort(run, call, from, room, middle, end, sign))
        return QC_ERROR;
    size_t a = begin, b = middle;
    for (size_t i = begin; i < end; i++) {
        int order = 0;
        if (a < middle && b < end && order_keys(run, call, from[b].key, from[a].key, &order))
            return QC_ERROR;
        bool right = a == middle || (b < end && order == -sign);
        room[i] = from[right ? b++ : a++];
    }
    memcpy(from + begin, room + begin, (end - begin) * sizeof *from);
    return QC_OK;
}

static qc_status sort_items(qc_chat_run *run, const qc_chat_call *call, sortable *all, size_t count,
    bool reverse, qc_chat_value *result)
{
    sortable *room = QC_NEW_ARRAY(&run->arena, sortable, count);
    if (merge_sort(run, call, all, room, 0, count, reverse ? -1 : 1))
        return QC_ERROR;
    qc_chat_list *list = qc_chat_list_new(run, QC_CHAT_PLAIN, count);
    for (size_t i = 0; i < count; i++)
        qc_chat_push(run, list, all[i].item);
    *result = qc_chat_list_value(list);
    return QC_OK;
}

qc_status qc_chat_filter_sort(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value v, qc_chat_value *result)
{
    qc_chat_value a[3] = {qc_chat_bool(false), qc_chat_bool(false), qc_chat_none()}, *items;
    size_t count;
    if (qc_chat_bind(run, call, "reverse case_sensitive attribute", 0, a) ||
        check_attribute(run, call, a[2]) || qc_chat_items(run, call->at, v, &items, &count))
        return QC_ERROR;
    if (a[2].kind == QC_CHAT_STRING && memchr(a[2].text, ',', a[2].length))
        return qc_chat_fail(run, call->at, "sort by several attributes is not supported");
    const getter g = {a[2], qc_chat_none(), !qc_chat_truth(a[1])};
    sortable *all = QC_NEW_ARRAY(&run->arena, sortable, count);
    for (size_t i = 0; i < count; i++) {
        all[i].item = items[i];
        if (get(run, call, &g, items[i], &all[i].key))
            return QC_ERROR;
    }
    return sort_items(run, call, all, count, qc_chat_truth(a[0]), result);
}

qc_status qc_chat_filter_dictsort(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value v, qc_chat_value *result)
{
    qc_chat_value a[3] = {qc_chat_bool(false), qc_chat_stringz("key"), qc_chat_bool(false)};
    if (qc_chat_bind(run, call, "case_sensitive by reverse", 0, a) || qc_chat_defined(run, call->at, v))
        return QC_ERROR;
    bool by_key = qc_chat_is_text(a[1], "key");
    if (!by_key && !qc_chat_is_text(a[1], "value"))
        return qc_chat_fail(run, call->at, "dictsort sorts by \"key\" or \"value\"");
    if (v.kind != QC_CHAT_DICT)
        return qc_chat_fail(run, call->at, "dictsort takes a dict, not a %s", qc_chat_type_name(v));
    const getter g = {qc_chat_none(), qc_chat_none(), !qc_chat_truth(a[0])};
    sortable *all = QC_NEW_ARRAY(&run->arena, sortable, v.dict->count);
    for (size_t i = 0; i < v.dict->count; i++) {
        const qc_chat_value pair[2] = {v.dict->keys[i], v.dict->values[i]};
        all[i].item = new_list(run, QC_CHAT_TUPLE, pair, 2);
        if (get(run, call, &g, pair[by_key ? 0 : 1], &all[i].key))
            return QC_ERROR;
    }
    return sort_items(run, call, all, v.dict->count, qc_chat_truth(a[2]), result);
}

qc_status qc_chat_filter_unique(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value v, qc_chat_value *result)
{
    qc_chat_value a[2] = {qc_chat_bool(false), qc_chat_none()}, *items;
    size_t count;
    if (qc_chat_bind(run, call, "case_sensitive attribute", 0, a) || check_attribute(run, call, a[1]) ||
        qc_chat_items(run, call->at, v, &items, &count))
        return QC_ERROR;
    const getter g = {a[1], qc_chat_none(), !qc_chat_truth(a[0])};
    qc_chat_list *list = qc_chat_list_new(run, QC_CHAT_ITERATOR, 0), *seen = qc_chat_list_new(run, 0, 0);
    for (size_t i = 0; i < count; i++) {
        qc_chat_value key;
        bool known;
        if (get(run, call, &g, items[i], &key))
            return QC_ERROR;
        if (!qc_chat_is_hashable(key))
            return qc_chat_fail(run, call->at, "unique cannot tell a %s from others", qc_chat_type_name(key));
        if (qc_chat_contains(run, call->at, key, qc_chat_list_value(seen), &known))
            return QC_ERROR;
        if (known)
            continue;
        qc_chat_push(run, seen, key);
        qc_chat_push(run, list, items[i]);
    }
    *result = qc_chat_list_value(list);
    return QC_OK;
}

qc_status qc_chat_filter_reverse(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value v, qc_chat_value *result)
{
    qc_chat_value *items;
    size_t count;
    if (qc_chat_bind(run, call, "", 0, NULL))
        return QC_ERROR;
    bool plain = v.kind == QC_CHAT_LIST && v.list->flavor == QC_CHAT_ITERATOR;
    if (qc_chat_items(run, call->at, v, &items, &count))
        return QC_ERROR;
    if (v.kind == QC_CHAT_STRING) {
        qc_chat_text out = {0};
        for (size_t i = count; i-- > 0;)
            qc_chat_text_add(run, &out, items[i].text, items[i].length);
        *result = qc_chat_text_value(&out);
        result->safe = v.safe;
        return QC_OK;
    }
    qc_chat_list *list = qc_chat_list_new(run, plain ? QC_CHAT_PLAIN : QC_CHAT_ITERATOR, count);
    for (size_t i = count; i-- > 0;)
        qc_chat_push(run, list, items[i]);
    *result = qc_chat_list_value(list);
    return QC_OK;
}

/* ---- parts --------------------------------------------------------------------------------------------- */

static qc_status want_parts(
    qc_chat_run *run, const qc_chat_call *call, const char *parameters, qc_chat_value *a, int64_t *size)
{
    a[1] = qc_chat_none();
    if (qc_chat_bind(run, call, parameters, 1, a))
        return QC_ERROR;
    if (!qc_chat_is_integer(a[0], size) || *size < 1 || *size > QC_CHAT_RANGE_LIMIT)
        return qc_chat_fail(run, call->at, "%s takes a number from 1 to %d", call->name, QC_CHAT_RANGE_LIMIT);
    return QC_OK;
}

qc_status qc_chat_filter_batch(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value v, qc_chat_value *result)
{
    qc_chat_value a[2], *items;
    int64_t size;
    size_t count;
    if (want_parts(run, call, "linecount fill_with", a, &size) ||
        qc_chat_items(run, call->at, v, &items, &count))
        return QC_ERROR;
    qc_chat_list *list = qc_chat_list_new(run, QC_CHAT_ITERATOR, 0), *part = NULL;
    for (size_t i = 0; i < count; i++) {
        if (i % (size_t)size == 0) {
            part = qc_chat_list_new(run, QC_CHAT_PLAIN, 0);
            qc_chat_push(run, list, qc_chat_list_value(part));
        }
        qc_chat_push(run, part, items[i]);
    }
    while (part && a[1].kind != QC_CHAT_NONE && part->count < (size_t)size)
        qc_chat_push(run, part, a[1]);
    *result = qc_chat_list_value(list);
    return qc_chat_step(run, call->at, (size_t)size);
}

qc_status qc_chat_filter_slice(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value v, qc_chat_value *result)
{
    qc_chat_value a[2], *items;
    int64_t slices;
    size_t count, begin = 0;
    if (want_parts(run, call, "slices fill_with", a, &slices) ||
        qc_chat_items(run, call->at, v, &items, &count) || qc_chat_step(run, call->at, (size_t)slices))
        return QC_ERROR;
    size_t each = count / (size_t)slices, longer = count % (size_t)slices;
    qc_chat_list *list = qc_chat_list_new(run, QC_CHAT_ITERATOR, (size_t)slices);
    for (size_t i = 0; i < (size_t)slices; i++) {
        size_t size = each + (i < longer);
        qc_chat_value part = new_list(run, QC_CHAT_PLAIN, items + begin, size);
        if (a[1].kind != QC_CHAT_NONE && i >= longer)
            qc_chat_push(run, part.list, a[1]);
        qc_chat_push(run, list, part);
        begin += size;
    }
    *result = qc_chat_list_value(list);
    return QC_OK;
}

/* x | attr("name"): a method or field of a namespace or loop, never an item of a dict. */
qc_status qc_chat_filter_attr(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value v, qc_chat_value *result)
{
    qc_chat_value name;
    if (qc_chat_bind(run, call, "name", 1, &name) || qc_chat_defined(run, call->at, v))
        return QC_ERROR;
    if (name.kind != QC_CHAT_STRING)
        return qc_chat_fail(run, call->at, "attr takes the name of an attribute");
    bool found = false;
    if (v.kind == QC_CHAT_NAMESPACE || v.kind == QC_CHAT_LOOP)
        return qc_chat_get_item(run, call->at, v, name, result);
    if (qc_chat_attribute(run, call->at, v, name.text, name.length, &found, result))
        return QC_ERROR;
    if (!found)
        *result = (qc_chat_value){
            .text = qc_arena_strndup(&run->arena, name.text, name.length), .of = qc_chat_type_name(v)};
    return QC_OK;
}
