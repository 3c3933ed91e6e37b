/* SPDX-License-Identifier: MIT
 *
 * executor_ops.h - part of test_executor.c: functions as IR text over a checkpoint that the test writes,
 * on the host against the reference semantics.
 */
#ifndef QC_TESTS_EXECUTOR_OPS_H
#define QC_TESTS_EXECUTOR_OPS_H

/* A checkpoint of one tensor `table` [rows, columns] bf16 of random values, in a directory of its own. */
static bool write_table(model *m, const char *name, size_t rows, size_t columns)
{
    qc_arena *arena = qc_ctx_arena(m->ctx);
    qc_diag *diag = qc_ctx_diag(m->ctx);
    int64_t shape[2] = {(int64_t)rows, (int64_t)columns};
    qc_st_out out = {.name = name, .dtype = "BF16", .rank = 2, .shape = shape};
    snprintf(m->directory, sizeof m->directory, "qc-test-executor-XXXXXX");
    if (!mkdtemp(m->directory)) {
        m->directory[0] = 0;
        return false;
    }
    out.user = random_values(7, rows * columns, QC_BF16, 0.5);
    bool ok = write_shard(diag, arena, m->directory, &out, 1);
    free(out.user);
    return ok;
}

/* Long sums and few columns: a product of K = 4608 with N = 24, on any number of threads, alone and many. */
static void test_shapes(void)
{
    static const char text[] = "qc 1\n"
                               "dim B, S, P\n"
                               "func @main(%ids: i64[B, S]) -> bf16[B, S, 24] {\n"
                               "  %w = weight \"table\" : bf16[24, 4608]\n"
                               "  %h = embedding %ids, %w : bf16[B, S, 4608]\n"
                               "  %y = linear %h, %w : bf16[B, S, 24]\n"
                               "  return %y\n"
                               "}\n";
    static const int threads[] = {1, 2, 3, 7};
    model m;
    float *first = NULL;
    begin(&m);
    if (!write_table(&m, "table", 24, 4608))
        SKIP("no directory can be made here");
    if (!parse(&m, text))
        return;
    take_ids(&m, 3, 70, 24);
    for (size_t t = 0; t < 4; t++)
        for (size_t repeat = 1; repeat <= 5; repeat += 4) {
            if (!load(&m, threads[t], QC_BACKEND_HOST))
                return;
            float *logits = run_all(&m, repeat);
            for (size_t i = 0; first && i < repeat; i++)
                CHECK(memcmp(logits + i * 3 * 70 * 24, first, 3 * 70 * 24 * sizeof *first) == 0);
            if (first)
                free(logits);
            else
                first = logits;
        }
    if (!load(&m, 1, QC_BACKEND_REFERENCE))
        return;
    float *reference = run_all(&m, 1);
    difference d = compare(first, reference, 3 * 70 * 24);
    CHECK(d.max <= 0.004 * d.range); /* a unit of bf16 */
    free(reference);
    free(first);
    end(&m);
}

