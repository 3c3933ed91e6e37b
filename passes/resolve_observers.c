/* SPDX-License-Identifier: MIT
 *
 * resolve_observers.c - statistics become scales: `qparams (const stat) {from = stat}` is evaluated to a
 * constant, in the arithmetic that the scheme names (ir/dtype/quantizer.h, the one home of the formula), and so are zero
 * points and global scales of inputs.
 *
 * Statistics may be finer than the scale: ranges of all columns [2, heads, d] are joined to those of heads or of the
 * tensor. Those of centered keys are an expression of two constants, the ranges of columns less their mean, which is
 * evaluated here; the mean itself stays in the model.
 *
 * Statistics that cannot be right stop the job: a range that is not finite, whose minimum is above its
 * maximum, or that is all zero, which no trained model gives and which would divide by nothing. The message
 * names module and scale. What is not calibrated stays, with a remark; with missing=one it gets the
 * scale 1.0 and the zero point 0, searches that were to weigh columns go unweighted, and a mean is 0.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "ir/ctx.h"
#include "ir/dtype/codec.h"
#include "ir/scheme.h"
#include "passes/experts.h"
#include "passes/quant.h"

void qc_pass_resolve_observers(qc_registry *registry);

static const char *result_name(const qc_op *op)
{
    const char *hint = qc_value_hint(qc_op_result(op, 0));
    return hint ? hint : "the scale";
}

static size_t data_slot(const qc_op *op)
{
    return qc_op_is(op, "global_scale") ? 1 : 0;
}

/* The part of the scheme that this op belongs to. */
static qc_status read_part(qc_pass_ctx *pc, const qc_module *module, const qc_op *op, qc_scheme_part *part)
{
    const qc_node *node = qc_op_node(op);
    return qc_scheme_read(qc_ctx_diag(qc_pass_ctx_get(pc)), node ? qc_node_path(node) : "", module,
        qc_attr_as_text(qc_op_attr(op, "scheme")), qc_attr_as_text(qc_op_attr(op, "arg")), part);
}

/* The constant in place of the op, which goes. */
static qc_pass_result replace(qc_pass_ctx *pc, qc_op *op, const float *values, size_t count)
{
    qc_ctx *ctx = qc_pass_ctx_get(pc);
    qc_value *old = qc_op_result(op, 0);
    qc_dtype dtype = qc_type_dtype(qc_value_type(old));
    void *bytes = qc_pass_alloc(pc, count * sizeof(double));
    qc_encode_f32(dtype, values, bytes, count);
    qc_builder *b = qc_builder_before(op);
    qc_make(b, "const");
    qc_make_attr(b, "value", qc_attr_data(ctx, dtype, bytes, count));
    qc_make_type(b, qc_value_type(old));
    qc_value *constant = qc_make_end(b, qc_value_hint(old));
    if (!qc_builder_ok(b))
        return QC_PASS_FAILED;
    qc_value_replace_all_uses(old, constant);
    qc_op_erase(op);
    return QC_PASS_CHANGED;
}

/* ---- constant expressions ------------------------------------------------------------------------------ */

/* Numbers of a value [.., n, m] of up to three dimensions. */
typedef struct numbers {
    qc_dtype dtype;
    size_t dims[3]; /* leading ones where there are fewer */
    size_t count;
    float *data;
} numbers;

static bool shape_of(const qc_value *value, numbers *n)
{
    const qc_type *type = qc_value_type(value);
    int rank = qc_type_rank(type);
    int64_t size;
    if (rank > 3 || !qc_type_static_count(type, &size) || size < 1)
        return false;
    n->dtype = qc_type_dtype(type);
    n->count = (size_t)size;
    for (int i = 0; i < 3; i++) {
        size = 1;
        if (i >= 3 - rank && !qc_dim_as_int(qc_type_dim(type, i - 3 + rank), &size))
            return false;
        n->dims[i] = (size_t)size;
    }
    return true;
}

static size_t wrapped(const numbers *n, const size_t *at)
{
    size_t offset = 0;
    for (int i = 0; i < 3; i++)
        offset = offset * n->dims[i] + at[i] % n->dims[i];
    return offset;
}

