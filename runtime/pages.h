/* SPDX-License-Identifier: MIT
 *
 * pages.h - the memory of the KV caches of one sequence, in pages that come as tokens do (PagedAttention, Kwon
 * et al., 2023).
 *
 * A page holds page_tokens tokens of one cache. The pages of all caches for the same tokens are one block of
 * memory; caches whose pages hold different numbers of tokens have blocks of their own. What is stored are
 * rows: one of row_bytes whole bytes for each token and head.
 */
#ifndef QC_RUNTIME_PAGES_H
#define QC_RUNTIME_PAGES_H

#include "ir/support/diag.h"

typedef struct qc_cache_layout {
    size_t heads, row_bytes;
    size_t page_tokens;
    bool by_head; /* a page is [heads, page_tokens, row], else [page_tokens, heads, row] */
} qc_cache_layout;

/* Where a row lies within its page. */
static inline size_t qc_cache_row_offset(const qc_cache_layout *l, size_t token, size_t head)
{
    size_t at = token % l->page_tokens;
    return (l->by_head ? head * l->page_tokens + at : at * l->heads + head) * l->row_bytes;
}

typedef struct qc_pages qc_pages;

/* Caches with room for `capacity` tokens, none of which has memory yet. NULL after a diagnostic. */
qc_pages *qc_pages_create(qc_diag *diag, const qc_cache_layout *layouts, size_t count, size_t capacity);
void qc_pages_destroy(qc_pages *pages);
/* Memory for tokens 0 to tokens - 1, at most the capacity; what is there stays. */
qc_status qc_pages_reserve(qc_pages *pages, qc_diag *diag, size_t tokens);
/* The pages of cache i: page p is qc_pages_table(pages)[i][p]. */
void *const *const *qc_pages_table(const qc_pages *pages);
/* Bytes that `tokens` tokens take, whole pages. False when the number overflows. */
bool qc_pages_bytes(const qc_cache_layout *layouts, size_t count, size_t tokens, uint64_t *bytes);

#endif
