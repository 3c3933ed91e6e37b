/* SPDX-License-Identifier: MIT
 *
 * eval_stats.c - see eval_stats.h.
 */
#include "runtime/eval_stats.h"

#include <math.h>
#include <stdlib.h>

void qc_mean_add(qc_mean *mean, double value)
{
    double before = value - mean->mean;
    mean->count++;
    mean->mean += before / (double)mean->count;
    mean->squares += before * (value - mean->mean);
}

double qc_mean_error(const qc_mean *mean)
{
    if (mean->count < 2)
        return NAN;
    return sqrt(mean->squares / (double)(mean->count - 1) / (double)mean->count);
}

double qc_perplexity(const qc_mean *loss)
{
    return exp(loss->mean);
}

double qc_perplexity_error(const qc_mean *loss)
{
    return exp(loss->mean) * qc_mean_error(loss);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile_of_sorted(const double *values, size_t count, double q)
{
    double at = q * (double)(count - 1), low = floor(at);
    size_t i = (size_t)low;
    if (i + 1 >= count)
        return values[count - 1];
    return values[i] + (at - low) * (values[i + 1] - values[i]);
}

double qc_quantile(double *values, size_t count, double q)
{
    if (count == 0)
        return NAN;
    qsort(values, count, sizeof *values, compare);
    return quantile_of_sorted(values, count, q);
}

double qc_quantile_error(const double *sorted, size_t count, double q)
{
    double s = count ? sqrt(q * (1 - q) / (double)count) : INFINITY;
    if (q - s < 0 || q + s > 1)
        return NAN;
    return (quantile_of_sorted(sorted, count, q + s) - quantile_of_sorted(sorted, count, q - s)) / 2;
}
