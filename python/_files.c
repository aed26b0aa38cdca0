/*
 * _files - the strict layer between Python and the file library
 *
 * Two types: a File that is open for reading, a Writer that makes one. Names are bytes, as in files; data moves between
 * files and buffers of exactly the right size. Types, shapes, text and messages for people are the business of
 * quantize/files.py, which is the only caller. A result other than QZ_FILE_OK becomes an exception `Failure` whose
 * arguments are (result, message, errno).
 */
#include "shared.h"

#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#include "quantize_file.h"

#define PIECE ((uint64_t)16 << 20) /* bytes between two looks at whether Ctrl-C was pressed */

typedef struct {
    PyObject *failure; /* the exception class */
    PyObject *file_type, *writer_type;
} State;

static PyObject *fail(State *state, const qz_file_error *error)
{
    if (error->code == QZ_FILE_MEMORY)
        return PyErr_NoMemory();
    return raise_failure(state->failure, Py_BuildValue("(isi)", (int)error->code, error->message, error->system));
}

static State *state_of(PyObject *self)
{
    return PyType_GetModuleState(Py_TYPE(self));
}

static PyObject *make(PyObject *type)
{
    allocfunc allocate = (allocfunc)PyType_GetSlot((PyTypeObject *)type, Py_tp_alloc);
    return allocate((PyTypeObject *)type, 0);
}

