/* SPDX-License-Identifier: MIT
 *
 * weights_run.c - chunks of rows on all threads; see weights_internal.h.
 *
 * Threads take chunks from one list over all jobs, in order; a chunk is read from the file (pread), computed and
 * handed on by one thread in memory of its own, so the result does not depend on how chunks are dealt out, and reading,
 * computing and writing overlap. Diagnostics are not for threads: a failure is recorded, the one of the lowest chunk
 * wins, and the caller's thread words it. Chunks behind a failure are not begun.
 */
#include "runtime/weights_internal.h"

#include <stdlib.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif

/* About what a core's own cache holds of a chunk's elements, its codes and what comes between. */
enum { CHUNK_BYTES = 1 << 20 };

/* Rows of one thing, in chunks. */
typedef struct span {
    int64_t first, count, chunk_rows;
    int64_t chunks_before; /* chunks of the spans before this one */
    size_t row_bytes;
    chunk_fn fn;
    void *user;
} span;

int qc_weights_threads(const qc_weights *w)
{
#ifdef _OPENMP
    return w->threads ? w->threads : omp_get_max_threads();
#else
    (void)w;
    return 1;
#endif
}

static int thread_index(void)
{
#ifdef _OPENMP
    return omp_get_thread_num();
#else
    return 0;
#endif
}

static qc_status report(const qc_weights *w, const failure *f)
{
    qc_ctx *ctx = w->ctx;
    const char *name = f->tensor ? f->tensor->name : w->directory;
    if (f->kind == FAILURE_SINK)
        return QC_ERROR;
    if (f->kind == FAILURE_MEMORY)
        return qc_ctx_error(ctx, "", "out of memory (%zu bytes more were needed for weights)", f->size_bytes);
    if (f->kind == FAILURE_READ)
        return qc_ctx_error(ctx, w->set.files[f->tensor->file].path, "cannot read %s: %s", name,
            f->error ? strerror(f->error) : "the file ended early");
    if (f->kind == FAILURE_SCALE)
        return qc_ctx_error(ctx, name,
            "its numbers are too large: no scale of %s is large enough (near element %lld)",
            qc_dtype_name(f->scale), (long long)f->element);
    if (f->kind == FAILURE_OVERFLOW)
        return qc_ctx_error(
            ctx, name, "what is computed from it is not finite (element %lld)", (long long)f->element);
    return qc_ctx_error(ctx, name, "holds a NaN or an infinity (element %lld)", (long long)f->element);
}

static qc_status make_scratches(qc_weights *w, int threads)
{
    if (threads <= w->scratch_count)
        return QC_OK;
    scratch *more = realloc(w->scratches, (size_t)threads * sizeof *more);
    if (!more)
        return qc_ctx_error(w->ctx, "", "out of memory");
    memset(more + w->scratch_count, 0, (size_t)(threads - w->scratch_count) * sizeof *more);
    w->scratches = more;
    w->scratch_count = threads;
    return QC_OK;
}

int64_t qc_weights_chunk_rows(size_t row_bytes, int64_t align_rows)
{
    int64_t rows = row_bytes >= CHUNK_BYTES ? 1 : (int64_t)(CHUNK_BYTES / (row_bytes ? row_bytes : 1));
    return rows < align_rows ? align_rows : rows - rows % align_rows;
}

static int64_t chunks_of(const span *s)
{
    return (s->count + s->chunk_rows - 1) / s->chunk_rows;
}

/* The span that chunk c belongs to. */
static const span *span_at(const span *spans, size_t count, int64_t c)
{
    size_t low = 0, high = count;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        *(spans[middle].chunks_before <= c ? &low : &high) = middle;
    }
    return &spans[low];
}

