/* SPDX-License-Identifier: MIT
 *
 * export_job.h - a model imported, quantized by a pipeline, its scales taken from a golden, exported into a
 * directory of the test's own.
 */
#ifndef QC_TESTS_EXPORT_JOB_H
#define QC_TESTS_EXPORT_JOB_H

#include "tests/unit/check.h"

#include <sys/stat.h>
#include <unistd.h>

#include "frontends/hf/hf.h"
#include "ir/support/io.h"
#include "ir/support/safetensors.h"
#include "passes/manager.h"
#include "qc/build.h"
#include "runtime/export/compressed_tensors/export.h"

typedef struct job {
    qc_arena arena;
    qc_diag diag; /* the test's own; its messages go to `said_text` as well */
    qc_ctx *ctx;
    qc_module *module;
    char directory[64];      /* of the test */
    const char *out;         /* directory/out */
    const char *serve;       /* command of the last export */
    char said_text[1 << 14]; /* every message: "error: WHERE: WHAT\n" */
    size_t said_length;
} job;

static void job_keep(void *user, qc_severity severity, const char *where, const char *what)
{
    static const char *const names[] = {"note", "remark", "warning", "error"};
    job *j = user;
    int n = snprintf(j->said_text + j->said_length, sizeof j->said_text - j->said_length, "%s: %s: %s\n",
        names[severity], where, what);
    if (n > 0 && j->said_length + (size_t)n < sizeof j->said_text)
        j->said_length += (size_t)n;
}

static bool job_said(const job *j, const char *part)
{
    bool found = strstr(j->said_text, part) != NULL;
    if (!found)
        printf("# said '%s', expected '%s'\n", j->said_text, part);
    return found;
}

static void job_forget(job *j)
{
    j->said_length = 0;
    j->said_text[0] = 0;
}

/* NULL where no directory can be made. */
static job *job_begin(void)
{
    job *j = calloc(1, sizeof *j);
    if (!j)
        return NULL;
    snprintf(j->directory, sizeof j->directory, "qc-test-export-XXXXXX");
    if (!mkdtemp(j->directory)) {
        free(j);
        return NULL;
    }
    qc_arena_init(&j->arena, NULL);
    qc_diag_init(&j->diag, &j->arena, job_keep, j);
    j->ctx = qc_ctx_create(NULL, job_keep, j);
    j->out = qc_path_join(&j->arena, j->directory, "out");
    return j;
}

static void job_end(job *j)
{
    CHECK_INT(qc_remove_tree(&j->diag, j->directory), QC_OK);
    if (j->module)
        qc_module_destroy(j->module);
    qc_ctx_destroy(j->ctx);
    qc_arena_fini(&j->arena);
    free(j);
}

/* A file of the source tree. */
static const char *job_path(job *j, const char *relative)
{
    const char *root = getenv("QC_SOURCE_ROOT");
    return qc_path_join(&j->arena, root ? root : ".", relative);
}

/* ---- models to spoil ----------------------------------------------------------------------------------- */

/* Copies the model in the tree to directory/name. */
static const char *job_copy_model(job *j, const char *name)
{
    static const char *const files[] = {"config.json", "model.safetensors", "generation_config.json",
        "tokenizer.json", "tokenizer_config.json", "LICENSE"};
    const char *to = qc_path_join(&j->arena, j->directory, name),
               *from = job_path(j, "tests/data/stories260k");
    CHECK_INT(mkdir(to, 0777), 0);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        CHECK_INT(qc_copy_file(&j->diag, qc_path_join(&j->arena, from, files[i]),
                      qc_path_join(&j->arena, to, files[i])),
            QC_OK);
    return to;
}

static void job_write(job *j, const char *directory, const char *name, const char *text)
{
    CHECK_INT(qc_write_file(&j->diag, qc_path_join(&j->arena, directory, name), text, strlen(text)), QC_OK);
}

