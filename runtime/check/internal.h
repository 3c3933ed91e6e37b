/* SPDX-License-Identifier: MIT
 *
 * check_internal.h - the parts of check.h.
 *
 *   check.c          listing, summary of the quantization
 *   rules.c    what contradicts it (see also quant.h)
 *   baseline.c errors of the weights (baseline.h)
 *   diff.c     two checkpoints: config.json and other files; the report
 *   tensors.c  two checkpoints: tensors
 */
#ifndef QC_RUNTIME_CHECK_INTERNAL_H
#define QC_RUNTIME_CHECK_INTERNAL_H

#include "ir/support/safetensors.h"
#include "runtime/check/check.h"

/* One side of a comparison. */
typedef struct check_side {
    const char *directory;
    qc_st_set set;         /* of a golden: the tensors of small.golden */
    const qc_json *golden; /* golden.json; NULL: a checkpoint with weights */
} check_side;

typedef struct check_difference {
    const char *kind; /* "tensor", "config", "file" */
    const char *name, *what;
    const char *form; /* what `what` was made with: differences of one form are alike */
} check_difference;

typedef struct check_diff {
    qc_diag *diag;
    qc_arena *arena;
    const qc_check_diff_options *options;
    check_side a, b;
    QC_VEC(check_difference) differences;
    size_t tensor_count, file_count; /* compared */
    bool has_config;
    uint64_t done_bytes, total_bytes;
} check_diff;

void check_differ(check_diff *d, const char *kind, const char *name, const char *format, ...) QC_PRINTF(4, 5);
qc_status check_diff_tensors(check_diff *d);
qc_status check_diff_config(check_diff *d);
qc_status check_diff_files(check_diff *d);
/* Opens a directory, or one .safetensors file, and reads config.json where there is one (*config stays NULL). On
 * an error nothing is left open. */
qc_status check_open(
    qc_diag *diag, qc_arena *arena, const char *path, qc_st_set *set, const qc_json **config);
/* "[64, 8]" */
const char *check_shape_text(qc_arena *arena, const int64_t *shape, int rank);
/* Text for a terminal: control characters as \xNN. */
void check_add_safe(qc_str *out, const char *text);

typedef QC_VEC(const char *) check_problems;

#endif
