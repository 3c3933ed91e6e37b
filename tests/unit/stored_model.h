/* SPDX-License-Identifier: MIT
 *
 * stored_model.h - a checkpoint with golden.safetensors beside it, imported, its weights given to the reference
 * interpreter as it asks for them.
 */
#ifndef QC_TESTS_STORED_MODEL_H
#define QC_TESTS_STORED_MODEL_H

#include "backends/reference/reference.h"
#include "frontends/hf/hf.h"
#include "ir/ctx.h"
#include "ir/support/io.h"
#include "ir/support/safetensors.h"
#include "ir/tensor.h"
#include "tests/unit/check.h"
#include "tests/unit/messages.h"

typedef struct stored_model {
    messages said;
    qc_ctx *ctx;
    qc_module *module;
    qc_reference *reference;
    qc_st_set weights, golden;
    qc_tensor borrowed; /* the weight given last */
} stored_model;

static qc_status read_stored(qc_diag *diag, const qc_st_set *set, const char *name, qc_tensor *tensor)
{
    const qc_st_tensor *stored = qc_st_find(set, name);
    if (!stored)
        return qc_error(diag, name, "no such tensor");
    qc_dtype dtype = qc_dtype_from_safetensors_name(stored->dtype);
    if (qc_tensor_create(diag, name, dtype, stored->rank, stored->shape, tensor) != QC_OK)
        return QC_ERROR;
    return qc_st_read(diag, set, stored, tensor->data);
}

static qc_status give_weight(void *user, qc_diag *diag, const char *name, qc_tensor *stored)
{
    stored_model *m = user;
    qc_tensor_free(&m->borrowed);
    if (read_stored(diag, &m->weights, name, &m->borrowed) != QC_OK)
        return QC_ERROR;
    *stored = m->borrowed;
    return QC_OK;
}

/* `observe` may be NULL; it gets the model. The golden file is opened where there is one. Any outcome is to be closed. */
static bool open_stored_model(stored_model *m, const char *directory, const qc_hf_options *options,
    void (*observe)(void *user, const qc_value *value, const qc_tensor *tensor))
{
    *m = (stored_model){0};
    m->ctx = qc_ctx_create(NULL, keep_message, &m->said);
    qc_arena *arena = qc_ctx_arena(m->ctx);
    const char *golden = qc_path_join(arena, directory, "golden.safetensors");
    m->module = qc_hf_import(m->ctx, directory, options);
    if (m->module && qc_module_verify(m->module, NULL) == QC_OK &&
        qc_st_open_directory(qc_ctx_diag(m->ctx), arena, directory, &m->weights) == QC_OK &&
        (!qc_is_file(golden) || qc_st_open_file(qc_ctx_diag(m->ctx), arena, golden, &m->golden) == QC_OK)) {
        qc_reference_options run = {.user = m, .weight = give_weight, .observe = observe};
        m->reference = qc_reference_create(m->module, &run);
    }
    if (!m->reference)
        CHECK_FAIL("%s: %s", directory, m->said.last);
    return m->reference != NULL;
}

/* Columns [start, start + count) of ids, behind those that ran before; the logits. */
static bool run_columns(
    stored_model *m, const qc_tensor *ids, int64_t start, int64_t count, qc_tensor *logits)
{
    qc_tensor part;
    int64_t dims[2] = {ids->dims[0], count};
    if (qc_tensor_create(qc_ctx_diag(m->ctx), "ids", ids->dtype, 2, dims, &part) != QC_OK)
        return false;
    for (int64_t i = 0; i < dims[0]; i++)
        qc_tensor_copy(&part, i * count, ids, i * ids->dims[1] + start, count);
    qc_status status = qc_reference_run(m->reference, qc_module_func(m->module, "main"), &part, 1, logits);
    if (status != QC_OK)
        CHECK_FAIL("%s", m->said.last);
    qc_tensor_free(&part);
    return status == QC_OK;
}

static void close_stored_model(stored_model *m)
{
    qc_reference_destroy(m->reference);
    qc_tensor_free(&m->borrowed);
    qc_st_close(&m->weights);
    qc_st_close(&m->golden);
    qc_module_destroy(m->module);
    qc_ctx_destroy(m->ctx);
}

#endif
