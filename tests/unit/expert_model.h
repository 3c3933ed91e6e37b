/* SPDX-License-Identifier: MIT
 *
 * expert_model.h - a tiny model in IR text for tests of calibration: a dense layer and two layers of experts, stored one
 * by one and as one tensor, with a shared expert, a bias, scores on inputs and on outputs; and a checkpoint of random
 * weights for it.
 */
#ifndef QC_TESTS_EXPERT_MODEL_H
#define QC_TESTS_EXPERT_MODEL_H

#include "tests/unit/check.h"

#include <unistd.h>

#include "ir/ctx.h"
#include "ir/support/io.h"
#include "ir/tensor.h"
#include "tests/unit/host_util.h"
#include "tests/unit/messages.h"
#include "tests/unit/shard.h"

/* Of both layers together a token chooses 2 and 3; of 3 rows one rounding of the sum and several differ. */
enum { EXPERTS = 4, CHOSEN = 2 + 3, WIDTH = 8, INNER = 12, WORDS = 16, TENSORS = 64 };

typedef struct expert_model {
    qc_dtype dtype;
    bool all;             /* every token through every expert */
    bool observed;        /* with observes */
    bool end;             /* what the last layer gives is observed, too */
    const char *sum;      /* each or once */
    const char *fallback; /* of the first layer of experts */
    int min_tokens;
    float spread; /* of the first router's bias: the larger, the fewer experts are chosen */
    /* the checkpoint */
    char directory[32];
    qc_arena arena;
    qc_st_out tensors[TENSORS];
    size_t tensor_count;
} expert_model;

static const char *dtype_text(qc_dtype dtype)
{
    return dtype == QC_F32 ? "f32" : "bf16";
}

static void add_tensor(
    expert_model *m, const char *name, int rank, int64_t a, int64_t b, int64_t c, double scale)
{
    const int64_t count = a * (rank > 1 ? b : 1) * (rank > 2 ? c : 1);
    int64_t *shape = QC_NEW_ARRAY(&m->arena, int64_t, 3);
    shape[0] = a;
    shape[1] = b;
    shape[2] = c;
    void *data = random_values((uint32_t)(977 * m->tensor_count + 5), (size_t)count, m->dtype, scale);
    m->tensors[m->tensor_count++] = (qc_st_out){.name = qc_arena_strdup(&m->arena, name),
        .dtype = m->dtype == QC_F32 ? "F32" : "BF16",
        .rank = rank,
        .shape = shape,
        .user = data};
}

/* Ranges behind the first expert's up are the widest, and of the third's down the largest weight is negative. */
static void add_weights(expert_model *m)
{
    const float lowest = -8;
    char name[64];
    add_tensor(m, "table", 2, WORDS, WIDTH, 0, 1.0);
    add_tensor(m, "dense", 2, WIDTH, WIDTH, 0, 0.5);
    for (int layer = 1; layer <= 2; layer++) {
        snprintf(name, sizeof name, "r%d", layer);
        add_tensor(m, name, 2, EXPERTS, WIDTH, 0, 1.0);
    }
    add_tensor(m, "rb1", 1, EXPERTS, 0, 0, 0.0);
    float bias[EXPERTS] = {0};
    for (int e = 0; e < EXPERTS; e++)
        bias[e] = m->spread * (float)(e == 2 ? -1 : e == 0 ? 1 : 0);
    qc_encode_f32(m->dtype, bias, m->tensors[m->tensor_count - 1].user, EXPERTS);
    for (int e = 0; e < EXPERTS; e++) {
        static const char *const names[] = {"gate", "up", "down"};
        for (int i = 0; i < 3; i++) {
            snprintf(name, sizeof name, "m1.e.%d.%s.weight", e, names[i]);
            add_tensor(
                m, name, 2, i == 2 ? WIDTH : INNER, i == 2 ? INNER : WIDTH, 0, e == 0 && i == 1 ? 2.4 : 0.6);
            if (e == 2 && i == 2)
                qc_encode_f32(m->dtype, &lowest, m->tensors[m->tensor_count - 1].user, 1);
        }
        snprintf(name, sizeof name, "m1.e.%d.down.bias", e);
        add_tensor(m, name, 1, WIDTH, 0, 0, 0.2);
    }
    add_tensor(m, "shared", 2, WIDTH, WIDTH, 0, 0.5);
    add_tensor(m, "gate_up", 3, EXPERTS, WIDTH, 2 * INNER, 0.6);
    add_tensor(m, "down", 3, EXPERTS, INNER, WIDTH, 0.6);
}

