/* SPDX-License-Identifier: MIT
 *
 * option_value.h - reading and writing option values; the grammar is in option_value.c. For the pass
 * manager's own files.
 *
 * All parsing functions skip blanks first. Those that give a pointer give NULL after an error, which is
 * reported.
 */
#ifndef QC_PASSES_OPTION_VALUE_H
#define QC_PASSES_OPTION_VALUE_H

#include "passes/internal.h"

typedef struct qc_option_parser {
    qc_ctx *ctx;
    qc_arena *arena;
    const char *where; /* of diagnostics */
    const char *pass;  /* named in them; NULL: none yet */
    const char *start, *at;
} qc_option_parser;

void qc_option_parser_init(
    qc_option_parser *p, qc_ctx *ctx, qc_arena *arena, const char *where, const char *pass, const char *text);
/* Reports; always NULL. */
const void *qc_option_parser_error(qc_option_parser *p, const char *format, ...) QC_PRINTF(2, 3);
/* Takes the character if it is next. */
bool qc_option_parser_take(qc_option_parser *p, char c);
/* The next character, not taken; 0 at the end. */
char qc_option_parser_peek(qc_option_parser *p);
/* A bare word; NULL, without a report, when there is none. */
const char *qc_option_parser_bare(qc_option_parser *p);
const char *qc_option_parser_scalar(qc_option_parser *p, bool *quoted);
/* A value of no declared kind. */
const qc_attr *qc_option_parser_any(qc_option_parser *p, int depth);
/* Entries up to the closing brace; the opening one is taken already. */
const qc_attr *qc_option_parser_map(qc_option_parser *p, int depth);
/* A value of this option. */
const qc_attr *qc_option_parser_value(qc_option_parser *p, const qc_pass_option *option);
/* Does the text read as a number, as an integer of 64 bits? */
bool qc_option_number(const char *text, bool *is_int, int64_t *integer, double *number);
/* The value as the option's kind spells it. */
void qc_option_print(const qc_pass_option *option, const qc_attr *value, qc_str *out);

#endif
