/* SPDX-License-Identifier: MIT
 *
 * hidden_store.h - hidden states between segments: one block a sequence, the first ones in memory up to a
 * limit, the others in a file without a name that vanishes with the process.
 *
 * Different blocks may be read and written by different threads at once.
 */
#ifndef QC_RUNTIME_HIDDEN_STORE_H
#define QC_RUNTIME_HIDDEN_STORE_H

#include "ir/support/diag.h"

typedef struct qc_hidden_store qc_hidden_store;

/* block_bytes[i]: of sequence i. Blocks that fit wholly into memory_bytes, taken in order, are in memory. The
 * file, if there is one, is in `directory` (NULL: TMPDIR, else where the system puts temporary files). NULL
 * after a diagnostic. */
qc_hidden_store *qc_hidden_store_create(
    qc_diag *diag, const size_t *block_bytes, size_t count, uint64_t memory_bytes, const char *directory);
void qc_hidden_store_destroy(qc_hidden_store *store);
/* The memory that such a store would take. */
uint64_t qc_hidden_store_memory(const size_t *block_bytes, size_t count, uint64_t memory_bytes);
/* The block, if it is in memory; NULL: it is read and written through a buffer. */
void *qc_hidden_store_block(const qc_hidden_store *store, size_t index);
qc_status qc_hidden_store_read(
    const qc_hidden_store *store, qc_diag *diag, size_t index, size_t offset, void *buffer, size_t bytes);
qc_status qc_hidden_store_write(
    const qc_hidden_store *store, qc_diag *diag, size_t index, size_t offset, const void *data, size_t bytes);

#endif
