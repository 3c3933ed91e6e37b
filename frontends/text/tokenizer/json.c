/* SPDX-License-Identifier: MIT
 *
 * json.c - typed members of the parts of tokenizer.json, with errors that name part and key.
 *
 * The JSON tree is dropped after loading, so strings are copied.
 */
#include "frontends/text/tokenizer/internal.h"

bool qc_text_json_missing(const qc_json *value)
{
    return !value || value->kind == QC_JSON_NULL;
}

static qc_status wrong(
    qc_diag *diag, const qc_tokenizer *tokenizer, const char *what, const char *key, const char *expected)
{
    return qc_error(diag, tokenizer->path, "%s: \"%s\" must be %s", what, key, expected);
}

qc_status qc_text_json_bool(qc_diag *diag, const qc_tokenizer *tokenizer, const qc_json *object,
    const char *what, const char *key, bool required, bool *value)
{
    const qc_json *member = qc_json_get(object, key);
    if (qc_text_json_missing(member) && !required)
        return QC_OK;
    if (qc_text_json_missing(member) || member->kind != QC_JSON_BOOL)
        return wrong(diag, tokenizer, what, key, "true or false");
    *value = member->boolean;
    return QC_OK;
}

qc_status qc_text_json_count(qc_diag *diag, const qc_tokenizer *tokenizer, const qc_json *object,
    const char *what, const char *key, bool required, uint64_t *value)
{
    const qc_json *member = qc_json_get(object, key);
    if (qc_text_json_missing(member) && !required)
        return QC_OK;
    if (qc_text_json_missing(member) || member->kind != QC_JSON_NUMBER || !member->is_integer ||
        member->integer < 0)
        return wrong(diag, tokenizer, what, key, "an integer that is not negative");
    *value = (uint64_t)member->integer;
    return QC_OK;
}

qc_status qc_text_json_string(qc_diag *diag, const qc_tokenizer *tokenizer, const qc_json *object,
    const char *what, const char *key, bool required, const char **value, size_t *length)
{
    const qc_json *member = qc_json_get(object, key);
    if (qc_text_json_missing(member) && !required)
        return QC_OK;
    if (qc_text_json_missing(member) || member->kind != QC_JSON_STRING)
        return wrong(diag, tokenizer, what, key, "a string");
    *value = qc_arena_strndup(tokenizer->arena, member->text, member->length);
    *length = member->length;
    return QC_OK;
}

qc_status qc_text_json_char(qc_diag *diag, const qc_tokenizer *tokenizer, const qc_json *object,
    const char *what, const char *key, uint32_t *value)
{
    const qc_json *member = qc_json_get(object, key);
    size_t size = 0;
    bool good = member && member->kind == QC_JSON_STRING && member->length > 0;
    if (good)
        *value = qc_text_get(member->text, member->length, &size);
    if (!good || size != member->length)
        return wrong(diag, tokenizer, what, key, "one character");
    return QC_OK;
}

const char *qc_text_json_type(
    qc_diag *diag, const qc_tokenizer *tokenizer, const qc_json *object, const char *what)
{
    const qc_json *type = qc_json_get(object, "type");
    if (!type || type->kind != QC_JSON_STRING) {
        qc_error(diag, tokenizer->path, "%s must be an object with a \"type\"", what);
        return NULL;
    }
    return type->text;
}
