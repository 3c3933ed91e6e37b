/* SPDX-License-Identifier: MIT
 *
 * quantizer.h - scales, codes and values of one way to quantize: a dialect, the model's type, a grid, and what
 * the scales are. Everything that quantizes (interpreter, kernels, exporters) goes through it.
 *
 * Terms. D is the model's element type: bf16, f16 or f32. A scale is a number of `scale_type`, or of D where
 * that is QC_DTYPE_NONE; scales, global scales and zero points travel as f32, which holds each exactly. With a
 * global scale G (NVFP4) the scale that elements are divided by is scale / G, in f32, and quotients and values
 * are not rounded to D on the way. Codes are one byte each: i8 for integers of any width, the nibble 0..15 for
 * f4e2m1, the code for 8-bit floats; denser forms are in ir/dtype/pack.h.
 *
 * All functions are pure, cannot fail on any input value, and carry NaN and infinities of a range into the
 * scale, so that whoever sees it can name the tensor. The forms over rows give, element for element, what the
 * forms over one range give; they run on one thread.
 */
#ifndef QC_DTYPE_QUANTIZER_H
#define QC_DTYPE_QUANTIZER_H

#include "ir/dtype/arith.h"

/* How the local scales under a global scale are chosen. */
typedef enum qc_search {
    QC_SEARCH_NONE,     /* amax / largest code */
    QC_SEARCH_MSE,      /* the neighbour of that on the grid of scales with the least squared error */
    QC_SEARCH_FOUR_SIX, /* amax / 6 or amax / 4, whichever has less squared error */
} qc_search;

typedef struct qc_quantizer {
    const qc_arith *arith;
    qc_dtype model_dtype; /* D */
    qc_grid grid;
    bool symmetric;
    bool global;         /* scales are relative to a global one; the argument `global` below is then not 0 */
    qc_dtype scale_type; /* QC_DTYPE_NONE: D. QC_F8E8M0 makes powers of two as the MX formats do; the grid is
                            then f8e4m3 or f4e2m1, and symmetric */
    qc_search search;    /* of local scales */
    float scale_max;     /* largest local scale that a global scale leaves; 0: 448 */
} qc_quantizer;

/* ---- one range ---- */

/* Global scale of a tensor whose largest magnitude is `amax` (a number in D): scale_max * 6 / amax, made of a
 * reciprocal and a product in D, as compressed-tensors makes it; 1 where that is no finite number. A scale_max of 448 leaves
 * no number above the scale of the largest group; 256 leaves those that a search may want. */
float qc_quantizer_global(const qc_quantizer *q, float amax);

/* Scale and zero point of the range [min, max], two numbers in D; the range is first widened to hold 0.
 * `global` is 0 where there is none. A scale of 0 becomes the smallest one of its type that the dialect knows,
 * but only after the zero point has been computed: for an empty asymmetric range that is 0/0, which integers
 * record as 0. The zero point is a number of the grid, 0 when symmetric. */
void qc_quantizer_scale(
    const qc_quantizer *q, float min, float max, float global, float *scale, float *zero_point);

/* The same for the `count` elements x themselves, where q->search may choose the scale. With search, a global scale,
 * f4e2m1 codes and scales in f8e4m3 candidates are tried, and the first one with the least error stays:
 *
 *   QC_SEARCH_MSE       the numbers of the scale's grid from 5 above to 5 below the one nearest to amax / 6
 *   QC_SEARCH_FOUR_SIX  the one nearest to amax / 4, then the one nearest to amax / 6
 *
 * so that of equals the larger scale wins. Numbers stay between the smallest one above 0 and 448. The error of scale s is
 * s^2 times the sum, element by element, of the squared distances from t to the nearest code, t = |x| * (global / s), all
 * in f32. Groups of zeros, NaN and infinities get what they get without a search. */
void qc_quantizer_group_scale(
    const qc_quantizer *q, const void *x, size_t count, float global, float *scale, float *zero_point);

/* Does q search under this global scale? Then scales come from elements, and ranges alone give them no search. */
bool qc_quantizer_searches(const qc_quantizer *q, float global);

/* codes[i] = x[i] / scale (+ zero_point), clamped to the grid, rounded to its nearest number, ties to even.
 * `x`: `count` elements in D; `codes`: `count` bytes, not overlapping x. */
void qc_quantizer_quantize(const qc_quantizer *q, const void *x, size_t count, float scale, float global,
    float zero_point, uint8_t *codes);

/* x[i] = (codes[i] - zero_point) * scale, difference and product rounded to D (to f32 under a global scale),
 * then to `to`: bf16, f16 or f32. */
void qc_quantizer_dequantize(const qc_quantizer *q, qc_dtype to, const uint8_t *codes, size_t count,
    float scale, float global, float zero_point, void *x);

/* ---- rows ----
 * `rows` x `columns` elements in D, row-major; each `group` columns of a row share a scale, the last group may
 * be short; group >= columns: one scale a row. ceil(columns / group) of them a row, row-major. `zero_points`
 * has the shape of the scales and may be NULL: then none is wanted, or every one is 0 (which a dialect may
 * still add). */

/* Smallest and largest of every group; both NaN when any element is. */
void qc_quantizer_rows_ranges(const qc_quantizer *q, const void *x, int64_t rows, int64_t columns,
    int64_t group, float *mins, float *maxs);
/* qc_quantizer_scale of `count` ranges. */
void qc_quantizer_scales(const qc_quantizer *q, const float *mins, const float *maxs, int64_t count,
    float global, float *scales, float *zero_points);
/* qc_quantizer_group_scale of every group. */
void qc_quantizer_rows_scales(const qc_quantizer *q, const void *x, int64_t rows, int64_t columns,
    int64_t group, float global, float *scales, float *zero_points);
void qc_quantizer_rows_codes(const qc_quantizer *q, const void *x, int64_t rows, int64_t columns,
    int64_t group, const float *scales, float global, const float *zero_points, uint8_t *codes);
void qc_quantizer_rows_dequantize(const qc_quantizer *q, qc_dtype to, const uint8_t *codes, int64_t rows,
    int64_t columns, int64_t group, const float *scales, float global, const float *zero_points, void *x);

/* ---- blocks ----
 * One scale for each block of block_rows x block_columns elements, from its range, cut off at the lower and right edge:
 * ceil(rows / block_rows) x ceil(columns / block_columns) of them, row-major. A caller that streams passes
 * rows from a multiple of block_rows on. */
void qc_quantizer_blocks_ranges(const qc_quantizer *q, const void *x, int64_t rows, int64_t columns,
    int64_t block_rows, int64_t block_columns, float *mins, float *maxs);
void qc_quantizer_blocks_scales(const qc_quantizer *q, const void *x, int64_t rows, int64_t columns,
    int64_t block_rows, int64_t block_columns, float global, float *scales, float *zero_points);
void qc_quantizer_blocks_codes(const qc_quantizer *q, const void *x, int64_t rows, int64_t columns,
    int64_t block_rows, int64_t block_columns, const float *scales, float global, const float *zero_points,
    uint8_t *codes);
void qc_quantizer_blocks_dequantize(const qc_quantizer *q, qc_dtype to, const uint8_t *codes, int64_t rows,
    int64_t columns, int64_t block_rows, int64_t block_columns, const float *scales, float global,
    const float *zero_points, void *x);

#endif
