/* SPDX-License-Identifier: MIT
 *
 * quant.c - selection and symbols of the quantizing passes (quant.h).
 */
#include "passes/quant.h"

#include <stdio.h>
#include <string.h>

void qc_quant_add_options(qc_pass *pass, const char *default_targets, const char *targets_help)
{
    qc_pass_add_option(pass, "targets", QC_OPTION_LIST, default_targets, NULL, targets_help);
    qc_pass_add_option(
        pass, "ignore", QC_OPTION_LIST, "[]", NULL, "modules to leave alone: class, path or re:PATTERN");
    qc_pass_add_option(pass, "arith", QC_OPTION_WORD, "ct_cpu", QC_ARITH_WORDS,
        "whose arithmetic scales and codes reproduce");
}

/* Does the pattern name a module that has an op of this name? */
static bool names_any(const qc_module *module, const char *op_name, const char *pattern)
{
    for (const qc_func *f = qc_module_first_func(module); f; f = qc_func_next(f))
        for (const qc_op *op = qc_func_first_op(f); op; op = qc_op_next(op))
            if (qc_op_is(op, op_name) && qc_op_node(op) && qc_node_matches(qc_op_node(op), pattern))
                return true;
    return false;
}

qc_status qc_quant_check_patterns(
    qc_pass_ctx *pc, const qc_module *module, const char *op_name, const char *const *options)
{
    qc_ctx *ctx = qc_pass_ctx_get(pc);
    for (; *options; options++)
        for (size_t i = 0; i < qc_pass_option_count(pc, *options); i++) {
            const char *pattern = qc_pass_option_item(pc, *options, i);
            if (qc_target_check(ctx, pattern) != QC_OK)
                return QC_ERROR;
            if (strcmp(*options, "ignore") == 0 && !names_any(module, op_name, pattern))
                qc_ctx_warning(ctx, qc_pass_ctx_name(pc), "ignore: '%s' names no module with %s", pattern,
                    strcmp(op_name, "attention") == 0 ? "attention" : "a linear");
        }
    return QC_OK;
}

const qc_attr *qc_quant_map(qc_ctx *ctx, const char *const *keys, const qc_attr *const *values)
{
    const char *kept_keys[16];
    const qc_attr *kept[16];
    size_t count = 0;
    for (size_t i = 0; keys[i] && count < 16; i++)
        if (values[i]) {
            kept_keys[count] = keys[i];
            kept[count++] = values[i];
        }
    return qc_attr_map(ctx, kept_keys, kept, count);
}

const qc_attr *qc_quant_list_option(qc_pass_ctx *pc, const char *name)
{
    return qc_pass_option_count(pc, name) > 0 ? qc_pass_option_attr(pc, name) : NULL;
}

const char *qc_quant_symbol(
    qc_pass_ctx *pc, qc_module *module, const char *kind, const char *base, int number, const qc_attr *fields)
{
    size_t size = strlen(base) + 16;
    char *name = qc_pass_alloc(pc, size);
    for (int i = number < 0 ? 0 : number; i < INT32_MAX; i++) {
        if (i == 0 && number < 0)
            snprintf(name, size, "%s", base);
        else
            snprintf(name, size, "%s_%d", base, i);
        qc_symbol *symbol = qc_module_find_symbol(module, name);
        if (!symbol)
            return qc_symbol_name(qc_module_add_symbol(module, kind, name, fields));
        if (strcmp(qc_symbol_kind(symbol), kind) == 0 && qc_attr_equal(qc_symbol_fields(symbol), fields))
            return qc_symbol_name(symbol);
    }
    return NULL;
}

bool qc_quant_is_plain(const qc_value *value)
{
    qc_dtype dtype = qc_type_dtype(qc_value_type(value));
    return dtype == QC_BF16 || dtype == QC_F16 || dtype == QC_F32;
}

bool qc_quant_is_returned(const qc_value *value)
{
    const qc_op *op = qc_value_op(value);
    const qc_func *func = op ? qc_op_func(op) : NULL;
    for (size_t i = 0; func && i < qc_func_result_count(func); i++)
        if (qc_func_result(func, i) == value)
            return true;
    return false;
}

qc_value *qc_quant_make(qc_pass_ctx *pc, qc_builder *b, qc_value *x, const char *scheme, const char *arg,
    const char *prefix, qc_value **scale)
{
    size_t size = strlen(prefix) + 16;
    char *hint = qc_pass_alloc(pc, size);
    qc_make(b, "qparams");
    qc_make_operand(b, "x", x);
    qc_make_attr_symbol(b, "scheme", scheme);
    qc_make_attr_word(b, "arg", arg);
    snprintf(hint, size, "%s_scale", prefix);
    *scale = qc_make_end(b, hint);
    qc_make(b, "quantize");
    qc_make_operand(b, "x", x);
    qc_make_operand(b, "scale", *scale);
    qc_make_attr_symbol(b, "scheme", scheme);
    qc_make_attr_word(b, "arg", arg);
    snprintf(hint, size, "%s_codes", prefix);
    return qc_make_end(b, hint);
}
