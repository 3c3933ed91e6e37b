/* SPDX-License-Identifier: MIT
 *
 * experts.h - what passes ask about linears, one by one (`linear`) or those of all experts of a layer at once
 * (`expert_linear`). The latter stands for as many Linear modules as there are experts: patterns are matched against
 * each, and an op is rewritten for all of them or for none.
 */
#ifndef QC_PASSES_EXPERTS_H
#define QC_PASSES_EXPERTS_H

#include "ir/support/arena.h"
#include "qc/pass.h"

/* linear or expert_linear */
bool qc_is_linear(const qc_op *op);
/* E of an expert_linear; 0 of any other op. */
int64_t qc_linear_experts(const qc_op *op);
/* An expert_linear whose experts are one tensor as yet: there are no Linear modules (see linearize-moe). */
bool qc_linear_is_fused(const qc_op *op);
/* The linear whose result decides, by `topk`, which experts a token gets: it stays in full precision. */
bool qc_linear_is_router(const qc_op *op);
/* Modules that the op stands for: the experts' of an expert_linear, none of a fused one; else that of the op, if any. */
size_t qc_linear_node_count(const qc_op *op);
/* NULL where the tree has no such module. */
qc_node *qc_linear_node(const qc_op *op, size_t index);
/* The path of its module, with {e} in place of the number of an expert; "" where there is none. In `arena`. */
const char *qc_linear_path(qc_arena *arena, const qc_op *op);
/* Does the pattern name one of the modules? */
bool qc_linear_matches(const qc_op *op, const char *pattern);

typedef enum qc_selected {
    QC_SELECTED_NONE,
    QC_SELECTED_SOME, /* of the experts; never of a single module */
    QC_SELECTED_ALL,
} qc_selected;

/* As qc_pass_option_matches, of all modules of the op; `if_empty` is for lists without an item. */
qc_selected qc_linear_selected(const qc_pass_ctx *pc, const char *option, const qc_op *op, bool if_empty);
/* Is the op named by `targets` and not by `ignore`? An error, and *wrong, when that holds for some experts alone. */
bool qc_linear_is_target(qc_pass_ctx *pc, const qc_op *op, bool *wrong);

typedef enum qc_step {
    QC_STEP_STOP,
    QC_STEP_ON, /* to what the op gives */
    QC_STEP_FOUND,
} qc_step;

/* Is one of the value's readers found, or one of the readers of what those give that `step` goes on to? */
bool qc_value_leads_to(const qc_value *value, qc_step (*step)(const qc_op *reader, size_t slot));

/* Gives every token to every expert (`all`), or takes that back: the attribute of an expert_rows, and the types of what
 * is computed by its rows. False after a diagnostic. *op is the new op. */
bool qc_experts_set_all(qc_op **rows, bool all);

/* Has the model experts? */
bool qc_experts_any(const qc_module *module);

/* What an expert_linear reads, without codes: x before quantize and dequantize. */
qc_value *qc_plain_value(qc_value *value);

#endif
