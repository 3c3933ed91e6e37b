/* SPDX-License-Identifier: MIT
 *
 * weights_needs.c - the memory that streams of weight expressions take, from types alone; see weights.h.
 *
 * What goes by rows needs a chunk of its widest form in every form on the way: the elements as stored and as computed
 * with, one code a byte, packed codes, scales. Any other operation needs its operands and its result whole.
 */
#include <fcntl.h>
#include <string.h>

#include "ir/experts.h"
#include "runtime/weights_internal.h"

typedef struct needs_walk {
    qc_arena arena;
    qc_map seen;
    qc_weight_needs needs;
} needs_walk;

static uint64_t elems_of(const qc_value *value)
{
    int64_t count;
    return value && qc_type_static_count(qc_value_type(value), &count) && count > 0 ? (uint64_t)count : 0;
}

static uint64_t bytes_of(const qc_value *value)
{
    uint64_t bits = (uint64_t)qc_dtype_bits(qc_type_dtype(qc_value_type(value))), bytes;
    return __builtin_mul_overflow(elems_of(value), bits < 8 ? 1 : bits / 8, &bytes) ? UINT64_MAX / 4 : bytes;
}

static uint64_t last_dim(const qc_value *value)
{
    int64_t size;
    const qc_type *type = qc_value_type(value);
    return qc_type_rank(type) && qc_dim_as_int(qc_type_dim(type, -1), &size) ? (uint64_t)size : 1;
}

/* Rows of a block that a hadamard turns together; 0 when it turns rows by themselves. */
static int64_t turned_rows(const qc_op *op)
{
    bool rows =
        qc_attr_as_int(qc_op_attr(op, "axis")) == 0 || qc_type_rank(qc_value_type(qc_op_result(op, 0))) == 1;
    return rows ? qc_attr_as_int(qc_op_attr(op, "size")) : 0;
}

/* Bytes of one row of the result. */
static uint64_t row_bytes_of(const qc_op *op)
{
    const qc_value *value = qc_op_result(op, 0);
    const qc_type *type = qc_value_type(value);
    int64_t rows = 1;
    if (qc_type_rank(type))
        qc_dim_as_int(qc_type_dim(type, 0), &rows);
    return bytes_of(value) / (rows > 0 ? (uint64_t)rows : 1);
}

/* A rotation works in f64: whole panels of columns, or a few vectors. */
static void add_turn(needs_walk *w, const qc_op *op)
{
    uint64_t panel = qc_weights_turn_panel_bytes(qc_attr_as_int(qc_op_attr(op, "size")));
    w->needs.chunk_bytes = panel > w->needs.chunk_bytes ? panel : w->needs.chunk_bytes;
}

static bool goes_by_rows(const qc_op *op)
{
    static const char *const names[] = {"weight", "expert_weight", "const", "cast", "unpack", "quantize",
        "dequantize", "qparams", "zero_point", "global_scale", "center", "fill", "slice", "reshape"};
    if (qc_attr_as_int(qc_op_attr(op, "experts")) > 0) /* of all experts of a bank */
        return false;
    if (qc_op_is(op, "hadamard") && qc_attr_as_int(qc_op_attr(op, "axis")) > 0)
        return false;
    if (qc_op_is(op, "hadamard"))
        return turned_rows(op) == 0 || !qc_weights_turn_is_whole(turned_rows(op), row_bytes_of(op));
    if (qc_op_is(op, "mul"))
        return elems_of(qc_op_operand(op, 1)) == last_dim(qc_op_result(op, 0));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (qc_op_is(op, names[i]))
            return true;
    return false;
}

/* Elements that a slice needs of its operand for one of its own. */
static uint64_t spread_of(const qc_op *op)
{
    enum { MOST = 4 };
    uint64_t own = elems_of(qc_op_result(op, 0)),
             of = qc_op_is(op, "slice") ? elems_of(qc_op_operand(op, 0)) : 0;
    if (!own || of <= own)
        return 1;
    int64_t rank = qc_type_rank(qc_value_type(qc_op_result(op, 0)));
    int64_t axis = qc_attr_as_int(qc_op_attr(op, "axis")), step = qc_attr_as_int(qc_op_attr(op, "step"));
    if (axis != 0 && axis != -rank)
        return (of + own - 1) / own;
    return step < MOST ? (uint64_t)step : MOST;
}

/* The part that the op names; false when it names none that can be read. */
static bool read_part(const needs_walk *w, const qc_op *op, qc_scheme_part *part)
{
    const qc_attr *scheme = qc_op_attr(op, "scheme");
    qc_arena arena;
    qc_diag quiet;
    if (!scheme)
        return false;
    qc_arena_init(&arena, w->arena.oom);
    qc_diag_init(&quiet, &arena, NULL, NULL);
    bool ok = qc_scheme_read(&quiet, "", qc_func_module(qc_op_func(op)), qc_attr_as_text(scheme),
                  qc_attr_as_text(qc_op_attr(op, "arg")), part) == QC_OK;
    qc_arena_fini(&arena);
    return ok;
}

