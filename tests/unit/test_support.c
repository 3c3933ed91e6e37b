/* SPDX-License-Identifier: MIT
 *
 * test_support.c - arena, strings, map, diagnostics, files, SHA-256.
 */
#include "tests/unit/check.h"

#include <fcntl.h>
#include <setjmp.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ir/support/diag.h"
#include "ir/support/io.h"
#include "ir/support/map.h"
#include "ir/support/str.h"
#include "tests/unit/messages.h"

static jmp_buf oom_jump;
static size_t oom_size;

static void jump_out(size_t size_bytes)
{
    oom_size = size_bytes;
    longjmp(oom_jump, 1);
}

static void test_arena_alloc(void)
{
    qc_arena arena;
    qc_arena_init(&arena, NULL);
    CHECK_INT(arena.total_bytes, 0);
    static const size_t sizes[] = {0, 1, 15, 16, 17, 100, 5000, 70000, 3, 2000000, 40000, 12};
    unsigned char *blocks[12 * 50];
    size_t count = 0;
    for (int round = 0; round < 50; round++) {
        for (size_t i = 0; i < 12; i++) {
            unsigned char *p = qc_arena_alloc(&arena, sizes[i]);
            CHECK((uintptr_t)p % 16 == 0);
            for (size_t k = 0; k < sizes[i]; k += 7)
                CHECK(p[k] == 0);
            memset(p, (int)(count % 251) + 1, sizes[i]);
            blocks[count++] = p;
        }
    }
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < sizes[i % 12]; k += 13)
            CHECK(blocks[i][k] == i % 251 + 1); /* none overlaps another */
    qc_arena_fini(&arena);
    CHECK_INT(arena.total_bytes, 0);
    CHECK_STR(qc_arena_printf(&arena, "%s-%d", "x", 7), "x-7");
    CHECK_STR(qc_arena_strndup(&arena, "abcdef", 3), "abc");
    CHECK_STR(qc_arena_strdup(&arena, ""), "");
    CHECK_INT(arena.total_bytes, 64 * 1024);
    qc_arena_fini(&arena);
}

static void test_arena_out_of_memory(void)
{
    qc_arena arena;
    qc_arena_init(&arena, jump_out);
    volatile int jumps = 0;
    if (setjmp(oom_jump))
        jumps++;
    else
        qc_arena_calloc(&arena, SIZE_MAX / 4, 16);
    if (setjmp(oom_jump))
        jumps++;
    else
        qc_arena_alloc(&arena, SIZE_MAX - 4);
    CHECK_INT(jumps, 2);
    CHECK(oom_size == SIZE_MAX - 4);
    qc_arena_fini(&arena);
}

static void test_vector(void)
{
    qc_arena arena;
    qc_arena_init(&arena, NULL);
    QC_VEC(int) v = {0};
    for (int i = 0; i < 10000; i++)
        QC_PUSH(&arena, &v, i * 3);
    CHECK_INT(v.count, 10000);
    for (int i = 0; i < 10000; i++)
        CHECK_INT(v.items[i], i * 3);
    qc_arena_fini(&arena);
}

static void test_string(void)
{
    qc_arena arena;
    qc_arena_init(&arena, NULL);
    qc_str s;
    qc_str_init(&s, &arena);
    CHECK_STR(s.data, "");
    qc_str_add(&s, "a");
    qc_str_add_char(&s, 'b');
    qc_str_add_bytes(&s, "cde", 2);
    qc_str_addf(&s, "%d%s", 12, "x");
    CHECK_STR(s.data, "abcd12x");
    CHECK_INT(s.length, 7);
    for (int i = 0; i < 300; i++)
        qc_str_addf(&s, "%0100d", i);
    CHECK_INT(s.length, 30007);
    CHECK_INT(strlen(s.data), 30007);
    qc_str_clear(&s);
    static const int64_t values[] = {0, 7, -7, 10, 99, 100, -12345678901, INT64_MAX, INT64_MIN};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        qc_str_add_int(&s, values[i]);
        qc_str_add_char(&s, ' ');
    }
    CHECK_STR(s.data, "0 7 -7 10 99 100 -12345678901 9223372036854775807 -9223372036854775808 ");
    qc_str_clear(&s);
    static const char raw[] = "a\"b\\c\n\t\r\x01\x1f\0z\xc3\xa9";
    qc_str_add_quoted(&s, raw, sizeof raw - 1);
    CHECK_STR(s.data, "\"a\\\"b\\\\c\\n\\t\\r\\u0001\\u001f\\u0000z\xc3\xa9\"");
    qc_str_fini(&s);
    qc_arena_fini(&arena);
}

