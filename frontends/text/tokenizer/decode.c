/* SPDX-License-Identifier: MIT
 *
 * decode.c - ids to text: the decoders, each a list of strings to a list of strings, and decoding
 * while tokens arrive.
 */
#include "frontends/text/tokenizer/internal.h"

typedef struct part {
    const char *text;
    size_t length;
} part;
typedef QC_VEC(part) parts;

static const char replacement_character[] = "\xef\xbf\xbd";

/* ---- loading ------------------------------------------------------------------------------------------- */

static qc_status load_one(qc_diag *diag, qc_tokenizer *tokenizer, const qc_json *json, int depth);

static qc_status load_sequence(qc_diag *diag, qc_tokenizer *tokenizer, const qc_json *json, int depth)
{
    enum { DEPTH_LIMIT = 32 };
    const qc_json *list = qc_json_get(json, "decoders");
    if (!list || list->kind != QC_JSON_ARRAY || depth > DEPTH_LIMIT)
        return qc_error(diag, tokenizer->path, "decoder Sequence: \"decoders\" must be an array");
    for (const qc_json *item = list->first; item; item = item->next) {
        if (load_one(diag, tokenizer, item, depth + 1) != QC_OK)
            return QC_ERROR;
    }
    return QC_OK;
}

static qc_status load_char(qc_diag *diag, qc_tokenizer *tokenizer, const qc_json *json, const char *what,
    const char *key, qc_text_decoder *decoder)
{
    char bytes[4];
    uint32_t code;
    if (qc_text_json_char(diag, tokenizer, json, what, key, &code) != QC_OK)
        return QC_ERROR;
    decoder->content_length = qc_text_put(bytes, code);
    decoder->content = qc_arena_strndup(tokenizer->arena, bytes, decoder->content_length);
    return QC_OK;
}

static qc_status load_options(
    qc_diag *diag, qc_tokenizer *tokenizer, const qc_json *json, qc_text_decoder *decoder)
{
    const char *scheme = "always", *what = "decoder Metaspace";
    size_t length;
    switch (decoder->kind) {
    case QC_DECODE_STRIP:
        what = "decoder Strip";
        if (load_char(diag, tokenizer, json, what, "content", decoder) ||
            qc_text_json_count(diag, tokenizer, json, what, "start", true, &decoder->start) ||
            qc_text_json_count(diag, tokenizer, json, what, "stop", true, &decoder->stop))
            return QC_ERROR;
        return QC_OK;
    case QC_DECODE_REPLACE:
        what = "decoder Replace";
        if (qc_text_json_string(diag, tokenizer, json, what, "content", true, &decoder->content,
                &decoder->content_length) != QC_OK)
            return QC_ERROR;
        return qc_text_replace_load(diag, tokenizer, qc_json_get(json, "pattern"), what, &decoder->pattern);
    case QC_DECODE_METASPACE:
        if (load_char(diag, tokenizer, json, what, "replacement", decoder) ||
            qc_text_json_string(diag, tokenizer, json, what, "prepend_scheme", false, &scheme, &length))
            return QC_ERROR;
        decoder->drop_first = strcmp(scheme, "never") != 0;
        return QC_OK;
    case QC_DECODE_BPE_SUFFIX:
        return qc_text_json_string(diag, tokenizer, json, "decoder BPEDecoder", "suffix", true,
            &decoder->content, &decoder->content_length);
    case QC_DECODE_BYTE_LEVEL:
    case QC_DECODE_BYTE_FALLBACK:
    case QC_DECODE_FUSE:
        break;
    }
    return QC_OK;
}