/* Ops that have kernels, have none, and change layouts, in one function; %x is [B, S, 32]. */
static const char *const bodies[] = {
    "%y = gelu_tanh %x : TYPE",
    "%a = sigmoid %x : TYPE\n  %b = tanh %a : TYPE\n  %y = div %b, %a : TYPE",
    "%a = silu %x : TYPE\n  %y = mul %x, %a : TYPE",
    "%a = silu %x : TYPE\n  %b = mul %a, %x : TYPE\n  %y = add %b, %a : TYPE",
    "%c = const [0.5] : D[1]\n  %a = add %c, %x : TYPE\n  %y = sub %a, %c : TYPE",
    "%c = const [2.0] : D[1]\n  %a = sub %c, %x : TYPE\n  %y = maximum %a, %x : TYPE",
    "%a = cast %x {to = f32} : f32[B, S, 32]\n  %b = reduce_mean %a : f32[B, S, 1]\n"
    "  %c = sub %a, %b : f32[B, S, 32]\n  %y = cast %c {to = D} : TYPE",
    "%a = reshape %x : D[B, S, 4, 8]\n  %b = transpose %a {perm = [0, 2, 1, 3]} : D[B, 4, S, 8]\n"
    "  %c = hadamard %b {size = 8} : D[B, 4, S, 8]\n  %y = merge_heads %c : TYPE",
    "%a = split_heads %x {heads = 4} : D[B, 4, S, 8]\n  %b = rotate_half %a : D[B, 4, S, 8]\n"
    "  %c = add %a, %b : D[B, 4, S, 8]\n  %y = merge_heads %c : TYPE",
    "%a = slice %x {axis = 2, start = 0, stop = 16} : D[B, S, 16]\n"
    "  %b = slice %x {axis = 2, start = 16, stop = 32} : D[B, S, 16]\n"
    "  %y = concat %b, %a {axis = 2} : TYPE",
    "%a = split_heads %x {heads = 4} : D[B, 4, S, 8]\n  %p = positions %ids : i64[B, S]\n"
    "  %r = rope %a, %p {scaling = {factor = 2.0, max_position_embeddings = 8, type = dynamic}, tables = D, "
    "theta = 10000.0} : D[B, 4, S, 8]\n"
    "  %k = cache_append %r {slot = k} : D[B, 4, P + S, 8]\n  %v = cache_append %a {slot = v} : D[B, 4, P + "
    "S, 8]\n"
    "  %o = attention %r, %k, %v {causal, probs = D, scale = 0.35, scores = D, softmax = f32, window = 5} : "
    "D[B, 4, S, 8]\n"
    "  %y = merge_heads %o : TYPE",
    "%a = split_heads %x {heads = 4} : D[B, 4, S, 8]\n  %p = positions %ids : i64[B, S]\n"
    "  %r = rope %a, %p {dims = 4, scaling = {attention_factor = 1.25, long_factor = [3.0, 7.5], "
    "original_max_position_embeddings = 8, short_factor = [1.0, 1.5], type = longrope}, tables = D, "
    "theta = 10000.0} : D[B, 4, S, 8]\n  %y = merge_heads %r : TYPE",
    "%a = split_heads %x {heads = 4} : D[B, 4, S, 8]\n  %k = cache_append %a {slot = k} : D[B, 4, P + S, 8]\n"
    "  %o = attention %a, %k, %k {causal, probs = D, scale = 0.35, scores = D, softmax = D} : D[B, 4, S, 8]\n"
    "  %y = merge_heads %o : TYPE",
    "%s = qparams %x {arg = input, scheme = @d} : D[B, S, 1]\n"
    "  %c = quantize %x, %s {arg = input, scheme = @d} : f8e4m3[B, S, 32]\n  %y = dequantize %c, %s {to = D} "
    ": TYPE",
    "%a = split_heads %x {heads = 4} : D[B, 4, S, 8]\n"
    "  %s = qparams %a {arg = input, scheme = @d} : D[B, 4, S, 1]\n"
    "  %c = quantize %a, %s {arg = input, scheme = @d} : f8e4m3[B, 4, S, 8]\n"
    "  %d = dequantize %c, %s {to = D} : D[B, 4, S, 8]\n  %y = merge_heads %d : TYPE",
    "%s = qparams %w {arg = weights, scheme = @d} : D[40, 1]\n"
    "  %c = quantize %w, %s {arg = weights, scheme = @d} : f8e4m3[40, 32]\n"
    "  %d = dequantize %c, %s {to = D} : D[40, 32]\n  %a = linear %x, %d : D[B, S, 40]\n"
    "  %y = slice %a {axis = 2, start = 4, stop = 36} : TYPE",
    "%s = qparams %x {arg = input, scheme = @t} : D[1]\n"
    "  %c = quantize %x, %s {arg = input, scheme = @t} : i8[B, S, 32]\n  %y = dequantize %c, %s {to = D} : "
    "TYPE",
    "%a = split_heads %x {heads = 4} : D[B, 4, S, 8]\n  %s = const [0.5, 0.25, 1.0, 0.125] : D[4, 1, 1]\n"
    "  %c = quantize %a, %s {arg = input, scheme = @d} : f8e4m3[B, 4, S, 8]\n"
    "  %d = dequantize %c, %s {to = D} : D[B, 4, S, 8]\n  %y = merge_heads %d : TYPE",
    /* zero points, codes of 4 bits, groups (32 is no multiple of 5), exponents, a global scale */
    "%s = qparams %x {arg = input, scheme = @asym} : D[B, S, 1]\n"
    "  %z = zero_point %x {arg = input, scheme = @asym} : i8[B, S, 1]\n"
    "  %c = quantize %x, %s, zero_point=%z {arg = input, scheme = @asym} : i8[B, S, 32]\n"
    "  %y = dequantize %c, %s, zero_point=%z {to = D} : TYPE",
    "%s = qparams %x {arg = input, scheme = @four} : D[B, S, 7]\n"
    "  %z = zero_point %x {arg = input, scheme = @four} : i8[B, S, 7]\n"
    "  %c = quantize %x, %s, zero_point=%z {arg = input, scheme = @four} : i4[B, S, 32]\n"
    "  %y = dequantize %c, %s, zero_point=%z {group = 5, to = D} : TYPE",
    "%s = qparams %x {arg = input, scheme = @mx} : f8e8m0[B, S, 1]\n"
    "  %c = quantize %x, %s {arg = input, scheme = @mx} : f4e2m1[B, S, 32]\n"
    "  %y = dequantize %c, %s {group = 32, to = D} : TYPE",
    "%g = const [768.0] : f32[1]\n  %s = qparams %x, global=%g {arg = input, scheme = @nv} : f8e4m3[B, S, "
    "2]\n"
    "  %c = quantize %x, %s, global=%g {arg = input, scheme = @nv} : f4e2m1[B, S, 32]\n"
    "  %y = dequantize %c, %s, global=%g {group = 16, to = D} : TYPE",
    "%a = split_heads %x {heads = 2} : D[B, 2, S, 16]\n  %s = qparams %a {arg = input, scheme = @four} : "
    "D[B, 2, S, 4]\n"
    "  %z = zero_point %a {arg = input, scheme = @four} : i8[B, 2, S, 4]\n"
    "  %c = quantize %a, %s, zero_point=%z {arg = input, scheme = @four} : i4[B, 2, S, 16]\n"
    "  %d = dequantize %c, %s, zero_point=%z {group = 5, to = D} : D[B, 2, S, 16]\n  %y = merge_heads %d : "
    "TYPE",
    "%s = qparams %x {arg = input, scheme = @whole} : D[1]\n"
    "  %z = zero_point %x {arg = input, scheme = @whole} : i8[1]\n"
    "  %c = quantize %x, %s, zero_point=%z {arg = input, scheme = @whole} : i8[B, S, 32]\n"
    "  %y = dequantize %c, %s, zero_point=%z {to = D} : TYPE",
    "%m = const [-1.5, 2.25] : D[2, 1]\n  %s = qparams %m {arg = input, from = stat, scheme = @whole} : "
    "D[1]\n"
    "  %z = zero_point %m {arg = input, from = stat, scheme = @whole} : i8[1]\n"
    "  %c = quantize %x, %s, zero_point=%z {arg = input, scheme = @whole} : i8[B, S, 32]\n"
    "  %y = dequantize %c, %s, zero_point=%z {to = D} : TYPE",
    "%a = split_heads %x {heads = 4} : D[B, 4, S, 8]\n  %s = const [0.5, 0.25, 1.0, 0.125] : D[4, 1, 1]\n"
    "  %z = const [3, -3, 0, 100] : i8[4, 1, 1]\n"
    "  %c = quantize %a, %s, zero_point=%z {arg = input, scheme = @whole} : i8[B, 4, S, 8]\n"
    "  %d = dequantize %c, %s, zero_point=%z {to = D} : D[B, 4, S, 8]\n  %y = merge_heads %d : TYPE",
    /* a global scale that is made of the data has no kernel, nor has what depends on it */
    "%g = global_scale %x {arg = input, scheme = @nv} : f32[1]\n"
    "  %s = qparams %x, global=%g {arg = input, scheme = @nv} : f8e4m3[B, S, 2]\n"
    "  %c = quantize %x, %s, global=%g {arg = input, scheme = @nv} : f4e2m1[B, S, 32]\n"
    "  %y = dequantize %c, %s, global=%g {group = 16, to = D} : TYPE",
    /* weights */
    "%s = qparams %w {arg = weights, scheme = @four} : D[40, 4]\n"
    "  %z = zero_point %w {arg = weights, scheme = @four} : i8[40, 4]\n"
    "  %c = quantize %w, %s, zero_point=%z {arg = weights, scheme = @four} : i4[40, 32]\n"
    "  %d = dequantize %c, %s, zero_point=%z {group = 8, to = D} : D[40, 32]\n  %a = linear %x, %d : D[B, S, "
    "40]\n"
    "  %y = slice %a {axis = 2, start = 4, stop = 36} : TYPE",
    "%g = global_scale %w {arg = weights, scheme = @nv} : f32[1]\n"
    "  %s = qparams %w, global=%g {arg = weights, scheme = @nv} : f8e4m3[40, 2]\n"
    "  %c = quantize %w, %s, global=%g {arg = weights, scheme = @nv} : f4e2m1[40, 32]\n"
    "  %d = dequantize %c, %s, global=%g {group = 16, to = D} : D[40, 32]\n  %a = linear %x, %d : D[B, S, "
    "40]\n"
    "  %y = slice %a {axis = 2, start = 4, stop = 36} : TYPE",
    "%s = qparams %w {arg = weights, scheme = @mx} : D[3, 2]\n"
    "  %c = quantize %w, %s {arg = weights, scheme = @mx} : f8e4m3[40, 32]\n"
    "  %d = dequantize %c, %s {block = [16, 24], to = D} : D[40, 32]\n  %y = embedding %ids, %d : TYPE",
    /* rotations of every kind; a row of a tensor that lies by tokens subtracted, and one of scales */
    "%a = hadamard %x {size = 32, matrix = random_hadamard} : TYPE\n"
    "  %y = hadamard %a {size = 8, matrix = random_hadamard, inverse} : TYPE",
    "%a = hadamard %x {size = 16, compute = f64} : TYPE\n"
    "  %b = slice %a {axis = 2, start = 0, stop = 12} : D[B, S, 12]\n  %c = hadamard %b {size = 12} : D[B, "
    "S, 12]\n"
    "  %d = hadamard %c {size = 12, inverse} : D[B, S, 12]\n"
    "  %e = slice %a {axis = 2, start = 12, stop = 32} : D[B, S, 20]\n"
    "  %f = hadamard %e {size = 20, matrix = random_hadamard, compute = f64} : D[B, S, 20]\n"
    "  %y = concat %d, %f {axis = 2} : TYPE",
    "%a = split_heads %x {heads = 4} : D[B, 4, S, 8]\n  %m = const [-0.2421875, -0.1328125, -0.0234375, "
    "0.0859375, 0.1953125, -0.1953125, -0.0859375, 0.0234375, 0.1328125, 0.2421875, -0.1484375, -0.0390625, "
    "0.0703125, 0.1796875, -0.2109375, -0.1015625, 0.0078125, 0.1171875, 0.2265625, -0.1640625, -0.0546875, "
    "0.0546875, 0.1640625, -0.2265625, -0.1171875, -0.0078125, 0.1015625, 0.2109375, -0.1796875, -0.0703125, "
    "0.0390625, 0.1484375] : D[4, 1, 8]\n"
    "  %b = sub %a, %m : D[B, 4, S, 8]\n  %c = mul %m, %b : D[B, 4, S, 8]\n  %y = merge_heads %c : TYPE",
    "%a = split_heads %x {heads = 4} : D[B, 4, S, 8]\n  %s = const [0.125, 0.28125, 0.4375, 0.59375, 0.75, "
    "0.90625, 1.0625, 0.21875, 0.375, 0.53125, 0.6875, 0.84375, 1.0, 0.15625, 0.3125, 0.46875, 0.625, "
    "0.78125, 0.9375, 1.09375, 0.25, 0.40625, 0.5625, 0.71875, 0.875, 1.03125, 0.1875, 0.34375, 0.5, "
    "0.65625, 0.8125, 0.96875] : D[4, 1, 8]\n"
    "  %c = quantize %a, %s {arg = input, scheme = @t} : i8[B, 4, S, 8]\n"
    "  %d = dequantize %c, %s {to = D} : D[B, 4, S, 8]\n  %y = merge_heads %d : TYPE",
    /* NVFP4 of heads, its scales searched for */
    "%a = split_heads %x {heads = 2} : D[B, 2, S, 16]\n  %g = const [640.0] : f32[1]\n"
    "  %s = qparams %a, global=%g {arg = input, scheme = @searched} : f8e4m3[B, 2, S, 1]\n"
    "  %c = quantize %a, %s, global=%g {arg = input, scheme = @searched} : f4e2m1[B, 2, S, 16]\n"
    "  %d = dequantize %c, %s, global=%g {group = 16, to = D} : D[B, 2, S, 16]\n  %y = merge_heads %d : TYPE",
    "%a = split_heads %x {heads = 2} : D[B, 2, S, 16]\n  %g = const [640.0] : f32[1]\n"
    "  %s = qparams %a, global=%g {arg = input, scheme = @four_six} : f8e4m3[B, 2, S, 1]\n"
    "  %c = quantize %a, %s, global=%g {arg = input, scheme = @four_six} : f4e2m1[B, 2, S, 16]\n"
    "  %d = dequantize %c, %s, global=%g {group = 16, to = D} : D[B, 2, S, 16]\n  %y = merge_heads %d : TYPE",
    "%a = linear %x, %w : D[B, S, 40]\n  %b = slice %a {axis = 2, start = 4, stop = 36} : TYPE\n"
    "  %y = softmax %b : TYPE",
};