/* The ranges that a search keeps, and the whole tensor where it has one range alone. */
static void add_search(needs_walk *w, const qc_op *op, const qc_scheme_part *part)
{
    qc_mse mse;
    if (!qc_op_is(op, "qparams") || !qc_mse_from_observer(part->observer, strlen(part->observer), &mse))
        return;
    w->needs.kept_bytes += elems_of(qc_op_result(op, 0)) * 2 * sizeof(float);
    if (part->granularity == QC_GRANULARITY_TENSOR)
        w->needs.whole_bytes += bytes_of(qc_op_operand_named(op, "x"));
}

static void add_value(needs_walk *w, const qc_value *value, int64_t align_rows)
{
    const qc_op *op = qc_value_op(value);
    qc_scheme_part part;
    if (read_part(w, op, &part)) {
        align_rows = part.block_rows > align_rows ? part.block_rows : align_rows;
        add_search(w, op, &part);
    }
    if (qc_op_is(op, "hadamard")) {
        align_rows = turned_rows(op) > align_rows ? turned_rows(op) : align_rows;
        add_turn(w, op);
    }
    if (goes_by_rows(op)) {
        if (qc_op_is(op, "mul")) /* the factors */
            w->needs.whole_bytes += bytes_of(qc_op_operand(op, 1));
        uint64_t row = row_bytes_of(op);
        uint64_t chunk = (uint64_t)qc_weights_chunk_rows((size_t)row, align_rows) * row * spread_of(op);
        uint64_t most = bytes_of(value) * spread_of(op);
        chunk = QC_CHUNK_FORMS * (chunk < most ? chunk : most);
        w->needs.chunk_bytes = chunk > w->needs.chunk_bytes ? chunk : w->needs.chunk_bytes;
        return;
    }
    w->needs.whole_bytes += bytes_of(value);
    /* In place, in the memory of its result; a transpose scatters chunks. */
    if (qc_op_is(op, "hadamard") || qc_op_is(op, "transpose"))
        return;
    for (size_t i = 0; i < qc_op_operand_count(op); i++)
        if (qc_op_operand(op, i) && goes_by_rows(qc_value_op(qc_op_operand(op, i))))
            w->needs.whole_bytes += bytes_of(qc_op_operand(op, i));
}

/* A tensor, or, with an index from 0 on, that part of its first dimension. */
static uint64_t read_tensor_ahead(qc_weights *weights, const char *name, int64_t index)
{
    const qc_st_tensor *t = qc_st_find(&weights->set, name);
    bool part = index >= 0 && t && t->rank > 0 && index < t->shape[0];
    const char *key = part ? qc_arena_printf(&weights->arena, "%s %lld", name, (long long)index) : name;
    if (!t || !qc_map_set(&weights->ahead, key, NULL))
        return 0;
    uint64_t bytes = part ? t->size_bytes / (uint64_t)t->shape[0] : t->size_bytes;
    uint64_t offset = t->offset_bytes + (part ? (uint64_t)index * bytes : 0);
    posix_fadvise(weights->set.files[t->file].fd, (off_t)offset, (off_t)bytes, POSIX_FADV_WILLNEED);
    return bytes;
}

uint64_t qc_weights_read_ahead(qc_weights *weights, const qc_value *value)
{
    qc_arena arena;
    qc_map seen;
    uint64_t bytes = 0;
    qc_arena_init(&arena, weights->arena.oom);
    qc_map_init(&seen, &arena);
    QC_VEC(const qc_value *) stack = {0};
    QC_PUSH(&arena, &stack, value);
    while (stack.count) {
        const qc_value *v = stack.items[--stack.count];
        const qc_op *op = qc_value_op(v);
        if (!op || !qc_map_set_n(&seen, (const char *)&v, sizeof v, NULL))
            continue;
        for (size_t i = 0; i < qc_op_operand_count(op); i++)
            if (qc_op_operand(op, i))
                QC_PUSH(&arena, &stack, qc_op_operand(op, i));
        const char *name = qc_attr_as_text(qc_op_attr(op, "tensor"));
        if (qc_op_is(op, "weight"))
            bytes += read_tensor_ahead(weights, name, qc_attr_as_int(qc_op_attr(op, "index")));
        int64_t experts = qc_op_is(op, "expert_weight") ? qc_bank_experts(v) : 0;
        for (int64_t e = 0; e < experts && (uint64_t)e < weights->set.tensor_count; e++)
            bytes += read_tensor_ahead(weights, qc_expert_name(&arena, name, e), -1);
    }
    qc_arena_fini(&arena);
    return bytes;
}

qc_weight_needs qc_weights_needs(const qc_weights *weights, const qc_value *value, int64_t align_rows)
{
    needs_walk w = {.needs = {0}};
    qc_arena_init(&w.arena, weights->arena.oom);
    qc_map_init(&w.seen, &w.arena);
    QC_VEC(const qc_value *) stack = {0};
    QC_PUSH(&w.arena, &stack, value);
    while (stack.count) {
        const qc_value *v = stack.items[--stack.count];
        const qc_op *op = qc_value_op(v);
        if (!op || !qc_map_set_n(&w.seen, (const char *)&v, sizeof v, NULL))
            continue;
        add_value(&w, v, align_rows);
        for (size_t i = 0; i < qc_op_operand_count(op); i++)
            if (qc_op_operand(op, i))
                QC_PUSH(&w.arena, &stack, qc_op_operand(op, i));
    }
    qc_arena_fini(&w.arena);
    return w.needs;
}
