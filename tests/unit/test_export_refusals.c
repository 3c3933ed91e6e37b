/* SPDX-License-Identifier: MIT
 *
 * test_export_refusals.c - what the exporter refuses, by its words, and what is left behind then: nothing.
 */
#include "tests/unit/export_job.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>

#include "runtime/weights.h"

static const char fp8[] = "quant-linear{scheme=FP8_DYNAMIC, ignore=[lm_head]}";

/* A copy of the model in the tree, quantized; NULL where no directory can be made. */
static job *prepared(const char *pipeline, const char **model)
{
    job *j = job_begin();
    if (!j)
        return NULL;
    const char *copy = job_copy_model(j, "model");
    if (model)
        *model = copy;
    job_make(j, copy, pipeline);
    job_forget(j);
    return j;
}

#define PREPARE(pipeline, model)                                                                             \
    job *j = prepared(pipeline, model);                                                                      \
    if (!j)                                                                                                  \
    SKIP("no directory can be made here")

/* Nothing of `out` is there. */
static void check_nothing(job *j, const char *out)
{
    CHECK(access(out, F_OK) != 0);
    CHECK(access(qc_arena_printf(&j->arena, "%s.partial", out), F_OK) != 0);
}

static void refused(job *j, const char *out, bool force, const char *what)
{
    CHECK_INT(job_export(j, out, force, 0), QC_ERROR);
    CHECK(job_said(j, what));
}

static void test_output_exists(void)
{
    PREPARE(fp8, NULL);
    CHECK_INT(mkdir(j->out, 0777), 0);
    job_write(j, j->out, "config.json", "{}");
    job_write(j, j->out, "old.txt", "old");
    refused(j, j->out, false, "error: ");
    CHECK(job_said(j, "/out: exists already\n"));
    CHECK(job_said(j, "note: : --force replaces it"));
    CHECK_STR(job_text(j, j->out, "old.txt"), "old");
    CHECK_INT(qc_export_check_output(j->ctx, j->module, NULL, j->out, false), QC_ERROR);
    CHECK_INT(qc_export_check_output(j->ctx, j->module, NULL, j->out, true), QC_OK);

    CHECK_INT(job_export(j, qc_arena_printf(&j->arena, "%s//", j->out), true, 0), QC_OK);
    CHECK(access(qc_path_join(&j->arena, j->out, "old.txt"), F_OK) != 0);
    CHECK(access(qc_path_join(&j->arena, j->out, "model.safetensors"), F_OK) == 0);
    CHECK(access(qc_arena_printf(&j->arena, "%s.partial", j->out), F_OK) != 0);
    job_end(j);
}

static void test_output_is_no_checkpoint(void)
{
    PREPARE(fp8, NULL);
    CHECK_INT(mkdir(j->out, 0777), 0);
    job_write(j, j->out, "thesis.txt", "years of work");
    refused(j, j->out, true, "holds no config.json, so it is no checkpoint; it is not replaced");
    CHECK_STR(job_text(j, j->out, "thesis.txt"), "years of work");
    job_write(j, j->directory, "file", "x");
    refused(j, qc_path_join(&j->arena, j->directory, "file"), true, "file: exists and is no directory");
    CHECK_INT(symlink("model", qc_path_join(&j->arena, j->directory, "link")), 0);
    job_forget(j);
    refused(j, qc_path_join(&j->arena, j->directory, "link"), true, "link: is the source's directory");
    CHECK_INT(symlink("nowhere", qc_path_join(&j->arena, j->directory, "dangling")), 0);
    refused(
        j, qc_path_join(&j->arena, j->directory, "dangling"), true, "dangling: exists and is no directory");
    refused(j, "", false, "the name of the output directory is empty");
    refused(j, qc_path_join(&j->arena, j->out, "."), true, "is no name for a new directory");
    refused(j, qc_path_join(&j->arena, j->out, ".."), true, "is no name for a new directory");
    char *long_name = qc_arena_calloc(&j->arena, 251, 1);
    memset(long_name, 'x', 250); /* a name of 250 fits a directory, with .partial it does not */
    refused(j, qc_path_join(&j->arena, j->directory, long_name), false, "cannot be made: File name too long");
    job_end(j);
}

