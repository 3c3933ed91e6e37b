/* SPDX-License-Identifier: MIT
 *
 * compare.h - several recipes for one model, measured beside each other: calibrated together, run on the same windows.
 *
 * Calibration. The observers of all recipes are united over the model's own graph (unite.h). A recipe whose observed
 * values are not in it is calibrated apart, in the first graph of those before that has them, else its own.
 *
 * Evaluation goes by groups of windows: the baseline's logits of a group are kept, every recipe runs the group against
 * them. Weights that a recipe reads as they lie in the files are the baseline's; others are kept from group to group up
 * to QC_COMPARE_WEIGHT_BYTES together, beyond that made anew for each group.
 */
#ifndef QC_RUNTIME_COMPARE_COMPARE_H
#define QC_RUNTIME_COMPARE_COMPARE_H

#include "runtime/compare/qk_error.h"
#include "runtime/compare/recipes.h"

#define QC_COMPARE_WEIGHT_BYTES ((size_t)4 << 30)

typedef struct qc_compare_options {
    const char *model; /* a directory or NAME.qc */
    qc_model_options run;
    const char *recipes; /* as recipes.h reads them */
    const char *data;
    int64_t context; /* as in qc_eval_read */
    const char
        *calib; /* FILE, "random", "none" (scales of 1.0), or NULL: recipes that need data are an error */
    const char *stats;                  /* kept statistics in place of calib, or NULL */
    size_t calib_samples, calib_tokens; /* 0: all; not cut */
    uint64_t seed;                      /* of random tokens */
    const char *against; /* the label of a row that the others' divergences are compared with, or NULL */
    qc_progress_fn progress;
    void (*say)(void *user, const char *text); /* a line on what is being done; may be NULL */
    void *user;                                /* of both */
} qc_compare_options;

/* How a recipe got its statistics. */
typedef enum qc_compare_source {
    QC_COMPARE_NO_DATA,  /* nothing is static, or scales are 1.0 */
    QC_COMPARE_TOGETHER, /* on the model's graph */
    QC_COMPARE_APART,    /* on a graph of its own, or of another recipe */
    QC_COMPARE_KEPT,     /* read from a file */
} qc_compare_source;

typedef struct qc_compare_row {
    const char *label, *text, *pipeline; /* "" for the baseline; pipeline: canonical */
    qc_compare_source statistics;
    qc_eval_result eval;
    qc_qk_error qk;
    double cache_bytes;  /* of KV cache a token, scales included */
    size_t weight_bytes; /* in memory here, those of the baseline aside */
    qc_mean against;     /* divergence less that of the row `against`, token by token */
    bool has_against;
} qc_compare_row;

typedef struct qc_compare_result {
    qc_compare_row *rows;  /* the baseline first */
    size_t count, against; /* against: index of that row */
    qc_eval_windows windows;
    size_t calib_sequences; /* 0: no data were read */
    uint64_t calib_tokens;
    size_t calibrations; /* graphs that were calibrated */
    size_t qk_sequences;
} qc_compare_result;

/* What is in *result lies in `arena`. */
qc_status qc_compare_run(
    qc_ctx *ctx, qc_arena *arena, const qc_compare_options *options, qc_compare_result *result);

/* The report. `command` is the command line that made it. */
typedef struct qc_compare_about {
    const char *command, *version;
    const qc_compare_options *options;
} qc_compare_about;

void qc_compare_print_text(const qc_compare_result *result, const qc_compare_about *about, qc_str *out);
void qc_compare_print_markdown(const qc_compare_result *result, const qc_compare_about *about, qc_str *out);
/* One JSON object on one line. */
void qc_compare_print_json(
    const qc_compare_result *result, const qc_compare_about *about, qc_arena *arena, qc_str *out);
/* A page that stands alone, with plots. */
void qc_compare_print_html(
    const qc_compare_result *result, const qc_compare_about *about, qc_arena *arena, qc_str *out);

#endif
