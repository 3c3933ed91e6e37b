/* SPDX-License-Identifier: MIT
 *
 * test_pipeline.c - pipelines as text: what parses, how it prints, what is refused and how.
 */
#include "check.h"
#include "messages.h"

#include "ir/dtype/arith.h"
#include "passes/manager.h"
#include "passes/quant.h"
#include "passes/schemes.h"

typedef struct fixture {
    messages log;
    qc_ctx *ctx;
    qc_registry *registry;
    qc_pipeline *pipeline;
    qc_arena arena;
} fixture;

/* What the test pass saw of its options. */
typedef struct seen {
    bool flag, given;
    int64_t number;
    double ratio;
    char text[64], word[16], item[64];
    size_t items;
    int64_t map_int;
    char map_word[32];
} seen;

static qc_pass_result look(qc_pass_ctx *pc, qc_module *module)
{
    seen *s = qc_pass_ctx_user(pc);
    const qc_attr *map = qc_pass_option_attr(pc, "map");
    (void)module;
    s->flag = qc_pass_option_bool(pc, "flag");
    s->given = qc_pass_option_given(pc, "flag");
    s->number = qc_pass_option_int(pc, "number");
    s->ratio = qc_pass_option_float(pc, "ratio");
    snprintf(s->text, sizeof s->text, "%s", qc_pass_option_text(pc, "text"));
    snprintf(s->word, sizeof s->word, "%s", qc_pass_option_text(pc, "word"));
    s->items = qc_pass_option_count(pc, "list");
    snprintf(s->item, sizeof s->item, "%s", qc_pass_option_item(pc, "list", s->items - 1));
    s->map_int = qc_attr_as_int(qc_attr_find(map, "a"));
    snprintf(
        s->map_word, sizeof s->map_word, "%s", qc_attr_as_text(qc_attr_find(qc_attr_find(map, "b"), "c")));
    return QC_PASS_UNCHANGED;
}

static void setup(fixture *f, seen *s)
{
    memset(f, 0, sizeof *f);
    qc_arena_init(&f->arena, NULL);
    f->ctx = qc_ctx_create(NULL, keep_message, &f->log);
    f->registry = qc_registry_create(f->ctx, NULL);
    f->pipeline = qc_pipeline_create(f->registry);
    qc_pass *pass = qc_registry_add_stage(f->registry, "look", "looks at its options", look, s);
    qc_pass_add_option(pass, "flag", QC_OPTION_BOOL, "false", NULL, "a bool");
    qc_pass_add_option(pass, "number", QC_OPTION_INT, "-3", NULL, "an integer");
    qc_pass_add_option(pass, "ratio", QC_OPTION_FLOAT, "0.5", NULL, "a number");
    qc_pass_add_option(pass, "text", QC_OPTION_STRING, "", NULL, "a string");
    qc_pass_add_option(pass, "word", QC_OPTION_WORD, "red", "red|green|blue", "a word");
    qc_pass_add_option(pass, "list", QC_OPTION_LIST, "[]", NULL, "a list");
    qc_pass_add_option(pass, "map", QC_OPTION_MAP, "{}", NULL, "a map");
}

static void teardown(fixture *f)
{
    qc_registry_destroy(f->registry);
    qc_ctx_destroy(f->ctx);
    qc_arena_fini(&f->arena);
}

/* The canonical text of `text`, "" when it is refused. */
static char *printed(fixture *f, const char *text)
{
    qc_str out;
    qc_pipeline *p = qc_pipeline_create(f->registry);
    qc_str_init(&out, &f->arena);
    if (qc_pipeline_parse(p, "--pipeline", text) == QC_OK)
        qc_pipeline_print(p, &out);
    char *copy = qc_arena_strdup(&f->arena, out.data);
    qc_str_fini(&out);
    return copy;
}

