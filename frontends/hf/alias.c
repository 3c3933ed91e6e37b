/* SPDX-License-Identifier: MIT
 *
 * alias.c - see alias.h. Source: transformers/conversion_mapping.py at 5.17 (llava, LlavaModel, SiglipVisionModel,
 * Qwen2VLForConditionalGeneration, mixtral), and the modules' names as seen there with small models. All others that are
 * supported have one name; so has Llama 4 with its vision tower, whose head is language_model.lm_head there, too.
 */
#include "frontends/hf/alias.h"

#include <string.h>

#include "ir/support/str.h"

#define GEMMA3 "Gemma3ForConditionalGeneration"
#define MISTRAL3 "Mistral3ForConditionalGeneration"
#define QWEN2_5_VL "Qwen2_5_VLForConditionalGeneration"
#define MIXTRAL "MixtralForCausalLM"

/* The first that the path is, or lies in, counts. */
static const struct {
    const char *architecture, *stored, *loaded; /* loaded NULL: as it is */
} heads[] = {
    {GEMMA3, "vision_tower.vision_model", "model.vision_tower"},
    {GEMMA3, "model.vision_tower.vision_model", "model.vision_tower"},
    {GEMMA3, "vision_tower", "model.vision_tower"},
    {GEMMA3, "multi_modal_projector", "model.multi_modal_projector"},
    {GEMMA3, "language_model.model", "model.language_model"},
    {GEMMA3, "language_model.lm_head", "lm_head"},
    {MISTRAL3, "vision_tower", "model.vision_tower"},
    {MISTRAL3, "multi_modal_projector", "model.multi_modal_projector"},
    {MISTRAL3, "language_model.model", "model.language_model"},
    {MISTRAL3, "language_model.lm_head", "lm_head"},
    {QWEN2_5_VL, "visual", "model.visual"},
    {QWEN2_5_VL, "model.visual", NULL},
    {QWEN2_5_VL, "model.language_model", NULL},
    {QWEN2_5_VL, "model", "model.language_model"},
};

/* Single names anywhere in a path. */
static const struct {
    const char *architecture, *stored, *loaded;
} parts[] = {
    {MIXTRAL, "block_sparse_moe", "mlp"},
    {MIXTRAL, "w1", "gate_proj"},
    {MIXTRAL, "w3", "up_proj"},
    {MIXTRAL, "w2", "down_proj"},
};

static const char *part_of(const char *architecture, const char *name, size_t length)
{
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (strcmp(parts[i].architecture, architecture) == 0 && strlen(parts[i].stored) == length &&
            strncmp(parts[i].stored, name, length) == 0)
            return parts[i].loaded;
    return NULL;
}

static bool has_parts(const char *architecture)
{
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (strcmp(parts[i].architecture, architecture) == 0)
            return true;
    return false;
}

static const char *rename_parts(qc_arena *arena, const char *architecture, const char *path)
{
    qc_str text;
    bool renamed = false;
    qc_str_init(&text, arena);
    for (const char *at = path; *at;) {
        const size_t length = strcspn(at, ".");
        const char *loaded = part_of(architecture, at, length);
        renamed = renamed || loaded;
        qc_str_addf(&text, "%.*s%s", (int)(loaded ? strlen(loaded) : length), loaded ? loaded : at,
            at[length] ? "." : "");
        at += length + (at[length] == '.');
    }
    const char *alias = renamed ? qc_arena_strdup(arena, text.data) : NULL;
    qc_str_fini(&text);
    return alias;
}

const char *qc_hf_alias(qc_arena *arena, const char *architecture, const char *path)
{
    if (!architecture)
        return NULL;
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
        const size_t length = strlen(heads[i].stored);
        if (strcmp(heads[i].architecture, architecture) != 0 || strncmp(path, heads[i].stored, length) != 0 ||
            (path[length] && path[length] != '.'))
            continue;
        return heads[i].loaded ? qc_arena_printf(arena, "%s%s", heads[i].loaded, path + length) : NULL;
    }
    return has_parts(architecture) ? rename_parts(arena, architecture, path) : NULL;
}