static bool write_expert_model(expert_model *m)
{
    qc_diag diag;
    messages said_here = {0};
    strcpy(m->directory, "qc-test-experts-XXXXXX");
    qc_arena_init(&m->arena, NULL);
    qc_diag_init(&diag, &m->arena, keep_message, &said_here);
    m->tensor_count = 0;
    add_weights(m);
    return mkdtemp(m->directory) && write_shard(&diag, &m->arena, m->directory, m->tensors, m->tensor_count);
}

static void remove_expert_model(expert_model *m)
{
    qc_diag diag;
    messages said_here = {0};
    qc_diag_init(&diag, &m->arena, keep_message, &said_here);
    CHECK_INT(qc_remove_tree(&diag, m->directory), QC_OK);
    for (size_t i = 0; i < m->tensor_count; i++)
        free(m->tensors[i].user);
    qc_arena_fini(&m->arena);
}

/* A tensor of the checkpoint for the reference. */
static qc_status give_tensor(void *user, qc_diag *diag, const char *name, qc_tensor *stored)
{
    expert_model *m = user;
    for (size_t i = 0; i < m->tensor_count; i++) {
        const qc_st_out *t = &m->tensors[i];
        if (strcmp(t->name, name) != 0)
            continue;
        *stored = (qc_tensor){.dtype = m->dtype, .rank = t->rank, .count = 1, .data = t->user};
        for (int d = 0; d < t->rank; d++) {
            stored->dims[d] = t->shape[d];
            stored->count *= t->shape[d];
        }
        return QC_OK;
    }
    return qc_error(diag, name, "no such tensor");
}

/* An observe of rows of experts, where the model is observed. */
static void observe_rows(const expert_model *m, qc_str *out, int layer, const char *value, const char *what,
    const char *bank, const char *more)
{
    if (!m->observed)
        return;
    qc_str_addf(out,
        "    %%o%d%s = observe %%%s, rows=%%rows%d, w=%%%s {granularity = expert, experts = %d, "
        "tap = \"m%d.e.{e}.%s.input\"%s} : %s[2, %d]\n",
        layer, what, value, layer, bank, EXPERTS, layer, what, more, dtype_text(m->dtype), EXPERTS);
}

