/* SPDX-License-Identifier: MIT
 *
 * wrapper.c - multimodal models and where their text models lie. Checkpoints of the hub, and those that Transformers 5 and
 * llm-compressor write, differ: language_model.model.* with language_model.lm_head (as LLaVA did),
 * model.language_model.* with lm_head, or model.* with lm_head (Qwen2.5-VL). The tensor of the last norm, which every text
 * model has and no scheme quantizes, tells which. Source: transformers/models/{gemma3,llama4,mistral3,qwen2_5_vl,
 * qwen3_vl, qwen3_vl_moe} and conversion_mapping.py at 5.17.
 */
#include "frontends/hf/wrapper.h"

#include "frontends/hf/tree.h"

/* Text models that are no model of their own. */
static const qc_hf_arch inner[] = {
    {
        .info = {"Qwen2_5_VLTextModel", "qwen2_5_vl_text", "Qwen2_5_VLAttention", ""},
        .prefix = "Qwen2_5_VL",
        .model_class = "Qwen2_5_VLTextModel",
        .norms = QC_HF_NORMS_LLAMA,
        .mlp = {.class_name = "Qwen2MLP"},
        .attention = {.qkv_bias = QC_HF_BIAS_ALWAYS,
            .windowing = QC_HF_WINDOWING_BY_LAYER_TYPES,
            .heads = 64,
            .kv_heads = 8,
            .sliding_window = 4096,
            .max_window_layers = 80,
            .rope = {.theta = 1e6, .sections = true}},
        .vocabulary = 152064,
        .hidden = 8192,
        .intermediate = 29568,
        .layers = 80,
        .positions = 32768,
        .norm_eps = 1e-5,
    },
    {
        .info = {"Qwen3VLTextModel", "qwen3_vl_text", "Qwen3VLTextAttention", ""},
        .prefix = "Qwen3VLText",
        .norms = QC_HF_NORMS_LLAMA,
        .attention = {.qkv_bias = QC_HF_BIAS_BY_ATTENTION_BIAS,
            .o_bias = QC_HF_BIAS_BY_ATTENTION_BIAS,
            .qk_norm = QC_HF_QK_NORM_HEADS,
            .rope = {.theta = 5e5, .sections = true},
            .windowing = QC_HF_WINDOWING_NEVER,
            .heads = 32,
            .kv_heads = 32,
            .head_dim = 128},
        .vocabulary = 151936,
        .hidden = 4096,
        .intermediate = 22016,
        .layers = 32,
        .positions = 128000,
    },
    {
        .info = {"Qwen3VLMoeTextModel", "qwen3_vl_moe_text", "Qwen3VLMoeTextAttention", ""},
        .prefix = "Qwen3VLMoeText",
        .norms = QC_HF_NORMS_LLAMA,
        .attention = {.qkv_bias = QC_HF_BIAS_BY_ATTENTION_BIAS,
            .o_bias = QC_HF_BIAS_BY_ATTENTION_BIAS,
            .qk_norm = QC_HF_QK_NORM_HEADS,
            .rope = {.theta = 5e5, .sections = true},
            .windowing = QC_HF_WINDOWING_NEVER,
            .heads = 16,
            .kv_heads = 16},
        .moe = &qc_hf_moe_qwen3_vl,
        .vocabulary = 151936,
        .hidden = 2048,
        .intermediate = 5632,
        .layers = 24,
        .positions = 128000,
    },
};

#define COPIED "text model compiled, vision tower and projector copied; "

static const qc_hf_wrapper wrappers[] = {
    {
        .info = {"Gemma3ForConditionalGeneration", "gemma3", "Gemma3Attention",
            COPIED "text as Gemma3ForCausalLM"},
        .model_class = "Gemma3Model",
        .text_types = {"gemma3_text"},
        .tied = true,
    },
    {
        .info = {"Llama4ForConditionalGeneration", "llama4", "Llama4TextAttention",
            COPIED "text as Llama4ForCausalLM"},
        .model_class = "Llama4Model",
        .text_types = {"llama4_text"},
    },
    {
        .info = {"Mistral3ForConditionalGeneration", "mistral3", "MistralAttention",
            COPIED "text as MistralForCausalLM"},
        .model_class = "Mistral3Model",
        .text_types = {"mistral"},
        .tied = true,
    },
    {
        .info = {"Qwen2_5_VLForConditionalGeneration", "qwen2_5_vl", "Qwen2_5_VLAttention",
            COPIED "positions of text; q/k/v bias, use_sliding_window, layer_types"},
        .model_class = "Qwen2_5_VLModel",
        .text_types = {"qwen2_5_vl_text", "qwen2_5_vl"},
        .tied_inside = true,
        .flat = true,
    },
    {
        .info = {"Qwen3VLForConditionalGeneration", "qwen3_vl", "Qwen3VLTextAttention",
            COPIED "positions of text; q/k norm per head, attention_bias"},
        .model_class = "Qwen3VLModel",
        .text_types = {"qwen3_vl_text"},
    },
    {
        .info = {"Qwen3VLMoeForConditionalGeneration", "qwen3_vl_moe", "Qwen3VLMoeTextAttention",
            COPIED "positions of text; experts (fused and transposed, or one by one), decoder_sparse_step, "
                   "mlp_only_layers, q/k norm per head, attention_bias"},
        .model_class = "Qwen3VLMoeModel",
        .text_types = {"qwen3_vl_moe_text"},
    },
};

