/* SPDX-License-Identifier: MIT
 *
 * test_safetensors.c - every check of the reader, the shards' index, and the writer's order and header bytes.
 */
#include "tests/unit/check.h"

#include <sys/stat.h>
#include <unistd.h>

#include "ir/support/io.h"
#include "ir/support/safetensors.h"
#include "tests/unit/messages.h"

/* A directory of its own, made and removed by each case. */
typedef struct fixture {
    qc_arena arena;
    qc_diag diag;
    messages m;
    char directory[32];
} fixture;

static bool begin(fixture *f)
{
    *f = (fixture){.directory = "qc-test-XXXXXX"};
    qc_arena_init(&f->arena, NULL);
    qc_diag_init(&f->diag, &f->arena, keep_message, &f->m);
    return mkdtemp(f->directory) != NULL;
}

static void end(fixture *f)
{
    CHECK_INT(qc_remove_tree(&f->diag, f->directory), QC_OK);
    qc_arena_fini(&f->arena);
}

/* Writes a file with this header, data_bytes of 0, 1, 2 ... behind it; header_length < 0 says the true
 * length. */
static const char *write_file(
    fixture *f, const char *name, const char *header, size_t data_bytes, int64_t header_length)
{
    const char *path = qc_path_join(&f->arena, f->directory, name);
    size_t length = strlen(header);
    uint64_t said_length = header_length < 0 ? length : (uint64_t)header_length;
    unsigned char *bytes = qc_arena_alloc(&f->arena, 8 + length + data_bytes);
    for (int i = 0; i < 8; i++)
        bytes[i] = (unsigned char)(said_length >> (8 * i));
    memcpy(bytes + 8, header, length);
    for (size_t i = 0; i < data_bytes; i++)
        bytes[8 + length + i] = (unsigned char)i;
    CHECK_INT(qc_write_file(&f->diag, path, bytes, 8 + length + data_bytes), QC_OK);
    return path;
}

static void test_open_file(void)
{
    fixture f;
    if (!begin(&f))
        SKIP("no directory can be made here");
    static const char header[] =
        "{\"__metadata__\":{\"format\":\"pt\"},"
        "\"b\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[12,15]},"
        "\"scalar\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[8,12]},"
        "\"empty\":{\"dtype\":\"BF16\",\"shape\":[4,0],\"data_offsets\":[8,8]},"
        "\"a\":{\"data_offsets\":[0,8],\"shape\":[2,2],\"dtype\":\"BF16\",\"x\":1}}  ";
    const char *path = write_file(&f, "m.safetensors", header, 15, -1);
    qc_st_set set;
    CHECK_INT(qc_st_open_file(&f.diag, &f.arena, path, &set), QC_OK);
    CHECK_INT(set.file_count, 1);
    CHECK_INT(set.tensor_count, 4);
    if (set.tensor_count == 4) {
        static const char *const order[] = {"a", "empty", "scalar", "b"};
        for (int i = 0; i < 4; i++)
            CHECK_STR(set.tensors[i].name, order[i]);
        CHECK_STR(set.files[0].name, "m.safetensors");
        CHECK_STR(set.files[0].path, path);
        CHECK_INT(set.files[0].header_bytes, 8 + sizeof header - 1);
        CHECK_INT(set.files[0].size_bytes, 8 + sizeof header - 1 + 15);
    }
    const qc_st_tensor *b = qc_st_find(&set, "b");
    CHECK(b != NULL && qc_st_find(&set, "c") == NULL && qc_st_find(&set, "__metadata__") == NULL);
    unsigned char bytes[3] = {0};
    CHECK_INT(b ? b->size_bytes : 0, 3);
    CHECK_INT(b ? qc_st_read(&f.diag, &set, b, bytes) : 1, QC_OK);
    CHECK(bytes[0] == 12 && bytes[1] == 13 && bytes[2] == 14);
    const qc_st_tensor *a = qc_st_find(&set, "a");
    CHECK(a && a->rank == 2 && a->shape[0] == 2 && a->shape[1] == 2 && strcmp(a->dtype, "BF16") == 0);
    const qc_st_tensor *scalar = qc_st_find(&set, "scalar");
    CHECK(scalar && scalar->rank == 0 && scalar->size_bytes == 4);
    CHECK_INT(truncate(path, 100), 0); /* behind our back */
    CHECK_INT(b ? qc_st_read(&f.diag, &set, b, bytes) : 1, QC_ERROR);
    CHECK(said(&f.m, "m.safetensors: ends at byte"));
    qc_st_close(&set);
    CHECK_INT(set.file_count, 0);
    end(&f);
}

