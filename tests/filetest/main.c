/* SPDX-License-Identifier: MIT
 *
 * main.c - qc-filetest FOLDER|FILE...: runs tests that are files of IR text. TAP on stdout, a line a case.
 *
 * A file holds one case or several with `// -----` between them. A case is IR text with directives in
 * comments:
 *
 *   // RUN: PIPELINE          what to run; without it (or empty) the text is parsed and printed
 *   // DISABLE: PATTERN       as --disable
 *   // EVAL: B=1, S=3 exact   runs the reference before and after on seeded data: equal bits, or rel=0.05
 *   // EXPECT:                all that follows is what the module must print as, to the byte
 *   // error: SUBSTRING       a diagnostic that must come. At the end of a line, or as error@+1: / error@-1:,
 * it must
 *   // warning: SUBSTRING     name that line if it names any; on a line of its own it may come from anywhere.
 *   // remark: SUBSTRING
 *
 * Errors must come exactly as announced; warnings and remarks must come, others may too. A case has EXPECT or an error.
 * What is printed must parse and print as itself, and so must the pipeline. With QC_BLESS=1 in the
 * environment EXPECT blocks are rewritten to what was printed: for people, who read the difference, never for
 * CI.
 */
#include "tests/filetest/filetest.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "ir/support/io.h"

static void out_of_memory(size_t size_bytes)
{
    printf("Bail out! no memory for %zu bytes\n", size_bytes);
    exit(1);
}

/* ---- reading a case ------------------------------------------------------------------------------------ */

static char *trimmed(qc_arena *arena, const char *text, size_t length)
{
    while (length > 0 && (*text == ' ' || *text == '\t'))
        text++, length--;
    while (length > 0 && strchr(" \t\r", text[length - 1]))
        length--;
    return qc_arena_strndup(arena, text, length);
}

/* A directive `NAME:` in the comment that starts at `comment`; its text, or NULL. */
static char *directive(qc_arena *arena, const char *comment, size_t length, const char *name)
{
    size_t named = strlen(name);
    size_t blanks = 2 + strspn(comment + 2, " ");
    if (length < blanks + named || memcmp(comment + blanks, name, named) != 0)
        return NULL;
    return trimmed(arena, comment + blanks + named, length - blanks - named);
}

/* error: / warning: / remark: with an optional @+N; the line they speak of, 0 for any. */
static void read_expectation(filetest *t, const char *comment, size_t length, int line, bool alone)
{
    static const struct {
        const char *name;
        qc_severity severity;
    } kinds[] = {
        {"error", QC_SEVERITY_ERROR}, {"warning", QC_SEVERITY_WARNING}, {"remark", QC_SEVERITY_REMARK}};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        char *text = directive(&t->arena, comment, length, kinds[i].name);
        if (!text || (text[0] != ':' && text[0] != '@'))
            continue;
        expectation e = {.severity = kinds[i].severity, .line = alone ? 0 : line, .file_line = line};
        if (text[0] == '@') {
            e.line = line + (int)strtol(text + 1, &text, 10);
        }
        e.text = trimmed(&t->arena, text + 1, strlen(text + 1));
        QC_PUSH(&t->arena, &t->expectations, e);
        t->expects_error |= kinds[i].severity == QC_SEVERITY_ERROR;
    }
}

/* Where the comment of a line starts, NULL when there is none; // inside quotes is no comment. */
static const char *comment_of(const char *line, size_t length)
{
    bool quoted = false;
    for (size_t i = 0; i + 1 < length; i++) {
        if (line[i] == '"' && (i == 0 || line[i - 1] != '\\'))
            quoted = !quoted;
        if (!quoted && line[i] == '/' && line[i + 1] == '/')
            return line + i;
    }
    return NULL;
}

/* Fills the case from its text: directives, and where the IR ends. */
static void read_case(filetest *t)
{
    int line = t->first_line;
    t->input_length = t->length;
    for (const char *at = t->text, *end = t->text + t->length; at < end; line++) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        size_t length = (size_t)((newline ? newline : end) - at);
        const char *comment = comment_of(at, length);
        if (comment) {
            size_t rest = length - (size_t)(comment - at);
            bool alone = strspn(at, " ") == (size_t)(comment - at);
            char *text;
            if ((text = directive(&t->arena, comment, rest, "RUN:")) != NULL)
                t->pipeline = text;
            else if ((text = directive(&t->arena, comment, rest, "DISABLE:")) != NULL)
                QC_PUSH(&t->arena, &t->disable, text);
            else if ((text = directive(&t->arena, comment, rest, "EVAL:")) != NULL)
                t->eval = text;
            else if (directive(&t->arena, comment, rest, "EXPECT:") != NULL && alone) {
                t->input_length = (size_t)(at - t->text);
                t->expected = at + length + (at + length < end);
                t->expected_length = (size_t)(end - t->expected);
                return;
            } else
                read_expectation(t, comment, rest, line, alone);
        }
        at += length + 1;
    }
}

/* ---- running a case ------------------------------------------------------------------------------------ */

