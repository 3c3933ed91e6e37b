/* SPDX-License-Identifier: MIT
 *
 * html.h - pages of HTML that stand alone: style and drawings are in the page, nothing is fetched. What is written is
 * well-formed XML too. Texts are escaped here, so callers give them as they are; bytes that are no UTF-8, and controls,
 * become U+FFFD.
 */
#ifndef QC_RUNTIME_REPORT_HTML_H
#define QC_RUNTIME_REPORT_HTML_H

#include "ir/support/str.h"

void qc_html_begin(qc_str *out, const char *title);
void qc_html_end(qc_str *out);

/* As text, or inside of a quoted attribute. */
void qc_html_text(qc_str *out, const char *text);
void qc_html_heading(qc_str *out, int level, const char *text);
void qc_html_paragraph(qc_str *out, const char *text);
/* In the type of programs, line breaks kept. */
void qc_html_code(qc_str *out, const char *text);

/* A table: begin, then rows of cells, then end. Cells that `number` says are one are aligned to the right. */
void qc_html_table_begin(qc_str *out, const char *const *heads, size_t count);
void qc_html_row_begin(qc_str *out);
void qc_html_cell(qc_str *out, bool number, const char *text);
void qc_html_row_end(qc_str *out);
void qc_html_table_end(qc_str *out);

#endif
