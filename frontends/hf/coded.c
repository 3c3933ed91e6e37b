/* SPDX-License-Identifier: MIT
 *
 * coded.c - weights that a checkpoint of compressed-tensors holds as codes: which tensors they consist of, and the
 * ops that make numbers of them again.
 *
 *   weight          codes of a byte each, or
 *   weight_packed   f4e2m1 two to a byte; integers as a stream of bits over i32 words along a row
 *   weight_scale    [1], [rows, 1], [rows, groups] or [blocks, blocks]; bytes of E8M0 under MX
 *   weight_global_scale, input_global_scale   f32[1], what scales of f8e4m3 are relative to
 *   weight_zero_point   as the scale, i8; for packed integers words along the rows
 *   weight_shape    of packed integers: rows and columns
 *   input_scale, input_zero_point   [1], static inputs
 *   weight_scale_inv    [blocks, blocks] beside FP8 codes as DeepSeek stores them: a factor, in spite of the name
 *
 * (compressed-tensors 0.19, compressors/quantized_compressors.) Scales of static inputs are read here, because
 * the function holds them as constants; everything else is a weight expression.
 */
#include "frontends/hf/import.h"

#include <math.h>

#include "ir/dtype/codec.h"
#include "qc/ops.h"

/* ---- tensors ------------------------------------------------------------------------------------------- */

static const char quantization_config[] = "quantization_config";

static const char *tensor_name(const qc_hf_state *s, const qc_hf_linear *linear, const char *short_name)
{
    const qc_node *node =
        linear->weights && qc_starts_with(short_name, "weight") ? linear->weights : linear->node;
    return qc_arena_printf(s->arena, "%s.%s", qc_node_path(node), short_name);
}

static int64_t pieces(int64_t count, int64_t size)
{
    return count / size + (count % size != 0);
}

static bool is_granularity(const qc_hf_args *args, const char *name)
{
    return strcmp(args->granularity, name) == 0;
}

/* The shape of the weight's scale. */
static qc_hf_expectation scale_shape(const qc_hf_linear *linear)
{
    const qc_hf_args *w = &linear->group->weights;
    qc_hf_expectation e = {2, {linear->out, 1}, QC_DTYPE_NONE, quantization_config};
    if (is_granularity(w, "tensor")) {
        e.rank = 1;
        e.shape[0] = 1;
    } else if (is_granularity(w, "group")) {
        e.shape[1] = pieces(linear->in, w->group);
    } else if (is_granularity(w, "block")) {
        e.shape[0] = pieces(linear->out, w->block[0]);
        e.shape[1] = pieces(linear->in, w->block[1]);
    }
    return e;
}

/* Rows and columns beside packed integers must be those of config.json. */
static void check_shape(qc_hf_state *s, const qc_hf_linear *linear)
{
    const char *name = tensor_name(s, linear, "weight_shape");
    const qc_st_tensor *tensor = qc_st_find(&s->set, name);
    int64_t shape[2];
    size_t errors = s->error_count;
    qc_hf_own_tensor(
        s, linear->node, "weight_shape", &(qc_hf_expectation){1, {2}, QC_I64, quantization_config});
    if (s->error_count != errors)
        return;
    if (qc_st_read(s->diag, &s->set, tensor, shape))
        s->error_count++;
    else if (shape[0] != linear->out || shape[1] != linear->in)
        qc_hf_tensor_error(s, tensor,
            qc_arena_printf(s->arena, "tensor %s says [%lld, %lld], but config.json implies [%lld, %lld]",
                name, (long long)shape[0], (long long)shape[1], (long long)linear->out,
                (long long)linear->in));
}

static void own_weight(qc_hf_state *s, const qc_hf_linear *linear, const char *keys)
{
    const qc_hf_args *w = &linear->group->weights;
    int64_t bits = qc_dtype_bits(w->code);
    qc_hf_expectation e = {2, {linear->out, linear->in}, QC_I8, keys};
    switch (linear->group->storage) {
    case QC_HF_STORAGE_NIBBLES:
        e.code = QC_U8;
        e.shape[1] = pieces(linear->in, 2);
        qc_hf_own_tensor(s, linear->node, "weight_packed", &e);
        return;
    case QC_HF_STORAGE_WORDS:
        e.code = QC_I32;
        e.shape[1] = pieces(linear->in * bits, 32);
        qc_hf_own_tensor(s, linear->node, "weight_packed", &e);
        check_shape(s, linear);
        return;
    case QC_HF_STORAGE_PLAIN:
    case QC_HF_STORAGE_NONE:
        e.code = qc_dtype_is_int(w->code) ? QC_I8 : w->code;
        qc_hf_own_tensor(s, linear->node, "weight", &e);
        return;
    }
}

