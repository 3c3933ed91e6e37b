/* SPDX-License-Identifier: MIT
 *
 * residual.c - the residual stream of a transformer, found in the graph, and the folding of norms (rotate.h).
 *
 * From the embeddings on: who reads a value of the stream must be a sum, whose other operand and result then belong to
 * the stream too; a product with one number a row, whose result does; a linear, also that of experts; or an rmsnorm that
 * linears alone read. Who makes one must be an embedding, a sum, such a product, a linear, or the sum of what experts give.
 */
#include <string.h>

#include "passes/experts.h"
#include "passes/internal.h"
#include "passes/rotate.h"

#define TOO_LATE "takes codes of the residual stream: " QC_ROTATE_TOO_LATE

typedef struct walk {
    qc_residual *residual;
    qc_map seen; /* values and ops, by address */
    QC_VEC(qc_value *) open;
} walk;

static bool is_new(walk *w, const void *thing)
{
    return qc_map_set_n(&w->seen, (const char *)&thing, sizeof thing, NULL);
}

/* The first in the function is named, in whatever order they are found. */
static void misfit(walk *w, const qc_op *op, const char *why)
{
    const qc_op *known = w->residual->misfit;
    if (known && (!op || qc_op_func(op) != qc_op_func(known) || !qc_quant_comes_before(op, known)))
        return;
    w->residual->misfit = op;
    w->residual->why = why;
}

static void add_op(walk *w, qc_op_list *list, qc_op *op)
{
    if (is_new(w, op))
        QC_PUSH(&w->residual->arena, list, op);
}

static void add_value(walk *w, qc_value *value)
{
    if (is_new(w, value))
        QC_PUSH(&w->residual->arena, &w->open, value);
}

/* The linear behind a norm of its own result: what the norm multiplies with is no rotation of the linear's rows. */
static void follow_normed(walk *w, qc_op *norm)
{
    qc_op *linear = qc_value_op(qc_op_operand(norm, 0));
    misfit(w, norm,
        "stands between a linear and the residual stream: its weight can be folded nowhere, so R1 does not "
        "commute with "
        "it");
    if (linear && qc_is_linear(linear))
        add_op(w, &w->residual->writers, linear);
}

/* Who made the value? */
static void follow_up(walk *w, qc_value *value)
{
    qc_residual *r = w->residual;
    qc_op *op = qc_value_op(value);
    if (!op)
        return;
    if (qc_op_is(op, "add")) {
        add_value(w, qc_op_operand(op, 0));
        add_value(w, qc_op_operand(op, 1));
    } else if (qc_is_linear(op)) {
        QC_PUSH(&r->arena, &r->writers, op);
    } else if (qc_op_is(op, "expert_combine") || qc_op_is(op, "cast")) {
        add_value(w, qc_op_operand(op, 0));
    } else if (qc_quant_scaled(op)) {
        add_value(w, qc_quant_scaled(op));
    } else if (qc_op_is(op, "rmsnorm")) {
        follow_normed(w, op);
    } else if (!qc_op_is(op, "embedding")) {
        misfit(w, op, "adds to the residual stream, and only linear and embedding weights can be rotated");
    }
}

/* Linears that read a norm's result; anything else does not fit. */
static void follow_norm(walk *w, qc_op *norm)
{
    qc_residual *r = w->residual;
    const qc_value *y = qc_op_result(norm, 0);
    qc_op_list linears = {0};
    if (!is_new(w, norm))
        return;
    QC_PUSH(&r->arena, &r->norms, norm);
    const qc_op *other = qc_rotate_linears(&r->arena, y, &linears);
    for (size_t i = 0; i < linears.count; i++)
        add_op(w, &r->readers, linears.items[i]);
    if (other == norm)
        misfit(w, norm, "the function returns the normalised residual stream");
    else if (other)
        misfit(w, other,
            qc_rotate_quantizes(other) ? TOO_LATE
                                       : "reads the normalised residual stream, and only a linear's "
                                         "weight can be rotated for it");
}

/* A product or a cast stays in the stream; linears, also behind what gathers rows for experts, read it. */
static void follow_use(walk *w, qc_op *reader, size_t slot, qc_value *value)
{
    qc_residual *r = w->residual;
    qc_op_list linears = {0};
    if (qc_op_is(reader, "add") || qc_op_is(reader, "cast") || qc_quant_scaled(reader) == value ||
        (qc_op_is(reader, "expert_combine") && slot == 0)) {
        add_value(w, qc_op_result(reader, 0));
        return;
    }
    if (qc_op_is(reader, "rmsnorm") && slot == 0) {
        follow_norm(w, reader);
        return;
    }
    const qc_op *other = qc_rotate_use_linears(&r->arena, reader, slot, value, &linears);
    for (size_t i = 0; i < linears.count; i++)
        add_op(w, &r->readers, linears.items[i]);
    if (other)
        misfit(w, other,
            qc_rotate_quantizes(other)
                ? TOO_LATE
                : "reads the residual stream, and only norms and linears can do that under a rotation");
}

