/* SPDX-License-Identifier: MIT
 *
 * operators.c - arithmetic, comparison, subscripts and slices, with Python's meaning. Integers have 64
 * bits; a result beyond them is an error, not another number.
 */
#include "frontends/text/chat_template/internal.h"
#include "frontends/text/tokenizer/internal.h"

#include <math.h>
#include <stdio.h>

static const char *const symbols[] = {
    "+", "-", "*", "/", "//", "%", "**", "==", "!=", "<", "<=", ">", ">=", "in", "not in"};

static qc_status too_large(qc_chat_run *run, const qc_chat_node *at)
{
    return qc_chat_fail(run, at, "an integer of more than 64 bits is not supported");
}

/* ---- numbers ------------------------------------------------------------------------------------------- */

static qc_status power(
    qc_chat_run *run, const qc_chat_node *at, int64_t base, int64_t exponent, qc_chat_value *result)
{
    int64_t value = 1;
    if (exponent < 0) {
        if (base == 0)
            return qc_chat_fail(run, at, "zero has no negative power");
        *result = qc_chat_float(pow((double)base, (double)exponent));
        return QC_OK;
    }
    if (base == 0 || base == 1 || base == -1) {
        *result = qc_chat_int(exponent == 0 ? 1 : base == -1 && exponent % 2 == 0 ? 1 : base);
        return QC_OK;
    }
    for (; exponent > 0; exponent--)
        if (__builtin_mul_overflow(value, base, &value))
            return too_large(run, at);
    *result = qc_chat_int(value);
    return QC_OK;
}

static qc_status integers(qc_chat_run *run, const qc_chat_node *at, qc_chat_operator op, int64_t a, int64_t b,
    qc_chat_value *result)
{
    int64_t value = 0;
    if ((op == QC_CHAT_DIV || op == QC_CHAT_FLOORDIV || op == QC_CHAT_MOD) && b == 0)
        return qc_chat_fail(run, at, "a division by zero");
    switch (op) {
    case QC_CHAT_ADD:
        if (__builtin_add_overflow(a, b, &value))
            return too_large(run, at);
        break;
    case QC_CHAT_SUB:
        if (__builtin_sub_overflow(a, b, &value))
            return too_large(run, at);
        break;
    case QC_CHAT_MUL:
        if (__builtin_mul_overflow(a, b, &value))
            return too_large(run, at);
        break;
    case QC_CHAT_DIV:
        *result = qc_chat_float((double)a / (double)b);
        return QC_OK;
    case QC_CHAT_FLOORDIV:
        if (b == -1) {
            if (__builtin_sub_overflow(0, a, &value))
                return too_large(run, at);
            break;
        }
        value = a / b - (a % b != 0 && (a % b < 0) != (b < 0));
        break;
    case QC_CHAT_MOD:
        value = b == -1 ? 0 : a % b;
        value += value != 0 && (value < 0) != (b < 0) ? b : 0;
        break;
    default:
        return power(run, at, a, b, result);
    }
    *result = qc_chat_int(value);
    return QC_OK;
}

static qc_status floats(
    qc_chat_run *run, const qc_chat_node *at, qc_chat_operator op, double a, double b, qc_chat_value *result)
{
    double value = 0;
    if ((op == QC_CHAT_DIV || op == QC_CHAT_FLOORDIV || op == QC_CHAT_MOD) && b == 0)
        return qc_chat_fail(run, at, "a division by zero");
    switch (op) {
    case QC_CHAT_ADD:
        value = a + b;
        break;
    case QC_CHAT_SUB:
        value = a - b;
        break;
    case QC_CHAT_MUL:
        value = a * b;
        break;
    case QC_CHAT_DIV:
        value = a / b;
        break;
    case QC_CHAT_FLOORDIV:
    case QC_CHAT_MOD: {
        double rest = fmod(a, b);
        double quotient = (a - rest) / b;
        if (rest != 0 && (rest < 0) != (b < 0)) {
            rest += b;
            quotient -= 1;
        }
        double whole = floor(quotient);
        value = op == QC_CHAT_MOD ? (rest != 0 ? rest : copysign(0, b))
                                  : (quotient - whole > 0.5 ? whole + 1 : whole);
        break;
    }
    default:
        value = pow(a, b);
        if ((!isfinite(value) && isfinite(a) && isfinite(b)) || (a < 0 && b != floor(b)))
            return qc_chat_fail(run, at, "a power is no finite number");
        break;
    }
    *result = qc_chat_float(value);
    return QC_OK;
}

