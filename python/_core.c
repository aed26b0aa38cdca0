/*
 * _core - the strict layer between Python and libquantize
 *
 * Every function takes buffers of exact sizes, fills buffers that the caller made, and calls one function of
 * quantize.h. Types, shapes, copies, defaults and messages for people are the business of the Python files in
 * quantize/, which are the only callers. A result other than QZ_OK becomes an exception `Failure` whose arguments
 * are (result, index, count, group, value); a call that breaks the rules of this file gets a plain ValueError.
 *
 * Written for the limited API (one binary for Python 3.11 and later) and without NumPy's headers: arrays arrive
 * through the buffer protocol.
 */
#ifndef Py_LIMITED_API
#define Py_LIMITED_API 0x030B0000
#endif
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "quantize.h"

#define UNLOCK_BYTES ((uint64_t)64 << 10) /* release the interpreter lock for calls that move at least this much */
#define POOL_BYTES   ((uint64_t)1 << 20)  /* share the work among threads from here on: below, waking them costs more */

typedef struct {
    PyObject *failure; /* the exception class */
} State;

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
    if (pool != NULL && pool_process != getpid()) {
        qz_pool_destroy(pool);
        pool = NULL;
    }
    if (pool == NULL && qz_pool_create(0, &pool) == QZ_OK)
        pool_process = getpid();
    result = pool;
    atomic_flag_clear(&pool_taken);
    return result;
}

/* How one call runs: on which threads, and with or without the interpreter lock. */
typedef struct {
    qz_pool *pool;
    qz_pool *own; /* made for this call alone */
    PyThreadState *unlocked;
} Run;

/* threads: 0 to decide by size, else the number. Returns 0, or -1 with an exception. */
static int run_begin(Run *run, Py_ssize_t threads, uint64_t bytes)
{
    run->pool = NULL;
    run->own = NULL;
    run->unlocked = NULL;
    if (threads < 0 || threads > 256) {
        PyErr_SetString(PyExc_ValueError, "threads must be 0..256");
        return -1;
    }
    if (threads == 0) {
        if (bytes >= POOL_BYTES)
            run->pool = shared_pool();
    } else if (threads > 1) {
        if (qz_pool_create((size_t)threads, &run->own) != QZ_OK) {
            PyErr_NoMemory();
            return -1;
        }
        run->pool = run->own;
    }
    if (bytes >= UNLOCK_BYTES)
        run->unlocked = PyEval_SaveThread();
    return 0;
}

/* The function `stop` of a long call: whether Python has an exception to raise, which Ctrl-C for example causes.
 * Without this it would wait until the call ends. */
static int run_stop(void *context)
{
    Run *run = context;
    int raised;

    if (run->unlocked == NULL)
        return PyErr_CheckSignals() < 0;
    PyEval_RestoreThread(run->unlocked);
    raised = PyErr_CheckSignals() < 0;
    run->unlocked = PyEval_SaveThread();
    return raised;
}

static void run_end(Run *run)
{
    qz_pool_destroy(run->own);
    if (run->unlocked != NULL)
        PyEval_RestoreThread(run->unlocked);
}

/* ----------------------------------------------------------------------------------------------------------
 * Results
 * ------------------------------------------------------------------------------------------------------- */

static PyObject *fail(PyObject *module, qz_result result, const qz_detail *detail)
{
    State *state = PyModule_GetState(module);
    PyObject *arguments;

    if (result == QZ_ERROR_STOPPED) /* by run_stop, which has raised an exception */
        return NULL;
    if (result == QZ_ERROR_MEMORY)
        return PyErr_NoMemory();
    arguments =
        Py_BuildValue("(iKKKdi)", (int)result, (unsigned long long)detail->index, (unsigned long long)detail->count,
                      (unsigned long long)detail->group, detail->value, detail->number);
    if (arguments != NULL) {
        PyErr_SetObject(state->failure, arguments);
        Py_DECREF(arguments);
    }
    return NULL;
}

static PyObject *stats_tuple(const qz_stats *stats)
{
    return Py_BuildValue("(KdddKKKKKdd)", (unsigned long long)stats->count, stats->signal, stats->error,
                         stats->max_error, (unsigned long long)stats->max_index, (unsigned long long)stats->clipped,
                         (unsigned long long)stats->zeroed_groups, (unsigned long long)stats->subnormal_scales,
                         (unsigned long long)stats->replaced, stats->weighted_signal, stats->weighted_error);
}

/* ----------------------------------------------------------------------------------------------------------
 * Arguments
 * ------------------------------------------------------------------------------------------------------- */

