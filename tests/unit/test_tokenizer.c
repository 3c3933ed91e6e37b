/* SPDX-License-Identifier: MIT
 *
 * test_tokenizer.c - ids and texts against those of the Python package `tokenizers`; what is refused, and how.
 */
#include "frontends/text/tokenizer/tokenizer.h"
#include "ir/support/io.h"
#include "ir/support/json.h"
#include "tests/unit/check.h"

#include <sys/stat.h>
#include <unistd.h>

typedef struct fixture {
    qc_arena arena;
    qc_diag diag;
    char last[1024]; /* the last error */
    char warning[1024];
    qc_tokenizer *tokenizer;
    qc_tokenizer_scratch *scratch;
} fixture;

static void out_of_memory(size_t size_bytes)
{
    printf("Bail out! no %zu bytes of memory\n", size_bytes);
    exit(99);
}

static void keep_message(void *user, qc_severity severity, const char *where, const char *what)
{
    fixture *f = user;
    char *to = severity == QC_SEVERITY_ERROR ? f->last : f->warning;
    snprintf(to, sizeof f->last, "%s: %s", where ? where : "", what);
}

static void start(fixture *f)
{
    memset(f, 0, sizeof *f);
    qc_arena_init(&f->arena, out_of_memory);
    qc_diag_init(&f->diag, &f->arena, keep_message, f);
}

static bool start_with(fixture *f, const char *json)
{
    start(f);
    if (qc_tokenizer_parse(&f->diag, &f->arena, "tokenizer.json", json, strlen(json), &f->tokenizer) != QC_OK)
        return false;
    f->scratch = qc_tokenizer_scratch_create(f->tokenizer, out_of_memory);
    return true;
}

static void stop(fixture *f)
{
    qc_tokenizer_scratch_destroy(f->scratch);
    qc_tokenizer_fini(f->tokenizer);
    qc_arena_fini(&f->arena);
}

static const char *data_path(fixture *f, const char *name)
{
    const char *root = getenv("QC_SOURCE_ROOT");
    return qc_arena_printf(&f->arena, "%s/tests/unit/data/tokenizer/%s", root ? root : ".", name);
}

/* ---- goldens ------------------------------------------------------------------------------------------- */

static bool same_ids(const qc_token_ids *ids, const qc_json *expected)
{
    const qc_json *id = expected->first;
    for (size_t i = 0; i < ids->count; i++, id = id ? id->next : NULL) {
        if (!id || id->integer != ids->items[i])
            return false;
    }
    return !id;
}

static bool same_text(const qc_str *text, const qc_json *expected)
{
    return text->length == expected->length && memcmp(text->data, expected->text, text->length) == 0;
}

static const qc_json *or_before(const qc_json *value, const qc_json *before)
{
    return value && value->kind != QC_JSON_NULL ? value : before;
}

static void check_ids(
    fixture *f, const char *name, size_t row, const qc_json *text, bool special, const qc_json *expected)
{
    qc_token_ids ids = {0};
    qc_status status = qc_tokenizer_encode(
        f->tokenizer, f->scratch, &f->diag, text->text, text->length, special, &f->arena, &ids);
    if (status != QC_OK)
        CHECK_FAIL("%s, row %zu: %s", name, row, f->last);
    else if (!same_ids(&ids, expected))
        CHECK_FAIL("%s, row %zu, special tokens %d: other ids", name, row, special);
}

/* Decoded at once, and as a stream. */
static void check_text(
    fixture *f, const char *name, size_t row, const qc_json *ids, bool skip, const qc_json *expected)
{
    int32_t *items = QC_NEW_ARRAY(&f->arena, int32_t, ids->length + 1);
    size_t count = 0;
    qc_str text;
    for (const qc_json *id = ids->first; id; id = id->next)
        items[count++] = (int32_t)id->integer;
    qc_str_init(&text, &f->arena);
    qc_tokenizer_decode(f->tokenizer, items, count, skip, &text);
    if (!same_text(&text, expected))
        CHECK_FAIL("%s, row %zu, skipping %d: decoded '%s'", name, row, skip, text.data);
    qc_str_clear(&text);
    qc_token_stream stream;
    qc_token_stream_init(&stream, f->tokenizer, skip, &f->arena);
    for (size_t i = 0; i < count; i++)
        qc_token_stream_push(&stream, items[i], &text);
    qc_token_stream_finish(&stream, &text);
    qc_token_stream_fini(&stream);
    if (!same_text(&text, expected))
        CHECK_FAIL("%s, row %zu, skipping %d: streamed '%s'", name, row, skip, text.data);
    qc_str_fini(&text);
}

