/* SPDX-License-Identifier: MIT
 *
 * regex.c - regular expressions of tokenizer.json, written anew for PCRE2.
 *
 * The reference library runs them with Oniguruma 6.9 (Unicode 16). The dialects are near but not equal, so a
 * pattern is parsed here and written anew for PCRE2, with what differs made explicit (source: Oniguruma's
 * doc/RE and doc/UNICODE_PROPERTIES, pcre2pattern(3)):
 *   \s        White_Space (PCRE2 adds U+180E), \h is a hexadecimal digit, \w counts marks (and more)
 *   \p{..}    plus the characters that Unicode 15 and 16 added; scripts without script extensions
 *   [a[bc]]   sets nest, and && intersects them
 *   ^ $       match at lines; {,n} is {0,n}; X{n,m}+ repeats X{n,m}
 * A construct that is not known to mean the same in both is an error, not a guess.
 *
 * Invariant: the pattern written captures nothing, and every set in it stands for one character.
 */
#include "frontends/text/tokenizer/internal.h"

enum {
    DEPTH_LIMIT = 64,
    COMPLEMENT_LIMIT = 8, /* complements in one set */
    OPERAND_LIMIT = 8,    /* of && in one set */
    REPEAT_LIMIT = 65535, /* PCRE2's */
};

typedef struct translator {
    qc_arena *arena;
    const char *at, *end;
    qc_str out;
    const char *problem; /* the first thing that is wrong */
    int depth;
} translator;

/* A set as the inside of PCRE2 brackets: `members`, and everything outside of each of `complements`. */
typedef struct char_set {
    qc_str members;
    const char *complements[COMPLEMENT_LIMIT];
    size_t complement_count;
} char_set;

static bool parse_alternatives(translator *t, bool fold_case);

static bool problem(translator *t, const char *format, ...) QC_PRINTF(2, 3);
static bool problem(translator *t, const char *format, ...)
{
    if (!t->problem) {
        va_list args;
        va_start(args, format);
        t->problem = qc_arena_vprintf(t->arena, format, args);
        va_end(args);
    }
    return false;
}

static bool looking_at(const translator *t, const char *text)
{
    size_t length = strlen(text);
    return (size_t)(t->end - t->at) >= length && memcmp(t->at, text, length) == 0;
}

static bool accept(translator *t, const char *text)
{
    bool here = looking_at(t, text);
    if (here)
        t->at += strlen(text);
    return here;
}

static void add_code(qc_str *out, uint32_t code)
{
    bool plain = (code >= '0' && code <= '9') || (code >= 'A' && code <= 'Z') || (code >= 'a' && code <= 'z');
    if (plain)
        qc_str_add_char(out, (char)code);
    else
        qc_str_addf(out, "\\x{%x}", code);
}

/* ---- classes ------------------------------------------------------------------------------------------- */

static void add_newer(qc_str *out, const char *property)
{
    size_t count, length = strlen(property);
    const qc_text_property_range *ranges = qc_text_property_ranges(&count);
    for (size_t i = 0; i < count; i++) {
        /* "L" covers "Lu", "Lo" and so on; longer names only themselves */
        const char *name = ranges[i].property;
        bool covered =
            strcmp(name, property) == 0 || (length == 1 && strlen(name) == 2 && name[0] == property[0]);
        if (covered)
            qc_str_addf(out, "\\x{%x}-\\x{%x}", ranges[i].first, ranges[i].last);
    }
}

