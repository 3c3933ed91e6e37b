/* SPDX-License-Identifier: MIT
 *
 * internal.h - what the files of the tokenizer share.
 *
 * Encoding is a chain, run depth first so that only the pieces on the way down are in memory:
 *   text -> added tokens found in the raw text -> normalizers -> added tokens found in the normalized text
 *        -> pre-tokenizers, each splitting its piece further -> BPE -> ids -> post-processors.
 */
#ifndef QC_TEXT_TOKENIZER_INTERNAL_H
#define QC_TEXT_TOKENIZER_INTERNAL_H

#include "frontends/text/tokenizer/tokenizer.h"
#include "ir/support/json.h"

/* A part of the text on its way down the chain. Metaspace's "first" scheme asks whether a piece starts where
 * the original text starts; normalization moves bytes about, so a piece carries how many of its leading bytes
 * come from the text's first character (`origin_bytes`, 0 when none) beside the answer for itself. */
typedef struct qc_text_piece {
    const char *text;
    size_t length;
    bool at_origin;
    size_t origin_bytes;
} qc_text_piece;

/* Bytes [start, end) of `piece`. */
qc_text_piece qc_text_piece_slice(qc_text_piece piece, size_t start, size_t end);

typedef struct qc_text_span {
    size_t start, end;
    bool is_match;
} qc_text_span;
typedef QC_VEC(qc_text_span) qc_text_spans;

/* ---- unicode.c ------------------------------------------------------------------------------- */

/* The character at text[0..length), which must be valid UTF-8 and not empty; *size is its byte count. */
uint32_t qc_text_get(const char *text, size_t length, size_t *size);
size_t qc_text_put(char out[4], uint32_t code);
/* Where the character before text[at] starts; at > 0. */
size_t qc_text_previous(const char *text, size_t at);
/* Offset of the first byte that is not valid UTF-8, or `length`. */
size_t qc_text_invalid_offset(const char *text, size_t length);
/* Appends text[length] with each ill-formed sequence (longest prefix of a valid one) as U+FFFD. */
void qc_text_add_lossy(qc_str *out, const char *text, size_t length);
bool qc_text_is_space(uint32_t code);       /* White_Space */
bool qc_text_is_word(uint32_t code);        /* \w of Unicode regular expressions (UTS #18) */
bool qc_text_is_number(uint32_t code);      /* general category N */
bool qc_text_is_punctuation(uint32_t code); /* ASCII punctuation and general category P */
bool qc_text_is_mark(uint32_t code);        /* general category M */
/* Characters later than the Unicode version of the normalization forms: they pass through unchanged. */
bool qc_text_is_newer(uint32_t code);
/* Lower case of one character: one or two characters. */
size_t qc_text_lower(uint32_t code, uint32_t lower[2]);
/* The characters that stand for bytes in byte-level vocabularies (GPT-2). */
uint32_t qc_text_byte_char(unsigned char byte);
int qc_text_char_byte(uint32_t code); /* -1 when it stands for none */
/* Ranges of a property (category, script or "word") that Unicode 15 and 16 added. */
typedef struct qc_text_property_range {
    const char *property;
    uint32_t first, last;
} qc_text_property_range;
const qc_text_property_range *qc_text_property_ranges(size_t *count);

/* ---- regex.c --------------------------------------------------------------------------------- */

/* Appends what PCRE2 shall compile for an Oniguruma pattern; false, with what is wrong, when the two are not
 * known to mean the same. */
bool qc_text_regex_translate(
    qc_arena *arena, const char *pattern, size_t length, qc_str *out, const char **what_is_wrong);

/* ---- match.c --------------------------------------------------------------------------------- */

typedef struct qc_text_regex qc_text_regex;
typedef struct qc_text_matcher qc_text_matcher; /* one per thread */
/* Compiles an Oniguruma pattern; NULL after an error. */
qc_text_regex *qc_text_regex_compile(
    qc_diag *diag, qc_arena *arena, const char *where, const char *pattern, size_t length);
void qc_text_regex_free(qc_text_regex *regex);
qc_text_matcher *qc_text_matcher_create(qc_arena *arena);
void qc_text_matcher_destroy(qc_text_matcher *matcher);
/* The first match at or after `from`: 1 found, 0 none, -1 the pattern needs too much work on this text. */
int qc_text_regex_find(const qc_text_regex *regex, qc_text_matcher *matcher, const char *text, size_t length,
    size_t from, size_t *start, size_t *end);

