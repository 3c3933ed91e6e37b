#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes tests/data/dense_models: a small random model of each dense architecture and of each multimodal wrapper, with the
logits of Transformers on two rows of 24 tokens, in f32 and bf16 (eager attention), and, but for wrappers, the names and
classes of Transformers' modules.

usage: make_dense_models.py DIRECTORY [NAME ...]      (transformers 5.17.0, torch 2.10.0, CPU, one thread)

Names of tensors are those that save_pretrained writes, which are the hub's; with `old` the keys of config.json are those
of version 4, and those of Qwen2.5-VL's text model stand at the top, as in the hub's checkpoints. `inside` renames the text
model's tensors to model.language_model.*, as llm-compressor writes them.
"""
import json
import os
import sys

import torch
import transformers
from safetensors.torch import load_file, save_file

TEXT = dict(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=128, bos_token_id=1, eos_token_id=2, pad_token_id=0)
SIGLIP = dict(hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2, image_size=8, patch_size=4,
              vision_use_head=False)
QWEN = dict(depth=1, hidden_size=16, intermediate_size=24, num_heads=2, patch_size=4, out_hidden_size=32)
LONG = dict(rope_type="longrope", rope_theta=10000.0, partial_rotary_factor=0.75, short_factor=[1.0, 1.1, 1.3, 1.4, 1.5, 1.7],
            long_factor=[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], original_max_position_embeddings=16)
GEMMA = dict(head_dim=16, query_pre_attn_scalar=12, sliding_window=7)
LAYERS = ["sliding_attention", "full_attention"]


def rope(theta, **more):
    return dict(rope_type="default", rope_theta=theta, **more)


# name: class, configuration, changes
MODELS = {
    "phi3": ("Phi3", dict(TEXT, head_dim=16, hidden_size=64, original_max_position_embeddings=16, rope_parameters=LONG), ""),
    "gemma2": ("Gemma2", dict(TEXT, **GEMMA, attn_logit_softcapping=6.0, final_logit_softcapping=5.0), "old"),
    "gemma3": ("Gemma3", dict(TEXT, **GEMMA, layer_types=LAYERS, rope_parameters=dict(
        full_attention=dict(rope_type="linear", factor=4.0, rope_theta=1e6), sliding_attention=rope(1e4))), ""),
    "olmo2": ("Olmo2", dict(TEXT, rope_parameters=rope(5e5)), "old"),
    "granite": ("Granite", dict(TEXT, embedding_multiplier=3.0, attention_multiplier=0.2, residual_multiplier=0.4,
                                logits_scaling=1.7, tie_word_embeddings=True), ""),
    "glm4": ("Glm4", dict(TEXT, head_dim=16, attention_bias=True), "old"),
    "gemma3_vision": ("Gemma3", dict(
        text_config=dict(TEXT, **GEMMA, layer_types=LAYERS, rope_parameters=dict(
            full_attention=dict(rope_type="linear", factor=4.0, rope_theta=1e6), sliding_attention=rope(1e4))),
        vision_config=SIGLIP, mm_tokens_per_image=4), "old"),
    "mistral3": ("Mistral3", dict(
        text_config=dict(TEXT, model_type="mistral", head_dim=16, sliding_window=None, rms_norm_eps=1e-5),
        vision_config=dict(model_type="pixtral", hidden_size=16, intermediate_size=24, num_hidden_layers=1,
                           num_attention_heads=2, head_dim=8, image_size=8, patch_size=4),
        tie_word_embeddings=False), "inside"),
    "llama4_vision": ("Llama4", dict(
        text_config=dict(TEXT, head_dim=16, num_hidden_layers=2, intermediate_size_mlp=48, num_local_experts=4,
                         interleave_moe_layer_step=2, no_rope_layer_interval=2, attention_chunk_size=8, floor_scale=4,
                         rms_norm_eps=1e-5),
        vision_config=dict(hidden_size=16, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, image_size=8,
                           patch_size=4, vision_output_dim=16, projector_input_dim=16, projector_output_dim=16)), ""),
    "qwen2_5_vl": ("Qwen2_5_VL", dict(
        text_config=dict(TEXT, rope_parameters=rope(1e6, mrope_section=[1, 1, 2])),
        vision_config=dict(QWEN, fullatt_block_indexes=[0])), "old"),
    "qwen3_vl": ("Qwen3VL", dict(
        text_config=dict(TEXT, head_dim=16, rope_parameters=rope(5e6, mrope_section=[4, 2, 2], mrope_interleaved=True)),
        vision_config=dict(QWEN, num_position_embeddings=4, deepstack_visual_indexes=[0]), tie_word_embeddings=True), ""),
    "qwen3_vl_moe": ("Qwen3VLMoe", dict(
        text_config=dict(TEXT, head_dim=16, moe_intermediate_size=48, num_experts=4, num_experts_per_tok=2, mlp_only_layers=[0],
                         rope_parameters=rope(5e6, mrope_section=[4, 2, 2], mrope_interleaved=True)),
        vision_config=dict(QWEN, num_position_embeddings=4, deepstack_visual_indexes=[0])), "transposed"),
}


def randomize(model, gemma):
    """Weights whose logits spread; norms of Gemma are offsets from one."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.dim() >= 2:
                p.normal_(0, 0.6 if "embed" in name else 0.2)
            elif "norm" in name:
                p.normal_(0 if gemma and "vision" not in name else 1, 0.2)
            else:
                p.normal_(0, 0.1)
    return model