const qc_hf_wrapper *qc_hf_wrapper_at(size_t index)
{
    return index < sizeof wrappers / sizeof *wrappers ? &wrappers[index] : NULL;
}

const qc_hf_wrapper *qc_hf_wrapper_by_name(const char *architecture)
{
    for (size_t i = 0; i < sizeof wrappers / sizeof *wrappers; i++)
        if (strcmp(wrappers[i].info.architecture, architecture) == 0)
            return &wrappers[i];
    return NULL;
}

const qc_hf_wrapper *qc_hf_wrapper_by_model_type(const char *model_type)
{
    for (size_t i = 0; i < sizeof wrappers / sizeof *wrappers; i++)
        if (strcmp(wrappers[i].info.model_type, model_type) == 0)
            return &wrappers[i];
    return NULL;
}

const qc_hf_arch *qc_hf_wrapper_arch(const qc_hf_wrapper *wrapper)
{
    const char *model_type = wrapper->text_types[0];
    for (size_t i = 0; i < sizeof inner / sizeof *inner; i++)
        if (strcmp(inner[i].info.model_type, model_type) == 0)
            return &inner[i];
    return qc_hf_arch_by_model_type(model_type);
}

const qc_json *qc_hf_wrapper_text(qc_diag *diag, const char *path, const qc_hf_wrapper *wrapper,
    const qc_json *root, const qc_hf_arch **arch)
{
    const char *type = NULL;
    const qc_json *text = qc_json_get(root, "text_config");
    if (text && text->kind != QC_JSON_NULL && text->kind != QC_JSON_OBJECT) {
        qc_error(diag, path, "text_config must be an object");
        return NULL;
    }
    if (!text || text->kind == QC_JSON_NULL) {
        if (!wrapper->flat) {
            qc_error(diag, path, "%s has no text_config", wrapper->info.architecture);
            return NULL;
        }
        *arch = qc_hf_wrapper_arch(wrapper);
        return root;
    }
    if (qc_json_string(diag, path, text, "model_type", false, &type))
        return NULL;
    for (size_t i = 0; i < sizeof wrapper->text_types / sizeof *wrapper->text_types; i++)
        if (!type || (wrapper->text_types[i] && strcmp(wrapper->text_types[i], type) == 0)) {
            *arch = qc_hf_wrapper_arch(wrapper);
            return text;
        }
    qc_error(diag, path, "text_config: model_type '%s' is not supported in %s; supported is %s", type,
        wrapper->info.architecture, wrapper->text_types[0]);
    return NULL;
}

bool qc_hf_wrapper_key(const char *key)
{
    static const char *const keys[] = {"text_config", "vision_config", "image_token_id", "image_token_index",
        "video_token_id", "video_token_index", "boi_token_id", "boi_token_index", "eoi_token_id",
        "eoi_token_index", "vision_start_token_id", "vision_end_token_id", "vision_token_id",
        "mm_tokens_per_image", "projector_hidden_act", "multimodal_projector_bias", "vision_feature_layer",
        "vision_feature_select_strategy", "spatial_merge_size"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (strcmp(keys[i], key) == 0)
            return true;
    return false;
}

void qc_hf_wrapper_places(qc_hf_state *s)
{
    static const char *const paths[] = {"language_model.model", "model.language_model"};
    const char *head = "language_model.lm_head";
    s->model.path = "model";
    s->model.head_path = "lm_head";
    bool found = qc_st_find(&s->set, "model.norm.weight") != NULL;
    for (size_t i = 0; s->config.wrapper && i < sizeof paths / sizeof *paths; i++) {
        const qc_st_tensor *t = qc_st_find(&s->set, qc_arena_printf(s->arena, "%s.norm.weight", paths[i]));
        if (t && found)
            qc_hf_tensor_error(s, t,
                qc_arena_printf(s->arena,
                    "the text model is stored twice, below %s and below %s; which counts is not known",
                    s->model.path, paths[i]));
        if (t)
            s->model.path = paths[i];
        found |= t != NULL;
    }
    /* A head that is the embedding has no name in the checkpoint: that of Transformers' module stays. */
    if (s->config.wrapper && qc_hf_is_stored(s, qc_arena_printf(s->arena, "%s.weight", head)))
        s->model.head_path = head;
}

void qc_hf_wrapper_tree(qc_hf_state *s)
{
    const qc_hf_wrapper *wrapper = s->config.wrapper;
    const char *arch = s->config.arch->info.architecture;
    s->model.root = qc_hf_tree_node(s, NULL, "", wrapper ? wrapper->info.architecture : arch);
    if (qc_starts_with(s->model.path, "language_model."))
        qc_hf_tree_node(s, NULL, "language_model", arch);
    else if (strcmp(s->model.path, "model") != 0)
        qc_hf_tree_node(s, NULL, "model", wrapper->model_class);
}
