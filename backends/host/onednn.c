/* SPDX-License-Identifier: MIT
 *
 * onednn.c - kernels, packing and running of bf16 products through oneDNN's C API (2.6).
 *
 * One matmul primitive a shape, with the weight's layout left to the library and a scratchpad of the
 * caller's. The library's loops take their thread count from OpenMP when a primitive is made and when it is
 * run, so both happen with that count set to one.
 */
#include "backends/host/onednn.h"

#ifdef QC_HAVE_DNNL

#include <oneapi/dnnl/dnnl.h>
#include <oneapi/dnnl/dnnl_debug.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#ifdef _OPENMP
#include <omp.h>
#endif

struct qc_host_onednn_kernel {
    struct qc_host_onednn_kernel *next;
    size_t rows, columns, depth;
    qc_dtype dtype;
    dnnl_engine_t engine; /* the context's */
    dnnl_primitive_desc_t description;
    dnnl_primitive_t primitive;
    dnnl_memory_desc_t a, weight, c, scratch;
};

struct qc_host_onednn {
    dnnl_engine_t engine;
    pthread_mutex_t lock; /* guards the list */
    qc_host_onednn_kernel *kernels;
};

struct qc_host_onednn_runner {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    const qc_host_onednn_kernel *kernel; /* that the memories are made for */
    dnnl_memory_t a, weight, c, scratch;
};

static int serial_begin(void)
{
    int threads = 1;
#ifdef _OPENMP
    threads = omp_get_max_threads();
    omp_set_num_threads(1);
#endif
    return threads;
}

static void serial_end(int threads)
{
#ifdef _OPENMP
    omp_set_num_threads(threads);
#else
    (void)threads;
#endif
}

bool qc_host_onednn_has_bf16(void)
{
    unsigned isa = (unsigned)dnnl_get_effective_cpu_isa(), wanted = dnnl_cpu_isa_avx512_core_bf16;
    return isa == dnnl_cpu_isa_all || (isa & wanted) == wanted;
}

const char *qc_host_onednn_version(void)
{
    /* the headers' version; a library with the same soname keeps its interface */
#define TEXT2(x) #x
#define TEXT(x) TEXT2(x)
    return "oneDNN " TEXT(DNNL_VERSION_MAJOR) "." TEXT(DNNL_VERSION_MINOR) "." TEXT(DNNL_VERSION_PATCH);
}

const char *qc_host_onednn_status_name(int status)
{
    return dnnl_status2str((dnnl_status_t)status);
}

qc_host_onednn *qc_host_onednn_create(qc_diag *diag)
{
    qc_host_onednn *context = calloc(1, sizeof *context);

    if (!context) {
        qc_error(diag, "oneDNN", "out of memory");
        return NULL;
    }
    dnnl_status_t status = dnnl_engine_create(&context->engine, dnnl_cpu, 0);
    if (status != dnnl_success || pthread_mutex_init(&context->lock, NULL) != 0) {
        qc_error(diag, "oneDNN", "cannot make a CPU engine: %s", dnnl_status2str(status));
        free(context);
        return NULL;
    }
    return context;
}

static void kernel_free(qc_host_onednn_kernel *kernel)
{
    if (kernel->primitive)
        dnnl_primitive_destroy(kernel->primitive);
    if (kernel->description)
        dnnl_primitive_desc_destroy(kernel->description);
    free(kernel);
}

void qc_host_onednn_destroy(qc_host_onednn *context)
{
    if (!context)
        return;
    for (qc_host_onednn_kernel *k = context->kernels, *next; k; k = next) {
        next = k->next;
        kernel_free(k);
    }
    dnnl_engine_destroy(context->engine);
    pthread_mutex_destroy(&context->lock);
    free(context);
}

/* Fills in everything of a kernel whose sizes are set. `weight`: the packed layout to take, or NULL for any.
 */
