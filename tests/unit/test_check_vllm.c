/* SPDX-License-Identifier: MIT
 *
 * test_check_vllm.c - the rules of qc-check over every format: a checkpoint that keeps them all, and for each rule one
 * that breaks it and nothing else. What contradicts itself is a problem; what vLLM refuses or misreads, a finding.
 */
#include "tests/unit/check_pair.h"

/* ---- a checkpoint to break ----------------------------------------------------------------------------- */

static const uint8_t zeros[4096];
static const uint8_t bytes_of_one[64] = {0x38, 0x38, 0x38, 0x38, 0x38, 0x38, 0x38, 0x38, 0x38, 0x38, 0x38,
    0x38, 0x38, 0x38, 0x38, 0x38, 0x38, 0x38, 0x38, 0x38, 0x38, 0x38, 0x38, 0x38, 0x38, 0x38, 0x38, 0x38,
    0x38, 0x38, 0x38, 0x38}; /* f8e4m3 1; as U8 a power of two */
static const uint16_t halves[64] = {0x3f00, 0x3f00, 0x3f00, 0x3f00, 0x3f00, 0x3f00, 0x3f00, 0x3f00, 0x3f00,
    0x3f00, 0x3f00, 0x3f00, 0x3f00, 0x3f00, 0x3f00, 0x3f00}; /* bf16 0.5 */
static const float global_a = 16, global_b = 8;
static const int64_t packed_shape[2] = {4, 64};

typedef struct model {
    item items[24];
    size_t count;
} model;

static void add(
    model *m, const char *name, const char *dtype, int rank, int64_t a, int64_t b, const void *bytes)
{
    m->items[m->count++] = (item){name, dtype, rank, {a, b}, bytes};
}

static item *find(model *m, const char *name)
{
    for (size_t i = 0; i < m->count; i++)
        if (strcmp(m->items[i].name, name) == 0)
            return &m->items[i];
    CHECK(!"no such tensor in this test");
    return &m->items[0];
}

static void drop(model *m, const char *name)
{
    item *gone = find(m, name);
    *gone = m->items[--m->count];
}

#define Q "model.layers.0.self_attn.q_proj"
#define K "model.layers.0.self_attn.k_proj"
#define ATTN "model.layers.0.self_attn"

/* q and k of 4 x 64, each with the tensors of one format: letters of `what`.
 *   f F8 codes   i I8 codes   p words of 4 bits   n nibbles   t scale of the tensor   c of channels   g of groups of 16
 *   m of groups of 32, exponents   e of groups of 16, f8e4m3   G global scale   x input scale   z its zero point */
static model make(const char *what)
{
    static const char *const paths[2][9] = {
        {Q ".weight", Q ".weight_packed", Q ".weight_shape", Q ".weight_scale", Q ".weight_global_scale",
            Q ".input_scale", Q ".input_zero_point", Q ".input_global_scale", Q ".weight_zero_point"},
        {K ".weight", K ".weight_packed", K ".weight_shape", K ".weight_scale", K ".weight_global_scale",
            K ".input_scale", K ".input_zero_point", K ".input_global_scale", K ".weight_zero_point"}};
    model m = {.count = 0};
    for (int i = 0; i < 2; i++)
        for (const char *w = what; *w; w++)
            switch (*w) {
            case 'f':
            case 'i':
                add(&m, paths[i][0], *w == 'f' ? "F8_E4M3" : "I8", 2, 4, 64, zeros);
                break;
            case 'p':
                add(&m, paths[i][1], "I32", 2, 4, 8, zeros);
                add(&m, paths[i][2], "I64", 1, 2, 0, packed_shape);
                break;
            case 'n':
                add(&m, paths[i][1], "U8", 2, 4, 32, zeros);
                break;
            case 't':
                add(&m, paths[i][3], "BF16", 1, 1, 0, halves);
                break;
            case 'c':
                add(&m, paths[i][3], "BF16", 2, 4, 1, halves);
                break;
            case 'g':
                add(&m, paths[i][3], "BF16", 2, 4, 4, halves);
                break;
            case 'm':
                add(&m, paths[i][3], "U8", 2, 4, 2, bytes_of_one);
                break;
            case 'e':
                add(&m, paths[i][3], "F8_E4M3", 2, 4, 4, bytes_of_one);
                break;
            case 'G':
                add(&m, paths[i][4], "F32", 1, 1, 0, &global_a);
                break;
            case 'x':
                add(&m, paths[i][5], "BF16", 1, 1, 0, halves);
                break;
            case 'z':
                add(&m, paths[i][6], "I8", 1, 1, 0, zeros);
                break;
            case 'X':
                add(&m, paths[i][7], "F32", 1, 1, 0, &global_a);
                break;
            case 'Z':
                add(&m, paths[i][8], "I32", 2, 1, 4, zeros);
                break;
            }
    return m;
}

/* Arguments, as config.json writes them. */
#define F8(more) "{\"num_bits\": 8, \"type\": \"float\", \"symmetric\": true, " more "}"
#define I8(more) "{\"num_bits\": 8, \"type\": \"int\", \"symmetric\": true, " more "}"
#define I4(more) "{\"num_bits\": 4, \"type\": \"int\", \"symmetric\": true, " more "}"
#define F4(more) "{\"num_bits\": 4, \"type\": \"float\", \"symmetric\": true, " more "}"
#define TENSOR "\"strategy\": \"tensor\""
#define CHANNEL "\"strategy\": \"channel\""
#define GROUP16 "\"strategy\": \"group\", \"group_size\": 16"
#define GROUP32 "\"strategy\": \"group\", \"group_size\": 32"
#define TOKEN "\"strategy\": \"token\", \"dynamic\": true"
#define NVFP4                                                                                                \
    F4("\"strategy\": \"tensor_group\", \"group_size\": 16, \"scale_dtype\": \"torch.float8_e4m3fn\"")
