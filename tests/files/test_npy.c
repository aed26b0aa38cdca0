/*
 * test_npy.c - reading and writing .npy: what NumPy writes is understood, all else is refused
 */
#include "support.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#define F4 "'descr': '<f4', 'fortran_order': False, "

/* ---- headers ---- */

static void good_headers(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t bytes;
        int version;
        qz_element element;
        unsigned rank;
        int column_major;
    } cases_[] = {
        {"{" F4 "'shape': (2, 3), }", 24, 1, QZ_ELEMENT_F32, 2, 0},
        {"{" F4 "'shape': (2, 3), }", 24, 2, QZ_ELEMENT_F32, 2, 0},
        {"{" F4 "'shape': (2, 3), }", 24, 3, QZ_ELEMENT_F32, 2, 0},
        {"{" F4 "'shape': (2, 3)}", 24, 1, QZ_ELEMENT_F32, 2, 0},
        {"{" F4 "'shape': (2L, 3L)}", 24, 1, QZ_ELEMENT_F32, 2, 0},
        {"{" F4 "'shape': (6,)}", 24, 1, QZ_ELEMENT_F32, 1, 0},
        {"{" F4 "'shape': ( 6 , )}", 24, 1, QZ_ELEMENT_F32, 1, 0},
        {"{" F4 "'shape': (2, 3,)}", 24, 1, QZ_ELEMENT_F32, 2, 0},
        {"{" F4 "'shape': ()}", 4, 1, QZ_ELEMENT_F32, 0, 0},
        {"{" F4 "'shape': (0,)}", 0, 1, QZ_ELEMENT_F32, 1, 0},
        {"{" F4 "'shape': (5, 0, 7)}", 0, 1, QZ_ELEMENT_F32, 3, 0},
        {"{'shape':(2,3),'descr':'<f4','fortran_order':True}", 24, 1, QZ_ELEMENT_F32, 2, 1},
        {"{\"descr\": \"<f4\", u'fortran_order': False, 'shape': (6,)}", 24, 1, QZ_ELEMENT_F32, 1, 0},
        {"{'descr': '>f4', 'fortran_order': False, 'shape': (6,)}", 24, 1, QZ_ELEMENT_F32, 1, 0},
        {"{'descr': '<f8', 'fortran_order': False, 'shape': (3,)}", 24, 1, QZ_ELEMENT_F64, 1, 0},
        {"{'descr': '<f2', 'fortran_order': False, 'shape': (3,)}", 6, 1, QZ_ELEMENT_F16, 1, 0},
        {"{'descr': '|i1', 'fortran_order': False, 'shape': (3,)}", 3, 1, QZ_ELEMENT_I8, 1, 0},
        {"{'descr': '<i2', 'fortran_order': False, 'shape': (3,)}", 6, 1, QZ_ELEMENT_I16, 1, 0},
        {"{'descr': '<i4', 'fortran_order': False, 'shape': (3,)}", 12, 1, QZ_ELEMENT_I32, 1, 0},
        {"{'descr': '<i8', 'fortran_order': False, 'shape': (3,)}", 24, 1, QZ_ELEMENT_I64, 1, 0},
        {"{'descr': '|u1', 'fortran_order': False, 'shape': (3,)}", 3, 1, QZ_ELEMENT_U8, 1, 0},
        {"{'descr': '>u2', 'fortran_order': False, 'shape': (3,)}", 6, 1, QZ_ELEMENT_U16, 1, 0},
        {"{'descr': '<u4', 'fortran_order': False, 'shape': (3,)}", 12, 1, QZ_ELEMENT_U32, 1, 0},
        {"{'descr': '<u8', 'fortran_order': False, 'shape': (3,)}", 24, 1, QZ_ELEMENT_U64, 1, 0},
        {"{'descr': '|b1', 'fortran_order': False, 'shape': (3,)}", 3, 1, QZ_ELEMENT_BOOL, 1, 0},
    };
    for (size_t i = 0; i < sizeof cases_ / sizeof cases_[0]; i++) {
        bytes b = npy_bytes(cases_[i].version, cases_[i].text, cases_[i].bytes);
        qz_file_error error = QZ_FILE_ERROR_INIT;
        qz_file *file;
        put_file(path_of("a.npy"), b.data, b.n);
        if (qz_open(path_of("a.npy"), NULL, &file, &error) != QZ_FILE_OK)
            fail_msg("%s: %s\n", cases_[i].text, error.message);
        assert_string_equal(qz_container(file), "npy");
        assert_int_equal(qz_file_bytes(file), b.n);
        assert_int_equal(qz_tensor_count(file), 1);
        assert_null(qz_tensor_at(file, 1));
        const qz_tensor *t = qz_tensor_at(file, 0);
        assert_string_equal(t->name, "data");
        assert_int_equal(qz_tensor_find(file, "data", 4), 0);
        assert_true(qz_tensor_find(file, "dat", 3) == SIZE_MAX);
        assert_int_equal(t->element, cases_[i].element);
        assert_int_equal(t->rank, cases_[i].rank);
        assert_int_equal(t->column_major, cases_[i].column_major);
        assert_int_equal(t->bytes, cases_[i].bytes);
        /* Numbers come out in the order of this machine. */
        uint8_t raw[32];
        assert_int_equal(qz_read(file, 0, 0, t->count, raw, &error), QZ_FILE_OK);
        size_t each = qz_element_size(t->element);
        uint64_t first = 0;
        for (size_t j = 0; j < each && t->count != 0; j++) {
            int big = strstr(cases_[i].text, "'>") != NULL;
            first |= (uint64_t)(big ? each - j : j + 1) << (8 * j);
        }
        uint64_t got = 0;
        if (t->count != 0 && each == 1)
            got = raw[0];
        else if (t->count != 0 && each == 2) {
            uint16_t x;
            memcpy(&x, raw, 2);
            got = x;
        } else if (t->count != 0 && each == 4) {
            uint32_t x;
            memcpy(&x, raw, 4);
            got = x;
        } else if (t->count != 0) {
            memcpy(&got, raw, 8);
        }
        assert_int_equal(got, first);
        qz_close(file);
        clear(&b);
    }
}

