/* SPDX-License-Identifier: MIT
 *
 * safetensors.c - reading and laying out safetensors files (format: README of the safetensors project; order
 * and spelling of the header: files written by its Python package 0.8).
 *
 * Opening reads headers only. Invariant of an open file: its tensors cover the data without gap or overlap,
 * so size_bytes and offset_bytes of every tensor lie inside the file as it was when opened.
 */
#include "ir/support/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ir/support/io.h"

enum {
    LENGTH_BYTES = 8,
    LARGEST_HEADER_BYTES = 100 * 1000 * 1000,
    LARGEST_INDEX_BYTES = 1 << 30,
    HEADER_ALIGNMENT_BYTES = 8,
    LARGEST_RANK = 64, /* PyTorch's */
};

/* In the order of the file, so the place in the table is the rank. A tensor of a type below a byte must fill whole
 * bytes. */
static const struct {
    const char *name;
    int bits;
} dtypes[] = {{"U64", 64}, {"I64", 64}, {"F64", 64}, {"C64", 64}, {"F32", 32}, {"U32", 32}, {"I32", 32},
    {"BF16", 16}, {"F16", 16}, {"U16", 16}, {"I16", 16}, {"F8_E5M2FNUZ", 8}, {"F8_E4M3FNUZ", 8},
    {"F8_E8M0", 8}, {"F8_E4M3", 8}, {"F8_E5M2", 8}, {"I8", 8}, {"U8", 8}, {"F6_E3M2", 6}, {"F6_E2M3", 6},
    {"F4", 4}, {"BOOL", 8}};

enum { DTYPE_COUNT = sizeof dtypes / sizeof *dtypes };

static int dtype_rank(const char *name)
{
    for (int i = 0; i < DTYPE_COUNT; i++)
        if (strcmp(dtypes[i].name, name) == 0)
            return i;
    return -1;
}

int qc_st_dtype_bits(const char *dtype)
{
    int rank = dtype_rank(dtype);
    return rank < 0 ? 0 : dtypes[rank].bits;
}

/* A set being opened. */
typedef struct opening {
    qc_diag *diag;
    qc_arena *arena;   /* of the set */
    qc_arena *scratch; /* of the JSON */
    QC_VEC(qc_st_file) files;
    QC_VEC(qc_st_tensor) tensors;
    const char *path; /* of the file at hand */
    uint64_t header_bytes, data_bytes;
    size_t unlisted_count;
    const char *unlisted_name;
} opening;

/* Bytes of a tensor. NULL, or why there is no such number. */
static const char *tensor_bytes(const int64_t *shape, int rank, int bits, uint64_t *size_bytes)
{
    uint64_t count = 1;
    for (int i = 0; i < rank; i++)
        if (__builtin_mul_overflow(count, (uint64_t)shape[i], &count))
            return "the size of its shape overflows 64 bits";
    if (bits < 8 && count * (unsigned)bits % 8 != 0) /* modulo 2^64, which 8 divides */
        return "its elements do not fill whole bytes";
    const uint64_t whole = bits < 8 ? count / 8 : count,
                   factor = bits < 8 ? (uint64_t)bits : (uint64_t)bits / 8;
    if (__builtin_mul_overflow(whole, factor, size_bytes) || *size_bytes > INT64_MAX)
        return "the size of its shape overflows 64 bits";
    *size_bytes += bits < 8 ? count % 8 * (unsigned)bits / 8 : 0;
    return NULL;
}

static qc_status read_shape(opening *o, const qc_json *info, qc_st_tensor *tensor)
{
    const qc_json *shape = qc_json_get(info, "shape");
    if (!shape || shape->kind != QC_JSON_ARRAY)
        return qc_error(o->diag, o->path, "tensor '%s': shape must be a list of sizes", tensor->name);
    if (shape->length > LARGEST_RANK)
        return qc_error(o->diag, o->path, "tensor '%s': shape has %zu sizes; at most %d are read",
            tensor->name, shape->length, LARGEST_RANK);
    int64_t *sizes = QC_NEW_ARRAY(o->arena, int64_t, shape->length);
    size_t i = 0;
    for (const qc_json *size = shape->first; size; size = size->next, i++) {
        if (size->kind != QC_JSON_NUMBER || !size->is_integer || size->integer < 0)
            return qc_error(o->diag, o->path,
                "tensor '%s': size %zu of its shape must be an integer of at least 0", tensor->name, i);
        sizes[i] = size->integer;
    }
    tensor->rank = (int)shape->length;
    tensor->shape = sizes;
    return QC_OK;
}