#define NVFP4_INPUT F4("\"strategy\": \"tensor_group\", \"group_size\": 16, \"dynamic\": \"local\"")
#define MX8 F8(GROUP32 ", \"scale_dtype\": \"torch.uint8\"")

#define GROUP(targets, weights, input, format)                                                               \
    "{\"targets\": [" targets "], \"weights\": " weights ", \"input_activations\": " input                   \
    ", \"output_activations\": null, \"format\": \"" format "\"}"
#define CONFIG(groups, more)                                                                                 \
    "{\"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"quantization_config\": {\"quant_method\": "  \
    "\"compressed-tensors\", \"config_groups\": {" groups "}, \"ignore\": [\"lm_head\"]" more "}}"
#define ONE(weights, input, format) CONFIG("\"group_0\": " GROUP("\"Linear\"", weights, input, format), "")

static qc_status judge(pair *p, const model *m, const char *config)
{
    write_checkpoint(p, p->a, m->items, m->count, config);
    qc_str_clear(&p->out);
    p->count = 0;
    return qc_check_list(
        &p->diag, &p->arena, p->a, &(qc_check_list_options){.target = "vllm"}, &p->out, &p->count);
}

/* Exactly this line is said, and no other. */
static void expect_line(pair *p, const model *m, const char *config, const char *line)
{
    CHECK_INT(judge(p, m, config), QC_OK);
    CHECK_INT(p->count, 1);
    if (!printed(p, line))
        CHECK(!"the line was not said");
}

static void expect_fine(pair *p, const model *m, const char *config, const char *kernel)
{
    CHECK_INT(judge(p, m, config), QC_OK);
    CHECK_INT(p->count, 0);
    if (!printed(p, "vllm: nothing against it\n") || !printed(p, kernel))
        CHECK(!"something was said against it");
}

/* ---- what is fine -------------------------------------------------------------------------------------- */

static void test_formats(void)
{
    static const struct {
        const char *tensors, *config, *kernel;
    } cases[] = {
        {"ftx", ONE(F8(TENSOR), F8(TENSOR), "float-quantized"), "group_0 is FP8 W8A8 "},
        {"fc", ONE(F8(CHANNEL), F8(TOKEN), "float-quantized"), "group_0 is FP8 W8A8 "},
        {"fc", ONE(F8(CHANNEL), "null", "naive-quantized"), "group_0 is FP8 W8A16"},
        {"ic", ONE(I8(CHANNEL), I8(TOKEN), "int-quantized"), "group_0 is INT8 W8A8, dynamic inputs"},
        {"icx", ONE(I8(CHANNEL), I8(TENSOR), "int-quantized"), "group_0 is INT8 W8A8, static inputs"},
        {"icxz",
            ONE(I8(CHANNEL),
                "{\"num_bits\": 8, \"type\": \"int\", \"symmetric\": false, \"strategy\": \"tensor\"}",
                "int-quantized"),
            "group_0 is INT8 W8A8, static inputs"},
        {"ig", ONE(I4(GROUP16), I8(TOKEN), "int-quantized"), "group_0 is W4A8, integers"},
        {"pg", ONE(I4(GROUP16), "null", "pack-quantized"), "group_0 is WNA16"},
        {"pc", ONE(I4(CHANNEL), "null", "pack-quantized"), "group_0 is WNA16"},
        {"pgZ",
            ONE("{\"num_bits\": 4, \"type\": \"int\", \"symmetric\": false, \"strategy\": \"group\", "
                "\"group_size\": "
                "16}",
                "null", "pack-quantized"),
            "group_0 is WNA16"},
        {"pg", ONE(I4(GROUP16), F8(TOKEN), "pack-quantized"), "group_0 is W4A8-FP8"},
        {"pg", ONE(I4(GROUP16), I8(TOKEN), "pack-quantized"),
            "group_0 is packed integers with integer inputs"},
        {"neG", ONE(NVFP4, "null", "nvfp4-pack-quantized"), "group_0 is NVFP4"},
        {"neGX", ONE(NVFP4, NVFP4_INPUT, "nvfp4-pack-quantized"), "group_0 is NVFP4"},
        {"nm", ONE(F4(GROUP32), "null", "mxfp4-pack-quantized"), "group_0 is MXFP4"},
        {"nm", ONE(F4(GROUP32), F4(GROUP32 ", \"dynamic\": true"), "mxfp4-pack-quantized"),
            "group_0 is MXFP4"},
        {"fm", ONE(MX8, F8(GROUP32 ", \"dynamic\": true"), "mxfp8-quantized"), "group_0 is MXFP8"},
    };
    BEGIN();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        model m = make(cases[i].tensors);
        expect_fine(p, &m, cases[i].config, cases[i].kernel);
    }
    end(p);
}

/* ---- contradictions ------------------------------------------------------------------------------------ */

static void test_tensors_that_are_missing(void)
{
    static const struct {
        const char *tensors, *config, *gone, *line;
    } cases[] = {
        {"ftx", ONE(F8(TENSOR), F8(TENSOR), "float-quantized"), Q ".weight_scale",
            "problem: " Q ".weight has no weight_scale beside it\n"},
        {"ftx", ONE(F8(TENSOR), F8(TENSOR), "float-quantized"), K ".input_scale",
            "problem: " K ".weight has no input_scale beside it\n"},
        {"pg", ONE(I4(GROUP16), "null", "pack-quantized"), Q ".weight_shape",
            "problem: " Q ".weight_packed has no weight_shape beside it\n"},
        {"neGX", ONE(NVFP4, NVFP4_INPUT, "nvfp4-pack-quantized"), Q ".weight_global_scale",
            "problem: " Q ".weight_packed has no weight_global_scale beside it\n"},
        {"neGX", ONE(NVFP4, NVFP4_INPUT, "nvfp4-pack-quantized"), K ".input_global_scale",
            "problem: " K ".weight_packed has no input_global_scale beside it\n"},
        {"icxz",
            ONE(I8(CHANNEL),
                "{\"num_bits\": 8, \"type\": \"int\", \"symmetric\": false, \"strategy\": \"tensor\"}",
                "int-quantized"),
            K ".input_zero_point", "problem: " K ".weight has no input_zero_point beside it\n"},
    };
    BEGIN();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        model m = make(cases[i].tensors);
        drop(&m, cases[i].gone);
        expect_line(p, &m, cases[i].config, cases[i].line);
    }
    end(p);
}

