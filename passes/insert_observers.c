/* SPDX-License-Identifier: MIT
 *
 * insert_observers.c - static scales come from statistics: `qparams x` becomes `qparams (observe x) {from =
 * stat}`.
 *
 * A tap is named after where the codes go: ATTENTION.q, .k or .v, LINEAR.input; "@R3" behind it says that the
 * value was rotated, so that statistics with and without rotation never stand for each other. Dynamic parts
 * and weights need no data.
 */
#include <stdio.h>
#include <string.h>

#include "qc/pass.h"

void qc_pass_insert_observers(qc_registry *registry);

/* The first op that reads the value, with the slot's name. */
static const qc_op *reader(const qc_value *value, const char **operand)
{
    size_t slot;
    if (qc_value_use_count(value) == 0)
        return NULL;
    const qc_op *op = qc_value_use(value, 0, &slot);
    *operand = qc_op_operand_name(op, slot);
    return op;
}

/* The quantize that takes its codes under this scale. */
static const qc_op *quantize_under(const qc_value *scale)
{
    size_t slot;
    for (size_t i = 0; i < qc_value_use_count(scale); i++) {
        const qc_op *op = qc_value_use(scale, i, &slot);
        if (qc_op_is(op, "quantize"))
            return op;
    }
    return NULL;
}

/* "model.layers.0.self_attn.q"; NULL when the codes reach neither attention nor a linear. */
static const char *tap_name(qc_pass_ctx *pc, const qc_op *qparams)
{
    const qc_op *op = quantize_under(qc_op_result(qparams, 0)),
                *from = qc_value_op(qc_op_operand(qparams, 0));
    const char *operand = NULL;
    while (op && (qc_op_is(op, "quantize") || qc_op_is(op, "cache_append") || qc_op_is(op, "dequantize")))
        op = reader(qc_op_result(op, 0), &operand);
    bool attention = op && qc_op_is(op, "attention");
    if (!op || !qc_op_node(op) || !(attention || qc_op_is(op, "linear")))
        return NULL;
    const char *path = qc_node_path(qc_op_node(op)), *suffix = attention ? operand : "input";
    bool rotated = attention && from && qc_op_is(from, "hadamard");
    size_t size = strlen(path) + strlen(suffix) + 8;
    char *tap = qc_pass_alloc(pc, size);
    snprintf(tap, size, "%s%s%s%s", path, path[0] ? "." : "", suffix, rotated ? "@R3" : "");
    return tap;
}

/* The part of the scheme that asks for a static scale of data; NULL when none does. */
static const qc_attr *static_part(const qc_module *module, const qc_op *op)
{
    if (!qc_op_is(op, "qparams") || strcmp(qc_attr_as_text(qc_op_attr(op, "from")), "data") != 0 ||
        strcmp(qc_attr_as_text(qc_op_attr(op, "arg")), "input") != 0)
        return NULL;
    const qc_symbol *symbol = qc_module_find_symbol(module, qc_attr_as_text(qc_op_attr(op, "scheme")));
    const qc_attr *part = symbol ? qc_attr_find(qc_symbol_fields(symbol), "input") : NULL;
    return part && !qc_attr_as_bool(qc_attr_find(part, "dynamic")) ? part : NULL;
}

static bool tap_is_taken(const qc_func *func, const qc_op *until, const char *tap)
{
    for (const qc_op *op = qc_func_first_op(func); op && op != until; op = qc_op_next(op))
        if (qc_op_is(op, "observe") && strcmp(qc_attr_as_text(qc_op_attr(op, "tap")), tap) == 0)
            return true;
    return false;
}

static qc_pass_result observe(qc_pass_ctx *pc, qc_op *op, const qc_attr *part)
{
    const char *granularity = qc_attr_as_text(qc_attr_find(part, "granularity"));
    const char *observer = qc_attr_as_text(qc_attr_find(part, "observer")), *tap = tap_name(pc, op);
    if (!tap)
        return qc_pass_fail(
            pc, op, "a static scale belongs to codes that reach neither attention nor a linear");
    if (tap_is_taken(qc_op_func(op), op, tap))
        return qc_pass_fail(pc, op, "two values would be observed under the name '%s'", tap);
    if (strcmp(granularity, "tensor") != 0 && strcmp(granularity, "head") != 0)
        return qc_pass_fail(
            pc, op, "%s: static scales are one a tensor or one a head, not '%s'", tap, granularity);
    qc_builder *b = qc_builder_before(op);
    qc_make(b, "observe");
    qc_make_operand(b, "x", qc_op_operand(op, 0));
    qc_make_attr_string(b, "tap", tap);
    qc_make_attr_word(b, "granularity", granularity);
    /* What names no observer is folded as minmax. */
    qc_make_attr_word(b, "observer", !observer[0] || strcmp(observer, "unset") == 0 ? "minmax" : observer);
    qc_value *statistics = qc_make_end(b, "stat");
    if (!qc_builder_ok(b))
        return QC_PASS_FAILED;
    qc_op_set_operand(op, 0, statistics);
    qc_op_set_attr(op, "from", qc_attr_word(qc_pass_ctx_get(pc), "stat"));
    qc_pass_count(pc, "observers inserted", 1);
    return QC_PASS_CHANGED;
}

static qc_pass_result run(qc_pass_ctx *pc, qc_module *module)
{
    qc_pass_result result = QC_PASS_UNCHANGED;
    for (qc_func *func = qc_module_first_func(module); func; func = qc_func_next(func))
        for (qc_op *op = qc_func_first_op(func); op; op = qc_op_next(op)) {
            const qc_attr *part = static_part(module, op);
            if (!part)
                continue;
            result = observe(pc, op, part);
            if (result == QC_PASS_FAILED)
                return result;
        }
    return result;
}

void qc_pass_insert_observers(qc_registry *registry)
{
    qc_pass *pass =
        qc_registry_add(registry, "insert-observers", "Observe the values whose scales are static", run);
    qc_pass_set_licence(pass, QC_LICENCE_EXACT);
    qc_pass_set_description(pass, "Puts `observe` before every `qparams` of a static part, under a name that "
                                  "says where the codes go: `<attention "
                                  "module>.q`,\n`.k`, `.v`, `<linear module>.input`; rotated q and k end in "
                                  "`@R3`. Dynamic scales and weights need no "
                                  "data and stay.");
}
