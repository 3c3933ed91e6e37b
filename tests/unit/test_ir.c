/* SPDX-License-Identifier: MIT
 *
 * test_ir.c - dimensions, types, attributes, building and changing modules, matching of targets, and what the
 * verifier says of modules that are broken behind its back.
 */
#include "tests/unit/check.h"

#include <pthread.h>

#include "ir/ir.h"
#include "qc/ops.h"
#include "tests/unit/messages.h"

static messages heard;
static char errors[8192]; /* all of them, a line each */

static void hear(void *user, qc_severity severity, const char *where, const char *what)
{
    keep_message(user, severity, where, what);
    if (severity == QC_SEVERITY_ERROR)
        snprintf(errors + strlen(errors), sizeof errors - strlen(errors), "%s: %s\n", where, what);
}

static qc_ctx *new_ctx(void)
{
    heard = (messages){0};
    errors[0] = 0;
    return qc_ctx_create(NULL, hear, &heard);
}

/* ---- dimensions ---------------------------------------------------------------------------------------- */

static const qc_dim *B, *P, *S;

static qc_ctx *dims_ctx(void)
{
    qc_ctx *ctx = new_ctx();
    B = qc_dim_symbol(ctx, "B");
    P = qc_dim_symbol(ctx, "P");
    S = qc_dim_symbol(ctx, "S");
    return ctx;
}

#define N(value) qc_dim_int(ctx, value)
#define ADD(a, b) qc_dim_add(ctx, a, b)
#define SUB(a, b) qc_dim_sub(ctx, a, b)
#define MUL(a, b) qc_dim_mul(ctx, a, b)
#define DIV(a, n) qc_dim_floordiv(ctx, a, n)

static void test_dims_are_canonical(void)
{
    qc_ctx *ctx = dims_ctx();
    int64_t value = 0;
    CHECK(N(7) == N(7) && N(7) != N(8) && qc_dim_symbol(ctx, "S") == S);
    CHECK(qc_dim_as_int(N(-3), &value) && value == -3);
    CHECK(!qc_dim_as_int(S, &value) && !qc_dim_as_int(NULL, &value));
    CHECK_STR(ADD(S, P)->text, "P + S");
    CHECK(ADD(S, P) == ADD(P, S) && SUB(ADD(S, P), P) == S);
    CHECK_STR(ADD(N(1), S)->text, "S + 1");
    CHECK_STR(SUB(N(5), S)->text, "-S + 5");
    CHECK_STR(SUB(N(0), MUL(N(3), S))->text, "-3*S");
    CHECK_STR(SUB(B, MUL(N(2), S))->text, "B - 2*S");
    CHECK(SUB(S, S) == N(0));
    CHECK_STR(N(0)->text, "0");
    CHECK_STR(MUL(S, B)->text, "B*S");
    CHECK_STR(MUL(ADD(S, P), ADD(S, P))->text, "P*P + 2*P*S + S*S"); /* sorted by text */
    CHECK(MUL(S, N(0)) == N(0) && MUL(S, N(1)) == S);
    CHECK(MUL(ADD(B, P), S) == ADD(MUL(S, P), MUL(S, B)));
    CHECK_INT(heard.count, 0);
    qc_ctx_destroy(ctx);
}

static void test_floordiv(void)
{
    qc_ctx *ctx = dims_ctx();
    CHECK(DIV(N(7), 2) == N(3) && DIV(N(-7), 2) == N(-4) && DIV(N(-8), 2) == N(-4));
    CHECK(DIV(S, 1) == S && DIV(S, 0) == NULL && DIV(S, -2) == NULL && DIV(NULL, 2) == NULL);
    CHECK_STR(DIV(S, 2)->text, "(S floordiv 2)");
    CHECK_STR(DIV(ADD(S, P), 2)->text, "((P + S) floordiv 2)");
    CHECK_STR(MUL(DIV(S, 2), B)->text, "(S floordiv 2)*B");
    CHECK(DIV(MUL(N(4), S), 2) == MUL(N(2), S));                 /* exact */
    CHECK(DIV(ADD(MUL(N(2), S), N(1)), 2) == S);                 /* 2 S + 1 */
    CHECK(DIV(ADD(S, N(4)), 2) == ADD(DIV(S, 2), N(2)));         /* whole parts come out */
    CHECK(DIV(SUB(N(0), S), 2) == SUB(DIV(S, 2), S));            /* -S = -2 S + S */
    CHECK(DIV(MUL(N(2), S), 4) == DIV(S, 2));                    /* common factor */
    CHECK(DIV(ADD(MUL(N(2), S), N(1)), 4) == DIV(S, 2));         /* floor(1 / 2) goes */
    CHECK(DIV(DIV(S, 2), 3) == DIV(S, 6));                       /* nested */
    CHECK(DIV(ADD(DIV(S, 2), N(1)), 3) == DIV(ADD(S, N(2)), 6)); /* nested, with a constant */
    CHECK(DIV(ADD(DIV(S, 2), DIV(P, 2)), 3) != NULL);
    qc_ctx_destroy(ctx);
}

/* The value of a dimension by direct computation, to hold the rules of floordiv against. */
static int64_t evaluate(const qc_dim *dim, int64_t s, int64_t p)
{
    int64_t sum = 0;
    for (uint32_t i = 0; i < dim->term_count; i++) {
        int64_t product = dim->terms[i].coefficient;
        for (uint32_t j = 0; j < dim->terms[i].atom_count; j++) {
            const qc_dim_atom *atom = dim->terms[i].atoms[j];
            int64_t value = atom->symbol && !strcmp(atom->symbol, "S") ? s : p;
            if (!atom->symbol) {
                value = evaluate(atom->dividend, s, p);
                value = value / atom->divisor - (value % atom->divisor < 0);
            }
            product *= value;
        }
        sum += product;
    }
    return sum;
}

