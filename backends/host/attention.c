/* SPDX-License-Identifier: MIT
 *
 * attention.c - eager attention in strips of query rows, with the roundings of the eager code.
 *
 * For each strip the scores of all keys that any of its rows sees are computed whole, rounded, scaled and
 * rounded; then row maximum, exponentials, their sum, and the quotients, rounded; then the product with the
 * values. No running rescale (FlashAttention, Dao et al., 2022) is used, since it would round elsewhere. Keys
 * are packed once into panels of 16 keys ([head_size][16]) and values into panels of 16 columns ([keys][16]),
 * so both products are simd_gemm.c's: one chain of sums an element, in ascending order of the head's elements
 * and of the keys. A key that a row does not see has probability 0 and adds nothing to the chain, so neither
 * strips nor their bounds show in the bits.
 */
#include <stdlib.h>

#include "backends/host/engine.h"
#include "ir/dtype/codec.h"

enum {
    STRIP_ROWS = 48, /* a multiple of the register blocks' rows (6 and 8) */
    LONG_STRIP_ROWS = 24,
    LONG_KEYS = 1024, /* above, a strip of scores would leave the second-level cache */
    PACK_KEYS = 64,
    A_PAD = 16,
    SERIAL_PRODUCTS = 65536 /* less work than this is not worth waking threads for */
};

static const size_t max_packed_bytes = (size_t)64 << 20;

typedef struct job {
    const qc_host_engine *engine;
    const qc_host_attention *at;
    qc_dtype scores_dtype, probs_dtype;
    size_t value_size, value_panels, key_panels, group; /* group: query heads a key head */
    size_t strip_rows, strips;
    float *keys, *values;          /* packed, heads_now heads */
    size_t key_elems, value_elems; /* of one packed head */
    size_t first_head, heads_now;
    float *scratch; /* thread_elems a thread */
    size_t thread_elems;
} job;

