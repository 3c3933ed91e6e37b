/* SPDX-License-Identifier: MIT
 *
 * attention_stats.h - what kept statistics (runtime/stats.h) say of the queries, keys and values of attention, and which
 * granularity each type of codes asks for.
 *
 * Of each head: the largest absolute value (amax) of all calibration sequences, and the outlier ratio: the largest amax of
 * its channels over their median. Both also under R3, where the statistics hold it (`--collect=amax@R3`).
 *
 * The rules compare errors of rounding, taken as uniform within a step, with the size of what is rounded. Among the thousands
 * of values of a calibration the largest lies near four standard deviations: an ordinary value of a head is a quarter of the
 * median amax of its channels, the root mean square of a head a quarter of that of its channels' amax.
 *
 *   FP8 (E4M3)  rounds to 3 bits behind the point: a relative error of 2^-3 / sqrt(12), times 0.7355 for where numbers lie
 *               between powers of two, 0.0265. Below 2^-6 the step is 2^-9, and that is more than this error of an ordinary
 *               value when the amax under the scale is over 0.0265 / 4 * sqrt(12) * 448 * 2^9 = 5272 medians. Up to there
 *               a scale a tensor does; beyond, one a head. R3 leaves the mean square of the error.
 *   INT8        has one step, amax / 127, with an error of amax / 127 / sqrt(12), for a head of that relative to its root
 *               mean square. The squares, averaged over the heads of q, k and v, estimate what each granularity costs. A
 *               scale a head is recommended where it halves a tensor's, a scale a channel where it quarters a head's: it
 *               takes more than the others do for every channel to have shown its range. R3 keeps the root mean square and
 *               changes amax: it is recommended for q and k where it halves the squares of their amax.
 *   NVFP4       takes groups of 16 channels under one scale. Values far below the group's amax have a step of amax / 12, an
 *               error of amax / 41.6; a group of ordinary values has 0.0941 of their size (normal distribution, amax / 6).
 *               An outlier of r times the ordinary size makes the other channels of its group err by r / 41.6; R3 over d
 *               channels makes all err by 0.0941 sqrt(1 + (r^2 - 1) / d). R3 is recommended where the first is the
 *               larger: from an outlier ratio of 4.5 on for d = 64. It spares the worst channels; the mean square of all
 *               errors stays about what it was.
 */
#ifndef QC_RUNTIME_CHECK_ATTENTION_STATS_H
#define QC_RUNTIME_CHECK_ATTENTION_STATS_H

#include "ir/support/diag.h"
#include "ir/support/str.h"
#include "runtime/check/expert_usage.h"

#define QC_ATTENTION_PARTS 3 /* q, k, v */
#define QC_FP8_RATIO 5272.0
#define QC_INT8_GAIN 2.0         /* of the squared error: a scale a head over one a tensor, R3 over none */
#define QC_INT8_CHANNEL_GAIN 4.0 /* a scale a channel over one a head */

/* What was observed of q, k or v of one attention, [heads] each. */
typedef struct qc_attention_ranges {
    size_t heads, columns; /* columns: of a head; heads 0: nothing was observed */
    double *amax, *median; /* median amax of the head's channels */
    double *rms;           /* root mean square of them */
    double *outlier;       /* amax / median; infinite where only the median is 0, 1 where both are */
} qc_attention_ranges;

typedef struct qc_attention_layer {
    const char *module; /* "model.layers.0.self_attn" */
    qc_attention_ranges plain[QC_ATTENTION_PARTS], rotated[QC_ATTENTION_PARTS];
} qc_attention_layer;

typedef enum qc_advice_type {
    QC_ADVICE_FP8,
    QC_ADVICE_INT8,
    QC_ADVICE_NVFP4,
    QC_ADVICE_TYPES
} qc_advice_type;

typedef struct qc_attention_advice {
    qc_advice_type type;
    bool possible;             /* false: `rule` says why not */
    bool rotate;               /* fold-r3 before */
    const char *granularity;   /* "tensor", "head", "channel"; NVFP4: "group" */
    const char *pass;          /* "fold-r3,quant-int8-attn{granularity=head}" */
    const char *rule;          /* one sentence */
    double value, threshold;   /* what the rule compared */
    const char *module, *part; /* where the value is from; NULL: from all */
    size_t head;
} qc_attention_advice;

typedef struct qc_attention_stats {
    const char *path;
    size_t sequences;
    qc_attention_layer *layers; /* in the order of their numbers */
    size_t count;
    bool rotated;                                /* under R3, too */
    qc_attention_advice advice[QC_ADVICE_TYPES]; /* for all layers */
    qc_expert_usage experts;                     /* counted along; count 0 above: nothing else was */
} qc_attention_stats;

/* Errors: no taps of attention and no counts of experts, a tap with ranges of sequences and none of channels (written by another version), shapes that
 * contradict each other. */
qc_status qc_attention_stats_read(
    qc_diag *diag, qc_arena *arena, const char *path, qc_attention_stats *stats);
/* Of the layers [first, first + count). */
qc_attention_advice qc_attention_stats_advise(
    qc_arena *arena, const qc_attention_stats *stats, size_t first, size_t count, qc_advice_type type);
/* The outlier ratio from which R3 spares channels under NVFP4; infinite where it never does. */
double qc_attention_nvfp4_ratio(size_t columns);
/* Largest over smallest amax of the heads. */
double qc_attention_spread(const qc_attention_ranges *ranges);

void qc_attention_stats_print_text(qc_arena *arena, const qc_attention_stats *stats, qc_str *out);
void qc_attention_stats_print_json(qc_arena *arena, const qc_attention_stats *stats, qc_str *out);
void qc_attention_stats_print_html(qc_arena *arena, const qc_attention_stats *stats, qc_str *out);

#endif
