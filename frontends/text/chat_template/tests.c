/* SPDX-License-Identifier: MIT
 *
 * tests.c - the tests of Jinja (`x is defined`), and the functions that every template sees.
 */
#include "frontends/text/chat_template/internal.h"

#include <stdlib.h>

/* ---- arguments of built-ins ---------------------------------------------------------------------------- */

/* Number of the parameter `name` among `parameters`, and how many there are. */
static size_t find_parameter(const char *parameters, const char *name, size_t *count)
{
    size_t found = SIZE_MAX;
    *count = 0;
    for (const char *at = parameters; *at; ++*count) {
        size_t length = strcspn(at, " ");
        if (name && strlen(name) == length && memcmp(at, name, length) == 0)
            found = *count;
        at += length + (at[length] == ' ');
    }
    return found;
}

qc_status qc_chat_bind(qc_chat_run *run, const qc_chat_call *call, const char *parameters, size_t required,
    qc_chat_value *values)
{
    bool given[QC_CHAT_ARGUMENTS] = {false};
    size_t most;
    find_parameter(parameters, NULL, &most);
    if (call->count > most)
        return qc_chat_fail(run, call->at, "%s takes at most %zu argument%s, not %zu", call->name, most,
            most == 1 ? "" : "s", call->count);
    for (size_t i = 0; i < call->count; i++) {
        values[i] = call->args[i];
        given[i] = true;
    }
    for (size_t i = 0; i < call->named_count; i++) {
        size_t k = find_parameter(parameters, call->keys[i], &most);
        if (k == SIZE_MAX || given[k])
            return qc_chat_fail(run, call->at,
                k == SIZE_MAX ? "%s has no argument '%s'" : "%s: '%s' is given twice", call->name,
                call->keys[i]);
        values[k] = call->named[i];
        given[k] = true;
    }
    for (size_t i = 0; i < required; i++)
        if (!given[i])
            return qc_chat_fail(run, call->at, "%s takes at least %zu argument%s", call->name, required,
                required == 1 ? "" : "s");
    return QC_OK;
}

/* ---- tests --------------------------------------------------------------------------------------------- */

#define TEST(NAME, CONDITION)                                                                                \
    static qc_status test_##NAME(                                                                            \
        qc_chat_run *run, const qc_chat_call *call, qc_chat_value v, qc_chat_value *result)                  \
    {                                                                                                        \
        *result = qc_chat_bool(CONDITION);                                                                   \
        return qc_chat_bind(run, call, "", 0, NULL);                                                         \
    }

TEST(defined, v.kind != QC_CHAT_UNDEFINED)
TEST(undefined, v.kind == QC_CHAT_UNDEFINED)
TEST(none, v.kind == QC_CHAT_NONE)
TEST(boolean, v.kind == QC_CHAT_BOOL)
TEST(true, v.kind == QC_CHAT_BOOL && v.boolean)
TEST(false, v.kind == QC_CHAT_BOOL && !v.boolean)
TEST(integer, v.kind == QC_CHAT_INT || v.kind == QC_CHAT_BIG)
TEST(float, v.kind == QC_CHAT_FLOAT)
TEST(number,
    v.kind == QC_CHAT_BOOL || v.kind == QC_CHAT_INT || v.kind == QC_CHAT_BIG || v.kind == QC_CHAT_FLOAT)
TEST(string, v.kind == QC_CHAT_STRING)
TEST(mapping, v.kind == QC_CHAT_DICT)
TEST(iterable, v.kind == QC_CHAT_UNDEFINED || v.kind == QC_CHAT_STRING || v.kind == QC_CHAT_LIST ||
                   v.kind == QC_CHAT_DICT || v.kind == QC_CHAT_LOOP)
TEST(sequence, v.kind == QC_CHAT_UNDEFINED || v.kind == QC_CHAT_STRING || v.kind == QC_CHAT_DICT ||
                   (v.kind == QC_CHAT_LIST && v.list->flavor <= QC_CHAT_RANGE))
