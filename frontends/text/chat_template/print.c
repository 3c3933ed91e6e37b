/* SPDX-License-Identifier: MIT
 *
 * print.c - values as text: Python's str and repr, and JSON as Transformers' `tojson` writes it, which is
 * json.dumps with ensure_ascii off.
 */
#include "frontends/text/chat_template/internal.h"
#include "frontends/text/tokenizer/internal.h"

#include <math.h>
#include <stdio.h>

/* ---- str and repr -------------------------------------------------------------------------------------- */

static void add_integer(qc_chat_run *run, qc_chat_text *out, int64_t value)
{
    char digits[24];
    qc_chat_text_add(run, out, digits, (size_t)snprintf(digits, sizeof digits, "%lld", (long long)value));
}

static void add_float(qc_chat_run *run, qc_chat_text *out, double value)
{
    qc_str text;
    qc_str_init(&text, &run->arena);
    qc_str_add_f64(&text, value);
    qc_chat_text_add(run, out, text.data, text.length);
    qc_str_fini(&text);
}

/* Single quotes, but where only those are in the text. */
static void add_quoted(qc_chat_run *run, qc_chat_text *out, qc_chat_value text)
{
    bool single = memchr(text.text, '\'', text.length) != NULL;
    char quote = single && !memchr(text.text, '"', text.length) ? '"' : '\'';
    qc_chat_text_add(run, out, &quote, 1);
    for (size_t at = 0, size; at < text.length; at += size) {
        uint32_t code = qc_text_get(text.text + at, text.length - at, &size);
        char escape[16] = {'\\', (char)code, 0};
        if (code == '\n' || code == '\r' || code == '\t')
            escape[1] = code == '\n' ? 'n' : code == '\r' ? 'r' : 't';
        else if (code != '\\' && code != (uint32_t)quote && qc_chat_is_printable(code))
            escape[0] = 0;
        else if (code != '\\' && code != (uint32_t)quote)
            snprintf(escape, sizeof escape,
                code < 0x100     ? "\\x%02x"
                : code < 0x10000 ? "\\u%04x"
                                 : "\\U%08x",
                code);
        if (escape[0])
            qc_chat_text_addz(run, out, escape);
        else
            qc_chat_text_add(run, out, text.text + at, size);
    }
    qc_chat_text_add(run, out, &quote, 1);
}

static qc_status add_items(qc_chat_run *run, const qc_chat_node *at, const qc_chat_list *list,
    const char *open, const char *close, qc_chat_text *out)
{
    qc_chat_text_addz(run, out, open);
    for (size_t i = 0; i < list->count; i++) {
        if (i)
            qc_chat_text_addz(run, out, ", ");
        if (qc_chat_add_repr(run, at, list->items[i], out))
            return QC_ERROR;
    }
    if (list->flavor == QC_CHAT_TUPLE && list->count == 1)
        qc_chat_text_addz(run, out, ",");
    qc_chat_text_addz(run, out, close);
    return QC_OK;
}

static qc_status add_list(
    qc_chat_run *run, const qc_chat_node *at, const qc_chat_list *list, qc_chat_text *out)
{
    switch (list->flavor) {
    case QC_CHAT_PLAIN:
        return add_items(run, at, list, "[", "]", out);
    case QC_CHAT_TUPLE:
        return add_items(run, at, list, "(", ")", out);
    case QC_CHAT_KEYS:
        return add_items(run, at, list, "dict_keys([", "])", out);
    case QC_CHAT_VALUES:
        return add_items(run, at, list, "dict_values([", "])", out);
    case QC_CHAT_ITEMS:
        return add_items(run, at, list, "dict_items([", "])", out);
    case QC_CHAT_RANGE:
    case QC_CHAT_ITERATOR:
        break;
    }
    if (list->flavor == QC_CHAT_ITERATOR || list->bounds[2] == 0)
        return qc_chat_fail(run, at, "printing a %s, without '| list', is not supported",
            qc_chat_type_name((qc_chat_value){.kind = QC_CHAT_LIST, .list = (qc_chat_list *)list}));
    qc_chat_text_addz(run, out, "range(");
    for (int i = 0; i < (list->bounds[2] == 1 ? 2 : 3); i++) {
        qc_chat_text_addz(run, out, i ? ", " : "");
        add_integer(run, out, list->bounds[i]);
    }
    qc_chat_text_addz(run, out, ")");
    return QC_OK;
}