static dnnl_status_t kernel_make(qc_host_onednn_kernel *k, const dnnl_memory_desc_t *weight)
{
    dnnl_dims_t a = {(dnnl_dim_t)k->rows, (dnnl_dim_t)k->depth};
    dnnl_dims_t b = {(dnnl_dim_t)k->depth, (dnnl_dim_t)k->columns};
    dnnl_dims_t c = {(dnnl_dim_t)k->rows, (dnnl_dim_t)k->columns};
    dnnl_data_type_t type = k->dtype == QC_BF16 ? dnnl_bf16 : dnnl_f32;
    dnnl_primitive_attr_t attributes = NULL;
    dnnl_matmul_desc_t matmul;

    dnnl_status_t status = dnnl_memory_desc_init_by_tag(&k->a, 2, a, type, dnnl_ab);
    if (status == dnnl_success && weight)
        k->weight = *weight;
    else if (status == dnnl_success)
        status = dnnl_memory_desc_init_by_tag(&k->weight, 2, b, type, dnnl_format_tag_any);
    if (status == dnnl_success)
        status = dnnl_memory_desc_init_by_tag(&k->c, 2, c, dnnl_f32, dnnl_ab);
    if (status == dnnl_success)
        status = dnnl_matmul_desc_init(&matmul, &k->a, &k->weight, NULL, &k->c);
    if (status == dnnl_success)
        status = dnnl_primitive_attr_create(&attributes);
    if (status == dnnl_success)
        status = dnnl_primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user);
    if (status == dnnl_success)
        status = dnnl_primitive_desc_create(&k->description, &matmul, attributes, k->engine, NULL);
    if (status == dnnl_success)
        status = dnnl_primitive_create(&k->primitive, k->description);
    if (status == dnnl_success) {
        k->weight = *dnnl_primitive_desc_query_md(k->description, dnnl_query_weights_md, 0);
        k->scratch = *dnnl_primitive_desc_query_md(k->description, dnnl_query_scratchpad_md, 0);
    }
    if (attributes)
        dnnl_primitive_attr_destroy(attributes);
    return status;
}

static qc_host_onednn_kernel *find(
    qc_host_onednn_kernel *k, size_t rows, size_t columns, size_t depth, qc_dtype dtype)
{
    while (k && !((rows == 0 || k->rows == rows) && k->columns == columns && k->depth == depth &&
                    k->dtype == dtype))
        k = k->next;
    return k;
}

const qc_host_onednn_kernel *qc_host_onednn_get(qc_host_onednn *context, qc_diag *diag, const char *where,
    size_t rows, size_t columns, size_t depth, qc_dtype dtype)
{
    dnnl_status_t status = dnnl_out_of_memory;

    pthread_mutex_lock(&context->lock);
    qc_host_onednn_kernel *kernel = find(context->kernels, rows, columns, depth, dtype);
    if (!kernel && (kernel = calloc(1, sizeof *kernel))) {
        const qc_host_onednn_kernel *sibling = find(context->kernels, 0, columns, depth, dtype);
        int threads = serial_begin();
        kernel->rows = rows;
        kernel->columns = columns;
        kernel->depth = depth;
        kernel->dtype = dtype;
        kernel->engine = context->engine;
        status = kernel_make(kernel, sibling ? &sibling->weight : NULL);
        serial_end(threads);
        if (status == dnnl_success) {
            kernel->next = context->kernels;
            context->kernels = kernel;
        } else {
            kernel_free(kernel);
            kernel = NULL;
        }
    }
    pthread_mutex_unlock(&context->lock);
    if (!kernel && diag)
        qc_error(diag, where, "oneDNN has no %s product of %zu x %zu x %zu: %s", qc_dtype_name(dtype), rows,
            columns, depth, dnnl_status2str(status));
    return kernel;
}

size_t qc_host_onednn_weight_bytes(const qc_host_onednn_kernel *kernel)
{
    return dnnl_memory_desc_get_size(&kernel->weight);
}

size_t qc_host_onednn_scratch_bytes(const qc_host_onednn_kernel *kernel)
{
    return dnnl_memory_desc_get_size(&kernel->scratch);
}

