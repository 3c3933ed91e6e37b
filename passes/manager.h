/* SPDX-License-Identifier: MIT
 *
 * manager.h - the pass manager as tools and the runtime use it: the registry of passes, pipelines as text,
 * and running them. Passes themselves, built in or not, need only qc/pass.h.
 *
 * Invariants that running holds: the module verifies before the first pass and after each one; a pass that
 * says "unchanged" left the text of the module as it was; an analysis is dropped when a pass changed the
 * module and did not promise to keep it. Whoever breaks one is named, and the IR it was given can be had as a
 * reproducer.
 */
#ifndef QC_PASSES_MANAGER_H
#define QC_PASSES_MANAGER_H

#include "ir/support/str.h"
#include "qc/pass.h"

/* ---- registry ------------------------------------------------------------------------------------------ */

/* With the built-in passes registered. `oom` as in qc_ctx_create. The context must outlive the registry. */
qc_registry *qc_registry_create(qc_ctx *ctx, qc_oom_fn oom);
/* Also closes the plug-ins, whose code must not run afterwards. */
void qc_registry_destroy(qc_registry *registry);
/* As qc_registry_add, for a stage: a pass that may execute (calibrate, export). It finds `user` with
 * qc_pass_ctx_user. */
qc_pass *qc_registry_add_stage(
    qc_registry *registry, const char *name, const char *summary, qc_pass_fn run, void *user);
void *qc_pass_ctx_user(const qc_pass_ctx *pc);
/* NULL when unknown. */
const qc_pass *qc_registry_find(const qc_registry *registry, const char *name);
size_t qc_registry_count(const qc_registry *registry);
/* In order of registration. */
const qc_pass *qc_registry_at(const qc_registry *registry, size_t index);
const char *qc_pass_name(const qc_pass *pass);
const char *qc_pass_summary(const qc_pass *pass);
/* "built-in", or the name of the plug-in. */
const char *qc_pass_origin(const qc_pass *pass);
bool qc_pass_is_stage(const qc_pass *pass);
size_t qc_pass_option_total(const qc_pass *pass);
const char *qc_pass_option_name(const qc_pass *pass, size_t index);

/* Opens a shared object and lets it register its passes. Errors name the file: it is missing, it is no
 * plug-in, it was made for another ABI number, its registration failed. After an error the registry must not
 * be used further than to be destroyed. */
qc_status qc_registry_load_plugin(qc_registry *registry, const char *path);

/* ---- texts --------------------------------------------------------------------------------------------- */

/* --list-passes: one line a pass: name, licence, summary. */
void qc_registry_list(const qc_registry *registry, qc_str *out);
/* Everything about one pass: summary, options with values and defaults. QC_ERROR, reported at `where`, when
 * no pass has this name. */
qc_status qc_registry_help(const qc_registry *registry, const char *where, const char *name, qc_str *out);
/* The reference part of docs/passes.md: a heading a pass, in order of registration. */
void qc_registry_markdown(const qc_registry *registry, qc_str *out);

/* ---- pipelines ----------------------------------------------------------------------------------------- */

typedef struct qc_pipeline qc_pipeline; /* a list of passes with option values */

/* Empty; belongs to the registry and lives as long. */
qc_pipeline *qc_pipeline_create(qc_registry *registry);
/* Appends what `text` says: `name{key=value, flag, list=[a, "b"]}, name, ...`. Empty text appends nothing.
 * Errors are reported at `where` ("--pass") and name the nearest known name; nothing is appended then. */
qc_status qc_pipeline_parse(qc_pipeline *pipeline, const char *where, const char *text);
/* The same, before the first pass named `before` (NULL: the first of all; behind the last where there is none). */
qc_status qc_pipeline_insert(qc_pipeline *pipeline, const char *before, const char *where, const char *text);
/* What mixtures of experts imply: linearize-moe in front where the module has experts that are one tensor and some pass
 * would change their weights or name their modules; `calibrate` (calibrate-all-experts with its options, or NULL) before
 * insert-observers where it has experts at all. Passes that are there already stay as they are. */
qc_status qc_pipeline_add_experts(
    qc_pipeline *pipeline, const char *where, const qc_module *module, const char *calibrate);
/* Gives the option this value in every pass that has it and was not given it; the others stay as they are. Errors,
 * which are bad values and a pipeline where no pass has the option, are reported at `where` ("--arith"). */
qc_status qc_pipeline_set_default(
    qc_pipeline *pipeline, const char *where, const char *option, const char *text);
size_t qc_pipeline_count(const qc_pipeline *pipeline);
const char *qc_pipeline_name(const qc_pipeline *pipeline, size_t index);
bool qc_pipeline_has(const qc_pipeline *pipeline, const char *name);
/* Canonical text: parsed again it gives the same pipeline and the same text. */
void qc_pipeline_print(const qc_pipeline *pipeline, qc_str *out);
/* The same with other text between the passes: a comma and blanks. */
void qc_pipeline_print_with(const qc_pipeline *pipeline, const char *joint, qc_str *out);

/* `name{key = value, ...}` in the grammar of passes, for options of tools (--target=vllm{tp=8}): *name and
 * *options (a MAP, never NULL) belong to the context and registry-free callers; `where` is for errors. */
qc_status qc_parse_spec(qc_ctx *ctx, qc_arena *arena, const char *where, const char *text, const char **name,
    const qc_attr **options);
/* An option value as a pipeline spells it. */
void qc_option_value_print(const qc_attr *value, qc_str *out);

/* ---- running ------------------------------------------------------------------------------------------- */

typedef struct qc_run_report {
    const char *pass; /* name */
    size_t index, count;
    bool changed;
    double seconds;        /* the pass itself */
    double verify_seconds; /* verifying, printing, comparing */
} qc_run_report;

typedef struct qc_run_settings {
    /* Module-tree patterns that no pass may quantize (--disable). */
    const char *const *disable;
    size_t disable_count;
    /* Names of passes to print the IR before or after. */
    const char *const *print_before;
    size_t print_before_count;
    const char *const *print_after;
    size_t print_after_count;
    bool print_after_all;
    /* Gets those texts; `when` is "before" or "after". */
    void (*print)(void *user, const char *when, const char *pass, const char *text, size_t length);
    /* Called after each pass that did not fail. */
    void (*report)(void *user, const qc_run_report *report);
    void *user;
    /* Recomputes analyses that a pass promised to keep and compares. */
    bool verify_keeps;
    /* Where the IR before a failing pass goes, with the rest of the pipeline in its first line; NULL:
     * nowhere. */
    const char *reproducer;
    const char *version; /* written into the reproducer */
} qc_run_settings;

/* Runs the passes over the module in order and stops at the first failure, after which the module may only be
 * destroyed. */
qc_status qc_pipeline_run(const qc_pipeline *pipeline, qc_module *module, const qc_run_settings *settings);

/* The pipeline that the first line of a reproducer names, or NULL when `text` is none. */
char *qc_reproducer_pipeline(qc_arena *arena, const char *text);

#endif
