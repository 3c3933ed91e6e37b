/* SPDX-License-Identifier: MIT
 *
 * test_hf_quantized.c - importing checkpoints that are quantized already: attention, KV cache, FP8 linear
 * layers.
 */
#include "tests/unit/hf_checkpoint.h"

#define STATIC_ARGS(strategy)                                                                                \
    "{'num_bits': 8, 'type': 'float', 'symmetric': true, 'dynamic': false, 'strategy': '" strategy           \
    "', 'observer': 'static_minmax', 'group_size': null, 'observer_kwargs': {}}"
#define CT(groups, kv)                                                                                       \
    "{'quantization_config': {'quant_method': 'compressed-tensors', 'format': 'dense', "                     \
    "'config_groups': " groups ", 'ignore': ['lm_head'], 'kv_cache_scheme': " kv "}}"
#define ATTENTION_GROUP                                                                                      \
    "{'group_0': {'targets': ['LlamaAttention'], 'weights': null, 'format': 'dense', "                       \
    "'input_activations': " STATIC_ARGS("attn_head") "}}"

static void test_quantized_attention(void)
{
    BEGIN(c, CT(ATTENTION_GROUP, STATIC_ARGS("attn_head")));
    put(c, "model.layers.0.self_attn.q_scale", "BF16", 3, 2, 1, 1);
    put(c, "model.layers.0.self_attn.k_scale", "BF16", 3, 1, 1, 1);
    put(c, "model.layers.0.self_attn.v_scale", "BF16", 3, 1, 1, 1);
    put(c, "model.layers.0.self_attn.q_zero_point", "F8_E4M3", 3, 2, 1, 1);
    const char *ir = import(c);
    CHECK(holds(ir,
        "scheme @group_0 {arith = ct_cpu, ignore = [\"lm_head\"], input = {granularity = head, observer = "
        "static_minmax, symmetric, type = f8e4m3}, targets = [\"LlamaAttention\"]}\n"));
    CHECK_INT(occurrences(ir, "kv_scheme"), 0);
    CHECK(holds(ir,
        "%q_scale = const [0.0115, 0.0115] : bf16[2, 1, 1]\n"
        "    %q_codes = quantize %q.2, %q_scale {arg = input, scheme = @group_0} : f8e4m3[B, 2, S, 4]\n"));
    CHECK(holds(ir, "%k.3 = cache_append %k_codes {slot = k} : f8e4m3[B, 1, P + S, 4]\n"));
    CHECK(holds(
        ir, "attention %q_codes, %k.3, %v.2, q_scale=%q_scale, k_scale=%k_scale, v_scale=%v_scale {causal"));
    CHECK_INT(c->j.length, 0);
    c->fill = 0xff;
    CHECK(import(c) == NULL);
    CHECK(said(&c->j, "tensor model.layers.0.self_attn.q_scale: scale 0 is"));
    c->fill = 0;
    CHECK(import(c) == NULL);
    CHECK(said(&c->j, "q_scale: scale 0 is 0, which is no positive number"));
    CHECK_INT(occurrences(c->j.text, "building "), 0); /* one error, not one for each op that misses it */
    c->fill = 0x3c;
    put(c, "model.layers.0.self_attn.k_scale", "BF16", 1, 1, 1, 1);
    CHECK(import(c) == NULL);
    CHECK(said(&c->j, "k_scale has shape [1], but config.json implies [1, 1, 1] (quantization_config)"));
    change(c, CT(ATTENTION_GROUP, STATIC_ARGS("tensor")));
    CHECK(import(c) == NULL);
    CHECK(said(&c->j, "group_0 and kv_cache_scheme differ"));
    end(c);
}

static void test_quantized_cache(void)
{
    BEGIN(c, CT("{}", STATIC_ARGS("tensor")));
    /* Neither scale: 1.0 for both. One alone: an error. */
    CHECK(holds(import(c), "%k_scale = const [1.0] : bf16[1]"));
    CHECK(said(&c->j, "as loaders do, 1.0 is taken for: model.layers.0.self_attn\n"));
    put(c, "model.layers.0.self_attn.v_scale", "BF16", 1, 1, 1, 1);
    CHECK(import(c) == NULL);
    CHECK(said(&c->j, "tensor model.layers.0.self_attn.k_scale is missing"));
    put(c, "model.layers.0.self_attn.k_scale", "BF16", 1, 1, 1, 1);
    const char *ir = import(c);
    CHECK(holds(ir,
        "kv_scheme @kv {arith = ct_cpu, input = {granularity = tensor, observer = static_minmax, symmetric, "
        "type = f8e4m3}, targets = [\"LlamaAttention\"]}\n"));
    CHECK(holds(ir, "attention %q.2, %k.3, %v.2, k_scale=%k_scale, v_scale=%v_scale {causal"));
    qc_hf_options options = {.dtype = QC_F32};
    CHECK(holds(import_as(c, &options), "%k_scale = const [0.0114"));
    put(c, "model.layers.0.self_attn.k_scale", "F32", 1, 1, 1, 1);
    CHECK(import(c) == NULL);
    CHECK(said(&c->j, "k_scale is F32 in a model that computes in bf16"));
    end(c);
}

