/* SPDX-License-Identifier: MIT
 *
 * test_json.c - the reader's checks, typed access, building, and the writer against Python's json.dumps.
 */
#include "tests/unit/check.h"

#include "ir/support/io.h"
#include "ir/support/json.h"
#include "tests/unit/messages.h"

typedef struct fixture {
    qc_arena arena;
    qc_diag diag;
    messages m;
} fixture;

static void begin(fixture *f)
{
    memset(f, 0, sizeof *f);
    qc_arena_init(&f->arena, NULL);
    qc_diag_init(&f->diag, &f->arena, keep_message, &f->m);
}

static void end(fixture *f)
{
    qc_arena_fini(&f->arena);
}

static qc_json *parse(fixture *f, const char *text)
{
    return qc_json_parse(&f->diag, &f->arena, "t.json", text, strlen(text));
}

static const char *write(fixture *f, const qc_json *value, int indent, bool sort_keys)
{
    qc_str out;
    qc_str_init(&out, &f->arena);
    qc_json_write(&out, value, indent, sort_keys);
    char *text = qc_arena_strndup(&f->arena, out.data, out.length);
    qc_str_fini(&out);
    return text;
}

static void test_values(void)
{
    fixture f;
    begin(&f);
    const qc_json *v =
        parse(&f, " {\"a\": [1, -2.5, true,\nnull, \"x\"], \"b\": {\"c\": {}}, \"\": []}\r\n\t");
    CHECK(v && v->kind == QC_JSON_OBJECT && v->length == 3 && v->line == 1);
    const qc_json *a = qc_json_get(v, "a");
    CHECK(a && a->kind == QC_JSON_ARRAY && a->length == 5);
    CHECK(qc_json_at(a, 0)->is_integer && qc_json_at(a, 0)->integer == 1);
    CHECK(!qc_json_at(a, 1)->is_integer && qc_json_at(a, 1)->number == -2.5);
    CHECK_STR(qc_json_at(a, 1)->text, "-2.5");
    CHECK(qc_json_at(a, 2)->kind == QC_JSON_BOOL && qc_json_at(a, 2)->boolean);
    CHECK(qc_json_at(a, 3)->kind == QC_JSON_NULL && qc_json_at(a, 3)->line == 2);
    CHECK_STR(qc_json_at(a, 4)->text, "x");
    CHECK(qc_json_at(a, 5) == NULL);
    CHECK(qc_json_get(qc_json_get(v, "b"), "c")->kind == QC_JSON_OBJECT);
    CHECK(qc_json_get(v, "z") == NULL && qc_json_get(a, "z") == NULL && qc_json_get(NULL, "z") == NULL);
    CHECK_STR(v->first->key, "a");
    CHECK_STR(v->first->next->key, "b");
    CHECK_STR(v->first->next->next->key, "");
    CHECK(parse(&f, "0")->integer == 0 && parse(&f, "\"\"")->length == 0);
    const qc_json *nul = parse(&f, "\"a\\u0000b\"");
    CHECK(nul && nul->length == 3 && memcmp(nul->text, "a\0b", 4) == 0);
    CHECK_STR(
        parse(&f, "\"\\ud83d\\ude00\\u00e9\\u4e2d\\/\\b\"")->text, "\xf0\x9f\x98\x80\xc3\xa9\xe4\xb8\xad/\b");
    CHECK_INT(f.m.count, 0);
    end(&f);
}

static void test_integers(void)
{
    fixture f;
    begin(&f);
    CHECK(parse(&f, "9223372036854775807")->integer == INT64_MAX);
    CHECK(parse(&f, "-9223372036854775808")->integer == INT64_MIN);
    const qc_json *large = parse(&f, "9223372036854775808");
    CHECK(large && !large->is_integer && large->number == 9223372036854775808.0);
    CHECK(!parse(&f, "-9223372036854775809")->is_integer);
    CHECK(!parse(&f, "1.0")->is_integer && !parse(&f, "1e2")->is_integer);
    CHECK(parse(&f, "9007199254740993")->integer == 9007199254740993);
    const qc_json *zero = parse(&f, "-0");
    CHECK(zero && zero->is_integer && zero->integer == 0 && signbit(zero->number));
    end(&f);
}

