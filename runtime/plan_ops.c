/* SPDX-License-Identifier: MIT
 *
 * plan_ops.c - the table of handlers, one row an op of the IR; elementwise work, embeddings, and the way
 * back to reference semantics. Views are in plan_shape.c, layers in plan_layers.c, experts in plan_experts.c, quantization in plan_quant.c.
 */
#include <stdlib.h>

#include "ir/ctx.h"
#include "ir/eval.h"
#include "ir/tensor.h"
#include "runtime/plan_internal.h"

/* ---- reference semantics ------------------------------------------------------------------------------- */

typedef struct eval_call {
    const qc_op_info *info;
    const qc_ref *operands; /* slot -1: absent */
    qc_ref result;
} eval_call;

static qc_status make_tensor(const qc_run *run, const qc_step *step, const qc_ref *ref, qc_tensor *t)
{
    const qc_slot *slot = &run->plan->slots.items[ref->slot];
    *t = (qc_tensor){.dtype = slot->dtype, .rank = ref->rank, .count = 1};
    for (int i = 0; i < ref->rank; i++) {
        if (!qc_run_dim(run, ref->dims[i], &t->dims[i]))
            return qc_error(&run->worker->diag, step->where, "nothing says how large dimension %d is", i);
        t->count *= t->dims[i];
    }
    t->data = qc_run_at(run, step, ref->slot);
    return QC_OK;
}

static qc_status run_eval(qc_run *run, const qc_step *step)
{
    const eval_call *call = step->data;
    qc_arena *scratch = &run->worker->scratch;
    /* with room for operands that a hook of another op looks for */
    const qc_tensor **operands = QC_NEW_ARRAY(scratch, const qc_tensor *, (size_t)step->in_count + 1);
    qc_tensor result;
    qc_status status = make_tensor(run, step, &call->result, &result);
    for (int i = 0; status == QC_OK && i < step->in_count; i++)
        if (call->operands[i].slot >= 0) {
            qc_tensor *t = QC_NEW(scratch, qc_tensor);
            status = make_tensor(run, step, &call->operands[i], t);
            operands[i] = t;
        }
    if (status == QC_OK) {
        qc_eval eval = {.diag = &run->worker->diag,
            .scratch = scratch,
            .module = run->plan->env.module,
            .path = step->where,
            .past_length = (int64_t)run->past};
        memset(result.data, 0, qc_tensor_bytes(result.dtype, result.count));
        status = call->info->eval(&eval, step->op, operands, &result);
    }
    qc_arena_fini(scratch);
    return status;
}

qc_status qc_plan_eval_into(qc_plan *plan, const qc_op *op, const qc_op_info *info, const qc_ref *result)
{
    size_t count = qc_op_operand_count(op);
    qc_ref *operands = QC_NEW_ARRAY(&plan->arena, qc_ref, count + 1);
    int *in = QC_NEW_ARRAY(&plan->arena, int, count + 1);
    for (size_t i = 0; i < count; i++) {
        const qc_value *value = qc_op_operand(op, i);
        in[i] = operands[i].slot = -1;
        if (!value)
            continue;
        const qc_ref *ref = qc_plan_ref(plan, value);
        if (!ref)
            return QC_ERROR;
        operands[i] = *ref;
        in[i] = operands[i].slot = qc_plan_dense(plan, op, ref);
        if (qc_plan_slot_at(plan, in[i])->dtype != qc_type_dtype(qc_value_type(value)))
            return qc_ctx_error(plan->env.ctx, qc_plan_where(plan, op),
                "%s works on %s, which the cache or the calibration holds as %s", qc_op_name(op),
                qc_dtype_name(qc_type_dtype(qc_value_type(value))),
                qc_dtype_name(qc_plan_slot_at(plan, in[i])->dtype));
    }
    eval_call *call = QC_NEW(&plan->arena, eval_call);
    call->info = info;
    call->operands = operands;
    call->result = *result;
    qc_plan_step(plan, run_eval, op, result->slot, in, (int)count, false, call);
    return QC_OK;
}

qc_status qc_plan_eval(qc_plan *plan, const qc_op *op, const qc_op_info *info)
{
    qc_plan_result(plan, op, QC_DTYPE_NONE, false);
    const qc_ref result = *qc_plan_ref(plan, qc_op_result(op, 0));
    return qc_plan_eval_into(plan, op, info, &result);
}

