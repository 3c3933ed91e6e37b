#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What each expert's down_proj reads in llm-compressor's linearized models: data/expert_amax.safetensors.

usage: make_expert_amax.py SMALL LARGE OUT

SMALL is tests/data/moe_models, LARGE a directory with other models of the same architectures; of each the input_ids of
golden.safetensors are run in bfloat16, with PyTorch 2.10 (CPU, one thread), Transformers 5.17, llm-compressor 0.14. Tensors, for
each model M, `small.` in front of those of SMALL, and layer N with experts:
  M.N.all     F32 [E]  largest absolute value over all tokens (moe_calibration_context)
  M.N.routed  F32 [E]  the same over the tokens that the router sent there; 0 where there are none
  M.N.tokens  I64 [E]  how many those are
"""
import re
import sys

import torch
from llmcompressor.modeling.moe.context import moe_calibration_context
from llmcompressor.modeling.moe.linearize import linearize_moe
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

MODELS = ["mixtral", "qwen2_moe", "qwen3_moe", "llama4", "gpt_oss", "deepseek_v3", "glm4_moe", "moe_stories"]


def observe(model, ids, every):
    seen, hooks = {}, []
    for name, module in model.named_modules():
        at = re.fullmatch(r".*layers\.(\d+)\..*experts\.(\d+)\.down_proj", name)
        if at:
            key = int(at[1]), int(at[2])
            seen[key] = (0.0, 0)

            def hook(_, args, key=key):
                x = args[0].reshape(-1, args[0].shape[-1])
                if len(x):
                    amax, tokens = seen[key]
                    seen[key] = max(amax, float(x.abs().max())), tokens + len(x)

            hooks.append(module.register_forward_pre_hook(hook))
    with torch.no_grad():
        if every:
            with moe_calibration_context():
                model(ids)
        else:
            model(ids)
    for hook in hooks:
        hook.remove()
    return seen


def run(path, name, prefix, tensors):
    ids = load_file(f"{path}/golden.safetensors")["input_ids"]
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16, attn_implementation="eager").eval()
    if name == "llama4":  # its linearization asks for the configuration around the text model's
        model.config.text_config = model.config
    linearize_moe(model)
    vars(model.config).pop("text_config", None)
    every, routed = observe(model, ids, True), observe(model, ids, False)
    for layer in sorted({key[0] for key in every}):
        experts = sorted(key[1] for key in every if key[0] == layer)
        tensors[f"{prefix}.{layer}.all"] = torch.tensor([every[layer, e][0] for e in experts])
        tensors[f"{prefix}.{layer}.routed"] = torch.tensor([routed[layer, e][0] for e in experts])
        tensors[f"{prefix}.{layer}.tokens"] = torch.tensor([routed[layer, e][1] for e in experts])


def main():
    small, large, out = sys.argv[1:]
    tensors = {}
    torch.set_num_threads(1)
    for name in MODELS:
        if name != "moe_stories":
            run(f"{small}/{name}", name, f"small.{name}", tensors)
        run(f"{large}/{name}", name, name, tensors)
    save_file(tensors, out)


main()