static qc_status read_offsets(opening *o, const qc_json *info, qc_st_tensor *tensor)
{
    const qc_json *offsets = qc_json_get(info, "data_offsets");
    if (!offsets || offsets->kind != QC_JSON_ARRAY || offsets->length != 2)
        return qc_error(o->diag, o->path, "tensor '%s': data_offsets must be [begin, end]", tensor->name);
    const qc_json *begin = offsets->first, *end = begin->next;
    if (begin->kind != QC_JSON_NUMBER || !begin->is_integer || begin->integer < 0 ||
        end->kind != QC_JSON_NUMBER || !end->is_integer || end->integer < begin->integer)
        return qc_error(o->diag, o->path,
            "tensor '%s': data_offsets must be two integers with 0 <= begin <= end", tensor->name);
    if ((uint64_t)end->integer > o->data_bytes)
        return qc_error(o->diag, o->path,
            "tensor '%s': ends at byte %lld of the data, but the file has only %llu: it is cut short or its "
            "header is "
            "wrong",
            tensor->name, (long long)end->integer, (unsigned long long)o->data_bytes);
    uint64_t size_bytes = (uint64_t)(end->integer - begin->integer);
    if (size_bytes != tensor->size_bytes)
        return qc_error(o->diag, o->path,
            "tensor '%s': data_offsets give %llu bytes, but dtype and shape ask for %llu", tensor->name,
            (unsigned long long)size_bytes, (unsigned long long)tensor->size_bytes);
    tensor->offset_bytes = o->header_bytes + (uint64_t)begin->integer;
    return QC_OK;
}

static qc_status read_tensor(opening *o, const qc_json *info, qc_st_tensor *tensor)
{
    if (strlen(info->key) != info->key_length)
        return qc_error(o->diag, o->path, "tensor '%s...': the name holds a NUL character", info->key);
    tensor->name = qc_arena_strndup(o->arena, info->key, info->key_length);
    if (info->kind != QC_JSON_OBJECT)
        return qc_error(o->diag, o->path, "tensor '%s': must be an object with dtype, shape and data_offsets",
            tensor->name);
    const qc_json *dtype = qc_json_get(info, "dtype");
    if (!dtype || dtype->kind != QC_JSON_STRING)
        return qc_error(o->diag, o->path, "tensor '%s': dtype must be a string", tensor->name);
    int rank = dtype_rank(dtype->text);
    if (rank < 0)
        return qc_error(o->diag, o->path, "tensor '%s': unknown dtype '%s'", tensor->name, dtype->text);
    tensor->dtype = dtypes[rank].name;
    if (read_shape(o, info, tensor) != QC_OK)
        return QC_ERROR;
    const char *problem = tensor_bytes(tensor->shape, tensor->rank, dtypes[rank].bits, &tensor->size_bytes);
    if (problem)
        return qc_error(o->diag, o->path, "tensor '%s': %s", tensor->name, problem);
    return read_offsets(o, info, tensor);
}

static qc_status check_metadata(opening *o, const qc_json *metadata)
{
    bool good = metadata->kind == QC_JSON_OBJECT;
    for (const qc_json *item = metadata->first; good && item; item = item->next)
        good = item->kind == QC_JSON_STRING;
    return good ? QC_OK : qc_error(o->diag, o->path, "__metadata__ must be an object of strings");
}

static int compare_offsets(const void *a, const void *b)
{
    const qc_st_tensor *x = a, *y = b;
    if (x->offset_bytes != y->offset_bytes)
        return x->offset_bytes < y->offset_bytes ? -1 : 1;
    if (x->size_bytes != y->size_bytes) /* empty ones first: they share the offset of the next */
        return x->size_bytes < y->size_bytes ? -1 : 1;
    return strcmp(x->name, y->name);
}

