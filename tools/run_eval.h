/* SPDX-License-Identifier: MIT
 *
 * run_eval.h - `qc-run eval`.
 */
#ifndef QC_TOOLS_RUN_EVAL_H
#define QC_TOOLS_RUN_EVAL_H

#include "runtime/model.h"
#include "tools/cli.h"

/* Scores the task that the command line names, with the answers of `model`, or (--stored) with those that its samples
 * hold; the result goes to `out`, samples to --log-samples. An exit status. */
int run_eval(qc_cli *cli, qc_ctx *ctx, const char *model, const qc_model_options *options, qc_str *out);

#endif
