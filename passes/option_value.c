/* SPDX-License-Identifier: MIT
 *
 * option_value.c - the grammar of pipelines, by recursive descent.
 *
 *   pipeline = [ instance { "," instance } ]
 *   instance = name [ "{" [ entry { "," entry } ] "}" ]
 *   entry    = key [ "=" value ]                       a key alone means true
 *   value    = bare | "quoted" | "[" values "]" | "{" entries "}"
 *
 * A bare value is any run of bytes but blanks, control characters and , = { } [ ] ", so that most patterns
 * need no quotes. What a bare value means depends on the option: 8 is a number for an int option and a text
 * for a string option. Where nothing is declared (inside maps) it is a number if it reads as one, a bool for
 * true and false, else a word; printing keeps these apart, so that text and value determine each other.
 */
#include "passes/option_value.h"

#include <errno.h>
#include <stdlib.h>
#include <strings.h>

void qc_option_parser_init(
    qc_option_parser *p, qc_ctx *ctx, qc_arena *arena, const char *where, const char *pass, const char *text)
{
    *p = (qc_option_parser){ctx, arena, where, pass, text, text};
}

const void *qc_option_parser_error(qc_option_parser *p, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *what = qc_arena_vprintf(p->arena, format, args);
    va_end(args);
    if (p->pass)
        qc_ctx_error(p->ctx, p->where, "%s: %s", p->pass, what);
    else
        qc_ctx_error(p->ctx, p->where, "%s", what);
    return NULL;
}

static void skip_blanks(qc_option_parser *p)
{
    while (*p->at == ' ' || *p->at == '\t' || *p->at == '\n' || *p->at == '\r')
        p->at++;
}

bool qc_option_parser_take(qc_option_parser *p, char c)
{
    skip_blanks(p);
    if (*p->at != c)
        return false;
    p->at++;
    return true;
}

char qc_option_parser_peek(qc_option_parser *p)
{
    skip_blanks(p);
    return *p->at;
}

static bool is_bare(char c)
{
    return (unsigned char)c > ' ' && c != 127 && !strchr(",={}[]\"", c);
}

const char *qc_option_parser_bare(qc_option_parser *p)
{
    skip_blanks(p);
    const char *start = p->at;
    while (is_bare(*p->at))
        p->at++;
    return p->at == start ? NULL : qc_arena_strndup(p->arena, start, (size_t)(p->at - start));
}

static const char *unexpected(qc_option_parser *p)
{
    char c = qc_option_parser_peek(p);
    return c ? qc_arena_printf(p->arena, "'%c' at character %zu", c, (size_t)(p->at - p->start) + 1)
             : "the end";
}

/* \u00XX of a control character, as qc_str_add_quoted writes it; 0 when it is none. */
static char control_escape(const char *at)
{
    unsigned code = 0;
    for (int i = 0; i < 4; i++) {
        char c = at[i];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0)
            return 0;
        code = code * 16 + (unsigned)digit;
    }
    return code < 128 ? (char)code : 0;
}

/* Behind the opening quote. */
static const char *parse_quoted(qc_option_parser *p)
{
    const char *end = p->at;
    while (*end && *end != '"')
        end += *end == '\\' && end[1] ? 2 : 1;
    if (!*end)
        return qc_option_parser_error(
            p, "the quote at character %zu is not closed", (size_t)(p->at - p->start));
    char *text = qc_arena_alloc(p->arena, (size_t)(end - p->at) + 1);
    size_t length = 0;
    for (; p->at < end; p->at++) {
        char c = *p->at;
        if (c == '\\') {
            c = *++p->at;
            if (c == 'u' && end - p->at > 4 && control_escape(p->at + 1)) {
                c = control_escape(p->at + 1);
                p->at += 4;
            } else if (strchr("\"\\ntr", c)) {
                c = c == 'n' ? '\n' : c == 't' ? '\t' : c == 'r' ? '\r' : c;
            } else {
                text[length++] = '\\'; /* of a pattern */
            }
        }
        text[length++] = c;
    }
    p->at = end + 1;
    return text;
}

const char *qc_option_parser_scalar(qc_option_parser *p, bool *quoted)
{
    *quoted = qc_option_parser_take(p, '"');
    const char *text = *quoted ? parse_quoted(p) : qc_option_parser_bare(p);
    if (!text && !*quoted)
        qc_option_parser_error(p, "a value is missing: found %s", unexpected(p));
    return text;
}

bool qc_option_number(const char *text, bool *is_int, int64_t *integer, double *number)
{
    const char *at = text + (*text == '-' || *text == '+');
    size_t digits = strspn(at, "0123456789");
    bool fraction = false;
    at += digits;
    if (*at == '.') {
        size_t more = strspn(at + 1, "0123456789");
        digits += more;
        at += 1 + more;
        fraction = true;
    }
    if (digits == 0)
        return false;
    if (*at == 'e' || *at == 'E') {
        at += 1 + (at[1] == '-' || at[1] == '+');
        size_t exponent = strspn(at, "0123456789");
        if (exponent == 0)
            return false;
        at += exponent;
        fraction = true;
    }
    if (*at)
        return false;
    errno = 0;
    *integer = fraction ? 0 : strtoll(text, NULL, 10);
    *is_int = !fraction && errno == 0;
    *number = qc_decimal_to_f64(text, strlen(text));
    return true;
}

