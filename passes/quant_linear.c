/* SPDX-License-Identifier: MIT
 *
 * quant_linear.c - codes for the weights and the inputs of linears, for the tables of embeddings, and for weights
 * that are only kept; by preset, part by part, or in several groups (linear_groups.h).
 *
 * The product itself stays in the model's element type: weight -> qparams -> quantize -> dequantize ->
 * linear, and the same for the input. A backend that multiplies codes must give the same numbers. Each linear
 * has a quantize of its own although several read one input: their scales are stored under their own names.
 *
 * Under a global scale (NVFP4) the weights of linears that loaders fuse into one share it: one `global_scale` over all
 * of them, so that their scales mean the same.
 *
 * The weights of all experts of a layer are one bank, quantized for all of them or for none: each expert has scales of
 * its own, as if it were a linear. Routers are never quantized. A static scale of what experts read is one for all of
 * them until insert-observers makes it one for each.
 *
 * Everything that can be wrong with a module is looked for before the first is changed.
 */
#include <stdio.h>
#include <string.h>

#include "passes/experts.h"
#include "passes/internal.h"
#include "passes/linear_groups.h"
#include "passes/schemes.h"

void qc_pass_quant_linear(qc_registry *registry);

/* A module to quantize. */
typedef struct item {
    qc_op *op;
    const char *path;    /* of the module; of experts with {e} for the number */
    const char *operand; /* that is its weight */
    qc_linear_group *group;
    qc_value *global; /* of the weights, once made */
} item;

typedef QC_VEC(item) item_list;

typedef struct job {
    qc_pass_ctx *pc;
    qc_module *module;
    qc_linear_groups groups;
    item_list items;
    qc_map by_path; /* the first item of a path, when one has a global scale */
    size_t count, matched, fused;
    const char *reason; /* why the last of those that match was left alone */
} job;

/* ---- which modules ------------------------------------------------------------------------------------- */

static const char *weight_operand(const qc_op *op)
{
    return qc_op_is(op, "keep") ? "x" : "w";
}

static bool is_dequantized(const qc_value *value)
{
    const qc_op *op = value ? qc_value_op(value) : NULL;
    return op && qc_op_is(op, "dequantize");
}

/* Were the codes of the source read as plain numbers, for somebody to quantize again? */
static bool source_was_quantized(const qc_op *op)
{
    const qc_symbol *import = qc_module_find_symbol(qc_func_module(qc_op_func(op)), "import");
    return import && qc_attr_find(qc_symbol_fields(import), "dequantized");
}

/* What a view shows the parts of. */
static const qc_value *behind_views(const qc_value *w)
{
    for (const qc_op *op = qc_value_op(w); op && qc_quant_one_of(qc_op_name(op), "slice|transpose|reshape");
         op = qc_value_op(w))
        w = qc_op_operand(op, 0);
    return w;
}

/* A weight with codes of the compiler's own, or of the source where those are to stay. */
static bool has_codes(const qc_op *op, const qc_value *w)
{
    w = behind_views(w);
    const qc_value *codes = is_dequantized(w) ? qc_op_operand_named(qc_value_op(w), "x") : NULL;
    return codes &&
           (!source_was_quantized(op) || (qc_value_op(codes) && qc_op_is(qc_value_op(codes), "quantize")));
}

/* NULL when the modules of this op are to be quantized; `group` is the one that its targets give it. */
static const char *why_not(const qc_op *op, bool ignored, const qc_linear_group *group)
{
    const qc_value *w = qc_op_operand_named(op, weight_operand(op)),
                   *x = qc_is_linear(op) ? qc_op_operand_named(op, "x") : NULL;
    if (!qc_op_node(op))
        return "it belongs to no module";
    if (ignored)
        return "the module is ignored or disabled";
    if (qc_linear_is_router(op))
        return "it is a router, which stays in full precision";
    if (is_dequantized(x) || has_codes(op, w))
        return "it is quantized already";
    if ((x && !qc_quant_is_plain(x)) || !qc_quant_is_plain(w))
        return x ? "its input or weight is neither bf16, f16 nor f32"
                 : "its weight is neither bf16, f16 nor f32";
    if (qc_type_rank(qc_value_type(w)) != (qc_op_is(op, "expert_linear") ? 3 : 2))
        return "its weight is no matrix";
    if (!group->weights)
        return "its group leaves it as it is";
    return NULL;
}

