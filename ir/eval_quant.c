/* SPDX-License-Identifier: MIT
 *
 * eval_quant.c - reference semantics of observing and of scales (see eval.h). The arithmetic is ir/dtype/quantizer.h,
 * ir/dtype/mse.h and ir/dtype/columns.h; here is which elements share a scale. What becomes of a bank [E, rows, columns]
 * is what becomes of each expert's weights by themselves.
 *
 * The elements under one scale are a piece of x: runs of consecutive elements. Where a range is searched, the
 * pieces are gathered into rows first, filled with zeros where a block is cut off at an edge; a zero is
 * quantized without error, so it changes no choice.
 */
#include <math.h>
#include <stdlib.h>

#include "ir/dtype/codec.h"
#include "ir/dtype/columns.h"
#include "ir/dtype/mse.h"
#include "ir/eval_quant.h"
#include "ir/ir.h"
#include "op_table.h"

qc_status qc_eval_need_model_type(qc_eval *eval, const qc_op *op, qc_dtype dtype)
{
    if (dtype == QC_BF16 || dtype == QC_F16 || dtype == QC_F32)
        return QC_OK;
    return qc_error(eval->diag, qc_eval_where(eval, op), "quantization works on bf16, f16 and f32, not %s",
        qc_dtype_name(dtype));
}

static qc_status mismatch(qc_eval *eval, const qc_op *op, const qc_tensor *x, const qc_tensor *y)
{
    return qc_error(eval->diag, qc_eval_where(eval, op), "%s and %s do not fit",
        qc_tensor_text(eval->scratch, x), qc_tensor_text(eval->scratch, y));
}

qc_status qc_eval_read_part(qc_eval *eval, const qc_op *op, qc_scheme_part *part)
{
    return qc_scheme_read(eval->diag, qc_eval_where(eval, op), eval->module,
        qc_attr_as_text(qc_op_attr(op, "scheme")), qc_attr_as_text(qc_op_attr(op, "arg")), part);
}

static bool is_from_stat(const qc_op *op)
{
    return strcmp(qc_attr_as_text(qc_op_attr(op, "from")), "stat") == 0;
}

/* Part `index` of the first dimension, in place. */
static qc_tensor part_of(const qc_tensor *x, int64_t index)
{
    qc_tensor part = *x;
    part.rank--;
    part.count /= x->dims[0];
    for (int i = 0; i < part.rank; i++)
        part.dims[i] = x->dims[i + 1];
    part.data = qc_eval_at(x, index * part.count);
    return part;
}

static void join(float *min, float *max, float low, float high)
{
    *min = isnan(low) || low < *min ? low : *min;
    *max = isnan(high) || high > *max ? high : *max;
}

/* ---- pieces -------------------------------------------------------------------------------------------- */

/* x cut into pieces, one a scale: each `runs` runs of `length` elements, the first at `first(index)`, the next
 * `step` further on. Blocks at the edges have less of both. A column of a head is one piece in each sequence. */
typedef struct cut {
    const qc_tensor *x;
    qc_granularity granularity;
    int64_t count;               /* pieces */
    int64_t across;              /* pieces side by side in a row, of group and block */
    int64_t group_columns, rows; /* of a whole piece */
    int64_t size;                /* elements of a whole piece */
    bool columns_of_heads;       /* granularity channel of x [B, heads, S, d] */
} cut;

typedef struct piece {
    int64_t first, runs, length, step;
} piece;

