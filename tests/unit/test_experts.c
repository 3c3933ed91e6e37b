/* SPDX-License-Identifier: MIT
 *
 * test_experts.c - one expert of a bank: for random expressions of every kind, the expression of expert e computes what
 * is slice e of the bank, bit for bit; and what cannot be taken apart.
 */
#include "ir/experts.h"

#include "backends/reference/reference.h"
#include "ir/ctx.h"
#include "tests/unit/check.h"
#include "tests/unit/messages.h"

#include "tests/unit/bank_expressions.h"

/* The value for expert e as the only result of a function in a scratch module; NULL after a failed check. */
static const qc_value *instance_of(
    qc_arena *arena, qc_module *scratch, const qc_value *bank, int64_t experts, int64_t expert)
{
    qc_func *func = qc_module_add_func(scratch, qc_arena_printf(arena, "expert_%lld", (long long)expert));
    qc_expert_copy copy;
    qc_expert_copy_init(&copy, arena, qc_builder_at_end(func), experts, expert);
    qc_value *value = qc_expert_copy_value(&copy, bank);
    if (value)
        qc_func_add_result(func, value);
    return value;
}

/* Is `part` what is stored at element `first` of `bank`? */
static bool is_slice(const qc_tensor *bank, int64_t first, const qc_tensor *part)
{
    bool same = part->dtype == bank->dtype && first + part->count <= bank->count;
    for (int64_t i = 0; same && i < part->count; i++) {
        uint64_t a = 0, b = 0;
        int bits = qc_dtype_bits(bank->dtype);
        if (bits < 8) {
            a = qc_code_get(bank->data, bits, (size_t)(first + i));
            b = qc_code_get(part->data, bits, (size_t)i);
        } else {
            memcpy(&a, (const char *)bank->data + qc_tensor_bytes(bank->dtype, first + i), (size_t)bits / 8);
            memcpy(&b, (const char *)part->data + qc_tensor_bytes(bank->dtype, i), (size_t)bits / 8);
        }
        same = a == b;
    }
    return same;
}

static int compare_experts(bank_expression *b, qc_module *module, messages *m)
{
    qc_module *scratch = qc_experts_scratch(module);
    const qc_value *bank = qc_func_result(qc_module_func(module, "main"), 0);
    qc_reference_options options = {.user = b, .weight = bank_weight};
    qc_reference *reference = qc_reference_create(module, &options);
    qc_reference *parts = qc_reference_create(scratch, &options);
    qc_tensor all = {0};
    int compared = 0;

    CHECK_INT(qc_bank_experts(bank), b->experts);
    bool evaluated = qc_reference_evaluate(reference, bank, &all) == QC_OK;
    if (!evaluated)
        CHECK_FAIL("the bank: %s", m->last);
    for (int64_t e = 0; evaluated && e < b->experts; e++) {
        const qc_value *value = instance_of(&b->arena, scratch, bank, b->experts, e);
        qc_tensor part = {0};
        if (!value || qc_module_verify(scratch, NULL) != QC_OK ||
            qc_reference_evaluate(parts, value, &part) != QC_OK) {
            CHECK_FAIL("expert %lld: %s", (long long)e, m->last);
            break;
        }
        CHECK_INT(part.count, all.count / b->experts);
        if (!is_slice(&all, e * part.count, &part))
            CHECK_FAIL("expert %lld of %s is not its part of the bank", (long long)e,
                qc_tensor_text(&b->arena, &all));
        compared++;
        qc_tensor_free(&part);
    }
    qc_tensor_free(&all);
    qc_reference_destroy(parts);
    qc_reference_destroy(reference);
    qc_module_destroy(scratch);
    return compared;
}

static void test_slices(void)
{
    enum { EXPRESSIONS = 600 };
    int compared = 0;
    for (uint64_t seed = 0; seed < EXPRESSIONS && check_case_failures < 3; seed++) {
        bank_expression b;
        messages m = {0};
        int failures = check_case_failures;
        qc_ctx *ctx = qc_ctx_create(NULL, keep_message, &m);
        bank_begin(&b, seed);
        bank_source(&b);
        const char *text = bank_text(&b);
        qc_module *module = qc_module_parse(ctx, "bank", text, strlen(text));
        if (!module || qc_module_verify(module, NULL) != QC_OK)
            CHECK_FAIL("seed %d: %s", (int)seed, m.last);
        else
            compared += compare_experts(&b, module, &m);
        if (check_case_failures > failures)
            printf("# ... of seed %d:\n# %s\n", (int)seed, strstr(text, "func"));
        if (module)
            qc_module_destroy(module);
        qc_ctx_destroy(ctx);
        bank_end(&b);
    }
    CHECK(compared > 2 * EXPRESSIONS);
}

