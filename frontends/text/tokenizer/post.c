/* SPDX-License-Identifier: MIT
 *
 * post.c - what happens to the ids of a text in the end: truncation, the special tokens of the
 * post-processor, padding.
 *
 * Every post-processor that changes ids is a template: ids with places for the sequence. Several of them (a
 * Sequence) apply one after the other.
 */
#include "frontends/text/tokenizer/internal.h"

enum { SEQUENCE_ITEM = -1 };
typedef QC_VEC(int32_t) items;

static void push_step(qc_tokenizer *tokenizer, const items *list)
{
    qc_text_post_step step = {.items = list->items, .count = list->count};
    QC_PUSH(tokenizer->arena, &tokenizer->post, step);
}

static bool get_id(const qc_json *value, int32_t *id)
{
    if (!value || value->kind != QC_JSON_NUMBER || !value->is_integer || value->integer < 0 ||
        value->integer > INT32_MAX)
        return false;
    *id = (int32_t)value->integer;
    return true;
}

static qc_status push_special(
    qc_diag *diag, qc_tokenizer *tokenizer, const qc_json *specials, const char *name, items *list)
{
    const qc_json *ids = qc_json_get(qc_json_get(specials, name), "ids");
    if (!ids || ids->kind != QC_JSON_ARRAY)
        return qc_error(diag, tokenizer->path,
            "post_processor TemplateProcessing: special token \"%s\" has no \"ids\"", name);
    for (const qc_json *value = ids->first; value; value = value->next) {
        int32_t id;
        if (!get_id(value, &id))
            return qc_error(diag, tokenizer->path,
                "post_processor TemplateProcessing: an id of special token \"%s\" is out of range", name);
        QC_PUSH(tokenizer->arena, list, id);
    }
    return QC_OK;
}

static qc_status load_template(qc_diag *diag, qc_tokenizer *tokenizer, const qc_json *json)
{
    const qc_json *single = qc_json_get(json, "single"), *specials = qc_json_get(json, "special_tokens");
    items list = {0};
    if (!single || single->kind != QC_JSON_ARRAY || !specials || specials->kind != QC_JSON_OBJECT)
        return qc_error(diag, tokenizer->path,
            "post_processor TemplateProcessing: \"single\" must be an array, \"special_tokens\" an object");
    for (const qc_json *piece = single->first; piece; piece = piece->next) {
        const qc_json *sequence = qc_json_get(qc_json_get(piece, "Sequence"), "id");
        const qc_json *special = qc_json_get(qc_json_get(piece, "SpecialToken"), "id");
        if (special && special->kind == QC_JSON_STRING) {
            if (push_special(diag, tokenizer, specials, special->text, &list) != QC_OK)
                return QC_ERROR;
        } else if (sequence && sequence->kind == QC_JSON_STRING && strcmp(sequence->text, "A") == 0) {
            QC_PUSH(tokenizer->arena, &list, (int32_t)SEQUENCE_ITEM);
        } else {
            return qc_error(diag, tokenizer->path,
                "post_processor TemplateProcessing: \"single\" must hold special tokens and sequence A");
        }
    }
    push_step(tokenizer, &list);
    return QC_OK;
}

/* BertProcessing and RobertaProcessing: cls, the sequence, sep. */
static qc_status load_pair(qc_diag *diag, qc_tokenizer *tokenizer, const qc_json *json, const char *type)
{
    items list = {0};
    int32_t cls, sep;
    if (!get_id(qc_json_at(qc_json_get(json, "cls"), 1), &cls) ||
        !get_id(qc_json_at(qc_json_get(json, "sep"), 1), &sep))
        return qc_error(
            diag, tokenizer->path, "post_processor %s: \"cls\" and \"sep\" must be [token, id]", type);
    QC_PUSH(tokenizer->arena, &list, cls);
    QC_PUSH(tokenizer->arena, &list, (int32_t)SEQUENCE_ITEM);
    QC_PUSH(tokenizer->arena, &list, sep);
    push_step(tokenizer, &list);
    return QC_OK;
}