static void check_goldens(const char *name)
{
    fixture f;
    char *text;
    size_t length, rows = 0;
    start(&f);
    const char *path = data_path(&f, qc_arena_printf(&f.arena, "%s.json", name));
    const char *golden = data_path(&f, qc_arena_printf(&f.arena, "%s.golden.json", name));
    qc_status status = qc_read_file(&f.diag, &f.arena, path, 1 << 24, &text, &length);
    if (status == QC_OK)
        status = qc_tokenizer_parse(&f.diag, &f.arena, path, text, length, &f.tokenizer);
    if (status == QC_OK)
        status = qc_read_file(&f.diag, &f.arena, golden, 1 << 24, &text, &length);
    const qc_json *root = status == QC_OK ? qc_json_parse(&f.diag, &f.arena, golden, text, length) : NULL;
    if (!root) {
        CHECK_FAIL("%s", f.last);
        stop(&f);
        return;
    }
    f.scratch = qc_tokenizer_scratch_create(f.tokenizer, out_of_memory);
    for (const qc_json *row = root->first; row; row = row->next, rows++) {
        const qc_json *source = qc_json_at(row, 0), *ids = qc_json_at(row, 1);
        const qc_json *plain = or_before(qc_json_at(row, 2), ids);
        const qc_json *decoded = or_before(qc_json_at(row, 3), source);
        const qc_json *skipped = or_before(qc_json_at(row, 4), decoded);
        check_ids(&f, name, rows, source, true, ids);
        check_ids(&f, name, rows, source, false, plain);
        check_text(&f, name, rows, ids, false, decoded);
        check_text(&f, name, rows, ids, true, skipped);
    }
    CHECK_INT(rows, 150);
    stop(&f);
}

#define GOLDENS(X)                                                                                           \
    X(bert)                                                                                                  \
    X(clip)                                                                                                  \
    X(deepseek)                                                                                              \
    X(gemma)                                                                                                 \
    X(gpt2)                                                                                                  \
    X(grid_llama)                                                                                            \
    X(llama2)                                                                                                \
    X(llama3)                                                                                                \
    X(metanever)                                                                                             \
    X(metaspace)                                                                                             \
    X(mistral)                                                                                               \
    X(o200k)                                                                                                 \
    X(qwen2)                                                                                                 \
    X(roberta)                                                                                               \
    X(smollm)                                                                                                \
    X(stories260k)                                                                                           \
    X(words)
