# SPDX-License-Identifier: MIT
"""Cases of the ops of quantization for make_cases.py: scales, codes, observers, packing."""

import numpy as np
import torch
from compressed_tensors.compressors.nvfp4.helpers import pack_fp4_to_uint8
from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32
from compressed_tensors.quantization import QuantizationArgs
from compressed_tensors.quantization.lifecycle.forward import dequantize, quantize
from compressed_tensors.quantization.utils import calculate_qparams, compute_dynamic_scales_and_zp, generate_gparam
from llmcompressor.observers import Observer

import cases
from cases import NAMES, TYPES, Codes, case, normal, seed, simple, type_of


# ---- quantization ------------------------------------------------------------------------------------------------

def scheme(part, type_, granularity, dynamic=False):
    return ("scheme @s {arith = ct_cpu, %s = {%sgranularity = %s, symmetric, type = %s}, targets = [\"Linear\"]}\n"
            % (part, "dynamic, " if dynamic else "", granularity, type_))


def args_of(type_, strategy):
    kind = "float" if type_.startswith("f8") else "int"
    return QuantizationArgs(num_bits=8, type=kind, symmetric=True, strategy=strategy, dynamic=strategy == "token",
                            observer=None)


def quantization():
    seed("observe")
    for observer in ("static_minmax", "memoryless_minmax", "minmax"):
        for granularity, strategy in (("head", "attn_head"), ("tensor", "tensor")):
            x = normal((3, 2, 5, 4))
            observed = Observer.load_from_registry(observer, base_name="q", args=args_of("f8e4m3", strategy))
            for sequence in x:
                observed(sequence[None])
            stat = torch.stack([observed.min_vals.reshape(-1), observed.max_vals.reshape(-1)])
            simple("observe", "x", [x], 'observe %%x {granularity = %s, observer = %s, tap = "q"}' % (granularity, observer),
                   stat, "llmcompressor Observer " + observer)
    seed("qparams")
    for type_ in ("f8e4m3", "i8"):
        for granularity, strategy, x in (("tensor", "tensor", normal((2, 3, 8))), ("head", "attn_head", normal((2, 3, 4, 8))),
                                         ("channel", "channel", normal((5, 16))), ("token", "token", normal((2, 3, 8)))):
            part = "weights" if granularity == "channel" else "input"
            if granularity == "tensor":
                low, high, shape_ = torch.amin(x), torch.amax(x), [1]
            elif granularity == "head":
                low, high, shape_ = torch.amin(x, (0, 2, 3)), torch.amax(x, (0, 2, 3)), [3, 1, 1]
            else:
                low, high = torch.amin(x, -1), torch.amax(x, -1)
                shape_ = list(x.shape[:-1]) + [1]
            scale, _ = calculate_qparams(low, high, args_of(type_, strategy))
            head = scheme(part, type_, granularity, granularity == "token")
            simple("qparams", "x", [x], "qparams %%x {arg = %s, scheme = @s}" % part, scale.reshape(shape_),
                   "compressed_tensors calculate_qparams", head=head)
            zero = torch.zeros_like(scale)
            codes = quantize(x, scale.reshape(shape_ if granularity != "tensor" else [1]), zero.reshape(shape_),
                             args_of(type_, strategy), dtype=TYPES[type_])
            simple("quantize", ["x", "s"], [x, scale.reshape(shape_)], "quantize %%x, %%s {arg = %s, scheme = @s}" % part, codes,
                   "compressed_tensors quantize", head=head)
            real = dequantize(codes, scale.reshape(shape_), zero.reshape(shape_), args_of(type_, strategy), torch.bfloat16)
            simple("dequantize", ["x", "s"], [codes, scale.reshape(shape_)], "dequantize %x, %s {to = bf16}", real,
                   "compressed_tensors dequantize")
    stat = torch.tensor([[-1.5, 0.0, -3.0], [1.25, 2.0, 0.0]], dtype=torch.bfloat16)
    scale, _ = calculate_qparams(stat[0], stat[1], args_of("f8e4m3", "attn_head"))
    simple("qparams", "x", [stat], "qparams %x {arg = input, from = stat, scheme = @s}", scale.reshape(3, 1, 1),
           "compressed_tensors calculate_qparams", head=scheme("input", "f8e4m3", "head"))
    zeros = torch.zeros(2, 1, dtype=torch.bfloat16)
    scale, _ = calculate_qparams(zeros[0], zeros[1], args_of("f8e4m3", "tensor"))
    simple("qparams", "x", [zeros], "qparams %x {arg = input, from = stat, scheme = @s}", scale.reshape(1),
           "compressed_tensors calculate_qparams", head=scheme("input", "f8e4m3", "tensor"))
    # far beyond the scale: codes saturate
    x = torch.tensor([[1000.0, -1000.0, 0.0, -0.0, 3.0]], dtype=torch.bfloat16)
    scale = torch.tensor([0.5], dtype=torch.bfloat16)
    for type_ in ("f8e4m3", "i8"):
        codes = quantize(x, scale, torch.zeros(1, dtype=torch.bfloat16), args_of(type_, "tensor"), dtype=TYPES[type_])
        simple("quantize", ["x", "s"], [x, scale], "quantize %x, %s {arg = input, scheme = @s}", codes,
               "compressed_tensors quantize", head=scheme("input", type_, "tensor"))


