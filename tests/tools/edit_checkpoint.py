# SPDX-License-Identifier: MIT
"""edit_checkpoint.py SOURCE TARGET CODE...: a copy of a checkpoint in which each piece of Python changes tensors
t[name] = [dtype, shape, bytes] and the config c."""
import json, os, shutil, struct, sys
source, target = sys.argv[1:3]
shutil.rmtree(target, ignore_errors=True)
shutil.copytree(source, target)
for name in os.listdir(target):
    os.chmod(os.path.join(target, name), 0o644)
weights, config = target + "/model.safetensors", target + "/config.json"
with open(weights, "rb") as f:
    data = f.read()
end = 8 + struct.unpack("<Q", data[:8])[0]
t = {k: [v["dtype"], v["shape"], bytearray(data[end + v["data_offsets"][0]:end + v["data_offsets"][1]])]
     for k, v in json.loads(data[8:end]).items() if k != "__metadata__"}
c = json.load(open(config))
up = "model.layers.0.mlp.up_proj.weight"
for code in sys.argv[3:]:
    exec(code)
header, at = {}, 0
for k, (dtype, shape, raw) in t.items():
    header[k] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(raw)]}
    at += len(raw)
text = json.dumps(header).encode()
text += b" " * (-len(text) % 8)
with open(weights, "wb") as f:
    f.write(struct.pack("<Q", len(text)) + text + b"".join(bytes(v[2]) for v in t.values()))
json.dump(c, open(config, "w"))
