/* SPDX-License-Identifier: MIT
 *
 * fold_r3.c - the rotation R3 of SpinQuant (Liu et al., 2024) and QuaRot (Ashkboos et al., 2024): queries and keys times
 * the same orthonormal matrix M behind RoPE. It spreads outliers over a head before the codes are taken;
 * (q M)(k M)^T = q k^T, so without quantization nothing changes but rounding. Keys are rotated before the cache.
 *
 * RoPE turns pairs of elements by angles that differ between tokens and does not commute with M, nor do the norms of q
 * and k: there the rotation stays an op, also where RoPE turns a part of a head. Where a projection, and factors that a
 * token's whole head has in common, are all that comes before attention, its weight takes it (the layers of Llama 4
 * without RoPE). Keys and values of latent attention (MLA) are rotated behind the latent, which a cache may hold instead.
 */
#include "passes/rotate.h"

void qc_pass_fold_r3(qc_registry *registry);

/* What is rotated: the value that the cache or attention reads. */
static qc_value *rotated_value(const qc_op *op, const char *part)
{
    qc_value *value = qc_op_operand_named(op, part);
    const qc_op *cache = qc_quant_cache_of(value);
    return cache && part[0] == 'k' ? qc_op_operand(cache, 0) : value;
}

static int64_t head_dim(const qc_op *op)
{
    int64_t size;
    return qc_dim_as_int(qc_type_dim(qc_value_type(qc_op_operand_named(op, "q")), -1), &size) ? size : 0;
}

/* The linear that alone makes the value, and makes nothing else. Factors a token (the temperature of layers without RoPE)
 * and casts commute with the rotation. */
static qc_op *projection_of(const qc_value *value)
{
    const qc_op *op = qc_value_op(value);
    while (op && qc_value_use_count(value) == 1 && !qc_quant_is_returned(value)) {
        const qc_value *scaled = qc_quant_scaled(op);
        if (!scaled && !qc_op_is(op, "cast"))
            break;
        value = scaled ? scaled : qc_op_operand(op, 0);
        op = qc_value_op(value);
    }
    if (!op || !qc_op_is(op, "split_heads") || qc_value_use_count(value) != 1 || qc_quant_is_returned(value))
        return NULL;
    const qc_value *y = qc_op_operand(op, 0);
    qc_op *linear = qc_value_op(y);
    return linear && qc_op_is(linear, "linear") && qc_rotate_reader(y, "split_heads", true) ? linear : NULL;
}

static qc_status rotate(qc_pass_ctx *pc, qc_op *op, const char *part, const qc_rotation *r, bool *online)
{
    qc_value *value = rotated_value(op, part);
    qc_op *cache = part[0] == 'k' ? qc_quant_cache_of(qc_op_operand_named(op, part)) : NULL;
    qc_op *projection = projection_of(value);
    if (projection)
        return qc_rotate_rows(pc, projection, r);
    qc_builder *b = qc_builder_before(cache ? cache : op);
    qc_builder_set_node(b, qc_op_node(op));
    qc_value *rotated = qc_rotate_value(b, r, value, false, -1, false, part);
    if (!qc_builder_ok(b))
        return QC_ERROR;
    if (cache)
        qc_op_set_operand(cache, 0, rotated);
    else
        qc_op_set_operand_named(op, part, rotated);
    *online = true;
    return QC_OK;
}

/* Is the op to be rotated? QC_PASS_CHANGED: yes, by *r. */
static qc_pass_result check(qc_pass_ctx *pc, const qc_op *op, qc_rotation *r)
{
    const qc_value *k = qc_op_operand_named(op, "k");
    if (qc_pass_option_matches(pc, "ignore", qc_op_node(op), false) ||
        !qc_pass_option_matches(pc, "targets", qc_op_node(op), true)) {
        qc_pass_remark(pc, op, "attention left alone: not a target, ignored or disabled");
        return QC_PASS_UNCHANGED;
    }
    if (!qc_quant_is_plain(qc_op_operand_named(op, "q")) || !qc_quant_is_plain(k))
        return qc_pass_fail(
            pc, op, "q or k holds codes already: the rotation must come before the quantizing passes");
    if (qc_rotate_read(pc, op, "R3", head_dim(op), "the head dimension", r) != QC_OK)
        return QC_PASS_FAILED;
    r->f64 = qc_pass_option_text(pc, "compute")[1] == '6';
    if (qc_rotate_is_rotated(r, rotated_value(op, "q"), false)) {
        qc_pass_remark(pc, op, "attention left alone: its queries are rotated already");
        return QC_PASS_UNCHANGED;
    }
    if (qc_quant_cache_of(k) && (qc_value_use_count(k) != 1 || qc_quant_is_returned(k)))
        return qc_pass_fail(pc, op, "the key cache is read by others too, which would see rotated keys");
    return QC_PASS_CHANGED;
}