/* ---- strings and lists --------------------------------------------------------------------------------- */

static qc_status add_strings(
    qc_chat_run *run, const qc_chat_node *at, qc_chat_value a, qc_chat_value b, qc_chat_value *result)
{
    qc_chat_text out = {0};
    bool safe = a.safe || b.safe;
    if (safe) {
        a = a.safe ? a : qc_chat_escape(run, a);
        b = b.safe ? b : qc_chat_escape(run, b);
    }
    qc_chat_text_add(run, &out, a.text, a.length);
    qc_chat_text_add(run, &out, b.text, b.length);
    *result = qc_chat_text_value(&out);
    result->safe = safe;
    return qc_chat_step(run, at, 1);
}

static qc_status add_lists(qc_chat_run *run, const qc_chat_node *at, const qc_chat_list *a,
    const qc_chat_list *b, qc_chat_value *result)
{
    if (qc_chat_step(run, at, a->count + b->count))
        return QC_ERROR;
    qc_chat_list *sum = qc_chat_list_new(run, a->flavor, a->count + b->count);
    for (size_t i = 0; i < a->count; i++)
        qc_chat_push(run, sum, a->items[i]);
    for (size_t i = 0; i < b->count; i++)
        qc_chat_push(run, sum, b->items[i]);
    *result = qc_chat_list_value(sum);
    return QC_OK;
}

static qc_status repeat(
    qc_chat_run *run, const qc_chat_node *at, qc_chat_value value, int64_t times, qc_chat_value *result)
{
    times = times < 0 ? 0 : times;
    if (value.kind == QC_CHAT_STRING) {
        qc_chat_text out = {0};
        if (value.length && times > QC_CHAT_TEXT_LIMIT_BYTES / (int64_t)value.length)
            return qc_chat_fail(run, at, "a text is longer than %d MiB", QC_CHAT_TEXT_LIMIT_BYTES >> 20);
        for (int64_t i = 0; value.length && i < times; i++)
            qc_chat_text_add(run, &out, value.text, value.length);
        *result = qc_chat_text_value(&out);
        result->safe = value.safe;
        return qc_chat_step(run, at, (size_t)(value.length ? times : 0));
    }
    const qc_chat_list *list = value.list;
    if (list->count && times > QC_CHAT_TEXT_LIMIT_BYTES / 64 / (int64_t)list->count)
        return qc_chat_fail(run, at, "a list is repeated too often");
    qc_chat_list *all = qc_chat_list_new(run, list->flavor, list->count ? list->count * (size_t)times : 0);
    for (int64_t i = 0; list->count && i < times; i++)
        for (size_t k = 0; k < list->count; k++)
            qc_chat_push(run, all, list->items[k]);
    *result = qc_chat_list_value(all);
    return qc_chat_step(run, at, all->count);
}

static bool is_list(qc_chat_value value)
{
    return value.kind == QC_CHAT_LIST && value.list->flavor <= QC_CHAT_TUPLE;
}

static qc_status format_one(qc_chat_run *run, const qc_chat_node *at, char letter, int precision,
    qc_chat_value value, qc_chat_text *out)
{
    char digits[400];
    double number;
    int64_t integer;
    if (letter == 's' && precision < 0)
        return qc_chat_add_str(run, at, value, out);
    if (letter == 'r' && precision < 0)
        return qc_chat_add_repr(run, at, value, out);
    if (qc_chat_defined(run, at, value))
        return QC_ERROR;
    if ((letter == 'd' || letter == 'i') && precision < 0 && value.kind == QC_CHAT_FLOAT &&
        isfinite(value.number) && fabs(value.number) < 9e18)
        value = qc_chat_int((int64_t)value.number);
    if ((letter == 'd' || letter == 'i') && precision < 0 && qc_chat_is_integer(value, &integer)) {
        qc_chat_text_add(
            run, out, digits, (size_t)snprintf(digits, sizeof digits, "%lld", (long long)integer));
        return QC_OK;
    }
    if (letter == 'f' && qc_chat_is_number(value, &number) && isfinite(number) && precision <= 50) {
        qc_chat_text_add(run, out, digits,
            (size_t)snprintf(digits, sizeof digits, "%.*f", precision < 0 ? 6 : precision, number));
        return QC_OK;
    }
    return qc_chat_fail(
        run, at, "the format %%%c of a %s is not supported", letter, qc_chat_type_name(value));
}

