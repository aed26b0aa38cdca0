/*
 * test_same_bytes.c - bytes and values do not depend on how the work is done: in parts, in wide tiles, at odd
 * addresses, past the caches, after other work. test_columns.c and test_pool.c do the same for columns and threads.
 */
#include "support/program.h"

#include "support/cases.h"
#include "support/pieces.h"
#include "support/reference.h"

/* ---- encoding ------------------------------------------------------------------------------------------------ */

/* Bytes do not depend on how a matrix is divided, whatever scheme, method or seed. */
static void test_parts(void **state)
{
    (void)state;
    static const float numbers[16] = {-9, -6, -4, -3, -2, -1.5f, -1, -0.5f, 0, 0.5f, 1, 2, 3, 5, 8, 12};
    struct rng rng = rng_make(21);
    size_t schemes = 0;
    while (qz_scheme_at(schemes))
        schemes++;
    for (size_t repeat = 0; repeat < cases(10, 2) * (schemes + 1); repeat++) {
        qz_scheme scheme = *qz_scheme_at(repeat % (schemes + 1) % schemes);
        if (repeat % (schemes + 1) == schemes) {
            scheme.codes = QZ_TABLE;
            scheme.table = numbers;
        }
        static const uint64_t sizes[] = {80, 600, 2500};
        if (scheme.super_size == 0 && rng_below(&rng, 3) == 0)
            scheme.group_size = PICK(&rng, sizes);
        uint64_t unit = scheme.super_size == 0 && scheme.group_size > 64 ? 2 * scheme.group_size
                        : scheme.group_size > 64 || (scheme.super_size > 64 && scheme.super_size < QZ_WHOLE_MATRIX)
                            ? 256
                            : 2 * scheme.group_size;
        uint64_t rows = 1 + rng_below(&rng, 6), cols = unit * (1 + rng_below(&rng, 3)) + rng_below(&rng, unit);
        for (int method = QZ_MINMAX; qz_method_name((qz_method)method); method++) {
            qz_options options = QZ_OPTIONS_INIT;
            options.method = (qz_method)method;
            if (qz_scheme_check(&scheme, options.method) != QZ_OK || (method == QZ_EXACT && rows * cols > 1000))
                continue;
            options.stochastic = method != QZ_REFERENCE && rng_below(&rng, 2);
            options.seed = rng_next(&rng);
            struct field src = field_make(PICK(&rng, all_dtypes), rows, cols, (enum layout)rng_below(&rng, LAYOUTS));
            field_fill(&rng, &src.matrix, DATA_NORMAL);
            struct pieces whole = pieces_make(&scheme, rows, cols), parts = pieces_make(&scheme, rows, cols);
            float *largest = calloc(rows, sizeof *largest);
            qz_result wanted = CALL(qz_encode(&scheme, &src.matrix, &whole.packed, &options, NULL, NULL));
            assert_true(wanted == QZ_OK || (wanted == QZ_ERROR_ARGUMENT && method == QZ_REFERENCE));

            int divided = rows > 1 && rng_below(&rng, 2), by_row = scheme.super_size == QZ_WHOLE_ROW;
            uint64_t width = divided ? unit : cols;
            int supers = scheme.super_size >= QZ_WHOLE_MATRIX;
            for (int pass = !supers; pass < 2; pass++)
                for (uint64_t r = 0, height; r < rows; r += height) {
                    height = 1 + rng_below(&rng, rows - r);
                    for (uint64_t c = 0; c < cols; c += width) {
                        qz_matrix part = src.matrix;
                        part.rows = height;
                        part.cols = width < cols - c ? width : cols - c;
                        part.data = (char *)part.data + ((int64_t)r * part.row_stride + (int64_t)c * part.col_stride) *
                                                            (int64_t)qz_dtype_size(part.dtype);
                        float *known = supers ? largest + (by_row ? r : 0) : NULL;
                        if (pass == 0) {
                            assert_int_equal(QZ_OK, CALL(qz_largest(&scheme, &part, known, NULL)));
                            continue;
                        }
                        qz_whole place = {sizeof place, rows, cols, r, c, by_row && !divided ? NULL : known};
                        qz_packed to = pieces_at(&parts, &scheme, r, c);
                        options.whole = &place;
                        assert_int_equal(wanted, CALL(qz_encode(&scheme, &part, &to, &options, NULL, NULL)));
                    }
                }
            if (wanted == QZ_OK)
                assert_same_pieces(&whole, &parts, &scheme, rows);
            pieces_free(&whole);
            pieces_free(&parts);
            free(largest);
            field_free(src);
        }
    }
}