TEST(callable, v.kind == QC_CHAT_CALLABLE || v.kind == QC_CHAT_UNDEFINED || v.kind == QC_CHAT_LOOP)
TEST(escaped, v.kind == QC_CHAT_STRING && v.safe)

#undef TEST

static qc_status case_test(qc_chat_run *run, const qc_chat_call *call, qc_chat_value v,
    qc_chat_property property, qc_chat_value *result)
{
    if (qc_chat_bind(run, call, "", 0, NULL) || qc_chat_to_string(run, call->at, &v))
        return QC_ERROR;
    *result = qc_chat_bool(qc_chat_has(v, property));
    return qc_chat_step(run, call->at, v.length / 4);
}

static qc_status test_lower(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value v, qc_chat_value *result)
{
    return case_test(run, call, v, QC_CHAT_IS_LOWER, result);
}

static qc_status test_upper(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value v, qc_chat_value *result)
{
    return case_test(run, call, v, QC_CHAT_IS_UPPER, result);
}

/* v % number == remainder. */
static qc_status divisible(qc_chat_run *run, const qc_chat_call *call, qc_chat_value v, qc_chat_value number,
    int64_t remainder, qc_chat_value *result)
{
    bool equal;
    qc_chat_value rest;
    if (v.kind == QC_CHAT_STRING)
        return qc_chat_fail(run, call->at, "the test '%s' takes a number", call->name);
    if (qc_chat_binary(run, call->at, QC_CHAT_MOD, v, number, &rest) ||
        qc_chat_equal(run, call->at, rest, qc_chat_int(remainder), &equal))
        return QC_ERROR;
    *result = qc_chat_bool(equal);
    return QC_OK;
}

static qc_status test_odd(qc_chat_run *run, const qc_chat_call *call, qc_chat_value v, qc_chat_value *result)
{
    return qc_chat_bind(run, call, "", 0, NULL) ? QC_ERROR
                                                : divisible(run, call, v, qc_chat_int(2), 1, result);
}

static qc_status test_even(qc_chat_run *run, const qc_chat_call *call, qc_chat_value v, qc_chat_value *result)
{
    return qc_chat_bind(run, call, "", 0, NULL) ? QC_ERROR
                                                : divisible(run, call, v, qc_chat_int(2), 0, result);
}

static qc_status test_divisibleby(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value v, qc_chat_value *result)
{
    qc_chat_value number;
    return qc_chat_bind(run, call, "num", 1, &number) ? QC_ERROR : divisible(run, call, v, number, 0, result);
}

static qc_status test_in(qc_chat_run *run, const qc_chat_call *call, qc_chat_value v, qc_chat_value *result)
{
    qc_chat_value container;
    bool found;
    if (qc_chat_bind(run, call, "seq", 1, &container) ||
        qc_chat_contains(run, call->at, v, container, &found))
        return QC_ERROR;
    *result = qc_chat_bool(found);
    return QC_OK;
}

/* One object? Small values that Python shares too (None, bools) count; others are refused. */
static qc_status test_sameas(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value v, qc_chat_value *result)
{
    qc_chat_value other;
    if (qc_chat_bind(run, call, "other", 1, &other))
        return QC_ERROR;
    bool simple = v.kind == QC_CHAT_NONE || v.kind == QC_CHAT_BOOL || other.kind == QC_CHAT_NONE ||
                  other.kind == QC_CHAT_BOOL;
    if (!simple)
        return qc_chat_fail(run, call->at, "the test 'sameas' is supported for true, false and none only");
    *result = qc_chat_bool(v.kind == other.kind && (v.kind == QC_CHAT_NONE || v.boolean == other.boolean));
    return QC_OK;
}

static qc_status compare(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value v, qc_chat_operator op, qc_chat_value *result)
{
    qc_chat_value other;
    return qc_chat_bind(run, call, "other", 1, &other) ? QC_ERROR
                                                       : qc_chat_binary(run, call->at, op, v, other, result);
}

#define COMPARISON(NAME, OP)                                                                                 \
    static qc_status test_##NAME(                                                                            \
        qc_chat_run *run, const qc_chat_call *call, qc_chat_value v, qc_chat_value *result)                  \
    {                                                                                                        \
        return compare(run, call, v, OP, result);                                                            \
    }

