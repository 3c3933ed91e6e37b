/* SPDX-License-Identifier: MIT
 *
 * insert_r4.c - the rotation R4 of SpinQuant (Liu et al., 2024) and QuaRot (Ashkboos et al., 2024): what the last linear
 * of an MLP reads, times an orthonormal matrix M at run time, and W M in its weight: (x M)(W M)^T = x W^T.
 */
#include "passes/experts.h"
#include "passes/rotate.h"

void qc_pass_insert_r4(qc_registry *registry);

/* The linears that add an MLP's outcome to the residual stream, of experts too: they read a product or an activation. */
static bool ends_mlp(const qc_residual *residual, const qc_op *linear)
{
    const qc_op *from = qc_value_op(qc_op_operand(linear, 0));
    bool writes = false;
    for (size_t i = 0; i < residual->writers.count && !writes; i++)
        writes = residual->writers.items[i] == linear;
    return writes && from && (qc_op_is_elementwise(from) || qc_op_is(from, "hadamard"));
}

static bool is_target(qc_pass_ctx *pc, const qc_residual *residual, const qc_op *op, bool *wrong)
{
    if (!qc_is_linear(op))
        return false;
    if (qc_pass_option_count(pc, "targets"))
        return qc_linear_is_target(pc, op, wrong);
    qc_selected ignored = qc_linear_selected(pc, "ignore", op, false);
    bool target = ignored != QC_SELECTED_ALL && ends_mlp(residual, op);
    if (target && ignored == QC_SELECTED_SOME) {
        qc_pass_fail(
            pc, op, "ignore names some of the experts: those of a layer are rotated alike, all or none");
        *wrong = true;
    }
    return target && !*wrong;
}

static qc_status rotate(qc_pass_ctx *pc, qc_op *linear, const qc_rotation *r)
{
    qc_builder *b = qc_builder_before(linear);
    qc_value *x = qc_op_operand(linear, 0);
    if (!qc_quant_is_plain(x)) {
        qc_pass_fail(
            pc, linear, "it reads codes already: the rotation must come before the quantizing passes");
        return QC_ERROR;
    }
    qc_value *rotated = qc_rotate_value(b, r, x, false, -1, false, "x");
    if (!qc_builder_ok(b))
        return QC_ERROR;
    qc_op_set_operand(linear, 0, rotated);
    return qc_rotate_columns(pc, linear, r);
}

static qc_pass_result rotate_all(
    qc_pass_ctx *pc, qc_module *module, const qc_residual *residual, qc_arena *arena)
{
    qc_op_list rotated = {0};
    qc_rotation r = {0};
    int64_t width = 0;
    for (qc_func *func = qc_module_first_func(module); func; func = qc_func_next(func))
        for (qc_op *op = qc_func_first_op(func); op; op = qc_op_next(op)) {
            int64_t size = r.size;
            bool wrong = false, target = is_target(pc, residual, op, &wrong);
            if (wrong)
                return QC_PASS_FAILED;
            if (!target)
                continue;
            qc_dim_as_int(qc_type_dim(qc_value_type(qc_op_operand(op, 0)), -1), &width);
            if (qc_rotate_read(pc, op, "R4", width, "the input size of this linear", &r) != QC_OK)
                return QC_PASS_FAILED;
            r.f64 = qc_pass_option_text(pc, "compute")[1] == '6';
            if (size && size != r.size)
                return qc_pass_fail(pc, op, "it has another input size than those before: give `size`");
            if (rotate(pc, op, &r) != QC_OK)
                return QC_PASS_FAILED;
            QC_PUSH(arena, &rotated, op);
        }
    if (rotated.count == 0)
        return qc_pass_fail(pc, NULL,
            "no linear adds an MLP's outcome to the residual stream: `targets` can name those to rotate");
    const qc_rotate_use uses[] = {{.location = "input", .ops = {&rotated}},
        {.location = "weight_input", .inverse = true, .ops = {&rotated}}};
    qc_rotate_symbol(pc, module, &r, r.size < width, false, uses, 2);
    qc_pass_count(pc, "inputs of linears rotated", (int64_t)rotated.count);
    return QC_PASS_CHANGED;
}

static qc_pass_result run(qc_pass_ctx *pc, qc_module *module)
{
    static const char *const patterns[] = {"targets", "ignore", NULL};
    qc_residual residual;
    qc_arena arena;
    if (qc_quant_need_graph(pc, module, "MLP to rotate") != QC_OK ||
        qc_quant_check_patterns(pc, module, "linear|expert_linear", patterns) != QC_OK ||
        qc_rotate_need_new(pc, module, "R4") != QC_OK)
        return QC_PASS_FAILED;
    qc_residual_find(&residual, module);
    qc_arena_init(&arena, qc_ctx_arena(qc_pass_ctx_get(pc))->oom);
    qc_pass_result result = rotate_all(pc, module, &residual, &arena);
    qc_arena_fini(&arena);
    qc_residual_fini(&residual);
    return result;
}

void qc_pass_insert_r4(qc_registry *registry)
{
    qc_pass *pass =
        qc_registry_add(registry, "insert-r4", "Rotate what the last linear of each MLP reads", run);
    qc_pass_set_licence(pass, QC_LICENCE_LOSSY);
    qc_pass_set_description(pass,
        "The online rotation R4 of SpinQuant (Liu et al., 2024) and QuaRot (Ashkboos et al., 2024): "
        "`hadamard` before "
        "down_proj, its inverse in the weight, and `transform @R4`.\nWithout `targets` these are the linears "
        "that "
        "add to the residual stream and read an elementwise op, those of experts too.\nvLLM executes it on "
        "one device.");
    qc_rotate_add_options(
        pass, "size of the matrix; less than the input size: blocks of it; 0: the input size");
    qc_rotate_add_compute(pass);
    qc_pass_add_option(
        pass, "targets", QC_OPTION_LIST, "[]", NULL, "linears; empty means the last of each MLP");
    qc_pass_add_option(pass, "ignore", QC_OPTION_LIST, "[]", NULL, "modules to leave alone");
}
