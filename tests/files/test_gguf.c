/*
 * test_gguf.c - headers of GGUF files: what is one is understood, all else is refused, and what is written is what
 * other readers and this one expect
 */
#include "read_model.h"

#include <time.h>

#include "containers/gguf.h"
#include "containers/gguf_values.h"

/* ---- files ---- */

static void add_text(bytes *b, const char *text, size_t n)
{
    add_number(b, n, 8);
    add(b, text, n);
}

static void start_file(bytes *b, unsigned version, uint64_t tensors, uint64_t values)
{
    *b = (bytes){0};
    add(b, "GGUF", 4);
    add_number(b, version, 4);
    add_number(b, tensors, 8);
    add_number(b, values, 8);
}

static void add_key(bytes *b, const char *key, unsigned type)
{
    add_text(b, key, strlen(key));
    add_number(b, type, 4);
}

/* `rank` sizes follow, from the axis on that runs fastest. */
static void add_info(bytes *b, const char *name, unsigned type, uint64_t offset, unsigned rank, ...)
{
    va_list list;
    add_text(b, name, strlen(name));
    add_number(b, rank, 4);
    va_start(list, rank);
    for (unsigned i = 0; i < rank; i++)
        add_number(b, va_arg(list, uint64_t), 8);
    va_end(list);
    add_number(b, type, 4);
    add_number(b, offset, 8);
}

/* Zeros up to a multiple. */
static void pad(bytes *b, size_t alignment)
{
    while (b->n % alignment != 0)
        add(b, "", 1);
}

#define SIZE UINT64_C

static const uint8_t sixteen[16]; /* zeros */

/* Opens and reads. Messages are checked on the way: one printable line that names the file, and a place in it. */
static qz_file_result read_file(const char *path, qz_gguf *out, const qz_model_limits *limits, qz_file_error *error)
{
    qz_input input;
    *error = (qz_file_error)QZ_FILE_ERROR_INIT;
    assert_int_equal(qz_input_open(&input, path, error), QZ_FILE_OK);
    qz_file_result result = qz_gguf_read(out, &input, limits, error);
    if (result == QZ_FILE_OK) {
        check_model(&out->model, out->data, input.size);
        for (size_t i = 0; i < out->model.count; i++)
            assert_int_equal(out->model.tensors[i].offset % out->alignment, 0);
        assert_int_equal(qz_gguf_load(out, &input, error), QZ_FILE_OK);
        assert_int_equal(qz_gguf_load(out, &input, error), QZ_FILE_OK);
        for (size_t i = 0; i < out->value_count; i++) {
            const qz_gguf_value *v = &out->values[i];
            assert_ptr_equal(qz_gguf_find(out, v->key), v);
            assert_true(v->offset >= 24 && v->offset + v->bytes <= input.size);
        }
    } else {
        check_refusal(&out->model, path, result, error);
        assert_null(out->values);
    }
    qz_input_close(&input);
    return result;
}

static qz_file_result read_bytes(const bytes *b, qz_gguf *out, qz_file_error *error)
{
    put_file(path_of("a.gguf"), b->data, b->n);
    return read_file(path_of("a.gguf"), out, NULL, error);
}

/* Takes the bytes: they must be refused, with a message that holds `words`. */
static void refused(bytes *b, const char *words)
{
    qz_gguf gguf;
    qz_file_error error;
    qz_file_result result = read_bytes(b, &gguf, &error);
    if (result != QZ_FILE_FORMAT || !strstr(error.message, words))
        fail_msg("result %d, message \"%s\" instead of \"%s\"\n", result, error.message, words);
    clear(b);
}

/* Takes the bytes: they must be accepted. */
static qz_gguf accepted(bytes *b)
{
    qz_gguf gguf;
    qz_file_error error;
    if (read_bytes(b, &gguf, &error) != QZ_FILE_OK)
        fail_msg("%s\n", error.message);
    clear(b);
    return gguf;
}

/* ---- what is read ---- */

/* A tensor "w" of 32 values as Q4_0: 96 bytes. */
static bytes least_file(void)
{
    static const uint8_t block[] = {0x00, 0x3c, 0x00, 0x44, 0x88, 0xcc, 0xff, 0x66, 0xbb,
                                    0x99, 0x00, 0x44, 0x88, 0xcc, 0xff, 0x66, 0xbb, 0x99};
    bytes b;
    start_file(&b, 3, 1, 0);
    add_info(&b, "w", 2, 0, 1, SIZE(32));
    pad(&b, 32);
    add(&b, block, sizeof block);
    pad(&b, 32);
    assert_int_equal(b.n, 96);
    return b;
}

static void least(void **state)
{
    (void)state;
    bytes b = least_file();
    assert_true(qz_gguf_probe(b.data, 4));
    assert_false(qz_gguf_probe(b.data, 3));
    assert_false(qz_gguf_probe((const uint8_t *)"PK\3\4", 4));
    qz_gguf gguf = accepted(&b);
    assert_int_equal(gguf.version, 3);
    assert_int_equal(gguf.alignment, 32);
    assert_int_equal(gguf.data, 64);
    assert_int_equal(gguf.model.count, 1);
    const qz_model_tensor *t = gguf.model.tensors;
    assert_string_equal(t->name, "w");
    assert_int_equal(t->type, 2);
    assert_int_equal(t->rank, 1);
    assert_int_equal(t->shape[0], 32);
    assert_int_equal(t->offset, 64);
    assert_int_equal(t->bytes, 18);
    qz_gguf_free(&gguf);
    /* Version 2 is the same; the padding of the last tensor may be missing. */
    b = least_file();
    set_number(&b, 4, 2, 4);
    b.n = 64 + 18;
    gguf = accepted(&b);
    assert_int_equal(gguf.version, 2);
    qz_gguf_free(&gguf);
    start_file(&b, 3, 0, 0);
    gguf = accepted(&b);
    assert_int_equal(gguf.model.count, 0);
    qz_gguf_free(&gguf);
}

