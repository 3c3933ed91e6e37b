/* SPDX-License-Identifier: MIT
 *
 * test_chat_template.c - chat templates: what they render, against what Transformers rendered (tests/data/chat), and what
 * is said of bad ones.
 */
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "frontends/text/chat.h"
#include "ir/support/io.h"
#include "messages.h"

/* The clock of the goldens: 26 July 2024, a Friday, 13:05. */
static const struct tm clock_of_goldens = {
    .tm_year = 124, .tm_mon = 6, .tm_mday = 26, .tm_hour = 13, .tm_min = 5, .tm_wday = 5, .tm_yday = 207};

typedef struct fixture {
    messages said;
    qc_arena arena;
    qc_diag diag;
    qc_str out;
} fixture;

static void fixture_init(fixture *f)
{
    memset(f, 0, sizeof *f);
    qc_arena_init(&f->arena, NULL);
    qc_diag_init(&f->diag, &f->arena, keep_message, &f->said);
    qc_str_init(&f->out, &f->arena);
}

static void fixture_fini(fixture *f)
{
    qc_str_fini(&f->out);
    qc_arena_fini(&f->arena);
}

static const char *data_path(fixture *f, const char *name)
{
    const char *root = getenv("QC_SOURCE_ROOT");
    return qc_arena_printf(&f->arena, "%s/tests/data/chat/%s", root ? root : ".", name);
}

static char *data_text(fixture *f, const char *name, size_t *length)
{
    char *text = NULL;
    CHECK(qc_read_file(&f->diag, &f->arena, data_path(f, name), 1 << 24, &text, length) == QC_OK);
    return text;
}

static const qc_json *data_json(fixture *f, const char *name)
{
    size_t length = 0;
    const char *text = data_text(f, name, &length);
    const qc_json *json = text ? qc_json_parse(&f->diag, &f->arena, name, text, length) : NULL;
    CHECK(json != NULL);
    return json;
}

/* Renders into f->out, with the tokens of the goldens; false after an error. */
static bool render(
    fixture *f, const char *text, size_t length, const qc_json *talk, const qc_json *tools, bool prompt)
{
    qc_chat_template *template;
    qc_str_clear(&f->out);
    if (qc_chat_template_parse(&f->diag, &f->arena, "template", text, length, &template))
        return false;
    qc_chat_template_set_token(template, "bos_token", "<s>", 3);
    qc_chat_template_set_token(template, "eos_token", "</s>", 4);
    const qc_chat_options options = {.add_generation_prompt = prompt,
        .tools = tools && tools->kind == QC_JSON_ARRAY ? tools : NULL,
        .now = &clock_of_goldens};
    return qc_chat_template_render(template, &f->diag, NULL, talk, &options, &f->out) == QC_OK;
}

/* ---- against Transformers ------------------------------------------------------------------------------ */

static void check_text(
    fixture *f, const char *name, size_t number, bool rendered, const qc_json *sha, const qc_json *full)
{
    char hex[65] = "";
    qc_sha256 h;
    qc_sha256_init(&h);
    qc_sha256_add(&h, f->out.data, f->out.length);
    qc_sha256_hex(&h, hex);
    if (full && rendered)
        CHECK_STR(f->out.data, full->text);
    if (sha->kind == QC_JSON_NULL ? rendered : !rendered || strcmp(hex, sha->text) != 0)
        CHECK_FAIL("%s, conversation %zu: %s", name, number, rendered ? f->out.data : f->said.last);
    if (!rendered) {
        CHECK_INT(f->said.count, 1);
        CHECK(strchr(f->said.last, '\n') == NULL);
    }
}