/* False where the shape of x does not suit the granularity. */
static bool cut_of(const qc_tensor *x, const qc_scheme_part *part, cut *c)
{
    int64_t columns = qc_tensor_dim(x, -1), heads;
    *c = (cut){.x = x, .granularity = part->granularity, .across = 1, .rows = 1};
    if (x->count == 0 || x->rank == 0)
        return false;
    switch (part->granularity) {
    case QC_GRANULARITY_TENSOR:
        c->count = 1;
        c->size = x->count;
        return true;
    case QC_GRANULARITY_HEAD:
        heads = qc_tensor_dim(x, 1);
        c->count = heads;
        c->size = x->count / heads;
        return x->rank == 4;
    case QC_GRANULARITY_CHANNEL:
    case QC_GRANULARITY_TOKEN:
        c->columns_of_heads = part->granularity == QC_GRANULARITY_CHANNEL && x->rank == 4;
        c->count = c->columns_of_heads ? qc_tensor_dim(x, 1) * columns : x->count / columns;
        c->size = x->count / c->count;
        return part->granularity == QC_GRANULARITY_TOKEN || x->rank == 2 || x->rank == 4;
    case QC_GRANULARITY_GROUP:
        c->group_columns = part->group_elems;
        break;
    case QC_GRANULARITY_BLOCK:
        c->group_columns = part->block_columns;
        c->rows = part->block_rows;
        break;
    }
    if (c->rows > x->count / columns && part->granularity == QC_GRANULARITY_BLOCK)
        c->rows = x->count / columns;
    if (c->group_columns > columns)
        c->group_columns = columns;
    c->across = qc_eval_pieces(columns, c->group_columns);
    c->count = c->across * qc_eval_pieces(x->count / columns, c->rows);
    c->size = c->group_columns * c->rows;
    return part->granularity == QC_GRANULARITY_GROUP || x->rank == 2;
}

static piece piece_of(const cut *c, int64_t index)
{
    const qc_tensor *x = c->x;
    int64_t columns = qc_tensor_dim(x, -1), rows = x->count / columns;
    if (c->granularity == QC_GRANULARITY_HEAD) {
        int64_t run = qc_tensor_dim(x, 2) * columns;
        return (piece){index * run, x->dims[0], run, c->count * run};
    }
    if (c->granularity != QC_GRANULARITY_GROUP && c->granularity != QC_GRANULARITY_BLOCK)
        return (piece){index * c->size, 1, c->size, 0};
    int64_t row = index / c->across * c->rows, column = index % c->across * c->group_columns;
    int64_t length = columns - column < c->group_columns ? columns - column : c->group_columns;
    return (piece){row * columns + column, rows - row < c->rows ? rows - row : c->rows, length, columns};
}

static void range_of_column(const cut *c, int64_t index, float *min, float *max)
{
    const qc_tensor *x = c->x;
    int64_t columns = qc_tensor_dim(x, -1), tokens = qc_tensor_dim(x, 2), heads = qc_tensor_dim(x, 1);
    *min = INFINITY, *max = -INFINITY;
    for (int64_t i = 0; i < x->dims[0] * tokens; i++) {
        int64_t row = (i / tokens * heads + index / columns) * tokens + i % tokens;
        float low, high;
        qc_arith_minmax(x->dtype, qc_eval_at(x, row * columns + index % columns), 1, &low, &high);
        join(min, max, low, high);
    }
}

static void range_of(const cut *c, int64_t index, float *min, float *max)
{
    if (c->columns_of_heads) {
        range_of_column(c, index, min, max);
        return;
    }
    piece p = piece_of(c, index);
    qc_arith_minmax(c->x->dtype, qc_eval_at(c->x, p.first), (size_t)p.length, min, max);
    for (int64_t i = 1; i < p.runs; i++) {
        float low, high;
        qc_arith_minmax(c->x->dtype, qc_eval_at(c->x, p.first + i * p.step), (size_t)p.length, &low, &high);
        join(min, max, low, high);
    }
}

/* ---- searched ranges ----------------------------------------------------------------------------------- */

/* All pieces as rows of c->size elements. NULL after a diagnostic; to be freed. */
static void *gather(qc_eval *eval, const qc_op *op, const cut *c)
{
    qc_dtype dtype = c->x->dtype;
    char *rows = calloc((size_t)(c->count * c->size), qc_tensor_bytes(dtype, 1));
    if (!rows) {
        qc_error(eval->diag, qc_eval_where(eval, op), "no memory to search %lld ranges", (long long)c->count);
        return NULL;
    }
    for (int64_t i = 0; i < c->count; i++) {
        piece p = piece_of(c, i);
        for (int64_t r = 0; r < p.runs; r++)
            memcpy(rows + qc_tensor_bytes(dtype, i * c->size + r * p.length),
                qc_eval_at(c->x, p.first + r * p.step), qc_tensor_bytes(dtype, p.length));
    }
    return rows;
}

/* Rows and groups as qc_mse_search takes them. */
typedef struct search_shape {
    const void *x;
    int64_t rows, columns, group;
} search_shape;

