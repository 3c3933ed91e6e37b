/* SPDX-License-Identifier: MIT
 *
 * schemes.h - the presets of quant-linear, for --list-schemes and --scheme=NAME. The table is schemes.def.
 */
#ifndef QC_PASSES_SCHEMES_H
#define QC_PASSES_SCHEMES_H

#include "qc/qc.h"

typedef struct qc_scheme_preset {
    const char *name, *summary;
    const char *weight_type, *weight_granularity, *weight_observer;
    const char *input_type, *input_granularity, *input_observer; /* "" where there is none */
} qc_scheme_preset;

/* Rows in order; NULL behind the last. */
const qc_scheme_preset *qc_scheme_preset_at(size_t index);
/* By name, upper or lower case; NULL when unknown. */
const qc_scheme_preset *qc_scheme_preset_find(const char *name);

#endif