static qc_status add_dict(
    qc_chat_run *run, const qc_chat_node *at, const qc_chat_dict *dict, qc_chat_text *out)
{
    qc_chat_text_addz(run, out, "{");
    for (size_t i = 0; i < dict->count; i++) {
        if (i)
            qc_chat_text_addz(run, out, ", ");
        if (qc_chat_add_repr(run, at, dict->keys[i], out))
            return QC_ERROR;
        qc_chat_text_addz(run, out, ": ");
        if (qc_chat_add_repr(run, at, dict->values[i], out))
            return QC_ERROR;
    }
    qc_chat_text_addz(run, out, "}");
    return QC_OK;
}

static qc_status add_container(
    qc_chat_run *run, const qc_chat_node *at, qc_chat_value value, qc_chat_text *out)
{
    if (value.kind == QC_CHAT_LIST)
        return add_list(run, at, value.list, out);
    if (value.kind == QC_CHAT_DICT)
        return add_dict(run, at, value.dict, out);
    qc_chat_text_addz(run, out, "<Namespace ");
    if (add_dict(run, at, value.dict, out))
        return QC_ERROR;
    qc_chat_text_addz(run, out, ">");
    return QC_OK;
}

qc_status qc_chat_add_repr(qc_chat_run *run, const qc_chat_node *at, qc_chat_value value, qc_chat_text *out)
{
    if (qc_chat_step(run, at, 1))
        return QC_ERROR;
    switch (value.kind) {
    case QC_CHAT_UNDEFINED:
        qc_chat_text_addz(run, out, "Undefined");
        return QC_OK;
    case QC_CHAT_NONE:
        qc_chat_text_addz(run, out, "None");
        return QC_OK;
    case QC_CHAT_BOOL:
        qc_chat_text_addz(run, out, value.boolean ? "True" : "False");
        return QC_OK;
    case QC_CHAT_INT:
        add_integer(run, out, value.integer);
        return QC_OK;
    case QC_CHAT_BIG:
        qc_chat_text_add(run, out, value.text, value.length);
        return QC_OK;
    case QC_CHAT_FLOAT:
        add_float(run, out, value.number);
        return QC_OK;
    case QC_CHAT_STRING:
        if (value.safe)
            qc_chat_text_addz(run, out, "Markup(");
        add_quoted(run, out, value);
        if (value.safe)
            qc_chat_text_addz(run, out, ")");
        return qc_chat_step(run, at, value.length / 16);
    case QC_CHAT_LIST:
    case QC_CHAT_DICT:
    case QC_CHAT_NAMESPACE: {
        if (run->depth >= QC_CHAT_RUN_DEPTH + QC_CHAT_VALUE_DEPTH)
            return qc_chat_fail(run, at, "values are nested too deep to be printed");
        run->depth++;
        qc_status status = add_container(run, at, value, out);
        run->depth--;
        return status;
    }
    case QC_CHAT_LOOP:
    case QC_CHAT_CALLABLE:
        break;
    }
    return qc_chat_fail(run, at, "printing a %s is not supported", qc_chat_type_name(value));
}

qc_status qc_chat_add_str(qc_chat_run *run, const qc_chat_node *at, qc_chat_value value, qc_chat_text *out)
{
    if (value.kind == QC_CHAT_UNDEFINED)
        return QC_OK;
    if (value.kind != QC_CHAT_STRING)
        return qc_chat_add_repr(run, at, value, out);
    qc_chat_text_add(run, out, value.text, value.length);
    return qc_chat_step(run, at, value.length / 64);
}

qc_status qc_chat_to_string(qc_chat_run *run, const qc_chat_node *at, qc_chat_value *value)
{
    qc_chat_text out = {0};
    if (value->kind == QC_CHAT_STRING)
        return QC_OK;
    if (qc_chat_add_str(run, at, *value, &out))
        return QC_ERROR;
    *value = qc_chat_text_value(&out);
    return QC_OK;
}

/* ---- JSON ---------------------------------------------------------------------------------------------- */

typedef struct json_style {
    qc_chat_value indent, item_separator, key_separator;
    bool ascii, sorted, indented;
} json_style;

