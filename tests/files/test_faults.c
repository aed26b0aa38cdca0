/*
 * test_faults.c - every call to the system fails once, and memory runs out at every place
 *
 * The linker puts the functions below before those of the C library (--wrap). For each kind of call and each n, the
 * n-th one fails, or the process is killed there: then the output is the old one or the new one, nothing else is left,
 * no descriptor stays open, and a result that says all is well is true.
 */
#include "seeds.h"

#include <signal.h>
#include <stdarg.h>
#include <sys/wait.h>

/* ---- faults ---- */

enum fault { MALLOC, OPEN, READ, WRITE, SYNC, RENAME, MKDIR, LINK, STAT, CLOSE, FAULTS };
static const char *const fault_names[FAULTS] = {"malloc", "open",  "read", "write", "fsync",
                                                "rename", "mkdir", "link", "stat",  "close"};
static enum fault armed = FAULTS;
static int left, fired, kills;

/* Whether this call is the one. */
static int fails(enum fault kind, int code)
{
    if (kind != armed || --left != 0)
        return 0;
    if (kills)
        raise(SIGKILL);
    fired = 1;
    errno = code;
    return 1;
}

/* A function of the C library, and what stands in for it. */
#define REPLACED(type, name, ...)                                                                                      \
    type __real_##name(__VA_ARGS__);                                                                                   \
    type __wrap_##name(__VA_ARGS__)

REPLACED(void *, malloc, size_t n);
REPLACED(void *, calloc, size_t n, size_t each);
REPLACED(void *, realloc, void *old, size_t n);
REPLACED(char *, strdup, const char *text);
REPLACED(char *, strndup, const char *text, size_t n);
REPLACED(int, openat64, int at, const char *path, int flags, ...);
REPLACED(ssize_t, pread64, int fd, void *dst, size_t n, off64_t at);
REPLACED(ssize_t, pwrite64, int fd, const void *src, size_t n, off64_t at);
REPLACED(int, fsync, int fd);
REPLACED(int, renameat, int from, const char *a, int to, const char *b);
REPLACED(int, mkdirat, int at, const char *path, mode_t mode);
REPLACED(int, linkat, int from, const char *a, int to, const char *b, int flags);
REPLACED(int, fstat64, int fd, struct stat64 *status);
REPLACED(int, close, int fd);

void *__wrap_malloc(size_t n)
{
    return fails(MALLOC, ENOMEM) ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t each)
{
    return fails(MALLOC, ENOMEM) ? NULL : __real_calloc(n, each);
}

void *__wrap_realloc(void *old, size_t n)
{
    return fails(MALLOC, ENOMEM) ? NULL : __real_realloc(old, n);
}

char *__wrap_strdup(const char *text)
{
    return fails(MALLOC, ENOMEM) ? NULL : __real_strdup(text);
}

char *__wrap_strndup(const char *text, size_t n)
{
    return fails(MALLOC, ENOMEM) ? NULL : __real_strndup(text, n);
}

int __wrap_openat64(int at, const char *path, int flags, ...)
{
    va_list more;
    va_start(more, flags);
    mode_t mode = flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(more, mode_t) : 0;
    va_end(more);
    return fails(OPEN, EACCES) ? -1 : __real_openat64(at, path, flags, mode);
}

ssize_t __wrap_pread64(int fd, void *dst, size_t n, off64_t at)
{
    return fails(READ, EIO) ? -1 : __real_pread64(fd, dst, n, at);
}

/* A full disk takes a part before it says so. */
ssize_t __wrap_pwrite64(int fd, const void *src, size_t n, off64_t at)
{
    if (!fails(WRITE, ENOSPC))
        return __real_pwrite64(fd, src, n, at);
    if (n > 1 && __real_pwrite64(fd, src, n / 2, at) < 0)
        abort();
    errno = ENOSPC;
    return -1;
}

int __wrap_fsync(int fd)
{
    return fails(SYNC, EIO) ? -1 : __real_fsync(fd);
}

int __wrap_renameat(int from, const char *a, int to, const char *b)
{
    return fails(RENAME, EACCES) ? -1 : __real_renameat(from, a, to, b);
}

int __wrap_mkdirat(int at, const char *path, mode_t mode)
{
    return fails(MKDIR, ENOSPC) ? -1 : __real_mkdirat(at, path, mode);
}