static bool search_all(const qc_quantizer *q, const qc_mse *mse, const search_shape *s, const float *weights,
    float *mins, float *maxs)
{
    uint64_t improved[QC_MSE_WORDS] = {0}, again[QC_MSE_WORDS] = {0};
    if (!qc_mse_search(
            q, mse, s->x, s->rows, s->columns, s->group, weights, qc_mse_steps(mse), mins, maxs, improved))
        return false;
    int stop = qc_mse_stop_step(mse, improved);
    return !qc_mse_improved_after(improved, stop) ||
           qc_mse_search(q, mse, s->x, s->rows, s->columns, s->group, weights, stop, mins, maxs, again);
}

/* Weights of columns out of the operand `importance`; NULL where there are none. */
static const float *weights_of(qc_eval *eval, const cut *c, const qc_tensor *importance)
{
    bool by_columns = c->granularity == QC_GRANULARITY_CHANNEL || c->granularity == QC_GRANULARITY_GROUP;
    if (!importance || !by_columns || importance->count != qc_tensor_dim(c->x, -1))
        return NULL;
    float *weights = qc_eval_row(eval, importance->count);
    qc_tensor_read(importance, 0, importance->count, weights);
    return qc_mse_importance(weights, importance->count, weights) ? weights : NULL;
}

static qc_status search_ranges(qc_eval *eval, const qc_op *op, const qc_quantizer *q, const qc_mse *mse,
    const cut *c, const qc_tensor *importance, float *mins, float *maxs)
{
    int64_t columns = qc_tensor_dim(c->x, -1);
    bool by_columns = c->granularity == QC_GRANULARITY_CHANNEL || c->granularity == QC_GRANULARITY_GROUP;
    void *gathered = by_columns ? NULL : gather(eval, op, c);
    if (!by_columns && !gathered)
        return QC_ERROR;
    search_shape s = {gathered, c->count, c->size, c->size};
    if (by_columns)
        s = (search_shape){c->x->data, c->x->count / columns, columns,
            c->granularity == QC_GRANULARITY_GROUP ? c->group_columns : columns};
    bool done = search_all(q, mse, &s, mse->imatrix ? weights_of(eval, c, importance) : NULL, mins, maxs);
    free(gathered);
    return done ? QC_OK
                : qc_error(eval->diag, qc_eval_where(eval, op), "no memory to search %lld ranges",
                      (long long)c->count);
}

/* ---- observe ------------------------------------------------------------------------------------------- */

/* Mean of each column (of each head of x [B, heads, S, d]), or of its squares, over all rows: sums of a sequence in f64,
 * rounded as statistics keep them, then added in f64, of squares in f32. */
static qc_status observe_means(
    qc_eval *eval, const qc_op *op, const qc_tensor *x, bool squares, qc_tensor *results)
{
    int64_t columns = qc_tensor_dim(x, -1), sequences = qc_tensor_dim(x, 0);
    int64_t heads = x->rank == 4 ? qc_tensor_dim(x, 1) : 1, all = heads * columns;
    if (x->count == 0 || results->count != all)
        return mismatch(eval, op, x, results);
    int64_t rows = x->count / columns, per_sequence = rows / sequences, per_head = per_sequence / heads;
    float *row = qc_eval_row(eval, columns), *means = qc_eval_row(eval, all);
    double *part = QC_NEW_ARRAY(eval->scratch, double, (size_t)all);
    double *sums = QC_NEW_ARRAY(eval->scratch, double, (size_t)all);
    for (int64_t s = 0; s < sequences; s++) {
        memset(part, 0, (size_t)all * sizeof *part);
        for (int64_t r = 0; r < per_sequence; r++) {
            double *of = part + r / per_head % heads * columns;
            qc_tensor_read(x, (s * per_sequence + r) * columns, columns, row);
            for (int64_t j = 0; j < columns; j++)
                of[j] += squares ? (double)row[j] * (double)row[j] : (double)row[j];
        }
        for (int64_t j = 0; j < all; j++)
            sums[j] = squares ? (double)((float)sums[j] + (float)part[j])
                              : sums[j] + (double)qc_columns_kept_sum(part[j]);
    }
    const double count = (double)(rows / heads);
    for (int64_t j = 0; j < all; j++)
        means[j] = squares ? (float)sums[j] / (float)count : (float)(sums[j] / count);
    qc_tensor_write(results, 0, all, means);
    return QC_OK;
}