static void bad_headers(void **state)
{
    (void)state;
    static const struct {
        const char *text, *words;
        size_t bytes;
    } cases_[] = {
        {"", "not a dictionary", 4},
        {"[]", "not a dictionary", 4},
        {"__import__('os').system('true')", "not a dictionary", 4},
        {"{}", "lacks one of", 4},
        {"{" F4 "}", "lacks one of", 4},
        {"{'descr': '<f4', 'shape': (1,)}", "lacks one of", 4},
        {"{'fortran_order': False, 'shape': (1,)}", "lacks one of", 4},
        {"{" F4 "'shape': (1,), 'more': 1}", "a key other than", 4},
        {"{" F4 "'shape': (1,), 'shape': (1,)}", "a key twice", 4},
        {"{" F4 "'shape': (1,), 'descr': '<f4'}", "a key twice", 4},
        {"{" F4 "'shape': (1,)} # a comment", "follows the dictionary", 4},
        {"{" F4 "'shape': (1,)}{", "follows the dictionary", 4},
        {"{" F4 "'shape': (1,)", "not a plain dictionary", 4},
        {"{" F4 "'shape' (1,)}", "':' is missing", 4},
        {"{" F4 "'shape': (1,),,}", "not a plain dictionary", 4},
        {"{" F4 "shape: (1,)}", "not a plain dictionary", 4},
        {"{" F4 "'sha\\x70e': (1,)}", "not a plain dictionary", 4},
        {"{" F4 "'shape': 1}", "not a tuple", 4},
        {"{" F4 "'shape': (1)}", "a number, not a tuple", 4},
        {"{" F4 "'shape': [1]}", "not a tuple", 4},
        {"{" F4 "'shape': (1.0,)}", "not a tuple of numbers", 4},
        {"{" F4 "'shape': (1e0,)}", "not a tuple of numbers", 4},
        {"{" F4 "'shape': (True,)}", "not a whole number", 4},
        {"{" F4 "'shape': ('1',)}", "not a whole number", 4},
        {"{" F4 "'shape': (None,)}", "not a whole number", 4},
        {"{" F4 "'shape': (+1,)}", "not a whole number", 4},
        {"{" F4 "'shape': (0x1,)}", "not a tuple of numbers", 4},
        {"{" F4 "'shape': (01,)}", "not a whole number", 4},
        {"{" F4 "'shape': (-1,)}", "negative", 4},
        {"{" F4 "'shape': (1, -1, -1)}", "negative", 4},
        {"{" F4 "'shape': (,)}", "not a whole number", 4},
        {"{" F4 "'shape': (1,,1)}", "not a whole number", 4},
        {"{" F4 "'shape': (1 1)}", "not a tuple of numbers", 4},
        {"{" F4 "'shape': ((1,),)}", "not a whole number", 4},
        {"{" F4 "'shape': (9223372036854775808,)}", "beyond 2^63", 4},
        {"{" F4 "'shape': (18446744073709551617,)}", "beyond 2^63", 4},
        {"{" F4 "'shape': (99999999999999999999999999,)}", "beyond 2^63", 4},
        {"{" F4 "'shape': (4294967296, 4294967296)}", "more than 2^63", 4},
        {"{" F4 "'shape': (4611686018427387904, 2)}", "more than 2^63", 4},
        {"{" F4 "'shape': (2305843009213693952, 1)}", "more than 2^63", 4},
        {"{" F4 "'shape': (0, 4294967296, 4294967296)}", "more than 2^63", 0},
        {"{" F4 "'shape': (1000000000,)}", "only 4 follow", 4},
        {"{" F4 "'shape': (2,)}", "only 4 follow", 4},
        {"{" F4 "'shape': (1,)}", "4 bytes follow the array", 8},
        {"{" F4 "'shape': ()}", "4 bytes follow the array", 8},
        {"{'descr': '<f4', 'fortran_order': 0, 'shape': (1,)}", "neither True nor False", 4},
        {"{'descr': '<f4', 'fortran_order': 'False', 'shape': (1,)}", "neither True nor False", 4},
        {"{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", "Python objects", 8},
        {"{'descr': 'O', 'fortran_order': False, 'shape': (1,)}", "Python objects", 8},
        {"{'descr': '|O8', 'fortran_order': False, 'shape': (1,)}", "Python objects", 8},
        {"{'descr': ('<f4', (2,)), 'fortran_order': False, 'shape': (1,)}", "shape of its own", 8},
        {"{'descr': [], 'fortran_order': False, 'shape': (1,)}", "records", 0},
        {"{'descr': [('a', '|O')], 'fortran_order': False, 'shape': (1,)}", "Python objects", 8},
        {"{'descr': [('a', '<f4'), ('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", "records", 8},
        {"{'descr': [('a', '<f4', (0,))], 'fortran_order': False, 'shape': (1,)}", "records", 0},
        {"{'descr': [('a', '<f4', (2147483647,))], 'fortran_order': False, 'shape': (1,)}", "records", 8},
        {"{'descr': [('', '<f4')], 'fortran_order': False, 'shape': (1,)}", "records", 4},
        {"{'descr': [('a', '<f4') ('b', '<f4')], 'fortran_order': False, 'shape': (1,)}", "records", 8},
        {"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", "2 bytes follow the array", 6},
        {"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,)}", "only 4 follow", 4},
        {"{'descr': '|V0', 'fortran_order': False, 'shape': (1,)}", "is not read", 0},
        {"{'descr': '<U0', 'fortran_order': False, 'shape': (4611686018427387904,)}", "is not read", 0},
        {"{'descr': '<U999999999', 'fortran_order': False, 'shape': (0,)}", "is not read", 0},
        {"{'descr': '|U3', 'fortran_order': False, 'shape': (1,)}", "is not read", 12},
        {"{'descr': '<M8[parsec]', 'fortran_order': False, 'shape': (1,)}", "is not read", 8},
        {"{'descr': '<M8[0s]', 'fortran_order': False, 'shape': (1,)}", "is not read", 8},
        {"{'descr': '<c4', 'fortran_order': False, 'shape': (1,)}", "is not read", 4},
        {"{'descr': '<f12', 'fortran_order': False, 'shape': (1,)}", "is not read", 12},
        {"{'descr': '<i3', 'fortran_order': False, 'shape': (1,)}", "is not read", 3},
        {"{'descr': '|f4', 'fortran_order': False, 'shape': (1,)}", "is not read", 4},
        {"{'descr': '=f4', 'fortran_order': False, 'shape': (1,)}", "is not read", 4},
        {"{'descr': 'f4', 'fortran_order': False, 'shape': (1,)}", "is not read", 4},
        {"{'descr': '', 'fortran_order': False, 'shape': (1,)}", "is not read", 4},
        {"{'descr': '\x1b[2J', 'fortran_order': False, 'shape': (1,)}", "not a plain string", 4},
        {"{'descr': 4, 'fortran_order': False, 'shape': (1,)}", "not a plain string", 4},
    };
    for (size_t i = 0; i < sizeof cases_ / sizeof cases_[0]; i++)
        for (int version = 1; version <= 3; version++) {
            bytes b = npy_bytes(version, cases_[i].text, cases_[i].bytes);
            expect(cases_[i].text, "a.npy", &b, NULL, QZ_FILE_FORMAT, cases_[i].words);
            clear(&b);
        }
}

