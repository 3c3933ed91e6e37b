/* SPDX-License-Identifier: MIT
 *
 * schemes.c - the table of presets (schemes.def) and what is read from it.
 */
#include "passes/schemes.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "ir/ctx.h"
#include "passes/option_value.h"

static const qc_scheme_preset presets[] = {
#define X(n, w, i, s) {#n, s, w, i},
#include "passes/schemes.def"
#undef X
};

const char qc_scheme_preset_words[] =
#define X(n, w, i, s) #n "|"
#include "passes/schemes.def"
#undef X
    "none";

const qc_scheme_preset *qc_scheme_preset_at(size_t index)
{
    return index < sizeof presets / sizeof presets[0] ? &presets[index] : NULL;
}

const qc_scheme_preset *qc_scheme_preset_find(const char *name)
{
    for (size_t i = 0; i < sizeof presets / sizeof presets[0]; i++)
        if (strcasecmp(name, presets[i].name) == 0)
            return &presets[i];
    return NULL;
}

const qc_attr *qc_scheme_preset_part(qc_ctx *ctx, const qc_scheme_preset *preset, const char *arg)
{
    const char *text = strcmp(arg, "weights") == 0 ? preset->weights : preset->input;
    const qc_attr *written, *part = NULL;
    qc_option_parser p;
    if (!text[0])
        return NULL;
    qc_option_parser_init(&p, ctx, qc_ctx_arena(ctx), preset->name, NULL, text);
    written = qc_option_parser_any(&p, 0);
    if (!written || qc_scheme_part_complete(ctx, preset->name, arg, written, &part) != QC_OK)
        return NULL;
    return part;
}