/* The group that targets give to the modules of the op, NULL where they give none. An error where experts of one layer
 * would be treated differently. */
static qc_status group_of(job *j, const qc_op *op, qc_linear_group **group, bool *ignored)
{
    size_t count = qc_linear_node_count(op), alike = 0;
    *group = NULL;
    *ignored = false;
    for (size_t i = 0; i < count; i++) {
        const qc_node *node = qc_linear_node(op, i);
        qc_linear_group *own = node ? qc_linear_groups_find(&j->groups, node) : NULL;
        bool own_ignored = own && qc_pass_option_matches(j->pc, "ignore", node, false);
        if (i == 0) {
            *group = own;
            *ignored = own_ignored;
        }
        alike += own == *group && own_ignored == *ignored;
    }
    if (alike == count)
        return QC_OK;
    qc_pass_fail(j->pc, op,
        "targets and ignore treat %zu of the %zu experts of %s like the first, and others in another way: "
        "the "
        "experts of a layer are quantized alike, all or none",
        alike, count, qc_linear_path(j->pc->arena, op));
    return QC_ERROR;
}

/* A target that can mean nothing else than this router is a slip that must not pass; a pattern may well name one beside
 * others. */
static qc_status check_router(job *j, const qc_op *op)
{
    const qc_node *node = qc_op_node(op);
    for (size_t i = 0; i < j->groups.target_count; i++) {
        const char *text = j->groups.targets[i].text;
        if (strncmp(text, "re:", 3) == 0 || strcmp(text, "Linear") == 0 || !qc_node_matches(node, text))
            continue;
        qc_pass_fail(j->pc, op, "targets: '%s' names a router, which stays in full precision", text);
        return QC_ERROR;
    }
    return QC_OK;
}

static qc_status visit(job *j, qc_op *op)
{
    qc_linear_group *group;
    bool ignored;
    if (qc_linear_is_fused(op)) {
        j->fused++;
        qc_pass_remark(
            j->pc, op, "experts left alone: they are one tensor, and linearize-moe did not come before");
        return QC_OK;
    }
    if (group_of(j, op, &group, &ignored) != QC_OK)
        return QC_ERROR;
    j->count += qc_linear_node_count(op) ? qc_linear_node_count(op) : 1;
    if (!group)
        return QC_OK;
    j->matched++;
    const char *reason = why_not(op, ignored, group);
    if (reason) {
        bool router = !ignored && qc_linear_is_router(op);
        j->reason = reason;
        qc_pass_remark(j->pc, op, "%s left alone: %s",
            qc_op_is(op, "keep")            ? "weight"
            : qc_op_is(op, "expert_linear") ? "linears of experts"
                                            : qc_op_name(op),
            reason);
        return router ? check_router(j, op) : QC_OK;
    }
    item it = {op, qc_linear_path(j->pc->arena, op), weight_operand(op), group, NULL};
    QC_PUSH(j->pc->arena, &j->items, it);
    return QC_OK;
}

