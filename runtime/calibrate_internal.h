/* SPDX-License-Identifier: MIT
 *
 * calibrate_internal.h - a calibration in the making: what calibrate.c prepares and plans, and
 * calibrate_run.c carries out.
 */
#ifndef QC_RUNTIME_CALIBRATE_INTERNAL_H
#define QC_RUNTIME_CALIBRATE_INTERNAL_H

#include "runtime/calibrate.h"
#include "runtime/hidden_store.h"
#include "runtime/plan.h"
#include "runtime/segments.h"

typedef struct qc_calibration {
    qc_ctx *ctx;
    qc_module *module;
    const qc_func *func;
    const qc_dataset *dataset;
    qc_calibrate_options options;
    qc_arena arena;
    qc_value_kinds kinds;
    qc_segments segments;
    qc_bank_rows rows; /* ids that occur */
    size_t longest;    /* sequence, in tokens */
    qc_host_engine *engine;
    qc_rope_tables *rope;
    qc_decomposer *decomposer;
    qc_weights *weights;
    /* the plan of memory */
    int workers;            /* sequences at once */
    size_t *block_bytes;    /* of hidden states, one a sequence: room for the largest of all segment ends */
    uint64_t hidden_memory; /* limit of the store's part in memory */
    uint64_t peak_bytes;
} qc_calibration;

/* Checks, segments, and the plan of memory. On failure too, _end is due. */
qc_status qc_calibration_begin(qc_calibration *c, qc_ctx *ctx, qc_module *module, const qc_dataset *dataset,
    const qc_calibrate_options *options);
void qc_calibration_end(qc_calibration *c);
/* The plan of a segment, with its weights in a new bank. */
qc_plan *qc_calibration_plan(qc_calibration *c, size_t segment, bool dry, qc_bank **bank);
/* Opens the weights and runs all segments. */
qc_status qc_calibration_run(qc_calibration *c, qc_stats *stats);

#endif
