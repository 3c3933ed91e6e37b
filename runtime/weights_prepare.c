/* SPDX-License-Identifier: MIT
 *
 * weights_prepare.c - a weight expression made ready to be had row by row; see weights_internal.h.
 *
 * Depth first over the operands, each value once. What goes by rows gets its layout and arithmetic here; the rest is
 * computed whole with the reference semantics of the op table.
 */
#include "runtime/weights_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "ir/dtype/codec.h"
#include "ir/eval.h"
#include "ir/experts.h"

/* Longer chains of streamable ops get a value in between that is computed whole, which bounds recursion. */
enum { MAX_LEVEL = 16, MAX_DEPTH = 1000 };

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

/* Is every number of the type one of the other type? Of the types that tensors of a source are read as. */
static bool converts_exactly(qc_dtype from, qc_dtype to)
{
    return from == to || (to == QC_F32 && (from == QC_BF16 || from == QC_F16)) ||
           (to == QC_F64 && (from == QC_BF16 || from == QC_F16 || from == QC_F32));
}

/* The tensor of this name, whose shape is dims[rank] from dimension `skip` on; NULL after an error. A single number may be
 * stored as [] or [1]. */
static const qc_st_tensor *find_tensor(
    qc_weight_stream *s, const value_info *v, const char *name, int skip, int rank, const int64_t *dims)
{
    qc_ctx *ctx = ctx_of(s);
    const qc_st_tensor *t = qc_st_find(&s->weights->set, name);
    if (!t) {
        qc_ctx_error(ctx, s->weights->directory, "there is no tensor %s", name);
        return NULL;
    }
    int64_t count = 1, stored = 1;
    bool same = t->rank == rank + skip;
    for (int i = 0; i < rank; i++) {
        same = same && t->shape[i + skip] == dims[i];
        count *= dims[i];
    }
    for (int i = 0; i < t->rank; i++)
        stored *= t->shape[i];
    if (!same && (skip || t->rank > 1 || count != 1 || stored != 1)) {
        qc_ctx_error(ctx, name, "has another shape in %s than the IR's %s", s->weights->directory,
            qc_type_text(ctx, qc_value_type(v->value)));
        return NULL;
    }
    if (converts_exactly(qc_dtype_from_safetensors_name(t->dtype), v->dtype))
        return t;
    qc_ctx_error(ctx, name, "is stored as %s, which does not convert exactly to the IR's %s", t->dtype,
        qc_dtype_name(v->dtype));
    return NULL;
}

static qc_status prepare_weight(qc_weight_stream *s, const qc_op *op, value_info *v)
{
    const char *name = qc_attr_as_text(qc_op_attr(op, "tensor"));
    int64_t index = qc_attr_as_int(qc_op_attr(op, "index"));
    v->tensor = find_tensor(s, v, name, index >= 0, v->rank, v->dims);
    if (!v->tensor)
        return QC_ERROR;
    if (index >= 0 && index >= v->tensor->shape[0])
        return qc_ctx_error(ctx_of(s), name, "has %lld parts in %s, and no part %lld",
            (long long)v->tensor->shape[0], s->weights->directory, (long long)index);
    v->tensor_first = index > 0 ? index * v->count : 0;
    return QC_OK;
}

/* One tensor a row. */
static qc_status prepare_expert_weight(qc_weight_stream *s, const qc_op *op, value_info *v)
{
    const char *pattern = qc_attr_as_text(qc_op_attr(op, "tensor"));
    /* A bank of more experts than there are tensors ends at one that is not there. */
    size_t all = s->weights->set.tensor_count, most = (uint64_t)v->rows < all ? (size_t)v->rows : all;
    const qc_st_tensor **tensors = QC_NEW_ARRAY(&s->arena, const qc_st_tensor *, most + 1);
    for (int64_t e = 0; e < v->rows; e++) {
        const qc_st_tensor *t =
            find_tensor(s, v, qc_expert_name(&s->arena, pattern, e), 0, v->rank - 1, v->dims + 1);
        if (!t)
            return QC_ERROR;
        tensors[e] = t;
    }
    if (v->rows == 0)
        return qc_ctx_error(ctx_of(s), where_of(s, op), "a bank of no experts");
    v->tensors = tensors;
    v->tensor = tensors[0];
    return QC_OK;
}

