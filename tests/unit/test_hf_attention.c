/* SPDX-License-Identifier: MIT
 *
 * test_hf_attention.c - what the importer makes of the attention of each architecture: modules, tensors, ops; quantized
 * variants of them; tensors that do not fit. Values are tested against Transformers elsewhere (test_architectures.c,
 * tests/tools/test_attention_amax.sh).
 */
#include "tests/unit/hf_checkpoint.h"

#define L0 "model.layers.0."
#define ATTENTION L0 "self_attn."

static void put_vector(checkpoint *c, const char *name, int64_t size)
{
    put(c, name, "BF16", 1, size, 1, 1);
}

static void put_matrix(checkpoint *c, const char *name, int64_t rows, int64_t columns)
{
    put(c, name, "BF16", 2, rows, columns, 1);
}

static void take(checkpoint *c, const char *name)
{
    put(c, name, NULL, 0, 0, 0, 0);
}

static void take_projections(checkpoint *c)
{
    take(c, ATTENTION "q_proj.weight");
    take(c, ATTENTION "k_proj.weight");
    take(c, ATTENTION "v_proj.weight");
}

static void test_fused(void)
{
    BEGIN(c, "{'architectures': ['Phi3ForCausalLM'], 'model_type': 'phi3', 'partial_rotary_factor': 0.5}");
    take_projections(c);
    take(c, L0 "mlp.gate_proj.weight");
    take(c, L0 "mlp.up_proj.weight");
    put_matrix(c, L0 "mlp.gate_up_proj.weight", 12, 8);
    CHECK(import(c) == NULL);
    CHECK(said(&c->j, "tensor model.layers.0.self_attn.qkv_proj.weight is missing"));
    put_matrix(c, ATTENTION "qkv_proj.weight", 24, 8);
    CHECK(import(c) == NULL);
    CHECK(said(&c->j,
        "qkv_proj.weight has shape [24, 8], but config.json implies [16, 8] ((num_attention_heads + 2 * "));
    put_matrix(c, ATTENTION "qkv_proj.weight", 16, 8);
    const char *ir = import(c);
    CHECK(holds(ir, "module \"model.layers.0.self_attn\" Phi3Attention\n"
                    "module \"model.layers.0.self_attn.o_proj\" Linear {weight}\n"
                    "module \"model.layers.0.self_attn.qkv_proj\" Linear {weight}\n"));
    CHECK(holds(ir, "%q = slice %qkv {axis = -1, start = 0, stop = 8} : bf16[B, S, 8]\n"));
    CHECK(holds(ir, "%k = slice %qkv {axis = -1, start = 8, stop = 12} : bf16[B, S, 4]\n"));
    CHECK(holds(ir, "%v = slice %qkv {axis = -1, start = 12, stop = 16} : bf16[B, S, 4]\n"));
    CHECK_INT(occurrences(ir, "rope "), 2);
    CHECK_INT(occurrences(ir, "rope %q.1, %pos {dims = 2, tables = bf16, theta = 10000.0}"), 1);
    change(c, "{'rope_scaling': {'type': 'longrope', 'short_factor': [1.5], 'long_factor': [3]}, "
              "'original_max_position_embeddings': 32}");
    CHECK(holds(import(c),
        "rope %q.1, %pos {dims = 2, scaling = {attention_factor = 1.0954451150103321, long_factor = [3.0], "
        "original_max_position_embeddings = 32, short_factor = [1.5], type = longrope}, tables = bf16"));
    end(c);
}

