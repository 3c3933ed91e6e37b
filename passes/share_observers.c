/* SPDX-License-Identifier: MIT
 *
 * share_observers.c - one observe where several would reduce the same value in the same way, as q, k and v
 * projections do with their common input. The first one's tap serves all: their statistics are equal.
 */
#include <string.h>

#include "passes/quant.h"

void qc_pass_share_observers(qc_registry *registry);

static bool same_attr(const qc_op *a, const qc_op *b, const char *name)
{
    return qc_attr_equal(qc_op_attr(a, name), qc_op_attr(b, name));
}

/* What is observed: x itself, or x whose columns were split into groups. */
static const qc_op *split_of(const qc_value *x)
{
    const qc_op *op = qc_value_op(x);
    return op && qc_op_is(op, "split_heads") ? op : NULL;
}

static bool same_data(const qc_value *x, const qc_value *z)
{
    const qc_op *a = split_of(x), *b = split_of(z);
    return x == z || (a && b && qc_op_operand(a, 0) == qc_op_operand(b, 0) && same_attr(a, b, "heads"));
}

/* The first observe of the same data in the same way that comes before `op`. */
static qc_op *earlier(const qc_func *func, const qc_op *op)
{
    static const char *const attrs[] = {"observer", "granularity", "averaging", "args", "scheme", "arg"};
    const qc_value *x = qc_op_operand(op, 0);
    const qc_op *split = split_of(x);
    qc_op *start = qc_value_op(split ? qc_op_operand(split, 0) : x);
    for (qc_op *at = start ? start : qc_func_first_op(func); at != op; at = qc_op_next(at)) {
        bool same = qc_op_is(at, "observe") && same_data(qc_op_operand(at, 0), x);
        for (size_t i = 0; same && i < sizeof attrs / sizeof attrs[0]; i++)
            same = same_attr(at, op, attrs[i]);
        if (same)
            return at;
    }
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
            const qc_op *split = split_of(qc_op_operand(op, 0));
            qc_op_erase(op);
            if (split && qc_value_use_count(qc_op_result(split, 0)) == 0 &&
                !qc_quant_is_returned(qc_op_result(split, 0)))
                qc_op_erase(qc_value_op(qc_op_result(split, 0)));
            changed = true;
        }
    return changed ? QC_PASS_CHANGED : QC_PASS_UNCHANGED;
}

void qc_pass_share_observers(qc_registry *registry)
{
    qc_pass *pass =
        qc_registry_add(registry, "share-observers", "Observe a value once for all who need it", run);
    qc_pass_set_licence(pass, QC_LICENCE_EXACT);
    qc_pass_set_description(pass, "Observers of one value that observe it in the same way become the "
                                  "first of them; statistics are then "
                                  "recorded under\nits tap alone, and a remark names the others.");
}
