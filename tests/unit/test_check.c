/* SPDX-License-Identifier: MIT
 *
 * test_check.c - what qc-check says: listing, contradictions, and every kind of difference between two checkpoints.
 */
#include "tests/unit/check_pair.h"

static const uint16_t bf16_row[4] = {0x3f80, 0x4000, 0x0000, 0xbf80}; /* 1, 2, 0, -1 */
static const uint16_t bf16_near[4] = {0x3f81, 0x4000, 0x8000, 0xbf7e};
static const uint8_t codes[8] = {1, 2, 3, 4, 5, 6, 7, 8};
static const uint16_t scales[2] = {0x3c00, 0x3d00};
static const uint16_t bad_scales[2] = {0x3c00, 0x0000};
static const int8_t ints[3] = {-128, 0, 127}, other_ints[3] = {127, 0, 126};

static qc_status list(pair *p, const char *path, bool json)
{
    qc_str_clear(&p->out);
    return qc_check_list(
        &p->diag, &p->arena, path, &(qc_check_list_options){.json = json}, &p->out, &p->count);
}

static qc_status diff_with(pair *p, const qc_check_diff_options *options)
{
    qc_str_clear(&p->out);
    p->count = 0;
    return qc_check_diff(&p->diag, &p->arena, p->a, p->b, options, &p->out, &p->count);
}

static qc_status diff(pair *p)
{
    return diff_with(p, &(qc_check_diff_options){.tensors = true, .config = true, .files = true});
}

static const char quantized_config[] =
    "{\"quantization_config\": {\"config_groups\": {\"group_0\": {\"format\": \"float-quantized\","
    " \"input_activations\": {\"dynamic\": true, \"num_bits\": 8, \"strategy\": \"token\", \"symmetric\": "
    "true,"
    " \"type\": \"float\"}, \"targets\": [\"Linear\"], \"weights\": {\"dynamic\": false, \"num_bits\": 8,"
    " \"observer\": \"memoryless_minmax\", \"strategy\": \"channel\", \"symmetric\": true, \"type\": "
    "\"float\"}}},"
    " \"format\": \"float-quantized\", \"ignore\": [\"lm_head\"], \"kv_cache_scheme\": {\"dynamic\": false,"
    " \"num_bits\": 8, \"strategy\": \"tensor\", \"symmetric\": true, \"type\": \"float\"},"
    " \"quant_method\": \"compressed-tensors\", \"version\": \"0.19.0\"}}";

static void test_list(void)
{
    BEGIN();
    const item items[] = {
        {"l.up_proj.weight", "F8_E4M3", 2, {2, 4}, codes},
        {"l.up_proj.weight_scale", "BF16", 2, {2, 1}, scales},
        {"n\nx", "BF16", 1, {4}, bf16_row},
    };
    write_checkpoint(p, p->a, items, 3, quantized_config);
    CHECK_INT(list(p, p->a, false), QC_OK);
    CHECK_INT(p->count, 0);
    CHECK(printed(p, "l.up_proj.weight        F8_E4M3   [2, 4]            8\n"));
    CHECK(printed(p, "l.up_proj.weight_scale  BF16      [2, 1]            4\n"));
    CHECK(printed(p, "n\\x0ax "));
    CHECK(printed(p, "3 tensors in 1 file, 20 bytes: F8_E4M3 8, BF16 12\n"));
    CHECK(printed(p, "quantization: compressed-tensors 0.19.0, format float-quantized\n"));
    CHECK(printed(p, "  group_0: Linear\n    weights: 8-bit float, channel, static (memoryless_minmax)\n"
                     "    inputs: 8-bit float, token, dynamic\n"));
    CHECK(printed(p, "  KV cache: 8-bit float, tensor, static (no observer named)\n  ignored: lm_head\n"));
    CHECK(printed(p, "scales: 1 of weights, 0 of inputs; of attention 0 q, 0 k, 0 v\n"));

    CHECK_INT(list(p, p->a, true), QC_OK);
    qc_json *json = qc_json_parse(&p->diag, &p->arena, "out", p->out.data, p->out.length);
    CHECK(json != NULL);
    CHECK_INT(json ? qc_json_get(json, "tensors")->length : 0, 3);
    CHECK_INT(json ? qc_json_get(json, "elements")->integer : 0, 14);
    CHECK_INT(json ? qc_json_get(json, "bytes")->integer : 0, 20);
    CHECK_STR(json ? qc_json_get(qc_json_get(json, "quantization_config"), "version")->text : "", "0.19.0");

    CHECK_INT(list(p, qc_path_join(&p->arena, p->a, "model.safetensors"), false), QC_OK);
    CHECK(printed(p, "quantization: none\n"));
    end(p);
}

