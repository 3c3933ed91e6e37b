/* SPDX-License-Identifier: MIT
 *
 * json.c - a recursive-descent reader of RFC 8259 and the tree it makes. Values, names and strings live in
 * the arena.
 *
 * Invariants: an object's members map holds every member under its name; a value's key is the map's copy of
 * the name; `last` is the end of the `first` ... `next` chain.
 */
#include "ir/support/json.h"

#include <math.h>

enum {
    DEPTH_LIMIT = 256,
    SMALL_OBJECT_KEYS = 8, /* up to here comparing is cheaper than a map */
};

typedef struct parser {
    qc_diag *diag;
    qc_arena *arena;
    const char *where;
    const char *at, *end, *line_start;
    uint32_t line;
    qc_str scratch; /* the string being decoded */
} parser;

static QC_COLD bool fail_at(parser *p, const char *at, const char *what)
{
    const char *where =
        qc_arena_printf(p->diag->arena, "%s:%u:%td", p->where, p->line, at - p->line_start + 1);
    qc_error(p->diag, where, "%s", what);
    return false;
}

static QC_COLD bool fail_text(parser *p, const char *at, const char *format, const char *text, size_t length)
{
    enum { SHOWN_BYTES = 80 };
    bool whole = length <= SHOWN_BYTES;
    qc_str shown;
    qc_str_init(&shown, p->diag->arena);
    qc_str_add_quoted(&shown, text, whole ? length : SHOWN_BYTES);
    qc_str_add(&shown, whole ? "" : "...");
    const char *where =
        qc_arena_printf(p->diag->arena, "%s:%u:%td", p->where, p->line, at - p->line_start + 1);
    qc_error(p->diag, where, format, shown.data);
    qc_str_fini(&shown);
    return false;
}

static void skip_space(parser *p)
{
    for (; p->at < p->end; p->at++) {
        if (*p->at == '\n') {
            p->line++;
            p->line_start = p->at + 1;
        } else if (*p->at != ' ' && *p->at != '\t' && *p->at != '\r') {
            return;
        }
    }
}

static void add_utf8(qc_str *out, uint32_t code)
{
    char bytes[4];
    size_t length;
    if (code < 0x80) {
        bytes[0] = (char)code;
        length = 1;
    } else if (code < 0x800) {
        bytes[0] = (char)(0xc0 | code >> 6);
        length = 2;
    } else if (code < 0x10000) {
        bytes[0] = (char)(0xe0 | code >> 12);
        length = 3;
    } else {
        bytes[0] = (char)(0xf0 | code >> 18);
        length = 4;
    }
    for (size_t i = 1; i < length; i++)
        bytes[i] = (char)(0x80 | (code >> 6 * (length - 1 - i) & 0x3f));
    qc_str_add_bytes(out, bytes, length);
}

/* The four hex digits after \u at p->at; moves behind them. -1 when they are not there. */
static int32_t read_hex4(parser *p)
{
    if (p->end - p->at < 4)
        return -1;
    int32_t code = 0;
    for (int i = 0; i < 4; i++) {
        char c = p->at[i];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0)
            return -1;
        code = code * 16 + digit;
    }
    p->at += 4;
    return code;
}

/* p->at is behind the backslash. */
static bool read_escape(parser *p)
{
    const char *start = p->at - 1;
    if (p->at == p->end)
        return fail_at(p, start, "string does not end");
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    char c = *p->at++;
    const char *name = c ? strchr(names, c) : NULL;
    if (name) {
        qc_str_add_char(&p->scratch, values[name - names]);
        return true;
    }
    if (c != 'u')
        return fail_at(p, start, "unknown escape in string");
    int32_t code = read_hex4(p);
    if (code < 0)
        return fail_at(p, start, "\\u must be followed by four hex digits");
    if (code >= 0xd800 && code <= 0xdbff && p->end - p->at >= 2 && p->at[0] == '\\' && p->at[1] == 'u') {
        p->at += 2;
        int32_t low = read_hex4(p);
        if (low < 0xdc00 || low > 0xdfff)
            return fail_at(p, start, "lone surrogate in string");
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    } else if (code >= 0xd800 && code <= 0xdfff) {
        return fail_at(p, start, "lone surrogate in string");
    }
    add_utf8(&p->scratch, (uint32_t)code);
    return true;
}

/* Decodes the string whose opening quote is at p->at: *text is in the source when it has no escapes, else in
 * p->scratch. */
