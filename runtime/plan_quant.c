/* SPDX-License-Identifier: MIT
 *
 * plan_quant.c - scales, codes and observed ranges as loops over rows. The arithmetic is ir/dtype/arith.h.
 * Scales are one a tensor, one a head, or one a token; other shapes keep the reference semantics.
 */
#include <math.h>

#include "ir/ctx.h"
#include "ir/dtype/codec.h"
#include "ir/scheme.h"
#include "runtime/plan_internal.h"

enum { PARALLEL_ELEMS = 1 << 14 }; /* less is not worth waking threads for */

typedef struct coding {
    const qc_arith *arith;
    qc_grid grid;
    qc_dtype model;      /* of the values */
    size_t size;         /* elements of a row under one scale */
    const float *fixed;  /* scales known before the run */
    size_t fixed_count;  /* row r has scale r % fixed_count */
    qc_dtype scale_type; /* of the scales of a run, one a row */
} coding;

static qc_status rows_of(const qc_run *run, const qc_step *step, int slot, size_t size, size_t *rows)
{
    size_t count;
    if (!qc_run_count(run, step, slot, &count))
        return qc_error(&run->worker->diag, step->where, "nothing says how large a value is");
    *rows = count / size;
    return QC_OK;
}

static int threads_of(const qc_run *run, size_t elems)
{
    return elems < PARALLEL_ELEMS ? 1 : qc_host_engine_thread_count(run->plan->env.engine);
}

static size_t elem_bytes(qc_dtype dtype)
{
    return (size_t)qc_dtype_bits(dtype) / 8;
}

static float scale_of(const coding *c, const void *scales, size_t row)
{
    float scale;
    if (c->fixed)
        return c->fixed[row % c->fixed_count];
    qc_decode_f32(c->scale_type, (const char *)scales + row * elem_bytes(c->scale_type), &scale, 1);
    return scale;
}

static qc_status run_quantize(qc_run *run, const qc_step *step)
{
    const coding *c = step->data;
    const char *x = qc_run_at(run, step, step->in[0]);
    const void *scales = step->in[1] >= 0 ? qc_run_at(run, step, step->in[1]) : NULL;
    char *y = qc_run_at(run, step, step->out);
    size_t rows, row_bytes = c->size * elem_bytes(c->model);
    if (rows_of(run, step, step->out, c->size, &rows) != QC_OK)
        return QC_ERROR;
#pragma omp parallel for schedule(static) num_threads(threads_of(run, rows * c->size))
    for (size_t r = 0; r < rows; r++)
        qc_arith_quantize(c->arith, c->model, c->grid, x + r * row_bytes, c->size, scale_of(c, scales, r),
            0.0f, y + r * c->size);
    return QC_OK;
}

static qc_status run_dequantize(qc_run *run, const qc_step *step)
{
    const coding *c = step->data;
    const char *x = qc_run_at(run, step, step->in[0]);
    const void *scales = step->in[1] >= 0 ? qc_run_at(run, step, step->in[1]) : NULL;
    char *y = qc_run_at(run, step, step->out);
    size_t rows, row_bytes = c->size * elem_bytes(c->model);
    if (rows_of(run, step, step->out, c->size, &rows) != QC_OK)
        return QC_ERROR;
#pragma omp parallel for schedule(static) num_threads(threads_of(run, rows * c->size))
    for (size_t r = 0; r < rows; r++)
        qc_arith_dequantize(
            c->model, c->grid, x + r * c->size, c->size, scale_of(c, scales, r), 0.0f, y + r * row_bytes);
    return QC_OK;
}

/* The scale operand of a quantize or dequantize of x: in[1] and the fields of `c`; `*fits` false when its shape
 * is none of the three. */
