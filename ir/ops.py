# SPDX-License-Identifier: MIT
"""The op table: every operation of the IR is declared here, once.

gen_ops.py derives from it the enum, the info table (parser, printer and verifier read that), the typed builders of
qc/ops.h, the scalar functions of elementwise ops, and docs/ops.md.

op(name, doc, operands, attrs, ...)
  operands   "x" required, "bias?" optional (printed as bias=%b), "xs..." variadic (last). "x: float" restricts the class:
             float, int, any (the default).
  results    names; one result "y" by default.
  attrs      "name: kind" with kind bool, int, float, string, word, symbol, list, map, data, dtype; "name: kind!" is
             required; "name: kind = default" has a default, which is not printed; "word(a|b)" lists the words.
  traits     pure: no effect (the default). effect: stays although unused. identity: cse never merges it.
             elementwise: operands broadcast as in numpy, the result has the element type of the first operand (or the
             attribute `to`). same_type: the result has the type of the first operand. typed: the result type
             cannot be inferred and is written. independent: depends on ids and positions alone, cheap to do again.
  positional the attribute that is written right after the op's name, without its key.
  expr       elementwise: the scalar expression, over the operands' names, computed in f32, rounded once to the element
             type of the result. See scalar.py for the grammar.
  decomposition  composite: its meaning in IR text over other ops; ${attr}, ${dtype:x} and ${dim:x:i} are filled in; a line
             starting with ?name is kept when the operand or attribute is there and neither false nor 0, !name when it is not,
             ?name=word when the attribute is that word; several conditions must all hold.
  infer, verify, eval are C hooks found by name: qc_infer_NAME, qc_verify_NAME (verify=True), qc_eval_NAME.
"""

OPS = []


def op(name, doc, operands=(), attrs=(), results=("y",), traits=(), positional=None, expr=None,
       decomposition=None, infer=True, verify=False):
    OPS.append(dict(name=name, doc=doc, operands=list(operands), attrs=list(attrs), results=list(results),
                    traits=list(traits), positional=positional, expr=expr, decomposition=decomposition, infer=infer,
                    verify=verify))


# ---- sources ------------------------------------------------------------------------------------------------

op("weight", "A tensor of the source checkpoint, by name; converted exactly when the type is wider than the stored one. With `index`: "
   "that part of its first dimension.", attrs=["tensor: string!", "index: int = -1"], positional="tensor",
   traits=["typed", "identity"], infer=False, verify=True)
op("expert_weight", "The tensors of all experts of a layer, stacked: [E, ...]. In the name, {e} stands for 0 to E - 1. A single number may "
   "be stored as [] or [1].", attrs=["tensor: string!"], positional="tensor", traits=["typed", "identity"], infer=False, verify=True)
op("const", "A constant of at most 65,536 elements, in row-major order.",
   attrs=["value: data!"], positional="value", traits=["typed"], infer=False, verify=True)
op("fill", "Every element is `value`, rounded to the element type.", attrs=["value: float!"], traits=["typed"], infer=False,
   verify=True)
op("positions", "The position of each token: its index in the call plus the number of tokens already in the cache.",
   ["ids: int"], traits=["same_type", "independent"])

# ---- elementwise --------------------------------------------------------------------------------------------

ELEMENTWISE = ["elementwise"]
op("add", "Sum.", ["x: float", "z: float"], traits=ELEMENTWISE, expr="add(x, z)")
op("sub", "Difference.", ["x: float", "z: float"], traits=ELEMENTWISE, expr="sub(x, z)")
op("mul", "Product.", ["x: float", "z: float"], traits=ELEMENTWISE, expr="mul(x, z)")
op("div", "Quotient.", ["x: float", "z: float"], traits=ELEMENTWISE, expr="div(x, z)")
op("minimum", "The smaller of two; NaN if one is NaN.", ["x: float", "z: float"], traits=ELEMENTWISE, expr="min(x, z)")
op("maximum", "The larger of two; NaN if one is NaN.", ["x: float", "z: float"], traits=ELEMENTWISE, expr="max(x, z)")
op("neg", "The negative.", ["x: float"], traits=ELEMENTWISE, expr="neg(x)")
op("abs", "The absolute value.", ["x: float"], traits=ELEMENTWISE, expr="abs(x)")
op("sqrt", "The square root.", ["x: float"], traits=ELEMENTWISE, expr="sqrt(x)")
op("rsqrt", "The reciprocal of the square root.", ["x: float"], traits=ELEMENTWISE, expr="div(1.0, sqrt(x))")
op("exp", "e to the power x.", ["x: float"], traits=ELEMENTWISE, expr="exp(x)")
op("log", "The natural logarithm.", ["x: float"], traits=ELEMENTWISE, expr="log(x)")
op("sin", "The sine of x radians.", ["x: float"], traits=ELEMENTWISE, expr="sin(x)")
op("cos", "The cosine of x radians.", ["x: float"], traits=ELEMENTWISE, expr="cos(x)")
op("tanh", "The hyperbolic tangent.", ["x: float"], traits=ELEMENTWISE, expr="tanh(x)")
op("sigmoid", "1 / (1 + e^-x).", ["x: float"], traits=ELEMENTWISE, expr="div(1.0, add(1.0, exp(neg(x))))")
op("silu", "x / (1 + e^-x), the gate of Llama's MLP.", ["x: float"], traits=ELEMENTWISE,
   expr="div(x, add(1.0, exp(neg(x))))")
