/* SPDX-License-Identifier: MIT
 *
 * filters.c - the filters of Jinja for single values; those for lists are in lists.c.
 */
#include "frontends/text/chat_template/lists.h"
#include "frontends/text/tokenizer/internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* A string of any value, as Jinja's soft_str: strings marked safe stay so. */
static qc_status soft_string(qc_chat_run *run, const qc_chat_call *call, qc_chat_value *value)
{
    return qc_chat_to_string(run, call->at, value) || qc_chat_step(run, call->at, value->length / 16)
               ? QC_ERROR
               : QC_OK;
}

static qc_status want_integer(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value value, int64_t *integer)
{
    if (qc_chat_is_integer(value, integer))
        return QC_OK;
    return qc_chat_fail(
        run, call->at, "%s takes a whole number, not a %s", call->name, qc_chat_type_name(value));
}

/* ---- text ---------------------------------------------------------------------------------------------- */

static qc_status filter_trim(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value v, qc_chat_value *result)
{
    qc_chat_value chars = qc_chat_none();
    if (qc_chat_bind(run, call, "chars", 0, &chars) || soft_string(run, call, &v))
        return QC_ERROR;
    if (chars.kind != QC_CHAT_NONE && chars.kind != QC_CHAT_STRING)
        return qc_chat_fail(run, call->at, "trim takes a string, not a %s", qc_chat_type_name(chars));
    *result = qc_chat_strip(v, chars.kind == QC_CHAT_NONE ? NULL : &chars, true, true);
    return QC_OK;
}

static qc_status filter_upper(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value v, qc_chat_value *result)
{
    if (qc_chat_bind(run, call, "", 0, NULL) || soft_string(run, call, &v))
        return QC_ERROR;
    *result = qc_chat_to_case(run, v, QC_CHAT_UPPER);
    result->safe = v.safe;
    return QC_OK;
}

static qc_status filter_lower(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value v, qc_chat_value *result)
{
    if (qc_chat_bind(run, call, "", 0, NULL) || soft_string(run, call, &v))
        return QC_ERROR;
    *result = qc_chat_to_case(run, v, QC_CHAT_LOWER);
    result->safe = v.safe;
    return QC_OK;
}

static qc_status filter_capitalize(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value v, qc_chat_value *result)
{
    if (qc_chat_bind(run, call, "", 0, NULL) || soft_string(run, call, &v))
        return QC_ERROR;
    *result = qc_chat_capitalize(run, v);
    result->safe = v.safe;
    return QC_OK;
}

/* Jinja's own title: a word begins behind white space, -, (, {, [ and <. */
static qc_status filter_title(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value v, qc_chat_value *result)
{
    qc_chat_text out = {0};
    bool begins = true;
    if (qc_chat_bind(run, call, "", 0, NULL) || soft_string(run, call, &v))
        return QC_ERROR;
    for (size_t at = 0, end, size; at < v.length; at = end) {
        for (end = at; end < v.length; end += size) { /* a word, or what stands between two */
            uint32_t code = qc_text_get(v.text + end, v.length - end, &size);
            bool between = qc_chat_is_space(code) || (code < 128 && code && strchr("-({[<", (int)code));
            if (end == at)
                begins = !between;
            else if (between == begins)
                break;
        }
        qc_chat_value part = qc_chat_string(v.text + at, end - at);
        size_t first;
        qc_text_get(part.text, part.length, &first);
        qc_chat_add_case(run, &out, part, 0, first, QC_CHAT_UPPER);
        qc_chat_value rest = qc_chat_string(part.text + first, part.length - first);
        qc_chat_add_case(run, &out, rest, 0, rest.length, QC_CHAT_LOWER);
    }
    *result = qc_chat_text_value(&out);
    return QC_OK;
}

static qc_status filter_replace(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value v, qc_chat_value *result)
{
    qc_chat_value a[3] = {{0}, {0}, qc_chat_none()};
    int64_t count = -1;
    if (qc_chat_bind(run, call, "old new count", 2, a) || soft_string(run, call, &v) ||
        soft_string(run, call, &a[0]) || soft_string(run, call, &a[1]) ||
        (a[2].kind != QC_CHAT_NONE && want_integer(run, call, a[2], &count)))
        return QC_ERROR;
    v.safe = false;
    *result = qc_chat_replace(run, v, a[0], a[1], count);
    return QC_OK;
}

