/* SPDX-License-Identifier: MIT
 *
 * plan_quant.c - scales, zero points, codes and their values as loops over rows of the last dimension. The
 * arithmetic is ir/dtype/quantizer.h.
 *
 * Scales known before the run are one a tensor, one a head or one for each column of a head; those of a run are one a row, one for each group
 * of its columns, or one for all. What has another shape keeps the reference semantics. Codes of less than 8
 * bits are one byte each in a run's slots.
 */
#include <math.h>

#include "ir/ctx.h"
#include "ir/dtype/codec.h"
#include "ir/scheme.h"
#include "runtime/plan_internal.h"

enum {
    PARALLEL_ELEMS = 1 << 14, /* less is not worth waking threads for */
    SCALES = 2048,            /* of a piece of work, held as f32 */
    PIECE_ROWS = 16
};

typedef struct coding {
    qc_quantizer q;
    qc_dtype to; /* dequantize: of the values */
    float global;
    size_t columns, group, per_row; /* of a row; under one scale; scales of a row */
    const float *scales, *zeros;    /* known before the run, or NULL; zeros NULL: none */
    size_t fixed_rows;              /* row r has those of r % fixed_rows */
    bool whole;                     /* one scale of a run for all rows */
    qc_dtype scale_type, zero_type; /* of the scales of a run, and of its zero points */
    int scale_slot, zero_slot;      /* -1: none */
    int global_slot; /* f32 global scales, one a row of the tensor; -1: all rows have `global` */
} coding;

/* ---- pieces of rows ------------------------------------------------------------------------------------ */

/* Rows, or a part of one row: as many as their scales fit a buffer. */
typedef struct piece {
    size_t row, rows, first_group, groups;
    size_t first, columns; /* element of the tensor; columns of each row */
} piece;

typedef struct pieces {
    size_t rows, a_piece, parts, count;
} pieces;

