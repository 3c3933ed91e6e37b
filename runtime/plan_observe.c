/* SPDX-License-Identifier: MIT
 *
 * plan_observe.c - what calibration sees of a sequence: the range of each head or of the whole, that with the
 * least error where the observer searches (ir/dtype/mse.h), or the sum of squares of each column.
 */
#include <stdlib.h>

#include "ir/ctx.h"
#include "ir/scheme.h"
#include "runtime/plan_internal.h"

typedef struct observation {
    const char *tap;
    qc_dtype dtype;
    size_t index, heads, size; /* rows of heads * size elements */
    qc_quantizer q;            /* of a search */
    qc_mse mse;
} observation;

static qc_status not_finite(const qc_run *run, const observation *o)
{
    return qc_error(&run->worker->diag, o->tap, "a value is infinite or NaN");
}

static qc_status run_ranges(qc_run *run, const qc_step *step)
{
    const observation *o = step->data;
    if (qc_host_minmax_heads(run->plan->env.engine, o->dtype, qc_run_at(run, step, step->in[0]), run->tokens,
            o->heads, o->size, o->heads * o->size, o->size, run->observed_min[o->index],
            run->observed_max[o->index]))
        return QC_OK;
    return not_finite(run, o);
}

static qc_status run_squares(qc_run *run, const qc_step *step)
{
    const observation *o = step->data;
    if (qc_host_sum_squares(run->plan->env.engine, o->dtype, qc_run_at(run, step, step->in[0]), run->tokens,
            o->size, run->observed_min[o->index]))
        return QC_OK;
    return not_finite(run, o);
}

/* ---- searched ranges ----------------------------------------------------------------------------------- */

static size_t elem_bytes(qc_dtype dtype)
{
    return (size_t)qc_dtype_bits(dtype) / 8;
}

/* The elements of each head one after another, [heads, tokens, size]. NULL: no memory. */
static char *by_heads(const observation *o, const char *x, size_t tokens)
{
    size_t bytes = o->size * elem_bytes(o->dtype);
    char *y = malloc(o->heads * tokens * bytes);
    for (size_t h = 0; y && h < o->heads; h++)
        for (size_t t = 0; t < tokens; t++)
            memcpy(y + (h * tokens + t) * bytes, x + (t * o->heads + h) * bytes, bytes);
    return y;
}

static bool search(const observation *o, const char *x, size_t tokens, float *min, float *max)
{
    uint64_t improved[QC_MSE_WORDS] = {0}, again[QC_MSE_WORDS] = {0};
    int64_t rows = (int64_t)o->heads, columns = (int64_t)(tokens * o->size);
    if (!qc_mse_search(
            &o->q, &o->mse, x, rows, columns, columns, NULL, qc_mse_steps(&o->mse), min, max, improved))
        return false;
    int stop = qc_mse_stop_step(&o->mse, improved);
    return !qc_mse_improved_after(improved, stop) ||
           qc_mse_search(&o->q, &o->mse, x, rows, columns, columns, NULL, stop, min, max, again);
}

static qc_status run_search(qc_run *run, const qc_step *step)
{
    const observation *o = step->data;
    const char *x = qc_run_at(run, step, step->in[0]);
    float *min = run->observed_min[o->index], *max = run->observed_max[o->index];
    /* Looks for what is not finite. */
    if (run_ranges(run, step) != QC_OK)
        return QC_ERROR;
    char *heads = o->heads > 1 ? by_heads(o, x, run->tokens) : NULL;
    bool done = (o->heads == 1 || heads) && search(o, heads ? heads : x, run->tokens, min, max);
    free(heads);
    return done ? QC_OK : qc_error(&run->worker->diag, o->tap, "no memory to search its ranges");
}

static size_t search_bytes(const qc_plan *plan, const qc_step *step, size_t tokens, size_t past)
{
    const observation *o = step->data;
    size_t elems = tokens * o->size;
    (void)plan;
    (void)past;
    return 2 * elems * sizeof(float) + (o->heads > 1 ? o->heads * elems * elem_bytes(o->dtype) : 0);
}

static qc_status plan_search(
    qc_plan *plan, const qc_op *op, const char *observer, observation *o, bool *searches)
{
    qc_scheme_part part;
    *searches = qc_mse_from_observer(observer, strlen(observer), &o->mse);
    if (!*searches)
        return QC_OK;
    if (qc_scheme_read(qc_ctx_diag(plan->env.ctx), o->tap, plan->env.module,
            qc_attr_as_text(qc_op_attr(op, "scheme")), qc_attr_as_text(qc_op_attr(op, "arg")),
            &part) != QC_OK)
        return QC_ERROR;
    o->q = qc_scheme_quantizer(&part, o->dtype);
    return qc_scheme_mse(qc_ctx_diag(plan->env.ctx), o->tap, &part, observer, &o->mse, searches);
}

/* ---- planning ------------------------------------------------------------------------------------------ */

/* Heads to take ranges of. Ranges that are taken as they are keep those of every head of [B, heads, S, d], so that
 * kept statistics serve other granularities; a search is for the granularity that is asked for. */
static size_t heads_of(const qc_op *op, const qc_ref *x, bool searches)
{
    bool by_head = strcmp(qc_attr_as_text(qc_op_attr(op, "granularity")), "head") == 0;
    int64_t heads = 1;
    if (x->rank == 4 && !qc_dim_as_int(x->dims[1], &heads))
        return 0;
    return searches && !by_head ? 1 : (size_t)heads;
}

qc_status qc_plan_observe(qc_plan *plan, const qc_op *op, bool *done)
{
    const char *tap = qc_attr_as_text(qc_op_attr(op, "tap")),
               *observer = qc_attr_as_text(qc_op_attr(op, "observer"));
    bool squares = strcmp(qc_attr_as_text(qc_op_attr(op, "granularity")), "channel") == 0, searches = false;
    if (!plan->request.calibrating)
        return qc_ctx_error(plan->env.ctx, tap, "nothing was calibrated, so there is no range to run with");
    const qc_ref *x = qc_plan_ref(plan, qc_op_operand(op, 0));
    if (!x)
        return QC_ERROR;
    qc_ref from = *x;
    int in = qc_plan_by_token(plan, op, x);
    const qc_slot slot = *qc_plan_slot_at(plan, in);
    observation *o = QC_NEW(&plan->arena, observation);
    *o = (observation){.tap = tap, .dtype = slot.dtype, .index = plan->observed.count};
    if (plan_search(plan, op, observer, o, &searches) != QC_OK)
        return QC_ERROR;
    o->heads = squares ? 1 : heads_of(op, &from, searches);
    if (!slot.token_rows || o->heads < 1 || slot.row_elems % o->heads || !qc_is_value_dtype(slot.dtype) ||
        (squares && from.rank == 4))
        return qc_ctx_error(plan->env.ctx, tap, "only bf16, f16 and f32 data of tokens can be observed");
    o->size = slot.row_elems / o->heads;
    qc_observed observed = {squares ? QC_OBSERVED_SQUARES : QC_OBSERVED_RANGES, squares ? o->size : o->heads};
    QC_PUSH(&plan->arena, &plan->observed, observed);
    qc_step *step = qc_plan_step(plan,
        squares    ? run_squares
        : searches ? run_search
                   : run_ranges,
        op, -1, &in, 1, false, o);
    step->bytes = searches ? search_bytes : NULL;
    *done = true;
    return QC_OK;
}
