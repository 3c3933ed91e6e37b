# SPDX-License-Identifier: MIT
"""Cases of mixtures of experts for make_cases.py: routing, rows by expert, and the quantization of banks, the weights of
all experts in one tensor."""

import torch
from compressed_tensors.quantization.lifecycle.forward import dequantize, quantize
from compressed_tensors.quantization.utils import calculate_qparams, generate_gparam
from llmcompressor.observers import Observer

import cases
from cases import NAMES, TYPES, Codes, case, normal, seed, simple, type_of
from quant_cases import MXFP4, NVFP4, args_of, observed, part_args, part_head, scheme, stored, symmetric


# ---- routing -----------------------------------------------------------------------------------------------------

def routing():
    seed("topk")
    for dtype, shape_, k in (("f32", (2, 3, 8), 2), ("bf16", (1, 5, 16), 4), ("f16", (3, 6), 6), ("f32", (7,), 1)):
        x = normal(shape_, dtype)
        y = torch.sort(x, dim=-1, descending=True, stable=True).indices[..., :k].to(torch.int32)
        simple("topk", "x", [x], "topk %%x {k = %d}" % k, y, "torch.sort, stable")
        if dtype == "f32":
            simple("topk", "x", [x], "topk %%x {k = %d}" % k, torch.topk(x, k).indices.to(torch.int32), "torch.topk")
    x = torch.tensor([[1.0, 3.0, 3.0, -1.0, 3.0], [float("-inf"), float("nan"), 2.0, float("inf"), -0.0]])
    y = torch.sort(x, dim=-1, descending=True, stable=True).indices[..., :3].to(torch.int32)
    simple("topk", "x", [x], "topk %x {k = 3}", y, "torch.sort, stable")
    seed("take")
    for dtype, id_dtype in (("bf16", "i64"), ("f32", "i32")):
        x = normal((2, 3, 8), dtype)
        ids = torch.from_numpy(cases.rng.integers(0, 8, (2, 3, 4)))
        simple("take", ["x", "i"], [x, ids.to(TYPES[id_dtype])], "take %x, %i", torch.gather(x, -1, ids), "torch.gather")
    seed("mask_groups")
    for dtype, groups, chosen, fill in (("f32", 4, 2, 0.0), ("f32", 2, 1, float("-inf")), ("bf16", 8, 3, -1.5)):
        x = normal((1, 4, 16), dtype)
        ids = torch.topk(normal((1, 4, groups), "f32"), chosen, sorted=False).indices
        # the steps of Transformers' DeepseekV3MoE
        group_mask = torch.zeros(1, 4, groups).scatter_(-1, ids, 1)
        score_mask = group_mask.unsqueeze(-1).expand(1, 4, groups, 16 // groups).reshape(1, 4, 16)
        y = x.masked_fill(~score_mask.bool(), fill)
        items = (["fill = %r" % fill] if fill else []) + ["groups = %d" % groups]
        simple("mask_groups", ["x", "i"], [x, ids], "mask_groups %%x, %%i {%s}" % ", ".join(items), y,
               "torch, the steps of transformers DeepseekV3MoE")


def chosen_experts(batch, tokens, experts, k):
    return torch.topk(normal((batch, tokens, experts), "f32"), k).indices


def rows_of(ids, experts, every=False):
    """What expert_rows gives, from torch.where over the one-hot mask that Transformers loops over."""
    flat = ids.reshape(-1, ids.shape[-1])
    columns = []
    for expert in range(experts):
        for token in range(len(flat)):
            slot = torch.where(flat[token] == expert)[0]
            if len(slot) or every:
                columns.append((expert, token, int(slot[0]) if len(slot) else -1))
    return torch.tensor(columns, dtype=torch.int32).T.contiguous()


def rows():
    seed("expert_rows")
    for batch, tokens, experts, k in ((1, 5, 4, 2), (2, 3, 8, 3), (1, 4, 3, 1)):
        ids = chosen_experts(batch, tokens, experts, k).to(torch.int32)
        for every in (False, True):
            simple("expert_rows", "i", [ids], "expert_rows %%i {%sexperts = %d}" % ("all, " if every else "", experts),
                   rows_of(ids, experts, every), "torch.where, as Transformers loops over experts")
    seed("experts")
    for dtype, every in (("bf16", False), ("f32", True), ("f16", False)):
        experts, k = 4, 2
        ids = chosen_experts(2, 3, experts, k)
        r = rows_of(ids, experts, every)
        expert, token, slot = r.long()
        x, w = normal((2, 3, 8), dtype), normal((2, 3, k), dtype).abs()
        xs = x.reshape(6, 8)[token]
        simple("expert_gather", ["x", "r"], [x, r], "expert_gather %x, %r", xs, "torch indexing")
        flat = w.reshape(6, k)
        for unrouted in ("zero", "first"):
            other = torch.zeros_like(flat[:, 0]) if unrouted == "zero" else flat[:, 0]
            scores = torch.where(slot < 0, other[token], flat[token, slot.clamp(min=0)])[:, None]
            simple("expert_score", ["w", "r"], [w, r],
                   "expert_score %w, %r" + (" {unrouted = first}" if unrouted == "first" else ""), scores, "torch indexing")
        for shape_ in ((experts, 3), (experts, 1, 1)):
            p = normal(shape_, dtype)
            simple("expert_param", ["p", "r"], [p, r], "expert_param %p, %r", p.reshape(experts, -1)[expert], "torch indexing")
        weight, bias = normal((experts, 5, 8), dtype), normal((experts, 5), dtype)
        ulp, abs_ = (2, 1e-5) if dtype == "f32" else (1, 1e-4)
        for b in (None, bias):
            y = torch.stack([torch.nn.functional.linear(row, weight[e], None if b is None else b[e])
                             for row, e in zip(xs, expert)])
            simple("expert_linear", ["x", "w", "r"] + ["b"] * (b is not None), [xs, weight, r] + [b] * (b is not None),
                   "expert_linear %x, %w, %r" + (", bias=%b" if b is not None else ""), y,
                   "torch.nn.functional.linear, a row at a time", ulp, abs_)


def combining():
    """Four experts a token: what is rounded after each addition is not what is rounded once."""
    seed("expert_combine")
    for dtype, every in (("bf16", False), ("bf16", True), ("f16", False), ("f32", True)):
        experts = 6
        ids = chosen_experts(2, 3, experts, 4)
        r = rows_of(ids, experts, every)
        expert, token, slot = r.long()
        z, kept = normal((len(token), 8), dtype), slot >= 0
        # Transformers adds what one expert gives to the tokens, expert by expert
        each = torch.zeros(6, 8, dtype=TYPES[dtype])
        for e in range(experts):
            of_expert = kept & (expert == e)
            each.index_add_(0, token[of_expert], z[of_expert])
        once = torch.zeros(6, 8).index_add_(0, token[kept], z[kept].float()).to(TYPES[dtype])
        assert dtype == "f32" or not torch.equal(each, once)
        simple("expert_combine", ["z", "r", "i"], [z, r, ids], "expert_combine %z, %r, %i", each.reshape(2, 3, 8),
               "torch.index_add_, an expert at a time")
        simple("expert_combine", ["z", "r", "i"], [z, r, ids], "expert_combine %z, %r, %i {sum = once}",
               once.reshape(2, 3, 8), "torch.index_add_ in float32")


def stored_banks():
    seed("expert_weight")
    parts = [normal((3, 4)) for _ in range(3)]
    names = {"a.%d.w" % e: p for e, p in enumerate(parts)}
    for dtype in ("bf16", "f32"):
        y = torch.stack(parts).to(TYPES[dtype])
        case("expert_weight", 'qc 1\nfunc @main() -> %s {\n  %%y = expert_weight "a.{e}.w" : %s\n  return %%y\n}\n'
             % (type_of(y), type_of(y)), "torch.stack", [([], [y])], weights=names)
    numbers = {"a.0.s": torch.tensor(0.5), "a.1.s": torch.tensor([0.25])}
    y = torch.tensor([0.5, 0.25]).reshape(2, 1, 1)
    case("expert_weight", 'qc 1\nfunc @main() -> f32[2, 1, 1] {\n  %y = expert_weight "a.{e}.s" : f32[2, 1, 1]\n  return %y\n}\n',
         "torch.stack", [([], [y])], weights=numbers)
    seed("weight_index")
    bank = normal((3, 4, 5))
    for index, dtype in ((0, "bf16"), (2, "f32")):
        y = bank[index].to(TYPES[dtype])
        case("weight", 'qc 1\nfunc @main() -> %s {\n  %%y = weight "b" {index = %d} : %s\n  return %%y\n}\n'
             % (type_of(y), index, type_of(y)), "torch indexing", [([], [y])], weights={"b": bank})
    case("weight", 'qc 1\nfunc @main() -> f32[1] {\n  %y = weight "s" : f32[1]\n  return %y\n}\n', "torch.reshape",
         [([], [torch.tensor([1.5])])], weights={"s": torch.tensor(1.5)})


# ---- banks of weights --------------------------------------------------------------------------------------------

class Bank:
    """Results of experts beside each other, as tensors of the bank."""

    def __init__(self, parts):
        self.parts = parts

    def tensor(self, dtype, single=False):
        values = torch.stack([p.reshape(1, 1) if single and p.numel() == 1 else p for p in self.parts])
        return stored(values, dtype)


def bank_case(part, x, shared=None):
    """All ops of a bank's way through its codes and back; `shared`: a second bank of the same fused set."""
    experts, head = len(x), part_head("weights", part)
    source = "llm-compressor observer " + part.get("observer", "memoryless_minmax") + ", an expert at a time"
    attrs = "{arg = weights, experts = %d, scheme = @s}" % experts
    scales, zeros, globals_, codes, real = [], [], [], [], []
    for e, weight in enumerate(x):
        args, scale, zero, global_scale, _ = observed(part, weight)
        if shared is not None:
            amax = torch.max(weight.abs().max(), shared[e].abs().max()).reshape(1)
            global_scale = generate_gparam(-amax, amax)
            low, high = weight.reshape(weight.shape[0], -1, part["group"]).aminmax(dim=-1)
            scale, zero = calculate_qparams(low, high, args, global_scale=global_scale)
        typed = stored(scale, part.get("scale", NAMES[x.dtype]))
        held = typed.float() if global_scale is not None else typed.to(x.dtype)
        floats = weight.new_zeros(zero.shape) if part.get("symmetric", False) else zero.to(x.dtype)
        values = quantize(weight, held, floats, args, global_scale=global_scale)
        real.append(dequantize(values, held, floats, args, x.dtype, global_scale))
        scales.append(scale)
        zeros.append(zero)
        globals_.append(global_scale)
        codes.append(values)
    names, inputs, extra = ["x"], [x], ""
    if globals_[0] is not None:
        g = Bank(globals_).tensor("f32", True)
        others = [] if shared is None else [shared]
        simple("global_scale", ["x", "o"][:1 + len(others)], [x] + others,
               "global_scale %%x%s %s" % (", %o" if others else "", attrs), g,
               source if not others else "compressed_tensors generate_gparam, an expert at a time", head=head)
        names, inputs, extra = ["x", "g"], [x, g], ", global=%g"
    scale = Bank(scales).tensor(part.get("scale", NAMES[x.dtype]), True)
    simple("qparams", names, inputs, "qparams %%x%s %s" % (extra, attrs), scale, source, head=head)
    names, inputs, line = ["x", "s"], [x, scale], "%x, %s"
    if globals_[0] is not None:
        names, inputs, line = names + ["g"], inputs + [g], line + ", global=%g"
    if not part.get("symmetric", False):
        zero = Bank(zeros).tensor("i8", True)
        simple("zero_point", ["x"], [x], "zero_point %%x %s" % attrs, zero, source, head=head)
        names, inputs, line = names + ["z"], inputs + [zero], line + ", zero_point=%z"
    coded = Bank(codes).tensor(part["type"])
    simple("quantize", names, inputs, "quantize %s {arg = weights, scheme = @s}" % line, coded,
           "compressed_tensors quantize, an expert at a time", head=head)
    items = ["to = " + NAMES[x.dtype]] + (["group = %d" % part["group"]] if "group" in part else [])
    items += ["block = [%d, %d]" % tuple(part["block"])] if "block" in part else []
    simple("dequantize", names, [coded] + inputs[1:], "dequantize %s {%s}" % (line, ", ".join(sorted(items))),
           torch.stack(real), "compressed_tensors dequantize, an expert at a time")


def banks():
    seed("banks")
    for part, shape_, dtype in (
            (symmetric("f8e4m3", "channel"), (3, 4, 16), "bf16"), (symmetric("f8e4m3", "tensor"), (3, 4, 16), "bf16"),
            (symmetric("f8e4m3", "block", block=[4, 8]), (2, 10, 20), "bf16"), (symmetric("i4", "group", group=16), (2, 3, 32), "bf16"),
            ({"type": "i4", "granularity": "group", "group": 16}, (2, 3, 32), "bf16"),
            ({"type": "i8", "granularity": "channel"}, (2, 3, 9), "f32"), ({"type": "i8", "granularity": "tensor"}, (2, 3, 9), "f16"),
            (NVFP4, (3, 2, 48), "bf16"), (MXFP4, (2, 3, 64), "bf16"), (symmetric("i4", "channel"), (3, 5, 7), "bf16"),
            (symmetric("i4", "group", group=16, observer="memoryless_mse"), (2, 4, 32), "bf16"),
            (dict(NVFP4, observer="memoryless_mse"), (2, 3, 32), "bf16")):
        x = normal(shape_, dtype, 0.05) * (1 + torch.arange(shape_[0]).reshape(-1, 1, 1)).to(TYPES[dtype])
        bank_case(part, x)
    bank_case(NVFP4, normal((2, 2, 32), "bf16", 0.05), normal((2, 3, 32), "bf16", 0.08))


def bank_movements():
    """Words, rotations and means of banks."""
    seed("bank_movements")
    x = torch.from_numpy(cases.rng.integers(0, 256, (2, 3, 8))).to(torch.uint8)
    magnitude = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])
    nibbles = torch.stack([x & 15, x >> 4], -1).reshape(2, 3, 16).long()
    y = magnitude[nibbles & 7] * torch.where(nibbles > 7, -1.0, 1.0)
    for axis in (2, -1):
        line = "unpack %%x {axis = %d} : f4e2m1[2, 3, 16]" % axis
        simple("unpack", "x", [x], line, Codes("f4e2m1", y), "torch, MXFP4 as transformers' FP4_VALUES has it")
    simple("unpack", "x", [x], "unpack %x {axis = 2} : f8e8m0[2, 3, 8]", x.view(torch.float8_e8m0fnu), "torch.view")
    for bits, axis, shape_ in ((4, 2, (2, 3, 16)), (4, 1, (2, 16, 3)), (3, 2, (2, 2, 20))):
        codes = torch.from_numpy(cases.rng.integers(-2 ** (bits - 1), 2 ** (bits - 1), shape_))
        words = pack(codes, bits, axis)
        simple("unpack", "x", [words], "unpack %%x {axis = %d} : i%d[%d, %d, %d]" % ((axis, bits) + shape_),
               Codes("i%d" % bits, codes), "numpy, bit by bit")
    h = torch.ones(1, 1, dtype=torch.float64)
    while h.shape[0] < 8:
        h = torch.kron(torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64), h)
    for dtype, shape_ in (("bf16", (3, 16, 5)), ("f32", (2, 8, 4))):
        x = normal(shape_, dtype)
        blocks = x.double().reshape(shape_[0], -1, 8, shape_[2])
        y = (h.T @ blocks / 8 ** 0.5).reshape(shape_)
        simple("hadamard", "x", [x], "hadamard %x {axis = 1, compute = f64, size = 8}", y.float().to(x.dtype),
               "torch.kron, float64", 1, 1e-7)