static void test_malformed(void)
{
    static const struct {
        const char *text, *message;
    } rows[] = {
        {"", "t.json:1:1: text ends where a value is expected"},
        {"  \n ", "t.json:2:2: text ends where a value is expected"},
        {"{\"a\": 1,\n  \"a\": 2}", "t.json:2:3: name \"a\" occurs twice in one object"},
        {"{\"\\u0061\": 1, \"a\": 2}", "t.json:1:15: name \"a\" occurs twice"},
        {"[1, 2", "t.json:1:6: expected ',' or ']'"},
        {"[1 2]", "t.json:1:4: expected ',' or ']'"},
        {"[1,]", "t.json:1:4: expected a value"},
        {"[,1]", "t.json:1:2: expected a value"},
        {"{\"a\" 1}", "t.json:1:6: expected ':' after the name"},
        {"{\"a\": 1,}", "t.json:1:9: expected a name in double quotes"},
        {"{a: 1}", "t.json:1:2: expected a name in double quotes"},
        {"{\"a\": 1", "t.json:1:8: expected ',' or '}'"},
        {"{\"a\":", "t.json:1:6: text ends where a value is expected"},
        {"{\"a\"", "t.json:1:5: expected ':' after the name"},
        {"{", "t.json:1:2: expected a name in double quotes"},
        {"[", "t.json:1:2: text ends where a value is expected"},
        {"1 2", "t.json:1:3: text goes on after the value"},
        {"01", "t.json:1:1: number must not begin with 0"},
        {"-", "t.json:1:1: number has no digits"},
        {"+1", "t.json:1:1: expected a value"},
        {".5", "t.json:1:1: expected a value"},
        {"1.", "t.json:1:1: number has no digits after the point"},
        {"1.e5", "t.json:1:1: number has no digits after the point"},
        {"1e", "t.json:1:1: number has no digits in its exponent"},
        {"1e+", "t.json:1:1: number has no digits in its exponent"},
        {"1e400", "t.json:1:1: number is too large"},
        {"-1e400", "t.json:1:1: number is too large"},
        {"NaN", "t.json:1:1: expected a value"},
        {"Infinity", "t.json:1:1: expected a value"},
        {"nul", "t.json:1:1: expected a value"},
        {"truE", "t.json:1:1: expected a value"},
        {"nulls", "t.json:1:5: text goes on after the value"},
        {"'a'", "t.json:1:1: expected a value"},
        {"\"abc", "t.json:1:1: string does not end"},
        {"\"abc\\", "t.json:1:5: string does not end"},
        {"\"a\nb\"", "t.json:1:3: control character in string"},
        {"\"a\\x\"", "t.json:1:3: unknown escape in string"},
        {"\"\\u12g4\"", "t.json:1:2: \\u must be followed by four hex digits"},
        {"\"\\u12", "t.json:1:2: \\u must be followed by four hex digits"},
        {"\"\\ud800\"", "t.json:1:2: lone surrogate in string"},
        {"\"\\ude00\"", "t.json:1:2: lone surrogate in string"},
        {"\"\\ud800\\u0041\"", "t.json:1:2: lone surrogate in string"},
        {"\"\\ud800\\n\"", "t.json:1:2: lone surrogate in string"},
        {"\"\xff\"", "t.json:1:2: string is not valid UTF-8"},
        {"\"\xc0\x80\"", "t.json:1:2: string is not valid UTF-8"},
        {"\"\xed\xa0\x80\"", "t.json:1:2: string is not valid UTF-8"},
        {"\"\xf4\x90\x80\x80\"", "t.json:1:2: string is not valid UTF-8"},
        {"\"\xe4\xb8\"", "t.json:1:2: string is not valid UTF-8"},
        {"\xef\xbb\xbf{}", "t.json:1:1: expected a value"},
        {"// c\n1", "t.json:1:1: expected a value"},
    };
    fixture f;
    begin(&f);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        CHECK(parse(&f, rows[i].text) == NULL);
        CHECK(said(&f.m, rows[i].message));
        CHECK_INT(f.m.count, i + 1); /* one line for one mistake */
    }
    CHECK(qc_json_parse(&f.diag, &f.arena, "t.json", "[1]\0", 4) == NULL);
    CHECK(said(&f.m, "t.json:1:4: text goes on after the value"));
    CHECK(qc_json_parse(&f.diag, &f.arena, "t.json", "\"\xc3", 2) == NULL); /* cut within a character */
    CHECK(said(&f.m, "not valid UTF-8"));
    end(&f);
}

