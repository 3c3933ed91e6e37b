/* SPDX-License-Identifier: MIT
 *
 * fuzz_ir.c - any bytes as IR text. What is refused is refused in exactly one error. What is taken prints as
 * text that reads back and prints the same, verified or not, and so does its clone; verifying changes nothing.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
