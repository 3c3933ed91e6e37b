/* SPDX-License-Identifier: MIT
 *
 * qc_run.c - qc-run: executes a model. The work is done in runtime/; here the command line becomes its
 * options, and results go to standard output.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "frontends/text/chat.h"
#include "ir/ctx.h"
#include "runtime/bench.h"
#include "runtime/eval.h"
#include "runtime/generate.h"
#include "runtime/logits.h"
#include "runtime/token_lines.h"
#include "tools/cli.h"
#include "tools/run_compare.h"
#include "tools/run_eval.h"

#define RUNNING "generate perplexity eval logits bench"

static const qc_cli_option options[] = {
    {"prompt", 0, "TEXT", "the text to continue, encoded with the special tokens that the tokenizer adds",
        "generate"},
    {"chat", 0, NULL,
        "generate: the prompt is a message of the user, for the model's chat template; tokenize: a line is "
        "an object "
        "{\"messages\": [...], \"add_generation_prompt\": bool}, rendered by the template; eval: shots and "
        "questions are turns of a conversation",
        "generate eval tokenize"},
    {"max-tokens", 0, "N",
        "generate at most N tokens (256, or as many as the model has positions left); eval: in an answer "
        "(256, or as logged samples say); bench: tokens decoded one by one (64)",
        "generate eval bench"},
    {"temperature", 0, "T",
        "draw tokens from the probabilities at temperature T; 0, the default, takes the likeliest",
        "generate"},
    {"top-p", 0, "P", "draw from the likeliest tokens that together have probability P, in (0, 1]",
        "generate"},
    {"top-k", 0, "K", "draw from the K likeliest tokens", "generate"},
    {"seed", 0, "N",
        "what is drawn depends on it (0): tokens at a temperature, the data of --calib=random and "
        "--kv-scales=random",
        RUNNING " compare"},
    {"task", 0, "FILE",
        "JSONL, a question a line: \"question\" and \"answer\" (an answer is generated and its number "
        "compared, as gsm8k does); or \"question\" or \"context\", \"choices\" and \"answer\" (the likeliest "
        "choice); or samples that lm-evaluation-harness logged",
        "eval"},
    {"fewshot", 0, "N",
        "put N questions with their answers in front of each (5; for choices 0): the first lines of the "
        "task, "
        "which are not asked then",
        "eval"},
    {"fewshot-file", 0, "FILE", "take them from this file, of the same kind, instead", "eval"},
    {"limit", 0, "N", "ask the first N questions", "eval"},
    {"add-bos", 0, NULL, "begin each prompt with the BOS token, also where the tokenizer does not", "eval"},
    {"stored", 0, NULL, "score the answers that logged samples hold; there is no MODEL", "eval"},
    {"log-samples", 0, "FILE", "write prompts, answers and scores, as lm-evaluation-harness logs samples",
        "eval"},
    {"kv-cache-dtype", 0, QC_KV_CACHE_DTYPES,
        "what the KV cache holds: auto is what the model says; fp8 is fp8_e4m3; per_token_head: with a scale "
        "for each "
        "token and head",
        RUNNING},
    {"kv-scales", 0, "checkpoint|one|random",
        "static scales of codes in the KV cache: the model's own, 1, or those of random tokens (by --seed); "
        "by default "
        "its own if it has some, else 1",
        RUNNING},
    {"data", 0, "FILE",
        "NAME.jsonl: a sequence a line, from `input_ids`, `text` (special tokens added) or `messages` "
        "(rendered by the "
        "chat template); else plain "
        "text, encoded whole and cut into windows, each behind the tokens (BOS) that the tokenizer puts "
        "in front of a text",
        "perplexity compare"},
    {"recipes", 0, "RECIPE,RECIPE,...",
        "a RECIPE is [LABEL=]PART[+PART]..., a PART a pass with its options, a preset of qc-opt --scheme or "
        "an "
        "llm-compressor recipe (FILE.yaml); @FILE reads a RECIPE a line",
        "compare"},
    {"calib", 0, "DATA",
        "calibration data, once for all recipes: FILE.jsonl, FILE.txt, random, or none (scales of 1.0)",
        "compare"},
    {"calib-samples", 0, "N", "first N sequences of the calibration data (all)", "compare"},
    {"calib-seqlen", 0, "N",
        "cut JSONL lines on the right to N tokens; length of the windows of plain text (2048) and of random "
        "sequences (512)",
        "compare"},
    {"stats", 0, "FILE", "take statistics kept by qc-opt --save-stats instead of calibrating", "compare"},
    {"against", 0, "LABEL",
        "a column more: KL divergence less that of this recipe, token by token, with its error", "compare"},
    {"markdown", 0, NULL, "Markdown instead of lines for people", "compare"},
    {"html", 0, "FILE", "write the table and plots as a page, too", "compare"},
    {"context", 0, "N",
        "tokens of a window, BOS included (512, or the model's positions if fewer); JSONL: lines are cut "
        "to N tokens (not at all); bench: tokens of the prompt",
        "perplexity bench compare"},
    {"baseline", 0, "MODEL0",
        "compare with this model on the same tokens: its perplexity, the divergence KL(MODEL0 || "
        "MODEL) in nats, how often both have the same likeliest token",
        "perplexity"},
    {"input", 0, "FILE", "safetensors with `input_ids`, I64 [batch, sequence]", "logits"},
    {"output", 'o', "FILE", "safetensors to write `logits` to, F32 [batch, sequence, vocabulary]", "logits"},
    {"jsonl", 0, NULL, "texts are JSON strings, one a line", "tokenize"},
    {"decode", 0, NULL,
        "the other way: a JSON array of ids a line in, a text a line out, special tokens kept", "tokenize"},
    {"json", 0, NULL, "one JSON object instead of lines for people", "perplexity eval bench compare"},
    {"dtype", 0, "bf16|f16|f32", "compute in this type instead of the model's own (and the baseline's)",
        RUNNING " compare"},
    {"source", 0, "DIR", "where weights and tokenizer of an IR file lie, if not where it says", NULL},
    {"threads", 0, "N", "processors to use (all); results do not depend on it", NULL},
    {"backend", 0, "host|reference",
        "what computes: kernels for this processor, or the definitions of the operations, "
        "slowly",
        RUNNING},
    {"progress", 0, "auto|never|always", "a progress line on standard error; auto: on a terminal",
        "perplexity eval logits compare"},
};

static const qc_cli_command commands[] = {
    {"generate",
        "MODEL --prompt=TEXT [--chat] [--max-tokens=N] [--temperature=T --top-p=P --top-k=K --seed=N]",
        "continue a text; what is generated goes to standard output as it comes, up to an end token of the "
        "model"},
    {"perplexity", "MODEL --data=FILE [--context=N] [--baseline=MODEL0] [--dtype=f32] [--json]",
        "the perplexity of a text, with its standard error, and how far a model is from another"},
    {"compare", "MODEL --recipes=A,B,... --calib=FILE --data=FILE [--html=FILE]",
        "recipes beside each other: calibrated once, run on the same text, in one table of divergences and "
        "sizes"},
    {"eval", "MODEL --task=FILE [--fewshot=N] [--limit=N] [--add-bos] [--chat] [--json] [--log-samples=FILE]",
        "the score of a task, with its standard error, as lm-evaluation-harness computes and prints it; "
        "`eval --stored --task=FILE` scores logged answers"},
    {"logits", "MODEL --input=FILE.safetensors -o FILE.safetensors [--dtype=f32]",
        "the logits of token sequences, each row by itself from position 0"},
    {"tokenize", "MODEL [--jsonl] [--chat] [--decode]",
        "each line of standard input, without its newline, is a text and becomes a JSON array of token ids "
        "on a line"},
    {"bench", "MODEL [--json] [--context=N] [--max-tokens=N]",
        "tokens a second of a prompt run at once and of decoding behind it, beside the memory copy rate "
        "measured in the "
        "same run"},
};

static const qc_cli_tool tool = {
    .name = "qc-run",
    .usage = "COMMAND MODEL [options]",
    .summary =
        "Executes a model, original or quantized (then with its quantize operations). MODEL is a checkpoint "
        "directory\nor an IR file NAME.qc.",
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .commands = commands,
    .command_count = sizeof commands / sizeof *commands,
    .footer =
        "examples:\n"
        "  qc-run generate tests/data/stories260k --prompt='Once upon a time' --max-tokens=100\n"
        "  qc-run generate tests/data/stories260k --prompt='Once' --temperature=0.8 --top-p=0.95 --seed=7\n"
        "  qc-run generate tests/data/stories260k --prompt='Once' --kv-cache-dtype=fp8\n"
        "  qc-run perplexity OUT --baseline=tests/data/stories260k --data=tests/data/stories260k/eval.txt "
        "--context=256\n"
        "  qc-run compare tests/data/stories260k "
        "--recipes='quant-fp8-attn,head=quant-fp8-attn{granularity=head}' \\\n"
        "         --calib=tests/data/stories260k/calib.jsonl --data=tests/data/stories260k/eval.txt\n"
        "  qc-run eval tests/data/stories260k --task=tests/data/tasks/short.jsonl --fewshot=1 "
        "--max-tokens=32\n"
        "  qc-run eval --stored --task=tests/data/tasks/samples_sums_2026-11-21T17-15-35.073460.jsonl\n"
        "  qc-run logits tests/data/stories260k --input=ids.safetensors -o logits.safetensors --dtype=f32\n"
        "  echo 'Once upon a time' | qc-run tokenize tests/data/stories260k\n"
        "  echo '[1, 403, 407]' | qc-run tokenize tests/data/stories260k --decode\n"
        "  qc-run bench tests/data/stories260k --json",
};

typedef struct job {
    qc_cli cli;
    qc_ctx *ctx;
    const char *path; /* MODEL */
    qc_model_options options;
    qc_model model, baseline;
} job;

