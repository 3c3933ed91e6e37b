/* SPDX-License-Identifier: MIT
 *
 * bad_plugin.c - shared objects that must be refused, one for each value of BAD.
 */
#define WRONG_ABI 1
#define NO_SYMBOLS 2
#define ABI_ONLY 3
#define REGISTER_FAILS 4
#define COLLIDES 5
#define REPORTS_AND_GOES_ON 6
#define UNRESOLVED 7

#include "qc/plugin.h"

#if BAD == NO_SYMBOLS
QC_API int something_else(void);

int something_else(void)
{
    return 1;
}
#elif BAD == WRONG_ABI || BAD == ABI_ONLY
int qc_plugin_abi(void)
{
    return BAD == WRONG_ABI ? QC_PLUGIN_ABI + 41 : QC_PLUGIN_ABI;
}
#else
QC_PLUGIN("bad", "0.1")

#if BAD == UNRESOLVED
QC_API qc_status qc_there_is_no_such_function(qc_ctx *ctx);
#endif

#if BAD == COLLIDES
static qc_pass_result run(qc_pass_ctx *pc, qc_module *module)
{
    (void)pc, (void)module;
    return QC_PASS_UNCHANGED;
}
#endif

qc_status qc_plugin_register(qc_ctx *ctx, qc_registry *registry)
{
    (void)ctx, (void)registry;
#if BAD == COLLIDES
    return qc_registry_add(registry, "dce", "takes a name that is taken", run) ? QC_OK : QC_ERROR;
#elif BAD == UNRESOLVED
    return qc_there_is_no_such_function(ctx);
#elif BAD == REPORTS_AND_GOES_ON
    qc_ctx_error(ctx, "bad", "something is wrong");
    return QC_OK;
#else
    return qc_ctx_error(ctx, "bad", "the licence has run out");
#endif
}
#endif