static void test_tensors_of_another_kind(void)
{
    static const struct {
        const char *tensors, *config;
        item other;
        const char *line;
    } cases[] = {
        {"fc", ONE(F8(CHANNEL), F8(TOKEN), "float-quantized"), {Q ".weight_scale", "BF16", 1, {4}, halves},
            "problem: " Q ".weight_scale is BF16 [4]; group_0 expects [4, 1] of BF16 F16 F32\n"},
        {"ftx", ONE(F8(TENSOR), F8(TENSOR), "float-quantized"),
            {Q ".weight_scale", "BF16", 2, {1, 1}, halves},
            "problem: " Q ".weight_scale is BF16 [1, 1]; group_0 expects [1] of BF16 F16 F32\n"},
        {"ftx", ONE(F8(TENSOR), F8(TENSOR), "float-quantized"), {Q ".input_scale", "BF16", 1, {4}, halves},
            "problem: " Q ".input_scale is BF16 [4]; group_0 expects [1] of BF16 F16 F32\n"},
        {"pg", ONE(I4(GROUP16), "null", "pack-quantized"), {Q ".weight_packed", "I32", 2, {4, 10}, zeros},
            "problem: " Q ".weight_shape says [4, 64], which " Q
            ".weight_packed I32 [4, 10] cannot hold in i4\n"},
        {"pg", ONE(I4(GROUP16), "null", "pack-quantized"), {Q ".weight_packed", "U8", 2, {4, 32}, zeros},
            "problem: " Q ".weight_packed is U8 [4, 32]; group_0 says codes of i4\n"},
        {"nm", ONE(F4(GROUP32), "null", "mxfp4-pack-quantized"),
            {Q ".weight_scale", "BF16", 2, {4, 2}, halves},
            "problem: " Q ".weight_scale is BF16 [4, 2]; group_0 expects [4, 2] of U8 F8_E8M0\n"},
        {"nm", ONE(F4(GROUP32), "null", "mxfp4-pack-quantized"),
            {Q ".weight_scale", "F8_E8M0", 2, {4, 2}, bytes_of_one},
            "vllm: wrong: " Q ".weight_scale is F8_E8M0 and read by value; its bytes must be U8\n"},
        {"neG", ONE(NVFP4, "null", "nvfp4-pack-quantized"),
            {Q ".weight_global_scale", "BF16", 1, {1}, halves},
            "problem: " Q ".weight_global_scale is BF16 [1]; group_0 expects [1] of F32\n"},
    };
    BEGIN();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        model m = make(cases[i].tensors);
        *find(&m, cases[i].other.name) = cases[i].other;
        expect_line(p, &m, cases[i].config, cases[i].line);
    }
    end(p);
}

static void test_tensors_too_many(void)
{
    static const struct {
        const char *tensors, *config;
        item more;
        const char *line;
    } cases[] = {
        {"fc", ONE(F8(CHANNEL), F8(TOKEN), "float-quantized"), {Q ".input_scale", "BF16", 1, {1}, halves},
            "problem: " Q ".input_scale is there, but group_0 asks for none\n"},
        {"pg", ONE(I4(GROUP16), "null", "pack-quantized"), {Q ".weight_g_idx", "I32", 1, {64}, zeros},
            "vllm: refused: " Q ".weight_g_idx is an unknown tensor\n"},
        {"fc", ONE(F8(CHANNEL), F8(TOKEN), "float-quantized"), {ATTN ".prob_scale", "BF16", 1, {1}, halves},
            "vllm: refused: " ATTN ".prob_scale is an unknown tensor\n"},
        {"fc", ONE(F8(CHANNEL), F8(TOKEN), "float-quantized"), {ATTN ".kv_scale", "BF16", 1, {1}, halves},
            "vllm: wrong: " ATTN ".kv_scale is taken for k alone; v keeps 1\n"},
        {"fc", ONE(F8(CHANNEL), F8(TOKEN), "float-quantized"),
            {"model.layers.0.mlp.gate.weight", "BF16", 2, {2, 4}, zeros},
            "vllm: wrong: model.layers.0.mlp.gate.weight is BF16, but a class target reaches it: "},
        {"fc", ONE(F8(CHANNEL), F8(TOKEN), "float-quantized"),
            {ATTN ".o_proj.weight", "BF16", 2, {2, 4}, zeros},
            "problem: " ATTN
            ".o_proj.weight is BF16, but group_0 targets it (Linear) and nothing ignores it\n"},
        {"fc", ONE(F8(CHANNEL), F8(TOKEN), "float-quantized"), {"lm_head.weight", "BF16", 2, {2, 4}, zeros},
            "vllm: nothing against it\n"},
        {"fc", ONE(F8(CHANNEL), F8(TOKEN), "float-quantized"),
            {"model.embed_tokens.weight", "BF16", 2, {2, 4}, zeros}, "vllm: nothing against it\n"},
        {"fc", ONE(F8(CHANNEL), F8(TOKEN), "float-quantized"), {"model.norm.weight", "BF16", 1, {4}, zeros},
            "vllm: nothing against it\n"},
    };
    BEGIN();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        model m = make(cases[i].tensors);
        m.items[m.count++] = cases[i].more;
        CHECK_INT(judge(p, &m, cases[i].config), QC_OK);
        CHECK_INT(p->count, strstr(cases[i].line, "nothing against") == NULL);
        if (!printed(p, cases[i].line))
            CHECK(!"the line was not said");
    }
    end(p);
}

