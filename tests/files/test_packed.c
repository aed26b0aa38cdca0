/*
 * test_packed.c - quantized tensors in .npz: what is written is read back, in any blocks; inconsistent parts are
 * refused
 */
#include "support.h"

typedef struct plain { /* a packed matrix in memory, without gaps */
    qz_packed packed;
    qz_sizes sizes;
} plain;

static plain new_plain(const qz_scheme *scheme, uint64_t rows, uint64_t cols)
{
    plain p = {.sizes = {.size = sizeof p.sizes}};
    assert_int_equal(qz_scheme_sizes(scheme, rows, cols, &p.sizes), QZ_OK);
    p.packed = (qz_packed){calloc(1, rows * p.sizes.code_bytes + 1),
                           calloc(1, rows * p.sizes.scale_bytes + 1),
                           p.sizes.zero_bytes != 0 ? calloc(1, rows * p.sizes.zero_bytes + 1) : NULL,
                           (int64_t)p.sizes.code_bytes,
                           (int64_t)p.sizes.scale_bytes,
                           (int64_t)p.sizes.zero_bytes,
                           p.sizes.super_bytes != 0 ? calloc(1, rows * p.sizes.super_bytes + 1) : NULL,
                           (int64_t)p.sizes.super_bytes};
    return p;
}

static void free_plain(plain *p)
{
    free(p->packed.codes);
    free(p->packed.scales);
    free(p->packed.zeros);
    free(p->packed.supers);
}

/* The part of a matrix that begins at (row, col). */
static qz_packed part_of(const plain *p, const qz_scheme *scheme, uint64_t row, uint64_t col)
{
    uint64_t group = scheme->group_size >= UINT64_MAX / 2 ? 0 : col / scheme->group_size;
    size_t each = qz_dtype_size(scheme->scale_dtype);
    qz_packed part = p->packed;
    part.codes = (char *)part.codes + row * p->sizes.code_bytes + col / 2;
    part.scales = (char *)part.scales + row * p->sizes.scale_bytes + group * each;
    if (part.zeros)
        part.zeros =
            (char *)part.zeros + row * p->sizes.zero_bytes + (scheme->zero == QZ_ZERO_UINT4 ? group / 2 : group * each);
    if (part.supers && scheme->super_size != QZ_WHOLE_MATRIX)
        part.supers =
            (char *)part.supers + row * p->sizes.super_bytes +
            col / scheme->super_size * qz_dtype_size(scheme->super_dtype) * (scheme->scale_dtype == QZ_U6 ? 2 : 1);
    return part;
}

static void assert_same(const plain *a, const plain *b, const qz_scheme *scheme, uint64_t rows)
{
    assert_memory_equal(a->packed.codes, b->packed.codes, rows * a->sizes.code_bytes);
    assert_memory_equal(a->packed.scales, b->packed.scales, rows * a->sizes.scale_bytes);
    if (a->packed.zeros)
        assert_memory_equal(a->packed.zeros, b->packed.zeros, rows * a->sizes.zero_bytes);
    if (a->packed.supers)
        assert_memory_equal(a->packed.supers, b->packed.supers,
                            (scheme->super_size == QZ_WHOLE_MATRIX ? 1 : rows) * a->sizes.super_bytes);
}

static const float own_numbers[16] = {-8, -5, -3, -2, -1.5f, -1, -0.5f, -0.25f, 0, 0.25f, 0.5f, 1, 2, 3, 5, 7};

/* How the numbers were found makes no difference to files: no search, where the scheme has a method without one. */
static qz_method plain_method(const qz_scheme *scheme)
{
    static const qz_method methods[] = {QZ_ABSMAX, QZ_MINMAX};
    for (size_t i = 0; i < 2; i++)
        if (qz_scheme_check(scheme, methods[i]) == QZ_OK)
            return methods[i];
    return QZ_DEFAULT;
}

