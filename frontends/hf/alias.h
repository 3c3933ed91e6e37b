/* SPDX-License-Identifier: MIT
 *
 * alias.h - what Transformers 5 calls the modules of a checkpoint whose tensors have other names. It renames while it loads
 * (and back while it saves), and recipes for llm-compressor speak of the modules in memory.
 */
#ifndef QC_FRONTENDS_HF_ALIAS_H
#define QC_FRONTENDS_HF_ALIAS_H

#include "ir/support/arena.h"

/* The name in memory of the module that the checkpoint calls `path`; NULL: the same, or the architecture (NULL: not known)
 * is none that is renamed. */
const char *qc_hf_alias(qc_arena *arena, const char *architecture, const char *path);

#endif
