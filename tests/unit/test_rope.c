/* SPDX-License-Identifier: MIT
 *
 * test_rope.c - from config.json to rotary frequencies: what the importer reads, as the map that the op `rope` takes, gives
 * the frequencies, factors and softmax scales of Transformers (rope_goldens.h), in both dialects of config.json, for each
 * architecture; and what it refuses.
 */
#include <math.h>
#include <string.h>

#include "frontends/hf/config.h"
#include "ir/ctx.h"
#include "ir/rope.h"
#include "tests/unit/check.h"
#include "tests/unit/messages.h"
#include "tests/unit/rope_goldens.h"

typedef struct reading {
    messages said;
    qc_ctx *ctx;
    qc_hf_config config;
    qc_status status;
} reading;

static void read_text(reading *r, const char *text)
{
    *r = (reading){0};
    r->ctx = qc_ctx_create(NULL, keep_message, &r->said);
    r->status = qc_hf_config_parse(
        qc_ctx_diag(r->ctx), qc_ctx_arena(r->ctx), "config.json", text, strlen(text), &r->config);
}

static float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Units in the last place of `expected` between the two. */
static double units(float actual, float expected)
{
    const float next = nextafterf(expected, INFINITY);
    return fabs((double)actual - (double)expected) / ((double)next - (double)expected);
}

/* PyTorch's f32 power is the neighbouring number in about one of 100 cases, and the ramps of yarn and llama3 pass that on. */
static void check_golden(const struct rope_golden *g)
{
    reading r;
    read_text(&r, g->config);
    if (r.status != QC_OK) {
        CHECK_FAIL("%s: %s", g->name, r.said.last);
        qc_ctx_destroy(r.ctx);
        return;
    }
    const qc_hf_attention_config *a = &r.config.attention;
    const qc_hf_rope *rope = &a->ropes[a->spans[g->layer].rope];
    const qc_attr *scaling = qc_hf_rope_attr(r.ctx, qc_ctx_arena(r.ctx), rope);
    float frequencies[256], factor = 0;
    double worst = 0;
    size_t off = 0;
    if (rope->dims != 2 * g->count) {
        CHECK_FAIL("%s: %lld columns are turned, not %lld", g->name, (long long)rope->dims,
            (long long)(2 * g->count));
    } else if (qc_rope_frequencies(qc_ctx_diag(r.ctx), scaling, rope->theta, rope->dims, g->length,
                   frequencies, &factor) != QC_OK) {
        CHECK_FAIL("%s: %s", g->name, r.said.last);
    } else {
        for (int64_t i = 0; i < g->count; i++) {
            const double distance = units(frequencies[i], float_of(g->frequencies[i]));
            worst = fmax(worst, distance);
            off += distance > 0;
        }
        if (worst > 3 || off > 4)
            CHECK_FAIL("%s, layer %lld, length %lld: %zu frequencies differ, by up to %g units", g->name,
                (long long)g->layer, (long long)g->length, off, worst);
        CHECK(units(factor, (float)g->factor) <= 1);
        CHECK(fabs(a->score_scale / g->scale - 1) < 1e-12);
    }
    qc_ctx_destroy(r.ctx);
}

static void test_goldens(void)
{
    for (size_t i = 0; i < sizeof rope_goldens / sizeof *rope_goldens; i++)
        check_golden(&rope_goldens[i]);
}

/* Members of a small config.json and what is said of them. */
typedef struct refusal {
    const char *architecture, *model_type, *members, *message;
} refusal;

#define LLAMA "LlamaForCausalLM", "llama"
#define PHI3 "Phi3ForCausalLM", "phi3"
#define GEMMA2 "Gemma2ForCausalLM", "gemma2"
#define GEMMA3 "Gemma3ForCausalLM", "gemma3_text"
#define GLM4 "Glm4ForCausalLM", "glm4"
#define GRANITE "GraniteForCausalLM", "granite"
#define LLAMA4 "Llama4ForCausalLM", "llama4_text"
#define DEEPSEEK "DeepseekV3ForCausalLM", "deepseek_v3"
#define GPT_OSS "GptOssForCausalLM", "gpt_oss"
#define LONGROPE "'rope_scaling': {'type': 'longrope', 'short_factor': "

