/* SPDX-License-Identifier: MIT
 *
 * wrapper.h - multimodal models: a text model, which is compiled, beside a vision tower and a projector, whose tensors
 * are copied as they are. The text model's architecture is a row of the table; config.json describes it in text_config.
 * With text alone as input, a wrapper computes what its text model does: positions of multimodal rotary embeddings
 * (mrope) are the same number three times over then, and the sections do not matter.
 */
#ifndef QC_FRONTENDS_HF_WRAPPER_H
#define QC_FRONTENDS_HF_WRAPPER_H

#include "frontends/hf/arch.h"

typedef struct qc_hf_wrapper {
    qc_hf_arch_info info;
    const char *model_class; /* of the module `model`, where the text model lies in it */
    /* Values of text_config.model_type; the first also where there is none. NULL behind the last. */
    const char *text_types[3];
    bool tied;        /* default of tie_word_embeddings */
    bool tied_inside; /* tie_word_embeddings may be in text_config too, and either ties */
    bool flat;        /* without text_config, the text model's keys stand beside the others */
} qc_hf_wrapper;

/* Row `index`, NULL behind the last; and by name or model_type, NULL when unknown. */
const qc_hf_wrapper *qc_hf_wrapper_at(size_t index);
const qc_hf_wrapper *qc_hf_wrapper_by_name(const char *architecture);
const qc_hf_wrapper *qc_hf_wrapper_by_model_type(const char *model_type);

/* The row of its text model. */
const qc_hf_arch *qc_hf_wrapper_arch(const qc_hf_wrapper *wrapper);

/* The object that describes the text model, and the row of its architecture in *arch; NULL after a diagnostic. */
const qc_json *qc_hf_wrapper_text(qc_diag *diag, const char *path, const qc_hf_wrapper *wrapper,
    const qc_json *root, const qc_hf_arch **arch);

/* Is this a key of the vision tower, the projector or the markers of images among tokens? */
bool qc_hf_wrapper_key(const char *key);

/* Where the modules of the text model lie: fills state->model.path and .head_path, for every kind of model. */
void qc_hf_wrapper_places(qc_hf_state *state);

/* The modules above the text model, root included. */
void qc_hf_wrapper_tree(qc_hf_state *state);

#endif
