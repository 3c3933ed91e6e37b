/* SPDX-License-Identifier: MIT
 *
 * insert_observers.c - what depends on data comes from statistics: `qparams x` of a static scale becomes `qparams
 * (observe x) {from = stat}`, and so do zero points and global scales; a search that weighs columns gets the
 * mean squares of the inputs.
 *
 * A tap is named after where the codes go: ATTENTION.q, .k or .v, LINEAR.input (taps.c). What else its statistics depend on
 * stands behind it, so that kept statistics never pass for others: "@R3" for a rotated value, "@groups16" for ranges a
 * group of columns, "@mse(i8)" with the parameters for ranges that were searched, "@imatrix" for mean squares.
 *
 * Keys that are centered have ranges that depend on their mean, which is known only once everything was seen. Rounding
 * to an element type keeps the order, so the range of k - m is that of k, column by column, less m: the ranges of all
 * columns are observed, and the mean is subtracted from them as it is from the keys.
 *
 * What the experts of a layer read is one value whose rows belong to them, so one observe gives a range an expert: the scale
 * of all becomes one for each, and each row takes that of its expert (`expert_param`). Ranges depend on the tokens that an
 * expert saw: where those are the routed ones alone, the tap says so ("@routed").
 *
 * A global scale is made of the largest of the ranges of all groups. The largest of running or last ranges is that
 * of the whole tensor, so one range is observed; moving averages and searches are not such, and go group by group. That of
 * attention is always made of the range of the tensor.
 */
#include <stdio.h>
#include <string.h>

#include "ir/dtype/columns.h"
#include "ir/dtype/mse.h"
#include "passes/experts.h"
#include "passes/internal.h"
#include "passes/lower.h"
#include "passes/quant.h"

void qc_pass_insert_observers(qc_registry *registry);

typedef struct job {
    qc_pass_ctx *pc;
    qc_module *module;
    qc_map taps; /* name -> the observe op */
    size_t unweighted;
} job;

/* ---- where codes go ------------------------------------------------------------------------------------ */

/* The first op that reads the value, with the slot's name. */
static const qc_op *reader(const qc_value *value, const char **operand)
{
    size_t slot;
    if (qc_value_use_count(value) == 0)
        return NULL;
    const qc_op *op = qc_value_use(value, 0, &slot);
    *operand = qc_op_operand_name(op, slot);
    return op;
}

/* The op that reads the codes of this quantize, behind caches and their decoding. */
static const qc_op *destination(const qc_op *quantize, const char **operand)
{
    const qc_op *op = quantize;
    *operand = NULL;
    while (op && (qc_op_is(op, "quantize") || qc_op_is(op, "cache_append") || qc_op_is(op, "dequantize")))
        op = reader(qc_op_result(op, 0), operand);
    return op;
}

/* The index-th quantize that takes its codes under this scale, zero point or global scale. */
static const qc_op *quantize_under(const qc_value *value, size_t index)
{
    size_t slot;
    for (size_t i = 0; i < qc_value_use_count(value); i++) {
        const qc_op *op = qc_value_use(value, i, &slot);
        if (qc_op_is(op, "quantize") && index-- == 0)
            return op;
    }
    return NULL;
}

static size_t data_slot(const qc_op *op)
{
    return qc_op_is(op, "global_scale") ? 1 : 0;
}

/* The mean [heads, 1, d] that x [B, heads, S, d] is centered by: operand z of `sub`, an observed mean or its cast; NULL
 * where x is not. */
static qc_value *mean_of(const qc_value *x)
{
    const qc_op *op = qc_value_op(x);
    qc_value *z = op && qc_op_is(op, "sub") ? qc_op_operand_named(op, "z") : NULL;
    if (!z || qc_type_rank(qc_value_type(x)) != 4 || qc_type_rank(qc_value_type(z)) != 3)
        return NULL;
    const qc_op *from = qc_value_op(z);
    if (from && qc_op_is(from, "cast"))
        from = qc_value_op(qc_op_operand(from, 0));
    bool mean = from && qc_op_is(from, "observe") &&
                strcmp(qc_attr_as_text(qc_op_attr(from, "observer")), "mean") == 0;
    return mean ? z : NULL;
}