static void test_contradictions(void)
{
    BEGIN();
    const item items[] = {
        {"a.weight", "F8_E4M3", 2, {2, 4}, codes},
        {"b.weight_scale", "BF16", 2, {2, 1}, scales},
        {"c.weight", "F8_E4M3", 2, {2, 4}, codes},
        {"c.weight_scale", "BF16", 2, {2, 1}, bad_scales},
        {"s.k_proj.weight", "BF16", 1, {4}, bf16_row},
        {"t.k_proj.weight", "BF16", 1, {4}, bf16_row},
        {"t.k_scale", "BF16", 1, {1}, scales},
        {"u.weight", "BF16", 1, {4}, bf16_row},
        {"u.weight_scale", "BF16", 1, {1}, scales},
    };
    write_checkpoint(p, p->a, items, 9, quantized_config);
    CHECK_INT(list(p, p->a, false), QC_OK);
    CHECK_INT(p->count, 6);
    CHECK(printed(p, "problem: a.weight has no weight_scale beside it\n"));
    CHECK(printed(p, "problem: b.weight_scale has no weight beside it\n"));
    CHECK(printed(p, "problem: c.weight_scale holds 0 (element 1): a scale must be positive and finite\n"));
    CHECK(printed(p, "problem: s.k_proj.weight has no k_scale beside it\n"));
    CHECK(printed(p, "problem: t.k_scale has no v_scale beside it\n"));
    CHECK(printed(p, "problem: u.weight is BF16 although it has a weight_scale\n"));
    write_text(p, p->a, "config.json", "{}");
    CHECK_INT(list(p, p->a, false), QC_OK);
    CHECK_INT(p->count, 0);
    end(p);
}

static const item base[] = {
    {"f", "BF16", 1, {4}, bf16_row},
    {"i", "I8", 1, {3}, ints},
    {"w", "F8_E4M3", 2, {2, 4}, codes},
};

static void test_equal(void)
{
    BEGIN();
    write_checkpoint(p, p->a, base, 3, "{\"x\": 1}");
    write_checkpoint(p, p->b, base, 3, "{\"x\": 1}");
    write_text(p, p->b, "meta.json", "a golden's note");
    CHECK_INT(diff(p), QC_OK);
    CHECK_INT(p->count, 0);
    CHECK_STR(p->out.data, "equal: 3 tensors, config.json, 2 files\n");
    CHECK_INT(diff_with(p, &(qc_check_diff_options){.config = true, .json = true}), QC_OK);
    CHECK(printed(p, "\"equal\": true"));
    end(p);
}

static void test_tensors_differ(void)
{
    BEGIN();
    const item other[] = {
        {"f", "BF16", 1, {4}, bf16_near},
        {"g", "BF16", 1, {4}, bf16_row},
        {"i", "I8", 1, {3}, other_ints},
        {"w", "F8_E4M3", 2, {4, 2}, codes},
    };
    const item mine[] = {base[0], base[1], base[2], {"h", "I8", 1, {3}, ints}};
    write_checkpoint(p, p->a, mine, 4, NULL);
    write_checkpoint(p, p->b, other, 4, NULL);
    CHECK_INT(diff_with(p, &(qc_check_diff_options){.tensors = true}), QC_OK);
    CHECK_INT(p->count, 5);
    CHECK(printed(p, "tensor f: 3 of 4 elements differ, by at most 2 ulp; first at [0]: 1 != 1.0078125\n"));
    CHECK(printed(p, "tensor i: 2 of 3 elements differ, by at most 255; first at [0]: -128 != 127\n"));
    CHECK(printed(p, "tensor w: shape [2, 4] != [4, 2]\n"));
    CHECK(printed(p, "/b\n5 differences\n"));
    CHECK(printed(p, "tensor g: only in "));
    CHECK(printed(p, "tensor h: only in "));
    const item typed[] = {{"f", "F16", 1, {4}, bf16_row}, base[1], base[2]};
    write_checkpoint(p, p->a, base, 3, NULL);
    write_checkpoint(p, p->b, typed, 3, NULL);
    CHECK_INT(diff_with(p, &(qc_check_diff_options){.tensors = true}), QC_OK);
    CHECK(printed(p, "tensor f: dtype BF16 != F16\n1 difference\n"));
    end(p);
}

