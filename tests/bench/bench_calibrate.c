/* SPDX-License-Identifier: MIT
 *
 * bench_calibrate.c - tokens a second of a calibration of SmolLM2-shaped layers (hidden 576, 9 heads on 3 key
 * heads of 64, MLP 1536; random weights) on 8 sequences of 512 tokens, and the share that is of what the
 * machine could do.
 *
 * The time is the best of five runs, weights read and prepared each time. The limit is the sum over all ops that run of max(flops / rate of oneDNN's product of that shape, bytes /
 * rate of memcpy), attention counted for visible keys only. Rates are measured in this run, with all threads
 * at work at once, each on its own data. Peak memory is shown beside the plan of it.
 */
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "backends/host/host.h"
#include "backends/host/onednn.h"
#include "frontends/hf/hf.h"
#include "ir/ctx.h"
#include "ir/support/io.h"
#include "ir/support/safetensors.h"
#include "passes/manager.h"
#include "runtime/calibrate.h"
#include "tests/unit/host_util.h"

enum {
    LAYERS = 6,
    SEQUENCES = 8,
    TOKENS = 512,
    HEADS = 9,
    KV_HEADS = 3,
    HEAD = 64,
    HIDDEN = HEADS * HEAD,
    KV = KV_HEADS * HEAD,
    MLP = 1536,
    VOCABULARY = 4096,
    COPY_BYTES = 1 << 26
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void say(void *user, qc_severity severity, const char *where, const char *what)
{
    (void)user;
    if (severity == QC_SEVERITY_ERROR)
        fprintf(stderr, "%s: %s\n", where, what);
}

/* ---- the checkpoint ------------------------------------------------------------------------------------ */

static const char config[] =
    "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", \"torch_dtype\": \"bfloat16\", "
    "\"hidden_size\": 576, \"intermediate_size\": 1536, \"num_hidden_layers\": 6, \"num_attention_heads\": "
    "9, "
    "\"num_key_value_heads\": 3, \"vocab_size\": 4096, \"max_position_embeddings\": 2048, \"rms_norm_eps\": "
    "1e-05, "
    "\"rope_theta\": 100000.0, \"hidden_act\": \"silu\", \"tie_word_embeddings\": true}";

typedef struct tensors {
    qc_st_out out[LAYERS * 9 + 2];
    size_t count;
} tensors;

static void add(qc_arena *arena, tensors *t, const char *name, int64_t rows, int64_t columns)
{
    int64_t *shape = QC_NEW_ARRAY(arena, int64_t, 2);
    shape[0] = rows;
    shape[1] = columns;
    t->out[t->count++] = (qc_st_out){.name = name, .dtype = "BF16", .rank = columns ? 2 : 1, .shape = shape};
}

static bool write_checkpoint(qc_ctx *ctx, const char *directory)
{
    static const struct {
        const char *name;
        int64_t rows, columns;
    } parts[] = {{"input_layernorm", HIDDEN, 0}, {"post_attention_layernorm", HIDDEN, 0},
        {"self_attn.q_proj", HIDDEN, HIDDEN}, {"self_attn.k_proj", KV, HIDDEN},
        {"self_attn.v_proj", KV, HIDDEN}, {"self_attn.o_proj", HIDDEN, HIDDEN},
        {"mlp.gate_proj", MLP, HIDDEN}, {"mlp.up_proj", MLP, HIDDEN}, {"mlp.down_proj", HIDDEN, MLP}};
    qc_arena *arena = qc_ctx_arena(ctx);
    qc_diag *diag = qc_ctx_diag(ctx);
    tensors t = {.count = 0};
    char *header;
    size_t header_bytes;
    add(arena, &t, "model.embed_tokens.weight", VOCABULARY, HIDDEN);
    add(arena, &t, "model.norm.weight", HIDDEN, 0);
    for (int layer = 0; layer < LAYERS; layer++)
        for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
            add(arena, &t, qc_arena_printf(arena, "model.layers.%d.%s.weight", layer, parts[i].name),
                parts[i].rows, parts[i].columns);
    if (qc_st_layout(diag, arena, t.out, t.count, true, &header, &header_bytes) != QC_OK)
        return false;
    qc_str file;
    qc_str_init(&file, arena);
    qc_str_add_bytes(&file, header, header_bytes);
    for (size_t i = 0; i < t.count; i++) {
        void *values = random_values((uint32_t)i, (size_t)t.out[i].size_bytes / 2, QC_BF16, 0.07);
        qc_str_add_bytes(&file, values, (size_t)t.out[i].size_bytes);
        free(values);
    }
    bool ok = qc_write_file(diag, qc_path_join(arena, directory, "model.safetensors"), file.data,
                  file.length) == QC_OK &&
              qc_write_file(diag, qc_path_join(arena, directory, "config.json"), config, sizeof config - 1) ==
                  QC_OK;
    qc_str_fini(&file);
    return ok;
}

/* ---- rates, with all threads at work ------------------------------------------------------------------- */

static void *aligned(size_t bytes)
{
    void *p = aligned_alloc(64, (bytes + 127) / 64 * 64);
    memset(p, 0, bytes);
    return p;
}

typedef struct product {
    qc_host_onednn *context;
    const qc_host_onednn_kernel *kernel;
    size_t rows, columns, depth;
    qc_dtype dtype;
} product;

/* Repeats one product for 0.15 s on the calling thread; flops a second. */
static double product_rate_here(const product *p)
{
    void *x = random_values(1, p->rows * p->depth, p->dtype, 1.0);
    void *w = random_values(2, p->columns * p->depth, p->dtype, 1.0);
    void *a = aligned(p->rows * p->depth * 4), *c = aligned(p->rows * p->columns * 4);
    void *packed = aligned(qc_host_onednn_weight_bytes(p->kernel));
    void *scratch = aligned(qc_host_onednn_scratch_bytes(p->kernel));
    qc_host_onednn_runner *runner = qc_host_onednn_runner_create(p->context);
    qc_arena arena;
    qc_diag diag;
    double start, count = 0.0;
    qc_arena_init(&arena, NULL);
    qc_diag_init(&diag, &arena, say, NULL);
    memcpy(a, x, p->rows * p->depth * dtype_bytes(p->dtype));
    bool ok = qc_host_onednn_pack(p->kernel, &diag, "raw", w, p->depth, packed) == QC_OK;
    start = now();
    for (; ok && now() - start < 0.15; count++)
        qc_host_onednn_run(runner, p->kernel, a, packed, c, scratch);
    double rate = count * 2.0 * (double)p->rows * (double)p->columns * (double)p->depth / (now() - start);
    qc_host_onednn_runner_destroy(runner);
    qc_arena_fini(&arena);
    free(x), free(w), free(a), free(c), free(packed), free(scratch);
    return rate;
}

/* flops a second of all threads together; 0 where there is no oneDNN. */
static double product_rate(qc_diag *diag, int threads, size_t columns, size_t depth)
{
    product p = {.rows = TOKENS, .columns = columns, .depth = depth};
    double rate = 0.0;
    p.dtype = qc_host_onednn_has_bf16() ? QC_BF16 : QC_F32;
    p.context = qc_host_onednn_create(diag);
    if (!p.context)
        return 0.0;
    p.kernel = qc_host_onednn_get(p.context, diag, "raw", p.rows, columns, depth, p.dtype);
#pragma omp parallel num_threads(threads) reduction(+ : rate)
    rate += p.kernel ? product_rate_here(&p) : 0.0;
    qc_host_onednn_destroy(p.context);
    return rate;
}

/* Bytes read and written a second by memcpy, all threads together. */
static double copy_rate(int threads)
{
    double rate = 0.0;
#pragma omp parallel num_threads(threads) reduction(+ : rate)
    {
        char *from = aligned(COPY_BYTES), *to = aligned(COPY_BYTES);
        double start = now(), count = 0.0;
        for (; now() - start < 0.2; count++) {
            memcpy(to, from, COPY_BYTES);
            __asm__ volatile("" : : "r"(to) : "memory"); /* somebody might read it */
        }
        rate += count * 2.0 * COPY_BYTES / (now() - start);
        free(from);
        free(to);
    }
    return rate;
}

/* ---- the limit ----------------------------------------------------------------------------------------- */

typedef struct machine {
    qc_diag *diag;
    int threads;
    double copy;
} machine;

static double longer(double a, double b)
{
    return a > b ? a : b;
}

/* Seconds of a linear on one sequence. */
static double linear_limit(const machine *m, size_t columns, size_t depth)
{
    double flops = 2.0 * TOKENS * (double)columns * (double)depth,
           rate = product_rate(m->diag, m->threads, columns, depth);
    double bytes = 2.0 * (TOKENS * (double)(columns + depth) + (double)(columns * depth));
    return longer(rate > 0 ? flops / rate : 0.0, bytes / m->copy);
}

/* An op that reads and writes that many bf16 values of each token. */
static double bytes_limit(const machine *m, double values)
{
    return values * TOKENS * 2.0 / m->copy;
}

/* Seconds of all ops on all sequences: LAYERS - 1 layers, and of the last what q, k and v need. */
static double limit_seconds(const machine *m)
{
    double q = linear_limit(m, HIDDEN, HIDDEN), kv = linear_limit(m, KV, HIDDEN);
    double up = linear_limit(m, MLP, HIDDEN), down = linear_limit(m, HIDDEN, MLP);
    double visible = (double)TOKENS * (TOKENS + 1) / 2;
    double rate = product_rate(m->diag, m->threads, TOKENS, HEAD);
    double scores = longer(
        rate > 0 ? 2.0 * HEADS * HEAD * visible * 2.0 / rate : 0.0, bytes_limit(m, 2 * HIDDEN + 2 * KV));
    double observed = bytes_limit(m, HIDDEN + 2 * KV), turned = bytes_limit(m, 2 * (HIDDEN + KV));
    double norm = bytes_limit(m, 2 * HIDDEN), sum = bytes_limit(m, 3 * HIDDEN),
           gate = bytes_limit(m, 3 * MLP);
    double head = norm + q + 2 * kv + turned + observed;
    double layer = head + scores + q + sum + norm + 2 * up + gate + down + sum;
    return SEQUENCES * ((LAYERS - 1) * layer + head + bytes_limit(m, 2 * HIDDEN));
}

/* ---- the run ------------------------------------------------------------------------------------------- */

static bool prepare(qc_ctx *ctx, qc_module *module)
{
    qc_registry *registry = qc_registry_create(ctx, NULL);
    qc_pipeline *pipeline = qc_pipeline_create(registry);
    qc_run_settings settings = {0};
    bool ok = qc_pipeline_parse(pipeline, "bench", "quant-fp8-attn,insert-observers") == QC_OK &&
              qc_pipeline_run(pipeline, module, &settings) == QC_OK;
    qc_registry_destroy(registry);
    return ok;
}

static double peak_mib(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)usage.ru_maxrss / 1024.0;
}