#define LINEAR_GROUP(weights, input)                                                                         \
    "{'group_0': {'targets': ['Linear'], 'weights': " weights                                                \
    ", 'format': 'float-quantized', 'input_activations': " input "}}"
#define TOKEN_ARGS                                                                                           \
    "{'num_bits': 8, 'type': 'float', 'symmetric': true, 'dynamic': true, 'strategy': 'token', 'observer': " \
    "null}"

static void put_fp8_linears(checkpoint *c, bool by_channel, bool input_scale)
{
    static const struct {
        const char *name;
        int64_t d0, d1;
    } parts[] = {{"self_attn.q_proj", 8, 8}, {"self_attn.k_proj", 4, 8}, {"self_attn.v_proj", 4, 8},
        {"self_attn.o_proj", 8, 8}, {"mlp.gate_proj", 6, 8}, {"mlp.up_proj", 6, 8}, {"mlp.down_proj", 8, 6}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        const char *path = qc_arena_printf(&c->arena, "model.layers.0.%s", parts[i].name);
        put(c, qc_arena_printf(&c->arena, "%s.weight", path), "F8_E4M3", 2, parts[i].d0, parts[i].d1, 1);
        put(c, qc_arena_printf(&c->arena, "%s.weight_scale", path), "BF16", by_channel ? 2 : 1,
            by_channel ? parts[i].d0 : 1, 1, 1);
        if (input_scale)
            put(c, qc_arena_printf(&c->arena, "%s.input_scale", path), "BF16", 1, 1, 1, 1);
    }
}

static void test_quantized_linears(void)
{
    BEGIN(c, CT(LINEAR_GROUP(STATIC_ARGS("channel"), TOKEN_ARGS), "null"));
    CHECK(import(c) == NULL);
    CHECK(said(&c->j, "q_proj.weight has element type BF16; expected F8_E4M3"));
    put_fp8_linears(c, true, false);
    const char *ir = import(c);
    CHECK(holds(ir, "input = {dynamic, granularity = token, symmetric, type = f8e4m3}"));
    CHECK(holds(ir,
        "%w_codes = weight \"model.layers.0.self_attn.q_proj.weight\" : f8e4m3[8, 8] at \".q_proj\"\n"
        "    %w_scale = weight \"model.layers.0.self_attn.q_proj.weight_scale\" : bf16[8, 1] at \".q_proj\"\n"
        "    %w.2 = dequantize %w_codes, %w_scale {to = bf16} : bf16[8, 8] at \".q_proj\"\n"
        "    %x_scale = qparams %x {arg = input, scheme = @group_0} : bf16[B, S, 1] at \".q_proj\"\n"));
    CHECK_INT(occurrences(ir, " = quantize "), 7);
    CHECK(holds(ir, "%logits = linear %x"));
    CHECK(holds(ir, "weight \"lm_head.weight\" : bf16[10, 8]"));
    end(c);

    BEGIN(d, CT(LINEAR_GROUP(STATIC_ARGS("tensor"), STATIC_ARGS("tensor")), "null"));
    put_fp8_linears(d, false, true);
    ir = import(d);
    CHECK(holds(ir, "%x_scale = const [0.0115] : bf16[1] at \".q_proj\"\n"));
    CHECK(
        holds(ir, "module \"model.layers.0.self_attn.q_proj\" Linear {weight, weight_scale, input_scale}\n"));
    change(d, CT(LINEAR_GROUP(STATIC_ARGS("group"), "null"), "null"));
    CHECK(import(d) == NULL);
    CHECK(said(&d->j,
        "quantization_config.config_groups.group_0.weights: group_size 0 does not go with strategy 'group'"));
    change(d, CT(LINEAR_GROUP("null", TOKEN_ARGS), "null"));
    CHECK(import(d) == NULL);
    CHECK(said(&d->j, "group @group_0 quantizes the input of model.layers.0.self_attn.q_proj and not its"));
    change(d, CT(LINEAR_GROUP("null", STATIC_ARGS("tensor")), "null"));
    CHECK(import(d) == NULL);
    CHECK(said(
        &d->j, "group @group_0 quantizes the input of model.layers.0.self_attn.q_proj and not its weight"));
    end(d);
}