/* ---- elementwise --------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    qc_host_unary_op op;
} unary_ops[] = {{"silu", QC_HOST_SILU}, {"sigmoid", QC_HOST_SIGMOID}, {"gelu_tanh", QC_HOST_GELU_TANH},
    {"neg", QC_HOST_NEG}, {"abs", QC_HOST_ABS}, {"exp", QC_HOST_EXP}, {"log", QC_HOST_LOG},
    {"sin", QC_HOST_SIN}, {"cos", QC_HOST_COS}, {"tanh", QC_HOST_TANH}, {"sqrt", QC_HOST_SQRT},
    {"rsqrt", QC_HOST_RSQRT}, {"floor", QC_HOST_FLOOR}};

static const struct {
    const char *name;
    qc_host_binary_op op;
} binary_ops[] = {{"add", QC_HOST_ADD}, {"sub", QC_HOST_SUB}, {"mul", QC_HOST_MUL}, {"div", QC_HOST_DIV},
    {"minimum", QC_HOST_MINIMUM}, {"maximum", QC_HOST_MAXIMUM}};

typedef struct elementwise {
    int op; /* of the host's enumeration */
    qc_dtype from, other, to;
    bool repeats;  /* b is one row (or one number) for all rows of a */
    size_t period; /* elements of that row */
    bool column;   /* b is one number for each row of a, of `period` elements */
} elementwise;

static qc_status count_elems(const qc_run *run, const qc_step *step, size_t *count)
{
    if (qc_run_count(run, step, step->out, count))
        return QC_OK;
    return qc_error(&run->worker->diag, step->where, "nothing says how large a value is");
}

static qc_status run_unary(qc_run *run, const qc_step *step)
{
    const elementwise *e = step->data;
    size_t count;
    if (count_elems(run, step, &count) != QC_OK)
        return QC_ERROR;
    qc_host_unary(run->plan->env.engine, (qc_host_unary_op)e->op, e->from, qc_run_at(run, step, step->in[0]),
        qc_run_at(run, step, step->out), count);
    return QC_OK;
}

static qc_status run_cast(qc_run *run, const qc_step *step)
{
    const elementwise *e = step->data;
    size_t count;
    if (count_elems(run, step, &count) != QC_OK)
        return QC_ERROR;
    qc_host_convert(run->plan->env.engine, e->from, qc_run_at(run, step, step->in[0]), e->to,
        qc_run_at(run, step, step->out), count);
    return QC_OK;
}

static qc_status run_binary(qc_run *run, const qc_step *step)
{
    const elementwise *e = step->data;
    size_t count;
    if (count_elems(run, step, &count) != QC_OK)
        return QC_ERROR;
    size_t columns = e->repeats || e->column ? e->period : count;
    qc_host_binary(
        run->plan->env.engine, &(qc_host_pairing){.op = (qc_host_binary_op)e->op,
                                   .a_dtype = e->from,
                                   .b_dtype = e->other,
                                   .y_dtype = e->to,
                                   .a = qc_run_at(run, step, step->in[0]),
                                   .b = qc_run_at(run, step, step->in[1]),
                                   .y = qc_run_at(run, step, step->out),
                                   .rows = columns ? count / columns : 0,
                                   .columns = columns,
                                   .b_row_stride = e->column,
                                   .b_column_stride = !e->column && !(e->repeats && e->period == 1)});
    return QC_OK;
}

static qc_status run_silu_mul(qc_run *run, const qc_step *step)
{
    const elementwise *e = step->data;
    size_t count;
    if (count_elems(run, step, &count) != QC_OK)
        return QC_ERROR;
    qc_host_silu_mul(run->plan->env.engine, e->from, qc_run_at(run, step, step->in[0]), count,
        qc_run_at(run, step, step->in[1]), count, qc_run_at(run, step, step->out), count, 1, count);
    return QC_OK;
}

static const elementwise *new_elementwise(qc_plan *plan, int op, qc_dtype from, qc_dtype to)
{
    elementwise *e = QC_NEW(&plan->arena, elementwise);
    *e = (elementwise){.op = op, .from = from, .to = to};
    return e;
}

static bool same_shape(const qc_ref *a, const qc_ref *b)
{
    bool same = a->rank == b->rank && a->by_token == b->by_token;
    for (int i = 0; same && i < a->rank; i++)
        same = a->dims[i] == b->dims[i];
    return same;
}

static bool has_type_shape(const qc_ref *a, const qc_type *type)
{
    bool same = a->rank == qc_type_rank(type);
    for (int i = 0; same && i < a->rank; i++)
        same = a->dims[i] == qc_type_dim(type, i);
    return same;
}

