/* SPDX-License-Identifier: MIT
 *
 * diff.c - two checkpoints: config.json by values, other files by bytes, and the report of all differences.
 *
 * config.json is compared as data: which values differ, by their path. Whether the files are the same bytes is a
 * question to `files`, and so are names, sizes and headers of weight files (what lies behind the headers is compared
 * as tensors). A golden's own notes, and what nobody loads, are no part of a checkpoint.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ir/support/io.h"
#include "runtime/check/internal.h"
#include "runtime/check/merge.h"

enum { MAX_JSON_BYTES = 256 << 20, VALUE_CHARS = 80 };

void check_differ(check_diff *d, const char *kind, const char *name, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    check_difference difference = {kind, name, qc_arena_vprintf(d->arena, format, args), format};
    va_end(args);
    QC_PUSH(d->arena, &d->differences, difference);
}

static const char *path_in(check_diff *d, const check_side *side, const char *name)
{
    return qc_path_join(d->arena, side->directory, name);
}

/* ---- config.json --------------------------------------------------------------------------------------- */

static qc_json *read_json(check_diff *d, const char *path)
{
    char *data;
    size_t length;
    if (qc_read_file(d->diag, d->arena, path, MAX_JSON_BYTES, &data, &length) != QC_OK)
        return NULL;
    return qc_json_parse(d->diag, d->arena, path, data, length);
}

/* The value on one line, cut when it is long. */
static const char *value_text(check_diff *d, const qc_json *value)
{
    qc_str text;
    qc_str_init(&text, d->arena);
    qc_json_write(&text, value, -1, false);
    bool cut = text.length > VALUE_CHARS;
    const char *copy = qc_arena_printf(d->arena, "%.*s%s", VALUE_CHARS, text.data, cut ? "..." : "");
    qc_str_fini(&text);
    return copy;
}

static void compare_json(check_diff *d, const char *path, const qc_json *a, const qc_json *b);

static const char *member_path(check_diff *d, const char *path, const char *key)
{
    return *path ? qc_arena_printf(d->arena, "%s.%s", path, key) : key;
}

static void compare_objects(check_diff *d, const char *path, const qc_json *a, const qc_json *b)
{
    for (const qc_json *x = a->first; x; x = x->next) {
        const qc_json *y = qc_json_get(b, x->key);
        if (y)
            compare_json(d, member_path(d, path, x->key), x, y);
        else
            check_differ(d, "config", member_path(d, path, x->key), "only in %s: %s", d->a.directory,
                value_text(d, x));
    }
    for (const qc_json *y = b->first; y; y = y->next)
        if (!qc_json_get(a, y->key))
            check_differ(d, "config", member_path(d, path, y->key), "only in %s: %s", d->b.directory,
                value_text(d, y));
}

static void compare_json(check_diff *d, const char *path, const qc_json *a, const qc_json *b)
{
    if (a->kind == QC_JSON_OBJECT && b->kind == QC_JSON_OBJECT) {
        compare_objects(d, path, a, b);
        return;
    }
    if (a->kind == QC_JSON_ARRAY && b->kind == QC_JSON_ARRAY && a->length == b->length) {
        size_t i = 0;
        for (const qc_json *x = a->first, *y = b->first; x && y; x = x->next, y = y->next)
            compare_json(d, qc_arena_printf(d->arena, "%s[%zu]", path, i++), x, y);
        return;
    }
    bool same = a->kind == b->kind;
    if (same && a->kind == QC_JSON_BOOL)
        same = a->boolean == b->boolean;
    else if (same && a->kind == QC_JSON_NUMBER)
        same = a->is_integer && b->is_integer ? a->integer == b->integer : a->number == b->number;
    else if (same && a->kind == QC_JSON_STRING)
        same = a->length == b->length && memcmp(a->text, b->text, a->length) == 0;
    else if (a->kind == QC_JSON_ARRAY)
        same = false; /* lists of other lengths */
    if (!same)
        check_differ(d, "config", path, "%s != %s", value_text(d, a), value_text(d, b));
}

qc_status check_diff_config(check_diff *d)
{
    static const char name[] = "config.json";
    const char *a = path_in(d, &d->a, name), *b = path_in(d, &d->b, name);
    if (!qc_is_file(a) || !qc_is_file(b)) {
        if (qc_is_file(a) || qc_is_file(b))
            check_differ(d, "config", name, "only in %s", qc_is_file(a) ? d->a.directory : d->b.directory);
        return QC_OK;
    }
    const qc_json *x = read_json(d, a), *y = x ? read_json(d, b) : NULL;
    if (!y)
        return QC_ERROR;
    d->has_config = true;
    compare_json(d, "", x, y);
    return QC_OK;
}

