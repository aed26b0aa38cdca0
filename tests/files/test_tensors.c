/*
 * test_tensors.c - what every container relies on: the list of tensors, the table of containers
 */
#include "system.h" /* first: the structures of the library have 64-bit offsets */

#include "support.h"

#include "container.h"
#include "tensors.h"

static qz_file_result read_nothing(qz_file *file, size_t tensor, uint64_t offset, void *dst, size_t count,
                                   qz_file_error *error)
{
    (void)file, (void)tensor, (void)offset, (void)dst, (void)count, (void)error;
    return QZ_FILE_OK;
}

static const qz_container_type plain_kind = {.name = "plain", .extension = ".plain"};
static const qz_container_type own_kind = {.name = "own", .extension = ".own", .read = read_nothing};

/* A file of 100 bytes that is not there. */
static qz_file *new_file(const qz_container_type *container)
{
    qz_file *file = calloc(1, sizeof *file);
    assert_non_null(file);
    file->container = container;
    file->input = (qz_input){.fd = -1, .label = strdup("file"), .size = 100};
    return file;
}

static qz_tensor describe(const char *name, unsigned rank, const uint64_t *shape)
{
    return (qz_tensor){.name = name,
                       .name_length = strlen(name),
                       .element = QZ_ELEMENT_F32,
                       .rank = rank,
                       .shape = shape,
                       .count = 77,
                       .bytes = 77,
                       .type_bytes = 77};
}

static void sizes_and_shapes(void **state)
{
    (void)state;
    qz_file *file = new_file(&plain_kind);
    uint64_t shape[2] = {5, 2};
    qz_tensor t = describe("a", 2, shape);
    t.column_major = 1;
    assert_int_equal(qz_file_add(file, &t, 60, NULL), QZ_FILE_OK);
    shape[0] = 3;
    t = describe("b", 1, shape);
    t.element = QZ_ELEMENT_RAW;
    t.type = "<U1";
    t.type_bytes = 4;
    assert_int_equal(qz_file_add(file, &t, 0, NULL), QZ_FILE_OK);
    t = describe("", 0, NULL);
    assert_int_equal(qz_file_add(file, &t, 96, NULL), QZ_FILE_OK);
    assert_int_equal(qz_tensor_count(file), 3);
    const qz_tensor *a = qz_tensor_at(file, 0), *b = qz_tensor_at(file, 1), *c = qz_tensor_at(file, 2);
    assert_true(a->shape[0] == 5 && a->shape[1] == 2 && a->rank == 2 && a->column_major);
    assert_true(a->count == 10 && a->bytes == 40 && a->type_bytes == 4);
    assert_true(b->count == 12 && b->bytes == 12 && b->type_bytes == 4);
    assert_true(c->count == 1 && c->bytes == 4);
    assert_int_equal(qz_tensor_find(file, "b", 1), 1);
    assert_int_equal(qz_tensor_find(file, "", 0), 2);
    qz_close(file);
}

static void wrong_descriptions(void **state)
{
    (void)state;
    static const uint64_t five[1] = {5}, none[2] = {0, UINT64_MAX}, huge[2] = {UINT64_C(1) << 62, 8};
    static const uint64_t ones[QZ_MAX_RANK + 1] = {1};
    static const struct {
        const char *name;
        unsigned rank;
        const uint64_t *shape;
        uint64_t offset;
        const char *words; /* NULL: nothing is wrong */
    } cases_[] = {
        {"a", 1, five, 80, NULL},
        {"b", 1, five, 81, "beyond the end"},
        {"c", 1, five, UINT64_MAX - 10, "beyond the end"},
        {"d", 2, huge, 0, "2^63 - 1 bytes"},
        {"e", 2, none, 0, "2^63 - 1 bytes"},
        {"f", QZ_MAX_RANK + 1, ones, 0, "64 axes"},
        {"a", 1, five, 0, "occurs twice"},
        {"g", 0, NULL, 100, "beyond the end"},
    };
    for (int own = 0; own < 2; own++) {
        qz_file *file = new_file(own ? &own_kind : &plain_kind);
        for (size_t i = 0; i < sizeof cases_ / sizeof cases_[0]; i++) {
            qz_file_error error = QZ_FILE_ERROR_INIT;
            const qz_tensor t = describe(cases_[i].name, cases_[i].rank, cases_[i].shape);
            size_t before = qz_tensor_count(file);
            const char *words = cases_[i].words;
            if (own && words && strcmp(words, "beyond the end") == 0)
                words = NULL; /* a container that reads data itself knows where it ends */
            assert_int_equal(qz_file_add(file, &t, cases_[i].offset, &error), words ? QZ_FILE_FORMAT : QZ_FILE_OK);
            assert_int_equal(qz_tensor_count(file), words ? before : before + 1);
            if (words && (!strstr(error.message, words) || !strstr(error.message, "tensor '")))
                fail_msg("%s: \"%s\"\n", words, error.message);
        }
        qz_close(file);
    }
}

static void many_tensors(void **state)
{
    (void)state;
    enum { MANY = 1000 };
    qz_file *file = new_file(&plain_kind);
    const uint64_t shape[1] = {1};
    for (unsigned i = 0; i < MANY; i++) {
        char name[16];
        snprintf(name, sizeof name, "t%u", i);
        char *kept = qz_arena_text(&file->arena, name, strlen(name));
        assert_non_null(kept);
        const qz_tensor t = describe(kept, 1, shape);
        assert_int_equal(qz_file_add(file, &t, i % 25 * 4, NULL), QZ_FILE_OK);
    }
    for (unsigned i = 0; i < MANY; i++) {
        char name[16];
        snprintf(name, sizeof name, "t%u", i);
        assert_int_equal(qz_tensor_find(file, name, strlen(name)), i);
    }
    qz_close(file);
}

static void table_of_containers(void **state)
{
    (void)state;
    char text[200];
    static const uint8_t npy[] = "\x93NUMPY\x01", zip[] = "PK\x03\x04";
    assert_ptr_equal(qz_container_by_content(npy, 7, 7), &qz_container_npy);
    assert_ptr_equal(qz_container_by_content(zip, 4, 4), &qz_container_npz);
    assert_null(qz_container_by_content(zip, 3, 3));
    static const uint8_t safetensors[] = "\x02\0\0\0\0\0\0\0{}", gguf[] = "GGUF\3\0\0";
    assert_ptr_equal(qz_container_by_content(safetensors, 10, 10), &qz_container_safetensors);
    assert_ptr_equal(qz_container_by_content(gguf, 7, 7), &qz_container_gguf);
    assert_ptr_equal(qz_container_by_extension("x.npy"), &qz_container_npy);
    assert_ptr_equal(qz_container_by_extension("folder.npy/x.NpZ"), &qz_container_npz);
    assert_null(qz_container_by_extension("folder.npy/x"));
    assert_null(qz_container_by_extension("x.npy.txt"));
    assert_ptr_equal(qz_container_by_extension("x.safetensors"), &qz_container_safetensors);
    assert_string_equal(qz_container_list(1, ", ", " or ", text, sizeof text), ".npy, .npz, .safetensors or .gguf");
    assert_string_equal(qz_container_list(0, ", ", " or ", text, sizeof text),
                        ".npy, .npz, .safetensors, .gguf or .index.json");
    assert_string_equal(qz_container_list(0, "", "", text, 6), ".npy.");
}

int main(void)
{
    start_program("test_tensors");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_and_shapes),
        cmocka_unit_test(wrong_descriptions),
        cmocka_unit_test(many_tensors),
        cmocka_unit_test(table_of_containers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
