/* SPDX-License-Identifier: MIT
 *
 * parse_attr.c - attribute values, constants' data, dimensions and types in IR text.
 */
#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "ir/dtype/codec.h"
#include "ir/lex.h"

enum { MAX_DEPTH = QC_MAX_ATTR_DEPTH, MAX_KEYS = 4096, MAX_SPELLING = 200 };

static double number_value(const char *text, size_t length)
{
    bool negative = *text == '-';
    switch (text[negative]) {
    case 'i':
        return negative ? -HUGE_VAL : HUGE_VAL;
    case 'n':
        return (double)NAN;
    default:
        return qc_decimal_to_f64(text, length);
    }
}

static bool is_integer(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (text[i] != '-' && (text[i] < '0' || text[i] > '9'))
            return false;
    return true;
}

static const qc_attr *parse_number(qc_lexer *l)
{
    const char *text;
    size_t length;
    qc_lexer before = *l;
    if (!qc_lex_number(l, &text, &length))
        return NULL;
    if (!is_integer(text, length))
        return qc_attr_float(l->ctx, number_value(text, length));
    int64_t value;
    l->at = before.at;
    return qc_lex_int(l, &value) ? qc_attr_int(l->ctx, value) : NULL;
}

static const qc_attr *attr_at(qc_lexer *l, int depth);

static const qc_attr *list_at(qc_lexer *l, int depth)
{
    QC_VEC(const qc_attr *) items = {0};
    qc_lex_expect_char(l, '[');
    while (!l->failed && !qc_lex_take_char(l, ']')) {
        if (items.count && !qc_lex_expect_char(l, ','))
            break;
        QC_PUSH(l->scratch, &items, attr_at(l, depth + 1));
    }
    return l->failed ? NULL : qc_attr_list(l->ctx, items.items, items.count);
}

static const char *key_at(qc_lexer *l)
{
    const char *word, *text = NULL;
    size_t length;
    if (qc_lex_peek(l, '"'))
        qc_lex_string(l, &text);
    else if (qc_lex_word(l, &word, &length))
        text = qc_intern(l->ctx, word, length);
    else
        qc_lex_error(l, l->at, "expected a key");
    return text;
}

static const qc_attr *map_at(qc_lexer *l, int depth)
{
    QC_VEC(const char *) keys = {0};
    QC_VEC(const qc_attr *) values = {0};
    qc_lex_expect_char(l, '{');
    while (!l->failed && !qc_lex_take_char(l, '}')) {
        if (keys.count && !qc_lex_expect_char(l, ','))
            break;
        const char *place = qc_lex_here(l), *key = key_at(l);
        if (!key)
            break;
        if (keys.count == MAX_KEYS)
            qc_lex_error(l, place, "a map of more than %d keys", MAX_KEYS);
        for (size_t i = 0; i < keys.count; i++)
            if (keys.items[i] == key) /* interned */
                qc_lex_error(l, place, "the key '%s' is given twice", key);
        QC_PUSH(l->scratch, &keys, key);
        const qc_attr *value = qc_lex_take_char(l, '=') ? attr_at(l, depth + 1) : qc_attr_bool(l->ctx, true);
        QC_PUSH(l->scratch, &values, value);
    }
    return l->failed ? NULL : qc_attr_map(l->ctx, keys.items, values.items, keys.count);
}