static void subtract(const numbers *x, const numbers *z, numbers *out)
{
    size_t at[3], i = 0;
    for (at[0] = 0; at[0] < out->dims[0]; at[0]++)
        for (at[1] = 0; at[1] < out->dims[1]; at[1]++)
            for (at[2] = 0; at[2] < out->dims[2]; at[2]++)
                out->data[i++] = qc_round_to(out->dtype, x->data[wrapped(x, at)] - z->data[wrapped(z, at)]);
}

enum { MOST_OPS_DEEP = 8, MOST_NUMBERS = 1 << 17 };

/* The numbers of a constant, or of cast, reshape and sub over constants, at most `depth` one upon another; false where
 * it is neither, or larger than any statistics of heads. */
static bool evaluate_at(qc_pass_ctx *pc, const qc_value *value, int depth, numbers *n)
{
    const qc_op *op = qc_value_op(value);
    if (!op || depth == 0 || !shape_of(value, n) || n->count > MOST_NUMBERS)
        return false;
    n->data = qc_pass_alloc(pc, n->count * sizeof *n->data);
    if (qc_op_is(op, "const")) {
        const qc_attr *data = qc_op_attr(op, "value");
        if (qc_attr_count(data) != n->count || !qc_dtype_is_float(n->dtype))
            return false;
        qc_decode_f32(qc_attr_data_dtype(data), qc_attr_data_bytes(data), n->data, n->count);
        return true;
    }
    bool difference = qc_op_is(op, "sub");
    numbers x, z;
    if (!(difference || qc_op_is(op, "cast") || qc_op_is(op, "reshape")) ||
        !evaluate_at(pc, qc_op_operand(op, 0), depth - 1, &x) ||
        (difference && !evaluate_at(pc, qc_op_operand(op, 1), depth - 1, &z)))
        return false;
    if (difference)
        subtract(&x, &z, n);
    for (size_t i = 0; !difference && i < n->count; i++)
        n->data[i] = qc_round_to(n->dtype, x.data[i]);
    return true;
}

static bool evaluate(qc_pass_ctx *pc, const qc_value *value, numbers *n)
{
    return evaluate_at(pc, value, MOST_OPS_DEEP, n);
}

/* ---- ranges -------------------------------------------------------------------------------------------- */

/* Statistics [2, heads, columns] of `count` = heads * columns ranges: all minima, then all maxima. */
typedef struct ranges {
    qc_dtype dtype; /* the model's */
    size_t count, columns;
    const float *mins, *maxs;
} ranges;

static const char *what_is_wrong(float min, float max)
{
    if (!isfinite(min) || !isfinite(max))
        return "not finite";
    if (min > max)
        return "empty: nothing was observed";
    if (min == 0.0f && max == 0.0f)
        return "all zero";
    return NULL;
}

static bool is_of_experts(const qc_op *op)
{
    return qc_attr_as_int(qc_op_attr(op, "experts")) > 0;
}

/* "head 3", "head 3, column 5", "group 7" or "expert 2" */
static const char *which(qc_pass_ctx *pc, const qc_op *op, const ranges *r, size_t i, bool groups)
{
    enum { SIZE = 64 };
    char *text = qc_pass_alloc(pc, SIZE);
    if (is_of_experts(op))
        snprintf(text, SIZE, "expert %zu", i);
    else if (groups && r->columns == 1)
        snprintf(text, SIZE, "group %zu", i);
    else if (r->columns == 1)
        snprintf(text, SIZE, "head %zu", i);
    else
        snprintf(text, SIZE, "head %zu, column %zu", i / r->columns, i % r->columns);
    return text;
}

