/* SPDX-License-Identifier: MIT
 *
 * run_compare.c - the command line of `qc-run compare` as options of runtime/compare.
 */
#include "tools/run_compare.h"

#include "ir/ctx.h"
#include "ir/support/io.h"
#include "runtime/compare/compare.h"

static void say(void *user, const char *text)
{
    qc_cli_say(user, "%s", text);
}

/* As a shell would read it back. */
static void add_word(qc_str *out, const char *prefix, const char *text)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:=@%+,";
    qc_str_addf(out, " %s", prefix);
    if (text[0] && text[strspn(text, plain)] == '\0') {
        qc_str_add(out, text);
        return;
    }
    qc_str_add_char(out, '\'');
    for (; *text; text++)
        if (*text == '\'')
            qc_str_add(out, "'\\''");
        else
            qc_str_add_char(out, *text);
    qc_str_add_char(out, '\'');
}

/* The command line that makes these numbers: options that change none of them are left out. */
static const char *command_line(qc_cli *cli, const char *model)
{
    static const char *const without[] = {"json", "markdown", "html", "threads", "progress"};
    qc_str text;
    qc_str_init(&text, &cli->arena);
    qc_str_add(&text, "qc-run compare");
    add_word(&text, "", model);
    for (size_t i = 0; i < cli->args.count; i++) {
        const qc_cli_arg *arg = &cli->args.items[i];
        bool leave = false;
        for (size_t k = 0; k < sizeof without / sizeof *without; k++)
            leave |= strcmp(arg->option->name, without[k]) == 0;
        if (!leave)
            add_word(&text, qc_arena_printf(&cli->arena, "--%s=", arg->option->name), arg->text);
    }
    const char *line = qc_arena_strndup(&cli->arena, text.data, text.length);
    qc_str_fini(&text);
    return line;
}

/* False after a usage error. */
static bool read_options(qc_cli *cli, qc_compare_options *o)
{
    int64_t samples = 0, tokens = 0, seed = 0;
    static const char *const needed[] = {"recipes", "data"};
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++)
        if (!qc_cli_has(cli, needed[i]))
            return qc_cli_usage_error(cli, "compare needs --%s", needed[i]), false;
    o->recipes = qc_cli_text(cli, "recipes", NULL);
    o->data = qc_cli_text(cli, "data", NULL);
    o->calib = qc_cli_text(cli, "calib", NULL);
    o->stats = qc_cli_text(cli, "stats", NULL);
    o->against = qc_cli_text(cli, "against", NULL);
    bool data = o->calib && strcmp(o->calib, "none") != 0;
    if (o->calib && o->stats)
        return qc_cli_usage_error(cli, "--stats takes the place of --calib: give one of them"), false;
    if (!data && (qc_cli_has(cli, "calib-samples") || qc_cli_has(cli, "calib-seqlen")))
        return qc_cli_usage_error(
                   cli, "--calib-samples and --calib-seqlen do nothing without calibration data (--calib)"),
               false;
    if (qc_cli_has(cli, "seed") && !(data && strcmp(o->calib, "random") == 0))
        return qc_cli_usage_error(cli, "--seed does nothing without --calib=random"), false;
    if (qc_cli_has(cli, "json") && qc_cli_has(cli, "markdown"))
        return qc_cli_usage_error(cli, "--json and --markdown: give one of them"), false;
    if (!qc_cli_int(cli, "context", 2, INT32_MAX, &o->context) ||
        !qc_cli_int(cli, "calib-samples", 1, INT32_MAX, &samples) ||
        !qc_cli_int(cli, "calib-seqlen", 1, INT32_MAX, &tokens) ||
        !qc_cli_int(cli, "seed", 0, INT64_MAX, &seed))
        return false;
    o->calib_samples = (size_t)samples;
    o->calib_tokens = (size_t)tokens;
    o->seed = (uint64_t)seed;
    return true;
}

static qc_status write_page(qc_cli *cli, qc_ctx *ctx, const char *path, const qc_compare_result *result,
    const qc_compare_about *about)
{
    qc_str page;
    qc_str_init(&page, &cli->arena);
    qc_compare_print_html(result, about, &cli->arena, &page);
    qc_status status = qc_write_file(qc_ctx_diag(ctx), path, page.data, page.length);
    qc_str_fini(&page);
    return status;
}

int run_compare(qc_cli *cli, qc_ctx *ctx, const char *model, const qc_model_options *options, qc_str *out)
{
    qc_compare_result result;
    qc_compare_options o = {
        .model = model, .run = *options, .progress = qc_cli_progress, .say = say, .user = cli};
    qc_compare_about about = {command_line(cli, model), QC_VERSION, &o};
    const char *html = qc_cli_text(cli, "html", NULL);
    if (!read_options(cli, &o))
        return QC_EXIT_USAGE;
    if (html && qc_is_directory(html))
        return qc_ctx_error(ctx, html, "is a directory"), QC_EXIT_FAILED;
    if ((html && qc_check_parent(qc_ctx_diag(ctx), html) != QC_OK) ||
        qc_compare_run(ctx, &cli->arena, &o, &result) != QC_OK ||
        (html && write_page(cli, ctx, html, &result, &about) != QC_OK))
        return QC_EXIT_FAILED;
    if (qc_cli_has(cli, "json"))
        qc_compare_print_json(&result, &about, &cli->arena, out);
    else if (qc_cli_has(cli, "markdown"))
        qc_compare_print_markdown(&result, &about, out);
    else
        qc_compare_print_text(&result, &about, out);
    return QC_EXIT_OK;
}
