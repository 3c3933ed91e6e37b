/* SPDX-License-Identifier: MIT
 *
 * pack.c - dense forms of codes (see pack.h).
 */
#include "ir/dtype/pack.h"

#include "ir/dtype/codec_bits.h"

/* A little-endian pair of codes moves its high byte next to its low one. */
QC_WIDE static void pack_pairs(const uint8_t *codes, size_t pairs, uint8_t *packed)
{
    for (size_t i = 0; i < pairs; i++) {
        uint16_t pair;
        memcpy(&pair, codes + 2 * i, 2);
        pair &= 0x0f0fu;
        packed[i] = (uint8_t)(pair | pair >> 4);
    }
}

void qc_pack_nibbles(const uint8_t *codes, size_t count, uint8_t *packed)
{
    uint8_t last = count > 0 ? codes[count - 1] & 15u : 0;
    pack_pairs(codes, count / 2, packed);
    if (count % 2 != 0)
        packed[count / 2] = last;
}

QC_WIDE void qc_unpack_nibbles(const uint8_t *packed, size_t count, uint8_t *codes)
{
    for (size_t i = 0; i < count / 2; i++) {
        codes[2 * i] = packed[i] & 15u;
        codes[2 * i + 1] = packed[i] >> 4;
    }
    if (count % 2 != 0)
        codes[count - 1] = packed[count / 2] & 15u;
}

size_t qc_pack_word_count(int bits, size_t columns)
{
    return columns / 32 * (size_t)bits + (columns % 32 * (size_t)bits + 31) / 32;
}

void qc_pack_words(int bits, const int8_t *codes, size_t columns, void *words)
{
    const uint32_t half = 1u << (bits - 1), mask = 2 * half - 1;
    uint8_t *out = words, *end = out + 4 * qc_pack_word_count(bits, columns);
    for (size_t i = 0; i < columns; i += 8) {
        size_t n = columns - i < 8 ? columns - i : 8;
        uint64_t eight = 0;
        for (size_t j = 0; j < n; j++)
            eight |= (uint64_t)(((uint32_t)codes[i + j] + half) & mask) << (j * (size_t)bits);
        for (size_t j = 0; j < (n * (size_t)bits + 7) / 8; j++)
            *out++ = (uint8_t)(eight >> (8 * j));
    }
    while (out < end)
        *out++ = 0;
}

void qc_unpack_words(int bits, const void *words, size_t columns, int8_t *codes)
{
    const int32_t half = 1 << (bits - 1);
    for (size_t i = 0; i < columns; i++)
        codes[i] = (int8_t)((int32_t)qc_code_get(words, bits, i) - half);
}
