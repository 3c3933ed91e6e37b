/* SPDX-License-Identifier: MIT
 *
 * token_lines.h - texts to token ids and back, a line each.
 */
#ifndef QC_RUNTIME_TOKEN_LINES_H
#define QC_RUNTIME_TOKEN_LINES_H

#include <stdio.h>

#include "frontends/text/chat_template/chat_template.h"
#include "frontends/text/tokenizer/tokenizer.h"

typedef struct qc_token_lines {
    const qc_tokenizer *tokenizer;
    bool json;                    /* a text is a JSON string, not the line itself */
    const qc_chat_template *chat; /* a text is an object with messages, which this renders; NULL: it is not */
    bool decode;                  /* arrays of ids in, texts out (special tokens kept) */
    const char *where;            /* names the input in errors: WHERE:LINE */
    /* Gets each line of output with its newline. */
    qc_status (*emit)(void *user, const char *text, size_t length);
    void *user;
} qc_token_lines;

/* Reads `in` to its end. Encoding: a line, without its newline, is a text, and becomes a JSON array of ids,
 * special tokens added as the tokenizer does. With `chat` a line is {"messages": [...], "add_generation_prompt": bool,
 * "tools": [...]}, the last two may be absent, and the tokenizer adds none; a member of another name is an error.
 * Decoding: the reverse; an id that no token has is an error. The
 * last line needs no newline. */
qc_status qc_token_lines_run(const qc_token_lines *lines, qc_diag *diag, FILE *in);

#endif