static void test_output_is_the_source(void)
{
    const char *model = "";
    PREPARE(fp8, &model);
    refused(j, model, true, "model: is the source's directory, or holds it");
    job_forget(j);
    refused(j, j->directory, true, "is the source's directory, or holds it");
    CHECK(access(qc_path_join(&j->arena, model, "model.safetensors"), F_OK) == 0);
    job_end(j);
}

static void test_interrupted_run(void)
{
    PREPARE(fp8, NULL);
    const char *partial = qc_arena_printf(&j->arena, "%s.partial", j->out);
    CHECK_INT(mkdir(partial, 0777), 0);
    job_write(j, partial, "model.safetensors", "half");
    refused(j, j->out, false, "out.partial: exists already: a run was interrupted");
    CHECK(job_said(j, "note: : remove it, or start over with --force"));
    CHECK_STR(job_text(j, partial, "model.safetensors"), "half");
    CHECK_INT(job_export(j, j->out, true, 0), QC_OK);
    CHECK(access(partial, F_OK) != 0);
    job_end(j);
}

/* A run holds a lock on OUT.partial as long as it lives: not even --force takes the place from it. */
static void test_run_at_work(void)
{
    PREPARE(fp8, NULL);
    const char *partial = qc_arena_printf(&j->arena, "%s.partial", j->out);
    CHECK_INT(mkdir(partial, 0777), 0);
    job_write(j, partial, "model.safetensors", "half");
    int fd = open(partial, O_RDONLY | O_DIRECTORY);
    CHECK_INT(flock(fd, LOCK_EX | LOCK_NB), 0);
    refused(j, j->out, false, "out.partial: another run is writing it now");
    job_forget(j);
    refused(j, j->out, true, "out.partial: another run is writing it now");
    CHECK_STR(job_text(j, partial, "model.safetensors"), "half");
    close(fd);
    CHECK_INT(job_export(j, j->out, true, 0), QC_OK);
    CHECK(access(partial, F_OK) != 0);
    CHECK_INT(job_export(j, j->out, true, 0), QC_OK); /* by exchange */
    CHECK(access(partial, F_OK) != 0);
    job_end(j);
}

static void test_no_place(void)
{
    PREPARE(fp8, NULL);
    refused(j, qc_path_join(&j->arena, j->directory, "missing/out"), false,
        "/missing: is no directory; out cannot be made");
    if (geteuid() != 0) {
        const char *locked = qc_path_join(&j->arena, j->directory, "locked");
        CHECK_INT(mkdir(locked, 0555), 0);
        refused(j, qc_path_join(&j->arena, locked, "out"), false,
            "locked: out cannot be made in it: Permission denied");
    }
    job_end(j);
}

/* A limit on the size of files stands for a disk that is full. */
static void test_disk_full(void)
{
    PREPARE(fp8, NULL);
    struct rlimit before, low;
    CHECK_INT(getrlimit(RLIMIT_FSIZE, &before), 0);
    low = before;
    low.rlim_cur = 100000;
    fflush(stdout);
    CHECK_INT(setrlimit(RLIMIT_FSIZE, &low), 0);
    qc_status status = job_export(j, j->out, false, 0);
    CHECK_INT(setrlimit(RLIMIT_FSIZE, &before), 0);
    CHECK_INT(status, QC_ERROR);
    CHECK(job_said(j, "out.partial/model.safetensors: cannot write: File too large"));
    check_nothing(j, j->out);
    job_end(j);
}

/* What happens to the source while it is read. */
typedef struct accident {
    const char *path, *away; /* of a shard; where it goes */
    int kind;
    bool done;
} accident;

static void happen(void *user, const char *what, const char *unit, uint64_t done, uint64_t total)
{
    accident *a = user;
    (void)what, (void)unit, (void)done, (void)total;
    if (a->done)
        return;
    a->done = true;
    FILE *f = NULL;
    if (a->kind == 0)
        f = fopen(a->path, "ab");
    else if (rename(a->path, a->away) == 0 && a->kind == 2)
        f = fopen(a->path, "wb");
    if (f) {
        fputs("something else", f);
        fclose(f);
    }
}