/* Range of each column of each head over all sequences, [2, heads, d]. */
static qc_status observe_channels(qc_eval *eval, const qc_op *op, const qc_tensor *x, qc_tensor *results)
{
    const qc_scheme_part part = {.granularity = QC_GRANULARITY_CHANNEL};
    cut c;
    if (x->rank != 4 || !cut_of(x, &part, &c) || results->count != 2 * c.count)
        return mismatch(eval, op, x, results);
    for (int64_t i = 0; i < c.count; i++) {
        float min, max;
        range_of(&c, i, &min, &max);
        qc_tensor_write(results, i, 1, &min);
        qc_tensor_write(results, c.count + i, 1, &max);
    }
    return QC_OK;
}

/* How an observer takes the range of a sequence, and what becomes of several. */
typedef struct observer {
    bool searches, cuts; /* else all values */
    qc_quantizer q;      /* that a search is for */
    qc_mse mse;
    qc_share share;
    qc_fold fold;
} observer;

/* The least range of a piece that holds the observer's share of the values. */
static qc_status cut_range(
    qc_eval *eval, const qc_op *op, const observer *o, const cut *c, int64_t index, float *min, float *max)
{
    piece p = piece_of(c, index);
    range_of(c, index, min, max);
    if (!isfinite(*min) || !isfinite(*max)) /* carried to whoever names the tensor */
        return QC_OK;
    if (qc_share_range(&o->share, c->x->dtype, qc_eval_at(c->x, p.first), (size_t)p.runs, (size_t)p.length,
            (size_t)p.step, min, max))
        return QC_OK;
    return qc_error(eval->diag, qc_eval_where(eval, op), "no memory to count %lld elements",
        (long long)(p.runs * p.length));
}

/* Ranges of one sequence: `groups` of them, one a head or one for all. */
static qc_status observe_sequence(qc_eval *eval, const qc_op *op, const qc_tensor *x, int64_t groups,
    const observer *o, float *mins, float *maxs)
{
    qc_scheme_part part = {
        .granularity = groups > 1 || x->rank == 4 ? QC_GRANULARITY_HEAD : QC_GRANULARITY_TENSOR};
    cut c;
    if (groups == 1)
        part.granularity = QC_GRANULARITY_TENSOR;
    if (!cut_of(x, &part, &c))
        return mismatch(eval, op, x, x);
    if (o->searches)
        return search_ranges(eval, op, &o->q, &o->mse, &c, NULL, mins, maxs);
    for (int64_t g = 0; g < groups; g++) {
        range_of(&c, g, &mins[g], &maxs[g]);
        if (o->cuts && cut_range(eval, op, o, &c, g, &mins[g], &maxs[g]) != QC_OK)
            return QC_ERROR;
    }
    return QC_OK;
}

static qc_status observer_of(qc_eval *eval, const qc_op *op, qc_dtype dtype, observer *o)
{
    const char *name = qc_attr_as_text(qc_op_attr(op, "observer"));
    const size_t length = strlen(name);
    qc_scheme_part part;
    *o = (observer){.searches = qc_mse_from_observer(name, length, &o->mse)};
    o->cuts = qc_share_from_observer(name, length, &o->share);
    if (!qc_mse_fold(name, length, &o->fold))
        return qc_error(eval->diag, qc_eval_where(eval, op), "unknown observer '%s'", name);
    const qc_attr *share = o->cuts ? qc_attr_find(qc_op_attr(op, "args"), o->share.argument) : NULL;
    if (share)
        o->share.value = qc_attr_as_float(share);
    if (!o->searches)
        return QC_OK;
    if (qc_eval_read_part(eval, op, &part) != QC_OK ||
        qc_scheme_mse(eval->diag, qc_eval_where(eval, op), &part, name, &o->mse, &o->searches) != QC_OK)
        return QC_ERROR;
    o->q = qc_scheme_quantizer(&part, dtype);
    return QC_OK;
}

/* The expert that row `row` belongs to; -1 when that is none of them. */
static int64_t expert_of(const qc_tensor *rows, int64_t row, int64_t experts)
{
    int64_t expert = qc_tensor_int(rows, row);
    return expert >= 0 && expert < experts ? expert : -1;
}

