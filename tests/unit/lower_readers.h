/* SPDX-License-Identifier: MIT
 *
 * lower_readers.h - part of test_lower.c: caches that something else than attention reads, codes that no pass of
 * ours makes, and the memory of pages.
 */
#ifndef QC_TESTS_LOWER_READERS_H
#define QC_TESTS_LOWER_READERS_H

/* %x is f32[B, S, 64]; what is said of %q, %k, %v (4 heads of 16 each) ends in %y, f32[B, S, 64]. */
#define ATTEND(q, k, v, more)                                                                                \
    "%o = attention " q ", " k ", " v                                                                        \
    " {causal, probs = f32, scale = 0.01, scores = f32, softmax = f32" more "} : f32[B, 4, S, 16]\n"         \
    "%y = merge_heads %o : f32[B, S, 64]\n"

static const char *const reader_bodies[] = {
    /* decoded for another op, values read as they are */
    "%s = const [1.0, 0.5, 0.25, 0.5] : f32[4, 1, 1]\n"
    "%c = quantize %k, %s {arg = input, scheme = @e4m3} : f8e4m3[B, 4, S, 16]\n"
    "%kc = cache_append %c {slot = k} : f8e4m3[B, 4, P + S, 16]\n"
    "%kd = dequantize %kc, %s {to = f32} : f32[B, 4, P + S, 16]\n%kn = neg %kd : f32[B, 4, P + S, 16]\n"
    "%vc = cache_append %v {slot = v} : f32[B, 4, P + S, 16]\n%vn = add %vc, %kd : f32[B, 4, P + S, "
    "16]\n" ATTEND("%q", "%kn", "%vn", ""),
    /* the same cache decoded for one op and read as codes by another */
    "%s = const [1.0] : f32[1]\n%c = quantize %k, %s {arg = input, scheme = @i4} : i4[B, 4, S, 16]\n"
    "%kc = cache_append %c {slot = k} : i4[B, 4, P + S, 16]\n"
    "%kd = dequantize %kc, %s {to = f32} : f32[B, 4, P + S, 16]\n%kn = neg %kd : f32[B, 4, P + S, 16]\n"
    "%vc = cache_append %v {slot = v} : f32[B, 4, P + S, 16]\n%o1 = attention %q, %kc, %vc, k_scale=%s "
    "{causal, "
    "probs = f32, scale = 0.01, scores = f32, softmax = f32} : f32[B, 4, S, 16]\n"
    "%q1 = add %q, %o1 : f32[B, 4, S, 16]\n" ATTEND("%q1", "%kn", "%kn", ""),
    /* zero points, of 8 and of 4 bits */
    "%s = const [0.5] : f32[1]\n%z = const [3] : i8[1]\n"
    "%c = quantize %k, %s, zero_point=%z {arg = input, scheme = @asym8} : i8[B, 4, S, 16]\n"
    "%kc = cache_append %c {slot = k} : i8[B, 4, P + S, 16]\n"
    "%kd = dequantize %kc, %s, zero_point=%z {to = f32} : f32[B, 4, P + S, 16]\n"
    "%d = quantize %v, %s, zero_point=%z {arg = input, scheme = @asym4} : i4[B, 4, S, 16]\n"
    "%vc = cache_append %d {slot = v} : i4[B, 4, P + S, 16]\n"
    "%vd = dequantize %vc, %s, zero_point=%z {to = f32} : f32[B, 4, P + S, 16]\n" ATTEND(
        "%q", "%kd", "%vd", ""),
    /* codes of 3 bits, which attention has no kernel for */
    "%s = qparams %k {arg = input, scheme = @i3} : f32[B, 4, S, 1]\n"
    "%c = quantize %k, %s {arg = input, scheme = @i3} : i3[B, 4, S, 16]\n"
    "%kc = cache_append %c {slot = k} : i3[B, 4, P + S, 16]\n"
    "%sc = cache_append %s {slot = k_scale} : f32[B, 4, P + S, 1]\n"
    "%vc = cache_append %v {slot = v} : f32[B, 4, P + S, 16]\n"
    "%o = attention %q, %kc, %vc, k_scale=%sc {causal, probs = f32, scale = 0.01, scores = f32, softmax = "
    "f32} : "
    "f32[B, 4, S, 16]\n%y = merge_heads %o : f32[B, S, 64]\n",
    /* heads of 5: rows of codes end in half a byte */
    "%a = slice %x {axis = 2, start = 0, stop = 20} : f32[B, S, 20]\n"
    "%h = split_heads %a {heads = 4} : f32[B, 4, S, 5]\n"
    "%s = qparams %h {arg = input, scheme = @i4t} : f32[B, 4, S, 1]\n"
    "%c = quantize %h, %s {arg = input, scheme = @i4t} : i4[B, 4, S, 5]\n"
    "%kc = cache_append %c {slot = k} : i4[B, 4, P + S, 5]\n"
    "%sc = cache_append %s {slot = k_scale} : f32[B, 4, P + S, 1]\n"
    "%o = attention %h, %kc, %kc, k_scale=%sc, v_scale=%sc {causal, probs = f32, scale = 0.01, scores = f32, "
    "softmax = f32} : f32[B, 4, S, 5]\n%m = merge_heads %o : f32[B, S, 20]\n"
    "%b = slice %x {axis = 2, start = 20, stop = 64} : f32[B, S, 44]\n"
    "%y = concat %m, %b {axis = 2} : f32[B, S, 64]\n",
    /* another type than attention's: through casts */
    "%n = cast %k {to = bf16} : bf16[B, 4, S, 16]\n%kc = cache_append %n {slot = k} : bf16[B, 4, P + S, 16]\n"
    "%kw = cast %kc {to = f32} : f32[B, 4, P + S, 16]\n"
    "%vc = cache_append %v {slot = v} : f32[B, 4, P + S, 16]\n" ATTEND("%q", "%kw", "%vc", ""),
    /* codes that something else reads too, lowered in part; pages of different sizes */
    "%s = qparams %k {arg = input, scheme = @i8t} : f32[B, 4, S, 1]\n"
    "%c = quantize %k, %s {arg = input, scheme = @i8t} : i8[B, 4, S, 16]\n"
    "%kc = cache_write %c {layout = hnd, page = 3, slot = k} : i8[B, 4, P + S, 16]\n"
    "%sc = cache_write %s {page = 5, slot = k_scale} : f32[B, 4, P + S, 1]\n"
    "%d = dequantize %c, %s {to = f32} : f32[B, 4, S, 16]\n%q1 = add %q, %d : f32[B, 4, S, 16]\n"
    "%vc = cache_append %v {slot = v} : f32[B, 4, P + S, 16]\n"
    "%o = quantized_attention %q1, %kc, %vc, k_scale=%sc {causal, probs = f32, scale = 0.01, scores = f32, "
    "softmax = f32} : f32[B, 4, S, 16]\n%y = merge_heads %o : f32[B, S, 64]\n",
    /* the same sizes: within the kernel */
    "%s = qparams %k {arg = input, scheme = @i8t} : f32[B, 4, S, 1]\n"
    "%kc = cache_write %k, scale=%s {layout = hnd, page = 3, scheme = @i8t, slot = k} : i8[B, 4, P + S, 16]\n"
    "%sc = cache_write %s {page = 3, slot = k_scale} : f32[B, 4, P + S, 1]\n"
    "%vc = cache_write %v {page = 4, slot = v} : f32[B, 4, P + S, 16]\n"
    "%o = quantized_attention %q, %kc, %vc, k_scale=%sc {causal, probs = f32, scale = 0.01, scores = f32, "
    "softmax "
    "= f32} : f32[B, 4, S, 16]\n%y = merge_heads %o : f32[B, S, 64]\n",
};

