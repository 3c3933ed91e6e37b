/* SPDX-License-Identifier: MIT
 *
 * quant_attention.c - codes and scales for q, k and v of attention: what quant-fp8-attn, quant-int8-attn
 * and quant-kv share.
 *
 * q is quantized where attention reads it, after RoPE; k and v before cache_append, so that the cache holds
 * codes; attention takes the scales as operands. An op is quantized with all parts that were asked for or not
 * at all.
 *
 * The symbol must select what was quantized, no more: its targets are those that were asked for (or the
 * classes of the attention modules) when these, less `ignore`, name exactly the quantized modules, else their
 * paths.
 */
#include <string.h>

#include "passes/quant.h"
#include "passes/schemes.h"

typedef struct selection {
    qc_op **ops; /* attention ops in order */
    bool *taken;
    size_t count, taken_count, matched;
    const char *reason; /* why the last of those that match was left alone */
} selection;

void qc_quant_add_attention_options(qc_pass *pass, const char *types, const char *observers)
{
    qc_pass_add_option(pass, "granularity", QC_OPTION_WORD, "tensor", "tensor|head",
        "one scale for a tensor or for each head");
    if (types)
        qc_pass_add_option(pass, "type", QC_OPTION_WORD, "e4m3", types, "the format of the codes");
    qc_pass_add_option(pass, "observer", QC_OPTION_WORD, "static_minmax", observers,
        "how the ranges of the calibration sequences are folded into one");
    qc_pass_add_option(pass, "observer_args", QC_OPTION_MAP, "{}", NULL,
        "of the observer: averaging_constant, maxshrink, patience, grid, norm");
    qc_pass_add_option(pass, "layers", QC_OPTION_LIST, "[]", NULL,
        "only these layers: a number, FIRST-LAST, or a module by class, path or re:PATTERN; empty means all");
    qc_quant_add_options(pass, "[]",
        "attention modules: class, path or re:PATTERN; empty means all, recorded by their classes");
}

/* ---- which ops ----------------------------------------------------------------------------------------- */

/* The first component of the path that is a number: model.layers.12.self_attn gives 12; -1 when there is
 * none. */
static int64_t layer_number(const char *path)
{
    for (const char *at = path; at; at = strchr(at, '.'), at = at ? at + 1 : NULL) {
        size_t digits = strspn(at, "0123456789");
        if (digits > 0 && digits < 10 && (at[digits] == '.' || at[digits] == '\0')) {
            int64_t number = 0;
            for (size_t i = 0; i < digits; i++)
                number = number * 10 + (at[i] - '0');
            return number;
        }
    }
    return -1;
}

/* "3" or "0-3"; false when it is neither. */
static bool layer_range(const char *text, int64_t *first, int64_t *last)
{
    int64_t *number = first;
    size_t digits = 0;
    *first = *last = 0;
    for (; *text; text++) {
        if (*text == '-' && number == first && digits > 0) {
            number = last;
            digits = 0;
        } else if (*text >= '0' && *text <= '9' && digits++ < 9) {
            *number = *number * 10 + (*text - '0');
        } else {
            return false;
        }
    }
    if (number == first)
        *last = *first;
    return digits > 0;
}

static bool in_layers(qc_pass_ctx *pc, const qc_node *node)
{
    size_t count = qc_pass_option_count(pc, "layers");
    int64_t layer = layer_number(qc_node_path(node)), first, last;
    for (size_t i = 0; i < count; i++) {
        const char *item = qc_pass_option_item(pc, "layers", i);
        if (layer_range(item, &first, &last)) {
            if (first <= layer && layer <= last)
                return true;
            continue;
        }
        for (const qc_node *at = node; at; at = qc_node_parent(at))
            if (qc_node_matches(at, item))
                return true;
    }
    return count == 0;
}

/* The cache_append behind which attention reads its keys or values, if there is one. */
static qc_op *cache_of(const qc_value *value)
{
    qc_op *op = qc_value_op(value);
    return op && qc_op_is(op, "cache_append") ? op : NULL;
}

static const char *why_not_part(const qc_op *op, const char *part, const char *scale, qc_pass_ctx *pc)
{
    const qc_value *value = qc_op_operand_named(op, part);
    const qc_op *cache = cache_of(value);
    char *text = qc_pass_alloc(pc, 64);
    const char *reason = NULL;
    if (qc_op_operand_named(op, scale))
        reason = " is quantized already";
    else if (!qc_quant_is_plain(value))
        reason = " is neither bf16, f16 nor f32";
    else if (cache && (qc_value_use_count(value) != 1 || qc_quant_is_returned(value)))
        reason = "'s cache is read by others too";
    if (!reason)
        return NULL;
    strcpy(text, part);
    return strcat(text, reason);
}

