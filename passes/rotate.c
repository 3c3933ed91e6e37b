/* SPDX-License-Identifier: MIT
 *
 * rotate.c - matrices, rotated operands and symbols of the rotating passes (rotate.h).
 */
#include "passes/rotate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ir/dtype/hadamard.h"
#include "ir/support/str.h"
#include "passes/experts.h"

void qc_rotate_add_options(qc_pass *pass, const char *whole)
{
    qc_pass_add_option(pass, "matrix", QC_OPTION_WORD, "hadamard", QC_ROTATE_MATRICES,
        "Sylvester's matrix where the size is a power of two, or that of compressed-tensors with its signs");
    qc_pass_add_option(pass, "size", QC_OPTION_INT, "0", NULL, whole);
}

void qc_rotate_add_compute(qc_pass *pass)
{
    qc_pass_add_option(pass, "compute", QC_OPTION_WORD, "f32", "f32|f64",
        "type of the sums at run time; that of SpinQuantModifier and QuIPModifier is f64");
}

qc_status qc_rotate_read(
    qc_pass_ctx *pc, const qc_op *op, const char *name, int64_t dim, const char *of, qc_rotation *r)
{
    int64_t size = qc_pass_option_int(pc, "size");
    *r = (qc_rotation){.name = name, .matrix = qc_pass_option_text(pc, "matrix"), .size = size ? size : dim};
    if (dim < 1) {
        qc_pass_fail(pc, op, "%s is not a number that is known", of);
        return QC_ERROR;
    }
    if (!qc_hadamard_size_known(r->size)) {
        qc_pass_fail(pc, op,
            "no Hadamard matrix of size %lld%s%s is known: sizes are K * 2^m with K 1 or a multiple of 4 up "
            "to "
            "256",
            (long long)r->size, size ? "" : " for ", size ? "" : of);
        return QC_ERROR;
    }
    if (dim % r->size != 0) {
        qc_pass_fail(pc, op, "size %lld does not divide %lld, %s", (long long)r->size, (long long)dim, of);
        return QC_ERROR;
    }
    return QC_OK;
}

/* ---- rotated values ------------------------------------------------------------------------------------ */

static bool same_matrix(const qc_rotation *r, const qc_op *op, int axis)
{
    return qc_op_is(op, "hadamard") && qc_attr_as_int(qc_op_attr(op, "size")) == r->size &&
           strcmp(qc_attr_as_text(qc_op_attr(op, "matrix")), r->matrix) == 0 &&
           qc_attr_as_int(qc_op_attr(op, "drawn")) == r->drawn &&
           qc_attr_as_int(qc_op_attr(op, "axis")) == axis;
}

static bool cancels(const qc_rotation *r, const qc_op *op, bool inverse, int axis)
{
    return op && same_matrix(r, op, axis) && qc_attr_as_bool(qc_op_attr(op, "inverse")) == !inverse;
}

bool qc_rotate_is_rotated(const qc_rotation *r, const qc_value *x, bool inverse)
{
    const qc_op *op = qc_value_op(x);
    return op && qc_op_is(op, "hadamard") && !cancels(r, op, inverse, -1);
}

qc_value *qc_rotate_value(
    qc_builder *b, const qc_rotation *r, qc_value *x, bool inverse, int axis, bool fold, const char *hint)
{
    const qc_op *op = qc_value_op(x);
    if (cancels(r, op, inverse, axis))
        return qc_op_operand(op, 0);
    qc_make(b, "hadamard");
    qc_make_operand(b, "x", x);
    qc_make_attr_int(b, "size", r->size);
    if (strcmp(r->matrix, "hadamard") != 0)
        qc_make_attr_word(b, "matrix", r->matrix);
    if (inverse)
        qc_make_attr_bool(b, "inverse", true);
    if (axis != -1)
        qc_make_attr_int(b, "axis", axis);
    if (r->drawn)
        qc_make_attr_int(b, "drawn", r->drawn);
    if (fold || r->f64)
        qc_make_attr_word(b, "compute", "f64");
    return qc_make_end(b, hint);
}

