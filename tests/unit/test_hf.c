/* SPDX-License-Identifier: MIT
 *
 * test_hf.c - the Hugging Face importer on small checkpoints that each case writes itself: what is refused
 * and with which words, defaults, both dialects of config.json; and the model in the
 * tree against its IR text in tests/unit/data.
 */
#include "tests/unit/hf_checkpoint.h"

/* ---- refusals ------------------------------------------------------------------------------------------ */

static void test_refused_configs(void)
{
    static const struct {
        const char *changes, *message;
    } cases[] = {
        {"{'architectures': ['Phi9ForCausalLM'], 'model_type': null}",
            "config.json: architecture 'Phi9ForCausalLM' is not supported; supported are LlamaForCausalLM, "
            "MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM, "},
        {"{'architectures': null, 'model_type': 'phi9'}",
            "model_type 'phi9' is not supported; supported are Llama"},
        {"{'architectures': null, 'model_type': null}",
            "neither architectures nor model_type says what this model is"},
        {"{'architectures': ['Qwen2ForCausalLM']}",
            "architecture Qwen2ForCausalLM and model_type 'llama' contradict each other"},
        {"{'architectures': 'LlamaForCausalLM'}", "architectures must be a list of strings"},
        {"{'hidden_size': 'eight'}", "hidden_size must be"},
        {"{'hidden_size': 0}", "hidden_size must be from 1 to 2147483647, not 0"},
        {"{'vocab_size': -1}", "vocab_size must be from 1 to 2147483647, not -1"},
        {"{'num_hidden_layers': 1000000}", "num_hidden_layers 1000000 is more than 65536"},
        {"{'num_attention_heads': 3, 'num_key_value_heads': 2}",
            "num_attention_heads 3 is not a multiple of num_key_value_heads 2"},
        {"{'num_attention_heads': 3, 'num_key_value_heads': 3}",
            "hidden_size 8 is not a multiple of num_attention_heads 3, and there is no head_dim"},
        {"{'head_dim': 5}", "head_dim 5 is odd"},
        {"{'architectures': ['Qwen3ForCausalLM'], 'model_type': 'qwen3', 'head_dim': null}",
            "head_dim is null"},
        {"{'torch_dtype': 'float8_e4m3fn'}", "torch_dtype 'float8_e4m3fn' is not supported"},
        {"{'dtype': 'float64'}", "dtype 'float64' is not supported"},
        {"{'hidden_act': 'gelu'}",
            "hidden_act 'gelu' is not supported; supported are silu and gelu_pytorch_tanh"},
        {"{'rms_norm_eps': -1e-6}", "rms_norm_eps must not be negative"},
        {"{'partial_rotary_factor': 0.5}", "config.json: partial_rotary_factor is 0.5"},
        {"{'rope_parameters': {'rope_type': 'default', 'partial_rotary_factor': 0.25}}",
            "config.json: rope_parameters: partial_rotary_factor is 0.25"},
        {"{'rope_theta': 0}", "rope_theta must be greater than 0, not 0"},
        {"{'rope_scaling': {'type': 'longrope', 'factor': 2.0}}",
            "config.json: rope_scaling: short_factor must be a list of 2 numbers, one for each pair"},
        {"{'rope_scaling': {'type': 'su', 'factor': 2.0}}",
            "config.json: rope_scaling: rope type 'su' is not supported in LlamaForCausalLM; supported are "
            "default, linear, dynamic, llama3, yarn and longrope"},
        {"{'rope_scaling': {'type': 'linear'}}", "rope_scaling: factor"},
        {"{'rope_scaling': {'type': 'linear', 'factor': 2.0, 'mystery': 1}}",
            "rope_scaling: 'mystery' is not a parameter of rope type 'linear'"},
        {"{'rope_scaling': {'rope_type': 'llama3', 'factor': 8.0, 'low_freq_factor': 4.0, "
         "'high_freq_factor': 1.0}}",
            "high_freq_factor 1 is smaller than low_freq_factor 4"},
        {"{'rope_scaling': {'rope_type': 'yarn', 'factor': 4.0, 'beta_fast': 1.0, 'beta_slow': 2.0}}",
            "beta_fast 1 is smaller than beta_slow 2"},
        {"{'rope_scaling': [1]}", "rope_scaling must be an object or null"},
        {"{'rope_parameters': {'full_attention': {'rope_theta': 1.0}}}",
            "rope_parameters: 'full_attention': parameters for each type of layer are not supported in "
            "Llama"},
        {"{'attention_multiplier': 0.5}", "attention_multiplier is set, and qc does not know what it does"},
        {"{'final_logit_softcapping': 30.0}", "final_logit_softcapping is set"},
        {"{'sliding_window': 16}",
            "sliding_window is set, and qc does not know what it does in LlamaForCausalLM"},
        {"{'layer_types': ['sliding_attention']}",
            "layer_types[0] is sliding_attention, but no sliding window is set"},
        {"{'layer_types': ['chunked_attention']}", "layer_types[0] is 'chunked_attention'; supported are"},
        {"{'layer_types': []}", "layer_types must be a list of num_hidden_layers = 1 strings"},
        {"{'architectures': ['MistralForCausalLM'], 'model_type': 'mistral', 'sliding_window': 0}",
            "sliding_window must be from 1 to 2147483647, not 0"},
        {"{'architectures': ['MistralForCausalLM'], 'model_type': 'mistral', 'sliding_window': 4, "
         "'layer_types': ['full_attention']}",
            "layer_types[0] is full_attention: MistralForCausalLM has one kind of attention in all layers"},
        {"{'architectures': ['MistralForCausalLM'], 'model_type': 'mistral', 'attention_bias': true}",
            "attention_bias is set, and qc does not know what it does in MistralForCausalLM"},
        {"{'quantization_config': {'quant_method': 'gptq', 'bits': 4}}",
            "config.json: quantization_config: quant_method 'gptq' is not supported"},
        {"{'quantization_config': {'quant_method': 'compressed-tensors', 'format': 'marlin-24'}}",
            "quantization_config: format 'marlin-24' is not supported"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        BEGIN(c, cases[i].changes);
        CHECK(import(c) == NULL);
        CHECK(said(&c->j, cases[i].message));
        CHECK_INT(c->j.counts[QC_SEVERITY_ERROR], 1);
        end(c);
    }
}

static void test_refused_files(void)
{
    BEGIN(c, NULL);
    write_tensors(c, "model.safetensors", 0, c->tensor_count);
    CHECK(import_as(c, NULL) == NULL);
    CHECK(said(&c->j, "config.json: "));

    static const struct {
        const char *text, *message;
    } texts[] = {{"{\"hidden_size\": 8,,}", "config.json:1:"}, {"[]", "config.json: must hold a JSON object"},
        {"", "config.json"}, {"{\"hidden_size\": 8, \"hidden_size\": 8}", "hidden_size"}};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        write_text(c, "config.json", texts[i].text);
        CHECK(import_as(c, NULL) == NULL);
        CHECK(said(&c->j, texts[i].message));
    }

    write_config(c);
    CHECK(import_as(c, NULL) != NULL);
    CHECK_INT(unlink(qc_path_join(&c->arena, c->directory, "model.safetensors")), 0);
    CHECK(import_as(c, NULL) == NULL);
    CHECK(said(&c->j, "model.safetensors"));

    write_text(c, "model.safetensors", "short");
    CHECK(import_as(c, NULL) == NULL);
    CHECK(said(&c->j, "model.safetensors: "));

    char *directory = qc_arena_strdup(&c->arena, c->directory);
    snprintf(c->directory, sizeof c->directory, "qc-test-hf-absent");
    CHECK(import_as(c, NULL) == NULL);
    CHECK(said(&c->j, "error: qc-test-hf-absent: is not a directory"));
    snprintf(c->directory, sizeof c->directory, "%s", directory);
    end(c);
}

