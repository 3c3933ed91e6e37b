/* SPDX-License-Identifier: MIT
 *
 * kernels.h - vectorised loops over pieces of rows. Internal to ir/dtype/.
 *
 * They give what the plain steps of steps.h give, under conditions that the caller has checked; without those
 * checks the loops are shorter by a third.
 */
#ifndef QC_DTYPE_KERNELS_H
#define QC_DTYPE_KERNELS_H

#include "ir/dtype/steps.h"

/* Elements of a group, and of a piece, come in multiples of this. */
enum { KERNEL_STEP = 16 };

/* Is any element NaN? `x` in D. */
bool qc_kernel_has_nan(step_type model, const void *x, size_t count);

/* x / scale + shift of `count` elements without NaN, `group` of them under each of `factors`; both multiples of
 * KERNEL_STEP. `factors` are scales, or their reciprocals where qc_kernel_by_reciprocal says so; `shifts` as
 * step_shift gives them, `shifted` when some of them is not a zero. Scales are normal numbers, their reciprocals
 * too. False: there is no loop for these types. */
bool qc_kernel_quotients(step_type model, step_type step, qc_dtype storage, bool shifted, const void *x,
    size_t count, size_t group, const float *factors, const float *shifts, float *quotients);
/* Codes of quotients without NaN, on any grid but f8e5m2. */
void qc_kernel_encode(qc_grid grid, const float *quotients, size_t count, uint8_t *codes);
/* Factors of scales under a global one (0: none). False: some scale is not normal, or its reciprocal is not. */
bool qc_kernel_factors(const float *scales, size_t count, float global, bool multiply, float *factors);
/* Does the loop multiply? It may where D and the steps are bf16; see kernels.c. */
bool qc_kernel_by_reciprocal(step_type model, step_type step);

/* Codes in f8e4m3 of bf16 numbers without NaN under one scale between 2^-100 and 1; `shift` is one of the zeros;
 * count is a multiple of KERNEL_STEP. What the loops above give, in half the time for long rows. */
void qc_kernel_e4m3_codes(const uint16_t *x, size_t count, float scale, float shift, uint8_t *codes);

/* values[i] = (values[i] - zero_point) * scale of its group, each step rounded. */
void qc_kernel_products(
    step_type step, float *values, size_t count, size_t group, const float *scales, const float *zero_points);

/* Ranges of groups of 16 to 128 elements, a power of two; count is a multiple of group and at most
 * KERNEL_RANGE_ELEMS. Keys order as the numbers do, NaN of either sign at the ends. */
enum { KERNEL_RANGE_ELEMS = 2048 };
void qc_kernel_ranges(step_type model, const void *x, size_t count, size_t group, float *mins, float *maxs);

/* The larger end of the ranges of the same groups mirrored at 0. */
void qc_kernel_magnitudes(step_type model, const void *x, size_t count, size_t group, float *maxs);

/* qc_quantizer_scale of many ranges. False: not one of the kinds that have a loop. */
bool qc_kernel_scales(const qc_quantizer *q, const float *mins, const float *maxs, size_t count, float global,
    float *scales, float *zero_points);

/* The local scales that a search of that kind chooses for KERNEL_SEARCH_GROUPS groups of 16 elements, one after another,
 * where steps towards a scale are rounded to D; `least` for groups of zeros. False: an element is not finite, and
 * `scales` mean nothing. */
enum { KERNEL_SEARCH_GROUPS = 16 };
bool qc_kernel_search(
    qc_search kind, step_type model, const void *x, float global, float least, float *scales);
/* The scales of all groups where q searches. */
void qc_kernel_search_rows(const qc_quantizer *q, const void *x, int64_t rows, int64_t columns, int64_t group,
    float global, float *scales);

#endif
