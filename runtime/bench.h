/* SPDX-License-Identifier: MIT
 *
 * bench.h - how fast a model runs here, beside how fast this machine copies memory.
 */
#ifndef QC_RUNTIME_BENCH_H
#define QC_RUNTIME_BENCH_H

#include "runtime/model.h"

typedef struct qc_bench_report {
    size_t prefill_tokens, decode_tokens;
    double prefill_rate, decode_rate; /* tokens a second of one sequence: the best of some runs, the mean */
    uint64_t weight_bytes; /* of the weights that a decoded token needs, as the model stores them */
    uint64_t cache_bytes;  /* of the KV cache that a decoded token reads, on average */
    uint64_t cache_bytes_per_token;
    double read_rate; /* bytes a second: what decoding reads of those two */
    double copy_rate; /* bytes read and written a second by a parallel memcpy between large buffers */
} qc_bench_report;

/* Runs `prefill` random tokens (a fixed choice) at once, then `decode` tokens one by one behind them; both at
 * least 1. */
qc_status qc_bench_run(qc_model *model, size_t prefill, size_t decode, int threads, qc_bench_report *report);

void qc_bench_print_text(const qc_bench_report *report, qc_str *out);
/* One JSON object on one line. */
void qc_bench_print_json(const char *model, const qc_bench_report *report, qc_arena *arena, qc_str *out);

#endif