static void many_axes(void **state)
{
    (void)state;
    for (int rank = 63; rank <= 66; rank++) {
        char text[1000] = "{" F4 "'shape': (";
        for (int i = 0; i < rank; i++)
            strcat(text, "1, ");
        strcat(text, ")}");
        bytes b = npy_bytes(1, text, 4);
        expect("many axes", "a.npy", &b, NULL, rank <= 64 ? QZ_FILE_OK : QZ_FILE_FORMAT,
               rank <= 64 ? NULL : "more than 64 axes");
        clear(&b);
    }
    /* Nesting is not followed, however deep. */
    bytes deep = {0};
    char *text = malloc(9001);
    memset(text, '(', 9000);
    memcpy(text, "{" F4 "'shape': ", strlen("{" F4 "'shape': "));
    text[9000] = '\0';
    deep = npy_bytes(1, text, 4);
    expect("deep nesting", "a.npy", &deep, NULL, QZ_FILE_FORMAT, "not a whole number");
    clear(&deep);
    free(text);
}

static void beginnings(void **state)
{
    (void)state;
    bytes good = npy_bytes(1, "{" F4 "'shape': (2, 3), }", 24), b;
    static const struct {
        const char *what;
        size_t at;
        uint64_t value;
        size_t n;
        const char *words;
    } changes[] = {
        {"magic", 0, 0x94, 1, "neither"},
        {"magic", 5, 'Z', 1, "neither"},
        {"major 0", 6, 0, 1, "version 0.0"},
        {"major 4", 6, 4, 1, "version 4.0"},
        {"major 255", 6, 255, 1, "version 255.0"},
        {"minor 1", 7, 1, 1, "version 1.1"},
        {"length past the end", 8, 0xffff, 2, "only 142 follow"},
        {"length one too long", 8, 143, 2, "only 142 follow"},
        {"length 0", 8, 0, 2, "not a dictionary"},
        {"length in the text", 8, 20, 2, NULL},
    };
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        b = copy_of(&good);
        set_number(&b, changes[i].at, changes[i].value, changes[i].n);
        expect(changes[i].what, "a.npy", &b, NULL, QZ_FILE_FORMAT, changes[i].words);
        clear(&b);
    }
    clear(&good);
    /* Twelve bytes that name four billion: nothing of that size is asked for. */
    b = (bytes){0};
    add(&b, "\x93NUMPY\x02\x00\xff\xff\xff\xff", 12);
    expect("header of 4 GiB", "a.npy", &b, NULL, QZ_FILE_FORMAT, "4294967295 bytes, but only 0 follow");
    clear(&b);
    for (size_t n = 0; n < 32; n++) {
        b = (bytes){0};
        for (size_t i = 0; i < n; i++)
            add(&b, "", 1);
        expect("zeros", "a.npy", &b, NULL, QZ_FILE_FORMAT, n == 0 ? "the file is empty" : "neither");
        clear(&b);
    }
}

