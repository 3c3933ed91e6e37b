/* SPDX-License-Identifier: MIT
 *
 * internal.h - the structures of the pass manager, for its own files and nobody else's.
 *
 * Lifetimes: everything of a registry, its pipelines included, is in the registry's arena; what a pass
 * allocates is in the scratch arena of its run; analyses have one arena each, in the cache of the run.
 */
#ifndef QC_PASSES_INTERNAL_H
#define QC_PASSES_INTERNAL_H

#include "ir/support/map.h"
#include "passes/analysis.h"
#include "passes/manager.h"

#define QC_MAX_OPTION_DEPTH 16

typedef struct qc_pass_option {
    const char *name;
    qc_option_kind kind;
    const char *default_text, *values, *help;
    const qc_attr *default_value;
} qc_pass_option;

struct qc_pass {
    qc_registry *registry;
    const char *name, *summary, *description, *origin;
    qc_pass_fn run;
    void *user;
    bool stage;
    qc_licence licence;
    QC_VEC(qc_pass_option) options;
    QC_VEC(const char *) kept;
};

struct qc_registry {
    qc_ctx *ctx;
    qc_arena arena;
    QC_VEC(qc_pass *) passes;
    qc_map by_name;
    QC_VEC(const qc_analysis_kind *) analyses;
    QC_VEC(void *) libraries;
    const char *origin; /* of passes that are added now */
};

typedef struct qc_pass_instance {
    const qc_pass *pass;
    const qc_attr **values; /* one an option; NULL: not given */
} qc_pass_instance;

struct qc_pipeline {
    qc_registry *registry;
    QC_VEC(qc_pass_instance) items;
};

typedef struct qc_pass_count_entry {
    const char *what;
    int64_t amount;
} qc_pass_count_entry;

struct qc_pass_ctx {
    qc_ctx *ctx;
    qc_arena *arena; /* scratch */
    qc_module *module;
    const qc_pass_instance *instance;
    const qc_run_settings *settings;
    qc_analysis_cache *analyses;
    QC_VEC(qc_pass_count_entry) counts;
    bool failed; /* qc_pass_fail was called */
};

void qc_registry_add_built_in_analyses(qc_registry *registry);
/* The index of an option, or -1. */
int qc_pass_option_index(const qc_pass *pass, const char *name);
/* Parses a whole text as a value of the option; NULL (reported) when it is none. */
const qc_attr *qc_option_value_parse(qc_ctx *ctx, qc_arena *arena, const char *where, const qc_pass *pass,
    const qc_pass_option *option, const char *text);
/* `name{option=value, ...}`. */
void qc_pass_instance_print(const qc_pass_instance *item, qc_str *out);
/* "bool", "word", ... */
const char *qc_option_kind_name(qc_option_kind kind);

#endif