static qc_status select_items(job *j)
{
    qc_ctx *ctx = qc_pass_ctx_get(j->pc);
    const size_t errors = qc_ctx_error_count(ctx);
    for (qc_func *f = qc_module_first_func(j->module); f; f = qc_func_next(f))
        for (qc_op *op = qc_func_first_op(f); op; op = qc_op_next(op))
            if (qc_quant_one_of(qc_op_name(op), QC_LINEAR_OPS) && visit(j, op) != QC_OK)
                return QC_ERROR;
    if (qc_ctx_error_count(ctx) > errors) /* matching a pattern took too many steps */
        return QC_ERROR;
    for (size_t i = 0; j->count > 0 && i < j->groups.target_count; i++)
        if (!j->groups.targets[i].used)
            qc_quant_warn_no_match(j->pc, j->module, QC_LINEAR_OPS, "targets", j->groups.targets[i].text);
    if (j->fused > 0)
        qc_ctx_warning(ctx, qc_pass_ctx_name(j->pc),
            "%zu banks of experts stay as they are: they are one tensor each, of which linearize-moe makes "
            "modules",
            j->fused);
    if (j->count == 0)
        qc_pass_fail(j->pc, NULL, "the model has no linear op to quantize");
    else if (j->matched == 0)
        qc_pass_fail(j->pc, NULL, "targets select none of the %zu modules that have weights", j->count);
    else if (j->items.count == 0)
        qc_ctx_warning(ctx, qc_pass_ctx_name(j->pc),
            "none of the %zu modules that are asked for was quantized: %s", j->matched, j->reason);
    return j->matched > 0 ? QC_OK : QC_ERROR;
}

/* ---- what they cannot have ----------------------------------------------------------------------------- */

/* The columns of the item's weight when its groups do not divide them, else 0. */
static int64_t undivided(const item *it, const qc_attr *part)
{
    int64_t group = qc_attr_as_int(qc_attr_find(part, "group")), columns;
    const qc_type *type = qc_value_type(qc_op_operand_named(it->op, it->operand));
    if (group == 0 || !qc_dim_as_int(qc_type_dim(type, -1), &columns) || columns % group == 0)
        return 0;
    return columns;
}

/* The largest power of two below `size` that divides the columns of all modules of the group; 0 where the type of the
 * scales leaves no choice. */
static long long fitting_size(const job *j, const qc_linear_group *group, const qc_attr *part, long long size)
{
    if (qc_attr_find(part, "scale"))
        return 0;
    long long all = 0, fits = 1;
    for (size_t i = 0; i < j->items.count; i++) {
        const item *it = &j->items.items[i];
        int64_t columns;
        if (it->group == group &&
            qc_dim_as_int(qc_type_dim(qc_value_type(qc_op_operand_named(it->op, it->operand)), -1), &columns))
            all |= columns;
    }
    while (fits * 2 < size && all % (fits * 2) == 0)
        fits *= 2;
    return fits < 8 ? 0 : fits;
}

/* Groups should divide the columns of every module; what is said lists those where they do not. Of weights that is an
 * error: no format stores a short group. Inputs are quantized by the engine that runs the model: the checkpoint can be
 * written, but engines will not run those modules. */
static qc_status check_divisible(job *j, const qc_linear_group *group, const char *arg, const qc_attr *part)
{
    enum { LISTED = 5 };
    size_t wrong = 0, total = 0;
    qc_str list;
    qc_str_init(&list, j->pc->arena);
    for (size_t i = 0; i < j->items.count; i++) {
        const item *it = &j->items.items[i];
        if (it->group != group)
            continue;
        int64_t columns = undivided(it, part);
        total++;
        if (columns == 0)
            continue;
        if (wrong++ < LISTED)
            qc_str_addf(&list, "%s%s (%lld columns)", wrong > 1 ? ", " : "", it->path, (long long)columns);
        qc_pass_remark(j->pc, it->op, "%s: %lld columns", arg, (long long)columns);
    }
    if (wrong > LISTED)
        qc_str_addf(&list, " and %zu more", wrong - LISTED);
    const long long size = (long long)qc_attr_as_int(qc_attr_find(part, "group"));
    const bool refused = wrong > 0 && part != group->input;
    if (refused) {
        const long long fits = fitting_size(j, group, part, size);
        const char *choice = "";
        if (fits)
            choice = qc_arena_printf(j->pc->arena, "choose one that does (%lld), or ", fits);
        qc_pass_fail(j->pc, NULL,
            "%s: a group of %lld does not divide the columns of %zu of %zu modules: %s; %signore them", arg,
            size, wrong, total, list.data, choice);
    }
    if (wrong > 0 && !refused)
        qc_ctx_warning(qc_pass_ctx_get(j->pc), qc_pass_ctx_name(j->pc),
            "%s: a group of %lld does not divide the columns of %zu of %zu modules, which vLLM does not run: "
            "%s",
            arg, size, wrong, total, list.data);
    qc_str_fini(&list);
    return refused ? QC_ERROR : QC_OK;
}

