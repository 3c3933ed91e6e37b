/* SPDX-License-Identifier: MIT
 *
 * decompose.h - the decomposition of a composite op as a function: its reference semantics, and what the
 * passes that raise ops match against.
 *
 * The text of the op table is filled in for one op: ${attr} is the text of an attribute (an item `key =
 * ${attr}` goes when the attribute is absent), ${dtype:x} the element type of an operand, ${dim:x:i} one of
 * its dimensions,
 * ${group:q:k} heads of q a head of k. A line that starts with ?name stays when the operand or attribute is
 * there and not false, one with !name when it is not. A line may give a value the name of an earlier one,
 * which it hides.
 */
#ifndef QC_IR_DECOMPOSE_H
#define QC_IR_DECOMPOSE_H

#include "ir/op_info.h"

typedef struct qc_decomposer qc_decomposer;

/* A cache of decompositions. It and what it gives live until it is destroyed, and not longer than the
 * context. */
qc_decomposer *qc_decomposer_create(qc_ctx *ctx);
void qc_decomposer_destroy(qc_decomposer *decomposer);
/* The function of a composite op in a module of its own: arguments are the op's present operands in table
 * order, results its results. Ops that agree in operand types and attributes share it. NULL after a
 * diagnostic. */
const qc_func *qc_decompose(qc_decomposer *decomposer, const qc_op *op);
/* The IR text of that function, a whole module; in `arena`. NULL after a diagnostic. */
const char *qc_decomposition_text(qc_arena *arena, const qc_op *op);

#endif
