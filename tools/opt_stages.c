/* SPDX-License-Identifier: MIT
 *
 * opt_stages.c - what the command line asks for, as a pipeline: the user's passes in their order, then the stages that
 * the output implies (observers, calibration, export). Stages are passes of the registry, so --dump-pipeline shows them
 * and --pipeline accepts them.
 */
#include <unistd.h>

#include "frontends/text/dataset.h"
#include "ir/ctx.h"
#include "ir/support/io.h"
#include "passes/experts.h"
#include "runtime/calibrate.h"
#include "runtime/check/allow.h"
#include "runtime/check/check.h"
#include "runtime/check/expert_usage.h"
#include "runtime/export/compressed_tensors/export.h"
#include "runtime/model.h"
#include "runtime/requantization.h"
#include "tools/qc_opt.h"

enum { DEFAULT_SAMPLES = 512, DEFAULT_RANDOM_TOKENS = 512 };

/* What --collect knows. */
static const char collected[] = "amax@R3";

/* ---- output -------------------------------------------------------------------------------------------- */

/* --allow: each a rule that there is. */
static bool read_allowed(opt_job *job)
{
    qc_cli *cli = job->cli;
    const char **rules = QC_NEW_ARRAY(&cli->arena, const char *, cli->args.count + 1);
    job->allowed = (qc_allowed){.rules = rules};
    for (size_t i = 0; i < cli->args.count; i++) {
        const qc_cli_arg *arg = &cli->args.items[i];
        if (strcmp(arg->option->name, "allow") != 0)
            continue;
        if (!qc_target_rule_find(arg->text)) {
            const char *known = "";
            const qc_target_rule *rule;
            for (size_t k = 0; (rule = qc_target_rule_at(k)); k++)
                known = qc_arena_printf(&cli->arena, "%s%s%s", known, k ? ", " : "", rule->name);
            qc_cli_usage_error(cli, "--allow=%s: no such rule; there are %s", arg->text, known);
            return false;
        }
        rules[job->allowed.count++] = arg->text;
    }
    return true;
}

bool opt_choose_output(opt_job *job)
{
    qc_cli *cli = job->cli;
    const char *emit = qc_cli_text(cli, "emit", NULL), *path = qc_cli_text(cli, "output", NULL);
    const char *target = qc_cli_text(cli, "target", "vllm");
    job->output_path = path;
    if (strcmp(target, "vllm") != 0) {
        qc_cli_usage_error(cli, "--target=%s: this version writes for vllm only", target);
        return false;
    }
    if (!read_allowed(job))
        return false;
    bool text = path && (qc_ends_with(path, ".qc") || !strcmp(path, "-"));
    if (emit && strcmp(emit, "ir") != 0 && strcmp(emit, "checkpoint") != 0) {
        qc_cli_usage_error(cli, "--emit=%s: ir or checkpoint", emit);
        return false;
    }
    if (emit)
        text = !strcmp(emit, "ir");
    if (path && qc_ends_with(path, ".onnx")) {
        qc_cli_usage_error(cli, "%s: this version does not write ONNX", path);
        return false;
    }
    if (!path || !strcmp(path, "-"))
        job->output = OPT_OUTPUT_STDOUT;
    else
        job->output = text ? OPT_OUTPUT_TEXT : OPT_OUTPUT_CHECKPOINT;
    if (emit && !text && job->output == OPT_OUTPUT_STDOUT) {
        qc_cli_usage_error(cli, "a checkpoint needs -o DIR");
        return false;
    }
    return true;
}

bool opt_read_numbers(opt_job *job)
{
    qc_cli *cli = job->cli;
    job->samples = DEFAULT_SAMPLES;
    return qc_cli_int(cli, "threads", 0, 4096, &job->threads) &&
           qc_cli_int(cli, "calib-samples", 1, INT32_MAX, &job->samples) &&
           qc_cli_int(cli, "calib-seqlen", 1, INT32_MAX, &job->tokens) &&
           qc_cli_int(cli, "seed", 0, INT64_MAX, &job->seed) &&
           qc_cli_size(cli, "max-memory", &job->max_memory_bytes) &&
           qc_cli_size(cli, "max-shard-size", &job->max_shard_size_bytes);
}

