/* SPDX-License-Identifier: MIT
 *
 * fold_r1.c - the rotation R1 of SpinQuant (Liu et al., 2024) and QuaRot (Ashkboos et al., 2024): the residual stream
 * times an orthonormal matrix M, folded into every weight that writes to it or reads it. An RMSNorm without weights
 * commutes with M, since |x M| = |x|.
 */
#include "passes/rotate.h"

void qc_pass_fold_r1(qc_registry *registry);

/* Norms hand their weights on; one that cannot would stand between the rotations. */
static qc_status fold_norms(qc_pass_ctx *pc, const qc_residual *residual)
{
    bool folded;
    for (size_t i = 0; i < residual->norms.count; i++) {
        qc_op *norm = residual->norms.items[i];
        if (qc_fold_norm(pc, norm, &folded) != QC_OK)
            return QC_ERROR;
        if (!qc_norm_is_folded(norm)) {
            qc_pass_fail(
                pc, norm, "the norm's weight cannot be folded into linears, so R1 does not commute with it");
            return QC_ERROR;
        }
    }
    return QC_OK;
}

static qc_status rotate(qc_pass_ctx *pc, const qc_residual *residual, const qc_rotation *r)
{
    for (size_t i = 0; i < residual->embeddings.count; i++)
        if (qc_rotate_columns(pc, residual->embeddings.items[i], r) != QC_OK)
            return QC_ERROR;
    for (size_t i = 0; i < residual->writers.count; i++)
        if (qc_rotate_rows(pc, residual->writers.items[i], r) != QC_OK)
            return QC_ERROR;
    for (size_t i = 0; i < residual->readers.count; i++)
        if (qc_rotate_columns(pc, residual->readers.items[i], r) != QC_OK)
            return QC_ERROR;
    return QC_OK;
}

static qc_pass_result rotate_stream(qc_pass_ctx *pc, qc_module *module, const qc_residual *residual)
{
    qc_rotation r;
    if (residual->embeddings.count == 0)
        return qc_pass_fail(pc, NULL, "there is no embedding, where the residual stream would begin");
    if (residual->misfit)
        return qc_pass_fail(pc, residual->misfit, "%s", residual->why);
    if (qc_rotate_read(pc, residual->embeddings.items[0], "R1", residual->width, "the hidden size", &r) !=
        QC_OK)
        return QC_PASS_FAILED;
    r.f64 = true;
    if (fold_norms(pc, residual) != QC_OK || rotate(pc, residual, &r) != QC_OK)
        return QC_PASS_FAILED;
    const qc_rotate_use uses[] = {
        {.location = "weight_output", .ops = {&residual->embeddings, &residual->writers}},
        {.location = "weight_input", .inverse = true, .ops = {&residual->readers}},
    };
    qc_rotate_symbol(pc, module, &r, r.size < residual->width, false, uses, 2);
    return QC_PASS_CHANGED;
}

static qc_pass_result run(qc_pass_ctx *pc, qc_module *module)
{
    qc_residual residual;
    if (qc_quant_need_graph(pc, module, "residual stream to rotate") != QC_OK ||
        qc_rotate_need_new(pc, module, "R1") != QC_OK)
        return QC_PASS_FAILED;
    qc_residual_find(&residual, module);
    qc_pass_result result = rotate_stream(pc, module, &residual);
    qc_residual_fini(&residual);
    return result;
}

void qc_pass_fold_r1(qc_registry *registry)
{
    qc_pass *pass = qc_registry_add(
        registry, "fold-r1", "Rotate the residual stream, folded into the weights around it", run);
    qc_pass_set_licence(pass, QC_LICENCE_LOSSY);
    qc_pass_set_description(pass,
        "The rotation R1 of SpinQuant (Liu et al., 2024). Embeddings, all linears "
        "whose result is added to the "
        "residual stream (with their biases) and all that read it behind a norm "
        "are rotated; nothing is left to do "
        "at run time.\nNorms are folded first, as fold-norms does. The stream is "
        "found in the graph, from the "
        "embeddings along sums and factors a row; what reads it otherwise is an error.\nRouters, experts and "
        "shared experts take part. Norms behind attention or MLP (OLMo 2, Gemma) are refused: their weights "
        "can go nowhere.\nWeights are "
        "computed in f64 and rounded to "
        "their type after every step, so that the bytes are those of SpinQuantModifier.");
    qc_rotate_add_options(
        pass, "size of the matrix; less than the hidden size: blocks of it; 0: the hidden size");
}