/* The rows of x that an expert works on, one after another: *seen of them, in `gathered`. */
static void gather_expert(
    const qc_tensor *x, const qc_tensor *rows, int64_t expert, int64_t experts, qc_tensor *gathered)
{
    int64_t columns = x->dims[1], count = 0;
    for (int64_t r = 0; r < x->dims[0]; r++)
        if (expert_of(rows, r, experts) == expert)
            qc_tensor_copy(gathered, count++ * columns, x, r * columns, columns);
    gathered->dims[0] = 1;
    gathered->dims[1] = count * columns;
    gathered->count = count * columns;
}

/* Ranges for the experts that saw fewer than `least` tokens, as the op's `fallback` says. */
static qc_status fall_back(qc_eval *eval, const qc_op *op, const qc_tensor *w, const int64_t *seen,
    int64_t least, int64_t experts, float *mins, float *maxs)
{
    enum { MOST_NAMED = 16 };
    const char *fallback = qc_attr_as_text(qc_op_attr(op, "fallback"));
    float min = INFINITY, max = -INFINITY;
    const char *names = "";
    int64_t missing = 0;
    for (int64_t e = 0; e < experts; e++) {
        if (seen[e] >= least)
            join(&min, &max, mins[e], maxs[e]);
        else if (missing++ < MOST_NAMED)
            names = qc_arena_printf(eval->scratch, "%s%s%lld", names, *names ? ", " : "", (long long)e);
    }
    if (missing && strcmp(fallback, "refuse") == 0)
        return qc_error(eval->diag, qc_eval_where(eval, op),
            "%lld of %lld experts saw fewer than %lld tokens: %s%s", (long long)missing, (long long)experts,
            (long long)least, names, missing > MOST_NAMED ? ", ..." : "");
    if (missing == experts && strcmp(fallback, "layer") == 0)
        return qc_error(eval->diag, qc_eval_where(eval, op), "no expert saw %lld tokens", (long long)least);
    for (int64_t e = 0; e < experts; e++) {
        if (seen[e] >= least)
            continue;
        mins[e] = min, maxs[e] = max;
        if (strcmp(fallback, "weights") == 0) {
            qc_tensor of_expert = part_of(w, e);
            qc_arith_minmax(w->dtype, of_expert.data, (size_t)of_expert.count, &min, &max);
            maxs[e] = fmaxf(max, -min);
            mins[e] = -maxs[e];
        }
    }
    return QC_OK;
}

/* A range an expert; the rows of a call are one sequence. */
static qc_status observe_experts(
    qc_eval *eval, const qc_op *op, const qc_tensor *const *operands, qc_tensor *results)
{
    const qc_tensor *x = operands[0], *rows = operands[1], *w = operands[2];
    int64_t experts = qc_attr_as_int(qc_op_attr(op, "experts"));
    int64_t least = qc_attr_as_int(qc_op_attr(op, "min_tokens"));
    observer o;
    qc_status status = QC_OK;

    if (observer_of(eval, op, x->dtype, &o) != QC_OK)
        return QC_ERROR;
    if (!rows || x->rank != 2 || rows->rank != 2 || rows->dims[0] != 3 || rows->dims[1] != x->dims[0] ||
        experts < 1 || results->count != 2 * experts || (w && (w->rank != 3 || w->dims[0] != experts)))
        return mismatch(eval, op, x, results);
    qc_tensor gathered = *x;
    gathered.data = malloc(qc_tensor_bytes(x->dtype, x->count) + 1);
    if (!gathered.data)
        return qc_error(
            eval->diag, qc_eval_where(eval, op), "no memory for %s", qc_tensor_text(eval->scratch, x));
    float *mins = qc_eval_row(eval, experts), *maxs = qc_eval_row(eval, experts);
    int64_t *seen = QC_NEW_ARRAY(eval->scratch, int64_t, (size_t)experts);
    for (int64_t e = 0; status == QC_OK && e < experts; e++) {
        gather_expert(x, rows, e, experts, &gathered);
        seen[e] = x->dims[1] ? gathered.count / x->dims[1] : 0;
        if (seen[e] && (status = observe_sequence(eval, op, &gathered, 1, &o, &mins[e], &maxs[e])) == QC_OK)
            qc_arith_fold_minmax(o.fold, x->dtype, &mins[e], &maxs[e], 1, 1,
                qc_attr_as_float(qc_op_attr(op, "averaging")), &mins[e], &maxs[e]);
    }
    if (status == QC_OK)
        status = fall_back(eval, op, w, seen, least, experts, mins, maxs);
    if (status == QC_OK) {
        qc_tensor_write(results, 0, experts, mins);
        qc_tensor_write(results, experts, experts, maxs);
    }
    free(gathered.data);
    return status;
}

