/* SPDX-License-Identifier: MIT
 *
 * test_executor_experts.c - layers of experts, and what more architectures ask of the other ops, as
 * functions over a checkpoint that the test writes, on the host against the reference semantics; and against
 * themselves, token by token through the cache.
 */
#include "tests/unit/executor_model.h"

enum { EXPERTS = 6, TENSORS = 64 };

typedef struct tensors {
    qc_st_out all[TENSORS];
    int64_t shapes[TENSORS][3];
    size_t count;
} tensors;

static void add_tensor(
    qc_arena *arena, tensors *t, const char *name, int64_t experts, int64_t rows, int64_t columns)
{
    int64_t *shape = t->shapes[t->count];
    int first = 0;
    if (experts)
        shape[first++] = experts;
    if (rows)
        shape[first++] = rows;
    shape[first++] = columns;
    size_t count = (size_t)((experts ? experts : 1) * (rows ? rows : 1) * columns);
    t->all[t->count] = (qc_st_out){.name = qc_arena_strdup(arena, name),
        .dtype = "BF16",
        .rank = first,
        .shape = shape,
        .user = random_values(100 + (uint32_t)t->count, count, QC_BF16, 0.5)};
    t->count++;
}

/* table [40, 32], router [6, 32], sinks [4]; of each of six experts gate, up [48, 32], down [32, 48], bias [48]; the same of all
 * as one tensor, turned: fused [6, 32, 96]. */
static bool write_experts(model *m)
{
    qc_arena *arena = qc_ctx_arena(m->ctx);
    tensors *t = QC_NEW(arena, tensors);
    snprintf(m->directory, sizeof m->directory, "qc-test-executor-XXXXXX");
    if (!mkdtemp(m->directory)) {
        m->directory[0] = 0;
        return false;
    }
    add_tensor(arena, t, "table", 0, 40, 32);
    add_tensor(arena, t, "router", 0, EXPERTS, 32);
    add_tensor(arena, t, "sinks", 0, 0, 4);
    for (int e = 0; e < EXPERTS; e++) {
        add_tensor(arena, t, qc_arena_printf(arena, "e.%d.gate", e), 0, 48, 32);
        add_tensor(arena, t, qc_arena_printf(arena, "e.%d.up", e), 0, 48, 32);
        add_tensor(arena, t, qc_arena_printf(arena, "e.%d.down", e), 0, 32, 48);
        add_tensor(arena, t, qc_arena_printf(arena, "e.%d.bias", e), 0, 0, 48);
    }
    add_tensor(arena, t, "fused", EXPERTS, 32, 96);
    bool ok = write_shard(qc_ctx_diag(m->ctx), arena, m->directory, t->all, t->count);
    for (size_t i = 0; i < t->count; i++)
        free(t->all[i].user);
    return ok;
}

/* Two experts a token; their rows in %xs, their scores in %sc. */
#define ROUTED                                                                                               \
    "  %p = softmax %logits\n  %ids2 = topk %p {k = 2}\n  %s = take %p, %ids2\n"                             \
    "  %sum = reduce_sum %s\n  %s1 = div %s, %sum\n  %rows = expert_rows %ids2 {experts = 6}\n"              \
    "  %xs = expert_gather %x, %rows\n  %sc = expert_score %s1, %rows\n"
#define EXPERT_WEIGHT(name, tensor, shape)                                                                   \
    "  %" name "b = expert_weight \"e.{e}." tensor "\" : bf16" shape "\n  %" name " = cast %" name           \
    "b {to = D}\n"
#define DOWN_WEIGHT EXPERT_WEIGHT("wd", "down", "[6, 32, 48]")
#define SPLIT_WEIGHTS                                                                                        \
    EXPERT_WEIGHT("wg", "gate", "[6, 48, 32]") EXPERT_WEIGHT("wu", "up", "[6, 48, 32]") DOWN_WEIGHT
