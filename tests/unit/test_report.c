/* SPDX-License-Identifier: MIT
 *
 * test_report.c - pages of HTML: what is escaped, marks of axes, and that drawings take any numbers.
 */
#include "tests/unit/check.h"

#include "runtime/report/html.h"
#include "runtime/report/plot.h"

static qc_arena arena;

static const char *escaped(const char *text)
{
    qc_str out;
    qc_str_init(&out, &arena);
    qc_html_text(&out, text);
    const char *result = qc_arena_strdup(&arena, out.data);
    qc_str_fini(&out);
    return result;
}

static void test_escapes(void)
{
    CHECK_STR(escaped("a<b> & \"c\" 'd'"), "a&lt;b&gt; &amp; &quot;c&quot; &#39;d&#39;");
    CHECK_STR(escaped("</script><!-- ]]>"), "&lt;/script&gt;&lt;!-- ]]&gt;");
    CHECK_STR(escaped("gr\xc3\xbc\xc3\x9f\n\t"), "gr\xc3\xbc\xc3\x9f\n\t");
    CHECK_STR(escaped("\x01\x7f"), "\xef\xbf\xbd\xef\xbf\xbd");
    CHECK_STR(escaped("x\xff\xc3"), "x\xef\xbf\xbd\xef\xbf\xbd");
    CHECK_STR(escaped("\xef\xbf\xbe"), "\xef\xbf\xbd");
    CHECK_STR(escaped("\xed\xa0\x80"), "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"); /* a lone surrogate */
}

static void check_ticks(double low, double high, bool logarithmic, const double *wanted, size_t count)
{
    double ticks[24];
    size_t got = qc_plot_ticks(low, high, logarithmic, ticks, 24);
    CHECK_INT(got, count);
    for (size_t i = 0; i < got && i < count; i++)
        CHECK_NEAR(ticks[i], wanted[i], fabs(wanted[i]) * 1e-12);
}

static void test_ticks(void)
{
    check_ticks(0, 10, false, (double[]){0, 2, 4, 6, 8, 10}, 6);
    check_ticks(-0.013, 0.031, false, (double[]){-0.01, 0, 0.01, 0.02, 0.03}, 5);
    check_ticks(97, 103, false, (double[]){97, 98, 99, 100, 101, 102, 103}, 7);
    check_ticks(0.3, 30, true, (double[]){0.5, 1, 2, 5, 10, 20}, 6);
    check_ticks(1e-6, 1e3, true, (double[]){1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1, 10, 100, 1000}, 10);
    check_ticks(1, 1, false, NULL, 0);
    check_ticks(0, 1, true, NULL, 0);
    double few[3];
    size_t got = qc_plot_ticks(1e-30, 1e30, true, few, 3);
    CHECK(got >= 2 && got <= 3);
}

/* No number that is none reaches the page. */
static void test_numbers(void)
{
    const double bad[] = {NAN, INFINITY, -INFINITY, 0, -1, 1e-300, 1e300};
    qc_plot_point points[7];
    qc_plot_bar bars[7];
    qc_plot_line line = {"<line>", bad};
    qc_plot_axis linear = {"x", false}, logarithmic = {"y", true};
    qc_str out;
    qc_str_init(&out, &arena);
    for (size_t i = 0; i < 7; i++) {
        points[i] = (qc_plot_point){"a&b", bad[i], bad[6 - i], bad[i]};
        bars[i] = (qc_plot_bar){"\"bar\"", bad[i]};
    }
    qc_plot_points(&out, "t", linear, linear, points, 7);
    qc_plot_points(&out, "t", logarithmic, logarithmic, points, 7);
    qc_plot_points(&out, "t", linear, logarithmic, points, 0);
    qc_plot_lines(&out, "t", linear, logarithmic, &line, 1, 7);
    qc_plot_lines(&out, "t", linear, linear, &line, 1, 1);
    qc_plot_map(&out, "t", "row", "column", bad, 1, 7);
    qc_plot_map(&out, "t", "row", "column", bad, 0, 0);
    qc_plot_bars(&out, "t", "b", bars, 7);
    qc_plot_bars(&out, "t", "b", bars, 0);
    CHECK(!strstr(out.data, "\"nan") && !strstr(out.data, "\"-nan") && !strstr(out.data, "\"inf") &&
          !strstr(out.data, "\"-inf") && !strstr(out.data, ",nan") && !strstr(out.data, ",inf"));
    CHECK(!strstr(out.data, "<line>") && !strstr(out.data, "a&b") && strstr(out.data, "a&amp;b"));
    qc_str_fini(&out);
}

int main(void)
{
    qc_arena_init(&arena, NULL);
    RUN(test_escapes);
    RUN(test_ticks);
    RUN(test_numbers);
    qc_arena_fini(&arena);
    return check_done();
}
