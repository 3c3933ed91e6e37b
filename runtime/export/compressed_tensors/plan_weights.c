/* SPDX-License-Identifier: MIT
 *
 * plan_weights.c - what a module with quantized weights stores: codes, scales, zero points, and the scales of its static
 * input.
 *
 *   plain    weight           codes, a byte each
 *   packed   weight_packed    nibbles (U8) or words (I32); weight_shape beside words, which do not tell the columns
 *            weight_scale     as the format says: in the model's type, as f8e4m3, as the bytes of powers of two (U8)
 *            weight_global_scale, input_global_scale   F32 [1]
 *            weight_zero_point                          plain: as the scale, I8; beside words: packed along rows
 *            input_scale, input_zero_point              [1]
 */
#include <string.h>

#include "ir/dtype/pack.h"
#include "runtime/check/allow.h"
#include "runtime/export/compressed_tensors/internal.h"

/* ---- tensors of a module ------------------------------------------------------------------------------- */

/* The type and shape that a tensor of the plan has in the file, whatever its value has. */
static void store_as(
    ct_plan *plan, ct_tensor *t, const char *dtype, qc_dtype encoding, int rank, const int64_t *shape)
{
    int64_t *copy = QC_NEW_ARRAY(&plan->arena, int64_t, (size_t)rank + 1);
    for (int i = 0; i < rank; i++)
        copy[i] = shape[i];
    t->dtype = dtype;
    t->encoding = encoding;
    t->rank = rank;
    t->shape = copy;
}

/* Of a value that ct_put_value took: all are known. */
static void static_dims(const qc_value *value, int64_t dims[QC_MAX_RANK])
{
    for (int i = 0; i < qc_type_rank(qc_value_type(value)); i++)
        qc_dim_as_int(qc_type_dim(qc_value_type(value), i), &dims[i]);
}

/* The stored weight that codes under another name replace. */
static void drop_weight(ct_walk *w, const ct_site *site)
{
    const char *name = qc_arena_printf(&w->plan->arena, "%s.weight", site->path);
    const ct_tensor *t = qc_map_get(&w->plan->by_name, name);
    if (t && t->source == CT_COPY)
        qc_map_set(&w->plan->by_name, name, NULL);
}

/* llm-compressor pads weights to whole blocks and keeps the padding behind the view that it saves. Its shards count it. */
static uint64_t padded_bytes(const qc_scheme_part *part, int rank, const int64_t *shape)
{
    if (part->granularity != QC_GRANULARITY_BLOCK || rank != 2)
        return 0;
    uint64_t down = (uint64_t)((shape[0] + part->block_rows - 1) / part->block_rows);
    uint64_t across = (uint64_t)((shape[1] + part->block_columns - 1) / part->block_columns), bytes;
    if (__builtin_mul_overflow(
            down * across, (uint64_t)part->block_rows * (uint64_t)part->block_columns, &bytes))
        return 0;
    return bytes;
}

/* Its packing fills up lines of codes to multiples of 32, and keeps the words of those in the same way. */
static uint64_t padded_line_bytes(int bits, int64_t codes)
{
    return 4 * (uint64_t)bits * (uint64_t)((codes + 31) / 32);
}

/* Codes of `value` under the name and in the form that the group's format has. */
static ct_tensor *put_codes(ct_walk *w, const ct_site *site, const ct_group *g, const qc_value *codes)
{
    ct_plan *plan = w->plan;
    ct_tensor *c = ct_put_value(w, site, g->form.weight, codes);
    if (!c)
        return NULL;
    int64_t shape[QC_MAX_RANK];
    static_dims(codes, shape);
    const int64_t columns = c->rank ? shape[c->rank - 1] : 0;
    c->quantized = c->codes_of_weight = true;
    c->packing = g->form.packing;
    c->bits = qc_dtype_bits(g->weights.part.type);
    if (c->packing == CT_PLAIN) {
        qc_dtype type = g->weights.is_float ? g->weights.part.type : QC_I8;
        c->storage_bytes = padded_bytes(&g->weights.part, c->rank, shape);
        store_as(plan, c, qc_dtype_safetensors_name(type), type, c->rank, shape);
        return c;
    }
    if (c->rank != 2) {
        qc_ctx_error(plan->ctx, ct_where(site), "%s packs weights of two dimensions, not %s", g->format,
            qc_type_text(plan->ctx, qc_value_type(codes)));
        return NULL;
    }
    if (c->packing == CT_NIBBLES && columns % 2 != 0) {
        qc_ctx_error(plan->ctx, ct_where(site), "%s packs two columns to a byte; its weight has %lld",
            g->format, (long long)columns);
        return NULL;
    }
    drop_weight(w, site);
    if (c->packing == CT_WORDS)
        c->storage_bytes = (uint64_t)shape[0] * padded_line_bytes(c->bits, columns);
    shape[1] = c->packing == CT_NIBBLES ? columns / 2 : (int64_t)qc_pack_word_count(c->bits, (size_t)columns);
    store_as(plan, c, c->packing == CT_NIBBLES ? "U8" : "I32", QC_DTYPE_NONE, 2, shape);
    return c;
}

