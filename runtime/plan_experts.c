/* SPDX-License-Identifier: MIT
 *
 * plan_experts.c - routing, and the rows of experts, as kernel calls. Rows [R, n] are ordered by expert; R follows from
 * the tokens of the run, or of its last token alone. All experts' products of a layer are one call, whose tiles the
 * threads share.
 *
 * What the ids of tokens or experts point into is checked by the kernels, as the reference semantics do.
 */
#include "ir/ctx.h"
#include "ir/experts.h"
#include "runtime/plan_internal.h"

/* Sizes that are known before the run; what a step does not need is 0. */
typedef struct sizes {
    qc_dtype dtype;
    size_t columns, k, experts, groups;
    size_t elem_bytes;
    bool all, unrouted_first, round_once;
    float fill;
} sizes;

static qc_status not_sized(const qc_run *run, const qc_step *step)
{
    return qc_error(&run->worker->diag, step->where, "nothing says how large a value is");
}

/* Lines of `columns` elements that the step sees of a slot. */
static qc_status count_lines(const qc_run *run, const qc_step *step, int slot, size_t columns, size_t *lines)
{
    size_t count;
    *lines = 0;
    if (!qc_run_count(run, step, slot, &count))
        return not_sized(run, step);
    *lines = columns ? count / columns : 0;
    return QC_OK;
}

/* ---- planning ------------------------------------------------------------------------------------------ */

static qc_dtype dtype_of(const qc_plan *plan, int slot)
{
    return plan->slots.items[slot].dtype;
}

static bool static_last(const qc_ref *ref, size_t *size)
{
    int64_t n;
    if (ref->rank == 0 || !qc_dim_as_int(ref->dims[ref->rank - 1], &n) || n < 1)
        return false;
    *size = (size_t)n;
    return true;
}

/* An operand in row-major order: its slot and its last dimension. `*fits` turns false where that is not static. */
static qc_status take_operand(
    qc_plan *plan, const qc_op *op, size_t index, int *slot, size_t *last, bool *fits)
{
    const qc_ref *ref = qc_plan_ref(plan, qc_op_operand(op, index));
    if (!ref)
        return QC_ERROR;
    const qc_ref from = *ref; /* planning operands may move refs */
    *slot = qc_plan_dense(plan, op, &from);
    *fits = *fits && static_last(&from, last);
    return QC_OK;
}

/* Operand `index`, rows of experts as expert_rows gives them, which stand by expert. */
static qc_status take_rows(qc_plan *plan, const qc_op *op, size_t index, int *slot, bool *fits)
{
    const qc_value *rows = qc_op_operand(op, index);
    const qc_ref *ref = qc_plan_ref(plan, rows);
    if (!ref)
        return QC_ERROR;
    *slot = ref->slot;
    *fits = *fits && qc_value_op(rows) && qc_op_is(qc_value_op(rows), "expert_rows") &&
            dtype_of(plan, *slot) == QC_I32;
    return QC_OK;
}

static size_t whole_bytes(qc_dtype dtype)
{
    int bits = qc_dtype_bits(dtype);
    return bits % 8 ? 0 : (size_t)bits / 8;
}

static qc_step *add(qc_plan *plan, const qc_op *op, qc_step_fn fn, qc_dtype dtype, const int *in,
    int in_count, bool row_wise, const sizes *s)
{
    sizes *copy = QC_NEW(&plan->arena, sizes);
    *copy = *s;
    int out = qc_plan_result(plan, op, dtype, false);
    return qc_plan_step(plan, fn, op, out, in, in_count, row_wise, copy);
}

/* ---- choosing ------------------------------------------------------------------------------------------ */

static qc_status run_topk(qc_run *run, const qc_step *step)
{
    const sizes *s = step->data;
    size_t lines;
    if (count_lines(run, step, step->in[0], s->columns, &lines) != QC_OK)
        return QC_ERROR;
    return qc_host_topk(run->plan->env.engine, &run->worker->diag, step->where, s->dtype,
        qc_run_at(run, step, step->in[0]), lines, s->columns, s->k, qc_run_at(run, step, step->out));
}

