/* SPDX-License-Identifier: MIT
 *
 * fuzz_json.c - any bytes through the JSON reader. What it takes must come out of the writer as JSON that
 * reads back and writes the same again; what it refuses must be said in exactly one error.
 */
#include <stdio.h>
#include <stdlib.h>

#include "ir/support/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(bool condition, const char *what)
{
    if (condition)
        return;
    fprintf(stderr, "fuzz_json: %s\n", what);
    abort();
}

static char *write_text(qc_arena *arena, const qc_json *value, int indent, bool sort_keys, size_t *length)
{
    qc_str out;
    qc_str_init(&out, arena);
    qc_json_write(&out, value, indent, sort_keys);
    char *text = qc_arena_strndup(arena, out.data, out.length);
    *length = out.length;
    qc_str_fini(&out);
    return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    qc_arena arena;
    qc_arena_init(&arena, NULL);
    qc_diag diag;
    qc_diag_init(&diag, &arena, NULL, NULL);
    char *copy = malloc(size ? size : 1); /* of exactly this size, so that reading past it is seen */
    demand(copy != NULL, "out of memory");
    if (size)
        memcpy(copy, data, size);
    const qc_json *value = qc_json_parse(&diag, &arena, "input", copy, size);
    free(copy);
    demand(diag.error_count == (value ? 0 : 1), "one error for each refusal");
    if (value) {
        bool sort_keys = size % 2;
        int indent = size % 3 ? 2 : -1;
        size_t length, again_length;
        char *text = write_text(&arena, value, indent, sort_keys, &length);
        const qc_json *again = qc_json_parse(&diag, &arena, "output", text, length);
        demand(again != NULL, "output does not read back");
        char *again_text = write_text(&arena, again, indent, sort_keys, &again_length);
        demand(length == again_length && memcmp(text, again_text, length) == 0,
            "output changes when written again");
    }
    qc_arena_fini(&arena);
    return 0;
}
