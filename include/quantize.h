/*
 * quantize.h - int4 for arrays
 *
 * Turns arrays of floats into 4-bit codes and back: one scale for a whole array, or one for every group of
 * neighbours. No dependencies, no allocation except where a function says so, no printing, no aborting.
 *
 *     #include <quantize.h>
 *
 *     float x[4] = {-1.0f, -0.25f, 0.5f, 1.0f}, y[4];
 *     int8_t codes[4];
 *     double scale, zero_point;
 *     if (qz_quantize_i4(x, QZ_F32, 4, QZ_MINMAX, codes, &scale, &zero_point, NULL, NULL) == QZ_OK)
 *         qz_dequantize_i4(codes, 4, scale, zero_point, y, QZ_F32, NULL, NULL);
 *
 * Rules that hold for every function:
 *
 *   - The caller owns all memory. Inputs are only read. Outputs must not overlap inputs, except where stated.
 *   - No pointer needs more alignment than its element type has.
 *   - Lengths are counted in elements unless the name says bytes. Zero elements are always allowed; pointers to
 *     them may then be NULL.
 *   - Same input, same output bytes: on every instruction set, thread count, compiler and byte order, whatever
 *     rounding mode or flush-to-zero setting the calling thread has (it is set aside and put back).
 *   - A pointer documented as "may be NULL" may be NULL; no other may.
 *   - Every function may be called from any number of threads at once. Grouped functions take up to 256 KiB of stack,
 *     more than musl gives threads that do not ask for it.
 *   - A function that returns something other than QZ_OK has left its outputs in an unspecified state.
 *
 * docs/format.md of the project specifies all bytes and rounding rules independently of this code.
 */
#ifndef QUANTIZE_H
#define QUANTIZE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ----------------------------------------------------------------------------------------------------------
 * Version
 * ------------------------------------------------------------------------------------------------------- */

#define QZ_VERSION "0.1.0" /* the only place where the version is written */

#if defined(QZ_SHARED) && defined(_WIN32)
#define QZ_API __declspec(dllexport)
#elif defined(QZ_SHARED) && (defined(__GNUC__) || defined(__clang__))
#define QZ_API __attribute__((visibility("default")))
#else
#define QZ_API
#endif

/* The version of the library that is linked, as QZ_VERSION was when it was built. */
QZ_API const char *qz_version(void);

/* ----------------------------------------------------------------------------------------------------------
 * Results
 *
 * Values are never reused or renumbered.
 * ------------------------------------------------------------------------------------------------------- */

typedef enum qz_result {
    QZ_OK = 0,              /* done */
    QZ_ERROR_ARGUMENT = 1,  /* a parameter has no meaning here: unknown type, method or scheme, scale not positive */
    QZ_ERROR_NONFINITE = 2, /* the input holds NaN or infinity: detail has the first index and the count */
    QZ_ERROR_CODE = 3,      /* a code lies outside its range: detail has index, value and count */
    QZ_ERROR_RANGE = 4,     /* a value does not fit the type it must become: detail has index, value and count */
    QZ_ERROR_SCALE = 5,   /* a group's scale or offset does not fit its stored type: detail has group, value, number */
    QZ_ERROR_SIZE = 6,    /* a size, product of sizes or stride is beyond what memory can hold */
    QZ_ERROR_MEMORY = 7,  /* out of memory, or a thread could not be started */
    QZ_ERROR_KERNELS = 8, /* QUANTIZE_KERNELS names a kernel set that is unknown or that this CPU lacks */
    QZ_ERROR_PACKED = 9,  /* packed data breaks its format (padding not 0, scale not finite): detail has group */
    QZ_ERROR_WEIGHT = 10, /* a weight is negative, NaN or infinite: detail has the first index, value and count */
    QZ_ERROR_GRAM = 11,   /* a Gram matrix is none: detail has index (row * cols + column) and value, see qz_gptq */
    QZ_ERROR_STOPPED = 12 /* the caller's function `stop` said so */
} qz_result;

/* A short English sentence for a result, without a full stop. Never NULL. */
QZ_API const char *qz_result_text(qz_result result);

/* What is stored for a group. */
typedef enum qz_number {
    QZ_NUMBER_UNKNOWN = 0,
    QZ_NUMBER_SCALE = 1,       /* its scale */
    QZ_NUMBER_ZERO = 2,        /* its zero or offset */
    QZ_NUMBER_SUPER = 3,       /* the super scale that it shares */
    QZ_NUMBER_SUPER_OFFSET = 4 /* the super scale of its offset */
} qz_number;

/* Where something went wrong. A caller sets `size` (QZ_DETAIL_INIT does) and passes it; fields that an error
 * does not speak of, or that lie beyond `size`, are left as they were. */
typedef struct qz_detail {
    size_t size;    /* sizeof(qz_detail) */
    uint64_t index; /* flat index of the first offending element, row * cols + column for matrices */
    uint64_t count; /* how many offend */
    uint64_t group; /* flat index of the first offending group, row * groups per row + group in the row */
    double value;   /* the offending value */
    int number;     /* QZ_ERROR_SCALE: the qz_number that does not fit */
} qz_detail;

#define QZ_DETAIL_INIT                                                                                                 \
    {                                                                                                                  \
        sizeof(qz_detail), 0, 0, 0, 0.0, 0                                                                             \
    }

/* ----------------------------------------------------------------------------------------------------------
 * Types of numbers
 * ------------------------------------------------------------------------------------------------------- */

typedef enum qz_dtype {
    QZ_F32 = 1,  /* IEEE 754 binary32, `float` */
    QZ_F64 = 2,  /* IEEE 754 binary64, `double` */
    QZ_F16 = 3,  /* IEEE 754 binary16, held in uint16_t */
    QZ_BF16 = 4, /* bfloat16: the upper half of a binary32, held in uint16_t */

    /* Types of scales only, a byte each. */
    QZ_E4M3 =
        5, /* float8: 4 bits of exponent, 3 of mantissa, no infinity, NaN 0x7f and 0xff (OCP 8-bit floats, E4M3) */
    QZ_E8M0 = 6, /* 2^(byte - 127), 255 is NaN (OCP Microscaling Formats 1.0) */
    QZ_I6 = 7,   /* an integer -32..31 in an int8_t */
    QZ_U6 = 8,   /* an integer 0..63 */
    QZ_I7 = 9    /* an integer -64..63 in the upper seven bits; the lowest bit says which table the group uses */
} qz_dtype;