static void test_source_changes(void)
{
    static const char *const said[] = {"model.safetensors: changed while it was read",
        "model.safetensors: went away while it was read",
        "model.safetensors: was replaced while it was read"};
    for (int i = 0; i < 3; i++) {
        const char *model = "";
        PREPARE(fp8, &model);
        accident a = {.path = qc_path_join(&j->arena, model, "model.safetensors"),
            .away = qc_path_join(&j->arena, j->directory, "away"),
            .kind = i};
        qc_export_options options = {.threads = 2, .progress = happen, .progress_user = &a};
        CHECK_INT(
            qc_export_compressed_tensors(j->ctx, j->module, NULL, j->out, &options, &j->serve), QC_ERROR);
        CHECK(a.done && job_said(j, said[i]));
        CHECK_INT(
            strstr(j->said_text, "error: ") && !strstr(strstr(j->said_text, "error: ") + 1, "error: "), 1);
        check_nothing(j, j->out);
        job_end(j);
    }
}

/* A shard that ends before its tensors do. */
static void test_source_ends_early(void)
{
    const char *model = "";
    PREPARE("quant-linear{scheme=NVFP4A16, targets=[\"re:.*q_proj$\"]}", &model);
    qc_export_options options = {.threads = 2};
    accident a = {.path = qc_path_join(&j->arena, model, "model.safetensors")};
    qc_weights *open_before = qc_weights_open(j->ctx, j->module, NULL);
    CHECK(open_before != NULL);
    CHECK_INT(truncate(a.path, 100000), 0);
    if (open_before) {
        CHECK_INT(qc_weights_check_source(open_before), QC_ERROR);
        CHECK(job_said(j, "model.safetensors: changed while it was read"));
        qc_weights_close(open_before);
    }
    job_forget(j);
    CHECK_INT(qc_export_compressed_tensors(j->ctx, j->module, NULL, j->out, &options, &j->serve), QC_ERROR);
    CHECK(job_said(j, "model.safetensors: "));
    check_nothing(j, j->out);
    job_end(j);
}

static void test_no_statistics(void)
{
    PREPARE("quant-fp8-attn{granularity=head}", NULL);
    refused(j, j->out, false, "error: model.layers.0.self_attn: ");
    CHECK(job_said(j, "has no scale yet: it takes calibration data"));
    CHECK(job_said(j, "note: : give data with --calib="));
    CHECK(strstr(j->said_text, "layers.1") == NULL);
    check_nothing(j, j->out);
    job_end(j);
}

static void test_observers_left(void)
{
    PREPARE("quant-linear{scheme=FP8, ignore=[lm_head]}, insert-observers", NULL);
    refused(j, j->out, false,
        "error: model.layers.0.self_attn.q_proj: model.layers.0.self_attn.q_proj.input has no scale yet");
    check_nothing(j, j->out);
    job_end(j);
}

static void test_not_finite(void)
{
    static const unsigned char nan16[] = {0xc0, 0x7f}, infinite[] = {0x80, 0xff};
    const char *model = "";
    PREPARE(fp8, &model);
    job_poke(j, model, "model.layers.3.mlp.up_proj.weight", 2 * (64 * 100 + 5), nan16, 2);
    refused(j, j->out, false,
        "error: model.layers.3.mlp.up_proj.weight: holds a NaN or an infinity (element 6405)");
    check_nothing(j, j->out);
    job_forget(j);
    job_poke(j, model, "model.layers.2.mlp.up_proj.weight", 0, infinite, 2);
    refused(
        j, j->out, false, "error: model.layers.2.mlp.up_proj.weight: holds a NaN or an infinity (element 0)");
    job_end(j);
}

/* Vectors are kept as they are, and looked at all the same. */
static void test_kept_not_finite(void)
{
    static const unsigned char nan16[] = {0xc0, 0x7f};
    const char *model = "";
    PREPARE(fp8, &model);
    job_poke(j, model, "model.layers.3.input_layernorm.weight", 2 * 7, nan16, 2);
    refused(j, j->out, false,
        "error: model.layers.3.input_layernorm.weight: holds a NaN or an infinity (element 7)");
    check_nothing(j, j->out);
    job_end(j);
}

