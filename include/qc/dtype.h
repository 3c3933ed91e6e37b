/* SPDX-License-Identifier: MIT
 *
 * dtype.h - element types. This list is the one home of their names and sizes; codecs are in ir/dtype/.
 */
#ifndef QC_DTYPE_H
#define QC_DTYPE_H

#include "qc/qc.h"

#ifdef __cplusplus
extern "C" {
#endif

/* X(enumerator, name in IR text, name in safetensors or "", bits, class)
 * class: f float, i signed integer, u unsigned integer, b boolean. Elements of less than 8 bits form one dense
 * little-endian stream: element i of b bits is bits [i * b, i * b + b), lowest first, two's complement where
 * signed; for 4 bits that is two to a byte, low nibble first. */
#define QC_DTYPES(X)                                                                                         \
    X(QC_BOOL, "bool", "BOOL", 8, 'b')                                                                       \
    X(QC_I2, "i2", "", 2, 'i')                                                                               \
    X(QC_I3, "i3", "", 3, 'i')                                                                               \
    X(QC_I4, "i4", "", 4, 'i')                                                                               \
    X(QC_I5, "i5", "", 5, 'i')                                                                               \
    X(QC_I6, "i6", "", 6, 'i')                                                                               \
    X(QC_I7, "i7", "", 7, 'i')                                                                               \
    X(QC_I8, "i8", "I8", 8, 'i')                                                                             \
    X(QC_I16, "i16", "I16", 16, 'i')                                                                         \
    X(QC_I32, "i32", "I32", 32, 'i')                                                                         \
    X(QC_I64, "i64", "I64", 64, 'i')                                                                         \
    X(QC_U8, "u8", "U8", 8, 'u')                                                                             \
    X(QC_U16, "u16", "U16", 16, 'u')                                                                         \
    X(QC_U32, "u32", "U32", 32, 'u')                                                                         \
    X(QC_U64, "u64", "U64", 64, 'u')                                                                         \
    X(QC_F4E2M1, "f4e2m1", "", 4, 'f')                                                                       \
    X(QC_F8E4M3, "f8e4m3", "F8_E4M3", 8, 'f')                                                                \
    X(QC_F8E5M2, "f8e5m2", "F8_E5M2", 8, 'f')                                                                \
    X(QC_F8E8M0, "f8e8m0", "F8_E8M0", 8, 'f')                                                                \
    X(QC_F16, "f16", "F16", 16, 'f')                                                                         \
    X(QC_BF16, "bf16", "BF16", 16, 'f')                                                                      \
    X(QC_F32, "f32", "F32", 32, 'f')                                                                         \
    X(QC_F64, "f64", "F64", 64, 'f')

typedef enum qc_dtype {
    QC_DTYPE_NONE = 0,
#define QC_DTYPE_ENUM(e, name, st, bits, cls) e,
    QC_DTYPES(QC_DTYPE_ENUM)
#undef QC_DTYPE_ENUM
        QC_DTYPE_COUNT
} qc_dtype;

/* "bf16"; "none" for QC_DTYPE_NONE. */
QC_API const char *qc_dtype_name(qc_dtype dtype);
/* By IR name; QC_DTYPE_NONE when unknown. */
QC_API qc_dtype qc_dtype_from_name(const char *name, size_t length);
/* "BF16", or "" where safetensors has no name for it. */
QC_API const char *qc_dtype_safetensors_name(qc_dtype dtype);
QC_API qc_dtype qc_dtype_from_safetensors_name(const char *name);
QC_API int qc_dtype_bits(qc_dtype dtype);
QC_API bool qc_dtype_is_float(qc_dtype dtype);
QC_API bool qc_dtype_is_int(qc_dtype dtype); /* signed or unsigned integer; not bool */
/* Largest finite value of a float type, largest value of an integer type. */
QC_API double qc_dtype_max(qc_dtype dtype);

#ifdef __cplusplus
}
#endif
#endif
