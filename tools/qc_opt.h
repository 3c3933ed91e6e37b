/* SPDX-License-Identifier: MIT
 *
 * qc_opt.h - the parts of qc-opt and what they share.
 */
#ifndef QC_TOOLS_QC_OPT_H
#define QC_TOOLS_QC_OPT_H

#include "passes/manager.h"
#include "runtime/check/allow.h"
#include "runtime/stats.h"
#include "tools/cli.h"

typedef enum opt_output {
    OPT_OUTPUT_STDOUT,     /* IR text */
    OPT_OUTPUT_TEXT,       /* IR text into a file */
    OPT_OUTPUT_CHECKPOINT, /* a directory */
    OPT_OUTPUT_NONE,       /* --dump-pipeline alone, lists */
} opt_output;

typedef struct opt_job {
    qc_cli *cli;
    qc_ctx *ctx;
    qc_registry *registry;
    qc_pipeline *pipeline;
    qc_module *module;
    qc_stats stats;
    opt_output output;
    const char *output_path;
    const char *source; /* --source, or NULL */
    qc_allowed allowed; /* --allow */
    bool checked;       /* before the calibration, whether the module can be exported */
    const char *serve_command;
    bool bad_recipe;        /* a file is wrong, not the command line */
    const char *needs_data; /* what asks for data: "FILE:LINE: ..." of a recipe, a preset, or NULL */
    int64_t threads, samples, tokens, seed;          /* tokens 0: not cut */
    uint64_t max_memory_bytes, max_shard_size_bytes; /* 0: not given */
} opt_job;

extern const qc_cli_tool qc_opt_tool;

/* opt_input.c: a directory, org/name in the local Hub cache, FILE.qc, or - for IR text on standard input. */
qc_module *opt_read_model(opt_job *job, const char *model);

/* opt_stages.c */
/* Registers calibrate and export; they take what they need from the job when they run. */
qc_status opt_register_stages(opt_job *job);
/* Appends what the command line asks for, in its order, then the stages that the output implies. */
qc_status opt_build_pipeline(opt_job *job);
/* What the model adds to that, once it was read: passes for experts. */
qc_status opt_finish_pipeline(opt_job *job);
/* opt_recipe.c: append the passes of a recipe, or of a preset with --targets and --ignore. */
qc_status opt_append_recipe(opt_job *job, const char *path);
qc_status opt_append_scheme(opt_job *job, const char *name);
/* --arith and --format, in every pass of the user that has such an option and was not given it. */
qc_status opt_set_defaults(opt_job *job);
/* What --output and --emit ask for. False after a usage error. */
bool opt_choose_output(opt_job *job);
/* The options that are numbers or sizes. False after a usage error. */
bool opt_read_numbers(opt_job *job);
/* Options that contradict each other, or do nothing without another one; once the pipeline is there, names of
 * --print-before and --print-after. False after a usage error. */
bool opt_check_combinations(opt_job *job);
bool opt_check_prints(opt_job *job);
/* Can the output be written? Asked before long work, once the module is read. */
qc_status opt_check_output(opt_job *job);

#endif
