/* SPDX-License-Identifier: MIT
 *
 * lexer.c - the tokens of a chat template, by the rules of Jinja's lexer (3.1) with trim_blocks and
 * lstrip_blocks set: line ends become \n and the last one is dropped; a newline behind a block or comment is
 * dropped, and so is white space between a line's begin and a block or comment; `-` at a tag takes all white
 * space on its side, `+` none. Inside a tag, its end counts only when all brackets are closed.
 */
#include "frontends/text/chat_template/internal.h"
#include "frontends/text/tokenizer/internal.h"

enum { BRACKET_DEPTH = 256 };

typedef struct lexer {
    qc_diag *diag;
    qc_chat_template *template;
    qc_arena *arena;
    const char *text;
    size_t length, at;
    uint32_t line;
    bool line_starting; /* the last thing read ended with a newline */
    qc_chat_tokens *tokens;
    char brackets[BRACKET_DEPTH];
    size_t bracket_count;
} lexer;

/* ---- places -------------------------------------------------------------------------------------------- */

static qc_status lex_error(lexer *l, const char *what)
{
    return qc_error(l->diag, qc_chat_place(l->template, l->diag, l->line), "%s", what);
}

static bool looking_at(const lexer *l, size_t at, const char *text)
{
    size_t size = strlen(text);
    return l->length - at >= size && memcmp(l->text + at, text, size) == 0;
}

static size_t space_at(const lexer *l, size_t at)
{
    size_t size;
    return at < l->length && qc_chat_is_space(qc_text_get(l->text + at, l->length - at, &size)) ? size : 0;
}

static size_t skip_space(const lexer *l, size_t at)
{
    for (size_t size; (size = space_at(l, at)) > 0;)
        at += size;
    return at;
}

/* Goes on to `end`, counting lines. */
static void move_to(lexer *l, size_t end)
{
    for (size_t i = l->at; i < end; i++)
        l->line += l->text[i] == '\n';
    l->line_starting = end > l->at && l->text[end - 1] == '\n';
    l->at = end;
}

static qc_chat_token *push(lexer *l, qc_chat_token_kind kind, const char *text, size_t length)
{
    QC_PUSH(
        l->arena, l->tokens, (qc_chat_token){.kind = kind, .line = l->line, .text = text, .length = length});
    return &l->tokens->items[l->tokens->count - 1];
}

/* ---- text between tags --------------------------------------------------------------------------------- */

typedef enum tag { TAG_NONE, TAG_BLOCK, TAG_PRINT, TAG_COMMENT } tag;

static size_t find_tag(const lexer *l, tag *kind)
{
    *kind = TAG_NONE;
    for (size_t at = l->at; at + 1 < l->length; at++)
        if (l->text[at] == '{') {
            char c = l->text[at + 1];
            *kind = c == '%' ? TAG_BLOCK : c == '{' ? TAG_PRINT : c == '#' ? TAG_COMMENT : TAG_NONE;
            if (*kind != TAG_NONE)
                return at;
        }
    return l->length;
}

static char sign_at(const lexer *l, size_t at)
{
    return at < l->length && (l->text[at] == '-' || l->text[at] == '+') ? l->text[at] : 0;
}

/* End of the text [l->at, end) before a tag with this sign. */
static size_t stripped_end(const lexer *l, size_t end, char sign, bool print)
{
    if (sign == '-') {
        qc_chat_value text = qc_chat_string(l->text + l->at, end - l->at);
        return l->at + qc_chat_strip(text, NULL, false, true).length;
    }
    if (sign == '+' || print)
        return end;
    size_t begin = end;
    while (begin > l->at && l->text[begin - 1] != '\n')
        begin--;
    if (begin == l->at && !l->line_starting)
        return end;
    return skip_space(l, begin) >= end ? begin : end;
}

static void push_data(lexer *l, size_t end)
{
    if (end > l->at)
        push(l, QC_CHAT_T_DATA, l->text + l->at, end - l->at);
}

/* Does `{% raw %}` begin at `at`? Then *end is behind it. */
static bool raw_begins(const lexer *l, size_t at, size_t *end)
{
    at = skip_space(l, at + 2 + (sign_at(l, at + 2) != 0));
    if (!looking_at(l, at, "raw"))
        return false;
    at = skip_space(l, at + 3);
    if (looking_at(l, at, "-%}"))
        *end = skip_space(l, at + 3);
    else if (looking_at(l, at, "%}"))
        *end = at + 2;
    else
        return false;
    return true;
}