static void own_weight_scales(qc_hf_state *s, const qc_hf_linear *linear)
{
    const qc_hf_args *w = &linear->group->weights;
    qc_hf_expectation scale = scale_shape(linear), one = {1, {1}, QC_F32, quantization_config};
    qc_hf_expectation zero = scale;
    if (w->scale == QC_F8E8M0)
        scale.code = QC_U8;
    else if (w->scale == QC_F8E4M3)
        scale.code = QC_F8E4M3;
    qc_hf_own_tensor(s, linear->node, linear->group->scale_name, &scale);
    if (w->global)
        qc_hf_own_tensor(s, linear->node, "weight_global_scale", &one);
    if (w->symmetric)
        return;
    zero.code = QC_I8;
    if (linear->group->storage == QC_HF_STORAGE_WORDS && zero.rank == 2) {
        zero.code = QC_I32;
        zero.shape[0] = pieces(zero.shape[0] * qc_dtype_bits(w->code), 32);
    }
    qc_hf_own_tensor(s, linear->node, "weight_zero_point", &zero);
}

static void own_input_scales(qc_hf_state *s, const qc_hf_linear *linear)
{
    const qc_hf_args *x = &linear->group->input;
    qc_hf_expectation one = {1, {1}, QC_DTYPE_NONE, quantization_config};
    if (!x->present || s->dequantize)
        return;
    if (x->global) {
        one.code = QC_F32;
        qc_hf_own_tensor(s, linear->node, "input_global_scale", &one);
    }
    if (x->dynamic)
        return;
    qc_hf_own_tensor(s, linear->node, "input_scale", &one);
    one.code = QC_I8;
    if (!x->symmetric)
        qc_hf_own_tensor(s, linear->node, "input_zero_point", &one);
}

void qc_hf_own_codes(qc_hf_state *s, const qc_hf_linear *linear, const char *keys)
{
    const qc_hf_group *group = linear->group;
    if (group->storage == QC_HF_STORAGE_WORDS && is_granularity(&group->weights, "tensor") &&
        !group->weights.symmetric) {
        qc_hf_tensor_error(s, NULL,
            qc_arena_printf(s->arena,
                "quantization_config: group @%s packs a zero point of a whole tensor; that is not supported",
                group->symbol));
        return;
    }
    own_weight(s, linear, keys);
    own_weight_scales(s, linear);
    own_input_scales(s, linear);
}

/* ---- numbers that become constants --------------------------------------------------------------------- */

enum { SCALES_MAX = 1 << 14 };

/* `count` numbers of a tensor as f32. */
static qc_status read_numbers(qc_hf_state *s, const qc_st_tensor *tensor, size_t count, float *values)
{
    const char *path = s->set.files[tensor->file].path;
    qc_dtype stored = qc_dtype_from_safetensors_name(tensor->dtype);
    unsigned char raw[SCALES_MAX * 4];
    if (count > SCALES_MAX || tensor->size_bytes > sizeof raw)
        return qc_error(s->diag, path, "tensor %s has %zu scales; at most %d are supported", tensor->name,
            count, (int)SCALES_MAX);
    if (qc_st_read(s->diag, &s->set, tensor, raw))
        return QC_ERROR;
    qc_decode_f32(stored, raw, values, count);
    return QC_OK;
}

/* A constant of the tensor's shape, which was checked to have `count` elements. */
static qc_value *build_numbers(qc_hf_state *s, qc_builder *b, const qc_st_tensor *tensor, qc_dtype dtype,
    const void *data, int64_t count, const char *hint)
{
    const qc_dim *dims[3];
    for (int i = 0; i < tensor->rank; i++)
        dims[i] = qc_dim_int(s->ctx, tensor->shape[i]);
    return qc_build_const(b, qc_attr_data(s->ctx, dtype, data, (size_t)count),
        qc_type_tensor(s->ctx, dtype, tensor->rank, dims), hint);
}

