/* SPDX-License-Identifier: MIT
 *
 * test_moe_import.c - importing models with experts: the tree and the graph of every way to store them, and what is
 * refused. Checkpoints are written by the tests; that the numbers are right is tested in test_moe.c.
 */
#include "tests/unit/hf_checkpoint.h"

enum { HIDDEN = 32, INNER = 64, EXPERTS = 4 };

static const char qwen3[] =
    "{'architectures': ['Qwen3MoeForCausalLM'], 'model_type': 'qwen3_moe', 'hidden_size': 32, "
    "'intermediate_size': 6,"
    " 'moe_intermediate_size': 64, 'num_experts': 4, 'num_experts_per_tok': 2, 'head_dim': 4}";
static const char mixtral[] = "{'architectures': ['MixtralForCausalLM'], 'model_type': 'mixtral', "
                              "'hidden_size': 32, 'intermediate_size': 64,"
                              " 'num_local_experts': 4, 'num_experts_per_tok': 2, 'head_dim': 4}";
static const char llama4[] =
    "{'architectures': ['Llama4ForCausalLM'], 'model_type': 'llama4_text', 'hidden_size': 32,"
    " 'intermediate_size': 64, 'intermediate_size_mlp': 6, 'num_local_experts': 4, 'head_dim': 4}";
static const char gpt_oss[] =
    "{'architectures': ['GptOssForCausalLM'], 'model_type': 'gpt_oss', 'hidden_size': 32, "
    "'intermediate_size': 64,"
    " 'num_local_experts': 4, 'num_experts_per_tok': 2, 'head_dim': 4, 'attention_bias': false,"
    " 'rope_scaling': null}";
static const char glm4[] =
    "{'architectures': ['Glm4MoeForCausalLM'], 'model_type': 'glm4_moe', 'hidden_size': 32, "
    "'intermediate_size': 6,"
    " 'moe_intermediate_size': 64, 'n_routed_experts': 4, 'num_experts_per_tok': 2, 'head_dim': 4,"
    " 'first_k_dense_replace': 0, 'n_group': 2, 'topk_group': 1}";

static const char *name_of(checkpoint *c, const char *block, const char *rest)
{
    return qc_arena_printf(&c->arena, "model.layers.0.%s.%s", block, rest);
}

/* Takes every tensor out whose name has the part. */
static void drop(checkpoint *c, const char *part)
{
    for (size_t i = 0; i < c->tensor_count;)
        if (strstr(c->tensors[i].name, part))
            c->tensors[i] = c->tensors[--c->tensor_count];
        else
            i++;
}

/* A layer of one size more, without its MLP, and with a router. */
static checkpoint *begin_moe(const char *config, const char *router)
{
    checkpoint *c = begin(config);
    if (!c)
        return NULL;
    drop(c, ".mlp.");
    put(c, "model.embed_tokens.weight", "BF16", 2, 10, HIDDEN, 1);
    put(c, "lm_head.weight", "BF16", 2, 10, HIDDEN, 1);
    put(c, "model.norm.weight", "BF16", 1, HIDDEN, 1, 1);
    put(c, "model.layers.0.input_layernorm.weight", "BF16", 1, HIDDEN, 1, 1);
    put(c, "model.layers.0.post_attention_layernorm.weight", "BF16", 1, HIDDEN, 1, 1);
    put(c, "model.layers.0.self_attn.q_proj.weight", "BF16", 2, 8, HIDDEN, 1);
    put(c, "model.layers.0.self_attn.k_proj.weight", "BF16", 2, 4, HIDDEN, 1);
    put(c, "model.layers.0.self_attn.v_proj.weight", "BF16", 2, 4, HIDDEN, 1);
    put(c, "model.layers.0.self_attn.o_proj.weight", "BF16", 2, HIDDEN, 8, 1);
    put(c, qc_arena_printf(&c->arena, "model.layers.0.%s.weight", router), "BF16", 2, EXPERTS, HIDDEN, 1);
    return c;
}