static void test_header_hash(void)
{
    fixture f;
    if (!begin(&f))
        SKIP("no directory can be made here");
    const char *path = write_file(&f, "m.safetensors", "{}      ", 0, -1);
    qc_st_set set;
    CHECK_INT(qc_st_open_file(&f.diag, &f.arena, path, &set), QC_OK);
    CHECK_INT(set.tensor_count, 0);
    /* sha256sum of the 16 bytes 08 00 00 00 00 00 00 00 "{}      " */
    if (set.file_count)
        CHECK_STR(
            set.files[0].header_sha256, "9bbcbf73561f6bc5d0a17ea6a2081feed2d1304e87602d8c502d9a5c4bd85576");
    qc_st_close(&set);
    end(&f);
}

#define TEN_ONES "1,1,1,1,1,1,1,1,1,1"
#define ONE(dtype, shape, offsets)                                                                           \
    "{\"t\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}}"
#define TWO(offsets1, offsets2)                                                                              \
    "{\"t\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":" offsets1 "},"                                 \
    "\"u\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":" offsets2 "}}"

static void test_malformed_files(void)
{
    static const struct {
        const char *header;
        int64_t header_length;
        size_t data_bytes;
        const char *message;
    } rows[] = {
        {"", 0, 0, "m.safetensors: the header does not begin with '{'"},
        {"{}", 3, 0, "m.safetensors: header length 3 reaches past the end of the file (10 bytes)"},
        {"{}", 100000001, 0, "header length 100000001 is more than 100000000"},
        {"{}", INT64_MAX, 0, "header length 9223372036854775807 is more than"},
        {" {}", -1, 0, "the header does not begin with '{'"},
        {"[]", -1, 0, "the header does not begin with '{'"},
        {"{\"t\":", -1, 0, "m.safetensors: header:1:6: text ends where a value is expected"},
        {"{}x", -1, 0, "m.safetensors: header:1:3: text goes on after the value"},
        {"{}", -1, 5, "5 bytes at the end of the file belong to no tensor"},
        {"{\"__metadata__\":{\"a\":1}}", -1, 0, "__metadata__ must be an object of strings"},
        {"{\"__metadata__\":[]}", -1, 0, "__metadata__ must be an object of strings"},
        {"{\"t\":1}", -1, 0, "tensor 't': must be an object with dtype, shape and data_offsets"},
        {"{\"t\":{}}", -1, 0, "tensor 't': dtype must be a string"},
        {"{\"t\\u0000\":{}}", -1, 0, "tensor 't...': the name holds a NUL character"},
        {"{\"t\":{\"dtype\":8}}", -1, 0, "tensor 't': dtype must be a string"},
        {ONE("F4", "[3]", "[0,2]"), -1, 2, "tensor 't': its elements do not fill whole bytes"},
        {ONE("F6_E2M3", "[4]", "[0,4]"), -1, 4,
            "tensor 't': data_offsets give 4 bytes, but dtype and shape ask for 3"},
        {"{\"t\":{\"dtype\":\"U8\",\"data_offsets\":[0,0]}}", -1, 0, "tensor 't': shape must be a list"},
        {"{\"t\":{\"dtype\":\"U8\",\"shape\":[1]}}", -1, 0, "tensor 't': data_offsets must be [begin, end]"},
        {ONE("F5", "[2]", "[0,1]"), -1, 1, "tensor 't': unknown dtype 'F5'"},
        {ONE("bf16", "[1]", "[0,2]"), -1, 2, "tensor 't': unknown dtype 'bf16'"},
        {ONE("U8", "4", "[0,4]"), -1, 4, "tensor 't': shape must be a list of sizes"},
        {ONE("U8",
             "[" TEN_ONES "," TEN_ONES "," TEN_ONES "," TEN_ONES "," TEN_ONES "," TEN_ONES ",1,1,1,1,1]",
             "[0,1]"),
            -1, 1, "tensor 't': shape has 65 sizes; at most 64 are read"},
        {ONE("U8", "[2,-1]", "[0,4]"), -1, 4,
            "tensor 't': size 1 of its shape must be an integer of at least 0"},
        {ONE("U8", "[2.0]", "[0,4]"), -1, 4, "tensor 't': size 0 of its shape must be an integer"},
        {ONE("U8", "[\"4\"]", "[0,4]"), -1, 4, "tensor 't': size 0 of its shape must be an integer"},
        {ONE("U8", "[9223372036854775808]", "[0,4]"), -1, 4, "tensor 't': size 0 of its shape must be"},
        {ONE("U8", "[4294967296,4294967296]", "[0,4]"), -1, 4,
            "tensor 't': the size of its shape overflows 64 bits"},
        {ONE("F64", "[2305843009213693952]", "[0,4]"), -1, 4,
            "tensor 't': the size of its shape overflows 64 bits"},
        {ONE("U8", "[4]", "[0]"), -1, 4, "tensor 't': data_offsets must be [begin, end]"},
        {ONE("U8", "[4]", "[0,4,4]"), -1, 4, "tensor 't': data_offsets must be [begin, end]"},
        {ONE("U8", "[4]", "[0,4.0]"), -1, 4, "tensor 't': data_offsets must be two integers"},
        {ONE("U8", "[4]", "[-4,0]"), -1, 4, "tensor 't': data_offsets must be two integers"},
        {ONE("U8", "[4]", "[4,0]"), -1, 4,
            "tensor 't': data_offsets must be two integers with 0 <= begin <= end"},
        {ONE("U8", "[4]", "[0,4]"), -1, 3, "tensor 't': ends at byte 4 of the data, but the file has only 3"},
        {ONE("U8", "[4]", "[0,9223372036854775807]"), -1, 4, "tensor 't': ends at byte 9223372036854775807"},
        {ONE("BF16", "[4]", "[0,4]"), -1, 4, "data_offsets give 4 bytes, but dtype and shape ask for 8"},
        {ONE("U8", "[4]", "[0,4]"), -1, 5, "1 bytes at the end of the file belong to no tensor"},
        {ONE("U8", "[4]", "[2,6]"), -1, 6, "2 bytes before tensor 't' belong to no tensor"},
        {TWO("[0,4]", "[5,9]"), -1, 9, "1 bytes before tensor 'u' belong to no tensor"},
        {TWO("[0,4]", "[3,7]"), -1, 7, "tensor 'u' overlaps tensor 't'"},
        {TWO("[0,4]", "[0,4]"), -1, 4, "tensor 'u' overlaps tensor 't'"},
        {"{\"t\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]},"
         "\"t\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}",
            -1, 0, "header:1:54: name \"t\" occurs twice"},
    };
    fixture f;
    if (!begin(&f))
        SKIP("no directory can be made here");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        qc_st_set set;
        const char *path =
            write_file(&f, "m.safetensors", rows[i].header, rows[i].data_bytes, rows[i].header_length);
        CHECK_INT(qc_st_open_file(&f.diag, &f.arena, path, &set), QC_ERROR);
        CHECK(said(&f.m, "/m.safetensors: "));
        CHECK(said(&f.m, rows[i].message));
        CHECK_INT(f.m.count, i + 1);
        CHECK_INT(set.file_count, 0);
    }
    qc_st_set set;
    const char *path = qc_path_join(&f.arena, f.directory, "short");
    CHECK_INT(qc_write_file(&f.diag, path, "1234567", 7), QC_OK);
    CHECK_INT(qc_st_open_file(&f.diag, &f.arena, path, &set), QC_ERROR);
    CHECK(said(&f.m, "/short: is too short for a safetensors file: 7 bytes"));
    CHECK_INT(qc_st_open_file(&f.diag, &f.arena, f.directory, &set), QC_ERROR);
    CHECK(said(&f.m, "is not a plain file"));
    const char *pipe_path = qc_path_join(&f.arena, f.directory, "pipe");
    CHECK_INT(mkfifo(pipe_path, 0600), 0); /* nobody writes to it: waiting for it would never end */
    CHECK_INT(qc_st_open_file(&f.diag, &f.arena, pipe_path, &set), QC_ERROR);
    CHECK(said(&f.m, "/pipe: is not a plain file"));
    CHECK_INT(qc_st_open_file(&f.diag, &f.arena, "no/such", &set), QC_ERROR);
    CHECK(said(&f.m, "no/such: cannot open: No such file"));
    end(&f);
}

