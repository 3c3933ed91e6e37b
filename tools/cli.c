/* SPDX-License-Identifier: MIT
 *
 * cli.c - see cli.h. Invariant: whatever bytes a message holds (tensor names come from files), a diagnostic
 * is one line: control characters are written as \xNN.
 */
#include "tools/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "ir/support/str.h"

#ifndef QC_VERSION
#error "the build defines QC_VERSION"
#endif

static const qc_cli_option own_options[] = {
    {"help", 'h', NULL, "print this and exit", NULL},
    {"version", 0, NULL, "print the version and exit", NULL},
};
enum { OWN_COUNT = sizeof own_options / sizeof *own_options };

/* ---- output -------------------------------------------------------------------------------------------- */

static double now_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void end_progress_line(qc_cli *cli)
{
    if (!cli->line_open)
        return;
    fputs("\r\033[K", stderr);
    cli->line_open = false;
}

static void print_line_safe(FILE *file, const char *text)
{
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        if (*p < 0x20 || *p == 0x7f)
            fprintf(file, "\\x%02x", *p);
        else
            fputc(*p, file);
    }
}

static void print_message(qc_cli *cli, const char *kind, const char *where, const char *what)
{
    end_progress_line(cli);
    fprintf(stderr, "%s: %s", cli->tool->name, kind);
    if (where && *where) {
        print_line_safe(stderr, where);
        fputs(": ", stderr);
    }
    print_line_safe(stderr, what);
    fputc('\n', stderr);
}

void qc_cli_diagnostic(void *user, qc_severity severity, const char *where, const char *what)
{
    static const char *const kinds[] = {"note: ", "remark: ", "warning: ", "error: "};
    qc_cli *cli = user;
    if (severity == QC_SEVERITY_REMARK && !cli->remarks)
        return;
    print_message(cli, kinds[severity], where, what);
}

void qc_cli_say(qc_cli *cli, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *text = qc_arena_vprintf(&cli->arena, format, args);
    va_end(args);
    print_message(cli, "", NULL, text);
}

int qc_cli_usage_error(qc_cli *cli, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *text = qc_arena_vprintf(&cli->arena, format, args);
    va_end(args);
    print_message(cli, "error: ", NULL, text);
    if (cli->command)
        fprintf(stderr, "%s: note: usage: %s %s %s\n", cli->tool->name, cli->tool->name, cli->command->name,
            cli->command->usage);
    else
        fprintf(stderr, "%s: note: see %s --help\n", cli->tool->name, cli->tool->name);
    return QC_EXIT_USAGE;
}

void qc_cli_out_of_memory(size_t size_bytes)
{
    fprintf(stderr, "%s: error: out of memory (%zu bytes more were needed)\n", program_invocation_short_name,
        size_bytes);
    fflush(stderr);
    _exit(QC_EXIT_FAILED);
}

/* "1.2 GB/s", "830 tokens/s". */
static void format_rate(char *out, size_t size, double per_second, const char *unit)
{
    if (strcmp(unit, "B") != 0) {
        snprintf(out, size, per_second < 10 ? "%.1f %s/s" : "%.0f %s/s", per_second, unit);
        return;
    }
    static const char *const units[] = {"B/s", "kB/s", "MB/s", "GB/s"};
    size_t i = 0;
    for (; i < 3 && per_second >= 999.5; i++)
        per_second /= 1000;
    snprintf(out, size, per_second < 10 ? "%.1f %s" : "%.0f %s", per_second, units[i]);
}

void qc_cli_progress(void *user, const char *what, const char *unit, uint64_t done, uint64_t total)
{
    qc_cli *cli = user;
    if (cli->progress == 0 || (cli->progress < 0 && !isatty(STDERR_FILENO)) || total == 0)
        return;
    double now = now_seconds();
    if (!cli->progress_what || strcmp(cli->progress_what, what) != 0) {
        cli->progress_what = qc_arena_strdup(&cli->arena, what);
        cli->progress_start = now;
        cli->progress_last = 0;
    }
    if (done >= total) {
        end_progress_line(cli);
        cli->progress_what = NULL;
        return;
    }
    if (now - cli->progress_last < 0.2)
        return;
    cli->progress_last = now;
    double elapsed = now - cli->progress_start;
    fprintf(stderr, "\r\033[K%s: %s %3.0f %%", cli->tool->name, what, 100.0 * (double)done / (double)total);
    if (done > total / 100 && elapsed > 0.5) { /* before that there is nothing to judge by */
        char rate[48];
        format_rate(rate, sizeof rate, (double)done / elapsed, unit);
        double left = elapsed / (double)done * (double)(total - done);
        fprintf(stderr, ", %s, %.0f:%02.0f left", rate, floor(left / 60), fmod(floor(left), 60));
    }
    fflush(stderr);
    cli->line_open = true;
}

