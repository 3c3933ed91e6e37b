/* SPDX-License-Identifier: MIT
 *
 * calibrate_fold.c - statistics become constants of the IR: the ranges of all sequences folded as each
 * observer says, in the model's element type (ir/dtype/arith.h). One range for several heads is the union of
 * theirs, sequence by sequence, before the fold.
 */
#include <math.h>

#include "ir/ctx.h"
#include "ir/dtype/codec.h"
#include "ir/dtype/columns.h"
#include "ir/dtype/mse.h"
#include "passes/experts.h"
#include "qc/build.h"
#include "runtime/calibrate_internal.h"

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

/* The value of --moe-calib that the statistics were made with, where there are some of the other. */
static const char *other_mode(qc_fold_job *job, const char *tap, qc_stats_kind kind)
{
    static const char routed[] = "@routed";
    const size_t length = strlen(tap), end = sizeof routed - 1;
    const bool is_routed = qc_ends_with(tap, routed);
    const char *other = is_routed ? qc_arena_strndup(&job->arena, tap, length - end)
                                  : qc_arena_printf(&job->arena, "%s%s", tap, routed);
    if (!qc_stats_find(job->stats, other, kind))
        return NULL;
    return is_routed ? "all" : "routed";
}

const qc_stats_record *qc_fold_find(qc_fold_job *job, const char *tap, qc_stats_kind kind)
{
    const qc_stats_record *r = qc_stats_find(job->stats, tap, kind);
    if (r)
        return r;
    const char *other = NULL;
    for (int k = 0; k < QC_STATS_KINDS && !other; k++)
        if (qc_stats_find(job->stats, tap, (qc_stats_kind)k))
            other = qc_stats_kind_text((qc_stats_kind)k);
    if (other) {
        qc_ctx_error(job->ctx, tap, "its statistics are %s, not %s", other, qc_stats_kind_text(kind));
        return NULL;
    }
    qc_ctx_error(job->ctx, tap, "there are no statistics of it");
    const char *mode = other_mode(job, tap, kind);
    if (mode)
        qc_ctx_note(job->ctx, "these statistics were made with --moe-calib=%s: give it here, too", mode);
    else
        qc_ctx_note(job->ctx,
            "statistics hold what was observed when they were made; calibrate again for other schemes");
    return NULL;
}

static qc_status check_record(qc_ctx *ctx, const char *tap, const qc_stats_record *r, size_t heads)
{
    if (r->sequences == 0 || r->heads == 0 || r->heads != heads)
        return qc_ctx_error(ctx, tap, "its statistics are of %zu heads, the model has %zu", r->heads, heads);
    for (size_t i = 0; i < r->sequences * r->heads; i++)
        if (!isfinite(r->min[i]) || !isfinite(r->max[i]) || r->min[i] > r->max[i])
            return qc_ctx_error(ctx, tap, "its statistics of sequence %zu, head %zu are no range: %g to %g",
                i / r->heads, i % r->heads, (double)r->min[i], (double)r->max[i]);
    return QC_OK;
}

