/* SPDX-License-Identifier: MIT
 *
 * codec_bits.h - the branch-free bit arithmetic of the narrow float codecs, inline so that loops over arrays
 * vectorise. Internal to ir/dtype/; everybody else calls codec.h.
 *
 * Encoding, for a format with `mant` mantissa bits whose smallest normal is 2^emin (IEEE 754 layout, OCP
 * FP8):
 * - normal results: add half a unit in the last place less one, plus the last kept bit (ties to even),
 * rebias, shift; a carry out of the mantissa runs into the exponent, which is what rounding up to the next
 * binade means;
 * - subnormal results: adding a power of two whose unit in the last place in f32 is the format's quantum lets
 * the f32 adder do the rounding; the low bits of the sum are the code. Invariant: the rounding mode is
 * round-to-nearest, ties to even, and subnormal f32 are not flushed.
 */
#ifndef QC_DTYPE_CODEC_BITS_H
#define QC_DTYPE_CODEC_BITS_H

#include "ir/dtype/codec.h"

/* Several copies of a loop, the widest one the processor has chosen when the program is loaded. Sanitizers
 * run their checks in code that is not ready that early, so they get the plain one. */
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__) &&                 \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define QC_WIDE __attribute__((target_clones("default", "avx2", "avx512f")))
#else
#define QC_WIDE
#endif
#if defined(__GNUC__)
#define QC_INLINE static inline __attribute__((always_inline))
#else
#define QC_INLINE static inline
#endif

#define QC_F32_INF 0x7f800000u

/* Code of the magnitude whose f32 bits are `a` (finite, below the overflow limit). emin: exponent of the
 * smallest normal, mant: mantissa bits. */
QC_INLINE uint32_t qc_bits_encode(uint32_t a, int emin, int mant)
{
    const uint32_t shift = 23u - (uint32_t)mant;
    const uint32_t min_normal = (uint32_t)(127 + emin) << 23;
    const uint32_t magic = (uint32_t)(127 + emin - mant + 23) << 23;
    const uint32_t rebias = (uint32_t)(126 + emin) << 23;
    uint32_t normal = (a + ((1u << (shift - 1)) - 1u) + ((a >> shift) & 1u) - rebias) >> shift;
    uint32_t tiny = qc_f32_bits(qc_f32_from_bits(a) + qc_f32_from_bits(magic)) - magic;
    return a < min_normal ? tiny : normal;
}

/* f32 bits of the magnitude code `c`, infinity and NaN codes aside. */
QC_INLINE uint32_t qc_bits_decode(uint32_t c, int emin, int mant)
{
    const uint32_t shift = 23u - (uint32_t)mant;
    const uint32_t rebias = (uint32_t)(126 + emin) << 23;
    const uint32_t min_normal = (uint32_t)(127 + emin) << 23;
    uint32_t normal = (c << shift) + rebias;
    /* 2^emin * (1 + m/2^mant) - 2^emin, exact, and no subnormal f32 on the way */
    uint32_t tiny = qc_f32_bits(qc_f32_from_bits((c << shift) + min_normal) - qc_f32_from_bits(min_normal));
    return (c >> mant) == 0 ? tiny : normal;
}

/* A NaN becomes the positive quiet one. Masks instead of a choice: compilers thread the constant through all
 * that follows, and the loop around it is then no longer one that vectorises. */
QC_INLINE uint32_t qc_bits_canonical(uint32_t u)
{
    uint32_t nan = 0u - (uint32_t)((u & 0x7fffffffu) > QC_F32_INF);
    return (u & ~nan) | (0x7fc00000u & nan);
}

/* Bits of an f32 rounded to bf16, for numbers, infinities and the canonical NaN, which all come out right. In
 * 32-bit steps only: narrowing and widening again would cost more than the rounding. */
QC_INLINE uint32_t qc_bits_round_bf16(uint32_t u)
{
    return (u + 0x7fffu + ((u >> 16) & 1u)) & 0xffff0000u;
}

QC_INLINE uint32_t qc_bits_f16_encode(uint32_t u)
{
    uint32_t a = u & 0x7fffffffu, sign = (u >> 16) & 0x8000u;
    uint32_t code = a >= 0x477ff000u ? 0x7c00u : qc_bits_encode(a, -14, 10); /* 65520 and up: infinity */
    return sign | (a > QC_F32_INF ? 0x7e00u : code);
}

/* With the bias of the exponent moved, a normal number is itself. Below the smallest one a subtraction
 * normalises; its result is the smaller of the two exactly there. What is then 65536 or more was infinity or
 * NaN. Choices in floats: those in integers of 16 bits would be made there and widened. */
QC_INLINE uint32_t qc_bits_f16_decode(uint32_t h)
{
    const uint32_t moved = ((h & 0x7fffu) << 13) + 0x38000000u;
    const float normal = qc_f32_from_bits(moved), tiny = qc_f32_from_bits(moved + 0x00800000u) - 0x1p-14f;
    const float x = tiny < normal ? tiny : normal;
    const uint32_t special = x >= 65536.0f ? QC_F32_INF : 0u, quiet = x > 65536.0f ? 0x00400000u : 0u;
    return ((h & 0x8000u) << 16) | qc_f32_bits(x) | special | quiet;
}

