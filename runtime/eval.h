/* SPDX-License-Identifier: MIT
 *
 * eval.h - perplexity of a model on a text, and how far it is from another model on the same tokens.
 *
 * Tokens t_0 .. t_{n-1} of a sequence give -log p(t_i | t_0 .. t_{i-1}) for every i from the first scored one
 * on; the perplexity is the exponential of the mean over all sequences, its standard error that mean's times
 * the perplexity (tokens taken as independent, as is usual). At the same positions a baseline gives the
 * divergence KL(baseline || model) = sum_t p (log p - log q), in nats, and whether both have the same
 * likeliest token. Logits are the model's, probabilities f64 sums in a fixed order; results do not depend on
 * threads.
 */
#ifndef QC_RUNTIME_EVAL_H
#define QC_RUNTIME_EVAL_H

#include "runtime/eval_stats.h"
#include "runtime/model.h"

/* What is run at once, its logits kept, when there is a baseline: at least one sequence, else at most this.
 */
#define QC_EVAL_GROUP_BYTES ((size_t)512 << 20)
#define QC_EVAL_DEFAULT_CONTEXT 512

typedef struct qc_eval_window {
    const int32_t *ids;
    size_t count;
    size_t first; /* the first token that is scored: 1 or more */
} qc_eval_window;

typedef struct qc_eval_windows {
    qc_eval_window *items;
    size_t count;
    uint64_t scored; /* tokens */
    int64_t context; /* tokens of a whole window; 0 for sequences of their own lengths */
    bool prefixed;   /* windows begin with the tokenizer's own tokens, which are not scored */
} qc_eval_windows;

/* Consecutive windows of `context` tokens over ids[count]: prefix[prefix_count], which is not scored, then as
 * many ids as there is room for; without a prefix the first id of a window is not scored. A last window with
 * nothing to score is left out. An error when context leaves no room or nothing is scored. Windows point into
 * `ids` where there is no prefix. */
qc_status qc_eval_windows_cut(qc_diag *diag, qc_arena *arena, const char *where, const int32_t *ids,
    size_t count, const int32_t *prefix, size_t prefix_count, int64_t context, qc_eval_windows *windows);

/* Reads `path`, tokenized as the model does. NAME.jsonl: a sequence a line (`text` with the special tokens
 * that the tokenizer adds, or `input_ids`), cut to `context` tokens if that is not 0; one of a single token
 * has nothing to score. Anything else is plain text, encoded whole and cut into windows of `context` tokens,
 * by default the model's positions and at most QC_EVAL_DEFAULT_CONTEXT. Ids are checked against the
 * vocabulary. The model's tokenizer is loaded where it is needed. */
qc_status qc_eval_read(qc_model *model, const qc_model_options *options, qc_arena *arena, const char *path,
    int64_t context, qc_eval_windows *windows);

typedef struct qc_eval_result {
    qc_mean loss, baseline_loss; /* of -log p, nats a token */
    qc_mean divergence, agreement;
    double divergence_q999, divergence_max; /* 99.9 % quantile */
    double divergence_q999_error;           /* its standard error; NaN where there are too few tokens */
    bool has_baseline;
} qc_eval_result;

typedef struct qc_eval_options {
    int threads;
    qc_progress_fn progress; /* may be NULL */
    void *progress_user;
} qc_eval_options;

/* Models to measure on the same windows. */
typedef struct qc_eval_subjects {
    size_t count;
    const char *const *names; /* for diagnostics */
    /* The executor of a subject, which runs a group of windows and is then closed, group by group; NULL after a
     * diagnostic. */
    qc_executor *(*open)(void *user, size_t index);
    void (*close)(void *user, size_t index);
    void *user;
} qc_eval_subjects;

/* Runs the baseline (NULL: none) once and each subject on every group of windows: the same numbers as one run of each.
 * results[count]; divergences[count], or NULL, get the divergence of every scored token in order. */
qc_status qc_eval_run_subjects(qc_ctx *ctx, qc_executor *baseline, const char *baseline_name,
    const qc_eval_subjects *subjects, const qc_eval_windows *windows, const qc_eval_options *options,
    qc_eval_result *results, double *const *divergences);

/* Both models need their weights; baseline may be NULL. Logits that give no finite loss are an error. */
qc_status qc_eval_run(qc_model *model, qc_model *baseline, const qc_eval_windows *windows,
    const qc_eval_options *options, qc_eval_result *result);

/* Lines for people. */
void qc_eval_print_text(const qc_eval_windows *windows, const qc_eval_result *result, qc_str *out);
/* One JSON object on one line. */
void qc_eval_print_json(const char *model, const char *baseline, const char *data,
    const qc_eval_windows *windows, const qc_eval_result *result, qc_arena *arena, qc_str *out);

#endif
