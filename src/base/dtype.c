/*
 * dtype.c - names of types and results
 *
 * It knows nothing about what is done with them.
 */
#include "float8.h"

const char *qz_version(void)
{
    return QZ_VERSION;
}

const char *qz_result_text(qz_result result)
{
    static const char *const texts[] = {
        [QZ_OK] = "done",
        [QZ_ERROR_ARGUMENT] = "a parameter has no meaning here",
        [QZ_ERROR_NONFINITE] = "the input holds NaN or infinity",
        [QZ_ERROR_CODE] = "a code lies outside its range",
        [QZ_ERROR_RANGE] = "a value does not fit the type it must become",
        [QZ_ERROR_SCALE] = "a scale or offset does not fit its stored type",
        [QZ_ERROR_SIZE] = "a size is beyond what memory can hold",
        [QZ_ERROR_MEMORY] = "out of memory, or a thread could not be started",
        [QZ_ERROR_KERNELS] = "QUANTIZE_KERNELS names a kernel set that is unknown or that this CPU lacks",
        [QZ_ERROR_PACKED] = "packed data breaks its format",
        [QZ_ERROR_WEIGHT] = "a weight is negative, NaN or infinite",
        [QZ_ERROR_GRAM] = "a Gram matrix is not finite, symmetric and positive definite",
        [QZ_ERROR_STOPPED] = "stopped as the caller asked",
    };
    size_t i = (size_t)result;
    return i < sizeof texts / sizeof texts[0] ? texts[i] : "unknown result";
}

static const struct {
    const char *name;
    size_t size;
} types[] = {[QZ_F32] = {"float32", 4},   [QZ_F64] = {"float64", 8},      [QZ_F16] = {"float16", 2},
             [QZ_BF16] = {"bfloat16", 2}, [QZ_E8M0] = {"float8_e8m0", 1}, [QZ_I6] = {"int6", 1},
             [QZ_U6] = {"uint6", 1},      [QZ_I7] = {"int7", 1},
#define ROW(type, name, sign, mantissa, bias, last) [type] = {name, 1},
             QZ_FLOAT8_TYPES(ROW)
#undef ROW
};

size_t qz_dtype_size(qz_dtype dtype)
{
    size_t i = (size_t)dtype;
    return i < sizeof types / sizeof types[0] ? types[i].size : 0;
}

const char *qz_dtype_name(qz_dtype dtype)
{
    size_t i = (size_t)dtype;
    return i < sizeof types / sizeof types[0] ? types[i].name : NULL;
}

size_t qz_packed_bytes(size_t n)
{
    return n / 2 + n % 2;
}
