/* SPDX-License-Identifier: MIT
 *
 * insert_quip.c - the rotations of QuIP (Chee et al., 2023) and QuIP# (Tseng et al., 2024) with Hadamard matrices: linears
 * whose input (v) or output (u) is rotated at run time, and their weight the other way, which makes weights incoherent.
 *   v: (x M)(W M)^T = x W^T        u: (x (M^T W)^T) M^T = x W^T
 */
#include <string.h>

#include "passes/experts.h"
#include "passes/rotate.h"

void qc_pass_insert_quip(qc_registry *registry);

/* x rotated once for all linears that read it. */
static qc_value *rotated_once(qc_builder *b, const qc_op *linear, const qc_rotation *r, qc_value *x)
{
    size_t slot;
    for (size_t i = 0; i < qc_value_use_count(x); i++) {
        const qc_op *use = qc_value_use(x, i, &slot);
        if (qc_op_is(use, "hadamard") && qc_attr_as_int(qc_op_attr(use, "size")) == r->size &&
            strcmp(qc_attr_as_text(qc_op_attr(use, "matrix")), r->matrix) == 0 &&
            !qc_attr_as_bool(qc_op_attr(use, "inverse")) && qc_attr_as_int(qc_op_attr(use, "axis")) == -1 &&
            qc_attr_as_int(qc_op_attr(use, "drawn")) == r->drawn &&
            (strcmp(qc_attr_as_text(qc_op_attr(use, "compute")), "f64") == 0) == r->f64 &&
            qc_quant_comes_before(use, linear))
            return qc_op_result(use, 0);
    }
    return qc_rotate_value(b, r, x, false, -1, false, "x");
}

static qc_status rotate_input(qc_pass_ctx *pc, qc_op *linear, const qc_rotation *r)
{
    qc_builder *b = qc_builder_before(linear);
    qc_value *rotated = rotated_once(b, linear, r, qc_op_operand(linear, 0));
    if (!qc_builder_ok(b))
        return QC_ERROR;
    qc_op_set_operand(linear, 0, rotated);
    return qc_rotate_columns(pc, linear, r);
}

static qc_status rotate_output(qc_pass_ctx *pc, qc_op *linear, const qc_rotation *r)
{
    if (qc_rotate_rows(pc, linear, r) != QC_OK)
        return QC_ERROR;
    qc_value *y = qc_op_result(linear, 0);
    qc_builder *b = qc_builder_after(linear);
    qc_value *back = qc_rotate_value(b, r, y, true, -1, false, qc_value_hint(y));
    if (!qc_builder_ok(b))
        return QC_ERROR;
    qc_value_replace_all_uses(y, back);
    qc_op_set_operand(qc_value_op(back), 0, y);
    return QC_OK;
}

/* Matrices of one transform share a generator of signs: those of a size come behind those of the sizes before it, in the
 * order of the modules. */
enum { MOST_SIZES = 64 };
typedef struct sign_order {
    int64_t sizes[MOST_SIZES];
    int count;
} sign_order;

static bool draw_signs(sign_order *order, qc_rotation *r)
{
    if (strcmp(r->matrix, "random_hadamard") != 0)
        return true;
    r->drawn = 0;
    for (int i = 0; i < order->count; i++) {
        if (order->sizes[i] == r->size)
            return true;
        r->drawn += order->sizes[i];
    }
    if (order->count == MOST_SIZES)
        return false;
    order->sizes[order->count++] = r->size;
    return true;
}

