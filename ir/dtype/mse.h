/* SPDX-License-Identifier: MIT
 *
 * mse.h - the search for the range whose quantization error is least: the MSE observers of llm-compressor
 * (mse, memoryless_mse, nvfp4_expanded_mse, imatrix_mse, nvfp4_expanded_imatrix), and mse_mean, which is ours: plain
 * squares, errors and their sums in f32, ranges down to a tenth, and the mean over the sequences.
 *
 * The search is llm-compressor's on a CPU in every dialect; its kernels for GPUs end the search of each range by
 * itself and add up in another order.
 *
 * Step i of a search tries, for every range of a tensor at once, [min, max] * expand * (1 - i / grid); a range
 * keeps the one whose sum of |value - x|^norm is strictly least. The search of a whole tensor ends early, after
 * `patience` consecutive steps in which no range of it improved. Ranges are otherwise independent, so a tensor
 * can be searched in pieces:
 *
 *   uint64_t improved[QC_MSE_WORDS] = {0};
 *   for each piece: qc_mse_search(..., qc_mse_steps(&mse), ..., improved);
 *   int stop = qc_mse_stop_step(&mse, improved);
 *   if (qc_mse_improved_after(improved, stop))
 *       for each piece: qc_mse_search(..., stop, ..., scratch);   // some range improved too late: once more
 */
#ifndef QC_DTYPE_MSE_H
#define QC_DTYPE_MSE_H

#include "ir/dtype/quantizer.h"

enum { QC_MSE_MAX_STEPS = 4096, QC_MSE_WORDS = QC_MSE_MAX_STEPS / 64 };

typedef struct qc_mse {
    double maxshrink, grid, norm, expand;
    int patience;
    bool memoryless; /* the last range counts; else ranges of sequences go into a moving average */
    bool mean;       /* or into their arithmetic mean */
    bool imatrix;    /* errors in f32, weighted by the importance of their column where there is one */
} qc_mse;

/* Defaults of the observer of that name; false when it is none that searches. */
bool qc_mse_from_observer(const char *name, size_t length, qc_mse *mse);

/* How ranges of that observer fold into one, sequence by sequence; false where it takes none. Ranges that leave a share of
 * the values outside (ir/dtype/columns.h) fold as those of all values do. */
bool qc_mse_fold(const char *observer, size_t length, qc_fold *fold);

/* NULL, or what is wrong with the parameters: a static sentence to put into a diagnostic. */
const char *qc_mse_fault(const qc_mse *mse);

/* How many steps a search has at most; 0 to QC_MSE_MAX_STEPS for parameters without fault. */
int qc_mse_steps(const qc_mse *mse);

/* Weights of the columns from the mean squares of their inputs: over their mean, in f32. False where these
 * give none (not finite, negative, all zero) and the search goes unweighted. In place is fine. */
bool qc_mse_importance(const float *mean_squares, int64_t columns, float *importance);

/* Ranges of rows x columns elements in D, one for each `group` columns as in ir/dtype/quantizer.h, after steps
 * 0 to stop_step - 1. Where global scales are used they do not matter here: they come after it, from the
 * chosen ranges. `importance`: `columns` weights, or NULL. Bit i of `improved` (QC_MSE_WORDS words) is set
 * when step i improved some range; others are left. False: no memory. */
bool qc_mse_search(const qc_quantizer *q, const qc_mse *mse, const void *x, int64_t rows, int64_t columns,
    int64_t group, const float *importance, int stop_step, float *best_min, float *best_max,
    uint64_t *improved);

/* The number of steps after which the search of the whole tensor ends. */
int qc_mse_stop_step(const qc_mse *mse, const uint64_t *improved);
bool qc_mse_improved_after(const uint64_t *improved, int stop_step);

#endif
