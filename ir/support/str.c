/* SPDX-License-Identifier: MIT
 *
 * str.c - growing text and the few string functions that several folders need.
 *
 * Shortest decimals: a decimal of up to D digits survives a trip through a binary type of p bits when
 * D = floor((p - 1) log10 2), so the value printed with D digits and stripped of zeros is already the
 * shortest if it reads back; else D + 1 ... are tried (Steele and White 1990; Matula 1968). Below a power of
 * two the values lie twice as dense as above, so there the next decimal above is tried as well. Values of
 * moderate size go the quick way, through products and quotients of double that are exact or correctly
 * rounded.
 */
#include "ir/support/str.h"

#include <ctype.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static QC_COLD void out_of_memory(const qc_str *s, size_t size_bytes)
{
    if (s->oom)
        s->oom(size_bytes);
    __builtin_trap(); /* the handler must not return */
}

void qc_str_init(qc_str *s, const qc_arena *arena)
{
    *s = (qc_str){.oom = arena->oom};
    qc_str_reserve(s, 63);
    s->data[0] = 0;
}

void qc_str_fini(qc_str *s)
{
    free(s->data);
    *s = (qc_str){.oom = s->oom};
}

void qc_str_clear(qc_str *s)
{
    s->length = 0;
    s->data[0] = 0;
}

/* Room for `more` bytes and the NUL after them. */
void qc_str_reserve(qc_str *s, size_t more)
{
    if (more < s->capacity - s->length)
        return;
    if (more >= SIZE_MAX / 2 - s->length)
        out_of_memory(s, more);
    size_t need = s->length + more + 1;
    size_t capacity = s->capacity * 2 < need ? need : s->capacity * 2;
    char *data = realloc(s->data, capacity);
    if (!data)
        out_of_memory(s, capacity);
    s->data = data;
    s->capacity = capacity;
}

void qc_str_add_bytes(qc_str *s, const char *bytes, size_t length)
{
    qc_str_reserve(s, length);
    if (length)
        memcpy(s->data + s->length, bytes, length);
    s->length += length;
    s->data[s->length] = 0;
}

void qc_str_add(qc_str *s, const char *text)
{
    qc_str_add_bytes(s, text, strlen(text));
}

void qc_str_add_char(qc_str *s, char c)
{
    qc_str_reserve(s, 1);
    s->data[s->length++] = c;
    s->data[s->length] = 0;
}

/* Writes the digits so that they end before `end`; gives where they start. */
static char *write_digits(char *end, uint64_t value)
{
    do {
        *--end = (char)('0' + value % 10);
        value /= 10;
    } while (value);
    return end;
}

void qc_str_add_int(qc_str *s, int64_t value)
{
    char buffer[24];
    char *end = buffer + sizeof buffer;
    char *start = write_digits(end, value < 0 ? 0 - (uint64_t)value : (uint64_t)value);
    if (value < 0)
        *--start = '-';
    qc_str_add_bytes(s, start, (size_t)(end - start));
}

void qc_str_addf(qc_str *s, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int length = vsnprintf(s->data + s->length, s->capacity - s->length, format, args);
    va_end(args);
    if (length > 0 && (size_t)length >= s->capacity - s->length) {
        qc_str_reserve(s, (size_t)length);
        vsnprintf(s->data + s->length, s->capacity - s->length, format, again);
    }
    va_end(again);
    s->length += length > 0 ? (size_t)length : 0;
}

void qc_str_add_quoted(qc_str *s, const char *text, size_t length)
{
    qc_str_add_char(s, '"');
    size_t start = 0;
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c >= 0x20 && c != '"' && c != '\\')
            continue;
        qc_str_add_bytes(s, text + start, i - start);
        start = i + 1;
        switch (c) {
        case '"':
            qc_str_add(s, "\\\"");
            break;
        case '\\':
            qc_str_add(s, "\\\\");
            break;
        case '\n':
            qc_str_add(s, "\\n");
            break;
        case '\t':
            qc_str_add(s, "\\t");
            break;
        case '\r':
            qc_str_add(s, "\\r");
            break;
        default:
            qc_str_addf(s, "\\u%04x", (unsigned)c);
        }
    }
    qc_str_add_bytes(s, text + start, length - start);
    qc_str_add_char(s, '"');
}

