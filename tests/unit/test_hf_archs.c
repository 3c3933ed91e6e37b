/* SPDX-License-Identifier: MIT
 *
 * test_hf_archs.c - the architectures of the importer: configurations of published checkpoints are taken without a word;
 * what would change the arithmetic, and architectures that are known and not supported, are refused by name; the trees of
 * multimodal models.
 */
#include "tests/unit/hf_checkpoint.h"

#include "frontends/hf/alias.h"
#include "frontends/hf/config.h"

/* ---- configurations ------------------------------------------------------------------------------------- */

static char *data_path(qc_arena *arena, const char *name)
{
    const char *root = getenv("QC_SOURCE_ROOT");
    return qc_path_join(arena, root ? root : ".", qc_arena_printf(arena, "tests/data/%s", name));
}

static void test_published_configs(void)
{
    static const struct {
        const char *file, *architecture; /* of the text model */
        int64_t layers, heads, kv_heads, head_dim, hidden, vocabulary, experts;
        bool tied;
    } cases[] = {
        {"llama-3_1-8b", "LlamaForCausalLM", 32, 32, 8, 128, 4096, 128256, 0, false},
        {"phi-3-mini-4k", "Phi3ForCausalLM", 32, 32, 32, 96, 3072, 32064, 0, false},
        {"phi-4-mini-instruct", "Phi3ForCausalLM", 32, 24, 8, 128, 3072, 200064, 0, true},
        {"gemma-2-2b", "Gemma2ForCausalLM", 26, 8, 4, 256, 2304, 256000, 0, true},
        {"gemma-3-1b-it", "Gemma3ForCausalLM", 26, 4, 1, 256, 1152, 262144, 0, true},
        {"gemma-3-4b-it", "Gemma3ForCausalLM", 34, 8, 4, 256, 2560, 262208, 0, true},
        {"olmo-2-1124-7b", "Olmo2ForCausalLM", 32, 32, 32, 128, 4096, 100352, 0, false},
        {"granite-3_3-2b", "GraniteForCausalLM", 40, 32, 8, 64, 2048, 49159, 0, true},
        {"glm-4-9b-0414", "Glm4ForCausalLM", 40, 32, 2, 128, 4096, 151552, 0, false},
        {"mixtral-8x7b", "MixtralForCausalLM", 32, 32, 8, 128, 4096, 32000, 8, false},
        {"qwen1_5-moe-a2_7b", "Qwen2MoeForCausalLM", 24, 16, 16, 128, 2048, 151936, 60, false},
        {"qwen3-30b-a3b", "Qwen3MoeForCausalLM", 48, 32, 4, 128, 2048, 151936, 128, false},
        {"llama-4-scout", "Llama4ForCausalLM", 48, 40, 8, 128, 5120, 202048, 16, false},
        {"gpt-oss-20b", "GptOssForCausalLM", 24, 64, 8, 64, 2880, 201088, 32, false},
        {"deepseek-v3", "DeepseekV3ForCausalLM", 61, 128, 128, 192, 7168, 129280, 256, false},
        {"glm-4_5-air", "Glm4MoeForCausalLM", 46, 96, 8, 128, 4096, 151552, 128, false},
        {"mistral-small-3_1", "MistralForCausalLM", 40, 32, 8, 128, 5120, 131072, 0, true},
        {"qwen2_5-vl-7b", "Qwen2_5_VLTextModel", 28, 28, 4, 128, 3584, 152064, 0, false},
        {"qwen3-vl-8b", "Qwen3VLTextModel", 36, 32, 8, 128, 4096, 151936, 0, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        static journal j;
        qc_arena arena;
        qc_diag diag;
        char *text;
        size_t length;
        j = (journal){0};
        qc_arena_init(&arena, NULL);
        qc_diag_init(&diag, &arena, keep, &j);
        const char *path = data_path(&arena, qc_arena_printf(&arena, "configs/%s.json", cases[i].file));
        qc_hf_config c = {0};
        CHECK_INT(qc_read_file(&diag, &arena, path, 1 << 20, &text, &length), QC_OK);
        CHECK_INT(qc_hf_config_parse(&diag, &arena, path, text, length, &c), QC_OK);
        if (j.length)
            printf("# %s", j.text);
        CHECK_INT(j.length, 0);
        CHECK(c.arch && strcmp(c.arch->info.architecture, cases[i].architecture) == 0);
        CHECK_INT(c.layers, cases[i].layers);
        CHECK_INT(c.attention.heads, cases[i].heads);
        CHECK_INT(c.attention.kv_heads, cases[i].kv_heads);
        CHECK_INT(c.attention.head_dim, cases[i].head_dim);
        CHECK_INT(c.hidden, cases[i].hidden);
        CHECK_INT(c.vocabulary, cases[i].vocabulary);
        CHECK_INT(c.moe.experts, cases[i].experts);
        CHECK_INT(c.tied, cases[i].tied);
        qc_arena_fini(&arena);
    }
}

#define CLASS(name, type) "'architectures': ['" name "'], 'model_type': '" type "'"

static void test_refused_keys(void)
{
    static const struct {
        const char *changes, *message;
    } cases[] = {
        {"{" CLASS("GraniteForCausalLM", "granite") ", 'residual_multiplier': 0}",
            "residual_multiplier must be greater than 0, not 0"},
        {"{" CLASS("GraniteForCausalLM", "granite") ", 'logits_scaling': '2'}",
            "logits_scaling must be a number"},
        {"{" CLASS("GraniteForCausalLM", "granite") ", 'embedding_multiplier': -12.0}",
            "embedding_multiplier must be greater than 0, not -12.0"},
        {"{'embedding_multiplier': 12.0}",
            "embedding_multiplier is set, and qc does not know what it does in LlamaForCausalLM"},
        {"{'residual_multiplier': 0.2}", "residual_multiplier is set"},
        {"{'logits_scaling': 8.0}", "logits_scaling is set"},
        {"{'logit_scale': 0.1}", "logit_scale is set"},
        {"{'is_causal': false}",
            "is_causal is not true, and LlamaForCausalLM without a causal mask is not supported"},
        {"{'is_causal': null}", "is_causal is not true"},
        {"{'hidden_activation': 'gelu_pytorch_tanh'}", "hidden_activation is set"},
        {"{" CLASS("Gemma3ForCausalLM", "gemma3_text") ", 'use_bidirectional_attention': true}",
            "use_bidirectional_attention is set, and qc does not know what it does in Gemma3ForCausalLM"},
        {"{" CLASS("Gemma2ForCausalLM", "gemma2") ", 'hidden_activation': 'gelu'}",
            "hidden_activation 'gelu' is not supported; supported are silu and gelu_pytorch_tanh"},
        {"{" CLASS("Gemma2ForCausalLM", "gemma2") ", 'final_logit_softcapping': 0}",
            "final_logit_softcapping must be greater than 0, not 0"},
        {"{" CLASS("Gemma2ForCausalLM", "gemma2") ", 'mlp_bias': true}", "mlp_bias is set"},
        {"{" CLASS("Phi3ForCausalLM", "phi3") ", 'interpolate_factor': 2}", "interpolate_factor is set"},
        {"{" CLASS("Phi3ForCausalLM", "phi3") ", 'full_attn_mod': 2}", "full_attn_mod is set"},
        {"{" CLASS("Phi3ForCausalLM", "phi3") ", 'lm_head_bias': true}", "lm_head_bias is set"},
        {"{" CLASS("Gemma3ForConditionalGeneration", "gemma3") "}",
            "Gemma3ForConditionalGeneration has no text_config"},
        {"{" CLASS("Mistral3ForConditionalGeneration", "mistral3") ", 'text_config': []}",
            "text_config must be an object"},
        {"{" CLASS(
             "Mistral3ForConditionalGeneration", "mistral3") ", 'text_config': {'model_type': 'qwen2'}}",
            "text_config: model_type 'qwen2' is not supported in Mistral3ForConditionalGeneration; supported "
            "is "
            "mistral"},
        {"{" CLASS("Gemma3ForConditionalGeneration",
             "gemma3") ", 'text_config': {'final_logit_softcapping': 30.0}}",
            "final_logit_softcapping is set, and Gemma3ForConditionalGeneration leaves it out"},
        {"{" CLASS("Gemma3ForConditionalGeneration", "llama4") ", 'text_config': {}}",
            "architecture Gemma3ForConditionalGeneration and model_type 'llama4' contradict each other"},
        {"{" CLASS("Mistral3ForConditionalGeneration", "mistral3") ", 'text_config': {'logit_scale': 2}}",
            "logit_scale is set, and qc does not know what it does in MistralForCausalLM"},
        {"{" CLASS("Mistral3ForConditionalGeneration", "mistral3") ", 'logit_scale': 2, 'text_config': {}}",
            "logit_scale is set"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        BEGIN(c, cases[i].changes);
        CHECK(import(c) == NULL);
        CHECK(said(&c->j, cases[i].message));
        CHECK_INT(c->j.counts[QC_SEVERITY_ERROR], 1);
        end(c);
    }
}

/* ---- known and refused ---------------------------------------------------------------------------------- */

static void test_refused_classes(void)
{
    static const struct {
        const char *changes, *message;
    } cases[] = {
        {"{" CLASS("Qwen3NextForCausalLM", "qwen3_next") "}",
            "architecture 'Qwen3NextForCausalLM' is not supported: it has layers of linear attention"},
        {"{" CLASS("Qwen3_5ForConditionalGeneration", "qwen3_5") "}",
            "'Qwen3_5ForConditionalGeneration' is not supported: it has layers of linear attention"},
        {"{" CLASS("Qwen3_5MoeForCausalLM", "qwen3_5_moe_text") "}",
            "'Qwen3_5MoeForCausalLM' is not supported: it has layers of linear attention"},
        {"{" CLASS("JambaForCausalLM", "jamba") "}",
            "'JambaForCausalLM' is not supported: it has state-space (Mamba) layers"},
        {"{" CLASS("Mamba2ForCausalLM", "mamba2") "}",
            "'Mamba2ForCausalLM' is not supported: it has state-space"},
        {"{'architectures': null, 'model_type': 'mamba'}",
            "model_type 'mamba' is not supported: it has state-space (Mamba) layers"},
        {"{" CLASS("Lfm2ForCausalLM", "lfm2") "}", "is not supported: it has layers of short convolutions"},
        {"{" CLASS("RecurrentGemmaForCausalLM", "recurrent_gemma") "}",
            "is not supported: it has recurrent layers"},
        {"{" CLASS("Gemma3nForCausalLM", "gemma3n_text") "}",
            "is not supported: it has embeddings for each layer"},
    };
    const qc_hf_options as_found = {.mode = QC_HF_AUTO}, as_tensors = {.mode = QC_HF_TENSORS};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        BEGIN(c, cases[i].changes);
        CHECK(import(c) == NULL);
        CHECK(said(&c->j, cases[i].message));
        CHECK(import_as(c, &as_found) == NULL);
        CHECK(said(&c->j, cases[i].message));
        CHECK(said(&c->j, "--import=tensors quantizes weights without knowing the architecture"));
        CHECK_INT(c->j.counts[QC_SEVERITY_ERROR], 1);
        CHECK(import_as(c, &as_tensors) != NULL);
        end(c);
    }
}

/* ---- multimodal models ---------------------------------------------------------------------------------- */

/* The IR of a checkpoint of the tree, in `arena`. */
static const char *ir_of(qc_arena *arena, const char *name, journal *j)
{
    *j = (journal){0};
    qc_ctx *ctx = qc_ctx_create(NULL, keep, j);
    qc_module *module = qc_hf_import(ctx, data_path(arena, name), NULL);
    char *text = module ? qc_module_print(module, NULL) : NULL;
    const char *copy = text ? qc_arena_strdup(arena, text) : "";
    CHECK(module != NULL);
    CHECK_INT(j->counts[QC_SEVERITY_WARNING] + j->counts[QC_SEVERITY_ERROR], 0);
    qc_text_free(text);
    qc_module_destroy(module);
    qc_ctx_destroy(ctx);
    return copy;
}

/* The tree is that of named_modules(), in its order, with its classes. */
static void test_trees(void)
{
    static const char *const names[] = {"phi3", "gemma2", "gemma3", "olmo2", "granite", "glm4"};
    static journal j;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        qc_arena arena;
        qc_diag diag;
        char *modules;
        size_t length;
        qc_arena_init(&arena, NULL);
        qc_diag_init(&diag, &arena, keep, &j);
        const char *directory = qc_arena_printf(&arena, "dense_models/%s", names[i]);
        const char *ir = ir_of(&arena, directory, &j), *at = strstr(ir, "\nmodule \"");
        const char *path = data_path(&arena, qc_arena_printf(&arena, "%s/modules.txt", directory));
        CHECK_INT(qc_read_file(&diag, &arena, path, 1 << 20, &modules, &length), QC_OK);
        at = at ? strstr(at + 1, "\nmodule \"") : NULL; /* behind the root */
        for (char *line = strtok(modules, "\n"); line; line = strtok(NULL, "\n")) {
            char *space = strchr(line, ' ');
            const char *expected =
                qc_arena_printf(&arena, "\nmodule \"%.*s\" %s", (int)(space - line), line, space + 1);
            CHECK(at && strncmp(at, expected, strlen(expected)) == 0 && strchr(" \n", at[strlen(expected)]));
            at = at ? strstr(at + 1, "\nmodule \"") : NULL;
        }
        CHECK(at == NULL);
        qc_arena_fini(&arena);
    }
}

