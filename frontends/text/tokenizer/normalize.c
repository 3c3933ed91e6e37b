/* SPDX-License-Identifier: MIT
 *
 * normalize.c - the normalizers: text to text, one after the other between two buffers.
 *
 * Normalization forms come from utf8proc (Unicode Standard Annex 15). Characters newer than the reference
 * library's Unicode are left alone: none of them takes part in a composition with an older one, and as
 * starters without decomposition they separate what is before from what is after, so the text is cut at them.
 */
#include "frontends/text/tokenizer/internal.h"

#include <stdlib.h>
#include <utf8proc.h>

static qc_status load_one(qc_diag *diag, qc_tokenizer *tokenizer, const qc_json *json, int depth);

static qc_status load_sequence(qc_diag *diag, qc_tokenizer *tokenizer, const qc_json *json, int depth)
{
    enum { DEPTH_LIMIT = 32 };
    const qc_json *parts = qc_json_get(json, "normalizers");
    if (!parts || parts->kind != QC_JSON_ARRAY || depth > DEPTH_LIMIT)
        return qc_error(diag, tokenizer->path, "normalizer Sequence: \"normalizers\" must be an array");
    for (const qc_json *part = parts->first; part; part = part->next) {
        if (load_one(diag, tokenizer, part, depth + 1) != QC_OK)
            return QC_ERROR;
    }
    return QC_OK;
}

static qc_status load_one(qc_diag *diag, qc_tokenizer *tokenizer, const qc_json *json, int depth)
{
    static const struct {
        const char *type;
        qc_text_normalizer_kind kind;
    } kinds[] = {{"Prepend", QC_NORMALIZE_PREPEND}, {"Replace", QC_NORMALIZE_REPLACE},
        {"Strip", QC_NORMALIZE_STRIP}, {"NFC", QC_NORMALIZE_NFC}, {"NFD", QC_NORMALIZE_NFD},
        {"NFKC", QC_NORMALIZE_NFKC}, {"NFKD", QC_NORMALIZE_NFKD}, {"Lowercase", QC_NORMALIZE_LOWERCASE},
        {"StripAccents", QC_NORMALIZE_STRIP_ACCENTS}, {"Nmt", QC_NORMALIZE_NMT},
        {"ByteLevel", QC_NORMALIZE_BYTE_LEVEL}};
    const char *type = qc_text_json_type(diag, tokenizer, json, "normalizer");
    if (!type)
        return QC_ERROR;
    if (strcmp(type, "Sequence") == 0)
        return load_sequence(diag, tokenizer, json, depth);
    size_t index = 0;
    while (index < sizeof kinds / sizeof *kinds && strcmp(type, kinds[index].type) != 0)
        index++;
    if (index == sizeof kinds / sizeof *kinds)
        return qc_error(diag, tokenizer->path, "normalizer type \"%s\" is not supported", type);
    qc_text_normalizer normalizer = {.kind = kinds[index].kind};
    qc_status status = QC_OK;
    if (normalizer.kind == QC_NORMALIZE_PREPEND) {
        status = qc_text_json_string(diag, tokenizer, json, "normalizer Prepend", "prepend", true,
            &normalizer.content, &normalizer.content_length);
    } else if (normalizer.kind == QC_NORMALIZE_REPLACE) {
        status = qc_text_json_string(diag, tokenizer, json, "normalizer Replace", "content", true,
            &normalizer.content, &normalizer.content_length);
        if (status == QC_OK)
            status = qc_text_replace_load(
                diag, tokenizer, qc_json_get(json, "pattern"), "normalizer Replace", &normalizer.pattern);
    } else if (normalizer.kind == QC_NORMALIZE_STRIP) {
        status = qc_text_json_bool(
            diag, tokenizer, json, "normalizer Strip", "strip_left", true, &normalizer.left);
        if (status == QC_OK)
            status = qc_text_json_bool(
                diag, tokenizer, json, "normalizer Strip", "strip_right", true, &normalizer.right);
    }
    if (status == QC_OK)
        QC_PUSH(tokenizer->arena, &tokenizer->normalizers, normalizer);
    return status;
}

qc_status qc_text_normalizers_load(qc_diag *diag, qc_tokenizer *tokenizer, const qc_json *json)
{
    return qc_text_json_missing(json) ? QC_OK : load_one(diag, tokenizer, json, 0);
}