qc_status qc_chat_format_percent(qc_chat_run *run, const qc_chat_node *at, qc_chat_value format,
    const qc_chat_value *args, size_t count, qc_chat_value *result)
{
    qc_chat_text out = {0};
    size_t used = 0;
    if (format.safe)
        return qc_chat_fail(run, at, "formatting a text marked safe is not supported");
    for (size_t i = 0; i < format.length; i++) {
        const char *text = format.text;
        int precision = -1;
        if (text[i] != '%') {
            qc_chat_text_add(run, &out, text + i, 1);
            continue;
        }
        i++;
        if (i < format.length && text[i] == '.')
            for (i++, precision = 0;
                 i < format.length && text[i] >= '0' && text[i] <= '9' && precision < 1000; i++)
                precision = precision * 10 + (text[i] - '0');
        if (i < format.length && text[i] == '%' && precision < 0) {
            qc_chat_text_addz(run, &out, "%");
            continue;
        }
        if (i >= format.length || !strchr("srdif", text[i]) || !text[i])
            return qc_chat_fail(run, at, "a format other than %%s, %%r, %%d, %%i and %%f is not supported");
        if (used == count)
            return qc_chat_fail(run, at, "a format has more fields than there are values");
        if (format_one(run, at, text[i], precision, args[used++], &out))
            return QC_ERROR;
    }
    if (used < count)
        return qc_chat_fail(run, at, "a format has fewer fields than there are values");
    *result = qc_chat_text_value(&out);
    return qc_chat_step(run, at, format.length);
}

/* ---- binary operators ---------------------------------------------------------------------------------- */

static qc_status arithmetic(qc_chat_run *run, const qc_chat_node *at, qc_chat_operator op, qc_chat_value a,
    qc_chat_value b, qc_chat_value *result)
{
    int64_t i = 0, j = 0;
    double x, y;
    bool whole_a = qc_chat_is_integer(a, &i), whole_b = qc_chat_is_integer(b, &j);
    if (op == QC_CHAT_MOD && a.kind == QC_CHAT_STRING) {
        bool tuple = b.kind == QC_CHAT_LIST && b.list->flavor == QC_CHAT_TUPLE;
        if (b.kind == QC_CHAT_DICT)
            return qc_chat_fail(run, at, "a format with a dict is not supported");
        return qc_chat_format_percent(
            run, at, a, tuple ? b.list->items : &b, tuple ? b.list->count : 1, result);
    }
    if (qc_chat_defined(run, at, a) || qc_chat_defined(run, at, b))
        return QC_ERROR;
    if (whole_a && whole_b)
        return integers(run, at, op, i, j, result);
    if (qc_chat_is_number(a, &x) && qc_chat_is_number(b, &y))
        return floats(run, at, op, x, y, result);
    if (op == QC_CHAT_ADD && a.kind == QC_CHAT_STRING && b.kind == QC_CHAT_STRING)
        return add_strings(run, at, a, b, result);
    if (op == QC_CHAT_ADD && is_list(a) && is_list(b) && a.list->flavor == b.list->flavor)
        return add_lists(run, at, a.list, b.list, result);
    if (op == QC_CHAT_MUL && whole_b && (a.kind == QC_CHAT_STRING || is_list(a)))
        return repeat(run, at, a, j, result);
    if (op == QC_CHAT_MUL && whole_a && (b.kind == QC_CHAT_STRING || is_list(b)))
        return repeat(run, at, b, i, result);
    if (a.kind == QC_CHAT_BIG || b.kind == QC_CHAT_BIG)
        return too_large(run, at);
    return qc_chat_fail(run, at, "'%s' has no meaning between a %s and a %s", symbols[op],
        qc_chat_type_name(a), qc_chat_type_name(b));
}

