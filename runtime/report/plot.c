/* SPDX-License-Identifier: MIT
 *
 * plot.c - see plot.h. Coordinates are pixels with a tenth; colours go around the circle of hues in steps of the golden
 * angle, so that neighbours differ whatever their number.
 */
#include "runtime/report/plot.h"

#include <math.h>

#include "runtime/report/html.h"

enum { WIDTH = 860, HEIGHT = 420, LEFT = 80, RIGHT = 200, TOP = 16, BOTTOM = 48, MAX_TICKS = 24 };

/* ---- scales -------------------------------------------------------------------------------------------- */

typedef struct scale {
    double low, high; /* of values; of their logarithms where logarithmic */
    double from, to;  /* pixels */
    bool logarithmic;
} scale;

static bool drawable(double value, bool logarithmic)
{
    return isfinite(value) && (!logarithmic || value > 0);
}

static void widen(scale *s, double value)
{
    if (!drawable(value, s->logarithmic))
        return;
    double v = s->logarithmic ? log10(value) : value;
    s->low = v < s->low ? v : s->low;
    s->high = v > s->high ? v : s->high;
}

static scale scale_begin(bool logarithmic, double from, double to)
{
    return (scale){INFINITY, -INFINITY, from, to, logarithmic};
}

/* Room around what was seen; something to draw on when nothing was. */
static void scale_end(scale *s)
{
    if (!(s->low <= s->high))
        s->low = 0, s->high = 1;
    double margin = (s->high - s->low) * 0.05;
    if (!(margin > 0))
        margin = s->logarithmic ? 0.3 : fabs(s->high) > 0 ? fabs(s->high) * 0.1 : 1;
    if (s->logarithmic || s->low < 0 || s->low > margin)
        s->low -= margin;
    else
        s->low = 0;
    s->high += margin;
}

static double position(const scale *s, double value)
{
    double v = s->logarithmic ? log10(value) : value;
    return s->from + (v - s->low) / (s->high - s->low) * (s->to - s->from);
}

static size_t log_ticks(double low, double high, double *ticks, size_t room)
{
    static const double parts[] = {1, 2, 5};
    int first = (int)floor(log10(low)), last = (int)ceil(log10(high));
    size_t count = 0, step = last - first <= 3 ? 1 : 3, stride = 1;
    while (step == 3 && (size_t)(last - first) / stride + 1 > room)
        stride++;
    for (int e = first; e <= last; e += (int)stride)
        for (size_t p = 0; p < 3; p += step) {
            double tick = parts[p] * pow(10, e);
            if (tick >= low && tick <= high && count < room)
                ticks[count++] = tick;
        }
    return count;
}

size_t qc_plot_ticks(double low, double high, bool logarithmic, double *ticks, size_t room)
{
    static const double steps[] = {1, 2, 5, 10};
    if (!(high > low) || room == 0 || (logarithmic && !(low > 0)))
        return 0;
    if (logarithmic)
        return log_ticks(low, high, ticks, room);
    size_t wanted = room < 6 ? room : 6, count = 0;
    double rough = (high - low) / (double)wanted, power = pow(10, floor(log10(rough))), step = power;
    for (size_t i = 0; i < 4; i++) {
        step = steps[i] * power;
        if (step >= rough)
            break;
    }
    for (double k = ceil(low / step); k * step <= high + step * 1e-9 && count < room; k++)
        ticks[count++] = k * step == 0 ? 0 : k * step;
    return count;
}

static void scale_ticks(const scale *s, double *ticks, size_t *count)
{
    double low = s->logarithmic ? pow(10, s->low) : s->low,
           high = s->logarithmic ? pow(10, s->high) : s->high;
    *count = qc_plot_ticks(low, high, s->logarithmic, ticks, MAX_TICKS);
}

/* ---- elements ------------------------------------------------------------------------------------------ */

static void add_colour(qc_str *out, size_t index)
{
    qc_str_addf(out, "hsl(%.0f,65%%,42%%)", fmod((double)index * 137.508 + 210, 360));
}

static void add_text(qc_str *out, double x, double y, const char *attributes, const char *text)
{
    qc_str_addf(out, "<text x=\"%.1f\" y=\"%.1f\"%s>", x, y, attributes);
    qc_html_text(out, text);
    qc_str_add(out, "</text>\n");
}

static void add_number(qc_str *out, double x, double y, const char *attributes, double value)
{
    qc_str_addf(out, "<text x=\"%.1f\" y=\"%.1f\"%s>%.4g</text>\n", x, y, attributes, value);
}

static void add_line(qc_str *out, double x1, double y1, double x2, double y2, const char *attributes)
{
    qc_str_addf(
        out, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"%s />\n", x1, y1, x2, y2, attributes);
}