/* ---- help ---------------------------------------------------------------------------------------------- */

enum { HELP_COLUMN = 34, HELP_WIDTH = 110 };

/* Words of `text` wrapped into the columns from `column` on; the cursor is at `at`. */
static void print_wrapped(const char *text, int at, int column)
{
    if (at > 0 && at + 2 > column) {
        putchar('\n');
        at = 0;
    }
    printf("%*s", column - at, "");
    at = column;
    while (*text) {
        int length = (int)strcspn(text, " \n");
        if (at > column && at + 1 + length > HELP_WIDTH) {
            printf("\n%*s", column, "");
            at = column;
        } else if (at > column) {
            putchar(' ');
            at++;
        }
        printf("%.*s", length, text);
        at += length;
        text += length;
        if (*text == '\n') {
            printf("\n%*s", column, "");
            at = column;
        }
        text += *text != 0;
    }
    putchar('\n');
}

static bool word_in(const char *list, const char *separators, const char *word)
{
    size_t length = strlen(word);
    while (*list) {
        size_t n = strcspn(list, separators);
        if (n == length && memcmp(list, word, n) == 0)
            return true;
        list += n + (list[n] != 0);
    }
    return false;
}

/* Which commands take it is not said in the help of one. */
static void print_option(const qc_cli_option *o, const qc_cli_command *command)
{
    int at;
    if (o->letter && o->value)
        at = printf("  -%c %s, --%s=%s", o->letter, o->value, o->name, o->value);
    else if (o->letter)
        at = printf("  -%c, --%s", o->letter, o->name);
    else if (o->value)
        at = printf("  --%s=%s", o->name, o->value);
    else
        at = printf("  --%s", o->name);
    char help[1024];
    bool named = o->commands && !command;
    snprintf(help, sizeof help, "%s%s%s%s", o->help, named ? " (" : "", named ? o->commands : "",
        named ? ")" : "");
    print_wrapped(help, at, HELP_COLUMN);
}

static void print_command_help(const qc_cli_tool *tool, const qc_cli_command *command)
{
    printf("usage: %s %s %s\n\n", tool->name, command->name, command->usage);
    print_wrapped(command->help, 0, 0);
    puts("\noptions:");
    for (size_t i = 0; i < tool->option_count; i++)
        if (!tool->options[i].commands || word_in(tool->options[i].commands, " ", command->name))
            print_option(&tool->options[i], command);
    for (size_t i = 0; i < OWN_COUNT; i++)
        print_option(&own_options[i], command);
}

static void print_help(const qc_cli_tool *tool)
{
    printf("usage: %s %s\n\n%s\n", tool->name, tool->usage, tool->summary);
    if (tool->command_count)
        puts("\ncommands:");
    for (size_t i = 0; i < tool->command_count; i++) {
        printf("  %s %s %s\n", tool->name, tool->commands[i].name, tool->commands[i].usage);
        print_wrapped(tool->commands[i].help, 0, 6);
    }
    puts("\noptions:");
    for (size_t i = 0; i < tool->option_count; i++)
        print_option(&tool->options[i], NULL);
    for (size_t i = 0; i < OWN_COUNT; i++)
        print_option(&own_options[i], NULL);
    puts("\nexit status: 0 done, 1 diagnosed failure, 2 wrong usage.");
    if (tool->footer)
        printf("\n%s\n", tool->footer);
}

/* ---- parsing ------------------------------------------------------------------------------------------- */

static const qc_cli_option *option_at(const qc_cli_tool *tool, size_t index)
{
    return index < tool->option_count ? &tool->options[index] : &own_options[index - tool->option_count];
}

static const qc_cli_option *find_option(const qc_cli_tool *tool, const char *name, size_t length)
{
    for (size_t i = 0; i < tool->option_count + OWN_COUNT; i++) {
        const qc_cli_option *o = option_at(tool, i);
        if (strlen(o->name) == length && memcmp(o->name, name, length) == 0)
            return o;
    }
    return NULL;
}

static const qc_cli_option *find_letter(const qc_cli_tool *tool, char letter)
{
    for (size_t i = 0; i < tool->option_count + OWN_COUNT; i++)
        if (option_at(tool, i)->letter == letter)
            return option_at(tool, i);
    return NULL;
}

