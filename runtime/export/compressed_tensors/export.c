/* SPDX-License-Identifier: MIT
 *
 * export.c - OUT.partial, its contents, and the rename that makes it OUT; see export.h.
 *
 * Nothing is decided here: plan.c says which tensors there are, shards.c which file each goes to,
 * safetensors.c in which order they lie, write.c fills them. When everything is written, OUT.partial becomes OUT by one rename;
 * an OUT that is to be replaced (--force) changes places with it in one step and is removed then.
 */
#include "runtime/export/compressed_tensors/export.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ir/support/io.h"
#include "runtime/export/compressed_tensors/internal.h"

qc_status ct_make_directory(qc_diag *diag, const char *path)
{
    if (mkdir(path, 0777) == 0)
        return QC_OK;
    return qc_error(diag, path, "cannot make the directory: %s", strerror(errno));
}

/* ---- where to ------------------------------------------------------------------------------------------ */

/* The paths of one export. */
typedef struct places {
    const char *source;  /* directory of the source */
    const char *out;     /* without trailing slashes */
    const char *partial; /* OUT.partial */
    bool replace;        /* OUT exists and is to be replaced */
    int lock;            /* OUT.partial, locked while this run lives */
} places;

static bool exists(const char *path)
{
    struct stat info;
    return lstat(path, &info) == 0;
}

/* Is `inner` the directory `outer` or inside it? Both exist. */
static bool lies_in(const char *inner, const char *outer)
{
    char *a = realpath(inner, NULL), *b = realpath(outer, NULL);
    size_t length = b ? strlen(b) : 0;
    bool result = a && b && strncmp(a, b, length) == 0 && (a[length] == 0 || a[length] == '/' || length == 1);
    free(a);
    free(b);
    return result;
}

/* Opens a directory and locks it; -1 when another process holds it. The lock goes with the process, however that
 * ends, so a directory that nobody holds was left behind. Where there are no locks, all go without. */
static int lock_directory(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
        close(fd);
        errno = EWOULDBLOCK;
        return -1;
    }
    return fd;
}

static qc_status at_work(qc_diag *diag, const char *partial)
{
    return qc_error(diag, partial, "another run is writing it now");
}

static qc_status check_replaceable(qc_diag *diag, qc_arena *arena, const char *out)
{
    char **names;
    size_t count;
    struct stat info;
    if (lstat(out, &info) != 0 || !S_ISDIR(info.st_mode))
        return qc_error(diag, out, "exists and is no directory; it is not replaced");
    if (qc_list_directory(diag, arena, out, &names, &count) != QC_OK)
        return QC_ERROR;
    if (count && !qc_is_file(qc_path_join(arena, out, "config.json")))
        return qc_error(
            diag, out, "exists and holds no config.json, so it is no checkpoint; it is not replaced");
    return QC_OK;
}

/* Everything that can be wrong with the place of the output; changes nothing. p->source is set. */
static qc_status choose_places(qc_ctx *ctx, qc_arena *arena, const char *out, bool force, places *p)
{
    qc_diag *diag = qc_ctx_diag(ctx);
    size_t length = strlen(out);
    while (length > 1 && out[length - 1] == '/')
        length--;
    if (length == 0)
        return qc_error(diag, "", "the name of the output directory is empty");
    p->out = qc_arena_strndup(arena, out, length);
    p->partial = qc_arena_printf(arena, "%s.partial", p->out);
    p->replace = exists(p->out);
    const char *base = qc_path_base(p->out);
    if (!strcmp(base, ".") || !strcmp(base, "..") || !*base)
        return qc_error(diag, p->out, "is no name for a new directory");
    if (qc_check_parent(diag, p->out) != QC_OK || qc_check_parent(diag, p->partial) != QC_OK)
        return QC_ERROR;
    if (p->replace && p->source && lies_in(p->source, p->out))
        return qc_error(diag, p->out, "is the source's directory, or holds it; write to another one");
    if (p->replace && !force) {
        qc_error(diag, p->out, "exists already");
        qc_ctx_note(ctx, "--force replaces it when the new one is complete");
        return QC_ERROR;
    }
    if (p->replace && check_replaceable(diag, arena, p->out) != QC_OK)
        return QC_ERROR;
    if (!exists(p->partial))
        return QC_OK;
    int lock = lock_directory(p->partial);
    if (lock < 0 && errno == EWOULDBLOCK)
        return at_work(diag, p->partial);
    if (lock >= 0)
        close(lock);
    if (!force) {
        qc_error(diag, p->partial, "exists already: a run was interrupted");
        qc_ctx_note(ctx, "remove it, or start over with --force");
        return QC_ERROR;
    }
    if (p->source && lies_in(p->source, p->partial))
        return qc_error(diag, p->partial, "holds the source; it is not removed");
    return QC_OK;
}