static void test_formats_that_do_not_store_so(void)
{
    BEGIN();
    model m = make("fc");
    CHECK_INT(judge(p, &m, ONE(F8(CHANNEL), F8(TOKEN), "pack-quantized")), QC_OK);
    CHECK(printed(p,
        "problem: " Q ".weight is F8_E4M3: a byte a code, but format pack-quantized of group_0 means "
        "codes in words\n"));
    CHECK_INT(judge(p, &m, ONE(F8(CHANNEL), F8(TOKEN), "dense")), QC_OK);
    CHECK(printed(p, "problem: " Q ": group_0 names the format dense, which stores no codes\n"));
    CHECK_INT(
        judge(p, &m, CONFIG("\"group_0\": {\"targets\": [\"Linear\"], \"weights\": " F8(CHANNEL) "}", "")),
        QC_OK);
    CHECK(printed(p, "problem: " Q ": no format says how " Q ".weight is stored\n"));
    end(p);
}

static void test_groups_that_do_not_match(void)
{
    BEGIN();
    model m = make("fc");
    CHECK_INT(
        judge(p, &m,
            CONFIG("\"group_0\": " GROUP("\"re:.*mlp\"", F8(CHANNEL), F8(TOKEN), "float-quantized"), "")),
        QC_OK);
    CHECK_INT(p->count, 2);
    CHECK(printed(p, "problem: " Q ".weight holds codes, but no config group targets " Q "\n"));
    CHECK_INT(judge(p, &m,
                  "{\"quantization_config\": {\"quant_method\": \"compressed-tensors\", \"config_groups\": "
                  "{\"group_0\": " GROUP("\"Linear\"", F8(CHANNEL), F8(TOKEN),
                      "float-quantized") "}, \"ignore\": [\"re:.*self_attn\"]}}"),
        QC_OK);
    CHECK(printed(p, "problem: " Q ".weight holds codes although " Q " is ignored (re:.*self_attn)\n"));
    CHECK_INT(judge(p, &m, CONFIG("\"group_0\": 3", "")), QC_OK);
    CHECK(printed(p, "config.json: quantization_config.config_groups.group_0: must be an object\n"));
    CHECK_INT(judge(p, &m,
                  CONFIG("\"group_0\": " GROUP("\"re:(\"", F8(CHANNEL), F8(TOKEN), "float-quantized"), "")),
        QC_OK);
    CHECK(printed(p, "problem: re:(: bad pattern"));
    end(p);
}

/* ---- what vLLM refuses --------------------------------------------------------------------------------- */

static void test_schemes_refused(void)
{
    static const struct {
        const char *tensors, *config, *line;
    } cases[] = {
        {"ig", ONE(I4(GROUP16), F8(TOKEN), "int-quantized"),
            "vllm: refused: group_0: no scheme has such weights and inputs: 4-bit integers with FP8 inputs "
            "must be "
            "stored as pack-quantized\n"},
        {"ig", ONE(I4(GROUP16), "null", "int-quantized"),
            "vllm: refused: group_0: no scheme has such weights and inputs: integers without quantized "
            "inputs must be "
            "stored as pack-quantized\n"},
        {"neG", ONE(NVFP4, F8(TOKEN), "nvfp4-pack-quantized"),
            "vllm: refused: group_0: no scheme has such weights and inputs: inputs beside NVFP4 weights are "
            "NVFP4, "
            "dynamic \"local\"\n"},
        {"pg", ONE(I4(GROUP16 ", \"actorder\": \"group\""), "null", "pack-quantized"),
            "vllm: refused: group_0.weights: actorder group is refused; only static is read\n"},
        {"pg", ONE(I4(GROUP16 ", \"actorder\": \"static\""), "null", "pack-quantized"),
            "vllm: nothing against it\n"},
        {"fc", ONE(F8(CHANNEL ", \"note\": 1"), F8(TOKEN), "float-quantized"),
            "vllm: refused: group_0.weights has the key note, which no loader knows\n"},
        {"fc", ONE(F8(CHANNEL), F8("\"strategy\": \"channel\", \"dynamic\": true"), "float-quantized"),
            "vllm: refused: group_0.input_activations: strategy channel cannot be dynamic\n"},
        {"fc", ONE(F8(CHANNEL), F8("\"strategy\": \"group\", \"dynamic\": true"), "float-quantized"),
            "vllm: refused: group_0.input_activations: strategy group needs a group_size\n"},
        {"icx", ONE(I8(CHANNEL), I8(CHANNEL), "int-quantized"),
            "vllm: refused: group_0: no scheme has such weights and inputs\n"},
    };
    BEGIN();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        model m = make(cases[i].tensors);
        CHECK_INT(judge(p, &m, cases[i].config), QC_OK);
        CHECK_INT(p->count, strstr(cases[i].line, "nothing against") == NULL);
        if (!printed(p, cases[i].line))
            CHECK(!"the line was not said");
    }
    model m = make("ft");
    CHECK_INT(
        judge(p, &m, ONE(F8("\"strategy\": \"block\""), F8("\"strategy\": \"token\""), "float-quantized")),
        QC_OK);
    CHECK(printed(p, "vllm: refused: group_0.weights: strategy block needs a block_structure\n"));
    CHECK(printed(p, "vllm: refused: group_0.input_activations: strategy token must be dynamic\n"));
    CHECK_INT(judge(p, &m, ONE(F8(TENSOR), F8(TENSOR ", \"dynamic\": \"local\""), "float-quantized")), QC_OK);
    CHECK(printed(p, "vllm: refused: group_0.input_activations: dynamic \"local\" goes with strategy "
                     "tensor_group alone\n"));
    CHECK_INT(
        judge(p, &m,
            CONFIG("\"group_0\": " GROUP("\"Linear\"", F8(TENSOR), "null", "naive-quantized"),
                ", \"sparsity_config\": {\"format\": \"sparse-24-bitmask\", \"targets\": [\"Linear\"]}")),
        QC_OK);
    CHECK(printed(p, "vllm: refused: sparsity_config: sparse weights are no longer read\n"));
    end(p);
}