static int unknown_option(qc_cli *cli, const char *name, size_t length)
{
    const qc_cli_tool *tool = cli->tool;
    size_t count = tool->option_count + OWN_COUNT;
    const char **names = QC_NEW_ARRAY(&cli->arena, const char *, count);
    for (size_t i = 0; i < count; i++)
        names[i] = option_at(tool, i)->name;
    const char *nearest = qc_nearest_name(qc_arena_strndup(&cli->arena, name, length), names, count);
    if (nearest)
        return qc_cli_usage_error(
            cli, "unknown option --%.*s; did you mean --%s?", (int)length, name, nearest);
    return qc_cli_usage_error(cli, "unknown option --%.*s", (int)length, name);
}

static int take_option(qc_cli *cli, const qc_cli_option *option, const char *text)
{
    const bool words = option->value && strchr(option->value, '|');
    if (words && !word_in(option->value, "|", text))
        return qc_cli_usage_error(cli, "--%s must be one of %s, not '%s'", option->name, option->value, text);
    QC_PUSH(&cli->arena, &cli->args, (qc_cli_arg){option, text});
    return -1;
}

static int parse_long(qc_cli *cli, const char *arg)
{
    const char *name = arg + 2;
    size_t length = strcspn(name, "=");
    const char *value = name[length] == '=' ? name + length + 1 : NULL;
    const qc_cli_option *option = find_option(cli->tool, name, length);
    if (!option)
        return unknown_option(cli, name, length);
    if (option->value && !value)
        return qc_cli_usage_error(
            cli, "--%s needs a value: --%s=%s", option->name, option->name, option->value);
    if (!option->value && value)
        return qc_cli_usage_error(cli, "--%s takes no value", option->name);
    return take_option(cli, option, value ? value : "");
}

static int parse_short(qc_cli *cli, int argc, char **argv, int *index)
{
    const char *arg = argv[*index];
    const qc_cli_option *option = find_letter(cli->tool, arg[1]);
    if (!option)
        return qc_cli_usage_error(cli, "unknown option %s", arg);
    if (!option->value)
        return arg[2] ? qc_cli_usage_error(cli, "unknown option %s", arg) : take_option(cli, option, "");
    if (arg[2])
        return take_option(cli, option, arg + 2);
    if (*index + 1 >= argc)
        return qc_cli_usage_error(cli, "-%c needs a value: -%c %s", arg[1], arg[1], option->value);
    return take_option(cli, option, argv[++*index]);
}

static int choose_command(qc_cli *cli, const char *name)
{
    const qc_cli_tool *tool = cli->tool;
    const char **names = QC_NEW_ARRAY(&cli->arena, const char *, tool->command_count);
    for (size_t i = 0; i < tool->command_count; i++) {
        names[i] = tool->commands[i].name;
        if (strcmp(names[i], name) == 0)
            cli->command = &tool->commands[i];
    }
    if (cli->command)
        return -1;
    const char *nearest = qc_nearest_name(name, names, tool->command_count);
    if (nearest)
        return qc_cli_usage_error(cli, "unknown command '%s'; did you mean %s?", name, nearest);
    return qc_cli_usage_error(cli, "unknown command '%s'", name);
}

static int check_commands(qc_cli *cli)
{
    for (size_t i = 0; i < cli->args.count; i++) {
        const qc_cli_option *o = cli->args.items[i].option;
        if (o->commands && !word_in(o->commands, " ", cli->command->name))
            return qc_cli_usage_error(cli, "%s takes no option --%s", cli->command->name, o->name);
    }
    return -1;
}

/* A standard stream that is closed would be the number of the next file opened, and messages would go into it.
 * What stands in for it can neither be read nor written, so using it stays an error. */
static void keep_standard_streams(void)
{
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF)
            open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY); /* the lowest free number: this one */
}

int qc_cli_parse(qc_cli *cli, const qc_cli_tool *tool, int argc, char **argv)
{
    *cli = (qc_cli){.tool = tool, .progress = -1};
    qc_arena_init(&cli->arena, qc_cli_out_of_memory);
    keep_standard_streams();
    signal(SIGXFSZ, SIG_IGN); /* a file that grows too large is then an error of write */
    bool options_ended = false;
    for (int i = 1; i < argc; i++) {
        const char *arg = argv[i];
        int status = -1;
        if (options_ended || arg[0] != '-' || arg[1] == 0) {
            if (tool->command_count && !cli->command)
                status = choose_command(cli, arg);
            else
                QC_PUSH(&cli->arena, &cli->positionals, arg);
        } else if (strcmp(arg, "--") == 0) {
            options_ended = true;
        } else {
            status = arg[1] == '-' ? parse_long(cli, arg) : parse_short(cli, argc, argv, &i);
        }
        if (status >= 0)
            return status;
        if (cli->args.count && cli->args.items[cli->args.count - 1].option == &own_options[0]) {
            if (cli->command)
                print_command_help(tool, cli->command);
            else
                print_help(tool);
            return QC_EXIT_OK;
        }
    }
    if (qc_cli_has(cli, "version")) {
        printf("%s %s\n", tool->name, QC_VERSION);
        return QC_EXIT_OK;
    }
    if (tool->command_count && !cli->command)
        return qc_cli_usage_error(cli, "a command is missing");
    return cli->command ? check_commands(cli) : -1;
}

