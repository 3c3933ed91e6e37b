/* SPDX-License-Identifier: MIT
 *
 * json.h - JSON as RFC 8259 says, read into an arena, with what config files and safetensors headers need and
 * cJSON loses: numbers keep their source token, 64-bit integers are exact, duplicate keys are refused, keys
 * keep their order, members are found by hash, errors carry line and column, nesting is bounded. Strings must
 * be valid UTF-8; \u escapes incl. surrogate pairs are decoded; a lone surrogate is an error. The writer
 * emits Python's json.dumps dialect (ensure_ascii), which byte-equal config files need.
 */
#ifndef QC_SUPPORT_JSON_H
#define QC_SUPPORT_JSON_H

#include "ir/support/diag.h"
#include "ir/support/map.h"
#include "ir/support/str.h"

typedef enum qc_json_kind {
    QC_JSON_NULL,
    QC_JSON_BOOL,
    QC_JSON_NUMBER,
    QC_JSON_STRING,
    QC_JSON_ARRAY,
    QC_JSON_OBJECT,
} qc_json_kind;

typedef struct qc_json qc_json;
struct qc_json {
    qc_json_kind kind;
    bool boolean;
    bool is_integer;  /* number: token has no fraction or exponent and fits int64 */
    int64_t integer;  /* valid when is_integer */
    double number;    /* always valid for numbers */
    const char *text; /* string: decoded, NUL-terminated (may hold NULs: see length); number: source token */
    size_t length;    /* of text, or count of items */
    const char *key;  /* name of this member in its object, else NULL */
    size_t key_length;
    qc_json *first, *next; /* children of array/object in order; next sibling */
    qc_json *last;         /* the last child, so that appending takes no walk */
    qc_map *members;       /* object: key -> qc_json *; NULL in small ones: use qc_json_get */
    uint32_t line;         /* where the value starts, from 1 */
};

/* Parses one value that fills the text (white space aside). `where` names the source in errors
 * (`where:line:col: ...`). NULL on error. Nesting is bounded by 256; a number that is no finite double is an
 * error. */
qc_json *qc_json_parse(qc_diag *diag, qc_arena *arena, const char *where, const char *text, size_t length);
/* The same for a value that starts on line `line` of its file (JSONL). */
qc_json *qc_json_parse_line(
    qc_diag *diag, qc_arena *arena, const char *where, uint32_t line, const char *text, size_t length);
/* Member of an object, NULL when absent or not an object. */
const qc_json *qc_json_get(const qc_json *object, const char *key);
/* Child number `index`, NULL when there is none. Walks the chain: a loop over all goes by first and next. */
const qc_json *qc_json_at(const qc_json *array, size_t index);

/* Typed access with errors "where: KEY must be ...". A missing key gives the default without error when
 * `required` is false; JSON null counts as missing. */
qc_status qc_json_int(
    qc_diag *diag, const char *where, const qc_json *object, const char *key, bool required, int64_t *value);
qc_status qc_json_double(
    qc_diag *diag, const char *where, const qc_json *object, const char *key, bool required, double *value);
qc_status qc_json_bool(
    qc_diag *diag, const char *where, const qc_json *object, const char *key, bool required, bool *value);
qc_status qc_json_string(qc_diag *diag, const char *where, const qc_json *object, const char *key,
    bool required, const char **value);

/* Building: values owned by the arena. */
qc_json *qc_json_new(qc_arena *arena, qc_json_kind kind);
qc_json *qc_json_new_int(qc_arena *arena, int64_t value);
/* Token as Python's repr; null for infinities and NaN, which JSON has not. */
qc_json *qc_json_new_double(qc_arena *arena, double value);
qc_json *qc_json_new_bool(qc_arena *arena, bool value);
qc_json *qc_json_new_string(qc_arena *arena, const char *text);
/* Appends to an array; sets (replaces in place, else appends) in an object. `value` must have no parent. */
void qc_json_push(qc_arena *arena, qc_json *array, qc_json *value);
void qc_json_set(qc_arena *arena, qc_json *object, const char *key, qc_json *value);

/* Text as Python's json.dumps(value, indent=indent, sort_keys=sort_keys, ensure_ascii=True); indent < 0 is
 * the compact one-line form with ", " and ": ". Numbers are written as Python would after reading their
 * token: integers as they are, floats as repr(float(token)). */
void qc_json_write(qc_str *out, const qc_json *value, int indent, bool sort_keys);
/* The same with ensure_ascii=False: characters beyond ASCII as they are. */
void qc_json_write_utf8(qc_str *out, const qc_json *value, int indent);

#endif