# Schemes beyond one scale a tensor, head, channel or token: the part of the IR, and what compressed-tensors calls it.

def part_args(part):
    """The arguments of compressed-tensors that a part of a scheme stands for."""
    kind = part["type"]
    args = {"num_bits": 8 if kind[:2] == "f8" else 4 if kind == "f4e2m1" else int(kind[1:]),
            "type": "float" if kind[0] == "f" else "int", "symmetric": part.get("symmetric", False),
            "strategy": {"head": "attn_head"}.get(part["granularity"], part["granularity"])}
    if "group" in part:
        args["group_size"] = part["group"]
        args["strategy"] = "tensor_group" if part.get("global") else "group"
    if "block" in part:
        args["block_structure"] = part["block"]
    if "scale" in part:
        args["scale_dtype"] = {"f8e4m3": torch.float8_e4m3fn, "f8e8m0": torch.uint8}[part["scale"]]
        args["zp_dtype"] = args["scale_dtype"]
    if part.get("dynamic"):
        args["dynamic"] = "local" if part.get("global") else True
    if "observer" in part and not part.get("dynamic"):
        args.update(observer=part["observer"], observer_kwargs=part.get("observer_args", {}))
    return QuantizationArgs(**args)


def attribute(value):
    if isinstance(value, dict):
        return "{%s}" % ", ".join(sorted(k if v is True else "%s = %s" % (k, attribute(v)) for k, v in value.items()))
    return "[%s]" % ", ".join(map(attribute, value)) if isinstance(value, list) else str(value)


def part_head(arg, part):
    return "scheme @s %s\n" % attribute({"arith": "ct_cpu", arg: part, "targets": ['"Linear"']})


def stored(values, dtype):
    """Numbers as a tensor of an element type that can hold them."""
    if dtype in TYPES:
        return values.to(TYPES[dtype])
    return Codes(dtype, values)


def observed(part, x, importance=None):
    """What an observer of llm-compressor makes of a weight: scale, zero point and global scale, and the chosen ranges."""
    args = part_args(part)
    observer = Observer.load_from_registry(part.get("observer", "memoryless_minmax"), base_name="weight", args=args)
    if importance is not None:
        observer._imatrix_sum, observer._imatrix_count = importance.clone(), torch.tensor(1)
    observer(x)
    ranges = observer.min_vals, observer.max_vals
    result = observer.get_qparams()
    return args, result["scale"], result["zero_point"], result["global_scale"], ranges