/* ---- what the commands share --------------------------------------------------------------------------- */

static qc_status write_out(void *user, const char *text, size_t length)
{
    job *j = user;
    errno = 0;
    if (fwrite(text, 1, length, stdout) == length && fflush(stdout) == 0)
        return QC_OK;
    clearerr(stdout); /* it is said here, so qc_cli_fini need not */
    return qc_ctx_error(j->ctx, "standard output", "%s", errno ? strerror(errno) : "cannot be written");
}

/* What the KV cache is to hold. False after a usage error. */
static bool read_cache(qc_cli *cli, qc_model_options *o)
{
    static const char *const words[] = {"", "checkpoint", "one", "random"};
    const char *scales = qc_cli_text(cli, "kv-scales", "");
    int64_t seed = 0;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strcmp(words[i], scales) == 0)
            o->cache.scales = (qc_kv_scales)i;
    if (!qc_cli_int(cli, "seed", 0, INT64_MAX, &seed))
        return false;
    bool drawn = qc_cli_has(cli, "temperature") || strcmp(cli->command->name, "compare") == 0 ||
                 strcmp(cli->command->name, "eval") == 0;
    if (qc_cli_has(cli, "seed") && !drawn && o->cache.scales != QC_KV_SCALES_RANDOM)
        return qc_cli_usage_error(cli, "--seed does nothing without %s--kv-scales=random",
                   strcmp(cli->command->name, "generate") == 0 ? "a --temperature above 0 or " : ""),
               false;
    o->cache.dtype = qc_cli_text(cli, "kv-cache-dtype", NULL);
    o->cache.seed = (uint64_t)seed;
    o->cache.threads = o->threads;
    o->cache.source = o->source;
    return true;
}

