/* SPDX-License-Identifier: MIT
 *
 * dataset.h - token sequences for calibration and evaluation, from JSONL, plain text or a random generator.
 */
#ifndef QC_TEXT_DATASET_H
#define QC_TEXT_DATASET_H

#include "frontends/text/tokenizer/tokenizer.h"

typedef struct qc_dataset_options {
    const char *field;  /* of JSONL lines; NULL: input_ids, else text, else messages */
    size_t max_samples; /* first N lines or windows in file order; 0: all */
    size_t max_tokens;  /* longer lines are cut on the right; 0: not. Plain text: length of a window */
    bool shuffle;       /* by seed, before max_samples */
    uint64_t seed;
    int64_t vocabulary; /* an id beyond it is an error that names line and id */
    const char
        *model_directory; /* where the chat template of lines with messages lies; NULL: there is none */
} qc_dataset_options;

typedef struct qc_token_sequence {
    const int32_t *ids;
    size_t count;
    size_t line; /* in the file, from 1 */
} qc_token_sequence;

typedef struct qc_dataset {
    qc_token_sequence *sequences;
    size_t count;
    uint64_t token_count;
} qc_dataset;

/* FILE.jsonl, a sequence a line: `input_ids` as they are; `text` with the tokenizer's special tokens; `messages`, a list
 * of objects with role and content, rendered by the chat template without a generation prompt and encoded without
 * further special tokens. Or any other file as plain text: encoded whole with its special tokens; if that is more than max_tokens
 * (0: 2048), cut into windows of as many, each behind the tokens that the tokenizer puts in front of a text. The
 * tokenizer may be NULL when every line has input_ids; a line that needs one is an error then. Bad JSON, an
 * empty set and an empty sequence are errors that name file and line. */
qc_status qc_dataset_read(qc_diag *diag, qc_arena *arena, const char *path, qc_tokenizer *tokenizer,
    const qc_dataset_options *options, qc_dataset *dataset);
/* max_samples sequences of max_tokens ids drawn evenly from the vocabulary by `seed` (a fixed generator: the
 * same ids everywhere). */
qc_status qc_dataset_random(
    qc_diag *diag, qc_arena *arena, const qc_dataset_options *options, qc_dataset *dataset);
/* The tokens that the tokenizer puts in front of every text (BOS); *prefix lives in `arena`. */
qc_status qc_text_prefix(const qc_tokenizer *tokenizer, qc_tokenizer_scratch *scratch, qc_diag *diag,
    qc_arena *arena, const int32_t **prefix, size_t *count);

#endif