/* Rotates all attention ops; what is left for run time is listed in *online, all of one size. */
static qc_pass_result rotate_all(
    qc_pass_ctx *pc, qc_module *module, qc_arena *arena, qc_op_list *online, qc_rotation *r, bool *block)
{
    qc_pass_result result = QC_PASS_UNCHANGED;
    for (qc_func *func = qc_module_first_func(module); func; func = qc_func_next(func))
        for (qc_op *op = qc_func_first_op(func); op; op = qc_op_next(op)) {
            qc_rotation own;
            bool runs = false;
            if (!qc_op_is(op, "attention"))
                continue;
            qc_pass_result one = check(pc, op, &own);
            if (one == QC_PASS_CHANGED && online->count && own.size != r->size)
                return qc_pass_fail(pc, op, "its heads have another size than those before: give `size`");
            if (one == QC_PASS_FAILED ||
                (one == QC_PASS_CHANGED &&
                    (rotate(pc, op, "q", &own, &runs) != QC_OK || rotate(pc, op, "k", &own, &runs) != QC_OK)))
                return QC_PASS_FAILED;
            if (one == QC_PASS_UNCHANGED)
                continue;
            if (runs) {
                QC_PUSH(arena, online, op);
                *r = own;
                *block = own.size < head_dim(op);
            }
            qc_pass_count(pc, runs ? "attention ops rotated" : "attention ops rotated by their weights", 1);
            result = QC_PASS_CHANGED;
        }
    return result;
}

static qc_pass_result run(qc_pass_ctx *pc, qc_module *module)
{
    static const char *const patterns[] = {"targets", "ignore", NULL};
    qc_op_list online = {0};
    qc_rotation r = {0};
    qc_arena arena;
    bool block = false;
    if (qc_quant_need_graph(pc, module, "attention to rotate") != QC_OK ||
        qc_quant_check_patterns(pc, module, "attention", patterns) != QC_OK)
        return QC_PASS_FAILED;
    qc_arena_init(&arena, qc_ctx_arena(qc_pass_ctx_get(pc))->oom);
    qc_pass_result result = rotate_all(pc, module, &arena, &online, &r, &block);
    if (result == QC_PASS_CHANGED && online.count) {
        const qc_rotate_use uses[] = {
            {.location = "q_attn", .ops = {&online}}, {.location = "k_cache", .ops = {&online}}};
        qc_rotate_symbol(pc, module, &r, block, true, uses, 2);
        qc_pass_remark(pc, NULL, "vLLM does not execute this rotation; qc-run does");
    }
    qc_arena_fini(&arena);
    return result;
}

void qc_pass_fold_r3(qc_registry *registry)
{
    qc_pass *pass =
        qc_registry_add(registry, "fold-r3", "Rotate queries and keys by heads, behind RoPE", run);
    qc_pass_set_licence(pass, QC_LICENCE_REASSOCIATES);
    qc_pass_set_description(pass,
        "The online rotation R3 of SpinQuant (Liu et al., 2024) and QuaRot (Ashkboos et al., 2024): "
        "`hadamard` for q "
        "before attention and for k before the cache, and `transform @R3`.\nA pair that cancels is taken "
        "away, and "
        "where neither RoPE nor a norm comes between, the projections' weights are rotated instead (layers "
        "of "
        "Llama 4 without RoPE).\nIt "
        "comes before "
        "the quantizing passes, which then quantize rotated values. vLLM does not execute it; qc-run does.");
    qc_rotate_add_options(
        pass, "size of the matrix; less than the head dimension: blocks of it; 0: the head dimension");
    qc_rotate_add_compute(pass);
    qc_pass_add_option(pass, "targets", QC_OPTION_LIST, "[]", NULL, "attention modules; empty means all");
    qc_pass_add_option(pass, "ignore", QC_OPTION_LIST, "[]", NULL, "modules to leave alone");
}
