/* SPDX-License-Identifier: MIT
 *
 * unite.h - the observers of several recipes in one module, so that one calibration serves them all.
 *
 * Values of different modules are the same when the same operations make them of the same tensors, codes aside: while
 * calibrating, quantized values keep their bits. Rotations that q and k of an attention share are set aside too, because
 * they leave its result what it was, up to rounding. So a value of a recipe's module that is observed is sought in the
 * united module by the number of its expression; a rotated one is made there by a `hadamard` that feeds nothing but
 * the observer. A recipe whose observed values are not there (its weights are rotated) does not fit.
 *
 * Records are the same when value and kind are: ranges of static_minmax, minmax and memoryless_minmax are one record,
 * those of a search depend on its scheme. Taps of recipes are renamed to those of the united module.
 */
#ifndef QC_RUNTIME_COMPARE_UNITE_H
#define QC_RUNTIME_COMPARE_UNITE_H

#include "ir/support/map.h"
#include "qc/ir.h"

/* Numbers of expressions, for all modules of a context. */
typedef struct qc_numbering {
    qc_map expressions; /* text -> number */
} qc_numbering;

void qc_numbering_init(qc_numbering *numbering, qc_arena *arena);

typedef struct qc_unite qc_unite;

/* Begins with a copy of `base` and the observers that it holds. Lives in `arena`, but for its module, which is the
 * caller's to destroy. */
qc_unite *qc_unite_create(qc_arena *arena, qc_numbering *numbering, const qc_module *base);
qc_module *qc_unite_module(const qc_unite *unite);
size_t qc_unite_observer_count(const qc_unite *unite);
/* Adds what the recipe's observers see, and renames their taps. *fits false: nothing was changed. */
qc_status qc_unite_take(qc_unite *unite, qc_module *recipe, bool *fits);

#endif
