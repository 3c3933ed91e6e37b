/* SPDX-License-Identifier: MIT
 *
 * model.c - byte pair encoding (Sennrich, Haddow and Birch, 2016) of one word.
 *
 * A word starts as one symbol a character. Of all neighbours that the merge table knows, the pair with the
 * lowest rank is merged, the leftmost first, until no pair is left. A binary heap holds the candidates;
 * one that no longer fits its place (a symbol is gone or has grown) is dropped when it comes up.
 *
 * Invariant: a candidate's position is its left symbol's; symbols are linked, never moved.
 */
#include "frontends/text/tokenizer/internal.h"

#include <stdio.h>

enum { DIRECT_CHARS = 0x250 };
static const uint64_t EMPTY_PAIR = UINT64_MAX;

static int32_t find_token(const qc_text_model *model, const char *text, size_t length)
{
    return (int32_t)((intptr_t)qc_map_get_n(&model->vocab, text, length) - 1);
}

/* ---- loading ------------------------------------------------------------------------------------------- */

static qc_status load_vocab(qc_diag *diag, qc_tokenizer *tokenizer, const qc_json *json)
{
    enum { SPARE_IDS = 1 << 20 };
    const qc_json *vocab = qc_json_get(json, "vocab");
    qc_text_model *model = &tokenizer->model;
    int64_t largest = -1;
    if (!vocab || vocab->kind != QC_JSON_OBJECT)
        return qc_error(diag, tokenizer->path, "model: \"vocab\" must be an object");
    /* Ids may leave gaps, but a few large ones must not make a large table. */
    const int64_t limit = (int64_t)vocab->length * 8 + SPARE_IDS;
    for (const qc_json *token = vocab->first; token; token = token->next) {
        if (token->kind != QC_JSON_NUMBER || !token->is_integer || token->integer < 0 ||
            token->integer >= limit)
            return qc_error(
                diag, tokenizer->path, "model: the id of token \"%s\" is out of range", token->key);
        largest = token->integer > largest ? token->integer : largest;
    }
    tokenizer->token_count = tokenizer->token_capacity = (size_t)(largest + 1);
    tokenizer->tokens = QC_NEW_ARRAY(tokenizer->arena, qc_text_token, tokenizer->token_count);
    qc_map_init(&model->vocab, tokenizer->arena);
    for (const qc_json *token = vocab->first; token; token = token->next) {
        qc_text_token *slot = &tokenizer->tokens[token->integer];
        if (slot->text)
            return qc_error(diag, tokenizer->path, "model: tokens \"%s\" and \"%s\" have the same id %lld",
                slot->text, token->key, (long long)token->integer);
        qc_map_set_n(&model->vocab, token->key, token->key_length, (void *)(intptr_t)(token->integer + 1));
        slot->text = model->vocab.entries[model->vocab.count - 1].key;
        slot->length = (uint32_t)token->key_length;
    }
    return QC_OK;
}

static qc_text_merge *find_merge_slot(const qc_text_model *model, uint64_t pair)
{
    uint64_t hash = pair * 0x9e3779b97f4a7c15u;
    for (size_t i = (size_t)(hash >> 32) & model->merge_mask;; i = (i + 1) & model->merge_mask) {
        if (model->merges[i].pair == pair || model->merges[i].pair == EMPTY_PAIR)
            return &model->merges[i];
    }
}