/* Bytes of one element; 0 for a value that is no qz_dtype. */
QZ_API size_t qz_dtype_size(qz_dtype dtype);

/* "float32", "float64", "float16", "bfloat16", "float8_e4m3", "float8_e8m0", "int6", "uint6", "int7"; NULL for a value
 * that is no qz_dtype. */
QZ_API const char *qz_dtype_name(qz_dtype dtype);

/* ----------------------------------------------------------------------------------------------------------
 * Threads
 *
 * Functions that take a pool split their work over its threads; without one (NULL) they work on the calling
 * thread. The bytes they produce are the same. One pool may be shared: a call that finds it busy works on its own
 * thread instead of waiting. In a child process after fork() a pool of the parent's is safe to use: it works on
 * the calling thread alone, and qz_pool_destroy() releases only its memory.
 * ------------------------------------------------------------------------------------------------------- */

typedef struct qz_pool qz_pool;

/* Starts `threads` - 1 threads (the calling thread is the other one). 0 means qz_cpu_count(), 256 at most. Returns QZ_OK;
 * QZ_ERROR_ARGUMENT for more than 256 threads; QZ_ERROR_MEMORY. */
QZ_API qz_result qz_pool_create(size_t threads, qz_pool **pool);

/* Ends the threads. NULL is allowed. No call may be using the pool. */
QZ_API void qz_pool_destroy(qz_pool *pool);

/* The number of threads that share the work, the calling one included. 1 for NULL. */
QZ_API size_t qz_pool_threads(const qz_pool *pool);

/* CPUs this process may use: the affinity mask, and a Linux control group's quota, at least 1. */
QZ_API size_t qz_cpu_count(void);

/* ----------------------------------------------------------------------------------------------------------
 * Kernels
 *
 * Inner loops exist once per instruction set. The best set that the CPU supports is chosen at the first call;
 * the environment variable QUANTIZE_KERNELS=name forces one.
 *
 * On CPUs with AMX, Linux is asked then whether this process may use it (arch_prctl, ARCH_REQ_XCOMP_PERM). If it may,
 * signals can take 8 KiB more of their stack, and sigaltstack() refuses stacks that are too small for that. With
 * QUANTIZE_KERNELS=avx512vnni nothing is asked.
 * ------------------------------------------------------------------------------------------------------- */

/* The name of the set in use, "scalar" for example; NULL if QUANTIZE_KERNELS cannot be honoured. */
QZ_API const char *qz_kernels(void);

/* The i-th set compiled into this library, best first, or NULL past the last one. *supported becomes 1 if this CPU
 * can run it and 0 otherwise; it may be NULL. */
QZ_API const char *qz_kernels_at(size_t i, int *supported);

/* Forces a set for the whole process from now on; NULL returns to the automatic choice. QZ_ERROR_KERNELS if the
 * name is unknown or the CPU lacks it; the choice is then unchanged. */
QZ_API qz_result qz_kernels_use(const char *name);

/* ----------------------------------------------------------------------------------------------------------
 * One scale for a whole array
 *
 *     value = (code - zero_point) * scale        code: -8..7, one in each int8_t
 * ------------------------------------------------------------------------------------------------------- */

/* How scales are found. */
typedef enum qz_method {
    QZ_DEFAULT = 0,  /* the scheme's own method (grouped functions only) */
    QZ_MINMAX = 1,   /* the smallest and the largest value become the ends of the code range */
    QZ_ABSMAX = 2,   /* the largest magnitude becomes the largest that codes have, -8 for int4; the scale takes the sign
                        that does this (grouped only) */
    QZ_ABSMAX7 = 3,  /* the largest magnitude becomes 7 or -7; the scale is positive (int4 only) */
    QZ_SEARCH = 4,   /* the best of a few scales, each improved by least squares (grouped only) */
    QZ_EXACT = 5,    /* the scale, and zero or offset, with the least error of all that can be stored (grouped only; not
                        with QZ_U6 scales) */
    QZ_REFERENCE = 6 /* as another tool does it: the scheme's rule (grouped only) */
} qz_method;

/* "default", "minmax", "absmax" and so on; NULL for a value that is no qz_method. */
QZ_API const char *qz_method_name(qz_method method);

/*
 * Quantizes n values of type `dtype`.
 *
 *   QZ_MINMAX   scale = (max - min) / 15, formed without overflow
 *               zero_point = rint(-0.5 - 7.5 * (max + min) / (max - min)), an integer in value
 *               All values equal to c: scale 1, codes 0, zero_point -c, which decodes exactly.
 *   QZ_ABSMAX7  scale = max |x| / 7, zero_point 0. All zeros: scale 1.
 *
 *     code = clamp(rint(x / scale) + zero_point, -8, 7)
 *
 * all in double arithmetic with rounding to nearest, ties to even. A scale that would round to 0 is the smallest
 * positive double. No decoded value is further than scale / 2 from its original, apart from the rounding of the
 * types. n = 0 gives scale 1 and zero_point 0.
 *
 * Writes n codes; *scale and *zero_point. `pool` and `detail` may be NULL.
 * Returns QZ_OK, QZ_ERROR_ARGUMENT, QZ_ERROR_NONFINITE or QZ_ERROR_KERNELS.
 */
QZ_API qz_result qz_quantize_i4(const void *src, qz_dtype dtype, size_t n, qz_method method, int8_t *codes,
                                double *scale, double *zero_point, qz_pool *pool, qz_detail *detail);

/*
 * dst[i] = (codes[i] - zero_point) * scale, computed in double and rounded once to `dtype` (QZ_F32 or QZ_F64).
 * scale must be positive and finite, zero_point finite. A value beyond the largest double by at most scale / 2, which
 * qz_quantize_i4 may ask for, becomes the largest double. `pool` and `detail` may be NULL.
 *
 * Returns QZ_OK; QZ_ERROR_ARGUMENT; QZ_ERROR_CODE for a code outside -8..7; QZ_ERROR_RANGE when a value lies beyond
 * the range of `dtype`; QZ_ERROR_KERNELS.
 */
