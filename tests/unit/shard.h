/* SPDX-License-Identifier: MIT
 *
 * shard.h - a safetensors file written by a test.
 */
#ifndef QC_TESTS_SHARD_H
#define QC_TESTS_SHARD_H

#include "ir/support/io.h"
#include "ir/support/safetensors.h"
#include "ir/support/str.h"

/* DIRECTORY/model.safetensors of these tensors, whose bytes their `user` points to. Sorts them as qc_st_layout does. */
static inline bool write_shard(
    qc_diag *diag, qc_arena *arena, const char *directory, qc_st_out *tensors, size_t count)
{
    char *header;
    size_t header_bytes;
    qc_str file;
    if (qc_st_layout(diag, arena, tensors, count, true, &header, &header_bytes) != QC_OK)
        return false;
    qc_str_init(&file, arena);
    qc_str_add_bytes(&file, header, header_bytes);
    for (size_t i = 0; i < count; i++)
        qc_str_add_bytes(&file, tensors[i].user, (size_t)tensors[i].size_bytes);
    const char *path = qc_path_join(arena, directory, "model.safetensors");
    bool ok = qc_write_file(diag, path, file.data, file.length) == QC_OK;
    qc_str_fini(&file);
    return ok;
}

#endif