#define GOLDEN_TEST(name)                                                                                    \
    static void test_goldens_##name(void)                                                                    \
    {                                                                                                        \
        check_goldens(#name);                                                                                \
    }
GOLDENS(GOLDEN_TEST)

/* ---- small tokenizers ---------------------------------------------------------------------------------- */

#define MODEL(extra)                                                                                         \
    "\"model\":{\"type\":\"BPE\"," extra "\"vocab\":{\"a\":0,\"b\":1,\"ab\":2,\" \":3,\"c\":4},"             \
    "\"merges\":[[\"a\",\"b\"]]}"
#define FLAGS "\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false"

static void check_encoding(fixture *f, const char *text, const int32_t *expected, size_t count)
{
    qc_token_ids ids = {0};
    qc_status status =
        qc_tokenizer_encode(f->tokenizer, f->scratch, &f->diag, text, strlen(text), true, &f->arena, &ids);
    CHECK_INT(status, QC_OK);
    CHECK_INT(ids.count, count);
    for (size_t i = 0; i < ids.count && i < count; i++)
        CHECK_INT(ids.items[i], expected[i]);
}
#define CHECK_ENCODING(f, text, ...)                                                                         \
    check_encoding((f), (text), (const int32_t[]){__VA_ARGS__}, sizeof((int32_t[]){__VA_ARGS__}) / 4)

static void test_vocabulary(void)
{
    fixture f;
    size_t length;
    CHECK(start_with(
        &f, "{\"added_tokens\":[{\"id\":9,\"content\":\"<x>\",\"special\":true," FLAGS "}]," MODEL("") "}"));
    /* a new token's id follows from the vocabulary, whatever the file says; a warning tells */
    CHECK_INT(qc_tokenizer_token_to_id(f.tokenizer, "<x>", 3), 5);
    CHECK(strstr(f.warning, "\"<x>\" has id 5, not 9") != NULL);
    CHECK_INT(qc_tokenizer_vocab_size(f.tokenizer), 6);
    CHECK_INT(qc_tokenizer_token_to_id(f.tokenizer, "ab", 2), 2);
    CHECK_INT(qc_tokenizer_token_to_id(f.tokenizer, "ba", 2), -1);
    CHECK_STR(qc_tokenizer_id_to_token(f.tokenizer, 2, &length), "ab");
    CHECK_INT(length, 2);
    CHECK(!qc_tokenizer_id_to_token(f.tokenizer, 6, &length) &&
          !qc_tokenizer_id_to_token(f.tokenizer, -1, &length));
    CHECK(qc_tokenizer_is_special(f.tokenizer, 5) && !qc_tokenizer_is_special(f.tokenizer, 2));
    CHECK(!qc_tokenizer_is_special(f.tokenizer, 1000) && !qc_tokenizer_is_special(f.tokenizer, -1));
    CHECK_INT(qc_tokenizer_bos_id(f.tokenizer), -1);
    CHECK_ENCODING(&f, "ab<x>c a", 2, 5, 4, 3, 0);
    stop(&f);
}

static void test_limits(void)
{
    static const char json[] = "{\"truncation\":{\"direction\":\"Left\",\"max_length\":3,\"strategy\":"
                               "\"LongestFirst\",\"stride\":0},"
                               "\"padding\":{\"strategy\":{\"Fixed\":4},\"direction\":\"Left\",\"pad_to_"
                               "multiple_of\":3,\"pad_id\":4,"
                               "\"pad_type_id\":0,\"pad_token\":\"c\"}," MODEL("") "}";
    fixture f;
    CHECK(start_with(&f, json));
    CHECK_ENCODING(&f, "a a b", 4, 4, 4, 0, 3, 1);
    qc_tokenizer_ignore_limits(f.tokenizer);
    CHECK_ENCODING(&f, "a a b", 0, 3, 0, 3, 1);
    stop(&f);
}

static void test_unknown_characters(void)
{
    fixture f;
    qc_token_ids ids = {0};
    CHECK(start_with(&f, "{" MODEL("") "}"));
    CHECK_ENCODING(&f, "aqb", 2); /* without an unk_token, what is not known is not there */
    stop(&f);
    CHECK(start_with(&f, "{" MODEL("\"unk_token\":\"c\",") "}"));
    CHECK_ENCODING(&f, "aqrb", 0, 4, 4, 1);
    stop(&f);
    CHECK(start_with(&f, "{" MODEL("\"unk_token\":\"c\",\"fuse_unk\":true,") "}"));
    CHECK_ENCODING(&f, "aqrb", 0, 4, 1);
    stop(&f);
    CHECK(start_with(&f, "{" MODEL("\"unk_token\":\"<unk>\",") "}"));
    CHECK_ENCODING(&f, "ab", 2);
    CHECK_INT(qc_tokenizer_encode(f.tokenizer, f.scratch, &f.diag, "q", 1, true, &f.arena, &ids), QC_ERROR);
    CHECK_STR(f.last, "tokenizer.json: unk_token \"<unk>\" is needed, but not in the vocabulary");
    CHECK_ENCODING(&f, "ab", 2); /* and goes on */
    stop(&f);
}

static void test_invalid_text(void)
{
    static const char *const bad[] = {"ab\x80", "ab\xc0\xaf", "ab\xed\xa0\x80", "ab\xf4\x90\x80\x80",
        "ab\xe2\x82", "ab\xff", "ab\xf5\x80\x80\x80", "ab\xe0\x9f\xbf"};
    fixture f;
    CHECK(start_with(&f, "{" MODEL("") "}"));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        qc_token_ids ids = {0};
        f.last[0] = '\0';
        CHECK_INT(qc_tokenizer_encode(
                      f.tokenizer, f.scratch, &f.diag, bad[i], strlen(bad[i]), true, &f.arena, &ids),
            QC_ERROR);
        CHECK_STR(f.last, "tokenizer.json: the text is not valid UTF-8 at byte 2");
    }
    stop(&f);
}