/* `option` says nothing unless one of the others is there. */
static bool needs(qc_cli *cli, const char *option, bool present, const char *needed)
{
    if (qc_cli_has(cli, option) && !present) {
        qc_cli_usage_error(cli, "--%s does nothing without %s", option, needed);
        return false;
    }
    return true;
}

/* all or routed, with or without options in braces. */
static bool is_expert_mode(const char *text)
{
    size_t length = strcspn(text, "{");
    bool known =
        (length == 3 && !strncmp(text, "all", length)) || (length == 6 && !strncmp(text, "routed", length));
    return known && (!text[length] || strchr(text, '}') == text + strlen(text) - 1);
}

bool opt_check_combinations(opt_job *job)
{
    static const char *const of_data[] = {"calib-samples", "calib-seqlen", "calib-field", "calib-shuffle"};
    qc_cli *cli = job->cli;
    const char *calib = qc_cli_text(cli, "calib", "none");
    bool data = strcmp(calib, "none") != 0, scheme = qc_cli_has(cli, "scheme");
    if (qc_cli_has(cli, "calib") && qc_cli_has(cli, "stats")) {
        qc_cli_usage_error(cli, "--stats takes the place of --calib: give one of them");
        return false;
    }
    if (qc_cli_has(cli, "save-stats") && job->output_path &&
        !strcmp(qc_cli_text(cli, "save-stats", ""), job->output_path)) {
        qc_cli_usage_error(cli, "--save-stats and -o cannot both be %s", job->output_path);
        return false;
    }
    if (qc_cli_has(cli, "collect") && strcmp(qc_cli_text(cli, "collect", ""), collected) != 0) {
        qc_cli_usage_error(cli, "--collect=%s: what can be kept beside what schemes ask for is %s",
            qc_cli_text(cli, "collect", ""), collected);
        return false;
    }
    if (!is_expert_mode(qc_cli_text(cli, "moe-calib", "all"))) {
        qc_cli_usage_error(cli,
            "--moe-calib=%s: all or routed, and in braces what is asked for: "
            "routed{min_tokens=4,fallback=layer}",
            qc_cli_text(cli, "moe-calib", ""));
        return false;
    }
    if (!needs(cli, "moe-calib", data || qc_cli_has(cli, "stats"), "calibration data (--calib) or --stats"))
        return false;
    if (!needs(cli, "collect", qc_cli_has(cli, "save-stats"), "--save-stats"))
        return false;
    for (size_t i = 0; i < sizeof of_data / sizeof *of_data; i++)
        if (!needs(cli, of_data[i], data, "calibration data (--calib)"))
            return false;
    return needs(cli, "save-stats", data, "calibration data (--calib)") &&
           needs(cli, "targets", scheme, "--scheme; passes have an option targets") &&
           needs(cli, "ignore", scheme, "--scheme; passes have an option ignore, and --disable serves all");
}

/* Whether these run, the model says, which is not read yet. */
static bool may_be_added(const char *pass)
{
    return !strcmp(pass, "linearize-moe") || !strcmp(pass, "calibrate-all-experts");
}

bool opt_check_prints(opt_job *job)
{
    for (size_t i = 0; i < job->cli->args.count; i++) {
        const qc_cli_arg *arg = &job->cli->args.items[i];
        if ((!strcmp(arg->option->name, "print-before") || !strcmp(arg->option->name, "print-after")) &&
            !qc_pipeline_has(job->pipeline, arg->text) && !may_be_added(arg->text)) {
            qc_cli_usage_error(
                job->cli, "--%s=%s: no such pass runs (see --dump-pipeline)", arg->option->name, arg->text);
            return false;
        }
    }
    return true;
}

