/* SPDX-License-Identifier: MIT
 *
 * io.h - files. Every error names the path and what the system said.
 */
#ifndef QC_SUPPORT_IO_H
#define QC_SUPPORT_IO_H

#include "ir/support/diag.h"
#include "ir/support/str.h"

/* The whole file as a NUL-terminated string in `arena`; refuses more than max_bytes and directories. */
qc_status qc_read_file(
    qc_diag *diag, qc_arena *arena, const char *path, size_t max_bytes, char **data, size_t *length);
/* All of standard input (`fd` 0) or another descriptor. */
qc_status qc_read_fd(qc_diag *diag, qc_arena *arena, int fd, const char *name, char **data, size_t *length);
/* Reads exactly `length` bytes at `offset`; a short file is an error. */
qc_status qc_pread_all(qc_diag *diag, int fd, const char *path, void *buffer, size_t length, uint64_t offset);
qc_status qc_write_all(qc_diag *diag, int fd, const char *path, const void *buffer, size_t length);
/* Writes a whole file through a temporary name in the same directory, then renames: it appears whole or not
 * at all. */
qc_status qc_write_file(qc_diag *diag, const char *path, const void *data, size_t length);
/* Copies `length` bytes from one descriptor's offset to the end of the other, by the kernel where it can
 * (copy_file_range), else through a buffer. */
qc_status qc_copy_range(qc_diag *diag, int in_fd, const char *in_path, uint64_t in_offset, int out_fd,
    const char *out_path, uint64_t length);
qc_status qc_copy_file(qc_diag *diag, const char *from, const char *to);
/* Can a file or directory of this name be made: is there a directory for it that can be written to, and does the
 * name fit? A question to ask before long work; only writing can tell for sure. */
qc_status qc_check_parent(qc_diag *diag, const char *path);
bool qc_is_directory(const char *path);
bool qc_is_file(const char *path);
/* Do both exist and are one file or directory, whatever links lead to it? */
bool qc_is_same_file(const char *a, const char *b);
char *qc_path_join(qc_arena *arena, const char *directory, const char *name);
const char *qc_path_base(const char *path);
/* Names of the entries of a directory but . and .., sorted by byte order. */
qc_status qc_list_directory(qc_diag *diag, qc_arena *arena, const char *path, char ***names, size_t *count);
/* Removes a directory and what is in it (files and directories; does not follow links). */
qc_status qc_remove_tree(qc_diag *diag, const char *path);

/* SHA-256 (FIPS 180-4). */
typedef struct qc_sha256 {
    uint32_t state[8];
    uint64_t length_bytes;
    unsigned char block[64];
} qc_sha256;
void qc_sha256_init(qc_sha256 *h);
void qc_sha256_add(qc_sha256 *h, const void *data, size_t length);
/* 64 lower-case hex digits and a NUL. */
void qc_sha256_hex(qc_sha256 *h, char hex[65]);

#endif