qc_status qc_rotate_check_weight(qc_pass_ctx *pc, const qc_op *op)
{
    const qc_value *w = qc_op_operand_named(op, "w");
    const qc_op *from = qc_value_op(w);
    const qc_op *codes = from && qc_op_is(from, "dequantize") ? qc_value_op(qc_op_operand(from, 0)) : NULL;
    if (qc_quant_is_plain(w) && !(codes && qc_op_is(codes, "quantize")))
        return QC_OK;
    qc_pass_fail(pc, op, "its weight holds codes already: " QC_ROTATE_TOO_LATE);
    return QC_ERROR;
}

/* Where the weight stands as it is stored: before a cast that this op alone reads, as routers in f32 have it. */
static qc_op *stored_slot(qc_op *op, size_t *slot)
{
    qc_value *value = qc_op_operand(op, *slot);
    qc_op *from = qc_value_op(value);
    if (from && qc_op_is(from, "cast") && qc_value_use_count(value) == 1 && !qc_quant_is_returned(value) &&
        qc_quant_is_plain(qc_op_operand(from, 0))) {
        *slot = 0;
        return from;
    }
    return op;
}

qc_op *qc_rotate_stored(qc_op *op, const char *name, size_t *slot)
{
    for (*slot = 0; *slot < qc_op_operand_count(op); ++*slot)
        if (qc_op_operand(op, *slot) && strcmp(qc_op_operand_name(op, *slot), name) == 0)
            return stored_slot(op, slot);
    return NULL;
}

static qc_status rotate_operand(qc_op *op, const char *name, const qc_rotation *r, int axis)
{
    size_t slot;
    qc_op *reader = qc_rotate_stored(op, name, &slot);
    if (!reader)
        return QC_OK;
    qc_value *value = qc_op_operand(reader, slot);
    qc_builder *b = qc_builder_before(reader);
    qc_value *rotated = qc_rotate_value(b, r, value, false, axis, true, qc_value_hint(value));
    if (!qc_builder_ok(b))
        return QC_ERROR;
    qc_op_set_operand(reader, slot, rotated);
    return QC_OK;
}

/* Of a linear one weight, of experts one each. */
static int64_t weights_of(const qc_op *op)
{
    return qc_linear_experts(op) ? qc_linear_experts(op) : 1;
}

qc_status qc_rotate_columns(qc_pass_ctx *pc, qc_op *op, const qc_rotation *r)
{
    qc_pass_count(pc, "weights rotated", weights_of(op));
    return qc_rotate_check_weight(pc, op) == QC_OK ? rotate_operand(op, "w", r, -1) : QC_ERROR;
}

qc_status qc_rotate_rows(qc_pass_ctx *pc, qc_op *linear, const qc_rotation *r)
{
    /* The rows of a bank are behind its experts. */
    int rows = qc_op_is(linear, "expert_linear") ? 1 : 0;
    qc_pass_count(pc, "weights rotated", weights_of(linear));
    if (qc_rotate_check_weight(pc, linear) != QC_OK || rotate_operand(linear, "w", r, rows) != QC_OK)
        return QC_ERROR;
    return rotate_operand(linear, "bias", r, -1);
}

bool qc_rotate_quantizes(const qc_op *op)
{
    return qc_quant_one_of(qc_op_name(op), "quantize|qparams|zero_point|global_scale|observe");
}

qc_op *qc_rotate_reader(const qc_value *value, const char *op_name, bool sole)
{
    size_t uses = qc_value_use_count(value), slot;
    qc_op *reader = NULL;
    if (qc_quant_is_returned(value) || uses == 0 || (sole && uses != 1))
        return NULL;
    for (size_t i = 0; i < uses; i++) {
        reader = qc_value_use(value, i, &slot);
        if (slot != 0 || !qc_op_is(reader, op_name))
            return NULL;
    }
    return reader;
}

typedef struct reading {
    qc_arena *arena;
    qc_op_list *linears;
    qc_map seen; /* values and linears, by address */
    QC_VEC(const qc_value *) open;
    const qc_op *misfit;
} reading;

static void start_reading(reading *r, qc_arena *arena, qc_op_list *linears)
{
    *r = (reading){.arena = arena, .linears = linears};
    qc_map_init(&r->seen, arena);
}

