/*
 * test_output.c - writing: an output appears whole and safe, or not at all
 */
#include "support.h"

#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/wait.h>
#if defined(__linux__)
#include <sched.h>
#include <sys/mount.h>
#endif

static const float values[6] = {1, 2, 3, 4, 5, 6};

/* Writes one small array; the result is that of the step that failed. */
static qz_file_result write_one(const char *path, const qz_create_options *options, qz_file_error *error)
{
    qz_writer *writer;
    const uint64_t shape[2] = {2, 3};
    qz_tensor t = {.name = "data", .name_length = 4, .element = QZ_ELEMENT_F32, .rank = 2, .shape = shape};
    size_t index;
    qz_file_result result = qz_create(path, options, &writer, error);
    if (result != QZ_FILE_OK)
        return result;
    result = qz_declare(writer, &t, &index, error);
    if (result == QZ_FILE_OK)
        result = qz_write(writer, index, 0, 6, values, error);
    if (result == QZ_FILE_OK)
        return qz_commit(writer, error);
    qz_abort(writer);
    return result;
}

static mode_t mode_of(const char *path)
{
    struct stat status;
    assert_int_equal(lstat(path, &status), 0);
    return status.st_mode;
}

static void replace_or_not(void **state)
{
    (void)state;
    qz_file_error error = QZ_FILE_ERROR_INIT;
    qz_create_options options = QZ_CREATE_OPTIONS_INIT;
    if (write_one(path_of("a.npy"), NULL, &error) != QZ_FILE_OK)
        fail_msg("%s\n", error.message);
    bytes first = get_file(path_of("a.npy"));

    assert_int_equal(write_one(path_of("a.npy"), NULL, &error), QZ_FILE_EXISTS);
    assert_int_equal(error.option, QZ_OPTION_REPLACE);
    options.replace = 1;
    assert_int_equal(write_one(path_of("a.npy"), &options, &error), QZ_FILE_OK);
    bytes second = get_file(path_of("a.npy"));
    assert_int_equal(first.n, second.n);
    assert_memory_equal(first.data, second.data, first.n);
    options.no_fsync = 1;
    assert_int_equal(write_one(path_of("a.npy"), &options, &error), QZ_FILE_OK);
    assert_int_equal(count_files(), 1);
    clear(&first);
    clear(&second);
    unlink(path_of("a.npy"));
}

static void permissions(void **state)
{
    (void)state;
    qz_file_error error = QZ_FILE_ERROR_INIT;
    qz_create_options options = QZ_CREATE_OPTIONS_INIT;
    options.replace = 1;
    mode_t before = umask(027);
    assert_int_equal(write_one(path_of("a.npy"), NULL, &error), QZ_FILE_OK);
    (void)umask(before);
    assert_int_equal(mode_of(path_of("a.npy")) & 0777, 0640); /* as the umask says */
    assert_int_equal(chmod(path_of("a.npy"), 0604), 0);
    assert_int_equal(write_one(path_of("a.npy"), &options, &error), QZ_FILE_OK);
    assert_int_equal(mode_of(path_of("a.npy")) & 0777, 0604); /* kept */
    unlink(path_of("a.npy"));
}

/* Windows replaces no file that is open. */
#if defined(_WIN32)
enum { OPEN_IS_REPLACED = QZ_FILE_IO };
#else
enum { OPEN_IS_REPLACED = QZ_FILE_OK };
#endif

