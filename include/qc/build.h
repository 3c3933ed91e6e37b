/* SPDX-License-Identifier: MIT
 *
 * build.h - making operations. Ops, operands and attributes go by the names of docs/ops.md; typed builders
 * for each op, derived from the op table, are in qc/ops.h.
 *
 *   qc_builder *b = qc_builder_before(op);
 *   qc_make(b, "quantize");
 *   qc_make_operand(b, "x", x);
 *   qc_make_operand(b, "scale", scale);
 *   qc_make_attr(b, "scheme", qc_attr_symbol(ctx, "attention"));
 *   qc_value *codes = qc_make_end(b, "q_codes");
 *   ...
 *   if (!qc_builder_ok(b)) return QC_PASS_FAILED;
 *
 * Errors stick: after the first one (already reported) every qc_make_end gives a poison value of no type,
 * which is fine to pass on; ask qc_builder_ok once at the end.
 */
#ifndef QC_BUILD_H
#define QC_BUILD_H

#include "qc/ir.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Cursors. The builder lives as long as the module. New ops take `node` = the node of the neighbour op. */
QC_API qc_builder *qc_builder_at_end(qc_func *func);
QC_API qc_builder *qc_builder_before(qc_op *op);
QC_API qc_builder *qc_builder_after(qc_op *op);
QC_API void qc_builder_set_node(qc_builder *b, qc_node *node);
QC_API bool qc_builder_ok(const qc_builder *b);
/* For an error that was reported already, by whoever was to make an operand: all that is made from here on is poison, in
 * silence. */
QC_API void qc_builder_fail(qc_builder *b);

QC_API void qc_make(qc_builder *b, const char *op_name);
/* NULL is skipped, so that optional operands need no branch. */
QC_API void qc_make_operand(qc_builder *b, const char *name, qc_value *value);
/* One more value of the variadic operand. */
QC_API void qc_make_variadic(qc_builder *b, qc_value *value);
QC_API void qc_make_attr(qc_builder *b, const char *name, const qc_attr *value);
QC_API void qc_make_attr_int(qc_builder *b, const char *name, int64_t value);
QC_API void qc_make_attr_float(qc_builder *b, const char *name, double value);
QC_API void qc_make_attr_bool(qc_builder *b, const char *name, bool value);
QC_API void qc_make_attr_word(qc_builder *b, const char *name, const char *value);
QC_API void qc_make_attr_string(qc_builder *b, const char *name, const char *value);
QC_API void qc_make_attr_symbol(qc_builder *b, const char *name, const char *symbol); /* without @ */
/* Only for ops whose result type cannot be inferred (docs/ops.md says which). */
QC_API void qc_make_type(qc_builder *b, const qc_type *type);
/* Infers the result types, inserts the op, gives its first result (NULL for an op without results). `hint`
 * names the result in the text, may be NULL. */
QC_API qc_value *qc_make_end(qc_builder *b, const char *hint);
/* The op that the last qc_make_end inserted. */
QC_API qc_op *qc_builder_last(const qc_builder *b);

#ifdef __cplusplus
}
#endif
#endif