static void unmake(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

/* The characters of a path; NULL with an exception, also for one that has a NUL. */
static const char *take_path(PyObject *object)
{
    char *path = NULL;
    return PyBytes_AsStringAndSize(object, &path, NULL) < 0 ? NULL : path;
}

/* A tuple of sizes as a shape. Returns the rank, or -1 with an exception. */
static int take_shape(PyObject *tuple, uint64_t shape[QZ_MAX_RANK])
{
    Py_ssize_t rank = PyTuple_Check(tuple) ? PyTuple_Size(tuple) : -1;

    if (rank < 0 || rank > QZ_MAX_RANK) {
        PyErr_SetString(PyExc_ValueError, "a shape is a tuple of at most 64 sizes");
        return -1;
    }
    for (Py_ssize_t i = 0; i < rank; i++) {
        shape[i] = PyLong_AsUnsignedLongLong(PyTuple_GetItem(tuple, i));
        if (PyErr_Occurred())
            return -1;
    }
    return (int)rank;
}

static PyObject *shape_tuple(unsigned rank, const uint64_t *shape)
{
    PyObject *tuple = PyTuple_New((Py_ssize_t)rank);

    for (unsigned i = 0; tuple && i < rank; i++) {
        PyObject *size = PyLong_FromUnsignedLongLong(shape[i]);
        if (!size || PyTuple_SetItem(tuple, (Py_ssize_t)i, size) < 0)
            Py_CLEAR(tuple);
    }
    return tuple;
}

/* Elements that go between a tensor and a buffer, in either direction. */
typedef struct {
    void *file; /* a qz_file or a qz_writer */
    size_t index;
    uint64_t first, count, each; /* the elements, and bytes of one */
    char *data;
} Transfer;

/* ---- one call at a time ---- */

/* Calls a method of an object of which `*busy` is 0, and holds off others meanwhile: the interpreter lock does not, where
 * it is released or there is none. `closes` is a method that does nothing then. */
static PyObject *call_alone(atomic_int *busy, PyCFunction method, PyObject *self, PyObject *args, int closes)
{
    if (atomic_exchange(busy, 1)) {
        if (closes)
            Py_RETURN_NONE;
        PyErr_SetString(PyExc_RuntimeError, "the file is in use");
        return NULL;
    }
    PyObject *result = method(self, args);
    atomic_store(busy, 0);
    return result;
}

#define ALONE(Type, method, closes)                                                                                    \
    static PyObject *method##_alone(PyObject *self, PyObject *args)                                                    \
    {                                                                                                                  \
        return call_alone(&((Type *)self)->busy, method, self, args, closes);                                          \
    }

/* Moves `count` elements, of which the first is element `at` of the transfer. */
typedef qz_file_result (*Move)(const Transfer *transfer, uint64_t at, uint64_t count, qz_file_error *error);

/* Moves all elements without the interpreter lock, and looks now and then whether Ctrl-C was pressed. Returns 0, or -1
 * with an exception. */
static int move_in_pieces(State *state, const Transfer *transfer, Move move)
{
    qz_file_error error = QZ_FILE_ERROR_INIT;
    qz_file_result result = QZ_FILE_OK;
    const uint64_t step = PIECE / transfer->each;
    int stopped = 0;

    for (uint64_t at = 0; at < transfer->count && result == QZ_FILE_OK && !stopped; at += step) {
        const uint64_t left = transfer->count - at;
        PyThreadState *unlocked = PyEval_SaveThread();
        result = move(transfer, at, left < step ? left : step, &error);
        PyEval_RestoreThread(unlocked);
        stopped = PyErr_CheckSignals() < 0;
    }
    if (stopped)
        return -1;
    if (result == QZ_FILE_OK)
        return 0;
    fail(state, &error);
    return -1;
}

/* A quantized tensor and the buffers of its parts, which have its rows one after the other: a Transfer of rows. */
typedef struct {
    void *file; /* a qz_file or a qz_writer */
    qz_packed_tensor tensor;
    Py_buffer parts[4];
    int count; /* of the buffers that are held */
} PackedTransfer;

static void release_parts(PackedTransfer *p)
{
    while (p->count > 0)
        PyBuffer_Release(&p->parts[--p->count]);
}

/* Takes the buffers of codes, scales, zeros and supers, None for those that there are not. Returns 0, or -1 with an
 * exception. */
static int take_parts(PackedTransfer *p, PyObject *const *objects, int flags)
{
    const qz_sizes *sizes = &p->tensor.sizes;
    const uint64_t row_bytes[4] = {sizes->code_bytes, sizes->scale_bytes, sizes->zero_bytes, sizes->super_bytes};

    for (int i = 0; i < 4; i++) {
        const uint64_t rows = i == 3 && p->tensor.scheme.super_size == QZ_WHOLE_MATRIX ? 1 : p->tensor.rows;
        Py_buffer *part = &p->parts[i];
        if (objects[i] == Py_None) {
            PyBuffer_FillInfo(part, NULL, NULL, 0, 1, PyBUF_SIMPLE);
        } else if (PyObject_GetBuffer(objects[i], part, flags) < 0) {
            release_parts(p);
            return -1;
        }
        p->count = i + 1;
        if ((uint64_t)part->len != row_bytes[i] * rows) {
            release_parts(p);
            PyErr_SetString(PyExc_ValueError, "a buffer has another size than its part of the tensor");
            return -1;
        }
    }
    return 0;
}

/* The parts from a row on. */
static qz_packed rows_from(const PackedTransfer *p, uint64_t row)
{
    const qz_sizes *sizes = &p->tensor.sizes;
    const int shared = p->tensor.scheme.super_size == QZ_WHOLE_MATRIX;
    char *data[4];

    for (int i = 0; i < 4; i++)
        data[i] = p->parts[i].buf;
    return (qz_packed){
        .codes = data[0] + row * sizes->code_bytes,
        .scales = data[1] + row * sizes->scale_bytes,
        .zeros = sizes->zero_bytes != 0 ? data[2] + row * sizes->zero_bytes : NULL,
        .supers = sizes->super_bytes != 0 ? data[3] + (shared ? 0 : row * sizes->super_bytes) : NULL,
        .code_stride = (int64_t)sizes->code_bytes,
        .scale_stride = (int64_t)sizes->scale_bytes,
        .zero_stride = (int64_t)sizes->zero_bytes,
        .super_stride = (int64_t)sizes->super_bytes,
    };
}

/* Moves a quantized tensor, whose rows are counted. Returns 0, or -1 with an exception. */
static int move_packed(State *state, PackedTransfer *p, Move move)
{
    const qz_packed_tensor *t = &p->tensor;
    const uint64_t each = t->rows != 0 ? t->sizes.total_bytes / t->rows : 0;
    const Transfer transfer = {p, 0, 0, t->rows, each == 0 ? 1 : each < PIECE ? each : PIECE, NULL};
    return move_in_pieces(state, &transfer, move);
}

/* ----------------------------------------------------------------------------------------------------------
 * Reading
 * ------------------------------------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD qz_file *file;
    atomic_int busy; /* a call works on it */
} File;

