/* SPDX-License-Identifier: MIT
 *
 * weights_rows.c - rows of weight expressions, in chunks, on all threads; see weights_internal.h.
 *
 * Threads take chunks of rows; a chunk is read from the file (pread) and computed by one thread in memory of
 * its own, so the result does not depend on how chunks are dealt out. Diagnostics are not for threads: a
 * failure is recorded, the one with the lowest row wins, and the caller's thread words it.
 */
#include "runtime/weights_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#include "ir/dtype/codec.h"

enum { CHUNK_BYTES = 1 << 20 };

size_t qc_weights_bytes(qc_dtype dtype, int64_t count)
{
    return ((size_t)count * (size_t)qc_dtype_bits(dtype) + 7) / 8;
}

/* ---- reading ------------------------------------------------------------------------------------------- */

static int64_t first_nonfinite16(const uint16_t *p, int64_t count, uint16_t mask)
{
    uint16_t bad = 0;
    for (int64_t i = 0; i < count; i++)
        bad |= (uint16_t)((p[i] & mask) == mask);
    if (!bad)
        return -1;
    int64_t i = 0;
    while ((p[i] & mask) != mask)
        i++;
    return i;
}

static int64_t first_nonfinite8(const uint8_t *p, int64_t count, uint8_t mask)
{
    uint8_t bad = 0;
    for (int64_t i = 0; i < count; i++)
        bad |= (uint8_t)((p[i] & mask) == mask);
    if (!bad)
        return -1;
    int64_t i = 0;
    while ((p[i] & mask) != mask)
        i++;
    return i;
}

static int64_t first_nonfinite32(const uint32_t *p, int64_t count)
{
    const uint32_t mask = 0x7f800000u;
    uint32_t bad = 0;
    for (int64_t i = 0; i < count; i++)
        bad |= (uint32_t)((p[i] & mask) == mask);
    if (!bad)
        return -1;
    int64_t i = 0;
    while ((p[i] & mask) != mask)
        i++;
    return i;
}

static int64_t first_nonfinite64(const uint64_t *p, int64_t count)
{
    const uint64_t mask = 0x7ff0000000000000u;
    for (int64_t i = 0; i < count; i++)
        if ((p[i] & mask) == mask)
            return i;
    return -1;
}

/* The first element that is no finite number; -1 when there is none. An f8e5m2 exponent of all ones and the
 * f8e4m3 code 0x7f are what those formats have of infinities and NaN. */
static int64_t first_nonfinite(qc_dtype dtype, const void *data, int64_t count)
{
    switch (dtype) {
    case QC_BF16:
        return first_nonfinite16(data, count, 0x7f80);
    case QC_F16:
        return first_nonfinite16(data, count, 0x7c00);
    case QC_F32:
        return first_nonfinite32(data, count);
    case QC_F64:
        return first_nonfinite64(data, count);
    case QC_F8E4M3:
        return first_nonfinite8(data, count, 0x7f);
    case QC_F8E5M2:
        return first_nonfinite8(data, count, 0x7c);
    default:
        return -1;
    }
}

static void *scratch(size_t size_bytes, failure *f)
{
    void *memory = malloc(size_bytes ? size_bytes : 1);
    if (!memory) {
        f->kind = FAILURE_MEMORY;
        f->size_bytes = size_bytes;
    }
    return memory;
}

static bool read_bytes(
    const qc_weights *w, const qc_st_tensor *tensor, void *out, size_t length, uint64_t offset, failure *f)
{
    int fd = w->set.files[tensor->file].fd;
    char *p = out;
    while (length) {
        ssize_t n = pread(fd, p, length, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            *f = (failure){.kind = FAILURE_READ, .tensor = tensor, .error = n < 0 ? errno : 0};
            return false;
        }
        p += n;
        offset += (uint64_t)n;
        length -= (size_t)n;
    }
    return true;
}

