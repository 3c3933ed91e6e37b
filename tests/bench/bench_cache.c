/* SPDX-License-Identifier: MIT
 *
 * bench_cache.c - decoding of a whole model behind caches of every type, beside a bf16 cache in the same run.
 *
 *   bench_cache MODEL [--tokens=N]
 *
 * Every type gets N random tokens (448) at once; then the types take turns at decoding 8 tokens each, 12 times,
 * and the best turn of each counts. They read the same weights in memory. bench_decode measures attention alone.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "frontends/hf/hf.h"
#include "ir/ctx.h"
#include "runtime/executor.h"
#include "runtime/kv_cache.h"
#include "runtime/sampler.h"

static const char *const kinds[] = {"bf16", "fp8_e4m3", "fp8_e5m2", "fp8_per_token_head", "int8",
    "int8_per_token_head", "int4", "int4_per_token_head", "nvfp4"};
enum { KINDS = sizeof kinds / sizeof *kinds, TURNS = 12, TURN_TOKENS = 8 };

typedef struct run {
    qc_module *module;
    qc_executor *executor; /* NULL: the model cannot have such a cache */
    qc_session *session;
    double rate;
} run;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void report(void *user, qc_severity severity, const char *where, const char *what)
{
    (void)user;
    if (severity == QC_SEVERITY_ERROR)
        printf("# %s: %s\n", where, what);
}

static void *checked(void *memory)
{
    if (!memory)
        exit(1);
    return memory;
}

/* Static scales are 1: speed does not depend on them. */
static bool open_run(
    qc_ctx *ctx, const char *model, const char *kind, const qc_executor *lender, size_t capacity, run *r)
{
    qc_hf_options hf = {.dtype = QC_DTYPE_NONE};
    bool dynamic = strstr(kind, "per_token") != NULL || strcmp(kind, "bf16") == 0;
    qc_kv_cache_request request = {.dtype = kind, .scales = dynamic ? QC_KV_SCALES_AUTO : QC_KV_SCALES_ONE};
    r->module = qc_hf_import(ctx, model, &hf);
    if (!r->module || qc_kv_cache_apply(r->module, model, &request) != QC_OK)
        return false;
    r->executor = qc_executor_create(ctx, r->module, &(qc_executor_options){.lender = lender});
    r->session = r->executor ? qc_session_create(r->executor, capacity) : NULL;
    return r->session != NULL;
}

static void decode(run *r, const int32_t *ids, float *logits)
{
    double start = now();
    for (size_t i = 0; i < TURN_TOKENS; i++)
        if (qc_session_run(r->session, ids + i, 1, true, logits) != QC_OK)
            exit(1);
    double rate = TURN_TOKENS / (now() - start);
    r->rate = rate > r->rate ? rate : r->rate;
}

static void print(const run *runs, size_t tokens)
{
    printf("decoding behind %zu tokens, best of %d turns\n", tokens, (int)TURNS);
    printf("%-20s %12s %12s %10s\n", "cache", "bytes/token", "tokens/s", "of bf16");
    for (size_t k = 0; k < KINDS; k++)
        if (runs[k].session)
            printf("%-20s %12lld %12.2f %9.0f%%\n", kinds[k],
                (long long)qc_executor_cache_bytes_per_token(runs[k].executor), runs[k].rate,
                100 * runs[k].rate / runs[0].rate);
}

int main(int argc, char **argv)
{
    size_t tokens = 448;
    run runs[KINDS] = {{0}};
    if (argc < 2 || (argc > 2 && sscanf(argv[2], "--tokens=%zu", &tokens) != 1) || tokens == 0 ||
        tokens > 1 << 20)
        return fprintf(stderr, "usage: bench_cache MODEL [--tokens=N]\n"), 2;
    qc_ctx *ctx = qc_ctx_create(NULL, report, NULL);
    size_t capacity = tokens + (size_t)TURNS * TURN_TOKENS;
    int32_t *ids = checked(calloc(capacity, sizeof *ids));
    float *logits = NULL;
    for (size_t k = 0; k < KINDS; k++) {
        if (!open_run(ctx, argv[1], kinds[k], k ? runs[0].executor : NULL, capacity, &runs[k]))
            continue;
        size_t vocabulary = (size_t)qc_executor_vocabulary(runs[k].executor);
        if (!logits) {
            qc_random random;
            qc_random_seed(&random, 0);
            logits = checked(calloc(vocabulary, sizeof *logits));
            for (size_t i = 0; i < capacity; i++)
                ids[i] = (int32_t)(qc_random_unit(&random) * (double)vocabulary);
        }
        if (qc_session_run(runs[k].session, ids, tokens, true, logits) != QC_OK)
            return 1;
    }
    if (!runs[0].session)
        return 1;
    for (size_t turn = 0; turn < TURNS; turn++)
        for (size_t k = 0; k < KINDS; k++)
            if (runs[k].session)
                decode(&runs[k], ids + tokens + turn * TURN_TOKENS, logits);
    print(runs, tokens);
    for (size_t k = KINDS; k-- > 0;) {
        qc_session_destroy(runs[k].session);
        qc_executor_destroy(runs[k].executor);
        if (runs[k].module)
            qc_module_destroy(runs[k].module);
    }
    free(ids);
    free(logits);
    qc_ctx_destroy(ctx);
    return 0;
}
