/* SPDX-License-Identifier: MIT
 *
 * search_steps.h - the steps of a search for a local scale of f4e2m1 codes on the grid of e4m3, inline as those of
 * steps.h. Internal to ir/dtype/. The rule is in quantizer.h.
 */
#ifndef QC_DTYPE_SEARCH_STEPS_H
#define QC_DTYPE_SEARCH_STEPS_H

#include "ir/dtype/steps.h"

/* Candidates in the order in which they are tried: the larger ones first, since the first of equals stays. */
enum { SEARCH_REACH = 5, SEARCH_NEIGHBOURS = 2 * SEARCH_REACH + 1, SEARCH_FOUR_OR_SIX = 2 };

/* Code of the e4m3 scale that is nearest to amax / divisor under a global scale; 0 to 126. */
QC_INLINE int32_t search_code(step_type step, step_type model, float amax, float divisor, float global)
{
    float s = round_step(model, round_step(step, amax / divisor));
    float near = step_nearest_e4m3(global * s);
    int32_t usual = (int32_t)(qc_f32_bits(near) >> 20) - 960;
    int32_t tiny = (int32_t)(near * 512.0f);
    return near < 0x1p-6f ? tiny : usual;
}

QC_INLINE float search_scale(int32_t code)
{
    float usual = qc_f32_from_bits(((uint32_t)code << 20) + 0x3c000000u);
    return code < 8 ? (float)code * 0x1p-9f : usual;
}

/* Number `index` of the candidates. */
QC_INLINE float search_candidate(
    qc_search kind, int32_t index, step_type step, step_type model, float amax, float global)
{
    const bool neighbour = kind == QC_SEARCH_MSE;
    int32_t code = search_code(step, model, amax, !neighbour && index == 0 ? 4.0f : 6.0f, global);
    code += neighbour ? SEARCH_REACH - index : 0;
    code = code > 1 ? code : 1;
    return search_scale(code < 126 ? code : 126);
}

/* That which is amax / 6 itself: it stays where no error is a number. */
QC_INLINE int32_t search_centre(qc_search kind)
{
    return kind == QC_SEARCH_MSE ? SEARCH_REACH : 1;
}

/* The squared distance from the grid of a magnitude, which is `factor` times as large there. The sum with 2^22, 2^23
 * or 2^24 rounds to multiples of 0.5 below 2, of 1 below 4, and of 2. Bits of magnitudes order as these do. */
QC_INLINE float search_square(float magnitude, float factor)
{
    float t = magnitude * factor;
    int32_t bits = (int32_t)qc_f32_bits(t);
    bits = bits < 0x40c00000 ? bits : 0x40c00000; /* 6 */
    int32_t binade = bits > 0x3f800000 ? bits : 0x3f800000;
    float round = qc_f32_from_bits(((uint32_t)binade & 0x7f800000u) + (22u << 23));
    float distance = t - ((qc_f32_from_bits((uint32_t)bits) + round) - round);
    return distance * distance;
}

#endif
