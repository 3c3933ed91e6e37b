/* SPDX-License-Identifier: MIT
 *
 * str.h - a string that grows, and the few string functions that several folders need.
 */
#ifndef QC_SUPPORT_STR_H
#define QC_SUPPORT_STR_H

#include "ir/support/arena.h"

/* Growing, always NUL-terminated text in malloc'ed memory (it may become hundreds of MB). The oom handler of
 * `arena` is used, nothing is allocated from it. */
typedef struct qc_str {
    char *data; /* never NULL after qc_str_init */
    size_t length, capacity;
    qc_oom_fn oom;
} qc_str;

void qc_str_init(qc_str *s, const qc_arena *arena);
void qc_str_fini(qc_str *s);
void qc_str_clear(qc_str *s);
void qc_str_reserve(qc_str *s, size_t more);
void qc_str_add_bytes(qc_str *s, const char *bytes, size_t length);
void qc_str_add(qc_str *s, const char *text);
void qc_str_add_char(qc_str *s, char c);
void qc_str_add_int(qc_str *s, int64_t value);
void qc_str_addf(qc_str *s, const char *format, ...) QC_PRINTF(2, 3);
/* "text" with \" \\ \n \t \r \u00XX escapes; bytes >= 0x80 as they are. */
void qc_str_add_quoted(qc_str *s, const char *text, size_t length);
/* The shortest decimal that reads back as the same double (as the same float for _f32, the same bfloat16 for
 * _bf16, the same half for _f16), with a '.' or an exponent always: 1.0, 0.1, 1e-05, inf, -inf, nan. The
 * exponent form is Python's repr: used when the exponent is < -4 or >= 16. */
void qc_str_add_f64(qc_str *s, double value);
void qc_str_add_f32(qc_str *s, float value);
void qc_str_add_bf16(qc_str *s, float value);
void qc_str_add_f16(qc_str *s, float value);

/* The double nearest to the decimal text[length] ([+-]digits[.digits][e[+-]digits], already checked by the
 * caller); infinite when too large, NaN only when memory runs out. Does not depend on the locale. */
double qc_decimal_to_f64(const char *text, size_t length);

/* Length (1 to 4) of the valid UTF-8 sequence that begins at `at`, with room > 0 bytes to read; 0 if there is
 * none (RFC 3629 section 4: no surrogates, no overlong forms). */
int qc_utf8_length(const unsigned char *at, size_t room);

bool qc_starts_with(const char *text, const char *prefix);
bool qc_ends_with(const char *text, const char *suffix);
/* The entry of names[count] nearest to `name` by edit distance, or NULL when none is near enough to suggest
 * (distance more than a third of the longer length, at least 1). Where more than two letters differ, the first entry
 * that goes on behind a `name` of at least three is nearer: quant-fp8 means quant-fp8-attn, not quant-kv. */
const char *qc_nearest_name(const char *name, const char *const *names, size_t count);

#endif
