/* SPDX-License-Identifier: MIT
 *
 * kernel_search.c - see kernels.h: the local scales of many groups of 16 at once, searched on the grid of e4m3.
 *
 * A tile is 16 groups, transposed so that a vector holds one element of each: amax, candidates, errors and the choice
 * among them then need no sums across lanes, and elements are added in their own order, as a plain loop adds them.
 * The transposition is four perfect shuffles (y[2i] = x[i], y[2i + 1] = x[i + half]): each moves the index's highest
 * bit to the lowest place, and 8 bits turned by four are rows and columns exchanged.
 */
#include <math.h>

#include "ir/dtype/kernels.h"
#include "ir/dtype/search_steps.h"

enum { LANES = KERNEL_SEARCH_GROUPS, GROUP = 16, TILE = LANES * GROUP };

/* ---- tiles --------------------------------------------------------------------------------------------- */

#define SHUFFLE(name, type)                                                                                  \
    QC_INLINE void name(const type *restrict x, type *restrict y, type mask)                                 \
    {                                                                                                        \
        for (size_t i = 0; i < TILE / 2; i++) {                                                              \
            y[2 * i] = x[i] & mask;                                                                          \
            y[2 * i + 1] = x[i + TILE / 2] & mask;                                                           \
        }                                                                                                    \
    }
SHUFFLE(shuffle_16, uint16_t)
SHUFFLE(shuffle_32, uint32_t)

/* Magnitudes of a tile, [element][group]. */
QC_INLINE void load_tile(step_type model, const void *x, float *restrict magnitudes)
{
    union {
        uint16_t narrow[TILE];
        uint32_t wide[TILE];
    } a, b;
    if (model == STEP_F32) {
        shuffle_32(x, a.wide, 0x7fffffffu);
        shuffle_32(a.wide, b.wide, 0x7fffffffu);
        shuffle_32(b.wide, a.wide, 0x7fffffffu);
        shuffle_32(a.wide, b.wide, 0x7fffffffu);
    } else {
        shuffle_16(x, a.narrow, 0x7fffu);
        shuffle_16(a.narrow, b.narrow, 0x7fffu);
        shuffle_16(b.narrow, a.narrow, 0x7fffu);
        shuffle_16(a.narrow, b.narrow, 0x7fffu);
    }
    for (size_t i = 0; i < TILE; i++)
        magnitudes[i] = step_load(model, &b, i);
}

/* ---- the search ---------------------------------------------------------------------------------------- */

#define SEARCH(name, model, kind, count)                                                                     \
    QC_WIDE static bool name(const void *x, float global, float least, float *restrict scales)               \
    {                                                                                                        \
        int32_t keys[LANES];                                                                                 \
        float a[TILE], amax[LANES], scale[count][LANES], factor[count][LANES], sum[count][LANES];            \
        load_tile(model, x, a);                                                                              \
        for (size_t l = 0; l < LANES; l++)                                                                   \
            keys[l] = 0;                                                                                     \
        for (size_t k = 0; k < GROUP; k++)                                                                   \
            for (size_t l = 0; l < LANES; l++) {                                                             \
                int32_t key = (int32_t)qc_f32_bits(a[k * LANES + l]);                                        \
                keys[l] = key > keys[l] ? key : keys[l];                                                     \
            }                                                                                                \
        int32_t most = 0;                                                                                    \
        for (size_t l = 0; l < LANES; l++) {                                                                 \
            most = keys[l] > most ? keys[l] : most;                                                          \
            amax[l] = qc_f32_from_bits((uint32_t)keys[l]);                                                   \
        }                                                                                                    \
        for (int32_t c = 0; c < count; c++)                                                                  \
            for (size_t l = 0; l < LANES; l++) {                                                             \
                scale[c][l] = search_candidate(kind, c, model, model, amax[l], global);                      \
                factor[c][l] = global / scale[c][l];                                                         \
                sum[c][l] = 0;                                                                               \
            }                                                                                                \
        for (size_t k = 0; k < GROUP; k++)                                                                   \
            for (size_t c = 0; c < count; c++)                                                               \
                for (size_t l = 0; l < LANES; l++)                                                           \
                    sum[c][l] += search_square(a[k * LANES + l], factor[c][l]);                              \
        for (size_t l = 0; l < LANES; l++) {                                                                 \
            float best = INFINITY, chosen = scale[search_centre(kind)][l];                                   \
            for (size_t c = 0; c < count; c++) {                                                             \
                float error = sum[c][l] * (scale[c][l] * scale[c][l]);                                       \
                chosen = error < best ? scale[c][l] : chosen;                                                \
                best = error < best ? error : best;                                                          \
            }                                                                                                \
            scales[l] = amax[l] > 0 ? chosen : least;                                                        \
        }                                                                                                    \
        return most < (int32_t)QC_F32_INF;                                                                   \
    }
SEARCH(mse_bf16, STEP_BF16, QC_SEARCH_MSE, SEARCH_NEIGHBOURS)
SEARCH(mse_f16, STEP_F16, QC_SEARCH_MSE, SEARCH_NEIGHBOURS)
SEARCH(mse_f32, STEP_F32, QC_SEARCH_MSE, SEARCH_NEIGHBOURS)
SEARCH(four_six_bf16, STEP_BF16, QC_SEARCH_FOUR_SIX, SEARCH_FOUR_OR_SIX)
SEARCH(four_six_f16, STEP_F16, QC_SEARCH_FOUR_SIX, SEARCH_FOUR_OR_SIX)
SEARCH(four_six_f32, STEP_F32, QC_SEARCH_FOUR_SIX, SEARCH_FOUR_OR_SIX)

bool qc_kernel_search(
    qc_search kind, step_type model, const void *x, float global, float least, float *scales)
{
    if (kind == QC_SEARCH_MSE)
        return (model == STEP_BF16  ? mse_bf16
                : model == STEP_F16 ? mse_f16
                                    : mse_f32)(x, global, least, scales);
    return (model == STEP_BF16  ? four_six_bf16
            : model == STEP_F16 ? four_six_f16
                                : four_six_f32)(x, global, least, scales);
}
