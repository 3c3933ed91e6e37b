/* SPDX-License-Identifier: MIT
 *
 * bench_ir.c - how fast IR text is read, checked, printed and copied (a Llama of 320 layers, about 1 MB of
 * text) and how long the import of a sparse checkpoint of 1 GiB takes (28 layers of hidden size 1536).
 *
 * Prints MB/s of text by CPU time, so that other load matters little: best of the repetitions in 0.5 s, and
 * of the first parse of the process, whose memory the kernel still has to hand out. The checkpoints are
 * written into the working directory and removed; their tensor data is a hole in the file.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "frontends/hf/hf.h"
#include "ir/support/io.h"

typedef struct shape {
    int layers, hidden, mlp, heads, kv_heads, vocabulary;
} shape;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#define MEASURE(best, statement)                                                                             \
    do {                                                                                                     \
        double begun = now();                                                                                \
        best = 1e9;                                                                                          \
        while (now() - begun < 0.5) {                                                                        \
            double before = now();                                                                           \
            statement;                                                                                       \
            double took = now() - before;                                                                    \
            best = took < best ? took : best;                                                                \
        }                                                                                                    \
    } while (0)

static void report(void *user, qc_severity severity, const char *where, const char *what)
{
    (void)user, (void)severity;
    fprintf(stderr, "%s: %s\n", where, what);
}

static void add_tensor(qc_str *header, uint64_t *offset, const char *name, int rows, int columns)
{
    uint64_t bytes = 2 * (uint64_t)rows * (uint64_t)(columns ? columns : 1);
    qc_str_addf(
        header, "%s\"%s\":{\"dtype\":\"BF16\",\"shape\":[%d", header->length > 1 ? "," : "", name, rows);
    if (columns)
        qc_str_addf(header, ",%d", columns);
    qc_str_addf(header, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)*offset,
        (unsigned long long)(*offset + bytes));
    *offset += bytes;
}

static void add_layer(qc_str *header, uint64_t *offset, const shape *s, int layer)
{
    int kv = s->hidden / s->heads * s->kv_heads;
    const struct {
        const char *name;
        int rows, columns;
    } parts[] = {{"self_attn.q_proj", s->hidden, s->hidden}, {"self_attn.k_proj", kv, s->hidden},
        {"self_attn.v_proj", kv, s->hidden}, {"self_attn.o_proj", s->hidden, s->hidden},
        {"mlp.gate_proj", s->mlp, s->hidden}, {"mlp.up_proj", s->mlp, s->hidden},
        {"mlp.down_proj", s->hidden, s->mlp}, {"input_layernorm", s->hidden, 0},
        {"post_attention_layernorm", s->hidden, 0}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        char name[128];
        snprintf(name, sizeof name, "model.layers.%d.%s.weight", layer, parts[i].name);
        add_tensor(header, offset, name, parts[i].rows, parts[i].columns);
    }
}

/* Writes config.json and a sparse model.safetensors; the size of the data, 0 after an error. */
static uint64_t write_checkpoint(qc_diag *diag, qc_arena *arena, const char *directory, const shape *s)
{
    qc_str header;
    uint64_t data = 0;
    qc_str_init(&header, arena);
    qc_str_add(&header, "{");
    add_tensor(&header, &data, "model.embed_tokens.weight", s->vocabulary, s->hidden);
    for (int i = 0; i < s->layers; i++)
        add_layer(&header, &data, s, i);
    add_tensor(&header, &data, "model.norm.weight", s->hidden, 0);
    add_tensor(&header, &data, "lm_head.weight", s->vocabulary, s->hidden);
    qc_str_add(&header, "}");
    while (header.length % 8)
        qc_str_add(&header, " ");
    char *config = qc_arena_printf(arena,
        "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", \"torch_dtype\": "
        "\"bfloat16\","
        " \"hidden_size\": %d, \"intermediate_size\": %d, \"num_hidden_layers\": %d,"
        " \"num_attention_heads\": %d, \"num_key_value_heads\": %d, \"vocab_size\": %d,"
        " \"max_position_embeddings\": 2048}",
        s->hidden, s->mlp, s->layers, s->heads, s->kv_heads, s->vocabulary);
    const char *shard = qc_path_join(arena, directory, "model.safetensors");
    uint64_t length = header.length;
    qc_str file;
    qc_str_init(&file, arena);
    qc_str_add_bytes(&file, (const char *)&length, 8); /* little-endian hosts */
    qc_str_add_bytes(&file, header.data, header.length);
    bool written =
        qc_write_file(diag, qc_path_join(arena, directory, "config.json"), config, strlen(config)) == QC_OK &&
        qc_write_file(diag, shard, file.data, file.length) == QC_OK &&
        truncate(shard, (off_t)(file.length + data)) == 0;
    qc_str_fini(&file);
    qc_str_fini(&header);
    return written ? data : 0;
}

