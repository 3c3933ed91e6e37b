/* SPDX-License-Identifier: MIT
 *
 * dataset.c - token sequences for calibration and evaluation: see dataset.h.
 */
#include "frontends/text/dataset.h"

#include "frontends/text/chat.h"
#include "ir/support/io.h"
#include "ir/support/json.h"
#include "ir/support/random.h"

/* 4 GiB of ids; who asks for more has mistaken a unit. */
enum { RANDOM_TOKENS_MAX = 1 << 30 };

/* Windows of plain text: what llm-compressor's guides take. Attention costs the square of it. */
enum { PLAIN_TOKENS = 2048 };

static const size_t max_file_bytes = (size_t)4 << 30;

typedef struct reader {
    qc_diag *diag;
    qc_arena *arena;
    const char *path;
    qc_tokenizer *tokenizer;
    qc_tokenizer_scratch *scratch;
    const qc_dataset_options *options;
    const qc_chat_template *chat; /* read with the first line that needs it */
} reader;

typedef struct text_line {
    const char *text;
    size_t length;
    size_t number; /* from 1 */
} text_line;

typedef QC_VEC(text_line) text_lines;

static const char *place(const reader *r, size_t line)
{
    return qc_arena_printf(r->arena, "%s:%zu", r->path, line);
}

static qc_status check_ids(const reader *r, const char *where, const qc_token_ids *ids)
{
    int64_t vocabulary = r->options->vocabulary;
    for (size_t i = 0; i < ids->count; i++)
        if (ids->items[i] < 0 || (vocabulary > 0 && ids->items[i] >= vocabulary))
            return qc_error(r->diag, where, "token id %ld is not in the vocabulary of %lld tokens",
                (long)ids->items[i], (long long)vocabulary);
    if (ids->count == 0)
        return qc_error(r->diag, where, "the sequence is empty");
    return QC_OK;
}

static qc_status ids_from_array(const reader *r, const char *where, const qc_json *array, qc_token_ids *ids)
{
    for (const qc_json *item = array->first; item; item = item->next) {
        if (item->kind != QC_JSON_NUMBER || !item->is_integer || item->integer < INT32_MIN ||
            item->integer > INT32_MAX)
            return qc_error(r->diag, where, "%s must hold integers", array->key ? array->key : "input_ids");
        QC_PUSH(r->arena, ids, (int32_t)item->integer);
    }
    return QC_OK;
}

static qc_status ids_from_text(
    const reader *r, const char *where, const char *text, size_t length, bool special, qc_token_ids *ids)
{
    if (!r->tokenizer)
        return qc_error(r->diag, where, "text needs a tokenizer.json beside the model; input_ids need none");
    size_t errors = r->diag->error_count;
    if (qc_tokenizer_encode(r->tokenizer, r->scratch, r->diag, text, length, special, r->arena, ids) == QC_OK)
        return QC_OK;
    if (r->diag->error_count == errors)
        qc_error(r->diag, where, "the text cannot be encoded");
    return QC_ERROR;
}

static qc_status ids_from_messages(reader *r, const char *where, const qc_json *messages, qc_token_ids *ids)
{
    static const qc_chat_options options; /* no generation prompt, no tools */
    if (!r->tokenizer || !r->options->model_directory)
        return qc_error(r->diag, where,
            "messages need a tokenizer.json and a chat template beside the model; input_ids need none");
    if (!r->chat && qc_chat_require(r->diag, r->arena, r->options->model_directory, &r->chat))
        return QC_ERROR;
    return qc_chat_encode(
        r->chat, r->tokenizer, r->scratch, r->diag, where, messages, &options, r->arena, ids);
}

/* The member that holds the data: the named field, else input_ids, else text, else messages. */
static const qc_json *data_member(const reader *r, const qc_json *line)
{
    static const char *const names[] = {"input_ids", "text", "messages"};
    const qc_json *found = r->options->field ? qc_json_get(line, r->options->field) : NULL;
    for (size_t i = 0; !r->options->field && !found && i < sizeof names / sizeof *names; i++)
        found = qc_json_get(line, names[i]);
    return found;
}

static qc_status no_data(const reader *r, const char *where, const qc_json *line)
{
    const char *names = qc_chat_member_names(r->diag->arena, line);
    if (r->options->field)
        return qc_error(r->diag, where, "the line has no %s; it has %s", r->options->field, names);
    qc_error(r->diag, where, "the line has no input_ids, no text and no messages; it has %s", names);
    qc_note(r->diag, "--calib-field=NAME reads another field");
    return QC_ERROR;
}

