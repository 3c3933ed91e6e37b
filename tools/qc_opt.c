/* SPDX-License-Identifier: MIT
 *
 * qc_opt.c - the compiler: reads a model, runs passes over its IR, prints the IR or writes a checkpoint.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "frontends/hf/hf.h"
#include "ir/ctx.h"
#include "ir/op_info.h"
#include "ir/support/io.h"
#include "passes/schemes.h"
#include "tools/qc_opt.h"

static const qc_cli_option options[] = {
    {"pass", 0, "NAME[{KEY=VALUE,...}]", "append a pass; may be repeated, order is kept", NULL},
    {"pipeline", 0, "PASS,PASS,...", "append several", NULL},
    {"recipe", 0, "FILE", "append what an llm-compressor recipe asks for (YAML, JSON, Markdown)", NULL},
    {"scheme", 0, "NAME", "append quant-linear with this preset (see --list-schemes)", NULL},
    {"targets", 0, "PATTERN", "what --scheme applies to: a class, a module path or re:REGEX; repeatable",
        NULL},
    {"ignore", 0, "PATTERN", "what --scheme leaves alone; repeatable", NULL},
    {"disable", 0, "PATTERN", "modules left unquantized, whatever asks for them; repeatable", NULL},
    {"calib", 0, "DATA", "calibration data: FILE.jsonl, FILE.txt, random, or none (scales of 1.0)", NULL},
    {"calib-samples", 0, "N", "first N sequences of the data (default 512)", NULL},
    {"calib-seqlen", 0, "N",
        "cut JSONL lines on the right to N tokens; length of the windows of plain text (default 2048) "
        "and of random sequences (default 512)",
        NULL},
    {"calib-field", 0, "NAME", "field of JSONL lines (default: input_ids, else text, else messages)", NULL},
    {"calib-shuffle", 0, NULL, "shuffle the data by --seed before taking --calib-samples", NULL},
    {"seed", 0, "N", "for --calib-shuffle and --calib=random (default 0)", NULL},
    {"moe-calib", 0, "MODE",
        "tokens that calibration shows to each expert: all (default), or routed, those of the router; "
        "routed{min_tokens=N,fallback=refuse|layer|weights} says what experts get that saw fewer than N",
        NULL},
    {"save-stats", 0, "FILE", "keep the statistics of the calibration", NULL},
    {"collect", 0, "KINDS",
        "what --save-stats keeps beside what schemes ask for: amax@R3, ranges of q and k of attention as R3 "
        "would rotate them",
        NULL},
    {"stats", 0, "FILE", "take statistics kept by --save-stats instead of calibrating", NULL},
    {"import", 0, "graph|tensors",
        "how a checkpoint is read: the graph of a known architecture, or its tensors alone (default: the "
        "graph "
        "where it is known)",
        NULL},
    {"source", 0, "DIR", "where the weights of an IR file lie, if not where it says", NULL},
    {"output", 'o', "PATH", "a directory gets a checkpoint, *.qc IR text; without it: IR text on stdout",
        NULL},
    {"emit", 0, "ir|checkpoint", "what PATH gets when its form does not say it", NULL},
    {"target", 0, "vllm", "who will load the checkpoint", NULL},
    {"allow", 0, "RULE", "write what this rule of the target refuses; repeatable", NULL},
    {"format", 0, "NAME", "storage format of quantized linears (default: what their scheme implies)", NULL},
    {"arith", 0, "cpu|cuda",
        "whose rounding of scales and codes to reproduce: llm-compressor's on a processor (default) or on a "
        "GPU",
        NULL},
    {"max-shard-size", 0, "SIZE", "of one file of the checkpoint (default 20GB)", NULL},
    {"max-memory", 0, "SIZE", "hidden states beyond this wait on disk", NULL},
    {"threads", 0, "N", "processors to use (default: all); results do not depend on it", NULL},
    {"force", 0, NULL, "replace an existing output", NULL},
    {"dry-run", 0, NULL, "say what would be done and the memory it takes, write nothing", NULL},
    {"dump-pipeline", 0, NULL, "print the passes that run; give it to --pipeline to run them again", NULL},
    {"print-before", 0, "PASS", "print the IR before a pass, on stderr; repeatable", NULL},
    {"print-after", 0, "PASS", "print the IR after a pass, on stderr; repeatable", NULL},
    {"print-after-all", 0, NULL, "print the IR after every pass, on stderr", NULL},
    {"timing", 0, NULL, "say how long each pass took, on stderr", NULL},
    {"remarks", 0, NULL, "say what passes did and left alone, on stderr", NULL},
    {"reproducer", 0, "FILE", "where the IR before a failing pass goes", NULL},
    {"load", 0, "PLUGIN.so", "load passes from a shared object; repeatable", NULL},
    {"list-passes", 0, NULL, "list the passes", NULL},
    {"help-pass", 0, "NAME", "all about one pass", NULL},
    {"list-ops", 0, NULL, "list the operations of the IR", NULL},
    {"list-schemes", 0, NULL, "list the presets for --scheme", NULL},
    {"list-archs", 0, NULL, "list the architectures", NULL},
    {"progress", 0, "auto|never|always", "a progress line on stderr (auto: on a terminal)", NULL},
};

const qc_cli_tool qc_opt_tool = {
    .name = "qc-opt",
    .usage = "[options] MODEL",
    .summary = "Compiles a language model: reads a checkpoint into IR, runs passes over it, prints the IR or "
               "writes a\n"
               "quantized checkpoint. MODEL is a checkpoint directory, org/name in the local Hub cache, "
               "FILE.qc (IR text),\n"
               "or - (IR text on stdin).",
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .footer =
        "Examples:\n"
        "  qc-opt MODEL                                       the IR of a model\n"
        "  qc-opt --pass=quant-fp8-attn MODEL                 the IR with FP8 attention, not yet calibrated\n"
        "  qc-opt --pass='quant-fp8-attn{granularity=head}' MODEL --calib=data.jsonl -o OUT\n"
        "                                                     a checkpoint with FP8 attention, for vLLM\n"
        "  qc-opt --scheme=FP8_DYNAMIC --ignore=lm_head MODEL -o OUT\n"
        "  qc-opt --recipe=recipe.yaml MODEL --calib=data.jsonl -o OUT\n"
        "  qc-opt --pass=quant-kv MODEL --calib=data.jsonl --save-stats=stats.safetensors -o OUT",
};

/* ---- lists --------------------------------------------------------------------------------------------- */

