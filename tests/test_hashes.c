/*
 * test_hashes.c - one list of SHA-256 sums for all machines
 *
 * Inputs come from an integer rule, outputs are summed as little-endian bytes, and tests/vectors/sums.txt holds what
 * must come out with every kernel set, compiler, optimisation and byte order. After a deliberate change of format:
 *
 *     test_hashes --write tests/vectors/sums.txt
 */
#include "support/program.h"

#include "support/cases.h"
#include "support/sha256.h"

#define LIST "tests/vectors/sums.txt" /* from the project's root, where tests run */

/* ---- sums ---------------------------------------------------------------------------------------------------- */

/* n numbers of `size` bytes, least significant byte first. */
static void add_numbers(struct sha256 *sum, const void *numbers, size_t n, size_t size)
{
    const uint16_t probe = 1;
    int little = *(const uint8_t *)&probe;
    const uint8_t *bytes = numbers;
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < size; k++)
            sha256_add(sum, bytes + i * size + (little ? k : size - 1 - k), 1);
}

/* Sums that were computed, in order; compared with the list or written to it. */
struct line {
    char name[120], sum[65];
};
static struct line lines[4000];
static size_t line_count;

static void finish(struct sha256 *sum, const char *name)
{
    assert_true(line_count < COUNT(lines));
    struct line *line = &lines[line_count++];
    snprintf(line->name, sizeof line->name, "%s", name);
    sha256_end(sum, line->sum);
}

/* ---- inputs -------------------------------------------------------------------------------------------------- */

/* The rule: a shift-register sequence (Marsaglia's xorshift with shifts 13, 7 and 17), and from each number a sign, an
 * exponent near that of 1 and as many mantissa bits as asked for. Exact in all four types up to 8 bits. */
struct rule {
    uint64_t state;
    int exponents, mantissa_bits;
};

static double rule_next(struct rule *rule)
{
    rule->state ^= rule->state << 13;
    rule->state ^= rule->state >> 7;
    rule->state ^= rule->state << 17;
    uint64_t bits = rule->state >> 8;
    double magnitude = (double)((bits & ((1u << rule->mantissa_bits) - 1)) | 1u << rule->mantissa_bits);
    int exponent = -rule->mantissa_bits - (int)(bits >> 32) % rule->exponents;
    return ldexp(bits >> 55 & 1 ? -magnitude : magnitude, exponent);
}

static const struct rule rules[] = {
    {0x123456789abcdef1u, 4, 7},  /* exact in every type; ties are common */
    {0xfedcba9876543211u, 30, 7}, /* scales and groups of very different size */
    {0x0f1e2d3c4b5a6979u, 3, 22}, /* rounded in narrow types */
};

/* ---- whole arrays -------------------------------------------------------------------------------------------- */

static void sum_whole_arrays(void)
{
    static const size_t lengths[] = {1, 2, 31, 64, 1001, 40000};
    for (size_t r = 0; r < COUNT(rules); r++)
        for (size_t d = 0; d < COUNT(all_dtypes); d++)
            for (size_t l = 0; l < COUNT(lengths) - (short_mode ? 1 : 0); l++)
                for (int method = QZ_MINMAX; method <= QZ_ABSMAX7; method += 2) {
                    struct rule rule = rules[r];
                    size_t n = lengths[l], size = qz_dtype_size(all_dtypes[d]);
                    char *x = malloc(n * size);
                    int8_t *codes = malloc(n);
                    uint8_t *packed = malloc(n);
                    float *y = malloc(n * sizeof *y);
                    double *z = malloc(n * sizeof *z), scale_and_zero[2];
                    for (size_t i = 0; i < n; i++)
                        ref_store(x + i * size, all_dtypes[d],
                                  ref_round(rule_next(&rule) + (r == 2 ? 5 : 0), all_dtypes[d]));
                    assert_int_equal(QZ_OK, CALL(qz_quantize_i4(x, all_dtypes[d], n, (qz_method)method, codes,
                                                                scale_and_zero, scale_and_zero + 1, NULL, NULL)));
                    assert_int_equal(QZ_OK, CALL(qz_pack_i4(codes, n, packed, NULL, NULL)));
                    assert_int_equal(QZ_OK, CALL(qz_dequantize_i4(codes, n, scale_and_zero[0], scale_and_zero[1], y,
                                                                  QZ_F32, NULL, NULL)));
                    assert_int_equal(QZ_OK, CALL(qz_dequantize_i4(codes, n, scale_and_zero[0], scale_and_zero[1], z,
                                                                  QZ_F64, NULL, NULL)));
                    char name[100];
                    snprintf(name, sizeof name, "array rule%zu %s %s n=%zu", r, qz_dtype_name(all_dtypes[d]),
                             method_name((qz_method)method), n);
                    struct sha256 sum;
                    sha256_init(&sum);
                    add_numbers(&sum, scale_and_zero, 2, 8);
                    sha256_add(&sum, codes, n);
                    sha256_add(&sum, packed, qz_packed_bytes(n));
                    add_numbers(&sum, y, n, 4);
                    add_numbers(&sum, z, n, 8);
                    finish(&sum, name);
                    free(x);
                    free(codes);
                    free(packed);
                    free(y);
                    free(z);
                }
}

