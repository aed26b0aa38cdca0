/*
 * test_eight.c - codes of eight bits: numbers of two bytes, the rule, and what reading and writing refuse
 *
 * tests/cli/test_eight.py compares the bytes with those of other programs.
 */
#include "support.h"

#include <math.h>

#include "eight_codes.h"

static uint32_t state_of_random = 1;

static uint32_t any(void)
{
    state_of_random = state_of_random * 1664525u + 1013904223u;
    return state_of_random >> 8;
}

/* ---- numbers of two bytes ---- */

/* What a float16 is, by its definition. */
static double value_of(unsigned half)
{
    int exponent = half >> 10 & 31, fraction = half & 1023;
    double magnitude = exponent == 0 ? ldexp(fraction, -24) : ldexp(1024 + fraction, exponent - 25);
    return half & 0x8000 ? -magnitude : magnitude;
}

static void halves_are_their_values(void **state)
{
    (void)state;
    for (unsigned half = 0; half < 0x10000; half++) {
        const float value = qz_half_value((uint16_t)half);
        if ((half & 0x7c00) == 0x7c00) {
            assert_false(qz_half_is_finite((uint16_t)half));
            assert_true(half & 1023 ? isnan(value) : isinf(value) && !signbit(value) == !(half >> 15));
            continue;
        }
        assert_true(qz_half_is_finite((uint16_t)half));
        assert_true((double)value == value_of(half) && !signbit(value) == !(half & 0x8000));
        assert_int_equal(qz_half_of(value), half);
    }
}

/* Between two neighbours lies a float32 that is as far from both, and one on each side of it. */
static void floats_go_to_the_nearest_half(void **state)
{
    (void)state;
    for (unsigned half = 0; half < 0x7bff; half++) {
        const float middle = (float)((value_of(half) + value_of(half + 1)) / 2);
        const unsigned even = half % 2 == 0 ? half : half + 1;
        assert_int_equal(qz_half_of(nextafterf(middle, 0)), half);
        assert_int_equal(qz_half_of(middle), even);
        assert_int_equal(qz_half_of(nextafterf(middle, INFINITY)), half + 1);
        assert_int_equal(qz_half_of(-middle), even | 0x8000);
    }
    assert_int_equal(qz_half_of(nextafterf(65520, 0)), 0x7bff);
    assert_int_equal(qz_half_of(65520), 0x7c00);
    assert_int_equal(qz_half_of(-INFINITY), 0xfc00);
    assert_int_equal(qz_half_of(0x1p-149f), 0);
    assert_int_equal(qz_half_of(NAN) & 0x7e00, 0x7e00);
}

static void elements_become_floats(void **state)
{
    (void)state;
    const double wide[] = {0.1, 1e300, -3};
    const uint16_t half[] = {0x3c00, 0xc000, 1}, brain[] = {0x3f80, 0xc000, 0x7f80};
    const float single[] = {1.5f, -0.0f, 3};
    float out[3];
    assert_true(qz_element_floats(QZ_ELEMENT_F64, wide, 3, out));
    assert_true(out[0] == 0.1f && isinf(out[1]) && out[2] == -3);
    assert_true(qz_element_floats(QZ_ELEMENT_F16, half, 3, out));
    assert_true(out[0] == 1 && out[1] == -2 && out[2] == 0x1p-24f);
    assert_true(qz_element_floats(QZ_ELEMENT_BF16, brain, 3, out));
    assert_true(out[0] == 1 && out[1] == -2 && isinf(out[2]));
    assert_true(qz_element_floats(QZ_ELEMENT_F32, single, 3, out));
    assert_memory_equal(out, single, sizeof out);
    assert_false(qz_element_floats(QZ_ELEMENT_I8, single, 3, out));
}

/* ---- the rule ---- */

static void the_largest_value_has_the_last_code(void **state)
{
    (void)state;
    for (int i = 0; i < 100000; i++) {
        float values[32], decoded[32], largest = 0;
        int8_t codes[32];
        uint16_t scale;
        const size_t count = 1 + any() % 32;
        for (size_t k = 0; k < count; k++) {
            values[k] = ldexpf((float)(int)(any() % 20001) - 10000, -(int)(any() % 20));
            largest = fabsf(values[k]) > largest ? fabsf(values[k]) : largest;
        }
        assert_int_equal(qz_eight_encode(values, count, codes, &scale), count);
        qz_eight_decode(codes, &scale, count, decoded);
        for (size_t k = 0; k < count; k++) {
            assert_true(abs(codes[k]) <= 127);
            if (fabsf(values[k]) == largest && largest != 0)
                assert_int_equal(abs(codes[k]), 127);
            assert_true(decoded[k] == (float)codes[k] * qz_half_value(scale));
            /* Half a step, and what the scale lost on its way to float16. */
            const double step = (double)largest / 127, lost = fabs((double)qz_half_value(scale) - step);
            assert_true(fabs((double)values[k] - (double)decoded[k]) <= step * 0.500001 + 127 * lost);
        }
    }
}