/* Structures of older callers are shorter: what they lack has its default, and is not written. */
static void older_structures(void **state)
{
    (void)state;
    qz_file_error error = QZ_FILE_ERROR_INIT;
    assert_int_equal(write_one(path_of("a.npy"), NULL, &error), QZ_FILE_OK);

    error.size = offsetof(qz_file_error, system);
    error.system = 77;
    error.option = QZ_OPTION_MAX_RATIO;
    assert_int_equal(write_one(path_of("a.npy"), NULL, &error), QZ_FILE_EXISTS);
    assert_int_equal(error.code, QZ_FILE_EXISTS);
    assert_non_null(strstr(error.message, "exists already"));
    assert_int_equal(error.system, 77);
    assert_int_equal(error.option, QZ_OPTION_MAX_RATIO);
    error.size = sizeof error;
    assert_int_equal(write_one(path_of("a.npy"), NULL, &error), QZ_FILE_EXISTS);
    assert_int_equal(error.system, 0);
    assert_int_equal(error.option, QZ_OPTION_REPLACE);

    qz_create_options options = {.size = offsetof(qz_create_options, replace), .replace = 1};
    assert_int_equal(write_one(path_of("a.npy"), &options, &error), QZ_FILE_EXISTS);
    qz_file *file;
    assert_int_equal(qz_open(path_of("a.npy"), NULL, &file, &error), QZ_FILE_OK);
    const qz_file *inputs[] = {file};
    options = (qz_create_options){.size = offsetof(qz_create_options, inputs), 1, 0, inputs, 1};
    assert_int_equal(write_one(path_of("a.npy"), &options, &error), OPEN_IS_REPLACED);
    qz_close(file);
    options = (qz_create_options){.size = sizeof options + 64, .replace = 1}; /* of a newer caller */
    assert_int_equal(write_one(path_of("a.npy"), &options, &error), QZ_FILE_OK);
    assert_int_equal(qz_open(path_of("a.npy"), NULL, &file, &error), QZ_FILE_OK);
    inputs[0] = file;
    options = (qz_create_options){.size = sizeof options, .replace = 1, .inputs = inputs, .input_count = 1};
    assert_int_equal(write_one(path_of("a.npy"), &options, &error), QZ_FILE_EXISTS);
    qz_close(file);
    unlink(path_of("a.npy"));
}

static void targets_that_are_refused(void **state)
{
    (void)state;
    qz_file_error error = QZ_FILE_ERROR_INIT;
    qz_create_options options = QZ_CREATE_OPTIONS_INIT;
    options.replace = 1;
    assert_int_equal(mkdir(path_of("folder.npy"), 0700), 0);
    assert_int_equal(write_one(path_of("folder.npy"), &options, &error), QZ_FILE_EXISTS);
    rmdir(path_of("folder.npy"));
    assert_int_equal(write_one(path_of("no/such/folder.npy"), &options, &error), QZ_FILE_IO);
    assert_int_equal(write_one(path_of("a.txt"), &options, &error), QZ_FILE_ARGUMENT);
    assert_int_equal(write_one(path_of("a"), &options, &error), QZ_FILE_ARGUMENT);
    assert_int_equal(write_one("", &options, &error), QZ_FILE_ARGUMENT);
    assert_int_equal(write_one("/", &options, &error), QZ_FILE_ARGUMENT);
    assert_int_equal(count_files(), 0);
}

static void links_and_pipes_are_refused(void **state)
{
    (void)state;
    qz_file_error error = QZ_FILE_ERROR_INIT;
    qz_create_options options = QZ_CREATE_OPTIONS_INIT;
    options.replace = 1;
    assert_int_equal(symlink("real.npy", path_of("link.npy")), 0);
    put_file(path_of("real.npy"), "keep me", 7);
    assert_int_equal(write_one(path_of("link.npy"), &options, &error), QZ_FILE_EXISTS);
    assert_non_null(strstr(error.message, "symbolic link"));
    unlink(path_of("link.npy"));
    assert_int_equal(symlink("nowhere.npy", path_of("link.npy")), 0);
    assert_int_equal(write_one(path_of("link.npy"), &options, &error), QZ_FILE_EXISTS);
    assert_int_equal(mkfifo(path_of("pipe.npy"), 0600), 0);
    assert_int_equal(write_one(path_of("pipe.npy"), &options, &error), QZ_FILE_EXISTS);
    unlink(path_of("pipe.npy"));
    bytes b = get_file(path_of("real.npy"));
    assert_int_equal(b.n, 7);
    clear(&b);
    assert_int_equal(count_files(), 2);
    unlink(path_of("link.npy"));
    unlink(path_of("real.npy"));
}