/* A value of every type, alone and in an array. */
static bytes file_of_values(void)
{
    static const unsigned sizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    bytes b;
    start_file(&b, 3, 1, 0);
    uint64_t count = 0;
    for (unsigned type = 0; type < QZ_GGUF_TYPES; type++) {
        char key[32];
        if (type == QZ_GGUF_ARRAY)
            continue;
        snprintf(key, sizeof key, "one.%u", type);
        add_key(&b, key, type);
        if (type == QZ_GGUF_STRING)
            add_text(&b, "te\0xt\xff", 6); /* of any bytes */
        else
            add_number(&b, type == QZ_GGUF_BOOL ? 1 : 100 + type, sizes[type]);
        snprintf(key, sizeof key, "many.%u", type);
        add_key(&b, key, QZ_GGUF_ARRAY);
        add_number(&b, type, 4);
        add_number(&b, 3, 8);
        for (unsigned i = 0; i < 3; i++)
            if (type == QZ_GGUF_STRING)
                add_text(&b, "abc", i);
            else
                add_number(&b, i % 2, sizes[type]);
        snprintf(key, sizeof key, "none.%u", type);
        add_key(&b, key, QZ_GGUF_ARRAY);
        add_number(&b, type, 4);
        add_number(&b, 0, 8);
        count += 3;
    }
    add_key(&b, "general.alignment", QZ_GGUF_U32);
    add_number(&b, 64, 4);
    set_number(&b, 16, count + 1, 8);
    add_info(&b, "w", 0, 0, 2, SIZE(2), SIZE(3));
    pad(&b, 64);
    for (unsigned i = 0; i < 24; i++)
        add_number(&b, i, 1);
    pad(&b, 64);
    return b;
}

static void values(void **state)
{
    (void)state;
    bytes b = file_of_values();
    qz_gguf gguf = accepted(&b);
    assert_int_equal(gguf.alignment, 64);
    assert_int_equal(gguf.data % 64, 0);
    assert_int_equal(gguf.value_count, 37);
    assert_string_equal(gguf.values[1].key, "many.0");
    assert_int_equal(gguf.values[1].type, QZ_GGUF_ARRAY);
    assert_int_equal(gguf.values[1].items, QZ_GGUF_U8);
    assert_int_equal(gguf.values[1].count, 3);
    assert_int_equal(gguf.values[1].bytes, 12 + 3);
    assert_int_equal(qz_gguf_find(&gguf, "many.8")->bytes, 12 + 3 * 8 + 3);
    assert_int_equal(qz_gguf_find(&gguf, "none.8")->bytes, 12);
    assert_null(qz_gguf_find(&gguf, "none"));
    assert_int_equal(qz_gguf_find(&gguf, "one.8")->bytes, 8 + 6);
    assert_memory_equal((const char *)qz_gguf_find(&gguf, "one.8")->data + 8, "te\0xt\xff", 6);
    for (unsigned type = 0; type < QZ_GGUF_TYPES; type++) {
        char key[32];
        uint64_t number = 0;
        snprintf(key, sizeof key, "one.%u", type);
        int integer = type <= QZ_GGUF_I32 || type == QZ_GGUF_U64 || type == QZ_GGUF_I64;
        if (type == QZ_GGUF_ARRAY)
            continue;
        assert_int_equal(qz_gguf_whole(qz_gguf_find(&gguf, key), &number), integer);
        assert_int_equal(number, integer ? 100 + type : 0);
    }
    uint64_t number;
    qz_gguf_value negative = {.type = QZ_GGUF_I16, .bytes = 2, .data = "\xff\xff"};
    assert_false(qz_gguf_whole(&negative, &number));
    assert_int_equal(gguf.model.tensors[0].shape[0], 3); /* the last axis runs fastest */
    assert_int_equal(gguf.model.tensors[0].shape[1], 2);
    qz_gguf_free(&gguf);
}

static void types(void **state)
{
    (void)state;
    unsigned known = 0;
    for (unsigned id = 0; id < 100; id++) {
        const qz_ggml_type *type = qz_ggml_type_of(id);
        bytes b;
        start_file(&b, 3, 1, 0);
        add_info(&b, "w", id, 0, 2, SIZE(512), SIZE(3));
        pad(&b, 32);
        if (!type) {
            refused(&b, "the type is unknown, or was given up (type ");
            continue;
        }
        known++;
        assert_int_equal(type->id, id);
        assert_ptr_equal(qz_ggml_type_named(type->name), type);
        if (type->element != QZ_ELEMENT_RAW) {
            assert_int_equal(type->values, 1);
            assert_int_equal(type->bytes, qz_element_size(type->element));
            assert_ptr_equal(qz_ggml_type_of_element(type->element), type);
        }
        size_t needed = (size_t)3 * 512 / type->values * type->bytes;
        for (size_t i = 0; i < needed; i++)
            add(&b, "", 1);
        bytes shorter = copy_of(&b);
        shorter.n--;
        refused(&shorter, "it is cut off");
        qz_gguf gguf = accepted(&b);
        assert_int_equal(gguf.model.tensors[0].bytes, needed);
        qz_gguf_free(&gguf);
        if (type->values == 1)
            continue;
        start_file(&b, 3, 1, 0);
        add_info(&b, "w", id, 0, 1, (uint64_t)type->values + 1);
        refused(&b, "a row does not consist of whole blocks");
        start_file(&b, 3, 1, 0);
        add_info(&b, "w", id, 0, 2, (uint64_t)type->values / 2, SIZE(2));
        refused(&b, "a row does not consist of whole blocks");
        start_file(&b, 3, 1, 0);
        add_info(&b, "w", id, 0, 0);
        refused(&b, "a row does not consist of whole blocks");
    }
    assert_int_equal(known, 35);
    assert_null(qz_ggml_type_of(UINT64_C(1) << 32));
    assert_null(qz_ggml_type_named("Q4_2"));
    assert_null(qz_ggml_type_of_element(QZ_ELEMENT_RAW));
    assert_null(qz_ggml_type_of_element(QZ_ELEMENT_BOOL));
}

