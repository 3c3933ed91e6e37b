/* SPDX-License-Identifier: MIT
 *
 * calibrate_internal.h - a calibration in the making, and what its files share:
 *
 *   calibrate.c          checks, segments
 *   calibrate_memory.c   how much memory each part may take
 *   calibrate_run.c      segment by segment, all sequences through each
 *   calibrate_experts.c  the segments that are experts of a layer
 *   calibrate_records.c  the numbers of sequences, put together
 *   calibrate_fold.c     statistics become constants
 *   calibrate_fold_experts.c  the same of experts, and what those get that saw too few tokens
 */
#ifndef QC_RUNTIME_CALIBRATE_INTERNAL_H
#define QC_RUNTIME_CALIBRATE_INTERNAL_H

#include <stdatomic.h>

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
    int64_t experts;        /* of a layer at once */
    size_t *block_bytes;    /* of hidden states, one a sequence: room for the largest of all segment ends */
    uint64_t hidden_memory; /* limit of the store's part in memory */
    uint64_t peak_bytes;
} qc_calibration;

/* Checks, segments, and the plan of memory. On failure too, _end is due. */
qc_status qc_calibration_begin(qc_calibration *c, qc_ctx *ctx, qc_module *module, const qc_dataset *dataset,
    const qc_calibrate_options *options);
void qc_calibration_end(qc_calibration *c);
qc_status qc_calibration_plan_memory(qc_calibration *c);
/* The plan of an ordinary segment, with its weights in a new bank. */
qc_plan *qc_calibration_plan(qc_calibration *c, size_t segment, bool dry, qc_bank **bank);
/* Opens the weights, if they are not open, and runs all segments. */
qc_status qc_calibration_run(qc_calibration *c, qc_stats *stats);

/* ---- hidden states of a sequence ----------------------------------------------------------------------- */

/* Values of a block one after another, each at a multiple of 64 bytes. `at` is where the one before ends. */
static inline size_t qc_block_next(size_t at, size_t row_bytes, size_t tokens, size_t *offset)
{
    *offset = (at + 63) / 64 * 64;
    return *offset + row_bytes * tokens;
}

/* Room for `values` values of `row_bytes` bytes a token together. */
static inline size_t qc_block_bytes(size_t row_bytes, size_t values, size_t tokens)
{
    return (row_bytes * tokens + 64 * values + 63) / 64 * 64;
}

/* ---- records (calibrate_records.c) --------------------------------------------------------------------- */

/* What one plan observes of some sequences, its rows. */
typedef struct qc_observed_set {
    struct observed_records *records; /* one an observe */
    size_t count, rows;
    size_t numbers,
        sums;        /* that a row gives; those of them that are sums, which are added in the order of rows */
    float **waiting; /* [rows] sums of those that came before their turn */
    size_t *tokens;  /* of those */
    size_t turn;
} qc_observed_set;

/* Adds the records of the plan's observes to the statistics. */
qc_status qc_observed_set_init(qc_observed_set *set, qc_ctx *ctx, const qc_plan *plan,
    const qc_op *const *observes, size_t count, qc_stats *stats, size_t rows);
void qc_observed_set_fini(qc_observed_set *set);
/* Where each observe of a sequence writes in numbers[set->numbers]. */
void qc_observed_set_lay_out(const qc_observed_set *set, float *numbers, float **observed);
/* Takes malloc'ed numbers of a row. Any thread may call it. */
void qc_observed_set_hand_in(qc_observed_set *set, size_t row, size_t tokens, float *numbers);
/* Bytes that the records of an observe take in all, and while its rows come in. */
uint64_t qc_observed_bytes(qc_observed observed, size_t rows);

/* ---- running (calibrate_run.c) ------------------------------------------------------------------------- */

typedef struct qc_calibration_worker {
    qc_worker plan;
    char *buffer; /* of a block that is not in memory */
    size_t buffer_bytes;
    char *rows; /* of one expert */
    size_t rows_bytes;
    size_t failed; /* sequence of the error in plan.diag; SIZE_MAX: none */
} qc_calibration_worker;

/* All sequences once through something. */
typedef struct qc_calibration_pass {
    qc_calibration *c;
    qc_calibration_worker *workers;
    const qc_segment *segment;
    qc_hidden_store *store;               /* NULL: there is one segment */
    uint64_t tokens_before, tokens_total; /* for progress */
    atomic_uint_least64_t tokens;
    atomic_size_t failed; /* the first sequence that failed so far */
} qc_calibration_pass;

typedef qc_status (*qc_sequence_fn)(void *user, qc_calibration_worker *worker, size_t sequence);
/* Calls fn for every sequence, several at once. An error of several is that of the first sequence. `progress`: tokens are
 * reported as they are done. */
qc_status qc_calibration_visit(qc_calibration_pass *p, qc_sequence_fn fn, void *user, bool progress);
void qc_calibration_progress(const qc_calibration_pass *p, uint64_t tokens);
/* Plans may come to lie where others lay. */
void qc_calibration_forget_plans(qc_calibration_pass *p);
/* At least `bytes` at *buffer; false, with an error in the worker, when there is no memory. */
bool qc_calibration_room(qc_calibration_worker *worker, char **buffer, size_t *have, size_t bytes);
/* The first `bytes` of the block of a sequence, in memory or in the worker's buffer; NULL after an error. */
char *qc_calibration_block(
    const qc_calibration_pass *p, qc_calibration_worker *worker, size_t sequence, size_t bytes);

/* ---- experts (calibrate_experts.c) --------------------------------------------------------------------- */

qc_status qc_calibration_run_experts(qc_calibration_pass *p, qc_stats *stats);

/* What the experts of a layer take. */
typedef struct qc_experts_needs {
    uint64_t weights, loading; /* of one expert: resident, and the most while it is loaded */
    uint64_t worker;
    uint64_t records;
    size_t row_bytes, values; /* of the block of a sequence */
} qc_experts_needs;
qc_status qc_calibration_measure_experts(qc_calibration *c, size_t segment, qc_experts_needs *needs);

/* ---- folding ------------------------------------------------------------------------------------------- */

/* Replaces an `observe` of granularity expert. `source`: where weights lie, for those that get ranges of weights; NULL: the
 * module's. */
typedef struct qc_fold_job {
    qc_ctx *ctx;
    const qc_module *module;
    const qc_stats *stats;
    const char *source;
    qc_arena arena;
    qc_weights *weights; /* opened when they are needed */
    qc_map said;         /* layers whose experts a warning has named */
} qc_fold_job;
qc_status qc_fold_experts(qc_fold_job *job, qc_op *op);
/* A constant of that type in place of the op, which goes. */
qc_status qc_fold_replace(qc_fold_job *job, qc_op *op, const float *values, size_t count);
/* The range of each of `groups` groups (heads, or one of all), folded as the observer of `op` says. */
qc_status qc_fold_ranges(
    qc_fold_job *job, const qc_op *op, const qc_stats_record *r, size_t groups, float *min, float *max);
/* The record of a tap; NULL after an error. */
const qc_stats_record *qc_fold_find(qc_fold_job *job, const char *tap, qc_stats_kind kind);

#endif