/* An input that is open is not replaced, whatever name leads to it. */
static void inputs(void **state)
{
    (void)state;
    qz_file_error error = QZ_FILE_ERROR_INIT;
    qz_file *file;
    assert_int_equal(write_one(path_of("in.npy"), NULL, &error), QZ_FILE_OK);
    assert_int_equal(qz_open(path_of("in.npy"), NULL, &file, &error), QZ_FILE_OK);
    const qz_file *open_files[] = {file};
    qz_create_options options = {.size = sizeof options, .replace = 1, .inputs = open_files, .input_count = 1};
    assert_int_equal(link(path_of("in.npy"), path_of("other.npy")), 0);
    char roundabout[200];
    snprintf(roundabout, sizeof roundabout, "%s/../%s/in.npy", folder, strrchr(folder, '/') + 1);
    const char *const paths[] = {path_of("in.npy"), path_of("other.npy"), roundabout};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(write_one(paths[i], &options, &error), QZ_FILE_EXISTS);
        assert_non_null(strstr(error.message, "same file as the input"));
    }
    qz_close(file);
    assert_int_equal(open_all(path_of("in.npy"), NULL).result, QZ_FILE_OK);
    unlink(path_of("in.npy"));
    unlink(path_of("other.npy"));
}

static void nothing_is_left(void **state)
{
    (void)state;
    qz_file_error error = QZ_FILE_ERROR_INIT;
    qz_writer *writer;
    const uint64_t shape = 6;
    qz_tensor t = {.name = "x", .name_length = 1, .element = QZ_ELEMENT_F32, .rank = 1, .shape = &shape};
    size_t index;

    assert_int_equal(qz_create(path_of("a.npz"), NULL, &writer, &error), QZ_FILE_OK);
    qz_abort(writer);
    assert_int_equal(count_files(), 0);
    qz_abort(NULL);

    /* Not all elements were written. */
    assert_int_equal(qz_create(path_of("a.npz"), NULL, &writer, &error), QZ_FILE_OK);
    assert_int_equal(qz_declare(writer, &t, &index, &error), QZ_FILE_OK);
    assert_int_equal(qz_write(writer, index, 0, 5, values, &error), QZ_FILE_OK);
    assert_int_equal(qz_commit(writer, &error), QZ_FILE_ARGUMENT);
    assert_non_null(strstr(error.message, "5 of 6 elements"));
    assert_int_equal(count_files(), 0);

    /* Someone else creates the output meanwhile: theirs stays. */
    assert_int_equal(qz_create(path_of("a.npz"), NULL, &writer, &error), QZ_FILE_OK);
    put_file(path_of("a.npz"), "theirs", 6);
    assert_int_equal(qz_commit(writer, &error), QZ_FILE_EXISTS);
    bytes b = get_file(path_of("a.npz"));
    assert_int_equal(b.n, 6);
    clear(&b);
    unlink(path_of("a.npz"));
    assert_int_equal(count_files(), 0);
}