/* One of the two, for all linears. */
static qc_pass_result rotate_all(qc_pass_ctx *pc, qc_module *module, bool input)
{
    int64_t count = 0;
    qc_rotation r = {0};
    sign_order order = {.count = 0};
    bool block = false;
    const char *name = input ? "v" : "u";
    if (qc_rotate_need_new(pc, module, name) != QC_OK)
        return QC_PASS_FAILED;
    for (qc_func *func = qc_module_first_func(module); func; func = qc_func_next(func))
        for (qc_op *op = qc_func_first_op(func); op; op = qc_op_next(op)) {
            int64_t width = 0;
            bool wrong = false, target = qc_is_linear(op) && qc_linear_is_target(pc, op, &wrong);
            if (wrong)
                return QC_PASS_FAILED;
            if (!target)
                continue;
            if (qc_linear_is_router(op))
                return qc_pass_fail(pc, op, "targets name a router, which stays as it is: ignore it");
            const qc_value *side = input ? qc_op_operand(op, 0) : qc_op_result(op, 0);
            qc_dim_as_int(qc_type_dim(qc_value_type(side), -1), &width);
            if (qc_rotate_read(pc, op, name, width,
                    input ? "the input size of this linear" : "the output size of this linear", &r) != QC_OK)
                return QC_PASS_FAILED;
            if (!qc_quant_is_plain(qc_op_operand(op, 0)))
                return qc_pass_fail(
                    pc, op, "it reads codes already: rotations must come before the quantizing passes");
            r.f64 = qc_pass_option_text(pc, "compute")[1] == '6';
            if (!draw_signs(&order, &r))
                return qc_pass_fail(pc, op, "more than %d sizes of matrices: give `size`", MOST_SIZES);
            block |= r.size < width;
            if ((input ? rotate_input(pc, op, &r) : rotate_output(pc, op, &r)) != QC_OK)
                return QC_PASS_FAILED;
            count += qc_linear_experts(op) ? qc_linear_experts(op) : 1;
        }
    if (count == 0)
        return qc_pass_fail(
            pc, NULL, "no linear is left to rotate: `targets` names none that `ignore` does not");
    r.size = qc_pass_option_int(pc, "size");
    const qc_attr *targets = qc_pass_option_attr(pc, "targets"), *ignore = qc_quant_list_option(pc, "ignore");
    const qc_rotate_use online = {
        .location = input ? "input" : "output", .inverse = !input, .targets = targets, .ignore = ignore};
    const qc_rotate_use fold = {.location = input ? "weight_input" : "weight_output",
        .inverse = input,
        .targets = targets,
        .ignore = ignore};
    const qc_rotate_use uses[] = {input ? online : fold, input ? fold : online};
    qc_rotate_symbol(pc, module, &r, block, false, uses, 2);
    qc_pass_count(pc, input ? "inputs of linears rotated" : "outputs of linears rotated", count);
    return QC_PASS_CHANGED;
}

static qc_pass_result run(qc_pass_ctx *pc, qc_module *module)
{
    static const char *const patterns[] = {"targets", "ignore", NULL};
    size_t count = qc_pass_option_count(pc, "rotations");
    bool wanted[2] = {false, false};
    if (qc_quant_need_graph(pc, module, "linear to rotate") != QC_OK ||
        qc_quant_check_patterns(pc, module, "linear|expert_linear", patterns) != QC_OK)
        return QC_PASS_FAILED;
    for (size_t i = 0; i < count; i++) {
        const char *word = qc_pass_option_item(pc, "rotations", i);
        if (strcmp(word, "v") != 0 && strcmp(word, "u") != 0)
            return qc_pass_fail(pc, NULL, "rotations: '%s' is neither v nor u", word);
        wanted[word[0] == 'u'] = true;
    }
    if (count == 0)
        return qc_pass_fail(pc, NULL, "rotations: name v, u or both");
    for (int i = 0; i < 2; i++)
        if (wanted[i] && rotate_all(pc, module, i == 0) == QC_PASS_FAILED)
            return QC_PASS_FAILED;
    return QC_PASS_CHANGED;
}

void qc_pass_insert_quip(qc_registry *registry)
{
    qc_pass *pass = qc_registry_add(
        registry, "insert-quip", "Rotate what linears read or give, and their weights back", run);
    qc_pass_set_licence(pass, QC_LICENCE_LOSSY);
    qc_pass_set_description(pass,
        "The rotations of QuIP# (Tseng et al., 2024) as QuIPModifier has them: v before a "
        "linear, u "
        "behind it, each at run time and, the other way, in the weight.\nLinears that read the same value "
        "share one "
        "`hadamard`. Signs of a size are drawn behind those of the sizes before it, as QuIPModifier does. "
        "Symbols are `transform @v` and `transform @u`, with `size` 0 for the whole side.");
    qc_pass_add_option(pass, "rotations", QC_OPTION_LIST, "[v]", NULL, "v, u or both");
    qc_pass_add_option(pass, "matrix", QC_OPTION_WORD, "random_hadamard", QC_ROTATE_MATRICES,
        "Sylvester's matrix where the size is a power of two, or that of compressed-tensors with its signs");
    qc_pass_add_option(pass, "size", QC_OPTION_INT, "0", NULL,
        "size of the matrix, which divides every side; 0: the whole side of each linear");
    qc_rotate_add_compute(pass);
    qc_pass_add_option(
        pass, "targets", QC_OPTION_LIST, "[Linear]", NULL, "linears: class, path or re:PATTERN");
    qc_pass_add_option(pass, "ignore", QC_OPTION_LIST, "[lm_head]", NULL, "modules to leave alone");
}
