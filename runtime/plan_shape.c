/* SPDX-License-Identifier: MIT
 *
 * plan_shape.c - ops that move elements and compute nothing: views of slots where the layout allows it, else copies of
 * rows of the last dimension, which has the same order in every layout. Other axes are left to the reference semantics.
 */
#include "ir/ctx.h"
#include "runtime/plan_internal.h"

enum { PARALLEL_BYTES = 1 << 18 }; /* less is not worth waking threads for */

static bool static_last(const qc_ref *ref, size_t *size)
{
    int64_t n;
    if (ref->rank == 0 || !qc_dim_as_int(ref->dims[ref->rank - 1], &n) || n < 1)
        return false;
    *size = (size_t)n;
    return true;
}

static bool is_last_axis(const qc_op *op, const qc_ref *x)
{
    int64_t axis = qc_attr_as_int(qc_op_attr(op, "axis"));
    return x->rank > 0 && (axis == -1 || axis == x->rank - 1);
}

static size_t elem_bytes(const qc_plan *plan, int slot)
{
    return (size_t)qc_dtype_bits(plan->slots.items[slot].dtype) / 8;
}

static int threads_of(const qc_run *run, size_t bytes)
{
    return bytes < PARALLEL_BYTES ? 1 : qc_host_engine_thread_count(run->plan->env.engine);
}

static qc_status count_elems(const qc_run *run, const qc_step *step, int slot, size_t *count)
{
    if (qc_run_count(run, step, slot, count))
        return QC_OK;
    *count = 0;
    return qc_error(&run->worker->diag, step->where, "nothing says how large a value is");
}

/* ---- views --------------------------------------------------------------------------------------------- */

/* The result is the operand's slot under the result's shape. */
static void alias_result(qc_plan *plan, const qc_op *op, int slot, bool by_token)
{
    const qc_type *type = qc_value_type(qc_op_result(op, 0));
    qc_ref ref = {.slot = slot, .by_token = by_token, .rank = qc_type_rank(type)};
    for (int i = 0; i < ref.rank; i++)
        ref.dims[i] = qc_type_dim(type, i);
    qc_plan_set_ref(plan, qc_op_result(op, 0), ref);
}

qc_status qc_plan_split_heads(qc_plan *plan, const qc_op *op, bool *done)
{
    const qc_ref *x = qc_plan_ref(plan, qc_op_operand(op, 0));
    if (!x)
        return QC_ERROR;
    *done = x->rank == 3 && x->dims[1] == plan->sequence && qc_plan_slot_at(plan, x->slot)->token_rows;
    if (*done)
        alias_result(plan, op, x->slot, true);
    return QC_OK;
}

qc_status qc_plan_merge_heads(qc_plan *plan, const qc_op *op, bool *done)
{
    const qc_ref *x = qc_plan_ref(plan, qc_op_operand(op, 0));
    if (!x)
        return QC_ERROR;
    *done = x->rank == 4;
    if (*done)
        alias_result(plan, op, qc_plan_by_token(plan, op, x), false);
    return QC_OK;
}

qc_status qc_plan_reshape(qc_plan *plan, const qc_op *op, bool *done)
{
    const qc_ref *x = qc_plan_ref(plan, qc_op_operand(op, 0));
    if (!x)
        return QC_ERROR;
    const qc_ref from = *x; /* planning operands may move refs */
    const qc_type *type = qc_value_type(qc_op_result(op, 0));
    bool becomes_rows = qc_type_rank(type) > 1 && qc_type_dim(type, 1) == plan->sequence;
    const qc_slot *slot = qc_plan_slot_at(plan, from.slot);
    if (becomes_rows && (!slot->token_rows || slot->by_expert))
        return QC_OK; /* a slot of its own, with a row for each token */
    alias_result(plan, op, qc_plan_dense(plan, op, &from), false);
    *done = true;
    return QC_OK;
}

/* ---- columns ------------------------------------------------------------------------------------------- */

/* Columns of one operand into columns of the result, in every row. */
typedef struct move {
    size_t from_columns, to_columns; /* of a row */
    size_t start, step, to_start, count;
    size_t elem_bytes;
} move;

typedef struct moves {
    size_t count; /* one an operand of the step */
    const move *items;
} moves;

static void move_row(const move *m, const char *from, char *to)
{
    size_t bytes = m->elem_bytes;
    from += m->start * bytes;
    to += m->to_start * bytes;
    if (m->step == 1) {
        memcpy(to, from, m->count * bytes);
        return;
    }
    for (size_t i = 0; i < m->count; i++, from += m->step * bytes, to += bytes)
        memcpy(to, from, bytes);
}

static qc_status run_moves(qc_run *run, const qc_step *step)
{
    const moves *all = step->data;
    char *to = qc_run_at(run, step, step->out);
    for (size_t k = 0; k < all->count; k++) {
        const move *m = &all->items[k];
        const char *from = qc_run_at(run, step, step->in[k]);
        size_t count;
        if (count_elems(run, step, step->in[k], &count) != QC_OK)
            return QC_ERROR;
        count /= m->from_columns;
#pragma omp parallel for schedule(static) num_threads(threads_of(run, count * m->count * m->elem_bytes))
        for (size_t r = 0; r < count; r++)
            move_row(m, from + r * m->from_columns * m->elem_bytes, to + r * m->to_columns * m->elem_bytes);
    }
    return QC_OK;
}

