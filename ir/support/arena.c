/* SPDX-License-Identifier: MIT
 *
 * arena.c - bump allocation. Blocks start at 64 KiB and double up to 1 MiB; a request that would waste most
 * of a block gets one of its own, linked behind the current one so that small requests go on filling that.
 *
 * Invariant: the bytes from cursor to limit are zero (blocks come from calloc and are handed out once).
 */
#include "ir/support/arena.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    ALIGNMENT_BYTES = 16,
    FIRST_BLOCK_BYTES = 64 * 1024,
    LARGEST_BLOCK_BYTES = 1024 * 1024,
};

struct qc_arena_block {
    struct qc_arena_block *next;
    size_t size_bytes; /* of the block with this header */
};

_Static_assert(sizeof(struct qc_arena_block) % ALIGNMENT_BYTES == 0, "blocks start their room aligned");

static QC_COLD void out_of_memory(const qc_arena *arena, size_t size_bytes)
{
    if (arena->oom)
        arena->oom(size_bytes);
    __builtin_trap(); /* the handler must not return */
}

void qc_arena_init(qc_arena *arena, qc_oom_fn oom)
{
    *arena = (qc_arena){.oom = oom};
}

void qc_arena_fini(qc_arena *arena)
{
    struct qc_arena_block *block = arena->head;
    while (block) {
        struct qc_arena_block *next = block->next;
        free(block);
        block = next;
    }
    qc_arena_init(arena, arena->oom);
}

static struct qc_arena_block *new_block(qc_arena *arena, size_t size_bytes)
{
    struct qc_arena_block *block = calloc(1, size_bytes);
    if (!block)
        out_of_memory(arena, size_bytes);
    block->size_bytes = size_bytes;
    arena->total_bytes += size_bytes;
    return block;
}

static void *alloc_slow(qc_arena *arena, size_t size_bytes)
{
    const size_t header = sizeof(struct qc_arena_block);
    size_t block_bytes = FIRST_BLOCK_BYTES;
    while (block_bytes < LARGEST_BLOCK_BYTES && block_bytes <= arena->total_bytes)
        block_bytes *= 2;
    if (size_bytes > block_bytes / 4) {
        struct qc_arena_block *own = new_block(arena, header + size_bytes);
        if (arena->head) {
            own->next = arena->head->next;
            arena->head->next = own;
        } else {
            arena->head = own; /* cursor == limit == NULL: the next small request makes a block */
        }
        return (char *)own + header;
    }
    struct qc_arena_block *block = new_block(arena, block_bytes);
    block->next = arena->head;
    arena->head = block;
    char *room = (char *)block + header;
    arena->cursor = room + size_bytes;
    arena->limit = (char *)block + block_bytes;
    return room;
}

void *qc_arena_alloc(qc_arena *arena, size_t size_bytes)
{
    if (size_bytes > SIZE_MAX / 2)
        out_of_memory(arena, size_bytes);
    size_bytes =
        size_bytes ? (size_bytes + ALIGNMENT_BYTES - 1) & ~(size_t)(ALIGNMENT_BYTES - 1) : ALIGNMENT_BYTES;
    if (size_bytes > (size_t)(arena->limit - arena->cursor))
        return alloc_slow(arena, size_bytes);
    void *room = arena->cursor;
    arena->cursor += size_bytes;
    return room;
}

void *qc_arena_calloc(qc_arena *arena, size_t count, size_t size_bytes)
{
    size_t total;
    if (__builtin_mul_overflow(count, size_bytes, &total))
        out_of_memory(arena, SIZE_MAX);
    return qc_arena_alloc(arena, total);
}

char *qc_arena_strndup(qc_arena *arena, const char *text, size_t length)
{
    if (length > SIZE_MAX / 2)
        out_of_memory(arena, length);
    char *copy = qc_arena_alloc(arena, length + 1);
    if (length)
        memcpy(copy, text, length);
    return copy;
}

char *qc_arena_strdup(qc_arena *arena, const char *text)
{
    return qc_arena_strndup(arena, text, strlen(text));
}

char *qc_arena_vprintf(qc_arena *arena, const char *format, va_list args)
{
    char room[256]; /* most messages and names fit */
    va_list again;
    va_copy(again, args);
    int length = vsnprintf(room, sizeof room, format, args);
    char *text;
    if (length < (int)sizeof room) {
        text = qc_arena_strndup(arena, room, length < 0 ? 0 : (size_t)length);
    } else {
        text = qc_arena_alloc(arena, (size_t)length + 1);
        vsnprintf(text, (size_t)length + 1, format, again);
    }
    va_end(again);
    return text;
}

char *qc_arena_printf(qc_arena *arena, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *text = qc_arena_vprintf(arena, format, args);
    va_end(args);
    return text;
}

void *qc_arena_grow(
    qc_arena *arena, void *items, size_t count, size_t *capacity, size_t need, size_t item_bytes)
{
    if (need <= *capacity)
        return items;
    size_t larger = *capacity > SIZE_MAX / 2 ? need : *capacity * 2;
    if (larger < 8)
        larger = 8;
    if (larger < need)
        larger = need;
    void *room = qc_arena_calloc(arena, larger, item_bytes);
    if (count)
        memcpy(room, items, count * item_bytes);
    *capacity = larger;
    return room;
}
