/* SPDX-License-Identifier: MIT
 *
 * case.c - the case and the kind of characters as Python's str knows them: full case mapping
 * (Unicode's SpecialCasing: characters whose upper case is several, the final sigma), isspace, isprintable.
 * Single characters are utf8proc's.
 */
#include "frontends/text/chat_template/internal.h"
#include "frontends/text/tokenizer/internal.h"

#include <utf8proc.h>

/* ---- kinds --------------------------------------------------------------------------------------------- */

bool qc_chat_is_space(uint32_t code)
{
    return (code >= 9 && code <= 13) || (code >= 0x1c && code <= 0x20) || code == 0x85 || code == 0xa0 ||
           code == 0x1680 || (code >= 0x2000 && code <= 0x200a) || code == 0x2028 || code == 0x2029 ||
           code == 0x202f || code == 0x205f || code == 0x3000;
}

static utf8proc_category_t category(uint32_t code)
{
    return utf8proc_category((utf8proc_int32_t)code);
}

bool qc_chat_is_printable(uint32_t code)
{
    switch (category(code)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
        return code == ' ';
    default:
        return true;
    }
}

/* Digits that are no decimal digits: superscripts, digits in circles and the like (Unicode's Numeric_Type Digit). */
static bool is_digit(uint32_t code)
{
    static const uint32_t ranges[][2] = {{0xb2, 0xb3}, {0xb9, 0xb9}, {0x1369, 0x1371}, {0x19da, 0x19da},
        {0x2070, 0x2070}, {0x2074, 0x2079}, {0x2080, 0x2089}, {0x2460, 0x2468}, {0x2474, 0x247c},
        {0x2488, 0x2490}, {0x24ea, 0x24ea}, {0x24f5, 0x24fd}, {0x24ff, 0x24ff}, {0x2776, 0x277e},
        {0x2780, 0x2788}, {0x278a, 0x2792}, {0x10a40, 0x10a43}, {0x10e60, 0x10e68}, {0x11052, 0x1105a},
        {0x1f100, 0x1f10a}};
    if (category(code) == UTF8PROC_CATEGORY_ND)
        return true;
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
        if (code >= ranges[i][0] && code <= ranges[i][1])
            return true;
    return false;
}

static bool is_cased(utf8proc_category_t c)
{
    return c == UTF8PROC_CATEGORY_LU || c == UTF8PROC_CATEGORY_LL || c == UTF8PROC_CATEGORY_LT;
}

static bool is_letter(utf8proc_category_t c)
{
    return is_cased(c) || c == UTF8PROC_CATEGORY_LM || c == UTF8PROC_CATEGORY_LO;
}

bool qc_chat_has(qc_chat_value text, qc_chat_property property)
{
    bool any = false;
    for (size_t at = 0, size; at < text.length; at += size) {
        uint32_t code = qc_text_get(text.text + at, text.length - at, &size);
        utf8proc_category_t c = category(code);
        bool has = false, cased = is_cased(c);
        switch (property) {
        case QC_CHAT_ALPHA:
            has = is_letter(c);
            break;
        case QC_CHAT_DIGIT:
            has = is_digit(code);
            break;
        case QC_CHAT_ALNUM:
            has = is_letter(c) || c == UTF8PROC_CATEGORY_ND || c == UTF8PROC_CATEGORY_NL ||
                  c == UTF8PROC_CATEGORY_NO;
            break;
        case QC_CHAT_SPACE:
            has = qc_chat_is_space(code);
            break;
        case QC_CHAT_IS_UPPER:
            has = c == UTF8PROC_CATEGORY_LU;
            break;
        case QC_CHAT_IS_LOWER:
            has = c == UTF8PROC_CATEGORY_LL;
            break;
        }
        bool needed = property < QC_CHAT_IS_UPPER || cased; /* characters without case do not count there */
        if (needed && !has)
            return false;
        any |= has;
    }
    return any;
}

/* ---- case ---------------------------------------------------------------------------------------------- */

typedef struct special {
    uint32_t code, upper[3], title[3]; /* title[0] == 0: a single character */
} special;

