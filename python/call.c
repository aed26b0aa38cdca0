/* call - one call of libquantize; see call.h */
#include "call.h"

#include <stdatomic.h>
#include <stdint.h>
#include <unistd.h>

#define UNLOCK_BYTES ((uint64_t)64 << 10) /* release the interpreter lock for calls that move at least this much */
#define POOL_BYTES   ((uint64_t)1 << 20)  /* share the work among threads from here on: below, waking them costs more */

/* ----------------------------------------------------------------------------------------------------------
 * Threads
 *
 * One pool serves the whole process. It is made at the first call that is large enough, and made anew in a child
 * process, where the parent's threads do not exist. Whoever finds `pool_taken` set works without a pool, which
 * is always right and needs no lock that a fork() could leave behind locked.
 * ------------------------------------------------------------------------------------------------------- */

static atomic_flag pool_taken = ATOMIC_FLAG_INIT;
static qz_pool *pool;
static pid_t pool_process;

static qz_pool *shared_pool(void)
{
    qz_pool *result = NULL;

    if (atomic_flag_test_and_set(&pool_taken))
        return NULL;
    if (pool && pool_process != getpid()) {
        qz_pool_destroy(pool);
        pool = NULL;
    }
    if (!pool && qz_pool_create(0, &pool) == QZ_OK)
        pool_process = getpid();
    result = pool;
    atomic_flag_clear(&pool_taken);
    return result;
}

/* ----------------------------------------------------------------------------------------------------------
 * The call
 * ------------------------------------------------------------------------------------------------------- */

void call_init(Call *call, PyObject *module)
{
    call->module = module;
    call->count = 0;
    call->detail = (qz_detail)QZ_DETAIL_INIT;
    call->pool = NULL;
    call->own = NULL;
    call->unlocked = NULL;
}

int call_begin(Call *call, Py_ssize_t threads, uint64_t bytes)
{
    if (threads < 0 || threads > 256) {
        PyErr_SetString(PyExc_ValueError, "threads must be 0..256");
        return -1;
    }
    if (threads == 0) {
        if (bytes >= POOL_BYTES)
            call->pool = shared_pool();
    } else if (threads > 1) {
        if (qz_pool_create((size_t)threads, &call->own) != QZ_OK) {
            PyErr_NoMemory();
            return -1;
        }
        call->pool = call->own;
    }
    if (bytes >= UNLOCK_BYTES)
        call->unlocked = PyEval_SaveThread();
    return 0;
}

static void release(Call *call)
{
    while (call->count > 0)
        PyBuffer_Release(&call->views[--call->count]);
}

int call_end(Call *call, qz_result result)
{
    qz_pool_destroy(call->own);
    if (call->unlocked)
        PyEval_RestoreThread(call->unlocked);
    release(call);
    if (result == QZ_OK)
        return 0;
    raise_result(call->module, result, &call->detail);
    return -1;
}

PyObject *call_cancel(Call *call)
{
    release(call);
    return NULL;
}

int call_stop(void *context)
{
    Call *call = context;
    int raised;

    if (!call->unlocked)
        return PyErr_CheckSignals() < 0;
    PyEval_RestoreThread(call->unlocked);
    raised = PyErr_CheckSignals() < 0;
    call->unlocked = PyEval_SaveThread();
    return raised;
}

PyObject *raise_result(PyObject *module, qz_result result, const qz_detail *detail)
{
    PyObject **failure = PyModule_GetState(module);

    if (result == QZ_ERROR_STOPPED) /* by call_stop, which has raised an exception */
        return NULL;
    if (result == QZ_ERROR_MEMORY)
        return PyErr_NoMemory();
    return raise_failure(*failure, Py_BuildValue("(iKKKdi)", (int)result, (unsigned long long)detail->index,
                                                 (unsigned long long)detail->count, (unsigned long long)detail->group,
                                                 detail->value, detail->number));
}

/* ----------------------------------------------------------------------------------------------------------
 * Buffers
 * ------------------------------------------------------------------------------------------------------- */

static Py_buffer *take(Call *call, PyObject *object, int flags)
{
    Py_buffer *view = &call->views[call->count];

    if (PyObject_GetBuffer(object, view, flags) < 0)
        return NULL;
    call->count++;
    return view;
}

Py_buffer *take_flat(Call *call, PyObject *object, int flags, size_t item)
{
    Py_buffer *view = take(call, object, flags);

    if (!view)
        return NULL;
    if (item == 0 || (size_t)view->len % item != 0 || (view->len != 0 && (uintptr_t)view->buf % item != 0)) {
        PyErr_SetString(PyExc_ValueError, "a buffer does not fit its element type");
        return NULL;
    }
    return view;
}