static void halves_go_away_from_0(void **state)
{
    (void)state;
    const float values[] = {127, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, 0.49999997f, -126.5f};
    const int8_t wanted[] = {127, 1, 2, 3, -1, -2, 0, -127};
    int8_t codes[8];
    uint16_t scale;
    assert_int_equal(qz_eight_encode(values, 8, codes, &scale), 8);
    assert_memory_equal(codes, wanted, sizeof wanted);
    assert_int_equal(scale, 0x3c00);
}

static void groups_that_cannot_be_encoded_are_named(void **state)
{
    (void)state;
    const float wrong[] = {NAN, INFINITY, -INFINITY, 65520.0f * 127, -3e38f};
    for (size_t w = 0; w < sizeof wrong / sizeof wrong[0]; w++)
        for (size_t at = 0; at < 70; at++) {
            float values[70] = {0};
            int8_t codes[70];
            uint16_t scales[3];
            values[at] = wrong[w];
            assert_int_equal(qz_eight_encode(values, 70, codes, scales), at / 32 * 32);
        }
}

/* ---- files ---- */

/* Values from the middle of groups on, and codes in whole groups, are those that were written, in any order. */
static void parts_are_read_and_written(void **state)
{
    (void)state;
    enum { COUNT = 5 * 64 };
    static const char *const ends[] = {"a.npz", "a.safetensors", "a.gguf"};
    const uint64_t shape[] = {5, 64};
    const qz_tensor tensor = {.name = "w", .name_length = 1, .element = QZ_ELEMENT_F64, .rank = 2, .shape = shape};
    int8_t codes[COUNT], found[COUNT];
    uint16_t scales[COUNT / 32], found_scales[COUNT / 32];
    float values[COUNT], part[COUNT];
    for (int i = 0; i < COUNT; i++)
        codes[i] = (int8_t)any();
    for (int i = 0; i < COUNT / 32; i++)
        scales[i] = (uint16_t)(any() % 0x7c00);
    qz_eight_decode(codes, scales, COUNT, values);
    for (size_t e = 0; e < 3; e++) {
        qz_create_options options = QZ_CREATE_OPTIONS_INIT;
        qz_file_error error = QZ_FILE_ERROR_INIT;
        qz_writer *writer;
        qz_file *file;
        size_t index;
        options.replace = 1;
        assert_int_equal(qz_create(path_of(ends[e]), &options, &writer, &error), QZ_FILE_OK);
        assert_int_equal(qz_eight_declare(writer, &tensor, &index, &error), QZ_FILE_OK);
        /* Not in whole groups, beyond the end, of another tensor, a scale that is infinite. */
        assert_int_equal(qz_eight_write(writer, index, 0, 33, codes, scales, &error), QZ_FILE_ARGUMENT);
        assert_int_equal(qz_eight_write(writer, index, 1, 32, codes, scales, &error), QZ_FILE_ARGUMENT);
        assert_int_equal(qz_eight_write(writer, index, 0, COUNT + 32, codes, scales, &error), QZ_FILE_ARGUMENT);
        assert_int_equal(qz_eight_write(writer, index + 7, 0, 32, codes, scales, &error), QZ_FILE_ARGUMENT);
        const uint16_t infinite = 0x7c00;
        assert_int_equal(qz_eight_write(writer, index, 0, 32, codes, &infinite, &error), QZ_FILE_ARGUMENT);
        for (int first = COUNT - 64; first >= 0; first -= 64)
            assert_int_equal(
                qz_eight_write(writer, index, (uint64_t)first, 64, codes + first, scales + first / 32, &error),
                QZ_FILE_OK);
        assert_int_equal(qz_commit(writer, &error), QZ_FILE_OK);

        assert_int_equal(qz_open(path_of(ends[e]), NULL, &file, &error), QZ_FILE_OK);
        const size_t at = qz_tensor_find(file, "w", 1);
        const qz_tensor *t = qz_tensor_at(file, at);
        assert_true(t && t->element == QZ_ELEMENT_F32 && t->count == COUNT && qz_eight_is(file, at));
        for (uint64_t first = 0; first <= COUNT; first += 7)
            for (uint64_t count = 0; first + count <= COUNT; count += 23) {
                assert_int_equal(qz_read(file, at, first, count, part, &error), QZ_FILE_OK);
                assert_memory_equal(part, values + first, count * sizeof *part);
            }
        for (uint64_t first = 0; first < COUNT; first += 32) {
            const uint64_t count = COUNT - first;
            assert_int_equal(qz_eight_read(file, at, first, count, found, found_scales, &error), QZ_FILE_OK);
            assert_memory_equal(found, codes + first, count);
            assert_memory_equal(found_scales, scales + first / 32, count / 32 * sizeof *scales);
        }
        assert_int_equal(qz_eight_read(file, at, 3, 32, found, found_scales, &error), QZ_FILE_ARGUMENT);
        assert_int_equal(qz_eight_read(file, at, 0, 31, found, found_scales, &error), QZ_FILE_ARGUMENT);
        assert_int_equal(qz_eight_read(file, at, 0, COUNT + 1, found, found_scales, &error), QZ_FILE_ARGUMENT);
        assert_int_equal(qz_eight_read(file, 99, 0, 32, found, found_scales, &error), QZ_FILE_ARGUMENT);
        assert_false(qz_eight_is(file, 99));
        qz_close(file);
        unlink(path_of(ends[e]));
    }
}