/* A group of columns and a column may be zero throughout; a whole tensor, a head or what an expert reads may not. */
static qc_status check_ranges(qc_pass_ctx *pc, const qc_op *op, const ranges *r)
{
    bool groups = qc_op_is(op, "global_scale") && !is_of_experts(op), zero = true;
    for (size_t i = 0; i < r->count; i++) {
        const char *wrong = what_is_wrong(r->mins[i], r->maxs[i]);
        zero = zero && r->mins[i] == 0.0f && r->maxs[i] == 0.0f;
        if (!wrong || ((groups || r->columns > 1) && strcmp(wrong, "all zero") == 0))
            continue;
        if (r->count > 1)
            qc_pass_fail(pc, op, "%s: the statistics of %s are %s", result_name(op),
                which(pc, op, r, i, groups), wrong);
        else
            qc_pass_fail(pc, op, "%s: the statistics are %s", result_name(op), wrong);
        return QC_ERROR;
    }
    if (zero && (groups || r->columns > 1)) {
        qc_pass_fail(pc, op, "%s: the statistics are all zero", result_name(op));
        return QC_ERROR;
    }
    return QC_OK;
}

static ranges ranges_of(const numbers *n)
{
    size_t count = n->count / 2;
    /* [2, n] has its 2 in the middle of three dimensions. */
    bool columns = n->dims[0] == 2;
    return (ranges){n->dtype, count, columns ? n->dims[2] : 1, n->data, n->data + count};
}

/* The ranges of `parts` equal pieces of the ranges: of heads, or of all. */
static ranges join(qc_pass_ctx *pc, const ranges *r, size_t parts)
{
    size_t each = r->count / parts;
    float *mins = qc_pass_alloc(pc, 2 * parts * sizeof *mins), *maxs = mins + parts;
    for (size_t i = 0; i < r->count; i++) {
        size_t part = i / each;
        bool first = i % each == 0;
        mins[part] = first || r->mins[i] < mins[part] ? r->mins[i] : mins[part];
        maxs[part] = first || r->maxs[i] > maxs[part] ? r->maxs[i] : maxs[part];
    }
    return (ranges){r->dtype, parts, 1, mins, maxs};
}

/* Wider ranges, in the model's type: room for what calibration has not seen. */
static void widen(ranges *r, float headroom, float *storage)
{
    for (size_t i = 0; i < r->count; i++) {
        storage[i] = qc_round_to(r->dtype, r->mins[i] * headroom);
        storage[r->count + i] = qc_round_to(r->dtype, r->maxs[i] * headroom);
    }
    r->mins = storage;
    r->maxs = storage + r->count;
}

/* A range can be too large for the type of the scale, or for the difference of its ends. */
static qc_status check_scale(qc_pass_ctx *pc, const qc_op *op, float scale)
{
    if (isfinite(scale))
        return QC_OK;
    qc_pass_fail(pc, op, "%s: the statistics are too large for a scale of %s", result_name(op),
        qc_dtype_name(qc_type_dtype(qc_value_type(qc_op_result(op, 0)))));
    return QC_ERROR;
}

/* Ranges of what has a scale of its own, checked and widened; a global scale has those that were observed. */
static qc_status final_ranges(
    qc_pass_ctx *pc, const qc_op *op, const qc_scheme_part *part, const numbers *statistics, ranges *r)
{
    const qc_value *result = qc_op_result(op, 0);
    int64_t parts = 0;
    *r = ranges_of(statistics);
    if (qc_op_is(op, "global_scale") && !is_of_experts(op))
        parts = (int64_t)(r->columns > 1 ? 1 : r->count);
    bool fits = parts || qc_type_static_count(qc_value_type(result), &parts);
    size_t heads = r->count / r->columns;
    /* Ranges of heads are not joined to that of a tensor: they were folded one by one. */
    if (!fits || ((size_t)parts != r->count && (r->columns == 1 || (parts != 1 && (size_t)parts != heads)))) {
        qc_pass_fail(pc, op, "%s: there are %zu ranges for the type %s", result_name(op), r->count,
            qc_type_text(qc_pass_ctx_get(pc), qc_value_type(result)));
        return QC_ERROR;
    }
    if (check_ranges(pc, op, r) != QC_OK)
        return QC_ERROR;
    if (r->columns > 1) {
        const ranges joined = join(pc, r, parts == 1 ? 1 : heads);
        if (check_ranges(pc, op, &joined) != QC_OK)
            return QC_ERROR;
        *r = (size_t)parts == r->count ? *r : joined;
    }
    if (part->headroom > 1)
        widen(r, part->headroom, qc_pass_alloc(pc, 2 * r->count * sizeof(float)));
    return QC_OK;
}

