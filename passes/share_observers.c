/* SPDX-License-Identifier: MIT
 *
 * share_observers.c - one observe where several would reduce the same value in the same way, as q, k and v
 * projections do with their common input, and gate and up of each expert. The first one's tap serves all: their
 * statistics are equal.
 *
 * Where every expert sees every token (calibrate-all-experts), what they all read is the layer's input, so one range of
 * that is the range of each: one observe, and one scale in the place of one an expert.
 */
#include <string.h>

#include "ir/experts.h"
#include "passes/internal.h"
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

/* Of experts that too few tokens come to the range may be that of weights, then of those of the first. */
static const char *const attrs[] = {
    "observer", "averaging", "args", "scheme", "arg", "granularity", "experts", "min_tokens", "fallback"};
enum { ATTRS = sizeof attrs / sizeof attrs[0], ATTRS_OF_A_TENSOR = 5 };

/* The first observe of the same data in the same way that comes before `op`. */
static qc_op *earlier(const qc_func *func, const qc_op *op)
{
    const qc_value *x = qc_op_operand(op, 0);
    const qc_op *split = split_of(x);
    qc_op *start = qc_value_op(split ? qc_op_operand(split, 0) : x);
    for (qc_op *at = start ? start : qc_func_first_op(func); at != op; at = qc_op_next(at)) {
        bool same = qc_op_is(at, "observe") && same_data(qc_op_operand(at, 0), x) &&
                    qc_op_operand_named(at, "rows") == qc_op_operand_named(op, "rows");
        for (size_t i = 0; same && i < ATTRS; i++)
            same = same_attr(at, op, attrs[i]);
        if (same)
            return at;
    }
    return NULL;
}

/* ---- all experts --------------------------------------------------------------------------------------- */

/* What every expert reads all rows of, where `op` observes that for each of them; NULL else. */
static qc_value *common_input(const qc_op *op)
{
    const qc_op *gather = qc_value_op(qc_op_operand(op, 0));
    const qc_value *value = qc_op_operand_named(op, "rows");
    const qc_op *rows = value ? qc_value_op(value) : NULL;
    bool all = rows && qc_op_is(rows, "expert_rows") && qc_attr_as_bool(qc_op_attr(rows, "all"));
    if (!all || !gather || !qc_op_is(gather, "expert_gather") || qc_op_operand_named(gather, "rows") != value)
        return NULL;
    return qc_op_operand(gather, 0);
}

/* An observe of the whole of x in the way of `op`, before `place`. */
static qc_op *whole(const qc_value *x, const qc_op *op, const qc_op *place)
{
    size_t slot;
    for (size_t i = 0; i < qc_value_use_count(x); i++) {
        qc_op *at = qc_value_use(x, i, &slot);
        bool same = qc_op_is(at, "observe") && slot == 0 &&
                    strcmp(qc_attr_as_text(qc_op_attr(at, "granularity")), "tensor") == 0 &&
                    qc_quant_comes_before(at, place);
        for (size_t k = 0; same && k < ATTRS_OF_A_TENSOR; k++)
            same = same_attr(at, op, attrs[k]);
        if (same)
            return at;
    }
    return NULL;
}

static qc_op *make_whole(qc_pass_ctx *pc, qc_value *x, const qc_op *op, qc_op *place)
{
    qc_builder *b = qc_builder_before(place);
    qc_make(b, "observe");
    qc_make_operand(b, "x", x);
    qc_make_attr_string(b, "tap", qc_expert_name(pc->arena, qc_attr_as_text(qc_op_attr(op, "tap")), 0));
    qc_make_attr_word(b, "granularity", "tensor");
    for (size_t i = 0; i < ATTRS_OF_A_TENSOR; i++)
        if (qc_op_attr_given(op, attrs[i]))
            qc_make_attr(b, attrs[i], qc_op_attr(op, attrs[i]));
    qc_value *statistics = qc_make_end(b, qc_value_hint(qc_op_result(op, 0)));
    return qc_builder_ok(b) ? qc_value_op(statistics) : NULL;
}

/* The scale of all in the place of one for each, and of what each row takes of those. */
static bool scale_all(qc_op *scale, qc_value *statistics)
{
    size_t slot;
    qc_value *old = qc_op_result(scale, 0);
    qc_builder *b = qc_builder_before(scale);
    qc_quant_make_scale(b, scale, statistics, 0);
    qc_value *one = qc_make_end(b, qc_value_hint(old));
    while (qc_builder_ok(b) && qc_value_use_count(old) > 0) {
        qc_op *param = qc_value_use(old, 0, &slot);
        if (!qc_op_is(param, "expert_param"))
            return false;
        qc_value_replace_all_uses(qc_op_result(param, 0), one);
        qc_op_erase(param);
    }
    if (qc_builder_ok(b))
        qc_op_erase(scale);
    return qc_builder_ok(b);
}