static void write_index(fixture *f, const char *weight_map)
{
    const char *text =
        qc_arena_printf(&f->arena, "{\"metadata\": {\"total_size\": 8}, \"weight_map\": %s}", weight_map);
    CHECK_INT(qc_write_file(&f->diag, qc_path_join(&f->arena, f->directory, "model.safetensors.index.json"),
                  text, strlen(text)),
        QC_OK);
}

static void test_shards(void)
{
    fixture f;
    if (!begin(&f))
        SKIP("no directory can be made here");
    qc_st_set set;
    CHECK_INT(qc_st_open_directory(&f.diag, &f.arena, f.directory, &set), QC_ERROR);
    CHECK(said(&f.m, "holds neither model.safetensors.index.json nor model.safetensors"));
    CHECK_INT(qc_st_open_directory(&f.diag, &f.arena, "no/such", &set), QC_ERROR);
    CHECK(said(&f.m, "no/such: is not a directory"));
    write_file(&f, "model.safetensors", ONE("U8", "[4]", "[0,4]"), 4, -1);
    CHECK_INT(qc_st_open_directory(&f.diag, &f.arena, f.directory, &set), QC_OK);
    CHECK_INT(set.tensor_count, 1);
    qc_st_close(&set);
    /* the index goes first; b.st also holds a tensor t, which the index puts elsewhere, and one it does not
     * know */
    write_file(&f, "b.st", TWO("[0,4]", "[4,8]"), 8, -1);
    write_file(&f, "a.st", "{\"v\":{\"dtype\":\"I16\",\"shape\":[1],\"data_offsets\":[0,2]}}", 2, -1);
    write_index(&f, "{\"u\": \"b.st\", \"v\": \"a.st\"}");
    CHECK_INT(qc_st_open_directory(&f.diag, &f.arena, f.directory, &set), QC_OK);
    CHECK_INT(set.file_count, 2);
    CHECK_INT(set.tensor_count, 2);
    CHECK(set.file_count == 2 && strcmp(set.files[0].name, "a.st") == 0);
    CHECK(qc_st_find(&set, "t") == NULL);
    CHECK_INT(set.unlisted_count, 1);
    CHECK_STR(set.unlisted_name, "t");
    const qc_st_tensor *u = qc_st_find(&set, "u");
    unsigned char bytes[4] = {0};
    CHECK_INT(u ? u->file : 9, 1);
    CHECK_INT(u ? qc_st_read(&f.diag, &set, u, bytes) : 1, QC_OK);
    CHECK(bytes[0] == 4 && bytes[3] == 7);
    qc_st_close(&set);
    end(&f);
}