int take_matrix(Call *call, PyObject *object, int writable, int dtype, qz_matrix *matrix)
{
    Py_ssize_t item = (Py_ssize_t)qz_dtype_size((qz_dtype)dtype);
    Py_buffer *view = take(call, object, writable ? PyBUF_STRIDED : PyBUF_STRIDED_RO);

    if (!view)
        return -1;
    if (view->ndim != 2 || item == 0 || view->itemsize != item || view->strides[0] % item != 0 ||
        view->strides[1] % item != 0 || (view->len != 0 && (uintptr_t)view->buf % (size_t)item != 0)) {
        PyErr_SetString(PyExc_ValueError, "not an aligned matrix of its element type");
        return -1;
    }
    matrix->data = view->buf;
    matrix->dtype = (qz_dtype)dtype;
    matrix->rows = (uint64_t)view->shape[0];
    matrix->cols = (uint64_t)view->shape[1];
    matrix->row_stride = view->strides[0] / item;
    matrix->col_stride = view->strides[1] / item;
    return 0;
}

/* One part of a packed matrix: `rows` rows of exactly `row_bytes` adjacent bytes, at any distance from each other
 * that leaves them apart. `*stride` is that distance. */
static int take_part(Call *call, PyObject *object, int writable, size_t item, uint64_t rows, uint64_t row_bytes,
                     void **data, int64_t *stride)
{
    Py_buffer *view = take(call, object, writable ? PyBUF_STRIDED : PyBUF_STRIDED_RO);

    if (!view)
        return -1;
    if (view->ndim != 2 || (size_t)view->itemsize != item || (uint64_t)view->shape[0] != rows ||
        (uint64_t)view->shape[1] * item != row_bytes || (view->len != 0 && (uintptr_t)view->buf % item != 0) ||
        (view->shape[1] > 1 && view->strides[1] != (Py_ssize_t)item) ||
        (rows > 1 && row_bytes > 0 &&
         (view->strides[0] < (Py_ssize_t)row_bytes || view->strides[0] % (Py_ssize_t)item != 0))) {
        PyErr_SetString(PyExc_ValueError, "a part of the packed array has the wrong shape, type or strides");
        return -1;
    }
    *data = view->buf;
    *stride = rows > 1 && row_bytes > 0 ? view->strides[0] : (int64_t)row_bytes;
    return 0;
}

int take_packed(Call *call, PyObject *tuple, int writable, const qz_scheme *scheme, uint64_t rows, uint64_t cols,
                qz_packed *packed, uint64_t *bytes)
{
    qz_sizes sizes = {.size = sizeof(sizes)};
    size_t item = qz_dtype_size(scheme->scale_dtype), super_item = qz_dtype_size(scheme->super_dtype);
    uint64_t super_rows = scheme->super_size == QZ_WHOLE_MATRIX ? 1 : rows;
    qz_result result = qz_scheme_sizes(scheme, rows, cols, &sizes);
    PyObject *codes, *scales, *zeros, *supers;

    if (!PyTuple_Check(tuple)) {
        PyErr_SetString(PyExc_TypeError, "the parts of a packed array are a tuple");
        return -1;
    }
    if (!PyArg_ParseTuple(tuple, "OOOO;not the parts of a packed array", &codes, &scales, &zeros, &supers))
        return -1;
    if (result != QZ_OK) {
        raise_result(call->module, result, &call->detail);
        return -1;
    }
    if (bytes)
        *bytes = sizes.total_bytes;
    packed->zeros = packed->supers = NULL;
    packed->zero_stride = packed->super_stride = 0;
    if (take_part(call, codes, writable, 1, rows, sizes.code_bytes, &packed->codes, &packed->code_stride) < 0 ||
        take_part(call, scales, writable, item, rows, sizes.scale_bytes, &packed->scales, &packed->scale_stride) < 0)
        return -1;
    if (scheme->zero != QZ_ZERO_NONE && take_part(call, zeros, writable, scheme->zero == QZ_ZERO_UINT4 ? 1 : item, rows,
                                                  sizes.zero_bytes, &packed->zeros, &packed->zero_stride) < 0)
        return -1;
    if (scheme->super_size == 0)
        return 0;
    return take_part(call, supers, writable, super_item, super_rows, sizes.super_bytes, &packed->supers,
                     &packed->super_stride);
}
