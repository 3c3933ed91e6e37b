/* SPDX-License-Identifier: MIT
 *
 * hadamard_steps.h - the steps of hadamard.h over one type of number. Included twice by hadamard.c, with REAL the type and
 * NAME(x) the name of a function of that type.
 */

/* (a, b) = (a + b, a - b) over `half` numbers. */
static void NAME(butterfly)(REAL *restrict a, REAL *restrict b, int64_t half)
{
    for (int64_t i = 0; i < half; i++) {
        REAL low = a[i], high = b[i];
        a[i] = low + high;
        b[i] = low - high;
    }
}

/* Two stages of distances 1 and 2 at once, on single vectors: runs of one number do not vectorise. */
static void NAME(short_butterflies)(REAL *v, int64_t count)
{
    for (int64_t i = 0; i < count; i += 4) {
        REAL a = v[i] + v[i + 1], b = v[i] - v[i + 1];
        REAL c = v[i + 2] + v[i + 3], d = v[i + 2] - v[i + 3];
        v[i] = a + c;
        v[i + 1] = b + d;
        v[i + 2] = a - c;
        v[i + 3] = b - d;
    }
}

static void NAME(butterflies)(const qc_hadamard *h, REAL *v, int64_t lanes)
{
    int64_t count = h->size * lanes, half = lanes;
    int stage = 0;

    if (lanes == 1 && h->stages >= 2) {
        NAME(short_butterflies)(v, count);
        stage = 2;
        half = 4;
    }
    for (; stage < h->stages; stage++, half *= 2)
        for (int64_t base = 0; base < count; base += 2 * half)
            NAME(butterfly)(v + base, v + base + half, half);
}

/* The known matrix from the left, COLUMNS columns of [K, width] at a time. */
static void NAME(known_product)(const qc_hadamard *h, bool inverse, REAL *v, int64_t width)
{
    enum { COLUMNS = 16 };
    REAL in[QC_HADAMARD_MAX_KNOWN][COLUMNS];
    int64_t known = h->known, row = inverse ? 1 : known, column = inverse ? known : 1;

    for (int64_t at = 0; at < width; at += COLUMNS) {
        int64_t count = width - at < COLUMNS ? width - at : COLUMNS;
        for (int64_t j = 0; j < known; j++)
            for (int64_t c = 0; c < COLUMNS; c++)
                in[j][c] = c < count ? v[j * width + at + c] : 0;
        for (int64_t k = 0; k < known; k++) {
            REAL sum[COLUMNS] = {0};
            const int8_t *signs = h->matrix + k * row;
            for (int64_t j = 0; j < known; j++) {
                REAL sign = (REAL)signs[j * column];
                for (int64_t c = 0; c < COLUMNS; c++)
                    sum[c] += sign * in[j][c];
            }
            for (int64_t c = 0; c < count; c++)
                v[k * width + at + c] = sum[c];
        }
    }
}

static void NAME(apply_signs)(const qc_hadamard *h, REAL *v, int64_t lanes)
{
    if (!h->signs)
        return;
    for (int64_t i = 0; i < h->size; i++)
        for (int64_t l = 0; l < lanes; l++)
            v[i * lanes + l] *= (REAL)h->signs[i];
}

static void NAME(apply)(const qc_hadamard *h, bool inverse, REAL *v, int64_t lanes)
{
    int64_t width = (h->size / h->known) * lanes;

    if (!inverse)
        NAME(apply_signs)(h, v, lanes);
    else if (h->matrix)
        NAME(known_product)(h, true, v, width);
    NAME(butterflies)(h, v, lanes);
    if (inverse)
        NAME(apply_signs)(h, v, lanes);
    else if (h->matrix)
        NAME(known_product)(h, false, v, width);
    NAME(normalise)(h, v, h->size * lanes);
}