static void run_look(fixture *f, const char *text)
{
    qc_module *module = qc_module_create(f->ctx);
    qc_run_settings settings = {0};
    f->pipeline = qc_pipeline_create(f->registry);
    CHECK(qc_pipeline_parse(f->pipeline, "--pass", text) == QC_OK);
    CHECK(qc_pipeline_run(f->pipeline, module, &settings) == QC_OK);
    qc_module_destroy(module);
}

static void test_defaults(void)
{
    fixture f;
    seen s;
    setup(&f, &s);
    run_look(&f, "look");
    CHECK(!s.flag && !s.given);
    CHECK_INT(s.number, -3);
    CHECK_NEAR(s.ratio, 0.5, 0);
    CHECK_STR(s.text, "");
    CHECK_STR(s.word, "red");
    CHECK_INT(s.items, 0);
    teardown(&f);
}

static void test_values(void)
{
    fixture f;
    seen s;
    setup(&f, &s);
    run_look(&f,
        "look{flag, number=7, ratio=1e-3, text=12, word=blue, list=[a, \"b, c\"], map={a=5, b={c=x.y}, d}}");
    CHECK(s.flag && s.given);
    CHECK_INT(s.number, 7);
    CHECK_NEAR(s.ratio, 1e-3, 0);
    CHECK_STR(s.text, "12");
    CHECK_STR(s.word, "blue");
    CHECK_INT(s.items, 2);
    CHECK_STR(s.item, "b, c");
    CHECK_INT(s.map_int, 5);
    CHECK_STR(s.map_word, "x.y");
    run_look(&f, " look { ratio = 4 , list = re:.*q_proj$ , text = \"re:a\\.b\\\"\\\\\" } ");
    CHECK_NEAR(s.ratio, 4.0, 0);
    CHECK_INT(s.items, 1);
    CHECK_STR(s.item, "re:.*q_proj$");
    CHECK_STR(s.text, "re:a\\.b\"\\");
    teardown(&f);
}

/* Options in the order of declaration, every kind spelt so that it reads back as the same. */
static void test_canonical(void)
{
    static const struct {
        const char *text, *printed;
    } cases[] = {
        {"", ""},
        {"dce , cse", "dce,cse"},
        {"look{}", "look"},
        {"look{word=red, flag=false}", "look{flag=false, word=red}"},
        {"look{flag}", "look{flag=true}"},
        {"look{word=GREEN}", "look{word=green}"},
        {"look{text=\"a b\"}", "look{text=\"a b\"}"},
        {"look{text=\"ab\"}", "look{text=ab}"},
        {"look{text=\"\"}", "look{text=\"\"}"},
        {"look{text=\"\\u0001\\n\"}", "look{text=\"\\u0001\\n\"}"},
        {"look{list=x}", "look{list=[\"x\"]}"},
        {"look{list=[]}", "look{list=[]}"},
        {"look{ratio=1}", "look{ratio=1.0}"},
        {"look{map={z=1.50, a=\"1\", m=[1, true, w, \"s\"], k={}}}",
            "look{map={a=\"1\", k={}, m=[1, true, w, \"s\"], z=1.5}}"},
    };
    fixture f;
    seen s;
    setup(&f, &s);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *text = printed(&f, cases[i].text);
        CHECK_STR(text, cases[i].printed);
        CHECK_STR(printed(&f, text), cases[i].printed);
    }
    CHECK_INT(f.log.count, 0);
    teardown(&f);
}

