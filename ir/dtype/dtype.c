/* SPDX-License-Identifier: MIT
 *
 * dtype.c - the tables behind include/qc/dtype.h: one row per element type, expanded from QC_DTYPES, and the
 * largest value of each, which follows from the format documents (OCP 8-bit float and MX specifications, IEEE
 * 754).
 */
#include "qc/dtype.h"

#include <string.h>

typedef struct dtype_row {
    const char *name;
    const char *safetensors_name;
    int bits;
    char kind; /* f float, i signed, u unsigned, b boolean */
} dtype_row;

static const dtype_row rows[QC_DTYPE_COUNT] = {[QC_DTYPE_NONE] = {"none", "", 0, '-'},
#define ROW(e, ir_name, st_name, size_bits, cls) [e] = {ir_name, st_name, size_bits, cls},
    QC_DTYPES(ROW)
#undef ROW
};

static const double largest[QC_DTYPE_COUNT] = {
    [QC_BOOL] = 1,
    [QC_I2] = 1,
    [QC_I3] = 3,
    [QC_I4] = 7,
    [QC_I5] = 15,
    [QC_I6] = 31,
    [QC_I7] = 63,
    [QC_I8] = INT8_MAX,
    [QC_I16] = INT16_MAX,
    [QC_I32] = INT32_MAX,
    [QC_I64] = 0x1p63, /* 2^63 - 1 is no double; this is the nearest */
    [QC_U8] = UINT8_MAX,
    [QC_U16] = UINT16_MAX,
    [QC_U32] = UINT32_MAX,
    [QC_U64] = 0x1p64, /* likewise */
    [QC_F4E2M1] = 6,
    [QC_F8E4M3] = 448,
    [QC_F8E5M2] = 57344,
    [QC_F8E8M0] = 0x1p127,
    [QC_F16] = 65504,
    [QC_BF16] = 0x1.fep127,
    [QC_F32] = 0x1.fffffep127,
    [QC_F64] = 0x1.fffffffffffffp1023,
};

static const dtype_row *row_of(qc_dtype dtype)
{
    return &rows[(unsigned)dtype < QC_DTYPE_COUNT ? (unsigned)dtype : QC_DTYPE_NONE];
}

const char *qc_dtype_name(qc_dtype dtype)
{
    return row_of(dtype)->name;
}

qc_dtype qc_dtype_from_name(const char *name, size_t length)
{
    for (int i = QC_DTYPE_NONE + 1; i < QC_DTYPE_COUNT; i++)
        if (strlen(rows[i].name) == length && memcmp(rows[i].name, name, length) == 0)
            return (qc_dtype)i;
    return QC_DTYPE_NONE;
}

const char *qc_dtype_safetensors_name(qc_dtype dtype)
{
    return row_of(dtype)->safetensors_name;
}

qc_dtype qc_dtype_from_safetensors_name(const char *name)
{
    if (name[0] == '\0')
        return QC_DTYPE_NONE; /* types without such a name share the empty one */
    for (int i = QC_DTYPE_NONE + 1; i < QC_DTYPE_COUNT; i++)
        if (strcmp(rows[i].safetensors_name, name) == 0)
            return (qc_dtype)i;
    return QC_DTYPE_NONE;
}

int qc_dtype_bits(qc_dtype dtype)
{
    return row_of(dtype)->bits;
}

bool qc_dtype_is_float(qc_dtype dtype)
{
    return row_of(dtype)->kind == 'f';
}

bool qc_dtype_is_int(qc_dtype dtype)
{
    char kind = row_of(dtype)->kind;
    return kind == 'i' || kind == 'u';
}

double qc_dtype_max(qc_dtype dtype)
{
    return largest[(unsigned)dtype < QC_DTYPE_COUNT ? (unsigned)dtype : QC_DTYPE_NONE];
}