/* The end of a block or comment at `at`: +X, -X with white space, X with a newline. 0: it does not end here. */
static size_t closing(const lexer *l, size_t at, const char *close)
{
    if (at < l->length && l->text[at] == '+' && looking_at(l, at + 1, close))
        return at + 3;
    if (at < l->length && l->text[at] == '-' && looking_at(l, at + 1, close))
        return skip_space(l, at + 3);
    if (!looking_at(l, at, close))
        return 0;
    return at + 2 + (at + 2 < l->length && l->text[at + 2] == '\n');
}

static qc_status lex_raw(lexer *l)
{
    for (size_t at = l->at; at + 1 < l->length; at++) {
        if (!looking_at(l, at, "{%"))
            continue;
        char sign = sign_at(l, at + 2);
        size_t name = skip_space(l, at + 2 + (sign != 0));
        size_t end = looking_at(l, name, "endraw") ? closing(l, skip_space(l, name + 6), "%}") : 0;
        if (end == 0)
            continue;
        push_data(l, stripped_end(l, at, sign, false));
        move_to(l, end);
        return QC_OK;
    }
    return lex_error(l, "the raw block does not end");
}

static qc_status lex_comment(lexer *l)
{
    for (size_t at = l->at; at < l->length; at++) {
        char c = l->text[at];
        size_t end = c == '#' || c == '-' || c == '+' ? closing(l, at, "#}") : 0;
        if (end) {
            move_to(l, end);
            return QC_OK;
        }
    }
    return lex_error(l, "the comment does not end");
}

/* ---- inside a tag -------------------------------------------------------------------------------------- */

static int digit_value(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : 99;
}

/* Digits of `base` at `at`, single _ between them; returns their end, `at` when there is none. */
static size_t digits_end(const lexer *l, size_t at, int base)
{
    size_t end = at;
    for (;;) {
        size_t next = end > at && end < l->length && l->text[end] == '_' ? end + 1 : end;
        if (next >= l->length || digit_value(l->text[next]) >= base)
            return end;
        end = next + 1;
    }
}

/* The end of a float at `at`, or `at`. */
static size_t float_end(const lexer *l, size_t at)
{
    size_t whole = digits_end(l, at, 10), end = whole;
    if (whole == at || (at > 0 && l->text[at - 1] == '.'))
        return at;
    if (end < l->length && l->text[end] == '.' && digits_end(l, end + 1, 10) > end + 1)
        end = digits_end(l, end + 1, 10);
    if (end < l->length && (l->text[end] == 'e' || l->text[end] == 'E')) {
        size_t exponent = end + 1 + (sign_at(l, end + 1) != 0);
        if (digits_end(l, exponent, 10) > exponent)
            return digits_end(l, exponent, 10);
    }
    return end > whole ? end : at;
}

static qc_status lex_integer(lexer *l)
{
    static const struct {
        char letter;
        int base;
    } prefixes[] = {{'b', 2}, {'o', 8}, {'x', 16}};
    size_t digits = l->at, end = l->at;
    int base = 10;
    for (size_t i = 0; i < 3; i++)
        if (l->text[l->at] == '0' && l->at + 1 < l->length &&
            (l->text[l->at + 1] | 32) == prefixes[i].letter) {
            size_t first = l->at + 2 + (l->at + 2 < l->length && l->text[l->at + 2] == '_');
            size_t last = digits_end(l, first, prefixes[i].base);
            if (last > first)
                base = prefixes[i].base, digits = first, end = last;
        }
    if (base == 10)
        end = digits_end(l, l->at, 10);
    if (base == 10 && l->text[l->at] == '0')
        for (size_t i = l->at; i < end; i++)
            if (l->text[i] != '0' && l->text[i] != '_')
                return lex_error(l, "an integer begins with a zero");
    int64_t value = 0;
    for (size_t i = digits; i < end; i++)
        if (l->text[i] != '_' && (__builtin_mul_overflow(value, base, &value) ||
                                     __builtin_add_overflow(value, digit_value(l->text[i]), &value)))
            return lex_error(l, "an integer of more than 64 bits is not supported");
    push(l, QC_CHAT_T_INTEGER, l->text + l->at, end - l->at)->integer = value;
    move_to(l, end);
    return QC_OK;
}