int __wrap_linkat(int from, const char *a, int to, const char *b, int flags)
{
    return fails(LINK, ENOSPC) ? -1 : __real_linkat(from, a, to, b, flags);
}

int __wrap_fstat64(int fd, struct stat64 *status)
{
    return fails(STAT, EIO) ? -1 : __real_fstat64(fd, status);
}

int __wrap_close(int fd)
{
    int result = __real_close(fd), failed = fails(CLOSE, EIO);
    return failed ? -1 : result;
}

/* ---- what is done ---- */

/* Writes an output and, for some, opens it before it has its name. */
typedef struct task {
    const char *name;
    uint64_t shard_bytes;
    int replace, no_fsync, proves;
    const char *layout;
    int version;      /* what the values are */
    const char *from; /* the model in the folder, "in" */
} task;

static task tasks[32] = {
    {.name = "out.npy"},
    {.name = "out.npz", .replace = 1, .proves = 1},
    {.name = "out.safetensors", .proves = 1},
    {.name = "out.safetensors", .replace = 1, .layout = "gptq"},
    {.name = "out.gguf", .replace = 1, .no_fsync = 1},
    {.name = "out", .shard_bytes = 3000},
    {.name = "out", .shard_bytes = 3000, .proves = 1},
    {.name = "out", .shard_bytes = 1 << 20, .no_fsync = 1},
    {.name = "out.gguf", .from = "in.gguf"},
    {.name = "out", .shard_bytes = 3000, .layout = "gguf", .proves = 1},
};
static size_t task_count = 10;

static const uint64_t shape[2] = {16, 32};

/* The first scheme that a layout can hold, in groups of 16 or 32 where any would do. */
static qz_scheme scheme_of(const char *layout)
{
    char why[200];
    for (size_t i = 0; qz_scheme_at(i); i++)
        for (uint32_t size = 16; size <= 32; size += 16) {
            qz_scheme scheme = *qz_scheme_at(i);
            if (scheme.group_size == 0 || size == 32)
                scheme.group_size = size;
            if (!qz_layout_refuses(layout, &scheme, 2, shape, 1, why, sizeof why))
                return scheme;
        }
    return (qz_scheme){0};
}

/* Each layout that is written, in a file and in a folder. */
static void add_layouts(void)
{
    for (size_t i = 0; qz_layout_at(i); i++) {
        const char *layout = qz_layout_at(i);
        if (strcmp(layout, "gguf") == 0 || !scheme_of(layout).name)
            continue;
        task in_file = {.name = "out.safetensors", .layout = layout, .replace = (int)i % 2, .proves = (int)i % 3 == 0};
        task in_folder = {.name = "out", .layout = layout, .shard_bytes = 3000};
        assert_true(task_count + 2 <= sizeof tasks / sizeof tasks[0]);
        tasks[task_count++] = in_file;
        tasks[task_count++] = in_folder;
    }
}

static qz_file_result put_plain(qz_writer *writer, size_t i, int version, qz_file_error *error)
{
    float values[512];
    for (int k = 0; k < 512; k++)
        values[k] = (float)(k + version);
    return qz_write(writer, i, 0, 512, values, error);
}

/* Codes, scales and zeros of a quantized tensor of one block. */
static qz_file_result put_packed(qz_writer *writer, const qz_packed_tensor *packed, int version, qz_file_error *error)
{
    static uint32_t codes[64], scales[256], zeros[256], supers[32];
    const qz_sizes *s = &packed->sizes;
    assert_true(16 * s->code_bytes <= sizeof codes && 16 * s->scale_bytes <= sizeof scales &&
                16 * s->zero_bytes <= sizeof zeros && 16 * s->super_bytes <= sizeof supers);
    memset(codes, 0x21 + version, sizeof codes);
    memset(scales, 0x30, sizeof scales);
    memset(zeros, packed->scheme.zero == QZ_ZERO_UINT4 ? 0x88 : 0x30, sizeof zeros);
    memset(supers, 0x30, sizeof supers);
    const qz_packed src = {.codes = codes,
                           .scales = scales,
                           .zeros = s->zero_bytes != 0 ? zeros : NULL,
                           .code_stride = (int64_t)s->code_bytes,
                           .scale_stride = (int64_t)s->scale_bytes,
                           .zero_stride = (int64_t)s->zero_bytes,
                           .supers = s->super_bytes != 0 ? supers : NULL,
                           .super_stride = (int64_t)s->super_bytes};
    return qz_packed_write(writer, packed, 0, 16, 0, 32, &src, error);
}