int qc_cli_fini(qc_cli *cli, int status)
{
    end_progress_line(cli);
    errno = 0;
    if ((fflush(stdout) != 0 || ferror(stdout)) && status == QC_EXIT_OK) {
        print_message(cli, "error: ", "standard output", errno ? strerror(errno) : "could not be written");
        status = QC_EXIT_FAILED;
    }
    qc_arena_fini(&cli->arena);
    return status;
}

/* ---- values -------------------------------------------------------------------------------------------- */

const char *qc_cli_text(const qc_cli *cli, const char *name, const char *fallback)
{
    for (size_t i = cli->args.count; i-- > 0;)
        if (strcmp(cli->args.items[i].option->name, name) == 0)
            return cli->args.items[i].text;
    return fallback;
}

bool qc_cli_has(const qc_cli *cli, const char *name)
{
    return qc_cli_text(cli, name, NULL) != NULL;
}

bool qc_cli_int(qc_cli *cli, const char *name, int64_t min, int64_t max, int64_t *value)
{
    const char *text = qc_cli_text(cli, name, NULL);
    if (!text)
        return true;
    char *end;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (end == text || *end || errno || strspn(text, "+-0123456789") != strlen(text)) {
        qc_cli_usage_error(cli, "--%s must be an integer, not '%s'", name, text);
        return false;
    }
    if (v < min || v > max) {
        if (max == INT64_MAX)
            qc_cli_usage_error(cli, "--%s must be at least %" PRId64 ", not %s", name, min, text);
        else
            qc_cli_usage_error(
                cli, "--%s must be between %" PRId64 " and %" PRId64 ", not %s", name, min, max, text);
        return false;
    }
    *value = v;
    return true;
}

bool qc_cli_float(qc_cli *cli, const char *name, double min, double max, double *value)
{
    const char *text = qc_cli_text(cli, name, NULL);
    if (!text)
        return true;
    char *end;
    double v = strtod(text, &end);
    if (end == text || *end || strspn(text, "+-.0123456789eE") != strlen(text)) {
        qc_cli_usage_error(cli, "--%s must be a number, not '%s'", name, text);
        return false;
    }
    if (!(v >= min && v <= max)) {
        qc_cli_usage_error(cli, "--%s must be between %g and %g, not %s", name, min, max, text);
        return false;
    }
    *value = v;
    return true;
}

bool qc_cli_size(qc_cli *cli, const char *name, uint64_t *size_bytes)
{
    static const struct {
        const char *suffix;
        uint64_t factor;
    } units[] = {
        {"", 1},
        {"B", 1},
        {"KB", 1000},
        {"MB", 1000000},
        {"GB", 1000000000},
        {"TB", 1000000000000},
        {"K", 1ull << 10},
        {"M", 1ull << 20},
        {"G", 1ull << 30},
        {"T", 1ull << 40},
        {"KiB", 1ull << 10},
        {"MiB", 1ull << 20},
        {"GiB", 1ull << 30},
        {"TiB", 1ull << 40},
    };
    const char *text = qc_cli_text(cli, name, NULL);
    if (!text)
        return true;
    size_t digits = strspn(text, "0123456789");
    errno = 0;
    unsigned long long v = digits ? strtoull(text, NULL, 10) : 0;
    for (size_t i = 0; digits && !errno && i < sizeof units / sizeof *units; i++) {
        if (strcasecmp(text + digits, units[i].suffix) != 0)
            continue;
        if (v > UINT64_MAX / units[i].factor || v == 0)
            break;
        *size_bytes = (uint64_t)v * units[i].factor;
        return true;
    }
    qc_cli_usage_error(cli, "--%s must be a size such as 500MB or 20GB, not '%s'", name, text);
    return false;
}

/* ---- threads ------------------------------------------------------------------------------------------- */

void qc_cli_limit_spinning(char **argv)
{
    if (getenv("GOMP_SPINCOUNT") || getenv("OMP_WAIT_POLICY"))
        return;
    setenv("GOMP_SPINCOUNT", "20000", 0);
    execv("/proc/self/exe", argv); /* without /proc: go on as before */
}