static qc_status check_input(job *j, const item *it)
{
    const qc_attr *input = it->group->input;
    bool is_static = input && (!qc_attr_as_bool(qc_attr_find(input, "dynamic")) ||
                                  qc_attr_as_bool(qc_attr_find(input, "global")));
    if (!input)
        return QC_OK;
    if (qc_op_is(it->op, "embedding") && !is_static)
        qc_pass_remark(j->pc, it->op, "input: the inputs of an embedding are token ids, which stay");
    if (qc_op_is(it->op, "embedding") && is_static)
        qc_pass_fail(j->pc, it->op,
            "the inputs of an embedding are token ids, which have no scale: give it a group without input");
    else if (qc_op_is(it->op, "keep") && is_static) {
        qc_pass_fail(j->pc, it->op,
            "input: static scales need a model that runs, and these weights were imported as tensors");
        qc_ctx_note(qc_pass_ctx_get(j->pc),
            "schemes of weights alone (NVFP4A16) and with dynamic inputs (FP8_DYNAMIC) need no graph; "
            "--list-archs lists the architectures that have one");
    } else
        return QC_OK;
    return QC_ERROR;
}

/* What weighs columns by the inputs is not kept for each expert. */
static qc_status check_experts(job *j, const item *it)
{
    const char *observer = qc_attr_as_text(qc_attr_find(it->group->weights, "observer"));
    if (!qc_op_is(it->op, "expert_linear") || !strstr(observer, "imatrix"))
        return QC_OK;
    qc_pass_fail(j->pc, it->op,
        "weights: %s weighs columns by the inputs of each expert, which calibration does not keep: take %s "
        "for "
        "experts, or ignore them",
        observer, strstr(observer, "nvfp4") ? "nvfp4_expanded_mse" : "mse");
    return QC_ERROR;
}

static qc_status check_items(job *j)
{
    for (size_t i = 0; i < j->items.count; i++)
        if (check_input(j, &j->items.items[i]) != QC_OK || check_experts(j, &j->items.items[i]) != QC_OK)
            return QC_ERROR;
    for (size_t i = 0; i < j->groups.count; i++) {
        const qc_linear_group *group = &j->groups.groups[i];
        if (check_divisible(j, group, "weights", group->weights) != QC_OK ||
            check_divisible(j, group, "input", group->input) != QC_OK)
            return QC_ERROR;
    }
    return QC_OK;
}

/* ---- shared global scales ------------------------------------------------------------------------------ */

/* Siblings that loaders fuse into one product. */
static const char *const fused[][4] = {
    {"gate_proj", "up_proj", NULL},
    {"q_proj", "k_proj", "v_proj", NULL},
    {"q_a_proj", "kv_a_proj_with_mqa", NULL},
    {"w1", "w3", NULL},
};

static bool has_global(const item *it)
{
    return qc_attr_as_bool(qc_attr_find(it->group->weights, "global"));
}

/* The set that has this name, NULL when none does. */
static const char *const *fused_set(const char *name)
{
    for (size_t i = 0; i < sizeof fused / sizeof fused[0]; i++)
        for (const char *const *member = fused[i]; *member; member++)
            if (strcmp(*member, name) == 0)
                return fused[i];
    return NULL;
}

static void index_paths(job *j)
{
    bool any = false;
    for (size_t i = 0; i < j->items.count; i++)
        any |= has_global(&j->items.items[i]);
    for (size_t i = 0; any && i < j->items.count; i++) {
        item *it = &j->items.items[i];
        if (!qc_map_get(&j->by_path, it->path))
            qc_map_set(&j->by_path, it->path, it);
    }
}