static void test_modules_refused(void)
{
    BEGIN();
    model m = make("fc");
    add(&m, "lm_head.weight", "F8_E4M3", 2, 2, 4, zeros);
    add(&m, "lm_head.weight_scale", "BF16", 2, 2, 1, halves);
#define UNIGNORED(targets)                                                                                   \
    "{\"quantization_config\": {\"quant_method\": \"compressed-tensors\", \"config_groups\": "               \
    "{\"group_0\": " GROUP(targets, F8(CHANNEL), F8(TOKEN), "float-quantized") "}}}"
    expect_line(
        p, &m, UNIGNORED("\"Linear\""), "vllm: refused: lm_head.weight holds codes, but only a class target");
    expect_fine(p, &m, UNIGNORED("\"Linear\", \"lm_head\""), "FP8");
    expect_fine(p, &m, UNIGNORED("\"Linear\", \"re:.*lm_head$\""), "FP8");
    m = make("fc");
    add(&m, "model.embed_tokens.weight", "F8_E4M3", 2, 2, 4, zeros);
    add(&m, "model.embed_tokens.weight_scale", "BF16", 2, 2, 1, halves);
    expect_line(p, &m, UNIGNORED("\"Linear\", \"Embedding\""),
        "vllm: refused: model.embed_tokens.weight: embeddings are read only as integers");
    m = make("fc");
    drop(&m, K ".weight_scale");
    *find(&m, K ".weight") = (item){K ".weight", "BF16", 2, {4, 64}, zeros};
    CHECK_INT(
        judge(p, &m,
            CONFIG("\"group_0\": " GROUP("\"re:.*q_proj\"", F8(CHANNEL), F8(TOKEN), "float-quantized"), "")),
        QC_OK);
    CHECK_INT(p->count, 1);
    CHECK(printed(p, "vllm: refused: " Q " is quantized and " K " is not, but they are one layer\n"));
    m = make("fc");
    *find(&m, K ".weight_scale") = (item){K ".weight_scale", "BF16", 1, {1}, halves};
    expect_line(p, &m,
        CONFIG("\"group_0\": " GROUP("\"re:.*q_proj\"", F8(CHANNEL), F8(TOKEN),
                   "float-quantized") ", \"group_1\": " GROUP("\"re:.*k_proj\"", F8(TENSOR), F8(TOKEN),
                   "float-quantized"),
            ""),
        "vllm: refused: " Q " and " K " are one layer in two schemes\n");
    m = make("fc");
    *find(&m, Q ".weight_scale") = (item){Q ".weight_scale", "BF16", 2, {2, 1}, halves};
    *find(&m, K ".weight_scale") = (item){K ".weight_scale", "BF16", 2, {2, 1}, halves};
    CHECK_INT(
        judge(p, &m,
            ONE(F8("\"strategy\": \"block\", \"block_structure\": [3, 64]"),
                F8("\"strategy\": \"group\", \"group_size\": 64, \"dynamic\": true"), "float-quantized")),
        QC_OK);
    CHECK_INT(p->count, 2);
    CHECK(printed(p, "vllm: refused: " Q ".weight has 4 rows, which is no multiple of its blocks' 3\n"));
    end(p);
}

static void test_shared_scales(void)
{
    static const uint16_t quarter[1] = {0x3e80};
    static const int8_t three[1] = {3};
    BEGIN();
    model m = make("neGX");
    find(&m, K ".weight_global_scale")->bytes = &global_b;
    expect_line(p, &m, ONE(NVFP4, NVFP4_INPUT, "nvfp4-pack-quantized"),
        "vllm: wrong: " Q ".weight_global_scale and " K
        ".weight_global_scale differ in one layer: the larger");
    m = make("neGX");
    find(&m, K ".input_global_scale")->bytes = &global_b;
    expect_line(p, &m, ONE(NVFP4, NVFP4_INPUT, "nvfp4-pack-quantized"),
        "vllm: wrong: " Q ".input_global_scale and " K ".input_global_scale differ in one layer: the larger");
    m = make("icx");
    find(&m, K ".input_scale")->bytes = quarter;
    expect_line(p, &m, ONE(I8(CHANNEL), I8(TENSOR), "int-quantized"),
        "vllm: wrong: " Q ".input_scale and " K ".input_scale differ in one layer: the one loaded last");
    m = make("icxz");
    find(&m, K ".input_zero_point")->bytes = three;
    expect_line(p, &m,
        ONE(I8(CHANNEL),
            "{\"num_bits\": 8, \"type\": \"int\", \"symmetric\": false, \"strategy\": \"tensor\"}",
            "int-quantized"),
        "vllm: wrong: " Q ".input_zero_point and " K
        ".input_zero_point differ in one layer: the one loaded last");
    m = make(
        "ftx"); /* FP8 weights are quantized again to the larger scale: nothing is lost but a little accuracy */
    find(&m, K ".input_scale")->bytes = quarter;
    expect_fine(p, &m, ONE(F8(TENSOR), F8(TENSOR), "float-quantized"), "FP8");
    end(p);
}

