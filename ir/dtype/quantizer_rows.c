/* SPDX-License-Identifier: MIT
 *
 * quantizer_rows.c - quantization of whole rows and blocks (see quantizer.h), with the vector loops of kernels.h
 * where what they ask for is given.
 */
#include "ir/dtype/quantizer.h"

#include <math.h>

#include "ir/dtype/kernels.h"

static const void *at(step_type type, const void *x, int64_t i)
{
    return (const char *)x + i * (type == STEP_F32 ? 4 : 2);
}

static int64_t groups_of(int64_t columns, int64_t group)
{
    return (columns + group - 1) / group;
}

static int64_t smaller_of(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* ---- scales -------------------------------------------------------------------------------------------- */

/* Ranges of the groups of one row, or of a part of it that starts with a group. `mirrored`: only the larger
 * magnitude of both ends is wanted, as `maxs`; `mins` are its negatives where that is as cheap. */
static void row_ranges(const qc_quantizer *q, const void *x, int64_t columns, int64_t group, bool mirrored,
    float *mins, float *maxs)
{
    const step_type model = step_of(q->model_dtype);
    const bool halves = group >= KERNEL_STEP && group <= 128 && (group & (group - 1)) == 0;
    const int64_t piece = halves ? KERNEL_RANGE_ELEMS : group;
    for (int64_t c = 0; c < columns; c += piece) {
        int64_t n = smaller_of(piece, columns - c), whole = halves ? n / group * group : 0;
        if (whole > 0) {
            if (mirrored) {
                qc_kernel_magnitudes(model, at(model, x, c), (size_t)whole, (size_t)group, maxs);
                for (int64_t i = 0; i < whole / group; i++)
                    mins[i] = -maxs[i];
            } else {
                qc_kernel_ranges(model, at(model, x, c), (size_t)whole, (size_t)group, mins, maxs);
            }
            mins += whole / group;
            maxs += whole / group;
        }
        if (n > whole)
            qc_arith_minmax(q->model_dtype, at(model, x, c + whole), (size_t)(n - whole), mins++, maxs++);
    }
}

void qc_quantizer_rows_ranges(const qc_quantizer *q, const void *x, int64_t rows, int64_t columns,
    int64_t group, float *mins, float *maxs)
{
    const int64_t groups = groups_of(columns, group);
    for (int64_t r = 0; r < rows; r++)
        row_ranges(q, at(step_of(q->model_dtype), x, r * columns), columns, group, false, mins + r * groups,
            maxs + r * groups);
}

void qc_quantizer_rows_scales(const qc_quantizer *q, const void *x, int64_t rows, int64_t columns,
    int64_t group, float global, float *scales, float *zero_points)
{
    enum { PIECE = 256 };
    const step_type model = step_of(q->model_dtype);
    float mins[PIECE], maxs[PIECE];
    if (qc_quantizer_searches(q, global)) {
        qc_kernel_search_rows(q, x, rows, columns, group, global, scales);
        for (int64_t i = 0; zero_points && i < rows * groups_of(columns, group); i++)
            zero_points[i] = 0;
        return;
    }
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < columns; c += PIECE * group) {
            int64_t n = smaller_of(PIECE * group, columns - c), count = groups_of(n, group);
            row_ranges(q, at(model, x, r * columns + c), n, group, q->symmetric, mins, maxs);
            qc_quantizer_scales(q, mins, maxs, count, global, scales, zero_points);
            scales += count;
            zero_points = zero_points ? zero_points + count : NULL;
        }
}

/* ---- codes and values ----
 * Rows are cut into pieces: whole groups, or a part of one. Of a piece, what comes in multiples of KERNEL_STEP
 * goes through the vector loops, the rest one by one. */

/* From how many elements on thresholds are worth their making. */
enum { LONG_ELEMS = 512 };

enum { PIECE_ELEMS = 2048, PIECE_GROUPS = PIECE_ELEMS / KERNEL_STEP };

typedef struct piece {
    int64_t start, count;    /* elements, of the row */
    int64_t first, groups;   /* of its groups */
    int64_t group, vectored; /* elements a group within the piece; how many go through vector loops */
} piece;

/* The piece that starts at `start`; group is at most columns. */
static piece piece_at(int64_t columns, int64_t group, int64_t start)
{
    piece p = {.start = start, .first = start / group};
    if (group >= PIECE_ELEMS) {
        p.count = smaller_of(PIECE_ELEMS, (p.first + 1) * group - start);
        p.count = smaller_of(p.count, columns - start);
        p.group = p.count;
    } else {
        int64_t most = smaller_of(PIECE_ELEMS / group, PIECE_GROUPS);
        p.count = smaller_of(most * group, columns - start);
        p.group = group;
    }
    p.groups = groups_of(p.count, p.group);
    if (p.group % KERNEL_STEP == 0)
        p.vectored = p.count / p.group * p.group;
    else if (p.groups == 1)
        p.vectored = p.count / KERNEL_STEP * KERNEL_STEP;
    return p;
}

