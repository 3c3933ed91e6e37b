/* SPDX-License-Identifier: MIT
 *
 * added.c - added tokens: loading, and cutting them out of a text before the model sees it.
 *
 * Tokens that are not `normalized` are searched in the raw text, the others, in their normalized spelling, in
 * the normalized text between them. Matches are leftmost, then longest, and do not overlap; only then do
 * single_word, lstrip and rstrip have their say, so that a match that single_word rejects still hides what it
 * covers.
 *
 * Invariant: siblings in the trie are not sorted; a token's bytes make one path.
 */
#include "frontends/text/tokenizer/internal.h"

enum { CONTENT_LIMIT_BYTES = 4096 }; /* a text is searched in this many steps a byte at worst */

/* ---- trie ---------------------------------------------------------------------------------------------- */

static int32_t *find_link(qc_text_trie *trie, int32_t *link, unsigned char byte)
{
    while (*link >= 0 && trie->nodes.items[*link].byte != byte)
        link = &trie->nodes.items[*link].next_sibling;
    return link;
}

/* The last of equal patterns stays. */
static void trie_add(qc_arena *arena, qc_text_trie *trie, const char *text, size_t length, int32_t token)
{
    int32_t node = -1;
    for (size_t i = 0; i < length; i++) {
        unsigned char byte = (unsigned char)text[i];
        int32_t *link = node < 0 ? &trie->roots[byte] : &trie->nodes.items[node].first_child;
        link = find_link(trie, link, byte);
        if (*link >= 0) {
            node = *link;
            continue;
        }
        *link = (int32_t)trie->nodes.count; /* before the push, which may move the nodes */
        node = *link;
        QC_PUSH(arena, &trie->nodes, (qc_text_trie_node){-1, -1, -1, byte});
    }
    if (node >= 0)
        trie->nodes.items[node].token = token;
    trie->empty = trie->nodes.count == 0;
}

/* Length of the longest token at the start of text[length], 0 for none. */
static size_t trie_match(const qc_text_trie *trie, const char *text, size_t length, int32_t *token)
{
    size_t longest = 0, depth = 0;
    int32_t node = trie->roots[(unsigned char)text[0]];
    while (node >= 0) {
        depth++;
        if (trie->nodes.items[node].token >= 0) {
            longest = depth;
            *token = trie->nodes.items[node].token;
        }
        if (depth == length)
            break;
        unsigned char byte = (unsigned char)text[depth];
        for (node = trie->nodes.items[node].first_child; node >= 0 && trie->nodes.items[node].byte != byte;)
            node = trie->nodes.items[node].next_sibling;
    }
    return longest;
}

/* ---- loading ------------------------------------------------------------------------------------------- */

static int32_t known_id(const qc_tokenizer *tokenizer, const char *content, size_t length)
{
    intptr_t id = (intptr_t)qc_map_get_n(&tokenizer->added_ids, content, length);
    return (int32_t)((id ? id : (intptr_t)qc_map_get_n(&tokenizer->model.vocab, content, length)) - 1);
}

/* Ids follow from the order of the file, as in the reference library, which only warns when the file thinks
 * otherwise: a known token keeps its id, a new one comes after all others. */
static int32_t assign_id(const qc_tokenizer *tokenizer, const qc_text_added *token)
{
    int32_t id = known_id(tokenizer, token->content, token->length);
    int32_t next = (int32_t)tokenizer->model.vocab.count;
    if (id >= 0)
        return id;
    return tokenizer->next_added_id > next ? tokenizer->next_added_id : next;
}

static void store_token(qc_tokenizer *tokenizer, const qc_text_added *token)
{
    if ((size_t)token->id >= tokenizer->token_count) {
        size_t count = (size_t)token->id + 1;
        tokenizer->tokens = qc_arena_grow(tokenizer->arena, tokenizer->tokens, tokenizer->token_count,
            &tokenizer->token_capacity, count, sizeof *tokenizer->tokens);
        tokenizer->token_count = count;
    }
    tokenizer->tokens[token->id].text = token->content;
    tokenizer->tokens[token->id].length = (uint32_t)token->length;
}

