/* SPDX-License-Identifier: MIT
 *
 * plan_observe.c - what calibration sees of a sequence: the range of each head or of the whole, and of each column of
 * heads; that with the least error where the observer searches (ir/dtype/mse.h), or that of a share of the values
 * (ir/dtype/columns.h); or sums of columns and of their squares.
 *
 * Of heads both are taken in one sweep: the range of a head is that of its columns together.
 */
#include <math.h>
#include <stdlib.h>

#include "ir/ctx.h"
#include "ir/dtype/columns.h"
#include "ir/dtype/hadamard.h"
#include "ir/scheme.h"
#include "runtime/plan_internal.h"
#include "runtime/stats.h"

typedef struct observation {
    const char *tap;
    qc_dtype dtype;
    size_t index, heads, size; /* rows of heads * size elements */
    bool columns;              /* their ranges are taken too */
    bool searches, cuts;       /* ranges: of what has the least error, of a share of the values */
    qc_quantizer q;            /* of a search */
    qc_mse mse;
    qc_share share;
    const qc_hadamard *rotation; /* NULL: not rotated */
} observation;

static qc_status not_finite(const qc_run *run, const observation *o)
{
    return qc_error(&run->worker->diag, o->tap, "a value is infinite or NaN");
}

static qc_status no_memory(const qc_run *run, const observation *o)
{
    return qc_error(&run->worker->diag, o->tap, "out of memory for its ranges");
}

static size_t elem_bytes(qc_dtype dtype)
{
    return (size_t)qc_dtype_bits(dtype) / 8;
}

/* ---- ranges -------------------------------------------------------------------------------------------- */

static bool take_ranges(const qc_run *run, const observation *o, const void *x, float *numbers)
{
    const size_t columns = o->heads * o->size;
    float *min = numbers, *max = min + o->heads, *low = max + o->heads, *high = low + columns;
    if (!o->columns)
        return qc_host_minmax_heads(
            run->plan->env.engine, o->dtype, x, run->tokens, o->heads, o->size, columns, o->size, min, max);
    if (!qc_host_minmax_columns(run->plan->env.engine, o->dtype, x, run->tokens, columns, columns, low, high))
        return false;
    for (size_t c = 0; c < columns; c++) {
        const size_t h = c / o->size;
        min[h] = c % o->size == 0 ? low[c] : qc_stats_smaller(low[c], min[h]);
        max[h] = c % o->size == 0 ? high[c] : qc_stats_larger(high[c], max[h]);
    }
    return true;
}

static qc_status run_ranges(qc_run *run, const qc_step *step)
{
    const observation *o = step->data;
    const char *x = qc_run_at(run, step, step->in[0]);
    const size_t count = run->tokens * o->heads * o->size;
    float *numbers = run->observed[o->index];
    if (!take_ranges(run, o, x, numbers))
        return not_finite(run, o);
    if (!o->rotation)
        return QC_OK;
    char *y = malloc(count * elem_bytes(o->dtype));
    if (!y)
        return no_memory(run, o);
    const qc_host_rotation rotation = {.matrix = o->rotation, .dtype = o->dtype};
    numbers += 2 * o->heads * (1 + o->size);
    qc_status status =
        qc_host_hadamard(run->plan->env.engine, &run->worker->diag, o->tap, &rotation, x, y, count);
    if (status == QC_OK && !take_ranges(run, o, y, numbers))
        status = not_finite(run, o);
    free(y);
    return status;
}

static size_t rotated_bytes(const qc_plan *plan, const qc_step *step, size_t tokens, size_t past)
{
    const observation *o = step->data;
    (void)plan;
    (void)past;
    return tokens * o->heads * o->size * elem_bytes(o->dtype);
}

/* ---- sums ---------------------------------------------------------------------------------------------- */

