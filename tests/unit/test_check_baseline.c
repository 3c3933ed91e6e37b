/* SPDX-License-Identifier: MIT
 *
 * test_check_baseline.c - qc-check --baseline: errors of weights in every way to store codes, against sums made here; and
 * what it says where the two checkpoints are no pair.
 *
 * Scales are powers of two and values small, so that every product is exact in bf16 and the expected sums have one
 * answer. Checkpoint a/ is the quantized one, b/ the baseline.
 */
#include "tests/unit/check_pair.h"

#include "ir/dtype/codec.h"
#include "ir/dtype/pack.h"

static const char whole_config[] = "{\"quantization_config\": {\"quant_method\": \"compressed-tensors\","
                                   " \"config_groups\": {%s}, \"format\": \"%s\", \"ignore\": []}}";

/* config.json with one group; `weights` is the inside of its object. */
static const char *config_of(pair *p, const char *format, const char *weights)
{
    const char *group =
        qc_arena_printf(&p->arena, "\"group_0\": {\"targets\": [\"Linear\"], \"weights\": {%s}}", weights);
    return qc_arena_printf(&p->arena, whole_config, group, format);
}

static qc_status compare_with(pair *p, bool json, int threads)
{
    const qc_check_baseline_options options = {.json = json, .threads = threads};
    qc_str_clear(&p->out);
    p->count = 0;
    return qc_check_baseline(&p->diag, &p->arena, p->a, p->b, &options, &p->out, &p->count);
}

/* The JSON object of weight number `index`; NULL, and a failed check, where there is none. */
static const qc_json *weight_json(pair *p, size_t index)
{
    CHECK_INT(compare_with(p, true, 2), QC_OK);
    const qc_json *root = qc_json_parse(&p->diag, &p->arena, "out", p->out.data, p->out.length);
    const qc_json *weight = qc_json_at(qc_json_get(root, "weights"), index);
    CHECK(weight != NULL);
    return weight;
}

static double number(const qc_json *object, const char *key)
{
    const qc_json *value = qc_json_get(object, key);
    CHECK(value && value->kind == QC_JSON_NUMBER);
    return value ? value->number : -1;
}

static const char *word(const qc_json *object, const char *key)
{
    const qc_json *value = qc_json_get(object, key);
    return value && value->kind == QC_JSON_STRING ? value->text : "";
}

/* What the weights are compared with: bf16, not far from what a few bits can hold. */
enum { MOST = 1024 };
typedef struct matrix {
    int64_t rows, columns;
    uint16_t stored[MOST];
    double values[MOST];  /* of the baseline */
    double decoded[MOST]; /* of the codes: the expectation */
    bool saturated[MOST], zero[MOST];
} matrix;

static uint32_t next(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 16;
}

static void fill(matrix *m, int64_t rows, int64_t columns)
{
    uint32_t state = 5;
    *m = (matrix){.rows = rows, .columns = columns};
    for (int64_t i = 0; i < rows * columns; i++) {
        float v = ((float)(next(&state) % 256) - 128.0f) / 64.0f;
        m->stored[i] = qc_bf16_from_f32(v);
        m->values[i] = (double)v;
    }
}

static void expect_errors(pair *p, const matrix *m, const char *scheme)
{
    double errors = 0, squares = 0, most = 0;
    int64_t saturated = 0, zeros = 0, count = m->rows * m->columns;
    for (int64_t i = 0; i < count; i++) {
        double d = m->values[i] - m->decoded[i];
        errors += d * d;
        squares += m->values[i] * m->values[i];
        most = fabs(d) > most ? fabs(d) : most;
        saturated += m->saturated[i];
        zeros += m->zero[i];
    }
    const qc_json *w = weight_json(p, 0);
    if (!w)
        return;
    CHECK(errors > 0 && saturated + zeros > 0);
    CHECK_STR(word(w, "name"), "l.up_proj.weight");
    CHECK_STR(word(w, "scheme"), scheme);
    CHECK_NEAR(number(w, "relative_error"), sqrt(errors / squares), 1e-14);
    CHECK_NEAR(number(w, "sqnr_db"), 10 * log10(squares / errors), 1e-10);
    CHECK_NEAR(number(w, "rms_error"), sqrt(errors / (double)count), 1e-14);
    CHECK_NEAR(number(w, "max_error"), most, 0);
    CHECK_NEAR(number(w, "saturated"), (double)saturated / (double)count, 0);
    CHECK_NEAR(number(w, "zero"), (double)zeros / (double)count, 0);
    CHECK_INT(number(w, "rows"), m->rows);
    CHECK_INT(number(w, "columns"), m->columns);
    CHECK_INT(p->count, 0);
}