/* A binary floating point type: bits of precision (the hidden one counted), exponent of the least normal
 * value as frexp gives it, decimal digits that always survive, and digits that always suffice. */
typedef struct float_format {
    int precision, least_exponent;
    int safe_digits, enough_digits;
} float_format;

static const float_format format_f64 = {53, -1021, 15, 17};
static const float_format format_f32 = {24, -125, 6, 9};
static const float_format format_bf16 = {8, -125, 2, 4};
static const float_format format_f16 = {11, -13, 3, 5};

static const double powers_of_ten[] = {1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12};

/* Nearest value of the format, ties to even, for a finite value in the exponent range; overflow is left to
 * the caller, which compares with a value of the format. */
static double round_to(const float_format *f, double value)
{
    if (f->precision == 53)
        return value;
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    int exponent = (int)(bits >> 52 & 0x7ff) - 1022; /* as frexp's; value is not negative */
    if (exponent < f->least_exponent) {              /* subnormal: multiples of the least one */
        double step = ldexp(1.0, f->least_exponent - f->precision);
        return nearbyint(value / step) * step;
    }
    int drop = 53 - f->precision;
    bits += ((uint64_t)1 << (drop - 1)) - 1 + (bits >> drop & 1);
    bits &= ~(((uint64_t)1 << drop) - 1);
    memcpy(&value, &bits, sizeof value);
    return value;
}

static bool is_power_of_two(double value)
{
    int exponent;
    return frexp(value, &exponent) == 0.5;
}

/* Adds digits d1 d2 ... dn with value d1.d2... * 10^exponent as Python's repr does. */
static void add_decimal(qc_str *s, const char *digits, int count, int exponent)
{
    while (count > 1 && digits[count - 1] == '0')
        count--;
    char buffer[64];
    char *p = buffer;
    if (exponent < -4 || exponent >= 16) {
        *p++ = digits[0];
        if (count > 1)
            *p++ = '.';
        for (int i = 1; i < count; i++)
            *p++ = digits[i];
        p += snprintf(p, 8, "e%c%02d", exponent < 0 ? '-' : '+', abs(exponent));
    } else {
        if (exponent < 0) {
            *p++ = '0';
            *p++ = '.';
            for (int i = -1; i > exponent; i--)
                *p++ = '0';
        }
        for (int i = 0; i < count || i <= exponent; i++) {
            *p++ = i < count ? digits[i] : '0';
            if (i == exponent) {
                *p++ = '.';
                if (i + 1 >= count)
                    *p++ = '0';
            }
        }
    }
    qc_str_add_bytes(s, buffer, (size_t)(p - buffer));
}

/* value >= 0 of moderate size: whole, or within twelve decimals. value * 10^k is exact for 24 bits, and off
 * by less than a quarter for 53 as long as it stays below 1e15; r / 10^k is the double nearest to that
 * decimal, and of the decimals so short none lies so near to a midpoint of 24-bit floats that rounding it to
 * double first would matter. False when the value needs more. */
static bool add_quick(qc_str *s, double value, const float_format *f)
{
    if (value >= 0x1p53)
        return false;
    if (value == (double)(int64_t)value) {
        if (value >= (double)((int64_t)1 << f->precision))
            return false; /* fewer digits may do */
        qc_str_add_int(s, (int64_t)value);
        qc_str_add_bytes(s, ".0", 2);
        return true;
    }
    if (value < 1e-4 || value >= 1e6 || (value < 0.125 && is_power_of_two(value)))
        return false;
    for (int k = 1; k <= 12; k++) {
        double scaled = value * powers_of_ten[k];
        if (scaled >= 1e15)
            return false;
        double r = (scaled + 0x1p52) - 0x1p52; /* nearest whole number, ties to even */
        if (r < 1 || round_to(f, r / powers_of_ten[k]) != value)
            continue;
        char digits[24];
        char *end = digits + sizeof digits;
        char *start = write_digits(end, (uint64_t)r);
        int count = (int)(end - start);
        add_decimal(s, start, count, count - 1 - k);
        return true;
    }
    return false;
}

