/* SPDX-License-Identifier: MIT
 *
 * calibrate_fold.c - statistics become constants of the IR: the ranges of all sequences folded as each
 * observer says, in the model's element type (ir/dtype/arith.h). One range for several heads is the union of
 * theirs, sequence by sequence, before the fold.
 */
#include <math.h>

#include "ir/ctx.h"
#include "ir/dtype/codec.h"
#include "ir/dtype/mse.h"
#include "qc/build.h"
#include "runtime/calibrate.h"

/* Ranges [sequences, groups] of a record: its heads, or all of them as one. */
typedef struct ranges {
    float *min, *max;
    size_t groups;
} ranges;

static ranges join_heads(qc_arena *arena, const qc_stats_record *r, qc_dtype dtype, bool by_head)
{
    ranges out = {.groups = by_head ? r->heads : 1};
    out.min = QC_NEW_ARRAY(arena, float, r->sequences *out.groups);
    out.max = QC_NEW_ARRAY(arena, float, r->sequences *out.groups);
    for (size_t i = 0; i < r->sequences * r->heads; i++) {
        float min = qc_round_to(dtype, r->min[i]), max = qc_round_to(dtype, r->max[i]);
        size_t at = by_head ? i : i / r->heads;
        bool first = by_head || i % r->heads == 0;
        out.min[at] = first || min < out.min[at] ? min : out.min[at];
        out.max[at] = first || max > out.max[at] ? max : out.max[at];
    }
    return out;
}

static qc_status no_record(qc_ctx *ctx, const char *tap)
{
    qc_ctx_error(ctx, tap, "there are no statistics of it");
    qc_ctx_note(
        ctx, "statistics hold what was observed when they were made; calibrate again for other schemes");
    return QC_ERROR;
}

static qc_status check_record(qc_ctx *ctx, const char *tap, const qc_stats_record *r, size_t heads)
{
    if (!r)
        return no_record(ctx, tap);
    if (r->kind != QC_STATS_MINMAX)
        return qc_ctx_error(ctx, tap, "its statistics are sums of squares, not ranges");
    if (r->sequences == 0 || r->heads == 0 || r->heads != heads)
        return qc_ctx_error(ctx, tap, "its statistics are of %zu heads, the model has %zu", r->heads, heads);
    for (size_t i = 0; i < r->sequences * r->heads; i++)
        if (!isfinite(r->min[i]) || !isfinite(r->max[i]) || r->min[i] > r->max[i])
            return qc_ctx_error(ctx, tap, "its statistics of sequence %zu, head %zu are no range: %g to %g",
                i / r->heads, i % r->heads, (double)r->min[i], (double)r->max[i]);
    return QC_OK;
}

/* A constant of that type in place of the op, which goes. */
static qc_status replace(qc_ctx *ctx, qc_op *op, const float *values, size_t count, qc_arena *arena)
{
    qc_value *old = qc_op_result(op, 0);
    qc_dtype dtype = qc_type_dtype(qc_value_type(old));
    void *bytes = qc_arena_calloc(arena, count, sizeof(double));
    qc_encode_f32(dtype, values, bytes, count);
    qc_builder *b = qc_builder_before(op);
    qc_make(b, "const");
    qc_make_attr(b, "value", qc_attr_data(ctx, dtype, bytes, count));
    qc_make_type(b, qc_value_type(old));
    qc_value *value = qc_make_end(b, qc_value_hint(old));
    if (!qc_builder_ok(b))
        return QC_ERROR;
    qc_value_replace_all_uses(old, value);
    qc_op_erase(op);
    return QC_OK;
}

/* Heads of x [B, heads, S, d]; 1 for what has none. */
static size_t observed_heads(const qc_op *op)
{
    const qc_type *type = qc_value_type(qc_op_operand_named(op, "x"));
    int64_t heads;
    return qc_type_rank(type) == 4 && qc_dim_as_int(qc_type_dim(type, 1), &heads) ? (size_t)heads : 1;
}

