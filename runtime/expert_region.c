/* SPDX-License-Identifier: MIT
 *
 * expert_region.c - see expert_region.h.
 *
 * Regions are found in one walk: what expert_rows gives, and all that is computed with it up to expert_combine, belongs
 * to it. Nothing outside may read a value of a region (statistics aside, which nobody reads while calibrating), so its
 * ops can wait until the last of them.
 */
#include "runtime/expert_region.h"

#include <stdlib.h>

#include "ir/ctx.h"
#include "ir/experts.h"

typedef struct member {
    const qc_op *op;
    size_t region; /* number + 1; 0: none */
} member;

/* The first and the last op of a region. */
typedef struct span {
    size_t first, last;
} span;

typedef QC_VEC(qc_expert_region) region_list;

typedef struct finder {
    qc_arena *arena;
    const qc_value_kinds *kinds;
    qc_ctx *ctx;
    qc_map values; /* address of a value of a region -> number + 1 */
    qc_map paths;
    region_list regions;
    QC_VEC(qc_expert_input) inputs; /* of the region that is being filled */
} finder;

const qc_value *qc_value_uncoded(const qc_value *value)
{
    const qc_op *op = qc_value_op(value);
    while (op && qc_op_stands_for_operand(op)) {
        value = qc_op_operand(op, 0);
        op = qc_value_op(value);
    }
    return value;
}

static const char *where_of(const qc_op *op)
{
    const qc_node *node = qc_op_node(op);
    return node && *qc_node_path(node) ? qc_node_path(node) : qc_func_name(qc_op_func(op));
}

/* ---- finding ------------------------------------------------------------------------------------------- */

static size_t region_of_value(const finder *f, const qc_value *value)
{
    return (size_t)(uintptr_t)qc_map_get_n(&f->values, (const char *)&value, sizeof value);
}

static void set_region(finder *f, const qc_value *value, size_t region)
{
    qc_map_set_n(&f->values, (const char *)&value, sizeof value, (void *)(uintptr_t)region);
}

/* Ops whose row r depends on row r of their operands alone; with an axis, it must be the last one. */
static bool is_row_wise(const qc_op *op)
{
    static const char *const names[] = {"expert_gather", "expert_score", "expert_param", "expert_linear",
        "observe", "linear", "rmsnorm", "softmax", "reduce_sum", "reduce_mean", "reduce_max", "rotate_half"};
    static const char *const by_axis[] = {"slice", "concat", "hadamard"};
    if (qc_op_is_elementwise(op) || qc_op_stands_for_operand(op))
        return true;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (qc_op_is(op, names[i]))
            return true;
    for (size_t i = 0; i < sizeof by_axis / sizeof *by_axis; i++)
        if (qc_op_is(op, by_axis[i])) {
            int64_t axis = qc_attr_as_int(qc_op_attr(op, "axis"));
            return axis == -1 || axis == 1;
        }
    return false;
}

/* The path of the module that holds the experts. */
static const char *path_of(const qc_op *rows)
{
    const qc_value *value = qc_op_result(rows, 0);
    for (size_t i = 0; i < qc_value_use_count(value); i++) {
        size_t slot;
        const qc_op *use = qc_value_use(value, i, &slot);
        if (qc_op_is(use, "expert_linear") && qc_op_node(use))
            return where_of(use);
    }
    return where_of(rows);
}