static bool weight_rows(
    const qc_weight_stream *s, const value_info *v, int64_t first, int64_t count, void *out, failure *f)
{
    const qc_st_tensor *tensor = v->tensor;
    int64_t elems = count * v->row_elems;
    size_t bytes = qc_weights_bytes(v->tensor_dtype, elems);
    uint64_t offset = tensor->offset_bytes + qc_weights_bytes(v->tensor_dtype, first * v->row_elems);
    bool same = v->tensor_dtype == v->dtype;
    void *raw = same ? out : scratch(bytes, f);
    if (!raw)
        return false;
    bool ok = read_bytes(s->weights, tensor, raw, bytes, offset, f);
    int64_t bad = ok ? first_nonfinite(v->tensor_dtype, raw, elems) : -1;
    if (bad >= 0) {
        *f = (failure){FAILURE_NONFINITE, .tensor = tensor, .element = first * v->row_elems + bad};
        ok = false;
    }
    if (ok && !same)
        qc_convert(v->tensor_dtype, raw, v->dtype, out, (size_t)elems);
    if (!same)
        free(raw);
    return ok;
}

/* ---- arithmetic ---------------------------------------------------------------------------------------- */

static bool eval_rows(
    const qc_weight_stream *s, const value_info *v, int64_t first, int64_t count, void *out, failure *f);

/* Rows of an operand in memory to be freed; NULL after a failure. */
static void *operand_rows(
    const qc_weight_stream *s, const value_info *x, int64_t first, int64_t count, failure *f)
{
    void *rows = scratch(qc_weights_bytes(x->dtype, count * x->row_elems), f);
    if (rows && !eval_rows(s, x, first, count, rows, f)) {
        free(rows);
        return NULL;
    }
    return rows;
}

/* The scale of each of `count` rows of x. */
static bool row_scales(
    const value_info *v, const void *x, int64_t first, int64_t count, float *scales, failure *f)
{
    const value_info *xi = v->x;
    size_t row_bytes = qc_weights_bytes(xi->dtype, xi->row_elems);
    for (int64_t i = 0; i < count; i++) {
        float min, max, zero;
        qc_arith_minmax(
            xi->dtype, (const char *)x + (size_t)i * row_bytes, (size_t)xi->row_elems, &min, &max);
        if (!(max - max == 0) || !(min - min == 0)) {
            *f = (failure){FAILURE_NONFINITE, .element = (first + i) * xi->row_elems};
            return false;
        }
        qc_arith_scale(v->part.arith, xi->dtype, v->grid, v->part.symmetric, min, max, &scales[i], &zero);
    }
    return true;
}

/* Scales as f32, one a row; a scale of the whole tensor is repeated. */
static bool load_scales(const qc_weight_stream *s, const value_info *scale, int64_t first, int64_t count,
    float *scales, failure *f)
{
    if (scale->count == 1) {
        qc_decode_f32(scale->dtype, scale->ready, scales, 1);
        for (int64_t i = 1; i < count; i++)
            scales[i] = scales[0];
        return true;
    }
    void *stored = operand_rows(s, scale, first, count, f);
    if (!stored)
        return false;
    qc_decode_f32(scale->dtype, stored, scales, (size_t)count);
    free(stored);
    return true;
}

/* Codes of rows and, in f32, the scales they were made with. */
static bool quantize_rows(const qc_weight_stream *s, const value_info *v, int64_t first, int64_t count,
    void *codes, float *scales, failure *f)
{
    const value_info *xi = v->x, *si = v->scale;
    void *x = operand_rows(s, xi, first, count, f);
    if (!x)
        return false;
    bool ok = si->x == xi && !si->ready ? row_scales(si, x, first, count, scales, f)
                                        : load_scales(s, si, first, count, scales, f);
    size_t row_bytes = qc_weights_bytes(xi->dtype, xi->row_elems);
    for (int64_t i = 0; ok && i < count; i++)
        qc_arith_quantize(v->part.arith, xi->dtype, v->grid, (const char *)x + (size_t)i * row_bytes,
            (size_t)xi->row_elems, scales[i], 0, (char *)codes + i * xi->row_elems);
    free(x);
    return ok;
}