static const special specials[] = {{0xdf, {0x53, 0x53}, {0x53, 0x73}}, {0x149, {0x2bc, 0x4e}, {0x2bc, 0x4e}},
    {0x1f0, {0x4a, 0x30c}, {0x4a, 0x30c}}, {0x390, {0x399, 0x308, 0x301}, {0x399, 0x308, 0x301}},
    {0x3b0, {0x3a5, 0x308, 0x301}, {0x3a5, 0x308, 0x301}}, {0x587, {0x535, 0x552}, {0x535, 0x582}},
    {0x1e96, {0x48, 0x331}, {0x48, 0x331}}, {0x1e97, {0x54, 0x308}, {0x54, 0x308}},
    {0x1e98, {0x57, 0x30a}, {0x57, 0x30a}}, {0x1e99, {0x59, 0x30a}, {0x59, 0x30a}},
    {0x1e9a, {0x41, 0x2be}, {0x41, 0x2be}}, {0x1f50, {0x3a5, 0x313}, {0x3a5, 0x313}},
    {0x1f52, {0x3a5, 0x313, 0x300}, {0x3a5, 0x313, 0x300}},
    {0x1f54, {0x3a5, 0x313, 0x301}, {0x3a5, 0x313, 0x301}},
    {0x1f56, {0x3a5, 0x313, 0x342}, {0x3a5, 0x313, 0x342}}, {0x1f80, {0x1f08, 0x399}, {0}},
    {0x1f81, {0x1f09, 0x399}, {0}}, {0x1f82, {0x1f0a, 0x399}, {0}}, {0x1f83, {0x1f0b, 0x399}, {0}},
    {0x1f84, {0x1f0c, 0x399}, {0}}, {0x1f85, {0x1f0d, 0x399}, {0}}, {0x1f86, {0x1f0e, 0x399}, {0}},
    {0x1f87, {0x1f0f, 0x399}, {0}}, {0x1f88, {0x1f08, 0x399}, {0}}, {0x1f89, {0x1f09, 0x399}, {0}},
    {0x1f8a, {0x1f0a, 0x399}, {0}}, {0x1f8b, {0x1f0b, 0x399}, {0}}, {0x1f8c, {0x1f0c, 0x399}, {0}},
    {0x1f8d, {0x1f0d, 0x399}, {0}}, {0x1f8e, {0x1f0e, 0x399}, {0}}, {0x1f8f, {0x1f0f, 0x399}, {0}},
    {0x1f90, {0x1f28, 0x399}, {0}}, {0x1f91, {0x1f29, 0x399}, {0}}, {0x1f92, {0x1f2a, 0x399}, {0}},
    {0x1f93, {0x1f2b, 0x399}, {0}}, {0x1f94, {0x1f2c, 0x399}, {0}}, {0x1f95, {0x1f2d, 0x399}, {0}},
    {0x1f96, {0x1f2e, 0x399}, {0}}, {0x1f97, {0x1f2f, 0x399}, {0}}, {0x1f98, {0x1f28, 0x399}, {0}},
    {0x1f99, {0x1f29, 0x399}, {0}}, {0x1f9a, {0x1f2a, 0x399}, {0}}, {0x1f9b, {0x1f2b, 0x399}, {0}},
    {0x1f9c, {0x1f2c, 0x399}, {0}}, {0x1f9d, {0x1f2d, 0x399}, {0}}, {0x1f9e, {0x1f2e, 0x399}, {0}},
    {0x1f9f, {0x1f2f, 0x399}, {0}}, {0x1fa0, {0x1f68, 0x399}, {0}}, {0x1fa1, {0x1f69, 0x399}, {0}},
    {0x1fa2, {0x1f6a, 0x399}, {0}}, {0x1fa3, {0x1f6b, 0x399}, {0}}, {0x1fa4, {0x1f6c, 0x399}, {0}},
    {0x1fa5, {0x1f6d, 0x399}, {0}}, {0x1fa6, {0x1f6e, 0x399}, {0}}, {0x1fa7, {0x1f6f, 0x399}, {0}},
    {0x1fa8, {0x1f68, 0x399}, {0}}, {0x1fa9, {0x1f69, 0x399}, {0}}, {0x1faa, {0x1f6a, 0x399}, {0}},
    {0x1fab, {0x1f6b, 0x399}, {0}}, {0x1fac, {0x1f6c, 0x399}, {0}}, {0x1fad, {0x1f6d, 0x399}, {0}},
    {0x1fae, {0x1f6e, 0x399}, {0}}, {0x1faf, {0x1f6f, 0x399}, {0}},
    {0x1fb2, {0x1fba, 0x399}, {0x1fba, 0x345}}, {0x1fb3, {0x391, 0x399}, {0}},
    {0x1fb4, {0x386, 0x399}, {0x386, 0x345}}, {0x1fb6, {0x391, 0x342}, {0x391, 0x342}},
    {0x1fb7, {0x391, 0x342, 0x399}, {0x391, 0x342, 0x345}}, {0x1fbc, {0x391, 0x399}, {0}},
    {0x1fc2, {0x1fca, 0x399}, {0x1fca, 0x345}}, {0x1fc3, {0x397, 0x399}, {0}},
    {0x1fc4, {0x389, 0x399}, {0x389, 0x345}}, {0x1fc6, {0x397, 0x342}, {0x397, 0x342}},
    {0x1fc7, {0x397, 0x342, 0x399}, {0x397, 0x342, 0x345}}, {0x1fcc, {0x397, 0x399}, {0}},
    {0x1fd2, {0x399, 0x308, 0x300}, {0x399, 0x308, 0x300}},
    {0x1fd3, {0x399, 0x308, 0x301}, {0x399, 0x308, 0x301}}, {0x1fd6, {0x399, 0x342}, {0x399, 0x342}},
    {0x1fd7, {0x399, 0x308, 0x342}, {0x399, 0x308, 0x342}},
    {0x1fe2, {0x3a5, 0x308, 0x300}, {0x3a5, 0x308, 0x300}},
    {0x1fe3, {0x3a5, 0x308, 0x301}, {0x3a5, 0x308, 0x301}}, {0x1fe4, {0x3a1, 0x313}, {0x3a1, 0x313}},
    {0x1fe6, {0x3a5, 0x342}, {0x3a5, 0x342}}, {0x1fe7, {0x3a5, 0x308, 0x342}, {0x3a5, 0x308, 0x342}},
    {0x1ff2, {0x1ffa, 0x399}, {0x1ffa, 0x345}}, {0x1ff3, {0x3a9, 0x399}, {0}},
    {0x1ff4, {0x38f, 0x399}, {0x38f, 0x345}}, {0x1ff6, {0x3a9, 0x342}, {0x3a9, 0x342}},
    {0x1ff7, {0x3a9, 0x342, 0x399}, {0x3a9, 0x342, 0x345}}, {0x1ffc, {0x3a9, 0x399}, {0}},
    {0xfb00, {0x46, 0x46}, {0x46, 0x66}}, {0xfb01, {0x46, 0x49}, {0x46, 0x69}},
    {0xfb02, {0x46, 0x4c}, {0x46, 0x6c}}, {0xfb03, {0x46, 0x46, 0x49}, {0x46, 0x66, 0x69}},
    {0xfb04, {0x46, 0x46, 0x4c}, {0x46, 0x66, 0x6c}}, {0xfb05, {0x53, 0x54}, {0x53, 0x74}},
    {0xfb06, {0x53, 0x54}, {0x53, 0x74}}, {0xfb13, {0x544, 0x546}, {0x544, 0x576}},
    {0xfb14, {0x544, 0x535}, {0x544, 0x565}}, {0xfb15, {0x544, 0x53b}, {0x544, 0x56b}},
    {0xfb16, {0x54e, 0x546}, {0x54e, 0x576}}, {0xfb17, {0x544, 0x53d}, {0x544, 0x56d}}};

