/*
 * test_limits.c - what happens exactly at a limit: one step this side of it, and one step beyond
 *
 * Random data hardly ever lies on a limit, so a comparison may lose or gain its "or equal" unseen. Here every value is
 * made to lie there.
 */
#include "support/program.h"

#include "support/guard.h"
#include "scales/exact.h"
#include "kernels/kernels.h"
#include "base/number.h"
#include "base/pool.h"
#include "packed/scheme.h"
#include "matrix/tile.h"

#include <float.h>
#include <math.h>
#include <sched.h>
#include <stdatomic.h>

static const struct qz_kernels *sets[2]; /* the active one, and the specification */

/* ---- values beyond the ends of the codes ----------------------------------------------------------------------- */

enum { COUNT = 64 }; /* whole vectors of every set */

static size_t clipped_of(const struct qz_kernels *kernels, const struct qz_grid *grid, float x)
{
    float values[COUNT] = {0}, inverse = 1.0f, zero = 0.0f, scale = 1.0f;
    uint8_t codes[COUNT / 2];
    struct qz_sums sums;
    for (size_t i = 0; i < COUNT; i += 3)
        values[i] = x;
    size_t clipped = kernels->group_codes(values, COUNT, COUNT, grid, &inverse, &zero, codes);
    assert_int_equal(kernels->group_codes_error(values, COUNT, COUNT, grid, &scale, &inverse, &zero, codes, &sums),
                     clipped);
    return clipped;
}

static void test_clipped(void **state)
{
    (void)state;
    static const char *const names[] = {"nf4", "fp4", "fp4_bnb", "iq4_nl"};
    const size_t all = (COUNT + 2) / 3;
    for (size_t s = 0; s < 2; s++)
        for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
            struct qz_grid grid = qz_scheme_grid(qz_scheme_by_name(names[i]), QZ_ABSMAX);
            size_t zeros = 0 < grid.least || 0 > grid.most ? COUNT - all : 0;
            assert_int_equal(clipped_of(sets[s], &grid, grid.most), zeros);
            assert_int_equal(clipped_of(sets[s], &grid, nextafterf(grid.most, INFINITY)), zeros + all);
            assert_int_equal(clipped_of(sets[s], &grid, 4 * grid.most), zeros + all);
            assert_int_equal(clipped_of(sets[s], &grid, grid.least), zeros);
            assert_int_equal(clipped_of(sets[s], &grid, nextafterf(grid.least, -INFINITY)), zeros + all);
            assert_int_equal(clipped_of(sets[s], &grid, 4 * grid.least), zeros + all);
            size_t clipped = 0;
            qz_careful_code(grid.most, 1.0f, 0.0f, &grid, &clipped);
            qz_careful_code(grid.least, 1.0f, 0.0f, &grid, &clipped);
            assert_int_equal(clipped, 0);
            qz_careful_code(nextafterf(grid.most, INFINITY), 1.0f, 0.0f, &grid, &clipped);
            qz_careful_code(nextafterf(grid.least, -INFINITY), 1.0f, 0.0f, &grid, &clipped);
            assert_int_equal(clipped, 2);
        }
}

/* Integers: a tie at an end goes to the even one, which for 7.5 is 8 and clipped, for -8.5 is -8 and not. */
static void test_clipped_integers(void **state)
{
    (void)state;
    const size_t all = (COUNT + 2) / 3;
    struct qz_grid grid = qz_scheme_grid(qz_scheme_by_name("int4"), QZ_ABSMAX), narrow;
    narrow = qz_scheme_grid(qz_scheme_by_name("int4"), QZ_ABSMAX7);
    for (size_t s = 0; s < 2; s++) {
        assert_int_equal(clipped_of(sets[s], &grid, nextafterf(7.5f, 0.0f)), 0);
        assert_int_equal(clipped_of(sets[s], &grid, 7.5f), all);
        assert_int_equal(clipped_of(sets[s], &grid, -8.5f), 0);
        assert_int_equal(clipped_of(sets[s], &grid, nextafterf(-8.5f, -9.0f)), all);
        assert_int_equal(clipped_of(sets[s], &narrow, nextafterf(-7.5f, 0.0f)), 0);
        assert_int_equal(clipped_of(sets[s], &narrow, -7.5f), all);
    }
    size_t clipped = 0;
    qz_careful_code(-8.5f, 1.0f, 0.0f, &grid, &clipped);
    qz_careful_code(nextafterf(7.5f, 0.0f), 1.0f, 0.0f, &grid, &clipped);
    assert_int_equal(clipped, 0);
    qz_careful_code(7.5f, 1.0f, 0.0f, &grid, &clipped);
    assert_int_equal(clipped, 1);
}

