/* SPDX-License-Identifier: MIT
 *
 * progress.h - how a long job tells whoever started it how far it is.
 */
#ifndef QC_RUNTIME_PROGRESS_H
#define QC_RUNTIME_PROGRESS_H

#include <stdint.h>

/* `done` of `total` units of `what` ("calibrate", "write") are finished; called by one thread at a time, done never
 * falls while `what` stays the same, and done == total comes last. `unit` is "B" for bytes, else a word in
 * the plural
 * ("tokens"). A caller that wants none passes no function. */
typedef void (*qc_progress_fn)(void *user, const char *what, const char *unit, uint64_t done, uint64_t total);

#endif