static dnnl_status_t reorder(const qc_host_onednn_kernel *kernel, dnnl_stream_t stream,
    const dnnl_memory_desc_t *plain, const void *weight, void *packed)
{
    dnnl_primitive_desc_t description = NULL;
    dnnl_primitive_t primitive = NULL;
    dnnl_memory_t from = NULL, to = NULL;

    dnnl_status_t status = dnnl_reorder_primitive_desc_create(
        &description, plain, kernel->engine, &kernel->weight, kernel->engine, NULL);
    if (status == dnnl_success)
        status = dnnl_primitive_create(&primitive, description);
    /* the interface has no const; a reorder only reads its source */
    if (status == dnnl_success)
        status = dnnl_memory_create(&from, plain, kernel->engine, (void *)(uintptr_t)weight);
    if (status == dnnl_success)
        status = dnnl_memory_create(&to, &kernel->weight, kernel->engine, packed);
    if (status == dnnl_success) {
        dnnl_exec_arg_t arguments[] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}};
        status = dnnl_primitive_execute(primitive, stream, 2, arguments);
    }
    if (status == dnnl_success)
        status = dnnl_stream_wait(stream);
    if (to)
        dnnl_memory_destroy(to);
    if (from)
        dnnl_memory_destroy(from);
    if (primitive)
        dnnl_primitive_destroy(primitive);
    if (description)
        dnnl_primitive_desc_destroy(description);
    return status;
}

qc_status qc_host_onednn_pack(const qc_host_onednn_kernel *kernel, qc_diag *diag, const char *where,
    const void *weight, size_t weight_stride, void *packed)
{
    dnnl_dims_t dims = {(dnnl_dim_t)kernel->depth, (dnnl_dim_t)kernel->columns};
    dnnl_dims_t strides = {1, (dnnl_dim_t)weight_stride};
    dnnl_memory_desc_t plain;
    dnnl_stream_t stream = NULL;

    int threads = serial_begin();
    dnnl_status_t status = dnnl_memory_desc_init_by_strides(
        &plain, 2, dims, kernel->dtype == QC_BF16 ? dnnl_bf16 : dnnl_f32, strides);
    if (status == dnnl_success)
        status = dnnl_stream_create(&stream, kernel->engine, dnnl_stream_default_flags);
    if (status == dnnl_success)
        status = reorder(kernel, stream, &plain, weight, packed);
    if (stream)
        dnnl_stream_destroy(stream);
    serial_end(threads);
    if (status != dnnl_success)
        return qc_error(diag, where, "oneDNN cannot pack this weight: %s", dnnl_status2str(status));
    return QC_OK;
}

qc_host_onednn_runner *qc_host_onednn_runner_create(qc_host_onednn *context)
{
    qc_host_onednn_runner *runner = calloc(1, sizeof *runner);

    if (!runner)
        return NULL;
    runner->engine = context->engine;
    if (dnnl_stream_create(&runner->stream, context->engine, dnnl_stream_default_flags) != dnnl_success) {
        free(runner);
        return NULL;
    }
    return runner;
}

static void runner_forget(qc_host_onednn_runner *runner)
{
    dnnl_memory_t *memories[] = {&runner->a, &runner->weight, &runner->c, &runner->scratch};

    for (size_t i = 0; i < sizeof memories / sizeof *memories; i++) {
        if (*memories[i])
            dnnl_memory_destroy(*memories[i]);
        *memories[i] = NULL;
    }
    runner->kernel = NULL;
}

void qc_host_onednn_runner_destroy(qc_host_onednn_runner *runner)
{
    if (!runner)
        return;
    runner_forget(runner);
    dnnl_stream_destroy(runner->stream);
    free(runner);
}