/* Is the file `path`, to be written, one that this run reads, or one of the model's? */
static qc_status check_no_input(opt_job *job, const char *path)
{
    static const char *const read[] = {"calib", "stats", "recipe", "load"};
    qc_cli *cli = job->cli;
    for (size_t i = 0; i < cli->args.count; i++)
        for (size_t r = 0; r < sizeof read / sizeof *read; r++)
            if (!strcmp(cli->args.items[i].option->name, read[r]) &&
                qc_is_same_file(path, cli->args.items[i].text))
                return qc_ctx_error(job->ctx, path, "is what --%s reads; it is not written over", read[r]);
    const char *source = job->source ? job->source : qc_module_source(job->module);
    const char *slash = strrchr(path, '/');
    const char *folder = !slash          ? "."
                         : slash == path ? "/"
                                         : qc_arena_strndup(&cli->arena, path, (size_t)(slash - path));
    if (source && qc_is_file(path) && qc_is_same_file(source, folder))
        return qc_ctx_error(job->ctx, path, "is a file of the model; it is not written over");
    return QC_OK;
}

/* Can the file `path` be written? */
static qc_status check_file(opt_job *job, const char *path)
{
    if (qc_is_directory(path))
        return qc_ctx_error(job->ctx, path, "is a directory");
    if (check_no_input(job, path) != QC_OK)
        return QC_ERROR;
    if (!qc_cli_has(job->cli, "force") && qc_is_file(path))
        return qc_ctx_error(job->ctx, path, "exists already; --force replaces it");
    return qc_check_parent(qc_ctx_diag(job->ctx), path);
}

qc_status opt_check_output(opt_job *job)
{
    const char *stats = qc_cli_text(job->cli, "save-stats", NULL);
    const char *reproducer = qc_cli_text(job->cli, "reproducer", NULL);
    if ((stats && check_file(job, stats) != QC_OK) ||
        (reproducer && check_no_input(job, reproducer) != QC_OK))
        return QC_ERROR;
    if (job->output == OPT_OUTPUT_TEXT)
        return check_file(job, job->output_path);
    if (job->output != OPT_OUTPUT_CHECKPOINT)
        return QC_OK;
    return qc_export_check_output(
        job->ctx, job->module, job->source, job->output_path, qc_cli_has(job->cli, "force"));
}

/* ---- stages -------------------------------------------------------------------------------------------- */

static qc_pass_result failed_or_changed(qc_status status)
{
    return status == QC_OK ? QC_PASS_CHANGED : QC_PASS_FAILED;
}

/* Reads the data that --calib names into `dataset`; the tokenizer lies beside the weights. */
static qc_status read_dataset(opt_job *job, const char *calib, int64_t vocabulary, qc_dataset *dataset)
{
    qc_cli *cli = job->cli;
    qc_diag *diag = qc_ctx_diag(job->ctx);
    qc_dataset_options options = {
        .field = qc_cli_text(cli, "calib-field", NULL),
        .max_samples = (size_t)job->samples,
        .max_tokens = (size_t)job->tokens,
        .shuffle = qc_cli_has(cli, "calib-shuffle"),
        .seed = (uint64_t)job->seed,
        .vocabulary = vocabulary,
    };
    if (!strcmp(calib, "random")) {
        options.max_tokens = job->tokens ? (size_t)job->tokens : DEFAULT_RANDOM_TOKENS;
        return qc_dataset_random(diag, &cli->arena, &options, dataset);
    }
    const char *source = job->source ? job->source : qc_module_source(job->module);
    options.model_directory = source;
    qc_tokenizer *tokenizer = NULL;
    const char *file = source ? qc_path_join(&cli->arena, source, "tokenizer.json") : NULL;
    if (file && qc_is_file(file) && qc_tokenizer_load(diag, &cli->arena, source, &tokenizer) != QC_OK)
        return QC_ERROR;
    if (tokenizer)
        qc_tokenizer_ignore_limits(tokenizer); /* as Transformers does; --calib-seqlen cuts */
    qc_status status = qc_dataset_read(diag, &cli->arena, calib, tokenizer, &options, dataset);
    qc_tokenizer_fini(tokenizer);
    return status;
}

