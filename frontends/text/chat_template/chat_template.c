/* SPDX-License-Identifier: MIT
 *
 * chat_template.c - finding and reading the chat template of a model directory: see chat_template.h.
 */
#include "frontends/text/chat_template/internal.h"
#include "frontends/text/tokenizer/internal.h"

#include "ir/support/io.h"

enum { FILE_LIMIT_BYTES = 1 << 28 };

/* ---- templates ----------------------------------------------------------------------------------------- */

const char *qc_chat_intern(qc_chat_template *template, const char *name, size_t length)
{
    qc_map_entry *entry = qc_map_add_n(&template->names, name, length);
    if (!entry->value)
        entry->value = qc_arena_strndup(template->arena, name, length);
    return entry->value;
}

const char *qc_chat_place(const qc_chat_template *template, qc_diag *diag, uint32_t line)
{
    return qc_arena_printf(
        diag->arena, template->in_member ? "%s: chat_template:%u" : "%s:%u", template->where, line);
}

static qc_status parse(qc_diag *diag, qc_arena *arena, const char *where, bool in_member, const char *text,
    size_t length, qc_chat_template **template)
{
    qc_chat_template *made = QC_NEW(arena, qc_chat_template);
    qc_chat_tokens tokens = {0};
    *template = NULL;
    made->arena = arena;
    made->where = qc_arena_strdup(arena, where);
    made->in_member = in_member;
    qc_map_init(&made->names, arena);
    made->loop = qc_chat_intern(made, "loop", strlen("loop"));
    if (length > QC_CHAT_TEMPLATE_LIMIT_BYTES)
        return qc_error(diag, where, "a chat template of %zu bytes is too long", length);
    size_t invalid = qc_text_invalid_offset(text, length);
    if (invalid < length)
        return qc_error(diag, where, "the chat template is not valid UTF-8 at byte %zu", invalid);
    if (qc_chat_lex(diag, made, text, length, &tokens) || qc_chat_parse_body(diag, made, &tokens))
        return QC_ERROR;
    *template = made;
    return QC_OK;
}

qc_status qc_chat_template_parse(qc_diag *diag, qc_arena *arena, const char *where, const char *text,
    size_t length, qc_chat_template **template)
{
    return parse(diag, arena, where, false, text, length, template);
}

void qc_chat_template_set_token(qc_chat_template *template, const char *name, const char *text, size_t length)
{
    const char *copy = qc_arena_strndup(template->arena, text, length);
    size_t i = 0;
    while (i < template->token_count && strcmp(template->tokens[i].name, name) != 0)
        i++;
    if (i == template->token_count) {
        if (i == template->token_capacity)
            template->tokens = qc_arena_grow(template->arena, template->tokens, i, &template->token_capacity,
                i + 1, sizeof *template->tokens);
        template->tokens[i].name = qc_arena_strdup(template->arena, name);
        template->token_count++;
    }
    template->tokens[i].value = qc_chat_string(copy, length);
}

/* ---- model directories --------------------------------------------------------------------------------- */

typedef struct loader {
    qc_diag *diag;
    qc_arena *arena; /* of the template */
    qc_arena work;
    const char *directory;
    qc_chat_template *made;
} loader;

/* The JSON of a file of the directory; *json is NULL when there is no such file. */
static qc_status read_json(loader *l, const char *name, const char **path, const qc_json **json)
{
    char *text;
    size_t length;
    *json = NULL;
    *path = qc_path_join(&l->work, l->directory, name);
    if (!qc_is_file(*path))
        return QC_OK;
    if (qc_read_file(l->diag, &l->work, *path, FILE_LIMIT_BYTES, &text, &length))
        return QC_ERROR;
    *json = qc_json_parse(l->diag, &l->work, *path, text, length);
    return *json ? QC_OK : QC_ERROR;
}

/* A member chat_template: a text, a list of {"name", "template"}, or an object of texts by name. */
static qc_status read_member(loader *l, const char *path, const qc_json *config)
{
    const qc_json *value = qc_json_get(config, "chat_template"), *text = value;
    if (!value || value->kind == QC_JSON_NULL)
        return QC_OK;
    if (value->kind == QC_JSON_OBJECT)
        text = qc_json_get(value, "default");
    if (value->kind == QC_JSON_ARRAY) {
        text = NULL;
        for (const qc_json *item = value->first; item; item = item->next) {
            const qc_json *name = qc_json_get(item, "name");
            if (name && name->kind == QC_JSON_STRING && strcmp(name->text, "default") == 0)
                text = qc_json_get(item, "template");
        }
    }
    if (!text)
        return qc_error(l->diag, path, "there are several chat templates, and none is named \"default\"");
    if (text->kind != QC_JSON_STRING)
        return qc_error(l->diag, path, "chat_template must be a text or a list of named texts");
    return parse(l->diag, l->arena, path, true, text->text, text->length, &l->made);
}

static qc_status read_jinja(loader *l)
{
    char *text;
    size_t length;
    const char *path = qc_path_join(&l->work, l->directory, "chat_template.jinja");
    if (!qc_is_file(path))
        return QC_OK;
    if (qc_read_file(l->diag, &l->work, path, FILE_LIMIT_BYTES, &text, &length))
        return QC_ERROR;
    return parse(l->diag, l->arena, path, false, text, length, &l->made);
}

/* Tokens named as "..." or {"content": "..."}; null hides one that an earlier file named. */
static void read_tokens(loader *l, const qc_json *config)
{
    static const char *const names[] = {
        "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const qc_json *token = qc_json_get(config, names[i]);
        if (token && token->kind == QC_JSON_OBJECT)
            token = qc_json_get(token, "content");
        if (token && token->kind == QC_JSON_STRING)
            qc_chat_template_set_token(l->made, names[i], token->text, token->length);
    }
}

static qc_status load(loader *l)
{
    const char *config_path, *path;
    const qc_json *config, *other;
    if (read_jinja(l) || read_json(l, "tokenizer_config.json", &config_path, &config))
        return QC_ERROR;
    if (!l->made && config && read_member(l, config_path, config))
        return QC_ERROR;
    if (!l->made &&
        (read_json(l, "chat_template.json", &path, &other) || (other && read_member(l, path, other))))
        return QC_ERROR;
    if (!l->made)
        return QC_OK;
    if (config)
        read_tokens(l, config);
    /* Where tokenizer_config.json lists its tokens, Transformers reads the older file no more. */
    if (!config || !qc_json_get(config, "added_tokens_decoder")) {
        if (read_json(l, "special_tokens_map.json", &path, &other))
            return QC_ERROR;
        if (other)
            read_tokens(l, other);
    }
    return QC_OK;
}

qc_status qc_chat_template_load(
    qc_diag *diag, qc_arena *arena, const char *model_directory, const qc_chat_template **template)
{
    loader l = {.diag = diag, .arena = arena, .directory = model_directory};
    qc_arena_init(&l.work, arena->oom);
    qc_status status = load(&l);
    *template = status == QC_OK ? l.made : NULL;
    qc_arena_fini(&l.work);
    return status;
}
