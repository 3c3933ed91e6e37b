/* SPDX-License-Identifier: MIT
 *
 * transforms.c - `transform` symbols as transform_config, and the matrices that are applied at run time.
 *
 * compressed-tensors keeps one matrix of each size and rotation, +-1 and not normalised, in the type of `precision`, and
 * saves it where it first meets it in the order of modules (inside of a module: in the order of the places).
 */
#include <string.h>

#include "ir/dtype/hadamard.h"
#include "runtime/export/compressed_tensors/internal.h"

/* ---- symbols ------------------------------------------------------------------------------------------- */

static bool is_list(const qc_attr *attr)
{
    return attr && qc_attr_get_kind(attr) == QC_ATTR_LIST;
}

static qc_status read_place(qc_ctx *ctx, const char *where, const qc_attr *attr, ct_place *place)
{
    static const char *const online[] = {"input", "output", "q_attn", "k_cache"}, *const offline[] = {
                                                                                      "weight_input",
                                                                                      "weight_output"};
    const qc_attr *location = qc_attr_find(attr, "location"), *inverse = qc_attr_find(attr, "inverse");
    *place = (ct_place){.targets = qc_attr_find(attr, "targets"), .ignore = qc_attr_find(attr, "ignore")};
    if (!location || !is_list(place->targets) || (place->ignore && !is_list(place->ignore)))
        return qc_ctx_error(ctx, where, "a place of a transform has targets, ignore and a location");
    place->location = qc_attr_as_text(location);
    place->inverse = inverse && qc_attr_as_bool(inverse);
    for (size_t i = 0; i < sizeof online / sizeof *online; i++)
        if (strcmp(online[i], place->location) == 0) {
            place->online = true;
            return QC_OK;
        }
    for (size_t i = 0; i < sizeof offline / sizeof *offline; i++)
        if (strcmp(offline[i], place->location) == 0)
            return QC_OK;
    return qc_ctx_error(ctx, where, "a transform has no location %s", place->location);
}

static qc_status read_transform(qc_ctx *ctx, qc_arena *arena, const qc_symbol *symbol, ct_transform *t)
{
    const qc_attr *fields = qc_symbol_fields(symbol), *type = qc_attr_find(fields, "type"),
                  *size = qc_attr_find(fields, "size"), *block = qc_attr_find(fields, "block"),
                  *head_dim = qc_attr_find(fields, "head_dim"),
                  *precision = qc_attr_find(fields, "precision"), *apply = qc_attr_find(fields, "apply");
    const char *where = qc_arena_printf(arena, "@%s", qc_symbol_name(symbol));
    *t = (ct_transform){.name = qc_symbol_name(symbol)};
    const char *kind = type ? qc_attr_as_text(type) : "";
    t->random = strcmp(kind, "random_hadamard") == 0;
    if ((!t->random && strcmp(kind, "hadamard") != 0) || !is_list(apply))
        return qc_ctx_error(ctx, where,
            "a transform has a type, hadamard or random_hadamard, and a list of places to apply it");
    t->f32 = precision && strcmp(qc_attr_as_text(precision), "f32") == 0;
    t->size = size ? qc_attr_as_int(size) : 0;
    t->head_dim = head_dim ? qc_attr_as_int(head_dim) : block && qc_attr_as_bool(block) ? t->size : 0;
    if (t->size < 0 || t->head_dim < 0)
        return qc_ctx_error(ctx, where, "a size below 0");
    t->places = QC_NEW_ARRAY(arena, ct_place, qc_attr_count(apply) + 1);
    for (size_t i = 0; i < qc_attr_count(apply); i++)
        if (read_place(ctx, where, qc_attr_item(apply, i), &t->places[t->place_count++]) != QC_OK)
            return QC_ERROR;
    return QC_OK;
}

qc_status ct_transforms_read(qc_ctx *ctx, qc_arena *arena, const qc_module *module, ct_transforms *transforms)
{
    size_t count = 0;
    *transforms = (ct_transforms){0};
    for (const qc_symbol *s = qc_module_first_symbol(module); s; s = qc_symbol_next(s))
        count += strcmp(qc_symbol_kind(s), "transform") == 0;
    transforms->items = QC_NEW_ARRAY(arena, ct_transform, count + 1);
    for (const qc_symbol *s = qc_module_first_symbol(module); s; s = qc_symbol_next(s))
        if (strcmp(qc_symbol_kind(s), "transform") == 0 &&
            read_transform(ctx, arena, s, &transforms->items[transforms->count++]) != QC_OK)
            return QC_ERROR;
    return QC_OK;
}

