/* SPDX-License-Identifier: MIT
 *
 * tokenizer.c - loading a tokenizer, and the chain from a text to its ids.
 */
#include "frontends/text/tokenizer/internal.h"

#include <stdlib.h>

#include "ir/support/io.h"

enum {
    FILE_LIMIT_BYTES = 1 << 30,
    TEXT_LIMIT_BYTES = 1 << 28, /* normalization may make it longer, positions are 32 bits */
};

/* ---- loading ------------------------------------------------------------------------------------------- */

static qc_status load_parts(qc_diag *diag, qc_tokenizer *tokenizer, const qc_json *root)
{
    const qc_json *version = qc_json_get(root, "version");
    if (root->kind != QC_JSON_OBJECT)
        return qc_error(diag, tokenizer->path, "must hold an object");
    if (version && (version->kind != QC_JSON_STRING || strcmp(version->text, "1.0") != 0))
        return qc_error(diag, tokenizer->path, "only version \"1.0\" is supported");
    if (!qc_json_get(root, "model"))
        return qc_error(diag, tokenizer->path, "there is no \"model\"");
    if (qc_text_model_load(diag, tokenizer, qc_json_get(root, "model")) ||
        qc_text_normalizers_load(diag, tokenizer, qc_json_get(root, "normalizer")) ||
        qc_text_splitters_load(diag, tokenizer, qc_json_get(root, "pre_tokenizer")) ||
        qc_text_post_load(diag, tokenizer, qc_json_get(root, "post_processor")) ||
        qc_text_decoders_load(diag, tokenizer, qc_json_get(root, "decoder")) ||
        qc_text_limits_load(diag, tokenizer, root) ||
        qc_text_added_load(diag, tokenizer, qc_json_get(root, "added_tokens")))
        return QC_ERROR;
    return QC_OK;
}

qc_status qc_tokenizer_parse(qc_diag *diag, qc_arena *arena, const char *where, const char *json,
    size_t length, qc_tokenizer **tokenizer)
{
    qc_arena work; /* the tree of a large file is large, and not needed after this */
    qc_tokenizer *made = QC_NEW(arena, qc_tokenizer);
    made->path = qc_arena_strdup(arena, where);
    made->arena = arena;
    made->bos_id = made->eos_id = made->pad_id = -1;
    *tokenizer = NULL;
    qc_arena_init(&work, arena->oom);
    qc_json *root = qc_json_parse(diag, &work, where, json, length);
    qc_status status = root ? load_parts(diag, made, root) : QC_ERROR;
    qc_arena_fini(&work);
    if (status != QC_OK) {
        qc_tokenizer_fini(made);
        return status;
    }
    *tokenizer = made;
    return QC_OK;
}

/* A token named as "..." or {"content": "..."}. */
static void find_named(const qc_tokenizer *tokenizer, const qc_json *config, const char *key, int32_t *id)
{
    const qc_json *name = qc_json_get(config, key);
    if (name && name->kind == QC_JSON_OBJECT)
        name = qc_json_get(name, "content");
    if (*id < 0 && name && name->kind == QC_JSON_STRING)
        *id = qc_tokenizer_token_to_id(tokenizer, name->text, name->length);
}

static qc_status load_names(
    qc_diag *diag, qc_tokenizer *tokenizer, const char *directory, const char *file_name)
{
    qc_arena work;
    char *text;
    size_t length;
    qc_arena_init(&work, tokenizer->arena->oom);
    const char *path = qc_path_join(&work, directory, file_name);
    qc_status status = QC_OK;
    if (qc_is_file(path)) {
        status = qc_read_file(diag, &work, path, FILE_LIMIT_BYTES, &text, &length);
        const qc_json *config = status == QC_OK ? qc_json_parse(diag, &work, path, text, length) : NULL;
        status = config ? QC_OK : QC_ERROR;
        find_named(tokenizer, config, "bos_token", &tokenizer->bos_id);
        find_named(tokenizer, config, "eos_token", &tokenizer->eos_id);
        find_named(tokenizer, config, "pad_token", &tokenizer->pad_id);
    }
    qc_arena_fini(&work);
    return status;
}