static const char *reader_text(fixture *f, const char *body)
{
    return qc_arena_printf(qc_ctx_arena(f->ctx),
        "qc 1\ndim B, P, S\nmodule \"\" Root\nmodule \"attn\" TinyAttention\n"
        "scheme @e4m3 {arith = ct_cpu, input = {granularity = head, symmetric, type = f8e4m3}, targets = "
        "[\"a\"]}\n"
        "scheme @i4 {arith = ct_cpu, input = {granularity = tensor, symmetric, type = i4}, targets = "
        "[\"a\"]}\n"
        "scheme @i4t {arith = ct_cpu, input = {dynamic, granularity = token, symmetric, type = i4}, targets "
        "= "
        "[\"a\"]}\n"
        "scheme @i8t {arith = ct_cpu, input = {dynamic, granularity = token, symmetric, type = i8}, targets "
        "= "
        "[\"a\"]}\n"
        "scheme @i3 {arith = ct_cpu, input = {dynamic, granularity = token, symmetric, type = i3}, targets = "
        "[\"a\"]}\n"
        "scheme @asym8 {arith = ct_cpu, input = {granularity = tensor, type = i8}, targets = [\"a\"]}\n"
        "scheme @asym4 {arith = ct_cpu, input = {granularity = tensor, type = i4}, targets = [\"a\"]}\n"
        "func @main(%%ids: i64[B, S]) -> f32[B, S, 64] {\n  at \"attn\" {\n"
        "    %%w0 = weight \"table\" : bf16[40, 64]\n    %%w = cast %%w0 {to = f32} : f32[40, 64]\n"
        "    %%e = embedding %%ids, %%w : f32[B, S, 64]\n    %%f = const [8.0] : f32[1]\n"
        "    %%x = mul %%e, %%f : f32[B, S, 64]\n    %%q = split_heads %%x {heads = 4} : f32[B, 4, S, 16]\n"
        "    %%k = neg %%q : f32[B, 4, S, 16]\n    %%v = add %%q, %%q : f32[B, 4, S, 16]\n%s  }\n  return "
        "%%y\n}\n",
        body);
}