static void lex_float(lexer *l, size_t end)
{
    char *plain = qc_arena_alloc(l->arena, end - l->at + 1);
    size_t count = 0;
    for (size_t i = l->at; i < end; i++)
        if (l->text[i] != '_')
            plain[count++] = l->text[i];
    push(l, QC_CHAT_T_FLOAT, plain, count)->number = qc_decimal_to_f64(plain, count);
    move_to(l, end);
}

/* Up to `most` digits of `base`; *at moves behind them. */
static uint32_t read_code(const lexer *l, size_t *at, size_t end, int base, int most, int *count)
{
    uint32_t code = 0;
    for (*count = 0; *count < most && *at < end && digit_value(l->text[*at]) < base; ++*count)
        code = code * (uint32_t)base + (uint32_t)digit_value(l->text[(*at)++]);
    return code;
}

/* One escape behind the backslash at *at - 1, as Python's unicode-escape reads it. */
static qc_status lex_escape(lexer *l, size_t *at, size_t end, qc_str *out)
{
    static const char plain[] = "n\nt\tr\ra\ab\bf\fv\v\\\\''\"\"";
    char put[4], c = l->text[*at];
    for (size_t i = 0; i + 1 < sizeof plain; i += 2)
        if (plain[i] == c) {
            qc_str_add_char(out, plain[i + 1]);
            ++*at;
            return QC_OK;
        }
    uint32_t code = 0;
    int count = 1, wanted = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (wanted) {
        ++*at;
        code = read_code(l, at, end, 16, wanted, &count);
    } else if (c >= '0' && c <= '7') {
        code = read_code(l, at, end, 8, 3, &count);
    } else if (c == '\n') {
        ++*at;
        return QC_OK;
    } else if (c == 'N') {
        return lex_error(l, "the escape \\N in a string is not supported");
    } else {
        qc_str_add_char(out, '\\'); /* an unknown escape stays; the character is read next */
        if ((unsigned char)c >= 0x80) {
            size_t size;
            code = qc_text_get(l->text + *at, end - *at, &size);
            qc_str_addf(out, code < 256 ? "x%02x" : code < 65536 ? "u%04x" : "U%08x", code);
            *at += size;
        }
        return QC_OK;
    }
    if ((wanted && count != wanted) || code > 0x10ffff)
        return lex_error(l, "a string has an escape without a character");
    if (code >= 0xd800 && code < 0xe000)
        return lex_error(
            l, "a string has an escape of half a character (a surrogate), which is not supported");
    qc_str_add_bytes(out, put, qc_text_put(put, code));
    return QC_OK;
}

static qc_status lex_string(lexer *l)
{
    char quote = l->text[l->at];
    size_t end = l->at + 1;
    while (end < l->length && l->text[end] != quote)
        end += l->text[end] == '\\' ? 2 : 1;
    if (end >= l->length)
        return lex_error(l, "a string does not end");
    qc_str out;
    qc_str_init(&out, l->arena);
    qc_status status = QC_OK;
    for (size_t at = l->at + 1; status == QC_OK && at < end;)
        if (l->text[at] == '\\') {
            at++;
            status = lex_escape(l, &at, end, &out);
        } else {
            qc_str_add_char(&out, l->text[at++]);
        }
    if (status == QC_OK) {
        push(l, QC_CHAT_T_STRING, qc_arena_strndup(l->arena, out.data, out.length), out.length);
        move_to(l, end + 1);
    }
    qc_str_fini(&out);
    return status;
}

static qc_status check_bracket(lexer *l, char c)
{
    static const char open[] = "([{", close[] = ")]}";
    const char *o = strchr(open, c), *e = strchr(close, c);
    if (c && o) {
        if (l->bracket_count == BRACKET_DEPTH)
            return lex_error(l, "brackets are nested too deep");
        l->brackets[l->bracket_count++] = close[o - open];
    } else if (c && e) {
        if (l->bracket_count == 0 || l->brackets[--l->bracket_count] != c)
            return qc_error(
                l->diag, qc_chat_place(l->template, l->diag, l->line), "a '%c' closes nothing", c);
    }
    return QC_OK;
}

