/* SPDX-License-Identifier: MIT
 *
 * shards.c - which file each tensor goes to, and the index.
 *
 * Splitting is huggingface_hub's: in state-dict order into the current shard until a tensor would make it too
 * big; a tensor that is too big alone gets a shard of its own and does not end the current one. The index is
 * what transformers 5 writes: total_parameters counts elements as stored, total_size bytes.
 */
#include <stdlib.h>
#include <string.h>

#include "ir/support/str.h"
#include "runtime/export/compressed_tensors/internal.h"

/* What huggingface_hub counts: the memory behind a tensor. */
static uint64_t storage_bytes(const ct_tensor *t)
{
    return t->storage_bytes > t->size_bytes ? t->storage_bytes : t->size_bytes;
}

uint32_t ct_split(ct_plan *plan, uint64_t max_bytes)
{
    if (plan->as_tensors)
        return ct_split_as_source(plan);
    /* A big tensor's shard stands in front of the one that is being filled. */
    uint32_t finished = 0;
    uint64_t current_bytes = 0;
    QC_VEC(ct_tensor *) current = {0};
    for (size_t i = 0; i < plan->tensors.count; i++) {
        ct_tensor *t = plan->tensors.items[i];
        const uint64_t bytes = storage_bytes(t);
        if (bytes > max_bytes) {
            t->shard = finished++;
            continue;
        }
        if (current_bytes + bytes > max_bytes) {
            for (size_t k = 0; k < current.count; k++)
                current.items[k]->shard = finished;
            finished++;
            current.count = 0;
            current_bytes = 0;
        }
        QC_PUSH(&plan->arena, &current, t);
        current_bytes += bytes;
    }
    for (size_t k = 0; k < current.count; k++)
        current.items[k]->shard = finished;
    return finished + (current.count > 0);
}

const char *ct_shard_name(const ct_plan *plan, qc_arena *arena, uint32_t index, uint32_t count)
{
    if (plan->shard_names)
        return plan->shard_names[index];
    if (count == 1)
        return "model.safetensors";
    return qc_arena_printf(arena, "model-%05u-of-%05u.safetensors", index + 1, count);
}

void ct_index_text(const ct_plan *plan, uint32_t shard_count, qc_str *text)
{
    if (plan->as_tensors) {
        ct_source_index_text(plan, shard_count, text);
        return;
    }
    qc_arena arena;
    qc_arena_init(&arena, plan->arena.oom);
    qc_json *index = qc_json_new(&arena, QC_JSON_OBJECT), *metadata = qc_json_new(&arena, QC_JSON_OBJECT);
    qc_json *map = qc_json_new(&arena, QC_JSON_OBJECT);
    int64_t parameters = 0, bytes = 0;
    for (size_t i = 0; i < plan->tensors.count; i++) {
        const ct_tensor *t = plan->tensors.items[i];
        int64_t elements = 1;
        for (int d = 0; d < t->rank; d++)
            elements *= t->shape[d];
        parameters += elements;
        bytes += (int64_t)storage_bytes(t);
        qc_json_set(&arena, map, t->name,
            qc_json_new_string(&arena, ct_shard_name(plan, &arena, t->shard, shard_count)));
    }
    qc_json_set(&arena, metadata, "total_parameters", qc_json_new_int(&arena, parameters));
    qc_json_set(&arena, metadata, "total_size", qc_json_new_int(&arena, bytes));
    qc_json_set(&arena, index, "metadata", metadata);
    qc_json_set(&arena, index, "weight_map", map);
    qc_json_write(text, index, 2, true);
    qc_str_add_char(text, '\n');
    qc_arena_fini(&arena);
}
