/* SPDX-License-Identifier: MIT
 *
 * check.h - what qc-check says of a checkpoint: what it holds, what is wrong with its quantization, and where two
 * checkpoints differ.
 */
#ifndef QC_RUNTIME_CHECK_H
#define QC_RUNTIME_CHECK_H

#include "ir/support/diag.h"
#include "ir/support/str.h"
#include "runtime/progress.h"

typedef struct qc_check_list_options {
    bool json;
    bool every_expert;  /* text: a line a tensor; else one for experts of a layer that are alike */
    const char *target; /* "vllm": what that loader would say too; NULL: none */
} qc_check_list_options;

/* Lists the tensors of the checkpoint in `directory` (or of one .safetensors file), how it is quantized, and what
 * contradicts that: codes without scales, scales without codes, tensors that are not of the type and shape that
 * their config group asks for, scales that are not positive and finite, attention modules that a kv_cache_scheme
 * speaks of but that have no scales. With a target also what its loader refuses, or reads as something else. Text or
 * one JSON object goes to `out`; *problem_count says how many contradictions and findings it names. */
qc_status qc_check_list(qc_diag *diag, qc_arena *arena, const char *directory,
    const qc_check_list_options *options, qc_str *out, size_t *problem_count);

/* "refused: ..." or "wrong: ...", without the tensors and their values: what the loader `target` ("vllm") would refuse in the
 * checkpoint in `directory`, or read as something else. The lines belong to the arena. */
typedef QC_VEC(const char *) qc_check_findings;
qc_status qc_check_target(
    qc_diag *diag, qc_arena *arena, const char *directory, const char *target, qc_check_findings *findings);

typedef struct qc_check_diff_options {
    bool every_expert; /* text: a line a difference; else one for experts of a layer that differ alike */
    bool tensors;      /* names, types, shapes, elements */
    bool config;       /* the values of config.json */
    bool files;        /* everything else that lies there, byte for byte; headers and names of weight files */
    bool json;
    qc_progress_fn progress; /* may be NULL */
    void *progress_user;
} qc_check_diff_options;

typedef struct qc_check_baseline_options {
    bool json;
    bool every_expert; /* text: a line a weight; else one for the experts of a layer, the worst of them */
    int threads;       /* 0: one a core */
    qc_progress_fn progress; /* may be NULL */
    void *progress_user;
} qc_check_baseline_options;

/* How far the weights of the compressed-tensors checkpoint in `directory` are from those in `baseline`, which it was
 * made of: for each tensor ||w - v|| / ||w|| and more, sorted by it; the rest of the checkpoint is compared too. Needs no
 * architecture. The result does not depend on the number of threads; each takes about 5 MiB (more where a single
 * row has over 2^18 elements). Problems are numbers that are not finite, and codes that are none. */
qc_status qc_check_baseline(qc_diag *diag, qc_arena *arena, const char *directory, const char *baseline,
    const qc_check_baseline_options *options, qc_str *out, size_t *problem_count);

/* A page of HTML with plots, of what qc_check_list or qc_check_baseline said as JSON: report[length]. Experts of a layer that
 * are alike have one line, as in text. */
qc_status qc_check_page(qc_diag *diag, qc_arena *arena, const char *report, size_t length, qc_str *out);

/* Compares two checkpoints, or the tensors of two safetensors files. `b` may be a golden: golden.json (SHA-256 of files, headers and tensors) and small.golden
 * (a safetensors file with some of the tensors) in place of the weights. One line a difference, or one JSON object, goes
 * to `out`. */
qc_status qc_check_diff(qc_diag *diag, qc_arena *arena, const char *a, const char *b,
    const qc_check_diff_options *options, qc_str *out, size_t *difference_count);

#endif
