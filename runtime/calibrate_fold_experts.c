/* SPDX-License-Identifier: MIT
 *
 * calibrate_fold_experts.c - a range for each expert of a layer, and what those get that saw fewer tokens than they have
 * to: an error, the widest range of the others, or that of their weights, which are then read.
 */
#include <math.h>
#include <stdlib.h>

#include "ir/ctx.h"
#include "ir/dtype/codec.h"
#include "ir/experts.h"
#include "runtime/calibrate_internal.h"

enum { LISTED = 8 };

typedef struct layer {
    qc_fold_job *job;
    qc_op *op;
    const char *tap;
    int64_t experts, min_tokens;
    float *min, *max;
    int64_t *tokens; /* that an expert saw; INT64_MAX: it is not known, some */
    size_t lacking;  /* experts that saw too few */
} layer;

static bool lacks(const layer *l, int64_t e)
{
    return l->tokens[e] < l->min_tokens;
}

/* The path of the module that holds the experts: the tap up to their number. */
static const char *layer_path(const layer *l)
{
    const char *at = strstr(l->tap, "{e}");
    size_t length = at ? (size_t)(at - l->tap) : strlen(l->tap);
    while (length > 0 && l->tap[length - 1] == '.')
        length--;
    return length ? qc_arena_strndup(&l->job->arena, l->tap, length) : l->tap;
}

/* "3 (0 tokens), 7 (2 tokens) and 4 more" */
static const char *list_lacking(const layer *l)
{
    qc_arena *arena = &l->job->arena;
    const char *text = "";
    size_t listed = 0;
    for (int64_t e = 0; e < l->experts && listed < LISTED; e++) {
        if (!lacks(l, e))
            continue;
        text = qc_arena_printf(arena, "%s%s%lld (%lld token%s)", text, listed ? ", " : "", (long long)e,
            (long long)l->tokens[e], l->tokens[e] == 1 ? "" : "s");
        listed++;
    }
    return l->lacking > listed ? qc_arena_printf(arena, "%s and %zu more", text, l->lacking - listed) : text;
}

static qc_status read_expert(layer *l, int64_t e)
{
    size_t number;
    const char *tap = qc_expert_name(&l->job->arena, l->tap, e);
    const qc_stats_record *counts = qc_stats_find_experts(l->job->stats, tap, &number);
    bool found = qc_stats_find(l->job->stats, tap, QC_STATS_MINMAX) != NULL;
    l->tokens[e] = counts ? counts->seen[number] : INT64_MAX;
    if (!found && counts && counts->seen[number] == 0)
        l->tokens[e] = 0;
    if (lacks(l, e)) {
        l->lacking++;
        return QC_OK;
    }
    const qc_stats_record *r = qc_fold_find(l->job, tap, QC_STATS_MINMAX);
    if (!r || qc_fold_ranges(l->job, l->op, r, 1, &l->min[e], &l->max[e]) != QC_OK)
        return QC_ERROR;
    if (l->min[e] == 0 && l->max[e] == 0)
        return qc_ctx_error(l->job->ctx, tap, "its statistics are all zero");
    return QC_OK;
}

/* ---- experts that saw too few tokens ------------------------------------------------------------------- */

static qc_status refuse(const layer *l)
{
    qc_ctx *ctx = l->job->ctx;
    qc_ctx_error(ctx, layer_path(l), "%zu of %lld experts saw fewer than %lld token%s: %s", l->lacking,
        (long long)l->experts, (long long)l->min_tokens, l->min_tokens == 1 ? "" : "s", list_lacking(l));
    qc_ctx_note(ctx,
        "--moe-calib=all shows every token to every expert; --moe-calib=routed{fallback=layer} gives such "
        "experts the range of the others, routed{fallback=weights} that of their weights, both also of "
        "statistics that were kept (--save-stats, then --stats); more data (--calib-samples) may reach them");
    return QC_ERROR;
}

static qc_status take_layer(layer *l)
{
    float min = INFINITY, max = -INFINITY;
    for (int64_t e = 0; e < l->experts; e++)
        if (!lacks(l, e)) {
            min = fminf(min, l->min[e]);
            max = fmaxf(max, l->max[e]);
        }
    if (min > max) {
        qc_ctx_error(l->job->ctx, layer_path(l),
            "none of its %lld experts saw %lld tokens, so there is no range to take for the others",
            (long long)l->experts, (long long)l->min_tokens);
        qc_ctx_note(l->job->ctx, "--moe-calib=all shows every token to every expert");
        return QC_ERROR;
    }
    for (int64_t e = 0; e < l->experts; e++)
        if (lacks(l, e)) {
            l->min[e] = min;
            l->max[e] = max;
        }
    return QC_OK;
}