static void test_shards(void)
{
    BEGIN(c, NULL);
    write_config(c);
    size_t half = c->tensor_count / 2;
    write_tensors(c, "model-00001-of-00002.safetensors", 0, half);
    write_tensors(c, "model-00002-of-00002.safetensors", half, c->tensor_count - half);
    qc_str index;
    qc_str_init(&index, &c->arena);
    qc_str_add(&index, "{\"metadata\": {}, \"weight_map\": {");
    for (size_t i = 0; i < c->tensor_count; i++)
        qc_str_addf(&index, "%s\"%s\": \"model-0000%d-of-00002.safetensors\"", i ? ", " : "",
            c->tensors[i].name, i < half ? 1 : 2);
    qc_str_add(&index, "}}");
    write_text(c, "model.safetensors.index.json", index.data);
    qc_str_fini(&index);
    const char *ir = import_as(c, NULL);
    CHECK(holds(ir, "  shard \"model-00001-of-00002.safetensors\" bytes "));
    CHECK(holds(ir, "  shard \"model-00002-of-00002.safetensors\" bytes "));
    CHECK_INT(unlink(qc_path_join(&c->arena, c->directory, "model-00002-of-00002.safetensors")), 0);
    CHECK(import_as(c, NULL) == NULL);
    CHECK(said(&c->j, "model-00002-of-00002.safetensors"));
    end(c);
}