const char *ct_transform_type(const ct_transform *t)
{
    return t->random ? "random-hadamard" : "hadamard";
}

const char *ct_transform_precision(const ct_transform *t)
{
    return t->f32 ? "torch.float32" : "torch.float64";
}

/* ---- places -------------------------------------------------------------------------------------------- */

static bool any_matches(const qc_node *node, const qc_attr *targets)
{
    for (size_t i = 0; targets && i < qc_attr_count(targets); i++)
        if (qc_node_matches(node, qc_attr_as_text(qc_attr_item(targets, i))))
            return true;
    return false;
}

bool ct_place_names(const ct_place *place, const qc_node *node)
{
    return any_matches(node, place->targets) && !any_matches(node, place->ignore);
}

ct_transform *ct_transform_at(
    const ct_transforms *transforms, const qc_node *node, const char *location, const ct_place **place)
{
    for (size_t i = 0; node && i < transforms->count; i++) {
        ct_transform *t = &transforms->items[i];
        for (size_t k = 0; k < t->place_count; k++) {
            if (!t->places[k].online || strcmp(t->places[k].location, location) != 0 ||
                !ct_place_names(&t->places[k], node))
                continue;
            if (place)
                *place = &t->places[k];
            return t;
        }
    }
    return NULL;
}

static int64_t matrix_size(const ct_transform *t, int64_t dimension)
{
    return t->head_dim ? t->head_dim : t->size ? t->size : dimension;
}

/* Has the transform this matrix of that size? It has when it had none. */
static bool same_signs(qc_arena *arena, ct_transform *t, int64_t size, int64_t drawn)
{
    const ct_matrix m = {size, drawn};
    for (size_t i = 0; i < t->matrices.count; i++)
        if (t->matrices.items[i].size == size)
            return t->matrices.items[i].drawn == drawn;
    QC_PUSH(arena, &t->matrices, m);
    return true;
}

bool ct_transform_is(qc_arena *arena, ct_transform *t, const ct_place *place, const qc_op *op)
{
    const qc_type *type = qc_value_type(qc_op_result(op, 0));
    const qc_attr *size = qc_op_attr(op, "size"), *matrix = qc_op_attr(op, "matrix"),
                  *inverse = qc_op_attr(op, "inverse"), *compute = qc_op_attr(op, "compute"),
                  *axis = qc_op_attr(op, "axis"), *drawn = qc_op_attr(op, "drawn");
    int64_t dimension = 0;
    const int rank = qc_type_rank(type);
    if (rank < 1 || !qc_dim_as_int(qc_type_dim(type, rank - 1), &dimension))
        return false;
    const bool random = matrix && strcmp(qc_attr_as_text(matrix), "random_hadamard") == 0,
               f64 = compute && strcmp(qc_attr_as_text(compute), "f64") == 0;
    return size && qc_attr_as_int(size) == matrix_size(t, dimension) && random == t->random &&
           (inverse && qc_attr_as_bool(inverse)) == place->inverse && f64 == !t->f32 &&
           (!axis || qc_attr_as_int(axis) == -1) &&
           same_signs(arena, t, qc_attr_as_int(size), drawn ? qc_attr_as_int(drawn) : 0);
}

/* ---- transform_config ---------------------------------------------------------------------------------- */

static qc_json *names_json(qc_arena *arena, const qc_attr *list)
{
    qc_json *names = qc_json_new(arena, QC_JSON_ARRAY);
    for (size_t i = 0; list && i < qc_attr_count(list); i++)
        qc_json_push(arena, names, qc_json_new_string(arena, qc_attr_as_text(qc_attr_item(list, i))));
    return names;
}

