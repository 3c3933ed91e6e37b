/* SPDX-License-Identifier: MIT
 *
 * make_moe_checkpoint.c - writes random weights in the shapes, names and element types of a published model with experts,
 * for measuring what planning and calibrating such a model takes.
 *
 *   make_moe_checkpoint DIR --model=llama4-scout|qwen3-30b-a3b|deepseek-v3|gpt-oss-20b [--layers=N] [--vocabulary=N] [--holes]
 *
 * DIR is made and must not exist. Without --holes: N layers with experts (1) and the embeddings, with data. With --holes:
 * all layers, the dense ones and those for next-token prediction too, each shard its header and a hole of its data's
 * length: such a model imports, verifies and plans, and takes no space. A shard a layer, and one for the rest. Prints one
 * line: layers, tensors, bytes.
 *
 * llama4-scout is the text model in bf16; deepseek-v3 has FP8 blocks of [128, 128], gpt-oss-20b MXFP4 experts, as
 * published. Numbers are those of config.json of these models.
 *
 * Weights: a few Mi numbers of a normal distribution (standard deviation 0.02, sums of twelve uniform ones) are drawn once
 * in each element type; a MiB of a tensor is a piece of them at a place that a hash of the tensor's name and the piece's
 * number gives. The same arguments give the same bytes.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ir/dtype/codec.h"
#include "ir/support/io.h"
#include "ir/support/safetensors.h"

enum { BLOCK_ELEMS = 4 << 20, PIECE_BYTES = 1 << 20, LAYERS_MAX = 4096 };

/* How a tensor is filled, and what it is made of. */
typedef enum kind {
    NORM,   /* bf16, ones */
    WEIGHT, /* bf16 */
    FP8,    /* f8e4m3, with NAME_scale_inv, f32, one a block of [128, 128] */
    F32,
    BLOCKS, /* bytes of two f4e2m1 */
    SCALES, /* exponents of them */
    KINDS
} kind;

typedef struct part {
    const char *name; /* below the layer; of experts with %d */
    kind kind;
    int64_t shape[4]; /* 0 behind the last dimension */
} part;

typedef struct model {
    const char *name;
    int64_t layers, dense, next; /* dense ones come first; next: behind the last */
    int64_t experts, hidden, vocabulary;
    const part *always, *moe, *expert, *mlp, *further; /* each ends with a part without a name */
    const char *config; /* with %lld for layers, dense, next, vocabulary in this order */
} model;

/* ---- the models ---------------------------------------------------------------------------------------- */

static const part scout_always[] = {{"input_layernorm.weight", NORM, {5120}},
    {"post_attention_layernorm.weight", NORM, {5120}}, {"self_attn.q_proj.weight", WEIGHT, {5120, 5120}},
    {"self_attn.k_proj.weight", WEIGHT, {1024, 5120}}, {"self_attn.v_proj.weight", WEIGHT, {1024, 5120}},
    {"self_attn.o_proj.weight", WEIGHT, {5120, 5120}}, {0}};
static const part scout_moe[] = {{"feed_forward.router.weight", WEIGHT, {16, 5120}},
    {"feed_forward.experts.gate_up_proj", WEIGHT, {16, 5120, 16384}},
    {"feed_forward.experts.down_proj", WEIGHT, {16, 8192, 5120}},
    {"feed_forward.shared_expert.gate_proj.weight", WEIGHT, {8192, 5120}},
    {"feed_forward.shared_expert.up_proj.weight", WEIGHT, {8192, 5120}},
    {"feed_forward.shared_expert.down_proj.weight", WEIGHT, {5120, 8192}}, {0}};

static const part qwen_always[] = {{"input_layernorm.weight", NORM, {2048}},
    {"post_attention_layernorm.weight", NORM, {2048}}, {"self_attn.q_proj.weight", WEIGHT, {4096, 2048}},
    {"self_attn.k_proj.weight", WEIGHT, {512, 2048}}, {"self_attn.v_proj.weight", WEIGHT, {512, 2048}},
    {"self_attn.o_proj.weight", WEIGHT, {2048, 4096}}, {"self_attn.q_norm.weight", NORM, {128}},
    {"self_attn.k_norm.weight", NORM, {128}}, {0}};
