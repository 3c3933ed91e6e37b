/* SPDX-License-Identifier: MIT
 *
 * allow.h - rules of targets by name: what a loader does not execute is not written for it, unless a user allows it
 * (--allow=RULE). The rules are in docs/qc-opt.md too.
 */
#ifndef QC_RUNTIME_CHECK_ALLOW_H
#define QC_RUNTIME_CHECK_ALLOW_H

#include <stdbool.h>
#include <stddef.h>

/* Rules of vLLM. */
#define QC_RULE_R3 "r3"
#define QC_RULE_TRANSFORM_BIAS "transform-bias"
#define QC_RULE_NVFP4_ATTENTION "nvfp4-attention"
#define QC_RULE_ATTENTION_SCALES "attention-scales"
#define QC_RULE_CENTER_K "center-k"
#define QC_RULE_EXPERTS "experts"
#define QC_RULE_ROUTER "router"
#define QC_RULE_LATENT "latent"

typedef struct qc_target_rule {
    const char *name, *what;
} qc_target_rule;

/* Row `index` of the table; NULL behind the last. */
const qc_target_rule *qc_target_rule_at(size_t index);
const qc_target_rule *qc_target_rule_find(const char *name);

typedef struct qc_allowed {
    const char *const *rules;
    size_t count;
} qc_allowed;

bool qc_is_allowed(const qc_allowed *allowed, const char *rule);

#endif