static void test_templates(void)
{
    fixture all;
    fixture_init(&all);
    const qc_json *talks = data_json(&all, "conversations.json"), *goldens = data_json(&all, "goldens.json");
    size_t templates = 0, texts = 0;
    for (const qc_json *g = goldens ? goldens->first : NULL; g && talks; g = g->next, templates++) {
        size_t length = 0, number = 0;
        const char *text = data_text(&all, qc_arena_printf(&all.arena, "templates/%s", g->key), &length);
        const qc_json *sha = qc_json_get(g, "sha256")->first, *full = qc_json_get(g, "texts");
        for (const qc_json *t = talks->first; t && sha && text; t = t->next, sha = sha->next, number++) {
            fixture f;
            char key[24];
            fixture_init(&f);
            snprintf(key, sizeof key, "%zu", number);
            bool rendered = render(&f, text, length, qc_json_get(t, "messages"), qc_json_get(t, "tools"),
                qc_json_get(t, "add_generation_prompt")->boolean);
            check_text(&f, g->key, number, rendered, sha, qc_json_get(full, key));
            texts += rendered;
            fixture_fini(&f);
        }
        CHECK(sha == NULL && number == talks->length);
    }
    CHECK_INT(templates, 23);
    CHECK(texts > 800);
    fixture_fini(&all);
}

static void test_constructs(void)
{
    fixture all;
    fixture_init(&all);
    size_t length = 0, number = 1, errors = 0;
    const char *line = data_text(&all, "constructs.txt", &length);
    const qc_json *golden = data_json(&all, "constructs.json");
    const qc_json *want = golden ? qc_json_get(golden, "texts")->first : NULL;
    for (; want && line; want = want->next, number++) {
        const char *end = strchr(line, '\n');
        fixture f;
        fixture_init(&f);
        bool rendered = render(&f, line, (size_t)(end - line), qc_json_get(golden, "messages"),
            qc_json_get(golden, "tools"), true);
        if (rendered != (want->kind == QC_JSON_STRING))
            CHECK_FAIL("constructs.txt:%zu: %s", number, rendered ? "is rendered" : f.said.last);
        else if (rendered &&
                 (f.out.length != want->length || memcmp(f.out.data, want->text, want->length) != 0))
            CHECK_FAIL("constructs.txt:%zu: '%s', not '%s'", number, f.out.data, want->text);
        errors += !rendered;
        fixture_fini(&f);
        line = end + 1;
    }
    CHECK(number > 190 && errors > 80);
    CHECK(line && *line == 0);
    fixture_fini(&all);
}

/* ---- what is said -------------------------------------------------------------------------------------- */