qc_status qc_plan_topk(qc_plan *plan, const qc_op *op, bool *done)
{
    sizes s = {.k = (size_t)qc_attr_as_int(qc_op_attr(op, "k"))};
    int in;
    *done = true;
    if (take_operand(plan, op, 0, &in, &s.columns, done) != QC_OK)
        return QC_ERROR;
    s.dtype = dtype_of(plan, in);
    *done = *done && qc_is_value_dtype(s.dtype);
    if (*done)
        add(plan, op, run_topk, QC_I32, &in, 1, true, &s);
    return QC_OK;
}

static qc_status run_take(qc_run *run, const qc_step *step)
{
    const sizes *s = step->data;
    size_t lines;
    if (count_lines(run, step, step->in[1], s->k, &lines) != QC_OK)
        return QC_ERROR;
    return qc_host_take(run->plan->env.engine, &run->worker->diag, step->where, s->elem_bytes,
        qc_run_at(run, step, step->in[0]), lines, s->columns, qc_run_at(run, step, step->in[1]), s->k,
        qc_run_at(run, step, step->out));
}

qc_status qc_plan_take(qc_plan *plan, const qc_op *op, bool *done)
{
    sizes s = {0};
    int in[2];
    *done = true;
    if (take_operand(plan, op, 0, &in[0], &s.columns, done) != QC_OK ||
        take_operand(plan, op, 1, &in[1], &s.k, done) != QC_OK)
        return QC_ERROR;
    s.elem_bytes = whole_bytes(dtype_of(plan, in[0]));
    *done = *done && s.elem_bytes && dtype_of(plan, in[1]) == QC_I32;
    if (*done)
        add(plan, op, run_take, dtype_of(plan, in[0]), in, 2, true, &s);
    return QC_OK;
}

static qc_status run_mask_groups(qc_run *run, const qc_step *step)
{
    const sizes *s = step->data;
    qc_host_group_mask mask = {
        .dtype = s->dtype, .columns = s->columns, .groups = s->groups, .chosen = s->k, .fill = s->fill};
    if (count_lines(run, step, step->in[0], s->columns, &mask.rows) != QC_OK)
        return QC_ERROR;
    return qc_host_mask_groups(run->plan->env.engine, &run->worker->diag, step->where, &mask,
        qc_run_at(run, step, step->in[0]), qc_run_at(run, step, step->in[1]),
        qc_run_at(run, step, step->out));
}

qc_status qc_plan_mask_groups(qc_plan *plan, const qc_op *op, bool *done)
{
    sizes s = {.groups = (size_t)qc_attr_as_int(qc_op_attr(op, "groups")),
        .fill = (float)qc_attr_as_float(qc_op_attr(op, "fill"))};
    int in[2];
    *done = true;
    if (take_operand(plan, op, 0, &in[0], &s.columns, done) != QC_OK ||
        take_operand(plan, op, 1, &in[1], &s.k, done) != QC_OK)
        return QC_ERROR;
    s.dtype = dtype_of(plan, in[0]);
    *done = *done && qc_is_value_dtype(s.dtype) && dtype_of(plan, in[1]) == QC_I32;
    if (*done)
        add(plan, op, run_mask_groups, s.dtype, in, 2, true, &s);
    return QC_OK;
}

/* ---- rows of experts ----------------------------------------------------------------------------------- */

static qc_status run_expert_rows(qc_run *run, const qc_step *step)
{
    const sizes *s = step->data;
    const int32_t *ids = qc_run_at(run, step, step->in[0]);
    size_t tokens;
    if (count_lines(run, step, step->in[0], s->k, &tokens) != QC_OK)
        return QC_ERROR;
    return (s->all ? qc_host_expert_all_rows : qc_host_expert_rows)(
        &run->worker->diag, step->where, ids, tokens, s->k, s->experts, qc_run_at(run, step, step->out));
}