static void add_moves(
    qc_plan *plan, const qc_op *op, const int *in, size_t count, const move *items, bool by_token)
{
    moves *all = QC_NEW(&plan->arena, moves);
    *all = (moves){count, items};
    qc_dtype dtype = qc_plan_slot_at(plan, in[0])->dtype;
    int out = qc_plan_result(plan, op, dtype, by_token);
    qc_plan_step(plan, run_moves, op, out, in, (int)count, true, all);
}

qc_status qc_plan_slice(qc_plan *plan, const qc_op *op, bool *done)
{
    const qc_ref *x = qc_plan_ref(plan, qc_op_operand(op, 0));
    int64_t count;
    if (!x)
        return QC_ERROR;
    move *m = QC_NEW(&plan->arena, move);
    *m = (move){.start = (size_t)qc_attr_as_int(qc_op_attr(op, "start")),
        .step = (size_t)qc_attr_as_int(qc_op_attr(op, "step")),
        .elem_bytes = elem_bytes(plan, x->slot)};
    *done = is_last_axis(op, x) && static_last(x, &m->from_columns) && m->elem_bytes &&
            qc_dim_as_int(qc_type_dim(qc_value_type(qc_op_result(op, 0)), -1), &count) && count > 0;
    if (!*done)
        return QC_OK;
    m->count = m->to_columns = (size_t)count;
    int in = x->slot;
    add_moves(plan, op, &in, 1, m, x->by_token);
    return QC_OK;
}

/* The operands side by side: all by tokens where one is. */
qc_status qc_plan_concat(qc_plan *plan, const qc_op *op, bool *done)
{
    size_t count = qc_op_operand_count(op), columns = 0;
    bool by_token = false, fits = count > 0;
    move *items = QC_NEW_ARRAY(&plan->arena, move, count + 1);
    int *in = QC_NEW_ARRAY(&plan->arena, int, count + 1);
    for (size_t i = 0; i < count; i++) {
        const qc_ref *x = qc_plan_ref(plan, qc_op_operand(op, i));
        if (!x)
            return QC_ERROR;
        by_token = by_token || x->by_token;
        items[i] = (move){.step = 1, .to_start = columns, .elem_bytes = elem_bytes(plan, x->slot)};
        fits = fits && is_last_axis(op, x) && static_last(x, &items[i].from_columns) && items[i].elem_bytes &&
               qc_plan_slot_at(plan, x->slot)->place != QC_PLACE_FIXED;
        items[i].count = items[i].from_columns;
        columns += items[i].count;
    }
    *done = fits;
    for (size_t i = 0; i < count && fits; i++) {
        const qc_ref x = *qc_plan_ref(plan, qc_op_operand(op, i));
        in[i] = by_token ? qc_plan_by_token(plan, op, &x) : x.slot;
        items[i].to_columns = columns;
    }
    if (fits)
        add_moves(plan, op, in, count, items, by_token);
    return QC_OK;
}

/* ---- heads --------------------------------------------------------------------------------------------- */

typedef struct repetition {
    size_t times, row_bytes;
} repetition;

static qc_status run_repeat_heads(qc_run *run, const qc_step *step)
{
    const repetition *p = step->data;
    const char *from = qc_run_at(run, step, step->in[0]);
    char *to = qc_run_at(run, step, step->out);
    size_t count;
    if (count_elems(run, step, step->in[0], &count) != QC_OK)
        return QC_ERROR;
    count = count * elem_bytes(run->plan, step->in[0]) / p->row_bytes;
#pragma omp parallel for schedule(static) num_threads(threads_of(run, count * p->times * p->row_bytes))
    for (size_t r = 0; r < count; r++) /* heads of tokens, one after another */
        for (size_t i = 0; i < p->times; i++)
            memcpy(to + (r * p->times + i) * p->row_bytes, from + r * p->row_bytes, p->row_bytes);
    return QC_OK;
}

qc_status qc_plan_repeat_heads(qc_plan *plan, const qc_op *op, bool *done)
{
    const qc_ref *x = qc_plan_ref(plan, qc_op_operand(op, 0));
    size_t size;
    if (!x)
        return QC_ERROR;
    *done = x->by_token && x->rank == 4 && static_last(x, &size) && elem_bytes(plan, x->slot);
    if (!*done)
        return QC_OK;
    repetition *p = QC_NEW(&plan->arena, repetition);
    *p = (repetition){.times = (size_t)qc_attr_as_int(qc_op_attr(op, "times")),
        .row_bytes = size * elem_bytes(plan, x->slot)};
    int in = x->slot, out = qc_plan_result(plan, op, qc_plan_slot_at(plan, in)->dtype, true);
    qc_plan_step(plan, run_repeat_heads, op, out, &in, 1, true, p);
    return QC_OK;
}