/* A row gets the same bytes alone and among others: what a group gets depends on its own values, not on those beside
 * it, nor on what fills a short one up. All kinds of values, short groups and rows that end within one. */
static void test_rows_alone(void **state)
{
    (void)state;
    enum { ROWS = 20, COLS = 150 };
    static const uint64_t sizes[] = {4, 6, 8, 8, 12, 16, 16, 32, 33, 64};
    static float x[ROWS * COLS];
    struct rng rng = rng_make(77);
    for (size_t repeat = 0; repeat < cases(2000, 300); repeat++) {
        size_t count = 0;
        while (qz_scheme_at(count))
            count++;
        qz_scheme scheme = *qz_scheme_at(repeat % count);
        if (scheme.super_size == QZ_WHOLE_MATRIX)
            continue;
        if (scheme.super_size == 0)
            scheme.group_size = PICK(&rng, sizes);
        const uint64_t rows = 2 + rng_below(&rng, ROWS - 1),
                       cols = 1 + rng_below(&rng, rng_below(&rng, 4) ? COLS / 4 : COLS);
        const float size = PICK(&rng, ((float[]){1.0f, 1.0f, 1e-20f, 1e18f}));
        const int data = (int)rng_below(&rng, DATA_KINDS), one_sided = rng_below(&rng, 3) == 0;
        for (uint64_t r = 0; r < rows; r++) {
            fill_floats(&rng, rng_below(&rng, 2) ? DATA_NORMAL : data, x + r * cols, cols);
            for (uint64_t c = 0; c < cols && r % 8 == 0; c++) /* some go up by even steps, and down */
                x[r * cols + c] = fabsf((float)((c + r) % 9) - 4.0f) * 0.77f;
            for (uint64_t c = 0; c < cols; c++) {
                x[r * cols + c] = one_sided ? -fabsf(x[r * cols + c]) - 3.0f : x[r * cols + c];
                x[r * cols + c] = fabsf(x[r * cols + c]) < 1e18f ? x[r * cols + c] * size : size;
            }
        }
        qz_options options = QZ_OPTIONS_INIT;
        options.method = rng_below(&rng, 40) ? QZ_SEARCH : QZ_EXACT;
        if (qz_scheme_check(&scheme, options.method) != QZ_OK)
            continue;
        const qz_matrix matrix = {x, QZ_F32, rows, cols, (int64_t)cols, 1};
        struct pieces all = pieces_make(&scheme, rows, cols), alone = pieces_make(&scheme, 1, cols);
        qz_result wanted = CALL(qz_encode(&scheme, &matrix, &all.packed, &options, NULL, NULL));
        for (uint64_t r = 0; r < rows && wanted == QZ_OK; r++) {
            const qz_matrix row = {x + r * cols, QZ_F32, 1, cols, (int64_t)cols, 1};
            assert_int_equal(CALL(qz_encode(&scheme, &row, &alone.packed, &options, NULL, NULL)), QZ_OK);
            const char *codes = (char *)all.packed.codes + r * all.sizes.code_bytes;
            const char *scales = (char *)all.packed.scales + r * all.sizes.scale_bytes;
            const char *zeros = (char *)all.packed.zeros + r * all.sizes.zero_bytes;
            if (memcmp(alone.packed.codes, codes, all.sizes.code_bytes) != 0 ||
                memcmp(alone.packed.scales, scales, all.sizes.scale_bytes) != 0 ||
                memcmp(alone.packed.zeros, zeros, all.sizes.zero_bytes) != 0)
                fail_msg("%s, groups of %d, row %d of %d, %d columns, data %d, size %g: other bytes alone", scheme.name,
                         (int)scheme.group_size, (int)r, (int)rows, (int)cols, data, (double)size);
        }
        pieces_free(&all);
        pieces_free(&alone);
    }
}

