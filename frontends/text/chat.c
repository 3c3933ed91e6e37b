/* SPDX-License-Identifier: MIT
 *
 * chat.c - see chat.h.
 */
#include "frontends/text/chat.h"

enum { NAMES_SHOWN = 8 };

qc_status qc_chat_require(
    qc_diag *diag, qc_arena *arena, const char *model_directory, const qc_chat_template **template)
{
    if (qc_chat_template_load(diag, arena, model_directory, template))
        return QC_ERROR;
    if (*template)
        return QC_OK;
    return qc_error(diag, model_directory,
        "there is no chat template (chat_template.jinja, or chat_template in tokenizer_config.json), and "
        "messages "
        "need one");
}

const char *qc_chat_member_names(qc_arena *arena, const qc_json *object)
{
    qc_str names;
    int count = 0;
    qc_str_init(&names, arena);
    for (const qc_json *m = object->kind == QC_JSON_OBJECT ? object->first : NULL; m; m = m->next, count++) {
        if (count == NAMES_SHOWN) {
            qc_str_add(&names, " ...");
            break;
        }
        qc_str_add(&names, count ? ", " : "");
        qc_str_add_quoted(&names, m->key, m->key_length < 40 ? m->key_length : 40);
    }
    const char *text = qc_arena_strdup(arena, count ? names.data : "nothing");
    qc_str_fini(&names);
    return text;
}

qc_status qc_chat_check(qc_diag *diag, const char *where, const qc_json *messages)
{
    size_t number = 0;
    const char *name = messages->key ? messages->key : "messages";
    if (messages->kind != QC_JSON_ARRAY)
        return qc_error(diag, where, "%s must be a list of messages", name);
    if (!messages->first)
        return qc_error(diag, where, "%s has no message", name);
    for (const qc_json *m = messages->first; m; m = m->next) {
        const qc_json *role = qc_json_get(m, "role");
        number++;
        if (m->kind != QC_JSON_OBJECT)
            return qc_error(
                diag, where, "message %zu of %s must be an object with role and content", number, name);
        if (!role)
            return qc_error(diag, where, "message %zu of %s has %s, but no role", number, name,
                qc_chat_member_names(diag->arena, m));
        if (role->kind != QC_JSON_STRING)
            return qc_error(diag, where, "the role of message %zu of %s must be a string", number, name);
    }
    return QC_OK;
}

qc_status qc_chat_encode(const qc_chat_template *template, const qc_tokenizer *tokenizer,
    qc_tokenizer_scratch *scratch, qc_diag *diag, const char *where, const qc_json *messages,
    const qc_chat_options *options, qc_arena *arena, qc_token_ids *ids)
{
    qc_str text;
    if (qc_chat_check(diag, where, messages))
        return QC_ERROR;
    qc_str_init(&text, arena);
    qc_status status = qc_chat_template_render(template, diag, where, messages, options, &text);
    if (status == QC_OK)
        status = qc_tokenizer_encode(tokenizer, scratch, diag, text.data, text.length, false, arena, ids);
    qc_str_fini(&text);
    return status;
}