static qc_status compare(qc_chat_run *run, const qc_chat_node *at, qc_chat_operator op, qc_chat_value a,
    qc_chat_value b, bool *holds)
{
    int order;
    switch (op) {
    case QC_CHAT_EQ:
        return qc_chat_equal(run, at, a, b, holds);
    case QC_CHAT_NE:
        if (qc_chat_equal(run, at, a, b, holds))
            return QC_ERROR;
        *holds = !*holds;
        return QC_OK;
    case QC_CHAT_IN:
        return qc_chat_contains(run, at, a, b, holds);
    case QC_CHAT_NOT_IN:
        if (qc_chat_contains(run, at, a, b, holds))
            return QC_ERROR;
        *holds = !*holds;
        return QC_OK;
    default:
        if (qc_chat_order(run, at, a, b, &order))
            return QC_ERROR;
        *holds = op == QC_CHAT_LT   ? order == -1
                 : op == QC_CHAT_LE ? order == -1 || order == 0
                 : op == QC_CHAT_GT ? order == 1
                                    : order == 1 || order == 0;
        return QC_OK;
    }
}

qc_status qc_chat_binary(qc_chat_run *run, const qc_chat_node *at, qc_chat_operator op, qc_chat_value left,
    qc_chat_value right, qc_chat_value *result)
{
    bool holds = false;
    if (op < QC_CHAT_EQ)
        return arithmetic(run, at, op, left, right, result);
    if (compare(run, at, op, left, right, &holds))
        return QC_ERROR;
    *result = qc_chat_bool(holds);
    return QC_OK;
}

/* ---- subscripts ---------------------------------------------------------------------------------------- */

/* subject[key] where that is an item; false where Python raises LookupError or TypeError. */
static bool find_item(qc_chat_run *run, qc_chat_value subject, qc_chat_value key, qc_chat_value *result)
{
    int64_t index;
    if (subject.kind == QC_CHAT_DICT && qc_chat_is_hashable(key)) {
        const qc_chat_value *found = qc_chat_dict_find(run, subject.dict, key);
        if (found)
            *result = *found;
        return found != NULL;
    }
    bool list = subject.kind == QC_CHAT_LIST && subject.list->flavor <= QC_CHAT_RANGE;
    if ((!list && subject.kind != QC_CHAT_STRING) || !qc_chat_is_integer(key, &index))
        return false;
    size_t count = list ? subject.list->count : qc_chat_characters(subject.text, subject.length);
    index += index < 0 ? (int64_t)count : 0;
    if (index < 0 || index >= (int64_t)count)
        return false;
    if (list) {
        *result = subject.list->items[index];
        return true;
    }
    size_t at = qc_chat_offset(subject.text, subject.length, (size_t)index), size;
    qc_text_get(subject.text + at, subject.length - at, &size);
    *result = qc_chat_string(subject.text + at, size);
    result->safe = subject.safe;
    return true;
}

static size_t lookup_cost(qc_chat_value subject)
{
    return subject.kind == QC_CHAT_DICT     ? subject.dict->count / 8
           : subject.kind == QC_CHAT_STRING ? subject.length / 16
                                            : 0;
}

