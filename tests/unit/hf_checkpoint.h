/* SPDX-License-Identifier: MIT
 *
 * hf_checkpoint.h - small checkpoints that a test writes itself, and what importing them says.
 */
#ifndef QC_TESTS_HF_CHECKPOINT_H
#define QC_TESTS_HF_CHECKPOINT_H

#include "tests/unit/check.h"

#include <stdio.h>
#include <unistd.h>

#include "frontends/hf/hf.h"
#include "ir/support/io.h"
#include "ir/support/safetensors.h"

/* Every diagnostic of a case, one line each, and how many of each severity there were. */
typedef struct journal {
    char text[1 << 16];
    size_t length;
    int counts[4];
} journal;

static void keep(void *user, qc_severity severity, const char *where, const char *what)
{
    static const char *const names[] = {"note", "remark", "warning", "error"};
    journal *j = user;
    j->counts[severity]++;
    int n = snprintf(
        j->text + j->length, sizeof j->text - j->length, "%s: %s: %s\n", names[severity], where, what);
    if (n > 0 && j->length + (size_t)n < sizeof j->text)
        j->length += (size_t)n;
}

static bool said(const journal *j, const char *part)
{
    bool found = strstr(j->text, part) != NULL;
    if (!found)
        printf("# said '%s', expected '%s'\n", j->text, part);
    return found;
}

enum { TENSORS_MAX = 12000 };

/* A checkpoint in the making, in a directory of its own. Tensor data is the byte 0x3c throughout, which as
 * bf16 is 0.0115, a fit scale. */
typedef struct checkpoint {
    qc_arena arena;
    qc_diag diag;
    journal j;
    char directory[32];
    qc_json *config;
    qc_st_out tensors[TENSORS_MAX];
    size_t tensor_count;
    unsigned char fill;
} checkpoint;

static const char base_config[] =
    "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", \"torch_dtype\": \"bfloat16\","
    " \"hidden_size\": 8, \"intermediate_size\": 6, \"num_hidden_layers\": 1, \"num_attention_heads\": 2,"
    " \"num_key_value_heads\": 1, \"vocab_size\": 10, \"max_position_embeddings\": 64}";

/* Adds or replaces a tensor; dtype NULL takes it out. */
static void put(
    checkpoint *c, const char *name, const char *dtype, int rank, int64_t d0, int64_t d1, int64_t d2)
{
    size_t at = 0;
    while (at < c->tensor_count && strcmp(c->tensors[at].name, name) != 0)
        at++;
    if (!dtype) {
        c->tensors[at] = c->tensors[--c->tensor_count];
        return;
    }
    int64_t *shape = QC_NEW_ARRAY(&c->arena, int64_t, 3);
    shape[0] = d0;
    shape[1] = d1;
    shape[2] = d2;
    c->tensors[at] =
        (qc_st_out){.name = qc_arena_strdup(&c->arena, name), .dtype = dtype, .rank = rank, .shape = shape};
    c->tensor_count += at == c->tensor_count;
}

/* Gives a tensor that was put its data: as many bytes as it has. */
static inline void fill(checkpoint *c, const char *name, void *data)
{
    for (size_t i = 0; i < c->tensor_count; i++)
        if (strcmp(c->tensors[i].name, name) == 0)
            c->tensors[i].user = data;
}

static void put_layer(checkpoint *c, int layer)
{
    static const struct {
        const char *name;
        int rank;
        int64_t d0, d1;
    } parts[] = {{"self_attn.q_proj", 2, 8, 8}, {"self_attn.k_proj", 2, 4, 8}, {"self_attn.v_proj", 2, 4, 8},
        {"self_attn.o_proj", 2, 8, 8}, {"mlp.gate_proj", 2, 6, 8}, {"mlp.up_proj", 2, 6, 8},
        {"mlp.down_proj", 2, 8, 6}, {"input_layernorm", 1, 8, 1}, {"post_attention_layernorm", 1, 8, 1}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        const char *name = qc_arena_printf(&c->arena, "model.layers.%d.%s.weight", layer, parts[i].name);
        put(c, name, "BF16", parts[i].rank, parts[i].d0, parts[i].d1, 1);
    }
}

/* Changes keys of config.json: `changes` is an object in JSON, with ' for ". */
static void change(checkpoint *c, const char *changes)
{
    char *text = qc_arena_strdup(&c->arena, changes);
    for (char *at = text; *at; at++)
        if (*at == '\'')
            *at = '"';
    qc_json *object = qc_json_parse(&c->diag, &c->arena, "changes", text, strlen(text));
    CHECK(object != NULL);
    for (qc_json *item = object ? object->first : NULL, *next; item; item = next) {
        next = item->next;
        item->next = NULL;
        qc_json_set(&c->arena, c->config, item->key, item);
    }
}