/* The tensors in offset order must tile the data. */
static qc_status check_tiling(opening *o, const qc_st_tensor *tensors, size_t count)
{
    uint64_t at = o->header_bytes;
    for (size_t i = 0; i < count; i++) {
        if (tensors[i].offset_bytes < at)
            return qc_error(
                o->diag, o->path, "tensor '%s' overlaps tensor '%s'", tensors[i].name, tensors[i - 1].name);
        if (tensors[i].offset_bytes > at)
            return qc_error(o->diag, o->path, "%llu bytes before tensor '%s' belong to no tensor",
                (unsigned long long)(tensors[i].offset_bytes - at), tensors[i].name);
        at += tensors[i].size_bytes;
    }
    if (at != o->header_bytes + o->data_bytes)
        return qc_error(o->diag, o->path, "%llu bytes at the end of the file belong to no tensor",
            (unsigned long long)(o->header_bytes + o->data_bytes - at));
    return QC_OK;
}

/* Appends the file's tensors to o->tensors; with a weight map only those it puts into this file. */
static qc_status read_tensors(opening *o, const qc_json *header, const qc_json *weight_map)
{
    qc_st_tensor *tensors = QC_NEW_ARRAY(o->scratch, qc_st_tensor, header->length);
    size_t count = 0;
    uint32_t file = (uint32_t)(o->files.count - 1);
    for (const qc_json *info = header->first; info; info = info->next) {
        if (strcmp(info->key, "__metadata__") == 0) {
            if (check_metadata(o, info) != QC_OK)
                return QC_ERROR;
            continue;
        }
        if (read_tensor(o, info, &tensors[count]) != QC_OK)
            return QC_ERROR;
        tensors[count++].file = file;
    }
    qsort(tensors, count, sizeof *tensors, compare_offsets);
    if (check_tiling(o, tensors, count) != QC_OK)
        return QC_ERROR;
    for (size_t i = 0; i < count; i++) {
        const qc_json *shard = qc_json_get(weight_map, tensors[i].name);
        if (!weight_map || (shard && strcmp(shard->text, o->files.items[file].name) == 0))
            QC_PUSH(o->arena, &o->tensors, tensors[i]);
        else if (o->unlisted_count++ == 0)
            o->unlisted_name = tensors[i].name;
    }
    return QC_OK;
}

/* Reads the header of the file that is last in o->files. */
static qc_status read_header(opening *o, const qc_json *weight_map)
{
    qc_st_file *file = &o->files.items[o->files.count - 1];
    unsigned char prefix[LENGTH_BYTES];
    if (file->size_bytes < LENGTH_BYTES)
        return qc_error(o->diag, o->path, "is too short for a safetensors file: %llu bytes",
            (unsigned long long)file->size_bytes);
    if (qc_pread_all(o->diag, file->fd, o->path, prefix, LENGTH_BYTES, 0) != QC_OK)
        return QC_ERROR;
    uint64_t length = 0;
    for (int i = LENGTH_BYTES - 1; i >= 0; i--)
        length = length << 8 | prefix[i];
    if (length > LARGEST_HEADER_BYTES)
        return qc_error(o->diag, o->path,
            "header length %llu is more than %d: not a safetensors file, or damaged",
            (unsigned long long)length, LARGEST_HEADER_BYTES);
    if (length > file->size_bytes - LENGTH_BYTES)
        return qc_error(o->diag, o->path, "header length %llu reaches past the end of the file (%llu bytes)",
            (unsigned long long)length, (unsigned long long)file->size_bytes);
    char *text = qc_arena_alloc(o->scratch, (size_t)length + 1);
    if (qc_pread_all(o->diag, file->fd, o->path, text, (size_t)length, LENGTH_BYTES) != QC_OK)
        return QC_ERROR;
    if (text[0] != '{')
        return qc_error(
            o->diag, o->path, "the header does not begin with '{': not a safetensors file, or damaged");
    qc_sha256 hash;
    qc_sha256_init(&hash);
    qc_sha256_add(&hash, prefix, LENGTH_BYTES);
    qc_sha256_add(&hash, text, (size_t)length);
    qc_sha256_hex(&hash, file->header_sha256);
    file->header_bytes = o->header_bytes = LENGTH_BYTES + length;
    o->data_bytes = file->size_bytes - file->header_bytes;
    const char *where = qc_arena_printf(o->scratch, "%s: header", o->path);
    const qc_json *header = qc_json_parse(o->diag, o->scratch, where, text, (size_t)length);
    return header ? read_tensors(o, header, weight_map) : QC_ERROR;
}