/* Leaves bytes of a kind where the next call has its variables. */
static void dirty_stack(int byte)
{
    volatile uint8_t dirt[240 << 10];
    for (size_t i = 0; i < sizeof dirt; i++)
        dirt[i] = (uint8_t)byte;
    assert_int_equal(dirt[rng_below(&(struct rng){1}, sizeof dirt)], byte);
}

/* Groups that a search leaves alone, the constant ones and the very long ones, depend on nothing else. */
static void test_same_bytes_again(void **state)
{
    (void)state;
    static const uint64_t sizes[][2] = {{32, 256}, {1024, 2048}}; /* of groups and super scales */
    for (size_t kind = 0; kind < COUNT(sizes); kind++)
        for (size_t constant = 0; constant < 2; constant++) {
            qz_scheme scheme = *qz_scheme_by_name("q4_k");
            scheme.group_size = sizes[kind][0];
            scheme.super_size = sizes[kind][1];
            uint64_t cols = 3 * scheme.group_size + 1;
            struct field src = field_make(QZ_F32, 2, cols, LAYOUT_ROWS);
            struct rng rng = rng_make(22);
            field_fill(&rng, &src.matrix, DATA_NORMAL);
            for (size_t i = 0; i < 2 * cols && constant; i++)
                ((float *)src.matrix.data)[i] = i % scheme.group_size < 7 ? -1 : -0.75f;
            struct pieces first = pieces_make(&scheme, 2, cols), second = pieces_make(&scheme, 2, cols);
            dirty_stack(0x3f);
            assert_int_equal(QZ_OK, qz_encode(&scheme, &src.matrix, &first.packed, NULL, NULL, NULL));
            dirty_stack(0xc1);
            assert_int_equal(QZ_OK, qz_encode(&scheme, &src.matrix, &second.packed, NULL, NULL, NULL));
            assert_same_pieces(&first, &second, &scheme, 2);
            pieces_free(&first);
            pieces_free(&second);
            field_free(src);
        }
}

