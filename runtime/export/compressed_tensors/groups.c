/* SPDX-License-Identifier: MIT
 *
 * groups.c - schemes of the module as config groups of compressed-tensors: what their arguments are called there, which
 * storage format that project infers, and in which form codes, scales and zero points lie in a file of that format.
 *
 * A format is the first in the table whose line takes the group (compressed-tensors' COMPRESSION_FORMAT_PRIORITY and each
 * compressor's can_compress), unless the scheme names one.
 */
#include <string.h>

#include "runtime/export/compressed_tensors/internal.h"

/* ---- arguments ----------------------------------------------------------------------------------------- */

static const char *strategy_of(const qc_scheme_part *part)
{
    static const char *const strategies[] = {
        [QC_GRANULARITY_TENSOR] = "tensor",
        [QC_GRANULARITY_HEAD] = "attn_head",
        [QC_GRANULARITY_TOKEN] = "token",
        [QC_GRANULARITY_CHANNEL] = "channel",
        [QC_GRANULARITY_GROUP] = "group",
        [QC_GRANULARITY_BLOCK] = "block",
    };
    return part->global ? "tensor_group" : strategies[part->granularity];
}

/* What compressed-tensors cannot say, or NULL. */
static const char *unsayable(const qc_scheme_part *part)
{
    if (part->granularity == QC_GRANULARITY_TOKEN && !part->dynamic)
        return "has no static scales for each token";
    if (part->global && (part->type != QC_F4E2M1 || part->granularity != QC_GRANULARITY_GROUP))
        return "has global scales for groups of f4e2m1 alone";
    if (part->dynamic &&
        (part->granularity == QC_GRANULARITY_CHANNEL || part->granularity == QC_GRANULARITY_BLOCK ||
            part->granularity == QC_GRANULARITY_HEAD))
        return "has no dynamic scales of that granularity";
    return NULL;
}

/* Observers that llm-compressor has not: a file cannot name them. */
static bool is_own_observer(const char *observer)
{
    return strcmp(observer, "mse_mean") == 0 || strcmp(observer, "percentile") == 0 ||
           strcmp(observer, "recall_window") == 0;
}

qc_status ct_read_args(ct_plan *plan, const qc_symbol *symbol, const char *part_name, ct_args *args)
{
    *args = (ct_args){0};
    if (!qc_attr_find(qc_symbol_fields(symbol), part_name))
        return QC_OK;
    const char *where = qc_arena_printf(&plan->arena, "@%s", qc_symbol_name(symbol));
    qc_scheme_part *part = &args->part;
    if (qc_scheme_read(
            qc_ctx_diag(plan->ctx), where, plan->module, qc_symbol_name(symbol), part_name, part) != QC_OK)
        return QC_ERROR;
    const char *kind = strcmp(part_name, "input") == 0 ? "activations" : "weights";
    if (part->type != QC_F8E4M3 && part->type != QC_F4E2M1 && !qc_dtype_is_int(part->type))
        return qc_ctx_error(
            plan->ctx, where, "compressed-tensors stores no %s %s", qc_dtype_name(part->type), kind);
    const char *what = unsayable(part);
    if (what)
        return qc_ctx_error(plan->ctx, where, "its %s are %s of granularity %s: compressed-tensors %s", kind,
            qc_dtype_name(part->type), qc_granularity_name(part->granularity), what);
    args->present = true;
    args->local = part->dynamic && part->global;
    args->dynamic = part->dynamic && !args->local;
    args->is_float = qc_dtype_is_float(part->type);
    args->strategy = strategy_of(part);
    if (args->dynamic)
        return QC_OK;
    if (is_own_observer(part->observer)) {
        part->observer_args = NULL;
        return QC_OK;
    }
    if (*part->observer && strcmp(part->observer, "unset") != 0)
        args->observer =
            plan->as_tensors && strcmp(part->observer, "minmax") == 0 ? "static_minmax" : part->observer;
    else if (strcmp(part_name, "weights") == 0 && !plan->as_tensors)
        args->observer = "memoryless_minmax";
    return QC_OK;
}

/* ---- formats ------------------------------------------------------------------------------------------- */

typedef struct format_row {
    const char *name;
    ct_form form;
} format_row;

static const format_row formats[] = {
    {"mxfp4-pack-quantized", {CT_NIBBLES, QC_F8E8M0, "weight_packed"}},
    {"mxfp8-quantized", {CT_PLAIN, QC_F8E8M0, "weight"}},
    {"nvfp4-pack-quantized", {CT_NIBBLES, QC_F8E4M3, "weight_packed"}},
    {"int-quantized", {CT_PLAIN, QC_DTYPE_NONE, "weight"}},
    {"pack-quantized", {CT_WORDS, QC_DTYPE_NONE, "weight_packed"}},
    {"float-quantized", {CT_PLAIN, QC_DTYPE_NONE, "weight"}},
    {"naive-quantized", {CT_PLAIN, QC_DTYPE_NONE, "weight"}},
};