static void write_first(const expert_model *m, qc_str *out)
{
    const char *t = dtype_text(m->dtype), *rows = m->all ? "4*B*S" : "2*B*S";
    char fallback[64];
    snprintf(fallback, sizeof fallback, ", min_tokens = %d, fallback = %s", m->min_tokens ? m->min_tokens : 1,
        m->fallback ? m->fallback : "refuse");
    qc_str_addf(out,
        "  at \"m1\" {\n    %%wr1 = weight \"r1\" : %s[4, 8]\n    %%wrb1 = weight \"rb1\" : %s[4]\n"
        "    %%lg1 = linear %%x1, %%wr1, bias=%%wrb1 : %s[B, S, 4]\n"
        "    %%top1 = topk %%lg1 {k = 2} : i32[B, S, 2]\n    %%pl1 = take %%lg1, %%top1 : %s[B, S, 2]\n"
        "    %%p1 = softmax %%pl1 : %s[B, S, 2]\n  }\n",
        t, t, t, t, t);
    qc_str_addf(out,
        "  at \"m1.e\" {\n    %%rows1 = expert_rows %%top1 {experts = 4%s} : i32[3, %s]\n"
        "    %%xs1 = expert_gather %%x1, %%rows1 : %s[%s, 8]\n",
        m->all ? ", all" : "", rows, t, rows);
    qc_str_addf(out,
        "    %%wg1 = expert_weight \"m1.e.{e}.gate.weight\" : %s[4, 12, 8]\n"
        "    %%wu1 = expert_weight \"m1.e.{e}.up.weight\" : %s[4, 12, 8]\n"
        "    %%wd1 = expert_weight \"m1.e.{e}.down.weight\" : %s[4, 8, 12]\n"
        "    %%wb1 = expert_weight \"m1.e.{e}.down.bias\" : %s[4, 8]\n",
        t, t, t, t);
    observe_rows(m, out, 1, "xs1", "gate", "wg1", fallback);
    qc_str_addf(out,
        "    %%g1 = expert_linear %%xs1, %%wg1, %%rows1 {module = \"{e}.gate\"} : %s[%s, 12]\n"
        "    %%u1 = expert_linear %%xs1, %%wu1, %%rows1 {module = \"{e}.up\"} : %s[%s, 12]\n"
        "    %%a1 = silu %%g1 : %s[%s, 12]\n    %%h1 = mul %%a1, %%u1 : %s[%s, 12]\n",
        t, rows, t, rows, t, rows, t, rows);
    observe_rows(m, out, 1, "h1", "down", "wd1", fallback);
    qc_str_addf(out,
        "    %%y1 = expert_linear %%h1, %%wd1, %%rows1, bias=%%wb1 {module = \"{e}.down\"} : %s[%s, 8]\n"
        "    %%sc1 = expert_score %%p1, %%rows1 : %s[%s, 1]\n    %%ys1 = mul %%y1, %%sc1 : %s[%s, 8]\n"
        "    %%c1 = expert_combine %%ys1, %%rows1, %%top1 {sum = %s} : %s[B, S, 8]\n  }\n",
        t, rows, t, rows, t, rows, m->sum, t);
}

/* Fused, the scores on the inputs, as Llama 4 has it; limits as gpt-oss. */
static void write_second(const expert_model *m, qc_str *out)
{
    const char *t = dtype_text(m->dtype), *rows = m->all ? "4*B*S" : "3*B*S";
    qc_str_addf(out,
        "  at \"m2\" {\n    %%wr2 = weight \"r2\" : %s[4, 8]\n    %%lg2 = linear %%x2, %%wr2 : %s[B, S, 4]\n"
        "    %%top2 = topk %%lg2 {k = 3} : i32[B, S, 3]\n    %%pl2 = take %%lg2, %%top2 : %s[B, S, 3]\n"
        "    %%p2 = sigmoid %%pl2 : %s[B, S, 3]\n  }\n",
        t, t, t, t);
    qc_str_addf(out,
        "  at \"m2.e\" {\n    %%rows2 = expert_rows %%top2 {experts = 4%s} : i32[3, %s]\n"
        "    %%xg2 = expert_gather %%x2, %%rows2 : %s[%s, 8]\n"
        "    %%sc2 = expert_score %%p2, %%rows2 {unrouted = first} : %s[%s, 1]\n"
        "    %%xs2 = mul %%xg2, %%sc2 : %s[%s, 8]\n",
        m->all ? ", all" : "", rows, t, rows, t, rows, t, rows);
    qc_str_addf(out,
        "    %%wgu2 = weight \"gate_up\" : %s[4, 8, 24]\n"
        "    %%wt2 = transpose %%wgu2 {perm = [0, 2, 1]} : %s[4, 24, 8]\n"
        "    %%wd02 = weight \"down\" : %s[4, 12, 8]\n"
        "    %%wd2 = transpose %%wd02 {perm = [0, 2, 1]} : %s[4, 8, 12]\n",
        t, t, t, t);
    observe_rows(m, out, 2, "xs2", "gate", "wt2", "");
    qc_str_addf(out,
        "    %%gu2 = expert_linear %%xs2, %%wt2, %%rows2 : %s[%s, 24]\n"
        "    %%g2 = slice %%gu2 {axis = -1, start = 0, stop = 24, step = 2} : %s[%s, 12]\n"
        "    %%u2 = slice %%gu2 {axis = 1, start = 1, stop = 24, step = 2} : %s[%s, 12]\n"
        "    %%k2 = const [0.75] : %s[1]\n    %%l2 = minimum %%g2, %%k2 : %s[%s, 12]\n"
        "    %%a2 = silu %%l2 : %s[%s, 12]\n    %%h2 = mul %%a2, %%u2 : %s[%s, 12]\n",
        t, rows, t, rows, t, rows, t, t, rows, t, rows, t, rows);
    observe_rows(m, out, 2, "h2", "down", "wd2", ", observer = percentile, args = {percentile = 90.0}");
    qc_str_addf(out,
        "    %%y2 = expert_linear %%h2, %%wd2, %%rows2 : %s[%s, 8]\n"
        "    %%c2 = expert_combine %%y2, %%rows2, %%top2 {sum = %s} : %s[B, S, 8]\n  }\n",
        t, rows, m->sum, t);
}

