/* SPDX-License-Identifier: MIT
 *
 * pretokenize.c - the pre-tokenizers: a piece of text to smaller pieces, the words of the model.
 *
 * A Sequence is flattened into a list of splitters. Each splitter finds the spans of its piece, and every
 * span goes through the rest of the list before the next one, so each needs buffers of its own.
 */
#include "frontends/text/tokenizer/internal.h"

/* GPT-2's words, as the ByteLevel pre-tokenizer has them built in. */
static const char byte_level_pattern[] =
    "'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

static qc_status load_one(qc_diag *diag, qc_tokenizer *tokenizer, const qc_json *json, int depth);

static qc_status load_sequence(qc_diag *diag, qc_tokenizer *tokenizer, const qc_json *json, int depth)
{
    enum { DEPTH_LIMIT = 32 };
    const qc_json *parts = qc_json_get(json, "pretokenizers");
    if (!parts || parts->kind != QC_JSON_ARRAY || depth > DEPTH_LIMIT)
        return qc_error(diag, tokenizer->path, "pre_tokenizer Sequence: \"pretokenizers\" must be an array");
    for (const qc_json *part = parts->first; part; part = part->next) {
        if (load_one(diag, tokenizer, part, depth + 1) != QC_OK)
            return QC_ERROR;
    }
    return QC_OK;
}

static qc_status load_behavior(qc_diag *diag, qc_tokenizer *tokenizer, const qc_json *json, const char *what,
    bool required, qc_text_behavior *behavior)
{
    static const char *const names[] = {
        "Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"};
    const char *name = NULL;
    size_t length;
    if (qc_text_json_string(diag, tokenizer, json, what, "behavior", required, &name, &length) != QC_OK)
        return QC_ERROR;
    for (size_t i = 0; name && i < sizeof names / sizeof *names; i++) {
        if (strcmp(name, names[i]) == 0) {
            *behavior = (qc_text_behavior)i;
            return QC_OK;
        }
    }
    return name ? qc_error(diag, tokenizer->path, "%s: behavior \"%s\" is not supported", what, name) : QC_OK;
}

static qc_status load_byte_level(qc_diag *diag, qc_tokenizer *tokenizer, const qc_json *json)
{
    const char *what = "pre_tokenizer ByteLevel";
    qc_text_splitter splitter = {
        .kind = QC_SPLITTER_BYTE_LEVEL, .behavior = QC_SPLIT_ISOLATED, .split = true};
    if (qc_text_json_bool(diag, tokenizer, json, what, "add_prefix_space", true, &splitter.prepend) !=
            QC_OK ||
        qc_text_json_bool(diag, tokenizer, json, what, "use_regex", false, &splitter.split) != QC_OK)
        return QC_ERROR;
    if (splitter.split) {
        qc_text_regex *regex = qc_text_regex_compile(
            diag, tokenizer->arena, tokenizer->path, byte_level_pattern, sizeof byte_level_pattern - 1);
        if (!regex)
            return QC_ERROR;
        QC_PUSH(tokenizer->arena, &tokenizer->regexes, regex);
        splitter.pattern.regex = regex;
    }
    QC_PUSH(tokenizer->arena, &tokenizer->splitters, splitter);
    return QC_OK;
}

static qc_status load_metaspace(qc_diag *diag, qc_tokenizer *tokenizer, const qc_json *json)
{
    const char *what = "pre_tokenizer Metaspace", *scheme = "always";
    size_t length;
    bool prefix_space = true;
    qc_text_splitter splitter = {
        .kind = QC_SPLITTER_METASPACE, .behavior = QC_SPLIT_MERGED_WITH_NEXT, .split = true};
    if (qc_text_json_char(diag, tokenizer, json, what, "replacement", &splitter.member) != QC_OK ||
        qc_text_json_bool(diag, tokenizer, json, what, "split", false, &splitter.split) != QC_OK ||
        qc_text_json_bool(diag, tokenizer, json, what, "add_prefix_space", false, &prefix_space) != QC_OK ||
        qc_text_json_string(diag, tokenizer, json, what, "prepend_scheme", false, &scheme, &length) != QC_OK)
        return QC_ERROR;
    splitter.prepend_at_first = strcmp(scheme, "first") == 0;
    splitter.prepend = splitter.prepend_at_first || strcmp(scheme, "always") == 0;
    if (!splitter.prepend && strcmp(scheme, "never") != 0)
        return qc_error(diag, tokenizer->path, "%s: prepend_scheme \"%s\" is not supported", what, scheme);
    if (!prefix_space && splitter.prepend)
        return qc_error(diag, tokenizer->path, "%s: add_prefix_space is false, but prepend_scheme is \"%s\"",
            what, scheme);
    QC_PUSH(tokenizer->arena, &tokenizer->splitters, splitter);
    return QC_OK;
}