static qc_status load_token(qc_diag *diag, qc_tokenizer *tokenizer, const qc_json *json)
{
    qc_text_added token = {.normalized = true};
    const char *what = "added_tokens";
    uint64_t expected = 0;
    if (qc_text_json_string(diag, tokenizer, json, what, "content", true, &token.content, &token.length) ||
        qc_text_json_count(diag, tokenizer, json, what, "id", true, &expected) ||
        qc_text_json_bool(diag, tokenizer, json, what, "single_word", true, &token.single_word) ||
        qc_text_json_bool(diag, tokenizer, json, what, "lstrip", true, &token.lstrip) ||
        qc_text_json_bool(diag, tokenizer, json, what, "rstrip", true, &token.rstrip) ||
        qc_text_json_bool(diag, tokenizer, json, what, "normalized", true, &token.normalized) ||
        qc_text_json_bool(diag, tokenizer, json, what, "special", true, &token.special))
        return QC_ERROR;
    if (token.length > CONTENT_LIMIT_BYTES)
        return qc_error(diag, tokenizer->path, "added_tokens: a token of %zu bytes", token.length);
    if (!token.length)
        return QC_OK;
    token.respelled = token.normalized;
    token.id = assign_id(tokenizer, &token);
    if ((uint64_t)token.id != expected)
        qc_warning(diag, tokenizer->path, "added token \"%s\" has id %d, not %llu as the file says",
            token.content, (int)token.id, (unsigned long long)expected);
    if (token.id >= tokenizer->next_added_id)
        tokenizer->next_added_id = token.id + 1;
    store_token(tokenizer, &token);
    int32_t *index = &tokenizer->tokens[token.id].added_index;
    if (*index) { /* listed again: the last flags count, but a special token stays special */
        token.special |= tokenizer->added.items[*index - 1].special;
        token.respelled |= tokenizer->added.items[*index - 1].respelled;
        tokenizer->added.items[*index - 1] = token;
        return QC_OK;
    }
    QC_PUSH(tokenizer->arena, &tokenizer->added, token);
    *index = (int32_t)tokenizer->added.count;
    qc_map_set_n(&tokenizer->added_ids, token.content, token.length, (void *)((intptr_t)token.id + 1));
    return QC_OK;
}

static void trie_init(qc_text_trie *trie)
{
    trie->empty = true;
    for (size_t i = 0; i < 256; i++)
        trie->roots[i] = -1;
}

/* Other tokens come after special ones, which matters where two normalize to the same spelling. A normalized
 * token is from here on spelled as it is searched. */
static qc_status build_tries(qc_diag *diag, qc_tokenizer *tokenizer)
{
    qc_arena *arena = tokenizer->arena;
    qc_tokenizer_scratch *scratch = qc_tokenizer_scratch_create(tokenizer, arena->oom);
    qc_status status = QC_OK;
    for (int special = 1; special >= 0; special--) {
        for (size_t i = 0; i < tokenizer->added.count && status == QC_OK; i++) {
            const qc_text_added *token = &tokenizer->added.items[i];
            qc_text_piece piece = {.text = token->content, .length = token->length};
            qc_text_trie *trie = token->normalized ? &tokenizer->normalized_trie : &tokenizer->raw_trie;
            if (token->special != (special == 1))
                continue;
            if (token->respelled)
                status = qc_text_normalize(tokenizer, scratch, diag, piece, &piece);
            if (status == QC_OK && token->respelled) {
                tokenizer->tokens[token->id].text = qc_arena_strndup(arena, piece.text, piece.length);
                tokenizer->tokens[token->id].length = (uint32_t)piece.length;
            }
            if (!token->normalized)
                piece = (qc_text_piece){.text = token->content, .length = token->length};
            if (status == QC_OK && !piece.length)
                status = qc_error(
                    diag, tokenizer->path, "added token \"%s\" normalizes to nothing", token->content);
            if (status == QC_OK)
                trie_add(arena, trie, piece.text, piece.length, (int32_t)i);
        }
    }
    qc_tokenizer_scratch_destroy(scratch);
    return status;
}