static const special *find_special(uint32_t code)
{
    size_t low = 0, high = sizeof specials / sizeof *specials;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (specials[middle].code < code)
            low = middle + 1;
        else
            high = middle;
    }
    return low < sizeof specials / sizeof *specials && specials[low].code == code ? &specials[low] : NULL;
}

/* Characters that case rules look through (Unicode's Case_Ignorable). */
static bool is_ignorable(uint32_t code)
{
    static const uint32_t others[] = {0x27, 0x2e, 0x3a, 0xb7, 0x387, 0x55f, 0x5f4, 0x2018, 0x2019, 0x2024,
        0x2027, 0xfe13, 0xfe52, 0xfe55, 0xff07, 0xff0e, 0xff1a};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (others[i] == code)
            return true;
    utf8proc_category_t c = category(code);
    return c == UTF8PROC_CATEGORY_MN || c == UTF8PROC_CATEGORY_ME || c == UTF8PROC_CATEGORY_CF ||
           c == UTF8PROC_CATEGORY_LM || c == UTF8PROC_CATEGORY_SK;
}

/* Is the sigma at `at` the last letter of a word? */
static bool is_final_sigma(qc_chat_value text, size_t at)
{
    uint32_t code = 0;
    size_t size, before = at;
    bool letter = false;
    while (before > 0 && !letter) {
        before = qc_text_previous(text.text, before);
        code = qc_text_get(text.text + before, text.length - before, &size);
        if (!is_ignorable(code))
            break;
    }
    letter = before < at && !is_ignorable(code) && is_cased(category(code));
    if (!letter)
        return false;
    for (at += 2; at < text.length; at += size) {
        code = qc_text_get(text.text + at, text.length - at, &size);
        if (!is_ignorable(code))
            return !is_cased(category(code));
    }
    return true;
}