static qz_file_result fill(qz_writer *writer, const task *t, qz_file_error *error)
{
    const char *const names[] = {"data", "b.weight", "c.weight", "d"};
    size_t index[4];
    int one = strcmp(t->name, "out.npy") == 0;
    qz_packed_tensor packed = {.size = sizeof packed};
    qz_scheme scheme = t->layout ? scheme_of(t->layout) : *qz_scheme_by_name("q4_0");
    qz_file_result result = QZ_FILE_OK;
    for (size_t i = 0; i < (one ? 1 : 4) && result == QZ_FILE_OK; i++) {
        const qz_tensor plain = {
            .name = names[i], .name_length = strlen(names[i]), .element = QZ_ELEMENT_F32, .rank = 2, .shape = shape};
        result = i == 2 ? qz_packed_declare(writer, names[i], 8, &scheme, 2, shape, 1, &packed, error)
                        : qz_declare(writer, &plain, &index[i], error);
    }
    for (size_t i = 0; i < (one ? 1 : 4) && result == QZ_FILE_OK; i++)
        result =
            i == 2 ? put_packed(writer, &packed, t->version, error) : put_plain(writer, index[i], t->version, error);
    return result;
}

static qz_file_result prove(qz_writer *writer, qz_file_error *error)
{
    qz_file *file;
    float value = 0;
    qz_file_result result = qz_open_written(writer, NULL, &file, error);
    if (result != QZ_FILE_OK)
        return result;
    if (qz_tensor_count(file) < 4 || qz_packed_count(file) != 1)
        abort();
    result = qz_read(file, qz_tensor_find(file, "d", 1), 511, 1, &value, error);
    if (result == QZ_FILE_OK && value < 511)
        abort();
    qz_close(file);
    return result;
}

static qz_file_result do_task(const task *t, const char *path, qz_file_error *error)
{
    char model[400];
    snprintf(model, sizeof model, "%s/%s", folder, t->from ? t->from : "in");
    qz_create_options options = QZ_CREATE_OPTIONS_INIT;
    qz_writer *writer = NULL;
    qz_file *input = NULL;
    char note[400];
    options.replace = t->replace;
    options.no_fsync = t->no_fsync;
    options.shard_bytes = t->shard_bytes;
    options.layout = t->layout;
    qz_file_result result = qz_open(model, NULL, &input, error);
    options.inputs = (const qz_file *const *)&input;
    options.input_count = 1;
    options.metadata_from = input;
    if (result == QZ_FILE_OK)
        result = qz_create(path, &options, &writer, error);
    if (result == QZ_FILE_OK)
        result = fill(writer, t, error);
    if (result == QZ_FILE_OK && t->shard_bytes != 0)
        result = qz_copy_beside(writer, input, "{}", note, sizeof note, error);
    if (result == QZ_FILE_OK && t->proves)
        result = prove(writer, error);
    if (result == QZ_FILE_OK)
        result = qz_commit(writer, error);
    else
        qz_abort(writer);
    qz_close(input);
    return result;
}

/* ---- what is there ---- */

static int open_descriptors(void)
{
    int n = 0;
    DIR *list = opendir("/proc/self/fd");
    while (list && readdir(list))
        n++;
    if (list)
        closedir(list);
    return n;
}

static char last_note[400];

/* Reads all of a file: plain tensors, and what its quantized ones are. */
static qz_file_result read_all(const char *path, uint64_t *digest, qz_file_error *error)
{
    static uint8_t data[4096];
    qz_file *file;
    *digest = 1;
    last_note[0] = '\0';
    qz_file_result result = qz_open(path, NULL, &file, error);
    if (result == QZ_FILE_OK)
        result = qz_packed_check(file, error);
    for (size_t i = 0; result == QZ_FILE_OK && i < qz_tensor_count(file); i++) {
        const qz_tensor *t = qz_tensor_at(file, i);
        qz_part part = qz_packed_part(file, i);
        assert_true(t->bytes <= sizeof data);
        result = qz_read(file, i, 0, t->count, data, error);
        *digest = digest_of(*digest, t->name, t->name_length);
        *digest = digest_of(*digest, &part, sizeof part);
        *digest = digest_of(*digest, data, (size_t)t->bytes);
    }
    if (file && qz_note(file))
        snprintf(last_note, sizeof last_note, "%s", qz_note(file));
    qz_close(file);
    return result;
}

