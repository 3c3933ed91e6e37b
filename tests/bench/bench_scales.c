/* SPDX-License-Identifier: MIT
 *
 * bench_scales.c - what searching the local scales of NVFP4 is worth: the squared error of 2^20 numbers as their codes
 * stand for them, over the sum of their squares, by the way in which scales are chosen.
 *
 * Rows of 128: Gaussian; Laplace; Gaussian with two columns twenty times as wide, as keys have them; the last ones behind
 * an orthonormal Hadamard matrix of 128. Searches under the global scale 1536 / amax, the others under 2688 / amax. The last
 * two columns are not on offer: every number of the grid of scales, and amax / 6 under 1536 / amax, which says that
 * the room alone gains nothing. Numbers do not depend on the machine.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "ir/dtype/codec.h"
#include "ir/dtype/hadamard.h"
#include "ir/dtype/quantizer.h"

enum { COLUMNS = 128, ROWS = 8192, COUNT = ROWS * COLUMNS, GROUP = 16, GROUPS = COUNT / GROUP };

typedef struct arrays {
    float x[COUNT], y[COUNT], scales[GROUPS], best[GROUPS];
    uint8_t codes[COUNT];
} arrays;

/* Between 0 and 1, neither of them. */
static double uniform(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return ((double)(*state >> 11) + 0.5) * 0x1p-53;
}

static double gaussian(uint64_t *state)
{
    double radius = sqrt(-2 * log(uniform(state)));
    return radius * cos(6.283185307179586 * uniform(state));
}

static double laplace(uint64_t *state)
{
    double u = uniform(state) - 0.5;
    return u < 0 ? log(1 + 2 * u) : -log(1 - 2 * u);
}

static void fill(arrays *a, int kind, const qc_hadamard *h)
{
    uint64_t state = 20;
    for (int i = 0; i < COUNT; i++) {
        double v = kind == 1 ? laplace(&state) : gaussian(&state);
        a->x[i] = (float)(kind >= 2 && (i % COLUMNS == 17 || i % COLUMNS == 90) ? 20 * v : v);
    }
    for (int r = 0; kind == 3 && r < ROWS; r++)
        qc_hadamard_apply_f32(h, false, a->x + r * COLUMNS);
}

static float amax_of(const arrays *a)
{
    float min, max;
    qc_arith_minmax(QC_F32, a->x, COUNT, &min, &max);
    return fmaxf(-min, max);
}

/* Squared errors of the groups under a->scales, and their sum. */
static double error_of(const qc_quantizer *q, arrays *a, float global, double *each)
{
    double sum = 0;
    qc_quantizer_rows_codes(q, a->x, ROWS, COLUMNS, GROUP, a->scales, global, NULL, a->codes);
    qc_quantizer_rows_dequantize(q, QC_F32, a->codes, ROWS, COLUMNS, GROUP, a->scales, global, NULL, a->y);
    for (int g = 0; g < GROUPS; g++) {
        double error = 0;
        for (int i = g * GROUP; i < (g + 1) * GROUP; i++)
            error += ((double)a->x[i] - (double)a->y[i]) * ((double)a->x[i] - (double)a->y[i]);
        if (each)
            each[g] = error;
        sum += error;
    }
    return sum;
}

static double searched(qc_quantizer q, arrays *a, qc_search search, float scale_max)
{
    q.search = search;
    q.scale_max = scale_max;
    const float global = qc_quantizer_global(&q, amax_of(a));
    qc_quantizer_rows_scales(&q, a->x, ROWS, COLUMNS, GROUP, global, a->scales, NULL);
    return error_of(&q, a, global, NULL);
}

/* Every scale for every group. */
static double all_scales(qc_quantizer q, arrays *a)
{
    static double least[GROUPS], each[GROUPS];
    double sum = 0;
    q.scale_max = 256;
    const float global = qc_quantizer_global(&q, amax_of(a));
    for (int code = 1; code <= 126; code++) {
        for (int g = 0; g < GROUPS; g++)
            a->scales[g] = qc_f8e4m3_to_f32((uint8_t)code);
        error_of(&q, a, global, each);
        for (int g = 0; g < GROUPS; g++)
            least[g] = code == 1 || each[g] < least[g] ? each[g] : least[g];
    }
    for (int g = 0; g < GROUPS; g++)
        sum += least[g];
    return sum;
}

int main(void)
{
    static const char *const names[] = {
        "Gaussian", "Laplace", "2 of 128 columns x 20", "the same behind H128"};
    const qc_quantizer q = {.arith = qc_arith_find("ct_cpu", 6),
        .model_dtype = QC_F32,
        .grid = qc_grid_of(QC_F4E2M1),
        .symmetric = true,
        .global = true,
        .scale_type = QC_F8E4M3};
    arrays *a = malloc(sizeof *a);
    qc_arena arena;
    qc_hadamard h;
    qc_diag diag;
    qc_arena_init(&arena, NULL);
    qc_diag_init(&diag, &arena, NULL, NULL);
    if (!a || qc_hadamard_make(&diag, &arena, "", COLUMNS, false, &h) != QC_OK)
        return 1;
    printf("%-24s %9s %18s %18s %11s %9s\n", "relative squared error", "amax/6", "four_six", "mse",
        "every scale", "room only");
    for (int kind = 0; kind < 4; kind++) {
        fill(a, kind, &h);
        double square = 0;
        for (int i = 0; i < COUNT; i++)
            square += (double)a->x[i] * (double)a->x[i];
        const double none = searched(q, a, QC_SEARCH_NONE, 0), six = searched(q, a, QC_SEARCH_FOUR_SIX, 256),
                     mse = searched(q, a, QC_SEARCH_MSE, 256), room = searched(q, a, QC_SEARCH_NONE, 256),
                     every = all_scales(q, a);
        printf("%-24s %9.5f %9.5f (%+3.0f %%) %9.5f (%+3.0f %%) %11.5f %9.5f\n", names[kind], none / square,
            six / square, 100 * (six / none - 1), mse / square, 100 * (mse / none - 1), every / square,
            room / square);
    }
    qc_arena_fini(&arena);
    free(a);
    return 0;
}
