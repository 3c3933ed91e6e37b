/* SPDX-License-Identifier: MIT
 *
 * key.h - floats as ordered integers: key(a) < key(b) where a < b, -0 below +0, NaN beyond the infinities.
 * The map is its own inverse.
 */
#ifndef QC_HOST_KEY_H
#define QC_HOST_KEY_H

#include "ir/dtype/codec.h"

static inline int32_t qc_host_key32(uint32_t bits)
{
    return (int32_t)(bits ^ (bits & 0x80000000u ? 0x7fffffffu : 0u));
}

static inline int16_t qc_host_key16(uint16_t bits)
{
    return (int16_t)(bits ^ (bits & 0x8000u ? 0x7fffu : 0u));
}

#endif