static void write_base(pair *p, const matrix *m)
{
    const item items[] = {{"l.up_proj.weight", "BF16", 2, {m->rows, m->columns}, m->stored}};
    write_checkpoint(p, p->b, items, 1, "{}");
}

static const uint16_t bf16_scales[4] = {0x3d00, 0x3d80, 0x3d00, 0x3e00}; /* 2^-5, 2^-4, 2^-5, 2^-3 */
static const double scales[4] = {0.03125, 0.0625, 0.03125, 0.125};

static void test_bytes_per_channel(void)
{
    static matrix m;
    static uint8_t codes[MOST];
    uint32_t state = 9;
    BEGIN();
    fill(&m, 4, 21);
    for (int64_t i = 0; i < 4 * 21; i++) {
        codes[i] = i % 10 == 0 ? 0xfe : i % 11 == 0 ? 0x80 : (uint8_t)(next(&state) % 0x50);
        float v = qc_f8e4m3_to_f32(codes[i]);
        m.decoded[i] = (double)v * scales[i / 21];
        m.saturated[i] = fabsf(v) == 448;
        m.zero[i] = v == 0;
    }
    const item items[] = {{"l.up_proj.weight", "F8_E4M3", 2, {4, 21}, codes},
        {"l.up_proj.weight_scale", "BF16", 2, {4, 1}, bf16_scales}};
    write_base(p, &m);
    write_checkpoint(p, p->a, items, 2,
        config_of(p, "float-quantized", "\"num_bits\": 8, \"type\": \"float\", \"strategy\": \"channel\""));
    expect_errors(p, &m, "f8e4m3 channel");
    end(p);
}

/* Blocks cut off at both edges. */
static void test_blocks(void)
{
    static matrix m;
    static int8_t codes[MOST];
    uint32_t state = 3;
    BEGIN();
    fill(&m, 5, 13);
    for (int64_t i = 0; i < 5 * 13; i++) {
        codes[i] = i % 9 == 0 ? -128 : i % 7 == 0 ? 0 : (int8_t)(next(&state) % 100 - 50);
        m.decoded[i] = codes[i] * scales[i / 13 / 3 * 2 + i % 13 / 8];
        m.saturated[i] = codes[i] == -128;
        m.zero[i] = codes[i] == 0;
    }
    const item items[] = {{"l.up_proj.weight", "I8", 2, {5, 13}, codes},
        {"l.up_proj.weight_scale", "BF16", 2, {2, 2}, bf16_scales}};
    write_base(p, &m);
    write_checkpoint(p, p->a, items, 2,
        config_of(p, "int-quantized",
            "\"num_bits\": 8, \"type\": \"int\", \"strategy\": \"block\", \"block_structure\": [3, 8]"));
    expect_errors(p, &m, "i8 block 3x8");
    write_checkpoint(p, p->a, items, 2,
        config_of(p, "int-quantized",
            "\"num_bits\": 8, \"type\": \"int\", \"strategy\": \"block\", \"block_structure\": \"3x8\""));
    expect_errors(p, &m, "i8 block 3x8");
    end(p);
}

