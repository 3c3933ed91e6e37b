/* SPDX-License-Identifier: MIT
 *
 * acme_fp8_attn.c - a pass outside the compiler's tree: quant-fp8-attn again, from the installed headers
 * alone.
 *
 * It quantizes q, k and v of every attention op to FP8, with static scales: q where attention reads it, k and
 * v before the cache. docs/writing-a-pass.md walks through it. A test holds it to the built-in pass, byte for
 * byte.
 */
#include <string.h>

#include <qc/ops.h>
#include <qc/plugin.h>

/* May this op be quantized? The option `ignore` also answers for what --disable names. */
static bool is_eligible(qc_pass_ctx *pc, const qc_op *op)
{
    if (!qc_op_is(op, "attention"))
        return false;
    if (qc_pass_option_matches(pc, "ignore", qc_op_node(op), false)) {
        qc_pass_remark(pc, op, "attention left alone: the module is ignored or disabled");
        return false;
    }
    if (qc_op_operand_named(op, "q_scale") || qc_op_operand_named(op, "k_scale") ||
        qc_op_operand_named(op, "v_scale")) {
        qc_pass_remark(pc, op, "attention left alone: it is quantized already");
        return false;
    }
    return true;
}

/* The distinct classes of eligible attention modules, in tree order: what the scheme targets. */
static const qc_attr *target_classes(qc_pass_ctx *pc, const qc_module *module)
{
    const qc_attr *classes[64];
    size_t count = 0;
    for (const qc_node *node = qc_module_first_node(module); node; node = qc_node_next(node)) {
        bool has_attention = false, known = false;
        for (qc_op *op = qc_func_first_op(qc_module_first_func(module)); op; op = qc_op_next(op))
            has_attention |= qc_op_is(op, "attention") && qc_op_node(op) == node;
        for (size_t i = 0; i < count; i++)
            known |= strcmp(qc_attr_as_text(classes[i]), qc_node_class(node)) == 0;
        if (has_attention && !known && count < 64)
            classes[count++] = qc_attr_string(qc_pass_ctx_get(pc), qc_node_class(node));
    }
    return qc_attr_list(qc_pass_ctx_get(pc), classes, count);
}

/* scheme @attention: what was asked for, for exporters and for the arithmetic of the scales. */
static const char *add_scheme(qc_pass_ctx *pc, qc_module *module)
{
    qc_ctx *ctx = qc_pass_ctx_get(pc);
    bool e5m2 = strcmp(qc_pass_option_text(pc, "type"), "e5m2") == 0;
    const char *const input_keys[] = {"granularity", "observer", "symmetric", "type"};
    const qc_attr *const input[] = {
        qc_attr_word(ctx, qc_pass_option_text(pc, "granularity")),
        qc_attr_word(ctx, "static_minmax"),
        qc_attr_bool(ctx, true),
        qc_attr_word(ctx, e5m2 ? "f8e5m2" : "f8e4m3"),
    };
    const char *const keys[] = {"arith", "input", "targets", "ignore"};
    const qc_attr *const fields[] = {
        qc_attr_word(ctx, "ct_cpu"),
        qc_attr_map(ctx, input_keys, input, 4),
        target_classes(pc, module),
        qc_pass_option_attr(pc, "ignore"),
    };
    size_t count = qc_pass_option_count(pc, "ignore") > 0 ? 4 : 3;
    qc_symbol *symbol =
        qc_module_add_symbol(module, "scheme", "attention", qc_attr_map(ctx, keys, fields, count));
    return symbol ? qc_symbol_name(symbol) : NULL;
}

/* Codes for one operand of attention; its cache, if it has one, is made again over codes. */
static bool quantize_operand(
    qc_op *op, const char *operand, const char *scale_operand, const char *scheme, const char *const hints[2])
{
    qc_value *value = qc_op_operand_named(op, operand);
    qc_op *cache = qc_value_op(value);
    if (cache && !qc_op_is(cache, "cache_append"))
        cache = NULL;

    qc_builder *b = qc_builder_before(cache ? cache : op);
    qc_builder_set_node(b, qc_op_node(op));
    qc_value *x = cache ? qc_op_operand(cache, 0) : value;
    qc_value *scale = qc_build_qparams(b, x, NULL, NULL, scheme, "input", "data", 0, hints[0]);
    qc_value *codes = qc_build_quantize(b, x, scale, NULL, NULL, scheme, "input", hints[1]);
    if (!qc_builder_ok(b))
        return false; /* already reported */
    if (cache) {
        const qc_type *type = qc_type_with_dtype(qc_module_ctx(qc_func_module(qc_op_func(op))),
            qc_value_type(value), qc_type_dtype(qc_value_type(codes)));
        qc_builder_set_node(b, qc_op_node(cache));
        codes = qc_build_cache_append(
            b, codes, qc_attr_as_text(qc_op_attr(cache, "slot")), type, qc_value_hint(value));
    }
    qc_op_set_operand_named(op, operand, codes);
    qc_op_set_operand_named(op, scale_operand, scale);
    if (cache)
        qc_op_erase(cache);
    return qc_builder_ok(b);
}

static qc_pass_result run(qc_pass_ctx *pc, qc_module *module)
{
    static const char *const q[] = {"q_scale", "q_codes"}, *const k[] = {"k_scale", "k_codes"},
                             *const v[] = {"v_scale", "v_codes"};
    const char *scheme = NULL;
    for (qc_op *op = qc_func_first_op(qc_module_first_func(module)); op; op = qc_op_next(op)) {
        if (!is_eligible(pc, op))
            continue;
        if (!scheme)
            scheme = add_scheme(pc, module);
        if (!scheme)
            return qc_pass_fail(pc, op, "the module has a symbol @attention already");
        if (!quantize_operand(op, "q", "q_scale", scheme, q) ||
            !quantize_operand(op, "k", "k_scale", scheme, k) ||
            !quantize_operand(op, "v", "v_scale", scheme, v))
            return QC_PASS_FAILED;
        qc_pass_count(pc, "attention ops quantized", 1);
    }
    return scheme ? QC_PASS_CHANGED : QC_PASS_UNCHANGED;
}

QC_PLUGIN("acme-fp8-attn", "1.0")

qc_status qc_plugin_register(qc_ctx *ctx, qc_registry *registry)
{
    (void)ctx;
    qc_pass *pass =
        qc_registry_add(registry, "acme-fp8-attn", "Quantize attention to FP8, from a plug-in", run);
    if (!pass)
        return QC_ERROR;
    qc_pass_set_licence(pass, QC_LICENCE_LOSSY);
    qc_pass_add_option(
        pass, "granularity", QC_OPTION_WORD, "tensor", "tensor|head", "one scale a tensor or a head");
    qc_pass_add_option(pass, "type", QC_OPTION_WORD, "e4m3", "e4m3|e5m2", "the FP8 format of the codes");
    qc_pass_add_option(pass, "ignore", QC_OPTION_LIST, "[]", NULL, "modules to leave alone");
    return QC_OK;
}