def weight_case(part, x, importance=None):
    """All ops of a weight's way through its codes and back."""
    args, scale, zero, global_scale, _ = observed(part, x, importance)
    named = part.get("observer", "memoryless_minmax")
    source, head = "llm-compressor observer " + named, part_head("weights", part)
    symmetric = part.get("symmetric", False)
    scale = stored(scale, part.get("scale", NAMES[x.dtype]))
    names, inputs, extra = ["x"], [x], ""
    if global_scale is not None:
        simple("global_scale", ["x"] + (["i"] if importance is not None else []),
               [x] + ([importance] if importance is not None else []),
               "global_scale %%%s {arg = weights, scheme = @s}" % ("x" if importance is None else "x, importance=%i"),
               global_scale, source, head=head)
        names, inputs, extra = ["x", "g"], [x, global_scale], ", global=%g"
    weigh = ([], [], "") if importance is None else (["i"], [importance], ", importance=%i")
    simple("qparams", names + weigh[0], inputs + weigh[1], "qparams %%x%s%s {arg = weights, scheme = @s}" % (extra, weigh[2]),
           scale, source, head=head)
    if not symmetric:
        zero = zero.to(torch.int8)
        simple("zero_point", ["x"] + weigh[0], [x] + weigh[1], "zero_point %%x%s {arg = weights, scheme = @s}" % weigh[2], zero,
               source, head=head)
    codes_case("weights", part, args, x, scale, zero, global_scale)


def codes_case(arg, part, args, x, scale, zero, global_scale):
    names, inputs, extra = ["x", "s"], [x, scale], "%x, %s"
    if global_scale is not None:
        names, inputs, extra = names + ["g"], inputs + [global_scale], extra + ", global=%g"
    if not part.get("symmetric", False):
        names, inputs, extra = names + ["z"], inputs + [zero], extra + ", zero_point=%z"
    # compressed-tensors holds local scales of any type in that of the model
    held = scale.float() if global_scale is not None else scale.to(x.dtype)
    floats = x.new_zeros(zero.shape) if part.get("symmetric", False) else zero.to(x.dtype)
    values = quantize(x, held, floats, args, global_scale=global_scale)
    codes = stored(values, part["type"])
    simple("quantize", names, inputs, "quantize %s {arg = %s, scheme = @s}" % (extra, arg), codes,
           "compressed_tensors quantize", head=part_head(arg, part))
    real = dequantize(values, held, floats, args, x.dtype, global_scale)
    attrs = ["to = " + NAMES[x.dtype]]
    attrs += ["group = %d" % part["group"]] if "group" in part else []
    attrs += ["block = [%d, %d]" % tuple(part["block"])] if "block" in part else []
    simple("dequantize", names, [codes] + inputs[1:], "dequantize %s {%s}" % (extra, ", ".join(sorted(attrs))), real,
           "compressed_tensors dequantize")


def input_case(part, x, static=None):
    """The ops of an input whose scales are made as the model runs; `static`: its range [2, 1], of a global scale."""
    args, head = part_args(part), part_head("input", part)
    names, inputs, extra, global_scale = ["x"], [x], "", None
    if static is not None:
        global_scale = generate_gparam(static[0], static[1])
        simple("global_scale", ["x"], [static], "global_scale %x {arg = input, from = stat, scheme = @s}", global_scale,
               "compressed_tensors generate_gparam", head=head)
        names, inputs, extra = ["x", "g"], [x, global_scale], ", global=%g"
    scale, zero = compute_dynamic_scales_and_zp(x, args, None, global_scale)
    if part["granularity"] == "tensor":
        scale, zero = scale.reshape(1), zero.reshape(1)
    source = "compressed_tensors compute_dynamic_scales_and_zp"
    scale = stored(scale, part.get("scale", NAMES[x.dtype]))
    simple("qparams", names, inputs, "qparams %%x%s {arg = input, scheme = @s}" % extra, scale, source, head=head)
    if not part.get("symmetric", False):
        zero = zero.to(torch.int8)
        simple("zero_point", ["x"], [x], "zero_point %x {arg = input, scheme = @s}", zero, source, head=head)
    codes_case("input", part, args, x, scale, zero, global_scale)


def symmetric(type_, granularity, **more):
    return dict(more, type=type_, granularity=granularity, symmetric=True)


NVFP4 = symmetric("f4e2m1", "group", group=16, scale="f8e4m3", **{"global": True})
MXFP4 = symmetric("f4e2m1", "group", group=32, scale="f8e8m0")
MXFP8 = symmetric("f8e4m3", "group", group=32, scale="f8e8m0")


