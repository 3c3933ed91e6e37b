/* SPDX-License-Identifier: MIT
 *
 * yaml_scalar.c - the type of a plain scalar, by the patterns of PyYAML's resolver (YAML 1.1, yaml.org/type, but for
 * floats, whose exponent wants a point before it and a sign), in its order: bool, float, int, null, timestamp.
 */
#include <math.h>

#include "frontends/recipe/yaml_tree.h"

static const char decimals[] = "0123456789", grouped[] = "0123456789_";

static bool is_one_of(const char *text, const char *const *words)
{
    for (; *words; words++)
        if (strcmp(*words, text) == 0)
            return true;
    return false;
}

/* The text without '_', at most `size` - 1 bytes; false when it is longer. */
static bool without_underscores(const char *text, char *out, size_t size)
{
    size_t length = 0;
    for (; *text; text++)
        if (*text != '_') {
            if (length + 1 >= size)
                return false;
            out[length++] = *text;
        }
    out[length] = '\0';
    return true;
}

/* [0-9][0-9_]*(:[0-5]?[0-9])+ at the start of `text`: the length, 0 when it is none. */
static size_t sexagesimal_length(const char *text)
{
    size_t length = *text >= '0' && *text <= '9' ? strspn(text, grouped) : 0;
    if (length == 0 || text[length] != ':')
        return 0;
    while (text[length] == ':') {
        const char *digits = text + length + 1;
        size_t count = strspn(digits, decimals);
        if (count == 0 || count > 2 || (count == 2 && digits[0] > '5'))
            return 0;
        length += 1 + count;
    }
    return length;
}

/* Sum of the parts between colons, each times a power of 60; the text was checked. */
static double sexagesimal(const char *text)
{
    double sum = 0;
    while (*text) {
        size_t length = strcspn(text, ":");
        sum = sum * 60 + qc_decimal_to_f64(text, length);
        text += length + (text[length] == ':');
    }
    return sum;
}

/* Behind the sign: digits with a point, and an exponent with a sign; or infinity. */
static bool float_body(const char *at, bool sign)
{
    static const char *const infinities[] = {".inf", ".Inf", ".INF", NULL};
    static const char *const nans[] = {".nan", ".NaN", ".NAN", NULL};
    if (is_one_of(at, infinities) || (!sign && is_one_of(at, nans)))
        return true;
    size_t whole = *at >= '0' && *at <= '9' ? strspn(at, grouped) : 0;
    size_t sixty = sexagesimal_length(at);
    if (sixty > 0)
        return at[sixty] == '.' && at[sixty + 1 + strspn(at + sixty + 1, grouped)] == '\0';
    if (at[whole] != '.')
        return false;
    const char *fraction = at + whole + 1;
    if (whole == 0 && (sign || *fraction < '0' || *fraction > '9'))
        return false;
    fraction += strspn(fraction, grouped);
    if (*fraction == 'e' || *fraction == 'E') {
        fraction++;
        if (*fraction != '+' && *fraction != '-')
            return false;
        size_t digits = strspn(fraction + 1, decimals);
        return digits > 0 && fraction[1 + digits] == '\0';
    }
    return *fraction == '\0';
}

static bool resolve_float(qc_yaml *node)
{
    const char *at = node->text;
    bool sign = *at == '+' || *at == '-';
    char clean[128];
    if (!float_body(at + sign, sign) || !without_underscores(at + sign, clean, sizeof clean))
        return false;
    node->kind = QC_YAML_FLOAT;
    if (clean[0] == '.' && (clean[1] == 'i' || clean[1] == 'I'))
        node->number = INFINITY;
    else if (clean[0] == '.' && (clean[1] == 'n' || clean[1] == 'N'))
        node->number = NAN;
    else
        node->number = strchr(clean, ':') ? sexagesimal(clean) : qc_decimal_to_f64(clean, strlen(clean));
    if (*at == '-')
        node->number = -node->number;
    return true;
}