static void test_another_source(void)
{
    const char *model = "";
    PREPARE(fp8, &model);
    job_add_head(j, model, 1);
    refused(j, j->out, false, "model.safetensors: is another file than the IR was made from: ");
    CHECK(job_said(j, "--source=DIR names another directory"));
    job_forget(j);
    CHECK_INT(unlink(qc_path_join(&j->arena, model, "model.safetensors")), 0);
    refused(j, j->out, false, "error: ");
    check_nothing(j, j->out);
    job_end(j);
}

/* The same size, other names in the header. */
static void test_another_header(void)
{
    const char *model = "";
    PREPARE(fp8, &model);
    char *data;
    size_t length;
    const char *path = qc_path_join(&j->arena, model, "model.safetensors");
    CHECK_INT(qc_read_file(&j->diag, &j->arena, path, 1 << 24, &data, &length), QC_OK);
    char *at = memmem(data, length, "model.norm.weight", 17);
    CHECK(at != NULL);
    if (at)
        memcpy(at, "model.norm.weighs", 17);
    CHECK_INT(qc_write_file(&j->diag, path, data, length), QC_OK);
    refused(j, j->out, false, "its header has another SHA-256");
    job_end(j);
}

static void test_bad_config(void)
{
    const char *model = "";
    PREPARE(fp8, &model);
    job_change_config(j, model, "quantization_config", qc_json_new(&j->arena, QC_JSON_OBJECT));
    refused(j, j->out, false, "config.json: the source is quantized already");
    job_forget(j);
    job_write(j, model, "config.json", "{\"a\": }");
    refused(j, j->out, false, "config.json:1:7: ");
    job_forget(j);
    job_write(j, model, "config.json", "[1]");
    refused(j, j->out, false, "config.json: must hold an object");
    check_nothing(j, j->out);
    job_end(j);
}

static void test_schemes_without_a_format(void)
{
    static const struct {
        const char *pipeline, *what;
    } rows[] = {
        {"quant-linear{weights={type=f8e5m2, granularity=channel}}",
            "compressed-tensors stores no f8e5m2 weights"},
        {"quant-fp8-attn{type=e5m2}", "has no scale yet"}, /* data comes first */
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        PREPARE(rows[i].pipeline, NULL);
        refused(j, j->out, false, rows[i].what);
        check_nothing(j, j->out);
        job_end(j);
    }
}

/* Queries that stay as they are have no place in a config group of attention. */
static void test_half_quantized_attention(void)
{
    PREPARE("quant-fp8-attn{granularity=head, q=false}", NULL);
    job_settle_all(j, job_path(j, "tests/data/goldens/attn_fp8_head_static/small.golden"));
    refused(j, j->out, false, "model.layers.0.self_attn: a scheme of attention quantizes q, k and v");
    check_nothing(j, j->out);
    job_end(j);
}

/* Layers left out: said, and listed under ignore. */
static void test_skipped_layers(void)
{
    PREPARE("quant-fp8-attn{granularity=head, ignore=[\"model.layers.0.self_attn\"]}", NULL);
    job_settle_all(j, job_path(j, "tests/data/goldens/attn_fp8_head_static/small.golden"));
    CHECK_INT(job_export(j, j->out, false, 0), QC_OK);
    CHECK(job_said(
        j, "warning: model.layers.0.self_attn: not quantized, but the checkpoint's kv_cache_scheme"));
    CHECK(strstr(job_text(j, j->out, "config.json"),
              "\"ignore\": [\n      \"model.layers.0.self_attn\"\n    ]") != NULL);
    job_end(j);
}

