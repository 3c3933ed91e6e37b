/* SPDX-License-Identifier: MIT
 *
 * calibrate.h - statistics of activations, layer by layer in bounded memory, and putting them into the IR.
 *
 * The function is cut into segments (segments.h); the weights of one segment are resident at a time, all sequences go
 * through it once, hidden states wait between segments in memory up to a limit, then on disk. The experts of a layer are
 * resident one by one, or as many as make passes over states on disk fewer. Every value that an
 * `observe` op names is reduced per sequence and head. The result does not depend on threads or on the limit.
 */
#ifndef QC_RUNTIME_CALIBRATE_H
#define QC_RUNTIME_CALIBRATE_H

#include "frontends/text/dataset.h"
#include "qc/ir.h"
#include "runtime/progress.h"
#include "runtime/stats.h"

/* What the experts of all layers took. */
typedef struct qc_calibrate_cost {
    uint64_t rows_routed, rows_run; /* tokens times experts: that were chosen, that were run */
    double expert_seconds, seconds; /* of the experts, of all */
    int64_t experts_at_once;        /* of a layer, resident */
} qc_calibrate_cost;

typedef struct qc_calibrate_options {
    int threads;        /* 0: all processors */
    const char *source; /* where the weights lie; NULL: the module's source */
    uint64_t
        max_memory_bytes; /* of hidden states and all else; 0: no limit. Too little to work is an error */
    /* Ranges of q and k of attention are taken of their rotation by a Hadamard matrix of the head's size (R3) too, under
     * `<tap>@R3`. */
    bool rotated;
    qc_progress_fn progress; /* may be NULL */
    void *progress_user;
    qc_calibrate_cost *cost; /* filled by qc_calibrate; may be NULL */
} qc_calibrate_options;

/* Does the module hold an `observe`? */
bool qc_calibrate_is_needed(const qc_module *module);
/* Rows of the embedding table: token ids must be below. */
qc_status qc_calibrate_vocabulary(qc_ctx *ctx, const qc_module *module, int64_t *vocabulary);
/* The peak memory that qc_calibrate will keep below, code and libraries included. */
qc_status qc_calibrate_plan(qc_ctx *ctx, qc_module *module, const qc_dataset *dataset,
    const qc_calibrate_options *options, uint64_t *peak_bytes);
/* Adds the records of each tap. NaN and infinities are errors that name the tap and the sequence. */
qc_status qc_calibrate(qc_ctx *ctx, qc_module *module, const qc_dataset *dataset,
    const qc_calibrate_options *options, qc_stats *stats);
/* Replaces every `observe` by a constant: its record folded as its observer says, in the model's element type. A missing
 * record is an error that names the tap. Experts that saw too few tokens get what their observer falls back to. Behind
 * it tokens go to the experts that they chose alone. */
qc_status qc_calibrate_resolve(qc_ctx *ctx, qc_module *module, const qc_stats *stats);
/* The same where weights lie in `source`, for experts that get the range of their weights; NULL: the module's. */
qc_status qc_calibrate_resolve_from(
    qc_ctx *ctx, qc_module *module, const qc_stats *stats, const char *source);

#endif