op("gelu_tanh", "GELU in its tanh form.", ["x: float"], traits=ELEMENTWISE,
   expr="mul(mul(0.5, x), add(1.0, tanh(mul(0.7978845608028654, fma(mul(0.044715, mul(x, x)), x, x)))))")
op("floor", "The largest integer that is not above x.", ["x: float"], traits=ELEMENTWISE, expr="floor(x)")
op("cast", "The same values in another element type, rounded to nearest even.", ["x"], ["to: dtype!"], traits=ELEMENTWISE,
   expr="x")

# ---- shape --------------------------------------------------------------------------------------------------

op("reshape", "The same elements in row-major order under another shape.", ["x"], traits=["typed"], infer=False, verify=True)
op("transpose", "Dimension i of the result is dimension perm[i] of x.", ["x"], ["perm: list!"])
op("slice", "Elements start <= i < stop of one axis, every `step`-th of them.", ["x"],
   ["axis: int!", "start: int!", "stop: int!", "step: int = 1"])
op("concat", "The operands one after another along an axis.", ["xs..."], ["axis: int!"])
op("split_heads", "[B, S, heads * d] as [B, heads, S, d].", ["x"], ["heads: int!"])
op("merge_heads", "[B, heads, S, d] as [B, S, heads * d].", ["x"])
op("repeat_heads", "[B, heads, S, d] with every head repeated `times` times in place.", ["x"], ["times: int!"])
op("rotate_half", "The last dimension split in halves a, b becomes -b, a; with `interleaved`, neighbours a, b become -b, a.",
   ["x: float"], ["interleaved: bool = false"], traits=["same_type"], verify=True)

# ---- products and reductions --------------------------------------------------------------------------------

op("linear", "y = x w^T + bias: sums in f32, the bias added in f32, rounded once. x [..., in], w [out, in], bias [out].",
   ["x: float", "w: float", "bias?: float"])
op("matmul", "Batched product over the last two dimensions; sums in f32, rounded once to `to`.", ["x: float", "z: float"],
   ["transpose_z: bool = false", "to: dtype!"])
op("embedding", "Rows of the table w [vocabulary, hidden]: ids [..] gives [.., hidden].", ["ids: int", "w"], traits=["independent"])
op("reduce_sum", "The sum over the last dimension, kept as 1; f32 sums.", ["x: float"])
op("reduce_mean", "The mean over the last dimension, kept as 1; f32 sums.", ["x: float"])
op("reduce_max", "The maximum over the last dimension, kept as 1.", ["x: float"])
op("attention_mask",
   "Adds the most negative finite number of the element type where query i must not see key j. Scores are [B, heads, S, P+S]; "
   "query i has position P+i. causal: sees j <= P+i; window w > 0: and j > P+i-w; chunk c > 0: and j / c = (P+i) / c, rounded down.",
   ["x: float"], ["causal: bool = false", "window: int = 0", "chunk: int = 0"], traits=["same_type"], verify=True)
op("softmax", "exp(x - max) / sum over the last dimension, each step in the element type of x.", ["x: float"],
   traits=["same_type"], verify=True, decomposition="""
  %m = reduce_max %x
  %d = sub %x, %m
  %e = exp %d
  %s = reduce_sum %e
  %y = div %e, %s
""")

# ---- composite ops of transformers --------------------------------------------------------------------------

