/* SPDX-License-Identifier: MIT
 *
 * write.c - the data of a checkpoint: shards laid out, made room for, and filled from all threads.
 *
 * Tensors are taken in the order of the files, as many at a time as BATCH_BYTES go. Each is cut into chunks, and a thread
 * that takes one reads it, computes and packs it in memory of its own, and writes it to its place, so that reading,
 * computing and writing overlap and no tensor is ever whole in memory. Scales and zero points are written with the codes
 * that they were made for, also when they lie in another shard. Unchanged tensors are copied by the kernel.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ir/dtype/codec.h"
#include "ir/dtype/pack.h"
#include "ir/support/io.h"
#include "runtime/export/compressed_tensors/internal.h"

enum {
    COPY_BYTES = 4 << 20,
    BUFFER_BYTES = 1 << 20,
    BATCH_TENSORS = 64,
    FLUSH_BYTES = 32 << 20,
    SLACK_BYTES = 4 << 20,
    BATCH_BYTES = 128 << 20, /* of the source */
    AHEAD_BYTES = 256 << 20,
    BATCH_READY_BYTES = 64 << 20
};

/* A file being written. */
typedef struct shard_file {
    int fd; /* -1: not begun, or done */
    const char *path;
    qc_st_out *outs;
    size_t count, left; /* tensors; those that are not written yet */
    char *header;
    size_t header_bytes;
    uint64_t end;
} shard_file;

typedef struct writer {
    ct_plan *plan;
    const ct_write_options *options;
    shard_file *shards;
    uint64_t done_bytes;
    uint64_t taken_bytes,
        ahead_bytes; /* of the source: by tensors at work or written, and asked for ahead of them */
    uint32_t ahead_shard;
    size_t ahead_tensor; /* the next to ask for */
    struct flusher *flusher;
    /* What went wrong first, on some thread; errno in `error`, or 0 where `source` ended early. */
    bool failed;
    int error;
    const char *failed_path, *failed_what;
} writer;

/* A thread that has written bytes go out to the disk while others are made. It waits when the disk is behind; whoever
 * computes does not. */
typedef struct flusher {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool running, stop;
    int fd; /* to flush next, its own to close; -1: nothing to do */
} flusher;

/* A tensor at work. */
typedef struct task {
    writer *writer;
    ct_tensor *tensor;
    qc_weight_stream *stream;
} task;

static qc_status system_failure(writer *w, const char *path, const char *what)
{
    return qc_ctx_error(w->plan->ctx, path, "cannot %s: %s", what, strerror(errno));
}

/* ---- on any thread ------------------------------------------------------------------------------------- */

static bool fail(writer *w, const char *path, const char *what, int error)
{
#ifdef _OPENMP
#pragma omp critical(qc_export_state)
#endif
    if (!w->failed) {
        w->failed = true;
        w->failed_path = path;
        w->failed_what = what;
        w->error = error;
    }
    return false;
}

static void *flush_all(void *user)
{
    flusher *f = user;
    pthread_mutex_lock(&f->lock);
    while (!f->stop || f->fd >= 0) {
        int fd = f->fd;
        f->fd = -1;
        if (fd < 0) {
            pthread_cond_wait(&f->wake, &f->lock);
            continue;
        }
        pthread_mutex_unlock(&f->lock);
        sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE); /* a hint: fsync has the last word */
        close(fd);
        pthread_mutex_lock(&f->lock);
    }
    pthread_mutex_unlock(&f->lock);
    return NULL;
}

/* Without a thread everything goes out with fsync. */
static void start_flusher(flusher *f)
{
    f->fd = -1;
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->wake, NULL);
    f->running = pthread_create(&f->thread, NULL, flush_all, f) == 0;
}

static void stop_flusher(flusher *f)
{
    pthread_mutex_lock(&f->lock);
    f->stop = true;
    if (f->fd >= 0)
        close(f->fd);
    f->fd = -1;
    pthread_cond_signal(&f->wake);
    pthread_mutex_unlock(&f->lock);
    if (f->running)
        pthread_join(f->thread, NULL);
    pthread_cond_destroy(&f->wake);
    pthread_mutex_destroy(&f->lock);
}

static void flush_soon(flusher *f, int fd)
{
    pthread_mutex_lock(&f->lock);
    if (f->running && f->fd < 0) {
        f->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        pthread_cond_signal(&f->wake);
    }
    pthread_mutex_unlock(&f->lock);
}

