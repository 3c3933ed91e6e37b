/* SPDX-License-Identifier: MIT
 *
 * host_util.h - what the tests and the benchmark of the CPU kernels share: reproducible values in any type.
 */
#ifndef QC_TESTS_HOST_UTIL_H
#define QC_TESTS_HOST_UTIL_H

#include <stdlib.h>

#include "ir/dtype/codec.h"

static inline size_t dtype_bytes(qc_dtype dtype)
{
    return (size_t)qc_dtype_bits(dtype) / 8;
}

/* `count` values in (-amplitude, amplitude) from the generator that make_host_goldens.py has too, encoded as
 * dtype; the caller frees them. */
static inline void *random_values(uint32_t seed, size_t count, qc_dtype dtype, double amplitude)
{
    float *x = malloc((count + 1) * sizeof *x);
    void *out = malloc((count + 1) * 8);

    for (size_t i = 0; i < count; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = (float)(((double)(seed >> 8) / 8388608.0 - 1.0) * amplitude);
    }
    qc_encode_f32(dtype, x, out, count);
    free(x);
    return out;
}

static inline float *as_f32(qc_dtype dtype, const void *x, size_t count)
{
    float *out = malloc((count + 1) * sizeof *out);
    qc_decode_f32(dtype, x, out, count);
    return out;
}

#endif
