/* SPDX-License-Identifier: MIT
 *
 * eval.h - the reference semantics of primitive ops: one hook qc_eval_NAME an op, found by the op table;
 * elementwise ops share one. Slow and plain, so that it can be read against docs/ops.md.
 *
 * Rules of all of them. Elements pass through the codecs of ir/dtype as f32. Elementwise ops compute in f32
 * and round once. Sums of products and reductions are summed in f64, rounded to f32, then to the element type
 * of the result, so the order of summation does not show. Movements of data keep the bits. Results come with
 * shape and memory made; operands that are absent are NULL. A hook checks what shapes at run time can break
 * (sizes of symbolic dimensions that the verifier could not compare) and what indexes memory.
 */
#ifndef QC_IR_EVAL_H
#define QC_IR_EVAL_H

#include "ir/tensor.h"

struct qc_eval {
    qc_diag *diag;
    qc_arena *scratch;       /* the caller empties it between ops */
    const qc_module *module; /* holds the symbols that `scheme` attributes name */
    int64_t past_length;     /* tokens that earlier calls left in the cache: P */
    const char *path;        /* for diagnostics of ops without a node: of a decomposition; may be NULL */
    void *user;              /* of the functions below */
    /* Gives a stored tensor, borrowed until the next call: *stored is filled with its type, shape and
     * elements. */
    qc_status (*weight)(void *user, qc_diag *diag, const char *name, qc_tensor *stored);
    /* Appends x [B, G, S, d] to the cache of `slot` ("k", "v") of a module and fills all [B, G, P + S, d]. */
    qc_status (*cache_append)(void *user, qc_diag *diag, const char *module_path, const char *slot,
        const qc_tensor *x, qc_tensor *all);
};

/* Scalar functions of elementwise ops by op (enum qc_op_kind); the members of other ops are NULL. Generated.
 */
typedef struct qc_scalar_row {
    float (*unary)(float x);
    float (*binary)(float x, float z);
} qc_scalar_row;
extern const qc_scalar_row qc_scalar_rows[];

/* Where an op stands, for diagnostics: "model.layers.0.self_attn: attention". In the scratch arena. */
const char *qc_eval_where(const qc_eval *eval, const qc_op *op);
/* An operand row as f32 in the scratch arena, `count` elements from `offset`; for rows only, not whole
 * tensors. */
float *qc_eval_row(const qc_eval *eval, int64_t count);

#endif
