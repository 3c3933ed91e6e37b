/* SPDX-License-Identifier: MIT
 *
 * rotate.h - what the rotating passes share: sizes and matrices, rotated operands, the residual stream, the symbol that
 * says what was rotated.
 *
 * For a linear y = x W^T + b and an orthonormal M: x M gets along with W M (rows of W times M), and y M comes of M^T W
 * (columns of W times M) and b M. So every fold is `hadamard` of a weight, not inverse: axis -1 where x is rotated,
 * axis 0 where y is. Folds are computed in f64 and rounded to the weight's type, one after another.
 */
#ifndef QC_PASSES_ROTATE_H
#define QC_PASSES_ROTATE_H

#include "ir/ctx.h"
#include "ir/support/map.h"
#include "passes/quant.h"

#define QC_ROTATE_MATRICES "hadamard|random_hadamard"

typedef struct qc_rotation {
    const char *name;   /* of the symbol: R1 .. R4, v, u */
    const char *matrix; /* a word of QC_ROTATE_MATRICES */
    int64_t size;
    int64_t drawn; /* signs before those of the matrix, see the op */
    bool f64;      /* how it is computed at run time; folds always are */
} qc_rotation;

/* Declares matrix and size; `whole` says what size 0 means. */
void qc_rotate_add_options(qc_pass *pass, const char *whole);
/* Declares compute. */
void qc_rotate_add_compute(qc_pass *pass);
/* Reads matrix, size and compute; `dim` is what size 0 means and what other sizes must divide. Errors are of `op`. */
qc_status qc_rotate_read(
    qc_pass_ctx *pc, const qc_op *op, const char *name, int64_t dim, const char *of, qc_rotation *r);

/* x rotated along `axis`, built at b; x's own operand where x is rotated the other way round. */
qc_value *qc_rotate_value(
    qc_builder *b, const qc_rotation *r, qc_value *x, bool inverse, int axis, bool fold, const char *hint);
/* Is the value already rotated as qc_rotate_value would, or at least by something that does not cancel? */
bool qc_rotate_is_rotated(const qc_rotation *r, const qc_value *x, bool inverse);
/* Rotates the weight of a linear or embedding along its rows' elements (its input; for an embedding its output), or a
 * linear's along its rows, with the bias (its output). */
qc_status qc_rotate_columns(qc_pass_ctx *pc, qc_op *op, const qc_rotation *r);
qc_status qc_rotate_rows(qc_pass_ctx *pc, qc_op *linear, const qc_rotation *r);
/* An error when the weight holds codes that a pass has made. */
qc_status qc_rotate_check_weight(qc_pass_ctx *pc, const qc_op *op);

/* Does the op make codes, or ask for their scale? */
bool qc_rotate_quantizes(const qc_op *op);
#define QC_ROTATE_TOO_LATE "rotations must come before the quantizing passes"

/* The op that reads a value, all of whose uses are operand 0 of ops of this name; `sole`: of one. NULL else. */
qc_op *qc_rotate_reader(const qc_value *value, const char *op_name, bool sole);

typedef QC_VEC(qc_op *) qc_op_list;

/* The linears that read the value, as it is, cast, gathered for experts, or scaled row by row, which a rotation or a factor of
 * its columns commutes with. The first op that reads it otherwise, NULL where none does. */
const qc_op *qc_rotate_linears(qc_arena *arena, const qc_value *value, qc_op_list *linears);
/* The same of one use of the value, operand `slot` of `op`. */
const qc_op *qc_rotate_use_linears(
    qc_arena *arena, qc_op *op, size_t slot, const qc_value *value, qc_op_list *linears);
/* The op and the operand that read the operand `name` of `op` in the type that it is stored in: its cast, where it has one of
 * its own. NULL when there is no such operand. */
qc_op *qc_rotate_stored(qc_op *op, const char *name, size_t *slot);

/* ---- the residual stream ------------------------------------------------------------------------------- */

/* Values between embeddings and the head that sums keep in one space: what an embedding gives, sums of them, what linears
 * and experts add to them, times numbers a row. */
typedef struct qc_residual {
    qc_arena arena;
    qc_op_list embeddings;
    qc_op_list writers; /* linears whose result is in the stream, also behind a norm, which is a misfit */
    qc_op_list norms;   /* that read it */
    qc_op_list readers; /* linears that read it, or one of the norms; routers and experts too */
    int64_t width;
    /* The first op that does not fit, with the reason; NULL: none. */
    const qc_op *misfit;
    const char *why;
} qc_residual;

void qc_residual_find(qc_residual *residual, const qc_module *module);
void qc_residual_fini(qc_residual *residual);

/* Folds the weight of an rmsnorm whose result linears alone read into those linears, and makes it 1. *folded: it did
 * (false, with a remark: others read it too, or it is 1). */
qc_status qc_fold_norm(qc_pass_ctx *pc, qc_op *norm, bool *folded);
bool qc_norm_is_folded(const qc_op *norm);

/* ---- symbols ------------------------------------------------------------------------------------------- */

typedef struct qc_rotate_use {
    const char *location; /* input|output|q_attn|k_cache|weight_input|weight_output */
    bool inverse;         /* as transform_config has it */
    const qc_op_list *ops[2];
    /* Written as they are, where ops are none. */
    const qc_attr *targets, *ignore;
} qc_rotate_use;

/* Adds `transform @NAME`. head_dim: the size is that of a head; else `block` says whether it is less than the
 * whole, and one that was asked for by its size is a block too, as transform_config shows it. */
void qc_rotate_symbol(qc_pass_ctx *pc, qc_module *module, const qc_rotation *r, bool block, bool head_dim,
    const qc_rotate_use *uses, size_t count);
/* Is there such a symbol already? Then it is an error. */
qc_status qc_rotate_need_new(qc_pass_ctx *pc, const qc_module *module, const char *name);

#endif