#define FUSED_WEIGHT "  %fb = weight \"fused\" : bf16[6, 32, 96]\n  %f = cast %fb {to = D}\n"
#define PRODUCTS                                                                                             \
    "  %g = expert_linear %xs, %wg, %rows\n  %u = expert_linear %xs, %wu, %rows\n  %a = silu %g\n"           \
    "  %h = mul %a, %u\n  %o = expert_linear %h, %wd, %rows\n"
#define COMBINED "  %os = mul %o, %sc\n  %y = expert_combine %os, %rows, %ids2\n"

/* %x is [B, S, 32] of D, %logits [B, S, 6] of f32. */
static const char *const expert_bodies[] = {
    ROUTED SPLIT_WEIGHTS PRODUCTS COMBINED,
    /* every token through every expert: the same sums */
    "  %p = softmax %logits\n  %ids2 = topk %p {k = 2}\n  %s = take %p, %ids2\n"
    "  %rows = expert_rows %ids2 {experts = 6, all}\n"
    "  %xs = expert_gather %x, %rows\n  %sc = expert_score %s, %rows\n" SPLIT_WEIGHTS PRODUCTS COMBINED,
    /* scores scale the input; one rounding; the shared part through a gate */
    "  %ids2 = topk %logits {k = 1}\n  %t = take %logits, %ids2\n  %s = sigmoid %t\n"
    "  %rows = expert_rows %ids2 {experts = 6, all}\n  %xs0 = expert_gather %x, %rows\n"
    "  %sc = expert_score %s, %rows {unrouted = first}\n  %xs = mul %xs0, %sc\n" SPLIT_WEIGHTS PRODUCTS
    "  %z = expert_combine %o, %rows, %ids2 {sum = once}\n"
    "  %one = slice %x {axis = 2, start = 3, stop = 4}\n  %gate = sigmoid %one\n  %zs = mul %gate, %x\n  %y "
    "= add "
    "%z, %zs",
    /* groups of experts: the best two of three by the sum of their two; a bias only chooses */
    "  %p = sigmoid %logits\n  %b = const [0.125, -0.25, 0.0, 0.5, -0.125, 0.25] : f32[6]\n  %c = add %p, "
    "%b\n"
    "  %c4 = reshape %c : f32[B, S, 3, 2]\n  %i4 = topk %c4 {k = 2}\n  %t4 = take %c4, %i4\n"
    "  %g4 = reduce_sum %t4\n  %g3 = reshape %g4 : f32[B, S, 3]\n  %groups = topk %g3 {k = 2}\n"
    "  %masked = mask_groups %c, %groups {groups = 3, fill = -1.0}\n  %ids2 = topk %masked {k = 3}\n"
    "  %s = take %p, %ids2\n  %rows = expert_rows %ids2 {experts = 6}\n"
    "  %xs = expert_gather %x, %rows\n  %sc = expert_score %s, %rows\n" SPLIT_WEIGHTS PRODUCTS COMBINED,
    /* fused, turned, interleaved, with biases and a clamp; parts of products and parts of weights */
    ROUTED FUSED_WEIGHT "  %ft = transpose %f {perm = [0, 2, 1]}\n" EXPERT_WEIGHT("b", "bias", "[6, 48]")
        DOWN_WEIGHT
    "  %twice = concat %b, %b {axis = 1}\n"
    "  %gu = expert_linear %xs, %ft, %rows, bias=%twice\n"
    "  %g = slice %gu {axis = 1, start = 0, stop = 96, step = 2}\n"
    "  %u = slice %gu {axis = 1, start = 1, stop = 96, step = 2}\n"
    "  %limit = const [0.75] : f32[1]\n  %gl = minimum %g, %limit\n  %a = silu %gl\n  %one = fill {value = "
    "1.0} : f32[1]\n"
    "  %u1 = add %u, %one\n  %h = mul %u1, %a\n"
    "  %o = expert_linear %h, %wd, %rows\n" COMBINED,
    ROUTED FUSED_WEIGHT DOWN_WEIGHT
    "  %f0 = slice %f {axis = 2, start = 0, stop = 96, step = 2}\n"
    "  %f1 = slice %f {axis = -1, start = 1, stop = 96, step = 2}\n"
    "  %wg = transpose %f0 {perm = [0, 2, 1]}\n  %wu = transpose %f1 {perm = [0, 2, 1]}\n" PRODUCTS COMBINED,
    /* weights under a scale for each row, group or block, or with a global scale; every expert by itself */
    ROUTED SPLIT_WEIGHTS "  %s8 = qparams %wg {arg = weights, experts = 6, scheme = @d}\n"
                         "  %c8 = quantize %wg, %s8 {arg = weights, scheme = @d}\n  %w8 = "
                         "dequantize %c8, %s8 {to = D}\n"
                         "  %gn = global_scale %wu {arg = weights, experts = 6, scheme = @nv}\n"
                         "  %sn = qparams %wu, global=%gn {arg = weights, experts = 6, scheme = @nv}\n"
                         "  %cn = quantize %wu, %sn, global=%gn {arg = weights, scheme = @nv}\n"
                         "  %wn = dequantize %cn, %sn, global=%gn {group = 16, to = D}\n"
                         "  %sb = qparams %wd {arg = weights, experts = 6, scheme = @mx}\n"
                         "  %cb = quantize %wd, %sb {arg = weights, scheme = @mx}\n"
                         "  %wb = dequantize %cb, %sb {block = [16, 24], to = D}\n"
                         "  %g = expert_linear %xs, %w8, %rows\n  %u = expert_linear %xs, %wn, %rows\n  %a = "
                         "silu %g\n  %h = mul %a, "
                         "%u\n  %o = expert_linear %h, %wb, %rows\n" COMBINED,
    /* inputs under scales of their rows, of all, and of their experts */
    ROUTED SPLIT_WEIGHTS
    "  %q0 = qparams %xs {arg = input, scheme = @d}\n  %c0 = quantize %xs, %q0 {arg = input, scheme = @d}\n"
    "  %x0 = dequantize %c0, %q0 {to = D}\n  %q1 = const [0.0078125] : D[1]\n"
    "  %c1 = quantize %xs, %q1 {arg = input, scheme = @t}\n  %x1 = dequantize %c1, %q1 {to = D}\n"
    "  %g = expert_linear %x0, %wg, %rows\n  %u = expert_linear %x1, %wu, %rows\n  %a = silu %g\n  %h = mul "
    "%a, "
    "%u\n  %qe = const [0.0078125, 0.01171875, 0.001953125, 0.03125, 0.00390625, 0.0234375] : D[6, 1, 1]\n"
    "  %qr = expert_param %qe, %rows\n  %c2 = quantize %h, %qr {arg = input, scheme = @t}\n"
    "  %x2 = dequantize %c2, %qr {to = D}\n  %o = expert_linear %x2, %wd, %rows\n" COMBINED,
    ROUTED SPLIT_WEIGHTS
    "  %ge = const [768.0, 512.0, 1000.0, 640.0, 333.0, 2048.0] : f32[6, 1, 1]\n"
    "  %gr = expert_param %ge, %rows\n  %q0 = qparams %xs, global=%gr {arg = input, scheme = @nv}\n"
    "  %c0 = quantize %xs, %q0, global=%gr {arg = input, scheme = @nv}\n"
    "  %x0 = dequantize %c0, %q0, global=%gr {group = 16, to = D}\n"
    "  %g = expert_linear %x0, %wg, %rows\n  %u = expert_linear %x0, %wu, %rows\n  %a = silu %g\n  %h = mul "
    "%a, "
    "%u\n"
    "  %gc = const [700.0] : f32[1]\n  %q1 = qparams %h, global=%gc {arg = input, scheme = @nv}\n"
    "  %c1 = quantize %h, %q1, global=%gc {arg = input, scheme = @nv}\n"
    "  %x1 = dequantize %c1, %q1, global=%gc {group = 16, to = D}\n  %o = expert_linear %x1, %wd, "
    "%rows\n" COMBINED,
    /* norms */
    "  %w1 = slice %router {axis = 0, start = 0, stop = 1}\n  %wn = reshape %w1 : D[32]\n"
    "  %a = rmsnorm %x, %wn {eps = 0.000001, offset = 1.0, round = after}\n"
    "  %b = rmsnorm %a, %wn {eps = 0.00001, round = after}\n  %y = rmsnorm %b, %wn {eps = 0.00001, offset = "
    "0.5}",
    /* rotations: neighbours, the first columns, both; a temperature; a latent and its heads */
    "  %a = split_heads %x {heads = 2}\n  %p = positions %ids\n"
    "  %r = rope %a, %p {interleaved, tables = D, theta = 10000.0}\n"
    "  %t = rope %r, %p {dims = 6, tables = f32, theta = 500.0}\n"
    "  %u = rope %t, %p {dims = 4, interleaved, tables = D, theta = 10.0}\n  %pf = cast %p {to = f32}\n"
    "  %p4 = reshape %pf : f32[B, 1, S, 1]\n  %two = const [2.0] : f32[1]\n  %p5 = add %p4, %two\n  %p6 = "
    "log %p5\n"
    "  %v = mul %u, %p6\n  %y = merge_heads %v",
    "  %a = slice %x {axis = -1, start = 0, stop = 12}\n  %b = slice %x {axis = -1, start = 12, stop = 20}\n"
    "  %la = split_heads %a {heads = 1}\n  %lb = split_heads %b {heads = 1}\n  %p = positions %ids\n"
    "  %lr = rope %lb, %p {interleaved, tables = D, theta = 10000.0}\n  %l = latent_kv %la, %lr\n"
    "  %l0 = slice %l {axis = -1, start = 0, stop = 12}\n  %l1 = slice %l {axis = -1, start = 12, stop = "
    "20}\n"
    "  %m = merge_heads %l0\n  %w1 = slice %wt {axis = 1, start = 0, stop = 12}\n  %kv = linear %m, %w1\n"
    "  %kh = split_heads %kv {heads = 4}\n  %kn = slice %kh {axis = 3, start = 0, stop = 6}\n"
    "  %v = slice %kh {axis = 3, start = 2, stop = 10}\n  %kr = repeat_heads %l1 {times = 4}\n"
    "  %k = concat %kn, %kr {axis = -1}\n  %q0 = linear %x, %wt\n  %qh = split_heads %q0 {heads = 4}\n"
    "  %q1 = slice %qh {axis = -1, start = 0, stop = 6}\n  %q2 = slice %qh {axis = -1, start = 2, stop = "
    "10}\n"
    "  %q = concat %q1, %q2 {axis = -1}\n  %ck = cache_append %k {slot = k} : D[B, 4, P + S, 14]\n"
    "  %cv = cache_append %v {slot = v} : D[B, 4, P + S, 8]\n"
    "  %o = attention %q, %ck, %cv {causal, probs = D, scale = 0.35, scores = D, softmax = f32}\n"
    "  %y = merge_heads %o",
    /* attention that caps its scores, has sinks, and sees chunks */
    "  %a = split_heads %x {heads = 4}\n  %k = cache_append %a {slot = k} : D[B, 4, P + S, 8]\n"
    "  %o = attention %a, %k, %k, sinks=%sinks {causal, chunk = 8, probs = D, scale = 3.5, scores = D, "
    "softcap = "
    "1.5, softmax = f32}\n"
    "  %y = merge_heads %o",
    "  %a = split_heads %x {heads = 4}\n  %k = cache_append %a {slot = k} : D[B, 4, P + S, 8]\n"
    "  %o = attention %a, %k, %k, sinks=%sinks {causal, probs = D, scale = 3.5, scores = f32, softmax = f32, "
    "window "
    "= 6}\n"
    "  %y = merge_heads %o",
    "  %a = split_heads %x {heads = 4}\n  %sk = const [0.015625] : f32[1]\n"
    "  %ck = quantize %a, %sk {arg = input, scheme = @d}\n"
    "  %k = cache_append %ck {slot = k} : f8e4m3[B, 4, P + S, 8]\n"
    "  %o = attention %a, %k, %k, k_scale=%sk, v_scale=%sk, sinks=%sinks {causal, chunk = 7, probs = D, "
    "scale = "
    "2.5, scores = D, softcap = 2.0, softmax = f32}\n"
    "  %y = merge_heads %o",
};