/* Means of the squares of columns. */
static qc_status resolve_squares(qc_ctx *ctx, qc_arena *arena, qc_op *op, const qc_stats_record *r)
{
    const char *tap = qc_attr_as_text(qc_op_attr(op, "tap"));
    int64_t columns;
    if (!r)
        return no_record(ctx, tap);
    if (r->kind != QC_STATS_SQUARES || r->tokens < 1)
        return qc_ctx_error(ctx, tap, "its statistics are ranges, not sums of squares");
    if (!qc_type_static_count(qc_value_type(qc_op_result(op, 0)), &columns) || (size_t)columns != r->columns)
        return qc_ctx_error(ctx, tap, "its statistics are of %zu columns, the model has others", r->columns);
    float *values = QC_NEW_ARRAY(arena, float, r->columns);
    for (size_t i = 0; i < r->columns; i++)
        values[i] = (float)(r->squares[i] / (double)r->tokens);
    return replace(ctx, op, values, r->columns, arena);
}

/* How the observer folds ranges; those of a search that looks back fold as a moving average. */
static bool fold_of(const char *observer, qc_fold *fold)
{
    qc_mse mse;
    if (qc_fold_from_observer(observer, strlen(observer), fold))
        return true;
    *fold = QC_FOLD_LAST;
    if (!qc_mse_from_observer(observer, strlen(observer), &mse))
        return false;
    if (!mse.memoryless)
        *fold = QC_FOLD_MOVING_AVERAGE;
    return true;
}

static qc_status resolve(qc_ctx *ctx, qc_arena *arena, qc_op *op, const qc_stats *stats)
{
    const char *tap = qc_attr_as_text(qc_op_attr(op, "tap")),
               *name = qc_attr_as_text(qc_op_attr(op, "observer"));
    bool by_head = strcmp(qc_attr_as_text(qc_op_attr(op, "granularity")), "head") == 0;
    const qc_stats_record *r = qc_stats_find(stats, tap);
    qc_dtype dtype = qc_type_dtype(qc_value_type(qc_op_result(op, 0)));
    qc_fold fold;
    int64_t count;
    if (strcmp(qc_attr_as_text(qc_op_attr(op, "granularity")), "channel") == 0)
        return resolve_squares(ctx, arena, op, r);
    if (!qc_type_static_count(qc_value_type(qc_op_result(op, 0)), &count) || count < 2)
        return qc_ctx_error(ctx, tap, "its statistics have no static shape");
    if (!fold_of(name, &fold))
        return qc_ctx_error(ctx, tap, "unknown observer '%s'", name);
    size_t groups = (size_t)count / 2;
    bool searched = qc_op_attr(op, "scheme") != NULL;
    if (check_record(ctx, tap, r, by_head ? groups : searched ? 1 : observed_heads(op)) != QC_OK)
        return QC_ERROR;
    ranges joined = join_heads(arena, r, dtype, by_head);
    float *values = QC_NEW_ARRAY(arena, float, 2 * groups);
    for (size_t g = 0; g < groups; g++)
        qc_arith_fold_minmax(fold, dtype, joined.min + g, joined.max + g, r->sequences, groups,
            qc_attr_as_float(qc_op_attr(op, "averaging")), &values[g], &values[groups + g]);
    return replace(ctx, op, values, 2 * groups, arena);
}

qc_status qc_calibrate_resolve(qc_ctx *ctx, qc_module *module, const qc_stats *stats)
{
    qc_arena arena;
    qc_status status = QC_OK;
    qc_arena_init(&arena, qc_ctx_arena(ctx)->oom);
    for (qc_func *func = qc_module_first_func(module); func && status == QC_OK; func = qc_func_next(func))
        for (qc_op *op = qc_func_first_op(func), *next; op && status == QC_OK; op = next) {
            next = qc_op_next(op);
            if (qc_op_is(op, "observe"))
                status = resolve(ctx, &arena, op, stats);
        }
    qc_arena_fini(&arena);
    return status;
}
