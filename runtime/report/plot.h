/* SPDX-License-Identifier: MIT
 *
 * plot.h - drawings for html.h, as inline SVG: points with error bars, lines over a whole-numbered axis, a map of cells,
 * bars. Numbers that are not finite (or, on a logarithmic axis, not positive) are left out.
 */
#ifndef QC_RUNTIME_REPORT_PLOT_H
#define QC_RUNTIME_REPORT_PLOT_H

#include "ir/support/str.h"

typedef struct qc_plot_axis {
    const char *label;
    bool logarithmic;
} qc_plot_axis;

/* Positions of at most `room` marks over [low, high]: multiples of 1, 2 or 5 times a power of ten; on a logarithmic axis
 * powers of ten, with their multiples by 2 and 5 where there are few. Fills ticks in ascending order; how many. */
size_t qc_plot_ticks(double low, double high, bool logarithmic, double *ticks, size_t room);

typedef struct qc_plot_point {
    const char *name;
    double x, y, error; /* error NaN: none; it is of y */
} qc_plot_point;

void qc_plot_points(qc_str *out, const char *title, qc_plot_axis x, qc_plot_axis y,
    const qc_plot_point *points, size_t count);

typedef struct qc_plot_line {
    const char *name;
    const double *values; /* [count of the call], at 0, 1, 2, ... */
} qc_plot_line;

void qc_plot_lines(qc_str *out, const char *title, qc_plot_axis x, qc_plot_axis y, const qc_plot_line *lines,
    size_t line_count, size_t count);

/* cells[rows, columns], row 0 on top, the darker the larger; NaN stays white. */
void qc_plot_map(qc_str *out, const char *title, const char *row_label, const char *column_label,
    const double *cells, size_t rows, size_t columns);

typedef struct qc_plot_bar {
    const char *name;
    double value;
} qc_plot_bar;

void qc_plot_bars(qc_str *out, const char *title, const char *label, const qc_plot_bar *bars, size_t count);

#endif