/* What the ranges of the op are of: its operand, before it is centered. */
static qc_value *observed_value(const qc_op *qparams)
{
    qc_value *x = qc_op_operand(qparams, data_slot(qparams));
    return mean_of(x) ? qc_op_operand_named(qc_value_op(x), "x") : x;
}

/* The linears of experts that read the codes under this scale; NULL where something else does. */
static const qc_op *experts_behind(const qc_op *qparams)
{
    const char *operand;
    const qc_op *op = destination(quantize_under(qc_op_result(qparams, 0), 0), &operand);
    return op && qc_op_is(op, "expert_linear") && strcmp(operand, "x") == 0 ? op : NULL;
}

/* "model.layers.0.self_attn.q"; NULL when the codes reach neither attention nor a linear nor a latent cache. */
static const char *tap_name(qc_pass_ctx *pc, const qc_op *qparams)
{
    const char *operand;
    const qc_op *op = destination(quantize_under(qc_op_result(qparams, 0), 0), &operand);
    const qc_op *from = qc_value_op(observed_value(qparams));
    bool attention = op && qc_op_is(op, "attention");
    if (from && qc_op_is(from, "latent_kv") && qc_op_node(from))
        return qc_quant_attention_tap(pc, from, "kv_latent", observed_value(qparams), "");
    if (!op || !qc_op_node(op) || !(attention || qc_is_linear(op)) || qc_linear_is_fused(op))
        return NULL;
    if (attention)
        return qc_quant_attention_tap(pc, op, operand, observed_value(qparams), "");
    return qc_quant_input_tap(pc, op, observed_value(qparams));
}

/* ---- what is observed ---------------------------------------------------------------------------------- */

/* The part of the scheme that this op belongs to. */
static const qc_attr *part_of(const job *j, const qc_op *op, const char *arg)
{
    if (strcmp(qc_attr_as_text(qc_op_attr(op, "arg")), arg) != 0)
        return NULL;
    const qc_symbol *symbol = qc_module_find_symbol(j->module, qc_attr_as_text(qc_op_attr(op, "scheme")));
    return symbol ? qc_attr_find(qc_symbol_fields(symbol), arg) : NULL;
}

static bool is_from_data(const qc_op *op)
{
    return strcmp(qc_attr_as_text(qc_op_attr(op, "from")), "data") == 0;
}

/* The observer that statistics are folded by; what names none is folded as minmax. */
static const char *observer_of(const qc_attr *part)
{
    const char *observer = qc_attr_as_text(qc_attr_find(part, "observer"));
    return !observer[0] || strcmp(observer, "unset") == 0 ? "minmax" : observer;
}

static bool searches(const char *observer)
{
    return strstr(observer, "mse") != NULL;
}

/* The share of the part's observer, by its name; false where it takes all values. */
static bool share_of(const qc_attr *part, const char **name, double *share)
{
    const char *observer = observer_of(part);
    qc_share of;
    if (!qc_share_from_observer(observer, strlen(observer), &of))
        return false;
    const qc_attr *value = qc_attr_find(qc_attr_find(part, "observer_args"), of.argument);
    *name = of.argument;
    *share = value ? qc_attr_as_float(value) : of.value;
    return true;
}