static const part qwen_moe[] = {{"mlp.gate.weight", WEIGHT, {128, 2048}}, {0}};
static const part qwen_expert[] = {{"mlp.experts.%d.gate_proj.weight", WEIGHT, {768, 2048}},
    {"mlp.experts.%d.up_proj.weight", WEIGHT, {768, 2048}},
    {"mlp.experts.%d.down_proj.weight", WEIGHT, {2048, 768}}, {0}};

static const part deepseek_always[] = {{"input_layernorm.weight", NORM, {7168}},
    {"post_attention_layernorm.weight", NORM, {7168}}, {"self_attn.q_a_proj.weight", FP8, {1536, 7168}},
    {"self_attn.q_a_layernorm.weight", NORM, {1536}}, {"self_attn.q_b_proj.weight", FP8, {24576, 1536}},
    {"self_attn.kv_a_proj_with_mqa.weight", FP8, {576, 7168}},
    {"self_attn.kv_a_layernorm.weight", NORM, {512}}, {"self_attn.kv_b_proj.weight", FP8, {32768, 512}},
    {"self_attn.o_proj.weight", FP8, {7168, 16384}}, {0}};
static const part deepseek_moe[] = {{"mlp.gate.weight", WEIGHT, {256, 7168}},
    {"mlp.gate.e_score_correction_bias", F32, {256}},
    {"mlp.shared_experts.gate_proj.weight", FP8, {2048, 7168}},
    {"mlp.shared_experts.up_proj.weight", FP8, {2048, 7168}},
    {"mlp.shared_experts.down_proj.weight", FP8, {7168, 2048}}, {0}};
static const part deepseek_expert[] = {{"mlp.experts.%d.gate_proj.weight", FP8, {2048, 7168}},
    {"mlp.experts.%d.up_proj.weight", FP8, {2048, 7168}},
    {"mlp.experts.%d.down_proj.weight", FP8, {7168, 2048}}, {0}};
static const part deepseek_mlp[] = {{"mlp.gate_proj.weight", FP8, {18432, 7168}},
    {"mlp.up_proj.weight", FP8, {18432, 7168}}, {"mlp.down_proj.weight", FP8, {7168, 18432}}, {0}};
static const part deepseek_next[] = {{"enorm.weight", NORM, {7168}}, {"hnorm.weight", NORM, {7168}},
    {"eh_proj.weight", WEIGHT, {7168, 14336}}, {"shared_head.norm.weight", NORM, {7168}},
    {"shared_head.head.weight", WEIGHT, {129280, 7168}}, {"embed_tokens.weight", WEIGHT, {129280, 7168}},
    {0}};

static const part oss_always[] = {{"input_layernorm.weight", NORM, {2880}},
    {"post_attention_layernorm.weight", NORM, {2880}}, {"self_attn.q_proj.weight", WEIGHT, {4096, 2880}},
    {"self_attn.q_proj.bias", WEIGHT, {4096}}, {"self_attn.k_proj.weight", WEIGHT, {512, 2880}},
    {"self_attn.k_proj.bias", WEIGHT, {512}}, {"self_attn.v_proj.weight", WEIGHT, {512, 2880}},
    {"self_attn.v_proj.bias", WEIGHT, {512}}, {"self_attn.o_proj.weight", WEIGHT, {2880, 4096}},
    {"self_attn.o_proj.bias", WEIGHT, {2880}}, {"self_attn.sinks", WEIGHT, {64}}, {0}};