static void shapes(void **state)
{
    (void)state;
    bytes b;
    start_file(&b, 3, 7, 0);
    add_info(&b, "scalar", 0, 0, 0);
    add_info(&b, "", 26, 32, 4, SIZE(3), SIZE(1), SIZE(1), SIZE(1));
    add_info(&b, "none", 2, 64, 2, SIZE(0), SIZE(5));
    add_info(&b, "none too", 0, 64, 2, SIZE(5), SIZE(0));
    add_info(&b, "../\n\x1b", 24, 64, 1, SIZE(1));
    add_info(&b, "123456789012345678901234567890123456789012345678901234567890123", 24, 96, 1, SIZE(32));
    add_info(&b, "last", 24, 128, 1, SIZE(1));
    pad(&b, 32);
    for (unsigned i = 0; i < 129; i++)
        add(&b, "", 1);
    qz_gguf gguf = accepted(&b);
    assert_int_equal(gguf.model.tensors[0].bytes, 4);
    assert_int_equal(gguf.model.tensors[1].rank, 4);
    assert_int_equal(gguf.model.tensors[1].shape[3], 3);
    assert_int_equal(gguf.model.tensors[2].bytes, 0);
    assert_int_equal(gguf.model.tensors[3].bytes, 0);
    assert_int_equal(gguf.model.tensors[6].offset, gguf.data + 128);
    qz_gguf_free(&gguf);
}

/* ---- what is refused ---- */

static void bad_starts(void **state)
{
    (void)state;
    bytes b = least_file();
    b.data[0] = 'g';
    refused(&b, "header at byte 0: does not begin as a GGUF file does");
    b = least_file();
    memcpy(b.data, "FUGG", 4);
    refused(&b, "the most significant bytes first");
    static const uint64_t versions[] = {0, 1, 4, 0xffffffff};
    for (size_t i = 0; i < sizeof versions / sizeof versions[0]; i++) {
        b = least_file();
        set_number(&b, 4, versions[i], 4);
        refused(&b, "header at byte 4: version");
    }
    for (uint64_t version = 2; version <= 3; version++) {
        b = least_file();
        set_number(&b, 4, version << 24, 4);
        refused(&b, "the most significant bytes first");
    }
    static const uint64_t counts[] = {UINT64_MAX, INT64_MAX, UINT64_C(1) << 32, 10};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        b = least_file();
        set_number(&b, 8, counts[i], 8);
        refused(&b, "header at byte 8: counts more tensors than");
        b = least_file();
        set_number(&b, 16, counts[i], 8);
        refused(&b, "header at byte 16: counts more keys than");
    }
    b = least_file();
    set_number(&b, 8, 0, 8);
    refused(&b, "64 bytes that belong to no tensor");
    b = least_file();
    add(&b, "", 1);
    refused(&b, "1 bytes that belong to no tensor");
}

static void bad_values(void **state)
{
    (void)state;
    bytes b;
    start_file(&b, 3, 0, 2);
    add_key(&b, "a", QZ_GGUF_U32);
    add_number(&b, 1, 4);
    add_key(&b, "a", QZ_GGUF_U8);
    add_number(&b, 1, 1);
    refused(&b, "key 'a' at byte 41: the key occurs twice");
    static const struct {
        const char *key, *words;
        unsigned type;
        size_t bytes;
        uint8_t data[32];
    } cases_[] = {
        {"", "a key is empty", 0, 8, {1}},
        {"a\xff", "the name is not UTF-8", 0, 8, {1}},
        {"a", "has a type that is unknown", 13, 8, {1}},
        {"a", "has a type that is unknown", UINT32_MAX, 8, {1}},
        {"a", "a value needs 4 bytes, but only 3 follow", QZ_GGUF_U32, 3, {1}},
        {"a", "a value needs 8 bytes, but only 7 follow", QZ_GGUF_F64, 7, {1}},
        {"abcde", "a value needs 8 bytes, but only 7 follow", QZ_GGUF_STRING, 7, {1}},
        {"a", "a string needs 1 bytes, but only 0 follow", QZ_GGUF_STRING, 8, {1}},
        {"a",
         "a string needs 18446744073709551615 bytes, but only 1 follow",
         QZ_GGUF_STRING,
         9,
         {255, 255, 255, 255, 255, 255, 255, 255, 1}},
        {"a", "a truth value is neither", QZ_GGUF_BOOL, 1, {2}},
        {"a", "a truth value is neither", QZ_GGUF_BOOL, 1, {255}},
        {"a", "a truth value is neither", QZ_GGUF_ARRAY, 15, {7, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2}},
        {"a", "is an array of arrays", QZ_GGUF_ARRAY, 24, {9, 0, 0, 0, 1}},
        {"a", "has a type that is unknown", QZ_GGUF_ARRAY, 24, {13, 0, 0, 0, 1}},
        {"a", "the start of an array needs 12 bytes", QZ_GGUF_ARRAY, 11, {0, 0, 0, 0, 1}},
        {"a", "an array needs 3 bytes, but only 2 follow", QZ_GGUF_ARRAY, 14, {0, 0, 0, 0, 3}},
        {"a", "an array needs 6 bytes, but only 5 follow", QZ_GGUF_ARRAY, 17, {2, 0, 0, 0, 3}},
        {"a", "an array needs 1152921504606846976 bytes", QZ_GGUF_ARRAY, 12, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 16}},
        {"a", "an array needs 1152921504606846976 bytes", QZ_GGUF_ARRAY, 12, {7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 16}},
        {"a",
         "an array has more items than 2^64 bytes can hold",
         QZ_GGUF_ARRAY,
         12,
         {8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32}},
        {"a",
         "an array has more items than 2^64 bytes can hold",
         QZ_GGUF_ARRAY,
         12,
         {10, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255}},
        {"a", "an array needs 16 bytes, but only 15 follow", QZ_GGUF_ARRAY, 27, {8, 0, 0, 0, 2}},
        {"a", "a string needs 5 bytes, but only 4 follow", QZ_GGUF_ARRAY, 24, {8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 5}},
        {"general.alignment", "is not a number of type 4", QZ_GGUF_U64, 8, {32}},
        {"general.alignment", "is not a number of type 4", QZ_GGUF_I32, 4, {32}},
        {"general.alignment", "is not a number of type 4", QZ_GGUF_ARRAY, 16, {4, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 32}},
        {"general.alignment", "is not a power of two", QZ_GGUF_U32, 4, {0}},
        {"general.alignment", "is not a power of two", QZ_GGUF_U32, 4, {13}},
        {"general.alignment", "is not a power of two", QZ_GGUF_U32, 4, {24}},
        {"general.alignment", "is not a power of two", QZ_GGUF_U32, 4, {0, 0, 0, 128}},
        {"general.alignment", "is not a power of two", QZ_GGUF_U32, 4, {0, 0, 32, 0}},
    };
    for (size_t i = 0; i < sizeof cases_ / sizeof cases_[0]; i++) {
        start_file(&b, 3, 0, 1);
        add_key(&b, cases_[i].key, cases_[i].type);
        add(&b, cases_[i].data, cases_[i].bytes);
        refused(&b, cases_[i].words);
    }
    start_file(&b, 3, 0, 1);
    add_text(&b, "a\0b", 3);
    add_number(&b, 0, 8);
    refused(&b, "key 'a\\x00b' at byte 24: the name holds the character 0");
    char *key = malloc(65536);
    assert_non_null(key);
    memset(key, 'k', 65536);
    for (size_t n = 65535; n <= 65536; n++) {
        start_file(&b, 3, 0, 1);
        add_text(&b, key, n);
        add_number(&b, 0, 5);
        if (n == 65536) {
            refused(&b, "keys at byte 24: a key has more than 65535 bytes");
        } else {
            qz_gguf gguf = accepted(&b);
            assert_int_equal(gguf.values[0].key_length, n);
            qz_gguf_free(&gguf);
        }
    }
    free(key);
    for (unsigned alignment = 1; alignment <= 1u << 20; alignment *= 2) {
        start_file(&b, 3, 1, 1);
        add_key(&b, "general.alignment", QZ_GGUF_U32);
        add_number(&b, alignment, 4);
        add_info(&b, "w", 0, 0, 0);
        pad(&b, alignment);
        add_number(&b, 0, 4);
        qz_gguf gguf = accepted(&b);
        assert_int_equal(gguf.alignment, alignment);
        qz_gguf_free(&gguf);
    }
}

