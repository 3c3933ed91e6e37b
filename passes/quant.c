/* SPDX-License-Identifier: MIT
 *
 * quant.c - selection and symbols of the quantizing passes (quant.h).
 */
#include "passes/quant.h"

#include <stdio.h>
#include <string.h>

#include "ir/support/str.h"
#include "passes/experts.h"

void qc_quant_add_options(qc_pass *pass, const char *default_targets, const char *targets_help)
{
    qc_pass_add_option(pass, "targets", QC_OPTION_LIST, default_targets, NULL, targets_help);
    qc_pass_add_option(
        pass, "ignore", QC_OPTION_LIST, "[]", NULL, "modules to leave alone: class, path or re:PATTERN");
    qc_pass_add_option(pass, "arith", QC_OPTION_WORD, "ct_cpu", QC_ARITH_WORDS,
        "whose arithmetic scales and codes reproduce");
}

bool qc_quant_one_of(const char *text, const char *words)
{
    size_t length = strlen(text);
    for (const char *at = words; length > 0 && at; at = strchr(at, '|')) {
        at += *at == '|';
        if (strncmp(at, text, length) == 0 && (at[length] == '|' || at[length] == '\0'))
            return true;
    }
    return false;
}

/* ---- patterns ------------------------------------------------------------------------------------------ */

/* The module of such an op; of the experts of a layer that of the first. */
static const qc_node *node_with(const qc_op *op, const char *op_names)
{
    if (!qc_quant_one_of(qc_op_name(op), op_names))
        return NULL;
    return qc_linear_node_count(op) > 1 ? qc_linear_node(op, 0) : qc_op_node(op);
}

/* Does the pattern name a module that has one of these ops? */
static bool names_any(const qc_module *module, const char *op_names, const char *pattern)
{
    for (const qc_func *f = qc_module_first_func(module); f; f = qc_func_next(f))
        for (const qc_op *op = qc_func_first_op(f); op; op = qc_op_next(op)) {
            const qc_node *node = node_with(op, op_names);
            if (node && (qc_node_matches(node, pattern) || qc_linear_matches(op, pattern)))
                return true;
        }
    return false;
}

static const char *last_name(const char *path)
{
    const char *dot = strrchr(path, '.');
    return dot ? dot + 1 : path;
}