static qc_status run(qc_weights *w, span *spans, size_t span_count, failure_kind *kind)
{
    int64_t chunks = 0;
    uint64_t largest = 1;
    for (size_t i = 0; i < span_count; i++) {
        uint64_t bytes = QC_CHUNK_FORMS * (uint64_t)spans[i].chunk_rows * spans[i].row_bytes;
        largest = bytes > largest ? bytes : largest;
        spans[i].chunks_before = chunks;
        chunks += chunks_of(&spans[i]);
    }
    int threads = qc_weights_threads(w);
    if (largest > QC_WEIGHTS_CHUNKS_BYTES / (uint64_t)threads)
        threads = largest > QC_WEIGHTS_CHUNKS_BYTES ? 1 : (int)(QC_WEIGHTS_CHUNKS_BYTES / largest);
    if (chunks == 0)
        return QC_OK;
    threads = chunks < threads ? (int)chunks : threads;
    if (make_scratches(w, threads) != QC_OK)
        return QC_ERROR;
    failure worst = {FAILURE_NONE};
    int64_t worst_chunk = chunks;
#ifdef _OPENMP
#pragma omp parallel for schedule(dynamic) num_threads(threads) if (threads > 1)
#endif
    for (int64_t c = 0; c < chunks; c++) {
        int64_t limit;
#ifdef _OPENMP
#pragma omp atomic read
#endif
        limit = worst_chunk;
        if (c > limit)
            continue;
        const span *s = span_at(spans, span_count, c);
        int64_t at = (c - s->chunks_before) * s->chunk_rows, left = s->count - at;
        scratch *memory = &w->scratches[thread_index()];
        failure f = {FAILURE_NONE};
        qc_scratch_reset(memory);
        if (s->fn(s->user, memory, s->first + at, left < s->chunk_rows ? left : s->chunk_rows, &f))
            continue;
#ifdef _OPENMP
#pragma omp critical(qc_weights_failure)
#endif
        if (c < worst_chunk) {
            worst = f;
#ifdef _OPENMP
#pragma omp atomic write
#endif
            worst_chunk = c;
        }
    }
    *kind = worst.kind;
    return worst.kind == FAILURE_NONE ? QC_OK : report(w, &worst);
}

qc_status qc_weights_run(qc_weights *w, int64_t first, int64_t count, size_t row_bytes, int64_t align_rows,
    chunk_fn fn, void *user)
{
    span s = {.first = first,
        .count = count,
        .chunk_rows = qc_weights_chunk_rows(row_bytes, align_rows),
        .row_bytes = row_bytes,
        .fn = fn,
        .user = user};
    failure_kind kind;
    return run(w, &s, 1, &kind);
}

/* ---- rows into memory ---------------------------------------------------------------------------------- */

typedef struct rows_job {
    const qc_weights *weights;
    const value_info *info;
    int64_t first;
    char *out;
} rows_job;

static bool rows_chunk(void *user, scratch *s, int64_t first, int64_t count, failure *f)
{
    const rows_job *j = user;
    char *out = j->out + qc_weights_bytes(j->info->dtype, (first - j->first) * j->info->row_elems);
    return qc_weights_rows(s, j->weights, j->info, first, count, out, f);
}

qc_status qc_weights_run_rows(
    qc_weights *w, const value_info *info, int64_t first, int64_t count, int64_t align_rows, void *out)
{
    rows_job j = {w, info, first, out};
    /* Chunks begin at `first`: only from a multiple of the alignment on do they share no block. */
    return info->row_elems == 0
               ? QC_OK
               : qc_weights_run(w, first, count, qc_weights_row_bytes(info), align_rows, rows_chunk, &j);
}

/* ---- ranges -------------------------------------------------------------------------------------------- */

typedef struct range_job {
    const qc_weights *weights;
    const value_info *info;
    bool any;
    float min, max;
} range_job;

