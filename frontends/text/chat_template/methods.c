/* SPDX-License-Identifier: MIT
 *
 * methods.c - the methods of strings, lists and dicts that templates may call, and what else Python
 * has under a name. A method of Python's that is not here is an error when it is called; one that would change
 * its object is undefined, as in Jinja's immutable sandbox.
 */
#include "frontends/text/chat_template/internal.h"
#include "frontends/text/tokenizer/internal.h"

/* ---- arguments ----------------------------------------------------------------------------------------- */

static qc_status want_string(qc_chat_run *run, const qc_chat_call *call, qc_chat_value value)
{
    if (value.kind == QC_CHAT_STRING)
        return QC_OK;
    return qc_chat_defined(run, call->at, value) ? QC_ERROR
                                                 : qc_chat_fail(run, call->at, "%s takes a string, not a %s",
                                                       call->name, qc_chat_type_name(value));
}

/* None counts as absent; *given says which. */
static qc_status want_optional(
    qc_chat_run *run, const qc_chat_call *call, const qc_chat_value *value, const qc_chat_value **given)
{
    *given = value->kind == QC_CHAT_NONE ? NULL : value;
    return *given ? want_string(run, call, *value) : QC_OK;
}

static qc_status want_integer(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value value, int64_t *integer)
{
    if (qc_chat_is_integer(value, integer))
        return QC_OK;
    return qc_chat_defined(run, call->at, value)
               ? QC_ERROR
               : qc_chat_fail(run, call->at, "%s takes a whole number, not a %s", call->name,
                     qc_chat_type_name(value));
}

/* A method of a string marked safe escapes its arguments; only those that need none go through. */
static qc_status want_plain(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value subject, qc_chat_value argument)
{
    if (subject.safe && argument.kind == QC_CHAT_STRING && !argument.safe &&
        qc_chat_escape(run, argument).length != argument.length)
        return qc_chat_fail(run, call->at,
            "%s of a text marked safe, with characters to escape, is not supported", call->name);
    return QC_OK;
}

/* ---- strings ------------------------------------------------------------------------------------------- */

static qc_status strip(qc_chat_run *run, const qc_chat_call *call, qc_chat_value subject, bool left,
    bool right, qc_chat_value *result)
{
    qc_chat_value chars = qc_chat_none();
    const qc_chat_value *given;
    if (qc_chat_bind(run, call, "chars", 0, &chars) || want_optional(run, call, &chars, &given) ||
        want_plain(run, call, subject, chars) || qc_chat_step(run, call->at, subject.length / 64))
        return QC_ERROR;
    *result = qc_chat_strip(subject, given, left, right);
    return QC_OK;
}

static qc_status str_strip(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value subject, qc_chat_value *result)
{
    return strip(run, call, subject, true, true, result);
}

static qc_status str_lstrip(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value subject, qc_chat_value *result)
{
    return strip(run, call, subject, true, false, result);
}

static qc_status str_rstrip(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value subject, qc_chat_value *result)
{
    return strip(run, call, subject, false, true, result);
}

static qc_status split(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value subject, bool right, qc_chat_value *result)
{
    qc_chat_value a[2] = {qc_chat_none(), qc_chat_int(-1)};
    const qc_chat_value *separator;
    int64_t most;
    if (qc_chat_bind(run, call, "sep maxsplit", 0, a) || want_optional(run, call, &a[0], &separator) ||
        want_integer(run, call, a[1], &most) || want_plain(run, call, subject, a[0]) ||
        qc_chat_step(run, call->at, subject.length / 16))
        return QC_ERROR;
    if (separator && separator->length == 0)
        return qc_chat_fail(run, call->at, "the separator of %s is empty", call->name);
    *result = qc_chat_list_value(
        right ? qc_chat_rsplit(run, subject, separator, most) : qc_chat_split(run, subject, separator, most));
    return QC_OK;
}

static qc_status str_split(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value subject, qc_chat_value *result)
{
    return split(run, call, subject, false, result);
}

static qc_status str_rsplit(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value subject, qc_chat_value *result)
{
    return split(run, call, subject, true, result);
}