/* The items that share the global scale of `it`, itself included, in the order of the set. */
static size_t members_of(job *j, item *it, item *members[4])
{
    const char *path = it->path, *dot = strrchr(path, '.'), *name = dot ? dot + 1 : path;
    const char *const *set = fused_set(name);
    size_t prefix = (size_t)(name - path), size = strlen(path) + 32, count = 0;
    char *sibling = qc_pass_alloc(j->pc, size);
    for (; set && *set; set++) {
        snprintf(sibling, size, "%.*s%s", (int)prefix, path, *set);
        item *member = qc_map_get(&j->by_path, sibling);
        if (member)
            members[count++] = member;
    }
    if (!set)
        members[count++] = qc_map_get(&j->by_path, path);
    return count;
}

/* Members of a set are quantized alike, or their scales could not be one. */
static qc_status check_sets(job *j)
{
    for (size_t i = 0; j->by_path.count > 0 && i < j->items.count; i++) {
        item *it = &j->items.items[i], *members[4];
        size_t count = has_global(it) ? members_of(j, it, members) : 0;
        for (size_t k = 0; k < count; k++)
            if (!qc_attr_equal(members[k]->group->weights, it->group->weights)) {
                qc_pass_fail(j->pc, it->op,
                    "its weights share a global scale with those of %s, which are quantized in another way: "
                    "give "
                    "both the same scheme, or ignore one of them",
                    members[k]->path);
                return QC_ERROR;
            }
    }
    return QC_OK;
}

/* One global scale over the weights of all members. */
static void make_global(job *j, item *it, const char *scheme)
{
    item *members[4];
    size_t count = members_of(j, it, members);
    if (members[0]->global) { /* of another op of this module, too */
        it->global = members[0]->global;
        return;
    }
    for (size_t i = 0; i < count; i++)
        qc_quant_hoist(qc_op_operand_named(members[i]->op, members[i]->operand), it->op);
    qc_builder *b = qc_builder_before(it->op);
    qc_make(b, "global_scale");
    qc_make_attr_symbol(b, "scheme", scheme);
    qc_make_attr_word(b, "arg", "weights");
    if (qc_linear_experts(it->op))
        qc_make_attr_int(b, "experts", qc_linear_experts(it->op));
    for (size_t i = 0; i < count; i++)
        qc_make_variadic(b, qc_op_operand_named(members[i]->op, members[i]->operand));
    qc_value *global = qc_make_end(b, "w_global");
    for (size_t i = 0; i < count; i++)
        members[i]->global = global;
    it->global = global;
}

/* ---- the rewrite --------------------------------------------------------------------------------------- */

/* The row of ir/dtype/arith.h; weights without a graph have one of their own for each. */
static const char *arith_of(job *j)
{
    const char *name = qc_pass_option_text(j->pc, "arith");
    if (!j->groups.bare || strstr(name, "_bare"))
        return name;
    size_t size = strlen(name) + sizeof "_bare";
    char *bare = qc_pass_alloc(j->pc, size);
    snprintf(bare, size, "%s_bare", name);
    return bare;
}

/* A range over several rows has no columns to weigh; it is searched like any other. */
static void warn_of_importance(job *j, const qc_attr *weights)
{
    const char *observer = qc_attr_as_text(qc_attr_find(weights, "observer"));
    const char *granularity = qc_attr_as_text(qc_attr_find(weights, "granularity"));
    if (strstr(observer, "imatrix") && !qc_quant_one_of(granularity, "channel|group"))
        qc_ctx_warning(qc_pass_ctx_get(j->pc), qc_pass_ctx_name(j->pc),
            "weights: %s cannot weigh columns under granularity %s: ranges are searched unweighted", observer,
            granularity);
}

static const char *make_symbol(job *j, const qc_linear_group *group)
{
    qc_ctx *ctx = qc_pass_ctx_get(j->pc);
    const char *format = qc_pass_option_text(j->pc, "format");
    warn_of_importance(j, group->weights);
    static const char *const keys[] = {
        "arith", "format", "ignore", "input", "name", "targets", "weights", NULL};
    const qc_attr *values[] = {
        qc_attr_word(ctx, arith_of(j)),
        strcmp(format, "auto") != 0 ? qc_attr_string(ctx, format) : group->format,
        qc_quant_list_option(j->pc, "ignore"),
        group->input,
        group->name,
        group->targets,
        group->weights,
    };
    return qc_quant_symbol(j->pc, j->module, "scheme", "group", 0, qc_quant_map(ctx, keys, values));
}

