/* SPDX-License-Identifier: MIT
 *
 * hadamard.c - products of rows with the matrices of ir/dtype/hadamard.h, split among threads.
 *
 * Matrices that are butterflies alone (powers of two, no signs) go through simd_hadamard.c in f32; every other one,
 * and all sums in f64, through the plan's own functions on a widened row. Both have one order of sums.
 */
#include <math.h>
#include <stdlib.h>

#include "backends/host/engine.h"
#include "ir/dtype/codec.h"

enum {
    PARALLEL_ELEMS = 1 << 15, /* less is not worth waking threads for */
    TASK_ELEMS = 1 << 12,
    FAR_BYTES = 16 << 20 /* a result of that size is not in a cache when it is read */
};

typedef struct job {
    const qc_host_engine *engine;
    const qc_hadamard *matrix;
    bool inverse, wide; /* wide: f64 */
    qc_dtype dtype;
    size_t size, bytes;
    float factor;
} job;

static void widened_rows(const job *j, const char *x, char *y, size_t rows, float *buffer, double *wide)
{
    for (size_t r = 0; r < rows; r++, x += j->size * j->bytes, y += j->size * j->bytes) {
        j->engine->simd->load(j->dtype, x, buffer, j->size);
        if (j->wide) {
            for (size_t i = 0; i < j->size; i++)
                wide[i] = (double)buffer[i];
            qc_hadamard_apply_f64(j->matrix, j->inverse, wide);
            for (size_t i = 0; i < j->size; i++)
                buffer[i] = (float)wide[i];
        } else {
            qc_hadamard_apply_f32(j->matrix, j->inverse, buffer);
        }
        j->engine->simd->store(j->dtype, buffer, y, j->size);
    }
}

qc_status qc_host_hadamard(const qc_host_engine *engine, qc_diag *diag, const char *where,
    const qc_host_rotation *rotation, const void *x, void *y, size_t count)
{
    const qc_hadamard *matrix = rotation->matrix;
    job j = {.engine = engine,
        .matrix = matrix,
        .inverse = rotation->inverse,
        .wide = rotation->wide,
        .dtype = rotation->dtype,
        .size = (size_t)matrix->size,
        .bytes = qc_host_dtype_bytes(rotation->dtype),
        .factor = (float)(1.0 / sqrt((double)matrix->size))};
    size_t threads = count < PARALLEL_ELEMS ? 1 : (size_t)qc_host_threads(engine);
    size_t each = j.size * (sizeof(float) + (j.wide ? sizeof(double) : 0));
    bool butterflies = !j.wide && matrix->known == 1 && !matrix->signs;

    if (count % j.size)
        return qc_error(diag, where, "%zu elements are no rows of %zu", count, j.size);
    if (count == 0)
        return QC_OK;
    size_t rows = count / j.size, at_once = j.size < TASK_ELEMS ? TASK_ELEMS / j.size : 1;
    size_t tasks = qc_host_ceil_div(rows, at_once), padded = qc_host_ceil_div(each, 64) * 64;
    char *memory = qc_host_alloc(threads, padded);
    if (!memory)
        return qc_error(diag, where, "out of memory for rows of %zu", j.size);
#pragma omp parallel num_threads((int)threads)
    {
        char *mine = memory + (size_t)qc_host_thread_index() * padded;
        double *wide = (double *)(void *)mine;
        float *buffer = (float *)(void *)(mine + (j.wide ? j.size * sizeof(double) : 0));
#pragma omp for schedule(static)
        for (size_t t = 0; t < tasks; t++) {
            size_t row = t * at_once, n = qc_host_min(rows - row, at_once), offset = row * j.size * j.bytes;
            if (butterflies)
                engine->simd->fwht(j.dtype, (const char *)x + offset, (char *)y + offset, n, j.size, j.factor,
                    buffer, count * j.bytes >= FAR_BYTES);
            else
                widened_rows(&j, (const char *)x + offset, (char *)y + offset, n, buffer, wide);
        }
    }
    free(memory);
    return QC_OK;
}