static qc_status str_splitlines(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value subject, qc_chat_value *result)
{
    qc_chat_value keep = qc_chat_bool(false);
    if (qc_chat_bind(run, call, "keepends", 0, &keep) || qc_chat_step(run, call->at, subject.length / 16))
        return QC_ERROR;
    *result = qc_chat_list_value(qc_chat_split_lines(run, subject, qc_chat_truth(keep)));
    return QC_OK;
}

/* text.startswith(prefix) and endswith; the prefix may be a tuple of them. */
static qc_status affix(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value subject, bool end, qc_chat_value *result)
{
    qc_chat_value given;
    if (call->count > 1)
        return qc_chat_fail(run, call->at, "%s with a position is not supported", call->name);
    if (qc_chat_bind(run, call, end ? "suffix" : "prefix", 1, &given))
        return QC_ERROR;
    const qc_chat_value *parts = &given;
    size_t count = 1;
    if (given.kind == QC_CHAT_LIST && given.list->flavor == QC_CHAT_TUPLE) {
        parts = given.list->items;
        count = given.list->count;
    }
    bool found = false;
    for (size_t i = 0; i < count && !found; i++) {
        if (want_string(run, call, parts[i]))
            return QC_ERROR;
        size_t length = parts[i].length;
        found = length <= subject.length &&
                memcmp(subject.text + (end ? subject.length - length : 0), parts[i].text, length) == 0;
    }
    *result = qc_chat_bool(found);
    return QC_OK;
}

static qc_status str_startswith(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value subject, qc_chat_value *result)
{
    return affix(run, call, subject, false, result);
}

static qc_status str_endswith(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value subject, qc_chat_value *result)
{
    return affix(run, call, subject, true, result);
}

static qc_status remove_affix(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value subject, bool end, qc_chat_value *result)
{
    qc_chat_value found;
    if (call->count == 1 && want_string(run, call, call->args[0]))
        return QC_ERROR;
    if (affix(run, call, subject, end, &found))
        return QC_ERROR;
    *result = subject;
    if (found.boolean) {
        result->text += end ? 0 : call->args[0].length;
        result->length -= call->args[0].length;
    }
    return QC_OK;
}

static qc_status str_removeprefix(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value subject, qc_chat_value *result)
{
    return remove_affix(run, call, subject, false, result);
}

static qc_status str_removesuffix(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value subject, qc_chat_value *result)
{
    return remove_affix(run, call, subject, true, result);
}

static qc_status change_case(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value subject, int to, qc_chat_value *result)
{
    if (qc_chat_bind(run, call, "", 0, NULL) || qc_chat_step(run, call->at, subject.length / 4))
        return QC_ERROR;
    *result = to < 0 ? qc_chat_capitalize(run, subject) : qc_chat_to_case(run, subject, (qc_chat_case)to);
    result->safe = subject.safe;
    return QC_OK;
}

static qc_status str_upper(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value subject, qc_chat_value *result)
{
    return change_case(run, call, subject, QC_CHAT_UPPER, result);
}

static qc_status str_lower(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value subject, qc_chat_value *result)
{
    return change_case(run, call, subject, QC_CHAT_LOWER, result);
}

static qc_status str_title(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value subject, qc_chat_value *result)
{
    return change_case(run, call, subject, QC_CHAT_TITLE, result);
}

static qc_status str_capitalize(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value subject, qc_chat_value *result)
{
    return change_case(run, call, subject, -1, result);
}

static qc_status str_replace(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value subject, qc_chat_value *result)
{
    qc_chat_value a[3] = {{0}, {0}, qc_chat_int(-1)};
    int64_t count;
    if (qc_chat_bind(run, call, "old new count", 2, a) || want_string(run, call, a[0]) ||
        want_string(run, call, a[1]) || want_integer(run, call, a[2], &count) ||
        want_plain(run, call, subject, a[0]) || want_plain(run, call, subject, a[1]) ||
        qc_chat_step(run, call->at, subject.length / 16))
        return QC_ERROR;
    *result = qc_chat_replace(run, subject, a[0], a[1], count);
    result->safe = subject.safe;
    return QC_OK;
}