static void test_malformed_indexes(void)
{
    static const struct {
        const char *weight_map, *message;
    } rows[] = {
        {"{}", "index.json: weight_map must be an object"},
        {"[]", "index.json: weight_map must be an object"},
        {"null", "index.json: weight_map must be an object"},
        {"{\"t\": 1}", "weight_map of tensor 't' must be the name of a file"},
        {"{\"t\": \"\"}", "weight_map of tensor 't' must be the name of a file"},
        {"{\"t\": \"a\\u0000\"}", "weight_map of tensor 't' must be the name of a file"},
        {"{\"t\\u0000\": \"a.st\"}", "tensor 't...': the name holds a NUL character"},
        {"{\"t\": \"../a.st\"}", "shard '../a.st' of tensor 't' must be a plain name"},
        {"{\"t\": \"sub/a.st\"}", "shard 'sub/a.st' of tensor 't' must be a plain name"},
        {"{\"t\": \"..\"}", "shard '..' of tensor 't' must be a plain name"},
        {"{\"t\": \"none.st\"}", "index.json: shard 'none.st' is missing, which holds tensor 't'"},
        {"{\"t\": \"a.st\", \"w\": \"a.st\"}", "index.json: tensor 'w' is not in shard 'a.st'"},
        {"{\"t\": \"b.st\"}", "index.json: tensor 't' is not in shard 'b.st'"},
        {"{\"t\": \"bad.st\"}", "bad.st: the header does not begin with '{'"},
        {"{\"t\": \"a.st\",}", "index.json:1:60: expected a name in double quotes"},
    };
    fixture f;
    if (!begin(&f))
        SKIP("no directory can be made here");
    write_file(&f, "a.st", ONE("U8", "[4]", "[0,4]"), 4, -1);
    write_file(&f, "b.st", "{}", 0, -1);
    write_file(&f, "bad.st", "x", 0, -1);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        qc_st_set set;
        write_index(&f, rows[i].weight_map);
        CHECK_INT(qc_st_open_directory(&f.diag, &f.arena, f.directory, &set), QC_ERROR);
        CHECK(said(&f.m, rows[i].message));
        CHECK_INT(f.m.count, i + 1);
        CHECK_INT(set.file_count, 0);
    }
    qc_st_set set; /* every missing shard is named */
    int before = f.m.count;
    write_index(&f, "{\"t\": \"x.st\", \"u\": \"a.st\", \"v\": \"y.st\", \"w\": \"x.st\"}");
    CHECK_INT(qc_st_open_directory(&f.diag, &f.arena, f.directory, &set), QC_ERROR);
    CHECK_INT(f.m.count - before, 2);
    CHECK(said(&f.m, "shard 'y.st' is missing, which holds tensor 'v'"));
    end(&f);
}