static const part oss_moe[] = {{"mlp.router.weight", WEIGHT, {32, 2880}}, {"mlp.router.bias", WEIGHT, {32}},
    {"mlp.experts.gate_up_proj_blocks", BLOCKS, {32, 5760, 90, 16}},
    {"mlp.experts.gate_up_proj_scales", SCALES, {32, 5760, 90}},
    {"mlp.experts.gate_up_proj_bias", WEIGHT, {32, 5760}},
    {"mlp.experts.down_proj_blocks", BLOCKS, {32, 2880, 90, 16}},
    {"mlp.experts.down_proj_scales", SCALES, {32, 2880, 90}},
    {"mlp.experts.down_proj_bias", WEIGHT, {32, 2880}}, {0}};

#define COUNTS                                                                                               \
    "\"num_hidden_layers\": %lld, \"first_k_dense_replace\": %lld, \"num_nextn_predict_layers\": %lld, "     \
    "\"vocab_size\": %lld"
#define ONLY_LAYERS "\"num_hidden_layers\": %lld, \"_dense\": %lld, \"_next\": %lld, \"vocab_size\": %lld"

static const model models[] = {
    {.name = "llama4-scout",
        .layers = 48,
        .experts = 16,
        .hidden = 5120,
        .vocabulary = 202048,
        .always = scout_always,
        .moe = scout_moe,
        .config =
            "{\"architectures\": [\"Llama4ForCausalLM\"], \"model_type\": \"llama4_text\", \"torch_dtype\": "
            "\"bfloat16\", " ONLY_LAYERS
            ", \"hidden_size\": 5120, \"intermediate_size\": 8192, \"intermediate_size_mlp\": 16384, "
            "\"num_attention_heads\": 40, \"num_key_value_heads\": 8, \"head_dim\": 128, "
            "\"num_local_experts\": 16, \"num_experts_per_tok\": 1, \"interleave_moe_layer_step\": 1, "
            "\"max_position_embeddings\": 10485760, \"attention_chunk_size\": 8192, "
            "\"attn_temperature_tuning\": true, \"floor_scale\": 8192, \"attn_scale\": 0.1, \"use_qk_norm\": "
            "true, \"no_rope_layers\": [], \"rms_norm_eps\": 1e-05, \"rope_theta\": 500000.0, "
            "\"rope_scaling\": {\"factor\": 16.0, \"high_freq_factor\": 1.0, \"low_freq_factor\": 1.0, "
            "\"original_max_position_embeddings\": 8192, \"rope_type\": \"llama3\"}, \"hidden_act\": "
            "\"silu\", "
            "\"tie_word_embeddings\": false}"},
    {.name = "qwen3-30b-a3b",
        .layers = 48,
        .experts = 128,
        .hidden = 2048,
        .vocabulary = 151936,
        .always = qwen_always,
        .moe = qwen_moe,
        .expert = qwen_expert,
        .config =
            "{\"architectures\": [\"Qwen3MoeForCausalLM\"], \"model_type\": \"qwen3_moe\", \"torch_dtype\": "
            "\"bfloat16\", " ONLY_LAYERS
            ", \"hidden_size\": 2048, \"intermediate_size\": 6144, \"moe_intermediate_size\": 768, "
            "\"num_attention_heads\": 32, \"num_key_value_heads\": 4, \"head_dim\": 128, \"num_experts\": "
            "128, "
            "\"num_experts_per_tok\": 8, \"norm_topk_prob\": true, \"decoder_sparse_step\": 1, "
            "\"mlp_only_layers\": [], \"max_position_embeddings\": 40960, \"rms_norm_eps\": 1e-06, "
            "\"rope_theta\": 1000000.0, \"rope_scaling\": null, \"use_sliding_window\": false, "
            "\"hidden_act\": \"silu\", \"tie_word_embeddings\": false}"},
    {.name = "deepseek-v3",
        .layers = 61,
        .dense = 3,
        .next = 1,
        .experts = 256,
        .hidden = 7168,
        .vocabulary = 129280,
        .always = deepseek_always,
        .moe = deepseek_moe,
        .expert = deepseek_expert,
        .mlp = deepseek_mlp,
        .further = deepseek_next,
        .config =
            "{\"architectures\": [\"DeepseekV3ForCausalLM\"], \"model_type\": \"deepseek_v3\", "
            "\"torch_dtype\": \"bfloat16\", " COUNTS
            ", \"hidden_size\": 7168, \"intermediate_size\": 18432, \"moe_intermediate_size\": 2048, "
            "\"num_attention_heads\": 128, \"num_key_value_heads\": 128, \"q_lora_rank\": 1536, "
            "\"kv_lora_rank\": 512, \"qk_nope_head_dim\": 128, \"qk_rope_head_dim\": 64, \"v_head_dim\": "
            "128, "
            "\"n_routed_experts\": 256, \"n_shared_experts\": 1, \"num_experts_per_tok\": 8, \"n_group\": 8, "
            "\"topk_group\": 4, \"topk_method\": \"noaux_tc\", \"scoring_func\": \"sigmoid\", "
            "\"norm_topk_prob\": true, \"routed_scaling_factor\": 2.5, \"moe_layer_freq\": 1, "
            "\"max_position_embeddings\": 163840, \"rms_norm_eps\": 1e-06, \"rope_theta\": 10000, "
            "\"rope_scaling\": {\"beta_fast\": 32, \"beta_slow\": 1, \"factor\": 40, \"mscale\": 1.0, "
            "\"mscale_all_dim\": 1.0, \"original_max_position_embeddings\": 4096, \"type\": \"yarn\"}, "
            "\"hidden_act\": \"silu\", \"tie_word_embeddings\": false, \"quantization_config\": "
            "{\"activation_scheme\": \"dynamic\", \"fmt\": \"e4m3\", \"quant_method\": \"fp8\", "
            "\"weight_block_size\": [128, 128]}}"},
    {.name = "gpt-oss-20b",
        .layers = 24,
        .experts = 32,
        .hidden = 2880,
        .vocabulary = 201088,
        .always = oss_always,
        .moe = oss_moe,
        .config =
            "{\"architectures\": [\"GptOssForCausalLM\"], \"model_type\": \"gpt_oss\", \"torch_dtype\": "
            "\"bfloat16\", " ONLY_LAYERS
            ", \"hidden_size\": 2880, \"intermediate_size\": 2880, \"num_attention_heads\": 64, "
            "\"num_key_value_heads\": 8, \"head_dim\": 64, \"num_local_experts\": 32, "
            "\"num_experts_per_tok\": 4, \"experts_per_token\": 4, \"swiglu_limit\": 7.0, "
            "\"attention_bias\": true, \"sliding_window\": 128, \"max_position_embeddings\": 131072, "
            "\"rms_norm_eps\": 1e-05, \"rope_theta\": 150000, \"rope_scaling\": {\"beta_fast\": 32.0, "
            "\"beta_slow\": 1.0, \"factor\": 32.0, \"original_max_position_embeddings\": 4096, "
            "\"rope_type\": "
            "\"yarn\", \"truncate\": false}, \"hidden_act\": \"silu\", \"tie_word_embeddings\": false, "
            "\"quantization_config\": {\"modules_to_not_convert\": [\"model.layers.*.self_attn\", "
            "\"model.layers.*.mlp.router\", \"model.embed_tokens\", \"lm_head\"], \"quant_method\": "
            "\"mxfp4\"}}"},
};

