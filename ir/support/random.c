/* SPDX-License-Identifier: MIT
 *
 * random.c - see random.h.
 */
#include "ir/support/random.h"

#include <stddef.h>

static uint64_t rotate(uint64_t x, int by)
{
    return (x << by) | (x >> (64 - by));
}

void qc_random_seed(qc_random *random, uint64_t seed)
{
    for (size_t i = 0; i < 4; i++) {
        seed += 0x9e3779b97f4a7c15u;
        uint64_t z = seed;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        random->state[i] = z ^ (z >> 31);
    }
}

uint64_t qc_random_next(qc_random *random)
{
    uint64_t *s = random->state;
    uint64_t result = rotate(s[1] * 5, 7) * 9, shifted = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= shifted;
    s[3] = rotate(s[3], 45);
    return result;
}

double qc_random_unit(qc_random *random)
{
    return (double)(qc_random_next(random) >> 11) * 0x1p-53;
}

/* Draws that would favour small numbers are thrown away. */
uint64_t qc_random_below(qc_random *random, uint64_t below)
{
    uint64_t limit = UINT64_MAX - UINT64_MAX % below, draw;
    do
        draw = qc_random_next(random);
    while (draw >= limit);
    return draw % below;
}