/* Norms of q and k over all heads, and tables in f32. */
static void test_whole_norms(void)
{
    BEGIN(c, "{'architectures': ['Olmo2ForCausalLM'], 'model_type': 'olmo2'}");
    take(c, L0 "input_layernorm.weight");
    put_vector(c, L0 "post_feedforward_layernorm.weight", 8);
    put_vector(c, ATTENTION "q_norm.weight", 4);
    put_vector(c, ATTENTION "k_norm.weight", 4);
    CHECK(import(c) == NULL);
    CHECK(said(
        &c->j, "q_norm.weight has shape [4], but config.json implies [8] (num_attention_heads * head_dim)"));
    put_vector(c, ATTENTION "q_norm.weight", 8);
    const char *ir = import(c);
    CHECK(holds(ir, "%q.1 = rmsnorm %q, "));
    CHECK(holds(ir, "round = after} : bf16[B, S, 8] at \".q_norm\"\n"
                    "    %q.2 = split_heads %q.1 {heads = 2} : bf16[B, 2, S, 4]\n"
                    "    %q.3 = cast %q.2 {to = f32} : f32[B, 2, S, 4]\n"
                    "    %q.4 = rope %q.3, %pos {tables = f32, theta = 10000.0} : f32[B, 2, S, 4]\n"
                    "    %q.5 = cast %q.4 {to = bf16} : bf16[B, 2, S, 4]\n"));
    change(c, "{'torch_dtype': 'float32'}");
    ir = import(c);
    CHECK_INT(occurrences(ir, "= rope %q.2, %pos {tables = f32, theta = 10000.0} : f32[B, 2, S, 4]\n"), 1);
    end(c);
}

static void put_gemma(checkpoint *c)
{
    put_vector(c, L0 "pre_feedforward_layernorm.weight", 8);
    put_vector(c, L0 "post_feedforward_layernorm.weight", 8);
}

static void test_caps_and_scales(void)
{
    BEGIN(c, "{'architectures': ['Gemma2ForCausalLM'], 'model_type': 'gemma2', 'head_dim': 4, "
             "'query_pre_attn_scalar': 16, 'attn_logit_softcapping': 20.0, 'sliding_window': 3}");
    put_gemma(c);
    const char *ir = import(c);
    CHECK_INT(occurrences(ir, "scale = 0.25, scores = bf16, softcap = 20.0, softmax = f32, window = 3}"), 1);
    change(c, "{'attn_logit_softcapping': null, 'layer_types': ['full_attention']}");
    ir = import(c);
    CHECK_INT(occurrences(ir, "scale = 0.25, scores = bf16, softmax = f32}"), 1);
    end(c);
}

static void test_two_bases(void)
{
    BEGIN(c, "{'architectures': ['Gemma3ForCausalLM'], 'model_type': 'gemma3_text', 'head_dim': 4, "
             "'rope_local_base_freq': 5.0, 'rope_scaling': {'rope_type': 'linear', 'factor': 2.0}}");
    put_gemma(c);
    put_vector(c, ATTENTION "q_norm.weight", 4);
    put_vector(c, ATTENTION "k_norm.weight", 4);
    const char *ir = import(c);
    CHECK_INT(occurrences(ir, "rope %q.2, %pos {tables = bf16, theta = 5.0}"), 1);
    CHECK(holds(ir, "offset = 1.0, round = after} : bf16[B, 2, S, 4] at \".q_norm\""));
    change(c, "{'sliding_window_pattern': 1}");
    ir = import(c);
    CHECK_INT(
        occurrences(ir,
            "rope %q.2, %pos {scaling = {factor = 2.0, type = linear}, tables = bf16, theta = 1000000.0}"),
        1);
    end(c);
}

/* Layers with RoPE: neighbours turned in f32, normed behind, chunks. Layers without: q times a number for its position. */
static void test_layers_without_rope(void)
{
    BEGIN(c,
        "{'architectures': ['Llama4ForCausalLM'], 'model_type': 'llama4_text', 'head_dim': 4, 'moe_layers': "
        "[], "
        "'intermediate_size_mlp': 6, 'no_rope_layers': [1], 'attention_chunk_size': 5, 'floor_scale': 4, "
        "'attn_scale': 0.5}");
    static const char *const parts[] = {"gate_proj", "up_proj", "down_proj"};
    for (size_t i = 0; i < 3; i++) {
        take(c, qc_arena_printf(&c->arena, L0 "mlp.%s.weight", parts[i]));
        put_matrix(c, qc_arena_printf(&c->arena, L0 "feed_forward.%s.weight", parts[i]), i < 2 ? 6 : 8,
            i < 2 ? 8 : 6);
    }
    const char *ir = import(c);
    CHECK(holds(ir, "module \"model.layers.0.self_attn.qk_norm\" Llama4TextL2Norm\n"));
    CHECK(holds(ir, "rope %q.2, %pos {interleaved, tables = f32, theta = 500000.0} : f32[B, 2, S, 4]\n"));
    CHECK_INT(occurrences(ir, "at \".qk_norm\""), 4);
    CHECK_INT(occurrences(ir, "{causal, chunk = 5, probs"), 1);
    CHECK_INT(occurrences(ir, "= floor "), 0);
    change(c, "{'no_rope_layers': [0]}");
    ir = import(c);
    CHECK_INT(occurrences(ir, "rope "), 0);
    CHECK_INT(occurrences(ir, "qk_norm"), 0);
    CHECK_INT(occurrences(ir, "chunk"), 0);
    CHECK_INT(occurrences(ir, "= floor "), 1);
    CHECK_INT(occurrences(ir, "= log "), 1);
    CHECK(holds(ir, "= mul %q.1, %t"));
    change(c, "{'attn_temperature_tuning': false}");
    CHECK_INT(occurrences(import(c), "= floor "), 0);
    end(c);
}