/* Names below the text model, and of its head, as each kind of checkpoint has them. */
static void test_wrapper_trees(void)
{
    static const struct {
        const char *name, *parts[8];
    } cases[] = {
        {"gemma3_vision",
            {"module \"\" Gemma3ForConditionalGeneration\n"
             "module \"language_model\" Gemma3ForCausalLM\n"
             "module \"language_model.model\" Gemma3TextModel as \"model.language_model\"\n",
                "module \"language_model.model.layers.1.self_attn\" Gemma3Attention\n",
                "module \"lm_head\" Linear\n", "module \"vision_tower.encoder.layers.0.self_attn\" Module\n",
                "module \"vision_tower.encoder.layers.0.mlp.fc1\" Linear {bias, weight}\n",
                "module \"multi_modal_projector\" Module as \"model.multi_modal_projector\" "
                "{mm_input_projection_weight}\n",
                "weight \"language_model.model.layers.0.self_attn.q_proj.weight\""}},
        {"mistral3", {"module \"\" Mistral3ForConditionalGeneration\n"
                      "module \"model\" Mistral3Model\n"
                      "module \"model.language_model\" MistralModel\n",
                         "module \"lm_head\" Linear {weight}\n",
                         "module \"model.vision_tower.patch_conv\" Module {weight}\n",
                         "weight \"model.language_model.layers.0.self_attn.q_proj.weight\""}},
        {"llama4_vision",
            {"module \"vision_model.patch_embedding.linear\" Linear {weight}\n",
                "module \"language_model\" Llama4ForCausalLM\n",
                "module \"language_model.lm_head\" Linear {weight}\n",
                "module \"language_model.model.layers.1.feed_forward.router\" Llama4Router {weight}\n",
                "module \"vision_model\" Module {class_embedding, positional_embedding_vlm}\n"}},
        {"qwen2_5_vl",
            {"module \"\" Qwen2_5_VLForConditionalGeneration\nmodule \"model\" Qwen2_5_VLTextModel as "
             "\"model.language_model\"\n",
                "module \"model.layers.0.mlp\" Qwen2MLP\n",
                "module \"model.layers.0.self_attn\" Qwen2_5_VLAttention\n",
                "module \"visual\" Module as \"model.visual\"\n",
                "module \"visual.patch_embed.proj\" Module {weight}\n"}},
        {"qwen3_vl", {"module \"model\" Qwen3VLModel\nmodule \"model.language_model\" Qwen3VLTextModel\n",
                         "module \"model.language_model.layers.0.self_attn\" Qwen3VLTextAttention\n",
                         "module \"model.visual.blocks.0.attn.qkv\" Linear {bias, weight}\n",
                         "module \"lm_head\" Linear\n"}},
        {"qwen3_vl_moe",
            {"module \"model\" Qwen3VLMoeModel\nmodule \"model.language_model\" Qwen3VLMoeTextModel\n",
                "module \"model.language_model.layers.0.mlp\" Qwen3VLMoeTextMLP\n",
                "module \"model.language_model.layers.1.mlp\" Qwen3VLMoeTextSparseMoeBlock\n",
                "module \"model.language_model.layers.1.mlp.experts\" Qwen3VLMoeTextExperts "
                "{gate_up_proj, down_proj}\n",
                "module \"lm_head\" Linear {weight}\n"}},
    };
    static journal j;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qc_arena arena;
        qc_arena_init(&arena, NULL);
        const char *ir = ir_of(&arena, qc_arena_printf(&arena, "dense_models/%s", cases[i].name), &j);
        for (size_t part = 0; part < 8 && cases[i].parts[part]; part++)
            CHECK(holds(ir, cases[i].parts[part]));
        CHECK(said(&j, "tensors beside the text model are copied as they are"));
        const char *main_at = strstr(ir, "func @main");
        CHECK(main_at && !strstr(main_at, "visual") && !strstr(main_at, "vision"));
        qc_arena_fini(&arena);
    }
}