static const refusal refusals[] = {
    {LLAMA, "'num_attention_heads': 0", "num_attention_heads must be from 1 to 2147483647, not 0"},
    {LLAMA, "'num_attention_heads': -4", "num_attention_heads must be from 1 to 2147483647, not -4"},
    {LLAMA, "'head_dim': 4294967296", "head_dim must be from 1 to 2147483647"},
    {LLAMA, "'head_dim': 2000000000", "6 heads of 2000000000 columns are more than 2147483647"},
    {LLAMA, "'head_dim': 5", "head_dim 5 is odd"},
    {LLAMA, "'num_key_value_heads': 3", "num_attention_heads 4 is not a multiple of num_key_value_heads 3"},
    {LLAMA, "'layer_types': ['full_attention']",
        "layer_types must be a list of num_hidden_layers = 4 strings"},
    {LLAMA, "'attn_logit_softcapping': 50.0", "attn_logit_softcapping is set, and qc does not know"},
    {LLAMA, "'query_pre_attn_scalar': 50.0", "query_pre_attn_scalar is set, and qc does not know"},
    {LLAMA, "'partial_rotary_factor': 0.5", "partial_rotary_factor is 0.5: only rotation of whole heads"},
    {PHI3, "'partial_rotary_factor': 0.4", "partial_rotary_factor 0.4 of heads of 8 columns makes no pairs"},
    {PHI3, "'partial_rotary_factor': 1.5", "partial_rotary_factor 1.5 of heads of 8 columns makes no pairs"},
    {PHI3, "'partial_rotary_factor': -0.5", "partial_rotary_factor must be greater than 0, not -0.5"},
    {PHI3, "'rope_scaling': {'type': 'yarn', 'factor': 2}",
        "rope type 'yarn' is not supported in Phi3ForCausalLM; supported are default and longrope"},
    {PHI3, LONGROPE "[1, 1, 1], 'long_factor': [1, 1, 1, 1]}", "short_factor must be a list of 4 numbers"},
    {PHI3, LONGROPE "[1, 1, 1, 1]}", "long_factor must be a list of 4 numbers"},
    {PHI3, LONGROPE "[1, 1, 1, 1], 'long_factor': [1, 0, 1, 1]}",
        "long_factor[1] must be a number greater than 0"},
    {PHI3, LONGROPE "[1, 1, 1, 1], 'long_factor': 7}", "long_factor must be a list of 4 numbers"},
    {PHI3, "'original_max_position_embeddings': 1, " LONGROPE "[1, 1, 1, 1], 'long_factor': [1, 2, 3, 4]}",
        "original_max_position_embeddings 1 makes no attention factor"},
    {GEMMA2, "'query_pre_attn_scalar': 0", "query_pre_attn_scalar must be greater than 0"},
    {GEMMA2, "'query_pre_attn_scalar': 1e-200", "which is no scale"},
    {GEMMA2, "'attn_logit_softcapping': -1.0", "attn_logit_softcapping must be greater than 0"},
    {GEMMA2, "'layer_types': ['full_attention', 'chunked_attention', 'full_attention', 'full_attention']",
        "layer_types[1] is 'chunked_attention'; supported are full_attention and sliding_attention"},
    {GEMMA2,
        "'sliding_window': null, 'layer_types': ['sliding_attention', 'full_attention', 'full_attention', "
        "'full_attention']",
        "layer_types[0] is sliding_attention, but no sliding window is set"},
    {GEMMA2, "'use_bidirectional_attention': true", "use_bidirectional_attention is set"},
    {GEMMA3, "'sliding_window_pattern': 0", "sliding_window_pattern must be from 1"},
    {GEMMA3, "'rope_local_base_freq': 0", "rope_local_base_freq must be greater than 0"},
    {GEMMA3, "'rope_scaling': {'factor': 2.0, 'type': 'linear'}",
        "rope_scaling: its type is under 'type', which Transformers 4 reads in Gemma3ForCausalLM and "
        "Transformers 5 "
        "does not"},
    {GEMMA3, "'rope_parameters': {'rope_theta': 3.0}",
        "rope_parameters: 'rope_theta' is neither full_attention nor sliding_attention"},
    {GEMMA3, "'rope_scaling': {'factor': 2.0, 'type': 'linear'}, 'rope_parameters': {'full_attention': {}}",
        "rope_scaling and rope_parameters are both given"},
    {GEMMA3, "'rope_parameters': {'full_attention': {'rope_type': 'linear'}}",
        "rope_parameters: full_attention: factor"},
    {GEMMA3, "'rope_parameters': {'full_attention': [1]}", "full_attention must be an object or null"},
    {GLM4, "'attention_multiplier': 2.0", "attention_multiplier is set, and qc does not know"},
    {GRANITE, "'attention_multiplier': 0.0", "attention_multiplier must be greater than 0"},
    {LLAMA4, "'no_rope_layers': [1, 1]", "no_rope_layers must be a list of num_hidden_layers = 4 numbers"},
    {LLAMA4, "'no_rope_layers': [1, 1, 2, 0]", "no_rope_layers[2] must be 0 or 1"},
    {LLAMA4, "'no_rope_layer_interval': 0", "no_rope_layer_interval must be from 1"},
    {LLAMA4, "'attention_chunk_size': null", "layer 0 sees chunks, but attention_chunk_size is null"},
    {LLAMA4, "'attention_chunk_size': -1", "attention_chunk_size must be from 1"},
    {LLAMA4, "'floor_scale': 0", "floor_scale must be greater than 0"},
    {LLAMA4, "'attn_temperature_tuning': 'yes'", "attn_temperature_tuning must be"},
    {LLAMA4, "'layer_types': ['sliding_attention', 'full_attention', 'full_attention', 'full_attention']",
        "layer_types[0] is 'sliding_attention'; supported are full_attention and chunked_attention"},
    {DEEPSEEK, "'kv_lora_rank': 0", "kv_lora_rank must be from 1"},
    {DEEPSEEK, "'qk_rope_head_dim': 3", "qk_rope_head_dim 3 is odd"},
    {DEEPSEEK, "'num_key_value_heads': 2", "num_key_value_heads 2 is not num_attention_heads 4"},
    {DEEPSEEK, "'v_head_dim': 2147483647", "4 heads of 2147483651 columns are more than 2147483647"},
    {DEEPSEEK, "'qk_head_dim': 9", "qk_head_dim is 9, but qk_nope_head_dim and qk_rope_head_dim make it 8"},
    {DEEPSEEK, "'head_dim': 8", "head_dim is 8, but rotary embeddings (qk_rope_head_dim) make it 4"},
    {DEEPSEEK, "'q_lora_rank': -1", "q_lora_rank must be from 1"},
    {GPT_OSS, "'sliding_window': 0", "sliding_window must be from 1"},
    {GPT_OSS, "'rope_scaling': {'type': 'yarn', 'factor': 'much'}", "factor must be"},
};