static void check_body(const char *body, const char *dtype, double tolerance)
{
    model m;
    begin(&m);
    if (!write_table(&m, "table", 40, 32))
        SKIP("no directory can be made here");
    if (parse(&m, fill_in(&m, body, dtype))) {
        take_ids(&m, 2, 21, 32);
        if (load(&m, 3, QC_BACKEND_HOST)) {
            float *host = run_all(&m, 3);
            if (load(&m, 3, QC_BACKEND_REFERENCE)) {
                float *reference = run_all(&m, 1);
                difference d = compare(host, reference, 2 * 21 * 32);
                if (!(d.max <= tolerance * d.range) || !(d.range > 0))
                    CHECK_FAIL("%s in %s: max %.3g of range %.3g", body, dtype, d.max, d.range);
                free(reference);
            }
            free(host);
        }
    }
    end(&m);
}

static void test_every_op(void)
{
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        check_body(bodies[i], "f32", 1e-6);
        check_body(bodies[i], "bf16", 0.004);
        check_body(bodies[i], "f16", 0.0005);
    }
}

/* More groups in a row than a piece of work holds scales for. */
static void test_many_groups(void)
{
    static const char text[] =
        "qc 1\ndim B, S, P\n"
        "scheme @g {arith = ct_cpu, input = {dynamic, granularity = group, group = 2, type = i8}, targets = "
        "[\"a\"]}\n"
        "func @main(%ids: i64[B, S]) -> bf16[B, S, 9001] {\n"
        "  %w = weight \"table\" : bf16[24, 9001]\n"
        "  %x = embedding %ids, %w : bf16[B, S, 9001]\n"
        "  %s = qparams %x {arg = input, scheme = @g} : bf16[B, S, 4501]\n"
        "  %z = zero_point %x {arg = input, scheme = @g} : i8[B, S, 4501]\n"
        "  %c = quantize %x, %s, zero_point=%z {arg = input, scheme = @g} : i8[B, S, 9001]\n"
        "  %y = dequantize %c, %s, zero_point=%z {group = 2, to = bf16} : bf16[B, S, 9001]\n"
        "  return %y\n}\n";
    model m;
    begin(&m);
    if (!write_table(&m, "table", 24, 9001))
        SKIP("no directory can be made here");
    if (parse(&m, text) && load(&m, 3, QC_BACKEND_HOST)) {
        take_ids(&m, 1, 19, 24);
        float *host = run_all(&m, 1);
        if (load(&m, 1, QC_BACKEND_REFERENCE)) {
            float *reference = run_all(&m, 1);
            CHECK(memcmp(host, reference, 19 * 9001 * sizeof *host) == 0);
            free(reference);
        }
        free(host);
    }
    end(&m);
}