/* Adds one to the last digit; the exponent grows when all were nines. */
static void increment_decimal(char *digits, int count, int *exponent)
{
    int i = count - 1;
    while (i >= 0 && digits[i] == '9')
        digits[i--] = '0';
    if (i >= 0) {
        digits[i]++;
    } else {
        digits[0] = '1';
        ++*exponent;
    }
}

static bool reads_back(const char *digits, int count, int exponent, double value, const float_format *f)
{
    char text[48];
    snprintf(text, sizeof text, "%.*se%d", count, digits, exponent - (count - 1));
    if (f == &format_f32) /* one rounding, not two */
        return (double)strtof(text, NULL) == value;
    return round_to(f, strtod(text, NULL)) == value;
}

static void add_shortest(qc_str *s, double value, const float_format *f)
{
    if (isnan(value)) {
        qc_str_add(s, "nan");
        return;
    }
    if (signbit(value)) {
        qc_str_add_char(s, '-');
        value = -value;
    }
    if (isinf(value)) {
        qc_str_add(s, "inf");
        return;
    }
    if (add_quick(s, value, f))
        return;
    int binary_exponent;
    frexp(value, &binary_exponent);
    bool subnormal = binary_exponent < f->least_exponent;
    for (int count = subnormal ? 1 : f->safe_digits;; count++) {
        char text[48], digits[24];
        snprintf(text, sizeof text, "%.*e", count - 1, value); /* d.ddde-dd */
        digits[0] = text[0];
        if (count > 1)
            memcpy(digits + 1, text + 2, (size_t)count - 1);
        int exponent = atoi(strchr(text, 'e') + 1);
        bool good = count >= f->enough_digits || reads_back(digits, count, exponent, value, f);
        if (!good && !subnormal && is_power_of_two(value)) {
            increment_decimal(digits, count, &exponent);
            good = reads_back(digits, count, exponent, value, f);
        }
        if (good) {
            add_decimal(s, digits, count, exponent);
            return;
        }
    }
}

/* A float that the narrow format does not hold is printed as the float it is. */
static void add_narrow(qc_str *s, float value, const float_format *f)
{
    bool exact =
        !isfinite(value) || (round_to(f, value) == value && (f != &format_f16 || fabsf(value) <= 65504.0f));
    add_shortest(s, value, exact ? f : &format_f32);
}

void qc_str_add_f64(qc_str *s, double value)
{
    add_shortest(s, value, &format_f64);
}

void qc_str_add_f32(qc_str *s, float value)
{
    add_shortest(s, value, &format_f32);
}

void qc_str_add_bf16(qc_str *s, float value)
{
    add_narrow(s, value, &format_bf16);
}

void qc_str_add_f16(qc_str *s, float value)
{
    add_narrow(s, value, &format_f16);
}

double qc_decimal_to_f64(const char *text, size_t length)
{
    /* Without the point, so that the locale does not matter: 12.5e3 is 125e2. */
    const char *end = text + length, *p = text;
    bool negative = p < end && *p == '-';
    if (p < end && (*p == '-' || *p == '+'))
        p++;
    const char *first = p;
    uint64_t digits = 0;
    int64_t scale = 0;
    size_t digit_count = 0, point_count = 0;
    for (; p < end && (*p == '.' || (*p >= '0' && *p <= '9')); p++) {
        if (*p == '.') {
            point_count++;
            continue;
        }
        digits = digits * 10 + (uint64_t)(*p - '0'); /* wraps for long ones; then it is not used */
        digit_count += digit_count > 0 || *p != '0';
        scale -= point_count > 0;
    }
    const char *last = p;
    if (p < end && (*p == 'e' || *p == 'E')) {
        p++;
        bool down = p < end && *p == '-';
        if (p < end && (*p == '-' || *p == '+'))
            p++;
        int64_t exponent = 0;
        for (; p < end && *p >= '0' && *p <= '9'; p++)
            exponent = exponent < 1000000000 ? exponent * 10 + (*p - '0') : exponent;
        scale += down ? -exponent : exponent;
    }
    double value;
    if (digit_count <= 15 && scale >= -8 && scale <= 8) { /* two exact numbers, one rounding (Clinger 1990) */
        value = scale < 0 ? (double)digits / powers_of_ten[-scale] : (double)digits * powers_of_ten[scale];
    } else {
        char room[128];
        size_t need = (size_t)(last - first) + 32;
        char *copy = need <= sizeof room ? room : malloc(need);
        if (!copy)
            return NAN;
        char *out = copy;
        for (const char *q = first; q < last; q++)
            if (*q != '.')
                *out++ = *q;
        snprintf(out, 32, "e%lld", (long long)scale);
        value = strtod(copy, NULL);
        if (copy != room)
            free(copy);
    }
    return negative ? -value : value;
}

