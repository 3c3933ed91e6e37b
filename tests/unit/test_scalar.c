/* SPDX-License-Identifier: MIT
 *
 * test_scalar.c - the scalar functions derived from the op table, over a sample of all f32 (every 1009th bit
 * pattern, a prime, so that all exponents and both signs occur), against libm in double, rounded.
 */
#include "ir/dtype/codec.h"
#include "scalar.h"
#include "tests/unit/check.h"

typedef struct outcome {
    int64_t worst; /* steps of f32 between result and correctly rounded value */
    float at;
    int nan_mismatches, sign_mismatches;
} outcome;

static int64_t order(float x)
{
    int64_t bits = qc_f32_bits(x);
    return bits & 0x80000000 ? -(bits & 0x7fffffff) : bits;
}

static outcome scan(float (*function)(float), double (*exact)(double), float limit)
{
    outcome o = {0};
    for (uint64_t bits = 0; bits < UINT64_C(0x100000000); bits += 1009) {
        float x = qc_f32_from_bits((uint32_t)bits);
        if (fabsf(x) > limit)
            continue;
        float y = function(x), e = (float)exact((double)x);
        if (isnan(y) || isnan(e)) {
            o.nan_mismatches += isnan(y) != isnan(e);
            continue;
        }
        int64_t off = llabs(order(y) - order(e));
        o.sign_mismatches += e == 0 && signbit(y) != signbit(e);
        if (off > o.worst) {
            o.worst = off;
            o.at = x;
        }
    }
    printf("# off by at most %lld, at %a\n", (long long)o.worst, (double)o.at);
    return o;
}

static void check_function(float (*function)(float), double (*exact)(double), float limit, int64_t allowed)
{
    outcome o = scan(function, exact, limit);
    CHECK(o.worst <= allowed);
    CHECK_INT(o.nan_mismatches, 0);
    CHECK_INT(o.sign_mismatches, 0);
}

static void test_exp(void)
{
    check_function(qc_scalar_exp, exp, INFINITY, 1);
    CHECK(qc_scalar_exp(INFINITY) == INFINITY);
    CHECK(qc_scalar_exp(-INFINITY) == 0 && !signbit(qc_scalar_exp(-INFINITY)));
    CHECK(isnan(qc_scalar_exp(NAN)));
    CHECK(qc_scalar_exp(88.72283f) < INFINITY && qc_scalar_exp(88.72284f) == INFINITY);
    CHECK(qc_scalar_exp(-103.97207f) > 0 &&
          qc_scalar_exp(-103.97209f) == 0); /* around half the least subnormal */
    CHECK(qc_scalar_exp(0.0f) == 1 && qc_scalar_exp(-0.0f) == 1);
}

static void test_log(void)
{
    check_function(qc_scalar_log, log, INFINITY, 1);
    CHECK(qc_scalar_log(0.0f) == -INFINITY && qc_scalar_log(-0.0f) == -INFINITY);
    CHECK(qc_scalar_log(INFINITY) == INFINITY && isnan(qc_scalar_log(-1.0f)) && isnan(qc_scalar_log(NAN)));
    CHECK(qc_scalar_log(3.4028235e38f) == 88.722839f); /* the largest finite number */
}

static void test_sin_cos(void)
{
    check_function(qc_scalar_sin, sin, 2147483648.0f, 1);
    check_function(qc_scalar_cos, cos, 2147483648.0f, 1);
    CHECK(isnan(qc_scalar_sin(4294967296.0f)) && isnan(qc_scalar_cos(-4294967296.0f)));
    CHECK(isnan(qc_scalar_sin(INFINITY)) && isnan(qc_scalar_cos(NAN)));
    CHECK(signbit(qc_scalar_sin(-0.0f)) && qc_scalar_cos(-0.0f) == 1);
}

static void test_tanh(void)
{
    check_function(qc_scalar_tanh, tanh, INFINITY, 2);
    CHECK(qc_scalar_tanh(INFINITY) == 1 && qc_scalar_tanh(-INFINITY) == -1 && isnan(qc_scalar_tanh(NAN)));
    CHECK(signbit(qc_scalar_tanh(-0.0f)));
}

static void test_min_max(void)
{
    CHECK(isnan(qc_scalar_op_minimum(NAN, 1)) && isnan(qc_scalar_op_minimum(1, NAN)));
    CHECK(isnan(qc_scalar_op_maximum(NAN, 1)) && isnan(qc_scalar_op_maximum(1, NAN)));
    CHECK(qc_scalar_op_minimum(-1, 2) == -1 && qc_scalar_op_maximum(-1, 2) == 2);
}

int main(void)
{
    RUN(test_exp);
    RUN(test_log);
    RUN(test_sin_cos);
    RUN(test_tanh);
    RUN(test_min_max);
    return check_done();
}
