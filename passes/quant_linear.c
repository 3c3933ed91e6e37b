/* SPDX-License-Identifier: MIT
 *
 * quant_linear.c - codes for the weights and the inputs of linears, by preset or part by part.
 *
 * The product itself stays in the model's element type: weight -> qparams -> quantize -> dequantize ->
 * linear, and the same for the input. A backend that multiplies codes must give the same numbers. Each linear
 * has a quantize of its own although several read one input: their scales are stored under their own names.
 */
#include <string.h>
#include <strings.h>

#include "passes/quant.h"
#include "passes/schemes.h"

void qc_pass_quant_linear(qc_registry *registry);

static const qc_scheme_preset presets[] = {
#define X(n, wt, wg, wo, it, ig, io, s) {#n, s, wt, wg, wo, it, ig, io},
#include "passes/schemes.def"
#undef X
};

/* The values of the option: every preset and none. */
static const char preset_words[] =
#define X(n, wt, wg, wo, it, ig, io, s) #n "|"
#include "passes/schemes.def"
#undef X
    "none";

const qc_scheme_preset *qc_scheme_preset_at(size_t index)
{
    return index < sizeof presets / sizeof presets[0] ? &presets[index] : NULL;
}

const qc_scheme_preset *qc_scheme_preset_find(const char *name)
{
    for (size_t i = 0; i < sizeof presets / sizeof presets[0]; i++)
        if (strcasecmp(name, presets[i].name) == 0)
            return &presets[i];
    return NULL;
}

/* ---- the parts of the scheme --------------------------------------------------------------------------- */

static const char *const part_keys[] = {"dynamic", "granularity", "observer", "symmetric", "type", NULL};

static const qc_attr *make_part(
    qc_ctx *ctx, const char *type, const char *granularity, const char *observer, bool dynamic)
{
    if (!type[0])
        return NULL;
    const qc_attr *values[] = {
        dynamic ? qc_attr_bool(ctx, true) : NULL,
        qc_attr_word(ctx, granularity),
        observer[0] ? qc_attr_word(ctx, observer) : NULL,
        qc_attr_bool(ctx, true),
        qc_attr_word(ctx, type),
    };
    return qc_quant_map(ctx, part_keys, values);
}

static bool one_of(const char *text, const char *words)
{
    size_t length = strlen(text);
    for (const char *at = words; length > 0 && at; at = strchr(at, '|')) {
        at += *at == '|';
        if (strncmp(at, text, length) == 0 && (at[length] == '|' || at[length] == '\0'))
            return true;
    }
    return false;
}

/* The part that the user wrote, checked and completed; *part stays NULL for an empty map. */
static qc_status read_part(qc_pass_ctx *pc, const char *option, const qc_attr **part)
{
    bool weights = strcmp(option, "weights") == 0;
    const qc_attr *map = qc_pass_option_attr(pc, option);
    const char *granularities = weights ? "tensor|channel" : "tensor|token";
    *part = NULL;
    if (qc_attr_count(map) == 0)
        return QC_OK;
    for (size_t i = 0; i < qc_attr_count(map); i++)
        if (!one_of(qc_attr_key(map, i), "dynamic|granularity|observer|symmetric|type")) {
            qc_pass_fail(pc, NULL, "%s: unknown field '%s'", option, qc_attr_key(map, i));
            return QC_ERROR;
        }
    const char *type = qc_attr_as_text(qc_attr_find(map, "type"));
    const char *granularity = qc_attr_as_text(qc_attr_find(map, "granularity"));
    const char *observer = qc_attr_as_text(qc_attr_find(map, "observer"));
    const qc_attr *symmetric = qc_attr_find(map, "symmetric");
    bool dynamic = qc_attr_as_bool(qc_attr_find(map, "dynamic"));
    const char *wrong = NULL;
    if (!one_of(type, "f8e4m3|f8e5m2"))
        wrong = "type is f8e4m3 or f8e5m2";
    else if (!one_of(granularity, granularities))
        wrong = weights ? "granularity is tensor or channel" : "granularity is tensor or token";
    else if (symmetric && !qc_attr_as_bool(symmetric))
        wrong = "FP8 codes are symmetric";
    else if (dynamic != (strcmp(granularity, "token") == 0))
        wrong = "granularity token, and no other, is dynamic";
    else if (observer[0] && (dynamic || !one_of(observer, "static_minmax|memoryless_minmax|minmax|unset")))
        wrong = dynamic ? "a dynamic part has no observer"
                        : "observer is static_minmax, memoryless_minmax, minmax or unset";
    if (wrong) {
        qc_pass_fail(pc, NULL, "%s: %s", option, wrong);
        return QC_ERROR;
    }
    if (!observer[0] && !dynamic)
        observer = weights ? "memoryless_minmax" : "static_minmax";
    *part = make_part(qc_pass_ctx_get(pc), type, granularity, observer, dynamic);
    return QC_OK;
}

static const char *make_symbol(
    qc_pass_ctx *pc, qc_module *module, const qc_attr *weights, const qc_attr *input)
{
    qc_ctx *ctx = qc_pass_ctx_get(pc);
    static const char *const keys[] = {"arith", "ignore", "input", "targets", "weights", NULL};
    const qc_attr *values[] = {
        qc_attr_word(ctx, qc_pass_option_text(pc, "arith")),
        qc_quant_list_option(pc, "ignore"),
        input,
        qc_pass_option_attr(pc, "targets"),
        weights,
    };
    return qc_quant_symbol(pc, module, "scheme", "group", 0, qc_quant_map(ctx, keys, values));
}

/* ---- the rewrite --------------------------------------------------------------------------------------- */

static bool is_dequantized(const qc_value *value)
{
    const qc_op *op = qc_value_op(value);
    return op && qc_op_is(op, "dequantize");
}