static void test_nan_differs(void)
{
    static const uint16_t with_nan[4] = {0x7fc0, 0x4000, 0x0000, 0xbf80};
    BEGIN();
    const item other[] = {{"f", "BF16", 1, {4}, with_nan}, base[1], base[2]};
    write_checkpoint(p, p->a, base, 3, NULL);
    write_checkpoint(p, p->b, other, 3, NULL);
    CHECK_INT(diff_with(p, &(qc_check_diff_options){.tensors = true}), QC_OK);
    CHECK(printed(p, "tensor f: 1 of 4 elements differ, by at most 0 ulp, 1 are NaN on one side only; first "
                     "at [0]: 1 != "));
    end(p);
}

static void test_config_differs(void)
{
    BEGIN();
    write_checkpoint(p, p->a, base, 3,
        "{\"a\": {\"b\": [1, 2, {\"c\": \"x\"}]}, \"n\": 10000.0, \"t\": true, \"only\": 1, \"l\": [1]}");
    write_checkpoint(p, p->b, base, 3,
        "{\"a\": {\"b\": [1, 3, {\"c\": \"y\"}]}, \"n\": 1e4, \"t\": null, \"too\": [], \"l\": [1, 2]}");
    CHECK_INT(diff_with(p, &(qc_check_diff_options){.config = true}), QC_OK);
    CHECK_INT(p->count, 6);
    CHECK(printed(p, "config a.b[1]: 2 != 3\n"));
    CHECK(printed(p, "config a.b[2].c: \"x\" != \"y\"\n"));
    CHECK(printed(p, "config t: true != null\n"));
    CHECK(printed(p, "config only: only in "));
    CHECK(printed(p, "config too: only in "));
    CHECK(printed(p, "config l: [1] != [1, 2]\n"));
    CHECK_INT(unlink(qc_path_join(&p->arena, p->b, "config.json")), 0);
    CHECK_INT(diff_with(p, &(qc_check_diff_options){.config = true}), QC_OK);
    CHECK(printed(p, "config config.json: only in "));
    end(p);
}

static void test_files_differ(void)
{
    BEGIN();
    write_checkpoint(p, p->a, base, 3, "{\"x\": 1}");
    write_checkpoint(p, p->b, base, 3, "{\"x\":  1}");
    write_text(p, p->a, "same.txt", "same");
    write_text(p, p->b, "same.txt", "same");
    write_text(p, p->a, "tokenizer.json", "abc");
    write_text(p, p->b, "tokenizer.json", "abd");
    write_text(p, p->a, "left.txt", "");
    write_text(p, p->b, "right.txt", "");
    CHECK_INT(diff(p), QC_OK);
    CHECK_INT(p->count, 4);
    CHECK(printed(p, "file config.json: 8 bytes != 9\n"));
    CHECK(printed(p, "file tokenizer.json: the bytes differ (3 of them, sha256 ba7816bf8f01cfea... != "));
    CHECK(printed(p, "file left.txt: only in "));
    CHECK(printed(p, "file right.txt: only in "));
    end(p);
}