/* ---- values beyond the ends of narrow types -------------------------------------------------------------------- */

static int beyond(const struct qz_kernels *kernels, float scale, qz_dtype dtype, uint16_t *first)
{
    enum { GROUPS = 32, SIZE = 32 };
    float scales[GROUPS];
    uint8_t codes[GROUPS * SIZE / 2];
    uint16_t values[GROUPS * SIZE];
    struct qz_grid grid;
    qz_scheme_values(qz_scheme_by_name("int4"), &grid);
    struct qz_stored stored = {QZ_F32, scales, NULL, NULL, NULL, 1, 1};
    for (size_t g = 0; g < GROUPS; g++)
        scales[g] = 1.0f;
    scales[GROUPS - 1] = scale;
    memset(codes, 0x88, sizeof codes); /* -8 everywhere */
    int found = kernels->stored_decode(codes, GROUPS, SIZE, &grid, &stored, dtype, values) != 0;
    *first = values[(GROUPS - 1) * SIZE];
    return found;
}

static void test_narrow_ends(void **state)
{
    (void)state;
    uint16_t value;
    for (size_t s = 0; s < 2; s++) {
        /* Halfway to what would come next rounds to infinity, all below to the largest number. */
        assert_int_equal(beyond(sets[s], 65520.0f / 8, QZ_F16, &value), 1);
        assert_int_equal(beyond(sets[s], nextafterf(65520.0f / 8, 0.0f), QZ_F16, &value), 0);
        assert_int_equal(value, 0xfbff);
        assert_int_equal(beyond(sets[s], -nextafterf(65520.0f / 8, 0.0f), QZ_F16, &value), 0);
        assert_int_equal(value, 0x7bff);
        assert_int_equal(beyond(sets[s], 0x1.ffp127f / 8, QZ_BF16, &value), 1);
        assert_int_equal(beyond(sets[s], nextafterf(0x1.ffp127f / 8, 0.0f), QZ_BF16, &value), 0);
        assert_int_equal(value, 0xff7f);
    }
}

/* ---- whole arrays at the end of double ------------------------------------------------------------------------- */

/* Both ends near the largest double, next to each other: their sum overflows, their difference is small. */
static void test_sum_of_ends(void **state)
{
    (void)state;
    for (int sign = -1; sign <= 1; sign += 2)
        for (int ulps = 1; ulps < 1000; ulps *= 7) {
            double x[16], y[16], scale, zero_point;
            int8_t codes[16];
            x[0] = sign * DBL_MAX;
            for (int i = 1; i < 16; i++) {
                x[i] = x[i - 1];
                for (int k = 0; k < ulps; k++)
                    x[i] = nextafter(x[i], 0.0);
            }
            assert_int_equal(qz_quantize_i4(x, QZ_F64, 16, QZ_MINMAX, codes, &scale, &zero_point, NULL, NULL), QZ_OK);
            assert_true(qz_is_finite_f64(zero_point));
            assert_int_equal(qz_dequantize_i4(codes, 16, scale, zero_point, y, QZ_F64, NULL, NULL), QZ_OK);
            for (int i = 0; i < 16; i++) /* the zero point is a whole number of steps, of which a double has 53 bits */
                assert_true(fabs(x[i] - y[i]) <= scale + 0x1p-51 * DBL_MAX);
        }
}

/* ---- output that leaves past the caches ------------------------------------------------------------------------ */

/* Large output, to places that are not the start of a cache line and in numbers that do not fill the last one, is what
 * small pieces of it are. */