QZ_API qz_result qz_dequantize_i4(const int8_t *codes, size_t n, double scale, double zero_point, void *dst,
                                  qz_dtype dtype, qz_pool *pool, qz_detail *detail);

/* Bytes that n packed codes take: n / 2, rounded up. */
QZ_API size_t qz_packed_bytes(size_t n);

/*
 * Packs n codes (-8..7) two a byte, the first in the low four bits; the upper half of the last byte is 0 when n is
 * odd. Writes qz_packed_bytes(n) bytes. `pool` and `detail` may be NULL.
 * Returns QZ_OK, QZ_ERROR_CODE or QZ_ERROR_KERNELS.
 */
QZ_API qz_result qz_pack_i4(const int8_t *codes, size_t n, uint8_t *packed, qz_pool *pool, qz_detail *detail);

/* Unpacks n codes from qz_packed_bytes(n) bytes. With n odd the upper half of the last byte is not looked at. `pool`
 * may be NULL. Returns QZ_OK or QZ_ERROR_KERNELS. */
QZ_API qz_result qz_unpack_i4(const uint8_t *packed, size_t n, int8_t *codes, qz_pool *pool);

/* ----------------------------------------------------------------------------------------------------------
 * Schemes: 4-bit representations with a scale for each group
 *
 *     value = scale[g] * (table[code] - zero[g])      or      scale[g] * table[code] + offset[g]
 *
 * A group is `group_size` neighbours in a row; the last group of a row may be shorter. The scale of a group is stored
 * as it is, or as a multiple of a super scale that several groups share.
 * ------------------------------------------------------------------------------------------------------- */

/* What the sixteen codes stand for. */
typedef enum qz_codes {
    QZ_INT4 = 1,    /* -8..7, stored in two's complement */
    QZ_UINT4 = 2,   /* 0..15 */
    QZ_NF4 = 3,     /* quantiles of the normal distribution, -1..1 (QLoRA, arXiv 2305.14314, as in bitsandbytes) */
    QZ_FP4 = 4,     /* E2M1: 0 0.5 1 1.5 2 3 4 6 and, with 8 added to the code, the negatives (OCP MX 1.0) */
    QZ_FP4_BNB = 5, /* the 4-bit float of bitsandbytes: another table, -1..1 */
    QZ_IQ4 = 6,     /* the table of ggml's IQ4_NL and IQ4_XS, -127..113, which has no 0 */
    QZ_DUAL = 7,    /* ours: one of two tables, which differ by a shift; a bit of the scale says which */
    QZ_TABLE = 8    /* the caller's own sixteen numbers */
} qz_codes;

/* What is stored for a group beside its scale. */
typedef enum qz_zero {
    QZ_ZERO_NONE = 0,   /* nothing: zero[g] = 0 */
    QZ_ZERO_UINT4 = 1,  /* zero[g] is an integer 0..15, packed two a byte, the first in the low four bits, each row
                           padded to a whole byte with 0 */
    QZ_ZERO_OFFSET = 2, /* offset[g] is a number of the same type as the scales; with QZ_U6 scales, the negative of an
                           integer 0..63 times the group's second super scale */
    QZ_ZERO_FLOAT = 3   /* zero[g] is a number of the same type as the scales */
} qz_zero;

/* The rule of another tool, for QZ_REFERENCE: the codes, scales and zeros that it would itself have made, to the last
 * bit. Those of compressed-tensors depend on the type of the values. docs/format.md names versions and differences. */
typedef enum qz_rule {
    QZ_RULE_NONE = 0,
    QZ_RULE_Q4_0 = 1, /* ggml: the reference quantizers, without importance weights */
    QZ_RULE_Q4_1 = 2,
    QZ_RULE_MXFP4 = 3,
    QZ_RULE_NVFP4 = 4, /* the super scale is 1 */
    QZ_RULE_IQ4_NL = 5,
    QZ_RULE_IQ4_XS = 6,
    QZ_RULE_Q4_K = 7,
    QZ_RULE_MATMULNBITS = 8, /* ONNX Runtime's native block quantizer, symmetric and with zeros */
    QZ_RULE_MATMULNBITS_ZERO = 9,
    QZ_RULE_BNB_NF4 = 10, /* bitsandbytes on the CPU; on CUDA, groups of zeros have other codes. Its groups go on from
                             row to row, so rows must be of whole groups, unless there is but one */
    QZ_RULE_BNB_FP4 = 11,
    QZ_RULE_COMPRESSED_TENSORS = 12, /* symmetric */
    QZ_RULE_COMPRESSED_TENSORS_ZERO = 13,
    QZ_RULE_COMPRESSED_TENSORS_NVFP4 = 14, /* the super scale is 1 / its weight_global_scale, 448 * 6 / max |x| */
    QZ_RULE_COMPRESSED_TENSORS_MXFP4 = 15,
    QZ_RULE_GPTQ = 16, /* rounding to nearest, without GPTQ's correction of errors; symmetric and with zeros */
    QZ_RULE_GPTQ_ZERO = 17,
    QZ_RULE_AWQ = 18 /* the same without AWQ's search */
} qz_rule;

/* "q4_0", "matmulnbits_zero" and the like, "none" for QZ_RULE_NONE; NULL for a value that is no qz_rule. */
QZ_API const char *qz_rule_name(qz_rule rule);

#define QZ_WHOLE_ROW    UINT64_MAX       /* as group_size or super_size: one for each row, however long */
#define QZ_WHOLE_MATRIX (UINT64_MAX - 1) /* as super_size: one for all rows */

typedef struct qz_scheme {
    size_t size;         /* sizeof(qz_scheme) */
    const char *name;    /* NULL for a scheme that a caller made */
    const char *summary; /* one line for people; may be NULL */
    qz_codes codes;
    qz_dtype scale_dtype;
    qz_zero zero;         /* QZ_UINT4 codes need one of the three kinds, all others QZ_ZERO_NONE */
    qz_method method;     /* what QZ_DEFAULT means */
    uint64_t group_size;  /* at least 1 */
    int positive;         /* 1: scales may not be negative */
    qz_dtype super_dtype; /* QZ_F32 or QZ_F16: type of the super scales; 0: there are none */
    uint64_t super_size;  /* how many neighbours share a super scale, a multiple of group_size; 0: there are none.
                             QZ_WHOLE_ROW and QZ_WHOLE_MATRIX not with QZ_U6 scales */
    const float *table;   /* QZ_TABLE: what codes 0..15 stand for, finite numbers in any order; else NULL */
    qz_rule rule;         /* what QZ_REFERENCE means */
} qz_scheme;