static void bad_tensors(void **state)
{
    (void)state;
    bytes b;
    start_file(&b, 3, 1, 0);
    add_text(&b, "1234567890123456789012345678901234567890123456789012345678901234", 64);
    add(&b, sixteen, sizeof sixteen);
    refused(&b, "tensors at byte 24: the name of a tensor has more than 63 bytes");
    static const uint64_t lengths[] = {UINT64_MAX, UINT64_MAX - 7, INT64_MAX, 17};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        start_file(&b, 3, 1, 0);
        add_number(&b, lengths[i], 8);
        add_number(&b, 0, 8);
        add_number(&b, 0, 8);
        refused(&b, i == 3 ? "a name needs 17 bytes, but only 16 follow" : "a name needs");
    }
    start_file(&b, 3, 1, 0);
    add_info(&b, "a\xe4", 0, 0, 0);
    refused(&b, "tensor 'a\\xe4' at byte 24: the name is not UTF-8");
    start_file(&b, 3, 1, 0);
    add_text(&b, "\0", 1);
    add(&b, sixteen, sizeof sixteen);
    refused(&b, "the name holds the character 0");
    static const uint64_t ranks[] = {5, 64, UINT32_MAX};
    for (size_t i = 0; i < sizeof ranks / sizeof ranks[0]; i++) {
        start_file(&b, 3, 1, 0);
        add_info(&b, "w", 0, 0, 4, SIZE(1), SIZE(1), SIZE(1), SIZE(1));
        set_number(&b, 33, ranks[i], 4);
        refused(&b, "tensor 'w' at byte 33: is said to have");
    }
    static const struct {
        uint64_t sizes[4];
        const char *words;
        unsigned type;
    } cases_[] = {
        {{UINT64_MAX, 1, 1, 1}, "byte 37: a size in the shape is negative", 0},
        {{1, 1, 1, UINT64_C(1) << 63}, "byte 61: a size in the shape is negative", 0},
        {{INT64_MAX, 2, 1, 1}, "multiply to more", 24},
        {{INT64_MAX, INT64_MAX, 1, 1}, "multiply to more", 24},
        {{UINT64_C(1) << 32, UINT64_C(1) << 32, 1, 1}, "multiply to more", 24},
        {{0, UINT64_C(1) << 32, UINT64_C(1) << 32, 1}, "multiply to more", 24},
        {{UINT64_C(1) << 62, 1, 1, 1}, "multiply to more", 0},
        {{UINT64_C(1) << 60, 1, 1, 1}, "multiply to more", 28},
        {{INT64_MAX, 1, 1, 1}, "have more than 2^63 - 1 bytes", 24},
        {{INT64_MAX - 30, 1, 1, 1}, "have more than 2^63 - 1 bytes", 24},
        {{INT64_MAX - 31, 1, 1, 1}, "reach beyond the file", 24},
        {{1000, 1, 1, 1}, "tensor 'w' at byte 96: its 4000 bytes reach beyond the file, which has 81", 0},
        {{33, 1, 1, 1}, "whole blocks of its type (type 2, Q4_0)", 2},
    };
    for (size_t i = 0; i < sizeof cases_ / sizeof cases_[0]; i++) {
        const uint64_t *size = cases_[i].sizes;
        start_file(&b, 3, 1, 0);
        add_info(&b, "w", cases_[i].type, 0, 4, size[0], size[1], size[2], size[3]);
        refused(&b, cases_[i].words);
    }
    static const uint64_t offsets[] = {1, 31, 32, 33, UINT64_MAX, UINT64_MAX - 31};
    for (size_t i = 0; i < sizeof offsets / sizeof offsets[0]; i++) {
        start_file(&b, 3, 1, 0);
        add_info(&b, "w", 0, offsets[i], 0);
        pad(&b, 32);
        for (int j = 0; j < 100; j++)
            add(&b, "", 1);
        refused(&b, "but the tensors before it end at 0");
    }
    for (uint64_t offset = 0; offset <= 96; offset += 16) {
        start_file(&b, 3, 2, 0);
        add_info(&b, "v", 0, 0, 1, SIZE(9));
        add_info(&b, "w", 0, offset, 1, SIZE(1));
        pad(&b, 32);
        for (int j = 0; j < 96; j++)
            add(&b, "", 1);
        if (offset != 64) {
            refused(&b, "of the data, but the tensors before it end at 64");
        } else {
            qz_gguf gguf = accepted(&b);
            qz_gguf_free(&gguf);
        }
    }
    start_file(&b, 3, 2, 0);
    add_info(&b, "w", 24, 0, 1, SIZE(1));
    add_info(&b, "w", 24, 32, 1, SIZE(1));
    refused(&b, "tensor 'w' at byte 57: the name occurs twice");
    start_file(&b, 3, 2, 0); /* each fits, not both */
    add_info(&b, "v", 24, 0, 1, SIZE(0x4000000000000000));
    add_info(&b, "w", 24, SIZE(0x4000000000000000), 1, SIZE(0x4000000000000000));
    refused(&b, "the tensors up to this one have more than 2^63 - 1 bytes");
}

