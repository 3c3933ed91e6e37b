/* SPDX-License-Identifier: MIT
 *
 * Attention on codes: every type, granularity and layout against attention on the values that the quantizer gives
 * those codes, bit for bit; quantized probabilities against a plain loop; NaN codes; what is refused.
 */
#include "tests/unit/check.h"

#include "backends/host/host.h"
#include "ir/dtype/quantizer.h"
#include "tests/unit/host_util.h"

enum { HEADS = 6, GROUPS = 2, PAGE = 10, MAX_SIZE = 64, MAX_KEYS = 160 };

typedef enum granularity { TENSOR, HEAD, CHANNEL, TOKEN, GROUP, GRANULARITIES } granularity;
typedef enum layout { FLAT, NHD, HND, LAYOUTS } layout;

typedef struct coding {
    qc_dtype codes;
    bool packed; /* 4-bit codes, two a byte */
    granularity granularity;
    layout layout;
    qc_dtype scale_type; /* of dynamic scales */
    float global;
    size_t group;
} coding;

/* One operand in both forms: codes as `heads` says, values in `plain`. */
typedef struct operand {
    qc_host_heads heads, plain;
    void *memory[8];
    size_t used;
} operand;

static qc_arena arena;
static qc_diag diag;
static uint32_t seed = 1;

static uint32_t draw(void)
{
    seed = seed * 1664525u + 1013904223u;
    return seed >> 8;
}

static void *keep(operand *o, size_t bytes)
{
    return o->memory[o->used++] = calloc(1, bytes + 1);
}

static void release(operand *o)
{
    while (o->used)
        free(o->memory[--o->used]);
}

static uint8_t draw_code(qc_dtype codes)
{
    for (;;) {
        uint8_t c = (uint8_t)draw();
        if (codes == QC_F8E4M3 && (c & 0x7f) == 0x7f)
            continue;
        if (codes == QC_F8E5M2 && (c & 0x7f) >= 0x6c) /* no huge ones, which would hide the others */
            continue;
        if (codes == QC_F4E2M1)
            return c & 15;
        return codes == QC_I4 ? (uint8_t)((c & 15) - 8) : c;
    }
}

/* Where row (token, head) of `row` units lies, in units; pages follow each other. */
static size_t place(layout l, size_t heads, size_t row, size_t token, size_t head)
{
    size_t page = token / PAGE, in_page = token % PAGE;
    if (l == HND)
        return (page * PAGE * heads + head * PAGE + in_page) * row;
    return (token * heads + head) * row;
}

static const void *const *pages_of(operand *o, const char *memory, size_t bytes, size_t tokens)
{
    size_t count = (tokens + PAGE - 1) / PAGE;
    const void **pages = keep(o, count * sizeof *pages);
    for (size_t p = 0; p < count; p++)
        pages[p] = memory + p * PAGE * bytes;
    return pages;
}

/* Scale of (token, head, column) is scales[((token * heads + head) * per_row) + g] when dynamic. */
static void make_scales(const coding *c, operand *o, size_t tokens, size_t heads, size_t size, float *factors)
{
    bool dynamic = c->granularity >= TOKEN;
    size_t group = c->granularity == GROUP ? c->group : c->granularity == CHANNEL ? 1 : size;
    size_t per_row = (size + group - 1) / group, rows = dynamic ? tokens * heads : heads;
    float *scales = keep(o, rows * per_row * sizeof *scales);
    layout l = c->layout;

    for (size_t i = 0; i < rows * per_row; i++)
        scales[i] = 0.001f + (float)(draw() % 1000) * 0.0007f;
    if (c->granularity == TENSOR)
        for (size_t i = 1; i < rows; i++)
            scales[i] = scales[0];
    o->heads.global = c->global;
    if (!dynamic) {
        o->heads.scale = scales;
        o->heads.scale_stride = c->granularity == TENSOR ? 0 : per_row;
        o->heads.scale_column_stride = c->granularity == CHANNEL;
    } else {
        size_t bytes = dtype_bytes(c->scale_type), padded = (tokens + PAGE - 1) / PAGE * PAGE;
        char *raw = keep(o, padded * heads * per_row * bytes);
        for (size_t i = 0; i < rows; i++) {
            char *at = raw + place(l, heads, per_row, i / heads, i % heads) * bytes;
            qc_encode_f32(c->scale_type, scales + i * per_row, at, per_row);
            qc_decode_f32(c->scale_type, at, scales + i * per_row, per_row);
        }
        o->heads.scales = (qc_host_scales){.dtype = c->scale_type,
            .data = raw,
            .token_stride = l == HND ? per_row : heads * per_row,
            .head_stride = l == HND ? PAGE * per_row : per_row,
            .group = c->granularity == GROUP ? c->group : 0};
        if (l != FLAT) {
            o->heads.scales.pages = pages_of(o, raw, heads * per_row * bytes, tokens);
            o->heads.scales.data = NULL;
        }
    }
    for (size_t i = 0; i < tokens * heads; i++)
        for (size_t d = 0; d < size; d++)
            factors[i * size + d] = scales[(dynamic ? i : i % heads) * per_row + d / group];
}