static char *expert_text(model *m, const char *body, const char *dtype)
{
    const char *head =
        "  %wt = cast %w0 {to = D}\n  %r0 = weight \"router\" : bf16[6, 32]\n"
        "  %router = cast %r0 {to = D}\n  %rf = cast %r0 {to = f32}\n  %xf = cast %x {to = f32}\n"
        "  %logits = linear %xf, %rf\n  %sk0 = weight \"sinks\" : bf16[4]\n"
        "  %sinks = cast %sk0 {to = D}\n";
    return fill_in(m, qc_arena_printf(qc_ctx_arena(m->ctx), "%s%s", head, body), dtype);
}

/* The same tokens through the cache, some at a time. */
static float *run_steps(model *m, size_t row, size_t first)
{
    size_t vocabulary = (size_t)qc_executor_vocabulary(m->executor);
    float *logits = calloc(m->columns * vocabulary, sizeof *logits);
    qc_session *session = qc_session_create(m->executor, m->columns);
    for (size_t t = 0, count; t < m->columns; t += count) {
        count = t == 0 ? first : 1;
        if (qc_session_run(session, m->ids + row * m->columns + t, count, false, logits + t * vocabulary) !=
            QC_OK)
            CHECK_FAIL("%s", m->said.last);
    }
    qc_session_destroy(session);
    return logits;
}

