/* SPDX-License-Identifier: MIT
 *
 * experts.c - routing and the rows of experts: choosing the largest scores, sorting pairs of token and expert by
 * expert (a counting sort, so equal experts stay in the order of tokens), moving rows there, and summing them back.
 *
 * Everything but the sums moves elements, so bits are kept. The products between are linear.c's.
 */
#include <math.h>
#include <stdlib.h>

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

/* ---- choosing ------------------------------------------------------------------------------------------ */

/* A NaN is larger than every number, as PyTorch has it. */
static bool is_above(float a, float b)
{
    return isnan(a) ? !isnan(b) : a > b;
}

/* Puts column `id` with value `x` among the `count` largest so far (at most k of them), behind those that are not
 * smaller. */
static size_t insert(float x, int32_t id, size_t count, size_t k, float *values, int32_t *ids)
{
    size_t at = count < k ? count : k - 1;

    if (count == k && !is_above(x, values[k - 1]))
        return count;
    for (; at > 0 && is_above(x, values[at - 1]); at--) {
        values[at] = values[at - 1];
        ids[at] = ids[at - 1];
    }
    values[at] = x;
    ids[at] = id;
    return count < k ? count + 1 : count;
}

qc_status qc_host_topk(const qc_host_engine *engine, qc_diag *diag, const char *where, qc_dtype dtype,
    const void *x, size_t rows, size_t columns, size_t k, int32_t *ids)
{
    int threads = threads_for(engine, rows * columns);
    float *memory;

    if (k == 0 || k > columns || columns > INT32_MAX)
        return qc_error(diag, where, "the %zu largest of %zu elements", k, columns);
    memory = qc_host_alloc((size_t)threads * k, sizeof *memory);
    if (!memory)
        return qc_error(diag, where, "out of memory for %zu numbers", k);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (size_t r = 0; r < rows; r++) {
        float piece[PIECE], *values = memory + (size_t)qc_host_thread_index() * k;
        size_t count = 0;
        for (size_t c = 0; c < columns; c += PIECE) {
            size_t n = qc_host_min(columns - c, PIECE);
            engine->simd->load(
                dtype, (const char *)x + (r * columns + c) * qc_host_dtype_bytes(dtype), piece, n);
            for (size_t i = 0; i < n; i++)
                count = insert(piece[i], (int32_t)(c + i), count, k, values, ids + r * k);
        }
    }
    free(memory);
    return QC_OK;
}

static qc_status check_ids(qc_diag *diag, const char *where, const int32_t *ids, size_t count, size_t limit)
{
    for (size_t i = 0; i < count; i++)
        if (ids[i] < 0 || (size_t)ids[i] >= limit)
            return qc_error(diag, where, "number %d is outside 0 to %zu", (int)ids[i], limit - 1);
    return QC_OK;
}

qc_status qc_host_take(const qc_host_engine *engine, qc_diag *diag, const char *where, size_t elem_bytes,
    const void *x, size_t rows, size_t columns, const int32_t *ids, size_t k, void *y)
{
    int threads = threads_for(engine, rows * k);

    if (check_ids(diag, where, ids, rows * k, columns) != QC_OK)
        return QC_ERROR;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < k; i++)
            memcpy((char *)y + (r * k + i) * elem_bytes,
                (const char *)x + (r * columns + (size_t)ids[r * k + i]) * elem_bytes, elem_bytes);
    return QC_OK;
}

static bool among(const int32_t *ids, size_t count, int32_t id)
{
    for (size_t i = 0; i < count; i++)
        if (ids[i] == id)
            return true;
    return false;
}

