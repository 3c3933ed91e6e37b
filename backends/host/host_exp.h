/* SPDX-License-Identifier: MIT
 *
 * host_exp.h - exp and tanh of f32 by additions and multiplications alone: no libm, so every machine and
 * every vector width gives the same bits.
 *
 * exp: n = round(x / ln 2), r = x - n ln 2 in two parts (Cody and Waite, 1980), e^r by a polynomial of degree
 * 6 (Taylor's, moved to minimax on [-ln 2 / 2, ln 2 / 2]), times 2^n through the exponent field. Results that
 * would be subnormal are 0. tanh: odd polynomial below 0.625, through exp above, as in Cephes (Moshier).
 */
#ifndef QC_HOST_EXP_H
#define QC_HOST_EXP_H

#include "ir/dtype/codec.h"

static inline float exp_f32(float x)
{
    const float shifter = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer */
    float clamped = x > 88.8f ? 88.8f : x;
    clamped = clamped < -87.4f ? -87.4f : clamped;
    float shifted = clamped * 1.44269504088896341f + shifter;
    float n = shifted - shifter;
    float r = (clamped - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = (p * r) * r + r + 1.0f;
    /* 2^n as 2^floor(n / 2) * 2^ceil(n / 2): n itself may be 128 */
    int32_t exponent = (int32_t)(qc_f32_bits(shifted) - qc_f32_bits(shifter));
    int32_t low = exponent >> 1;
    float y = p * qc_f32_from_bits((uint32_t)(low + 127) << 23) *
              qc_f32_from_bits((uint32_t)(exponent - low + 127) << 23);
    y = x < -87.33654f ? 0.0f : y;
    return x > 88.72283f ? qc_f32_from_bits(0x7f800000u) : y;
}

static inline float tanh_f32(float x)
{
    float a = qc_f32_from_bits(qc_f32_bits(x) & 0x7fffffffu);
    float z = x * x;
    float p = -5.70498872745e-3f;
    p = p * z + 2.06390887954e-2f;
    p = p * z - 5.37397155531e-2f;
    p = p * z + 1.33314422036e-1f;
    p = p * z - 3.33332819422e-1f;
    float small = p * z * x + x;
    float large = 1.0f - 2.0f / (exp_f32(a + a) + 1.0f);
    large = qc_f32_from_bits(qc_f32_bits(large) | (qc_f32_bits(x) & 0x80000000u));
    return a < 0.625f ? small : large;
}

#endif