/* A Llama of one layer that imports. NULL where no directory can be made. */
static checkpoint *begin(const char *changes)
{
    checkpoint *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    snprintf(c->directory, sizeof c->directory, "qc-test-hf-XXXXXX");
    if (!mkdtemp(c->directory)) {
        free(c);
        return NULL;
    }
    qc_arena_init(&c->arena, NULL);
    qc_diag_init(&c->diag, &c->arena, keep, &c->j);
    c->fill = 0x3c;
    c->config = qc_json_parse(&c->diag, &c->arena, "base", base_config, sizeof base_config - 1);
    put(c, "model.embed_tokens.weight", "BF16", 2, 10, 8, 1);
    put_layer(c, 0);
    put(c, "model.norm.weight", "BF16", 1, 8, 1, 1);
    put(c, "lm_head.weight", "BF16", 2, 10, 8, 1);
    if (changes)
        change(c, changes);
    return c;
}

static void end(checkpoint *c)
{
    CHECK_INT(qc_remove_tree(&c->diag, c->directory), QC_OK);
    qc_arena_fini(&c->arena);
    free(c);
}

static void write_text(checkpoint *c, const char *name, const char *text)
{
    const char *path = qc_path_join(&c->arena, c->directory, name);
    CHECK_INT(qc_write_file(&c->diag, path, text, strlen(text)), QC_OK);
}

/* Writes tensors [first, first + count) as one file; their order changes. */
static void write_tensors(checkpoint *c, const char *name, size_t first, size_t count)
{
    char *header;
    size_t header_bytes, data_bytes = 0;
    CHECK_INT(
        qc_st_layout(&c->diag, &c->arena, c->tensors + first, count, true, &header, &header_bytes), QC_OK);
    for (size_t i = first; i < first + count; i++)
        data_bytes += c->tensors[i].size_bytes;
    char *file = qc_arena_alloc(&c->arena, header_bytes + data_bytes);
    memcpy(file, header, header_bytes);
    memset(file + header_bytes, c->fill, data_bytes);
    for (size_t i = first, at = header_bytes; i < first + count; at += c->tensors[i++].size_bytes)
        if (c->tensors[i].user)
            memcpy(file + at, c->tensors[i].user, c->tensors[i].size_bytes);
    const char *path = qc_path_join(&c->arena, c->directory, name);
    CHECK_INT(qc_write_file(&c->diag, path, file, header_bytes + data_bytes), QC_OK);
}

static void write_config(checkpoint *c)
{
    qc_str text;
    qc_str_init(&text, &c->arena);
    qc_json_write(&text, c->config, 2, true);
    write_text(c, "config.json", text.data);
    qc_str_fini(&text);
}

/* The IR text of what lies in the directory, or NULL. */
static const char *import_as(checkpoint *c, const qc_hf_options *options)
{
    const char *result = NULL;
    c->j = (journal){0};
    qc_ctx *ctx = qc_ctx_create(NULL, keep, &c->j);
    qc_module *module = qc_hf_import(ctx, c->directory, options);
    if (module) {
        CHECK_INT(qc_module_verify(module, NULL), QC_OK);
        size_t length;
        char *text = qc_module_print(module, &length);
        result = qc_arena_strndup(&c->arena, text, length);
        qc_text_free(text);
    }
    CHECK((result != NULL) == (c->j.counts[QC_SEVERITY_ERROR] == 0));
    qc_module_destroy(module);
    qc_ctx_destroy(ctx);
    return result;
}

static const char *import(checkpoint *c)
{
    write_config(c);
    write_tensors(c, "model.safetensors", 0, c->tensor_count);
    return import_as(c, NULL);
}

static bool holds(const char *text, const char *part)
{
    bool found = text && strstr(text, part);
    if (!found)
        printf("# expected '%s'\n", part);
    return found;
}

#define BEGIN(c, changes)                                                                                    \
    checkpoint *c = begin(changes);                                                                          \
    if (!c)                                                                                                  \
    SKIP("no directory can be made here")

static size_t occurrences(const char *text, const char *part)
{
    size_t count = 0;
    for (const char *at = text ? strstr(text, part) : NULL; at; at = strstr(at + 1, part))
        count++;
    return count;
}

#endif