qc_status qc_host_mask_groups(const qc_host_engine *engine, qc_diag *diag, const char *where,
    const qc_host_group_mask *m, const void *x, const int32_t *ids, void *y)
{
    size_t bytes = qc_host_dtype_bytes(m->dtype), size = m->groups ? m->columns / m->groups : 0;
    int threads = threads_for(engine, m->rows * m->columns);
    uint32_t fill = 0;

    if (size == 0 || m->columns % m->groups)
        return qc_error(diag, where, "%zu columns are no %zu groups", m->columns, m->groups);
    if (check_ids(diag, where, ids, m->rows * m->chosen, m->groups) != QC_OK)
        return QC_ERROR;
    qc_encode_f32(m->dtype, &m->fill, &fill, 1);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (size_t r = 0; r < m->rows; r++)
        for (size_t g = 0; g < m->groups; g++) {
            size_t first = (r * m->columns + g * size) * bytes;
            char *to = (char *)y + first;
            if (among(ids + r * m->chosen, m->chosen, (int32_t)g)) {
                memmove(to, (const char *)x + first, size * bytes);
                continue;
            }
            for (size_t c = 0; c < size; c++)
                memcpy(to + c * bytes, &fill, bytes);
        }
    return QC_OK;
}

/* ---- pairs of expert and token ------------------------------------------------------------------------- */

/* Each token's k experts: there, and each once. */
static qc_status check_choice(
    qc_diag *diag, const char *where, const int32_t *ids, size_t tokens, size_t k, size_t experts)
{
    if (check_ids(diag, where, ids, tokens * k, experts) != QC_OK)
        return QC_ERROR;
    for (size_t t = 0; t < tokens; t++)
        for (size_t i = 1; i < k; i++)
            if (among(ids + t * k, i, ids[t * k + i]))
                return qc_error(diag, where, "token %zu names expert %d twice", t, (int)ids[t * k + i]);
    return QC_OK;
}

qc_status qc_host_expert_rows(qc_diag *diag, const char *where, const int32_t *ids, size_t tokens, size_t k,
    size_t experts, int32_t *rows)
{
    size_t count = tokens * k;
    size_t *next = qc_host_alloc(experts + 1, sizeof *next);
    int32_t *expert = rows, *token = rows + count, *slot = rows + 2 * count;
    qc_status status = next ? check_choice(diag, where, ids, tokens, k, experts)
                            : qc_error(diag, where, "out of memory for %zu experts", experts);

    if (status == QC_OK) {
        memset(next, 0, (experts + 1) * sizeof *next);
        for (size_t i = 0; i < count; i++)
            next[ids[i] + 1]++;
        for (size_t e = 0; e < experts; e++)
            next[e + 1] += next[e];
        for (size_t i = 0; i < count; i++) {
            size_t at = next[ids[i]]++;
            expert[at] = ids[i];
            token[at] = (int32_t)(i / k);
            slot[at] = (int32_t)(i % k);
        }
    }
    free(next);
    return status;
}

qc_status qc_host_expert_all_rows(qc_diag *diag, const char *where, const int32_t *ids, size_t tokens,
    size_t k, size_t experts, int32_t *rows)
{
    size_t count = experts * tokens;
    int32_t *slot = rows + 2 * count;

    if (check_choice(diag, where, ids, tokens, k, experts) != QC_OK)
        return QC_ERROR;
    for (size_t i = 0; i < count; i++) {
        rows[i] = (int32_t)(i / tokens);
        rows[count + i] = (int32_t)(i % tokens);
        slot[i] = -1;
    }
    for (size_t i = 0; i < tokens * k; i++)
        slot[(size_t)ids[i] * tokens + i / k] = (int32_t)(i % k);
    return QC_OK;
}

qc_status qc_host_expert_starts(
    qc_diag *diag, const char *where, const int32_t *rows, size_t count, size_t experts, size_t *starts)
{
    size_t row = 0;

    if (check_ids(diag, where, rows, count, experts) != QC_OK)
        return QC_ERROR;
    for (size_t e = 0; e < experts; e++) {
        starts[e] = row;
        while (row < count && rows[row] == (int32_t)e)
            row++;
    }
    starts[experts] = row;
    return row == count ? QC_OK : qc_error(diag, where, "the rows of experts are not in their order");
}

qc_status qc_host_gather_rows(const qc_host_engine *engine, qc_diag *diag, const char *where, const void *x,
    size_t x_rows, size_t row_bytes, const int32_t *ids, size_t count, void *y)
{
    int threads = threads_for(engine, count * row_bytes / 4);

    if (check_ids(diag, where, ids, count, x_rows) != QC_OK)
        return QC_ERROR;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (size_t r = 0; r < count; r++)
        memcpy((char *)y + r * row_bytes, (const char *)x + (size_t)ids[r] * row_bytes, row_bytes);
    return QC_OK;
}