/* Decoding passes over what is spelled like a special token. */
static void mark_skipped(qc_tokenizer *tokenizer)
{
    for (size_t i = 0; i < tokenizer->added.count; i++) {
        qc_text_token *token = &tokenizer->tokens[tokenizer->added.items[i].id];
        intptr_t id = (intptr_t)qc_map_get_n(&tokenizer->added_ids, token->text, token->length);
        token->skipped = id && tokenizer->added.items[tokenizer->tokens[id - 1].added_index - 1].special;
    }
}

qc_status qc_text_added_load(qc_diag *diag, qc_tokenizer *tokenizer, const qc_json *json)
{
    trie_init(&tokenizer->raw_trie);
    trie_init(&tokenizer->normalized_trie);
    qc_map_init(&tokenizer->added_ids, tokenizer->arena);
    if (qc_text_json_missing(json))
        return QC_OK;
    if (json->kind != QC_JSON_ARRAY)
        return qc_error(diag, tokenizer->path, "\"added_tokens\" must be an array");
    for (const qc_json *token = json->first; token; token = token->next) {
        if (load_token(diag, tokenizer, token) != QC_OK)
            return QC_ERROR;
    }
    if (build_tries(diag, tokenizer) != QC_OK)
        return QC_ERROR;
    mark_skipped(tokenizer);
    return QC_OK;
}

/* ---- searching ----------------------------------------------------------------------------------------- */

static bool word_before(const char *text, size_t at)
{
    if (!at)
        return false;
    size_t size, start = qc_text_previous(text, at);
    return qc_text_is_word(qc_text_get(text + start, at - start, &size));
}

static bool word_after(const char *text, size_t length, size_t at)
{
    size_t size;
    return at < length && qc_text_is_word(qc_text_get(text + at, length - at, &size));
}

static size_t skip_space_back(const char *text, size_t at)
{
    size_t size;
    while (at) {
        size_t start = qc_text_previous(text, at);
        if (!qc_text_is_space(qc_text_get(text + start, at - start, &size)))
            break;
        at = start;
    }
    return at;
}

static size_t skip_space(const char *text, size_t length, size_t at)
{
    size_t size;
    while (at < length && qc_text_is_space(qc_text_get(text + at, length - at, &size)))
        at += size;
    return at;
}

void qc_text_added_find(const qc_tokenizer *tokenizer, const qc_text_trie *trie, const char *text,
    size_t length, qc_arena *arena, qc_text_segments *segments)
{
    size_t done = 0, size;
    segments->count = 0;
    for (size_t at = 0; !trie->empty && at < length; at += size) {
        int32_t index;
        size = 1;
        if (trie->roots[(unsigned char)text[at]] < 0)
            continue;
        size_t match = trie_match(trie, text + at, length - at, &index);
        if (!match)
            continue;
        const qc_text_added *token = &tokenizer->added.items[index];
        size_t start = at, end = at + match;
        size = match;
        if (token->single_word && (word_before(text, start) || word_after(text, length, end)))
            continue;
        if (token->lstrip) {
            start = skip_space_back(text, start);
            start = start > done ? start : done; /* the token before may have taken the space */
        }
        if (token->rstrip)
            end = skip_space(text, length, end);
        if (done < start)
            QC_PUSH(arena, segments, (qc_text_segment){done, start, -1});
        if (start < end) /* else the token before has taken all of it */
            QC_PUSH(arena, segments, (qc_text_segment){start, end, token->id});
        done = end;
    }
    if (done != length)
        QC_PUSH(arena, segments, (qc_text_segment){done, length, -1});
}