int qc_utf8_length(const unsigned char *at, size_t room)
{
    static const struct {
        unsigned char first, last, second_low, second_high;
        int length;
    } rows[] = {
        {0x00, 0x7f, 0, 0, 1},
        {0xc2, 0xdf, 0x80, 0xbf, 2},
        {0xe0, 0xe0, 0xa0, 0xbf, 3},
        {0xe1, 0xec, 0x80, 0xbf, 3},
        {0xed, 0xed, 0x80, 0x9f, 3},
        {0xee, 0xef, 0x80, 0xbf, 3},
        {0xf0, 0xf0, 0x90, 0xbf, 4},
        {0xf1, 0xf3, 0x80, 0xbf, 4},
        {0xf4, 0xf4, 0x80, 0x8f, 4},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (at[0] < rows[i].first || at[0] > rows[i].last)
            continue;
        if ((size_t)rows[i].length > room)
            return 0;
        if (rows[i].length > 1 && (at[1] < rows[i].second_low || at[1] > rows[i].second_high))
            return 0;
        for (int k = 2; k < rows[i].length; k++)
            if (at[k] < 0x80 || at[k] > 0xbf)
                return 0;
        return rows[i].length;
    }
    return 0;
}

bool qc_starts_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

bool qc_ends_with(const char *text, const char *suffix)
{
    size_t text_length = strlen(text), suffix_length = strlen(suffix);
    return text_length >= suffix_length &&
           memcmp(text + text_length - suffix_length, suffix, suffix_length) == 0;
}

enum { LONGEST_NAME = 255 }; /* longer names get no suggestion */

static bool same_letter(char a, char b)
{
    return tolower((unsigned char)a) == tolower((unsigned char)b);
}

/* Levenshtein's distance by rows, where two neighbours that changed places count as one edit (Damerau's restricted form)
 * and upper and lower case are one. */
static size_t edit_distance(const char *a, size_t a_length, const char *b, size_t b_length)
{
    size_t rows[3][LONGEST_NAME + 1];
    for (size_t j = 0; j <= b_length; j++)
        rows[0][j] = j;
    for (size_t i = 1; i <= a_length; i++) {
        size_t *row = rows[i % 3];
        const size_t *above = rows[(i - 1) % 3], *above_that = rows[(i + 1) % 3];
        row[0] = i;
        for (size_t j = 1; j <= b_length; j++) {
            size_t best = above[j - 1] + !same_letter(a[i - 1], b[j - 1]);
            if (above[j] + 1 < best)
                best = above[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            if (i > 1 && j > 1 && same_letter(a[i - 1], b[j - 2]) && same_letter(a[i - 2], b[j - 1]) &&
                above_that[j - 2] + 1 < best)
                best = above_that[j - 2] + 1;
            row[j] = best;
        }
    }
    return rows[a_length % 3][b_length];
}

const char *qc_nearest_name(const char *name, const char *const *names, size_t count)
{
    const char *nearest = NULL;
    size_t nearest_distance = SIZE_MAX, length = strlen(name);
    for (size_t i = 0; length <= LONGEST_NAME && i < count; i++) {
        size_t other = strlen(names[i]);
        if (other > LONGEST_NAME)
            continue;
        size_t allowed = (length > other ? length : other) / 3;
        size_t distance = edit_distance(name, length, names[i], other);
        if (distance <= (allowed ? allowed : 1) && distance < nearest_distance) {
            nearest = names[i];
            nearest_distance = distance;
        }
    }
    for (size_t i = 0; length >= 3 && nearest_distance > 2 && i < count; i++)
        if (qc_starts_with(names[i], name))
            return names[i];
    return nearest;
}