/* The first dimension counts sequences; each gives one range a head (or tensor), which fold in order.
 * Statistics over several calls fold the same way, from the ranges of all their sequences. */
qc_status qc_eval_observe(
    qc_eval *eval, const qc_op *op, const qc_tensor *const *operands, qc_tensor *results)
{
    const qc_tensor *x = operands[0];
    const char *name = qc_attr_as_text(qc_op_attr(op, "observer"));
    const char *granularity = qc_attr_as_text(qc_op_attr(op, "granularity"));
    bool by_head = strcmp(granularity, "head") == 0;
    double averaging = qc_attr_as_float(qc_op_attr(op, "averaging"));
    observer o;

    if (qc_eval_need_model_type(eval, op, x->dtype) != QC_OK)
        return QC_ERROR;
    if (strcmp(granularity, "channel") == 0)
        return strcmp(name, "imatrix") == 0 || strcmp(name, "mean") == 0
                   ? observe_means(eval, op, x, strcmp(name, "imatrix") == 0, results)
                   : observe_channels(eval, op, x, results);
    if (strcmp(granularity, "expert") == 0)
        return observe_experts(eval, op, operands, results);
    if (observer_of(eval, op, x->dtype, &o) != QC_OK)
        return QC_ERROR;
    int64_t groups = by_head ? qc_tensor_dim(x, 1) : 1, sequences = qc_tensor_dim(x, 0);
    if (x->count == 0 || x->rank < (by_head ? 2 : 1) || results->count != 2 * groups)
        return mismatch(eval, op, x, results);
    float *mins = qc_eval_row(eval, sequences * groups), *maxs = qc_eval_row(eval, sequences * groups);
    for (int64_t i = 0; i < sequences; i++) {
        qc_tensor one = *x;
        one.dims[0] = 1;
        one.count = x->count / sequences;
        one.data = qc_eval_at(x, i * one.count);
        if (observe_sequence(eval, op, &one, groups, &o, mins + i * groups, maxs + i * groups) != QC_OK)
            return QC_ERROR;
    }
    for (int64_t g = 0; g < groups; g++) {
        float min, max;
        qc_arith_fold_minmax(
            o.fold, x->dtype, mins + g, maxs + g, (size_t)sequences, (size_t)groups, averaging, &min, &max);
        qc_tensor_write(results, g, 1, &min);
        qc_tensor_write(results, groups + g, 1, &max);
    }
    return QC_OK;
}

/* ---- scales and zero points ---------------------------------------------------------------------------- */

/* Ranges of data, one a scale, in the scratch arena. */
static qc_status data_ranges(qc_eval *eval, const qc_op *op, const qc_scheme_part *part, const qc_tensor *x,
    const qc_tensor *importance, int64_t *count, float **mins, float **maxs)
{
    bool weights = strcmp(qc_attr_as_text(qc_op_attr(op, "arg")), "weights") == 0, searches;
    qc_mse mse;
    cut c;
    if (!cut_of(x, part, &c))
        return mismatch(eval, op, x, x);
    if (qc_scheme_mse(eval->diag, qc_eval_where(eval, op), part, NULL, &mse, &searches) != QC_OK)
        return QC_ERROR;
    *count = c.count;
    *mins = qc_eval_row(eval, c.count);
    *maxs = qc_eval_row(eval, c.count);
    if (searches && weights && !part->dynamic) { /* ranges of each call's data are never searched */
        qc_quantizer q = qc_scheme_quantizer(part, x->dtype);
        return search_ranges(eval, op, &q, &mse, &c, importance, *mins, *maxs);
    }
    for (int64_t i = 0; i < c.count; i++)
        range_of(&c, i, &(*mins)[i], &(*maxs)[i]);
    return QC_OK;
}