/* ---- what there is ------------------------------------------------------------------------------------- */

typedef struct job {
    const model *model;
    const char *directory;
    int64_t layers, dense, next, vocabulary, shards, shard;
    bool holes;
    qc_diag diag;
    qc_arena arena;
    QC_VEC(qc_st_out) tensors; /* of the shard in the making */
    qc_json *map;
    size_t count;
    uint64_t bytes;
    unsigned char *drawn[KINDS];
} job;

static void report(void *user, qc_severity severity, const char *where, const char *what)
{
    (void)user, (void)severity;
    fprintf(stderr, "make_moe_checkpoint: %s: %s\n", where, what);
}

static const char *dtype_of(kind k)
{
    static const char *const names[KINDS] = {"BF16", "BF16", "F8_E4M3", "F32", "U8", "U8"};
    return names[k];
}

static void add(job *j, const char *name, kind k, const int64_t *shape)
{
    int64_t *sizes = QC_NEW_ARRAY(&j->arena, int64_t, 4);
    int rank = 0;
    for (; rank < 4 && shape[rank]; rank++)
        sizes[rank] = shape[rank];
    QC_PUSH(&j->arena, &j->tensors,
        (qc_st_out){
            .name = name, .dtype = dtype_of(k), .rank = rank, .shape = sizes, .user = (void *)(uintptr_t)k});
    if (k == FP8) {
        const int64_t blocks[4] = {(shape[0] + 127) / 128, (shape[1] + 127) / 128};
        add(j, qc_arena_printf(&j->arena, "%s_scale_inv", name), F32, blocks);
    }
}