/* NULL when the op is to be quantized. */
static const char *why_not(qc_pass_ctx *pc, const qc_op *op, const qc_quant_attention_request *request)
{
    const char *reason = NULL;
    if (qc_pass_option_matches(pc, "ignore", qc_op_node(op), false))
        return "the module is ignored or disabled";
    if (!reason && request->q)
        reason = why_not_part(op, "q", "q_scale", pc);
    if (!reason && request->k)
        reason = why_not_part(op, "k", "k_scale", pc);
    if (!reason && request->v)
        reason = why_not_part(op, "v", "v_scale", pc);
    return reason;
}

static void select_ops(
    qc_pass_ctx *pc, qc_module *module, const qc_quant_attention_request *request, selection *s)
{
    for (const qc_func *f = qc_module_first_func(module); f; f = qc_func_next(f))
        for (const qc_op *op = qc_func_first_op(f); op; op = qc_op_next(op))
            s->count += qc_op_is(op, "attention");
    s->ops = qc_pass_alloc(pc, s->count * sizeof *s->ops);
    s->taken = qc_pass_alloc(pc, s->count * sizeof *s->taken);
    size_t i = 0;
    for (const qc_func *f = qc_module_first_func(module); f; f = qc_func_next(f))
        for (qc_op *op = qc_func_first_op(f); op; op = qc_op_next(op))
            if (qc_op_is(op, "attention"))
                s->ops[i++] = op;
    for (i = 0; i < s->count; i++) {
        const qc_op *op = s->ops[i];
        const qc_node *node = qc_op_node(op);
        const char *reason;
        if (!node)
            reason = "it belongs to no module";
        else if (!qc_pass_option_matches(pc, "targets", node, true))
            reason = "no target names its module";
        else if (!in_layers(pc, node))
            reason = "its layer was not asked for";
        else
            s->matched++, s->reason = reason = why_not(pc, op, request);
        s->taken[i] = reason == NULL;
        s->taken_count += reason == NULL;
        if (reason)
            qc_pass_remark(pc, op, "attention left alone: %s", reason);
    }
}

/* ---- the symbol ---------------------------------------------------------------------------------------- */

static bool is_taken(const selection *s, const qc_node *node)
{
    for (size_t i = 0; i < s->count; i++)
        if (s->taken[i] && qc_op_node(s->ops[i]) == node)
            return true;
    return false;
}

static bool list_has(const qc_attr *const *items, size_t count, const char *text)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(qc_attr_as_text(items[i]), text) == 0)
            return true;
    return false;
}

/* Classes (or paths) of the quantized modules in tree order, each once. */
static const qc_attr *names_of(qc_pass_ctx *pc, const qc_module *module, const selection *s, bool paths)
{
    qc_ctx *ctx = qc_pass_ctx_get(pc);
    const qc_attr **items = qc_pass_alloc(pc, (s->count + 1) * sizeof *items);
    size_t count = 0;
    for (const qc_node *node = qc_module_first_node(module); node; node = qc_node_next(node)) {
        const char *name = paths ? qc_node_path(node) : qc_node_class(node);
        if (is_taken(s, node) && !list_has(items, count, name))
            items[count++] = qc_attr_string(ctx, name);
    }
    return qc_attr_list(ctx, items, count);
}

static bool list_matches(const qc_attr *list, const qc_node *node)
{
    for (size_t i = 0; list && i < qc_attr_count(list); i++)
        if (qc_node_matches(node, qc_attr_as_text(qc_attr_item(list, i))))
            return true;
    return false;
}

static bool selects_exactly(const selection *s, const qc_attr *targets, const qc_attr *ignore)
{
    for (size_t i = 0; i < s->count; i++) {
        const qc_node *node = qc_op_node(s->ops[i]);
        if (node && (list_matches(targets, node) && !list_matches(ignore, node)) != s->taken[i])
            return false;
    }
    return true;
}

/* The part that says how. */
static qc_status make_part(qc_pass_ctx *pc, const qc_quant_attention_request *request, const qc_attr **part)
{
    static const struct {
        const char *word, *type;
    } types[] = {{"e4m3", "f8e4m3"}, {"e5m2", "f8e5m2"}, {"int8", "i8"}};
    qc_ctx *ctx = qc_pass_ctx_get(pc);
    const char *type = request->type;
    for (size_t i = 0; !type && i < sizeof types / sizeof types[0]; i++)
        if (strcmp(qc_pass_option_text(pc, "type"), types[i].word) == 0)
            type = types[i].type;
    static const char *const keys[] = {"granularity", "observer", "observer_args", "type", NULL};
    const qc_attr *values[] = {
        qc_attr_word(ctx, qc_pass_option_text(pc, "granularity")),
        qc_attr_word(ctx, qc_pass_option_text(pc, "observer")),
        qc_pass_option_attr(pc, "observer_args"),
        qc_attr_word(ctx, type),
    };
    return qc_scheme_part_complete(
        ctx, qc_pass_ctx_name(pc), "attention", qc_quant_map(ctx, keys, values), part);
}

