/*
 * test_folder.c - outputs that are folders: what lies in which file, and what is copied beside them
 */
#include "support.h"

static char input[400], target[400];

static void put_in(const char *name, const void *data, size_t n)
{
    char path[700];
    snprintf(path, sizeof path, "%s/%s", input, name);
    put_file(path, data, n);
}

static int begin(void **state)
{
    static const char header[] = "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}";
    bytes b = {0};
    if (make_folder(state) != 0)
        return -1;
    snprintf(input, sizeof input, "%s/in", folder);
    snprintf(target, sizeof target, "%s/out", folder);
    assert_int_equal(mkdir(input, 0777), 0);
    add_number(&b, sizeof header - 1, 8);
    add(&b, header, sizeof header - 1);
    add_number(&b, 0, 8);
    put_in("model.safetensors", b.data, b.n);
    clear(&b);
    return 0;
}

static int end(void **state)
{
    remove_all(input);
    remove_all(target);
    return remove_folder(state);
}

static qz_writer *create(uint64_t shard_bytes)
{
    qz_create_options options = QZ_CREATE_OPTIONS_INIT;
    qz_writer *writer;
    options.shard_bytes = shard_bytes;
    assert_int_equal(qz_create(target, &options, &writer, NULL), QZ_FILE_OK);
    return writer;
}

static int is_there(const char *name)
{
    char path[700];
    snprintf(path, sizeof path, "%s/%s", target, name);
    return access(path, F_OK) == 0;
}

/* ---- shards ---- */

/* Writes bytes in tensors of these sizes, and tells how many files there are by the name that the last one has. */
static size_t shards_of(uint64_t limit, const uint64_t *sizes, size_t count)
{
    static const uint8_t data[64];
    qz_writer *writer = create(limit);
    char name[40];
    for (size_t i = 0; i < count; i++) {
        snprintf(name, sizeof name, "t%zu", i);
        const qz_tensor t = {
            .name = name, .name_length = strlen(name), .element = QZ_ELEMENT_U8, .rank = 1, .shape = &sizes[i]};
        assert_int_equal(qz_declare(writer, &t, NULL, NULL), QZ_FILE_OK);
    }
    for (size_t i = count; i-- > 0;) /* in any order */
        assert_int_equal(qz_write(writer, i, 0, sizes[i], data, NULL), QZ_FILE_OK);
    assert_int_equal(qz_commit(writer, NULL), QZ_FILE_OK);
    outcome o = open_all(target, NULL);
    assert_int_equal(o.result, QZ_FILE_OK);
    assert_int_equal(o.tensors, count);
    size_t files = is_there("model.safetensors") ? 1 : 0;
    for (size_t of = 2; of <= count && files == 0; of++) {
        snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", of, of);
        files = is_there(name) ? of : 0;
    }
    assert_int_equal(is_there("model.safetensors.index.json"), files > 1);
    remove_all(target);
    return files;
}

static void shards(void **state)
{
    (void)state;
    const uint64_t sizes[] = {10, 20, 30, 0, 40, 5, 5};
    assert_int_equal(shards_of(UINT64_MAX, sizes, 7), 1);
    assert_int_equal(shards_of(110, sizes, 7), 1);
    assert_int_equal(shards_of(109, sizes, 7), 2);
    assert_int_equal(shards_of(60, sizes, 7), 2); /* 10 20 30 0 | 40 5 5 */
    assert_int_equal(shards_of(59, sizes, 7), 3); /* 10 20 | 30 0 | 40 5 5 */
    assert_int_equal(shards_of(39, sizes, 7), 4); /* 10 20 | 30 0 | 40 | 5 5 */
    assert_int_equal(shards_of(1, sizes, 7), 6);  /* an empty tensor lies with the one before */
    assert_int_equal(shards_of(1, sizes, 0), 1);
}

