/* SPDX-License-Identifier: MIT
 *
 * experts_coded.c - banks of experts that a checkpoint holds as codes, and the codes of what goes into them.
 *
 * Each expert has the tensors of a quantized linear layer (coded.c); stacked they are a bank of codes [experts, out, in]
 * with scales [experts, 1, 1], [experts, out, 1], [experts, out, groups] or [experts, blocks, blocks]. Static scales of
 * inputs are constants, one an expert, or one for all where they are equal; rows take those of their expert.
 *
 * gpt-oss on the hub: gate_up_proj_blocks [experts, 2 * inner, hidden / 32, 16], bytes of two f4e2m1, the first in the low
 * half, and _scales [experts, 2 * inner, hidden / 32], exponents of 2 with 127 added. Rows are gate and up by turns.
 * (Transformers 5.17, integrations/mxfp4.py.)
 */
#include <math.h>

#include "frontends/hf/graph.h"
#include "frontends/hf/moe.h"
#include "ir/dtype/codec.h"
#include "qc/ops.h"

/* ---- weights ------------------------------------------------------------------------------------------- */

static const qc_st_tensor *tensor_of(
    const qc_hf_state *s, const qc_hf_moe *moe, int part, const char *short_name)
{
    return qc_st_find(
        &s->set, qc_arena_printf(s->arena, "%s.%s", qc_node_path(moe->parts[part].node), short_name));
}

/* A tensor of each expert, stacked; single numbers as [experts, 1, 1]. */
static qc_value *stack(
    qc_hf_graph *g, const qc_hf_moe *moe, int part, const char *short_name, const char *hint)
{
    qc_hf_state *s = g->state;
    const qc_st_tensor *first = tensor_of(s, moe, part, short_name);
    const qc_dim *one = qc_dim_int(s->ctx, 1),
                 *dims[3] = {qc_dim_int(s->ctx, s->config.moe.experts), one, one};
    for (int i = 0; first->rank == 2 && i < 2; i++)
        dims[i + 1] = qc_dim_int(s->ctx, first->shape[i]);
    qc_dtype dtype = qc_dtype_from_safetensors_name(first->dtype);
    if (s->dtype == QC_F32 && (dtype == QC_BF16 || dtype == QC_F16))
        dtype = QC_F32;
    return qc_build_expert_weight(g->b,
        qc_arena_printf(s->arena, "%s.{e}.%s.%s", qc_node_path(moe->experts), moe->names[part], short_name),
        qc_type_tensor(s->ctx, dtype, 3, dims), hint);
}

static qc_value *unpack(qc_hf_graph *g, qc_value *packed, int64_t axis, qc_dtype dtype, int64_t rows,
    int64_t columns, const char *hint)
{
    const qc_dim *dims[3] = {qc_dim_int(g->ctx, g->state->config.moe.experts), qc_dim_int(g->ctx, rows),
        qc_dim_int(g->ctx, columns)};
    return qc_build_unpack(g->b, packed, axis, qc_type_tensor(g->ctx, dtype, 3, dims), hint);
}

static qc_value *build_zero_point(qc_hf_graph *g, const qc_hf_moe *moe, int part)
{
    const qc_hf_group *group = moe->parts[part].group;
    const qc_st_tensor *scale = tensor_of(g->state, moe, part, group->scale_name);
    if (group->weights.symmetric)
        return NULL;
    if (group->storage != QC_HF_STORAGE_WORDS)
        return stack(g, moe, part, "weight_zero_point", "w_zero");
    return unpack(g, stack(g, moe, part, "weight_zero_point", "w_zero_packed"), 1, group->weights.code,
        scale->shape[0], scale->shape[1], "w_zero");
}