/* Integers of `bits` bits in words, in groups of 6 of 20 columns, with zero points in words along 14 rows. */
static void packed_asymmetric(int bits)
{
    enum { ROWS = 14, COLUMNS = 20, GROUP = 6, GROUPS = 4 };
    static matrix m;
    static int32_t words[MOST], zero_words[MOST];
    int8_t codes[ROWS][COLUMNS], zeros[GROUPS][ROWS];
    uint16_t stored[ROWS][GROUPS];
    const int half = 1 << (bits - 1);
    const size_t row_words = qc_pack_word_count(bits, COLUMNS), zero_rows = qc_pack_word_count(bits, ROWS);
    const int64_t shape[2] = {ROWS, COLUMNS};
    uint32_t state = (uint32_t)bits;
    BEGIN();
    fill(&m, ROWS, COLUMNS);
    for (int r = 0; r < ROWS; r++)
        for (int g = 0; g < GROUPS; g++) {
            zeros[g][r] = (int8_t)((int)(next(&state) % (unsigned)(2 * half)) - half);
            stored[r][g] = bf16_scales[(r + g) % 4];
        }
    for (int r = 0; r < ROWS; r++) {
        for (int c = 0; c < COLUMNS; c++) {
            codes[r][c] = (int8_t)((int)(next(&state) % (unsigned)(2 * half)) - half);
            int shifted = codes[r][c] - zeros[c / GROUP][r];
            m.decoded[r * COLUMNS + c] = shifted * scales[(r + c / GROUP) % 4];
            m.saturated[r * COLUMNS + c] = codes[r][c] == -half || codes[r][c] == half - 1;
            m.zero[r * COLUMNS + c] = shifted == 0;
        }
        qc_pack_words(bits, codes[r], COLUMNS, words + (size_t)r * row_words);
    }
    for (int g = 0; g < GROUPS; g++) {
        int32_t column[8];
        qc_pack_words(bits, zeros[g], ROWS, column);
        for (size_t i = 0; i < zero_rows; i++)
            zero_words[i * GROUPS + (size_t)g] = column[i];
    }
    const item items[] = {{"l.up_proj.weight_packed", "I32", 2, {ROWS, (int64_t)row_words}, words},
        {"l.up_proj.weight_scale", "BF16", 2, {ROWS, GROUPS}, stored},
        {"l.up_proj.weight_shape", "I64", 1, {2}, shape},
        {"l.up_proj.weight_zero_point", "I32", 2, {(int64_t)zero_rows, GROUPS}, zero_words}};
    write_base(p, &m);
    const char *weights = qc_arena_printf(
        &p->arena, "\"num_bits\": %d, \"type\": \"int\", \"group_size\": 6, \"symmetric\": false", bits);
    write_checkpoint(p, p->a, items, 4, config_of(p, "pack-quantized", weights));
    expect_errors(p, &m, qc_arena_printf(&p->arena, "i%d group 6 asymmetric", bits));
    end(p);
}

static void test_words(void)
{
    for (int bits = 2; bits <= 8; bits++)
        packed_asymmetric(bits);
}

static void test_nibbles(void)
{
    static matrix m;
    static uint8_t codes[MOST], packed[MOST];
    const uint8_t f8_scales[8] = {0x38, 0x40, 0x38, 0x48, 0x30, 0x38, 0x40, 0x38}; /* 1 2 1 4 .5 1 2 1 */
    const double values[8] = {1, 2, 1, 4, 0.5, 1, 2, 1};
    const uint8_t mx_scales[4] = {122, 123, 122, 124};
    const float global = 16;
    uint32_t state = 1;
    BEGIN();
    fill(&m, 2, 64);
    for (int64_t i = 0; i < 128; i++) {
        codes[i] = (uint8_t)(next(&state) % 16);
        m.decoded[i] = (double)qc_f4e2m1_to_f32(codes[i]) * values[i / 16] / (double)global;
        m.saturated[i] = codes[i] == 7 || codes[i] == 15;
        m.zero[i] = codes[i] == 0 || codes[i] == 8;
    }
    qc_pack_nibbles(codes, 128, packed);
    const item nvfp4[] = {{"l.up_proj.weight_packed", "U8", 2, {2, 32}, packed},
        {"l.up_proj.weight_scale", "F8_E4M3", 2, {2, 4}, f8_scales},
        {"l.up_proj.weight_global_scale", "F32", 1, {1}, &global}};
    write_base(p, &m);
    write_checkpoint(p, p->a, nvfp4, 3,
        config_of(p, "nvfp4-pack-quantized",
            "\"num_bits\": 4, \"type\": \"float\", \"strategy\": \"tensor_group\", \"group_size\": 16"));
    expect_errors(p, &m, "f4e2m1 group 16");
    for (int64_t i = 0; i < 128; i++)
        m.decoded[i] = (double)qc_f4e2m1_to_f32(codes[i]) * scales[i / 32];
    const item mxfp4[] = {{"l.up_proj.weight_packed", "U8", 2, {2, 32}, packed},
        {"l.up_proj.weight_scale", "U8", 2, {2, 2}, mx_scales}};
    write_checkpoint(p, p->a, mxfp4, 2,
        config_of(p, "mxfp4-pack-quantized", "\"num_bits\": 4, \"type\": \"float\", \"group_size\": 32"));
    expect_errors(p, &m, "f4e2m1 mx 32");
    end(p);
}