static operand make_operand(const coding *c, qc_dtype d, size_t tokens, size_t heads, size_t size)
{
    operand o = {.heads = {.dtype = c->codes, .page_tokens = PAGE}};
    const qc_quantizer q = {.arith = qc_arith_at(0),
        .model_dtype = d,
        .grid = qc_grid_of(c->codes),
        .symmetric = true,
        .global = c->global != 0.0f};
    size_t count = tokens * heads * size, bits = c->packed ? 4 : 8, row = c->packed ? (size + 1) / 2 : size;
    size_t padded = (tokens + PAGE - 1) / PAGE * PAGE, d_bytes = dtype_bytes(d);
    uint8_t *codes = keep(&o, count);
    float *factors = keep(&o, count * sizeof *factors);
    char *values = keep(&o, count * d_bytes), *raw = keep(&o, padded * heads * row);

    for (size_t i = 0; i < count; i++)
        codes[i] = draw_code(c->codes);
    make_scales(c, &o, tokens, heads, size, factors);
    for (size_t i = 0; i < count; i++) /* one at a time: the simplest path of the quantizer */
        qc_quantizer_dequantize(&q, d, codes + i, 1, factors[i], c->global, 0.0f, values + i * d_bytes);
    for (size_t i = 0; i < tokens * heads; i++) {
        uint8_t *at = (uint8_t *)raw + place(c->layout, heads, row, i / heads, i % heads);
        for (size_t k = 0; k < size; k++)
            qc_code_put(at, (int)bits, k, codes[i * size + k]);
    }
    size_t unit = c->packed ? 2 * row : size; /* codes of a padded row */
    o.heads.data = raw;
    o.heads.token_stride = c->layout == HND ? unit : heads * unit;
    o.heads.head_stride = c->layout == HND ? PAGE * unit : unit;
    if (c->layout != FLAT) {
        o.heads.pages = pages_of(&o, raw, heads * row, tokens);
        o.heads.data = NULL;
    }
    if (!c->packed && bits == 8 && c->codes == QC_F4E2M1)
        o.heads.dtype = QC_U8, o.heads.codes = QC_F4E2M1;
    if (!c->packed && c->codes == QC_I4)
        o.heads.dtype = QC_I8, o.heads.codes = QC_I4;
    o.plain = (qc_host_heads){.dtype = d, .data = values, .token_stride = heads * size, .head_stride = size};
    return o;
}

typedef struct shape {
    size_t queries, past, window, head_size, value_size;
} shape;

static qc_host_attention attention_of(qc_dtype d, const shape *s, void *out)
{
    size_t value_size = s->value_size ? s->value_size : s->head_size;
    return (qc_host_attention){.dtype = d,
        .out = out,
        .out_token_stride = HEADS * value_size,
        .out_head_stride = value_size,
        .queries = s->queries,
        .past = s->past,
        .keys = s->past + s->queries,
        .query_heads = HEADS,
        .kv_heads = GROUPS,
        .head_size = s->head_size,
        .value_size = s->value_size,
        .scale = 0.02f,
        .causal = true,
        .window = s->window};
}

static qc_host_engine *engines[4];
static size_t engine_count;

static void make_engines(void)
{
    static const struct {
        int threads;
        const char *isa;
    } kinds[] = {{3, NULL}, {1, "generic"}, {1, "avx2"}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        qc_diag quiet;
        qc_diag_init(&quiet, &arena, NULL, NULL);
        engines[engine_count] = qc_host_engine_create(
            &quiet, &(qc_host_options){.thread_count = kinds[i].threads, .isa = kinds[i].isa});
        engine_count += engines[engine_count] != NULL;
    }
}