qc_value *qc_hf_build_coded_bank(qc_hf_graph *g, const qc_hf_moe *moe, int part)
{
    const qc_hf_linear *linear = &moe->parts[part];
    const qc_hf_group *group = linear->group;
    const qc_hf_args *w = &group->weights;
    qc_value *codes = group->storage == QC_HF_STORAGE_PLAIN
                          ? stack(g, moe, part, "weight", "w_codes")
                          : unpack(g, stack(g, moe, part, "weight_packed", "w_codes_packed"), 2, w->code,
                                linear->out, linear->in, "w_codes");
    qc_value *scale = stack(g, moe, part, group->scale_name, "w_scale");
    if (w->scale == QC_F8E8M0) {
        const qc_st_tensor *stored = tensor_of(g->state, moe, part, group->scale_name);
        scale = unpack(g, scale, 2, QC_F8E8M0, stored->shape[0], stored->shape[1], "w_scale");
    }
    qc_value *global = w->global ? stack(g, moe, part, "weight_global_scale", "w_global") : NULL;
    qc_value *zero = build_zero_point(g, moe, part);
    const qc_attr *sizes[2] = {qc_attr_int(g->ctx, w->block[0]), qc_attr_int(g->ctx, w->block[1])};
    return qc_build_dequantize(g->b, codes, scale, global, zero, g->dtype, w->group,
        w->block[0] ? qc_attr_list(g->ctx, sizes, 2) : NULL, "w");
}

/* Rows of the bytes of all experts that are those of the part, as codes [experts, rows, columns]. */
static qc_value *build_bytes(qc_hf_graph *g, const qc_hf_moe *moe, int part, const char *suffix,
    qc_dtype dtype, int64_t columns, const char *hint)
{
    qc_hf_state *s = g->state;
    const qc_hf_moe_config *m = &s->config.moe;
    const bool down = part == QC_HF_DOWN;
    const int64_t rows = down ? s->config.hidden : m->intermediate,
                  bytes = columns * qc_dtype_bits(dtype) / 8;
    const char *name = qc_arena_printf(
        s->arena, "%s.%s_%s", qc_node_path(moe->experts), down ? "down_proj" : "gate_up_proj", suffix);
    qc_dtype stored;
    qc_value *x = qc_hf_build_stored(s, g->b, name, &stored, suffix);
    const qc_dim *dims[3] = {qc_dim_int(g->ctx, m->experts), qc_dim_int(g->ctx, down ? rows : 2 * rows),
        qc_dim_int(g->ctx, bytes)};
    if (dtype == QC_F4E2M1)
        x = qc_build_reshape(g->b, x, qc_type_tensor(g->ctx, QC_U8, 3, dims), suffix);
    if (!down)
        x = s->config.arch->moe->interleaved
                ? qc_build_slice(g->b, x, 1, part == QC_HF_UP, 2 * rows, 2, suffix)
                : qc_build_slice(
                      g->b, x, 1, part == QC_HF_UP ? rows : 0, part == QC_HF_UP ? 2 * rows : rows, 1, suffix);
    return unpack(g, x, 2, dtype, rows, columns, hint);
}

qc_value *qc_hf_build_mxfp4_bank(qc_hf_graph *g, const qc_hf_moe *moe, int part)
{
    enum { BLOCK = 32 };
    const int64_t columns = part == QC_HF_DOWN ? g->state->config.moe.intermediate : g->state->config.hidden;
    qc_value *codes = build_bytes(g, moe, part, "blocks", QC_F4E2M1, columns, "w_codes");
    qc_value *scale = build_bytes(g, moe, part, "scales", QC_F8E8M0, columns / BLOCK, "w_scale");
    return qc_build_dequantize(g->b, codes, scale, NULL, NULL, g->dtype, BLOCK, NULL, "w");
}

/* ---- inputs -------------------------------------------------------------------------------------------- */

/* The single number that expert `e` stores under the name, as f32; false after a diagnostic. */
static bool read_number(qc_hf_state *s, const qc_hf_moe *moe, int part, int64_t e, const char *short_name,
    bool positive, float *value)
{
    const char *name = qc_arena_printf(
        s->arena, "%s.%lld.%s.%s", qc_node_path(moe->experts), (long long)e, moe->names[part], short_name);
    const qc_st_tensor *t = qc_st_find(&s->set, name);
    const char *path = s->set.files[t->file].path;
    const qc_dtype stored = qc_dtype_from_safetensors_name(t->dtype);
    unsigned char raw[8];
    if (t->size_bytes > sizeof raw || qc_st_read(s->diag, &s->set, t, raw))
        return false;
    if (stored == QC_I8) {
        *value = (float)(int8_t)raw[0];
        return true;
    }
    qc_decode_f32(stored, raw, value, 1);
    if (positive && (!(*value > 0) || !isfinite(*value))) {
        qc_error(s->diag, path, "tensor %s: scale is %g, which is no positive number", name, (double)*value);
        return false;
    }
    return true;
}

