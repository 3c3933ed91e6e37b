/* SPDX-License-Identifier: MIT
 *
 * columns.c - see columns.h.
 *
 * Shares of 16-bit numbers are counted in a histogram of all patterns; f32 numbers are sorted
 * by their keys, three passes of 11 bits.
 */
#include "ir/dtype/columns.h"

#include <math.h>
#include <stdlib.h>

#include "ir/dtype/codec.h"

/* ---- sums ---------------------------------------------------------------------------------------------- */

/* Columns at a time. */
enum { STRIP = 1024 };

void qc_columns_sum(qc_dtype model_dtype, const void *x, size_t rows, size_t columns, double *sums)
{
    const size_t elem_bytes = model_dtype == QC_F32 ? 4 : 2;
    float row[STRIP];
    for (size_t c = 0; c < columns; c += STRIP) {
        const size_t count = columns - c < STRIP ? columns - c : STRIP;
        for (size_t r = 0; r < rows; r++) {
            qc_decode_f32(model_dtype, (const char *)x + (r * columns + c) * elem_bytes, row, count);
            for (size_t i = 0; i < count; i++)
                sums[c + i] += (double)row[i];
        }
    }
}

float qc_columns_kept_sum(double sum)
{
    float kept = (float)sum;
    return fabsf(kept) < 1.0f ? (float)(rint((double)kept * 0x1p24) * 0x1p-24) : kept;
}

/* ---- shares -------------------------------------------------------------------------------------------- */

enum { PATTERNS = 65536, DIGIT = 2048 };

bool qc_share_from_observer(const char *name, size_t length, qc_share *share)
{
    static const struct {
        const char *observer;
        qc_share share;
    } rows[] = {
        {"percentile", {QC_SHARE_PERCENTILE, "percentile", 99.99}},
        {"recall_window", {QC_SHARE_WINDOW, "recall", 0.9999}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (strlen(rows[i].observer) == length && memcmp(rows[i].observer, name, length) == 0) {
            *share = rows[i].share;
            return true;
        }
    return false;
}

/* How many of `count` elements the range has to hold. A product that is a whole number but for its rounding counts as
 * that number. */
static size_t wanted_of(const qc_share *share, size_t count)
{
    double part = share->value * (double)count / (share->kind == QC_SHARE_PERCENTILE ? 100.0 : 1.0);
    double wanted = ceil(part * (1 - 0x1p-50));
    return !(wanted > 1) ? 1 : wanted < (double)count ? (size_t)wanted : count;
}

/* Keys that order as the numbers do, from 0 on. */
static uint32_t key_16(uint16_t bits)
{
    return bits & 0x8000u ? 0xffffu ^ bits : 0x8000u | bits;
}

static uint32_t key_32(uint32_t bits)
{
    return bits & 0x80000000u ? ~bits : 0x80000000u | bits;
}

static float number_of_16(qc_dtype dtype, uint32_t key)
{
    uint16_t bits = (uint16_t)(key & 0x8000u ? key ^ 0x8000u : 0xffffu ^ key);
    return (dtype == QC_BF16 ? qc_bf16_to_f32(bits) : qc_f16_to_f32(bits)) + 0.0f;
}

static float number_of_32(uint32_t key)
{
    return qc_f32_from_bits(key & 0x80000000u ? key ^ 0x80000000u : ~key) + 0.0f;
}

/* From a histogram of magnitudes or of keys. */
static void counted(
    const qc_share *share, qc_dtype dtype, const uint32_t *counts, size_t wanted, float *min, float *max)
{
    if (share->kind == QC_SHARE_PERCENTILE) {
        uint32_t a = 0;
        for (size_t sum = counts[0]; sum < wanted; sum += counts[a])
            a++;
        *max = dtype == QC_BF16 ? qc_bf16_to_f32((uint16_t)a) : qc_f16_to_f32((uint16_t)a);
        *min = -*max;
        return;
    }
    double least = INFINITY;
    size_t sum = 0;
    for (uint32_t low = 0, high = 0; low < PATTERNS; sum -= counts[low++]) {
        if (counts[low] == 0)
            continue;
        while (sum < wanted && high < PATTERNS)
            sum += counts[high++];
        if (sum < wanted)
            return;
        float from = number_of_16(dtype, low), to = number_of_16(dtype, high - 1);
        if ((double)to - (double)from < least) {
            least = (double)to - (double)from;
            *min = from;
            *max = to;
        }
    }
}

static void count_elements(const qc_share *share, const uint16_t *x, size_t rows, size_t columns,
    size_t stride_elems, uint32_t *counts)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < columns; c++) {
            uint16_t bits = x[r * stride_elems + c];
            counts[share->kind == QC_SHARE_PERCENTILE ? bits & 0x7fffu : key_16(bits)]++;
        }
}

/* Sorts `keys` by way of `other`; the result is in `other`. */
static void sort_keys(uint32_t *keys, uint32_t *other, size_t count)
{
    for (int shift = 0; shift < 33; shift += 11) {
        size_t starts[DIGIT + 1] = {0};
        for (size_t i = 0; i < count; i++)
            starts[(keys[i] >> shift & (DIGIT - 1)) + 1]++;
        for (size_t i = 1; i <= DIGIT; i++)
            starts[i] += starts[i - 1];
        for (size_t i = 0; i < count; i++)
            other[starts[keys[i] >> shift & (DIGIT - 1)]++] = keys[i];
        uint32_t *sorted = other;
        other = keys;
        keys = sorted;
    }
}

static void sorted(
    const qc_share *share, const uint32_t *keys, size_t count, size_t wanted, float *min, float *max)
{
    double least = INFINITY;
    if (share->kind == QC_SHARE_PERCENTILE) {
        *max = number_of_32(keys[wanted - 1]);
        *min = -*max;
        return;
    }
    for (size_t i = 0; i + wanted <= count; i++) {
        float from = number_of_32(keys[i]), to = number_of_32(keys[i + wanted - 1]);
        if ((double)to - (double)from < least) {
            least = (double)to - (double)from;
            *min = from;
            *max = to;
        }
    }
}

size_t qc_share_bytes(qc_dtype model_dtype, size_t rows, size_t columns)
{
    return (model_dtype == QC_F32 ? 2 * rows * columns : PATTERNS) * sizeof(uint32_t);
}

bool qc_share_range(const qc_share *share, qc_dtype model_dtype, const void *x, size_t rows, size_t columns,
    size_t stride_elems, float *min, float *max)
{
    const size_t count = rows * columns, wanted = wanted_of(share, count);
    uint32_t *memory = calloc(qc_share_bytes(model_dtype, rows, columns) / sizeof *memory, sizeof *memory);
    *min = *max = 0;
    if (!memory)
        return false;
    if (model_dtype != QC_F32) {
        count_elements(share, x, rows, columns, stride_elems, memory);
        counted(share, model_dtype, memory, wanted, min, max);
    } else {
        const bool magnitudes = share->kind == QC_SHARE_PERCENTILE;
        for (size_t r = 0; r < rows; r++)
            for (size_t c = 0; c < columns; c++) {
                uint32_t bits = qc_f32_bits(((const float *)x)[r * stride_elems + c]);
                memory[r * columns + c] = key_32(magnitudes ? bits & 0x7fffffffu : bits);
            }
        sort_keys(memory, memory + count, count);
        sorted(share, memory + count, count, wanted, min, max);
    }
    free(memory);
    return true;
}
