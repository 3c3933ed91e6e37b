/* SPDX-License-Identifier: MIT
 *
 * attention.c - eager attention in blocks of query rows, with the roundings of the eager code.
 *
 * A block is some queries of all heads that read one key head. Its scores on all keys that any of its rows sees
 * are computed whole, rounded, scaled and rounded; then row maximum, exponentials, their sum, and the quotients,
 * rounded; then the product with the values. No running rescale (FlashAttention, Dao et al., 2022) is used,
 * since it would round elsewhere. Keys and values are widened a chunk of tokens at a time, keys into panels of
 * 16 keys ([head_size][16]) and values into panels of 16 columns ([tokens][16]), so both products are
 * simd_gemm.c's: one chain of sums an element, in ascending order of the head's elements and of the keys. A key
 * that a row does not see has probability 0 and adds nothing to the chain, so neither blocks, nor chunks, nor
 * their bounds show in the bits.
 *
 * Two schedules. With work enough, a thread takes a block and does all of it; a block has as many rows as make
 * widening cheap beside the products and keep the scores in the second-level cache, if both can be had. Where a
 * key head has one block only (decoding), all threads share its chunks of keys, then its rows, then the columns
 * of its values.
 */
#include <stdlib.h>

#include "backends/host/heads.h"
#include "ir/dtype/codec.h"

enum {
    CHUNK = QC_HOST_CHUNK,
    STRIP_ROWS = 48,  /* of a product; a multiple of the register blocks' rows (6 and 8) */
    USUAL_ROWS = 192, /* of a block */
    CHEAP_ROWS = 96,  /* fewer widen the keys too often */
    SPLIT_ROWS = 24,  /* blocks are not made smaller than this for the sake of threads */
    A_PAD = 16,
    SERIAL_PRODUCTS = 65536 /* less work than this is not worth waking threads for */
};

static const size_t near_bytes = (size_t)384 << 10, most_bytes = (size_t)16 << 20; /* of scores */

/* What a thread works in. */
typedef struct worker {
    qc_host_chunk chunk;
    void *panels, *zeros; /* a widened chunk; a row of no values */
} worker;

/* The rows of one key head and some queries: row i * group + m is query first + i, member m. */
typedef struct block {
    size_t kv_head, first, queries;
    size_t lo, hi, stride; /* keys of the scores' columns: multiples of CHUNK */
    float *q, *scores, *out, *sums;
} block;

typedef struct job {
    const qc_host_engine *engine;
    const qc_host_attention *at;
    qc_host_view q, k, v;
    qc_dtype scores_dtype, probs_dtype;
    size_t value_size, value_panels, group; /* group: query heads a key head */
    size_t block_queries, blocks;           /* of a key head */
    size_t strip_queries;
    size_t q_stride, most_span;
    size_t block_elems;                                        /* f32 of one block */
    size_t value_bytes, factor_bytes, panel_bytes, zero_bytes; /* of one worker */
    size_t threads, blocks_now;                                /* blocks that are held at once */
} job;

