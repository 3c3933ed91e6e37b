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
    CHECK(import(c) == NULL);
    CHECK(said(&c->j, "tensor model.layers.0.self_attn.k_scale is missing"));
    put(c, "model.layers.0.self_attn.k_scale", "BF16", 1, 1, 1, 1);
    put(c, "model.layers.0.self_attn.v_scale", "BF16", 1, 1, 1, 1);
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
    CHECK(
        said(&d->j, "quantization_config.config_groups.group_0.weights: strategy 'group' is not supported"));
    change(d, CT(LINEAR_GROUP("null", TOKEN_ARGS), "null"));
    CHECK(import(d) == NULL);
    CHECK(said(&d->j, "group_0: attention needs static scales"));
    change(d, CT(LINEAR_GROUP("null", STATIC_ARGS("tensor")), "null"));
    CHECK(import(d) == NULL);
    CHECK(said(
        &d->j, "group @group_0 quantizes the input of model.layers.0.self_attn.q_proj and not its weight"));
    end(d);
}

int main(void)
{
    RUN(test_quantized_attention);
    RUN(test_quantized_cache);
    RUN(test_quantized_linears);
    return check_done();
}
