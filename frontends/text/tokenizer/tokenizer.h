/* SPDX-License-Identifier: MIT
 *
 * tokenizer.h - text to token ids and back, from the tokenizer.json of a Hugging Face model directory.
 *
 * The file is the serialized form of the Python package `tokenizers`; ids and texts are those that package
 * (0.23.3) gives. BPE models are read, byte-level and SentencePiece-like, with the normalizers,
 * pre-tokenizers, post-processors and decoders that go with them. What is not known is refused by name:
 * `DIR/tokenizer.json: pre_tokenizer type "X" is not supported`.
 *
 * A loaded tokenizer is read only: threads share it, each with a scratch of its own.
 */
#ifndef QC_TEXT_TOKENIZER_H
#define QC_TEXT_TOKENIZER_H

#include "ir/support/diag.h"
#include "ir/support/str.h"

typedef struct qc_tokenizer qc_tokenizer;
/* What one thread needs for encoding: buffers and a bounded cache of words. */
typedef struct qc_tokenizer_scratch qc_tokenizer_scratch;

/* A growing array of ids; zero-initialise it. The arena given to the calls that append owns the items. */
typedef struct qc_token_ids {
    int32_t *items;
    size_t count, capacity;
} qc_token_ids;

/* Reads DIR/tokenizer.json, and from DIR/tokenizer_config.json and DIR/special_tokens_map.json, where they
 * exist, which tokens begin, end and pad a text. The tokenizer lives in `arena`; call _fini before the arena
 * ends. */
qc_status qc_tokenizer_load(
    qc_diag *diag, qc_arena *arena, const char *model_directory, qc_tokenizer **tokenizer);
/* The same from the text of a tokenizer.json; `where` names it in errors. */
qc_status qc_tokenizer_parse(qc_diag *diag, qc_arena *arena, const char *where, const char *json,
    size_t length, qc_tokenizer **tokenizer);
/* Releases what is not the arena's (compiled regular expressions). NULL is fine. */
void qc_tokenizer_fini(qc_tokenizer *tokenizer);
/* Forgets the `truncation` and `padding` of the file, as Transformers does. By default encoding applies them,
 * as the package does. Not while another thread encodes. */
void qc_tokenizer_ignore_limits(qc_tokenizer *tokenizer);

/* `oom` as in qc_arena_init. */
qc_tokenizer_scratch *qc_tokenizer_scratch_create(const qc_tokenizer *tokenizer, qc_oom_fn oom);
void qc_tokenizer_scratch_destroy(qc_tokenizer_scratch *scratch); /* NULL is fine */

/* Appends the ids of text[length] to `ids`. The text must be valid UTF-8 (an error names the first bad byte's
 * offset); NULs are characters like others. add_special_tokens: with the tokens that the file's
 * post-processor adds. */
qc_status qc_tokenizer_encode(const qc_tokenizer *tokenizer, qc_tokenizer_scratch *scratch, qc_diag *diag,
    const char *text, size_t length, bool add_special_tokens, qc_arena *arena, qc_token_ids *ids);

/* Appends the text of ids[count] to `out`. Ids that no token has are passed over. skip_special_tokens: so are
 * special tokens. */
void qc_tokenizer_decode(
    const qc_tokenizer *tokenizer, const int32_t *ids, size_t count, bool skip_special_tokens, qc_str *out);

/* Largest id that a token has, plus one. */
size_t qc_tokenizer_vocab_size(const qc_tokenizer *tokenizer);
/* -1 when there is no such token. */
int32_t qc_tokenizer_token_to_id(const qc_tokenizer *tokenizer, const char *token, size_t length);
/* The token as the vocabulary spells it (byte-level characters and all; an added token that is `normalized`
 * in its normalized spelling), NULL when there is none. Lives as long as the tokenizer. */
const char *qc_tokenizer_id_to_token(const qc_tokenizer *tokenizer, int32_t id, size_t *length);
bool qc_tokenizer_is_special(const qc_tokenizer *tokenizer, int32_t id);
/* -1 when the model directory does not say. */
int32_t qc_tokenizer_bos_id(const qc_tokenizer *tokenizer);
int32_t qc_tokenizer_eos_id(const qc_tokenizer *tokenizer);
int32_t qc_tokenizer_pad_id(const qc_tokenizer *tokenizer);

/* Decoding while tokens arrive: what _push and _finish append is, put together, the text of all ids, as
 * long as bytes that single tokens stand for spell whole characters. A character that is not complete yet is
 * held back. */
typedef struct qc_token_stream {
    const qc_tokenizer *tokenizer;
    bool skip_special_tokens;
    qc_str window_ids;  /* int32 ids still looked at: those of the last complete text, and newer ones */
    size_t known_count; /* leading ids of the window whose text is out */
    size_t known_bytes; /* bytes of the window's text that are out */
} qc_token_stream;

void qc_token_stream_init(
    qc_token_stream *stream, const qc_tokenizer *tokenizer, bool skip_special_tokens, const qc_arena *arena);
void qc_token_stream_fini(qc_token_stream *stream);
void qc_token_stream_push(qc_token_stream *stream, int32_t id, qc_str *out);
void qc_token_stream_finish(qc_token_stream *stream, qc_str *out);

#endif