static size_t round_up(size_t x, size_t to)
{
    return qc_host_ceil_div(x, to) * to;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static int threads_for(const qc_host_engine *engine, const qc_host_attention *at)
{
    double products = (double)at->queries * (double)at->keys * (double)(at->query_heads * at->head_size);
    return products < SERIAL_PRODUCTS ? 1 : qc_host_threads(engine);
}

static void plan(job *j, const qc_host_engine *engine, const qc_host_attention *at, int threads)
{
    *j = (job){.engine = engine, .at = at};
    j->scores_dtype = at->scores_dtype ? at->scores_dtype : at->dtype;
    j->probs_dtype = at->probs_dtype ? at->probs_dtype : at->dtype;
    j->value_size = at->value_size ? at->value_size : at->head_size;
    j->value_panels = qc_host_ceil_div(j->value_size, QC_HOST_PANEL);
    j->key_panels = qc_host_ceil_div(at->keys, QC_HOST_PANEL);
    j->group = at->query_heads / at->kv_heads;
    j->strip_rows = qc_host_min(at->queries, at->keys > LONG_KEYS ? LONG_STRIP_ROWS : STRIP_ROWS);
    j->strips = qc_host_ceil_div(at->queries, j->strip_rows);
    j->key_elems = j->key_panels * QC_HOST_PANEL * at->head_size;
    j->value_elems = round_up(at->keys, QC_HOST_PANEL) * j->value_panels * QC_HOST_PANEL;
    size_t head_bytes = (j->key_elems + j->value_elems) * sizeof(float);
    j->heads_now = threads == 1 ? 1 : larger(1, qc_host_min(at->kv_heads, max_packed_bytes / head_bytes));
    j->thread_elems = round_up(j->strip_rows * (at->head_size + A_PAD + j->key_panels * QC_HOST_PANEL +
                                                   A_PAD + j->value_panels * QC_HOST_PANEL) +
                                   larger(at->head_size, j->value_panels * QC_HOST_PANEL) + 256,
        16);
}

size_t qc_host_attention_bytes(const qc_host_engine *engine, const qc_host_attention *attention)
{
    job j;
    int threads = threads_for(engine, attention);

    if (!attention->queries || !attention->keys || !attention->kv_heads)
        return 0;
    plan(&j, engine, attention, threads);
    return (j.heads_now * (j.key_elems + j.value_elems) + (size_t)threads * j.thread_elems) * sizeof(float);
}

/* The values of all 256 codes of one head. */
static void decode_codes(const job *j, const qc_host_heads *heads, size_t head, float *table)
{
    uint8_t codes[256];
    float factor = heads->scale[head * heads->scale_stride];

    for (size_t i = 0; i < 256; i++)
        codes[i] = (uint8_t)i;
    qc_decode_f32(heads->dtype, codes, table, 256);
    j->engine->simd->scale(table, 256, factor);
    j->engine->simd->round(j->at->dtype, table, 256);
}

static void load_row(const job *j, const qc_host_heads *heads, size_t token, size_t head, size_t size,
    const float *table, float *dst)
{
    size_t offset = token * heads->token_stride + head * heads->head_stride;

    if (heads->scale) {
        const uint8_t *codes = (const uint8_t *)heads->data + offset;
        for (size_t i = 0; i < size; i++)
            dst[i] = table[codes[i]];
    } else {
        j->engine->simd->load(
            heads->dtype, (const char *)heads->data + offset * qc_host_dtype_bytes(heads->dtype), dst, size);
    }
}

/* Packs keys first .. first + PACK_KEYS - 1 of one head, values too; what lies behind the last key is zeros.
 */
static void pack_task(const job *j, size_t slot, size_t first, float *scratch)
{
    const qc_host_attention *at = j->at;
    size_t head = j->first_head + slot, padded = j->key_panels * QC_HOST_PANEL;
    float *table = scratch, *row = scratch + 256;
    float *keys = j->keys + slot * j->key_elems, *values = j->values + slot * j->value_elems;
    size_t end = qc_host_min(first + PACK_KEYS, padded), columns = j->value_panels * QC_HOST_PANEL;

    if (at->k.scale)
        decode_codes(j, &at->k, head, table);
    memset(row, 0, larger(at->head_size, columns) * sizeof *row);
    for (size_t key = first; key < end; key++) {
        float *panel = keys + key / QC_HOST_PANEL * QC_HOST_PANEL * at->head_size + key % QC_HOST_PANEL;
        if (key < at->keys)
            load_row(j, &at->k, key, head, at->head_size, table, row);
        else
            memset(row, 0, at->head_size * sizeof *row);
        for (size_t d = 0; d < at->head_size; d++)
            panel[d * QC_HOST_PANEL] = row[d];
    }
    if (at->v.scale)
        decode_codes(j, &at->v, head, table);
    memset(row, 0, columns * sizeof *row);
    for (size_t key = first; key < end; key++) {
        if (key < at->keys)
            load_row(j, &at->v, key, head, j->value_size, table, row);
        else
            memset(row, 0, j->value_size * sizeof *row);
        for (size_t p = 0; p < j->value_panels; p++)
            memcpy(values + (p * padded + key) * QC_HOST_PANEL, row + p * QC_HOST_PANEL,
                QC_HOST_PANEL * sizeof *row);
    }
}

/* The keys that query `i` sees: [*first, *end). */
static void visible(const qc_host_attention *at, size_t i, size_t *first, size_t *end)
{
    size_t position = at->past + i;

    *first = at->window && position + 1 > at->window ? position + 1 - at->window : 0;
    *end = at->causal ? position + 1 : at->keys;
}

/* Scores of one row over [lo, hi) to rounded probabilities, 0 where the row does not see. */
static void probabilities(const job *j, float *scores, size_t i, size_t lo, size_t hi)
{
    const qc_host_simd *simd = j->engine->simd;
    size_t first, end;

    visible(j->at, i, &first, &end);
    float *x = scores + (first - lo);
    size_t count = end - first;
    simd->round(j->scores_dtype, x, count);
    simd->scale(x, count, j->at->scale);
    simd->round(j->scores_dtype, x, count);
    float sum = simd->exp_sum(x, count, simd->max(x, count));
    simd->divide(x, count, sum);
    simd->round(j->probs_dtype, x, count);
    memset(scores, 0, (first - lo) * sizeof *scores);
    memset(scores + (end - lo), 0, (hi - end) * sizeof *scores);
}

static void strip_task(const job *j, size_t slot, size_t member, size_t strip, float *scratch)
{
    const qc_host_attention *at = j->at;
    const qc_host_simd *simd = j->engine->simd;
    size_t head = (j->first_head + slot) * j->group + member, row = strip * j->strip_rows;
    size_t rows = qc_host_min(at->queries - row, j->strip_rows), padded = j->key_panels * QC_HOST_PANEL;
    size_t lo, hi, ignored, q_stride = at->head_size + A_PAD, columns = j->value_panels * QC_HOST_PANEL;
    float *table = scratch, *q = scratch + 256, *out = q + j->strip_rows * q_stride;
    float *scores = out + j->strip_rows * columns;

    visible(at, row, &lo, &ignored);
    visible(at, row + rows - 1, &ignored, &hi);
    lo = lo / QC_HOST_PANEL * QC_HOST_PANEL;
    hi = round_up(hi, QC_HOST_PANEL);
    size_t stride = hi - lo + A_PAD;
    if (at->q.scale)
        decode_codes(j, &at->q, head, table);
    for (size_t i = 0; i < rows; i++)
        load_row(j, &at->q, row + i, head, at->head_size, table, q + i * q_stride);
    qc_host_product product = {.rows = rows,
        .panels = (hi - lo) / QC_HOST_PANEL,
        .depth = at->head_size,
        .a = q,
        .a_stride = q_stride,
        .b_dtype = QC_F32,
        .b = j->keys + slot * j->key_elems + lo * at->head_size,
        .panel_stride = at->head_size * QC_HOST_PANEL,
        .c = scores,
        .c_stride = stride};
    simd->product(&product);
    for (size_t i = 0; i < rows; i++)
        probabilities(j, scores + i * stride, row + i, lo, hi);
    for (size_t k = lo; k < hi; k += QC_HOST_DEPTH_STEP) {
        product = (qc_host_product){.rows = rows,
            .panels = j->value_panels,
            .depth = qc_host_min(hi - k, QC_HOST_DEPTH_STEP),
            .a = scores + (k - lo),
            .a_stride = stride,
            .b_dtype = QC_F32,
            .b = j->values + slot * j->value_elems + k * QC_HOST_PANEL,
            .panel_stride = padded * QC_HOST_PANEL,
            .c = out,
            .c_stride = columns,
            .add = k > lo};
        simd->product(&product);
    }
    for (size_t i = 0; i < rows; i++) {
        size_t offset = (row + i) * at->out_token_stride + head * at->out_head_stride;
        simd->store(at->dtype, out + i * columns, (char *)at->out + offset * qc_host_dtype_bytes(at->dtype),
            j->value_size);
    }
}

static void run_heads(const job *j, int threads)
{
    size_t packs = qc_host_ceil_div(j->key_panels * QC_HOST_PANEL, PACK_KEYS), heads = j->heads_now;
    size_t tasks = j->strips * heads * j->group;

#pragma omp parallel num_threads(threads)
    {
        float *mine = j->scratch + (size_t)qc_host_thread_index() * j->thread_elems;
#pragma omp for schedule(static)
        for (size_t t = 0; t < heads * packs; t++)
            pack_task(j, t / packs, t % packs * PACK_KEYS, mine);
            /* the last strips see the most keys: they go first */
#pragma omp for schedule(dynamic)
        for (size_t t = 0; t < tasks; t++) {
            size_t strip = j->strips - 1 - t / (heads * j->group), head = t % (heads * j->group);
            strip_task(j, head / j->group, head % j->group, strip, mine);
        }
    }
}

static bool is_heads_type(const qc_host_heads *heads)
{
    if (heads->pages || heads->scales.dtype || heads->global != 0.0f || heads->scale_column_stride)
        return false;
    if (heads->scale)
        return heads->dtype == QC_F8E4M3 || heads->dtype == QC_F8E5M2 || heads->dtype == QC_I8;
    return qc_host_is_value_dtype(heads->dtype);
}

static qc_status check(qc_diag *diag, const char *where, const qc_host_attention *at)
{
    if (!at->query_heads || !at->kv_heads || at->query_heads % at->kv_heads || !at->head_size)
        return qc_error(diag, where, "attention of %zu query heads on %zu key heads of %zu elements",
            at->query_heads, at->kv_heads, at->head_size);
    if (at->causal ? at->keys != at->past + at->queries : !at->keys)
        return qc_error(
            diag, where, "attention of %zu queries behind %zu on %zu keys", at->queries, at->past, at->keys);
    if (!qc_host_is_value_dtype(at->dtype) || at->probs_codes || !is_heads_type(&at->q) ||
        !is_heads_type(&at->k) || !is_heads_type(&at->v))
        return qc_error(diag, where, "the host has no attention of %s, %s, %s in %s",
            qc_dtype_name(at->q.dtype), qc_dtype_name(at->k.dtype), qc_dtype_name(at->v.dtype),
            qc_dtype_name(at->dtype));
    if (!at->causal && at->window && at->past + at->queries > at->keys + at->window - 1)
        return qc_error(diag, where, "some query sees no key");
    return QC_OK;
}

qc_status qc_host_attention_run(
    const qc_host_engine *engine, qc_diag *diag, const char *where, const qc_host_attention *attention)
{
    job j;
    int threads = threads_for(engine, attention);

    if (attention->queries == 0)
        return QC_OK;
    if (check(diag, where, attention) != QC_OK)
        return QC_ERROR;
    plan(&j, engine, attention, threads);
    size_t heads = j.heads_now;
    j.keys = qc_host_alloc(heads * j.key_elems, sizeof(float));
    j.values = qc_host_alloc(heads * j.value_elems, sizeof(float));
    j.scratch = qc_host_alloc((size_t)threads * j.thread_elems, sizeof(float));
    qc_status status = QC_OK;
    if (!j.keys || !j.values || !j.scratch)
        status = qc_error(diag, where, "out of memory for attention over %zu keys", attention->keys);
    for (; status == QC_OK && j.first_head < attention->kv_heads; j.first_head += heads) {
        j.heads_now = qc_host_min(heads, attention->kv_heads - j.first_head);
        run_heads(&j, threads);
    }
    free(j.keys);
    free(j.values);
    free(j.scratch);
    return status;
}
