/* SPDX-License-Identifier: MIT
 *
 * run_compare.h - `qc-run compare`.
 */
#ifndef QC_TOOLS_RUN_COMPARE_H
#define QC_TOOLS_RUN_COMPARE_H

#include "runtime/model.h"
#include "tools/cli.h"

/* Compares the recipes that the command line names; the report goes to `out`, a page to --html. An exit status. */
int run_compare(qc_cli *cli, qc_ctx *ctx, const char *model, const qc_model_options *options, qc_str *out);

#endif