static dnnl_status_t runner_fit(qc_host_onednn_runner *runner, const qc_host_onednn_kernel *kernel)
{
    dnnl_status_t status = dnnl_success;

    if (runner->kernel == kernel)
        return dnnl_success;
    runner_forget(runner);
    status = dnnl_memory_create(&runner->a, &kernel->a, runner->engine, DNNL_MEMORY_NONE);
    if (status == dnnl_success)
        status = dnnl_memory_create(&runner->weight, &kernel->weight, runner->engine, DNNL_MEMORY_NONE);
    if (status == dnnl_success)
        status = dnnl_memory_create(&runner->c, &kernel->c, runner->engine, DNNL_MEMORY_NONE);
    if (status == dnnl_success)
        status = dnnl_memory_create(&runner->scratch, &kernel->scratch, runner->engine, DNNL_MEMORY_NONE);
    if (status == dnnl_success)
        runner->kernel = kernel;
    return status;
}

int qc_host_onednn_run(qc_host_onednn_runner *runner, const qc_host_onednn_kernel *kernel, const void *a,
    const void *packed, float *c, void *scratch)
{
    int threads = serial_begin();
    dnnl_status_t status = runner_fit(runner, kernel);

    /* the interface has no const; a product only reads its factors */
    if (status == dnnl_success)
        status = dnnl_memory_set_data_handle(runner->a, (void *)(uintptr_t)a);
    if (status == dnnl_success)
        status = dnnl_memory_set_data_handle(runner->weight, (void *)(uintptr_t)packed);
    if (status == dnnl_success)
        status = dnnl_memory_set_data_handle(runner->c, c);
    if (status == dnnl_success)
        status = dnnl_memory_set_data_handle(runner->scratch, scratch);
    if (status == dnnl_success) {
        dnnl_exec_arg_t arguments[] = {{DNNL_ARG_SRC, runner->a}, {DNNL_ARG_WEIGHTS, runner->weight},
            {DNNL_ARG_DST, runner->c}, {DNNL_ARG_SCRATCHPAD, runner->scratch}};
        status = dnnl_primitive_execute(kernel->primitive, runner->stream, 4, arguments);
    }
    if (status == dnnl_success)
        status = dnnl_stream_wait(runner->stream);
    serial_end(threads);
    return status;
}

#else

bool qc_host_onednn_has_bf16(void)
{
    return false;
}

const char *qc_host_onednn_version(void)
{
    return "no oneDNN";
}

const char *qc_host_onednn_status_name(int status)
{
    (void)status;
    return "built without oneDNN";
}

qc_host_onednn *qc_host_onednn_create(qc_diag *diag)
{
    qc_error(diag, "oneDNN", "this program was built without it");
    return NULL;
}

void qc_host_onednn_destroy(qc_host_onednn *context)
{
    (void)context;
}

const qc_host_onednn_kernel *qc_host_onednn_get(qc_host_onednn *context, qc_diag *diag, const char *where,
    size_t rows, size_t columns, size_t depth, qc_dtype dtype)
{
    (void)context, (void)rows, (void)columns, (void)depth, (void)dtype;
    if (diag)
        qc_error(diag, where, "this program was built without oneDNN");
    return NULL;
}

size_t qc_host_onednn_weight_bytes(const qc_host_onednn_kernel *kernel)
{
    (void)kernel;
    return 0;
}

size_t qc_host_onednn_scratch_bytes(const qc_host_onednn_kernel *kernel)
{
    (void)kernel;
    return 0;
}

qc_status qc_host_onednn_pack(const qc_host_onednn_kernel *kernel, qc_diag *diag, const char *where,
    const void *weight, size_t weight_stride, void *packed)
{
    (void)kernel, (void)weight, (void)weight_stride, (void)packed;
    return qc_error(diag, where, "this program was built without oneDNN");
}

qc_host_onednn_runner *qc_host_onednn_runner_create(qc_host_onednn *context)
{
    (void)context;
    return NULL;
}

void qc_host_onednn_runner_destroy(qc_host_onednn_runner *runner)
{
    (void)runner;
}

int qc_host_onednn_run(qc_host_onednn_runner *runner, const qc_host_onednn_kernel *kernel, const void *a,
    const void *packed, float *c, void *scratch)
{
    (void)runner, (void)kernel, (void)a, (void)packed, (void)c, (void)scratch;
    return 1;
}

#endif