/* The i-th row of the scheme table, or NULL past the last one. */
QZ_API const qz_scheme *qz_scheme_at(size_t i);

/* The scheme of that name, or NULL. Copy it and change fields to make a variant. */
QZ_API const qz_scheme *qz_scheme_by_name(const char *name);

/* QZ_OK if this is a combination that can be encoded with `method` (QZ_DEFAULT: its own). */
QZ_API qz_result qz_scheme_check(const qz_scheme *scheme, qz_method method);

/* What a matrix needs in a scheme. All row sizes are those of the plain form without gaps. */
typedef struct qz_sizes {
    size_t size;           /* sizeof(qz_sizes) */
    uint64_t row_groups;   /* groups in a row */
    uint64_t code_bytes;   /* bytes of a row of codes: cols / 2, rounded up */
    uint64_t scale_bytes;  /* bytes of a row of scales */
    uint64_t zero_bytes;   /* bytes of a row of zeros or offsets; 0 when there are none */
    uint64_t super_bytes;  /* bytes of a row of super scales; of all of them for QZ_WHOLE_MATRIX; 0 without */
    uint64_t total_bytes;  /* all rows together */
    double bits_per_value; /* 8 * total_bytes / (rows * cols); 0 for an empty matrix */
} qz_sizes;

/* QZ_ERROR_ARGUMENT for a scheme that makes no sense, QZ_ERROR_SIZE if a byte count passes 2^63 - 1. */
QZ_API qz_result qz_scheme_sizes(const qz_scheme *scheme, uint64_t rows, uint64_t cols, qz_sizes *sizes);

/* ----------------------------------------------------------------------------------------------------------
 * Grouped encoding and decoding
 * ------------------------------------------------------------------------------------------------------- */

/* A matrix of floats. Rows run along the axis that is quantized. */
typedef struct qz_matrix {
    void *data; /* element (0, 0); only read by functions that take the matrix as input */
    qz_dtype dtype;
    uint64_t rows, cols;
    int64_t row_stride, col_stride; /* in elements; negative and 0 are allowed for inputs. A matrix whose columns
                                       are quantized is given with its strides exchanged. */
} qz_matrix;

/* The plain form of a packed matrix: where its parts are. Element (r, c) is the low (c even) or high (c odd) half of
 * byte codes[r * code_stride + c / 2]; its group is c / group_size. */
typedef struct qz_packed {
    void *codes;
    void *scales;                                   /* scale_dtype, native byte order */
    void *zeros;                                    /* NULL for QZ_ZERO_NONE */
    int64_t code_stride, scale_stride, zero_stride; /* bytes from one row to the next, at least those of qz_sizes */
    void *supers;                                   /* super_dtype, native byte order; NULL without super scales. With
                                                       QZ_U6 scales two each, for the scales and for the offsets */
    int64_t super_stride;                           /* bytes; not looked at for QZ_WHOLE_MATRIX */
} qz_packed;

/* What to do with NaN and infinity. */
typedef enum qz_nonfinite {
    QZ_REFUSE = 0, /* QZ_ERROR_NONFINITE */
    QZ_CLIP = 1    /* NaN becomes 0, infinity the largest finite magnitude of its group, and both are counted */
} qz_nonfinite;

/* The matrix of which a call encodes a part. All parts together have the bytes that it has when encoded at once, but
 * for values that were decoded from a scheme with super scales of rows or of the matrix: QZ_SEARCH and QZ_EXACT find
 * their super scales again where these are not given by `largest`. */
typedef struct qz_whole {
    size_t size;          /* sizeof(qz_whole) */
    uint64_t rows, cols;  /* its own */
    uint64_t row, col;    /* where the part begins: col at an even group, and where a super scale does. A part that does
                             not reach the last column ends before such a place */
    const float *largest; /* from qz_largest, of the whole: with QZ_WHOLE_MATRIX one number, with QZ_WHOLE_ROW one for
                             each row of the part. NULL without such super scales, or where the part has whole rows
                             and these have super scales of their own */
} qz_whole;

typedef struct qz_options {
    size_t size; /* sizeof(qz_options) */
    qz_method method;
    qz_nonfinite nonfinite;
    qz_pool *pool; /* may be NULL */

    /* NULL, or how much the square of each value's error counts, for QZ_SEARCH, QZ_EXACT and the statistics: a matrix
     * of the shape of the values, not negative, not infinite. The mean square of each input of a layer, for example,
     * with row_stride 0. A group whose weights are all 0 counts as if they were all 1. QZ_SEARCH tries other scales
     * with weights than without. */
    const qz_matrix *weights;

    /* 1: each value becomes one of the two codes around it, the nearer one more likely, so that the mean of many
     * decodings is the value. The same seed gives the same bytes. Not with QZ_REFERENCE. */
    int stochastic;
    uint64_t seed;

    /* NULL, or a function that the calling thread calls now and then, about ten times a second. When it returns
     * something other than 0, the call ends soon, with QZ_ERROR_STOPPED. */
    int (*stop)(void *context);
    void *stop_context;

    const qz_whole *whole; /* NULL, or what src is a part of */
} qz_options;

#define QZ_OPTIONS_INIT                                                                                                \
    {                                                                                                                  \
        sizeof(qz_options), QZ_DEFAULT, QZ_REFUSE, NULL, NULL, 0, 0, NULL, NULL, NULL                                  \
    }

/* What an encoding did to its values. Sums have relative errors below 1e-5, once differences below 2^-48 of the largest
 * value around are taken as 0. */