static void test_streamed(void **state)
{
    (void)state;
    const size_t n = ((size_t)16 << 20) + 75, piece = 32768, words = n / 4;
    uint16_t *x = malloc(n * sizeof *x);
    int8_t *codes = malloc(n + 1), *unpacked = malloc(n + 3);
    uint8_t *packed = malloc(n);
    float *y = malloc((words + 1) * sizeof *y), few[64];
    assert_true(x && codes && unpacked && packed && y);
    double scale, zero_point;
    for (size_t i = 0; i < n; i++)
        x[i] = (uint16_t)(0x3c00 + i * 40503 % 1021);
    assert_int_equal(qz_quantize_i4(x, QZ_F16, n, QZ_MINMAX, codes + 1, &scale, &zero_point, NULL, NULL), QZ_OK);
    for (size_t i = 0; i < n; i += piece) {
        size_t at[] = {i, i + piece - 1, n - 1}; /* ends of pieces, and of all */
        for (size_t k = 0; k < 3; k++)
            if (at[k] < n) {
                double code = rint((double)qz_f32_from_f16(x[at[k]]) / scale) + zero_point;
                assert_true(codes[1 + at[k]] == (code < -8 ? -8 : code > 7 ? 7 : code));
            }
    }
    assert_int_equal(qz_dequantize_i4(codes + 1, words, scale, zero_point, y, QZ_F32, NULL, NULL), QZ_OK);
    for (size_t i = 0; i < words; i += 61) {
        size_t some = words - i < 64 ? words - i : 64;
        assert_int_equal(qz_dequantize_i4(codes + 1 + i, some, scale, zero_point, few, QZ_F32, NULL, NULL), QZ_OK);
        assert_memory_equal(y + i, few, some * sizeof *few);
    }
    /* Twice as many codes as make so many bytes: the values' memory holds them. */
    int8_t *many = (int8_t *)x;
    size_t count = 2 * n - 1;
    for (size_t i = 0; i < count; i++)
        many[i] = (int8_t)((int)(i * 40503 >> 7 & 15) - 8);
    assert_int_equal(qz_pack_i4(many, count, packed, NULL, NULL), QZ_OK);
    for (size_t i = 0; i < n; i++) {
        unsigned high = 2 * i + 1 < count ? (unsigned)many[2 * i + 1] & 15 : 0;
        assert_true(packed[i] == (((unsigned)many[2 * i] & 15) | high << 4));
    }
    assert_int_equal(qz_unpack_i4(packed, n, unpacked + 3, NULL), QZ_OK);
    assert_memory_equal(unpacked + 3, many, n);
    free(x), free(codes), free(unpacked), free(packed), free(y);
}

/* The same for groups of a long row, as bfloat16, the last of which is cut off and ends at the end of memory: in the middle of it are a scale that is NaN, which decodes to NaN, and
 * for a second call one that leaves the range. */
static void test_streamed_groups(void **state)
{
    (void)state;
    static const size_t sizes[] = {32, 96, 4096}; /* the second does not divide a tile, the third is longer */
    qz_scheme scheme = *qz_scheme_by_name("uint4");
    scheme.name = NULL;
    scheme.scale_dtype = QZ_F32;
    for (size_t k = 0; k < 3; k++) {
        const size_t size = sizes[k], pair = 2 * size, n = ((9 << 20) / pair) * pair + size / 2 - 8, piece = 48 * pair;
        const size_t groups = n / size + 1, odd = groups / 4 * 2 + 1;
        struct guard guard = guard_make(n / 2);
        uint8_t *codes = guard_end(guard, n / 2, 0), *zeros = malloc(groups / 2 + 1);
        float *scales = malloc(groups * sizeof *scales);
        uint16_t *y = malloc(n * sizeof *y), *few = malloc(piece * sizeof *few);
        assert_true(zeros && scales && y && few);
        for (size_t i = 0; i < n / 2; i++)
            codes[i] = (uint8_t)(i * 40503 >> 7);
        for (size_t g = 0; g < groups; g++) {
            scales[g] = (float)(g % 977) * 0x1p-9f;
            zeros[g / 2] = (uint8_t)(g * 2654435761 >> 11);
        }
        scales[odd] = NAN;
        scheme.group_size = size;
        qz_packed all = {codes, scales, zeros, 0, 0, 0, NULL, 0}, some = all;
        qz_matrix to = {y, QZ_BF16, 1, n, (int64_t)n, 1}, part = to;
        qz_detail detail = {0};
        assert_int_equal(qz_decode(&scheme, &all, &to, NULL, NULL), QZ_OK);
        for (size_t i = 0; i < n; i += piece) {
            some.codes = codes + i / 2;
            some.scales = scales + i / size;
            some.zeros = zeros + i / pair;
            part.data = few;
            part.cols = n - i < piece ? n - i : piece;
            assert_int_equal(qz_decode(&scheme, &some, &part, NULL, NULL), QZ_OK);
            assert_memory_equal(y + i, few, part.cols * sizeof *few);
        }
        scales[odd] = FLT_MAX / 8; /* times 9 - 1 it is a float32, but no bfloat16 */
        codes[odd * size / 2] = 0x91;
        zeros[odd / 2] = 0x10;
        assert_int_equal(qz_decode(&scheme, &all, &to, NULL, &detail), QZ_ERROR_RANGE);
        assert_true(detail.index == odd * size + 1 && detail.count > 0);
        free(zeros), free(scales), free(y), free(few);
        guard_free(guard);
    }
}

