/* SPDX-License-Identifier: MIT
 *
 * test_passes_docs.c - walks the registry: every pass has its file, its tests and its heading, every option
 * is switched by some test, and docs/passes.md says what the passes say about themselves.
 *
 * The part of docs/passes.md behind the marker line is generated; QC_BLESS=1 rewrites it.
 */
#include "check.h"
#include "messages.h"

#include "ir/support/io.h"
#include "passes/manager.h"

static const char marker[] = "<!-- What follows is generated from the passes; QC_BLESS=1 rewrites it. -->\n";

typedef struct fixture {
    messages log;
    qc_diag diag;
    qc_ctx *ctx;
    qc_registry *registry;
    qc_arena arena;
    const char *root;
} fixture;

static void setup(fixture *f)
{
    memset(f, 0, sizeof *f);
    qc_arena_init(&f->arena, NULL);
    qc_diag_init(&f->diag, &f->arena, keep_message, &f->log);
    f->ctx = qc_ctx_create(NULL, keep_message, &f->log);
    f->registry = qc_registry_create(f->ctx, NULL);
    f->root = getenv("QC_SOURCE_ROOT");
    CHECK(f->root != NULL);
    f->root = f->root ? f->root : ".";
}

static void teardown(fixture *f)
{
    qc_registry_destroy(f->registry);
    qc_ctx_destroy(f->ctx);
    qc_arena_fini(&f->arena);
}

/* quant-fp8-attn as quant_fp8_attn. */
static char *symbol_of(fixture *f, const char *name)
{
    char *symbol = qc_arena_strdup(&f->arena, name);
    for (char *c = symbol; *c; c++)
        *c = *c == '-' ? '_' : *c;
    return symbol;
}

/* The texts behind "// RUN:" in all test files of a pass, joined; "" when there are none. */
static char *runs_of(fixture *f, const char *symbol)
{
    qc_str runs;
    char **names, *text;
    size_t count, length;
    const char *folder = qc_arena_printf(&f->arena, "%s/tests/passes/%s", f->root, symbol);
    qc_str_init(&runs, &f->arena);
    if (qc_list_directory(&f->diag, &f->arena, folder, &names, &count) != QC_OK)
        count = 0;
    for (size_t i = 0; i < count; i++) {
        if (!qc_ends_with(names[i], ".qc") ||
            qc_read_file(&f->diag, &f->arena, qc_path_join(&f->arena, folder, names[i]), 1 << 24, &text,
                &length) != QC_OK)
            continue;
        for (const char *at = strstr(text, "// RUN:"); at; at = strstr(at + 7, "// RUN:")) {
            qc_str_add_bytes(&runs, at + 7, strcspn(at + 7, "\n"));
            qc_str_add_char(&runs, '\n');
        }
    }
    char *joined = qc_arena_strdup(&f->arena, runs.data);
    qc_str_fini(&runs);
    return joined;
}

/* Is NAME{... OPTION ...} in one of the lines? Options come with = or as flags. */
static bool switches(const char *runs, const char *pass, const char *option)
{
    for (const char *at = strstr(runs, pass); at; at = strstr(at + 1, pass)) {
        const char *open = at + strlen(pass);
        if (*open != '{')
            continue;
        size_t line = strcspn(open, "\n"), length = strlen(option);
        for (size_t i = 1; i + length < line; i++)
            if (strchr("{ ,", open[i - 1]) && strncmp(open + i, option, length) == 0 &&
                strchr("=,}", open[i + length]))
                return true;
    }
    return false;
}

static void test_every_pass_has_file_and_tests(void)
{
    fixture f;
    setup(&f);
    CHECK(qc_registry_count(f.registry) >= 11);
    for (size_t i = 0; i < qc_registry_count(f.registry); i++) {
        const qc_pass *pass = qc_registry_at(f.registry, i);
        const char *symbol = symbol_of(&f, qc_pass_name(pass));
        if (!qc_is_file(qc_arena_printf(&f.arena, "%s/passes/%s.c", f.root, symbol)))
            CHECK_FAIL("there is no passes/%s.c", symbol);
        if (!strstr(runs_of(&f, symbol), qc_pass_name(pass)))
            CHECK_FAIL("tests/passes/%s runs no %s", symbol, qc_pass_name(pass));
    }
    teardown(&f);
}

static void test_every_option_is_switched(void)
{
    fixture f;
    setup(&f);
    for (size_t i = 0; i < qc_registry_count(f.registry); i++) {
        const qc_pass *pass = qc_registry_at(f.registry, i);
        const char *runs = runs_of(&f, symbol_of(&f, qc_pass_name(pass)));
        for (size_t k = 0; k < qc_pass_option_total(pass); k++)
            if (!switches(runs, qc_pass_name(pass), qc_pass_option_name(pass, k)))
                CHECK_FAIL("no test switches %s{%s}", qc_pass_name(pass), qc_pass_option_name(pass, k));
    }
    CHECK(!switches("quant-kv{layers=0}", "quant-kv", "arith")); /* the check can fail */
    CHECK(switches("dce,quant-kv{layers=0, arith=x}", "quant-kv", "arith"));
    teardown(&f);
}

static void test_docs_are_up_to_date(void)
{
    fixture f;
    qc_str reference;
    char *text;
    size_t length;
    setup(&f);
    const char *path = qc_arena_printf(&f.arena, "%s/docs/passes.md", f.root);
    qc_str_init(&reference, &f.arena);
    qc_registry_markdown(f.registry, &reference);
    CHECK(qc_read_file(&f.diag, &f.arena, path, 1 << 24, &text, &length) == QC_OK);
    char *generated = f.log.count == 0 ? strstr(text, marker) : NULL;
    CHECK(generated != NULL);
    if (generated && getenv("QC_BLESS")) {
        qc_str file;
        qc_str_init(&file, &f.arena);
        qc_str_add_bytes(&file, text, (size_t)(generated - text));
        qc_str_addf(&file, "%s\n%s", marker, reference.data);
        CHECK(qc_write_file(&f.diag, path, file.data, file.length) == QC_OK);
        qc_str_fini(&file);
    } else if (generated) {
        CHECK(generated[sizeof marker - 1] == '\n' && strcmp(generated + sizeof marker, reference.data) == 0);
    }
    qc_str_fini(&reference);
    teardown(&f);
}

int main(void)
{
    RUN(test_every_pass_has_file_and_tests);
    RUN(test_every_option_is_switched);
    RUN(test_docs_are_up_to_date);
    return check_done();
}
