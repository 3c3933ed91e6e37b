/* SPDX-License-Identifier: MIT
 *
 * chat.h - conversations to token ids: the chat template of a model, then its tokenizer without further special tokens,
 * which is what Transformers' apply_chat_template(tokenize=True) does.
 */
#ifndef QC_TEXT_CHAT_H
#define QC_TEXT_CHAT_H

#include "frontends/text/chat_template/chat_template.h"
#include "frontends/text/tokenizer/tokenizer.h"

/* qc_chat_template_load, for one who cannot do without: no template is an error. */
qc_status qc_chat_require(
    qc_diag *diag, qc_arena *arena, const char *model_directory, const qc_chat_template **template);
/* Is it a list of messages: objects with a `role`, at least one? An error says what else it is. */
qc_status qc_chat_check(qc_diag *diag, const char *where, const qc_json *messages);
/* Appends the ids of a conversation. `where` names it in errors. */
qc_status qc_chat_encode(const qc_chat_template *template, const qc_tokenizer *tokenizer,
    qc_tokenizer_scratch *scratch, qc_diag *diag, const char *where, const qc_json *messages,
    const qc_chat_options *options, qc_arena *arena, qc_token_ids *ids);
/* The names of an object's members, quoted, for errors; the first few of many. */
const char *qc_chat_member_names(qc_arena *arena, const qc_json *object);

#endif