/* Tensors of experts [first, end), as gate, up, down. */
static void put_each(
    checkpoint *c, const char *block, const char *const *names, int first, int end, bool bias)
{
    for (int e = first; e < end; e++)
        for (int part = 0; part < 3; part++) {
            const int64_t out = part == 2 ? HIDDEN : INNER, in = part == 2 ? INNER : HIDDEN;
            const char *module = qc_arena_printf(&c->arena, "experts.%d.%s", e, names[part]);
            put(c, name_of(c, block, qc_arena_printf(&c->arena, "%s.weight", module)), "BF16", 2, out, in, 1);
            if (bias)
                put(c, name_of(c, block, qc_arena_printf(&c->arena, "%s.bias", module)), "BF16", 1, out, 1,
                    1);
        }
}

static const char *const plain_names[] = {"gate_proj", "up_proj", "down_proj"};
static const char *const mixtral_names[] = {"w1", "w3", "w2"};

static void put_fused(checkpoint *c, const char *block, bool transposed, bool bias)
{
    const int64_t up = 2 * INNER;
    put(c, name_of(c, block, "experts.gate_up_proj"), "BF16", 3, EXPERTS, transposed ? HIDDEN : up,
        transposed ? up : HIDDEN);
    put(c, name_of(c, block, "experts.down_proj"), "BF16", 3, EXPERTS, transposed ? INNER : HIDDEN,
        transposed ? HIDDEN : INNER);
    if (bias) {
        put(c, name_of(c, block, "experts.gate_up_proj_bias"), "BF16", 2, EXPERTS, up, 1);
        put(c, name_of(c, block, "experts.down_proj_bias"), "BF16", 2, EXPERTS, HIDDEN, 1);
    }
}

static checkpoint *begin_qwen3(const char *changes)
{
    checkpoint *c = begin_moe(qwen3, "mlp.gate");
    if (!c)
        return NULL;
    put(c, "model.layers.0.self_attn.q_norm.weight", "BF16", 1, 4, 1, 1);
    put(c, "model.layers.0.self_attn.k_norm.weight", "BF16", 1, 4, 1, 1);
    put_each(c, "mlp", plain_names, 0, EXPERTS, false);
    if (changes)
        change(c, changes);
    return c;
}

static checkpoint *begin_llama4(const char *changes)
{
    checkpoint *c = begin_moe(llama4, "feed_forward.router");
    if (!c)
        return NULL;
    put(c, "model.layers.0.feed_forward.shared_expert.gate_proj.weight", "BF16", 2, INNER, HIDDEN, 1);
    put(c, "model.layers.0.feed_forward.shared_expert.up_proj.weight", "BF16", 2, INNER, HIDDEN, 1);
    put(c, "model.layers.0.feed_forward.shared_expert.down_proj.weight", "BF16", 2, HIDDEN, INNER, 1);
    if (changes)
        change(c, changes);
    return c;
}

static checkpoint *begin_gpt_oss(const char *changes)
{
    checkpoint *c = begin_moe(gpt_oss, "mlp.router");
    if (!c)
        return NULL;
    put(c, "model.layers.0.mlp.router.bias", "BF16", 1, EXPERTS, 1, 1);
    put(c, "model.layers.0.self_attn.sinks", "BF16", 1, 2, 1, 1);
    if (changes)
        change(c, changes);
    return c;
}

static checkpoint *begin_glm4(const char *changes)
{
    checkpoint *c = begin_moe(glm4, "mlp.gate");
    if (!c)
        return NULL;
    put(c, "model.layers.0.mlp.gate.e_score_correction_bias", "F32", 1, EXPERTS, 1, 1);
    put(c, "model.layers.0.mlp.shared_experts.gate_proj.weight", "BF16", 2, INNER, HIDDEN, 1);
    put(c, "model.layers.0.mlp.shared_experts.up_proj.weight", "BF16", 2, INNER, HIDDEN, 1);
    put(c, "model.layers.0.mlp.shared_experts.down_proj.weight", "BF16", 2, HIDDEN, INNER, 1);
    put_each(c, "mlp", plain_names, 0, EXPERTS, false);
    if (changes)
        change(c, changes);
    return c;
}

#define BEGIN_MOE(c, begun)                                                                                  \
    checkpoint *c = begun;                                                                                   \
    if (!c)                                                                                                  \
    SKIP("no directory can be made here")

/* ---- what is read -------------------------------------------------------------------------------------- */