qc_status qc_host_expert_scores(qc_diag *diag, const char *where, size_t elem_bytes, const void *w,
    size_t tokens, size_t k, const int32_t *rows, size_t count, bool unrouted_first, void *y)
{
    const int32_t *token = rows + count, *slot = rows + 2 * count;

    if (check_ids(diag, where, token, count, tokens) != QC_OK)
        return QC_ERROR;
    for (size_t r = 0; r < count; r++) {
        bool routed = slot[r] >= 0;
        size_t from = (size_t)token[r] * k + (routed ? (size_t)slot[r] : 0);
        char *to = (char *)y + r * elem_bytes;
        if (routed && (size_t)slot[r] >= k)
            return qc_error(diag, where, "slot %d is outside 0 to %zu", (int)slot[r], k - 1);
        if (routed || unrouted_first)
            memcpy(to, (const char *)w + from * elem_bytes, elem_bytes);
        else
            memset(to, 0, elem_bytes);
    }
    return QC_OK;
}

/* ---- sums ---------------------------------------------------------------------------------------------- */

/* The chosen rows of each token, in the order of experts: token t has lists[t * k + i], i < counts[t]. */
static qc_status list_rows(qc_diag *diag, const char *where, const qc_host_combination *c,
    const int32_t *rows, int32_t *lists, int32_t *counts)
{
    const int32_t *token = rows + c->rows, *slot = rows + 2 * c->rows;

    memset(counts, 0, c->tokens * sizeof *counts);
    for (size_t r = 0; r < c->rows; r++) {
        if (slot[r] < 0)
            continue;
        if (token[r] < 0 || (size_t)token[r] >= c->tokens || (size_t)counts[token[r]] >= c->k)
            return qc_error(diag, where, "token %d has more than %zu experts", (int)token[r], c->k);
        lists[(size_t)token[r] * c->k + (size_t)counts[token[r]]++] = (int32_t)r;
    }
    return QC_OK;
}

static void sum_piece(const qc_host_engine *engine, const qc_host_combination *c, const char *y,
    const int32_t *list, size_t count, size_t column, size_t columns, char *out)
{
    float sum[PIECE] = {0}, x[PIECE];

    for (size_t i = 0; i < count; i++) {
        size_t at = (size_t)list[i] * c->columns + column;
        engine->simd->load(c->dtype, y + at * qc_host_dtype_bytes(c->dtype), x, columns);
        engine->simd->binary(QC_HOST_ADD, sum, x, 1, sum, columns);
        if (!c->round_once)
            engine->simd->round(c->dtype, sum, columns);
    }
    engine->simd->store(c->dtype, sum, out, columns);
}

qc_status qc_host_expert_combine(const qc_host_engine *engine, qc_diag *diag, const char *where,
    const qc_host_combination *c, const void *y, const int32_t *rows, void *out)
{
    size_t pieces = qc_host_ceil_div(c->columns, PIECE), bytes = qc_host_dtype_bytes(c->dtype);
    int threads = threads_for(engine, c->tokens * c->k * c->columns);
    int32_t *lists = qc_host_alloc(c->tokens, (c->k + 1) * sizeof *lists), *counts;

    if (!lists)
        return qc_error(diag, where, "out of memory for the experts of %zu tokens", c->tokens);
    counts = lists + c->tokens * c->k;
    qc_status status = list_rows(diag, where, c, rows, lists, counts);
    if (status == QC_OK) {
#pragma omp parallel for schedule(static) num_threads(threads)
        for (size_t task = 0; task < c->tokens * pieces; task++) {
            size_t t = task / pieces, column = task % pieces * PIECE;
            sum_piece(engine, c, y, lists + t * c->k, (size_t)counts[t], column,
                qc_host_min(c->columns - column, PIECE), (char *)out + (t * c->columns + column) * bytes);
        }
    }
    free(lists);
    return status;
}
