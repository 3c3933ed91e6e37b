/* SPDX-License-Identifier: MIT
 *
 * test_attention_stats.c - statistics of attention explained: numbers of hand-made records, the rules on both sides of
 * their limits, and files that do not serve.
 */
#include "tests/unit/check.h"

#include <unistd.h>

#include "ir/support/json.h"
#include "runtime/check/attention_stats.h"
#include "runtime/stats.h"
#include "tests/unit/messages.h"

static qc_arena arena;
static messages heard;
static qc_diag diag;
static char path[] = "/tmp/qc-attention-XXXXXX";

static void begin(qc_stats *stats)
{
    heard = (messages){0};
    qc_diag_init(&diag, &arena, keep_message, &heard);
    qc_stats_init(stats, &arena);
}

/* A tap of `heads` heads of `columns`: channel c of head h reaches amax[h * columns + c], in sequence h % 2 of 2. */
static void add_tap(qc_stats *stats, const char *tap, size_t heads, size_t columns, const float *amax)
{
    qc_stats_record *r = qc_stats_add(stats, tap, QC_STATS_MINMAX, 2, heads);
    qc_stats_record *c = qc_stats_add(stats, tap, QC_STATS_CHANNELS, 0, heads * columns);
    for (size_t h = 0; h < heads; h++) {
        float largest = 0;
        for (size_t i = 0; i < columns; i++) {
            float value = amax[h * columns + i];
            largest = value > largest ? value : largest;
            c->min[h * columns + i] = i % 2 ? -value : 0;
            c->max[h * columns + i] = i % 2 ? 0 : value;
        }
        for (size_t s = 0; s < 2; s++) {
            r->min[s * heads + h] = s == h % 2 ? -largest : 0;
            r->max[s * heads + h] = 0;
        }
    }
}

/* `heads` heads of 16 channels of 1, with the first channel of each at outlier, all of head h times factor^h. */
static void add_shaped(qc_stats *stats, const char *tap, size_t heads, float outlier, float factor)
{
    float amax[8 * 16], scale = 1;
    for (size_t h = 0; h < heads; h++, scale *= factor)
        for (size_t i = 0; i < 16; i++)
            amax[h * 16 + i] = scale * (i ? 1 : outlier);
    add_tap(stats, tap, heads, 16, amax);
}

static qc_status read_back(const qc_stats *stats, qc_attention_stats *out)
{
    CHECK_INT(qc_stats_save(&diag, stats, path), QC_OK);
    return qc_attention_stats_read(&diag, &arena, path, out);
}

static void test_numbers(void)
{
    static const float q[] = {3, 1, 2, 5, /* */ 0.5f, 0.25f, 8, 0.75f}, k[] = {4, 4, 4, 4},
                       r3[] = {3, 3, 3, 3};
    qc_stats stats;
    qc_attention_stats a;
    begin(&stats);
    add_tap(&stats, "m.10.attn.q", 2, 4, q);
    add_tap(&stats, "m.10.attn.k", 1, 4, k);
    add_tap(&stats, "m.10.attn.k@R3", 1, 4, r3);
    add_tap(&stats, "m.9.attn.q", 2, 4, q);
    add_tap(&stats, "m.9.attn.k", 1, 4, k);
    add_tap(&stats, "m.9.mlp.input", 1, 4, k);
    add_tap(&stats, "m.9.attn.v@mse(f8e4m3)", 1, 4, k);
    if (read_back(&stats, &a) != QC_OK) {
        CHECK_FAIL("%s", heard.last);
        return;
    }
    CHECK_INT(a.count, 2);
    CHECK_INT(a.sequences, 2);
    CHECK(a.rotated);
    CHECK_STR(a.layers[0].module, "m.9.attn"); /* by their numbers */
    CHECK_STR(a.layers[1].module, "m.10.attn");
    const qc_attention_ranges *r = &a.layers[1].plain[0];
    CHECK_INT(r->heads, 2);
    CHECK_INT(r->columns, 4);
    CHECK_NEAR(r->amax[0], 5, 0);
    CHECK_NEAR(r->amax[1], 8, 0);
    CHECK_NEAR(r->median[0], 2.5, 0);
    CHECK_NEAR(r->outlier[0], 2, 0);
    CHECK_NEAR(r->median[1], 0.625, 0);
    CHECK_NEAR(r->outlier[1], 12.8, 1e-12);
    CHECK_NEAR(r->rms[0], sqrt(39.0 / 4), 1e-12);
    CHECK_NEAR(qc_attention_spread(r), 1.6, 1e-12);
    CHECK_INT(a.layers[1].rotated[1].heads, 1);
    CHECK_NEAR(a.layers[1].rotated[1].amax[0], 3, 0);
    CHECK_INT(a.layers[0].rotated[1].heads, 0);
    CHECK_INT(a.layers[0].plain[2].heads, 0);
    CHECK(!a.advice[QC_ADVICE_NVFP4].possible);
    CHECK_STR(a.advice[QC_ADVICE_NVFP4].rule, "groups of 16 do not fit a head of 4 channels");
}