def weight_schemes():
    seed("weight_schemes")
    for part, shape_, dtype in (
            (symmetric("i4", "group", group=16), (3, 32), "bf16"), (symmetric("i3", "group", group=8), (3, 24), "bf16"),
            (symmetric("i2", "group", group=8), (3, 24), "bf16"), (symmetric("i5", "channel"), (3, 10), "bf16"),
            (symmetric("i6", "channel"), (3, 10), "bf16"), (symmetric("i7", "tensor"), (3, 11), "bf16"),
            (symmetric("i8", "group", group=16), (2, 32), "f16"), (symmetric("f8e4m3", "group", group=16), (2, 32), "f32"),
            ({"type": "i4", "granularity": "group", "group": 16}, (3, 32), "bf16"),
            ({"type": "i4", "granularity": "group", "group": 16}, (2, 32), "f32"),
            ({"type": "i4", "granularity": "channel"}, (4, 17), "bf16"), ({"type": "i8", "granularity": "tensor"}, (2, 9), "f16"),
            ({"type": "i3", "granularity": "group", "group": 8}, (2, 16), "bf16"),
            (symmetric("f8e4m3", "block", block=[4, 8]), (8, 16), "bf16"),
            (symmetric("f8e4m3", "block", block=[4, 8]), (10, 20), "bf16"),
            (symmetric("i8", "block", block=[128, 128]), (5, 12), "bf16"),
            (NVFP4, (3, 48), "bf16"), (NVFP4, (2, 32), "f32"), (MXFP4, (3, 64), "bf16"), (MXFP8, (3, 64), "bf16"),
            (MXFP4, (2, 32), "f16")):
        x = normal(shape_, dtype, 0.05)
        x[0, :8] = 0.0
        weight_case(part, x)
    # a range on one side of zero, and none at all
    x = normal((2, 32), "bf16").abs() + 1
    x[1] = 0.0
    weight_case({"type": "i4", "granularity": "group", "group": 16}, x)
    weight_case(NVFP4, x)
    weight_case(MXFP8, x)
    seed("searches")
    for part, shape_ in ((symmetric("i4", "group", group=16), (4, 64)), ({"type": "i4", "granularity": "group", "group": 16}, (4, 64)),
                         (symmetric("f8e4m3", "channel"), (4, 48)), (symmetric("i8", "tensor"), (3, 40)),
                         (symmetric("f8e4m3", "block", block=[2, 16]), (5, 40)), (NVFP4, (3, 64)), (MXFP4, (3, 64))):
        weight_case(dict(part, observer="memoryless_mse"), normal(shape_, "bf16", 0.05))
    weight_case(dict(NVFP4, observer="nvfp4_expanded_mse"), normal((3, 64), "bf16", 0.05))
    weight_case(symmetric("i4", "group", group=16, observer="memoryless_mse",
                          observer_args={"grid": 50, "maxshrink": 0.5, "patience": 3, "norm": 2.0}), normal((3, 32), "bf16", 0.05))
    for part in (symmetric("i4", "group", group=16), symmetric("i3", "channel"), {"type": "i4", "granularity": "group", "group": 16},
                 NVFP4):
        importance = torch.from_numpy(np.exp(cases.rng.standard_normal(32) * 2)).float()
        weight_case(dict(part, observer="imatrix_mse"), normal((3, 32), "bf16", 0.05), importance)
    # members of a fused set share their global scale
    a, b = normal((2, 16), "bf16", 0.05), normal((3, 16), "bf16", 0.08)
    amax = torch.max(a.abs().max(), b.abs().max()).reshape(1)
    simple("global_scale", "ab", [a, b], "global_scale %a, %b {arg = weights, scheme = @s}", generate_gparam(-amax, amax),
           "compressed_tensors generate_gparam", head=part_head("weights", NVFP4))