static bool is_model_dtype(qc_dtype dtype)
{
    return dtype == QC_BF16 || dtype == QC_F16 || dtype == QC_F32;
}

static void *ready_buffer(qc_weight_stream *s, value_info *v)
{
    size_t bytes = qc_weights_bytes(v->dtype, v->count);
    void *buffer = malloc(bytes ? bytes : 1);
    if (!buffer) {
        qc_ctx_error(ctx_of(s), "", "out of memory (%zu bytes more were needed for weights)", bytes);
        return NULL;
    }
    s->ready_bytes += bytes;
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
    if (!buffer || qc_weights_run_rows(s->weights, v, 0, v->rows, s->align_rows, buffer) != QC_OK)
        return QC_ERROR;
    v->ready = buffer;
    v->level = 0;
    return QC_OK;
}

/* ---- what goes by rows --------------------------------------------------------------------------------- */

static qc_status read_part(qc_weight_stream *s, const qc_op *op, value_info *v)
{
    return qc_scheme_read(qc_ctx_diag(ctx_of(s)), where_of(s, op), qc_func_module(qc_op_func(op)),
        qc_attr_as_text(qc_op_attr(op, "scheme")), qc_attr_as_text(qc_op_attr(op, "arg")), &v->part);
}

/* Does the scale lie as the layout says it does? */
static bool scale_fits(const layout *l, const value_info *scale, int64_t rows)
{
    if (l->kind == LAYOUT_ONE)
        return scale->count == 1;
    return scale->count == qc_weights_scale_count(l, rows) &&
           scale->rows == (rows + l->block_rows - 1) / l->block_rows;
}

/* What dequantize says of its scales: `group` or `block`, else a scale a row or one for all. */
static bool dequantize_layout(const qc_op *op, const value_info *v, layout *l)
{
    const qc_attr *block = qc_op_attr(op, "block");
    qc_scheme_part part = {
        .granularity = QC_GRANULARITY_GROUP, .group_elems = qc_attr_as_int(qc_op_attr(op, "group"))};
    if (block && qc_attr_count(block) == 2) {
        part.granularity = QC_GRANULARITY_BLOCK;
        part.block_rows = qc_attr_as_int(qc_attr_item(block, 0));
        part.block_columns = qc_attr_as_int(qc_attr_item(block, 1));
    } else if (part.group_elems == 0) {
        part.granularity = v->scale->count == 1 ? QC_GRANULARITY_TENSOR : QC_GRANULARITY_TOKEN;
        if (v->scale->count != 1 && (v->scale->rank != v->rank || v->scale->dims[v->rank - 1] != 1))
            return false;
    }
    return qc_weights_layout(&part, v->x, l);
}

/* The operands that quantize and dequantize share; *streamable says whether rows can be had with them. */
static qc_status prepare_codes(qc_weight_stream *s, const qc_op *op, value_info *v, bool *streamable)
{
    const value_info *x = v->x;
    const bool quantize = qc_op_is(op, "quantize");
    bool fits;
    if (quantize) {
        if (read_part(s, op, v) != QC_OK)
            return QC_ERROR;
        if (v->dtype != v->part.type)
            return qc_ctx_error(ctx_of(s), where_of(s, op), "gives %s, its scheme %s",
                qc_dtype_name(v->dtype), qc_dtype_name(v->part.type));
        v->quantizer = qc_scheme_quantizer(&v->part, x->dtype);
        fits = is_model_dtype(x->dtype) && qc_weights_layout(&v->part, x, &v->layout);
    } else {
        v->quantizer = (qc_quantizer){.model_dtype = v->dtype,
            .grid = qc_grid_of(x->dtype),
            .symmetric = v->zero_point == NULL,
            .global = qc_op_operand_named(op, "global") != NULL,
            .scale_type = v->scale->dtype == v->dtype ? QC_DTYPE_NONE : v->scale->dtype};
        fits = is_model_dtype(v->dtype) && v->quantizer.grid.storage != QC_DTYPE_NONE &&
               dequantize_layout(op, v, &v->layout);
    }
    *streamable = fits && scale_fits(&v->layout, v->scale, v->rows) &&
                  (!v->zero_point || scale_fits(&v->layout, v->zero_point, v->rows));
    return QC_OK;
}