static qc_status rows_of(const qc_run *run, const qc_step *step, int slot, size_t columns, size_t *rows)
{
    size_t count;
    *rows = 0;
    if (!qc_run_count(run, step, slot, &count))
        return qc_error(&run->worker->diag, step->where, "nothing says how large a value is");
    *rows = count / columns;
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

static pieces pieces_of(const coding *c, size_t rows)
{
    pieces p = {.rows = rows, .a_piece = SCALES / c->per_row, .parts = (c->per_row + SCALES - 1) / SCALES};
    p.a_piece = p.a_piece > PIECE_ROWS ? PIECE_ROWS : p.a_piece;
    p.a_piece = p.a_piece < 1 || c->global_slot >= 0 ? 1 : p.a_piece;
    p.count = (rows + p.a_piece - 1) / p.a_piece * p.parts;
    return p;
}

static piece piece_at(const coding *c, const pieces *all, size_t index)
{
    piece p = {.row = index / all->parts * all->a_piece, .first_group = index % all->parts * SCALES};
    size_t left = c->per_row - p.first_group, column = p.first_group * c->group;
    p.rows = all->rows - p.row < all->a_piece ? all->rows - p.row : all->a_piece;
    p.groups = left < SCALES ? left : SCALES;
    p.first = p.row * c->columns + column;
    p.columns = c->columns - column;
    if (p.groups < left)
        p.columns = p.groups * c->group;
    return p;
}

/* The numbers of a slot that belong to a piece. */
static void take(const coding *c, const piece *p, qc_dtype dtype, const char *slot, float *values)
{
    size_t first = c->whole ? 0 : p->row * c->per_row + p->first_group;
    qc_decode_f32(dtype, slot + first * elem_bytes(dtype), values, c->whole ? 1 : p->rows * p->groups);
    for (size_t i = 1; c->whole && i < p->rows; i++)
        values[i] = values[0];
}

/* What a step's code works on. */
typedef struct coded {
    const coding *c;
    const char *scales, *zeros; /* of the run, or NULL */
    const float *globals;       /* one a row, or NULL */
} coded;

static coded coded_of(const qc_run *run, const qc_step *step)
{
    const coding *c = step->data;
    return (coded){c, c->scale_slot >= 0 ? qc_run_at(run, step, c->scale_slot) : NULL,
        c->zero_slot >= 0 ? qc_run_at(run, step, c->zero_slot) : NULL,
        c->global_slot >= 0 ? qc_run_at(run, step, c->global_slot) : NULL};
}

/* A piece with a global scale of its row has one row. */
static float global_of(const coded *d, const piece *p)
{
    return d->globals ? d->globals[p->row] : d->c->global;
}

/* Fills the scales and zero points of a piece; gives the zero points, NULL where there are none. */
static const float *take_scales(const coded *d, const piece *p, float *scales, float *zeros)
{
    const coding *c = d->c;
    if (c->scales) {
        for (size_t i = 0; i < p->rows; i++) {
            size_t first = (p->row + i) % c->fixed_rows * c->per_row + p->first_group;
            for (size_t k = 0; k < p->groups; k++) {
                scales[i * p->groups + k] = c->scales[first + k];
                zeros[i * p->groups + k] = c->zeros ? c->zeros[first + k] : 0.0f;
            }
        }
        return c->zeros ? zeros : NULL;
    }
    take(c, p, c->scale_type, d->scales, scales);
    if (!d->zeros)
        return NULL;
    take(c, p, c->zero_type, d->zeros, zeros);
    return zeros;
}

/* ---- quantize, dequantize ------------------------------------------------------------------------------ */

static qc_status run_quantize(qc_run *run, const qc_step *step)
{
    const coded d = coded_of(run, step);
    const coding *c = d.c;
    const char *x = qc_run_at(run, step, step->in[0]);
    uint8_t *y = qc_run_at(run, step, step->out);
    size_t rows, bytes = elem_bytes(c->q.model_dtype);
    if (rows_of(run, step, step->out, c->columns, &rows) != QC_OK)
        return QC_ERROR;
    const pieces all = pieces_of(c, rows);
#pragma omp parallel for schedule(static) num_threads(threads_of(run, rows * c->columns))
    for (size_t i = 0; i < all.count; i++) {
        float scales[SCALES], buffer[SCALES];
        piece p = piece_at(c, &all, i);
        const float *zeros = take_scales(&d, &p, scales, buffer);
        qc_quantizer_rows_codes(&c->q, x + p.first * bytes, (int64_t)p.rows, (int64_t)p.columns,
            (int64_t)c->group, scales, global_of(&d, &p), zeros, y + p.first);
    }
    return QC_OK;
}

static qc_status run_dequantize(qc_run *run, const qc_step *step)
{
    const coded d = coded_of(run, step);
    const coding *c = d.c;
    const uint8_t *x = qc_run_at(run, step, step->in[0]);
    char *y = qc_run_at(run, step, step->out);
    size_t rows, bytes = elem_bytes(c->to);
    if (rows_of(run, step, step->out, c->columns, &rows) != QC_OK)
        return QC_ERROR;
    const pieces all = pieces_of(c, rows);
#pragma omp parallel for schedule(static) num_threads(threads_of(run, rows * c->columns))
    for (size_t i = 0; i < all.count; i++) {
        float scales[SCALES], buffer[SCALES];
        piece p = piece_at(c, &all, i);
        const float *zeros = take_scales(&d, &p, scales, buffer);
        qc_quantizer_rows_dequantize(&c->q, c->to, x + p.first, (int64_t)p.rows, (int64_t)p.columns,
            (int64_t)c->group, scales, global_of(&d, &p), zeros, y + p.first * bytes);
    }
    return QC_OK;
}

/* Columns of a row, from the last dimension of x. */
static bool take_columns(const qc_ref *x, int64_t group, coding *c)
{
    int64_t columns;
    if (x->rank == 0 || !qc_dim_as_int(x->dims[x->rank - 1], &columns) || columns < 1)
        return false;
    c->columns = (size_t)columns;
    c->group = group > 0 && group < columns ? (size_t)group : (size_t)columns;
    c->per_row = (c->columns + c->group - 1) / c->group;
    return true;
}

/* Scales known before the run: one, one a head, or one for each column of a head. */
static qc_status take_fixed(
    qc_plan *plan, const qc_value *scale, const qc_value *zero, const qc_ref *x, coding *c, bool *fits)
{
    const qc_type *type = qc_value_type(scale);
    int64_t count, heads;
    bool by_head = x->by_token && qc_type_rank(type) >= 3 && qc_type_dim(type, -3) == x->dims[1];
    *fits = qc_type_static_count(type, &count) && (!zero || qc_plan_is_weight(plan, zero)) &&
            (count == 1 || (by_head && qc_dim_as_int(x->dims[1], &heads) &&
                               (count == heads || count == heads * (int64_t)c->columns)));
    if (!*fits)
        return QC_OK;
    bool by_column = count > 1 && count != heads;
    c->group = by_column ? 1 : c->columns;
    c->per_row = by_column ? c->columns : 1;
    c->fixed_rows = (size_t)count / c->per_row;
    c->scales = qc_bank_floats(plan->env.bank, scale);
    c->zeros = zero && c->scales ? qc_bank_floats(plan->env.bank, zero) : NULL;
    return c->scales && (!zero || c->zeros) ? QC_OK : QC_ERROR;
}

/* Does a value of the run hold the scales of rows of x, or one scale for all? */
static bool is_scale_of(const qc_ref *x, const qc_ref *scale, const coding *c, bool *whole)
{
    int64_t count;
    *whole = scale->rank == 1 && qc_dim_as_int(scale->dims[0], &count) && count == 1;
    if (*whole)
        return c->per_row == 1;
    bool fits = scale->rank == x->rank && scale->by_token == x->by_token &&
                qc_dim_as_int(scale->dims[x->rank - 1], &count) && (size_t)count == c->per_row;
    for (int i = 0; fits && i + 1 < x->rank; i++)
        fits = scale->dims[i] == x->dims[i];
    return fits;
}

static qc_status take_of_run(
    qc_plan *plan, const qc_value *scale, const qc_value *zero, const qc_ref *x, coding *c, bool *fits)
{
    const qc_ref *ref = qc_plan_ref(plan, scale), *zero_ref = zero ? qc_plan_ref(plan, zero) : NULL;
    bool zero_whole = false;
    if (!ref || (zero && !zero_ref))
        return QC_ERROR;
    *fits = is_scale_of(x, ref, c, &c->whole);
    if (zero)
        *fits = *fits && is_scale_of(x, zero_ref, c, &zero_whole) && zero_whole == c->whole;
    if (!*fits)
        return QC_OK;
    c->scale_slot = ref->slot;
    c->scale_type = qc_plan_slot_at(plan, ref->slot)->dtype;
    c->zero_slot = zero ? zero_ref->slot : -1;
    c->zero_type = zero ? qc_plan_slot_at(plan, zero_ref->slot)->dtype : QC_DTYPE_NONE;
    *fits = qc_dtype_bits(c->scale_type) >= 8 && (!zero || qc_dtype_bits(c->zero_type) >= 8);
    return QC_OK;
}

/* Does a value of the run hold one number of f32 for each row of x, [.., 1]? */
static bool is_global_of_rows(const qc_plan *plan, const qc_ref *x, const qc_ref *global)
{
    int64_t one;
    bool fits = global->rank == x->rank && global->by_token == x->by_token &&
                qc_dim_as_int(global->dims[x->rank - 1], &one) && one == 1 &&
                plan->slots.items[global->slot].dtype == QC_F32;
    for (int i = 0; fits && i + 1 < x->rank; i++)
        fits = global->dims[i] == x->dims[i];
    return fits;
}

/* Operand number `slot`, a global scale that is known before the run, or one of each row; 0 where there is none. */
static qc_status take_global(
    qc_plan *plan, const qc_op *op, size_t slot, const qc_ref *x, coding *c, bool *fits)
{
    const qc_value *global = qc_op_operand(op, slot);
    int64_t count;
    c->q.global = global != NULL;
    c->global = 0.0f;
    c->global_slot = -1;
    if (!global)
        return QC_OK;
    if (!qc_plan_is_weight(plan, global)) {
        const qc_ref *ref = qc_plan_ref(plan, global);
        *fits = ref && is_global_of_rows(plan, x, ref);
        c->global_slot = *fits ? ref->slot : -1;
        return ref ? QC_OK : QC_ERROR;
    }
    *fits = qc_type_static_count(qc_value_type(global), &count) && count == 1;
    if (!*fits)
        return QC_OK;
    const float *value = qc_bank_floats(plan->env.bank, global);
    if (!value)
        return QC_ERROR;
    c->global = *value;
    return QC_OK;
}

/* Scale, zero point and global scale of a quantize or dequantize of x. `*fits` false: another shape. */
static qc_status take_operands(
    qc_plan *plan, const qc_op *op, const qc_ref *x, int64_t group, coding *c, bool *fits)
{
    const qc_value *scale = qc_op_operand(op, 1), *zero = qc_op_operand(op, 3);
    c->scale_slot = c->zero_slot = -1;
    *fits = take_columns(x, group, c);
    if (*fits && take_global(plan, op, 2, x, c, fits) != QC_OK)
        return QC_ERROR;
    if (!*fits)
        return QC_OK;
    return qc_plan_is_weight(plan, scale) ? take_fixed(plan, scale, zero, x, c, fits)
                                          : take_of_run(plan, scale, zero, x, c, fits);
}

static void add_coding(
    qc_plan *plan, const qc_op *op, qc_step_fn fn, const qc_ref *x, int out, const coding *c)
{
    int in[4] = {x->slot, c->scale_slot, c->zero_slot, c->global_slot};
    coding *copy = QC_NEW(&plan->arena, coding);
    *copy = *c;
    qc_plan_step(plan, fn, op, out, in, 4, true, copy);
}

static qc_status read_scheme(qc_plan *plan, const qc_op *op, qc_scheme_part *part)
{
    return qc_scheme_read(qc_ctx_diag(plan->env.ctx), qc_plan_where(plan, op), plan->env.module,
        qc_attr_as_text(qc_op_attr(op, "scheme")), qc_attr_as_text(qc_op_attr(op, "arg")), part);
}

qc_status qc_plan_codes(qc_plan *plan, const qc_op *op, int *slot, bool *done)
{
    const qc_ref *x = qc_plan_ref(plan, qc_op_operand(op, 0));
    qc_scheme_part part;
    if (!x || read_scheme(plan, op, &part) != QC_OK)
        return QC_ERROR;
    qc_dtype model = qc_plan_slot_at(plan, x->slot)->dtype;
    qc_ref from = *x; /* planning operands may move refs */
    coding c = {.q = qc_scheme_quantizer(&part, model)};
    if (!qc_is_value_dtype(model) || part.granularity == QC_GRANULARITY_BLOCK)
        return QC_OK;
    if (take_operands(plan, op, &from, part.group_elems, &c, done) != QC_OK)
        return QC_ERROR;
    if (!*done)
        return QC_OK;
    *slot = qc_plan_slot(plan, qc_code_slot(part.type), from.rank, from.dims, from.by_token);
    add_coding(plan, op, run_quantize, &from, *slot, &c);
    return QC_OK;
}

qc_status qc_plan_quantize(qc_plan *plan, const qc_op *op, bool *done)
{
    int slot;
    if (qc_plan_codes(plan, op, &slot, done) != QC_OK)
        return QC_ERROR;
    if (!*done)
        return QC_OK;
    qc_ref codes = *qc_plan_ref(plan, qc_op_operand(op, 0));
    codes.slot = slot;
    qc_plan_set_ref(plan, qc_op_result(op, 0), codes);
    return QC_OK;
}

qc_status qc_plan_dequantize(qc_plan *plan, const qc_op *op, bool *done)
{
    const qc_value *value = qc_op_operand(op, 0), *scale = qc_op_operand(op, 1);
    const qc_ref *x = qc_plan_ref(plan, value);
    if (!x)
        return QC_ERROR;
    qc_dtype codes = qc_type_dtype(qc_value_type(value)),
             to = qc_type_dtype(qc_value_type(qc_op_result(op, 0)));
    qc_ref from = *x;
    coding c = {.to = to};
    c.q = qc_scheme_dequantizer(codes, to, qc_type_dtype(qc_value_type(scale)), qc_op_operand(op, 2) != NULL,
        qc_op_operand(op, 3) == NULL);
    if (!qc_is_value_dtype(to) || c.q.grid.storage == QC_DTYPE_NONE ||
        qc_plan_slot_at(plan, from.slot)->dtype != qc_code_slot(codes) ||
        qc_attr_count(qc_op_attr(op, "block")) > 0)
        return QC_OK;
    if (take_operands(plan, op, &from, qc_attr_as_int(qc_op_attr(op, "group")), &c, done) != QC_OK)
        return QC_ERROR;
    if (*done)
        add_coding(plan, op, run_dequantize, &from, qc_plan_result(plan, op, to, from.by_token), &c);
    return QC_OK;
}

/* ---- scales and zero points of a run ------------------------------------------------------------------- */

typedef struct scaling {
    coding c;
    bool zero_points; /* these are asked for, not the scales */
    qc_dtype result;
} scaling;

static qc_status not_finite(const qc_run *run, const qc_step *step, size_t row)
{
    return qc_error(
        &run->worker->diag, step->where, "row %zu has values that are not finite, so no scale", row);
}

static qc_status run_scales(qc_run *run, const qc_step *step)
{
    const scaling *s = step->data;
    const coding *c = &s->c;
    const char *x = qc_run_at(run, step, step->in[0]);
    char *y = qc_run_at(run, step, step->out);
    size_t rows, wrong = SIZE_MAX, bytes = elem_bytes(c->q.model_dtype);
    if (rows_of(run, step, step->in[0], c->columns, &rows) != QC_OK)
        return QC_ERROR;
    const coded d = coded_of(run, step);
    const pieces all = pieces_of(c, rows);
#pragma omp parallel for schedule(static) num_threads(threads_of(run, rows * c->columns)) reduction(min      \
                                                                                                    : wrong)
    for (size_t i = 0; i < all.count; i++) {
        float mins[SCALES], maxs[SCALES], scales[SCALES], zeros[SCALES];
        piece p = piece_at(c, &all, i);
        size_t count = p.rows * p.groups, first = p.row * c->per_row + p.first_group;
        float global = global_of(&d, &p);
        qc_quantizer_rows_ranges(
            &c->q, x + p.first * bytes, (int64_t)p.rows, (int64_t)p.columns, (int64_t)c->group, mins, maxs);
        for (size_t k = 0; k < count && p.row < wrong; k++)
            if (!isfinite(mins[k]) || !isfinite(maxs[k]))
                wrong = p.row + k / p.groups < wrong ? p.row + k / p.groups : wrong;
        if (qc_quantizer_searches(&c->q, global))
            qc_quantizer_rows_scales(&c->q, x + p.first * bytes, (int64_t)p.rows, (int64_t)p.columns,
                (int64_t)c->group, global, scales, zeros);
        else
            qc_quantizer_scales(&c->q, mins, maxs, (int64_t)count, global, scales, zeros);
        qc_encode_f32(s->result, s->zero_points ? zeros : scales, y + first * elem_bytes(s->result), count);
    }
    return wrong == SIZE_MAX ? QC_OK : not_finite(run, step, wrong);
}

