/* SPDX-License-Identifier: MIT
 *
 * schemes.h - the presets of quant-linear, for --list-schemes, --scheme=NAME and whoever compares a scheme with
 * them. The table is schemes.def.
 */
#ifndef QC_PASSES_SCHEMES_H
#define QC_PASSES_SCHEMES_H

#include "qc/ir.h"

typedef struct qc_scheme_preset {
    const char *name, *summary;
    const char *weights, *input; /* parts as text, "" where there is none */
} qc_scheme_preset;

/* "FP8_DYNAMIC|FP8|...": the names in order. */
extern const char qc_scheme_preset_words[];

/* Rows in order; NULL behind the last. */
const qc_scheme_preset *qc_scheme_preset_at(size_t index);
/* By name, upper or lower case; NULL when unknown. */
const qc_scheme_preset *qc_scheme_preset_find(const char *name);
/* The part `arg` ("weights", "input") as a scheme symbol holds it, completed; NULL where the preset has none. */
const qc_attr *qc_scheme_preset_part(qc_ctx *ctx, const qc_scheme_preset *preset, const char *arg);

/* Checks and completes a part that a user wrote, for "weights", "input" or "attention" (an input, too): every
 * field must be known, of its kind, and fit the others.
 * Errors are reported under `what` ("quant-linear: weights"). */
qc_status qc_scheme_part_complete(
    qc_ctx *ctx, const char *what, const char *arg, const qc_attr *written, const qc_attr **part);

#endif
