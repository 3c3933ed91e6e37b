/* SPDX-License-Identifier: MIT
 *
 * plan.c - the slots of values, copies between layouts, decompositions, and the ends of a plan. See plan.h
 * and plan_internal.h.
 */
#include <limits.h>
#include <stdlib.h>

#include "ir/ctx.h"
#include "ir/dim.h"
#include "runtime/plan_internal.h"

/* ---- slots and refs ------------------------------------------------------------------------------------ */

const char *qc_plan_where(qc_plan *plan, const qc_op *op)
{
    const qc_node *node = qc_op_node(op);
    if (plan->where)
        return plan->where;
    if (node && qc_node_path(node)[0])
        return qc_node_path(node);
    return qc_arena_printf(&plan->arena, "%s: %s", qc_func_name(plan->request.func), qc_op_name(op));
}

static bool is_one(const qc_plan *plan, const qc_dim *dim)
{
    int64_t value;
    return dim == plan->batch || (qc_dim_as_int(dim, &value) && value == 1);
}

/* The product of static dimensions from `first`, but for dimension `without`. */
static bool static_product(int rank, const qc_dim *const *dims, int first, int without, size_t *product)
{
    *product = 1;
    for (int i = first; i < rank; i++) {
        int64_t n = 1;
        if (i != without && (!qc_dim_as_int(dims[i], &n) || n < 0 || n > (1 << 30)))
            return false;
        if (__builtin_mul_overflow(*product, (size_t)n, product))
            return false;
    }
    return true;
}

/* Is it B * S * n? */
static bool rows_of_tokens(const qc_plan *plan, const qc_dim *dim, size_t *n)
{
    const qc_dim_binding one_token[3] = {{"B", 1}, {"S", 1}, {"P", 0}};
    int64_t count;
    qc_ctx *ctx = plan->env.ctx;
    if (!qc_dim_evaluate(dim, one_token, 3, &count) || count < 1 || count > (1 << 30) ||
        dim != qc_dim_mul(ctx, qc_dim_mul(ctx, plan->batch, plan->sequence), qc_dim_int(ctx, count)))
        return false;
    *n = (size_t)count;
    return true;
}

/* Rows [B * S * n, ..] of experts, and what they are, [3, B * S * n]. */
static bool are_by_expert(const qc_plan *plan, int rank, const qc_dim *const *dims, size_t *row_elems)
{
    for (int axis = 0; axis < 2 && rank > 1; axis++) {
        size_t rows, others;
        if (rows_of_tokens(plan, dims[axis], &rows))
            return static_product(rank, dims, 0, axis, &others) &&
                   !__builtin_mul_overflow(rows, others, row_elems);
    }
    return false;
}

int qc_plan_slot(qc_plan *plan, qc_dtype dtype, int rank, const qc_dim *const *dims, bool by_token)
{
    qc_slot slot = {.dtype = dtype, .rank = rank, .alias = -1, .first = INT_MAX, .last = -1};
    for (int i = 0; i < rank; i++)
        slot.dims[i] = dims[i];
    int axis = by_token ? 2 : 1;
    bool rows = rank > axis && is_one(plan, dims[0]) && dims[axis] == plan->sequence;
    slot.token_rows = rows && static_product(rank, dims, 1, axis, &slot.row_elems);
    slot.by_expert = !rows && are_by_expert(plan, rank, dims, &slot.row_elems);
    slot.token_rows = slot.token_rows || slot.by_expert;
    QC_PUSH(&plan->arena, &plan->slots, slot);
    return (int)plan->slots.count - 1;
}

void qc_plan_set_ref(qc_plan *plan, const qc_value *value, qc_ref ref)
{
    qc_ref *copy = QC_NEW(&plan->arena, qc_ref);
    *copy = ref;
    qc_map_set_n(&plan->refs, (const char *)&value, sizeof value, copy);
}