/* ---- rounding at random ---------------------------------------------------------------------------------------- */

static uint64_t unshift(uint64_t x, int shift)
{
    uint64_t y = x;
    for (int i = 0; i < 64; i += shift)
        y = x ^ y >> shift;
    return y;
}

static uint64_t inverse_of(uint64_t odd)
{
    uint64_t inverse = odd;
    for (int i = 0; i < 6; i++)
        inverse *= 2 - odd * inverse;
    return inverse;
}

/* The seed with which the number drawn for an element is `wanted` / 2^64: docs/format.md backwards. */
static uint64_t seed_for(uint64_t wanted, uint64_t index)
{
    uint64_t z = unshift(wanted, 31) * inverse_of(UINT64_C(0x94d049bb133111eb));
    z = unshift(z, 27) * inverse_of(UINT64_C(0xbf58476d1ce4e5b9));
    return unshift(z, 30) - (index + 1) * UINT64_C(0x9e3779b97f4a7c15);
}

/* A value between two codes goes up if the number drawn is less than its share of the step, and stays if it is equal.
 */
static void test_random_rounding(void **state)
{
    (void)state;
    for (uint64_t eighths = 1; eighths < 8; eighths++)
        for (size_t i = 1; i < 32; i += 5)
            for (int less = 0; less < 2; less++) {
                float x[32] = {-8.0f}, scale; /* the scale is 1 */
                x[i] = 2.0f + (float)eighths / 8;
                uint8_t codes[16], zeros[4];
                uint16_t stored;
                qz_matrix matrix = {x, QZ_F32, 1, 32, 32, 1};
                qz_packed packed = {.codes = codes, .scales = &stored, .zeros = zeros};
                qz_options options = QZ_OPTIONS_INIT;
                options.method = QZ_ABSMAX;
                options.stochastic = 1;
                options.seed = seed_for((eighths << 61) - (less ? UINT64_C(1) << 11 : 0), i);
                assert_int_equal(qz_encode(qz_scheme_by_name("int4"), &matrix, &packed, &options, NULL, NULL), QZ_OK);
                scale = qz_f32_from_f16(stored);
                assert_true(scale == 1.0f);
                assert_int_equal(codes[i / 2] >> (i % 2 * 4) & 15, less ? 3 : 2);
            }
}

/* ---- sizes ------------------------------------------------------------------------------------------------------ */

/* Whether a matrix of so many bytes is one: the last element's place must be an offset, in either direction. */
static void test_extent(void **state)
{
    (void)state;
    const uint64_t most = (uint64_t)PTRDIFF_MAX;
    static const qz_dtype dtypes[] = {QZ_F32, QZ_F64, QZ_F16, QZ_BF16};
    for (size_t d = 0; d < 4; d++) {
        uint64_t size = qz_dtype_size(dtypes[d]), last = most / size - 1; /* the largest place of an element */
        for (int sign = -1; sign <= 1; sign += 2) {
            qz_matrix m = {NULL, dtypes[d], 2, 1, sign * (int64_t)last, 1};
            assert_true(qz_matrix_check(&m));
            m.row_stride = sign * (int64_t)(last + 1);
            assert_false(qz_matrix_check(&m));
            m = (qz_matrix){NULL, dtypes[d], 1, 2, 1, sign * (int64_t)last};
            assert_true(qz_matrix_check(&m));
            m.col_stride = sign * (int64_t)(last + 1);
            assert_false(qz_matrix_check(&m));
            /* each half fits, both together do not */
            m = (qz_matrix){NULL, dtypes[d], 2, 2, sign * (int64_t)(last / 2), (int64_t)(last - last / 2)};
            assert_true(qz_matrix_check(&m));
            m.col_stride++;
            assert_false(qz_matrix_check(&m));
            m = (qz_matrix){NULL, dtypes[d], 2, 2, sign * (int64_t)(last - 1), -1};
            assert_true(qz_matrix_check(&m));
            m.row_stride = sign * (int64_t)last;
            assert_false(qz_matrix_check(&m));
            /* strides that overflow when multiplied */
            m = (qz_matrix){NULL, dtypes[d], UINT64_C(1) << 40, 1, sign * (INT64_C(1) << 40), 1};
            assert_false(qz_matrix_check(&m));
            m = (qz_matrix){NULL, dtypes[d], 1, UINT64_C(1) << 40, 1, sign * (INT64_C(1) << 40)};
            assert_false(qz_matrix_check(&m));
            m = (qz_matrix){NULL, dtypes[d], 3, 1, INT64_MIN, 1};
            assert_false(qz_matrix_check(&m));
        }
        /* rows of stride 0: as many as one likes, but no more elements than an index can have */
        qz_matrix m = {NULL, dtypes[d], UINT64_C(1) << 32, (UINT64_C(1) << 31) - 1, 0, 0};
        assert_true(qz_matrix_check(&m));
        m.cols++;
        assert_false(qz_matrix_check(&m));
        m = (qz_matrix){NULL, dtypes[d], 0, UINT64_MAX, INT64_MAX, INT64_MAX};
        assert_true(qz_matrix_check(&m));
        m = (qz_matrix){NULL, dtypes[d], UINT64_MAX, 0, INT64_MAX, INT64_MAX};
        assert_true(qz_matrix_check(&m));
    }
    qz_matrix none = {NULL, (qz_dtype)99, 1, 1, 1, 1};
    assert_false(qz_matrix_check(&none));
}

