/* SPDX-License-Identifier: MIT
 *
 * test_ops.c - the reference semantics of every row of the op table against numbers computed elsewhere
 * (tests/ops/make_cases.py says by whom). An op without cases fails.
 */
#include "backends/reference/reference.h"
#include "ir/ctx.h"
#include "ir/decompose.h"
#include "ir/dtype/codec.h"
#include "ir/support/io.h"
#include "ir/support/json.h"
#include "tests/unit/check.h"
#include "tests/unit/messages.h"

enum { MAX_TENSORS = 8, MIN_CASES = 2 };

static const qc_op_info *current;
static messages said_last;

static qc_json *read_cases(qc_diag *diag, qc_arena *arena, const char *op)
{
    const char *root = getenv("QC_SOURCE_ROOT");
    char *path = qc_arena_printf(arena, "%s/tests/ops/%s.json", root ? root : ".", op), *text;
    size_t length;
    if (qc_read_file(diag, arena, path, 1 << 20, &text, &length) != QC_OK)
        return NULL;
    return qc_json_parse(diag, arena, path, text, length);
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool read_tensor(qc_diag *diag, const qc_json *json, qc_tensor *tensor)
{
    const qc_json *type = qc_json_get(json, "dtype"), *shape = qc_json_get(json, "shape"),
                  *data = qc_json_get(json, "data");
    int64_t dims[QC_MAX_RANK];
    int rank = 0;

    if (!type || !shape || !data || shape->length > QC_MAX_RANK)
        return false;
    for (const qc_json *d = shape->first; d; d = d->next)
        dims[rank++] = d->integer;
    qc_dtype dtype = qc_dtype_from_name(type->text, type->length);
    if (qc_tensor_create(diag, "case", dtype, rank, dims, tensor) != QC_OK)
        return false;
    size_t size = qc_tensor_bytes(dtype, tensor->count);
    if (data->length != 2 * size)
        return false;
    for (size_t i = 0; i < size; i++) {
        int high = hex_digit(data->text[2 * i]), low = hex_digit(data->text[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        ((unsigned char *)tensor->data)[i] = (unsigned char)(high << 4 | low);
    }
    return true;
}

static qc_status case_weight(void *user, qc_diag *diag, const char *name, qc_tensor *stored)
{
    const qc_json *weights = qc_json_get(user, "weights"),
                  *weight = weights ? qc_json_get(weights, name) : NULL;
    static qc_tensor kept;

    qc_tensor_free(&kept);
    if (!weight || !read_tensor(diag, weight, &kept))
        return qc_error(diag, name, "no such tensor in the case");
    *stored = kept;
    return QC_OK;
}

/* How many numbers of the type lie between the two; a large one when only one is NaN. */
static int64_t steps_between(qc_dtype dtype, const void *a, const void *b)
{
    int64_t x = 0, y = 0;
    int bytes = qc_dtype_bits(dtype) / 8;
    float fx, fy;

    memcpy(&x, a, (size_t)bytes);
    memcpy(&y, b, (size_t)bytes);
    if (!qc_dtype_is_float(dtype))
        return x == y ? 0 : INT32_MAX;
    qc_decode_f32(dtype, a, &fx, 1);
    qc_decode_f32(dtype, b, &fy, 1);
    if (isnan(fx) || isnan(fy))
        return isnan(fx) && isnan(fy) ? 0 : INT32_MAX;
    int64_t sign = (int64_t)((uint64_t)1 << (bytes * 8 - 1));
    if (bytes == 8)
        return x == y ? 0 : INT32_MAX;
    x = x & sign ? -(x & ~sign) : x;
    y = y & sign ? -(y & ~sign) : y;
    return x > y ? x - y : y - x;
}

/* The number of elements of `actual` that are off by more than `ulp` steps and more than `tolerance`. */
static int64_t count_wrong(
    const qc_tensor *actual, const qc_tensor *expected, int64_t ulp, double tolerance, int64_t *first)
{
    int64_t wrong = 0;

    const bool packed = qc_dtype_bits(expected->dtype) % 8 != 0; /* codes, which are equal or wrong */

    for (int64_t i = 0; i < expected->count; i++) {
        size_t at = qc_tensor_bytes(expected->dtype, i);
        const char *a = (const char *)actual->data + at, *e = (const char *)expected->data + at;
        float fa, fe;
        qc_tensor_read(actual, i, 1, &fa);
        qc_tensor_read(expected, i, 1, &fe);
        if (packed
                ? fa == fe && signbit(fa) == signbit(fe)
                : steps_between(expected->dtype, a, e) <= ulp || fabs((double)fa - (double)fe) <= tolerance)
            continue;
        if (wrong++ == 0)
            *first = i;
    }
    return wrong;
}

static void compare(const qc_json *json, int64_t ulp, double tolerance, const qc_tensor *actual, size_t at)
{
    qc_arena arena;
    qc_diag diag;
    qc_tensor expected = {0};
    int64_t first = 0;

    qc_arena_init(&arena, NULL);
    qc_diag_init(&diag, &arena, keep_message, &said_last);
    if (!read_tensor(&diag, json, &expected))
        CHECK_FAIL("output %zu of the case cannot be read", at);
    else if (expected.dtype != actual->dtype || !qc_tensor_same_shape(&expected, actual))
        CHECK_FAIL("output %zu is %s, expected %s", at, qc_tensor_text(&arena, actual),
            qc_tensor_text(&arena, &expected));
    else if (count_wrong(actual, &expected, ulp, tolerance, &first) > 0) {
        float a, e;
        qc_tensor_read(actual, first, 1, &a);
        qc_tensor_read(&expected, first, 1, &e);
        CHECK_FAIL("output %zu [%lld] is %.9g, expected %.9g, and %lld of %lld elements are off", at,
            (long long)first, (double)a, (double)e,
            (long long)count_wrong(actual, &expected, ulp, tolerance, &first), (long long)expected.count);
    }
    qc_tensor_free(&expected);
    qc_arena_fini(&arena);
}

static void run_calls(qc_diag *diag, qc_reference *reference, const qc_func *func, const qc_json *json)
{
    const qc_json *ulp = qc_json_get(json, "ulp"), *absolute = qc_json_get(json, "abs");

    for (const qc_json *run = qc_json_get(json, "runs")->first; run; run = run->next) {
        qc_tensor inputs[MAX_TENSORS] = {{0}}, outputs[MAX_TENSORS] = {{0}};
        size_t count = 0;
        for (const qc_json *i = qc_json_get(run, "inputs")->first; i && count < MAX_TENSORS; i = i->next)
            CHECK(read_tensor(diag, i, &inputs[count++]));
        if (qc_reference_run(reference, func, inputs, count, outputs) != QC_OK) {
            CHECK_FAIL("the run failed: %s", said_last.last);
        } else {
            size_t at = 0;
            for (const qc_json *o = qc_json_get(run, "outputs")->first; o && at < MAX_TENSORS;
                 o = o->next, at++)
                compare(o, ulp ? ulp->integer : 0, absolute ? absolute->number : 0, &outputs[at], at);
            CHECK_INT(at, qc_func_result_count(func));
        }
        for (size_t i = 0; i < MAX_TENSORS; i++) {
            qc_tensor_free(&inputs[i]);
            qc_tensor_free(&outputs[i]);
        }
    }
}

static const qc_op *find_op(const qc_func *func, const char *name)
{
    const qc_op *op = qc_func_first_op(func);
    while (op && !qc_op_is(op, name))
        op = qc_op_next(op);
    return op;
}

/* The decomposition of a composite op must be a valid module, and the same one for the same op. */
static void check_decomposition(qc_ctx *ctx, const qc_op *op)
{
    qc_decomposer *decomposer = qc_decomposer_create(ctx);
    const qc_func *func = qc_decompose(decomposer, op);
    if (!func) {
        CHECK_FAIL("no decomposition: %s", said_last.last);
    } else {
        CHECK(qc_decompose(decomposer, op) == func);
        CHECK(qc_module_verify(qc_func_module(func), NULL) == QC_OK);
        CHECK(qc_value_type(qc_func_result(func, 0)) == qc_value_type(qc_op_result(op, 0)));
    }
    qc_decomposer_destroy(decomposer);
}

static void run_case(const qc_json *json, int number)
{
    qc_ctx *ctx = qc_ctx_create(NULL, keep_message, &said_last);
    qc_json copy = *json;
    const char *text = qc_json_get(json, "text")->text;
    int failures = check_case_failures;

    said_last = (messages){0};
    qc_module *module = qc_module_parse(ctx, current->name, text, strlen(text));
    if (!module || qc_module_verify(module, NULL) != QC_OK) {
        CHECK_FAIL("case %d: %s", number, said_last.last);
    } else {
        const qc_func *func = qc_module_func(module, "main");
        const qc_op *op = find_op(func, current->name);
        qc_reference_options options = {.user = &copy, .weight = case_weight};
        qc_reference *reference = qc_reference_create(module, &options);
        if (!op)
            CHECK_FAIL("case %d does not use the op", number);
        else if (current->decomposition)
            check_decomposition(ctx, op);
        run_calls(qc_ctx_diag(ctx), reference, func, json);
        qc_reference_destroy(reference);
    }
    if (check_case_failures > failures)
        printf("# ... in case %d, from %s:\n# %s\n", number, qc_json_get(json, "from")->text,
            strstr(text, "%y =") ? strstr(text, "%y =") : text);
    qc_module_destroy(module);
    qc_ctx_destroy(ctx);
}

static void test_op(void)
{
    qc_arena arena;
    qc_diag diag;
    int count = 0;

    qc_arena_init(&arena, NULL);
    qc_diag_init(&diag, &arena, keep_message, &said_last);
    const qc_json *cases = qc_json_get(read_cases(&diag, &arena, current->name), "cases");
    if (!cases)
        CHECK_FAIL("no cases: %s", said_last.last);
    for (const qc_json *c = cases ? cases->first : NULL; c; c = c->next)
        run_case(c, count++);
    CHECK(count >= MIN_CASES);
    qc_arena_fini(&arena);
}

/* The comparison itself tells a single step, a NaN and an absolute error. */
static void test_comparison(void)
{
    uint16_t a[4] = {0x3f80, 0x8001, 0x7fc0, 0x4000}, b[4] = {0x3f81, 0x0000, 0x3f80, 0x4000};
    qc_tensor x = {.dtype = QC_BF16, .rank = 1, .dims = {4}, .count = 4, .data = a}, y = x;
    int64_t first = -1;
    y.data = b;
    CHECK_INT(count_wrong(&x, &y, 0, 0, &first), 3);
    CHECK_INT(first, 0);
    CHECK_INT(count_wrong(&x, &y, 1, 0, &first), 1);
    CHECK_INT(first, 2);
    CHECK_INT(count_wrong(&x, &y, 0, 0.01, &first), 1);
    CHECK_INT(count_wrong(&x, &x, 0, 0, &first), 0);
}

int main(void)
{
    RUN(test_comparison);
    for (size_t i = 0; i < qc_op_info_count; i++) {
        current = &qc_op_infos[i];
        check_run(current->name, test_op);
    }
    return check_done();
}