/* Copies the tensor of a file to another one as codes, and misuses that first. */
static void copy_codes(const char *from, const char *to, uint64_t count)
{
    const qz_create_options options = QZ_CREATE_OPTIONS_INIT;
    qz_file_error error = QZ_FILE_ERROR_INIT;
    qz_writer *writer;
    qz_file *file;
    size_t index;
    assert_int_equal(qz_open(path_of(from), NULL, &file, &error), QZ_FILE_OK);
    const size_t at = qz_tensor_find(file, "w", 1);
    const int is_gguf = strcmp(to, "b.gguf") == 0;
    assert_string_equal(qz_stored_as(file, at), "Q8_0");
    assert_null(qz_stored_as(file, 99));
    assert_true(qz_stored_stays(file, at, "own") && qz_stored_stays(file, at, "gguf"));
    assert_false(qz_stored_stays(file, at, "mlx") || qz_stored_stays(file, 99, "gguf"));
    assert_int_equal(qz_create(path_of(to), &options, &writer, &error), QZ_FILE_OK);
    assert_int_equal(qz_stored_declare(writer, file, 99, &index, &error), QZ_FILE_REFUSED);
    assert_int_equal(qz_stored_copy(file, at, writer, 0, 0, 32, &error), QZ_FILE_ARGUMENT);
    assert_int_equal(qz_stored_declare(writer, file, at, &index, &error), QZ_FILE_OK);
    assert_int_equal(qz_stored_copy(file, 99, writer, index, 0, 32, &error), QZ_FILE_ARGUMENT);
    assert_int_equal(qz_stored_copy(file, at, writer, index, 1, 32, &error), QZ_FILE_ARGUMENT);
    assert_int_equal(qz_stored_copy(file, at, writer, index, 0, 33, &error), QZ_FILE_ARGUMENT);
    assert_int_equal(qz_stored_copy(file, at, writer, index, 0, count + 32, &error), QZ_FILE_ARGUMENT);
    assert_int_equal(qz_stored_copy(file, at, writer, index, 64, count - 64, &error), QZ_FILE_OK);
    assert_int_equal(qz_stored_copy(file, at, writer, index, 0, 64, &error), QZ_FILE_OK);
    assert_int_equal(qz_commit(writer, &error), QZ_FILE_OK);
    qz_close(file);
    assert_int_equal(qz_open(path_of(to), NULL, &file, &error), QZ_FILE_OK);
    assert_int_equal(strcmp(qz_container(file), "gguf") == 0, is_gguf);
    assert_string_equal(qz_stored_as(file, qz_tensor_find(file, "w", 1)), "Q8_0");
    qz_close(file);
}