/* A tensor is written in blocks of three rows and `wide` columns and read back, at once and in blocks of `step`. */
static void round_trip_in(const char *name, const qz_scheme *scheme, const uint64_t shape[3], unsigned axis,
                          uint64_t wide, uint64_t step)
{
    qz_file_error error = QZ_FILE_ERROR_INIT;
    uint64_t cols = shape[axis], rows = shape[0] * shape[1] * shape[2] / cols;
    plain a = new_plain(scheme, rows, cols), b = new_plain(scheme, rows, cols);
    float *values = malloc(rows * cols * sizeof *values);
    struct rng rng = rng_make(rows);
    fill_floats(&rng, DATA_NORMAL, values, rows * cols);
    qz_matrix m = {values, QZ_F32, rows, cols, (int64_t)cols, 1};
    qz_options options = QZ_OPTIONS_INIT;
    options.method = plain_method(scheme);
    assert_int_equal(qz_encode(scheme, &m, &a.packed, &options, NULL, NULL), QZ_OK);
    step = step < cols ? step : cols;
    wide = wide < cols ? wide : cols;

    qz_writer *writer;
    qz_packed_tensor p = {.size = sizeof p};
    assert_int_equal(qz_create(path_of(name), NULL, &writer, &error), QZ_FILE_OK);
    if (qz_packed_declare(writer, "w.0", 3, scheme, 3, shape, axis, &p, &error) != QZ_FILE_OK)
        fail_msg("%s\n", error.message);
    assert_int_equal(p.rows, rows);
    assert_int_equal(p.cols, cols);
    for (uint64_t r = 0; r < rows; r += 3)
        for (uint64_t c = 0; c < cols; c += wide) {
            uint64_t nr = rows - r < 3 ? rows - r : 3, nc = cols - c < wide ? cols - c : wide;
            qz_packed part = part_of(&a, scheme, r, c);
            if (qz_packed_write(writer, &p, r, nr, c, nc, &part, &error) != QZ_FILE_OK)
                fail_msg("%s\n", error.message);
        }
    assert_int_equal(qz_commit(writer, &error), QZ_FILE_OK);

    qz_file *file;
    assert_int_equal(qz_open(path_of(name), NULL, &file, &error), QZ_FILE_OK);
    assert_int_equal(qz_packed_part(file, 0), QZ_PART_HEADER);
    for (size_t t = 1; t < qz_tensor_count(file); t++)
        assert_int_equal(qz_packed_part(file, t), QZ_PART_DATA);
    if (qz_packed_find(file, "w.0", 3, &p, &error) != QZ_FILE_OK)
        fail_msg("%s\n", error.message);
    assert_int_equal(p.scheme.codes, scheme->codes);
    assert_int_equal(p.scheme.zero, scheme->zero);
    assert_int_equal(p.scheme.scale_dtype, scheme->scale_dtype);
    assert_true(p.scheme.group_size == scheme->group_size);
    assert_int_equal(p.scheme.super_dtype, scheme->super_dtype);
    assert_true(p.scheme.super_size == scheme->super_size);
    if (scheme->codes == QZ_TABLE)
        assert_memory_equal(p.scheme.table, scheme->table, 16 * sizeof(float));
    assert_int_equal(p.rank, 3);
    assert_int_equal(p.axis, axis);
    assert_memory_equal(p.shape, shape, 3 * sizeof shape[0]);
    assert_int_equal(qz_packed_read(file, &p, 0, rows, 0, cols, &b.packed, &error), QZ_FILE_OK);
    assert_same(&a, &b, scheme, rows);
    free_plain(&b);
    b = new_plain(scheme, rows, cols);
    for (uint64_t r = rows; r-- > 0;)
        for (uint64_t c = 0; c < cols; c += step) {
            qz_packed part = part_of(&b, scheme, r, c);
            uint64_t nc = cols - c < step ? cols - c : step;
            assert_int_equal(qz_packed_read(file, &p, r, 1, c, nc, &part, &error), QZ_FILE_OK);
        }
    assert_same(&a, &b, scheme, rows);
    /* Blocks that divide a byte, a group or what shares a super scale, or lie outside. */
    assert_int_equal(qz_packed_read(file, &p, 0, 1, 1, 2, &b.packed, &error), QZ_FILE_ARGUMENT);
    assert_int_equal(qz_packed_read(file, &p, 0, 1, 0, 1, &b.packed, &error), QZ_FILE_ARGUMENT);
    assert_int_equal(qz_packed_read(file, &p, rows, 1, 0, cols, &b.packed, &error), QZ_FILE_ARGUMENT);
    assert_int_equal(qz_packed_read(file, &p, 0, 1, 0, cols + 2, &b.packed, &error), QZ_FILE_ARGUMENT);
    assert_int_equal(qz_packed_read(file, &p, UINT64_MAX, 2, 0, cols, &b.packed, &error), QZ_FILE_ARGUMENT);
    if (scheme->super_size != 0 && scheme->super_size < cols) {
        uint64_t part = 2 * scheme->group_size;
        assert_int_equal(qz_packed_read(file, &p, 0, 1, 0, part, &b.packed, &error), QZ_FILE_ARGUMENT);
        assert_int_equal(qz_packed_read(file, &p, 0, 1, part, cols - part, &b.packed, &error), QZ_FILE_ARGUMENT);
    }
    qz_close(file);
    unlink(path_of(name));
    free_plain(&a);
    free_plain(&b);
    free(values);
}