static qc_status str_join(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value subject, qc_chat_value *result)
{
    qc_chat_value parts, *items;
    size_t count;
    qc_chat_text out = {0};
    if (qc_chat_bind(run, call, "iterable", 1, &parts) || qc_chat_defined(run, call->at, parts) ||
        qc_chat_items(run, call->at, parts, &items, &count))
        return QC_ERROR;
    for (size_t i = 0; i < count; i++) {
        if (want_string(run, call, items[i]) || want_plain(run, call, subject, items[i]))
            return QC_ERROR;
        if (i)
            qc_chat_text_add(run, &out, subject.text, subject.length);
        qc_chat_text_add(run, &out, items[i].text, items[i].length);
    }
    *result = qc_chat_text_value(&out);
    result->safe = subject.safe;
    return QC_OK;
}

/* find, rfind, index, rindex: the position in characters, -1 or an error when absent. */
static qc_status find(qc_chat_run *run, const qc_chat_call *call, qc_chat_value subject, bool last, bool must,
    qc_chat_value *result)
{
    qc_chat_value what;
    if (call->count > 1)
        return qc_chat_fail(run, call->at, "%s with a position is not supported", call->name);
    if (qc_chat_bind(run, call, "sub", 1, &what) || want_string(run, call, what) ||
        qc_chat_step(run, call->at, subject.length / 4))
        return QC_ERROR;
    size_t at = last ? qc_chat_find_last(subject, what) : qc_chat_find(subject, what, 0);
    if (at == SIZE_MAX && must)
        return qc_chat_fail(run, call->at, "%s does not find what it looks for", call->name);
    *result = qc_chat_int(at == SIZE_MAX ? -1 : (int64_t)qc_chat_characters(subject.text, at));
    return QC_OK;
}

static qc_status str_find(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value subject, qc_chat_value *result)
{
    return find(run, call, subject, false, false, result);
}

static qc_status str_rfind(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value subject, qc_chat_value *result)
{
    return find(run, call, subject, true, false, result);
}

static qc_status str_index(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value subject, qc_chat_value *result)
{
    return find(run, call, subject, false, true, result);
}

static qc_status str_rindex(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value subject, qc_chat_value *result)
{
    return find(run, call, subject, true, true, result);
}

static qc_status str_count(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value subject, qc_chat_value *result)
{
    qc_chat_value what;
    if (call->count > 1)
        return qc_chat_fail(run, call->at, "count with a position is not supported");
    if (qc_chat_bind(run, call, "sub", 1, &what) || want_string(run, call, what) ||
        qc_chat_step(run, call->at, subject.length / 16))
        return QC_ERROR;
    int64_t count = 0;
    if (what.length == 0)
        count = (int64_t)qc_chat_characters(subject.text, subject.length) + 1;
    for (size_t at = 0; what.length && (at = qc_chat_find(subject, what, at)) != SIZE_MAX; at += what.length)
        count++;
    *result = qc_chat_int(count);
    return QC_OK;
}

static qc_status partition(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value subject, bool last, qc_chat_value *result)
{
    qc_chat_value what;
    if (qc_chat_bind(run, call, "sep", 1, &what) || want_string(run, call, what) ||
        want_plain(run, call, subject, what) || qc_chat_step(run, call->at, subject.length / 4))
        return QC_ERROR;
    if (what.length == 0)
        return qc_chat_fail(run, call->at, "the separator of %s is empty", call->name);
    size_t at = last ? qc_chat_find_last(subject, what) : qc_chat_find(subject, what, 0);
    qc_chat_value parts[3] = {subject, what, subject};
    if (at == SIZE_MAX) {
        parts[1].length = parts[last ? 0 : 2].length = 0;
    } else {
        parts[0].length = at;
        parts[2].text += at + what.length;
        parts[2].length -= at + what.length;
    }
    qc_chat_list *list = qc_chat_list_new(run, QC_CHAT_TUPLE, 3);
    for (int i = 0; i < 3; i++) {
        parts[i].safe = subject.safe;
        qc_chat_push(run, list, parts[i]);
    }
    *result = qc_chat_list_value(list);
    return QC_OK;
}

static qc_status str_partition(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value subject, qc_chat_value *result)
{
    return partition(run, call, subject, false, result);
}