static void test_experts(void)
{
#define EXPERT "model.layers.0.mlp.experts."
    BEGIN();
    model m = {.count = 0};
    add(&m, EXPERT "0.up_proj.weight", "I8", 2, 2, 4, zeros);
    add(&m, EXPERT "0.up_proj.weight_scale", "BF16", 2, 2, 1, halves);
    add(&m, EXPERT "0.up_proj.input_scale", "BF16", 1, 1, 0, halves);
    expect_line(p, &m, ONE(I8(CHANNEL), I8(TENSOR), "int-quantized"),
        "vllm: refused: model.layers.0.mlp.experts: no scheme for experts has INT8 with static inputs (rule "
        "experts)\n");
    m.items[0].dtype = "F8_E4M3";
    expect_line(p, &m, ONE(F8(CHANNEL), F8(TENSOR), "float-quantized"),
        "vllm: refused: model.layers.0.mlp.experts: no scheme for experts has FP8 weights of strategy "
        "channel");
    m.count = 2;
    expect_fine(p, &m, ONE(F8(CHANNEL), F8(TOKEN), "float-quantized"), "FP8");
    add(&m, EXPERT "1.up_proj.weight", "F8_E4M3", 2, 2, 4, zeros);
    add(&m, EXPERT "1.up_proj.weight_scale", "BF16", 1, 1, 0, halves);
    expect_line(p, &m,
        CONFIG("\"group_0\": " GROUP("\"re:.*0.up_proj\"", F8(CHANNEL), F8(TOKEN),
                   "float-quantized") ", \"group_1\": " GROUP("\"re:.*1.up_proj\"", F8(TENSOR), F8(TOKEN),
                   "float-quantized"),
            ""),
        "vllm: refused: " EXPERT "0.up_proj and " EXPERT
        "1.up_proj are experts of one layer in two schemes (rule experts)\n");
    m.count = 2;
    add(&m, EXPERT "0.down_proj.weight", "BF16", 2, 2, 4, zeros);
    judge(p, &m, ONE(F8(CHANNEL), F8(TOKEN), "float-quantized"));
    CHECK(printed(p, "vllm: refused: " EXPERT "0.up_proj is quantized and " EXPERT
                     "0.down_proj is not, but they are experts of one layer (rule experts)\n"));
    m.count = 2;
    add(&m, EXPERT "2.up_proj.weight", "F8_E4M3", 2, 2, 4, zeros);
    add(&m, EXPERT "2.up_proj.weight_scale", "BF16", 2, 2, 1, halves);
    expect_line(p, &m, ONE(F8(CHANNEL), F8(TOKEN), "float-quantized"),
        "vllm: wrong: " EXPERT "1.up_proj has no tensors: that part of the expert keeps initial values\n");
    m.items[2].name = EXPERT "99999999999999999999.up_proj.weight";
    m.items[3].name = EXPERT "99999999999999999999.up_proj.weight_scale";
    expect_line(p, &m, ONE(F8(CHANNEL), F8(TOKEN), "float-quantized"),
        "vllm: wrong: " EXPERT "1.up_proj has no tensors: that part of the expert keeps initial values\n");
    end(p);
}

static void test_attention(void)
{
    static const struct {
        const char *config, *line; /* per tensor or per head */
        int64_t q, k;
    } cases[] = {
#define KV(args) CONFIG("", ", \"kv_cache_scheme\": " args)
        {KV(F8(TENSOR)), "vllm: nothing against it\n", 1, 1},
        {KV(F8("\"strategy\": \"attn_head\"")), "vllm: nothing against it\n", 4, 2},
        {KV(F8("\"strategy\": \"attn_head\"")),
            "vllm: refused: " ATTN ".k_scale is BF16 [4]; kv_cache_scheme says attn_head: 2 elements\n", 4,
            4},
        {KV(F8(TENSOR)),
            "vllm: refused: " ATTN ".q_scale is BF16 [4]; kv_cache_scheme says tensor: 1 element\n", 4, 1},
        {KV(I8(TENSOR)), "vllm: refused: kv_cache_scheme: int of 8 bits; only float of 8 is read\n", 1, 1},
        {KV(F8(CHANNEL)),
            "vllm: refused: kv_cache_scheme: strategy channel; only tensor and attn_head are read (rule "
            "attention-scales)\n",
            1, 1},
        {KV("{\"num_bits\": 8, \"type\": \"float\", \"strategy\": \"tensor\"}"),
            "vllm: refused: kv_cache_scheme: symmetric must be written, and true\n", 1, 1},
        {"{\"quantization_config\": {\"quant_method\": \"compressed-tensors\", \"kv_cache_scheme\": " F8(
             "\"strategy\": \"attn_head\"") "}}",
            "vllm: refused: kv_cache_scheme: strategy attn_head needs config_groups beside it, even {}\n", 4,
            2},
        {CONFIG("", ""), "problem: " ATTN ".k_scale is there, but there is no kv_cache_scheme\n", 1, 1},
        {CONFIG("\"group_0\": " GROUP("\"LlamaAttention\"", "null", F8(TENSOR), "dense"),
             ", \"kv_cache_scheme\": " F8(TENSOR)),
            "vllm: nothing against it\n", 1, 1},
        {CONFIG("\"group_0\": " GROUP("\"re:.*self_attn$\"", "null", F8(TENSOR), "dense"),
             ", \"kv_cache_scheme\": " F8(TENSOR)),
            "vllm: refused: group_0 quantizes no weights: that is read as attention only with one target", 1,
            1},
    };
    BEGIN();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        model m = {.count = 0};
        add(&m, K ".weight", "BF16", 2, 2, 4, zeros);
        add(&m, ATTN ".q_scale", "BF16", 1, cases[i].q, 0, halves);
        add(&m, ATTN ".k_scale", "BF16", 1, cases[i].k, 0, halves);
        add(&m, ATTN ".v_scale", "BF16", 1, cases[i].k == 4 ? 2 : cases[i].k, 0, halves);
        CHECK_INT(judge(p, &m, cases[i].config), QC_OK);
        CHECK_INT(p->count, strstr(cases[i].line, "nothing against") == NULL);
        if (!printed(p, cases[i].line))
            CHECK(!"the line was not said");
    }
    model m = {.count = 0};
    add(&m, K ".weight", "BF16", 2, 2, 4, zeros);
    add(&m, ATTN ".k_scale", "BF16", 1, 1, 0, halves);
    add(&m, ATTN ".v_scale", "BF16", 1, 1, 0, halves);
    expect_fine(p, &m, KV(F8(TENSOR)), "");
    expect_line(p, &m,
        CONFIG("\"group_0\": " GROUP("\"LlamaAttention\"", "null", F8(TENSOR), "dense"),
            ", \"kv_cache_scheme\": " F8(TENSOR)),
        "problem: " ATTN ".k_scale has no q_scale beside it\n");
    end(p);
}