/* A list is one of messages when its first item is an object, or it is called so. */
static bool holds_messages(const qc_json *data)
{
    return (data->kind == QC_JSON_ARRAY && data->first && data->first->kind == QC_JSON_OBJECT) ||
           (data->key && strcmp(data->key, "messages") == 0 && data->kind != QC_JSON_STRING);
}

static qc_status read_line(reader *r, const text_line *line, qc_token_ids *ids)
{
    qc_arena scratch; /* the parsed line */
    qc_arena_init(&scratch, r->arena->oom);
    const char *where = place(r, line->number);
    qc_json *json =
        qc_json_parse_line(r->diag, &scratch, r->path, (uint32_t)line->number, line->text, line->length);
    const qc_json *data = json ? data_member(r, json) : NULL;
    qc_status status = QC_ERROR;
    if (!json)
        ; /* reported */
    else if (json->kind != QC_JSON_OBJECT)
        qc_error(r->diag, where, "each line must be a JSON object");
    else if (!data)
        no_data(r, where, json);
    else if (holds_messages(data))
        status = ids_from_messages(r, where, data, ids);
    else if (data->kind == QC_JSON_ARRAY)
        status = ids_from_array(r, where, data, ids);
    else if (data->kind == QC_JSON_STRING)
        status = ids_from_text(r, where, data->text, data->length, true, ids);
    else
        qc_error(r->diag, where, "%s must be a string, a list of token ids or a list of messages", data->key);
    qc_arena_fini(&scratch);
    return status == QC_OK ? check_ids(r, where, ids) : QC_ERROR;
}

static bool is_blank(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (text[i] != ' ' && text[i] != '\t' && text[i] != '\r')
            return false;
    return true;
}

static text_lines split_lines(qc_arena *arena, const char *text, size_t length)
{
    text_lines lines = {0};
    size_t number = 0;
    for (const char *at = text, *end = text + length; at < end;) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        size_t size = (size_t)((newline ? newline : end) - at);
        text_line line = {at, size, ++number};
        if (!is_blank(at, size))
            QC_PUSH(arena, &lines, line);
        at += size + 1;
    }
    return lines;
}

/* Fisher and Yates, from the end. */
static void shuffle(text_lines *lines, uint64_t seed)
{
    qc_random random;
    qc_random_seed(&random, seed);
    for (size_t i = lines->count; i > 1; i--) {
        size_t j = (size_t)qc_random_below(&random, i);
        text_line t = lines->items[i - 1];
        lines->items[i - 1] = lines->items[j];
        lines->items[j] = t;
    }
}

static void dataset_add(const reader *r, qc_dataset *dataset, const qc_token_ids *ids, size_t line)
{
    size_t limit = r->options->max_tokens, count = limit && ids->count > limit ? limit : ids->count;
    dataset->sequences[dataset->count++] = (qc_token_sequence){ids->items, count, line};
    dataset->token_count += count;
}

static qc_status read_jsonl(reader *r, const char *text, size_t length, qc_dataset *dataset)
{
    text_lines lines = split_lines(r->arena, text, length);
    if (r->options->shuffle)
        shuffle(&lines, r->options->seed);
    if (r->options->max_samples && lines.count > r->options->max_samples)
        lines.count = r->options->max_samples;
    dataset->sequences = QC_NEW_ARRAY(r->arena, qc_token_sequence, lines.count + 1);
    for (size_t i = 0; i < lines.count; i++) {
        qc_token_ids ids = {0};
        if (read_line(r, &lines.items[i], &ids) != QC_OK)
            return QC_ERROR;
        dataset_add(r, dataset, &ids, lines.items[i].number);
    }
    return QC_OK;
}

qc_status qc_text_prefix(const qc_tokenizer *tokenizer, qc_tokenizer_scratch *scratch, qc_diag *diag,
    qc_arena *arena, const int32_t **prefix, size_t *count)
{
    qc_token_ids with = {0}, without = {0};
    if (qc_tokenizer_encode(tokenizer, scratch, diag, "a", 1, true, arena, &with) != QC_OK ||
        qc_tokenizer_encode(tokenizer, scratch, diag, "a", 1, false, arena, &without) != QC_OK)
        return QC_ERROR;
    /* The text's own tokens stand somewhere in those with special tokens; what is before them is the prefix. */
    *prefix = with.items;
    *count = 0;
    for (size_t at = 0; without.count && at + without.count <= with.count; at++)
        if (memcmp(with.items + at, without.items, without.count * sizeof *with.items) == 0) {
            *count = at;
            break;
        }
    return QC_OK;
}

