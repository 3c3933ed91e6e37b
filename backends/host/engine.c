/* SPDX-License-Identifier: MIT
 *
 * engine.c - choice of instruction set and of who multiplies.
 *
 * Products are ours, in f32, with one chain of fused multiply-adds an element, unless the processor
 * multiplies bf16 itself (AVX512_BF16, AMX): then they are oneDNN's. On f32 tiles of 64 rows our own kernel
 * is as fast as oneDNN and keeps the weights in 16 bits.
 */
#include "backends/host/engine.h"

#include <stdio.h>
#include <stdlib.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#include "backends/host/onednn.h"

enum { MAX_THREADS = 1024 };

static bool has_avx2(void)
{
#ifdef QC_HOST_X86
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
    return false;
#endif
}

static bool has_avx512(void)
{
#ifdef QC_HOST_X86
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
#else
    return false;
#endif
}

static const qc_host_simd *simd_named(const char *isa)
{
#ifdef QC_HOST_X86
    if (strncmp(isa, "avx512", 6) == 0)
        return &qc_host_simd_avx512;
    if (strcmp(isa, "avx2") == 0)
        return &qc_host_simd_avx2;
#endif
    (void)isa;
    return &qc_host_simd_generic;
}

static qc_status choose_isa(qc_host_engine *engine, qc_diag *diag, const char *isa)
{
    bool native = has_avx512() && qc_host_onednn_has_bf16();

    if (!isa)
        isa = native ? "avx512_bf16" : has_avx512() ? "avx512" : has_avx2() ? "avx2" : "generic";
    else if (strcmp(isa, "avx512_bf16") == 0 && !native)
        return qc_error(diag, "--isa", "avx512_bf16 needs a processor with AVX512_BF16, and oneDNN");
    else if (strcmp(isa, "avx512") == 0 && !has_avx512())
        return qc_error(diag, "--isa", "this processor has no AVX-512");
    else if (strcmp(isa, "avx2") == 0 && !has_avx2())
        return qc_error(diag, "--isa", "this processor has no AVX2");
    else if (strcmp(isa, "avx512_bf16") != 0 && strcmp(isa, "avx512") != 0 && strcmp(isa, "avx2") != 0 &&
             strcmp(isa, "generic") != 0)
        return qc_error(diag, "--isa", "'%s' is none of generic, avx2, avx512, avx512_bf16", isa);
    engine->simd = simd_named(isa);
    if (strcmp(isa, "avx512_bf16") == 0) {
        engine->onednn = qc_host_onednn_create(diag);
        if (!engine->onednn)
            return QC_ERROR;
    }
    return QC_OK;
}

qc_host_engine *qc_host_engine_create(qc_diag *diag, const qc_host_options *options)
{
    qc_host_engine *engine = calloc(1, sizeof *engine);
    int threads = options ? options->thread_count : 0;

    if (!engine) {
        qc_error(diag, "host", "out of memory");
        return NULL;
    }
#ifdef _OPENMP
    if (threads <= 0)
        threads = omp_get_max_threads();
#else
    threads = 1;
#endif
    engine->thread_count = threads < 1 ? 1 : threads > MAX_THREADS ? MAX_THREADS : threads;
    if (choose_isa(engine, diag, options ? options->isa : NULL) != QC_OK) {
        free(engine);
        return NULL;
    }
    if (engine->onednn)
        snprintf(engine->description, sizeof engine->description, "%s, bf16 products by %s",
            engine->simd->name, qc_host_onednn_version());
    else
        snprintf(engine->description, sizeof engine->description, "%s, f32 products", engine->simd->name);
    return engine;
}

void qc_host_engine_destroy(qc_host_engine *engine)
{
    if (!engine)
        return;
    qc_host_onednn_destroy(engine->onednn);
    free(engine);
}

int qc_host_engine_thread_count(const qc_host_engine *engine)
{
    return engine->thread_count;
}

const char *qc_host_engine_description(const qc_host_engine *engine)
{
    return engine->description;
}

int qc_host_threads(const qc_host_engine *engine)
{
#ifdef _OPENMP
    return omp_in_parallel() ? 1 : engine->thread_count;
#else
    (void)engine;
    return 1;
#endif
}

int qc_host_thread_index(void)
{
#ifdef _OPENMP
    return omp_get_thread_num();
#else
    return 0;
#endif
}

void *qc_host_alloc(size_t count, size_t size_bytes)
{
    size_t bytes;

    if (__builtin_mul_overflow(count, size_bytes, &bytes) || bytes > SIZE_MAX - 64)
        return NULL;
    return aligned_alloc(64, bytes ? (bytes + 63) / 64 * 64 : 64);
}
