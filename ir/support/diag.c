/* SPDX-License-Identifier: MIT
 *
 * diag.c - diagnostics: formats the line and hands it to whoever listens.
 */
#include "ir/support/diag.h"

#include <stdio.h>

void qc_diag_init(qc_diag *diag, qc_arena *arena, qc_diag_fn callback, void *user)
{
    *diag = (qc_diag){.callback = callback, .user = user, .arena = arena};
}

/* Short messages leave nothing behind in the arena, so that a context which reports for long does not grow. */
static void say(qc_diag *diag, qc_severity severity, const char *where, const char *format, va_list args)
    QC_PRINTF(4, 0);
static void say(qc_diag *diag, qc_severity severity, const char *where, const char *format, va_list args)
{
    char room[1024];
    va_list again;
    va_copy(again, args);
    int length = vsnprintf(room, sizeof room, format, args);
    bool fits = length >= 0 && (size_t)length < sizeof room;
    diag->callback(diag->user, severity, where, fits ? room : qc_arena_vprintf(diag->arena, format, again));
    va_end(again);
}

void qc_diag_report(qc_diag *diag, qc_severity severity, const char *where, const char *format, va_list args)
{
    if (severity == QC_SEVERITY_ERROR)
        diag->error_count++;
    if (diag->callback)
        say(diag, severity, where ? where : "", format, args);
}

qc_status qc_error(qc_diag *diag, const char *where, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    qc_diag_report(diag, QC_SEVERITY_ERROR, where, format, args);
    va_end(args);
    return QC_ERROR;
}

void qc_note(qc_diag *diag, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    qc_diag_report(diag, QC_SEVERITY_NOTE, "", format, args);
    va_end(args);
}

void qc_warning(qc_diag *diag, const char *where, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    qc_diag_report(diag, QC_SEVERITY_WARNING, where, format, args);
    va_end(args);
}

void qc_remark(qc_diag *diag, const char *where, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    qc_diag_report(diag, QC_SEVERITY_REMARK, where, format, args);
    va_end(args);
}