/* A scale out of statistics, a bias, a constant bank: what an expert of each is. */
static void test_parameters(void)
{
    static const char text[] = "qc 1\nmodule \"\" Root\n"
                               "scheme @s {arith = ct_cpu, input = {granularity = tensor, symmetric, type = "
                               "f8e4m3}, targets = [\"Linear\"]}\n"
                               "func @main() -> f32[3, 1, 1], bf16[3, 2], bf16[3, 1, 1] {\n"
                               "  %a = const [0.5, 0.25, 2.0] : f32[3, 1, 1]\n"
                               "  %b = const [1.0, 2.0, 3.0, 4.0, 5.0, 6.0] : bf16[3, 2]\n"
                               "  %m = const [-1.0, -448.0, 0.0, 0.5, 7.0, 896.0] : bf16[2, 3]\n"
                               "  %s = qparams %m {arg = input, experts = 3, from = stat, scheme = @s}\n"
                               "  return %a, %b, %s\n}\n";
    static const float expected[3][3][2] = {
        {{0.5f}, {1, 2}, {0.0022277832f}}, {{0.25f}, {3, 4}, {1.0f}}, {{2.0f}, {5, 6}, {2.0f}}};
    messages m = {0};
    qc_arena arena;
    qc_ctx *ctx = qc_ctx_create(NULL, keep_message, &m);
    qc_module *module = qc_module_parse(ctx, "parameters", text, strlen(text));
    CHECK(module != NULL);
    qc_arena_init(&arena, NULL);
    for (int64_t e = 0; module && e < 3; e++)
        for (size_t i = 0; i < 3; i++) {
            qc_module *scratch = qc_experts_scratch(module);
            qc_reference *reference = qc_reference_create(scratch, NULL);
            const qc_value *value =
                instance_of(&arena, scratch, qc_func_result(qc_module_func(module, "main"), i), 3, e);
            qc_tensor part = {0};
            if (!value || qc_reference_evaluate(reference, value, &part) != QC_OK)
                CHECK_FAIL("expert %lld of parameter %zu: %s", (long long)e, i, m.last);
            CHECK_INT(part.rank, 1);
            CHECK_INT(part.count, i == 1 ? 2 : 1);
            for (int64_t k = 0; k < part.count; k++) {
                float number;
                qc_tensor_read(&part, k, 1, &number);
                CHECK_NEAR(number, expected[e][i][k], 1e-5 * fabs((double)number));
            }
            qc_tensor_free(&part);
            qc_reference_destroy(reference);
            qc_module_destroy(scratch);
        }
    qc_arena_fini(&arena);
    qc_module_destroy(module);
    qc_ctx_destroy(ctx);
}