/* A ref of the value's own shape. */
static qc_ref ref_of_type(const qc_type *type, int slot, bool by_token)
{
    qc_ref ref = {.slot = slot, .by_token = by_token, .rank = qc_type_rank(type)};
    for (int i = 0; i < ref.rank; i++)
        ref.dims[i] = qc_type_dim(type, i);
    return ref;
}

/* Can a value of this type be stored by tokens? */
static bool fits_by_token(const qc_plan *plan, const qc_type *type)
{
    return qc_type_rank(type) == 4 && is_one(plan, qc_type_dim(type, 0)) &&
           qc_type_dim(type, 2) == plan->sequence;
}

int qc_plan_result(qc_plan *plan, const qc_op *op, qc_dtype dtype, bool by_token)
{
    const qc_value *value = qc_op_result(op, 0);
    const qc_type *type = qc_value_type(value);
    qc_ref ref = ref_of_type(type, -1, by_token);
    ref.slot = qc_plan_slot(plan, dtype ? dtype : qc_type_dtype(type), ref.rank, ref.dims, by_token);
    qc_plan_set_ref(plan, value, ref);
    return ref.slot;
}

bool qc_plan_is_weight(qc_plan *plan, const qc_value *value)
{
    const qc_op *op = qc_value_op(value);
    if (plan->where) /* values of a decomposition are not in the map of kinds */
        return op && qc_op_is(op, "const");
    return qc_value_kind_of(plan->env.kinds, value) == QC_VALUE_WEIGHT;
}

static const qc_ref *fixed_ref(qc_plan *plan, const qc_value *value)
{
    const qc_value *plain = plan->request.calibrating ? qc_value_without_codes(value) : value;
    const qc_type *type = qc_value_type(plain);
    const void *data = qc_bank_elements(plan->env.bank, value);
    if (!data)
        return NULL;
    qc_ref ref = ref_of_type(type, -1, false);
    ref.slot = qc_plan_slot(plan, qc_type_dtype(type), ref.rank, ref.dims, false);
    qc_slot *slot = qc_plan_slot_at(plan, ref.slot);
    slot->place = QC_PLACE_FIXED;
    slot->token_rows = false;
    slot->data = data;
    qc_plan_set_ref(plan, value, ref);
    return qc_map_get_n(&plan->refs, (const char *)&value, sizeof value);
}

const qc_ref *qc_plan_ref(qc_plan *plan, const qc_value *value)
{
    const qc_ref *ref = qc_map_get_n(&plan->refs, (const char *)&value, sizeof value);
    if (ref)
        return ref;
    const qc_op *silu = qc_map_get_n(&plan->waiting, (const char *)&value, sizeof value);
    if (silu)
        return qc_plan_late_silu(plan, silu) == QC_OK ? qc_plan_ref(plan, value) : NULL;
    if (qc_plan_is_weight(plan, value))
        return fixed_ref(plan, value);
    qc_ctx_error(plan->env.ctx, plan->where ? plan->where : qc_func_name(plan->request.func),
        "a value is read before it is computed");
    return NULL;
}

/* ---- steps --------------------------------------------------------------------------------------------- */

qc_step *qc_plan_step(qc_plan *plan, qc_step_fn fn, const qc_op *op, int out, const int *in, int in_count,
    bool row_wise, const void *data)
{
    int *copy = QC_NEW_ARRAY(&plan->arena, int, (size_t)in_count + 1);
    for (int i = 0; i < in_count; i++)
        copy[i] = in[i];
    bool rows = out >= 0 && plan->slots.items[out].token_rows;
    for (int i = 0; i < in_count; i++)
        rows = rows && (in[i] < 0 || plan->slots.items[in[i]].token_rows ||
                           plan->slots.items[in[i]].place == QC_PLACE_FIXED);
    qc_step step = {.fn = fn,
        .op = op,
        .where = qc_plan_where(plan, op),
        .out = out,
        .in_count = in_count,
        .in = copy,
        .row_wise = row_wise && rows,
        .data = data};
    QC_PUSH(&plan->arena, &plan->steps, step);
    return &plan->steps.items[plan->steps.count - 1];
}