static void test_each(void)
{
    BEGIN_MOE(c, begin_qwen3(NULL));
    const char *text = import(c);
    CHECK(holds(text, "expert_weight \"model.layers.0.mlp.experts.{e}.gate_proj.weight\""));
    CHECK(holds(text, "module = \"{e}.down_proj\""));
    CHECK(holds(text, "\"model.layers.0.mlp\" Qwen3MoeSparseMoeBlock"));
    CHECK(holds(text, "\"model.layers.0.mlp.experts\" Qwen3MoeExperts"));
    CHECK(holds(text, "\"model.layers.0.mlp.experts.3\" ExpertMLPWithGate"));
    CHECK(holds(text, "\"model.layers.0.mlp.experts.3.up_proj\" Linear"));
    CHECK(holds(text, "\"model.layers.0.mlp.gate\" Qwen3MoeTopKRouter"));
    CHECK(occurrences(text, "ExpertMLPWithGate") == EXPERTS);
    end(c);
}

/* Weights of experts are rounded to the model's type where Transformers does, and groups that lose are out whatever the
 * others are worth. */
static void test_routing(void)
{
    BEGIN_MOE(c, begin_qwen3(NULL));
    CHECK(holds(import(c), "bf16[2*B*S, 1]"));
    end(c);
    BEGIN_MOE(d, begin_moe(mixtral, "block_sparse_moe.gate"));
    put_each(d, "block_sparse_moe", mixtral_names, 0, EXPERTS, false);
    CHECK(holds(import(d), "f32[2*B*S, 1]"));
    end(d);
    BEGIN_MOE(g, begin_glm4(NULL));
    const char *text = import(g);
    CHECK(holds(text, "f32[2*B*S, 1]"));
    CHECK(holds(text, "{fill = -inf, groups = 2} : f32[B, S, 4]"));
    end(g);
}

static void test_mixtral_names(void)
{
    BEGIN_MOE(c, begin_moe(mixtral, "block_sparse_moe.gate"));
    put_each(c, "block_sparse_moe", mixtral_names, 0, EXPERTS, false);
    const char *text = import(c);
    CHECK(holds(text, "expert_weight \"model.layers.0.block_sparse_moe.experts.{e}.w3.weight\""));
    CHECK(holds(text, "module = \"{e}.w2\""));
    end(c);
}

/* As llm-compressor writes Mixtral: Transformers 5's name of the block, gate_proj for w1. */
static void test_mixtral_of_other_writers(void)
{
    BEGIN_MOE(c, begin_moe(mixtral, "mlp.gate"));
    put_each(c, "mlp", plain_names, 0, EXPERTS, false);
    CHECK(holds(import(c), "expert_weight \"model.layers.0.mlp.experts.{e}.gate_proj.weight\""));
    drop(c, ".experts.");
    put_fused(c, "mlp", false, false);
    CHECK(holds(import(c), "weight \"model.layers.0.mlp.experts.gate_up_proj\" : bf16[4, 128, 32]"));
    end(c);
}

static void test_fused(void)
{
    BEGIN_MOE(c, begin_llama4(NULL));
    put_fused(c, "feed_forward", true, false);
    const char *text = import(c);
    CHECK(holds(text, "weight \"model.layers.0.feed_forward.experts.gate_up_proj\" : bf16[4, 32, 128]"));
    CHECK(holds(text, "transpose"));
    CHECK(holds(text, "unrouted = first"));
    CHECK(holds(text, "sum = once"));
    CHECK(text && !strstr(text, "module ="));
    CHECK(holds(text, "\"model.layers.0.feed_forward.router\" Llama4Router"));
    /* the same, taken apart by llm-compressor */
    drop(c, ".experts.");
    put_each(c, "feed_forward", plain_names, 0, EXPERTS, false);
    CHECK(holds(import(c), "expert_weight \"model.layers.0.feed_forward.experts.{e}.up_proj.weight\""));
    end(c);
}

static void test_interleaved(void)
{
    BEGIN_MOE(c, begin_gpt_oss(NULL));
    put_fused(c, "mlp", true, true);
    const char *text = import(c);
    CHECK(holds(text, "step = 2"));
    CHECK(holds(text, "weight \"model.layers.0.mlp.experts.gate_up_proj_bias\" : bf16[4, 128]"));
    drop(c, ".experts.");
    put_each(c, "mlp", plain_names, 0, EXPERTS, true);
    text = import(c);
    CHECK(holds(text, "expert_weight \"model.layers.0.mlp.experts.{e}.gate_proj.bias\" : bf16[4, 64]"));
    CHECK(holds(text, "\"model.layers.0.mlp.experts.0\" GptOssExpertMLP"));
    end(c);
}