def input_schemes():
    seed("input_schemes")
    input_case({"type": "i8", "granularity": "token", "dynamic": True}, normal((2, 3, 8)))
    input_case(symmetric("i4", "token", dynamic=True), normal((2, 3, 8)))
    input_case(symmetric("f8e4m3", "group", group=8, dynamic=True), normal((2, 3, 16)))
    input_case({"type": "i8", "granularity": "group", "group": 8, "dynamic": True}, normal((1, 3, 16), "f32"))
    input_case(symmetric("f8e4m3", "tensor", dynamic=True), normal((2, 3, 8)))
    input_case(dict(MXFP4, dynamic=True), normal((1, 2, 64)))
    input_case(dict(MXFP8, dynamic=True), normal((1, 2, 64)))
    input_case(dict(NVFP4, dynamic=True), normal((1, 2, 32)), torch.tensor([[-3.0], [2.5]], dtype=torch.bfloat16))
    part = {"type": "i8", "granularity": "tensor"}
    stat = torch.tensor([[-1.5], [4.25]], dtype=torch.bfloat16)
    scale, zero = calculate_qparams(stat[0], stat[1], part_args(part))
    simple("qparams", "x", [stat], "qparams %x {arg = input, from = stat, scheme = @s}", scale.reshape(1),
           "compressed_tensors calculate_qparams", head=part_head("input", part))
    simple("zero_point", "x", [stat], "zero_point %x {arg = input, from = stat, scheme = @s}", zero.to(torch.int8).reshape(1),
           "compressed_tensors calculate_qparams", head=part_head("input", part))
    codes_case("input", part, part_args(part), normal((2, 3, 8)), scale.reshape(1), zero.reshape(1).to(torch.int8), None)


def searching_observers():
    seed("searching_observers")
    for observer in ("mse", "memoryless_mse"):
        for granularity, name, part in (("tensor", "input", {"type": "i8", "granularity": "tensor"}),
                                        ("tensor", "input", symmetric("f8e4m3", "tensor")),
                                        ("head", "k", symmetric("i4", "head"))):
            x = normal((3, 2, 5, 4)) if granularity == "head" else normal((3, 5, 16))
            it = Observer.load_from_registry(observer, base_name=name, args=part_args(dict(part, observer=observer)))
            for sequence in x:
                it(sequence[None])
            stat = torch.stack([it.min_vals.reshape(-1), it.max_vals.reshape(-1)])
            simple("observe", "x", [x], 'observe %%x {arg = input, granularity = %s, observer = %s, scheme = @s, tap = "t"}'
                   % (granularity, observer), stat, "llmcompressor Observer " + observer, head=part_head("input", part))
    x = normal((4, 3, 8))
    it = Observer.load_from_registry("minmax", base_name="input", averaging_constant=0.25, args=args_of("f8e4m3", "tensor"))
    for sequence in x:
        it(sequence[None])
    simple("observe", "x", [x], 'observe %x {averaging = 0.25, granularity = tensor, observer = minmax, tap = "t"}',
           torch.stack([it.min_vals.reshape(-1), it.max_vals.reshape(-1)]), "llmcompressor Observer minmax")
    for dtype in ("bf16", "f32"):
        x = normal((3, 4, 6), dtype)
        linear = torch.nn.Linear(6, 2, bias=False, dtype=TYPES[dtype])
        it = Observer.load_from_registry("imatrix_mse", base_name="weight", args=part_args(symmetric("i4", "channel")))
        it.attach(linear)
        for sequence in x:
            linear(sequence[None])
        simple("observe", "x", [x], 'observe %x {granularity = channel, observer = imatrix, tap = "t"}',
               it._imatrix_sum / it._imatrix_count.float(), "llmcompressor Observer imatrix_mse", 2)


def share_range(x, kind, share):
    """The least range that holds a share of the elements: by sorting, and trying every window."""
    values = np.sort(np.abs(x) if kind == "percentile" else x)
    wanted = max(1, int(np.ceil(share * len(values) / (100 if kind == "percentile" else 1) - 1e-9)))
    if kind == "percentile":
        return -values[wanted - 1], values[wanted - 1]
    widths = values[wanted - 1:] - values[:len(values) - wanted + 1]
    first = int(np.argmin(widths))
    return values[first], values[first + wanted - 1]


def mse_mean_range(x, dtype):
    """The range of x * (1 - i / 50) with the least squared error in int8, symmetric: the divisor is 127.5, steps in D."""
    def in_d(v):
        return np.float64(torch.tensor(v, dtype=torch.float32).to(dtype).float())
    low, high, best, chosen, stale = x.min(), x.max(), None, None, 0
    for i in range(46):
        factor = np.float64(np.float32(1 - i / 50))
        a, b = in_d(low * factor), in_d(high * factor)
        scale = in_d(max(-min(a, 0), max(b, 0)) / 127.5)
        codes = np.rint([min(max(in_d(v / scale), -128), 127) for v in x])
        error = sum((in_d(c * scale) - v) ** 2 for c, v in zip(codes, x))
        stale += 1
        if best is None or error < best:
            best, chosen, stale = error, (a, b), 0
        if stale >= 5:
            break
    return chosen