static qc_status add_region(finder *f, const qc_op *op)
{
    qc_expert_region r = {.rows = op,
        .path = path_of(op),
        .experts = qc_attr_as_int(qc_op_attr(op, "experts")),
        .all = qc_attr_as_bool(qc_op_attr(op, "all")),
        .ids = qc_value_uncoded(qc_op_operand(op, 0))};
    const qc_type *type = qc_value_type(r.ids);
    if (!qc_dim_as_int(qc_type_dim(type, -1), &r.chosen) || qc_type_dtype(type) != QC_I32)
        return qc_ctx_error(f->ctx, where_of(op), "expert_rows: ids must be i32[B, S, k] to be calibrated");
    if (r.experts > QC_MOST_EXPERTS)
        return qc_ctx_error(f->ctx, where_of(op),
            "expert_rows: %lld experts, more than %d cannot be calibrated", (long long)r.experts,
            QC_MOST_EXPERTS);
    if (qc_value_kind_of(f->kinds, r.ids) != QC_VALUE_DATA)
        return qc_ctx_error(
            f->ctx, where_of(op), "expert_rows: ids that depend on no data are not calibrated");
    if (!qc_map_set(&f->paths, r.path, NULL))
        return qc_ctx_error(f->ctx, r.path, "two layers of experts have this name");
    QC_PUSH(f->arena, &f->regions, r);
    set_region(f, qc_op_result(op, 0), f->regions.count);
    return QC_OK;
}

/* The region that the op belongs to, by what it reads; SIZE_MAX after an error. */
static size_t find_region(const finder *f, const qc_op *op)
{
    size_t region = 0;
    for (size_t i = 0; i < qc_op_operand_count(op); i++) {
        const qc_value *operand = qc_op_operand(op, i);
        size_t of = operand && qc_operand_is_read(op, i, true) ? region_of_value(f, operand) : 0;
        if (of && region && of != region) {
            qc_ctx_error(f->ctx, where_of(op), "%s: mixes the experts of two layers", qc_op_name(op));
            return SIZE_MAX;
        }
        region = of ? of : region;
    }
    return region;
}

static qc_status add_member(finder *f, const qc_op *op, size_t region)
{
    qc_expert_region *r = &f->regions.items[region - 1];
    if (qc_op_is(op, "expert_combine")) {
        if (r->combine)
            return qc_ctx_error(f->ctx, where_of(op), "expert_combine: a second one of these rows");
        r->combine = op;
        r->once = strcmp(qc_attr_as_text(qc_op_attr(op, "sum")), "once") == 0;
        return QC_OK;
    }
    if (qc_op_is(op, "observe") && strcmp(qc_attr_as_text(qc_op_attr(op, "granularity")), "expert") != 0)
        return qc_ctx_error(f->ctx, qc_attr_as_text(qc_op_attr(op, "tap")),
            "rows of experts are observed expert by expert (granularity = expert)");
    if (!is_row_wise(op))
        return qc_ctx_error(
            f->ctx, where_of(op), "%s: experts one by one cannot be calibrated through it", qc_op_name(op));
    for (size_t i = 0; i < qc_op_result_count(op); i++)
        set_region(f, qc_op_result(op, i), region);
    return QC_OK;
}

/* Behind the last op of its region: nothing. */
static qc_status find_members(finder *f, const qc_op **ops, size_t count, member *members)
{
    for (size_t i = 0; i < count; i++) {
        size_t region = find_region(f, ops[i]);
        qc_status status = QC_OK;
        if (region == SIZE_MAX)
            return QC_ERROR;
        if (qc_op_is(ops[i], "expert_rows"))
            status = add_region(f, ops[i]);
        else if (region)
            status = add_member(f, ops[i], region);
        if (status != QC_OK)
            return QC_ERROR;
        members[i] = (member){ops[i], qc_op_is(ops[i], "expert_rows") ? f->regions.count : region};
    }
    return QC_OK;
}

/* ---- what is in a region ------------------------------------------------------------------------------- */

static qc_status add_input(finder *f, const qc_op *op)
{
    qc_expert_input input = {.op = op,
        .value = qc_value_uncoded(qc_op_operand(op, 0)),
        .is_score = qc_op_is(op, "expert_score"),
        .first = strcmp(qc_attr_as_text(qc_op_attr(op, "unrouted")), "first") == 0};
    if (qc_value_kind_of(f->kinds, input.value) != QC_VALUE_DATA)
        return qc_ctx_error(f->ctx, where_of(op), "%s: its operand is no data of tokens", qc_op_name(op));
    QC_PUSH(f->arena, &f->inputs, input);
    return QC_OK;
}