static void test_readers(void)
{
    for (size_t i = 0; i < sizeof reader_bodies / sizeof *reader_bodies; i++) {
        fixture f;
        if (begin(&f) && parse(&f, reader_text(&f, reader_bodies[i])))
            for (size_t c = 0; c < 2; c++) {
                int64_t bytes;
                qc_module *lowered = qc_module_clone(f.module);
                apply(&f, lowered, QC_LOWER_PIPELINE);
                float *before = by_reference(&f, f.module, chunkings[c]),
                      *after = by_reference(&f, lowered, chunkings[c]),
                      *host = by_host(&f, f.module, chunkings[c], 2, &bytes);
                if (!same(before, after))
                    CHECK_FAIL("reader %zu: lowering changes bits, chunks %zu", i, c);
                if (!(distance(host, after) <= 2e-6))
                    CHECK_FAIL(
                        "reader %zu: the host differs by %.3g, chunks %zu", i, distance(host, after), c);
                float *whole = c == 0 ? at_once(&f, f.module) : NULL;
                if (whole && !same(whole, host))
                    CHECK_FAIL("reader %zu: what lies in pages differs from what lies in one piece", i);
                free(whole);
                free(before), free(after), free(host);
                qc_module_destroy(lowered);
            }
        end(&f);
    }
}

/* ---- pages --------------------------------------------------------------------------------------------- */

