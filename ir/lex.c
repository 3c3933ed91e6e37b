/* SPDX-License-Identifier: MIT
 *
 * lex.c - see lex.h.
 */
#include "ir/lex.h"

static bool is_word_start(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool is_word_char(char c)
{
    return is_word_start(c) || (c >= '0' && c <= '9');
}

static char *put_number(char *out, uint32_t value)
{
    char digits[10];
    int n = 0;
    do
        digits[n++] = (char)('0' + value % 10);
    while (value /= 10);
    *out++ = ':';
    while (n)
        *out++ = digits[--n];
    return out;
}

const char *qc_lex_place(qc_lexer *l, const char *at)
{
    uint32_t line = l->line;
    const char *start = l->line_start;
    if (at < start) { /* an earlier line: count again */
        line = 1;
        start = l->text;
        for (const char *c = l->text; c < at; c++)
            if (*c == '\n') {
                line++;
                start = c + 1;
            }
    }
    size_t length = strlen(l->name);
    if (!l->place) {
        l->place = QC_NEW_ARRAY(&l->ctx->scratch, char, length + 32);
        memcpy(l->place, l->name, length);
    }
    char *end = put_number(put_number(l->place + length, line), (uint32_t)(at - start + 1));
    *end = 0;
    return l->place;
}

qc_status qc_lex_error(qc_lexer *l, const char *at, const char *format, ...)
{
    if (l->failed)
        return QC_ERROR;
    l->failed = true;
    va_list args;
    va_start(args, format);
    qc_diag_report(&l->ctx->diag, QC_SEVERITY_ERROR, qc_lex_place(l, at), format, args);
    va_end(args);
    return QC_ERROR;
}

void qc_lex_skip(qc_lexer *l)
{
    for (; l->at < l->end; l->at++) {
        char c = *l->at;
        if (c == '\n') {
            l->line++;
            l->line_start = l->at + 1;
        } else if (c == '/' && l->at + 1 < l->end && l->at[1] == '/') {
            while (l->at + 1 < l->end && l->at[1] != '\n')
                l->at++;
        } else if (c != ' ' && c != '\t' && c != '\r')
            return;
    }
}

bool qc_lex_peek(qc_lexer *l, char c)
{
    qc_lex_skip(l);
    return !l->failed && l->at < l->end && *l->at == c;
}

bool qc_lex_take(qc_lexer *l, const char *token)
{
    qc_lex_skip(l);
    size_t length = strlen(token);
    if (l->failed || (size_t)(l->end - l->at) < length || memcmp(l->at, token, length) != 0)
        return false;
    if (is_word_char(token[length - 1]) && l->at + length < l->end && is_word_char(l->at[length]))
        return false;
    l->at += length;
    return true;
}

bool qc_lex_expect(qc_lexer *l, const char *token)
{
    if (qc_lex_take(l, token))
        return true;
    qc_lex_error(l, l->at, "expected '%s'", token);
    return false;
}

bool qc_lex_word(qc_lexer *l, const char **word, size_t *length)
{
    qc_lex_skip(l);
    if (l->failed || l->at == l->end || !is_word_start(*l->at))
        return false;
    const char *start = l->at;
    while (l->at < l->end && is_word_char(*l->at))
        l->at++;
    *word = start;
    *length = (size_t)(l->at - start);
    return true;
}

bool qc_lex_is_word(qc_lexer *l, const char *word)
{
    const char *before = l->at, *line_start = l->line_start;
    uint32_t line = l->line;
    bool is = qc_lex_take(l, word);
    l->at = before;
    l->line = line;
    l->line_start = line_start;
    return is;
}

bool qc_lex_value_name(qc_lexer *l, const char **name, size_t *length)
{
    if (!qc_lex_expect(l, "%"))
        return false;
    const char *start = l->at;
    while (l->at < l->end && (is_word_char(*l->at) || *l->at == '.'))
        l->at++;
    *name = start;
    *length = (size_t)(l->at - start);
    if (!*length)
        qc_lex_error(l, start, "expected a value name after '%%'");
    return *length > 0;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* One escape after the backslash; gives the byte, or -1. */
static int escape(qc_lexer *l)
{
    switch (*l->at++) {
    case 'n':
        return '\n';
    case 't':
        return '\t';
    case 'r':
        return '\r';
    case '"':
        return '"';
    case '\\':
        return '\\';
    case 'u':
        if (l->end - l->at >= 4 && l->at[0] == '0' && l->at[1] == '0' && hex_digit(l->at[2]) >= 0 &&
            hex_digit(l->at[3]) >= 0) {
            l->at += 4;
            return hex_digit(l->at[-2]) * 16 + hex_digit(l->at[-1]);
        }
        return -1;
    default:
        return -1;
    }
}

bool qc_lex_string(qc_lexer *l, const char **text)
{
    const char *open = l->at;
    if (!qc_lex_expect(l, "\""))
        return false;
    const char *plain = l->at; /* most strings hold no escape */
    while (plain < l->end && *plain != '"' && *plain != '\\' && *plain != '\n' && *plain)
        plain++;
    if (plain < l->end && *plain == '"') {
        *text = qc_intern(l->ctx, l->at, (size_t)(plain - l->at));
        l->at = plain + 1;
        return true;
    }
    qc_str out;
    qc_str_init(&out, &l->ctx->arena);
    while (!l->failed) {
        const char *run = l->at;
        while (l->at < l->end && *l->at != '"' && *l->at != '\\' && *l->at != '\n')
            l->at++;
        qc_str_add_bytes(&out, run, (size_t)(l->at - run));
        if (l->at == l->end || *l->at == '\n') {
            qc_lex_error(l, open, "the string does not end on its line");
        } else if (*l->at++ == '"') {
            break;
        } else {
            int c = l->at < l->end ? escape(l) : -1;
            if (c <= 0)
                qc_lex_error(l, l->at,
                    "bad escape in a string (\\n \\t \\r \\\" \\\\ \\u00XX are known, NUL is not allowed)");
            else
                qc_str_add_char(&out, (char)c);
        }
    }
    if (!l->failed && memchr(out.data, 0, out.length))
        qc_lex_error(l, open, "a NUL byte in a string");
    if (!l->failed)
        *text = qc_intern(l->ctx, out.data, out.length);
    qc_str_fini(&out);
    return !l->failed;
}

bool qc_lex_int(qc_lexer *l, int64_t *value)
{
    qc_lex_skip(l);
    const char *start = l->at;
    bool negative = l->at < l->end && *l->at == '-';
    l->at += negative;
    uint64_t magnitude = 0;
    const char *digits = l->at;
    bool overflow = false;
    for (; l->at < l->end && *l->at >= '0' && *l->at <= '9'; l->at++)
        overflow = overflow || __builtin_mul_overflow(magnitude, 10u, &magnitude) ||
                   __builtin_add_overflow(magnitude, (uint64_t)(*l->at - '0'), &magnitude);
    if (l->at == digits) {
        qc_lex_error(l, start, "expected an integer");
        return false;
    }
    if (overflow || magnitude > (uint64_t)INT64_MAX + negative) {
        qc_lex_error(l, start, "the integer does not fit 64 bits");
        return false;
    }
    *value = negative ? (int64_t)(0 - magnitude) : (int64_t)magnitude;
    return true;
}