static bool read_string(parser *p, const char **text, size_t *length)
{
    const char *open = p->at++, *run = p->at;
    bool escaped = false;
    qc_str_clear(&p->scratch);
    for (;;) {
        if (p->at == p->end)
            return fail_at(p, open, "string does not end");
        unsigned char c = (unsigned char)*p->at;
        if (c == '"')
            break;
        if (c == '\\') {
            escaped = true;
            qc_str_add_bytes(&p->scratch, run, (size_t)(p->at - run));
            p->at++;
            if (!read_escape(p))
                return false;
            run = p->at;
        } else if (c < 0x20) {
            return fail_at(p, p->at, "control character in string must be escaped");
        } else if (c < 0x80) {
            p->at++;
        } else {
            int bytes = qc_utf8_length((const unsigned char *)p->at, (size_t)(p->end - p->at));
            if (!bytes)
                return fail_at(p, p->at, "string is not valid UTF-8");
            p->at += bytes;
        }
    }
    *text = run;
    *length = (size_t)(p->at - run);
    p->at++;
    if (escaped) {
        qc_str_add_bytes(&p->scratch, *text, *length);
        *text = p->scratch.data;
        *length = p->scratch.length;
    }
    return true;
}

static size_t skip_digits(parser *p)
{
    const char *start = p->at;
    while (p->at < p->end && *p->at >= '0' && *p->at <= '9')
        p->at++;
    return (size_t)(p->at - start);
}

static bool to_int64(const char *text, size_t length, int64_t *value)
{
    bool negative = text[0] == '-';
    int64_t result = 0;
    for (size_t i = negative; i < length; i++)
        if (__builtin_mul_overflow(result, 10, &result) ||
            __builtin_sub_overflow(result, text[i] - '0', &result)) /* the negative range is the larger one */
            return false;
    if (!negative && result == INT64_MIN)
        return false;
    *value = negative ? result : -result;
    return true;
}

static bool read_number(parser *p, qc_json *value)
{
    const char *start = p->at;
    bool whole = true;
    p->at += *p->at == '-';
    const char *digits = p->at;
    size_t digit_count = skip_digits(p);
    if (digit_count == 0)
        return fail_at(p, start, "number has no digits");
    if (digit_count > 1 && *digits == '0')
        return fail_at(p, start, "number must not begin with 0");
    if (p->at < p->end && *p->at == '.') {
        whole = false;
        p->at++;
        if (!skip_digits(p))
            return fail_at(p, start, "number has no digits after the point");
    }
    if (p->at < p->end && (*p->at == 'e' || *p->at == 'E')) {
        whole = false;
        p->at++;
        if (p->at < p->end && (*p->at == '+' || *p->at == '-'))
            p->at++;
        if (!skip_digits(p))
            return fail_at(p, start, "number has no digits in its exponent");
    }
    value->length = (size_t)(p->at - start);
    value->text = qc_arena_strndup(p->arena, start, value->length);
    value->is_integer = whole && to_int64(start, value->length, &value->integer);
    value->number = value->is_integer && value->integer ? (double)value->integer
                                                        : qc_decimal_to_f64(start, value->length);
    return isfinite(value->number) || fail_at(p, start, "number is too large");
}

static bool read_word(parser *p, const char *word)
{
    size_t length = strlen(word);
    if ((size_t)(p->end - p->at) < length || memcmp(p->at, word, length) != 0)
        return fail_at(p, p->at, "expected a value");
    p->at += length;
    return true;
}

static void append(qc_json *parent, qc_json *child)
{
    if (parent->last)
        parent->last->next = child;
    else
        parent->first = child;
    parent->last = child;
    parent->length++;
}

/* The member of this name, NULL when absent. */
static qc_json *find_key(const qc_json *object, const char *key, size_t length)
{
    if (object->members)
        return qc_map_get_n(object->members, key, length);
    for (qc_json *member = object->first; member; member = member->next)
        if (member->key_length == length && memcmp(member->key, key, length) == 0)
            return member;
    return NULL;
}

/* Appends a member whose name the object does not have. */
static void add_member(qc_arena *arena, qc_json *object, const char *key, size_t length, qc_json *value)
{
    value->key = qc_arena_strndup(arena, key, length);
    value->key_length = length;
    append(object, value);
    if (object->members) {
        qc_map_set_n(object->members, key, length, value);
    } else if (object->length > SMALL_OBJECT_KEYS) {
        object->members = QC_NEW(arena, qc_map);
        qc_map_init(object->members, arena);
        for (qc_json *member = object->first; member; member = member->next)
            qc_map_set_n(object->members, member->key, member->key_length, member);
    }
}