static const qc_attr *attr_at(qc_lexer *l, int depth)
{
    const char *word, *text;
    size_t length;
    qc_lex_skip(l);
    if (l->failed)
        return NULL;
    if (depth > MAX_DEPTH) {
        qc_lex_error(l, l->at, "attributes are nested deeper than %d", MAX_DEPTH);
        return NULL;
    }
    if (l->at == l->end) {
        qc_lex_error(l, l->at, "expected a value, the text ends");
        return NULL;
    }
    char c = *l->at;
    if (c == '"')
        return qc_lex_string(l, &text) ? qc_attr_string(l->ctx, text) : NULL;
    if (c == '[')
        return list_at(l, depth);
    if (c == '{')
        return map_at(l, depth);
    if (qc_lex_take_char(l, '@')) {
        if (l->at < l->end && *l->at != ' ' && qc_lex_word(l, &word, &length))
            return qc_attr_symbol(l->ctx, qc_intern(l->ctx, word, length));
        qc_lex_error(l, l->at, "expected a name after '@'");
        return NULL;
    }
    if ((c >= '0' && c <= '9') || c == '-')
        return parse_number(l);
    if (!qc_lex_word(l, &word, &length)) {
        qc_lex_error(l, l->at, "expected a value");
        return NULL;
    }
    if (length == 4 && !memcmp(word, "true", 4))
        return qc_attr_bool(l->ctx, true);
    if (length == 5 && !memcmp(word, "false", 5))
        return qc_attr_bool(l->ctx, false);
    if (length == 3 && !memcmp(word, "inf", 3))
        return qc_attr_float(l->ctx, HUGE_VAL);
    if (length == 3 && !memcmp(word, "nan", 3))
        return qc_attr_float(l->ctx, (double)NAN);
    return qc_attr_word(l->ctx, qc_intern(l->ctx, word, length));
}

const qc_attr *qc_parse_attr(qc_lexer *l)
{
    return attr_at(l, 0);
}

const qc_attr *qc_parse_map(qc_lexer *l)
{
    return map_at(l, 0);
}

/* ---- constants ----------------------------------------------------------------------------------------- */

bool qc_parse_data_tokens(qc_lexer *l, qc_data_list *list)
{
    if (!qc_lex_expect_char(l, '['))
        return false;
    while (!l->failed && !qc_lex_take_char(l, ']')) {
        qc_number_text number;
        if (list->count && !qc_lex_expect_char(l, ','))
            break;
        if (qc_lex_number(l, &number.at, &number.length))
            QC_PUSH(l->scratch, list, number);
    }
    return !l->failed;
}

static bool integer_fits(qc_dtype dtype, bool negative, uint64_t magnitude)
{
    int bits = dtype == QC_BOOL ? 1 : qc_dtype_bits(dtype);
    bool is_signed = qc_dtype_is_int(dtype) && qc_dtype_name(dtype)[0] == 'i';
    uint64_t positive = UINT64_MAX >> (64 - bits + is_signed);
    return magnitude <= (negative ? (is_signed ? positive + 1 : 0) : positive);
}

static bool encode_integer(
    qc_lexer *l, const qc_number_text *number, qc_dtype dtype, unsigned char *bytes, size_t index)
{
    qc_lexer at = *l;
    bool negative;
    uint64_t magnitude;
    if (!is_integer(number->at, number->length)) {
        qc_lex_error(l, number->at, "not an element of %s", qc_dtype_name(dtype));
        return false;
    }
    at.at = number->at;
    at.end = number->at + number->length;
    if (!qc_lex_integer(&at, &negative, &magnitude)) {
        l->failed = true;
        return false;
    }
    if (!integer_fits(dtype, negative, magnitude)) {
        qc_lex_error(l, number->at, "not an element of %s", qc_dtype_name(dtype));
        return false;
    }
    uint64_t value = negative ? 0 - magnitude : magnitude;
    int bits = qc_dtype_bits(dtype);
    if (bits < 8)
        qc_code_put(bytes, bits, index, (uint32_t)value);
    else
        memcpy(bytes + index * (size_t)bits / 8, &value, (size_t)bits / 8); /* little-endian hosts */
    return true;
}

/* The f32 nearest to the decimal. Its nearest double rounds to that, unless the double lies in the middle of
 * two floats and the decimal does not. */
static float decimal_f32(qc_lexer *l, const char *text, size_t length, double wide)
{
    uint64_t bits;
    memcpy(&bits, &wide, 8);
    if ((bits & 0x1fffffff) != 0x10000000 && fabs(wide) >= FLT_MIN)
        return (float)wide;
    char *copy = qc_arena_alloc(l->scratch, length + 32), *out = copy; /* without the point: no locale */
    int64_t scale = 0;
    size_t i = 0;
    for (bool point = false; i < length && text[i] != 'e' && text[i] != 'E'; i++) {
        scale -= point;
        if (text[i] == '.')
            point = true;
        else
            *out++ = text[i];
    }
    int64_t exponent = 0;
    bool down = i + 1 < length && text[i + 1] == '-';
    for (i++; i < length; i++)
        if (text[i] >= '0' && text[i] <= '9' && exponent < 1000000000)
            exponent = exponent * 10 + (text[i] - '0');
    qc_str digits;
    qc_str_init(&digits, l->scratch);
    qc_str_addf(&digits, "%se%lld", copy, (long long)(scale + (down ? -exponent : exponent)));
    float value = strtof(digits.data, NULL);
    qc_str_fini(&digits);
    return value;
}

