/* SPDX-License-Identifier: MIT
 *
 * bank.h - weights in memory, each once, ready for the CPU kernels: raw elements, prepared products, and
 * scales as f32. What two ops share (tied embeddings) is evaluated and prepared once.
 *
 * A dry bank reads nothing and adds up what a real one would hold: plans of memory are made with it. Its
 * pointers must not be followed.
 */
#ifndef QC_RUNTIME_BANK_H
#define QC_RUNTIME_BANK_H

#include "backends/host/host.h"
#include "runtime/weights.h"

typedef struct qc_bank qc_bank;

/* Rows of a table that will be asked for: ids, ascending and each once. NULL: all of them. */
typedef struct qc_bank_rows {
    const int32_t *ids;
    size_t count;
} qc_bank_rows;

/* `weights` may be NULL for functions that read none, or in a dry bank. `without_codes`: weights are what they are
 * before they are quantized. `lender`: a bank over the same source, whose plain weights are used where it has them
 * ready. All pointers must outlive the bank. */
typedef struct qc_bank_options {
    qc_ctx *ctx;
    qc_host_engine *engine;
    qc_weights *weights;
    const qc_bank_rows *rows;
    const qc_bank *lender;
    bool without_codes, dry;
} qc_bank_options;

qc_bank *qc_bank_create(const qc_bank_options *options);
void qc_bank_destroy(qc_bank *bank);
/* Bytes held (lent ones aside), and the most that was held at any time, buffers of preparation included. */
size_t qc_bank_bytes(const qc_bank *bank);
size_t qc_bank_peak_bytes(const qc_bank *bank);

/* The elements of a weight expression; NULL after a diagnostic. Lives as long as the bank. */
const void *qc_bank_elements(qc_bank *bank, const qc_value *value);
/* The same as f32. */
const float *qc_bank_floats(qc_bank *bank, const qc_value *value);
/* x w^T + bias; `bias` may be NULL. `where` names it in diagnostics. */
const qc_host_linear *qc_bank_linear(qc_bank *bank, const char *where, const qc_value *w,
    const qc_value *bias, qc_dtype input, qc_dtype output);
/* The same of each expert of a bank w [E, out, in] with biases [E, out] (or NULL): E products, each made of the expert's own
 * part of the expressions, one after another. `module` is what the values belong to, one for all calls. In a dry bank:
 * not NULL. */
const qc_host_linear *const *qc_bank_expert_linears(qc_bank *bank, const char *where, const qc_module *module,
    const qc_value *w, const qc_value *bias, qc_dtype input, qc_dtype output);
/* The table of an embedding: its rows (all, or those of options.rows in that order). */
const void *qc_bank_table(qc_bank *bank, const qc_value *value, size_t *row_count);
/* Frees elements that only qc_bank_linear needed. */
void qc_bank_trim(qc_bank *bank);

#endif