qc_status qc_tokenizer_load(
    qc_diag *diag, qc_arena *arena, const char *model_directory, qc_tokenizer **tokenizer)
{
    qc_arena work;
    char *text;
    size_t length;
    *tokenizer = NULL;
    qc_arena_init(&work, arena->oom);
    const char *path = qc_path_join(arena, model_directory, "tokenizer.json");
    qc_status status = qc_read_file(diag, &work, path, FILE_LIMIT_BYTES, &text, &length);
    if (status == QC_OK)
        status = qc_tokenizer_parse(diag, arena, path, text, length, tokenizer);
    qc_arena_fini(&work);
    if (status == QC_OK)
        status = load_names(diag, *tokenizer, model_directory, "tokenizer_config.json");
    if (status == QC_OK)
        status = load_names(diag, *tokenizer, model_directory, "special_tokens_map.json");
    if (status != QC_OK) {
        qc_tokenizer_fini(*tokenizer);
        *tokenizer = NULL;
    }
    return status;
}

void qc_tokenizer_fini(qc_tokenizer *tokenizer)
{
    if (!tokenizer)
        return;
    for (size_t i = 0; i < tokenizer->regexes.count; i++)
        qc_text_regex_free(tokenizer->regexes.items[i]);
    tokenizer->regexes.count = 0;
}

void qc_tokenizer_ignore_limits(qc_tokenizer *tokenizer)
{
    tokenizer->limits = (qc_text_limits){0};
}

/* ---- scratch ------------------------------------------------------------------------------------------- */

qc_tokenizer_scratch *qc_tokenizer_scratch_create(const qc_tokenizer *tokenizer, qc_oom_fn oom)
{
    qc_arena first;
    qc_arena_init(&first, oom);
    qc_tokenizer_scratch *scratch = QC_NEW(&first, qc_tokenizer_scratch);
    qc_arena *arena = &scratch->arena;
    *arena = first; /* the scratch lives in its own arena */
    scratch->matcher = qc_text_matcher_create(arena);
    scratch->level_count = tokenizer->splitters.count;
    scratch->levels = QC_NEW_ARRAY(arena, qc_text_level, scratch->level_count);
    for (size_t i = 0; i < scratch->level_count; i++) {
        qc_str_init(&scratch->levels[i].prefixed, arena);
        qc_str_init(&scratch->levels[i].mapped, arena);
    }
    qc_str_init(&scratch->normalized[0], arena);
    qc_str_init(&scratch->normalized[1], arena);
    qc_str_init(&scratch->affixed, arena);
    scratch->cache = QC_NEW_ARRAY(arena, qc_text_cached_word, QC_TEXT_CACHE_WAYS);
    return scratch;
}

void qc_tokenizer_scratch_destroy(qc_tokenizer_scratch *scratch)
{
    if (!scratch)
        return;
    for (size_t i = 0; i < scratch->level_count; i++) {
        qc_str_fini(&scratch->levels[i].prefixed);
        qc_str_fini(&scratch->levels[i].mapped);
    }
    qc_str_fini(&scratch->normalized[0]);
    qc_str_fini(&scratch->normalized[1]);
    qc_str_fini(&scratch->affixed);
    qc_text_matcher_destroy(scratch->matcher);
    qc_arena arena = scratch->arena;
    qc_arena_fini(&arena);
}

/* ---- encoding ------------------------------------------------------------------------------------------ */