/* ---- other formats ------------------------------------------------------------------------------------- */

#define FORMAT_GROUP(format, weights, input)                                                                 \
    "{'group_0': {'targets': ['Linear'], 'format': '" format "', 'weights': " weights                        \
    ", 'input_activations': " input "}}"

/* One tensor of a linear by the shape of its weight [out, in]. */
typedef struct part {
    const char *name, *dtype;
    int rank;
    int64_t rows_per, columns_per; /* one element for so many; 0: the size is 1 */
} part;

/* Makes codes of all linears of layer 0: the parts in place of `weight`. */
static void put_linears(checkpoint *c, const part *parts, size_t count)
{
    static int64_t shapes[7][2] = {{8, 8}, {4, 8}, {4, 8}, {8, 8}, {6, 8}, {6, 8}, {8, 6}};
    static const char *const names[7] = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
        "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"};
    for (size_t i = 0; i < 7; i++) {
        const char *path = qc_arena_printf(&c->arena, "model.layers.0.%s", names[i]);
        put(c, qc_arena_printf(&c->arena, "%s.weight", path), NULL, 0, 0, 0, 0);
        for (size_t k = 0; k < count; k++) {
            const part *p = &parts[k];
            const char *name = qc_arena_printf(&c->arena, "%s.%s", path, p->name);
            bool shape = strcmp(p->name, "weight_shape") == 0;
            int64_t rows = p->rows_per ? (shapes[i][0] + p->rows_per - 1) / p->rows_per : 1;
            int64_t columns = p->columns_per ? (shapes[i][1] + p->columns_per - 1) / p->columns_per : 1;
            put(c, name, p->dtype, p->rank, shape ? 2 : rows, columns, 1);
            if (shape)
                fill(c, name, shapes[i]);
        }
    }
}

static void test_packed_integers(void)
{
    BEGIN(c,
        CT(FORMAT_GROUP("pack-quantized",
               "{'num_bits': 4, 'type': 'int', 'symmetric': false, 'strategy': 'group', 'group_size': 4, "
               "'dynamic': false, 'observer': 'mse', 'observer_kwargs': {'grid': 50, 'norm': 2.5, 'strict': "
               "true}, 'zp_dtype': 'torch.int8', 'actorder': 'static'}",
               "null"),
            "null"));
    static const part parts[] = {{"weight_packed", "I32", 2, 1, 8}, {"weight_scale", "BF16", 2, 1, 4},
        {"weight_zero_point", "I32", 2, 8, 4}, {"weight_shape", "I64", 1, 0, 0}};
    put_linears(c, parts, 4);
    const char *ir = import(c);
    CHECK(holds(ir, "weights = {actorder = static, granularity = group, group = 4, observer = mse, "
                    "observer_args = {grid = 50, "
                    "norm = 2.5, strict}, symmetric = false, type = i4}}\n"));
    CHECK(holds(ir,
        "    %w_codes_packed = weight \"model.layers.0.self_attn.q_proj.weight_packed\" : i32[8, 1] at "
        "\".q_proj\"\n"
        "    %w_codes = unpack %w_codes_packed : i4[8, 8] at \".q_proj\"\n"
        "    %w_scale = weight \"model.layers.0.self_attn.q_proj.weight_scale\" : bf16[8, 2] at \".q_proj\"\n"
        "    %w_zero_packed = weight \"model.layers.0.self_attn.q_proj.weight_zero_point\" : i32[1, 2] at "
        "\".q_proj\"\n"
        "    %w_zero = unpack %w_zero_packed {axis = 0} : i4[8, 2] at \".q_proj\"\n"
        "    %w.2 = dequantize %w_codes, %w_scale, zero_point=%w_zero {group = 4, to = bf16} : bf16[8, 8] at "
        "\".q_proj\"\n"));
    CHECK(holds(ir,
        "module \"model.layers.0.self_attn.q_proj\" Linear {weight_packed, weight_shape, weight_scale, "
        "weight_zero_point}\n"));
    CHECK_INT(c->j.length, 0);
    static int64_t wrong[2] = {8, 9};
    fill(c, "model.layers.0.self_attn.q_proj.weight_shape", wrong);
    CHECK(import(c) == NULL);
    CHECK(said(&c->j, "q_proj.weight_shape says [8, 9], but config.json implies [8, 8]"));
    put(c, "model.layers.0.self_attn.q_proj.weight_packed", "I32", 2, 8, 2, 1);
    CHECK(import(c) == NULL);
    CHECK(said(&c->j, "q_proj.weight_packed has shape [8, 2], but config.json implies [8, 1]"));
    end(c);
}

