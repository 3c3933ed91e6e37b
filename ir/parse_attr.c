/* SPDX-License-Identifier: MIT
 *
 * parse_attr.c - attribute values, constants' data, dimensions and types in IR text.
 */
#include <math.h>
#include <stdlib.h>

#include "ir/dtype/codec.h"
#include "ir/lex.h"

enum { MAX_DEPTH = 64 };

/* The end of a number token: digits, sign, point, exponent. */
static const char *number_end(const qc_lexer *l)
{
    const char *c = l->at;
    while (c < l->end &&
           ((*c >= '0' && *c <= '9') || *c == '-' || *c == '+' || *c == '.' || *c == 'e' || *c == 'E'))
        c++;
    return c;
}

static const qc_attr *parse_number(qc_lexer *l)
{
    const char *start = l->at, *end = number_end(l);
    bool integer = true;
    for (const char *c = start; c < end; c++)
        integer = integer && *c != '.' && *c != 'e' && *c != 'E';
    if (integer) {
        int64_t value;
        return qc_lex_int(l, &value) ? qc_attr_int(l->ctx, value) : NULL;
    }
    char buffer[64], *stop;
    size_t length = (size_t)(end - start);
    if (length >= sizeof buffer) {
        qc_lex_error(l, start, "a number of %zu characters", length);
        return NULL;
    }
    memcpy(buffer, start, length);
    buffer[length] = 0;
    double value = strtod(buffer, &stop);
    if (*stop) {
        qc_lex_error(l, start, "'%s' is not a number", buffer);
        return NULL;
    }
    l->at = end;
    return qc_attr_float(l->ctx, value);
}

static const qc_attr *attr_at(qc_lexer *l, int depth);

