/* SPDX-License-Identifier: MIT
 *
 * analysis.c - liveness and node-ops, and the cache of a run (analysis.h).
 *
 * Results are maps from pointers of the module to positions; the bytes of a pointer are its key. Both maps
 * keep insertion order, which is the module's, so that equal results compare entry by entry.
 */
#include "passes/analysis.h"

#include "ir/support/map.h"
#include "passes/internal.h"

/* ---- liveness ------------------------------------------------------------------------------------------ */

struct qc_liveness {
    qc_map positions, ends; /* op -> position + 1; value -> end + 1, wrapping to 0 for QC_LIVE_OUT */
};

static void map_put(qc_map *map, const void *pointer, size_t number)
{
    qc_map_set_n(map, (const char *)&pointer, sizeof pointer, (void *)(uintptr_t)(number + 1));
}

static size_t map_number(const qc_map *map, const void *pointer)
{
    const qc_map_entry *entry = qc_map_find_n(map, (const char *)&pointer, sizeof pointer);
    return entry ? (size_t)(uintptr_t)entry->value - 1 : 0;
}

static void liveness_add_func(qc_liveness *l, const qc_func *func)
{
    size_t position = 0;
    for (size_t i = 0; i < qc_func_argument_count(func); i++)
        map_put(&l->ends, qc_func_argument(func, i), 0);
    for (const qc_op *op = qc_func_first_op(func); op; op = qc_op_next(op), position++) {
        map_put(&l->positions, op, position);
        for (size_t i = 0; i < qc_op_operand_count(op); i++)
            if (qc_op_operand(op, i))
                map_put(&l->ends, qc_op_operand(op, i), position);
        for (size_t i = 0; i < qc_op_result_count(op); i++)
            map_put(&l->ends, qc_op_result(op, i), position);
    }
    for (size_t i = 0; i < qc_func_result_count(func); i++)
        map_put(&l->ends, qc_func_result(func, i), QC_LIVE_OUT);
}

const qc_liveness *qc_liveness_compute(qc_arena *arena, const qc_module *module)
{
    qc_liveness *l = QC_NEW(arena, qc_liveness);
    qc_map_init(&l->positions, arena);
    qc_map_init(&l->ends, arena);
    for (const qc_func *func = qc_module_first_func(module); func; func = qc_func_next(func))
        liveness_add_func(l, func);
    return l;
}

size_t qc_liveness_position(const qc_liveness *liveness, const qc_op *op)
{
    return map_number(&liveness->positions, op);
}

size_t qc_liveness_end(const qc_liveness *liveness, const qc_value *value)
{
    return map_number(&liveness->ends, value);
}

static bool maps_equal(const qc_map *a, const qc_map *b)
{
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++) {
        const qc_map_entry *x = &a->entries[i], *y = &b->entries[i];
        if (x->value != y->value || x->key_length != y->key_length ||
            memcmp(x->key, y->key, x->key_length) != 0)
            return false;
    }
    return true;
}

static const void *compute_liveness(qc_arena *arena, const qc_module *module)
{
    return qc_liveness_compute(arena, module);
}

static bool liveness_equal(const void *a, const void *b)
{
    const qc_liveness *x = a, *y = b;
    return maps_equal(&x->positions, &y->positions) && maps_equal(&x->ends, &y->ends);
}

/* ---- node-ops ------------------------------------------------------------------------------------------ */

typedef struct op_list {
    QC_VEC(qc_op *) ops;
} op_list;

struct qc_node_ops {
    qc_map lists; /* node -> op_list */
};

const qc_node_ops *qc_node_ops_compute(qc_arena *arena, const qc_module *module)
{
    qc_node_ops *n = QC_NEW(arena, qc_node_ops);
    qc_map_init(&n->lists, arena);
    for (const qc_func *func = qc_module_first_func(module); func; func = qc_func_next(func))
        for (qc_op *op = qc_func_first_op(func); op; op = qc_op_next(op)) {
            const qc_node *node = qc_op_node(op);
            if (!node)
                continue;
            op_list *list = qc_map_get_n(&n->lists, (const char *)&node, sizeof node);
            if (!list) {
                list = QC_NEW(arena, op_list);
                qc_map_set_n(&n->lists, (const char *)&node, sizeof node, list);
            }
            QC_PUSH(arena, &list->ops, op);
        }
    return n;
}