/* Each stride of the plain form one byte short of a row is refused, by all that reads or writes it; a single row needs
 * none of them. */
static void test_strides(void **state)
{
    (void)state;
    static const char *const names[] = {"int4", "uint4", "uint4_offset", "nvfp4", "q4_k", "dual4"};
    enum { COLS = 512 };
    static float x[2 * COLS], y[2 * COLS];
    static uint8_t room[4][4096];
    for (size_t i = 0; i < 2 * COLS; i++)
        x[i] = (float)(i * 37 % 101) - 40.0f;
    for (size_t s = 0; s < sizeof names / sizeof names[0]; s++) {
        const qz_scheme *scheme = qz_scheme_by_name(names[s]);
        qz_sizes sizes = {.size = sizeof sizes};
        assert_int_equal(qz_scheme_sizes(scheme, 2, COLS, &sizes), QZ_OK);
        const qz_packed good = {room[0],
                                room[1],
                                room[2],
                                (int64_t)sizes.code_bytes,
                                (int64_t)sizes.scale_bytes,
                                (int64_t)sizes.zero_bytes,
                                room[3],
                                (int64_t)sizes.super_bytes};
        qz_matrix src = {x, QZ_F32, 2, COLS, COLS, 1}, dst = {y, QZ_F32, 2, COLS, COLS, 1};
        int shared = scheme->super_size == QZ_WHOLE_MATRIX;
        for (int which = -1; which < 4; which++) {
            qz_packed packed = good;
            int64_t *strides[] = {&packed.code_stride, &packed.scale_stride, &packed.zero_stride, &packed.super_stride};
            if (which >= 0)
                --*strides[which];
            qz_result wanted = which < 0 || (which == 3 && shared) ? QZ_OK : QZ_ERROR_ARGUMENT;
            for (uint64_t rows = 1; rows <= 2; rows++) {
                src.rows = dst.rows = rows;
                qz_result result = rows < 2 ? QZ_OK : wanted;
                assert_int_equal(qz_encode(scheme, &src, &packed, NULL, NULL, NULL), result);
                assert_int_equal(qz_decode(scheme, &packed, &dst, NULL, NULL), result);
                assert_int_equal(qz_compare(scheme, &packed, &src, NULL, NULL, NULL), result);
                assert_int_equal(qz_validate(scheme, &packed, rows, COLS, NULL), result);
            }
        }
    }
}

/* Rows that follow one another without gaps are one long row, but only where that holds for everything: whatever has
 * gaps, bytes and values are the same, and the gaps stay as they were. */
