/* SPDX-License-Identifier: MIT
 *
 * columns.h - sums of the columns of a matrix, and the least range that holds a share of the elements, as observers
 * take them (docs/calibration-data.md). D is bf16, f16 or f32, as in ir/dtype/arith.h.
 *
 * Results depend on the numbers alone: sums go in the order of the rows.
 */
#ifndef QC_DTYPE_COLUMNS_H
#define QC_DTYPE_COLUMNS_H

#include "qc/dtype.h"

/* Adds the sum of each column of rows x columns elements in D, row-major, to sums[column], in f64. */
void qc_columns_sum(qc_dtype model_dtype, const void *x, size_t rows, size_t columns, double *sums);

/* The sum of a sequence as statistics keep it: rounded to f32 and to a multiple of 2^-24, so that sums below 2^29 add up
 * without rounding, in any order. */
float qc_columns_kept_sum(double sum);

/* Observers that leave a share of the values outside of their range. */
typedef enum qc_share_kind {
    QC_SHARE_PERCENTILE, /* [-a, a] with the least a that at least the share of the magnitudes does not exceed */
    QC_SHARE_WINDOW,     /* the narrowest [min, max] that holds at least the share; of equals the lowest */
} qc_share_kind;

typedef struct qc_share {
    qc_share_kind kind;
    const char *argument; /* that says the share: percentile (of 100) or recall (of 1) */
    double value;         /* of the argument */
} qc_share;

/* The share of the observer of that name, with its default; false when it takes all values. */
bool qc_share_from_observer(const char *name, size_t length, qc_share *share);

/* Exact for every type. x: rows x columns elements in D, each row `stride_elems` behind the last one, none of them NaN
 * or infinite, one at least. False: no memory. */
bool qc_share_range(const qc_share *share, qc_dtype model_dtype, const void *x, size_t rows, size_t columns,
    size_t stride_elems, float *min, float *max);
/* Memory that it takes meanwhile. */
size_t qc_share_bytes(qc_dtype model_dtype, size_t rows, size_t columns);

#endif