/* Columns in groups of their own choice. */
static void test_group_index(void)
{
    static matrix m;
    int32_t words[3], index[16];
    int8_t codes[16];
    const int64_t shape[2] = {1, 16};
    BEGIN();
    fill(&m, 1, 16);
    for (int c = 0; c < 16; c++) {
        codes[c] = (int8_t)(c - 8);
        index[c] = c * 5 % 16 / 4;
        m.decoded[c] = codes[c] * scales[index[c]];
        m.saturated[c] = c == 0 || c == 15;
        m.zero[c] = c == 8;
    }
    qc_pack_words(4, codes, 16, words);
    item items[] = {{"l.up_proj.weight_packed", "I32", 2, {1, 2}, words},
        {"l.up_proj.weight_scale", "BF16", 2, {1, 4}, bf16_scales},
        {"l.up_proj.weight_shape", "I64", 1, {2}, shape}, {"l.up_proj.weight_g_idx", "I32", 1, {16}, index}};
    const char *config = config_of(p, "pack-quantized",
        "\"num_bits\": 4, \"type\": \"int\", \"group_size\": 4, \"actorder\": \"group\"");
    write_base(p, &m);
    write_checkpoint(p, p->a, items, 4, config);
    expect_errors(p, &m, "i4 group 4");
    for (int c = 0; c < 16; c++) {
        index[c] = -1;
        m.decoded[c] = codes[c] * scales[c / 4];
    }
    write_checkpoint(p, p->a, items, 4, config);
    expect_errors(p, &m, "i4 group 4");
    index[3] = 4;
    write_checkpoint(p, p->a, items, 4, config);
    CHECK_INT(compare_with(p, false, 0), QC_ERROR);
    CHECK(said(&p->m, "l.up_proj.weight_g_idx: column 0 is in group -1 of 4"));
    end(p);
}

/* ---- a whole checkpoint -------------------------------------------------------------------------------- */

static const uint8_t ones[8] = {0x38, 0x38, 0x38, 0x38, 0x38, 0x38, 0x38, 0x38};
static const uint16_t one_scale[1] = {0x3f80};
static const uint16_t base_ones[8] = {0x3f80, 0x3f80, 0x3f80, 0x3f80, 0x3f80, 0x3f80, 0x3f80, 0x3f80};
static const uint16_t base_twos[8] = {0x4000, 0x4000, 0x4000, 0x4000, 0x4000, 0x4000, 0x4000, 0x4000};
static const char tensor_args[] = "\"num_bits\": 8, \"type\": \"float\", \"strategy\": \"tensor\"";

static const item quantized[] = {
    {"a.weight", "F8_E4M3", 2, {2, 4}, ones},
    {"a.weight_scale", "BF16", 1, {1}, one_scale},
    {"b.weight", "F8_E4M3", 2, {2, 4}, ones},
    {"b.weight_scale", "BF16", 0, {1}, one_scale},
    {"norm.weight", "BF16", 1, {4}, base_twos},
    {"self_attn.k_scale", "BF16", 1, {1}, one_scale},
};
static const item original[] = {
    {"a.weight", "BF16", 2, {2, 4}, base_ones},
    {"b.weight", "BF16", 2, {2, 4}, base_twos},
    {"norm.weight", "BF16", 1, {4}, base_twos},
};
enum { QUANTIZED = sizeof quantized / sizeof *quantized, ORIGINAL = sizeof original / sizeof *original };