static qc_status open_file(opening *o, const char *path, const qc_json *weight_map)
{
    o->path = path = qc_arena_strdup(o->arena, path);
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC); /* a pipe is refused below, not waited for */
    if (fd < 0)
        return qc_error(o->diag, path, "cannot open: %s", strerror(errno));
    QC_PUSH(o->arena, &o->files, (qc_st_file){.name = qc_path_base(path), .path = path, .fd = fd});
    struct stat info;
    if (fstat(fd, &info) != 0)
        return qc_error(o->diag, path, "cannot read: %s", strerror(errno));
    if (!S_ISREG(info.st_mode))
        return qc_error(o->diag, path, "is not a plain file");
    o->files.items[o->files.count - 1].size_bytes = (uint64_t)info.st_size;
    return read_header(o, weight_map);
}

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Checks one row of the index: shard names must stay inside the directory. */
static qc_status check_index_row(opening *o, const char *path, const qc_json *row)
{
    if (strlen(row->key) != row->key_length)
        return qc_error(o->diag, path, "tensor '%s...': the name holds a NUL character", row->key);
    if (row->kind != QC_JSON_STRING || row->length == 0 || strlen(row->text) != row->length)
        return qc_error(o->diag, path, "weight_map of tensor '%s' must be the name of a file", row->key);
    if (strchr(row->text, '/') || strstr(row->text, ".."))
        return qc_error(o->diag, path, "shard '%s' of tensor '%s' must be a plain name without '/' and '..'",
            row->text, row->key);
    return QC_OK;
}

/* Opens the shards that the index names, in byte order of their names. */
static qc_status open_shards(opening *o, const char *directory, const char *index, const qc_json *weight_map)
{
    qc_map shards;
    qc_map_init(&shards, o->scratch);
    for (const qc_json *row = weight_map->first; row; row = row->next) {
        if (check_index_row(o, index, row) != QC_OK)
            return QC_ERROR;
        if (!qc_map_find_n(&shards, row->text, row->length))
            qc_map_set_n(&shards, row->text, row->length, (void *)row);
    }
    const char **names = QC_NEW_ARRAY(o->scratch, const char *, shards.count);
    for (size_t i = 0; i < shards.count; i++)
        names[i] = shards.entries[i].key;
    qsort(names, shards.count, sizeof *names, compare_texts);
    qc_status status = QC_OK;
    for (size_t i = 0; i < shards.count; i++) { /* all that are missing, before any is opened */
        const qc_json *row = qc_map_get(&shards, names[i]);
        if (access(qc_path_join(o->scratch, directory, names[i]), F_OK) != 0)
            status = qc_error(
                o->diag, index, "shard '%s' is missing, which holds tensor '%s'", names[i], row->key);
    }
    for (size_t i = 0; status == QC_OK && i < shards.count; i++)
        status = open_file(o, qc_path_join(o->scratch, directory, names[i]), weight_map);
    return status;
}

static void begin_opening(opening *o, qc_diag *diag, qc_arena *arena, qc_arena *scratch)
{
    qc_arena_init(scratch, arena->oom);
    *o = (opening){.diag = diag, .arena = arena, .scratch = scratch};
}

static void fill_set(const opening *o, qc_st_set *set)
{
    *set = (qc_st_set){.files = o->files.items,
        .file_count = o->files.count,
        .tensors = o->tensors.items,
        .tensor_count = o->tensors.count,
        .unlisted_count = o->unlisted_count,
        .unlisted_name = o->unlisted_name};
    qc_map_init(&set->by_name, o->arena);
    for (size_t i = 0; i < set->tensor_count; i++)
        qc_map_set(&set->by_name, set->tensors[i].name, &set->tensors[i]);
}