static void observe_end(const expert_model *m, qc_str *out, const char *value, const char *tap)
{
    if (!m->observed)
        return;
    qc_str_addf(out,
        "    %%s_%s = split_heads %%%s {heads = 8} : %s[B, 8, S, 1]\n"
        "    %%o_%s = observe %%s_%s {granularity = head, tap = \"%s\"} : %s[2, 8]\n",
        value, value, dtype_text(m->dtype), value, value, tap, dtype_text(m->dtype));
}

static const char *expert_model_text(const expert_model *m, qc_arena *arena)
{
    const char *t = dtype_text(m->dtype);
    qc_str out;
    qc_str_init(&out, arena);
    qc_str_addf(&out,
        "qc 1\ndim B, S, P\nmodule \"\" Root\nmodule \"m1\" Block\nmodule \"m1.e\" Experts\nmodule \"m2\" "
        "Block\n"
        "module \"m2.e\" Experts\nfunc @main(%%ids: i64[B, S]) -> %s[B, S, 8] {\n"
        "    %%table = weight \"table\" : %s[16, 8]\n    %%x0 = embedding %%ids, %%table : %s[B, S, 8]\n"
        "    %%wx = weight \"dense\" : %s[8, 8]\n    %%d0 = linear %%x0, %%wx : %s[B, S, 8]\n"
        "    %%x1 = add %%x0, %%d0 : %s[B, S, 8]\n",
        t, t, t, t, t, t);
    if (m->observed)
        qc_str_addf(
            &out, "    %%o0 = observe %%x0 {granularity = tensor, tap = \"dense.input\"} : %s[2, 1]\n", t);
    write_first(m, &out);
    qc_str_addf(&out,
        "    %%wsh = weight \"shared\" : %s[8, 8]\n    %%sh1 = linear %%x1, %%wsh : %s[B, S, 8]\n"
        "    %%z1 = add %%c1, %%sh1 : %s[B, S, 8]\n    %%x2 = add %%x1, %%z1 : %s[B, S, 8]\n",
        t, t, t, t);
    observe_end(m, &out, "x2", "middle");
    write_second(m, &out);
    qc_str_addf(&out, "    %%x3 = add %%x2, %%c2 : %s[B, S, 8]\n", t);
    if (m->end)
        observe_end(m, &out, "x3", "end");
    qc_str_addf(&out, "  return %%x3\n}\n");
    const char *text = qc_arena_strdup(arena, out.data);
    qc_str_fini(&out);
    return text;
}

#endif