static void test_floordiv_keeps_its_value(void)
{
    qc_ctx *ctx = dims_ctx();
    uint32_t seed = 1;
    for (int i = 0; i < 2000; i++) {
        int64_t n[6];
        for (int k = 0; k < 6; k++) {
            seed = seed * 1664525u + 1013904223u;
            n[k] = (int64_t)(seed >> 16) % 25 - 12;
        }
        int64_t inner = n[4] * n[4] % 7 + 1, outer = n[5] * n[5] % 6 + 1;
        const qc_dim *first = DIV(ADD(ADD(MUL(N(n[0]), S), MUL(N(n[1]), P)), N(n[2])), inner);
        const qc_dim *dim = DIV(ADD(MUL(first, N(i % 3 ? 1 : n[3])), N(n[2])), outer);
        for (int64_t s = 0; s < 9; s += 2)
            for (int64_t p = 0; p < 9; p += 4) {
                int64_t x = n[0] * s + n[1] * p + n[2];
                x = x / inner - (x % inner < 0);
                x = x * (i % 3 ? 1 : n[3]) + n[2];
                x = x / outer - (x % outer < 0);
                CHECK_INT(evaluate(dim, s, p), x);
            }
    }
    qc_ctx_destroy(ctx);
}

static void test_dims_overflow(void)
{
    qc_ctx *ctx = dims_ctx();
    const qc_dim *most = N(INT64_MAX), *least = N(INT64_MIN);
    CHECK(ADD(most, N(1)) == NULL && SUB(least, N(1)) == NULL && SUB(N(0), least) == NULL);
    CHECK(MUL(most, N(2)) == NULL && MUL(MUL(most, S), N(2)) == NULL && ADD(NULL, S) == NULL);
    CHECK(SUB(N(-1), most) == NULL); /* the least integer has no term of its own */
    CHECK(ADD(most, N(-1)) != NULL);
    /* Products of sums stop before they explode, powers too. */
    const qc_dim *product = N(1), *power = N(1);
    for (int i = 0; i < 40; i++) {
        char name[8];
        snprintf(name, sizeof name, "x%d", i);
        product = MUL(product, ADD(qc_dim_symbol(ctx, name), N(1)));
        power = MUL(power, S);
    }
    CHECK(product == NULL && power == NULL);
    qc_ctx_destroy(ctx);
}

/* ---- types --------------------------------------------------------------------------------------------- */

static void test_types(void)
{
    qc_ctx *ctx = dims_ctx();
    const qc_dim *dims[QC_MAX_RANK + 1] = {B, S, N(64), N(1), N(1), N(1), N(1), N(1), N(1)};
    const qc_type *type = qc_type_tensor(ctx, QC_BF16, 3, dims);
    int64_t count = 0;
    CHECK(type == qc_type_tensor(ctx, QC_BF16, 3, dims));
    CHECK(type != qc_type_tensor(ctx, QC_F16, 3, dims) && type != qc_type_tensor(ctx, QC_BF16, 2, dims));
    CHECK(type == qc_type_with_dtype(ctx, qc_type_with_dtype(ctx, type, QC_F32), QC_BF16));
    CHECK_STR(qc_type_text(ctx, type), "bf16[B, S, 64]");
    CHECK_STR(qc_type_text(ctx, NULL), "none");
    CHECK_STR(qc_type_text(ctx, qc_type_tensor(ctx, QC_F32, 0, dims)), "f32[]");
    CHECK(qc_type_dim(type, -1) == N(64) && qc_type_dim(type, 0) == B);
    CHECK(qc_type_dim(type, 3) == NULL && qc_type_dim(type, -4) == NULL && qc_type_dim(NULL, 0) == NULL);
    CHECK(!qc_type_static_count(type, &count));
    CHECK(qc_type_static_count(qc_type_tensor(ctx, QC_I8, 2, dims + 2), &count) && count == 64);
    CHECK_INT(qc_type_rank(qc_type_tensor(ctx, QC_I8, QC_MAX_RANK, dims)), QC_MAX_RANK);
    CHECK_INT(heard.count, 0);
    CHECK(
        !qc_type_tensor(ctx, QC_I8, QC_MAX_RANK + 1, dims) && said(&heard, "a tensor of rank 9; at most 8"));
    CHECK(!qc_type_tensor(ctx, QC_I8, -1, dims) && said(&heard, "rank -1"));
    CHECK(!qc_type_tensor(ctx, QC_DTYPE_NONE, 1, dims) && said(&heard, "without an element type"));
    const qc_dim *wrong[3] = {N(-1), NULL, N((int64_t)1 << 32)};
    CHECK(!qc_type_tensor(ctx, QC_I8, 1, wrong) && said(&heard, "dimension 0 of a tensor is negative: -1"));
    CHECK(!qc_type_tensor(ctx, QC_I8, 1, wrong + 1) && said(&heard, "dimension 0 of a tensor is too large"));
    wrong[0] = wrong[1] = wrong[2];
    CHECK(!qc_type_tensor(ctx, QC_I8, 3, wrong) && said(&heard, "overflows 63 bits"));
    CHECK_INT(qc_ctx_error_count(ctx), 6);
    qc_ctx_destroy(ctx);
}

/* ---- attributes ---------------------------------------------------------------------------------------- */