/* Of all ranges together, or of each expert's. */
static qc_pass_result resolve_global(qc_pass_ctx *pc, qc_op *op, const qc_quantizer *q, const ranges *r)
{
    size_t count = is_of_experts(op) ? r->count : 1, each = r->count / count;
    float *scales = qc_pass_alloc(pc, count * sizeof *scales);
    for (size_t i = 0; i < count; i++) {
        float amax = 0.0f;
        for (size_t k = i * each; k < (i + 1) * each; k++)
            amax = fmaxf(amax, fmaxf(-r->mins[k], r->maxs[k]));
        scales[i] = qc_quantizer_global(q, amax);
        if (check_scale(pc, op, scales[i]) != QC_OK)
            return QC_PASS_FAILED;
    }
    qc_pass_count(pc, "global scales computed", (int64_t)count);
    return replace(pc, op, scales, count);
}

static qc_pass_result resolve(
    qc_pass_ctx *pc, qc_op *op, const qc_scheme_part *part, const numbers *statistics)
{
    ranges r;
    const qc_quantizer q = qc_scheme_quantizer(part, statistics->dtype);
    bool zero_point = qc_op_is(op, "zero_point");
    if (final_ranges(pc, op, part, statistics, &r) != QC_OK)
        return QC_PASS_FAILED;
    if (qc_op_is(op, "global_scale"))
        return resolve_global(pc, op, &q, &r);
    float *values = qc_pass_alloc(pc, r.count * sizeof *values);
    for (size_t i = 0; i < r.count; i++) {
        float scale, zero;
        qc_quantizer_scale(&q, r.mins[i], r.maxs[i], 0.0f, &scale, &zero);
        if (!zero_point && check_scale(pc, op, scale) != QC_OK)
            return QC_PASS_FAILED;
        values[i] = zero_point ? zero : scale;
    }
    qc_pass_count(pc, zero_point ? "zero points computed" : "scales computed", 1);
    return replace(pc, op, values, r.count);
}

/* ---- without statistics -------------------------------------------------------------------------------- */

/* Scale 1.0, zero point 0. */
static qc_pass_result one(qc_pass_ctx *pc, qc_op *op)
{
    int64_t count;
    if (!qc_type_static_count(qc_value_type(qc_op_result(op, 0)), &count))
        return qc_pass_fail(pc, op, "a static scale has no static shape");
    float *values = qc_pass_alloc(pc, (size_t)count * sizeof *values);
    bool zero_point = qc_op_is(op, "zero_point");
    for (int64_t i = 0; i < count; i++)
        values[i] = zero_point ? 0.0f : 1.0f;
    qc_pass_count(pc, zero_point ? "zero points set to 0" : "scales set to 1.0", 1);
    return replace(pc, op, values, (size_t)count);
}

/* An observer, its constant, or what was made of it, once nobody reads it; then what it was given. */
static void erase_if_unused(qc_op *op)
{
    if (!op || !qc_quant_one_of(qc_op_name(op), "const|observe|split_heads|sub|reshape|cast") ||
        qc_value_use_count(qc_op_result(op, 0)) > 0 || qc_quant_is_returned(qc_op_result(op, 0)))
        return;
    qc_op *sources[2] = {NULL, NULL};
    for (size_t i = 0; i < 2 && i < qc_op_operand_count(op); i++)
        sources[i] = qc_op_operand(op, i) ? qc_value_op(qc_op_operand(op, i)) : NULL;
    bool same = sources[0] == sources[1];
    bool data = qc_op_is(op, "observe") && sources[0] && !qc_op_is(sources[0], "split_heads");
    bool whole = qc_op_is(op, "split_heads"); /* what it splits is the model's */
    qc_op_erase(op);
    if (data || whole)
        return;
    erase_if_unused(sources[0]);
    if (!same)
        erase_if_unused(sources[1]);
}

/* ---- means --------------------------------------------------------------------------------------------- */