/* Three tensors in two files, of which one is made. */
static void parts(void **state)
{
    (void)state;
    static const uint8_t data[64];
    const uint64_t sizes[] = {10, 20, 30};
    const qz_file_result wanted[] = {QZ_FILE_OK, QZ_FILE_OK, QZ_FILE_ARGUMENT, QZ_FILE_OK};
    const uint64_t made[] = {1, 2, 3, QZ_PART_REST};
    for (size_t p = 0; p < 4; p++) {
        qz_create_options options = QZ_CREATE_OPTIONS_INIT;
        qz_file_error error = QZ_FILE_ERROR_INIT;
        qz_shard shard = {.size = sizeof shard};
        qz_writer *writer;
        size_t count;
        options.shard_bytes = 40;
        options.part = made[p];
        assert_int_equal(qz_create(target, &options, &writer, NULL), QZ_FILE_OK);
        for (size_t i = 0; i < 3; i++) {
            const char name[] = {(char)('a' + i), '\0'};
            const qz_tensor t = {
                .name = name, .name_length = 1, .element = QZ_ELEMENT_U8, .rank = 1, .shape = &sizes[i]};
            assert_int_equal(qz_declare(writer, &t, NULL, NULL), QZ_FILE_OK);
        }
        assert_int_equal(qz_shard_count(writer, &count, &error), wanted[p]);
        if (wanted[p] != QZ_FILE_OK) {
            assert_non_null(strstr(error.message, "there is no file 3 of the folder: it has 2"));
            qz_abort(writer);
            continue;
        }
        assert_int_equal(count, 2);
        assert_int_equal(qz_shard_at(writer, 2, &shard, &error), QZ_FILE_ARGUMENT);
        for (size_t i = 0; i < 2; i++) {
            assert_int_equal(qz_shard_at(writer, i, &shard, &error), QZ_FILE_OK);
            assert_string_equal(shard.name,
                                i == 0 ? "model-00001-of-00002.safetensors" : "model-00002-of-00002.safetensors");
            assert_int_equal(shard.first, i == 0 ? 0 : 2);
            assert_int_equal(shard.count, i == 0 ? 2 : 1);
            assert_int_equal(shard.bytes, 30);
        }
        for (size_t i = 0; i < 3; i++) {
            int here = made[p] == (i < 2 ? 1u : 2u);
            assert_int_equal(qz_write(writer, i, 0, sizes[i], data, &error), here ? QZ_FILE_OK : QZ_FILE_ARGUMENT);
        }
        assert_int_equal(qz_commit(writer, NULL), QZ_FILE_OK);
        assert_int_equal(is_there("model-00001-of-00002.safetensors"), made[p] == 1);
        assert_int_equal(is_there("model-00002-of-00002.safetensors"), made[p] == 2);
        assert_int_equal(is_there("model.safetensors.index.json"), made[p] == QZ_PART_REST);
        remove_all(target);
    }
}

static void parts_of_files(void **state)
{
    (void)state;
    qz_create_options options = QZ_CREATE_OPTIONS_INIT;
    qz_file_error error = QZ_FILE_ERROR_INIT;
    qz_writer *writer;
    size_t count;
    options.part = 1;
    assert_int_equal(qz_create(path_of("a.npz"), &options, &writer, &error), QZ_FILE_ARGUMENT);
    assert_non_null(strstr(error.message, "is no folder, which alone has parts"));
    options.part = 0;
    assert_int_equal(qz_create(path_of("a.npz"), &options, &writer, &error), QZ_FILE_OK);
    assert_int_equal(qz_shard_count(writer, &count, &error), QZ_FILE_ARGUMENT);
    qz_abort(writer);
}