/* The priority list; the last line takes everything. */
static const char *infer(const ct_group *g)
{
    const qc_scheme_part *w = &g->weights.part;
    const bool is_float = g->weights.is_float, four = w->type == QC_F4E2M1;
    if (g->attention)
        return "dense";
    if (four && w->group_elems == 32)
        return "mxfp4-pack-quantized";
    if (is_float && !four && w->group_elems == 32 && w->scale_type == QC_F8E8M0)
        return "mxfp8-quantized";
    if (four)
        return "nvfp4-pack-quantized";
    if (!is_float)
        return g->input.present ? "int-quantized" : "pack-quantized";
    return g->input.present ? "float-quantized" : "naive-quantized";
}

/* Why the format cannot hold the group's weights, or NULL. */
static const char *misfit(const ct_group *g)
{
    const qc_scheme_part *w = &g->weights.part;
    const bool four = w->type == QC_F4E2M1;
    if (g->form.packing == CT_NIBBLES && !four)
        return "packs f4e2m1";
    if (g->form.packing == CT_WORDS && g->weights.is_float)
        return "packs integers";
    if (g->form.packing == CT_PLAIN && four)
        return "stores codes of 8 bits, a byte each";
    if (g->form.scale_type == QC_F8E8M0 && w->scale_type != QC_F8E8M0)
        return "stores scales that are powers of two: it needs scale = f8e8m0 (scale_dtype torch.uint8)";
    if (g->form.scale_type == QC_F8E4M3 && w->scale_type != QC_F8E4M3)
        return "stores scales in f8e4m3: it needs scale = f8e4m3 (scale_dtype torch.float8_e4m3fn)";
    return NULL;
}

qc_status ct_choose_format(ct_plan *plan, ct_group *g)
{
    const char *where = qc_arena_printf(&plan->arena, "@%s", qc_symbol_name(g->symbol));
    const char *forced = qc_attr_as_text(qc_attr_find(qc_symbol_fields(g->symbol), "format"));
    g->format = *forced ? forced : infer(g);
    if (g->attention)
        return strcmp(g->format, "dense") == 0
                   ? QC_OK
                   : qc_ctx_error(
                         plan->ctx, where, "a group of attention has the format dense, not %s", forced);
    const format_row *found = NULL;
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (strcmp(formats[i].name, g->format) == 0)
            found = &formats[i];
    if (!found) {
        qc_ctx_error(plan->ctx, where, "there is no format %s that weights could be stored in", g->format);
        for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
            qc_ctx_note(plan->ctx, "%s", formats[i].name);
        return QC_ERROR;
    }
    g->form = found->form;
    const char *why = misfit(g);
    if (!why)
        return QC_OK;
    return qc_ctx_error(
        plan->ctx, where, "%s %s; its weights are %s", g->format, why, qc_dtype_name(g->weights.part.type));
}

/* ---- groups -------------------------------------------------------------------------------------------- */

static bool same_field(const qc_symbol *a, const qc_symbol *b, const char *name)
{
    const qc_attr *x = qc_attr_find(qc_symbol_fields(a), name), *y = qc_attr_find(qc_symbol_fields(b), name);
    return x == y || (x && y && qc_attr_equal(x, y));
}

bool ct_same_group(const qc_symbol *a, const qc_symbol *b)
{
    return same_field(a, b, "targets") && same_field(a, b, "weights") && same_field(a, b, "input") &&
           same_field(a, b, "format") && same_field(a, b, "name");
}

ct_group *ct_find_group(ct_plan *plan, const qc_symbol *symbol, bool attention)
{
    for (size_t i = 0; i < plan->groups.count; i++)
        if (plan->groups.items[i].attention == attention &&
            ct_same_group(plan->groups.items[i].symbol, symbol))
            return &plan->groups.items[i];
    return NULL;
}

qc_status ct_add_group(ct_plan *plan, const qc_symbol *symbol, bool attention, size_t position)
{
    ct_group *known = ct_find_group(plan, symbol, attention);
    if (known) {
        known->first_module = position < known->first_module ? position : known->first_module;
        return QC_OK;
    }
    ct_group g = {.symbol = symbol, .attention = attention, .first_module = position};
    g.targets = qc_attr_find(qc_symbol_fields(symbol), "targets");
    g.ignore = qc_attr_find(qc_symbol_fields(symbol), "ignore");
    const char *where = qc_arena_printf(&plan->arena, "@%s", qc_symbol_name(symbol));
    if (!g.targets || qc_attr_get_kind(g.targets) != QC_ATTR_LIST || qc_attr_count(g.targets) == 0)
        return qc_ctx_error(plan->ctx, where, "a scheme to export must have targets");
    if (ct_read_args(plan, symbol, "weights", &g.weights) != QC_OK ||
        ct_read_args(plan, symbol, "input", &g.input) != QC_OK)
        return QC_ERROR;
    if (!attention && g.input.present && g.input.part.dynamic && g.input.part.search != QC_SEARCH_NONE)
        return qc_ctx_error(plan->ctx, where,
            "compressed-tensors has no search (option search) for scales of inputs, which are computed as "
            "the "
            "model runs");
    if (attention ? g.weights.present || !g.input.present
                  : !g.weights.present || g.weights.dynamic || g.weights.local)
        return qc_ctx_error(plan->ctx, where,
            attention ? "a scheme for attention must have an input and no weights"
                      : "a scheme for linear layers must have static weights");
    if (ct_choose_format(plan, &g) != QC_OK)
        return QC_ERROR;
    QC_PUSH(&plan->arena, &plan->groups, g);
    return QC_OK;
}