op("rmsnorm", "(w + offset) * (x / sqrt(mean(x^2) + eps)) over the last dimension. Everything is computed in f32; with `round = before` the "
   "normalised x is rounded before the product with w (Llama), with `after` only the product is (Gemma, OLMo 2, gpt-oss).",
   ["x: float", "w: float"], ["eps: float!", "offset: float = 0.0", "round: word(before|after) = before"], traits=["same_type"],
   verify=True, decomposition="""
  %f = cast %x {to = f32}
  %q = mul %f, %f
  %a = reduce_mean %q
  %c = const [${eps}] : f32[1]
  %b = add %a, %c
  %r = rsqrt %b
  %n = mul %f, %r
  ?offset %o = const [${offset}] : f32[1]
  ?offset %v = cast %w {to = f32}
  ?offset %w = add %v, %o
  ?round=before %h = cast %n {to = ${dtype:x}}
  ?round=before %y = mul %h, %w
  ?round=after %z = mul %n, %w
  ?round=after %y = cast %z {to = ${dtype:x}}
""")
ROPE_TABLE = "(position * frequency) * attention factor as [B, 1, S, dims]; frequencies repeat in both halves, with `interleaved` in neighbours. "
op("rope_cos", "cos" + ROPE_TABLE + "`scaling` is a map with `type` linear, dynamic, llama3, yarn or longrope and that type's parameters.",
   ["pos: int"], ["theta: float!", "dims: int!", "scaling: map", "interleaved: bool = false"], traits=["independent"], verify=True)
op("rope_sin", "sin" + ROPE_TABLE + "See rope_cos.",
   ["pos: int"], ["theta: float!", "dims: int!", "scaling: map", "interleaved: bool = false"], traits=["independent"], verify=True)
op("rope", "Rotary position embedding of x [B, heads, S, d]: x * cos + rotate_half(x) * sin, in halves, or, with `interleaved`, of neighbours; "
   "with `dims`, of the first `dims` columns, the others stay. cos and sin are "
   "computed in f32 and rounded to `tables`; each product and the sum are rounded to the type of x.",
   ["x: float", "pos: int"], ["theta: float!", "scaling: map", "tables: dtype!", "interleaved: bool = false", "dims: int = 0"],
   traits=["same_type"], verify=True, decomposition="""
  ?dims %rest = slice %x {axis = -1, start = ${dims}, stop = ${dim:x:-1}}
  ?dims %c0 = rope_cos %pos {dims = ${dims}, theta = ${theta}, scaling = ${scaling}, interleaved = ${interleaved}}
  ?dims %s0 = rope_sin %pos {dims = ${dims}, theta = ${theta}, scaling = ${scaling}, interleaved = ${interleaved}}
  !dims %c0 = rope_cos %pos {dims = ${dim:x:-1}, theta = ${theta}, scaling = ${scaling}, interleaved = ${interleaved}}
  !dims %s0 = rope_sin %pos {dims = ${dim:x:-1}, theta = ${theta}, scaling = ${scaling}, interleaved = ${interleaved}}
  ?dims %x = slice %x {axis = -1, start = 0, stop = ${dims}}
  %c = cast %c0 {to = ${tables}}
  %s = cast %s0 {to = ${tables}}
  %a = mul %x, %c
  %r = rotate_half %x {interleaved = ${interleaved}}
  %b = mul %r, %s
  !dims %y = add %a, %b
  ?dims %z = add %a, %b
  ?dims %y = concat %z, %rest {axis = -1}
""")
ATTENTION = dict(
    operands=["q", "k", "v", "q_scale?: float", "k_scale?: float", "v_scale?: float", "q_global?: float", "k_global?: float",
              "v_global?: float", "sinks?: float"],
    attrs=["scale: float!", "causal: bool = false", "window: int = 0", "scores: dtype!", "softmax: dtype!", "probs: dtype!",
           "q_group: int = 0", "k_group: int = 0", "v_group: int = 0", "probs_codes: dtype", "probs_scale: float = 1.0",
           "softcap: float = 0.0", "chunk: int = 0"],
    verify=True, decomposition="".join(f"""
  ?{x}_scale !{x}_global %{x} = dequantize %{x}, %{x}_scale {{group = ${{{x}_group}}, to = ${{probs}}}}
  ?{x}_scale ?{x}_global %{x} = dequantize %{x}, %{x}_scale, global=%{x}_global {{group = ${{{x}_group}}, to = ${{probs}}}}"""
                                       for x in "qkv") + """
  %kr = repeat_heads %k {times = ${group:q:k}}
  %vr = repeat_heads %v {times = ${group:q:v}}
  %s0 = matmul %q, %kr {to = ${scores}, transpose_z}
  %c = const [${scale}] : f32[1]
  %s1 = mul %s0, %c
  ?softcap %cap = const [${softcap}] : f32[1]
  ?softcap %t0 = div %s1, %cap
  ?softcap %t1 = tanh %t0
  ?softcap %s1 = mul %t1, %cap
  %s2 = attention_mask %s1 {causal = ${causal}, window = ${window}, chunk = ${chunk}}
  %s3 = cast %s2 {to = ${softmax}}
  ?sinks %k0 = reshape %sinks : ${dtype:sinks}[1, ${dim:sinks:0}, 1, 1]
  ?sinks %k1 = cast %k0 {to = ${softmax}}
  ?sinks %m0 = reduce_max %s3
  ?sinks %m = maximum %m0, %k1
  ?probs_codes !sinks %m = reduce_max %s3
  ?sinks %d = sub %s3, %m
  ?probs_codes !sinks %d = sub %s3, %m
  ?sinks %e = exp %d
  ?probs_codes !sinks %e = exp %d
  ?sinks %l0 = reduce_sum %e
  ?sinks %d1 = sub %k1, %m
  ?sinks %e0 = exp %d1
  ?sinks %l = add %l0, %e0
  ?probs_codes !sinks %l = reduce_sum %e
  !probs_codes ?sinks %p0 = div %e, %l
  !probs_codes !sinks %p0 = softmax %s3
  !probs_codes %p1 = cast %p0 {to = ${probs}}
  !probs_codes %y = matmul %p1, %vr {to = ${probs}}
  ?probs_codes %t = const [${probs_scale}] : f32[1]
  ?probs_codes %e1 = div %e, %t
  ?probs_codes %e2 = cast %e1 {to = ${probs_codes}}
  ?probs_codes %e3 = cast %e2 {to = ${probs}}
  ?probs_codes %o0 = matmul %e3, %vr {to = f32}
  ?probs_codes %o1 = mul %o0, %t
  ?probs_codes %o2 = div %o1, %l
  ?probs_codes %y = cast %o2 {to = ${probs}}
""")
op("attention",
   "Scaled dot-product attention, eager: scores = q k^T rounded to `scores`, times scale, capped as tanh(scores / softcap) * softcap and masked there, softmax in `softmax`, "
   "rounded to `probs`, times v. q [B, H, S, d], k [B, G, P+S, d], v [B, G, P+S, n], H a multiple of G. `sinks` [H] are one more score of "
   "each query, with no value. With scales, q, k or v are codes and are "
   "dequantized to `probs` first; a scale is [1], [heads, 1, 1], [heads, 1, d], [B, heads, tokens, 1], or, for each `X_group` columns, "
   "[B, heads, tokens, groups], then with or without a global scale. With `probs_codes`, the exponentials, over `probs_scale`, are rounded to "
   "that type before the product with v, and their unrounded sum divides the result.", **ATTENTION)