/* Two scratches of one tokenizer do not know of each other. */
static void test_two_scratches(void)
{
    fixture f;
    qc_token_ids first = {0}, second = {0};
    CHECK(start_with(&f, "{" MODEL("") "}"));
    qc_tokenizer_scratch *other = qc_tokenizer_scratch_create(f.tokenizer, out_of_memory);
    for (int i = 0; i < 100; i++) {
        CHECK_INT(qc_tokenizer_encode(f.tokenizer, f.scratch, &f.diag, "ab a", 4, true, &f.arena, &first), 0);
        CHECK_INT(qc_tokenizer_encode(f.tokenizer, other, &f.diag, "ab a", 4, true, &f.arena, &second), 0);
    }
    CHECK_INT(first.count, 300);
    CHECK(first.count == second.count && memcmp(first.items, second.items, first.count * 4) == 0);
    qc_tokenizer_scratch_destroy(other);
    stop(&f);
}

/* One word of two million characters: time must not grow with the square. */
static void test_long_word(void)
{
    enum { LENGTH = 2000000 };
    fixture f;
    qc_token_ids ids = {0};
    CHECK(start_with(&f, "{" MODEL("") "}"));
    char *text = malloc(LENGTH);
    for (size_t i = 0; i < LENGTH; i++)
        text[i] = i % 2 ? 'b' : 'a';
    CHECK_INT(
        qc_tokenizer_encode(f.tokenizer, f.scratch, &f.diag, text, LENGTH, true, &f.arena, &ids), QC_OK);
    CHECK_INT(ids.count, LENGTH / 2);
    free(text);
    stop(&f);
}

static void test_streaming_holds_back(void)
{
    fixture f;
    qc_str out;
    qc_token_stream stream;
    CHECK(start_with(&f,
        "{\"decoder\":{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"trim_offsets\":true},\"model\":{"
        "\"type\":\"BPE\",\"vocab\":{\"\xc3\xa2\":0,\"\xc4\xa4\":1,\"\xc2\xac\":2,\"a\":3},\"merges\":[]}}"));
    qc_str_init(&out, &f.arena);
    qc_token_stream_init(&stream, f.tokenizer, false, &f.arena);
    /* U+20AC is E2 82 AC */
    qc_token_stream_push(&stream, 3, &out);
    CHECK_STR(out.data, "a");
    qc_token_stream_push(&stream, 0, &out);
    qc_token_stream_push(&stream, 1, &out);
    CHECK_STR(out.data, "a");
    qc_token_stream_push(&stream, 2, &out);
    CHECK_STR(out.data, "a\xe2\x82\xac");
    qc_token_stream_push(&stream, 0, &out);
    CHECK_STR(out.data, "a\xe2\x82\xac");
    qc_token_stream_finish(&stream, &out);
    CHECK_STR(out.data, "a\xe2\x82\xac\xef\xbf\xbd");
    qc_token_stream_fini(&stream);
    qc_str_fini(&out);
    stop(&f);
}

/* ---- files --------------------------------------------------------------------------------------------- */

static void write_text(fixture *f, const char *directory, const char *name, const char *text)
{
    CHECK_INT(qc_write_file(&f->diag, qc_path_join(&f->arena, directory, name), text, strlen(text)), QC_OK);
}