static qc_status str_rpartition(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value subject, qc_chat_value *result)
{
    return partition(run, call, subject, true, result);
}

static qc_status has(qc_chat_run *run, const qc_chat_call *call, qc_chat_value subject,
    qc_chat_property property, qc_chat_value *result)
{
    if (qc_chat_bind(run, call, "", 0, NULL) || qc_chat_step(run, call->at, subject.length / 4))
        return QC_ERROR;
    *result = qc_chat_bool(qc_chat_has(subject, property));
    return QC_OK;
}

static qc_status str_isalpha(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value subject, qc_chat_value *result)
{
    return has(run, call, subject, QC_CHAT_ALPHA, result);
}

static qc_status str_isdigit(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value subject, qc_chat_value *result)
{
    return has(run, call, subject, QC_CHAT_DIGIT, result);
}

static qc_status str_isalnum(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value subject, qc_chat_value *result)
{
    return has(run, call, subject, QC_CHAT_ALNUM, result);
}

static qc_status str_isspace(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value subject, qc_chat_value *result)
{
    return has(run, call, subject, QC_CHAT_SPACE, result);
}

static qc_status str_isupper(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value subject, qc_chat_value *result)
{
    return has(run, call, subject, QC_CHAT_IS_UPPER, result);
}

static qc_status str_islower(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value subject, qc_chat_value *result)
{
    return has(run, call, subject, QC_CHAT_IS_LOWER, result);
}

/* The argument that {}, {2} or {name} in a format stands for. */
static qc_status format_argument(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value field, size_t *next, qc_chat_value *value)
{
    int64_t index = (int64_t)*next;
    for (size_t i = 0; i < call->named_count; i++)
        if (qc_chat_is_text(field, call->keys[i])) {
            *value = call->named[i];
            return QC_OK;
        }
    if (field.length == 0)
        ++*next;
    else if (!qc_chat_has(field, QC_CHAT_DIGIT) || !qc_chat_parse_int(field, 10, &index))
        return qc_chat_fail(run, call->at, "the field {%.*s} of format is not supported",
            (int)(field.length < 40 ? field.length : 40), field.text);
    if (index >= (int64_t)call->count)
        return qc_chat_fail(run, call->at, "format has no argument %lld", (long long)index);
    *value = call->args[index];
    return QC_OK;
}

static qc_status str_format(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value subject, qc_chat_value *result)
{
    qc_chat_text out = {0};
    size_t next = 0;
    for (size_t at = 0; at < subject.length; at++) {
        char c = subject.text[at];
        const char *close = NULL;
        if (c == '{' || c == '}') {
            if (at + 1 < subject.length && subject.text[at + 1] == c) {
                at++;
            } else {
                close = c == '{' ? memchr(subject.text + at, '}', subject.length - at) : NULL;
                if (!close)
                    return qc_chat_fail(run, call->at, "format has a single '%c'", c);
            }
        }
        if (!close) {
            qc_chat_text_add(run, &out, &c, 1);
            continue;
        }
        const char *name = subject.text + at + 1;
        qc_chat_value value;
        if (format_argument(run, call, qc_chat_string(name, (size_t)(close - name)), &next, &value) ||
            qc_chat_add_str(run, call->at, value, &out))
            return QC_ERROR;
        at = (size_t)(close - subject.text);
    }
    *result = qc_chat_text_value(&out);
    return subject.safe ? qc_chat_fail(run, call->at, "format of a text marked safe is not supported")
                        : QC_OK;
}

/* ---- dicts and lists ----------------------------------------------------------------------------------- */

static qc_status dict_get(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value subject, qc_chat_value *result)
{
    qc_chat_value a[2] = {{0}, qc_chat_none()};
    if (call->named_count)
        return qc_chat_fail(run, call->at, "get takes no keyword arguments");
    if (qc_chat_bind(run, call, "key default", 1, a) || qc_chat_step(run, call->at, subject.dict->count / 8))
        return QC_ERROR;
    if (!qc_chat_is_hashable(a[0]))
        return qc_chat_fail(run, call->at, "a %s cannot be the key of a dict", qc_chat_type_name(a[0]));
    const qc_chat_value *found = qc_chat_dict_find(run, subject.dict, a[0]);
    *result = found ? *found : a[1];
    return QC_OK;
}

