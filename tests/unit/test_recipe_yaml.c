/* SPDX-License-Identifier: MIT
 *
 * test_recipe_yaml.c - the YAML of recipes: types of scalars, as PyYAML 6 resolves them, trees, limits and errors.
 */
#include "check.h"
#include "frontends/recipe/yaml_tree.h"
#include "recipe_fixture.h"

/* ---- YAML ---------------------------------------------------------------------------------------------- */

static const qc_yaml *yaml_of(fixture *f, const char *text)
{
    return qc_yaml_parse(qc_ctx_diag(f->ctx), &f->arena, "y", 1, text, strlen(text));
}

static void test_scalars(void)
{
    static const struct {
        const char *text;
        qc_yaml_kind kind;
        double value;
    } rows[] = {
        {"~", QC_YAML_NULL, 0},
        {"null", QC_YAML_NULL, 0},
        {"Null", QC_YAML_NULL, 0},
        {"nULL", QC_YAML_STRING, 0},
        {"true", QC_YAML_BOOL, 1.0},
        {"Yes", QC_YAML_BOOL, 1.0},
        {"ON", QC_YAML_BOOL, 1.0},
        {"oN", QC_YAML_STRING, 0},
        {"off", QC_YAML_BOOL, 0.0},
        {"no", QC_YAML_BOOL, 0.0},
        {"y", QC_YAML_STRING, 0},
        {"n", QC_YAML_STRING, 0},
        {"1", QC_YAML_INT, 1.0},
        {"0", QC_YAML_INT, 0.0},
        {"-1", QC_YAML_INT, -1.0},
        {"+12", QC_YAML_INT, 12.0},
        {"1_000", QC_YAML_INT, 1000.0},
        {"010", QC_YAML_INT, 8.0},
        {"08", QC_YAML_STRING, 0},
        {"0b101", QC_YAML_INT, 5.0},
        {"0x1F", QC_YAML_INT, 31.0},
        {"0xg", QC_YAML_STRING, 0},
        {"1:30", QC_YAML_INT, 90.0},
        {"1:60", QC_YAML_STRING, 0},
        {"1e-3", QC_YAML_STRING, 0},
        {"1e3", QC_YAML_STRING, 0},
        {"1.0e3", QC_YAML_STRING, 0},
        {"1.0e-3", QC_YAML_FLOAT, 0.001},
        {"1.5e+10", QC_YAML_FLOAT, 15000000000.0},
        {"1.", QC_YAML_FLOAT, 1.0},
        {"1._5", QC_YAML_FLOAT, 1.5},
        {".5", QC_YAML_FLOAT, 0.5},
        {"-.5", QC_YAML_STRING, 0},
        {"+.5", QC_YAML_STRING, 0},
        {"5.", QC_YAML_FLOAT, 5.0},
        {"1.5.2", QC_YAML_STRING, 0},
        {".inf", QC_YAML_FLOAT, INFINITY},
        {"-.INF", QC_YAML_FLOAT, -INFINITY},
        {"+.inf", QC_YAML_FLOAT, INFINITY},
        {".nan", QC_YAML_FLOAT, NAN},
        {"-.nan", QC_YAML_STRING, 0},
        {".", QC_YAML_STRING, 0},
        {"--", QC_YAML_STRING, 0},
        {"1:30.5", QC_YAML_FLOAT, 90.5},
        {"9223372036854775807", QC_YAML_INT, 0x1p63},
        {"-9223372036854775808", QC_YAML_INT, -0x1p63},
        {"2001-12-14", QC_YAML_DATE, 0},
        {"2001-12-14t21:59:43.10-05:00", QC_YAML_DATE, 0},
        {"2001-12-14 21:59:43.10 -5", QC_YAML_DATE, 0},
        {"2001-1-2", QC_YAML_STRING, 0},
        {"0o17", QC_YAML_STRING, 0},
        {"12e03", QC_YAML_STRING, 0},
        {"1_0.0_1", QC_YAML_FLOAT, 10.01},
        {"0.", QC_YAML_FLOAT, 0.0},
        {"00", QC_YAML_INT, 0.0},
        {"0_", QC_YAML_INT, 0.0},
        {"-0b11", QC_YAML_INT, -3.0},
        {"685_230.15", QC_YAML_FLOAT, 685230.15},
        {"4.", QC_YAML_FLOAT, 4.0},
        {"+", QC_YAML_STRING, 0},
        {"1a", QC_YAML_STRING, 0},
        {"re:.*", QC_YAML_STRING, 0},
        {"torch.float8_e4m3fn", QC_YAML_STRING, 0},
        {"128x128", QC_YAML_STRING, 0},
        {"0.1e+1", QC_YAML_FLOAT, 1.0},
        {"1.e+3", QC_YAML_FLOAT, 1000.0},
        {"-0x10", QC_YAML_INT, -16.0},
        {"-1:30", QC_YAML_INT, -90.0},
    };
    fixture f;
    setup(&f);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const qc_yaml *node = yaml_of(&f, rows[i].text);
        if (!node || node->kind != rows[i].kind) {
            CHECK_FAIL("'%s' is %s", rows[i].text, node ? qc_yaml_kind_name(node) : "refused");
            continue;
        }
        double value = node->kind == QC_YAML_BOOL ? node->boolean : node->number;
        if ((node->kind == QC_YAML_INT || node->kind == QC_YAML_FLOAT || node->kind == QC_YAML_BOOL) &&
            !(value == rows[i].value || (isnan(value) && isnan(rows[i].value))))
            CHECK_FAIL("'%s' is %.17g, expected %.17g", rows[i].text, value, rows[i].value);
    }
    CHECK_INT(yaml_of(&f, "9223372036854775807")->integer, INT64_MAX);
    CHECK_INT(yaml_of(&f, "-9223372036854775808")->integer, INT64_MIN);
    CHECK_INT(yaml_of(&f, "'1'")->kind, QC_YAML_STRING);
    CHECK_INT(yaml_of(&f, "\"true\"")->kind, QC_YAML_STRING);
    CHECK_INT(yaml_of(&f, "!!str 1")->kind, QC_YAML_STRING);
    CHECK_INT(yaml_of(&f, "!!int '7'")->integer, 7);
    CHECK_INT(yaml_of(&f, "")->kind, QC_YAML_NULL);
    CHECK_INT(f.said.count, 0);
    teardown(&f);
}