qc_status qc_st_open_file(qc_diag *diag, qc_arena *arena, const char *path, qc_st_set *set)
{
    opening o;
    qc_arena scratch;
    begin_opening(&o, diag, arena, &scratch);
    qc_status status = open_file(&o, path, NULL);
    fill_set(&o, set);
    if (status != QC_OK)
        qc_st_close(set);
    qc_arena_fini(&scratch);
    return status;
}

/* Opens the shards of an index, then checks that every tensor it lists was found where it says. */
static qc_status open_index(opening *o, const char *directory, const char *path, qc_st_set *set)
{
    char *text;
    size_t length;
    if (qc_read_file(o->diag, o->scratch, path, LARGEST_INDEX_BYTES, &text, &length) != QC_OK)
        return QC_ERROR;
    const qc_json *index = qc_json_parse(o->diag, o->scratch, path, text, length);
    if (!index)
        return QC_ERROR;
    const qc_json *weight_map = qc_json_get(index, "weight_map");
    if (!weight_map || weight_map->kind != QC_JSON_OBJECT || weight_map->length == 0)
        return qc_error(o->diag, path, "weight_map must be an object that names the shard of every tensor");
    if (open_shards(o, directory, path, weight_map) != QC_OK)
        return QC_ERROR;
    fill_set(o, set);
    for (const qc_json *row = weight_map->first; row; row = row->next)
        if (!qc_map_get_n(&set->by_name, row->key, row->key_length))
            return qc_error(o->diag, path, "tensor '%s' is not in shard '%s', where weight_map puts it",
                row->key, row->text);
    return QC_OK;
}

qc_status qc_st_open_directory(qc_diag *diag, qc_arena *arena, const char *directory, qc_st_set *set)
{
    opening o;
    qc_arena scratch;
    begin_opening(&o, diag, arena, &scratch);
    const char *index = qc_path_join(arena, directory, "model.safetensors.index.json");
    const char *single = qc_path_join(arena, directory, "model.safetensors");
    qc_status status;
    if (qc_is_file(index))
        status = open_index(&o, directory, index, set);
    else if (qc_is_file(single))
        status = open_file(&o, single, NULL);
    else if (!qc_is_directory(directory))
        status = qc_error(diag, directory, "is not a directory");
    else
        status =
            qc_error(diag, directory, "holds neither model.safetensors.index.json nor model.safetensors");
    fill_set(&o, set);
    if (status != QC_OK)
        qc_st_close(set);
    qc_arena_fini(&scratch);
    return status;
}

void qc_st_close(qc_st_set *set)
{
    for (size_t i = 0; i < set->file_count; i++)
        close(set->files[i].fd);
    *set = (qc_st_set){0};
}

const qc_st_tensor *qc_st_find(const qc_st_set *set, const char *name)
{
    return qc_map_get(&set->by_name, name);
}

qc_status qc_st_read(qc_diag *diag, const qc_st_set *set, const qc_st_tensor *tensor, void *buffer)
{
    const qc_st_file *file = &set->files[tensor->file];
    return qc_pread_all(diag, file->fd, file->path, buffer, (size_t)tensor->size_bytes, tensor->offset_bytes);
}

static int compare_out(const void *a, const void *b)
{
    const qc_st_out *x = a, *y = b;
    int x_rank = dtype_rank(x->dtype), y_rank = dtype_rank(y->dtype);
    return x_rank != y_rank ? x_rank - y_rank : strcmp(x->name, y->name);
}

/* A name as the Rust JSON writer spells it: as qc_str_add_quoted, but \b and \f in their short form. */
static void add_name(qc_str *out, const char *name)
{
    qc_str quoted;
    qc_str_init(&quoted, &(qc_arena){.oom = out->oom});
    qc_str_add_quoted(&quoted, name, strlen(name));
    for (const char *p = quoted.data; *p; p++) {
        bool backspace = qc_starts_with(p, "\\u0008"), form_feed = qc_starts_with(p, "\\u000c");
        if (backspace || form_feed) {
            qc_str_add(out, backspace ? "\\b" : "\\f");
            p += 5;
        } else {
            qc_str_add_char(out, *p);
            if (*p == '\\') /* \\ is one escape, whatever follows it */
                qc_str_add_char(out, *++p);
        }
    }
    qc_str_fini(&quoted);
}

