/* SPDX-License-Identifier: MIT
 *
 * lower_attention.c - `attention` becomes `quantized_attention`, whose kernels read caches as they lie; everything
 * else that reads a cache gets its values through `cache_read`. No number changes.
 */
#include <string.h>

#include "passes/lower.h"

void qc_pass_lower_attention(qc_registry *registry);

static qc_value *replace(qc_builder *b, qc_op *old)
{
    qc_value *value = qc_make_end(b, qc_value_hint(qc_op_result(old, 0)));
    if (!qc_builder_ok(b))
        return NULL;
    qc_value_replace_all_uses(qc_op_result(old, 0), value);
    qc_op_erase(old);
    return value;
}

static bool lower_attention(qc_op *attention)
{
    qc_builder *b = qc_builder_before(attention);
    qc_builder_set_node(b, qc_op_node(attention));
    qc_make(b, "quantized_attention");
    qc_lower_copy(b, attention);
    return replace(b, attention) != NULL;
}

/* dequantize or cast of a cache. */
static bool lower_reader(qc_op *reader)
{
    qc_builder *b = qc_builder_before(reader);
    qc_builder_set_node(b, qc_op_node(reader));
    qc_make(b, "cache_read");
    qc_lower_copy(b, reader); /* x, scale, global; to, group */
    return replace(b, reader) != NULL;
}

/* Operand `slot` of any other op: the values as they are. */
static bool read_values(qc_op *reader, size_t slot)
{
    qc_value *cache = qc_op_operand(reader, slot);
    qc_builder *b = qc_builder_before(reader);
    qc_builder_set_node(b, qc_op_node(qc_value_op(cache)));
    qc_make(b, "cache_read");
    qc_make_operand(b, "x", cache);
    qc_make_attr_word(b, "to", qc_dtype_name(qc_type_dtype(qc_value_type(cache))));
    qc_value *values = qc_make_end(b, qc_value_hint(cache));
    if (!qc_builder_ok(b))
        return false;
    qc_op_set_operand(reader, slot, values);
    return true;
}

static bool gives_floats(const qc_op *op)
{
    const char *to = qc_attr_as_text(qc_op_attr(op, "to"));
    return qc_dtype_is_float(qc_dtype_from_name(to, strlen(to)));
}

/* Readers that cache_read stands for: dequantize of what it knows, cast. */
static bool is_plain_reader(const qc_op *op)
{
    if (qc_op_is(op, "cast"))
        return gives_floats(op);
    return qc_op_is(op, "dequantize") && !qc_op_operand_named(op, "zero_point");
}

static qc_pass_result visit_reader(qc_pass_ctx *pc, qc_op *op)
{
    qc_pass_result result = QC_PASS_UNCHANGED;
    bool plain = is_plain_reader(op);
    for (size_t i = 0; i < qc_op_operand_count(op); i++) {
        const qc_value *value = qc_op_operand(op, i);
        if (!qc_lower_maker(value, "cache_append", "cache_write") || (i > 0 && plain))
            continue; /* its scales may come out of a cache */
        if (plain)
            return lower_reader(op) ? QC_PASS_CHANGED : QC_PASS_FAILED;
        if (qc_dtype_is_float(qc_type_dtype(qc_value_type(value)))) {
            if (!read_values(op, i))
                return QC_PASS_FAILED;
            result = QC_PASS_CHANGED;
        } else {
            qc_pass_remark(pc, op,
                "%s reads the codes of a cache as they are, which cache_read does not give", qc_op_name(op));
        }
    }
    return result;
}

static qc_pass_result run(qc_pass_ctx *pc, qc_module *module)
{
    qc_pass_result result = QC_PASS_UNCHANGED;
    for (qc_func *func = qc_module_first_func(module); func; func = qc_func_next(func))
        for (qc_op *op = qc_func_first_op(func), *next; op; op = next) {
            next = qc_op_next(op);
            qc_pass_result one = QC_PASS_UNCHANGED;
            if (qc_op_is(op, "attention"))
                one = lower_attention(op) ? QC_PASS_CHANGED : QC_PASS_FAILED;
            else if (!qc_op_is(op, "quantized_attention") && !qc_op_is(op, "cache_read"))
                one = visit_reader(pc, op);
            if (one == QC_PASS_FAILED)
                return QC_PASS_FAILED;
            if (one == QC_PASS_CHANGED) {
                qc_pass_count(pc, "readers of caches lowered", 1);
                result = QC_PASS_CHANGED;
            }
        }
    return result;
}

void qc_pass_lower_attention(qc_registry *registry)
{
    qc_pass *pass = qc_registry_add(registry, "lower-attention",
        "Let attention read caches as they lie, and everything else through cache_read", run);
    qc_pass_set_licence(pass, QC_LICENCE_EXACT);
    qc_pass_set_description(pass,
        "`attention` becomes `quantized_attention`; `dequantize` and `cast` of a cache become `cache_read`, "
        "other ops get "
        "one before them.\nCodes that something else reads as they are stay as they are; a remark says so.");
}