static qc_status run_squares(qc_run *run, const qc_step *step)
{
    const observation *o = step->data;
    if (qc_host_sum_squares(run->plan->env.engine, o->dtype, qc_run_at(run, step, step->in[0]), run->tokens,
            o->heads * o->size, run->observed[o->index]))
        return QC_OK;
    return not_finite(run, o);
}

static qc_status run_sums(qc_run *run, const qc_step *step)
{
    const observation *o = step->data;
    const size_t columns = o->heads * o->size;
    float *numbers = run->observed[o->index];
    bool finite = true;
    double *sums = calloc(columns, sizeof *sums);
    if (!sums)
        return no_memory(run, o);
    qc_columns_sum(o->dtype, qc_run_at(run, step, step->in[0]), run->tokens, columns, sums);
    for (size_t c = 0; c < columns; c++) {
        numbers[c] = qc_columns_kept_sum(sums[c]);
        finite = finite && isfinite(numbers[c]);
    }
    free(sums);
    return finite ? QC_OK : not_finite(run, o);
}

static size_t sums_bytes(const qc_plan *plan, const qc_step *step, size_t tokens, size_t past)
{
    const observation *o = step->data;
    (void)plan;
    (void)tokens;
    (void)past;
    return o->heads * o->size * sizeof(double);
}

/* ---- searched ranges and shares ------------------------------------------------------------------------ */

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
    float *min = run->observed[o->index], *max = min + o->heads;
    if (!take_ranges(run, o, x, min))
        return not_finite(run, o);
    char *heads = o->heads > 1 ? by_heads(o, x, run->tokens) : NULL;
    bool done = (o->heads == 1 || heads) && search(o, heads ? heads : x, run->tokens, min, max);
    free(heads);
    return done ? QC_OK : no_memory(run, o);
}

static size_t search_bytes(const qc_plan *plan, const qc_step *step, size_t tokens, size_t past)
{
    const observation *o = step->data;
    size_t elems = tokens * o->size;
    (void)plan;
    (void)past;
    return 2 * elems * sizeof(float) + (o->heads > 1 ? o->heads * elems * elem_bytes(o->dtype) : 0);
}

static qc_status run_share(qc_run *run, const qc_step *step)
{
    const observation *o = step->data;
    const char *x = qc_run_at(run, step, step->in[0]);
    float *min = run->observed[o->index], *max = min + o->heads;
    if (!take_ranges(run, o, x, min))
        return not_finite(run, o);
    for (size_t h = 0; h < o->heads; h++)
        if (!qc_share_range(&o->share, o->dtype, x + h * o->size * elem_bytes(o->dtype), run->tokens, o->size,
                o->heads * o->size, &min[h], &max[h]))
            return no_memory(run, o);
    return QC_OK;
}

static size_t share_bytes(const qc_plan *plan, const qc_step *step, size_t tokens, size_t past)
{
    const observation *o = step->data;
    (void)plan;
    (void)past;
    return qc_share_bytes(o->dtype, tokens, o->size);
}

/* ---- planning ------------------------------------------------------------------------------------------ */

/* How the observer takes ranges. */
static qc_status read_observer(qc_plan *plan, const qc_op *op, const char *observer, observation *o)
{
    qc_scheme_part part;
    o->searches = qc_mse_from_observer(observer, strlen(observer), &o->mse);
    o->cuts = qc_share_from_observer(observer, strlen(observer), &o->share);
    const qc_attr *share = o->cuts ? qc_attr_find(qc_op_attr(op, "args"), o->share.argument) : NULL;
    if (share)
        o->share.value = qc_attr_as_float(share);
    if (!o->searches)
        return QC_OK;
    if (qc_scheme_read(qc_ctx_diag(plan->env.ctx), o->tap, plan->env.module,
            qc_attr_as_text(qc_op_attr(op, "scheme")), qc_attr_as_text(qc_op_attr(op, "arg")),
            &part) != QC_OK)
        return QC_ERROR;
    o->q = qc_scheme_quantizer(&part, o->dtype);
    return qc_scheme_mse(qc_ctx_diag(plan->env.ctx), o->tap, &part, observer, &o->mse, &o->searches);
}

