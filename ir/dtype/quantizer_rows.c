/* SPDX-License-Identifier: MIT
 *
 * quantizer_rows.c - quantization of whole rows and blocks (see quantizer.h).
 */
#include "ir/dtype/quantizer.h"

#include <math.h>

#include "ir/dtype/steps.h"

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

void qc_quantizer_rows_ranges(const qc_quantizer *q, const void *x, int64_t rows, int64_t columns,
    int64_t group, float *mins, float *maxs)
{
    const step_type model = step_of(q->model_dtype);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < columns; c += group)
            qc_arith_minmax(q->model_dtype, at(model, x, r * columns + c),
                (size_t)smaller_of(group, columns - c), mins++, maxs++);
}

void qc_quantizer_rows_scales(const qc_quantizer *q, const void *x, int64_t rows, int64_t columns,
    int64_t group, float global, float *scales, float *zero_points)
{
    enum { PIECE = 256 };
    const step_type model = step_of(q->model_dtype);
    float mins[PIECE], maxs[PIECE];
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < columns; c += PIECE * group) {
            int64_t n = smaller_of(PIECE * group, columns - c), count = groups_of(n, group);
            qc_quantizer_rows_ranges(q, at(model, x, r * columns + c), 1, n, group, mins, maxs);
            qc_quantizer_scales(q, mins, maxs, count, global, scales, zero_points);
            scales += count;
            zero_points = zero_points ? zero_points + count : NULL;
        }
}

void qc_quantizer_rows_codes(const qc_quantizer *q, const void *x, int64_t rows, int64_t columns,
    int64_t group, const float *scales, float global, const float *zero_points, uint8_t *codes)
{
    const step_type model = step_of(q->model_dtype), step = step_of_quotient(q, global);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < columns; c += group, scales++) {
            float scale = step_effective(*scales, global);
            float shift = step_shift(q->arith, zero_points ? *zero_points++ : 0.0f);
            for (int64_t i = c; i < c + smaller_of(group, columns - c); i++) {
                float t = step_quotient(step, step_load(model, x, (size_t)(r * columns + i)), scale, shift);
                codes[r * columns + i] = (uint8_t)step_code(q->grid.storage, t, q->grid.min, q->grid.max);
            }
        }
}

void qc_quantizer_rows_dequantize(const qc_quantizer *q, qc_dtype to, const uint8_t *codes, int64_t rows,
    int64_t columns, int64_t group, const float *scales, float global, const float *zero_points, void *x)
{
    const step_type out = step_of(to), step = step_of_value(q, global);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < columns; c += group, scales++) {
            float scale = step_effective(*scales, global), zero_point = zero_points ? *zero_points++ : 0.0f;
            for (int64_t i = r * columns + c; i < r * columns + c + smaller_of(group, columns - c); i++) {
                float value = step_value(q->grid.storage, codes[i]);
                value = round_step(step, round_step(step, value - zero_point) * scale);
                step_store(out, x, (size_t)i, value);
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