static const qc_attr *sample_map(qc_ctx *ctx)
{
    const char *const keys[] = {"type", "absent", "dynamic", "type"};
    const qc_attr *const values[] = {
        qc_attr_word(ctx, "i8"), NULL, qc_attr_bool(ctx, true), qc_attr_word(ctx, "f8e4m3")};
    return qc_attr_map(ctx, keys, values, 4);
}

static void test_attributes(void)
{
    qc_ctx *ctx = new_ctx();
    const signed char bytes[3] = {1, -2, 3};
    const qc_attr *map = sample_map(ctx), *data = qc_attr_data(ctx, QC_I8, bytes, 3);
    const qc_attr *const items[2] = {qc_attr_int(ctx, 5), qc_attr_string(ctx, "a \"b\"")};
    const qc_attr *list = qc_attr_list(ctx, items, 2);
    /* Equal values of a context are one object. */
    CHECK(qc_attr_int(ctx, 5) == items[0] && qc_attr_int(ctx, 6) != items[0]);
    CHECK(qc_attr_float(ctx, 0.0) != qc_attr_float(ctx, -0.0) &&
          qc_attr_float(ctx, NAN) == qc_attr_float(ctx, NAN));
    CHECK(qc_attr_word(ctx, "x") != qc_attr_string(ctx, "x") &&
          qc_attr_symbol(ctx, "x") != qc_attr_word(ctx, "x"));
    CHECK(
        map == sample_map(ctx) && list == qc_attr_list(ctx, items, 2) && list != qc_attr_list(ctx, items, 1));
    CHECK(data == qc_attr_data(ctx, QC_I8, bytes, 3) && data != qc_attr_data(ctx, QC_U8, bytes, 3));
    CHECK(qc_attr_equal(map, sample_map(ctx)) && !qc_attr_equal(map, list) && !qc_attr_equal(map, NULL));
    /* Maps are sorted, absent fields left out, the last of equal keys counts. */
    CHECK_INT(qc_attr_count(map), 2);
    CHECK_STR(qc_attr_key(map, 0), "dynamic");
    CHECK_STR(qc_attr_as_text(qc_attr_find(map, "type")), "f8e4m3");
    CHECK(qc_attr_find(map, "absent") == NULL && qc_attr_find(list, "type") == NULL &&
          qc_attr_key(map, 2) == NULL);
    CHECK(
        qc_attr_item(list, 1) == items[1] && qc_attr_item(list, 2) == NULL && qc_attr_item(data, 0) == NULL);
    /* Reading as another kind gives the default. */
    CHECK_INT(qc_attr_as_int(items[1]), 0);
    CHECK_INT(qc_attr_as_int(NULL), 0);
    CHECK(qc_attr_as_float(items[0]) == 5.0 && qc_attr_as_float(items[1]) == 0.0);
    CHECK_STR(qc_attr_as_text(items[0]), "");
    CHECK(!qc_attr_as_bool(items[0]) && qc_attr_as_bool(qc_attr_bool(ctx, true)));
    CHECK_INT(qc_attr_data_dtype(data), QC_I8);
    CHECK_INT(qc_attr_data_dtype(list), QC_DTYPE_NONE);
    CHECK(memcmp(qc_attr_data_bytes(data), bytes, 3) == 0 && qc_attr_data_bytes(map) == NULL);
    CHECK_INT(qc_attr_count(data), 3);
    CHECK(qc_attr_problem(map) == NULL && qc_attr_problem(list) == NULL && qc_attr_problem(data) == NULL);
    qc_ctx_destroy(ctx);
}

/* ---- a module to work on ------------------------------------------------------------------------------- */

static const char base_text[] =
    "qc 1\n"
    "source \"here\" {\n"
    "  shard \"a.safetensors\" bytes 100 header "
    "\"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\"\n"
    "}\n"
    "dim B, P, S\n"
    "module \"\" Root\n"
    "module \"a\" Block\n"
    "module \"a.proj\" Linear {weight, bias}\n"
    "scheme @s {arith = ct_cpu, input = {granularity = tensor, type = f8e4m3}, targets "
    "= [\"Linear\"]}\n"
    "func @main(%x: bf16[B, S, 8]) -> bf16[B, S, 4], bf16[B, S, 8] {\n"
    "  at \"a\" {\n"
    "    %w = weight \"a.proj.weight\" : bf16[4, 8] at \".proj\"\n"
    "    %y = linear %x, %w : bf16[B, S, 4] at \".proj\"\n"
    "    %y.1 = add %y, %y : bf16[B, S, 4]\n"
    "  }\n"
    "  return %y.1, %x\n"
    "}\n";

static qc_module *base_module(qc_ctx *ctx)
{
    qc_module *module = qc_module_parse(ctx, "base", base_text, sizeof base_text - 1);
    if (!module)
        printf("# %s\n", heard.last);
    return module;
}

static bool prints_as(const qc_module *module, const char *expected)
{
    char *text = qc_module_print(module, NULL);
    bool same = strcmp(text, expected) == 0;
    if (!same)
        printf("# printed:\n# %s\n", text);
    qc_text_free(text);
    return same;
}

static qc_op *op_named(const qc_module *module, const char *name)
{
    qc_op *op = qc_func_first_op(qc_module_first_func(module));
    while (op && !qc_op_is(op, name))
        op = qc_op_next(op);
    return op;
}

/* ---- builder ------------------------------------------------------------------------------------------- */

typedef struct building {
    qc_ctx *ctx;
    qc_module *module;
    qc_func *func;
    qc_value *x;
    qc_builder *b;
} building;