/* Everything else that crosses must be a weight. */
static qc_status check_operands(finder *f, const qc_op *op)
{
    for (size_t i = 0; i < qc_op_operand_count(op); i++) {
        const qc_value *operand = qc_op_operand(op, i);
        bool read = operand && qc_operand_is_read(op, i, true) && !region_of_value(f, operand) &&
                    strcmp(qc_op_operand_name(op, i), "rows") != 0;
        if (read && qc_value_kind_of(f->kinds, operand) != QC_VALUE_WEIGHT)
            return qc_ctx_error(f->ctx, where_of(op), "%s: %s is neither a weight nor rows of an expert",
                qc_op_name(op), qc_op_operand_name(op, i));
    }
    return QC_OK;
}

static size_t part_bytes(const qc_value *bank, int64_t experts)
{
    int64_t count;
    const qc_type *type = qc_value_type(qc_value_without_codes(bank));
    if (qc_bank_experts(bank) != experts || !qc_type_static_count(type, &count))
        return 0;
    return (size_t)(count / experts) * (size_t)qc_dtype_bits(qc_type_dtype(type)) / 8;
}

static qc_status fill_region(
    finder *f, qc_expert_region *r, const member *members, const span *in, size_t number)
{
    QC_VEC(const qc_op *) ops = {0};
    QC_VEC(const qc_op *) observes = {0};
    f->inputs.items = NULL;
    f->inputs.count = f->inputs.capacity = 0;
    for (size_t i = in->first; i <= in->last; i++) {
        const qc_op *op = members[i].op;
        if (members[i].region != number || op == r->rows || op == r->combine)
            continue;
        bool crosses = qc_op_is(op, "expert_gather") || qc_op_is(op, "expert_score");
        if ((crosses ? add_input(f, op) : check_operands(f, op)) != QC_OK)
            return QC_ERROR;
        if (qc_op_is(op, "observe"))
            QC_PUSH(f->arena, &observes, op);
        for (size_t k = 0; !crosses && k < qc_op_operand_count(op); k++)
            if (qc_op_operand(op, k) && qc_operand_is_read(op, k, true))
                r->weight_bytes += part_bytes(qc_op_operand(op, k), r->experts);
        QC_PUSH(f->arena, &ops, op);
    }
    r->ops = ops.items;
    r->op_count = ops.count;
    r->observes = observes.items;
    r->observe_count = observes.count;
    r->inputs = f->inputs.items;
    r->input_count = f->inputs.count;
    return QC_OK;
}

/* One for each number of a region; that of 0 says nothing. */
static span *find_spans(qc_arena *arena, const member *members, size_t count, size_t regions)
{
    span *spans = QC_NEW_ARRAY(arena, span, regions + 1);
    for (size_t i = count; i-- > 0;)
        spans[members[i].region].first = i;
    for (size_t i = 0; i < count; i++)
        spans[members[i].region].last = i;
    return spans;
}

/* The order without holes. */
static void gather(
    const member *members, size_t count, const span *spans, const qc_op **ops, size_t *region_of)
{
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        size_t region = members[i].region;
        if (region && spans[region].last != i)
            continue;
        for (size_t k = region ? spans[region].first : i; k <= i; k++)
            if (members[k].region == region) {
                region_of[at] = region;
                ops[at++] = members[k].op;
            }
    }
}

qc_status qc_expert_regions_find(qc_arena *arena, const qc_value_kinds *kinds, const qc_op **ops,
    size_t op_count, size_t *region_of, qc_expert_region **regions, size_t *region_count)
{
    finder f = {.arena = arena, .kinds = kinds};
    member *members = QC_NEW_ARRAY(arena, member, op_count + 1);
    *regions = NULL;
    *region_count = 0;
    if (op_count == 0)
        return QC_OK;
    f.ctx = qc_module_ctx(qc_func_module(qc_op_func(ops[0])));
    qc_map_init(&f.values, arena);
    qc_map_init(&f.paths, arena);
    if (find_members(&f, ops, op_count, members) != QC_OK)
        return QC_ERROR;
    const span *spans = find_spans(arena, members, op_count, f.regions.count);
    for (size_t i = 0; i < f.regions.count; i++)
        if (fill_region(&f, &f.regions.items[i], members, &spans[i + 1], i + 1) != QC_OK)
            return QC_ERROR;
    gather(members, op_count, spans, ops, region_of);
    *regions = f.regions.items;
    *region_count = f.regions.count;
    return QC_OK;
}

