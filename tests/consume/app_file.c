/* Uses the file library, and the core library through it: writes an array and reads it back. */
#include <quantize.h>
#include <quantize_file.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    const float x[3] = {1, 2, 3};
    const uint64_t shape = 3;
    const qz_tensor tensor = {.name = "x", .name_length = 1, .element = QZ_ELEMENT_F32, .rank = 1, .shape = &shape};
    const char *path = argc > 1 ? argv[1] : "app_file.npz";
    qz_create_options options = QZ_CREATE_OPTIONS_INIT;
    qz_file_error error = QZ_FILE_ERROR_INIT;
    qz_writer *writer;
    qz_file *file;
    float y[3] = {0};
    options.replace = 1;
    if (qz_create(path, &options, &writer, &error) != QZ_FILE_OK ||
        qz_declare(writer, &tensor, NULL, &error) != QZ_FILE_OK || qz_write(writer, 0, 0, 3, x, &error) != QZ_FILE_OK ||
        qz_commit(writer, &error) != QZ_FILE_OK || qz_open(path, NULL, &file, &error) != QZ_FILE_OK ||
        qz_read(file, 0, 0, 3, y, &error) != QZ_FILE_OK)
        return puts(error.message), 1;
    qz_close(file);
    printf("%g %g %g %s\n", (double)y[0], (double)y[1], (double)y[2], qz_version());
    return 0;
}
