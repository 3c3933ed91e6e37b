/* SPDX-License-Identifier: MIT
 *
 * eval_stats.h - means with their errors, and quantiles. All sums are f64, in the order of the calls.
 */
#ifndef QC_RUNTIME_EVAL_STATS_H
#define QC_RUNTIME_EVAL_STATS_H

#include <stddef.h>
#include <stdint.h>

/* Running mean and sum of squared deviations (Welford, "Note on a method for calculating corrected sums of
 * squares and products", 1962). Starts as {0}. */
typedef struct qc_mean {
    uint64_t count;
    double mean, squares;
} qc_mean;

void qc_mean_add(qc_mean *mean, double value);
/* Standard error of the mean, values taken as independent; NaN for fewer than two. */
double qc_mean_error(const qc_mean *mean);
/* The perplexity of a mean of losses in nats, and its standard error by the delta method. */
double qc_perplexity(const qc_mean *loss);
double qc_perplexity_error(const qc_mean *loss);

/* The value below which the fraction q lies, linear between neighbours (position q (count - 1) of the sorted
 * values, the usual default: Hyndman and Fan's type 7). Sorts `values`, which hold no NaN; NaN for none. */
double qc_quantile(double *values, size_t count, double q);
/* Its standard error, of values that qc_quantile sorted and that are taken as independent: the share of values below
 * the quantile has the standard error s = sqrt(q (1 - q) / count), and half of the distance between the quantiles at
 * q - s and q + s is the quantile's (Woodruff, "Confidence intervals for medians and other position measures", 1952).
 * NaN where q + s or q - s is no share. */
double qc_quantile_error(const double *sorted, size_t count, double q);

#endif