/* NULL when the linear is to be quantized. */
static const char *why_not(qc_pass_ctx *pc, const qc_op *op)
{
    const qc_value *x = qc_op_operand_named(op, "x"), *w = qc_op_operand_named(op, "w");
    if (!qc_op_node(op))
        return "it belongs to no module";
    if (qc_pass_option_matches(pc, "ignore", qc_op_node(op), false))
        return "the module is ignored or disabled";
    if (is_dequantized(x) || is_dequantized(w))
        return "it is quantized already";
    if (!qc_quant_is_plain(x) || !qc_quant_is_plain(w))
        return "its input or weight is neither bf16, f16 nor f32";
    return NULL;
}

static bool quantize_operand(
    qc_pass_ctx *pc, qc_op *op, const char *operand, const char *arg, const char *scheme)
{
    qc_value *value = qc_op_operand_named(op, operand), *scale;
    qc_builder *b = qc_builder_before(op);
    qc_value *codes = qc_quant_make(pc, b, value, scheme, arg, operand, &scale);
    qc_make(b, "dequantize");
    qc_make_operand(b, "x", codes);
    qc_make_operand(b, "scale", scale);
    qc_make_attr_word(b, "to", qc_dtype_name(qc_type_dtype(qc_value_type(value))));
    qc_value *again = qc_make_end(b, operand);
    if (!qc_builder_ok(b))
        return false;
    return qc_op_set_operand_named(op, operand, again);
}

static qc_pass_result quantize_all(
    qc_pass_ctx *pc, qc_module *module, const qc_attr *weights, const qc_attr *input)
{
    size_t linears = 0, matched = 0, taken = 0;
    const char *scheme = NULL, *why = NULL;
    for (qc_func *f = qc_module_first_func(module); f; f = qc_func_next(f))
        for (qc_op *op = qc_func_first_op(f); op; op = qc_op_next(op)) {
            if (!qc_op_is(op, "linear"))
                continue;
            linears++;
            if (!qc_pass_option_matches(pc, "targets", qc_op_node(op), false))
                continue;
            matched++;
            const char *reason = why_not(pc, op);
            if (reason) {
                why = reason;
                qc_pass_remark(pc, op, "linear left alone: %s", reason);
                continue;
            }
            if (!scheme)
                scheme = make_symbol(pc, module, weights, input);
            if ((weights && !quantize_operand(pc, op, "w", "weights", scheme)) ||
                (input && !quantize_operand(pc, op, "x", "input", scheme)))
                return QC_PASS_FAILED;
            taken++;
        }
    if (matched == 0)
        return linears == 0 ? qc_pass_fail(pc, NULL, "the model has no linear op to quantize")
                            : qc_pass_fail(pc, NULL, "targets select none of the %zu linears", linears);
    if (taken == 0)
        qc_ctx_warning(qc_pass_ctx_get(pc), qc_pass_ctx_name(pc),
            "none of the %zu linears that are asked for was quantized: %s", matched, why);
    qc_pass_count(pc, "linears quantized", (int64_t)taken);
    return taken > 0 ? QC_PASS_CHANGED : QC_PASS_UNCHANGED;
}

static qc_pass_result run(qc_pass_ctx *pc, qc_module *module)
{
    static const char *const patterns[] = {"targets", "ignore", NULL};
    const qc_scheme_preset *preset = qc_scheme_preset_find(qc_pass_option_text(pc, "scheme"));
    const qc_attr *weights = NULL, *input = NULL;
    if (qc_quant_check_patterns(pc, module, "linear", patterns) != QC_OK)
        return QC_PASS_FAILED;
    if (preset) {
        qc_ctx *ctx = qc_pass_ctx_get(pc);
        weights =
            make_part(ctx, preset->weight_type, preset->weight_granularity, preset->weight_observer, false);
        input = make_part(ctx, preset->input_type, preset->input_granularity, preset->input_observer,
            strcmp(preset->input_granularity, "token") == 0);
    }
    if (qc_pass_option_given(pc, "weights") && read_part(pc, "weights", &weights) != QC_OK)
        return QC_PASS_FAILED;
    if (qc_pass_option_given(pc, "input") && read_part(pc, "input", &input) != QC_OK)
        return QC_PASS_FAILED;
    if (!weights)
        return qc_pass_fail(pc, NULL, "nothing says how to quantize the weights: give scheme or weights");
    return quantize_all(pc, module, weights, input);
}

void qc_pass_quant_linear(qc_registry *registry)
{
    qc_pass *pass = qc_registry_add(registry, "quant-linear", "Quantize weights and inputs of linears", run);
    qc_pass_set_licence(pass, QC_LICENCE_LOSSY);
    qc_pass_set_description(pass, "Adds `scheme @group_N` and puts `qparams`, `quantize` and `dequantize` "
                                  "before the weight and the input of each "
                                  "selected\nlinear. `weights` and `input` are maps with `type` (f8e4m3, "
                                  "f8e5m2), `granularity` (tensor, channel for "
                                  "weights; tensor, token\nfor inputs), `observer` and `dynamic`; given, "
                                  "they replace that part of the preset, and an "
                                  "empty map leaves it out.");
    qc_pass_add_option(pass, "scheme", QC_OPTION_WORD, presets[0].name, preset_words,
        "the preset; none: only what weights and input say");
    qc_pass_add_option(
        pass, "weights", QC_OPTION_MAP, "{}", NULL, "the weights' part in place of the preset's");
    qc_pass_add_option(pass, "input", QC_OPTION_MAP, "{}", NULL, "the inputs' part in place of the preset's");
    qc_quant_add_options(pass, "[Linear]", "linears by class, path or re:PATTERN");
}
