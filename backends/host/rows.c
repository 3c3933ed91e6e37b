/* SPDX-License-Identifier: MIT
 *
 * rows.c - norms, RoPE, gathers and elementwise work: pieces of rows in f32 on the stack, rounded where the
 * declarations say, stored. A piece is read whole before it is written, so outputs may be inputs.
 */
#include <math.h>

#include "backends/host/engine.h"
#include "ir/dtype/codec.h"

enum {
    PIECE = 1024,        /* elements of a row held on the stack */
    SERIAL_ELEMS = 65536 /* less work than this is not worth waking threads for */
};

static int threads_for(const qc_host_engine *engine, size_t elems)
{
    return elems < SERIAL_ELEMS ? 1 : qc_host_threads(engine);
}

static const void *at_const(const void *base, qc_dtype dtype, size_t index)
{
    return (const char *)base + index * qc_host_dtype_bytes(dtype);
}

static void *at(void *base, qc_dtype dtype, size_t index)
{
    return (char *)base + index * qc_host_dtype_bytes(dtype);
}

/* ---- RMSNorm ------------------------------------------------------------------------------------------- */

static void norm_row(const qc_host_simd *simd, const qc_host_norm *n, size_t start)
{
    float x[PIECE], w[PIECE], sum = 0.0f, offset = n->weight_offset;

    for (size_t c = 0; c < n->size; c += PIECE) {
        size_t count = qc_host_min(n->size - c, PIECE);
        simd->load(n->dtype, at_const(n->x, n->dtype, start + c), x, count);
        sum += simd->sum_squares(x, count);
    }
    float factor = 1.0f / sqrtf(sum / (float)n->size + n->eps);
    for (size_t c = 0; c < n->size; c += PIECE) {
        size_t count = qc_host_min(n->size - c, PIECE);
        simd->load(n->dtype, at_const(n->x, n->dtype, start + c), x, count);
        simd->scale(x, count, factor);
        if (n->style == QC_HOST_NORM_ROUND_THEN_SCALE)
            simd->round(n->dtype, x, count);
        if (n->weight) {
            simd->load(n->weight_dtype, at_const(n->weight, n->weight_dtype, c), w, count);
            if (offset != 0.0f)
                simd->binary(QC_HOST_ADD, w, &offset, 0, w, count);
            simd->binary(QC_HOST_MUL, x, w, 1, x, count);
        }
        simd->store(n->dtype, x, at(n->y, n->dtype, start + c), count);
    }
}

void qc_host_rmsnorm(const qc_host_engine *engine, const qc_host_norm *norm)
{
    size_t rows = norm->tokens * norm->heads;
    int threads = threads_for(engine, rows * norm->size);

#pragma omp parallel for schedule(static) num_threads(threads)
    for (size_t r = 0; r < rows; r++)
        norm_row(
            engine->simd, norm, r / norm->heads * norm->token_stride + r % norm->heads * norm->head_stride);
}

/* ---- RoPE ---------------------------------------------------------------------------------------------- */

enum { ROPE_PIECE = 128 }; /* pairs at a time */

/* y = D(D(a u) +- D(b v)), or with one rounding. a is kept. */
static void rope_sum(const qc_host_simd *simd, const qc_host_rope *r, bool minus, const float *a,
    const float *u, const float *b, const float *v, float *y, size_t count)
{
    float product[ROPE_PIECE];

    simd->binary(QC_HOST_MUL, a, u, 1, y, count);
    simd->binary(QC_HOST_MUL, b, v, 1, product, count);
    if (!r->round_once) {
        simd->round(r->dtype, y, count);
        simd->round(r->dtype, product, count);
    }
    simd->binary(minus ? QC_HOST_SUB : QC_HOST_ADD, y, product, 1, y, count);
}

static void rope_pairs_load(const qc_host_simd *simd, const qc_host_rope *r, size_t start, size_t first,
    size_t count, float *a, float *b)
{
    if (r->style == QC_HOST_ROPE_HALVES) {
        simd->load(r->dtype, at_const(r->x, r->dtype, start + first), a, count);
        simd->load(r->dtype, at_const(r->x, r->dtype, start + r->rotary_size / 2 + first), b, count);
    } else {
        float both[2 * ROPE_PIECE];
        simd->load(r->dtype, at_const(r->x, r->dtype, start + 2 * first), both, 2 * count);
        for (size_t i = 0; i < count; i++) {
            a[i] = both[2 * i];
            b[i] = both[2 * i + 1];
        }
    }
}