static void put_blocks(checkpoint *c)
{
    static const int64_t up[4] = {EXPERTS, 2 * INNER, HIDDEN / 32, 16},
                         down[4] = {EXPERTS, HIDDEN, INNER / 32, 16};
    const char *names[2] = {"mlp.experts.gate_up_proj_blocks", "mlp.experts.down_proj_blocks"};
    for (int i = 0; i < 2; i++) {
        const char *name = qc_arena_printf(&c->arena, "model.layers.0.%s", names[i]);
        put(c, name, "U8", 1, 1, 1, 1);
        for (size_t t = 0; t < c->tensor_count; t++)
            if (strcmp(c->tensors[t].name, name) == 0) {
                c->tensors[t].rank = 4;
                c->tensors[t].shape = i ? down : up;
            }
    }
    put(c, "model.layers.0.mlp.experts.gate_up_proj_scales", "U8", 3, EXPERTS, 2 * INNER, HIDDEN / 32);
    put(c, "model.layers.0.mlp.experts.down_proj_scales", "U8", 3, EXPERTS, HIDDEN, INNER / 32);
    put(c, "model.layers.0.mlp.experts.gate_up_proj_bias", "BF16", 2, EXPERTS, 2 * INNER, 1);
    put(c, "model.layers.0.mlp.experts.down_proj_bias", "BF16", 2, EXPERTS, HIDDEN, 1);
}

static void test_blocks(void)
{
    BEGIN_MOE(
        c, begin_gpt_oss(
               "{'quantization_config': {'quant_method': 'mxfp4', 'modules_to_not_convert': ['lm_head']}}"));
    put_blocks(c);
    const char *text = import(c);
    CHECK(holds(text, "weight \"model.layers.0.mlp.experts.gate_up_proj_blocks\" : u8[4, 128, 1, 16]"));
    CHECK(holds(text, "f4e2m1[4, 64, 32]"));
    CHECK(holds(text, "f8e8m0[4, 64, 1]"));
    CHECK(holds(text, "scheme @mxfp4"));
    const qc_hf_options numbers = {.mode = QC_HF_TENSORS, .dequantize = true};
    CHECK(!import_as(c, &numbers));
    CHECK(said(
        &c->j, "experts in blocks of MXFP4 become numbers by the graph that reads them: --import=graph"));
    change(c, "{'quantization_config': null}");
    CHECK(!import(c));
    CHECK(said(&c->j, "the experts of model.layers.0.mlp.experts are blocks of MXFP4, but config.json has no "
                      "quantization_config with quant_method mxfp4"));
    end(c);
}

/* Layers behind the last that predict further tokens stay what they are. */
static void test_next_tokens(void)
{
    BEGIN_MOE(c, begin_glm4("{'num_nextn_predict_layers': 1}"));
    put(c, "model.layers.1.eh_proj.weight", "BF16", 2, HIDDEN, 2 * HIDDEN, 1);
    put(c, "model.layers.1.enorm.weight", "BF16", 1, HIDDEN, 1, 1);
    const char *text = import(c);
    CHECK(holds(text, "\"model.layers.1.eh_proj\" Linear"));
    CHECK(said(&c->j, "remark: "));
    CHECK(said(&c->j, "their 2 tensors are kept as they are, and not quantized"));
    CHECK_INT(c->j.counts[QC_SEVERITY_WARNING], 0);
    change(c, "{'num_nextn_predict_layers': 0}");
    CHECK(import(c) != NULL);
    CHECK(said(&c->j, "2 tensors are no part of Glm4MoeForCausalLM"));
    end(c);
}

/* ---- quantized experts --------------------------------------------------------------------------------- */

static const char nvfp4[] =
    "{'quantization_config': {'quant_method': 'compressed-tensors', 'format': 'nvfp4-pack-quantized', "
    "'config_groups':"
    " {'group_0': {'targets': ['Linear'], 'weights': {'num_bits': 4, 'type': 'float', 'strategy': "
    "'tensor_group',"
    " 'group_size': 16, 'symmetric': true, 'dynamic': false, 'scale_dtype': 'torch.float8_e4m3fn'},"
    " 'input_activations': {'num_bits': 4, 'type': 'float', 'strategy': 'tensor_group', 'group_size': 16,"
    " 'symmetric': true, 'dynamic': 'local', 'scale_dtype': 'torch.float8_e4m3fn'}}},"
    " 'ignore': ['re:.*self_attn.*', 'lm_head', 're:.*gate$'], 'quantization_status': 'compressed'}}";