static void test_trees(void)
{
    fixture f;
    setup(&f);
    const qc_yaml *t =
        yaml_of(&f, "a: &x {p: 1, q: 2}\nb:\n  <<: *x\n  q: 3\nc: [*x, text]\nd: !!python/tuple [k, l]\n"
                    "e: !!python/object/apply:compressed_tensors.quantization.quant_args.QuantizationType "
                    "[int]\n");
    CHECK(t && t->kind == QC_YAML_MAP && t->entries.count == 5);
    if (t && t->entries.count == 5) {
        const qc_yaml *b = qc_yaml_find(t, "b")->value;
        CHECK_INT(qc_yaml_find(b, "q")->value->integer, 3);
        CHECK_INT(qc_yaml_find(b, "p")->value->integer, 1);
        CHECK_INT(qc_yaml_find(b, "p")->line, 1);
        CHECK_INT(qc_yaml_find(b, "q")->line, 4);
        CHECK(qc_yaml_find(t, "c")->value->entries.items[0].value == qc_yaml_find(t, "a")->value);
        CHECK_INT(qc_yaml_find(t, "d")->value->entries.count, 2);
        CHECK_STR(qc_yaml_find(t, "e")->value->text, "int");
        CHECK_INT(qc_yaml_find(t, "e")->value->line, 7);
    }
    t = yaml_of(&f, "a: &x {p: 1}\nb: &y {p: 2, q: 2}\nc: {<<: [*x, *y], r: 3}\n");
    CHECK(t && qc_yaml_find(qc_yaml_find(t, "c")->value, "p")->value->integer == 1);
    CHECK(t && qc_yaml_find(t, "c")->value->entries.count == 3);
    CHECK_INT(f.said.count, 0);
    teardown(&f);
}