/* What ranges that were searched or cut off depend on: "@mse(i8, grid=40)", "@percentile(99.9)". */
static void add_search(qc_str *tap, const qc_attr *part)
{
    const char *name;
    double share;
    if (share_of(part, &name, &share)) {
        qc_str_addf(tap, "@%s(", observer_of(part));
        qc_str_add_f64(tap, share);
        qc_str_add_char(tap, ')');
    }
    if (!searches(observer_of(part)))
        return;
    static const char *const args[] = {"expand", "grid", "maxshrink", "norm", "patience"};
    const char *observer = observer_of(part);
    bool plain = strcmp(observer, "memoryless_mse") == 0 || strcmp(observer, "mse") == 0;
    qc_str_addf(tap, "@%s(%s", plain ? "mse" : observer, qc_attr_as_text(qc_attr_find(part, "type")));
    qc_str_add(tap, qc_attr_as_bool(qc_attr_find(part, "symmetric")) ? "" : ", asymmetric");
    for (size_t i = 0; i < sizeof args / sizeof args[0]; i++) {
        const qc_attr *value = qc_attr_find(qc_attr_find(part, "observer_args"), args[i]);
        if (!value)
            continue;
        qc_str_addf(tap, ", %s=", args[i]);
        qc_str_add_f64(tap, qc_attr_as_float(value));
    }
    qc_str_add_char(tap, ')');
}

/* Does a global scale need the ranges of single groups? */
static bool by_group(const qc_op *op, const char *observer)
{
    return qc_op_is(op, "global_scale") && strcmp(observer, "static_minmax") != 0 &&
           strcmp(observer, "memoryless_minmax") != 0 &&
           qc_type_rank(qc_value_type(qc_op_operand(op, data_slot(op)))) != 4;
}

/* x [B, S, columns] as [B, groups, S, group]; NULL, reported, when it has another form. */
static qc_value *split_groups(job *j, qc_op *op, qc_builder *b, const qc_attr *part)
{
    qc_value *x = qc_op_operand(op, data_slot(op));
    int64_t columns, group = qc_attr_as_int(qc_attr_find(part, "group"));
    if (qc_type_rank(qc_value_type(x)) != 3 || !qc_dim_as_int(qc_type_dim(qc_value_type(x), -1), &columns) ||
        group < 1 || columns % group != 0) {
        qc_pass_fail(j->pc, op, "the observer '%s' of a global scale needs an input [B, S, columns], not %s",
            observer_of(part), qc_type_text(qc_pass_ctx_get(j->pc), qc_value_type(x)));
        return NULL;
    }
    qc_make(b, "split_heads");
    qc_make_operand(b, "x", x);
    qc_make_attr_int(b, "heads", columns / group);
    return qc_make_end(b, "x_groups");
}

/* The observe of this name if `x` is what it observes in this granularity; *taken when the name is another one's. */
static qc_value *find_tap(
    job *j, const qc_op *op, const char *tap, const qc_value *x, const char *granularity, bool *taken)
{
    qc_op *observe = qc_map_get(&j->taps, tap);
    *taken = false;
    if (!observe)
        return NULL;
    const qc_value *seen = qc_op_operand(observe, 0);
    const qc_op *split = qc_value_op(seen);
    if ((seen == x || (split && qc_op_is(split, "split_heads") && qc_op_operand(split, 0) == x)) &&
        strcmp(qc_attr_as_text(qc_op_attr(observe, "granularity")), granularity) == 0)
        return qc_op_result(observe, 0);
    *taken = true;
    qc_pass_fail(j->pc, op, "two values would be observed under the name '%s'", tap);
    return NULL;
}

/* What the ranges are of that the op needs: a scale's own granularity or a finer one. */
static const char *granularity_of(const qc_op *op, const qc_attr *part)
{
    if (experts_behind(op))
        return "expert";
    if (mean_of(qc_op_operand(op, data_slot(op))))
        return "channel";
    if (qc_op_is(op, "global_scale"))
        return by_group(op, observer_of(part)) ? "head" : "tensor";
    return qc_attr_as_text(qc_attr_find(part, "granularity"));
}

/* What an observe of all experts, built at `op`, has besides: their rows, and what is to be done for those that few tokens
 * come to, which calibrate-all-experts left on the op of the rows. */
