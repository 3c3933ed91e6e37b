#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes tests/unit/data/quantized_logits.safetensors: what Transformers makes of quantized checkpoints.

Made with Python 3.11, PyTorch 2.10.0 (CPU, one thread), Transformers 5.17.0, compressed-tensors 0.19.0. The checkpoints are
qc-opt's, of tests/data/stories260k and the pipelines of quantized_logits.txt (NAME PIPELINE a line); tests hold such files to
llm-compressor's byte by byte. Compressed weights are decompressed, inputs of linears fake-quantized by compressed-tensors.

`input_ids` I64 [1, 24] is the beginning of the model's golden. For each NAME: `NAME.logits` BF16 [24, 512] with eager attention,
and `NAME.noise` F32 [1], the distance from them of the logits with PyTorch's other attention kernel: the root of the mean
square of the differences over that of the logits.

usage: make_quantized_logits.py QC-OPT [SOURCE-ROOT]
"""

import os
import subprocess
import sys
import tempfile

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
from transformers.utils.quantization_config import CompressedTensorsConfig

torch.set_num_threads(1)
opt, root = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
model = os.path.join(root, "tests/data/stories260k")
data = os.path.join(root, "tests/unit/data")
ids = load_file(os.path.join(model, "golden.safetensors"))["input_ids"][:1, :24]
tensors = {"input_ids": ids.contiguous()}

with open(os.path.join(data, "quantized_logits.txt"), encoding="utf-8") as file:
    lines = [line.split(" ", 1) for line in file.read().splitlines() if line and not line.startswith("#")]
for name, pipeline in lines:
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = os.path.join(folder, name)
        subprocess.run([opt, model, "--pipeline=" + pipeline, "-o", checkpoint], check=True, stderr=subprocess.DEVNULL)
        logits = []
        for kernel in ("eager", "sdpa"):
            loaded = AutoModelForCausalLM.from_pretrained(
                checkpoint, quantization_config=CompressedTensorsConfig(dequantize=True), dtype=torch.bfloat16,
                attn_implementation=kernel).eval()
            with torch.no_grad():
                logits.append(loaded(ids).logits[0])
        a, b = (x.float() for x in logits)
        noise = ((a - b).pow(2).mean() / a.pow(2).mean()).sqrt()
        print(name, float(noise))
        tensors[name + ".logits"] = logits[0].contiguous()
        tensors[name + ".noise"] = noise.reshape(1)
save_file(tensors, os.path.join(data, "quantized_logits.safetensors"))
