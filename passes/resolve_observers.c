/* SPDX-License-Identifier: MIT
 *
 * resolve_observers.c - statistics become scales: `qparams (const stat) {from = stat}` is evaluated to a
 * constant, in the arithmetic that the scheme names (ir/dtype/arith.h, the one home of the formula).
 *
 * Statistics that cannot be right stop the job: a range that is not finite, whose minimum is above its
 * maximum, or that is all zero, which no trained model gives and which would divide by nothing. The message
 * names module and scale. What is not calibrated stays, with a remark; with missing=one it gets the
 * scale 1.0.
 */
#include <math.h>
#include <string.h>

#include "ir/dtype/arith.h"
#include "ir/dtype/codec.h"
#include "qc/pass.h"

void qc_pass_resolve_observers(qc_registry *registry);

typedef struct part {
    const qc_arith *arith;
    qc_grid grid;
    bool is_static;
} part;

static qc_status read_part(qc_pass_ctx *pc, const qc_module *module, const qc_op *op, part *p)
{
    const char *name = qc_attr_as_text(qc_op_attr(op, "scheme"));
    const qc_attr *fields = qc_symbol_fields(qc_module_find_symbol(module, name));
    const qc_attr *input = qc_attr_find(fields, qc_attr_as_text(qc_op_attr(op, "arg")));
    const char *arith = qc_attr_as_text(qc_attr_find(fields, "arith"));
    const char *type = qc_attr_as_text(qc_attr_find(input, "type"));
    p->arith = qc_arith_find(arith, strlen(arith));
    p->grid = qc_grid_of(qc_dtype_from_name(type, strlen(type)));
    p->is_static = input && !qc_attr_as_bool(qc_attr_find(input, "dynamic"));
    const char *wrong = NULL;
    if (!p->arith)
        wrong = "its arithmetic is unknown";
    else if (p->grid.storage == QC_DTYPE_NONE)
        wrong = "its type has no codes";
    else if (p->is_static && !qc_attr_as_bool(qc_attr_find(input, "symmetric")))
        wrong = "static scales are symmetric, it is not";
    if (wrong)
        qc_pass_fail(pc, op, "@%s: %s", name, wrong);
    return wrong ? QC_ERROR : QC_OK;
}

static const char *scale_name(const qc_op *op)
{
    const char *hint = qc_value_hint(qc_op_result(op, 0));
    return hint ? hint : "the scale";
}

/* The constant in place of the op, which goes. */
static qc_pass_result replace(qc_pass_ctx *pc, qc_op *op, const float *scales, size_t count)
{
    qc_ctx *ctx = qc_pass_ctx_get(pc);
    qc_value *old = qc_op_result(op, 0);
    qc_dtype dtype = qc_type_dtype(qc_value_type(old));
    void *bytes = qc_pass_alloc(pc, count * sizeof(double));
    qc_encode_f32(dtype, scales, bytes, count);
    qc_builder *b = qc_builder_before(op);
    qc_make(b, "const");
    qc_make_attr(b, "value", qc_attr_data(ctx, dtype, bytes, count));
    qc_make_type(b, qc_value_type(old));
    qc_value *scale = qc_make_end(b, qc_value_hint(old));
    if (!qc_builder_ok(b))
        return QC_PASS_FAILED;
    qc_value_replace_all_uses(old, scale);
    qc_op_erase(op);
    return QC_PASS_CHANGED;
}

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