static qc_status load_split(qc_diag *diag, qc_tokenizer *tokenizer, const qc_json *json)
{
    const char *what = "pre_tokenizer Split";
    qc_text_splitter splitter = {.kind = QC_SPLITTER_PATTERN};
    if (qc_text_pattern_load(diag, tokenizer, qc_json_get(json, "pattern"), what, &splitter.pattern) !=
            QC_OK ||
        qc_text_json_bool(diag, tokenizer, json, what, "invert", true, &splitter.invert) != QC_OK ||
        load_behavior(diag, tokenizer, json, what, true, &splitter.behavior) != QC_OK)
        return QC_ERROR;
    QC_PUSH(tokenizer->arena, &tokenizer->splitters, splitter);
    return QC_OK;
}

/* Pre-tokenizers that split by a class of characters. */
static qc_status load_class(qc_diag *diag, qc_tokenizer *tokenizer, const qc_json *json, const char *type)
{
    qc_text_splitter splitter = {.kind = QC_SPLITTER_CLASS, .behavior = QC_SPLIT_REMOVED};
    if (strcmp(type, "Digits") == 0) {
        bool individual = false;
        splitter.is_member = qc_text_is_number;
        if (qc_text_json_bool(diag, tokenizer, json, "pre_tokenizer Digits", "individual_digits", true,
                &individual) != QC_OK)
            return QC_ERROR;
        splitter.behavior = individual ? QC_SPLIT_ISOLATED : QC_SPLIT_CONTIGUOUS;
    } else if (strcmp(type, "Punctuation") == 0) {
        splitter.is_member = qc_text_is_punctuation;
        splitter.behavior = QC_SPLIT_ISOLATED;
        if (load_behavior(diag, tokenizer, json, "pre_tokenizer Punctuation", false, &splitter.behavior) !=
            QC_OK)
            return QC_ERROR;
    } else if (strcmp(type, "CharDelimiterSplit") == 0) {
        if (qc_text_json_char(diag, tokenizer, json, "pre_tokenizer CharDelimiterSplit", "delimiter",
                &splitter.member) != QC_OK)
            return QC_ERROR;
    } else if (strcmp(type, "Whitespace") == 0) {
        splitter.kind = QC_SPLITTER_WORDS;
    } else if (strcmp(type, "WhitespaceSplit") == 0 || strcmp(type, "BertPreTokenizer") == 0) {
        splitter.is_member = qc_text_is_space;
    } else {
        return qc_error(diag, tokenizer->path, "pre_tokenizer type \"%s\" is not supported", type);
    }
    QC_PUSH(tokenizer->arena, &tokenizer->splitters, splitter);
    if (strcmp(type, "BertPreTokenizer") == 0) {
        splitter.is_member = qc_text_is_punctuation;
        splitter.behavior = QC_SPLIT_ISOLATED;
        QC_PUSH(tokenizer->arena, &tokenizer->splitters, splitter);
    }
    return QC_OK;
}

static qc_status load_one(qc_diag *diag, qc_tokenizer *tokenizer, const qc_json *json, int depth)
{
    const char *type = qc_text_json_type(diag, tokenizer, json, "pre_tokenizer");
    if (!type)
        return QC_ERROR;
    if (strcmp(type, "Sequence") == 0)
        return load_sequence(diag, tokenizer, json, depth);
    if (strcmp(type, "ByteLevel") == 0)
        return load_byte_level(diag, tokenizer, json);
    if (strcmp(type, "Metaspace") == 0)
        return load_metaspace(diag, tokenizer, json);
    if (strcmp(type, "Split") == 0)
        return load_split(diag, tokenizer, json);
    return load_class(diag, tokenizer, json, type);
}

qc_status qc_text_splitters_load(qc_diag *diag, qc_tokenizer *tokenizer, const qc_json *json)
{
    enum { SPLITTER_LIMIT = 256 }; /* bounds the recursion of encoding */
    if (qc_text_json_missing(json))
        return QC_OK;
    if (load_one(diag, tokenizer, json, 0) != QC_OK)
        return QC_ERROR;
    if (tokenizer->splitters.count > SPLITTER_LIMIT)
        return qc_error(diag, tokenizer->path, "more than %d pre_tokenizers", SPLITTER_LIMIT);
    return QC_OK;
}

/* ---- running ------------------------------------------------------------------------------------------- */

qc_text_piece qc_text_piece_slice(qc_text_piece piece, size_t start, size_t end)
{
    qc_text_piece slice = {.text = piece.text + start, .length = end - start};
    slice.at_origin = piece.at_origin && start < piece.origin_bytes;
    if (slice.at_origin)
        slice.origin_bytes = (piece.origin_bytes < end ? piece.origin_bytes : end) - start;
    return slice;
}