qc_status qc_plan_expert_rows(qc_plan *plan, const qc_op *op, bool *done)
{
    sizes s = {.experts = (size_t)qc_attr_as_int(qc_op_attr(op, "experts")),
        .all = qc_attr_as_bool(qc_op_attr(op, "all"))};
    int in;
    *done = true;
    if (take_operand(plan, op, 0, &in, &s.k, done) != QC_OK)
        return QC_ERROR;
    *done = *done && dtype_of(plan, in) == QC_I32;
    if (*done)
        add(plan, op, run_expert_rows, QC_I32, &in, 1, true, &s);
    return QC_OK;
}

/* in: what has a row for each token (or expert), then rows. */
static qc_status run_gather(qc_run *run, const qc_step *step)
{
    const sizes *s = step->data;
    const int32_t *rows = qc_run_at(run, step, step->in[1]);
    size_t from, count, by = s->experts ? 0 : 1;
    if (count_lines(run, step, step->in[0], s->columns, &from) != QC_OK ||
        count_lines(run, step, step->out, s->columns, &count) != QC_OK)
        return QC_ERROR;
    return qc_host_gather_rows(run->plan->env.engine, &run->worker->diag, step->where,
        qc_run_at(run, step, step->in[0]), from, s->columns * s->elem_bytes, rows + by * count, count,
        qc_run_at(run, step, step->out));
}

/* expert_gather and expert_param: whole rows, of tokens or of experts. */
qc_status qc_plan_expert_gather(qc_plan *plan, const qc_op *op, bool *done)
{
    sizes s = {.experts = qc_op_is(op, "expert_param")};
    int in[2];
    *done = true;
    if (take_operand(plan, op, 0, &in[0], &s.columns, done) != QC_OK ||
        take_rows(plan, op, 1, &in[1], done) != QC_OK)
        return QC_ERROR;
    s.elem_bytes = whole_bytes(dtype_of(plan, in[0]));
    *done = *done && s.elem_bytes;
    if (*done)
        add(plan, op, run_gather, dtype_of(plan, in[0]), in, 2, true, &s);
    return QC_OK;
}

static qc_status run_score(qc_run *run, const qc_step *step)
{
    const sizes *s = step->data;
    size_t tokens, count;
    if (count_lines(run, step, step->in[0], s->k, &tokens) != QC_OK ||
        count_lines(run, step, step->out, 1, &count) != QC_OK)
        return QC_ERROR;
    return qc_host_expert_scores(&run->worker->diag, step->where, s->elem_bytes,
        qc_run_at(run, step, step->in[0]), tokens, s->k, qc_run_at(run, step, step->in[1]), count,
        s->unrouted_first, qc_run_at(run, step, step->out));
}

qc_status qc_plan_expert_score(qc_plan *plan, const qc_op *op, bool *done)
{
    sizes s = {.unrouted_first = strcmp(qc_attr_as_text(qc_op_attr(op, "unrouted")), "first") == 0};
    int in[2];
    *done = true;
    if (take_operand(plan, op, 0, &in[0], &s.k, done) != QC_OK ||
        take_rows(plan, op, 1, &in[1], done) != QC_OK)
        return QC_ERROR;
    s.elem_bytes = whole_bytes(dtype_of(plan, in[0]));
    *done = *done && s.elem_bytes;
    if (*done)
        add(plan, op, run_score, dtype_of(plan, in[0]), in, 2, true, &s);
    return QC_OK;
}

static qc_status run_combine(qc_run *run, const qc_step *step)
{
    const sizes *s = step->data;
    qc_host_combination c = {
        .dtype = s->dtype, .columns = s->columns, .k = s->k, .round_once = s->round_once};
    if (count_lines(run, step, step->in[0], s->columns, &c.rows) != QC_OK ||
        count_lines(run, step, step->out, s->columns, &c.tokens) != QC_OK)
        return QC_ERROR;
    return qc_host_expert_combine(run->plan->env.engine, &run->worker->diag, step->where, &c,
        qc_run_at(run, step, step->in[0]), qc_run_at(run, step, step->in[1]),
        qc_run_at(run, step, step->out));
}

/* Room for the rows of each token; see backends/host/experts.c. */
static size_t combine_bytes(const qc_plan *plan, const qc_step *step, size_t tokens, size_t past)
{
    const sizes *s = step->data;
    (void)plan;
    (void)past;
    return tokens * (s->k + 1) * sizeof(int32_t);
}

