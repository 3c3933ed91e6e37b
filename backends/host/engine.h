/* SPDX-License-Identifier: MIT
 *
 * engine.h - what the kernels' files share: the engine's content, thread counts, aligned buffers.
 */
#ifndef QC_HOST_ENGINE_H
#define QC_HOST_ENGINE_H

#include "backends/host/host.h"
#include "backends/host/simd.h"

struct qc_host_onednn;

struct qc_host_engine {
    int thread_count;
    const qc_host_simd *simd;
    struct qc_host_onednn *onednn; /* NULL where products are not oneDNN's */
    char description[96];
};

/* Threads that a kernel may take: the engine's, or 1 where the caller is inside a parallel region already. */
int qc_host_threads(const qc_host_engine *engine);
/* The calling thread's number inside the innermost region: 0 .. threads - 1. */
int qc_host_thread_index(void);
/* count * size_bytes aligned to 64, or NULL (overflow too). Freed with free. */
void *qc_host_alloc(size_t count, size_t size_bytes);

static inline size_t qc_host_min(size_t a, size_t b)
{
    return a < b ? a : b;
}

static inline size_t qc_host_ceil_div(size_t a, size_t b)
{
    return a / b + (a % b != 0);
}

#endif