/* Everything that an output is, as one number; 0: there is none. */
static uint64_t digest_of_output(const char *path)
{
    struct stat status;
    static const char *const beside[] = {"config.json", "words.txt"};
    if (lstat(path, &status) != 0)
        return 0;
    qz_file_error error = QZ_FILE_ERROR_INIT;
    uint64_t digest = 0;
    if (read_all(path, &digest, &error) != QZ_FILE_OK)
        fail_msg("a broken output: %s", error.message);
    for (int i = 0; i < 2 && S_ISDIR(status.st_mode); i++) {
        char name[400];
        snprintf(name, sizeof name, "%s/%s", path, beside[i]);
        bytes b = get_file(name);
        digest = digest_of(digest, b.data, b.n);
        clear(&b);
    }
    return digest;
}

/* Names in the folder that are no output and no input. */
static int leftovers(int remove_them)
{
    int n = 0;
    DIR *list = opendir(folder);
    assert_non_null(list);
    for (struct dirent *found; (found = readdir(list)) != NULL;)
        if (strncmp(found->d_name, ".quantize-", 10) == 0) {
            n++;
            char path[400];
            snprintf(path, sizeof path, "%s/%s", folder, found->d_name);
            if (remove_them)
                remove_all(path);
        }
    closedir(list);
    return n;
}

static void put_in(const char *name, const void *data, size_t n)
{
    char path[400];
    snprintf(path, sizeof path, "%s/in/%s", folder, name);
    put_file(path, data, n);
}

static void put_safetensors(const char *name, const char *header, size_t data_bytes)
{
    bytes b = {0};
    add_number(&b, strlen(header), 8);
    add(&b, header, strlen(header));
    for (size_t i = 0; i < data_bytes; i++)
        add_number(&b, 0x31, 1);
    put_in(name, b.data, b.n);
    clear(&b);
}

/* A GGUF file beside it: with a key for people, of the kind that says of which whole it is the only part, and of its own
 * version, which a writer replaces. */
static void put_gguf(void)
{
    static const struct {
        const char *key;
        uint32_t type, number;
    } keys[] = {{"general.quantization_version", 4, 1},
                {"general.file_type", 4, 7},
                {"split.no", 4, 0},
                {"split.count", 4, 1},
                {"split.tensors.count", 4, 0},
                {"people", 4, 3}};
    enum { KEYS = sizeof keys / sizeof keys[0] };
    char path[400];
    bytes b = {0};
    add(&b, "GGUF", 4);
    add_number(&b, 3, 4);
    add_number(&b, 0, 8);
    add_number(&b, KEYS, 8);
    for (int i = 0; i < KEYS; i++) {
        add_number(&b, strlen(keys[i].key), 8);
        add(&b, keys[i].key, strlen(keys[i].key));
        add_number(&b, keys[i].type, 4);
        add_number(&b, keys[i].number, 4);
    }
    snprintf(path, sizeof path, "%s/in.gguf", folder);
    put_file(path, b.data, b.n);
    clear(&b);
}

/* A model in two files, with a tensor of GPTQ, which only config.json explains, and other things beside it. */
static void make_model(void)
{
    static const char index[] = "{\"weight_map\": {\"a\": \"1.safetensors\", \"m.qweight\": \"2.safetensors\", "
                                "\"m.qzeros\": \"2.safetensors\", \"m.scales\": \"2.safetensors\"}}";
    static const char config[] = "{\"quantization_config\": {\"quant_method\": \"gptq\", \"bits\": 4}}";
    char path[400];
    snprintf(path, sizeof path, "%s/in", folder);
    assert_int_equal(mkdir(path, 0777), 0);
    put_safetensors("1.safetensors",
                    "{\"__metadata__\":{\"k\":\"v\"},\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}",
                    8);
    put_safetensors("2.safetensors",
                    "{\"m.qweight\":{\"dtype\":\"I32\",\"shape\":[1,8],\"data_offsets\":[0,32]},"
                    "\"m.qzeros\":{\"dtype\":\"I32\",\"shape\":[1,1],\"data_offsets\":[32,36]},"
                    "\"m.scales\":{\"dtype\":\"F16\",\"shape\":[1,8],\"data_offsets\":[36,52]}}",
                    52);
    put_in("model.safetensors.index.json", index, sizeof index - 1);
    put_in("config.json", config, sizeof config - 1);
    put_in("words.txt", "words", 5);
    put_in("a.bin", "words", 5);
    put_gguf();
    snprintf(path, sizeof path, "%s/in/link.txt", folder);
    assert_int_equal(symlink("words.txt", path), 0);
}