static void advance(writer *w, const ct_tensor *t, uint64_t bytes)
{
    const ct_write_options *o = w->options;
    bool flush;
#ifdef _OPENMP
#pragma omp critical(qc_export_state)
#endif
    {
        flush = w->done_bytes / FLUSH_BYTES != (w->done_bytes + bytes) / FLUSH_BYTES;
        w->done_bytes += bytes;
        if (o->progress)
            o->progress(o->progress_user, "write", "B", w->done_bytes, o->total_bytes);
    }
    if (flush)
        flush_soon(w->flusher, w->shards[t->shard].fd);
}

/* Bytes of a tensor from `offset` in it on. */
static bool put(writer *w, const ct_tensor *t, const void *data, size_t length, uint64_t offset)
{
    const shard_file *file = &w->shards[t->shard];
    const char *p = data;
    offset += t->file_offset;
    for (size_t left = length; left;) {
        ssize_t n = pwrite(file->fd, p, left, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return fail(w, file->path, "write", n == 0 ? ENOSPC : errno);
        p += n;
        offset += (uint64_t)n;
        left -= (size_t)n;
    }
    advance(w, t, length);
    return true;
}

static void *memory(writer *w, const qc_weight_rows *rows, size_t size_bytes)
{
    void *p = qc_weight_rows_memory(rows, size_bytes);
    if (!p)
        fail(w, "", "", ENOMEM);
    return p;
}

/* Elements of a scale, or of zero points that are not packed. */
static bool put_numbers(writer *w, const ct_tensor *t, const qc_weight_rows *rows, const float *numbers)
{
    size_t each = (size_t)qc_dtype_bits(t->encoding) / 8, bytes = (size_t)rows->scale_count * each;
    void *out = memory(w, rows, bytes);
    if (!out)
        return false;
    qc_encode_f32(t->encoding, numbers, out, (size_t)rows->scale_count);
    return put(w, t, out, bytes, (uint64_t)rows->first_scale * each);
}

/* Zero points along columns: `count` rows from a multiple of 32 on make whole words. */
static bool put_down(writer *w, const ct_tensor *t, const qc_weight_rows *rows, const int8_t *codes)
{
    size_t columns = (size_t)t->shape[1], count = (size_t)rows->count;
    size_t words = qc_pack_word_count(t->bits, count);
    int8_t *column = memory(w, rows, count);
    uint8_t *packed = column ? memory(w, rows, 4 * words) : NULL,
            *out = packed ? memory(w, rows, 4 * words * columns) : NULL;
    if (!out)
        return false;
    for (size_t c = 0; c < columns; c++) {
        for (size_t r = 0; r < count; r++)
            column[r] = codes[r * columns + c];
        qc_pack_words(t->bits, column, count, packed);
        for (size_t i = 0; i < words; i++)
            memcpy(out + 4 * (i * columns + c), packed + 4 * i, 4);
    }
    uint64_t first_word = (uint64_t)rows->first * (uint64_t)t->bits / 32;
    return put(w, t, out, 4 * words * columns, first_word * columns * 4);
}

static bool put_zero_points(writer *w, const ct_tensor *t, const qc_weight_rows *rows)
{
    if (t->packing != CT_WORDS_DOWN)
        return put_numbers(w, t, rows, rows->zero_points);
    int8_t *codes = memory(w, rows, (size_t)rows->scale_count);
    if (!codes)
        return false;
    qc_encode_f32(QC_I8, rows->zero_points, codes, (size_t)rows->scale_count);
    return put_down(w, t, rows, codes);
}

/* Codes of whole rows. */
static bool put_codes(writer *w, const ct_tensor *t, const qc_weight_rows *rows, int64_t columns)
{
    size_t count = (size_t)(rows->count * columns),
           row_bytes = t->packing == CT_NIBBLES ? (size_t)columns / 2 : 4 * (size_t)t->shape[1];
    if (t->packing == CT_PLAIN)
        return put(w, t, rows->data, count, (uint64_t)(rows->first * columns));
    uint8_t *out = memory(w, rows, row_bytes * (size_t)rows->count);
    if (!out)
        return false;
    const bool whole_words = columns * t->bits % 32 == 0;
    if (t->packing == CT_NIBBLES)
        qc_pack_nibbles(rows->data, count, out);
    else if (whole_words)
        qc_pack_words(t->bits, rows->data, count, out);
    for (int64_t r = 0; t->packing == CT_WORDS && !whole_words && r < rows->count; r++)
        qc_pack_words(
            t->bits, (const int8_t *)rows->data + r * columns, (size_t)columns, out + (size_t)r * row_bytes);
    return put(w, t, out, row_bytes * (size_t)rows->count, (uint64_t)rows->first * row_bytes);
}

static bool take_codes(void *user, const qc_weight_rows *rows)
{
    const task *k = user;
    const ct_tensor *t = k->tensor;
    writer *w = k->writer;
    return put_codes(w, t, rows, qc_weight_stream_row_elems(k->stream)) &&
           (!t->scale || !rows->scales || put_numbers(w, t->scale, rows, rows->scales)) &&
           (!t->zero_point || !rows->zero_points || put_zero_points(w, t->zero_point, rows));
}

static bool take_value(void *user, const qc_weight_rows *rows)
{
    const task *k = user;
    const ct_tensor *t = k->tensor;
    qc_dtype from = qc_type_dtype(qc_value_type(t->value));
    int64_t elems = qc_weight_stream_row_elems(k->stream);
    if (t->packing == CT_WORDS_DOWN)
        return put_down(k->writer, t, rows, rows->data);
    size_t count = (size_t)(rows->count * elems), each = (size_t)qc_dtype_bits(t->encoding) / 8;
    const void *data = rows->data;
    if (from != t->encoding) {
        void *out = memory(k->writer, rows, count * each);
        if (!out)
            return false;
        qc_convert(from, data, t->encoding, out, count);
        data = out;
    }
    return put(k->writer, t, data, count * each, (uint64_t)(rows->first * elems) * each);
}

/* Bytes that the kernel does not copy by itself. */
static bool copy_through_memory(writer *w, const ct_tensor *t, const qc_weight_rows *rows,
    const qc_st_file *file, uint64_t at, uint64_t length)
{
    char *buffer = memory(w, rows, BUFFER_BYTES);
    while (buffer && length) {
        ssize_t n = pread(file->fd, buffer, length < BUFFER_BYTES ? (size_t)length : BUFFER_BYTES,
            (off_t)(t->stored->offset_bytes + at));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return fail(w, file->path, "read", n < 0 ? errno : 0);
        if (!put(w, t, buffer, (size_t)n, at))
            return false;
        at += (uint64_t)n;
        length -= (uint64_t)n;
    }
    return buffer != NULL;
}

static bool take_copy(void *user, const qc_weight_rows *rows)
{
    const task *k = user;
    const ct_tensor *t = k->tensor;
    writer *w = k->writer;
    const qc_st_file *file = &qc_weights_tensors(w->plan->weights)->files[t->stored->file];
    const shard_file *to = &w->shards[t->shard];
    uint64_t at = (uint64_t)rows->first * COPY_BYTES,
             end = at + COPY_BYTES < t->size_bytes ? at + COPY_BYTES : t->size_bytes;
    while (at < end) {
        off_t in = (off_t)(t->stored->offset_bytes + at), out = (off_t)(t->file_offset + at);
        ssize_t n = copy_file_range(file->fd, &in, to->fd, &out, (size_t)(end - at), 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EXDEV || errno == EINVAL || errno == ENOSYS || errno == EOPNOTSUPP ||
                         errno == EBADF || errno == EPERM))
            return copy_through_memory(w, t, rows, file, at, end - at);
        if (n < 0)
            return fail(w, to->path, "write", errno);
        if (n == 0)
            return fail(w, file->path, "read", 0);
        at += (uint64_t)n;
        advance(w, t, (uint64_t)n);
    }
    return true;
}