/* A mean that keys are centered by: checked, or 0 where nothing was calibrated and missing=one. */
static qc_pass_result visit_mean(qc_pass_ctx *pc, qc_op *op, bool missing_is_one)
{
    const qc_value *result = qc_op_result(op, 0);
    int64_t count;
    if (!missing_is_one) {
        qc_pass_remark(pc, op, "%s stays unresolved: nothing was calibrated", result_name(op));
        return QC_PASS_UNCHANGED;
    }
    if (!qc_type_static_count(qc_value_type(result), &count))
        return qc_pass_fail(pc, op, "%s: a mean has no static shape", result_name(op));
    float *zeros = qc_pass_alloc(pc, (size_t)count * sizeof *zeros);
    qc_pass_count(pc, "means set to 0", 1);
    return replace(pc, op, zeros, (size_t)count);
}

/* Is the centre of x, operand z of a `sub` over constants, finite? */
static qc_status check_center(qc_pass_ctx *pc, const qc_op *quantize)
{
    const qc_op *op = qc_value_op(qc_op_operand(quantize, 0));
    numbers n;
    if (!op || !qc_op_is(op, "sub") || !evaluate(pc, qc_op_operand(op, 1), &n))
        return QC_OK;
    for (size_t i = 0; i < n.count; i++)
        if (!isfinite(n.data[i])) {
            qc_pass_fail(pc, op, "%s: the mean of head %zu, column %zu is not finite", result_name(op),
                n.dims[2] ? i / n.dims[2] : 0, i % n.dims[2]);
            return QC_ERROR;
        }
    return QC_OK;
}

/* ---- importance of columns ----------------------------------------------------------------------------- */

/* Mean squares of inputs that weigh the columns of a weight. */
static qc_pass_result check_importance(qc_pass_ctx *pc, qc_op *op, bool missing_is_one)
{
    qc_value *importance = qc_op_operand_named(op, "importance");
    qc_op *source = importance ? qc_value_op(importance) : NULL;
    if (!source)
        return QC_PASS_UNCHANGED;
    if (qc_op_is(source, "const")) {
        const qc_attr *data = qc_op_attr(source, "value");
        size_t count = qc_attr_count(data);
        float *weights = qc_pass_alloc(pc, count * sizeof *weights);
        qc_decode_f32(qc_attr_data_dtype(data), qc_attr_data_bytes(data), weights, count);
        if (!qc_mse_importance(weights, (int64_t)count, weights))
            return qc_pass_fail(pc, op,
                "%s: the mean squares of the inputs are not finite, negative or all zero", result_name(op));
        return QC_PASS_UNCHANGED;
    }
    if (!missing_is_one || !qc_op_is(source, "observe")) {
        qc_pass_remark(pc, op, "%s stays unresolved: nothing was calibrated", result_name(op));
        return QC_PASS_UNCHANGED;
    }
    qc_op_set_operand_named(op, "importance", NULL);
    erase_if_unused(source);
    qc_pass_remark(pc, op, "%s: searched without the importance of columns", result_name(op));
    qc_pass_count(pc, "searches left unweighted", 1);
    return QC_PASS_CHANGED;
}

/* ---- the pass ------------------------------------------------------------------------------------------ */

static qc_pass_result visit(qc_pass_ctx *pc, const qc_module *module, qc_op *op, bool missing_is_one)
{
    qc_scheme_part part;
    if (strcmp(qc_attr_as_text(qc_op_attr(op, "arg")), "weights") == 0)
        return check_importance(pc, op, missing_is_one);
    if (read_part(pc, module, op, &part) != QC_OK)
        return QC_PASS_FAILED;
    if (part.dynamic && !qc_op_is(op, "global_scale"))
        return QC_PASS_UNCHANGED;
    bool from_statistics = strcmp(qc_attr_as_text(qc_op_attr(op, "from")), "stat") == 0;
    qc_op *statistics = qc_value_op(qc_op_operand(op, data_slot(op)));
    qc_pass_result result = QC_PASS_UNCHANGED;
    numbers n;
    if (from_statistics && statistics && evaluate(pc, qc_op_operand(op, data_slot(op)), &n))
        result = resolve(pc, op, &part, &n);
    else if (missing_is_one)
        result = one(pc, op);
    else
        qc_pass_remark(pc, op, "%s stays unresolved: nothing was calibrated", result_name(op));
    if (result == QC_PASS_CHANGED && from_statistics)
        erase_if_unused(statistics);
    return result;
}