/* A literal, the shape beside words. */
static qc_status put_shape(ct_walk *w, const ct_site *site, const qc_value *codes)
{
    ct_plan *plan = w->plan;
    ct_tensor *t = ct_put_value(w, site, "weight_shape", codes);
    if (!t)
        return QC_ERROR;
    int64_t rank = qc_type_rank(qc_value_type(codes)), shape[QC_MAX_RANK];
    static_dims(codes, shape);
    uint8_t *bytes = qc_arena_alloc(&plan->arena, 8 * (size_t)rank + 1);
    for (int64_t i = 0; i < 8 * rank; i++)
        bytes[i] = (uint8_t)((uint64_t)shape[i / 8] >> i % 8 * 8);
    store_as(plan, t, "I64", QC_I64, 1, &rank);
    t->source = CT_BYTES;
    t->bytes = bytes;
    t->quantized = true;
    return QC_OK;
}

/* Can numbers of the scale's type be stored in the model's? */
static bool converts(qc_dtype from, qc_dtype to)
{
    return from == to || from == QC_F8E4M3 || from == QC_F8E8M0 || from == QC_F32;
}

static ct_tensor *put_scale(
    ct_walk *w, const ct_site *site, const ct_group *g, const qc_value *scale, const qc_value *x)
{
    ct_plan *plan = w->plan;
    ct_tensor *s = ct_put_value(w, site, "weight_scale", scale);
    if (!s)
        return NULL;
    qc_dtype is = qc_type_dtype(qc_value_type(scale)), to = g->form.scale_type;
    if (to == QC_DTYPE_NONE)
        to = qc_type_dtype(qc_value_type(x));
    if (g->form.scale_type != QC_DTYPE_NONE ? is != to : !converts(is, to)) {
        qc_ctx_error(plan->ctx, ct_where(site), "%s stores scales as %s, which those of @%s, %s, are not",
            g->format, qc_dtype_name(to), qc_symbol_name(g->symbol), qc_dtype_name(is));
        return NULL;
    }
    store_as(plan, s, to == QC_F8E8M0 ? "U8" : qc_dtype_safetensors_name(to), to, s->rank, s->shape);
    s->quantized = true;
    s->behind = g->form.packing == CT_NIBBLES;
    return s;
}

static ct_tensor *put_zero_point(ct_walk *w, const ct_site *site, const ct_group *g, const qc_value *zero)
{
    ct_plan *plan = w->plan;
    ct_tensor *z = ct_put_value(w, site, "weight_zero_point", zero);
    if (!z)
        return NULL;
    const bool lines = g->weights.part.granularity == QC_GRANULARITY_GROUP ||
                       g->weights.part.granularity == QC_GRANULARITY_CHANNEL;
    qc_dtype type = qc_type_dtype(qc_value_type(zero));
    z->quantized = true;
    z->bits = qc_dtype_bits(g->weights.part.type);
    z->encoding = type;
    int64_t shape[QC_MAX_RANK] = {0};
    if (g->form.packing != CT_WORDS || !lines)
        return z;
    static_dims(zero, shape);
    if (shape[1] == 1) /* several lines are copied, without the padding */
        z->storage_bytes = padded_line_bytes(z->bits, shape[0]);
    shape[0] = (int64_t)qc_pack_word_count(z->bits, (size_t)shape[0]);
    z->packing = CT_WORDS_DOWN;
    store_as(plan, z, "I32", QC_DTYPE_NONE, 2, shape);
    return z;
}

