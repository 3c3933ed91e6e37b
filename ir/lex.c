/* SPDX-License-Identifier: MIT
 *
 * lex.c - see lex.h.
 */
#include "ir/lex.h"

enum { LETTER = 1, DIGIT = 2, POINT = 4 };

#define LETTERS4(c) [c] = LETTER, [(c) + 1] = LETTER, [(c) + 2] = LETTER, [(c) + 3] = LETTER
static const unsigned char classes[256] = {LETTERS4('a'), LETTERS4('e'), LETTERS4('i'), LETTERS4('m'),
    LETTERS4('q'), LETTERS4('u'), ['y'] = LETTER, ['z'] = LETTER, LETTERS4('A'), LETTERS4('E'), LETTERS4('I'),
    LETTERS4('M'), LETTERS4('Q'), LETTERS4('U'), ['Y'] = LETTER, ['Z'] = LETTER, ['_'] = LETTER,
    ['0'] = DIGIT, ['1'] = DIGIT, ['2'] = DIGIT, ['3'] = DIGIT, ['4'] = DIGIT, ['5'] = DIGIT, ['6'] = DIGIT,
    ['7'] = DIGIT, ['8'] = DIGIT, ['9'] = DIGIT, ['.'] = POINT};

static inline bool is_class(char c, unsigned wanted)
{
    return classes[(unsigned char)c] & wanted;
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
    return qc_arena_printf(l->scratch, "%s:%u:%zu", l->name, line, (size_t)(at - start) + 1);
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

void qc_lex_skip_more(qc_lexer *l)
{
    for (; l->at < l->end; l->at++) {
        char c = *l->at;
        if (c == '\n') {
            l->line++;
            l->line_start = l->at + 1;
        } else if (c == '/' && l->at + 1 < l->end && l->at[1] == '/') {
            const char *newline = memchr(l->at, '\n', (size_t)(l->end - l->at));
            l->at = (newline ? newline : l->end) - 1;
        } else if (c != ' ' && c != '\t' && c != '\r')
            return;
    }
}

bool qc_lex_expect_char(qc_lexer *l, char c)
{
    if (qc_lex_take_char(l, c))
        return true;
    qc_lex_error(l, l->at, "expected '%c'", c);
    return false;
}

bool qc_lex_take(qc_lexer *l, const char *token)
{
    qc_lex_skip(l);
    size_t length = strlen(token);
    if (l->failed || (size_t)(l->end - l->at) < length || memcmp(l->at, token, length) != 0)
        return false;
    if (is_class(token[length - 1], LETTER) && l->at + length < l->end &&
        is_class(l->at[length], LETTER | DIGIT))
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
    const char *start = l->at, *at = start;
    if (l->failed || at == l->end || !is_class(*at, LETTER))
        return false;
    while (at < l->end && is_class(*at, LETTER | DIGIT))
        at++;
    l->at = at;
    *word = start;
    *length = (size_t)(at - start);
    return true;
}

bool qc_lex_is_word(qc_lexer *l, const char *word)
{
    qc_lex_skip(l);
    const char *before = l->at;
    bool is = qc_lex_take(l, word);
    l->at = before;
    return is;
}

bool qc_lex_value_name(qc_lexer *l, const char **name, size_t *length)
{
    if (!qc_lex_expect_char(l, '%'))
        return false;
    const char *start = l->at, *at = start;
    while (at < l->end && is_class(*at, LETTER | DIGIT | POINT))
        at++;
    l->at = at;
    *name = start;
    *length = (size_t)(at - start);
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

/* One escape after the backslash; gives the character, or -1. */
static int escape(qc_lexer *l)
{
    if (l->at == l->end)
        return -1;
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

/* A string with escapes (or an error) in it; l->at stands behind the opening quote. */
static bool decode_string(qc_lexer *l, const char *open, qc_str *out)
{
    while (!l->failed) {
        const char *run = l->at;
        while (l->at < l->end && *l->at != '"' && *l->at != '\\' && *l->at != '\n' && *l->at)
            l->at++;
        qc_str_add_bytes(out, run, (size_t)(l->at - run));
        if (l->at == l->end || *l->at == '\n') {
            qc_lex_error(l, open, "the string does not end on its line");
        } else if (!*l->at) {
            qc_lex_error(l, l->at, "a NUL byte in a string");
        } else if (*l->at++ == '"') {
            return true;
        } else {
            const char *backslash = l->at - 1;
            int c = escape(l);
            if (c <= 0)
                qc_lex_error(l, backslash,
                    "bad escape in a string (\\n \\t \\r \\\" \\\\ \\u00XX are known, NUL is not allowed)");
            else if (c < 0x80)
                qc_str_add_char(out, (char)c);
            else { /* U+0080 to U+00FF in UTF-8 */
                qc_str_add_char(out, (char)(0xc0 | c >> 6));
                qc_str_add_char(out, (char)(0x80 | (c & 0x3f)));
            }
        }
    }
    return false;
}

bool qc_lex_string_view(qc_lexer *l, const char **text, size_t *length)
{
    const char *open = qc_lex_here(l);
    if (!qc_lex_expect_char(l, '"'))
        return false;
    const char *start = l->at, *quote = memchr(start, '"', (size_t)(l->end - start));
    size_t plain = quote ? (size_t)(quote - start) : 0; /* most strings hold no escape */
    if (quote && !memchr(start, '\\', plain) && !memchr(start, '\n', plain) && !memchr(start, 0, plain)) {
        *text = start;
        *length = plain;
        l->at = quote + 1;
        return true;
    }
    qc_str out;
    qc_str_init(&out, l->scratch);
    bool good = decode_string(l, open, &out);
    if (good) {
        *text = qc_arena_strndup(l->scratch, out.data, out.length);
        *length = out.length;
    }
    qc_str_fini(&out);
    return good;
}

bool qc_lex_string(qc_lexer *l, const char **text)
{
    const char *view;
    size_t length;
    if (!qc_lex_string_view(l, &view, &length))
        return false;
    *text = qc_intern(l->ctx, view, length);
    return true;
}

bool qc_lex_integer(qc_lexer *l, bool *negative, uint64_t *magnitude)
{
    qc_lex_skip(l);
    const char *start = l->at;
    *negative = l->at < l->end && *l->at == '-';
    l->at += *negative;
    *magnitude = 0;
    const char *digits = l->at;
    bool overflow = false;
    for (; l->at < l->end && is_class(*l->at, DIGIT); l->at++)
        overflow = overflow || __builtin_mul_overflow(*magnitude, 10u, magnitude) ||
                   __builtin_add_overflow(*magnitude, (uint64_t)(*l->at - '0'), magnitude);
    if (l->at == digits)
        qc_lex_error(l, start, "expected an integer");
    else if (overflow)
        qc_lex_error(l, start, "the integer does not fit 64 bits");
    return !l->failed;
}

bool qc_lex_int(qc_lexer *l, int64_t *value)
{
    const char *start = qc_lex_here(l);
    bool negative;
    uint64_t magnitude;
    if (!qc_lex_integer(l, &negative, &magnitude))
        return false;
    if (magnitude > (uint64_t)INT64_MAX + negative) {
        qc_lex_error(l, start, "the integer does not fit 64 bits");
        return false;
    }
    *value = negative ? (int64_t)(0 - magnitude) : (int64_t)magnitude;
    return true;
}

static const char *skip_digits(const qc_lexer *l, const char *at)
{
    while (at < l->end && is_class(*at, DIGIT))
        at++;
    return at;
}

/* Where the number at `at` ends, `at` itself when there is none. */
static const char *number_end(const qc_lexer *l, const char *at)
{
    const char *start = at;
    at += at < l->end && *at == '-';
    if (l->end - at >= 3 && (!memcmp(at, "inf", 3) || (at == start && !memcmp(at, "nan", 3))))
        return at + 3;
    const char *digits = at;
    at = skip_digits(l, at);
    if (at == digits)
        return start;
    if (at < l->end && *at == '.') {
        const char *fraction = at + 1;
        at = skip_digits(l, fraction);
        if (at == fraction)
            return start;
    }
    if (at < l->end && (*at == 'e' || *at == 'E')) {
        const char *exponent = at + 1;
        exponent += exponent < l->end && (*exponent == '-' || *exponent == '+');
        at = skip_digits(l, exponent);
        if (at == exponent)
            return start;
    }
    return at;
}

bool qc_lex_number(qc_lexer *l, const char **number, size_t *length)
{
    const char *start = qc_lex_here(l);
    const char *end = l->failed ? start : number_end(l, start);
    if (end == start || (end < l->end && is_class(*end, LETTER | DIGIT | POINT))) {
        qc_lex_error(l, start, "expected a number");
        return false;
    }
    l->at = end;
    *number = start;
    *length = (size_t)(end - start);
    return true;
}