#define LATENT                                                                                               \
    "'architectures': ['DeepseekV3ForCausalLM'], 'model_type': 'deepseek_v3', 'num_key_value_heads': 2, "    \
    "'kv_lora_rank': 6, 'qk_nope_head_dim': 4, 'qk_rope_head_dim': 2, 'v_head_dim': 3, "                     \
    "'first_k_dense_replace': 1"
#define CACHE(strategy)                                                                                      \
    "'quantization_config': {'quant_method': 'compressed-tensors', 'format': 'dense', 'config_groups': {}, " \
    "'ignore': ['lm_head'], 'kv_cache_scheme': {'num_bits': 8, 'type': 'float', 'symmetric': true, "         \
    "'dynamic': false, 'strategy': '" strategy "', 'observer': 'static_minmax', 'group_size': null, "        \
    "'observer_kwargs': {}}}"

static void put_latent(checkpoint *c)
{
    take_projections(c);
    put_matrix(c, ATTENTION "q_proj.weight", 12, 8);
    put_matrix(c, ATTENTION "kv_a_proj_with_mqa.weight", 8, 8);
    put_vector(c, ATTENTION "kv_a_layernorm.weight", 6);
    put_matrix(c, ATTENTION "kv_b_proj.weight", 14, 6);
    put_matrix(c, ATTENTION "o_proj.weight", 8, 6);
}

static void test_latent(void)
{
    BEGIN(c, "{" LATENT ", 'q_lora_rank': null, 'rms_norm_eps': 1e-3}");
    put_latent(c);
    const char *ir = import(c);
    CHECK(holds(ir, "module \"model.layers.0.self_attn.q_proj\" Linear {weight}\n"
                    "module \"model.layers.0.self_attn.kv_a_proj_with_mqa\" Linear {weight}\n"
                    "module \"model.layers.0.self_attn.kv_a_layernorm\" DeepseekV3RMSNorm {weight}\n"
                    "module \"model.layers.0.self_attn.kv_b_proj\" Linear {weight}\n"
                    "module \"model.layers.0.self_attn.o_proj\" Linear {weight}\n"));
    CHECK_INT(occurrences(ir, "{interleaved, tables = bf16, theta = 10000.0} : bf16[B, 2, S, 2]"), 1);
    CHECK_INT(occurrences(ir, "{interleaved, tables = bf16, theta = 10000.0} : bf16[B, 1, S, 2]"), 1);
    CHECK(holds(ir, "{eps = 1e-06} : bf16[B, S, 6] at \".kv_a_layernorm\""));
    CHECK(holds(ir, "%kv_latent = latent_kv %latent.2, %k_rope.2 : bf16[B, 1, S, 8]\n"));
    CHECK(holds(ir, "{slot = k} : bf16[B, 2, P + S, 6]\n"));
    CHECK(holds(ir, "{slot = v} : bf16[B, 2, P + S, 3]\n"));
    change(c, "{'q_lora_rank': 5, 'rope_interleave': false}");
    take(c, ATTENTION "q_proj.weight");
    put_matrix(c, ATTENTION "q_a_proj.weight", 5, 8);
    put_vector(c, ATTENTION "q_a_layernorm.weight", 5);
    put_matrix(c, ATTENTION "q_b_proj.weight", 12, 5);
    ir = import(c);
    CHECK(holds(ir, "{eps = 1e-06} : bf16[B, S, 5] at \".q_a_layernorm\""));
    CHECK_INT(occurrences(ir, "interleaved"), 0);
    put_matrix(c, ATTENTION "kv_b_proj.weight", 12, 6);
    CHECK(import(c) == NULL);
    CHECK(said(&c->j,
        "kv_b_proj.weight has shape [12, 6], but config.json implies [14, 6] (num_attention_heads * "
        "(qk_nope_head_dim + v_head_dim), kv_lora_rank)"));
    end(c);
}