static qc_status filter_string(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value v, qc_chat_value *result)
{
    if (qc_chat_bind(run, call, "", 0, NULL) || soft_string(run, call, &v))
        return QC_ERROR;
    *result = v;
    return QC_OK;
}

static qc_status filter_safe(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value v, qc_chat_value *result)
{
    if (filter_string(run, call, v, result))
        return QC_ERROR;
    result->safe = true;
    return QC_OK;
}

static qc_status filter_escape(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value v, qc_chat_value *result)
{
    if (filter_string(run, call, v, result))
        return QC_ERROR;
    *result = result->safe ? *result : qc_chat_escape(run, *result);
    return QC_OK;
}

static qc_status filter_indent(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value v, qc_chat_value *result)
{
    qc_chat_value a[3] = {qc_chat_int(4), qc_chat_bool(false), qc_chat_bool(false)};
    qc_chat_text indent = {0}, out = {0};
    int64_t width = 0;
    if (qc_chat_bind(run, call, "width first blank", 0, a))
        return QC_ERROR;
    if (v.kind != QC_CHAT_STRING)
        return qc_chat_defined(run, call->at, v) ? QC_ERROR
                                                 : qc_chat_fail(run, call->at, "indent takes a string");
    if (a[0].kind == QC_CHAT_STRING)
        qc_chat_text_add(run, &indent, a[0].text, a[0].length);
    else if (want_integer(run, call, a[0], &width))
        return QC_ERROR;
    if (width > 10000 || v.safe)
        return qc_chat_fail(run, call->at,
            v.safe ? "indent of a text marked safe is not supported" : "an indent of %lld is too large",
            (long long)width);
    for (int64_t i = 0; i < width; i++)
        qc_chat_text_addz(run, &indent, " ");
    bool first = qc_chat_truth(a[1]), blank = qc_chat_truth(a[2]);
    /* A newline goes behind the text, so that a last line that ends with one is followed by an empty line. */
    qc_chat_text all = {0};
    qc_chat_text_add(run, &all, v.text, v.length);
    qc_chat_text_addz(run, &all, "\n");
    if (qc_chat_step(run, call->at, v.length / 16))
        return QC_ERROR;
    const qc_chat_list *lines = qc_chat_split_lines(run, qc_chat_text_value(&all), false);
    for (size_t i = 0; i < lines->count && !run->full; i++) {
        if (i)
            qc_chat_text_addz(run, &out, "\n");
        if (i ? blank || lines->items[i].length : first)
            qc_chat_text_add(run, &out, indent.data, indent.length);
        qc_chat_text_add(run, &out, lines->items[i].text, lines->items[i].length);
    }
    *result = qc_chat_text_value(&out);
    return QC_OK;
}

static qc_status filter_truncate(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value v, qc_chat_value *result)
{
    qc_chat_value a[4] = {qc_chat_int(255), qc_chat_bool(false), qc_chat_stringz("..."), qc_chat_int(5)};
    int64_t length, leeway;
    if (qc_chat_bind(run, call, "length killwords end leeway", 0, a) ||
        want_integer(run, call, a[0], &length) || want_integer(run, call, a[3], &leeway))
        return QC_ERROR;
    if (v.kind != QC_CHAT_STRING || a[2].kind != QC_CHAT_STRING || leeway < 0 || leeway > INT32_MAX ||
        length > INT32_MAX || length < (int64_t)qc_chat_characters(a[2].text, a[2].length))
        return qc_chat_defined(run, call->at, v)
                   ? QC_ERROR
                   : qc_chat_fail(run, call->at, "truncate cannot do with these arguments");
    *result = v;
    if ((int64_t)qc_chat_characters(v.text, v.length) <= length + leeway)
        return qc_chat_step(run, call->at, v.length / 64);
    size_t keep = (size_t)length - qc_chat_characters(a[2].text, a[2].length);
    v.length = qc_chat_offset(v.text, v.length, keep);
    size_t blank = qc_chat_truth(a[1]) ? SIZE_MAX : qc_chat_find_last(v, qc_chat_stringz(" "));
    qc_chat_text out = {0};
    qc_chat_text_add(run, &out, v.text, blank == SIZE_MAX ? v.length : blank);
    qc_chat_text_add(run, &out, a[2].text, a[2].length);
    *result = qc_chat_text_value(&out);
    return QC_OK;
}