static void follow_down(walk *w, qc_value *value)
{
    size_t slot;
    if (qc_quant_is_returned(value))
        misfit(w, qc_value_op(value), "the function returns the residual stream");
    for (size_t i = 0; i < qc_value_use_count(value); i++) {
        qc_op *reader = qc_value_use(value, i, &slot);
        follow_use(w, reader, slot, value);
    }
}

/* A sum that is broadcast, of a stream and a constant, ... is none of the stream's. */
static bool in_shape(const qc_residual *r, const qc_value *value)
{
    int64_t width;
    return qc_dim_as_int(qc_type_dim(qc_value_type(value), -1), &width) && width == r->width;
}

/* Uses come in no order: those of the first position in the function are listed first. */
static void in_order(qc_residual *r, const qc_module *module)
{
    qc_op_list *lists[] = {&r->embeddings, &r->writers, &r->norms, &r->readers};
    qc_map places;
    size_t at = 0;
    qc_map_init(&places, &r->arena);
    for (const qc_func *f = qc_module_first_func(module); f; f = qc_func_next(f))
        for (const qc_op *op = qc_func_first_op(f); op; op = qc_op_next(op), at++)
            qc_map_set_n(&places, (const char *)&op, sizeof op, (void *)(uintptr_t)at);
    for (size_t l = 0; l < sizeof lists / sizeof *lists; l++)
        for (size_t i = 1; i < lists[l]->count; i++)
            for (size_t k = i; k > 0; k--) {
                qc_op *a = lists[l]->items[k - 1], *b = lists[l]->items[k];
                if ((uintptr_t)qc_map_get_n(&places, (const char *)&a, sizeof a) <=
                    (uintptr_t)qc_map_get_n(&places, (const char *)&b, sizeof b))
                    break;
                lists[l]->items[k - 1] = b;
                lists[l]->items[k] = a;
            }
}

void qc_residual_find(qc_residual *r, const qc_module *module)
{
    memset(r, 0, sizeof *r);
    qc_arena_init(&r->arena, qc_ctx_arena(qc_module_ctx(module))->oom);
    walk w = {.residual = r};
    qc_map_init(&w.seen, &r->arena);
    for (qc_func *f = qc_module_first_func(module); f; f = qc_func_next(f))
        for (qc_op *op = qc_func_first_op(f); op; op = qc_op_next(op)) {
            if (!qc_op_is(op, "embedding"))
                continue;
            QC_PUSH(&r->arena, &r->embeddings, op);
            qc_dim_as_int(qc_type_dim(qc_value_type(qc_op_result(op, 0)), -1), &r->width);
            add_value(&w, qc_op_result(op, 0));
        }
    while (w.open.count) {
        qc_value *value = w.open.items[--w.open.count];
        if (!in_shape(r, value)) {
            misfit(&w, qc_value_op(value), "takes part in the residual stream with another width");
            continue;
        }
        if (!qc_value_op(value))
            misfit(&w, qc_value_use_count(value) ? qc_value_use(value, 0, &(size_t){0}) : NULL,
                "reads an argument that is added to the residual stream");
        follow_up(&w, value);
        follow_down(&w, value);
    }
    in_order(r, module);
}

void qc_residual_fini(qc_residual *r)
{
    qc_arena_fini(&r->arena);
}

/* ---- norms --------------------------------------------------------------------------------------------- */

static double offset_of(const qc_op *norm)
{
    return qc_attr_as_float(qc_op_attr(norm, "offset"));
}

bool qc_norm_is_folded(const qc_op *norm)
{
    const qc_value *w = qc_op_operand_named(norm, "w");
    const qc_op *from = w ? qc_value_op(w) : NULL;
    return !w || (from && qc_op_is(from, "fill") &&
                     qc_attr_as_float(qc_op_attr(from, "value")) + offset_of(norm) == 1.0);
}