/* Ranges out of statistics [2, n] or [2, heads, columns], joined to `wanted` (0: as they are) and widened. */
static qc_status stat_ranges(qc_eval *eval, const qc_op *op, const qc_scheme_part *part, const qc_tensor *x,
    int64_t wanted, int64_t *count, float **mins, float **maxs)
{
    int64_t ranges = x->count / 2;
    if ((x->rank != 2 && x->rank != 3) || x->dims[0] != 2 || ranges == 0 || (wanted && ranges % wanted != 0))
        return mismatch(eval, op, x, x);
    int64_t each = wanted ? ranges / wanted : 1;
    *count = ranges / each;
    *mins = qc_eval_row(eval, ranges);
    *maxs = qc_eval_row(eval, ranges);
    qc_tensor_read(x, 0, ranges, *mins);
    qc_tensor_read(x, ranges, ranges, *maxs);
    for (int64_t i = 0; i < *count; i++) {
        float min = (*mins)[i * each], max = (*maxs)[i * each];
        for (int64_t k = 1; k < each; k++)
            join(&min, &max, (*mins)[i * each + k], (*maxs)[i * each + k]);
        (*mins)[i] = part->headroom > 1 ? qc_round_to(x->dtype, min * part->headroom) : min;
        (*maxs)[i] = part->headroom > 1 ? qc_round_to(x->dtype, max * part->headroom) : max;
    }
    return QC_OK;
}

/* Ranges of data or statistics, all finite. */
static qc_status ranges_of(qc_eval *eval, const qc_op *op, const qc_scheme_part *part, const qc_tensor *x,
    const qc_tensor *importance, int64_t wanted, int64_t *count, float **mins, float **maxs)
{
    qc_status status = is_from_stat(op) ? stat_ranges(eval, op, part, x, wanted, count, mins, maxs)
                                        : data_ranges(eval, op, part, x, importance, count, mins, maxs);
    for (int64_t i = 0; status == QC_OK && i < *count; i++)
        if (!isfinite((*mins)[i]) || !isfinite((*maxs)[i]))
            return qc_error(eval->diag, qc_eval_where(eval, op), "values from %g to %g have no scale",
                (double)(*mins)[i], (double)(*maxs)[i]);
    return status;
}

/* Scales to be made of x: `count` of them, the results from `first` on. */
typedef struct scaling {
    const qc_scheme_part *part;
    const qc_tensor *x, *global, *importance; /* NULL: none */
    bool zero_points;
    int64_t first, count;
} scaling;

/* The global scale of scale `index`: there is one for all, or one for as many scales each. */
static float global_of(const scaling *s, int64_t index)
{
    float value = 0.0f;
    if (s->global)
        qc_tensor_read(s->global, index / (s->count / s->global->count), 1, &value);
    return value;
}

static qc_status make_scales(qc_eval *eval, const qc_op *op, const scaling *s, qc_tensor *results)
{
    const qc_scheme_part *part = s->part;
    const qc_tensor *x = s->x;
    int64_t count;
    float *mins, *maxs;

    if (ranges_of(eval, op, part, x, s->importance, s->count, &count, &mins, &maxs) != QC_OK)
        return QC_ERROR;
    if (count != s->count)
        return mismatch(eval, op, x, results);
    if (s->global && (s->global->count == 0 || count % s->global->count != 0))
        return mismatch(eval, op, x, s->global);
    qc_quantizer q = qc_scheme_quantizer(part, x->dtype);
    bool searches = !is_from_stat(op) && part->granularity == QC_GRANULARITY_GROUP &&
                    qc_quantizer_searches(&q, global_of(s, 0));
    cut c = {0};
    if (searches && !cut_of(x, part, &c))
        return mismatch(eval, op, x, results);
    for (int64_t i = 0; i < count; i++) {
        float scale, zero_point, global = global_of(s, i);
        if (searches) {
            piece p = piece_of(&c, i);
            qc_quantizer_group_scale(
                &q, qc_eval_at(x, p.first), (size_t)p.length, global, &scale, &zero_point);
        } else {
            qc_quantizer_scale(&q, mins[i], maxs[i], global, &scale, &zero_point);
        }
        qc_tensor_write(results, s->first + i, 1, s->zero_points ? &zero_point : &scale);
    }
    return QC_OK;
}

