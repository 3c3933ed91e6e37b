/* SPDX-License-Identifier: MIT
 *
 * generate.h - continues a prompt.
 */
#ifndef QC_RUNTIME_GENERATE_H
#define QC_RUNTIME_GENERATE_H

#include "runtime/model.h"
#include "runtime/sampler.h"

#define QC_GENERATE_DEFAULT_TOKENS 256

/* Gets text as it comes, complete characters only; a non-OK answer ends the generation. */
typedef qc_status (*qc_text_fn)(void *user, const char *text, size_t length);

typedef struct qc_generate_plan {
    const int32_t *prompt; /* ids, special tokens included */
    size_t prompt_count;
    size_t max_tokens;    /* at most so many follow */
    uint64_t cache_bytes; /* of the KV cache for all of them, at most */
} qc_generate_plan;

typedef struct qc_generate_report {
    size_t tokens;                  /* generated, an end token not counted */
    bool ended;                     /* by an end token of the model */
    double prompt_seconds, seconds; /* the prompt's; the tokens' after the first */
} qc_generate_report;

/* Encodes the prompt and sizes the cache. chat: the prompt is one message of the user, put into the model's chat template
 * with a generation prompt behind it. max_tokens 0: QC_GENERATE_DEFAULT_TOKENS, or fewer where the model
 * has no more positions. More positions than the model was made for is a warning. */
qc_status qc_generate_prepare(qc_model *model, qc_arena *arena, const char *prompt, bool chat,
    size_t max_tokens, qc_generate_plan *plan);

/* Ends at the model's end tokens (generation_config.json, else config.json), which give no text. */
qc_status qc_generate_run(qc_model *model, const qc_generate_plan *plan, const qc_sampler_options *sampling,
    qc_text_fn emit, void *user, qc_generate_report *report);

#endif
