/* SPDX-License-Identifier: MIT
 *
 * fold_r2.c - the rotation R2 of SpinQuant (Liu et al., 2024): values times an orthonormal matrix in every head, folded
 * into the projection that makes them and into the one behind attention. Attention mixes tokens, not elements of a
 * head, so its result is rotated as its values are; under GQA every query head sees the same rotation.
 */
#include "passes/rotate.h"

void qc_pass_fold_r2(qc_registry *registry);

/* The linear that makes the values, NULL when something other than shape and cache is in between or others read
 * them. */
static qc_op *value_projection(const qc_op *attention)
{
    const qc_value *v = qc_op_operand_named(attention, "v");
    const qc_op *cache = qc_quant_cache_of(v);
    if (cache) {
        if (qc_value_use_count(v) != 1 || qc_quant_is_returned(v))
            return NULL;
        v = qc_op_operand(cache, 0);
    }
    const qc_op *split = qc_value_op(v);
    if (!split || !qc_op_is(split, "split_heads") || qc_value_use_count(v) != 1)
        return NULL;
    const qc_value *y = qc_op_operand(split, 0);
    qc_op *linear = qc_value_op(y);
    return linear && qc_op_is(linear, "linear") && qc_rotate_reader(y, "split_heads", true) ? linear : NULL;
}

/* Are the values cut out of what a linear gives: of q, k and v in one (Phi-3), or of keys and values of each head (MLA)? */
static bool is_sliced(const qc_op *attention)
{
    const qc_value *v = qc_op_operand_named(attention, "v");
    const qc_op *cache = qc_quant_cache_of(v), *op = qc_value_op(cache ? qc_op_operand(cache, 0) : v);
    if (op && qc_op_is(op, "split_heads"))
        op = qc_value_op(qc_op_operand(op, 0));
    return op && qc_op_is(op, "slice");
}

/* The linears that read what attention gives. */
static bool output_projections(const qc_op *attention, const qc_value **merged)
{
    const qc_op *merge = qc_rotate_reader(qc_op_result(attention, 0), "merge_heads", true);
    *merged = merge ? qc_op_result(merge, 0) : NULL;
    return merge && qc_rotate_reader(*merged, "linear", false);
}

static qc_status rotate_attention(
    qc_pass_ctx *pc, qc_op *op, qc_arena *arena, qc_op_list *inputs, qc_op_list *outputs, qc_rotation *r)
{
    int64_t dim = 0;
    const qc_value *merged;
    size_t slot;
    qc_dim_as_int(qc_type_dim(qc_value_type(qc_op_operand_named(op, "v")), -1), &dim);
    if (qc_rotate_read(pc, op, "R2", dim, "the head dimension", r) != QC_OK)
        return QC_ERROR;
    r->f64 = true;
    qc_op *projection = value_projection(op);
    if (!projection || !output_projections(op, &merged)) {
        qc_pass_fail(pc, op, "%s",
            projection
                ? "what it gives is read by others than linears behind merge_heads, and cannot be rotated"
            : is_sliced(op)
                ? "its values are a part of what a linear gives, and such parts are not rotated alone"
                : "its values do not come straight from a linear, or are read by others too");
        return QC_ERROR;
    }
    if (qc_rotate_rows(pc, projection, r) != QC_OK)
        return QC_ERROR;
    QC_PUSH(arena, inputs, projection);
    for (size_t i = 0; i < qc_value_use_count(merged); i++) {
        qc_op *output = qc_value_use(merged, i, &slot);
        if (qc_rotate_columns(pc, output, r) != QC_OK)
            return QC_ERROR;
        QC_PUSH(arena, outputs, output);
    }
    return QC_OK;
}

static qc_pass_result rotate_all(qc_pass_ctx *pc, qc_module *module, qc_arena *arena)
{
    qc_op_list inputs = {0}, outputs = {0};
    qc_rotation r = {0};
    int64_t dim = 0;
    for (qc_func *func = qc_module_first_func(module); func; func = qc_func_next(func))
        for (qc_op *op = qc_func_first_op(func); op; op = qc_op_next(op)) {
            qc_rotation before = r;
            if (!qc_op_is(op, "attention"))
                continue;
            if (rotate_attention(pc, op, arena, &inputs, &outputs, &r) != QC_OK)
                return QC_PASS_FAILED;
            if (before.size && before.size != r.size)
                return qc_pass_fail(pc, op, "its heads have another size than those before: give `size`");
            qc_dim_as_int(qc_type_dim(qc_value_type(qc_op_result(op, 0)), -1), &dim);
        }
    if (inputs.count == 0)
        return qc_pass_fail(pc, NULL, "there is no attention whose values could be rotated");
    const qc_rotate_use uses[] = {
        {.location = "weight_output", .ops = {&inputs}},
        {.location = "weight_input", .inverse = true, .ops = {&outputs}},
    };
    qc_rotate_symbol(pc, module, &r, r.size < dim, true, uses, 2);
    return QC_PASS_CHANGED;
}

static qc_pass_result run(qc_pass_ctx *pc, qc_module *module)
{
    qc_arena arena;
    if (qc_quant_need_graph(pc, module, "attention to rotate") != QC_OK ||
        qc_rotate_need_new(pc, module, "R2") != QC_OK)
        return QC_PASS_FAILED;
    qc_arena_init(&arena, qc_ctx_arena(qc_pass_ctx_get(pc))->oom);
    qc_pass_result result = rotate_all(pc, module, &arena);
    qc_arena_fini(&arena);
    return result;
}

void qc_pass_fold_r2(qc_registry *registry)
{
    qc_pass *pass = qc_registry_add(registry, "fold-r2",
        "Rotate the values of attention by heads, folded into the weights around it", run);
    qc_pass_set_licence(pass, QC_LICENCE_LOSSY);
    qc_pass_set_description(pass,
        "The rotation R2 of SpinQuant (Liu et al., 2024): rows of v_proj and its bias by key-value heads, "
        "columns of "
        "o_proj by query heads.\nThe projections are found in the graph, on both sides of each `attention`; "
        "nothing "
        "is left to do at run time. Weights are computed in f64 and rounded to their type.");
    qc_rotate_add_options(
        pass, "size of the matrix; less than the head dimension: blocks of it; 0: the head dimension");
}