static void list_ops(void)
{
    for (size_t i = 0; i < qc_op_info_count; i++)
        printf("%-16s %s\n", qc_op_infos[i].name, qc_op_infos[i].doc);
}

static void list_archs(void)
{
    qc_hf_arch_info info;
    int widths[3] = {0};
    for (size_t i = 0; qc_hf_list_archs(i, &info); i++) {
        const char *const columns[3] = {info.architecture, info.model_type, info.attention_class};
        for (int c = 0; c < 3; c++)
            widths[c] = (int)strlen(columns[c]) > widths[c] ? (int)strlen(columns[c]) : widths[c];
    }
    for (size_t i = 0; qc_hf_list_archs(i, &info); i++)
        printf("%-*s  %-*s  %-*s  %s\n", widths[0], info.architecture, widths[1], info.model_type, widths[2],
            info.attention_class, info.supported);
}

static void list_schemes(void)
{
    const qc_scheme_preset *preset;
    for (size_t i = 0; (preset = qc_scheme_preset_at(i)); i++)
        printf("%-14s %s\n", preset->name, preset->summary);
}

/* True, and *status, when the command line asked for a list instead of a job. */
static bool run_list(opt_job *job, int *status)
{
    qc_cli *cli = job->cli;
    qc_str out;
    *status = QC_EXIT_OK;
    qc_str_init(&out, &cli->arena);
    bool done = true;
    if (qc_cli_has(cli, "list-passes"))
        qc_registry_list(job->registry, &out);
    else if (qc_cli_has(cli, "help-pass"))
        *status =
            qc_registry_help(job->registry, "--help-pass", qc_cli_text(cli, "help-pass", ""), &out) == QC_OK
                ? QC_EXIT_OK
                : QC_EXIT_USAGE;
    else if (qc_cli_has(cli, "list-ops"))
        list_ops();
    else if (qc_cli_has(cli, "list-archs"))
        list_archs();
    else if (qc_cli_has(cli, "list-schemes"))
        list_schemes();
    else
        done = false;
    fwrite(out.data, 1, out.length, stdout);
    qc_str_fini(&out);
    return done;
}

