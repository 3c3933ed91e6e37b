/* SPDX-License-Identifier: MIT
 *
 * plugin.h - what a shared object must export to be loaded with --load=PLUGIN.so.
 *
 *   QC_PLUGIN("acme-int4", "0.3")
 *   qc_status qc_plugin_register(qc_ctx *ctx, qc_registry *registry) { ... return QC_OK; }
 *
 * The ABI number grows whenever a function of include/qc changes or goes away; a plug-in made for another
 * number is refused. docs/writing-a-pass.md walks through one.
 */
#ifndef QC_PLUGIN_H
#define QC_PLUGIN_H

#include "qc/pass.h"

#define QC_PLUGIN_ABI 1

#ifdef __cplusplus
extern "C" {
#endif

QC_API int qc_plugin_abi(void);
QC_API const char *qc_plugin_name(void);
QC_API const char *qc_plugin_version(void);
/* Registers the passes; QC_ERROR (after qc_ctx_error) makes the load fail. */
QC_API qc_status qc_plugin_register(qc_ctx *ctx, qc_registry *registry);

#ifdef __cplusplus
}
#endif

#define QC_PLUGIN(name_text, version_text)                                                                   \
    int qc_plugin_abi(void)                                                                                  \
    {                                                                                                        \
        return QC_PLUGIN_ABI;                                                                                \
    }                                                                                                        \
    const char *qc_plugin_name(void)                                                                         \
    {                                                                                                        \
        return name_text;                                                                                    \
    }                                                                                                        \
    const char *qc_plugin_version(void)                                                                      \
    {                                                                                                        \
        return version_text;                                                                                 \
    }

#endif