/* ---- groups -------------------------------------------------------------------------------------------------- */

static void sum_groups(size_t r, size_t kind, uint64_t group_size, uint64_t rows, uint64_t cols, int columns)
{
    qz_method method;
    qz_scheme scheme = scheme_kind(kind, group_size, &method);
    qz_dtype dtype = all_dtypes[(kind + rows + cols) % COUNT(all_dtypes)];
    struct rule rule = rules[r];
    struct field src = field_make(dtype, rows, cols, columns ? LAYOUT_COLUMNS : LAYOUT_ROWS);
    struct field dst = field_make(QZ_F32, rows, cols, LAYOUT_ROWS);
    struct field half = field_make(QZ_BF16, rows, cols, LAYOUT_ROWS);
    struct plain plain = plain_make(&scheme, rows, cols, 0);
    for (uint64_t i = 0; i < rows; i++)
        for (uint64_t k = 0; k < cols; k++)
            field_put(&src.matrix, i, k, rule_next(&rule) + (r == 2 ? 5 : 0));
    qz_options options = QZ_OPTIONS_INIT;
    options.method = method;
    assert_int_equal(QZ_OK, CALL(qz_encode(&scheme, &src.matrix, &plain.packed, &options, NULL, NULL)));
    assert_int_equal(QZ_OK, CALL(qz_decode(&scheme, &plain.packed, &dst.matrix, NULL, NULL)));
    assert_int_equal(QZ_OK, CALL(qz_decode(&scheme, &plain.packed, &half.matrix, NULL, NULL)));

    size_t unit = qz_dtype_size(scheme.scale_dtype), values = (size_t)(rows * cols);
    struct sha256 sum;
    sha256_init(&sum);
    sha256_add(&sum, plain.packed.codes, plain.code_bytes);
    add_numbers(&sum, plain.packed.scales, plain.scale_bytes / unit, unit);
    if (scheme.zero == QZ_ZERO_UINT4)
        sha256_add(&sum, plain.packed.zeros, plain.zero_bytes);
    else
        add_numbers(&sum, plain.packed.zeros, plain.zero_bytes / unit, unit);
    add_numbers(&sum, dst.start, values, 4);
    add_numbers(&sum, half.start, values, 2);
    char name[120], size[30] = "row";
    if (group_size != QZ_WHOLE_ROW)
        snprintf(size, sizeof size, "%llu", (unsigned long long)group_size);
    snprintf(name, sizeof name, "groups rule%zu %s zero=%s %s scales g=%s %llux%llu %s%s", r, method_name(method),
             zero_name(scheme.zero), qz_dtype_name(scheme.scale_dtype), size, (unsigned long long)rows,
             (unsigned long long)cols, qz_dtype_name(dtype), columns ? " columns" : "");
    finish(&sum, name);
    field_free(src);
    field_free(dst);
    field_free(half);
    plain_free(plain);
}

/* Every scheme with its scales searched, with weights for each column or without, or the best scales there are. */
static void sum_searched(const qz_scheme *scheme, qz_method method, int weighted, uint64_t rows, uint64_t cols)
{
    struct rule rule = rules[2];
    struct field src = field_make(QZ_F32, rows, cols, LAYOUT_ROWS), dst = field_make(QZ_F32, rows, cols, LAYOUT_ROWS);
    struct field importance = field_make(QZ_F32, 1, cols, LAYOUT_ROWS);
    for (uint64_t i = 0; i < rows; i++)
        for (uint64_t k = 0; k < cols; k++)
            field_put(&src.matrix, i, k, rule_next(&rule));
    for (uint64_t k = 0; k < cols; k++)
        field_put(&importance.matrix, 0, k, fabs(rule_next(&rule)));
    qz_matrix weights = importance.matrix;
    weights.rows = rows;
    weights.row_stride = 0;
    qz_sizes sizes = {.size = sizeof sizes};
    assert_int_equal(QZ_OK, qz_scheme_sizes(scheme, rows, cols, &sizes));
    uint64_t super_rows = scheme->super_size == QZ_WHOLE_MATRIX ? 1 : rows;
    size_t bytes[4] = {(size_t)(rows * sizes.code_bytes), (size_t)(rows * sizes.scale_bytes),
                       (size_t)(rows * sizes.zero_bytes), (size_t)(super_rows * sizes.super_bytes)};
    void *part[4];
    for (int i = 0; i < 4; i++)
        part[i] = bytes[i] ? malloc(bytes[i]) : NULL;
    qz_packed packed = {part[0],
                        part[1],
                        part[2],
                        (int64_t)sizes.code_bytes,
                        (int64_t)sizes.scale_bytes,
                        (int64_t)sizes.zero_bytes,
                        part[3],
                        (int64_t)sizes.super_bytes};
    qz_options options = QZ_OPTIONS_INIT;
    options.method = method;
    options.weights = weighted ? &weights : NULL;
    assert_int_equal(QZ_OK, CALL(qz_encode(scheme, &src.matrix, &packed, &options, NULL, NULL)));
    assert_int_equal(QZ_OK, CALL(qz_decode(scheme, &packed, &dst.matrix, NULL, NULL)));

    size_t unit = qz_dtype_size(scheme->scale_dtype), super_unit = qz_dtype_size(scheme->super_dtype);
    struct sha256 sum;
    sha256_init(&sum);
    sha256_add(&sum, part[0], bytes[0]);
    add_numbers(&sum, part[1], bytes[1] / unit, unit);
    if (scheme->zero == QZ_ZERO_UINT4)
        sha256_add(&sum, part[2], bytes[2]);
    else
        add_numbers(&sum, part[2], bytes[2] / unit, unit);
    if (super_unit)
        add_numbers(&sum, part[3], bytes[3] / super_unit, super_unit);
    add_numbers(&sum, dst.start, (size_t)(rows * cols), 4);
    char name[120];
    snprintf(name, sizeof name, "%s %s%s %llux%llu", scheme->name ? scheme->name : "",
             method == QZ_EXACT ? "exact" : "search", weighted ? " weights" : "", (unsigned long long)rows,
             (unsigned long long)cols);
    finish(&sum, name);
    for (int i = 0; i < 4; i++)
        free(part[i]);
    field_free(src);
    field_free(dst);
    field_free(importance);
}

