/* SPDX-License-Identifier: MIT
 *
 * qk_error.h - how far the scores q k^T of quantized queries and keys are from those of unquantized ones.
 *
 * The base model runs; in each layer its queries and keys behind RoPE are given to each recipe's rotation and codes, and
 * what comes out is multiplied in f32. With s the scores of the base model, t the recipe's, both over the keys that a
 * query sees, and s~, t~ their differences from their own row's mean,
 *
 *     error of a head = sum (t~ - s~)^2 / sum s~^2
 *
 * Means of rows are taken away because softmax does not see them; so keys less their mean (center_k) cost nothing. The
 * error of a sequence is the mean over heads and layers; the standard error is over sequences. Only attention's own codes
 * count: those of linears leave the hidden states alone here.
 */
#ifndef QC_RUNTIME_COMPARE_QK_ERROR_H
#define QC_RUNTIME_COMPARE_QK_ERROR_H

#include "runtime/eval.h"

/* At most so many sequences, taken evenly from all, cut to so many tokens. */
#define QC_QK_SEQUENCES 16
#define QC_QK_TOKENS 1024

typedef struct qc_qk_error {
    bool coded;    /* does any attention read codes of q or k? If not, the error is 0 and not measured */
    qc_mean error; /* over sequences */
    size_t layers; /* attention ops */
    double *
        by_layer; /* [layers], means over heads and sequences; in the caller's arena; NULL when not measured */
} qc_qk_error;

typedef struct qc_qk_options {
    const char *source;        /* where the weights lie; NULL: the module's source */
    const qc_executor *lender; /* of the base model, whose weights serve; may be NULL */
    int threads;
    qc_progress_fn progress; /* may be NULL */
    void *progress_user;
} qc_qk_options;

/* results[count]. The modules are resolved and not lowered, all of one context; they are not changed. */
qc_status qc_qk_error_measure(qc_arena *arena, const qc_module *base, qc_module *const *recipes,
    const char *const *names, size_t count, const qc_eval_windows *windows, const qc_qk_options *options,
    qc_qk_error *results);

/* Which keys a query sees: those up to itself if causal, of the last `window` positions unless that is 0, of its own run of
 * `chunk` positions unless that is 0. */
typedef struct qc_qk_mask {
    bool causal;
    size_t window, chunk;
} qc_qk_mask;

/* The sum of squares of a row of scores (or differences of scores), less their mean over the keys that query `row` sees. */
double qc_qk_row_square(const float *scores, size_t row, size_t keys, const qc_qk_mask *mask);

#endif
