/* SPDX-License-Identifier: MIT
 *
 * segments.c - cutting by liveness; see segments.h.
 *
 * Algorithm. Number the needed ops. The cost of a cut behind op i is the bytes a token of the values that
 * ops up to i computed from data and later ops read. From the start of a segment, take ops as long as their
 * weights stay within one layer's worth, and cut where the cost is least, as late as that allows. A layer's
 * worth is what the largest element of a module list takes (a path with a number in it: "model.layers.3"),
 * or the largest op if there is none. No architecture is known by name. Before and behind the experts of a layer there is
 * always a cut; of their weights those of one expert count.
 */
#include "runtime/segments.h"

#include <string.h>

typedef struct live_value {
    const qc_value *value;
    size_t first, last; /* the op that computes it, the last op that reads it */
    size_t row_bytes;   /* a token */
    bool by_tokens;     /* can be handed over: data of each token, of a static size */
} live_value;

typedef struct cutter {
    qc_arena *arena;
    const qc_value_kinds *kinds;
    const qc_op **ops;
    size_t op_count;
    QC_VEC(live_value) values; /* in order of `first` */
    qc_map index;              /* address of a value -> index + 1 */
    size_t *weights;           /* bytes that op i reads */
    qc_expert_region *regions;
    size_t region_count;
    size_t *region_of; /* of each op: number + 1, or 0 */
} cutter;

/* Bytes a token; by_tokens false when the shape is not [B, S, ...] or [B, heads, S, d]. */
static void measure(live_value *live)
{
    const qc_type *type = qc_value_type(live->value);
    int rank = qc_type_rank(type), axis = rank == 4 ? 2 : 1;
    size_t bits = (size_t)qc_dtype_bits(qc_type_dtype(type));
    live->by_tokens = rank >= 2;
    for (int i = 1; i < rank; i++) {
        int64_t n = 1;
        if (i != axis && !qc_dim_as_int(qc_type_dim(type, i), &n))
            live->by_tokens = false;
        bits *= i == axis ? 1 : (size_t)n;
    }
    live->row_bytes = bits / 8;
}

size_t qc_segment_row_bytes(const qc_value *value)
{
    live_value live = {.value = value};
    measure(&live);
    return live.row_bytes;
}

/* Is the dimension along the tokens that of ids (and not, say, that of a cache)? */
static bool along_ids(const qc_value *value, const qc_func *func)
{
    const qc_type *type = qc_value_type(value);
    int axis = qc_type_rank(type) == 4 ? 2 : 1;
    return qc_func_argument_count(func) > 0 &&
           qc_type_dim(type, axis) == qc_type_dim(qc_value_type(qc_func_argument(func, 0)), 1);
}

static void note_use(cutter *c, const qc_value *value, size_t op)
{
    void *at = qc_map_get_n(&c->index, (const char *)&value, sizeof value);
    if (at)
        c->values.items[(size_t)(uintptr_t)at - 1].last = op;
}

static void note_result(cutter *c, const qc_func *func, const qc_value *value, size_t op)
{
    if (qc_value_kind_of(c->kinds, value) != QC_VALUE_DATA || qc_value_uncoded(value) != value)
        return;
    live_value live = {.value = value, .first = op, .last = op};
    measure(&live);
    live.by_tokens = live.by_tokens && along_ids(value, func);
    QC_PUSH(c->arena, &c->values, live);
    qc_map_set_n(&c->index, (const char *)&value, sizeof value, (void *)(uintptr_t)c->values.count);
}

static size_t static_bytes(const qc_value *value)
{
    int64_t count;
    const qc_type *type = qc_value_type(value);
    if (!qc_type_static_count(type, &count))
        return 0;
    return (size_t)count * (size_t)qc_dtype_bits(qc_type_dtype(type)) / 8;
}

static void note_op(cutter *c, const qc_func *func, size_t i)
{
    const qc_op *op = c->ops[i];
    for (size_t k = 0; k < qc_op_operand_count(op); k++) {
        const qc_value *operand = qc_op_operand(op, k);
        if (!operand || !qc_operand_is_read(op, k, true))
            continue;
        if (qc_value_kind_of(c->kinds, operand) != QC_VALUE_WEIGHT)
            note_use(c, qc_value_uncoded(operand), i);
        else if (!qc_op_is_independent(op))
            c->weights[i] += static_bytes(qc_value_without_codes(operand));
    }
    for (size_t k = 0; k < qc_op_result_count(op); k++)
        note_result(c, func, qc_op_result(op, k), i);
}

/* ---- one layer's worth --------------------------------------------------------------------------------- */

/* Length of the path up to its first component that is a number; 0 when it has none. */
static size_t element_length(const char *path)
{
    for (const char *part = path; *part;) {
        size_t length = strcspn(part, "."), digits = strspn(part, "0123456789");
        if (length > 0 && digits == length)
            return (size_t)(part - path) + length;
        part += length + (part[length] == '.');
    }
    return 0;
}

static size_t layer_bytes(const cutter *c)
{
    qc_map elements; /* path -> bytes */
    size_t most = 1;
    qc_map_init(&elements, c->arena);
    for (size_t i = 0; i < c->op_count; i++) {
        const qc_node *node = qc_op_node(c->ops[i]);
        const char *path = node ? qc_node_path(node) : "";
        size_t length = element_length(path), bytes = c->weights[i];
        if (length > 0) {
            bytes += (size_t)(uintptr_t)qc_map_get_n(&elements, path, length);
            qc_map_set_n(&elements, path, length, (void *)(uintptr_t)bytes);
        }
        most = bytes > most ? bytes : most;
    }
    return most;
}

