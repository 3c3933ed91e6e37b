/* SPDX-License-Identifier: MIT
 *
 * qc_check.c - reads checkpoints: lists one, compares two, measures what quantization did to the weights.
 */
#include <stdio.h>
#include <string.h>

#include "ir/support/io.h"
#include "runtime/check/attention_stats.h"
#include "runtime/check/check.h"
#include "tools/cli.h"

static const qc_cli_option options[] = {
    {"diff", 0, NULL, "compare two checkpoints: exit status 1 where they differ, each difference named",
        NULL},
    {"only", 0, "PARTS", "what --diff compares: some of tensors,config,files (default: all)", NULL},
    {"baseline", 0, "MODEL",
        "how far the weights are from those of MODEL, which DIR was made of: worst first", NULL},
    {"stats", 0, "FILE",
        "what statistics that qc-opt --save-stats kept say: of experts, how many tokens chose each; of q, k "
        "and v of attention, amax of each head before and after R3, outliers, the granularity that each type "
        "of codes asks for, and why",
        NULL},
    {"every-expert", 0, NULL,
        "a line for each expert, in place of one for those of a layer that are alike; --json always has each",
        NULL},
    {"json", 0, NULL, "print one JSON object", NULL},
    {"html", 0, "FILE", "write a page with plots in place of text (not of --diff)", NULL},
    {"target", 0, "vllm", "what that loader would refuse in DIR, or read as something else", NULL},
    {"threads", 0, "N", "threads of --baseline (default: one a core)", NULL},
    {"progress", 0, "auto|never|always", "a progress line on stderr (auto: on a terminal)", NULL},
};

static const qc_cli_tool tool = {
    .name = "qc-check",
    .usage = "[options] DIR | --baseline=MODEL DIR | --diff A B | --stats=FILE",
    .summary =
        "Reads checkpoints. With one directory (or one .safetensors file): lists its tensors, says how "
        "they are\nquantized and what contradicts that, or what a loader would refuse. With --baseline: how "
        "far its weights\nare from those of another. With --diff: compares two (of two files, the tensors). "
        "With "
        "--stats: explains\nstatistics of a calibration.",
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .footer = "tensors: names, element types, shapes, elements (how many differ, and by how much)\n"
              "config:  the values of config.json, by path\n"
              "files:   everything else byte for byte; names, sizes and headers of weight files\n"
              "B may be a golden: golden.json with digests, and small.golden, in place of the weights.",
};

/* False after a usage error. */
static bool read_parts(qc_cli *cli, qc_check_diff_options *parts)
{
    const char *text = qc_cli_text(cli, "only", NULL);
    parts->tensors = parts->config = parts->files = !text;
    while (text && *text) {
        size_t length = strcspn(text, ",");
        if (length == 7 && strncmp(text, "tensors", 7) == 0)
            parts->tensors = true;
        else if (length == 6 && strncmp(text, "config", 6) == 0)
            parts->config = true;
        else if (length == 5 && strncmp(text, "files", 5) == 0)
            parts->files = true;
        else
            break;
        text += length + (text[length] == ',');
    }
    if (!text || (!*text && (parts->tensors || parts->config || parts->files)))
        return true;
    qc_cli_usage_error(
        cli, "--only takes some of tensors,config,files, not '%s'", qc_cli_text(cli, "only", ""));
    return false;
}

static qc_status write_page(qc_diag *diag, const char *path, const qc_str *page)
{
    return qc_write_file(diag, path, page->data, page->length);
}

/* Can the page be written? Asked before the work. */
static qc_status check_page(qc_diag *diag, const char *path)
{
    if (path && qc_is_directory(path))
        return qc_error(diag, path, "is a directory");
    return path ? qc_check_parent(diag, path) : QC_OK;
}

/* Prints what statistics say; the exit status. */
static int explain(qc_cli *cli, const char *path)
{
    qc_diag diag;
    qc_str out;
    qc_attention_stats stats;
    const char *html = qc_cli_text(cli, "html", NULL);
    qc_diag_init(&diag, &cli->arena, qc_cli_diagnostic, cli);
    qc_str_init(&out, &cli->arena);
    qc_status status = check_page(&diag, html);
    if (status == QC_OK)
        status = qc_attention_stats_read(&diag, &cli->arena, path, &stats);
    if (status == QC_OK && html) {
        qc_attention_stats_print_html(&cli->arena, &stats, &out);
        status = write_page(&diag, html, &out);
        qc_str_clear(&out);
    }
    if (status == QC_OK && qc_cli_has(cli, "json"))
        qc_attention_stats_print_json(&cli->arena, &stats, &out);
    else if (status == QC_OK && !html)
        qc_attention_stats_print_text(&cli->arena, &stats, &out);
    fwrite(out.data, 1, out.length, stdout);
    qc_str_fini(&out);
    return status == QC_OK ? QC_EXIT_OK : QC_EXIT_FAILED;
}

