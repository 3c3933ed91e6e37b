/* SPDX-License-Identifier: MIT
 *
 * cli.h - what the command-line tools share: options from one table (parsing, --help and the nearest known
 * name of a misspelt one), diagnostics on stderr, the out-of-memory policy, a progress line, exit statuses.
 *
 * Options are written --name=value or --name; a letter may stand for a name (-o PATH or -oPATH). `--` ends
 * them,
 * `-` alone is a positional argument. The last of a repeated option wins where the caller asks for one value;
 * all of them, in the order of the command line, are in args.
 */
#ifndef QC_TOOLS_CLI_H
#define QC_TOOLS_CLI_H

#include "ir/support/arena.h"
#include "runtime/progress.h"

#define QC_EXIT_OK 0
#define QC_EXIT_FAILED 1 /* diagnosed */
#define QC_EXIT_USAGE 2

typedef struct qc_cli_option {
    const char *name;  /* without the dashes */
    char letter;       /* 0: none */
    const char *value; /* "N", "FILE", "a|b|c" (one of these words, checked); NULL: a flag */
    const char *help;
    const char *commands; /* names of the commands that take it, separated by spaces; NULL: all */
} qc_cli_option;

typedef struct qc_cli_command {
    const char *name;
    const char *usage; /* what follows the name: "MODEL --prompt=TEXT" */
    const char *help;
} qc_cli_command;

typedef struct qc_cli_tool {
    const char *name;  /* "qc-opt" */
    const char *usage; /* "[options] MODEL"; lines for a tool without commands */
    const char *summary;
    const qc_cli_option *options; /* --help and --version come by themselves */
    size_t option_count;
    const qc_cli_command *commands; /* NULL: the tool has none */
    size_t command_count;
    const char *footer; /* last lines of --help, or NULL */
} qc_cli_tool;

typedef struct qc_cli_arg {
    const qc_cli_option *option;
    const char *text; /* "" for a flag */
} qc_cli_arg;

typedef struct qc_cli {
    const qc_cli_tool *tool;
    const qc_cli_command *command; /* NULL when the tool has none */
    qc_arena arena;
    QC_VEC(qc_cli_arg) args;          /* options in the order written */
    QC_VEC(const char *) positionals; /* the command aside */
    bool remarks;                     /* print remarks too */
    int progress;                     /* -1 only on a terminal, 0 never, 1 always */
    bool line_open;                   /* a progress line stands on stderr */
    const char *progress_what;
    double progress_start, progress_last; /* seconds, monotonic */
} qc_cli;

/* Returns -1 to go on; else the status to exit with: 0 after --help or --version, 2 after a usage error
 * (printed). `cli` is to be ended with qc_cli_fini in any case. */
int qc_cli_parse(qc_cli *cli, const qc_cli_tool *tool, int argc, char **argv);
/* Flushes stdout, which may fail (a full disk): then the status becomes 1 with a diagnostic. */
int qc_cli_fini(qc_cli *cli, int status);
/* "qc-opt: error: WHAT", a line pointing to --help; returns 2. */
int qc_cli_usage_error(qc_cli *cli, const char *format, ...) QC_PRINTF(2, 3) QC_COLD;

/* For main's first line, in a tool that computes on several threads. gcc's OpenMP lets threads spin for long at a
 * barrier; when another process has the core that the last one needs, all wait (generation was seen to fall from 60 to 5
 * tokens/s). 20,000 turns, some tens of microseconds, cost nothing on an idle machine. The library reads its
 * environment before main, so the program starts itself again, once, with GOMP_SPINCOUNT set; a user's own setting
 * stays. */
void qc_cli_limit_spinning(char **argv);

/* Was it given? The last value given, or `fallback`. */
bool qc_cli_has(const qc_cli *cli, const char *name);
const char *qc_cli_text(const qc_cli *cli, const char *name, const char *fallback);
/* False after a usage error was printed. *value keeps its value when the option was not given. */
bool qc_cli_int(qc_cli *cli, const char *name, int64_t min, int64_t max, int64_t *value);
bool qc_cli_float(qc_cli *cli, const char *name, double min, double max, double *value);
/* Bytes: 500MB and 20GB are powers of 1000; 512MiB, 512M and 4G powers of 1024; a plain number is bytes. */
bool qc_cli_size(qc_cli *cli, const char *name, uint64_t *size_bytes);

/* A qc_diagnostic_fn / qc_diag_fn; `user` is the qc_cli. One line `TOOL: error: WHERE: WHAT` on stderr. */
void qc_cli_diagnostic(void *user, qc_severity severity, const char *where, const char *what);
/* A qc_out_of_memory_fn: one line, then ends the process with status 1. */
void qc_cli_out_of_memory(size_t size_bytes);
/* A qc_progress_fn; `user` is the qc_cli. Percent, rate and time left on one line of stderr. */
void qc_cli_progress(void *user, const char *what, const char *unit, uint64_t done, uint64_t total);
/* A line on stderr that is no diagnostic: "qc-opt: planned peak memory: 812 MiB". */
void qc_cli_say(qc_cli *cli, const char *format, ...) QC_PRINTF(2, 3);

#endif