static void limits_and_flags(void **state)
{
    (void)state;
    char *text = malloc(10002);
    memset(text, ' ', 10001);
    text[10001] = '\0';
    memcpy(text, "{" F4 "'shape': (1,)}", strlen("{" F4 "'shape': (1,)}"));
    qz_open_options options = QZ_OPEN_OPTIONS_INIT;
    bytes b = npy_bytes(1, text, 4);
    expect("long header", "a.npy", &b, NULL, QZ_FILE_LIMIT, "the limit is 10000");
    assert_int_equal(open_bytes("a.npy", &b, NULL).option, QZ_OPTION_MAX_HEADER);
    options.max_header = 20000;
    expect("long header, limit raised", "a.npy", &b, &options, QZ_FILE_OK, NULL);
    clear(&b);
    free(text);

    options = (qz_open_options)QZ_OPEN_OPTIONS_INIT;
    options.allow_trailing = 1;
    b = npy_bytes(1, "{" F4 "'shape': (1,)}", 12);
    expect("trailing bytes allowed", "a.npy", &b, &options, QZ_FILE_OK, NULL);
    clear(&b);
    b = npy_bytes(1, "{" F4 "'shape': (1,)}", 3);
    expect("too few bytes all the same", "a.npy", &b, &options, QZ_FILE_FORMAT, "only 3 follow");
    clear(&b);

    options = (qz_open_options)QZ_OPEN_OPTIONS_INIT;
    options.void2_bfloat16 = 1;
    static const char *const types[] = {"|V2", "<V2", ">V2"};
    for (size_t i = 0; i < 3; i++) {
        char header[100];
        snprintf(header, sizeof header, "{'descr': '%s', 'fortran_order': False, 'shape': (2,)}", types[i]);
        b = npy_bytes(1, header, 4);
        put_file(path_of("a.npy"), b.data, b.n);
        clear(&b);
        qz_file *file;
        uint16_t values[2];
        assert_int_equal(qz_open(path_of("a.npy"), &options, &file, NULL), QZ_FILE_OK);
        assert_int_equal(qz_tensor_at(file, 0)->element, QZ_ELEMENT_BF16);
        assert_int_equal(qz_read(file, 0, 0, 2, values, NULL), QZ_FILE_OK);
        assert_int_equal(values[0], i == 2 ? 0x0102 : 0x0201);
        assert_int_equal(values[1], i == 2 ? 0x0304 : 0x0403);
        qz_close(file);
    }
    /* An older caller's structure is shorter. */
    options.size = offsetof(qz_open_options, void2_bfloat16);
    qz_file *file;
    assert_int_equal(qz_open(path_of("a.npy"), &options, &file, NULL), QZ_FILE_OK);
    assert_int_equal(qz_tensor_at(file, 0)->element, QZ_ELEMENT_RAW);
    qz_close(file);
}