static void test_refused_tensors(void)
{
    static const struct {
        const char *changes, *name, *dtype;
        int rank;
        int64_t d0, d1;
        const char *message;
    } cases[] = {
        {NULL, "model.norm.weight", NULL, 0, 0, 0, ": tensor model.norm.weight is missing\n"},
        {NULL, "lm_head.weight", NULL, 0, 0, 0,
            "tensor lm_head.weight is missing, and config.json says tie_word_embeddings is false"},
        {"{'tie_word_embeddings': true}", "model.layers.0.mlp.up_proj.weight", NULL, 0, 0, 0,
            "tensor model.layers.0.mlp.up_proj.weight is missing"},
        {NULL, "model.layers.0.self_attn.k_proj.weight", "BF16", 2, 8, 8,
            "model.safetensors: tensor model.layers.0.self_attn.k_proj.weight has shape [8, 8], but "
            "config.json "
            "implies [4, 8] (num_key_value_heads * head_dim, hidden_size)\n"},
        {NULL, "model.norm.weight", "BF16", 2, 8, 1, "tensor model.norm.weight has shape [8, 1], but"},
        {NULL, "model.embed_tokens.weight", "BF16", 2, 11, 8,
            "has shape [11, 8], but config.json implies [10, 8] (vocab"},
        {NULL, "model.layers.0.mlp.down_proj.weight", "I8", 2, 8, 6,
            "tensor model.layers.0.mlp.down_proj.weight has element type I8; expected BF16, F16 or F32"},
        {NULL, "model.layers.0.mlp.down_proj.weight", "F8_E4M3", 2, 8, 6,
            "has element type F8_E4M3; expected BF16"},
        {NULL, "model.layers.0.mlp.down_proj.weight", "F64", 2, 8, 6, "has element type F64; expected BF16"},
        {"{'attention_bias': true}", "model.layers.0.self_attn.q_proj.bias", "BF16", 1, 8, 1,
            "tensor model.layers.0.self_attn.k_proj.bias is missing"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        BEGIN(c, cases[i].changes);
        put(c, cases[i].name, cases[i].dtype, cases[i].rank, cases[i].d0, cases[i].d1, 1);
        CHECK(import(c) == NULL);
        CHECK(said(&c->j, cases[i].message));
        end(c);
    }
    /* A wrong size makes every tensor wrong: one is named, the others are counted. */
    BEGIN(c, "{'hidden_size': 16, 'num_hidden_layers': 60000}");
    CHECK(import(c) == NULL);
    CHECK_INT(c->j.counts[QC_SEVERITY_ERROR], 1);
    CHECK(said(&c->j, "more tensors are missing or do not fit config.json"));
    end(c);
}

/* ---- what is imported ---------------------------------------------------------------------------------- */

static void test_defaults_and_dialects(void)
{
    BEGIN(c, "{'rope_theta': 500000, 'rope_scaling': {'type': 'linear', 'factor': 2}}");
    const char *old = import(c);
    CHECK(holds(
        old, "rope %q.1, %pos {scaling = {factor = 2.0, type = linear}, tables = bf16, theta = 500000.0}"));
    CHECK(holds(old, "rmsnorm %h, %w.1 {eps = 1e-06}"));
    CHECK(holds(old, "%k.3 = cache_append %k.2 {slot = k} : bf16[B, 1, P + S, 4]"));
    CHECK_INT(c->j.length, 0);
    change(c, "{'rope_theta': null, 'rope_scaling': null, 'torch_dtype': null, 'dtype': 'bfloat16',"
              " 'rope_parameters': {'rope_type': 'linear', 'factor': 2.0, 'rope_theta': 500000.0}}");
    CHECK_STR(import(c), old);
    end(c);

    /* No dtype, no architectures, no number of key and value heads: the tensors, the type and the heads say
     * it. */
    BEGIN(d, "{'torch_dtype': null, 'architectures': null, 'num_key_value_heads': null}");
    put(d, "model.layers.0.self_attn.k_proj.weight", "BF16", 2, 8, 8, 1);
    put(d, "model.layers.0.self_attn.v_proj.weight", "BF16", 2, 8, 8, 1);
    const char *ir = import(d);
    CHECK(holds(ir, "func @main(%ids: i64[B, S]) -> bf16[B, S, 10] {"));
    CHECK(holds(ir, "%k.1 = split_heads %k {heads = 2} : bf16[B, 2, S, 4]"));
    put(d, "model.norm.weight", "F32", 1, 8, 1, 1);
    CHECK(import(d) == NULL);
    CHECK(said(&d->j, "no dtype is given, and the tensors have several: tensor "));
    end(d);
}

static void test_rope_types(void)
{
    static const struct {
        const char *changes, *attr;
    } cases[] = {
        {"{'rope_scaling': {'type': 'dynamic', 'factor': 4}}",
            "{scaling = {factor = 4.0, max_position_embeddings = 64, type = dynamic}, tables = bf16, theta = "
            "10000.0}"},
        {"{'rope_scaling': {'rope_type': 'llama3', 'type': 'linear', 'factor': 8.0, 'low_freq_factor': 1.0, "
         "'high_freq_factor': 4.0, 'original_max_position_embeddings': 32}}",
            "{scaling = {factor = 8.0, high_freq_factor = 4.0, low_freq_factor = 1.0, "
            "original_max_position_embeddings = 32, type = llama3}, "},
        {"{'rope_scaling': {'rope_type': 'yarn', 'factor': 4.0}}",
            "{scaling = {attention_factor = 1.138629436111989, beta_fast = 32.0, beta_slow = 1.0, factor = "
            "4.0, "
            "original_max_position_embeddings = 64, truncate, type = yarn}, "},
        {"{'original_max_position_embeddings': 16, 'rope_scaling': {'rope_type': 'yarn', 'factor': null, "
         "'attention_factor': 2.0, 'beta_fast': 16, 'beta_slow': 2, 'truncate': false, 'finetuned': true}}",
            "{scaling = {attention_factor = 2.0, beta_fast = 16.0, beta_slow = 2.0, factor = 4.0, "
            "original_max_position_embeddings = 16, truncate = false, type = yarn}, "},
        {"{'rope_scaling': {'rope_type': 'yarn', 'factor': 40.0, 'mscale': 0.707, 'mscale_all_dim': 1.0}}",
            "{scaling = {attention_factor = 0.9210423553163399, "},
        {"{'rope_scaling': {}, 'rope_parameters': {'rope_type': 'default', 'rope_theta': 7}, 'rope_theta': "
         "5}",
            "%pos {tables = bf16, theta = 7.0}"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        BEGIN(c, cases[i].changes);
        CHECK(holds(import(c), cases[i].attr));
        end(c);
    }
}

static void test_windows(void)
{
    static const struct {
        const char *changes;
        size_t windows;
    } cases[] = {
        {"{'sliding_window': 5}", 0},
        {"{'sliding_window': 5, 'use_sliding_window': true}", 0},
        {"{'sliding_window': 5, 'use_sliding_window': true, 'max_window_layers': 1}", 2},
        {"{'sliding_window': null, 'use_sliding_window': true, 'max_window_layers': 1}", 0},
        {"{'sliding_window': 5, 'use_sliding_window': true, 'layer_types': ['full_attention', "
         "'full_attention', "
         "'sliding_attention']}",
            1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        BEGIN(c, "{'architectures': ['Qwen2ForCausalLM'], 'model_type': 'qwen2', 'num_hidden_layers': 3}");
        change(c, cases[i].changes);
        for (int layer = 0; layer < 3; layer++) {
            put_layer(c, layer);
            put(c, qc_arena_printf(&c->arena, "model.layers.%d.self_attn.q_proj.bias", layer), "BF16", 1, 8,
                1, 1);
            put(c, qc_arena_printf(&c->arena, "model.layers.%d.self_attn.k_proj.bias", layer), "BF16", 1, 4,
                1, 1);
            put(c, qc_arena_printf(&c->arena, "model.layers.%d.self_attn.v_proj.bias", layer), "BF16", 1, 4,
                1, 1);
        }
        const char *ir = import(c);
        CHECK(ir != NULL);
        CHECK_INT(occurrences(ir, "window = 5}"), cases[i].windows);
        CHECK_INT(occurrences(ir, "bias=%b"), 9);
        end(c);
    }
    BEGIN(c, "{'architectures': ['MistralForCausalLM'], 'model_type': 'mistral'}");
    CHECK(holds(import(c), "window = 4096}"));
    change(c, "{'sliding_window': null}");
    CHECK_INT(occurrences(import(c), "window"), 0);
    end(c);
}

static void test_head_norms(void)
{
    BEGIN(c, "{'architectures': ['Qwen3ForCausalLM'], 'model_type': 'qwen3', 'head_dim': 4}");
    put(c, "model.layers.0.self_attn.q_norm.weight", "BF16", 1, 4, 1, 1);
    put(c, "model.layers.0.self_attn.k_norm.weight", "BF16", 1, 4, 1, 1);
    const char *ir = import(c);
    CHECK(holds(ir, "module \"model.layers.0.self_attn.q_norm\" Qwen3RMSNorm {weight}\n"));
    CHECK(holds(ir, "%q.2 = rmsnorm %q.1, %w.3 {eps = 1e-06} : bf16[B, 2, S, 4] at \".q_norm\"\n"
                    "    %q.3 = rope %q.2, %pos "));
    end(c);
}

static void test_element_types(void)
{
    BEGIN(c, NULL);
    put(c, "model.norm.weight", "F32", 1, 8, 1, 1);
    put(c, "lm_head.weight", "F16", 2, 10, 8, 1);
    const char *ir = import(c);
    CHECK(holds(ir, "weight \"model.norm.weight\" : f32[8]"));
    CHECK(holds(ir, "cast %w.10 {to = bf16} : bf16[8]"));
    CHECK(holds(ir, "weight \"lm_head.weight\" : f16[10, 8]"));
    qc_hf_options options = {.dtype = QC_F32};
    ir = import_as(c, &options);
    CHECK(holds(ir, "weight \"lm_head.weight\" : f32[10, 8]"));
    CHECK(holds(ir, "probs = f32, scale = 0.5, scores = f32, softmax = f32}"));
    CHECK_INT(occurrences(ir, "cast"), 0);
    options.dtype = QC_I8;
    CHECK(import_as(c, &options) == NULL);
    CHECK(said(&c->j, "cannot compute in i8; possible are bf16, f16 and f32"));
    end(c);
}

static void test_tying(void)
{
    BEGIN(c, "{'tie_word_embeddings': true}");
    const char *ir = import(c);
    CHECK(said(
        &c->j, "tie_word_embeddings is true, but lm_head.weight is stored beside model.embed_tokens.weight"));
    CHECK(holds(ir, "weight \"lm_head.weight\""));
    put(c, "lm_head.weight", NULL, 0, 0, 0, 0);
    ir = import(c);
    CHECK_INT(occurrences(ir, "weight \"model.embed_tokens.weight\""), 2);
    CHECK(holds(ir, "module \"lm_head\" Linear\n"));
    CHECK_INT(c->j.length, 0);
    put(c, "model.embed_tokens.weight", NULL, 0, 0, 0, 0);
    put(c, "lm_head.weight", "BF16", 2, 10, 8, 1);
    ir = import(c);
    CHECK_INT(occurrences(ir, "weight \"lm_head.weight\""), 2);
    end(c);
}

static void test_strangers(void)
{
    BEGIN(c,
        "{'unsloth_fixed': true, 'favourite_colour': 'blue', 'use_qk_norm': false, 'bias_of_taste': null}");
    put(c, "model.layers.0.self_attn.rotary_emb.inv_freq", "F32", 1, 2, 1, 1);
    put(c, "model.layers.7.mlp.up_proj.weight", "BF16", 2, 2, 1, 1);
    put(c, "extra", "BF16", 1, 2, 1, 1);
    const char *ir = import(c);
    CHECK(said(&c->j, "warning: "));
    CHECK(said(&c->j, "favourite_colour is not known to qc"));
    CHECK(said(&c->j, "1 tensors rotary_emb.inv_freq are kept and not used"));
    CHECK(said(&c->j, "2 tensors are no part of LlamaForCausalLM; they are kept and not used: "));
    CHECK_INT(c->j.counts[QC_SEVERITY_WARNING], 2);
    CHECK(holds(ir, "LlamaAttention {\"rotary_emb.inv_freq\"}\n"));
    CHECK(holds(ir, "module \"model.layers.7.mlp.up_proj\" Linear {weight}\n"));
    CHECK(holds(ir, "module \"\" LlamaForCausalLM {extra}\n"));
    end(c);
}

/* ---- the rest ------------------------------------------------------------------------------------------ */

static void test_generation(void)
{
    BEGIN(c, NULL);
    qc_hf_generation g;
    CHECK_INT(qc_hf_read_generation(&c->diag, &c->arena, c->directory, &g), QC_ERROR);
    write_text(c, "config.json", "{\"bos_token_id\": 3, \"eos_token_id\": 4}");
    CHECK_INT(qc_hf_read_generation(&c->diag, &c->arena, c->directory, &g), QC_OK);
    CHECK_INT(g.bos_id, 3);
    CHECK_INT(g.eos_count, 1);
    CHECK_INT(g.eos_ids[0], 4);
    write_text(c, "generation_config.json", "{\"bos_token_id\": null, \"eos_token_id\": [7, 9, 11]}");
    CHECK_INT(qc_hf_read_generation(&c->diag, &c->arena, c->directory, &g), QC_OK);
    CHECK_INT(g.bos_id, -1);
    CHECK_INT(g.eos_count, 3);
    CHECK_INT(g.eos_ids[2], 11);
    write_text(c, "generation_config.json", "{\"eos_token_id\": [7, \"x\"]}");
    CHECK_INT(qc_hf_read_generation(&c->diag, &c->arena, c->directory, &g), QC_ERROR);
    CHECK(said(&c->j, "generation_config.json: eos_token_id must be a token id, a list of them, or null"));
    write_text(c, "generation_config.json", "{}");
    CHECK_INT(qc_hf_read_generation(&c->diag, &c->arena, c->directory, &g), QC_OK);
    CHECK_INT(g.eos_count, 0);
    end(c);
}

static void test_list(void)
{
    qc_hf_arch_info info;
    size_t count = 0;
    while (qc_hf_list_archs(count, &info)) {
        CHECK(qc_ends_with(info.architecture, "ForCausalLM") ||
              qc_ends_with(info.architecture, "ForConditionalGeneration"));
        CHECK(qc_ends_with(info.attention_class, "Attention"));
        CHECK(*info.model_type && *info.supported);
        count++;
    }
    CHECK_INT(count, 23);
}

static void test_many_tensors(void)
{
    enum { LAYERS = 1111 };
    BEGIN(c, "{'num_hidden_layers': 1111}");
    c->tensor_count = 0; /* put() looks for each name among those before it */
    for (int layer = 0; layer < LAYERS; layer++)
        put_layer(c, layer);
    put(c, "model.embed_tokens.weight", "BF16", 2, 10, 8, 1);
    put(c, "model.norm.weight", "BF16", 1, 8, 1, 1);
    put(c, "lm_head.weight", "BF16", 2, 10, 8, 1);
    CHECK_INT(c->tensor_count, 9 * LAYERS + 3);
    const char *ir = import(c);
    CHECK_INT(occurrences(ir, " = weight "), 9 * LAYERS + 3);
    CHECK_INT(occurrences(ir, " = attention "), LAYERS);
    end(c);
}

/* The text of a module whose source is called `name`. */
static char *text_of(const char *directory, const char *name, journal *j)
{
    qc_ctx *ctx = qc_ctx_create(NULL, keep, j);
    qc_module *module = qc_hf_import(ctx, directory, NULL);
    char *copy = NULL;
    if (module) {
        CHECK_INT(qc_module_verify(module, NULL), QC_OK);
        qc_module_set_source(module, name);
        char *text = qc_module_print(module, NULL);
        copy = strdup(text);
        qc_module *again = qc_module_parse(ctx, name, text, strlen(text));
        CHECK(again != NULL);
        char *second = again ? qc_module_print(again, NULL) : NULL;
        CHECK_STR(second, text);
        qc_text_free(second);
        qc_text_free(text);
        qc_module_destroy(again);
    }
    qc_module_destroy(module);
    qc_ctx_destroy(ctx);
    return copy;
}

static void test_stories(void)
{
    const char *root = getenv("QC_SOURCE_ROOT");
    if (!root)
        SKIP("QC_SOURCE_ROOT is not set");
    qc_arena arena;
    qc_diag diag;
    static journal j;
    qc_arena_init(&arena, NULL);
    qc_diag_init(&diag, &arena, keep, &j);
    char *ir = text_of(qc_path_join(&arena, root, "tests/data/stories260k"), "stories260k", &j), *expected;
    size_t length;
    const char *golden = qc_path_join(&arena, root, "tests/unit/data/stories260k.qc");
    if (getenv("QC_BLESS") && ir)
        CHECK_INT(qc_write_file(&diag, golden, ir, strlen(ir)), QC_OK);
    CHECK_INT(qc_read_file(&diag, &arena, golden, 1 << 20, &expected, &length), QC_OK);
    CHECK(ir && length == strlen(ir) && memcmp(expected, ir, length) == 0);
    CHECK(said(&j, "golden.safetensors is left out: no shard of this checkpoint"));
    CHECK_INT(j.counts[QC_SEVERITY_REMARK], 1);
    CHECK_INT(j.counts[QC_SEVERITY_WARNING] + j.counts[QC_SEVERITY_ERROR], 0);
    free(ir);
    qc_arena_fini(&arena);
}

static void test_real_models(void)
{
    static const struct {
        const char *name, *part;
    } models[] = {
        {"llama", "module \"model.layers.1.self_attn\" LlamaAttention\n"},
        {"llama_bias", "theta = 500000.0}"},
        {"mistral", "window = 16}"},
        {"qwen2", "Qwen2Attention\nmodule \"model.layers.0.self_attn.q_proj\" Linear {weight, bias}\n"},
        {"qwen3", "Qwen3RMSNorm"},
        {"grid_llama", "attention"},
        {"stories260k", "-> bf16[B, S, 512] {"},
    };
    const char *data = getenv("QC_DATA");
    if (!data)
        SKIP("QC_DATA is not set");
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        char path[4096];
        static journal j;
        snprintf(path, sizeof path, "%s/models/%s", data, models[i].name);
        char *ir = text_of(path, models[i].name, &j);
        CHECK(holds(ir, models[i].part));
        CHECK_INT(j.counts[QC_SEVERITY_WARNING] + j.counts[QC_SEVERITY_ERROR], 0);
        free(ir);
    }
}

int main(void)
{
    RUN(test_refused_configs);
    RUN(test_refused_files);
    RUN(test_shards);
    RUN(test_refused_tensors);
    RUN(test_defaults_and_dialects);
    RUN(test_rope_types);
    RUN(test_windows);
    RUN(test_head_norms);
    RUN(test_element_types);
    RUN(test_tying);
    RUN(test_strangers);
    RUN(test_generation);
    RUN(test_list);
    RUN(test_many_tensors);
    RUN(test_stories);
    RUN(test_real_models);
    return check_done();
}