def own_observers():
    """Observers that llm-compressor does not have, in numpy."""
    seed("own_observers")
    for dtype in ("bf16", "f16", "f32"):
        for kind, name, value in (("percentile", "percentile", 90.0), ("percentile", "percentile", 99.99),
                                  ("recall_window", "recall", 0.75)):
            for granularity in ("head", "tensor"):
                x = normal((3, 2, 5, 4), dtype)
                numbers = x.double().numpy()
                ranges = [[share_range(part.reshape(-1), kind, value)
                           for part in (sequence if granularity == "head" else [sequence])] for sequence in numbers]
                stat = np.stack([np.min(ranges, axis=0)[:, 0], np.max(ranges, axis=0)[:, 1]])
                simple("observe", "x", [x],
                       'observe %%x {args = {%s = %s}, granularity = %s, observer = %s, tap = "t"}'
                       % (name, value, granularity, kind), torch.from_numpy(stat).to(TYPES[dtype]), "numpy sort")
        x = normal((3, 2, 5, 4), dtype)
        simple("observe", "x", [x], 'observe %x {granularity = channel, tap = "t"}',
               torch.stack([x.amin(dim=(0, 2)), x.amax(dim=(0, 2))]), "torch amin, amax")
        for x in (normal((3, 2, 5, 4), dtype), normal((3, 5, 6), dtype)):
            numbers = x.double().numpy()
            over = (2,) if x.dim() == 4 else (1,)
            for observer, parts in (("mean", numbers), ("imatrix", numbers * numbers)):
                kept = parts.sum(axis=over).astype(np.float32).astype(np.float64)
                kept = np.rint(kept * 2.0 ** 24) / 2.0 ** 24 if observer == "mean" else kept
                mean = kept.sum(axis=0) / (len(numbers) * numbers.shape[over[0]])
                mean = mean[:, None, :] if x.dim() == 4 else mean
                simple("observe", "x", [x], 'observe %%x {granularity = channel, observer = %s, tap = "t"}' % observer,
                       torch.from_numpy(mean).float(), "numpy sum", 2 if observer == "imatrix" else 0)
    for dtype in ("bf16", "f32"):
        x = normal((3, 2, 5, 4), dtype) ** 3
        ranges = np.array([[mse_mean_range(head.reshape(-1), TYPES[dtype]) for head in sequence]
                           for sequence in x.double().numpy()])
        stat = torch.from_numpy(ranges.mean(axis=0).T.copy()).float().to(TYPES[dtype])
        simple("observe", "x", [x], 'observe %x {arg = input, granularity = head, observer = mse_mean, scheme = @s, tap = "t"}',
               stat, "numpy, every range of the grid", head=part_head("input", symmetric("i8", "head")))


E4M3 = np.array([c * 2.0 ** -9 if c < 8 else (1 + (c & 7) / 8) * 2.0 ** ((c >> 3) - 7) for c in range(127)], dtype=np.float32)


def searched_scale(x, glob, search, dtype):
    """The local scale of a group: float32 throughout, candidates from the largest down, the first of the best."""
    amax = np.abs(x).max()
    def nearest(divisor):
        local = torch.tensor(np.float32(amax / np.float32(divisor))).to(dtype).float().numpy()
        return int(np.argmin(np.abs(E4M3.astype(np.float64) - np.float64(min(np.float32(glob * local), np.float32(448))))))
    centre = nearest(6)
    best, chosen = np.inf, None
    for code in [centre + 5 - i for i in range(11)] if search == "mse" else [nearest(4), centre]:
        scale = E4M3[min(max(code, 1), 126)]
        factor, total = np.float32(glob / scale), np.float32(0)
        for v in np.abs(x):
            t = np.float32(v * factor)
            grid = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], dtype=np.float32)
            distance = np.float32(t - grid[np.argmin(np.abs(grid.astype(np.float64) - np.float64(t)))])
            total = np.float32(total + np.float32(distance * distance))
        error = np.float32(total * np.float32(scale * scale))
        if error < best:
            best, chosen = error, scale
    return chosen