/* The pattern's matches and what is between them. */
static qc_status find_pattern(const qc_tokenizer *tokenizer, qc_tokenizer_scratch *scratch, qc_diag *diag,
    const qc_text_splitter *splitter, qc_text_piece piece, qc_text_spans *spans)
{
    qc_text_search search = {.pattern = &splitter->pattern,
        .matcher = scratch->matcher,
        .text = piece.text,
        .length = piece.length};
    size_t previous = 0, start, end;
    int found;
    while ((found = qc_text_search_next(&search, &start, &end)) > 0) {
        if (previous != start)
            QC_PUSH(&scratch->arena, spans, (qc_text_span){previous, start, splitter->invert});
        QC_PUSH(&scratch->arena, spans, (qc_text_span){start, end, !splitter->invert});
        previous = end;
    }
    if (found < 0)
        return qc_error(diag, tokenizer->path, "pre_tokenizer: the pattern needs too much work on a text");
    if (previous != piece.length)
        QC_PUSH(&scratch->arena, spans, (qc_text_span){previous, piece.length, splitter->invert});
    return QC_OK;
}

/* Each character of the class, and the runs between them. */
static void find_class(
    qc_arena *arena, const qc_text_splitter *splitter, qc_text_piece piece, qc_text_spans *spans)
{
    size_t previous = 0, size;
    for (size_t at = 0; at < piece.length; at += size) {
        uint32_t code = qc_text_get(piece.text + at, piece.length - at, &size);
        if (splitter->is_member ? !splitter->is_member(code) : code != splitter->member)
            continue;
        if (previous < at)
            QC_PUSH(arena, spans, (qc_text_span){previous, at, false});
        QC_PUSH(arena, spans, (qc_text_span){at, at + size, true});
        previous = at + size;
    }
    if (previous < piece.length)
        QC_PUSH(arena, spans, (qc_text_span){previous, piece.length, false});
}

/* Runs of word characters and runs of others; white space is a match and so is removed. */
static void find_words(qc_arena *arena, qc_text_piece piece, qc_text_spans *spans)
{
    enum { NONE, SPACE, WORD, OTHER } run = NONE;
    size_t start = 0, size;
    for (size_t at = 0; at < piece.length; at += size) {
        uint32_t code = qc_text_get(piece.text + at, piece.length - at, &size);
        int class = qc_text_is_space(code) ? SPACE : qc_text_is_word(code) ? WORD : OTHER;
        if (class != (int)run && at > start) {
            QC_PUSH(arena, spans, (qc_text_span){start, at, run == SPACE});
            start = at;
        }
        run = class == SPACE ? SPACE : class == WORD ? WORD : OTHER;
    }
    if (piece.length > start)
        QC_PUSH(arena, spans, (qc_text_span){start, piece.length, run == SPACE});
}

/* Turns matches and gaps into the spans to keep, in place. */
static void apply_behavior(qc_text_spans *spans, qc_text_behavior behavior)
{
    qc_text_span *items = spans->items;
    size_t count = spans->count, kept = 0;
    bool previous = false;
    switch (behavior) {
    case QC_SPLIT_ISOLATED:
        return;
    case QC_SPLIT_REMOVED:
        for (size_t i = 0; i < count; i++) {
            if (!items[i].is_match)
                items[kept++] = items[i];
        }
        break;
    case QC_SPLIT_CONTIGUOUS:
    case QC_SPLIT_MERGED_WITH_PREVIOUS:
        for (size_t i = 0; i < count; i++) {
            bool match = items[i].is_match;
            bool joins = behavior == QC_SPLIT_CONTIGUOUS ? match == previous : match && !previous;
            if (joins && kept)
                items[kept - 1].end = items[i].end;
            else
                items[kept++] = items[i];
            previous = match;
        }
        break;
    case QC_SPLIT_MERGED_WITH_NEXT: /* the same from the right end */
        kept = count;
        for (size_t i = count; i-- > 0;) {
            bool match = items[i].is_match;
            if (match && !previous && kept < count)
                items[kept].start = items[i].start;
            else
                items[--kept] = items[i];
            previous = match;
        }
        memmove(items, items + kept, (count - kept) * sizeof *items);
        kept = count - kept;
        break;
    }
    spans->count = kept;
}

static qc_status run_from(const qc_tokenizer *tokenizer, qc_tokenizer_scratch *scratch, qc_diag *diag,
    size_t index, qc_text_piece piece);