static qc_status take_scale(
    qc_plan *plan, const qc_op *op, const qc_ref *x, coding *c, int *scale_slot, bool *fits)
{
    const qc_value *scale = qc_op_operand(op, 1);
    const qc_type *type = qc_value_type(scale);
    int rank = qc_type_rank(type);
    int64_t count, size;
    *scale_slot = -1;
    *fits = x->rank > 0 && qc_dim_as_int(x->dims[x->rank - 1], &size) && size > 0;
    if (!*fits)
        return QC_OK;
    c->size = (size_t)size;
    if (qc_plan_is_weight(plan, scale)) {
        bool heads = x->by_token && rank >= 3 && qc_type_dim(type, -3) == x->dims[1];
        *fits = qc_type_static_count(type, &count) &&
                (count == 1 || (heads && qc_dim_as_int(x->dims[1], &size) && count == size));
        if (!*fits)
            return QC_OK;
        c->fixed = qc_bank_floats(plan->env.bank, scale);
        c->fixed_count = (size_t)count;
        return c->fixed ? QC_OK : QC_ERROR;
    }
    const qc_ref *ref = qc_plan_ref(plan, scale);
    if (!ref)
        return QC_ERROR;
    *fits = ref->rank == x->rank && ref->by_token == x->by_token &&
            qc_dim_as_int(ref->dims[rank - 1], &count) && count == 1;
    for (int i = 0; *fits && i + 1 < rank; i++)
        *fits = ref->dims[i] == x->dims[i];
    c->scale_type = qc_plan_slot_at(plan, ref->slot)->dtype;
    *scale_slot = ref->slot;
    return QC_OK;
}

static qc_status read_scheme(qc_plan *plan, const qc_op *op, qc_scheme_part *part)
{
    return qc_scheme_read(qc_ctx_diag(plan->env.ctx), qc_plan_where(plan, op), plan->env.module,
        qc_attr_as_text(qc_op_attr(op, "scheme")), qc_attr_as_text(qc_op_attr(op, "arg")), part);
}

qc_status qc_plan_quantize(qc_plan *plan, const qc_op *op, bool *done)
{
    const qc_ref *x = qc_plan_ref(plan, qc_op_operand(op, 0));
    qc_scheme_part part;
    if (!x || read_scheme(plan, op, &part) != QC_OK)
        return QC_ERROR;
    coding *c = QC_NEW(&plan->arena, coding);
    *c = (coding){.arith = part.arith, .grid = part.grid, .model = qc_plan_slot_at(plan, x->slot)->dtype};
    qc_dtype codes = qc_type_dtype(qc_value_type(qc_op_result(op, 0)));
    int in[2] = {x->slot, -1};
    if (!qc_is_value_dtype(c->model) || codes != c->grid.storage)
        return QC_OK;
    if (take_scale(plan, op, x, c, &in[1], done) != QC_OK)
        return QC_ERROR;
    if (*done)
        qc_plan_step(plan, run_quantize, op, qc_plan_result(plan, op, codes, x->by_token), in, 2, true, c);
    return QC_OK;
}

qc_status qc_plan_dequantize(qc_plan *plan, const qc_op *op, bool *done)
{
    const qc_ref *x = qc_plan_ref(plan, qc_op_operand(op, 0));
    if (!x)
        return QC_ERROR;
    qc_dtype codes = qc_plan_slot_at(plan, x->slot)->dtype;
    coding *c = QC_NEW(&plan->arena, coding);
    *c = (coding){.grid = qc_grid_of(codes), .model = qc_type_dtype(qc_value_type(qc_op_result(op, 0)))};
    int in[2] = {x->slot, -1};
    if (!qc_is_value_dtype(c->model) || c->grid.storage != codes)
        return QC_OK;
    if (take_scale(plan, op, x, c, &in[1], done) != QC_OK)
        return QC_ERROR;
    if (*done)
        qc_plan_step(
            plan, run_dequantize, op, qc_plan_result(plan, op, c->model, x->by_token), in, 2, true, c);
    return QC_OK;
}

/* ---- scales of a run ----------------------------------------------------------------------------------- */

static qc_status run_token_scales(qc_run *run, const qc_step *step)
{
    const coding *c = step->data;
    const char *x = qc_run_at(run, step, step->in[0]);
    char *y = qc_run_at(run, step, step->out);
    size_t rows, row_bytes = c->size * elem_bytes(c->model), wrong = SIZE_MAX;
    if (rows_of(run, step, step->in[0], c->size, &rows) != QC_OK)
        return QC_ERROR;
#pragma omp parallel for schedule(static) num_threads(threads_of(run, rows * c->size)) reduction(min : wrong)
    for (size_t r = 0; r < rows; r++) {
        float min, max, scale, zero_point;
        qc_arith_minmax(c->model, x + r * row_bytes, c->size, &min, &max);
        if (!isfinite(min) || !isfinite(max)) {
            wrong = r < wrong ? r : wrong;
            continue;
        }
        qc_arith_scale(c->arith, c->model, c->grid, true, min, max, &scale, &zero_point);
        qc_encode_f32(c->scale_type, &scale, y + r * elem_bytes(c->scale_type), 1);
    }
    if (wrong != SIZE_MAX)
        return qc_error(
            &run->worker->diag, step->where, "row %zu has values that are not finite, so no scale", wrong);
    return QC_OK;
}