/* A number of each expert, to become a constant of `dtype`. */
typedef struct numbers {
    const char *short_name, *hint;
    qc_dtype dtype;
    float *values;
    bool equal; /* all of them */
} numbers;

static qc_status read_numbers(qc_hf_graph *g, const qc_hf_moe *moe, int part, numbers *n)
{
    qc_hf_state *s = g->state;
    const int64_t experts = s->config.moe.experts;
    const qc_st_tensor *first = tensor_of(s, moe, part, n->short_name);
    const qc_dtype stored = qc_dtype_from_safetensors_name(first->dtype);
    if (stored != n->dtype && n->dtype != QC_F32)
        return qc_error(s->diag, s->set.files[first->file].path,
            "tensor %s is %s in a model that computes in %s; that is not supported", first->name,
            first->dtype, qc_dtype_name(n->dtype));
    n->values = QC_NEW_ARRAY(s->arena, float, (size_t)experts);
    n->equal = true;
    for (int64_t e = 0; e < experts; e++) {
        if (!read_number(s, moe, part, e, n->short_name, n->dtype != QC_I8, &n->values[e]))
            return QC_ERROR;
        n->equal = n->equal && n->values[e] == n->values[0];
    }
    return QC_OK;
}

/* [1] where one number is for all, else what each of the rows is due, [R, 1]. */
static qc_value *build_numbers(qc_hf_graph *g, const numbers *n, bool one_for_all, qc_value *rows)
{
    const size_t count = one_for_all ? 1 : (size_t)g->state->config.moe.experts;
    unsigned char *data = QC_NEW_ARRAY(g->state->arena, unsigned char, 4 * count);
    if (n->dtype == QC_I8)
        for (size_t i = 0; i < count; i++)
            data[i] = (unsigned char)(int8_t)n->values[i];
    else
        qc_encode_f32(n->dtype, n->values, data, count);
    const qc_dim *one = qc_dim_int(g->ctx, 1), *dims[3] = {qc_dim_int(g->ctx, (int64_t)count), one, one};
    qc_value *all = qc_build_const(g->b, qc_attr_data(g->ctx, n->dtype, data, count),
        qc_type_tensor(g->ctx, n->dtype, one_for_all ? 1 : 3, dims), n->hint);
    return one_for_all ? all : qc_build_expert_param(g->b, all, rows, n->hint);
}

qc_value *qc_hf_build_coded_rows(qc_hf_graph *g, const qc_hf_moe *moe, int part, qc_value *x, qc_value *rows)
{
    const qc_hf_group *group = moe->parts[part].group;
    const qc_hf_args *a = &group->input;
    numbers globals = {"input_global_scale", "x_global", QC_F32, NULL, true},
            scales = {"input_scale", "x_scale", g->state->dtype, NULL, true},
            zeros = {"input_zero_point", "x_zero", QC_I8, NULL, true};
    qc_value *global = NULL, *scale, *zero = NULL;
    if (!a->present || g->state->dequantize)
        return x;
    if (a->global) {
        if (read_numbers(g, moe, part, &globals) != QC_OK)
            return NULL;
        global = build_numbers(g, &globals, globals.equal, rows);
    }
    if (a->dynamic) {
        scale = qc_build_qparams(g->b, x, global, NULL, group->symbol, "input", NULL, 0, scales.hint);
        if (!a->symmetric)
            zero = qc_build_zero_point(g->b, x, NULL, group->symbol, "input", NULL, 0, zeros.hint);
    } else {
        if (read_numbers(g, moe, part, &scales) != QC_OK ||
            (!a->symmetric && read_numbers(g, moe, part, &zeros) != QC_OK))
            return NULL;
        const bool one_for_all = scales.equal && zeros.equal; /* both have one shape */
        scale = build_numbers(g, &scales, one_for_all, rows);
        zero = a->symmetric ? NULL : build_numbers(g, &zeros, one_for_all, rows);
    }
    qc_value *codes = qc_build_quantize(g->b, x, scale, global, zero, group->symbol, "input", "x_codes");
    return qc_build_dequantize(g->b, codes, scale, global, zero, g->dtype, a->group, NULL, "x");
}