/* ---- the function of one expert ------------------------------------------------------------------------ */

typedef struct maker {
    qc_expert_body *body;
    qc_ctx *ctx;
    const qc_expert_region *region;
    const qc_value_kinds *kinds; /* of the function that the region is in */
    qc_func *func;
    qc_builder *b;
    qc_expert_copy copy;
} maker;

/* [B, S, n] of an input: x's own type, [B, S, 1] of a score. */
static const qc_type *input_type(qc_ctx *ctx, const qc_expert_input *input)
{
    const qc_type *type = qc_value_type(input->value);
    const qc_dim *dims[3] = {qc_dim_symbol(ctx, "B"), qc_dim_symbol(ctx, "S"),
        input->is_score ? qc_dim_int(ctx, 1) : qc_type_dim(type, -1)};
    return qc_type_tensor(ctx, qc_type_dtype(type), 3, dims);
}

static qc_status make_inputs(maker *m)
{
    const qc_expert_region *r = m->region;
    const qc_dim *dims[2] = {qc_dim_symbol(m->ctx, "B"), qc_dim_symbol(m->ctx, "S")};
    qc_func_add_argument(m->func, "ids", qc_type_tensor(m->ctx, QC_I64, 2, dims));
    m->body->inputs = QC_NEW_ARRAY(&m->body->arena, const qc_value *, r->input_count + 1);
    for (size_t i = 0; i < r->input_count; i++) {
        const qc_type *type = input_type(m->ctx, &r->inputs[i]);
        if (!type)
            return QC_ERROR;
        qc_value *argument =
            qc_func_add_argument(m->func, qc_value_hint(qc_op_result(r->inputs[i].op, 0)), type);
        m->body->inputs[i] = argument;
        qc_expert_copy_set(&m->copy, qc_op_result(r->inputs[i].op, 0), argument);
    }
    return QC_OK;
}

/* Weights as they are before they are quantized: their codes need scales that are not there yet. */
static qc_status copy_weights(maker *m, const qc_op *op)
{
    for (size_t i = 0; i < qc_op_operand_count(op); i++) {
        const qc_value *operand = qc_op_operand(op, i);
        if (!operand || !qc_operand_is_read(op, i, true) || (qc_op_is(op, "observe") && i > 0) ||
            qc_value_kind_of(m->kinds, operand) != QC_VALUE_WEIGHT)
            continue;
        qc_value *plain = qc_expert_copy_value(&m->copy, qc_value_without_codes(operand));
        if (!plain)
            return QC_ERROR;
        qc_expert_copy_set(&m->copy, operand, plain);
    }
    return QC_OK;
}

/* An op along axis 1 of [R, n], which is the last one of [B, S, n]. */
static qc_value *copy_along_columns(maker *m, const qc_op *op)
{
    qc_builder_set_node(m->b, qc_op_node(op));
    qc_make(m->b, qc_op_name(op));
    for (size_t i = 0; i < qc_op_operand_count(op); i++) {
        const char *name = qc_op_operand_name(op, i);
        qc_value *operand =
            qc_op_operand(op, i) ? qc_expert_copy_value(&m->copy, qc_op_operand(op, i)) : NULL;
        if (strcmp(name, "xs") == 0)
            qc_make_variadic(m->b, operand);
        else
            qc_make_operand(m->b, name, operand);
    }
    for (size_t i = 0; i < qc_op_attr_count(op); i++) {
        const char *name = qc_op_attr_name(op, i);
        if (qc_op_attr_given(op, name) && strcmp(name, "axis") != 0)
            qc_make_attr(m->b, name, qc_op_attr(op, name));
    }
    qc_make_attr_int(m->b, "axis", -1);
    return qc_make_end(m->b, qc_value_hint(qc_op_result(op, 0)));
}