qc_json *ct_transform_config(const ct_plan *plan, qc_arena *arena)
{
    qc_json *config = qc_json_new(arena, QC_JSON_OBJECT), *groups = qc_json_new(arena, QC_JSON_OBJECT);
    for (size_t i = 0; i < plan->transforms.count; i++) {
        const ct_transform *t = &plan->transforms.items[i];
        qc_json *scheme = qc_json_new(arena, QC_JSON_OBJECT), *apply = qc_json_new(arena, QC_JSON_ARRAY);
        for (size_t k = 0; k < t->place_count; k++) {
            qc_json *place = qc_json_new(arena, QC_JSON_OBJECT);
            qc_json_set(arena, place, "targets", names_json(arena, t->places[k].targets));
            qc_json_set(arena, place, "location", qc_json_new_string(arena, t->places[k].location));
            qc_json_set(arena, place, "inverse", qc_json_new_bool(arena, t->places[k].inverse));
            qc_json_set(arena, place, "ignore", names_json(arena, t->places[k].ignore));
            qc_json_push(arena, apply, place);
        }
        qc_json_set(arena, scheme, "type", qc_json_new_string(arena, ct_transform_type(t)));
        qc_json_set(arena, scheme, "apply", apply);
        qc_json_set(arena, scheme, "randomize", qc_json_new_bool(arena, false));
        qc_json_set(arena, scheme, "requires_grad", qc_json_new_bool(arena, false));
        qc_json_set(arena, scheme, "head_dim",
            t->head_dim ? qc_json_new_int(arena, t->head_dim) : qc_json_new(arena, QC_JSON_NULL));
        qc_json_set(arena, scheme, "precision", qc_json_new_string(arena, ct_transform_precision(t)));
        qc_json_set(arena, groups, t->name, scheme);
    }
    if (plan->rotated)
        qc_json_set(arena, config, "config_groups", groups);
    return config;
}

/* ---- matrices ------------------------------------------------------------------------------------------ */

/* The linear op of a module, NULL: it has none. */
static const qc_op *linear_of(const ct_plan *plan, const qc_node *node)
{
    return qc_map_get_n(&plan->linears, (const char *)&node, sizeof node);
}

/* Columns (input) or rows (output) of the module's weight; the head size of attention. 0: neither is known. */
static int64_t dimension_of(const ct_plan *plan, const qc_node *node, const char *location)
{
    const qc_op *linear = linear_of(plan, node);
    const qc_type *type = linear ? qc_value_type(qc_op_operand_named(linear, "w")) : NULL;
    int64_t dimension = 0;
    const int rank = type ? qc_type_rank(type) : 0; /* 3: of experts */
    if (rank == 2 || rank == 3)
        qc_dim_as_int(qc_type_dim(type, strcmp(location, "input") == 0 ? rank - 1 : rank - 2), &dimension);
    return dimension;
}

/* The signs that were drawn before those of the matrix at this place. */
static int64_t drawn_before(const ct_plan *plan, const qc_node *node, const char *location)
{
    const qc_op *linear = linear_of(plan, node);
    const qc_value *x = linear ? qc_op_operand_named(linear, "x") : NULL;
    const qc_op *op = NULL;
    size_t slot;
    while (ct_made_by(x, "quantize") || ct_made_by(x, "dequantize"))
        x = ct_operand(x, "x");
    if (x && strcmp(location, "input") == 0)
        op = qc_value_op(x);
    else if (linear && strcmp(location, "output") == 0 && qc_value_use_count(qc_op_result(linear, 0)))
        op = qc_value_use(qc_op_result(linear, 0), 0, &slot);
    const qc_attr *drawn = op && qc_op_is(op, "hadamard") ? qc_op_attr(op, "drawn") : NULL;
    return drawn ? qc_attr_as_int(drawn) : 0;
}

static qc_status put_matrix(ct_plan *plan, const ct_transform *t, const char *location, const qc_node *node,
    int64_t size, uint32_t rank)
{
    const char *name =
        qc_arena_printf(&plan->arena, "%s.%s_%s.weight", qc_node_path(node), t->name, location);
    ct_tensor *m = qc_map_get(&plan->by_name, name);
    qc_hadamard *plan_of = QC_NEW(&plan->arena, qc_hadamard);
    if (qc_hadamard_make_drawn(qc_ctx_diag(plan->ctx), &plan->arena, qc_node_path(node), size, t->random,
            drawn_before(plan, node, location), plan_of) != QC_OK)
        return QC_ERROR;
    if (m && m->source != CT_COPY)
        return qc_ctx_error(plan->ctx, name, "two operations store different values under this name");
    if (!m) {
        m = QC_NEW(&plan->arena, ct_tensor);
        qc_map_set(&plan->by_name, name, m);
        QC_PUSH(&plan->arena, &plan->tensors, m);
    }
    int64_t *shape = QC_NEW_ARRAY(&plan->arena, int64_t, 2);
    shape[0] = shape[1] = size;
    *m = (ct_tensor){.name = name,
        .dtype = t->f32 ? "F32" : "F64",
        .rank = 2,
        .shape = shape,
        .source = CT_MATRIX,
        .matrix = plan_of,
        .owner = qc_node_path(node),
        .owner_rank = rank,
        .encoding = t->f32 ? QC_F32 : QC_F64};
    return QC_OK;
}