typedef struct qz_stats {
    size_t size;               /* sizeof(qz_stats) */
    uint64_t count;            /* values */
    double signal;             /* sum of x^2 */
    double error;              /* sum of (x - decoded)^2: SQNR = 10 log10(signal / error), RMSE = sqrt(error / count) */
    double max_error;          /* largest |x - decoded| (computed in float32; qz_compare: where one side is float64, in
                                  float64), 0 for an empty matrix */
    uint64_t max_index;        /* where it is first, row * cols + column */
    uint64_t clipped;          /* values beyond the ends of the code range by more than half a step */
    uint64_t zeroed_groups;    /* groups with a value that is not 0 whose scale is 0, and that lose something */
    uint64_t subnormal_scales; /* scales below the least normal number of their stored type, 0 not counted */
    uint64_t replaced;         /* NaN and infinities replaced (QZ_CLIP) */
    double weighted_signal;    /* sum of w x^2; 0 without weights */
    double weighted_error;     /* sum of w (x - decoded)^2 */
} qz_stats;

#define QZ_STATS_INIT                                                                                                  \
    {                                                                                                                  \
        sizeof(qz_stats), 0, 0.0, 0.0, 0.0, 0, 0, 0, 0, 0, 0.0, 0.0                                                    \
    }

/*
 * Encodes src into the plain form dst.
 *
 * Values are rounded to float32 first (float64 beyond its range: QZ_ERROR_RANGE). For each group
 *
 *   QZ_ABSMAX   scale = m / -8, m the value of largest magnitude (the first of several)
 *   QZ_ABSMAX7  scale = max |x| / 7, codes -7..7
 *   QZ_MINMAX   with QZ_ZERO_UINT4: the range is widened to hold 0; scale = (max - min) / 15,
 *               zero = clamp(rint(-min / scale), 0, 15)
 *               with QZ_ZERO_OFFSET: offset = min; scale = d / 15, d the difference of larger magnitude of
 *               max - offset and min - offset
 *
 * with scale and offset rounded to their stored type before they are used. Then
 *
 *     code = clamp(rint((x - offset) * (1 / scale)) + zero)
 *
 * in float32; docs/format.md has the exact operations and the rules for subnormal and huge groups.
 * `options`, `stats` and `detail` may be NULL.
 *
 * Returns QZ_OK; QZ_ERROR_ARGUMENT; QZ_ERROR_SIZE; QZ_ERROR_NONFINITE; QZ_ERROR_RANGE; QZ_ERROR_WEIGHT; QZ_ERROR_SCALE
 * for a scale, offset or super scale beyond its stored type (remedy: float32 or bfloat16 scales); QZ_ERROR_STOPPED;
 * QZ_ERROR_KERNELS.
 */
QZ_API qz_result qz_encode(const qz_scheme *scheme, const qz_matrix *src, const qz_packed *dst,
                           const qz_options *options, qz_stats *stats, qz_detail *detail);

/*
 * Super scales of whole rows, or of the matrix, follow from the largest magnitude there, which must be known before any
 * part is encoded: raises largest[row] (QZ_WHOLE_ROW) or largest[0] (QZ_WHOLE_MATRIX) to the largest finite magnitude
 * in src, if that is larger. Begin with 0, and call it for each part of a matrix. `pool` may be NULL.
 *
 * Returns QZ_OK; QZ_ERROR_ARGUMENT, also for a scheme without such super scales; QZ_ERROR_SIZE; QZ_ERROR_KERNELS.
 */
QZ_API qz_result qz_largest(const qz_scheme *scheme, const qz_matrix *src, float *largest, qz_pool *pool);

/*
 * Decodes src into dst, whose rows, cols, dtype and strides say how (any qz_dtype; elements must not overlap).
 * Values are computed in float32 and then rounded to dst->dtype. Never reads outside the plain form, whatever
 * the bytes are; `pool` and `detail` may be NULL.
 *
 * Returns QZ_OK; QZ_ERROR_ARGUMENT; QZ_ERROR_SIZE; QZ_ERROR_RANGE when a finite value does not fit a float16 or
 * bfloat16; QZ_ERROR_KERNELS.
 */
QZ_API qz_result qz_decode(const qz_scheme *scheme, const qz_packed *src, const qz_matrix *dst, qz_pool *pool,
                           qz_detail *detail);

/*
 * Compares a matrix of floats with a packed one: fills count, signal, error, max_error and max_index of `stats` (and
 * sets the other counts to 0). float64 is not rounded. A sum that does not fit a double becomes the largest double; a
 * sum of differences whose squares are too small becomes the least normal double. `pool`, `stats` and `detail` may be
 * NULL.
 *
 * Returns QZ_OK; QZ_ERROR_ARGUMENT; QZ_ERROR_SIZE; QZ_ERROR_NONFINITE for NaN and infinity in `a`; QZ_ERROR_PACKED for
 * those in the scales; QZ_ERROR_RANGE where the packed matrix decodes to a number beyond float32; QZ_ERROR_KERNELS.
 */
QZ_API qz_result qz_compare(const qz_scheme *scheme, const qz_packed *packed, const qz_matrix *a, qz_pool *pool,
                            qz_stats *stats, qz_detail *detail);

/* The same for two matrices of floats of one shape; `a` is the signal. Returns QZ_OK; QZ_ERROR_ARGUMENT, also where the
 * shapes differ; QZ_ERROR_SIZE; QZ_ERROR_NONFINITE, for `b` if `a` is finite; QZ_ERROR_KERNELS. */
QZ_API qz_result qz_compare_matrices(const qz_matrix *a, const qz_matrix *b, qz_pool *pool, qz_stats *stats,
                                     qz_detail *detail);

/*
 * Checks that packed data keeps its format: finite scales and offsets, padding 0. Data from qz_encode always does;
 * call this on data from elsewhere. `detail` may be NULL. Returns QZ_OK; QZ_ERROR_PACKED with the first offending group
 * and its value in detail (for padding: the last group of its row); QZ_ERROR_ARGUMENT; QZ_ERROR_SIZE; QZ_ERROR_KERNELS.
 */
QZ_API qz_result qz_validate(const qz_scheme *scheme, const qz_packed *packed, uint64_t rows, uint64_t cols,
                             qz_detail *detail);

/* ----------------------------------------------------------------------------------------------------------
 * GPTQ
 *
 * Codes for the weights of a layer, chosen for what the layer puts out. Each row of w is multiplied with inputs x; with
 * the Gram matrix of the inputs, the mean (or sum) of x x^T over some examples, a row of errors e = w - decoded(w)
 * costs e gram e^T of output. Where inputs are correlated, later codes can make up for the errors of earlier ones.
 * ------------------------------------------------------------------------------------------------------- */