/* What is there before a task runs: an older output of a task that replaces. */
static uint64_t prepare(const task *t, const char *path)
{
    remove_all(path);
    if (!t->replace)
        return 0;
    task older = *t;
    older.version = 1;
    assert_int_equal(do_task(&older, path, NULL), QZ_FILE_OK);
    return digest_of_output(path);
}

/* ---- the tests ---- */

static void check_fault(const task *t, enum fault kind, int n, uint64_t wanted, qz_file_result result,
                        const qz_file_error *error, uint64_t before, uint64_t now)
{
    /* Only the folder's own sync may fail when the output has its name, as qz_commit() says. */
    int late = (kind == SYNC || kind == CLOSE) && result == QZ_FILE_IO && now == wanted;
    if (result == QZ_FILE_OK ? now != wanted : now != before && !late)
        fail_msg("%s, %s %d: result %d (%s), but the output is %s", t->name, fault_names[kind], n, (int)result,
                 error->message,
                 now == before   ? "the older one"
                 : now == wanted ? "the new one"
                                 : "another");
    if (kind == MALLOC && fired && result != QZ_FILE_MEMORY)
        fail_msg("%s: without memory at %d the result is %d: %s", t->name, n, (int)result, error->message);
    if ((kind == WRITE || kind == SYNC || kind == RENAME || kind == MKDIR) && fired && result != QZ_FILE_IO)
        fail_msg("%s, %s %d: result %d", t->name, fault_names[kind], n, (int)result);
    if (leftovers(0) != 0)
        fail_msg("%s, %s %d: something is left over", t->name, fault_names[kind], n);
}

static void every_call_fails(void **state)
{
    (void)state;
    for (size_t i = 0; i < task_count; i++) {
        const task *t = &tasks[i];
        char path[600];
        snprintf(path, sizeof path, "%s/%.30s", folder, t->name);
        remove_all(path);
        assert_int_equal(do_task(t, path, NULL), QZ_FILE_OK);
        uint64_t wanted = digest_of_output(path), before = prepare(t, path);
        int descriptors = open_descriptors();
        for (int kind = 0; kind < FAULTS; kind++)
            for (int n = 1;; n++) {
                qz_file_error error = QZ_FILE_ERROR_INIT;
                armed = (enum fault)kind, left = n, fired = 0;
                qz_file_result result = do_task(t, path, &error);
                armed = FAULTS;
                uint64_t now = digest_of_output(path);
                check_fault(t, (enum fault)kind, n, wanted, result, &error, before, now);
                if (open_descriptors() != descriptors)
                    fail_msg("%s, %s %d: a descriptor stays open", t->name, fault_names[kind], n);
                if (now != before || !t->replace)
                    before = prepare(t, path);
                if (!fired) {
                    assert_int_equal(result, QZ_FILE_OK);
                    break;
                }
            }
        remove_all(path);
    }
}

static void every_read_fails(void **state)
{
    (void)state;
    char model[400];
    snprintf(model, sizeof model, "%s/in", folder);
    uint64_t wanted, digest;
    assert_int_equal(read_all(model, &wanted, NULL), QZ_FILE_OK);
    int descriptors = open_descriptors();
    for (int kind = 0; kind < FAULTS; kind++)
        for (int n = 1;; n++) {
            armed = (enum fault)kind, left = n, fired = 0;
            qz_file_error error = QZ_FILE_ERROR_INIT;
            qz_file_result result = read_all(model, &digest, &error);
            armed = FAULTS;
            assert_int_equal(open_descriptors(), descriptors);
            /* A config.json that cannot be read says nothing; the note says so. */
            int is_known = kind != OPEN && kind != READ && kind != STAT;
            if (result == QZ_FILE_OK && digest != wanted && (is_known || !strstr(last_note, "listed as they are")))
                fail_msg("%s %d: another file was read", fault_names[kind], n);
            if (kind == MALLOC && fired)
                assert_int_equal(result, QZ_FILE_MEMORY);
            if (!fired)
                break;
        }
}