static qc_status store_small(qc_weight_stream *s, value_info *v, float number)
{
    void *bytes = qc_arena_alloc(&s->weights->arena, 16);
    qc_encode_f32(v->dtype, &number, bytes, 1);
    qc_map_set_n(&s->weights->small, (const char *)&v->value, sizeof v->value, bytes);
    v->ready = bytes;
    v->level = 0;
    return QC_OK;
}

/* Errors of columns count as much as the columns matter, where something is known of that. */
static qc_status prepare_importance(qc_weight_stream *s, value_info *v, value_info *importance)
{
    if (!importance || v->layout.kind != LAYOUT_LINES || importance->dtype != QC_F32 ||
        importance->count != v->layout.columns)
        return QC_OK;
    if (make_ready(s, importance) != QC_OK)
        return QC_ERROR;
    float *weights = QC_NEW_ARRAY(&s->arena, float, (size_t)importance->count + 1);
    if (v->mse.imatrix && qc_mse_importance(importance->ready, importance->count, weights))
        v->column_weights = weights;
    return QC_OK;
}

/* Is there one result for each expert of a bank? Those are computed whole; whoever takes experts one by one has expressions
 * of single ones. */
static bool is_of_experts(const qc_op *op)
{
    return qc_attr_as_int(qc_op_attr(op, "experts")) > 0;
}

/* qparams and zero_point of data. */
static qc_status prepare_scale(
    qc_weight_stream *s, const qc_op *op, value_info *v, value_info *importance, bool *streamable)
{
    bool searches;
    *streamable = false;
    if (strcmp(qc_attr_as_text(qc_op_attr(op, "from")), "stat") == 0 || is_of_experts(op))
        return QC_OK;
    if (read_part(s, op, v) != QC_OK ||
        qc_weights_mse(ctx_of(s), where_of(s, op), &v->part, &v->mse, &searches) != QC_OK)
        return QC_ERROR;
    if (!is_model_dtype(v->x->dtype) || !qc_weights_layout(&v->part, v->x, &v->layout))
        return searches ? qc_ctx_error(ctx_of(s), where_of(s, op),
                              "observer %s does not search ranges of %s in %s", v->part.observer,
                              qc_granularity_name(v->part.granularity),
                              qc_type_text(ctx_of(s), qc_value_type(v->x->value)))
                        : QC_OK;
    *streamable = true;
    v->quantizer = qc_scheme_quantizer(&v->part, v->x->dtype);
    if (v->x->count == 0)
        return qc_ctx_error(ctx_of(s), where_of(s, op), "a tensor without elements has no scale");
    if (v->layout.kind == LAYOUT_ONE) {
        v->ready = qc_map_get_n(&s->weights->small, (const char *)&v->value, sizeof v->value);
        if (v->ready)
            return QC_OK;
    }
    if (searches && (prepare_importance(s, v, importance) != QC_OK || qc_weights_search(s, v) != QC_OK))
        return QC_ERROR;
    if (v->layout.kind != LAYOUT_ONE)
        return QC_OK;
    float scale, zero;
    if (qc_weights_tensor_scale(s, v, &scale, &zero) != QC_OK)
        return QC_ERROR;
    return store_small(s, v, qc_op_is(op, "zero_point") ? zero : scale);
}

/* A global scale of data: operand 0 is the importance, then the members of the fused set. */
static qc_status prepare_global(
    qc_weight_stream *s, const qc_op *op, value_info *v, value_info **operands, bool *done)
{
    float amax = 0;
    bool searches;
    *done = strcmp(qc_attr_as_text(qc_op_attr(op, "from")), "stat") != 0 && !is_of_experts(op);
    if (!*done || read_part(s, op, v) != QC_OK ||
        qc_weights_mse(ctx_of(s), where_of(s, op), &v->part, &v->mse, &searches) != QC_OK)
        return *done ? QC_ERROR : QC_OK;
    v->ready = qc_map_get_n(&s->weights->small, (const char *)&v->value, sizeof v->value);
    if (v->ready)
        return QC_OK;
    for (size_t i = 1; i < qc_op_operand_count(op); i++) {
        value_info member = *v;
        float of_member;
        member.x = operands[i];
        member.search = NULL;
        member.column_weights = NULL;
        if (!is_model_dtype(member.x->dtype) || member.x->dtype != operands[1]->dtype ||
            !qc_weights_layout(&v->part, member.x, &member.layout))
            return qc_ctx_error(ctx_of(s), where_of(s, op), "cannot be made of %s",
                qc_type_text(ctx_of(s), qc_value_type(member.x->value)));
        member.quantizer = v->quantizer = qc_scheme_quantizer(&v->part, member.x->dtype);
        if ((searches && prepare_importance(s, &member, operands[0]) != QC_OK) ||
            qc_weights_amax(s, &member, searches, &of_member) != QC_OK)
            return QC_ERROR;
        amax = of_member > amax ? of_member : amax;
    }
    return store_small(s, v, qc_quantizer_global(&v->quantizer, amax));
}