static building begin_building(void)
{
    building s = {.ctx = dims_ctx()};
    const qc_dim *dims[2] = {S, qc_dim_int(s.ctx, 8)};
    s.module = qc_module_create(s.ctx);
    qc_module_declare_dim(s.module, "S");
    qc_module_declare_dim(s.module, "S");
    s.func = qc_module_add_func(s.module, "f");
    s.x = qc_func_add_argument(s.func, "x", qc_type_tensor(s.ctx, QC_F32, 2, dims));
    s.b = qc_builder_at_end(s.func);
    return s;
}

static void end_building(building *s)
{
    qc_module_destroy(s->module);
    qc_ctx_destroy(s->ctx);
}

static void test_builder(void)
{
    building s = begin_building();
    qc_value *a = qc_build_add(s.b, s.x, s.x, "a");
    qc_value *c = qc_build_cast(s.b, a, "bf16", "not a name");
    const float one = 1.0f;
    const qc_dim *dim = qc_dim_int(s.ctx, 1);
    qc_value *k = qc_build_const(
        s.b, qc_attr_data(s.ctx, QC_F32, &one, 1), qc_type_tensor(s.ctx, QC_F32, 1, &dim), "a");
    qc_value *both[2] = {a, s.x};
    qc_value *t = qc_build_concat(s.b, both, 2, -1, NULL);
    qc_make(s.b, "concat");
    qc_make_operand(s.b, "xs", t); /* a variadic operand by its name */
    qc_make_attr_int(s.b, "axis", 0);
    qc_value *u = qc_make_end(s.b, "u");
    qc_builder *before = qc_builder_before(qc_value_op(k));
    qc_value *n = qc_build_neg(before, c, NULL);
    qc_func_add_result(s.func, u);
    CHECK(qc_builder_ok(s.b) && qc_builder_ok(before) && qc_builder_last(before) == qc_value_op(n));
    CHECK_INT(qc_module_verify(s.module, NULL), QC_OK);
    CHECK_INT(heard.count, 0);
    CHECK(prints_as(s.module, "qc 1\n"
                              "dim S\n"
                              "func @f(%x: f32[S, 8]) -> f32[S, 16] {\n"
                              "  %a = add %x, %x : f32[S, 8]\n"
                              "  %0 = cast %a {to = bf16} : bf16[S, 8]\n"
                              "  %1 = neg %0 : bf16[S, 8]\n"
                              "  %a.1 = const [1.0] : f32[1]\n"
                              "  %2 = concat %a, %x {axis = -1} : f32[S, 16]\n"
                              "  %u = concat %2 {axis = 0} : f32[S, 16]\n"
                              "  return %u\n"
                              "}\n"));
    end_building(&s);
}

/* The builder infers; contradictions within an op are the verifier's. */
static void test_const_of_another_type(void)
{
    building s = begin_building();
    const signed char byte = 1;
    const qc_dim *dim = qc_dim_int(s.ctx, 1);
    qc_build_const(s.b, qc_attr_data(s.ctx, QC_I8, &byte, 1), qc_type_tensor(s.ctx, QC_F32, 1, &dim), NULL);
    CHECK(qc_builder_ok(s.b));
    CHECK_INT(qc_module_verify(s.module, NULL), QC_ERROR);
    CHECK(strstr(errors, "const: elements of i8 for the type f32[1]") != NULL);
    end_building(&s);
}

/* Each of these fails once, is said once, and everything after it is poison without further words. */
static void test_builder_failures(void)
{
    static const char *const words[] = {"building an op: there is no op named 'multiply'",
        "building add: no operand is named 'y'", "building add: missing operand 'z'",
        "building cast: missing attribute 'to'", "building cast: no attribute is named 'too'",
        "cast: attribute to: 'f31' is not an element type", "split_heads: attribute heads must be an integer",
        "observe: attribute granularity must be one of tensor|head|channel|expert, not token",
        "add: shapes f32[S, 8] and f32[1, 1, 3] do not broadcast", "building concat: missing operand 'xs'",
        "building add: it has no variadic operand; one too many is 'x'",
        "building add: its result type is inferred, not 'f32[S, 8]'",
        "building an op: nothing to end after 'the beginning'", "reshape: the result type must be written",
        "building neg: the op at the cursor was erased: 'abs'"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        building s = begin_building();
        const qc_dim *one = qc_dim_int(s.ctx, 1), *three[3] = {one, one, qc_dim_int(s.ctx, 3)};
        qc_value *wide = qc_func_add_argument(s.func, "wide", qc_type_tensor(s.ctx, QC_F32, 3, three));
        qc_op *erased;
        switch (i) {
        case 0:
            qc_make(s.b, "multiply");
            break;
        case 1:
            qc_make(s.b, "add");
            qc_make_operand(s.b, "y", s.x);
            break;
        case 2:
            qc_make(s.b, "add");
            qc_make_operand(s.b, "x", s.x);
            qc_make_operand(s.b, "z", NULL);
            break;
        case 3:
        case 4:
        case 5:
            qc_make(s.b, "cast");
            qc_make_operand(s.b, "x", s.x);
            if (i > 3)
                qc_make_attr_word(s.b, i == 4 ? "too" : "to", i == 4 ? "f32" : "f31");
            break;
        case 6:
            qc_make(s.b, "split_heads");
            qc_make_operand(s.b, "x", s.x);
            qc_make_attr_string(s.b, "heads", "8");
            break;
        case 7:
            qc_make(s.b, "observe");
            qc_make_operand(s.b, "x", s.x);
            qc_make_attr_word(s.b, "granularity", "token");
            break;
        case 8:
            qc_make(s.b, "add");
            qc_make_operand(s.b, "x", s.x);
            qc_make_operand(s.b, "z", wide);
            break;
        case 9:
            qc_make(s.b, "concat");
            qc_make_variadic(s.b, NULL);
            break;
        case 10:
            qc_make(s.b, "add");
            qc_make_variadic(s.b, s.x);
            break;
        case 11:
            qc_make(s.b, "add");
            qc_make_type(s.b, qc_value_type(s.x));
            break;
        case 12:
            break;
        case 13:
            qc_make(s.b, "reshape");
            qc_make_operand(s.b, "x", s.x);
            break;
        default:
            erased = qc_value_op(qc_build_abs(s.b, s.x, NULL));
            s.b = qc_builder_before(erased);
            qc_op_erase(erased);
            qc_make(s.b, "neg");
            qc_make_operand(s.b, "x", s.x);
        }
        qc_value *poison = qc_make_end(s.b, "p");
        CHECK(poison && qc_value_type(poison) == NULL && qc_value_op(poison) == NULL);
        CHECK(!qc_builder_ok(s.b));
        CHECK_INT(heard.count, 1);
        CHECK(said(&heard, words[i]) && said(&heard, "f: "));
        qc_value *more = qc_build_add(s.b, poison, s.x, NULL);
        CHECK(qc_value_type(more) == NULL);
        /* Poison in another builder: that one fails too, quietly. */
        qc_builder *other = qc_builder_at_end(s.func);
        qc_value *both[2] = {s.x, poison};
        qc_build_concat(other, both, 2, 0, NULL);
        CHECK(!qc_builder_ok(other));
        /* And one whose operand could not be made, which was said. */
        other = qc_builder_at_end(s.func);
        qc_builder_fail(other);
        CHECK(qc_value_type(qc_build_neg(other, NULL, NULL)) == NULL && !qc_builder_ok(other));
        CHECK_INT(heard.count, 1);
        CHECK(qc_func_first_op(s.func) == NULL);
        end_building(&s);
    }
}