static void add_json_string(qc_chat_run *run, qc_chat_text *out, qc_chat_value text, bool ascii)
{
    static const char plain[] = "\"\"\\\\\nn\rr\tt\ff\bb";
    qc_chat_text_addz(run, out, "\"");
    for (size_t at = 0, size; at < text.length; at += size) {
        uint32_t code = qc_text_get(text.text + at, text.length - at, &size);
        char escape[16] = {0};
        for (size_t i = 0; i + 1 < sizeof plain; i += 2)
            if (code == (unsigned char)plain[i])
                snprintf(escape, sizeof escape, "\\%c", plain[i + 1]);
        if (!escape[0] && ascii && code > 0xffff)
            snprintf(escape, sizeof escape, "\\u%04x\\u%04x", 0xd7c0 + (code >> 10), 0xdc00 + (code & 0x3ff));
        else if (!escape[0] && (code < 0x20 || (ascii && code > 0x7e)))
            snprintf(escape, sizeof escape, "\\u%04x", code);
        if (escape[0])
            qc_chat_text_addz(run, out, escape);
        else
            qc_chat_text_add(run, out, text.text + at, size);
    }
    qc_chat_text_addz(run, out, "\"");
}

static void add_json_float(qc_chat_run *run, qc_chat_text *out, double value)
{
    if (isnan(value))
        qc_chat_text_addz(run, out, "NaN");
    else if (isinf(value))
        qc_chat_text_addz(run, out, value < 0 ? "-Infinity" : "Infinity");
    else
        add_float(run, out, value);
}

static void add_json_break(qc_chat_run *run, qc_chat_text *out, const json_style *style, unsigned level)
{
    if (!style->indented)
        return;
    qc_chat_text_addz(run, out, "\n");
    for (unsigned i = 0; i < level && !run->full; i++)
        qc_chat_text_add(run, out, style->indent.text, style->indent.length);
}

static qc_status add_json(qc_chat_run *run, const qc_chat_node *at, qc_chat_value value,
    const json_style *style, unsigned level, qc_chat_text *out);

static qc_status add_json_list(qc_chat_run *run, const qc_chat_node *at, const qc_chat_list *list,
    const json_style *style, unsigned level, qc_chat_text *out)
{
    qc_chat_text_addz(run, out, "[");
    for (size_t i = 0; i < list->count; i++) {
        if (i)
            qc_chat_text_add(run, out, style->item_separator.text, style->item_separator.length);
        add_json_break(run, out, style, level + 1);
        if (add_json(run, at, list->items[i], style, level + 1, out))
            return QC_ERROR;
    }
    if (list->count)
        add_json_break(run, out, style, level);
    qc_chat_text_addz(run, out, "]");
    return QC_OK;
}

/* Keys become strings as Python's json makes them. */
static qc_status add_json_key(
    qc_chat_run *run, const qc_chat_node *at, qc_chat_value key, const json_style *style, qc_chat_text *out)
{
    if (key.kind == QC_CHAT_STRING) {
        add_json_string(run, out, key, style->ascii);
        return QC_OK;
    }
    if (key.kind != QC_CHAT_NONE && key.kind != QC_CHAT_BOOL && key.kind != QC_CHAT_INT &&
        key.kind != QC_CHAT_FLOAT)
        return qc_chat_fail(run, at, "a %s cannot be a key in JSON", qc_chat_type_name(key));
    qc_chat_text_addz(run, out, "\"");
    qc_status status = add_json(run, at, key, style, 0, out);
    qc_chat_text_addz(run, out, "\"");
    return status;
}

/* Indices of the keys in the order in which they are written. */
static qc_status sort_keys(
    qc_chat_run *run, const qc_chat_node *at, const qc_chat_dict *dict, bool sorted, size_t *order)
{
    for (size_t i = 0; i < dict->count; i++) {
        size_t k = i;
        for (; sorted && k > 0; k--) {
            int less;
            if (qc_chat_order(run, at, dict->keys[i], dict->keys[order[k - 1]], &less))
                return QC_ERROR;
            if (less >= 0)
                break;
            order[k] = order[k - 1];
        }
        order[k] = i;
    }
    return QC_OK;
}