/* The scale shape that the strategy means. */
static bool scale_fits(const ct_args *args, const qc_value *scale, const qc_value *x)
{
    const qc_type *type = qc_value_type(scale), *of = qc_value_type(x);
    int64_t count, s[2], n[2];
    if (!qc_type_static_count(type, &count))
        return false;
    if (args->part.granularity == QC_GRANULARITY_TENSOR)
        return qc_type_rank(type) == 1 && count == 1;
    if (qc_type_rank(type) != 2 || qc_type_rank(of) != 2)
        return false;
    for (int i = 0; i < 2; i++)
        if (!qc_dim_as_int(qc_type_dim(type, i), &s[i]) || !qc_dim_as_int(qc_type_dim(of, i), &n[i]))
            return false;
    const qc_scheme_part *p = &args->part;
    switch (p->granularity) {
    case QC_GRANULARITY_CHANNEL:
        return s[0] == n[0] && s[1] == 1;
    case QC_GRANULARITY_GROUP:
        return s[0] == n[0] && s[1] == (n[1] + p->group_elems - 1) / p->group_elems;
    case QC_GRANULARITY_BLOCK:
        return s[0] == (n[0] + p->block_rows - 1) / p->block_rows &&
               s[1] == (n[1] + p->block_columns - 1) / p->block_columns;
    default:
        return false;
    }
}

/* ---- inputs -------------------------------------------------------------------------------------------- */

/* A scale, zero point or global scale of a static input: one number. */
static qc_status put_input(ct_walk *w, const ct_site *site, const char *name, const qc_value *value)
{
    int64_t count;
    if (ct_made_by(value, "expert_param"))
        value = ct_operand(value, "p");
    if (!ct_is_fixed(w, value))
        return ct_unresolved(w, ct_where(site), "the input");
    value = ct_site_value(site, value);
    if (!value)
        return QC_ERROR;
    if (!qc_type_static_count(qc_value_type(value), &count) || count != 1 ||
        qc_type_rank(qc_value_type(value)) != 1)
        return qc_ctx_error(w->plan->ctx, ct_where(site), "%s has the shape %s", name,
            qc_type_text(w->plan->ctx, qc_value_type(value)));
    ct_tensor *t = ct_put_value(w, site, name, value);
    if (!t)
        return QC_ERROR;
    t->quantized = true;
    return QC_OK;
}

/* A linear's input against what the scheme says of it. */
static qc_status plan_input(ct_walk *w, const ct_site *site, const ct_group *g)
{
    ct_plan *plan = w->plan;
    const qc_value *x = qc_op_operand_named(site->op, "x");
    const qc_value *codes = ct_made_by(x, "dequantize") ? ct_operand(x, "x") : NULL;
    bool quantized = ct_made_by(codes, "quantize");
    if (quantized != g->input.present)
        return qc_ctx_error(plan->ctx, ct_where(site),
            g->input.present ? "its scheme @%s quantizes the input, the IR does not"
                             : "its input is quantized, which its scheme @%s does not say",
            qc_symbol_name(g->symbol));
    if (!quantized || g->input.dynamic)
        return QC_OK;
    if (g->input.local)
        return put_input(w, site, "input_global_scale", ct_operand(codes, "global"));
    if (g->input.part.granularity != QC_GRANULARITY_TENSOR)
        return qc_ctx_error(plan->ctx, ct_where(site),
            "the static scales of its input are of granularity %s, not tensor",
            qc_granularity_name(g->input.part.granularity));
    if (put_input(w, site, "input_scale", ct_operand(codes, "scale")) != QC_OK)
        return QC_ERROR;
    const qc_value *zero = ct_operand(codes, "zero_point");
    return zero ? put_input(w, site, "input_zero_point", zero) : QC_OK;
}

/* A weight that stands for itself alone has no input to be calibrated. */
static qc_status check_kept(ct_walk *w, const ct_site *site, const ct_group *g)
{
    if (!g->input.present || g->input.dynamic)
        return QC_OK;
    qc_ctx_error(w->plan->ctx, ct_where(site),
        "its scheme @%s has a static input, which takes calibration: a model imported as tensors cannot run",
        qc_symbol_name(g->symbol));
    qc_ctx_note(w->plan->ctx, "a scheme with dynamic inputs or none needs no data");
    return QC_ERROR;
}