static const qc_op_info *op_info_of(const qc_op *op)
{
    for (size_t i = 0; i < qc_op_info_count; i++)
        if (strcmp(qc_op_infos[i].name, qc_op_name(op)) == 0)
            return &qc_op_infos[i];
    return NULL;
}

/* Codes of less than 8 bits lie densely in the IR's tensors and one to a byte here. */
static void *to_dense(qc_arena *arena, const value_info *v)
{
    int bits = qc_dtype_bits(v->dtype);
    if (bits >= 8)
        return v->ready;
    uint8_t *dense = qc_arena_alloc(arena, ((size_t)v->count * (size_t)bits + 7) / 8 + 1);
    memset(dense, 0, ((size_t)v->count * (size_t)bits + 7) / 8 + 1);
    for (int64_t i = 0; i < v->count; i++)
        qc_code_put(dense, bits, (size_t)i, ((const uint8_t *)v->ready)[i]);
    return dense;
}

static void from_dense(const value_info *v, const void *dense, uint8_t *codes)
{
    int bits = qc_dtype_bits(v->dtype);
    for (int64_t i = 0; i < v->count; i++) {
        uint32_t code = qc_code_get(dense, bits, (size_t)i);
        codes[i] = qc_dtype_is_int(v->dtype) ? (uint8_t)qc_code_signed(code, bits) : (uint8_t)code;
    }
}

static qc_status prepare_const(qc_weight_stream *s, const qc_op *op, value_info *v)
{
    const qc_attr *data = qc_op_attr(op, "value");
    if (!data || qc_attr_data_dtype(data) != v->dtype || (int64_t)qc_attr_count(data) != v->count)
        return qc_ctx_error(ctx_of(s), where_of(s, op), "the constant's elements do not fit its type");
    v->data = qc_attr_data_bytes(data);
    if (qc_dtype_bits(v->dtype) >= 8)
        return QC_OK;
    if (!(v->ready = ready_buffer(s, v)))
        return QC_ERROR;
    from_dense(v, v->data, v->ready);
    return QC_OK;
}

/* Any other op: whole operands through the reference semantics. */
static qc_status evaluate_whole(qc_weight_stream *s, const qc_op *op, value_info *v, value_info **operands)
{
    const qc_op_info *info = op_info_of(op);
    const char *where = where_of(s, op);
    const bool dense = qc_dtype_bits(v->dtype) < 8;
    if (!info || !info->eval || info->result_count != 1)
        return qc_ctx_error(ctx_of(s), where, "cannot be computed on weights");
    size_t count = qc_op_operand_count(op);
    for (size_t i = 0; i < count; i++)
        if (operands[i] && make_ready(s, operands[i]) != QC_OK)
            return QC_ERROR;
    qc_arena arena;
    qc_arena_init(&arena, s->arena.oom);
    const qc_tensor **tensors = QC_NEW_ARRAY(&arena, const qc_tensor *, count + 1);
    for (size_t i = 0; i < count; i++) {
        if (!operands[i])
            continue;
        qc_tensor *t = QC_NEW(&arena, qc_tensor);
        *t = (qc_tensor){.dtype = operands[i]->dtype, .rank = operands[i]->rank, .count = operands[i]->count};
        memcpy(t->dims, operands[i]->dims, sizeof t->dims);
        t->data = to_dense(&arena, operands[i]);
        tensors[i] = t;
    }
    qc_tensor result = {.dtype = v->dtype, .rank = v->rank, .count = v->count};
    size_t bytes = ((size_t)v->count * (size_t)qc_dtype_bits(v->dtype) + 7) / 8;
    v->ready = ready_buffer(s, v);
    result.data = dense ? qc_arena_alloc(&arena, bytes + 1) : v->ready;
    qc_status status = v->ready ? QC_OK : QC_ERROR;
    if (status == QC_OK) {
        memcpy(result.dims, v->dims, sizeof result.dims);
        memset(result.data, 0, bytes);
        qc_eval eval = {
            .diag = qc_ctx_diag(ctx_of(s)), .scratch = &arena, .module = qc_func_module(qc_op_func(op))};
        status = info->eval(&eval, op, tensors, &result);
    }
    if (status == QC_OK && dense)
        from_dense(v, result.data, v->ready);
    qc_arena_fini(&arena);
    return status;
}