COMPARISON(eq, QC_CHAT_EQ)
COMPARISON(ne, QC_CHAT_NE)
COMPARISON(lt, QC_CHAT_LT)
COMPARISON(le, QC_CHAT_LE)
COMPARISON(gt, QC_CHAT_GT)
COMPARISON(ge, QC_CHAT_GE)

#undef COMPARISON

static const qc_chat_builtin tests[] = {{"defined", test_defined}, {"undefined", test_undefined},
    {"none", test_none}, {"boolean", test_boolean}, {"true", test_true}, {"false", test_false},
    {"integer", test_integer}, {"float", test_float}, {"number", test_number}, {"string", test_string},
    {"mapping", test_mapping}, {"iterable", test_iterable}, {"sequence", test_sequence},
    {"callable", test_callable}, {"escaped", test_escaped}, {"lower", test_lower}, {"upper", test_upper},
    {"odd", test_odd}, {"even", test_even}, {"divisibleby", test_divisibleby}, {"in", test_in},
    {"sameas", test_sameas}, {"eq", test_eq}, {"==", test_eq}, {"equalto", test_eq}, {"ne", test_ne},
    {"!=", test_ne}, {"lt", test_lt}, {"<", test_lt}, {"lessthan", test_lt}, {"le", test_le}, {"<=", test_le},
    {"gt", test_gt}, {">", test_gt}, {"greaterthan", test_gt}, {"ge", test_ge}, {">=", test_ge},
    {"filter", NULL}, {"test", NULL}};

const qc_chat_builtin *qc_chat_test_find(const char *name, size_t length)
{
    return qc_chat_builtin_find(tests, sizeof tests / sizeof *tests, name, length);
}

/* ---- functions ----------------------------------------------------------------------------------------- */

static qc_status function_range(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value subject, qc_chat_value *result)
{
    qc_chat_value a[3] = {qc_chat_int(0), qc_chat_int(0), qc_chat_int(1)};
    int64_t b[3];
    (void)subject;
    if (call->named_count || qc_chat_bind(run, call, "start stop step", 1, a))
        return call->named_count ? qc_chat_fail(run, call->at, "range takes no keyword arguments") : QC_ERROR;
    if (call->count == 1) {
        a[1] = a[0];
        a[0] = qc_chat_int(0);
    }
    for (int i = 0; i < 3; i++)
        if (!qc_chat_is_integer(a[i], &b[i]))
            return qc_chat_defined(run, call->at, a[i])
                       ? QC_ERROR
                       : qc_chat_fail(
                             run, call->at, "range takes whole numbers, not a %s", qc_chat_type_name(a[i]));
    if (b[2] == 0)
        return qc_chat_fail(run, call->at, "the step of a range is zero");
    /* Distances in unsigned arithmetic: they may be more than 63 bits. */
    bool up = b[2] > 0, any = up ? b[0] < b[1] : b[0] > b[1];
    uint64_t distance = up ? (uint64_t)b[1] - (uint64_t)b[0] : (uint64_t)b[0] - (uint64_t)b[1];
    uint64_t step = up ? (uint64_t)b[2] : 0 - (uint64_t)b[2];
    uint64_t count = any ? (distance - 1) / step + 1 : 0;
    if (count > QC_CHAT_RANGE_LIMIT)
        return qc_chat_fail(run, call->at, "a range has more than %d items", QC_CHAT_RANGE_LIMIT);
    if (qc_chat_step(run, call->at, (size_t)count))
        return QC_ERROR;
    qc_chat_list *list = qc_chat_list_new(run, QC_CHAT_RANGE, (size_t)count);
    memcpy(list->bounds, b, sizeof b);
    for (uint64_t i = 0; i < count; i++)
        qc_chat_push(run, list, qc_chat_int((int64_t)((uint64_t)b[0] + i * (uint64_t)b[2])));
    *result = qc_chat_list_value(list);
    return QC_OK;
}

