/* SPDX-License-Identifier: MIT
 *
 * string.c - Python's str on UTF-8: characters are code points, positions given to templates count
 * them. Results either point into the text they came from or live in the arena of the rendering.
 */
#include "frontends/text/chat_template/internal.h"
#include "frontends/text/tokenizer/internal.h"

#include <math.h>
#include <strings.h>

/* ---- growing text -------------------------------------------------------------------------------------- */

void qc_chat_text_add(qc_chat_run *run, qc_chat_text *out, const char *text, size_t length)
{
    if (length > QC_CHAT_TEXT_LIMIT_BYTES || out->length > QC_CHAT_TEXT_LIMIT_BYTES - length) {
        run->full = true;
        return;
    }
    if (length == 0)
        return;
    if (out->length + length > out->capacity)
        out->data =
            qc_arena_grow(&run->arena, out->data, out->length, &out->capacity, out->length + length, 1);
    memcpy(out->data + out->length, text, length);
    out->length += length;
}

void qc_chat_text_addz(qc_chat_run *run, qc_chat_text *out, const char *text)
{
    qc_chat_text_add(run, out, text, strlen(text));
}

qc_chat_value qc_chat_text_value(const qc_chat_text *text)
{
    return qc_chat_string(text->data ? text->data : "", text->length);
}

/* ---- characters ---------------------------------------------------------------------------------------- */

size_t qc_chat_characters(const char *text, size_t length)
{
    size_t count = 0;
    for (size_t i = 0; i < length; i++)
        count += ((unsigned char)text[i] & 0xc0) != 0x80;
    return count;
}

size_t qc_chat_offset(const char *text, size_t length, size_t index)
{
    size_t at = 0;
    for (size_t size; index > 0 && at < length; index--, at += size)
        qc_text_get(text + at, length - at, &size);
    return at;
}

static bool is_among(const qc_chat_value *chars, const char *text, size_t size, uint32_t code)
{
    if (!chars)
        return qc_chat_is_space(code);
    for (size_t at = 0, step; at < chars->length; at += step) {
        qc_text_get(chars->text + at, chars->length - at, &step);
        if (step == size && memcmp(chars->text + at, text, size) == 0)
            return true;
    }
    return false;
}

qc_chat_value qc_chat_strip(qc_chat_value text, const qc_chat_value *chars, bool left, bool right)
{
    const char *begin = text.text, *end = text.text + text.length;
    for (size_t size; left && begin < end; begin += size) {
        uint32_t code = qc_text_get(begin, (size_t)(end - begin), &size);
        if (!is_among(chars, begin, size, code))
            break;
    }
    while (right && end > begin) {
        size_t last = qc_text_previous(begin, (size_t)(end - begin)), size;
        uint32_t code = qc_text_get(begin + last, (size_t)(end - begin) - last, &size);
        if (!is_among(chars, begin + last, size, code))
            break;
        end = begin + last;
    }
    text.text = begin;
    text.length = (size_t)(end - begin);
    return text;
}

/* ---- finding and replacing ----------------------------------------------------------------------------- */

size_t qc_chat_find(qc_chat_value text, qc_chat_value what, size_t from)
{
    if (from > text.length || what.length > text.length - from)
        return SIZE_MAX;
    if (what.length == 0)
        return from;
    const char *found = memmem(text.text + from, text.length - from, what.text, what.length);
    return found ? (size_t)(found - text.text) : SIZE_MAX;
}

size_t qc_chat_find_last(qc_chat_value text, qc_chat_value what)
{
    if (what.length > text.length)
        return SIZE_MAX;
    for (size_t at = text.length - what.length;; at--) {
        if (memcmp(text.text + at, what.text, what.length) == 0)
            return at;
        if (at == 0)
            return SIZE_MAX;
    }
}

/* `with` before every character and at the end. */
static void replace_nothing(
    qc_chat_run *run, qc_chat_text *out, qc_chat_value text, qc_chat_value with, int64_t count)
{
    size_t at = 0, size;
    for (; count > 0 && at < text.length && !run->full; at += size, count--) {
        qc_text_get(text.text + at, text.length - at, &size);
        qc_chat_text_add(run, out, with.text, with.length);
        qc_chat_text_add(run, out, text.text + at, size);
    }
    qc_chat_text_add(run, out, text.text + at, text.length - at);
    if (count > 0)
        qc_chat_text_add(run, out, with.text, with.length);
}