static float scale_of[EXPERTS * 3];

static void put_nvfp4(checkpoint *c, bool equal)
{
    drop(c, ".experts.");
    for (int e = 0; e < EXPERTS; e++)
        for (int part = 0; part < 3; part++) {
            const int64_t out = part == 2 ? HIDDEN : INNER, in = part == 2 ? INNER : HIDDEN;
            const char *module =
                qc_arena_printf(&c->arena, "model.layers.0.mlp.experts.%d.%s", e, plain_names[part]);
            const char *input = qc_arena_printf(&c->arena, "%s.input_global_scale", module);
            put(c, qc_arena_printf(&c->arena, "%s.weight_packed", module), "U8", 2, out, in / 2, 1);
            put(c, qc_arena_printf(&c->arena, "%s.weight_scale", module), "F8_E4M3", 2, out, in / 16, 1);
            put(c, qc_arena_printf(&c->arena, "%s.weight_global_scale", module), "F32", 1, 1, 1, 1);
            put(c, input, "F32", 1, 1, 1, 1);
            scale_of[3 * e + part] = equal ? 2 : (float)(1 + e);
            fill(c, input, &scale_of[3 * e + part]);
        }
}

static void test_nvfp4_experts(void)
{
    BEGIN_MOE(c, begin_qwen3(nvfp4));
    put_nvfp4(c, false);
    const char *text = import(c);
    CHECK(holds(
        text, "expert_weight \"model.layers.0.mlp.experts.{e}.gate_proj.weight_packed\" : u8[4, 64, 16]"));
    CHECK(holds(text,
        "expert_weight \"model.layers.0.mlp.experts.{e}.gate_proj.weight_global_scale\" : f32[4, 1, 1]"));
    CHECK(holds(text, ": f32[4, 1, 1]"));
    CHECK(occurrences(text, "expert_param") == 3);
    put_nvfp4(c, true);
    text = import(c);
    CHECK(occurrences(text, "expert_param") == 0);
    scale_of[5] = 0;
    CHECK(!import(c));
    CHECK(said(&c->j,
        "tensor model.layers.0.mlp.experts.1.down_proj.input_global_scale: scale is 0, which is no "
        "positive number"));
    CHECK_INT(occurrences(c->j.text, "building "), 0);
    end(c);
}

static void test_some_experts_quantized(void)
{
    BEGIN_MOE(c, begin_qwen3(nvfp4));
    put_nvfp4(c, true);
    change(c,
        "{'quantization_config': {'quant_method': 'compressed-tensors', 'format': 'nvfp4-pack-quantized',"
        " 'config_groups': {'group_0': {'targets': ['re:.*experts.[0-2].*'], 'weights': {'num_bits': 4,"
        " 'type': 'float', 'strategy': 'tensor_group', 'group_size': 16, 'symmetric': true, 'dynamic': "
        "false, 'scale_dtype': 'torch.float8_e4m3fn'}}}}}");
    drop(c, ".experts.3.");
    put_each(c, "mlp", plain_names, 3, 4, false);
    CHECK(!import(c));
    CHECK(said(&c->j,
        "experts of a layer must be quantized alike: model.layers.0.mlp.experts.0.up_proj is quantized "
        "by @group_0, model.layers.0.mlp.experts.3.up_proj is not quantized"));
    end(c);
}

/* R4: what goes into down_proj is rotated, for all experts by one op. */
static void test_rotated_experts(void)
{
    static const char every[] = "{'quantization_config': {'quant_method': 'compressed-tensors', "
                                "'transform_config': {'config_groups': {'R4':"
                                " {'type': 'hadamard', 'head_dim': null, 'apply': [{'location': 'input', "
                                "'targets': ['re:.*down_proj$']}]}}}}}";
    static const char some[] =
        "{'quantization_config': {'quant_method': 'compressed-tensors', 'transform_config': "
        "{'config_groups': {'R4':"
        " {'type': 'hadamard', 'head_dim': null, 'apply': [{'location': 'input', 'targets':"
        " ['re:.*experts.[02].down_proj$']}]}}}}}";
    BEGIN_MOE(c, begin_qwen3(every));
    const char *text = import(c);
    CHECK_INT(occurrences(text, "= hadamard "), 1);
    CHECK(holds(text, "size = 64} : bf16["));
    change(c, some);
    CHECK(!import(c));
    CHECK(said(&c->j,
        "transform_config does not rotate the input of model.layers.0.mlp.experts.0.down_proj and of "
        "model.layers.0.mlp.experts.1.down_proj alike"));
    end(c);
}