static void options_of_other_outputs(void **state)
{
    (void)state;
    qz_create_options options = QZ_CREATE_OPTIONS_INIT;
    qz_file_error error = QZ_FILE_ERROR_INIT;
    qz_writer *writer;
    options.shard_bytes = 100;
    assert_int_equal(qz_create(path_of("a.npz"), &options, &writer, &error), QZ_FILE_ARGUMENT);
    assert_non_null(strstr(error.message, "is the name of a file"));
    assert_null(writer);
    options.size = offsetof(qz_create_options, shard_bytes); /* an older caller */
    assert_int_equal(qz_create(path_of("a.npz"), &options, &writer, &error), QZ_FILE_OK);
    qz_file *model;
    assert_int_equal(qz_open(input, NULL, &model, NULL), QZ_FILE_OK);
    assert_int_equal(qz_copy_beside(writer, model, NULL, NULL, 0, &error), QZ_FILE_ARGUMENT);
    assert_non_null(strstr(error.message, "is no folder"));
    qz_close(model);
    qz_abort(writer);
}

/* ---- what lies beside ---- */

/* Copies what lies beside the input; the note has that room. */
static void copy(char *note, size_t note_size)
{
    qz_file *model;
    qz_writer *writer = create(QZ_SHARD_BYTES);
    assert_int_equal(qz_open(input, NULL, &model, NULL), QZ_FILE_OK);
    assert_int_equal(qz_copy_beside(writer, model, "{\"q\": 1}", note, note_size, NULL), QZ_FILE_OK);
    assert_int_equal(qz_commit(writer, NULL), QZ_FILE_OK);
    qz_close(model);
}

/* What has no room in the note is counted, whatever the room is. */
static void notes(void **state)
{
    (void)state;
    enum { FILES = 30 };
    char note[8000];
    for (int i = 0; i < FILES; i++) {
        char name[40];
        snprintf(name, sizeof name, "part%02d.bin", i);
        put_in(name, "x", 1);
    }
    for (size_t room = 0; room < sizeof note; room += room < 300 ? 1 : 97) {
        memset(note, 'x', sizeof note);
        copy(room == 0 ? NULL : note, room);
        remove_all(target);
        if (room == 0)
            continue;
        assert_true(strlen(note) < room);
        int named = 0, more = 0;
        for (const char *at = note; (at = strstr(at, "is left out (can run code)")) != NULL; at++)
            named++;
        const char *last = strrchr(note, ';');
        int counted = sscanf(last ? last + 1 : note, "%d", &more) == 1;
        if (room >= 60)
            assert_int_equal(named + (counted ? more : 0), FILES);
    }
    assert_null(strstr(note, "more"));
    for (int i = 0; i < FILES; i++) {
        char path[700];
        snprintf(path, sizeof path, "%s/part%02d.bin", input, i);
        unlink(path);
    }
}

static void beside(void **state)
{
    (void)state;
    char note[400], path[700];
    put_in("config.json", "{\"a\": 1}", 8);
    put_in("words.txt", "words", 5);
    snprintf(path, sizeof path, "%s/in.txt", input);
    assert_int_equal(symlink("words.txt", path), 0);
    snprintf(path, sizeof path, "%s/out.txt", input);
    assert_int_equal(symlink("/etc/passwd", path), 0);
    copy(note, sizeof note);
    assert_string_equal(note, "out.txt is left out (a link that leads out of the folder)");
    snprintf(path, sizeof path, "%s/config.json", target);
    bytes b = get_file(path);
    static const char config[] = "{\"a\": 1, \"quantization_config\": {\"q\": 1}}";
    assert_int_equal(b.n, sizeof config - 1);
    assert_memory_equal(b.data, config, b.n);
    clear(&b);
    assert_true(is_there("words.txt") && is_there("in.txt") && is_there("model.safetensors") && !is_there("out.txt"));
    remove_all(target);
}

int main(void)
{
    start_program("test_folder");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shards),         cmocka_unit_test(parts),
        cmocka_unit_test(parts_of_files), cmocka_unit_test(options_of_other_outputs),
        cmocka_unit_test(notes),          cmocka_unit_test(beside),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