PyDoc_STRVAR(open_doc, "open_file(path, /) -> File. The path is bytes.");

static PyObject *files_open(PyObject *module, PyObject *object)
{
    State *state = PyModule_GetState(module);
    qz_file_error error = QZ_FILE_ERROR_INIT;
    qz_file_result result;
    const char *path = take_path(object);
    PyThreadState *unlocked;
    File *self;

    if (!path)
        return NULL;
    self = (File *)make(state->file_type);
    if (!self)
        return NULL;
    unlocked = PyEval_SaveThread();
    result = qz_open(path, NULL, &self->file, &error);
    if (result == QZ_FILE_OK)
        result = qz_packed_check(self->file, &error);
    PyEval_RestoreThread(unlocked);
    if (result == QZ_FILE_OK)
        return (PyObject *)self;
    Py_DECREF(self);
    return fail(state, &error);
}

static void file_dealloc(PyObject *self)
{
    qz_close(((File *)self)->file);
    unmake(self);
}

PyDoc_STRVAR(file_close_doc, "close(). Nothing can be read any more.");

static PyObject *file_close(PyObject *object, PyObject *unused)
{
    File *self = (File *)object;

    (void)unused;
    qz_close(self->file);
    self->file = NULL;
    Py_RETURN_NONE;
}

static int is_usable(const File *self)
{
    if (self->file)
        return 1;
    PyErr_SetString(PyExc_RuntimeError, "the file is closed");
    return 0;
}

PyDoc_STRVAR(file_note_doc, "note() -> what was skipped, or None.");

static PyObject *file_note(PyObject *object, PyObject *unused)
{
    File *self = (File *)object;

    (void)unused;
    return is_usable(self) ? Py_BuildValue("z", qz_note(self->file)) : NULL;
}

PyDoc_STRVAR(file_container_doc, "container() -> 'npy', 'npz', 'safetensors' or 'gguf'.");

static PyObject *file_container(PyObject *object, PyObject *unused)
{
    File *self = (File *)object;

    (void)unused;
    return is_usable(self) ? Py_BuildValue("s", qz_container(self->file)) : NULL;
}

PyDoc_STRVAR(file_metadata_doc, "metadata() -> a list of (key, value), both bytes, of what the file says of itself.");

static PyObject *file_metadata(PyObject *object, PyObject *unused)
{
    File *self = (File *)object;
    PyObject *list;

    (void)unused;
    if (!is_usable(self))
        return NULL;
    list = PyList_New(0);
    for (size_t i = 0; list && i < qz_metadata_count(self->file); i++) {
        const qz_metadata *pair = qz_metadata_at(self->file, i);
        PyObject *item = Py_BuildValue("(y#y#)", pair->key, (Py_ssize_t)pair->key_length, pair->value,
                                       (Py_ssize_t)pair->value_length);
        if (!item || PyList_Append(list, item) < 0)
            Py_CLEAR(list);
        Py_XDECREF(item);
    }
    return list;
}

/* (index, element, type, shape, column_major, swapped, bytes) */
static PyObject *tensor_tuple(const File *self, size_t index)
{
    const qz_tensor *t = qz_tensor_at(self->file, index);

    return Py_BuildValue("(nizNiiK)", (Py_ssize_t)index, (int)t->element, t->type, shape_tuple(t->rank, t->shape),
                         t->column_major != 0, t->swapped != 0, (unsigned long long)t->bytes);
}

PyDoc_STRVAR(file_items_doc, "items() -> a list of (name, tensor, packed): tensor or packed is None.\n\n"
                             "tensor: (index, element, type, shape, column_major, swapped, bytes)\n"
                             "packed: (index, scheme's name, scheme, axis, shape, layout, bytes), where the scheme is\n"
                             "the tuple that _core takes");