static bool dequantize_rows(
    const qc_weight_stream *s, const value_info *v, int64_t first, int64_t count, void *out, failure *f)
{
    const value_info *ci = v->x;
    int64_t elems = v->row_elems;
    unsigned char *codes = scratch((size_t)(count * elems), f);
    float *scales = codes ? scratch((size_t)count * sizeof *scales, f) : NULL;
    bool ok = scales != NULL;
    if (ok && !ci->ready && strcmp(ci->op, "quantize") == 0 && ci->scale == v->scale)
        ok = quantize_rows(s, ci, first, count, codes, scales, f);
    else if (ok)
        ok = eval_rows(s, ci, first, count, codes, f) && load_scales(s, v->scale, first, count, scales, f);
    size_t row_bytes = qc_weights_bytes(v->dtype, elems);
    for (int64_t i = 0; ok && i < count; i++)
        qc_arith_dequantize(v->dtype, v->grid, codes + i * elems, (size_t)elems, scales[i], 0,
            (char *)out + (size_t)i * row_bytes);
    free(scales);
    free(codes);
    return ok;
}

static bool qparams_rows(
    const qc_weight_stream *s, const value_info *v, int64_t first, int64_t count, void *out, failure *f)
{
    float *scales = scratch((size_t)count * sizeof *scales, f);
    void *x = scales ? operand_rows(s, v->x, first, count, f) : NULL;
    bool ok = x && row_scales(v, x, first, count, scales, f);
    if (ok)
        qc_encode_f32(v->dtype, scales, out, (size_t)count);
    free(x);
    free(scales);
    return ok;
}

static bool cast_rows(
    const qc_weight_stream *s, const value_info *v, int64_t first, int64_t count, void *out, failure *f)
{
    void *x = operand_rows(s, v->x, first, count, f);
    if (!x)
        return false;
    qc_convert(v->x->dtype, x, v->dtype, out, (size_t)(count * v->row_elems));
    free(x);
    return true;
}

static bool eval_rows(
    const qc_weight_stream *s, const value_info *v, int64_t first, int64_t count, void *out, failure *f)
{
    const void *whole = v->ready ? v->ready : v->data;
    if (whole) {
        memcpy(out, (const char *)whole + qc_weights_bytes(v->dtype, first * v->row_elems),
            qc_weights_bytes(v->dtype, count * v->row_elems));
        return true;
    }
    if (strcmp(v->op, "weight") == 0)
        return weight_rows(s, v, first, count, out, f);
    if (strcmp(v->op, "cast") == 0)
        return cast_rows(s, v, first, count, out, f);
    if (strcmp(v->op, "dequantize") == 0)
        return dequantize_rows(s, v, first, count, out, f);
    if (strcmp(v->op, "qparams") == 0)
        return qparams_rows(s, v, first, count, out, f);
    float *scales = scratch((size_t)count * sizeof *scales, f);
    bool ok = scales && quantize_rows(s, v, first, count, out, scales, f);
    free(scales);
    return ok;
}

/* ---- threads ------------------------------------------------------------------------------------------- */

/* What every chunk does. */
typedef struct job {
    const qc_weight_stream *stream;
    const value_info *info;
    int64_t first, count, chunk_rows;
    char *out, *scales; /* NULL in a search for the range */
} job;

/* What a search for the range has found. */
typedef struct range {
    bool any;
    float min, max;
} range;

static bool chunk_with_scales(const job *j, int64_t first, int64_t count, failure *f)
{
    const value_info *v = j->info;
    float *scales = scratch((size_t)count * sizeof *scales, f);
    int64_t at = first - j->first;
    bool ok = scales && quantize_rows(j->stream, v, first, count, j->out + at * v->row_elems, scales, f);
    if (ok)
        qc_encode_f32(
            v->scale->dtype, scales, j->scales + qc_weights_bytes(v->scale->dtype, at), (size_t)count);
    free(scales);
    return ok;
}

