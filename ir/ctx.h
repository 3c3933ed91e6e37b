/* SPDX-License-Identifier: MIT
 *
 * ctx.h - what library code of other folders (frontends, backends, runtime) needs of a context beyond the
 * public functions: its diagnostics, for the readers in ir/support, and its arena, whose out-of-memory policy
 * their own arenas take over. Not installed; a pass does without it.
 */
#ifndef QC_CTX_H
#define QC_CTX_H

#include "ir/support/diag.h"
#include "qc/ir.h"

/* Lives as long as the context. */
qc_diag *qc_ctx_diag(qc_ctx *ctx);
/* Memory that lives as long as the context; never freed before it. */
qc_arena *qc_ctx_arena(qc_ctx *ctx);
/* As qc_target_check, with the error reported at `where`: "WHERE: TARGET: bad pattern ...". */
qc_status qc_target_check_at(qc_ctx *ctx, const char *where, const char *target);

#endif