static void rounding(void **state)
{
    (void)state;
    for (uint64_t alignment = 1; alignment <= 1u << 20; alignment *= 2) {
        const uint64_t last = UINT64_MAX - (alignment - 1);
        assert_true(qz_model_round_up(0, alignment) == 0);
        assert_true(qz_model_round_up(1, alignment) == alignment);
        assert_true(qz_model_round_up(last, alignment) == last);
        assert_true(qz_model_round_up(UINT64_MAX, alignment) == last);
    }
}

static void limits(void **state)
{
    (void)state;
    bytes b = file_of_values();
    put_file(path_of("l.gguf"), b.data, b.n);
    uint64_t table = 0, header = 0;
    for (int done = 0; !done; table += 16) {
        const qz_model_limits l = {1 << 20, table};
        qz_gguf gguf;
        qz_file_error error;
        qz_file_result result = read_file(path_of("l.gguf"), &gguf, &l, &error);
        done = result == QZ_FILE_OK;
        if (!done)
            assert_int_equal(error.option, QZ_OPTION_MAX_TABLE);
        assert_true(done || result == QZ_FILE_LIMIT);
        qz_gguf_free(&gguf);
    }
    assert_true(table > 2000 && table < 20000);
    for (int done = 0; !done; header++) {
        const qz_model_limits l = {header, 1 << 20};
        qz_gguf gguf;
        qz_file_error error;
        qz_file_result result = read_file(path_of("l.gguf"), &gguf, &l, &error);
        done = result == QZ_FILE_OK;
        if (!done)
            assert_int_equal(error.option, QZ_OPTION_MAX_TABLE);
        assert_true(done || result == QZ_FILE_LIMIT);
        qz_gguf_free(&gguf);
    }
    assert_true(header > b.n - 128 && header < b.n);
    clear(&b);
    unlink(path_of("l.gguf"));
}

/* A file that becomes shorter after it was opened, and is read beyond what was read at once: at the alignment, whose
 * value is read after it was passed over, and within truth values. */
static void shrinking(void **state)
{
    (void)state;
    for (int truths = 0; truths < 2; truths++) {
        bytes b;
        qz_gguf gguf;
        qz_input input;
        qz_file_error error = QZ_FILE_ERROR_INIT;
        start_file(&b, 3, 0, 2);
        add_key(&b, "k", truths ? QZ_GGUF_ARRAY : QZ_GGUF_STRING);
        add_number(&b, truths ? QZ_GGUF_BOOL : QZ_GGUF_WINDOW - b.n - 8 - (8 + 17 + 4), truths ? 4 : 8);
        if (truths)
            add_number(&b, 2 * QZ_GGUF_WINDOW, 8);
        const size_t end = truths ? b.n + 2 * QZ_GGUF_WINDOW : QZ_GGUF_WINDOW - (8 + 17 + 4);
        const off_t kept = (off_t)(truths ? b.n + QZ_GGUF_WINDOW : QZ_GGUF_WINDOW);
        while (b.n < end)
            add(&b, "", 1);
        add_key(&b, "general.alignment", QZ_GGUF_U32);
        add_number(&b, 32, 4);
        pad(&b, 32);
        put_file(path_of("a.gguf"), b.data, b.n);
        assert_int_equal(qz_input_open(&input, path_of("a.gguf"), &error), QZ_FILE_OK);
        assert_int_equal(qz_gguf_read(&gguf, &input, NULL, &error), QZ_FILE_OK);
        qz_gguf_free(&gguf);
        assert_int_equal(truncate(path_of("a.gguf"), kept), 0);
        assert_int_equal(qz_gguf_read(&gguf, &input, NULL, &error), QZ_FILE_FORMAT);
        assert_non_null(strstr(error.message, "shorter"));
        qz_input_close(&input);
        clear(&b);
    }
}

