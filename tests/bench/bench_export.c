/* SPDX-License-Identifier: MIT
 *
 * bench_export.c - whole data-free jobs against the disk: qc-opt against a pipeline that does nothing but read the same
 * input and write as many bytes.
 *
 *   bench_export QC_OPT MAKE_CHECKPOINT [--dir=DIR] [--size=256MiB] [--runs=5] [--cold]
 *
 * A checkpoint of random weights is made in DIR (kept there, and taken again by a later run). For each scheme: job and
 * pipeline take turns, --runs times; the medians and their ratio are printed, the job's peak memory, and its rate over
 * input bytes. The pipeline has as many threads as the machine has processors; each reads a piece of 1 MiB of a shard
 * and writes its share of the output to its place in a file whose space is reserved, as the job does, and nothing is
 * computed. Both end with their data on the disk (fsync). --cold: the input is dropped from the page cache before each
 * turn. What the turn before left for the disk to do is waited for (sync) before the clock starts.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#include "ir/support/io.h"

enum { PIECE_BYTES = 1 << 20, MAX_RUNS = 99, MAX_FILES = 1024 };

typedef struct bench {
    qc_arena arena;
    qc_diag diag;
    const char *qc_opt, *make_checkpoint, *directory, *size, *model;
    int runs;
    bool cold;
    int inputs[MAX_FILES];
    uint64_t input_sizes[MAX_FILES];
    size_t input_count;
    uint64_t input_bytes;
} bench;

static void say(void *user, qc_severity severity, const char *where, const char *what)
{
    (void)user;
    (void)severity;
    fprintf(stderr, "bench_export: %s: %s\n", where, what);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *values, int count)
{
    qsort(values, (size_t)count, sizeof *values, by_value);
    return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

static double processor_seconds(const struct rusage *u)
{
    return (double)(u->ru_utime.tv_sec + u->ru_stime.tv_sec) +
           1e-6 * (double)(u->ru_utime.tv_usec + u->ru_stime.tv_usec);
}

/* Of this process so far. */
static double own_processor(void)
{
    struct rusage usage = {0};
    getrusage(RUSAGE_SELF, &usage);
    return processor_seconds(&usage);
}

/* Runs a program to its end; its peak memory in KiB, or -1 when it failed. */
static long run(char *const *arguments, double *processor)
{
    pid_t child = fork();
    int status;
    struct rusage usage;
    if (child == 0) {
        int null = open("/dev/null", O_WRONLY);
        dup2(null, 1);
        execv(arguments[0], arguments);
        _exit(127);
    }
    if (child < 0 || wait4(child, &status, 0, &usage) < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return -1;
    *processor = processor_seconds(&usage);
    return usage.ru_maxrss;
}

static bool prepare(bench *b)
{
    b->model = qc_path_join(&b->arena, b->directory, qc_arena_printf(&b->arena, "bench_export-%s", b->size));
    if (!qc_is_directory(b->model)) {
        char *arguments[] = {(char *)(uintptr_t)b->make_checkpoint, (char *)(uintptr_t)b->model,
            qc_arena_printf(&b->arena, "--size=%s", b->size), NULL};
        double processor;
        if (run(arguments, &processor) < 0)
            return false;
    }
    char **names;
    size_t count;
    if (qc_list_directory(&b->diag, &b->arena, b->model, &names, &count) != QC_OK)
        return false;
    for (size_t i = 0; i < count && b->input_count < MAX_FILES; i++) {
        struct stat info;
        if (!strstr(names[i], ".safetensors") || strstr(names[i], ".json"))
            continue;
        int fd = open(qc_path_join(&b->arena, b->model, names[i]), O_RDONLY | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &info) != 0)
            return false;
        b->inputs[b->input_count] = fd;
        b->input_sizes[b->input_count++] = (uint64_t)info.st_size;
        b->input_bytes += (uint64_t)info.st_size;
    }
    return b->input_count > 0;
}

/* Bytes of the weights in a directory. */
static uint64_t output_bytes(bench *b, const char *directory)
{
    char **names;
    size_t count;
    uint64_t total = 0;
    if (qc_list_directory(&b->diag, &b->arena, directory, &names, &count) != QC_OK)
        return 0;
    for (size_t i = 0; i < count; i++) {
        struct stat info;
        if (stat(qc_path_join(&b->arena, directory, names[i]), &info) == 0)
            total += (uint64_t)info.st_size;
    }
    return total;
}

static void settle(bench *b)
{
    sync();
    for (size_t i = 0; b->cold && i < b->input_count; i++)
        posix_fadvise(b->inputs[i], 0, 0, POSIX_FADV_DONTNEED);
}

/* One piece of one input, and its share of the output. */
static bool piece(
    const bench *b, int out, size_t file, uint64_t at, uint64_t before, double share, char *buffer)
{
    uint64_t left = b->input_sizes[file] - at, length = left < PIECE_BYTES ? left : PIECE_BYTES;
    ssize_t n = pread(b->inputs[file], buffer, (size_t)length, (off_t)at);
    if (n != (ssize_t)length)
        return false;
    uint64_t from = (uint64_t)((double)(before + at) * share);
    uint64_t to = (uint64_t)((double)(before + at + length) * share);
    return pwrite(out, buffer, (size_t)(to - from), (off_t)from) == (ssize_t)(to - from);
}

