/* SPDX-License-Identifier: MIT
 *
 * executor_reference.c - executors on the reference interpreter: each session has one of its own, which holds
 * its cache; tensors of the checkpoint are read when first asked for and kept.
 */
#include <stdlib.h>

#include "ir/ctx.h"
#include "ir/dtype/codec.h"
#include "runtime/executor_internal.h"

static qc_status give_weight(void *user, qc_diag *diag, const char *name, qc_tensor *stored)
{
    qc_executor *e = user;
    qc_tensor *known = qc_map_get(&e->stored, name);
    if (known) {
        *stored = *known;
        return QC_OK;
    }
    if (!e->weights)
        return qc_error(diag, name, "the module has weights, but no source to read them from");
    const qc_st_set *set = qc_weights_tensors(e->weights);
    const qc_st_tensor *tensor = qc_st_find(set, name);
    if (!tensor)
        return qc_error(diag, name, "there is no such tensor in %s", qc_weights_directory(e->weights));
    known = QC_NEW(&e->arena, qc_tensor);
    if (qc_tensor_create(diag, name, qc_dtype_from_safetensors_name(tensor->dtype), tensor->rank,
            tensor->shape, known) != QC_OK)
        return QC_ERROR;
    if (qc_st_read(diag, set, tensor, known->data) != QC_OK) {
        qc_tensor_free(known);
        return QC_ERROR;
    }
    qc_map_set(&e->stored, name, known);
    *stored = *known;
    return QC_OK;
}

qc_status qc_executor_load_reference(qc_executor *e, const qc_executor_options *options)
{
    const qc_type *type = qc_value_type(qc_func_result(e->func, 0));
    qc_map_init(&e->stored, &e->arena);
    if (qc_type_rank(type) != 3 || !qc_dim_as_int(qc_type_dim(type, 2), &e->vocabulary))
        return qc_ctx_error(e->ctx, "", "@main must give logits [B, S, vocabulary]");
    if (options->source || qc_module_source(e->module)) {
        e->weights = qc_weights_open(e->ctx, e->module, options->source);
        if (!e->weights)
            return QC_ERROR;
    }
    return QC_OK;
}

void qc_executor_unload_reference(qc_executor *e)
{
    for (size_t i = 0; i < e->stored.count; i++)
        qc_tensor_free(e->stored.entries[i].value);
}

qc_status qc_session_open_reference(qc_session *session)
{
    qc_executor *e = session->executor;
    session->reference =
        qc_reference_create(e->module, &(qc_reference_options){.user = e, .weight = give_weight});
    return session->reference ? QC_OK : QC_ERROR;
}

void qc_session_close_reference(qc_session *session)
{
    if (session->reference)
        qc_reference_destroy(session->reference);
}

qc_status qc_session_run_reference(
    qc_session *session, const int32_t *ids, size_t count, bool last_only, float *logits)
{
    qc_executor *e = session->executor;
    int64_t dims[2] = {1, (int64_t)count};
    qc_tensor input, output;
    if (qc_tensor_create(qc_ctx_diag(e->ctx), "ids", QC_I64, 2, dims, &input) != QC_OK)
        return QC_ERROR;
    for (size_t i = 0; i < count; i++)
        ((int64_t *)input.data)[i] = ids[i];
    qc_status status = qc_reference_run(session->reference, e->func, &input, 1, &output);
    qc_tensor_free(&input);
    if (status != QC_OK)
        return QC_ERROR;
    size_t rows = last_only ? 1 : count;
    int64_t elems = (int64_t)rows * e->vocabulary;
    qc_tensor_read(&output, output.count - elems, elems, logits);
    qc_tensor_free(&output);
    session->length += count;
    return QC_OK;
}

qc_status qc_executor_run_many_reference(
    qc_executor *e, const qc_sequence *sequences, size_t count, qc_emit_fn emit, void *user)
{
    qc_status status = QC_OK;
    for (size_t i = 0; i < count && status == QC_OK; i++) {
        size_t elems = sequences[i].count * (size_t)e->vocabulary;
        float *logits = malloc((elems + 1) * sizeof *logits);
        qc_session *session = logits ? qc_session_create(e, sequences[i].count) : NULL;
        if (!logits)
            qc_ctx_error(e->ctx, "", "out of memory for logits of %zu tokens", sequences[i].count);
        status =
            session ? qc_session_run(session, sequences[i].ids, sequences[i].count, false, logits) : QC_ERROR;
        if (status == QC_OK)
            status = emit(user, i, logits);
        qc_session_destroy(session);
        free(logits);
    }
    return status;
}