/* Types that are none of the library's are kept: what is read is what was written, and so is its type. */
static void raw_items(void **state)
{
    (void)state;
    static const struct {
        const char *text, *type;
        size_t bytes;
    } cases_[] = {
        {"'<U3'", "<U3", 12},
        {"'>U1'", ">U1", 4},
        {"'|S5'", "|S5", 5},
        {"'<c16'", "<c16", 16},
        {"'<f16'", "<f16", 16},
        {"'|V2'", "|V2", 2},
        {"'|V7'", "|V7", 7},
        {"'<M8[ns]'", "<M8[ns]", 8},
        {"'>m8[25s]'", ">m8[25s]", 8},
        {"'<m8'", "<m8", 8},
        {"[('a', '<f4')]", "[('a', '<f4')]", 4},
        {"[('a', '|b1')]", "[('a', '|b1')]", 1},
        {"[('a', '|u1'), ('', '|V3'), ('b', '<f4', (2, 3))]", "[('a', '|u1'), ('', '|V3'), ('b', '<f4', (2, 3))]", 28},
        {"[(('t', 'a'), '<i2', 3)]", "[(('t', 'a'), '<i2', 3)]", 6},
        {"[('r', [('x', '<f8'), ('y', '<U2')]), ('s', '|S1')]", "[('r', [('x', '<f8'), ('y', '<U2')]), ('s', '|S1')]",
         17},
    };
    for (size_t i = 0; i < sizeof cases_ / sizeof cases_[0]; i++)
        for (int npz = 0; npz < 2; npz++) {
            char header[300];
            qz_file_error error = QZ_FILE_ERROR_INIT;
            qz_file *file;
            qz_writer *writer;
            uint8_t data[64], again[64];
            size_t n = 2 * cases_[i].bytes;
            snprintf(header, sizeof header, "{'descr': %s, 'fortran_order': False, 'shape': (2,), }", cases_[i].text);
            bytes b = npy_bytes(1, header, n);
            put_file(path_of("a.npy"), b.data, b.n);
            assert_int_equal(qz_open(path_of("a.npy"), NULL, &file, &error), QZ_FILE_OK);
            const qz_tensor *t = qz_tensor_at(file, 0);
            assert_int_equal(t->element, QZ_ELEMENT_RAW);
            assert_string_equal(t->type, cases_[i].type);
            assert_int_equal(t->type_bytes, cases_[i].bytes);
            assert_int_equal(t->count, n);
            assert_int_equal(qz_read(file, 0, 0, n, data, &error), QZ_FILE_OK);
            assert_memory_equal(data, b.data + b.n - n, n);
            const char *out = path_of(npz ? "b.npz" : "b.npy");
            qz_create_options over = QZ_CREATE_OPTIONS_INIT;
            over.replace = 1;
            assert_int_equal(qz_create(out, &over, &writer, &error), QZ_FILE_OK);
            assert_int_equal(qz_declare(writer, t, NULL, &error), QZ_FILE_OK);
            assert_int_equal(qz_write(writer, 0, 0, n, data, &error), QZ_FILE_OK);
            assert_int_equal(qz_commit(writer, &error), QZ_FILE_OK);
            qz_close(file);
            assert_int_equal(qz_open(path_of(npz ? "b.npz" : "b.npy"), NULL, &file, &error), QZ_FILE_OK);
            t = qz_tensor_at(file, 0);
            assert_string_equal(t->type, cases_[i].type);
            assert_int_equal(t->rank, 1);
            assert_int_equal(t->shape[0], 2);
            assert_int_equal(qz_read(file, 0, 0, n, again, &error), QZ_FILE_OK);
            assert_memory_equal(data, again, n);
            qz_close(file);
            clear(&b);
        }
}