static qc_status filter_center(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value v, qc_chat_value *result)
{
    qc_chat_value width = qc_chat_int(80);
    int64_t columns;
    if (qc_chat_bind(run, call, "width", 0, &width) || want_integer(run, call, width, &columns) ||
        soft_string(run, call, &v))
        return QC_ERROR;
    if (columns > 100000)
        return qc_chat_fail(run, call->at, "a width of %lld is too large", (long long)columns);
    int64_t length = (int64_t)qc_chat_characters(v.text, v.length),
            room = columns > length ? columns - length : 0;
    int64_t left = room / 2 + (room & columns & 1);
    qc_chat_text out = {0};
    for (int64_t i = 0; i < left; i++)
        qc_chat_text_addz(run, &out, " ");
    qc_chat_text_add(run, &out, v.text, v.length);
    for (int64_t i = left; i < room; i++)
        qc_chat_text_addz(run, &out, " ");
    *result = qc_chat_text_value(&out);
    return QC_OK;
}

static qc_status filter_format(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value v, qc_chat_value *result)
{
    if (call->named_count)
        return qc_chat_fail(run, call->at, "format with keyword arguments is not supported");
    return soft_string(run, call, &v)
               ? QC_ERROR
               : qc_chat_format_percent(run, call->at, v, call->args, call->count, result);
}

/* ---- numbers ------------------------------------------------------------------------------------------- */

static qc_status filter_int(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value v, qc_chat_value *result)
{
    qc_chat_value a[2] = {qc_chat_int(0), qc_chat_int(10)};
    int64_t base, value;
    double number = 0;
    if (qc_chat_bind(run, call, "default base", 0, a) || qc_chat_defined(run, call->at, v) ||
        want_integer(run, call, a[1], &base))
        return QC_ERROR;
    if (base < 2 || base > 36)
        return qc_chat_fail(run, call->at, "int with the base %lld is not supported", (long long)base);
    *result = a[0];
    if (v.kind == QC_CHAT_BIG)
        *result = v;
    else if (qc_chat_is_integer(v, &value) ||
             (v.kind == QC_CHAT_STRING && qc_chat_parse_int(v, (int)base, &value)))
        *result = qc_chat_int(value);
    else if (qc_chat_is_number(v, &number) || (v.kind == QC_CHAT_STRING && qc_chat_parse_float(v, &number))) {
        if (!isfinite(number)) /* Python cannot make an integer of it: the default */
            return QC_OK;
        if (fabs(number) >= 9.2e18)
            return qc_chat_fail(run, call->at, "an integer of more than 64 bits is not supported");
        *result = qc_chat_int((int64_t)number);
    }
    return QC_OK;
}

static qc_status filter_float(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value v, qc_chat_value *result)
{
    qc_chat_value fallback = qc_chat_float(0);
    double number;
    if (qc_chat_bind(run, call, "default", 0, &fallback) || qc_chat_defined(run, call->at, v))
        return QC_ERROR;
    bool is_number =
        qc_chat_is_number(v, &number) || (v.kind == QC_CHAT_STRING && qc_chat_parse_float(v, &number));
    *result = is_number ? qc_chat_float(number) : fallback;
    return QC_OK;
}

static qc_status filter_abs(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value v, qc_chat_value *result)
{
    int64_t value;
    if (qc_chat_bind(run, call, "", 0, NULL) || qc_chat_defined(run, call->at, v))
        return QC_ERROR;
    if (v.kind == QC_CHAT_FLOAT)
        *result = qc_chat_float(fabs(v.number));
    else if (qc_chat_is_integer(v, &value) && value > INT64_MIN)
        *result = qc_chat_int(value < 0 ? -value : value);
    else
        return qc_chat_fail(run, call->at, "abs takes a number, not a %s", qc_chat_type_name(v));
    return QC_OK;
}

static qc_status filter_round(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value v, qc_chat_value *result)
{
    qc_chat_value a[2] = {qc_chat_int(0), qc_chat_stringz("common")};
    int64_t precision;
    double number;
    char digits[400];
    if (qc_chat_bind(run, call, "precision method", 0, a) || qc_chat_defined(run, call->at, v) ||
        want_integer(run, call, a[0], &precision))
        return QC_ERROR;
    if (!qc_chat_is_number(v, &number) || precision < 0 || precision > 15)
        return qc_chat_fail(run, call->at, "round takes a number and a precision of 0 to 15");
    bool common = qc_chat_is_text(a[1], "common"), up = qc_chat_is_text(a[1], "ceil");
    if (!common && !up && !qc_chat_is_text(a[1], "floor"))
        return qc_chat_fail(run, call->at, "the method of round must be common, ceil or floor");
    if (common && v.kind != QC_CHAT_FLOAT) {
        *result = v.kind == QC_CHAT_BOOL ? qc_chat_int(v.boolean) : v;
        return QC_OK;
    }
    double scale = pow(10, (double)precision);
    if (!isfinite(number) || (!common && fabs(number * scale) > 9e15))
        return qc_chat_fail(run, call->at, "round of so large a number is not supported");
    if (common) { /* printf rounds the exact value to even, as Python does */
        int length = snprintf(digits, sizeof digits, "%.*f", (int)precision, number);
        *result = qc_chat_float(qc_decimal_to_f64(digits, (size_t)length));
    } else {
        *result = qc_chat_float((up ? ceil(number * scale) : floor(number * scale)) / scale);
    }
    return QC_OK;
}