/* What is so large that its codes bypass the caches: one row again and again, each encoded as it is alone. */
static void test_streamed(void **state)
{
    (void)state;
    enum { COLS = 8192, ROWS = (32 << 20) / COLS + 1 };
    static const uint64_t group_sizes[] = {32, 48, 1024};
    float *row = malloc(COLS * sizeof *row);
    uint8_t *codes = malloc((size_t)ROWS * COLS / 2), *scales = malloc((size_t)ROWS * COLS / 8);
    uint8_t *zeros = malloc((size_t)ROWS * COLS / 32);
    assert_true(row && codes && scales && zeros);
    struct rng rng = rng_make(58);
    for (size_t s = 0; s < cases(COUNT(group_sizes), COUNT(group_sizes)); s++) {
        qz_scheme scheme = *qz_scheme_by_name(s == 1 ? "int4" : "uint4");
        scheme.group_size = group_sizes[s];
        qz_options options = QZ_OPTIONS_INIT;
        options.method = s == 1 ? QZ_ABSMAX : QZ_MINMAX;
        for (size_t i = 0; i < COLS; i++)
            row[i] = i / 64 == 77 ? 0.0f : i / 64 == 100 ? rng_normal(&rng) * 1e-30f : rng_normal(&rng);
        qz_sizes sizes = {.size = sizeof sizes};
        assert_int_equal(QZ_OK, qz_scheme_sizes(&scheme, ROWS, COLS, &sizes));
        qz_matrix matrix = {.data = row, .dtype = QZ_F32, .rows = ROWS, .cols = COLS, .col_stride = 1};
        qz_packed all = {
            codes, scales, zeros, (int64_t)sizes.code_bytes, (int64_t)sizes.scale_bytes, (int64_t)sizes.zero_bytes,
            NULL,  0};
        assert_int_equal(QZ_OK, qz_encode(&scheme, &matrix, &all, &options, NULL, NULL));
        uint8_t one_codes[COLS / 2], one_scales[COLS / 8], one_zeros[COLS / 32] = {0};
        qz_packed one = {one_codes, one_scales, one_zeros, 0, 0, 0, NULL, 0};
        matrix.rows = 1;
        assert_int_equal(QZ_OK, qz_encode(&scheme, &matrix, &one, &options, NULL, NULL));
        for (size_t r = 0; r < ROWS; r++) {
            assert_memory_equal(codes + r * sizes.code_bytes, one_codes, sizes.code_bytes);
            assert_memory_equal(scales + r * sizes.scale_bytes, one_scales, sizes.scale_bytes);
            assert_memory_equal(zeros + r * sizes.zero_bytes, one_zeros, sizes.zero_bytes);
        }
    }
    free(row), free(codes), free(scales), free(zeros);
}

/* ---- decoding ------------------------------------------------------------------------------------------------ */

/* Decodes to float16 and bfloat16, with a pool and without: the numbers nearest to `values`. */
static void check_narrow(const qz_scheme *scheme, const qz_packed *packed, uint64_t rows, uint64_t cols,
                         const double *values, qz_pool *pool)
{
    static const qz_dtype dtypes[] = {QZ_F16, QZ_BF16};
    size_t n = (size_t)(rows * cols);
    uint16_t *halves = malloc(n * sizeof *halves), *wanted = malloc(n * sizeof *wanted);
    for (size_t i = 0; i < COUNT(dtypes); i++) {
        qz_matrix to = {halves, dtypes[i], rows, cols, (int64_t)cols, 1};
        for (size_t k = 0; k < n; k++)
            wanted[k] = ref_half_bits(ref_round(values[k], dtypes[i]), dtypes[i]);
        for (int pooled = 0; pooled < 2; pooled++) {
            memset(halves, 0xff, n * sizeof *halves);
            assert_int_equal(QZ_OK, CALL(qz_decode(scheme, packed, &to, pooled ? pool : NULL, NULL)));
            assert_memory_equal(halves, wanted, n * sizeof *halves);
        }
    }
    free(halves);
    free(wanted);
}

/* Long rows that are decoded in place are decoded in wider tiles than others: the values are those that come out where
 * they must be rounded on the way, to float64, which changes none. */
