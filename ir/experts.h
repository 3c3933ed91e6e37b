/* SPDX-License-Identifier: MIT
 *
 * experts.h - banks and the experts in them. A bank is a weight expression with a leading dimension of experts:
 * weights [E, out, in], biases [E, out], scales [E, 1, 1], [E, rows, 1], [E, rows, groups]. Whoever works on one expert
 * at a time (the exporter, calibration, kernels) copies the expression of that expert into a function of a scratch
 * module, where it is an ordinary one: weights [out, in], scales [1], [rows, 1], [rows, groups].
 */
#ifndef QC_IR_EXPERTS_H
#define QC_IR_EXPERTS_H

#include "ir/support/map.h"
#include "qc/build.h"

/* Does the name of tensors or modules have {e} exactly once? */
bool qc_expert_name_is_valid(const char *name);
/* The name with the number of the expert, in `arena`. */
const char *qc_expert_name(qc_arena *arena, const char *pattern, int64_t expert);
/* The path of the Linear that an expert_linear stands for, in `arena`; NULL while experts are one tensor. */
const char *qc_expert_path(qc_arena *arena, const qc_op *expert_linear, int64_t expert);
/* E of a bank [E, ...]; 0 for any other value. */
int64_t qc_bank_experts(const qc_value *bank);

/* A module in the same context with the source, shards, dimensions and symbols of `module`, and nothing else. Ops that are
 * copied there keep nodes of `module`, which must outlive it. To be destroyed by the caller; nothing may remember
 * its values then. */
qc_module *qc_experts_scratch(const qc_module *module);

/* Copying into the function of a builder what one expert needs of values of another function. */
typedef struct qc_expert_copy {
    qc_builder *b;
    qc_arena *arena;
    int64_t experts, expert;
    qc_map values; /* address of a value -> its copy; the caller may put copies in (arguments for inputs) */
} qc_expert_copy;

/* `experts`: E of the banks; values whose first dimension is E, of rank 2 or more, are taken for banks. The maps live in
 * `arena`. */
void qc_expert_copy_init(
    qc_expert_copy *copy, qc_arena *arena, qc_builder *b, int64_t experts, int64_t expert);
void qc_expert_copy_set(qc_expert_copy *copy, const qc_value *value, qc_value *stands_for_it);
/* The value for this expert, with all that it is computed from: of a bank the part of the expert; statistics [2, E] of
 * `from = stat` their column; of anything else a plain copy. In rows by expert: expert_linear becomes linear,
 * expert_param the parameter, and observe with granularity expert one with granularity tensor and the tap of the
 * expert. expert_gather, expert_score and expert_combine must have been put in. NULL after a diagnostic. */
qc_value *qc_expert_copy_value(qc_expert_copy *copy, const qc_value *value);

#endif
