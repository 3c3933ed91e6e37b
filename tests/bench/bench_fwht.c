/* SPDX-License-Identifier: MIT
 *
 * bench_fwht.c - rotations of heads of 64 and 128 elements beside a copy of as many bytes (memcpy, on as many
 * threads), in the same run: the two take turns, and the best of each in a second counts.
 *
 * Two amounts: what fits the second-level cache (256 KiB in and out), and what does not fit the last one (64 MiB
 * in, as much out).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backends/host/host.h"
#include "tests/unit/host_util.h"

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void copy(char *to, const char *from, size_t bytes, int threads)
{
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int t = 0; t < threads; t++) {
        size_t first = bytes / (size_t)threads * (size_t)t;
        size_t count = t == threads - 1 ? bytes - first : bytes / (size_t)threads;
        memcpy(to + first, from + first, count);
    }
}

/* Bytes that do not fit a cache go piece by piece: the least time of each counts, which is short enough to be spared by
 * the scheduler, and a round over all pieces makes the next one cold. */
static void measure(const qc_host_engine *engine, qc_diag *diag, const qc_host_rotation *r, size_t bytes)
{
    enum { MAX_PIECES = 8 };
    const size_t piece = bytes < (size_t)16 << 20 ? bytes : (size_t)16 << 20, pieces = bytes / piece;
    int threads = qc_host_engine_thread_count(engine);
    size_t count = piece / dtype_bytes(r->dtype);
    char *x = aligned_alloc(64, bytes), *y = aligned_alloc(64, bytes);
    void *values = random_values(1, 4096, r->dtype, 2.0);
    double rotations[MAX_PIECES], copies[MAX_PIECES], rotation = 0.0, copying = 0.0, start = now();

    for (size_t i = 0; i < bytes; i += 4096)
        memcpy(x + i, values, 4096);
    memset(y, 1, bytes);
    for (size_t p = 0; p < pieces; p++)
        rotations[p] = copies[p] = 1e9;
    while (now() - start < 1.0) {
        for (size_t p = 0; p < pieces; p++) {
            double before = now();
            copy(y + p * piece, x + p * piece, piece, threads);
            double took = now() - before;
            copies[p] = took < copies[p] ? took : copies[p];
        }
        for (size_t p = 0; p < pieces; p++) {
            double before = now();
            if (qc_host_hadamard(engine, diag, "fwht", r, x + p * piece, y + p * piece, count) != QC_OK)
                exit(1);
            double took = now() - before;
            rotations[p] = took < rotations[p] ? took : rotations[p];
        }
    }
    for (size_t p = 0; p < pieces; p++) {
        rotation += rotations[p];
        copying += copies[p];
    }
    printf("fwht %3lld, %s, %8zu KiB, %d threads: %6.2f GB/s in and out; copy %6.2f GB/s; %.0f %% of it\n",
        (long long)r->matrix->size, qc_dtype_name(r->dtype), bytes >> 10, threads,
        2e-9 * (double)bytes / rotation, 2e-9 * (double)bytes / copying, 100.0 * copying / rotation);
    free(x), free(y), free(values);
}

int main(void)
{
    static const qc_dtype types[] = {QC_BF16, QC_F32};
    static const int64_t sizes[] = {64, 128};
    qc_arena arena;
    qc_diag diag;

    qc_arena_init(&arena, NULL);
    qc_diag_init(&diag, &arena, NULL, NULL);
    for (int all = 0; all < 2; all++) {
        qc_host_engine *engine =
            qc_host_engine_create(&diag, &(qc_host_options){.thread_count = all ? 0 : 1});
        if (!all)
            printf("%s\n", qc_host_engine_description(engine));
        for (int t = 0; t < 2; t++)
            for (int s = 0; s < 2; s++) {
                qc_hadamard h;
                if (qc_hadamard_make(&diag, &arena, "fwht", sizes[s], false, &h) != QC_OK)
                    return 1;
                const qc_host_rotation r = {.matrix = &h, .dtype = types[t]};
                measure(engine, &diag, &r, (size_t)128 << 10);
                measure(engine, &diag, &r, (size_t)64 << 20);
            }
        qc_host_engine_destroy(engine);
    }
    qc_arena_fini(&arena);
    return 0;
}