qc_op *const *qc_node_ops_get(const qc_node_ops *ops, const qc_node *node, size_t *count)
{
    const op_list *list = qc_map_get_n(&ops->lists, (const char *)&node, sizeof node);
    *count = list ? list->ops.count : 0;
    return list ? list->ops.items : NULL;
}

static const void *compute_node_ops(qc_arena *arena, const qc_module *module)
{
    return qc_node_ops_compute(arena, module);
}

static bool node_ops_equal(const void *a, const void *b)
{
    const qc_node_ops *x = a, *y = b;
    if (x->lists.count != y->lists.count)
        return false;
    for (size_t i = 0; i < x->lists.count; i++) {
        const op_list *p = x->lists.entries[i].value, *q = y->lists.entries[i].value;
        if (memcmp(x->lists.entries[i].key, y->lists.entries[i].key, sizeof(void *)) != 0 ||
            p->ops.count != q->ops.count ||
            memcmp(p->ops.items, q->ops.items, p->ops.count * sizeof *p->ops.items) != 0)
            return false;
    }
    return true;
}

/* ---- registry and cache -------------------------------------------------------------------------------- */

static const qc_analysis_kind built_in[] = {
    {"liveness", compute_liveness, liveness_equal},
    {"node-ops", compute_node_ops, node_ops_equal},
};

void qc_registry_add_built_in_analyses(qc_registry *registry)
{
    for (size_t i = 0; i < sizeof built_in / sizeof built_in[0]; i++)
        qc_registry_add_analysis(registry, &built_in[i]);
}

void qc_registry_add_analysis(qc_registry *registry, const qc_analysis_kind *kind)
{
    QC_PUSH(&registry->arena, &registry->analyses, kind);
}

typedef struct cached {
    const qc_analysis_kind *kind;
    qc_arena arena;
    const void *result; /* NULL: not computed */
} cached;

struct qc_analysis_cache {
    const qc_module *module;
    cached *entries;
    size_t count;
    qc_oom_fn oom;
};

qc_analysis_cache *qc_analysis_cache_create(
    qc_arena *arena, const qc_registry *registry, const qc_module *module)
{
    qc_analysis_cache *cache = QC_NEW(arena, qc_analysis_cache);
    cache->module = module;
    cache->oom = arena->oom;
    cache->count = registry->analyses.count;
    cache->entries = QC_NEW_ARRAY(arena, cached, cache->count);
    for (size_t i = 0; i < cache->count; i++) {
        cache->entries[i].kind = registry->analyses.items[i];
        qc_arena_init(&cache->entries[i].arena, arena->oom);
    }
    return cache;
}

void qc_analysis_cache_destroy(qc_analysis_cache *cache)
{
    for (size_t i = 0; i < cache->count; i++)
        qc_arena_fini(&cache->entries[i].arena);
}

const void *qc_analysis_cache_get(qc_analysis_cache *cache, const char *name)
{
    for (size_t i = 0; i < cache->count; i++) {
        cached *entry = &cache->entries[i];
        if (strcmp(entry->kind->name, name) != 0)
            continue;
        if (!entry->result)
            entry->result = entry->kind->compute(&entry->arena, cache->module);
        return entry->result;
    }
    return NULL;
}

void qc_analysis_cache_keep(qc_analysis_cache *cache, const char *const *kept, size_t count)
{
    for (size_t i = 0; i < cache->count; i++) {
        cached *entry = &cache->entries[i];
        bool keep = false;
        for (size_t k = 0; k < count; k++)
            keep |= strcmp(kept[k], entry->kind->name) == 0;
        if (keep || !entry->result)
            continue;
        qc_arena_fini(&entry->arena);
        entry->result = NULL;
    }
}

const char *qc_analysis_cache_check(qc_analysis_cache *cache)
{
    for (size_t i = 0; i < cache->count; i++) {
        cached *entry = &cache->entries[i];
        if (!entry->result)
            continue;
        qc_arena arena;
        qc_arena_init(&arena, cache->oom);
        bool same = entry->kind->equal(entry->result, entry->kind->compute(&arena, cache->module));
        qc_arena_fini(&arena);
        if (!same)
            return entry->kind->name;
    }
    return NULL;
}
