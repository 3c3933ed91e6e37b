/* SPDX-License-Identifier: MIT
 *
 * safetensors.h - the safetensors container: reader with every check the format asks for, writer with the
 * order and header bytes of the Python package 0.8.
 *
 * Format: u64 little-endian header length N, N bytes of JSON {"name": {"dtype", "shape", "data_offsets"}},
 * "__metadata__" aside, then the data; offsets count from the end of the header.
 */
#ifndef QC_SUPPORT_SAFETENSORS_H
#define QC_SUPPORT_SAFETENSORS_H

#include "ir/support/json.h"

typedef struct qc_st_tensor {
    const char *name;
    const char *dtype; /* "BF16", "F8_E4M3", ... as in the file; known to the table */
    int rank;
    const int64_t *shape;
    uint64_t offset_bytes; /* from the start of the file */
    uint64_t size_bytes;
    uint32_t file; /* index into qc_st_set.files */
} qc_st_tensor;

typedef struct qc_st_file {
    const char *name; /* base name, e.g. model-00001-of-00002.safetensors */
    const char *path;
    int fd; /* open for reading while the set is open */
    uint64_t size_bytes;
    uint64_t header_bytes;  /* 8 + N */
    char header_sha256[65]; /* of those 8 + N bytes */
} qc_st_file;

/* The tensors of one file, or of a sharded checkpoint. */
typedef struct qc_st_set {
    qc_st_file *files;
    size_t file_count;
    qc_st_tensor *tensors; /* file order, then offset order */
    size_t tensor_count;
    qc_map by_name; /* -> qc_st_tensor * */
    /* Tensors of the shards that the index does not list, or lists in another shard; they are in no array. */
    size_t unlisted_count;
    const char *unlisted_name; /* the first, NULL when there are none */
} qc_st_set;

/* Bits of one element of a safetensors dtype name, 0 when unknown. */
int qc_st_dtype_bits(const char *dtype);
/* Opens one file: checks header length (at most 100 MB, inside the file), JSON, dtypes, shapes (overflow),
 * sizes equal to dtype x shape, offsets in range, no overlap, no gaps, no duplicate names, data of full
 * length. */
qc_status qc_st_open_file(qc_diag *diag, qc_arena *arena, const char *path, qc_st_set *set);
/* Opens the checkpoint in a directory: model.safetensors.index.json with its shards if it exists, else
 * model.safetensors. Checks that index and shards agree in both directions (a tensor in the index must lie in
 * the shard it names; a tensor of a shard that the index does not list is ignored). Missing shards are named.
 */
qc_status qc_st_open_directory(qc_diag *diag, qc_arena *arena, const char *directory, qc_st_set *set);
void qc_st_close(qc_st_set *set);
const qc_st_tensor *qc_st_find(const qc_st_set *set, const char *name);
/* Reads the bytes of one tensor (size_bytes of them) into `buffer`. */
qc_status qc_st_read(qc_diag *diag, const qc_st_set *set, const qc_st_tensor *tensor, void *buffer);

/* Writing. Add all tensors first (names, dtypes, shapes): the order in the file and the header follow from
 * them (dtype rank high to low, then name in byte order; header padded with spaces to 8). Then stream the
 * data in exactly that order. */
typedef struct qc_st_out {
    const char *name, *dtype;
    int rank;
    const int64_t *shape;
    void *user;            /* the caller's: how to produce the bytes */
    uint64_t size_bytes;   /* filled by qc_st_layout */
    uint64_t offset_bytes; /* from the end of the header; filled by qc_st_layout */
} qc_st_out;
/* Sorts `tensors` into file order, fills sizes and offsets, and gives the header (8-byte length included).
 * metadata_format adds "__metadata__":{"format":"pt"} in front when true. */
qc_status qc_st_layout(qc_diag *diag, qc_arena *arena, qc_st_out *tensors, size_t count, bool metadata_format,
    char **header, size_t *header_bytes);

#endif