/* The inside of brackets that matches what Oniguruma's property does, or false. */
static bool property_members(translator *t, const char *name, bool fold_case, qc_str *out)
{
    static const char *const categories[] = {"L", "Lu", "Ll", "Lt", "Lm", "Lo", "M", "Mc", "Me", "N", "Nd",
        "Nl", "No", "P", "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "S", "Sm", "Sc", "Sk", "So", "Z", "Zs",
        "Zl", "Zp", "Cc"};
    static const char *const scripts[] = {"Arabic", "Cyrillic", "Devanagari", "Greek", "Han", "Hangul",
        "Hebrew", "Hiragana", "Katakana", "Latin", "Thai"};
    if (fold_case)
        return problem(t, "property \"%s\" where case is ignored", name);
    for (size_t i = 0; i < sizeof categories / sizeof *categories; i++) {
        if (strcmp(name, categories[i]) == 0) {
            qc_str_addf(out, "\\p{%s}", name);
            add_newer(out, name);
            return true;
        }
    }
    for (size_t i = 0; i < sizeof scripts / sizeof *scripts; i++) {
        if (strcmp(name, scripts[i]) == 0) {
            qc_str_addf(out, "\\p{sc:%s}", name);
            add_newer(out, name);
            return true;
        }
    }
    return problem(t, "property \"%s\"", name);
}

static const char space_members[] =
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}"
    "\\x{202f}\\x{205f}\\x{3000}";

/* Oniguruma's \w counts some digits and fractions of Latin-1 too, but not within a set. */
static void add_word_members(qc_str *out, bool in_set)
{
    qc_str_add(out, "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}");
    add_newer(out, "word");
    if (!in_set)
        add_newer(out, "superscript");
}

/* After "\p" or "\P". */
static bool parse_property(translator *t, bool fold_case, qc_str *members, bool *complement)
{
    if (!accept(t, "{"))
        return problem(t, "a property without braces");
    if (accept(t, "^"))
        *complement = !*complement;
    const char *close = memchr(t->at, '}', (size_t)(t->end - t->at));
    if (!close)
        return problem(t, "a property without its closing brace");
    const char *name = qc_arena_strndup(t->arena, t->at, (size_t)(close - t->at));
    t->at = close + 1;
    return property_members(t, name, fold_case, members);
}

/* A class escape (t->at is behind the backslash): 1 taken, 0 not one, -1 wrong. */
static int parse_class_escape(translator *t, bool fold_case, bool in_set, qc_str *members, bool *complement)
{
    if (t->at == t->end)
        return 0;
    char c = *t->at;
    *complement = c == 'S' || c == 'D' || c == 'W' || c == 'H' || c == 'P';
    switch (c) {
    case 's':
    case 'S':
        qc_str_add(members, space_members);
        break;
    case 'd':
    case 'D':
        if (!property_members(t, "Nd", false, members))
            return -1;
        break;
    case 'w':
    case 'W':
        add_word_members(members, in_set);
        break;
    case 'h':
    case 'H':
        qc_str_add(members, "0-9A-Fa-f");
        break;
    case 'p':
    case 'P':
        t->at++;
        return parse_property(t, fold_case, members, complement) ? 1 : -1;
    default:
        return 0;
    }
    t->at++;
    return 1;
}

static bool parse_hex(translator *t, size_t least, size_t most, uint32_t *code)
{
    size_t digits = 0;
    *code = 0;
    while (digits < most && t->at < t->end) {
        char c = *t->at;
        int value = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (value < 0)
            break;
        *code = *code * 16 + (uint32_t)value;
        digits++;
        t->at++;
    }
    return digits >= least && *code < 0x110000 && (*code < 0xd800 || *code > 0xdfff);
}

/* A character escape (t->at is behind the backslash). */
static bool parse_char_escape(translator *t, uint32_t *code)
{
    static const char letters[] = "ntrfvae", values[] = "\n\t\r\f\v\a\x1b";
    if (t->at == t->end)
        return problem(t, "a backslash at the end");
    char c = *t->at;
    const char *letter = c ? strchr(letters, c) : NULL;
    if (letter) {
        *code = (unsigned char)values[letter - letters];
        t->at++;
        return true;
    }
    if (c == 'x' || c == 'u') {
        bool braces, good;
        t->at++;
        braces = c == 'x' && accept(t, "{");
        good = c == 'u' ? parse_hex(t, 4, 4, code)
               : braces ? parse_hex(t, 1, 8, code)
                        : parse_hex(t, 2, 2, code);
        /* two digits name a byte: beyond ASCII that is a part of a character */
        if (!good || (braces && !accept(t, "}")) || (c == 'x' && !braces && *code >= 0x80))
            return problem(t, "escape \"\\%c\" without a character's code", c);
        return true;
    }
    bool alphanumeric = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
    if (alphanumeric)
        return problem(t, "escape \"\\%c\"", c);
    size_t size;
    *code = qc_text_get(t->at, (size_t)(t->end - t->at), &size);
    t->at += size;
    return true;
}