static size_t round_up(size_t x, size_t to)
{
    return qc_host_ceil_div(x, to) * to;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* The keys that query `i` sees: [*first, *end). */
static void visible(const qc_host_attention *at, size_t i, size_t *first, size_t *end)
{
    size_t position = at->past + i;

    *first = at->window && position + 1 > at->window ? position + 1 - at->window : 0;
    if (at->chunk)
        *first = larger(*first, position / at->chunk * at->chunk);
    *end = at->causal ? position + 1 : at->keys;
    if (at->chunk)
        *end = qc_host_min(*end, (position / at->chunk + 1) * at->chunk);
    *end = qc_host_min(*end, at->keys);
}

/* ---- plan ---------------------------------------------------------------------------------------------- */

/* Columns that the scores of `queries` neighbours may take. */
static size_t span_of(const qc_host_attention *at, size_t queries)
{
    size_t span = at->keys;
    if (at->window && at->window < at->keys)
        span = qc_host_min(span, at->causal ? at->window + queries : at->keys);
    if (at->chunk && at->chunk < at->keys)
        span = qc_host_min(span, at->chunk + queries + at->chunk);
    return span + 2 * (size_t)CHUNK;
}

static void plan_blocks(job *j)
{
    const qc_host_attention *at = j->at;
    size_t row_bytes = span_of(at, USUAL_ROWS / 2) * sizeof(float);
    size_t rows = qc_host_min(USUAL_ROWS, near_bytes / row_bytes);
    size_t wanted = qc_host_ceil_div(2 * j->threads, at->kv_heads);

    rows = qc_host_min(larger(rows, CHEAP_ROWS), larger(1, most_bytes / row_bytes));
    size_t queries = qc_host_min(at->queries, larger(1, rows / j->group));
    if (j->threads > 1 && qc_host_ceil_div(at->queries, queries) < wanted)
        queries = qc_host_min(
            queries, larger(qc_host_ceil_div(at->queries, wanted), qc_host_ceil_div(SPLIT_ROWS, j->group)));
    j->block_queries = queries;
    j->blocks = qc_host_ceil_div(at->queries, queries);
    j->most_span = round_up(span_of(at, queries), CHUNK) + A_PAD;
    size_t block_rows = queries * j->group;
    j->block_elems = round_up(
        block_rows * (j->q_stride + j->most_span + j->value_panels * QC_HOST_PANEL + 1), QC_HOST_PANEL);
    j->blocks_now = j->threads;
    if (j->blocks == 1 && j->threads > 1)
        j->blocks_now = qc_host_min(at->kv_heads, larger(1, most_bytes / (j->block_elems * sizeof(float))));
}

static size_t threads_for(const qc_host_engine *engine, const qc_host_attention *at)
{
    double products = (double)at->queries * (double)at->keys * (double)(at->query_heads * at->head_size);
    return products < SERIAL_PRODUCTS ? 1 : (size_t)qc_host_threads(engine);
}

/* Everything but the views, which must be there. */
static void plan(job *j, const qc_host_engine *engine, const qc_host_attention *at)
{
    j->engine = engine;
    j->at = at;
    j->threads = threads_for(engine, at);
    j->scores_dtype = at->scores_dtype ? at->scores_dtype : at->dtype;
    j->probs_dtype = at->probs_dtype ? at->probs_dtype : at->dtype;
    j->value_panels = qc_host_ceil_div(j->value_size, QC_HOST_PANEL);
    j->group = at->query_heads / at->kv_heads;
    j->q_stride = at->head_size + A_PAD;
    j->strip_queries = larger(1, STRIP_ROWS / j->group);
    plan_blocks(j);
    const qc_host_view *views[] = {&j->q, &j->k, &j->v};
    for (int i = 0; i < 3; i++) {
        j->value_bytes = larger(j->value_bytes, round_up(qc_host_view_value_bytes(views[i]), 64));
        j->factor_bytes =
            larger(j->factor_bytes, round_up(qc_host_view_factor_elems(views[i]) * sizeof(float), 64));
    }
    size_t columns = larger(at->head_size * qc_host_dtype_bytes(j->k.dtype),
        j->value_panels * QC_HOST_PANEL * qc_host_dtype_bytes(j->v.dtype));
    j->panel_bytes = round_up(CHUNK * columns, 64);
    j->zero_bytes = round_up(at->head_size * sizeof(float), 64);
}

static size_t worker_bytes(const job *j)
{
    return j->value_bytes + j->factor_bytes + j->panel_bytes + j->zero_bytes;
}

static void make_views(job *j, const qc_host_engine *engine, const qc_host_attention *at)
{
    j->value_size = at->value_size ? at->value_size : at->head_size;
    qc_host_view_init(engine, &at->q, at->head_size, at->dtype, &j->q);
    qc_host_view_init(engine, &at->k, at->head_size, at->dtype, &j->k);
    qc_host_view_init(engine, &at->v, j->value_size, at->dtype, &j->v);
}

size_t qc_host_attention_bytes(const qc_host_engine *engine, const qc_host_attention *attention)
{
    job j = {0};

    if (!attention->queries || !attention->keys || !attention->kv_heads)
        return 0;
    make_views(&j, engine, attention);
    plan(&j, engine, attention);
    return j.blocks_now * j.block_elems * sizeof(float) + j.threads * worker_bytes(&j);
}

/* ---- steps of a block ---------------------------------------------------------------------------------- */

static block block_of(const job *j, size_t kv_head, size_t index, float *memory)
{
    const qc_host_attention *at = j->at;
    size_t ignored, rows = j->block_queries * j->group;
    block b = {.kv_head = kv_head, .first = index * j->block_queries};

    b.queries = qc_host_min(at->queries - b.first, j->block_queries);
    visible(at, b.first, &b.lo, &ignored);
    visible(at, b.first + b.queries - 1, &ignored, &b.hi);
    b.lo = b.lo / CHUNK * CHUNK;
    b.hi = round_up(b.hi, CHUNK);
    b.stride = b.hi - b.lo + A_PAD;
    b.q = memory;
    b.out = b.q + rows * j->q_stride;
    b.sums = b.out + rows * j->value_panels * QC_HOST_PANEL;
    b.scores = b.sums + rows;
    return b;
}

static void load_queries(const job *j, const block *b, worker *w)
{
    const qc_host_attention *at = j->at;

    for (size_t m = 0; m < j->group; m++)
        for (size_t i = 0; i < b->queries; i += CHUNK) {
            size_t count = qc_host_min(b->queries - i, CHUNK);
            qc_host_view_rows(&j->q, b->kv_head * j->group + m, b->first + i, count, &w->chunk);
            for (size_t l = 0; l < count; l++)
                j->engine->simd->load(j->q.dtype, w->chunk.rows[l],
                    b->q + ((i + l) * j->group + m) * j->q_stride, at->head_size);
        }
}

/* The strip that starts at query i of the block: gives how many queries it has, and narrows the keys [*lo, *hi)
 * to those that any of them sees. */
static size_t strip_of(const job *j, const block *b, size_t i, size_t *lo, size_t *hi)
{
    size_t queries = qc_host_min(b->queries - i, j->strip_queries), first, end, ignored;

    visible(j->at, b->first + i, &first, &ignored);
    visible(j->at, b->first + i + queries - 1, &ignored, &end);
    *lo = larger(*lo, first);
    *hi = qc_host_min(*hi, end);
    return queries;
}

/* Scores on one chunk of keys, of the rows that see any of it. */
static void score_chunk(const job *j, const block *b, size_t chunk, worker *w)
{
    const qc_host_attention *at = j->at;
    size_t count = qc_host_min(at->keys - chunk, CHUNK), bytes = qc_host_dtype_bytes(j->k.dtype);

    qc_host_view_rows(&j->k, b->kv_head, chunk, count, &w->chunk);
    for (size_t l = count; l < round_up(count, QC_HOST_PANEL); l++)
        w->chunk.rows[l] = w->zeros;
    for (size_t l = 0; l < count; l += QC_HOST_PANEL)
        j->engine->simd->transpose(
            j->k.dtype, w->chunk.rows + l, at->head_size, (char *)w->panels + l * at->head_size * bytes);
    for (size_t i = 0, queries; i < b->queries; i += queries) {
        size_t lo = chunk, hi = chunk + count;
        queries = strip_of(j, b, i, &lo, &hi);
        if (lo >= hi)
            continue;
        lo = lo / QC_HOST_PANEL * QC_HOST_PANEL;
        const qc_host_product product = {.rows = queries * j->group,
            .panels = qc_host_ceil_div(hi - lo, QC_HOST_PANEL),
            .depth = at->head_size,
            .a = b->q + i * j->group * j->q_stride,
            .a_stride = j->q_stride,
            .b_dtype = j->k.dtype,
            .b = (const char *)w->panels + (lo - chunk) * at->head_size * bytes,
            .panel_stride = at->head_size * QC_HOST_PANEL,
            .c = b->scores + i * j->group * b->stride + (lo - b->lo),
            .c_stride = b->stride};
        j->engine->simd->product(&product);
    }
}

/* The codes of unnormalised probabilities, as numbers. */
static void round_to_codes(const job *j, float *x, size_t count)
{
    uint8_t codes[256];

    j->engine->simd->divide(x, count, j->at->probs_scale);
    for (size_t i = 0; i < count; i += sizeof codes) {
        size_t n = qc_host_min(count - i, sizeof codes);
        qc_encode_f32(j->at->probs_codes, x + i, codes, n);
        qc_decode_f32(j->at->probs_codes, codes, x + i, n);
    }
}

/* D(tanh(D(x / softcap)) * softcap), tanh rounded too. */
static void cap_scores(const job *j, float *x, size_t count)
{
    const qc_host_simd *simd = j->engine->simd;

    simd->divide(x, count, j->at->softcap);
    simd->round(j->scores_dtype, x, count);
    simd->unary(QC_HOST_TANH, x, x, count);
    simd->round(j->scores_dtype, x, count);
    simd->scale(x, count, j->at->softcap);
    simd->round(j->scores_dtype, x, count);
}

/* exp(x - top), where top is the largest of x and, if there is one, the head's sink; the sum of them all. */
static float exponentials(const job *j, size_t head, float *x, size_t count)
{
    const qc_host_simd *simd = j->engine->simd;
    float top = simd->max(x, count);

    if (!j->at->sinks)
        return simd->exp_sum(x, count, top);
    float sink = j->at->sinks[head];
    top = sink > top ? sink : top;
    float sum = simd->exp_sum(x, count, top);
    return sum + simd->exp_sum(&sink, 1, top);
}

/* Scores of one row to rounded probabilities, 0 where it does not see a key that others of its strip see. */
static void probabilities(const job *j, const block *b, size_t row)
{
    const qc_host_simd *simd = j->engine->simd;
    size_t first, end, i = row / j->group, lo = 0, hi = j->at->keys;

    visible(j->at, b->first + i, &first, &end);
    strip_of(j, b, i / j->strip_queries * j->strip_queries, &lo, &hi);
    float *scores = b->scores + row * b->stride, *x = scores + (first - b->lo);
    size_t count = end - first;
    simd->round(j->scores_dtype, x, count);
    simd->scale(x, count, j->at->scale);
    simd->round(j->scores_dtype, x, count);
    if (j->at->softcap > 0.0f)
        cap_scores(j, x, count);
    b->sums[row] = exponentials(j, b->kv_head * j->group + row % j->group, x, count);
    if (j->at->probs_codes) {
        round_to_codes(j, x, count);
    } else {
        simd->divide(x, count, b->sums[row]);
        simd->round(j->probs_dtype, x, count);
    }
    memset(scores + (lo - b->lo), 0, (first - lo) * sizeof *scores);
    memset(scores + (end - b->lo), 0, (hi - end) * sizeof *scores);
}

/* Product with one chunk of values, some of their panels, of the rows that see any of it. */
static void value_chunk(const job *j, const block *b, size_t chunk, size_t panel, size_t panels, worker *w)
{
    const qc_host_attention *at = j->at;
    size_t count = qc_host_min(at->keys - chunk, CHUNK), column = panel * QC_HOST_PANEL;
    size_t columns = qc_host_min(j->value_size - column, panels * QC_HOST_PANEL);
    size_t all = j->value_panels * QC_HOST_PANEL;

    qc_host_view_panels(&j->v, b->kv_head, chunk, count, column, columns, &w->chunk, w->panels);
    for (size_t i = 0, queries; i < b->queries; i += queries) {
        size_t lo = chunk, hi = chunk + count;
        queries = strip_of(j, b, i, &lo, &hi);
        if (lo >= hi)
            continue;
        const qc_host_product product = {.rows = queries * j->group,
            .panels = panels,
            .depth = hi - lo,
            .a = b->scores + i * j->group * b->stride + (lo - b->lo),
            .a_stride = b->stride,
            .b_dtype = j->v.dtype,
            .b = (const char *)w->panels + (lo - chunk) * QC_HOST_PANEL * qc_host_dtype_bytes(j->v.dtype),
            .panel_stride = (size_t)CHUNK * QC_HOST_PANEL,
            .c = b->out + i * j->group * all + column,
            .c_stride = all,
            .add = true};
        j->engine->simd->product(&product);
    }
}

/* The block's output in some panels of columns: all chunks of values, and the end of it. */
static void finish(const job *j, const block *b, size_t panel, size_t panels, worker *w)
{
    const qc_host_attention *at = j->at;
    const qc_host_simd *simd = j->engine->simd;
    size_t rows = b->queries * j->group, all = j->value_panels * QC_HOST_PANEL,
           column = panel * QC_HOST_PANEL;
    size_t columns = qc_host_min(j->value_size - column, panels * QC_HOST_PANEL);

    for (size_t r = 0; r < rows; r++)
        memset(b->out + r * all + column, 0, panels * QC_HOST_PANEL * sizeof *b->out);
    for (size_t chunk = b->lo; chunk < b->hi; chunk += CHUNK)
        value_chunk(j, b, chunk, panel, panels, w);
    for (size_t r = 0; r < rows; r++) {
        size_t head = b->kv_head * j->group + r % j->group;
        size_t offset =
            (b->first + r / j->group) * at->out_token_stride + head * at->out_head_stride + column;
        float *out = b->out + r * all + column;
        if (at->probs_codes) {
            simd->scale(out, columns, at->probs_scale);
            simd->divide(out, columns, b->sums[r]);
        }
        simd->store(at->dtype, out, (char *)at->out + offset * qc_host_dtype_bytes(at->dtype), columns);
    }
}

/* ---- schedules ----------------------------------------------------------------------------------------- */

static worker worker_of(const job *j, char *memory)
{
    worker w = {.panels = memory, .zeros = memory + j->panel_bytes};
    w.chunk.values = memory + j->panel_bytes + j->zero_bytes;
    w.chunk.factors = (float *)(void *)(memory + j->panel_bytes + j->zero_bytes + j->value_bytes);
    memset(w.zeros, 0, j->zero_bytes);
    return w;
}

static void run_block(const job *j, size_t kv_head, size_t index, float *memory, worker *w)
{
    block b = block_of(j, kv_head, index, memory);

    load_queries(j, &b, w);
    for (size_t chunk = b.lo; chunk < b.hi; chunk += CHUNK)
        score_chunk(j, &b, chunk, w);
    for (size_t r = 0; r < b.queries * j->group; r++)
        probabilities(j, &b, r);
    finish(j, &b, 0, j->value_panels, w);
}

static void run_private(const job *j, float *blocks, char *workers)
{
    size_t heads = j->at->kv_heads, tasks = j->blocks * heads;

#pragma omp parallel num_threads((int)j->threads)
    {
        size_t thread = (size_t)qc_host_thread_index();
        worker w = worker_of(j, workers + thread * worker_bytes(j));
        /* the last blocks see the most keys: they go first */
#pragma omp for schedule(dynamic)
        for (size_t t = 0; t < tasks; t++)
            run_block(j, t % heads, j->blocks - 1 - t / heads, blocks + thread * j->block_elems, &w);
    }
}

/* One block a key head: heads first .. first + count - 1. */
static void run_shared(const job *j, size_t first, size_t count, float *blocks, char *workers)
{
    const block shape = block_of(j, first, 0, blocks);
    size_t chunks = (shape.hi - shape.lo) / CHUNK, rows = shape.queries * j->group;
    size_t panels = larger(2, qc_host_ceil_div(j->value_panels * count, 2 * j->threads));
    size_t parts = qc_host_ceil_div(j->value_panels, panels);

#pragma omp parallel num_threads((int)j->threads)
    {
        worker w = worker_of(j, workers + (size_t)qc_host_thread_index() * worker_bytes(j));
#pragma omp for schedule(static)
        for (size_t h = 0; h < count; h++) {
            block b = block_of(j, first + h, 0, blocks + h * j->block_elems);
            load_queries(j, &b, &w);
        }
#pragma omp for schedule(dynamic, 4)
        for (size_t t = 0; t < count * chunks; t++) {
            block b = block_of(j, first + t / chunks, 0, blocks + t / chunks * j->block_elems);
            score_chunk(j, &b, b.lo + t % chunks * CHUNK, &w);
        }
#pragma omp for schedule(static)
        for (size_t t = 0; t < count * rows; t++) {
            block b = block_of(j, first + t / rows, 0, blocks + t / rows * j->block_elems);
            probabilities(j, &b, t % rows);
        }
#pragma omp for schedule(dynamic)
        for (size_t t = 0; t < count * parts; t++) {
            block b = block_of(j, first + t / parts, 0, blocks + t / parts * j->block_elems);
            size_t panel = t % parts * panels;
            finish(j, &b, panel, qc_host_min(panels, j->value_panels - panel), &w);
        }
    }
}

static qc_status check(qc_diag *diag, const char *where, const qc_host_attention *at)
{
    if (!at->query_heads || !at->kv_heads || at->query_heads % at->kv_heads || !at->head_size)
        return qc_error(diag, where, "attention of %zu query heads on %zu key heads of %zu elements",
            at->query_heads, at->kv_heads, at->head_size);
    if (at->causal ? at->keys != at->past + at->queries : !at->keys)
        return qc_error(
            diag, where, "attention of %zu queries behind %zu on %zu keys", at->queries, at->past, at->keys);
    if (!qc_host_is_value_dtype(at->dtype))
        return qc_error(diag, where, "the host has no attention in %s", qc_dtype_name(at->dtype));
    if (at->probs_codes && at->probs_codes != QC_F8E4M3 && at->probs_codes != QC_F8E5M2 &&
        at->probs_codes != QC_I8)
        return qc_error(diag, where, "the host has no probabilities in %s", qc_dtype_name(at->probs_codes));
    if (at->probs_codes && !(at->probs_scale > 0.0f))
        return qc_error(diag, where, "the scale of probabilities is not positive");
    if (at->chunk && !at->causal && at->past + at->queries > at->keys)
        return qc_error(diag, where, "chunks of %zu tokens have queries behind the last key", at->chunk);
    if (!at->causal && at->window && at->past + at->queries > at->keys + at->window - 1)
        return qc_error(diag, where, "some query sees no key");
    return QC_OK;
}

qc_status qc_host_attention_run(
    const qc_host_engine *engine, qc_diag *diag, const char *where, const qc_host_attention *attention)
{
    job j = {0};

    if (attention->queries == 0)
        return QC_OK;
    if (check(diag, where, attention) != QC_OK)
        return QC_ERROR;
    make_views(&j, engine, attention);
    if (qc_host_view_check(&j.q, diag, where, "q") != QC_OK ||
        qc_host_view_check(&j.k, diag, where, "k") != QC_OK ||
        qc_host_view_check(&j.v, diag, where, "v") != QC_OK)
        return QC_ERROR;
    plan(&j, engine, attention);
    float *blocks = qc_host_alloc(j.blocks_now * j.block_elems, sizeof(float));
    char *workers = qc_host_alloc(j.threads, worker_bytes(&j));
    qc_status status = QC_OK;
    if (!blocks || !workers)
        status = qc_error(diag, where, "out of memory for attention over %zu keys", attention->keys);
    else if (j.blocks > 1 || j.threads == 1)
        run_private(&j, blocks, workers);
    else
        for (size_t head = 0; head < attention->kv_heads; head += j.blocks_now)
            run_shared(&j, head, qc_host_min(j.blocks_now, attention->kv_heads - head), blocks, workers);
    free(blocks);
    free(workers);
    return status;
}