/* False after a usage error. */
static bool read_common(job *j)
{
    qc_cli *cli = &j->cli;
    static const char *const progress[] = {"never", "auto", "always"};
    bool none = qc_cli_has(cli, "stored"); /* eval: the answers are there */
    if (cli->positionals.count != !none)
        return qc_cli_usage_error(cli,
                   none                     ? "%s --stored takes no model"
                   : cli->positionals.count ? "%s takes one model, not %zu"
                                            : "%s needs a model",
                   cli->command->name, cli->positionals.count),
               false;
    j->path = none ? "" : cli->positionals.items[0];
    qc_model_options *o = &j->options;
    int64_t threads = 0;
    const char *dtype = qc_cli_text(cli, "dtype", NULL);
    if (!qc_cli_int(cli, "threads", 1, 4096, &threads))
        return false;
    o->threads = (int)threads;
    o->dtype = dtype ? qc_dtype_from_name(dtype, strlen(dtype)) : QC_DTYPE_NONE;
    o->source = qc_cli_text(cli, "source", NULL);
    if (o->source && !qc_ends_with(j->path, ".qc") && !qc_ends_with(qc_cli_text(cli, "baseline", ""), ".qc"))
        return qc_cli_usage_error(cli, "--source is for an IR file, NAME.qc"), false;
    if (strcmp(qc_cli_text(cli, "backend", "host"), "reference") == 0)
        o->backend = QC_BACKEND_REFERENCE;
    if (!read_cache(cli, o))
        return false;
    for (int i = 0; i < 3; i++)
        if (strcmp(progress[i], qc_cli_text(cli, "progress", "auto")) == 0)
            cli->progress = i == 1 ? -1 : i / 2;
    return true;
}