static void job_change_config(job *j, const char *model, const char *key, qc_json *value)
{
    char *data;
    size_t length;
    const char *path = qc_path_join(&j->arena, model, "config.json");
    CHECK_INT(qc_read_file(&j->diag, &j->arena, path, 1 << 20, &data, &length), QC_OK);
    qc_json *config = qc_json_parse(&j->diag, &j->arena, path, data, length);
    qc_json_set(&j->arena, config, key, value);
    qc_str text;
    qc_str_init(&text, &j->arena);
    qc_json_write(&text, config, 2, false);
    CHECK_INT(qc_write_file(&j->diag, path, text.data, text.length), QC_OK);
    qc_str_fini(&text);
}

/* Overwrites bytes of a tensor. */
static void job_poke(
    job *j, const char *model, const char *tensor, size_t offset, const void *bytes, size_t count)
{
    qc_st_set set;
    CHECK_INT(qc_st_open_directory(&j->diag, &j->arena, model, &set), QC_OK);
    const qc_st_tensor *t = qc_st_find(&set, tensor);
    FILE *f = fopen(qc_path_join(&j->arena, model, "model.safetensors"), "r+b");
    CHECK(t && f);
    if (t && f) {
        CHECK_INT(fseek(f, (long)(t->offset_bytes + offset), SEEK_SET), 0);
        CHECK_INT(fwrite(bytes, 1, count, f), count);
    }
    if (f)
        fclose(f);
    qc_st_close(&set);
}

/* Stores lm_head.weight, the embedding's table with its first byte changed by `change`. */
static void job_add_head(job *j, const char *model, unsigned char change)
{
    qc_st_set set;
    CHECK_INT(qc_st_open_directory(&j->diag, &j->arena, model, &set), QC_OK);
    qc_st_out *outs = QC_NEW_ARRAY(&j->arena, qc_st_out, set.tensor_count + 1);
    const qc_st_tensor *table = qc_st_find(&set, "model.embed_tokens.weight");
    for (size_t i = 0; i <= set.tensor_count; i++) {
        const qc_st_tensor *t = i < set.tensor_count ? &set.tensors[i] : table;
        outs[i] = (qc_st_out){.name = i < set.tensor_count ? t->name : "lm_head.weight",
            .dtype = t->dtype,
            .rank = t->rank,
            .shape = t->shape,
            .user = (void *)(uintptr_t)t};
    }
    char *header;
    size_t header_bytes;
    CHECK_INT(
        qc_st_layout(&j->diag, &j->arena, outs, set.tensor_count + 1, true, &header, &header_bytes), QC_OK);
    qc_str file;
    qc_str_init(&file, &j->arena);
    qc_str_add_bytes(&file, header, header_bytes);
    for (size_t i = 0; i <= set.tensor_count; i++) {
        const qc_st_tensor *t = outs[i].user;
        char *bytes = qc_arena_alloc(&j->arena, (size_t)t->size_bytes);
        CHECK_INT(qc_st_read(&j->diag, &set, t, bytes), QC_OK);
        bytes[0] = (char)(bytes[0] ^ (strcmp(outs[i].name, "lm_head.weight") == 0 ? change : 0));
        qc_str_add_bytes(&file, bytes, (size_t)t->size_bytes);
    }
    qc_st_close(&set);
    const char *path = qc_path_join(&j->arena, model, "model.safetensors");
    CHECK_INT(qc_write_file(&j->diag, path, file.data, file.length), QC_OK);
    qc_str_fini(&file);
}

/* ---- the work ------------------------------------------------------------------------------------------ */

/* Imports a model and runs the pipeline. */
static bool job_make(job *j, const char *model, const char *pipeline_text)
{
    j->module = qc_hf_import(j->ctx, model, NULL);
    CHECK(j->module != NULL);
    if (!j->module)
        return false;
    qc_registry *registry = qc_registry_create(j->ctx, NULL);
    qc_pipeline *pipeline = qc_pipeline_create(registry);
    qc_run_settings settings = {0};
    bool ok = qc_pipeline_parse(pipeline, "test", pipeline_text) == QC_OK &&
              qc_pipeline_run(pipeline, j->module, &settings) == QC_OK;
    if (!ok)
        printf("# %s", j->said_text);
    CHECK(ok);
    qc_registry_destroy(registry);
    return ok;
}