/* ---- what is refused ----------------------------------------------------------------------------------- */

static void refused(checkpoint *c, const char *message)
{
    CHECK(!import(c));
    CHECK(said(c ? &c->j : NULL, message));
    CHECK_INT(c->j.counts[QC_SEVERITY_ERROR], 1);
    end(c);
}

static void test_counts(void)
{
    static const struct {
        const char *changes, *message;
    } cases[] = {
        {"{'num_experts_per_tok': 5}",
            "num_experts_per_tok 5 is more than there are experts, 4 (num_experts)"},
        {"{'num_local_experts': 8}", "num_local_experts = 8 and num_experts = 4 contradict each other"},
        {"{'num_experts': 3}", "is of an expert that config.json does not count: num_experts is 3"},
        {"{'num_experts': 0}", "num_experts must be from 1 to"},
        {"{'num_experts': 100000}", "num_experts 100000 is more than 65536"},
        {"{'decoder_sparse_step': 0}", "decoder_sparse_step must be from 1 to"},
        {"{'mlp_only_layers': ['a']}", "mlp_only_layers must be a list of layer numbers"},
        {"{'moe_intermediate_size': 32}", "tensor model.layers.0.mlp.experts.0.up_proj.weight has shape "
                                          "[64, 32], but config.json implies [32, "
                                          "32] (moe_intermediate_size, hidden_size)"},
        {"{'shared_expert_intermediate_size': 64}", "shared_expert_intermediate_size is set"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        BEGIN_MOE(c, begin_qwen3(cases[i].changes));
        refused(c, cases[i].message);
    }
}

static void test_groups(void)
{
    static const struct {
        const char *changes, *message;
    } cases[] = {
        {"{'n_group': 3}", "n_routed_experts 4 is not a multiple of n_group 3"},
        {"{'n_group': 4}", "n_group 4 leaves a group 1 expert of 4"},
        {"{'topk_group': 3}", "topk_group 3 is more than n_group 2"},
        {"{'num_experts_per_tok': 3}", "num_experts_per_tok 3 is more than topk_group 1 groups have, 2"},
        {"{'scoring_func': 'softmax'}", "scoring_func 'softmax' is not supported"},
        {"{'topk_method': 'greedy'}", "topk_method 'greedy' is not supported"},
        {"{'moe_layer_freq': 2}", "moe_layer_freq 2 is not supported"},
        {"{'n_routed_experts': 8}", "experts 4, 5, 6, 7 of model.layers.0.mlp.experts are missing: 4 of 8"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        BEGIN_MOE(c, begin_glm4(cases[i].changes));
        if (strstr(cases[i].changes, "routed"))
            put(c, "model.layers.0.mlp.gate.weight", "BF16", 2, 8, HIDDEN, 1);
        CHECK(!import(c));
        CHECK(said(&c->j, cases[i].message));
        end(c);
    }
}

static void test_missing(void)
{
    BEGIN_MOE(c, begin_qwen3(NULL));
    drop(c, ".experts.2.");
    refused(c, "experts 2 of model.layers.0.mlp.experts are missing: 1 of 4 (num_experts)");
    BEGIN_MOE(d, begin_qwen3(NULL));
    drop(d, ".experts.1.down_proj");
    refused(d, "tensor model.layers.0.mlp.experts.1.down_proj.weight is missing");
    BEGIN_MOE(e, begin_qwen3(NULL));
    drop(e, ".experts.");
    refused(e, "the experts of model.layers.0.mlp.experts are missing: neither "
               "model.layers.0.mlp.experts.0.gate_proj.weight nor model.layers.0.mlp.experts.gate_up_proj is "
               "stored");
    BEGIN_MOE(f, begin_glm4(NULL));
    drop(f, "e_score_correction_bias");
    refused(f, "tensor model.layers.0.mlp.gate.e_score_correction_bias is missing");
}

/* Numbers that no expert of config.json has, and numbers written in another way. */
static void test_strange_experts(void)
{
    static const char *const numbers[] = {"4", "00", "01", "4294967296", "18446744073709551617"};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        char name[96];
        snprintf(name, sizeof name, "model.layers.0.mlp.experts.%s.up_proj.weight", numbers[i]);
        BEGIN_MOE(c, begin_qwen3(NULL));
        put(c, name, "BF16", 2, INNER, HIDDEN, 1);
        refused(c, "is of an expert that config.json does not count: num_experts is 4");
    }
}

static void test_mixed_layouts(void)
{
    BEGIN_MOE(c, begin_qwen3(NULL));
    put_fused(c, "mlp", false, false);
    refused(c, "the experts of model.layers.0.mlp.experts are stored in two ways");
    BEGIN_MOE(d, begin_qwen3(NULL));
    drop(d, ".experts.2.");
    put_each(d, "mlp", mixtral_names, 2, 3, false);
    refused(d, "the experts of model.layers.0.mlp.experts have two kinds of names");
    BEGIN_MOE(e, begin_qwen3(NULL));
    put(e, "model.layers.0.mlp.experts.3.up_proj.weight", "F16", 2, INNER, HIDDEN, 1);
    refused(e, "experts of a layer must be of one element type: model.layers.0.mlp.experts.0.up_proj.weight "
               "is BF16, "
               "model.layers.0.mlp.experts.3.up_proj.weight is F16");
}

static void test_orientation(void)
{
    BEGIN_MOE(c, begin_llama4(NULL));
    put_fused(c, "feed_forward", false, false);
    CHECK(!import(c));
    CHECK(said(&c->j,
        "tensor model.layers.0.feed_forward.experts.gate_up_proj is [4, 128, 32], which is [experts, out, "
        "in]; the experts of Llama4ForCausalLM are [experts, in, out]"));
    end(c);
    BEGIN_MOE(d, begin_qwen3(NULL));
    drop(d, ".experts.");
    put_fused(d, "mlp", true, false);
    CHECK(!import(d));
    CHECK(said(
        &d->j, "which is [experts, in, out]; the experts of Qwen3MoeForCausalLM are [experts, out, in]"));
    end(d);
}

static void test_router(void)
{
    BEGIN_MOE(c, begin_qwen3(NULL));
    put(c, "model.layers.0.mlp.gate.weight", "F8_E4M3", 2, EXPERTS, HIDDEN, 1);
    put(c, "model.layers.0.mlp.gate.weight_scale", "BF16", 2, EXPERTS, 1, 1);
    refused(c, "router model.layers.0.mlp.gate is quantized (tensor model.layers.0.mlp.gate.weight_scale); "
               "routers are "
               "read as numbers only");
    BEGIN_MOE(d, begin_qwen3(NULL));
    put(d, "model.layers.0.mlp.gate.weight", "BF16", 2, 6, HIDDEN, 1);
    refused(d, "tensor model.layers.0.mlp.gate.weight has shape [6, 32], but config.json implies [4, 32] "
               "(num_experts, "
               "hidden_size)");
}

static void test_gpt_oss_keys(void)
{
    static const struct {
        const char *changes, *message;
    } cases[] = {
        {"{'swiglu_limit': 10.0}", "swiglu_limit 10 is not supported; GptOssForCausalLM computes with 7"},
        {"{'experts_per_token': 3}",
            "experts_per_token = 3 and num_experts_per_tok = 2 contradict each other"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        BEGIN_MOE(c, begin_gpt_oss(cases[i].changes));
        put_fused(c, "mlp", true, true);
        refused(c, cases[i].message);
    }
}

int main(void)
{
    RUN(test_each);
    RUN(test_routing);
    RUN(test_mixtral_names);
    RUN(test_mixtral_of_other_writers);
    RUN(test_fused);
    RUN(test_interleaved);
    RUN(test_blocks);
    RUN(test_next_tokens);
    RUN(test_nvfp4_experts);
    RUN(test_some_experts_quantized);
    RUN(test_rotated_experts);
    RUN(test_counts);
    RUN(test_groups);
    RUN(test_missing);
    RUN(test_strange_experts);
    RUN(test_mixed_layouts);
    RUN(test_orientation);
    RUN(test_router);
    RUN(test_gpt_oss_keys);
    return check_done();
}