static qc_status warn_of_length(opt_job *job, const qc_module *module, const qc_dataset *dataset)
{
    size_t longest = 0;
    int64_t positions;
    const char *source = job->source ? job->source : qc_module_source(module);
    for (size_t i = 0; i < dataset->count; i++)
        longest = dataset->sequences[i].count > longest ? dataset->sequences[i].count : longest;
    if (qc_model_read_positions(qc_ctx_diag(job->ctx), &job->cli->arena, source, &positions) != QC_OK)
        return QC_ERROR;
    if (positions > 0 && longest > (size_t)positions)
        qc_warning(qc_ctx_diag(job->ctx), qc_cli_text(job->cli, "calib", ""),
            "sequences of up to %zu tokens; the model was made for %lld (--calib-seqlen cuts them)", longest,
            (long long)positions);
    return QC_OK;
}

/* Is something of single experts, or of all tokens in them, observed? */
static bool observes_experts(const qc_module *module)
{
    for (const qc_func *f = qc_module_first_func(module); f; f = qc_func_next(f))
        for (const qc_op *op = qc_func_first_op(f); op; op = qc_op_next(op)) {
            const char *granularity =
                qc_op_is(op, "observe") ? qc_attr_as_text(qc_op_attr(op, "granularity")) : NULL;
            if ((granularity && strcmp(granularity, "expert") == 0) ||
                (qc_op_is(op, "expert_rows") && qc_attr_as_bool(qc_op_attr(op, "all"))))
                return true;
        }
    return false;
}

/* Who chose which experts, where scales of theirs come of it, and what it cost to run them. */
static void say_experts(opt_job *job, const qc_calibrate_cost *cost, bool observed)
{
    qc_cli *cli = job->cli;
    qc_expert_usage usage;
    qc_expert_usage_take(&cli->arena, &job->stats, &usage);
    for (size_t i = 0; i < usage.count && observed; i++)
        qc_cli_say(cli, "%s", qc_expert_usage_line(&cli->arena, &usage.layers[i]));
    if (!cost || !cost->rows_run)
        return;
    const double share = cost->seconds > 0 ? 100 * cost->expert_seconds / cost->seconds : 0;
    if (cost->rows_run > cost->rows_routed)
        qc_cli_say(cli, "experts took %.1f s, %.0f %% of the calibration: %llu rows, %llu of them routed",
            cost->expert_seconds, share, (unsigned long long)cost->rows_run,
            (unsigned long long)cost->rows_routed);
    else
        qc_cli_say(cli, "experts took %.1f s, %.0f %% of the calibration: the %llu rows routed to them",
            cost->expert_seconds, share, (unsigned long long)cost->rows_routed);
}

/* What experts multiply over what the routing alone would have them multiply: 1 where no expert is shown all tokens. */
static double cost_of_all_tokens(const qc_module *module)
{
    double run = 0, routed = 0;
    for (const qc_func *f = qc_module_first_func(module); f; f = qc_func_next(f))
        for (const qc_op *op = qc_func_first_op(f); op; op = qc_op_next(op)) {
            int64_t chosen;
            if (!qc_op_is(op, "expert_rows") ||
                !qc_dim_as_int(qc_type_dim(qc_value_type(qc_op_operand(op, 0)), -1), &chosen))
                continue;
            bool all = qc_attr_as_bool(qc_op_attr(op, "all"));
            routed += (double)chosen;
            run += (double)(all ? qc_attr_as_int(qc_op_attr(op, "experts")) : chosen);
        }
    return routed > 0 ? run / routed : 1;
}

