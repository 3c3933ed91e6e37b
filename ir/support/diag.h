/* SPDX-License-Identifier: MIT
 *
 * diag.h - diagnostics: one place where everything that goes wrong is said.
 *
 * A diagnostic is one line `WHERE: WHAT` with a severity; WHERE is a file, `file:line:col`, a tensor, a
 * module path, or empty. Notes follow the diagnostic they belong to. Library code reports and returns
 * QC_ERROR; only the tools print.
 */
#ifndef QC_SUPPORT_DIAG_H
#define QC_SUPPORT_DIAG_H

#include "ir/support/arena.h"

typedef void (*qc_diag_fn)(void *user, qc_severity severity, const char *where, const char *what);

typedef struct qc_diag {
    qc_diag_fn callback;
    void *user;
    size_t error_count;
    qc_arena *arena; /* for the text of messages; may be shared */
} qc_diag;

void qc_diag_init(qc_diag *diag, qc_arena *arena, qc_diag_fn callback, void *user);
/* Reports an error; always returns QC_ERROR, so that `return qc_error(...)` works. */
qc_status qc_error(qc_diag *diag, const char *where, const char *format, ...) QC_PRINTF(3, 4) QC_COLD;
void qc_note(qc_diag *diag, const char *format, ...) QC_PRINTF(2, 3) QC_COLD;
void qc_warning(qc_diag *diag, const char *where, const char *format, ...) QC_PRINTF(3, 4) QC_COLD;
void qc_remark(qc_diag *diag, const char *where, const char *format, ...) QC_PRINTF(3, 4) QC_COLD;
void qc_diag_report(qc_diag *diag, qc_severity severity, const char *where, const char *format, va_list args)
    QC_PRINTF(4, 0);

#endif