static void test_messages_of_errors(void)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"a\n{{ x.y }}", "template:2: 'x' is undefined"},
        {"{{ messages[0].nope.x }}", "template:1: a dict has no 'nope'"},
        {"\n\n{{ raise_exception('bad\nthing') }}",
            "template:3: the template refuses the conversation: bad thing"},
        {"{% if true %}\n\n", "template:1: the 'if' does not end"},
        {"{% for x in y %}{% endif %}", "template:1: a 'endif' closes nothing here"},
        {"{% include 'x' %}", "template:1: the block 'include' is not supported"},
        {"{% call x() %}{% endcall %}", "template:1: the block 'call' is not supported"},
        {"{% do x %}", "template:1: there is no block 'do'"},
        {"{{ x|groupby('a') }}", "template:1: the filter 'groupby' is not supported"},
        {"{{ x|nope }}", "template:1: there is no filter 'nope'"},
        {"{{ x is filter }}", "template:1: the test 'filter' is not supported"},
        {"{{ x is nope }}", "template:1: there is no test 'nope'"},
        {"{{ 'a'.zfill(3) }}", "template:1: 'zfill' of a str is not supported"},
        {"{{ 'a'.nope() }}", "template:1: a str has no 'nope'"},
        {"{{ [1].append(2) }}", "template:1: 'append' of a list would change it, which templates may not"},
        {"{{ {}.update({}) }}", "template:1: 'update' of a dict would change it"},
        {"{{ cycler(1) }}", "template:1: the function 'cycler' is not supported"},
        {"{% for x in y recursive %}{% endfor %}", "template:1: a recursive 'for' is not supported"},
        {"{% macro m() %}{{ caller() }}{% endmacro %}", "template:1: 'caller' in a macro is not supported"},
        {"{{ 1 + 'a' }}", "template:1: '+' has no meaning between a int and a str"},
        {"{{ 9223372036854775807 + 1 }}", "template:1: an integer of more than 64 bits"},
        {"{{ 99999999999999999999 }}", "template:1: an integer of more than 64 bits"},
        {"{{ x[1, 2] }}", "template:1: a subscript of several values"},
        {"{{ 'a'.__class__ }}", "template:1: the attribute '__class__' is not supported"},
        {"{{ (1 if false) + 1 }}", "template:1: a value that an 'if' without 'else' left undefined"},
        {"{{ {}.items() | tojson }}", "template:1: a dict_items cannot be written as JSON"},
        {"{{ [1] | select }}", "template:1: printing a generator"},
        {"{{ 'a", "template:1: a string does not end"},
        {"{# a", "template:1: the comment does not end"},
        {"{{ \n a", "template:2: the print statement does not end"},
        {"{% raw %}", "template:1: the raw block does not end"},
        {"{{ a $ b }}", "template:1: the character '$' has no meaning here"},
        {"{{ (1] }}", "template:1: a ']' closes nothing"},
        {"{{ a b }}", "template:1: '}}' is expected, not 'b'"},
        {"{% set x = 1 y %}", "template:1: '%}' is expected, not 'y'"},
        {"{% break %}", "template:1: 'break' outside of a loop"},
        {"{% for x in y %}{% macro m() %}{% continue %}{% endmacro %}{% endfor %}",
            "'continue' outside of a loop"},
        {"{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}", "the macro 'm' takes at most 1 arguments, not 2"},
        {"{% macro m(a) %}{% endmacro %}{{ m(b=2) }}", "the macro 'm' cannot take the argument 'b'"},
        {"{{ 'a' | join('-', 'b', 'c') }}", "join takes at most 2 arguments, not 3"},
        {"{{ 'a' | trim(nope=1) }}", "trim has no argument 'nope'"},
        {"{{ 'a' | replace('b') }}", "replace takes at least 2 arguments"},
        {"{{ '\\ud800' }}", "half a character"},
        {"{{ 'a\xff' }}", "template: the chat template is not valid UTF-8 at byte 5"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fixture f;
        fixture_init(&f);
        const char *json = "[{\"role\": \"user\", \"content\": \"x\"}]";
        const qc_json *talk = qc_json_parse(&f.diag, &f.arena, "json", json, strlen(json));
        CHECK(!render(&f, cases[i].text, strlen(cases[i].text), talk, NULL, false));
        CHECK_INT(f.diag.error_count, 1);
        CHECK(said(&f.said, cases[i].message));
        fixture_fini(&f);
    }
}

