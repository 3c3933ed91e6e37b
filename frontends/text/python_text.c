/* SPDX-License-Identifier: MIT
 *
 * python_text.c - see python_text.h. Classes and cases of characters are those of the tokenizer and of chat
 * templates.
 */
#include "frontends/text/python_text.h"

#include "frontends/text/chat_template/internal.h"
#include "frontends/text/tokenizer/internal.h"

/* The character at `at`, and its length in bytes; a byte that is no UTF-8 stands for itself. */
static uint32_t read_code(const char *text, size_t length, size_t at, size_t *size)
{
    const unsigned char *s = (const unsigned char *)text + at;
    int bytes = qc_utf8_length(s, length - at);
    uint32_t code = bytes > 1 ? s[0] & (0x7fu >> bytes) : s[0];
    for (int i = 1; i < bytes; i++)
        code = code << 6 | (s[i] & 0x3fu);
    *size = bytes ? (size_t)bytes : 1;
    return code;
}

size_t qc_python_rstrip(const char *text, size_t length)
{
    while (length > 0) {
        size_t start = length - 1, size;
        while (start > 0 && length - start < 4 && ((unsigned char)text[start] & 0xc0) == 0x80)
            start--;
        if (!qc_chat_is_space(read_code(text, length, start, &size)) || start + size != length)
            break;
        length = start;
    }
    return length;
}

size_t qc_python_length(const char *text, size_t length)
{
    size_t count = 0;
    for (size_t i = 0; i < length; i++)
        count += ((unsigned char)text[i] & 0xc0) != 0x80;
    return count;
}

static void add_code(uint32_t code, qc_str *out)
{
    char bytes[4];
    size_t count = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    static const unsigned char leads[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = count; i-- > 1; code >>= 6)
        bytes[i] = (char)(0x80 | (code & 0x3f));
    bytes[0] = (char)(leads[count] | code);
    qc_str_add_bytes(out, bytes, count);
}

void qc_python_lower(const char *text, size_t length, qc_str *out)
{
    for (size_t at = 0, size; at < length; at += size) {
        uint32_t lower[2], code = read_code(text, length, at, &size);
        size_t count = qc_text_lower(code, lower);
        for (size_t i = 0; i < count; i++)
            add_code(lower[i], out);
    }
}