/* ---- running ------------------------------------------------------------------------------------------- */

static qc_status replace(const qc_tokenizer *tokenizer, qc_tokenizer_scratch *scratch, qc_diag *diag,
    const qc_text_normalizer *normalizer, qc_text_piece *piece, qc_str *out)
{
    qc_text_search search = {.pattern = &normalizer->pattern,
        .matcher = scratch->matcher,
        .text = piece->text,
        .length = piece->length};
    size_t copied = 0, start, end, origin = 0;
    int found;
    while ((found = qc_text_search_next(&search, &start, &end)) > 0) {
        if (copied < piece->origin_bytes)
            origin = out->length + (start < piece->origin_bytes ? start : piece->origin_bytes) - copied;
        qc_str_add_bytes(out, piece->text + copied, start - copied);
        qc_str_add_bytes(out, normalizer->content, normalizer->content_length);
        if (end <= piece->origin_bytes) /* what replaces a character stands where it stood */
            origin = out->length;
        copied = end;
    }
    if (found < 0)
        return qc_error(
            diag, tokenizer->path, "normalizer Replace: the pattern needs too much work on a text");
    if (copied < piece->origin_bytes)
        origin = out->length + piece->origin_bytes - copied;
    qc_str_add_bytes(out, piece->text + copied, piece->length - copied);
    piece->origin_bytes = origin;
    return QC_OK;
}

static void strip(const qc_text_normalizer *normalizer, qc_text_piece *piece, qc_str *out)
{
    size_t start = 0, end = piece->length, size;
    while (normalizer->left && start < end &&
           qc_text_is_space(qc_text_get(piece->text + start, end - start, &size)))
        start += size;
    while (normalizer->right && end > start) {
        size_t last = qc_text_previous(piece->text, end);
        if (!qc_text_is_space(qc_text_get(piece->text + last, end - last, &size)))
            break;
        end = last;
    }
    qc_str_add_bytes(out, piece->text + start, end - start);
    piece->origin_bytes = piece->origin_bytes > start ? piece->origin_bytes - start : 0;
}

static bool nmt_removes(uint32_t code)
{
    return (code >= 1 && code <= 8) || code == 0xb || (code >= 0xe && code <= 0x1f) || code == 0x7f ||
           code == 0x8f || code == 0x9f;
}

static bool nmt_blanks(uint32_t code)
{
    return code == 9 || code == 0xa || code == 0xc || code == 0xd || code == 0x1680 ||
           (code >= 0x200b && code <= 0x200f) || code == 0x2028 || code == 0x2029 || code == 0x2581 ||
           code == 0xfeff || code == 0xfffd;
}

/* Normalizers that look at one character at a time. */
static void map_characters(qc_text_normalizer_kind kind, qc_text_piece *piece, qc_str *out)
{
    size_t origin = 0, size;
    for (size_t at = 0; at < piece->length; at += size) {
        char bytes[4];
        uint32_t mapped[2], code = qc_text_get(piece->text + at, piece->length - at, &size);
        size_t count = 1;
        mapped[0] = code;
        if (kind == QC_NORMALIZE_LOWERCASE)
            count = qc_text_lower(code, mapped);
        else if (kind == QC_NORMALIZE_STRIP_ACCENTS)
            count = !qc_text_is_mark(code);
        else if (nmt_removes(code))
            count = 0;
        else if (nmt_blanks(code))
            mapped[0] = ' ';
        for (size_t i = 0; i < count; i++)
            qc_str_add_bytes(out, bytes, qc_text_put(bytes, mapped[i]));
        if (at < piece->origin_bytes)
            origin = out->length;
    }
    piece->origin_bytes = origin;
}

/* Canonical ordering of characters [0, count): each run of non-starters is sorted by combining class, stably.
 * A text may be one such run, so long runs are sorted by counting. `spare` has room for as many. */