/* The fields of a loop, and the items of a namespace. */
static bool find_field(qc_chat_run *run, qc_chat_value subject, qc_chat_value key, qc_chat_value *result)
{
    if (subject.kind == QC_CHAT_NAMESPACE) {
        const qc_chat_value *found = qc_chat_dict_find(run, subject.dict, key);
        if (found)
            *result = *found;
        return found != NULL;
    }
    if (subject.kind != QC_CHAT_LOOP)
        return false;
    const qc_chat_loop *l = subject.loop;
    const struct {
        const char *name;
        int64_t value;
    } numbers[] = {{"index", (int64_t)l->index + 1}, {"index0", (int64_t)l->index},
        {"length", (int64_t)l->count}, {"revindex", (int64_t)(l->count - l->index)},
        {"revindex0", (int64_t)(l->count - l->index) - 1}, {"depth", (int64_t)l->depth + 1},
        {"depth0", (int64_t)l->depth}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (qc_chat_is_text(key, numbers[i].name))
            return *result = qc_chat_int(numbers[i].value), true;
    if (qc_chat_is_text(key, "first"))
        *result = qc_chat_bool(l->index == 0);
    else if (qc_chat_is_text(key, "last"))
        *result = qc_chat_bool(l->index + 1 == l->count);
    else if (qc_chat_is_text(key, "previtem"))
        *result = l->index ? l->items[l->index - 1]
                           : (qc_chat_value){.text = "previtem", .of = "loop in its first turn"};
    else if (qc_chat_is_text(key, "nextitem"))
        *result = l->index + 1 < l->count
                      ? l->items[l->index + 1]
                      : (qc_chat_value){.text = "nextitem", .of = "loop in its last turn"};
    else
        return false;
    return true;
}

qc_status qc_chat_get_item(
    qc_chat_run *run, const qc_chat_node *at, qc_chat_value subject, qc_chat_value key, qc_chat_value *result)
{
    bool found = false;
    if (qc_chat_defined(run, at, subject) || qc_chat_step(run, at, 1 + lookup_cost(subject)))
        return QC_ERROR;
    if (find_item(run, subject, key, result))
        return QC_OK;
    if (key.kind == QC_CHAT_STRING) {
        if (find_field(run, subject, key, result))
            return QC_OK;
        if (qc_chat_attribute(run, at, subject, key.text, key.length, &found, result))
            return QC_ERROR;
        if (found)
            return QC_OK;
    }
    qc_chat_text name = {0};
    if (qc_chat_add_str(run, at, key, &name))
        return QC_ERROR;
    size_t length = name.length < 60 ? name.length : 60;
    *result = (qc_chat_value){.text = qc_arena_strndup(&run->arena, name.data ? name.data : "", length),
        .of = qc_chat_type_name(subject)};
    return QC_OK;
}

/* The bound of a slice, None or a number; kept near what fits the text. */
static qc_status slice_bound(
    qc_chat_run *run, const qc_chat_node *at, qc_chat_value bound, int64_t absent, int64_t *value)
{
    *value = absent;
    if (bound.kind == QC_CHAT_NONE || qc_chat_is_integer(bound, value))
        return QC_OK;
    return qc_chat_defined(run, at, bound)
               ? QC_ERROR
               : qc_chat_fail(run, at, "a slice takes whole numbers, not a %s", qc_chat_type_name(bound));
}

static int64_t clamp(int64_t index, int64_t count, int64_t step)
{
    if (index < 0)
        index = index < -count ? (step < 0 ? -1 : 0) : index + count;
    else if (index >= count)
        index = step < 0 ? count - 1 : count;
    return index;
}

qc_status qc_chat_get_slice(qc_chat_run *run, const qc_chat_node *at, qc_chat_value subject,
    const qc_chat_value bounds[3], qc_chat_value *result)
{
    int64_t start, stop, step;
    qc_chat_value *items;
    size_t size;
    bool text = subject.kind == QC_CHAT_STRING;
    if (qc_chat_defined(run, at, subject))
        return QC_ERROR;
    if (!text && !(subject.kind == QC_CHAT_LIST && subject.list->flavor <= QC_CHAT_RANGE))
        return qc_chat_fail(run, at, "a %s has no slices", qc_chat_type_name(subject));
    if (slice_bound(run, at, bounds[2], 1, &step))
        return QC_ERROR;
    if (step == 0)
        return qc_chat_fail(run, at, "the step of a slice is zero");
    if (slice_bound(run, at, bounds[0], step < 0 ? INT64_MAX : 0, &start) ||
        slice_bound(run, at, bounds[1], step < 0 ? INT64_MIN : INT64_MAX, &stop) ||
        qc_chat_items(run, at, subject, &items, &size))
        return QC_ERROR;
    int64_t count = (int64_t)size;
    start = clamp(start, count, step);
    stop = clamp(stop, count, step);
    qc_chat_list *part = qc_chat_list_new(run, text ? QC_CHAT_PLAIN : subject.list->flavor, 0);
    qc_chat_text out = {0};
    for (int64_t i = start; step > 0 ? i < stop : i > stop;) {
        if (text)
            qc_chat_text_add(run, &out, items[i].text, items[i].length);
        else
            qc_chat_push(run, part, items[i]);
        if (__builtin_add_overflow(i, step, &i))
            break;
    }
    *result = text ? qc_chat_text_value(&out) : qc_chat_list_value(part);
    result->safe = text && subject.safe;
    return QC_OK;
}