qc_status qc_export_check_output(
    qc_ctx *ctx, const qc_module *module, const char *source_override, const char *out, bool force)
{
    qc_arena arena;
    qc_arena_init(&arena, qc_ctx_arena(ctx)->oom);
    places p = {.source = source_override ? source_override : qc_module_source(module)};
    qc_status status = choose_places(ctx, &arena, out, force, &p);
    if (status == QC_OK && p.source && qc_is_directory(p.source))
        status = ct_check_source(qc_ctx_diag(ctx), &arena, module, p.source);
    qc_arena_fini(&arena);
    return status;
}

static qc_status system_failure(qc_diag *diag, const char *path, const char *what)
{
    return qc_error(diag, path, "cannot %s: %s", what, strerror(errno));
}

/* Makes OUT.partial anew and locks it. What an interrupted run left is locked before it goes, so that of two runs
 * one finds the other's lock. */
static qc_status begin_partial(qc_diag *diag, places *p)
{
    if (exists(p->partial)) {
        int left = lock_directory(p->partial);
        if (left < 0 && errno == EWOULDBLOCK)
            return at_work(diag, p->partial);
        qc_status status = left < 0 && errno == ENOENT ? QC_OK : qc_remove_tree(diag, p->partial);
        if (left >= 0)
            close(left);
        if (status != QC_OK)
            return status;
    }
    if (ct_make_directory(diag, p->partial) != QC_OK)
        return QC_ERROR;
    p->lock = lock_directory(p->partial);
    return p->lock < 0 && errno == EWOULDBLOCK ? at_work(diag, p->partial) : QC_OK;
}

/* The finished directory stays where it is when it cannot get its name. */
static qc_status not_moved(qc_diag *diag, const places *p, const char *what)
{
    system_failure(diag, p->out, what);
    qc_note(diag, "the finished checkpoint is %s", p->partial);
    return QC_ERROR;
}

static qc_status remove_old(qc_diag *diag, const places *p, const char *old)
{
    if (qc_remove_tree(diag, old) == QC_OK)
        return QC_OK;
    qc_note(diag, "%s is complete; %s is what is left of the one before", p->out, old);
    return QC_ERROR;
}

static qc_status move_into_place(qc_diag *diag, const places *p)
{
    if (!p->replace)
        return rename(p->partial, p->out) == 0 ? QC_OK
                                               : not_moved(diag, p, "rename the finished directory to it");
#ifdef RENAME_EXCHANGE
    int old_lock = lock_directory(p->out); /* as OUT.partial it is this run's while it goes */
    bool exchanged = renameat2(AT_FDCWD, p->partial, AT_FDCWD, p->out, RENAME_EXCHANGE) == 0;
    qc_status status = exchanged ? remove_old(diag, p, p->partial) : QC_ERROR;
    if (old_lock >= 0)
        close(old_lock);
    if (exchanged)
        return status;
#endif
    /* File systems without exchange: for a moment neither is there. */
    char old[PATH_MAX];
    if (snprintf(old, sizeof old, "%s.previous", p->out) >= (int)sizeof old)
        return qc_error(diag, p->out, "the name is too long");
    if (rename(p->out, old) != 0)
        return not_moved(diag, p, "replace");
    if (rename(p->partial, p->out) != 0) {
        not_moved(diag, p, "replace");
        if (rename(old, p->out) != 0)
            qc_note(diag, "what was there before is %s now", old);
        return QC_ERROR;
    }
    return remove_old(diag, p, old);
}