/* Is b [heads, 1, d], of a [B, heads, S, d] that lies by tokens? Then its numbers are a row of each token. */
static bool repeats_in_tokens(const qc_ref *a, const qc_ref *b)
{
    int64_t one, first = 1;
    return a->by_token && a->rank == 4 && b->rank >= 3 && b->dims[b->rank - 3] == a->dims[1] &&
           qc_dim_as_int(b->dims[b->rank - 2], &one) && one == 1 && b->dims[b->rank - 1] == a->dims[3] &&
           (b->rank == 3 || (qc_dim_as_int(b->dims[0], &first) && first == 1));
}

/* Is b one number, one row of a's last dimension, or one of each token? */
static bool repeats_in(const qc_plan *plan, const qc_ref *a, const qc_ref *b, size_t *period)
{
    int64_t last = 1, n, count = 1;
    if (plan->slots.items[b->slot].place != QC_PLACE_FIXED || b->rank > a->rank)
        return false;
    for (int i = 0; i < b->rank; i++) {
        if (!qc_dim_as_int(b->dims[i], &n))
            return false;
        count *= n;
        last = n;
    }
    *period = (size_t)count;
    if (count == 1 || repeats_in_tokens(a, b))
        return true;
    return count == last && a->rank > 0 && b->dims[b->rank - 1] == a->dims[a->rank - 1];
}

/* Is b [B, 1, S, 1], of a [B, heads, S, d] that lies by tokens? Then it has one number for each token. */
static bool is_number_of_tokens(const qc_plan *plan, const qc_ref *a, const qc_ref *b, size_t *period)
{
    int64_t heads, size, one[2];
    bool fits = a->by_token && a->rank == 4 && b->rank == 4 && b->dims[0] == a->dims[0] &&
                b->dims[2] == a->dims[2] && qc_dim_as_int(b->dims[1], &one[0]) && one[0] == 1 &&
                qc_dim_as_int(b->dims[3], &one[1]) && one[1] == 1 && qc_dim_as_int(a->dims[1], &heads) &&
                qc_dim_as_int(a->dims[3], &size) && plan->slots.items[b->slot].token_rows;
    if (fits)
        *period = (size_t)heads * (size_t)size;
    return fits;
}

/* Is b one number for each row of a's last dimension? */
static bool is_column_of(const qc_plan *plan, const qc_ref *a, const qc_ref *b, size_t *period)
{
    int64_t one, columns;
    if (is_number_of_tokens(plan, a, b, period))
        return true;
    bool fits = a->rank > 0 && a->rank == b->rank && a->by_token == b->by_token &&
                qc_dim_as_int(b->dims[b->rank - 1], &one) && one == 1 &&
                qc_dim_as_int(a->dims[a->rank - 1], &columns) && columns > 0;
    for (int i = 0; fits && i + 1 < a->rank; i++)
        fits = a->dims[i] == b->dims[i];
    if (fits)
        *period = (size_t)columns;
    return fits;
}

static void add_silu(qc_plan *plan, const qc_op *op, const qc_ref *x)
{
    qc_dtype dtype = qc_plan_slot_at(plan, x->slot)->dtype;
    int in = x->slot, out = qc_plan_result(plan, op, dtype, x->by_token);
    qc_plan_step(plan, run_unary, op, out, &in, 1, true, new_elementwise(plan, QC_HOST_SILU, dtype, dtype));
}

qc_status qc_plan_late_silu(qc_plan *plan, const qc_op *op)
{
    const qc_ref *x = qc_plan_ref(plan, qc_op_operand(op, 0));
    if (!x)
        return QC_ERROR;
    add_silu(plan, op, x);
    return QC_OK;
}

/* Is the one use of a silu a product, with which it becomes one sweep? */
static bool waits_for_product(const qc_plan *plan, const qc_op *op)
{
    qc_value *value = qc_op_result(op, 0);
    size_t slot;
    if (plan->where || qc_value_use_count(value) != 1)
        return false;
    for (size_t i = 0; i < plan->request.output_count; i++)
        if (plan->request.outputs[i] == value)
            return false;
    const qc_op *use = qc_value_use(value, 0, &slot);
    return qc_op_is(use, "mul") && qc_op_operand(use, 0) != qc_op_operand(use, 1) &&
           qc_value_type(qc_op_operand(use, 1 - slot)) == qc_value_type(value);
}