/* ---- changing ------------------------------------------------------------------------------------------ */

static void test_uses(void)
{
    qc_ctx *ctx = new_ctx();
    qc_module *module = base_module(ctx);
    qc_func *func = qc_module_func(module, "main");
    qc_op *add = op_named(module, "add"), *linear = op_named(module, "linear");
    qc_value *y = qc_op_result(linear, 0), *x = qc_func_argument(func, 0);
    size_t slot = 9;
    CHECK_INT(qc_value_use_count(y), 2);
    CHECK(qc_value_use(y, 0, &slot) == add && slot < 2 && qc_value_use(y, 2, &slot) == NULL);
    qc_op_set_operand(add, 0, qc_op_result(linear, 0));
    CHECK_INT(qc_value_use_count(y), 2);
    qc_op_set_operand(add, 7, x); /* no such slot: nothing happens */
    CHECK_INT(qc_value_use_count(x), 1);
    /* Every use moves, results of the function too. */
    qc_builder *b = qc_builder_after(linear);
    qc_value *n = qc_build_neg(b, y, "n");
    qc_value_replace_all_uses(y, n);
    qc_op_set_operand(qc_value_op(n), 0, y);
    qc_value_replace_all_uses(qc_op_result(add, 0), n);
    CHECK(qc_func_result(func, 0) == n && qc_op_operand(add, 1) == n && qc_value_use_count(y) == 1);
    qc_value_replace_all_uses(n, n);
    CHECK_INT(qc_value_use_count(n), 2);
    CHECK_INT(qc_module_verify(module, NULL), QC_OK);
    qc_op_erase(add);
    CHECK_INT(qc_value_use_count(n), 0);
    CHECK(qc_func_last_op(func) == qc_value_op(n) && qc_op_next(add) == NULL);
    qc_op_erase(add); /* twice is harmless */
    CHECK_INT(qc_module_verify(module, NULL), QC_OK);
    qc_module_destroy(module);
    qc_ctx_destroy(ctx);
}

static void test_moving(void)
{
    qc_ctx *ctx = new_ctx();
    qc_module *module = base_module(ctx);
    qc_func *func = qc_module_first_func(module);
    qc_op *first = qc_func_first_op(func), *last = qc_func_last_op(func), *middle = qc_op_next(first);
    qc_op_move_before(last, first);
    CHECK(qc_func_first_op(func) == last && qc_op_next(last) == first && qc_func_last_op(func) == middle);
    CHECK_INT(qc_module_verify(module, "moving"), QC_ERROR);
    CHECK(said(&heard, "%y = add"));
    qc_op_move_before(last, NULL); /* to the end */
    CHECK(qc_func_last_op(func) == last && qc_op_prev(last) == middle && qc_func_first_op(func) == first);
    qc_op_move_before(last, last);
    CHECK(prints_as(module, base_text));
    qc_op_erase(last);
    qc_op_move_before(last, first); /* an op that is in no list comes back */
    CHECK(qc_func_first_op(func) == last && qc_op_prev(first) == last);
    qc_module_destroy(module);
    qc_ctx_destroy(ctx);
}

