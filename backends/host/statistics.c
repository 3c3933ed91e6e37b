/* SPDX-License-Identifier: MIT
 *
 * statistics.c - extremes of activations, and what evaluation asks of a row of logits.
 *
 * Minimum and maximum are taken of ordered integer keys (key.h), so neither threads nor vector widths show,
 * and one look at the two results tells whether all values were finite. Sums over logits are f64, in pieces
 * of fixed length.
 */
#include <math.h>

#include "backends/host/engine.h"
#include "backends/host/key.h"

enum { PIECE = 1024, SERIAL_ELEMS = 65536 };

/* Results of key loops to floats; false where a key lies at or beyond an infinity, or nothing was seen. */
static bool finish(qc_dtype dtype, int32_t lowest, int32_t highest, float *min, float *max)
{
    uint32_t low, high;
    bool finite;

    if (dtype == QC_F32) {
        finite = lowest > qc_host_key32(0xff800000u) && highest < qc_host_key32(0x7f800000u);
        low = (uint32_t)qc_host_key32((uint32_t)lowest);
        high = (uint32_t)qc_host_key32((uint32_t)highest);
        *min = qc_f32_from_bits(low);
        *max = qc_f32_from_bits(high);
    } else {
        uint16_t infinity = dtype == QC_BF16 ? 0x7f80u : 0x7c00u;
        finite = lowest > qc_host_key16(infinity | 0x8000u) && highest < qc_host_key16(infinity);
        low = (uint16_t)qc_host_key16((uint16_t)lowest);
        high = (uint16_t)qc_host_key16((uint16_t)highest);
        *min = dtype == QC_BF16 ? qc_bf16_to_f32((uint16_t)low) : qc_f16_to_f32((uint16_t)low);
        *max = dtype == QC_BF16 ? qc_bf16_to_f32((uint16_t)high) : qc_f16_to_f32((uint16_t)high);
    }
    return finite && lowest <= highest;
}

bool qc_host_minmax_heads(const qc_host_engine *engine, qc_dtype dtype, const void *x, size_t tokens,
    size_t heads, size_t head_size, size_t token_stride, size_t head_stride, float *min, float *max)
{
    size_t bytes = qc_host_dtype_bytes(dtype);
    int threads = tokens * head_size < SERIAL_ELEMS ? 1 : qc_host_threads(engine);
    bool finite = true;

    for (size_t h = 0; h < heads; h++) {
        const char *head = (const char *)x + h * head_stride * bytes;
        int32_t lowest = INT32_MAX, highest = INT32_MIN;
#pragma omp parallel for schedule(static) num_threads(threads) reduction(min                                 \
                                                                         : lowest) reduction(max             \
                                                                                             : highest)
        for (size_t t = 0; t < tokens; t++)
            engine->simd->minmax(dtype, head + t * token_stride * bytes, head_size, &lowest, &highest);
        finite = finish(dtype, lowest, highest, &min[h], &max[h]) && finite;
    }
    return finite && tokens > 0;
}

bool qc_host_minmax_columns(const qc_host_engine *engine, qc_dtype dtype, const void *x, size_t rows,
    size_t columns, size_t row_stride, float *min, float *max)
{
    size_t bytes = qc_host_dtype_bytes(dtype);
    int threads = rows * columns < SERIAL_ELEMS ? 1 : qc_host_threads(engine), bad = 0;

#pragma omp parallel for schedule(static) num_threads(threads) reduction(| : bad)
    for (size_t c = 0; c < columns; c += PIECE) {
        int32_t lowest[PIECE], highest[PIECE];
        size_t n = qc_host_min(columns - c, PIECE);
        for (size_t i = 0; i < n; i++) {
            lowest[i] = INT32_MAX;
            highest[i] = INT32_MIN;
        }
        for (size_t r = 0; r < rows; r++)
            engine->simd->minmax_each(
                dtype, (const char *)x + (r * row_stride + c) * bytes, n, lowest, highest);
        for (size_t i = 0; i < n; i++)
            bad |= !finish(dtype, lowest[i], highest[i], &min[c + i], &max[c + i]);
    }
    return !bad && rows > 0;
}

