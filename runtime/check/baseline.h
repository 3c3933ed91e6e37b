/* SPDX-License-Identifier: MIT
 *
 * baseline.h - the parts of qc_check_baseline: what is compared, and the report.
 *
 *   baseline.c  pairs of weights, and their sums
 *   errors.c    tables of them, as text and JSON
 */
#ifndef QC_RUNTIME_CHECK_BASELINE_H
#define QC_RUNTIME_CHECK_BASELINE_H

#include "runtime/check/quant.h"

/* Of w, the baseline, and v, the values of the checkpoint; elements where either is not finite are only counted. */
typedef struct check_sums {
    double error_squares, squares; /* sums of (w - v)^2 and of w^2 */
    double max_error;              /* the largest |w - v| */
    uint64_t not_finite;
    int64_t first_not_finite;           /* the element's number, -1: none */
    uint64_t saturated, zeros, outside; /* codes */
} check_sums;

typedef struct check_pair {
    const char *name, *path; /* of the weight; of its module */
    check_weight coded, base;
    qc_dtype to; /* element type of the model */
    check_sums sums;
    double relative_error; /* sqrt(error_squares / squares); infinite where only squares is 0 */
} check_pair;

typedef struct check_baseline {
    const char *directory, *base_directory;
    check_pair *pairs;
    size_t pair_count;
    check_problems problems;
} check_baseline;

/* Sorts the pairs by harm and adds the report; problems become lines of it. */
void check_errors_report(
    qc_arena *arena, check_baseline *baseline, const qc_check_baseline_options *options, qc_str *out);

#endif