static PyObject *packed_item(const File *self, size_t index, State *state)
{
    qz_packed_tensor packed = {.size = sizeof packed};
    qz_file_error error = QZ_FILE_ERROR_INIT;
    size_t length = 0;
    const char *name = qz_packed_name_at(self->file, index, &length);

    if (qz_packed_find(self->file, name, length, &packed, &error) != QZ_FILE_OK)
        return fail(state, &error);
    return Py_BuildValue("(y#O(nsNINsK))", name, (Py_ssize_t)length, Py_None, (Py_ssize_t)index, packed.scheme.name,
                         scheme_tuple(&packed.scheme), packed.axis, shape_tuple(packed.rank, packed.shape),
                         packed.layout, (unsigned long long)packed.bytes);
}

static PyObject *file_items(PyObject *object, PyObject *unused)
{
    File *self = (File *)object;
    PyObject *list;
    size_t packed = 0;

    (void)unused;
    if (!is_usable(self))
        return NULL;
    list = PyList_New(0);
    for (size_t i = 0; list && i < qz_tensor_count(self->file); i++) {
        const qz_tensor *t = qz_tensor_at(self->file, i);
        qz_part part = qz_packed_part(self->file, i);
        PyObject *item;
        if (part == QZ_PART_DATA)
            continue;
        if (part == QZ_PART_HEADER)
            item = packed_item(self, packed++, state_of(object));
        else
            item = Py_BuildValue("(y#NO)", t->name, (Py_ssize_t)t->name_length, tensor_tuple(self, i), Py_None);
        if (!item || PyList_Append(list, item) < 0)
            Py_CLEAR(list);
        Py_XDECREF(item);
    }
    return list;
}

PyDoc_STRVAR(file_check_doc, "check(index, packed, /). Raises Failure if a limit forbids reading the tensor, which is\n"
                             "of those that are packed, or of all; to be asked before memory is taken for it.");

/* Reads no elements, which says so. Of a quantized tensor that is asked of its members. */
static qz_file_result check_limits(qz_file *file, size_t index, int is_packed, qz_file_error *error)
{
    qz_packed_tensor packed = {.size = sizeof packed};
    size_t length = 0;
    qz_file_result result;

    if (!is_packed)
        return qz_read(file, index, 0, 0, NULL, error);
    const char *name = qz_packed_name_at(file, index, &length);
    result = qz_packed_find(file, name ? name : "", length, &packed, error);
    for (int i = 0; i < QZ_MEMBERS && result == QZ_FILE_OK; i++)
        if (packed.members[i] != SIZE_MAX)
            result = qz_read(file, packed.members[i], 0, 0, NULL, error);
    return result;
}