static qc_status load_one(qc_diag *diag, qc_tokenizer *tokenizer, const qc_json *json, int depth)
{
    static const struct {
        const char *type;
        qc_text_decoder_kind kind;
    } kinds[] = {{"ByteLevel", QC_DECODE_BYTE_LEVEL}, {"ByteFallback", QC_DECODE_BYTE_FALLBACK},
        {"Fuse", QC_DECODE_FUSE}, {"Strip", QC_DECODE_STRIP}, {"Replace", QC_DECODE_REPLACE},
        {"Metaspace", QC_DECODE_METASPACE}, {"BPEDecoder", QC_DECODE_BPE_SUFFIX}};
    const char *type = qc_text_json_type(diag, tokenizer, json, "decoder");
    if (!type)
        return QC_ERROR;
    if (strcmp(type, "Sequence") == 0)
        return load_sequence(diag, tokenizer, json, depth);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(type, kinds[i].type) != 0)
            continue;
        qc_text_decoder decoder = {.kind = kinds[i].kind};
        if (load_options(diag, tokenizer, json, &decoder) != QC_OK)
            return QC_ERROR;
        QC_PUSH(tokenizer->arena, &tokenizer->decoders, decoder);
        return QC_OK;
    }
    return qc_error(diag, tokenizer->path, "decoder type \"%s\" is not supported", type);
}

qc_status qc_text_decoders_load(qc_diag *diag, qc_tokenizer *tokenizer, const qc_json *json)
{
    tokenizer->has_decoder = !qc_text_json_missing(json);
    return tokenizer->has_decoder ? load_one(diag, tokenizer, json, 0) : QC_OK;
}

/* ---- decoders ------------------------------------------------------------------------------------------ */

/* The buffer's text as a part. */
static part take(qc_arena *arena, qc_str *buffer)
{
    part taken = {qc_arena_strndup(arena, buffer->data, buffer->length), buffer->length};
    qc_str_clear(buffer);
    return taken;
}

static void replace_all(parts *list, qc_arena *arena, qc_str *buffer, part only)
{
    qc_str_clear(buffer);
    list->count = 0;
    QC_PUSH(arena, list, only);
}