static qc_status check_router(ct_walk *w, const ct_site *site)
{
    if (w->plan->as_tensors || !qc_ends_with(site->path, ".shared_expert_gate"))
        return QC_OK;
    return ct_refuse(w->plan, QC_RULE_ROUTER, site->path,
        "the gate of a shared expert is quantized, which vLLM reads as plain numbers: ignore "
        "\"re:.*shared_expert_gate$\"");
}

/* What vLLM makes of targets: a class does not reach the head (which is none of its linear classes), and a group of
 * attention is passed over only when its one target ends in "Attention". */
static void warn_of_head(ct_walk *w, const ct_site *site, const ct_group *g)
{
    const qc_node *node = site->node;
    if (w->plan->as_tensors)
        ct_note_table(w->plan, site->path);
    if (w->plan->as_tensors || !qc_ends_with(site->path, "lm_head"))
        return;
    for (size_t i = 0; i < qc_attr_count(g->targets); i++) {
        const char *target = qc_attr_as_text(qc_attr_item(g->targets, i));
        if (strcmp(target, qc_node_class(node)) != 0 && qc_node_matches(node, target))
            return;
    }
    w->plan->not_for_vllm = true;
    if (w->plan->quiet)
        return;
    qc_warning(qc_ctx_diag(w->plan->ctx), ct_where(site),
        "vLLM takes the head for unquantized unless a target names it: it will refuse the head's scale");
    qc_ctx_note(w->plan->ctx, "add \"re:.*lm_head$\" to the targets, or %s to ignore", site->path);
}

/* ---- weights ------------------------------------------------------------------------------------------- */

/* Do scales or zero points come along with the codes of the same rows? */
static bool comes_along(const qc_value *value, const qc_value *codes, const char *op_name)
{
    return ct_made_by(value, op_name) && ct_operand(value, "x") == ct_operand(codes, "x") &&
           strcmp(ct_text_attr(qc_value_op(value), "from"), "stat") != 0;
}

qc_status ct_plan_codes(ct_walk *w, const ct_site *site, const qc_value *codes)
{
    ct_plan *plan = w->plan;
    const qc_symbol *symbol = ct_symbol_of(w, qc_value_op(codes));
    if (!symbol || ct_use_group(w, symbol, false, site) != QC_OK)
        return QC_ERROR;
    const ct_group *g = ct_find_group(plan, symbol, false);
    const qc_value *scale = ct_operand(codes, "scale"), *zero = ct_operand(codes, "zero_point"),
                   *global = ct_operand(codes, "global");
    warn_of_head(w, site, g);
    if (check_router(w, site) != QC_OK)
        return QC_ERROR;
    if (!ct_is_fixed(w, scale) || (zero && !ct_is_fixed(w, zero)) || (global && !ct_is_fixed(w, global)))
        return ct_unresolved(w, ct_where(site), "the weight");
    if (!scale_fits(&g->weights, scale, codes))
        return qc_ctx_error(plan->ctx, ct_where(site), "the scale of its weight has the shape %s",
            qc_type_text(plan->ctx, qc_value_type(scale)));
    ct_tensor *c = put_codes(w, site, g, codes);
    ct_tensor *s = c ? put_scale(w, site, g, scale, ct_operand(codes, "x")) : NULL;
    ct_tensor *z = s && zero ? put_zero_point(w, site, g, zero) : NULL;
    ct_tensor *m = s && global ? ct_put_value(w, site, "weight_global_scale", global) : NULL;
    if (!s || (zero && !z) || (global && !m) ||
        (c->packing == CT_WORDS && put_shape(w, site, codes) != QC_OK))
        return QC_ERROR;
    if (m)
        m->quantized = true;
    const bool lines = g->weights.part.granularity != QC_GRANULARITY_TENSOR;
    if (lines && comes_along(scale, codes, "qparams")) {
        s->source = CT_SCALE;
        s->codes = c;
        c->scale = s;
    }
    if (z && ((lines && comes_along(zero, codes, "zero_point")) || z->packing == CT_WORDS_DOWN)) {
        z->source = CT_ZERO_POINT;
        z->codes = c;
        c->zero_point = z;
    }
    return qc_op_is(site->op, "linear") || site->copy ? plan_input(w, site, g)
           : qc_op_is(site->op, "keep")               ? check_kept(w, site, g)
                                                      : QC_OK;
}