static bool quantize_operand(job *j, item *it, const char *operand, const char *arg, const qc_attr *part)
{
    qc_value *value = qc_op_operand_named(it->op, operand);
    qc_builder *b = qc_builder_before(it->op);
    bool weights = strcmp(arg, "weights") == 0;
    const char *prefix = weights ? "w" : "x";
    qc_quant_codes q = {
        .global = weights ? it->global : NULL, .experts = weights ? qc_linear_experts(it->op) : 0};
    qc_quant_make(j->pc, b, value, it->group->symbol, arg, part, prefix, &q);
    qc_value *again = qc_quant_unmake(b, &q, part, qc_type_dtype(qc_value_type(value)), prefix);
    return qc_builder_ok(b) && qc_op_set_operand_named(it->op, operand, again);
}

static qc_status quantize_all(job *j)
{
    for (size_t i = 0; i < j->items.count; i++) {
        item *it = &j->items.items[i];
        if (!it->group->symbol)
            it->group->symbol = make_symbol(j, it->group);
        if (has_global(it) && !it->global)
            make_global(j, it, it->group->symbol);
        if (!quantize_operand(j, it, it->operand, "weights", it->group->weights))
            return QC_ERROR;
        if (it->group->input && qc_is_linear(it->op) &&
            !quantize_operand(j, it, "x", "input", it->group->input))
            return QC_ERROR;
        const int64_t experts = qc_linear_experts(it->op);
        qc_pass_count(j->pc,
            qc_is_linear(it->op)            ? "linears quantized"
            : qc_op_is(it->op, "embedding") ? "embeddings quantized"
                                            : "weights quantized",
            experts ? experts : 1);
    }
    return QC_OK;
}

static qc_pass_result run(qc_pass_ctx *pc, qc_module *module)
{
    static const char *const patterns[] = {"ignore", NULL};
    job j = {.pc = pc, .module = module};
    qc_map_init(&j.by_path, pc->arena);
    if (qc_linear_groups_read(pc, module, &j.groups) != QC_OK ||
        qc_quant_check_patterns(pc, module, QC_LINEAR_OPS, patterns) != QC_OK || select_items(&j) != QC_OK ||
        check_items(&j) != QC_OK)
        return QC_PASS_FAILED;
    index_paths(&j);
    if (check_sets(&j) != QC_OK || quantize_all(&j) != QC_OK)
        return QC_PASS_FAILED;
    return j.items.count > 0 ? QC_PASS_CHANGED : QC_PASS_UNCHANGED;
}