static bool range_chunk(void *user, scratch *s, int64_t first, int64_t count, failure *f)
{
    range_job *j = user;
    const value_info *v = j->info;
    float range[2];
    const void *rows = qc_weights_raw_rows(s, j->weights, v, first, count, f);
    if (!rows)
        return false;
    qc_arith_minmax(v->dtype, rows, (size_t)(count * v->row_elems), &range[0], &range[1]);
    if (!qc_weights_check_numbers(v, rows, first, count, range, 2, v->dtype, f))
        return false;
#ifdef _OPENMP
#pragma omp critical(qc_weights_range)
#endif
    {
        j->min = !j->any || range[0] < j->min ? range[0] : j->min;
        j->max = !j->any || range[1] > j->max ? range[1] : j->max;
        j->any = true;
    }
    return true;
}

qc_status qc_weights_run_minmax(qc_weights *w, const value_info *info, float *min, float *max)
{
    range_job j = {.weights = w, .info = info};
    if (info->row_elems &&
        qc_weights_run(w, 0, info->rows, qc_weights_row_bytes(info), 1, range_chunk, &j) != QC_OK)
        return QC_ERROR;
    *min = j.min;
    *max = j.max;
    return QC_OK;
}

/* ---- rows to whoever wants them ------------------------------------------------------------------------ */

typedef struct sink_job {
    qc_weights *weights;
    const qc_weight_job *job;
} sink_job;

static bool sink_chunk(void *user, scratch *s, int64_t first, int64_t count, failure *f)
{
    const sink_job *j = user;
    qc_weight_rows rows = {.first = first, .count = count, .scratch = s};
    if (j->job->stream) {
        const value_info *v = j->job->stream->info;
        if (!v->ready && strcmp(v->op, "quantize") == 0) {
            uint8_t *codes = qc_weights_scratch(s, qc_weights_bytes(v->dtype, count * v->row_elems), f);
            if (!codes ||
                !qc_weights_codes(s, j->weights, v, first, count, codes, &rows.scales, &rows.zero_points, f))
                return false;
            rows.data = codes;
            rows.first_scale = qc_weights_scale_count(&v->layout, first);
            rows.scale_count = qc_weights_scale_count(&v->layout, count);
        } else if (!(rows.data = qc_weights_operand_rows(s, j->weights, v, first, count, f))) {
            return false;
        }
    }
    if (j->job->sink(j->job->user, &rows))
        return true;
    *f = (failure){.kind = FAILURE_SINK};
    return false;
}

void *qc_weight_rows_memory(const qc_weight_rows *rows, size_t size_bytes)
{
    failure f;
    return qc_weights_scratch(rows->scratch, size_bytes, &f);
}

qc_status qc_weights_run_jobs(qc_weights *w, const qc_weight_job *jobs, size_t count, bool *refused)
{
    failure_kind kind = FAILURE_NONE;
    span *spans = calloc(count + 1, sizeof *spans);
    sink_job *users = calloc(count + 1, sizeof *users);
    size_t used = 0;
    for (size_t i = 0; spans && users && i < count; i++) {
        const value_info *v = jobs[i].stream ? jobs[i].stream->info : NULL;
        int64_t rows = v ? v->rows : jobs[i].chunks, align = jobs[i].align_rows > 1 ? jobs[i].align_rows : 1;
        if (rows == 0 || (v && v->row_elems == 0))
            continue;
        /* What is read decides; a stream's own blocks and those of the taker are both kept whole. */
        size_t row_bytes =
            v ? qc_weights_bytes(v->x ? v->x->dtype : v->dtype, v->row_elems) * (size_t)v->spread
              : CHUNK_BYTES;
        int64_t own = v ? jobs[i].stream->align_rows : 1;
        while (own % align != 0)
            own += jobs[i].stream->align_rows;
        users[used] = (sink_job){w, &jobs[i]};
        spans[used] = (span){.count = rows,
            .chunk_rows = qc_weights_chunk_rows(row_bytes, own),
            .row_bytes = row_bytes,
            .fn = sink_chunk,
            .user = &users[used]};
        used++;
    }
    qc_status status =
        spans && users ? run(w, spans, used, &kind) : qc_ctx_error(w->ctx, "", "out of memory");
    free(spans);
    free(users);
    *refused = kind == FAILURE_SINK;
    return status;
}