/* ---- running ------------------------------------------------------------------------------------------- */

static void print_ir(void *user, const char *when, const char *pass, const char *text, size_t length)
{
    (void)user;
    fprintf(stderr, "// IR %s %s\n", when, pass);
    fwrite(text, 1, length, stderr);
}

static void print_timing(void *user, const qc_run_report *report)
{
    opt_job *job = user;
    if (qc_cli_has(job->cli, "timing"))
        fprintf(stderr, "%-20s %9.3f ms  verify %9.3f ms%s\n", report->pass, report->seconds * 1e3,
            report->verify_seconds * 1e3, report->changed ? "" : "  unchanged");
}

/* The values of a repeatable option, in order. */
static size_t collect(qc_cli *cli, const char *name, const char *const **values)
{
    const char **list = QC_NEW_ARRAY(&cli->arena, const char *, cli->args.count + 1);
    size_t count = 0;
    for (size_t i = 0; i < cli->args.count; i++)
        if (!strcmp(cli->args.items[i].option->name, name))
            list[count++] = cli->args.items[i].text;
    *values = list;
    return count;
}

static bool has_experts(const qc_module *module, const qc_node *node)
{
    for (const qc_func *f = qc_module_first_func(module); node && f; f = qc_func_next(f))
        for (const qc_op *op = qc_func_first_op(f); op; op = qc_op_next(op))
            if (qc_op_is(op, "expert_linear") && qc_op_node(op) == node)
                return true;
    return false;
}

/* Does the pattern name a linear of an expert? It may, where linear modules are yet to be made of one tensor. */
static bool names_an_expert(const qc_module *module, const char *pattern)
{
    for (const qc_func *f = qc_module_first_func(module); f; f = qc_func_next(f))
        for (const qc_op *op = qc_func_first_op(f); op; op = qc_op_next(op))
            if (qc_op_is(op, "expert_linear") && !qc_op_attr(op, "module"))
                return true;
    for (const qc_node *n = qc_module_first_node(module); n; n = qc_node_next(n)) {
        const qc_node *expert = qc_node_parent(n);
        if (expert && qc_node_matches(n, pattern) && has_experts(module, qc_node_parent(expert)))
            return true;
    }
    return false;
}

/* Does the pattern name a module with something to quantize? A path names one module, not those inside of it. */
static bool names_a_module(const qc_module *module, const char *pattern)
{
    for (const qc_func *f = qc_module_first_func(module); f; f = qc_func_next(f))
        for (const qc_op *op = qc_func_first_op(f); op; op = qc_op_next(op))
            if ((qc_op_is(op, "linear") || qc_op_is(op, "attention") || qc_op_is(op, "embedding") ||
                    qc_op_is(op, "keep")) &&
                qc_op_node(op) && qc_node_matches(qc_op_node(op), pattern))
                return true;
    return names_an_expert(module, pattern);
}

static qc_status run_pipeline(opt_job *job)
{
    qc_cli *cli = job->cli;
    qc_run_settings settings = {
        .print = print_ir,
        .report = print_timing,
        .user = job,
        .print_after_all = qc_cli_has(cli, "print-after-all"),
        .reproducer = qc_cli_text(cli, "reproducer", NULL),
        .version = QC_VERSION,
    };
    settings.disable_count = collect(cli, "disable", &settings.disable);
    settings.print_before_count = collect(cli, "print-before", &settings.print_before);
    settings.print_after_count = collect(cli, "print-after", &settings.print_after);
    for (size_t i = 0; i < settings.disable_count; i++)
        if (qc_target_check(job->ctx, settings.disable[i]) != QC_OK)
            return QC_ERROR;
        else if (!names_a_module(job->module, settings.disable[i]))
            qc_warning(qc_ctx_diag(job->ctx), "--disable", "'%s' names no module that can be quantized",
                settings.disable[i]);
    if (qc_ctx_error_count(job->ctx))
        return QC_ERROR;
    return qc_pipeline_run(job->pipeline, job->module, &settings);
}