def old_keys(config, name):
    """The configuration as version 4 wrote it."""
    text = config.get("text_config", config)
    config["torch_dtype"] = config.pop("dtype")
    config["transformers_version"] = "4.56.0"
    for key in ("layer_types", "_sliding_window_pattern"):
        text.pop(key, None)
    parameters = text.pop("rope_parameters")
    text["rope_scaling"] = None
    if "full_attention" in parameters:
        text["rope_local_base_freq"] = parameters["sliding_attention"]["rope_theta"]
        parameters = parameters["full_attention"]
        text["rope_scaling"] = {"factor": parameters["factor"], "rope_type": parameters["rope_type"]}
        text["sliding_window_pattern"] = 2
    text["rope_theta"] = parameters["rope_theta"]
    if "partial_rotary_factor" in parameters:
        text["partial_rotary_factor"] = parameters["partial_rotary_factor"]
    if name == "qwen2_5_vl":
        text["rope_scaling"] = {"type": "mrope", "mrope_section": parameters["mrope_section"]}
        config.pop("text_config")
        config.update({k: v for k, v in text.items() if k != "model_type"})
    return config


def inside(name):
    if name.startswith("language_model.lm_head"):
        return name.removeprefix("language_model.")
    return "model." + name.replace("language_model.model", "language_model")


def make(directory, name, seed):
    prefix, settings, changes = MODELS[name]
    wrapper = "text_config" in settings
    kind = "ForConditionalGeneration" if wrapper else "ForCausalLM"
    settings_class = getattr(transformers, prefix + ("TextConfig" if name == "gemma3" else "Config"))
    model_class = getattr(transformers, prefix + kind)
    torch.manual_seed(seed)
    path = os.path.join(directory, name)
    model = randomize(model_class(settings_class(**settings)), "gemma" in name).to(torch.bfloat16)
    model.save_pretrained(path)
    os.remove(os.path.join(path, "generation_config.json"))
    if not wrapper:
        with open(os.path.join(path, "modules.txt"), "w") as f:
            f.writelines(f"{n} {type(m).__name__}\n" for n, m in model.named_modules() if n)
    file, keys = os.path.join(path, "model.safetensors"), os.path.join(path, "config.json")
    if changes == "transposed":  # as on the hub; what save_pretrained writes of a new model is not
        tensors = {k: v.transpose(1, 2).contiguous() if ".experts." in k else v for k, v in load_file(file).items()}
        save_file(tensors, file, metadata={"format": "pt"})
    if changes == "inside":
        tensors = {inside(k): v for k, v in load_file(file).items()}
        save_file(tensors, file, metadata={"format": "pt"})
    if changes == "old":
        with open(keys) as f:
            config = old_keys(json.load(f), name)
        with open(keys, "w") as f:
            json.dump(config, f, indent=2)
            f.write("\n")
    ids = torch.randint(3, 64, (2, 24))
    golden = {"input_ids": ids}
    for dtype, tensor in ((torch.float32, "logits"), (torch.bfloat16, "logits_bf16")):
        model = model_class.from_pretrained(path, dtype=dtype, attn_implementation="eager").eval()
        with torch.no_grad():
            golden[tensor] = model(input_ids=ids).logits.contiguous()
    save_file(golden, os.path.join(path, "golden.safetensors"))
    print(name, "logits spread", golden["logits"].std().item())


def main():
    torch.set_num_threads(1)
    names = sys.argv[2:] or list(MODELS)
    for name in names:
        make(sys.argv[1], name, 11 + list(MODELS).index(name))


if __name__ == "__main__":
    main()
