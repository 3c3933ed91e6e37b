/* SPDX-License-Identifier: MIT
 *
 * python_text.h - texts as Python's str sees them, for rules that are written in Python.
 */
#ifndef QC_TEXT_PYTHON_TEXT_H
#define QC_TEXT_PYTHON_TEXT_H

#include "ir/support/str.h"

/* Bytes of the text without the white space at its end, as str.rstrip. The text is UTF-8. */
size_t qc_python_rstrip(const char *text, size_t length);
/* Characters, as len. */
size_t qc_python_length(const char *text, size_t length);
/* Appends the text in lower case, as str.lower but for the final sigma, which becomes an ordinary one. */
void qc_python_lower(const char *text, size_t length, qc_str *out);

#endif
