/* SPDX-License-Identifier: MIT
 *
 * fuzz_ir.c - any bytes as IR text. What is refused is refused in exactly one error. What is taken prints as
 * text that reads back and prints the same, verified or not, and so does its clone; verifying changes nothing. Of what is
 * valid, the expression of one expert is valid, too, or refused.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ir/experts.h"
#include "qc/ir.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(bool condition, const char *what)
{
    if (condition)
        return;
    fprintf(stderr, "fuzz_ir: %s\n", what);
    abort();
}

static void keep(void *user, qc_severity severity, const char *where, const char *what)
{
    (void)severity;
    snprintf(user, 512, "%s: %s", where, what);
}

static void demand_same(const qc_module *module, const char *text, size_t length, const char *what)
{
    size_t again_length;
    char *again = qc_module_print(module, &again_length);
    demand(length == again_length && memcmp(text, again, length) == 0, what);
    qc_text_free(again);
}

/* Takes the first and the last expert of every value that may be a bank. */
static void check_experts(qc_ctx *ctx, qc_module *module)
{
    enum { MOST = 64 };
    int taken = 0;
    for (qc_func *f = qc_module_first_func(module); f; f = qc_func_next(f))
        for (qc_op *op = qc_func_first_op(f); op && taken < MOST; op = qc_op_next(op), taken++) {
            const qc_value *bank = qc_op_result_count(op) ? qc_op_result(op, 0) : NULL;
            int64_t experts = qc_bank_experts(bank);
            for (int64_t e = 0; e<experts; e += experts> 1 ? experts - 1 : 1) {
                size_t errors = qc_ctx_error_count(ctx);
                qc_arena arena;
                qc_expert_copy copy;
                qc_arena_init(&arena, NULL);
                qc_module *scratch = qc_experts_scratch(module);
                qc_func *func = qc_module_add_func(scratch, "expert");
                qc_expert_copy_init(&copy, &arena, qc_builder_at_end(func), experts, e);
                qc_value *value = qc_expert_copy_value(&copy, bank);
                demand((value == NULL) == (qc_ctx_error_count(ctx) > errors),
                    "an expert was refused without an error, or the reverse");
                if (value) {
                    qc_func_add_result(func, value);
                    /* nodes are those of the module that was read */
                    demand(qc_module_first_node(module) || qc_module_verify(scratch, NULL) == QC_OK,
                        "the expression of an expert is not valid");
                }
                qc_module_destroy(scratch);
                qc_arena_fini(&arena);
            }
        }
}

static void check_module(qc_ctx *ctx, qc_module *module, const char *said)
{
    size_t length, errors = qc_ctx_error_count(ctx);
    char *text = qc_module_print(module, &length);
    qc_module *again = qc_module_parse(ctx, "output", text, length), *clone = qc_module_clone(module);
    if (!again)
        fprintf(stderr, "%s\n%s", said, text);
    demand(again != NULL, "what was printed does not parse");
    demand_same(again, text, length, "what was printed prints otherwise when read back");
    demand_same(clone, text, length, "the clone prints otherwise");
    bool good = qc_module_verify(module, NULL) == QC_OK;
    demand(
        good == (qc_ctx_error_count(ctx) == errors), "the verifier fails without an error, or the reverse");
    demand(good == (qc_module_verify(clone, NULL) == QC_OK), "the clone verifies otherwise");
    demand_same(module, text, length, "verifying changed the module");
    if (good)
        check_experts(ctx, module);
    qc_module_destroy(clone);
    qc_module_destroy(again);
    qc_text_free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char said[512] = "";
    qc_ctx *ctx = qc_ctx_create(NULL, keep, said);
    char *copy = malloc(size ? size : 1); /* of exactly this size, so that reading past it is seen */
    demand(copy != NULL, "out of memory");
    if (size)
        memcpy(copy, data, size);
    qc_module *module = qc_module_parse(ctx, "input", copy, size);
    free(copy); /* and that nothing of the text is kept */
    demand(qc_ctx_error_count(ctx) == (module ? 0 : 1), "one error for each refusal");
    if (module)
        check_module(ctx, module, said);
    qc_module_destroy(module);
    qc_ctx_destroy(ctx);
    return 0;
}
