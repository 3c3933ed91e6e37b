/* SPDX-License-Identifier: MIT
 *
 * share_observers.c - one observe where several would reduce the same value in the same way, as q, k and v
 * projections do with their common input. The first one's tap serves all: their statistics are equal.
 */
#include <string.h>

#include "qc/pass.h"

void qc_pass_share_observers(qc_registry *registry);

static bool same_attr(const qc_op *a, const qc_op *b, const char *name)
{
    return qc_attr_equal(qc_op_attr(a, name), qc_op_attr(b, name));
}

/* The first observe of the same value in the same way that comes before `op`. */
static qc_op *earlier(const qc_func *func, const qc_op *op)
{
    const qc_value *x = qc_op_operand(op, 0);
    qc_op *start = qc_value_op(x);
    for (qc_op *at = start ? start : qc_func_first_op(func); at != op; at = qc_op_next(at))
        if (qc_op_is(at, "observe") && qc_op_operand(at, 0) == x && same_attr(at, op, "observer") &&
            same_attr(at, op, "granularity"))
            return at;
    return NULL;
}

static qc_pass_result run(qc_pass_ctx *pc, qc_module *module)
{
    bool changed = false;
    for (qc_func *func = qc_module_first_func(module); func; func = qc_func_next(func))
        for (qc_op *op = qc_func_first_op(func), *next; op; op = next) {
            next = qc_op_next(op);
            qc_op *first = qc_op_is(op, "observe") ? earlier(func, op) : NULL;
            if (!first)
                continue;
            qc_pass_remark(pc, op, "%s reads the statistics of %s", qc_attr_as_text(qc_op_attr(op, "tap")),
                qc_attr_as_text(qc_op_attr(first, "tap")));
            qc_pass_count(pc, "observers shared", 1);
            qc_value_replace_all_uses(qc_op_result(op, 0), qc_op_result(first, 0));
            qc_op_erase(op);
            changed = true;
        }
    return changed ? QC_PASS_CHANGED : QC_PASS_UNCHANGED;
}

void qc_pass_share_observers(qc_registry *registry)
{
    qc_pass *pass =
        qc_registry_add(registry, "share-observers", "Observe a value once for all who need it", run);
    qc_pass_set_licence(pass, QC_LICENCE_EXACT);
    qc_pass_set_description(pass, "Observers of one value that agree in observer and granularity become the "
                                  "first of them; statistics are then "
                                  "recorded under\nits tap alone, and a remark names the others.");
}
