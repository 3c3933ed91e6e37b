/* SPDX-License-Identifier: MIT
 *
 * hadamard.c - plans of Hadamard matrices and the fast Walsh-Hadamard transform (see hadamard.h).
 *
 * Signs are those of compressed-tensors' random_hadamard_matrix with a fresh torch.Generator: MT19937 (Matsumoto and
 * Nishimura, 1998) seeded with the low 32 bits of PyTorch's default seed 67280421310721, one draw a sign.
 * The known matrices are in hadamard.txt, with their origin.
 */
#include "ir/dtype/hadamard.h"

#include <math.h>

#include "hadamard_known.h"

/* ---- signs --------------------------------------------------------------------------------------------- */

enum { MT_STATE = 624, MT_SHIFT = 397 };

typedef struct mt19937 {
    uint32_t state[MT_STATE];
    int next;
} mt19937;

static void mt_seed(mt19937 *mt, uint32_t seed)
{
    mt->state[0] = seed;
    for (uint32_t i = 1; i < MT_STATE; i++)
        mt->state[i] = 1812433253u * (mt->state[i - 1] ^ (mt->state[i - 1] >> 30)) + i;
    mt->next = MT_STATE;
}

static void mt_refill(mt19937 *mt)
{
    for (int i = 0; i < MT_STATE; i++) {
        uint32_t y = (mt->state[i] & 0x80000000u) | (mt->state[(i + 1) % MT_STATE] & 0x7fffffffu);
        mt->state[i] = mt->state[(i + MT_SHIFT) % MT_STATE] ^ (y >> 1) ^ (y & 1 ? 0x9908b0dfu : 0u);
    }
    mt->next = 0;
}

static uint32_t mt_draw(mt19937 *mt)
{
    if (mt->next == MT_STATE)
        mt_refill(mt);
    uint32_t y = mt->state[mt->next++];
    y ^= y >> 11;
    y ^= (y << 7) & 0x9d2c5680u;
    y ^= (y << 15) & 0xefc60000u;
    return y ^ (y >> 18);
}

static const int8_t *make_signs(qc_arena *arena, int64_t size, int64_t drawn)
{
    int8_t *signs = QC_NEW_ARRAY(arena, int8_t, (size_t)size);
    mt19937 mt;

    mt_seed(&mt, (uint32_t)67280421310721u);
    for (int64_t i = 0; i < drawn; i++)
        mt_draw(&mt);
    for (int64_t i = 0; i < size; i++)
        signs[i] = mt_draw(&mt) & 1 ? 1 : -1;
    return signs;
}

/* ---- plans --------------------------------------------------------------------------------------------- */

bool qc_hadamard_is_sylvester(int64_t n)
{
    return n > 0 && (n & (n - 1)) == 0;
}

/* The largest known matrix of K x K with n / K a power of two: its row in the table, -1 when there is none. */
static int largest_known(int64_t n)
{
    for (int i = (int)(sizeof known_rows / sizeof *known_rows) - 1; i >= 0; i--)
        if (n % known_rows[i].size == 0 && qc_hadamard_is_sylvester(n / known_rows[i].size))
            return i;
    return -1;
}

bool qc_hadamard_size_known(int64_t n)
{
    return n >= 1 && n <= QC_HADAMARD_MAX_SIZE && (qc_hadamard_is_sylvester(n) || largest_known(n) >= 0);
}

static const int8_t *read_matrix(qc_arena *arena, int row)
{
    int64_t count = (int64_t)known_rows[row].size * known_rows[row].size;
    int8_t *matrix = QC_NEW_ARRAY(arena, int8_t, (size_t)count);
    const unsigned char *bits = known_bits + known_rows[row].offset;

    for (int64_t i = 0; i < count; i++)
        matrix[i] = bits[i / 8] >> (7 - i % 8) & 1 ? -1 : 1;
    return matrix;
}

static int log2_of(int64_t n)
{
    int log2 = 0;
    while (n > (int64_t)1 << log2)
        log2++;
    return log2;
}

qc_status qc_hadamard_make(
    qc_diag *diag, qc_arena *arena, const char *where, int64_t size, bool random, qc_hadamard *h)
{
    return qc_hadamard_make_drawn(diag, arena, where, size, random, 0, h);
}