static void test_gaps(void **state)
{
    (void)state;
    static const char *const names[] = {"int4", "uint4", "uint4_offset", "nvfp4", "q4_k", "dual4"};
    enum { ROWS = 3, COLS = 512, ROOM = 4096, GAP = 16 };
    static float x[ROWS * COLS], y[2][ROWS * COLS];
    static uint8_t room[2][4][ROOM];
    for (size_t i = 0; i < ROWS * COLS; i++)
        x[i] = (float)(i * 37 % 101) - 40.0f;
    for (size_t s = 0; s < sizeof names / sizeof names[0]; s++) {
        const qz_scheme *scheme = qz_scheme_by_name(names[s]);
        qz_sizes sizes = {.size = sizeof sizes};
        assert_int_equal(qz_scheme_sizes(scheme, ROWS, COLS, &sizes), QZ_OK);
        const size_t bytes[] = {sizes.code_bytes, sizes.scale_bytes, sizes.zero_bytes,
                                scheme->super_size == QZ_WHOLE_MATRIX ? 0 : sizes.super_bytes};
        qz_matrix src = {x, QZ_F32, ROWS, COLS, COLS, 1};
        for (size_t which = 0; which < 4; which++) {
            size_t stride[2][4];
            memset(room, 0x5a, sizeof room);
            for (int gaps = 0; gaps < 2; gaps++) {
                for (size_t k = 0; k < 4; k++)
                    stride[gaps][k] = bytes[k] + (gaps && k == which ? GAP : 0);
                qz_packed packed = {room[gaps][0],
                                    room[gaps][1],
                                    room[gaps][2],
                                    (int64_t)stride[gaps][0],
                                    (int64_t)stride[gaps][1],
                                    (int64_t)stride[gaps][2],
                                    room[gaps][3],
                                    (int64_t)stride[gaps][3]};
                qz_matrix dst = {y[gaps], QZ_F32, ROWS, COLS, COLS, 1};
                assert_int_equal(qz_encode(scheme, &src, &packed, NULL, NULL, NULL), QZ_OK);
                assert_int_equal(qz_decode(scheme, &packed, &dst, NULL, NULL), QZ_OK);
            }
            for (size_t k = 0; k < 4; k++)
                for (size_t r = 0; r < ROWS; r++) {
                    const uint8_t *row = room[1][k] + r * stride[1][k];
                    assert_memory_equal(row, room[0][k] + r * stride[0][k], bytes[k]);
                    for (size_t i = bytes[k]; i < stride[1][k] && bytes[k]; i++)
                        assert_int_equal(row[i], 0x5a);
                }
            assert_memory_equal(y[0], y[1], sizeof y[0]);
        }
    }
}

/* Weights are 0 or more: the least below is refused, in its place, and zeros before it are not what is wrong. */
static void test_weights(void **state)
{
    (void)state;
    static const float bad[] = {-0x1p-149f, -0.5f, -1.0f, INFINITY};
    float x[64], w[64];
    uint8_t codes[32], scales[4];
    for (size_t k = 0; k < sizeof bad / sizeof bad[0]; k++)
        for (size_t at = 1; at < 64; at += 21) {
            for (size_t i = 0; i < 64; i++)
                x[i] = (float)(i % 7) - 3.0f, w[i] = i % 3 ? 1.0f : 0.0f;
            qz_matrix matrix = {x, QZ_F32, 1, 64, 64, 1}, weights = {w, QZ_F32, 1, 64, 64, 1};
            qz_packed packed = {.codes = codes, .scales = scales};
            qz_options options = QZ_OPTIONS_INIT;
            qz_detail detail = QZ_DETAIL_INIT;
            options.weights = &weights;
            assert_int_equal(qz_encode(qz_scheme_by_name("int4"), &matrix, &packed, &options, NULL, &detail), QZ_OK);
            w[at] = bad[k];
            assert_int_equal(qz_encode(qz_scheme_by_name("int4"), &matrix, &packed, &options, NULL, &detail),
                             QZ_ERROR_WEIGHT);
            assert_int_equal(detail.index, at);
            assert_int_equal(detail.count, 1);
        }
}

/* Of the bytes of a scale or offset that has six bits, those are valid that have no more. */
static void test_six_bits(void **state)
{
    (void)state;
    static uint8_t codes[128], scales[8], zeros[8];
    uint16_t supers[2] = {0x3c00, 0x3c00};
    for (int byte = 0; byte < 256; byte++)
        for (int which = 0; which < 2; which++) {
            const qz_packed packed = {.codes = codes, .scales = scales, .zeros = zeros, .supers = supers};
            memset(scales, 1, sizeof scales);
            memset(zeros, 1, sizeof zeros);
            (which ? zeros : scales)[5] = (uint8_t)byte;
            qz_result unsigned_valid = byte < 64 ? QZ_OK : QZ_ERROR_PACKED;
            qz_result signed_valid = which || byte < 32 || byte >= 224 ? QZ_OK : QZ_ERROR_PACKED;
            assert_int_equal(qz_validate(qz_scheme_by_name("q4_k"), &packed, 1, 256, NULL), unsigned_valid);
            assert_int_equal(qz_validate(qz_scheme_by_name("iq4_xs"), &packed, 1, 256, NULL), signed_valid);
        }
}