/* The last token alone, behind the others or with them. */
static void check_last(model *m, const char *body, const char *dtype, const float *whole, double tolerance)
{
    size_t vocabulary = (size_t)qc_executor_vocabulary(m->executor);
    const float *expected = whole + (m->columns - 1) * vocabulary;
    float *logits = calloc(vocabulary, sizeof *logits);
    qc_session *session = qc_session_create(m->executor, m->columns);
    for (size_t first = 1; first <= m->columns; first += m->columns - 1) {
        qc_session_clear(session);
        if ((first < m->columns &&
                qc_session_run(session, m->ids, m->columns - first, true, logits) != QC_OK) ||
            qc_session_run(session, m->ids + (m->columns - first) % m->columns, first, true, logits) != QC_OK)
            CHECK_FAIL("%s", m->said.last);
        difference d = compare(logits, expected, vocabulary);
        if (!(d.max <= tolerance * d.range))
            CHECK_FAIL(
                "%s in %s, the last of %zu: max %.3g of range %.3g", body, dtype, first, d.max, d.range);
    }
    qc_session_destroy(session);
    free(logits);
}

static void check_steps(model *m, const char *body, const char *dtype, const float *whole, double tolerance)
{
    size_t row_elems = m->columns * (size_t)qc_executor_vocabulary(m->executor);
    for (size_t row = 0; row < m->rows; row++) {
        float *steps = run_steps(m, row, 1 + row * 8);
        difference d = compare(steps, whole + row * row_elems, row_elems);
        if (!(d.max <= tolerance * d.range))
            CHECK_FAIL("%s in %s by steps: max %.3g of range %.3g", body, dtype, d.max, d.range);
        free(steps);
    }
    check_last(m, body, dtype, whole, tolerance);
}