qc_chat_value qc_chat_replace(
    qc_chat_run *run, qc_chat_value text, qc_chat_value old, qc_chat_value with, int64_t count)
{
    qc_chat_text out = {0};
    count = count < 0 ? INT64_MAX : count;
    if (old.length == 0) {
        replace_nothing(run, &out, text, with, count);
        return qc_chat_text_value(&out);
    }
    size_t at = 0;
    for (; count > 0 && !run->full; count--) {
        size_t next = qc_chat_find(text, old, at);
        if (next == SIZE_MAX)
            break;
        qc_chat_text_add(run, &out, text.text + at, next - at);
        qc_chat_text_add(run, &out, with.text, with.length);
        at = next + old.length;
    }
    if (at == 0)
        return text;
    qc_chat_text_add(run, &out, text.text + at, text.length - at);
    return qc_chat_text_value(&out);
}

qc_chat_value qc_chat_escape(qc_chat_run *run, qc_chat_value text)
{
    static const struct {
        char plain;
        const char *escaped;
    } entities[] = {{'&', "&amp;"}, {'<', "&lt;"}, {'>', "&gt;"}, {'\'', "&#39;"}, {'"', "&#34;"}};
    qc_chat_text out = {0};
    for (size_t i = 0; i < text.length; i++) {
        const char *escaped = NULL;
        for (size_t k = 0; k < sizeof entities / sizeof *entities; k++)
            if (entities[k].plain == text.text[i])
                escaped = entities[k].escaped;
        if (escaped)
            qc_chat_text_addz(run, &out, escaped);
        else
            qc_chat_text_add(run, &out, text.text + i, 1);
    }
    qc_chat_value value = qc_chat_text_value(&out);
    value.safe = true;
    return value;
}

/* ---- splitting ----------------------------------------------------------------------------------------- */

static void push_part(qc_chat_run *run, qc_chat_list *list, qc_chat_value text, size_t begin, size_t end)
{
    text.text += begin;
    text.length = end - begin;
    qc_chat_push(run, list, text);
}

static size_t end_of_word(qc_chat_value text, size_t at)
{
    for (size_t size; at < text.length; at += size)
        if (qc_chat_is_space(qc_text_get(text.text + at, text.length - at, &size)))
            break;
    return at;
}

static qc_chat_list *split_words(qc_chat_run *run, qc_chat_value text, int64_t most)
{
    qc_chat_list *list = qc_chat_list_new(run, QC_CHAT_PLAIN, 0);
    for (;;) {
        text = qc_chat_strip(text, NULL, true, false);
        if (text.length == 0)
            return list;
        size_t end = list->count == (size_t)most ? text.length : end_of_word(text, 0);
        push_part(run, list, text, 0, end);
        text.text += end;
        text.length -= end;
    }
}

qc_chat_list *qc_chat_split(
    qc_chat_run *run, qc_chat_value text, const qc_chat_value *separator, int64_t most)
{
    most = most < 0 ? INT64_MAX : most;
    if (!separator)
        return split_words(run, text, most);
    qc_chat_list *list = qc_chat_list_new(run, QC_CHAT_PLAIN, 0);
    size_t at = 0;
    for (; most > 0; most--) {
        size_t next = qc_chat_find(text, *separator, at);
        if (next == SIZE_MAX)
            break;
        push_part(run, list, text, at, next);
        at = next + separator->length;
    }
    push_part(run, list, text, at, text.length);
    return list;
}

static void reverse(qc_chat_list *list)
{
    for (size_t i = 0; i < list->count / 2; i++) {
        qc_chat_value item = list->items[i];
        list->items[i] = list->items[list->count - 1 - i];
        list->items[list->count - 1 - i] = item;
    }
}

/* The last word of a text that ends with one. */
static size_t begin_of_word(qc_chat_value text)
{
    size_t at = text.length;
    while (at > 0) {
        size_t last = qc_text_previous(text.text, at), size;
        if (qc_chat_is_space(qc_text_get(text.text + last, at - last, &size)))
            break;
        at = last;
    }
    return at;
}

qc_chat_list *qc_chat_rsplit(
    qc_chat_run *run, qc_chat_value text, const qc_chat_value *separator, int64_t most)
{
    if (most < 0)
        return qc_chat_split(run, text, separator, most);
    qc_chat_list *list = qc_chat_list_new(run, QC_CHAT_PLAIN, 0);
    for (; separator; most--) {
        size_t at = most > 0 ? qc_chat_find_last(text, *separator) : SIZE_MAX;
        push_part(run, list, text, at == SIZE_MAX ? 0 : at + separator->length, text.length);
        if (at == SIZE_MAX)
            break;
        text.length = at;
    }
    for (; !separator; most--) {
        text = qc_chat_strip(text, NULL, false, true);
        if (text.length == 0)
            break;
        size_t at = most > 0 ? begin_of_word(text) : 0;
        push_part(run, list, text, at, text.length);
        text.length = at;
    }
    reverse(list);
    return list;
}