/* Decimals round; what lies outside the type (too large, an infinity or NaN or sign it does not have) is
 * refused. */
static bool encode_float(
    qc_lexer *l, const qc_number_text *number, qc_dtype dtype, unsigned char *bytes, size_t index)
{
    double wide = number_value(number->at, number->length);
    unsigned char code[8] = {0};
    double back;
    if (dtype == QC_F64) {
        memcpy(bytes + 8 * index, &wide, 8);
        back = wide;
    } else {
        float narrow = isfinite(wide) ? decimal_f32(l, number->at, number->length, wide) : (float)wide, again;
        qc_encode_f32(dtype, &narrow, code, 1);
        if (dtype == QC_F4E2M1 && wide == 0 && signbit(wide))
            code[0] = 8; /* the encoder gives +0 */
        qc_decode_f32(dtype, code, &again, 1);
        back = (double)again;
        int bits = qc_dtype_bits(dtype);
        if (bits < 8)
            qc_code_put(bytes, bits, index, code[0]);
        else
            memcpy(bytes + index * (size_t)bits / 8, code, (size_t)bits / 8);
    }
    bool decimal = number->at[number->length - 1] >= '0' && number->at[number->length - 1] <= '9';
    bool saturates = dtype == QC_F8E4M3 || dtype == QC_F4E2M1;
    double most = qc_dtype_max(dtype);
    bool fits = isnan(wide) ? isnan(back)
                : !decimal  ? back == wide
                : wide == 0 ? back == 0
                            : (wide < 0 ? back <= 0 : back >= 0) && fabs(back) <= most &&
                                  !(saturates && fabs(wide) > most);
    if (!fits)
        qc_lex_error(l, number->at, "not an element of %s", qc_dtype_name(dtype));
    return fits;
}

const qc_attr *qc_parse_data_encode(qc_lexer *l, const qc_data_list *list, qc_dtype dtype)
{
    if (l->failed || dtype == QC_DTYPE_NONE)
        return NULL;
    unsigned char *bytes = QC_NEW_ARRAY(l->scratch, unsigned char, list->count * 8 + 8);
    bool is_float = qc_dtype_is_float(dtype);
    for (size_t i = 0; i < list->count; i++)
        if (!(is_float ? encode_float : encode_integer)(l, &list->items[i], dtype, bytes, i))
            return NULL;
    return qc_attr_data(l->ctx, dtype, bytes, list->count);
}

/* ---- dimensions and types ------------------------------------------------------------------------------ */

static const qc_dim *dim_sum(qc_lexer *l, int depth);

static const qc_dim *dim_factor(qc_lexer *l, int depth)
{
    const char *word, *start = qc_lex_here(l);
    size_t length;
    if (depth > MAX_DEPTH) {
        qc_lex_error(l, start, "a dimension is nested deeper than %d", MAX_DEPTH);
        return NULL;
    }
    if (qc_lex_take_char(l, '(')) {
        const qc_dim *dim = dim_sum(l, depth + 1);
        if (dim && qc_lex_take(l, "floordiv")) {
            const char *place = qc_lex_here(l);
            int64_t divisor = 0;
            if (!qc_lex_int(l, &divisor))
                return NULL;
            if (divisor <= 0)
                qc_lex_error(l, place, "floordiv needs a positive divisor");
            dim = qc_dim_floordiv(l->ctx, dim, divisor);
        }
        return qc_lex_expect_char(l, ')') ? dim : NULL;
    }
    if (qc_lex_word(l, &word, &length))
        return qc_dim_symbol(l->ctx, qc_intern(l->ctx, word, length));
    int64_t value;
    return qc_lex_int(l, &value) ? qc_dim_int(l->ctx, value) : NULL;
}