/* Inputs that no scale can be given to: the row is named. */
static void test_not_finite(void)
{
    static const char *const bodies_of[] = {"token", "tensor"};
    static const char *const shapes[] = {"B, S, 1", "1"};
    static const char *const says[] = {
        "row 1 has values that are not finite", "it has values that are not finite"};
    for (size_t i = 0; i < 2; i++) {
        model m;
        float logits[24];
        static const int32_t ids[] = {0, 1, 0};
        begin(&m);
        const char *text = qc_arena_printf(qc_ctx_arena(m.ctx),
            "qc 1\ndim B, S, P\nscheme @g {arith = ct_cpu, input = {dynamic, granularity = %s, symmetric, "
            "type = i8}, "
            "targets = [\"a\"]}\nfunc @main(%%ids: i64[B, S]) -> f32[B, S, 4] {\n"
            "  %%w = const [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 3e38] : f32[2, 4]\n"
            "  %%e = embedding %%ids, %%w : f32[B, S, 4]\n  %%x = add %%e, %%e : f32[B, S, 4]\n"
            "  %%s = qparams %%x {arg = input, scheme = @g} : f32[%s]\n"
            "  %%c = quantize %%x, %%s {arg = input, scheme = @g} : i8[B, S, 4]\n"
            "  %%y = dequantize %%c, %%s {to = f32} : f32[B, S, 4]\n  return %%y\n}\n",
            bodies_of[i], shapes[i]);
        if (parse(&m, text) && load(&m, 2, QC_BACKEND_HOST)) {
            qc_session *session = qc_session_create(m.executor, 3);
            CHECK_INT(qc_session_run(session, ids, 3, false, logits), QC_ERROR);
            CHECK(said(&m.said, says[i]));
            qc_session_destroy(session);
        }
        end(&m);
    }
}