/* %d in the name stands for the expert. */
static void add_parts(job *j, int64_t layer, const part *parts, int64_t expert)
{
    for (; parts && parts->name; parts++) {
        const char *number = strstr(parts->name, "%d");
        const char *name =
            number ? qc_arena_printf(&j->arena, "model.layers.%lld.%.*s%lld%s", (long long)layer,
                         (int)(number - parts->name), parts->name, (long long)expert, number + 2)
                   : qc_arena_printf(&j->arena, "model.layers.%lld.%s", (long long)layer, parts->name);
        add(j, name, parts->kind, parts->shape);
    }
}

static void add_layer(job *j, int64_t layer)
{
    const model *m = j->model;
    add_parts(j, layer, m->always, 0);
    if (layer < j->dense) {
        add_parts(j, layer, m->mlp, 0);
        return;
    }
    add_parts(j, layer, m->moe, 0);
    for (int64_t e = 0; m->expert && e < m->experts; e++)
        add_parts(j, layer, m->expert, e);
    if (layer >= j->layers)
        add_parts(j, layer, m->further, 0);
}

static void add_edges(job *j)
{
    const int64_t table[4] = {j->vocabulary, j->model->hidden}, norm[4] = {j->model->hidden};
    add(j, "model.embed_tokens.weight", WEIGHT, table);
    add(j, "model.norm.weight", NORM, norm);
    add(j, "lm_head.weight", WEIGHT, table);
}

/* ---- numbers ------------------------------------------------------------------------------------------- */

/* The finaliser of SplitMix64. */
static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

/* A normal distribution, standard deviation 1: twelve uniform 16-bit numbers have mean 12 * 32767.5 and deviation 65536. */
static float draw(uint64_t *state)
{
    int sum = 0;
    for (int k = 0; k < 3; k++) {
        uint64_t r = mix(*state += UINT64_C(0x9e3779b97f4a7c15));
        sum += (int)((r & 0xffff) + (r >> 16 & 0xffff) + (r >> 32 & 0xffff) + (r >> 48));
    }
    return ((float)sum - 393210.0f) / 65536.0f;
}

/* f8e4m3 codes of deviation 100, so that a scale of 0.0002 gives 0.02; exponents around 2^-8 for codes up to 6. */
static bool draw_all(job *j)
{
    uint64_t state = 1;
    for (int k = 0; k < KINDS; k++) {
        j->drawn[k] = malloc((size_t)BLOCK_ELEMS * 4);
        if (!j->drawn[k])
            return false;
    }
    for (size_t i = 0; i < BLOCK_ELEMS; i++) {
        const float x = draw(&state), one = 1, weight = 0.02f * x, code = 100 * x,
                    scale = 0.0002f * (1 + x * x);
        const uint64_t r = mix(state);
        qc_encode_f32(QC_BF16, &one, j->drawn[NORM] + 2 * i, 1);
        qc_encode_f32(QC_BF16, &weight, j->drawn[WEIGHT] + 2 * i, 1);
        qc_encode_f32(QC_F8E4M3, &code, j->drawn[FP8] + i, 1);
        memcpy(j->drawn[F32] + 4 * i, &scale, 4);
        j->drawn[BLOCKS][i] = (unsigned char)r;
        j->drawn[SCALES][i] = (unsigned char)(118 + (r >> 8) % 3);
    }
    return true;
}