/* Each expression, and what is said when an expert of it is asked for. */
static void test_refusals(void)
{
    static const char *const cases[][3] = {
        {"bf16[2, 4, 3]", "  %w = weight \"w\" : bf16[4, 2, 3]\n  %y = transpose %w {perm = [1, 0, 2]}\n",
            "the experts of a bank must stay its first dimension"},
        {"bf16[2, 4, 3]",
            "  %w = weight \"w\" : bf16[5, 4, 3]\n  %y = slice %w {axis = 0, start = 0, stop = 2}\n",
            "a bank cannot be cut or joined along its experts"},
        {"bf16[2, 4, 3]",
            "  %w = weight \"w\" : bf16[5, 4, 3]\n  %y = slice %w {axis = -3, start = 0, stop = 2}\n",
            "a bank cannot be cut or joined along its experts"},
        {"bf16[2, 4, 3]", "  %y = weight \"w\" {index = 1} : bf16[2, 4, 3]\n",
            "a part of a tensor is no bank"},
        {"i4[2, 3]", "  %y = const [1, 2, 3, 4, 5, 6] : i4[2, 3]\n", "cannot be taken apart"},
        {"bf16[2, 4]",
            "  %r = const [0, 0, 0, 0, 0, 0] : i32[3, 2]\n  %w = weight \"w\" : bf16[1, 1, 4]\n"
            "  %y = expert_gather %w, %r\n",
            "is no part of what one expert computes"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        messages m = {0};
        qc_arena arena;
        qc_arena_init(&arena, NULL);
        qc_ctx *ctx = qc_ctx_create(NULL, keep_message, &m);
        const char *text = qc_arena_printf(&arena,
            "qc 1\nmodule \"\" Root\nfunc @main() -> %s {\n%s  return %%y\n}\n", cases[i][0], cases[i][1]);
        qc_module *module = qc_module_parse(ctx, "refused", text, strlen(text));
        if (!module) {
            CHECK_FAIL("case %d: %s", (int)i, m.last);
        } else {
            qc_module *scratch = qc_experts_scratch(module);
            CHECK(!instance_of(&arena, scratch, qc_func_result(qc_module_func(module, "main"), 0), 2, 1));
            CHECK(said(&m, cases[i][2]));
            qc_module_destroy(scratch);
            qc_module_destroy(module);
        }
        qc_arena_fini(&arena);
        qc_ctx_destroy(ctx);
    }
}

/* What only the data can break: each body, the type of its %y, and what is said. */
static void test_bad_data(void)
{
#define ROWS "  %r = const [0, 1, 0, 1, 0, 1] : i32[3, 2]\n"
    static const char *const cases[][3] = {
        {"f32[1, 1]",
            "  %x = const [1.0, 2.0] : f32[1, 2]\n  %i = const [2] : i32[1, 1]\n  %y = take %x, %i\n",
            "id 2 is not one of 2"},
        {"f32[1, 2]",
            "  %x = const [1.0, 2.0] : f32[1, 2]\n  %i = const [-1] : i32[1, 1]\n"
            "  %y = mask_groups %x, %i {groups = 2}\n",
            "id -1 is not one of 2"},
        {"i32[3, 2]", "  %i = const [0, 4] : i32[1, 1, 2]\n  %y = expert_rows %i {experts = 4}\n",
            "id 4 is not one of 4"},
        {"i32[3, 4]", "  %i = const [0, 1, 2, 2] : i32[1, 2, 2]\n  %y = expert_rows %i {experts = 4}\n",
            "token 1 names expert 2 twice"},
        {"i32[3, 8]", "  %i = const [0, 1, 2, 2] : i32[1, 2, 2]\n  %y = expert_rows %i {all, experts = 4}\n",
            "token 1 names expert 2 twice"},
        {"f32[2, 1]", ROWS "  %x = const [1.0] : f32[1, 1, 1]\n  %y = expert_gather %x, %r\n",
            "row 1 is of token 1, outside the 1 that there are"},
        {"f32[2, 1]", ROWS "  %x = const [1.0, 2.0] : f32[1, 2, 1]\n  %y = expert_score %x, %r\n",
            "row 1 is of slot 1, outside the 1 that there are"},
        {"f32[2, 1]", ROWS "  %x = const [1.0] : f32[1, 1]\n  %y = expert_param %x, %r\n",
            "row 1 is of expert 1, outside the 1 that there are"},
        {"f32[2, 1]",
            ROWS "  %x = const [1.0, 1.0] : f32[2, 1]\n  %w = const [1.0] : f32[1, 1, 1]\n"
                 "  %y = expert_linear %x, %w, %r\n",
            "row 1 is of expert 1, outside the 1 that there are"},
        {"f32[1, 1, 1]",
            ROWS "  %x = const [1.0, 1.0] : f32[2, 1]\n  %i = const [0, 1] : i32[1, 1, 2]\n"
                 "  %y = expert_combine %x, %r, %i\n",
            "row 1 is of token 1, outside the 1 that there are"},
        {"f32[2, 4]",
            ROWS "  %x = const [1.0, 2.0] : f32[2, 1]\n"
                 "  %y = observe %x, rows=%r {experts = 4, granularity = expert, tap = \"{e}\"}\n",
            "2 of 4 experts saw fewer than 1 tokens: 2, 3"},
        {"f32[2, 4]",
            ROWS
            "  %x = const [1.0, 2.0] : f32[2, 1]\n  %y = observe %x, rows=%r {experts = 4, fallback = layer, "
            "granularity = expert, min_tokens = 2, tap = \"{e}\"}\n",
            "no expert saw 2 tokens"},
    };
#undef ROWS
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        messages m = {0};
        qc_arena arena;
        qc_tensor result = {0};
        qc_arena_init(&arena, NULL);
        qc_ctx *ctx = qc_ctx_create(NULL, keep_message, &m);
        const char *text = qc_arena_printf(
            &arena, "qc 1\nfunc @main() -> %s {\n%s  return %%y\n}\n", cases[i][0], cases[i][1]);
        qc_module *module = qc_module_parse(ctx, "bad", text, strlen(text));
        if (!module) {
            CHECK_FAIL("case %d: %s", (int)i, m.last);
        } else {
            qc_reference *reference = qc_reference_create(module, NULL);
            CHECK_INT(
                qc_reference_run(reference, qc_module_func(module, "main"), NULL, 0, &result), QC_ERROR);
            CHECK(said(&m, cases[i][2]));
            qc_tensor_free(&result);
            qc_reference_destroy(reference);
            qc_module_destroy(module);
        }
        qc_arena_fini(&arena);
        qc_ctx_destroy(ctx);
    }
}

static void test_names(void)
{
    qc_arena arena;
    qc_arena_init(&arena, NULL);
    CHECK(qc_expert_name_is_valid("a.{e}.w"));
    CHECK(!qc_expert_name_is_valid("a.w"));
    CHECK(!qc_expert_name_is_valid("{e}.{e}"));
    CHECK_STR(qc_expert_name(&arena, "a.{e}.w", 12), "a.12.w");
    CHECK_STR(qc_expert_name(&arena, "{e}", 0), "0");
    CHECK_STR(qc_expert_name(&arena, "a.w", 3), "a.w");
    qc_arena_fini(&arena);
}

int main(void)
{
    RUN(test_slices);
    RUN(test_parameters);
    RUN(test_refusals);
    RUN(test_bad_data);
    RUN(test_names);
    return check_done();
}