/* One scale for all. */
static qc_status run_whole_scale(qc_run *run, const qc_step *step)
{
    const scaling *s = step->data;
    const coding *c = &s->c;
    size_t rows;
    float min, max, scale, zero;
    if (rows_of(run, step, step->in[0], c->columns, &rows) != QC_OK)
        return QC_ERROR;
    if (!qc_host_minmax_heads(run->plan->env.engine, c->q.model_dtype, qc_run_at(run, step, step->in[0]),
            rows, 1, c->columns, c->columns, c->columns, &min, &max))
        return qc_error(&run->worker->diag, step->where, "it has values that are not finite, so no scale");
    qc_quantizer_scale(&c->q, min, max, c->global, &scale, &zero);
    qc_encode_f32(s->result, s->zero_points ? &zero : &scale, qc_run_at(run, step, step->out), 1);
    return QC_OK;
}

/* qparams and zero_point of data. */
qc_status qc_plan_scales(qc_plan *plan, const qc_op *op, bool *done)
{
    bool zero_points = qc_op_is(op, "zero_point"), fits = true;
    const qc_ref *x = qc_plan_ref(plan, qc_op_operand(op, 0));
    qc_scheme_part part;
    if (!x || read_scheme(plan, op, &part) != QC_OK)
        return QC_ERROR;
    if (!part.dynamic && strcmp(qc_attr_as_text(qc_op_attr(op, "arg")), "input") == 0)
        return qc_ctx_error(plan->env.ctx, qc_plan_where(plan, op),
            "the scale of @%s is static, but nothing was calibrated",
            qc_attr_as_text(qc_op_attr(op, "scheme")));
    qc_dtype model = qc_plan_slot_at(plan, x->slot)->dtype;
    qc_ref from = *x;
    scaling s = {.c.q = qc_scheme_quantizer(&part, model),
        .zero_points = zero_points,
        .result = qc_type_dtype(qc_value_type(qc_op_result(op, 0)))};
    bool whole = part.granularity == QC_GRANULARITY_TENSOR;
    if (!part.dynamic || !qc_is_value_dtype(model) || qc_dtype_bits(s.result) < 8 ||
        !(whole || part.granularity == QC_GRANULARITY_TOKEN || part.granularity == QC_GRANULARITY_GROUP) ||
        !take_columns(&from, part.group_elems, &s.c))
        return QC_OK;
    s.c.scale_slot = s.c.zero_slot = s.c.global_slot = -1;
    if (!zero_points && take_global(plan, op, 1, &from, &s.c, &fits) != QC_OK)
        return QC_ERROR;
    if (!fits || (whole && s.c.global_slot >= 0))
        return QC_OK;
    scaling *copy = QC_NEW(&plan->arena, scaling);
    *copy = s;
    int out = qc_plan_result(plan, op, s.result, from.by_token && !whole);
    const int in[2] = {from.slot, s.c.global_slot};
    qc_plan_step(plan, whole ? run_whole_scale : run_scales, op, out, in, 2, !whole, copy);
    *done = true;
    return QC_OK;
}