static bool write_data(job *j, int fd, const char *path, const qc_st_out *t)
{
    const kind k = (kind)(uintptr_t)t->user;
    const uint64_t each = (uint64_t)qc_st_dtype_bits(t->dtype) / 8;
    uint64_t hash = 0;
    for (const char *p = t->name; *p; p++)
        hash = mix(hash ^ (unsigned char)*p);
    for (uint64_t at = 0; at < t->size_bytes; at += PIECE_BYTES) {
        const uint64_t left = t->size_bytes - at, length = left < PIECE_BYTES ? left : PIECE_BYTES;
        const uint64_t from = mix(hash + at) % (BLOCK_ELEMS - PIECE_BYTES / each) * each;
        if (qc_write_all(&j->diag, fd, path, (const char *)j->drawn[k] + from, (size_t)length) != QC_OK)
            return false;
    }
    return true;
}

/* ---- files --------------------------------------------------------------------------------------------- */

static bool write_shard(job *j)
{
    char *header;
    size_t header_bytes, count = j->tensors.count;
    uint64_t data_bytes = 0;
    qc_st_out *tensors = j->tensors.items;
    const char *name = qc_arena_printf(
        &j->arena, "model-%05lld-of-%05lld.safetensors", (long long)++j->shard, (long long)j->shards);
    const char *path = qc_path_join(&j->arena, j->directory, name);
    if (qc_st_layout(&j->diag, &j->arena, tensors, count, true, &header, &header_bytes) != QC_OK)
        return false;
    const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0)
        return qc_error(&j->diag, path, "cannot create: %s", strerror(errno)) == QC_OK;
    bool ok = qc_write_all(&j->diag, fd, path, header, header_bytes) == QC_OK;
    for (size_t i = 0; ok && i < count; i++) {
        data_bytes += tensors[i].size_bytes;
        qc_json_set(&j->arena, j->map, tensors[i].name, qc_json_new_string(&j->arena, name));
        ok = j->holes || write_data(j, fd, path, &tensors[i]);
    }
    ok = ok && (!j->holes || ftruncate(fd, (off_t)(header_bytes + data_bytes)) == 0);
    j->count += count;
    j->bytes += data_bytes;
    j->tensors.count = 0;
    return close(fd) == 0 && ok;
}

static bool write_index(job *j)
{
    qc_json *index = qc_json_new(&j->arena, QC_JSON_OBJECT),
            *metadata = qc_json_new(&j->arena, QC_JSON_OBJECT);
    qc_str text;
    qc_json_set(&j->arena, metadata, "total_size", qc_json_new_int(&j->arena, (int64_t)j->bytes));
    qc_json_set(&j->arena, index, "metadata", metadata);
    qc_json_set(&j->arena, index, "weight_map", j->map);
    qc_str_init(&text, &j->arena);
    qc_json_write(&text, index, 2, false);
    qc_status status = qc_write_file(&j->diag,
        qc_path_join(&j->arena, j->directory, "model.safetensors.index.json"), text.data, text.length);
    qc_str_fini(&text);
    return status == QC_OK;
}

