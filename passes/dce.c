/* SPDX-License-Identifier: MIT
 *
 * dce.c - takes out ops whose results nobody reads. Walking backwards finds chains in one go. Ops with
 * effects stay.
 */
#include "qc/pass.h"

void qc_pass_dce(qc_registry *registry);

static bool is_returned(const qc_func *func, const qc_value *value)
{
    for (size_t i = 0; i < qc_func_result_count(func); i++)
        if (qc_func_result(func, i) == value)
            return true;
    return false;
}

static bool is_dead(const qc_func *func, const qc_op *op)
{
    if (qc_op_has_effect(op))
        return false;
    for (size_t i = 0; i < qc_op_result_count(op); i++) {
        const qc_value *value = qc_op_result(op, i);
        if (qc_value_use_count(value) > 0 || is_returned(func, value))
            return false;
    }
    return true;
}

static qc_pass_result run(qc_pass_ctx *pc, qc_module *module)
{
    int64_t removed = 0;
    for (qc_func *func = qc_module_first_func(module); func; func = qc_func_next(func)) {
        for (qc_op *op = qc_func_last_op(func), *before; op; op = before) {
            before = qc_op_prev(op);
            if (!is_dead(func, op))
                continue;
            qc_op_erase(op);
            removed++;
        }
    }
    if (removed == 0)
        return QC_PASS_UNCHANGED;
    qc_pass_count(pc, "ops removed", removed);
    return QC_PASS_CHANGED;
}

void qc_pass_dce(qc_registry *registry)
{
    qc_pass *pass = qc_registry_add(registry, "dce", "Remove ops whose results are not used", run);
    qc_pass_set_licence(pass, QC_LICENCE_EXACT);
    qc_pass_set_description(pass, "Ops with an effect (`cache_append`) stay.");
}
