/*
 * test_safetensors.c - headers of .safetensors files: what is one is understood, all else is refused, and what is
 * written is what other readers and this one expect
 */
#include "read_model.h"

#include <time.h>

#include "containers/safetensors.h"

/* ---- files ---- */

/* A file with that header text, not padded, and `data_bytes` bytes 1, 2, 3, ... */
static bytes file_of(const char *text, size_t data_bytes)
{
    bytes b = {0};
    add_number(&b, strlen(text), 8);
    add(&b, text, strlen(text));
    for (size_t i = 0; i < data_bytes; i++)
        add_number(&b, i + 1, 1);
    return b;
}

/* Opens and reads. Messages are checked on the way: one printable line that names the file, and a place in it. */
static qz_file_result read_file(const char *path, qz_safetensors *out, const qz_model_limits *limits,
                                qz_file_error *error)
{
    qz_input input;
    *error = (qz_file_error)QZ_FILE_ERROR_INIT;
    assert_int_equal(qz_input_open(&input, path, error), QZ_FILE_OK);
    qz_file_result result = qz_safetensors_read(out, &input, limits, error);
    if (result == QZ_FILE_OK) {
        check_model(&out->model, out->data, input.size);
    } else {
        check_refusal(&out->model, path, result, error);
        assert_true(error->offset == QZ_NO_OFFSET || error->offset <= input.size);
        assert_null(out->text);
    }
    qz_input_close(&input);
    return result;
}

static qz_file_result read_bytes(const bytes *b, qz_safetensors *out, qz_file_error *error)
{
    put_file(path_of("a.safetensors"), b->data, b->n);
    return read_file(path_of("a.safetensors"), out, NULL, error);
}

/* The bytes must be refused with that result, and a message that holds `words`. */
static void refused(const bytes *b, const char *what, const char *words, qz_file_result wanted)
{
    qz_safetensors st;
    qz_file_error error;
    qz_file_result result = read_bytes(b, &st, &error);
    if (result != wanted || !strstr(error.message, words))
        fail_msg("%s: result %d, message \"%s\" instead of \"%s\"\n", what, result, error.message, words);
}

#define T(name, dtype, shape, offsets)                                                                                 \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":[" shape "],\"data_offsets\":[" offsets "]}"

/* ---- what is read ---- */

static void good_headers(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t bytes, tensors, pairs;
    } cases_[] = {
        {"{}", 0, 0, 0},
        {"{}      ", 0, 0, 0},
        {"{}\n\t\r ", 0, 0, 0},
        {"{" T("w", "F32", "2,3", "0,24") "}", 24, 1, 0},
        {"{" T("w", "F32", "", "0,4") "}", 4, 1, 0},
        {"{" T("w", "F32", "0", "0,0") "}", 0, 1, 0},
        {"{" T("w", "F32", "5,0,7", "0,0") "}", 0, 1, 0},
        {"{" T("", "U8", "1", "0,1") "}", 1, 1, 0},
        {"{ \"w\" : { \"shape\" : [ 2 ] , \"data_offsets\" : [ 0 , 4 ] , \"dtype\" : \"F16\" } } ", 4, 1, 0},
        {"{" T("a", "U8", "3", "0,3") "," T("b", "F32", "1", "3,7") "}", 7, 2, 0},
        {"{" T("b", "F32", "1", "3,7") "," T("a", "U8", "3", "0,3") "}", 7, 2, 0},
        {"{" T("a", "U8", "3", "0,3") "," T("e", "U8", "0", "3,3") "," T("b", "U8", "1", "3,4") "}", 4, 3, 0},
        {"{" T("b", "U8", "1", "3,4") "," T("e", "U8", "0", "3,3") "," T("a", "U8", "3", "0,3") "}", 4, 3, 0},
        {"{" T("b", "U8", "1", "3,4") "," T("e", "U8", "0", "4,4") "," T("a", "U8", "3", "0,3") "}", 4, 3, 0},
        {"{" T("a", "U8", "1", "0,1") "," T("e", "U8", "0", "0,0") "}", 1, 2, 0},
        {"{" T("a", "F4", "3,2", "0,3") "}", 3, 1, 0},
        {"{" T("a", "F6_E2M3", "4", "0,3") "}", 3, 1, 0},
        {"{" T("../a\\n\\u001b\xe2\x80\xae", "U8", "1", "0,1") "}", 1, 1, 0},
        {"{\"__metadata__\":{}}", 0, 0, 0},
        {"{\"__metadata__\":null}", 0, 0, 0},
        {"{\"__metadata__\":{\"format\":\"pt\",\"\":\"\",\"a\\u0000b\":\"c\\n\"}}", 0, 0, 3},
        {"{" T("w", "U8", "1", "0,1") ",\"__metadata__\":{\"format\":\"pt\"}}", 1, 1, 1},
        {"{\"w\":{\"dtype\":\"U8\",\"more\":{\"a\":[[1]]},\"shape\":[1],\"data_offsets\":[0,1]}}", 1, 1, 0},
        {"{" T("w", "U8",
               "1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,"
               "1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1",
               "0,1") "}",
         1, 1, 0},
    };
    for (size_t i = 0; i < sizeof cases_ / sizeof cases_[0]; i++) {
        bytes b = file_of(cases_[i].text, cases_[i].bytes);
        qz_safetensors st;
        qz_file_error error;
        if (read_bytes(&b, &st, &error) != QZ_FILE_OK)
            fail_msg("%s: %s\n", cases_[i].text, error.message);
        assert_int_equal(st.model.count, cases_[i].tensors);
        assert_int_equal(st.metadata_count, cases_[i].pairs);
        assert_int_equal(st.data, 8 + strlen(cases_[i].text));
        assert_int_equal(st.note[0] != '\0', strstr(cases_[i].text, "more") != NULL);
        qz_safetensors_free(&st);
        clear(&b);
    }
}