static void set_experts(qc_builder *b, qc_op *op, const qc_op *linear)
{
    qc_value *rows = qc_op_operand_named(linear, "rows"), *w;
    const qc_op *from = qc_value_op(rows);
    bool known = from && qc_op_is(from, "expert_rows");
    qc_make_operand(b, "rows", rows);
    qc_make_attr_int(b, "experts", qc_linear_experts(linear));
    if (!known)
        return;
    if (qc_op_attr_given(from, "min_tokens"))
        qc_make_attr(b, "min_tokens", qc_op_attr(from, "min_tokens"));
    if (qc_op_attr_given(from, "fallback"))
        qc_make_attr(b, "fallback", qc_op_attr(from, "fallback"));
    if (strcmp(qc_attr_as_text(qc_op_attr(from, "fallback")), "weights") == 0) {
        w = qc_plain_value(qc_op_operand_named(linear, "w"));
        qc_quant_hoist(w, op);
        qc_make_operand(b, "w", w);
    }
}

/* observe of a static scale, zero point or global scale of inputs, at `op`. */
static qc_value *make_observe(job *j, qc_op *op, const qc_attr *part, const char *tap)
{
    const char *observer = observer_of(part), *share_name;
    const qc_attr *averaging = qc_attr_find(qc_attr_find(part, "observer_args"), "averaging_constant");
    bool group = by_group(op, observer);
    double share;
    qc_builder *b = qc_builder_before(op);
    qc_value *x = group ? split_groups(j, op, b, part) : observed_value(op);
    const qc_op *experts = experts_behind(op);
    if (!x)
        return NULL;
    qc_make(b, "observe");
    qc_make_operand(b, "x", x);
    if (experts)
        set_experts(b, op, experts);
    qc_make_attr_string(b, "tap", tap);
    qc_make_attr_word(b, "granularity", granularity_of(op, part));
    qc_make_attr_word(b, "observer", observer);
    if (averaging)
        qc_make_attr_float(b, "averaging", qc_attr_as_float(averaging));
    if (share_of(part, &share_name, &share)) {
        const qc_attr *value = qc_attr_float(qc_pass_ctx_get(j->pc), share);
        qc_make_attr(b, "args", qc_attr_map(qc_pass_ctx_get(j->pc), &share_name, &value, 1));
    }
    if (searches(observer)) {
        qc_make_attr(b, "scheme", qc_op_attr(op, "scheme"));
        qc_make_attr(b, "arg", qc_op_attr(op, "arg"));
    }
    qc_value *statistics = qc_make_end(b, "stat");
    if (!qc_builder_ok(b))
        return NULL;
    qc_map_set(&j->taps, tap, qc_value_op(statistics));
    qc_pass_count(j->pc, "observers inserted", 1);
    return statistics;
}

/* The ranges [2, heads, d] of keys less their mean [heads, 1, d]. */
static qc_value *center(job *j, qc_op *op, qc_value *statistics, qc_value *mean)
{
    qc_ctx *ctx = qc_pass_ctx_get(j->pc);
    const qc_type *type = qc_value_type(mean);
    const qc_dim *dims[3] = {qc_type_dim(type, 1), qc_type_dim(type, 0), qc_type_dim(type, 2)};
    qc_builder *b = qc_builder_before(op);
    qc_make(b, "reshape");
    qc_make_operand(b, "x", mean);
    qc_make_type(b, qc_type_tensor(ctx, qc_type_dtype(type), 3, dims));
    mean = qc_make_end(b, "center");
    qc_make(b, "sub");
    qc_make_operand(b, "x", statistics);
    qc_make_operand(b, "z", mean);
    qc_value *centered = qc_make_end(b, "stat_centered");
    return qc_builder_ok(b) ? centered : NULL;
}