static int count_is(Py_ssize_t given, Py_ssize_t expected)
{
    if (given == expected)
        return 0;
    PyErr_Format(PyExc_TypeError, "%zd arguments expected, %zd given", expected, given);
    return -1;
}

static int small_int(PyObject *object, int *value)
{
    long number = PyLong_AsLong(object);

    if (number == -1 && PyErr_Occurred())
        return -1;
    *value = number >= 0 && number <= 255 ? (int)number : 255; /* 255: no enum of quantize.h knows it */
    return 0;
}

/* Buffers of one call, so that every way out releases exactly what was taken. */
typedef struct {
    Py_buffer views[7];
    int count;
} Buffers;

static void release(Buffers *buffers)
{
    while (buffers->count > 0)
        PyBuffer_Release(&buffers->views[--buffers->count]);
}

static Py_buffer *take(Buffers *buffers, PyObject *object, int flags)
{
    Py_buffer *view = &buffers->views[buffers->count];

    if (PyObject_GetBuffer(object, view, flags) < 0)
        return NULL;
    buffers->count++;
    return view;
}

/* The elements of a contiguous buffer, whose length must be a multiple of `item` and whose start must suit it. */
static Py_buffer *take_flat(Buffers *buffers, PyObject *object, int flags, size_t item)
{
    Py_buffer *view = take(buffers, object, flags);

    if (view == NULL)
        return NULL;
    if (item == 0 || (size_t)view->len % item != 0 || (view->len != 0 && (uintptr_t)view->buf % item != 0)) {
        PyErr_SetString(PyExc_ValueError, "a buffer does not fit its element type");
        return NULL;
    }
    return view;
}