/* dict(...) as Python's: a dict or a list of pairs, then keyword arguments. */
static qc_status fill_dict(qc_chat_run *run, const qc_chat_call *call, qc_chat_dict *dict)
{
    qc_chat_value *items;
    size_t count;
    if (call->count > 1)
        return qc_chat_fail(run, call->at, "%s takes at most 1 argument", call->name);
    if (call->count == 1 && call->args[0].kind == QC_CHAT_DICT) {
        const qc_chat_dict *from = call->args[0].dict;
        for (size_t i = 0; i < from->count; i++)
            qc_chat_dict_set(run, dict, from->keys[i], from->values[i]);
    } else if (call->count == 1) {
        if (qc_chat_items(run, call->at, call->args[0], &items, &count))
            return QC_ERROR;
        for (size_t i = 0; i < count; i++) {
            qc_chat_value *pair;
            size_t two;
            if (qc_chat_items(run, call->at, items[i], &pair, &two))
                return QC_ERROR;
            if (two != 2 || !qc_chat_is_hashable(pair[0]))
                return qc_chat_fail(run, call->at, "%s takes a dict or pairs of key and value", call->name);
            qc_chat_dict_set(run, dict, pair[0], pair[1]);
            if (qc_chat_step(run, call->at, dict->count / 8))
                return QC_ERROR;
        }
    }
    for (size_t i = 0; i < call->named_count; i++)
        qc_chat_dict_set(run, dict, qc_chat_stringz(call->keys[i]), call->named[i]);
    return QC_OK;
}

static qc_status function_dict(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value subject, qc_chat_value *result)
{
    (void)subject;
    *result = (qc_chat_value){.kind = QC_CHAT_DICT, .dict = qc_chat_dict_new(run)};
    return fill_dict(run, call, result->dict);
}

static qc_status function_namespace(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value subject, qc_chat_value *result)
{
    (void)subject;
    *result = (qc_chat_value){.kind = QC_CHAT_NAMESPACE, .dict = qc_chat_dict_new(run)};
    return fill_dict(run, call, result->dict);
}

static qc_status function_raise_exception(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value subject, qc_chat_value *result)
{
    qc_chat_value message;
    (void)subject;
    *result = qc_chat_none();
    if (qc_chat_bind(run, call, "message", 1, &message) || qc_chat_to_string(run, call->at, &message))
        return QC_ERROR;
    return qc_chat_fail(run, call->at, "the template refuses the conversation: %.*s",
        (int)(message.length < 2000 ? message.length : 2000), message.text);
}

static qc_status function_strftime_now(
    qc_chat_run *run, const qc_chat_call *call, qc_chat_value subject, qc_chat_value *result)
{
    qc_chat_value format;
    struct tm local = {0};
    char text[1024];
    (void)subject;
    if (qc_chat_bind(run, call, "format", 1, &format))
        return QC_ERROR;
    if (format.kind != QC_CHAT_STRING || format.length > 256 || memchr(format.text, 0, format.length))
        return qc_chat_fail(run, call->at, "strftime_now takes a format of at most 256 characters");
    time_t now = time(NULL);
    const struct tm *when = run->options->now ? run->options->now : localtime_r(&now, &local);
    const char *pattern = qc_arena_strndup(&run->arena, format.text, format.length);
    text[0] = 0;
    size_t length = when ? strftime(text, sizeof text, pattern, when) : 0;
    if (length == 0 && format.length)
        return qc_chat_fail(run, call->at, "strftime_now cannot write '%s'", pattern);
    *result = qc_chat_string(qc_arena_strndup(&run->arena, text, length), length);
    return QC_OK;
}

static const qc_chat_builtin functions[] = {{"range", function_range}, {"dict", function_dict},
    {"namespace", function_namespace}, {"raise_exception", function_raise_exception},
    {"strftime_now", function_strftime_now}, {"lipsum", NULL}, {"cycler", NULL}, {"joiner", NULL}};

const qc_chat_builtin *qc_chat_function_find(const char *name, size_t length)
{
    return qc_chat_builtin_find(functions, sizeof functions / sizeof *functions, name, length);
}