typedef void (*add_f32_fn)(qc_str *s, float value);

static const char *as_text(qc_str *s, add_f32_fn add, float value)
{
    qc_str_clear(s);
    add(s, value);
    return s->data;
}

static const char *as_f64(qc_str *s, double value)
{
    qc_str_clear(s);
    qc_str_add_f64(s, value);
    return s->data;
}

/* Expected texts: Python's repr for f64, numpy 2's for f32 and f16; for bfloat16 the least digits between the
 * midpoints to its neighbours. */
static void test_floats(void)
{
    qc_arena arena;
    qc_arena_init(&arena, NULL);
    qc_str s;
    qc_str_init(&s, &arena);
    static const struct {
        double value;
        const char *text;
    } rows[] = {{0.0, "0.0"}, {-0.0, "-0.0"}, {1.0, "1.0"}, {-1.5, "-1.5"}, {10000.0, "10000.0"},
        {0.5, "0.5"}, {0.1, "0.1"}, {1e-5, "1e-05"}, {1e-4, "0.0001"}, {1e15, "1000000000000000.0"},
        {1e16, "1e+16"}, {123456789012345680.0, "1.2345678901234568e+17"}, {1e22, "1e+22"}, {1e23, "1e+23"},
        {1e100, "1e+100"}, {5e-324, "5e-324"}, {2.2250738585072014e-308, "2.2250738585072014e-308"},
        {1.7976931348623157e308, "1.7976931348623157e+308"}, {0.30000000000000004, "0.30000000000000004"},
        {9007199254740991.0, "9007199254740991.0"}, {9007199254740992.0, "9007199254740992.0"},
        {0x1p-44, "5.684341886080802e-14"}, {3.141592653589793, "3.141592653589793"},
        {123456.789, "123456.789"}, {1.25e-3, "0.00125"}, {INFINITY, "inf"}, {-INFINITY, "-inf"},
        {NAN, "nan"}, {999999.99999999, "999999.99999999"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        CHECK_STR(as_f64(&s, rows[i].value), rows[i].text);
    CHECK_STR(as_text(&s, qc_str_add_f32, 0.1f), "0.1");
    CHECK_STR(as_text(&s, qc_str_add_f32, 16777216.0f), "16777216.0");
    CHECK_STR(as_text(&s, qc_str_add_f32, 3.4028235e38f), "3.4028235e+38");
    CHECK_STR(as_text(&s, qc_str_add_f32, 1e-45f), "1e-45");
    CHECK_STR(as_text(&s, qc_str_add_f32, 1.17549435e-38f), "1.1754944e-38");
    CHECK_STR(as_text(&s, qc_str_add_f32, 1e-6f), "1e-06");
    CHECK_STR(as_text(&s, qc_str_add_f32, 0.333333343f), "0.33333334");
    CHECK_STR(as_text(&s, qc_str_add_bf16, 0.01123046875f), "0.0112");
    CHECK_STR(as_text(&s, qc_str_add_bf16, 3.38953139e38f), "3.39e+38");
    CHECK_STR(as_text(&s, qc_str_add_bf16, 9984.0f), "10000.0");
    CHECK_STR(as_text(&s, qc_str_add_bf16, 0.1f), "0.1"); /* no bfloat16: printed as the float it is */
    CHECK_STR(as_text(&s, qc_str_add_f16, 65504.0f), "65500.0");
    CHECK_STR(as_text(&s, qc_str_add_f16, 0x1p-24f), "6e-08");
    CHECK_STR(as_text(&s, qc_str_add_f16, 65536.0f), "65536.0");
    CHECK_STR(as_text(&s, qc_str_add_f16, -INFINITY), "-inf");
    qc_str_fini(&s);
    qc_arena_fini(&arena);
}

/* Every bfloat16, and floats strewn over all exponents, read back as themselves. */
static void test_floats_round_trip(void)
{
    qc_arena arena;
    qc_arena_init(&arena, NULL);
    qc_str s;
    qc_str_init(&s, &arena);
    int wrong = 0;
    for (uint32_t code = 0; code < 0x7f80; code++) {
        uint32_t bits = code << 16;
        float value;
        memcpy(&value, &bits, sizeof value);
        float back = strtof(as_text(&s, qc_str_add_bf16, value), NULL);
        memcpy(&bits, &back, sizeof bits);
        wrong += (bits + 0x7fff + (bits >> 16 & 1)) >> 16 != code;
    }
    CHECK_INT(wrong, 0);
    uint32_t bits = 1;
    for (int i = 0; i < 100000; i++) {
        bits = bits * 1664525u + 1013904223u;
        float value;
        memcpy(&value, &bits, sizeof value);
        if (isfinite(value))
            wrong += strtof(as_text(&s, qc_str_add_f32, value), NULL) != value;
    }
    CHECK_INT(wrong, 0);
    qc_str_fini(&s);
    qc_arena_fini(&arena);
}

static void test_decimal_to_f64(void)
{
    static const char *const texts[] = {"0", "-0", "1", "-1.5", "12.5e3", "1e-5",
        "123456789012345678901234567890", "0.1000000000000000055511151231257827", "1E+22", "1e23",
        "9007199254740993", "9007199254740993.0000000001", "5e-324", "2e-324", "1e400", "-1e400", "1e-400",
        "0.000000000000000000000000000001", "1.7976931348623157e308", "1e99999999999999999999",
        "00000000000000000000000000000001.5", "+3.25", "4.35", "0.3",
        "1234567890123456789012345678901234567890123456789012345678901234567890."
        "123456789012345678901234567890123456789"
        "0123456789012345678901234567890e-60"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        double expected = strtod(texts[i], NULL), got = qc_decimal_to_f64(texts[i], strlen(texts[i]));
        CHECK(memcmp(&expected, &got, sizeof got) == 0);
    }
    CHECK(qc_decimal_to_f64("12345", 3) == 123); /* the length counts, not the NUL */
}

static void test_names(void)
{
    CHECK(qc_starts_with("model.layers", "model"));
    CHECK(!qc_starts_with("mod", "model"));
    CHECK(qc_ends_with("x.weight", ".weight"));
    CHECK(!qc_ends_with("weight", ".weight"));
    static const char *const names[] = {"linear", "attention", "rmsnorm", "rope"};
    CHECK_STR(qc_nearest_name("liner", names, 4), "linear");
    CHECK_STR(qc_nearest_name("atention", names, 4), "attention");
    CHECK_STR(qc_nearest_name("rape", names, 4), "rope");
    CHECK_STR(qc_nearest_name("ROEP", names, 4), "rope");
    CHECK(qc_nearest_name("softmax", names, 4) == NULL);
    CHECK(qc_nearest_name("", names, 4) == NULL);
    CHECK(qc_nearest_name("x", names, 0) == NULL);
    static const char *const passes[] = {"quant-kv", "quant-linear", "quant-fp8-attn"};
    CHECK_STR(qc_nearest_name("quant-fp8", passes, 3), "quant-fp8-attn");
    CHECK_STR(qc_nearest_name("quant-k", passes, 3), "quant-kv");
    CHECK_STR(qc_nearest_name("qua", passes, 3), "quant-kv");
    CHECK(qc_nearest_name("qu", passes, 3) == NULL);
    char longest[400];
    memset(longest, 'a', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    CHECK(qc_nearest_name(longest, names, 4) == NULL);
}

static void test_map(void)
{
    qc_arena arena;
    qc_arena_init(&arena, NULL);
    qc_map map;
    qc_map_init(&map, &arena);
    static int values[20000];
    CHECK(qc_map_get(&map, "x") == NULL);
    for (int i = 0; i < 20000; i++) {
        char key[40];
        snprintf(key, sizeof key, "model.layers.%d.weight", i);
        CHECK(qc_map_set(&map, key, &values[i]));
    }
    CHECK_INT(map.count, 20000);
    for (int i = 0; i < 20000; i++) {
        char key[40];
        snprintf(key, sizeof key, "model.layers.%d.weight", i);
        CHECK(qc_map_get(&map, key) == &values[i]);
        CHECK_STR(map.entries[i].key, key); /* insertion order */
    }
    CHECK(!qc_map_set(&map, "model.layers.7.weight", NULL));
    CHECK(qc_map_get(&map, "model.layers.7.weight") == NULL);
    CHECK(qc_map_find_n(&map, "model.layers.7.weight", 21) != NULL);
    CHECK(qc_map_find_n(&map, "model.layers.7.weigh", 20) == NULL);
    CHECK(qc_map_set_n(&map, "a\0b", 3, values));
    CHECK(qc_map_set_n(&map, "a\0c", 3, values + 1));
    CHECK(qc_map_set_n(&map, "", 0, values + 2));
    CHECK(qc_map_get_n(&map, "a\0c", 3) == values + 1);
    CHECK(qc_map_get(&map, "") == values + 2);
    CHECK(qc_hash_bytes("abcdefgh1", 9) != qc_hash_bytes("abcdefgh2", 9));
    CHECK(qc_hash_bytes("\0", 1) != qc_hash_bytes("\0\0", 2));
    qc_arena_fini(&arena);
}

static void test_diagnostics(void)
{
    qc_arena arena;
    qc_arena_init(&arena, NULL);
    messages m = {0};
    qc_diag diag;
    qc_diag_init(&diag, &arena, keep_message, &m);
    CHECK_INT(qc_error(&diag, "file", "bad %d", 3), QC_ERROR);
    CHECK_STR(m.last, "file: bad 3");
    CHECK_INT(m.severity, QC_SEVERITY_ERROR);
    qc_note(&diag, "try %s", "that");
    CHECK_STR(m.last, ": try that");
    CHECK_INT(m.severity, QC_SEVERITY_NOTE);
    qc_warning(&diag, NULL, "odd");
    CHECK_INT(m.severity, QC_SEVERITY_WARNING);
    qc_remark(&diag, "layer", "left");
    CHECK_INT(m.severity, QC_SEVERITY_REMARK);
    CHECK_INT(diag.error_count, 1);
    CHECK_INT(m.count, 4);
    qc_diag_init(&diag, &arena, NULL, NULL);
    CHECK_INT(qc_error(&diag, NULL, "unheard"), QC_ERROR);
    CHECK_INT(diag.error_count, 1);
    qc_arena_fini(&arena);
}

/* One directory for the file tests, made and removed by each. */
typedef struct files {
    qc_arena arena;
    qc_diag diag;
    messages m;
    char directory[32];
} files;

static bool begin_files(files *f)
{
    *f = (files){.directory = "qc-test-XXXXXX"};
    qc_arena_init(&f->arena, NULL);
    qc_diag_init(&f->diag, &f->arena, keep_message, &f->m);
    return mkdtemp(f->directory) != NULL;
}

static void end_files(files *f)
{
    CHECK_INT(qc_remove_tree(&f->diag, f->directory), QC_OK);
    CHECK(!qc_is_directory(f->directory));
    qc_arena_fini(&f->arena);
}

static void test_files(void)
{
    files f;
    if (!begin_files(&f))
        SKIP("no directory can be made here");
    char *path = qc_path_join(&f.arena, f.directory, "a.txt"), *data;
    size_t length;
    CHECK_INT(qc_write_file(&f.diag, path, "one\0two", 7), QC_OK);
    CHECK_INT(qc_write_file(&f.diag, path, "three\0four", 10), QC_OK);
    CHECK_INT(qc_read_file(&f.diag, &f.arena, path, 10, &data, &length), QC_OK);
    CHECK_INT(length, 10);
    CHECK(memcmp(data, "three\0four", 11) == 0);
    CHECK_INT(qc_read_file(&f.diag, &f.arena, path, 9, &data, &length), QC_ERROR);
    CHECK(said(&f.m, "a.txt: is larger than 9 bytes"));
    CHECK_INT(qc_read_file(&f.diag, &f.arena, f.directory, 100, &data, &length), QC_ERROR);
    CHECK(said(&f.m, "is a directory"));
    CHECK_INT(qc_read_file(&f.diag, &f.arena, "no/such", 100, &data, &length), QC_ERROR);
    CHECK(said(&f.m, "no/such: cannot open: No such file"));
    CHECK_INT(qc_write_file(&f.diag, "no/such", "x", 1), QC_ERROR);
    CHECK(said(&f.m, "no/such: cannot create: No such file"));
    CHECK_INT(qc_write_file(&f.diag, qc_path_join(&f.arena, f.directory, "empty"), NULL, 0), QC_OK);
    CHECK(qc_is_file(path) && !qc_is_directory(path) && qc_is_directory(f.directory) &&
          !qc_is_file(f.directory));
    CHECK_INT(mkdir(qc_path_join(&f.arena, f.directory, "sub"), 0777), 0);
    CHECK_INT(qc_write_file(&f.diag, qc_path_join(&f.arena, f.directory, "sub/b"), "b", 1), QC_OK);
    CHECK_INT(symlink("a.txt", qc_path_join(&f.arena, f.directory, "sub/link")), 0);
    char **names;
    size_t count;
    CHECK_INT(qc_list_directory(&f.diag, &f.arena, f.directory, &names, &count), QC_OK);
    CHECK_INT(count, 3); /* no temporary file is left */
    CHECK(count == 3 && strcmp(names[0], "a.txt") == 0 && strcmp(names[2], "sub") == 0);
    CHECK_INT(qc_list_directory(&f.diag, &f.arena, "no/such", &names, &count), QC_ERROR);
    CHECK(said(&f.m, "no/such: cannot list"));
    end_files(&f);
    files gone = f;
    qc_arena_init(&gone.arena, NULL);
    gone.diag.arena = &gone.arena;
    gone.diag.user = &gone.m;
    CHECK_INT(qc_remove_tree(&gone.diag, f.directory), QC_ERROR);
    CHECK(said(&gone.m, "cannot remove: No such file"));
    qc_arena_fini(&gone.arena);
}

static void test_write_errors(void)
{
    files f;
    if (!begin_files(&f))
        SKIP("no directory can be made here");
    if (access("/dev/full", W_OK) == 0) {
        CHECK_INT(qc_write_file(&f.diag, "/dev/full", "text", 4), QC_ERROR);
        CHECK(said(&f.m, "/dev/full: cannot write: No space left"));
        int full = open("/dev/full", O_WRONLY), in = open(f.directory, O_RDONLY);
        CHECK_INT(qc_write_all(&f.diag, full, "full", "x", 1), QC_ERROR);
        CHECK(said(&f.m, "full: cannot write"));
        close(full);
        close(in);
    }
    CHECK_INT(qc_write_file(&f.diag, "/dev/null", "text", 4), QC_OK); /* not replaced by a file */
    CHECK(!qc_is_file("/dev/null"));
    end_files(&f);
}

static void test_copies(void)
{
    files f;
    if (!begin_files(&f))
        SKIP("no directory can be made here");
    enum { LENGTH = 3000000 };
    char *bytes = malloc(LENGTH), *back = malloc(LENGTH);
    for (int i = 0; i < LENGTH; i++)
        bytes[i] = (char)((unsigned)i * 7919u >> 5);
    char *from = qc_path_join(&f.arena, f.directory, "from"), *to = qc_path_join(&f.arena, f.directory, "to");
    CHECK_INT(qc_write_file(&f.diag, from, bytes, LENGTH), QC_OK);
    CHECK_INT(qc_copy_file(&f.diag, from, to), QC_OK);
    char *data;
    size_t length;
    CHECK_INT(qc_read_file(&f.diag, &f.arena, to, LENGTH, &data, &length), QC_OK);
    CHECK(length == LENGTH && memcmp(data, bytes, LENGTH) == 0);
    int in = open(from, O_RDONLY), out = open(to, O_RDWR | O_TRUNC);
    CHECK_INT(qc_write_all(&f.diag, out, to, "head", 4), QC_OK);
    CHECK_INT(qc_copy_range(&f.diag, in, from, 1000, out, to, LENGTH - 1000), QC_OK);
    CHECK_INT(qc_copy_range(&f.diag, in, from, 5, out, to, 0), QC_OK);
    CHECK_INT(qc_pread_all(&f.diag, out, to, back, LENGTH - 996, 0), QC_OK);
    CHECK(memcmp(back, "head", 4) == 0 && memcmp(back + 4, bytes + 1000, LENGTH - 1000) == 0);
    CHECK_INT(qc_copy_range(&f.diag, in, from, LENGTH - 10, out, to, 11), QC_ERROR);
    CHECK(said(&f.m, "/from: ends at byte 3000000, 1 bytes short"));
    CHECK_INT(qc_pread_all(&f.diag, in, from, back, 11, LENGTH - 10), QC_ERROR);
    close(out);
    out = open(to, O_WRONLY | O_TRUNC | O_APPEND); /* the kernel refuses to copy there: the buffer does */
    CHECK_INT(qc_copy_range(&f.diag, in, from, 77, out, to, LENGTH - 77), QC_OK);
    close(out);
    CHECK_INT(qc_read_file(&f.diag, &f.arena, to, LENGTH, &data, &length), QC_OK);
    CHECK(length == LENGTH - 77 && memcmp(data, bytes + 77, LENGTH - 77) == 0);
    CHECK_INT(qc_copy_file(&f.diag, f.directory, to), QC_ERROR);
    CHECK(said(&f.m, "is not a plain file"));
    CHECK_INT(lseek(in, LENGTH - 5, SEEK_SET), LENGTH - 5);
    CHECK_INT(qc_read_fd(&f.diag, &f.arena, in, "input", &data, &length), QC_OK);
    CHECK(length == 5 && memcmp(data, bytes + LENGTH - 5, 5) == 0);
    close(in);
    free(bytes);
    free(back);
    end_files(&f);
}

static void test_paths(void)
{
    qc_arena arena;
    qc_arena_init(&arena, NULL);
    CHECK_STR(qc_path_join(&arena, "a", "b"), "a/b");
    CHECK_STR(qc_path_join(&arena, "a/", "b"), "a/b");
    CHECK_STR(qc_path_join(&arena, "", "b"), "b");
    CHECK_STR(qc_path_join(&arena, "a", "/b"), "/b");
    CHECK_STR(qc_path_base("x/y/z"), "z");
    CHECK_STR(qc_path_base("z"), "z");
    CHECK_STR(qc_path_base("x/"), "");
    qc_arena_fini(&arena);
}

/* FIPS 180-4 examples, and lengths around the block borders against one another. */
static void test_sha256(void)
{
    char hex[65];
    qc_sha256 h;
    qc_sha256_init(&h);
    qc_sha256_hex(&h, hex);
    CHECK_STR(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    qc_sha256_init(&h);
    qc_sha256_add(&h, "abc", 3);
    qc_sha256_hex(&h, hex);
    CHECK_STR(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    static const char two_blocks[] = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    qc_sha256_init(&h);
    qc_sha256_add(&h, two_blocks, 56);
    qc_sha256_hex(&h, hex);
    CHECK_STR(hex, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    qc_sha256_init(&h);
    char chunk[997];
    memset(chunk, 'a', sizeof chunk);
    for (size_t left = 1000000; left;) {
        size_t part = left < sizeof chunk ? left : sizeof chunk;
        qc_sha256_add(&h, chunk, part);
        left -= part;
    }
    qc_sha256_hex(&h, hex);
    CHECK_STR(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

int main(void)
{
    RUN(test_arena_alloc);
    RUN(test_arena_out_of_memory);
    RUN(test_vector);
    RUN(test_string);
    RUN(test_floats);
    RUN(test_floats_round_trip);
    RUN(test_decimal_to_f64);
    RUN(test_names);
    RUN(test_map);
    RUN(test_diagnostics);
    RUN(test_files);
    RUN(test_write_errors);
    RUN(test_copies);
    RUN(test_paths);
    RUN(test_sha256);
    return check_done();
}