qc_status qc_plan_qparams(qc_plan *plan, const qc_op *op, bool *done)
{
    const qc_ref *x = qc_plan_ref(plan, qc_op_operand(op, 0));
    qc_scheme_part part;
    int64_t size;
    if (!x || read_scheme(plan, op, &part) != QC_OK)
        return QC_ERROR;
    if (!part.dynamic && strcmp(qc_attr_as_text(qc_op_attr(op, "arg")), "input") == 0)
        return qc_ctx_error(plan->env.ctx, qc_plan_where(plan, op),
            "the scale of @%s is static, but nothing was calibrated",
            qc_attr_as_text(qc_op_attr(op, "scheme")));
    coding *c = QC_NEW(&plan->arena, coding);
    *c = (coding){.arith = part.arith,
        .grid = part.grid,
        .model = qc_plan_slot_at(plan, x->slot)->dtype,
        .scale_type = qc_type_dtype(qc_value_type(qc_op_result(op, 0)))};
    if (part.granularity != QC_GRANULARITY_TOKEN || !part.symmetric || !qc_is_value_dtype(c->model) ||
        !qc_is_value_dtype(c->scale_type) || x->rank == 0 || !qc_dim_as_int(x->dims[x->rank - 1], &size) ||
        size < 1)
        return QC_OK;
    c->size = (size_t)size;
    int in = x->slot, out = qc_plan_result(plan, op, c->scale_type, x->by_token);
    qc_plan_step(plan, run_token_scales, op, out, &in, 1, true, c);
    *done = true;
    return QC_OK;
}

/* ---- observed ranges ----------------------------------------------------------------------------------- */

typedef struct observation {
    const char *tap;
    qc_dtype dtype;
    size_t index, heads, size;
} observation;

static qc_status run_observe(qc_run *run, const qc_step *step)
{
    const observation *o = step->data;
    if (qc_host_minmax_heads(run->plan->env.engine, o->dtype, qc_run_at(run, step, step->in[0]), run->tokens,
            o->heads, o->size, o->heads * o->size, o->size, run->observed_min[o->index],
            run->observed_max[o->index]))
        return QC_OK;
    return qc_error(&run->worker->diag, o->tap, "a value is infinite or NaN");
}

qc_status qc_plan_observe(qc_plan *plan, const qc_op *op, bool *done)
{
    const char *tap = qc_attr_as_text(qc_op_attr(op, "tap"));
    if (!plan->request.calibrating)
        return qc_ctx_error(plan->env.ctx, tap, "nothing was calibrated, so there is no range to run with");
    const qc_ref *x = qc_plan_ref(plan, qc_op_operand(op, 0));
    if (!x)
        return QC_ERROR;
    int in = qc_plan_by_token(plan, op, x);
    const qc_slot *slot = qc_plan_slot_at(plan, in);
    int64_t heads = 1;
    if (x->rank == 4 && !qc_dim_as_int(x->dims[1], &heads))
        heads = 0;
    if (!slot->token_rows || heads < 1 || slot->row_elems % (size_t)heads || !qc_is_value_dtype(slot->dtype))
        return qc_ctx_error(plan->env.ctx, tap, "only bf16, f16 and f32 data of tokens can be observed");
    observation *o = QC_NEW(&plan->arena, observation);
    *o = (observation){
        tap, slot->dtype, plan->observe_heads.count, (size_t)heads, slot->row_elems / (size_t)heads};
    QC_PUSH(&plan->arena, &plan->observe_heads, o->heads);
    qc_plan_step(plan, run_observe, op, -1, &in, 1, false, o);
    *done = true;
    return QC_OK;
}
