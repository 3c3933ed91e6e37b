/* SPDX-License-Identifier: MIT
 *
 * plan_layers.c - linear, rmsnorm and rope as kernel calls. What a kernel cannot do (element types) is left to
 * the op's decomposition or reference semantics.
 */
#include "ir/ctx.h"
#include "runtime/plan_internal.h"

static qc_dtype dtype_of(const qc_plan *plan, const qc_ref *ref)
{
    return plan->slots.items[ref->slot].dtype;
}

static qc_dtype dtype_attr(const qc_op *op, const char *name)
{
    const char *word = qc_attr_as_text(qc_op_attr(op, name));
    return qc_dtype_from_name(word, strlen(word));
}

static bool static_last(const qc_ref *ref, size_t *size)
{
    int64_t n;
    if (ref->rank == 0 || !qc_dim_as_int(ref->dims[ref->rank - 1], &n) || n < 1)
        return false;
    *size = (size_t)n;
    return true;
}

/* ---- linear -------------------------------------------------------------------------------------------- */

typedef struct linear {
    const qc_host_linear *prepared;
    size_t depth;
} linear;

static qc_status run_linear(qc_run *run, const qc_step *step)
{
    const linear *l = step->data;
    size_t count;
    if (!qc_run_count(run, step, step->in[0], &count))
        return qc_error(&run->worker->diag, step->where, "nothing says how large its input is");
    return qc_host_linear_run(l->prepared, &run->worker->diag, qc_run_at(run, step, step->in[0]), 0,
        qc_run_at(run, step, step->out), 0, count / l->depth, (qc_host_sequences){NULL, 0});
}

/* Tiles of the input and of the sums; see backends/host/linear.c. */
static size_t linear_bytes(const qc_plan *plan, const qc_step *step, size_t tokens, size_t past)
{
    const linear *l = step->data;
    (void)plan;
    (void)past;
    size_t rows = tokens < 64 ? tokens : 64;
    return 2 * rows * (l->depth + 1024) * sizeof(float);
}

qc_status qc_plan_linear(qc_plan *plan, const qc_op *op, bool *done)
{
    const qc_value *w = qc_op_operand(op, 1), *bias = qc_op_operand(op, 2);
    const qc_ref *x = qc_plan_ref(plan, qc_op_operand(op, 0));
    size_t depth;
    if (!x)
        return QC_ERROR;
    const qc_value *plain = plan->request.calibrating ? qc_value_without_codes(w) : w;
    qc_dtype input = dtype_of(plan, x), output = qc_type_dtype(qc_value_type(qc_op_result(op, 0)));
    if (!qc_plan_is_weight(plan, w) || (bias && !qc_plan_is_weight(plan, bias)) ||
        !qc_is_value_dtype(input) || !qc_is_value_dtype(output) ||
        !qc_is_value_dtype(qc_type_dtype(qc_value_type(plain))) ||
        (bias && !qc_is_value_dtype(qc_type_dtype(qc_value_type(bias)))) || !static_last(x, &depth))
        return QC_OK;
    linear *l = QC_NEW(&plan->arena, linear);
    l->depth = depth;
    l->prepared = qc_bank_linear(plan->env.bank, qc_plan_where(plan, op), w, bias, input, output);
    if (!l->prepared)
        return QC_ERROR;
    int in = x->slot, out = qc_plan_result(plan, op, output, x->by_token);
    qc_plan_step(plan, run_linear, op, out, &in, 1, true, l)->bytes = linear_bytes;
    *done = true;
    return QC_OK;
}

/* ---- rmsnorm ------------------------------------------------------------------------------------------- */

typedef struct norm {
    qc_dtype dtype, weight_dtype;
    size_t size;
    float eps, offset;
    qc_host_norm_style style;
} norm;

static qc_status run_rmsnorm(qc_run *run, const qc_step *step)
{
    const norm *n = step->data;
    size_t count;
    if (!qc_run_count(run, step, step->in[0], &count))
        return qc_error(&run->worker->diag, step->where, "nothing says how large its input is");
    qc_host_rmsnorm(run->plan->env.engine, &(qc_host_norm){.dtype = n->dtype,
                                               .x = qc_run_at(run, step, step->in[0]),
                                               .y = qc_run_at(run, step, step->out),
                                               .tokens = count / n->size,
                                               .heads = 1,
                                               .token_stride = n->size,
                                               .size = n->size,
                                               .weight_dtype = n->weight_dtype,
                                               .weight = qc_run_at(run, step, step->in[1]),
                                               .weight_offset = n->offset,
                                               .eps = n->eps,
                                               .style = n->style});
    return QC_OK;
}

qc_status qc_plan_rmsnorm(qc_plan *plan, const qc_op *op, bool *done)
{
    const qc_value *w = qc_op_operand(op, 1);
    const qc_ref *x = qc_plan_ref(plan, qc_op_operand(op, 0));
    const qc_ref *weight = x && qc_plan_is_weight(plan, w) ? qc_plan_ref(plan, w) : NULL;
    size_t size, weight_size;
    if (!x || (!weight && qc_plan_is_weight(plan, w)))
        return QC_ERROR;
    if (!weight || !static_last(x, &size) || weight->rank != 1 || !static_last(weight, &weight_size) ||
        size != weight_size || !qc_is_value_dtype(dtype_of(plan, x)) ||
        !qc_is_value_dtype(dtype_of(plan, weight)))
        return QC_OK;
    norm *n = QC_NEW(&plan->arena, norm);
    bool after = strcmp(qc_attr_as_text(qc_op_attr(op, "round")), "after") == 0;
    *n = (norm){.dtype = dtype_of(plan, x),
        .weight_dtype = dtype_of(plan, weight),
        .size = size,
        .eps = (float)qc_attr_as_float(qc_op_attr(op, "eps")),
        .offset = (float)qc_attr_as_float(qc_op_attr(op, "offset")),
        .style = after ? QC_HOST_NORM_SCALE_THEN_ROUND : QC_HOST_NORM_ROUND_THEN_SCALE};
    int in[2] = {x->slot, weight->slot}, out = qc_plan_result(plan, op, n->dtype, x->by_token);
    qc_plan_step(plan, run_rmsnorm, op, out, in, 2, true, n);
    *done = true;
    return QC_OK;
}

