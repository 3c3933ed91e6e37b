/* SPDX-License-Identifier: MIT
 *
 * insert_r3.c - the rotation R3 of SpinQuant (Liu et al., 2024): queries and keys times the same normalised
 * Hadamard matrix behind RoPE. It spreads outliers over a head before the codes are taken; (q H)(k H)^T = q
 * k^T because H is orthonormal, so without quantization nothing changes but rounding. Keys are rotated before
 * the cache.
 */
#include "passes/quant.h"

void qc_pass_insert_r3(qc_registry *registry);

static qc_op *cache_of(const qc_value *value)
{
    qc_op *op = qc_value_op(value);
    return op && qc_op_is(op, "cache_append") ? op : NULL;
}

/* What is rotated: the value that the cache or attention reads. */
static qc_value *rotated_value(const qc_op *op, const char *part)
{
    qc_value *value = qc_op_operand_named(op, part);
    const qc_op *cache = cache_of(value);
    return cache && part[0] == 'k' ? qc_op_operand(cache, 0) : value;
}

static bool is_rotated(const qc_op *op)
{
    const qc_op *from = qc_value_op(rotated_value(op, "q"));
    return from && qc_op_is(from, "hadamard");
}

static int64_t head_dim(const qc_op *op)
{
    int64_t size;
    return qc_dim_as_int(qc_type_dim(qc_value_type(qc_op_operand_named(op, "q")), -1), &size) ? size : 0;
}

static bool insert(qc_op *op, const char *part, int64_t size)
{
    qc_value *value = rotated_value(op, part);
    qc_op *cache = part[0] == 'k' ? cache_of(qc_op_operand_named(op, part)) : NULL;
    qc_builder *b = qc_builder_before(cache ? cache : op);
    qc_builder_set_node(b, qc_op_node(op));
    qc_make(b, "hadamard");
    qc_make_operand(b, "x", value);
    qc_make_attr_int(b, "size", size);
    qc_value *rotated = qc_make_end(b, part);
    if (!qc_builder_ok(b))
        return false;
    if (cache)
        qc_op_set_operand(cache, 0, rotated);
    else
        qc_op_set_operand_named(op, part, rotated);
    return true;
}

/* Is the op to be rotated, by blocks of *size? QC_PASS_CHANGED: yes. */
static qc_pass_result check(qc_pass_ctx *pc, const qc_op *op, int64_t *size)
{
    const qc_value *k = qc_op_operand_named(op, "k");
    int64_t wanted = qc_pass_option_int(pc, "size"), dim = head_dim(op);
    *size = wanted == 0 ? dim : wanted;
    if (qc_pass_option_matches(pc, "ignore", qc_op_node(op), false) ||
        !qc_pass_option_matches(pc, "targets", qc_op_node(op), true)) {
        qc_pass_remark(pc, op, "attention left alone: not a target, ignored or disabled");
        return QC_PASS_UNCHANGED;
    }
    if (is_rotated(op)) {
        qc_pass_remark(pc, op, "attention left alone: its queries are rotated already");
        return QC_PASS_UNCHANGED;
    }
    if (!qc_quant_is_plain(qc_op_operand_named(op, "q")) || !qc_quant_is_plain(k))
        return qc_pass_fail(
            pc, op, "q or k holds codes already: the rotation must come before the quantizing passes");
    if (*size < 2 || (*size & (*size - 1)) != 0)
        return qc_pass_fail(pc, op,
            "a Hadamard matrix of size %lld is not made: the size must be a power of two", (long long)*size);
    if (dim % *size != 0)
        return qc_pass_fail(
            pc, op, "size %lld does not divide the head dimension %lld", (long long)*size, (long long)dim);
    if (cache_of(k) && (qc_value_use_count(k) != 1 || qc_quant_is_returned(k)))
        return qc_pass_fail(pc, op, "the key cache is read by others too, which would see rotated keys");
    return QC_PASS_CHANGED;
}

static const char *add_symbol(qc_pass_ctx *pc, qc_module *module, int64_t size)
{
    qc_ctx *ctx = qc_pass_ctx_get(pc);
    static const char *const keys[] = {"ignore", "size", "targets", "type", NULL};
    const qc_attr *values[] = {
        qc_quant_list_option(pc, "ignore"),
        qc_attr_int(ctx, size),
        qc_quant_list_option(pc, "targets"),
        qc_attr_word(ctx, "hadamard"),
    };
    return qc_quant_symbol(pc, module, "transform", "R3", -1, qc_quant_map(ctx, keys, values));
}

static qc_pass_result run(qc_pass_ctx *pc, qc_module *module)
{
    static const char *const patterns[] = {"targets", "ignore", NULL};
    qc_pass_result result = QC_PASS_UNCHANGED;
    int64_t size;
    if (qc_quant_need_graph(pc, module, "attention to rotate") != QC_OK ||
        qc_quant_check_patterns(pc, module, "attention", patterns) != QC_OK)
        return QC_PASS_FAILED;
    for (qc_func *func = qc_module_first_func(module); func; func = qc_func_next(func))
        for (qc_op *op = qc_func_first_op(func); op; op = qc_op_next(op)) {
            if (!qc_op_is(op, "attention"))
                continue;
            qc_pass_result one = check(pc, op, &size);
            if (one == QC_PASS_FAILED ||
                (one == QC_PASS_CHANGED && (!insert(op, "q", size) || !insert(op, "k", size))))
                return QC_PASS_FAILED;
            if (one == QC_PASS_UNCHANGED)
                continue;
            add_symbol(pc, module, size);
            qc_pass_count(pc, "attention ops rotated", 1);
            result = QC_PASS_CHANGED;
        }
    if (result == QC_PASS_CHANGED)
        qc_pass_remark(
            pc, NULL, "vLLM does not execute this rotation: qc-run does, a checkpoint cannot say it");
    return result;
}

void qc_pass_insert_r3(qc_registry *registry)
{
    qc_pass *pass = qc_registry_add(
        registry, "insert-r3", "Rotate queries and keys by a Hadamard matrix behind RoPE", run);
    qc_pass_set_licence(pass, QC_LICENCE_REASSOCIATES);
    qc_pass_set_description(pass, "The online rotation R3 of SpinQuant: `hadamard` for q before attention "
                                  "and for k before the cache, and "
                                  "`transform @R3`.\nIt comes before the quantizing passes, which then "
                                  "quantize rotated values. vLLM does not execute "
                                  "it, so no checkpoint is written with it; qc-run runs it.");
    qc_pass_add_option(
        pass, "size", QC_OPTION_INT, "0", NULL, "block size, a power of two; 0: the head dimension");
    qc_pass_add_option(pass, "targets", QC_OPTION_LIST, "[]", NULL, "attention modules; empty means all");
    qc_pass_add_option(pass, "ignore", QC_OPTION_LIST, "[]", NULL, "modules to leave alone");
}