/* A scheme of the cache is for the latent: codes of it, before keys and values are made. */
static void test_latent_cache(void)
{
    BEGIN(c, "{" LATENT ", 'q_lora_rank': null, " CACHE("tensor") "}");
    put_latent(c);
    CHECK(holds(import(c), "%k_scale = const [1.0] : bf16[1]\n"));
    CHECK(said(&c->j, "1.0 is taken for: model.layers.0.self_attn\n"));
    put_vector(c, ATTENTION "v_scale", 1);
    CHECK(import(c) == NULL);
    CHECK(said(&c->j, "tensor model.layers.0.self_attn.k_scale is missing"));
    put_vector(c, ATTENTION "k_scale", 1);
    const char *ir = import(c);
    CHECK(holds(ir,
        "    %k_scale = const [0.0115] : bf16[1]\n"
        "    %k_codes = quantize %kv_latent, %k_scale {arg = input, scheme = @kv} : f8e4m3[B, 1, S, 8]\n"
        "    %kv_latent.1 = dequantize %k_codes, %k_scale {to = bf16} : bf16[B, 1, S, 8]\n"
        "    %latent.3 = slice %kv_latent.1 "));
    CHECK_INT(occurrences(ir, "v_scale ="), 0);
    CHECK(holds(ir, "{slot = k} : bf16[B, 2, P + S, 6]\n"));
    CHECK_INT(c->j.length, 0);
    change(c, "{" CACHE("attn_head") "}");
    CHECK(import(c) == NULL);
    CHECK(said(&c->j, "model.layers.0.self_attn has a latent cache, which takes one static scale"));
    end(c);
}

/* Codes of q, k and v of a latent attention, whose heads of v have another size. */
static void test_latent_codes(void)
{
    BEGIN(c,
        "{" LATENT ", 'q_lora_rank': null, 'quantization_config': {'quant_method': 'compressed-tensors', "
        "'format': 'dense', 'ignore': ['lm_head'], 'config_groups': {'group_0': {'targets': "
        "['DeepseekV3Attention'], 'weights': null, 'format': 'dense', 'input_activations': {'num_bits': 8, "
        "'type': 'int', 'symmetric': true, 'dynamic': false, 'strategy': 'channel', 'observer': "
        "'static_minmax', 'group_size': null, 'observer_kwargs': {}}}}}}");
    put_latent(c);
    put(c, ATTENTION "q_scale", "BF16", 3, 2, 1, 6);
    put(c, ATTENTION "k_scale", "BF16", 3, 2, 1, 6);
    put(c, ATTENTION "v_scale", "BF16", 3, 2, 1, 6);
    CHECK(import(c) == NULL);
    CHECK(said(&c->j, "v_scale has shape [2, 1, 6], but config.json implies [2, 1, 3]"));
    put(c, ATTENTION "v_scale", "BF16", 3, 2, 1, 3);
    const char *ir = import(c);
    CHECK(holds(ir, "%v_codes = quantize %v, %v_scale {arg = input, scheme = @group_0} : i8[B, 2, S, 3]\n"));
    CHECK(holds(ir, "q_scale=%q_scale, k_scale=%k_scale, v_scale=%v_scale {causal"));
    end(c);
}

int main(void)
{
    RUN(test_fused);
    RUN(test_whole_norms);
    RUN(test_caps_and_scales);
    RUN(test_two_bases);
    RUN(test_layers_without_rope);
    RUN(test_latent);
    RUN(test_latent_cache);
    RUN(test_latent_codes);
    return check_done();
}