static void complain(filetest *t, const char *format, ...) QC_PRINTF(2, 3);
static void complain(filetest *t, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *text = qc_arena_vprintf(&t->arena, format, args);
    va_end(args);
    QC_PUSH(&t->arena, &t->complaints, text);
}

void filetest_complain(filetest *t, const char *text)
{
    complain(t, "%s", text);
}

/* The line that WHERE names in this file, 0 when it names none. */
static int line_of(const filetest *t, const char *where)
{
    size_t name = strlen(t->file);
    if (strncmp(where, t->file, name) != 0 || where[name] != ':')
        return 0;
    int line = atoi(where + name + 1);
    return line > 0 ? line + t->first_line - 1 : 0;
}

static void on_diagnostic(void *user, qc_severity severity, const char *where, const char *what)
{
    filetest *t = user;
    int line = line_of(t, where);
    char *text = qc_arena_printf(&t->arena, "%s%s%s", where, where[0] ? ": " : "", what);
    for (size_t i = 0; i < t->expectations.count; i++) {
        expectation *e = &t->expectations.items[i];
        if (e->severity != severity || e->met || (e->line && line && e->line != line) ||
            !strstr(text, e->text))
            continue;
        e->met = true;
        return;
    }
    if (severity == QC_SEVERITY_ERROR)
        complain(t, "unexpected error: %s", text);
}

static bool same_text(const char *a, size_t a_length, const char *b, size_t b_length)
{
    while (a_length > 0 && a[a_length - 1] == '\n')
        a_length--;
    while (b_length > 0 && b[b_length - 1] == '\n')
        b_length--;
    return a_length == b_length && memcmp(a, b, a_length) == 0;
}

/* The first line that differs, so that the report is short. */
static void show_difference(filetest *t, const char *text, size_t length)
{
    int line = 1;
    size_t i = 0, start = 0;
    while (i < length && i < t->expected_length && text[i] == t->expected[i])
        if (text[i++] == '\n')
            line++, start = i;
    const char *expected = t->expected_length > start ? t->expected + start : "";
    complain(t, "line %d of the output differs", line);
    complain(t, "  expected: %.*s", (int)strcspn(expected, "\n"), expected);
    complain(t, "  printed:  %.*s", (int)strcspn(text + start, "\n"), text + start);
}

static void check_round_trip(filetest *t, const char *text, size_t length)
{
    size_t again_length = 0;
    qc_module *module = qc_module_parse(t->ctx, "output", text, length);
    char *again = module ? qc_module_print(module, &again_length) : NULL;
    if (!again || again_length != length || memcmp(text, again, length) != 0)
        complain(t, "the output does not parse and print as itself");
    qc_text_free(again);
    qc_module_destroy(module);
}

static void check_pipeline_text(filetest *t, qc_registry *registry, const qc_pipeline *pipeline)
{
    qc_str first, second;
    qc_str_init(&first, &t->arena);
    qc_str_init(&second, &t->arena);
    qc_pipeline *again = qc_pipeline_create(registry);
    qc_pipeline_print(pipeline, &first);
    if (qc_pipeline_parse(again, "printed pipeline", first.data) == QC_OK)
        qc_pipeline_print(again, &second);
    if (strcmp(first.data, second.data) != 0)
        complain(t, "the pipeline prints as '%s', which prints as '%s'", first.data, second.data);
    qc_str_fini(&first);
    qc_str_fini(&second);
}

/* True when the module came through. */
static bool run_pipeline(filetest *t, qc_module *module)
{
    qc_registry *registry = qc_registry_create(t->ctx, out_of_memory);
    qc_pipeline *pipeline = qc_pipeline_create(registry);
    qc_run_settings settings = {
        .disable = t->disable.items, .disable_count = t->disable.count, .verify_keeps = true};
    qc_module *before = t->eval ? qc_module_clone(module) : NULL;
    bool ok = qc_pipeline_parse(pipeline, "RUN", t->pipeline) == QC_OK;
    if (ok)
        check_pipeline_text(t, registry, pipeline);
    ok = ok && qc_pipeline_run(pipeline, module, &settings) == QC_OK;
    if (ok && before)
        filetest_eval(t, before, module);
    qc_module_destroy(before);
    qc_registry_destroy(registry);
    return ok;
}

/* The printed module is left in t->output, empty when there is none. */
static void run_case(filetest *t)
{
    t->ctx = qc_ctx_create(out_of_memory, on_diagnostic, t);
    qc_module *module = qc_module_parse(t->ctx, t->file, t->text, t->input_length);
    bool ok = module && run_pipeline(t, module);
    if (ok) {
        size_t length;
        char *text = qc_module_print(module, &length);
        check_round_trip(t, text, length);
        qc_str_add_bytes(t->output, text, length);
        if (!t->bless && t->expected && !same_text(text, length, t->expected, t->expected_length))
            show_difference(t, text, length);
        qc_text_free(text);
    }
    for (size_t i = 0; i < t->expectations.count; i++)
        if (!t->expectations.items[i].met)
            complain(t, "line %d: this %s did not come: %s", t->expectations.items[i].file_line,
                t->expectations.items[i].severity == QC_SEVERITY_ERROR     ? "error"
                : t->expectations.items[i].severity == QC_SEVERITY_WARNING ? "warning"
                                                                           : "remark",
                t->expectations.items[i].text);
    if (!ok && t->complaints.count == 0 && !t->expects_error)
        complain(t, "the case failed without an error");
    if (ok && t->expects_error)
        complain(t, "the case came through");
    if (!t->expected && !t->expects_error && !t->bless)
        complain(t, "the case has neither EXPECT nor an error");
    qc_module_destroy(module);
    qc_ctx_destroy(t->ctx);
}