static qc_status calibrate_data(opt_job *job, qc_module *module, const char *calib)
{
    qc_cli *cli = job->cli;
    qc_calibrate_cost cost = {0};
    qc_calibrate_options options = {
        .threads = (int)job->threads,
        .source = job->source,
        .max_memory_bytes = job->max_memory_bytes,
        .rotated = qc_cli_has(cli, "collect"),
        .progress = qc_cli_progress,
        .progress_user = cli,
        .cost = &cost,
    };
    qc_dataset dataset = {0};
    int64_t vocabulary;
    if (qc_calibrate_vocabulary(job->ctx, module, &vocabulary) != QC_OK ||
        read_dataset(job, calib, vocabulary, &dataset) != QC_OK ||
        warn_of_length(job, module, &dataset) != QC_OK)
        return QC_ERROR;
    job->checked = job->output == OPT_OUTPUT_CHECKPOINT;
    if (job->checked && qc_export_check_module(job->ctx, module, job->source, &job->allowed) != QC_OK)
        return QC_ERROR;
    uint64_t planned;
    if (qc_calibrate_plan(job->ctx, module, &dataset, &options, &planned) != QC_OK)
        return QC_ERROR;
    qc_cli_say(cli, "calibrating on %zu sequence%s, %llu tokens; planned peak memory: %llu MiB",
        dataset.count, dataset.count == 1 ? "" : "s", (unsigned long long)dataset.token_count,
        (unsigned long long)(planned >> 20) + 1);
    const double factor = cost_of_all_tokens(module);
    if (factor > 1)
        qc_cli_say(cli,
            "every token goes through every expert: %.1f times the routed products (--moe-calib=routed runs "
            "those alone)",
            factor);
    const uint64_t memory = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    if (planned > memory)
        qc_warning(qc_ctx_diag(job->ctx), "memory",
            "this machine has %llu MiB of memory: with --max-memory=SIZE hidden states wait on disk, and "
            "shorter sequences (--calib-seqlen) or fewer (--calib-samples) need less",
            (unsigned long long)(memory >> 20));
    if (qc_cli_has(cli, "dry-run"))
        return QC_OK;
    const bool observed = observes_experts(module);
    if (qc_calibrate(job->ctx, module, &dataset, &options, &job->stats) != QC_OK)
        return QC_ERROR;
    say_experts(job, &cost, observed);
    return QC_OK;
}

static qc_pass_result run_calibrate(qc_pass_ctx *pc, qc_module *module)
{
    opt_job *job = qc_pass_ctx_user(pc);
    qc_cli *cli = job->cli;
    const char *calib = qc_cli_text(cli, "calib", NULL), *stats = qc_cli_text(cli, "stats", NULL);
    if (!qc_calibrate_is_needed(module)) {
        if (calib || stats)
            qc_cli_say(cli, "no scale asks for data: nothing is calibrated%s",
                qc_cli_has(cli, "save-stats") ? ", no statistics are kept" : "");
        return QC_PASS_UNCHANGED;
    }
    if (stats && qc_stats_load(qc_ctx_diag(job->ctx), &job->stats, stats) != QC_OK)
        return QC_PASS_FAILED;
    if (!stats && calib && !strcmp(calib, "none"))
        return QC_PASS_UNCHANGED; /* resolve-observers{missing=one} follows */
    if (!stats && !calib) {
        qc_pass_fail(pc, NULL, "static scales need statistics of the activations%s%s%s",
            job->needs_data ? " (" : "", job->needs_data ? job->needs_data : "", job->needs_data ? ")" : "");
        qc_ctx_note(job->ctx,
            "give calibration data with --calib=FILE.jsonl (or random, or none for scales of 1.0), or "
            "kept statistics with --stats=FILE");
        return QC_PASS_FAILED;
    }
    if (!stats && calibrate_data(job, module, calib) != QC_OK)
        return QC_PASS_FAILED;
    if (qc_cli_has(cli, "dry-run"))
        return QC_PASS_UNCHANGED;
    const char *save = qc_cli_text(cli, "save-stats", NULL);
    if (save && qc_stats_save(qc_ctx_diag(job->ctx), &job->stats, save) != QC_OK)
        return QC_PASS_FAILED;
    return failed_or_changed(qc_calibrate_resolve_from(job->ctx, module, &job->stats, job->source));
}