/* What Transformers 5.17 calls modules; NULL: as the checkpoint does. */
static void test_aliases(void)
{
    static const struct {
        const char *architecture, *path, *alias;
    } rows[] = {
        {"Gemma3ForConditionalGeneration", "language_model.model", "model.language_model"},
        {"Gemma3ForConditionalGeneration", "language_model.model.layers.0.self_attn.q_proj",
            "model.language_model.layers.0.self_attn.q_proj"},
        {"Gemma3ForConditionalGeneration", "language_model.lm_head", "lm_head"},
        {"Gemma3ForConditionalGeneration", "language_model", NULL},
        {"Gemma3ForConditionalGeneration", "language_model.model_2", NULL},
        {"Gemma3ForConditionalGeneration", "model.language_model.layers.0", NULL},
        {"Gemma3ForConditionalGeneration", "vision_tower.vision_model.encoder.layers.0",
            "model.vision_tower.encoder.layers.0"},
        {"Gemma3ForConditionalGeneration", "vision_tower.encoder", "model.vision_tower.encoder"},
        {"Mistral3ForConditionalGeneration", "multi_modal_projector.linear_1",
            "model.multi_modal_projector.linear_1"},
        {"Mistral3ForConditionalGeneration", "lm_head", NULL},
        {"Qwen2_5_VLForConditionalGeneration", "model", "model.language_model"},
        {"Qwen2_5_VLForConditionalGeneration", "model.layers.1.mlp", "model.language_model.layers.1.mlp"},
        {"Qwen2_5_VLForConditionalGeneration", "model.visual.blocks.0", NULL},
        {"Qwen2_5_VLForConditionalGeneration", "model.language_model.layers.1", NULL},
        {"Qwen2_5_VLForConditionalGeneration", "visual.merger", "model.visual.merger"},
        {"Qwen2_5_VLForConditionalGeneration", "lm_head", NULL},
        {"Qwen3VLForConditionalGeneration", "model.layers.0", NULL},
        {"Llama4ForConditionalGeneration", "language_model.lm_head", NULL},
        {"MixtralForCausalLM", "model.layers.3.block_sparse_moe.gate", "model.layers.3.mlp.gate"},
        {"MixtralForCausalLM", "model.layers.3.block_sparse_moe.experts.10.w1",
            "model.layers.3.mlp.experts.10.gate_proj"},
        {"MixtralForCausalLM", "model.layers.3.block_sparse_moe.experts.10.w2",
            "model.layers.3.mlp.experts.10.down_proj"},
        {"MixtralForCausalLM", "model.layers.3.block_sparse_moe.experts.10.up_proj",
            "model.layers.3.mlp.experts.10.up_proj"},
        {"MixtralForCausalLM", "model.layers.3.self_attn.q_proj", NULL},
        {"Qwen3MoeForCausalLM", "model.layers.3.block_sparse_moe.gate", NULL},
        {NULL, "language_model.model", NULL},
    };
    qc_arena arena;
    qc_arena_init(&arena, NULL);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *alias = qc_hf_alias(&arena, rows[i].architecture, rows[i].path);
        if (rows[i].alias ? !alias || strcmp(alias, rows[i].alias) != 0 : alias != NULL)
            CHECK_FAIL("%s: %s", rows[i].path, alias ? alias : "NULL");
    }
    qc_arena_fini(&arena);
}

