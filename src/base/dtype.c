/*
 * dtype.c - types of numbers and results in words; nothing of what is done with them
 */
#include "quantize.h"

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

size_t qz_dtype_size(qz_dtype dtype)
{
    switch (dtype) {
    case QZ_F32:
        return 4;
    case QZ_F64:
        return 8;
    case QZ_F16:
    case QZ_BF16:
        return 2;
    case QZ_E4M3:
    case QZ_E8M0:
    case QZ_I6:
    case QZ_U6:
    case QZ_I7:
        return 1;
    }
    return 0;
}

const char *qz_dtype_name(qz_dtype dtype)
{
    switch (dtype) {
    case QZ_F32:
        return "float32";
    case QZ_F64:
        return "float64";
    case QZ_F16:
        return "float16";
    case QZ_BF16:
        return "bfloat16";
    case QZ_E4M3:
        return "float8_e4m3";
    case QZ_E8M0:
        return "float8_e8m0";
    case QZ_I6:
        return "int6";
    case QZ_U6:
        return "uint6";
    case QZ_I7:
        return "int7";
    }
    return NULL;
}

size_t qz_packed_bytes(size_t n)
{
    return n / 2 + n % 2;
}
