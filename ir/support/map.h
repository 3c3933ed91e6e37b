/* SPDX-License-Identifier: MIT
 *
 * map.h - hash map from byte strings to pointers, insertion order kept, in an arena. Keys are copied.
 */
#ifndef QC_SUPPORT_MAP_H
#define QC_SUPPORT_MAP_H

#include "ir/support/arena.h"

typedef struct qc_map_entry {
    const char *key; /* NUL-terminated copy */
    size_t key_length;
    uint64_t hash;
    void *value;
} qc_map_entry;

typedef struct qc_map {
    qc_arena *arena;
    qc_map_entry *entries; /* insertion order; count of them */
    size_t count, capacity;
    uint32_t *slots; /* entry index + 1, 0 empty */
    size_t slot_count;
} qc_map;

void qc_map_init(qc_map *map, qc_arena *arena);
/* The value of `key`, or NULL. */
void *qc_map_get(const qc_map *map, const char *key);
void *qc_map_get_n(const qc_map *map, const char *key, size_t length);
/* The entry of `key` or NULL: tells a NULL value from an absent key. */
qc_map_entry *qc_map_find_n(const qc_map *map, const char *key, size_t length);
/* Adds or replaces; true when the key was new. */
bool qc_map_set(qc_map *map, const char *key, void *value);
bool qc_map_set_n(qc_map *map, const char *key, size_t length, void *value);
/* The entry of `key`, made with a NULL value when there was none. */
qc_map_entry *qc_map_add_n(qc_map *map, const char *key, size_t length);
/* FNV-style 64-bit hash with a final mix; the same on every machine. */
uint64_t qc_hash_bytes(const void *bytes, size_t length);

#endif
