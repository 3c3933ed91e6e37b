/* SPDX-License-Identifier: MIT
 *
 * io.c - files by POSIX calls. Interrupted calls are taken up again, partial ones continued. A file is
 * written under a temporary name in its own directory and renamed, so that a reader sees the old file or the
 * new one.
 */
#include "ir/support/io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    COPY_BUFFER_BYTES = 1024 * 1024,
    CALL_LIMIT_BYTES = 1 << 30, /* the kernel moves less than 2 GiB a call */
    DIRECTORY_DEPTH_LIMIT = 256,
};

static QC_COLD qc_status system_error(qc_diag *diag, const char *path, const char *action)
{
    return qc_error(diag, path, "cannot %s: %s", action, strerror(errno));
}

/* Appends what is left in the descriptor to `text`, at most max_bytes in all. */
static qc_status read_rest(qc_diag *diag, int fd, const char *name, size_t max_bytes, qc_str *text)
{
    for (;;) {
        qc_str_reserve(text, 65536);
        size_t room = text->capacity - text->length - 1;
        ssize_t got = read(fd, text->data + text->length, room < CALL_LIMIT_BYTES ? room : CALL_LIMIT_BYTES);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return system_error(diag, name, "read");
        if (got == 0)
            return QC_OK;
        text->length += (size_t)got;
        if (text->length > max_bytes)
            return qc_error(diag, name, "is larger than %zu bytes", max_bytes);
    }
}

static qc_status read_to_arena(qc_diag *diag, qc_arena *arena, int fd, const char *name, size_t expected,
    size_t max_bytes, char **data, size_t *length)
{
    qc_str text;
    qc_str_init(&text, arena);
    qc_str_reserve(&text, expected);
    qc_status status = read_rest(diag, fd, name, max_bytes, &text);
    if (status == QC_OK) {
        *data = qc_arena_strndup(arena, text.data, text.length);
        *length = text.length;
    }
    qc_str_fini(&text);
    return status;
}

qc_status qc_read_file(
    qc_diag *diag, qc_arena *arena, const char *path, size_t max_bytes, char **data, size_t *length)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return system_error(diag, path, "open");
    struct stat info;
    qc_status status;
    if (fstat(fd, &info) != 0)
        status = system_error(diag, path, "read");
    else if (S_ISDIR(info.st_mode))
        status = qc_error(diag, path, "is a directory, not a file");
    else if (S_ISREG(info.st_mode) && (uint64_t)info.st_size > max_bytes)
        status = qc_error(diag, path, "is larger than %zu bytes", max_bytes);
    else
        status = read_to_arena(diag, arena, fd, path,
            S_ISREG(info.st_mode) ? (size_t)info.st_size + 65536 : 0, max_bytes, data, length);
    close(fd);
    return status;
}

qc_status qc_read_fd(qc_diag *diag, qc_arena *arena, int fd, const char *name, char **data, size_t *length)
{
    return read_to_arena(diag, arena, fd, name, 0, SIZE_MAX, data, length);
}