/* data: to_tokens. Swaps the two middle dimensions of [1, heads, S, d]. */
typedef struct swap {
    const qc_dim *heads, *tokens, *size;
    bool to_tokens;
} swap;

static qc_status run_swap(qc_run *run, const qc_step *step)
{
    const swap *s = step->data;
    int64_t heads, tokens, size;
    size_t bits = (size_t)qc_dtype_bits(run->plan->slots.items[step->out].dtype);
    if (!qc_run_dim(run, s->heads, &heads) || !qc_run_dim(run, s->tokens, &tokens) ||
        !qc_run_dim(run, s->size, &size) || (size_t)size * bits % 8)
        return qc_error(&run->worker->diag, step->where, "a value has rows of half bytes");
    const char *from = qc_run_at(run, step, step->in[0]);
    char *to = qc_run_at(run, step, step->out);
    size_t bytes = (size_t)size * bits / 8;
    int64_t outer = s->to_tokens ? tokens : heads, inner = s->to_tokens ? heads : tokens;
    for (int64_t i = 0; i < outer; i++)
        for (int64_t j = 0; j < inner; j++)
            memcpy(to + (size_t)(i * inner + j) * bytes, from + (size_t)(j * outer + i) * bytes, bytes);
    return QC_OK;
}

static int swapped(qc_plan *plan, const qc_op *op, const qc_ref *ref, bool to_tokens)
{
    qc_dtype dtype = qc_plan_slot_at(plan, ref->slot)->dtype;
    int slot = qc_plan_slot(plan, dtype, 4, ref->dims, to_tokens);
    swap *s = QC_NEW(&plan->arena, swap);
    *s = (swap){ref->dims[1], ref->dims[2], ref->dims[3], to_tokens};
    qc_plan_step(plan, run_swap, op, slot, &ref->slot, 1, false, s);
    return slot;
}

int qc_plan_dense(qc_plan *plan, const qc_op *op, const qc_ref *ref)
{
    return ref->by_token ? swapped(plan, op, ref, false) : ref->slot;
}

int qc_plan_by_token(qc_plan *plan, const qc_op *op, const qc_ref *ref)
{
    return ref->by_token || ref->rank != 4 ? ref->slot : swapped(plan, op, ref, true);
}

/* ---- ops ----------------------------------------------------------------------------------------------- */

const qc_op_info *qc_plan_op_info(const char *name)
{
    for (size_t i = 0; i < qc_op_info_count; i++)
        if (strcmp(qc_op_infos[i].name, name) == 0)
            return &qc_op_infos[i];
    return NULL;
}

/* A composite op by the ops that it stands for. */
static qc_status plan_decomposition(qc_plan *plan, const qc_op *op)
{
    const char *outer = plan->where;
    const qc_func *func = qc_decompose(plan->env.decomposer, op);
    if (!func)
        return QC_ERROR;
    size_t argument = 0;
    for (size_t i = 0; i < qc_op_operand_count(op); i++) {
        const qc_value *operand = qc_op_operand(op, i);
        const qc_ref *ref = operand ? qc_plan_ref(plan, operand) : NULL;
        if (operand && !ref)
            return QC_ERROR;
        if (ref)
            qc_plan_set_ref(plan, qc_func_argument(func, argument++), *ref);
    }
    plan->where = qc_plan_where(plan, op);
    qc_status status = QC_OK;
    for (const qc_op *inner = qc_func_first_op(func); inner && status == QC_OK; inner = qc_op_next(inner))
        if (!qc_op_is(inner, "const"))
            status = qc_plan_op(plan, inner);
    for (size_t i = 0; status == QC_OK && i < qc_op_result_count(op); i++) {
        const qc_ref *ref = qc_plan_ref(plan, qc_func_result(func, i));
        if (ref)
            qc_plan_set_ref(plan, qc_op_result(op, i), *ref);
        status = ref ? QC_OK : QC_ERROR;
    }
    plan->where = outer;
    return status;
}