static qc_status check_out(qc_diag *diag, qc_map *names, qc_st_out *tensor)
{
    const unsigned char *p = (const unsigned char *)tensor->name;
    size_t left = strlen(tensor->name);
    for (int length; left; p += length, left -= (size_t)length)
        if ((length = qc_utf8_length(p, left)) == 0)
            return qc_error(diag, tensor->name, "name of a tensor to write is not valid UTF-8");
    if (strcmp(tensor->name, "__metadata__") == 0)
        return qc_error(diag, tensor->name, "is no name for a tensor");
    if (!qc_map_set(names, tensor->name, tensor))
        return qc_error(diag, tensor->name, "two tensors to write have this name");
    int bits = qc_st_dtype_bits(tensor->dtype);
    if (!bits)
        return qc_error(diag, tensor->name, "safetensors has no dtype '%s'", tensor->dtype);
    for (int i = 0; i < tensor->rank; i++)
        if (tensor->shape[i] < 0)
            return qc_error(diag, tensor->name, "size %d of the shape to write is negative", i);
    const char *problem = tensor_bytes(tensor->shape, tensor->rank, bits, &tensor->size_bytes);
    return problem ? qc_error(diag, tensor->name, "%s", problem) : QC_OK;
}

static void add_row(qc_str *out, const qc_st_out *tensor)
{
    add_name(out, tensor->name);
    qc_str_add(out, ":{\"dtype\":\"");
    qc_str_add(out, tensor->dtype);
    qc_str_add(out, "\",\"shape\":[");
    for (int i = 0; i < tensor->rank; i++) {
        qc_str_add(out, i ? "," : "");
        qc_str_add_int(out, tensor->shape[i]);
    }
    qc_str_add(out, "],\"data_offsets\":[");
    qc_str_add_int(out, (int64_t)tensor->offset_bytes);
    qc_str_add_char(out, ',');
    qc_str_add_int(out, (int64_t)(tensor->offset_bytes + tensor->size_bytes));
    qc_str_add(out, "]}");
}

qc_status qc_st_layout(qc_diag *diag, qc_arena *arena, qc_st_out *tensors, size_t count, bool metadata_format,
    char **header, size_t *header_bytes)
{
    qc_arena scratch;
    qc_arena_init(&scratch, arena->oom);
    qc_map names;
    qc_map_init(&names, &scratch);
    qc_status status = QC_OK;
    for (size_t i = 0; status == QC_OK && i < count; i++)
        status = check_out(diag, &names, &tensors[i]);
    qc_arena_fini(&scratch);
    if (status != QC_OK)
        return status;
    if (count)
        qsort(tensors, count, sizeof *tensors, compare_out);
    qc_str text;
    qc_str_init(&text, arena);
    qc_str_add_bytes(&text, "\0\0\0\0\0\0\0", LENGTH_BYTES);
    qc_str_add(&text, metadata_format ? "{\"__metadata__\":{\"format\":\"pt\"}" : "{");
    uint64_t offset_bytes = 0;
    for (size_t i = 0; status == QC_OK && i < count; i++) {
        tensors[i].offset_bytes = offset_bytes;
        if (__builtin_add_overflow(offset_bytes, tensors[i].size_bytes, &offset_bytes) ||
            offset_bytes > INT64_MAX)
            status =
                qc_error(diag, tensors[i].name, "the file to write would be larger than 63 bits can say");
        qc_str_add(&text, i || metadata_format ? "," : "");
        add_row(&text, &tensors[i]);
    }
    qc_str_add_char(&text, '}');
    while (text.length % HEADER_ALIGNMENT_BYTES)
        qc_str_add_char(&text, ' ');
    uint64_t length = text.length - LENGTH_BYTES;
    if (status == QC_OK && length > LARGEST_HEADER_BYTES)
        status = qc_error(diag, "safetensors",
            "a header of %llu bytes is larger than %d: write more than one file", (unsigned long long)length,
            LARGEST_HEADER_BYTES);
    for (int i = 0; i < LENGTH_BYTES; i++)
        text.data[i] = (char)(length >> (8 * i));
    if (status == QC_OK) {
        *header = qc_arena_strndup(arena, text.data, text.length);
        *header_bytes = text.length;
    }
    qc_str_fini(&text);
    return status;
}