/* Scales of a byte are valid where their product with the super scale is finite: at the ends of float32, too. */
static void test_byte_products(void **state)
{
    (void)state;
    static uint8_t codes[128], scales[8];
    const float supers[] = {0.0f,    1.0f,     -1.0f,     0x1p-149f, 0x1.24924ap119f, 0x1.249248p119f,
                            FLT_MAX, INFINITY, -INFINITY, NAN};
    qz_scheme scheme = *qz_scheme_by_name("nvfp4"), powers = *qz_scheme_by_name("mxfp4");
    for (int byte = 0; byte < 256; byte++)
        for (size_t s = 0; s < sizeof supers / sizeof supers[0]; s++) {
            float super = supers[s];
            qz_packed packed = {.codes = codes, .scales = scales, .supers = &super};
            const int exponent = byte >> 3 & 15, mantissa = byte & 7;
            const double scale = exponent ? ldexp(8 + mantissa, exponent - 10) : ldexp(mantissa, -9);
            const int valid = (byte & 127) != 127 && isfinite((float)(scale * (double)super));
            qz_detail detail = QZ_DETAIL_INIT;
            memset(scales, 1, sizeof scales);
            scales[5] = (uint8_t)byte;
            const int others = isfinite((float)(ldexp(1, -9) * (double)super));
            assert_int_equal(qz_validate(&scheme, &packed, 1, 128, &detail), valid && others ? QZ_OK : QZ_ERROR_PACKED);
            if (!valid && others)
                assert_int_equal(detail.group, 5);
            packed.supers = NULL;
            assert_int_equal(qz_validate(&powers, &packed, 1, 256, NULL), byte == 255 ? QZ_ERROR_PACKED : QZ_OK);
        }
}

/* What the statistics of a large matrix count, in many slices, is what those of its rows count together. */
static void test_counts(void **state)
{
    (void)state;
    enum { ROWS = 64, COLS = 4096 };
    static float x[ROWS * COLS];
    static uint8_t codes[ROWS * COLS / 2], scales[ROWS * COLS / 16];
    for (size_t r = 0; r < ROWS; r++)
        for (size_t c = 0; c < COLS; c++) {
            size_t group = r * COLS / 32 + c / 32;
            float size = group % 5 == 0 ? 0x1p-30f : group % 5 == 1 ? 0x1p-17f : 1.0f;
            x[r * COLS + c] = c % 32 == 7 && group % 5 == 2 ? NAN : size * (c % 2 ? 1.0f : -1.0f);
        }
    qz_options options = QZ_OPTIONS_INIT;
    options.method = QZ_ABSMAX;
    options.nonfinite = QZ_CLIP;
    qz_packed packed = {.codes = codes, .scales = scales, .code_stride = COLS / 2, .scale_stride = COLS / 16};
    qz_matrix all = {x, QZ_F32, ROWS, COLS, COLS, 1};
    qz_stats whole = QZ_STATS_INIT, sum = QZ_STATS_INIT;
    assert_int_equal(qz_encode(qz_scheme_by_name("int4"), &all, &packed, &options, &whole, NULL), QZ_OK);
    for (size_t r = 0; r < ROWS; r++) {
        qz_stats one = QZ_STATS_INIT;
        qz_matrix row = {x + r * COLS, QZ_F32, 1, COLS, COLS, 1};
        assert_int_equal(qz_encode(qz_scheme_by_name("int4"), &row, &packed, &options, &one, NULL), QZ_OK);
        sum.clipped += one.clipped;
        sum.zeroed_groups += one.zeroed_groups;
        sum.subnormal_scales += one.subnormal_scales;
        sum.replaced += one.replaced;
    }
    assert_true(sum.clipped && sum.zeroed_groups && sum.subnormal_scales && sum.replaced);
    assert_int_equal(whole.clipped, sum.clipped);
    assert_int_equal(whole.zeroed_groups, sum.zeroed_groups);
    assert_int_equal(whole.subnormal_scales, sum.subnormal_scales);
    assert_int_equal(whole.replaced, sum.replaced);
    assert_int_equal(whole.count, ROWS * COLS);
}

/* ---- processors ------------------------------------------------------------------------------------------------- */

static size_t allowed(const char *text)
{
    FILE *file = tmpfile();
    assert_non_null(file);
    fputs(text, file);
    rewind(file);
    size_t count = qz_cpus_allowed(file);
    fclose(file);
    return count;
}

