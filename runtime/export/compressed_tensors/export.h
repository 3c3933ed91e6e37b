/* SPDX-License-Identifier: MIT
 *
 * export.h - writing a module as a compressed-tensors checkpoint, byte for byte as llm-compressor 0.14 with
 * compressed-tensors 0.19 writes it.
 *
 * What goes into the checkpoint follows from the module alone: scheme symbols become config groups, quantize
 * ops on weights become codes and scales, scales of attention become q_scale, k_scale and v_scale, every
 * other stored tensor is copied. Files that belong to the model (tokenizer, templates, code) are copied as
 * they are.
 */
#ifndef QC_RUNTIME_EXPORT_COMPRESSED_TENSORS_H
#define QC_RUNTIME_EXPORT_COMPRESSED_TENSORS_H

#include "qc/ir.h"
#include "runtime/check/allow.h"
#include "runtime/progress.h"

typedef struct qc_export_options {
    bool force; /* replace an existing OUT (at the end), and what an interrupted run left */
    uint64_t max_shard_size_bytes; /* 0: 20 GB, llm-compressor's */
    bool checked;                  /* by qc_export_check_module: its warnings are not repeated */
    int threads;                   /* 0: all */
    qc_progress_fn progress;       /* may be NULL */
    void *progress_user;
    /* Told once, before anything is written: bytes of the tensors, and the most memory that the process will hold. May be
     * NULL; gets progress_user. */
    void (*begin)(void *user, uint64_t total_bytes, uint64_t peak_bytes);
    bool dry_run;       /* nothing is written after that */
    qc_allowed allowed; /* what vLLM does not execute and is written all the same */
} qc_export_options;

/* Writes the checkpoint into the directory `out`, which appears whole or not at all: the work is done in
 * `out`.partial. `source_override` (may be NULL) says where the source's files are if not where the module
 * says. *serve_command (owned by the context; NULL when nothing serves it) is the command line that serves
 * the output. Errors: `out` exists (without force) or holds the source, statistics are still missing, a
 * scheme that the format cannot express, a rule of vLLM that is not allowed (the note says how), a graph that computes what the source's config.json does not say, a source that differs from the one the module was made from, and
 * whatever the system says. */
qc_status qc_export_compressed_tensors(qc_ctx *ctx, const qc_module *module, const char *source_override,
    const char *out, const qc_export_options *options, const char **serve_command);

/* Whether `out` can be written, without writing: it does not exist (or force), its directory is there and writable, it
 * is not the source. For before a long calibration. */
qc_status qc_export_check_output(
    qc_ctx *ctx, const qc_module *module, const char *source_override, const char *out, bool force);

/* Whether the module can be exported once its statistics are there; warns of what vLLM will not read. For before a long
 * calibration. `allowed` may be NULL. */
qc_status qc_export_check_module(
    qc_ctx *ctx, const qc_module *module, const char *source_override, const qc_allowed *allowed);

#endif