def pack(codes, bits, axis):
    """Codes of a line after each other from the lowest bit on, in words of 32 bits, 2^(bits - 1) added."""
    lines = codes.movedim(axis, -1) + 2 ** (bits - 1)
    words = torch.zeros(lines.shape[:-1] + ((lines.shape[-1] * bits + 31) // 32,), dtype=torch.int64)
    for i in range(lines.shape[-1]):
        for b in range(bits):
            at = i * bits + b
            words[..., at // 32] |= (lines[..., i] >> b & 1) << (at % 32)
    words = torch.where(words >= 2 ** 31, words - 2 ** 32, words)
    return words.to(torch.int32).movedim(-1, axis).contiguous()


# ---- activations of experts --------------------------------------------------------------------------------------

def expert_inputs():
    seed("expert_inputs")
    experts = 3
    ids = torch.tensor([[[0, 2], [1, 0], [0, 1], [2, 1]]])
    r = rows_of(ids, experts)
    expert = r[0].long()
    for dtype, observer in (("bf16", "static_minmax"), ("f32", "memoryless_minmax"), ("bf16", "minmax")):
        x = normal((len(expert), 6), dtype) * (1 + expert)[:, None].to(TYPES[dtype])
        ranges = []
        for e in range(experts):
            it = Observer.load_from_registry(observer, base_name="input", args=args_of("f8e4m3", "tensor"))
            it(x[expert == e][None])
            ranges.append((it.min_vals.reshape(()), it.max_vals.reshape(())))
        stat = torch.tensor([[float(low) for low, _ in ranges], [float(high) for _, high in ranges]]).to(TYPES[dtype])
        simple("observe", ["x", "r"], [x, r], 'observe %%x, rows=%%r {experts = 3, granularity = expert, observer = %s, tap = "m.{e}.input"}'
               % observer, stat, "llmcompressor Observer %s, an expert at a time" % observer)
    # expert 3 saw nothing, expert 1 less than 3 tokens
    ids = torch.tensor([[[0, 2], [1, 0], [0, 2], [2, 1], [0, 2]]])
    r = rows_of(ids, 4)
    expert = r[0].long()
    x, w = normal((len(expert), 6)), normal((4, 5, 6))
    own = [(x[expert == e].amin(), x[expert == e].amax()) for e in (0, 2)]
    layer = (min(low for low, _ in own), max(high for _, high in own))
    for fallback in ("layer", "weights"):
        stat = torch.empty(2, 4, dtype=torch.bfloat16)
        for e in range(4):
            if e in (0, 2):
                stat[0, e], stat[1, e] = own[e // 2]
            elif fallback == "layer":
                stat[0, e], stat[1, e] = layer
            else:
                stat[0, e], stat[1, e] = -w[e].abs().max(), w[e].abs().max()
        simple("observe", ["x", "r", "w"], [x, r, w], "observe %%x, rows=%%r, w=%%w {experts = 4, fallback = %s, granularity = expert, "
               'min_tokens = 3, tap = "m.{e}.input"}' % fallback, stat, "torch amin, amax")
    # scales of statistics, and codes of rows by expert
    stat = torch.tensor([[-1.5, -0.25, 0.0], [2.5, 3.0, 0.5]], dtype=torch.bfloat16)
    scale, _ = calculate_qparams(stat[0], stat[1], args_of("f8e4m3", "tensor"))
    simple("qparams", "x", [stat], "qparams %x {arg = input, experts = 3, from = stat, scheme = @s}", scale.reshape(3, 1, 1),
           "compressed_tensors calculate_qparams", head=scheme("input", "f8e4m3", "tensor"))
    asymmetric = {"type": "i8", "granularity": "tensor"}
    _, zero = calculate_qparams(stat[0], stat[1], part_args(asymmetric))
    simple("zero_point", "x", [stat], "zero_point %x {arg = input, experts = 3, from = stat, scheme = @s}",
           zero.to(torch.int8).reshape(3, 1, 1), "compressed_tensors calculate_qparams", head=part_head("input", asymmetric))
    x = normal((5, 8))
    by_row = scale[[0, 0, 1, 2, 2]][:, None]
    codes = torch.cat([quantize(row[None], s, torch.zeros_like(s), args_of("f8e4m3", "tensor"), dtype=torch.float8_e4m3fn).view(torch.uint8)
                       for row, s in zip(x, by_row)]).view(torch.float8_e4m3fn)
    simple("quantize", ["x", "s"], [x, by_row], "quantize %x, %s {arg = input, scheme = @s}", codes,
           "compressed_tensors quantize, a row at a time", head=scheme("input", "f8e4m3", "tensor"))
    part = dict(NVFP4, dynamic=True)
    globals_ = torch.stack([generate_gparam(low, high) for low, high in stat.T]).reshape(3, 1, 1)
    simple("global_scale", "x", [stat], "global_scale %x {arg = input, experts = 3, from = stat, scheme = @s}", globals_,
           "compressed_tensors generate_gparam", head=part_head("input", part))
    x = normal((5, 32))
    args, g = part_args(part), globals_.reshape(3)[[0, 0, 1, 2, 2]][:, None]
    scales, codes, real = [], [], []
    for row, one in zip(x, g):
        low, high = row.reshape(1, -1, 16).aminmax(dim=-1)
        s, zero = calculate_qparams(low, high, args, global_scale=one)
        values = quantize(row[None], s.float(), zero.to(x.dtype), args, global_scale=one)
        scales.append(s)
        codes.append(values)
        real.append(dequantize(values, s.float(), zero.to(x.dtype), args, x.dtype, one))
    scales, codes = torch.cat([s.float() for s in scales]).to(torch.float8_e4m3fn), Codes("f4e2m1", torch.cat(codes))
    head, source = part_head("input", part), "compressed_tensors, a row at a time"
    simple("qparams", ["x", "g"], [x, g], "qparams %x, global=%g {arg = input, scheme = @s}", scales, source, head=head)
    simple("quantize", ["x", "s", "g"], [x, scales, g], "quantize %x, %s, global=%g {arg = input, scheme = @s}", codes, source, head=head)
    simple("dequantize", ["x", "s", "g"], [codes, scales, g], "dequantize %x, %s, global=%g {group = 16, to = bf16}",
           torch.cat(real), source)


def expert_cases():
    for part in (routing, rows, combining, stored_banks, banks, bank_movements, expert_inputs):
        part()
