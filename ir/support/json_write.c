/* SPDX-License-Identifier: MIT
 *
 * json_write.c - JSON as Python's json.dumps with ensure_ascii writes it (documentation of the json module,
 * CPython 3): with an indent, items on lines of their own and "," at the line's end; without, ", " and ": ".
 */
#include "ir/support/json.h"

#include <stdlib.h>

typedef struct writer {
    qc_str *out;
    qc_arena scratch;
    int indent;
    bool sort_keys, utf8;
} writer;

/* The code point at *at, which moves behind it. Parsed text is valid; a byte that is not UTF-8 in text put
 * together by a program becomes U+FFFD. */
static uint32_t next_code(const unsigned char **at, const unsigned char *end)
{
    int length = qc_utf8_length(*at, (size_t)(end - *at));
    uint32_t code = *(*at)++;
    if (length == 0)
        return 0xfffd;
    if (length > 1)
        code &= 0x7fu >> length;
    for (int i = 1; i < length; i++)
        code = code << 6 | (*(*at)++ & 0x3fu);
    return code;
}

/* One UTF-16 unit as \u and four hex digits. */
static void write_unit(qc_str *out, uint32_t unit)
{
    static const char digits[] = "0123456789abcdef";
    const char text[6] = {'\\', 'u', digits[unit >> 12 & 15], digits[unit >> 8 & 15], digits[unit >> 4 & 15],
        digits[unit & 15]};
    qc_str_add_bytes(out, text, sizeof text);
}

/* Does the byte stand for itself? */
static bool is_plain(const writer *w, unsigned char c)
{
    return c >= 0x20 && c != '"' && c != '\\' && (w->utf8 || c < 0x7f);
}

static void write_string(const writer *w, const char *text, size_t length)
{
    qc_str *out = w->out;
    const unsigned char *at = (const unsigned char *)text, *end = at + length, *run = at;
    qc_str_add_char(out, '"');
    while (at < end) {
        if (is_plain(w, *at)) {
            at++;
            continue;
        }
        qc_str_add_bytes(out, (const char *)run, (size_t)(at - run));
        uint32_t code = next_code(&at, end);
        run = at;
        static const char names[] = "\"\\bfnrt", values[] = "\"\\\b\f\n\r\t";
        const char *value = code && code < 0x80 ? strchr(values, (int)code) : NULL;
        if (value) {
            qc_str_add_char(out, '\\');
            qc_str_add_char(out, names[value - values]);
        } else if (code >= 0x10000) {
            write_unit(out, 0xd800 + ((code - 0x10000) >> 10));
            write_unit(out, 0xdc00 + (code & 0x3ff));
        } else {
            write_unit(out, code);
        }
    }
    qc_str_add_bytes(out, (const char *)run, (size_t)(at - run));
    qc_str_add_char(out, '"');
}

static void write_number(qc_str *out, const qc_json *value)
{
    if (strpbrk(value->text, ".eE"))
        qc_str_add_f64(out, value->number);
    else if (strcmp(value->text, "-0") == 0) /* an int in Python, where it has no sign */
        qc_str_add_char(out, '0');
    else
        qc_str_add_bytes(out, value->text, value->length);
}

static void write_break(writer *w, int depth)
{
    if (w->indent < 0)
        return;
    size_t spaces = (size_t)depth * (size_t)w->indent;
    qc_str_add_char(w->out, '\n');
    qc_str_reserve(w->out, spaces);
    memset(w->out->data + w->out->length, ' ', spaces);
    w->out->length += spaces;
    w->out->data[w->out->length] = 0;
}

/* UTF-8 sorts by bytes as its code points do. */
static int compare_keys(const void *a, const void *b)
{
    const qc_json *x = *(const qc_json *const *)a, *y = *(const qc_json *const *)b;
    size_t length = x->key_length < y->key_length ? x->key_length : y->key_length;
    int order = memcmp(x->key, y->key, length);
    return order ? order : (x->key_length > y->key_length) - (x->key_length < y->key_length);
}

static const qc_json **sorted_members(writer *w, const qc_json *object)
{
    const qc_json **members = QC_NEW_ARRAY(&w->scratch, const qc_json *, object->length);
    size_t count = 0;
    for (const qc_json *member = object->first; member; member = member->next)
        members[count++] = member;
    qsort(members, count, sizeof *members, compare_keys);
    return members;
}

static void write_value(writer *w, const qc_json *value, int depth);

static void write_container(writer *w, const qc_json *value, int depth)
{
    bool object = value->kind == QC_JSON_OBJECT;
    qc_str_add_char(w->out, object ? '{' : '[');
    if (value->length) {
        const qc_json **sorted = object && w->sort_keys ? sorted_members(w, value) : NULL;
        const qc_json *item = value->first;
        for (size_t i = 0; i < value->length; i++, item = item->next) {
            const qc_json *member = sorted ? sorted[i] : item;
            if (i)
                qc_str_add(w->out, w->indent < 0 ? ", " : ",");
            write_break(w, depth + 1);
            if (object) {
                write_string(w, member->key, member->key_length);
                qc_str_add(w->out, ": ");
            }
            write_value(w, member, depth + 1);
        }
        write_break(w, depth);
    }
    qc_str_add_char(w->out, object ? '}' : ']');
}

static void write_value(writer *w, const qc_json *value, int depth)
{
    switch (value->kind) {
    case QC_JSON_NULL:
        qc_str_add(w->out, "null");
        break;
    case QC_JSON_BOOL:
        qc_str_add(w->out, value->boolean ? "true" : "false");
        break;
    case QC_JSON_NUMBER:
        write_number(w->out, value);
        break;
    case QC_JSON_STRING:
        write_string(w, value->text, value->length);
        break;
    case QC_JSON_ARRAY:
    case QC_JSON_OBJECT:
        write_container(w, value, depth);
        break;
    }
}

static void write_all(qc_str *out, const qc_json *value, writer w)
{
    qc_arena_init(&w.scratch, out->oom);
    write_value(&w, value, 0);
    qc_arena_fini(&w.scratch);
}

void qc_json_write(qc_str *out, const qc_json *value, int indent, bool sort_keys)
{
    write_all(out, value, (writer){.out = out, .indent = indent, .sort_keys = sort_keys});
}

void qc_json_write_utf8(qc_str *out, const qc_json *value, int indent)
{
    write_all(out, value, (writer){.out = out, .indent = indent, .utf8 = true});
}