/* What Split and Replace search for: a regular expression, or a literal when regex is NULL. */
typedef struct qc_text_pattern {
    const qc_text_regex *regex;
    const char *literal;
    size_t literal_length;
} qc_text_pattern;
/* Reads {"String": ...} or {"Regex": ...}. */
qc_status qc_text_pattern_load(qc_diag *diag, qc_tokenizer *tokenizer, const qc_json *object,
    const char *what, qc_text_pattern *pattern);
/* qc_text_pattern_load for Replace, whose pattern must not match nothing: what the reference library then
 * does to positions later in the chain is not defined. */
qc_status qc_text_replace_load(qc_diag *diag, qc_tokenizer *tokenizer, const qc_json *object,
    const char *what, qc_text_pattern *pattern);
/* Successive matches. An empty match directly after a match does not count. */
typedef struct qc_text_search {
    const qc_text_pattern *pattern;
    qc_text_matcher *matcher;
    const char *text;
    size_t length, from, last_end;
    bool any;
} qc_text_search;
int qc_text_search_next(qc_text_search *search, size_t *start, size_t *end); /* as qc_text_regex_find */

/* ---- normalize.c ----------------------------------------------------------------------------- */

typedef enum qc_text_normalizer_kind {
    QC_NORMALIZE_PREPEND,
    QC_NORMALIZE_REPLACE,
    QC_NORMALIZE_STRIP,
    QC_NORMALIZE_NFC,
    QC_NORMALIZE_NFD,
    QC_NORMALIZE_NFKC,
    QC_NORMALIZE_NFKD,
    QC_NORMALIZE_LOWERCASE,
    QC_NORMALIZE_STRIP_ACCENTS,
    QC_NORMALIZE_NMT,
    QC_NORMALIZE_BYTE_LEVEL,
} qc_text_normalizer_kind;

typedef struct qc_text_normalizer {
    qc_text_normalizer_kind kind;
    const char *content; /* prepend, replace */
    size_t content_length;
    qc_text_pattern pattern; /* replace */
    bool left, right;        /* strip */
} qc_text_normalizer;

qc_status qc_text_normalizers_load(qc_diag *diag, qc_tokenizer *tokenizer, const qc_json *json);
/* Runs all normalizers. The result's text is in the scratch (or the piece's own) until the next call. */
qc_status qc_text_normalize(const qc_tokenizer *tokenizer, qc_tokenizer_scratch *scratch, qc_diag *diag,
    qc_text_piece piece, qc_text_piece *result);
/* Appends the byte-level spelling of text[length]. */
void qc_text_add_byte_level(qc_str *out, const char *text, size_t length);

/* ---- pretokenize.c --------------------------------------------------------------------------- */

typedef enum qc_text_behavior {
    QC_SPLIT_REMOVED,
    QC_SPLIT_ISOLATED,
    QC_SPLIT_MERGED_WITH_PREVIOUS,
    QC_SPLIT_MERGED_WITH_NEXT,
    QC_SPLIT_CONTIGUOUS,
} qc_text_behavior;

typedef enum qc_text_splitter_kind {
    QC_SPLITTER_PATTERN,
    QC_SPLITTER_CLASS,
    QC_SPLITTER_WORDS, /* runs of word characters and runs of others, without white space */
    QC_SPLITTER_METASPACE,
    QC_SPLITTER_BYTE_LEVEL,
} qc_text_splitter_kind;

typedef struct qc_text_splitter {
    qc_text_splitter_kind kind;
    qc_text_behavior behavior;
    qc_text_pattern pattern;        /* pattern; byte level's own regex, unset when it does not split */
    bool invert;                    /* pattern */
    bool (*is_member)(uint32_t);    /* class; NULL: the character `member` */
    uint32_t member;                /* class, metaspace's replacement */
    bool prepend, prepend_at_first; /* byte level: a space; metaspace: the replacement */
    bool split;                     /* metaspace, byte level */
} qc_text_splitter;

typedef struct qc_text_level { /* buffers of one splitter */
    qc_text_spans spans;
    qc_str prefixed, mapped;
} qc_text_level;