static void begin(qc_str *out, const char *title, int height)
{
    qc_str_addf(out, "<figure>\n<svg viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" role=\"img\">\n<title>",
        WIDTH, height, WIDTH, height);
    qc_html_text(out, title);
    qc_str_add(out, "</title>\n");
}

static void end(qc_str *out)
{
    qc_str_add(out, "</svg>\n</figure>\n");
}

static void add_axes(qc_str *out, const scale *x, const scale *y, const char *x_label, const char *y_label)
{
    double ticks[MAX_TICKS];
    size_t count;
    scale_ticks(x, ticks, &count);
    for (size_t i = 0; i < count; i++) {
        add_line(out, position(x, ticks[i]), y->to, position(x, ticks[i]), y->from, " class=\"grid\"");
        add_number(out, position(x, ticks[i]), y->from + 16, " text-anchor=\"middle\"", ticks[i]);
    }
    scale_ticks(y, ticks, &count);
    for (size_t i = 0; i < count; i++) {
        add_line(out, x->from, position(y, ticks[i]), x->to, position(y, ticks[i]), " class=\"grid\"");
        add_number(out, x->from - 6, position(y, ticks[i]) + 4, " text-anchor=\"end\"", ticks[i]);
    }
    add_line(out, x->from, y->from, x->to, y->from, " class=\"axis\"");
    add_line(out, x->from, y->from, x->from, y->to, " class=\"axis\"");
    add_text(out, (x->from + x->to) / 2, y->from + 38, " text-anchor=\"middle\"", x_label);
    qc_str_addf(out, "<g transform=\"translate(16 %.1f) rotate(-90)\">", (y->from + y->to) / 2);
    add_text(out, 0, 0, " text-anchor=\"middle\"", y_label);
    qc_str_add(out, "</g>\n");
}

/* Name and colour of every drawn thing, on the right. */
static void add_legend(qc_str *out, size_t index, const char *name)
{
    double y = TOP + 12 + (double)index * 16;
    qc_str_addf(
        out, "<rect x=\"%d\" y=\"%.1f\" width=\"10\" height=\"10\" fill=\"", WIDTH - RIGHT + 12, y - 9);
    add_colour(out, index);
    qc_str_add(out, "\" />\n");
    add_text(out, WIDTH - RIGHT + 28, y, "", name);
}

static int height_for(size_t legend)
{
    size_t wanted = TOP + BOTTOM + legend * 16;
    return wanted > HEIGHT ? (int)wanted : HEIGHT;
}

/* ---- drawings ------------------------------------------------------------------------------------------ */

void qc_plot_points(
    qc_str *out, const char *title, qc_plot_axis x, qc_plot_axis y, const qc_plot_point *points, size_t count)
{
    int height = height_for(count);
    scale h = scale_begin(x.logarithmic, LEFT, WIDTH - RIGHT),
          v = scale_begin(y.logarithmic, height - BOTTOM, TOP);
    for (size_t i = 0; i < count; i++) {
        if (!drawable(points[i].x, x.logarithmic) || !drawable(points[i].y, y.logarithmic))
            continue;
        widen(&h, points[i].x);
        widen(&v, points[i].y);
    }
    scale_end(&h);
    scale_end(&v);
    begin(out, title, height);
    add_axes(out, &h, &v, x.label, y.label);
    for (size_t i = 0; i < count; i++) {
        const qc_plot_point *p = &points[i];
        if (!drawable(p->x, x.logarithmic) || !drawable(p->y, y.logarithmic))
            continue;
        double px = position(&h, p->x), low = p->y - p->error, high = p->y + p->error;
        if (drawable(low, y.logarithmic) && isfinite(high))
            add_line(out, px, position(&v, low), px, position(&v, high), " class=\"axis\"");
        qc_str_addf(out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"5\" fill=\"", px, position(&v, p->y));
        add_colour(out, i);
        qc_str_add(out, "\"><title>");
        qc_html_text(out, p->name);
        qc_str_addf(out, ": %.6g, %.6g</title></circle>\n", p->x, p->y);
        add_legend(out, i, p->name);
    }
    end(out);
}