/* The bytes of the line end at text[at], 0 where there is none. */
static size_t line_end(qc_chat_value text, size_t at)
{
    size_t size;
    uint32_t code = qc_text_get(text.text + at, text.length - at, &size);
    if (code == '\r' && at + 1 < text.length && text.text[at + 1] == '\n')
        return 2;
    bool is_end = (code >= 10 && code <= 13) || (code >= 0x1c && code <= 0x1e) || code == 0x85 ||
                  code == 0x2028 || code == 0x2029;
    return is_end ? size : 0;
}

qc_chat_list *qc_chat_split_lines(qc_chat_run *run, qc_chat_value text, bool keep_ends)
{
    qc_chat_list *list = qc_chat_list_new(run, QC_CHAT_PLAIN, 0);
    size_t begin = 0;
    for (size_t at = 0, size; at < text.length;) {
        size_t end = line_end(text, at);
        if (end) {
            push_part(run, list, text, begin, at + (keep_ends ? end : 0));
            begin = at += end;
        } else {
            qc_text_get(text.text + at, text.length - at, &size);
            at += size;
        }
    }
    if (begin < text.length)
        push_part(run, list, text, begin, text.length);
    return list;
}

/* ---- numbers ------------------------------------------------------------------------------------------- */

static int digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'z' ? c - 'a' + 10
           : c >= 'A' && c <= 'Z' ? c - 'A' + 10
                                  : 99;
}

bool qc_chat_parse_int(qc_chat_value text, int base, int64_t *value)
{
    text = qc_chat_strip(text, NULL, true, true);
    const char *at = text.text, *end = at + text.length;
    bool negative = at < end && *at == '-', was_digit = false, was_prefix = false;
    at += at < end && (*at == '-' || *at == '+');
    const char letter = (char)(end - at > 2 && at[0] == '0' ? at[1] | 32 : 0);
    if ((letter == 'x' && base == 16) || (letter == 'o' && base == 8) || (letter == 'b' && base == 2)) {
        at += 2;
        was_prefix = true;
    }
    *value = 0;
    if (at == end)
        return false;
    for (; at < end; at++) {
        if (*at == '_' && (was_digit || was_prefix)) {
            was_digit = was_prefix = false;
            continue;
        }
        int d = digit(*at);
        if (d >= base || __builtin_mul_overflow(*value, base, value) ||
            (negative ? __builtin_sub_overflow(*value, d, value) : __builtin_add_overflow(*value, d, value)))
            return false;
        was_digit = true;
        was_prefix = false;
    }
    return was_digit;
}

/* The digits from `at` on, with single underscores between; NULL when there are none. */
static const char *float_digits(const char *at, const char *end, char *plain, size_t *count)
{
    if (at == end || digit(*at) > 9)
        return NULL;
    for (; at < end; at++)
        if (digit(*at) <= 9)
            plain[(*count)++] = *at;
        else if (*at != '_' || at + 1 == end || digit(at[1]) > 9)
            break;
    return at;
}

bool qc_chat_parse_float(qc_chat_value text, double *value)
{
    static const char *const words[] = {"inf", "infinity", "nan"};
    char plain[512];
    size_t count = 0;
    text = qc_chat_strip(text, NULL, true, true);
    const char *at = text.text, *end = at + text.length;
    if (text.length == 0 || text.length + 4 > sizeof plain)
        return false;
    bool negative = *at == '-';
    at += *at == '-' || *at == '+';
    for (size_t i = 0; i < 3; i++)
        if ((size_t)(end - at) == strlen(words[i]) && strncasecmp(at, words[i], strlen(words[i])) == 0) {
            *value = i == 2 ? (double)NAN : negative ? -(double)INFINITY : (double)INFINITY;
            return true;
        }
    const char *whole = float_digits(at, end, plain, &count);
    at = whole ? whole : at;
    if (!whole)
        plain[count++] = '0';
    if (at < end && *at == '.') {
        plain[count++] = '.';
        const char *part = float_digits(at + 1, end, plain, &count);
        if (!part && !whole)
            return false;
        if (!part)
            plain[count++] = '0';
        at = part ? part : at + 1;
    } else if (!whole) {
        return false;
    }
    if (at < end && (*at == 'e' || *at == 'E')) {
        plain[count++] = 'e';
        at++;
        if (at < end && (*at == '-' || *at == '+'))
            plain[count++] = *at++;
        at = float_digits(at, end, plain, &count);
    }
    if (at != end)
        return false;
    *value = qc_decimal_to_f64(plain, count) * (negative ? -1 : 1);
    return true;
}
