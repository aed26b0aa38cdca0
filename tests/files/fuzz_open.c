/*
 * fuzz_open.c - the readers against bytes that a fuzzer makes up, as a file or as a folder
 *
 *     clang -g -O1 -fsanitize=fuzzer,address,undefined -DQZ_LIBFUZZER -Iinclude -Ifiles tests/files/fuzz_open.c
 *           $(find files src -name '*.c') -lz -lm -pthread -o fuzz && ./fuzz corpus
 *
 * scripts/fuzz.py does it, with the files of tests/fuzz/seeds. Without QZ_LIBFUZZER it is a plain program that does the
 * same once with each file named on its command line: to look at what the fuzzer found, or to let another fuzzer drive
 * it.
 */
#include "try_file.h"

static void try_bytes(const char *place, const uint8_t *data, size_t n)
{
    bundled files[FILES_OF_A_BUNDLE];
    char path[600];
    size_t count = unbundle(data, n, files);
    if (!is_bundle(data, n)) {
        snprintf(path, sizeof path, "%s/one", place);
        put_bytes(path, data, n);
        try_path(path);
        unlink(path);
    }
    for (size_t i = 0; i < count; i++) {
        snprintf(path, sizeof path, "%s/%s", place, files[i].name);
        put_bytes(path, files[i].data, files[i].n);
    }
    if (count != 0)
        try_path(place);
    for (size_t i = 0; i < count; i++) {
        snprintf(path, sizeof path, "%s/%s", place, files[i].name);
        unlink(path);
    }
}

#if defined(QZ_LIBFUZZER)
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *place;
    if (!place)
        place = make_place();
    try_bytes(place, data, size);
    return 0;
}
#else
int main(int argc, char **argv)
{
    const char *place = make_place();
    for (int i = 1; i < argc; i++) {
        static uint8_t data[1 << 20];
        snprintf(trying, sizeof trying, "%s", argv[i]);
        int fd = open(argv[i], O_RDONLY | O_CLOEXEC);
        ssize_t n = fd >= 0 ? read(fd, data, sizeof data) : -1;
        if (fd >= 0)
            close(fd);
        if (n >= 0)
            try_bytes(place, data, (size_t)n);
    }
    rmdir(place);
    printf("%d files opened\n", argc - 1);
    return 0;
}
#endif