static uint64_t pair_of(int32_t left, int32_t right)
{
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

static qc_status add_merge(qc_diag *diag, qc_tokenizer *tokenizer, qc_str *joined, uint32_t rank,
    const char *left, size_t left_length, const char *right, size_t right_length)
{
    qc_text_model *model = &tokenizer->model;
    size_t prefix_length = model->prefix ? strlen(model->prefix) : 0;
    int32_t left_id = find_token(model, left, left_length);
    int32_t right_id = find_token(model, right, right_length);
    if (left_id < 0 || right_id < 0)
        return qc_error(diag, tokenizer->path, "model: merge %u refers to the unknown token \"%.*s\"", rank,
            (int)(left_id < 0 ? left_length : right_length), left_id < 0 ? left : right);
    if (right_length < prefix_length)
        return qc_error(diag, tokenizer->path, "model: merge %u lacks the continuing_subword_prefix", rank);
    qc_str_clear(joined);
    qc_str_add_bytes(joined, left, left_length);
    qc_str_add_bytes(joined, right + prefix_length, right_length - prefix_length);
    int32_t id = find_token(model, joined->data, joined->length);
    if (id < 0)
        return qc_error(
            diag, tokenizer->path, "model: merge %u makes the unknown token \"%s\"", rank, joined->data);
    /* a pair listed twice has its last rank */
    *find_merge_slot(model, pair_of(left_id, right_id)) =
        (qc_text_merge){.pair = pair_of(left_id, right_id), .rank = rank, .id = id};
    return QC_OK;
}

/* "a b", or ["a", "b"]; one file has one kind. Lines that start with "#version" are no merges. */
static qc_status load_merge(qc_diag *diag, qc_tokenizer *tokenizer, qc_str *joined, const qc_json *merge,
    qc_json_kind kind, uint32_t *rank)
{
    if (merge->kind != kind)
        return qc_error(diag, tokenizer->path, "model: merges must be all strings or all pairs");
    if (kind == QC_JSON_ARRAY) {
        const qc_json *left = merge->first, *right = left ? left->next : NULL;
        if (merge->length != 2 || left->kind != QC_JSON_STRING || right->kind != QC_JSON_STRING)
            return qc_error(diag, tokenizer->path, "model: merge %u must be two strings", *rank);
        return add_merge(
            diag, tokenizer, joined, (*rank)++, left->text, left->length, right->text, right->length);
    }
    if (qc_starts_with(merge->text, "#version"))
        return QC_OK;
    const char *space = memchr(merge->text, ' ', merge->length);
    const char *end = merge->text + merge->length;
    if (!space || memchr(space + 1, ' ', (size_t)(end - space - 1)))
        return qc_error(diag, tokenizer->path, "model: merge %u must be two tokens and one space", *rank);
    return add_merge(diag, tokenizer, joined, (*rank)++, merge->text, (size_t)(space - merge->text),
        space + 1, (size_t)(end - space - 1));
}

static qc_status load_merges(qc_diag *diag, qc_tokenizer *tokenizer, const qc_json *json)
{
    const qc_json *merges = qc_json_get(json, "merges");
    qc_text_model *model = &tokenizer->model;
    size_t slots = 16;
    uint32_t rank = 0;
    qc_str joined;
    qc_status status = QC_OK;
    if (!merges || merges->kind != QC_JSON_ARRAY)
        return qc_error(diag, tokenizer->path, "model: \"merges\" must be an array");
    if (merges->length > UINT32_MAX / 4)
        return qc_error(diag, tokenizer->path, "model: too many merges");
    while (slots < merges->length * 2)
        slots *= 2;
    model->merges = QC_NEW_ARRAY(tokenizer->arena, qc_text_merge, slots);
    model->merge_mask = slots - 1;
    for (size_t i = 0; i < slots; i++)
        model->merges[i].pair = EMPTY_PAIR;
    qc_str_init(&joined, tokenizer->arena);
    qc_json_kind kind = merges->first ? merges->first->kind : QC_JSON_STRING;
    kind = kind == QC_JSON_ARRAY ? QC_JSON_ARRAY : QC_JSON_STRING;
    for (const qc_json *merge = merges->first; merge && status == QC_OK; merge = merge->next)
        status = load_merge(diag, tokenizer, &joined, merge, kind, &rank);
    qc_str_fini(&joined);
    return status;
}

static qc_status load_options(qc_diag *diag, qc_tokenizer *tokenizer, const qc_json *json)
{
    qc_text_model *model = &tokenizer->model;
    const qc_json *dropout = qc_json_get(json, "dropout");
    size_t length, prefix_length = 0, suffix_length = 0, unk_length = 0;
    if (!qc_text_json_missing(dropout) && (dropout->kind != QC_JSON_NUMBER || dropout->number != 0))
        return qc_error(diag, tokenizer->path, "model: dropout is not supported");
    if (qc_text_json_string(
            diag, tokenizer, json, "model", "unk_token", false, &model->unk_token, &unk_length) ||
        qc_text_json_string(diag, tokenizer, json, "model", "continuing_subword_prefix", false,
            &model->prefix, &prefix_length) ||
        qc_text_json_string(
            diag, tokenizer, json, "model", "end_of_word_suffix", false, &model->suffix, &suffix_length) ||
        qc_text_json_bool(diag, tokenizer, json, "model", "fuse_unk", false, &model->fuse_unk) ||
        qc_text_json_bool(diag, tokenizer, json, "model", "byte_fallback", false, &model->byte_fallback) ||
        qc_text_json_bool(diag, tokenizer, json, "model", "ignore_merges", false, &model->ignore_merges))
        return QC_ERROR;
    length = (model->unk_token ? strlen(model->unk_token) : 0) + (model->prefix ? strlen(model->prefix) : 0) +
             (model->suffix ? strlen(model->suffix) : 0);
    if (length != unk_length + prefix_length + suffix_length)
        return qc_error(
            diag, tokenizer->path, "model: unk_token, prefix and suffix must not hold NUL characters");
    return QC_OK;
}

qc_status qc_text_model_load(qc_diag *diag, qc_tokenizer *tokenizer, const qc_json *json)
{
    qc_text_model *model = &tokenizer->model;
    const qc_json *type = qc_json_get(json, "type");
    if (qc_text_json_missing(json) || json->kind != QC_JSON_OBJECT)
        return qc_error(diag, tokenizer->path, "\"model\" must be an object");
    /* old files do not say, but only BPE has merges */
    if (qc_text_json_missing(type) ? !qc_json_get(json, "merges") : type->kind != QC_JSON_STRING)
        return qc_error(diag, tokenizer->path, "model must be an object with a \"type\"");
    if (type && type->kind == QC_JSON_STRING && strcmp(type->text, "BPE") != 0)
        return qc_error(diag, tokenizer->path, "model type \"%s\" is not supported", type->text);
    if (load_options(diag, tokenizer, json) != QC_OK || load_vocab(diag, tokenizer, json) != QC_OK ||
        load_merges(diag, tokenizer, json) != QC_OK)
        return QC_ERROR;
    model->unk_id = model->unk_token ? find_token(model, model->unk_token, strlen(model->unk_token)) : -1;
    for (int byte = 0; byte < 256; byte++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", (unsigned)byte);
        model->fallback_ids[byte] = find_token(model, name, 6);
    }
    model->char_ids = QC_NEW_ARRAY(tokenizer->arena, int32_t, DIRECT_CHARS);
    for (uint32_t code = 0; code < DIRECT_CHARS; code++) {
        char bytes[4];
        model->char_ids[code] = find_token(model, bytes, qc_text_put(bytes, code));
    }
    return QC_OK;
}

/* ---- encoding ------------------------------------------------------------------------------------------ */

static void add_symbol(qc_tokenizer_scratch *scratch, int32_t id)
{
    int32_t index = (int32_t)scratch->symbols.count;
    QC_PUSH(&scratch->arena, &scratch->symbols, (qc_text_symbol){id, index - 1, -1, true});
    if (index)
        scratch->symbols.items[index - 1].next = index;
}

/* The id of one character with the prefix and suffix that its place asks for. *text and *length become what
 * was looked up. */
static int32_t find_character(const qc_text_model *model, qc_tokenizer_scratch *scratch, const char **text,
    size_t *length, bool first, bool last)
{
    bool prefixed = model->prefix && !first, suffixed = model->suffix && last;
    if (!prefixed && !suffixed) {
        size_t size;
        uint32_t code = qc_text_get(*text, *length, &size);
        return code < DIRECT_CHARS ? model->char_ids[code] : find_token(model, *text, *length);
    }
    qc_str_clear(&scratch->affixed);
    if (prefixed)
        qc_str_add(&scratch->affixed, model->prefix);
    qc_str_add_bytes(&scratch->affixed, *text, *length);
    if (suffixed)
        qc_str_add(&scratch->affixed, model->suffix);
    *text = scratch->affixed.data;
    *length = scratch->affixed.length;
    return find_token(model, *text, *length);
}

static bool add_fallback(
    const qc_text_model *model, qc_tokenizer_scratch *scratch, const char *text, size_t length)
{
    if (!model->byte_fallback)
        return false;
    for (size_t i = 0; i < length; i++) {
        if (model->fallback_ids[(unsigned char)text[i]] < 0)
            return false;
    }
    for (size_t i = 0; i < length; i++)
        add_symbol(scratch, model->fallback_ids[(unsigned char)text[i]]);
    return true;
}

/* One symbol a character. An unknown character waits, to be fused with the next ones, and is added only when
 * a known one comes; bytes do not end the wait. */
static qc_status make_symbols(const qc_tokenizer *tokenizer, qc_tokenizer_scratch *scratch, qc_diag *diag,
    const char *text, size_t length)
{
    const qc_text_model *model = &tokenizer->model;
    bool unknown = false;
    size_t size;
    scratch->symbols.count = 0;
    for (size_t at = 0; at < length; at += size) {
        qc_text_get(text + at, length - at, &size);
        const char *character = text + at;
        size_t character_length = size;
        int32_t id =
            find_character(model, scratch, &character, &character_length, at == 0, at + size == length);
        if (id >= 0) {
            if (unknown)
                add_symbol(scratch, model->unk_id);
            unknown = false;
            add_symbol(scratch, id);
        } else if (!add_fallback(model, scratch, character, character_length) && model->unk_token) {
            if (model->unk_id < 0)
                return qc_error(diag, tokenizer->path,
                    "unk_token \"%s\" is needed, but not in the vocabulary", model->unk_token);
            if (unknown && !model->fuse_unk)
                add_symbol(scratch, model->unk_id);
            unknown = true;
        }
    }
    if (unknown)
        add_symbol(scratch, model->unk_id);
    return QC_OK;
}

static void push_candidate(
    const qc_text_model *model, qc_tokenizer_scratch *scratch, int32_t left, int32_t right)
{
    const qc_text_symbol *symbols = scratch->symbols.items;
    const qc_text_merge *merge = find_merge_slot(model, pair_of(symbols[left].id, symbols[right].id));
    if (merge->pair == EMPTY_PAIR)
        return;
    qc_text_candidate candidate = {(uint64_t)merge->rank << 32 | (uint32_t)left, merge->id};
    QC_PUSH(&scratch->arena, &scratch->heap, candidate);
    qc_text_candidate *heap = scratch->heap.items;
    size_t at = scratch->heap.count - 1;
    for (; at && heap[(at - 1) / 2].order > candidate.order; at = (at - 1) / 2)
        heap[at] = heap[(at - 1) / 2];
    heap[at] = candidate;
}

static qc_text_candidate pop_candidate(qc_tokenizer_scratch *scratch)
{
    qc_text_candidate *heap = scratch->heap.items, top = heap[0];
    size_t count = --scratch->heap.count, at = 0;
    qc_text_candidate moved = heap[count];
    for (size_t child = 1; child < count; child = 2 * at + 1) {
        if (child + 1 < count && heap[child + 1].order < heap[child].order)
            child++;
        if (heap[child].order >= moved.order)
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = moved;
    return top;
}

static void merge_symbols(const qc_text_model *model, qc_tokenizer_scratch *scratch)
{
    qc_text_symbol *symbols = scratch->symbols.items;
    scratch->heap.count = 0;
    for (size_t i = 0; i + 1 < scratch->symbols.count; i++)
        push_candidate(model, scratch, (int32_t)i, (int32_t)i + 1);
    while (scratch->heap.count) {
        qc_text_candidate top = pop_candidate(scratch);
        int32_t left = (int32_t)(uint32_t)top.order, right = symbols[left].next;
        if (!symbols[left].alive || right < 0)
            continue;
        const qc_text_merge *merge = find_merge_slot(model, pair_of(symbols[left].id, symbols[right].id));
        if (merge->pair == EMPTY_PAIR || merge->id != top.id)
            continue;
        symbols[left].id = top.id;
        symbols[left].next = symbols[right].next;
        symbols[right].alive = false;
        if (symbols[left].next >= 0)
            symbols[symbols[left].next].previous = left;
        if (symbols[left].previous >= 0)
            push_candidate(model, scratch, symbols[left].previous, left);
        if (symbols[left].next >= 0)
            push_candidate(model, scratch, left, symbols[left].next);
    }
}

static qc_text_cached_word *find_cached(qc_tokenizer_scratch *scratch, const char *text, size_t length)
{
    uint64_t hash = qc_hash_bytes(text, length);
    return &scratch->cache[hash & (QC_TEXT_CACHE_WAYS - 1)];
}

qc_status qc_text_model_encode(const qc_tokenizer *tokenizer, qc_tokenizer_scratch *scratch, qc_diag *diag,
    const char *text, size_t length)
{
    const qc_text_model *model = &tokenizer->model;
    qc_text_cached_word *cached = NULL;
    size_t before = scratch->ids.count;
    if (length > 0 && length <= QC_TEXT_CACHE_KEY_BYTES) {
        cached = find_cached(scratch, text, length);
        if (cached->length == length && memcmp(cached->key, text, length) == 0) {
            for (size_t i = 0; i < cached->count; i++)
                QC_PUSH(&scratch->arena, &scratch->ids, cached->ids[i]);
            return QC_OK;
        }
    }
    int32_t whole = model->ignore_merges ? find_token(model, text, length) : -1;
    if (whole >= 0) {
        QC_PUSH(&scratch->arena, &scratch->ids, whole);
    } else {
        if (make_symbols(tokenizer, scratch, diag, text, length) != QC_OK)
            return QC_ERROR;
        merge_symbols(model, scratch);
        for (int32_t i = scratch->symbols.count ? 0 : -1; i >= 0; i = scratch->symbols.items[i].next)
            QC_PUSH(&scratch->arena, &scratch->ids, scratch->symbols.items[i].id);
    }
    size_t count = scratch->ids.count - before;
    if (cached && count <= QC_TEXT_CACHE_IDS) {
        cached->length = (unsigned char)length;
        cached->count = (unsigned char)count;
        memcpy(cached->key, text, length);
        if (count)
            memcpy(cached->ids, scratch->ids.items + before, count * sizeof *cached->ids);
    }
    return QC_OK;
}