bool qc_host_sum_squares(
    const qc_host_engine *engine, qc_dtype dtype, const void *x, size_t rows, size_t columns, float *sums)
{
    enum { COLUMNS = 256 };
    size_t bytes = qc_host_dtype_bytes(dtype);
    int threads = rows * columns < SERIAL_ELEMS ? 1 : qc_host_threads(engine), bad = 0;

#pragma omp parallel for schedule(static) num_threads(threads) reduction(| : bad)
    for (size_t c = 0; c < columns; c += COLUMNS) {
        size_t n = qc_host_min(columns - c, COLUMNS);
        double squares[COLUMNS] = {0};
        float row[COLUMNS];
        for (size_t r = 0; r < rows; r++) {
            qc_decode_f32(dtype, (const char *)x + (r * columns + c) * bytes, row, n);
            for (size_t i = 0; i < n; i++)
                squares[i] += (double)row[i] * (double)row[i];
        }
        for (size_t i = 0; i < n; i++) {
            sums[c + i] = (float)squares[i];
            bad |= !isfinite(sums[c + i]);
        }
    }
    return !bad;
}

/* sum_c exp(x[c] - top): partial sums in f64, element c in sum c mod 16. */
static double sum_exp(const qc_host_engine *engine, const float *x, size_t columns, float top)
{
    float piece[PIECE];
    double lanes[QC_HOST_LANES] = {0}, sum = 0.0;

    for (size_t c = 0; c < columns; c += PIECE) {
        size_t n = qc_host_min(columns - c, PIECE);
        memcpy(piece, x + c, n * sizeof *piece);
        memset(piece + n, 0, (PIECE - n) * sizeof *piece);
        engine->simd->exp_sum(piece, n, top);
        for (size_t i = 0; i < n; i += QC_HOST_LANES)
            for (size_t l = 0; l < QC_HOST_LANES; l++)
                lanes[l] += (double)piece[i + l];
    }
    for (size_t l = 0; l < QC_HOST_LANES; l++)
        sum += lanes[l];
    return sum;
}

double qc_host_logsumexp(const qc_host_engine *engine, const float *logits, size_t columns)
{
    float top = engine->simd->max(logits, columns);
    return (double)top + log(sum_exp(engine, logits, columns, top));
}

double qc_host_log_prob(const qc_host_engine *engine, const float *logits, size_t columns, size_t target)
{
    return (double)logits[target] - qc_host_logsumexp(engine, logits, columns);
}

size_t qc_host_argmax(const float *logits, size_t columns)
{
    size_t best = 0;
    float top = -INFINITY;

    for (size_t c = 0; c < columns; c++)
        if (logits[c] > top) {
            top = logits[c];
            best = c;
        }
    return best;
}

double qc_host_kl(const qc_host_engine *engine, const float *logits_p, const float *logits_q, size_t columns)
{
    float piece[PIECE], top = engine->simd->max(logits_p, columns);
    double p_sum = qc_host_logsumexp(engine, logits_p, columns),
           q_sum = qc_host_logsumexp(engine, logits_q, columns);
    double weighted = 0.0, weight = 0.0, lanes[QC_HOST_LANES] = {0}, totals[QC_HOST_LANES] = {0};

    /* sum p (log p - log q) = sum e (x_p - x_q) / sum e - (log Z_p - log Z_q) with e = exp(x_p - max) */
    for (size_t c = 0; c < columns; c += PIECE) {
        size_t n = qc_host_min(columns - c, PIECE);
        memcpy(piece, logits_p + c, n * sizeof *piece);
        engine->simd->exp_sum(piece, n, top);
        for (size_t i = 0; i < n; i++) {
            double e = piece[i];
            totals[i % QC_HOST_LANES] += e;
            /* a token that p rules out adds nothing, though q's logit be -infinity too */
            lanes[i % QC_HOST_LANES] += e > 0.0 ? e * ((double)logits_p[c + i] - (double)logits_q[c + i]) : e;
        }
    }
    for (size_t l = 0; l < QC_HOST_LANES; l++) {
        weighted += lanes[l];
        weight += totals[l];
    }
    return weighted / weight - (p_sum - q_sum);
}
