/* SPDX-License-Identifier: MIT
 *
 * lower_quant.c - codes and scales become operands of what stores and reads them: a `quantize` before a cache
 * is folded into `cache_write`, a `dequantize` before attention into attention's scales. No number changes:
 * both ops mean the ops that are folded into them. What cannot be folded stays, with a remark.
 */
#include <stdio.h>

#include "passes/lower.h"

void qc_pass_lower_quant(qc_registry *registry);

/* ---- before a cache ------------------------------------------------------------------------------------ */

static qc_pass_result fold_quantize(qc_pass_ctx *pc, qc_op *cache)
{
    qc_op *quantize = qc_lower_maker(qc_op_operand(cache, 0), "quantize", "quantize");
    if (!quantize)
        return QC_PASS_UNCHANGED;
    if (qc_op_operand_named(quantize, "zero_point")) {
        qc_pass_remark(
            pc, quantize, "quantize is not folded into %s: its codes have a zero point", qc_op_name(cache));
        return QC_PASS_UNCHANGED;
    }
    qc_value *old = qc_op_result(cache, 0);
    qc_builder *b = qc_builder_before(cache);
    qc_builder_set_node(b, qc_op_node(cache));
    qc_make(b, "cache_write");
    qc_lower_copy(b, quantize); /* x, scale, global; scheme, arg */
    static const char *const kept[] = {"slot", "layout", "page"};
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
        if (qc_op_attr_given(cache, kept[i]))
            qc_make_attr(b, kept[i], qc_op_attr(cache, kept[i]));
    qc_make_type(b, qc_value_type(old));
    qc_value *all = qc_make_end(b, qc_value_hint(old));
    if (!qc_builder_ok(b))
        return QC_PASS_FAILED;
    qc_value_replace_all_uses(old, all);
    qc_op_erase(cache);
    qc_lower_erase_unused(quantize);
    qc_pass_count(pc, "quantize folded into caches", 1);
    return QC_PASS_CHANGED;
}

/* ---- before attention ---------------------------------------------------------------------------------- */

/* Why a dequantize or cache_read cannot become scales of the attention that reads it; NULL when it can. It gives
 * the type of attention's `probs`, or attention could not read it. */
static const char *why_not(const qc_op *op, const qc_op *attention, const char *scale)
{
    if (qc_op_is(op, "dequantize") && qc_op_operand_named(op, "zero_point"))
        return "its codes have a zero point";
    return qc_op_operand_named(attention, scale) ? "the operand has a scale already" : NULL;
}

static bool fold_dequantize(qc_pass_ctx *pc, qc_op *attention, char part)
{
    char name[2] = {part}, scale[8], global[9], group[8];
    snprintf(scale, sizeof scale, "%c_scale", part);
    snprintf(global, sizeof global, "%c_global", part);
    snprintf(group, sizeof group, "%c_group", part);
    qc_op *op = qc_lower_maker(qc_op_operand_named(attention, name), "dequantize", "cache_read");
    if (!op || !qc_op_operand_named(op, "scale")) /* a cache_read may only cast */
        return false;
    const char *reason = why_not(op, attention, scale);
    if (reason) {
        qc_pass_remark(pc, op, "%s is not folded into attention: %s", qc_op_name(op), reason);
        return false;
    }
    qc_op_set_operand_named(attention, scale, qc_op_operand_named(op, "scale"));
    qc_op_set_operand_named(attention, global, qc_op_operand_named(op, "global"));
    if (qc_attr_as_int(qc_op_attr(op, "group")) != 0)
        qc_op_set_attr(attention, group, qc_op_attr(op, "group"));
    qc_op_set_operand_named(attention, name, qc_op_operand(op, 0));
    qc_lower_erase_unused(op);
    qc_pass_count(pc, "dequantize folded into attention", 1);
    return true;
}

/* What is left behind a cache is decoded for other readers. */
static void remark_reader(qc_pass_ctx *pc, const qc_op *op)
{
    size_t slot;
    const qc_value *value = qc_op_result(op, 0);
    if (!qc_op_is(op, "dequantize") || !qc_lower_maker(qc_op_operand(op, 0), "cache_append", "cache_write"))
        return;
    for (size_t i = 0; i < qc_value_use_count(value); i++) {
        const qc_op *reader = qc_value_use(value, i, &slot);
        if (!qc_lower_is_attention(reader)) {
            qc_pass_remark(pc, op, "dequantize is not folded: %s reads its result", qc_op_name(reader));
            return;
        }
    }
}

static qc_pass_result run(qc_pass_ctx *pc, qc_module *module)
{
    bool changed = false;
    for (qc_func *func = qc_module_first_func(module); func; func = qc_func_next(func)) {
        for (qc_op *op = qc_func_first_op(func), *next; op; op = next) {
            next = qc_op_next(op);
            if (qc_lower_is_cache(op)) {
                qc_pass_result one = fold_quantize(pc, op);
                if (one == QC_PASS_FAILED)
                    return QC_PASS_FAILED;
                changed |= one == QC_PASS_CHANGED;
            } else if (qc_lower_is_attention(op)) {
                for (const char *part = "qkv"; *part; part++)
                    changed |= fold_dequantize(pc, op, *part);
            }
        }
        for (const qc_op *op = qc_func_first_op(func); op; op = qc_op_next(op))
            remark_reader(pc, op);
    }
    return changed ? QC_PASS_CHANGED : QC_PASS_UNCHANGED;
}

void qc_pass_lower_quant(qc_registry *registry)
{
    qc_pass *pass = qc_registry_add(
        registry, "lower-quant", "Fold quantize into caches and dequantize into attention", run);
    qc_pass_set_licence(pass, QC_LICENCE_EXACT);
    qc_pass_set_description(pass,
        "`quantize` before a cache becomes the scheme and the scales of `cache_write`, `dequantize` "
        "(or `cache_read`) before attention\nbecomes attention's scales. Codes with zero points stay "
        "as they are, and what others read too stays for them; a remark says so.");
}