/* The plain pipeline: seconds, or -1. */
static double plain(bench *b, uint64_t bytes)
{
    const char *path = qc_path_join(&b->arena, b->directory, "bench_export.plain");
    const double share = (double)bytes / (double)b->input_bytes;
    bool ok = true;
    settle(b);
    double start = now();
    int out = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (out < 0 || (fallocate(out, 0, 0, (off_t)bytes) != 0 && errno != EOPNOTSUPP))
        return -1;
    uint64_t before = 0;
    for (size_t f = 0; f < b->input_count; before += b->input_sizes[f++]) {
        int64_t pieces = (int64_t)((b->input_sizes[f] + PIECE_BYTES - 1) / PIECE_BYTES);
#pragma omp parallel
        {
            char *buffer = malloc(PIECE_BYTES);
#pragma omp for schedule(dynamic)
            for (int64_t i = 0; i < pieces; i++)
                if (!buffer || !piece(b, out, f, (uint64_t)i * PIECE_BYTES, before, share, buffer))
#pragma omp atomic write
                    ok = false;
            free(buffer);
        }
    }
    ok = fsync(out) == 0 && ok;
    ok = close(out) == 0 && ok;
    double seconds = now() - start;
    unlink(path);
    return ok ? seconds : -1;
}

/* The job: seconds, or -1. */
static double job(bench *b, const char *scheme, const char *out, long *peak_kib, double *processor)
{
    char *arguments[] = {(char *)(uintptr_t)b->qc_opt, qc_arena_printf(&b->arena, "--scheme=%s", scheme),
        (char *)(uintptr_t) "--ignore=lm_head", "--progress=never", (char *)(uintptr_t)b->model, "-o",
        (char *)(uintptr_t)out, NULL};
    settle(b);
    double start = now();
    long peak = run(arguments, processor);
    double seconds = now() - start;
    *peak_kib = peak > *peak_kib ? peak : *peak_kib;
    return peak < 0 ? -1 : seconds;
}

static bool measure(bench *b, const char *scheme)
{
    const char *out = qc_path_join(&b->arena, b->directory, "bench_export.out");
    double jobs[MAX_RUNS], plains[MAX_RUNS], job_cpu[MAX_RUNS], plain_cpu[MAX_RUNS];
    long peak_kib = 0;
    uint64_t bytes = 0;
    if (qc_is_directory(out) && qc_remove_tree(&b->diag, out) != QC_OK)
        return false;
    for (int i = 0; i < b->runs; i++) {
        jobs[i] = job(b, scheme, out, &peak_kib, &job_cpu[i]);
        bytes = jobs[i] < 0 ? 0 : output_bytes(b, out);
        if (bytes == 0 || qc_remove_tree(&b->diag, out) != QC_OK)
            return false;
        plain_cpu[i] = own_processor();
        plains[i] = plain(b, bytes);
        plain_cpu[i] = own_processor() - plain_cpu[i];
        if (plains[i] < 0)
            return false;
    }
    double j = median(jobs, b->runs), p = median(plains, b->runs);
    printf("%-12s %7.2f s, plain %7.2f s: %5.3f times; processor %5.2f s and %5.2f s; ", scheme, j, p, j / p,
        median(job_cpu, b->runs), median(plain_cpu, b->runs));
    printf("%.2f GB/s of input, peak %ld MiB; %llu MB -> %llu MB\n", (double)b->input_bytes / j / 1e9,
        peak_kib >> 10, (unsigned long long)(b->input_bytes / 1000000),
        (unsigned long long)(bytes / 1000000));
    fflush(stdout);
    return true;
}

int main(int argc, char **argv)
{
    static const char *const schemes[] = {"FP8_DYNAMIC", "NVFP4A16", "W4A16"};
    bench b = {.directory = ".", .size = "256MiB", .runs = 5};
    qc_arena_init(&b.arena, NULL);
    qc_diag_init(&b.diag, &b.arena, say, NULL);
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--dir=", 6) == 0)
            b.directory = argv[i] + 6;
        else if (strncmp(argv[i], "--size=", 7) == 0)
            b.size = argv[i] + 7;
        else if (strncmp(argv[i], "--runs=", 7) == 0)
            b.runs = atoi(argv[i] + 7);
        else if (strcmp(argv[i], "--cold") == 0)
            b.cold = true;
        else
            *(b.qc_opt ? &b.make_checkpoint : &b.qc_opt) = argv[i];
    }
    if (!b.make_checkpoint || b.runs < 1 || b.runs > MAX_RUNS) {
        fprintf(stderr,
            "usage: bench_export QC_OPT MAKE_CHECKPOINT [--dir=DIR] [--size=SIZE] [--runs=N] [--cold]\n");
        return 2;
    }
    if (!prepare(&b)) {
        fprintf(stderr, "bench_export: cannot make or read %s\n", b.model);
        return 1;
    }
    printf("input %s: %s\n", b.cold ? "from the disk" : "in the page cache", b.size);
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++)
        if (!measure(&b, schemes[i])) {
            fprintf(stderr, "bench_export: %s failed\n", schemes[i]);
            return 1;
        }
    qc_arena_fini(&b.arena);
    return 0;
}