/* ---- rope ---------------------------------------------------------------------------------------------- */

typedef struct rope {
    const qc_rope_table *table;
    qc_dtype dtype;
    size_t heads, size, dims;
    qc_host_rope_style style;
} rope;

/* Rows of a table that depends on the length of the sequence: cosines, then sines. */
static qc_status run_rope_table(qc_run *run, const qc_step *step)
{
    const qc_rope_table *t = step->data;
    size_t half = run->tokens * (size_t)t->dims / 2 * ((size_t)qc_dtype_bits(t->dtype) / 8);
    char *out = qc_run_at(run, step, step->out);
    float *row = QC_NEW_ARRAY(&run->worker->scratch, float, (size_t)t->dims);
    qc_status status = qc_rope_table_compute(
        t, &run->worker->diag, run->past, run->tokens, run->past + run->tokens, row, out, out + half);
    qc_arena_fini(&run->worker->scratch);
    return status;
}

static qc_status run_rope(qc_run *run, const qc_step *step)
{
    const rope *r = step->data;
    const qc_rope_table *t = r->table;
    size_t columns = (size_t)t->dims / 2, row_bytes = columns * ((size_t)qc_dtype_bits(t->dtype) / 8);
    const char *cos, *sin;
    if (step->in[1] >= 0) {
        cos = qc_run_at(run, step, step->in[1]);
        sin = cos + run->tokens * row_bytes;
    } else {
        if (run->past + run->tokens > t->length)
            return qc_error(
                &run->worker->diag, step->where, "the rotary table ends at position %zu", t->length);
        cos = (const char *)t->cos + run->past * row_bytes;
        sin = (const char *)t->sin + run->past * row_bytes;
    }
    qc_host_rope_apply(run->plan->env.engine, &(qc_host_rope){.dtype = r->dtype,
                                                  .x = qc_run_at(run, step, step->in[0]),
                                                  .y = qc_run_at(run, step, step->out),
                                                  .tokens = run->tokens,
                                                  .heads = r->heads,
                                                  .head_size = r->size,
                                                  .token_stride = r->heads * r->size,
                                                  .head_stride = r->size,
                                                  .rotary_size = r->dims,
                                                  .cos = cos,
                                                  .sin = sin,
                                                  .table_dtype = t->dtype,
                                                  .table_stride = columns,
                                                  .style = r->style});
    return QC_OK;
}

/* The slot of such a table in this plan, -1 for tables that all runs share. */
static int table_slot(qc_plan *plan, const qc_op *op, const qc_rope_table *table)
{
    if (!table->by_length)
        return -1;
    void *known = qc_map_get_n(&plan->row_tables, (const char *)&table, sizeof table);
    if (known)
        return (int)(uintptr_t)known - 1;
    const qc_dim *dims[3] = {plan->batch, plan->sequence, qc_dim_int(plan->env.ctx, table->dims)};
    int slot = qc_plan_slot(plan, table->dtype, 3, dims, false);
    qc_plan_step(plan, run_rope_table, op, slot, NULL, 0, false, table);
    qc_map_set_n(&plan->row_tables, (const char *)&table, sizeof table, (void *)(uintptr_t)(slot + 1));
    return slot;
}

qc_status qc_plan_rope(qc_plan *plan, const qc_op *op, bool *done)
{
    const qc_ref *x = qc_plan_ref(plan, qc_op_operand(op, 0));
    const qc_op *positions = qc_value_op(qc_op_operand(op, 1));
    qc_dtype tables = dtype_attr(op, "tables");
    int64_t heads, size, dims = qc_attr_as_int(qc_op_attr(op, "dims"));
    if (!x)
        return QC_ERROR;
    if (x->rank != 4 || x->dims[2] != plan->sequence || !qc_dim_as_int(x->dims[1], &heads) ||
        !qc_dim_as_int(x->dims[3], &size) || size < 2 || (dims ? dims : size) % 2 || dims > size ||
        !positions || !qc_op_is(positions, "positions") || !qc_is_value_dtype(dtype_of(plan, x)) ||
        !qc_is_value_dtype(tables))
        return QC_OK;
    rope *r = QC_NEW(&plan->arena, rope);
    dims = dims ? dims : size;
    *r = (rope){.dtype = dtype_of(plan, x),
        .heads = (size_t)heads,
        .size = (size_t)size,
        .dims = (size_t)dims,
        .style = qc_attr_as_bool(qc_op_attr(op, "interleaved")) ? QC_HOST_ROPE_PAIRS : QC_HOST_ROPE_HALVES};
    r->table = qc_rope_tables_get(
        plan->env.rope, qc_attr_as_float(qc_op_attr(op, "theta")), qc_op_attr(op, "scaling"), dims, tables);
    int in[2] = {qc_plan_by_token(plan, op, x), table_slot(plan, op, r->table)};
    int out = qc_plan_result(plan, op, r->dtype, true);
    qc_plan_step(plan, run_rope, op, out, in, 2, false, r);
    *done = true;
    return QC_OK;
}