/* What it costs to quantize again what was quantized. */
static qc_status say_loss(opt_job *job, const qc_module *module)
{
    qc_requantization loss;
    const qc_symbol *import = qc_module_find_symbol(module, "import");
    const qc_attr *was = import ? qc_attr_find(qc_symbol_fields(import), "dequantized") : NULL;
    if (!was)
        return QC_OK;
    if (qc_requantization_measure(job->ctx, module, job->source, (int)job->threads, &loss) != QC_OK)
        return QC_ERROR;
    qc_cli_say(job->cli,
        "the source was quantized already (%s): %zu weights are quantized again, %zu are plain now",
        qc_attr_as_text(was), loss.count, loss.plain);
    if (loss.count)
        qc_cli_say(job->cli,
            "relative error against the values of the source: %.2f %% on average, %.2f %% at most (%s)",
            100 * loss.mean, 100 * loss.largest, loss.largest_of);
    return QC_OK;
}

/* What the loader would not read keeps the command that serves it from being named. */
static qc_status warn_of_target(opt_job *job)
{
    enum { LISTED = 3 };
    const char *target = qc_cli_text(job->cli, "target", "vllm");
    qc_check_findings findings;
    if (!job->serve_command)
        return QC_OK; /* a warning has said why */
    qc_diag *diag = qc_ctx_diag(job->ctx);
    if (qc_check_target(diag, &job->cli->arena, job->output_path, target, &findings) != QC_OK)
        return QC_ERROR;
    for (size_t i = 0; i < findings.count && i < LISTED; i++)
        qc_warning(diag, job->output_path, "%s: %s", target, findings.items[i]);
    if (findings.count > LISTED)
        qc_note(diag, "%zu more: qc-check %s --target=%s", findings.count - LISTED, job->output_path, target);
    if (findings.count)
        job->serve_command = NULL;
    return QC_OK;
}

static void say_plan(void *user, uint64_t total_bytes, uint64_t peak_bytes)
{
    qc_cli_say(user, "writing %.1f %s; planned peak memory: %llu MiB",
        (double)total_bytes / (total_bytes < 1000000000 ? 1e6 : 1e9), total_bytes < 1000000000 ? "MB" : "GB",
        (unsigned long long)(peak_bytes >> 20) + 1);
}

static qc_pass_result run_export(qc_pass_ctx *pc, qc_module *module)
{
    opt_job *job = qc_pass_ctx_user(pc);
    qc_export_options options = {
        .force = qc_cli_has(job->cli, "force"),
        .checked = job->checked,
        .max_shard_size_bytes = job->max_shard_size_bytes,
        .threads = (int)job->threads,
        .progress = qc_cli_progress,
        .progress_user = job->cli,
        .begin = say_plan,
        .dry_run = qc_cli_has(job->cli, "dry-run"),
        .allowed = job->allowed,
    };
    if (options.dry_run && qc_calibrate_is_needed(module))
        return QC_PASS_UNCHANGED; /* its scales are not there */
    if (!job->output_path || job->output != OPT_OUTPUT_CHECKPOINT)
        return qc_pass_fail(pc, NULL, "a checkpoint needs -o DIR");
    qc_status status = qc_export_compressed_tensors(
        job->ctx, module, job->source, job->output_path, &options, &job->serve_command);
    if (status == QC_OK && !options.dry_run)
        status = say_loss(job, module) == QC_OK ? warn_of_target(job) : QC_ERROR;
    return status == QC_OK ? QC_PASS_UNCHANGED : QC_PASS_FAILED;
}