/* While calibrating, codes are the values that they stand for. */
static qc_status plan_without_codes(qc_plan *plan, const qc_op *op, bool *done)
{
    *done = false;
    if (!plan->request.calibrating || !qc_op_stands_for_operand(op))
        return QC_OK;
    const qc_ref *ref = qc_plan_ref(plan, qc_op_operand(op, 0));
    if (!ref)
        return QC_ERROR;
    qc_dtype dtype = qc_plan_slot_at(plan, ref->slot)->dtype;
    bool back = qc_op_is(op, "dequantize");
    if (!qc_is_value_dtype(dtype) || (back && dtype != qc_type_dtype(qc_value_type(qc_op_result(op, 0)))))
        return QC_OK;
    qc_plan_set_ref(plan, qc_op_result(op, 0), *ref);
    *done = true;
    return QC_OK;
}

qc_status qc_plan_op(qc_plan *plan, const qc_op *op)
{
    bool done, in_pages = qc_op_is(op, "quantized_attention") || qc_op_is(op, "attention");
    if (plan_without_codes(plan, op, &done) != QC_OK ||
        (!in_pages && qc_plan_gather_operands(plan, op) != QC_OK))
        return QC_ERROR;
    for (const qc_plan_handler *h = qc_plan_handlers; h->op && !done; h++)
        if (qc_op_is(op, h->op)) {
            if (h->plan(plan, op, &done) != QC_OK)
                return QC_ERROR;
            break;
        }
    if (done)
        return QC_OK;
    const qc_op_info *info = qc_plan_op_info(qc_op_name(op));
    if (in_pages && qc_plan_gather_operands(plan, op) != QC_OK)
        return QC_ERROR;
    if (info && info->decomposition)
        return plan_decomposition(plan, op);
    if (!info || !info->eval || info->result_count != 1)
        return qc_ctx_error(
            plan->env.ctx, qc_plan_where(plan, op), "the CPU has no way to run %s", qc_op_name(op));
    return qc_plan_eval(plan, op, info);
}

/* ---- ends ---------------------------------------------------------------------------------------------- */

static bool is_given(const qc_plan *plan, const qc_value *value)
{
    for (size_t i = 0; i < plan->request.input_count; i++)
        if (plan->request.inputs[i] == value)
            return true;
    return false;
}