/* Codes in any of q, k and v give the bits that their values give. */
static void check_codes(const coding *c, qc_dtype d, const shape *s, qc_dtype probs_codes)
{
    size_t keys = s->past + s->queries, value_size = s->value_size ? s->value_size : s->head_size;
    size_t bytes = s->queries * HEADS * value_size * dtype_bytes(d);
    coding of_q = *c;
    of_q.layout = FLAT;
    of_q.packed = false;
    operand q = make_operand(&of_q, d, s->queries, HEADS, s->head_size);
    operand k = make_operand(c, d, keys, GROUPS, s->head_size);
    operand v = make_operand(c, d, keys, GROUPS, value_size);
    char *expected = malloc(bytes), *actual = malloc(bytes);

    for (size_t e = 0; e < engine_count; e++) {
        qc_host_attention at = attention_of(d, s, expected);
        at.probs_codes = probs_codes;
        at.probs_scale = probs_codes == QC_I8 ? 1.0f / 127.0f : 0.01f;
        at.q = q.plain, at.k = k.plain, at.v = v.plain;
        CHECK_INT(qc_host_attention_run(engines[e], &diag, "attn", &at), QC_OK);
        at.out = actual;
        for (int mask = 1; mask < 8; mask += 6) { /* k alone, then all */
            at.k = k.heads;
            at.v = mask & 2 ? v.heads : v.plain;
            at.q = mask & 4 ? q.heads : q.plain;
            memset(actual, 0x55, bytes);
            CHECK(qc_host_attention_bytes(engines[e], &at) > 0);
            CHECK_INT(qc_host_attention_run(engines[e], &diag, "attn", &at), QC_OK);
            if (memcmp(expected, actual, bytes) != 0)
                CHECK_FAIL("%s%s, granularity %d, layout %d, %s, %zu queries behind %zu, head %zu, window "
                           "%zu, mask %d, %s",
                    qc_dtype_name(c->codes), c->packed ? " packed" : "", c->granularity, c->layout,
                    qc_dtype_name(d), s->queries, s->past, s->head_size, s->window, mask,
                    qc_host_engine_description(engines[e]));
        }
    }
    free(expected), free(actual);
    release(&q), release(&k), release(&v);
}

static const struct {
    qc_dtype codes;
    bool packed;
} forms[] = {{QC_F8E4M3, false}, {QC_F8E5M2, false}, {QC_I8, false}, {QC_I4, false}, {QC_I4, true},
    {QC_F4E2M1, false}, {QC_F4E2M1, true}};

static const shape shapes[] = {
    {1, 150, 0, 64, 0}, {37, 0, 0, 20, 0}, {5, 100, 17, 36, 52}, {70, 31, 0, 15, 33}};

static void test_static_scales(void)
{
    static const qc_dtype types[] = {QC_BF16, QC_F16, QC_F32};
    for (size_t f = 0; f < sizeof forms / sizeof *forms; f++)
        for (granularity g = TENSOR; g <= CHANNEL; g++)
            for (layout l = FLAT; l < LAYOUTS; l++)
                for (size_t s = 0; s < 4; s++) {
                    coding c = {
                        .codes = forms[f].codes, .packed = forms[f].packed, .granularity = g, .layout = l};
                    check_codes(&c, types[(f + g + l + s) % 3], &shapes[s], QC_DTYPE_NONE);
                }
}

static void test_dynamic_scales(void)
{
    static const qc_dtype types[] = {QC_BF16, QC_F16, QC_F32},
                          scales[] = {QC_F32, QC_BF16, QC_F16, QC_F8E4M3};
    size_t n = 0;
    for (size_t f = 0; f < sizeof forms / sizeof *forms; f++)
        for (layout l = FLAT; l < LAYOUTS; l++)
            for (size_t s = 0; s < 4; s++)
                for (size_t t = (l + s) % 2; t < 4; t += 2, n++) {
                    coding c = {.codes = forms[f].codes,
                        .packed = forms[f].packed,
                        .granularity = TOKEN,
                        .layout = l,
                        .scale_type = scales[t]};
                    check_codes(&c, types[n % 3], &shapes[s], QC_DTYPE_NONE);
                }
}

