/* SPDX-License-Identifier: MIT
 *
 * generation.c - the token ids of generation_config.json. eos_token_id is a number, a list of numbers, or
 * null.
 */
#include "frontends/hf/config.h"

#include "ir/support/io.h"

static qc_status read_id(qc_diag *diag, const char *path, const char *key, const qc_json *value, int64_t *id)
{
    if (value->kind != QC_JSON_NUMBER || !value->is_integer || value->integer < 0)
        return qc_error(diag, path, "%s must be a token id, a list of them, or null", key);
    *id = value->integer;
    return QC_OK;
}

/* Of the file, else of the text model that config.json of a multimodal one describes. */
static const qc_json *member(const qc_json *root, const char *key)
{
    const qc_json *value = qc_json_get(root, key), *text = qc_json_get(root, "text_config");
    const bool inside = (!value || value->kind == QC_JSON_NULL) && text && text->kind == QC_JSON_OBJECT;
    return inside ? qc_json_get(text, key) : value;
}

qc_status qc_hf_read_generation(
    qc_diag *diag, qc_arena *arena, const char *directory, qc_hf_generation *generation)
{
    *generation = (qc_hf_generation){.bos_id = -1};
    const char *path = qc_path_join(arena, directory, "generation_config.json");
    if (!qc_is_file(path))
        path = qc_path_join(arena, directory, "config.json");
    const qc_json *root = qc_hf_read_json_object(diag, arena, path);
    if (!root)
        return QC_ERROR;
    const qc_json *bos = member(root, "bos_token_id"), *eos = member(root, "eos_token_id");
    /* Some files give bos as a list of one, as they do eos. */
    if (bos && bos->kind == QC_JSON_ARRAY)
        bos = bos->first;
    if (bos && bos->kind != QC_JSON_NULL && read_id(diag, path, "bos_token_id", bos, &generation->bos_id))
        return QC_ERROR;
    if (!eos || eos->kind == QC_JSON_NULL)
        return QC_OK;
    bool list = eos->kind == QC_JSON_ARRAY;
    int64_t *ids = QC_NEW_ARRAY(arena, int64_t, list ? eos->length : 1);
    size_t count = 0;
    if (!list && read_id(diag, path, "eos_token_id", eos, &ids[count++]))
        return QC_ERROR;
    for (const qc_json *item = list ? eos->first : NULL; item; item = item->next)
        if (read_id(diag, path, "eos_token_id", item, &ids[count++]))
            return QC_ERROR;
    generation->eos_ids = ids;
    generation->eos_count = count;
    return QC_OK;
}