/* clang-format off */
static const char description[] =
    "Adds `scheme @group_N` and puts `qparams`, `quantize` and `dequantize` before the weight and the input of each selected\n"
    "linear, before the table of each selected embedding, and before each selected weight that is only kept. `scheme` is a preset\n"
    "(`--list-schemes`). `weights` and `input` are parts; with `scheme` they replace that part of the preset, and an empty map\n"
    "leaves it out. Weights without `scheme` are all there is: nothing comes from a preset.\n"
    "\n"
    "A part is a map of\n"
    "\n"
    "| field | values |\n"
    "|---|---|\n"
    "| `type` | f8e4m3, f8e5m2, f4e2m1, i2 to i8 |\n"
    "| `granularity` | weights: tensor, channel (a row), group, block; inputs: tensor, token, group |\n"
    "| `group`, `block` | columns of a group; [rows, columns] of a block |\n"
    "| `symmetric` | true unless false; floats are |\n"
    "| `dynamic` | inputs: scales are computed as the model runs; those of tokens and groups always are |\n"
    "| `global` | scales are relative to a scale of the whole tensor, which is static (f4e2m1 in groups of 16) |\n"
    "| `scale` | type of the scales: f8e4m3 with `global`, f8e8m0 (powers of two, groups of 32), else bf16, f16, f32 or absent: the model's |\n"
    "| `zero_point` | type of the zero points: i8 |\n"
    "| `observer` | static_minmax, memoryless_minmax, minmax, mse, memoryless_mse, nvfp4_expanded_mse, unset (recorded as null); of weights also imatrix_mse, nvfp4_expanded_imatrix |\n"
    "| `observer_args` | averaging_constant, maxshrink, patience, grid, norm, expand, chunk_size, strict |\n"
    "| `search` | of weights with `global`: mse tries five numbers of the scale's type on either side of amax / 6, four_six amax / 6 and amax / 4; the least squared error stays |\n"
    "| `scale_max` | with `global`: the largest local scale that the global scale leaves, 1 to 448; 448 unless there is a search, then 256 |\n"
    "| `actorder` | static, weight: recorded |\n"
    "\n"
    "`search` says the same for the weights of the preset; weights without a global scale take mse alone, which is the observer\n"
    "memoryless_mse. The files stay those of any NVFP4 checkpoint: engines multiply by the scales that they find.\n"
    "\n"
    "A group of weights must divide the columns of every module that gets it; of inputs it should (a warning lists the modules that\n"
    "vLLM does not run); blocks at the edges may be cut off. The weights of linears that loaders fuse (q, k and v; gate and up; q_a and kv_a_proj_with_mqa; w1 and w3) share their global scale.\n"
    "\n"
    "`groups` holds several: `groups={group_0={targets=[Linear], scheme=W4A16}, group_1={targets=\"re:.*down\", weights={...}}}`,\n"
    "each with `targets`, `scheme` or `weights` and `input`, and as it needs `format` (of the files, else inferred) and `name`. A\n"
    "module belongs to the group of the first target that names it: paths before patterns before classes, each kind in\n"
    "alphabetical order; of a target in several groups the last counts. `scheme=UNQUANTIZED` keeps modules out of other groups.\n"
    "\n"
    "The linears of all experts of a layer are quantized alike, all or none, each expert with scales of its own: `qparams` of a\n"
    "bank `[experts, rows, columns]` with the attribute `experts`. Static scales of what experts read become one for each through\n"
    "`insert-observers`. Gate and up of an expert share their global scale. Routers, the linears whose results `topk` reads, stay in\n"
    "full precision: a pattern may name them (a remark says so), a path or a class of theirs is an error. Experts that are one tensor\n"
    "need `linearize-moe` before. Observers that weigh columns are not for experts.\n"
    "\n"
    "Weights that were imported as tensors are quantized in model_free_ptq's dialect, with the arithmetic whose name ends in `_bare`.";
/* clang-format on */

void qc_pass_quant_linear(qc_registry *registry)
{
    qc_pass *pass = qc_registry_add(
        registry, "quant-linear", "Quantize weights and inputs of linears, and embeddings", run);
    qc_pass_set_licence(pass, QC_LICENCE_LOSSY);
    qc_pass_set_description(pass, description);
    qc_pass_add_option(pass, "scheme", QC_OPTION_WORD, qc_scheme_preset_at(0)->name, qc_scheme_preset_words,
        "the preset; none: only what weights and input say");
    qc_pass_add_option(
        pass, "weights", QC_OPTION_MAP, "{}", NULL, "the weights' part in place of the preset's");
    qc_pass_add_option(pass, "input", QC_OPTION_MAP, "{}", NULL, "the inputs' part in place of the preset's");
    qc_pass_add_option(pass, "groups", QC_OPTION_MAP, "{}", NULL,
        "several groups, in place of scheme, weights, input, search and targets");
    qc_pass_add_option(pass, "search", QC_OPTION_WORD, "none", "none|mse|four_six",
        "how the scales of weights are chosen: as the preset or part says, or by least squared error");
    qc_pass_add_option(pass, "format", QC_OPTION_WORD, "auto", "auto|" QC_LINEAR_FORMATS,
        "the files' storage format, whatever a group says; auto: the group's, else inferred");
    qc_quant_add_options(pass, "[Linear]", "modules by class, path or re:PATTERN");
}