typedef struct timing {
    double seconds, peak_mib;
    uint64_t planned_bytes;
} timing;

static bool run(qc_ctx *ctx, qc_module *module, int threads, timing *t)
{
    qc_arena arena;
    qc_dataset data;
    qc_stats stats;
    qc_calibrate_options options = {.threads = threads};
    qc_dataset_options ids = {
        .max_samples = SEQUENCES, .max_tokens = TOKENS, .vocabulary = VOCABULARY, .seed = 1};
    qc_arena_init(&arena, NULL);
    t->seconds = 1e9;
    bool ok = qc_dataset_random(qc_ctx_diag(ctx), &arena, &ids, &data) == QC_OK &&
              qc_calibrate_plan(ctx, module, &data, &options, &t->planned_bytes) == QC_OK;
    for (int i = 0; ok && i < 5; i++) {
        double start = now();
        qc_stats_init(&stats, &arena);
        ok = qc_calibrate(ctx, module, &data, &options, &stats) == QC_OK;
        double took = now() - start;
        t->seconds = took < t->seconds ? took : t->seconds;
    }
    t->peak_mib = peak_mib();
    qc_arena_fini(&arena);
    return ok;
}

static void report(qc_ctx *ctx, int threads, const timing *t)
{
    machine m = {.diag = qc_ctx_diag(ctx), .threads = threads, .copy = copy_rate(threads)};
    double limit = limit_seconds(&m);
    printf("calibration of %d SmolLM2-shaped layers, %d threads: %.0f tokens/s (%.1f ms), limit %.1f ms: "
           "%.0f %%; "
           "copies at %.1f GB/s; peak %.0f MiB, planned %.0f MiB\n",
        LAYERS, threads, SEQUENCES * TOKENS / t->seconds, t->seconds * 1e3, limit * 1e3,
        100.0 * limit / t->seconds, m.copy * 1e-9, t->peak_mib, (double)t->planned_bytes / 1048576.0);
}

int main(void)
{
    char directory[] = "qc-bench-calibrate-XXXXXX";
    int threads = 1;
#ifdef _OPENMP
    threads = omp_get_max_threads();
#endif
    qc_ctx *ctx = qc_ctx_create(NULL, say, NULL);
    if (!mkdtemp(directory))
        return 1;
    bool ok = write_checkpoint(ctx, directory);
    qc_module *module = ok ? qc_hf_import(ctx, directory, NULL) : NULL;
    timing one, all;
    ok = module && prepare(ctx, module) && run(ctx, module, 1, &one) && run(ctx, module, threads, &all);
    if (ok)
        report(ctx, 1, &one);
    if (ok && threads > 1)
        report(ctx, threads, &all);
    if (module)
        qc_module_destroy(module);
    qc_remove_tree(qc_ctx_diag(ctx), directory);
    qc_ctx_destroy(ctx);
    return !ok;
}
