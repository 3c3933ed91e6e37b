/* SPDX-License-Identifier: MIT
 *
 * plan.h - a function, or a part of one, as a flat list of kernel calls for the CPU, and running it for one
 * sequence (B = 1).
 *
 * Values live in slots. A value [1, S, n] is stored as it is; [1, heads, S, d] is stored by tokens
 * [S, heads, d], as the products before and after give and take it, so split_heads and merge_heads are views.
 * An operation without a kernel works on dense copies through its reference semantics, a composite one
 * through its decomposition. Memory of all slots is laid out before a run from first and last uses.
 *
 * A plan is immutable once made; any number of workers may run it at once, each with its own qc_run.
 */
#ifndef QC_RUNTIME_PLAN_H
#define QC_RUNTIME_PLAN_H

#include "ir/decompose.h"
#include "runtime/bank.h"
#include "runtime/pages.h"
#include "runtime/rope_tables.h"
#include "runtime/value_kinds.h"

typedef struct qc_plan qc_plan;

/* The parts that plans share. All must outlive them. */
typedef struct qc_plan_env {
    qc_ctx *ctx;
    const qc_module *module;
    qc_host_engine *engine;
    qc_bank *bank;
    qc_rope_tables *rope;
    qc_decomposer *decomposer;
    const qc_value_kinds *kinds; /* of the function */
} qc_plan_env;

typedef struct qc_plan_request {
    const qc_func *func;
    /* Values that are given from outside, beside the function's arguments: data of each token. */
    const qc_value *const *inputs;
    size_t input_count;
    const qc_value *const *outputs;
    size_t output_count;
    /* Calibration: `observe` ops to run, in order. Quantized values then keep their bits: quantize and
     * dequantize do nothing. */
    const qc_op *const *observes;
    size_t observe_count;
    bool calibrating;
    bool rotate_observed; /* ranges of q and k of attention are taken under R3 too */
    /* The rows that the bank's tables hold, if not all (qc_bank_rows): ids are looked up among them. */
    const qc_bank_rows *table_rows;
} qc_plan_request;

/* NULL after a diagnostic. */
qc_plan *qc_plan_create(const qc_plan_env *env, const qc_plan_request *request);
void qc_plan_destroy(qc_plan *plan);

/* A value from or to outside: rows of one token each. */
size_t qc_plan_input_row_bytes(const qc_plan *plan, size_t index);
size_t qc_plan_output_row_bytes(const qc_plan *plan, size_t index);
qc_dtype qc_plan_output_dtype(const qc_plan *plan, size_t index);
/* Elements of one row. */
size_t qc_plan_output_row_elems(const qc_plan *plan, size_t index);
/* What an `observe` of the request gives for a sequence. */
typedef enum qc_observed_kind {
    QC_OBSERVED_RANGES,  /* minima of `heads`, their maxima; then, if any, minima of `columns`, their maxima */
    QC_OBSERVED_SQUARES, /* the sum of the squares of each of `columns`, rounded to f32 */
    QC_OBSERVED_SUMS,    /* the sum of each of `columns`, rounded as qc_columns_kept_sum does */
} qc_observed_kind;
typedef struct qc_observed {
    qc_observed_kind kind;
    size_t heads, columns; /* columns: of all heads together */
    bool rotated;          /* ranges: all of them once more, of the value under R3 */
    size_t numbers;        /* in all */
} qc_observed;
qc_observed qc_plan_observed(const qc_plan *plan, size_t index);

/* The caches that one sequence needs, in order. */
size_t qc_plan_cache_count(const qc_plan *plan);
const qc_cache_layout *qc_plan_caches(const qc_plan *plan);

/* What one sequence takes: its slots, and the working memory of the largest kernel. False when a size
 * overflows. */
bool qc_plan_arena_bytes(const qc_plan *plan, size_t tokens, size_t past, bool last_only, size_t *bytes);
size_t qc_plan_kernel_bytes(const qc_plan *plan, size_t tokens, size_t past);

/* Memory of one worker, kept from run to run. */
typedef struct qc_worker {
    char *arena;
    size_t arena_bytes;
    size_t *offsets; /* of the plan's slots */
    const qc_plan *laid_out_plan;
    size_t laid_out_tokens, laid_out_past;
    bool laid_out_last_only;
    int64_t *ids;
    size_t ids_capacity;
    qc_arena scratch; /* emptied after each use */
    qc_arena texts;   /* of diagnostics */
    qc_diag diag;     /* keeps the first error below, so that threads need not share a context */
    char *error_where, *error_what;
} qc_worker;

void qc_worker_init(qc_worker *worker, qc_ctx *ctx);
void qc_worker_fini(qc_worker *worker);
/* Reports the error that a run left, and forgets it; always QC_ERROR. */
qc_status qc_worker_report(qc_worker *worker, qc_ctx *ctx);

typedef struct qc_run {
    const qc_plan *plan;
    qc_worker *worker;
    const int32_t *ids;
    size_t tokens, past;
    bool last_only; /* row-wise work behind the last mixing of tokens is done for the last one alone */
    const void *const *inputs; /* [tokens, row] each */
    /* The pages of each cache, with room for past + tokens rows (qc_pages_table); NULL: past is 0, nothing is kept. */
    void *const *const *caches;
    /* Filled: where each output lies until the worker's next run, [tokens or 1, row]. */
    const void **outputs;
    /* Filled, observe by observe: the numbers of its qc_observed. */
    float **observed;
} qc_run;

/* Errors (ids, values that are not finite, memory) stay in the worker. Before: qc_rope_tables_ensure for past +
 * tokens. */
qc_status qc_plan_run(qc_run *run);

#endif