static qc_pass_result check_observed(job *j, const qc_op *op, const qc_attr *part, const char *tap)
{
    const char *granularity = qc_attr_as_text(qc_attr_find(part, "granularity"));
    bool global = qc_op_is(op, "global_scale");
    if (!tap && qc_lowered_op(j->module))
        return qc_pass_fail(j->pc, op,
            "the module is in lowered form, which is executed, not calibrated: the lower- passes come behind "
            "calibration");
    if (!tap)
        return qc_pass_fail(
            j->pc, op, "a static scale belongs to codes that reach neither attention nor a linear");
    if (experts_behind(op) && by_group(op, observer_of(part)))
        return qc_pass_fail(j->pc, op,
            "%s: ranges of groups are not kept for each expert: the global scales of what experts read come "
            "of "
            "the "
            "observers static_minmax and memoryless_minmax, not '%s'",
            tap, observer_of(part));
    if (!global && !qc_quant_one_of(granularity, "tensor|head|channel"))
        return qc_pass_fail(
            j->pc, op, "%s: static scales are one a tensor, a head or a channel, not '%s'", tap, granularity);
    if (mean_of(qc_op_operand(op, data_slot(op))) && strcmp(observer_of(part), "static_minmax") != 0)
        return qc_pass_fail(j->pc, op,
            "%s: ranges of centered keys are made of those of each column, by the observer static_minmax, "
            "not "
            "'%s'",
            tap, observer_of(part));
    return QC_PASS_UNCHANGED;
}

/* Do the rows of these experts hold the tokens alone that are routed to them? */
static bool is_routed(const qc_op *linear)
{
    const qc_op *rows = qc_value_op(qc_op_operand_named(linear, "rows"));
    return !(rows && qc_op_is(rows, "expert_rows") && qc_attr_as_bool(qc_op_attr(rows, "all")));
}

/* The scale of all experts becomes one for each, of statistics [2, E], and every row takes that of its expert. */
static qc_pass_result scale_experts(qc_op *op, const qc_op *linear, qc_value *statistics)
{
    qc_value *old = qc_op_result(op, 0);
    qc_builder *b = qc_builder_before(op);
    qc_quant_make_scale(b, op, statistics, qc_linear_experts(linear));
    qc_value *scales = qc_make_end(b, qc_value_hint(old));
    qc_make(b, "expert_param");
    qc_make_operand(b, "p", scales);
    qc_make_operand(b, "rows", qc_op_operand_named(linear, "rows"));
    qc_value *each = qc_make_end(b, qc_value_hint(old));
    if (!qc_builder_ok(b))
        return QC_PASS_FAILED;
    qc_value_replace_all_uses(old, each);
    qc_op_erase(op);
    return QC_PASS_CHANGED;
}

static qc_pass_result observe_input(job *j, qc_op *op, const qc_attr *part)
{
    const qc_op *experts = experts_behind(op);
    const char *tap = tap_name(j->pc, op);
    qc_value *mean = mean_of(qc_op_operand(op, data_slot(op)));
    bool taken;
    if (check_observed(j, op, part, tap) == QC_PASS_FAILED)
        return QC_PASS_FAILED;
    qc_str name;
    qc_str_init(&name, j->pc->arena);
    qc_str_add(&name, tap);
    if (experts && is_routed(experts))
        qc_str_add(&name, "@routed");
    if (by_group(op, observer_of(part)))
        qc_str_addf(&name, "@groups%lld", (long long)qc_attr_as_int(qc_attr_find(part, "group")));
    add_search(&name, part);
    qc_value *statistics = find_tap(j, op, name.data, observed_value(op), granularity_of(op, part), &taken);
    if (!statistics && !taken)
        statistics = make_observe(j, op, part, name.data);
    qc_str_fini(&name);
    if (statistics && mean)
        statistics = center(j, op, statistics, mean);
    if (!statistics)
        return QC_PASS_FAILED;
    if (experts)
        return scale_experts(op, experts, statistics);
    qc_op_set_operand(op, data_slot(op), statistics);
    qc_op_set_attr(op, "from", qc_attr_word(qc_pass_ctx_get(j->pc), "stat"));
    return QC_PASS_CHANGED;
}

