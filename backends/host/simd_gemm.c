/* SPDX-License-Identifier: MIT
 *
 * simd_gemm.c - products of row-major f32 tiles with panels of 16 columns.
 *
 * Register blocking as in the BLIS papers (Van Zee, van de Geijn, 2015): a block of rows times one or more
 * panels stays in registers while k runs; panels are re-read from the first-level cache for each block of
 * rows. Values of bf16 and f16 panels are widened as they are loaded, which costs no arithmetic slots, so
 * weights are kept in their own type. An element of C is one chain of fused multiply-adds in ascending k,
 * whatever the blocking: the bits do not depend on how many rows or columns are computed together.
 */
#include "backends/host/simd.h"
#include "ir/dtype/codec.h"

#define INLINE static inline __attribute__((always_inline))
#define JOIN2(a, b) a##b
#define JOIN(a, b) JOIN2(a, b)
#define UNROLL _Pragma("GCC unroll 16")

#if defined(__AVX512F__)

#include <immintrin.h>
typedef __m512 vec;
enum { VECS = 1, LANES = 16, MAX_ROWS = 8, WIDE = 3 };
#define vec_zero _mm512_setzero_ps
#define vec_loadu _mm512_loadu_ps
#define vec_storeu _mm512_storeu_ps
#define vec_fma _mm512_fmadd_ps
INLINE vec vec_splat(const float *x)
{
    return _mm512_set1_ps(*x);
}
INLINE vec vec_widen_bf16(const uint16_t *x)
{
    __m256i half = _mm256_loadu_si256((const __m256i *)(const void *)x);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}
INLINE vec vec_widen_f16(const uint16_t *x)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)x));
}

#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)

#include <immintrin.h>
typedef __m256 vec;
enum { VECS = 2, LANES = 8, MAX_ROWS = 6, WIDE = 1 };
#define vec_zero _mm256_setzero_ps
#define vec_loadu _mm256_loadu_ps
#define vec_storeu _mm256_storeu_ps
#define vec_fma _mm256_fmadd_ps
#define vec_splat _mm256_broadcast_ss
INLINE vec vec_widen_bf16(const uint16_t *x)
{
    __m128i half = _mm_loadu_si128((const __m128i *)(const void *)x);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
}
INLINE vec vec_widen_f16(const uint16_t *x)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)x));
}

#else

typedef float vec __attribute__((vector_size(16)));
enum { VECS = 4, LANES = 4, MAX_ROWS = 2, WIDE = 1 };
INLINE vec vec_zero(void)
{
    return (vec){0};
}
INLINE vec vec_loadu(const float *x)
{
    vec v;
    memcpy(&v, x, sizeof v);
    return v;
}
INLINE void vec_storeu(float *x, vec v)
{
    memcpy(x, &v, sizeof v);
}
INLINE vec vec_fma(vec a, vec b, vec c)
{
    return a * b + c;
}
INLINE vec vec_splat(const float *x)
{
    return (vec){*x, *x, *x, *x};
}
INLINE vec vec_widen_bf16(const uint16_t *x)
{
    return (vec){qc_bf16_to_f32(x[0]), qc_bf16_to_f32(x[1]), qc_bf16_to_f32(x[2]), qc_bf16_to_f32(x[3])};
}
INLINE vec vec_widen_f16(const uint16_t *x)
{
    return (vec){qc_f16_to_f32(x[0]), qc_f16_to_f32(x[1]), qc_f16_to_f32(x[2]), qc_f16_to_f32(x[3])};
}

#endif

INLINE vec load_b(qc_dtype dtype, const void *b, size_t index)
{
    switch (dtype) {
    case QC_BF16:
        return vec_widen_bf16((const uint16_t *)b + index);
    case QC_F16:
        return vec_widen_f16((const uint16_t *)b + index);
    default:
        return vec_loadu((const float *)b + index);
    }
}

