/* SPDX-License-Identifier: MIT
 *
 * test_match.c - patterns of targets and ignore: matches and refusals, asked of Python's re; a module's other path.
 */
#include "check.h"
#include "ir/ctx.h"
#include "ir/ir.h"
#include "messages.h"

typedef struct fixture {
    messages said;
    qc_arena arena;
    qc_ctx *ctx;
} fixture;

static void setup(fixture *f)
{
    memset(f, 0, sizeof *f);
    qc_arena_init(&f->arena, NULL);
    f->ctx = qc_ctx_create(NULL, keep_message, &f->said);
}

static void teardown(fixture *f)
{
    qc_ctx_destroy(f->ctx);
    qc_arena_fini(&f->arena);
}

/* ---- patterns ------------------------------------------------------------------------------------------ */

/* 1 where Python's re.match finds the pattern in the path. */
static const struct {
    const char *target, *matches;
} patterns[] = {
    {"re:.*lm_head", "0100"},
    {"re:lm_head$", "0100"},
    {"re:lm_head\\Z", "0100"},
    {"re:^lm_head", "0100"},
    {"re:.*mlp\\.gate$", "0000"},
    {"re:.*\\.mlp\\..*gate_proj$", "0010"},
    {"re:.*q_proj", "1000"},
    {"re:q_proj", "0000"},
    {"re:(?i).*Q_PROJ", "1000"},
    {"re:.*(q|k|v)_proj$", "1000"},
    {"re:.*self_attn\\.(?:q|k|v|o)_proj$", "1000"},
    {"re:(?!.*self_attn).*_proj$", "0010"},
    {"re:^(?!.*visual).*", "1110"},
    {"re:model\\.layers\\.(?:[0-9]|1[0-9])\\..*", "1010"},
    {"re:model\\.layers\\.[0-9]+\\.self_attn", "1000"},
    {"re:.*layers\\.(0|1|2)\\.", "0010"},
    {"re:model.layers.\\d{1,2}.self_attn", "1000"},
    {"re:.*experts\\.\\d+\\.(gate|up)_proj", "0010"},
    {"re:\\Amodel", "1011"},
    {"re:model\\.(?P<what>layers|visual)\\.", "1011"},
    {"re:(?P<a>l)m_(?:h)ead", "0100"},
    {"re:.*(?<=mlp\\.experts\\.12\\.)gate_proj", "0010"},
    {"re:.*(?<!self_)attn\\..*", "0001"},
    {"re:[a-z]{,2}_head", "0100"},
    {"re:[a-z]{2,}_head", "0100"},
    {"re:[^m].*", "0100"},
    {"re:[]l]m_head", "0100"},
    {"re:model\\.visual\\.\\w+\\.\\d\\.attn\\.qkv$", "0001"},
    {"re:.*\\bqkv\\b", "0001"},
    {"re:.*\\.attn\\.(qkv|proj)\\Z", "0001"},
    {"re:lm_head|model\\.visual", "0101"},
    {"re:", "1111"},
    {"re:(?x) lm _ head", "0100"},
    {"re:lm\\_head", "0100"},
    {"re:m*+lm_head", "0100"},
    {"re:(?>l)m_head", "0100"},
    {"re:.*proj\\b$", "1010"},
    {"re:(lm)_head(?(1)$|x)", "0100"},
    {"re:(?#c)lm_head", "0100"},
    {"re:(?s:.)m_head", "0100"},
    {"re:.*[.]q_proj[$]?$", "1000"},
};

static void test_patterns(void)
{
    static const char *const paths[] = {"model.layers.10.self_attn.q_proj", "lm_head",
        "model.layers.0.mlp.experts.12.gate_proj", "model.visual.blocks.3.attn.qkv"};
    fixture f;
    setup(&f);
    qc_module *module = qc_module_create(f.ctx);
    qc_node *nodes[4];
    for (int k = 0; k < 4; k++)
        nodes[k] = qc_module_add_node(module, paths[k], "Linear");
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++)
        for (int k = 0; k < 4; k++)
            if (qc_node_matches(nodes[k], patterns[i].target) != (patterns[i].matches[k] == '1'))
                CHECK_FAIL("%s in %s: expected %c", patterns[i].target, paths[k], patterns[i].matches[k]);
    CHECK(qc_node_matches(nodes[0], "Module") && qc_node_matches(nodes[0], "Linear"));
    CHECK(!qc_node_matches(nodes[0], "linear") && !qc_node_matches(nodes[0], "q_proj"));
    CHECK_INT(f.said.count, 0);
    qc_module_destroy(module);
    teardown(&f);
}