/* A file that has 2^40 bytes, all of them zeros or nearly so, and says that they are its header. */
static void sparse(void **state)
{
    (void)state;
    static const struct {
        unsigned type;
        qz_file_result result;
    } cases_[] = {{QZ_GGUF_STRING, QZ_FILE_LIMIT}, {QZ_GGUF_BOOL, QZ_FILE_LIMIT}, {QZ_GGUF_U8, QZ_FILE_LIMIT}};
    for (size_t i = 0; i < sizeof cases_ / sizeof cases_[0]; i++) {
        bytes b;
        start_file(&b, 3, 0, 1);
        add_key(&b, "a", QZ_GGUF_ARRAY);
        add_number(&b, cases_[i].type, 4);
        add_number(&b, UINT64_C(1) << 36, 8);
        put_file(path_of("s.gguf"), b.data, b.n);
        clear(&b);
        assert_int_equal(truncate(path_of("s.gguf"), INT64_C(1) << 40), 0);
        qz_gguf gguf;
        qz_file_error error;
        assert_int_equal(read_file(path_of("s.gguf"), &gguf, NULL, &error), cases_[i].result);
        assert_int_equal(error.option, QZ_OPTION_MAX_TABLE);
    }
    for (unsigned at = 8; at <= 16; at += 8) {
        bytes b;
        start_file(&b, 3, 0, 0);
        set_number(&b, at, UINT64_C(1) << 30, 8);
        put_file(path_of("s.gguf"), b.data, b.n);
        clear(&b);
        assert_int_equal(truncate(path_of("s.gguf"), INT64_C(1) << 40), 0);
        qz_gguf gguf;
        qz_file_error error;
        assert_int_equal(read_file(path_of("s.gguf"), &gguf, NULL, &error), QZ_FILE_LIMIT);
        assert_int_equal(error.option, QZ_OPTION_MAX_TABLE);
    }
    unlink(path_of("s.gguf"));
}

/* ---- damage ---- */

static void every_prefix(void **state)
{
    (void)state;
    bytes b = file_of_values();
    for (size_t n = 0; n < b.n; n++) {
        bytes part = {b.data, n, 0};
        qz_gguf gguf;
        qz_file_error error;
        qz_file_result result = read_bytes(&part, &gguf, &error);
        assert_int_equal(result, n < b.n - 40 ? QZ_FILE_FORMAT : QZ_FILE_OK); /* 40 are padding */
        qz_gguf_free(&gguf);
    }
    clear(&b);
}

static void every_bit(void **state)
{
    (void)state;
    bytes b = file_of_values();
    size_t kept = 0;
    for (size_t bit = 0; bit < 8 * (b.n - 64); bit++) {
        qz_gguf gguf;
        qz_file_error error;
        b.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        qz_file_result result = read_bytes(&b, &gguf, &error);
        b.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_true(result == QZ_FILE_OK || result == QZ_FILE_FORMAT || result == QZ_FILE_LIMIT);
        kept += result == QZ_FILE_OK;
        if (result == QZ_FILE_OK)
            assert_true(gguf.model.count == 1 && gguf.model.tensors[0].bytes <= 64);
        qz_gguf_free(&gguf);
    }
    assert_true(kept > 1000); /* characters and numbers */
    clear(&b);
}

/* ---- many ---- */

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* So many tensors, keys, and strings in an array. */
static double time_to_read(size_t n)
{
    static const qz_model_limits high = {100000000, 1000000000};
    bytes b;
    start_file(&b, 3, n, n + 1);
    add_key(&b, "tokens", QZ_GGUF_ARRAY);
    add_number(&b, QZ_GGUF_STRING, 4);
    add_number(&b, n, 8);
    for (size_t i = 0; i < n; i++)
        add_text(&b, "tokenxxx", i % 9);
    for (size_t i = 0; i < n; i++) {
        char key[32];
        snprintf(key, sizeof key, "key.%zu", i);
        add_key(&b, key, QZ_GGUF_U8);
        add_number(&b, i, 1);
    }
    for (size_t i = 0; i < n; i++) {
        char name[32];
        snprintf(name, sizeof name, "blk.%zu.weight", i);
        add_info(&b, name, 24, 32 * i, 1, SIZE(32));
    }
    pad(&b, 32);
    put_file(path_of("many.gguf"), b.data, b.n);
    assert_int_equal(truncate(path_of("many.gguf"), (off_t)(b.n + 32 * n)), 0);
    clear(&b);
    qz_gguf gguf;
    qz_file_error error;
    double start = seconds();
    qz_file_result result = read_file(path_of("many.gguf"), &gguf, &high, &error);
    double taken = seconds() - start;
    if (result != QZ_FILE_OK)
        fail_msg("%s\n", error.message);
    assert_int_equal(gguf.model.count, n);
    qz_gguf_free(&gguf);
    unlink(path_of("many.gguf"));
    return taken;
}

static void many(void **state)
{
    (void)state;
    size_t n = cases(50000, 5000);
    double few = time_to_read(n), more = time_to_read(10 * n);
    print_message("%zu tensors and keys: %.3f s, %zu: %.3f s\n", n, few, 10 * n, more);
    assert_true(more < 40 * few + 0.5); /* linear gives 10, comparing all pairs 100 */
}

/* ---- writing ---- */

static void known_bytes(void **state)
{
    (void)state;
    static const uint64_t shape[] = {32};
    bytes b = least_file();
    qz_model_tensor w = {.name = "w", .name_length = 1, .type = 2, .rank = 1, .shape = shape};
    char *header;
    size_t n;
    uint64_t all;
    qz_file_error error = QZ_FILE_ERROR_INIT;
    assert_int_equal(qz_gguf_format(&w, 1, NULL, 0, &header, &n, &all, "f", &error), QZ_FILE_OK);
    assert_int_equal(n, 64);
    assert_int_equal(all, 96);
    assert_memory_equal(header, b.data, 64);
    assert_int_equal(w.offset, 64);
    assert_int_equal(w.bytes, 18);
    free(header);
    clear(&b);
    /* Values of every type, as they were read: the same file again. */
    b = file_of_values();
    bytes copy = copy_of(&b);
    qz_gguf gguf = accepted(&copy);
    assert_int_equal(qz_gguf_format(gguf.model.tensors, gguf.model.count, gguf.values, gguf.value_count, &header, &n,
                                    &all, "f", &error),
                     QZ_FILE_OK);
    assert_int_equal(all, b.n);
    assert_int_equal(n, b.n - 64);
    assert_memory_equal(header, b.data, n);
    free(header);
    qz_gguf_free(&gguf);
    clear(&b);
}

