/* SPDX-License-Identifier: MIT
 *
 * analysis.h - facts about a module that are computed when first asked for, kept until a pass changes the
 * module.
 *
 * A pass that changed the module loses every analysis that it did not promise to keep
 * (qc_pass_add_kept_analysis); forgetting to promise costs time only, a false promise is found by
 * qc_run_settings.verify_keeps. Results hold pointers into the module and must not be used after changing it.
 */
#ifndef QC_PASSES_ANALYSIS_H
#define QC_PASSES_ANALYSIS_H

#include "ir/support/arena.h"
#include "qc/pass.h"

typedef struct qc_analysis_kind {
    const char *name;
    /* The result, in `arena`. */
    const void *(*compute)(qc_arena *arena, const qc_module *module);
    /* Do two results over one module say the same? */
    bool (*equal)(const void *a, const void *b);
} qc_analysis_kind;

/* Makes another analysis known; `kind` must outlive the registry. */
void qc_registry_add_analysis(qc_registry *registry, const qc_analysis_kind *kind);
/* The result for the module of this run, NULL (reported) when no analysis has this name. */
const void *qc_pass_analysis(qc_pass_ctx *pc, const char *name);

/* ---- "liveness": where each value of a function is read last ------------------------------------------- */

typedef struct qc_liveness qc_liveness;

#define QC_LIVE_OUT SIZE_MAX /* end of a value that the function returns */

const qc_liveness *qc_liveness_compute(qc_arena *arena, const qc_module *module);
/* Position of an op in its function, from 0. */
size_t qc_liveness_position(const qc_liveness *liveness, const qc_op *op);
/* Position of the last op that reads the value; that of its own op (0 for an argument) when nobody does;
 * QC_LIVE_OUT when the function returns it. */
size_t qc_liveness_end(const qc_liveness *liveness, const qc_value *value);

/* ---- "node-ops": which ops come from a node of the module tree ----------------------------------------- */

typedef struct qc_node_ops qc_node_ops;

const qc_node_ops *qc_node_ops_compute(qc_arena *arena, const qc_module *module);
/* Ops of exactly this node, in order; NULL and a count of 0 when there are none. */
qc_op *const *qc_node_ops_get(const qc_node_ops *ops, const qc_node *node, size_t *count);

/* ---- the manager's side -------------------------------------------------------------------------------- */

typedef struct qc_analysis_cache qc_analysis_cache;

qc_analysis_cache *qc_analysis_cache_create(
    qc_arena *arena, const qc_registry *registry, const qc_module *module);
void qc_analysis_cache_destroy(qc_analysis_cache *cache);
/* NULL when the name is unknown. */
const void *qc_analysis_cache_get(qc_analysis_cache *cache, const char *name);
/* After a pass changed the module: drops all but those named. */
void qc_analysis_cache_keep(qc_analysis_cache *cache, const char *const *kept, size_t count);
/* Recomputes what is cached; the name of the first that differs, or NULL. */
const char *qc_analysis_cache_check(qc_analysis_cache *cache);

#endif