static void rope_pairs_store(const qc_host_simd *simd, const qc_host_rope *r, size_t start, size_t first,
    size_t count, const float *a, const float *b)
{
    if (r->style == QC_HOST_ROPE_HALVES) {
        simd->store(r->dtype, a, at(r->y, r->dtype, start + first), count);
        simd->store(r->dtype, b, at(r->y, r->dtype, start + r->rotary_size / 2 + first), count);
    } else {
        float both[2 * ROPE_PIECE];
        for (size_t i = 0; i < count; i++) {
            both[2 * i] = a[i];
            both[2 * i + 1] = b[i];
        }
        simd->store(r->dtype, both, at(r->y, r->dtype, start + 2 * first), 2 * count);
    }
}

static void rope_token(const qc_host_simd *simd, const qc_host_rope *r, size_t token)
{
    float c[ROPE_PIECE], s[ROPE_PIECE], a[ROPE_PIECE], b[ROPE_PIECE], ya[ROPE_PIECE], yb[ROPE_PIECE];
    size_t bytes = qc_host_dtype_bytes(r->dtype), tail = r->rotary_offset + r->rotary_size;

    for (size_t first = 0; first < r->rotary_size / 2; first += ROPE_PIECE) {
        size_t count = qc_host_min(r->rotary_size / 2 - first, ROPE_PIECE);
        simd->load(
            r->table_dtype, at_const(r->cos, r->table_dtype, token * r->table_stride + first), c, count);
        simd->load(
            r->table_dtype, at_const(r->sin, r->table_dtype, token * r->table_stride + first), s, count);
        for (size_t h = 0; h < r->heads; h++) {
            size_t start = token * r->token_stride + h * r->head_stride + r->rotary_offset;
            rope_pairs_load(simd, r, start, first, count, a, b);
            rope_sum(simd, r, true, a, c, b, s, ya, count);
            rope_sum(simd, r, false, b, c, a, s, yb, count);
            rope_pairs_store(simd, r, start, first, count, ya, yb);
        }
    }
    if (r->y == r->x)
        return;
    for (size_t h = 0; h < r->heads; h++) {
        size_t start = token * r->token_stride + h * r->head_stride;
        memcpy(at(r->y, r->dtype, start), at_const(r->x, r->dtype, start), r->rotary_offset * bytes);
        memcpy(at(r->y, r->dtype, start + tail), at_const(r->x, r->dtype, start + tail),
            (r->head_size - tail) * bytes);
    }
}

void qc_host_rope_apply(const qc_host_engine *engine, const qc_host_rope *rope)
{
    int threads = threads_for(engine, rope->tokens * rope->heads * rope->head_size);

#pragma omp parallel for schedule(static) num_threads(threads)
    for (size_t t = 0; t < rope->tokens; t++)
        rope_token(engine->simd, rope, t);
}

/* ---- embedding ----------------------------------------------------------------------------------------- */

qc_status qc_host_embed(const qc_host_engine *engine, qc_diag *diag, const char *where, qc_dtype dtype,
    const void *table, size_t table_rows, size_t row_size, const int64_t *ids, size_t tokens, float scale,
    void *y)
{
    int threads = threads_for(engine, tokens * row_size);

    for (size_t t = 0; t < tokens; t++)
        if (ids[t] < 0 || (uint64_t)ids[t] >= table_rows)
            return qc_error(
                diag, where, "token id %lld is outside the table of %zu rows", (long long)ids[t], table_rows);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (size_t t = 0; t < tokens; t++) {
        const char *row = at_const(table, dtype, (size_t)ids[t] * row_size);
        memcpy(at(y, dtype, t * row_size), row, row_size * qc_host_dtype_bytes(dtype));
        if (scale != 1.0f)
            for (size_t c = 0; c < row_size; c += PIECE) {
                float x[PIECE];
                size_t count = qc_host_min(row_size - c, PIECE);
                engine->simd->load(dtype, at_const(row, dtype, c), x, count);
                engine->simd->scale(x, count, scale);
                engine->simd->store(dtype, x, at(y, dtype, t * row_size + c), count);
            }
    }
    return QC_OK;
}

/* ---- elementwise --------------------------------------------------------------------------------------- */

void qc_host_unary(
    const qc_host_engine *engine, qc_host_unary_op op, qc_dtype dtype, const void *x, void *y, size_t count)
{
    int threads = threads_for(engine, count);

#pragma omp parallel for schedule(static) num_threads(threads)
    for (size_t i = 0; i < count; i += PIECE) {
        float piece[PIECE];
        size_t n = qc_host_min(count - i, PIECE);
        engine->simd->load(dtype, at_const(x, dtype, i), piece, n);
        engine->simd->unary(op, piece, piece, n);
        engine->simd->store(dtype, piece, at(y, dtype, i), n);
    }
}