static bool take_literal(void *user, const qc_weight_rows *rows)
{
    static const char zeros[4096];
    const task *k = user;
    const ct_tensor *t = k->tensor;
    (void)rows;
    if (t->source == CT_BYTES)
        return put(k->writer, t, t->bytes, (size_t)t->size_bytes, 0);
    for (uint64_t at = 0; at < t->size_bytes; at += sizeof zeros) {
        uint64_t left = t->size_bytes - at;
        if (!put(k->writer, t, zeros, left < sizeof zeros ? (size_t)left : sizeof zeros, at))
            return false;
    }
    return true;
}

/* Rows of a matrix in the file's type, a chunk at a time. */
static int64_t matrix_rows(const ct_tensor *t)
{
    int64_t rows = BUFFER_BYTES / 8 / t->matrix->size;
    return rows > 0 ? rows : 1;
}

static bool take_matrix(void *user, const qc_weight_rows *rows)
{
    const task *k = user;
    const ct_tensor *t = k->tensor;
    const int64_t size = t->matrix->size, first = rows->first * matrix_rows(t);
    const int64_t count = size - first < matrix_rows(t) ? size - first : matrix_rows(t);
    const size_t elems = (size_t)(count * size), each = t->encoding == QC_F64 ? 8 : 4;
    double *values = memory(k->writer, rows, elems * 8);
    float *narrow = values && each == 4 ? memory(k->writer, rows, elems * 4) : NULL;
    if (!values || (each == 4 && !narrow))
        return false;
    qc_hadamard_rows(t->matrix, first, count, values);
    for (size_t i = 0; narrow && i < elems; i++)
        narrow[i] = (float)values[i];
    return put(
        k->writer, t, narrow ? (const void *)narrow : values, elems * each, (uint64_t)(first * size) * each);
}