/* The groups of columns whose ranges were observed, once calibration took the observe away. */
static bool is_left_over(const qc_op *op)
{
    return qc_op_is(op, "split_heads") && qc_value_use_count(qc_op_result(op, 0)) == 0 &&
           !qc_quant_is_returned(qc_op_result(op, 0));
}

static bool is_mean(const qc_op *op)
{
    return qc_op_is(op, "observe") && strcmp(qc_attr_as_text(qc_op_attr(op, "observer")), "mean") == 0;
}

/* Without calibration, which would do it, experts get the tokens of the true routing back once nothing is observed. */
static qc_pass_result reset_rows(qc_op *op)
{
    const qc_value *rows = qc_op_result(op, 0);
    size_t slot;
    if (!qc_attr_as_bool(qc_op_attr(op, "all")))
        return QC_PASS_UNCHANGED;
    for (size_t i = 0; i < qc_value_use_count(rows); i++)
        if (qc_op_is(qc_value_use(rows, i, &slot), "observe"))
            return QC_PASS_UNCHANGED;
    return qc_experts_set_all(&op, false) ? QC_PASS_CHANGED : QC_PASS_FAILED;
}

static bool reset_all(qc_module *module, bool *changed)
{
    for (qc_func *func = qc_module_first_func(module); func; func = qc_func_next(func))
        for (qc_op *op = qc_func_first_op(func), *next; op; op = next) {
            next = qc_op_next(op);
            qc_pass_result result = qc_op_is(op, "expert_rows") ? reset_rows(op) : QC_PASS_UNCHANGED;
            if (result == QC_PASS_FAILED)
                return false;
            *changed |= result == QC_PASS_CHANGED;
            if (result == QC_PASS_CHANGED) /* all behind it was built again */
                next = qc_func_first_op(func);
        }
    return true;
}

static qc_pass_result run(qc_pass_ctx *pc, qc_module *module)
{
    bool missing_is_one = strcmp(qc_pass_option_text(pc, "missing"), "one") == 0, changed = false;
    for (qc_func *func = qc_module_first_func(module); func; func = qc_func_next(func))
        for (qc_op *op = qc_func_first_op(func), *next; op; op = next) {
            next = qc_op_next(op);
            if (is_left_over(op)) {
                qc_op_erase(op);
                changed = true;
                continue;
            }
            qc_pass_result result = QC_PASS_UNCHANGED;
            if (qc_quant_one_of(qc_op_name(op), "qparams|zero_point|global_scale"))
                result = visit(pc, module, op, missing_is_one);
            else if (is_mean(op))
                result = visit_mean(pc, op, missing_is_one);
            else if (qc_op_is(op, "quantize") && check_center(pc, op) != QC_OK)
                result = QC_PASS_FAILED;
            if (result == QC_PASS_FAILED)
                return result;
            changed |= result == QC_PASS_CHANGED;
        }
    if (missing_is_one && !reset_all(module, &changed))
        return QC_PASS_FAILED;
    return changed ? QC_PASS_CHANGED : QC_PASS_UNCHANGED;
}

void qc_pass_resolve_observers(qc_registry *registry)
{
    qc_pass *pass = qc_registry_add(registry, "resolve-observers", "Turn statistics into scales", run);
    qc_pass_set_licence(pass, QC_LICENCE_EXACT);
    qc_pass_set_description(pass, "Evaluates `qparams`, `zero_point` and `global_scale` of calibrated "
                                  "statistics in the arithmetic of the "
                                  "scheme. Statistics\nthat are not finite, empty or all zero are errors "
                                  "that name the module. Scales without "
                                  "statistics stay, with a remark, unless\n`missing=one` asks for 1.0 (zero "
                                  "points: 0; searches: unweighted).");
    qc_pass_add_option(pass, "missing", QC_OPTION_WORD, "keep", "keep|one",
        "what becomes of a scale that was not calibrated");
}
