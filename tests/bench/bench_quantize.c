/* SPDX-License-Identifier: MIT
 *
 * bench_quantize.c - how fast weights are quantized, scales and packing included, from memory on all cores:
 * e4m3 with a scale a row, NVFP4, INT4 in groups of 128, and others beside them; then searches for ranges.
 *
 * Beside each figure its ratio to a copy that moves as many bytes, measured in the same run, and both once more
 * by the processor time that they took, which says the same on a machine that does other work too. Arrays are
 * far larger than the caches. Best of the repetitions in 0.7 s, as for a copy. Rows go through a buffer of one
 * row of codes where the file format packs them.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "ir/dtype/codec.h"
#include "ir/dtype/mse.h"
#include "ir/dtype/pack.h"
#include "ir/dtype/quantizer.h"

enum { ROWS = 16384, COLUMNS = 4096, SEARCH_ROWS = 4096 };

typedef struct seconds {
    double wall, processor;
} seconds;

static double clock_of(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static seconds now(void)
{
    return (seconds){clock_of(CLOCK_MONOTONIC), clock_of(CLOCK_PROCESS_CPUTIME_ID)};
}

/* Keeps the least of what has passed since. */
static void keep_best(seconds *best, seconds since)
{
    const seconds at = now();
    best->wall = at.wall - since.wall < best->wall ? at.wall - since.wall : best->wall;
    best->processor =
        at.processor - since.processor < best->processor ? at.processor - since.processor : best->processor;
}

#define MEASURE(best, statement)                                                                             \
    do {                                                                                                     \
        const seconds first = now();                                                                         \
        best = (seconds){1e9, 1e9};                                                                          \
        while (now().wall - first.wall < 0.7) {                                                              \
            const seconds before = now();                                                                    \
            statement;                                                                                       \
            keep_best(&best, before);                                                                        \
        }                                                                                                    \
    } while (0)

typedef struct scheme {
    const char *name;
    qc_dtype model, type, scale_type;
    int group; /* 0: a row */
    bool global, asymmetric;
    int packed_bits; /* 0: one byte each; -4: nibbles; else words */
    qc_search search;
} scheme;

static const scheme schemes[] = {
    {"e4m3 per row", QC_BF16, QC_F8E4M3, QC_DTYPE_NONE, 0, false, false, 0},
    {"NVFP4, packed", QC_BF16, QC_F4E2M1, QC_F8E4M3, 16, true, false, -4},
    {"NVFP4, four or six", QC_BF16, QC_F4E2M1, QC_F8E4M3, 16, true, false, -4, QC_SEARCH_FOUR_SIX},
    {"NVFP4, scales searched", QC_BF16, QC_F4E2M1, QC_F8E4M3, 16, true, false, -4, QC_SEARCH_MSE},
    {"INT4 group 128, packed", QC_BF16, QC_I4, QC_DTYPE_NONE, 128, false, false, 4},
    {"INT4 group 128 asymmetric, packed", QC_BF16, QC_I4, QC_DTYPE_NONE, 128, false, true, 4},
    {"INT8 per row", QC_BF16, QC_I8, QC_DTYPE_NONE, 0, false, false, 0},
    {"INT3 group 128, packed", QC_BF16, QC_I3, QC_DTYPE_NONE, 128, false, false, 3},
    {"MXFP4, packed", QC_BF16, QC_F4E2M1, QC_F8E8M0, 32, false, false, -4},
    {"MXFP8", QC_BF16, QC_F8E4M3, QC_F8E8M0, 32, false, false, 0},
    {"e4m3 per row, from f16", QC_F16, QC_F8E4M3, QC_DTYPE_NONE, 0, false, false, 0},
    {"NVFP4, packed, from f16", QC_F16, QC_F4E2M1, QC_F8E4M3, 16, true, false, -4},
    {"INT4 group 128, packed, from f32", QC_F32, QC_I4, QC_DTYPE_NONE, 128, false, false, 4},
};

typedef struct arrays {
    char *x, *out;
    float *scales, *zero_points;
    size_t x_bytes, out_bytes;
} arrays;

static qc_quantizer quantizer_of(const scheme *s)
{
    return (qc_quantizer){
        .arith = qc_arith_find("ct_cpu", 6),
        .model_dtype = s->model,
        .grid = qc_grid_of(s->type),
        .symmetric = !s->asymmetric,
        .global = s->global,
        .scale_type = s->scale_type,
        .search = s->search,
    };
}

static void quantize(const scheme *s, const arrays *a)
{
    const qc_quantizer q = quantizer_of(s);
    const int64_t group = s->group ? s->group : COLUMNS, groups = COLUMNS / group;
    const size_t row_bytes = COLUMNS * (size_t)qc_dtype_bits(s->model) / 8;
    const size_t out_bytes = s->packed_bits == 0 ? COLUMNS : COLUMNS * (size_t)abs(s->packed_bits) / 8;
    const float global = s->global ? 5376 : 0;
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < ROWS; r++) {
        const char *x = a->x + (size_t)r * row_bytes;
        uint8_t codes[COLUMNS], *out = (uint8_t *)a->out + (size_t)r * out_bytes;
        float *scales = a->scales + r * groups,
              *zero_points = s->asymmetric ? a->zero_points + r * groups : NULL;
        qc_quantizer_rows_scales(&q, x, 1, COLUMNS, group, global, scales, zero_points);
        qc_quantizer_rows_codes(
            &q, x, 1, COLUMNS, group, scales, global, zero_points, s->packed_bits ? codes : out);
        if (s->packed_bits < 0)
            qc_pack_nibbles(codes, COLUMNS, out);
        else if (s->packed_bits > 0)
            qc_pack_words(s->packed_bits, (const int8_t *)codes, COLUMNS, out);
    }
}