/* ---- shards -------------------------------------------------------------------------------------------- */

/* Which tensors lie where; nothing is created yet. */
static qc_status lay_out(writer *w)
{
    ct_plan *plan = w->plan;
    for (size_t i = 0; i < plan->tensors.count; i++)
        w->shards[plan->tensors.items[i]->shard].count++;
    for (uint32_t s = 0; s < w->options->shard_count; s++) {
        shard_file *file = &w->shards[s];
        file->fd = -1;
        file->path = qc_path_join(&plan->arena, w->options->directory,
            ct_shard_name(plan, &plan->arena, s, w->options->shard_count));
        file->outs = QC_NEW_ARRAY(&plan->arena, qc_st_out, file->count + 1);
    }
    for (size_t i = 0; i < plan->tensors.count; i++) {
        ct_tensor *t = plan->tensors.items[i];
        shard_file *file = &w->shards[t->shard];
        file->outs[file->left++] =
            (qc_st_out){.name = t->name, .dtype = t->dtype, .rank = t->rank, .shape = t->shape, .user = t};
    }
    for (uint32_t s = 0; s < w->options->shard_count; s++) {
        shard_file *file = &w->shards[s];
        if (qc_st_layout(qc_ctx_diag(plan->ctx), &plan->arena, file->outs, file->count, !plan->as_tensors,
                &file->header, &file->header_bytes) != QC_OK)
            return QC_ERROR;
        file->end = file->header_bytes;
        for (size_t i = 0; i < file->count; i++) {
            ct_tensor *t = file->outs[i].user;
            t->file_offset = file->header_bytes + file->outs[i].offset_bytes;
            file->end =
                t->file_offset + t->size_bytes > file->end ? t->file_offset + t->size_bytes : file->end;
        }
    }
    return QC_OK;
}