op("quantized_attention",
   "`attention` in lowered form: the same operands, attributes and meaning, on keys and values out of `cache_write`, whose layout and "
   "codes a kernel reads as they lie.", **ATTENTION)
op("hadamard", "Vectors along an axis (-1: the last; 0: of a weight's rows; 1: of the rows of a bank [E, rows, columns]) times an orthonormal matrix over blocks of `size`, or, with "
   "`inverse`, times its transpose. `hadamard` is Sylvester's matrix for powers of two; other sizes are K * 2^m with a known matrix of size K "
   "(multiples of 4 up to 256). `random_hadamard` is that of compressed-tensors: signs of a fixed seed, of which others took the first `drawn`, "
   "then the largest known K. Sums in `compute`, the normalising factor, one rounding (from f64: to f32, then to the type).", ["x: float"],
   ["size: int!", "matrix: word(hadamard|random_hadamard) = hadamard", "inverse: bool = false", "axis: int = -1",
    "compute: word(f32|f64) = f32", "drawn: int = 0"], traits=["same_type"], verify=True)
op("center", "x minus the mean of its last dimension, both in f64, rounded to f32 and then to the type of x.", ["x: float"],
   traits=["same_type"])

op("latent_kv", "What a latent cache (MLA) holds for a token: the compressed latent [B, 1, S, r] and the shared rotated key [B, 1, S, d], "
   "[B, 1, S, r + d].", ["latent: float", "rope: float"], decomposition="""
  %y = concat %latent, %rope {axis = -1}
""")

# ---- mixtures of experts ------------------------------------------------------------------------------------