#define NVFP4(dynamic)                                                                                       \
    "{'num_bits': 4, 'type': 'float', 'symmetric': true, 'strategy': 'tensor_group', 'group_size': 16, "     \
    "'dynamic': " dynamic                                                                                    \
    ", 'observer': 'static_minmax', 'scale_dtype': 'torch.float8_e4m3fn', 'zp_dtype': null}"
#define MX(bits)                                                                                             \
    "{'num_bits': " bits ", 'type': 'float', 'symmetric': true, 'strategy': 'group', 'group_size': 32, "     \
    "'dynamic': true, 'scale_dtype': 'torch.uint8', 'zp_dtype': null}"
#define MX_WEIGHTS(bits)                                                                                     \
    "{'num_bits': " bits ", 'type': 'float', 'symmetric': true, 'strategy': 'group', 'group_size': 32, "     \
    "'dynamic': false, 'observer': null, 'scale_dtype': 'torch.uint8', 'zp_dtype': null}"

static void test_four_bit_floats(void)
{
    BEGIN(c, CT(FORMAT_GROUP("nvfp4-pack-quantized", NVFP4("false"), NVFP4("'local'")), "null"));
    static const part parts[] = {{"weight_packed", "U8", 2, 1, 2}, {"weight_scale", "F8_E4M3", 2, 1, 16},
        {"weight_global_scale", "F32", 1, 0, 0}, {"input_global_scale", "F32", 1, 0, 0}};
    put_linears(c, parts, 4);
    const char *ir = import(c);
    CHECK(holds(ir, "input = {dynamic, global, granularity = group, group = 16, observer = static_minmax, "
                    "scale = f8e4m3, "
                    "symmetric, type = f4e2m1}"));
    CHECK(holds(ir,
        "    %w_codes = unpack %w_codes_packed : f4e2m1[8, 8] at \".q_proj\"\n"
        "    %w_scale = weight \"model.layers.0.self_attn.q_proj.weight_scale\" : f8e4m3[8, 1] at "
        "\".q_proj\"\n"
        "    %w_global = weight \"model.layers.0.self_attn.q_proj.weight_global_scale\" : f32[1] at "
        "\".q_proj\"\n"
        "    %w.2 = dequantize %w_codes, %w_scale, global=%w_global {group = 16, to = bf16} : bf16[8, 8] at "
        "\".q_proj\"\n"));
    CHECK(holds(ir,
        "    %x_scale = qparams %x, global=%x_global {arg = input, scheme = @group_0} : f8e4m3[B, S, 1] at "
        "\".q_proj\"\n"
        "    %x_codes = quantize %x, %x_scale, global=%x_global {arg = input, scheme = @group_0} : f4e2m1[B, "
        "S, 8] at "
        "\".q_proj\"\n"));
    CHECK_INT(c->j.length, 0);
    end(c);

    BEGIN(d, CT(FORMAT_GROUP("mxfp4-pack-quantized", MX_WEIGHTS("4"), MX("4")), "null"));
    static const part mx[] = {{"weight_packed", "U8", 2, 1, 2}, {"weight_scale", "U8", 2, 1, 32}};
    put_linears(d, mx, 2);
    ir = import(d);
    CHECK(holds(ir, "    %w_scale = unpack %w_scale_packed : f8e8m0[8, 1] at \".q_proj\"\n"));
    CHECK(holds(
        ir, "    %x_scale = qparams %x {arg = input, scheme = @group_0} : f8e8m0[B, S, 1] at \".q_proj\"\n"));
    CHECK_INT(d->j.length, 0);
    end(d);
}

#define INT8(strategy, rest) "{'num_bits': 8, 'type': 'int', 'strategy': '" strategy "', " rest "}"