/* The numbers go where the text has %lld; keys that start with "_" stand for numbers that the model has no key for. */
static bool write_config(job *j)
{
    const int64_t numbers[4] = {j->layers, j->dense, j->next, j->vocabulary};
    qc_str text;
    qc_str_init(&text, &j->arena);
    const char *at = j->model->config, *next;
    for (int i = 0; i < 4; i++, at = next + strlen("%lld")) {
        next = strstr(at, "%lld");
        qc_str_addf(&text, "%.*s%lld", (int)(next - at), at, (long long)numbers[i]);
    }
    qc_str_addf(&text, "%s", at);
    qc_json *config = qc_json_parse(&j->diag, &j->arena, "config.json", text.data, text.length);
    qc_json *kept = qc_json_new(&j->arena, QC_JSON_OBJECT);
    for (qc_json *item = config ? config->first : NULL, *following; item; item = following) {
        following = item->next;
        item->next = NULL;
        if (item->key[0] != '_')
            qc_json_set(&j->arena, kept, item->key, item);
    }
    text.length = 0;
    qc_json_write(&text, kept, 2, true);
    qc_status status =
        qc_write_file(&j->diag, qc_path_join(&j->arena, j->directory, "config.json"), text.data, text.length);
    qc_str_fini(&text);
    return config && status == QC_OK;
}

static bool write_all(job *j)
{
    const int64_t layers = j->layers + j->next;
    j->shards = layers + 1;
    j->map = qc_json_new(&j->arena, QC_JSON_OBJECT);
    add_edges(j);
    bool ok = write_config(j) && (j->holes || draw_all(j)) && write_shard(j);
    for (int64_t i = 0; ok && i < layers; i++) {
        add_layer(j, i);
        ok = write_shard(j);
    }
    return ok && write_index(j);
}

/* ---- command line -------------------------------------------------------------------------------------- */

static bool take(const char *argument, const char *name, int64_t most, int64_t *value)
{
    const size_t length = strlen(name);
    char *end;
    if (strncmp(argument, name, length) != 0 || argument[length] != '=')
        return false;
    errno = 0;
    *value = strtoll(argument + length + 1, &end, 10);
    return !errno && !*end && *value >= 1 && *value <= most;
}

static bool take_model(const char *argument, const model **found)
{
    const char *name = "--model=";
    for (size_t i = 0; i < sizeof models / sizeof *models; i++)
        if (strncmp(argument, name, strlen(name)) == 0 &&
            strcmp(argument + strlen(name), models[i].name) == 0) {
            *found = &models[i];
            return true;
        }
    return false;
}

int main(int argc, char **argv)
{
    job j = {0};
    bool known = true;
    for (int i = 1; i < argc; i++) {
        if (take(argv[i], "--layers", LAYERS_MAX, &j.layers) ||
            take(argv[i], "--vocabulary", INT32_MAX, &j.vocabulary) || take_model(argv[i], &j.model))
            continue;
        if (strcmp(argv[i], "--holes") == 0)
            j.holes = true;
        else if (argv[i][0] == '-' || j.directory)
            known = false;
        else
            j.directory = argv[i];
    }
    if (!known || !j.directory || !j.model || (j.layers && j.holes)) {
        fprintf(stderr,
            "usage: make_moe_checkpoint DIR --model=llama4-scout|qwen3-30b-a3b|deepseek-v3|gpt-oss-20b "
            "[--layers=N] [--vocabulary=N] [--holes]\n");
        return 2;
    }
    j.dense = j.holes ? j.model->dense : 0;
    j.next = j.holes ? j.model->next : 0;
    j.layers = j.holes ? j.model->layers : j.layers ? j.layers : 1;
    j.vocabulary = j.vocabulary ? j.vocabulary : j.model->vocabulary;
    qc_arena_init(&j.arena, NULL);
    qc_diag_init(&j.diag, &j.arena, report, NULL);
    bool ok = mkdir(j.directory, 0777) == 0;
    if (!ok)
        fprintf(
            stderr, "make_moe_checkpoint: %s: cannot make the directory: %s\n", j.directory, strerror(errno));
    ok = ok && write_all(&j);
    if (ok)
        printf("%lld layers, %zu tensors, %llu bytes\n", (long long)(j.layers + j.next), j.count,
            (unsigned long long)j.bytes);
    for (int k = 0; k < KINDS; k++)
        free(j.drawn[k]);
    qc_arena_fini(&j.arena);
    return ok ? 0 : 1;
}