static void decode_byte_level(parts *list, qc_arena *arena, qc_str *buffer)
{
    qc_str text;
    qc_str_init(&text, arena);
    qc_str_clear(buffer);
    for (size_t i = 0; i < list->count; i++) {
        part token = list->items[i];
        size_t before = buffer->length, size;
        for (size_t at = 0; at < token.length; at += size) {
            int byte = qc_text_char_byte(qc_text_get(token.text + at, token.length - at, &size));
            if (byte < 0) { /* not byte-level at all: as it is */
                buffer->length = before;
                qc_str_add_bytes(buffer, token.text, token.length);
                break;
            }
            qc_str_add_char(buffer, (char)byte);
        }
    }
    qc_text_add_lossy(&text, buffer->data, buffer->length);
    replace_all(list, arena, buffer, take(arena, &text));
    qc_str_fini(&text);
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* <0xHH>, or -1. A sign before one digit counts as the reference library's number parser counts it. */
static int fallback_byte(part token)
{
    if (token.length != 6 || memcmp(token.text, "<0x", 3) != 0 || token.text[5] != '>')
        return -1;
    int high = token.text[3] == '+' ? 0 : hex_digit(token.text[3]), low = hex_digit(token.text[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/* Runs of byte tokens become the characters they spell, or one U+FFFD a byte when they spell none. */
static void decode_byte_fallback(parts *list, qc_arena *arena, qc_str *buffer)
{
    size_t kept = 0, count = list->count;
    part *items = list->items;
    qc_str_clear(buffer);
    for (size_t i = 0; i <= count; i++) {
        int byte = i < count ? fallback_byte(items[i]) : -1;
        if (byte >= 0) {
            qc_str_add_char(buffer, (char)byte);
            continue;
        }
        if (buffer->length && qc_text_invalid_offset(buffer->data, buffer->length) == buffer->length) {
            items[kept++] = take(arena, buffer);
        } else {
            for (size_t j = 0; j < buffer->length; j++)
                items[kept++] = (part){replacement_character, 3};
            qc_str_clear(buffer);
        }
        if (i < count)
            items[kept++] = items[i];
    }
    list->count = kept;
}

static void decode_fuse(parts *list, qc_arena *arena, qc_str *buffer)
{
    qc_str_clear(buffer);
    for (size_t i = 0; i < list->count; i++)
        qc_str_add_bytes(buffer, list->items[i].text, list->items[i].length);
    replace_all(list, arena, buffer, take(arena, buffer));
}

static part strip_part(const qc_text_decoder *decoder, part token)
{
    const char *content = decoder->content;
    size_t size = decoder->content_length;
    for (uint64_t i = 0; i < decoder->start && token.length >= size && !memcmp(token.text, content, size);
         i++) {
        token.text += size;
        token.length -= size;
    }
    for (uint64_t i = 0; i < decoder->stop && token.length >= size &&
                         !memcmp(token.text + token.length - size, content, size);
         i++)
        token.length -= size;
    return token;
}

/* Every match of the pattern becomes `content`. A pattern that needs too much work matches nothing more. */
static void replace_part(const qc_text_pattern *pattern, qc_text_matcher *matcher, const char *content,
    size_t content_length, part token, qc_str *buffer)
{
    qc_text_search search = {
        .pattern = pattern, .matcher = matcher, .text = token.text, .length = token.length};
    size_t copied = 0, start, end;
    qc_str_clear(buffer);
    while (qc_text_search_next(&search, &start, &end) > 0) {
        qc_str_add_bytes(buffer, token.text + copied, start - copied);
        qc_str_add_bytes(buffer, content, content_length);
        copied = end;
    }
    qc_str_add_bytes(buffer, token.text + copied, token.length - copied);
}

static void run(
    const qc_text_decoder *decoder, qc_text_matcher *matcher, parts *list, qc_arena *arena, qc_str *buffer)
{
    const qc_text_pattern content = {.literal = decoder->content, .literal_length = decoder->content_length};
    switch (decoder->kind) {
    case QC_DECODE_BYTE_LEVEL:
        decode_byte_level(list, arena, buffer);
        return;
    case QC_DECODE_BYTE_FALLBACK:
        decode_byte_fallback(list, arena, buffer);
        return;
    case QC_DECODE_FUSE:
        decode_fuse(list, arena, buffer);
        return;
    case QC_DECODE_STRIP:
    case QC_DECODE_REPLACE:
    case QC_DECODE_METASPACE:
    case QC_DECODE_BPE_SUFFIX:
        break;
    }
    for (size_t i = 0; i < list->count; i++) {
        part *token = &list->items[i];
        bool bare =
            decoder->kind == QC_DECODE_METASPACE ? i == 0 && decoder->drop_first : i + 1 == list->count;
        if (decoder->kind == QC_DECODE_STRIP) {
            *token = strip_part(decoder, *token);
            continue;
        }
        if (decoder->kind == QC_DECODE_REPLACE)
            replace_part(
                &decoder->pattern, matcher, decoder->content, decoder->content_length, *token, buffer);
        else
            replace_part(&content, matcher, " ", bare ? 0 : 1, *token, buffer);
        *token = take(arena, buffer);
    }
}

static bool needs_matcher(const qc_tokenizer *tokenizer)
{
    for (size_t i = 0; i < tokenizer->decoders.count; i++) {
        if (tokenizer->decoders.items[i].pattern.regex)
            return true;
    }
    return false;
}

void qc_tokenizer_decode(
    const qc_tokenizer *tokenizer, const int32_t *ids, size_t count, bool skip_special_tokens, qc_str *out)
{
    qc_arena arena;
    qc_str buffer;
    parts list = {0};
    qc_text_matcher *matcher = NULL;
    qc_arena_init(&arena, out->oom);
    if (needs_matcher(tokenizer))
        matcher = qc_text_matcher_create(&arena);
    qc_str_init(&buffer, &arena);
    for (size_t i = 0; i < count; i++) {
        bool known = ids[i] >= 0 && (size_t)ids[i] < tokenizer->token_count;
        const qc_text_token *token = known ? &tokenizer->tokens[ids[i]] : NULL;
        if (!token || !token->text || (skip_special_tokens && token->skipped))
            continue;
        QC_PUSH(&arena, &list, (part){token->text, token->length});
    }
    for (size_t i = 0; i < tokenizer->decoders.count; i++)
        run(&tokenizer->decoders.items[i], matcher, &list, &arena, &buffer);
    for (size_t i = 0; i < list.count; i++) {
        if (i && !tokenizer->has_decoder)
            qc_str_add_char(out, ' ');
        qc_str_add_bytes(out, list.items[i].text, list.items[i].length);
    }
    qc_text_matcher_destroy(matcher);
    qc_str_fini(&buffer);
    qc_arena_fini(&arena);
}

/* ---- while tokens arrive ----
 *
 * What a token adds is the difference between the text of a window of ids with and without it: decoders look
 * at neighbours (spaces at the start, bytes of one character), but not further than to the last id whose text
 * ended well. A text that ends in U+FFFD may be the start of a character, so its end is held back. */

void qc_token_stream_init(
    qc_token_stream *stream, const qc_tokenizer *tokenizer, bool skip_special_tokens, const qc_arena *arena)
{
    *stream = (qc_token_stream){.tokenizer = tokenizer, .skip_special_tokens = skip_special_tokens};
    qc_str_init(&stream->window_ids, arena);
}

void qc_token_stream_fini(qc_token_stream *stream)
{
    qc_str_fini(&stream->window_ids);
}

/* The text of window ids [first, end). */
static void decode_window(const qc_token_stream *stream, size_t first, qc_arena *arena, qc_str *text)
{
    size_t count = stream->window_ids.length / sizeof(int32_t);
    int32_t *ids = QC_NEW_ARRAY(arena, int32_t, count + 1);
    if (count)
        memcpy(ids, stream->window_ids.data, count * sizeof *ids);
    qc_str_clear(text);
    qc_tokenizer_decode(stream->tokenizer, ids + first, count - first, stream->skip_special_tokens, text);
}

static void emit(qc_token_stream *stream, bool finish, qc_str *out)
{
    enum { PATIENCE_TOKENS = 64 }; /* a text that still does not end well then never will */
    qc_arena arena;
    qc_str text;
    qc_arena_init(&arena, out->oom);
    qc_str_init(&text, &arena);
    decode_window(stream, 0, &arena, &text);
    size_t end = text.length, start = stream->known_bytes;
    size_t count = stream->window_ids.length / sizeof(int32_t);
    finish |= count - stream->known_count > PATIENCE_TOKENS;
    while (!finish && end >= 3 && memcmp(text.data + end - 3, replacement_character, 3) == 0)
        end -= 3;
    while (start < end && ((unsigned char)text.data[start] & 0xc0) == 0x80)
        start++; /* what is out was decoded otherwise; go on with a whole character */
    if (end > start) {
        qc_str_add_bytes(out, text.data + start, end - start);
        stream->known_bytes = end;
    }
    if (finish || (end > start && end == text.length)) { /* the window starts at the ids that were new */
        size_t drop = stream->known_count * sizeof(int32_t);
        decode_window(stream, stream->known_count, &arena, &text);
        memmove(stream->window_ids.data, stream->window_ids.data + drop, stream->window_ids.length - drop);
        stream->window_ids.length -= drop;
        stream->known_count = count - stream->known_count;
        stream->known_bytes = text.length;
    }
    qc_str_fini(&text);
    qc_arena_fini(&arena);
}

void qc_token_stream_push(qc_token_stream *stream, int32_t id, qc_str *out)
{
    qc_str_add_bytes(&stream->window_ids, (const char *)&id, sizeof id);
    emit(stream, false, out);
}

void qc_token_stream_finish(qc_token_stream *stream, qc_str *out)
{
    emit(stream, true, out);
    qc_str_clear(&stream->window_ids);
    stream->known_count = stream->known_bytes = 0;
}