static qc_pass_result resolve(qc_pass_ctx *pc, qc_op *op, const part *p, const qc_attr *data)
{
    const qc_value *result = qc_op_result(op, 0);
    const char *hint = scale_name(op);
    qc_dtype dtype = qc_type_dtype(qc_value_type(result));
    size_t count = qc_attr_count(data) / 2;
    int64_t expected;
    if (!qc_type_static_count(qc_value_type(result), &expected) || (size_t)expected != count)
        return qc_pass_fail(pc, op, "%s: there are %zu ranges for the type %s", hint, count,
            qc_type_text(qc_pass_ctx_get(pc), qc_value_type(result)));
    float *ranges = qc_pass_alloc(pc, 2 * count * sizeof *ranges),
          *scales = qc_pass_alloc(pc, count * sizeof *scales);
    qc_decode_f32(qc_attr_data_dtype(data), qc_attr_data_bytes(data), ranges, 2 * count);
    for (size_t i = 0; i < count; i++) {
        float min = ranges[i], max = ranges[count + i], zero_point;
        const char *wrong = what_is_wrong(min, max);
        if (wrong && count > 1)
            return qc_pass_fail(pc, op, "%s: the statistics of head %zu are %s", hint, i, wrong);
        if (wrong)
            return qc_pass_fail(pc, op, "%s: the statistics are %s", hint, wrong);
        qc_arith_scale(p->arith, dtype, p->grid, true, min, max, &scales[i], &zero_point);
    }
    qc_pass_count(pc, "scales computed", 1);
    return replace(pc, op, scales, count);
}

static qc_pass_result one(qc_pass_ctx *pc, qc_op *op)
{
    int64_t count;
    if (!qc_type_static_count(qc_value_type(qc_op_result(op, 0)), &count) || count > 1024)
        return qc_pass_fail(pc, op, "a static scale has no static shape");
    float *scales = qc_pass_alloc(pc, (size_t)count * sizeof *scales);
    for (int64_t i = 0; i < count; i++)
        scales[i] = 1.0f;
    qc_pass_count(pc, "scales set to 1.0", 1);
    return replace(pc, op, scales, (size_t)count);
}

/* An observer or its constant, once nobody reads it. */
static void erase_if_unused(qc_op *op)
{
    if (op && (qc_op_is(op, "const") || qc_op_is(op, "observe")) &&
        qc_value_use_count(qc_op_result(op, 0)) == 0)
        qc_op_erase(op);
}

static qc_pass_result visit(qc_pass_ctx *pc, const qc_module *module, qc_op *op, bool missing_is_one)
{
    part p;
    if (read_part(pc, module, op, &p) != QC_OK)
        return QC_PASS_FAILED;
    if (!p.is_static || strcmp(qc_attr_as_text(qc_op_attr(op, "arg")), "input") != 0)
        return QC_PASS_UNCHANGED;
    bool from_statistics = strcmp(qc_attr_as_text(qc_op_attr(op, "from")), "stat") == 0;
    qc_op *statistics = qc_value_op(qc_op_operand(op, 0));
    qc_pass_result result = QC_PASS_UNCHANGED;
    if (from_statistics && statistics && qc_op_is(statistics, "const"))
        result = resolve(pc, op, &p, qc_op_attr(statistics, "value"));
    else if (missing_is_one)
        result = one(pc, op);
    else
        qc_pass_remark(pc, op, "%s stays unresolved: nothing was calibrated", scale_name(op));
    if (result == QC_PASS_CHANGED && from_statistics)
        erase_if_unused(statistics);
    return result;
}

static qc_pass_result run(qc_pass_ctx *pc, qc_module *module)
{
    bool missing_is_one = strcmp(qc_pass_option_text(pc, "missing"), "one") == 0, changed = false;
    for (qc_func *func = qc_module_first_func(module); func; func = qc_func_next(func))
        for (qc_op *op = qc_func_first_op(func), *next; op; op = next) {
            next = qc_op_next(op);
            if (!qc_op_is(op, "qparams"))
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
    qc_pass_set_description(pass, "Evaluates `qparams` of calibrated statistics in the arithmetic of the "
                                  "scheme. Statistics that are not finite, "
                                  "empty or all\nzero are errors that name the module. Scales without "
                                  "statistics stay, with a remark, unless "
                                  "`missing=one` asks for 1.0.");
    qc_pass_add_option(pass, "missing", QC_OPTION_WORD, "keep", "keep|one",
        "what becomes of a scale that was not calibrated");
}