/* What a vector loop takes for a piece under one group that is not a multiple of KERNEL_STEP. */
static size_t vector_group(const piece *p)
{
    return (size_t)(p->group % KERNEL_STEP == 0 ? p->group : p->vectored);
}

typedef struct coder {
    const qc_quantizer *q;
    step_type model, step;
    float global;
} coder;

/* Codes from element `from` of the piece on, one by one. */
static void plain_codes(const coder *c, const piece *p, int64_t from, const void *x, const float *scales,
    const float *zero_points, uint8_t *codes)
{
    const qc_grid grid = c->q->grid;
    for (int64_t i = from; i < p->count; i++) {
        int64_t g = i / p->group;
        float scale = step_effective(scales[g], c->global);
        float shift = step_shift(c->q->arith, zero_points ? zero_points[g] : 0.0f);
        float t = step_quotient(c->step, step_load(c->model, x, (size_t)i), scale, shift);
        codes[i] = (uint8_t)step_code(grid.storage, t, grid.min, grid.max);
    }
}

static void piece_codes(const coder *c, const piece *p, const void *x, const float *scales,
    const float *zero_points, uint8_t *codes)
{
    float factors[PIECE_GROUPS], shifts[PIECE_GROUPS], quotients[PIECE_ELEMS];
    const bool multiply = qc_kernel_by_reciprocal(c->model, c->step);
    const size_t groups = p->vectored > 0 ? (size_t)p->groups : 0;
    bool shifted = false;
    int64_t done = 0;
    bool usual = qc_kernel_factors(scales, groups, c->global, multiply, factors);
    for (size_t g = 0; g < groups; g++) {
        shifts[g] = step_shift(c->q->arith, zero_points ? zero_points[g] : 0.0f);
        shifted = shifted || shifts[g] != 0.0f;
    }
    usual = usual && p->vectored > 0 && !qc_kernel_has_nan(c->model, x, (size_t)p->vectored);
    if (usual && !shifted && multiply && c->q->grid.storage == QC_F8E4M3 && p->groups == 1 &&
        p->vectored >= LONG_ELEMS && scales[0] >= 0x1p-100f && scales[0] <= 1) {
        qc_kernel_e4m3_codes(x, (size_t)p->vectored, scales[0], shifts[0], codes);
        done = p->vectored;
    } else if (usual && qc_kernel_quotients(c->model, c->step, c->q->grid.storage, shifted, x,
                            (size_t)p->vectored, vector_group(p), factors, shifts, quotients)) {
        qc_kernel_encode(c->q->grid, quotients, (size_t)p->vectored, codes);
        done = p->vectored;
    }
    plain_codes(c, p, done, x, scales, zero_points, codes);
}

void qc_quantizer_rows_codes(const qc_quantizer *q, const void *x, int64_t rows, int64_t columns,
    int64_t group, const float *scales, float global, const float *zero_points, uint8_t *codes)
{
    const coder c = {q, step_of(q->model_dtype), step_of_quotient(q, global), global};
    group = smaller_of(group, columns);
    if (group <= 0)
        return;
    for (int64_t r = 0; r < rows; r++) {
        const int64_t first = r * groups_of(columns, group);
        for (int64_t start = 0; start < columns;) {
            const piece p = piece_at(columns, group, start);
            const int64_t g = first + p.first, i = r * columns + start;
            piece_codes(
                &c, &p, at(c.model, x, i), scales + g, zero_points ? zero_points + g : NULL, codes + i);
            start += p.count;
        }
    }
}

/* Numbers of codes, one byte each. */
static void decode(qc_dtype storage, const uint8_t *codes, float *values, size_t count)
{
    if (storage != QC_F4E2M1) {
        qc_decode_f32(storage, codes, values, count);
        return;
    }
    for (size_t i = 0; i < count; i++)
        values[i] = step_value(QC_F4E2M1, codes[i]);
}

static void piece_values(const coder *c, qc_dtype to, const piece *p, const uint8_t *codes,
    const float *scales, const float *zero_points, void *x)
{
    float values[PIECE_ELEMS], factors[PIECE_GROUPS], zeros[PIECE_GROUPS];
    decode(c->q->grid.storage, codes, values, (size_t)p->count);
    for (int64_t g = 0; p->vectored > 0 && g < p->groups; g++) {
        factors[g] = step_effective(scales[g], c->global);
        zeros[g] = zero_points ? zero_points[g] : 0.0f;
    }
    if (p->vectored > 0)
        qc_kernel_products(c->step, values, (size_t)p->vectored, vector_group(p), factors, zeros);
    for (int64_t i = p->vectored; i < p->count; i++) {
        int64_t g = i / p->group;
        float difference = round_step(c->step, values[i] - (zero_points ? zero_points[g] : 0.0f));
        values[i] = round_step(c->step, difference * step_effective(scales[g], c->global));
    }
    qc_encode_f32(to, values, x, (size_t)p->count);
}