static qc_status lex_operator(lexer *l)
{
    static const char *const operators[] = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~",
        "[", "]", "(", ")", "{", "}", ">", "<", "=", ".", ":", "|", ",", ";"};
    for (size_t i = 0; i < sizeof operators / sizeof *operators; i++)
        if (looking_at(l, l->at, operators[i])) {
            size_t size = strlen(operators[i]);
            if (check_bracket(l, operators[i][0]))
                return QC_ERROR;
            push(l, QC_CHAT_T_OPERATOR, operators[i], size);
            move_to(l, l->at + size);
            return QC_OK;
        }
    size_t size;
    qc_text_get(l->text + l->at, l->length - l->at, &size);
    return qc_error(l->diag, qc_chat_place(l->template, l->diag, l->line),
        "the character '%.*s' has no meaning here", (int)size, l->text + l->at);
}

static bool is_name_char(char c, bool first)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (!first && c >= '0' && c <= '9');
}

static qc_status lex_tag(lexer *l, bool print)
{
    l->bracket_count = 0;
    push(l, print ? QC_CHAT_T_PRINT_BEGIN : QC_CHAT_T_BLOCK_BEGIN, "", 0);
    for (;;) {
        size_t end = 0;
        if (l->at >= l->length)
            return lex_error(l, print ? "the print statement does not end" : "the block does not end");
        if (l->bracket_count == 0 && !print)
            end = closing(l, l->at, "%}");
        else if (l->bracket_count == 0)
            end = looking_at(l, l->at, "-}}")  ? skip_space(l, l->at + 3)
                  : looking_at(l, l->at, "}}") ? l->at + 2
                                               : 0;
        if (end) {
            push(l, print ? QC_CHAT_T_PRINT_END : QC_CHAT_T_BLOCK_END, "", 0);
            move_to(l, end);
            return QC_OK;
        }
        char c = l->text[l->at];
        if (space_at(l, l->at)) {
            move_to(l, skip_space(l, l->at));
        } else if (float_end(l, l->at) > l->at) {
            lex_float(l, float_end(l, l->at));
        } else if (c >= '0' && c <= '9') {
            if (lex_integer(l))
                return QC_ERROR;
        } else if (is_name_char(c, true)) {
            for (end = l->at; end < l->length && is_name_char(l->text[end], false);)
                end++;
            push(l, QC_CHAT_T_NAME, qc_chat_intern(l->template, l->text + l->at, end - l->at), end - l->at);
            move_to(l, end);
        } else if (c == '\'' || c == '"') {
            if (lex_string(l))
                return QC_ERROR;
        } else if (lex_operator(l)) {
            return QC_ERROR;
        }
    }
}

/* ---- the whole ----------------------------------------------------------------------------------------- */

/* Line ends become \n, one at the end of the text is dropped. */
static void normalize_newlines(lexer *l, const char *text, size_t length)
{
    char *plain = qc_arena_alloc(l->arena, length + 1);
    size_t count = 0;
    for (size_t i = 0; i < length; i++) {
        if (text[i] == '\r' && i + 1 < length && text[i + 1] == '\n')
            continue;
        plain[count++] = text[i] == '\r' ? '\n' : text[i];
    }
    l->text = plain;
    l->length = count - (count > 0 && plain[count - 1] == '\n');
}

qc_status qc_chat_lex(
    qc_diag *diag, qc_chat_template *template, const char *text, size_t length, qc_chat_tokens *tokens)
{
    lexer l = {.diag = diag,
        .template = template,
        .arena = template->arena,
        .line = 1,
        .line_starting = true,
        .tokens = tokens};
    normalize_newlines(&l, text, length);
    while (l.at < l.length) {
        tag kind;
        size_t begin = find_tag(&l, &kind), end;
        if (kind == TAG_NONE) {
            push_data(&l, l.length);
            break;
        }
        char sign = sign_at(&l, begin + 2);
        push_data(&l, stripped_end(&l, begin, sign, kind == TAG_PRINT));
        move_to(&l, begin);
        bool raw = kind == TAG_BLOCK && raw_begins(&l, begin, &end);
        move_to(&l, raw ? end : begin + 2 + (sign != 0));
        if (raw ? lex_raw(&l) : kind == TAG_COMMENT ? lex_comment(&l) : lex_tag(&l, kind == TAG_PRINT))
            return QC_ERROR;
    }
    push(&l, QC_CHAT_T_END, "", 0);
    return QC_OK;
}