/* ---- everything ---------------------------------------------------------------------------------------- */

/* What is being written. */
typedef struct writer {
    ct_plan *plan;
    const qc_export_options *options;
    const places *places;
    uint32_t shard_count;
    uint64_t total_bytes;
} writer;

static qc_status write_text(writer *w, const char *name, const qc_str *text)
{
    const char *path = qc_path_join(&w->plan->arena, w->places->partial, name);
    return qc_write_file(qc_ctx_diag(w->plan->ctx), path, text->data, text->length);
}

static qc_status write_texts(writer *w, const qc_str *config)
{
    qc_str text;
    qc_str_init(&text, &w->plan->arena);
    ct_recipe_text(w->plan, &text);
    qc_status status = write_text(w, "config.json", config);
    if (status == QC_OK && (w->plan->quantized || w->plan->rotated) && !w->plan->as_tensors)
        status = write_text(w, "recipe.yaml", &text);
    if (status == QC_OK && (w->shard_count > 1 || w->plan->as_tensors)) {
        qc_str_clear(&text);
        ct_index_text(w->plan, w->shard_count, &text);
        status = write_text(w, "model.safetensors.index.json", &text);
    }
    qc_str_fini(&text);
    return status;
}

static qc_status write_all(writer *w, const qc_str *config)
{
    const ct_write_options options = {.directory = w->places->partial,
        .shard_count = w->shard_count,
        .total_bytes = w->total_bytes,
        .progress = w->options->progress,
        .progress_user = w->options->progress_user};
    if (ct_write_tensors(w->plan, &options) != QC_OK || write_texts(w, config) != QC_OK)
        return QC_ERROR;
    return ct_copy_side_files(w->plan, w->places->source, w->places->partial);
}

/* The path as a shell reads it. */
static const char *shell_word(qc_arena *arena, const char *path)
{
    bool plain = *path != 0;
    for (const char *p = path; *p; p++)
        plain = plain && (isalnum((unsigned char)*p) || strchr("/._-+=@%,:", *p));
    if (plain)
        return path;
    char *out = qc_arena_alloc(arena, 4 * strlen(path) + 3), *q = out;
    *q++ = '\'';
    for (const char *p = path; *p; p++) {
        if (*p == '\'') {
            memcpy(q, "'\\''", 4);
            q += 4;
        } else {
            *q++ = *p;
        }
    }
    *q++ = '\'';
    *q = 0;
    return out;
}

/* NULL, after a warning, when vLLM has nothing for what was written. */
static const char *command_line(ct_plan *plan, const char *out)
{
    qc_arena *arena = qc_ctx_arena(plan->ctx);
    if (plan->not_for_vllm)
        return NULL;
    const char *start = *out == '-' ? "./" : "";
    const char *command = qc_arena_printf(arena, "vllm serve %s%s", start, shell_word(arena, out));
    return plan->kv.present ? qc_arena_printf(arena, "%s --kv-cache-dtype fp8", command) : command;
}

static qc_status measure(ct_plan *plan, uint64_t *total_bytes)
{
    *total_bytes = 0;
    for (size_t i = 0; i < plan->tensors.count; i++) {
        ct_tensor *t = plan->tensors.items[i];
        uint64_t bits = (uint64_t)qc_st_dtype_bits(t->dtype);
        if (bits == 0)
            return qc_ctx_error(plan->ctx, t->name, "safetensors has no name for its element type %s",
                t->value ? qc_dtype_name(qc_type_dtype(qc_value_type(t->value))) : t->dtype);
        for (int d = 0; d < t->rank; d++)
            if (__builtin_mul_overflow(bits, (uint64_t)t->shape[d], &bits))
                return qc_ctx_error(plan->ctx, t->name, "is too large");
        t->size_bytes = bits / 8 + (bits % 8 != 0);
        if (__builtin_add_overflow(*total_bytes, t->size_bytes, total_bytes) || *total_bytes > INT64_MAX)
            return qc_ctx_error(plan->ctx, t->name, "the checkpoint is too large");
    }
    return QC_OK;
}