static const qc_attr *list_at(qc_lexer *l, int depth)
{
    QC_VEC(const qc_attr *) items = {0};
    qc_lex_expect(l, "[");
    while (!l->failed && !qc_lex_take(l, "]")) {
        if (items.count && !qc_lex_expect(l, ","))
            break;
        QC_PUSH(&l->ctx->scratch, &items, attr_at(l, depth + 1));
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
    qc_lex_expect(l, "{");
    while (!l->failed && !qc_lex_take(l, "}")) {
        if (keys.count && !qc_lex_expect(l, ","))
            break;
        qc_lex_skip(l);
        const char *place = l->at, *key = key_at(l);
        if (!key)
            break;
        for (size_t i = 0; i < keys.count; i++)
            if (!strcmp(keys.items[i], key))
                qc_lex_error(l, place, "the key '%s' is given twice", key);
        QC_PUSH(&l->ctx->scratch, &keys, key);
        const qc_attr *value = qc_lex_take(l, "=") ? attr_at(l, depth + 1) : qc_attr_bool(l->ctx, true);
        QC_PUSH(&l->ctx->scratch, &values, value);
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
    if (qc_lex_take(l, "@")) {
        if (qc_lex_word(l, &word, &length))
            return qc_attr_symbol(l->ctx, qc_intern(l->ctx, word, length));
        qc_lex_error(l, l->at, "expected a symbol name after '@'");
        return NULL;
    }
    if (qc_lex_take(l, "-inf"))
        return qc_attr_float(l->ctx, -HUGE_VAL);
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

/* ---- constants
 * ----------------------------------------------------------------------------------------------- */

bool qc_parse_data_tokens(qc_lexer *l, qc_data_list *list)
{
    if (!qc_lex_expect(l, "["))
        return false;
    while (!l->failed && !qc_lex_take(l, "]")) {
        if (list->count && !qc_lex_expect(l, ","))
            break;
        qc_lex_skip(l);
        const char *start = l->at, *end = number_end(l);
        if (end < l->end && (*end == 'i' || *end == 'n')) /* inf, -inf, nan */
            end += (size_t)(l->end - end) >= 3 ? 3 : 0;
        if (end == start)
            qc_lex_error(l, start, "expected a number");
        QC_PUSH(&l->ctx->scratch, list, start);
        l->at = end;
    }
    return !l->failed;
}

static bool integer_range(qc_dtype dtype, int64_t value)
{
    int bits = qc_dtype_bits(dtype);
    bool is_unsigned =
        dtype == QC_U8 || dtype == QC_U16 || dtype == QC_U32 || dtype == QC_U64 || dtype == QC_BOOL;
    if (dtype == QC_BOOL)
        return value == 0 || value == 1;
    if (bits == 64)
        return true;
    return is_unsigned ? value >= 0 && value < (int64_t)1 << bits
                       : value >= -((int64_t)1 << (bits - 1)) && value < (int64_t)1 << (bits - 1);
}

static bool encode_integer(qc_lexer *l, const char *token, qc_dtype dtype, char *bytes, size_t index)
{
    qc_lexer at = *l;
    at.at = token;
    int64_t value;
    if (!qc_lex_int(&at, &value)) {
        l->failed = true;
        return false;
    }
    if (number_end(&at) != at.at || !integer_range(dtype, value)) {
        qc_lex_error(l, token, "not an element of %s", qc_dtype_name(dtype));
        return false;
    }
    int bits = qc_dtype_bits(dtype);
    if (bits == 4)
        bytes[index / 2] = (char)(bytes[index / 2] | (value & 15) << (index % 2 * 4));
    else
        memcpy(bytes + index * (size_t)bits / 8, &value, (size_t)bits / 8); /* little-endian hosts */
    return true;
}

/* Reads each float in its own type where the library can (f32, f64), so that the shortest decimal reads back.
 */
static bool encode_float(
    qc_lexer *l, const char *token, qc_dtype dtype, char *bytes, size_t index, float *floats)
{
    char *end;
    double wide = strtod(token, &end);
    float narrow = strtof(token, &end);
    if (end == token) {
        qc_lex_error(l, token, "not a number");
        return false;
    }
    if (dtype == QC_F64)
        memcpy(bytes + 8 * index, &wide, 8);
    floats[index] = narrow;
    return true;
}

const qc_attr *qc_parse_data_encode(qc_lexer *l, const qc_data_list *list, qc_dtype dtype)
{
    if (l->failed || dtype == QC_DTYPE_NONE)
        return NULL;
    char *bytes = QC_NEW_ARRAY(&l->ctx->scratch, char, list->count * 8 + 8);
    float *floats = QC_NEW_ARRAY(&l->ctx->scratch, float, list->count + 2);
    bool is_float = qc_dtype_is_float(dtype);
    for (size_t i = 0; i < list->count; i++)
        if (is_float ? !encode_float(l, list->items[i], dtype, bytes, i, floats)
                     : !encode_integer(l, list->items[i], dtype, bytes, i))
            return NULL;
    if (is_float && dtype != QC_F64)
        qc_encode_f32(dtype, floats, bytes, list->count);
    return qc_attr_data(l->ctx, dtype, bytes, list->count);
}

/* ---- dimensions and types
 * ------------------------------------------------------------------------------------ */

static const qc_dim *dim_sum(qc_lexer *l, int depth);

static const qc_dim *dim_factor(qc_lexer *l, int depth)
{
    const char *word;
    size_t length;
    qc_lex_skip(l);
    const char *start = l->at;
    if (depth > MAX_DEPTH) {
        qc_lex_error(l, start, "a dimension is nested deeper than %d", MAX_DEPTH);
        return NULL;
    }
    if (qc_lex_take(l, "(")) {
        const qc_dim *dim = dim_sum(l, depth + 1);
        if (dim && qc_lex_take(l, "floordiv")) {
            int64_t divisor = 0;
            if (!qc_lex_int(l, &divisor))
                return NULL;
            dim = qc_dim_floordiv(l->ctx, dim, divisor);
            if (!dim)
                qc_lex_error(l, start, "floordiv needs a positive divisor");
        }
        return qc_lex_expect(l, ")") ? dim : NULL;
    }
    if (qc_lex_word(l, &word, &length))
        return qc_dim_symbol(l->ctx, qc_intern(l->ctx, word, length));
    int64_t value;
    return qc_lex_int(l, &value) ? qc_dim_int(l->ctx, value) : NULL;
}

static const qc_dim *dim_product(qc_lexer *l, int depth)
{
    qc_lex_skip(l);
    const char *start = l->at;
    const qc_dim *dim = dim_factor(l, depth);
    while (dim && qc_lex_take(l, "*")) {
        const qc_dim *factor = dim_factor(l, depth);
        dim = factor ? qc_dim_mul(l->ctx, dim, factor) : NULL;
        if (!dim)
            qc_lex_error(l, start, "the dimension overflows 64 bits");
    }
    return dim;
}

static const qc_dim *dim_sum(qc_lexer *l, int depth)
{
    qc_lex_skip(l);
    const char *start = l->at;
    const qc_dim *dim = dim_product(l, depth);
    while (dim) {
        bool minus = qc_lex_peek(l, '-');
        if (!minus && !qc_lex_peek(l, '+'))
            break;
        l->at++;
        const qc_dim *term = dim_product(l, depth);
        if (!term)
            return NULL;
        dim = minus ? qc_dim_sub(l->ctx, dim, term) : qc_dim_add(l->ctx, dim, term);
        if (!dim)
            qc_lex_error(l, start, "the dimension overflows 64 bits");
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
    qc_lex_expect(l, "[");
    while (!l->failed && !qc_lex_take(l, "]")) {
        if (rank && !qc_lex_expect(l, ","))
            break;
        if (rank == QC_MAX_RANK) {
            qc_lex_error(l, start, "a tensor of more than %d dimensions", QC_MAX_RANK);
            break;
        }
        qc_lex_skip(l);
        const char *place = l->at;
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

/* A module has few different types and writes them often: known spellings are looked up whole. */
const qc_type *qc_parse_type(qc_lexer *l)
{
    qc_lex_skip(l);
    const char *start = l->at, *end = memchr(start, ']', (size_t)(l->end - start));
    size_t length = end && end - start < 200 ? (size_t)(end - start) + 1 : 0;
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