static const char *text_of(qc_arena *arena, const refusal *r)
{
    const bool latent = strcmp(r->model_type, "deepseek_v3") == 0;
    char *text = qc_arena_printf(arena,
        "{'architectures': ['%s'], 'model_type': '%s', 'vocab_size': 8, 'hidden_size': 32, "
        "'num_hidden_layers': 4, "
        "'intermediate_size': 8, %s%s%s%s}",
        r->architecture, r->model_type,
        strstr(r->members, "num_attention_heads") ? "" : "'num_attention_heads': 4, ",
        strstr(r->members, "num_key_value_heads") ? ""
        : latent                                  ? "'num_key_value_heads': 4, "
                                                  : "'num_key_value_heads': 1, ",
        latent && !strstr(r->members, "qk_rope") ? "'qk_nope_head_dim': 4, 'qk_rope_head_dim': 4, " : "",
        r->members);
    for (char *c = text; *c; c++)
        *c = *c == '\'' ? '"' : *c;
    return text;
}

static void test_refusals(void)
{
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        reading r;
        qc_arena arena;
        qc_arena_init(&arena, NULL);
        read_text(&r, text_of(&arena, &refusals[i]));
        if (r.status == QC_OK || !said(&r.said, refusals[i].message))
            CHECK_FAIL("%s", refusals[i].members);
        qc_ctx_destroy(r.ctx);
        qc_arena_fini(&arena);
    }
}

static void spans_are(
    const char *members, const char *architecture, const char *model_type, const char *expected)
{
    const refusal config = {architecture, model_type, members, NULL};
    reading r;
    qc_arena arena;
    qc_str text;
    qc_arena_init(&arena, NULL);
    qc_str_init(&text, &arena);
    read_text(&r, text_of(&arena, &config));
    for (int64_t i = 0; r.status == QC_OK && i < r.config.layers; i++) {
        const qc_hf_attention_span *s = &r.config.attention.spans[i];
        qc_str_addf(
            &text, "%s%lld/%lld/%d", i ? " " : "", (long long)s->window, (long long)s->chunk, s->rope);
    }
    CHECK_STR(r.status == QC_OK ? text.data : r.said.last, expected);
    qc_str_fini(&text);
    qc_ctx_destroy(r.ctx);
    qc_arena_fini(&arena);
}