static void test_side_files(void)
{
    const char *model = "";
    PREPARE(fp8, &model);
    job_write(j, model, "modeling_x.py", "pass\n");
    job_write(j, model, "chat_template.jinja", "{{ x }}");
    job_write(j, model, "preprocessor_config.json", "{}");
    job_write(j, model, "other.safetensors", "junk");
    job_write(j, model, "model.gguf", "junk");
    job_write(j, model, "pytorch_model.bin", "junk");
    job_write(j, model, "pytorch_model.bin.index.json", "{}");
    job_write(j, model, "notes.txt", "mine");
    const char *templates = qc_path_join(&j->arena, model, "additional_chat_templates");
    CHECK_INT(mkdir(templates, 0777), 0);
    job_write(j, templates, "tool.jinja", "{{ tool }}");
    CHECK_INT(mkdir(qc_path_join(&j->arena, model, "original"), 0777), 0);
    CHECK_INT(unlink(qc_path_join(&j->arena, model, "LICENSE")), 0);
    CHECK_INT(symlink("modeling_x.py", qc_path_join(&j->arena, model, "LICENSE")), 0);

    CHECK_INT(job_export(j, j->out, false, 0), QC_OK);
    static const char *const same[] = {"modeling_x.py", "chat_template.jinja", "preprocessor_config.json",
        "tokenizer.json", "tokenizer_config.json", "generation_config.json", "LICENSE",
        "additional_chat_templates/tool.jinja"};
    for (size_t i = 0; i < sizeof same / sizeof *same; i++)
        CHECK_STR(job_sha256(j, qc_path_join(&j->arena, j->out, same[i])),
            job_sha256(j, qc_path_join(&j->arena, model, same[i])));
    CHECK(job_said(j, "model.gguf, notes.txt, original/, other.safetensors, pytorch_model.bin, "
                      "pytorch_model.bin.index.json"));
    char **names;
    size_t count;
    CHECK_INT(qc_list_directory(&j->diag, &j->arena, j->out, &names, &count), QC_OK);
    CHECK_INT(count, 3 + sizeof same / sizeof *same);
    struct stat info;
    CHECK_INT(lstat(qc_path_join(&j->arena, j->out, "LICENSE"), &info), 0);
    CHECK(S_ISREG(info.st_mode));
    job_end(j);
}

/* Without quantization the output is the source, file for file. */
static void test_copy(void)
{
    const char *model = "";
    PREPARE("dce", &model);
    CHECK_INT(job_export(j, j->out, false, 0), QC_OK);
    CHECK(job_said(j, "nothing is quantized: the output is a copy of the source"));
    char **names;
    size_t count;
    CHECK_INT(qc_list_directory(&j->diag, &j->arena, j->out, &names, &count), QC_OK);
    CHECK_INT(count, 6);
    for (size_t i = 0; i < count; i++)
        CHECK_STR(job_sha256(j, qc_path_join(&j->arena, j->out, names[i])),
            job_sha256(j, qc_path_join(&j->arena, model, names[i])));
    job_end(j);
}

/* What is computed otherwise than config.json says would be lost. */
static void test_another_model(void)
{
    static const struct {
        const char *op, *attr, *kind, *value, *what;
    } rows[] = {
        {"rope", "theta", "float", "20000", "rope: theta is 20000 and in config.json 10000"},
        {"attention", "window", "int", "32", "attention: window is 32 and in config.json 0"},
        {"weight", "tensor", "text", "model.layers.1.mlp.up_proj.weight", " in the place of "},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        PREPARE(fp8, NULL);
        qc_op *op = qc_func_first_op(qc_module_first_func(j->module));
        while (op &&
               (!qc_op_is(op, rows[i].op) || (!strcmp(rows[i].op, "weight") &&
                                                 !strstr(qc_node_path(qc_op_node(op)), "layers.2.mlp.up"))))
            op = qc_op_next(op);
        CHECK(op != NULL);
        const qc_attr *value = !strcmp(rows[i].kind, "float") ? qc_attr_float(j->ctx, atof(rows[i].value))
                               : !strcmp(rows[i].kind, "int") ? qc_attr_int(j->ctx, atoi(rows[i].value))
                                                              : qc_attr_string(j->ctx, rows[i].value);
        CHECK(qc_op_set_attr(op, rows[i].attr, value));
        refused(j, j->out, false, rows[i].what);
        check_nothing(j, j->out);
        job_end(j);
    }
    PREPARE("fold-r3", NULL);
    refused(j, j->out, false,
        "q and k are rotated as the model runs (@R3), which vLLM does not execute (rule r3)");
    job_end(j);
}