/* From each kind of file to each other the codes stay, also those that no encoder makes. */
static void codes_are_copied(void **state)
{
    (void)state;
    enum { COUNT = 6 * 64 };
    static const char *const from[] = {"a.npz", "a.gguf"}, *const to[] = {"b.safetensors", "b.gguf"};
    const uint64_t shape[] = {6, 64};
    const qz_tensor tensor = {.name = "w", .name_length = 1, .rank = 2, .shape = shape};
    int8_t codes[COUNT], found[COUNT];
    uint16_t scales[COUNT / 32], found_scales[COUNT / 32];
    for (int i = 0; i < COUNT; i++)
        codes[i] = (int8_t)any();
    for (int i = 0; i < COUNT / 32; i++)
        scales[i] = (uint16_t)(any() % 0x7c00);
    for (size_t i = 0; i < 4; i++) {
        const char *a = from[i / 2], *b = to[i % 2];
        const qz_create_options options = QZ_CREATE_OPTIONS_INIT;
        qz_file_error error = QZ_FILE_ERROR_INIT;
        qz_writer *writer;
        qz_file *file;
        size_t index;
        assert_int_equal(qz_create(path_of(a), &options, &writer, &error), QZ_FILE_OK);
        assert_int_equal(qz_eight_declare(writer, &tensor, &index, &error), QZ_FILE_OK);
        assert_int_equal(qz_eight_write(writer, index, 0, COUNT, codes, scales, &error), QZ_FILE_OK);
        assert_int_equal(qz_commit(writer, &error), QZ_FILE_OK);
        copy_codes(a, b, COUNT);
        assert_int_equal(qz_open(path_of(b), NULL, &file, &error), QZ_FILE_OK);
        const size_t at = qz_tensor_find(file, "w", 1);
        assert_int_equal(qz_eight_read(file, at, 0, COUNT, found, found_scales, &error), QZ_FILE_OK);
        assert_memory_equal(found, codes, sizeof codes);
        assert_memory_equal(found_scales, scales, sizeof scales);
        qz_close(file);
        unlink(path_of(a));
        unlink(path_of(b));
    }
}

/* A tensor that was not written to its end is no file; nor is one that does not fit. */
static void unfinished_or_misplaced(void **state)
{
    (void)state;
    const uint64_t odd[] = {3, 33}, many[] = {1, 1, 1, 1, 32};
    qz_tensor tensor = {.name = "w", .name_length = 1, .rank = 2, .shape = odd};
    int8_t codes[99] = {0};
    uint16_t scales[4] = {0};
    qz_create_options options = QZ_CREATE_OPTIONS_INIT;
    qz_file_error error = QZ_FILE_ERROR_INIT;
    qz_writer *writer;
    size_t index;
    assert_int_equal(qz_create(path_of("a.gguf"), &options, &writer, &error), QZ_FILE_OK);
    assert_int_equal(qz_eight_declare(writer, &tensor, &index, &error), QZ_FILE_REFUSED);
    assert_non_null(strstr(error.message, "rows of 33 values are no whole blocks"));
    tensor.rank = 5;
    tensor.shape = many;
    assert_int_equal(qz_eight_declare(writer, &tensor, &index, &error), QZ_FILE_REFUSED);
    tensor.rank = 0;
    assert_int_equal(qz_eight_declare(writer, &tensor, &index, &error), QZ_FILE_REFUSED);
    qz_abort(writer);
    assert_int_equal(qz_create(path_of("a.npz"), &options, &writer, &error), QZ_FILE_OK);
    tensor.rank = 2;
    tensor.shape = odd;
    assert_int_equal(qz_eight_declare(writer, &tensor, &index, &error), QZ_FILE_OK);
    assert_int_equal(qz_eight_declare(writer, &tensor, &index, &error), QZ_FILE_REFUSED); /* twice */
    qz_tensor plain = tensor;
    plain.element = QZ_ELEMENT_F32; /* and so is this: a reader gives both the name */
    assert_int_equal(qz_declare(writer, &plain, NULL, &error), QZ_FILE_REFUSED);
    assert_int_equal(qz_eight_write(writer, index, 0, 64, codes, scales, &error), QZ_FILE_OK);
    assert_int_equal(qz_commit(writer, &error), QZ_FILE_ARGUMENT);
    assert_int_equal(access(path_of("a.npz"), F_OK), -1);
    assert_int_equal(qz_create(path_of("a.npy"), &options, &writer, &error), QZ_FILE_OK);
    assert_int_equal(qz_eight_declare(writer, &tensor, &index, &error), QZ_FILE_ARGUMENT); /* two members */
    qz_abort(writer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(halves_are_their_values),    cmocka_unit_test(floats_go_to_the_nearest_half),
        cmocka_unit_test(elements_become_floats),     cmocka_unit_test(the_largest_value_has_the_last_code),
        cmocka_unit_test(halves_go_away_from_0),      cmocka_unit_test(groups_that_cannot_be_encoded_are_named),
        cmocka_unit_test(parts_are_read_and_written), cmocka_unit_test(codes_are_copied),
        cmocka_unit_test(unfinished_or_misplaced),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