qc_status qc_text_splitters_load(qc_diag *diag, qc_tokenizer *tokenizer, const qc_json *json);
/* Splits the piece and gives what comes out to the model. */
qc_status qc_text_pretokenize(
    const qc_tokenizer *tokenizer, qc_tokenizer_scratch *scratch, qc_diag *diag, qc_text_piece piece);

/* ---- model.c --------------------------------------------------------------------------------- */

typedef struct qc_text_token {
    const char *text; /* NULL: no token has this id */
    uint32_t length;
    int32_t added_index; /* in qc_tokenizer.added, plus 1; 0 for tokens of the model alone */
    bool skipped;        /* decoding without special tokens passes over it */
} qc_text_token;

typedef struct qc_text_merge {
    uint64_t pair; /* left id << 32 | right id; EMPTY_PAIR marks a free slot */
    uint32_t rank;
    int32_t id; /* of the merged token */
} qc_text_merge;

typedef struct qc_text_model {
    qc_map vocab; /* token -> id + 1 */
    qc_text_merge *merges;
    size_t merge_mask;           /* slots - 1; slots is a power of two */
    int32_t fallback_ids[256];   /* of <0x00> .. <0xFF>, -1 when absent */
    int32_t *char_ids;           /* of the first DIRECT_CHARS characters alone, -1 when absent */
    const char *unk_token;       /* NULL: none */
    int32_t unk_id;              /* -1 when unk_token is not in the vocabulary */
    const char *prefix, *suffix; /* continuing_subword_prefix, end_of_word_suffix, or NULL */
    bool fuse_unk, byte_fallback, ignore_merges;
} qc_text_model;

qc_status qc_text_model_load(qc_diag *diag, qc_tokenizer *tokenizer, const qc_json *json);
/* Appends the ids of one word to the scratch. */
qc_status qc_text_model_encode(const qc_tokenizer *tokenizer, qc_tokenizer_scratch *scratch, qc_diag *diag,
    const char *text, size_t length);

/* ---- added.c --------------------------------------------------------------------------------- */

typedef struct qc_text_added {
    const char *content;
    size_t length;
    int32_t id;
    bool single_word, lstrip, rstrip, normalized, special;
    bool respelled; /* decoded in its normalized spelling: it was normalized in one of its listings */
} qc_text_added;

typedef struct qc_text_trie_node {
    int32_t first_child, next_sibling; /* node indices, -1 none */
    int32_t token;                     /* index into qc_tokenizer.added, -1 none */
    unsigned char byte;
} qc_text_trie_node;

typedef struct qc_text_trie {
    QC_VEC(qc_text_trie_node) nodes;
    int32_t roots[256]; /* by first byte */
    bool empty;
} qc_text_trie;

typedef struct qc_text_segment {
    size_t start, end;
    int32_t id; /* -1: text between added tokens */
} qc_text_segment;
typedef QC_VEC(qc_text_segment) qc_text_segments;

qc_status qc_text_added_load(qc_diag *diag, qc_tokenizer *tokenizer, const qc_json *json);
/* Cuts text[length] at the trie's tokens. */
void qc_text_added_find(const qc_tokenizer *tokenizer, const qc_text_trie *trie, const char *text,
    size_t length, qc_arena *arena, qc_text_segments *segments);

/* ---- post.c ---------------------------------------------------------------------------------- */

typedef struct qc_text_post_step { /* a template: ids, and where the sequence goes */
    const int32_t *items;          /* SEQUENCE_ITEM or an id */
    size_t count;
} qc_text_post_step;

typedef struct qc_text_limits {
    bool truncate, truncate_left, second_only;
    uint64_t max_length, stride;
    bool pad, pad_left, pad_fixed;
    uint64_t pad_length, pad_multiple;
    int32_t pad_id;
} qc_text_limits;

qc_status qc_text_post_load(qc_diag *diag, qc_tokenizer *tokenizer, const qc_json *json);
qc_status qc_text_limits_load(qc_diag *diag, qc_tokenizer *tokenizer, const qc_json *root);
/* Appends `sequence` to `ids`: truncated, with special tokens if wanted, padded. */
qc_status qc_text_post_process(const qc_tokenizer *tokenizer, const qc_token_ids *sequence, qc_diag *diag,
    bool add_special_tokens, qc_arena *arena, qc_token_ids *ids);

/* ---- decode.c -------------------------------------------------------------------------------- */

