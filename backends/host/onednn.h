/* SPDX-License-Identifier: MIT
 *
 * onednn.h - products of bf16 tiles by oneDNN, where the processor has bf16 products.
 *
 * oneDNN promises no reproducible sums: they may change with the number of rows and of threads, and one
 * primitive run from two threads with the library's scratchpad gives wrong numbers. So a kernel here has one
 * constant number of rows, takes the whole K, runs on the calling thread alone and gets its scratchpad from
 * the caller. Built without oneDNN (QC_HAVE_DNNL undefined) these functions say that there are no bf16
 * products.
 */
#ifndef QC_HOST_ONEDNN_H
#define QC_HOST_ONEDNN_H

#include "ir/support/diag.h"
#include "qc/dtype.h"

/* Cache of kernels by shape; used by any number of threads. */
typedef struct qc_host_onednn qc_host_onednn;
/* C[M, N] (f32) = A[M, K] B[K, N]; owned by the cache. */
typedef struct qc_host_onednn_kernel qc_host_onednn_kernel;
/* What one thread needs to run kernels. */
typedef struct qc_host_onednn_runner qc_host_onednn_runner;

bool qc_host_onednn_has_bf16(void);
const char *qc_host_onednn_version(void); /* "oneDNN 2.6.3" */
qc_host_onednn *qc_host_onednn_create(qc_diag *diag);
void qc_host_onednn_destroy(qc_host_onednn *context);

/* The kernel for these sizes, of bf16 or f32 factors. Kernels that differ in `rows` only read the same packed
 * weights. NULL after a diagnostic that names `where`; diag NULL: silently. */
const qc_host_onednn_kernel *qc_host_onednn_get(qc_host_onednn *context, qc_diag *diag, const char *where,
    size_t rows, size_t columns, size_t depth, qc_dtype dtype);
size_t qc_host_onednn_weight_bytes(const qc_host_onednn_kernel *kernel);
size_t qc_host_onednn_scratch_bytes(const qc_host_onednn_kernel *kernel);

/* Packs [columns, depth] rows with a stride in elements into `packed` (64-byte aligned). */
qc_status qc_host_onednn_pack(const qc_host_onednn_kernel *kernel, qc_diag *diag, const char *where,
    const void *weight, size_t weight_stride, void *packed);

/* NULL when the library fails to make one. */
qc_host_onednn_runner *qc_host_onednn_runner_create(qc_host_onednn *context);
void qc_host_onednn_runner_destroy(qc_host_onednn_runner *runner);
/* 0, or the library's status. a: [rows, depth] contiguous; c: [rows, columns] f32 contiguous. */
int qc_host_onednn_run(qc_host_onednn_runner *runner, const qc_host_onednn_kernel *kernel, const void *a,
    const void *packed, float *c, void *scratch);
const char *qc_host_onednn_status_name(int status);

#endif