/* Groups of 16 under a global scale as NVFP4 has them, groups that do not divide 16, that leave a short one. */
static void test_group_scales(void)
{
    static const qc_dtype types[] = {QC_BF16, QC_F16, QC_F32};
    static const size_t groups[] = {16, 32, 8, 5};
    for (size_t f = 0; f < sizeof forms / sizeof *forms; f++)
        for (layout l = FLAT; l < LAYOUTS; l++)
            for (size_t s = 0; s < 4; s++)
                for (size_t g = (f + l) % 2; g < 4; g += 2)
                    for (int global = 0; global < 2; global++) {
                        coding c = {.codes = forms[f].codes,
                            .packed = forms[f].packed,
                            .granularity = GROUP,
                            .layout = l,
                            .scale_type = global ? QC_F8E4M3 : QC_F32,
                            .global = global ? 37.3f : 0.0f,
                            .group = groups[g]};
                        check_codes(&c, types[(f + s + g + l) % 3], &shapes[s], QC_DTYPE_NONE);
                    }
}

/* Every code of 8 bits, under factors that leave bf16's normal numbers at either end, in rows of 32 and more. */
static void test_every_code(void)
{
    enum { SIZE = 256 };
    static const float factors[] = {1.0f, 0.0123f, 0x1.fep-1f, 0x1p-130f, 0x1p+125f, 3e38f, 0.0f, -0.75f};
    static const qc_dtype types[] = {QC_F8E4M3, QC_F8E5M2, QC_I8}, values[] = {QC_BF16, QC_F16, QC_F32};

    /* one key: its probability is 1, so the output is the value */
    for (size_t t = 0; t < 3; t++)
        for (size_t f = 0; f < sizeof factors / sizeof *factors; f++)
            for (size_t v = 0; v < 3; v++) {
                uint8_t codes[SIZE];
                char expected[SIZE * 4], out[SIZE * 4], zero[SIZE * 4] = {0};
                const qc_quantizer q = {.arith = qc_arith_at(0),
                    .model_dtype = values[v],
                    .grid = qc_grid_of(types[t]),
                    .symmetric = true};
                for (int i = 0; i < SIZE; i++)
                    codes[i] = (uint8_t)i;
                qc_quantizer_dequantize(&q, values[v], codes, SIZE, factors[f], 0.0f, 0.0f, expected);
                float *wanted = as_f32(values[v], expected, SIZE);
                for (size_t e = 0; e < engine_count; e++) {
                    qc_host_attention at = {.dtype = values[v],
                        .q = {.dtype = values[v], .data = zero},
                        .k = {.dtype = values[v], .data = zero},
                        .v = {.dtype = types[t], .data = codes, .scale = &factors[f]},
                        .out = out,
                        .queries = 1,
                        .keys = 1,
                        .query_heads = 1,
                        .kv_heads = 1,
                        .head_size = 4,
                        .value_size = SIZE,
                        .scale = 1.0f,
                        .causal = true};
                    CHECK_INT(qc_host_attention_run(engines[e], &diag, "attn", &at), QC_OK);
                    float *got = as_f32(values[v], out, SIZE);
                    for (int i = 0; i < SIZE; i++)
                        if (isnan(wanted[i]) ? !isnan(got[i]) : got[i] != wanted[i])
                            CHECK_FAIL("%s code %d at %g in %s: %.9g, expected %.9g", qc_dtype_name(types[t]),
                                i, (double)factors[f], qc_dtype_name(values[v]), (double)got[i],
                                (double)wanted[i]);
                    free(got);
                }
                free(wanted);
            }
}

/* ---- quantized probabilities --------------------------------------------------------------------------- */

/* out = sum(code(e / t) v) t / sum(e), with f64 sums. */
static void plain_probs(
    const qc_host_attention *at, const float *q, const float *k, const float *v, float *out)
{
    size_t d = at->head_size, keys = at->keys;
    for (size_t i = 0; i < at->queries; i++)
        for (size_t h = 0; h < HEADS; h++) {
            size_t g = h / (HEADS / GROUPS), end = at->past + i + 1;
            float e[MAX_KEYS], top = -INFINITY;
            double total = 0.0, sum[MAX_SIZE] = {0};
            CHECK(keys <= MAX_KEYS && d <= MAX_SIZE);
            for (size_t j = 0; j < end; j++) {
                double s = 0.0;
                for (size_t c = 0; c < d; c++)
                    s += (double)q[(i * HEADS + h) * d + c] * k[(j * GROUPS + g) * d + c];
                e[j] = (float)s * at->scale;
                top = e[j] > top ? e[j] : top;
            }
            for (size_t j = 0; j < end; j++) {
                float p = expf(e[j] - top), code;
                uint8_t byte;
                total += (double)p;
                p /= at->probs_scale;
                qc_encode_f32(at->probs_codes, &p, &byte, 1);
                qc_decode_f32(at->probs_codes, &byte, &code, 1);
                for (size_t c = 0; c < d; c++)
                    sum[c] += (double)code * v[(j * GROUPS + g) * d + c];
            }
            for (size_t c = 0; c < d; c++)
                out[(i * HEADS + h) * d + c] = (float)(sum[c] * at->probs_scale / total);
        }
}

