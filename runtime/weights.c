/* SPDX-License-Identifier: MIT
 *
 * weights.c - opening a source of weights, streams of their values; see weights.h and, for what is cut where,
 * weights_internal.h.
 */
#include "runtime/weights_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "ir/support/io.h"

/* ---- what is a weight expression ----------------------------------------------------------------------- */

bool qc_value_is_weight_expression(const qc_value *value)
{
    const qc_op *op = qc_value_op(value);
    if (!op)
        return false;
    if (qc_op_is(op, "weight") || qc_op_is(op, "const"))
        return true;
    /* Depth first over the operands; each value once. */
    qc_arena arena;
    qc_arena_init(&arena, qc_ctx_arena(qc_module_ctx(qc_func_module(qc_op_func(op))))->oom);
    qc_map seen;
    qc_map_init(&seen, &arena);
    QC_VEC(const qc_value *) stack = {0};
    QC_PUSH(&arena, &stack, value);
    bool result = true;
    while (result && stack.count) {
        const qc_value *v = stack.items[--stack.count];
        if (!qc_map_set_n(&seen, (const char *)&v, sizeof v, NULL))
            continue;
        op = qc_value_op(v);
        result = op && !qc_op_has_effect(op) && !qc_op_is(op, "observe");
        for (size_t i = 0; result && i < qc_op_operand_count(op); i++)
            if (qc_op_operand(op, i))
                QC_PUSH(&arena, &stack, qc_op_operand(op, i));
    }
    qc_arena_fini(&arena);
    return result;
}

bool qc_weights_static_shape(const qc_type *type, int64_t dims[QC_MAX_RANK], int64_t *count)
{
    if (!type || !qc_type_static_count(type, count))
        return false;
    for (int i = 0; i < qc_type_rank(type); i++)
        if (!qc_dim_as_int(qc_type_dim(type, i), &dims[i]))
            return false;
    return *count <= INT64_MAX / 64; /* its bits can be counted */
}

bool qc_value_size_bytes(qc_ctx *ctx, const qc_value *value, size_t *size_bytes)
{
    int64_t dims[QC_MAX_RANK], count;
    const qc_type *type = qc_value_type(value);
    if (!qc_weights_static_shape(type, dims, &count)) {
        qc_ctx_error(ctx, "", "a weight expression must have a static shape that fits memory, not %s",
            type ? qc_type_text(ctx, type) : "none");
        return false;
    }
    *size_bytes = qc_weights_bytes(qc_type_dtype(type), count);
    return true;
}

/* ---- the source ---------------------------------------------------------------------------------------- */

static qc_status check_shards(qc_weights *w, const qc_module *module)
{
    for (size_t i = 0; i < qc_module_shard_count(module); i++) {
        uint64_t size;
        const char *hash, *name = qc_module_shard(module, i, &size, &hash);
        const qc_st_file *file = NULL;
        for (size_t k = 0; k < w->set.file_count && !file; k++)
            if (strcmp(w->set.files[k].name, name) == 0)
                file = &w->set.files[k];
        if (!file)
            return qc_ctx_error(
                w->ctx, w->directory, "there is no %s, which the IR's weights come from", name);
        if (file->size_bytes != size)
            return qc_ctx_error(w->ctx, file->path,
                "is another file than the IR was made from: %" PRIu64 " bytes, not %" PRIu64,
                file->size_bytes, size);
        if (strcmp(file->header_sha256, hash) != 0)
            return qc_ctx_error(w->ctx, file->path,
                "is another file than the IR was made from: its header has another SHA-256 (%.12s..., not "
                "%.12s...)",
                file->header_sha256, hash);
    }
    return QC_OK;
}

qc_weights *qc_weights_open(qc_ctx *ctx, const qc_module *module, const char *source_override)
{
    const char *directory = source_override ? source_override : qc_module_source(module);
    if (!directory || !*directory) {
        qc_ctx_error(ctx, "", "the IR names no directory that its weights come from");
        qc_ctx_note(ctx, "give it with --source=DIR");
        return NULL;
    }
    qc_weights *w = calloc(1, sizeof *w);
    if (!w) {
        qc_ctx_error(ctx, directory, "out of memory");
        return NULL;
    }
    w->ctx = ctx;
    qc_arena_init(&w->arena, qc_ctx_arena(ctx)->oom);
    w->directory = qc_arena_strdup(&w->arena, directory);
    if (qc_st_open_directory(qc_ctx_diag(ctx), &w->arena, w->directory, &w->set) != QC_OK) {
        qc_arena_fini(&w->arena);
        free(w);
        return NULL;
    }
    qc_map_init(&w->small, &w->arena);
    qc_map_init(&w->ahead, &w->arena);
    w->opened = QC_NEW_ARRAY(&w->arena, struct stat, w->set.file_count + 1);
    for (size_t i = 0; i < w->set.file_count; i++)
        if (fstat(w->set.files[i].fd, &w->opened[i]) != 0)
            memset(&w->opened[i], 0, sizeof w->opened[i]);
    if (check_shards(w, module) != QC_OK) {
        qc_ctx_note(ctx, "--source=DIR names another directory");
        qc_weights_close(w);
        return NULL;
    }
    return w;
}