static void test_pages(void)
{
    static const qc_cache_layout layouts[] = {{.heads = 3, .row_bytes = 32, .page_tokens = 16},
        {.heads = 3, .row_bytes = 5, .page_tokens = 16, .by_head = true},
        {.heads = 1, .row_bytes = 4, .page_tokens = 5}};
    messages log = {0};
    qc_arena arena;
    qc_diag diag;
    uint64_t bytes;
    qc_arena_init(&arena, NULL);
    qc_diag_init(&diag, &arena, keep_message, &log);
    qc_pages *pages = qc_pages_create(&diag, layouts, 3, 33);
    void *const *const *table = qc_pages_table(pages);
    CHECK(table[0][0] == NULL && table[2][0] == NULL);
    CHECK_INT(qc_pages_reserve(pages, &diag, 17), QC_OK);
    char *first = table[0][0];
    CHECK(first && table[0][1] && !table[0][2] && table[1][1] && !table[1][2] && table[2][3] && !table[2][4]);
    for (size_t i = 0; i < 3; i++) /* pages do not overlap, or the sanitizers say so */
        for (size_t t = 0; t < 17; t++)
            for (size_t h = 0; h < layouts[i].heads; h++)
                memset((char *)table[i][t / layouts[i].page_tokens] + qc_cache_row_offset(&layouts[i], t, h),
                    (int)(i * 100 + t * 3 + h), layouts[i].row_bytes);
    CHECK_INT(qc_pages_reserve(pages, &diag, 33), QC_OK);
    CHECK(table[0][0] == first && table[0][2] && table[2][6]);
    for (size_t i = 0; i < 3; i++)
        for (size_t t = 0; t < 17; t++)
            for (size_t h = 0; h < layouts[i].heads; h++) {
                const unsigned char *row = (unsigned char *)table[i][t / layouts[i].page_tokens] +
                                           qc_cache_row_offset(&layouts[i], t, h);
                for (size_t b = 0; b < layouts[i].row_bytes; b++)
                    CHECK_INT(row[b], (int)(i * 100 + t * 3 + h));
            }
    CHECK_INT(qc_pages_reserve(pages, &diag, 49), QC_ERROR);
    CHECK(said(&log, "49 tokens do not fit"));
    CHECK(qc_pages_bytes(layouts, 3, 17, &bytes));
    CHECK_INT(bytes, 2 * (3 * 32 * 16 + 3 * 5 * 16) + 4 * 32); /* a page of 20 bytes takes 32 */
    const qc_cache_layout huge = {.heads = SIZE_MAX / 4, .row_bytes = 8, .page_tokens = 16};
    CHECK(!qc_pages_bytes(&huge, 1, 1, &bytes));
    CHECK(qc_pages_create(&diag, &huge, 1, 1) == NULL);
    CHECK(said(&log, "out of memory for a cache of 1 tokens"));
    qc_pages_destroy(pages);
    qc_arena_fini(&arena);
}

#if defined(__SANITIZE_ADDRESS__)
#define HAS_OWN_MEMORY 1 /* freed memory is kept for a while: peaks say nothing */
#else
#define HAS_OWN_MEMORY 0
#endif

enum { LONG = 8192, LAYERS = 8 };

/* 8 layers of 8 heads of 64, one behind the other in nothing but their sum; windows make it quick. */
static const char *many_caches(fixture *f)
{
    qc_str s;
    qc_str_init(&s, qc_ctx_arena(f->ctx));
    qc_str_add(&s, "qc 1\ndim B, P, S\nmodule \"\" Root\n");
    for (int i = 0; i < LAYERS; i++)
        qc_str_addf(&s, "module \"layers.%d\" TinyAttention\n", i);
    qc_str_add(&s, "func @main(%ids: i64[B, S]) -> bf16[B, S, 64] {\n"
                   "  %w = weight \"table\" : bf16[40, 64]\n  %x = embedding %ids, %w : bf16[B, S, 64]\n"
                   "  %c = concat %x, %x, %x, %x, %x, %x, %x, %x {axis = 2} : bf16[B, S, 512]\n"
                   "  %h = split_heads %c {heads = 8} : bf16[B, 8, S, 64]\n");
    for (int i = 0; i < LAYERS; i++) {
        qc_str_addf(&s,
            "  at \"layers.%d\" {\n    %%k%d = cache_append %%h {slot = k} : bf16[B, 8, P + S, 64]\n"
            "    %%v%d = cache_append %%h {slot = v} : bf16[B, 8, P + S, 64]\n"
            "    %%o%d = attention %%h, %%k%d, %%v%d {causal, probs = bf16, scale = 0.125, scores = bf16, "
            "softmax = f32, window = 32} : bf16[B, 8, S, 64]\n  }\n",
            i, i, i, i, i, i);
        if (i == 0)
            qc_str_add(&s, "  %s0 = neg %o0 : bf16[B, 8, S, 64]\n");
        else
            qc_str_addf(&s, "  %%s%d = add %%s%d, %%o%d : bf16[B, 8, S, 64]\n", i, i - 1, i);
    }
    qc_str_addf(&s,
        "  %%m = merge_heads %%s%d : bf16[B, S, 512]\n"
        "  %%y = slice %%m {axis = 2, start = 0, stop = 64} : bf16[B, S, 64]\n  return %%y\n}\n",
        LAYERS - 1);
    const char *text = qc_arena_strdup(qc_ctx_arena(f->ctx), s.data);
    qc_str_fini(&s);
    return text;
}