static void test_depth(void)
{
    fixture f;
    begin(&f);
    char text[600];
    memset(text, '[', 256);
    memset(text + 256, ']', 256);
    CHECK(qc_json_parse(&f.diag, &f.arena, "t.json", text, 512) != NULL);
    memset(text, '[', 257);
    memset(text + 257, ']', 257);
    CHECK(qc_json_parse(&f.diag, &f.arena, "t.json", text, 514) == NULL);
    CHECK(said(&f.m, "t.json:1:257: values are nested deeper than 256"));
    end(&f);
}

static void test_typed_access(void)
{
    fixture f;
    begin(&f);
    const qc_json *v = parse(&f, "{\"i\": 5, \"d\": 0.5, \"b\": true, \"s\": \"x\", \"n\": null, \"big\": "
                                 "1e30, \"nul\": \"a\\u0000\"}");
    int64_t i = 1;
    double d = 1;
    bool b = false;
    const char *s = "default";
    CHECK_INT(qc_json_int(&f.diag, "c", v, "i", true, &i), QC_OK);
    CHECK_INT(i, 5);
    CHECK_INT(qc_json_double(&f.diag, "c", v, "d", true, &d), QC_OK);
    CHECK(d == 0.5);
    CHECK_INT(qc_json_double(&f.diag, "c", v, "i", true, &d), QC_OK);
    CHECK(d == 5.0);
    CHECK_INT(qc_json_bool(&f.diag, "c", v, "b", true, &b), QC_OK);
    CHECK(b);
    CHECK_INT(qc_json_string(&f.diag, "c", v, "s", true, &s), QC_OK);
    CHECK_STR(s, "x");
    CHECK_INT(qc_json_int(&f.diag, "c", v, "absent", false, &i), QC_OK);
    CHECK_INT(qc_json_int(&f.diag, "c", v, "n", false, &i), QC_OK);
    CHECK_INT(i, 5);
    CHECK_INT(f.m.count, 0);
    CHECK_INT(qc_json_int(&f.diag, "c", v, "absent", true, &i), QC_ERROR);
    CHECK(said(&f.m, "c: absent is missing"));
    CHECK_INT(qc_json_string(&f.diag, "c", v, "n", true, &s), QC_ERROR);
    CHECK(said(&f.m, "c: n is missing"));
    CHECK_INT(qc_json_int(&f.diag, "c", v, "d", false, &i), QC_ERROR);
    CHECK(said(&f.m, "c: d must be an integer"));
    CHECK_INT(qc_json_int(&f.diag, "c", v, "big", false, &i), QC_ERROR);
    CHECK(said(&f.m, "c: big must be an integer"));
    CHECK_INT(qc_json_double(&f.diag, "c", v, "s", false, &d), QC_ERROR);
    CHECK(said(&f.m, "c: s must be a number"));
    CHECK_INT(qc_json_bool(&f.diag, "c", v, "i", false, &b), QC_ERROR);
    CHECK(said(&f.m, "c: i must be true or false"));
    CHECK_INT(qc_json_string(&f.diag, "c", v, "i", false, &s), QC_ERROR);
    CHECK(said(&f.m, "c: i must be a string"));
    CHECK_INT(qc_json_string(&f.diag, "c", v, "nul", false, &s), QC_ERROR);
    CHECK(said(&f.m, "c: nul must be a string without NUL"));
    end(&f);
}

