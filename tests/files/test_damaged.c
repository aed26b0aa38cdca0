/*
 * test_damaged.c - good files of every container and layout, cut off at every byte, with every bit turned, with numbers
 * that are too large
 *
 * The files are those of tests/fuzz/seeds, which the fuzzer begins with too. Whatever is done to them, they are read or
 * refused, within bounds of memory and time; try_file.h has the laws. The short run takes a part of the bits and
 * places.
 */
#include "support.h"

#include <malloc.h>
#include <signal.h>

#include "seeds.h"

enum { MEMORY = 64 << 20, SECONDS = 30 };

/* ---- memory: the linker puts these before the functions of the C library ---- */

static size_t used, most;

#if defined(QZ_COUNTS_MEMORY)
void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t each);
void *__real_realloc(void *old, size_t n);
void __real_free(void *old);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t each);
void *__wrap_realloc(void *old, size_t n);
void __wrap_free(void *old);

static void *counted(void *made)
{
    used += made ? malloc_usable_size(made) : 0;
    most = used > most ? used : most;
    return made;
}

void *__wrap_malloc(size_t n)
{
    return counted(__real_malloc(n));
}

void *__wrap_calloc(size_t n, size_t each)
{
    return counted(__real_calloc(n, each));
}

void *__wrap_realloc(void *old, size_t n)
{
    size_t before = old ? malloc_usable_size(old) : 0;
    void *made = __real_realloc(old, n);
    used -= made ? before : 0;
    return counted(made);
}

void __wrap_free(void *old)
{
    size_t gone = old ? malloc_usable_size(old) : 0;
    used -= gone < used ? gone : used; /* some came from a function that is not counted, as strdup() */
    __real_free(old);
}
#endif

/* ---- damage ---- */

static tried try_seed(const seed *s)
{
    char path[600];
    used = most = 0;
    alarm(SECONDS);
    tried t = try_path(path_of_seed(s, path));
    alarm(0);
    law(most < MEMORY, "memory is bounded");
    return t;
}

static void too_long(int number)
{
    static const char broken[] = ": broken: a file takes no time\n";
    (void)number;
    ssize_t told = write(STDERR_FILENO, trying, strlen(trying));
    told = told < 0 ? told : write(STDERR_FILENO, broken, sizeof broken - 1);
    (void)told; /* nothing can be done about it */
    abort();
}

typedef struct tally {
    size_t tried, read, most;
} tally;

static void count_one(tally *sum, tried t)
{
    sum->tried++;
    sum->read += t.result == QZ_FILE_OK;
    sum->most = most > sum->most ? most : sum->most;
}

/* How many bits lie between two that are turned, and bytes between two places where a file is cut. */
static size_t step(size_t in_short, size_t in_long)
{
    return getenv("QZ_TEST_SHORT") ? in_short : in_long;
}