static bool is_new(reading *r, const void *thing)
{
    return qc_map_set_n(&r->seen, (const char *)&thing, sizeof thing, NULL);
}

static void read_one(reading *r, qc_op *op, size_t slot, const qc_value *value)
{
    bool same = slot == 0 && (qc_op_is(op, "cast") || qc_op_is(op, "expert_gather")) &&
                qc_dtype_is_float(qc_type_dtype(qc_value_type(qc_op_result(op, 0))));
    if (qc_is_linear(op) && slot == 0) {
        if (is_new(r, op))
            QC_PUSH(r->arena, r->linears, op);
    } else if (same || qc_quant_scaled(op) == value) {
        QC_PUSH(r->arena, &r->open, qc_op_result(op, 0));
    } else if (!r->misfit) {
        r->misfit = op;
    }
}

static void read_open(reading *r)
{
    size_t slot;
    while (r->open.count) {
        const qc_value *value = r->open.items[--r->open.count];
        if (!is_new(r, value))
            continue;
        if (qc_quant_is_returned(value) && !r->misfit)
            r->misfit = qc_value_op(value);
        for (size_t i = 0; i < qc_value_use_count(value); i++) {
            qc_op *op = qc_value_use(value, i, &slot);
            read_one(r, op, slot, value);
        }
    }
}

const qc_op *qc_rotate_linears(qc_arena *arena, const qc_value *value, qc_op_list *linears)
{
    reading r;
    start_reading(&r, arena, linears);
    QC_PUSH(arena, &r.open, value);
    read_open(&r);
    return r.misfit;
}

const qc_op *qc_rotate_use_linears(
    qc_arena *arena, qc_op *op, size_t slot, const qc_value *value, qc_op_list *linears)
{
    reading r;
    start_reading(&r, arena, linears);
    read_one(&r, op, slot, value);
    read_open(&r);
    return r.misfit;
}

/* ---- symbols ------------------------------------------------------------------------------------------- */

qc_status qc_rotate_need_new(qc_pass_ctx *pc, const qc_module *module, const char *name)
{
    if (!qc_module_find_symbol(module, name))
        return QC_OK;
    qc_pass_fail(pc, NULL, "the model is rotated by %s already: there is a symbol @%s", name, name);
    return QC_ERROR;
}

static const char *last_name(const qc_node *node)
{
    const char *path = qc_node_path(node), *dot = strrchr(path, '.');
    return dot ? dot + 1 : path;
}

/* The order in which SpinQuantModifier names modules; others come behind, as the graph has them. */
static int rank_of(const char *name)
{
    static const char *const names[] = {"embed_tokens", "q_proj", "k_proj", "v_proj", "o_proj", "up_proj",
        "gate_proj", "down_proj", "lm_head"};
    int i = 0;
    while (i < (int)(sizeof names / sizeof *names) && strcmp(names[i], name) != 0)
        i++;
    return i;
}

typedef struct node_list {
    QC_VEC(const qc_node *) all;
    qc_map known; /* by address */
    qc_map names; /* last names, in the order of their first node */
} node_list;

static bool is_known(const node_list *nodes, const qc_node *node)
{
    return qc_map_find_n(&nodes->known, (const char *)&node, sizeof node) != NULL;
}

/* Does "re:.*NAME$" name those of `nodes` that end in `name`, and nothing else? */
static bool names_exactly(const qc_module *module, const node_list *nodes, const char *name)
{
    size_t wanted = 0, found = 0;
    for (size_t i = 0; i < nodes->all.count; i++)
        wanted += strcmp(last_name(nodes->all.items[i]), name) == 0;
    for (const qc_node *n = qc_module_first_node(module); n; n = qc_node_next(n)) {
        const char *path = qc_node_path(n);
        if (strchr(path, '\n')) /* which . does not match */
            return false;
        if (!qc_ends_with(path, name))
            continue;
        if (!is_known(nodes, n))
            return false;
        found++;
    }
    return found == wanted;
}

typedef struct target_list {
    qc_ctx *ctx;
    qc_arena arena;
    QC_VEC(const qc_attr *) items;
} target_list;

