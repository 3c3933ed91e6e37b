/* SPDX-License-Identifier: MIT
 *
 * logits.c - see logits.h.
 */
#include "runtime/logits.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ir/ctx.h"
#include "ir/support/io.h"
#include "ir/support/safetensors.h"

/* ---- input --------------------------------------------------------------------------------------------- */

typedef struct batch {
    int64_t rows, columns;
    int32_t *ids; /* [rows, columns], malloc'ed */
} batch;

static qc_status convert_ids(
    qc_diag *diag, const char *path, const int64_t *ids, int64_t vocabulary, batch *out)
{
    for (int64_t i = 0; i < out->rows * out->columns; i++) {
        if (ids[i] < 0 || ids[i] >= vocabulary)
            return qc_error(diag, path,
                "input_ids[%" PRId64 ", %" PRId64 "] is %" PRId64 ", outside the vocabulary of %" PRId64
                " tokens",
                i / out->columns, i % out->columns, ids[i], vocabulary);
        out->ids[i] = (int32_t)ids[i];
    }
    return QC_OK;
}

static qc_status read_tensor(
    qc_diag *diag, const char *path, const qc_st_set *set, int64_t vocabulary, batch *out)
{
    const qc_st_tensor *t = qc_st_find(set, "input_ids");
    if (!t)
        return qc_error(diag, path, "there is no tensor input_ids");
    if (strcmp(t->dtype, "I64") != 0 || t->rank != 2)
        return qc_error(
            diag, path, "input_ids must be I64 [batch, sequence], not %s of rank %d", t->dtype, t->rank);
    if (t->size_bytes == 0)
        return qc_error(diag, path, "input_ids is empty");
    out->rows = t->shape[0];
    out->columns = t->shape[1];
    int64_t *ids = malloc(t->size_bytes);
    out->ids = malloc(t->size_bytes / 2);
    qc_status status = QC_OK;
    if (!ids || !out->ids)
        status = qc_error(diag, path, "out of memory for input_ids");
    if (status == QC_OK)
        status = qc_st_read(diag, set, t, ids);
    if (status == QC_OK)
        status = convert_ids(diag, path, ids, vocabulary, out);
    free(ids);
    return status;
}

static qc_status read_batch(qc_diag *diag, qc_arena *arena, const char *path, int64_t vocabulary, batch *out)
{
    qc_st_set set;
    if (qc_st_open_file(diag, arena, path, &set))
        return QC_ERROR;
    qc_status status = read_tensor(diag, path, &set, vocabulary, out);
    qc_st_close(&set);
    return status;
}

/* ---- output -------------------------------------------------------------------------------------------- */

typedef struct writer {
    qc_diag *diag;
    const char *path;
    char *temporary; /* the name written under; NULL: path itself, a pipe or a device */
    int fd;
    size_t row_bytes; /* one sequence's */
} writer;

static qc_status open_writer(writer *w)
{
    struct stat info;
    if (stat(w->path, &info) == 0 && S_ISDIR(info.st_mode))
        return qc_error(w->diag, w->path, "is a directory");
    if (stat(w->path, &info) != 0 || S_ISREG(info.st_mode))
        w->temporary = qc_arena_printf(w->diag->arena, "%s.%ld.tmp", w->path, (long)getpid());
    const char *name = w->temporary ? w->temporary : w->path;
    int flags = w->temporary ? O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC : O_WRONLY | O_CLOEXEC;
    w->fd = open(name, flags, 0666);
    if (w->fd >= 0)
        return QC_OK;
    int code = errno;
    w->temporary = NULL; /* not made, so not to be taken away */
    return qc_error(w->diag, w->path, "cannot write: %s", strerror(code));
}

/* The file gets its name if everything went well, and goes if not. */
static qc_status close_writer(writer *w, qc_status status)
{
    if (w->fd >= 0 && close(w->fd) != 0 && errno != EINTR && status == QC_OK)
        status = qc_error(w->diag, w->path, "cannot write: %s", strerror(errno));
    if (w->temporary && status == QC_OK && rename(w->temporary, w->path) != 0)
        status = qc_error(w->diag, w->path, "cannot write: %s", strerror(errno));
    if (w->temporary && status != QC_OK)
        unlink(w->temporary);
    return status;
}

static qc_status write_header(qc_diag *diag, qc_arena *arena, writer *w, const batch *in, int64_t vocabulary)
{
    const int64_t shape[] = {in->rows, in->columns, vocabulary};
    qc_st_out tensor = {.name = "logits", .dtype = "F32", .rank = 3, .shape = shape};
    char *header;
    size_t header_bytes;
    if (qc_st_layout(diag, arena, &tensor, 1, false, &header, &header_bytes))
        return QC_ERROR;
    w->row_bytes = (size_t)(tensor.size_bytes / (uint64_t)in->rows);
    return qc_write_all(diag, w->fd, w->path, header, header_bytes);
}

static qc_status take_row(void *user, size_t index, const float *logits)
{
    writer *w = user;
    (void)index; /* rows come in order */
    return qc_write_all(w->diag, w->fd, w->path, logits, w->row_bytes);
}

static qc_status run_rows(
    qc_model *model, qc_arena *arena, const batch *in, writer *w, qc_progress_fn progress, void *user)
{
    qc_sequence *rows = QC_NEW_ARRAY(arena, qc_sequence, (size_t)in->rows);
    for (int64_t i = 0; i < in->rows; i++)
        rows[i] = (qc_sequence){in->ids + i * in->columns, (size_t)in->columns};
    return qc_executor_run_many(model->executor, rows, (size_t)in->rows, take_row, w, progress, user);
}

qc_status qc_logits_run(
    qc_model *model, const char *input, const char *output, qc_progress_fn progress, void *progress_user)
{
    qc_diag *diag = qc_ctx_diag(model->ctx);
    qc_arena arena;
    qc_arena_init(&arena, qc_ctx_arena(model->ctx)->oom);
    int64_t vocabulary = qc_executor_vocabulary(model->executor);
    batch in = {0};
    qc_status status = read_batch(diag, &arena, input, vocabulary, &in);
    if (status == QC_OK) {
        writer w = {.diag = diag, .path = output, .fd = -1};
        status = open_writer(&w);
        if (status == QC_OK)
            status = write_header(diag, &arena, &w, &in, vocabulary);
        if (status == QC_OK)
            status = run_rows(model, &arena, &in, &w, progress, progress_user);
        status = close_writer(&w, status);
    }
    free(in.ids);
    qc_arena_fini(&arena);
    return status;
}