/* Lists of a quantized wrapper may name modules as Transformers does, tensors as the hub does. */
static void test_quantized_wrapper(void)
{
    BEGIN(c,
        "{" CLASS("Mistral3ForConditionalGeneration",
            "mistral3") ", 'quantization_config': {"
                        "'quant_method': 'compressed-tensors', 'format': 'float-quantized', 'ignore': "
                        "['lm_head', "
                        "'model.language_model.layers.0.mlp.down_proj'], 'config_groups': {'group_0': "
                        "{'targets': ['Linear'], "
                        "'weights': {'num_bits': 8, 'type': 'float', 'strategy': 'channel', 'symmetric': "
                        "true, "
                        "'dynamic': false}}}}, 'text_config': {'model_type': 'mistral', 'hidden_size': 8, "
                        "'intermediate_size': 6, 'num_hidden_layers': 1, 'num_attention_heads': 2, "
                        "'num_key_value_heads': 1, "
                        "'vocab_size': 10, 'max_position_embeddings': 64, 'sliding_window': null}}");
    const size_t count = c->tensor_count;
    for (size_t i = 0; i < count; i++) {
        qc_st_out *t = &c->tensors[i];
        const bool coded = strstr(t->name, "_proj.weight") && !strstr(t->name, "down_proj");
        t->name = qc_arena_printf(&c->arena, "language_model.%s", t->name);
        if (coded) {
            t->dtype = "F8_E4M3";
            put(c, qc_arena_printf(&c->arena, "%s_scale", t->name), "BF16", 2, t->shape[0], 1, 1);
        }
    }
    const char *ir = import(c);
    CHECK_INT(c->j.counts[QC_SEVERITY_WARNING] + c->j.counts[QC_SEVERITY_ERROR], 0);
    if (!ir)
        printf("# %s\n", c->j.text);
    CHECK_INT(occurrences(ir, " = dequantize "), 6);
    CHECK(holds(ir, "weight \"language_model.lm_head.weight\" : bf16[10, 8]"));
    CHECK(holds(ir, "weight \"language_model.model.layers.0.mlp.down_proj.weight\" : bf16[8, 6]"));
    end(c);
}