qc_status qc_plan_expert_combine(qc_plan *plan, const qc_op *op, bool *done)
{
    sizes s = {.round_once = strcmp(qc_attr_as_text(qc_op_attr(op, "sum")), "once") == 0};
    int in[3];
    *done = true;
    if (take_operand(plan, op, 0, &in[0], &s.columns, done) != QC_OK ||
        take_rows(plan, op, 1, &in[1], done) != QC_OK ||
        take_operand(plan, op, 2, &in[2], &s.k, done) != QC_OK)
        return QC_ERROR;
    s.dtype = dtype_of(plan, in[0]);
    *done = *done && qc_is_value_dtype(s.dtype);
    if (*done)
        add(plan, op, run_combine, s.dtype, in, 3, true, &s)->bytes = combine_bytes;
    return QC_OK;
}

/* ---- products ------------------------------------------------------------------------------------------ */

typedef struct experts {
    const qc_host_linear *const *prepared;
    size_t count, depth;
} experts;

static qc_status run_expert_linear(qc_run *run, const qc_step *step)
{
    const experts *e = step->data;
    size_t count, *starts = QC_NEW_ARRAY(&run->worker->scratch, size_t, e->count + 1);
    qc_status status = count_lines(run, step, step->in[0], e->depth, &count);
    if (status == QC_OK)
        status = qc_host_expert_starts(
            &run->worker->diag, step->where, qc_run_at(run, step, step->in[1]), count, e->count, starts);
    if (status == QC_OK)
        status = qc_host_linear_run_groups(e->prepared, &run->worker->diag, qc_run_at(run, step, step->in[0]),
            0, qc_run_at(run, step, step->out), 0, (qc_host_sequences){starts, e->count});
    qc_arena_fini(&run->worker->scratch);
    return status;
}

/* Tiles of the input and of the sums, a list of tiles; see backends/host/linear.c. */
static size_t expert_linear_bytes(const qc_plan *plan, const qc_step *step, size_t tokens, size_t past)
{
    const experts *e = step->data;
    (void)plan;
    (void)past;
    return (size_t)2 * 64 * (e->depth + 1024) * sizeof(float) + (tokens / 8 + e->count) * 32;
}

static bool has_value_dtype(const qc_value *value)
{
    return qc_is_value_dtype(qc_type_dtype(qc_value_type(value)));
}

qc_status qc_plan_expert_linear(qc_plan *plan, const qc_op *op, bool *done)
{
    const qc_value *w = qc_op_operand_named(op, "w"), *bias = qc_op_operand_named(op, "bias");
    const qc_value *plain = plan->request.calibrating ? qc_value_without_codes(w) : w;
    qc_dtype output = qc_type_dtype(qc_value_type(qc_op_result(op, 0)));
    experts *e = QC_NEW(&plan->arena, experts);
    int in[2];
    *done = true;
    if (take_operand(plan, op, 0, &in[0], &e->depth, done) != QC_OK ||
        take_rows(plan, op, 2, &in[1], done) != QC_OK)
        return QC_ERROR;
    int64_t count = qc_bank_experts(w);
    *done = *done && count > 0 && qc_plan_is_weight(plan, w) && (!bias || qc_plan_is_weight(plan, bias)) &&
            has_value_dtype(plain) && (!bias || has_value_dtype(bias)) &&
            qc_is_value_dtype(dtype_of(plan, in[0])) && qc_is_value_dtype(output);
    if (!*done)
        return QC_OK;
    e->count = (size_t)count;
    e->prepared = qc_bank_expert_linears(
        plan->env.bank, qc_plan_where(plan, op), plan->env.module, w, bias, dtype_of(plan, in[0]), output);
    if (!e->prepared)
        return QC_ERROR;
    int out = qc_plan_result(plan, op, output, false);
    qc_plan_step(plan, run_expert_linear, op, out, in, 2, true, e)->bytes = expert_linear_bytes;
    return QC_OK;
}