static void test_dtypes(void)
{
    CHECK_INT(qc_st_dtype_bits("BOOL"), 8);
    CHECK_INT(qc_st_dtype_bits("F8_E4M3"), 8);
    CHECK_INT(qc_st_dtype_bits("BF16"), 16);
    CHECK_INT(qc_st_dtype_bits("U32"), 32);
    CHECK_INT(qc_st_dtype_bits("F64"), 64);
    CHECK_INT(qc_st_dtype_bits("F4"), 4);
    CHECK_INT(qc_st_dtype_bits("F5"), 0);
    CHECK_INT(qc_st_dtype_bits(""), 0);
}

/* The expected bytes are what safetensors.serialize of the Python package 0.8.0 gives for the same tensors.
 */
static void test_layout(void)
{
    static const int64_t one[] = {1}, none[] = {0}, grid[] = {2, 3}, four[] = {4};
    qc_st_out tensors[] = {{"BOOL", "BOOL", 1, one}, {"F4", "F4", 1, four}, {"F6_E2M3", "F6_E2M3", 1, four},
        {"F6_E3M2", "F6_E3M2", 1, four}, {"U8", "U8", 1, one}, {"I8", "I8", 1, one},
        {"F8_E5M2", "F8_E5M2", 1, one}, {"F8_E4M3", "F8_E4M3", 1, one}, {"F8_E8M0", "F8_E8M0", 1, one},
        {"F8_E4M3FNUZ", "F8_E4M3FNUZ", 1, one}, {"F8_E5M2FNUZ", "F8_E5M2FNUZ", 1, one},
        {"I16", "I16", 1, one}, {"U16", "U16", 1, one}, {"F16", "F16", 1, one}, {"b", "BF16", 2, grid},
        {"a", "BF16", 0, NULL}, {"B", "BF16", 1, none}, {"I32", "I32", 1, one}, {"U32", "U32", 1, one},
        {"F32", "F32", 1, one}, {"C64", "C64", 1, one}, {"F64", "F64", 1, one}, {"I64", "I64", 1, one},
        {"U64", "U64", 1, one}};
    enum { COUNT = sizeof tensors / sizeof *tensors };
    static const char *const order[] = {"U64", "I64", "F64", "C64", "F32", "U32", "I32", "B", "a", "b", "F16",
        "U16", "I16", "F8_E5M2FNUZ", "F8_E4M3FNUZ", "F8_E8M0", "F8_E4M3", "F8_E5M2", "I8", "U8", "F6_E3M2",
        "F6_E2M3", "F4", "BOOL"};
    qc_arena arena;
    qc_arena_init(&arena, NULL);
    qc_diag diag;
    qc_diag_init(&diag, &arena, NULL, NULL);
    char *header;
    size_t header_bytes;
    CHECK_INT(qc_st_layout(&diag, &arena, tensors, COUNT, false, &header, &header_bytes), QC_OK);
    for (int i = 0; i < COUNT; i++) {
        CHECK_STR(tensors[i].name, order[i]);
        CHECK_INT(tensors[i].offset_bytes, i ? tensors[i - 1].offset_bytes + tensors[i - 1].size_bytes : 0);
    }
    CHECK_INT(header_bytes % 8, 0);
    qc_st_out odd[] = {{"a\"b\\", "U8", 1, one}, {"\n\t\x01\b\f\\u0008\x7f\xc3\xa9", "U8", 2, grid}};
    CHECK_INT(qc_st_layout(&diag, &arena, odd, 2, true, &header, &header_bytes), QC_OK);
    static const char expected[] =
        "\xa8\0\0\0\0\0\0\0{\"__metadata__\":{\"format\":\"pt\"},"
        "\"\\n\\t\\u0001\\b\\f\\\\u0008\x7f\xc3\xa9\":{\"dtype\":\"U8\",\"shape\":[2,3],\"data_offsets\":[0,"
        "6]},"
        "\"a\\\"b\\\\\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[6,7]}}  ";
    CHECK_INT(header_bytes, sizeof expected - 1);
    CHECK(memcmp(header, expected, sizeof expected - 1) == 0);
    CHECK_INT(qc_st_layout(&diag, &arena, NULL, 0, false, &header, &header_bytes), QC_OK);
    CHECK(header_bytes == 16 && memcmp(header, "\x08\0\0\0\0\0\0\0{}      ", 16) == 0);
    qc_arena_fini(&arena);
}

