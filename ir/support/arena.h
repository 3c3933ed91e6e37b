/* SPDX-License-Identifier: MIT
 *
 * arena.h - bump allocation with one lifetime per arena.
 *
 * All small memory of the library comes from arenas, so there is one policy for running out of it: the arena
 * calls its out-of-memory handler, which must not return (the tools print one line and end the process; an
 * embedding program may longjmp). Tensor-sized buffers are malloc'ed and checked where they are made.
 */
#ifndef QC_SUPPORT_ARENA_H
#define QC_SUPPORT_ARENA_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "qc/qc.h"

typedef void (*qc_oom_fn)(size_t size_bytes);

struct qc_arena_block;

typedef struct qc_arena {
    struct qc_arena_block *head;
    char *cursor, *limit;
    size_t total_bytes; /* taken from malloc so far */
    qc_oom_fn oom;
} qc_arena;

/* An empty arena; allocates nothing yet. `oom` may be NULL: then the process traps when memory runs out. */
void qc_arena_init(qc_arena *arena, qc_oom_fn oom);
/* Frees everything; the arena is empty and usable again. */
void qc_arena_fini(qc_arena *arena);
/* `size_bytes` zeroed bytes, aligned to 16. Never NULL. */
void *qc_arena_alloc(qc_arena *arena, size_t size_bytes);
/* count * size_bytes with overflow checked (overflow counts as out of memory). */
void *qc_arena_calloc(qc_arena *arena, size_t count, size_t size_bytes);
char *qc_arena_strndup(qc_arena *arena, const char *text, size_t length);
char *qc_arena_strdup(qc_arena *arena, const char *text);
char *qc_arena_printf(qc_arena *arena, const char *format, ...) QC_PRINTF(2, 3);
char *qc_arena_vprintf(qc_arena *arena, const char *format, va_list args) QC_PRINTF(2, 0);
/* Grows an array allocated from the arena: returns room for at least `need` items, old items copied.
 * *capacity is updated. The old room is not reused. */
void *qc_arena_grow(
    qc_arena *arena, void *items, size_t count, size_t *capacity, size_t need, size_t item_bytes);

#define QC_NEW(arena, T) ((T *)qc_arena_alloc((arena), sizeof(T)))
#define QC_NEW_ARRAY(arena, T, count) ((T *)qc_arena_calloc((arena), (count), sizeof(T)))

/* A growing array: QC_VEC(int) v = {0}; QC_PUSH(arena, &v, 3); v.items[i], v.count. */
#define QC_VEC(T)                                                                                            \
    struct {                                                                                                 \
        T *items;                                                                                            \
        size_t count, capacity;                                                                              \
    }
#define QC_PUSH(arena, vec, ...)                                                                             \
    ((vec)->items = (vec)->count < (vec)->capacity                                                           \
                        ? (vec)->items                                                                       \
                        : qc_arena_grow((arena), (vec)->items, (vec)->count, &(vec)->capacity,               \
                              (vec)->count + 1, sizeof *(vec)->items),                                       \
        (vec)->items[(vec)->count++] = (__VA_ARGS__))

#endif