/* A constant of `dtype` out of a tensor of scales, which are finite numbers > 0. */
static qc_value *build_scale(
    qc_hf_state *s, qc_builder *b, const char *name, qc_dtype dtype, int64_t count, const char *hint)
{
    const qc_st_tensor *tensor = qc_st_find(&s->set, name);
    const char *path = s->set.files[tensor->file].path;
    qc_dtype stored = qc_dtype_from_safetensors_name(tensor->dtype);
    if (stored != dtype && dtype != QC_F32) {
        qc_error(s->diag, path, "tensor %s is %s in a model that computes in %s; that is not supported", name,
            tensor->dtype, qc_dtype_name(dtype));
        return NULL;
    }
    float values[SCALES_MAX];
    unsigned char converted[SCALES_MAX * 4];
    if (read_numbers(s, tensor, (size_t)count, values))
        return NULL;
    for (int64_t i = 0; i < count; i++)
        if (!(values[i] > 0) || !isfinite(values[i])) {
            qc_error(s->diag, path, "tensor %s: scale %lld is %g, which is no positive number", name,
                (long long)i, (double)values[i]);
            return NULL;
        }
    qc_encode_f32(dtype, values, converted, (size_t)count);
    return build_numbers(s, b, tensor, dtype, converted, count, hint);
}

qc_value *qc_hf_build_center(qc_hf_state *s, qc_builder *b, const char *name, const char *hint)
{
    const qc_st_tensor *tensor = qc_st_find(&s->set, name);
    const char *path = s->set.files[tensor->file].path;
    const int64_t count = tensor->shape[0] * tensor->shape[2];
    float values[SCALES_MAX];
    unsigned char converted[SCALES_MAX * 4];
    if (qc_dtype_from_safetensors_name(tensor->dtype) != s->dtype && s->dtype != QC_F32) {
        qc_error(s->diag, path, "tensor %s is %s in a model that computes in %s; that is not supported", name,
            tensor->dtype, qc_dtype_name(s->dtype));
        return NULL;
    }
    if (read_numbers(s, tensor, (size_t)count, values))
        return NULL;
    for (int64_t i = 0; i < count; i++)
        if (!isfinite(values[i])) {
            qc_error(s->diag, path, "tensor %s: element %lld is not finite", name, (long long)i);
            return NULL;
        }
    qc_encode_f32(s->dtype, values, converted, (size_t)count);
    return build_numbers(s, b, tensor, s->dtype, converted, count, hint);
}

qc_value *qc_hf_build_scale(
    qc_hf_state *s, qc_builder *b, const char *tensor, int64_t heads, const char *hint)
{
    return build_scale(s, b, tensor, s->dtype, heads, hint);
}

qc_value *qc_hf_build_unit_scale(
    qc_hf_state *s, qc_builder *b, int64_t heads, int64_t columns, const char *hint)
{
    const float one = 1;
    unsigned char converted[4];
    const int64_t count = heads > 0 ? heads * columns : 1;
    const size_t size = qc_dtype_bits(s->dtype) / 8;
    const qc_dim *dims[3] = {
        qc_dim_int(s->ctx, heads > 0 ? heads : 1), qc_dim_int(s->ctx, 1), qc_dim_int(s->ctx, columns)};
    qc_encode_f32(s->dtype, &one, converted, 1);
    unsigned char *data = QC_NEW_ARRAY(s->arena, unsigned char, (size_t)count *size);
    for (int64_t i = 0; i < count; i++)
        memcpy(data + (size_t)i * size, converted, size);
    return qc_build_const(b, qc_attr_data(s->ctx, s->dtype, data, (size_t)count),
        qc_type_tensor(s->ctx, s->dtype, heads > 0 ? 3 : 1, dims), hint);
}

qc_value *qc_hf_build_global_scale(qc_hf_state *s, qc_builder *b, const char *tensor, const char *hint)
{
    return build_scale(s, b, tensor, QC_F32, 1, hint);
}

static qc_value *build_input_zero_point(qc_hf_state *s, qc_builder *b, const qc_hf_linear *linear)
{
    const qc_st_tensor *tensor = qc_st_find(&s->set, tensor_name(s, linear, "input_zero_point"));
    const qc_dim *one = qc_dim_int(s->ctx, 1);
    int8_t value;
    if (qc_st_read(s->diag, &s->set, tensor, &value))
        return NULL;
    return qc_build_const(
        b, qc_attr_data(s->ctx, QC_I8, &value, 1), qc_type_tensor(s->ctx, QC_I8, 1, &one), "x_zero");
}

/* ---- ops ----------------------------------------------------------------------------------------------- */

qc_value *qc_hf_build_stored(
    qc_hf_state *s, qc_builder *b, const char *tensor, qc_dtype *dtype, const char *hint)
{
    const qc_st_tensor *stored = qc_st_find(&s->set, tensor);
    const qc_dim *dims[QC_MAX_RANK];
    for (int i = 0; i < stored->rank; i++)
        dims[i] = qc_dim_int(s->ctx, stored->shape[i]);
    *dtype = qc_dtype_from_safetensors_name(stored->dtype);
    if (s->dtype == QC_F32 && (*dtype == QC_BF16 || *dtype == QC_F16))
        *dtype = QC_F32;
    return qc_build_weight(b, tensor, -1, qc_type_tensor(s->ctx, *dtype, stored->rank, dims), hint);
}

