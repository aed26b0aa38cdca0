/*
 * call - one call of libquantize: the buffers it takes, the threads it runs on, and what came of it
 *
 * Every function of _core.c that calls the library goes the same way:
 *
 *     Call call;
 *
 *     call_init(&call, module);
 *     if (take_matrix(&call, ...) < 0 || ... || call_begin(&call, threads, bytes) < 0)
 *         return call_cancel(&call);
 *     if (call_end(&call, qz_...(..., call.pool, &call.detail)) < 0)
 *         return NULL;
 *
 * Between call_begin and call_end the interpreter lock may be released. Either call_cancel or call_end releases what
 * was taken.
 */
#ifndef QUANTIZE_PYTHON_CALL_H
#define QUANTIZE_PYTHON_CALL_H

#include "shared.h"

typedef struct {
    PyObject *module;
    Py_buffer views[8];
    int count;        /* of the views */
    qz_detail detail; /* for the library to fill */
    qz_pool *pool;    /* for the library to use */
    qz_pool *own;     /* the same, if it was made for this call alone */
    PyThreadState *unlocked;
} Call;

void call_init(Call *call, PyObject *module);

/* Decides where a call of so many bytes runs. threads: 0 to decide by size, else the number. Returns 0, or -1 with an
 * exception. */
int call_begin(Call *call, Py_ssize_t threads, uint64_t bytes);

/* Releases everything, and raises an exception for a result that is not QZ_OK. Returns 0, or -1 with an exception. */
int call_end(Call *call, qz_result result);

/* Releases everything after an error. Returns NULL. */
PyObject *call_cancel(Call *call);

/* The function `stop` of a long call, whose context is the Call: whether Python has an exception to raise, which Ctrl-C
 * for example causes. Without this it would wait until the call ends. */
int call_stop(void *context);

/* Raises the exception for a result that is not QZ_OK. Returns NULL. */
PyObject *raise_result(PyObject *module, qz_result result, const qz_detail *detail);

/* The elements of a contiguous buffer, whose length must be a multiple of `item` and whose start must suit it. Returns
 * NULL with an exception if they do not. */
Py_buffer *take_flat(Call *call, PyObject *object, int flags, size_t item);

/* A two-dimensional buffer with any strides becomes a matrix. Returns 0, or -1 with an exception. */
int take_matrix(Call *call, PyObject *object, int writable, int dtype, qz_matrix *matrix);

/* The four parts of a packed matrix: the tuple (codes, scales, zeros, supers), where a part that the scheme does not
 * have is ignored. Bytes of all of them together go to *bytes, which may be NULL. Returns 0, or -1 with an exception.
 */
int take_packed(Call *call, PyObject *tuple, int writable, const qz_scheme *scheme, uint64_t rows, uint64_t cols,
                qz_packed *packed, uint64_t *bytes);

#endif