static qc_module *import(qc_ctx *ctx, const char *directory)
{
    qc_module *module = qc_hf_import(ctx, directory, NULL);
    if (!module)
        exit(1);
    return module;
}

static void bench_import(qc_diag *diag, qc_arena *arena, const char *directory)
{
    const shape large = {28, 1536, 4096, 12, 4, 16384};
    uint64_t data = write_checkpoint(diag, arena, directory, &large);
    double best;
    MEASURE(best, {
        qc_ctx *ctx = qc_ctx_create(NULL, report, NULL);
        qc_module_destroy(import(ctx, directory));
        qc_ctx_destroy(ctx);
    });
    printf("import of a sparse checkpoint of %.2f GiB: %.2f ms\n", (double)data / (1 << 30), best * 1e3);
}

static qc_module *parse(qc_ctx *ctx, const char *text, size_t length)
{
    qc_module *module = qc_module_parse(ctx, "bench", text, length);
    if (!module)
        exit(1);
    return module;
}

static void bench_text(qc_diag *diag, qc_arena *arena, const char *directory)
{
    const shape deep = {320, 64, 128, 4, 2, 128};
    double best;
    if (!write_checkpoint(diag, arena, directory, &deep))
        exit(1);
    qc_ctx *ctx = qc_ctx_create(NULL, report, NULL);
    qc_module *module = import(ctx, directory);
    size_t length;
    char *text = qc_module_print(module, &length), *again;
    double megabytes = (double)length * 1e-6;
    printf("%.2f MB of text\n", megabytes);
    qc_ctx *fresh = qc_ctx_create(NULL, report, NULL);
    double start = now();
    qc_module *first = parse(fresh, text, length);
    printf("first parse:  %7.1f MB/s\n", megabytes / (now() - start));
    qc_module_destroy(first);
    MEASURE(best, qc_module_destroy(parse(fresh, text, length)));
    qc_ctx_destroy(fresh);
    printf("parse:        %7.1f MB/s\n", megabytes / best);
    MEASURE(best, {
        qc_ctx *another = qc_ctx_create(NULL, report, NULL);
        qc_module_destroy(parse(another, text, length));
        qc_ctx_destroy(another);
    });
    printf("with context: %7.1f MB/s\n", megabytes / best);
    MEASURE(best, again = qc_module_print(module, NULL); qc_text_free(again));
    printf("print:        %7.1f MB/s\n", megabytes / best);
    MEASURE(best, if (qc_module_verify(module, NULL) != QC_OK) exit(1));
    printf("verify:       %7.1f MB/s\n", megabytes / best);
    MEASURE(best, qc_module_destroy(qc_module_clone(module)));
    printf("clone:        %7.1f MB/s\n", megabytes / best);
    qc_text_free(text);
    qc_module_destroy(module);
    qc_ctx_destroy(ctx);
}

int main(void)
{
    char directory[] = "qc-bench-ir-XXXXXX";
    qc_arena arena;
    qc_diag diag;
    qc_arena_init(&arena, NULL);
    qc_diag_init(&diag, &arena, report, NULL);
    if (!mkdtemp(directory))
        return 1;
    bench_text(&diag, &arena, directory);
    bench_import(&diag, &arena, directory);
    qc_status removed = qc_remove_tree(&diag, directory);
    qc_arena_fini(&arena);
    return removed != QC_OK;
}
