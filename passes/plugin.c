/* SPDX-License-Identifier: MIT
 *
 * plugin.c - loading passes from shared objects (qc/plugin.h). A load that fails is an error of the whole
 * job: the user asked for a pass that is not there.
 *
 * The object finds the functions of include/qc in the running program, which exports them. Its own symbols
 * stay local (RTLD_LOCAL), so that two plug-ins may both export qc_plugin_register.
 */
#include <dlfcn.h>
#include <string.h>

#include "ir/support/io.h"
#include "passes/internal.h"
#include "qc/plugin.h"

typedef qc_status (*register_fn)(qc_ctx *ctx, qc_registry *registry);

/* POSIX promises that a void pointer of dlsym holds a function; ISO C has no cast for it. */
static bool find_symbol(void *library, const char *name, void *function, size_t size)
{
    void *symbol = dlsym(library, name);
    memcpy(function, &symbol, size);
    return symbol != NULL;
}

qc_status qc_registry_load_plugin(qc_registry *registry, const char *path)
{
    qc_ctx *ctx = registry->ctx;
    int (*abi)(void);
    const char *(*name)(void), *(*version)(void);
    register_fn add;
    /* Without a slash dlopen would look in the system's library folders. */
    const char *file = strchr(path, '/') ? path : qc_arena_printf(&registry->arena, "./%s", path);
    if (!qc_is_file(file))
        return qc_ctx_error(ctx, path, "the plug-in does not exist or is no file");
    void *library = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        const char *why = dlerror();
        return qc_ctx_error(ctx, path, "the plug-in cannot be loaded: %s", why ? why : "no reason given");
    }
    QC_PUSH(&registry->arena, &registry->libraries, library);
    if (!find_symbol(library, "qc_plugin_abi", &abi, sizeof abi))
        return qc_ctx_error(ctx, path, "not a plug-in: it does not export qc_plugin_abi");
    if (abi() != QC_PLUGIN_ABI)
        return qc_ctx_error(
            ctx, path, "the plug-in was made for ABI %d, this program has ABI %d", abi(), QC_PLUGIN_ABI);
    if (!find_symbol(library, "qc_plugin_name", &name, sizeof name) ||
        !find_symbol(library, "qc_plugin_version", &version, sizeof version) ||
        !find_symbol(library, "qc_plugin_register", &add, sizeof add))
        return qc_ctx_error(ctx, path,
            "not a plug-in: it must export qc_plugin_name, qc_plugin_version and qc_plugin_register");
    const char *before = registry->origin;
    size_t errors = qc_ctx_error_count(ctx);
    registry->origin = qc_arena_printf(&registry->arena, "%s %s", name(), version());
    qc_status status = add(ctx, registry);
    registry->origin = before;
    if (status != QC_OK || qc_ctx_error_count(ctx) > errors)
        return qc_ctx_error(ctx, path, "the plug-in '%s' could not register its passes", name());
    return QC_OK;
}