static void wrong_declarations(void **state)
{
    (void)state;
    qz_file_error error = QZ_FILE_ERROR_INIT;
    qz_writer *writer;
    const uint64_t shape[2] = {2, 3}, huge[2] = {UINT64_C(1) << 40, UINT64_C(1) << 40};
    size_t index;
    qz_tensor t = {.name = "x", .name_length = 1, .element = QZ_ELEMENT_F32, .rank = 2, .shape = shape};
    assert_int_equal(qz_create(path_of("a.npz"), NULL, &writer, &error), QZ_FILE_OK);
    assert_int_equal(qz_declare(writer, &t, &index, &error), QZ_FILE_OK);
    assert_int_equal(qz_declare(writer, &t, NULL, &error), QZ_FILE_REFUSED);
    assert_non_null(strstr(error.message, "two tensors of this name"));
    qz_tensor wrong = t;
    wrong.name = "a\0b";
    wrong.name_length = 3;
    assert_int_equal(qz_declare(writer, &wrong, NULL, &error), QZ_FILE_REFUSED);
    wrong.name_length = 1;
    wrong.element = QZ_ELEMENT_RAW;
    assert_int_equal(qz_declare(writer, &wrong, NULL, &error), QZ_FILE_ARGUMENT);
    wrong.element = (qz_element)99;
    assert_int_equal(qz_declare(writer, &wrong, NULL, &error), QZ_FILE_ARGUMENT);
    wrong.element = QZ_ELEMENT_F32;
    wrong.shape = huge;
    assert_int_equal(qz_declare(writer, &wrong, NULL, &error), QZ_FILE_ARGUMENT);
    wrong.rank = 65;
    assert_int_equal(qz_declare(writer, &wrong, NULL, &error), QZ_FILE_ARGUMENT);
    char *name = malloc(70000);
    memset(name, 'n', 70000);
    wrong = t;
    wrong.name = name;
    wrong.name_length = 70000;
    assert_int_equal(qz_declare(writer, &wrong, NULL, &error), QZ_FILE_REFUSED);
    free(name);
    assert_int_equal(qz_write(writer, index, 0, 7, values, &error), QZ_FILE_ARGUMENT);
    assert_int_equal(qz_write(writer, index, UINT64_MAX, 2, values, &error), QZ_FILE_ARGUMENT);
    assert_int_equal(qz_write(writer, 1, 0, 1, values, &error), QZ_FILE_ARGUMENT);
    assert_int_equal(qz_write(writer, index, 0, 6, values, &error), QZ_FILE_OK);
    wrong = t;
    wrong.name = "y";
    assert_int_equal(qz_declare(writer, &wrong, NULL, &error), QZ_FILE_ARGUMENT);
    assert_non_null(strstr(error.message, "declared after"));
    assert_int_equal(qz_commit(writer, &error), QZ_FILE_OK);
    unlink(path_of("a.npz"));

    assert_int_equal(qz_create(path_of("a.npy"), NULL, &writer, &error), QZ_FILE_OK);
    assert_int_equal(qz_declare(writer, &t, NULL, &error), QZ_FILE_OK);
    wrong.name = "y";
    assert_int_equal(qz_declare(writer, &wrong, NULL, &error), QZ_FILE_ARGUMENT);
    assert_non_null(strstr(error.message, "holds one tensor"));
    qz_abort(writer);
    assert_int_equal(qz_create(path_of("a.npy"), NULL, &writer, &error), QZ_FILE_OK);
    assert_int_equal(qz_commit(writer, &error), QZ_FILE_ARGUMENT);
    assert_int_equal(count_files(), 0);
}