/* ---- sets ---------------------------------------------------------------------------------------------- */

static void set_init(char_set *set, const qc_arena *arena)
{
    set->complement_count = 0;
    qc_str_init(&set->members, arena);
}

static bool add_complement(translator *t, char_set *set, const char *members)
{
    if (set->complement_count == COMPLEMENT_LIMIT)
        return problem(t, "a set with more than %d complements", COMPLEMENT_LIMIT);
    set->complements[set->complement_count++] = members;
    return true;
}

static void write_set(qc_str *out, const char_set *set, bool negated)
{
    const char *bar = "";
    if (!set->complement_count) {
        qc_str_add(out, negated ? "[^" : "[");
        qc_str_add_bytes(out, set->members.data, set->members.length);
        qc_str_add_char(out, ']');
        return;
    }
    qc_str_add(out, "(?:");
    if (!negated) {
        if (set->members.length) {
            qc_str_addf(out, "[%s]", set->members.data);
            bar = "|";
        }
        for (size_t i = 0; i < set->complement_count; i++, bar = "|")
            qc_str_addf(out, "%s[^%s]", bar, set->complements[i]);
    } else {
        if (set->members.length)
            qc_str_addf(out, "(?![%s])", set->members.data);
        for (size_t i = 0; i + 1 < set->complement_count; i++)
            qc_str_addf(out, "(?=[%s])", set->complements[i]);
        qc_str_addf(out, "[%s]", set->complements[set->complement_count - 1]);
    }
    qc_str_add_char(out, ')');
}

static bool parse_posix(translator *t, char_set *set)
{
    static const struct {
        const char *name, *members;
    } classes[] = {
        {"[:space:]", space_members}, {"[:xdigit:]", "0-9A-Fa-f"}, {"[:digit:]", "Nd"}, {"[:punct:]", "P"}};
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++) {
        if (!accept(t, classes[i].name))
            continue;
        if (i < 2) {
            qc_str_add(&set->members, classes[i].members);
            return true;
        }
        if (!property_members(t, classes[i].members, false, &set->members))
            return false;
        /* Oniguruma counts symbols as punctuation here */
        return i < 3 || property_members(t, "S", false, &set->members);
    }
    return problem(t, "POSIX class");
}

static bool parse_set(translator *t, bool fold_case, char_set *operands, size_t *count, bool *negated);

/* A set within a set: its members join those around it. */
static bool parse_nested_set(translator *t, bool fold_case, char_set *set)
{
    char_set operands[OPERAND_LIMIT];
    size_t count;
    bool negated, good = true;
    if (!parse_set(t, fold_case, operands, &count, &negated))
        return false;
    const char_set *inner = &operands[0];
    if (count > 1 || (negated && inner->complement_count)) {
        good = problem(t, "a set within a set with && or a double complement");
    } else if (negated) {
        good = add_complement(t, set, qc_arena_strndup(t->arena, inner->members.data, inner->members.length));
    } else {
        qc_str_add_bytes(&set->members, inner->members.data, inner->members.length);
        for (size_t i = 0; i < inner->complement_count && good; i++)
            good = add_complement(t, set, inner->complements[i]);
    }
    for (size_t i = 0; i < count; i++)
        qc_str_fini(&operands[i].members);
    return good;
}

/* One end of a range, or a single character. */
static bool parse_set_char(translator *t, uint32_t *code)
{
    if (accept(t, "\\")) {
        if (accept(t, "b")) {
            *code = 8;
            return true;
        }
        return parse_char_escape(t, code);
    }
    size_t size;
    *code = qc_text_get(t->at, (size_t)(t->end - t->at), &size);
    t->at += size;
    return true;
}