/* The longest name in a pattern: q_proj of re:.*\.q_proj$. */
static const char *literal_of(qc_pass_ctx *pc, const char *pattern)
{
    static const char name_bytes[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_";
    size_t best = 0;
    const char *start = "";
    for (const char *at = pattern + 3; *at; at++) {
        if (*at == '\\' && at[1]) {
            at++;
            continue;
        }
        size_t length = strspn(at, name_bytes);
        if (length > best) {
            best = length;
            start = at;
        }
        at += length ? length - 1 : 0;
    }
    char *text = qc_pass_alloc(pc, best + 1);
    memcpy(text, start, best);
    return text;
}

/* What the pattern may have meant: a class, the last name of a path, or a path. */
static const char *nearest(
    qc_pass_ctx *pc, const qc_module *module, const char *op_names, const char *pattern)
{
    enum { MOST = 3 * 4096 };
    const char **names = qc_pass_alloc(pc, MOST * sizeof *names);
    bool regex = strncmp(pattern, "re:", 3) == 0;
    size_t count = 0;
    for (const qc_func *f = qc_module_first_func(module); f; f = qc_func_next(f))
        for (const qc_op *op = qc_func_first_op(f); op && count + 3 <= MOST; op = qc_op_next(op)) {
            const qc_node *node = node_with(op, op_names);
            if (!node)
                continue;
            const char *last = last_name(qc_node_path(node));
            if (!regex && strcmp(last, pattern) == 0) /* a path is wanted, not its end */
                return qc_node_path(node);
            names[count++] = last;
            if (regex)
                continue;
            names[count++] = qc_node_class(node);
            names[count++] = qc_node_path(node);
        }
    return qc_nearest_name(regex ? literal_of(pc, pattern) : pattern, names, count);
}

void qc_quant_warn_no_match(
    qc_pass_ctx *pc, const qc_module *module, const char *op_names, const char *option, const char *pattern)
{
    const char *name = nearest(pc, module, op_names, pattern);
    qc_ctx_warning(qc_pass_ctx_get(pc), qc_pass_ctx_name(pc), "%s: '%s' names no module with %s%s%s%s",
        option, pattern, strcmp(op_names, "attention") == 0 ? "attention" : "a weight to quantize",
        name ? ", nearest is '" : "", name ? name : "", name ? "'" : "");
}

qc_status qc_quant_check_patterns(
    qc_pass_ctx *pc, const qc_module *module, const char *op_names, const char *const *options)
{
    qc_ctx *ctx = qc_pass_ctx_get(pc);
    const size_t errors = qc_ctx_error_count(ctx);
    for (; *options; options++)
        for (size_t i = 0; i < qc_pass_option_count(pc, *options); i++) {
            const char *pattern = qc_pass_option_item(pc, *options, i);
            if (qc_target_check(ctx, pattern) != QC_OK)
                return QC_ERROR;
            /* A recipe ignores for all its passes: what another one could have quantized is no slip. */
            if (strcmp(*options, "ignore") == 0 && !names_any(module, "attention|" QC_WEIGHT_OPS, pattern))
                qc_quant_warn_no_match(pc, module, op_names, *options, pattern);
            if (qc_ctx_error_count(ctx) > errors) /* matching took too many steps */
                return QC_ERROR;
        }
    return QC_OK;
}

/* ---- attributes and symbols ---------------------------------------------------------------------------- */

const qc_attr *qc_quant_map(qc_ctx *ctx, const char *const *keys, const qc_attr *const *values)
{
    const char *kept_keys[16];
    const qc_attr *kept[16];
    size_t count = 0;
    for (size_t i = 0; keys[i] && count < 16; i++)
        if (values[i]) {
            kept_keys[count] = keys[i];
            kept[count++] = values[i];
        }
    return qc_attr_map(ctx, kept_keys, kept, count);
}

const qc_attr *qc_quant_list_option(qc_pass_ctx *pc, const char *name)
{
    return qc_pass_option_count(pc, name) > 0 ? qc_pass_option_attr(pc, name) : NULL;
}

const char *qc_quant_symbol(
    qc_pass_ctx *pc, qc_module *module, const char *kind, const char *base, int number, const qc_attr *fields)
{
    size_t size = strlen(base) + 16;
    char *name = qc_pass_alloc(pc, size);
    for (int i = number < 0 ? 0 : number; i < INT32_MAX; i++) {
        if (i == 0 && number < 0)
            snprintf(name, size, "%s", base);
        else
            snprintf(name, size, "%s_%d", base, i);
        qc_symbol *symbol = qc_module_find_symbol(module, name);
        if (!symbol)
            return qc_symbol_name(qc_module_add_symbol(module, kind, name, fields));
        if (strcmp(qc_symbol_kind(symbol), kind) == 0 && qc_attr_equal(qc_symbol_fields(symbol), fields))
            return qc_symbol_name(symbol);
    }
    return NULL;
}

qc_status qc_quant_need_graph(qc_pass_ctx *pc, const qc_module *module, const char *what)
{
    const qc_symbol *import = qc_module_find_symbol(module, "import");
    const qc_attr *mode = import ? qc_attr_find(qc_symbol_fields(import), "mode") : NULL;
    if (strcmp(qc_attr_as_text(mode), "tensors") != 0)
        return QC_OK;
    qc_pass_fail(pc, NULL, "this model was imported as tensors: without a graph there is no %s", what);
    qc_ctx_note(qc_pass_ctx_get(pc),
        "--list-archs lists the architectures that have one; schemes for weights alone need none");
    return QC_ERROR;
}

bool qc_quant_is_plain(const qc_value *value)
{
    qc_dtype dtype = qc_type_dtype(qc_value_type(value));
    return dtype == QC_BF16 || dtype == QC_F16 || dtype == QC_F32;
}

bool qc_quant_needs_data(const qc_op *op)
{
    const char *scheme = qc_attr_as_text(qc_op_attr(op, "scheme"));
    const bool global = qc_op_is(op, "global_scale");
    if (!(global || qc_op_is(op, "qparams") || qc_op_is(op, "zero_point")) ||
        strcmp(qc_attr_as_text(qc_op_attr(op, "arg")), "input") != 0)
        return false;
    const qc_symbol *symbol = qc_module_find_symbol(qc_func_module(qc_op_func(op)), scheme);
    const qc_attr *part = symbol ? qc_attr_find(qc_symbol_fields(symbol), "input") : NULL;
    return part && (global || !qc_attr_as_bool(qc_attr_find(part, "dynamic")));
}

qc_op *qc_quant_cache_of(const qc_value *value)
{
    qc_op *op = value ? qc_value_op(value) : NULL;
    return op && qc_op_is(op, "cache_append") ? op : NULL;
}

bool qc_quant_is_returned(const qc_value *value)
{
    const qc_op *op = qc_value_op(value);
    const qc_func *func = op ? qc_op_func(op) : NULL;
    for (size_t i = 0; func && i < qc_func_result_count(func); i++)
        if (qc_func_result(func, i) == value)
            return true;
    return false;
}

/* Has the value a single column, so that it scales rows? */
static bool is_column(const qc_value *value)
{
    int64_t columns;
    return qc_type_rank(qc_value_type(value)) > 0 &&
           qc_dim_as_int(qc_type_dim(qc_value_type(value), -1), &columns) && columns == 1;
}

qc_value *qc_quant_scaled(const qc_op *op)
{
    bool product = qc_op_is(op, "mul");
    const qc_type *type;
    for (size_t i = 0; i < (product ? 2u : qc_op_is(op, "div") ? 1u : 0u); i++) {
        type = qc_value_type(qc_op_operand(op, i));
        if (is_column(qc_op_operand(op, 1 - i)) && type == qc_value_type(qc_op_result(op, 0)))
            return qc_op_operand(op, i);
    }
    return NULL;
}

bool qc_quant_comes_before(const qc_op *op, const qc_op *other)
{
    /* The search widens in both directions. */
    const qc_op *back = qc_op_prev(other), *forth = other;
    while (back || forth) {
        if (back == op)
            return true;
        if (forth == op)
            return false;
        back = back ? qc_op_prev(back) : NULL;
        forth = forth ? qc_op_next(forth) : NULL;
    }
    return false;
}

/* An operand of the op that is computed behind `before`; NULL: there is none. */
static qc_op *late_operand(const qc_op *op, const qc_op *before)
{
    for (size_t i = 0; i < qc_op_operand_count(op); i++) {
        const qc_value *operand = qc_op_operand(op, i);
        qc_op *from = operand ? qc_value_op(operand) : NULL;
        if (from && !qc_quant_comes_before(from, before))
            return from;
    }
    return NULL;
}

/* With a stack of its own: an expression may be deeper than calls can nest. */
void qc_quant_hoist(qc_value *value, qc_op *before)
{
    qc_arena arena;
    QC_VEC(qc_op *) open = {0};
    qc_op *last = qc_value_op(value);
    if (!last || qc_quant_comes_before(last, before))
        return;
    qc_arena_init(&arena, NULL);
    QC_PUSH(&arena, &open, last);
    while (open.count) {
        qc_op *op = open.items[open.count - 1], *from = late_operand(op, before);
        if (from) {
            QC_PUSH(&arena, &open, from);
            continue;
        }
        open.count--;
        qc_op_move_before(op, before);
    }
    qc_arena_fini(&arena);
}

/* ---- ops ----------------------------------------------------------------------------------------------- */

/* "w_scale" */
static const char *hint(qc_pass_ctx *pc, const char *prefix, const char *suffix)
{
    size_t size = strlen(prefix) + strlen(suffix) + 2;
    char *text = qc_pass_alloc(pc, size);
    snprintf(text, size, "%s_%s", prefix, suffix);
    return text;
}

static void make_by_scheme(
    qc_builder *b, const char *op, const char *scheme, const char *arg, int64_t experts)
{
    qc_make(b, op);
    qc_make_attr_symbol(b, "scheme", scheme);
    qc_make_attr_word(b, "arg", arg);
    if (experts > 0)
        qc_make_attr_int(b, "experts", experts);
}

void qc_quant_make(qc_pass_ctx *pc, qc_builder *b, qc_value *x, const char *scheme, const char *arg,
    const qc_attr *part, const char *prefix, qc_quant_codes *q)
{
    if (!q->global && qc_attr_as_bool(qc_attr_find(part, "global"))) {
        make_by_scheme(b, "global_scale", scheme, arg, q->experts);
        qc_make_variadic(b, x);
        q->global = qc_make_end(b, hint(pc, prefix, "global"));
    }
    make_by_scheme(b, "qparams", scheme, arg, q->experts);
    qc_make_operand(b, "x", x);
    qc_make_operand(b, "global", q->global);
    q->scale = qc_make_end(b, hint(pc, prefix, "scale"));
    if (!qc_attr_as_bool(qc_attr_find(part, "symmetric"))) {
        make_by_scheme(b, "zero_point", scheme, arg, q->experts);
        qc_make_operand(b, "x", x);
        q->zero_point = qc_make_end(b, hint(pc, prefix, "zero"));
    }
    make_by_scheme(b, "quantize", scheme, arg, 0); /* its scales say how many there are */
    qc_make_operand(b, "x", x);
    qc_make_operand(b, "scale", q->scale);
    qc_make_operand(b, "global", q->global);
    qc_make_operand(b, "zero_point", q->zero_point);
    q->codes = qc_make_end(b, hint(pc, prefix, "codes"));
}

void qc_quant_make_scale(qc_builder *b, const qc_op *op, qc_value *x, int64_t experts)
{
    qc_make(b, qc_op_name(op));
    if (qc_op_is(op, "global_scale"))
        qc_make_variadic(b, x);
    else
        qc_make_operand(b, "x", x);
    for (size_t i = 0; i < qc_op_attr_count(op); i++) {
        const char *name = qc_op_attr_name(op, i);
        if (strcmp(name, "from") != 0 && strcmp(name, "experts") != 0 && qc_op_attr_given(op, name))
            qc_make_attr(b, name, qc_op_attr(op, name));
    }
    qc_make_attr_word(b, "from", "stat");
    if (experts > 0)
        qc_make_attr_int(b, "experts", experts);
}

qc_value *qc_quant_unmake(
    qc_builder *b, const qc_quant_codes *q, const qc_attr *part, qc_dtype to, const char *prefix)
{
    const qc_attr *group = qc_attr_find(part, "group"), *block = qc_attr_find(part, "block");
    qc_make(b, "dequantize");
    qc_make_operand(b, "x", q->codes);
    qc_make_operand(b, "scale", q->scale);
    qc_make_operand(b, "global", q->global);
    qc_make_operand(b, "zero_point", q->zero_point);
    qc_make_attr_word(b, "to", qc_dtype_name(to));
    if (group)
        qc_make_attr(b, "group", group);
    if (block)
        qc_make_attr(b, "block", block);
    return qc_make_end(b, prefix);
}