/* ---- anything ------------------------------------------------------------------------------------------ */

static qc_status filter_default(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value v, qc_chat_value *result)
{
    qc_chat_value a[2] = {qc_chat_stringz(""), qc_chat_bool(false)};
    if (qc_chat_bind(run, call, "default_value boolean", 0, a))
        return QC_ERROR;
    *result = v.kind == QC_CHAT_UNDEFINED || (qc_chat_truth(a[1]) && !qc_chat_truth(v)) ? a[0] : v;
    return QC_OK;
}

static qc_status filter_length(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value v, qc_chat_value *result)
{
    size_t length;
    if (qc_chat_bind(run, call, "", 0, NULL) || qc_chat_length(run, call->at, v, &length))
        return QC_ERROR;
    *result = qc_chat_int((int64_t)length);
    return QC_OK;
}

static qc_status filter_wordcount(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value v, qc_chat_value *result)
{
    if (qc_chat_bind(run, call, "", 0, NULL) || soft_string(run, call, &v))
        return QC_ERROR;
    /* Words are runs of \w. */
    int64_t count = 0;
    bool inside = false;
    for (size_t at = 0, size; at < v.length; at += size) {
        uint32_t code = qc_text_get(v.text + at, v.length - at, &size);
        qc_chat_value character = qc_chat_string(v.text + at, size);
        bool word = code == '_' || qc_chat_has(character, QC_CHAT_ALNUM);
        count += word && !inside;
        inside = word;
    }
    *result = qc_chat_int(count);
    return QC_OK;
}

static const qc_chat_builtin filters[] = {{"trim", filter_trim}, {"upper", filter_upper},
    {"lower", filter_lower}, {"capitalize", filter_capitalize}, {"title", filter_title},
    {"replace", filter_replace}, {"string", filter_string}, {"safe", filter_safe}, {"escape", filter_escape},
    {"e", filter_escape}, {"indent", filter_indent}, {"truncate", filter_truncate}, {"center", filter_center},
    {"format", filter_format}, {"int", filter_int}, {"float", filter_float}, {"abs", filter_abs},
    {"round", filter_round}, {"default", filter_default}, {"d", filter_default}, {"length", filter_length},
    {"count", filter_length}, {"wordcount", filter_wordcount}, {"tojson", qc_chat_filter_tojson},
    {"list", qc_chat_filter_list}, {"first", qc_chat_filter_first}, {"last", qc_chat_filter_last},
    {"join", qc_chat_filter_join}, {"map", qc_chat_filter_map}, {"select", qc_chat_filter_select},
    {"reject", qc_chat_filter_reject}, {"selectattr", qc_chat_filter_selectattr},
    {"rejectattr", qc_chat_filter_rejectattr}, {"items", qc_chat_filter_items},
    {"dictsort", qc_chat_filter_dictsort}, {"sort", qc_chat_filter_sort}, {"unique", qc_chat_filter_unique},
    {"reverse", qc_chat_filter_reverse}, {"min", qc_chat_filter_min}, {"max", qc_chat_filter_max},
    {"sum", qc_chat_filter_sum}, {"batch", qc_chat_filter_batch}, {"slice", qc_chat_filter_slice},
    {"attr", qc_chat_filter_attr}, {"filesizeformat", NULL}, {"forceescape", NULL}, {"groupby", NULL},
    {"pprint", NULL}, {"random", NULL}, {"striptags", NULL}, {"urlencode", NULL}, {"urlize", NULL},
    {"wordwrap", NULL}, {"xmlattr", NULL}};

const qc_chat_builtin *qc_chat_filter_find(const char *name, size_t length)
{
    return qc_chat_builtin_find(filters, sizeof filters / sizeof *filters, name, length);
}