/* One register block. rows, panels and dtype are constants where this is expanded; `b` is the first panel. */
INLINE void block(
    int rows, int panels, qc_dtype dtype, const qc_host_product *p, const float *a, const void *b, float *c)
{
    vec sum[8][8];
    size_t a_stride = p->a_stride, depth = p->depth, panel_stride = p->panel_stride;

    UNROLL
    for (int r = 0; r < rows; r++) {
        UNROLL
        for (int v = 0; v < panels * VECS; v++)
            sum[r][v] = p->add ? vec_loadu(c + (size_t)r * p->c_stride + v * LANES) : vec_zero();
    }
    for (size_t k = 0; k < depth; k++) {
        vec column[8];
        UNROLL
        for (int v = 0; v < panels * VECS; v++)
            column[v] = load_b(
                dtype, b, (size_t)(v / VECS) * panel_stride + k * QC_HOST_PANEL + (size_t)(v % VECS) * LANES);
        UNROLL
        for (int r = 0; r < rows; r++) {
            vec x = vec_splat(a + (size_t)r * a_stride + k);
            UNROLL
            for (int v = 0; v < panels * VECS; v++)
                sum[r][v] = vec_fma(x, column[v], sum[r][v]);
        }
    }
    UNROLL
    for (int r = 0; r < rows; r++) {
        UNROLL
        for (int v = 0; v < panels * VECS; v++)
            vec_storeu(c + (size_t)r * p->c_stride + v * LANES, sum[r][v]);
    }
}

/* All rows of one group of panels. Few rows leave registers for more panels: chains enough to hide latency.
 */
INLINE void panel_group(int panels, qc_dtype dtype, const qc_host_product *p, const void *b, float *c)
{
    const float *a = p->a;
    size_t rows = p->rows;

    for (; rows >= MAX_ROWS; rows -= MAX_ROWS, a += MAX_ROWS * p->a_stride, c += MAX_ROWS * p->c_stride)
        block(MAX_ROWS, panels, dtype, p, a, b, c);
    switch (rows) {
#if defined(__AVX512F__)
    case 7:
        block(7, panels, dtype, p, a, b, c);
        break;
    case 6:
        block(6, panels, dtype, p, a, b, c);
        break;
#endif
#if defined(__AVX2__)
    case 5:
        block(5, panels, dtype, p, a, b, c);
        break;
    case 4:
        block(4, panels, dtype, p, a, b, c);
        break;
    case 3:
        block(3, panels, dtype, p, a, b, c);
        break;
    case 2:
        block(2, panels, dtype, p, a, b, c);
        break;
#endif
    case 1:
        block(1, panels, dtype, p, a, b, c);
        break;
    default:
        break;
    }
}

INLINE void product_of(qc_dtype dtype, const qc_host_product *p)
{
    const char *b = p->b;
    size_t step_bytes = p->panel_stride * qc_host_dtype_bytes(dtype), left = p->panels;
    float *c = p->c;
    enum { NARROW = 8 / VECS };

    if (p->rows == 1)
        for (; left >= NARROW; left -= NARROW, b += NARROW * step_bytes, c += NARROW * QC_HOST_PANEL)
            block(1, NARROW, dtype, p, p->a, b, c);
    else if (p->rows == 2)
        for (; left >= NARROW / 2;
             left -= NARROW / 2, b += NARROW / 2 * step_bytes, c += NARROW / 2 * QC_HOST_PANEL)
            block(2, NARROW / 2, dtype, p, p->a, b, c);
    else if (WIDE > 1)
        for (; left >= WIDE; left -= WIDE, b += WIDE * step_bytes, c += WIDE * QC_HOST_PANEL)
            panel_group(WIDE, dtype, p, b, c);
    for (; left > 0; left--, b += step_bytes, c += QC_HOST_PANEL)
        panel_group(1, dtype, p, b, c);
}

void JOIN(qc_host_product_, QC_HOST_ISA)(const qc_host_product *p)
{
    switch (p->b_dtype) {
    case QC_BF16:
        product_of(QC_BF16, p);
        break;
    case QC_F16:
        product_of(QC_F16, p);
        break;
    default:
        product_of(QC_F32, p);
        break;
    }
}
