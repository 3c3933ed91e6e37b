/* SPDX-License-Identifier: MIT
 *
 * token_lines.c - see token_lines.h. Memory of a line is given back after it.
 */
#include "runtime/token_lines.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/types.h>

#include "frontends/text/chat.h"
#include "ir/support/json.h"
#include "runtime/model.h"

typedef struct work {
    const qc_token_lines *lines;
    qc_diag *diag;
    qc_tokenizer_scratch *scratch;
    uint64_t number; /* of the line */
    qc_arena arena;  /* of the line */
    qc_str out;
} work;

/* A conversation: the template's tokens and no others. */
static qc_status encode_chat(work *w, const char *where, const char *text, size_t length, qc_token_ids *ids)
{
    const qc_json *line =
        qc_json_parse_line(w->diag, &w->arena, w->lines->where, (uint32_t)w->number, text, length);
    qc_chat_options options = {0};
    if (!line)
        return QC_ERROR;
    const qc_json *messages = qc_json_get(line, "messages");
    if (!messages)
        return qc_error(w->diag, where, "a line must be an object with messages");
    for (const qc_json *m = line->first; m; m = m->next)
        if (strcmp(m->key, "messages") != 0 && strcmp(m->key, "add_generation_prompt") != 0 &&
            strcmp(m->key, "tools") != 0)
            return qc_error(w->diag, where, "there is no member \"%s\" of a conversation", m->key);
    if (qc_json_bool(w->diag, where, line, "add_generation_prompt", false, &options.add_generation_prompt))
        return QC_ERROR;
    options.tools = qc_json_get(line, "tools");
    if (options.tools && options.tools->kind == QC_JSON_NULL)
        options.tools = NULL;
    if (options.tools && options.tools->kind != QC_JSON_ARRAY)
        return qc_error(w->diag, where, "tools must be a list");
    return qc_chat_encode(
        w->lines->chat, w->lines->tokenizer, w->scratch, w->diag, where, messages, &options, &w->arena, ids);
}

static qc_status encode_text(work *w, const char *where, const char *text, size_t length, qc_token_ids *ids)
{
    if (w->lines->json) {
        const qc_json *value =
            qc_json_parse_line(w->diag, &w->arena, w->lines->where, (uint32_t)w->number, text, length);
        if (!value)
            return QC_ERROR;
        if (value->kind != QC_JSON_STRING)
            return qc_error(w->diag, where, "a line must be a JSON string");
        text = value->text;
        length = value->length;
    }
    if (qc_text_check(w->diag, where, text, length) ||
        qc_tokenizer_encode(w->lines->tokenizer, w->scratch, w->diag, text, length, true, &w->arena, ids))
        return QC_ERROR;
    return QC_OK;
}

static qc_status encode(work *w, const char *where, const char *text, size_t length)
{
    qc_token_ids ids = {0};
    if (w->lines->chat ? encode_chat(w, where, text, length, &ids)
                       : encode_text(w, where, text, length, &ids))
        return QC_ERROR;
    qc_str_add_char(&w->out, '[');
    for (size_t i = 0; i < ids.count; i++) {
        if (i)
            qc_str_add(&w->out, ", ");
        qc_str_add_int(&w->out, ids.items[i]);
    }
    qc_str_add(&w->out, "]\n");
    return QC_OK;
}

static qc_status read_ids(work *w, const char *where, const qc_json *list, qc_token_ids *ids)
{
    size_t ignored;
    ids->items = QC_NEW_ARRAY(&w->arena, int32_t, list->length);
    for (const qc_json *item = list->first; item; item = item->next) {
        if (item->kind != QC_JSON_NUMBER || !item->is_integer)
            return qc_error(w->diag, where, "item %zu is no token id", ids->count + 1);
        if (item->integer < 0 || item->integer > INT32_MAX ||
            !qc_tokenizer_id_to_token(w->lines->tokenizer, (int32_t)item->integer, &ignored))
            return qc_error(w->diag, where, "no token has the id %" PRId64, item->integer);
        ids->items[ids->count++] = (int32_t)item->integer;
    }
    return QC_OK;
}

static qc_status decode(work *w, const char *where, const char *text, size_t length)
{
    qc_token_ids ids = {0};
    const qc_json *list =
        qc_json_parse_line(w->diag, &w->arena, w->lines->where, (uint32_t)w->number, text, length);
    if (!list)
        return QC_ERROR;
    if (list->kind != QC_JSON_ARRAY)
        return qc_error(w->diag, where, "a line must be a JSON array of token ids");
    if (read_ids(w, where, list, &ids))
        return QC_ERROR;
    if (w->lines->json) {
        qc_str plain;
        qc_str_init(&plain, &w->arena);
        qc_tokenizer_decode(w->lines->tokenizer, ids.items, ids.count, false, &plain);
        qc_json *value = qc_json_new(&w->arena, QC_JSON_STRING);
        value->text = plain.data;
        value->length = plain.length;
        qc_json_write(&w->out, value, -1, false);
        qc_str_fini(&plain);
    } else {
        qc_tokenizer_decode(w->lines->tokenizer, ids.items, ids.count, false, &w->out);
    }
    qc_str_add_char(&w->out, '\n');
    return QC_OK;
}

static qc_status run_line(work *w, uint64_t number, const char *text, size_t length)
{
    const char *where = qc_arena_printf(&w->arena, "%s:%" PRIu64, w->lines->where, number);
    w->number = number;
    qc_str_clear(&w->out);
    qc_status status = w->lines->decode ? decode(w, where, text, length) : encode(w, where, text, length);
    if (status == QC_OK)
        status = w->lines->emit(w->lines->user, w->out.data, w->out.length);
    qc_arena_fini(&w->arena);
    return status;
}

qc_status qc_token_lines_run(const qc_token_lines *lines, qc_diag *diag, FILE *in)
{
    work w = {.lines = lines, .diag = diag};
    qc_arena_init(&w.arena, diag->arena->oom);
    qc_str_init(&w.out, &w.arena);
    w.scratch = qc_tokenizer_scratch_create(lines->tokenizer, diag->arena->oom);
    char *line = NULL;
    size_t room = 0;
    qc_status status = QC_OK;
    for (uint64_t number = 1; status == QC_OK; number++) {
        errno = 0;
        ssize_t length = getline(&line, &room, in);
        if (length < 0) {
            if (!feof(in))
                status = qc_error(diag, lines->where, "cannot read: %s", strerror(errno));
            break;
        }
        if (line[length - 1] == '\n')
            length--;
        status = run_line(&w, number, line, (size_t)length);
    }
    free(line);
    qc_tokenizer_scratch_destroy(w.scratch);
    qc_str_fini(&w.out);
    qc_arena_fini(&w.arena);
    return status;
}
