/* SPDX-License-Identifier: MIT
 *
 * hidden_store.c - see hidden_store.h. Block i lies at the sum of the sizes before it: below the memory's end
 * in memory, else that much into the file.
 */
#include "runtime/hidden_store.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ir/support/io.h"

struct qc_hidden_store {
    qc_arena arena;
    uint64_t *offsets;
    char *memory;
    uint64_t memory_bytes;
    int fd; /* -1: none */
    const char *path;
};

uint64_t qc_hidden_store_memory(const size_t *block_bytes, size_t count, uint64_t memory_bytes)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < count && block_bytes[i] <= memory_bytes - bytes; i++)
        bytes += block_bytes[i];
    return bytes;
}

static qc_status open_file(qc_hidden_store *s, qc_diag *diag, const char *directory)
{
    if (!directory)
        directory = getenv("TMPDIR");
    if (!directory || !directory[0])
        directory = P_tmpdir;
    char *path = qc_path_join(&s->arena, directory, "qc-hidden-XXXXXX");
    s->path = path;
    s->fd = mkstemp(path);
    if (s->fd < 0)
        return qc_error(diag, directory, "no file for hidden states can be made: %s", strerror(errno));
    if (unlink(path) != 0)
        return qc_error(diag, path, "cannot be unlinked: %s", strerror(errno));
    return QC_OK;
}

qc_hidden_store *qc_hidden_store_create(
    qc_diag *diag, const size_t *block_bytes, size_t count, uint64_t memory_bytes, const char *directory)
{
    qc_hidden_store *s = calloc(1, sizeof *s);
    if (!s) {
        qc_error(diag, "", "out of memory");
        return NULL;
    }
    uint64_t total = 0;
    s->fd = -1;
    s->memory_bytes = qc_hidden_store_memory(block_bytes, count, memory_bytes);
    qc_arena_init(&s->arena, diag->arena->oom);
    s->offsets = QC_NEW_ARRAY(&s->arena, uint64_t, count + 1);
    for (size_t i = 0; i < count; i++) {
        s->offsets[i] = total;
        total += block_bytes[i];
    }
    s->memory = malloc(s->memory_bytes ? s->memory_bytes : 1);
    qc_status status = QC_OK;
    if (!s->memory)
        status = qc_error(
            diag, "", "out of memory for %llu bytes of hidden states", (unsigned long long)s->memory_bytes);
    if (status == QC_OK && total > s->memory_bytes)
        status = open_file(s, diag, directory);
    if (status == QC_OK)
        return s;
    qc_hidden_store_destroy(s);
    return NULL;
}

void qc_hidden_store_destroy(qc_hidden_store *store)
{
    if (!store)
        return;
    if (store->fd >= 0)
        close(store->fd);
    free(store->memory);
    qc_arena_fini(&store->arena);
    free(store);
}

void *qc_hidden_store_block(const qc_hidden_store *store, size_t index)
{
    return store->offsets[index] < store->memory_bytes ? store->memory + store->offsets[index] : NULL;
}

qc_status qc_hidden_store_read(
    const qc_hidden_store *store, qc_diag *diag, size_t index, size_t offset, void *buffer, size_t bytes)
{
    char *block = qc_hidden_store_block(store, index);
    if (block) {
        memcpy(buffer, block + offset, bytes);
        return QC_OK;
    }
    return qc_pread_all(
        diag, store->fd, store->path, buffer, bytes, store->offsets[index] - store->memory_bytes + offset);
}

qc_status qc_hidden_store_write(
    const qc_hidden_store *store, qc_diag *diag, size_t index, size_t offset, const void *data, size_t bytes)
{
    char *block = qc_hidden_store_block(store, index);
    const char *from = data;
    if (block) {
        memmove(block + offset, data, bytes); /* it may be from another place of the block */
        return QC_OK;
    }
    uint64_t at = store->offsets[index] - store->memory_bytes + offset;
    while (bytes > 0) {
        ssize_t n = pwrite(store->fd, from, bytes, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return qc_error(diag, store->path, "hidden states cannot be written: %s",
                n < 0 ? strerror(errno) : "nothing was taken");
        from += n;
        at += (uint64_t)n;
        bytes -= (size_t)n;
    }
    return QC_OK;
}