/*
 * What came of it for the outputs: sums over the rows, for errors e = w - decoded(w). The SQNR of the outputs is
 * 10 log10(signal / error). Sums are in units in which the largest element of the Gram matrix's diagonal is in 0.5..1.
 * Where the number of examples is not many times that of inputs, output_error is too good to be true (codes were chosen
 * to make it small for these very examples); holdout_error is not.
 */
typedef struct qz_gptq_outcome {
    size_t size;                          /* sizeof(qz_gptq_outcome) */
    double damping;                       /* that was used */
    double output_signal, output_error;   /* w gram w^T and e gram e^T */
    double holdout_signal, holdout_error; /* the same with holdout; 0 without */
} qz_gptq_outcome;

/* As damping: what suits the number of examples. */
#define QZ_DAMPING_FOLLOWS (-1.0)

typedef struct qz_gptq_options {
    size_t size;      /* sizeof(qz_gptq_options); that up to stop_context, all there was at first, is taken too */
    qz_method method; /* how scales are found at first */
    int act_order;    /* 1: inputs are visited in an order found from gram, those that matter most first; 0: as they are
                         stored. Groups are the same, and so is the form of the result. */
    unsigned sweeps;  /* how often scales and codes are improved afterwards; the first two or so are worth it */
    double damping;   /* the diagonal of gram is multiplied with 1 + damping: 0 or more, or QZ_DAMPING_FOLLOWS: what
                         follows from examples and the correlations in gram, by the rule in docs/format.md */
    qz_pool *pool;    /* may be NULL */
    int (*stop)(void *context); /* as in qz_options */
    void *stop_context;

    uint64_t examples;        /* how many inputs x gram is the mean or the sum of, for QZ_DAMPING_FOLLOWS; 0: not known:
                                 taken as one for each input that is not always 0 */
    const qz_matrix *holdout; /* NULL, or the Gram matrix of other examples, which changes nothing but the outcome */
    qz_gptq_outcome *outcome; /* NULL, or where it is told what came of it. Filling it in takes a third of the time
                                 again for gram, and as much for holdout */
} qz_gptq_options;

#define QZ_GPTQ_OPTIONS_INIT                                                                                           \
    {                                                                                                                  \
        sizeof(qz_gptq_options), QZ_DEFAULT, 1, 2, QZ_DAMPING_FOLLOWS, NULL, NULL, NULL, 0, NULL, NULL                 \
    }

/*
 * Encodes w into the plain form dst, as qz_encode would, but with codes (and, if sweeps > 0, scales and offsets) that
 * make the sum over the rows of e gram e^T small. `gram` is w->cols x w->cols, of any type and strides; its scale does
 * not matter. An input whose row and column of gram are 0 is encoded as if nothing depended on it.
 *
 * Allocates about 8 * cols * cols bytes, and 1 KiB * cols for each thread, while it runs. `options`, `stats` and
 * `detail` may be NULL.
 *
 * Returns what qz_encode returns, and QZ_ERROR_MEMORY; QZ_ERROR_GRAM with detail.index and detail.value for an element
 * of gram that is not finite, for one off the diagonal that differs from its mirror image, and for one on the diagonal
 * that is negative, or whose input is (nearly) a sum of the others (remedy: more damping). detail.count is 0 for an
 * element of gram and 1 for one of holdout.
 */
QZ_API qz_result qz_gptq(const qz_scheme *scheme, const qz_matrix *w, const qz_matrix *gram,
                         const qz_gptq_options *options, const qz_packed *dst, qz_stats *stats, qz_detail *detail);

/* ----------------------------------------------------------------------------------------------------------
 * Vectors before they are quantized
 *
 * `rows` vectors of `cols` float32, one after another, which are changed in their place or projected to others. The
 * results are the same for any number of rows and threads. All these functions return QZ_OK; QZ_ERROR_ARGUMENT for a
 * pointer that is NULL or not aligned; QZ_ERROR_SIZE. `pool` may be NULL.
 * ------------------------------------------------------------------------------------------------------- */

/*
 * Divides each vector by its length, in double; a vector of zeros stays. For the length, squares of the first half of
 * the elements and of the second are added in pairs in double, then the halves of these sums, until one is left; where
 * the number is odd, the last one is set aside. Those that were set aside are added in turn, and then the sum.
 */
QZ_API qz_result qz_normalize(float *x, uint64_t rows, uint64_t cols, qz_pool *pool);

/*
 * Rotates each vector by an orthogonal transform that `seed` chooses. It mixes all elements: those of a rotated vector
 * are of about the same size, which suits one scale a row. Dot products of rotated vectors are those of the vectors, but
 * for rounding.
 *
 * There are six steps. Step s changes the sign of element i where the highest bit of number s * cols + i + 1 of the
 * generator SplitMix64 is 1 (number n is made of the state seed + n * 0x9E3779B97F4A7C15). Then the first (s even) or
 * the last (s odd) 2^m elements, 2^m being the largest power of two that is not above cols, go through a Hadamard
 * transform: elements that are h apart become their sum and their difference, for h = 1, 2, 4, ..., 2^(m-1), and each
 * is multiplied by 2^(-m/2), rounded to float32. All is computed in float32. With `back` 1 the steps are undone.
 */
QZ_API qz_result qz_rotate(float *x, uint64_t rows, uint64_t cols, uint64_t seed, int back, qz_pool *pool);

/*
 * Writes to y the products of each of `rows` vectors x with a matrix of `cols` rows and `outs` columns, one row after
 * another: y[r * outs + j] is the sum of x[r * cols + i] * matrix[i * outs + j] in the order of i, in float32, where each
 * product is rounded before it is added. y overlaps neither of them. QZ_ERROR_KERNELS is another result.
 */
QZ_API qz_result qz_project(const float *x, uint64_t rows, uint64_t cols, const float *matrix, uint64_t outs, float *y,
                            qz_pool *pool);

