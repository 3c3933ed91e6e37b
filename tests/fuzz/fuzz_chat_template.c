/* SPDX-License-Identifier: MIT
 *
 * fuzz_chat_template.c - any text as a chat template. What stands behind a line of three equals signs is the list of
 * messages. Reading and rendering end without a fault, and a failure is one error in one line.
 */
#include <stdlib.h>

#include "frontends/text/chat_template/chat_template.h"

static void check_message(void *user, qc_severity severity, const char *where, const char *what)
{
    (void)user;
    (void)where;
    if (severity == QC_SEVERITY_ERROR && strchr(what, '\n'))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char
        mark[] = "\n===\n",
        standard[] =
            "[{\"role\": \"system\", \"content\": \"Be brief.\"}, {\"role\": \"user\", \"content\": "
            "[{\"type\": \"text\", \"text\": \"h\\u00e9\"}]}, {\"role\": \"assistant\", \"content\": "
            "null, \"tool_calls\": [{\"function\": {\"name\": \"f\", \"arguments\": {\"x\": 1.5}}}]}]";
    const char *text = (const char *)data;
    const char *end = size ? memmem(text, size, mark, sizeof mark - 1) : NULL;
    size_t length = end ? (size_t)(end - text) : size;
    qc_arena arena;
    qc_diag diag;
    qc_chat_template *template;
    qc_arena_init(&arena, NULL);
    qc_diag_init(&diag, &arena, check_message, NULL);
    const qc_json *messages = end ? qc_json_parse(&diag, &arena, "messages", end + sizeof mark - 1,
                                        size - length - (sizeof mark - 1))
                                  : qc_json_parse(&diag, &arena, "messages", standard, strlen(standard));
    size_t before = diag.error_count;
    if (messages && qc_chat_template_parse(&diag, &arena, "template", text, length, &template) == QC_OK) {
        qc_str out;
        qc_str_init(&out, &arena);
        qc_chat_template_set_token(template, "bos_token", "<s>", 3);
        const qc_chat_options options = {
            .add_generation_prompt = size % 2, .max_steps = 200000, .max_memory_bytes = 32 << 20};
        qc_status status = qc_chat_template_render(template, &diag, "data", messages, &options, &out);
        if ((status == QC_OK) != (diag.error_count == before) || diag.error_count > before + 1)
            abort();
        for (size_t i = 0; i < out.length;) { /* what comes out is UTF-8, as what goes in */
            int step = qc_utf8_length((const unsigned char *)out.data + i, out.length - i);
            if (step == 0)
                abort();
            i += (size_t)step;
        }
        qc_str_fini(&out);
    }
    qc_arena_fini(&arena);
    return 0;
}
