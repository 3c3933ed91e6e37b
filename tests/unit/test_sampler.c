/* SPDX-License-Identifier: MIT
 *
 * test_sampler.c - the generator against its published first outputs (state 1, 2, 3, 4) and an implementation
 * in Python integers; drawn tokens against the inverse of the distribution computed with numpy in f64.
 */
#include "runtime/sampler.h"

#include "tests/unit/check.h"

static const float logits[] = {1.0f, 3.0f, 2.0f, 0.0f, 2.0f};
enum { VOCABULARY = sizeof logits / sizeof *logits, DRAWS = 8 };

static char last_message[256];

static void keep_message(void *user, qc_severity severity, const char *where, const char *what)
{
    (void)user;
    (void)severity;
    snprintf(last_message, sizeof last_message, "%s: %s", where, what);
}

static void test_generator_outputs(void)
{
    static const uint64_t expected[] = {
        11520, 0, 1509978240, 1215971899390074240u, 1216172134540287360u, 607988272756665600u};
    qc_random random = {{1, 2, 3, 4}};
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++)
        CHECK(qc_random_next(&random) == expected[i]);
}

static void test_generator_seed(void)
{
    qc_random random;
    qc_random_seed(&random, 42);
    CHECK(random.state[0] == 0xbdd732262feb6e95u);
    CHECK(random.state[3] == 0x581ce1ff0e4ae394u);
    CHECK(qc_random_next(&random) == 0x15780b2e0c2ec716u);
    CHECK(qc_random_next(&random) == 0x6104d9866d113a7eu);
    qc_random_seed(&random, 7);
    CHECK(qc_random_unit(&random) == 0.7005764821796896);
    CHECK(qc_random_unit(&random) == 0.2787512294737843);
}

static void check_draws(const qc_sampler_options *options, const float *values, const int32_t *expected)
{
    qc_arena arena;
    qc_diag diag;
    qc_arena_init(&arena, NULL);
    qc_diag_init(&diag, &arena, keep_message, NULL);
    qc_sampler *sampler = qc_sampler_create(&diag, VOCABULARY, options);
    CHECK(sampler != NULL);
    for (size_t i = 0; sampler && i < DRAWS; i++) {
        int32_t token = -1;
        CHECK(qc_sampler_next(sampler, &diag, values, &token) == QC_OK);
        CHECK_INT(token, expected[i]);
    }
    qc_sampler_destroy(sampler);
    qc_arena_fini(&arena);
}

static void test_greedy(void)
{
    static const int32_t likeliest[DRAWS] = {1, 1, 1, 1, 1, 1, 1, 1}, first[DRAWS] = {0};
    static const float ties[] = {2, 2, NAN, 2, 1};
    check_draws(&(qc_sampler_options){.top_p = 1}, logits, likeliest);
    check_draws(&(qc_sampler_options){.top_p = 1}, ties, first);
}

static void test_draws(void)
{
    static const int32_t plain[DRAWS] = {2, 1, 3, 4, 4, 4, 1, 1}, top3[DRAWS] = {2, 1, 4, 4, 4, 4, 1, 1},
                         nucleus[DRAWS] = {1, 1, 2, 2, 2, 2, 1, 1}, one[DRAWS] = {1, 1, 1, 1, 1, 1, 1, 1};
    check_draws(&(qc_sampler_options){.temperature = 0.7, .top_p = 1, .seed = 7}, logits, plain);
    check_draws(&(qc_sampler_options){.temperature = 0.7, .top_p = 1, .top_k = 3, .seed = 7}, logits, top3);
    check_draws(&(qc_sampler_options){.temperature = 0.7, .top_p = 0.7, .seed = 7}, logits, nucleus);
    check_draws(&(qc_sampler_options){.temperature = 0.7, .top_p = 1, .top_k = 1, .seed = 7}, logits, one);
    check_draws(&(qc_sampler_options){.temperature = 1e-9, .top_p = 1, .seed = 7}, logits, one);
}

static void test_never_draws_what_is_ruled_out(void)
{
    static const float values[] = {NAN, 1, -INFINITY, 1, NAN};
    qc_arena arena;
    qc_diag diag;
    int count[VOCABULARY] = {0};
    qc_arena_init(&arena, NULL);
    qc_diag_init(&diag, &arena, keep_message, NULL);
    qc_sampler *sampler =
        qc_sampler_create(&diag, VOCABULARY, &(qc_sampler_options){.temperature = 100, .top_p = 1});
    for (int i = 0; i < 1000; i++) {
        int32_t token = 0;
        CHECK(qc_sampler_next(sampler, &diag, values, &token) == QC_OK);
        count[token]++;
    }
    CHECK_INT(count[0] + count[2] + count[4], 0);
    CHECK(count[1] > 400 && count[3] > 400);
    qc_sampler_destroy(sampler);
    qc_arena_fini(&arena);
}

static void test_no_next_token(void)
{
    static const float nan[] = {NAN, NAN, NAN, NAN, NAN}, infinite[] = {0, INFINITY, 0, 0, 0};
    qc_arena arena;
    qc_diag diag;
    int32_t token;
    qc_arena_init(&arena, NULL);
    qc_diag_init(&diag, &arena, keep_message, NULL);
    qc_sampler *sampler = qc_sampler_create(&diag, VOCABULARY, &(qc_sampler_options){.top_p = 1});
    CHECK(qc_sampler_next(sampler, &diag, nan, &token) == QC_ERROR);
    CHECK_STR(last_message, "logits: the largest is NaN or infinite: there is no next token");
    CHECK(qc_sampler_next(sampler, &diag, infinite, &token) == QC_ERROR);
    qc_sampler_destroy(sampler);
    qc_arena_fini(&arena);
}

int main(void)
{
    RUN(test_generator_outputs);
    RUN(test_generator_seed);
    RUN(test_greedy);
    RUN(test_draws);
    RUN(test_never_draws_what_is_ruled_out);
    RUN(test_no_next_token);
    return check_done();
}