/* ----------------------------------------------------------------------------------------------------------
 * Nearest neighbours
 *
 * The rows of a packed matrix that score best with queries, found without decoding it. The scores are those of the
 * decoded rows: most rows are only looked at with integers, which give bounds, and whatever might be among the best is
 * then decoded. Row order, threads, masks and instruction sets change nothing.
 * ------------------------------------------------------------------------------------------------------- */

typedef enum qz_metric {
    QZ_DOT = 1,    /* the sum of products: the larger the better */
    QZ_COSINE = 2, /* that, divided by the lengths of query and row; 0 where one of them is all zeros */
    QZ_L2 = 3      /* the sum of squared differences: the smaller the better */
} qz_metric;

/* "dot", "cosine", "l2"; NULL for a value that is no qz_metric. */
QZ_API const char *qz_metric_name(qz_metric metric);

/* What searches need to know of rows and would otherwise find again in each call: their lengths and scales, and, where
 * asked for, the codes once more in the order in which they are read. It is no part of what is stored. */
typedef struct qz_prepared qz_prepared;

typedef struct qz_prepare_options {
    size_t size;                /* sizeof(qz_prepare_options) */
    qz_metric metric;           /* that of the searches */
    int codes;                  /* 1: the codes, too */
    qz_pool *pool;              /* may be NULL */
    int (*stop)(void *context); /* as in qz_options */
    void *stop_context;
    int signs; /* 1: the signs, too, for searches that are approximate */
} qz_prepare_options;

#define QZ_PREPARE_OPTIONS_INIT                                                                                        \
    {                                                                                                                  \
        sizeof(qz_prepare_options), QZ_DOT, 0, NULL, NULL, NULL, 0                                                     \
    }

/*
 * Prepares rows for searches. That takes about as long as decoding them; 16 bytes a row and 8 for each further
 * group, with QZ_L2 4 more; with `codes` as many bytes again as the codes have, in blocks of at most 64 rows. Searches
 * with it find the same, to the last bit. `signs` takes ten times as long, and an eighth of a byte for each number, or of
 * long rows for some of them and a record of 32 or 64 bytes, and 4 bytes a row, with QZ_L2 8. It may be used by any
 * number of threads, and only while the rows stay where they are and as they are.
 *
 * `options` may be NULL. *prepared becomes NULL where there is an error: QZ_ERROR_ARGUMENT, QZ_ERROR_SIZE,
 * QZ_ERROR_MEMORY, QZ_ERROR_STOPPED, QZ_ERROR_KERNELS.
 */
QZ_API qz_result qz_prepare(const qz_scheme *scheme, const qz_packed *packed, uint64_t rows, uint64_t cols,
                            const qz_prepare_options *options, qz_prepared **prepared);
QZ_API void qz_prepared_free(qz_prepared *prepared); /* may be NULL */

/* Bytes that it takes in memory. */
QZ_API uint64_t qz_prepared_bytes(const qz_prepared *prepared);

typedef struct qz_nearest_options {
    size_t size; /* sizeof(qz_nearest_options) */
    qz_metric metric;
    const uint8_t *mask;        /* NULL, or a byte for each row: rows where it is 0 are left out */
    qz_pool *pool;              /* may be NULL */
    int (*stop)(void *context); /* as in qz_options */
    void *stop_context;
    const qz_prepared *prepared; /* NULL, or what qz_prepare made of these rows for this metric */
    int approximate;             /* 1: by a short list, where `prepared` has signs */
} qz_nearest_options;

#define QZ_NEAREST_OPTIONS_INIT                                                                                        \
    {                                                                                                                  \
        sizeof(qz_nearest_options), QZ_DOT, NULL, NULL, NULL, NULL, NULL, 0                                            \
    }

/*
 * Finds the k best of `rows` rows for each query. Rows have queries->cols columns; queries are of any type and strides,
 * and are rounded to float32 first.
 *
 * Result j of query i is at i * k + j of scores and ids, best first; of equal scores, the row that comes first. Where
 * there are fewer than k rows, the rest has the id -1, and a score of -infinity (QZ_L2: infinity).
 *
 * A score is a sum in double of products, or squared differences, of float32: columns go in turn to eight sums, up to
 * 4096 of them, which are added; what comes of the next 4096 is added to that. It is not rounded further. (A cosine is
 * dot / (sqrt(query . query) * sqrt(row . row)), in double.)
 *
 * With `approximate`, and signs, a list is made of the rows whose signs promise most: about 100 + 8 k + 128 rows /
 * columns^2 of them. Of long rows a part of the signs, those of the columns that vary most, makes a longer list first,
 * and more signs shorten it. The k best of the list are found. Their scores are right, the ids are different, and k are
 * found where there are as many; but one of the best rows may be missed. Of the ten best of 20,000 vectors of 384 numbers,
 * 0.9994 are found where these stand for sentences, and 0.77 where they are random numbers, none of which is much nearer
 * than the others. The list depends on the rows, the metric, the mask, the query and k alone. All rows are compared where
 * signs say little, because a few numbers of rows are much larger than the others, where rows have fewer than 8192
 * numbers together for each row of a list, with more than 2^32 rows, with scales or queries that are not ordinary (2^30
 * or more times as large or as small as 1), and where qz_prepare keeps nothing of rows (those of more than 4096 columns,
 * and some with groups).
 *
 * Allocates, while it runs, about 24 bytes for each of the k results of up to 64 queries at a time, and the same again
 * for each thread. `options` (QZ_DOT, all rows) and `detail` may be NULL.
 *
 * Returns QZ_OK; QZ_ERROR_ARGUMENT, also for what was prepared of other rows; QZ_ERROR_SIZE, also for more than
 * 2^31 - 1 columns; QZ_ERROR_NONFINITE and
 * QZ_ERROR_RANGE for the queries, as in qz_encode; QZ_ERROR_PACKED for a row that decodes to NaN or infinity, with its
 * group, and index and value of the first such element (but not for rows that the mask leaves out); QZ_ERROR_MEMORY;
 * QZ_ERROR_STOPPED; QZ_ERROR_KERNELS.
 */
QZ_API qz_result qz_nearest(const qz_scheme *scheme, const qz_packed *packed, uint64_t rows, const qz_matrix *queries,
                            uint64_t k, const qz_nearest_options *options, double *scores, int64_t *ids,
                            qz_detail *detail);