static bool is_turn(const qc_op *op)
{
    return qc_op_is(op, "hadamard") || qc_op_is(op, "center") || qc_op_is(op, "fill") || qc_op_is(op, "mul");
}

/* Rotations and the like; rows that are turned together and are too many for a chunk make the value ready. */
static qc_status prepare_turn(
    qc_weight_stream *s, const qc_op *op, value_info *v, value_info **operands, bool *streamable)
{
    value_info *factors = qc_op_is(op, "mul") ? operands[1] : NULL;
    v->x = qc_op_is(op, "fill") ? NULL : operands[0];
    /* Only what is as long as a row can be one factor a column: a whole tensor stays where it is. */
    if (factors && factors->count == v->row_elems && make_ready(s, factors) != QC_OK)
        return QC_ERROR;
    if (qc_weights_prepare_turn(s, op, where_of(s, op), v, factors, streamable) != QC_OK)
        return QC_ERROR;
    uint64_t row_bytes = qc_weights_bytes(v->dtype, v->row_elems);
    if (!*streamable || !qc_weights_turn_is_whole(qc_weights_turn_align(v), row_bytes))
        return QC_OK;
    void *buffer = ready_buffer(s, v);
    if (!buffer || qc_weights_turn_whole(s->weights, v, s->align_rows, buffer) != QC_OK)
        return QC_ERROR;
    v->ready = buffer;
    v->level = 0;
    return QC_OK;
}

static qc_status make_transpose(qc_weight_stream *s, value_info *v)
{
    void *buffer = ready_buffer(s, v);
    if (!buffer || qc_weights_transpose_whole(s->weights, v, s->align_rows, buffer) != QC_OK)
        return QC_ERROR;
    v->ready = buffer;
    v->level = 0;
    v->spread = 1;
    return QC_OK;
}

/* A stored global scale that no value can be divided by; 0 would pass for none. */
static qc_status refuse_global(qc_weight_stream *s, const qc_op *op, float global)
{
    const qc_op *made_by = qc_value_op(qc_op_operand_named(op, "global"));
    const char *name = made_by && qc_op_is(made_by, "weight") ? qc_attr_as_text(qc_op_attr(made_by, "tensor"))
                                                              : where_of(s, op);
    return qc_ctx_error(ctx_of(s), name, "is %g, and a global scale must be positive", (double)global);
}