static qc_status write_text(opt_job *job)
{
    size_t length;
    char *text = qc_module_print(job->module, &length);
    qc_status status = QC_OK;
    if (job->output == OPT_OUTPUT_STDOUT) {
        if (fwrite(text, 1, length, stdout) != length || fflush(stdout) != 0)
            status = qc_ctx_error(job->ctx, "standard output", "%s", strerror(errno));
    } else {
        status = qc_write_file(qc_ctx_diag(job->ctx), job->output_path, text, length);
    }
    qc_text_free(text);
    return status;
}

static void dump_pipeline(opt_job *job)
{
    qc_str out;
    qc_str_init(&out, &job->cli->arena);
    qc_pipeline_print_with(job->pipeline, ",\n", &out);
    puts(out.data);
    qc_str_fini(&out);
}

static qc_status run_job(opt_job *job, const char *model)
{
    job->module = opt_read_model(job, model);
    if (!job->module || opt_finish_pipeline(job) != QC_OK)
        return QC_ERROR;
    if (qc_cli_has(job->cli, "dump-pipeline")) {
        dump_pipeline(job);
        if (job->output == OPT_OUTPUT_STDOUT)
            return QC_OK;
    }
    if (opt_check_output(job) != QC_OK || run_pipeline(job) != QC_OK)
        return QC_ERROR;
    if (job->output == OPT_OUTPUT_STDOUT || job->output == OPT_OUTPUT_TEXT)
        return write_text(job);
    if (job->serve_command)
        qc_cli_say(job->cli, "serve it with: %s", job->serve_command);
    return QC_OK;
}

static int run_tool(opt_job *job)
{
    qc_cli *cli = job->cli;
    int status;
    const char *const *plugins;
    size_t count = collect(cli, "load", &plugins);
    for (size_t i = 0; i < count; i++)
        if (qc_registry_load_plugin(job->registry, plugins[i]) != QC_OK)
            return QC_EXIT_FAILED;
    if (opt_register_stages(job) != QC_OK)
        return QC_EXIT_FAILED;
    if (run_list(job, &status))
        return status;
    if (cli->positionals.count != 1)
        return qc_cli_usage_error(
            cli, cli->positionals.count ? "one MODEL, not %zu" : "which MODEL?", cli->positionals.count);
    if (!opt_choose_output(job) || !opt_read_numbers(job) || !opt_check_combinations(job) ||
        opt_build_pipeline(job) != QC_OK || !opt_check_prints(job))
        return job->bad_recipe ? QC_EXIT_FAILED : QC_EXIT_USAGE;
    return run_job(job, cli->positionals.items[0]) == QC_OK ? QC_EXIT_OK : QC_EXIT_FAILED;
}

int main(int argc, char **argv)
{
    qc_cli_limit_spinning(argv);
    qc_cli cli;
    int status = qc_cli_parse(&cli, &qc_opt_tool, argc, argv);
    if (status >= 0)
        return qc_cli_fini(&cli, status);
    cli.remarks = qc_cli_has(&cli, "remarks");
    const char *progress = qc_cli_text(&cli, "progress", "auto");
    cli.progress = !strcmp(progress, "never") ? 0 : !strcmp(progress, "always") ? 1 : -1;
    opt_job job = {.cli = &cli};
    job.ctx = qc_ctx_create(qc_cli_out_of_memory, qc_cli_diagnostic, &cli);
    job.registry = qc_registry_create(job.ctx, qc_cli_out_of_memory);
    job.pipeline = qc_pipeline_create(job.registry);
    job.source = qc_cli_text(&cli, "source", NULL);
    qc_stats_init(&job.stats, &cli.arena);
    status = run_tool(&job);
    qc_module_destroy(job.module);
    qc_registry_destroy(job.registry);
    qc_ctx_destroy(job.ctx);
    return qc_cli_fini(&cli, status);
}