qc_status qc_hadamard_make_drawn(qc_diag *diag, qc_arena *arena, const char *where, int64_t size, bool random,
    int64_t drawn, qc_hadamard *h)
{
    if (drawn < 0 || drawn > QC_HADAMARD_MAX_DRAWN)
        return qc_error(diag, where, "%lld signs before those of a matrix are not from 0 to %lld",
            (long long)drawn, (long long)QC_HADAMARD_MAX_DRAWN);
    if (size > QC_HADAMARD_MAX_SIZE)
        return qc_error(diag, where, "a Hadamard matrix of size %lld is larger than %lld", (long long)size,
            (long long)QC_HADAMARD_MAX_SIZE);
    if (!qc_hadamard_size_known(size))
        return qc_error(diag, where,
            "no Hadamard matrix of size %lld is known: sizes are K * 2^m with K 1 or a multiple of 4 up to "
            "%d",
            (long long)size, QC_HADAMARD_MAX_KNOWN);
    /* Of the powers of two, only the matrix that the library gives for 32 is not Sylvester's. */
    int row = random || !qc_hadamard_is_sylvester(size) ? largest_known(size) : -1;
    if (row >= 0 && qc_hadamard_is_sylvester(size) && known_rows[row].size != size)
        row = -1;
    *h = (qc_hadamard){.size = size, .known = row >= 0 ? known_rows[row].size : 1};
    h->stages = log2_of(size / h->known);
    h->matrix = row >= 0 ? read_matrix(arena, row) : NULL;
    h->signs = random ? make_signs(arena, size, drawn) : NULL;
    return QC_OK;
}

/* ---- products ------------------------------------------------------------------------------------------ */

static void f32_normalise(const qc_hadamard *h, float *v, int64_t count)
{
    float factor = (float)(1.0 / sqrt((double)h->size));
    for (int64_t i = 0; i < count; i++)
        v[i] *= factor;
}

static void f64_normalise(const qc_hadamard *h, double *v, int64_t count)
{
    double root = sqrt((double)h->size);
    /* A dot product begins with +0 and never gives -0; neither does this. */
    for (int64_t i = 0; i < count; i++)
        v[i] = (v[i] + 0.0) / root;
}

#define REAL float
#define NAME(x) f32_##x
#include "ir/dtype/hadamard_steps.inc"
#undef REAL
#undef NAME
#define REAL double
#define NAME(x) f64_##x
#include "ir/dtype/hadamard_steps.inc"
#undef REAL
#undef NAME

void qc_hadamard_apply_f32(const qc_hadamard *h, bool inverse, float *v)
{
    f32_apply(h, inverse, v, 1);
}

void qc_hadamard_apply_f64(const qc_hadamard *h, bool inverse, double *v)
{
    f64_apply(h, inverse, v, 1);
}

void qc_hadamard_apply_lanes_f32(const qc_hadamard *h, bool inverse, float *v, int64_t lanes)
{
    f32_apply(h, inverse, v, lanes);
}

void qc_hadamard_apply_lanes_f64(const qc_hadamard *h, bool inverse, double *v, int64_t lanes)
{
    f64_apply(h, inverse, v, lanes);
}

/* Row i of D (A^T (x) S): signs[i] * A[k][i / s] * S[i % s][c] at column k * s + c, s = n / K. */
void qc_hadamard_rows(const qc_hadamard *h, int64_t first, int64_t count, double *out)
{
    int64_t n = h->size, width = n / h->known;

    for (int64_t i = first; i < first + count; i++)
        for (int64_t at = 0; at < n; at++) {
            int sign = h->signs ? h->signs[i] : 1;
            if (h->matrix)
                sign *= h->matrix[at / width * h->known + i / width];
            if (__builtin_popcountll((unsigned long long)(i % width & at % width)) & 1)
                sign = -sign;
            out[(i - first) * n + at] = sign;
        }
}

void qc_hadamard_matrix(const qc_hadamard *h, double *out)
{
    qc_hadamard_rows(h, 0, h->size, out);
}
