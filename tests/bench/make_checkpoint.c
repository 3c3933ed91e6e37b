/* SPDX-License-Identifier: MIT
 *
 * make_checkpoint.c - writes a big bf16 Llama of random weights, for measuring jobs that stream checkpoints.
 *
 *   make_checkpoint DIR [--size=4GiB] [--shards=4] [--hidden=2048] [--intermediate=8192] [--vocabulary=32000]
 *
 * DIR is made and must not exist. It gets config.json, model-0000K-of-0000N.safetensors and the index; the number
 * of layers is what comes closest to the size. Prints one line: layers, tensors, bytes.
 *
 * Weights: 4 Mi numbers of a normal distribution (standard deviation 0.02; sums of twelve uniform ones) are drawn once.
 * A row is a piece of that block at a place that a hash of tensor and row gives, with the sign of all its numbers and a
 * factor of 1/2, 1 or 2 from the same hash. So rows differ, their largest values differ, no row repeats in its
 * neighbourhood, and the work is a copy: the disk sets the speed. Norms are 1. The same arguments give the same bytes.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ir/support/io.h"
#include "ir/support/safetensors.h"

enum { BLOCK_ELEMS = 4 << 20, BUFFER_BYTES = 16 << 20, HEAD_DIM = 64 };

typedef struct shape {
    int64_t layers, hidden, intermediate, vocabulary, shards;
} shape;

typedef struct job {
    shape shape;
    const char *directory;
    qc_diag diag;
    qc_arena arena;
    QC_VEC(qc_st_out) tensors; /* in state-dict order */
    uint16_t *block;
    char *buffer;
    size_t buffered;
    int fd;
} job;

static void report(void *user, qc_severity severity, const char *where, const char *what)
{
    (void)user, (void)severity;
    fprintf(stderr, "make_checkpoint: %s: %s\n", where, what);
}

/* The finaliser of SplitMix64. */
static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