static void test_probs_codes(void)
{
    static const qc_dtype types[] = {QC_F8E4M3, QC_F8E5M2, QC_I8};
    static const float scales[] = {1.0f / 448.0f, 1.0f / 57344.0f, 1.0f / 127.0f};
    shape s = {9, 40, 0, 24, 0};
    size_t keys = s.queries + s.past, count = s.queries * HEADS * s.head_size;
    float *q = random_values(21, count, QC_F32, 4.0), *out = malloc(count * 4), *expected = malloc(count * 4);
    float *k = random_values(22, keys * GROUPS * s.head_size, QC_F32, 4.0);
    float *v = random_values(23, keys * GROUPS * s.head_size, QC_F32, 4.0);

    for (int t = 0; t < 3; t++)
        for (size_t e = 0; e < engine_count; e++) {
            qc_host_attention at = attention_of(QC_F32, &s, out);
            size_t d = s.head_size, off = 0;
            at.probs_codes = types[t];
            at.probs_scale = scales[t];
            at.q = (qc_host_heads){.dtype = QC_F32, .data = q, .token_stride = HEADS * d, .head_stride = d};
            at.k = (qc_host_heads){.dtype = QC_F32, .data = k, .token_stride = GROUPS * d, .head_stride = d};
            at.v = at.k, at.v.data = v;
            CHECK_INT(qc_host_attention_run(engines[e], &diag, "attn", &at), QC_OK);
            plain_probs(&at, q, k, v, expected);
            /* an exponential that differs in its last bit may fall on the other side of a tie */
            for (size_t i = 0; i < count; i++)
                off += !(fabsf(out[i] - expected[i]) <= 2e-5f);
            CHECK(off <= count / 50);
            at.probs_codes = QC_DTYPE_NONE; /* and the codes must matter */
            CHECK_INT(qc_host_attention_run(engines[e], &diag, "attn", &at), QC_OK);
            for (size_t i = off = 0; i < count; i++)
                off += fabsf(out[i] - expected[i]) > 2e-5f;
            CHECK(off > count / 2);
        }
    for (int t = 0; t < 3; t++) { /* the same bits from codes of k and v, whatever the engine */
        coding c = {.codes = QC_I8, .granularity = HEAD, .layout = HND};
        check_codes(&c, QC_BF16, &shapes[t], types[t]);
    }
    free(q), free(k), free(v), free(out), free(expected);
}

/* ---- schedules, errors --------------------------------------------------------------------------------- */

/* A query at a time, behind a growing past, from any number of threads: the bits of all queries at once. */
static void test_same_bits(void)
{
    enum { S = 140, D = 32 };
    static const size_t windows[] = {0, 33};
    coding c = {.codes = QC_F4E2M1,
        .packed = true,
        .granularity = GROUP,
        .layout = NHD,
        .scale_type = QC_F8E4M3,
        .global = 11.0f,
        .group = 16};
    operand k = make_operand(&c, QC_BF16, S, GROUPS, D), v = make_operand(&c, QC_BF16, S, GROUPS, D);
    uint16_t *q = random_values(31, S * HEADS * D, QC_BF16, 8.0), *one = malloc(S * HEADS * D * 2), *other;
    size_t bytes = S * HEADS * D * 2;

    other = malloc(bytes);
    for (size_t w = 0; w < 2; w++)
        for (size_t e = 0; e < engine_count; e++) {
            shape s = {S, 0, windows[w], D, 0};
            qc_host_attention at = attention_of(QC_BF16, &s, one);
            at.scale = 0.2f;
            at.q = (qc_host_heads){.dtype = QC_BF16, .data = q, .token_stride = HEADS * D, .head_stride = D};
            at.k = k.heads, at.v = v.heads;
            CHECK_INT(qc_host_attention_run(engines[e], &diag, "attn", &at), QC_OK);
            for (size_t i = 0; i < S; i += s.queries) {
                s.queries = 1 + i % 3;
                s.queries = s.queries < S - i ? s.queries : S - i;
                qc_host_attention few = at;
                few.queries = s.queries, few.past = i, few.keys = i + s.queries;
                few.q.data = q + i * HEADS * D;
                few.out = other + i * HEADS * D;
                CHECK_INT(qc_host_attention_run(engines[e], &diag, "attn", &few), QC_OK);
            }
            CHECK(memcmp(one, other, bytes) == 0);
        }
    free(q), free(one), free(other);
    release(&k), release(&v);
}