static qc_status load_one(qc_diag *diag, qc_tokenizer *tokenizer, const qc_json *json, int depth)
{
    enum { DEPTH_LIMIT = 32 };
    const char *type = qc_text_json_type(diag, tokenizer, json, "post_processor");
    if (!type)
        return QC_ERROR;
    if (strcmp(type, "TemplateProcessing") == 0)
        return load_template(diag, tokenizer, json);
    if (strcmp(type, "BertProcessing") == 0 || strcmp(type, "RobertaProcessing") == 0)
        return load_pair(diag, tokenizer, json, type);
    if (strcmp(type, "ByteLevel") == 0) /* moves offsets, not ids */
        return QC_OK;
    if (strcmp(type, "Sequence") != 0)
        return qc_error(diag, tokenizer->path, "post_processor type \"%s\" is not supported", type);
    const qc_json *parts = qc_json_get(json, "processors");
    if (!parts || parts->kind != QC_JSON_ARRAY || depth > DEPTH_LIMIT)
        return qc_error(diag, tokenizer->path, "post_processor Sequence: \"processors\" must be an array");
    for (const qc_json *part = parts->first; part; part = part->next) {
        if (load_one(diag, tokenizer, part, depth + 1) != QC_OK)
            return QC_ERROR;
    }
    return QC_OK;
}

qc_status qc_text_post_load(qc_diag *diag, qc_tokenizer *tokenizer, const qc_json *json)
{
    return qc_text_json_missing(json) ? QC_OK : load_one(diag, tokenizer, json, 0);
}

/* ---- truncation and padding ---------------------------------------------------------------------------- */

static qc_status load_direction(
    qc_diag *diag, const qc_tokenizer *tokenizer, const qc_json *json, const char *what, bool *left)
{
    const qc_json *direction = qc_json_get(json, "direction");
    bool text = direction && direction->kind == QC_JSON_STRING;
    *left = text && strcmp(direction->text, "Left") == 0;
    if (qc_text_json_missing(direction) || *left || (text && strcmp(direction->text, "Right") == 0))
        return QC_OK;
    return qc_error(diag, tokenizer->path, "%s: \"direction\" must be Left or Right", what);
}

static qc_status load_truncation(qc_diag *diag, qc_tokenizer *tokenizer, const qc_json *json)
{
    qc_text_limits *limits = &tokenizer->limits;
    const qc_json *strategy = qc_json_get(json, "strategy");
    const char *name = strategy && strategy->kind == QC_JSON_STRING ? strategy->text : "";
    limits->second_only = strcmp(name, "OnlySecond") == 0;
    if (!limits->second_only && strcmp(name, "LongestFirst") != 0 && strcmp(name, "OnlyFirst") != 0)
        return qc_error(diag, tokenizer->path, "truncation: strategy \"%s\" is not supported", name);
    limits->truncate = true;
    if (load_direction(diag, tokenizer, json, "truncation", &limits->truncate_left) ||
        qc_text_json_count(diag, tokenizer, json, "truncation", "max_length", true, &limits->max_length) ||
        qc_text_json_count(diag, tokenizer, json, "truncation", "stride", true, &limits->stride))
        return QC_ERROR;
    return QC_OK;
}

static qc_status load_padding(qc_diag *diag, qc_tokenizer *tokenizer, const qc_json *json)
{
    enum { PAD_LIMIT = 1 << 28 };
    qc_text_limits *limits = &tokenizer->limits;
    const qc_json *strategy = qc_json_get(json, "strategy");
    limits->pad_fixed = strategy && strategy->kind == QC_JSON_OBJECT;
    bool longest =
        strategy && strategy->kind == QC_JSON_STRING && strcmp(strategy->text, "BatchLongest") == 0;
    if (!limits->pad_fixed && !longest)
        return qc_error(
            diag, tokenizer->path, "padding: \"strategy\" must be \"BatchLongest\" or {\"Fixed\": length}");
    limits->pad = true;
    if (limits->pad_fixed &&
        qc_text_json_count(diag, tokenizer, strategy, "padding", "Fixed", true, &limits->pad_length))
        return QC_ERROR;
    if (load_direction(diag, tokenizer, json, "padding", &limits->pad_left) ||
        qc_text_json_count(
            diag, tokenizer, json, "padding", "pad_to_multiple_of", false, &limits->pad_multiple))
        return QC_ERROR;
    if (limits->pad_length > PAD_LIMIT || limits->pad_multiple > PAD_LIMIT)
        return qc_error(diag, tokenizer->path, "padding: a length of more than %d", PAD_LIMIT);
    if (!get_id(qc_json_get(json, "pad_id"), &limits->pad_id))
        return qc_error(diag, tokenizer->path, "padding: \"pad_id\" is out of range");
    return QC_OK;
}