void qc_host_binary(const qc_host_engine *engine, const qc_host_pairing *p)
{
    int threads = threads_for(engine, p->rows * p->columns);
    size_t pieces = qc_host_ceil_div(p->columns, PIECE), step = p->b_column_stride;

#pragma omp parallel for schedule(static) num_threads(threads)
    for (size_t t = 0; t < p->rows * pieces; t++) {
        float u[PIECE], v[PIECE];
        size_t row = t / pieces, c = t % pieces * PIECE, n = qc_host_min(p->columns - c, PIECE);
        size_t other = row * p->b_row_stride + c * step;
        engine->simd->load(p->a_dtype, at_const(p->a, p->a_dtype, row * p->columns + c), u, n);
        engine->simd->load(p->b_dtype, at_const(p->b, p->b_dtype, other), v, step ? n : 1);
        engine->simd->binary(p->op, u, v, step, u, n);
        engine->simd->store(p->y_dtype, u, at(p->y, p->y_dtype, row * p->columns + c), n);
    }
}

void qc_host_silu_mul(const qc_host_engine *engine, qc_dtype dtype, const void *gate, size_t gate_stride,
    const void *up, size_t up_stride, void *y, size_t y_stride, size_t rows, size_t columns)
{
    int threads = threads_for(engine, rows * columns);
    size_t pieces = qc_host_ceil_div(columns, PIECE);

#pragma omp parallel for schedule(static) num_threads(threads)
    for (size_t t = 0; t < rows * pieces; t++) {
        float u[PIECE], v[PIECE];
        size_t row = t / pieces, c = t % pieces * PIECE, n = qc_host_min(columns - c, PIECE);
        engine->simd->load(dtype, at_const(gate, dtype, row * gate_stride + c), u, n);
        engine->simd->load(dtype, at_const(up, dtype, row * up_stride + c), v, n);
        engine->simd->unary(QC_HOST_SILU, u, u, n);
        engine->simd->round(dtype, u, n);
        engine->simd->binary(QC_HOST_MUL, u, v, 1, u, n);
        engine->simd->store(dtype, u, at(y, dtype, row * y_stride + c), n);
    }
}

/* ---- softmax, conversion ------------------------------------------------------------------------------- */

static void softmax_row(const qc_host_simd *simd, qc_dtype dtype, const void *x, void *y, size_t columns)
{
    float piece[PIECE], top = -INFINITY, sum = 0.0f;

    for (size_t c = 0; c < columns; c += PIECE) {
        size_t n = qc_host_min(columns - c, PIECE);
        simd->load(dtype, at_const(x, dtype, c), piece, n);
        float here = simd->max(piece, n);
        top = here > top ? here : top;
    }
    for (size_t c = 0; c < columns; c += PIECE) {
        size_t n = qc_host_min(columns - c, PIECE);
        simd->load(dtype, at_const(x, dtype, c), piece, n);
        sum += simd->exp_sum(piece, n, top);
    }
    for (size_t c = 0; c < columns; c += PIECE) {
        size_t n = qc_host_min(columns - c, PIECE);
        simd->load(dtype, at_const(x, dtype, c), piece, n);
        simd->exp_sum(piece, n, top);
        simd->divide(piece, n, sum);
        simd->store(dtype, piece, at(y, dtype, c), n);
    }
}

void qc_host_softmax(
    const qc_host_engine *engine, qc_dtype dtype, const void *x, void *y, size_t rows, size_t columns)
{
    int threads = threads_for(engine, rows * columns);

#pragma omp parallel for schedule(static) num_threads(threads)
    for (size_t r = 0; r < rows; r++)
        softmax_row(engine->simd, dtype, at_const(x, dtype, r * columns), at(y, dtype, r * columns), columns);
}

void qc_host_convert(
    const qc_host_engine *engine, qc_dtype from, const void *src, qc_dtype to, void *dst, size_t count)
{
    int threads = threads_for(engine, count);
    bool values = qc_host_is_value_dtype(from) && qc_host_is_value_dtype(to);
    size_t from_bits = (size_t)qc_dtype_bits(from), to_bits = (size_t)qc_dtype_bits(to);

    /* PIECE is even, so a piece of a packed 4-bit type starts at a byte */
#pragma omp parallel for schedule(static) num_threads(threads)
    for (size_t i = 0; i < count; i += PIECE) {
        size_t n = qc_host_min(count - i, PIECE);
        const char *s = (const char *)src + i * from_bits / 8;
        char *d = (char *)dst + i * to_bits / 8;
        if (values) {
            float piece[PIECE];
            engine->simd->load(from, s, piece, n);
            engine->simd->store(to, piece, d, n);
        } else {
            qc_convert(from, s, to, d, n);
        }
    }
}
