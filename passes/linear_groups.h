/* SPDX-License-Identifier: MIT
 *
 * linear_groups.h - what quant-linear was asked for: one or several groups, each with targets and parts, and which
 * of them a module belongs to.
 */
#ifndef QC_PASSES_LINEAR_GROUPS_H
#define QC_PASSES_LINEAR_GROUPS_H

#include "passes/quant.h"

/* The ops whose weights quant-linear takes. */
#define QC_LINEAR_OPS QC_WEIGHT_OPS
/* Storage formats that a group can ask for. */
#define QC_LINEAR_FORMATS                                                                                    \
    "naive-quantized|float-quantized|int-quantized|pack-quantized|nvfp4-pack-quantized|"                     \
    "mxfp4-pack-quantized|mxfp8-quantized"

typedef struct qc_linear_group {
    const char *key;                /* in `groups`; "" when there is one group alone */
    const qc_attr *targets;         /* list of strings */
    const qc_attr *weights, *input; /* completed parts; NULL: left as they are */
    const qc_attr *format, *name;   /* strings or NULL */
    const char *symbol;             /* the scheme, once there is one */
} qc_linear_group;

typedef struct qc_linear_target {
    const char *text;
    size_t group;
    bool used; /* names some module that was asked about */
} qc_linear_target;

typedef struct qc_linear_groups {
    qc_linear_group *groups;
    size_t count;
    qc_linear_target *targets; /* the first that matches decides */
    size_t target_count;
    /* The dialect of model_free_ptq, for weights without a graph: groups have names, an observer that nobody named is
     * `unset`, and the arithmetic is the row ending in _bare. */
    bool bare;
} qc_linear_groups;

/* Reads the options scheme, weights, input, targets or groups; errors are reported. `module` tells whether names of
 * groups matter. */
qc_status qc_linear_groups_read(qc_pass_ctx *pc, const qc_module *module, qc_linear_groups *groups);
/* The group of a module; NULL when no target names it. */
qc_linear_group *qc_linear_groups_find(qc_linear_groups *groups, const qc_node *node);

#endif
