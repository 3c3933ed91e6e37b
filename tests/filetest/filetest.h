/* SPDX-License-Identifier: MIT
 *
 * filetest.h - one case of qc-filetest; the form of test files is in main.c.
 */
#ifndef QC_TESTS_FILETEST_H
#define QC_TESTS_FILETEST_H

#include "passes/manager.h"

typedef struct expectation {
    qc_severity severity;
    int line, file_line; /* that it must name (0: any); where it stands */
    const char *text;
    bool met;
} expectation;

typedef struct filetest {
    qc_arena arena;
    const char *file; /* base name, which diagnostics name */
    const char *text; /* of the case */
    size_t length, input_length;
    int first_line;       /* of the case in the file */
    const char *pipeline; /* never NULL */
    const char *eval;     /* NULL: none */
    const char *expected; /* NULL: none */
    size_t expected_length;
    QC_VEC(const char *) disable;
    QC_VEC(expectation) expectations;
    QC_VEC(const char *) complaints;
    bool expects_error, bless;
    qc_ctx *ctx;
    qc_str *output;
} filetest;

void filetest_complain(filetest *t, const char *text);
/* Runs the first function of both modules with the reference on the same seeded data and compares as t->eval
 * says. */
void filetest_eval(filetest *t, const qc_module *before, const qc_module *after);

#endif
