/* SPDX-License-Identifier: MIT
 *
 * merge.h - one line for the experts of a layer: "model.layers.0.mlp.experts.{0-127}.up_proj.weight" in place of 128 names.
 * An expert is a number behind the part "experts" of a path, as in all checkpoints of models with experts; a name is any text
 * with such a path in it.
 */
#ifndef QC_RUNTIME_CHECK_MERGE_H
#define QC_RUNTIME_CHECK_MERGE_H

#include "ir/support/map.h"

typedef struct check_merged {
    const char *name;   /* of the first item */
    size_t first, last; /* numbers of items, in the order in which they were added, from 0 */
    size_t count;       /* of items */
    QC_VEC(int64_t) experts;
    size_t at; /* where the expert stands in `name` */
} check_merged;

typedef struct check_merge {
    qc_arena *arena;
    qc_map by_key;
    size_t items;
    QC_VEC(check_merged *) lines;   /* in the order of their first items */
    QC_VEC(check_merged *) line_of; /* each item's */
    bool apart;                     /* every item is a line of its own */
} check_merge;

void check_merge_init(check_merge *merge, qc_arena *arena, bool apart);
/* The next item: part of a line with the other experts of the same layer and tensor whose `alike` is equal, or a line of
 * its own. Texts are kept as they are given, not copied. */
check_merged *check_merge_add(check_merge *merge, const char *name, const char *alike);
/* The name, with all experts in it: "...experts.{0-5, 7}.up_proj.weight". Belongs to the arena. */
const char *check_merged_name(qc_arena *arena, const check_merged *line);

#endif