/* Templates that would go on for ever, or eat all memory. */
static void test_hostile_templates(void)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "nested deeper than"},
        {"{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "more steps than"},
        {"{% for a in range(99999) %}{{ 'x' * 9999 }}{% endfor %}", "more steps than"},
        {"{{ 'x' * 99999999999 }}", "a text is longer than 64 MiB"},
        {"{{ [1] * 99999999999 }}", "a list is repeated too often"},
        {"{% set n = namespace(x='aaaaaaaa') %}{% for i in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}",
            "MiB"},
        {"{% set n = namespace(x='a') %}{% for i in range(99999) %}{% set n.x = n.x ~ "
         "'abcdefghijklmnopqrstuvwxyz' %}{% endfor %}",
            "MiB of memory"},
        {"{% set n = namespace() %}{% set n.n = n %}{{ n }}", "nested too deep"},
        {"{% set n = namespace(x=[]) %}{% for i in range(999) %}{% set n.x = [n.x] %}{% endfor %}{{ n.x | "
         "tojson }}",
            "nested too deep"},
        {"{% set n = namespace(x=[], y=[]) %}{% for i in range(999) %}{% set n.x = [n.x] %}{% set n.y = "
         "[n.y] %}{% endfor %}{{ n.x == n.y }}",
            "nested too deep"},
        {"{{ range(100001) }}", "more than 100000 items"},
        {"{{ 2 ** 99999999 }}", "64 bits"},
        {"{{ 'a' | indent(99999999) }}", "too large"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fixture f;
        qc_chat_template *template;
        fixture_init(&f);
        const qc_chat_options options = {.max_steps = 3000000, .max_memory_bytes = 64 << 20};
        const qc_json *none = qc_json_parse(&f.diag, &f.arena, "json", "[]", 2);
        CHECK(qc_chat_template_parse(
                  &f.diag, &f.arena, "t", cases[i].text, strlen(cases[i].text), &template) == QC_OK);
        CHECK(qc_chat_template_render(template, &f.diag, "data.jsonl:7", none, &options, &f.out) == QC_ERROR);
        CHECK_INT(f.diag.error_count, 1);
        CHECK_INT(f.out.length, 0);
        CHECK(said(&f.said, cases[i].message) && said(&f.said, "data.jsonl:7: t:1: "));
        fixture_fini(&f);
    }
    fixture f; /* brackets and blocks in each other */
    fixture_init(&f);
    qc_str deep;
    qc_str_init(&deep, &f.arena);
    for (int kind = 0; kind < 3; kind++) {
        qc_str_clear(&deep);
        qc_str_add(&deep, kind == 2 ? "" : "{{ ");
        for (int i = 0; i < 5000; i++)
            qc_str_add(&deep, kind == 0 ? "(" : kind == 1 ? "not " : "{% if x %}");
        qc_str_add(&deep, kind == 1 ? "x }}" : "");
        CHECK(!render(&f, deep.data, deep.length, NULL, NULL, false));
        CHECK(said(&f.said, "deep"));
    }
    qc_str_fini(&deep);
    fixture_fini(&f);
}

/* ---- model directories --------------------------------------------------------------------------------- */

typedef struct file {
    const char *name, *text;
} file;