/* w times the norm's factors, one a column, rounded to the type that w is stored in. */
static qc_status scale_weight(qc_pass_ctx *pc, qc_op *linear, qc_value *factors)
{
    size_t slot;
    qc_op *reader = qc_rotate_stored(linear, "w", &slot);
    if (qc_rotate_check_weight(pc, linear) != QC_OK)
        return QC_ERROR;
    qc_value *w = qc_op_operand(reader, slot);
    qc_builder *b = qc_builder_before(reader);
    qc_make(b, "mul");
    qc_make_operand(b, "x", w);
    qc_make_operand(b, "z", factors);
    qc_value *product = qc_make_end(b, qc_value_hint(w));
    if (!qc_builder_ok(b))
        return QC_ERROR;
    qc_op_set_operand(reader, slot, product);
    return QC_OK;
}

/* What the norm multiplies with: its weight, or weight and offset, summed in f32 as the norm does. */
static qc_value *factors_of(qc_pass_ctx *pc, qc_op *norm)
{
    qc_value *w = qc_op_operand_named(norm, "w");
    qc_ctx *ctx = qc_pass_ctx_get(pc);
    const float offset = (float)offset_of(norm);
    const qc_dim *one = qc_dim_int(ctx, 1);
    if (offset == 0.0f)
        return w;
    qc_builder *b = qc_builder_before(norm);
    qc_make(b, "cast");
    qc_make_operand(b, "x", w);
    qc_make_attr_word(b, "to", "f32");
    qc_value *wide = qc_make_end(b, qc_value_hint(w));
    qc_make(b, "const");
    qc_make_attr(b, "value", qc_attr_data(ctx, QC_F32, &offset, 1));
    qc_make_type(b, qc_type_tensor(ctx, QC_F32, 1, &one));
    qc_value *added = qc_make_end(b, "offset");
    qc_make(b, "add");
    qc_make_operand(b, "x", wide);
    qc_make_operand(b, "z", added);
    qc_value *factors = qc_make_end(b, qc_value_hint(w));
    return qc_builder_ok(b) ? factors : NULL;
}

/* Weights of 1, which is what offset and weight sum up to. */
static qc_status keep_ones(qc_op *norm)
{
    qc_value *w = qc_op_operand_named(norm, "w");
    qc_builder *b = qc_builder_before(norm);
    qc_make(b, "fill");
    qc_make_attr_float(b, "value", 1.0 - offset_of(norm));
    qc_make_type(b, qc_value_type(w));
    qc_value *ones = qc_make_end(b, qc_value_hint(w));
    if (!qc_builder_ok(b))
        return QC_ERROR;
    qc_op_set_operand_named(norm, "w", ones);
    return QC_OK;
}

/* Can the norm's weight go to the linears that read it, all of them? A remark says why it cannot. */
static qc_status find_linears(qc_pass_ctx *pc, qc_op *norm, qc_op_list *linears, bool *fits)
{
    const qc_value *w = qc_op_operand_named(norm, "w");
    int64_t count;
    *fits = false;
    if (!qc_quant_is_plain(w) || !qc_type_static_count(qc_value_type(w), &count)) {
        qc_pass_remark(pc, norm, "norm left alone: its weight is none of bf16, f16 or f32 of a known size");
        return QC_OK;
    }
    const qc_op *other = qc_rotate_linears(pc->arena, qc_op_result(norm, 0), linears);
    if (other && qc_rotate_quantizes(other)) {
        qc_pass_fail(pc, norm, "codes are taken of what it gives: " QC_ROTATE_TOO_LATE);
        return QC_ERROR;
    }
    if (other || linears->count == 0)
        qc_pass_remark(pc, norm, "norm left alone: not only linears read it");
    *fits = !other && linears->count > 0;
    return QC_OK;
}

qc_status qc_fold_norm(qc_pass_ctx *pc, qc_op *norm, bool *folded)
{
    qc_op_list linears = {0};
    bool fits;
    *folded = false;
    if (qc_norm_is_folded(norm))
        return QC_OK;
    if (find_linears(pc, norm, &linears, &fits) != QC_OK)
        return QC_ERROR;
    if (!fits)
        return QC_OK;
    qc_value *factors = factors_of(pc, norm);
    if (!factors)
        return QC_ERROR;
    for (size_t i = 0; i < linears.count; i++) {
        size_t slot;
        qc_quant_hoist(factors, qc_rotate_stored(linears.items[i], "w", &slot));
        if (scale_weight(pc, linears.items[i], factors) != QC_OK)
            return QC_ERROR;
    }
    if (keep_ones(norm) != QC_OK)
        return QC_ERROR;
    qc_pass_count(pc, "norms folded", 1);
    *folded = true;
    return QC_OK;
}