static bool chunk_range(const job *j, int64_t first, int64_t count, range *found, failure *f)
{
    const value_info *v = j->info;
    void *rows = operand_rows(j->stream, v, first, count, f);
    if (!rows)
        return false;
    qc_arith_minmax(v->dtype, rows, (size_t)(count * v->row_elems), &found->min, &found->max);
    free(rows);
    found->any = true;
    if (found->max - found->max == 0 && found->min - found->min == 0)
        return true;
    *f = (failure){FAILURE_NONFINITE, .element = first * v->row_elems};
    return false;
}

static bool run_chunk(const job *j, int64_t chunk, range *found, failure *f)
{
    int64_t first = j->first + chunk * j->chunk_rows, left = j->first + j->count - first;
    int64_t count = left < j->chunk_rows ? left : j->chunk_rows;
    if (found)
        return chunk_range(j, first, count, found, f);
    if (j->scales)
        return chunk_with_scales(j, first, count, f);
    char *out = j->out + qc_weights_bytes(j->info->dtype, (first - j->first) * j->info->row_elems);
    return eval_rows(j->stream, j->info, first, count, out, f);
}

static void join_range(range *all, const range *part)
{
    if (!part->any)
        return;
    if (!all->any || part->min < all->min)
        all->min = part->min;
    if (!all->any || part->max > all->max)
        all->max = part->max;
    all->any = true;
}

static qc_status report(const qc_weight_stream *s, const failure *f)
{
    qc_ctx *ctx = s->weights->ctx;
    const char *name = f->tensor ? f->tensor->name : s->weights->directory;
    if (f->kind == FAILURE_MEMORY)
        return qc_ctx_error(ctx, "", "out of memory (%zu bytes more were needed for weights)", f->size_bytes);
    if (f->kind == FAILURE_READ)
        return qc_ctx_error(ctx, s->weights->set.files[f->tensor->file].path, "cannot read %s: %s", name,
            f->error ? strerror(f->error) : "the file ended early");
    if (!f->tensor)
        return qc_ctx_error(ctx, s->weights->directory,
            "a weight expression is not finite (near element %lld)", (long long)f->element);
    return qc_ctx_error(ctx, name, "holds a NaN or an infinity (element %lld)", (long long)f->element);
}

static qc_status run(job *j, range *found)
{
    const value_info *v = j->info;
    if (j->count == 0 || v->row_elems == 0)
        return QC_OK;
    size_t row_bytes = qc_weights_bytes(v->dtype, v->row_elems);
    j->chunk_rows = row_bytes >= CHUNK_BYTES ? 1 : (int64_t)(CHUNK_BYTES / (row_bytes ? row_bytes : 1));
    int64_t chunks = (j->count + j->chunk_rows - 1) / j->chunk_rows;
    failure worst = {FAILURE_NONE};
    int64_t worst_chunk = chunks;
#ifdef _OPENMP
    int threads = j->stream->weights->threads ? j->stream->weights->threads : omp_get_max_threads();
#pragma omp parallel for schedule(dynamic) num_threads(threads) if (chunks > 1)
#endif
    for (int64_t c = 0; c < chunks; c++) {
        failure f = {FAILURE_NONE};
        range part = {false, 0, 0};
        bool ok = run_chunk(j, c, found ? &part : NULL, &f);
#ifdef _OPENMP
#pragma omp critical(qc_weights_join)
#endif
        {
            if (found)
                join_range(found, &part);
            if (!ok && c < worst_chunk) {
                worst_chunk = c;
                worst = f;
            }
        }
    }
    return worst.kind == FAILURE_NONE ? QC_OK : report(j->stream, &worst);
}

qc_status qc_weights_run_rows(const qc_weight_stream *stream, const value_info *info, int64_t first,
    int64_t count, void *out, void *scales)
{
    job j = {.stream = stream, .info = info, .first = first, .count = count, .out = out, .scales = scales};
    return run(&j, NULL);
}

qc_status qc_weights_run_minmax(
    const qc_weight_stream *stream, const value_info *info, float *min, float *max)
{
    job j = {.stream = stream, .info = info, .first = 0, .count = info->rows};
    range found = {false, 0, 0};
    if (run(&j, &found) != QC_OK)
        return QC_ERROR;
    *min = found.min;
    *max = found.max;
    return QC_OK;
}