/* The value of an option that the command cannot do without; NULL after a usage error. */
static const char *require(job *j, const char *name)
{
    const char *text = qc_cli_text(&j->cli, name, NULL);
    if (!text)
        qc_cli_usage_error(&j->cli, "%s needs --%s", j->cli.command->name, name);
    return text;
}

static int exit_status(qc_status status)
{
    return status == QC_OK ? QC_EXIT_OK : QC_EXIT_FAILED;
}

/* "41.3 KiB". */
static const char *size_text(job *j, uint64_t bytes)
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    size_t i = 0;
    for (; i < 4 && value >= 1024; i++)
        value /= 1024;
    return qc_arena_printf(&j->cli.arena, i ? "%.1f %s" : "%.0f %s", value, units[i]);
}

/* Where --kv-cache-dtype was given. */
static void say_cache(job *j)
{
    if (qc_cli_has(&j->cli, "kv-cache-dtype"))
        qc_cli_say(&j->cli, "KV cache: %" PRId64 " bytes a token, of %s",
            qc_executor_cache_bytes_per_token(j->model.executor), qc_kv_cache_type(j->model.module));
}

/* ---- commands ------------------------------------------------------------------------------------------ */

static bool read_sampling(qc_cli *cli, qc_sampler_options *sampling)
{
    static const char *const needing[] = {"top-p", "top-k"};
    int64_t seed = 0;
    *sampling = (qc_sampler_options){.top_p = 1};
    if (!qc_cli_float(cli, "temperature", 0, 1e6, &sampling->temperature) ||
        !qc_cli_float(cli, "top-p", 1e-9, 1, &sampling->top_p) ||
        !qc_cli_int(cli, "top-k", 1, INT32_MAX, &sampling->top_k) ||
        !qc_cli_int(cli, "seed", 0, INT64_MAX, &seed))
        return false;
    sampling->seed = (uint64_t)seed;
    for (size_t i = 0; i < sizeof needing / sizeof *needing; i++)
        if (qc_cli_has(cli, needing[i]) && !(sampling->temperature > 0)) {
            qc_cli_usage_error(cli, "--%s does nothing without a --temperature above 0", needing[i]);
            return false;
        }
    return true;
}