static bool parse_set_item(translator *t, bool fold_case, char_set *set)
{
    if (looking_at(t, "[:"))
        return parse_posix(t, set);
    if (accept(t, "["))
        return parse_nested_set(t, fold_case, set);
    if (accept(t, "\\")) {
        bool complement, good = true;
        qc_str members;
        qc_str_init(&members, t->arena);
        int taken = parse_class_escape(t, fold_case, true, &members, &complement);
        if (taken > 0 && complement)
            good = add_complement(t, set, qc_arena_strndup(t->arena, members.data, members.length));
        else if (taken > 0)
            qc_str_add_bytes(&set->members, members.data, members.length);
        qc_str_fini(&members);
        if (taken > 0 && looking_at(t, "-") && !looking_at(t, "-]"))
            return problem(t, "a range that does not start with a character");
        if (taken)
            return taken > 0 && good;
        t->at--; /* a character escape: the backslash again */
    }
    uint32_t first, last;
    if (!parse_set_char(t, &first))
        return false;
    add_code(&set->members, first);
    bool range = looking_at(t, "-") && !looking_at(t, "-]");
    if (first == '-' && range)
        return problem(t, "an unescaped hyphen");
    if (range) {
        t->at++;
        bool class_end = t->at == t->end || *t->at == '[' ||
                         (*t->at == '\\' && t->at + 1 < t->end && t->at[1] && strchr("sSdDwWhHpP", t->at[1]));
        if (class_end)
            return problem(t, "a range that does not end in a character");
        if (!parse_set_char(t, &last))
            return false;
        if (last < first)
            return problem(t, "an empty range");
        qc_str_add_char(&set->members, '-');
        add_code(&set->members, last);
    }
    if (fold_case && (first >= 0x80 || (range && last >= 0x80)))
        return problem(t, "a character beyond ASCII where case is ignored");
    return true;
}

/* Behind "[". Fills the operands of &&, usually one; the caller frees their members. */
static bool parse_set(translator *t, bool fold_case, char_set *operands, size_t *count, bool *negated)
{
    bool good = true;
    *count = 1;
    *negated = accept(t, "^");
    set_init(&operands[0], t->arena);
    if (++t->depth > DEPTH_LIMIT)
        good = problem(t, "nesting of more than %d", DEPTH_LIMIT);
    if (good && looking_at(t, "]"))
        good = problem(t, "an empty set");
    while (good && !accept(t, "]")) {
        char_set *set = &operands[*count - 1];
        bool empty = !set->members.length && !set->complement_count;
        if (t->at == t->end) {
            good = problem(t, "a set without its closing bracket");
        } else if (accept(t, "&&")) {
            if (empty || *count == OPERAND_LIMIT || looking_at(t, "]")) {
                good = problem(t, "&& without an operand, or more than %d", OPERAND_LIMIT);
            } else {
                set_init(&operands[(*count)++], t->arena);
            }
        } else {
            good = parse_set_item(t, fold_case, set);
        }
    }
    t->depth--;
    if (!good) {
        for (size_t i = 0; i < *count; i++)
            qc_str_fini(&operands[i].members);
    }
    return good;
}

static bool translate_set(translator *t, bool fold_case)
{
    char_set operands[OPERAND_LIMIT];
    size_t count;
    bool negated;
    if (!parse_set(t, fold_case, operands, &count, &negated))
        return false;
    if (count > 1)
        qc_str_add(&t->out, "(?:");
    for (size_t i = 0; i < count; i++) {
        bool last = i + 1 == count;
        if (!negated && !last)
            qc_str_add(&t->out, "(?=");
        write_set(&t->out, &operands[i], negated);
        if (!last)
            qc_str_add_char(&t->out, negated ? '|' : ')');
        qc_str_fini(&operands[i].members);
    }
    if (count > 1)
        qc_str_add_char(&t->out, ')');
    return true;
}

/* ---- atoms, repeats, groups ---------------------------------------------------------------------------- */

