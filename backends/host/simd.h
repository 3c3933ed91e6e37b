/* SPDX-License-Identifier: MIT
 *
 * simd.h - the inner loops, compiled once an instruction set, and the table through which they are called.
 *
 * simd_gemm.c and simd_rows.c are compiled several times with QC_HOST_ISA naming the set; the engine picks a
 * table by the processor's features. Every sum has its order written out (one chain a product element,
 * sixteen lanes and a fixed tree a row sum), so avx2 and avx512 give the same bits; generic lacks the fused
 * multiply-add and differs in products.
 *
 * All buffers of these functions are f32 unless a dtype is named; they need no alignment, but panels of
 * weights and packed keys start at multiples of 64 bytes.
 */
#ifndef QC_HOST_SIMD_H
#define QC_HOST_SIMD_H

#include "backends/host/host.h"

enum {
    QC_HOST_PANEL = 16,      /* columns of a panel: a 16-lane register, two 8-lane ones */
    QC_HOST_LANES = 16,      /* partial sums of a row sum */
    QC_HOST_DEPTH_STEP = 384 /* elements of K at a time: a 16-column f32 panel of that depth is 24 KiB */
};

/* C[r, p * 16 + c] (+)= sum over k, ascending, of A[r, k] * B_p[k, c]: fused multiply-adds, one chain an
 * element. Panel p starts at element p * panel_stride of b and holds [depth][16] elements of b_dtype (bf16,
 * f16, f32). add: continue the sums that are in c; else they start at 0. */
typedef struct qc_host_product {
    size_t rows, panels, depth;
    const float *a;
    size_t a_stride;
    qc_dtype b_dtype;
    const void *b;
    size_t panel_stride;
    float *c;
    size_t c_stride;
    bool add;
} qc_host_product;

/* values[r * stride + i / 16 * block + i % 16] = D(number(code i of row r) * factor), D bf16, f16 or f32. The factor of
 * column `first` + i is factors[r * factor_stride + (first + i) / group]. Rows start at a byte, at column `first`;
 * packed codes of 4 bits are two a byte, low bits first. Columns up to the next multiple of 16 may be written. A factor
 * that is NaN is the canonical one. */
typedef struct qc_host_codes {
    qc_dtype codes; /* f8e4m3, f8e5m2, i8, i4, f4e2m1 */
    bool packed;
    qc_dtype dtype; /* D */
    size_t rows, columns, first;
    const void *const *row;
    const float *factors;
    size_t factor_stride, group;
    void *values;
    size_t stride, block;
} qc_host_codes;

typedef struct qc_host_simd {
    const char *name;
    void (*product)(const qc_host_product *product);
    /* bf16, f16, f32 -> f32 and back (rounded); round: in place, to what dtype holds. */
    void (*load)(qc_dtype dtype, const void *src, float *dst, size_t count);
    void (*store)(qc_dtype dtype, const float *src, void *dst, size_t count);
    void (*round)(qc_dtype dtype, float *x, size_t count);
    float (*max)(const float *x, size_t count); /* -inf when empty; NaN where there is a positive NaN */
    float (*sum)(const float *x, size_t count);
    float (*sum_squares)(const float *x, size_t count);
    /* x[i] = exp(x[i] - shift); the sum of them */
    float (*exp_sum)(float *x, size_t count, float shift);
    void (*scale)(float *x, size_t count, float factor);
    void (*divide)(float *x, size_t count, float divisor);
    /* y[i] = a[i] op b[i]; b_step 0: one value */
    void (*binary)(
        qc_host_binary_op op, const float *a, const float *b, size_t b_step, float *y, size_t count);
    void (*unary)(qc_host_unary_op op, const float *x, float *y, size_t count);
    /* widen [lowest, highest] by the values as ordered integers (see qc_host_key) */
    void (*minmax)(qc_dtype dtype, const void *x, size_t count, int32_t *lowest, int32_t *highest);
    void (*minmax_each)(qc_dtype dtype, const void *x, size_t count, int32_t *lowest, int32_t *highest);
    void (*codes)(const qc_host_codes *codes);
    /* panel[i * 16 + l] = rows[l][i] of sixteen rows of bf16, f16 or f32; 16-byte reads stay inside them */
    void (*transpose)(qc_dtype dtype, const void *const *rows, size_t columns, void *panel);
    /* y = D(H x * factor) of rows of `size` elements, a power of two, H Sylvester's; buffer: `size` numbers.
     * past: rather past the caches */
    void (*fwht)(qc_dtype dtype, const void *x, void *y, size_t rows, size_t size, float factor,
        float *buffer, bool past);
} qc_host_simd;

extern const qc_host_simd qc_host_simd_generic;
extern const qc_host_simd qc_host_simd_avx2;
extern const qc_host_simd qc_host_simd_avx512;

/* simd_gemm.c's part of the tables. */
void qc_host_product_generic(const qc_host_product *product);
void qc_host_product_avx2(const qc_host_product *product);
void qc_host_product_avx512(const qc_host_product *product);
/* simd_codes.c's. */
void qc_host_codes_generic(const qc_host_codes *codes);
void qc_host_codes_avx2(const qc_host_codes *codes);
void qc_host_codes_avx512(const qc_host_codes *codes);
void qc_host_transpose_generic(qc_dtype dtype, const void *const *rows, size_t columns, void *panel);
void qc_host_transpose_avx2(qc_dtype dtype, const void *const *rows, size_t columns, void *panel);
void qc_host_transpose_avx512(qc_dtype dtype, const void *const *rows, size_t columns, void *panel);

/* simd_hadamard.c's. */
void qc_host_fwht_generic(
    qc_dtype dtype, const void *x, void *y, size_t rows, size_t size, float factor, float *buffer, bool past);
void qc_host_fwht_avx2(
    qc_dtype dtype, const void *x, void *y, size_t rows, size_t size, float factor, float *buffer, bool past);
void qc_host_fwht_avx512(
    qc_dtype dtype, const void *x, void *y, size_t rows, size_t size, float factor, float *buffer, bool past);

static inline size_t qc_host_dtype_bytes(qc_dtype dtype)
{
    return dtype == QC_F32 ? 4 : 2;
}

static inline bool qc_host_is_value_dtype(qc_dtype dtype)
{
    return dtype == QC_F32 || dtype == QC_F16 || dtype == QC_BF16;
}

#endif
