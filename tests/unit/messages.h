/* SPDX-License-Identifier: MIT
 *
 * messages.h - a diagnostics callback that keeps the last message, for tests of what goes wrong.
 */
#ifndef QC_TESTS_MESSAGES_H
#define QC_TESTS_MESSAGES_H

#include <stdio.h>
#include <string.h>

#include "ir/support/diag.h"

typedef struct messages {
    qc_severity severity;
    int count;
    char last[2048]; /* "where: what" */
} messages;

static void keep_message(void *user, qc_severity severity, const char *where, const char *what)
{
    messages *m = user;
    m->severity = severity;
    m->count++;
    snprintf(m->last, sizeof m->last, "%s: %s", where, what);
}

/* True when the last message holds `part`; prints what was said otherwise. */
static bool said(const messages *m, const char *part)
{
    bool found = strstr(m->last, part) != NULL;
    if (!found)
        printf("# said '%s', expected '%s'\n", m->last, part);
    return found;
}

#endif