const qc_attr *qc_option_parser_map(qc_option_parser *p, int depth)
{
    QC_VEC(const char *) keys = {0};
    QC_VEC(const qc_attr *) values = {0};
    while (!qc_option_parser_take(p, '}')) {
        if (keys.count > 0 && !qc_option_parser_take(p, ','))
            return qc_option_parser_error(p, "expected ',' or '}', found %s", unexpected(p));
        const char *key = qc_option_parser_bare(p);
        if (!key)
            return qc_option_parser_error(p, "expected a key, found %s", unexpected(p));
        for (size_t i = 0; i < keys.count; i++)
            if (strcmp(keys.items[i], key) == 0)
                return qc_option_parser_error(p, "'%s' is given twice", key);
        const qc_attr *value =
            qc_option_parser_take(p, '=') ? qc_option_parser_any(p, depth) : qc_attr_bool(p->ctx, true);
        if (!value)
            return NULL;
        QC_PUSH(p->arena, &keys, key);
        QC_PUSH(p->arena, &values, value);
    }
    return qc_attr_map(p->ctx, keys.items, values.items, keys.count);
}

const qc_attr *qc_option_parser_any(qc_option_parser *p, int depth)
{
    if (depth >= QC_MAX_OPTION_DEPTH)
        return qc_option_parser_error(p, "lists and maps are nested more than %d deep", QC_MAX_OPTION_DEPTH);
    if (qc_option_parser_take(p, '{'))
        return qc_option_parser_map(p, depth + 1);
    if (qc_option_parser_take(p, '[')) {
        QC_VEC(const qc_attr *) items = {0};
        while (!qc_option_parser_take(p, ']')) {
            if (items.count > 0 && !qc_option_parser_take(p, ','))
                return qc_option_parser_error(p, "expected ',' or ']', found %s", unexpected(p));
            const qc_attr *item = qc_option_parser_any(p, depth + 1);
            if (!item)
                return NULL;
            QC_PUSH(p->arena, &items, item);
        }
        return qc_attr_list(p->ctx, items.items, items.count);
    }
    bool quoted, is_int;
    int64_t integer;
    double number;
    const char *text = qc_option_parser_scalar(p, &quoted);
    if (!text)
        return NULL;
    if (quoted)
        return qc_attr_string(p->ctx, text);
    if (strcmp(text, "true") == 0 || strcmp(text, "false") == 0)
        return qc_attr_bool(p->ctx, text[0] == 't');
    if (qc_option_number(text, &is_int, &integer, &number))
        return is_int ? qc_attr_int(p->ctx, integer) : qc_attr_float(p->ctx, number);
    return qc_attr_word(p->ctx, text);
}

/* ---- values of declared options ------------------------------------------------------------------------ */

static const char *const kind_names[] = {
    [QC_OPTION_BOOL] = "bool",
    [QC_OPTION_INT] = "int",
    [QC_OPTION_FLOAT] = "float",
    [QC_OPTION_WORD] = "word",
    [QC_OPTION_STRING] = "string",
    [QC_OPTION_LIST] = "list",
    [QC_OPTION_MAP] = "map",
};

const char *qc_option_kind_name(qc_option_kind kind)
{
    return kind_names[kind];
}

/* Upper and lower case are one: recipes write FP8_DYNAMIC as they like. No two words differ in case alone. */
static const qc_attr *parse_word(qc_option_parser *p, const qc_pass_option *option, const char *text)
{
    QC_VEC(const char *) names = {0};
    for (const char *at = option->values; *at;) {
        size_t length = strcspn(at, "|");
        const char *name = qc_arena_strndup(p->arena, at, length);
        if (strcasecmp(name, text) == 0)
            return qc_attr_word(p->ctx, name);
        QC_PUSH(p->arena, &names, name);
        at += length + (at[length] == '|');
    }
    const char *nearest = qc_nearest_name(text, names.items, names.count);
    return qc_option_parser_error(p, "option '%s' cannot be '%s'%s%s%s; it is one of %s", option->name, text,
        nearest ? ", nearest is '" : "", nearest ? nearest : "", nearest ? "'" : "", option->values);
}