/* Window, chunk and index of the rope of each layer. */
static void test_spans(void)
{
    spans_are("'rms_norm_eps': 1e-6", GEMMA2, "4096/0/0 0/0/0 4096/0/0 0/0/0");
    spans_are("'sliding_window_pattern': 3, 'sliding_window': 7", GEMMA3, "7/0/1 7/0/1 0/0/0 7/0/1");
    spans_are(
        "'_sliding_window_pattern': 6, 'sliding_window_pattern': 2, 'sliding_window': 7, 'layer_types': "
        "['full_attention', 'full_attention', 'full_attention', 'sliding_attention']",
        GEMMA3, "0/0/0 0/0/0 0/0/0 7/0/1");
    spans_are("'rms_norm_eps': 1e-6", GPT_OSS, "128/0/0 0/0/0 128/0/0 0/0/0");
    spans_are("'no_rope_layers': []", LLAMA4, "0/8192/0 0/8192/0 0/8192/0 0/0/-1");
    spans_are("'no_rope_layers': null, 'no_rope_layer_interval': 2, 'attention_chunk_size': 5", LLAMA4,
        "0/5/0 0/0/-1 0/5/0 0/0/-1");
    spans_are(
        "'no_rope_layers': [0, 1, 1, 1], 'attn_temperature_tuning': 4, 'layer_types': ['full_attention', "
        "'full_attention', 'chunked_attention', 'full_attention'], 'attention_chunk_size': 5",
        LLAMA4, "0/0/-1 0/0/0 0/5/0 0/0/0");
    spans_are("'sliding_window': 0, 'use_sliding_window': false", "Qwen2MoeForCausalLM", "qwen2_moe",
        "0/0/0 0/0/0 0/0/0 0/0/0");
    spans_are("'sliding_window': 9, 'use_sliding_window': true, 'max_window_layers': 2",
        "Qwen2MoeForCausalLM", "qwen2_moe", "9/0/0 0/0/0 0/0/0 0/0/0");
    spans_are("'sliding_window': 9, 'use_sliding_window': true, 'max_window_layers': 2", "Qwen2ForCausalLM",
        "qwen2", "0/0/0 0/0/0 9/0/0 9/0/0");
    spans_are("'sliding_window': 9, 'use_sliding_window': true, 'max_window_layers': 2",
        "Qwen3MoeForCausalLM", "qwen3_moe", "9/0/0 9/0/0 9/0/0 9/0/0");
    spans_are("'rms_norm_eps': 1e-6", "MixtralForCausalLM", "mixtral", "0/0/0 0/0/0 0/0/0 0/0/0");
    spans_are("'sliding_window': 9", PHI3, "9/0/0 9/0/0 9/0/0 9/0/0");
}

static const qc_attr *numbers(qc_ctx *ctx, const double *values, size_t count)
{
    const qc_attr *items[8];
    for (size_t i = 0; i < count; i++)
        items[i] = qc_attr_float(ctx, values[i]);
    return qc_attr_list(ctx, items, count);
}

/* The lists of longrope, as IR may have them. */
static void test_lists(void)
{
    static const double two[] = {1, 2}, three[] = {1, 2, 3}, negative[] = {1, -2}, huge[] = {1, INFINITY};
    messages m = {0};
    qc_ctx *ctx = qc_ctx_create(NULL, keep_message, &m);
    qc_diag *diag = qc_ctx_diag(ctx);
    const struct {
        const qc_attr *list;
        const char *message; /* NULL: fits */
    } cases[] = {
        {numbers(ctx, two, 2), NULL},
        {numbers(ctx, three, 3), "type longrope needs 'long_factor', a list of 2 numbers"},
        {numbers(ctx, negative, 2), "'long_factor' must hold positive numbers"},
        {numbers(ctx, huge, 2), "'long_factor' must hold positive numbers"},
        {qc_attr_int(ctx, 2), "type longrope needs 'long_factor', a list of 2 numbers"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *const keys[] = {
            "type", "attention_factor", "original_max_position_embeddings", "short_factor", "long_factor"};
        const qc_attr *const values[] = {qc_attr_word(ctx, "longrope"), qc_attr_float(ctx, 1.5),
            qc_attr_int(ctx, 8), numbers(ctx, two, 2), cases[i].list};
        const qc_attr *scaling = qc_attr_map(ctx, keys, values, 5);
        float f[2], factor;
        CHECK(qc_rope_frequencies(diag, scaling, 10000.0, 4, 8, f, &factor) == QC_OK); /* the short one */
        CHECK(f[0] == 1.0f && f[1] == 0.005f && factor == 1.5f);
        const qc_status status = qc_rope_frequencies(diag, scaling, 10000.0, 4, 9, f, &factor);
        CHECK((status == QC_OK) == (cases[i].message == NULL));
        CHECK(cases[i].message == NULL || said(&m, cases[i].message));
        CHECK(qc_rope_depends_on_length(scaling));
    }
    CHECK(!qc_rope_depends_on_length(NULL));
    qc_ctx_destroy(ctx);
}

int main(void)
{
    RUN(test_lists);
    RUN(test_goldens);
    RUN(test_refusals);
    RUN(test_spans);
    return check_done();
}
