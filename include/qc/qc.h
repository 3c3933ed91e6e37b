/* SPDX-License-Identifier: MIT
 *
 * qc.h - what every other public header needs: status codes, severities, the names of the opaque handles.
 *
 * Conventions of the whole API. Handles are opaque; ownership is in the name: `_create`/`_destroy` pair up,
 * everything else borrows. Strings returned live as long as the handle they were asked of. A function that
 * can fail on what a user wrote reports a diagnostic to the context and returns QC_ERROR (or NULL); it never
 * exits, prints or aborts. A context and all that belongs to it is used by one thread at a time; two contexts
 * are independent.
 */
#ifndef QC_QC_H
#define QC_QC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define QC_API __attribute__((visibility("default")))
#define QC_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define QC_COLD __attribute__((cold))
#else
#define QC_API
#define QC_PRINTF(fmt, args)
#define QC_COLD
#endif

typedef enum qc_status {
    QC_OK = 0,
    QC_ERROR = 1, /* a diagnostic says why */
} qc_status;

typedef enum qc_severity {
    QC_SEVERITY_NOTE,    /* belongs to the diagnostic before it: what to do about it */
    QC_SEVERITY_REMARK,  /* what a pass did or left alone, and why */
    QC_SEVERITY_WARNING, /* the job goes on, but look at this */
    QC_SEVERITY_ERROR,   /* the job fails */
} qc_severity;

typedef struct qc_ctx qc_ctx;         /* interned types and strings, diagnostics */
typedef struct qc_module qc_module;   /* source, dims, symbols, module tree, functions */
typedef struct qc_func qc_func;       /* a list of operations */
typedef struct qc_op qc_op;           /* one operation */
typedef struct qc_value qc_value;     /* a result of an operation, or a function argument */
typedef struct qc_type qc_type;       /* element type and shape; interned: equal types are the same pointer */
typedef struct qc_dim qc_dim;         /* one dimension; interned likewise */
typedef struct qc_attr qc_attr;       /* immutable attribute value */
typedef struct qc_node qc_node;       /* a node of the module tree: path and class */
typedef struct qc_symbol qc_symbol;   /* module-level symbol: scheme, kv_scheme, transform */
typedef struct qc_builder qc_builder; /* makes operations at a cursor */
typedef struct qc_pass qc_pass;       /* description of a pass */
typedef struct qc_pass_ctx qc_pass_ctx; /* one run of a pass */
typedef struct qc_registry qc_registry; /* the passes that are known */

#ifdef __cplusplus
}
#endif
#endif