typedef struct peak {
    int64_t bytes_a_token;
    long kib; /* 0: something failed */
} peak;

/* Runs 8192 tokens and says how much memory that took at most. */
static peak measure(const char *pipeline)
{
    fixture f;
    peak p = {0};
    float *logits = calloc((size_t)LONG * COLUMNS, sizeof *logits);
    int32_t *ids = calloc(LONG, sizeof *ids);
    for (size_t i = 0; i < LONG; i++)
        ids[i] = (int32_t)(i * 11 % ROWS);
    if (begin(&f) && parse(&f, many_caches(&f)) && apply(&f, f.module, pipeline)) {
        qc_executor *e = qc_executor_create(f.ctx, f.module, &(qc_executor_options){.threads = 2});
        qc_session *s = e ? qc_session_create(e, LONG) : NULL;
        /* all logits: sums for the last token alone would leave codes that wait for the cache on top */
        if (s && qc_session_run(s, ids, LONG, false, logits) == QC_OK) {
            struct rusage usage;
            getrusage(RUSAGE_SELF, &usage);
            p = (peak){qc_executor_cache_bytes_per_token(e), usage.ru_maxrss};
        }
        qc_session_destroy(s);
        qc_executor_destroy(e);
    }
    end(&f);
    free(logits);
    free(ids);
    return p;
}

/* In a process of its own, whose peak is its own: this program with `--measure PIPELINE`, which prints it. */
static peak measure_apart(const char *pipeline)
{
    peak p = {0};
    int ends[2];
    char text[64] = "";
    fflush(stdout);
    if (pipe(ends) != 0)
        return p;
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDOUT_FILENO);
        execl("/proc/self/exe", "test_lower", "--measure", pipeline, (char *)NULL);
        _exit(1);
    }
    close(ends[1]);
    if (child > 0 && read(ends[0], text, sizeof text - 1) > 0) {
        char *at;
        p.bytes_a_token = strtoll(text, &at, 10);
        p.kib = strtol(at, NULL, 10);
    }
    close(ends[0]);
    if (child > 0)
        waitpid(child, NULL, 0);
    return p;
}

/* The caches are what the peaks differ by: what is said of a token, times the tokens, within 5 %. */
static void test_memory_of_codes(void)
{
    static const char *const pipelines[] = {"dce", "quant-kv" RESOLVED,
        "quant-kv{type=int4, granularity=token}", "quant-kv{type=nvfp4}" RESOLVED};
    static const int64_t bytes[] = {16384, 8192, 4096 + 512, 4096 + 512};
    peak plain = {0};
    if (HAS_OWN_MEMORY)
        SKIP("a sanitizer keeps memory of its own");
    for (size_t i = 0; i < 4; i++) {
        peak p = measure_apart(pipelines[i]);
        if (i == 0)
            plain = p;
        CHECK_INT(p.bytes_a_token, bytes[i]);
        double stated = (double)(plain.bytes_a_token - p.bytes_a_token) * LONG;
        double fell = (double)(plain.kib - p.kib) * 1024;
        printf("# %s: peak %ld KiB, less by %.1f MiB, stated %.1f MiB\n", pipelines[i], p.kib,
            fell / (1 << 20), stated / (1 << 20));
        CHECK(p.kib > 0 && fabs(fell - stated) <= 0.05 * stated);
    }
}

#endif