static void what_is_kept(void **state)
{
    (void)state;
    bytes b = file_of("{\"__metadata__\":{\"z\":\"1\",\"a\":\"\\u00e4\"},"
                      "\"w\\u0061\":{\"dtype\":\"BF16\",\"x\":1,\"shape\":[2,0,3],\"data_offsets\":[6,6],\"y\":2}," T(
                          "v", "F16", "3,1", "0,6") "}  ",
                      6);
    qz_safetensors st;
    qz_file_error error;
    assert_int_equal(read_bytes(&b, &st, &error), QZ_FILE_OK);
    assert_int_equal(st.model.count, 2);
    const qz_model_tensor *t = &st.model.tensors[0];
    assert_string_equal(t->name, "wa");
    assert_int_equal(t->type, QZ_SAFETENSORS_BF16);
    assert_int_equal(t->rank, 3);
    assert_int_equal(t->shape[0], 2);
    assert_int_equal(t->shape[2], 3);
    assert_int_equal(t->offset, st.data + 6);
    assert_int_equal(t->bytes, 0);
    t++;
    assert_string_equal(t->name, "v");
    assert_int_equal(t->type, QZ_SAFETENSORS_F16);
    assert_int_equal(t->rank, 2);
    assert_int_equal(t->shape[0], 3);
    assert_int_equal(t->offset, st.data);
    assert_int_equal(t->bytes, 6);
    assert_int_equal(st.metadata_count, 2);
    assert_string_equal(st.metadata[0].key, "z");
    assert_string_equal(st.metadata[0].value, "1");
    assert_string_equal(st.metadata[1].key, "a");
    assert_string_equal(st.metadata[1].value, "\xc3\xa4");
    assert_string_equal(st.note, "the field 'x' of tensor 'wa' is unknown and is left out, and 1 more");
    assert_true(qz_model_find(&st.model, "w", 1) == SIZE_MAX);
    qz_safetensors_free(&st);
    clear(&b);
}

static void types(void **state)
{
    (void)state;
    for (unsigned type = 0; type < QZ_SAFETENSORS_TYPES; type++) {
        const qz_safetensors_row *row = qz_safetensors_row_of(type);
        char text[200];
        assert_non_null(row->name);
        for (unsigned other = 0; other < type; other++)
            assert_string_not_equal(row->name, qz_safetensors_row_of(other)->name);
        if (row->element != QZ_ELEMENT_RAW) {
            assert_int_equal(row->bits, 8 * qz_element_size(row->element));
            assert_int_equal(qz_safetensors_type_of(row->element), type);
        }
        snprintf(text, sizeof text, "{\"w\":{\"dtype\":\"%s\",\"shape\":[8],\"data_offsets\":[0,%u]}}", row->name,
                 row->bits);
        bytes b = file_of(text, row->bits);
        qz_safetensors st;
        qz_file_error error;
        assert_int_equal(read_bytes(&b, &st, &error), QZ_FILE_OK);
        assert_int_equal(st.model.tensors[0].type, type);
        qz_safetensors_free(&st);
        clear(&b);
    }
    assert_null(qz_safetensors_row_of(QZ_SAFETENSORS_TYPES));
    assert_int_equal(qz_safetensors_type_of(QZ_ELEMENT_RAW), QZ_SAFETENSORS_TYPES);
}

/* ---- what is refused ---- */