static qc_status plan_unary(qc_plan *plan, const qc_op *op, qc_host_unary_op which, bool *done)
{
    const qc_ref *x = qc_plan_ref(plan, qc_op_operand(op, 0));
    if (!x)
        return QC_ERROR;
    qc_dtype dtype = qc_plan_slot_at(plan, x->slot)->dtype;
    *done = qc_is_value_dtype(dtype);
    if (!*done)
        return QC_OK;
    if (which == QC_HOST_SILU && waits_for_product(plan, op)) {
        const qc_value *value = qc_op_result(op, 0);
        qc_map_set_n(&plan->waiting, (const char *)&value, sizeof value, (void *)(uintptr_t)op);
        return QC_OK;
    }
    int in = x->slot, out = qc_plan_result(plan, op, dtype, x->by_token);
    qc_plan_step(plan, run_unary, op, out, &in, 1, true, new_elementwise(plan, (int)which, dtype, dtype));
    return QC_OK;
}

/* silu(gate) * up in one sweep, when one operand is a silu that waits and both are laid out alike. */
static qc_status plan_silu_mul(qc_plan *plan, const qc_op *op, bool *done)
{
    for (size_t i = 0; i < 2; i++) {
        const qc_value *value = qc_op_operand(op, i), *other = qc_op_operand(op, 1 - i);
        const qc_op *silu = qc_map_get_n(&plan->waiting, (const char *)&value, sizeof value);
        if (!silu)
            continue;
        const qc_ref *up = qc_plan_ref(plan, other), *gate = qc_plan_ref(plan, qc_op_operand(silu, 0));
        if (!up || !gate)
            return QC_ERROR;
        qc_dtype dtype = qc_plan_slot_at(plan, gate->slot)->dtype;
        *done = same_shape(gate, up) && dtype == qc_plan_slot_at(plan, up->slot)->dtype;
        if (!*done)
            return QC_OK;
        int in[2] = {gate->slot, up->slot}, out = qc_plan_result(plan, op, dtype, gate->by_token);
        qc_plan_step(plan, run_silu_mul, op, out, in, 2, true, new_elementwise(plan, 0, dtype, dtype));
        return QC_OK;
    }
    return QC_OK;
}

static qc_status plan_binary(qc_plan *plan, const qc_op *op, qc_host_binary_op which, bool *done)
{
    if (which == QC_HOST_MUL && plan_silu_mul(plan, op, done) != QC_OK)
        return QC_ERROR;
    if (*done)
        return QC_OK;
    const qc_ref *a = qc_plan_ref(plan, qc_op_operand(op, 0));
    const qc_ref *b = a ? qc_plan_ref(plan, qc_op_operand(op, 1)) : NULL;
    if (!b)
        return QC_ERROR;
    qc_dtype to = qc_plan_slot_at(plan, a->slot)->dtype;
    size_t period = 0;
    bool same = same_shape(a, b), commutes = which == QC_HOST_ADD || which == QC_HOST_MUL;
    if (!same && commutes && (repeats_in(plan, b, a, &period) || is_column_of(plan, b, a, &period))) {
        const qc_ref *swapped = a;
        a = b;
        b = swapped;
    }
    bool repeats = !same && repeats_in(plan, a, b, &period);
    bool column = !same && !repeats && is_column_of(plan, a, b, &period);
    elementwise e = {.op = (int)which,
        .from = qc_plan_slot_at(plan, a->slot)->dtype,
        .other = qc_plan_slot_at(plan, b->slot)->dtype,
        .to = to,
        .repeats = repeats,
        .period = period,
        .column = column};
    *done = (same || repeats || column) && has_type_shape(a, qc_value_type(qc_op_result(op, 0))) &&
            qc_is_value_dtype(e.from) && qc_is_value_dtype(e.other);
    if (!*done)
        return QC_OK;
    elementwise *data = QC_NEW(&plan->arena, elementwise);
    *data = e;
    int in[2] = {a->slot, b->slot}, out = qc_plan_result(plan, op, to, a->by_token);
    qc_plan_step(plan, run_binary, op, out, in, 2, true, data);
    return QC_OK;
}

static qc_status plan_cast(qc_plan *plan, const qc_op *op, bool *done)
{
    const qc_ref *x = qc_plan_ref(plan, qc_op_operand(op, 0));
    if (!x)
        return QC_ERROR;
    qc_dtype from = qc_plan_slot_at(plan, x->slot)->dtype;
    qc_dtype to = qc_type_dtype(qc_value_type(qc_op_result(op, 0)));
    *done = qc_is_value_dtype(from) && qc_is_value_dtype(to);
    if (!*done)
        return QC_OK;
    int in = x->slot, out = qc_plan_result(plan, op, to, x->by_token);
    qc_plan_step(plan, run_cast, op, out, &in, 1, true, new_elementwise(plan, 0, from, to));
    return QC_OK;
}

