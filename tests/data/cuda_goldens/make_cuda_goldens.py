#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What llm-compressor writes on CUDA, made without a GPU: its Triton kernels in Triton's CPU interpreter.

usage: make_cuda_goldens.py MODEL_DIR RECIPE.yaml...      prints: sha256 of model.safetensors, two spaces, the recipe's name

compressed-tensors 0.19 quantizes tensors on CUDA with a kernel that does not round the quotient to the model's element
type, so its codes differ from those on the CPU. Here that kernel is given CPU tensors. Two gaps of the interpreter of Triton 3.6
are closed: it has no libdevice (rint becomes numpy's, which rounds half to even too), and its casts between float types lose the
carry of a mantissa that rounds up to a power of two, and subnormals (torch's casts stand in). MODEL_DIR needs a tokenizer."""
import os

os.environ["TRITON_INTERPRET"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"

import contextlib
import hashlib
import sys
import tempfile

import numpy as np
import torch

torch.cpu.device = lambda *args, **kwargs: contextlib.nullcontext()

import triton.language as tl
import triton.language.extra.cuda.libdevice as libdevice
import triton.runtime.interpreter as interpreter


def rint(x, _semantic=None, **kwargs):
    return tl.core.tensor(interpreter.TensorHandle(np.rint(x.handle.data), x.handle.dtype), x.type)


TORCH = {tl.float32: torch.float32, tl.bfloat16: torch.bfloat16, tl.float16: torch.float16,
         tl.float8e4nv: torch.float8_e4m3fn}
RAW = {4: np.int32, 2: np.int16, 1: np.int8}


def convert(data, from_type, to_type, rounding):
    data = np.ascontiguousarray(np.asarray(data))
    values = torch.from_numpy(data.view(RAW[data.itemsize])).view(TORCH[from_type]).to(TORCH[to_type])
    size = values.element_size()
    return values.view({4: torch.int32, 2: torch.int16, 1: torch.int8}[size]).numpy().view(f"u{size}").reshape(data.shape)


def main():
    libdevice.rint = rint
    interpreter._convert_float = convert
    import compressed_tensors.quantization.lifecycle.forward_helpers as kernels

    kernels.triton_req = lambda *args, **kwargs: True
    kernels._is_fp8_supported = lambda device: True
    from llmcompressor import oneshot
    from transformers import AutoModelForCausalLM

    model_dir, recipes = sys.argv[1], sys.argv[2:]
    torch.set_num_threads(1)
    for recipe in recipes:
        with tempfile.TemporaryDirectory() as out:
            model = AutoModelForCausalLM.from_pretrained(model_dir, dtype="auto")
            oneshot(model=model, tokenizer=None, recipe=recipe, output_dir=out)
            with open(os.path.join(out, "model.safetensors"), "rb") as f:
                digest = hashlib.sha256(f.read()).hexdigest()
        print(f"{digest}  {os.path.basename(recipe)[:-5]}", flush=True)


if __name__ == "__main__":
    main()
