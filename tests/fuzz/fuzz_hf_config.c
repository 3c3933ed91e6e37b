/* SPDX-License-Identifier: MIT
 *
 * fuzz_hf_config.c - any bytes as the config.json of a checkpoint. What is taken must be within the bounds
 * that the rest of the importer computes with; what is refused must be said.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "frontends/hf/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(bool condition, const char *what)
{
    if (condition)
        return;
    fprintf(stderr, "fuzz_hf_config: %s\n", what);
    abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    qc_arena arena;
    qc_arena_init(&arena, NULL);
    qc_diag diag;
    qc_diag_init(&diag, &arena, NULL, NULL);
    qc_hf_config c;
    qc_status status = qc_hf_config_parse(&diag, &arena, "input", (const char *)data, size, &c);
    demand((status == QC_OK) == (diag.error_count == 0), "an error for each refusal");
    if (status == QC_OK) {
        const int64_t sizes[] = {
            c.vocabulary, c.hidden, c.intermediate, c.layers, c.heads, c.kv_heads, c.head_dim};
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
            demand(sizes[i] > 0 && sizes[i] <= INT32_MAX, "sizes within 31 bits");
        demand(c.heads % c.kv_heads == 0 && c.head_dim % 2 == 0, "heads that fit each other");
        demand(c.norm_eps >= 0 && c.rope.theta > 0 && isfinite(c.rope.theta), "norm and rotary parameters");
        demand(c.rope.type != QC_HF_ROPE_YARN ||
                   (c.rope.attention_factor > 0 && isfinite(c.rope.attention_factor)),
            "an attention factor for yarn");
        for (int64_t i = 0; i < c.layers; i++)
            demand(c.windows[i] >= 0 && c.windows[i] <= INT32_MAX, "windows within 31 bits");
    }
    qc_arena_fini(&arena);
    return 0;
}