/* What is advised of q, k and v of 4 heads: k with this outlier and this factor from head to head, under R3 `flat`. */
static qc_attention_advice advise(qc_advice_type type, float outlier, float factor, float flat)
{
    qc_stats stats;
    qc_attention_stats a;
    begin(&stats);
    add_shaped(&stats, "attn.q", 4, 1, 1);
    add_shaped(&stats, "attn.k", 4, outlier, factor);
    add_shaped(&stats, "attn.v", 4, 1, 1);
    if (flat > 0) {
        add_shaped(&stats, "attn.q@R3", 4, 1, 1);
        add_shaped(&stats, "attn.k@R3", 4, flat, factor);
    }
    if (read_back(&stats, &a) != QC_OK)
        CHECK_FAIL("%s", heard.last);
    return a.advice[type];
}

static void test_fp8(void)
{
    CHECK_STR(advise(QC_ADVICE_FP8, 1, 1, 0).pass, "quant-fp8-attn{granularity=tensor}");
    CHECK_STR(advise(QC_ADVICE_FP8, 5000, 1, 0).pass, "quant-fp8-attn{granularity=tensor}");
    qc_attention_advice a = advise(QC_ADVICE_FP8, 1, 20, 0); /* 20^3 between the heads */
    CHECK_STR(a.pass, "quant-fp8-attn{granularity=head}");
    CHECK_NEAR(a.value, 8000, 1e-9);
    CHECK_STR(a.part, "k");
    CHECK_INT(a.head, 0);
    CHECK_NEAR(a.threshold, 5272, 0);
    /* The limit: 0.0265 of an ordinary value is what a step of 2^-9 errs, 448 being the largest number. */
    double relative = 0.125 / sqrt(12) * sqrt(0.375 / log(2));
    CHECK_NEAR(relative / 4 * sqrt(12) * 448 * 512, QC_FP8_RATIO, 0.5);
}

static void test_int8(void)
{
    CHECK_STR(advise(QC_ADVICE_INT8, 1, 1, 0).pass, "quant-int8-attn{granularity=tensor}");
    CHECK_STR(advise(QC_ADVICE_INT8, 1, 2, 0).pass, "quant-int8-attn{granularity=head}");
    CHECK_STR(advise(QC_ADVICE_INT8, 30, 1, 0).pass, "quant-int8-attn{granularity=channel}");
    qc_attention_advice a = advise(QC_ADVICE_INT8, 30, 1, 3);
    CHECK(a.rotate);
    CHECK_STR(a.pass, "fold-r3,quant-int8-attn{granularity=tensor}");
    CHECK(
        strstr(a.rule, "R3 divides the squared error of q and k by 90.1") != NULL); /* (1 + 900) / (1 + 9) */
    CHECK(!advise(QC_ADVICE_INT8, 2, 1, 1.9f).rotate);
    /* One scale and flat channels: amax / 127 / sqrt(12) over amax / 4. */
    CHECK(strstr(advise(QC_ADVICE_INT8, 1, 1, 0).rule, "0.91 % under a scale a tensor") != NULL);
}

static void test_nvfp4(void)
{
    /* 16 channels: 1 / (1 / 1728 - 0.0941^2 / 16) of 0.0941^2 * 15 / 16 */
    double limit = qc_attention_nvfp4_ratio(16);
    CHECK_NEAR(limit, sqrt(0.0941 * 0.0941 * (15.0 / 16) / (1 / 1728.0 - 0.0941 * 0.0941 / 16)), 1e-9);
    CHECK_NEAR(qc_attention_nvfp4_ratio(64), 4.449, 0.001);
    CHECK_NEAR(qc_attention_nvfp4_ratio(64) / sqrt(1728), /* both sides of the rule are equal there */
        0.0941 * sqrt(1 + (pow(qc_attention_nvfp4_ratio(64), 2) - 1) / 64), 1e-9);
    CHECK(isinf(qc_attention_nvfp4_ratio(8)));
    CHECK_STR(advise(QC_ADVICE_NVFP4, (float)limit * 0.99f, 1, 0).pass, "quant-nvfp4-attn{search=mse}");
    qc_attention_advice a = advise(QC_ADVICE_NVFP4, (float)limit * 1.01f, 1, 0);
    CHECK_STR(a.pass, "fold-r3,quant-nvfp4-attn{search=mse}");
    CHECK_NEAR(a.threshold, limit, 0);
}

