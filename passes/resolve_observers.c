/* SPDX-License-Identifier: MIT
 *
 * resolve_observers.c - statistics become scales: `qparams (const stat) {from = stat}` is evaluated to a
 * constant, in the arithmetic that the scheme names (ir/dtype/quantizer.h, the one home of the formula), and so are zero
 * points and global scales of inputs.
 *
 * Statistics that cannot be right stop the job: a range that is not finite, whose minimum is above its
 * maximum, or that is all zero, which no trained model gives and which would divide by nothing. The message
 * names module and scale. What is not calibrated stays, with a remark; with missing=one it gets the
 * scale 1.0 and the zero point 0, and searches that were to weigh columns go unweighted.
 */
#include <math.h>
#include <string.h>

#include "ir/ctx.h"
#include "ir/dtype/codec.h"
#include "ir/scheme.h"
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

/* ---- ranges -------------------------------------------------------------------------------------------- */

/* Statistics [2, count]: all minima, then all maxima. */
typedef struct ranges {
    qc_dtype dtype; /* the model's */
    size_t count;
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

/* A group of columns may be zero throughout, a whole tensor or a head may not. */
static qc_status check_ranges(qc_pass_ctx *pc, const qc_op *op, const ranges *r)
{
    bool groups = qc_op_is(op, "global_scale"), zero = true;
    for (size_t i = 0; i < r->count; i++) {
        const char *wrong = what_is_wrong(r->mins[i], r->maxs[i]);
        zero = zero && r->mins[i] == 0.0f && r->maxs[i] == 0.0f;
        if (!wrong || (groups && strcmp(wrong, "all zero") == 0))
            continue;
        if (r->count > 1)
            qc_pass_fail(pc, op, "%s: the statistics of %s %zu are %s", result_name(op),
                groups ? "group" : "head", i, wrong);
        else
            qc_pass_fail(pc, op, "%s: the statistics are %s", result_name(op), wrong);
        return QC_ERROR;
    }
    if (groups && zero) {
        qc_pass_fail(pc, op, "%s: the statistics are all zero", result_name(op));
        return QC_ERROR;
    }
    return QC_OK;
}

static ranges read_ranges(qc_pass_ctx *pc, const qc_attr *data)
{
    size_t count = qc_attr_count(data) / 2;
    float *numbers = qc_pass_alloc(pc, 2 * count * sizeof *numbers);
    qc_decode_f32(qc_attr_data_dtype(data), qc_attr_data_bytes(data), numbers, 2 * count);
    return (ranges){qc_attr_data_dtype(data), count, numbers, numbers + count};
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

static qc_pass_result resolve(qc_pass_ctx *pc, qc_op *op, const qc_scheme_part *part, const qc_attr *data)
{
    const qc_value *result = qc_op_result(op, 0);
    const ranges r = read_ranges(pc, data);
    const qc_quantizer q = qc_scheme_quantizer(part, r.dtype);
    bool global = qc_op_is(op, "global_scale"), zero_point = qc_op_is(op, "zero_point");
    int64_t expected;
    if (!global && (!qc_type_static_count(qc_value_type(result), &expected) || (size_t)expected != r.count))
        return qc_pass_fail(pc, op, "%s: there are %zu ranges for the type %s", result_name(op), r.count,
            qc_type_text(qc_pass_ctx_get(pc), qc_value_type(result)));
    if (check_ranges(pc, op, &r) != QC_OK)
        return QC_PASS_FAILED;
    if (global) {
        float amax = 0.0f;
        for (size_t i = 0; i < r.count; i++)
            amax = fmaxf(amax, fmaxf(-r.mins[i], r.maxs[i]));
        const float scale = qc_quantizer_global(&q, amax);
        if (check_scale(pc, op, scale) != QC_OK)
            return QC_PASS_FAILED;
        qc_pass_count(pc, "global scales computed", 1);
        return replace(pc, op, &scale, 1);
    }
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
    if (!qc_type_static_count(qc_value_type(qc_op_result(op, 0)), &count) || count > 1024)
        return qc_pass_fail(pc, op, "a static scale has no static shape");
    float *values = qc_pass_alloc(pc, (size_t)count * sizeof *values);
    bool zero_point = qc_op_is(op, "zero_point");
    for (int64_t i = 0; i < count; i++)
        values[i] = zero_point ? 0.0f : 1.0f;
    qc_pass_count(pc, zero_point ? "zero points set to 0" : "scales set to 1.0", 1);
    return replace(pc, op, values, (size_t)count);
}

/* An observer, its constant, or what it was given, once nobody reads it. */
static void erase_if_unused(qc_op *op)
{
    while (op && (qc_op_is(op, "const") || qc_op_is(op, "observe") || qc_op_is(op, "split_heads")) &&
           qc_value_use_count(qc_op_result(op, 0)) == 0 && !qc_quant_is_returned(qc_op_result(op, 0))) {
        qc_op *source = qc_op_is(op, "observe") ? qc_value_op(qc_op_operand(op, 0)) : NULL;
        qc_op_erase(op);
        op = source;
    }
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
    if (from_statistics && statistics && qc_op_is(statistics, "const"))
        result = resolve(pc, op, &part, qc_op_attr(statistics, "value"));
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
            if (!qc_quant_one_of(qc_op_name(op), "qparams|zero_point|global_scale"))
                continue;
            qc_pass_result result = visit(pc, module, op, missing_is_one);
            if (result == QC_PASS_FAILED)
                return result;
            changed |= result == QC_PASS_CHANGED;
        }
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