static int run_generate(job *j)
{
    qc_sampler_options sampling;
    qc_generate_plan plan;
    qc_generate_report report;
    int64_t max_tokens = 0;
    const char *prompt = require(j, "prompt");
    if (!prompt || !qc_cli_int(&j->cli, "max-tokens", 1, INT32_MAX, &max_tokens) ||
        !read_sampling(&j->cli, &sampling))
        return QC_EXIT_USAGE;
    if (qc_model_open(j->ctx, j->path, &j->options, &j->model) ||
        qc_model_load_tokenizer(&j->model, &j->options) || qc_model_load_weights(&j->model, &j->options) ||
        qc_generate_prepare(
            &j->model, &j->cli.arena, prompt, qc_cli_has(&j->cli, "chat"), (size_t)max_tokens, &plan))
        return QC_EXIT_FAILED;
    qc_cli_say(&j->cli, "KV cache: at most %s, %" PRId64 " bytes a token, of %s for %zu tokens",
        size_text(j, plan.cache_bytes), qc_executor_cache_bytes_per_token(j->model.executor),
        qc_kv_cache_type(j->model.module), plan.prompt_count + plan.max_tokens);
    if (qc_generate_run(&j->model, &plan, &sampling, write_out, j, &report) || write_out(j, "\n", 1))
        return QC_EXIT_FAILED;
    qc_cli_say(&j->cli, "prompt: %zu tokens in %.2f s; generated: %zu tokens in %.2f s, %s",
        plan.prompt_count, report.prompt_seconds, report.tokens, report.seconds,
        report.ended ? "up to an end token" : "as many as asked for");
    return QC_EXIT_OK;
}

static int run_perplexity(job *j)
{
    qc_cli *cli = &j->cli;
    qc_eval_windows windows;
    qc_eval_result result;
    int64_t context = 0;
    const char *data = require(j, "data"), *baseline = qc_cli_text(cli, "baseline", NULL);
    if (!data || !qc_cli_int(cli, "context", 2, INT32_MAX, &context))
        return QC_EXIT_USAGE;
    qc_model_options plain = j->options; /* --kv-cache-dtype is the model's alone */
    plain.cache = (qc_kv_cache_request){0};
    if (qc_model_open(j->ctx, j->path, &j->options, &j->model) ||
        (baseline && qc_model_open(j->ctx, baseline, &plain, &j->baseline)) ||
        qc_eval_read(&j->model, &j->options, &cli->arena, data, context, &windows) ||
        qc_model_load_weights(&j->model, &j->options) ||
        (baseline && qc_model_load_weights(&j->baseline, &plain)))
        return QC_EXIT_FAILED;
    say_cache(j);
    qc_eval_options options_of_run = {
        .threads = j->options.threads, .progress = qc_cli_progress, .progress_user = cli};
    if (qc_eval_run(&j->model, baseline ? &j->baseline : NULL, &windows, &options_of_run, &result))
        return QC_EXIT_FAILED;
    qc_str out;
    qc_str_init(&out, &cli->arena);
    if (qc_cli_has(cli, "json"))
        qc_eval_print_json(j->path, baseline, data, &windows, &result, &cli->arena, &out);
    else
        qc_eval_print_text(&windows, &result, &out);
    qc_status status = write_out(j, out.data, out.length);
    qc_str_fini(&out);
    return exit_status(status);
}

static int run_comparison(job *j)
{
    qc_str out;
    qc_str_init(&out, &j->cli.arena);
    int status = run_compare(&j->cli, j->ctx, j->path, &j->options, &out);
    if (status == QC_EXIT_OK)
        status = exit_status(write_out(j, out.data, out.length));
    qc_str_fini(&out);
    return status;
}

static int run_task(job *j)
{
    qc_str out;
    qc_str_init(&out, &j->cli.arena);
    int status = run_eval(&j->cli, j->ctx, j->path, &j->options, &out);
    if (status == QC_EXIT_OK)
        status = exit_status(write_out(j, out.data, out.length));
    qc_str_fini(&out);
    return status;
}