/* A two-dimensional buffer with any strides becomes a matrix. */
static int take_matrix(Buffers *buffers, PyObject *object, int writable, int dtype, qz_matrix *matrix)
{
    Py_ssize_t item = (Py_ssize_t)qz_dtype_size((qz_dtype)dtype);
    Py_buffer *view = take(buffers, object, writable ? PyBUF_STRIDED : PyBUF_STRIDED_RO);

    if (view == NULL)
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

/* One part of the plain form: `rows` rows of exactly `row_bytes` adjacent bytes, at any distance from each other
 * that leaves them apart. `*stride` is that distance. */
static int take_part(Buffers *buffers, PyObject *object, int writable, size_t item, uint64_t rows, uint64_t row_bytes,
                     void **data, int64_t *stride)
{
    Py_buffer *view = take(buffers, object, writable ? PyBUF_STRIDED : PyBUF_STRIDED_RO);

    if (view == NULL)
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

/* A scheme, and room for the table it may point to. */
typedef struct {
    qz_scheme row;
    float table[16];
} Scheme;

/* A scheme is the tuple (codes, scale_dtype, zero, method, group_size, positive, super_dtype, super_size, table, rule),
 * where table is None or sixteen float32 in a bytes object. */
static int parse_scheme(PyObject *tuple, Scheme *scheme)
{
    int codes, scale_dtype, zero, method, positive, super_dtype, rule;
    unsigned long long group_size, super_size;
    const char *table;
    Py_ssize_t bytes;

    if (!PyTuple_Check(tuple)) {
        PyErr_SetString(PyExc_TypeError, "a scheme is a tuple");
        return -1;
    }
    if (!PyArg_ParseTuple(tuple, "iiiiKiiKz#i;not a scheme", &codes, &scale_dtype, &zero, &method, &group_size,
                          &positive, &super_dtype, &super_size, &table, &bytes, &rule))
        return -1;
    if (table != NULL && bytes != (Py_ssize_t)sizeof(scheme->table)) {
        PyErr_SetString(PyExc_ValueError, "a table has 16 float32");
        return -1;
    }
    scheme->row = (qz_scheme){
        .size = sizeof(scheme->row),
        .codes = (qz_codes)codes,
        .scale_dtype = (qz_dtype)scale_dtype,
        .zero = (qz_zero)zero,
        .method = (qz_method)method,
        .group_size = group_size,
        .positive = positive,
        .super_dtype = (qz_dtype)super_dtype,
        .super_size = super_size,
        .rule = (qz_rule)rule,
    };
    if (table != NULL) {
        memcpy(scheme->table, table, sizeof(scheme->table));
        scheme->row.table = scheme->table;
    }
    return 0;
}

/* The four parts of a packed matrix: codes, scales, zeros, supers. Bytes of all of them together go to *bytes. */
static int take_packed(PyObject *module, Buffers *buffers, PyObject *const *parts, int writable,
                       const qz_scheme *scheme, uint64_t rows, uint64_t cols, qz_packed *packed, uint64_t *bytes)
{
    qz_detail detail = QZ_DETAIL_INIT;
    qz_sizes sizes = {.size = sizeof(sizes)};
    size_t item = qz_dtype_size(scheme->scale_dtype), super_item = qz_dtype_size(scheme->super_dtype);
    uint64_t super_rows = scheme->super_size == QZ_WHOLE_MATRIX ? 1 : rows;
    qz_result result = qz_scheme_sizes(scheme, rows, cols, &sizes);

    if (result != QZ_OK) {
        fail(module, result, &detail);
        return -1;
    }
    *bytes = sizes.total_bytes;
    packed->zeros = packed->supers = NULL;
    packed->zero_stride = packed->super_stride = 0;
    if (take_part(buffers, parts[0], writable, 1, rows, sizes.code_bytes, &packed->codes, &packed->code_stride) < 0 ||
        take_part(buffers, parts[1], writable, item, rows, sizes.scale_bytes, &packed->scales, &packed->scale_stride) <
            0)
        return -1;
    if (scheme->zero != QZ_ZERO_NONE && take_part(buffers, parts[2], writable, scheme->zero == QZ_ZERO_UINT4 ? 1 : item,
                                                  rows, sizes.zero_bytes, &packed->zeros, &packed->zero_stride) < 0)
        return -1;
    if (scheme->super_size == 0)
        return 0;
    return take_part(buffers, parts[3], writable, super_item, super_rows, sizes.super_bytes, &packed->supers,
                     &packed->super_stride);
}

static uint64_t matrix_bytes(const qz_matrix *matrix)
{
    return matrix->rows * matrix->cols * qz_dtype_size(matrix->dtype); /* of a buffer that exists or is repeated */
}

/* ----------------------------------------------------------------------------------------------------------
 * One scale for a whole array
 * ------------------------------------------------------------------------------------------------------- */

PyDoc_STRVAR(quantize_i4_doc, "quantize_i4(src, dtype, method, codes, /) -> (scale, zero_point)");

static PyObject *core_quantize_i4(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    Buffers buffers = {.count = 0};
    qz_detail detail = QZ_DETAIL_INIT;
    double scale = 0.0, zero_point = 0.0;
    qz_result result;
    Py_buffer *src, *codes;
    Run run;
    int dtype, method;
    size_t n, item;

    if (count_is(nargs, 4) < 0 || small_int(args[1], &dtype) < 0 || small_int(args[2], &method) < 0)
        return NULL;
    item = qz_dtype_size((qz_dtype)dtype);
    if ((src = take_flat(&buffers, args[0], PyBUF_SIMPLE, item)) == NULL ||
        (codes = take_flat(&buffers, args[3], PyBUF_WRITABLE, 1)) == NULL)
        goto failed;
    n = (size_t)codes->len;
    if ((size_t)src->len / item != n) {
        PyErr_SetString(PyExc_ValueError, "src and codes differ in length");
        goto failed;
    }
    if (run_begin(&run, 0, (uint64_t)src->len) < 0)
        goto failed;
    result = qz_quantize_i4(src->buf, (qz_dtype)dtype, n, (qz_method)method, codes->buf, &scale, &zero_point, run.pool,
                            &detail);
    run_end(&run);
    release(&buffers);
    return result == QZ_OK ? Py_BuildValue("(dd)", scale, zero_point) : fail(module, result, &detail);
failed:
    release(&buffers);
    return NULL;
}

PyDoc_STRVAR(dequantize_i4_doc, "dequantize_i4(codes, scale, zero_point, dst, dtype, /) -> None");

static PyObject *core_dequantize_i4(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    Buffers buffers = {.count = 0};
    qz_detail detail = QZ_DETAIL_INIT;
    double scale, zero_point;
    qz_result result;
    Py_buffer *codes, *dst;
    Run run;
    int dtype;
    size_t n, item;

    if (count_is(nargs, 5) < 0 || small_int(args[4], &dtype) < 0)
        return NULL;
    scale = PyFloat_AsDouble(args[1]);
    if (scale == -1.0 && PyErr_Occurred())
        return NULL;
    zero_point = PyFloat_AsDouble(args[2]);
    if (zero_point == -1.0 && PyErr_Occurred())
        return NULL;
    item = qz_dtype_size((qz_dtype)dtype);
    if ((codes = take_flat(&buffers, args[0], PyBUF_SIMPLE, 1)) == NULL ||
        (dst = take_flat(&buffers, args[3], PyBUF_WRITABLE, item)) == NULL)
        goto failed;
    n = (size_t)codes->len;
    if ((size_t)dst->len / item != n) {
        PyErr_SetString(PyExc_ValueError, "codes and dst differ in length");
        goto failed;
    }
    if (run_begin(&run, 0, (uint64_t)dst->len) < 0)
        goto failed;
    result = qz_dequantize_i4(codes->buf, n, scale, zero_point, dst->buf, (qz_dtype)dtype, run.pool, &detail);
    run_end(&run);
    release(&buffers);
    if (result != QZ_OK)
        return fail(module, result, &detail);
    Py_RETURN_NONE;
failed:
    release(&buffers);
    return NULL;
}

/* Both directions take (from, to) and check the same two lengths, the other way round. */
static PyObject *pack_or_unpack(PyObject *module, PyObject *const *args, Py_ssize_t nargs, int pack)
{
    Buffers buffers = {.count = 0};
    qz_detail detail = QZ_DETAIL_INIT;
    qz_result result;
    Py_buffer *from, *to, *codes, *packed;
    Run run;
    size_t n;

    if (count_is(nargs, 2) < 0)
        return NULL;
    if ((from = take_flat(&buffers, args[0], PyBUF_SIMPLE, 1)) == NULL ||
        (to = take_flat(&buffers, args[1], PyBUF_WRITABLE, 1)) == NULL)
        goto failed;
    codes = pack ? from : to;
    packed = pack ? to : from;
    n = (size_t)codes->len;
    if ((size_t)packed->len != qz_packed_bytes(n)) {
        PyErr_SetString(PyExc_ValueError, "the lengths of codes and packed bytes do not belong together");
        goto failed;
    }
    if (run_begin(&run, 0, n) < 0)
        goto failed;
    result = pack ? qz_pack_i4(codes->buf, n, packed->buf, run.pool, &detail)
                  : qz_unpack_i4(packed->buf, n, codes->buf, run.pool);
    run_end(&run);
    release(&buffers);
    if (result != QZ_OK)
        return fail(module, result, &detail);
    Py_RETURN_NONE;
failed:
    release(&buffers);
    return NULL;
}

PyDoc_STRVAR(pack_i4_doc, "pack_i4(codes, packed, /) -> None");

static PyObject *core_pack_i4(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    return pack_or_unpack(module, args, nargs, 1);
}

PyDoc_STRVAR(unpack_i4_doc, "unpack_i4(packed, codes, /) -> None");

static PyObject *core_unpack_i4(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    return pack_or_unpack(module, args, nargs, 0);
}

/* ----------------------------------------------------------------------------------------------------------
 * Groups
 * ------------------------------------------------------------------------------------------------------- */

PyDoc_STRVAR(encode_doc,
             "encode(scheme, src, dtype, parts, method, nonfinite, threads, stats, weights, weights_dtype,\n"
             "       stochastic, seed, /)\n"
             "-> a tuple of statistics, or None");

static PyObject *core_encode(PyObject *module, PyObject *args)
{
    Buffers buffers = {.count = 0};
    qz_detail detail = QZ_DETAIL_INIT;
    qz_options options = QZ_OPTIONS_INIT;
    qz_stats stats = QZ_STATS_INIT;
    PyObject *scheme_tuple, *src_object, *weights_object, *parts[4];
    qz_matrix src, weights;
    qz_packed dst;
    Scheme scheme;
    qz_result result;
    uint64_t bytes;
    Run run;
    Py_ssize_t threads;
    int dtype, method, nonfinite, want_stats, weights_dtype;
    int stochastic;
    unsigned long long seed;

    if (!PyArg_ParseTuple(args, "OOi(OOOO)iinpOipK:encode", &scheme_tuple, &src_object, &dtype, &parts[0], &parts[1],
                          &parts[2], &parts[3], &method, &nonfinite, &threads, &want_stats, &weights_object,
                          &weights_dtype, &stochastic, &seed))
        return NULL;
    if (parse_scheme(scheme_tuple, &scheme) < 0 || take_matrix(&buffers, src_object, 0, dtype, &src) < 0 ||
        (weights_object != Py_None && take_matrix(&buffers, weights_object, 0, weights_dtype, &weights) < 0) ||
        take_packed(module, &buffers, parts, 1, &scheme.row, src.rows, src.cols, &dst, &bytes) < 0 ||
        run_begin(&run, threads, matrix_bytes(&src)) < 0) {
        release(&buffers);
        return NULL;
    }
    options.method = (qz_method)method;
    options.nonfinite = (qz_nonfinite)nonfinite;
    options.pool = run.pool;
    options.weights = weights_object != Py_None ? &weights : NULL;
    options.stochastic = stochastic;
    options.seed = seed;
    options.stop = run_stop;
    options.stop_context = &run;
    result = qz_encode(&scheme.row, &src, &dst, &options, want_stats ? &stats : NULL, &detail);
    run_end(&run);
    release(&buffers);
    if (result != QZ_OK)
        return fail(module, result, &detail);
    if (want_stats)
        return stats_tuple(&stats);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(gptq_doc, "gptq(scheme, src, dtype, gram, gram_dtype, holdout, holdout_dtype, parts, method, act_order, "
                       "sweeps, damping, examples, threads, /)\n-> a tuple of statistics, and (damping, output_signal, "
                       "output_error, holdout_signal, holdout_error)");

static PyObject *core_gptq(PyObject *module, PyObject *args)
{
    Buffers buffers = {.count = 0};
    qz_detail detail = QZ_DETAIL_INIT;
    qz_gptq_options options = QZ_GPTQ_OPTIONS_INIT;
    qz_stats stats = QZ_STATS_INIT;
    qz_gptq_outcome outcome;
    PyObject *scheme_tuple, *src_object, *gram_object, *holdout_object, *parts[4];
    qz_matrix src, gram, holdout;
    unsigned long long examples;
    qz_packed dst;
    Scheme scheme;
    qz_result result;
    uint64_t bytes;
    Run run;
    Py_ssize_t threads;
    int dtype, gram_dtype, holdout_dtype, method;

    if (!PyArg_ParseTuple(args, "OOiOiOi(OOOO)ipIdKn:gptq", &scheme_tuple, &src_object, &dtype, &gram_object,
                          &gram_dtype, &holdout_object, &holdout_dtype, &parts[0], &parts[1], &parts[2], &parts[3],
                          &method, &options.act_order, &options.sweeps, &options.damping, &examples, &threads))
        return NULL;
    /* Each byte takes part in so many sums that threads pay early. */
    if (parse_scheme(scheme_tuple, &scheme) < 0 || take_matrix(&buffers, src_object, 0, dtype, &src) < 0 ||
        take_matrix(&buffers, gram_object, 0, gram_dtype, &gram) < 0 ||
        (holdout_object != Py_None && take_matrix(&buffers, holdout_object, 0, holdout_dtype, &holdout) < 0) ||
        take_packed(module, &buffers, parts, 1, &scheme.row, src.rows, src.cols, &dst, &bytes) < 0 ||
        run_begin(&run, threads, 16 * matrix_bytes(&src)) < 0) {
        release(&buffers);
        return NULL;
    }
    options.method = (qz_method)method;
    options.pool = run.pool;
    options.stop = run_stop;
    options.stop_context = &run;
    options.examples = examples;
    options.holdout = holdout_object != Py_None ? &holdout : NULL;
    options.outcome = &outcome;
    result = qz_gptq(&scheme.row, &src, &gram, &options, &dst, &stats, &detail);
    run_end(&run);
    release(&buffers);
    if (result != QZ_OK)
        return fail(module, result, &detail);
    return Py_BuildValue("N(ddddd)", stats_tuple(&stats), outcome.damping, outcome.output_signal, outcome.output_error,
                         outcome.holdout_signal, outcome.holdout_error);
}

PyDoc_STRVAR(decode_doc, "decode(scheme, parts, dst, dtype, threads, /) -> None");

static PyObject *core_decode(PyObject *module, PyObject *args)
{
    Buffers buffers = {.count = 0};
    qz_detail detail = QZ_DETAIL_INIT;
    PyObject *scheme_tuple, *dst_object, *parts[4];
    qz_matrix dst;
    qz_packed src;
    Scheme scheme;
    qz_result result;
    uint64_t bytes;
    Run run;
    Py_ssize_t threads;
    int dtype;

    if (!PyArg_ParseTuple(args, "O(OOOO)Oin:decode", &scheme_tuple, &parts[0], &parts[1], &parts[2], &parts[3],
                          &dst_object, &dtype, &threads))
        return NULL;
    if (parse_scheme(scheme_tuple, &scheme) < 0 || take_matrix(&buffers, dst_object, 1, dtype, &dst) < 0 ||
        take_packed(module, &buffers, parts, 0, &scheme.row, dst.rows, dst.cols, &src, &bytes) < 0 ||
        run_begin(&run, threads, matrix_bytes(&dst)) < 0) {
        release(&buffers);
        return NULL;
    }
    result = qz_decode(&scheme.row, &src, &dst, run.pool, &detail);
    run_end(&run);
    release(&buffers);
    if (result != QZ_OK)
        return fail(module, result, &detail);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(compare_doc, "compare(scheme, parts, a, dtype, threads, /) -> a tuple of statistics");

static PyObject *core_compare(PyObject *module, PyObject *args)
{
    Buffers buffers = {.count = 0};
    qz_detail detail = QZ_DETAIL_INIT;
    qz_stats stats = QZ_STATS_INIT;
    PyObject *scheme_tuple, *a_object, *parts[4];
    qz_matrix a;
    qz_packed packed;
    Scheme scheme;
    qz_result result;
    uint64_t bytes;
    Run run;
    Py_ssize_t threads;
    int dtype;

    if (!PyArg_ParseTuple(args, "O(OOOO)Oin:compare", &scheme_tuple, &parts[0], &parts[1], &parts[2], &parts[3],
                          &a_object, &dtype, &threads))
        return NULL;
    if (parse_scheme(scheme_tuple, &scheme) < 0 || take_matrix(&buffers, a_object, 0, dtype, &a) < 0 ||
        take_packed(module, &buffers, parts, 0, &scheme.row, a.rows, a.cols, &packed, &bytes) < 0 ||
        run_begin(&run, threads, matrix_bytes(&a)) < 0) {
        release(&buffers);
        return NULL;
    }
    result = qz_compare(&scheme.row, &packed, &a, run.pool, &stats, &detail);
    run_end(&run);
    release(&buffers);
    return result == QZ_OK ? stats_tuple(&stats) : fail(module, result, &detail);
}

PyDoc_STRVAR(compare_matrices_doc, "compare_matrices(a, a_dtype, b, b_dtype, threads, /) -> a tuple of statistics");

static PyObject *core_compare_matrices(PyObject *module, PyObject *args)
{
    Buffers buffers = {.count = 0};
    qz_detail detail = QZ_DETAIL_INIT;
    qz_stats stats = QZ_STATS_INIT;
    PyObject *a_object, *b_object;
    qz_matrix a, b;
    qz_result result;
    Run run;
    Py_ssize_t threads;
    int a_dtype, b_dtype;

    if (!PyArg_ParseTuple(args, "OiOin:compare_matrices", &a_object, &a_dtype, &b_object, &b_dtype, &threads))
        return NULL;
    if (take_matrix(&buffers, a_object, 0, a_dtype, &a) < 0 || take_matrix(&buffers, b_object, 0, b_dtype, &b) < 0 ||
        run_begin(&run, threads, matrix_bytes(&a)) < 0) {
        release(&buffers);
        return NULL;
    }
    result = qz_compare_matrices(&a, &b, run.pool, &stats, &detail);
    run_end(&run);
    release(&buffers);
    return result == QZ_OK ? stats_tuple(&stats) : fail(module, result, &detail);
}

PyDoc_STRVAR(validate_doc, "validate(scheme, parts, rows, cols, /) -> None");

static PyObject *core_validate(PyObject *module, PyObject *args)
{
    Buffers buffers = {.count = 0};
    qz_detail detail = QZ_DETAIL_INIT;
    PyObject *scheme_tuple, *parts[4];
    qz_packed packed;
    Scheme scheme;
    qz_result result;
    unsigned long long rows, cols;
    uint64_t bytes;
    Run run;

    if (!PyArg_ParseTuple(args, "O(OOOO)KK:validate", &scheme_tuple, &parts[0], &parts[1], &parts[2], &parts[3], &rows,
                          &cols))
        return NULL;
    if (parse_scheme(scheme_tuple, &scheme) < 0 ||
        take_packed(module, &buffers, parts, 0, &scheme.row, rows, cols, &packed, &bytes) < 0 ||
        run_begin(&run, 1, bytes) < 0) {
        release(&buffers);
        return NULL;
    }
    result = qz_validate(&scheme.row, &packed, rows, cols, &detail);
    run_end(&run);
    release(&buffers);
    if (result != QZ_OK)
        return fail(module, result, &detail);
    Py_RETURN_NONE;
}

/* ----------------------------------------------------------------------------------------------------------
 * What there is
 * ------------------------------------------------------------------------------------------------------- */

PyDoc_STRVAR(scheme_check_doc, "scheme_check(scheme, method, /) -> bool: can this be encoded?");

static PyObject *core_scheme_check(PyObject *module, PyObject *args)
{
    PyObject *scheme_tuple;
    Scheme scheme;
    int method;

    (void)module;
    if (!PyArg_ParseTuple(args, "Oi:scheme_check", &scheme_tuple, &method) || parse_scheme(scheme_tuple, &scheme) < 0)
        return NULL;
    return PyBool_FromLong(qz_scheme_check(&scheme.row, (qz_method)method) == QZ_OK);
}

PyDoc_STRVAR(scheme_sizes_doc, "scheme_sizes(scheme, rows, cols, /)\n"
                               "-> (groups, bytes of codes, of scales, of zeros, of supers in a row, of all)");

static PyObject *core_scheme_sizes(PyObject *module, PyObject *args)
{
    qz_detail detail = QZ_DETAIL_INIT;
    qz_sizes sizes = {.size = sizeof(sizes)};
    PyObject *scheme_tuple;
    Scheme scheme;
    qz_result result;
    unsigned long long rows, cols;

    if (!PyArg_ParseTuple(args, "OKK:scheme_sizes", &scheme_tuple, &rows, &cols) ||
        parse_scheme(scheme_tuple, &scheme) < 0)
        return NULL;
    result = qz_scheme_sizes(&scheme.row, rows, cols, &sizes);
    if (result != QZ_OK)
        return fail(module, result, &detail);
    return Py_BuildValue("(KKKKKK)", (unsigned long long)sizes.row_groups, (unsigned long long)sizes.code_bytes,
                         (unsigned long long)sizes.scale_bytes, (unsigned long long)sizes.zero_bytes,
                         (unsigned long long)sizes.super_bytes, (unsigned long long)sizes.total_bytes);
}

PyDoc_STRVAR(schemes_doc, "schemes() -> a list of (name, summary, scheme)");

static PyObject *core_schemes(PyObject *module, PyObject *unused)
{
    PyObject *list = PyList_New(0);
    const qz_scheme *scheme;

    (void)module;
    (void)unused;
    for (size_t i = 0; list != NULL && (scheme = qz_scheme_at(i)) != NULL; i++) {
        PyObject *row =
            Py_BuildValue("(ss(iiiiKiiKOi))", scheme->name, scheme->summary != NULL ? scheme->summary : "",
                          (int)scheme->codes, (int)scheme->scale_dtype, (int)scheme->zero, (int)scheme->method,
                          (unsigned long long)scheme->group_size, scheme->positive, (int)scheme->super_dtype,
                          (unsigned long long)scheme->super_size, Py_None, (int)scheme->rule);
        if (row == NULL || PyList_Append(list, row) < 0)
            Py_CLEAR(list);
        Py_XDECREF(row);
    }
    return list;
}

PyDoc_STRVAR(rules_doc, "rules() -> a list of names: the i-th is that of the qz_rule i");

static PyObject *core_rules(PyObject *module, PyObject *unused)
{
    PyObject *list = PyList_New(0);
    const char *name;

    (void)module;
    (void)unused;
    for (int i = 0; list != NULL && (name = qz_rule_name((qz_rule)i)) != NULL; i++) {
        PyObject *text = PyUnicode_FromString(name);
        if (text == NULL || PyList_Append(list, text) < 0)
            Py_CLEAR(list);
        Py_XDECREF(text);
    }
    return list;
}

PyDoc_STRVAR(kernels_doc, "kernels() -> the name of the kernel set in use, or None when QUANTIZE_KERNELS is wrong");

static PyObject *core_kernels(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    return Py_BuildValue("z", qz_kernels());
}

PyDoc_STRVAR(kernel_sets_doc, "kernel_sets() -> a list of (name, supported), best first");

static PyObject *core_kernel_sets(PyObject *module, PyObject *unused)
{
    PyObject *list = PyList_New(0);
    const char *name;
    int supported;

    (void)module;
    (void)unused;
    for (size_t i = 0; list != NULL && (name = qz_kernels_at(i, &supported)) != NULL; i++) {
        PyObject *row = Py_BuildValue("(sO)", name, supported ? Py_True : Py_False);
        if (row == NULL || PyList_Append(list, row) < 0)
            Py_CLEAR(list);
        Py_XDECREF(row);
    }
    return list;
}

PyDoc_STRVAR(result_text_doc, "result_text(result, /) -> str");

static PyObject *core_result_text(PyObject *module, PyObject *object)
{
    int result;

    (void)module;
    if (small_int(object, &result) < 0)
        return NULL;
    return PyUnicode_FromString(qz_result_text((qz_result)result));
}

PyDoc_STRVAR(cpu_count_doc, "cpu_count() -> the number of CPUs this process may use");

static PyObject *core_cpu_count(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    return PyLong_FromSize_t(qz_cpu_count());
}

/* ----------------------------------------------------------------------------------------------------------
 * The module
 * ------------------------------------------------------------------------------------------------------- */

#define FAST(name)                                                                                                     \
    {                                                                                                                  \
#name, (PyCFunction)(void (*)(void))core_##name, METH_FASTCALL, name##_doc                                     \
    }
#define PLAIN(name, flags)                                                                                             \
    {                                                                                                                  \
#name, core_##name, flags, name##_doc                                                                          \
    }

static PyMethodDef methods[] = {
    FAST(quantize_i4),
    FAST(dequantize_i4),
    FAST(pack_i4),
    FAST(unpack_i4),
    PLAIN(encode, METH_VARARGS),
    PLAIN(gptq, METH_VARARGS),
    PLAIN(decode, METH_VARARGS),
    PLAIN(compare, METH_VARARGS),
    PLAIN(compare_matrices, METH_VARARGS),
    PLAIN(validate, METH_VARARGS),
    PLAIN(scheme_check, METH_VARARGS),
    PLAIN(scheme_sizes, METH_VARARGS),
    PLAIN(schemes, METH_NOARGS),
    PLAIN(rules, METH_NOARGS),
    PLAIN(kernels, METH_NOARGS),
    PLAIN(kernel_sets, METH_NOARGS),
    PLAIN(result_text, METH_O),
    PLAIN(cpu_count, METH_NOARGS),
    {NULL, NULL, 0, NULL},
};

/* The numbers of quantize.h that the Python files speak, under the same names without QZ_. */
static const struct {
    const char *name;
    int value;
} constants[] = {
    {"F32", QZ_F32},
    {"F64", QZ_F64},
    {"F16", QZ_F16},
    {"BF16", QZ_BF16},
    {"E4M3", QZ_E4M3},
    {"E8M0", QZ_E8M0},
    {"I6", QZ_I6},
    {"U6", QZ_U6},
    {"I7", QZ_I7},
    {"DEFAULT", QZ_DEFAULT},
    {"MINMAX", QZ_MINMAX},
    {"ABSMAX", QZ_ABSMAX},
    {"ABSMAX7", QZ_ABSMAX7},
    {"SEARCH", QZ_SEARCH},
    {"EXACT", QZ_EXACT},
    {"REFERENCE", QZ_REFERENCE},
    {"INT4", QZ_INT4},
    {"UINT4", QZ_UINT4},
    {"NF4", QZ_NF4},
    {"FP4", QZ_FP4},
    {"FP4_BNB", QZ_FP4_BNB},
    {"IQ4", QZ_IQ4},
    {"DUAL", QZ_DUAL},
    {"TABLE", QZ_TABLE},
    {"ZERO_NONE", QZ_ZERO_NONE},
    {"ZERO_UINT4", QZ_ZERO_UINT4},
    {"ZERO_OFFSET", QZ_ZERO_OFFSET},
    {"ZERO_FLOAT", QZ_ZERO_FLOAT},
    {"REFUSE", QZ_REFUSE},
    {"CLIP", QZ_CLIP},
    {"ERROR_ARGUMENT", QZ_ERROR_ARGUMENT},
    {"ERROR_NONFINITE", QZ_ERROR_NONFINITE},
    {"ERROR_CODE", QZ_ERROR_CODE},
    {"ERROR_RANGE", QZ_ERROR_RANGE},
    {"ERROR_SCALE", QZ_ERROR_SCALE},
    {"ERROR_SIZE", QZ_ERROR_SIZE},
    {"ERROR_KERNELS", QZ_ERROR_KERNELS},
    {"ERROR_PACKED", QZ_ERROR_PACKED},
    {"ERROR_WEIGHT", QZ_ERROR_WEIGHT},
    {"ERROR_GRAM", QZ_ERROR_GRAM},
};

static int module_exec(PyObject *module)
{
    State *state = PyModule_GetState(module);

    state->failure =
        PyErr_NewExceptionWithDoc("quantize._core.Failure", "(result, index, count, group, value)", NULL, NULL);
    if (state->failure == NULL || PyModule_AddObjectRef(module, "Failure", state->failure) < 0)
        return -1;
    for (size_t i = 0; i < sizeof(constants) / sizeof(constants[0]); i++)
        if (PyModule_AddIntConstant(module, constants[i].name, constants[i].value) < 0)
            return -1;
    return PyModule_AddStringConstant(module, "version", qz_version());
}

static int module_traverse(PyObject *module, visitproc visit, void *arg)
{
    State *state = PyModule_GetState(module);

    if (state != NULL)
        Py_VISIT(state->failure);
    return 0;
}

static int module_clear(PyObject *module)
{
    State *state = PyModule_GetState(module);

    if (state != NULL)
        Py_CLEAR(state->failure);
    return 0;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, (void *)(uintptr_t)module_exec},
#ifdef Py_mod_multiple_interpreters
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "quantize._core",
    .m_doc = "The C library behind the quantize package. Use the package instead.",
    .m_size = sizeof(State),
    .m_methods = methods,
    .m_slots = slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
};

PyMODINIT_FUNC PyInit__core(void);

PyMODINIT_FUNC PyInit__core(void)
{
    return PyModuleDef_Init(&module_def);
}
