/* SPDX-License-Identifier: MIT
 *
 * test_plugin.c - FOLDER: loading plug-ins from the folder where this was built. Bad ones are refused with
 * the reason; the example of docs/examples gives the bytes of the built-in pass.
 */
#include "tests/unit/check.h"
#include "tests/unit/messages.h"

#include "ir/support/io.h"
#include "passes/manager.h"
#include "qc/plugin.h"

static const char *folder;

typedef struct fixture {
    messages log;
    qc_diag diag;
    qc_ctx *ctx;
    qc_registry *registry;
    qc_arena arena;
    char errors[1024]; /* joined by | */
} fixture;

static void on_diagnostic(void *user, qc_severity severity, const char *where, const char *what)
{
    fixture *f = user;
    size_t at = strlen(f->errors);
    keep_message(&f->log, severity, where, what);
    if (severity == QC_SEVERITY_ERROR)
        snprintf(f->errors + at, sizeof f->errors - at, "%s|", what);
}

static void setup(fixture *f)
{
    memset(f, 0, sizeof *f);
    qc_arena_init(&f->arena, NULL);
    qc_diag_init(&f->diag, &f->arena, on_diagnostic, f);
    f->ctx = qc_ctx_create(NULL, on_diagnostic, f);
    f->registry = qc_registry_create(f->ctx, NULL);
}

static void teardown(fixture *f)
{
    qc_registry_destroy(f->registry);
    qc_ctx_destroy(f->ctx);
    qc_arena_fini(&f->arena);
}

static qc_status load(fixture *f, const char *name)
{
    return qc_registry_load_plugin(f->registry, qc_path_join(&f->arena, folder, name));
}

static void refused(const char *name, const char *errors)
{
    fixture f;
    setup(&f);
    CHECK(load(&f, name) == QC_ERROR);
    CHECK_STR(f.errors, errors);
    CHECK(strstr(f.log.last, name) != NULL); /* names the file */
    teardown(&f);
}

static void test_refused(void)
{
    char text[128];
    snprintf(text, sizeof text, "the plug-in was made for ABI %d, this program has ABI %d|",
        QC_PLUGIN_ABI + 41, QC_PLUGIN_ABI);
    refused("wrong_abi.so", text);
    refused("missing.so", "the plug-in does not exist or is no file|");
    refused("", "the plug-in does not exist or is no file|");
    refused("no_symbols.so", "not a plug-in: it does not export qc_plugin_abi|");
    refused("abi_only.so",
        "not a plug-in: it must export qc_plugin_name, qc_plugin_version and qc_plugin_register|");
    refused("register_fails.so", "the licence has run out|the plug-in 'bad' could not register its passes|");
    refused("reports_and_goes_on.so", "something is wrong|the plug-in 'bad' could not register its passes|");
    refused("collides.so", "a pass of this name is registered already (built-in)|the plug-in 'bad' could not "
                           "register its passes|");
}

static void test_not_a_shared_object(void)
{
    fixture f;
    setup(&f);
    char *path = qc_path_join(&f.arena, folder, "text.so");
    CHECK(qc_write_file(&f.diag, path, "no object\n", 10) == QC_OK);
    CHECK(qc_registry_load_plugin(f.registry, path) == QC_ERROR);
    CHECK(strncmp(f.errors, "the plug-in cannot be loaded: ", 30) == 0);
    teardown(&f);
}

/* All of its symbols are looked up at once, so a function that this program lacks is found before a pass
 * runs. */
static void test_unresolved(void)
{
    fixture f;
    setup(&f);
    CHECK(load(&f, "unresolved.so") == QC_ERROR);
    CHECK(strstr(f.errors, "qc_there_is_no_such_function") != NULL);
    teardown(&f);
}

/* The printed module behind the pipeline; "" when it fails. */
static char *result_of(fixture *f, const char *text, size_t length, const char *pipeline_text)
{
    qc_run_settings settings = {0};
    qc_module *module = qc_module_parse(f->ctx, "model", text, length);
    qc_pipeline *pipeline = qc_pipeline_create(f->registry);
    char *copy = qc_arena_strdup(&f->arena, "");
    if (module && qc_pipeline_parse(pipeline, "--pipeline", pipeline_text) == QC_OK &&
        qc_pipeline_run(pipeline, module, &settings) == QC_OK) {
        size_t printed_length;
        char *printed = qc_module_print(module, &printed_length);
        copy = qc_arena_strndup(&f->arena, printed, printed_length);
        qc_text_free(printed);
    }
    qc_module_destroy(module);
    return copy;
}

static void test_example_equals_built_in(void)
{
    static const char *const options[] = {
        "", "{granularity=head}", "{type=e5m2}", "{ignore=model.layers.9.self_attn}"};
    fixture f;
    char *text;
    size_t length;
    setup(&f);
    CHECK(load(&f, "acme_fp8_attn.so") == QC_OK);
    CHECK(qc_read_file(&f.diag, &f.arena, qc_path_join(&f.arena, QC_TEST_SOURCES, "model.qc"), 1 << 20, &text,
              &length) == QC_OK);
    for (size_t i = 0; f.errors[0] == '\0' && i < sizeof options / sizeof options[0]; i++) {
        char *built_in =
            result_of(&f, text, length, qc_arena_printf(&f.arena, "quant-fp8-attn%s", options[i]));
        char *acme = result_of(&f, text, length, qc_arena_printf(&f.arena, "acme-fp8-attn%s", options[i]));
        CHECK(strstr(built_in, "scheme @attention") != NULL);
        CHECK_STR(acme, built_in);
    }
    const qc_pass *pass = qc_registry_find(f.registry, "acme-fp8-attn");
    CHECK_STR(pass ? qc_pass_origin(pass) : NULL, "acme-fp8-attn 1.0");
    CHECK_STR(f.errors, "");
    teardown(&f);
}

/* --disable reaches a plug-in that knows nothing of it, through its option `ignore`. */
static void test_disable_reaches_the_plugin(void)
{
    static const char *const disable[] = {"re:model"};
    fixture f;
    char *text;
    size_t length;
    setup(&f);
    qc_run_settings settings = {.disable = disable, .disable_count = 1};
    CHECK(load(&f, "acme_fp8_attn.so") == QC_OK);
    CHECK(qc_read_file(&f.diag, &f.arena, qc_path_join(&f.arena, QC_TEST_SOURCES, "model.qc"), 1 << 20, &text,
              &length) == QC_OK);
    qc_module *module = qc_module_parse(f.ctx, "model", text, length);
    qc_pipeline *pipeline = qc_pipeline_create(f.registry);
    CHECK(qc_pipeline_parse(pipeline, "--pass", "acme-fp8-attn") == QC_OK);
    CHECK(module && qc_pipeline_run(pipeline, module, &settings) == QC_OK);
    CHECK(module && qc_module_first_symbol(module) == NULL);
    CHECK(said(&f.log, "the module is ignored or disabled"));
    qc_module_destroy(module);
    teardown(&f);
}

int main(int argc, char **argv)
{
    folder = argc > 1 ? argv[1] : ".";
    RUN(test_refused);
    RUN(test_not_a_shared_object);
    RUN(test_unresolved);
    RUN(test_example_equals_built_in);
    RUN(test_disable_reaches_the_plugin);
    return check_done();
}
