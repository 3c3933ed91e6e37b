/* SPDX-License-Identifier: MIT
 *
 * random.h - one random generator, the same numbers on every machine: xoshiro256** (Blackman and Vigna, "Scrambled
 * linear pseudorandom number generators", 2021), seeded by splitmix64 (Steele, Lea and Flood, 2014).
 */
#ifndef QC_SUPPORT_RANDOM_H
#define QC_SUPPORT_RANDOM_H

#include <stdint.h>

typedef struct qc_random {
    uint64_t state[4];
} qc_random;

void qc_random_seed(qc_random *random, uint64_t seed);
uint64_t qc_random_next(qc_random *random);
/* In [0, 1): the upper 53 bits. */
double qc_random_unit(qc_random *random);
/* In [0, below), evenly; below > 0. */
uint64_t qc_random_below(qc_random *random, uint64_t below);

#endif