static qc_status view(qc_chat_run *run, const qc_chat_call *call, qc_chat_value subject,
    qc_chat_flavor flavor, qc_chat_value *result)
{
    const qc_chat_dict *dict = subject.dict;
    if (qc_chat_bind(run, call, "", 0, NULL) || qc_chat_step(run, call->at, dict->count))
        return QC_ERROR;
    qc_chat_list *list = qc_chat_list_new(run, flavor, dict->count);
    for (size_t i = 0; i < dict->count; i++) {
        qc_chat_value item = flavor == QC_CHAT_KEYS ? dict->keys[i] : dict->values[i];
        if (flavor == QC_CHAT_ITEMS) {
            qc_chat_list *pair = qc_chat_list_new(run, QC_CHAT_TUPLE, 2);
            qc_chat_push(run, pair, dict->keys[i]);
            qc_chat_push(run, pair, dict->values[i]);
            item = qc_chat_list_value(pair);
        }
        qc_chat_push(run, list, item);
    }
    *result = qc_chat_list_value(list);
    return QC_OK;
}

static qc_status dict_keys(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value subject, qc_chat_value *result)
{
    return view(run, call, subject, QC_CHAT_KEYS, result);
}

static qc_status dict_values(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value subject, qc_chat_value *result)
{
    return view(run, call, subject, QC_CHAT_VALUES, result);
}

static qc_status dict_items(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value subject, qc_chat_value *result)
{
    return view(run, call, subject, QC_CHAT_ITEMS, result);
}

/* Values do not change, so a copy is the value itself. */
static qc_status copy(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value subject, qc_chat_value *result)
{
    *result = subject;
    return qc_chat_bind(run, call, "", 0, NULL);
}

static qc_status list_search(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value subject, bool count, qc_chat_value *result)
{
    qc_chat_value what;
    int64_t found = 0;
    if (call->count > 1)
        return qc_chat_fail(run, call->at, "%s with a position is not supported", call->name);
    if (qc_chat_bind(run, call, "value", 1, &what) || qc_chat_step(run, call->at, subject.list->count))
        return QC_ERROR;
    for (size_t i = 0; i < subject.list->count; i++) {
        bool equal;
        if (qc_chat_equal(run, call->at, subject.list->items[i], what, &equal))
            return QC_ERROR;
        found += equal;
        if (equal && !count) {
            *result = qc_chat_int((int64_t)i);
            return QC_OK;
        }
    }
    *result = qc_chat_int(found);
    return count ? QC_OK : qc_chat_fail(run, call->at, "index does not find what it looks for");
}

static qc_status list_count(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value subject, qc_chat_value *result)
{
    return list_search(run, call, subject, true, result);
}

static qc_status list_index(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value subject, qc_chat_value *result)
{
    return list_search(run, call, subject, false, result);
}

/* ---- what Python has under a name ---------------------------------------------------------------------- */

static const qc_chat_builtin str_methods[] = {{"strip", str_strip}, {"lstrip", str_lstrip},
    {"rstrip", str_rstrip}, {"split", str_split}, {"rsplit", str_rsplit}, {"splitlines", str_splitlines},
    {"startswith", str_startswith}, {"endswith", str_endswith}, {"removeprefix", str_removeprefix},
    {"removesuffix", str_removesuffix}, {"upper", str_upper}, {"lower", str_lower}, {"title", str_title},
    {"capitalize", str_capitalize}, {"replace", str_replace}, {"join", str_join}, {"find", str_find},
    {"rfind", str_rfind}, {"index", str_index}, {"rindex", str_rindex}, {"count", str_count},
    {"partition", str_partition}, {"rpartition", str_rpartition}, {"isalpha", str_isalpha},
    {"isdigit", str_isdigit}, {"isalnum", str_isalnum}, {"isspace", str_isspace}, {"isupper", str_isupper},
    {"islower", str_islower}, {"format", str_format}, {"casefold", NULL}, {"center", NULL}, {"encode", NULL},
    {"expandtabs", NULL}, {"format_map", NULL}, {"isascii", NULL}, {"isdecimal", NULL},
    {"isidentifier", NULL}, {"isnumeric", NULL}, {"isprintable", NULL}, {"istitle", NULL}, {"ljust", NULL},
    {"maketrans", NULL}, {"rjust", NULL}, {"swapcase", NULL}, {"translate", NULL}, {"zfill", NULL}};