void qc_plot_lines(qc_str *out, const char *title, qc_plot_axis x, qc_plot_axis y, const qc_plot_line *lines,
    size_t line_count, size_t count)
{
    int height = height_for(line_count);
    scale h = scale_begin(false, LEFT, WIDTH - RIGHT), v = scale_begin(y.logarithmic, height - BOTTOM, TOP);
    for (size_t i = 0; i < line_count; i++)
        for (size_t k = 0; k < count; k++)
            widen(&v, lines[i].values[k]);
    widen(&h, 0);
    widen(&h, count > 1 ? (double)(count - 1) : 1);
    scale_end(&h);
    scale_end(&v);
    begin(out, title, height);
    add_axes(out, &h, &v, x.label, y.label);
    for (size_t i = 0; i < line_count; i++) {
        qc_str_add(out, "<polyline fill=\"none\" stroke-width=\"1.6\" stroke=\"");
        add_colour(out, i);
        qc_str_add(out, "\" points=\"");
        for (size_t k = 0; k < count; k++)
            if (drawable(lines[i].values[k], y.logarithmic))
                qc_str_addf(out, "%.1f,%.1f ", position(&h, (double)k), position(&v, lines[i].values[k]));
        qc_str_add(out, "\"><title>");
        qc_html_text(out, lines[i].name);
        qc_str_add(out, "</title></polyline>\n");
        add_legend(out, i, lines[i].name);
    }
    end(out);
}

void qc_plot_map(qc_str *out, const char *title, const char *row_label, const char *column_label,
    const double *cells, size_t rows, size_t columns)
{
    double low = INFINITY, high = -INFINITY, room = WIDTH - LEFT - 20;
    for (size_t i = 0; i < rows * columns; i++)
        if (isfinite(cells[i])) {
            low = cells[i] < low ? cells[i] : low;
            high = cells[i] > high ? cells[i] : high;
        }
    double width = columns ? room / (double)columns : room, size = width > 28 ? 28 : width;
    double cell_height = size < 12 ? 12 : size > 20 ? 20 : size;
    int height = TOP + BOTTOM + (int)(cell_height * (double)rows + 1);
    begin(out, title, height);
    for (size_t r = 0; r < rows; r++) {
        double y = TOP + (double)r * cell_height;
        if (rows <= 16 || r % 4 == 0)
            qc_str_addf(out, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%s %zu</text>\n", LEFT - 6,
                y + cell_height / 2 + 4, row_label, r);
        for (size_t c = 0; c < columns; c++) {
            double value = cells[r * columns + c], shade = high > low ? (value - low) / (high - low) : 0.5;
            if (!isfinite(value))
                continue;
            qc_str_addf(out,
                "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" "
                "fill=\"hsl(212,70%%,%.0f%%)\"><title>%s %zu, "
                "%s %zu: %.6g</title></rect>\n",
                LEFT + (double)c * size, y, size, cell_height, 94 - 62 * shade, row_label, r, column_label, c,
                value);
        }
    }
    double y = TOP + cell_height * (double)rows;
    qc_str_addf(out, "<text x=\"%d\" y=\"%.1f\">%s 0 to %zu; ", LEFT, y + 18, column_label,
        columns ? columns - 1 : 0);
    if (low <= high)
        qc_str_addf(out, "light %.4g, dark %.4g", low, high);
    qc_str_add(out, "</text>\n");
    end(out);
}

void qc_plot_bars(qc_str *out, const char *title, const char *label, const qc_plot_bar *bars, size_t count)
{
    enum { NAMES = 420, BAR = 16 };
    int height = TOP + BOTTOM + (int)count * BAR;
    scale h = scale_begin(false, NAMES, WIDTH - 20), v = {0, 1, height - BOTTOM, TOP, false};
    widen(&h, 0);
    for (size_t i = 0; i < count; i++)
        widen(&h, bars[i].value);
    scale_end(&h);
    begin(out, title, height);
    double ticks[MAX_TICKS];
    size_t tick_count;
    scale_ticks(&h, ticks, &tick_count);
    for (size_t i = 0; i < tick_count; i++) {
        add_line(out, position(&h, ticks[i]), v.to, position(&h, ticks[i]), v.from, " class=\"grid\"");
        add_number(out, position(&h, ticks[i]), v.from + 16, " text-anchor=\"middle\"", ticks[i]);
    }
    add_text(out, (h.from + h.to) / 2, v.from + 38, " text-anchor=\"middle\"", label);
    for (size_t i = 0; i < count; i++) {
        double y = TOP + (double)i * BAR;
        add_text(out, NAMES - 6, y + 12, " text-anchor=\"end\"", bars[i].name);
        if (!drawable(bars[i].value, false))
            continue;
        qc_str_addf(out,
            "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%d\" "
            "fill=\"hsl(212,65%%,42%%)\"><title>%.6g</title></rect>\n",
            position(&h, 0), y + 2, fabs(position(&h, bars[i].value) - position(&h, 0)), BAR - 4,
            bars[i].value);
    }
    add_line(out, position(&h, 0), v.from, position(&h, 0), v.to, " class=\"axis\"");
    end(out);
}