/* The n-th call of a kind fails while a seed is opened and read: it is refused, or read as before. */
static tried try_with_fault(const seed *s, enum fault kind, int n)
{
    char path[600];
    snprintf(trying, sizeof trying, "%.40s/%.60s: %s %d fails", s->group, s->name, fault_names[kind], n);
    armed = kind, left = n, fired = 0;
    tried t = try_path(path_of_seed(s, path));
    armed = FAULTS;
    return t;
}

static void every_read_of_a_layout_fails(void **state)
{
    (void)state;
    static const enum fault kinds[] = {MALLOC, OPEN, READ, WRITE, STAT, CLOSE};
    int descriptors = open_descriptors();
    for (size_t i = 0; i < seed_count; i++) {
        bundled files[FILES_OF_A_BUNDLE];
        size_t count = files_of(&seeds[i], files);
        put_all(files, count);
        for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++)
            for (int n = 1;; n++) {
                tried t = try_with_fault(&seeds[i], kinds[k], n);
                law(t.result != QZ_FILE_ARGUMENT, "a fault is no wrong argument");
                law(fired || t.result == QZ_FILE_OK, "without a fault it is read");
                law(open_descriptors() == descriptors, "no descriptor stays open");
                if (!fired)
                    break;
            }
        remove_files(files, count);
    }
}

/* Killed before each call that changes something: the next run finds nothing but the old or the new output, and removes
 * what is left over. */
static void killed_at_every_call(void **state)
{
    (void)state;
    static const enum fault kinds[] = {OPEN, WRITE, SYNC, RENAME, MKDIR, LINK};
    for (size_t i = 0; i < task_count; i++) {
        const task *t = &tasks[i];
        char path[600];
        snprintf(path, sizeof path, "%s/%.30s", folder, t->name);
        remove_all(path);
        assert_int_equal(do_task(t, path, NULL), QZ_FILE_OK);
        uint64_t wanted = digest_of_output(path), before = prepare(t, path);
        for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++)
            for (int n = 1, status = 0;; n++) {
                pid_t child = fork();
                if (child == 0) {
                    armed = kinds[k], left = n, kills = 1;
                    _exit((int)do_task(t, path, NULL));
                }
                assert_int_equal(waitpid(child, &status, 0), child);
                uint64_t now = digest_of_output(path);
                assert_true(now == before || now == wanted);
                assert_true(leftovers(0) <= 1);
                before = prepare(t, path);
                if (WIFEXITED(status)) {
                    assert_int_equal(WEXITSTATUS(status), QZ_FILE_OK);
                    assert_int_equal(now, wanted);
                    break;
                }
                assert_int_equal(WTERMSIG(status), SIGKILL);
            }
        remove_all(path);
        qz_writer *writer;
        assert_int_equal(
            qz_create(path, &(qz_create_options){.size = sizeof(qz_create_options), .shard_bytes = t->shard_bytes},
                      &writer, NULL),
            QZ_FILE_OK);
        qz_abort(writer);
        assert_int_equal(leftovers(0), 0);
    }
}

static int begin(void **state)
{
    int made = make_folder(state);
    if (made != 0)
        return made;
    make_model();
    add_layouts();
    return take_seeds(state);
}

static int end(void **state)
{
    char path[400];
    snprintf(path, sizeof path, "%s/in", folder);
    remove_all(path);
    strcat(path, ".gguf");
    remove_all(path);
    leftovers(1);
    return drop_seeds(state) == 0 ? remove_folder(state) : -1;
}

int main(void)
{
    start_program("test_faults");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_call_fails),
        cmocka_unit_test(every_read_fails),
        cmocka_unit_test(every_read_of_a_layout_fails),
        cmocka_unit_test(killed_at_every_call),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