/* Creates the shard, makes room for it on the disk, writes its header. */
static qc_status begin_shard(writer *w, uint32_t shard)
{
    shard_file *file = &w->shards[shard];
    if (file->fd >= 0)
        return QC_OK;
    file->fd = open(file->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (file->fd < 0)
        return system_failure(w, file->path, "create");
    /* A full disk shows here, before an hour's work. Where the file system cannot reserve, writing will tell. */
    if (fallocate(file->fd, 0, 0, (off_t)file->end) != 0 &&
        (errno == ENOSPC || errno == EFBIG || errno == EDQUOT))
        return system_failure(w, file->path, "write");
    const char *p = file->header;
    for (size_t at = 0; at < file->header_bytes;) {
        ssize_t n = pwrite(file->fd, p + at, file->header_bytes - at, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return system_failure(w, file->path, "write");
        at += (size_t)n;
    }
    return QC_OK;
}

static qc_status end_shard(writer *w, uint32_t shard)
{
    shard_file *file = &w->shards[shard];
    int fd = file->fd;
    file->fd = -1;
    if (fd < 0)
        return QC_OK;
    bool ok = fsync(fd) == 0;
    int error = errno;
    if (close(fd) != 0 && ok) {
        ok = false;
        error = errno;
    }
    errno = error;
    return ok ? QC_OK : system_failure(w, file->path, "write");
}

/* A tensor is written; its shard may be. */
static qc_status end_tensor(writer *w, const ct_tensor *t)
{
    return --w->shards[t->shard].left == 0 ? end_shard(w, t->shard) : QC_OK;
}

/* ---- batches ------------------------------------------------------------------------------------------- */

typedef struct batch {
    task tasks[BATCH_TENSORS];
    qc_weight_job jobs[BATCH_TENSORS];
    size_t count;
    uint64_t bytes, ready_bytes;
} batch;

static qc_status add(writer *w, batch *b, ct_tensor *t)
{
    task *k = &b->tasks[b->count];
    qc_weight_job *job = &b->jobs[b->count];
    *k = (task){w, t, NULL};
    *job = (qc_weight_job){.chunks = 1, .sink = take_literal, .user = k};
    if (t->source == CT_COPY) {
        b->bytes += t->size_bytes;
        job->chunks = (int64_t)((t->size_bytes + COPY_BYTES - 1) / COPY_BYTES);
        job->sink = take_copy;
    } else if (t->source == CT_MATRIX) {
        b->bytes += t->size_bytes;
        job->chunks = (t->matrix->size + matrix_rows(t) - 1) / matrix_rows(t);
        job->sink = take_matrix;
    } else if (t->source != CT_BYTES && t->source != CT_ZEROS) {
        k->stream = qc_weight_stream_open(w->plan->weights, t->value);
        if (!k->stream)
            return QC_ERROR;
        b->ready_bytes += qc_weight_stream_bytes(k->stream);
        b->bytes +=
            2 * (uint64_t)qc_weight_stream_rows(k->stream) * (uint64_t)qc_weight_stream_row_elems(k->stream);
        job->stream = k->stream;
        job->sink = t->codes_of_weight ? take_codes : take_value;
        job->align_rows =
            t->packing == CT_WORDS_DOWN || (t->zero_point && t->zero_point->packing == CT_WORDS_DOWN) ? 32
                                                                                                      : 1;
    }
    b->count++;
    if (begin_shard(w, t->shard) != QC_OK || (t->scale && begin_shard(w, t->scale->shard) != QC_OK))
        return QC_ERROR;
    return t->zero_point ? begin_shard(w, t->zero_point->shard) : QC_OK;
}

static qc_status report(writer *w)
{
    if (!w->failed)
        return QC_ERROR; /* reported already */
    if (w->error == ENOMEM && !*w->failed_path)
        return qc_ctx_error(w->plan->ctx, "", "out of memory");
    return qc_ctx_error(w->plan->ctx, w->failed_path, "cannot %s: %s", w->failed_what,
        w->error ? strerror(w->error) : "the file ended early");
}

/* Single numbers, such as global scales, come first in files, but each takes a look at all of its tensors. They are
 * written last, when the codes have brought them to light. */
static bool comes_late(const ct_tensor *t)
{
    return t->source == CT_VALUE && !t->codes_of_weight && t->size_bytes <= 8;
}

/* Asks for what the next batches will read, so that the disk works while this one is computed. */
static void read_ahead(writer *w)
{
    while (w->ahead_shard < w->options->shard_count && w->ahead_bytes < w->taken_bytes + AHEAD_BYTES) {
        const shard_file *file = &w->shards[w->ahead_shard];
        if (w->ahead_tensor == file->count) {
            w->ahead_shard++;
            w->ahead_tensor = 0;
            continue;
        }
        const ct_tensor *t = file->outs[w->ahead_tensor++].user;
        if (t->source == CT_VALUE && !comes_late(t))
            w->ahead_bytes += qc_weights_read_ahead(w->plan->weights, t->value);
        else if (t->source == CT_COPY)
            w->ahead_bytes += t->size_bytes;
    }
}

/* Writes what the batch holds; scales and zero points with their codes. */
static qc_status flush(writer *w, batch *b, qc_status status)
{
    bool refused = false;
    w->taken_bytes += b->bytes;
    read_ahead(w);
    if (status == QC_OK && qc_weights_run_jobs(w->plan->weights, b->jobs, b->count, &refused) != QC_OK)
        status = refused ? report(w) : QC_ERROR;
    for (size_t i = 0; i < b->count; i++) {
        const ct_tensor *t = b->tasks[i].tensor;
        qc_weight_stream_close(b->tasks[i].stream);
        if (status == QC_OK)
            status = end_tensor(w, t);
        if (status == QC_OK && t->scale)
            status = end_tensor(w, t->scale);
        if (status == QC_OK && t->zero_point)
            status = end_tensor(w, t->zero_point);
    }
    *b = (batch){.count = 0};
    return status;
}

/* A stream that was computed whole brings no scales along: they are computed by themselves. */
static void separate(ct_tensor *t)
{
    if (t->scale)
        t->scale->source = CT_VALUE;
    if (t->zero_point)
        t->zero_point->source = CT_VALUE;
    t->scale = t->zero_point = NULL;
}

/* The tensors of a shard that are not written yet, the late ones or the others. */
static qc_status write_shard(writer *w, batch *b, uint32_t s, bool late)
{
    qc_status status = QC_OK;
    for (size_t i = 0; status == QC_OK && i < w->shards[s].count; i++) {
        ct_tensor *t = w->shards[s].outs[i].user;
        if (t->written || t->source == CT_SCALE || t->source == CT_ZERO_POINT || comes_late(t) != late)
            continue;
        t->written = true;
        status = add(w, b, t);
        const task *k = &b->tasks[b->count - 1];
        if (status == QC_OK && (t->scale || t->zero_point) && !qc_weight_stream_brings_scales(k->stream))
            separate(t);
        if (status != QC_OK || b->count == BATCH_TENSORS || b->bytes >= BATCH_BYTES ||
            b->ready_bytes >= BATCH_READY_BYTES)
            status = flush(w, b, status);
    }
    return status;
}

static qc_status write_shards(writer *w, batch *b)
{
    qc_status status = QC_OK;
    read_ahead(w);
    for (uint32_t s = 0; status == QC_OK && s < w->options->shard_count; s++) {
        status = write_shard(w, b, s, false);
        if (status == QC_OK)
            status = write_shard(w, b, s, true);
    }
    /* What turned out to come along with nothing. */
    for (uint32_t s = 0; status == QC_OK && s < w->options->shard_count; s++)
        for (int late = 0; status == QC_OK && late < 2; late++)
            status = write_shard(w, b, s, late);
    return flush(w, b, status);
}

/* What the process holds now; a guess where the system does not say. */
static uint64_t resident_bytes(void)
{
    unsigned long long size, resident = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f && fscanf(f, "%llu %llu", &size, &resident) != 2)
        resident = 0;
    if (f)
        fclose(f);
    return resident ? resident * (uint64_t)sysconf(_SC_PAGESIZE) : UINT64_C(32) << 20;
}

/* What is there, what streams keep, and for each thread the chunk of the widest tensor in all its forms. */
uint64_t ct_peak_bytes(const ct_plan *plan)
{
    uint64_t chunk = 0, whole = 0, all_whole = 0, kept = 0;
    for (size_t i = 0; i < plan->tensors.count; i++) {
        const ct_tensor *t = plan->tensors.items[i];
        if (t->source != CT_VALUE)
            continue;
        qc_weight_needs n = qc_weights_needs(plan->weights, t->value, t->zero_point ? 32 : 1);
        chunk = n.chunk_bytes > chunk ? n.chunk_bytes : chunk;
        whole = n.whole_bytes > whole ? n.whole_bytes : whole;
        all_whole = n.whole_bytes > UINT64_MAX - all_whole ? UINT64_MAX : all_whole + n.whole_bytes;
        kept = n.kept_bytes > UINT64_MAX - kept ? UINT64_MAX : kept + n.kept_bytes;
    }
    if (all_whole > whole + BATCH_READY_BYTES)
        all_whole = whole + BATCH_READY_BYTES;
    if (kept > QC_WEIGHTS_KEPT_BYTES)
        kept = QC_WEIGHTS_KEPT_BYTES;
    uint64_t workers = (uint64_t)qc_weights_threads(plan->weights), chunks = workers * (chunk + BUFFER_BYTES);
    if (chunks > QC_WEIGHTS_CHUNKS_BYTES)
        chunks = chunk > QC_WEIGHTS_CHUNKS_BYTES ? chunk : QC_WEIGHTS_CHUNKS_BYTES;
    return resident_bytes() + SLACK_BYTES + chunks + all_whole + kept;
}

qc_status ct_write_tensors(ct_plan *plan, const ct_write_options *options)
{
    writer w = {.plan = plan, .options = options};
    w.shards = QC_NEW_ARRAY(&plan->arena, shard_file, (size_t)options->shard_count + 1);
    batch *b = QC_NEW(&plan->arena, batch);
    qc_status status = lay_out(&w);
    flusher f = {.stop = false};
    w.flusher = &f;
    start_flusher(&f);
    if (status == QC_OK)
        status = write_shards(&w, b);
    stop_flusher(&f);
    for (uint32_t s = 0; s < options->shard_count; s++)
        if (w.shards[s].fd >= 0)
            close(w.shards[s].fd);
    return status == QC_OK ? qc_weights_check_source(plan->weights) : status;
}