static void round_trip(const qz_scheme *scheme, const uint64_t shape[3], unsigned axis, uint64_t step)
{
    round_trip_in("p.npz", scheme, shape, axis, step, step);
}

/* ggml's blocks, also in parts where a part of the row has scales of its own. */
static void round_trips_in_blocks(void **state)
{
    (void)state;
    static const char *const names[] = {"q4_0", "q4_1", "q4_k", "iq4_nl", "iq4_xs", "mxfp4", "nvfp4"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        for (uint64_t cols = 256; cols <= 1280; cols += 512) {
            const uint64_t shape[3] = {5, 4, cols};
            qz_scheme scheme = *qz_scheme_by_name(names[i]);
            uint64_t pair = scheme.super_size == 256 && cols > 256 ? 256 : 2 * scheme.group_size;
            round_trip_in("p.gguf", &scheme, shape, 2, 256, pair);
            round_trip_in("p.gguf", &scheme, shape, 2, UINT64_MAX, 3 * pair);
            if (scheme.super_size != QZ_WHOLE_MATRIX)
                continue;
            round_trip_in("p.gguf", &scheme, shape, 2, 64, 3 * pair); /* a block and a half */
            scheme.super_dtype = (qz_dtype)0;
            scheme.super_size = 0;
            round_trip_in("p.gguf", &scheme, shape, 2, 64, pair);
        }
}

/* What a layout refuses, and the bytes of what it does not. */
static void layouts(void **state)
{
    (void)state;
    static const struct {
        const char *layout, *scheme;
        unsigned rank, axis;
        uint64_t shape[5];
        const char *words; /* NULL: it can */
        uint64_t bytes;
    } cases_[] = {
        {"own", "nf4", 2, 0, {64, 3}, NULL, 3 * 34},
        {"gguf", "q4_0", 2, 1, {3, 64}, NULL, 3 * 36},
        {"gguf", "int4", 1, 0, {32}, NULL, 18},
        {"gguf", "q4_k", 3, 2, {2, 3, 512}, NULL, 12 * 144},
        {"gguf", "nvfp4", 2, 1, {3, 64}, NULL, 3 * 36 + 4},
        {"gguf", "q4_k", 2, 1, {3, 128}, "no whole blocks of Q4_K, which have 256", 0},
        {"gguf", "q4_0", 2, 0, {64, 64}, "along the last axis", 0},
        {"gguf", "q4_0", 5, 4, {1, 1, 1, 1, 32}, "at most 4 axes", 0},
        {"gguf", "nf4", 0, 0, {0}, "no type for such codes", 0},
        {"gguf", "matmulnbits", 0, 0, {0}, "take the scheme q4_0", 0},
        {"none", "q4_0", 0, 0, {0}, "no layout of this name", 0},
    };
    for (size_t i = 0; i < sizeof cases_ / sizeof cases_[0]; i++) {
        char out[200];
        const qz_scheme *scheme = qz_scheme_by_name(cases_[i].scheme);
        const char *wrong = qz_layout_refuses(cases_[i].layout, scheme, cases_[i].rank, cases_[i].shape, cases_[i].axis,
                                              out, sizeof out);
        if ((!wrong) != (!cases_[i].words) || (wrong && !strstr(wrong, cases_[i].words)))
            fail_msg("case %zu: %s\n", i, wrong ? wrong : "not refused");
        assert_int_equal(qz_layout_bytes(cases_[i].layout, scheme, cases_[i].rank, cases_[i].shape, cases_[i].axis),
                         cases_[i].bytes);
    }
    assert_string_equal(qz_layout_of_output("a.gguf"), "gguf");
    assert_string_equal(qz_layout_of_output("a.safetensors"), "own");
    assert_null(qz_layout_of_output("a.pt"));
}

/* ggml's layout is for GGUF alone, which has no bytes for the own one. */
static void chosen_layouts(void **state)
{
    (void)state;
    static const struct {
        const char *path, *layout;
        qz_file_result result;
    } cases_[] = {{"p.safetensors", "own", QZ_FILE_OK},
                  {"p.gguf", "own", QZ_FILE_REFUSED},
                  {"p.npz", "gguf", QZ_FILE_ARGUMENT},
                  {"p.npz", "other", QZ_FILE_ARGUMENT}};
    const uint64_t shape[1] = {64};
    for (size_t i = 0; i < sizeof cases_ / sizeof cases_[0]; i++) {
        qz_create_options options = QZ_CREATE_OPTIONS_INIT;
        qz_file_error error = QZ_FILE_ERROR_INIT;
        qz_packed_tensor p = {.size = sizeof p};
        qz_writer *writer;
        options.layout = cases_[i].layout;
        assert_int_equal(qz_create(path_of(cases_[i].path), &options, &writer, &error), QZ_FILE_OK);
        assert_int_equal(qz_packed_declare(writer, "w", 1, qz_scheme_by_name("nf4"), 1, shape, 0, &p, &error),
                         cases_[i].result);
        qz_abort(writer);
    }
}

static void round_trips(void **state)
{
    (void)state;
    static const uint64_t groups[] = {1, 3, 32, 64, QZ_WHOLE_ROW};
    static const qz_dtype scales[] = {QZ_F32, QZ_F16, QZ_BF16};
    static const char *const names[] = {"int4", "uint4", "uint4_offset", "uint4_float"};
    for (size_t i = 0; i < 4; i++)
        for (size_t g = 0; g < 5; g++)
            for (size_t d = 0; d < 3; d++)
                for (unsigned axis = 0; axis < 3; axis++) {
                    const uint64_t shape[3] = {5, 7, 11 + 90 * (i % 2)};
                    qz_scheme scheme = *qz_scheme_by_name(names[i]);
                    scheme.group_size = groups[g];
                    scheme.scale_dtype = scales[d];
                    round_trip(&scheme, shape, axis, groups[g] <= shape[axis] / 2 ? 2 * groups[g] : UINT64_MAX);
                }
}

/* The name that a scheme of a file gets. */
static const char *name_of(const qz_scheme *scheme)
{
    qz_file_error error = QZ_FILE_ERROR_INIT;
    qz_create_options options = QZ_CREATE_OPTIONS_INIT;
    const uint64_t shape[] = {0};
    qz_packed_tensor p = {.size = sizeof p};
    qz_writer *writer;
    qz_file *file;
    options.replace = 1;
    assert_int_equal(qz_create(path_of("p.npz"), &options, &writer, &error), QZ_FILE_OK);
    assert_int_equal(qz_packed_declare(writer, "w", 1, scheme, 1, shape, 0, &p, &error), QZ_FILE_OK);
    assert_int_equal(qz_commit(writer, &error), QZ_FILE_OK);
    assert_int_equal(qz_open(path_of("p.npz"), NULL, &file, &error), QZ_FILE_OK);
    if (qz_packed_find(file, "w", 1, &p, &error) != QZ_FILE_OK)
        fail_msg("%s\n", error.message);
    qz_close(file);
    unlink(path_of("p.npz"));
    return p.scheme.name;
}

static void all_schemes(void **state)
{
    (void)state;
    static const uint64_t shape[3] = {3, 1200, 3};
    const qz_scheme *row;
    for (size_t i = 0; (row = qz_scheme_at(i)) != NULL; i++)
        for (unsigned axis = 0; axis < 3; axis++)
            round_trip(row, shape, axis, row->super_size == 256 ? 512 : 2 * row->group_size);
    qz_scheme own = *qz_scheme_by_name("int4");
    own.codes = QZ_TABLE;
    own.table = own_numbers;
    for (unsigned axis = 0; axis < 3; axis++)
        round_trip(&own, shape, axis, 64);
    assert_string_equal(name_of(&own), "table");

    /* The first row that means the same. */
    for (size_t i = 0; (row = qz_scheme_at(i)) != NULL; i++) {
        const qz_scheme *first;
        for (size_t j = 0; (first = qz_scheme_at(j)) != NULL; j++)
            if (first->codes == row->codes && first->zero == row->zero && first->super_size == row->super_size &&
                (first->scale_dtype == row->scale_dtype ||
                 (first->scale_dtype <= QZ_BF16 && row->scale_dtype <= QZ_BF16)))
                break;
        assert_string_equal(name_of(row), first->name);
        own = *row;
        own.group_size *= 2;
        assert_string_equal(name_of(&own), first->name);
    }
    own = *qz_scheme_by_name("mxfp4");
    own.scale_dtype = QZ_BF16;
    assert_string_equal(name_of(&own), "fp4");
    own = *qz_scheme_by_name("nvfp4"); /* a variant that no row is */
    own.super_size = QZ_WHOLE_ROW;
    assert_string_equal(name_of(&own), "fp4");
}

/* ---- parts that do not fit together ---- */

typedef struct member {
    const char *name;
    qz_element element;
    unsigned rank;
    uint64_t shape[3];
    int column_major;
} member;

static const int64_t good_numbers[] = {1, QZ_INT4, QZ_F16, QZ_ZERO_NONE, 4, 0, 0, 1, 2, 8};
enum { NUMBERS = 10 };

/* Writes the members; the first one gets `numbers`, the others zeros. */
static void write_members(const member *members, size_t count, const int64_t *numbers)
{
    static const uint8_t zeros[256];
    qz_file_error error = QZ_FILE_ERROR_INIT;
    qz_create_options options = QZ_CREATE_OPTIONS_INIT;
    qz_writer *writer;
    options.replace = 1;
    assert_int_equal(qz_create(path_of("p.npz"), &options, &writer, &error), QZ_FILE_OK);
    for (size_t i = 0; i < count; i++) {
        qz_tensor t = {.name = members[i].name,
                       .name_length = strlen(members[i].name),
                       .element = members[i].element,
                       .rank = members[i].rank,
                       .shape = members[i].shape,
                       .column_major = members[i].column_major};
        if (qz_declare(writer, &t, NULL, &error) != QZ_FILE_OK)
            fail_msg("%s\n", error.message);
    }
    for (size_t i = 0; i < count; i++) {
        uint64_t n = 1;
        for (unsigned j = 0; j < members[i].rank; j++)
            n *= members[i].shape[j];
        assert_int_equal(qz_write(writer, i, 0, n, i == 0 ? (const void *)numbers : zeros, &error), QZ_FILE_OK);
    }
    assert_int_equal(qz_commit(writer, &error), QZ_FILE_OK);
}

static qz_file_result find(const char *name, char message[672])
{
    qz_file_error error = QZ_FILE_ERROR_INIT;
    qz_packed_tensor p = {.size = sizeof p};
    qz_file *file;
    assert_int_equal(qz_open(path_of("p.npz"), NULL, &file, &error), QZ_FILE_OK);
    qz_file_result result = qz_packed_find(file, name, strlen(name), &p, &error);
    strcpy(message, error.message);
    if (result == QZ_FILE_OK)
        message[0] = '\0';
    qz_close(file);
    return result;
}

static const member good[] = {{"w.int4", QZ_ELEMENT_I64, 1, {NUMBERS}, 0},
                              {"w.codes", QZ_ELEMENT_U8, 2, {2, 4}, 0},
                              {"w.scales", QZ_ELEMENT_F16, 2, {2, 2}, 0},
                              {"other", QZ_ELEMENT_U8, 1, {3}, 0}};

static void wrong_numbers(void **state)
{
    (void)state;
    char message[672];
    static const struct {
        int place;
        int64_t value;
        const char *words;
    } cases_[] = {
        {0, 2, "version 2"},
        {0, 0, "version 0"},
        {0, -1, "version -1"},
        {1, 0, "unknown kind"},
        {1, 9, "unknown kind"},
        {1, -1, "unknown kind"},
        {1, INT64_MIN, "unknown kind"},
        {1, (INT64_C(1) << 32) + QZ_INT4, "unknown kind"},
        {1, QZ_UINT4, "unknown kind"},
        {1, QZ_TABLE, "'w.table' is missing"},
        {1, QZ_DUAL, "do not go with its codes"},
        {2, 0, "unknown type"},
        {2, -1, "unknown type"},
        {2, 10, "unknown type"},
        {2, QZ_F64, "unknown type"},
        {2, (INT64_C(1) << 32) + QZ_F16, "unknown type"},
        {2, QZ_I6, "do not go with its codes"},
        {2, QZ_I7, "do not go with its codes"},
        {2, QZ_E8M0, "'w.scales' is "},
        {2, QZ_F32, "'w.scales' is "},
        {2, QZ_BF16, "'w.scales' is "},
        {3, 7, "unknown kind"},
        {3, QZ_ZERO_UINT4, "unknown kind"},
        {4, 0, "group size"},
        {4, -2, "group size"},
        {4, INT64_MIN, "group size"},
        {4, 2, "'w.scales' is "},
        {4, -1, "'w.scales' is "},
        {5, QZ_F64, "super scales of an unknown type"},
        {5, -1, "super scales of an unknown type"},
        {5, QZ_F16, "super scales of a size"},
        {6, 8, "super scales of a size"},
        {6, -1, "super scales of a size"},
        {6, -3, "super scales of a size"},
        {6, INT64_MIN, "super scales of a size"},
        {7, -1, "an axis"},
        {7, 2, "an axis"},
        {7, INT64_MAX, "an axis"},
        {7, 0, "'w.codes' is "},
        {8, -2, "negative"},
        {8, 3, "'w.codes' is "},
        {8, INT64_MAX, "too large"},
        {9, INT64_MAX, "too large"},
        {9, 10, "'w.codes' is "},
        {9, 0, "'w.codes'"},
    };
    write_members(good, 4, good_numbers);
    assert_int_equal(find("w", message), QZ_FILE_OK);
    assert_int_equal(find("v", message), QZ_FILE_MISSING);
    assert_int_equal(find("other", message), QZ_FILE_MISSING);
    for (size_t i = 0; i < sizeof cases_ / sizeof cases_[0]; i++) {
        int64_t numbers[NUMBERS];
        memcpy(numbers, good_numbers, sizeof numbers);
        numbers[cases_[i].place] = cases_[i].value;
        write_members(good, 4, numbers);
        if (find("w", message) != QZ_FILE_FORMAT || !strstr(message, cases_[i].words))
            fail_msg("number %d = %" PRId64 ": %s\n", cases_[i].place, cases_[i].value, message);
    }
}

static void wrong_parts(void **state)
{
    (void)state;
    char message[672];
    const struct {
        int place;
        qz_file_result result;
        member instead;
    } cases_[] = {
        {0, QZ_FILE_FORMAT, {"w.int4", QZ_ELEMENT_I64, 1, {8}, 0}},
        {0, QZ_FILE_FORMAT, {"w.int4", QZ_ELEMENT_I64, 1, {9}, 0}},
        {0, QZ_FILE_FORMAT, {"w.int4", QZ_ELEMENT_I64, 1, {1}, 0}},
        {0, QZ_FILE_FORMAT, {"w.int4", QZ_ELEMENT_I64, 1, {0}, 0}},
        {0, QZ_FILE_FORMAT, {"w.int4", QZ_ELEMENT_I64, 2, {2, 5}, 0}}, /* damage, or something else of this name */
        {0, QZ_FILE_FORMAT, {"w.int4", QZ_ELEMENT_U64, 1, {NUMBERS}, 0}},
        {0, QZ_FILE_MISSING, {"W.int4", QZ_ELEMENT_I64, 1, {NUMBERS}, 0}},
        {1, QZ_FILE_FORMAT, {"w.codes", QZ_ELEMENT_I8, 2, {2, 4}, 0}},
        {1, QZ_FILE_FORMAT, {"w.codes", QZ_ELEMENT_U8, 2, {2, 4}, 1}},
        {1, QZ_FILE_FORMAT, {"w.codes", QZ_ELEMENT_U8, 1, {8}, 0}},
        {1, QZ_FILE_FORMAT, {"w.codes", QZ_ELEMENT_U8, 2, {2, 5}, 0}},
        {1, QZ_FILE_FORMAT, {"w.code", QZ_ELEMENT_U8, 2, {2, 4}, 0}},
        {2, QZ_FILE_FORMAT, {"w.scales", QZ_ELEMENT_F32, 2, {2, 2}, 0}},
        {2, QZ_FILE_FORMAT, {"w.scales", QZ_ELEMENT_F16, 2, {2, 1}, 0}},
        {2, QZ_FILE_FORMAT, {"w.scale", QZ_ELEMENT_F16, 2, {2, 2}, 0}},
        {3, QZ_FILE_FORMAT, {"w.zeros", QZ_ELEMENT_U8, 2, {2, 1}, 0}},
        {3, QZ_FILE_FORMAT, {"w.supers", QZ_ELEMENT_F32, 2, {2, 1}, 0}},
        {3, QZ_FILE_FORMAT, {"w.table", QZ_ELEMENT_F32, 1, {16}, 0}},
    };
    for (size_t i = 0; i < sizeof cases_ / sizeof cases_[0]; i++) {
        member members[4];
        memcpy(members, good, sizeof members);
        members[cases_[i].place] = cases_[i].instead;
        write_members(members, 4, good_numbers);
        qz_file_result result = find("w", message);
        if (result != cases_[i].result)
            fail_msg("case %zu: %d %s\n", i, result, message);
    }
    int64_t numbers[NUMBERS];
    memcpy(numbers, good_numbers, sizeof numbers);
    numbers[1] = QZ_UINT4;
    numbers[3] = QZ_ZERO_UINT4;
    write_members(good, 4, numbers);
    assert_int_equal(find("w", message), QZ_FILE_FORMAT);
    assert_non_null(strstr(message, "'w.zeros' is missing"));
    unlink(path_of("p.npz"));
}

/* Schemes with members that int4 has not: what the numbers say, and a member that is wrong. */
static void wrong_more(void **state)
{
    (void)state;
    char message[672];
    static const int64_t table[NUMBERS] = {1, QZ_TABLE, QZ_F16, QZ_ZERO_NONE, 4, 0, 0, 1, 2, 8};
    static const int64_t rows[NUMBERS] = {1, QZ_DUAL, QZ_I7, QZ_ZERO_NONE, 4, QZ_F32, -1, 1, 2, 8};
    static const int64_t matrix[NUMBERS] = {1, QZ_FP4, QZ_E4M3, QZ_ZERO_NONE, 4, QZ_F32, -2, 1, 2, 8};
    static const int64_t part[NUMBERS] = {1, QZ_UINT4, QZ_U6, QZ_ZERO_OFFSET, 4, QZ_F16, 4, 1, 2, 8};
    const struct {
        const int64_t *numbers;
        member scales, zeros, more;
        const char *words; /* NULL: nothing is wrong */
    } cases_[] = {
        /* The file has zeros only, which no table can be. */
        {table, {"w.scales", QZ_ELEMENT_F16, 2, {2, 2}, 0}, {0}, {"w.table", QZ_ELEMENT_F32, 1, {16}, 0}, "table"},
        {table, {"w.scales", QZ_ELEMENT_F16, 2, {2, 2}, 0}, {0}, {"w.table", QZ_ELEMENT_F32, 1, {15}, 0}, "'w.table'"},
        {table, {"w.scales", QZ_ELEMENT_F16, 2, {2, 2}, 0}, {0}, {"w.table", QZ_ELEMENT_F64, 1, {16}, 0}, "'w.table'"},
        {table,
         {"w.scales", QZ_ELEMENT_F16, 2, {2, 2}, 0},
         {0},
         {"w.table", QZ_ELEMENT_F32, 2, {4, 4}, 0},
         "'w.table'"},
        {rows, {"w.scales", QZ_ELEMENT_U8, 2, {2, 2}, 0}, {0}, {"w.supers", QZ_ELEMENT_F32, 2, {2, 1}, 0}, NULL},
        {rows,
         {"w.scales", QZ_ELEMENT_I8, 2, {2, 2}, 0},
         {0},
         {"w.supers", QZ_ELEMENT_F32, 2, {2, 1}, 0},
         "'w.scales'"},
        {rows,
         {"w.scales", QZ_ELEMENT_U8, 2, {2, 2}, 0},
         {0},
         {"w.supers", QZ_ELEMENT_F16, 2, {2, 1}, 0},
         "'w.supers'"},
        {rows, {"w.scales", QZ_ELEMENT_U8, 2, {2, 2}, 0}, {0}, {"w.supers", QZ_ELEMENT_F32, 1, {2}, 0}, "'w.supers'"},
        {rows, {"w.scales", QZ_ELEMENT_U8, 2, {2, 2}, 0}, {0}, {"w.supers", QZ_ELEMENT_F32, 1, {1}, 0}, "'w.supers'"},
        {rows, {"w.scales", QZ_ELEMENT_U8, 2, {2, 2}, 0}, {0}, {"w.super", QZ_ELEMENT_F32, 2, {2, 1}, 0}, "is missing"},
        {matrix, {"w.scales", QZ_ELEMENT_U8, 2, {2, 2}, 0}, {0}, {"w.supers", QZ_ELEMENT_F32, 1, {1}, 0}, NULL},
        {matrix, {"w.scales", QZ_ELEMENT_U8, 2, {2, 2}, 0}, {0}, {"w.supers", QZ_ELEMENT_F32, 1, {2}, 0}, "'w.supers'"},
        {matrix, {"w.scales", QZ_ELEMENT_U8, 2, {2, 2}, 0}, {0}, {"w.supers", QZ_ELEMENT_F32, 0, {0}, 0}, "'w.supers'"},
        {matrix,
         {"w.scales", QZ_ELEMENT_U8, 2, {2, 2}, 0},
         {0},
         {"w.supers", QZ_ELEMENT_F32, 2, {2, 1}, 0},
         "'w.supers'"},
        {part,
         {"w.scales", QZ_ELEMENT_U8, 2, {2, 2}, 0},
         {"w.zeros", QZ_ELEMENT_U8, 2, {2, 2}, 0},
         {"w.supers", QZ_ELEMENT_F16, 2, {2, 4}, 0},
         NULL},
        {part,
         {"w.scales", QZ_ELEMENT_U8, 2, {2, 2}, 0},
         {"w.zeros", QZ_ELEMENT_U8, 2, {2, 2}, 0},
         {"w.supers", QZ_ELEMENT_F16, 2, {2, 2}, 0},
         "'w.supers'"},
        {part,
         {"w.scales", QZ_ELEMENT_U8, 2, {2, 2}, 0},
         {"w.zeros", QZ_ELEMENT_U8, 2, {2, 1}, 0},
         {"w.supers", QZ_ELEMENT_F16, 2, {2, 4}, 0},
         "'w.zeros'"},
    };
    for (size_t i = 0; i < sizeof cases_ / sizeof cases_[0]; i++) {
        member members[5] = {good[0], good[1], cases_[i].scales, cases_[i].more, cases_[i].zeros};
        write_members(members, cases_[i].zeros.name ? 5 : 4, cases_[i].numbers);
        qz_file_result result = find("w", message);
        if (result != (cases_[i].words ? QZ_FILE_FORMAT : QZ_FILE_OK) ||
            (cases_[i].words && !strstr(message, cases_[i].words)))
            fail_msg("case %zu: %d %s\n", i, result, message);
    }
    unlink(path_of("p.npz"));
}

/* Names that a quantized tensor might want are not given to others. */
static void kept_names(void **state)
{
    (void)state;
    static const char *const taken[] = {"w.int4", "w.codes", "w.scales", "w.zeros", "w.supers", "w.table"};
    qz_file_error error = QZ_FILE_ERROR_INIT;
    const uint64_t shape[] = {4};
    const qz_scheme *scheme = qz_scheme_by_name("int4");
    for (size_t i = 0; i < 6; i++)
        for (int before = 0; before < 2; before++) {
            qz_tensor t = {
                .name = taken[i], .name_length = strlen(taken[i]), .element = QZ_ELEMENT_U8, .rank = 1, .shape = shape};
            qz_packed_tensor p = {.size = sizeof p};
            qz_writer *writer;
            assert_int_equal(qz_create(path_of("p.npz"), NULL, &writer, &error), QZ_FILE_OK);
            if (before)
                assert_int_equal(qz_declare(writer, &t, NULL, &error), QZ_FILE_OK);
            qz_file_result result = qz_packed_declare(writer, "w", 1, scheme, 1, shape, 0, &p, &error);
            if (!before) {
                assert_int_equal(result, QZ_FILE_OK);
                result = qz_declare(writer, &t, NULL, &error);
            }
            assert_int_equal(result, QZ_FILE_REFUSED);
            assert_non_null(strstr(error.message, taken[i]));
            qz_abort(writer);
        }
}

/* Who asks for a quantized tensor says how much of the structure is known there. */
static void sizes_of_the_structure(void **state)
{
    (void)state;
    qz_file_error error = QZ_FILE_ERROR_INIT;
    const uint64_t shape[2] = {2, 32};
    qz_writer *writer;
    qz_packed_tensor p = {0};
    struct {
        qz_packed_tensor first;
        char more[64];
    } newer = {.first = {.size = sizeof newer}};
    memset(newer.more, 77, sizeof newer.more);
    assert_int_equal(qz_create(path_of("p.npz"), NULL, &writer, &error), QZ_FILE_OK);
    assert_int_equal(qz_packed_declare(writer, "w", 1, qz_scheme_at(0), 2, shape, 1, &p, &error), QZ_FILE_ARGUMENT);
    assert_non_null(strstr(error.message, "size of the qz_packed_tensor"));
    assert_int_equal(qz_packed_declare(writer, "w", 1, qz_scheme_at(0), 2, shape, 1, &newer.first, &error), QZ_FILE_OK);
    plain a = new_plain(qz_scheme_at(0), 2, 32);
    assert_int_equal(qz_packed_write(writer, &newer.first, 0, 2, 0, 32, &a.packed, &error), QZ_FILE_OK);
    free_plain(&a);
    assert_int_equal(qz_commit(writer, &error), QZ_FILE_OK);

    qz_file *file;
    assert_int_equal(qz_open(path_of("p.npz"), NULL, &file, &error), QZ_FILE_OK);
    assert_int_equal(qz_packed_find(file, "w", 1, &p, &error), QZ_FILE_ARGUMENT);
    newer.first.rows = 0;
    assert_int_equal(qz_packed_find(file, "w", 1, &newer.first, &error), QZ_FILE_OK);
    assert_int_equal(newer.first.rows, 2);
    assert_int_equal(newer.first.size, sizeof newer);
    for (size_t i = 0; i < sizeof newer.more; i++)
        assert_int_equal(newer.more[i], 77);
    qz_close(file);
}

int main(void)
{
    start_program("test_packed");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trips), cmocka_unit_test(round_trips_in_blocks),
        cmocka_unit_test(layouts),     cmocka_unit_test(chosen_layouts),
        cmocka_unit_test(all_schemes), cmocka_unit_test(wrong_numbers),
        cmocka_unit_test(wrong_parts), cmocka_unit_test(wrong_more),
        cmocka_unit_test(kept_names),  cmocka_unit_test(sizes_of_the_structure),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