/* ---- files --------------------------------------------------------------------------------------------- */

typedef struct totals {
    int cases, failed;
    bool bless;
} totals;

static const char separator[] = "// -----\n";

/* One case: a line of TAP, and its text as it should be in the file. */
static void do_case(
    totals *all, const char *file, const char *text, size_t length, int first_line, qc_str *blessed)
{
    qc_str output;
    filetest t = {
        .file = qc_path_base(file), .text = text, .length = length, .first_line = first_line, .pipeline = ""};
    qc_arena_init(&t.arena, out_of_memory);
    qc_str_init(&output, &t.arena);
    t.output = &output;
    t.bless = all->bless;
    read_case(&t);
    run_case(&t);
    all->cases++;
    all->failed += t.complaints.count > 0;
    for (size_t i = 0; i < t.complaints.count; i++)
        printf("# %s:%d: %s\n", file, first_line, t.complaints.items[i]);
    const char *folder = strrchr(file, '/');
    while (folder && folder > file && folder[-1] != '/')
        folder--;
    printf("%sok %d - %s:%d %s\n", t.complaints.count ? "not " : "", all->cases, folder ? folder : file,
        first_line, t.pipeline);
    if (all->bless && !t.expects_error && output.length > 0) {
        qc_str_add_bytes(blessed, text, t.input_length);
        if (t.input_length > 0 && text[t.input_length - 1] != '\n')
            qc_str_add_char(blessed, '\n');
        qc_str_add(blessed, "// EXPECT:\n");
        qc_str_add_bytes(blessed, output.data, output.length);
    } else {
        qc_str_add_bytes(blessed, text, length);
    }
    qc_str_fini(&output);
    qc_arena_fini(&t.arena);
}

static void do_file(totals *all, qc_diag *diag, const char *path)
{
    qc_arena arena;
    qc_arena_init(&arena, out_of_memory);
    qc_str blessed;
    qc_str_init(&blessed, &arena);
    char *text;
    size_t length;
    int line = 1;
    if (qc_read_file(diag, &arena, path, 16 << 20, &text, &length) != QC_OK) {
        printf("not ok %d - %s cannot be read\n", ++all->cases, path);
        all->failed++;
        qc_arena_fini(&arena);
        return;
    }
    for (const char *at = text, *end; *at; at = end) {
        const char *next = strstr(at, separator);
        while (next && next > at && next[-1] != '\n')
            next = strstr(next + 1, separator);
        end = next ? next : text + length;
        do_case(all, path, at, (size_t)(end - at), line, &blessed);
        for (; at < end; at++)
            line += *at == '\n';
        if (next) {
            qc_str_add(&blessed, separator);
            end += sizeof separator - 1;
            line++;
        }
    }
    if (all->bless && (blessed.length != length || memcmp(blessed.data, text, length) != 0) &&
        qc_write_file(diag, path, blessed.data, blessed.length) == QC_OK)
        printf("# %s rewritten\n", path);
    qc_str_fini(&blessed);
    qc_arena_fini(&arena);
}

static void print_diagnostic(void *user, qc_severity severity, const char *where, const char *what)
{
    (void)user, (void)severity;
    printf("# %s: %s\n", where, what);
}

static void do_path(totals *all, qc_diag *diag, qc_arena *arena, const char *path)
{
    char **names;
    size_t count;
    if (!qc_is_directory(path)) {
        do_file(all, diag, path);
        return;
    }
    if (qc_list_directory(diag, arena, path, &names, &count) != QC_OK) {
        all->failed++;
        return;
    }
    for (size_t i = 0; i < count; i++) {
        const char *inside = qc_path_join(arena, path, names[i]);
        if (qc_is_directory(inside) || qc_ends_with(names[i], ".qc"))
            do_path(all, diag, arena, inside);
    }
}

int main(int argc, char **argv)
{
    qc_arena arena;
    qc_diag diag;
    totals all = {.bless = getenv("QC_BLESS") != NULL};
    qc_arena_init(&arena, out_of_memory);
    qc_diag_init(&diag, &arena, print_diagnostic, NULL);
    for (int i = 1; i < argc; i++)
        do_path(&all, &diag, &arena, argv[i]);
    if (all.cases == 0)
        puts("Bail out! no case found");
    printf("1..%d\n", all.cases);
    qc_arena_fini(&arena);
    return all.failed > 0 || all.cases == 0;
}