static void turn_bits(const seed *s, const bundled *file, size_t first, tally *sum)
{
    bytes b = {0};
    add(&b, file->data, file->n);
    for (size_t bit = first % step(7, 1); bit < 8 * file->n; bit += step(7, 1)) {
        snprintf(trying, sizeof trying, "%s/%s: bit %zu of byte %zu of %s", s->group, s->name, bit % 8, bit / 8,
                 file->name);
        b.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        put_piece(file->name, b.data, b.n);
        count_one(sum, try_seed(s));
        b.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    put_piece(file->name, b.data, b.n);
    clear(&b);
}

/* Numbers that wrap, are negative, or are as large as they get, in each place where one could stand. */
static void set_numbers(const seed *s, const bundled *file, size_t first, tally *sum)
{
    static const struct {
        uint64_t value;
        size_t n;
    } numbers[] = {{UINT64_MAX, 8}, {UINT64_MAX, 4}, {UINT64_C(1) << 63, 8}, {INT64_MAX, 8}, {UINT64_C(1) << 61, 8},
                   {0, 8},          {UINT64_MAX, 2}, {INT32_MAX, 4},         {0, 2},         {'9', 1}};
    enum { NUMBERS = sizeof numbers / sizeof numbers[0] };
    bytes b = {0};
    for (size_t i = first % step(19, 3); i < NUMBERS * file->n; i += step(19, 3)) {
        size_t at = i / NUMBERS, n = numbers[i % NUMBERS].n;
        if (at + n > file->n)
            break;
        add(&b, file->data, file->n);
        set_number(&b, at, numbers[i % NUMBERS].value, n);
        snprintf(trying, sizeof trying, "%s/%s: number %zu at byte %zu of %s", s->group, s->name, i % NUMBERS, at,
                 file->name);
        put_piece(file->name, b.data, b.n);
        count_one(sum, try_seed(s));
        b.n = 0;
    }
    put_piece(file->name, file->data, file->n);
    clear(&b);
}

static void cut_off(const seed *s, const bundled *file, size_t first, tally *sum)
{
    for (size_t n = first % step(3, 1); n < file->n; n += step(3, 1)) {
        snprintf(trying, sizeof trying, "%s/%s: %s, %zu bytes of %zu", s->group, s->name, file->name, n, file->n);
        put_piece(file->name, file->data, n);
        count_one(sum, try_seed(s));
    }
    put_piece(file->name, file->data, file->n);
}

static void every_seed(void (*damage)(const seed *, const bundled *, size_t, tally *), const char *what)
{
    tally sum = {0};
    for (size_t i = 0; i < seed_count; i++) {
        bundled files[FILES_OF_A_BUNDLE];
        size_t count = files_of(&seeds[i], files);
        put_all(files, count);
        for (size_t k = 0; k < count; k++)
            damage(&seeds[i], &files[k], i + k, &sum);
        remove_files(files, count);
    }
    printf("%s: %zu files, %zu of them read, at most %zu KiB of memory\n", what, sum.tried, sum.read, sum.most >> 10);
    assert_true(sum.tried > 10 * seed_count && sum.read < sum.tried);
}

static void bits_are_turned(void **state)
{
    (void)state;
    every_seed(turn_bits, "bits turned");
}

static void numbers_are_set(void **state)
{
    (void)state;
    every_seed(set_numbers, "numbers set");
}

static void files_are_cut_off(void **state)
{
    (void)state;
    every_seed(cut_off, "cut off");
}

/* Groups of files without quantized tensors, and of blocks that are not all of a type that is decoded. */
static int is_plain(const char *group)
{
    static const char *const plain[] = {"npy", "npz", "safetensors", "gguf", "folders", "blocks"};
    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++)
        if (strcmp(plain[i], group) == 0)
            return 1;
    return 0;
}

static void good_ones_are_read(void **state)
{
    (void)state;
    size_t quantized = 0;
    assert_true(seed_count >= 30);
    for (size_t i = 0; i < seed_count; i++) {
        bundled files[FILES_OF_A_BUNDLE];
        size_t count = files_of(&seeds[i], files);
        put_all(files, count);
        snprintf(trying, sizeof trying, "%s/%s", seeds[i].group, seeds[i].name);
        tried t = try_seed(&seeds[i]);
        remove_files(files, count);
        law(t.result == QZ_FILE_OK && t.tensors != 0, "a good file is read");
        law(is_plain(seeds[i].group) || t.quantized == 1, "a layout has a quantized tensor");
        law(t.decoded == t.quantized, "it is decoded");
        quantized += t.quantized;
    }
    printf("%zu good files, %zu of them quantized\n", seed_count, quantized);
    for (size_t i = 0; qz_layout_at(i); i++) {
        size_t k = 0;
        while (k < seed_count && strcmp(seeds[k].group, qz_layout_at(i)) != 0)
            k++;
        if (k == seed_count && strcmp(qz_layout_at(i), "gguf") != 0)
            fail_msg("no seeds for the layout %s", qz_layout_at(i));
    }
}

static int begin(void **state)
{
    signal(SIGALRM, too_long);
    return take_seeds(state);
}

int main(void)
{
    start_program("test_damaged");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_ones_are_read),
        cmocka_unit_test(bits_are_turned),
        cmocka_unit_test(numbers_are_set),
        cmocka_unit_test(files_are_cut_off),
    };
    return cmocka_run_group_tests(tests, begin, drop_seeds);
}
