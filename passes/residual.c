/* SPDX-License-Identifier: MIT
 *
 * residual.c - the residual stream of a transformer, found in the graph, and the folding of norms (rotate.h).
 *
 * From the embeddings on: who reads a value of the stream must be a sum, whose other operand and result then belong to
 * the stream too; a linear; or an rmsnorm that linears alone read. Who makes one must be an embedding, a sum or a linear.
 */
#include <string.h>

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

static void misfit(walk *w, const qc_op *op, const char *why)
{
    if (w->residual->misfit)
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
    } else if (qc_op_is(op, "linear")) {
        QC_PUSH(&r->arena, &r->writers, op);
    } else if (!qc_op_is(op, "embedding")) {
        misfit(w, op, "adds to the residual stream, and only linear and embedding weights can be rotated");
    }
}

/* Linears that read a norm's result; anything else does not fit. */
static void follow_norm(walk *w, qc_op *norm)
{
    qc_residual *r = w->residual;
    const qc_value *y = qc_op_result(norm, 0);
    size_t slot;
    if (!is_new(w, norm))
        return;
    QC_PUSH(&r->arena, &r->norms, norm);
    if (qc_quant_is_returned(y))
        misfit(w, norm, "the function returns the normalised residual stream");
    for (size_t i = 0; i < qc_value_use_count(y); i++) {
        qc_op *reader = qc_value_use(y, i, &slot);
        if (qc_op_is(reader, "linear") && slot == 0)
            add_op(w, &r->readers, reader);
        else
            misfit(w, reader,
                qc_rotate_quantizes(reader) ? TOO_LATE
                                            : "reads the normalised residual stream, and only a linear's "
                                              "weight can be rotated for it");
    }
}

static void follow_down(walk *w, qc_value *value)
{
    qc_residual *r = w->residual;
    size_t slot;
    if (qc_quant_is_returned(value))
        misfit(w, qc_value_op(value), "the function returns the residual stream");
    for (size_t i = 0; i < qc_value_use_count(value); i++) {
        qc_op *reader = qc_value_use(value, i, &slot);
        if (qc_op_is(reader, "add"))
            add_value(w, qc_op_result(reader, 0));
        else if (qc_op_is(reader, "rmsnorm") && slot == 0)
            follow_norm(w, reader);
        else if (qc_op_is(reader, "linear") && slot == 0)
            add_op(w, &r->readers, reader);
        else
            misfit(w, reader,
                qc_rotate_quantizes(reader)
                    ? TOO_LATE
                    : "reads the residual stream, and only norms and linears can do that under a rotation");
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

bool qc_norm_is_folded(const qc_op *norm)
{
    const qc_op *w = qc_value_op(qc_op_operand_named(norm, "w"));
    return w && qc_op_is(w, "fill") && qc_attr_as_float(qc_op_attr(w, "value")) == 1.0;
}

/* w times the norm's weight, one factor a column. */
static qc_status scale_weight(qc_pass_ctx *pc, qc_op *linear, qc_value *factors)
{
    qc_value *w = qc_op_operand_named(linear, "w");
    if (qc_rotate_check_weight(pc, linear) != QC_OK)
        return QC_ERROR;
    qc_builder *b = qc_builder_before(linear);
    qc_make(b, "mul");
    qc_make_operand(b, "x", w);
    qc_make_operand(b, "z", factors);
    qc_value *product = qc_make_end(b, qc_value_hint(w));
    if (!qc_builder_ok(b))
        return QC_ERROR;
    qc_op_set_operand_named(linear, "w", product);
    return QC_OK;
}

qc_status qc_fold_norm(qc_pass_ctx *pc, qc_op *norm, bool *folded)
{
    qc_value *y = qc_op_result(norm, 0), *w = qc_op_operand_named(norm, "w");
    size_t slot;
    int64_t count;
    *folded = false;
    if (qc_norm_is_folded(norm))
        return QC_OK;
    if (!qc_quant_is_plain(w) || !qc_type_static_count(qc_value_type(w), &count)) {
        qc_pass_remark(pc, norm, "norm left alone: its weight is none of bf16, f16 or f32 of a known size");
        return QC_OK;
    }
    for (size_t i = 0; i < qc_value_use_count(y); i++)
        if (qc_rotate_quantizes(qc_value_use(y, i, &slot))) {
            qc_pass_fail(pc, norm, "codes are taken of what it gives: " QC_ROTATE_TOO_LATE);
            return QC_ERROR;
        }
    if (!qc_rotate_reader(y, "linear", false)) {
        qc_pass_remark(pc, norm, "norm left alone: not only linears read it");
        return QC_OK;
    }
    for (size_t i = 0; i < qc_value_use_count(y); i++)
        if (scale_weight(pc, qc_value_use(y, i, &slot), w) != QC_OK)
            return QC_ERROR;
    qc_builder *b = qc_builder_before(norm);
    qc_make(b, "fill");
    qc_make_attr_float(b, "value", 1.0);
    qc_make_type(b, qc_value_type(w));
    qc_value *ones = qc_make_end(b, qc_value_hint(w));
    if (!qc_builder_ok(b))
        return QC_ERROR;
    qc_op_set_operand_named(norm, "w", ones);
    qc_pass_count(pc, "norms folded", 1);
    *folded = true;
    return QC_OK;
}