static size_t map_case(qc_chat_value text, size_t at, uint32_t code, qc_chat_case to, uint32_t out[3])
{
    const special *s = to == QC_CHAT_LOWER ? NULL : find_special(code);
    const uint32_t *several = s ? (to == QC_CHAT_UPPER ? s->upper : s->title) : NULL;
    if (several && several[0]) {
        memcpy(out, several, 3 * sizeof *out);
        return several[2] ? 3 : 2;
    }
    if (to == QC_CHAT_LOWER && code == 0x130) {
        out[0] = 'i';
        out[1] = 0x307;
        return 2;
    }
    utf8proc_int32_t c = (utf8proc_int32_t)code;
    if (to == QC_CHAT_LOWER && code == 0x3a3)
        out[0] = is_final_sigma(text, at) ? 0x3c2 : 0x3c3;
    else
        out[0] = (uint32_t)(to == QC_CHAT_UPPER   ? utf8proc_toupper(c)
                            : to == QC_CHAT_LOWER ? utf8proc_tolower(c)
                                                  : utf8proc_totitle(c));
    return 1;
}

void qc_chat_add_case(
    qc_chat_run *run, qc_chat_text *out, qc_chat_value text, size_t begin, size_t end, qc_chat_case to)
{
    for (size_t at = begin, size; at < end; at += size) {
        uint32_t codes[3];
        char put[4];
        size_t count = map_case(text, at, qc_text_get(text.text + at, text.length - at, &size), to, codes);
        for (size_t i = 0; i < count; i++)
            qc_chat_text_add(run, out, put, qc_text_put(put, codes[i]));
    }
}

qc_chat_value qc_chat_to_case(qc_chat_run *run, qc_chat_value text, qc_chat_case to)
{
    qc_chat_text out = {0};
    if (to != QC_CHAT_TITLE) {
        qc_chat_add_case(run, &out, text, 0, text.length, to);
        return qc_chat_text_value(&out);
    }
    bool inside = false; /* a word */
    for (size_t at = 0, size; at < text.length; at += size) {
        uint32_t code = qc_text_get(text.text + at, text.length - at, &size);
        qc_chat_add_case(run, &out, text, at, at + size, inside ? QC_CHAT_LOWER : QC_CHAT_TITLE);
        inside = is_cased(category(code));
    }
    return qc_chat_text_value(&out);
}

qc_chat_value qc_chat_capitalize(qc_chat_run *run, qc_chat_value text)
{
    qc_chat_text out = {0};
    size_t first = 0;
    if (text.length)
        qc_text_get(text.text, text.length, &first);
    qc_chat_add_case(run, &out, text, 0, first, QC_CHAT_TITLE);
    qc_chat_add_case(run, &out, text, first, text.length, QC_CHAT_LOWER);
    return qc_chat_text_value(&out);
}