static void write_both(pair *p)
{
    write_checkpoint(p, p->a, quantized, QUANTIZED, config_of(p, "float-quantized", tensor_args));
    write_checkpoint(p, p->b, original, ORIGINAL, "{}");
}

static void test_table(void)
{
    BEGIN();
    write_both(p);
    CHECK_INT(compare_with(p, false, 0), QC_OK);
    CHECK(printed(p,
        "relative error  SQNR dB   max error  saturated       zero    elements  scheme         weight\n"
        "      0.500000     6.02           1    0.000 %    0.000 %           8  f8e4m3 tensor  b.weight\n"
        "      0.000000        -           0    0.000 %    0.000 %           8  f8e4m3 tensor  a.weight\n"
        "2 quantized weights, 16 elements: relative error 0.447214 together, 0.250000 on average, "
        "0.500000 at worst (b.weight)\n"
        "1 tensors are not quantized: all equal the baseline's\n"));
    CHECK_INT(p->count, 0);
    const item rescaled[] = {original[0], original[1], {"norm.weight", "BF16", 1, {4}, base_ones}};
    write_checkpoint(p, p->b, rescaled, 3, "{}");
    CHECK_INT(compare_with(p, false, 0), QC_OK);
    CHECK(printed(p, "      1.000000     0.00           1          -          -           4  bf16           "
                     "norm.weight\n"));
    CHECK(printed(p, "1 tensors are not quantized: 1 differ from the baseline's, "));
    end(p);
}

static void test_values_that_are_none(void)
{
    static const uint8_t with_nan[8] = {0x38, 0x38, 0x38, 0x38, 0x38, 0x38, 0x7f, 0x38};
    static const int8_t too_large[8] = {1, 1, 8, 1, 1, 1, -9, 7};
    BEGIN();
    item items[QUANTIZED];
    memcpy(items, quantized, sizeof items);
    items[0].bytes = with_nan;
    write_both(p);
    write_checkpoint(p, p->a, items, QUANTIZED, config_of(p, "float-quantized", tensor_args));
    CHECK_INT(compare_with(p, false, 0), QC_OK);
    CHECK_INT(p->count, 1);
    CHECK(printed(p, "problem: a.weight: 1 of its elements are not finite here or in the baseline, the first "
                     "at [1, 2]\n"));
    CHECK(printed(p,
        "      0.000000        -           0    0.000 %    0.000 %           8  f8e4m3 tensor  a.weight\n"));
    items[0] = (item){"a.weight", "I8", 2, {2, 4}, too_large};
    items[2] = (item){"b.weight", "I8", 2, {2, 4}, too_large};
    write_checkpoint(p, p->a, items, QUANTIZED,
        config_of(p, "int-quantized", "\"num_bits\": 4, \"type\": \"int\", \"strategy\": \"tensor\""));
    CHECK_INT(compare_with(p, false, 0), QC_OK);
    CHECK_INT(p->count, 2);
    CHECK(printed(p, "problem: b.weight: 2 codes are no i4\n"));
    end(p);
}

/* The mixed case: two groups, and a module that neither targets, but only one fits. */
static void test_groups(void)
{
    static const uint16_t two_scales[2] = {0x3f80, 0x4000};
    BEGIN();
    item items[QUANTIZED];
    memcpy(items, quantized, sizeof items);
    items[3] = (item){"b.weight_scale", "BF16", 2, {2, 1}, two_scales};
    const char *groups = qc_arena_printf(&p->arena,
        "\"one\": {\"targets\": [\"re:a$\"], \"weights\": {%s}, \"format\": \"naive-quantized\"},"
        " \"two\": {\"targets\": [\"re:c$\"], \"weights\": {\"num_bits\": 8, \"type\": \"float\","
        " \"strategy\": \"channel\"}}",
        tensor_args);
    write_both(p);
    write_checkpoint(
        p, p->a, items, QUANTIZED, qc_arena_printf(&p->arena, whole_config, groups, "mixed-precision"));
    const qc_json *w = weight_json(p, 0);
    CHECK_STR(word(w, "name"), "b.weight");
    CHECK_STR(word(w, "scheme"), "f8e4m3 channel");
    CHECK_STR(word(w, "config_group"), "two");
    CHECK_NEAR(number(w, "relative_error"), sqrt(4.0 / 32), 1e-15);
    w = weight_json(p, 1);
    CHECK_STR(word(w, "config_group"), "one");
    CHECK_STR(word(w, "format"), "naive-quantized");
    end(p);
}

