/* SPDX-License-Identifier: MIT
 *
 * plan_internal.h - slots and steps of a plan, and what its files share: plan.c chooses the ops and makes
 * slots, plan_*.c turn ops into steps (one row an op in plan_ops.c) and run them, plan_run.c lays out memory.
 *
 * Invariants. A step writes its `out` slot only and reads slots that earlier steps, the caller or the bank
 * filled. Steps marked row_wise compute row t of the output from row t of token_rows operands alone; of by_expert
 * ones, all of a token's rows of the output from all of its rows of the operands, which have a place only where they are
 * all that there is: steps of the last token alone read none that others have written.
 */
#ifndef QC_RUNTIME_PLAN_INTERNAL_H
#define QC_RUNTIME_PLAN_INTERNAL_H

#include "ir/op_info.h"
#include "runtime/plan.h"

typedef enum qc_place {
    QC_PLACE_ARENA,
    QC_PLACE_FIXED, /* weights, constants */
    QC_PLACE_IDS,
    QC_PLACE_INPUT,
    QC_PLACE_ALIAS, /* the slot `alias`: a cache_append, which keeps nothing */
    QC_PLACE_PAGES, /* all rows so far, in the pages of cache `index`; where nothing is kept, the slot `alias` */
} qc_place;

typedef struct qc_slot {
    qc_place place;
    qc_dtype dtype;
    int rank;
    const qc_dim *dims[QC_MAX_RANK]; /* of the IR's value */
    bool token_rows;                 /* stored as rows, one a token of this run */
    bool by_expert;                  /* token_rows by their number alone: their order is that of experts */
    size_t row_elems;                /* of such a row */
    const void *data;                /* FIXED */
    size_t index;                    /* INPUT, PAGES */
    int alias;                       /* ALIAS, PAGES; else -1 */
    int first, last;                 /* steps; last is INT_MAX for outputs */
    bool tail, read_by_others;
} qc_slot;

/* How a value can be had. by_token: rank 4, [1, heads, S, d] stored as [S, heads, d]. */
typedef struct qc_ref {
    int slot;
    bool by_token;
    int rank;
    const qc_dim *dims[QC_MAX_RANK];
} qc_ref;

typedef struct qc_step qc_step;
typedef qc_status (*qc_step_fn)(qc_run *run, const qc_step *step);

struct qc_step {
    qc_step_fn fn;
    const qc_op *op;
    const char *where;
    int out; /* -1: none */
    int in_count;
    const int *in; /* -1: absent */
    bool row_wise, tail;
    const void *data; /* the handler's, in the plan's arena */
    /* Working memory of the kernel, NULL: next to none. */
    size_t (*bytes)(const qc_plan *plan, const qc_step *step, size_t tokens, size_t past);
};

struct qc_plan {
    qc_plan_env env;
    qc_plan_request request;
    qc_arena arena;
    QC_VEC(qc_slot) slots;
    QC_VEC(qc_step) steps;
    QC_VEC(qc_cache_layout) caches;
    qc_map refs;   /* address of a value -> qc_ref * */
    qc_map stored; /* the same of caches in pages, which `refs` may know by a copy of their rows */
    const qc_dim *batch, *sequence, *past, *total;
    const char *where; /* of the composite op whose decomposition is being planned, or NULL */
    QC_VEC(int) output_slots;
    QC_VEC(int) input_slots;
    QC_VEC(qc_observed) observed;
    int ids_slot;
    qc_map row_tables; /* address of a qc_rope_table by length -> its slot + 1 */
    qc_map waiting;    /* address of a silu's value that waits for its product -> qc_op * */
};

/* ---- making (plan.c) ----------------------------------------------------------------------------------- */

const char *qc_plan_where(qc_plan *plan, const qc_op *op);
/* The ref of a value that exists by now, or of a weight expression; NULL after a diagnostic. */
const qc_ref *qc_plan_ref(qc_plan *plan, const qc_value *value);
void qc_plan_set_ref(qc_plan *plan, const qc_value *value, qc_ref ref);
bool qc_plan_is_weight(qc_plan *plan, const qc_value *value);
/* A new slot in the arena for a value of that shape. by_token as in qc_ref. */
int qc_plan_slot(qc_plan *plan, qc_dtype dtype, int rank, const qc_dim *const *dims, bool by_token);
/* A slot for the op's result, of its IR type or (dtype not NONE) another, and its ref. */
int qc_plan_result(qc_plan *plan, const qc_op *op, qc_dtype dtype, bool by_token);
/* Adds a step; `in` is copied; row_wise when all that it moves is token_rows or fixed and `row_wise` says so. The step may be changed until the next one is added. */
qc_step *qc_plan_step(qc_plan *plan, qc_step_fn fn, const qc_op *op, int out, const int *in, int in_count,
    bool row_wise, const void *data);