/* ---- cutting ------------------------------------------------------------------------------------------- */

/* SIZE_MAX where no cut can be. */
static size_t cut_cost(const cutter *c, size_t after)
{
    size_t cost = 0;
    for (size_t i = 0; i < c->values.count && c->values.items[i].first <= after; i++) {
        const live_value *v = &c->values.items[i];
        if (v->last <= after)
            continue;
        if (!v->by_tokens)
            return SIZE_MAX;
        cost += v->row_bytes;
    }
    return cost;
}

/* The op that the segment from `start` ends with. */
static size_t segment_end(const cutter *c, size_t start, size_t limit)
{
    size_t bytes = 0, best = SIZE_MAX, best_cost = SIZE_MAX, i = start;
    if (c->region_of[start]) {
        while (i + 1 < c->op_count && c->region_of[i + 1] == c->region_of[start])
            i++;
        return i;
    }
    for (; i < c->op_count; i++) {
        bytes += c->weights[i];
        if (bytes > limit && best != SIZE_MAX)
            return best;
        if (i + 1 == c->op_count || c->region_of[i + 1])
            return i;
        size_t cost = cut_cost(c, i);
        if (cost != SIZE_MAX && cost > 0 &&
            cost <= best_cost) { /* 0: nothing has been computed that is kept */
            best = i;
            best_cost = cost;
        }
    }
    return c->op_count - 1;
}

static const qc_value **live_after(const cutter *c, size_t after, size_t *count)
{
    const qc_value **live = QC_NEW_ARRAY(c->arena, const qc_value *, c->values.count + 1);
    *count = 0;
    for (size_t i = 0; i < c->values.count && c->values.items[i].first <= after; i++)
        if (c->values.items[i].last > after)
            live[(*count)++] = c->values.items[i].value;
    return live;
}

static void fill(const cutter *c, qc_segment *s, size_t first, size_t last)
{
    s->observes = QC_NEW_ARRAY(c->arena, const qc_op *, last - first + 1);
    s->region = c->region_of[first] ? &c->regions[c->region_of[first] - 1] : NULL;
    for (size_t i = first; i <= last; i++) {
        s->weight_bytes += c->weights[i];
        if (qc_op_is(c->ops[i], "observe"))
            s->observes[s->observe_count++] = c->ops[i];
    }
    if (last + 1 < c->op_count)
        s->outputs = live_after(c, last, &s->output_count);
}

/* What has to run: all that is observed, and the choice of experts. */
static const qc_op **list_ops(
    qc_arena *arena, const qc_func *func, const qc_value_kinds *kinds, size_t *count)
{
    QC_VEC(const qc_op *) wanted = {0};
    for (const qc_op *op = qc_func_first_op(func); op; op = qc_op_next(op))
        if (qc_op_is(op, "observe") || qc_op_is(op, "expert_rows"))
            QC_PUSH(arena, &wanted, op);
    return qc_needed_ops(arena,
        &(qc_need){
            .func = func, .kinds = kinds, .ops = wanted.items, .op_count = wanted.count, .calibrating = true},
        count);
}

/* Values that cross into or out of experts must be data of tokens. */
static qc_status check_cut(const cutter *c, const qc_func *func, size_t after)
{
    if (after + 1 == c->op_count || (!c->region_of[after] && !c->region_of[after + 1]) ||
        cut_cost(c, after) != SIZE_MAX)
        return QC_OK;
    size_t region = c->region_of[after] ? c->region_of[after] : c->region_of[after + 1];
    return qc_ctx_error(qc_module_ctx(qc_func_module(func)), c->regions[region - 1].path,
        "what is computed beside its experts is no data of tokens, so they cannot be calibrated one by one");
}

static void note_ops(cutter *c, const qc_func *func)
{
    c->weights = QC_NEW_ARRAY(c->arena, size_t, c->op_count + 1);
    qc_map_init(&c->index, c->arena);
    for (size_t i = 0; i < c->op_count; i++) {
        note_op(c, func, i);
        if (c->region_of[i])
            c->weights[i] /= (size_t)c->regions[c->region_of[i] - 1].experts;
    }
}

qc_status qc_segments_find(
    qc_arena *arena, const qc_func *func, const qc_value_kinds *kinds, qc_segments *segments)
{
    cutter c = {.arena = arena, .kinds = kinds};
    QC_VEC(qc_segment) found = {0};
    c.ops = list_ops(arena, func, kinds, &c.op_count);
    c.region_of = QC_NEW_ARRAY(arena, size_t, c.op_count + 1);
    if (qc_expert_regions_find(arena, kinds, c.ops, c.op_count, c.region_of, &c.regions, &c.region_count) !=
        QC_OK)
        return QC_ERROR;
    note_ops(&c, func);
    size_t limit = layer_bytes(&c);
    for (size_t start = 0; start < c.op_count;) {
        size_t end = segment_end(&c, start, limit);
        qc_segment segment = {0};
        if (check_cut(&c, func, end) != QC_OK)
            return QC_ERROR;
        fill(&c, &segment, start, end);
        if (found.count) {
            segment.inputs = found.items[found.count - 1].outputs;
            segment.input_count = found.items[found.count - 1].output_count;
        }
        QC_PUSH(arena, &found, segment);
        start = end + 1;
    }
    *segments = (qc_segments){found.items, found.count};
    return QC_OK;
}