/* Makes a page of the report in `out`, which stays if it was asked for. */
static qc_status make_page(qc_cli *cli, qc_diag *diag, const char *path, qc_str *out)
{
    qc_str page;
    qc_str_init(&page, &cli->arena);
    qc_status status = qc_check_page(diag, &cli->arena, out->data, out->length, &page);
    if (status == QC_OK)
        status = write_page(diag, path, &page);
    qc_str_fini(&page);
    if (!qc_cli_has(cli, "json"))
        qc_str_clear(out);
    return status;
}

/* Prints what there is to say; the exit status. */
static int check(qc_cli *cli, bool diff, const qc_check_diff_options *parts, int threads)
{
    qc_diag diag;
    qc_diag_init(&diag, &cli->arena, qc_cli_diagnostic, cli);
    qc_str out;
    qc_str_init(&out, &cli->arena);
    size_t count = 0;
    const char *const *names = cli->positionals.items;
    const char *baseline = qc_cli_text(cli, "baseline", NULL), *html = qc_cli_text(cli, "html", NULL);
    qc_check_baseline_options errors = {.json = parts->json || html,
        .every_expert = parts->every_expert,
        .threads = threads,
        .progress = parts->progress,
        .progress_user = parts->progress_user};
    const qc_check_list_options list = {.json = parts->json || html,
        .every_expert = parts->every_expert,
        .target = qc_cli_text(cli, "target", NULL)};
    qc_status status = check_page(&diag, html);
    if (status == QC_OK)
        status = diff       ? qc_check_diff(&diag, &cli->arena, names[0], names[1], parts, &out, &count)
                 : baseline ? qc_check_baseline(&diag, &cli->arena, names[0], baseline, &errors, &out, &count)
                            : qc_check_list(&diag, &cli->arena, names[0], &list, &out, &count);
    if (status == QC_OK && html)
        status = make_page(cli, &diag, html, &out);
    fwrite(out.data, 1, out.length, stdout);
    qc_str_fini(&out);
    return status == QC_OK && count == 0 ? QC_EXIT_OK : QC_EXIT_FAILED;
}

/* The exit status of --stats=FILE. */
static int run_stats(qc_cli *cli)
{
    static const char *const others[] = {"diff", "only", "baseline", "target", "threads", "every-expert"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (qc_cli_has(cli, others[i]))
            return qc_cli_usage_error(cli, "--stats and --%s are two questions", others[i]);
    if (cli->positionals.count)
        return qc_cli_usage_error(cli, "--stats=FILE takes no checkpoint");
    return explain(cli, qc_cli_text(cli, "stats", NULL));
}

static int run(qc_cli *cli)
{
    bool diff = qc_cli_has(cli, "diff"), baseline = qc_cli_has(cli, "baseline");
    qc_check_diff_options parts = {.every_expert = qc_cli_has(cli, "every-expert"),
        .json = qc_cli_has(cli, "json"),
        .progress = qc_cli_progress,
        .progress_user = cli};
    int64_t threads = 0;
    const char *progress = qc_cli_text(cli, "progress", "auto");
    cli->progress = strcmp(progress, "auto") == 0 ? -1 : strcmp(progress, "always") == 0;
    if (!read_parts(cli, &parts) || !qc_cli_int(cli, "threads", 1, 4096, &threads))
        return QC_EXIT_USAGE;
    if (qc_cli_has(cli, "stats"))
        return run_stats(cli);
    if (diff && qc_cli_has(cli, "html"))
        return qc_cli_usage_error(cli, "--html does not go with --diff");
    if (!diff && qc_cli_has(cli, "only"))
        return qc_cli_usage_error(cli, "--only goes with --diff");
    if (!baseline && qc_cli_has(cli, "threads"))
        return qc_cli_usage_error(cli, "--threads goes with --baseline");
    if ((diff || baseline) && qc_cli_has(cli, "target"))
        return qc_cli_usage_error(cli, "--target goes with a listing");
    if (diff && baseline)
        return qc_cli_usage_error(cli, "--diff and --baseline are two questions");
    if (cli->positionals.count != (diff ? 2 : 1))
        return qc_cli_usage_error(cli,
            diff ? "--diff takes two checkpoints, not %zu" : "one checkpoint is expected, not %zu",
            cli->positionals.count);
    return check(cli, diff, &parts, (int)threads);
}

int main(int argc, char **argv)
{
    qc_cli_limit_spinning(argv);
    qc_cli cli;
    int status = qc_cli_parse(&cli, &tool, argc, argv);
    return qc_cli_fini(&cli, status >= 0 ? status : run(&cli));
}