/* The largest absolute value of an expert's weights, before codes. */
static qc_status amax_of(qc_fold_job *job, const qc_value *w, const char *tap, float *amax)
{
    qc_dtype dtype = qc_type_dtype(qc_value_type(w));
    int64_t count;
    size_t bytes;
    if (!qc_type_static_count(qc_value_type(w), &count) || !qc_value_size_bytes(job->ctx, w, &bytes))
        return QC_ERROR;
    void *data = malloc(bytes ? bytes : 1);
    qc_status status = data ? qc_weights_evaluate(job->weights, w, data)
                            : qc_ctx_error(job->ctx, tap, "out of memory for the weights of an expert");
    enum { CHUNK = 4096 };
    float values[CHUNK];
    *amax = 0;
    for (int64_t i = 0; i < count && status == QC_OK; i += CHUNK) {
        size_t n = (size_t)(count - i < CHUNK ? count - i : CHUNK);
        qc_decode_f32(dtype, (char *)data + (size_t)i * (bytes / (size_t)count), values, n);
        for (size_t k = 0; k < n; k++)
            *amax = fmaxf(*amax, fabsf(values[k]));
    }
    free(data);
    if (status == QC_OK && !(*amax > 0))
        return qc_ctx_error(job->ctx, tap, "its weights are all zero, so they give its input no range");
    return status;
}

static qc_status take_weights_of(layer *l, int64_t e)
{
    qc_fold_job *job = l->job;
    const qc_value *bank = qc_value_without_codes(qc_op_operand_named(l->op, "w"));
    qc_module *scratch = qc_experts_scratch(job->module);
    qc_func *func = qc_module_add_func(scratch, "expert");
    qc_arena arena;
    qc_expert_copy copy;
    float amax = 0;
    qc_arena_init(&arena, qc_ctx_arena(job->ctx)->oom);
    qc_expert_copy_init(&copy, &arena, qc_builder_at_end(func), l->experts, e);
    const qc_value *w = qc_expert_copy_value(&copy, bank);
    qc_status status = w ? amax_of(job, w, qc_expert_name(&job->arena, l->tap, e), &amax) : QC_ERROR;
    l->max[e] = qc_round_to(qc_type_dtype(qc_value_type(qc_op_result(l->op, 0))), amax);
    l->min[e] = -l->max[e];
    qc_weights_forget(job->weights);
    qc_arena_fini(&arena);
    qc_module_destroy(scratch);
    return status;
}

static qc_status take_weights(layer *l)
{
    qc_fold_job *job = l->job;
    if (!job->weights)
        job->weights = qc_weights_open(job->ctx, job->module, job->source);
    qc_status status = job->weights ? QC_OK : QC_ERROR;
    for (int64_t e = 0; e < l->experts && status == QC_OK; e++)
        if (lacks(l, e))
            status = take_weights_of(l, e);
    return status;
}

static qc_status fall_back(layer *l)
{
    const char *fallback = qc_attr_as_text(qc_op_attr(l->op, "fallback"));
    bool of_layer = strcmp(fallback, "layer") == 0;
    if (!of_layer && strcmp(fallback, "weights") != 0)
        return refuse(l);
    if (qc_map_set(&l->job->said, layer_path(l), NULL))
        qc_ctx_warning(l->job->ctx, layer_path(l),
            "%zu of %lld experts saw fewer than %lld token%s and get the range of %s: %s", l->lacking,
            (long long)l->experts, (long long)l->min_tokens, l->min_tokens == 1 ? "" : "s",
            of_layer ? "the others" : "their weights", list_lacking(l));
    return of_layer ? take_layer(l) : take_weights(l);
}

qc_status qc_fold_experts(qc_fold_job *job, qc_op *op)
{
    layer l = {.job = job,
        .op = op,
        .tap = qc_attr_as_text(qc_op_attr(op, "tap")),
        .experts = qc_attr_as_int(qc_op_attr(op, "experts")),
        .min_tokens = qc_attr_as_int(qc_op_attr(op, "min_tokens"))};
    size_t experts = (size_t)l.experts;
    if (l.experts > QC_MOST_EXPERTS)
        return qc_ctx_error(
            job->ctx, l.tap, "ranges of %lld experts do not fit a constant", (long long)l.experts);
    l.min = QC_NEW_ARRAY(&job->arena, float, 2 * experts);
    l.max = l.min + experts;
    l.tokens = QC_NEW_ARRAY(&job->arena, int64_t, experts);
    for (int64_t e = 0; e < l.experts; e++)
        if (read_expert(&l, e) != QC_OK)
            return QC_ERROR;
    if (l.lacking && fall_back(&l) != QC_OK)
        return QC_ERROR;
    return qc_fold_replace(job, op, l.min, 2 * experts);
}