static void test_building(void)
{
    fixture f;
    begin(&f);
    qc_arena *a = &f.arena;
    qc_json *o = qc_json_new(a, QC_JSON_OBJECT), *list = qc_json_new(a, QC_JSON_ARRAY);
    CHECK_STR(write(&f, o, 2, true), "{}");
    CHECK_STR(write(&f, list, 2, true), "[]");
    qc_json_set(a, o, "z", qc_json_new_int(a, -7));
    qc_json_set(a, o, "list", list);
    qc_json_set(a, o, "a", qc_json_new_double(a, 1e-6));
    qc_json_push(a, list, qc_json_new_bool(a, true));
    qc_json_push(a, list, qc_json_new(a, QC_JSON_NULL));
    qc_json_push(a, list, qc_json_new_string(a, "\xc3\xa9\n"));
    CHECK_STR(write(&f, o, -1, false), "{\"z\": -7, \"list\": [true, null, \"\\u00e9\\n\"], \"a\": 1e-06}");
    CHECK_STR(write(&f, o, -1, true), "{\"a\": 1e-06, \"list\": [true, null, \"\\u00e9\\n\"], \"z\": -7}");
    CHECK_STR(write(&f, o, 1, true),
        "{\n \"a\": 1e-06,\n \"list\": [\n  true,\n  null,\n  \"\\u00e9\\n\"\n ],\n \"z\": -7\n}");
    qc_json_set(a, o, "z", qc_json_new_string(a, "first"));
    qc_json_set(a, o, "a", qc_json_new_string(a, "last"));
    qc_json_set(a, o, "list", qc_json_new(a, QC_JSON_ARRAY));
    qc_json_set(a, o, "more", qc_json_new_double(a, 2.0));
    CHECK_STR(write(&f, o, -1, false), "{\"z\": \"first\", \"list\": [], \"a\": \"last\", \"more\": 2.0}");
    CHECK_INT(o->length, 4);
    CHECK_STR(qc_json_get(o, "a")->text, "last");
    CHECK_STR(write(&f, qc_json_new_double(a, INFINITY), 2, true), "null");
    CHECK_STR(write(&f, qc_json_new(a, QC_JSON_NUMBER), 2, true), "0");
    CHECK_STR(write(&f, qc_json_new_string(a, "\xff\xc3"), 2, true), "\"\\ufffd\\ufffd\"");
    qc_json *parsed = parse(&f, "{\"x\": 1}"); /* parsed objects grow like built ones */
    qc_json_set(a, parsed, "y", qc_json_new_int(a, 2));
    qc_json_set(a, parsed, "x", qc_json_new_int(a, 3));
    CHECK_STR(write(&f, parsed, -1, false), "{\"x\": 3, \"y\": 2}");
    CHECK_INT(qc_json_new_int(a, INT64_MIN)->integer, INT64_MIN);
    CHECK_STR(qc_json_new_int(a, INT64_MIN)->text, "-9223372036854775808");
    end(&f);
}

static bool load(fixture *f, const char *path, char **data, size_t *length)
{
    return qc_read_file(&f->diag, &f->arena, path, 1 << 26, data, length) == QC_OK;
}

static const char *source_path(fixture *f, const char *name)
{
    const char *root = getenv("QC_SOURCE_ROOT");
    return qc_path_join(&f->arena, root ? root : ".", name);
}