/* B and S are what the first argument, ids [B, S], says; other arguments are inputs. */
static qc_status plan_arguments(qc_plan *plan)
{
    const qc_func *func = plan->request.func;
    qc_ctx *ctx = plan->env.ctx;
    bool given = qc_func_argument_count(func) > 0;
    for (size_t i = 1; i < qc_func_argument_count(func); i++)
        given = given && is_given(plan, qc_func_argument(func, i));
    const qc_value *ids = given ? qc_func_argument(func, 0) : NULL;
    const qc_type *type = ids ? qc_value_type(ids) : NULL;
    if (!type || qc_type_dtype(type) != QC_I64 || qc_type_rank(type) != 2)
        return qc_ctx_error(ctx, qc_func_name(func), "the CPU runs functions of ids i64[B, S] alone");
    plan->batch = qc_type_dim(type, 0);
    plan->sequence = qc_type_dim(type, 1);
    plan->past = qc_dim_symbol(ctx, "P");
    plan->total = qc_dim_add(ctx, plan->past, plan->sequence);
    if (plan->batch != qc_dim_symbol(ctx, "B") || plan->sequence != qc_dim_symbol(ctx, "S"))
        return qc_ctx_error(ctx, qc_func_name(func), "ids must be [B, S], not %s", qc_type_text(ctx, type));
    qc_ref ref = ref_of_type(type, -1, false);
    ref.slot = plan->ids_slot = qc_plan_slot(plan, QC_I64, ref.rank, ref.dims, false);
    qc_plan_slot_at(plan, ref.slot)->place = QC_PLACE_IDS;
    qc_plan_set_ref(plan, ids, ref);
    for (size_t i = 0; i < plan->request.input_count; i++) {
        const qc_value *input = plan->request.inputs[i];
        const qc_type *input_type = qc_value_type(input);
        bool by_token = fits_by_token(plan, input_type);
        qc_ref from = ref_of_type(input_type, -1, by_token);
        from.slot = qc_plan_slot(plan, qc_type_dtype(input_type), from.rank, from.dims, by_token);
        qc_slot *slot = qc_plan_slot_at(plan, from.slot);
        slot->place = QC_PLACE_INPUT;
        slot->index = i;
        if (!slot->token_rows || slot->by_expert)
            return qc_ctx_error(
                ctx, qc_func_name(func), "%s is no data of tokens", qc_type_text(ctx, input_type));
        qc_plan_set_ref(plan, input, from);
        QC_PUSH(&plan->arena, &plan->input_slots, from.slot);
    }
    return QC_OK;
}

static qc_status plan_outputs(qc_plan *plan)
{
    qc_ctx *ctx = plan->env.ctx;
    for (size_t i = 0; i < plan->request.output_count; i++) {
        const qc_value *output = plan->request.outputs[i];
        const qc_ref *ref = qc_plan_ref(plan, output);
        if (!ref)
            return QC_ERROR;
        const qc_op *op = qc_value_op(output);
        int slot =
            op && fits_by_token(plan, qc_value_type(output)) ? qc_plan_by_token(plan, op, ref) : ref->slot;
        if (!qc_plan_slot_at(plan, slot)->token_rows || qc_plan_slot_at(plan, slot)->by_expert)
            return qc_ctx_error(ctx, qc_func_name(plan->request.func), "%s is no data of tokens",
                qc_type_text(ctx, qc_value_type(output)));
        QC_PUSH(&plan->arena, &plan->output_slots, slot);
    }
    return QC_OK;
}

static qc_status plan_ops(qc_plan *plan)
{
    const qc_plan_request *r = &plan->request;
    size_t count;
    const qc_op **ops = qc_needed_ops(&plan->arena,
        &(qc_need){.func = r->func,
            .kinds = plan->env.kinds,
            .given = r->inputs,
            .given_count = r->input_count,
            .outputs = r->outputs,
            .output_count = r->output_count,
            .ops = r->observes,
            .op_count = r->observe_count,
            .calibrating = r->calibrating},
        &count);
    for (size_t i = 0; i < count; i++)
        if (qc_plan_op(plan, ops[i]) != QC_OK)
            return QC_ERROR;
    return QC_OK;
}

static void use_slot(qc_plan *plan, int slot, int step, bool by_tail)
{
    for (; slot >= 0; slot = plan->slots.items[slot].alias) {
        qc_slot *s = qc_plan_slot_at(plan, slot);
        s->last = step > s->last ? step : s->last;
        s->read_by_others |= !by_tail;
    }
}

/* First and last uses; and, from the end, the steps that the last token alone can be had from. */
static void find_lives(qc_plan *plan)
{
    for (size_t i = 0; i < plan->output_slots.count; i++)
        use_slot(plan, plan->output_slots.items[i], INT_MAX, true);
    for (size_t i = plan->steps.count; i-- > 0;) {
        qc_step *step = &plan->steps.items[i];
        qc_slot *out = step->out >= 0 ? qc_plan_slot_at(plan, step->out) : NULL;
        step->tail = step->row_wise && out && out->token_rows && !out->read_by_others;
        if (out) {
            out->first = (int)i;
            out->last = out->last < (int)i ? (int)i : out->last;
            out->tail = step->tail;
        }
        for (int k = 0; k < step->in_count; k++)
            use_slot(plan, step->in[k], (int)i, step->tail);
    }
}

