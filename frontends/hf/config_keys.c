/* SPDX-License-Identifier: MIT
 *
 * config_keys.c - no key of config.json is passed over in silence: it is used, or known to have no influence
 * on the logits, or the checkpoint is refused (the name speaks of arithmetic), or a warning names it.
 */
#include "frontends/hf/config.h"

/* Read by config.c and rope.c for every architecture. */
static const char *const used_keys[] = {
    "architectures",
    "model_type",
    "dtype",
    "torch_dtype",
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "max_position_embeddings",
    "original_max_position_embeddings",
    "rms_norm_eps",
    "tie_word_embeddings",
    "rope_theta",
    "rope_scaling",
    "rope_parameters",
    "partial_rotary_factor",
    "layer_types",
    "quantization_config",
};

/* Training, generation, bookkeeping and implementation choices. Two that look otherwise: pretraining_tp
 * splits sums in Transformers 4 only, and max_window_layers matters only beside use_sliding_window, which is
 * checked. */
static const char *const harmless_keys[] = {
    "_attn_implementation",
    "_attn_implementation_autoset",
    "_attn_implementation_internal",
    "_commit_hash",
    "_experts_implementation_internal",
    "_flash_attn_2_enabled",
    "_from_model_config",
    "_name_or_path",
    "add_cross_attention",
    "attention_dropout",
    "attn_implementation",
    "auto_map",
    "bad_words_ids",
    "base_model_name_or_path",
    "begin_suppress_tokens",
    "bos_token_id",
    "cache_implementation",
    "chunk_size_feed_forward",
    "classifier_dropout",
    "cls_token_id",
    "cross_attention_hidden_size",
    "custom_pipelines",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "early_stopping",
    "embd_pdrop",
    "encoder_no_repeat_ngram_size",
    "eos_token_id",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "generation_config",
    "gradient_checkpointing",
    "hidden_dropout",
    "hidden_dropout_prob",
    "id2label",
    "initial_context_length",
    "initializer_range",
    "is_decoder",
    "is_encoder_decoder",
    "keys_to_ignore_at_inference",
    "label2id",
    "length_penalty",
    "license",
    "mask_token_id",
    "max_length",
    "max_new_tokens",
    "max_sequence_length",
    "max_window_layers",
    "min_length",
    "model_max_length",
    "name_or_path",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_labels",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "pad_token",
    "pad_token_id",
    "prefix",
    "pretraining_tp",
    "problem_type",
    "pruned_heads",
    "remove_invalid_values",
    "repetition_penalty",
    "resid_pdrop",
    "return_dict",
    "return_dict_in_generate",
    "sep_token_id",
    "seq_length",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tf_legacy_loss",
    "tie_encoder_decoder",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torchscript",
    "transformers.js_config",
    "transformers_version",
    "typical_p",
    "unk_token_id",
    "use_bfloat16",
    "use_cache",
    "use_flash_attn",
};

/* Numbers that Transformers does not read, because what they switch is off in every published checkpoint: at this value. */
static const struct {
    const char *key;
    double value;
} idle_keys[] = {{"interpolate_factor", 1}, {"full_attn_mod", 1}};

/* The one key that says something where it is off: Transformers and vLLM take the causal mask away. */
static const char causal_key[] = "is_causal";

/* A part of a name that speaks of arithmetic. */
static const char *const arithmetic_parts[] = {"scal", "multiplier", "rope", "rotary", "window", "bias",
    "act", "cap", "clip", "expert", "moe", "logit", "per_layer", "compression", "alibi", "parallel", "mup",
    "bidirectional", "norm", "residual", "attn_mod", "lora_rank", "head_dim", "scoring", "topk", "swiglu",
    "chunk", "mlp_only"};

bool qc_hf_json_is_off(const qc_json *value)
{
    if (!value || value->kind == QC_JSON_NULL)
        return true;
    if (value->kind == QC_JSON_BOOL)
        return !value->boolean;
    return value->kind != QC_JSON_NUMBER && value->length == 0;
}

static bool is_in(const char *key, const char *const *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(key, list[i]) == 0)
            return true;
    return false;
}

#define IS_IN(key, list) is_in((key), (list), sizeof(list) / sizeof *(list))

/* Keys that only some architectures read. */
static bool is_used_by(const qc_hf_config *config, const char *key)
{
    const qc_hf_arch *arch = config->arch;
    if (strcmp(key, "embedding_multiplier") == 0)
        return arch->embedding_scale == QC_HF_EMBEDDING_SCALE_BY_FACTOR;
    if (strcmp(key, "residual_multiplier") == 0 || strcmp(key, "logits_scaling") == 0)
        return arch->multipliers;
    if (strcmp(key, "final_logit_softcapping") == 0)
        return arch->logits_cap;
    if (config->wrapper && qc_hf_wrapper_key(key))
        return true;
    /* Where another key names the activation, Transformers does not look at this one. */
    if (strcmp(key, "hidden_act") == 0)
        return true;
    return qc_hf_mlp_reads_key(config, key) || qc_hf_attention_reads_key(config, key) ||
           qc_hf_moe_reads_key(config, key);
}

static bool is_idle(const qc_json *value)
{
    for (size_t i = 0; i < sizeof idle_keys / sizeof *idle_keys; i++)
        if (strcmp(value->key, idle_keys[i].key) == 0)
            return value->kind == QC_JSON_NUMBER && value->number == idle_keys[i].value;
    return false;
}

static bool looks_arithmetic(const char *key)
{
    for (size_t i = 0; i < sizeof arithmetic_parts / sizeof *arithmetic_parts; i++)
        if (strstr(key, arithmetic_parts[i]))
            return true;
    return false;
}

qc_status qc_hf_config_check_keys(qc_diag *diag, const qc_json *root, const qc_hf_config *config)
{
    qc_status status = QC_OK;
    for (const qc_json *value = root->first; value; value = value->next) {
        const char *key = value->key;
        if (IS_IN(key, used_keys) || IS_IN(key, harmless_keys) || is_used_by(config, key))
            continue;
        if (strcmp(key, causal_key) == 0) {
            if (value->kind != QC_JSON_BOOL || !value->boolean)
                status = qc_error(diag, config->path,
                    "%s is not true, and %s without a causal mask is not supported", key,
                    config->arch->info.architecture);
            continue;
        }
        if (qc_starts_with(key, "unsloth_") || qc_hf_json_is_off(value) || is_idle(value))
            continue;
        if (looks_arithmetic(key))
            status = qc_error(diag, config->path, "%s is set, and qc does not know what it does in %s", key,
                config->arch->info.architecture);
        else
            qc_warning(
                diag, config->path, "%s is not known to qc; it is taken to leave the arithmetic alone", key);
    }
    return status;
}
