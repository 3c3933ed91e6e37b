/* SPDX-License-Identifier: MIT
 *
 * logits.h - logits of token sequences in a safetensors file, written as a safetensors file.
 */
#ifndef QC_RUNTIME_LOGITS_H
#define QC_RUNTIME_LOGITS_H

#include "runtime/model.h"

/* Reads `input_ids`, I64 [batch, sequence], of the file `input`, runs every row by itself from position 0,
 * and writes `logits`, F32 [batch, sequence, vocabulary], to `output`, row by row as they come: the file
 * appears whole or not at all. Another type or rank, an empty tensor, an id outside the vocabulary are
 * errors. */
qc_status qc_logits_run(
    qc_model *model, const char *input, const char *output, qc_progress_fn progress, void *progress_user);

#endif