static const qc_attr *parse_scalar_option(qc_option_parser *p, const qc_pass_option *option)
{
    bool quoted, is_int = false;
    int64_t integer;
    double number;
    const char *text = qc_option_parser_scalar(p, &quoted);
    if (!text)
        return NULL;
    bool numeric = !quoted && qc_option_number(text, &is_int, &integer, &number);
    switch (option->kind) {
    case QC_OPTION_BOOL:
        if (!quoted && (strcmp(text, "true") == 0 || strcmp(text, "false") == 0))
            return qc_attr_bool(p->ctx, text[0] == 't');
        return qc_option_parser_error(p, "option '%s' is true or false, not '%s'", option->name, text);
    case QC_OPTION_INT:
        if (numeric && is_int)
            return qc_attr_int(p->ctx, integer);
        return qc_option_parser_error(p, "option '%s' is an integer, not '%s'", option->name, text);
    case QC_OPTION_FLOAT:
        if (numeric)
            return qc_attr_float(p->ctx, number);
        return qc_option_parser_error(p, "option '%s' is a number, not '%s'", option->name, text);
    case QC_OPTION_WORD:
        return parse_word(p, option, text);
    default:
        return qc_attr_string(p->ctx, text);
    }
}

static const qc_attr *parse_list_option(qc_option_parser *p, const qc_pass_option *option)
{
    QC_VEC(const qc_attr *) items = {0};
    bool quoted, brackets = qc_option_parser_take(p, '[');
    while (!brackets || !qc_option_parser_take(p, ']')) {
        if (items.count > 0 && !qc_option_parser_take(p, ','))
            return qc_option_parser_error(
                p, "option '%s': expected ',' or ']', found %s", option->name, unexpected(p));
        const char *text = qc_option_parser_scalar(p, &quoted);
        if (!text)
            return NULL;
        QC_PUSH(p->arena, &items, qc_attr_string(p->ctx, text));
        if (!brackets)
            break;
    }
    return qc_attr_list(p->ctx, items.items, items.count);
}

const qc_attr *qc_option_parser_value(qc_option_parser *p, const qc_pass_option *option)
{
    char next = qc_option_parser_peek(p);
    if (option->kind == QC_OPTION_MAP) {
        if (!qc_option_parser_take(p, '{'))
            return qc_option_parser_error(p, "option '%s' is a map {key=value, ...}", option->name);
        return qc_option_parser_map(p, 1);
    }
    if (next == '{' || (next == '[' && option->kind != QC_OPTION_LIST))
        return qc_option_parser_error(p, "option '%s' is a %s, not a %s", option->name,
            qc_option_kind_name(option->kind), next == '{' ? "map" : "list");
    return option->kind == QC_OPTION_LIST ? parse_list_option(p, option) : parse_scalar_option(p, option);
}

const qc_attr *qc_option_value_parse(qc_ctx *ctx, qc_arena *arena, const char *where, const qc_pass *pass,
    const qc_pass_option *option, const char *text)
{
    if (option->kind == QC_OPTION_STRING)
        return qc_attr_string(ctx, text); /* the empty default needs no quotes in C */
    qc_option_parser p;
    qc_option_parser_init(&p, ctx, arena, where, pass->name, text);
    const qc_attr *value = qc_option_parser_value(&p, option);
    if (value && qc_option_parser_peek(&p))
        return qc_option_parser_error(&p, "option '%s': more than a value: '%s'", option->name, text);
    return value;
}

/* ---- printing ------------------------------------------------------------------------------------------ */

static bool prints_bare(const char *text)
{
    for (size_t i = 0; text[i]; i++)
        if (!is_bare(text[i]))
            return false;
    return text[0] != '\0';
}

void qc_option_value_print(const qc_attr *value, qc_str *out)
{
    switch (qc_attr_get_kind(value)) {
    case QC_ATTR_BOOL:
        qc_str_add(out, qc_attr_as_bool(value) ? "true" : "false");
        break;
    case QC_ATTR_INT:
        qc_str_add_int(out, qc_attr_as_int(value));
        break;
    case QC_ATTR_FLOAT:
        qc_str_add_f64(out, qc_attr_as_float(value));
        break;
    case QC_ATTR_STRING:
        qc_str_add_quoted(out, qc_attr_as_text(value), strlen(qc_attr_as_text(value)));
        break;
    case QC_ATTR_LIST:
        qc_str_add_char(out, '[');
        for (size_t i = 0; i < qc_attr_count(value); i++) {
            qc_str_add(out, i ? ", " : "");
            qc_option_value_print(qc_attr_item(value, i), out);
        }
        qc_str_add_char(out, ']');
        break;
    case QC_ATTR_MAP:
        qc_str_add_char(out, '{');
        for (size_t i = 0; i < qc_attr_count(value); i++) {
            qc_str_addf(out, "%s%s=", i ? ", " : "", qc_attr_key(value, i));
            qc_option_value_print(qc_attr_item(value, i), out);
        }
        qc_str_add_char(out, '}');
        break;
    default:
        qc_str_add(out, qc_attr_as_text(value));
        break;
    }
}

void qc_option_print(const qc_pass_option *option, const qc_attr *value, qc_str *out)
{
    if (option->kind == QC_OPTION_STRING && prints_bare(qc_attr_as_text(value)))
        qc_str_add(out, qc_attr_as_text(value));
    else
        qc_option_value_print(value, out);
}