static void test_rotations(void)
{
#define ROTATED(name, type, head_dim, location, target)                                                      \
    CONFIG("\"group_0\": " GROUP("\"Linear\"", F8(CHANNEL), F8(TOKEN), "float-quantized"),                   \
        ", \"transform_config\": {\"config_groups\": {\"" name "\": {\"type\": \"" type                      \
        "\", \"head_dim\": " head_dim ", \"apply\": [{\"location\": \"" location                             \
        "\", \"targets\": [\"" target "\"]}]}}}")
#define ATTENTION_ROTATED ROTATED("R3", "hadamard", "2", "q_attn", "re:.*self_attn$")
#define INPUT_ROTATED ROTATED("R4", "hadamard", "null", "input", "re:.*q_proj$")
#define MATRIX ATTN ".q_proj.R4_input.weight"
    static double ones[64 * 64], zeros64[64 * 64];
    for (size_t i = 0; i < 64 * 64; i++)
        ones[i] = 1;
    BEGIN();
    model m = make("fc");
    expect_fine(p, &m, ROTATED("R1", "random-matrix", "null", "weight_input", "x"), "FP8");
    add(&m, ATTN ".R3_q_attn.weight", "F64", 2, 2, 2, ones);
    CHECK_INT(judge(p, &m, ATTENTION_ROTATED), QC_OK);
    CHECK_INT(p->count, 2);
    CHECK(printed(p, "vllm: wrong: transform_config.R3 rotates q and k, which is not executed: "));
    CHECK(
        printed(p, "vllm: refused: " ATTN ".R3_q_attn.weight is an unknown tensor: rotations of q and k are "
                   "not executed (rule r3)\n"));
    m = make("fc");
    expect_line(p, &m, INPUT_ROTATED,
        "problem: transform_config.R4 rotates by a matrix of size 64 as the model runs, and none is "
        "stored\n");
    add(&m, MATRIX, "F64", 2, 64, 64, ones);
    expect_fine(
        p, &m, INPUT_ROTATED, "vllm: R4 is a rotation at run time: tensor parallel size 1, by a Hadamard");
    expect_fine(
        p, &m, ROTATED("R4", "random-hadamard", "null", "input", "re:.*q_proj$"), "by a dense product");
    CHECK_INT(judge(p, &m, ROTATED("R4", "hadamard", "null", "inputs", "re:.*q_proj$")), QC_OK);
    CHECK(printed(p, "problem: transform_config.R4 has the location 'inputs', which no loader knows\n"));
    add(&m, ATTN ".q_proj.bias", "BF16", 1, 4, 0, zeros);
    expect_line(p, &m, INPUT_ROTATED,
        "vllm: refused: " ATTN
        ".q_proj has a bias, and transform_config.R4 rotates its input as the model runs: "
        "there the loader stops (rule transform-bias)\n");
    m = make("fc");
    add(&m, MATRIX, "F64", 2, 32, 32, ones);
    CHECK_INT(judge(p, &m, INPUT_ROTATED), QC_OK);
    CHECK(printed(p, "problem: " MATRIX " is of size 32, which transform_config.R4 has no use for\n"));
    m = make("fc");
    add(&m, MATRIX, "F64", 2, 64, 64, zeros64);
    CHECK_INT(judge(p, &m, INPUT_ROTATED), QC_OK);
    CHECK(printed(
        p, "problem: " MATRIX " holds entries that are neither 1 nor -1: it is no Hadamard matrix\n"));
    m = make("fc");
    add(&m, MATRIX, "F64", 2, 32, 64, ones);
    CHECK_INT(judge(p, &m, INPUT_ROTATED), QC_OK);
    CHECK(printed(p, "problem: " MATRIX " is F64 [32, 64]; a rotation has a square matrix of floats\n"));
    m = make("fc");
    expect_line(p, &m, ROTATED("R4", "hadamard", "48", "input", "re:.*q_proj$"),
        "problem: transform_config.R4: blocks of 48 do not divide the 64 of " ATTN ".q_proj\n");
    expect_line(p, &m, ROTATED("R4", "hadamard", "null", "input", "re:.*down$"),
        "problem: transform_config.R4: no module is a target of its location input\n");
    CHECK_INT(judge(p, &m, ROTATED("R4", "hadamard", "-8", "input", "re:.*q_proj$")), QC_OK);
    CHECK(printed(p, "problem: transform_config.R4: head_dim must be an integer above 0, or null\n"));
    CHECK_INT(judge(p, &m, ROTATED("R4", "wavelet", "64", "input", "re:.*q_proj$")), QC_OK);
    CHECK(printed(p, "problem: transform_config.R4 is of the type 'wavelet', which no loader knows\n"));
    CHECK_INT(judge(p, &m, ROTATED("R3", "hadamard", "null", "k_cache", "re:.*self_attn$")), QC_OK);
    CHECK(printed(p, "problem: transform_config.R3 rotates heads, but head_dim is not given\n"));
    CHECK_INT(judge(p, &m,
                  CONFIG("\"group_0\": " GROUP("\"Linear\"", F8(CHANNEL), F8(TOKEN), "float-quantized"),
                      ", \"transform_config\": {\"config_groups\": [1]}")),
        QC_OK);
    CHECK(printed(p, "problem: transform_config.config_groups must be an object\n"));
    expect_fine(p, &m,
        CONFIG("\"group_0\": " GROUP("\"Linear\"", F8(CHANNEL), F8(TOKEN), "float-quantized"),
            ", \"transform_config\": {}"),
        "");
    end(p);
}