static void test_attributes_of_ops(void)
{
    qc_ctx *ctx = new_ctx();
    building s = begin_building();
    qc_op *op = qc_value_op(qc_build_attention_mask(s.b, s.x, true, 4, 0, NULL));
    CHECK(op != NULL);
    if (op) {
        CHECK_INT(qc_attr_as_int(qc_op_attr(op, "window")), 4);
        CHECK(qc_op_attr_given(op, "window") && qc_op_attr(op, "width") == NULL);
        CHECK(qc_op_set_attr(op, "window", qc_attr_int(s.ctx, 0))); /* the default is not kept */
        CHECK(!qc_op_attr_given(op, "window") && qc_op_attr(op, "window") != NULL);
        CHECK(!qc_op_set_attr(op, "width", qc_attr_int(s.ctx, 0)));
        CHECK(qc_op_set_attr(op, "causal", NULL) && !qc_attr_as_bool(qc_op_attr(op, "causal")));
        CHECK_INT(qc_op_attr_count(op), 3);
        CHECK_STR(qc_op_attr_name(op, 2), "window");
        CHECK(qc_op_attr_name(op, 3) == NULL && qc_op_operand_name(op, 1) == NULL);
        CHECK_STR(qc_op_operand_name(op, 0), "x");
        CHECK(!qc_op_set_operand_named(op, "q", s.x) && qc_op_set_operand_named(op, "x", s.x));
        CHECK(!qc_op_is_typed(op) && !qc_op_has_effect(op) && !qc_op_keeps_identity(op));
    }
    end_building(&s);
    qc_ctx_destroy(ctx);
}

static void test_clone(void)
{
    qc_ctx *ctx = new_ctx();
    qc_module *module = base_module(ctx), *copy = qc_module_clone(module);
    CHECK(prints_as(copy, base_text));
    CHECK_INT(qc_module_verify(copy, NULL), QC_OK);
    qc_op *add = op_named(copy, "add");
    CHECK(add != op_named(module, "add") && qc_op_func(add) == qc_module_first_func(copy));
    CHECK(qc_op_node(add) == qc_module_find_node(copy, "a") && qc_module_ctx(copy) == ctx);
    CHECK_INT(qc_value_use_count(qc_op_operand(add, 0)), 2);
    /* The two are independent. */
    qc_op_set_operand(add, 1, qc_op_operand(add, 0));
    qc_value_set_hint(qc_op_result(add, 0), "z");
    qc_symbol_set_fields(qc_module_find_symbol(copy, "s"), qc_attr_map(ctx, NULL, NULL, 0));
    qc_module_add_node(copy, "b", "Late");
    CHECK(prints_as(module, base_text));
    uint64_t bytes;
    const char *hash;
    CHECK_STR(qc_module_shard(copy, 0, &bytes, &hash), "a.safetensors");
    CHECK(
        qc_module_shard(copy, 1, &bytes, &hash) == NULL && qc_module_shard_count(copy) == 1 && bytes == 100);
    qc_module_destroy(module);
    CHECK_STR(qc_module_source(copy), "here"); /* outlives the original */
    qc_module_destroy(copy);
    /* A module that is broken can still be copied; the copy lacks what was not in the function. */
    module = base_module(ctx);
    qc_op_erase(op_named(module, "linear"));
    copy = qc_module_clone(module);
    CHECK(qc_op_operand(op_named(copy, "add"), 0) == NULL);
    CHECK_INT(qc_module_verify(copy, NULL), QC_ERROR);
    qc_module_destroy(copy);
    qc_module_destroy(module);
    qc_ctx_destroy(ctx);
}

static void test_tree(void)
{
    qc_ctx *ctx = new_ctx();
    qc_module *module = qc_module_create(ctx);
    qc_node *root = qc_module_add_node(module, "", "Root"), *ab = qc_module_add_node(module, "a.b", "B"),
            *abc = qc_module_add_node(module, "a.b.c", "C");
    CHECK(qc_module_add_node(module, "a.b", "Other") == ab);
    CHECK_STR(qc_node_class(ab), "B");
    CHECK(qc_node_parent(root) == NULL && qc_node_parent(ab) == root && qc_node_parent(abc) == ab);
    CHECK(qc_node_next(root) == ab && qc_module_first_node(module) == root && qc_node_next(abc) == NULL);
    qc_node_add_tensor(ab, "weight");
    CHECK_INT(qc_node_tensor_count(ab), 1);
    CHECK(qc_node_tensor(ab, 1) == NULL && qc_module_find_node(module, "a") == NULL);
    CHECK_INT(qc_module_verify(module, NULL), QC_OK);
    qc_module_add_node(module, "a", "A"); /* too late: a.b is inside of it */
    CHECK_INT(qc_module_verify(module, NULL), QC_ERROR);
    CHECK(said(&heard, "<IR>: the module \"a.b\" stands before one that it is inside of"));
    CHECK(qc_module_add_symbol(module, "scheme", "s", qc_attr_map(ctx, NULL, NULL, 0)) != NULL);
    CHECK(qc_module_add_symbol(module, "scheme", "s", qc_attr_map(ctx, NULL, NULL, 0)) == NULL);
    CHECK(qc_module_find_symbol(module, "t") == NULL);
    qc_module_destroy(module);
    qc_ctx_destroy(ctx);
}

/* ---- targets ------------------------------------------------------------------------------------------- */