static void test_layout_errors(void)
{
    static const int64_t one[] = {1}, huge[] = {INT64_MAX / 2, 4}, half[] = {INT64_MAX / 2 + 2},
                         negative[] = {2, -1};
    static const struct {
        qc_st_out tensors[2];
        const char *message;
    } rows[] = {
        {{{"t", "U8", 1, one}, {"t", "BF16", 1, one}}, "t: two tensors to write have this name"},
        {{{"t", "U8", 1, one}, {"u", "F5", 1, one}}, "u: safetensors has no dtype 'F5'"},
        {{{"t", "U8", 1, one}, {"u", "F4", 1, one}}, "u: its elements do not fill whole bytes"},
        {{{"t", "U8", 1, one}, {"u", "", 1, one}}, "u: safetensors has no dtype ''"},
        {{{"t", "U8", 1, one}, {"u\xff", "U8", 1, one}}, "name of a tensor to write is not valid UTF-8"},
        {{{"__metadata__", "U8", 1, one}, {"u", "U8", 1, one}}, "__metadata__: is no name for a tensor"},
        {{{"t", "U8", 2, huge}, {"u", "U8", 1, one}}, "t: the size of its shape overflows"},
        {{{"t", "U8", 2, negative}, {"u", "U8", 1, one}}, "t: size 1 of the shape to write is negative"},
        {{{"t", "U8", 1, half}, {"u", "U8", 1, half}}, "u: the file to write would be larger than 63 bits"},
    };
    qc_arena arena;
    qc_arena_init(&arena, NULL);
    messages m = {0};
    qc_diag diag;
    qc_diag_init(&diag, &arena, keep_message, &m);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        qc_st_out tensors[2];
        memcpy(tensors, rows[i].tensors, sizeof tensors);
        char *header;
        size_t header_bytes;
        CHECK_INT(qc_st_layout(&diag, &arena, tensors, 2, true, &header, &header_bytes), QC_ERROR);
        CHECK(said(&m, rows[i].message));
        CHECK_INT(m.count, i + 1);
    }
    qc_arena_fini(&arena);
}

/* Lays 10,000 tensors out, writes the file sparsely, opens it again. */
static void test_many_tensors(void)
{
    enum { COUNT = 10000 };
    fixture f;
    if (!begin(&f))
        SKIP("no directory can be made here");
    static const int64_t shape[] = {128, 64};
    qc_st_out *tensors = QC_NEW_ARRAY(&f.arena, qc_st_out, COUNT);
    for (int i = 0; i < COUNT; i++)
        tensors[i] = (qc_st_out){.name = qc_arena_printf(&f.arena, "model.layers.%d.mlp.down_proj.weight", i),
            .dtype = i % 3 ? "BF16" : "F32",
            .rank = 2,
            .shape = shape};
    char *header;
    size_t header_bytes;
    CHECK_INT(qc_st_layout(&f.diag, &f.arena, tensors, COUNT, true, &header, &header_bytes), QC_OK);
    const char *path = qc_path_join(&f.arena, f.directory, "model.safetensors");
    CHECK_INT(qc_write_file(&f.diag, path, header, header_bytes), QC_OK);
    const qc_st_out *last = &tensors[COUNT - 1];
    CHECK_INT(truncate(path, (off_t)(header_bytes + last->offset_bytes + last->size_bytes)), 0);
    qc_st_set set;
    CHECK_INT(qc_st_open_directory(&f.diag, &f.arena, f.directory, &set), QC_OK);
    CHECK_INT(set.tensor_count, COUNT);
    int wrong = 0;
    for (int i = 0; i < COUNT && set.tensor_count == COUNT; i++) {
        const qc_st_tensor *tensor = qc_st_find(&set, tensors[i].name);
        wrong += tensor != &set.tensors[i] || tensor->offset_bytes != header_bytes + tensors[i].offset_bytes;
    }
    CHECK_INT(wrong, 0);
    qc_st_close(&set);
    end(&f);
}

