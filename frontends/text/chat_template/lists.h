/* SPDX-License-Identifier: MIT
 *
 * lists.h - the filters of Jinja that work on lists; each is a qc_chat_function.
 */
#ifndef QC_TEXT_CHAT_TEMPLATE_LISTS_H
#define QC_TEXT_CHAT_TEMPLATE_LISTS_H

#include "frontends/text/chat_template/internal.h"

#define QC_CHAT_LIST_FILTER(NAME)                                                                            \
    qc_status qc_chat_filter_##NAME(                                                                         \
        qc_chat_run *run, const qc_chat_call *call, qc_chat_value v, qc_chat_value *result);

QC_CHAT_LIST_FILTER(list)
QC_CHAT_LIST_FILTER(first)
QC_CHAT_LIST_FILTER(last)
QC_CHAT_LIST_FILTER(join)
QC_CHAT_LIST_FILTER(map)
QC_CHAT_LIST_FILTER(select)
QC_CHAT_LIST_FILTER(reject)
QC_CHAT_LIST_FILTER(selectattr)
QC_CHAT_LIST_FILTER(rejectattr)
QC_CHAT_LIST_FILTER(items)
QC_CHAT_LIST_FILTER(dictsort)
QC_CHAT_LIST_FILTER(sort)
QC_CHAT_LIST_FILTER(unique)
QC_CHAT_LIST_FILTER(reverse)
QC_CHAT_LIST_FILTER(min)
QC_CHAT_LIST_FILTER(max)
QC_CHAT_LIST_FILTER(sum)
QC_CHAT_LIST_FILTER(batch)
QC_CHAT_LIST_FILTER(slice)
QC_CHAT_LIST_FILTER(attr)

#undef QC_CHAT_LIST_FILTER

#endif