static void test_targets(void)
{
    static const struct {
        const char *target;
        bool matches; /* model.layers.10.self_attn.q_proj of class Linear, as Python's re.match says */
    } rows[] = {{"Linear", true}, {"linear", false}, {"model.layers.10.self_attn.q_proj", true},
        {"model.layers.10.self_attn", false}, {"q_proj", false}, {"re:model", true}, {"re:layers", false},
        {"re:.*layers", true}, {"re:.*q_proj", true}, {"re:.*q_proj$", true}, {"re:.*q$", false},
        {"re:^model", true}, {"re:odel", false}, {"re:.*\\.(q|k|v)_proj", true},
        {"re:.*\\.(k|v)_proj", false}, {"re:model\\.layers\\.1\\.", false},
        {"re:model\\.layers\\.\\d+\\.self_attn", true}, {"re:", true}, {"re:.*lm_head", false},
        {"re:model\\.layers\\.[0-9]{,2}\\.", true}, {"re:model\\.layers\\.[0-9]{,1}\\.", false},
        {"re:.*[]{,2}]", false}, {"re:.*\\{,2}", false}, {"re:Linear", false},
        {"re:(?!model\\.layers\\.1\\.)", true}, {"re:(?P<head>model)\\.", true}, {"re:MODEL", false},
        {"re:(?i)MODEL", true}, {"re:(", false}};
    qc_ctx *ctx = new_ctx();
    qc_module *module = qc_module_create(ctx);
    qc_node *node = qc_module_add_node(module, "model.layers.10.self_attn.q_proj", "Linear");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (qc_node_matches(node, rows[i].target) != rows[i].matches)
            CHECK_FAIL("'%s' matches: %d", rows[i].target, !rows[i].matches);
    CHECK_INT(heard.count, 0);
    CHECK_INT(qc_target_check(ctx, "re:.*q_proj"), QC_OK);
    CHECK_INT(qc_target_check(ctx, "anything ("), QC_OK); /* a name */
    CHECK_INT(qc_target_check(ctx, "re:a("), QC_ERROR);
    CHECK(said(&heard, "re:a(: bad pattern at offset 2: missing closing parenthesis"));
    /* What cannot be decided is said, not taken for a no. */
    qc_node *odd = qc_module_add_node(module, "\xff\xfe", "Odd");
    heard.count = 0;
    CHECK(!qc_node_matches(odd, "re:.*") && heard.count == 1 && said(&heard, "re:.*: matching"));
    qc_module_destroy(module);
    qc_ctx_destroy(ctx);
}

/* ---- verifier ------------------------------------------------------------------------------------------ */

/* Breaks the base module in one way each; the message that must come. */
static const char *break_module(int way, qc_ctx *ctx, qc_module *m, qc_module *other)
{
    qc_func *func = qc_module_first_func(m);
    qc_op *add = op_named(m, "add"), *linear = op_named(m, "linear"), *weight = op_named(m, "weight");
    const qc_dim *dim = qc_dim_symbol(ctx, "Q"), *eight = qc_dim_int(ctx, 8);
    const qc_attr *bad_word = qc_attr_word(ctx, "two words"), *symbol = qc_attr_symbol(ctx, "a b");
    const char *const key[] = {"k"};
    switch (way) {
    case 0:
        qc_op_set_operand(add, 1, NULL);
        return "<IR after test>:14:5: add: operand z is missing";
    case 1:
        qc_op_erase(linear);
        return "add: operand x was erased";
    case 2:
        qc_op_set_operand(linear, 0, qc_op_result(add, 0));
        return "<IR after test>:13:5: linear: operand x is used before it is defined";
    case 3:
        qc_op_set_operand(add, 0, qc_func_argument(qc_module_first_func(other), 0));
        return "add: operand x belongs to another function";
    case 4:
        add->results[0].type = qc_func_argument(func, 0)->type;
        return "add: result type is bf16[B, S, 8], its operands give bf16[B, S, 4]";
    case 5:
        add->results[0].type = NULL;
        return "add: its result has no type";
    case 6:
        weight->attrs[1] = NULL;
        return "<IR after test>:12:5: weight: attribute tensor is missing";
    case 7:
        weight->attrs[1] = qc_attr_int(ctx, 1);
        return "weight: attribute tensor must be a string";
    case 8:
        weight->results[0].type = qc_type_tensor(ctx, QC_BF16, 1, &dim);
        return "weight: the shape bf16[Q] must be static";
    case 9:
        add->node = qc_module_find_node(other, "a");
        return "add: its module-tree node belongs to another module";
    case 10:
        func->arguments.items[0]->type = qc_type_tensor(ctx, QC_BF16, 1, &dim);
        return "<IR after test>:10:1: dimension 'Q' uses a symbol that no dim line declares";
    case 11:
        func->results.items[1] = NULL;
        return "result 1 of @main is not a value of the function";
    case 12:
        func->results.items[0] = qc_func_argument(qc_module_first_func(other), 0);
        return "result 0 of @main is not a value of the function";
    case 13:
        add->operand_count = 1;
        return "add: 1 operands instead of 2";
    case 14:
        qc_module_add_func(m, "main");
        return "<IR after test>:18:1: a second function @main";
    case 15:
        qc_module_add_func(m, "two words");
        return "the function name 'two words' is no identifier";
    case 16:
        qc_module_add_symbol(m, "wish", "r", qc_attr_map(ctx, NULL, NULL, 0));
        return "<IR after test>: symbol @r is of the unknown kind 'wish'";
    case 17:
        qc_module_add_symbol(m, "scheme", "r 1", qc_attr_map(ctx, NULL, NULL, 0));
        return "the symbol name 'r 1' is no identifier";
    case 18:
        qc_module_add_symbol(m, "scheme", "r", qc_attr_int(ctx, 1));
        return "symbol @r: its fields are no map";
    case 19:
        qc_module_add_symbol(m, "scheme", "r", qc_attr_map(ctx, key, &bad_word, 1));
        return "symbol @r: field k holds a word that is no identifier";
    case 20:
        qc_module_add_symbol(m, "scheme", "r", qc_attr_map(ctx, key, &symbol, 1));
        return "symbol @r: field k holds a symbol name that is no identifier";
    case 21:
        qc_module_declare_dim(m, "P + S");
        return "the dimension name 'P + S' is no identifier";
    case 22:
        m->source = NULL;
        return "shards without a source";
    case 23:
        func->arguments.items[0]->type = NULL;
        return "argument 0 of @main has no type";
    case 24:
        add->results[0].type = qc_type_tensor(ctx, QC_I64, 1, &eight);
        func->results.items[0] = qc_op_result(linear, 0);
        return "add: result type is i64[8], its operands give bf16[B, S, 4]";
    case 25:
        linear->operands[0].value->type = qc_type_tensor(ctx, QC_I64, 1, &eight);
        return "linear: operand x must be of a float type, not i64";
    default:
        return NULL;
    }
}