static uint16_t to_bf16(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static bool draw_block(job *j)
{
    j->block = malloc(BLOCK_ELEMS * sizeof *j->block);
    j->buffer = malloc(BUFFER_BYTES);
    if (!j->block || !j->buffer)
        return false;
    uint64_t state = 1;
    for (size_t i = 0; i < BLOCK_ELEMS; i++) {
        int sum = 0; /* of twelve uniform 16-bit numbers: mean 12 * 32767.5, standard deviation 65536 */
        for (int k = 0; k < 3; k++) {
            uint64_t r = mix(state += UINT64_C(0x9e3779b97f4a7c15));
            sum += (int)((r & 0xffff) + (r >> 16 & 0xffff) + (r >> 32 & 0xffff) + (r >> 48));
        }
        j->block[i] = to_bf16(0.02f * ((float)sum - 393210.0f) / 65536.0f);
    }
    return true;
}

/* ---- what there is ------------------------------------------------------------------------------------- */

static void add(job *j, const char *name, int rank, int64_t rows, int64_t columns)
{
    int64_t *sizes = QC_NEW_ARRAY(&j->arena, int64_t, 2);
    sizes[0] = rows;
    sizes[1] = columns;
    uint64_t bytes = 2 * (uint64_t)rows * (uint64_t)(rank == 2 ? columns : 1);
    QC_PUSH(&j->arena, &j->tensors,
        (qc_st_out){.name = name, .dtype = "BF16", .rank = rank, .shape = sizes, .size_bytes = bytes});
}

static void add_layer(job *j, int64_t layer)
{
    const shape *s = &j->shape;
    int64_t kv = s->hidden / 4;
    const struct {
        const char *name;
        int rank;
        int64_t rows, columns;
    } parts[] = {{"self_attn.q_proj", 2, s->hidden, s->hidden}, {"self_attn.k_proj", 2, kv, s->hidden},
        {"self_attn.v_proj", 2, kv, s->hidden}, {"self_attn.o_proj", 2, s->hidden, s->hidden},
        {"mlp.gate_proj", 2, s->intermediate, s->hidden}, {"mlp.up_proj", 2, s->intermediate, s->hidden},
        {"mlp.down_proj", 2, s->hidden, s->intermediate}, {"input_layernorm", 1, s->hidden, 0},
        {"post_attention_layernorm", 1, s->hidden, 0}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        add(j, qc_arena_printf(&j->arena, "model.layers.%lld.%s.weight", (long long)layer, parts[i].name),
            parts[i].rank, parts[i].rows, parts[i].columns);
}

static int64_t layer_bytes(const shape *s)
{
    return 2 * (s->hidden * s->hidden / 2 * 5 + 3 * s->hidden * s->intermediate + 2 * s->hidden);
}

static void add_all(job *j, int64_t size_bytes)
{
    shape *s = &j->shape;
    int64_t fixed = 2 * (2 * s->vocabulary * s->hidden + s->hidden), each = layer_bytes(s);
    s->layers = size_bytes > fixed ? (size_bytes - fixed + each / 2) / each : 1;
    s->layers = s->layers ? s->layers : 1;
    add(j, "model.embed_tokens.weight", 2, s->vocabulary, s->hidden);
    for (int64_t i = 0; i < s->layers; i++)
        add_layer(j, i);
    add(j, "model.norm.weight", 1, s->hidden, 0);
    add(j, "lm_head.weight", 2, s->vocabulary, s->hidden);
}

/* ---- writing ------------------------------------------------------------------------------------------- */

static bool flush(job *j)
{
    size_t length = j->buffered;
    j->buffered = 0;
    return qc_write_all(&j->diag, j->fd, j->directory, j->buffer, length) == QC_OK;
}

/* One row of the tensor with that hash, behind what is in the buffer. */
static void put_row(job *j, uint64_t tensor, int64_t row, int64_t columns, bool norm)
{
    uint16_t *out = (uint16_t *)(void *)(j->buffer + j->buffered);
    j->buffered += (size_t)columns * 2;
    if (norm) {
        for (int64_t i = 0; i < columns; i++)
            out[i] = 0x3f80;
        return;
    }
    uint64_t hash = mix(tensor + (uint64_t)row);
    const uint16_t sign = (uint16_t)(hash >> 63 << 15), factor = (uint16_t)((hash >> 40) % 3 << 7);
    size_t at = (size_t)(hash % (uint64_t)(BLOCK_ELEMS - columns));
    const uint16_t *in = j->block + at;
    for (int64_t i = 0; i < columns; i++) {
        uint16_t x = in[i];
        /* Numbers below 2^-125 stay: a smaller exponent would borrow from the sign. */
        out[i] = (uint16_t)(((x & 0x7f80) > 0x100 ? x + factor - 0x80 : x) ^ sign);
    }
}

static bool write_tensor(job *j, const qc_st_out *t)
{
    int64_t rows = t->rank == 2 ? t->shape[0] : 1, columns = t->rank == 2 ? t->shape[1] : t->shape[0];
    uint64_t hash = 0;
    for (const char *p = t->name; *p; p++)
        hash = mix(hash ^ (unsigned char)*p);
    for (int64_t row = 0; row < rows; row++) {
        if (j->buffered + (size_t)columns * 2 > BUFFER_BYTES && !flush(j))
            return false;
        put_row(j, hash, row, columns, t->rank == 1);
    }
    return true;
}

static const char *shard_name(job *j, int64_t shard)
{
    if (j->shape.shards == 1)
        return "model.safetensors";
    return qc_arena_printf(
        &j->arena, "model-%05lld-of-%05lld.safetensors", (long long)shard + 1, (long long)j->shape.shards);
}

static bool write_shard(job *j, const char *name, qc_st_out *tensors, size_t count)
{
    char *header;
    size_t header_bytes;
    if (qc_st_layout(&j->diag, &j->arena, tensors, count, true, &header, &header_bytes) != QC_OK)
        return false;
    const char *path = qc_path_join(&j->arena, j->directory, name);
    j->fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (j->fd < 0)
        return qc_error(&j->diag, path, "cannot create: %s", strerror(errno)) == QC_OK;
    bool ok = qc_write_all(&j->diag, j->fd, path, header, header_bytes) == QC_OK;
    for (size_t i = 0; ok && i < count; i++)
        ok = write_tensor(j, &tensors[i]);
    ok = ok && flush(j);
    return close(j->fd) == 0 && ok;
}

/* Shards of about equal size, in state-dict order. */
static bool write_shards(job *j, uint64_t *bytes)
{
    *bytes = 0;
    for (size_t i = 0; i < j->tensors.count; i++)
        *bytes += j->tensors.items[i].size_bytes;
    qc_json *index = qc_json_new(&j->arena, QC_JSON_OBJECT), *map = qc_json_new(&j->arena, QC_JSON_OBJECT);
    qc_json *metadata = qc_json_new(&j->arena, QC_JSON_OBJECT);
    uint64_t done = 0;
    size_t first = 0;
    for (int64_t shard = 0; shard < j->shape.shards; shard++) {
        uint64_t until = *bytes / (uint64_t)j->shape.shards * (uint64_t)(shard + 1);
        bool last = shard + 1 == j->shape.shards;
        size_t end = first;
        const char *name = shard_name(j, shard);
        for (; end < j->tensors.count && (last || done < until || end == first); end++) {
            done += j->tensors.items[end].size_bytes;
            qc_json_set(&j->arena, map, j->tensors.items[end].name, qc_json_new_string(&j->arena, name));
        }
        if (!write_shard(j, name, j->tensors.items + first, end - first))
            return false;
        first = end;
    }
    if (j->shape.shards == 1)
        return true;
    qc_json_set(&j->arena, metadata, "total_size", qc_json_new_int(&j->arena, (int64_t)*bytes));
    qc_json_set(&j->arena, index, "metadata", metadata);
    qc_json_set(&j->arena, index, "weight_map", map);
    qc_str text;
    qc_str_init(&text, &j->arena);
    qc_json_write(&text, index, 2, false);
    qc_status status = qc_write_file(&j->diag,
        qc_path_join(&j->arena, j->directory, "model.safetensors.index.json"), text.data, text.length);
    qc_str_fini(&text);
    return status == QC_OK;
}

static bool write_config(job *j)
{
    const shape *s = &j->shape;
    const char *text = qc_arena_printf(&j->arena,
        "{\n  \"architectures\": [\"LlamaForCausalLM\"],\n  \"model_type\": \"llama\",\n"
        "  \"torch_dtype\": \"bfloat16\",\n  \"vocab_size\": %lld,\n  \"hidden_size\": %lld,\n"
        "  \"intermediate_size\": %lld,\n  \"num_hidden_layers\": %lld,\n  \"num_attention_heads\": %lld,\n"
        "  \"num_key_value_heads\": %lld,\n  \"head_dim\": %d,\n  \"max_position_embeddings\": 4096,\n"
        "  \"rms_norm_eps\": 1e-05,\n  \"rope_theta\": 10000.0,\n  \"hidden_act\": \"silu\",\n"
        "  \"tie_word_embeddings\": false\n}\n",
        (long long)s->vocabulary, (long long)s->hidden, (long long)s->intermediate, (long long)s->layers,
        (long long)s->hidden / HEAD_DIM, (long long)s->hidden / HEAD_DIM / 4, HEAD_DIM);
    return qc_write_file(
               &j->diag, qc_path_join(&j->arena, j->directory, "config.json"), text, strlen(text)) == QC_OK;
}

/* ---- command line -------------------------------------------------------------------------------------- */

/* --NAME=NUMBER with K, M, G, KiB, MiB, GiB (all of 1024); false when the argument is another one. */
static bool take(const char *argument, const char *name, int64_t *value)
{
    size_t length = strlen(name);
    if (strncmp(argument, name, length) != 0 || argument[length] != '=')
        return false;
    char *end;
    errno = 0;
    long long number = strtoll(argument + length + 1, &end, 10);
    int shift = *end == 'K' ? 10 : *end == 'M' ? 20 : *end == 'G' ? 30 : 0;
    end += shift != 0;
    end += shift && strcmp(end, "iB") == 0 ? 2 : 0;
    if (errno || *end || end == argument + length + 1 || number < 1 || number > INT64_MAX >> shift >> 4)
        return false;
    *value = (int64_t)number << shift;
    return true;
}

int main(int argc, char **argv)
{
    job j = {.shape = {0, 2048, 8192, 32000, 4}};
    int64_t size_bytes = INT64_C(4) << 30;
    for (int i = 1; i < argc; i++) {
        if (take(argv[i], "--size", &size_bytes) || take(argv[i], "--shards", &j.shape.shards) ||
            take(argv[i], "--hidden", &j.shape.hidden) ||
            take(argv[i], "--intermediate", &j.shape.intermediate) ||
            take(argv[i], "--vocabulary", &j.shape.vocabulary))
            continue;
        if (argv[i][0] == '-' || j.directory) {
            fprintf(stderr, "make_checkpoint: what is '%s'?\n", argv[i]);
            return 2;
        }
        j.directory = argv[i];
    }
    int64_t widest = j.shape.hidden > j.shape.intermediate ? j.shape.hidden : j.shape.intermediate;
    if (!j.directory || j.shape.hidden % (4 * HEAD_DIM) != 0 || widest > BLOCK_ELEMS / 2 ||
        j.shape.vocabulary > INT32_MAX || j.shape.shards > 99999) {
        fprintf(stderr,
            "usage: make_checkpoint DIR [--size=BYTES] [--shards=N] [--hidden=N, a multiple of %d] "
            "[--intermediate=N] [--vocabulary=N]\n",
            4 * HEAD_DIM);
        return 2;
    }
    uint64_t bytes = 0;
    qc_arena_init(&j.arena, NULL);
    qc_diag_init(&j.diag, &j.arena, report, NULL);
    add_all(&j, size_bytes);
    bool ok = false;
    if ((size_t)j.shape.shards > j.tensors.count)
        fprintf(stderr, "make_checkpoint: more shards than tensors\n");
    else if (mkdir(j.directory, 0777) != 0)
        fprintf(stderr, "make_checkpoint: %s: cannot make the directory: %s\n", j.directory, strerror(errno));
    else if (!draw_block(&j))
        fprintf(stderr, "make_checkpoint: out of memory\n");
    else
        ok = write_config(&j) && write_shards(&j, &bytes);
    if (ok)
        printf("%lld layers, %zu tensors, %llu bytes\n", (long long)j.shape.layers, j.tensors.count,
            (unsigned long long)bytes);
    free(j.buffer);
    free(j.block);
    qc_arena_fini(&j.arena);
    return ok ? 0 : 1;
}