/* Does a step of the last token alone read rows of experts that are there for all tokens? */
static bool has_lost_rows(const qc_plan *plan)
{
    for (size_t i = 0; i < plan->steps.count; i++) {
        const qc_step *step = &plan->steps.items[i];
        for (int k = 0; step->tail && k < step->in_count; k++)
            if (step->in[k] >= 0 && plan->slots.items[step->in[k]].by_expert &&
                !plan->slots.items[step->in[k]].tail)
                return true;
    }
    return false;
}

static bool touches_experts(const qc_plan *plan, const qc_step *step)
{
    bool touches = step->out >= 0 && plan->slots.items[step->out].by_expert;
    for (int k = 0; k < step->in_count; k++)
        touches |= step->in[k] >= 0 && plan->slots.items[step->in[k]].by_expert;
    return touches;
}

static void plan_lives(qc_plan *plan)
{
    find_lives(plan);
    if (!has_lost_rows(plan))
        return;
    for (size_t i = 0; i < plan->steps.count; i++)
        plan->steps.items[i].row_wise &= !touches_experts(plan, &plan->steps.items[i]);
    for (size_t i = 0; i < plan->slots.count; i++) {
        qc_slot *slot = &plan->slots.items[i];
        slot->first = INT_MAX;
        slot->last = -1;
        slot->tail = slot->read_by_others = false;
    }
    find_lives(plan);
}

qc_plan *qc_plan_create(const qc_plan_env *env, const qc_plan_request *request)
{
    qc_plan *plan = calloc(1, sizeof *plan);
    if (!plan) {
        qc_ctx_error(env->ctx, "", "out of memory");
        return NULL;
    }
    plan->env = *env;
    plan->request = *request;
    qc_arena_init(&plan->arena, qc_ctx_arena(env->ctx)->oom);
    qc_map_init(&plan->refs, &plan->arena);
    qc_map_init(&plan->stored, &plan->arena);
    qc_map_init(&plan->row_tables, &plan->arena);
    qc_map_init(&plan->waiting, &plan->arena);
    if (plan_arguments(plan) != QC_OK || plan_ops(plan) != QC_OK || plan_outputs(plan) != QC_OK) {
        qc_plan_destroy(plan);
        return NULL;
    }
    plan_lives(plan);
    qc_bank_trim(env->bank);
    return plan;
}

void qc_plan_destroy(qc_plan *plan)
{
    if (!plan)
        return;
    qc_arena_fini(&plan->arena);
    free(plan);
}

size_t qc_plan_input_row_bytes(const qc_plan *plan, size_t index)
{
    const qc_slot *slot = &plan->slots.items[plan->input_slots.items[index]];
    return slot->row_elems * (size_t)qc_dtype_bits(slot->dtype) / 8;
}

size_t qc_plan_output_row_elems(const qc_plan *plan, size_t index)
{
    return plan->slots.items[plan->output_slots.items[index]].row_elems;
}

qc_dtype qc_plan_output_dtype(const qc_plan *plan, size_t index)
{
    return plan->slots.items[plan->output_slots.items[index]].dtype;
}

size_t qc_plan_output_row_bytes(const qc_plan *plan, size_t index)
{
    return qc_plan_output_row_elems(plan, index) * (size_t)qc_dtype_bits(qc_plan_output_dtype(plan, index)) /
           8;
}

qc_observed qc_plan_observed(const qc_plan *plan, size_t index)
{
    return plan->observed.items[index];
}

size_t qc_plan_cache_count(const qc_plan *plan)
{
    return plan->caches.count;
}

const qc_cache_layout *qc_plan_caches(const qc_plan *plan)
{
    return plan->caches.items;
}