static bool read_value(parser *p, qc_json *value, int depth);

/* p->at is at the name of a member. */
static bool read_member(parser *p, qc_json *object, int depth)
{
    const char *start = p->at, *key;
    size_t length;
    if (p->at == p->end || *p->at != '"')
        return fail_at(p, p->at, "expected a name in double quotes");
    if (!read_string(p, &key, &length))
        return false;
    if (find_key(object, key, length))
        return fail_text(p, start, "name %s occurs twice in one object", key, length);
    qc_json *value = QC_NEW(p->arena, qc_json);
    add_member(p->arena, object, key, length, value);
    skip_space(p);
    if (p->at == p->end || *p->at != ':')
        return fail_at(p, p->at, "expected ':' after the name");
    p->at++;
    return read_value(p, value, depth);
}

static bool read_container(parser *p, qc_json *container, char close, int depth)
{
    if (depth == 0)
        return fail_at(p, p->at, "values are nested deeper than 256");
    p->at++;
    skip_space(p);
    if (p->at < p->end && *p->at == close) {
        p->at++;
        return true;
    }
    for (;;) {
        bool good;
        if (close == '}') {
            good = read_member(p, container, depth - 1);
        } else {
            qc_json *item = QC_NEW(p->arena, qc_json);
            append(container, item);
            good = read_value(p, item, depth - 1);
        }
        if (!good)
            return false;
        skip_space(p);
        if (p->at < p->end && *p->at == close) {
            p->at++;
            return true;
        }
        if (p->at == p->end || *p->at != ',')
            return fail_at(p, p->at, close == '}' ? "expected ',' or '}'" : "expected ',' or ']'");
        p->at++;
        skip_space(p);
    }
}

static bool read_value(parser *p, qc_json *value, int depth)
{
    skip_space(p);
    value->line = p->line;
    if (p->at == p->end)
        return fail_at(p, p->at, "text ends where a value is expected");
    const char *text;
    switch (*p->at) {
    case '{':
        value->kind = QC_JSON_OBJECT;
        return read_container(p, value, '}', depth);
    case '[':
        value->kind = QC_JSON_ARRAY;
        return read_container(p, value, ']', depth);
    case '"':
        value->kind = QC_JSON_STRING;
        if (!read_string(p, &text, &value->length))
            return false;
        value->text = qc_arena_strndup(p->arena, text, value->length);
        return true;
    case 't':
        value->kind = QC_JSON_BOOL;
        value->boolean = true;
        return read_word(p, "true");
    case 'f':
        value->kind = QC_JSON_BOOL;
        return read_word(p, "false");
    case 'n':
        value->kind = QC_JSON_NULL;
        return read_word(p, "null");
    default:
        if (*p->at != '-' && (*p->at < '0' || *p->at > '9'))
            return fail_at(p, p->at, "expected a value");
        value->kind = QC_JSON_NUMBER;
        return read_number(p, value);
    }
}

qc_json *qc_json_parse(qc_diag *diag, qc_arena *arena, const char *where, const char *text, size_t length)
{
    return qc_json_parse_line(diag, arena, where, 1, text, length);
}

qc_json *qc_json_parse_line(
    qc_diag *diag, qc_arena *arena, const char *where, uint32_t line, const char *text, size_t length)
{
    parser p = {.diag = diag, .arena = arena, .where = where, .line = line};
    p.at = p.line_start = text;
    p.end = text + length;
    qc_str_init(&p.scratch, arena);
    qc_json *value = QC_NEW(arena, qc_json);
    bool good = read_value(&p, value, DEPTH_LIMIT);
    if (good) {
        skip_space(&p);
        good = p.at == p.end || fail_at(&p, p.at, "text goes on after the value");
    }
    qc_str_fini(&p.scratch);
    return good ? value : NULL;
}

const qc_json *qc_json_get(const qc_json *object, const char *key)
{
    return object && object->kind == QC_JSON_OBJECT ? find_key(object, key, strlen(key)) : NULL;
}

const qc_json *qc_json_at(const qc_json *array, size_t index)
{
    if (!array || (array->kind != QC_JSON_ARRAY && array->kind != QC_JSON_OBJECT) || index >= array->length)
        return NULL;
    const qc_json *item = array->first;
    while (index--)
        item = item->next;
    return item;
}

/* The member that is there and not null. NULL: *status says whether that is an error. */
static const qc_json *find_member(qc_diag *diag, const char *where, const qc_json *object, const char *key,
    bool required, qc_status *status)
{
    const qc_json *value = qc_json_get(object, key);
    *status = QC_OK;
    if (value && value->kind != QC_JSON_NULL)
        return value;
    if (required)
        *status = qc_error(diag, where, "%s is missing", key);
    return NULL;
}

