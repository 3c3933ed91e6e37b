/* SPDX-License-Identifier: MIT
 *
 * fold_norms.c - weights of norms into the linears that read them: rmsnorm(x, w) W^T = rmsnorm(x, 1) (W diag(w))^T. A
 * rotation of x commutes with a norm without weights only (QuaRot, Ashkboos et al., 2024; SpinQuant, Liu et al., 2024).
 */
#include "passes/rotate.h"

void qc_pass_fold_norms(qc_registry *registry);

static qc_status center(qc_pass_ctx *pc, qc_op *embedding)
{
    qc_value *table = qc_op_operand_named(embedding, "w");
    const qc_op *from = qc_value_op(table);
    if (qc_rotate_check_weight(pc, embedding) != QC_OK)
        return QC_ERROR;
    if (from && qc_op_is(from, "center"))
        return QC_OK;
    qc_builder *b = qc_builder_before(embedding);
    qc_make(b, "center");
    qc_make_operand(b, "x", table);
    qc_value *centered = qc_make_end(b, qc_value_hint(table));
    if (!qc_builder_ok(b))
        return QC_ERROR;
    qc_op_set_operand_named(embedding, "w", centered);
    qc_pass_count(pc, "embeddings centered", 1);
    return QC_OK;
}

static qc_pass_result run(qc_pass_ctx *pc, qc_module *module)
{
    bool changed = false, centers = qc_pass_option_bool(pc, "center"), centered = false;
    if (qc_quant_need_graph(pc, module, "norm to fold") != QC_OK)
        return QC_PASS_FAILED;
    for (qc_func *func = qc_module_first_func(module); func; func = qc_func_next(func))
        for (qc_op *op = qc_func_first_op(func); op; op = qc_op_next(op)) {
            bool folded = false;
            if (qc_op_is(op, "rmsnorm") && qc_fold_norm(pc, op, &folded) != QC_OK)
                return QC_PASS_FAILED;
            changed |= folded;
            if (!centers || !qc_op_is(op, "embedding"))
                continue;
            const qc_value *before = qc_op_operand_named(op, "w");
            if (center(pc, op) != QC_OK)
                return QC_PASS_FAILED;
            centered |= qc_op_operand_named(op, "w") != before;
        }
    if (centered)
        qc_pass_remark(pc, NULL,
            "embeddings are centered: without a mean an RMSNorm sees other lengths, so logits change");
    return changed || centered ? QC_PASS_CHANGED : QC_PASS_UNCHANGED;
}

void qc_pass_fold_norms(qc_registry *registry)
{
    qc_pass *pass = qc_registry_add(
        registry, "fold-norms", "Multiply the weights of norms into the linears that read them", run);
    qc_pass_set_licence(pass, QC_LICENCE_LOSSY);
    qc_pass_set_description(pass,
        "Every `rmsnorm` whose result linears alone read hands its weight to those linears, one factor a "
        "column, "
        "and keeps ones.\nThe products are rounded to the type of the weight. Norms of q and k, which RoPE "
        "reads, "
        "stay. A head that shares the embedding's tensor gets a weight of its own.\nRouters and experts read "
        "norms too, behind casts, gathered rows and factors a row. Of a norm with an offset (Gemma), weight "
        "and offset are handed on, and\nwhat stays is the weight that gives 1. Norms whose result is added "
        "to the residual stream stay.");
    qc_pass_add_option(pass, "center", QC_OPTION_BOOL, "false", NULL,
        "take the mean of each row from the embedding, as SpinQuantModifier does; not exact under RMSNorm");
}
