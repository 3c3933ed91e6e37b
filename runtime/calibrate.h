/* SPDX-License-Identifier: MIT
 *
 * calibrate.h - statistics of activations, layer by layer in bounded memory, and putting them into the IR.
 *
 * The function is cut into segments (segments.h); the weights of one segment are resident at a time, all sequences go
 * through it once, hidden states wait between segments in memory up to a limit, then on disk. Every value that an
 * `observe` op names is reduced per sequence and head. The result does not depend on threads or on the limit.
 */
#ifndef QC_RUNTIME_CALIBRATE_H
#define QC_RUNTIME_CALIBRATE_H

#include "frontends/text/dataset.h"
#include "qc/ir.h"
#include "runtime/progress.h"
#include "runtime/stats.h"

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
 * record is an error that names the tap. */
qc_status qc_calibrate_resolve(qc_ctx *ctx, qc_module *module, const qc_stats *stats);

#endif