/* Are the statistics read by scales alone, and these by the rows of their experts? */
static bool is_plain(const qc_op *op)
{
    const qc_value *statistics = qc_op_result(op, 0);
    size_t slot;
    bool plain = !qc_quant_is_returned(statistics);
    for (size_t i = 0; plain && i < qc_value_use_count(statistics); i++) {
        const qc_op *scale = qc_value_use(statistics, i, &slot);
        plain = qc_quant_one_of(qc_op_name(scale), "qparams|zero_point|global_scale");
        const qc_value *value = plain ? qc_op_result(scale, 0) : NULL;
        for (size_t k = 0; plain && k < qc_value_use_count(value); k++)
            plain = qc_op_is(qc_value_use(value, k, &slot), "expert_param");
    }
    return plain;
}

/* One observe of what all experts read, in the place of that of each. */
static qc_pass_result share_all(qc_pass_ctx *pc, qc_op *op)
{
    qc_value *x = common_input(op), *statistics = qc_op_result(op, 0);
    if (!x || !is_plain(op))
        return QC_PASS_UNCHANGED;
    qc_op *place = qc_value_op(qc_op_operand_named(op, "rows"));
    if (qc_value_op(x) && !qc_quant_comes_before(qc_value_op(x), place))
        place = qc_value_op(qc_op_operand(op, 0));
    size_t slot;
    qc_op *first = whole(x, op, place);
    if (!first)
        first = make_whole(pc, x, op, place);
    while (first && qc_value_use_count(statistics) > 0)
        if (!scale_all(qc_value_use(statistics, 0, &slot), qc_op_result(first, 0)))
            return QC_PASS_FAILED;
    if (!first)
        return QC_PASS_FAILED;
    qc_pass_remark(pc, op, "%s of all experts reads the statistics of %s",
        qc_attr_as_text(qc_op_attr(op, "tap")), qc_attr_as_text(qc_op_attr(first, "tap")));
    qc_pass_count(pc, "observers shared by all experts", 1);
    qc_op_erase(op);
    return QC_PASS_CHANGED;
}

/* ---- the pass ------------------------------------------------------------------------------------------ */

static bool share(qc_pass_ctx *pc, qc_op *op, qc_op *first)
{
    qc_pass_remark(pc, op, "%s reads the statistics of %s", qc_attr_as_text(qc_op_attr(op, "tap")),
        qc_attr_as_text(qc_op_attr(first, "tap")));
    qc_pass_count(pc, "observers shared", 1);
    qc_value_replace_all_uses(qc_op_result(op, 0), qc_op_result(first, 0));
    const qc_op *split = split_of(qc_op_operand(op, 0));
    qc_op_erase(op);
    if (split && qc_value_use_count(qc_op_result(split, 0)) == 0 &&
        !qc_quant_is_returned(qc_op_result(split, 0)))
        qc_op_erase(qc_value_op(qc_op_result(split, 0)));
    return true;
}

static qc_pass_result run(qc_pass_ctx *pc, qc_module *module)
{
    bool changed = false;
    QC_VEC(qc_op *) observers = {0};
    for (qc_func *func = qc_module_first_func(module); func; func = qc_func_next(func))
        for (qc_op *op = qc_func_first_op(func); op; op = qc_op_next(op))
            if (qc_op_is(op, "observe"))
                QC_PUSH(pc->arena, &observers, op);
    for (size_t i = 0; i < observers.count; i++) {
        qc_op *op = observers.items[i];
        qc_pass_result all = share_all(pc, op);
        if (all == QC_PASS_FAILED)
            return all;
        changed |= all == QC_PASS_CHANGED;
        qc_op *first = all == QC_PASS_CHANGED ? NULL : earlier(qc_op_func(op), op);
        if (first)
            changed |= share(pc, op, first);
    }
    return changed ? QC_PASS_CHANGED : QC_PASS_UNCHANGED;
}

void qc_pass_share_observers(qc_registry *registry)
{
    qc_pass *pass =
        qc_registry_add(registry, "share-observers", "Observe a value once for all who need it", run);
    qc_pass_set_licence(pass, QC_LICENCE_EXACT);
    qc_pass_set_description(pass,
        "Observers of one value that observe it in the same way become the "
        "first of them; statistics are then "
        "recorded under\nits tap alone, and a remark names the others. Under "
        "`calibrate-all-experts` all experts of a layer that read its input share "
        "one\nobservation and one scale. Gate and up of each expert always share; where too few tokens came "
        "and weights serve instead (`fallback=weights`), those of the first.");
}