/* A caller may name the type of items that are kept as they are: only one that a header can have. */
static void raw_items_of_wrong_types(void **state)
{
    (void)state;
    static char much[9001];
    snprintf(much, sizeof much, "%-9000s", "[('a', '<f4')]");
    static const char not_ascii[] = {'|', (char)0xff, '1', 0};
    const char *const wrong[] = {
        "",        "<",  "|O", "<U0", "|b2", "|b1s", "<M8[]", "[('a', '<f4')]x", "[('a', '<f4')", "[('\xe4', '<f4')]",
        not_ascii, much, NULL};
    const uint64_t one = 1;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        qz_file_error error = QZ_FILE_ERROR_INIT;
        qz_create_options over = QZ_CREATE_OPTIONS_INIT;
        qz_writer *writer;
        const qz_tensor t = {.name = "data",
                             .name_length = 4,
                             .element = QZ_ELEMENT_RAW,
                             .type = wrong[i],
                             .type_bytes = 4,
                             .rank = 1,
                             .shape = &one};
        assert_int_equal(qz_create(path_of("wrong.npy"), &over, &writer, &error), QZ_FILE_OK);
        if (qz_declare(writer, &t, NULL, &error) != QZ_FILE_ARGUMENT)
            fail_msg("accepted: %.40s", wrong[i] ? wrong[i] : "no type");
        qz_abort(writer);
    }
}

/* ---- damage ---- */

static void every_prefix(void **state)
{
    (void)state;
    for (int version = 1; version <= 2; version++) {
        bytes b = npy_bytes(version, "{" F4 "'shape': (2, 3), }", 24);
        for (size_t n = 0; n < b.n; n++) {
            bytes prefix = {b.data, n, n};
            expect("prefix", "a.npy", &prefix, NULL, QZ_FILE_FORMAT, NULL);
        }
        clear(&b);
    }
}

/* An .npy has no checksum, so that a changed letter may give another array; but never one of another size, and never
 * anything worse. */