/* Behind a backslash outside of sets. *repeats: whether a quantifier may follow. *literal: the character. */
static bool translate_escape(translator *t, bool fold_case, bool *repeats, uint32_t *literal)
{
    bool complement;
    char_set set;
    set_init(&set, t->arena);
    int taken = parse_class_escape(t, fold_case, false, &set.members, &complement);
    if (taken > 0)
        write_set(&t->out, &set, complement);
    if (taken == 0 && (looking_at(t, "b") || looking_at(t, "B"))) {
        qc_str word;
        qc_str_init(&word, t->arena);
        add_word_members(&word, false);
        bool boundary = *t->at++ == 'b';
        qc_str_addf(&t->out, "(?:(?<=[%s])(?%c[%s])|(?<![%s])(?%c[%s]))", word.data, boundary ? '!' : '=',
            word.data, word.data, boundary ? '=' : '!', word.data);
        qc_str_fini(&word);
        *repeats = false;
        taken = 1;
    } else if (taken == 0 && (looking_at(t, "A") || looking_at(t, "z") || looking_at(t, "Z"))) {
        qc_str_addf(&t->out, "\\%c", *t->at++);
        *repeats = false;
        taken = 1;
    } else if (taken == 0) {
        taken = parse_char_escape(t, literal) ? 1 : -1;
        if (taken > 0)
            add_code(&t->out, *literal);
    }
    qc_str_fini(&set.members);
    return taken > 0;
}

static bool translate_group(translator *t, bool fold_case, bool *repeats)
{
    static const struct {
        const char *open, *written;
        bool repeats;
    } groups[] = {{"?:", "(?:", true}, {"?=", "(?=", false}, {"?!", "(?!", false}, {"?<=", "(?<=", false},
        {"?<!", "(?<!", false}, {"?>", "(?>", true}};
    bool found = false;
    for (size_t i = 0; i < sizeof groups / sizeof *groups && !found; i++) {
        found = accept(t, groups[i].open);
        if (found) {
            qc_str_add(&t->out, groups[i].written);
            *repeats = groups[i].repeats;
        }
    }
    if (!found && accept(t, "?i:")) {
        qc_str_add(&t->out, "(?i:");
        fold_case = true;
    } else if (!found && accept(t, "?-i:")) {
        qc_str_add(&t->out, "(?-i:");
        fold_case = false;
    } else if (!found && looking_at(t, "?")) {
        return problem(t, "group \"(%.3s\"", t->at);
    } else if (!found) {
        qc_str_add(&t->out, "(?:");
    }
    if (!parse_alternatives(t, fold_case))
        return false;
    if (!accept(t, ")"))
        return problem(t, "a group without its closing parenthesis");
    qc_str_add_char(&t->out, ')');
    return true;
}

/* Reads {n}, {n,}, {,m} or {n,m} and writes it; false and nothing read when there is none. */
static bool translate_interval(translator *t, bool *fixed)
{
    const char *p = t->at;
    unsigned long low = 0, high = 0;
    bool has_low = false, has_high = false, comma = false;
    if (p == t->end || *p++ != '{')
        return false;
    for (; p < t->end && *p >= '0' && *p <= '9' && low <= REPEAT_LIMIT; p++, has_low = true)
        low = low * 10 + (unsigned long)(*p - '0');
    if (p < t->end && *p == ',') {
        comma = true;
        for (p++; p < t->end && *p >= '0' && *p <= '9' && high <= REPEAT_LIMIT; p++, has_high = true)
            high = high * 10 + (unsigned long)(*p - '0');
    }
    if (p == t->end || *p != '}' || (!has_low && !has_high))
        return false;
    t->at = p + 1;
    *fixed = !comma;
    if (low > REPEAT_LIMIT || high > REPEAT_LIMIT || (has_high && high < low))
        return problem(t, "a repeat count out of range");
    qc_str_addf(&t->out, comma ? has_high ? "{%lu,%lu}" : "{%lu,}" : "{%lu}", low, high);
    return true;
}