static void not_written(void **state)
{
    (void)state;
    static const uint64_t one[] = {1}, odd[] = {33}, huge[] = {UINT64_C(1) << 62, 2}, half[] = {UINT64_C(1) << 62};
    static const char long_name[] = "1234567890123456789012345678901234567890123456789012345678901234";
    static const qz_gguf_value good = {"k", 1, QZ_GGUF_U8, 0, 0, 0, 1, "a"};
    static char long_key[QZ_GGUF_KEY_LONGEST + 2];
    memset(long_key, 'k', sizeof long_key - 1);
    const struct {
        const char *words;
        qz_model_tensor tensors[2];
        qz_gguf_value values[2];
        size_t count, value_count;
    } cases_[] = {
        {"tensor 'w': the name occurs twice", {{"w", 1, 24, 1, one, 0, 0}, {"w", 1, 24, 1, one, 0, 0}}, {{0}}, 2, 0},
        {"the name is not UTF-8", {{"\xff", 1, 24, 1, one, 0, 0}}, {{0}}, 1, 0},
        {"the character 0", {{"a\0b", 3, 24, 1, one, 0, 0}}, {{0}}, 1, 0},
        {"more than 63 bytes", {{long_name, 64, 24, 1, one, 0, 0}}, {{0}}, 1, 0},
        {"the type is unknown", {{"w", 1, 4, 1, one, 0, 0}}, {{0}}, 1, 0},
        {"more than 4 axes", {{"w", 1, 24, 5, one, 0, 0}}, {{0}}, 1, 0},
        {"whole blocks", {{"w", 1, 2, 1, odd, 0, 0}}, {{0}}, 1, 0},
        {"more than 2^63 - 1 bytes", {{"w", 1, 24, 2, huge, 0, 0}}, {{0}}, 1, 0},
        {"together have more", {{"v", 1, 24, 1, half, 0, 0}, {"w", 1, 24, 1, half, 0, 0}}, {{0}}, 2, 0},
        {"key 'k': the name occurs twice", {{0}}, {good, good}, 0, 2},
        {"more than 65535 bytes", {{0}}, {{long_key, QZ_GGUF_KEY_LONGEST + 1, 0, 0, 0, 0, 1, "a"}}, 0, 1},
        {"a key is empty", {{0}}, {{"", 0, 0, 0, 0, 0, 1, "a"}}, 0, 1},
        {"is not UTF-8", {{0}}, {{"\xff", 1, 0, 0, 0, 0, 1, "a"}}, 0, 1},
        {"key 'k': has no value", {{0}}, {{"k", 1, 0, 0, 0, 0, 1, NULL}}, 0, 1},
        {"a type that is unknown", {{0}}, {{"k", 1, 13, 0, 0, 0, 1, "a"}}, 0, 1},
        {"needs 4 bytes", {{0}}, {{"k", 1, QZ_GGUF_U32, 0, 0, 0, 3, "abc"}}, 0, 1},
        {"bytes follow the value", {{0}}, {{"k", 1, QZ_GGUF_U32, 0, 0, 0, 5, "abcde"}}, 0, 1},
        {"needs 9 bytes", {{0}}, {{"k", 1, QZ_GGUF_STRING, 0, 0, 0, 16, "\x9\0\0\0\0\0\0\0abcdefgh"}}, 0, 1},
        {"bytes follow the value", {{0}}, {{"k", 1, QZ_GGUF_STRING, 0, 0, 0, 16, "\x7\0\0\0\0\0\0\0abcdefgh"}}, 0, 1},
        {"neither 0 nor 1", {{0}}, {{"k", 1, QZ_GGUF_BOOL, 0, 0, 0, 1, "a"}}, 0, 1},
        {"array of arrays", {{0}}, {{"k", 1, QZ_GGUF_ARRAY, 0, 0, 0, 12, "\x9\0\0\0\0\0\0\0\0\0\0\0"}}, 0, 1},
        {"is not a number of type 4", {{0}}, {{"general.alignment", 17, QZ_GGUF_I32, 0, 0, 0, 4, "\x20\0\0\0"}}, 0, 1},
        {"power of two", {{0}}, {{"general.alignment", 17, QZ_GGUF_U32, 0, 0, 0, 4, "\x21\0\0\0"}}, 0, 1},
    };
    for (size_t i = 0; i < sizeof cases_ / sizeof cases_[0]; i++) {
        qz_model_tensor tensors[2] = {cases_[i].tensors[0], cases_[i].tensors[1]};
        char *header;
        size_t n;
        uint64_t all;
        qz_file_error error = QZ_FILE_ERROR_INIT;
        qz_file_result result = qz_gguf_format(tensors, cases_[i].count, cases_[i].values, cases_[i].value_count,
                                               &header, &n, &all, "out.gguf", &error);
        if (result != QZ_FILE_ARGUMENT || !strstr(error.message, cases_[i].words))
            fail_msg("%s: result %d, %s\n", cases_[i].words, result, error.message);
        assert_non_null(strstr(error.message, "out.gguf"));
        assert_null(header);
    }
    /* What is the longest that can be written. */
    qz_model_tensor named = {long_name, 63, 24, 1, one, 0, 0};
    char *header;
    size_t n;
    uint64_t all;
    assert_int_equal(qz_gguf_format(&named, 1, &good, 1, &header, &n, &all, "f", NULL), QZ_FILE_OK);
    free(header);
}

/* ---- files that are opened ---- */

/* The blocks of a tensor, one of which is no good, are not copied either. */
static void copy_blocks(const bytes *b, int tensor, const char *words)
{
    qz_file_error error = QZ_FILE_ERROR_INIT;
    qz_file *file;
    qz_writer *writer;
    size_t index;
    put_file(path_of("a.gguf"), b->data, b->n);
    assert_int_equal(qz_open(path_of("a.gguf"), NULL, &file, &error), QZ_FILE_OK);
    assert_int_equal(qz_create(path_of("b.gguf"), NULL, &writer, &error), QZ_FILE_OK);
    assert_int_equal(qz_stored_declare(writer, file, (size_t)tensor, &index, &error), QZ_FILE_OK);
    const uint64_t count = qz_tensor_at(file, (size_t)tensor)->count;
    assert_int_equal(qz_stored_copy(file, (size_t)tensor, writer, index, 0, count, &error), QZ_FILE_FORMAT);
    assert_non_null(strstr(error.message, words));
    qz_abort(writer);
    qz_close(file);
}