/* Text between the tokens that were found in the raw text. */
static qc_status encode_between(
    const qc_tokenizer *tokenizer, qc_tokenizer_scratch *scratch, qc_diag *diag, qc_text_piece piece)
{
    if (qc_text_normalize(tokenizer, scratch, diag, piece, &piece) != QC_OK)
        return QC_ERROR;
    qc_text_segments *segments = &scratch->normalized_segments;
    qc_text_added_find(
        tokenizer, &tokenizer->normalized_trie, piece.text, piece.length, &scratch->arena, segments);
    for (size_t i = 0; i < segments->count; i++) {
        qc_text_segment segment = segments->items[i];
        if (segment.id >= 0) {
            QC_PUSH(&scratch->arena, &scratch->ids, segment.id);
            continue;
        }
        qc_text_piece part = qc_text_piece_slice(piece, segment.start, segment.end);
        if (qc_text_pretokenize(tokenizer, scratch, diag, part) != QC_OK)
            return QC_ERROR;
    }
    return QC_OK;
}

qc_status qc_tokenizer_encode(const qc_tokenizer *tokenizer, qc_tokenizer_scratch *scratch, qc_diag *diag,
    const char *text, size_t length, bool add_special_tokens, qc_arena *arena, qc_token_ids *ids)
{
    if (length > TEXT_LIMIT_BYTES)
        return qc_error(diag, tokenizer->path, "a text of %zu bytes is too long to tokenize at once", length);
    size_t invalid = qc_text_invalid_offset(text, length);
    if (invalid < length)
        return qc_error(diag, tokenizer->path, "the text is not valid UTF-8 at byte %zu", invalid);
    qc_text_piece whole = {.text = text, .length = length, .at_origin = true};
    if (length)
        qc_text_get(text, length, &whole.origin_bytes);
    qc_text_segments *segments = &scratch->raw_segments;
    scratch->ids.count = 0;
    qc_text_added_find(tokenizer, &tokenizer->raw_trie, text, length, &scratch->arena, segments);
    for (size_t i = 0; i < segments->count; i++) {
        qc_text_segment segment = segments->items[i];
        if (segment.id >= 0) {
            QC_PUSH(&scratch->arena, &scratch->ids, segment.id);
            continue;
        }
        qc_text_piece part = qc_text_piece_slice(whole, segment.start, segment.end);
        if (encode_between(tokenizer, scratch, diag, part) != QC_OK)
            return QC_ERROR;
    }
    return qc_text_post_process(tokenizer, &scratch->ids, diag, add_special_tokens, arena, ids);
}

/* ---- vocabulary ---------------------------------------------------------------------------------------- */

size_t qc_tokenizer_vocab_size(const qc_tokenizer *tokenizer)
{
    return tokenizer->token_count;
}

int32_t qc_tokenizer_token_to_id(const qc_tokenizer *tokenizer, const char *token, size_t length)
{
    intptr_t id = (intptr_t)qc_map_get_n(&tokenizer->added_ids, token, length);
    return (int32_t)((id ? id : (intptr_t)qc_map_get_n(&tokenizer->model.vocab, token, length)) - 1);
}

const char *qc_tokenizer_id_to_token(const qc_tokenizer *tokenizer, int32_t id, size_t *length)
{
    if (id < 0 || (size_t)id >= tokenizer->token_count || !tokenizer->tokens[id].text)
        return NULL;
    *length = tokenizer->tokens[id].length;
    return tokenizer->tokens[id].text;
}

bool qc_tokenizer_is_special(const qc_tokenizer *tokenizer, int32_t id)
{
    int32_t index = id >= 0 && (size_t)id < tokenizer->token_count ? tokenizer->tokens[id].added_index : 0;
    return index && tokenizer->added.items[index - 1].special;
}

int32_t qc_tokenizer_bos_id(const qc_tokenizer *tokenizer)
{
    return tokenizer->bos_id;
}

int32_t qc_tokenizer_eos_id(const qc_tokenizer *tokenizer)
{
    return tokenizer->eos_id;
}

int32_t qc_tokenizer_pad_id(const qc_tokenizer *tokenizer)
{
    return tokenizer->pad_id;
}