static void test_bad_yaml(void)
{
    static const struct {
        const char *text, *message;
    } rows[] = {
        {"a: 1\nb: 2\na: 3\n", "y:3: 'a' is given twice"},
        {"a: {b: 1, b: 2}\n", "y:1: 'b' is given twice"},
        {"1: a\n", "y:1: a key is a string, not an integer ('1')"},
        {"\n? [a]\n: b\n", "y:2: a key is a string, not a list or a map"},
        {"a: *b\n", "y:1: the alias *b has no anchor before it"},
        {"a: &b [*b]\n", "y:1: the anchor &b is inside of itself"},
        {"a: !!set {b, c}\n", "y:1: the tag 'set' is not read"},
        {"a: !thing b\n", "y:1: the tag '!thing' is not read"},
        {"a: !!python/object:os.system [b]\n", "y:1: the tag 'python/object:os.system' is not read"},
        {"a: !!int b\n", "y:1: 'b' is not what its tag 'int' says"},
        {"a: 1\n---\nb: 2\n", "y:2: a second document"},
        {"a: [1, 2\nb: 3\n", "y:2: no YAML: "},
        {"a: b: c\n", "y:1: no YAML: mapping values are not allowed in this context"},
        {"a:\n\t- b\n", "y:2: no YAML: "},
        {"a: \"\\0\"\n", "y:1: a NUL character in a string"},
        {"a: \xff\n", "y:1: no YAML: "},
        {"a: 99999999999999999999\n", "y:1: '99999999999999999999' is no integer of 64 bits"},
        {"a: 0x_\n", "y:1: '0x_' is no integer of 64 bits"},
        {"a: {<<: 1}\n", "y:1: '<<' merges maps, not an integer"},
        {"a: &x {b: 1}\nc:\n  <<: *x\n  <<: *x\n", "y:4: '<<' is given twice"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        fixture f;
        setup(&f);
        CHECK(yaml_of(&f, rows[i].text) == NULL);
        CHECK(said(&f.said, rows[i].message));
        CHECK_INT(f.said.count, 1);
        teardown(&f);
    }
}

static void test_yaml_limits(void)
{
    fixture f;
    setup(&f);
    char *deep = qc_arena_alloc(&f.arena, 1001);
    memset(deep, '[', 1000);
    CHECK(yaml_of(&f, deep) == NULL);
    CHECK(said(&f.said, "y:1: nested more than 64 deep"));
    /* Aliases of aliases: as text 10^9 items, in the tree thirty lists. */
    qc_str text;
    qc_str_init(&text, &f.arena);
    qc_str_add(&text, "a0: &a0 [x]\n");
    for (int i = 1; i < 30; i++)
        qc_str_addf(&text, "a%d: &a%d [*a%d, *a%d]\n", i, i, i - 1, i - 1);
    CHECK(yaml_of(&f, text.data) != NULL);
    qc_str_clear(&text);
    qc_str_add(&text, "m: &m {k: v}\nl: &l [");
    for (int i = 0; i < 1000; i++)
        qc_str_add(&text, i ? ", *m" : "*m");
    qc_str_add(&text, "]\n");
    for (int i = 0; i < 1000; i++)
        qc_str_addf(&text, "n%d: {<<: *l}\n", i);
    CHECK(yaml_of(&f, text.data) == NULL);
    CHECK(said(&f.said, "more than 65536 entries are merged by '<<'"));
    qc_str_fini(&text);
    char *big = qc_arena_alloc(&f.arena, (1 << 20) + 2);
    memset(big, '#', (1 << 20) + 1);
    CHECK_INT(qc_recipe_parse(f.ctx, &f.arena, "big.yaml", big, (1 << 20) + 1, &f.recipe), QC_ERROR);
    CHECK(said(&f.said, "big.yaml: a recipe of more than 1048576 bytes"));
    teardown(&f);
}

int main(void)
{
    RUN(test_scalars);
    RUN(test_trees);
    RUN(test_bad_yaml);
    RUN(test_yaml_limits);
    return check_done();
}
