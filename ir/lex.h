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
    const char *name; /* of the file */
    const char *text, *end, *at;
    const char *line_start; /* of the line of `at` */
    uint32_t line;          /* of `at`, from 1 */
    char *place;            /* buffer of qc_lex_place */
    bool failed;
} qc_lexer;

/* Reports `name:line:col: ...` at `at`; QC_ERROR. Only the first error is reported. */
qc_status qc_lex_error(qc_lexer *l, const char *at, const char *format, ...) QC_PRINTF(3, 4) QC_COLD;
/* "name:line:col" of a place in the text; good until the next call. Quick on the line of `at`. */
const char *qc_lex_place(qc_lexer *l, const char *at);
/* Skips blanks, newlines and // comments. */
void qc_lex_skip(qc_lexer *l);
/* Skips, then: is the next character `c`? */
bool qc_lex_peek(qc_lexer *l, char c);
/* Takes `token` when it is next. */
bool qc_lex_take(qc_lexer *l, const char *token);
bool qc_lex_expect(qc_lexer *l, const char *token);
/* [A-Za-z_][A-Za-z0-9_]*; false (no error) when the next token is none. */
bool qc_lex_word(qc_lexer *l, const char **word, size_t *length);
bool qc_lex_is_word(qc_lexer *l, const char *word);
/* Letters, digits, '_' and '.' after a '%'. */
bool qc_lex_value_name(qc_lexer *l, const char **name, size_t *length);
/* A quoted string, decoded into the context's memory. */
bool qc_lex_string(qc_lexer *l, const char **text);
bool qc_lex_int(qc_lexer *l, int64_t *value);

/* An attribute value. DATA lists are read by qc_parse_data. */
const qc_attr *qc_parse_attr(qc_lexer *l);
/* {key = value, flag, ...} */
const qc_attr *qc_parse_map(qc_lexer *l);
/* A dimension expression, and a type "bf16[B, S, 64]". */
const qc_dim *qc_parse_dim(qc_lexer *l);
const qc_type *qc_parse_type(qc_lexer *l);

/* The elements between [ and ] as written; encoded once the type is known. */
typedef QC_VEC(const char *) qc_data_list;
bool qc_parse_data_tokens(qc_lexer *l, qc_data_list *list);
const qc_attr *qc_parse_data_encode(qc_lexer *l, const qc_data_list *list, qc_dtype dtype);

#endif