/* Puts the stored scale in the place of a scale that waits for data. */
static void job_settle(job *j, const qc_st_set *golden, qc_value *scale, const char *name)
{
    qc_op *op = scale ? qc_value_op(scale) : NULL;
    int64_t count = 0;
    if (!op || !qc_op_is(op, "qparams") || !qc_type_static_count(qc_value_type(scale), &count))
        return; /* settled, or dynamic: a scale a token */
    const qc_st_tensor *stored = qc_st_find(golden, name);
    CHECK(stored != NULL);
    if (!stored)
        return;
    char bytes[4096];
    CHECK(stored->size_bytes <= sizeof bytes);
    CHECK_INT(qc_st_read(&j->diag, golden, stored, bytes), QC_OK);
    const qc_type *type = qc_value_type(scale);
    CHECK_INT((uint64_t)count * (uint64_t)qc_dtype_bits(qc_type_dtype(type)) / 8, stored->size_bytes);
    qc_builder *b = qc_builder_before(op);
    qc_make(b, "const");
    qc_make_attr(b, "value", qc_attr_data(j->ctx, qc_type_dtype(type), bytes, (size_t)count));
    qc_make_type(b, type);
    qc_value *constant = qc_make_end(b, "scale");
    CHECK(qc_builder_ok(b));
    qc_value_replace_all_uses(scale, constant);
    qc_op_erase(op);
}

/* All scales that wait for data from the golden's tensors. */
static void job_settle_all(job *j, const char *golden_file)
{
    qc_st_set golden;
    CHECK_INT(qc_st_open_file(&j->diag, &j->arena, golden_file, &golden), QC_OK);
    for (qc_op *op = qc_func_first_op(qc_module_first_func(j->module)), *next; op; op = next) {
        next = qc_op_next(op);
        const char *path = qc_op_node(op) ? qc_node_path(qc_op_node(op)) : "";
        if (qc_op_is(op, "attention")) {
            static const char *const names[] = {"q_scale", "k_scale", "v_scale"};
            for (int i = 0; i < 3; i++)
                job_settle(j, &golden, qc_op_operand_named(op, names[i]),
                    qc_arena_printf(&j->arena, "%s.%s", path, names[i]));
        } else if (qc_op_is(op, "linear")) {
            const qc_op *maker = qc_value_op(qc_op_operand_named(op, "x"));
            if (maker && qc_op_is(maker, "dequantize"))
                job_settle(j, &golden, qc_op_operand_named(maker, "scale"),
                    qc_arena_printf(&j->arena, "%s.input_scale", path));
        }
    }
    qc_st_close(&golden);
}

static qc_status job_export(job *j, const char *out, bool force, uint64_t max_shard_size_bytes)
{
    qc_export_options options = {.force = force, .max_shard_size_bytes = max_shard_size_bytes, .threads = 2};
    return qc_export_compressed_tensors(j->ctx, j->module, NULL, out, &options, &j->serve);
}

static const char *job_text(job *j, const char *directory, const char *name)
{
    char *data;
    size_t length;
    if (qc_read_file(
            &j->diag, &j->arena, qc_path_join(&j->arena, directory, name), 1 << 26, &data, &length) != QC_OK)
        return "";
    return data;
}

static const char *job_sha256(job *j, const char *path)
{
    char *data, *hex = qc_arena_alloc(&j->arena, 65);
    size_t length;
    qc_sha256 h;
    qc_sha256_init(&h);
    if (qc_read_file(&j->diag, &j->arena, path, 1 << 28, &data, &length) == QC_OK)
        qc_sha256_add(&h, data, length);
    qc_sha256_hex(&h, hex);
    return hex;
}

#endif