static void every_bit(void **state)
{
    (void)state;
    bytes good = npy_bytes(1, "{" F4 "'shape': (2, 3), }", 24);
    qz_open_options options = QZ_OPEN_OPTIONS_INIT;
    options.void2_bfloat16 = 1;
    int accepted = 0;
    for (size_t bit = 0; bit < 8 * (good.n - 24); bit++) {
        good.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        outcome o = open_bytes("a.npy", &good, &options);
        accepted += o.result == QZ_FILE_OK;
        if (o.result == QZ_FILE_OK)
            assert_int_equal(o.tensors, 1);
        else
            assert_true(o.result == QZ_FILE_FORMAT || o.result == QZ_FILE_LIMIT);
        good.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    assert_in_range(accepted, 1, 200); /* white space to other white space, < to > */
    clear(&good);
}

/* ---- kinds of files ---- */

static void not_regular(void **state)
{
    (void)state;
    assert_int_equal(open_all(folder, NULL).result, QZ_FILE_FORMAT);
    assert_non_null(strstr(open_all(folder, NULL).message, "a folder"));
    assert_int_equal(open_all("/dev/zero", NULL).result, QZ_FILE_FORMAT);
    assert_int_equal(open_all("/dev/null", NULL).result, QZ_FILE_FORMAT);
    if (access("/proc/self/mem", F_OK) == 0)
        assert_int_equal(open_all("/proc/self/mem", NULL).result, QZ_FILE_FORMAT);
    assert_int_equal(mkfifo(path_of("pipe.npy"), 0600), 0);
    assert_int_equal(open_all(path_of("pipe.npy"), NULL).result, QZ_FILE_FORMAT);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, path_of("socket.npy"), sizeof address.sun_path - 1);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(open_all(path_of("socket.npy"), NULL).result, QZ_FILE_FORMAT);
    close(fd);
    unlink(path_of("pipe.npy"));
    unlink(path_of("socket.npy"));

    assert_int_equal(open_all(path_of("missing.npy"), NULL).result, QZ_FILE_IO);
    bytes b = npy_bytes(1, "{" F4 "'shape': (1,)}", 4);
    put_file(path_of("a.npy"), b.data, b.n);
    assert_int_equal(symlink(path_of("a.npy"), path_of("link.npy")), 0);
    assert_int_equal(open_all(path_of("link.npy"), NULL).result, QZ_FILE_OK);
    if (geteuid() != 0) {
        assert_int_equal(chmod(path_of("a.npy"), 0), 0);
        assert_int_equal(open_all(path_of("a.npy"), NULL).result, QZ_FILE_IO);
        assert_int_equal(chmod(path_of("a.npy"), 0600), 0);
    }
    /* The content decides; a name that says otherwise is a mistake somewhere. */
    expect("npy called npz", "a.npz", &b, NULL, QZ_FILE_FORMAT, "rename it");
    expect("npy without an extension", "a", &b, NULL, QZ_FILE_OK, NULL);
    expect("npy of another extension", "a.bin", &b, NULL, QZ_FILE_OK, NULL);
    expect("capital letters", "A.NPY", &b, NULL, QZ_FILE_OK, NULL);
    expect("a name with escapes", "\x1b[31m\xe2\x80\xae.npy", &b, NULL, QZ_FILE_OK, NULL);
    clear(&b);
}

static void changing_files(void **state)
{
    (void)state;
    qz_file_error error = QZ_FILE_ERROR_INIT;
    bytes b = npy_bytes(1, "{" F4 "'shape': (1000,)}", 4000);
    float values[1000];
    qz_file *file;
    put_file(path_of("a.npy"), b.data, b.n);
    assert_int_equal(qz_open(path_of("a.npy"), NULL, &file, &error), QZ_FILE_OK);
    assert_int_equal(qz_unchanged(file, &error), QZ_FILE_OK);
    assert_int_equal(truncate(path_of("a.npy"), 200), 0);
    assert_int_equal(qz_read(file, 0, 0, 1000, values, &error), QZ_FILE_FORMAT);
    assert_non_null(strstr(error.message, "became shorter"));
    assert_int_equal(qz_unchanged(file, &error), QZ_FILE_FORMAT);
    qz_close(file);

    put_file(path_of("a.npy"), b.data, b.n);
    assert_int_equal(qz_open(path_of("a.npy"), NULL, &file, &error), QZ_FILE_OK);
    int fd = open(path_of("a.npy"), O_WRONLY | O_APPEND);
    assert_int_equal(write(fd, "more", 4), 4);
    close(fd);
    assert_int_equal(qz_read(file, 0, 0, 1000, values, &error), QZ_FILE_OK);
    assert_int_equal(qz_unchanged(file, &error), QZ_FILE_FORMAT);
    assert_non_null(strstr(error.message, "changed while it was read"));
    qz_close(file);
    clear(&b);
}

