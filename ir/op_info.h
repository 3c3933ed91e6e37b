/* SPDX-License-Identifier: MIT
 *
 * op_info.h - one row of the op table as C sees it; the rows are generated from ops.py.
 */
#ifndef QC_OP_INFO_H
#define QC_OP_INFO_H

#include "qc/ir.h"
#include "ir/support/arena.h"

/* gen_ops.py refuses rows that have more. */
#define QC_MAX_ATTRS 16
#define QC_MAX_OPERANDS 12
#define QC_MAX_RESULTS 4

typedef enum qc_trait {
    QC_TRAIT_EFFECT = 1,
    QC_TRAIT_IDENTITY = 2,
    QC_TRAIT_ELEMENTWISE = 4,
    QC_TRAIT_SAME_TYPE = 8,
    QC_TRAIT_TYPED = 16,
    QC_TRAIT_INDEPENDENT = 32,
} qc_trait;

typedef struct qc_operand_info {
    const char *name;
    bool optional, variadic;
    char element_class; /* 'f' float, 'i' integer, 0 any */
} qc_operand_info;

typedef struct qc_attr_info {
    const char *name;
    const char *values; /* "a|b" for words, NULL: any */
    const char *default_text;
    bool required, is_dtype;
    qc_attr_kind kind;
} qc_attr_info;

/* A dense tensor of the reference interpreter: elements in storage form, row-major. Sub-byte types pack two
 * to a byte, low nibble first. */
typedef struct qc_tensor {
    qc_dtype dtype;
    int rank;
    int64_t dims[QC_MAX_RANK];
    int64_t count;
    void *data;
} qc_tensor;

/* What the evaluation of one op sees besides its operands. */
typedef struct qc_eval qc_eval;

/* Fills types[result_count]; reports and returns QC_ERROR when operands or attributes contradict each other.
 */
typedef qc_status (*qc_infer_fn)(qc_op *op, const char *where, const qc_type **types);
typedef qc_status (*qc_verify_fn)(const qc_op *op, const char *where);
/* Computes the results (dtype, shape and data buffer already set up) from the operands (NULL where absent).
 */
typedef qc_status (*qc_eval_fn)(
    qc_eval *eval, const qc_op *op, const qc_tensor *const *operands, qc_tensor *results);

typedef struct qc_op_info {
    const char *name, *doc;
    int op; /* enum qc_op_kind of op_table.h */
    int operand_count, result_count, attr_count;
    int positional; /* attribute slot, or -1 */
    uint32_t traits;
    const qc_operand_info *operands;
    const char *const *results;
    const qc_attr_info *attrs;
    qc_infer_fn infer;         /* NULL: by trait */
    qc_verify_fn verify;       /* NULL: nothing beyond the table */
    qc_eval_fn eval;           /* NULL for composites */
    const char *decomposition; /* NULL for primitives */
} qc_op_info;

extern const qc_op_info qc_op_infos[];
extern const size_t qc_op_info_count;

#endif