#endif

/* ---- functions that are no model ------------------------------------------------------------------------- */

/* Both backends read [S, vocabulary] floats of the result, so nothing else may get as far. */
static void test_signatures(void)
{
    static const struct {
        const char *text, *error;
    } cases[] = {
        {"(%ids: i64[B, S]) -> i64[B, S] {\n  return %ids\n", "gives i64[B, S], not logits"},
        {"(%ids: i64[B, S]) -> f32[B, 1, 4] {\n  %x = embedding %ids, %w : f32[B, S, 4]\n"
         "  %y = slice %x {axis = 1, start = 0, stop = 1} : f32[B, 1, 4]\n  return %y\n",
            "gives f32[B, 1, 4], not logits"},
        {"(%ids: i64[B, S]) -> f64[B, S, 4] {\n  %x = embedding %ids, %w : f32[B, S, 4]\n"
         "  %y = cast %x {to = f64} : f64[B, S, 4]\n  return %y\n",
            "gives f64[B, S, 4], not logits"},
        {"(%ids: i32[B, S]) -> f32[B, S, 4] {\n  %y = embedding %ids, %w : f32[B, S, 4]\n  return %y\n",
            "ids i64[B, S] alone"},
        {"() -> f32[2, 4] {\n  return %w\n", "ids i64[B, S] alone"},
    };
    static const char constant[] = "  %w = const [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0] : f32[2, 4]\n";
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        model m;
        begin(&m);
        const char *brace = strchr(cases[i].text, '\n') + 1;
        if (parse(&m, qc_arena_printf(qc_ctx_arena(m.ctx), "qc 1\ndim B, S, P\nfunc @main%.*s%s%s}\n",
                          (int)(brace - cases[i].text), cases[i].text, constant, brace)))
            for (int k = 0; k < 2; k++) {
                qc_backend backend = k ? QC_BACKEND_REFERENCE : QC_BACKEND_HOST;
                m.executor = qc_executor_create(m.ctx, m.module, &(qc_executor_options){.backend = backend});
                CHECK(m.executor == NULL);
                CHECK(said(&m.said, cases[i].error));
            }
        end(&m);
    }
}