qc_status qc_json_int(
    qc_diag *diag, const char *where, const qc_json *object, const char *key, bool required, int64_t *value)
{
    qc_status status;
    const qc_json *member = find_member(diag, where, object, key, required, &status);
    if (!member)
        return status;
    if (member->kind != QC_JSON_NUMBER || !member->is_integer)
        return qc_error(diag, where, "%s must be an integer of at most 64 bits", key);
    *value = member->integer;
    return QC_OK;
}

qc_status qc_json_double(
    qc_diag *diag, const char *where, const qc_json *object, const char *key, bool required, double *value)
{
    qc_status status;
    const qc_json *member = find_member(diag, where, object, key, required, &status);
    if (!member)
        return status;
    if (member->kind != QC_JSON_NUMBER)
        return qc_error(diag, where, "%s must be a number", key);
    *value = member->number;
    return QC_OK;
}

qc_status qc_json_bool(
    qc_diag *diag, const char *where, const qc_json *object, const char *key, bool required, bool *value)
{
    qc_status status;
    const qc_json *member = find_member(diag, where, object, key, required, &status);
    if (!member)
        return status;
    if (member->kind != QC_JSON_BOOL)
        return qc_error(diag, where, "%s must be true or false", key);
    *value = member->boolean;
    return QC_OK;
}

qc_status qc_json_string(qc_diag *diag, const char *where, const qc_json *object, const char *key,
    bool required, const char **value)
{
    qc_status status;
    const qc_json *member = find_member(diag, where, object, key, required, &status);
    if (!member)
        return status;
    if (member->kind != QC_JSON_STRING)
        return qc_error(diag, where, "%s must be a string", key);
    if (strlen(member->text) != member->length)
        return qc_error(diag, where, "%s must be a string without NUL characters", key);
    *value = member->text;
    return QC_OK;
}

qc_json *qc_json_new(qc_arena *arena, qc_json_kind kind)
{
    qc_json *value = QC_NEW(arena, qc_json);
    value->kind = kind;
    if (kind == QC_JSON_STRING)
        value->text = "";
    if (kind == QC_JSON_NUMBER) {
        value->text = "0";
        value->length = 1;
        value->is_integer = true;
    }
    return value;
}

qc_json *qc_json_new_int(qc_arena *arena, int64_t value)
{
    qc_json *node = qc_json_new(arena, QC_JSON_NUMBER);
    node->integer = value;
    node->number = (double)value;
    node->text = qc_arena_printf(arena, "%lld", (long long)value);
    node->length = strlen(node->text);
    return node;
}

qc_json *qc_json_new_double(qc_arena *arena, double value)
{
    if (!isfinite(value)) /* JSON has no such number */
        return qc_json_new(arena, QC_JSON_NULL);
    qc_json *node = qc_json_new(arena, QC_JSON_NUMBER);
    qc_str token;
    qc_str_init(&token, arena);
    qc_str_add_f64(&token, value);
    node->is_integer = false;
    node->number = value;
    node->text = qc_arena_strndup(arena, token.data, token.length);
    node->length = token.length;
    qc_str_fini(&token);
    return node;
}

qc_json *qc_json_new_bool(qc_arena *arena, bool value)
{
    qc_json *node = qc_json_new(arena, QC_JSON_BOOL);
    node->boolean = value;
    return node;
}

qc_json *qc_json_new_string(qc_arena *arena, const char *text)
{
    qc_json *node = qc_json_new(arena, QC_JSON_STRING);
    node->length = strlen(text);
    node->text = qc_arena_strndup(arena, text, node->length);
    return node;
}

void qc_json_push(qc_arena *arena, qc_json *array, qc_json *value)
{
    (void)arena;
    append(array, value);
}

void qc_json_set(qc_arena *arena, qc_json *object, const char *key, qc_json *value)
{
    size_t length = strlen(key);
    qc_json *old = find_key(object, key, length);
    if (!old) {
        add_member(arena, object, key, length, value);
        return;
    }
    if (old == value)
        return;
    qc_json **link = &object->first;
    while (*link != old)
        link = &(*link)->next;
    *link = value;
    value->next = old->next;
    value->key = old->key;
    value->key_length = length;
    if (object->last == old)
        object->last = value;
    old->next = NULL;
    old->key = NULL;
    if (object->members)
        qc_map_set_n(object->members, value->key, length, value);
}