static void test_refused(void)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"quant-fp8-atn", "--pipeline: unknown pass 'quant-fp8-atn', nearest is 'quant-fp8-attn'"},
        {"zzzzzzzzzzz", "--pipeline: unknown pass 'zzzzzzzzzzz'"},
        {"dce{x=1}", "--pipeline: dce: unknown option 'x'; this pass has none"},
        {"look{numbr=1}", "--pipeline: look: unknown option 'numbr', nearest is 'number'"},
        {"look{number=1, number=1}", "--pipeline: look: option 'number' is given twice"},
        {"look{number=x}", "--pipeline: look: option 'number' is an integer, not 'x'"},
        {"look{number=1.5}", "--pipeline: look: option 'number' is an integer, not '1.5'"},
        {"look{number=99999999999999999999}",
            "--pipeline: look: option 'number' is an integer, not '99999999999999999999'"},
        {"look{number=\"1\"}", "--pipeline: look: option 'number' is an integer, not '1'"},
        {"look{number}", "--pipeline: look: option 'number' needs a value: number=..."},
        {"look{number=}", "--pipeline: look: a value is missing: found '}' at character 13"},
        {"look{ratio=1e}", "--pipeline: look: option 'ratio' is a number, not '1e'"},
        {"look{flag=1}", "--pipeline: look: option 'flag' is true or false, not '1'"},
        {"look{word=gren}", "--pipeline: look: option 'word' cannot be 'gren', nearest is 'green'; it is one "
                            "of red|green|blue"},
        {"look{text=[a]}", "--pipeline: look: option 'text' is a string, not a list"},
        {"look{list={a=1}}", "--pipeline: look: option 'list' is a list, not a map"},
        {"look{list=[a", "--pipeline: look: option 'list': expected ',' or ']', found the end"},
        {"look{map=3}", "--pipeline: look: option 'map' is a map {key=value, ...}"},
        {"look{map={a=1, a=2}}", "--pipeline: look: 'a' is given twice"},
        {"look{text=\"a}", "--pipeline: look: the quote at character 11 is not closed"},
        {"look{flag", "--pipeline: look: expected ',' or '}' behind an option"},
        {"look look", "--pipeline: look: expected ',' between passes at character 6 of 'look look'"},
        {"dce,", "--pipeline: expected the name of a pass at character 5 of 'dce,'"},
        {"look{map={a=[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]}}",
            "--pipeline: look: lists and maps are nested more than 16 deep"},
    };
    fixture f;
    seen s;
    setup(&f, &s);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        f.log.count = 0;
        CHECK_STR(printed(&f, cases[i].text), "");
        CHECK_INT(f.log.count, 1);
        CHECK_STR(f.log.last, cases[i].message);
    }
    qc_pipeline_parse(f.pipeline, "--pipeline", "dce");
    qc_pipeline_parse(f.pipeline, "--pipeline", "cse,nothing");
    CHECK_INT(qc_pipeline_count(f.pipeline), 1); /* all of a text or nothing */
    CHECK(qc_pipeline_has(f.pipeline, "dce") && !qc_pipeline_has(f.pipeline, "cse"));
    CHECK_STR(qc_pipeline_name(f.pipeline, 0), "dce");
    teardown(&f);
}

static void test_registration_refused(void)
{
    fixture f;
    seen s;
    setup(&f, &s);
    CHECK(qc_registry_add(f.registry, "dce", "again", look) == NULL);
    CHECK_STR(f.log.last, "dce: a pass of this name is registered already (built-in)");
    CHECK(qc_registry_add(f.registry, "Bad_Name", "summary", look) == NULL);
    CHECK(qc_registry_add(f.registry, "ends-", "summary", look) == NULL);
    qc_pass *pass = qc_registry_add(f.registry, "good", "summary", look);
    size_t before = qc_ctx_error_count(f.ctx);
    qc_pass_add_option(pass, "w", QC_OPTION_WORD, "c", "a|b", "a default that is no value");
    qc_pass_add_option(pass, "n", QC_OPTION_INT, "1", "a|b", "values without words");
    qc_pass_add_kept_analysis(pass, "none-such");
    CHECK_INT(qc_ctx_error_count(f.ctx) - before, 3);
    CHECK_INT(qc_pass_option_total(pass), 0);
    teardown(&f);
}