static void expect_refusal(pair *p, const char *message)
{
    p->m.last[0] = 0;
    CHECK_INT(compare_with(p, false, 0), QC_ERROR);
    CHECK(said(&p->m, message));
    CHECK_INT(p->out.length, 0);
}

static void test_no_pair(void)
{
    BEGIN();
    write_both(p);
    write_checkpoint(p, p->b, original, 2, "{}");
    expect_refusal(p, "has no norm.weight, which ");
    write_checkpoint(p, p->b, original + 1, 2, "{}");
    expect_refusal(p, "has no a.weight, which ");
    const item more[] = {original[0], original[1], original[2], {"z.weight", "BF16", 2, {2, 4}, base_ones}};
    write_checkpoint(p, p->b, more, 4, "{}");
    expect_refusal(p, "has no z.weight, which ");
    const item turned[] = {{"a.weight", "BF16", 2, {4, 2}, base_ones}, original[1], original[2]};
    write_checkpoint(p, p->b, turned, 3, "{}");
    expect_refusal(p, "a.weight is [4, 2], but [2, 4] in ");
    const item longer[] = {original[0], original[1], {"norm.weight", "BF16", 1, {8}, base_ones}};
    write_checkpoint(p, p->b, longer, 3, "{}");
    expect_refusal(p, "norm.weight is [8], but [4] in ");
    const item codes[] = {{"a.weight", "F8_E4M3", 2, {2, 4}, ones}, original[1], original[2]};
    write_checkpoint(p, p->b, codes, 3, "{}");
    expect_refusal(p, "a.weight is F8_E4M3, not a weight of plain numbers");
    write_checkpoint(p, p->b, quantized, QUANTIZED, config_of(p, "float-quantized", tensor_args));
    expect_refusal(p, "is quantized itself; a baseline holds the weights before quantization");
    end(p);
}

static void test_not_to_be_read(void)
{
    BEGIN();
    write_both(p);
    write_checkpoint(p, p->a, original, 3, "{}");
    expect_refusal(p, "has no quantization_config: nothing in it is quantized");
    write_checkpoint(p, p->a, original, 3, config_of(p, "float-quantized", tensor_args));
    expect_refusal(p, "no weight is quantized");
    write_checkpoint(
        p, p->a, quantized, QUANTIZED, "{\"quantization_config\": {\"quant_method\": \"gptq\"}}");
    expect_refusal(p, "quant_method is gptq; errors are computed for compressed-tensors");
    write_checkpoint(p, p->a, quantized, QUANTIZED,
        config_of(p, "float-quantized", "\"num_bits\": 8, \"type\": \"float\", \"strategy\": \"channel\""));
    expect_refusal(p, "b.weight_scale is BF16 []; group_0 expects [2, 1] of BF16 F16 F32");
    write_checkpoint(p, p->a, quantized, QUANTIZED, config_of(p, "int-quantized", "\"num_bits\": 8"));
    expect_refusal(p, "b.weight is F8_E4M3 [2, 4]; group_0 says codes of i8");
    write_checkpoint(p, p->a, quantized, QUANTIZED, config_of(p, "int-quantized", "\"num_bits\": 16"));
    expect_refusal(p, "b: group_0 has codes of type int with 16 bits, which is no known element type");
    write_checkpoint(p, p->a, quantized, QUANTIZED, config_of(p, "int-quantized", "\"num_bits\": \"8\""));
    expect_refusal(p, "num_bits must be an integer");
    end(p);
}

