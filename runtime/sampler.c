/* SPDX-License-Identifier: MIT
 *
 * sampler.c - see sampler.h. A NaN among the logits counts as minus infinity: it is never drawn.
 */
#include "runtime/sampler.h"

#include <math.h>
#include <stdlib.h>

#include "scalar.h" /* generated from the op table: qc_scalar_exp */

/* ---- sampler ------------------------------------------------------------------------------------------- */

typedef struct candidate {
    float logit; /* then the weight: e to the power (logit - top) / temperature */
    int32_t id;
} candidate;

struct qc_sampler {
    qc_sampler_options options;
    qc_random random;
    size_t vocabulary;
    candidate *candidates; /* NULL when greedy */
};

qc_sampler *qc_sampler_create(qc_diag *diag, size_t vocabulary, const qc_sampler_options *options)
{
    qc_sampler *sampler = calloc(1, sizeof *sampler);
    if (sampler && options->temperature > 0 &&
        !(sampler->candidates = calloc(vocabulary, sizeof *sampler->candidates))) {
        free(sampler);
        sampler = NULL;
    }
    if (!sampler) {
        qc_error(diag, "sampling", "out of memory for a vocabulary of %zu tokens", vocabulary);
        return NULL;
    }
    sampler->options = *options;
    sampler->vocabulary = vocabulary;
    qc_random_seed(&sampler->random, options->seed);
    return sampler;
}

void qc_sampler_destroy(qc_sampler *sampler)
{
    if (sampler)
        free(sampler->candidates);
    free(sampler);
}

static int by_logit(const void *a, const void *b)
{
    const candidate *x = a, *y = b;
    if (x->logit != y->logit)
        return x->logit > y->logit ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

/* How many of the sorted candidates it takes to reach top_p of the whole weight. */
static size_t nucleus(const candidate *candidates, size_t count, double total, double top_p)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        sum += candidates[i].logit;
        if (sum >= top_p * total)
            return i + 1;
    }
    return count;
}

static double sum_weights(const candidate *candidates, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += candidates[i].logit;
    return sum;
}

static int32_t draw(qc_sampler *sampler, const float *logits, float top)
{
    const qc_sampler_options *o = &sampler->options;
    candidate *c = sampler->candidates;
    size_t count = sampler->vocabulary;
    for (size_t i = 0; i < count; i++)
        c[i] = (candidate){logits[i] == logits[i] ? logits[i] : -INFINITY, (int32_t)i};
    if (o->top_k > 0 || o->top_p < 1)
        qsort(c, count, sizeof *c, by_logit);
    if (o->top_k > 0 && (uint64_t)o->top_k < count)
        count = (size_t)o->top_k;
    for (size_t i = 0; i < count; i++) /* 0 for minus infinity: the IR's exponential ends at e^-104 */
        c[i].logit = c[i].logit == -INFINITY
                         ? 0.0f
                         : qc_scalar_exp((float)(((double)c[i].logit - top) / o->temperature));
    double total = sum_weights(c, count);
    if (o->top_p < 1) {
        count = nucleus(c, count, total, o->top_p);
        total = sum_weights(c, count);
    }
    double at = qc_random_unit(&sampler->random) * total, sum = 0;
    size_t last = 0; /* the last one with a weight, should rounding carry `at` past the sum */
    for (size_t i = 0; i < count; i++) {
        sum += c[i].logit;
        if (c[i].logit > 0)
            last = i;
        if (sum > at)
            return c[i].id;
    }
    return c[last].id;
}

qc_status qc_sampler_next(qc_sampler *sampler, qc_diag *diag, const float *logits, int32_t *token)
{
    size_t best = sampler->vocabulary;
    for (size_t i = 0; i < sampler->vocabulary; i++)
        if (logits[i] == logits[i] && (best == sampler->vocabulary || logits[i] > logits[best]))
            best = i;
    if (best == sampler->vocabulary || isinf(logits[best]))
        return qc_error(diag, "logits", "the largest is NaN or infinite: there is no next token");
    *token = sampler->candidates ? draw(sampler, logits, logits[best]) : (int32_t)best;
    return QC_OK;
}
