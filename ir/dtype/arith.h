/* SPDX-License-Identifier: MIT
 *
 * arith.h - the arithmetic of quantization: dialects and grids, ranges and their folds. Scales and codes, which
 * are made of these, are in ir/dtype/quantizer.h.
 *
 * Which steps are rounded, by what an absolute maximum is divided and what replaces a zero scale decide the
 * codes, and producers of checkpoints disagree about them. Each dialect is therefore one row of a table; a
 * scheme names its row, and nothing else in the compiler knows the differences.
 *
 * Throughout, D is the element type of the model: bf16, f16 or f32. "Rounded to D" is to nearest, ties to
 * even. Numbers in D travel as f32, which holds each of them exactly; arrays in D are in their own storage.
 * All functions are pure, cannot fail on any input value, and carry NaN through (into integer codes as 0,
 * into float codes as the NaN with a clear sign bit), so that whoever sees the result can name the tensor.
 */
#ifndef QC_DTYPE_ARITH_H
#define QC_DTYPE_ARITH_H

#include "qc/dtype.h"

/* The numbers that a code can stand for. Float codes are one byte each, f4e2m1 in its low nibble. Integer codes of 2 to 8 bits are
 * signed, one to a byte (i8); packing them more densely is a matter of the file format. */
typedef struct qc_grid {
    qc_dtype
        storage; /* QC_F8E4M3, QC_F8E5M2, QC_F4E2M1, or QC_I8 for integers of any width; QC_DTYPE_NONE: no
                         such grid */
    int bits;
    float min, max;
} qc_grid;

/* `dtype` QC_F8E4M3, QC_F8E5M2, QC_F4E2M1, or QC_I2 to QC_I8. Any other gives a grid whose storage is QC_DTYPE_NONE. */
qc_grid qc_grid_of(qc_dtype dtype);
/* Integers of 2 to 8 bits, [-2^(bits-1), 2^(bits-1) - 1]; other widths give storage QC_DTYPE_NONE. */
qc_grid qc_grid_int(int bits);

/* What to divide the absolute maximum by in a symmetric integer scale of b bits. */
typedef enum qc_int_divisor {
    QC_INT_DIVISOR_HALF_SPAN, /* (2^b - 1) / 2: 127.5 for 8 bits */
    QC_INT_DIVISOR_MAX,       /* 2^(b-1) - 1: 127 for 8 bits */
} qc_int_divisor;

/* One dialect. */
typedef struct qc_arith {
    const char *name;
    const char *summary;
    bool round_scale;    /* every step towards scale and zero point is rounded to D; else f32 */
    bool round_quotient; /* x / scale, and that plus the zero point, are rounded to D before the code is; else
                            f32 */
    bool add_zero_point; /* a zero point of 0 is added like any other, which makes +0.0 of -0.0 */
    qc_int_divisor int_divisor;
    /* replaces a scale of 0, by the type of the scale */
    float zero_scale_bf16, zero_scale_f16, zero_scale_f32, zero_scale_f8e4m3, zero_scale_f8e8m0;
} qc_arith;

/* The dialect of that name, or NULL. */
const qc_arith *qc_arith_find(const char *name, size_t length);
/* Rows of the table in order; NULL behind the last. */
const qc_arith *qc_arith_at(size_t index);

/* Smallest and largest of `count` > 0 elements in D; both NaN when any is. Zeros come back with either sign.
 */
void qc_arith_minmax(qc_dtype model_dtype, const void *x, size_t count, float *min, float *max);

/* How ranges observed one after another become one. */
typedef enum qc_fold {
    QC_FOLD_LAST,           /* "memoryless_minmax": the last one */
    QC_FOLD_RUNNING,        /* "static_minmax": the smallest min, the largest max */
    QC_FOLD_MOVING_AVERAGE, /* "minmax": m = D(D(m * (1 - c)) + D(x * c)), starting with the first */
    QC_FOLD_MEAN,           /* the arithmetic mean, in f64, rounded to f32 and D once at the end */
} qc_fold;

/* By observer name; false when it is none of the first three. Of those that search or cut: qc_mse_fold. */
bool qc_fold_from_observer(const char *name, size_t length, qc_fold *fold);

/* Folds `count` > 0 ranges in D, in order: mins[i * stride_elems], maxs[i * stride_elems]. One scale for
 * several heads needs their ranges joined first, sequence by sequence. `averaging_constant` is c above (0.01
 * unless a recipe says otherwise), used in f32; at exactly 1 the moving average is the last range. */
void qc_arith_fold_minmax(qc_fold fold, qc_dtype model_dtype, const float *mins, const float *maxs,
    size_t count, size_t stride_elems, double averaging_constant, float *min, float *max);

#endif