static qc_status add_json_dict(qc_chat_run *run, const qc_chat_node *at, const qc_chat_dict *dict,
    const json_style *style, unsigned level, qc_chat_text *out)
{
    size_t *order = QC_NEW_ARRAY(&run->arena, size_t, dict->count);
    if (sort_keys(run, at, dict, style->sorted, order))
        return QC_ERROR;
    qc_chat_text_addz(run, out, "{");
    for (size_t i = 0; i < dict->count; i++) {
        if (i)
            qc_chat_text_add(run, out, style->item_separator.text, style->item_separator.length);
        add_json_break(run, out, style, level + 1);
        if (add_json_key(run, at, dict->keys[order[i]], style, out))
            return QC_ERROR;
        qc_chat_text_add(run, out, style->key_separator.text, style->key_separator.length);
        if (add_json(run, at, dict->values[order[i]], style, level + 1, out))
            return QC_ERROR;
    }
    if (dict->count)
        add_json_break(run, out, style, level);
    qc_chat_text_addz(run, out, "}");
    return QC_OK;
}

static qc_status add_json(qc_chat_run *run, const qc_chat_node *at, qc_chat_value value,
    const json_style *style, unsigned level, qc_chat_text *out)
{
    if (qc_chat_step(run, at, 1))
        return QC_ERROR;
    if (level > QC_CHAT_VALUE_DEPTH)
        return qc_chat_fail(run, at, "values are nested too deep for JSON");
    switch (value.kind) {
    case QC_CHAT_NONE:
        qc_chat_text_addz(run, out, "null");
        return QC_OK;
    case QC_CHAT_BOOL:
        qc_chat_text_addz(run, out, value.boolean ? "true" : "false");
        return QC_OK;
    case QC_CHAT_INT:
    case QC_CHAT_BIG:
        return qc_chat_add_repr(run, at, value, out);
    case QC_CHAT_FLOAT:
        add_json_float(run, out, value.number);
        return QC_OK;
    case QC_CHAT_STRING:
        add_json_string(run, out, value, style->ascii);
        return qc_chat_step(run, at, value.length / 16);
    case QC_CHAT_LIST:
        if (value.list->flavor <= QC_CHAT_TUPLE)
            return add_json_list(run, at, value.list, style, level, out);
        break;
    case QC_CHAT_DICT:
        return add_json_dict(run, at, value.dict, style, level, out);
    default:
        break;
    }
    return qc_chat_defined(run, at, value)
               ? QC_ERROR
               : qc_chat_fail(run, at, "a %s cannot be written as JSON", qc_chat_type_name(value));
}

qc_status qc_chat_filter_tojson(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value subject, qc_chat_value *result)
{
    qc_chat_value a[4] = {qc_chat_bool(false), qc_chat_none(), qc_chat_none(), qc_chat_bool(false)};
    qc_chat_text out = {0};
    int64_t spaces;
    if (qc_chat_bind(run, call, "ensure_ascii indent separators sort_keys", 0, a))
        return QC_ERROR;
    json_style style = {.ascii = qc_chat_truth(a[0]), .sorted = qc_chat_truth(a[3]), .indent = a[1]};
    style.indented = a[1].kind != QC_CHAT_NONE;
    if (qc_chat_is_integer(a[1], &spaces)) {
        if (spaces > 1000)
            return qc_chat_fail(run, call->at, "an indent of %lld is too large", (long long)spaces);
        qc_chat_text indent = {0};
        for (int64_t i = 0; i < spaces; i++)
            qc_chat_text_addz(run, &indent, " ");
        style.indent = qc_chat_text_value(&indent);
    } else if (style.indented && a[1].kind != QC_CHAT_STRING) {
        return qc_chat_fail(run, call->at, "indent must be a number or a string");
    }
    style.item_separator = qc_chat_stringz(style.indented ? "," : ", ");
    style.key_separator = qc_chat_stringz(": ");
    if (a[2].kind == QC_CHAT_LIST && a[2].list->count == 2 && a[2].list->items[0].kind == QC_CHAT_STRING &&
        a[2].list->items[1].kind == QC_CHAT_STRING) {
        style.item_separator = a[2].list->items[0];
        style.key_separator = a[2].list->items[1];
    } else if (a[2].kind != QC_CHAT_NONE) {
        return qc_chat_fail(run, call->at, "separators must be two strings");
    }
    if (add_json(run, call->at, subject, &style, 0, &out))
        return QC_ERROR;
    *result = qc_chat_text_value(&out);
    return QC_OK;
}