static void order_marks(utf8proc_int32_t *characters, size_t count, utf8proc_int32_t *spare)
{
    enum { CLASSES = 256, SHORT_RUN = 32 };
    for (size_t start = 0, end; start < count; start = end + 1) {
        for (end = start; end < count && utf8proc_get_property(characters[end])->combining_class;)
            end++;
        utf8proc_int32_t *run = characters + start;
        size_t length = end - start, offsets[CLASSES + 1] = {0};
        for (size_t i = 1; i < length && length <= SHORT_RUN; i++) {
            utf8proc_int32_t moved = run[i];
            int class = (int)utf8proc_get_property(moved)->combining_class;
            size_t at = i;
            for (; at && (int)utf8proc_get_property(run[at - 1])->combining_class > class; at--)
                run[at] = run[at - 1];
            run[at] = moved;
        }
        if (length <= SHORT_RUN)
            continue;
        for (size_t i = 0; i < length; i++)
            offsets[(utf8proc_get_property(run[i])->combining_class & 255) + 1]++;
        for (size_t i = 0; i < CLASSES; i++)
            offsets[i + 1] += offsets[i];
        memcpy(spare, run, length * sizeof *run);
        for (size_t i = 0; i < length; i++)
            run[offsets[utf8proc_get_property(spare[i])->combining_class & 255]++] = spare[i];
    }
}

/* Appends the form of text[length], which holds no newer characters. */
static qc_status add_form(
    qc_diag *diag, const char *where, utf8proc_option_t options, const char *text, size_t length, qc_str *out)
{
    enum { CHARACTERS_PER_BYTE = 6 }; /* at most: the three bytes of U+FDFA become 18 characters */
    size_t capacity = length * CHARACTERS_PER_BYTE, size;
    utf8proc_ssize_t count = 0;
    if (!length)
        return QC_OK;
    utf8proc_int32_t *characters = malloc(2 * capacity * sizeof *characters);
    if (!characters)
        return qc_error(diag, where, "no memory to normalize a text of %zu bytes", length);
    for (size_t at = 0; at < length && count >= 0; at += size) {
        int boundary = 0;
        uint32_t code = qc_text_get(text + at, length - at, &size);
        utf8proc_ssize_t added = utf8proc_decompose_char((utf8proc_int32_t)code, characters + count,
            (utf8proc_ssize_t)capacity - count, options, &boundary);
        count =
            added < 0 || count + added > (utf8proc_ssize_t)capacity ? UTF8PROC_ERROR_OVERFLOW : count + added;
    }
    if (count > 0) {
        order_marks(characters, (size_t)count, characters + capacity);
        if (options & UTF8PROC_COMPOSE)
            count = utf8proc_normalize_utf32(characters, count, options);
    }
    for (utf8proc_ssize_t i = 0; i < count; i++) {
        char bytes[4];
        qc_str_add_bytes(out, bytes, qc_text_put(bytes, (uint32_t)characters[i]));
    }
    free(characters);
    return count < 0 ? qc_error(diag, where, "normalization: %s", utf8proc_errmsg(count)) : QC_OK;
}

/* Bytes at text that are their own form and a border: ASCII, but not the last before a character that might
 * combine with it. */
static size_t ascii_run(const char *text, size_t length)
{
    size_t at = 0;
    while (at < length && (unsigned char)text[at] < 0x80)
        at++;
    return at && at < length ? at - 1 : at;
}

/* All that the text's first character becomes comes from the text's start: its decomposition, or one
 * character when the form composes it with what follows. */
static qc_status form_origin(qc_diag *diag, const char *where, utf8proc_option_t options,
    qc_text_piece *piece, const qc_arena *arena, const qc_str *out)
{
    qc_str alone;
    if (!piece->origin_bytes || !out->length) {
        piece->origin_bytes = 0;
        return QC_OK;
    }
    qc_str_init(&alone, arena);
    qc_status status = add_form(diag, where, options, piece->text, piece->origin_bytes, &alone);
    if (alone.length <= out->length && memcmp(alone.data, out->data, alone.length) == 0)
        piece->origin_bytes = alone.length;
    else
        qc_text_get(out->data, out->length, &piece->origin_bytes);
    qc_str_fini(&alone);
    return status;
}