/* The value in row-major order of its IR shape, or by tokens: through a copy where it is not. */
int qc_plan_dense(qc_plan *plan, const qc_op *op, const qc_ref *ref);
int qc_plan_by_token(qc_plan *plan, const qc_op *op, const qc_ref *ref);
/* The ref of a cache as it lies in its pages; of any other value what qc_plan_ref gives. */
const qc_ref *qc_plan_stored(qc_plan *plan, const qc_value *value);
/* Makes the refs of operands that lie in pages refer to copies of all their rows, codes one byte each. */
qc_status qc_plan_gather_operands(qc_plan *plan, const qc_op *op);
/* Plans all ops of a list between, in order; used for decompositions too. */
qc_status qc_plan_op(qc_plan *plan, const qc_op *op);

static inline qc_slot *qc_plan_slot_at(qc_plan *plan, int slot)
{
    return &plan->slots.items[slot];
}

/* One row of the table of handlers. `*done` false: this shape or type has no kernel. */
typedef struct qc_plan_handler {
    const char *op;
    qc_status (*plan)(qc_plan *plan, const qc_op *op, bool *done);
} qc_plan_handler;
extern const qc_plan_handler qc_plan_handlers[]; /* ends with op NULL */

qc_status qc_plan_elementwise(qc_plan *plan, const qc_op *op, bool *done);
/* A silu that waited for a product that did not come. */
qc_status qc_plan_late_silu(qc_plan *plan, const qc_op *op);
qc_status qc_plan_embedding(qc_plan *plan, const qc_op *op, bool *done);
qc_status qc_plan_linear(qc_plan *plan, const qc_op *op, bool *done);
qc_status qc_plan_rmsnorm(qc_plan *plan, const qc_op *op, bool *done);
qc_status qc_plan_rope(qc_plan *plan, const qc_op *op, bool *done);
qc_status qc_plan_attention(qc_plan *plan, const qc_op *op, bool *done);
qc_status qc_plan_cache_append(qc_plan *plan, const qc_op *op, bool *done);
qc_status qc_plan_cache_write(qc_plan *plan, const qc_op *op, bool *done);
/* The codes of operand x of a quantize, or of a cache_write with a scheme, in a slot of their own, a byte each.
 * `*done` false: no kernel makes them. */
qc_status qc_plan_codes(qc_plan *plan, const qc_op *op, int *slot, bool *done);
qc_status qc_plan_scales(qc_plan *plan, const qc_op *op, bool *done);
qc_status qc_plan_quantize(qc_plan *plan, const qc_op *op, bool *done);
qc_status qc_plan_dequantize(qc_plan *plan, const qc_op *op, bool *done);
qc_status qc_plan_observe(qc_plan *plan, const qc_op *op, bool *done);
qc_status qc_plan_split_heads(qc_plan *plan, const qc_op *op, bool *done);
qc_status qc_plan_merge_heads(qc_plan *plan, const qc_op *op, bool *done);
qc_status qc_plan_reshape(qc_plan *plan, const qc_op *op, bool *done);
qc_status qc_plan_slice(qc_plan *plan, const qc_op *op, bool *done);
qc_status qc_plan_concat(qc_plan *plan, const qc_op *op, bool *done);
qc_status qc_plan_repeat_heads(qc_plan *plan, const qc_op *op, bool *done);
qc_status qc_plan_topk(qc_plan *plan, const qc_op *op, bool *done);
qc_status qc_plan_take(qc_plan *plan, const qc_op *op, bool *done);
qc_status qc_plan_mask_groups(qc_plan *plan, const qc_op *op, bool *done);
qc_status qc_plan_expert_rows(qc_plan *plan, const qc_op *op, bool *done);
qc_status qc_plan_expert_gather(qc_plan *plan, const qc_op *op, bool *done);
qc_status qc_plan_expert_score(qc_plan *plan, const qc_op *op, bool *done);
qc_status qc_plan_expert_linear(qc_plan *plan, const qc_op *op, bool *done);
qc_status qc_plan_expert_combine(qc_plan *plan, const qc_op *op, bool *done);
/* The reference semantics, on dense copies. */
qc_status qc_plan_eval(qc_plan *plan, const qc_op *op, const qc_op_info *info);
/* The same of another op's hook on this op's operands and attributes, into `result`, row-major. */
qc_status qc_plan_eval_into(qc_plan *plan, const qc_op *op, const qc_op_info *info, const qc_ref *result);
const qc_op_info *qc_plan_op_info(const char *name);

/* ---- running (plan_run.c) ------------------------------------------------------------------------------ */

/* Where a slot's elements begin for this step: for a step of the last token alone, at that token. */
void *qc_run_at(const qc_run *run, const qc_step *step, int slot);
/* The pages of a slot; NULL where it lies in one piece. */
const void *const *qc_run_pages(const qc_run *run, int slot);
/* Elements of a slot that the step sees: of all tokens, or of the last. */
bool qc_run_count(const qc_run *run, const qc_step *step, int slot, size_t *count);
bool qc_run_dim(const qc_run *run, const qc_dim *dim, int64_t *value);

/* How codes lie in a slot: one byte each. */
static inline qc_dtype qc_code_slot(qc_dtype codes)
{
    if (qc_dtype_bits(codes) >= 8)
        return codes;
    return qc_dtype_is_int(codes) ? QC_I8 : QC_U8;
}

static inline bool qc_is_value_dtype(qc_dtype dtype)
{
    return dtype == QC_BF16 || dtype == QC_F16 || dtype == QC_F32;
}

#endif