static qc_status copy_member(maker *m, const qc_op *op)
{
    const qc_value *result = qc_op_result(op, 0);
    const qc_attr *axis = qc_op_attr(op, "axis");
    qc_value *made;
    if (qc_op_is(op, "expert_gather") || qc_op_is(op, "expert_score"))
        return QC_OK;
    if (copy_weights(m, op) != QC_OK)
        return QC_ERROR;
    if (qc_op_stands_for_operand(op))
        made = qc_expert_copy_value(&m->copy, qc_op_operand(op, 0));
    else if (axis && qc_attr_as_int(axis) == 1)
        made = copy_along_columns(m, op);
    else
        made = qc_expert_copy_value(&m->copy, result);
    if (!made || !qc_value_type(made) || !qc_builder_ok(m->b))
        return QC_ERROR;
    qc_expert_copy_set(&m->copy, result, made);
    return QC_OK;
}

static void list_weights(qc_expert_body *body)
{
    QC_VEC(const qc_value *) weights = {0};
    qc_map seen;
    qc_map_init(&seen, &body->arena);
    for (const qc_op *op = qc_func_first_op(body->func); op; op = qc_op_next(op)) {
        if (qc_value_kind_of(&body->kinds, qc_op_result(op, 0)) == QC_VALUE_WEIGHT)
            continue;
        for (size_t i = 0; i < qc_op_operand_count(op); i++) {
            const qc_value *operand = qc_op_operand(op, i);
            if (operand && qc_value_kind_of(&body->kinds, operand) == QC_VALUE_WEIGHT &&
                qc_map_set_n(&seen, (const char *)&operand, sizeof operand, NULL))
                QC_PUSH(&body->arena, &weights, operand);
        }
    }
    body->weights = weights.items;
    body->weight_count = weights.count;
}

static qc_status make_body(maker *m)
{
    const qc_expert_region *r = m->region;
    qc_expert_body *body = m->body;
    size_t observes = 0;
    if (make_inputs(m) != QC_OK)
        return QC_ERROR;
    body->observes = QC_NEW_ARRAY(&body->arena, const qc_op *, r->observe_count + 1);
    for (size_t i = 0; i < r->op_count; i++) {
        if (copy_member(m, r->ops[i]) != QC_OK)
            return QC_ERROR;
        if (qc_op_is(r->ops[i], "observe"))
            body->observes[observes++] =
                qc_value_op(qc_expert_copy_value(&m->copy, qc_op_result(r->ops[i], 0)));
    }
    if (r->combine) {
        qc_value *output = qc_expert_copy_value(&m->copy, qc_op_operand(r->combine, 0));
        if (!output)
            return QC_ERROR;
        qc_func_add_result(m->func, output);
        body->output = output;
    }
    qc_value_kinds_init(&body->kinds, &body->arena);
    qc_value_kinds_add(&body->kinds, body->func);
    list_weights(body);
    return QC_OK;
}

qc_expert_body *qc_expert_body_create(qc_ctx *ctx, const qc_module *module, const qc_expert_region *region,
    const qc_value_kinds *kinds, int64_t expert)
{
    qc_expert_body *body = calloc(1, sizeof *body);
    if (!body) {
        qc_ctx_error(ctx, region->path, "out of memory");
        return NULL;
    }
    qc_arena_init(&body->arena, qc_ctx_arena(ctx)->oom);
    body->module = qc_experts_scratch(module);
    maker m = {.body = body, .ctx = ctx, .region = region, .kinds = kinds};
    m.func = qc_module_add_func(body->module, "expert");
    body->func = m.func;
    m.b = qc_builder_at_end(m.func);
    qc_expert_copy_init(&m.copy, &body->arena, m.b, region->experts, expert);
    if (make_body(&m) == QC_OK)
        return body;
    qc_expert_body_destroy(body);
    return NULL;
}

void qc_expert_body_destroy(qc_expert_body *body)
{
    if (!body)
        return;
    qc_module_destroy(body->module);
    qc_arena_fini(&body->arena);
    free(body);
}