static void test_integers(void)
{
    BEGIN(c, CT(FORMAT_GROUP("int-quantized", INT8("channel", "'symmetric': true"),
                    INT8("tensor", "'symmetric': false, 'observer': 'static_minmax'")),
                 "null"));
    static const part parts[] = {{"weight", "I8", 2, 1, 1}, {"weight_scale", "BF16", 2, 1, 0},
        {"input_scale", "BF16", 1, 0, 0}, {"input_zero_point", "I8", 1, 0, 0}};
    put_linears(c, parts, 4);
    const char *ir = import(c);
    CHECK(
        holds(ir, "%x_scale = const [0.0115] : bf16[1] at \".q_proj\"\n    %x_zero = const [60] : i8[1] at"));
    CHECK(holds(ir, "quantize %x, %x_scale, zero_point=%x_zero {arg = input, scheme = @group_0}"));
    CHECK_INT(c->j.length, 0);
    end(c);

    BEGIN(
        d, CT(FORMAT_GROUP("float-quantized",
                  "{'num_bits': 8, 'type': 'float', 'strategy': 'block', 'block_structure': [4, 4]}",
                  "{'num_bits': 8, 'type': 'float', 'strategy': 'group', 'group_size': 2, 'dynamic': true}"),
               "null"));
    static const part blocks[] = {{"weight", "F8_E4M3", 2, 1, 1}, {"weight_scale", "BF16", 2, 4, 4}};
    put_linears(d, blocks, 2);
    ir = import(d);
    CHECK(holds(ir, "%w.2 = dequantize %w_codes, %w_scale {block = [4, 4], to = bf16} : bf16[8, 8]"));
    CHECK(holds(ir, "%x_scale = qparams %x {arg = input, scheme = @group_0} : bf16[B, S, 4]"));
    CHECK_INT(d->j.length, 0);
    end(d);
}

static void test_quantized_embedding(void)
{
    BEGIN(c, CT("{'group_0': {'targets': ['Embedding'], 'format': 'pack-quantized', 'weights': " INT8(
                    "channel", "'symmetric': true") ", 'input_activations': null}}",
                 "null"));
    static int64_t shape[2] = {10, 8};
    put(c, "model.embed_tokens.weight", NULL, 0, 0, 0, 0);
    put(c, "model.embed_tokens.weight_packed", "I32", 2, 10, 2, 1);
    put(c, "model.embed_tokens.weight_scale", "BF16", 2, 10, 1, 1);
    put(c, "model.embed_tokens.weight_shape", "I64", 1, 2, 1, 1);
    fill(c, "model.embed_tokens.weight_shape", shape);
    const char *ir = import(c);
    CHECK(holds(ir, "%w_codes = unpack %w_codes_packed : i8[10, 8]"));
    CHECK(holds(ir, "%h = embedding %ids, %w : bf16[B, S, 8]"));
    CHECK_INT(c->j.length, 0);
    change(c, "{'tie_word_embeddings': true}");
    put(c, "lm_head.weight", NULL, 0, 0, 0, 0);
    CHECK(import(c) == NULL);
    CHECK(said(&c->j, "quantization_config targets the embedding, lm_head.weight is not stored beside it, "
                      "and no group gives "
                      "lm_head the same codes"));
    end(c);
}

/* A class that all modules have reaches the embedding, whose inputs stay, the head, which is the embedding, and no
 * attention module. */
static void test_quantized_head(void)
{
    BEGIN(c, "{'tie_word_embeddings': true, 'quantization_config': {'quant_method': 'compressed-tensors', "
             "'format': 'float-quantized', 'config_groups': {'group_0': {'targets': ['Module'], 'format': "
             "'float-quantized', 'weights': " STATIC_ARGS("channel") ", 'input_activations': " TOKEN_ARGS
                                                                     "}}, 'ignore': []}}");
    put_fp8_linears(c, true, false);
    put(c, "model.embed_tokens.weight", "F8_E4M3", 2, 10, 8, 1);
    put(c, "model.embed_tokens.weight_scale", "BF16", 2, 10, 1, 1);
    put(c, "lm_head.weight", NULL, 0, 0, 0, 0);
    const char *ir = import(c);
    CHECK(holds(ir, "%h = embedding %ids, %w : bf16[B, S, 8]"));
    CHECK_INT(occurrences(ir, "weight \"model.embed_tokens.weight\" : f8e4m3[10, 8]"), 2);
    CHECK_INT(occurrences(ir, " = quantize "), 8);
    CHECK_INT(c->j.length, 0);
    end(c);
}