static qc_value *build_tensor(
    qc_hf_state *s, qc_builder *b, const qc_hf_linear *linear, const char *short_name, const char *hint)
{
    qc_dtype dtype;
    return qc_hf_build_stored(s, b, tensor_name(s, linear, short_name), &dtype, hint);
}

static qc_value *build_unpacked(qc_hf_state *s, qc_builder *b, const qc_hf_linear *linear,
    const char *short_name, qc_dtype dtype, int64_t axis, const int64_t *shape, const char *hint)
{
    qc_value *packed = build_tensor(s, b, linear, short_name, qc_arena_printf(s->arena, "%s_packed", hint));
    const qc_dim *dims[2] = {qc_dim_int(s->ctx, shape[0]), qc_dim_int(s->ctx, shape[1])};
    return qc_build_unpack(b, packed, axis, qc_type_tensor(s->ctx, dtype, 2, dims), hint);
}

static qc_value *build_weight_zero_point(qc_hf_state *s, qc_builder *b, const qc_hf_linear *linear)
{
    qc_hf_expectation shape = scale_shape(linear);
    if (linear->group->weights.symmetric)
        return NULL;
    if (linear->group->storage == QC_HF_STORAGE_WORDS)
        return build_unpacked(
            s, b, linear, "weight_zero_point", linear->group->weights.code, 0, shape.shape, "w_zero");
    return build_tensor(s, b, linear, "weight_zero_point", "w_zero");
}

static const qc_attr *block_attr(qc_ctx *ctx, const qc_hf_args *args)
{
    const qc_attr *sizes[2] = {qc_attr_int(ctx, args->block[0]), qc_attr_int(ctx, args->block[1])};
    return args->block[0] ? qc_attr_list(ctx, sizes, 2) : NULL;
}

qc_value *qc_hf_build_coded_weight(qc_hf_state *s, qc_builder *b, const qc_hf_linear *linear)
{
    const qc_hf_args *w = &linear->group->weights;
    const int64_t shape[2] = {linear->out, linear->in};
    bool packed = linear->group->storage != QC_HF_STORAGE_PLAIN;
    qc_value *codes = packed ? build_unpacked(s, b, linear, "weight_packed", w->code, 1, shape, "w_codes")
                             : build_tensor(s, b, linear, "weight", "w_codes");
    qc_hf_expectation scales = scale_shape(linear);
    const char *name = linear->group->scale_name;
    qc_value *scale = w->scale == QC_F8E8M0
                          ? build_unpacked(s, b, linear, name, QC_F8E8M0, 1, scales.shape, "w_scale")
                          : build_tensor(s, b, linear, name, "w_scale");
    qc_value *global = w->global ? build_tensor(s, b, linear, "weight_global_scale", "w_global") : NULL;
    qc_value *zero = build_weight_zero_point(s, b, linear);
    return qc_build_dequantize(
        b, codes, scale, global, zero, qc_dtype_name(s->dtype), w->group, block_attr(s->ctx, w), "w");
}

qc_value *qc_hf_build_coded_input(qc_hf_state *s, qc_builder *b, const qc_hf_linear *linear, qc_value *x)
{
    const qc_hf_args *a = &linear->group->input;
    const char *symbol = linear->group->symbol;
    qc_value *global = NULL, *scale, *zero = NULL;
    if (!a->present || s->dequantize)
        return x;
    if (a->global) {
        global = build_scale(s, b, tensor_name(s, linear, "input_global_scale"), QC_F32, 1, "x_global");
        if (!global)
            return NULL;
    }
    if (a->dynamic) {
        scale = qc_build_qparams(b, x, global, NULL, symbol, "input", NULL, 0, "x_scale");
        zero = a->symmetric ? NULL : qc_build_zero_point(b, x, NULL, symbol, "input", NULL, 0, "x_zero");
    } else {
        scale = build_scale(s, b, tensor_name(s, linear, "input_scale"), s->dtype, 1, "x_scale");
        zero = a->symmetric || !scale ? NULL : build_input_zero_point(s, b, linear);
        if (!scale || (!a->symmetric && !zero))
            return NULL;
    }
    qc_value *codes = qc_build_quantize(b, x, scale, global, zero, symbol, "input", "x_codes");
    return qc_build_dequantize(b, codes, scale, global, zero, qc_dtype_name(s->dtype), a->group, NULL, "x");
}