static void ranges(void **state)
{
    (void)state;
    qz_file_error error = QZ_FILE_ERROR_INIT;
    bytes b = npy_bytes(1, "{'descr': '<u2', 'fortran_order': False, 'shape': (50,)}", 100);
    qz_file *file;
    uint16_t values[51] = {0};
    put_file(path_of("a.npy"), b.data, b.n);
    clear(&b);
    assert_int_equal(qz_open(path_of("a.npy"), NULL, &file, &error), QZ_FILE_OK);
    assert_int_equal(qz_read(file, 0, 49, 1, values, &error), QZ_FILE_OK);
    assert_int_equal(values[0], 99 | 100 << 8);
    assert_int_equal(qz_read(file, 0, 50, 0, values, &error), QZ_FILE_OK);
    assert_int_equal(qz_read(file, 0, 0, 51, values, &error), QZ_FILE_ARGUMENT);
    assert_int_equal(qz_read(file, 0, 51, 0, values, &error), QZ_FILE_ARGUMENT);
    assert_int_equal(qz_read(file, 0, 1, UINT64_MAX, values, &error), QZ_FILE_ARGUMENT);
    assert_int_equal(qz_read(file, 0, UINT64_MAX, 2, values, &error), QZ_FILE_ARGUMENT);
    assert_int_equal(qz_read(file, 1, 0, 0, values, &error), QZ_FILE_ARGUMENT);
    qz_close(file);
    qz_close(NULL);
}

/* ---- texts ---- */

static void escapes(void **state)
{
    (void)state;
    static const struct {
        const char *text, *shown;
    } cases_[] = {
        {"plain name.0", "plain name.0"},
        {"a\\b", "a\\\\b"},
        {"\n\r\t", "\\n\\r\\t"},
        {"\x1b[31m\x7f", "\\x1b[31m\\x7f"},
        {"\xc3\xa9", "\\u{e9}"},
        {"\xe2\x80\xae", "\\u{202e}"},
        {"\xf0\x9f\x98\x80", "\\u{1f600}"},
        {"\xff\xc0\xaf", "\\xff\\xc0\\xaf"},
        {"\xed\xa0\x80", "\\xed\\xa0\\x80"},
        {"\xe2\x80", "\\xe2\\x80"},
        {"\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"},
    };
    char out[64];
    for (size_t i = 0; i < sizeof cases_ / sizeof cases_[0]; i++)
        assert_string_equal(qz_escape(cases_[i].text, strlen(cases_[i].text), out, sizeof out), cases_[i].shown);
    assert_string_equal(qz_escape("a\0b", 3, out, sizeof out), "a\\x00b");
    assert_string_equal(qz_escape("", 0, out, sizeof out), "");
    assert_string_equal(qz_escape("1234567", 7, out, 8), "1234567");
    assert_string_equal(qz_escape("12345678", 8, out, 8), "1234...");
    assert_string_equal(qz_escape("123\x1b\x1b", 5, out, 8), "123...");
    for (size_t room = 8; room < 40; room++) /* never cut within an escape, never too long */
        assert_true(strlen(qz_escape("\xc3\xa9\x1b\xc3\xa9\x1b\xc3\xa9\x1b\xc3\xa9", 11, out, room)) < room);
}

int main(void)
{
    start_program("test_npy");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_headers),
        cmocka_unit_test(bad_headers),
        cmocka_unit_test(many_axes),
        cmocka_unit_test(beginnings),
        cmocka_unit_test(limits_and_flags),
        cmocka_unit_test(every_prefix),
        cmocka_unit_test(every_bit),
        cmocka_unit_test(not_regular),
        cmocka_unit_test(changing_files),
        cmocka_unit_test(ranges),
        cmocka_unit_test(escapes),
        cmocka_unit_test(raw_items),
        cmocka_unit_test(raw_items_of_wrong_types),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