/* ---- importance of columns ----------------------------------------------------------------------------- */

/* Does the part's observer weigh columns? Only where a range lies within the columns of a row can it. */
static bool weighs_columns(const qc_attr *part)
{
    const char *observer = qc_attr_as_text(qc_attr_find(part, "observer"));
    const char *granularity = qc_attr_as_text(qc_attr_find(part, "granularity"));
    qc_mse mse;
    return qc_mse_from_observer(observer, strlen(observer), &mse) && mse.imatrix &&
           qc_quant_one_of(granularity, "channel|group");
}

/* The input of the linear that these codes are the weight of, before its own codes; NULL when none is. */
static qc_value *input_of(const qc_op *quantize, const qc_op **linear)
{
    const char *operand;
    *linear = destination(quantize, &operand);
    if (!*linear || !qc_op_is(*linear, "linear") || !qc_op_node(*linear))
        return NULL;
    qc_value *x = qc_op_operand_named(*linear, "x");
    for (const qc_op *op = qc_value_op(x); op && (qc_op_is(op, "dequantize") || qc_op_is(op, "quantize"));
         op = qc_value_op(x))
        x = qc_op_operand_named(op, "x");
    return x;
}

/* The same for all codes under the value, which must agree. */
static qc_status common_input(job *j, const qc_op *op, qc_value **x, const qc_op **linear)
{
    const qc_op *quantize, *other;
    *x = NULL;
    for (size_t i = 0; (quantize = quantize_under(qc_op_result(op, 0), i)) != NULL; i++) {
        qc_value *input = input_of(quantize, &other);
        if (i > 0 && input != *x) {
            qc_pass_fail(j->pc, op,
                "linears that share a global scale do not read one input, whose columns "
                "the observer of their weights would weigh");
            return QC_ERROR;
        }
        /* Uses come in no order; the first linear names the tap. */
        if (i == 0 || (input && qc_quant_comes_before(other, *linear)))
            *linear = other;
        *x = input;
    }
    return QC_OK;
}

static qc_pass_result observe_columns(job *j, qc_op *op)
{
    qc_value *x;
    const qc_op *linear = NULL;
    bool taken;
    if (common_input(j, op, &x, &linear) != QC_OK)
        return QC_PASS_FAILED;
    if (!x) {
        j->unweighted += qc_op_is(op, "qparams");
        return QC_PASS_UNCHANGED;
    }
    if (qc_value_op(x) && !qc_quant_comes_before(qc_value_op(x), op))
        return qc_pass_fail(
            j->pc, op, "the scale of a weight whose columns are weighed stands before the input");
    const char *input = qc_quant_input_tap(j->pc, linear, x);
    size_t size = strlen(input) + sizeof "@imatrix";
    char *tap = qc_pass_alloc(j->pc, size);
    snprintf(tap, size, "%s@imatrix", input);
    qc_value *importance = find_tap(j, op, tap, x, "channel", &taken);
    if (taken)
        return QC_PASS_FAILED;
    if (!importance) {
        qc_builder *b = qc_builder_before(op);
        qc_make(b, "observe");
        qc_make_operand(b, "x", x);
        qc_make_attr_string(b, "tap", tap);
        qc_make_attr_word(b, "granularity", "channel");
        qc_make_attr_word(b, "observer", "imatrix");
        importance = qc_make_end(b, "importance");
        if (!qc_builder_ok(b))
            return QC_PASS_FAILED;
        qc_map_set(&j->taps, tap, qc_value_op(importance));
        qc_pass_count(j->pc, "observers inserted", 1);
    }
    qc_op_set_operand_named(op, "importance", importance);
    return QC_PASS_CHANGED;
}

/* ---- the pass ------------------------------------------------------------------------------------------ */