static void test_directory(void)
{
    fixture f;
    start(&f);
    const char *temporary = getenv("TMPDIR");
    char *directory = qc_arena_printf(&f.arena, "%s/qc-tokenizer-XXXXXX", temporary ? temporary : "/tmp");
    CHECK(mkdtemp(directory) != NULL);
    CHECK_INT(qc_tokenizer_load(&f.diag, &f.arena, directory, &f.tokenizer), QC_ERROR);
    CHECK(strstr(f.last, "/tokenizer.json") != NULL);
    write_text(&f, directory, "tokenizer.json", "{" MODEL("") "}");
    write_text(&f, directory, "tokenizer_config.json",
        "{\"bos_token\":\"a\",\"eos_token\":{\"content\":\"b\"},\"pad_token\":null}");
    write_text(&f, directory, "special_tokens_map.json", "{\"bos_token\":\"b\",\"pad_token\":\"c\"}");
    CHECK_INT(qc_tokenizer_load(&f.diag, &f.arena, directory, &f.tokenizer), QC_OK);
    if (f.tokenizer) {
        CHECK_INT(qc_tokenizer_bos_id(f.tokenizer), 0);
        CHECK_INT(qc_tokenizer_eos_id(f.tokenizer), 1);
        CHECK_INT(qc_tokenizer_pad_id(f.tokenizer), 4);
    }
    qc_tokenizer_fini(f.tokenizer);
    write_text(&f, directory, "tokenizer_config.json", "{");
    CHECK_INT(qc_tokenizer_load(&f.diag, &f.arena, directory, &f.tokenizer), QC_ERROR);
    CHECK(strstr(f.last, "tokenizer_config.json:1:") != NULL);
    CHECK_INT(qc_remove_tree(&f.diag, directory), QC_OK);
    stop(&f);
}

/* ---- refusals ------------------------------------------------------------------------------------------ */

#define PRE(text) "{\"pre_tokenizer\":" text "," MODEL("") "}"
#define SPLIT(regex)                                                                                         \
    PRE("{\"type\":\"Split\",\"pattern\":{\"Regex\":\"" regex                                                \
        "\"},\"behavior\":\"Isolated\",\"invert\":false}")
#define ADDED(text) "{\"added_tokens\":[" text "]," MODEL("") "}"
#define VOCAB(vocab, merges) "{\"model\":{\"type\":\"BPE\",\"vocab\":" vocab ",\"merges\":" merges "}}"