static int run_logits(job *j)
{
    const char *input = require(j, "input"), *output = input ? require(j, "output") : NULL;
    if (!output)
        return QC_EXIT_USAGE;
    if (qc_model_open(j->ctx, j->path, &j->options, &j->model) ||
        qc_model_load_weights(&j->model, &j->options))
        return QC_EXIT_FAILED;
    say_cache(j);
    return exit_status(qc_logits_run(&j->model, input, output, qc_cli_progress, &j->cli));
}

static int run_tokenize(job *j)
{
    const qc_chat_template *template = NULL;
    bool chat = qc_cli_has(&j->cli, "chat");
    if (chat && (qc_cli_has(&j->cli, "decode") || qc_cli_has(&j->cli, "jsonl")))
        return qc_cli_usage_error(
            &j->cli, "--chat goes with neither --decode nor --jsonl; its lines are objects with messages");
    j->options.truncate =
        !chat; /* Transformers, which a chat follows, knows no truncation of tokenizer.json */
    j->options.tokenizer_only = true;
    if (qc_model_open(j->ctx, j->path, &j->options, &j->model) ||
        qc_model_load_tokenizer(&j->model, &j->options) ||
        (chat && qc_chat_require(qc_ctx_diag(j->ctx), qc_ctx_arena(j->ctx), j->model.directory, &template)))
        return QC_EXIT_FAILED;
    qc_token_lines lines = {.tokenizer = j->model.tokenizer,
        .chat = template,
        .json = qc_cli_has(&j->cli, "jsonl"),
        .decode = qc_cli_has(&j->cli, "decode"),
        .where = "standard input",
        .emit = write_out,
        .user = j};
    return exit_status(qc_token_lines_run(&lines, qc_ctx_diag(j->ctx), stdin));
}

static int run_bench(job *j)
{
    qc_bench_report report;
    int64_t prefill = 0, decode = 64;
    if (!qc_cli_int(&j->cli, "context", 1, 1 << 24, &prefill) ||
        !qc_cli_int(&j->cli, "max-tokens", 1, 1 << 24, &decode))
        return QC_EXIT_USAGE;
    if (qc_model_open(j->ctx, j->path, &j->options, &j->model) ||
        qc_model_load_weights(&j->model, &j->options))
        return QC_EXIT_FAILED;
    if (prefill == 0) {
        prefill = 512;
        if (j->model.positions > decode && j->model.positions - decode < prefill)
            prefill = j->model.positions - decode;
    }
    if (qc_bench_run(&j->model, (size_t)prefill, (size_t)decode, j->options.threads, &report))
        return QC_EXIT_FAILED;
    qc_str out;
    qc_str_init(&out, &j->cli.arena);
    if (qc_cli_has(&j->cli, "json"))
        qc_bench_print_json(j->path, &report, &j->cli.arena, &out);
    else
        qc_bench_print_text(&report, &out);
    qc_status status = write_out(j, out.data, out.length);
    qc_str_fini(&out);
    return exit_status(status);
}

static int run(job *j)
{
    static int (*const runs[])(job *) = {
        run_generate, run_perplexity, run_comparison, run_task, run_logits, run_tokenize, run_bench};
    _Static_assert(sizeof runs / sizeof *runs == sizeof commands / sizeof *commands, "a function a command");
    if (!read_common(j))
        return QC_EXIT_USAGE;
    j->ctx = qc_ctx_create(qc_cli_out_of_memory, qc_cli_diagnostic, &j->cli);
    int status = runs[j->cli.command - commands](j);
    qc_model_close(&j->model);
    qc_model_close(&j->baseline);
    qc_ctx_destroy(j->ctx);
    return status;
}

int main(int argc, char **argv)
{
    qc_cli_limit_spinning(argv);
    job j = {0};
    int status = qc_cli_parse(&j.cli, &tool, argc, argv);
    if (status < 0)
        status = run(&j);
    return qc_cli_fini(&j.cli, status);
}