static PyObject *file_check(PyObject *object, PyObject *args)
{
    File *self = (File *)object;
    qz_file_error error = QZ_FILE_ERROR_INIT;
    Py_ssize_t index;
    int is_packed;

    if (!is_usable(self) || !PyArg_ParseTuple(args, "np:check", &index, &is_packed))
        return NULL;
    if (check_limits(self->file, (size_t)index, is_packed, &error) != QZ_FILE_OK)
        return fail(state_of(object), &error);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(file_read_doc, "read(index, buffer, /). The buffer gets the whole tensor.");

static qz_file_result read_piece(const Transfer *t, uint64_t at, uint64_t count, qz_file_error *error)
{
    return qz_read(t->file, t->index, t->first + at, count, t->data + at * t->each, error);
}

static PyObject *file_read(PyObject *object, PyObject *args)
{
    File *self = (File *)object;
    const qz_tensor *t;
    PyObject *target;
    Py_ssize_t index;
    Py_buffer view;
    int error;

    if (!is_usable(self) || !PyArg_ParseTuple(args, "nO:read", &index, &target))
        return NULL;
    t = index >= 0 ? qz_tensor_at(self->file, (size_t)index) : NULL;
    if (!t) {
        PyErr_SetString(PyExc_ValueError, "there is no such tensor");
        return NULL;
    }
    if (PyObject_GetBuffer(target, &view, PyBUF_CONTIG) < 0)
        return NULL;
    if ((uint64_t)view.len != t->bytes) {
        PyBuffer_Release(&view);
        PyErr_SetString(PyExc_ValueError, "the buffer has another size than the tensor");
        return NULL;
    }
    const Transfer transfer = {self->file, (size_t)index, 0, t->count, qz_element_size(t->element), view.buf};
    error = move_in_pieces(state_of(object), &transfer, read_piece);
    PyBuffer_Release(&view);
    return error < 0 ? NULL : Py_NewRef(Py_None);
}

PyDoc_STRVAR(file_read_packed_doc, "read_packed(index, codes, scales, zeros, supers, /). The buffers get the parts of\n"
                                   "the whole tensor; None stands for a part that it does not have.");

static qz_file_result read_rows(const Transfer *t, uint64_t at, uint64_t count, qz_file_error *error)
{
    const PackedTransfer *p = t->file;
    const qz_packed parts = rows_from(p, at);
    return qz_packed_read(p->file, &p->tensor, at, count, 0, p->tensor.cols, &parts, error);
}

static PyObject *file_read_packed(PyObject *object, PyObject *args)
{
    File *self = (File *)object;
    qz_file_error error = QZ_FILE_ERROR_INIT;
    PackedTransfer p = {.file = self->file, .tensor = {.size = sizeof p.tensor}};
    PyObject *parts[4];
    Py_ssize_t index;
    size_t length = 0;
    const char *name;
    int failed;

    if (!is_usable(self) ||
        !PyArg_ParseTuple(args, "nOOOO:read_packed", &index, &parts[0], &parts[1], &parts[2], &parts[3]))
        return NULL;
    name = index >= 0 ? qz_packed_name_at(self->file, (size_t)index, &length) : NULL;
    if (!name) {
        PyErr_SetString(PyExc_ValueError, "there is no such tensor");
        return NULL;
    }
    if (qz_packed_find(self->file, name, length, &p.tensor, &error) != QZ_FILE_OK)
        return fail(state_of(object), &error);
    if (take_parts(&p, parts, PyBUF_CONTIG) < 0)
        return NULL;
    failed = move_packed(state_of(object), &p, read_rows);
    release_parts(&p);
    return failed < 0 ? NULL : Py_NewRef(Py_None);
}

PyDoc_STRVAR(file_check_unchanged_doc, "check_unchanged(). Fails if the file was changed since it was opened.");

static PyObject *file_check_unchanged(PyObject *object, PyObject *unused)
{
    File *self = (File *)object;
    qz_file_error error = QZ_FILE_ERROR_INIT;

    (void)unused;
    if (!is_usable(self))
        return NULL;
    if (qz_unchanged(self->file, &error) != QZ_FILE_OK)
        return fail(state_of(object), &error);
    Py_RETURN_NONE;
}

ALONE(File, file_close, 1)
ALONE(File, file_note, 0)
ALONE(File, file_container, 0)
ALONE(File, file_metadata, 0)
ALONE(File, file_items, 0)
ALONE(File, file_check, 0)
ALONE(File, file_read, 0)
ALONE(File, file_read_packed, 0)
ALONE(File, file_check_unchanged, 0)

static PyMethodDef file_methods[] = {
    {"close", file_close_alone, METH_NOARGS, file_close_doc},
    {"note", file_note_alone, METH_NOARGS, file_note_doc},
    {"container", file_container_alone, METH_NOARGS, file_container_doc},
    {"metadata", file_metadata_alone, METH_NOARGS, file_metadata_doc},
    {"items", file_items_alone, METH_NOARGS, file_items_doc},
    {"check", file_check_alone, METH_VARARGS, file_check_doc},
    {"read", file_read_alone, METH_VARARGS, file_read_doc},
    {"read_packed", file_read_packed_alone, METH_VARARGS, file_read_packed_doc},
    {"check_unchanged", file_check_unchanged_alone, METH_NOARGS, file_check_unchanged_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot file_slots[] = {
    {Py_tp_dealloc, (void *)(uintptr_t)file_dealloc},
    {Py_tp_methods, file_methods},
    {0, NULL},
};

static PyType_Spec file_spec = {
    .name = "quantize._files.File",
    .basicsize = sizeof(File),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = file_slots,
};

/* ----------------------------------------------------------------------------------------------------------
 * Writing
 * ------------------------------------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD qz_writer *writer;
    size_t *item; /* bytes of an element of each tensor that was declared */
    size_t count, capacity;
    qz_packed_tensor *packed; /* the quantized ones */
    size_t packed_count;
    atomic_int busy;
} Writer;

PyDoc_STRVAR(create_doc, "create(path, /) -> Writer. The path is bytes; a file of that name is replaced.");

static PyObject *files_create(PyObject *module, PyObject *object)
{
    State *state = PyModule_GetState(module);
    qz_file_error error = QZ_FILE_ERROR_INIT;
    qz_create_options options = QZ_CREATE_OPTIONS_INIT;
    const char *path = take_path(object);
    Writer *self;

    if (!path)
        return NULL;
    self = (Writer *)make(state->writer_type);
    if (!self)
        return NULL;
    options.replace = 1;
    if (qz_create(path, &options, &self->writer, &error) == QZ_FILE_OK)
        return (PyObject *)self;
    Py_DECREF(self);
    return fail(state, &error);
}

static void writer_dealloc(PyObject *object)
{
    Writer *self = (Writer *)object;

    qz_abort(self->writer);
    PyMem_Free(self->item);
    PyMem_Free(self->packed);
    unmake(object);
}

static int is_open(const Writer *self)
{
    if (self->writer)
        return 1;
    PyErr_SetString(PyExc_RuntimeError, "the file is complete");
    return 0;
}

/* Remembers what an element of the next tensor takes: tensors are numbered in the order of their declaration. */
static int note_item(Writer *self, size_t index, size_t item)
{
    if (index >= self->capacity) {
        size_t wider = 2 * index + 16;
        size_t *items = PyMem_Realloc(self->item, wider * sizeof *items);
        if (!items) {
            PyErr_NoMemory();
            return -1;
        }
        memset(items + self->capacity, 0, (wider - self->capacity) * sizeof *items);
        self->item = items;
        self->capacity = wider;
    }
    self->item[index] = item;
    self->count = index >= self->count ? index + 1 : self->count;
    return 0;
}

PyDoc_STRVAR(writer_declare_doc, "declare(name, element, type, shape, column_major, /) -> index");

static PyObject *writer_declare(PyObject *object, PyObject *args)
{
    Writer *self = (Writer *)object;
    qz_file_error error = QZ_FILE_ERROR_INIT;
    qz_tensor t = {0};
    uint64_t shape[QZ_MAX_RANK];
    Py_ssize_t length;
    PyObject *shape_object;
    size_t index;
    int element, rank;

    if (!is_open(self) ||
        !PyArg_ParseTuple(args, "y#izOp:declare", &t.name, &length, &element, &t.type, &shape_object, &t.column_major))
        return NULL;
    rank = take_shape(shape_object, shape);
    if (rank < 0)
        return NULL;
    t.name_length = (size_t)length;
    t.element = (qz_element)element;
    t.rank = (unsigned)rank;
    t.shape = shape;
    if (qz_declare(self->writer, &t, &index, &error) != QZ_FILE_OK)
        return fail(state_of(object), &error);
    if (note_item(self, index, qz_element_size(t.element)) < 0)
        return NULL;
    return PyLong_FromSize_t(index);
}

PyDoc_STRVAR(writer_declare_packed_doc, "declare_packed(name, scheme, shape, axis, /) -> index, for write_packed\n\n"
                                        "The scheme is the tuple that _core takes.");

static PyObject *writer_declare_packed(PyObject *object, PyObject *args)
{
    Writer *self = (Writer *)object;
    qz_file_error error = QZ_FILE_ERROR_INIT;
    qz_packed_tensor packed = {.size = sizeof packed}, *list;
    uint64_t shape[QZ_MAX_RANK];
    const char *name;
    Py_ssize_t length;
    PyObject *tuple, *shape_object;
    Scheme scheme;
    int rank;
    unsigned axis;

    if (!is_open(self) ||
        !PyArg_ParseTuple(args, "y#OOI:declare_packed", &name, &length, &tuple, &shape_object, &axis) ||
        take_scheme(tuple, &scheme) < 0)
        return NULL;
    rank = take_shape(shape_object, shape);
    if (rank < 0)
        return NULL;
    if (qz_packed_declare(self->writer, name, (size_t)length, &scheme.row, (unsigned)rank, shape, axis, &packed,
                          &error) != QZ_FILE_OK)
        return fail(state_of(object), &error);
    list = PyMem_Realloc(self->packed, (self->packed_count + 1) * sizeof *list);
    if (!list)
        return PyErr_NoMemory();
    self->packed = list;
    packed.scheme.name = NULL; /* texts and tables are the caller's, and may go */
    packed.scheme.summary = NULL;
    packed.scheme.table = NULL;
    list[self->packed_count] = packed;
    return PyLong_FromSize_t(self->packed_count++);
}

PyDoc_STRVAR(writer_write_packed_doc, "write_packed(index, codes, scales, zeros, supers, /). Writes the whole tensor;\n"
                                      "None stands for a part that it does not have.");

static qz_file_result write_rows(const Transfer *t, uint64_t at, uint64_t count, qz_file_error *error)
{
    const PackedTransfer *p = t->file;
    const qz_packed parts = rows_from(p, at);
    return qz_packed_write(p->file, &p->tensor, at, count, 0, p->tensor.cols, &parts, error);
}

static PyObject *writer_write_packed(PyObject *object, PyObject *args)
{
    Writer *self = (Writer *)object;
    PyObject *parts[4];
    Py_ssize_t index;
    int failed;

    if (!is_open(self) ||
        !PyArg_ParseTuple(args, "nOOOO:write_packed", &index, &parts[0], &parts[1], &parts[2], &parts[3]))
        return NULL;
    if (index < 0 || (size_t)index >= self->packed_count) {
        PyErr_SetString(PyExc_ValueError, "no such tensor is to be written");
        return NULL;
    }
    PackedTransfer p = {.file = self->writer, .tensor = self->packed[index]};
    if (take_parts(&p, parts, PyBUF_CONTIG_RO) < 0)
        return NULL;
    failed = move_packed(state_of(object), &p, write_rows);
    release_parts(&p);
    return failed < 0 ? NULL : Py_NewRef(Py_None);
}

PyDoc_STRVAR(writer_write_doc, "write(index, first, buffer, /) -> the element after the last one that was written");

static qz_file_result write_piece(const Transfer *t, uint64_t at, uint64_t count, qz_file_error *error)
{
    return qz_write(t->file, t->index, t->first + at, count, t->data + at * t->each, error);
}

static PyObject *writer_write(PyObject *object, PyObject *args)
{
    Writer *self = (Writer *)object;
    PyObject *source;
    Py_ssize_t index;
    unsigned long long first;
    Py_buffer view;
    int error;

    if (!is_open(self) || !PyArg_ParseTuple(args, "nKO:write", &index, &first, &source))
        return NULL;
    if (index < 0 || (size_t)index >= self->count || self->item[index] == 0) {
        PyErr_SetString(PyExc_ValueError, "no such tensor is to be written");
        return NULL;
    }
    if (PyObject_GetBuffer(source, &view, PyBUF_CONTIG_RO) < 0)
        return NULL;
    uint64_t each = self->item[index], count = (uint64_t)view.len / each;
    if ((uint64_t)view.len % each != 0) {
        PyBuffer_Release(&view);
        PyErr_SetString(PyExc_ValueError, "the buffer does not fit the type of the tensor");
        return NULL;
    }
    const Transfer transfer = {self->writer, (size_t)index, first, count, each, view.buf};
    error = move_in_pieces(state_of(object), &transfer, write_piece);
    PyBuffer_Release(&view);
    return error < 0 ? NULL : PyLong_FromUnsignedLongLong(first + count);
}

PyDoc_STRVAR(writer_commit_doc, "commit(). Completes the file and gives it its name.");

static PyObject *writer_commit(PyObject *object, PyObject *unused)
{
    Writer *self = (Writer *)object;
    qz_file_error error = QZ_FILE_ERROR_INIT;
    qz_file_result result;
    PyThreadState *unlocked;
    qz_writer *writer;

    (void)unused;
    if (!is_open(self))
        return NULL;
    writer = self->writer;
    self->writer = NULL; /* it is released, whatever happens */
    unlocked = PyEval_SaveThread();
    result = qz_commit(writer, &error);
    PyEval_RestoreThread(unlocked);
    if (result != QZ_FILE_OK)
        return fail(state_of(object), &error);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(writer_abort_doc, "abort(). Leaves no file.");

static PyObject *writer_abort(PyObject *object, PyObject *unused)
{
    Writer *self = (Writer *)object;

    (void)unused;
    qz_abort(self->writer);
    self->writer = NULL;
    Py_RETURN_NONE;
}

ALONE(Writer, writer_declare, 0)
ALONE(Writer, writer_declare_packed, 0)
ALONE(Writer, writer_write, 0)
ALONE(Writer, writer_write_packed, 0)
ALONE(Writer, writer_commit, 0)
ALONE(Writer, writer_abort, 1)

static PyMethodDef writer_methods[] = {
    {"declare", writer_declare_alone, METH_VARARGS, writer_declare_doc},
    {"declare_packed", writer_declare_packed_alone, METH_VARARGS, writer_declare_packed_doc},
    {"write", writer_write_alone, METH_VARARGS, writer_write_doc},
    {"write_packed", writer_write_packed_alone, METH_VARARGS, writer_write_packed_doc},
    {"commit", writer_commit_alone, METH_NOARGS, writer_commit_doc},
    {"abort", writer_abort_alone, METH_NOARGS, writer_abort_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot writer_slots[] = {
    {Py_tp_dealloc, (void *)(uintptr_t)writer_dealloc},
    {Py_tp_methods, writer_methods},
    {0, NULL},
};

static PyType_Spec writer_spec = {
    .name = "quantize._files.Writer",
    .basicsize = sizeof(Writer),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = writer_slots,
};

/* ----------------------------------------------------------------------------------------------------------
 * The module
 * ------------------------------------------------------------------------------------------------------- */

static PyMethodDef methods[] = {
    {"open_file", files_open, METH_O, open_doc},
    {"create", files_create, METH_O, create_doc},
    {NULL, NULL, 0, NULL},
};

static const Constant constants[] = {
    {"F32", QZ_ELEMENT_F32},   {"F64", QZ_ELEMENT_F64}, {"F16", QZ_ELEMENT_F16},        {"BF16", QZ_ELEMENT_BF16},
    {"I8", QZ_ELEMENT_I8},     {"I16", QZ_ELEMENT_I16}, {"I32", QZ_ELEMENT_I32},        {"I64", QZ_ELEMENT_I64},
    {"U8", QZ_ELEMENT_U8},     {"U16", QZ_ELEMENT_U16}, {"U32", QZ_ELEMENT_U32},        {"U64", QZ_ELEMENT_U64},
    {"BOOL", QZ_ELEMENT_BOOL}, {"RAW", QZ_ELEMENT_RAW}, {"ARGUMENT", QZ_FILE_ARGUMENT}, {"FORMAT", QZ_FILE_FORMAT},
    {"LIMIT", QZ_FILE_LIMIT},  {"IO", QZ_FILE_IO},      {"EXISTS", QZ_FILE_EXISTS},     {"REFUSED", QZ_FILE_REFUSED},
};

static int module_exec(PyObject *module)
{
    State *state = PyModule_GetState(module);

    if (add_failure(module, "quantize._files.Failure", "(result, message, errno)") < 0)
        return -1;
    state->file_type = PyType_FromModuleAndSpec(module, &file_spec, NULL);
    state->writer_type = PyType_FromModuleAndSpec(module, &writer_spec, NULL);
    if (!state->file_type || !state->writer_type || PyModule_AddObjectRef(module, "File", state->file_type) < 0 ||
        PyModule_AddObjectRef(module, "Writer", state->writer_type) < 0)
        return -1;
    return add_constants(module, constants, sizeof(constants) / sizeof(constants[0]));
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, (void *)(uintptr_t)module_exec},
    SLOT_MULTIPLE_INTERPRETERS SLOT_NO_GIL{0, NULL},
};

DEFINE_MODULE(_files, "The C file library behind the quantize package. Use the package instead.")