op("topk", "The indices, i32, of the k largest elements of the last dimension, largest first; of equals the first.", ["x: float"], ["k: int!"])
op("take", "The elements of the last dimension of x [.., n] at ids [.., k].", ["x", "ids: int"])
op("mask_groups", "The last dimension of x split in `groups` of neighbours: where the group's number is not in ids [.., g], `fill`.",
   ["x: float", "ids: int"], ["groups: int!", "fill: float = 0.0"])
op("expert_rows", "What each expert works on, i32[3, R], for the experts that tokens chose, ids [B, S, k]. Columns are ordered by expert, then "
   "token. Row 0: the expert; row 1: the token b * S + s; row 2: the slot of ids. R = B * S * k, or, with `all`, every token for every "
   "expert, R = E * B * S, and -1 for the slot of a pair that was not chosen. `min_tokens` and `fallback` are for the observers to come: see "
   "observe.", ["ids: int"], ["experts: int!", "all: bool = false", "min_tokens: int = 1", "fallback: word(refuse|layer|weights) = refuse"])
op("expert_gather", "Row r is the token rows[1, r] of x [B, S, n]: [R, n].", ["x: float", "rows: int"])
op("expert_score", "Row r is the weight in w [B, S, k] of its token and slot: [R, 1]. For a pair that was not chosen 0, or, with "
   "`unrouted = first`, the weight of slot 0.", ["w: float", "rows: int"], ["unrouted: word(zero|first) = zero"])
op("expert_param", "Row r is the parameter of its expert, in p [E, n] or [E, 1, n]: [R, n].", ["p", "rows: int"])
op("expert_linear", "`linear` of each row of x [R, in] by its expert in w [E, out, in] and bias [E, out]: [R, out]. `module`: the Linear modules "
   "below the op's own that it stands for, as {e}.gate_proj with {e} for the number; none while experts are one tensor.",
   ["x: float", "w: float", "rows: int", "bias?: float"], ["module: string"], traits=["identity"])
op("expert_combine", "The sum of each token's chosen rows of y [R, n], in the order of experts, in f32, rounded after each addition or once: "
   "[B, S, n] for ids [B, S, k]. Rows of pairs that were not chosen are left out.", ["y: float", "rows: int", "ids: int"],
   ["sum: word(each|once) = each"])

# ---- state --------------------------------------------------------------------------------------------------

op("cache_append",
   "Puts x [B, G, S, d] behind what earlier calls left in this cache and gives all of it, [B, G, P+S, d]. The cache is named by "
   "the module and `slot`; k_scale and v_scale hold scales that are made as the model runs.", ["x"],
   ["slot: word(k|v|k_scale|v_scale)!"], traits=["effect", "identity", "typed"], infer=False, verify=True)
op("cache_write",
   "`cache_append` in lowered form: stores x, or with `scheme` the codes that `quantize` makes of it under the scale and global scale, in "
   "pages of `page` tokens, and gives all that the cache holds. A page is [page, G, d] (nhd) or [G, page, d] (hnd); the codes of a token and "
   "head lie densely, low bits first, from a whole byte on.", ["x", "scale?: float", "global?: float"],
   ["slot: word(k|v|k_scale|v_scale)!", "scheme: symbol", "arg: word(input|weights) = input", "layout: word(nhd|hnd) = nhd",
    "page: int = 16"], traits=["effect", "identity", "typed"], infer=False, verify=True)
op("cache_read",
   "The values of a cache, for readers other than attention: codes dequantized to `to` under their scale (as `dequantize`), anything else cast.",
   ["x", "scale?: float", "global?: float"], ["to: dtype!", "group: int = 0"], decomposition="""
  ?scale !global %y = dequantize %x, %scale {group = ${group}, to = ${to}}
  ?scale ?global %y = dequantize %x, %scale, global=%global {group = ${group}, to = ${to}}
  !scale %y = cast %x {to = ${to}}
""")

# ---- quantization -------------------------------------------------------------------------------------------

