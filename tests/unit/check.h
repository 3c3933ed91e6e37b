/* SPDX-License-Identifier: MIT
 *
 * check.h - the smallest test harness that can fail: TAP on stdout, one `ok`/`not ok` line a case.
 *
 *   static void test_addition(void) { CHECK(1 + 1 == 2); CHECK_INT(1 + 1, 2); }
 *   int main(void) { RUN(test_addition); return check_done(); }
 *
 * A case that cannot run here calls SKIP("reason") and returns.
 */
#ifndef QC_TESTS_CHECK_H
#define QC_TESTS_CHECK_H

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int check_cases, check_failed_cases, check_case_failures;
static const char *check_skip_reason;

#define CHECK_FAIL(...)                                                                                       \
    (check_case_failures++ < 20 ? (printf("# %s:%d: ", __FILE__, __LINE__), printf(__VA_ARGS__), puts("")) : 0)
#define CHECK(condition) ((condition) ? (void)0 : (void)CHECK_FAIL("failed: %s", #condition))
#define CHECK_INT(actual, expected)                                                                           \
    do {                                                                                                      \
        long long check_a = (long long)(actual), check_e = (long long)(expected);                             \
        if (check_a != check_e)                                                                               \
            CHECK_FAIL("%s is %lld, expected %lld", #actual, check_a, check_e);                               \
    } while (0)
#define CHECK_STR(actual, expected)                                                                           \
    do {                                                                                                      \
        const char *check_a = (actual), *check_e = (expected);                                                \
        if (!check_a || !check_e || strcmp(check_a, check_e) != 0)                                            \
            CHECK_FAIL("%s is '%s', expected '%s'", #actual, check_a ? check_a : "(null)",                    \
                check_e ? check_e : "(null)");                                                                \
    } while (0)
#define CHECK_NEAR(actual, expected, tolerance)                                                               \
    do {                                                                                                      \
        double check_a = (actual), check_e = (expected);                                                      \
        if (!(fabs(check_a - check_e) <= (tolerance)))                                                        \
            CHECK_FAIL("%s is %.9g, expected %.9g", #actual, check_a, check_e);                               \
    } while (0)
#define SKIP(reason)                                                                                          \
    do {                                                                                                      \
        check_skip_reason = (reason);                                                                         \
        return;                                                                                               \
    } while (0)

static inline void check_run(const char *name, void (*function)(void))
{
    check_case_failures = 0;
    check_skip_reason = NULL;
    function();
    check_cases++;
    check_failed_cases += check_case_failures > 0;
    printf("%s %d - %s", check_case_failures ? "not ok" : "ok", check_cases, name);
    if (check_skip_reason && !check_case_failures)
        printf(" # SKIP %s", check_skip_reason);
    puts("");
    fflush(stdout);
}

static inline int check_done(void)
{
    printf("1..%d\n", check_cases);
    return check_failed_cases > 0;
}

#define RUN(function) check_run(#function, function)

#endif