qc_status opt_register_stages(opt_job *job)
{
    bool ok =
        qc_registry_add_stage(job->registry, "calibrate",
            "run the calibration data and put the statistics in place of the observers", run_calibrate,
            job) &&
        qc_registry_add_stage(job->registry, "export", "write the checkpoint that -o names", run_export, job);
    return ok ? QC_OK : QC_ERROR;
}

/* ---- pipeline ------------------------------------------------------------------------------------------ */

static qc_status append_stage(opt_job *job, const char *name, const char *options)
{
    if (qc_pipeline_has(job->pipeline, name))
        return QC_OK;
    const char *text = qc_arena_printf(&job->cli->arena, "%s%s", name, options);
    return qc_pipeline_parse(job->pipeline, "qc-opt", text);
}

/* The pass that --moe-calib=MODE{OPTIONS} stands for. */
static const char *calibrate_text(opt_job *job, const char *mode)
{
    const char *options = strchr(mode, '{');
    int length = options ? (int)(options - mode) : (int)strlen(mode);
    return qc_arena_printf(&job->cli->arena, "calibrate-all-experts{mode=%.*s%s%s", length, mode,
        options && options[1] != '}' ? ", " : "", options ? options + 1 : "}");
}

qc_status opt_build_pipeline(opt_job *job)
{
    qc_cli *cli = job->cli;
    for (size_t i = 0; i < cli->args.count; i++) {
        const char *option = cli->args.items[i].option->name, *text = cli->args.items[i].text;
        qc_status status = QC_OK;
        if (!strcmp(option, "pass") || !strcmp(option, "pipeline"))
            status =
                qc_pipeline_parse(job->pipeline, !strcmp(option, "pass") ? "--pass" : "--pipeline", text);
        else if (!strcmp(option, "moe-calib")) /* its place is known with the model, its mistakes are usage */
            status = qc_pipeline_parse(
                qc_pipeline_create(job->registry), "--moe-calib", calibrate_text(job, text));
        else if (!strcmp(option, "scheme"))
            status = opt_append_scheme(job, text);
        else if (!strcmp(option, "recipe"))
            status = opt_append_recipe(job, text);
        if (status != QC_OK)
            return QC_ERROR;
    }
    if (opt_set_defaults(job) != QC_OK)
        return QC_ERROR;
    bool checkpoint = job->output == OPT_OUTPUT_CHECKPOINT;
    bool stats = qc_cli_has(cli, "stats"), data = qc_cli_has(cli, "calib") || stats;
    bool none = !stats && !strcmp(qc_cli_text(cli, "calib", ""), "none");
    if ((checkpoint || data) &&
        (append_stage(job, "insert-observers", "") != QC_OK ||
            append_stage(job, "share-observers", "") != QC_OK ||
            (!none && append_stage(job, "calibrate", "") != QC_OK) ||
            append_stage(job, "resolve-observers", none ? "{missing=one}" : "") != QC_OK))
        return QC_ERROR;
    return checkpoint ? append_stage(job, "export", "") : QC_OK;
}

qc_status opt_finish_pipeline(opt_job *job)
{
    bool none = !qc_cli_has(job->cli, "stats") && !strcmp(qc_cli_text(job->cli, "calib", ""), "none");
    if (qc_cli_has(job->cli, "moe-calib") && qc_pipeline_has(job->pipeline, "calibrate-all-experts"))
        return qc_ctx_error(job->ctx, "--moe-calib", "the pipeline has calibrate-all-experts already");
    if (qc_cli_has(job->cli, "moe-calib") && !qc_experts_any(job->module))
        qc_ctx_warning(job->ctx, "--moe-calib", "the model has no experts");
    const char *calibrate = calibrate_text(job, qc_cli_text(job->cli, "moe-calib", "all"));
    return qc_pipeline_add_experts(job->pipeline, "--moe-calib", job->module, none ? NULL : calibrate);
}