/* ---- files --------------------------------------------------------------------------------------------- */

typedef struct contents {
    qc_sha256 hash;
    uint64_t size_bytes;
    char hex[65];
} contents;

static qc_status read_contents(check_diff *d, const char *path, contents *c)
{
    enum { BLOCK = 1 << 20 };
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    char *block = fd < 0 ? NULL : malloc(BLOCK);
    ssize_t n = -1;
    *c = (contents){.size_bytes = 0};
    qc_sha256_init(&c->hash);
    while (block && (n = read(fd, block, BLOCK)) > 0) {
        qc_sha256_add(&c->hash, block, (size_t)n);
        c->size_bytes += (uint64_t)n;
    }
    free(block);
    if (fd >= 0)
        close(fd);
    if (n < 0)
        return qc_error(d->diag, path, "cannot be read");
    qc_sha256_hex(&c->hash, c->hex);
    return QC_OK;
}

static const qc_st_file *shard_named(const check_side *side, const char *name)
{
    for (size_t i = 0; i < side->set.file_count; i++)
        if (strcmp(side->set.files[i].name, name) == 0)
            return &side->set.files[i];
    return NULL;
}

/* Two files of one name that are both there. */
static qc_status compare_file(check_diff *d, const char *name)
{
    const qc_st_file *sa = shard_named(&d->a, name), *sb = d->b.golden ? NULL : shard_named(&d->b, name);
    d->file_count++;
    if (sa && sb && d->options->tensors) { /* elements were compared as tensors */
        if (strcmp(sa->header_sha256, sb->header_sha256) != 0)
            check_differ(d, "file", name, "the headers differ");
        else if (sa->size_bytes != sb->size_bytes)
            check_differ(d, "file", name, "%" PRIu64 " bytes != %" PRIu64, sa->size_bytes, sb->size_bytes);
        return QC_OK;
    }
    contents a, b;
    if (read_contents(d, path_in(d, &d->a, name), &a) != QC_OK ||
        read_contents(d, path_in(d, &d->b, name), &b) != QC_OK)
        return QC_ERROR;
    if (a.size_bytes != b.size_bytes)
        check_differ(d, "file", name, "%" PRIu64 " bytes != %" PRIu64, a.size_bytes, b.size_bytes);
    else if (strcmp(a.hex, b.hex) != 0)
        check_differ(d, "file", name, "the bytes differ (%" PRIu64 " of them, sha256 %.16s... != %.16s...)",
            a.size_bytes, a.hex, b.hex);
    return QC_OK;
}

/* The SHA-256 of a weight file's header without its length, as goldens have it. */
static qc_status header_digest(check_diff *d, const qc_st_file *f, char hex[65])
{
    size_t length = (size_t)f->header_bytes - 8;
    char *header = malloc(length + 1);
    qc_sha256 h;
    if (!header)
        return qc_error(d->diag, f->path, "out of memory");
    qc_status status = qc_pread_all(d->diag, f->fd, f->path, header, length, 8);
    qc_sha256_init(&h);
    if (status == QC_OK)
        qc_sha256_add(&h, header, length);
    qc_sha256_hex(&h, hex);
    free(header);
    return status;
}

/* Weight files against a golden's digests. */
static qc_status compare_golden_files(check_diff *d)
{
    const qc_json *files = qc_json_get(d->b.golden, "files");
    const char *where = path_in(d, &d->b, "golden.json");
    for (size_t i = 0; i < d->a.set.file_count; i++)
        if (!qc_json_get(files, d->a.set.files[i].name))
            check_differ(d, "file", d->a.set.files[i].name, "only in %s", d->a.directory);
    for (const qc_json *f = files ? files->first : NULL; f; f = f->next) {
        const qc_st_file *shard = shard_named(&d->a, f->key);
        const char *sha256, *header_sha256;
        int64_t bytes;
        char hex[65];
        contents c;
        if (!shard) {
            check_differ(d, "file", f->key, "only in %s", d->b.directory);
            continue;
        }
        d->file_count++;
        if (qc_json_string(d->diag, where, f, "sha256", true, &sha256) != QC_OK ||
            qc_json_string(d->diag, where, f, "header_sha256", true, &header_sha256) != QC_OK ||
            qc_json_int(d->diag, where, f, "bytes", true, &bytes) != QC_OK ||
            header_digest(d, shard, hex) != QC_OK || read_contents(d, shard->path, &c) != QC_OK)
            return QC_ERROR;
        if (strcmp(hex, header_sha256) != 0)
            check_differ(d, "file", f->key, "the headers differ");
        if (c.size_bytes != (uint64_t)bytes)
            check_differ(d, "file", f->key, "%" PRIu64 " bytes != %" PRId64, c.size_bytes, bytes);
        else if (strcmp(c.hex, sha256) != 0)
            check_differ(d, "file", f->key, "sha256 %.16s... != %.16s...", c.hex, sha256);
    }
    return QC_OK;
}