static void test_verifier(void)
{
    const char *expected;
    for (int way = 0;; way++) {
        qc_ctx *ctx = new_ctx();
        qc_module *module = base_module(ctx), *other = base_module(ctx);
        CHECK_INT(qc_module_verify(module, "test"), QC_OK);
        expected = break_module(way, ctx, module, other);
        if (expected) {
            CHECK_INT(qc_module_verify(module, "test"), QC_ERROR);
            CHECK(qc_ctx_error_count(ctx) >= 1);
            if (!strstr(errors, expected))
                CHECK_FAIL("said '%s', expected '%s'", errors, expected);
        }
        qc_module_destroy(module);
        qc_module_destroy(other);
        qc_ctx_destroy(ctx);
        if (!expected)
            break;
    }
}

/* Values that the text cannot say, held in attributes. */
static void test_unprintable_attributes(void)
{
    qc_ctx *ctx = new_ctx();
    const qc_attr *nested = qc_attr_int(ctx, 1), *missing = NULL;
    for (int i = 0; i < QC_MAX_ATTR_DEPTH; i++)
        nested = qc_attr_list(ctx, &nested, 1);
    CHECK(qc_attr_problem(nested) == NULL);
    nested = qc_attr_list(ctx, &nested, 1);
    CHECK_STR(qc_attr_problem(nested), "values nested too deep");
    CHECK_STR(qc_attr_problem(qc_attr_word(ctx, "true")), "a word that reads as another value");
    CHECK_STR(qc_attr_problem(qc_attr_word(ctx, "nan")), "a word that reads as another value");
    CHECK_STR(qc_attr_problem(qc_attr_word(ctx, "")), "a word that is no identifier");
    CHECK_STR(qc_attr_problem(qc_attr_list(ctx, &missing, 1)), "a missing value in a list");
    const qc_attr *data = qc_attr_data(ctx, QC_I8, "a", 1);
    CHECK_STR(qc_attr_problem(qc_attr_list(ctx, &data, 1)), "data inside a list or map");
    qc_ctx_destroy(ctx);
}

/* ---- contexts ------------------------------------------------------------------------------------------ */

static void *work(void *result)
{
    messages own = {0};
    bool good = true;
    for (int i = 0; i < 200 && good; i++) {
        qc_ctx *ctx = qc_ctx_create(NULL, keep_message, &own);
        qc_module *module = qc_module_parse(ctx, "base", base_text, sizeof base_text - 1);
        good = module && qc_module_verify(module, NULL) == QC_OK && prints_as(module, base_text) &&
               qc_node_matches(qc_module_find_node(module, "a.proj"), "re:a\\..*");
        qc_module_destroy(module);
        good = good && !qc_module_parse(ctx, "bad", "qc 2", 4) && own.count == i + 1;
        qc_ctx_destroy(ctx);
    }
    *(bool *)result = good;
    return NULL;
}

static void test_two_contexts_in_two_threads(void)
{
    pthread_t threads[2];
    bool good[2] = {false, false};
    for (int i = 0; i < 2; i++)
        CHECK_INT(pthread_create(&threads[i], NULL, work, &good[i]), 0);
    for (int i = 0; i < 2; i++)
        CHECK_INT(pthread_join(threads[i], NULL), 0);
    CHECK(good[0] && good[1]);
}

/* What a context keeps of a text is its strings, types and values: reading it again adds nothing. */
static void test_context_does_not_grow(void)
{
    qc_ctx *ctx = new_ctx();
    size_t arena = 0, scratch = 0;
    for (int i = 0; i < 3000; i++) {
        qc_module *module = base_module(ctx), *copy = qc_module_clone(module);
        qc_module_verify(copy, NULL);
        qc_op_erase(op_named(copy, "linear"));
        CHECK_INT(qc_module_verify(copy, NULL), QC_ERROR);
        qc_module_destroy(copy);
        qc_module_destroy(module);
        CHECK(qc_module_parse(ctx, "bad", base_text, sizeof base_text - 4) == NULL);
        if (i == 10) {
            arena = ctx->arena.total_bytes;
            scratch = ctx->scratch.total_bytes;
        }
    }
    CHECK_INT(ctx->arena.total_bytes, arena);
    CHECK_INT(ctx->scratch.total_bytes, scratch);
    qc_ctx_destroy(ctx);
}

int main(void)
{
    RUN(test_dims_are_canonical);
    RUN(test_floordiv);
    RUN(test_floordiv_keeps_its_value);
    RUN(test_dims_overflow);
    RUN(test_types);
    RUN(test_attributes);
    RUN(test_builder);
    RUN(test_const_of_another_type);
    RUN(test_builder_failures);
    RUN(test_uses);
    RUN(test_moving);
    RUN(test_attributes_of_ops);
    RUN(test_clone);
    RUN(test_tree);
    RUN(test_targets);
    RUN(test_verifier);
    RUN(test_unprintable_attributes);
    RUN(test_two_contexts_in_two_threads);
    RUN(test_context_does_not_grow);
    return check_done();
}
