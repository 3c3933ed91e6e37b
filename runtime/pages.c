/* SPDX-License-Identifier: MIT
 *
 * pages.c - see pages.h.
 */
#include "runtime/pages.h"

#include <stdlib.h>

enum { PAGE_ALIGNMENT = 16, BLOCK_ALIGNMENT = 64 };

/* Caches whose pages hold as many tokens share blocks. */
typedef struct page_group {
    size_t page_tokens, block_bytes;
    size_t count, most; /* blocks: that there are, that the capacity asks for */
    void **blocks;
} page_group;

struct qc_pages {
    size_t cache_count, group_count;
    page_group *groups;
    size_t *group_of, *offset; /* of a cache: which blocks, where in each */
    void ***table;
};

/* What a page takes, rounded up; 0: too much. */
static size_t page_bytes(const qc_cache_layout *l)
{
    size_t bytes;
    if (__builtin_mul_overflow(l->heads, l->row_bytes, &bytes) ||
        __builtin_mul_overflow(bytes, l->page_tokens, &bytes) || bytes > SIZE_MAX / 2)
        return 0;
    return (bytes + PAGE_ALIGNMENT - 1) / PAGE_ALIGNMENT * PAGE_ALIGNMENT;
}

static size_t block_count(size_t tokens, size_t page_tokens)
{
    return tokens / page_tokens + (tokens % page_tokens != 0);
}

bool qc_pages_bytes(const qc_cache_layout *layouts, size_t count, size_t tokens, uint64_t *bytes)
{
    *bytes = 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t all;
        size_t page = page_bytes(&layouts[i]);
        if (page == 0 || __builtin_mul_overflow(page, block_count(tokens, layouts[i].page_tokens), &all) ||
            __builtin_add_overflow(*bytes, all, bytes))
            return false;
    }
    return true;
}

/* The group of caches with such pages, a new one if need be. */
static size_t group_with(qc_pages *p, size_t page_tokens, size_t capacity)
{
    size_t g = 0;
    while (g < p->group_count && p->groups[g].page_tokens != page_tokens)
        g++;
    if (g == p->group_count) {
        p->groups[p->group_count++] =
            (page_group){.page_tokens = page_tokens, .most = block_count(capacity, page_tokens)};
    }
    return g;
}

static bool make_tables(qc_pages *p, const qc_cache_layout *layouts, size_t capacity)
{
    for (size_t i = 0; i < p->cache_count; i++) {
        size_t bytes = page_bytes(&layouts[i]);
        size_t g = p->group_of[i] = group_with(p, layouts[i].page_tokens, capacity);
        p->offset[i] = p->groups[g].block_bytes;
        if (bytes == 0 || __builtin_add_overflow(p->groups[g].block_bytes, bytes, &p->groups[g].block_bytes))
            return false;
        p->table[i] = calloc(p->groups[g].most + 1, sizeof **p->table);
        if (!p->table[i])
            return false;
    }
    for (size_t g = 0; g < p->group_count; g++) {
        size_t *bytes = &p->groups[g].block_bytes;
        if (__builtin_add_overflow(*bytes, BLOCK_ALIGNMENT - 1, bytes))
            return false;
        *bytes = *bytes / BLOCK_ALIGNMENT * BLOCK_ALIGNMENT;
        p->groups[g].blocks = calloc(p->groups[g].most + 1, sizeof *p->groups[g].blocks);
        if (!p->groups[g].blocks)
            return false;
    }
    return true;
}

qc_pages *qc_pages_create(qc_diag *diag, const qc_cache_layout *layouts, size_t count, size_t capacity)
{
    qc_pages *p = calloc(1, sizeof *p);
    if (p) {
        p->cache_count = count;
        p->groups = calloc(count + 1, sizeof *p->groups);
        p->group_of = calloc(count + 1, sizeof *p->group_of);
        p->offset = calloc(count + 1, sizeof *p->offset);
        p->table = calloc(count + 1, sizeof *p->table);
        if (p->groups && p->group_of && p->offset && p->table && make_tables(p, layouts, capacity))
            return p;
        qc_pages_destroy(p);
    }
    qc_error(diag, "", "out of memory for a cache of %zu tokens", capacity);
    return NULL;
}

void qc_pages_destroy(qc_pages *pages)
{
    if (!pages)
        return;
    for (size_t g = 0; pages->groups && g < pages->group_count; g++) {
        for (size_t i = 0; i < pages->groups[g].count; i++)
            free(pages->groups[g].blocks[i]);
        free(pages->groups[g].blocks);
    }
    for (size_t i = 0; pages->table && i < pages->cache_count; i++)
        free(pages->table[i]);
    free(pages->groups);
    free(pages->group_of);
    free(pages->offset);
    free(pages->table);
    free(pages);
}

qc_status qc_pages_reserve(qc_pages *pages, qc_diag *diag, size_t tokens)
{
    for (size_t g = 0; g < pages->group_count; g++) {
        page_group *group = &pages->groups[g];
        size_t wanted = block_count(tokens, group->page_tokens);
        if (wanted > group->most)
            return qc_error(diag, "", "%zu tokens do not fit into the pages of a cache", tokens);
        for (; group->count < wanted; group->count++) {
            char *block = aligned_alloc(BLOCK_ALIGNMENT, group->block_bytes);
            if (!block)
                return qc_error(diag, "", "out of memory for the KV cache of token %zu",
                    group->count * group->page_tokens);
            group->blocks[group->count] = block;
            for (size_t i = 0; i < pages->cache_count; i++)
                if (pages->group_of[i] == g)
                    pages->table[i][group->count] = block + pages->offset[i];
        }
    }
    return QC_OK;
}

void *const *const *qc_pages_table(const qc_pages *pages)
{
    return (void *const *const *)pages->table;
}