static void test_python_dialect(void)
{
    static const struct {
        const char *name;
        int indent;
        bool sort_keys;
    } rows[] = {{"tests/unit/data/json_cases.sorted.json", 2, true},
        {"tests/unit/data/json_cases.compact.json", -1, false},
        {"tests/unit/data/json_cases.indent0.json", 0, false}};
    fixture f;
    begin(&f);
    char *source, *expected;
    size_t length, expected_length;
    const char *path = source_path(&f, "tests/unit/data/json_cases.json");
    CHECK(load(&f, path, &source, &length));
    const qc_json *value = f.m.count ? NULL : qc_json_parse(&f.diag, &f.arena, path, source, length);
    CHECK(value != NULL);
    for (size_t i = 0; value && i < sizeof rows / sizeof *rows; i++) {
        CHECK(load(&f, source_path(&f, rows[i].name), &expected, &expected_length));
        CHECK_STR(write(&f, value, rows[i].indent, rows[i].sort_keys), expected);
    }
    CHECK_INT(f.m.count, 0);
    end(&f);
}

/* Config files of real models, where they are at hand: written by json.dumps(indent=2, sort_keys=True), so
 * reading and writing must give the same bytes. Others must at least read back as the same values. */
static void check_config(fixture *f, const char *path, bool same_bytes)
{
    char *text;
    size_t length;
    if (!load(f, path, &text, &length))
        return;
    const qc_json *value = qc_json_parse(&f->diag, &f->arena, path, text, length);
    CHECK(value != NULL);
    if (!value)
        return;
    const char *out = write(f, value, 2, true);
    if (same_bytes)
        CHECK_STR(out, text);
    const qc_json *again = parse(f, out);
    CHECK(again != NULL);
    if (again)
        CHECK_STR(write(f, again, 2, true), out);
}

static void test_real_configs(void)
{
    fixture f;
    begin(&f);
    const char *data = getenv("QC_DATA") ? getenv("QC_DATA") : source_path(&f, "../shared/data");
    static const char *const folders[] = {"models", "goldens"};
    int seen = 0;
    for (int k = 0; k < 2; k++) {
        const char *folder = qc_path_join(&f.arena, data, folders[k]);
        char **names;
        size_t count = 0;
        if (!qc_is_directory(folder) || qc_list_directory(&f.diag, &f.arena, folder, &names, &count) != QC_OK)
            continue;
        for (size_t i = 0; i < count; i++) {
            const char *path =
                qc_path_join(&f.arena, qc_path_join(&f.arena, folder, names[i]), "config.json");
            if (!qc_is_file(path))
                continue;
            check_config(&f, path, k == 1);
            seen++;
        }
    }
    CHECK_INT(f.m.count, 0);
    end(&f);
    if (!seen)
        SKIP("no model data (QC_DATA)");
}

/* A vocabulary of 150,000 entries and as many merges: what a tokenizer.json holds. */
static void test_large(void)
{
    fixture f;
    begin(&f);
    qc_str text;
    qc_str_init(&text, &f.arena);
    qc_str_add(&text, "{\"vocab\": {");
    for (int i = 0; i < 150000; i++)
        qc_str_addf(&text, "%s\"\\u0120token%d\": %d", i ? ", " : "", i, i);
    qc_str_add(&text, "}, \"merges\": [");
    for (int i = 0; i < 150000; i++)
        qc_str_addf(&text, "%s[\"a%d\", \"b\"]", i ? ", " : "", i);
    qc_str_add(&text, "]}");
    const qc_json *v = qc_json_parse(&f.diag, &f.arena, "big", text.data, text.length);
    const qc_json *vocab = qc_json_get(v, "vocab");
    CHECK_INT(vocab ? vocab->length : 0, 150000);
    const qc_json *token = qc_json_get(vocab, "\xc4\xa0token77777");
    CHECK_INT(token ? token->integer : 0, 77777);
    CHECK_INT(v ? qc_json_get(v, "merges")->length : 0, 150000);
    qc_str_fini(&text);
    end(&f);
}

int main(void)
{
    RUN(test_values);
    RUN(test_integers);
    RUN(test_malformed);
    RUN(test_depth);
    RUN(test_typed_access);
    RUN(test_building);
    RUN(test_python_dialect);
    RUN(test_real_configs);
    RUN(test_large);
    return check_done();
}