op("observe",
   "Running statistics of x over all calibration data. Granularity tensor: [2, 1], head: [2, heads] of x [B, heads, S, d], channel: "
   "[2, heads, d] of such x; row 0 is "
   "the minimum, row 1 the maximum, one range a sequence, folded as `observer` says (`averaging` is the weight of a new sequence "
   "in a moving average). Observers that search (mse, memoryless_mse, nvfp4_expanded_mse, mse_mean) take from each sequence the range with the "
   "least error under part `arg` of `scheme`; percentile and recall_window the least range that holds the share of the values that `args` "
   "says. Granularity channel, with `observer = imatrix`: the mean of the squares of each column, with `mean`: the mean; f32[columns], "
   "of x [B, heads, S, d] f32[heads, 1, d]. Granularity expert, with rows: [2, experts] of x [R, n], {e} in the tap stands for the number; "
   "experts that saw fewer than `min_tokens` tokens are an error, or get the widest range of the others of the layer, or that of "
   "their weights in w [experts, out, n], as `fallback` says. Calibration replaces it by its result.",
   ["x: float", "rows?: int", "w?: float"], ["tap: string!", "observer: word(static_minmax|memoryless_minmax|minmax|mse|memoryless_mse|nvfp4_expanded_mse|mse_mean|"
                  "percentile|recall_window|imatrix|mean) = static_minmax",
                  "granularity: word(tensor|head|channel|expert)!", "averaging: float = 0.01", "args: map", "scheme: symbol",
                  "arg: word(input|weights) = input", "experts: int = 0", "min_tokens: int = 1",
                  "fallback: word(refuse|layer|weights) = refuse"], traits=["identity"], verify=True)
op("qparams",
   "The scale that part `arg` of a scheme gives to x (`from = data`) or to statistics [2, n] (`from = stat`) or [2, heads, d], which granularity channel needs "
   "and the others join, widened by the part's `headroom`, in the element type that "
   "the part names or that of x. Granularity tensor: [1]; head: [heads, 1, 1]; channel: [rows, 1], of x [B, heads, S, d] [heads, 1, d]; token: [..., 1]; group: [..., "
   "groups of columns]; block: [blocks of rows, blocks of columns]. With `experts = E` one for each expert, of a bank [E, rows, columns] or of "
   "statistics [2, E]: [E, 1, 1], [E, rows, 1], [E, rows, groups], [E, blocks, blocks]. With a global scale it is relative to that. `importance` weighs "
   "the columns where the observer asks for it. The arithmetic is the row `arith` of the scheme.",
   ["x: float", "global?: float", "importance?: float"],
   ["scheme: symbol!", "arg: word(input|weights)!", "from: word(data|stat) = data", "experts: int = 0"], results=["scale"],
   traits=["identity"], verify=True)
op("zero_point",
   "The code that stands for 0 under an asymmetric part of a scheme: from the same range and of the same shape as the scale of "
   "qparams.", ["x: float", "importance?: float"],
   ["scheme: symbol!", "arg: word(input|weights)!", "from: word(data|stat) = data", "experts: int = 0"], results=["zero_point"],
   traits=["identity"], verify=True)
op("global_scale",
   "The scale of scales, f32[1]: largest scale times largest code, over the largest absolute value of all operands (`from = data`) or "
   "of their statistics [2, n] or [2, heads, d] (`from = stat`), in the arithmetic of the scheme. Several operands share it. With `experts = E` f32[E, 1, 1], one for each expert.",
   ["importance?: float", "xs...: float"],
   ["scheme: symbol!", "arg: word(input|weights)!", "from: word(data|stat) = data", "experts: int = 0"], results=["global"],
   traits=["identity"], verify=True)
op("quantize",
   "Codes of x under a scale: saturate(round(x / scale + zero point)) in the arithmetic of the scheme; with a global scale the scale "
   "is divided by it first.", ["x: float", "scale: float", "global?: float", "zero_point?"],
   ["scheme: symbol!", "arg: word(input|weights)!"], traits=["identity"], verify=True)
op("dequantize",
   "(code - zero point) * scale, rounded to `to`; with a global scale the scale is divided by it first. A scale of x's rank has one "
   "element for each `group` columns or each `block` of [rows, columns]; without them it broadcasts.",
   ["x", "scale: float", "global?: float", "zero_point?"], ["to: dtype!", "group: int = 0", "block: list"], verify=True)
op("unpack",
   "Codes out of the words of a file. f4e2m1 out of bytes, the first code in the low half; f8e8m0 out of bytes, which file formats of "
   "MX call them; integers of b bits out of i32 words along `axis`, least significant bits first, stored with 2^(b-1) added. x [rows, columns] or a bank "
   "[experts, rows, columns], whose columns are axis 2 (or -1).", ["x: int"], ["axis: int = 1"], traits=["typed"],
   infer=False, verify=True)
op("keep", "A weight that no op of this module reads, but a checkpoint holds: models imported as tensors consist of these.",
   ["x: float"], traits=["effect", "identity", "same_type"])