/* The common part of qparams and zero_point. */
static qc_status scale_op(qc_eval *eval, const qc_op *op, const qc_tensor *x, const qc_tensor *global,
    const qc_tensor *importance, bool zero_points, qc_tensor *results)
{
    int64_t experts = is_from_stat(op) ? 0 : qc_attr_as_int(qc_op_attr(op, "experts"));
    qc_scheme_part part;

    if (qc_eval_need_model_type(eval, op, x->dtype) != QC_OK || qc_eval_read_part(eval, op, &part) != QC_OK)
        return QC_ERROR;
    if (global && global->count != 1 && (x->rank < 2 || global->count != x->dims[is_from_stat(op) ? 1 : 0]))
        return mismatch(eval, op, x, global);
    scaling s = {&part, x, global, importance, zero_points, 0, results->count};
    if (experts == 0)
        return make_scales(eval, op, &s, results);
    if (x->rank != 3 || x->dims[0] != experts || results->count % experts != 0)
        return mismatch(eval, op, x, results);
    s.count = results->count / experts;
    for (int64_t e = 0; e < experts; e++) {
        bool global_each = global && global->count == experts && global->rank > 1;
        qc_tensor of_x = part_of(x, e), of_global = global_each ? part_of(global, e) : (qc_tensor){0};
        qc_tensor of_importance =
            importance && importance->rank == 2 ? part_of(importance, e) : (qc_tensor){0};
        s.x = &of_x;
        s.global = global_each ? &of_global : global;
        s.importance = of_importance.rank ? &of_importance : importance;
        s.first = e * s.count;
        if (make_scales(eval, op, &s, results) != QC_OK)
            return QC_ERROR;
    }
    return QC_OK;
}

qc_status qc_eval_qparams(
    qc_eval *eval, const qc_op *op, const qc_tensor *const *operands, qc_tensor *results)
{
    return scale_op(eval, op, operands[0], operands[1], operands[2], false, results);
}

qc_status qc_eval_zero_point(
    qc_eval *eval, const qc_op *op, const qc_tensor *const *operands, qc_tensor *results)
{
    return scale_op(eval, op, operands[0], NULL, operands[1], true, results);
}

/* The largest absolute value that one global scale has to reach in x: of its expert, or, below 0, of everything. */
static qc_status amax_of(qc_eval *eval, const qc_op *op, const qc_scheme_part *part, const qc_tensor *x,
    const qc_tensor *importance, int64_t expert, float *amax)
{
    const bool bank = expert >= 0 && !is_from_stat(op);
    int64_t count;
    float *mins, *maxs;
    if (bank && (x->rank != 3 || expert >= x->dims[0]))
        return mismatch(eval, op, x, x);
    qc_tensor of_x = bank ? part_of(x, expert) : *x, of_importance = {0};
    if (bank && importance && importance->rank == 2)
        of_importance = part_of(importance, expert);
    if (ranges_of(eval, op, part, &of_x, of_importance.rank ? &of_importance : importance, 0, &count, &mins,
            &maxs) != QC_OK)
        return QC_ERROR;
    if (expert >= 0 && !bank && expert >= count)
        return mismatch(eval, op, x, x);
    for (int64_t k = 0; k < count; k++)
        if (expert < 0 || bank || k == expert)
            *amax = fmaxf(*amax, fmaxf(maxs[k], -mins[k]));
    return QC_OK;
}

qc_status qc_eval_global_scale(
    qc_eval *eval, const qc_op *op, const qc_tensor *const *operands, qc_tensor *results)
{
    int64_t experts = qc_attr_as_int(qc_op_attr(op, "experts"));
    qc_scheme_part part;

    if (qc_eval_need_model_type(eval, op, operands[1]->dtype) != QC_OK ||
        qc_eval_read_part(eval, op, &part) != QC_OK)
        return QC_ERROR;
    qc_quantizer q = qc_scheme_quantizer(&part, operands[1]->dtype);
    for (int64_t e = 0; e < results->count; e++) {
        float amax = 0.0f, scale;
        for (size_t i = 1; i < qc_op_operand_count(op); i++) {
            if (operands[i]->dtype != operands[1]->dtype)
                return mismatch(eval, op, operands[1], operands[i]);
            if (amax_of(eval, op, &part, operands[i], operands[0], experts ? e : -1, &amax) != QC_OK)
                return QC_ERROR;
        }
        scale = qc_quantizer_global(&q, amax);
        qc_tensor_write(results, e, 1, &scale);
    }
    return QC_OK;
}