static const qc_chat_builtin dict_methods[] = {{"get", dict_get}, {"keys", dict_keys},
    {"values", dict_values}, {"items", dict_items}, {"copy", copy}, {"fromkeys", NULL}};

static const qc_chat_builtin list_methods[] = {{"count", list_count}, {"index", list_index}, {"copy", copy}};

static const qc_chat_builtin number_methods[] = {{"real", NULL}, {"imag", NULL}, {"numerator", NULL},
    {"denominator", NULL}, {"conjugate", NULL}, {"bit_length", NULL}, {"bit_count", NULL}, {"to_bytes", NULL},
    {"from_bytes", NULL}, {"as_integer_ratio", NULL}, {"is_integer", NULL}, {"hex", NULL}, {"fromhex", NULL}};

static const char *const dict_changers[] = {"clear", "pop", "popitem", "setdefault", "update"};
static const char *const list_changers[] = {
    "append", "clear", "pop", "reverse", "insert", "sort", "extend", "remove"};

#define COUNT(a) (sizeof(a) / sizeof *(a))

static bool is_one_of(const char *const *names, size_t count, const char *name, size_t length)
{
    for (size_t i = 0; i < count; i++)
        if (strlen(names[i]) == length && memcmp(names[i], name, length) == 0)
            return true;
    return false;
}

const qc_chat_builtin *qc_chat_builtin_find(
    const qc_chat_builtin *table, size_t count, const char *name, size_t length)
{
    for (size_t i = 0; i < count; i++)
        if (strlen(table[i].name) == length && memcmp(table[i].name, name, length) == 0)
            return &table[i];
    return NULL;
}

qc_status qc_chat_attribute(qc_chat_run *run, const qc_chat_node *at, qc_chat_value subject, const char *name,
    size_t length, bool *found, qc_chat_value *result)
{
    const qc_chat_builtin *method = NULL;
    bool changes = false;
    *found = false;
    if (length > 3 && memcmp(name, "__", 2) == 0 && memcmp(name + length - 2, "__", 2) == 0)
        return qc_chat_fail(run, at, "the attribute '%.*s' is not supported", (int)length, name);
    switch (subject.kind) {
    case QC_CHAT_STRING:
        method = qc_chat_builtin_find(str_methods, COUNT(str_methods), name, length);
        break;
    case QC_CHAT_DICT:
        method = qc_chat_builtin_find(dict_methods, COUNT(dict_methods), name, length);
        changes = is_one_of(dict_changers, COUNT(dict_changers), name, length);
        break;
    case QC_CHAT_LIST:
        if (subject.list->flavor <= QC_CHAT_RANGE)
            method = qc_chat_builtin_find(
                list_methods, subject.list->flavor == QC_CHAT_PLAIN ? 3 : 2, name, length);
        changes = subject.list->flavor == QC_CHAT_PLAIN &&
                  is_one_of(list_changers, COUNT(list_changers), name, length);
        break;
    case QC_CHAT_BOOL:
    case QC_CHAT_INT:
    case QC_CHAT_BIG:
    case QC_CHAT_FLOAT:
        method = qc_chat_builtin_find(number_methods, COUNT(number_methods), name, length);
        break;
    default:
        break;
    }
    *found = method || changes;
    if (changes) {
        *result =
            (qc_chat_value){.kind = QC_CHAT_UNDEFINED, .text = qc_arena_strndup(&run->arena, name, length)};
        result->of = subject.kind == QC_CHAT_DICT ? "unsafe dict" : "unsafe list";
    } else if (method) {
        qc_chat_callable *callable = QC_NEW(&run->arena, qc_chat_callable);
        callable->builtin = method;
        callable->type = qc_chat_type_name(subject);
        callable->subject = subject;
        *result = (qc_chat_value){.kind = QC_CHAT_CALLABLE, .callable = callable};
    }
    return QC_OK;
}