static qc_pass_result visit(job *j, qc_op *op)
{
    const qc_attr *part = part_of(j, op, "input");
    bool global = qc_op_is(op, "global_scale");
    if (part && is_from_data(op) && (global || !qc_attr_as_bool(qc_attr_find(part, "dynamic"))))
        return observe_input(j, op, part);
    part = part_of(j, op, "weights");
    if (part && is_from_data(op) && weighs_columns(part) && !qc_op_operand_named(op, "importance"))
        return observe_columns(j, op);
    return QC_PASS_UNCHANGED;
}

/* What calibrate-all-experts asked for is said by the observers now. */
static bool clear_rows(qc_module *module)
{
    static const char *const names[] = {"min_tokens", "fallback"};
    bool changed = false;
    for (qc_func *func = qc_module_first_func(module); func; func = qc_func_next(func))
        for (qc_op *op = qc_func_first_op(func); op; op = qc_op_next(op))
            for (size_t i = 0; qc_op_is(op, "expert_rows") && i < sizeof names / sizeof names[0]; i++)
                if (qc_op_attr_given(op, names[i])) {
                    qc_op_set_attr(op, names[i], NULL);
                    changed = true;
                }
    return changed;
}

static qc_pass_result run(qc_pass_ctx *pc, qc_module *module)
{
    job j = {.pc = pc, .module = module};
    bool changed = false;
    qc_map_init(&j.taps, pc->arena);
    for (qc_func *func = qc_module_first_func(module); func; func = qc_func_next(func))
        for (qc_op *op = qc_func_first_op(func), *next; op; op = next) {
            next = qc_op_next(op);
            if (qc_op_is(op, "observe"))
                qc_map_set(&j.taps, qc_attr_as_text(qc_op_attr(op, "tap")), op);
            if (!qc_quant_one_of(qc_op_name(op), "qparams|zero_point|global_scale"))
                continue;
            qc_pass_result result = visit(&j, op);
            if (result == QC_PASS_FAILED)
                return result;
            changed |= result == QC_PASS_CHANGED;
        }
    changed |= clear_rows(module);
    if (j.unweighted > 0)
        qc_ctx_warning(qc_pass_ctx_get(pc), qc_pass_ctx_name(pc),
            "%zu weight%s of no linear that runs: searched without the importance of columns", j.unweighted,
            j.unweighted == 1 ? "" : "s");
    return changed ? QC_PASS_CHANGED : QC_PASS_UNCHANGED;
}

void qc_pass_insert_observers(qc_registry *registry)
{
    qc_pass *pass =
        qc_registry_add(registry, "insert-observers", "Observe the values whose scales are static", run);
    qc_pass_set_licence(pass, QC_LICENCE_EXACT);
    qc_pass_set_description(pass,
        "Puts `observe` before every `qparams`, `zero_point` and `global_scale` of a static part, under a "
        "name "
        "that says where the codes\ngo: `<attention module>.q`, `.k`, `.v`, `<linear module>.input`. What "
        "else "
        "the statistics depend on stands behind it: `@R3` and\nthe names of other rotations, `@normed` where "
        "the weight of the norm before was folded away,\n`@centered` where the embedding's rows lost their "
        "mean, `@groups16` of ranges a group, `@mse(i8)` of searched\n"
        "ranges, `@percentile(99.99)` of ranges that leave values outside. Keys that are centered are "
        "observed\n"
        "by columns, and their mean under `@mean`. Weights whose observer weighs columns (imatrix_mse) get "
        "the "
        "mean squares of the\nlinear's input, `<linear module>.input@imatrix`. Dynamic scales and other "
        "weights "
        "need no data and stay.\nWhat the experts of a layer read is observed for each of them, "
        "`<experts>.{e}.down_proj.input`, with `@routed` behind it unless calibrate-all-experts gave\nevery "
        "expert all tokens; the scale becomes one for each, which rows take by `expert_param`. A latent "
        "cache "
        "is `<attention module>.kv_latent`.");
}