/* Whether the matrix exists for whoever loads it, and what vLLM says of the place. */
static qc_status check_place(
    ct_plan *plan, const ct_transform *t, const char *location, const qc_node *node, int64_t size)
{
    const qc_op *linear = linear_of(plan, node);
    if (!linear && (strcmp(location, "input") == 0 || strcmp(location, "output") == 0))
        return qc_ctx_error(plan->ctx, qc_node_path(node),
            "a target of @%s names this module, which is no linear: loaders would rotate its %s, too",
            t->name, location);
    if (size < 1)
        return qc_ctx_error(plan->ctx, qc_node_path(node),
            "@%s rotates it at run time, but the size of its matrix is not known", t->name);
    if (!t->random && !qc_hadamard_is_sylvester(size))
        return qc_ctx_error(plan->ctx, qc_node_path(node),
            "@%s: compressed-tensors has a hadamard for powers of two alone, not for %lld; "
            "matrix=random_hadamard is stored for other sizes too",
            t->name, (long long)size);
    if (strcmp(location, "q_attn") == 0 || strcmp(location, "k_cache") == 0)
        return ct_refuse(plan, QC_RULE_R3, qc_node_path(node),
            "q and k are rotated as the model runs (@%s), which vLLM does not execute", t->name);
    if (linear && qc_op_is(linear, "expert_linear"))
        return ct_refuse(plan, QC_RULE_EXPERTS, qc_node_path(node),
            "the %s of experts is rotated as the model runs (@%s), which vLLM does not execute", location,
            t->name);
    if (linear && qc_op_operand_named(linear, "bias"))
        return ct_refuse(plan, QC_RULE_TRANSFORM_BIAS, qc_node_path(node),
            "its %s is rotated as the model runs (@%s), and it has a bias: there vLLM stops", location,
            t->name);
    return QC_OK;
}

/* A matrix that is in the weights already must be one that config.json can name, too. */
static qc_status check_offline(ct_plan *plan, const ct_transform *t)
{
    const int64_t size = t->size;
    if (t->random || size == 0 || qc_hadamard_is_sylvester(size))
        return QC_OK;
    return qc_ctx_error(plan->ctx, qc_arena_printf(&plan->arena, "@%s", t->name),
        "compressed-tensors has a hadamard for powers of two alone, not for %lld: matrix=random_hadamard",
        (long long)size);
}

/* vLLM applies matrices of inputs and outputs, on one processor. */
static void tell_condition(ct_plan *plan, const ct_transform *t, const char *location)
{
    if (plan->quiet || strcmp(location, "q_attn") == 0 || strcmp(location, "k_cache") == 0)
        return;
    qc_warning(qc_ctx_diag(plan->ctx), qc_arena_printf(&plan->arena, "@%s", t->name),
        "vLLM rotates inputs and outputs at run time with --tensor-parallel-size 1 alone%s",
        t->random ? ", by a dense product" : "");
}

qc_status ct_plan_matrices(ct_plan *plan)
{
    qc_map seen; /* "R4 384" */
    uint32_t rank = 0;
    qc_map_init(&seen, &plan->arena);
    for (size_t i = 0; i < plan->transforms.count; i++)
        if (check_offline(plan, &plan->transforms.items[i]) != QC_OK)
            return QC_ERROR;
    for (const qc_node *n = qc_module_first_node(plan->module); n; n = qc_node_next(n)) {
        for (size_t i = 0; i < plan->transforms.count; i++) {
            const ct_transform *t = &plan->transforms.items[i];
            for (size_t k = 0; k < t->place_count; k++) {
                const ct_place *p = &t->places[k];
                if (!p->online || !ct_place_names(p, n))
                    continue;
                int64_t size = matrix_size(t, dimension_of(plan, n, p->location));
                if (check_place(plan, t, p->location, n, size) != QC_OK)
                    return QC_ERROR;
                const char *key = qc_arena_printf(&plan->arena, "%s %lld", t->name, (long long)size);
                if (qc_map_set(&seen, t->name, plan))
                    tell_condition(plan, t, p->location);
                if (qc_map_set(&seen, key, plan) &&
                    put_matrix(plan, t, p->location, n, size, rank++) != QC_OK)
                    return QC_ERROR;
            }
        }
    }
    return QC_OK;
}