static void test_refusals(void)
{
    static const struct {
        const char *json, *message;
    } cases[] = {
        {"", "tokenizer.json:1:1: "},
        {"[]", "must hold an object"},
        {"{}", "there is no \"model\""},
        {"{\"model\":null}", "\"model\" must be an object"},
        {"{\"version\":\"2.0\"," MODEL("") "}", "only version \"1.0\" is supported"},
        {"{\"model\":{\"type\":\"Unigram\"}}", "model type \"Unigram\" is not supported"},
        {"{\"model\":{}}", "model must be an object with a \"type\""},
        {"{\"model\":{\"type\":\"BPE\"}}", "\"vocab\" must be an object"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{}}}", "\"merges\" must be an array"},
        {"{" MODEL("\"dropout\":0.1,") "}", "model: dropout is not supported"},
        {"{" MODEL("\"fuse_unk\":1,") "}", "model: \"fuse_unk\" must be true or false"},
        {VOCAB("{\"a\":-1}", "[]"), "the id of token \"a\" is out of range"},
        {VOCAB("{\"a\":4294967296}", "[]"), "the id of token \"a\" is out of range"},
        {VOCAB("{\"a\":1e3}", "[]"), "the id of token \"a\" is out of range"},
        {VOCAB("{\"a\":1,\"b\":1}", "[]"), "tokens \"a\" and \"b\" have the same id 1"},
        {VOCAB("{\"a\":0}", "[\"a b\"]"), "merge 0 refers to the unknown token \"b\""},
        {VOCAB("{\"a\":0,\"b\":1}", "[\"a b\"]"), "merge 0 makes the unknown token \"ab\""},
        {VOCAB("{\"a\":0}", "[\"a\"]"), "merge 0 must be two tokens and one space"},
        {VOCAB("{\"a\":0}", "[\"a a a\"]"), "merge 0 must be two tokens and one space"},
        {VOCAB("{\"a\":0}", "[[\"a\"]]"), "merge 0 must be two strings"},
        {VOCAB("{\"a\":0}", "[[\"a\",1]]"), "merge 0 must be two strings"},
        {VOCAB("{\"a\":0}", "[1]"), "merges must be all strings or all pairs"},
        {"{\"normalizer\":{\"type\":\"Precompiled\"}," MODEL("") "}",
            "normalizer type \"Precompiled\" is not supported"},
        {"{\"normalizer\":{\"type\":\"Sequence\"}," MODEL("") "}", "\"normalizers\" must be an array"},
        {"{\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"x*\"},\"content\":\"\"}," MODEL(
             "") "}",
            "a pattern that may match nothing is not supported"},
        {PRE("{\"type\":\"UnicodeScripts\"}"), "pre_tokenizer type \"UnicodeScripts\" is not supported"},
        {PRE("[]"), "pre_tokenizer must be an object with a \"type\""},
        {PRE("{\"type\":\"ByteLevel\"}"), "\"add_prefix_space\" must be true or false"},
        {PRE("{\"type\":\"Metaspace\",\"replacement\":\"ab\"}"), "\"replacement\" must be one character"},
        {PRE("{\"type\":\"Metaspace\",\"replacement\":\"a\",\"prepend_scheme\":\"x\"}"),
            "prepend_scheme \"x\" is not supported"},
        {PRE("{\"type\":\"Split\",\"invert\":false,\"behavior\":\"Isolated\"}"), "pattern must be"},
        {SPLIT("(a"), "a group without its closing parenthesis"},
        {SPLIT("[z-a]"), "an empty range"},
        {SPLIT("(?<n>a)"), "is not supported: group \"(?<n\""},
        {SPLIT("(a)\\\\1"), "is not supported: escape \"\\1\""},
        {SPLIT("\\\\p{Nope}"), "is not supported: property \"Nope\""},
        {SPLIT("(?i:ss)"), "\"ss\" where case is ignored"},
        {SPLIT("a**"), "a repeated repeat"},
        {"{\"post_processor\":{\"type\":\"Nope\"}," MODEL("") "}",
            "post_processor type \"Nope\" is not supported"},
        {"{\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"x\"}}]"
         ","
         "\"special_tokens\":{}}," MODEL("") "}",
            "special token \"x\" has no \"ids\""},
        {"{\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"Sequence\":{\"id\":\"B\"}}],"
         "\"special_tokens\":{}}," MODEL("") "}",
            "must hold special tokens and sequence A"},
        {"{\"decoder\":{\"type\":\"CTC\"}," MODEL("") "}", "decoder type \"CTC\" is not supported"},
        {"{\"truncation\":{\"max_length\":1,\"stride\":0,\"strategy\":\"x\"}," MODEL("") "}",
            "truncation: strategy \"x\" is not supported"},
        {"{\"padding\":{\"strategy\":{\"Fixed\":99999999999},\"pad_id\":0}," MODEL("") "}",
            "padding: a length of more than"},
        {ADDED("{}"), "added_tokens: \"content\" must be a string"},
        {ADDED("{\"id\":5,\"content\":\"x\"}"), "added_tokens: \"single_word\" must be true or false"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fixture f;
        if (start_with(&f, cases[i].json))
            CHECK_FAIL("case %zu is not refused: %s", i, cases[i].json);
        else if (!strstr(f.last, cases[i].message) || strncmp(f.last, "tokenizer.json:", 15) != 0)
            CHECK_FAIL("case %zu: '%s' does not say '%s'", i, f.last, cases[i].message);
        CHECK_INT(f.diag.error_count, 1);
        stop(&f);
    }
}

int main(void)
{
#define RUN_GOLDEN(name) RUN(test_goldens_##name);
    GOLDENS(RUN_GOLDEN)
    RUN(test_vocabulary);
    RUN(test_limits);
    RUN(test_unknown_characters);
    RUN(test_invalid_text);
    RUN(test_two_scratches);
    RUN(test_long_word);
    RUN(test_streaming_holds_back);
    RUN(test_directory);
    RUN(test_refusals);
    return check_done();
}