static qc_status export_planned(
    ct_plan *plan, const char *out, const qc_export_options *options, qc_str *config)
{
    places p = {.source = qc_weights_directory(plan->weights), .lock = -1};
    writer w = {.plan = plan, .options = options, .places = &p};
    qc_diag *diag = qc_ctx_diag(plan->ctx);
    if (choose_places(plan->ctx, &plan->arena, out, options->force, &p) != QC_OK ||
        ct_check_source(diag, &plan->arena, plan->module, p.source) != QC_OK ||
        ct_check_same_model(plan->ctx, plan->module, p.source) != QC_OK || ct_plan_make(plan) != QC_OK ||
        ct_config_text(plan, p.source, config) != QC_OK || measure(plan, &w.total_bytes) != QC_OK)
        return QC_ERROR;
    if (plan->as_tensors && options->max_shard_size_bytes)
        qc_warning(
            diag, p.source, "a model imported as tensors keeps its shards: the size asked for has no effect");
    w.shard_count = ct_split(
        plan, options->max_shard_size_bytes ? options->max_shard_size_bytes : CT_DEFAULT_SHARD_BYTES);
    if (w.shard_count == 0)
        return qc_error(diag, p.source, "there are no tensors to write");
    if (options->begin)
        options->begin(options->progress_user, w.total_bytes, ct_peak_bytes(plan));
    if (options->dry_run)
        return QC_OK;
    if (begin_partial(diag, &p) != QC_OK)
        return QC_ERROR;
    qc_status status = write_all(&w, config);
    if (status == QC_OK)
        status = move_into_place(diag, &p);
    else if (exists(p.partial))
        qc_remove_tree(diag, p.partial);
    if (p.lock >= 0)
        close(p.lock);
    return status;
}

qc_status qc_export_check_module(
    qc_ctx *ctx, const qc_module *module, const char *source_override, const qc_allowed *allowed)
{
    static const qc_allowed nothing = {0};
    ct_plan plan = {
        .ctx = ctx, .module = module, .before_data = true, .allowed = allowed ? allowed : &nothing};
    plan.weights = qc_weights_open(ctx, module, source_override);
    if (!plan.weights)
        return QC_ERROR;
    qc_arena_init(&plan.arena, qc_ctx_arena(ctx)->oom);
    qc_status status = ct_check_same_model(ctx, module, qc_weights_directory(plan.weights));
    if (status == QC_OK)
        status = ct_plan_make(&plan);
    qc_weights_close(plan.weights);
    ct_close_experts(&plan);
    qc_arena_fini(&plan.arena);
    return status;
}

qc_status qc_export_compressed_tensors(qc_ctx *ctx, const qc_module *module, const char *source_override,
    const char *out, const qc_export_options *options, const char **serve_command)
{
    static const qc_export_options defaults = {0};
    ct_plan plan = {.ctx = ctx, .module = module};
    qc_str config;
    options = options ? options : &defaults;
    plan.quiet = options->checked;
    plan.allowed = &options->allowed;
    plan.weights = qc_weights_open(ctx, module, source_override);
    if (!plan.weights)
        return QC_ERROR;
    qc_weights_set_threads(plan.weights, options->threads);
    qc_arena_init(&plan.arena, qc_ctx_arena(ctx)->oom);
    qc_str_init(&config, &plan.arena);
    qc_status status = export_planned(&plan, out, options, &config);
    if (serve_command)
        *serve_command = status == QC_OK && !options->dry_run ? command_line(&plan, out) : NULL;
    qc_str_fini(&config);
    qc_weights_close(plan.weights);
    ct_close_experts(&plan);
    qc_arena_fini(&plan.arena);
    return status;
}
