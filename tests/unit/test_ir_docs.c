/* SPDX-License-Identifier: MIT
 *
 * test_ir_docs.c - every ```qc block of README.md and docs/ parses, verifies and is canonical.
 */
#include "tests/unit/check.h"

#include "ir/support/io.h"
#include "ir/support/str.h"
#include "qc/ir.h"
#include "tests/unit/messages.h"

static messages heard;
static int blocks;

static void check_block(const char *file, int line, const char *text, size_t length)
{
    qc_ctx *ctx = qc_ctx_create(NULL, keep_message, &heard);
    qc_module *module = qc_module_parse(ctx, "block", text, length);
    blocks++;
    if (!module) {
        CHECK_FAIL("%s:%d: %s", file, line, heard.last);
    } else {
        size_t printed_length;
        char *printed = qc_module_print(module, &printed_length);
        if (qc_module_verify(module, NULL) != QC_OK)
            CHECK_FAIL("%s:%d: %s", file, line, heard.last);
        if (printed_length != length || memcmp(printed, text, length) != 0)
            CHECK_FAIL("%s:%d: the block is not canonical; it prints as\n%s", file, line, printed);
        qc_text_free(printed);
    }
    qc_module_destroy(module);
    qc_ctx_destroy(ctx);
}

static void check_file(qc_diag *diag, qc_arena *arena, const char *path)
{
    static const char open[] = "\n```qc\n", close[] = "\n```";
    char *text;
    size_t length;
    if (qc_read_file(diag, arena, path, 1 << 24, &text, &length) != QC_OK) {
        CHECK_FAIL("%s", heard.last);
        return;
    }
    for (const char *at = text; (at = strstr(at, open)) != NULL;) {
        const char *block = at + sizeof open - 1, *end = strstr(block, close);
        int line = 1;
        for (const char *c = text; c < block; c++)
            line += *c == '\n';
        if (!end) {
            CHECK_FAIL("%s:%d: the block does not end", path, line);
            return;
        }
        check_block(path, line, block, (size_t)(end - block) + 1);
        at = end;
    }
}

static void test_blocks(void)
{
    const char *root = getenv("QC_SOURCE_ROOT");
    qc_arena arena;
    qc_diag diag;
    char **names;
    size_t count = 0;
    qc_arena_init(&arena, NULL);
    qc_diag_init(&diag, &arena, keep_message, &heard);
    root = root ? root : ".";
    const char *docs = qc_path_join(&arena, root, "docs");
    CHECK_INT(qc_list_directory(&diag, &arena, docs, &names, &count), QC_OK);
    for (size_t i = 0; i < count; i++)
        if (qc_ends_with(names[i], ".md"))
            check_file(&diag, &arena, qc_path_join(&arena, docs, names[i]));
    check_file(&diag, &arena, qc_path_join(&arena, root, "README.md"));
    CHECK(blocks >= 6);
    qc_arena_fini(&arena);
}

int main(void)
{
    RUN(test_blocks);
    return check_done();
}
