/* SPDX-License-Identifier: MIT
 *
 * model.h - a model that is to be executed: a checkpoint directory or an IR file, with its tokenizer and its
 * executor.
 */
#ifndef QC_RUNTIME_MODEL_H
#define QC_RUNTIME_MODEL_H

#include "frontends/text/tokenizer/tokenizer.h"
#include "runtime/executor.h"
#include "runtime/kv_cache.h"

typedef struct qc_model_options {
    qc_dtype dtype;     /* to compute in; QC_DTYPE_NONE: as the model says */
    const char *source; /* where the weights of an IR file lie; NULL: where it says */
    qc_backend backend;
    int threads;         /* 0: all processors */
    bool truncate;       /* keep the truncation and padding of tokenizer.json */
    bool tokenizer_only; /* no IR is read of a directory: model.module stays NULL */
    qc_kv_cache_request cache;
} qc_model_options;

typedef struct qc_model {
    qc_ctx *ctx;
    const char *path;
    const char *directory; /* of the checkpoint; NULL when an IR file names none */
    qc_module *module;
    qc_tokenizer *tokenizer;
    qc_executor *executor;
    int64_t positions; /* max_position_embeddings of config.json, 0 when it does not say */
} qc_model;

/* max_position_embeddings of DIRECTORY/config.json; 0 when it does not say, there is none, or directory is NULL. */
qc_status qc_model_read_positions(qc_diag *diag, qc_arena *arena, const char *directory, int64_t *positions);

/* Reads the IR of `path` (a directory with config.json, or FILE.qc) in a context; weights are not touched.
 * The model is to be closed whatever the outcome. */
qc_status qc_model_open(qc_ctx *ctx, const char *path, const qc_model_options *options, qc_model *model);
/* tokenizer.json of the directory. */
qc_status qc_model_load_tokenizer(qc_model *model, const qc_model_options *options);
/* Loads the weights. */
qc_status qc_model_load_weights(qc_model *model, const qc_model_options *options);
void qc_model_close(qc_model *model);

/* Tokens that the model gives logits for; 0 when its function does not say. */
int64_t qc_model_vocabulary(const qc_model *model);

/* The tokens that the tokenizer puts in front of every text by itself (BOS, or none): prefix[*count] lives in
 * the context. */
qc_status qc_model_prefix(qc_model *model, const int32_t **prefix, size_t *count);

/* Is it UTF-8? An error that names `where` and the first bad byte. */
qc_status qc_text_check(qc_diag *diag, const char *where, const char *text, size_t length);

#endif