/* Fills what the op's kind needs; *streamable: its rows can be had one by one. It may be ready already. */
static qc_status prepare_kind(
    qc_weight_stream *s, const qc_op *op, value_info *v, value_info **operands, bool *streamable)
{
    *streamable = false;
    if (qc_op_is(op, "global_scale"))
        return prepare_global(s, op, v, operands, streamable);
    if (is_turn(op))
        return prepare_turn(s, op, v, operands, streamable);
    const bool scaled = qc_op_is(op, "quantize") || qc_op_is(op, "dequantize");
    const bool scale = qc_op_is(op, "qparams"), zero = qc_op_is(op, "zero_point");
    if (!scaled && !scale && !zero) {
        v->x = operands[0];
        *streamable = qc_op_is(op, "cast") && qc_dtype_bits(v->dtype) >= 8 && qc_dtype_bits(v->x->dtype) >= 8;
        if (qc_op_is(op, "unpack"))
            *streamable = v->rank == 2 && v->x->rank == 2 && v->rows == v->x->rows;
        if (qc_op_is(op, "slice") || qc_op_is(op, "reshape"))
            return qc_weights_prepare_move(s, op, v, streamable);
        if (qc_op_is(op, "transpose") && qc_weights_transposes(op, v))
            return make_transpose(s, v);
        return QC_OK;
    }
    v->x = operands[0];
    value_info *global = scaled ? operands[2] : scale ? operands[1] : NULL;
    if (global) {
        if (make_ready(s, global) != QC_OK)
            return QC_ERROR;
        if (global->count != 1) /* one an expert */
            return QC_OK;
        qc_decode_f32(global->dtype, global->ready, &v->global, 1);
        if (qc_op_is(op, "dequantize") && !(v->global > 0))
            return refuse_global(s, op, v->global);
    }
    if (!scaled)
        return prepare_scale(s, op, v, operands[scale ? 2 : 1], streamable);
    v->scale = operands[1];
    v->zero_point = operands[3];
    if (prepare_codes(s, op, v, streamable) != QC_OK)
        return QC_ERROR;
    for (int i = 1; *streamable && v->layout.kind == LAYOUT_ONE && i < 4; i += 2)
        if (operands[i] && make_ready(s, operands[i]) != QC_OK)
            return QC_ERROR;
    return QC_OK;
}

/* Chunks of so many rows cut no block of `rows` nor what was kept whole before; the larger of the two where both together
 * would make chunks long: then some blocks are computed twice. */
static int64_t align_both(int64_t align, int64_t rows)
{
    enum { MOST_ROWS = 4096 };
    int64_t both = align;
    while (rows > 0 && both % rows != 0 && both <= MOST_ROWS)
        both += align;
    return both <= MOST_ROWS ? both : align > rows ? align : rows;
}

static qc_status prepare_op(qc_weight_stream *s, const qc_op *op, value_info *v, int depth)
{
    size_t count = qc_op_operand_count(op);
    value_info **operands = QC_NEW_ARRAY(&s->arena, value_info *, count < 4 ? 4 : count);
    bool streamable;
    for (size_t i = 0; i < count; i++) {
        const qc_value *operand = qc_op_operand(op, i);
        if (operand && !(operands[i] = qc_weights_prepare(s, operand, depth + 1)))
            return QC_ERROR;
        if (operands[i] && operands[i]->level >= v->level)
            v->level = operands[i]->level + 1;
        if (operands[i] && !operands[i]->ready && operands[i]->spread > v->spread)
            v->spread = operands[i]->spread;
    }
    if (prepare_kind(s, op, v, operands, &streamable) != QC_OK)
        return QC_ERROR;
    if (v->ready)
        return QC_OK;
    if (streamable) {
        int64_t rows = v->turn ? qc_weights_turn_align(v) : v->layout.block_rows;
        s->align_rows = align_both(s->align_rows, rows);
        return v->level >= MAX_LEVEL ? make_ready(s, v) : QC_OK;
    }
    v->level = 0;
    return evaluate_whole(s, op, v, operands);
}

value_info *qc_weights_prepare(qc_weight_stream *s, const qc_value *value, int depth)
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
    v->spread = 1;
    v->dtype = qc_type_dtype(qc_value_type(value));
    v->rank = qc_type_rank(qc_value_type(value));
    if (!qc_weights_static_shape(qc_value_type(value), v->dims, &v->count)) {
        qc_ctx_error(ctx, where_of(s, op),
            "a weight expression must have a static shape that fits memory, not %s",
            qc_type_text(ctx, qc_value_type(value)));
        return NULL;
    }
    v->rows = v->rank ? v->dims[0] : 1;
    v->row_elems = v->rows ? v->count / v->rows : 0;
    qc_status status = qc_op_is(op, "weight")          ? prepare_weight(s, op, v)
                       : qc_op_is(op, "expert_weight") ? prepare_expert_weight(s, op, v)
                       : qc_op_is(op, "const")         ? prepare_const(s, op, v)
                                                       : prepare_op(s, op, v, depth);
    if (status != QC_OK)
        return NULL;
    qc_map_set_n(&s->infos, (const char *)&value, sizeof value, v);
    return v;
}