/* The embedding of a model that ties serves as the baseline of a quantized lm_head. */
static void test_tied(void)
{
    BEGIN();
    const item coded[] = {{"lm_head.weight", "F8_E4M3", 2, {2, 4}, ones},
        {"lm_head.weight_scale", "BF16", 1, {1}, one_scale},
        {"model.embed_tokens.weight", "BF16", 2, {2, 4}, base_twos}};
    const item tied[] = {{"model.embed_tokens.weight", "BF16", 2, {2, 4}, base_twos}};
    write_checkpoint(p, p->a, coded, 3, config_of(p, "float-quantized", tensor_args));
    write_checkpoint(p, p->b, tied, 1, "{\"tie_word_embeddings\": true}");
    CHECK_STR(word(weight_json(p, 0), "name"), "lm_head.weight");
    write_checkpoint(p, p->b, tied, 1, "{\"tie_word_embeddings\": false}");
    expect_refusal(p, "has no lm_head.weight, which ");
    end(p);
}

static void test_rotations(void)
{
    BEGIN();
    const char *transform =
        "{\"quantization_config\": {\"quant_method\": \"compressed-tensors\", \"config_groups\": {"
        "\"group_0\": {\"targets\": [\"Linear\"], \"weights\": {%s}}},"
        " \"transform_config\": {\"config_groups\": {\"R1\": {\"apply\": [{\"location\": \"%s\"}]}}}}}";
    write_both(p);
    item items[QUANTIZED + 1];
    memcpy(items, quantized, sizeof quantized);
    items[QUANTIZED] = (item){"self_attn.R1_input.weight", "BF16", 2, {2, 4}, base_ones};
    write_checkpoint(
        p, p->a, items, QUANTIZED + 1, qc_arena_printf(&p->arena, transform, tensor_args, "q_attn"));
    CHECK_INT(compare_with(p, false, 0), QC_OK);
    CHECK_INT(p->m.count, 0);
    write_checkpoint(
        p, p->a, items, QUANTIZED + 1, qc_arena_printf(&p->arena, transform, tensor_args, "weight_input"));
    CHECK_INT(compare_with(p, false, 0), QC_OK);
    CHECK(said(&p->m, "transform_config: R1 was fused into weights"));
    end(p);
}

/* Blocks of rows on one thread and on many give the same text to the last digit. */
static void test_threads(void)
{
    enum { ROWS = 700, COLUMNS = 1003 };
    const size_t count = (size_t)ROWS * COLUMNS;
    uint8_t *codes = malloc(count);
    uint16_t *base = malloc(2 * count);
    char *first = NULL;
    uint32_t state = 77;
    CHECK(codes && base);
    if (!codes || !base) {
        free(codes);
        free(base);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        codes[i] = (uint8_t)(next(&state) % 0x70);
        base[i] = (uint16_t)(0x3000 + next(&state) % 0x1000);
    }
    pair *p = begin();
    if (p) {
        const item coded[] = {{"a.weight", "F8_E4M3", 2, {ROWS, COLUMNS}, codes},
            {"a.weight_scale", "BF16", 1, {1}, one_scale}};
        const item plain[] = {{"a.weight", "BF16", 2, {ROWS, COLUMNS}, base}};
        write_checkpoint(p, p->a, coded, 2, config_of(p, "float-quantized", tensor_args));
        write_checkpoint(p, p->b, plain, 1, "{}");
        for (int threads = 1; threads <= 7; threads += 2) {
            CHECK_INT(compare_with(p, true, threads), QC_OK);
            if (!first)
                first = strdup(p->out.data);
            CHECK_STR(p->out.data, first);
        }
        end(p);
    }
    free(first);
    free(codes);
    free(base);
}

int main(void)
{
    RUN(test_bytes_per_channel);
    RUN(test_blocks);
    RUN(test_words);
    RUN(test_nibbles);
    RUN(test_group_index);
    RUN(test_table);
    RUN(test_values_that_are_none);
    RUN(test_groups);
    RUN(test_no_pair);
    RUN(test_not_to_be_read);
    RUN(test_tied);
    RUN(test_rotations);
    RUN(test_threads);
    return check_done();
}
