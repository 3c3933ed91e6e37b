/* SPDX-License-Identifier: MIT
 *
 * quantizer_search.c - local scales under a global scale that are searched on the grid of e4m3 (see quantizer.h), with
 * the tiles of kernel_search.c where groups have 16 elements.
 *
 * amax / 6 puts the largest element of a group on the largest code and nothing on the next one down, and the rounding
 * of the scale to e4m3 moves both. Few neighbours on the grid hold the best scale almost always: figures are in
 * docs/performance.md.
 */
#include <math.h>

#include "ir/dtype/kernels.h"
#include "ir/dtype/search_steps.h"

bool qc_quantizer_searches(const qc_quantizer *q, float global)
{
    return q->search != QC_SEARCH_NONE && q->symmetric && q->grid.storage == QC_F4E2M1 &&
           q->scale_type == QC_F8E4M3 && global != 0.0f;
}

static step_type scale_step(const qc_quantizer *q)
{
    return q->arith->round_scale ? step_of(q->model_dtype) : STEP_F32;
}

void qc_quantizer_group_scale(
    const qc_quantizer *q, const void *x, size_t count, float global, float *scale, float *zero_point)
{
    const step_type model = step_of(q->model_dtype), step = scale_step(q);
    float min, max, best = INFINITY;
    qc_arith_minmax(q->model_dtype, x, count, &min, &max);
    qc_quantizer_scale(q, min, max, global, scale, zero_point);
    const float amax = fmaxf(fabsf(min), fabsf(max));
    if (!qc_quantizer_searches(q, global) || isnan(min) || !isfinite(amax) || amax == 0.0f)
        return;
    const int32_t candidates = q->search == QC_SEARCH_MSE ? SEARCH_NEIGHBOURS : SEARCH_FOUR_OR_SIX;
    *scale = search_candidate(q->search, search_centre(q->search), step, model, amax, global);
    for (int32_t c = 0; c < candidates; c++) {
        const float candidate = search_candidate(q->search, c, step, model, amax, global);
        const float factor = global / candidate;
        float sum = 0;
        for (size_t i = 0; i < count; i++)
            sum += search_square(fabsf(step_load(model, x, i)), factor);
        const float error = sum * (candidate * candidate);
        if (error < best) {
            best = error;
            *scale = candidate;
        }
    }
}

/* Whole tiles, and at the end what is less than one, filled up with zeros. */
static void search_tiles(const qc_quantizer *q, const char *x, int64_t groups, float global, float *scales)
{
    enum { GROUP = 16, TILE = GROUP * KERNEL_SEARCH_GROUPS };
    const step_type model = step_of(q->model_dtype);
    const size_t elem_bytes = model == STEP_F32 ? 4 : 2;
    const float least = q->arith->zero_scale_f8e4m3;
    for (int64_t g = 0; g < groups; g += KERNEL_SEARCH_GROUPS) {
        const size_t left = groups - g < KERNEL_SEARCH_GROUPS ? (size_t)(groups - g) : KERNEL_SEARCH_GROUPS;
        const char *from = x + (size_t)g * GROUP * elem_bytes;
        float filled[TILE] = {0}, found[KERNEL_SEARCH_GROUPS];
        if (left < KERNEL_SEARCH_GROUPS)
            memcpy(filled, from, left * GROUP * elem_bytes);
        const void *tile = left < KERNEL_SEARCH_GROUPS ? (const void *)filled : from;
        if (qc_kernel_search(q->search, model, tile, global, least, found)) {
            memcpy(scales + g, found, left * sizeof *found);
            continue;
        }
        float ignored;
        for (size_t i = 0; i < left; i++)
            qc_quantizer_group_scale(
                q, from + i * GROUP * elem_bytes, GROUP, global, &scales[(size_t)g + i], &ignored);
    }
}

void qc_kernel_search_rows(const qc_quantizer *q, const void *x, int64_t rows, int64_t columns, int64_t group,
    float global, float *scales)
{
    const size_t elem_bytes = step_of(q->model_dtype) == STEP_F32 ? 4 : 2;
    const int64_t groups = (columns + group - 1) / group;
    if (group == 16 && columns % 16 == 0 && q->arith->round_scale) {
        search_tiles(q, x, rows * groups, global, scales);
        return;
    }
    for (int64_t r = 0; r < rows; r++)
        for (int64_t g = 0; g < groups; g++) {
            const int64_t first = g * group, count = columns - first < group ? columns - first : group;
            float ignored;
            qc_quantizer_group_scale(q, (const char *)x + (size_t)(r * columns + first) * elem_bytes,
                (size_t)count, global, scales++, &ignored);
        }
}