/* Without generation_config.json the end of a text stands in text_config. */
static void test_wrapper_generation(void)
{
    qc_arena arena;
    qc_diag diag;
    static journal j;
    qc_hf_generation generation = {0};
    qc_arena_init(&arena, NULL);
    qc_diag_init(&diag, &arena, keep, &j);
    CHECK_INT(
        qc_hf_read_generation(&diag, &arena, data_path(&arena, "dense_models/qwen3_vl"), &generation), QC_OK);
    CHECK_INT(generation.bos_id, 1);
    CHECK(generation.eos_count == 1 && generation.eos_ids[0] == 2);
    qc_arena_fini(&arena);
}

/* ---- documentation -------------------------------------------------------------------------------------- */

/* docs/architectures.md has the rows of the list, in their order, and no others. */
static void test_documented(void)
{
    qc_arena arena;
    qc_diag diag;
    static journal j;
    char *page;
    size_t length;
    qc_hf_arch_info info;
    qc_arena_init(&arena, NULL);
    qc_diag_init(&diag, &arena, keep, &j);
    const char *path = data_path(&arena, "../../docs/architectures.md");
    CHECK_INT(qc_read_file(&diag, &arena, path, 1 << 20, &page, &length), QC_OK);
    qc_str table;
    qc_str_init(&table, &arena);
    qc_str_addf(
        &table, "| architecture | `model_type` | attention class | what is supported |\n|---|---|---|---|\n");
    for (size_t i = 0; qc_hf_list_archs(i, &info); i++)
        qc_str_addf(&table, "| `%s` | `%s` | `%s` | %s |\n", info.architecture, info.model_type,
            info.attention_class, info.supported);
    qc_str_addf(&table, "\n");
    CHECK(holds(page, table.data));
    qc_str_fini(&table);
    qc_arena_fini(&arena);
}

int main(void)
{
    RUN(test_documented);
    RUN(test_published_configs);
    RUN(test_refused_keys);
    RUN(test_refused_classes);
    RUN(test_trees);
    RUN(test_wrapper_trees);
    RUN(test_aliases);
    RUN(test_quantized_wrapper);
    RUN(test_wrapper_generation);
    return check_done();
}