static const char *make_symbol(qc_pass_ctx *pc, qc_module *module, const qc_quant_attention_request *request,
    const selection *s, const qc_attr *input)
{
    qc_ctx *ctx = qc_pass_ctx_get(pc);
    const qc_attr *targets = qc_quant_list_option(pc, "targets"),
                  *ignore = qc_quant_list_option(pc, "ignore");
    if (!targets)
        targets = names_of(pc, module, s, false);
    if (!selects_exactly(s, targets, ignore)) {
        targets = names_of(pc, module, s, true);
        ignore = NULL;
    }
    static const char *const keys[] = {"arith", "ignore", "input", "targets", NULL};
    const qc_attr *values[] = {
        qc_attr_word(ctx, qc_pass_option_text(pc, "arith")),
        ignore,
        input,
        targets,
    };
    return qc_quant_symbol(pc, module, request->kind, request->base, -1, qc_quant_map(ctx, keys, values));
}

/* ---- the rewrite --------------------------------------------------------------------------------------- */

/* cache_append again over codes; the old op goes. */
static qc_value *append_codes(qc_pass_ctx *pc, qc_builder *b, qc_op *cache, qc_value *codes)
{
    qc_value *old = qc_op_result(cache, 0);
    if (!qc_builder_ok(b))
        return old;                            /* codes have no type then */
    qc_builder_set_node(b, qc_op_node(cache)); /* the state is named by its module */
    qc_make(b, "cache_append");
    qc_make_operand(b, "x", codes);
    qc_make_attr(b, "slot", qc_op_attr(cache, "slot"));
    qc_make_type(
        b, qc_type_with_dtype(qc_pass_ctx_get(pc), qc_value_type(old), qc_type_dtype(qc_value_type(codes))));
    return qc_make_end(b, qc_value_hint(old));
}

static bool quantize_part(qc_pass_ctx *pc, qc_op *op, const char *part, const char *scale_name,
    const char *scheme, const qc_attr *input)
{
    qc_value *value = qc_op_operand_named(op, part);
    qc_quant_codes q = {0};
    qc_op *cache = strcmp(part, "q") == 0 ? NULL : cache_of(value);
    qc_builder *b = qc_builder_before(cache ? cache : op);
    qc_builder_set_node(b, qc_op_node(op));
    qc_quant_make(pc, b, cache ? qc_op_operand(cache, 0) : value, scheme, "input", input, part, &q);
    if (cache)
        q.codes = append_codes(pc, b, cache, q.codes);
    if (!qc_builder_ok(b))
        return false;
    qc_op_set_operand_named(op, part, q.codes);
    qc_op_set_operand_named(op, scale_name, q.scale);
    if (cache)
        qc_op_erase(cache);
    return true;
}

qc_pass_result qc_quant_attention(
    qc_pass_ctx *pc, qc_module *module, const qc_quant_attention_request *request)
{
    static const char *const patterns[] = {"targets", "ignore", "layers", NULL};
    selection s = {0};
    const qc_attr *input = NULL;
    if (make_part(pc, request, &input) != QC_OK ||
        qc_quant_check_patterns(pc, module, "attention", patterns) != QC_OK)
        return QC_PASS_FAILED;
    const size_t errors = qc_ctx_error_count(qc_pass_ctx_get(pc));
    select_ops(pc, module, request, &s);
    if (qc_ctx_error_count(qc_pass_ctx_get(pc)) > errors) /* matching a pattern took too many steps */
        return QC_PASS_FAILED;
    if (s.count == 0)
        return qc_quant_need_graph(pc, module, "attention to quantize") != QC_OK
                   ? QC_PASS_FAILED
                   : qc_pass_fail(pc, NULL, "the model has no attention op to quantize");
    if (s.matched == 0)
        return qc_pass_fail(pc, NULL, "targets and layers select none of the %zu attention ops", s.count);
    if (s.taken_count == 0)
        qc_ctx_warning(qc_pass_ctx_get(pc), qc_pass_ctx_name(pc),
            "none of the %zu attention ops that are asked for was quantized: %s", s.matched, s.reason);
    if (s.taken_count == 0 || !(request->q || request->k || request->v))
        return QC_PASS_UNCHANGED;
    const char *scheme = make_symbol(pc, module, request, &s, input);
    for (size_t i = 0; i < s.count; i++) {
        if (!s.taken[i])
            continue;
        if ((request->q && !quantize_part(pc, s.ops[i], "q", "q_scale", scheme, input)) ||
            (request->k && !quantize_part(pc, s.ops[i], "k", "k_scale", scheme, input)) ||
            (request->v && !quantize_part(pc, s.ops[i], "v", "v_scale", scheme, input)))
            return QC_PASS_FAILED;
        qc_pass_count(pc, "attention ops quantized", 1);
    }
    return QC_PASS_CHANGED;
}