qc_status qc_plan_elementwise(qc_plan *plan, const qc_op *op, bool *done)
{
    for (size_t i = 0; i < sizeof unary_ops / sizeof *unary_ops; i++)
        if (qc_op_is(op, unary_ops[i].name))
            return plan_unary(plan, op, unary_ops[i].op, done);
    for (size_t i = 0; i < sizeof binary_ops / sizeof *binary_ops; i++)
        if (qc_op_is(op, binary_ops[i].name))
            return plan_binary(plan, op, binary_ops[i].op, done);
    return QC_OK;
}

/* ---- rows of one dimension ----------------------------------------------------------------------------- */

typedef struct rows {
    qc_dtype dtype;
    size_t size;
} rows;

static qc_status run_hadamard(qc_run *run, const qc_step *step)
{
    size_t count;
    if (count_elems(run, step, &count) != QC_OK)
        return QC_ERROR;
    return qc_host_hadamard(run->plan->env.engine, &run->worker->diag, step->where, step->data,
        qc_run_at(run, step, step->in[0]), qc_run_at(run, step, step->out), count);
}

/* A rotation of the last dimension, whatever the layout before it is. */
static qc_status plan_hadamard(qc_plan *plan, const qc_op *op, bool *done)
{
    const qc_ref *x = qc_plan_ref(plan, qc_op_operand(op, 0));
    if (!x)
        return QC_ERROR;
    qc_dtype dtype = qc_plan_slot_at(plan, x->slot)->dtype;
    if (!qc_is_value_dtype(dtype) || (qc_attr_as_int(qc_op_attr(op, "axis")) != -1 && x->rank != 1))
        return QC_OK;
    bool random = strcmp(qc_attr_as_text(qc_op_attr(op, "matrix")), "random_hadamard") == 0;
    qc_hadamard *matrix = QC_NEW(&plan->arena, qc_hadamard);
    qc_host_rotation *rotation = QC_NEW(&plan->arena, qc_host_rotation);
    if (qc_hadamard_make_drawn(qc_ctx_diag(plan->env.ctx), &plan->arena, qc_plan_where(plan, op),
            qc_attr_as_int(qc_op_attr(op, "size")), random, qc_attr_as_int(qc_op_attr(op, "drawn")),
            matrix) != QC_OK)
        return QC_ERROR;
    *rotation = (qc_host_rotation){.matrix = matrix,
        .inverse = qc_attr_as_bool(qc_op_attr(op, "inverse")),
        .wide = strcmp(qc_attr_as_text(qc_op_attr(op, "compute")), "f64") == 0,
        .dtype = dtype};
    int in = x->slot, out = qc_plan_result(plan, op, dtype, x->by_token);
    qc_plan_step(plan, run_hadamard, op, out, &in, 1, true, rotation);
    *done = true;
    return QC_OK;
}

/* In f32 the steps of softmax's decomposition round nothing, and the kernel's do not either. */
static qc_status run_softmax(qc_run *run, const qc_step *step)
{
    const rows *r = step->data;
    size_t count;
    if (count_elems(run, step, &count) != QC_OK)
        return QC_ERROR;
    qc_host_softmax(run->plan->env.engine, r->dtype, qc_run_at(run, step, step->in[0]),
        qc_run_at(run, step, step->out), count / r->size, r->size);
    return QC_OK;
}

/* The softmax of rows of the last dimension. */
static qc_status plan_softmax(qc_plan *plan, const qc_op *op, bool *done)
{
    const qc_ref *x = qc_plan_ref(plan, qc_op_operand(op, 0));
    int64_t size = 0;
    if (!x)
        return QC_ERROR;
    qc_dtype dtype = qc_plan_slot_at(plan, x->slot)->dtype;
    *done = x->rank > 0 && qc_dim_as_int(x->dims[x->rank - 1], &size) && dtype == QC_F32 && size > 0;
    if (!*done)
        return QC_OK;
    rows *r = QC_NEW(&plan->arena, rows);
    *r = (rows){dtype, (size_t)size};
    int in = x->slot, out = qc_plan_result(plan, op, dtype, x->by_token);
    qc_plan_step(plan, run_softmax, op, out, &in, 1, true, r);
    return QC_OK;
}

