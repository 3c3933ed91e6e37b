/* SPDX-License-Identifier: MIT
 *
 * calibrate_all_experts.c - which tokens calibration shows to each expert: all, or those that the router sends there. An expert that few tokens of the data come to gets a scale out of few values, or none; with all
 * tokens its statistics are complete. What a layer gives stays that of the true routing: `expert_combine` leaves out
 * the rows that no router asked for, and calibration drops the attribute when it is done.
 *
 * Layers where no scale of an expert's input comes of data keep their rows: more of them would cost time for nothing.
 */
#include <string.h>

#include "passes/experts.h"
#include "passes/quant.h"

void qc_pass_calibrate_all_experts(qc_registry *registry);

/* Does a scale of the value's codes come of data, or will it? */
static bool is_observed(const qc_value *x)
{
    static const char *const scales[] = {"scale", "global", "zero_point"};
    const qc_op *op = qc_value_op(x);
    if (op && qc_op_is(op, "dequantize"))
        op = qc_value_op(qc_op_operand_named(op, "x"));
    for (size_t i = 0; op && qc_op_is(op, "quantize") && i < sizeof scales / sizeof scales[0]; i++) {
        const qc_value *scale = qc_op_operand_named(op, scales[i]);
        const qc_op *from = scale ? qc_value_op(scale) : NULL;
        if (from && qc_op_is(from, "expert_param"))
            from = qc_value_op(qc_op_operand_named(from, "p"));
        if (from && qc_quant_needs_data(from))
            return true;
    }
    return false;
}

/* Is something of the experts that work on these rows observed? */
static bool needs_rows(const qc_op *rows)
{
    const qc_value *value = qc_op_result(rows, 0);
    size_t slot;
    for (size_t i = 0; i < qc_value_use_count(value); i++) {
        const qc_op *op = qc_value_use(value, i, &slot);
        if (qc_op_is(op, "expert_linear") && is_observed(qc_op_operand_named(op, "x")))
            return true;
    }
    return false;
}

/* An attribute that has its default is not written. */
static bool set(qc_op *op, const char *name, const qc_attr *value)
{
    if (qc_attr_equal(qc_op_attr(op, name), value))
        return false;
    qc_op_set_attr(op, name, NULL);
    if (!qc_attr_equal(qc_op_attr(op, name), value))
        qc_op_set_attr(op, name, value);
    return true;
}

static bool set_rows(qc_pass_ctx *pc, qc_op **op, bool *changed)
{
    bool all = strcmp(qc_pass_option_text(pc, "mode"), "all") == 0;
    *changed |= qc_attr_as_bool(qc_op_attr(*op, "all")) != all;
    *changed |= set(*op, "min_tokens", qc_pass_option_attr(pc, "min_tokens"));
    *changed |= set(*op, "fallback", qc_pass_option_attr(pc, "fallback"));
    return qc_experts_set_all(op, all);
}

static qc_pass_result run(qc_pass_ctx *pc, qc_module *module)
{
    bool changed = false;
    if (qc_pass_option_int(pc, "min_tokens") < 1)
        return qc_pass_fail(pc, NULL, "min_tokens is a number of tokens, at least 1");
    for (qc_func *f = qc_module_first_func(module); f; f = qc_func_next(f))
        for (qc_op *op = qc_func_first_op(f); op; op = qc_op_next(op)) {
            if (!qc_op_is(op, "expert_rows"))
                continue;
            if (!needs_rows(op)) {
                qc_pass_remark(
                    pc, op, "experts left with their own tokens: no scale of theirs comes of data");
                continue;
            }
            if (!set_rows(pc, &op, &changed))
                return QC_PASS_FAILED;
            qc_pass_count(pc, "layers of experts calibrated", 1);
        }
    return changed ? QC_PASS_CHANGED : QC_PASS_UNCHANGED;
}

void qc_pass_calibrate_all_experts(qc_registry *registry)
{
    qc_pass *pass = qc_registry_add(
        registry, "calibrate-all-experts", "Choose the tokens that calibration shows to each expert", run);
    qc_pass_set_licence(pass, QC_LICENCE_EXACT);
    qc_pass_set_description(pass,
        "`all`: each expert sees all tokens of the data, while a layer gives what the true routing gives; "
        "the cost is that of all experts\nfor every token. `routed`: the tokens that come to it. Experts "
        "that saw fewer than `min_tokens` are an error that names them, or get\nwhat `fallback` says. It "
        "comes before `insert-observers`, and `calibrate` takes the true routing back. Layers where no scale "
        "comes of\ndata stay as they are.");
    qc_pass_add_option(pass, "mode", QC_OPTION_WORD, "all", "all|routed",
        "all tokens, or those that are routed to an expert");
    qc_pass_add_option(pass, "min_tokens", QC_OPTION_INT, "1", NULL, "tokens that an expert must have seen");
    qc_pass_add_option(pass, "fallback", QC_OPTION_WORD, "refuse", "refuse|layer|weights",
        "of experts that saw fewer: an error, the widest range of the others of the layer, or the largest "
        "absolute value of the expert's weights (as ModelOpt)");
}