static void sum_all(void)
{
    static const struct {
        uint64_t group_size, rows, cols;
    } shapes[] = {
        {32, 4, 128},    {1, 3, 35},    {2, 2, 31},    {7, 5, 100},    {16, 3, 64},           {31, 2, 200},
        {64, 3, 200},    {100, 2, 999}, {128, 2, 384}, {256, 1, 1000}, {QZ_WHOLE_ROW, 3, 77}, {QZ_WHOLE_ROW, 2, 5001},
        {3001, 2, 7000}, {32, 50, 96}};
    line_count = 0;
    sum_whole_arrays();
    for (size_t kind = 0; kind < SCHEME_KINDS; kind++)
        for (size_t s = 0; s < COUNT(shapes); s++)
            for (size_t r = 0; r < COUNT(rules); r++)
                sum_groups(r, kind, shapes[s].group_size, shapes[s].rows, shapes[s].cols, (s + r) % 2 == 1);
    const qz_scheme *scheme;
    for (size_t i = 0; (scheme = qz_scheme_at(i)); i++)
        for (int weighted = 0; weighted < 2; weighted++) {
            sum_searched(scheme, QZ_SEARCH, weighted, 9, 256);
            sum_searched(scheme, QZ_SEARCH, weighted, 3, 1000);
            if (qz_scheme_check(scheme, QZ_EXACT) == QZ_OK)
                sum_searched(scheme, QZ_EXACT, weighted, 2, 300);
        }
}

/* ---- the list ------------------------------------------------------------------------------------------------ */

static void test_sha256(void **state)
{
    (void)state;
    char *million = malloc(1000000);
    memset(million, 'a', 1000000);
    const struct {
        const char *text;
        size_t n;
        const char *sum;
    } examples[] = {
        {"", 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56,
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
        {million, 1000000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"},
    };
    for (size_t i = 0; i < COUNT(examples); i++) {
        struct sha256 sum;
        char text[65];
        sha256_init(&sum);
        sha256_add(&sum, examples[i].text, examples[i].n);
        sha256_end(&sum, text);
        assert_string_equal(text, examples[i].sum);
    }
    free(million);
}

/* Each computed sum must be in the list; in short mode the list has more. */
static void test_list(void **state)
{
    (void)state;
    sum_all();
    FILE *file = fopen(LIST, "r");
    if (!file)
        fail_msg("cannot open %s", LIST);
    char text[300], sum[65], name[200];
    size_t i = 0, in_list = 0, wrong = 0;
    while (fgets(text, sizeof text, file))
        if (sscanf(text, "%64s %199[^\n]", sum, name) == 2 && ++in_list && i < line_count &&
            strcmp(lines[i].name, name) == 0) {
            if (strcmp(lines[i].sum, sum) != 0 && wrong++ < 10)
                printf("%s: got %s, the list has %s\n", name, lines[i].sum, sum);
            i++;
        }
    fclose(file);
    if (i < line_count)
        fail_msg("the list lacks \"%s\" at this place", lines[i].name);
    if (wrong || (!short_mode && in_list != line_count))
        fail_msg("%zu of %zu sums differ from the %zu in the list", wrong, line_count, in_list);
}

static int write_list(const char *path)
{
    sum_all();
    FILE *file = fopen(path, "w");
    if (!file)
        return 1;
    for (size_t i = 0; i < line_count; i++)
        fprintf(file, "%s  %s\n", lines[i].sum, lines[i].name);
    return fclose(file) != 0;
}

int main(int argc, char **argv)
{
    start_program("test_hashes");
    if (argc == 3 && strcmp(argv[1], "--write") == 0)
        return write_list(argv[2]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sha256),
        cmocka_unit_test(test_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