static void bad_headers(void **state)
{
    (void)state;
    static const struct {
        const char *text, *words;
        size_t bytes;
    } cases_[] = {
        {" {}", "does not begin with '{'", 0},
        {"\n{}", "does not begin with '{'", 0},
        {"\xef\xbb\xbf{}", "does not begin with '{'", 0},
        {"[]", "does not begin with '{'", 0},
        {"null", "does not begin with '{'", 0},
        {"{} x", "header at byte 11: something other than white space", 0},
        {"{}{}", "something other than white space", 0},
        {"{\"a\"}", "tensor 'a' at byte 12: a ':' is expected", 0},
        {"{,}", "a key in quotes", 0},
        {"{" T("w", "U8", "1", "0,1") ",}", "a key in quotes", 1},
        {"{" T("w", "U8", "1", "0,1"), "a ',' or '}'", 1},
        {"{" T("w", "U8", "1", "0,1") " " T("v", "U8", "1", "1,2") "}", "a ',' or '}'", 2},
        {"{\"w\":1}", "tensor 'w' at byte 13: is not an object of", 0},
        {"{\"w\":null}", "is not an object of", 0},
        {"{\"w\":[]}", "is not an object of", 0},
        {"{\"w\":{}}", "lacks one of", 0},
        {"{\"w\":{\"dtype\":\"U8\",\"shape\":[1]}}", "lacks one of", 1},
        {"{\"w\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", "lacks one of", 1},
        {"{\"w\":{\"shape\":[1],\"data_offsets\":[0,1]}}", "lacks one of", 1},
        {"{\"w\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", "a field twice", 1},
        {"{\"w\":{\"dtype\":\"U8\",\"d\\u0074ype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", "a field twice", 1},
        {"{\"w\":{\"dtype\":\"U8\",\"shape\":[1],\"shape\":[1],\"data_offsets\":[0,1]}}", "a field twice", 1},
        {"{\"w\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"data_offsets\":[0,1]}}", "a field twice", 1},
        {"{\"w\":{\"x\":1,\"x\":1,\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", "a field twice", 1},
        {"{\"w\":{\"a\":1,\"b\":1,\"c\":1,\"d\":1,\"e\":1,\"f\":1,\"g\":1,\"h\":1,\"i\":1,\"j\":1,\"k\":1,\"l\":1,"
         "\"m\":1,\"n\":1,\"o\":1,\"p\":1,\"q\":1}}",
         "more than 16 fields", 0},
        {"{\"w\":{\"x\":[[[[[[[1]]]]]]]}}", "nested too deep", 0},
        {"{\"w\":{\"x\":[1,}}", "a JSON value is expected", 0},
        {"{\"w\":{\"dtype\":1}}", "dtype is not a string", 0},
        {"{\"w\":{\"dtype\":null}}", "dtype is not a string", 0},
        {"{\"w\":{\"dtype\":U8}}", "a JSON value is expected", 0},
        {"{" T("w", "u8", "1", "0,1") "}", "dtype 'u8' is none", 1},
        {"{" T("w", "I4", "2", "0,1") "}", "dtype 'I4' is none", 1},
        {"{" T("w", "", "2", "0,1") "}", "dtype '' is none", 1},
        {"{" T("w", "F32\\u0000", "1", "0,4") "}", "dtype 'F32\\x00' is none", 4},
        {"{" T("w", "U8", "-1", "0,1") "}", "a size in shape is negative", 1},
        {"{" T("w", "U8", "-0", "0,1") "}", "a size in shape is negative", 1},
        {"{" T("w", "U8", "1.0", "0,1") "}", "a size in shape is not written as a whole number", 1},
        {"{" T("w", "U8", "1e0", "0,1") "}", "is not written as a whole number", 1},
        {"{" T("w", "U8", "\"1\"", "0,1") "}", "a size in shape is not a number", 1},
        {"{" T("w", "U8", "null", "0,1") "}", "is not a number", 1},
        {"{" T("w", "U8", "true", "0,1") "}", "is not a number", 1},
        {"{" T("w", "U8", "[1]", "0,1") "}", "is not a number", 1},
        {"{" T("w", "U8", "01", "0,1") "}", "a number is not written as JSON", 1},
        {"{" T("w", "U8", "1,", "0,1") "}", "a JSON value is expected", 1},
        {"{" T("w", "U8", "9223372036854775808", "0,1") "}", "beyond 2^63", 1},
        {"{" T("w", "U8", "18446744073709551617", "0,1") "}", "beyond 2^63", 1},
        {"{" T("w", "U8", "4294967296,4294967296", "0,0") "}", "multiply to more than", 0},
        {"{" T("w", "U8", "0,4294967296,4294967296", "0,0") "}", "multiply to more than", 0},
        {"{" T("w", "U64", "2305843009213693952", "0,0") "}", "multiply to more than", 0},
        {"{" T("w", "F32", "4611686018427387904", "0,0") "}", "multiply to more than", 0},
        {"{" T("w", "U8",
               "1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,"
               "1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1",
               "0,1") "}",
         "more than there can be", 1},
        {"{\"w\":{\"dtype\":\"U8\",\"shape\":1,\"data_offsets\":[0,1]}}", "shape is not an array", 1},
        {"{\"w\":{\"dtype\":\"U8\",\"shape\":{},\"data_offsets\":[0,1]}}", "shape is not an array", 1},
        {"{\"w\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":1}}", "data_offsets is not an array", 1},
        {"{" T("w", "U8", "1", "") "}", "not two numbers", 1},
        {"{" T("w", "U8", "1", "0") "}", "not two numbers", 1},
        {"{" T("w", "U8", "1", "0,1,1") "}", "more than there can be", 1},
        {"{" T("w", "U8", "1", "0,1.0") "}", "an offset in data_offsets is not written as a whole", 1},
        {"{" T("w", "U8", "1", "-1,0") "}", "an offset in data_offsets is negative", 1},
        {"{" T("w", "U8", "1", "1,0") "}", "end before they begin", 1},
        {"{" T("w", "U8", "1", "0,18446744073709551615") "}", "beyond 2^63", 1},
        {"{" T("w", "U8", "1", "9223372036854775807,9223372036854775807") "}", "of which the file has 1", 1},
        {"{" T("w", "U8", "2", "0,2") "}", "reach to byte 2 of the data, of which the file has 1", 1},
        {"{" T("w", "U8", "1", "1,2") "}", "reach to byte 2", 1},
        {"{" T("w", "U8", "2", "0,1") "}", "need 2 bytes, data_offsets give 1", 1},
        {"{" T("w", "U8", "1", "0,2") "}", "need 1 bytes, data_offsets give 2", 2},
        {"{" T("w", "U8", "", "0,0") "}", "need 1 bytes, data_offsets give 0", 0},
        {"{" T("w", "F32", "1", "0,2") "}", "need 4 bytes, data_offsets give 2", 2},
        {"{" T("w", "F4", "3", "0,1") "}", "do not fill whole bytes", 1},
        {"{" T("w", "F4", "3", "0,2") "}", "do not fill whole bytes", 2},
        {"{" T("w", "F6_E3M2", "2", "0,2") "}", "do not fill whole bytes", 2},
        {"{" T("w", "U8", "1", "1,2") "}", "begins with 1 bytes that belong to no", 2},
        {"{" T("w", "U8", "1", "0,1") "}", "1 bytes that belong to no tensor end the file", 2},
        {"{}", "1 bytes that belong to no tensor end the file", 1},
        {"{" T("a", "U8", "1", "0,1") "," T("b", "U8", "1", "2,3") "}", "between it and tensor 'a' lie 1 bytes", 3},
        {"{" T("b", "U8", "1", "2,3") "," T("a", "U8", "1", "0,1") "}", "between it and tensor 'a' lie 1 bytes", 3},
        {"{" T("a", "U8", "2", "0,2") "," T("b", "U8", "2", "1,3") "}", "tensor 'b' at byte", 3},
        {"{" T("a", "U8", "2", "0,2") "," T("b", "U8", "2", "1,3") "}", "shares bytes with tensor 'a'", 3},
        {"{" T("a", "U8", "2", "0,2") "," T("b", "U8", "2", "0,2") "}", "shares bytes with", 2},
        {"{" T("a", "U8", "3", "0,3") "," T("b", "U8", "1", "1,2") "}", "shares bytes with tensor 'a'", 3},
        {"{" T("a", "U8", "3", "0,3") "," T("e", "U8", "0", "1,1") "}", "shares bytes with tensor 'a'", 3},
        {"{" T("a", "U8", "1", "0,1") "," T("a", "U8", "1", "1,2") "}", "the name occurs twice", 2},
        {"{" T("a", "U8", "1", "0,1") "," T("\\u0061", "U8", "1", "0,1") "}", "the name occurs twice", 1},
        {"{" T("a\\u0000", "U8", "1", "0,1") "}", "tensor 'a\\x00' at byte 9: the name holds the character 0", 1},
        {"{" T("a\\ud800", "U8", "1", "0,1") "}", "half of a pair", 1},
        {"{" T("a\xff", "U8", "1", "0,1") "}", "is not UTF-8", 1},
        {"{" T("a\xc0\xaf", "U8", "1", "0,1") "}", "is not UTF-8", 1},
        {"{" T("a\x01", "U8", "1", "0,1") "}", "control character", 1},
        {"{\"__metadata__\":1}", "__metadata__ at byte 24: is not an object of strings", 0},
        {"{\"__metadata__\":[]}", "is not an object of strings", 0},
        {"{\"__metadata__\":\"a\"}", "is not an object of strings", 0},
        {"{\"__metadata__\":{\"a\":1}}", "metadata 'a' at byte 29: is not a string", 0},
        {"{\"__metadata__\":{\"a\":null}}", "is not a string", 0},
        {"{\"__metadata__\":{\"a\":{}}}", "is not a string", 0},
        {"{\"__metadata__\":{\"a\":\"1\",\"a\":\"1\"}}", "the key occurs twice", 0},
        {"{\"__metadata__\":{\"a\":\"1\",}}", "a key in quotes", 0},
        {"{\"__metadata__\":{},\"__metadata__\":{}}", "occurs twice", 0},
        {"{\"__metadata__\":null,\"__metadata__\":{}}", "occurs twice", 0},
        {"{\"__metadata__\":{},\"__metadat\\u0061__\":{}}", "occurs twice", 0},
    };
    for (size_t i = 0; i < sizeof cases_ / sizeof cases_[0]; i++) {
        bytes b = file_of(cases_[i].text, cases_[i].bytes);
        refused(&b, cases_[i].text, cases_[i].words, QZ_FILE_FORMAT);
        clear(&b);
    }
}