/* What Python's re.compile refuses. */
static void test_bad_patterns(void)
{
    static const char *const bad[] = {
        "re:(",        // missing ), unterminated subpattern at position 0
        "re:*a",       // nothing to repeat at position 0
        "re:a**",      // multiple repeat at position 2
        "re:[a",       // unterminated character set at position 0
        "re:(?P<n",    // missing >, unterminated name at position 4
        "re:(?<n>a)",  // unknown extension ?<n at position 1
        "re:\\Qa\\E",  // bad escape \Q at position 0
        "re:\\h",      // bad escape \h at position 0
        "re:\\K",      // bad escape \K at position 0
        "re:\\z",      // bad escape \z at position 0
        "re:(*UTF8)a", // nothing to repeat at position 1
        "re:(?|a|b)",  // unknown extension ?| at position 1
        "re:(?R)",     // unknown extension ?R at position 1
        "re:(?P>x)",   // unknown extension ?P> at position 1
        "re:\\g<1>",   // bad escape \g at position 0
        "re:(?1)(a)",  // unknown extension ?1 at position 1
        "re:[z-a]",    // bad character range z-a at position 1
        "re:(?<=a*)b", // look-behind requires fixed-width pattern
        "re:\\C",      // bad escape \C at position 0
        "re:a)",       // unbalanced parenthesis at position 1
        "re:\\1",      // invalid group reference 1 at position 1
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        fixture f;
        setup(&f);
        if (qc_target_check_at(f.ctx, "r.yaml:7", bad[i]) == QC_OK)
            CHECK_FAIL("%s compiles", bad[i]);
        CHECK(said(&f.said, qc_arena_printf(&f.arena, "r.yaml:7: %s: bad pattern at offset ", bad[i])));
        teardown(&f);
    }
}

/* ---- aliases ------------------------------------------------------------------------------------------- */

static void check_text(const qc_module *module, const char *text)
{
    char *printed = qc_module_print(module, NULL);
    CHECK_STR(printed, text);
    qc_text_free(printed);
}

/* A module has a second path, and those below it. */
static void test_aliases(void)
{
    static const char text[] = "qc 1\n"
                               "module \"\" Root\n"
                               "module \"a\" A as \"m.b\"\n"
                               "module \"a.0\" B {weight}\n"
                               "module \"a.0.w1\" Linear as \"m.b.0.gate\" {weight}\n"
                               "module \"a.0.w1.x\" Linear\n"
                               "module \"ab\" C\n";
    fixture f;
    setup(&f);
    qc_module *module = qc_module_parse(f.ctx, "test", text, strlen(text)), *copy;
    if (!module)
        CHECK_FAIL("not parsed: %d errors", f.said.count);
    copy = qc_module_clone(module);
    check_text(module, text);
    check_text(copy, text);
    qc_node *w1 = qc_module_find_node(copy, "a.0.w1"), *zero = qc_module_find_node(copy, "a.0");
    CHECK_STR(qc_node_alias(w1), "m.b.0.gate");
    CHECK_STR(qc_node_alias(zero), "m.b.0");
    CHECK_STR(qc_node_alias(qc_module_find_node(copy, "a.0.w1.x")), "m.b.0.gate.x");
    CHECK(!qc_node_alias(qc_module_find_node(copy, "")) && !qc_node_alias(qc_module_find_node(copy, "ab")));
    CHECK(qc_node_is_named(w1, "a.0.w1") && qc_node_is_named(w1, "m.b.0.gate"));
    CHECK(!qc_node_is_named(w1, "m.b.0.w1") && !qc_node_is_named(w1, "Linear"));
    CHECK(
        qc_node_matches(w1, "m.b.0.gate") && qc_node_matches(w1, "a.0.w1") && qc_node_matches(w1, "Linear"));
    CHECK(qc_node_matches(w1, "re:m\\..*gate$") && qc_node_matches(w1, "re:a\\..*w1$"));
    CHECK(!qc_node_matches(w1, "re:m\\..*w1$") && !qc_node_matches(w1, "re:b"));
    CHECK(qc_node_matches_stored(w1, "re:a\\..*w1$") && !qc_node_matches_stored(w1, "re:m\\."));
    CHECK(!qc_node_matches_stored(w1, "m.b.0.gate") && qc_node_matches_stored(w1, "Linear"));
    CHECK_STR(qc_node_alias(qc_module_insert_node(copy, zero, "a.0.w2", "Linear")), "m.b.0.w2");
    qc_node_set_alias(zero, "a.0"); /* again as it is: no other name than before */
    CHECK_STR(qc_node_alias(zero), "a.0");
    qc_module_destroy(copy);
    qc_module_destroy(module);
    teardown(&f);
}

int main(void)
{
    RUN(test_patterns);
    RUN(test_bad_patterns);
    RUN(test_aliases);
    return check_done();
}