void ct_finish_groups(ct_plan *plan)
{
    /* Tree order, by insertion: there are few. */
    for (size_t i = 1; i < plan->groups.count; i++) {
        ct_group g = plan->groups.items[i];
        size_t k = i;
        for (; k > 0 && plan->groups.items[k - 1].first_module > g.first_module; k--)
            plan->groups.items[k] = plan->groups.items[k - 1];
        plan->groups.items[k] = g;
    }
    plan->format = "dense";
    for (size_t i = 0; i < plan->groups.count; i++) {
        const char *format = plan->groups.items[i].format;
        if (strcmp(format, "dense") == 0 || strcmp(format, plan->format) == 0)
            continue;
        plan->format = strcmp(plan->format, "dense") == 0 ? format : "mixed-precision";
    }
}

/* ---- targets ------------------------------------------------------------------------------------------- */

/* Does target `a` of an earlier or the same group give way to `b`? Patterns follow what is spelt out, each kind is
 * alphabetical, and of one text in two groups the later group has it. */
static bool comes_behind(const char *a, const char *b)
{
    int regex_a = strstr(a, "re:") != NULL, regex_b = strstr(b, "re:") != NULL;
    return regex_a != regex_b ? regex_a > regex_b : strcmp(a, b) >= 0;
}

/* The group that a reader of config.json gives the module: by the first target that names its path, else by the first that
 * names its class. Paths are those of the checkpoint, which vLLM turns into its own; it does not know other aliases. */
static ct_group *group_of_reader(ct_plan *plan, const qc_node *node)
{
    ct_group *found[2] = {NULL, NULL}; /* by path, by class */
    const char *best[2] = {NULL, NULL};
    for (size_t i = 0; i < plan->groups.count; i++) {
        ct_group *g = &plan->groups.items[i];
        for (size_t k = 0; k < qc_attr_count(g->targets); k++) {
            const char *target = qc_attr_as_text(qc_attr_item(g->targets, k));
            if (!qc_node_matches_stored(node, target))
                continue;
            bool by_class = !qc_starts_with(target, "re:") && strcmp(target, qc_node_path(node)) != 0;
            if (best[by_class] && !comes_behind(best[by_class], target))
                continue;
            found[by_class] = g;
            best[by_class] = target;
        }
    }
    return found[0] ? found[0] : found[1];
}

/* The list of the paths of the modules that have the group. */
static void name_modules(ct_plan *plan, const qc_map *quantized, ct_group *g)
{
    QC_VEC(const qc_attr *) paths = {0};
    for (const qc_node *n = qc_module_first_node(plan->module); n; n = qc_node_next(n)) {
        const qc_symbol *symbol = qc_map_get(quantized, qc_node_path(n));
        const char *alias = ct_expert_alias(&plan->arena, qc_node_path(n));
        if (!symbol || ct_find_group(plan, symbol, false) != g)
            continue;
        QC_PUSH(&plan->arena, &paths, qc_attr_string(plan->ctx, qc_node_path(n)));
        if (alias)
            QC_PUSH(&plan->arena, &paths, qc_attr_string(plan->ctx, alias));
    }
    g->named = qc_attr_list(plan->ctx, paths.items, paths.count);
    if (!plan->quiet)
        qc_ctx_remark(plan->ctx, qc_arena_printf(&plan->arena, "@%s", qc_symbol_name(g->symbol)),
            "config.json names its %zu modules: its targets, as a reader takes them (in order, by names of "
            "the "
            "checkpoint), are other modules",
            paths.count);
}

void ct_settle_targets(ct_plan *plan, const qc_map *quantized)
{
    bool *mixed = QC_NEW_ARRAY(&plan->arena, bool, plan->groups.count + 1);
    for (const qc_node *n = qc_module_first_node(plan->module); n; n = qc_node_next(n)) {
        const qc_symbol *symbol = qc_map_get(quantized, qc_node_path(n));
        const ct_group *own = symbol ? ct_find_group(plan, symbol, false) : NULL;
        const ct_group *read = own ? group_of_reader(plan, n) : NULL;
        if (own == read)
            continue;
        mixed[own - plan->groups.items] = true;
        if (read)
            mixed[read - plan->groups.items] = true;
    }
    for (size_t i = 0; i < plan->groups.count; i++)
        if (mixed[i] && !plan->groups.items[i].attention)
            name_modules(plan, quantized, &plan->groups.items[i]);
}