def searched_scales():
    """Searched local scales of NVFP4, and what else a part may add to the plain rule, in numpy."""
    seed("searched_scales")
    for dtype in ("bf16", "f16", "f32"):
        for search in ("mse", "four_six"):
            part = dict(NVFP4, search=search, scale_max=256.0)
            x = normal((4, 64), dtype, 0.05)
            amax = x.abs().max()
            glob = ((1 / amax) * 1536).float().reshape(1)
            simple("global_scale", "x", [x], "global_scale %x {arg = weights, scheme = @s}", glob, "torch",
                   head=part_head("weights", part))
            for shape_, arg in (((4, 64), "weights"), ((2, 2, 3, 32), "input")):
                x = x if arg == "weights" else normal(shape_, dtype, 0.05)
                numbers = x.float().numpy().reshape(-1, 16)
                scales = [searched_scale(group, glob.numpy()[0], search, TYPES[dtype]) for group in numbers]
                scales = torch.from_numpy(np.array(scales)).reshape(shape_[:-1] + (-1,)).to(torch.float8_e4m3fn)
                head = part_head(arg, dict(part, dynamic=True) if arg == "input" else part)
                simple("qparams", "xg", [x, glob], "qparams %%x, global=%%g {arg = %s, scheme = @s}" % arg, scales,
                       "numpy, every candidate", head=head)
    # statistics of columns, joined to what the scale is for, and widened
    for dtype in ("bf16", "f32"):
        low, high = -normal((2, 3, 4), dtype).abs(), normal((2, 3, 4), dtype).abs()
        stat = torch.stack([low[0], high[0]])
        for granularity, dims in (("channel", None), ("head", (1,)), ("tensor", (0, 1))):
            amax = torch.maximum(-stat[0], stat[1])
            amax = amax[:, None, :] if dims is None else amax.amax(dim=dims).reshape((3, 1, 1) if len(dims) == 1 else (1,))
            part = dict(symmetric("i8", granularity), headroom=1.25)
            simple("qparams", "x", [stat], "qparams %x {arg = input, from = stat, scheme = @s}",
                   ((amax * 1.25) / 127.5).to(TYPES[dtype]), "torch", head=part_head("input", part))


def packing():
    seed("unpack")
    for bits, columns in ((2, 17), (3, 32), (4, 8), (4, 11), (5, 13), (6, 16), (7, 9), (8, 5)):
        codes = torch.from_numpy(cases.rng.integers(-2 ** (bits - 1), 2 ** (bits - 1), (3, columns))).to(torch.int8)
        output = codes if bits == 8 else Codes("i%d" % bits, codes)
        typed("unpack", pack_to_int32(codes, bits), "unpack %%x : %s" % type_of(output), output,
              "compressed_tensors pack_to_int32")
        output = codes.T.contiguous() if bits == 8 else Codes("i%d" % bits, codes.T.contiguous())
        typed("unpack", pack_to_int32(codes.T.contiguous(), bits, packed_dim=0), "unpack %%x {axis = 0} : %s" % type_of(output),
              output, "compressed_tensors pack_to_int32, packed_dim 0")
    values = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])
    numbers = values[torch.from_numpy(cases.rng.integers(0, 8, (3, 10)))] * torch.from_numpy(cases.rng.choice([-1.0, 1.0], (3, 10)))
    typed("unpack", pack_fp4_to_uint8(numbers.bfloat16()), "unpack %x : f4e2m1[3, 10]", Codes("f4e2m1", numbers),
          "compressed_tensors pack_fp4_to_uint8")
    exponents = torch.from_numpy(cases.rng.integers(0, 255, (2, 5))).to(torch.uint8)
    typed("unpack", exponents, "unpack %x : f8e8m0[2, 5]", exponents.view(torch.float8_e8m0fnu), "torch, the same bytes")
    seed("keep")
    for dtype in ("bf16", "f32"):
        x = normal((3, 5), dtype)
        simple("keep", "x", [x], "keep %x", x, "torch, the same elements")


def typed(op, x, line, output, source):
    """As `simple`, for a line that names its type."""
    text = "qc 1\nfunc @main(%%x: %s) -> %s {\n  %%y = %s\n  return %%y\n}\n" % (type_of(x), type_of(output), line)
    case(op, text, source, [([x], [output])])
