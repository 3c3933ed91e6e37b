#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What llm-compressor 0.14 writes for mixtures of experts and other architectures: SHA-256 sums of its files.

usage: [TOKENIZER=DIR] make_expert_goldens.py MODELS_DIR OUT_DIR MODEL.SCHEME...

Writes OUT_DIR/MODEL.SCHEME/: config.json, recipe.yaml, recipe.in.yaml (the recipe that was given, where it is not recipes/SCHEME.yaml; recipe.yaml of data-free ones
is kept once for each that was given) and golden.json, sums of the
weights' files. Calibrated schemes (fp8_static, nvfp4) see calib.jsonl beside this file, one sequence a batch, in file order
(those with a vision tower, which have 64 words, calib_64.jsonl: the same numbers modulo 64); their golden.json has each tensor, and
small.golden holds those of at most 16 elements. SCHEME_in_shards is saved with max_shard_size="300KB"; the recipe of SCHEME_by_name
ignores modules by the names that Transformers has for them. Of models with a vision tower, which that program saves with a
config.json of its own making, the weights alone are kept.

Calibration runs the model as a whole (pipeline="basic"): the graph that the sequential pipeline traces has lost the attention
implementation of these models, and with it the causal mask. Three things are put right in what it wrote, because nobody reads them as they are: the experts of Mixtral are called w1, w3
and w2, as in the model and in vLLM; norms of Gemma, which it takes through bf16(1 + w) - 1, are those of the model; and a
Llama 4 without a vision tower, at which it stops, is given the text_config that it asks for: itself."""
import hashlib
import json
import os
import re
import shutil
import signal
import struct
import sys
import tempfile
import traceback

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

HERE = os.path.dirname(os.path.abspath(__file__))
PRESETS = {"fp8_dynamic": "FP8_DYNAMIC", "nvfp4a16": "NVFP4A16", "w4a16": "W4A16", "fp8_block": "FP8_BLOCK", "w8a8": "W8A8",
           "mxfp4a16": "MXFP4A16", "nvfp4": "NVFP4", "fp8_static": "FP8"}
CALIBRATED = ("nvfp4", "fp8_static")
ROUTERS = ["re:.*router$", "re:.*mlp.gate$", "re:.*shared_expert_gate$"]
TOWERS = ["re:.*vision_tower.*", "re:.*vision_model.*", "re:.*visual.*", "re:.*multi_modal_projector.*", "re:.*router$"]
MIXTURES = ("mixtral", "qwen2_moe", "qwen3_moe", "llama4", "gpt_oss", "deepseek_v3", "glm4_moe", "moe_stories")
NAMED = {"mixtral": ["lm_head", "model.layers.0.self_attn.q_proj", "re:.*mlp.gate$", "re:model.layers.1.mlp.experts.*"],
         "gemma3_vision": ["lm_head", "re:model.vision_tower.*", "model.multi_modal_projector", "re:model.language_model.layers.0.*"],
         "qwen2_5_vl": ["lm_head", "re:model.visual.*", "model.language_model.layers.0.self_attn.q_proj"]}
ORDER = ["I64", "F64", "F32", "I32", "BF16", "F16", "U16", "I16", "F8_E4M3", "I8", "U8"]


def has_tower(source):
    with open(os.path.join(source, "config.json")) as f:
        return "vision_config" in json.load(f)


def recipe(model, scheme, tower):
    plain = ["re:.*lm_head"] + TOWERS if tower else ["lm_head"] + (ROUTERS if model in MIXTURES else [])
    ignore = json.dumps(NAMED[model] if scheme.endswith("_by_name") else plain)
    head = "quant_stage:\n  quant_modifiers:\n    QuantizationModifier:\n"
    if scheme == "w4a16_g32":
        return (f"{head}      ignore: {ignore}\n      config_groups:\n        group_0:\n          targets: [\"Linear\"]\n"
                "          weights: {num_bits: 4, type: int, symmetric: true, strategy: group, group_size: 32}\n")
    return f"{head}      targets: [\"Linear\"]\n      scheme: {PRESETS[scheme.removesuffix('_by_name')]}\n      ignore: {ignore}\n"


def read(path):
    with open(path, "rb") as f:
        data = f.read()
    size = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8:8 + size]), data[8 + size:]


def write(path, metadata, tensors):
    header, body = ({"__metadata__": metadata} if metadata else {}), b""
    for name, (dtype, shape, data) in sorted(tensors.items(), key=lambda t: (ORDER.index(t[1][0]), t[0].encode())):
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    raw = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    raw += b" " * (-len(raw) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(raw)) + raw + body)


def tensors_of(path):
    header, body = read(path)
    metadata = header.pop("__metadata__", None)
    return metadata, {k: (v["dtype"], v["shape"], body[v["data_offsets"][0]:v["data_offsets"][1]]) for k, v in header.items()}


def shards(folder):
    return sorted(f for f in os.listdir(folder) if f.endswith(".safetensors") and f != "golden.safetensors")


def put_right(model, source, out):
    names = {"gate_proj": "w1", "up_proj": "w3", "down_proj": "w2"}
    original = {}
    for f in shards(source):
        original.update(tensors_of(os.path.join(source, f))[1])
    for f in shards(out):
        path = os.path.join(out, f)
        metadata, tensors = tensors_of(path)
        if model == "mixtral":
            tensors = {re.sub(r"(\.experts\.\d+\.)(gate_proj|up_proj|down_proj)", lambda m: m[1] + names[m[2]], k): v
                       for k, v in tensors.items()}
        if model.startswith("gemma"):
            tensors = {k: original[k] if "norm" in k and k in original else v for k, v in tensors.items()}
        write(path, metadata, tensors)


def digest(out, every):
    result, small = {"files": {}, "tensors": {}}, {}
    for f in shards(out):
        path = os.path.join(out, f)
        with open(path, "rb") as g:
            data = g.read()
        size = struct.unpack("<Q", data[:8])[0]
        result["files"][f] = {"bytes": len(data), "header_sha256": hashlib.sha256(data[8:8 + size]).hexdigest(),
                              "sha256": hashlib.sha256(data).hexdigest()}
        for name, (dtype, shape, body) in (tensors_of(path)[1].items() if every else ()):
            result["tensors"][name] = {"dtype": dtype, "file": f, "sha256": hashlib.sha256(body).hexdigest(), "shape": shape}
            count = 1
            for s in shape:
                count *= s
            if count <= 16:
                small[name] = (dtype, shape, body)
        os.remove(path)
    if small:
        write(os.path.join(out, "small.golden"), None, small)
    with open(os.path.join(out, "golden.json"), "w") as f:
        json.dump(result, f, separators=(",", ":"), sort_keys=True)
        f.write("\n")


def make(models, model, scheme, out):
    import torch
    from llmcompressor import oneshot
    from transformers import AutoModelForImageTextToText
    from transformers.models.llama4.configuration_llama4 import Llama4TextConfig

    torch.set_num_threads(1)
    torch.manual_seed(0)
    Llama4TextConfig.text_config = property(lambda self: self)
    source, plain = os.path.join(models, model), scheme.removesuffix("_in_shards")
    given = os.path.join(out, "recipe.in.yaml")
    with open(given, "w") as f:
        f.write(recipe(model, plain, has_tower(source)))
    tower = has_tower(source)
    args, save = {}, {"max_shard_size": "300KB"} if scheme.endswith("_in_shards") else {}
    if plain in CALIBRATED:
        with open(os.path.join(HERE, "calib_64.jsonl" if tower else "calib.jsonl")) as f:
            rows = [{"input_ids": torch.tensor(json.loads(line)["input_ids"])} for line in f]
        for row in rows:
            row["attention_mask"] = torch.ones_like(row["input_ids"])
        args["pipeline"] = "basic"
        args["dataset"] = torch.utils.data.DataLoader(rows, batch_size=1, shuffle=False)
    tokenizer = os.environ.get("TOKENIZER", os.path.join(models, "qwen3_moe"))
    loaded = AutoModelForImageTextToText.from_pretrained(source, dtype="auto") if tower else source
    oneshot(model=loaded, tokenizer=tokenizer, recipe=given, precision="auto", **args).save_pretrained(out, **save)
    put_right(model, source, out)
    digest(out, plain in CALIBRATED)
    for f in os.listdir(out):
        if (tower or (model == "mixtral" and plain.endswith("_by_name"))) and f in ("config.json", "recipe.yaml"):
            # not those of its source, but Transformers' own; names of experts in `ignore` that are not its tensors'
            os.remove(os.path.join(out, f))
        elif f not in ("config.json", "recipe.yaml", "recipe.in.yaml", "golden.json", "small.golden", "model.safetensors.index.json"):
            os.remove(os.path.join(out, f))
    usual = os.path.join(HERE, "recipes", scheme + ".yaml")
    if os.path.exists(usual):
        with open(given) as f, open(usual) as u:
            same = f.read() == u.read()
        if same:
            os.remove(given)
    if model == "mixtral" and not plain.endswith("_by_name"):  # its list of ignored modules names none of the experts
        with open(os.path.join(out, "config.json")) as f:
            assert "gate_proj" not in f.read()


def main():
    models, folder = sys.argv[1:3]
    import llmcompressor  # noqa: F401  once, for all

    bad = 0
    for name in sys.argv[3:]:
        model, scheme = name.split(".")
        out = os.path.join(folder, name)
        shutil.rmtree(out, ignore_errors=True)
        os.makedirs(out)
        pid = os.fork()
        if pid == 0:
            log = tempfile.TemporaryFile()
            os.dup2(log.fileno(), 1)
            signal.alarm(300)
            ok = False
            try:
                make(models, model, scheme, out)
                ok = True
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(0 if ok else 1)
        if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
            shutil.rmtree(out)
            bad += 1
        print(name, "failed" if not os.path.isdir(out) else "", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
