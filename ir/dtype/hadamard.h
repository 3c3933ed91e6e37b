/* SPDX-License-Identifier: MIT
 *
 * hadamard.h - orthonormal matrices M = H / sqrt(n) with entries +-1 in H: plans, products with vectors, entries.
 *
 * Sizes n = K * 2^m, K one of 1, 2 and the multiples of 4 up to 256; the largest such K is taken. Two kinds:
 *   deterministic: n a power of two: Sylvester's matrix, entry (i, j) = (-1)^(number of ones in i & j). Other n:
 *                  as below without signs.
 *   random:        what compressed-tensors calls "random-hadamard": a diagonal of signs, then butterflies a + b,
 *                  a - b over distances 1, 2, 4 ... n / (2 K), then a known K x K matrix A over the n / K-strided
 *                  elements. The signs are the lowest bits of n draws of MT19937 seeded as a new generator of
 *                  PyTorch is: the first n, so that the matrix of a size is always the same one. Only where one
 *                  transform of compressed-tensors has matrices of several sizes do they share a generator, and the
 *                  signs of a size come behind those of the sizes that the model's modules asked for before.
 * For a row vector v, as steps:
 *   v M    v[i] *= signs[i]; for h = 1, 2, 4 ... n / (2 K): (v[i], v[i + h]) = (v[i] + v[i + h], v[i] - v[i + h]) where
 *          i & h is 0; w[k * s + c] = sum over j of A[k][j] * v[j * s + c] with s = n / K; w / sqrt(n).
 *   v M^T  (inverse) the sum with A[j][k], the same butterflies, the signs, / sqrt(n).
 * f64 divides by sqrt(n) in f64, as compressed-tensors does: sums of bf16 numbers of like size are exact in f64, so
 * the order of summation cannot be seen in rounded weights; sums of zeros are +0. f32 multiplies by the f32 nearest to 1 / sqrt(n).
 *
 * A plan is read-only and may be used by many threads at once.
 */
#ifndef QC_DTYPE_HADAMARD_H
#define QC_DTYPE_HADAMARD_H

#include <stdbool.h>
#include <stdint.h>

#include "ir/support/diag.h"

enum { QC_HADAMARD_MAX_KNOWN = 256 };
/* Sizes of more elements are refused. */
#define QC_HADAMARD_MAX_SIZE ((int64_t)1 << 22)
#define QC_HADAMARD_MAX_DRAWN ((int64_t)1 << 26)

typedef struct qc_hadamard {
    int64_t size;         /* n = known << stages */
    int64_t known;        /* K; 1: butterflies alone */
    int stages;           /* butterflies: log2(n / K) */
    const int8_t *signs;  /* [n] of +-1; NULL: none */
    const int8_t *matrix; /* [K, K] of +-1, A above; NULL when K is 1 */
} qc_hadamard;

/* Is there a matrix of n x n (of either kind)? */
bool qc_hadamard_size_known(int64_t n);
/* Is n a power of two, so that there is Sylvester's matrix? The deterministic ones of other sizes are ours alone. */
bool qc_hadamard_is_sylvester(int64_t n);
/* Makes the plan; what it points to is in the arena or constant. Errors name `where`. */
qc_status qc_hadamard_make(
    qc_diag *diag, qc_arena *arena, const char *where, int64_t size, bool random, qc_hadamard *h);
/* The same with signs behind `drawn` others, from 0 to QC_HADAMARD_MAX_DRAWN. */
qc_status qc_hadamard_make_drawn(qc_diag *diag, qc_arena *arena, const char *where, int64_t size, bool random,
    int64_t drawn, qc_hadamard *h);

/* v becomes v M (inverse: v M^T); v holds h->size elements. */
void qc_hadamard_apply_f32(const qc_hadamard *h, bool inverse, float *v);
void qc_hadamard_apply_f64(const qc_hadamard *h, bool inverse, double *v);
/* The same of `lanes` vectors side by side: element i of vector l is v[i * lanes + l]. Every vector gets the bits that
 * the functions above give it. */
void qc_hadamard_apply_lanes_f32(const qc_hadamard *h, bool inverse, float *v, int64_t lanes);
void qc_hadamard_apply_lanes_f64(const qc_hadamard *h, bool inverse, double *v, int64_t lanes);

/* The entries of H, +-1, row-major [n, n]. */
void qc_hadamard_matrix(const qc_hadamard *h, double *out);
/* Rows first to first + count of it, [count, n]. */
void qc_hadamard_rows(const qc_hadamard *h, int64_t first, int64_t count, double *out);

#endif
