/* SPDX-License-Identifier: MIT
 *
 * fuzz_safetensors.c - any bytes as a safetensors file (in memory, through /dev/fd). What opens must keep its
 * promises: every tensor lies in the file, its bytes can be read, and the layout of the same tensors gives a
 * header that opens.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ir/support/io.h"
#include "ir/support/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(bool condition, const char *what)
{
    if (condition)
        return;
    fprintf(stderr, "fuzz_safetensors: %s\n", what);
    abort();
}

/* A file in memory with these bytes and `more` zeros; its path goes to `path`. */
static int memory_file(qc_diag *diag, const void *bytes, size_t size, size_t more, char path[32])
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    demand(fd >= 0, "no file in memory");
    demand(qc_write_all(diag, fd, "fuzz", bytes, size) == QC_OK, "cannot write the file in memory");
    demand(ftruncate(fd, (off_t)(size + more)) == 0, "cannot extend the file in memory");
    snprintf(path, 32, "/proc/self/fd/%d", fd);
    return fd;
}

/* Lays the same tensors out and opens the result. */
static void check_layout(qc_diag *diag, qc_arena *arena, const qc_st_set *set)
{
    qc_st_out *tensors = QC_NEW_ARRAY(arena, qc_st_out, set->tensor_count);
    uint64_t total_bytes = 0;
    for (size_t i = 0; i < set->tensor_count; i++) {
        const qc_st_tensor *t = &set->tensors[i];
        tensors[i] = (qc_st_out){.name = t->name, .dtype = t->dtype, .rank = t->rank, .shape = t->shape};
        total_bytes += t->size_bytes;
    }
    char *header, path[32];
    size_t header_bytes;
    demand(qc_st_layout(diag, arena, tensors, set->tensor_count, true, &header, &header_bytes) == QC_OK,
        "no layout");
    int fd = memory_file(diag, header, header_bytes, (size_t)total_bytes, path);
    qc_st_set again;
    demand(qc_st_open_file(diag, arena, path, &again) == QC_OK, "the layout does not open");
    demand(again.tensor_count == set->tensor_count, "the layout has other tensors");
    for (size_t i = 0; i < set->tensor_count; i++) {
        const qc_st_tensor *t = qc_st_find(&again, set->tensors[i].name);
        demand(t && t->size_bytes == set->tensors[i].size_bytes, "a tensor changed in the layout");
    }
    qc_st_close(&again);
    close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    qc_arena arena;
    qc_arena_init(&arena, NULL);
    qc_diag diag;
    qc_diag_init(&diag, &arena, NULL, NULL);
    char path[32];
    int fd = memory_file(&diag, data, size, 0, path);
    qc_st_set set;
    qc_status status = qc_st_open_file(&diag, &arena, path, &set);
    demand(diag.error_count == (status == QC_OK ? 0 : 1), "one error for each refusal");
    if (status == QC_OK) {
        for (size_t i = 0; i < set.tensor_count; i++) {
            const qc_st_tensor *t = &set.tensors[i];
            demand(t->offset_bytes + t->size_bytes <= size, "a tensor reaches past the file");
            char *bytes = malloc((size_t)t->size_bytes + 1);
            demand(bytes && qc_st_read(&diag, &set, t, bytes) == QC_OK, "a tensor cannot be read");
            demand(
                memcmp(bytes, data + t->offset_bytes, (size_t)t->size_bytes) == 0, "other bytes were read");
            free(bytes);
        }
        check_layout(&diag, &arena, &set);
        qc_st_close(&set);
    }
    close(fd);
    qc_arena_fini(&arena);
    return 0;
}