/* ----------------------------------------------------------------------------------------------------------
 * Products
 *
 * Rows of floats times the rows, or the columns, of a packed matrix, which is decoded a few rows at a time or not at
 * all. Every element of the result is a sum in a stated order, whatever the number of rows and threads.
 * ------------------------------------------------------------------------------------------------------- */

/* How the floats take part. */
typedef enum qz_activations {
    QZ_ACTIVATIONS_F32 = 0, /* as float32: the product with the decoded matrix */
    QZ_ACTIVATIONS_I8 = 1,  /* each 32 columns of a row (the last ones may be fewer) rounded to multiples of one step,
                               their largest magnitude / 127: products of bytes, where the scheme has them */
    QZ_ACTIVATIONS_AUTO = 2 /* QZ_ACTIVATIONS_I8 where the scheme has products of bytes, else QZ_ACTIVATIONS_F32 */
} qz_activations;

typedef struct qz_linear_prepared qz_linear_prepared;

typedef struct qz_linear_options {
    size_t size; /* sizeof(qz_linear_options) */
    qz_activations activations;
    int columns;                /* 0: y = x w^T, with the rows of w; 1: y = x w, with its columns */
    qz_pool *pool;              /* may be NULL */
    int (*stop)(void *context); /* as in qz_options */
    void *stop_context;
    const qz_linear_prepared *prepared; /* NULL, or what qz_linear_prepare made of w */
} qz_linear_options;

#define QZ_LINEAR_OPTIONS_INIT                                                                                         \
    {                                                                                                                  \
        sizeof(qz_linear_options), QZ_ACTIVATIONS_F32, 0, NULL, NULL, NULL, NULL                                       \
    }

/*
 * Multiplies x with a packed matrix w of rows x cols: y = x w^T, for which x has `cols` columns and y has `rows`; with
 * `columns`, y = x w, for which x has `rows` columns and y has `cols`. x is of any type and strides and is rounded to
 * float32 first; y is float32, of any strides, and overlaps nothing. With nothing to add up y is 0.
 *
 * QZ_ACTIVATIONS_F32: of each 64 elements (x[k], w[k]) a sum begins with 0 and grows by fused multiply-adds, in order;
 * these sums are added, in order. So y is no further from the exact sum of products with the decoded matrix than
 *
 *     (n / 64 + 66) * 2^-24 * sum |x[k] w[k]| + n * 2^-149                   where no sum overflows
 *
 * for n elements. NaN and infinity, in x or in the decoded matrix, are what such sums make of them; NaN is 0x7fc00000.
 *
 * QZ_ACTIVATIONS_I8: x[k] becomes rint(x[k] * (127 / a)) * (a / 127) in float32, for the largest magnitude a of its 32
 * columns. This changes it by at most 0.5001 * a / 127, and y by at most 0.5001 / 127 * sum (a |w[k]|), beside the
 * bound above.
 *
 * A scheme has products of bytes if its codes stand for whole or half numbers that are at most 127 of these apart, and
 * its groups are of a multiple of 32 elements, or whole rows; and not with `columns`. The products of 32 columns are
 * then added up as integers: those of bytes with levels, which are codes' values less the least one, in these units.
 * The sum of a row grows by them in float32: for each 32 columns in order, by a fused multiply-add of their bias
 * (scale * least + offset, or scale * least - scale * zero) and step times the sum of their bytes, then by one of
 * (scale * unit) * step and the sum of their products. The error of that is at most
 *
 *     (n / 32 + 24) * 2^-22 * sum (|x[k]| d[k])
 *
 * in place of that of QZ_ACTIVATIONS_F32, where d[k] is |scale| * (largest - least + |least - zero|) in the group of k,
 * or |scale| * (largest - least + |least|) + |offset|, for the largest and least number that a code stands for. Where
 * the largest magnitude of 32 columns, or a scale, is not 0 and not in 2^-60..2^60, or is NaN, nothing is rounded in
 * these columns (with products of bytes, in all of 4096 columns), and sums are those of QZ_ACTIVATIONS_F32.
 *
 * Allocates, while it runs, at most 8 MiB, or 8 bytes for each element of a row of x if that is more, and 257 KiB for
 * each thread. `options` and `detail` may be NULL.
 *
 * Returns QZ_OK; QZ_ERROR_ARGUMENT, also where rows and columns do not fit together, or for what was prepared of
 * another w; QZ_ERROR_SIZE; QZ_ERROR_RANGE for a float64 in x beyond float32, with its place, as in qz_encode;
 * QZ_ERROR_MEMORY; QZ_ERROR_STOPPED; QZ_ERROR_KERNELS.
 */
QZ_API qz_result qz_linear(const qz_scheme *scheme, const qz_packed *packed, uint64_t rows, uint64_t cols,
                           const qz_matrix *x, const qz_linear_options *options, const qz_matrix *y, qz_detail *detail);

/*
 * Prepares w for products of bytes with its rows: codes and numbers of 16 rows are laid side by side, so that they are
 * read one after another. Products with it are the same, to the last bit, and take less time. So do products of floats,
 * with AVX-512, where codes stand for whole numbers that follow each other, scales are of float16, and zeros, if there
 * are any, have 4 bits. It takes as many bytes as the codes, and 4 for each group, or 8 with zeros or offsets. It may be
 * used by any number of threads, and only while w stays where it is and as it is.
 *
 * Of `options`, which may be NULL, pool and stop are used. *prepared becomes NULL where there is an error:
 * QZ_ERROR_ARGUMENT, also for a scheme that has no products of bytes, and for `columns`; QZ_ERROR_SIZE;
 * QZ_ERROR_MEMORY; QZ_ERROR_STOPPED; QZ_ERROR_KERNELS.
 */
QZ_API qz_result qz_linear_prepare(const qz_scheme *scheme, const qz_packed *packed, uint64_t rows, uint64_t cols,
                                   const qz_linear_options *options, qz_linear_prepared **prepared);
QZ_API void qz_linear_prepared_free(qz_linear_prepared *prepared); /* may be NULL */

/* Bytes that it takes in memory. */
QZ_API uint64_t qz_linear_prepared_bytes(const qz_linear_prepared *prepared);

#ifdef __cplusplus
}
#endif

#endif