/* The quantifier of the atom whose text starts at out[atom]. */
static bool translate_repeat(translator *t, size_t atom, bool repeats)
{
    bool fixed = false, interval = false;
    if (t->at == t->end)
        return true;
    if (looking_at(t, "*") || looking_at(t, "+") || looking_at(t, "?"))
        qc_str_add_char(&t->out, *t->at++);
    else if (!(interval = translate_interval(t, &fixed)))
        return !t->problem;
    if (!repeats)
        return problem(t, "a repeated assertion");
    if (interval && fixed && looking_at(t, "?"))
        return problem(t, "\"{n}?\"");
    if (looking_at(t, "?") || (looking_at(t, "+") && !interval)) {
        qc_str_add_char(&t->out, *t->at++);
    } else if (looking_at(t, "+")) {
        const char *body = qc_arena_strdup(t->arena, t->out.data + atom);
        t->at++;
        t->out.length = atom;
        t->out.data[atom] = '\0';
        qc_str_addf(&t->out, "(?:%s)+", body);
    }
    bool again = t->at < t->end && (*t->at == '*' || *t->at == '+' || *t->at == '?');
    return !again && !t->problem ? true : problem(t, "a repeated repeat");
}

/* Oniguruma folds some pairs of letters into one character ("ss" matches U+00DF); PCRE2 does not. */
static bool folds_with(uint32_t previous, uint32_t code)
{
    uint32_t a = previous | 32, b = code | 32;
    return (a == 's' && (b == 's' || b == 't')) || (a == 'f' && (b == 'f' || b == 'i' || b == 'l'));
}

static bool translate_atom(translator *t, bool fold_case, uint32_t *previous)
{
    size_t atom = t->out.length, size;
    bool repeats = true, good = true;
    uint32_t literal = 0;
    if (accept(t, "(")) {
        good = translate_group(t, fold_case, &repeats);
    } else if (accept(t, "[")) {
        good = translate_set(t, fold_case);
    } else if (accept(t, "\\")) {
        good = translate_escape(t, fold_case, &repeats, &literal);
    } else if (accept(t, ".")) {
        qc_str_add(&t->out, "[^\\n]");
    } else if (looking_at(t, "^") || looking_at(t, "$")) {
        qc_str_addf(&t->out, "(?m:%c)", *t->at++);
        repeats = false;
    } else if (looking_at(t, "*") || looking_at(t, "+") || looking_at(t, "?")) {
        good = problem(t, "a repeat of nothing");
    } else {
        literal = qc_text_get(t->at, (size_t)(t->end - t->at), &size);
        t->at += size;
        add_code(&t->out, literal);
    }
    if (good && fold_case && literal >= 0x80)
        good = problem(t, "a character beyond ASCII where case is ignored");
    if (good && fold_case && folds_with(*previous, literal))
        good = problem(t, "\"%c%c\" where case is ignored", (char)*previous, (char)literal);
    *previous = literal;
    return good && translate_repeat(t, atom, repeats);
}

/* Up to the closing parenthesis or the end. */
static bool parse_alternatives(translator *t, bool fold_case)
{
    uint32_t previous = 0;
    if (++t->depth > DEPTH_LIMIT)
        return problem(t, "nesting of more than %d", DEPTH_LIMIT);
    while (t->at < t->end && *t->at != ')') {
        if (accept(t, "|")) {
            qc_str_add_char(&t->out, '|');
            previous = 0;
        } else if (!translate_atom(t, fold_case, &previous)) {
            return false;
        }
    }
    t->depth--;
    return true;
}

bool qc_text_regex_translate(
    qc_arena *arena, const char *pattern, size_t length, qc_str *out, const char **what_is_wrong)
{
    translator t = {.arena = arena, .at = pattern, .end = pattern + length, .out = *out};
    bool fold_case = accept(&t, "(?i)");
    if (fold_case)
        qc_str_add(&t.out, "(?i)");
    bool good = parse_alternatives(&t, fold_case);
    if (good && t.at < t.end)
        good = problem(&t, "an unmatched closing parenthesis");
    *out = t.out;
    *what_is_wrong = t.problem;
    return good;
}
