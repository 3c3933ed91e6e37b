/* SPDX-License-Identifier: MIT
 *
 * fuzz_tokenizer.c - a tokenizer.json, a NUL byte, and a text to encode with it.
 *
 * What is read must not crash, and decoding what was encoded must not either, at once or as a stream.
 */
#include "frontends/text/tokenizer/tokenizer.h"

#include <stdlib.h>

static void out_of_memory(size_t size_bytes)
{
    (void)size_bytes;
    abort();
}

static void ignore_message(void *user, qc_severity severity, const char *where, const char *what)
{
    (void)user, (void)severity, (void)where, (void)what;
}

static void use(qc_tokenizer *tokenizer, qc_diag *diag, qc_arena *arena, const char *text, size_t length)
{
    qc_tokenizer_scratch *scratch = qc_tokenizer_scratch_create(tokenizer, out_of_memory);
    qc_str out;
    qc_str_init(&out, arena);
    for (int special = 0; special < 2; special++) {
        qc_token_ids ids = {0};
        qc_token_stream stream;
        if (qc_tokenizer_encode(tokenizer, scratch, diag, text, length, special, arena, &ids) != QC_OK)
            continue;
        qc_tokenizer_decode(tokenizer, ids.items, ids.count, special, &out);
        qc_token_stream_init(&stream, tokenizer, special, arena);
        for (size_t i = 0; i < ids.count && i < 64; i++)
            qc_token_stream_push(&stream, ids.items[i], &out);
        qc_token_stream_finish(&stream, &out);
        qc_token_stream_fini(&stream);
    }
    qc_str_fini(&out);
    qc_tokenizer_scratch_destroy(scratch);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *json = (const char *)data;
    const char *border = size ? memchr(json, '\0', size) : NULL;
    size_t json_length = border ? (size_t)(border - json) : size;
    const char *text = border ? border + 1 : "The engine doesn't\n read 12 <s> words";
    size_t text_length = border ? size - json_length - 1 : strlen(text);
    qc_arena arena;
    qc_diag diag;
    qc_tokenizer *tokenizer;
    qc_arena_init(&arena, out_of_memory);
    qc_diag_init(&diag, &arena, ignore_message, NULL);
    if (qc_tokenizer_parse(&diag, &arena, "fuzz", json, json_length, &tokenizer) == QC_OK) {
        use(tokenizer, &diag, &arena, text, text_length);
        qc_tokenizer_fini(tokenizer);
    }
    qc_arena_fini(&arena);
    return 0;
}