/* A directory with these files; f->out is what its template makes of one message, or f->said what went wrong. */
static void load(fixture *f, const file *files, size_t count, bool *found)
{
    char directory[128];
    snprintf(directory, sizeof directory, "%s/qc-chat-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    const char *json = "[{\"role\": \"user\", \"content\": \"hi\"}]";
    const qc_json *talk = qc_json_parse(&f->diag, &f->arena, "json", json, strlen(json));
    const qc_chat_template *template;
    CHECK(mkdtemp(directory) != NULL);
    for (size_t i = 0; i < count; i++)
        CHECK(qc_write_file(&f->diag, qc_path_join(&f->arena, directory, files[i].name), files[i].text,
                  strlen(files[i].text)) == QC_OK);
    *found = qc_chat_template_load(&f->diag, &f->arena, directory, &template) == QC_OK && template;
    if (*found)
        qc_chat_template_render(template, &f->diag, NULL, talk, NULL, &f->out);
    CHECK(qc_remove_tree(&f->diag, directory) == QC_OK);
}

static void test_model_directories(void)
{
    static const struct {
        file files[3];
        const char *text; /* NULL: no template; else what is rendered, or "!" and what is said */
    } cases[] = {
        {{{0}}, NULL},
        {{{"tokenizer_config.json", "{\"bos_token\": \"B\"}"}}, NULL},
        {{{"tokenizer_config.json", "{\"chat_template\": null}"}}, NULL},
        {{{"tokenizer_config.json", "{\"chat_template\": \"{{ bos_token }}{{ messages[0].content }}{{ "
                                    "pad_token is defined }}\", \"bos_token\": \"B\"}"}},
            "BhiFalse"},
        {{{"tokenizer_config.json",
              "{\"chat_template\": \"config\", \"bos_token\": {\"content\": \"<b>\"}, \"pad_token\": null}"},
             {"chat_template.jinja", "{{ bos_token }}jinja{{ pad_token }}\n"}},
            "<b>jinja"},
        {{{"chat_template.json", "{\"chat_template\": \"from json\"}"}}, "from json"},
        {{{"chat_template.json", "{\"chat_template\": \"x\"}"},
             {"tokenizer_config.json", "{\"chat_template\": \"config\"}"}},
            "config"},
        {{{"tokenizer_config.json", "{\"chat_template\": [{\"name\": \"rag\", \"template\": \"r\"}, "
                                    "{\"name\": \"default\", \"template\": \"d\"}]}"}},
            "d"},
        {{{"tokenizer_config.json", "{\"chat_template\": [{\"name\": \"rag\", \"template\": \"r\"}]}"}},
            "!none is named \"default\""},
        {{{"tokenizer_config.json", "{\"chat_template\": 3}"}},
            "!tokenizer_config.json: chat_template must be a text or a list"},
        {{{"tokenizer_config.json", "{\"chat_template\": \"a\\n{{ }}\"}"}},
            "!tokenizer_config.json: chat_template:2: an expression is expected"},
        {{{"chat_template.jinja", "{% foo %}"}}, "!chat_template.jinja:1: there is no block 'foo'"},
        {{{"tokenizer_config.json", "{"}}, "!tokenizer_config.json:1:"},
        {{{"tokenizer_config.json",
              "{\"chat_template\": \"{{ bos_token }}{{ eos_token }}\", \"bos_token\": \"B\"}"},
             {"special_tokens_map.json", "{\"bos_token\": \"M\", \"eos_token\": {\"content\": \"E\"}}"}},
            "ME"},
        {{{"tokenizer_config.json", "{\"chat_template\": \"{{ bos_token }}{{ eos_token }}\", \"bos_token\": "
                                    "\"B\", \"added_tokens_decoder\": {}}"},
             {"special_tokens_map.json", "{\"bos_token\": \"M\", \"eos_token\": \"E\"}"}},
            "B"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fixture f;
        bool found;
        size_t count = 0;
        fixture_init(&f);
        while (count < 3 && cases[i].files[count].name)
            count++;
        load(&f, cases[i].files, count, &found);
        const char *text = cases[i].text;
        if (text && *text == '!') {
            CHECK(!found && f.said.count == 1 && said(&f.said, text + 1));
        } else {
            CHECK_INT(f.said.count, 0);
            CHECK(found == (text != NULL));
            CHECK_STR(f.out.data, text ? text : "");
        }
        fixture_fini(&f);
    }
}

static void test_numbers_of_the_data(void)
{
    fixture f;
    fixture_init(&f);
    const char *json =
        "[{\"big\": 123456789012345678901234567890, \"float\": 1E5, \"zero\": -0, \"small\": 1e-7}]";
    const char *text =
        "{{ messages[0].big }} {{ messages | tojson }} {{ messages[0].big == messages[0].big }}";
    const qc_json *talk = qc_json_parse(&f.diag, &f.arena, "json", json, strlen(json));
    CHECK(render(&f, text, strlen(text), talk, NULL, false));
    CHECK_STR(f.out.data,
        "123456789012345678901234567890 [{\"big\": 123456789012345678901234567890, \"float\": 100000.0, "
        "\"zero\": 0, \"small\": 1e-07}] True");
    text = "{{ messages[0].big + 1 }}";
    CHECK(!render(&f, text, strlen(text), talk, NULL, false));
    CHECK(said(&f.said, "an integer of more than 64 bits"));
    fixture_fini(&f);
}

int main(void)
{
    RUN(test_templates);
    RUN(test_constructs);
    RUN(test_messages_of_errors);
    RUN(test_hostile_templates);
    RUN(test_model_directories);
    RUN(test_numbers_of_the_data);
    return check_done();
}