/* As qc_bits_round_bf16, to f16: below its smallest normal the f32 adder rounds to multiples of 2^-24. */
QC_INLINE uint32_t qc_bits_round_f16(uint32_t u)
{
    uint32_t sign = u & 0x80000000u;
    int32_t a = (int32_t)(u & 0x7fffffffu);
    uint32_t tiny = qc_f32_bits((qc_f32_from_bits((uint32_t)a) + 0.5f) - 0.5f);
    int32_t normal = (int32_t)(((uint32_t)a + 0xfffu + ((uint32_t)a >> 13 & 1u)) & ~0x1fffu);
    int32_t most = a > (int32_t)QC_F32_INF ? a : (int32_t)QC_F32_INF; /* 65536 and up, but a NaN is itself */
    normal = normal > 0x477fffff ? most : normal;
    return sign | (a < 0x38800000 ? tiny : (uint32_t)normal);
}

/* The magnitude goes through a clamp to the overflow limit first; a NaN keeps its sign, as in torch. */
QC_INLINE uint32_t qc_bits_f8e4m3_encode(uint32_t u, bool saturate)
{
    uint32_t a = u & 0x7fffffffu, sign = (u >> 24) & 0x80u;
    const uint32_t limit =
        saturate ? 0x43e00000u : 0x43f00000u; /* 448, or 480, which encodes as 0x7f = NaN */
    uint32_t code = qc_bits_encode(a < limit ? a : limit, -6, 3);
    return sign | (a > QC_F32_INF ? 0x7fu : code);
}

QC_INLINE uint32_t qc_bits_f8e4m3_decode(uint32_t c)
{
    uint32_t m = c & 0x7fu, sign = (c & 0x80u) << 24;
    return sign | (m == 0x7fu ? 0x7fc00000u : qc_bits_decode(m, -6, 3));
}

QC_INLINE uint32_t qc_bits_f8e5m2_encode(uint32_t u, bool saturate)
{
    uint32_t a = u & 0x7fffffffu, sign = (u >> 24) & 0x80u;
    const uint32_t limit =
        saturate ? 0x47600000u : 0x47800000u; /* 57344, or 65536, which encodes as infinity */
    uint32_t code = qc_bits_encode(a < limit ? a : limit, -14, 2);
    return sign | (a > QC_F32_INF ? 0x7fu : code);
}

QC_INLINE uint32_t qc_bits_f8e5m2_decode(uint32_t c)
{
    uint32_t m = c & 0x7fu, sign = (c & 0x80u) << 24;
    uint32_t special = QC_F32_INF | (m > 0x7cu ? 0x400000u : 0u);
    return sign | (m >= 0x7cu ? special : qc_bits_decode(m, -14, 2));
}

/* Sign of the zero as compressed-tensors packs it: +-0 is nibble 0, a negative that rounds to zero nibble 8.
 * No NaN in this format: it becomes a zero, the nearest-value search of the same package finding none nearer.
 */
QC_INLINE uint32_t qc_bits_f4e2m1_encode(uint32_t u)
{
    const uint32_t six = 0x40c00000u;
    uint32_t a = u & 0x7fffffffu, sign = (a == 0 ? 0u : u >> 28) & 8u;
    uint32_t code = qc_bits_encode(a < six ? a : six, 0, 1);
    return a > QC_F32_INF ? 0u : (sign | code);
}

QC_INLINE uint32_t qc_bits_f4e2m1_decode(uint32_t nibble)
{
    return ((nibble & 8u) << 28) | qc_bits_decode(nibble & 7u, 0, 1);
}

/* The exponent of |x| rounded to nearest; the tie goes up, but at the bottom (a significand of 1.5 is nearer
 * to the even one of the two only there); infinities and NaN are NaN. As torch's float8_e8m0fnu. */
QC_INLINE uint32_t qc_bits_f8e8m0_encode(uint32_t u)
{
    uint32_t a = u & 0x7fffffffu, exponent = a >> 23, fraction = a & 0x7fffffu;
    uint32_t up = (fraction > 0x400000u) | ((fraction == 0x400000u) & (exponent > 0));
    return exponent == 255u ? 255u : exponent + up;
}

QC_INLINE uint32_t qc_bits_f8e8m0_decode(uint32_t code)
{
    return code == 255u ? 0x7fc00000u : code == 0 ? 0x00400000u : code << 23;
}

/* Round half to even and saturate to [lo, hi], both of magnitude below 2^22; NaN becomes 0. The sum puts the
 * integer into the low mantissa bits. */
QC_INLINE int32_t qc_bits_to_small_int(float x, float lo, float hi)
{
    x = x == x ? x : 0.0f;
    x = x > lo ? x : lo;
    x = x < hi ? x : hi;
    return (int32_t)(qc_f32_bits(x + 12582912.0f) - 0x4b400000u);
}

#endif