static void test_spec(void)
{
    fixture f;
    seen s;
    const char *name;
    const qc_attr *options;
    setup(&f, &s);
    CHECK(qc_parse_spec(f.ctx, &f.arena, "--target", "vllm{sm=90, tp=8}", &name, &options) == QC_OK);
    CHECK_STR(name, "vllm");
    CHECK_INT(qc_attr_as_int(qc_attr_find(options, "tp")), 8);
    CHECK(qc_parse_spec(f.ctx, &f.arena, "--target", "onnx", &name, &options) == QC_OK);
    CHECK_INT(qc_attr_count(options), 0);
    CHECK(qc_parse_spec(f.ctx, &f.arena, "--target", "vllm{tp=8", &name, &options) != QC_OK);
    CHECK(qc_parse_spec(f.ctx, &f.arena, "--target", "{}", &name, &options) != QC_OK);
    CHECK(qc_parse_spec(f.ctx, &f.arena, "--target", "a{},b", &name, &options) != QC_OK);
    teardown(&f);
}

/* The words of the option `arith` are the rows of the table of dialects. */
static void test_arith_words(void)
{
    char words[256] = "";
    for (size_t i = 0; qc_arith_at(i); i++) {
        strcat(words, i ? "|" : "");
        strcat(words, qc_arith_at(i)->name);
    }
    CHECK_STR(QC_ARITH_WORDS, words);
    CHECK_STR(qc_scheme_preset_find("fp8_dynamic")->name, "FP8_DYNAMIC");
    CHECK(qc_scheme_preset_find("FP7") == NULL);
    CHECK_STR(qc_scheme_preset_at(0)->name, "FP8_DYNAMIC");
}

/* Each preset has a name of its own and the parts that its row writes, complete. */
static void test_presets(void)
{
    fixture f;
    seen s;
    const qc_scheme_preset *preset;
    setup(&f, &s);
    for (size_t i = 0; (preset = qc_scheme_preset_at(i)) != NULL; i++) {
        const qc_attr *weights = qc_scheme_preset_part(f.ctx, preset, "weights"),
                      *input = qc_scheme_preset_part(f.ctx, preset, "input"), *again = NULL;
        CHECK(qc_scheme_preset_find(preset->name) == preset);
        CHECK(preset->summary[0] != '\0');
        CHECK((weights != NULL) == (preset->weights[0] != '\0'));
        CHECK((input != NULL) == (preset->input[0] != '\0'));
        if (weights) {
            CHECK_STR(qc_attr_as_text(qc_attr_find(weights, "observer")), "memoryless_minmax");
            CHECK(qc_scheme_part_complete(f.ctx, "again", "weights", weights, &again) == QC_OK);
            CHECK(again && qc_attr_equal(again, weights));
        }
    }
    CHECK(strstr(qc_scheme_preset_words, "|W4A16_ASYM|") != NULL);
    CHECK_INT(f.log.count, 0);
    teardown(&f);
}

static void test_texts(void)
{
    fixture f;
    seen s;
    qc_str out;
    setup(&f, &s);
    qc_str_init(&out, &f.arena);
    qc_registry_list(f.registry, &out);
    CHECK(strstr(out.data,
              "quant-fp8-attn         lossy         Quantize q, k and v of attention to FP8\n") != NULL);
    CHECK(strstr(out.data, "look                   stage         looks at its options\n") != NULL);
    qc_str_clear(&out);
    CHECK(qc_registry_help(f.registry, "--help-pass", "look", &out) == QC_OK);
    CHECK(strstr(out.data, "  word=red|green|blue (red)  a word\n") != NULL);
    CHECK(strstr(out.data, "  text=string (\"\")  a string\n") != NULL);
    CHECK(qc_registry_help(f.registry, "--help-pass", "nothing", &out) == QC_ERROR);
    CHECK_STR(f.log.last, "--help-pass: unknown pass 'nothing'");
    qc_str_fini(&out);
    teardown(&f);
}

int main(void)
{
    RUN(test_defaults);
    RUN(test_values);
    RUN(test_canonical);
    RUN(test_refused);
    RUN(test_registration_refused);
    RUN(test_spec);
    RUN(test_arith_words);
    RUN(test_presets);
    RUN(test_texts);
    return check_done();
}