/* Targets for the nodes that end in `name`: one pattern if there is one that names nothing else, else their paths. */
static void add_targets(target_list *t, const qc_module *module, const node_list *nodes, const char *name)
{
    bool top = false;
    for (size_t i = 0; i < nodes->all.count; i++)
        top |= strcmp(qc_node_path(nodes->all.items[i]), name) == 0;
    if (!top &&
        name[strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")] == '\0' &&
        names_exactly(module, nodes, name)) {
        QC_PUSH(&t->arena, &t->items, qc_attr_string(t->ctx, qc_arena_printf(&t->arena, "re:.*%s$", name)));
        return;
    }
    for (size_t i = 0; i < nodes->all.count; i++)
        if (strcmp(last_name(nodes->all.items[i]), name) == 0)
            QC_PUSH(&t->arena, &t->items, qc_attr_string(t->ctx, qc_node_path(nodes->all.items[i])));
}

static void collect_node(target_list *t, node_list *nodes, const qc_node *node)
{
    if (!node || !qc_map_set_n(&nodes->known, (const char *)&node, sizeof node, NULL))
        return;
    QC_PUSH(&t->arena, &nodes->all, node);
    qc_map_set(&nodes->names, last_name(node), NULL);
}

/* The modules of the ops; of experts as many as there are. */
static void collect_nodes(target_list *t, const qc_rotate_use *use, node_list *nodes)
{
    qc_map_init(&nodes->known, &t->arena);
    qc_map_init(&nodes->names, &t->arena);
    for (int l = 0; l < 2; l++)
        for (size_t i = 0; use->ops[l] && i < use->ops[l]->count; i++) {
            const qc_op *op = use->ops[l]->items[i];
            size_t count = qc_linear_node_count(op);
            if (!qc_op_is(op, "expert_linear") || count == 0)
                collect_node(t, nodes, qc_op_node(op));
            for (size_t k = 0; qc_op_is(op, "expert_linear") && k < count; k++)
                collect_node(t, nodes, qc_linear_node(op, k));
        }
}

static const qc_attr *targets_of(qc_ctx *ctx, const qc_module *module, const qc_rotate_use *use)
{
    enum { RANKS = 10 };
    target_list t = {.ctx = ctx};
    node_list nodes = {0};
    qc_arena_init(&t.arena, qc_ctx_arena(ctx)->oom);
    collect_nodes(&t, use, &nodes);
    for (int rank = 0; rank < RANKS; rank++)
        for (size_t i = 0; i < nodes.names.count; i++)
            if (rank_of(nodes.names.entries[i].key) == rank)
                add_targets(&t, module, &nodes, nodes.names.entries[i].key);
    const qc_attr *list = qc_attr_list(ctx, t.items.items, t.items.count);
    qc_arena_fini(&t.arena);
    return list;
}

void qc_rotate_symbol(qc_pass_ctx *pc, qc_module *module, const qc_rotation *r, bool block, bool head_dim,
    const qc_rotate_use *uses, size_t count)
{
    static const char *const keys[] = {"apply", "block", "head_dim", "precision", "size", "type", NULL};
    static const char *const use_keys[] = {"ignore", "inverse", "location", "targets", NULL};
    qc_ctx *ctx = qc_pass_ctx_get(pc);
    const qc_attr **apply = qc_pass_alloc(pc, (count + 1) * sizeof *apply);
    for (size_t i = 0; i < count; i++) {
        const qc_attr *fields[] = {
            uses[i].ignore,
            uses[i].inverse ? qc_attr_bool(ctx, true) : NULL,
            qc_attr_word(ctx, uses[i].location),
            uses[i].targets ? uses[i].targets : targets_of(ctx, module, &uses[i]),
        };
        apply[i] = qc_quant_map(ctx, use_keys, fields);
    }
    const qc_attr *values[] = {
        qc_attr_list(ctx, apply, count),
        block || (!head_dim && qc_pass_option_int(pc, "size")) ? qc_attr_bool(ctx, true) : NULL,
        head_dim ? qc_attr_int(ctx, r->size) : NULL,
        qc_attr_word(ctx, r->f64 ? "f64" : "f32"),
        qc_attr_int(ctx, r->size),
        qc_attr_word(ctx, r->matrix),
    };
    qc_quant_symbol(pc, module, "transform", r->name, -1, qc_quant_map(ctx, keys, values));
}