static const qc_dim *too_large(qc_lexer *l, const char *start)
{
    qc_lex_error(l, start, "a dimension overflows 64 bits or has too many terms");
    return NULL;
}

static const qc_dim *dim_product(qc_lexer *l, int depth)
{
    const char *start = qc_lex_here(l);
    const qc_dim *dim = dim_factor(l, depth);
    while (dim && qc_lex_take_char(l, '*')) {
        dim = qc_dim_mul(l->ctx, dim, dim_factor(l, depth));
        if (!dim)
            return too_large(l, start);
    }
    return dim;
}

/* A minus before digits belongs to the integer, so that the least one can be read. */
static bool take_sign(qc_lexer *l)
{
    const char *at = qc_lex_here(l);
    return l->end - at >= 2 && !(at[1] >= '0' && at[1] <= '9') && qc_lex_take_char(l, '-');
}

static const qc_dim *dim_sum(qc_lexer *l, int depth)
{
    const char *start = qc_lex_here(l);
    bool negative = take_sign(l);
    const qc_dim *dim = dim_product(l, depth);
    if (dim && negative) {
        dim = qc_dim_sub(l->ctx, qc_dim_int(l->ctx, 0), dim);
        if (!dim)
            return too_large(l, start);
    }
    while (dim) {
        bool minus = qc_lex_take_char(l, '-');
        if (!minus && !qc_lex_take_char(l, '+'))
            break;
        const qc_dim *term = dim_product(l, depth);
        dim = minus ? qc_dim_sub(l->ctx, dim, term) : qc_dim_add(l->ctx, dim, term);
        if (!dim)
            return too_large(l, start);
    }
    return dim;
}

const qc_dim *qc_parse_dim(qc_lexer *l)
{
    return dim_sum(l, 0);
}

static const qc_type *type_read(qc_lexer *l)
{
    const char *word;
    size_t length;
    const char *start = l->at;
    if (!qc_lex_word(l, &word, &length)) {
        qc_lex_error(l, start, "expected a type");
        return NULL;
    }
    qc_dtype dtype = qc_dtype_from_name(word, length);
    if (dtype == QC_DTYPE_NONE) {
        qc_lex_error(l, start, "'%.*s' is not an element type", (int)length, word);
        return NULL;
    }
    const qc_dim *dims[QC_MAX_RANK];
    int rank = 0;
    qc_lex_expect_char(l, '[');
    while (!l->failed && !qc_lex_take_char(l, ']')) {
        if (rank && !qc_lex_expect_char(l, ','))
            break;
        if (rank == QC_MAX_RANK) {
            qc_lex_error(l, start, "a tensor of more than %d dimensions", QC_MAX_RANK);
            break;
        }
        const char *place = qc_lex_here(l);
        const qc_dim *dim = qc_parse_dim(l);
        int64_t value;
        if (dim && qc_dim_as_int(dim, &value) && value < 0)
            qc_lex_error(l, place, "a negative dimension");
        dims[rank++] = dim;
    }
    if (l->failed)
        return NULL;
    int64_t count = 1, value;
    for (int i = 0; i < rank; i++)
        if (qc_dim_as_int(dims[i], &value) && __builtin_mul_overflow(count, value, &count)) {
            qc_lex_error(l, start, "the number of elements overflows 64 bits");
            return NULL;
        }
    return qc_type_tensor(l->ctx, dtype, rank, dims);
}

/* A module has few different types and writes them often: known spellings (of one line, so that lines are
 * counted) are looked up whole. */
const qc_type *qc_parse_type(qc_lexer *l)
{
    const char *start = qc_lex_here(l);
    size_t room = (size_t)(l->end - start), length = 0;
    while (length < room && length < MAX_SPELLING && start[length] != ']' && start[length] != '\n')
        length++;
    length = length < room && start[length] == ']' ? length + 1 : 0;
    const qc_type *known = length && !l->failed ? qc_map_get_n(&l->ctx->type_texts, start, length) : NULL;
    if (known) {
        l->at += length;
        return known;
    }
    const qc_type *type = type_read(l);
    if (type && length && l->at == start + length)
        qc_map_set_n(&l->ctx->type_texts, start, length, (void *)(uintptr_t)type);
    return type;
}