/* A quota of part of a processor is worth a thread; 0: no quota. */
static void test_quota(void **state)
{
    (void)state;
    assert_int_equal(allowed("max 100000\n"), 0);
    assert_int_equal(allowed(""), 0);
    assert_int_equal(allowed("100000\n"), 0);
    assert_int_equal(allowed("-1 100000\n"), 0);
    assert_int_equal(allowed("100000 0\n"), 0);
    assert_int_equal(allowed("1 100000\n"), 1);
    assert_int_equal(allowed("99999 100000\n"), 1);
    assert_int_equal(allowed("100000 100000\n"), 1);
    assert_int_equal(allowed("100001 100000\n"), 2);
    assert_int_equal(allowed("150000 100000\n"), 2);
    assert_int_equal(allowed("400000 100000\n"), 4);
    assert_int_equal(allowed("9223372036854775807 1\n"), SIZE_MAX / 2);
    assert_in_range(qz_cpu_count(), 1, 1 << 20);
}

/* ---- the least and the largest scale that a type can hold -------------------------------------------------------- */

/* Values that a scale makes without error are found to be made by it, at both ends of each type. */
static void test_ends_of_scales(void **state)
{
    (void)state;
    static const float values[16] = {-6, -4, -3, -2, -1.5f, -1, -0.5f, 0, 0.5f, 1, 1.5f, 2, 2.5f, 3, 4, 6};
    const struct {
        const struct qz_levels *levels;
        float least, most;
    } types[] = {{&qz_scale_type_of(QZ_E8M0)->levels, 0x1p-127f, 0x1p125f},
                 {&qz_scale_type_of(QZ_E4M3)->levels, 0x1p-9f, 448.0f},
                 {&qz_scale_type_of(QZ_F16)->levels, 0x1p-24f, 65504.0f},
                 {&qz_scale_type_of(QZ_BF16)->levels, 0x1p-133f, 0x1p125f}};
    for (size_t t = 0; t < sizeof types / sizeof types[0]; t++)
        for (int end = 0; end < 2; end++) {
            float scale = end ? types[t].most : types[t].least, x[16];
            struct qz_exact rule = {.levels = *types[t].levels};
            struct qz_exact_result result;
            memcpy(rule.sorted, values, sizeof values);
            rule.levels.most[1] = 0;
            for (int i = 0; i < 16; i++)
                x[i] = values[i] * scale;
            struct qz_exact_source source = {.x = x, .n = 16};
            qz_exact_scale(&rule, &source, 1.0f, 0.0f, &result);
            assert_true(result.scale == scale);
            assert_true(result.error == 0);
        }
}

/* ---- threads ---------------------------------------------------------------------------------------------------- */

enum { THREADS = 4 };

struct meeting {
    atomic_size_t here, strange;
};

/* Waits until all threads are at it, so that none does the work of another. */
static void meet(void *context, size_t i)
{
    (void)i;
    struct meeting *meeting = context;
    atomic_fetch_add(&meeting->strange, !fp_is(FP_DEFAULT));
    atomic_fetch_add(&meeting->here, 1);
    while (atomic_load(&meeting->here) < THREADS)
        sched_yield();
}

/* Threads that were started in another floating-point mode work in the default one. */
static void test_modes_of_threads(void **state)
{
    (void)state;
    for (int mode = 0; mode < FP_MODES; mode++) {
        if (!fp_mode_exists((enum fp_mode)mode))
            continue;
        qz_pool *pool = NULL;
        struct meeting meeting = {0};
        fp_set((enum fp_mode)mode);
        qz_result result = qz_pool_create(THREADS, &pool);
        fp_set(FP_DEFAULT);
        assert_int_equal(result, QZ_OK);
        qz_pool_run(pool, THREADS, meet, &meeting);
        qz_pool_destroy(pool);
        assert_int_equal(atomic_load(&meeting.strange), 0);
    }
}

int main(void)
{
    start_program("test_limits");
    sets[0] = qz_kernels_active();
    sets[1] = &qz_kernels_scalar;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_clipped),
        cmocka_unit_test(test_clipped_integers),
        cmocka_unit_test(test_narrow_ends),
        cmocka_unit_test(test_sum_of_ends),
        cmocka_unit_test(test_streamed),
        cmocka_unit_test(test_streamed_groups),
        cmocka_unit_test(test_random_rounding),
        cmocka_unit_test(test_extent),
        cmocka_unit_test(test_strides),
        cmocka_unit_test(test_gaps),
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_six_bits),
        cmocka_unit_test(test_byte_products),
        cmocka_unit_test(test_weights),
        cmocka_unit_test(test_quota),
        cmocka_unit_test(test_ends_of_scales),
        cmocka_unit_test(test_modes_of_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