/* Heads to take ranges of. Ranges that are taken as they are keep those of every head of [B, heads, S, d], so that
 * kept statistics serve other granularities; a search or a share is for the granularity that is asked for. */
static size_t heads_of(const qc_op *op, const qc_ref *x, bool asked_for)
{
    bool by_head = strcmp(qc_attr_as_text(qc_op_attr(op, "granularity")), "head") == 0;
    int64_t heads = 1;
    if (x->rank == 4 && !qc_dim_as_int(x->dims[1], &heads))
        return 0;
    return asked_for && !by_head ? 1 : (size_t)heads;
}

/* Is it q or k of attention, not under R3 already? */
static bool may_be_rotated(const char *tap)
{
    return qc_ends_with(tap, ".q") || qc_ends_with(tap, ".k") || !strcmp(tap, "q") || !strcmp(tap, "k");
}

static qc_status add_rotation(qc_plan *plan, observation *o)
{
    if (!plan->request.rotate_observed || !o->columns || !may_be_rotated(o->tap))
        return QC_OK;
    qc_hadamard *rotation = QC_NEW(&plan->arena, qc_hadamard);
    o->rotation = rotation;
    return qc_hadamard_make(
        qc_ctx_diag(plan->env.ctx), &plan->arena, o->tap, (int64_t)o->size, false, rotation);
}

static void add_step(qc_plan *plan, const qc_op *op, int in, observation *o, qc_observed_kind kind)
{
    const size_t columns = o->heads * o->size;
    const bool ranges = kind == QC_OBSERVED_RANGES;
    qc_observed observed = {.kind = kind, .heads = o->heads, .rotated = o->rotation != NULL};
    observed.columns = !ranges || o->columns ? columns : 0;
    observed.numbers = ranges ? 2 * (o->heads + observed.columns) * (o->rotation ? 2 : 1) : columns;
    QC_PUSH(&plan->arena, &plan->observed, observed);
    qc_step *step = qc_plan_step(plan,
        kind == QC_OBSERVED_SQUARES ? run_squares
        : kind == QC_OBSERVED_SUMS  ? run_sums
        : o->searches               ? run_search
        : o->cuts                   ? run_share
                                    : run_ranges,
        op, -1, &in, 1, false, o);
    step->bytes = kind == QC_OBSERVED_SUMS ? sums_bytes
                  : o->searches            ? search_bytes
                  : o->cuts                ? share_bytes
                  : o->rotation            ? rotated_bytes
                                           : NULL;
}

qc_status qc_plan_observe(qc_plan *plan, const qc_op *op, bool *done)
{
    const char *tap = qc_attr_as_text(qc_op_attr(op, "tap")),
               *observer = qc_attr_as_text(qc_op_attr(op, "observer"));
    const qc_observed_kind kind = strcmp(observer, "imatrix") == 0 ? QC_OBSERVED_SQUARES
                                  : strcmp(observer, "mean") == 0  ? QC_OBSERVED_SUMS
                                                                   : QC_OBSERVED_RANGES;
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
    if (read_observer(plan, op, observer, o) != QC_OK)
        return QC_ERROR;
    o->heads = heads_of(op, &from, o->searches || o->cuts);
    o->columns = kind == QC_OBSERVED_RANGES && from.rank == 4 && !o->searches && !o->cuts;
    if (!slot.token_rows || o->heads < 1 || slot.row_elems % o->heads || !qc_is_value_dtype(slot.dtype))
        return qc_ctx_error(plan->env.ctx, tap, "only bf16, f16 and f32 data of tokens can be observed");
    o->size = slot.row_elems / o->heads;
    if (add_rotation(plan, o) != QC_OK)
        return QC_ERROR;
    add_step(plan, op, in, o, kind);
    *done = true;
    return QC_OK;
}