/* Puts `text` in front of the piece; like all of normalization it stands where the first character stood. */
static qc_text_piece prefix_piece(qc_str *buffer, const char *text, size_t length, qc_text_piece piece)
{
    qc_str_clear(buffer);
    qc_str_add_bytes(buffer, text, length);
    qc_str_add_bytes(buffer, piece.text, piece.length);
    piece.text = buffer->data;
    piece.length = buffer->length;
    if (piece.origin_bytes)
        piece.origin_bytes += length;
    return piece;
}

static qc_text_piece metaspace_piece(
    qc_text_level *level, const qc_text_splitter *splitter, qc_text_piece piece)
{
    char replacement[4];
    size_t length = qc_text_put(replacement, splitter->member), origin = piece.origin_bytes;
    qc_str *out = &level->mapped;
    qc_str_clear(out);
    for (size_t at = 0; at < piece.length;) {
        const char *space = memchr(piece.text + at, ' ', piece.length - at);
        size_t end = space ? (size_t)(space - piece.text) : piece.length;
        qc_str_add_bytes(out, piece.text + at, end - at);
        if (space)
            qc_str_add_bytes(out, replacement, length);
        at = end + (space ? 1 : 0);
    }
    if (origin && piece.text[0] == ' ')
        origin += length - 1;
    piece.text = out->data;
    piece.length = out->length;
    piece.origin_bytes = origin < out->length ? origin : out->length;
    bool present = piece.length >= length && memcmp(piece.text, replacement, length) == 0;
    if (splitter->prepend && !present && piece.length && (!splitter->prepend_at_first || piece.at_origin))
        piece = prefix_piece(&level->prefixed, replacement, length, piece);
    return piece;
}

/* One word of a splitter on its way to the next. */
static qc_status pass_on(const qc_tokenizer *tokenizer, qc_tokenizer_scratch *scratch, qc_diag *diag,
    size_t index, qc_text_piece piece)
{
    if (!piece.length)
        return QC_OK;
    if (tokenizer->splitters.items[index].kind == QC_SPLITTER_BYTE_LEVEL) {
        qc_str *out = &scratch->levels[index].mapped;
        qc_str_clear(out);
        qc_text_add_byte_level(out, piece.text, piece.origin_bytes);
        size_t origin = out->length;
        qc_text_add_byte_level(out, piece.text + piece.origin_bytes, piece.length - piece.origin_bytes);
        piece.text = out->data;
        piece.length = out->length;
        piece.origin_bytes = origin;
    }
    return run_from(tokenizer, scratch, diag, index + 1, piece);
}

static qc_status run_from(const qc_tokenizer *tokenizer, qc_tokenizer_scratch *scratch, qc_diag *diag,
    size_t index, qc_text_piece piece)
{
    if (index == tokenizer->splitters.count)
        return qc_text_model_encode(tokenizer, scratch, diag, piece.text, piece.length);
    const qc_text_splitter *splitter = &tokenizer->splitters.items[index];
    qc_text_level *level = &scratch->levels[index];
    qc_text_spans *spans = &level->spans;
    qc_text_splitter by_replacement = {.member = splitter->member};
    spans->count = 0;
    switch (splitter->kind) {
    case QC_SPLITTER_BYTE_LEVEL:
        if (splitter->prepend && piece.length && piece.text[0] != ' ')
            piece = prefix_piece(&level->prefixed, " ", 1, piece);
        if (!splitter->split)
            return pass_on(tokenizer, scratch, diag, index, piece);
        if (find_pattern(tokenizer, scratch, diag, splitter, piece, spans) != QC_OK)
            return QC_ERROR;
        break;
    case QC_SPLITTER_PATTERN:
        if (find_pattern(tokenizer, scratch, diag, splitter, piece, spans) != QC_OK)
            return QC_ERROR;
        break;
    case QC_SPLITTER_CLASS:
        find_class(&scratch->arena, splitter, piece, spans);
        break;
    case QC_SPLITTER_WORDS:
        find_words(&scratch->arena, piece, spans);
        break;
    case QC_SPLITTER_METASPACE:
        piece = metaspace_piece(level, splitter, piece);
        if (!splitter->split)
            return pass_on(tokenizer, scratch, diag, index, piece);
        find_class(&scratch->arena, &by_replacement, piece, spans);
        break;
    }
    apply_behavior(spans, splitter->behavior);
    for (size_t i = 0; i < spans->count; i++) {
        qc_text_piece part = qc_text_piece_slice(piece, spans->items[i].start, spans->items[i].end);
        if (pass_on(tokenizer, scratch, diag, index, part) != QC_OK)
            return QC_ERROR;
    }
    return QC_OK;
}

qc_status qc_text_pretokenize(
    const qc_tokenizer *tokenizer, qc_tokenizer_scratch *scratch, qc_diag *diag, qc_text_piece piece)
{
    return piece.length ? run_from(tokenizer, scratch, diag, 0, piece) : QC_OK;
}
