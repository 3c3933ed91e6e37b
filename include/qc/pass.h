/* SPDX-License-Identifier: MIT
 *
 * pass.h - passes: a function with a description. Built-in passes and plug-ins use the same calls.
 *
 *   static qc_pass_result run(qc_pass_ctx *pc, qc_module *module) { ... }
 *   void register_it(qc_registry *r)
 *   {
 *       qc_pass *p = qc_registry_add(r, "quant-acme", "what it does, in a line", run);
 *       qc_pass_add_option(p, "granularity", QC_OPTION_WORD, "tensor", "tensor|head", "one scale a tensor or
 * a head");
 *   }
 */
#ifndef QC_PASS_H
#define QC_PASS_H

#include "qc/build.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum qc_pass_result {
    QC_PASS_UNCHANGED, /* the module is what it was, to the letter; checked */
    QC_PASS_CHANGED,
    QC_PASS_FAILED, /* a diagnostic says why; the job stops */
} qc_pass_result;

typedef qc_pass_result (*qc_pass_fn)(qc_pass_ctx *pc, qc_module *module);

typedef enum qc_option_kind {
    QC_OPTION_BOOL, /* true|false */
    QC_OPTION_INT,
    QC_OPTION_FLOAT,
    QC_OPTION_WORD,   /* one of `values` */
    QC_OPTION_STRING, /* bareword or "quoted" */
    QC_OPTION_LIST,   /* [a, "b"]; one bare item is a list of one */
    QC_OPTION_MAP,    /* {key = value, flag}; values of any kind */
} qc_option_kind;

/* What a pass may do to numbers. */
typedef enum qc_licence {
    QC_LICENCE_EXACT,        /* every value keeps its bits */
    QC_LICENCE_REASSOCIATES, /* same real number, other rounding */
    QC_LICENCE_LOSSY,        /* spends accuracy */
} qc_licence;

/* NULL (with a diagnostic) when the name is taken or not kebab-case. */
QC_API qc_pass *qc_registry_add(qc_registry *registry, const char *name, const char *summary, qc_pass_fn run);
/* `values` is "a|b|c" for QC_OPTION_WORD, else NULL. default_text is parsed as a value on the command line.
 */
QC_API void qc_pass_add_option(qc_pass *pass, const char *name, qc_option_kind kind, const char *default_text,
    const char *values, const char *help);
/* What the pass does, in Markdown, for docs and --help-pass; without it the summary serves. */
QC_API void qc_pass_set_description(qc_pass *pass, const char *description);
QC_API void qc_pass_set_licence(qc_pass *pass, qc_licence licence);
/* Names an analysis that stays valid although the pass changed the module (by default none does). */
QC_API void qc_pass_add_kept_analysis(qc_pass *pass, const char *analysis);

/* During a run. */
QC_API qc_ctx *qc_pass_ctx_get(const qc_pass_ctx *pc);
QC_API const char *qc_pass_ctx_name(const qc_pass_ctx *pc);
QC_API bool qc_pass_option_bool(const qc_pass_ctx *pc, const char *name);
QC_API int64_t qc_pass_option_int(const qc_pass_ctx *pc, const char *name);
QC_API double qc_pass_option_float(const qc_pass_ctx *pc, const char *name);
QC_API const char *qc_pass_option_text(const qc_pass_ctx *pc, const char *name);
QC_API size_t qc_pass_option_count(const qc_pass_ctx *pc, const char *name); /* of a LIST */
QC_API const char *qc_pass_option_item(const qc_pass_ctx *pc, const char *name, size_t index);
/* The value as an attribute: BOOL, INT, FLOAT, WORD, STRING, LIST of STRING, or MAP. Never NULL for an option
 * that the pass declared. */
QC_API const qc_attr *qc_pass_option_attr(const qc_pass_ctx *pc, const char *name);
/* Did the user write this option? */
QC_API bool qc_pass_option_given(const qc_pass_ctx *pc, const char *name);
/* Does the node match an entry of the LIST option (`if_empty` when the list is empty)? The option named
 * `ignore` also matches what the user took out of every pass with --disable. */
QC_API bool qc_pass_option_matches(
    const qc_pass_ctx *pc, const char *name, const qc_node *node, bool if_empty);
/* Why something was left alone; `op` may be NULL. */
QC_API void qc_pass_remark(qc_pass_ctx *pc, const qc_op *op, const char *format, ...) QC_PRINTF(3, 4);
/* Reports and gives QC_PASS_FAILED. */
QC_API qc_pass_result qc_pass_fail(qc_pass_ctx *pc, const qc_op *op, const char *format, ...) QC_PRINTF(3, 4);
/* Counts what the pass did, for --remarks and timing: "attention ops quantized". */
QC_API void qc_pass_count(qc_pass_ctx *pc, const char *what, int64_t amount);
/* Scratch memory, gone after the pass. Zeroed, never NULL. */
QC_API void *qc_pass_alloc(qc_pass_ctx *pc, size_t size_bytes);

#ifdef __cplusplus
}
#endif
#endif