/* Any order of writing gives the same file. */
static void orders(void **state)
{
    (void)state;
    enum { N = 1000 };
    qz_file_error error = QZ_FILE_ERROR_INIT;
    static float x[N];
    static uint16_t y[N];
    const uint64_t n = N;
    for (int i = 0; i < N; i++)
        x[i] = (float)i, y[i] = (uint16_t)(i * 77);
    bytes first = {0};
    for (int order = 0; order < 3; order++) {
        qz_writer *writer;
        size_t a, b, empty, scalar;
        qz_tensor t = {.name = "x/\xc3\xa9", .name_length = 4, .element = QZ_ELEMENT_F32, .rank = 1, .shape = &n};
        assert_int_equal(qz_create(path_of("a.npz"), NULL, &writer, &error), QZ_FILE_OK);
        assert_int_equal(qz_declare(writer, &t, &a, &error), QZ_FILE_OK);
        t = (qz_tensor){.name = "y", .name_length = 1, .element = QZ_ELEMENT_U16, .rank = 1, .shape = &n};
        assert_int_equal(qz_declare(writer, &t, &b, &error), QZ_FILE_OK);
        t = (qz_tensor){.name = "e", .name_length = 1, .element = QZ_ELEMENT_U8, .rank = 1, .shape = &(uint64_t){0}};
        assert_int_equal(qz_declare(writer, &t, &empty, &error), QZ_FILE_OK);
        t = (qz_tensor){.name = "s", .name_length = 1, .element = QZ_ELEMENT_I64, .rank = 0};
        assert_int_equal(qz_declare(writer, &t, &scalar, &error), QZ_FILE_OK);
        for (int i = 0; i < 10; i++) {
            uint64_t at = 100 * (uint64_t)(order == 2 ? 9 - i : i);
            if (order != 1)
                assert_int_equal(qz_write(writer, a, at, 100, x + at, &error), QZ_FILE_OK);
            assert_int_equal(qz_write(writer, b, at, 100, y + at, &error), QZ_FILE_OK);
        }
        if (order == 1)
            assert_int_equal(qz_write(writer, a, 0, N, x, &error), QZ_FILE_OK);
        assert_int_equal(qz_write(writer, scalar, 0, 1, &(int64_t){-5}, &error), QZ_FILE_OK);
        if (qz_commit(writer, &error) != QZ_FILE_OK)
            fail_msg("%s\n", error.message);
        bytes b2 = get_file(path_of("a.npz"));
        if (order == 0) {
            first = b2;
        } else {
            assert_int_equal(b2.n, first.n);
            assert_memory_equal(b2.data, first.data, first.n);
            clear(&b2);
        }
        qz_file *file;
        static float back[N];
        int64_t five = 0;
        assert_int_equal(qz_open(path_of("a.npz"), NULL, &file, &error), QZ_FILE_OK);
        assert_int_equal(qz_tensor_count(file), 4);
        assert_string_equal(qz_tensor_at(file, 0)->name, "x/\xc3\xa9");
        assert_int_equal(qz_read(file, 0, 0, N, back, &error), QZ_FILE_OK);
        assert_memory_equal(back, x, sizeof back);
        assert_int_equal(qz_read(file, 3, 0, 1, &five, &error), QZ_FILE_OK);
        assert_true(five == -5);
        qz_close(file);
        unlink(path_of("a.npz"));
    }
    clear(&first);
}

/* ---- leftovers of runs that were killed ---- */

static void leftovers(void **state)
{
    (void)state;
    qz_file_error error = QZ_FILE_ERROR_INIT;
    static const char *const dead = ".quantize-0123456789abcdef.tmp", *const alive = ".quantize-fedcba9876543210.tmp";
    static const char *const others[] = {".quantize-0123456789abcdeg.tmp", ".quantize-0123456789abcde.tmp",
                                         ".quantize-0123456789abcdef.tmp.bak", "quantize-0123456789abcdef.tmp"};
    put_file(path_of(dead), "x", 1);
    put_file(path_of(alive), "x", 1);
    for (size_t i = 0; i < 4; i++)
        put_file(path_of(others[i]), "x", 1);
    int fd = open(path_of(alive), O_RDWR);
    assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
    assert_int_equal(write_one(path_of("a.npy"), NULL, &error), QZ_FILE_OK);
    assert_true(access(path_of(dead), F_OK) != 0);
    assert_true(access(path_of(alive), F_OK) == 0);
    for (size_t i = 0; i < 4; i++)
        assert_true(access(path_of(others[i]), F_OK) == 0);
    close(fd);
    unlink(path_of("a.npy"));
    assert_int_equal(write_one(path_of("a.npy"), NULL, &error), QZ_FILE_OK);
    assert_true(access(path_of(alive), F_OK) != 0);
    for (size_t i = 0; i < 4; i++)
        unlink(path_of(others[i]));
    unlink(path_of("a.npy"));
    assert_int_equal(count_files(), 0);
}