/* A text of more than max_tokens (or PLAIN_TOKENS) becomes windows of as many, each behind the prefix. */
static qc_status read_plain(const reader *r, const char *text, size_t length, qc_dataset *dataset)
{
    const qc_dataset_options *o = r->options;
    size_t most = o->max_tokens ? o->max_tokens : PLAIN_TOKENS, prefix_count = 0;
    const int32_t *prefix;
    qc_token_ids all = {0}, ids = {0};
    if (length == 0)
        return QC_OK;
    for (size_t i = 0, size; i < length; i += size) {
        size = (size_t)qc_utf8_length((const unsigned char *)text + i, length - i);
        if (size == 0)
            return qc_error(r->diag, r->path, "the text is not valid UTF-8 at byte %zu", i);
    }
    if (ids_from_text(r, r->path, text, length, true, &all) != QC_OK || check_ids(r, r->path, &all) != QC_OK)
        return QC_ERROR;
    if (all.count <= most) {
        dataset->sequences = QC_NEW_ARRAY(r->arena, qc_token_sequence, 1);
        dataset_add(r, dataset, &all, 1);
        return QC_OK;
    }
    if (ids_from_text(r, r->path, text, length, false, &ids) != QC_OK ||
        qc_text_prefix(r->tokenizer, r->scratch, r->diag, r->arena, &prefix, &prefix_count) != QC_OK)
        return QC_ERROR;
    prefix_count = prefix_count < most ? prefix_count : 0;
    size_t step = most - prefix_count, windows = ids.count / step + (ids.count % step != 0);
    text_lines starts = {0}; /* offset and count of the ids of each window */
    for (size_t i = 0; i < windows; i++) {
        size_t left = ids.count - i * step;
        text_line start = {NULL, left < step ? left : step, i * step};
        QC_PUSH(r->arena, &starts, start);
    }
    if (o->shuffle)
        shuffle(&starts, o->seed);
    if (o->max_samples && starts.count > o->max_samples)
        starts.count = o->max_samples;
    dataset->sequences = QC_NEW_ARRAY(r->arena, qc_token_sequence, starts.count + 1);
    for (size_t i = 0; i < starts.count; i++) {
        qc_token_ids window = {0};
        for (size_t k = 0; k < prefix_count; k++)
            QC_PUSH(r->arena, &window, prefix[k]);
        for (size_t k = 0; k < starts.items[i].length; k++)
            QC_PUSH(r->arena, &window, ids.items[starts.items[i].number + k]);
        dataset_add(r, dataset, &window, 1);
    }
    return QC_OK;
}

qc_status qc_dataset_read(qc_diag *diag, qc_arena *arena, const char *path, qc_tokenizer *tokenizer,
    const qc_dataset_options *options, qc_dataset *dataset)
{
    reader r = {.diag = diag, .arena = arena, .path = path, .tokenizer = tokenizer, .options = options};
    qc_arena file; /* the text of the file */
    char *text;
    size_t length;
    *dataset = (qc_dataset){0};
    qc_arena_init(&file, arena->oom);
    qc_status status = qc_read_file(diag, &file, path, max_file_bytes, &text, &length);
    if (status == QC_OK && tokenizer)
        r.scratch = qc_tokenizer_scratch_create(tokenizer, arena->oom);
    if (status == QC_OK)
        status = qc_ends_with(path, ".jsonl") ? read_jsonl(&r, text, length, dataset)
                                              : read_plain(&r, text, length, dataset);
    if (status == QC_OK && dataset->count == 0)
        status = qc_error(diag, path, "there is no sequence in it");
    qc_tokenizer_scratch_destroy(r.scratch);
    qc_arena_fini(&file);
    return status;
}

qc_status qc_dataset_random(
    qc_diag *diag, qc_arena *arena, const qc_dataset_options *options, qc_dataset *dataset)
{
    size_t count = options->max_samples, tokens = options->max_tokens;
    *dataset = (qc_dataset){0};
    if (count == 0 || tokens == 0 || options->vocabulary <= 0)
        return qc_error(
            diag, "random tokens", "a number of sequences, their length and a vocabulary are needed");
    if (tokens > RANDOM_TOKENS_MAX / count)
        return qc_error(diag, "random tokens", "%zu sequences of %zu tokens are more than %d tokens", count,
            tokens, RANDOM_TOKENS_MAX);
    qc_random random;
    qc_random_seed(&random, options->seed);
    dataset->sequences = QC_NEW_ARRAY(arena, qc_token_sequence, count);
    for (size_t i = 0; i < count; i++) {
        int32_t *ids = QC_NEW_ARRAY(arena, int32_t, tokens);
        for (size_t j = 0; j < tokens; j++)
            ids[j] = (int32_t)qc_random_below(&random, (uint64_t)options->vocabulary);
        dataset->sequences[i] = (qc_token_sequence){ids, tokens, i + 1};
        dataset->token_count += tokens;
    }
    dataset->count = count;
    return QC_OK;
}