static void check_expert_body(const char *body, const char *dtype, double tolerance)
{
    model m;
    begin(&m);
    if (!write_experts(&m))
        SKIP("no directory can be made here");
    if (parse(&m, expert_text(&m, body, dtype))) {
        take_ids(&m, 2, 21, 32);
        if (load(&m, 3, QC_BACKEND_HOST)) {
            float *host = run_all(&m, 3);
            check_steps(&m, body, dtype, host, tolerance);
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

static void test_expert_bodies(void)
{
    for (size_t i = 0; i < sizeof expert_bodies / sizeof *expert_bodies; i++) {
        check_expert_body(expert_bodies[i], "f32", 2e-6);
        check_expert_body(expert_bodies[i], "bf16", 0.008);
        check_expert_body(expert_bodies[i], "f16", 0.001);
    }
}

/* ---- models -------------------------------------------------------------------------------------------- */

static const char *const models[] = {"moe_models/mixtral", "moe_models/qwen2_moe", "moe_models/qwen3_moe",
    "moe_models/llama4", "moe_models/gpt_oss", "moe_models/gpt_oss_mxfp4", "moe_models/deepseek_v3",
    "moe_models/deepseek_v3_fp8", "moe_models/glm4_moe", "mixtral", "qwen2_moe", "qwen3_moe", "llama4",
    "gpt_oss", "deepseek_v3", "glm4_moe", "moe_stories", "gemma2", "gemma3", "granite", "olmo2", "phi3",
    "phi4mini"};

static bool is_at_hand(const char *name)
{
    return strchr(name, '/') || getenv("QC_DATA");
}

/* f32 logits of all rows at once within 1e-5 of Transformers', by the range; and token by token behind a prompt. */
static void check_model(const char *name)
{
    model m;
    if (!is_at_hand(name))
        return;
    if (open_model(&m, name, QC_F32) && load(&m, 2, QC_BACKEND_HOST)) {
        float *golden = golden_values(&m, "logits"), *whole = run_all(&m, 2);
        size_t count = m.rows * m.columns * (size_t)qc_executor_vocabulary(m.executor);
        difference d = compare(whole, golden, count);
        printf("# %s: max %.3g of range %.3g\n", name, d.max, d.range);
        CHECK(d.max <= 1e-5 * d.range);
        CHECK(memcmp(whole, whole + count, count * sizeof *whole) == 0);
        check_steps(&m, name, "f32", whole, 1e-5);
        free(golden);
        free(whole);
    }
    end(&m);
}

static void test_models(void)
{
    for (size_t i = 0; i < sizeof models / sizeof *models; i++)
        check_model(models[i]);
}

/* The same bits on any number of threads, one sequence or several at a time. */
static void check_threads(const char *name)
{
    static const int threads[] = {1, 2, 5};
    model m;
    float *first = NULL;
    if (!open_model(&m, name, QC_BF16))
        return;
    for (size_t t = 0; t < 3 && load(&m, threads[t], QC_BACKEND_HOST); t++)
        for (size_t repeat = 1; repeat <= 3; repeat += 2) {
            size_t elems = m.rows * m.columns * (size_t)qc_executor_vocabulary(m.executor);
            float *logits = run_all(&m, repeat);
            for (size_t i = 0; first && i < repeat; i++)
                CHECK(memcmp(logits + i * elems, first, elems * sizeof *first) == 0);
            if (first)
                free(logits);
            else
                first = logits;
        }
    free(first);
    end(&m);
}

static void test_threads(void)
{
    check_threads("moe_models/gpt_oss");
    check_threads("moe_models/deepseek_v3");
    check_threads("moe_models/llama4");
}

/* What lies in the file is held once, also where experts are slices and transposes of one tensor. */
static void check_lent(const char *name)
{
    model m;
    if (!open_model(&m, name, QC_BF16) || !load(&m, 2, QC_BACKEND_HOST))
        return;
    float *own = run_all(&m, 1);
    size_t count = m.rows * m.columns * (size_t)qc_executor_vocabulary(m.executor);
    qc_executor *lender = m.executor;
    m.executor = qc_executor_create(m.ctx, m.module, &(qc_executor_options){.threads = 2, .lender = lender});
    if (m.executor) {
        float *lent = run_all(&m, 1);
        CHECK(memcmp(own, lent, count * sizeof *own) == 0);
        CHECK(qc_executor_weight_bytes(m.executor) < qc_executor_weight_bytes(lender) / 50);
        free(lent);
    } else {
        CHECK_FAIL("%s", m.said.last);
    }
    qc_executor_destroy(m.executor);
    m.executor = lender;
    free(own);
    end(&m);
}

static void test_lent(void)
{
    check_lent("moe_models/gpt_oss");
    check_lent("moe_models/llama4");
    check_lent("moe_models/qwen2_moe");
}

int main(void)
{
    RUN(test_expert_bodies);
    RUN(test_models);
    RUN(test_threads);
    RUN(test_lent);
    return check_done();
}