/* Types that become floats are noted once each; a block whose scale is not finite is refused when it is read. */
static void decoded_types(void **state)
{
    (void)state;
    enum { Q5_0 = 6, Q8_0 = 8 };
    bytes b;
    start_file(&b, 3, 4, 0);
    add_info(&b, "a", Q8_0, 0, 1, SIZE(32));
    add_info(&b, "b", Q5_0, 64, 1, SIZE(64));
    add_info(&b, "c", Q8_0, 128, 1, SIZE(64));
    add_info(&b, "d", Q5_0, 224, 1, SIZE(32));
    pad(&b, 32);
    size_t data = b.n;
    for (int i = 0; i < 224 + 32; i++)
        add(&b, "", 1);
    put_file(path_of("a.gguf"), b.data, b.n);
    qz_file *file;
    assert_int_equal(qz_open(path_of("a.gguf"), NULL, &file, NULL), QZ_FILE_OK);
    assert_string_equal(qz_note(file), "decoded to float32: Q8_0, Q5_0");
    qz_close(file);
    expect("zeros", "a.gguf", &b, NULL, QZ_FILE_OK, NULL);
    const struct {
        size_t at;
        const char *words;
    } scales[] = {{0, "block 0 of type Q8_0"}, {64 + 22, "block 1 of type Q5_0"}, {128 + 34, "block 1 of type Q8_0"}};
    for (int i = 0; i < 3; i++) {
        memcpy(b.data + data + scales[i].at, i == 1 ? "\0\x7c" : "\1\xfe", 2); /* infinite, NaN */
        expect("a scale", "a.gguf", &b, NULL, QZ_FILE_FORMAT, scales[i].words);
        copy_blocks(&b, i, scales[i].words);
        memset(b.data + data + scales[i].at, 0, 2);
    }
    clear(&b);
}

static void put_part(const char *name, unsigned number, unsigned count)
{
    bytes b;
    start_file(&b, 3, 1, 2);
    add_key(&b, "split.no", 2);
    add_number(&b, number, 2);
    add_key(&b, "split.count", 2);
    add_number(&b, count, 2);
    add_info(&b, name, 24, 0, 1, SIZE(4));
    pad(&b, 32);
    add(&b, "abcd", 4);
    put_file(path_of(name), b.data, b.n);
    clear(&b);
}

static qz_file_result open_parts(const char *name, const char *words)
{
    qz_file *file;
    qz_file_error error = QZ_FILE_ERROR_INIT;
    qz_file_result result = qz_open(path_of(name), NULL, &file, &error);
    if (words && !strstr(error.message, words))
        fail_msg("%s: %s\n", name, error.message);
    if (result == QZ_FILE_OK)
        assert_int_equal(qz_tensor_count(file), 2);
    qz_close(file);
    return result;
}

/* Names and what parts say of themselves agree, and the first one is opened. */
static void parts(void **state)
{
    (void)state;
    static const char *const one = "m-00001-of-00002.gguf", *const two = "m-00002-of-00002.gguf";
    char before[1000];
    put_part(one, 0, 2);
    put_part(two, 1, 2);
    assert_int_equal(open_parts(one, NULL), QZ_FILE_OK);
    assert_int_equal(open_parts(two, "open the first one"), QZ_FILE_FORMAT);
    assert_non_null(getcwd(before, sizeof before));
    assert_int_equal(chdir(folder), 0);
    qz_file *file;
    qz_open_options more = QZ_OPEN_OPTIONS_INIT;
    more.max_table = UINT64_C(1) << 30;                             /* a header can be as long */
    assert_int_equal(qz_open(one, &more, &file, NULL), QZ_FILE_OK); /* without a folder in the path */
    qz_close(file);
    assert_int_equal(chdir(before), 0);
    put_part(two, 1, 3);
    assert_int_equal(open_parts(one, "says that it is part 2 of 3"), QZ_FILE_FORMAT);
    put_part(two, 0, 2);
    assert_int_equal(open_parts(one, "says that it is part 1 of 2"), QZ_FILE_FORMAT);
    put_part(two, 1, 1);
    assert_int_equal(open_parts(one, "split.no"), QZ_FILE_FORMAT);
    put_part(one, 0, 3);
    assert_int_equal(open_parts(one, "does not end in"), QZ_FILE_FORMAT);
    put_part(one, 1, 2);
    assert_int_equal(open_parts(one, "does not end in"), QZ_FILE_FORMAT);
    put_part(one, 0, 2);
    unlink(path_of(two));
    assert_int_equal(open_parts(one, two), QZ_FILE_FORMAT);
    put_part("m-00001-of-00003.gguf", 0, 3);
    put_part("m-00003-of-00003.gguf", 2, 3);
    assert_int_equal(open_parts("m-00001-of-00003.gguf", "m-00002-of-00003.gguf"), QZ_FILE_FORMAT);
}

int main(void)
{
    start_program("test_gguf");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(least),       cmocka_unit_test(values),        cmocka_unit_test(types),
        cmocka_unit_test(shapes),      cmocka_unit_test(bad_starts),    cmocka_unit_test(bad_values),
        cmocka_unit_test(bad_tensors), cmocka_unit_test(rounding),      cmocka_unit_test(limits),
        cmocka_unit_test(shrinking),   cmocka_unit_test(sparse),        cmocka_unit_test(every_prefix),
        cmocka_unit_test(every_bit),   cmocka_unit_test(many),          cmocka_unit_test(known_bytes),
        cmocka_unit_test(not_written), cmocka_unit_test(decoded_types), cmocka_unit_test(parts),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