/* What no loader reads of attention: NVFP4, and what keys are centered by. */
static void test_foreign_attention(void)
{
#define LOCAL                                                                                                \
    "{\"num_bits\": 4, \"type\": \"float\", \"strategy\": \"tensor_group\", \"group_size\": 16, "            \
    "\"symmetric\": "                                                                                        \
    "true, \"dynamic\": \"local\"}"
    BEGIN();
    model m = {.count = 0};
    add(&m, K ".weight", "BF16", 2, 2, 4, zeros);
    CHECK_INT(judge(p, &m, KV(LOCAL)), QC_OK);
    CHECK(printed(p, "problem: " K ".weight has no k_global_scale beside it\n"));
    add(&m, ATTN ".k_global_scale", "F32", 1, 1, 0, halves);
    CHECK_INT(judge(p, &m, KV(LOCAL)), QC_OK);
    CHECK(printed(p, "problem: " ATTN ".k_global_scale has no v_global_scale beside it\n"));
    add(&m, ATTN ".v_global_scale", "F32", 1, 1, 0, halves);
    CHECK_INT(judge(p, &m, KV(LOCAL)), QC_OK);
    CHECK(!strstr(p->out.data, "problem: "));
    CHECK(printed(p, "vllm: refused: kv_cache_scheme: float of 4 bits; only float of 8 is read (rule "
                     "nvfp4-attention)\n"));
    CHECK(printed(p, "vllm: refused: " ATTN ".k_global_scale is an unknown tensor\n"));
    add(&m, ATTN ".k_center", "BF16", 1, 4, 0, halves);
    CHECK_INT(judge(p, &m, KV(LOCAL)), QC_OK);
    CHECK(printed(p, "vllm: refused: " ATTN ".k_center is an unknown tensor (rule center-k)\n"));
    end(p);
}

static void test_files_beside(void)
{
    BEGIN();
    model m = make("fc");
    const char *config = ONE(F8(CHANNEL), F8(TOKEN), "float-quantized");
    expect_fine(p, &m, config, "FP8");
    CHECK_INT(qc_copy_file(&p->diag, qc_path_join(&p->arena, p->a, "model.safetensors"),
                  qc_path_join(&p->arena, p->a, "stats.safetensors")),
        QC_OK);
    expect_line(p, &m, config,
        "vllm: refused: stats.safetensors lies beside model.safetensors, and without an index");
    end(p);
}

static void test_targets(void)
{
    BEGIN();
    model m = make("fc");
    write_checkpoint(p, p->a, m.items, m.count, "{\"quantization_config\": {\"quant_method\": \"gptq\"}}");
    CHECK_INT(qc_check_list(
                  &p->diag, &p->arena, p->a, &(qc_check_list_options){.target = "vllm"}, &p->out, &p->count),
        QC_ERROR);
    CHECK(said(&p->m, "quant_method is gptq; of vLLM's rules those for compressed-tensors are known"));
    CHECK_INT(
        qc_check_list(&p->diag, &p->arena, p->a, &(qc_check_list_options){.target = "x"}, &p->out, &p->count),
        QC_ERROR);
    CHECK(said(&p->m, "target 'x' has no rules here; known is vllm"));
    write_checkpoint(
        p, p->a, m.items, m.count, ONE(F8(CHANNEL ", \"note\": 1"), F8(TOKEN), "float-quantized"));
    qc_str_clear(&p->out);
    CHECK_INT(qc_check_list(&p->diag, &p->arena, p->a,
                  &(qc_check_list_options){.target = "vllm", .json = true}, &p->out, &p->count),
        QC_OK);
    const qc_json *root = qc_json_parse(&p->diag, &p->arena, "out", p->out.data, p->out.length);
    const qc_json *target = qc_json_get(root, "target");
    CHECK_STR(target ? qc_json_get(target, "name")->text : "", "vllm");
    const qc_json *finding = qc_json_at(qc_json_get(target, "findings"), 0);
    CHECK_STR(finding ? qc_json_get(finding, "effect")->text : "", "refused");
    CHECK(qc_json_get(qc_json_get(target, "groups"), "group_0") != NULL);
    end(p);
}

int main(void)
{
    RUN(test_formats);
    RUN(test_tensors_that_are_missing);
    RUN(test_tensors_of_another_kind);
    RUN(test_tensors_too_many);
    RUN(test_formats_that_do_not_store_so);
    RUN(test_groups_that_do_not_match);
    RUN(test_schemes_refused);
    RUN(test_modules_refused);
    RUN(test_shared_scales);
    RUN(test_experts);
    RUN(test_attention);
    RUN(test_rotations);
    RUN(test_foreign_attention);
    RUN(test_files_beside);
    RUN(test_targets);
    return check_done();
}
