/* SPDX-License-Identifier: MIT
 *
 * plan_names.c - what depends on names and the module tree alone: the order of tensors, the ignore list.
 *
 * Order: PyTorch's state dict, that is the tree's order of modules and, in a module, the order in which its
 * parameters came to be; compressing a module puts `weight` behind the scales. It decides which shard a
 * tensor goes to.
 */
#include <stdlib.h>
#include <string.h>

#include "runtime/export/compressed_tensors/internal.h"

/* ---- order --------------------------------------------------------------------------------------------- */

/* Where in its module a tensor comes that quantizing adds or moves behind the module's own parameters. */
static uint32_t added_rank(const char *short_name)
{
    static const char *const names[] = {"q_scale", "q_zero_point", "k_scale", "k_zero_point", "v_scale",
        "v_zero_point", "input_scale", "input_zero_point", "input_global_scale", "weight_global_scale",
        "weight_scale", "weight_zero_point", "weight", "weight_packed", "weight_shape"};
    for (uint32_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i], short_name) == 0)
            return (1u << 24) + i;
    return 1u << 23;
}

/* Position among the node's own tensors from 1; 0 when it is none of them. */
static uint32_t own_rank(const qc_node *node, const char *short_name)
{
    for (size_t i = 0; i < qc_node_tensor_count(node); i++)
        if (strcmp(qc_node_tensor(node, i), short_name) == 0)
            return (uint32_t)i + 1;
    return 0;
}

/* The position of the last module inside of `path`, or of the module itself. */
static uint64_t end_of(const ct_plan *plan, const qc_map *positions, const char *path)
{
    const size_t length = strlen(path);
    uint64_t end = 0;
    for (const qc_node *n = qc_module_first_node(plan->module); n; n = qc_node_next(n)) {
        const char *inner = qc_node_path(n);
        if (strncmp(inner, path, length) == 0 && (inner[length] == '.' || !inner[length]))
            end = (uint64_t)(uintptr_t)qc_map_get(positions, inner);
    }
    return end;
}

static int by_order(const void *a, const void *b)
{
    const ct_tensor *x = *(ct_tensor *const *)a, *y = *(ct_tensor *const *)b;
    if (x->order != y->order)
        return x->order < y->order ? -1 : 1;
    return strcmp(x->name, y->name);
}

void ct_order_tensors(ct_plan *plan)
{
    qc_map positions;
    qc_map_init(&positions, &plan->arena);
    uint64_t position = 0;
    for (const qc_node *n = qc_module_first_node(plan->module); n; n = qc_node_next(n))
        qc_map_set(&positions, qc_node_path(n), (void *)(uintptr_t)++position);
    size_t kept = 0;
    for (size_t i = 0; i < plan->tensors.count; i++) {
        ct_tensor *t = plan->tensors.items[i];
        if (qc_map_get(&plan->by_name, t->name) != t)
            continue;
        const char *dot = strrchr(t->name, '.'), *short_name = dot ? dot + 1 : t->name;
        size_t length = dot ? (size_t)(dot - t->name) : 0;
        uint64_t at = (uint64_t)(uintptr_t)qc_map_get_n(&positions, t->name, length);
        if (t->owner) {
            t->order = end_of(plan, &positions, t->owner) << 32 | (UINT32_C(1) << 30) | t->owner_rank;
        } else if (!at) { /* not of the tree: behind everything, in the order of the source */
            t->order = UINT64_C(0xffffffff) << 32 | (uint32_t)i;
        } else {
            const qc_node *node =
                qc_module_find_node(plan->module, qc_arena_strndup(&plan->arena, t->name, length));
            uint32_t rank = t->quantized ? 0 : own_rank(node, short_name);
            t->order = at << 32 | (rank ? rank : added_rank(short_name) + (t->behind ? 1u << 8 : 0));
        }
        plan->tensors.items[kept++] = t;
    }
    plan->tensors.count = kept;
    qsort(plan->tensors.items, kept, sizeof *plan->tensors.items, by_order);
}

/* ---- ignore -------------------------------------------------------------------------------------------- */

/* The class that a loader will take a module for: routers and gates count as linear layers. */
static const char *loader_class(const char *class_name)
{
    if (strstr(class_name, "ExpertMLP"))
        return class_name;
    if (strstr(class_name, "Router") || strstr(class_name, "Gating"))
        return "Linear";
    for (const char *p = class_name; (p = strstr(p, "Gate")); p += 4)
        if (!(p[4] >= 'a' && p[4] <= 'z'))
            return "Linear";
    return class_name;
}

const char *ct_expert_alias(qc_arena *arena, const char *path)
{
    static const char *const names[][2] = {{"w1", "gate_proj"}, {"w3", "up_proj"}, {"w2", "down_proj"}};
    const char *last = strrchr(path, '.');
    for (size_t i = 0; last && strstr(path, ".experts.") && i < sizeof names / sizeof *names; i++)
        if (strcmp(last + 1, names[i][0]) == 0)
            return qc_arena_printf(arena, "%.*s.%s", (int)(last - path), path, names[i][1]);
    return NULL;
}

static void push_ignored(ct_plan *plan, const char *path)
{
    const char *alias = ct_expert_alias(&plan->arena, path);
    QC_PUSH(&plan->arena, &plan->ignore, path);
    if (alias)
        QC_PUSH(&plan->arena, &plan->ignore, alias);
}

void ct_fill_ignore(ct_plan *plan, const qc_map *quantized)
{
    qc_map classes; /* that have a quantized module */
    qc_map_init(&classes, &plan->arena);
    QC_VEC(const char *) order = {0}; /* classes with a module left out, as they come */
    qc_map seen;
    qc_map_init(&seen, &plan->arena);
    for (const qc_node *n = qc_module_first_node(plan->module); n; n = qc_node_next(n)) {
        const char *class_name = loader_class(qc_node_class(n)), *path = qc_node_path(n);
        if (qc_map_find_n(quantized, path, strlen(path)))
            qc_map_set(&classes, class_name, NULL);
        else if (qc_map_set(&seen, class_name, NULL))
            QC_PUSH(&plan->arena, &order, class_name);
    }
    for (size_t i = 0; i < order.count; i++) {
        if (!qc_map_find_n(&classes, order.items[i], strlen(order.items[i])))
            continue;
        for (const qc_node *n = qc_module_first_node(plan->module); n; n = qc_node_next(n))
            if (strcmp(loader_class(qc_node_class(n)), order.items[i]) == 0 &&
                !qc_map_find_n(quantized, qc_node_path(n), strlen(qc_node_path(n))))
                push_ignored(plan, qc_node_path(n));
    }
}