static void test_decode_wide(void **state)
{
    (void)state;
    qz_pool *pool;
    assert_int_equal(QZ_OK, qz_pool_create(2, &pool));
    static const uint64_t widths[] = {256, 288, 1280, 4096, 4097, 8192, 16384, 16416, 20001, 40000};
    static const uint64_t group_sizes[] = {0, 16, 32, 48, 96}; /* 0: the scheme's own */
    struct rng rng = rng_make(22);
    for (size_t i = 0; qz_scheme_at(i); i++)
        for (size_t k = 0; k < COUNT(widths); k++)
            for (size_t j = 0; j < COUNT(group_sizes); j++) {
                qz_scheme scheme = *qz_scheme_at(i);
                uint64_t cols = widths[k], rows = 1 + rng_below(&rng, cols < 4096 ? 5 : 2);
                if (group_sizes[j])
                    scheme.group_size = group_sizes[j];
                if (qz_scheme_check(&scheme, QZ_DEFAULT) != QZ_OK || left_out(&rng, 1, 4))
                    continue;
                struct pieces pieces = pieces_make(&scheme, rows, cols);
                float *x = malloc(rows * cols * sizeof *x), *narrow = malloc(rows * cols * sizeof *narrow);
                double *wide = malloc(rows * cols * sizeof *wide);
                for (uint64_t n = 0; n < rows * cols; n++)
                    x[n] = rng_normal(&rng);
                qz_matrix src = {x, QZ_F32, rows, cols, (int64_t)cols, 1}, to = src, other = src;
                to.data = narrow;
                other.data = wide;
                other.dtype = QZ_F64;
                qz_options options = QZ_OPTIONS_INIT;
                options.method = scheme.zero == QZ_ZERO_NONE ? QZ_ABSMAX : QZ_MINMAX;
                assert_int_equal(QZ_OK, CALL(qz_encode(&scheme, &src, &pieces.packed, &options, NULL, NULL)));
                assert_int_equal(QZ_OK, CALL(qz_decode(&scheme, &pieces.packed, &to, NULL, NULL)));
                assert_int_equal(QZ_OK, CALL(qz_decode(&scheme, &pieces.packed, &other, NULL, NULL)));
                for (uint64_t n = 0; n < rows * cols; n++)
                    assert_true((double)narrow[n] == wide[n]);
                if (j == (i + k) % COUNT(group_sizes)) /* that takes a while */
                    check_narrow(&scheme, &pieces.packed, rows, cols, wide, pool);
                for (uint64_t r = 0; r < rows; r++) { /* and row by row */
                    qz_packed row = pieces_at(&pieces, &scheme, r, 0);
                    qz_matrix one = {x, QZ_F32, 1, cols, (int64_t)cols, 1};
                    assert_int_equal(QZ_OK, CALL(qz_decode(&scheme, &row, &one, NULL, NULL)));
                    assert_memory_equal(x, narrow + r * cols, cols * sizeof *x);
                }
                pieces_free(&pieces);
                free(x);
                free(narrow);
                free(wide);
            }
    qz_pool_destroy(pool);
}

/* Super scales at any address, as rows of them any number of bytes apart have. */
static void test_decode_odd_supers(void **state)
{
    (void)state;
    enum { COLS = 4096, ROWS = 3 };
    static const char *const names[] = {"iq4_xs", "q4_k", "dual4", "nvfp4"};
    static float x[ROWS * COLS], wanted[ROWS * COLS], got[ROWS * COLS];
    static uint8_t moved[ROWS * (COLS + 1) + 1];
    struct rng rng = rng_make(62);
    for (size_t i = 0; i < COUNT(names); i++) {
        const qz_scheme *scheme = qz_scheme_by_name(names[i]);
        struct pieces pieces = pieces_make(scheme, ROWS, COLS);
        qz_matrix src = {x, QZ_F32, ROWS, COLS, COLS, 1}, to = src;
        for (size_t n = 0; n < ROWS * COLS; n++)
            x[n] = rng_normal(&rng);
        qz_packed odd = pieces.packed;
        assert_int_equal(QZ_OK, CALL(qz_encode(scheme, &src, &odd, NULL, NULL, NULL)));
        to.data = wanted;
        assert_int_equal(QZ_OK, CALL(qz_decode(scheme, &odd, &to, NULL, NULL)));
        size_t bytes = (size_t)pieces.sizes.super_bytes;
        odd.supers = moved + 1;
        odd.super_stride = (int64_t)bytes + 1;
        for (size_t r = 0; r < (scheme->super_size == QZ_WHOLE_MATRIX ? 1 : ROWS); r++)
            memcpy((char *)odd.supers + r * (bytes + 1), (const char *)pieces.packed.supers + r * bytes, bytes);
        to.data = got;
        assert_int_equal(QZ_OK, CALL(qz_decode(scheme, &odd, &to, NULL, NULL)));
        assert_memory_equal(got, wanted, sizeof got);
        pieces_free(&pieces);
    }
}