/* What no data can change is refused before there are any. */
static void test_check_before_data(void)
{
    static const struct {
        const char *pipeline, *what;
    } rows[] = {
        {"quant-fp8-attn{q=false}, insert-observers", "for k and v alone there is quant-kv"},
        {"quant-kv{type=e5m2}, insert-observers", "compressed-tensors stores no f8e5m2 activations"},
        {"quant-kv{type=int8, layers=[0-1]}, quant-kv{type=int4, layers=[2-4]}, insert-observers",
            "model.layers.2.self_attn: compressed-tensors has one kv_cache_scheme"},
        {"quant-kv, insert-observers", NULL},
        {"quant-linear{scheme=FP8, ignore=[lm_head]}, quant-fp8-attn{granularity=head}, insert-observers",
            NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        PREPARE(rows[i].pipeline, NULL);
        CHECK_INT(qc_export_check_module(j->ctx, j->module, NULL, NULL), rows[i].what ? QC_ERROR : QC_OK);
        CHECK(rows[i].what ? job_said(j, rows[i].what) : j->said_length == 0);
        job_end(j);
    }
}

/* A model in another element type says so in its config.json. */
static void test_retyped(void)
{
    PREPARE("set-dtype{dtype=f16}", NULL);
    CHECK_INT(job_export(j, j->out, false, 0), QC_OK);
    CHECK(strstr(job_text(j, j->out, "config.json"), "\"torch_dtype\": \"float16\"") != NULL);
    job_end(j);
}

/* What vLLM will not read is said. */
static void test_warnings(void)
{
    static const struct {
        const char *pipeline, *what;
        bool said;
    } rows[] = {
        {"quant-linear{scheme=FP8_DYNAMIC}", "warning: lm_head: vLLM takes the head for unquantized", true},
        {"quant-linear{scheme=FP8_DYNAMIC, targets=[Linear, \"re:.*lm_head$\"]}", "vLLM", false},
        {"quant-linear{scheme=FP8_DYNAMIC, ignore=[lm_head]}", "vLLM", false},
        {"quant-fp8-attn{granularity=head, targets=[\"re:.*self_attn$\"]}",
            "warning: model.layers.0.self_attn: vLLM reads a group of attention only", true},
        {"quant-fp8-attn{granularity=head}", "vLLM", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        PREPARE(rows[i].pipeline, NULL);
        job_settle_all(j, job_path(j, "tests/data/goldens/attn_fp8_head_static/small.golden"));
        CHECK_INT(job_export(j, j->out, false, 0), QC_OK);
        CHECK(rows[i].said ? job_said(j, rows[i].what) : !strstr(j->said_text, rows[i].what));
        job_end(j);
    }
}

/* A path that a shell would take apart is quoted in the command. */
static void test_command_is_quoted(void)
{
    PREPARE(fp8, NULL);
    const char *out = qc_path_join(&j->arena, j->directory, "my model's");
    CHECK_INT(job_export(j, out, false, 0), QC_OK);
    CHECK(j->serve && strstr(j->serve, "/my model'\\''s'") != NULL);
    CHECK(j->serve && strncmp(j->serve, "vllm serve '", 12) == 0);
    job_end(j);
}

int main(void)
{
    signal(SIGXFSZ, SIG_IGN);
    RUN(test_output_exists);
    RUN(test_output_is_no_checkpoint);
    RUN(test_output_is_the_source);
    RUN(test_interrupted_run);
    RUN(test_run_at_work);
    RUN(test_no_place);
    RUN(test_disk_full);
    RUN(test_source_changes);
    RUN(test_source_ends_early);
    RUN(test_no_statistics);
    RUN(test_observers_left);
    RUN(test_not_finite);
    RUN(test_kept_not_finite);
    RUN(test_another_source);
    RUN(test_another_header);
    RUN(test_bad_config);
    RUN(test_schemes_without_a_format);
    RUN(test_half_quantized_attention);
    RUN(test_skipped_layers);
    RUN(test_side_files);
    RUN(test_copy);
    RUN(test_another_model);
    RUN(test_check_before_data);
    RUN(test_retyped);
    RUN(test_warnings);
    RUN(test_command_is_quoted);
    return check_done();
}