static void copy(const arrays *a, size_t bytes)
{
    int threads = 1;
#ifdef _OPENMP
    threads = omp_get_max_threads();
#endif
    const size_t part = bytes / (size_t)threads;
#pragma omp parallel for schedule(static)
    for (int t = 0; t < threads; t++)
        memcpy(a->out + (size_t)t * part, a->x + (size_t)t * part, part);
}

static void search(const scheme *s, const arrays *a, const qc_mse *mse)
{
    enum { PIECE = 64 };
    const qc_quantizer q = quantizer_of(s);
    const int64_t group = s->group ? s->group : COLUMNS, groups = COLUMNS / group;
#pragma omp parallel for schedule(dynamic)
    for (int64_t r = 0; r < SEARCH_ROWS; r += PIECE) {
        uint64_t improved[QC_MSE_WORDS] = {0};
        qc_mse_search(&q, mse, a->x + (size_t)r * COLUMNS * (size_t)qc_dtype_bits(s->model) / 8, PIECE,
            COLUMNS, group, NULL, qc_mse_steps(mse), a->scales + r * groups, a->zero_points + r * groups,
            improved);
    }
}

/* Numbers like those of a weight: a sum of uniform ones. */
static void fill(const scheme *s, const arrays *a)
{
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < ROWS; r++) {
        float row[COLUMNS];
        uint64_t state = (uint64_t)r * 977 + 1;
        for (int c = 0; c < COLUMNS; c++) {
            row[c] = -2.0f;
            for (int k = 0; k < 4; k++) {
                state = state * 6364136223846793005u + 1442695040888963407u;
                row[c] += (float)(state >> 40) * 0x1p-24f;
            }
            row[c] *= 0.02f;
        }
        qc_encode_f32(
            s->model, row, a->x + (size_t)r * COLUMNS * (size_t)qc_dtype_bits(s->model) / 8, COLUMNS);
    }
}

int main(void)
{
    const size_t elems = (size_t)ROWS * COLUMNS;
    arrays a = {.x_bytes = elems * 4, .out_bytes = elems * 4};
    a.x = aligned_alloc(64, a.x_bytes);
    a.out = aligned_alloc(64, a.out_bytes);
    a.scales = aligned_alloc(64, elems / 16 * 4);
    a.zero_points = aligned_alloc(64, elems / 16 * 4);
    if (!a.x || !a.out || !a.scales || !a.zero_points)
        return puts("no memory"), 1;
    memset(a.out, 0, a.out_bytes);
    qc_dtype filled = QC_DTYPE_NONE;
    printf("%-34s %8s %8s %8s %16s %8s\n", "", "Gelem/s", "GB/s", "of copy", "Gelem/s a core", "of copy");
    for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++) {
        const scheme *s = &schemes[i];
        seconds took, copied;
        if (s->model != filled)
            fill(s, &a);
        filled = s->model;
        size_t groups = s->group ? elems / (size_t)s->group : ROWS;
        size_t moved = elems * (size_t)qc_dtype_bits(s->model) / 8 + groups * 4 +
                       (s->packed_bits ? elems * (size_t)abs(s->packed_bits) / 8 : elems);
        MEASURE(took, quantize(s, &a));
        MEASURE(copied, copy(&a, moved / 2));
        printf("%-34s %8.2f %8.2f %7.0f%% %16.2f %7.0f%%\n", s->name, (double)elems * 1e-9 / took.wall,
            (double)moved * 1e-9 / took.wall, 100 * copied.wall / took.wall,
            (double)elems * 1e-9 / took.processor, 100 * copied.processor / took.processor);
        fflush(stdout);
    }
    fill(&schemes[0], &a);
    static const struct {
        int scheme;
        const char *observer;
    } searches[] = {{1, "memoryless_mse"}, {1, "nvfp4_expanded_mse"}, {4, "memoryless_mse"},
        {5, "memoryless_mse"}, {0, "memoryless_mse"}, {4, "imatrix_mse"}};
    printf("\n%-42s %8s %16s\n", "search of 4096 x 4096, all steps", "seconds", "core seconds");
    for (size_t i = 0; i < sizeof searches / sizeof searches[0]; i++) {
        qc_mse mse;
        if (!qc_mse_from_observer(searches[i].observer, strlen(searches[i].observer), &mse))
            continue;
        seconds took = {1e9, 1e9};
        const seconds before = now();
        search(&schemes[searches[i].scheme], &a, &mse);
        keep_best(&took, before);
        printf("%-22s %-19s %8.2f %16.2f\n", schemes[searches[i].scheme].name, searches[i].observer,
            took.wall, took.processor);
        fflush(stdout);
    }
    free(a.x);
    free(a.out);
    free(a.scales);
    free(a.zero_points);
    return 0;
}