/* 2, 8, 10, 16, 60: the base of the integer behind the sign; 0 when it is none. *digits is where they start. */
static int integer_base(const char *at, const char **digits)
{
    *digits = at + 2;
    if (at[0] == '0' && at[1] == 'b' && at[2] && at[2 + strspn(at + 2, "01_")] == '\0')
        return 2;
    if (at[0] == '0' && at[1] == 'x' && at[2] && at[2 + strspn(at + 2, "0123456789abcdefABCDEF_")] == '\0')
        return 16;
    *digits = at;
    if (at[0] == '0')
        return !at[1] ? 10 : at[1 + strspn(at + 1, "01234567_")] == '\0' ? 8 : 0;
    size_t sixty = sexagesimal_length(at);
    if (sixty > 0)
        return at[sixty] == '\0' ? 60 : 0;
    return *at >= '1' && *at <= '9' && at[strspn(at, grouped)] == '\0' ? 10 : 0;
}

static int digit_value(char c)
{
    return c <= '9' ? c - '0' : (c | 32) - 'a' + 10;
}

/* Sets *valid to false where Python's int() fails or 64 bits do not hold it. */
static bool resolve_int(qc_yaml *node, bool *valid)
{
    const char *at = node->text, *digits;
    bool negative = *at == '-';
    int base = integer_base(at + (negative || *at == '+'), &digits);
    if (base == 0)
        return false;
    int64_t value = 0, part = 0; /* value is minus the number: there is one more negative one */
    bool overflow = false, any = false;
    for (; *digits; digits++) {
        if (*digits == '_')
            continue;
        any = true;
        if (*digits == ':') {
            overflow |=
                __builtin_sub_overflow(value, part, &value) || __builtin_mul_overflow(value, 60, &value);
            part = 0;
            continue;
        }
        if (base == 60) {
            overflow |= __builtin_mul_overflow(part, 10, &part) ||
                        __builtin_add_overflow(part, digit_value(*digits), &part);
            continue;
        }
        overflow |= __builtin_mul_overflow(value, base, &value) ||
                    __builtin_sub_overflow(value, digit_value(*digits), &value);
    }
    overflow |= __builtin_sub_overflow(value, part, &value) || (!negative && value == INT64_MIN);
    *valid = any && !overflow;
    node->kind = QC_YAML_INT;
    node->integer = overflow ? 0 : negative ? value : -value;
    node->number = (double)node->integer;
    return true;
}

/* 2001-12-14, or that with a time behind it. */
static bool is_timestamp(const char *text)
{
    static const char shape[] = "dddd-dd-dd";
    for (size_t i = 0; i < sizeof shape - 1; i++)
        if (shape[i] == 'd' ? text[i] < '0' || text[i] > '9' : text[i] != '-')
            return false;
    const char *rest = text + sizeof shape - 1;
    if (!*rest)
        return true;
    size_t blanks = strspn(rest, " \t");
    if (blanks == 0 && *rest != 'T' && *rest != 't')
        return false;
    rest += blanks ? blanks : 1;
    size_t hours = strspn(rest, decimals);
    return hours >= 1 && hours <= 2 && rest[hours] == ':';
}

bool qc_yaml_resolve(qc_yaml *node)
{
    static const char *const yes[] = {"yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON", NULL};
    static const char *const no[] = {"no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF", NULL};
    static const char *const null[] = {"~", "null", "Null", "NULL", "", NULL};
    bool valid = true;
    node->kind = QC_YAML_STRING;
    if (is_one_of(node->text, yes) || is_one_of(node->text, no)) {
        node->kind = QC_YAML_BOOL;
        node->boolean = is_one_of(node->text, yes);
    } else if (is_one_of(node->text, null)) {
        node->kind = QC_YAML_NULL;
    } else if (!resolve_float(node) && !resolve_int(node, &valid) && is_timestamp(node->text)) {
        node->kind = QC_YAML_DATE;
    }
    return valid;
}