/* Working memory is bounded by what scores take, not by the context's keys and values. */
static void test_working_memory(void)
{
    static const float scale = 1.0f;
    qc_host_heads codes = {.dtype = QC_F8E4M3, .token_stride = 8 * 128, .head_stride = 128, .scale = &scale};
    qc_host_attention at = {.dtype = QC_BF16,
        .q = {.dtype = QC_BF16, .token_stride = 8 * 128, .head_stride = 128},
        .k = codes,
        .v = codes,
        .queries = 1,
        .past = 131071,
        .keys = 131072,
        .query_heads = 8,
        .kv_heads = 8,
        .head_size = 128,
        .causal = true};
    for (size_t e = 0; e < engine_count; e++) {
        CHECK(qc_host_attention_bytes(engines[e], &at) < (size_t)6 << 20);
        at.queries = 131072, at.past = 0;
        CHECK(qc_host_attention_bytes(engines[e], &at) < (size_t)60 << 20);
        at.queries = 1, at.past = 131071;
    }
}

static void test_refusals(void)
{
    static const float scale = 1.0f;
    static const uint8_t zeros[64] = {0};
    uint16_t out[16];
    const qc_host_heads plain = {.dtype = QC_BF16, .data = zeros, .token_stride = 8, .head_stride = 8};
    const qc_host_attention good = {.dtype = QC_BF16,
        .q = plain,
        .k = plain,
        .v = plain,
        .out = out,
        .queries = 1,
        .keys = 1,
        .query_heads = 1,
        .kv_heads = 1,
        .head_size = 8,
        .causal = true};
    qc_diag quiet;
    qc_diag_init(&quiet, &arena, NULL, NULL);
    CHECK_INT(qc_host_attention_run(engines[0], &quiet, "attn", &good), QC_OK);
#define REFUSED(change)                                                                                      \
    do {                                                                                                     \
        qc_host_attention at = good;                                                                         \
        change;                                                                                              \
        CHECK_INT(qc_host_attention_run(engines[0], &quiet, "attn", &at), QC_ERROR);                         \
    } while (0)
    REFUSED(at.k.dtype = QC_F8E4M3); /* codes without scales */
    REFUSED(at.k.scale = &scale);    /* values with scales */
    REFUSED(at.k.dtype = QC_U8; at.k.scale = &scale);
    REFUSED(at.k.dtype = QC_I8; at.k.codes = QC_F4E2M1; at.k.scale = &scale);
    REFUSED(at.k.dtype = QC_I8; at.k.scale = &scale; at.k.scales.dtype = QC_F32);
    REFUSED(at.k.dtype = QC_I8; at.k.scales.dtype = QC_I4);
    REFUSED(at.v.dtype = QC_I4; at.v.scale = &scale; at.v.token_stride = 9);
    REFUSED(at.v.pages = (const void *const[]){zeros}; at.v.page_tokens = 0);
    REFUSED(at.probs_codes = QC_F4E2M1; at.probs_scale = 1.0f);
    REFUSED(at.probs_codes = QC_I8);
}

int main(void)
{
    qc_arena_init(&arena, NULL);
    qc_diag_init(&diag, &arena, NULL, NULL);
    make_engines();
    RUN(test_static_scales);
    RUN(test_dynamic_scales);
    RUN(test_group_scales);
    RUN(test_every_code);
    RUN(test_probs_codes);
    RUN(test_same_bits);
    RUN(test_working_memory);
    RUN(test_refusals);
    for (size_t i = 0; i < engine_count; i++)
        qc_host_engine_destroy(engines[i]);
    qc_arena_fini(&arena);
    return check_done();
}