qc_status qc_fold_replace(qc_fold_job *job, qc_op *op, const float *values, size_t count)
{
    qc_ctx *ctx = job->ctx;
    qc_value *old = qc_op_result(op, 0);
    qc_dtype dtype = qc_type_dtype(qc_value_type(old));
    void *bytes = qc_arena_calloc(&job->arena, count, sizeof(double));
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

/* Statistics of columns: as many as `count`, a number of them for each column of the record. */
static qc_status check_columns(qc_ctx *ctx, qc_op *op, const qc_stats_record *r, size_t each)
{
    const char *tap = qc_attr_as_text(qc_op_attr(op, "tap"));
    int64_t count;
    if (!qc_type_static_count(qc_value_type(qc_op_result(op, 0)), &count) ||
        (size_t)count != each * r->columns)
        return qc_ctx_error(ctx, tap, "its statistics are of %zu columns, the model has others", r->columns);
    return QC_OK;
}

/* Means of columns or of their squares. */
static qc_status resolve_means(qc_fold_job *job, qc_op *op, const qc_stats_record *r)
{
    qc_ctx *ctx = job->ctx;
    if (check_columns(ctx, op, r, 1) != QC_OK)
        return QC_ERROR;
    if (r->tokens < 1)
        return qc_ctx_error(ctx, r->tap, "its statistics are of no tokens");
    float *values = QC_NEW_ARRAY(&job->arena, float, r->columns);
    for (size_t i = 0; i < r->columns; i++)
        values[i] = (float)(r->sums[i] / (double)r->tokens);
    return qc_fold_replace(job, op, values, r->columns);
}

/* Ranges of columns, [2, heads, columns]. */
static qc_status resolve_channels(qc_fold_job *job, qc_op *op, const qc_stats_record *r)
{
    qc_ctx *ctx = job->ctx;
    if (check_columns(ctx, op, r, 2) != QC_OK)
        return QC_ERROR;
    float *values = QC_NEW_ARRAY(&job->arena, float, 2 * r->columns);
    for (size_t i = 0; i < r->columns; i++) {
        if (!isfinite(r->min[i]) || !isfinite(r->max[i]) || r->min[i] > r->max[i])
            return qc_ctx_error(ctx, r->tap, "its statistics of column %zu are no range: %g to %g", i,
                (double)r->min[i], (double)r->max[i]);
        values[i] = r->min[i];
        values[r->columns + i] = r->max[i];
    }
    return qc_fold_replace(job, op, values, 2 * r->columns);
}

qc_status qc_fold_ranges(
    qc_fold_job *job, const qc_op *op, const qc_stats_record *r, size_t groups, float *min, float *max)
{
    const char *name = qc_attr_as_text(qc_op_attr(op, "observer"));
    bool by_head = strcmp(qc_attr_as_text(qc_op_attr(op, "granularity")), "head") == 0;
    qc_dtype dtype = qc_type_dtype(qc_value_type(qc_op_result(op, 0)));
    qc_fold fold;
    qc_share share;
    if (!qc_mse_fold(name, strlen(name), &fold))
        return qc_ctx_error(job->ctx, r->tap, "unknown observer '%s'", name);
    /* Ranges of a search or a share are for the granularity that was asked for. */
    bool asked_for = qc_op_attr(op, "scheme") || qc_share_from_observer(name, strlen(name), &share);
    if (check_record(job->ctx, r->tap, r, by_head ? groups : asked_for ? 1 : observed_heads(op)) != QC_OK)
        return QC_ERROR;
    ranges joined = join_heads(&job->arena, r, dtype, by_head);
    for (size_t g = 0; g < groups; g++)
        qc_arith_fold_minmax(fold, dtype, joined.min + g, joined.max + g, r->sequences, groups,
            qc_attr_as_float(qc_op_attr(op, "averaging")), &min[g], &max[g]);
    return QC_OK;
}

static qc_status resolve_ranges(qc_fold_job *job, qc_op *op, const qc_stats_record *r)
{
    int64_t count;
    if (!qc_type_static_count(qc_value_type(qc_op_result(op, 0)), &count) || count < 2)
        return qc_ctx_error(job->ctx, r->tap, "its statistics have no static shape");
    size_t groups = (size_t)count / 2;
    float *values = QC_NEW_ARRAY(&job->arena, float, 2 * groups);
    if (qc_fold_ranges(job, op, r, groups, values, values + groups) != QC_OK)
        return QC_ERROR;
    return qc_fold_replace(job, op, values, 2 * groups);
}

static qc_status resolve(qc_fold_job *job, qc_op *op)
{
    const char *observer = qc_attr_as_text(qc_op_attr(op, "observer")),
               *granularity = qc_attr_as_text(qc_op_attr(op, "granularity"));
    const bool squares = strcmp(observer, "imatrix") == 0, means = strcmp(observer, "mean") == 0;
    const bool columns = strcmp(granularity, "channel") == 0;
    if (strcmp(granularity, "expert") == 0)
        return qc_fold_experts(job, op);
    const qc_stats_record *r = qc_fold_find(job, qc_attr_as_text(qc_op_attr(op, "tap")),
        squares   ? QC_STATS_SQUARES
        : means   ? QC_STATS_MEANS
        : columns ? QC_STATS_CHANNELS
                  : QC_STATS_MINMAX);
    if (!r)
        return QC_ERROR;
    return (squares || means ? resolve_means : columns ? resolve_channels : resolve_ranges)(job, op, r);
}

/* All observes are gone: nobody needs rows of tokens that were not sent to an expert. */
static qc_status drop_unrouted_rows(qc_func *func)
{
    for (qc_op *op = qc_func_first_op(func); op; op = qc_op_next(op))
        if (qc_op_is(op, "expert_rows") && qc_attr_as_bool(qc_op_attr(op, "all")) &&
            !qc_experts_set_all(&op, false))
            return QC_ERROR;
    return QC_OK;
}

qc_status qc_calibrate_resolve_from(qc_ctx *ctx, qc_module *module, const qc_stats *stats, const char *source)
{
    qc_fold_job job = {.ctx = ctx, .module = module, .stats = stats, .source = source};
    qc_status status = QC_OK;
    qc_arena_init(&job.arena, qc_ctx_arena(ctx)->oom);
    qc_map_init(&job.said, &job.arena);
    for (qc_func *func = qc_module_first_func(module); func && status == QC_OK; func = qc_func_next(func)) {
        for (qc_op *op = qc_func_first_op(func), *next; op && status == QC_OK; op = next) {
            next = qc_op_next(op);
            if (qc_op_is(op, "observe"))
                status = resolve(&job, op);
        }
        if (status == QC_OK)
            status = drop_unrouted_rows(func);
    }
    qc_weights_close(job.weights);
    qc_arena_fini(&job.arena);
    return status;
}

qc_status qc_calibrate_resolve(qc_ctx *ctx, qc_module *module, const qc_stats *stats)
{
    return qc_calibrate_resolve_from(ctx, module, stats, NULL);
}
