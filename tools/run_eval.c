/* SPDX-License-Identifier: MIT
 *
 * run_eval.c - see run_eval.h. The work is done in runtime/tasks.
 */
#include "tools/run_eval.h"

#include <inttypes.h>

#include "ir/ctx.h"
#include "ir/support/io.h"
#include "runtime/tasks/task_run.h"

static qc_status answer(
    qc_cli *cli, const char *path, const qc_model_options *options, qc_model *model, qc_task *task)
{
    qc_task_run_report report;
    qc_task_run_options run = {.add_bos = qc_cli_has(cli, "add-bos"),
        .chat = qc_cli_has(cli, "chat"),
        .threads = options->threads,
        .progress = qc_cli_progress,
        .progress_user = cli};
    if (qc_model_open(model->ctx, path, options, model) || qc_model_load_tokenizer(model, options) ||
        qc_model_load_weights(model, options) || qc_task_run(model, task, &run, &cli->arena, &report))
        return QC_ERROR;
    if (task->kind == QC_TASK_GENERATE)
        qc_cli_say(cli, "%zu questions in %.2f s: prompts share %zu tokens, %" PRIu64 " tokens generated",
            task->doc_count, report.seconds, report.shared_tokens, report.generated_tokens);
    else
        qc_cli_say(cli, "%zu questions in %.2f s: prompts share %zu tokens", task->doc_count, report.seconds,
            report.shared_tokens);
    return QC_OK;
}

static bool read_options(qc_cli *cli, const char **path, qc_task_options *o)
{
    int64_t limit = 0, most = 0, seed = 0;
    *o = (qc_task_options){.shots = -1, .shots_path = qc_cli_text(cli, "fewshot-file", NULL)};
    *path = qc_cli_text(cli, "task", NULL);
    if (!*path)
        return qc_cli_usage_error(cli, "eval needs --task"), false;
    if (!qc_cli_int(cli, "fewshot", 0, 1 << 20, &o->shots) ||
        !qc_cli_int(cli, "limit", 1, INT32_MAX, &limit) ||
        !qc_cli_int(cli, "max-tokens", 1, INT32_MAX, &most) || !qc_cli_int(cli, "seed", 0, INT64_MAX, &seed))
        return false;
    static const char *const running[] = {"add-bos", "chat", "max-tokens", "seed"};
    for (size_t i = 0; i < sizeof running / sizeof *running; i++)
        if (qc_cli_has(cli, "stored") && qc_cli_has(cli, running[i])) {
            qc_cli_usage_error(cli, "--%s does nothing to --stored answers", running[i]);
            return false;
        }
    o->limit = (size_t)limit;
    o->max_tokens = (size_t)most;
    o->seed = (uint64_t)seed;
    return true;
}

int run_eval(qc_cli *cli, qc_ctx *ctx, const char *path, const qc_model_options *options, qc_str *out)
{
    qc_diag *diag = qc_ctx_diag(ctx);
    qc_task_options o;
    qc_task task;
    qc_model model = {.ctx = ctx};
    const char *file, *samples = qc_cli_text(cli, "log-samples", NULL);
    bool stored = qc_cli_has(cli, "stored");
    if (!read_options(cli, &file, &o))
        return QC_EXIT_USAGE;
    qc_status status = QC_OK;
    if ((samples && qc_check_parent(diag, samples)) || qc_task_read(diag, &cli->arena, file, &o, &task))
        return QC_EXIT_FAILED;
    if (stored && !task.logged)
        status = qc_error(diag, file, "it holds no answers: --stored scores samples that were logged");
    else if (!stored)
        status = answer(cli, path, options, &model, &task);
    if (status == QC_OK)
        status = qc_task_score(diag, &cli->arena, &task);
    if (status == QC_OK && samples) {
        qc_task_print_samples(&task, &cli->arena, out);
        status = qc_write_file(diag, samples, out->data, out->length);
        qc_str_clear(out);
    }
    if (status == QC_OK && qc_cli_has(cli, "json"))
        qc_task_print_json(&task, stored ? NULL : path, &cli->arena, out);
    else if (status == QC_OK)
        qc_task_print_table(&task, &cli->arena, out);
    qc_model_close(&model);
    return status == QC_OK ? QC_EXIT_OK : QC_EXIT_FAILED;
}