/* ---- embedding ----------------------------------------------------------------------------------------- */

typedef struct embedding {
    qc_dtype dtype;
    const void *table;
    size_t rows, size;
} embedding;

static qc_status run_embedding(qc_run *run, const qc_step *step)
{
    const embedding *e = step->data;
    return qc_host_embed(run->plan->env.engine, &run->worker->diag, step->where, e->dtype, e->table, e->rows,
        e->size, run->worker->ids + run->tokens, run->tokens, 1.0f, qc_run_at(run, step, step->out));
}

qc_status qc_plan_embedding(qc_plan *plan, const qc_op *op, bool *done)
{
    const qc_value *ids = qc_op_operand(op, 0), *w = qc_op_operand(op, 1);
    const qc_ref *ref = qc_plan_ref(plan, ids);
    if (!ref)
        return QC_ERROR;
    const qc_value *plain = plan->request.calibrating ? qc_value_without_codes(w) : w;
    qc_dtype dtype = qc_type_dtype(qc_value_type(plain));
    int64_t size;
    if (ref->slot != plan->ids_slot || !qc_plan_is_weight(plan, w) || !qc_is_value_dtype(dtype) ||
        qc_type_rank(qc_value_type(plain)) != 2 ||
        !qc_dim_as_int(qc_type_dim(qc_value_type(plain), 1), &size))
        return plan->request.table_rows ? qc_ctx_error(plan->env.ctx, qc_plan_where(plan, op),
                                              "is no embedding of the model's ids")
                                        : QC_OK;
    embedding *e = QC_NEW(&plan->arena, embedding);
    *e = (embedding){.dtype = dtype, .size = (size_t)size};
    e->table = qc_bank_table(plan->env.bank, w, &e->rows);
    if (!e->table)
        return QC_ERROR;
    int in = ref->slot, out = qc_plan_result(plan, op, dtype, false);
    qc_plan_step(plan, run_embedding, op, out, &in, 1, false, e);
    *done = true;
    return QC_OK;
}

/* ---- the table ----------------------------------------------------------------------------------------- */

const qc_plan_handler qc_plan_handlers[] = {
    {"add", qc_plan_elementwise},
    {"sub", qc_plan_elementwise},
    {"mul", qc_plan_elementwise},
    {"div", qc_plan_elementwise},
    {"minimum", qc_plan_elementwise},
    {"maximum", qc_plan_elementwise},
    {"neg", qc_plan_elementwise},
    {"abs", qc_plan_elementwise},
    {"sqrt", qc_plan_elementwise},
    {"rsqrt", qc_plan_elementwise},
    {"exp", qc_plan_elementwise},
    {"log", qc_plan_elementwise},
    {"sin", qc_plan_elementwise},
    {"cos", qc_plan_elementwise},
    {"tanh", qc_plan_elementwise},
    {"sigmoid", qc_plan_elementwise},
    {"silu", qc_plan_elementwise},
    {"gelu_tanh", qc_plan_elementwise},
    {"floor", qc_plan_elementwise},
    {"cast", plan_cast},
    {"split_heads", qc_plan_split_heads},
    {"merge_heads", qc_plan_merge_heads},
    {"reshape", qc_plan_reshape},
    {"slice", qc_plan_slice},
    {"concat", qc_plan_concat},
    {"repeat_heads", qc_plan_repeat_heads},
    {"hadamard", plan_hadamard},
    {"softmax", plan_softmax},
    {"embedding", qc_plan_embedding},
    {"linear", qc_plan_linear},
    {"rmsnorm", qc_plan_rmsnorm},
    {"rope", qc_plan_rope},
    {"attention", qc_plan_attention},
    {"quantized_attention", qc_plan_attention},
    {"cache_append", qc_plan_cache_append},
    {"cache_write", qc_plan_cache_write},
    {"qparams", qc_plan_scales},
    {"zero_point", qc_plan_scales},
    {"quantize", qc_plan_quantize},
    {"dequantize", qc_plan_dequantize},
    {"observe", qc_plan_observe},
    {"topk", qc_plan_topk},
    {"take", qc_plan_take},
    {"mask_groups", qc_plan_mask_groups},
    {"expert_rows", qc_plan_expert_rows},
    {"expert_gather", qc_plan_expert_gather},
    {"expert_param", qc_plan_expert_gather},
    {"expert_score", qc_plan_expert_score},
    {"expert_linear", qc_plan_expert_linear},
    {"expert_combine", qc_plan_expert_combine},
    {NULL, NULL},
};