/* Attention without a cache sees the tokens of its own call alone: one call works, a second would be wrong. */
static void test_without_cache(void)
{
    static const char text[] =
        "qc 1\ndim B, S, P\nfunc @main(%ids: i64[B, S]) -> f32[B, S, 4] {\n"
        "  %w = const [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0] : f32[2, 4]\n"
        "  %x = embedding %ids, %w : f32[B, S, 4]\n  %q = split_heads %x {heads = 1} : f32[B, 1, S, 4]\n"
        "  %o = attention %q, %q, %q {causal, probs = f32, scale = 1.0, scores = f32, softmax = f32} : "
        "f32[B, 1, S, 4]\n"
        "  %y = merge_heads %o : f32[B, S, 4]\n  return %y\n}\n";
    static const int32_t ids[] = {0, 1, 1};
    for (int k = 0; k < 2; k++) {
        model m;
        float logits[12];
        begin(&m);
        if (parse(&m, text) && load(&m, 1, k ? QC_BACKEND_REFERENCE : QC_BACKEND_HOST)) {
            qc_session *session = qc_session_create(m.executor, 3);
            CHECK_INT(qc_session_run(session, ids, 2, false, logits), QC_OK);
            CHECK(logits[0] == 1.0f && logits[3] == 4.0f);
            CHECK_INT(qc_session_run(session, ids + 2, 1, false, logits), QC_ERROR);
            CHECK(said(&m.said, "its attention reads no KV cache"));
            qc_session_clear(session);
            CHECK_INT(qc_session_run(session, ids, 3, true, logits), QC_OK);
            qc_session_destroy(session);
        }
        end(&m);
    }
}
