/* SPDX-License-Identifier: MIT
 *
 * pack.c - dense forms of codes (see pack.h).
 */
#include "ir/dtype/pack.h"

#include "ir/dtype/codec_bits.h"

/* A little-endian pair of codes, turned where `flip` has bits, moves its high byte next to its low one. */
QC_WIDE static void pack_pairs(const uint8_t *codes, size_t pairs, uint16_t flip, uint8_t *packed)
{
    for (size_t i = 0; i < pairs; i++) {
        uint16_t pair;
        memcpy(&pair, codes + 2 * i, 2);
        pair = (uint16_t)((pair ^ flip) & 0x0f0fu);
        packed[i] = (uint8_t)(pair | pair >> 4);
    }
}

QC_WIDE static void pack_fours(const uint8_t *codes, size_t fours, uint8_t *packed)
{
    for (size_t i = 0; i < fours; i++) {
        uint32_t four;
        memcpy(&four, codes + 4 * i, 4);
        four = (four ^ 0x02020202u) & 0x03030303u;
        packed[i] = (uint8_t)(four | four >> 6 | four >> 12 | four >> 18);
    }
}

/* Eight codes, one a byte, to eight times `bits` bits: neighbours close up, then pairs, then fours. */
QC_INLINE uint64_t close_up(uint64_t eight, unsigned bits)
{
    const uint64_t bytes = UINT64_C(0x00ff00ff00ff00ff), halves = UINT64_C(0x0000ffff0000ffff);
    eight = (eight & bytes) | (eight >> 8 & bytes) << bits;
    eight = (eight & halves) | (eight >> 16 & halves) << (2 * bits);
    return (eight & 0xffffffffu) | eight >> 32 << (4 * bits);
}

void qc_pack_nibbles(const uint8_t *codes, size_t count, uint8_t *packed)
{
    uint8_t last = count > 0 ? codes[count - 1] & 15u : 0;
    pack_pairs(codes, count / 2, 0, packed);
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

/* Codes from `from` on, a multiple of 8, into the stream that ends at `end`; what follows them is zeroed. */
static void pack_eights(
    int bits, const int8_t *codes, size_t from, size_t columns, uint8_t *words, const uint8_t *end)
{
    const uint64_t ones = UINT64_C(0x0101010101010101), half = ones << (bits - 1);
    const uint64_t mask = ones * ((1u << bits) - 1);
    uint8_t *out = words + from / 8 * (size_t)bits;
    for (size_t i = from; i < columns; i += 8, out += bits) {
        const size_t n = columns - i < 8 ? columns - i : 8;
        uint64_t eight = half; /* codes that are not there are zeros of the stream */
        memcpy(&eight, codes + i, n);
        eight = close_up((eight ^ half) & mask, (unsigned)bits);
        if (end - out >= 8)
            memcpy(out, &eight, 8);
        else
            for (size_t k = 0; k < (size_t)(end - out); k++)
                out[k] = (uint8_t)(eight >> (8 * k));
    }
    while (out < end)
        *out++ = 0;
}

void qc_pack_words(int bits, const int8_t *codes, size_t columns, void *words)
{
    const uint8_t *from = (const uint8_t *)codes,
                  *end = (uint8_t *)words + 4 * qc_pack_word_count(bits, columns);
    size_t done = bits == 2 || bits == 4 ? columns / 8 * 8 : 0;
    if (bits == 4)
        pack_pairs(from, done / 2, 0x0808u, words);
    else if (bits == 2)
        pack_fours(from, done / 4, words);
    pack_eights(bits, codes, done, columns, words, end);
}

/* The reverse of close_up. */
QC_INLINE uint64_t spread(uint64_t packed, unsigned bits)
{
    const uint64_t low = (UINT64_C(1) << (4 * bits)) - 1, pair = (1u << (2 * bits)) - 1,
                   one = (1u << bits) - 1;
    uint64_t x = (packed & low) | (packed >> (4 * bits) & low) << 32;
    const uint64_t pairs = pair | pair << 32, codes = one * UINT64_C(0x0001000100010001);
    x = (x & pairs) | (x >> (2 * bits) & pairs) << 16;
    return (x & codes) | (x >> bits & codes) << 8;
}

void qc_unpack_words(int bits, const void *words, size_t columns, int8_t *codes)
{
    const uint64_t ones = UINT64_C(0x0101010101010101), half = ones << (bits - 1);
    const uint64_t high = ones << 7;
    const uint8_t *in = words, *end = in + 4 * qc_pack_word_count(bits, columns);
    for (size_t i = 0; i < columns; i += 8, in += bits) {
        const size_t n = columns - i < 8 ? columns - i : 8;
        uint64_t eight = 0;
        memcpy(&eight, in, end - in < 8 ? (size_t)(end - in) : 8);
        eight = spread(eight, (unsigned)bits);
        /* less 2^(bits-1), byte by byte; the highest bit of each byte is lent and taken back */
        eight = bits == 8 ? eight ^ half : ((eight | high) - half) ^ high;
        memcpy(codes + i, &eight, n);
    }
}
