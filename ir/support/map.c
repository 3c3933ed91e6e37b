/* SPDX-License-Identifier: MIT
 *
 * map.c - open addressing with linear probing over a dense array of entries, as Python's dict has it: the
 * entries keep insertion order, the slots hold their indices. At most half of the slots are in use. Nothing
 * is removed.
 */
#include "ir/support/map.h"

static uint64_t read_u64(const unsigned char *p)
{
    uint64_t word;
    memcpy(&word, p, sizeof word);
    return __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? word : __builtin_bswap64(word);
}

static uint64_t read_u32(const unsigned char *p)
{
    return (uint64_t)p[0] | (uint64_t)p[1] << 8 | (uint64_t)p[2] << 16 | (uint64_t)p[3] << 24;
}

/* The last length < 8 bytes of `total`, as a little-endian number: from loads that overlap. */
static uint64_t read_tail(const unsigned char *p, size_t length, size_t total)
{
    if (total >= 8)
        return read_u64(p + length - 8) >> (8 * (8 - length));
    if (length >= 4)
        return read_u32(p) | read_u32(p + length - 4) << (8 * (length - 4));
    return (uint64_t)p[0] | (uint64_t)p[length / 2] << (8 * (length / 2)) |
           (uint64_t)p[length - 1] << (8 * (length - 1));
}

uint64_t qc_hash_bytes(const void *bytes, size_t length)
{
    /* FNV-1a's constants, eight bytes a step; the shift carries high bits down, which a product alone never
     * does. */
    const uint64_t prime = 0x100000001b3u;
    const unsigned char *p = bytes;
    size_t rest = length;
    uint64_t h = 0xcbf29ce484222325u ^ length;
    for (; rest >= 8; rest -= 8, p += 8) {
        h = (h ^ read_u64(p)) * prime;
        h ^= h >> 29;
    }
    if (rest)
        h = (h ^ read_tail(p, rest, length)) * prime;
    h ^= h >> 32;
    h *= 0x9e3779b97f4a7c15u;
    h ^= h >> 29;
    return h;
}

void qc_map_init(qc_map *map, qc_arena *arena)
{
    *map = (qc_map){.arena = arena};
}

/* The slot that holds the key, or the empty one where it belongs. slot_count must not be 0. */
static size_t find_slot(const qc_map *map, const char *key, size_t length, uint64_t hash)
{
    size_t mask = map->slot_count - 1;
    for (size_t i = hash & mask;; i = (i + 1) & mask) {
        if (!map->slots[i])
            return i;
        const qc_map_entry *entry = &map->entries[map->slots[i] - 1];
        if (entry->hash == hash && entry->key_length == length &&
            (length == 0 || memcmp(entry->key, key, length) == 0))
            return i;
    }
}

qc_map_entry *qc_map_find_n(const qc_map *map, const char *key, size_t length)
{
    if (!map->slot_count)
        return NULL;
    uint32_t slot = map->slots[find_slot(map, key, length, qc_hash_bytes(key, length))];
    return slot ? &map->entries[slot - 1] : NULL;
}

void *qc_map_get_n(const qc_map *map, const char *key, size_t length)
{
    const qc_map_entry *entry = qc_map_find_n(map, key, length);
    return entry ? entry->value : NULL;
}

void *qc_map_get(const qc_map *map, const char *key)
{
    return qc_map_get_n(map, key, strlen(key));
}

static void grow_slots(qc_map *map)
{
    size_t slot_count = map->slot_count ? map->slot_count * 2 : 8;
    if (slot_count > UINT32_MAX)
        qc_arena_alloc(map->arena, SIZE_MAX); /* out of memory: slots count in 32 bits */
    map->slots = QC_NEW_ARRAY(map->arena, uint32_t, slot_count);
    map->slot_count = slot_count;
    for (size_t e = 0; e < map->count; e++) {
        size_t i = map->entries[e].hash & (slot_count - 1);
        while (map->slots[i])
            i = (i + 1) & (slot_count - 1);
        map->slots[i] = (uint32_t)(e + 1);
    }
}

static void grow_entries(qc_map *map)
{
    if (map->capacity) {
        map->entries = qc_arena_grow(
            map->arena, map->entries, map->count, &map->capacity, map->count + 1, sizeof *map->entries);
        return;
    }
    map->capacity = 4; /* most maps are members of small JSON objects */
    map->entries = QC_NEW_ARRAY(map->arena, qc_map_entry, map->capacity);
}

qc_map_entry *qc_map_add_n(qc_map *map, const char *key, size_t length)
{
    if (map->count * 2 >= map->slot_count)
        grow_slots(map);
    uint64_t hash = qc_hash_bytes(key, length);
    size_t i = find_slot(map, key, length, hash);
    if (map->slots[i])
        return &map->entries[map->slots[i] - 1];
    if (map->count == map->capacity)
        grow_entries(map);
    qc_map_entry *entry = &map->entries[map->count++];
    *entry =
        (qc_map_entry){.key = qc_arena_strndup(map->arena, key, length), .key_length = length, .hash = hash};
    map->slots[i] = (uint32_t)map->count;
    return entry;
}

bool qc_map_set_n(qc_map *map, const char *key, size_t length, void *value)
{
    size_t before = map->count;
    qc_map_add_n(map, key, length)->value = value;
    return map->count > before;
}

bool qc_map_set(qc_map *map, const char *key, void *value)
{
    return qc_map_set_n(map, key, strlen(key), value);
}