static qc_status normalize_form(const qc_tokenizer *tokenizer, qc_diag *diag, qc_text_normalizer_kind kind,
    qc_text_piece *piece, qc_str *out)
{
    bool composes = kind == QC_NORMALIZE_NFC || kind == QC_NORMALIZE_NFKC;
    bool compatible = kind == QC_NORMALIZE_NFKC || kind == QC_NORMALIZE_NFKD;
    int options = (int)UTF8PROC_STABLE | (int)(composes ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE);
    options |= compatible ? (int)UTF8PROC_COMPAT : 0;
    const utf8proc_option_t form = (utf8proc_option_t)options;
    const char *text = piece->text;
    enum { LONG_CHUNK_BYTES = 4096 };
    size_t start = 0; /* of what is not in `out` yet */
    for (size_t at = 0; at < piece->length;) {
        size_t size, border = ascii_run(text + at, piece->length - at);
        if (!border) {
            bool newer = qc_text_is_newer(qc_text_get(text + at, piece->length - at, &size));
            border = newer ? size : 0;
        }
        bool cut = at - start >= LONG_CHUNK_BYTES && (unsigned char)text[at] < 0x80;
        if (border || cut) { /* nothing composes with ASCII after it */
            if (add_form(diag, tokenizer->path, form, text + start, at - start, out) != QC_OK)
                return QC_ERROR;
            qc_str_add_bytes(out, text + at, border);
            start = at + border; /* a cut leaves the ASCII character to the next chunk */
        }
        at += border ? border : size;
    }
    if (add_form(diag, tokenizer->path, form, text + start, piece->length - start, out) != QC_OK)
        return QC_ERROR;
    return form_origin(diag, tokenizer->path, form, piece, tokenizer->arena, out);
}

void qc_text_add_byte_level(qc_str *out, const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        char bytes[4];
        qc_str_add_bytes(out, bytes, qc_text_put(bytes, qc_text_byte_char((unsigned char)text[i])));
    }
}

/* Length of the byte-level spelling. */
static size_t byte_level_bytes(const char *text, size_t length)
{
    size_t bytes = 0;
    for (size_t i = 0; i < length; i++)
        bytes += qc_text_byte_char((unsigned char)text[i]) < 0x80 ? 1 : 2;
    return bytes;
}

static qc_status run(const qc_tokenizer *tokenizer, qc_tokenizer_scratch *scratch, qc_diag *diag,
    const qc_text_normalizer *normalizer, qc_text_piece *piece, qc_str *out)
{
    switch (normalizer->kind) {
    case QC_NORMALIZE_PREPEND:
        if (piece->length) {
            qc_str_add_bytes(out, normalizer->content, normalizer->content_length);
            if (piece->origin_bytes)
                piece->origin_bytes += normalizer->content_length;
        }
        qc_str_add_bytes(out, piece->text, piece->length);
        return QC_OK;
    case QC_NORMALIZE_REPLACE:
        return replace(tokenizer, scratch, diag, normalizer, piece, out);
    case QC_NORMALIZE_STRIP:
        strip(normalizer, piece, out);
        return QC_OK;
    case QC_NORMALIZE_NFC:
    case QC_NORMALIZE_NFD:
    case QC_NORMALIZE_NFKC:
    case QC_NORMALIZE_NFKD:
        return normalize_form(tokenizer, diag, normalizer->kind, piece, out);
    case QC_NORMALIZE_BYTE_LEVEL:
        qc_text_add_byte_level(out, piece->text, piece->length);
        piece->origin_bytes = byte_level_bytes(piece->text, piece->origin_bytes);
        return QC_OK;
    case QC_NORMALIZE_LOWERCASE:
    case QC_NORMALIZE_STRIP_ACCENTS:
    case QC_NORMALIZE_NMT:
        break;
    }
    map_characters(normalizer->kind, piece, out);
    return QC_OK;
}

qc_status qc_text_normalize(const qc_tokenizer *tokenizer, qc_tokenizer_scratch *scratch, qc_diag *diag,
    qc_text_piece piece, qc_text_piece *result)
{
    for (size_t i = 0; i < tokenizer->normalizers.count; i++) {
        qc_str *out = &scratch->normalized[i % 2];
        qc_str_clear(out);
        if (run(tokenizer, scratch, diag, &tokenizer->normalizers.items[i], &piece, out) != QC_OK)
            return QC_ERROR;
        piece.text = out->data;
        piece.length = out->length;
        if (piece.origin_bytes > piece.length)
            piece.origin_bytes = piece.length;
    }
    *result = piece;
    return QC_OK;
}