static void lengths(void **state)
{
    (void)state;
    static const struct {
        uint64_t length;
        const char *words;
    } cases_[] = {
        {0, "the format allows 2"},         {1, "the format allows 2"},       {73, "only 72 follow"},
        {100000001, "only 72 follow"},      {INT64_MAX, "only 72 follow"},    {UINT64_MAX, "only 72 follow"},
        {UINT64_MAX - 7, "only 72 follow"}, {59, "a ',' or '}' is expected"}, {61, "something other than white space"},
    };
    static const char text[] = "{" T("w", "F32", "3", "0,12") "}  ";
    bytes b = file_of(text, 72 - strlen(text));
    refused(&b, "the file itself", "belong to no tensor end the file", QZ_FILE_FORMAT);
    for (size_t i = 0; i < sizeof cases_ / sizeof cases_[0]; i++) {
        set_number(&b, 0, cases_[i].length, 8);
        if (cases_[i].length == 59 || cases_[i].length == 61)
            set_number(&b, 0, strlen(text) + cases_[i].length - 60 - (cases_[i].length == 59 ? 2 : 0), 8);
        refused(&b, "length", cases_[i].words, QZ_FILE_FORMAT);
    }
    clear(&b);
    /* Padding that is no white space. */
    for (int c = 0; c < 256; c++) {
        bytes padded = file_of("{}#", 0);
        qz_safetensors st;
        qz_file_error error;
        padded.data[10] = (uint8_t)c;
        qz_file_result result = read_bytes(&padded, &st, &error);
        int space = c == ' ' || c == '\t' || c == '\n' || c == '\r';
        assert_int_equal(result, space ? QZ_FILE_OK : QZ_FILE_FORMAT);
        qz_safetensors_free(&st);
        clear(&padded);
    }
    /* A header of more than the format allows, in a file that has so many bytes, is refused before it is read. */
    int fd = open(path_of("long.safetensors"), O_RDWR | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    static const uint8_t start[9] = {0x01, 0xe1, 0xf5, 0x05, 0, 0, 0, 0, '{'}; /* 100,000,001 */
    assert_int_equal(pwrite(fd, start, sizeof start, 0), sizeof start);
    assert_int_equal(ftruncate(fd, INT64_C(1) << 40), 0);
    close(fd);
    qz_safetensors st;
    qz_file_error error;
    assert_int_equal(read_file(path_of("long.safetensors"), &st, NULL, &error), QZ_FILE_FORMAT);
    assert_non_null(strstr(error.message, "the format allows 2 to 100000000"));
    assert_int_equal(unlink(path_of("long.safetensors")), 0);
}

static void limits(void **state)
{
    (void)state;
    static const char text[] = "{\"__metadata__\":{\"k\":\"v\"}," T("w", "U8", "1,1", "0,1") "}";
    bytes b = file_of(text, 1);
    put_file(path_of("l.safetensors"), b.data, b.n);
    uint64_t least = 0;
    for (uint64_t table = 0; least == 0; table++) {
        qz_model_limits l = {1000, table};
        qz_safetensors st;
        qz_file_error error;
        qz_file_result result = read_file(path_of("l.safetensors"), &st, &l, &error);
        if (result == QZ_FILE_OK)
            least = table;
        else
            assert_int_equal(error.option, QZ_OPTION_MAX_TABLE);
        assert_true(result == QZ_FILE_OK || result == QZ_FILE_LIMIT);
        qz_safetensors_free(&st);
    }
    assert_true(least > sizeof text && least < 1000);
    qz_model_limits l = {sizeof text - 2, 1000};
    qz_safetensors st;
    qz_file_error error;
    assert_int_equal(read_file(path_of("l.safetensors"), &st, &l, &error), QZ_FILE_LIMIT);
    assert_int_equal(error.option, QZ_OPTION_MAX_TABLE);
    l.max_header++;
    assert_int_equal(read_file(path_of("l.safetensors"), &st, &l, &error), QZ_FILE_OK);
    qz_safetensors_free(&st);
    clear(&b);
    unlink(path_of("l.safetensors"));
}

static void put_model(const char *name, const char *header, size_t data)
{
    bytes b = file_of(header, data);
    put_file(path_of(name), b.data, b.n);
    clear(&b);
}

/* An index of two files, which differ in metadata, with a total that is wrong: both are noted. It is kept in memory. */
static void of_an_index(void **state)
{
    (void)state;
    static const char name[] = "model.safetensors.index.json";
    static const char text[] = "{\"metadata\":{\"total_size\":9},\"weight_map\":{\"v\":\"1.safetensors\","
                               "\"w\":\"2.safetensors\"}}";
    put_model("1.safetensors", "{\"__metadata__\":{\"k\":\"a\"}," T("v", "U8", "1,1", "0,1") "}", 1);
    put_model("2.safetensors", "{\"__metadata__\":{\"k\":\"b\"}," T("w", "U8", "1,1", "0,1") "}", 1);
    put_file(path_of(name), text, sizeof text - 1);
    qz_open_options options = QZ_OPEN_OPTIONS_INIT;
    qz_file_error error = QZ_FILE_ERROR_INIT;
    qz_file *file;
    assert_int_equal(qz_open(path_of(name), &options, &file, &error), QZ_FILE_OK);
    assert_string_equal(qz_note(file), "the files differ in metadata 'k'; that of the first one counts; "
                                       "total_size in the index is 9, but the tensors have 2 bytes");
    qz_close(file);
    options.max_table = sizeof text - 2;
    assert_int_equal(qz_open(path_of(name), &options, &file, &error), QZ_FILE_LIMIT);
    assert_int_equal(error.option, QZ_OPTION_MAX_TABLE);
    unlink(path_of(name));
    unlink(path_of("1.safetensors"));
    unlink(path_of("2.safetensors"));
}

static void probing(void **state)
{
    (void)state;
    bytes b = file_of("{}", 0);
    assert_true(qz_safetensors_probe(b.data, 9, b.n));
    assert_true(qz_safetensors_probe(b.data, b.n, b.n));
    assert_false(qz_safetensors_probe(b.data, 8, b.n));
    assert_false(qz_safetensors_probe(b.data, 9, 9));
    set_number(&b, 0, 3, 8);
    assert_false(qz_safetensors_probe(b.data, 9, b.n));
    assert_true(qz_safetensors_probe(b.data, 9, b.n + 1));
    set_number(&b, 0, 100000001, 8);
    assert_false(qz_safetensors_probe(b.data, 9, UINT64_MAX));
    set_number(&b, 0, 1, 8);
    assert_false(qz_safetensors_probe(b.data, 9, UINT64_MAX));
    set_number(&b, 0, 2, 8);
    b.data[8] = '[';
    assert_false(qz_safetensors_probe(b.data, 9, b.n));
    clear(&b);
}

/* ---- damage ---- */

static bytes small_file(void)
{
    return file_of("{\"__metadata__\":{\"format\":\"pt\"}," T("a\\u00e4", "F32", "2,1", "0,8") "," T(
                       "b", "BF16", "3", "8,14") "," T("c", "F4", "4", "14,16") "} ",
                   16);
}

static void every_prefix(void **state)
{
    (void)state;
    bytes b = small_file();
    qz_safetensors st;
    qz_file_error error;
    assert_int_equal(read_bytes(&b, &st, &error), QZ_FILE_OK);
    qz_safetensors_free(&st);
    for (size_t n = 0; n < b.n; n++) {
        bytes part = {b.data, n, 0};
        assert_int_equal(read_bytes(&part, &st, &error), QZ_FILE_FORMAT);
    }
    add(&b, "", 1);
    assert_int_equal(read_bytes(&b, &st, &error), QZ_FILE_FORMAT);
    clear(&b);
}

/* Names, metadata and types of the same size may change by a bit; what is read stays within the file. */
static void every_bit(void **state)
{
    (void)state;
    bytes b = small_file();
    size_t accepted = 0;
    for (size_t bit = 0; bit < 8 * (b.n - 16); bit++) {
        qz_safetensors st;
        qz_file_error error;
        b.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        qz_file_result result = read_bytes(&b, &st, &error);
        b.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_true(result == QZ_FILE_OK || result == QZ_FILE_FORMAT);
        if (result != QZ_FILE_OK)
            continue;
        accepted++;
        uint64_t sum = 0;
        for (size_t i = 0; i < st.model.count; i++)
            sum += st.model.tensors[i].bytes;
        assert_int_equal(sum, 16);
        qz_safetensors_free(&st);
    }
    assert_true(accepted > 10 && accepted < 8 * 40);
    clear(&b);
}

/* ---- many tensors ---- */

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* `step`: tensors are listed in steps of so many, so that their data is in another order. */
static bytes many_tensors(size_t n, size_t step, size_t rank)
{
    bytes b = {0};
    char text[200];
    add_number(&b, 0, 8);
    for (size_t i = 0, at = 0; i < n; i++, at = (at + step) % n) {
        snprintf(text, sizeof text, "%s\"model.layers.%zu.weight\":{\"dtype\":\"U8\",\"shape\":[", i == 0 ? "{" : ",",
                 at);
        add(&b, text, strlen(text));
        for (size_t j = 0; j < rank; j++)
            add(&b, j == 0 ? "1" : ",1", j == 0 ? 1 : 2);
        snprintf(text, sizeof text, "],\"data_offsets\":[%zu,%zu]}", at, at + 1);
        add(&b, text, strlen(text));
    }
    add(&b, "}", 1);
    set_number(&b, 0, b.n - 8, 8);
    for (size_t i = 0; i < n; i++)
        add(&b, "", 1);
    return b;
}

static double time_to_read(size_t n, size_t step)
{
    static const qz_model_limits high = {100000000, 1000000000};
    bytes b = many_tensors(n, step, 1);
    qz_safetensors st;
    qz_file_error error;
    put_file(path_of("many.safetensors"), b.data, b.n);
    clear(&b);
    double start = seconds();
    assert_int_equal(read_file(path_of("many.safetensors"), &st, &high, &error), QZ_FILE_OK);
    double taken = seconds() - start;
    assert_int_equal(st.model.count, n);
    qz_safetensors_free(&st);
    unlink(path_of("many.safetensors"));
    return taken;
}

static void many(void **state)
{
    (void)state;
    size_t n = cases(50000, 5000), step = 30011; /* a prime that divides neither */
    for (int turn = 0; turn < 2; turn++) {
        double few = time_to_read(n, turn ? step : 1), more = time_to_read(10 * n, turn ? step : 1);
        print_message("%zu tensors: %.3f s, %zu: %.3f s\n", n, few, 10 * n, more);
        assert_true(more < 40 * few + 0.5); /* linear gives 10, comparing all pairs 100 */
    }
    /* 100,000 are within the usual limits. A million are not, and 64 axes of 1 each count too. */
    static const struct {
        size_t n, rank;
        qz_file_result result;
    } sizes[] = {{100000, 2, QZ_FILE_OK}, {600000, 1, QZ_FILE_LIMIT}, {150000, 64, QZ_FILE_LIMIT}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        qz_safetensors st;
        qz_file_error error;
        bytes b = many_tensors(sizes[i].n, 1, sizes[i].rank);
        assert_int_equal(read_bytes(&b, &st, &error), sizes[i].result);
        qz_safetensors_free(&st);
        clear(&b);
    }
}

/* ---- writing ---- */

static void known_bytes(void **state)
{
    (void)state;
    static const uint64_t four[] = {4}, two[] = {2};
    char *header;
    size_t bytes_;
    uint64_t all;
    qz_file_error error = QZ_FILE_ERROR_INIT;
    qz_model_tensor w = {.name = "w", .name_length = 1, .type = QZ_SAFETENSORS_U8, .rank = 1, .shape = four};
    assert_int_equal(qz_safetensors_format(&w, 1, NULL, 0, &header, &bytes_, &all, "f", &error), QZ_FILE_OK);
    static const char alone[] = "\x38\0\0\0\0\0\0\0{\"w\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}   ";
    assert_int_equal(bytes_, sizeof alone - 1);
    assert_memory_equal(header, alone, sizeof alone - 1);
    assert_int_equal(all, 68);
    assert_int_equal(w.offset, 64);
    assert_int_equal(w.bytes, 4);
    free(header);
    qz_model_tensor ws[] = {
        {.name = "w.s", .name_length = 3, .type = QZ_SAFETENSORS_F16, .rank = 1, .shape = two},
        {.name = "w.q", .name_length = 3, .type = QZ_SAFETENSORS_U8, .rank = 1, .shape = four},
        {.name = "\"\n\x01\xc3\xa4", .name_length = 5, .type = QZ_SAFETENSORS_F64, .rank = 0},
    };
    const qz_safetensors_pair pairs[] = {{"format", 6, "np", 2}, {"\\", 1, "a\0\"", 3}};
    assert_int_equal(qz_safetensors_format(ws, 3, pairs, 2, &header, &bytes_, &all, "f", &error), QZ_FILE_OK);
    static const char several[] =
        "{\"__metadata__\":{\"format\":\"np\",\"\\\\\":\"a\\u0000\\\"\"},"
        "\"w.s\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[0,4]},"
        "\"w.q\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,8]},"
        "\"\\\"\\n\\u0001\xc3\xa4\":{\"dtype\":\"F64\",\"shape\":[],\"data_offsets\":[8,16]}}";
    assert_memory_equal(header + 8, several, sizeof several - 1);
    assert_int_equal(bytes_ % 8, 0);
    assert_true(bytes_ - 8 - (sizeof several - 1) < 8);
    assert_int_equal(ws[2].offset, bytes_ + 8);
    free(header);
    assert_int_equal(qz_safetensors_format(NULL, 0, NULL, 0, &header, &bytes_, &all, "f", &error), QZ_FILE_OK);
    assert_int_equal(all, 16);
    assert_memory_equal(header, "\x08\0\0\0\0\0\0\0{}      ", 16);
    free(header);
}

/* What is written is read as what was written, with names and values of any characters. */
static void round_trips(void **state)
{
    (void)state;
    struct rng rng = rng_make(1);
    for (size_t turn = 0; turn < cases(2000, 300); turn++) {
        enum { MOST = 8, LONGEST = 12 };
        static const char *const parts[] = {"a", "\"", "\\", "\n", "\x1f", "\x7f", "\xc3\xa4", "\xf0\x9f\x98\x80", "/"};
        char texts[3 * MOST][4 * LONGEST + 4];
        uint64_t shapes[MOST][4];
        qz_model_tensor tensors[MOST];
        qz_safetensors_pair pairs[MOST];
        size_t count = rng_below(&rng, MOST + 1), pair_count = rng_below(&rng, MOST + 1);
        for (size_t i = 0; i < 3 * MOST; i++) {
            /* The first character makes them differ. */
            texts[i][0] = (char)('A' + i), texts[i][1] = '\0';
            for (size_t j = rng_below(&rng, LONGEST); j > 0; j--)
                strcat(texts[i], parts[rng_below(&rng, sizeof parts / sizeof parts[0])]);
        }
        for (size_t i = 0; i < count; i++) {
            unsigned rank = (unsigned)rng_below(&rng, 5);
            for (unsigned j = 0; j < 4; j++)
                shapes[i][j] = rng_below(&rng, 5);
            tensors[i] = (qz_model_tensor){.name = texts[i],
                                           .name_length = strlen(texts[i]),
                                           .type = (unsigned)rng_below(&rng, QZ_SAFETENSORS_TYPES),
                                           .rank = rank,
                                           .shape = shapes[i]};
            if (qz_safetensors_row_of(tensors[i].type)->bits < 8)
                tensors[i].rank = 1, shapes[i][0] *= 4;
        }
        for (size_t i = 0; i < pair_count; i++)
            pairs[i] = (qz_safetensors_pair){texts[MOST + i], strlen(texts[MOST + i]), texts[2 * MOST + i],
                                             strlen(texts[2 * MOST + i])};
        char *header;
        size_t header_bytes;
        uint64_t all;
        qz_file_error error = QZ_FILE_ERROR_INIT;
        assert_int_equal(
            qz_safetensors_format(tensors, count, pairs, pair_count, &header, &header_bytes, &all, "f", &error),
            QZ_FILE_OK);
        bytes b = {0};
        add(&b, header, header_bytes);
        free(header);
        while (b.n < all)
            add(&b, "", 1);
        qz_safetensors st;
        if (read_bytes(&b, &st, &error) != QZ_FILE_OK)
            fail_msg("%s\n", error.message);
        assert_int_equal(st.model.count, count);
        assert_int_equal(st.metadata_count, pair_count);
        for (size_t i = 0; i < count; i++) {
            const qz_model_tensor *t = &st.model.tensors[i];
            assert_string_equal(t->name, tensors[i].name);
            assert_int_equal(t->type, tensors[i].type);
            assert_int_equal(t->rank, tensors[i].rank);
            assert_memory_equal(t->shape, tensors[i].shape, t->rank * sizeof t->shape[0]);
            assert_int_equal(t->offset, tensors[i].offset);
            assert_int_equal(t->bytes, tensors[i].bytes);
        }
        for (size_t i = 0; i < pair_count; i++) {
            assert_string_equal(st.metadata[i].key, pairs[i].key);
            assert_string_equal(st.metadata[i].value, pairs[i].value);
        }
        qz_safetensors_free(&st);
        clear(&b);
    }
}

/* The types without an element are known by where their text is, complex numbers also by what it says. */
static void types_of_items(void **state)
{
    (void)state;
    const char complex[] = "<c8";
    for (unsigned type = 0; type < QZ_SAFETENSORS_TYPES; type++)
        assert_int_equal(qz_safetensors_type_of_items(qz_safetensors_items[type]), type);
    assert_int_equal(qz_safetensors_type_of_items(complex), QZ_SAFETENSORS_C64);
    assert_int_equal(qz_safetensors_type_of_items("<M8[s]"), QZ_SAFETENSORS_TYPES);
}

static void not_written(void **state)
{
    (void)state;
    static const uint64_t one[] = {1}, three[] = {3}, huge[] = {UINT64_C(1) << 62, 2}, half[] = {UINT64_C(1) << 62};
    static const struct {
        const char *words;
        qz_model_tensor tensors[2];
        qz_safetensors_pair pairs[2];
        size_t count, pair_count;
    } cases_[] = {
        {"tensor 'w': the name occurs twice", {{"w", 1, 4, 1, one, 0, 0}, {"w", 1, 4, 1, one, 0, 0}}, {{0}}, 2, 0},
        {"the name is not UTF-8", {{"\xff", 1, 4, 1, one, 0, 0}}, {{0}}, 1, 0},
        {"the character 0", {{"a\0b", 3, 4, 1, one, 0, 0}}, {{0}}, 1, 0},
        {"keeps its metadata", {{"__metadata__", 12, 4, 1, one, 0, 0}}, {{0}}, 1, 0},
        {"none of the format's types", {{"w", 1, QZ_SAFETENSORS_TYPES, 1, one, 0, 0}}, {{0}}, 1, 0},
        {"more than 64 axes", {{"w", 1, 4, 65, one, 0, 0}}, {{0}}, 1, 0},
        {"more than 2^63 - 1 bytes", {{"w", 1, 4, 2, huge, 0, 0}}, {{0}}, 1, 0},
        {"more than 2^63 - 1 bytes", {{"w", 1, QZ_SAFETENSORS_U64, 1, half, 0, 0}}, {{0}}, 1, 0},
        {"together have more", {{"v", 1, 4, 1, half, 0, 0}, {"w", 1, 4, 1, half, 0, 0}}, {{0}}, 2, 0},
        {"do not fill whole bytes", {{"w", 1, QZ_SAFETENSORS_F4, 1, three, 0, 0}}, {{0}}, 1, 0},
        {"metadata 'k': the key occurs twice", {{0}}, {{"k", 1, "v", 1}, {"k", 1, "v", 1}}, 0, 2},
        {"key or value is not UTF-8", {{0}}, {{"k", 1, "\xff", 1}}, 0, 1},
        {"key or value is not UTF-8", {{0}}, {{"\xff", 1, "v", 1}}, 0, 1},
    };
    for (size_t i = 0; i < sizeof cases_ / sizeof cases_[0]; i++) {
        qz_model_tensor tensors[2] = {cases_[i].tensors[0], cases_[i].tensors[1]};
        char *header;
        size_t n;
        uint64_t all;
        qz_file_error error = QZ_FILE_ERROR_INIT;
        qz_file_result result = qz_safetensors_format(tensors, cases_[i].count, cases_[i].pairs, cases_[i].pair_count,
                                                      &header, &n, &all, "out.safetensors", &error);
        if (result != QZ_FILE_REFUSED || !strstr(error.message, cases_[i].words))
            fail_msg("%s: result %d, %s\n", cases_[i].words, result, error.message);
        assert_non_null(strstr(error.message, "out.safetensors"));
        assert_null(header);
    }
    /* A header beyond what the format allows, and a length that no text has. */
    char *header, *value = malloc(100000001);
    size_t n;
    uint64_t all;
    qz_file_error error = QZ_FILE_ERROR_INIT;
    assert_non_null(value);
    memset(value, 'a', 100000001);
    qz_safetensors_pair pair = {"k", 1, value, 100000001};
    assert_int_equal(qz_safetensors_format(NULL, 0, &pair, 1, &header, &n, &all, "f", &error), QZ_FILE_REFUSED);
    assert_non_null(strstr(error.message, "longer than the format allows"));
    pair.value_length = 99999900;
    assert_int_equal(qz_safetensors_format(NULL, 0, &pair, 1, &header, &n, &all, "f", &error), QZ_FILE_OK);
    free(header);
    free(value);
}

int main(void)
{
    start_program("test_safetensors");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_headers), cmocka_unit_test(what_is_kept), cmocka_unit_test(types),
        cmocka_unit_test(bad_headers),  cmocka_unit_test(lengths),      cmocka_unit_test(limits),
        cmocka_unit_test(of_an_index),  cmocka_unit_test(probing),      cmocka_unit_test(every_prefix),
        cmocka_unit_test(every_bit),    cmocka_unit_test(many),         cmocka_unit_test(known_bytes),
        cmocka_unit_test(round_trips),  cmocka_unit_test(not_written),  cmocka_unit_test(types_of_items),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