/* Heads of zeros, and channels of zeros beside one that is not. */
static void test_zeros(void)
{
    static const float zeros[32] = {0};
    float one[32] = {0};
    qc_stats stats;
    qc_attention_stats a;
    qc_str out;
    one[3] = 2;
    begin(&stats);
    add_tap(&stats, "attn.q", 2, 16, zeros);
    CHECK_INT(read_back(&stats, &a), QC_OK);
    CHECK_NEAR(a.layers[0].plain[0].outlier[1], 1, 0);
    CHECK_NEAR(qc_attention_spread(&a.layers[0].plain[0]), 1, 0);
    CHECK_STR(a.advice[QC_ADVICE_FP8].pass, "quant-fp8-attn{granularity=tensor}");
    add_tap(&stats, "attn.k", 2, 16, one);
    CHECK_INT(read_back(&stats, &a), QC_OK);
    CHECK(isinf(a.layers[0].plain[1].outlier[0]));
    CHECK_STR(a.advice[QC_ADVICE_FP8].pass, "quant-fp8-attn{granularity=head}");
    qc_str_init(&out, &arena);
    qc_attention_stats_print_text(&arena, &a, &out);
    qc_attention_stats_print_html(&arena, &a, &out);
    qc_str_clear(&out);
    qc_attention_stats_print_json(&arena, &a, &out);
    const qc_json *root = qc_json_parse(&diag, &arena, "json", out.data, out.length);
    CHECK(root != NULL); /* infinities are null */
    CHECK_INT(qc_json_get(root, "layers")->length, 1);
    CHECK_INT(qc_json_get(root, "recommended")->length, 3);
    qc_str_fini(&out);
}

static void test_refused(void)
{
    static const float four[] = {1, 2, 3, 4, 5, 6, 7, 8};
    qc_stats stats;
    qc_attention_stats a;
    begin(&stats);
    add_tap(&stats, "mlp.input", 1, 4, four);
    CHECK_INT(read_back(&stats, &a), QC_ERROR);
    CHECK(said(&heard, "--collect=amax@R3"));
    begin(&stats);
    add_tap(&stats, "attn.q@R3", 1, 4, four);
    CHECK_INT(read_back(&stats, &a), QC_ERROR);
    CHECK(said(&heard, "attn.q was observed under R3 alone"));
    begin(&stats);
    qc_stats_record *r = qc_stats_add(&stats, "attn.q", QC_STATS_MINMAX, 1, 1);
    r->min[0] = -1;
    r->max[0] = 1;
    CHECK_INT(read_back(&stats, &a), QC_ERROR);
    CHECK(said(&heard, "attn.q has ranges of heads and none of channels"));
    r = qc_stats_add(&stats, "attn.q", QC_STATS_MINMAX, 1, 3);
    qc_stats_record *c = qc_stats_add(&stats, "attn.q", QC_STATS_CHANNELS, 0, 4);
    for (size_t i = 0; i < 4; i++)
        r->min[i % 3] = r->max[i % 3] = c->min[i] = c->max[i] = 1;
    CHECK_INT(read_back(&stats, &a), QC_ERROR);
    CHECK(said(&heard, "3 heads and 4 channels"));
    begin(&stats);
    add_tap(&stats, "attn.q", 2, 4, four);
    add_tap(&stats, "attn.q@R3", 1, 8, four);
    CHECK_INT(read_back(&stats, &a), QC_ERROR);
    CHECK(said(&heard, "attn.q has other heads under R3"));
    begin(&stats);
    CHECK_INT(qc_attention_stats_read(&diag, &arena, "/nowhere/at/all", &a), QC_ERROR);
    CHECK(said(&heard, "/nowhere/at/all"));
}

int main(void)
{
    qc_arena_init(&arena, NULL);
    int fd = mkstemp(path);
    CHECK(fd >= 0);
    RUN(test_numbers);
    RUN(test_fp8);
    RUN(test_int8);
    RUN(test_nvfp4);
    RUN(test_zeros);
    RUN(test_refused);
    close(fd);
    remove(path);
    qc_arena_fini(&arena);
    return check_done();
}