static void test_rotations(void)
{
    BEGIN(c, CT("{}", "null"));
    change(c,
        "{'quantization_config': {'quant_method': 'compressed-tensors', 'format': 'dense', "
        "'transform_config': "
        "{'config_groups': {'R1': {'type': 'hadamard', 'apply': [{'location': 'weight_output'}, {'location': "
        "'weight_input', 'inverse': true}]}}}}}");
    CHECK(import(c) != NULL);
    change(c, "{'quantization_config': {'quant_method': 'compressed-tensors', 'format': 'dense', "
              "'transform_config': "
              "{'config_groups': {'R3': {'type': 'hadamard', 'apply': [{'location': 'q_attn'}]}}}}}");
    CHECK(import(c) != NULL); /* without targets nothing is rotated */
    change(c, "{'quantization_config': {'quant_method': 'compressed-tensors', 'transform_config': [1]}}");
    CHECK(import(c) == NULL);
    CHECK(said(&c->j, "transform_config: config_groups must be an object"));
    change(c, "{'quantization_config': {'quant_method': 'compressed-tensors', 'transform_config': "
              "{'config_groups': "
              "{'R1': {'apply': {}}}}}}");
    CHECK(import(c) == NULL);
    CHECK(said(&c->j, "R1: apply must be a list"));
    end(c);
}

static void test_refused_schemes(void)
{
    static const struct {
        const char *config, *message;
    } cases[] = {
        {CT(FORMAT_GROUP("pack-quantized", INT8("group", "'group_size': 4, 'actorder': 'group'"), "null"),
             "null"),
            "actorder 'group' is not supported"},
        {CT(FORMAT_GROUP("pack-quantized", NVFP4("false"), "null"), "null"),
            "weights of this type do not go with format 'pack-quantized'"},
        {CT(FORMAT_GROUP("nvfp4-pack-quantized", MX_WEIGHTS("4"), "null"), "null"),
            "weights of this type do not go with format 'nvfp4-pack-quantized'"},
        {CT(FORMAT_GROUP("mixed-precision", INT8("channel", "'symmetric': true"), "null"), "null"),
            "no format says how the weights are stored"},
        {CT(FORMAT_GROUP("int-quantized", INT8("channel", "'dynamic': true"), "null"), "null"),
            "weights must be static"},
        {CT(FORMAT_GROUP(
                "int-quantized", INT8("channel", "'symmetric': true"), INT8("channel", "'dynamic': true")),
             "null"),
            "input_activations must be dynamic of strategy tensor, token or group"},
        {CT(FORMAT_GROUP("int-quantized", INT8("group", "'group_size': 4, 'dynamic': 'local'"), "null"),
             "null"),
            "dynamic 'local' does not go with the strategy"},
        {CT(FORMAT_GROUP("int-quantized", INT8("block", "'block_structure': [0, 4]"), "null"), "null"),
            "strategy 'block' needs block_structure [rows, columns]"},
        {CT(FORMAT_GROUP("int-quantized", INT8("channel", "'observer': 'entropy'"), "null"), "null"),
            "observer 'entropy' is not supported"},
        {CT(FORMAT_GROUP("int-quantized", INT8("channel", "'scale_dtype': 'torch.uint8'"), "null"), "null"),
            "scale_dtype 'torch.uint8' is not supported"},
        {CT(FORMAT_GROUP(
                "int-quantized", INT8("channel", "'symmetric': false, 'zp_dtype': 'torch.float16'"), "null"),
             "null"),
            "zp_dtype 'torch.float16' is not supported"},
        {CT(FORMAT_GROUP("float-quantized", "{'num_bits': 8, 'type': 'float', 'symmetric': false}", "null"),
             "null"),
            "an asymmetric scheme of type float is not supported"},
        {CT(FORMAT_GROUP("int-quantized", "{'num_bits': 12, 'type': 'int'}", "null"), "null"),
            "codes of type int with 12 bits are not supported"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        BEGIN(c, cases[i].config);
        CHECK(import(c) == NULL);
        CHECK(said(&c->j, cases[i].message));
        CHECK_INT(c->j.counts[QC_SEVERITY_ERROR], 1);
        end(c);
    }
}

int main(void)
{
    RUN(test_packed_integers);
    RUN(test_four_bit_floats);
    RUN(test_integers);
    RUN(test_quantized_embedding);
    RUN(test_quantized_head);
    RUN(test_rotations);
    RUN(test_refused_schemes);
    RUN(test_quantized_attention);
    RUN(test_quantized_cache);
    RUN(test_quantized_linears);
    return check_done();
}
