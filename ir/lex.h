/* SPDX-License-Identifier: MIT
 *
 * lex.h - the characters of IR text: a cursor, white space and comments, names, numbers, strings. The parser
 * (parse.c, parse_attr.c) is built on it. The first error sticks; everything after it is skipped quietly.
 */
#ifndef QC_LEX_H
#define QC_LEX_H

#include "ir/ir.h"

typedef struct qc_lexer {
    qc_ctx *ctx;
    qc_arena *scratch; /* gone when the parser is done */
    const char *name;  /* of the file */
    const char *text, *end, *at;
    const char *line_start; /* of the line of `at` */
    uint32_t line;          /* of `at`, from 1 */
    bool failed;
} qc_lexer;

/* Reports `name:line:col: ...` at `at`; QC_ERROR. Only the first error is reported. */
qc_status qc_lex_error(qc_lexer *l, const char *at, const char *format, ...) QC_PRINTF(3, 4) QC_COLD;
/* "name:line:col" of a place in the text, in scratch memory. */
const char *qc_lex_place(qc_lexer *l, const char *at) QC_COLD;
void qc_lex_skip_more(qc_lexer *l);

/* Skips blanks, newlines and // comments. Most tokens stand behind one blank or none. */
static inline void qc_lex_skip(qc_lexer *l)
{
    if (l->at < l->end && *l->at == ' ')
        l->at++;
    if (l->at == l->end || (unsigned char)*l->at <= ' ' || *l->at == '/')
        qc_lex_skip_more(l);
}

/* Skips, then gives where the next token begins. */
static inline const char *qc_lex_here(qc_lexer *l)
{
    qc_lex_skip(l);
    return l->at;
}

/* Skips, then: is the next character `c`? */
static inline bool qc_lex_peek(qc_lexer *l, char c)
{
    qc_lex_skip(l);
    return l->at < l->end && *l->at == c && !l->failed;
}

/* Takes the punctuation `c` when it is next. */
static inline bool qc_lex_take_char(qc_lexer *l, char c)
{
    bool is = qc_lex_peek(l, c);
    l->at += is;
    return is;
}

bool qc_lex_expect_char(qc_lexer *l, char c);
/* Takes the word (or "->") when it is next. */
bool qc_lex_take(qc_lexer *l, const char *token);
bool qc_lex_expect(qc_lexer *l, const char *token);
/* [A-Za-z_][A-Za-z0-9_]*; false (no error) when the next token is none. */
bool qc_lex_word(qc_lexer *l, const char **word, size_t *length);
bool qc_lex_is_word(qc_lexer *l, const char *word);
/* Letters, digits, '_' and '.' after a '%'. */
bool qc_lex_value_name(qc_lexer *l, const char **name, size_t *length);
/* A quoted string, decoded; it lies in the text or in scratch memory and no NUL follows it. */
bool qc_lex_string_view(qc_lexer *l, const char **text, size_t *length);
/* The same, interned. */
bool qc_lex_string(qc_lexer *l, const char **text);
bool qc_lex_int(qc_lexer *l, int64_t *value);
/* A sign and a magnitude of 64 bits. */
bool qc_lex_integer(qc_lexer *l, bool *negative, uint64_t *magnitude);
/* Takes [-]digits[.digits][e[+-]digits], inf, -inf or nan; false after an error when it is none of these. */
bool qc_lex_number(qc_lexer *l, const char **number, size_t *length);

/* An attribute value. DATA lists are read by qc_parse_data. */
const qc_attr *qc_parse_attr(qc_lexer *l);
/* {key = value, flag, ...} */
const qc_attr *qc_parse_map(qc_lexer *l);
/* A dimension expression, and a type "bf16[B, S, 64]". */
const qc_dim *qc_parse_dim(qc_lexer *l);
const qc_type *qc_parse_type(qc_lexer *l);

/* The elements between [ and ] as written; encoded once the type is known. */
typedef struct qc_number_text {
    const char *at;
    size_t length;
} qc_number_text;
typedef QC_VEC(qc_number_text) qc_data_list;
bool qc_parse_data_tokens(qc_lexer *l, qc_data_list *list);
const qc_attr *qc_parse_data_encode(qc_lexer *l, const qc_data_list *list, qc_dtype dtype);

#endif
