#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes rope_goldens.h: rotary frequencies and softmax scales that Transformers makes of config.json.

A case is a config.json as published checkpoints have it (long lists shortened), a layer and the length of a sequence.
Run by hand (needs transformers; the file in the tree was made with 5.17): make_rope_goldens.py > rope_goldens.h
"""
import importlib
import json

import torch

TINY = dict(vocab_size=8, num_hidden_layers=4, intermediate_size=8)


def base(architecture, model_type, hidden, heads, kv_heads, **more):
    config = dict(architectures=[architecture], model_type=model_type, hidden_size=hidden, num_attention_heads=heads,
                  num_key_value_heads=kv_heads, **TINY)
    config.update(more)
    return config


LLAMA3 = dict(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=8192)
SHORT = [1.0 + 0.05 * i for i in range(48)]
LONG = [1 + i for i in range(47)] + [62.31]
YARN_OSS = dict(beta_fast=32.0, beta_slow=1.0, factor=32.0, original_max_position_embeddings=4096, truncate=False)
DEEPSEEK = dict(n_routed_experts=8, n_group=1, topk_group=1, kv_lora_rank=512, q_lora_rank=1536, qk_nope_head_dim=128,
                qk_rope_head_dim=64, v_head_dim=128, num_experts_per_tok=2, moe_intermediate_size=8,
                max_position_embeddings=163840)
YARN_DEEPSEEK = dict(beta_fast=32, beta_slow=1, factor=40, mscale=1.0, mscale_all_dim=1.0,
                     original_max_position_embeddings=4096)
LLAMA4 = dict(head_dim=128, num_local_experts=2, intermediate_size_mlp=8, max_position_embeddings=10485760)

# name, module, prefix of classes, config.json, (layer, length) ...
CASES = [
    ("llama3", "llama", "Llama",
     base("LlamaForCausalLM", "llama", 4096, 32, 8, max_position_embeddings=131072, rope_theta=500000.0,
          rope_scaling=dict(LLAMA3, rope_type="llama3")), [(0, 1)]),
    ("llama_v5_linear", "llama", "Llama",
     base("LlamaForCausalLM", "llama", 256, 4, 4,
          rope_parameters=dict(rope_type="linear", factor=4.0, rope_theta=20000.0)), [(0, 1)]),
    ("qwen2_yarn", "qwen2", "Qwen2",
     base("Qwen2ForCausalLM", "qwen2", 3584, 28, 4, max_position_embeddings=32768, rope_theta=1000000.0,
          rope_scaling=dict(type="yarn", factor=4.0, original_max_position_embeddings=32768)), [(0, 1)]),
    ("gemma2", "gemma2", "Gemma2",
     base("Gemma2ForCausalLM", "gemma2", 4608, 32, 16, head_dim=128, query_pre_attn_scalar=144), [(0, 1)]),
    ("gemma3_v4", "gemma3", "Gemma3",
     base("Gemma3ForCausalLM", "gemma3_text", 2560, 8, 4, head_dim=256, query_pre_attn_scalar=256,
          rope_theta=1000000.0, rope_local_base_freq=10000.0, sliding_window_pattern=2,
          rope_scaling=dict(rope_type="linear", factor=8.0)), [(0, 1), (1, 1)]),
    ("gemma3_bare", "gemma3", "Gemma3",
     base("Gemma3ForCausalLM", "gemma3_text", 640, 4, 1, head_dim=64, sliding_window_pattern=3), [(1, 1), (2, 1)]),
    ("gemma3_v5", "gemma3", "Gemma3",
     base("Gemma3ForCausalLM", "gemma3_text", 640, 4, 1, head_dim=64, query_pre_attn_scalar=60,
          layer_types=["full_attention", "sliding_attention"] * 2,
          rope_parameters=dict(full_attention=dict(rope_type="linear", factor=4.0, rope_theta=2000000.0),
                               sliding_attention=dict(rope_type="default", rope_theta=20000.0))), [(0, 1), (1, 1)]),
    ("phi3_default", "phi3", "Phi3", base("Phi3ForCausalLM", "phi3", 3072, 32, 32), [(0, 1)]),
    ("phi3_partial", "phi3", "Phi3", base("Phi3ForCausalLM", "phi3", 256, 4, 4, partial_rotary_factor=0.375), [(0, 1)]),
    ("phi4mini", "phi3", "Phi3",
     base("Phi3ForCausalLM", "phi3", 3072, 24, 8, max_position_embeddings=131072, partial_rotary_factor=0.75,
          original_max_position_embeddings=4096, rope_theta=10000.0,
          rope_scaling=dict(type="longrope", short_factor=SHORT, long_factor=LONG)), [(0, 4096), (0, 4097)]),
    ("glm4", "glm4", "Glm4",
     base("Glm4ForCausalLM", "glm4", 4096, 32, 2, head_dim=128, partial_rotary_factor=0.5, rope_theta=10000.0), [(0, 1)]),
    ("glm4_v5", "glm4", "Glm4",
     base("Glm4ForCausalLM", "glm4", 4096, 32, 2, head_dim=128,
          rope_parameters=dict(rope_type="default", rope_theta=10000.0, partial_rotary_factor=0.25)), [(0, 1)]),
    ("glm4_moe_bare", "glm4_moe", "Glm4Moe",
     base("Glm4MoeForCausalLM", "glm4_moe", 4096, 96, 8, head_dim=128, rope_theta=1000000.0, n_routed_experts=8,
          moe_intermediate_size=8, num_experts_per_tok=2), [(0, 1)]),
    ("granite", "granite", "Granite",
     base("GraniteForCausalLM", "granite", 2048, 32, 8, attention_multiplier=0.015625, rope_theta=10000000.0), [(0, 1)]),
    ("olmo2", "olmo2", "Olmo2", base("Olmo2ForCausalLM", "olmo2", 4096, 32, 32, rope_theta=500000), [(0, 1)]),
    ("mixtral_bare", "mixtral", "Mixtral",
     base("MixtralForCausalLM", "mixtral", 512, 4, 2, num_local_experts=8), [(0, 1)]),
    ("gpt_oss", "gpt_oss", "GptOss",
     base("GptOssForCausalLM", "gpt_oss", 2880, 64, 8, head_dim=64, rope_theta=150000,
          rope_scaling=dict(YARN_OSS, rope_type="yarn"), num_local_experts=4), [(0, 1)]),
    ("gpt_oss_bare", "gpt_oss", "GptOss", base("GptOssForCausalLM", "gpt_oss", 2880, 64, 8, num_local_experts=4), [(1, 1)]),
    ("deepseek_v3", "deepseek_v3", "DeepseekV3",
     base("DeepseekV3ForCausalLM", "deepseek_v3", 7168, 128, 128, rope_theta=10000,
          rope_scaling=dict(YARN_DEEPSEEK, type="yarn"), **DEEPSEEK), [(0, 1)]),
    ("deepseek_v3_mscale", "deepseek_v3", "DeepseekV3",
     base("DeepseekV3ForCausalLM", "deepseek_v3", 7168, 128, 128, rope_theta=10000,
          rope_scaling=dict(YARN_DEEPSEEK, type="yarn", mscale=0.7, mscale_all_dim=0.4), **DEEPSEEK), [(0, 1)]),
    ("deepseek_v3_plain", "deepseek_v3", "DeepseekV3",
     base("DeepseekV3ForCausalLM", "deepseek_v3", 7168, 128, 128, rope_theta=10000, **DEEPSEEK), [(0, 1)]),
    ("llama4_scout", "llama4", "Llama4Text",
     base("Llama4ForCausalLM", "llama4_text", 5120, 40, 8, rope_theta=500000.0,
          rope_scaling=dict(rope_type="llama3", factor=16.0, high_freq_factor=1.0, low_freq_factor=1.0,
                            original_max_position_embeddings=8192), **LLAMA4), [(0, 1)]),
    ("qwen2_5_vl", "qwen2_5_vl", "Qwen2_5_VL",
     dict(architectures=["Qwen2_5_VLForConditionalGeneration"], model_type="qwen2_5_vl", text_config=dict(
         base(None, "qwen2_5_vl_text", 512, 4, 2, max_position_embeddings=128000, rope_theta=1000000.0,
              rope_scaling=dict(type="mrope", mrope_section=[16, 24, 24])), architectures=None)), [(0, 1)]),
    ("qwen3_vl", "qwen3_vl", "Qwen3VLText",
     dict(architectures=["Qwen3VLForConditionalGeneration"], model_type="qwen3_vl", text_config=dict(
         base(None, "qwen3_vl_text", 512, 4, 2, head_dim=128, max_position_embeddings=262144, rope_theta=5000000,
              rope_scaling=dict(rope_type="default", mrope_interleaved=True, mrope_section=[24, 20, 20])),
         architectures=None)), [(0, 1)]),
    ("llama4_bare", "llama4", "Llama4Text", base("Llama4ForCausalLM", "llama4_text", 5120, 40, 8, **LLAMA4), [(0, 1)]),
]


def text_config(module, config):
    configs = importlib.import_module(f"transformers.models.{module}.configuration_{module}")
    config = config.get("text_config", config)
    kind = next(c for c in vars(configs).values()
                if isinstance(c, type) and getattr(c, "model_type", None) == config["model_type"])
    return kind.from_dict(json.loads(json.dumps(config)))


def words(x):
    return [f"0x{v & 0xffffffff:08x}" for v in x.contiguous().view(torch.int32).tolist()]


def golden(module, prefix, config, layer, length):
    models = importlib.import_module(f"transformers.models.{module}.modeling_{module}")
    parsed = text_config(module, config)
    rotary = getattr(models, f"{prefix}RotaryEmbedding")(parsed)
    positions = torch.tensor([[0, length - 1]])
    if "_vl" in module:
        positions = positions[None].expand(3, 1, 2)
    if module == "gemma3":
        kind = parsed.layer_types[layer]
        rotary(torch.zeros(1), positions, kind)
        frequencies, factor = getattr(rotary, f"{kind}_inv_freq"), getattr(rotary, f"{kind}_attention_scaling")
    else:
        rotary(torch.zeros(1), positions)
        frequencies, factor = rotary.inv_freq, rotary.attention_scaling
    with torch.device("meta"):
        attention = getattr(models, f"{prefix}Attention")(parsed, layer)
    return frequencies, factor, attention.scaling


print("/* SPDX-License-Identifier: MIT\n *\n * rope_goldens.h - what Transformers makes of config.json; made by make_rope_goldens.py.\n */")
print("#ifndef QC_TESTS_ROPE_GOLDENS_H\n#define QC_TESTS_ROPE_GOLDENS_H\n\n#include <stdint.h>\n")
rows = []
for name, module, prefix, config, places in CASES:
    text = json.dumps(config)
    print(f"static const char config_{name}[] =")
    lines = [text[i:i + 100] for i in range(0, len(text), 100)]
    for i, line in enumerate(lines):
        print("    \"" + line.replace('"', '\\"') + "\"" + (";" if i + 1 == len(lines) else ""))
    for layer, length in places:
        frequencies, factor, scale = golden(module, prefix, config, layer, length)
        array = f"frequencies_{name}_{layer}_{length}"
        hexes = words(frequencies)
        print(f"static const uint32_t {array}[{len(hexes)}] = {{")
        for i in range(0, len(hexes), 9):
            print("    " + ", ".join(hexes[i:i + 9]) + ",")
        print("};")
        rows.append(f'{{"{name}", config_{name}, {layer}, {length}, {len(hexes)}, {array}, {float(factor)!r}, {float(scale)!r}}},')
    print()
print("static const struct rope_golden {\n    const char *name, *config;\n    int64_t layer, length, count;\n"
      "    const uint32_t *frequencies;\n    double factor, scale;\n} rope_goldens[] = {")
print("\n".join("    " + row for row in rows))
print("};\n\n#endif")