/* The header that the layout gives for a file's own tensors must be the file's own header. */
static void check_rebuilt(qc_diag *diag, qc_arena *arena, const char *path)
{
    qc_st_set set;
    CHECK_INT(qc_st_open_file(diag, arena, path, &set), QC_OK);
    if (!set.file_count)
        return;
    qc_st_out *tensors = QC_NEW_ARRAY(arena, qc_st_out, set.tensor_count);
    for (size_t i = 0; i < set.tensor_count; i++) {
        const qc_st_tensor *t = &set.tensors[set.tensor_count - 1 - i]; /* in another order than the file's */
        tensors[i] = (qc_st_out){.name = t->name, .dtype = t->dtype, .rank = t->rank, .shape = t->shape};
    }
    size_t length = (size_t)set.files[0].header_bytes, rebuilt_bytes = 0;
    char *text = qc_arena_alloc(arena, length + 1), *rebuilt = NULL;
    CHECK_INT(qc_pread_all(diag, set.files[0].fd, path, text, length, 0), QC_OK);
    bool metadata = strncmp(text + 8, "{\"__metadata__\"", 15) == 0;
    CHECK_INT(
        qc_st_layout(diag, arena, tensors, set.tensor_count, metadata, &rebuilt, &rebuilt_bytes), QC_OK);
    bool same = rebuilt && rebuilt_bytes == length && memcmp(rebuilt, text, length) == 0;
    if (!same)
        printf("# %s: header differs\n", path);
    CHECK(same);
    for (size_t i = 0; i < set.tensor_count; i++)
        CHECK_STR(tensors[i].name, set.tensors[i].name);
    qc_st_close(&set);
}

static void test_real_files(void)
{
    qc_arena arena;
    qc_arena_init(&arena, NULL);
    messages m = {0};
    qc_diag diag;
    qc_diag_init(&diag, &arena, keep_message, &m);
    const char *root = getenv("QC_SOURCE_ROOT"), *data = getenv("QC_DATA");
    const char *folder = qc_path_join(
        &arena, data ? data : qc_path_join(&arena, root ? root : ".", "../shared/data"), "goldens");
    char **names;
    size_t count = 0;
    int seen = 0;
    if (qc_is_directory(folder))
        CHECK_INT(qc_list_directory(&diag, &arena, folder, &names, &count), QC_OK);
    for (size_t i = 0; i < count; i++) {
        const char *directory = qc_path_join(&arena, folder, names[i]);
        const char *path = qc_path_join(&arena, directory, "model.safetensors");
        if (!qc_is_file(path))
            continue;
        check_rebuilt(&diag, &arena, path);
        qc_st_set set;
        CHECK_INT(qc_st_open_directory(&diag, &arena, directory, &set), QC_OK);
        qc_st_close(&set);
        seen++;
    }
    if (m.count)
        printf("# %s\n", m.last);
    CHECK_INT(m.count, 0);
    qc_arena_fini(&arena);
    if (!seen)
        SKIP("no model data (QC_DATA)");
    printf("# rebuilt %d headers\n", seen);
}

int main(void)
{
    RUN(test_open_file);
    RUN(test_header_hash);
    RUN(test_malformed_files);
    RUN(test_shards);
    RUN(test_malformed_indexes);
    RUN(test_dtypes);
    RUN(test_layout);
    RUN(test_layout_errors);
    RUN(test_many_tensors);
    RUN(test_real_files);
    return check_done();
}