/* A process that dies in the middle leaves no output, and nothing that the next run does not remove. */
static void killed(void **state)
{
    (void)state;
    qz_file_error error = QZ_FILE_ERROR_INIT;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        qz_writer *writer;
        const uint64_t shape = 6;
        qz_tensor t = {.name = "x", .name_length = 1, .element = QZ_ELEMENT_F32, .rank = 1, .shape = &shape};
        size_t index;
        if (qz_create(path_of("a.npz"), NULL, &writer, NULL) == QZ_FILE_OK &&
            qz_declare(writer, &t, &index, NULL) == QZ_FILE_OK &&
            qz_write(writer, index, 0, 6, values, NULL) == QZ_FILE_OK)
            raise(SIGKILL);
        _exit(1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    assert_true(access(path_of("a.npz"), F_OK) != 0);
    assert_int_equal(write_one(path_of("b.npy"), NULL, &error), QZ_FILE_OK);
    assert_int_equal(count_files(), 1);
    unlink(path_of("b.npy"));
}

/* ---- no space ---- */

/* In a child: writes until the system refuses. Its exit code is the result of the write, 100 if files are left. */
static void fill(int mounted)
{
    enum { N = 1 << 20 };
    static float zeros[N];
    qz_file_error error = QZ_FILE_ERROR_INIT;
    qz_writer *writer;
    const uint64_t shape = 4 * N;
    char path[200];
    size_t index;
    qz_tensor t = {.name = "x", .name_length = 1, .element = QZ_ELEMENT_F32, .rank = 1, .shape = &shape};
    snprintf(path, sizeof path, "%s/full.npz", folder);
    qz_file_result result = qz_create(path, NULL, &writer, &error);
    if (result != QZ_FILE_OK || qz_declare(writer, &t, &index, &error) != QZ_FILE_OK)
        _exit(101);
    for (uint64_t at = 0; at < shape && result == QZ_FILE_OK; at += N)
        result = qz_write(writer, index, at, N, zeros, &error);
    if (result == QZ_FILE_OK)
        _exit(102);
    /* Once failed, always failed: a commit must not make a file with a hole. */
    if (qz_commit(writer, NULL) != QZ_FILE_IO)
        _exit(103);
    if (!strstr(error.message, mounted ? "No space left" : "File too large"))
        _exit(104);
    if (count_files() != 0)
        _exit(100);
    _exit((int)result);
}

static void no_space(void **state)
{
    (void)state;
    int status;
    pid_t child = fork();
    if (child == 0) {
        signal(SIGXFSZ, SIG_IGN);
        struct rlimit limit = {1 << 20, 1 << 20};
        if (setrlimit(RLIMIT_FSIZE, &limit) != 0)
            _exit(105);
        fill(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), QZ_FILE_IO);
    assert_int_equal(count_files(), 0);
#if defined(__linux__)
    child = fork();
    if (child == 0) {
        /* A tiny file system that only this child sees. */
        if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
            mount("tmpfs", folder, "tmpfs", 0, "size=64k") != 0)
            _exit(106);
        fill(1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 106)
        print_message("not root: a full file system was not tried\n");
    else
        assert_int_equal(WEXITSTATUS(status), QZ_FILE_IO);
    assert_int_equal(count_files(), 0);
#endif
}

int main(void)
{
    start_program("test_output");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replace_or_not),
        cmocka_unit_test(permissions),
        cmocka_unit_test(older_structures),
        cmocka_unit_test(targets_that_are_refused),
        cmocka_unit_test(links_and_pipes_are_refused),
        cmocka_unit_test(inputs),
        cmocka_unit_test(nothing_is_left),
        cmocka_unit_test(wrong_declarations),
        cmocka_unit_test(orders),
        cmocka_unit_test(leftovers),
        cmocka_unit_test(killed),
        cmocka_unit_test(no_space),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
