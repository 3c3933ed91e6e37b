/* SPDX-License-Identifier: MIT
 *
 * weights.c - opening a source of weights, and making weight expressions ready to be had row by row; see
 * weights.h and, for what is cut where, weights_internal.h.
 */
#include "runtime/weights_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "ir/dtype/codec.h"
#include "ir/eval.h"
#include "ir/support/io.h"

/* Longer chains of streamable ops get a value in between that is computed whole, which bounds recursion. */
enum { MAX_LEVEL = 16, MAX_DEPTH = 1000 };

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

static bool static_shape(const qc_type *type, int64_t dims[QC_MAX_RANK], int64_t *count)
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
    if (!static_shape(type, dims, &count)) {
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
    qc_st_close(&weights->set);
    qc_arena_fini(&weights->arena);
    free(weights);
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

/* ---- preparing an expression --------------------------------------------------------------------------- */

static value_info *prepare(qc_weight_stream *s, const qc_value *value, int depth);

static qc_ctx *ctx_of(const qc_weight_stream *s)
{
    return s->weights->ctx;
}

/* "model.layers.0.mlp.up_proj: quantize" for diagnostics. */
static const char *where_of(qc_weight_stream *s, const qc_op *op)
{
    const qc_node *node = qc_op_node(op);
    if (!node)
        return qc_op_name(op);
    return qc_arena_printf(&s->arena, "%s: %s", qc_node_path(node), qc_op_name(op));
}

static qc_status prepare_weight(qc_weight_stream *s, const qc_op *op, value_info *v)
{
    qc_ctx *ctx = ctx_of(s);
    const char *name = qc_attr_as_text(qc_op_attr(op, "tensor"));
    v->tensor = qc_st_find(&s->weights->set, name);
    if (!v->tensor)
        return qc_ctx_error(ctx, s->weights->directory, "there is no tensor %s", name);
    v->tensor_dtype = qc_dtype_from_safetensors_name(v->tensor->dtype);
    bool same = v->tensor->rank == v->rank;
    for (int i = 0; same && i < v->rank; i++)
        same = v->tensor->shape[i] == v->dims[i];
    if (!same)
        return qc_ctx_error(ctx, name, "has another shape in %s than the IR's %s", s->weights->directory,
            qc_type_text(ctx, qc_value_type(v->value)));
    qc_dtype from = v->tensor_dtype, to = v->dtype;
    bool exact = from == to || (to == QC_F32 && (from == QC_BF16 || from == QC_F16)) ||
                 (to == QC_F64 && (from == QC_BF16 || from == QC_F16 || from == QC_F32));
    if (!exact)
        return qc_ctx_error(ctx, name, "is stored as %s, which does not convert exactly to the IR's %s",
            v->tensor->dtype, qc_dtype_name(to));
    return QC_OK;
}

static qc_status prepare_const(qc_weight_stream *s, const qc_op *op, value_info *v)
{
    const qc_attr *data = qc_op_attr(op, "value");
    if (!data || qc_attr_data_dtype(data) != v->dtype || (int64_t)qc_attr_count(data) != v->count)
        return qc_ctx_error(ctx_of(s), where_of(s, op), "the constant's elements do not fit its type");
    v->data = qc_attr_data_bytes(data);
    return QC_OK;
}

static bool is_model_dtype(qc_dtype dtype)
{
    return dtype == QC_BF16 || dtype == QC_F16 || dtype == QC_F32;
}

static bool whole_bytes(const value_info *v)
{
    return qc_dtype_bits(v->dtype) >= 8;
}

/* Can this op's rows be had one by one from rows of its operands? Fills grid and scheme when it can. */
static qc_status check_streamable(qc_weight_stream *s, const qc_op *op, value_info *v, bool *streamable)
{
    *streamable = false;
    const value_info *x = v->x, *scale = v->scale;
    if (!x || !whole_bytes(v) || !whole_bytes(x))
        return QC_OK;
    const bool quantize = qc_op_is(op, "quantize"), qparams = qc_op_is(op, "qparams");
    if (qc_op_is(op, "cast")) {
        *streamable = true;
        return QC_OK;
    }
    if (quantize || qparams) {
        if (qc_scheme_read(qc_ctx_diag(ctx_of(s)), where_of(s, op), qc_func_module(qc_op_func(op)),
                qc_attr_as_text(qc_op_attr(op, "scheme")), qc_attr_as_text(qc_op_attr(op, "arg")),
                &v->part) != QC_OK)
            return QC_ERROR;
        v->grid = v->part.grid;
        if (!v->part.symmetric)
            return qc_ctx_error(ctx_of(s), where_of(s, op), "asymmetric schemes have no zero points here");
        if (!is_model_dtype(x->dtype))
            return QC_OK;
    }
    if (qparams) {
        bool stat = strcmp(qc_attr_as_text(qc_op_attr(op, "from")), "stat") == 0;
        *streamable = !stat && v->part.granularity == QC_GRANULARITY_CHANNEL && v->rows == x->rows &&
                      v->count == v->rows;
        return QC_OK;
    }
    if (qc_op_is(op, "dequantize")) {
        v->grid = qc_grid_of(x->dtype);
        if (v->grid.storage != x->dtype || !is_model_dtype(v->dtype))
            return QC_OK;
    } else if (v->grid.storage != v->dtype) {
        return QC_OK;
    }
    bool one = scale->count == 1, per_row = scale->count == x->rows && scale->rank >= 1 &&
                                            scale->rank == x->rank && scale->rows == x->rows;
    *streamable = is_model_dtype(scale->dtype) && (one || per_row);
    return QC_OK;
}

static void *ready_buffer(qc_weight_stream *s, value_info *v)
{
    size_t bytes = qc_weights_bytes(v->dtype, v->count);
    void *buffer = malloc(bytes ? bytes : 1);
    if (!buffer) {
        qc_ctx_error(ctx_of(s), "", "out of memory (%zu bytes more were needed for weights)", bytes);
        return NULL;
    }
    QC_PUSH(&s->arena, &s->buffers, buffer);
    return buffer;
}

/* Computes all elements of a streamable value. */
static qc_status make_ready(qc_weight_stream *s, value_info *v)
{
    if (v->ready || v->data) {
        if (!v->ready)
            v->ready = (void *)(uintptr_t)v->data;
        return QC_OK;
    }
    void *buffer = ready_buffer(s, v);
    if (!buffer || qc_weights_run_rows(s, v, 0, v->rows, buffer, NULL) != QC_OK)
        return QC_ERROR;
    v->ready = buffer;
    v->level = 0;
    return QC_OK;
}

/* The scale of a whole tensor: its range first. */
static qc_status tensor_scale(qc_weight_stream *s, value_info *v)
{
    float min, max, scale, zero;
    if (v->x->count == 0)
        return qc_ctx_error(
            ctx_of(s), where_of(s, qc_value_op(v->value)), "a tensor without elements has no scale");
    if (qc_weights_run_minmax(s, v->x, &min, &max) != QC_OK)
        return QC_ERROR;
    void *buffer = ready_buffer(s, v);
    if (!buffer)
        return QC_ERROR;
    qc_arith_scale(v->part.arith, v->x->dtype, v->grid, true, min, max, &scale, &zero);
    qc_encode_f32(v->dtype, &scale, buffer, 1);
    v->ready = buffer;
    return QC_OK;
}

static const qc_op_info *op_info_of(const qc_op *op)
{
    for (size_t i = 0; i < qc_op_info_count; i++)
        if (strcmp(qc_op_infos[i].name, qc_op_name(op)) == 0)
            return &qc_op_infos[i];
    return NULL;
}

/* Any other op: whole operands through the reference semantics. */
static qc_status evaluate_whole(qc_weight_stream *s, const qc_op *op, value_info *v, value_info **operands)
{
    const qc_op_info *info = op_info_of(op);
    const char *where = where_of(s, op);
    if (!info || !info->eval || info->result_count != 1)
        return qc_ctx_error(ctx_of(s), where, "cannot be computed on weights");
    size_t count = qc_op_operand_count(op);
    const qc_tensor **tensors = QC_NEW_ARRAY(&s->arena, const qc_tensor *, count + 1);
    for (size_t i = 0; i < count; i++) {
        if (!operands[i])
            continue;
        if (make_ready(s, operands[i]) != QC_OK)
            return QC_ERROR;
        qc_tensor *t = QC_NEW(&s->arena, qc_tensor);
        *t = (qc_tensor){.dtype = operands[i]->dtype, .rank = operands[i]->rank, .count = operands[i]->count};
        memcpy(t->dims, operands[i]->dims, sizeof t->dims);
        t->data = operands[i]->ready;
        tensors[i] = t;
    }
    qc_tensor result = {.dtype = v->dtype, .rank = v->rank, .count = v->count, .data = ready_buffer(s, v)};
    if (!result.data)
        return QC_ERROR;
    memcpy(result.dims, v->dims, sizeof result.dims);
    memset(result.data, 0, qc_weights_bytes(v->dtype, v->count));
    qc_arena scratch;
    qc_arena_init(&scratch, s->arena.oom);
    qc_eval eval = {
        .diag = qc_ctx_diag(ctx_of(s)), .scratch = &scratch, .module = qc_func_module(qc_op_func(op))};
    qc_status status = info->eval(&eval, op, tensors, &result);
    qc_arena_fini(&scratch);
    v->ready = result.data;
    return status;
}

static qc_status prepare_op(qc_weight_stream *s, const qc_op *op, value_info *v, int depth)
{
    size_t count = qc_op_operand_count(op);
    value_info **operands = QC_NEW_ARRAY(&s->arena, value_info *, count + 1);
    for (size_t i = 0; i < count; i++) {
        const qc_value *operand = qc_op_operand(op, i);
        if (operand && !(operands[i] = prepare(s, operand, depth + 1)))
            return QC_ERROR;
        if (operands[i] && operands[i]->level >= v->level)
            v->level = operands[i]->level + 1;
    }
    const bool scaled = qc_op_is(op, "quantize") || qc_op_is(op, "dequantize");
    if (scaled || qc_op_is(op, "qparams") || qc_op_is(op, "cast")) {
        v->x = operands[0];
        v->scale = scaled ? operands[1] : NULL;
        bool streamable;
        if (check_streamable(s, op, v, &streamable) != QC_OK)
            return QC_ERROR;
        if (streamable) {
            if (scaled && v->scale->count == 1 && make_ready(s, operands[1]) != QC_OK)
                return QC_ERROR;
            return v->level >= MAX_LEVEL ? make_ready(s, v) : QC_OK;
        }
        bool data = strcmp(qc_attr_as_text(qc_op_attr(op, "from")), "stat") != 0;
        if (qc_op_is(op, "qparams") && data && v->part.granularity == QC_GRANULARITY_TENSOR &&
            is_model_dtype(v->x->dtype))
            return tensor_scale(s, v);
    }
    v->level = 0;
    return evaluate_whole(s, op, v, operands);
}

static value_info *prepare(qc_weight_stream *s, const qc_value *value, int depth)
{
    value_info *v = qc_map_get_n(&s->infos, (const char *)&value, sizeof value);
    if (v)
        return v;
    qc_ctx *ctx = ctx_of(s);
    const qc_op *op = qc_value_op(value);
    if (!op || depth > MAX_DEPTH) {
        qc_ctx_error(ctx, op ? where_of(s, op) : "",
            op ? "the weight expression is nested too deeply" : "depends on a model input");
        return NULL;
    }
    v = QC_NEW(&s->arena, value_info);
    v->value = value;
    v->op = qc_op_name(op);
    v->dtype = qc_type_dtype(qc_value_type(value));
    v->rank = qc_type_rank(qc_value_type(value));
    if (!static_shape(qc_value_type(value), v->dims, &v->count)) {
        qc_ctx_error(ctx, where_of(s, op),
            "a weight expression must have a static shape that fits memory, not %s",
            qc_type_text(ctx, qc_value_type(value)));
        return NULL;
    }
    v->rows = v->rank ? v->dims[0] : 1;
    v->row_elems = v->rows ? v->count / v->rows : 0;
    qc_status status = qc_op_is(op, "weight")  ? prepare_weight(s, op, v)
                       : qc_op_is(op, "const") ? prepare_const(s, op, v)
                                               : prepare_op(s, op, v, depth);
    if (status != QC_OK)
        return NULL;
    qc_map_set_n(&s->infos, (const char *)&value, sizeof value, v);
    return v;
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
    s->info = prepare(s, value, 0);
    if (!s->info) {
        qc_weight_stream_close(s);
        return NULL;
    }
    return s;
}

qc_status qc_weight_stream_read(
    qc_weight_stream *stream, int64_t first, int64_t count, void *buffer, void *scale_buffer)
{
    const value_info *v = stream->info;
    if (scale_buffer &&
        (v->ready || strcmp(v->op, "quantize") != 0 || v->scale->count != v->rows || v->count == 0))
        return qc_ctx_error(stream->weights->ctx, v->op, "has no scale for each row");
    return qc_weights_run_rows(stream, v, first, count, buffer, scale_buffer);
}

int64_t qc_weight_stream_rows(const qc_weight_stream *stream)
{
    return stream->info->rows;
}

int64_t qc_weight_stream_row_elems(const qc_weight_stream *stream)
{
    return stream->info->row_elems;
}

void qc_weight_stream_close(qc_weight_stream *stream)
{
    if (!stream)
        return;
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
    qc_status status = qc_weight_stream_read(s, 0, s->info->rows, buffer, NULL);
    qc_weight_stream_close(s);
    return status;
}