static bool is_golden_note(const char *name)
{
    static const char *const names[] = {"golden.json", "small.golden", "meta.json", "recipe.in.yaml"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

static bool is_listed(char *const *names, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

/* The names of a side's plain files. */
static qc_status list_files(check_diff *d, const check_side *side, char ***names, size_t *count)
{
    size_t kept = 0;
    if (qc_list_directory(d->diag, d->arena, side->directory, names, count) != QC_OK)
        return QC_ERROR;
    for (size_t i = 0; i < *count; i++)
        if (qc_is_file(path_in(d, side, (*names)[i])))
            (*names)[kept++] = (*names)[i];
    *count = kept;
    return QC_OK;
}

qc_status check_diff_files(check_diff *d)
{
    char **a, **b;
    size_t a_count, b_count;
    if (list_files(d, &d->a, &a, &a_count) != QC_OK || list_files(d, &d->b, &b, &b_count) != QC_OK)
        return QC_ERROR;
    for (size_t i = 0; i < a_count; i++) {
        bool weights = d->b.golden && shard_named(&d->a, a[i]);
        if (weights)
            continue;
        if (!is_listed(b, b_count, a[i]))
            check_differ(d, "file", a[i], "only in %s", d->a.directory);
        else if (compare_file(d, a[i]) != QC_OK)
            return QC_ERROR;
    }
    for (size_t i = 0; i < b_count; i++)
        if (!is_listed(a, a_count, b[i]) && !is_golden_note(b[i]))
            check_differ(d, "file", b[i], "only in %s", d->b.directory);
    return d->b.golden ? compare_golden_files(d) : QC_OK;
}

/* ---- the whole ----------------------------------------------------------------------------------------- */

static bool holds_weights(check_diff *d, const char *directory)
{
    char **names;
    size_t count;
    if (qc_list_directory(d->diag, d->arena, directory, &names, &count) != QC_OK)
        return false;
    for (size_t i = 0; i < count; i++)
        if (qc_ends_with(names[i], ".safetensors"))
            return true;
    return false;
}

static qc_status open_side(check_diff *d, check_side *side, const char *directory, bool may_be_golden)
{
    side->directory = directory;
    if (!d->options->config && !d->options->files && qc_is_file(directory))
        return qc_st_open_file(d->diag, d->arena, directory, &side->set);
    if (!qc_is_directory(directory))
        return qc_error(d->diag, directory, "is no directory");
    if (!d->options->tensors && !d->options->files) {
        qc_map_init(&side->set.by_name, d->arena);
        return QC_OK;
    }
    const char *golden = path_in(d, side, "golden.json"), *small = path_in(d, side, "small.golden");
    if (!qc_is_file(golden) || holds_weights(d, directory))
        return qc_st_open_directory(d->diag, d->arena, directory, &side->set);
    if (!may_be_golden)
        return qc_error(d->diag, directory, "a golden is the second of the two");
    side->golden = read_json(d, golden);
    if (!side->golden)
        return QC_ERROR;
    const qc_json *tensors = qc_json_get(side->golden, "tensors");
    if (!tensors || tensors->kind != QC_JSON_OBJECT)
        return qc_error(d->diag, golden, "has no object 'tensors'");
    if (!qc_is_file(small)) {
        qc_map_init(&side->set.by_name, d->arena);
        return QC_OK;
    }
    return qc_st_open_file(d->diag, d->arena, small, &side->set);
}

/* Does another expert of the line differ otherwise than the first? */
static bool line_varies(const check_diff *d, const check_merge *merge, const check_merged *line)
{
    const check_difference *x = &d->differences.items[line->first];
    for (size_t i = line->first + 1; line->count > 1 && i <= line->last; i++)
        if (merge->line_of.items[i] == line && strcmp(d->differences.items[i].what, x->what) != 0)
            return true;
    return false;
}

/* A line a difference; experts of a layer that differ in the same way have one, with the numbers of the first. */
static void add_differences(check_diff *d, qc_str *out)
{
    check_merge merge;
    check_merge_init(&merge, d->arena, d->options->every_expert);
    for (size_t i = 0; i < d->differences.count; i++) {
        const check_difference *x = &d->differences.items[i];
        check_merge_add(&merge, x->name, qc_arena_printf(d->arena, "%s %s", x->kind, x->form));
    }
    for (size_t i = 0; i < merge.lines.count; i++) {
        const check_merged *line = merge.lines.items[i];
        const check_difference *x = &d->differences.items[line->first];
        qc_str_addf(out, "%s ", x->kind);
        check_add_safe(out, check_merged_name(d->arena, line));
        qc_str_add(out, ": ");
        check_add_safe(out, x->what);
        if (line_varies(d, &merge, line))
            qc_str_addf(out, " (expert %" PRId64 "; the others by other numbers)", line->experts.items[0]);
        qc_str_add_char(out, '\n');
    }
}

static void add_report(check_diff *d, qc_str *out)
{
    add_differences(d, out);
    if (d->differences.count) {
        qc_str_addf(
            out, "%zu %s\n", d->differences.count, d->differences.count == 1 ? "difference" : "differences");
        return;
    }
    const char *comma = "";
    qc_str_add(out, "equal:");
    if (d->options->tensors) {
        qc_str_addf(out, " %zu %s", d->tensor_count, d->tensor_count == 1 ? "tensor" : "tensors");
        comma = ",";
    }
    if (d->has_config) {
        qc_str_addf(out, "%s config.json", comma);
        comma = ",";
    }
    if (d->options->files)
        qc_str_addf(out, "%s %zu %s", comma, d->file_count, d->file_count == 1 ? "file" : "files");
    qc_str_add_char(out, '\n');
}

static void add_json_report(check_diff *d, qc_str *out)
{
    qc_json *root = qc_json_new(d->arena, QC_JSON_OBJECT), *list = qc_json_new(d->arena, QC_JSON_ARRAY);
    for (size_t i = 0; i < d->differences.count; i++) {
        const check_difference *x = &d->differences.items[i];
        qc_json *o = qc_json_new(d->arena, QC_JSON_OBJECT);
        qc_json_set(d->arena, o, "kind", qc_json_new_string(d->arena, x->kind));
        qc_json_set(d->arena, o, "name", qc_json_new_string(d->arena, x->name));
        qc_json_set(d->arena, o, "what", qc_json_new_string(d->arena, x->what));
        qc_json_push(d->arena, list, o);
    }
    qc_json_set(d->arena, root, "equal", qc_json_new_bool(d->arena, d->differences.count == 0));
    qc_json_set(d->arena, root, "tensors_compared", qc_json_new_int(d->arena, (int64_t)d->tensor_count));
    qc_json_set(d->arena, root, "files_compared", qc_json_new_int(d->arena, (int64_t)d->file_count));
    qc_json_set(d->arena, root, "differences", list);
    qc_json_write(out, root, 2, false);
    qc_str_add_char(out, '\n');
}

qc_status qc_check_diff(qc_diag *diag, qc_arena *arena, const char *a, const char *b,
    const qc_check_diff_options *options, qc_str *out, size_t *difference_count)
{
    const bool files = qc_is_file(a) && qc_is_file(b);
    const qc_check_diff_options tensors = {.tensors = true,
        .every_expert = options->every_expert,
        .json = options->json,
        .progress = options->progress,
        .progress_user = options->progress_user};
    options = files ? &tensors : options;
    check_diff d = {.diag = diag, .arena = arena, .options = options};
    qc_status status = open_side(&d, &d.a, a, false);
    if (status == QC_OK)
        status = open_side(&d, &d.b, b, true);
    if (status == QC_OK && options->tensors)
        status = check_diff_tensors(&d);
    if (status == QC_OK && options->config)
        status = check_diff_config(&d);
    if (status == QC_OK && options->files)
        status = check_diff_files(&d);
    qc_st_close(&d.a.set);
    qc_st_close(&d.b.set);
    if (status != QC_OK)
        return QC_ERROR;
    if (options->json)
        add_json_report(&d, out);
    else
        add_report(&d, out);
    *difference_count = d.differences.count;
    return QC_OK;
}
