/* SPDX-License-Identifier: MIT
 *
 * html.c - see html.h.
 */
#include "runtime/report/html.h"

static const char style[] =
    "body{font:15px/1.45 system-ui,sans-serif;margin:2em auto;max-width:64em;padding:0 1em;color:#1c2430;"
    "background:#fff}\n"
    "h1{font-size:1.5em}h2{font-size:1.15em;margin-top:2em}\n"
    "table{border-collapse:collapse;display:block;overflow-x:auto}\n"
    "th,td{padding:.25em .7em;border-bottom:1px solid #d5dae1;text-align:left;white-space:nowrap}\n"
    "td.n{text-align:right;font-variant-numeric:tabular-nums}\n"
    "pre{background:#f3f5f8;padding:.7em;overflow-x:auto;white-space:pre-wrap}\n"
    "svg{max-width:100%;height:auto}\n"
    "svg text{font:12px system-ui,sans-serif;fill:#1c2430}\n"
    "svg .axis{stroke:#8892a0;fill:none}svg .grid{stroke:#e4e8ee}\n";

void qc_html_text(qc_str *out, const char *text)
{
    static const char replacement[] = "\xef\xbf\xbd";
    size_t room = strlen(text);
    for (const unsigned char *at = (const unsigned char *)text; room > 0;) {
        int step = qc_utf8_length(at, room);
        if (*at == '&')
            qc_str_add(out, "&amp;");
        else if (*at == '<')
            qc_str_add(out, "&lt;");
        else if (*at == '>')
            qc_str_add(out, "&gt;");
        else if (*at == '"')
            qc_str_add(out, "&quot;");
        else if (*at == '\'')
            qc_str_add(out, "&#39;");
        else if (step == 0 || (*at < 0x20 && *at != '\n' && *at != '\t') || *at == 0x7f)
            qc_str_add(out, replacement);
        else if (step == 3 && at[0] == 0xef && at[1] == 0xbf &&
                 at[2] >= 0xbe) /* U+FFFE and U+FFFF are no XML */
            qc_str_add(out, replacement);
        else
            qc_str_add_bytes(out, (const char *)at, (size_t)step);
        step = step ? step : 1;
        at += step;
        room -= (size_t)step;
    }
}

static void add_element(qc_str *out, const char *name, const char *attributes, const char *text)
{
    qc_str_addf(out, "<%s%s>", name, attributes);
    qc_html_text(out, text);
    qc_str_addf(out, "</%s>", name);
}

void qc_html_begin(qc_str *out, const char *title)
{
    qc_str_add(out, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\" />\n");
    qc_str_add(out, "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\" />\n");
    add_element(out, "title", "", title);
    qc_str_addf(out, "\n<style>\n%s</style>\n</head>\n<body>\n", style);
    qc_html_heading(out, 1, title);
}

void qc_html_end(qc_str *out)
{
    qc_str_add(out, "</body>\n</html>\n");
}

void qc_html_heading(qc_str *out, int level, const char *text)
{
    add_element(out, level <= 1 ? "h1" : level == 2 ? "h2" : "h3", "", text);
    qc_str_add_char(out, '\n');
}

void qc_html_paragraph(qc_str *out, const char *text)
{
    add_element(out, "p", "", text);
    qc_str_add_char(out, '\n');
}

void qc_html_code(qc_str *out, const char *text)
{
    add_element(out, "pre", "", text);
    qc_str_add_char(out, '\n');
}

void qc_html_table_begin(qc_str *out, const char *const *heads, size_t count)
{
    qc_str_add(out, "<table>\n<thead><tr>");
    for (size_t i = 0; i < count; i++)
        add_element(out, "th", "", heads[i]);
    qc_str_add(out, "</tr></thead>\n<tbody>\n");
}

void qc_html_row_begin(qc_str *out)
{
    qc_str_add(out, "<tr>");
}

void qc_html_cell(qc_str *out, bool number, const char *text)
{
    add_element(out, "td", number ? " class=\"n\"" : "", text);
}

void qc_html_row_end(qc_str *out)
{
    qc_str_add(out, "</tr>\n");
}

void qc_html_table_end(qc_str *out)
{
    qc_str_add(out, "</tbody>\n</table>\n");
}