typedef enum qc_text_decoder_kind {
    QC_DECODE_BYTE_LEVEL,
    QC_DECODE_BYTE_FALLBACK,
    QC_DECODE_FUSE,
    QC_DECODE_STRIP,
    QC_DECODE_REPLACE,
    QC_DECODE_METASPACE,
    QC_DECODE_BPE_SUFFIX,
} qc_text_decoder_kind;

typedef struct qc_text_decoder {
    qc_text_decoder_kind kind;
    const char *content; /* replace: new text; strip, metaspace: one character; suffix */
    size_t content_length;
    qc_text_pattern pattern; /* replace */
    uint64_t start, stop;    /* strip: how many at either end */
    bool drop_first;         /* metaspace: no spaces in the first token */
} qc_text_decoder;

qc_status qc_text_decoders_load(qc_diag *diag, qc_tokenizer *tokenizer, const qc_json *json);

/* ---- json.c ---------------------------------------------------------------------------------- */

/* Typed members with an error that names `what` and the key; `required`: null and absence are errors too,
 * else they leave the value alone. */
qc_status qc_text_json_bool(qc_diag *diag, const qc_tokenizer *tokenizer, const qc_json *object,
    const char *what, const char *key, bool required, bool *value);
qc_status qc_text_json_count(qc_diag *diag, const qc_tokenizer *tokenizer, const qc_json *object,
    const char *what, const char *key, bool required, uint64_t *value);
/* The string is copied to the tokenizer's arena. */
qc_status qc_text_json_string(qc_diag *diag, const qc_tokenizer *tokenizer, const qc_json *object,
    const char *what, const char *key, bool required, const char **value, size_t *length);
/* A string of one character. */
qc_status qc_text_json_char(qc_diag *diag, const qc_tokenizer *tokenizer, const qc_json *object,
    const char *what, const char *key, uint32_t *value);
/* The "type" of a part: NULL after an error. */
const char *qc_text_json_type(
    qc_diag *diag, const qc_tokenizer *tokenizer, const qc_json *object, const char *what);
bool qc_text_json_missing(const qc_json *value); /* absent or null */

/* ---- tokenizer.c --------------------------------------------------------------------------------------- */

struct qc_tokenizer {
    const char *path; /* of tokenizer.json, for errors */
    qc_arena *arena;
    qc_text_model model;
    qc_text_token *tokens; /* by id */
    size_t token_count, token_capacity;
    QC_VEC(qc_text_added) added;
    int32_t next_added_id; /* behind the largest of an added token */
    qc_map added_ids;      /* content -> id + 1 */
    qc_text_trie raw_trie, normalized_trie;
    QC_VEC(qc_text_normalizer) normalizers;
    QC_VEC(qc_text_splitter) splitters;
    QC_VEC(qc_text_post_step) post;
    bool has_decoder;
    QC_VEC(qc_text_decoder) decoders;
    QC_VEC(qc_text_regex *) regexes; /* to free */
    qc_text_limits limits;
    int32_t bos_id, eos_id, pad_id;
};

enum { QC_TEXT_CACHE_WAYS = 1 << 14, QC_TEXT_CACHE_KEY_BYTES = 39, QC_TEXT_CACHE_IDS = 8 };

typedef struct qc_text_cached_word { /* a direct-mapped cache: the slot follows from the word's hash */
    unsigned char length, count;     /* length 0: free */
    char key[QC_TEXT_CACHE_KEY_BYTES + 7];
    int32_t ids[QC_TEXT_CACHE_IDS];
} qc_text_cached_word;

typedef struct qc_text_symbol {
    int32_t id, previous, next; /* indices of neighbours, -1 none */
    bool alive;
} qc_text_symbol;

typedef struct qc_text_candidate {
    uint64_t order; /* rank << 32 | position */
    int32_t id;
} qc_text_candidate;

struct qc_tokenizer_scratch {
    qc_arena arena;
    qc_text_matcher *matcher;
    qc_text_level *levels; /* one per splitter */
    size_t level_count;
    qc_str normalized[2];
    qc_text_segments raw_segments, normalized_segments;
    QC_VEC(qc_text_symbol) symbols;
    QC_VEC(qc_text_candidate) heap;
    qc_str affixed; /* a character with prefix and suffix */
    qc_token_ids ids;
    qc_text_cached_word *cache;
};

#endif