qc_status qc_pread_all(qc_diag *diag, int fd, const char *path, void *buffer, size_t length, uint64_t offset)
{
    char *p = buffer;
    while (length) {
        if (offset > INT64_MAX)
            return qc_error(diag, path, "offset %llu is too large for a file", (unsigned long long)offset);
        ssize_t got = pread(fd, p, length < CALL_LIMIT_BYTES ? length : CALL_LIMIT_BYTES, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return system_error(diag, path, "read");
        if (got == 0)
            return qc_error(
                diag, path, "ends at byte %llu, %zu bytes short", (unsigned long long)offset, length);
        p += got;
        offset += (uint64_t)got;
        length -= (size_t)got;
    }
    return QC_OK;
}

qc_status qc_write_all(qc_diag *diag, int fd, const char *path, const void *buffer, size_t length)
{
    const char *p = buffer;
    while (length) {
        ssize_t put = write(fd, p, length < CALL_LIMIT_BYTES ? length : CALL_LIMIT_BYTES);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return system_error(diag, path, "write");
        p += put;
        length -= (size_t)put;
    }
    return QC_OK;
}

/* Closes after writing: some file systems say only now that the disk is full. */
static qc_status close_written(qc_diag *diag, int fd, const char *path, qc_status status)
{
    if (close(fd) != 0 && errno != EINTR && status == QC_OK)
        return system_error(diag, path, "write");
    return status;
}

/* Opens a new file beside `path`; its name goes to *temporary. */
static int open_temporary(qc_diag *diag, const char *path, char **temporary)
{
    for (int attempt = 0; attempt < 1000; attempt++) {
        *temporary = qc_arena_printf(diag->arena, "%s.%ld-%d.tmp", path, (long)getpid(), attempt);
        int fd = open(*temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (fd >= 0 || errno != EEXIST)
            return fd;
    }
    return -1;
}

qc_status qc_write_file(qc_diag *diag, const char *path, const void *data, size_t length)
{
    struct stat info;
    if (stat(path, &info) == 0 && !S_ISREG(info.st_mode)) { /* a pipe or a device cannot be renamed over */
        int fd = open(path, O_WRONLY | O_CLOEXEC);
        if (fd < 0)
            return system_error(diag, path, "write");
        return close_written(diag, fd, path, qc_write_all(diag, fd, path, data, length));
    }
    char *temporary;
    int fd = open_temporary(diag, path, &temporary);
    if (fd < 0)
        return system_error(diag, path, "create");
    qc_status status = close_written(diag, fd, path, qc_write_all(diag, fd, path, data, length));
    if (status == QC_OK && rename(temporary, path) != 0)
        status = system_error(diag, path, "write");
    if (status != QC_OK)
        unlink(temporary);
    return status;
}

static qc_status copy_by_buffer(qc_diag *diag, int in_fd, const char *in_path, uint64_t in_offset, int out_fd,
    const char *out_path, uint64_t length)
{
    size_t room = length < COPY_BUFFER_BYTES ? (size_t)length : COPY_BUFFER_BYTES;
    char *buffer = malloc(room ? room : 1);
    if (!buffer)
        return qc_error(diag, out_path, "out of memory for a buffer of %zu bytes", room);
    qc_status status = QC_OK;
    while (status == QC_OK && length) {
        size_t part = length < room ? (size_t)length : room;
        status = qc_pread_all(diag, in_fd, in_path, buffer, part, in_offset);
        if (status == QC_OK)
            status = qc_write_all(diag, out_fd, out_path, buffer, part);
        in_offset += part;
        length -= part;
    }
    free(buffer);
    return status;
}

qc_status qc_copy_range(qc_diag *diag, int in_fd, const char *in_path, uint64_t in_offset, int out_fd,
    const char *out_path, uint64_t length)
{
    while (length) {
        if (in_offset > INT64_MAX)
            return qc_error(
                diag, in_path, "offset %llu is too large for a file", (unsigned long long)in_offset);
        off_t offset = (off_t)in_offset;
        size_t part = length < CALL_LIMIT_BYTES ? (size_t)length : CALL_LIMIT_BYTES;
        ssize_t copied = copy_file_range(in_fd, &offset, out_fd, NULL, part, 0);
        if (copied < 0 && errno == EINTR)
            continue;
        if (copied < 0 && (errno == ENOSPC || errno == EIO || errno == EDQUOT || errno == EFBIG))
            return system_error(diag, out_path, "write");
        if (copied <= 0) /* other file systems, pipes, old kernels; or the end, which the reader words */
            return copy_by_buffer(diag, in_fd, in_path, in_offset, out_fd, out_path, length);
        in_offset += (uint64_t)copied;
        length -= (uint64_t)copied;
    }
    return QC_OK;
}

static qc_status copy_to_temporary(
    qc_diag *diag, int in_fd, const char *from, uint64_t length, const char *to)
{
    char *temporary;
    int out_fd = open_temporary(diag, to, &temporary);
    if (out_fd < 0)
        return system_error(diag, to, "create");
    qc_status status =
        close_written(diag, out_fd, to, qc_copy_range(diag, in_fd, from, 0, out_fd, to, length));
    if (status == QC_OK && rename(temporary, to) != 0)
        status = system_error(diag, to, "write");
    if (status != QC_OK)
        unlink(temporary);
    return status;
}

qc_status qc_copy_file(qc_diag *diag, const char *from, const char *to)
{
    int in_fd = open(from, O_RDONLY | O_CLOEXEC);
    if (in_fd < 0)
        return system_error(diag, from, "open");
    struct stat info;
    qc_status status;
    if (fstat(in_fd, &info) != 0)
        status = system_error(diag, from, "read");
    else if (!S_ISREG(info.st_mode))
        status = qc_error(diag, from, "is not a plain file");
    else
        status = copy_to_temporary(diag, in_fd, from, (uint64_t)info.st_size, to);
    close(in_fd);
    return status;
}

qc_status qc_check_parent(qc_diag *diag, const char *path)
{
    struct stat info;
    qc_arena scratch;
    qc_arena_init(&scratch, diag->arena->oom);
    const char *slash = strrchr(path, '/');
    const char *parent = !slash          ? "."
                         : slash == path ? "/"
                                         : qc_arena_strndup(&scratch, path, (size_t)(slash - path));
    qc_status status = QC_OK;
    bool special = stat(path, &info) == 0 && !S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode);
    if (special) /* a pipe or a device is written where it is */
        status = QC_OK;
    else if (!qc_is_directory(parent))
        status = qc_error(diag, parent, "is no directory; %s cannot be made in it", qc_path_base(path));
    else if (access(parent, W_OK | X_OK) != 0)
        status = qc_error(diag, parent, "%s cannot be made in it: %s", qc_path_base(path), strerror(errno));
    else if (lstat(path, &info) != 0 && errno != ENOENT)
        status = qc_error(diag, path, "cannot be made: %s", strerror(errno));
    qc_arena_fini(&scratch);
    return status;
}

bool qc_is_directory(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

bool qc_is_file(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISREG(info.st_mode);
}

bool qc_is_same_file(const char *a, const char *b)
{
    struct stat first, second;
    return stat(a, &first) == 0 && stat(b, &second) == 0 && first.st_dev == second.st_dev &&
           first.st_ino == second.st_ino;
}

char *qc_path_join(qc_arena *arena, const char *directory, const char *name)
{
    size_t length = strlen(directory);
    if (length == 0 || name[0] == '/')
        return qc_arena_strdup(arena, name);
    return qc_arena_printf(arena, "%s%s%s", directory, directory[length - 1] == '/' ? "" : "/", name);
}

const char *qc_path_base(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

qc_status qc_list_directory(qc_diag *diag, qc_arena *arena, const char *path, char ***names, size_t *count)
{
    DIR *directory = opendir(path);
    if (!directory)
        return system_error(diag, path, "list");
    QC_VEC(char *) found = {0};
    struct dirent *entry;
    while (errno = 0, (entry = readdir(directory)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            QC_PUSH(arena, &found, qc_arena_strdup(arena, entry->d_name));
    qc_status status = errno ? system_error(diag, path, "list") : QC_OK;
    closedir(directory);
    if (status != QC_OK)
        return status;
    if (found.count)
        qsort(found.items, found.count, sizeof *found.items, compare_names);
    *names = found.items;
    *count = found.count;
    return QC_OK;
}

static qc_status remove_tree(qc_diag *diag, qc_arena *arena, const char *path, int depth)
{
    struct stat info;
    if (lstat(path, &info) != 0)
        return system_error(diag, path, "remove");
    if (!S_ISDIR(info.st_mode))
        return unlink(path) == 0 ? QC_OK : system_error(diag, path, "remove");
    if (depth == 0)
        return qc_error(
            diag, path, "cannot remove: directories are nested deeper than %d", DIRECTORY_DEPTH_LIMIT);
    char **names;
    size_t count;
    if (qc_list_directory(diag, arena, path, &names, &count) != QC_OK)
        return QC_ERROR;
    for (size_t i = 0; i < count; i++)
        if (remove_tree(diag, arena, qc_path_join(arena, path, names[i]), depth - 1) != QC_OK)
            return QC_ERROR;
    return rmdir(path) == 0 ? QC_OK : system_error(diag, path, "remove");
}

qc_status qc_remove_tree(qc_diag *diag, const char *path)
{
    qc_arena scratch;
    qc_arena_init(&scratch, diag->arena->oom);
    qc_status status = remove_tree(diag, &scratch, path, DIRECTORY_DEPTH_LIMIT);
    qc_arena_fini(&scratch);
    return status;
}