/* A golden of the checkpoint in a/, made by hand: digests of everything, and one tensor kept. */
static void write_golden(pair *p, const char *digest_of_f, const item *kept)
{
    mkdir(p->b, 0777);
    qc_st_set set;
    CHECK_INT(qc_st_open_directory(&p->diag, &p->arena, p->a, &set), QC_OK);
    char *data;
    size_t length;
    CHECK_INT(qc_read_file(&p->diag, &p->arena, set.files[0].path, 1 << 20, &data, &length), QC_OK);
    char whole[65], header[65];
    qc_sha256 h;
    qc_sha256_init(&h);
    qc_sha256_add(&h, data, length);
    qc_sha256_hex(&h, whole);
    qc_sha256_init(&h);
    qc_sha256_add(&h, data + 8, (size_t)set.files[0].header_bytes - 8);
    qc_sha256_hex(&h, header);
    qc_str text;
    qc_str_init(&text, &p->arena);
    qc_str_addf(&text,
        "{\"files\": {\"model.safetensors\": {\"bytes\": %zu, \"sha256\": \"%s\", \"header_sha256\": "
        "\"%s\"}},",
        length, whole, header);
    qc_str_add(&text, " \"tensors\": {");
    for (size_t i = 0; i < set.tensor_count; i++) {
        const qc_st_tensor *t = &set.tensors[i];
        char hex[65];
        qc_sha256_init(&h);
        qc_sha256_add(&h, data + t->offset_bytes, (size_t)t->size_bytes);
        qc_sha256_hex(&h, hex);
        const char *digest = strcmp(t->name, "f") == 0 && digest_of_f ? digest_of_f : hex;
        qc_str_addf(&text, "%s\"%s\": {\"dtype\": \"%s\", \"shape\": [%lld%s], \"sha256\": \"%s\"}",
            i ? ", " : "", t->name, t->dtype, (long long)t->shape[0], t->rank == 2 ? ", 4" : "", digest);
    }
    qc_str_add(&text, "}}");
    write_text(p, p->b, "golden.json", text.data);
    qc_str_fini(&text);
    qc_st_close(&set);
    if (!kept)
        return;
    const char *scratch = qc_path_join(&p->arena, p->directory, "kept");
    write_checkpoint(p, scratch, kept, 1, NULL);
    CHECK_INT(qc_copy_file(&p->diag, qc_path_join(&p->arena, scratch, "model.safetensors"),
                  qc_path_join(&p->arena, p->b, "small.golden")),
        QC_OK);
}

static void test_golden(void)
{
    static const char wrong[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const item near = {"f", "BF16", 1, {4}, bf16_near};
    BEGIN();
    write_checkpoint(p, p->a, base, 3, NULL);
    write_golden(p, NULL, &base[0]);
    CHECK_INT(diff(p), QC_OK);
    CHECK_INT(p->count, 0);
    CHECK_STR(p->out.data, "equal: 3 tensors, 1 file\n");
    write_golden(p, wrong, &near);
    CHECK_INT(diff(p), QC_OK);
    CHECK_INT(p->count, 1);
    CHECK(printed(p, "tensor f: 3 of 4 elements differ, by at most 2 ulp"));
    CHECK_INT(unlink(qc_path_join(&p->arena, p->b, "small.golden")), 0);
    CHECK_INT(diff(p), QC_OK);
    CHECK(printed(p, "tensor f: the bytes differ: sha256 "));
    const item other[] = {base[0], base[1]};
    write_checkpoint(p, p->a, other, 2, NULL);
    CHECK_INT(diff(p), QC_OK);
    CHECK(printed(p, "tensor w: only in "));
    CHECK(printed(p, "file model.safetensors: the headers differ\n"));
    end(p);
}

static void test_errors(void)
{
    BEGIN();
    CHECK_INT(list(p, p->a, false), QC_ERROR);
    write_checkpoint(p, p->a, base, 3, "{\"x\": }");
    CHECK_INT(list(p, p->a, false), QC_ERROR);
    CHECK(said(&p->m, "config.json:1:7: "));
    CHECK_INT(diff(p), QC_ERROR);
    CHECK(said(&p->m, "/b: is no directory"));
    mkdir(p->b, 0777);
    write_text(p, p->b, "golden.json", "{\"tensors\": 3}");
    CHECK_INT(diff(p), QC_ERROR);
    CHECK(said(&p->m, "golden.json: has no object 'tensors'"));
    write_text(p, p->b, "golden.json", "{\"tensors\": {\"f\": {\"dtype\": \"BF16\"}}}");
    CHECK_INT(diff(p), QC_ERROR);
    CHECK(said(&p->m, "f: shape must be a list of integers"));
    const char *a = p->a;
    p->a = p->b;
    p->b = a;
    CHECK_INT(diff(p), QC_ERROR);
    CHECK(said(&p->m, "a golden is the second of the two"));
    end(p);
}

int main(void)
{
    RUN(test_list);
    RUN(test_contradictions);
    RUN(test_equal);
    RUN(test_tensors_differ);
    RUN(test_nan_differs);
    RUN(test_config_differs);
    RUN(test_files_differ);
    RUN(test_golden);
    RUN(test_errors);
    return check_done();
}