void qc_weights_close(qc_weights *weights)
{
    if (!weights)
        return;
    qc_weights_free_searches(weights);
    for (int i = 0; i < weights->scratch_count; i++)
        qc_scratch_free(&weights->scratches[i]);
    free(weights->scratches);
    qc_st_close(&weights->set);
    qc_arena_fini(&weights->arena);
    free(weights);
}

void qc_weights_forget(qc_weights *weights)
{
    if (weights->small.count)
        qc_map_init(&weights->small, &weights->arena);
    qc_weights_drop_searches(weights);
}

void qc_weights_set_threads(qc_weights *weights, int threads)
{
    weights->threads = threads > 0 ? threads : 0;
}

const qc_st_set *qc_weights_tensors(const qc_weights *weights)
{
    return &weights->set;
}

const char *qc_weights_directory(const qc_weights *weights)
{
    return weights->directory;
}

/* The directory's entry must still be the file that is open, and that file as old and as long as it was. Its tensors are
 * read through the descriptor, so what was read so far is of one file; but a file that changes meanwhile is no source. */
qc_status qc_weights_check_source(qc_weights *weights)
{
    for (size_t i = 0; i < weights->set.file_count; i++) {
        const qc_st_file *file = &weights->set.files[i];
        const struct stat *was = &weights->opened[i];
        struct stat is;
        if (stat(file->path, &is) != 0)
            return qc_ctx_error(weights->ctx, file->path, "went away while it was read");
        if (is.st_dev != was->st_dev || is.st_ino != was->st_ino)
            return qc_ctx_error(weights->ctx, file->path, "was replaced while it was read");
        if (is.st_size != was->st_size || is.st_mtim.tv_sec != was->st_mtim.tv_sec ||
            is.st_mtim.tv_nsec != was->st_mtim.tv_nsec)
            return qc_ctx_error(weights->ctx, file->path, "changed while it was read");
    }
    return QC_OK;
}

/* ---- streams ------------------------------------------------------------------------------------------- */

qc_weight_stream *qc_weight_stream_open(qc_weights *weights, const qc_value *value)
{
    if (!qc_value_is_weight_expression(value)) {
        const char *hint = qc_value_hint(value);
        qc_ctx_error(weights->ctx, hint ? hint : "",
            "is no weight expression: it depends on a model input or on data");
        return NULL;
    }
    qc_weight_stream *s = calloc(1, sizeof *s);
    if (!s) {
        qc_ctx_error(weights->ctx, "", "out of memory");
        return NULL;
    }
    s->weights = weights;
    qc_arena_init(&s->arena, weights->arena.oom);
    qc_map_init(&s->infos, &s->arena);
    s->align_rows = 1;
    s->info = qc_weights_prepare(s, value, 0);
    if (!s->info) {
        qc_weight_stream_close(s);
        return NULL;
    }
    return s;
}

qc_status qc_weight_stream_read(qc_weight_stream *stream, int64_t first, int64_t count, void *buffer)
{
    return qc_weights_run_rows(stream->weights, stream->info, first, count, stream->align_rows, buffer);
}

int64_t qc_weight_stream_rows(const qc_weight_stream *stream)
{
    return stream->info->rows;
}

int64_t qc_weight_stream_row_elems(const qc_weight_stream *stream)
{
    return stream->info->row_elems;
}

size_t qc_weight_stream_bytes(const qc_weight_stream *stream)
{
    return stream->ready_bytes;
}

bool qc_weight_stream_brings_scales(const qc_weight_stream *stream)
{
    return !stream->info->ready && strcmp(stream->info->op, "quantize") == 0;
}

void qc_weight_stream_close(qc_weight_stream *stream)
{
    if (!stream)
        return;
    qc_weights_release_searches(stream);
    for (size_t i = 0; i < stream->buffers.count; i++)
        free(stream->buffers.items[i]);
    qc_arena_fini(&stream->arena);
    free(stream);
}

qc_status qc_weights_evaluate(qc_weights *weights, const qc_value *value, void *buffer)
{
    qc_weight_stream *s = qc_weight_stream_open(weights, value);
    if (!s)
        return QC_ERROR;
    qc_status status = qc_weight_stream_read(s, 0, s->info->rows, buffer);
    qc_weight_stream_close(s);
    return status;
}