void qc_quantizer_rows_dequantize(const qc_quantizer *q, qc_dtype to, const uint8_t *codes, int64_t rows,
    int64_t columns, int64_t group, const float *scales, float global, const float *zero_points, void *x)
{
    const coder c = {q, step_of(q->model_dtype), step_of_value(q, global), global};
    const int64_t elem_bytes = qc_dtype_bits(to) / 8;
    group = smaller_of(group, columns);
    if (group <= 0)
        return;
    for (int64_t r = 0; r < rows; r++) {
        const int64_t first = r * groups_of(columns, group);
        for (int64_t start = 0; start < columns;) {
            const piece p = piece_at(columns, group, start);
            const int64_t g = first + p.first, i = r * columns + start;
            piece_values(&c, to, &p, codes + i, scales + g, zero_points ? zero_points + g : NULL,
                (char *)x + i * elem_bytes);
            start += p.count;
        }
    }
}

/* ---- blocks -------------------------------------------------------------------------------------------- */

static void join(float *min, float *max, float low, float high)
{
    *min = isnan(low) || low < *min ? low : *min;
    *max = isnan(high) || high > *max ? high : *max;
}

void qc_quantizer_blocks_ranges(const qc_quantizer *q, const void *x, int64_t rows, int64_t columns,
    int64_t block_rows, int64_t block_columns, float *mins, float *maxs)
{
    const step_type model = step_of(q->model_dtype);
    const int64_t across = groups_of(columns, block_columns);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t b = 0; b < across; b++) {
            int64_t i = r / block_rows * across + b, c = b * block_columns;
            float low, high;
            qc_arith_minmax(q->model_dtype, at(model, x, r * columns + c),
                (size_t)smaller_of(block_columns, columns - c), &low, &high);
            if (r % block_rows == 0)
                mins[i] = low, maxs[i] = high;
            else
                join(&mins[i], &maxs[i], low, high);
        }
}

void qc_quantizer_blocks_scales(const qc_quantizer *q, const void *x, int64_t rows, int64_t columns,
    int64_t block_rows, int64_t block_columns, float global, float *scales, float *zero_points)
{
    enum { PIECE = 64 };
    const step_type model = step_of(q->model_dtype);
    for (int64_t r = 0; r < rows; r += block_rows)
        for (int64_t c = 0; c < columns; c += PIECE * block_columns) {
            int64_t width = smaller_of(PIECE * block_columns, columns - c);
            float mins[PIECE], maxs[PIECE];
            for (int64_t y = r; y < r + smaller_of(block_rows, rows - r); y++)
                for (int64_t b = 0; b < groups_of(width, block_columns); b++) {
                    float low, high;
                    qc_arith_minmax(q->model_dtype, at(model, x, y * columns + c + b * block_columns),
                        (size_t)smaller_of(block_columns, width - b * block_columns), &low, &high);
                    if (y == r)
                        mins[b] = low, maxs[b] = high;
                    else
                        join(&mins[b], &maxs[b], low, high);
                }
            int64_t count = groups_of(width, block_columns);
            qc_quantizer_scales(q, mins, maxs, count, global, scales, zero_points);
            scales += count;
            zero_points = zero_points ? zero_points + count : NULL;
        }
}

void qc_quantizer_blocks_codes(const qc_quantizer *q, const void *x, int64_t rows, int64_t columns,
    int64_t block_rows, int64_t block_columns, const float *scales, float global, const float *zero_points,
    uint8_t *codes)
{
    const step_type model = step_of(q->model_dtype);
    const int64_t across = groups_of(columns, block_columns);
    for (int64_t r = 0; r < rows; r++) {
        int64_t first = r / block_rows * across;
        qc_quantizer_rows_codes(q, at(model, x, r * columns), 1, columns, block_columns, scales + first,
            global, zero_points ? zero_points + first : NULL, codes + r * columns);
    }
}

void qc_quantizer_blocks_dequantize(const qc_quantizer *q, qc_dtype to, const uint8_t *codes, int64_t rows,
    int64_t columns, int64_t block_rows, int64_t block_columns, const float *scales, float global,
    const float *zero_points, void *x)
{
    const int64_t across = groups_of(columns, block_columns), elem_bytes = qc_dtype_bits(to) / 8;
    for (int64_t r = 0; r < rows; r++) {
        int64_t first = r / block_rows * across;
        qc_quantizer_rows_dequantize(q, to, codes + r * columns, 1, columns, block_columns, scales + first,
            global, zero_points ? zero_points + first : NULL, (char *)x + r * columns * elem_bytes);
    }
}