qc_status qc_text_limits_load(qc_diag *diag, qc_tokenizer *tokenizer, const qc_json *root)
{
    const qc_json *truncation = qc_json_get(root, "truncation"), *padding = qc_json_get(root, "padding");
    if (!qc_text_json_missing(truncation) && load_truncation(diag, tokenizer, truncation) != QC_OK)
        return QC_ERROR;
    if (!qc_text_json_missing(padding) && load_padding(diag, tokenizer, padding) != QC_OK)
        return QC_ERROR;
    return QC_OK;
}

/* ---- running ------------------------------------------------------------------------------------------- */

/* How many ids the templates add to a sequence. */
static uint64_t added_count(const qc_tokenizer *tokenizer)
{
    uint64_t count = 0;
    for (size_t i = 0; i < tokenizer->post.count; i++) {
        for (size_t j = 0; j < tokenizer->post.items[i].count; j++)
            count += tokenizer->post.items[i].items[j] != SEQUENCE_ITEM;
    }
    return count;
}

/* The part of sequence[0..count) that truncation leaves. Room for special tokens is subtracted as the
 * reference library does it: when they alone do not fit, nothing is cut. */
static qc_status truncate(const qc_tokenizer *tokenizer, qc_diag *diag, bool add_special_tokens,
    const int32_t **sequence, size_t *count)
{
    const qc_text_limits *limits = &tokenizer->limits;
    uint64_t special = add_special_tokens ? added_count(tokenizer) : 0;
    if (!limits->truncate || special > limits->max_length || *count <= limits->max_length - special)
        return QC_OK;
    uint64_t room = limits->max_length - special;
    if (room && limits->second_only)
        return qc_error(
            diag, tokenizer->path, "truncation: strategy OnlySecond, but a text has no second part");
    if (room && limits->stride >= room)
        return qc_error(diag, tokenizer->path, "truncation: stride %llu leaves nothing of %llu tokens",
            (unsigned long long)limits->stride, (unsigned long long)room);
    if (limits->truncate_left)
        *sequence += *count - room;
    *count = (size_t)room;
    return QC_OK;
}

static void apply_template(const qc_text_post_step *step, bool add_special_tokens, const qc_token_ids *from,
    qc_arena *arena, qc_token_ids *to)
{
    for (size_t i = 0; i < step->count; i++) {
        if (step->items[i] != SEQUENCE_ITEM) {
            if (add_special_tokens)
                QC_PUSH(arena, to, step->items[i]);
            continue;
        }
        for (size_t j = 0; j < from->count; j++)
            QC_PUSH(arena, to, from->items[j]);
    }
}

qc_status qc_text_post_process(const qc_tokenizer *tokenizer, const qc_token_ids *sequence, qc_diag *diag,
    bool add_special_tokens, qc_arena *arena, qc_token_ids *ids)
{
    const qc_text_limits *limits = &tokenizer->limits;
    const int32_t *first = sequence->items;
    size_t count = sequence->count, padding = 0;
    if (truncate(tokenizer, diag, add_special_tokens, &first, &count) != QC_OK)
        return QC_ERROR;
    qc_arena work;
    qc_arena_init(&work, arena->oom);
    qc_token_ids current = {.items = (int32_t *)first, .count = count};
    for (size_t i = 0; i < tokenizer->post.count; i++) {
        qc_token_ids next = {0};
        apply_template(&tokenizer->post.items[i], add_special_tokens, &current, &work, &next);
        current = next;
    }
    if (limits->pad) {
        uint64_t length = limits->pad_fixed ? limits->pad_length : current.count;
        uint64_t multiple = limits->pad_multiple;
        if (multiple && length % multiple)
            length += multiple - length % multiple;
        padding = length > current.count ? (size_t)(length - current.count) : 0;
    }
    for (size_t i = 0; i < padding && limits->pad_left; i++)
        QC_PUSH(arena, ids, limits->pad_id);
    for (size_t i = 0; i < current.count; i++)
        QC_PUSH(arena, ids, current.items[i]);
    for (size_t i = 0; i < padding && !limits->pad_left; i++)
        QC_PUSH(arena, ids, limits->pad_id);
    qc_arena_fini(&work);
    return QC_OK;
}
