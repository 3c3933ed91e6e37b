/* SPDX-License-Identifier: MIT
 *
 * chat_template.h - the text of a conversation, from the chat template of a Hugging Face model directory.
 *
 * A chat template is a Jinja2 template. What is read is the language that published templates use, with the
 * meaning that Transformers (5.17, on Jinja 3.1.6) gives it: trim_blocks and lstrip_blocks set, loop controls, its
 * own `tojson`, `raise_exception`, `strftime_now`, `{% generation %}`, values that templates cannot change in place.
 * docs/calibration-data.md lists the language; what is beyond it is refused by name, with the template's line.
 *
 * A loaded template is read only: threads may share it. A rendering has limits on steps, memory and depth, so
 * that a hostile template ends with an error.
 */
#ifndef QC_TEXT_CHAT_TEMPLATE_H
#define QC_TEXT_CHAT_TEMPLATE_H

#include <time.h>

#include "ir/support/json.h"

typedef struct qc_chat_template qc_chat_template;

typedef struct qc_chat_options {
    bool add_generation_prompt; /* ask for the beginning of an answer behind the last message */
    const qc_json *tools;       /* a list of JSON schemas; NULL: none */
    const struct tm *now;       /* what strftime_now sees; NULL: the local time */
    uint64_t max_steps;         /* 0: 50 million */
    size_t max_memory_bytes;    /* of one rendering; 0: 512 MiB */
} qc_chat_options;

/* The template of a model directory: chat_template.jinja, else `chat_template` of tokenizer_config.json, else that of
 * chat_template.json (a text, or a list of named ones, of which "default" counts). Special tokens come from
 * tokenizer_config.json, and from special_tokens_map.json where Transformers still reads that. *template is
 * NULL, without an error, when the directory has no template. It lives in `arena`. */
qc_status qc_chat_template_load(
    qc_diag *diag, qc_arena *arena, const char *model_directory, const qc_chat_template **template);
/* The same from the text of a template; `where` names it in errors (`WHERE:LINE: ...`). */
qc_status qc_chat_template_parse(qc_diag *diag, qc_arena *arena, const char *where, const char *text,
    size_t length, qc_chat_template **template);
/* A variable that every rendering sees: "bos_token" and the like. The texts are copied. */
void qc_chat_template_set_token(
    qc_chat_template *template, const char *name, const char *text, size_t length);

/* Appends the text of `messages` (a list of objects, as apply_chat_template takes it) to `out`. An error says
 * `WHERE: TEMPLATE:LINE: WHAT`, or without WHERE where that is NULL; `out` is as it was then. */
qc_status qc_chat_template_render(const qc_chat_template *template, qc_diag *diag, const char *where,
    const qc_json *messages, const qc_chat_options *options, qc_str *out);

#endif
