/* SPDX-License-Identifier: MIT
 *
 * pack.h - codes, one byte each, to and from the dense forms of file formats.
 *
 * nibbles: element 2k in the low half of byte k, element 2k + 1 in the high half (compressed-tensors'
 * nvfp4-pack-quantized and mxfp4-pack-quantized). words: integers of `bits` bits as offset binary, code +
 * 2^(bits-1), in one dense little-endian stream over the 32-bit words of a row, lowest bit first; an element
 * may lie in two words (pack-quantized). Buffers of words are little-endian and need no alignment.
 */
#ifndef QC_DTYPE_PACK_H
#define QC_DTYPE_PACK_H

#include "qc/dtype.h"

/* (count + 1) / 2 bytes; the high half behind an odd last element is 0. Only the low four bits of a code
 * count. `packed` may be the same buffer as `codes`. */
void qc_pack_nibbles(const uint8_t *codes, size_t count, uint8_t *packed);
void qc_unpack_nibbles(const uint8_t *packed, size_t count, uint8_t *codes);

/* 32-bit words that a row of `columns` integers of 1 to 8 bits takes. */
size_t qc_pack_word_count(int bits, size_t columns);
/* One row; codes within [-2^(bits-1), 2^(bits-1) - 1], the bits behind the last element are 0. */
void qc_pack_words(int bits, const int8_t *codes, size_t columns, void *words);
void qc_unpack_words(int bits, const void *words, size_t columns, int8_t *codes);

#endif