/* Values that are so many that they leave past the caches: one row again and again, as it is decoded alone. */
static void test_decode_streamed(void **state)
{
    (void)state;
    enum { COLS = 8200, ROWS = (16 << 20) / COLS / 2 + 1, PITCH = COLS + 24 };
    static const uint64_t group_sizes[] = {16, 48, 128, 1024, 2048, 24, 5001};
    static const qz_dtype dtypes[] = {QZ_F32, QZ_F16, QZ_BF16};
    static uint8_t row[COLS], wanted[COLS * 4];
    uint8_t *codes = malloc((size_t)ROWS * COLS / 2), *scales = malloc((size_t)ROWS * (COLS / 8 + 2));
    uint8_t *zeros = malloc((size_t)ROWS * COLS / 8), *y = malloc((size_t)ROWS * PITCH * 4);
    assert_true(codes && scales && zeros && y);
    struct rng rng = rng_make(61);
    const size_t count = COUNT(group_sizes) * COUNT(dtypes);
    for (size_t n = 0; n < cases(count, 4); n++) {
        const size_t i = n * 5 % count; /* the first ones are of every type */
        qz_scheme scheme = *qz_scheme_by_name(i % 2 ? "uint4" : "nf4");
        qz_dtype dtype = dtypes[i % COUNT(dtypes)];
        scheme.group_size = group_sizes[i / COUNT(dtypes)];
        qz_sizes sizes = {.size = sizeof sizes};
        assert_int_equal(QZ_OK, qz_scheme_sizes(&scheme, ROWS, COLS, &sizes));
        for (size_t k = 0; k < COUNT(row); k++)
            row[k] = (uint8_t)rng_below(&rng, 256);
        for (size_t r = 0; r < ROWS; r++) {
            memcpy(codes + r * sizes.code_bytes, row, sizes.code_bytes);
            memcpy(zeros + r * sizes.zero_bytes, row, sizes.zero_bytes);
            for (size_t g = 0; g < sizes.row_groups; g++) {
                uint16_t half = ref_half_bits(ref_round(0.01 + (double)row[g], QZ_F16), QZ_F16);
                memcpy(scales + r * sizes.scale_bytes + 2 * g, &half, sizeof half);
            }
        }
        qz_packed packed = {
            codes, scales, zeros, (int64_t)sizes.code_bytes, (int64_t)sizes.scale_bytes, (int64_t)sizes.zero_bytes,
            NULL,  0};
        size_t unit = qz_dtype_size(dtype), gap = dtype == QZ_F32 ? 1 : 8, pitch = COLS + gap;
        qz_matrix alone = {wanted, dtype, 1, COLS, COLS, 1};
        qz_matrix all = {y, dtype, ROWS, COLS, (int64_t)pitch, 1};
        memset(y, CANARY, all.rows * pitch * unit);
        assert_true(all.rows * COLS * unit > 16 << 20);
        assert_int_equal(QZ_OK, qz_decode(&scheme, &packed, &alone, NULL, NULL));
        assert_int_equal(QZ_OK, qz_decode(&scheme, &packed, &all, NULL, NULL));
        for (size_t r = 0; r < all.rows; r++) {
            assert_memory_equal(y + r * pitch * unit, wanted, COLS * unit);
            for (size_t b = 0; b < gap * unit; b++)
                assert_int_equal(y[(r * pitch + COLS) * unit + b], CANARY);
        }
    }
    free(codes), free(scales), free(zeros), free(y);
}

int main(void)
{
    start_program("test_same_bytes");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_rows_alone),
        cmocka_unit_test(test_same_bytes_again),
        cmocka_unit_test(test_streamed),
        cmocka_unit_test(test_decode_wide),
        cmocka_unit_test(test_decode_odd_supers),
        cmocka_unit_test(test_decode_streamed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
