/* SPDX-License-Identifier: MIT
 *
 * allow.c - the table of rules; see allow.h.
 */
#include "runtime/check/allow.h"

#include <string.h>

static const qc_target_rule rules[] = {
    {QC_RULE_R3, "q and k rotated at run time (R3): vLLM does not execute it and refuses the stored matrix"},
    {QC_RULE_TRANSFORM_BIAS,
        "a linear with a bias whose input or output is rotated at run time: vLLM stops there"},
    {QC_RULE_NVFP4_ATTENTION, "q, k, v or the KV cache in NVFP4: no loader reads it"},
    {QC_RULE_ATTENTION_SCALES,
        "scales of attention or the KV cache a token or a channel: vLLM reads those a tensor or a head"},
    {QC_RULE_CENTER_K, "keys less the mean of each channel (center_k): no loader subtracts it"},
    {QC_RULE_EXPERTS,
        "experts in a scheme that vLLM has for linear layers alone, of one layer in several, or rotated at "
        "run time"},
    {QC_RULE_ROUTER, "routers and gates of shared experts quantized: vLLM reads them as plain numbers"},
    {QC_RULE_LATENT,
        "q, k and v of latent attention (MLA) quantized: vLLM caches, and quantizes, the latent"},
};

const qc_target_rule *qc_target_rule_at(size_t index)
{
    return index < sizeof rules / sizeof *rules ? &rules[index] : NULL;
}

const qc_target_rule *qc_target_rule_find(const char *name)
{
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (strcmp(rules[i].name, name) == 0)
            return &rules[i];
    return NULL;
}

bool qc_is_allowed(const qc_allowed *allowed, const char *rule)
{
    for (size_t i = 0; i < allowed->count; i++)
        if (strcmp(allowed->rules[i], rule) == 0)
            return true;
    return false;
}
