/*
 * _core - the strict layer between Python and libquantize
 *
 * Every function takes buffers of exact sizes, fills buffers that the caller made, and calls one function of
 * quantize.h. A result other than QZ_OK becomes an exception `Failure` whose arguments are (result, index, count,
 * group, value, number), the fields of qz_detail; a call that breaks the rules of this file gets a plain ValueError or
 * TypeError. quantize/core_types.py names the numbers of the tuples. call.h takes the buffers and runs the call.
 */
#include "call.h"

typedef struct {
    PyObject *failure; /* the exception class */
} State;

/* a * b, or the largest number. */
static uint64_t work_of(uint64_t a, uint64_t b)
{
    return b && a > UINT64_MAX / b ? UINT64_MAX : a * b;
}

static uint64_t matrix_bytes(const qz_matrix *matrix)
{
    return matrix->rows * matrix->cols * qz_dtype_size(matrix->dtype); /* of a buffer that exists or is repeated */
}

/* What a function returns that has nothing to tell: None, or NULL after an error. */
static PyObject *none_unless(int error)
{
    return error < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *stats_tuple(const qz_stats *stats)
{
    return Py_BuildValue("(KdddKKKKKdd)", (unsigned long long)stats->count, stats->signal, stats->error,
                         stats->max_error, (unsigned long long)stats->max_index, (unsigned long long)stats->clipped,
                         (unsigned long long)stats->zeroed_groups, (unsigned long long)stats->subnormal_scales,
                         (unsigned long long)stats->replaced, stats->weighted_signal, stats->weighted_error);
}

/* ----------------------------------------------------------------------------------------------------------
 * One scale for a whole array
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

static int float_of(PyObject *object, double *value)
{
    *value = PyFloat_AsDouble(object);
    return *value == -1.0 && PyErr_Occurred() ? -1 : 0;
}

static int lengths_agree(size_t given, size_t expected, const char *message)
{
    if (given == expected)
        return 0;
    PyErr_SetString(PyExc_ValueError, message);
    return -1;
}

PyDoc_STRVAR(quantize_i4_doc, "quantize_i4(src, dtype, method, codes, /) -> (scale, zero_point)");

static PyObject *core_quantize_i4(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    double scale = 0.0, zero_point = 0.0;
    Py_buffer *src, *codes;
    int dtype, method;
    size_t n, item;
    Call call;

    call_init(&call, module);
    if (count_is(nargs, 4) < 0 || small_int(args[1], &dtype) < 0 || small_int(args[2], &method) < 0)
        return NULL;
    item = qz_dtype_size((qz_dtype)dtype);
    if (!(src = take_flat(&call, args[0], PyBUF_SIMPLE, item)) ||
        !(codes = take_flat(&call, args[3], PyBUF_WRITABLE, 1)))
        return call_cancel(&call);
    n = (size_t)codes->len;
    if (lengths_agree((size_t)src->len / item, n, "src and codes differ in length") < 0 ||
        call_begin(&call, 0, (uint64_t)src->len) < 0)
        return call_cancel(&call);
    if (call_end(&call, qz_quantize_i4(src->buf, (qz_dtype)dtype, n, (qz_method)method, codes->buf, &scale, &zero_point,
                                       call.pool, &call.detail)) < 0)
        return NULL;
    return Py_BuildValue("(dd)", scale, zero_point);
}

PyDoc_STRVAR(dequantize_i4_doc, "dequantize_i4(codes, scale, zero_point, dst, dtype, /) -> None");

static PyObject *core_dequantize_i4(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    double scale, zero_point;
    Py_buffer *codes, *dst;
    size_t n, item;
    int dtype;
    Call call;

    call_init(&call, module);
    if (count_is(nargs, 5) < 0 || small_int(args[4], &dtype) < 0 || float_of(args[1], &scale) < 0 ||
        float_of(args[2], &zero_point) < 0)
        return NULL;
    item = qz_dtype_size((qz_dtype)dtype);
    if (!(codes = take_flat(&call, args[0], PyBUF_SIMPLE, 1)) ||
        !(dst = take_flat(&call, args[3], PyBUF_WRITABLE, item)))
        return call_cancel(&call);
    n = (size_t)codes->len;
    if (lengths_agree((size_t)dst->len / item, n, "codes and dst differ in length") < 0 ||
        call_begin(&call, 0, (uint64_t)dst->len) < 0)
        return call_cancel(&call);
    return none_unless(call_end(
        &call, qz_dequantize_i4(codes->buf, n, scale, zero_point, dst->buf, (qz_dtype)dtype, call.pool, &call.detail)));
}

/* Both directions take (from, to) and check the same two lengths, the other way round. */
static PyObject *pack_or_unpack(PyObject *module, PyObject *const *args, Py_ssize_t nargs, int pack)
{
    static const char different[] = "the lengths of codes and packed bytes do not belong together";
    Py_buffer *from, *to, *codes, *packed;
    size_t n;
    Call call;

    call_init(&call, module);
    if (count_is(nargs, 2) < 0)
        return NULL;
    if (!(from = take_flat(&call, args[0], PyBUF_SIMPLE, 1)) || !(to = take_flat(&call, args[1], PyBUF_WRITABLE, 1)))
        return call_cancel(&call);
    codes = pack ? from : to;
    packed = pack ? to : from;
    n = (size_t)codes->len;
    if (lengths_agree((size_t)packed->len, qz_packed_bytes(n), different) < 0 || call_begin(&call, 0, n) < 0)
        return call_cancel(&call);
    return none_unless(call_end(&call, pack ? qz_pack_i4(codes->buf, n, packed->buf, call.pool, &call.detail)
                                            : qz_unpack_i4(packed->buf, n, codes->buf, call.pool)));
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

/* Packed data that is read: the objects that are given, and what becomes of them. */
typedef struct {
    PyObject *tuple, *parts;
    Scheme scheme;
    qz_packed packed;
    uint64_t bytes;
} Input;

static int take_input(Call *call, Input *in, uint64_t rows, uint64_t cols)
{
    if (take_scheme(in->tuple, &in->scheme) < 0)
        return -1;
    return take_packed(call, in->parts, 0, &in->scheme.row, rows, cols, &in->packed, &in->bytes);
}

PyDoc_STRVAR(encode_doc,
             "encode(scheme, src, dtype, parts, method, nonfinite, threads, stats, weights, weights_dtype,\n"
             "       stochastic, seed, /)\n"
             "-> a tuple of statistics, or None");

static PyObject *core_encode(PyObject *module, PyObject *args)
{
    qz_options options = QZ_OPTIONS_INIT;
    qz_stats stats = QZ_STATS_INIT;
    PyObject *tuple, *src_object, *weights_object, *parts;
    qz_matrix src, weights;
    qz_packed dst;
    Scheme scheme;
    Call call;
    Py_ssize_t threads;
    int dtype, method, nonfinite, want_stats, weights_dtype;
    unsigned long long seed;

    call_init(&call, module);
    if (!PyArg_ParseTuple(args, "OOiOiinpOipK:encode", &tuple, &src_object, &dtype, &parts, &method, &nonfinite,
                          &threads, &want_stats, &weights_object, &weights_dtype, &options.stochastic, &seed) ||
        take_scheme(tuple, &scheme) < 0 || take_matrix(&call, src_object, 0, dtype, &src) < 0 ||
        (weights_object != Py_None && take_matrix(&call, weights_object, 0, weights_dtype, &weights) < 0) ||
        take_packed(&call, parts, 1, &scheme.row, src.rows, src.cols, &dst, NULL) < 0 ||
        call_begin(&call, threads, matrix_bytes(&src)) < 0)
        return call_cancel(&call);
    options.method = (qz_method)method;
    options.nonfinite = (qz_nonfinite)nonfinite;
    options.pool = call.pool;
    options.weights = weights_object != Py_None ? &weights : NULL;
    options.seed = seed;
    options.stop = call_stop;
    options.stop_context = &call;
    if (call_end(&call, qz_encode(&scheme.row, &src, &dst, &options, want_stats ? &stats : NULL, &call.detail)) < 0)
        return NULL;
    return want_stats ? stats_tuple(&stats) : Py_NewRef(Py_None);
}

PyDoc_STRVAR(gptq_doc, "gptq(scheme, src, dtype, gram, gram_dtype, holdout, holdout_dtype, parts, method, act_order, "
                       "sweeps, damping, examples, threads, /)\n-> a tuple of statistics, and (damping, output_signal, "
                       "output_error, holdout_signal, holdout_error)");

static PyObject *core_gptq(PyObject *module, PyObject *args)
{
    qz_gptq_options options = QZ_GPTQ_OPTIONS_INIT;
    qz_stats stats = QZ_STATS_INIT;
    qz_gptq_outcome outcome;
    PyObject *tuple, *src_object, *gram_object, *holdout_object, *parts;
    qz_matrix src, gram, holdout;
    unsigned long long examples;
    qz_packed dst;
    Scheme scheme;
    Call call;
    Py_ssize_t threads;
    int dtype, gram_dtype, holdout_dtype, method;

    call_init(&call, module);
    /* Each byte takes part in so many sums that threads pay early. */
    if (!PyArg_ParseTuple(args, "OOiOiOiOipIdKn:gptq", &tuple, &src_object, &dtype, &gram_object, &gram_dtype,
                          &holdout_object, &holdout_dtype, &parts, &method, &options.act_order, &options.sweeps,
                          &options.damping, &examples, &threads) ||
        take_scheme(tuple, &scheme) < 0 || take_matrix(&call, src_object, 0, dtype, &src) < 0 ||
        take_matrix(&call, gram_object, 0, gram_dtype, &gram) < 0 ||
        (holdout_object != Py_None && take_matrix(&call, holdout_object, 0, holdout_dtype, &holdout) < 0) ||
        take_packed(&call, parts, 1, &scheme.row, src.rows, src.cols, &dst, NULL) < 0 ||
        call_begin(&call, threads, 16 * matrix_bytes(&src)) < 0)
        return call_cancel(&call);
    options.method = (qz_method)method;
    options.pool = call.pool;
    options.stop = call_stop;
    options.stop_context = &call;
    options.examples = examples;
    options.holdout = holdout_object != Py_None ? &holdout : NULL;
    options.outcome = &outcome;
    if (call_end(&call, qz_gptq(&scheme.row, &src, &gram, &options, &dst, &stats, &call.detail)) < 0)
        return NULL;
    return Py_BuildValue("N(ddddd)", stats_tuple(&stats), outcome.damping, outcome.output_signal, outcome.output_error,
                         outcome.holdout_signal, outcome.holdout_error);
}

PyDoc_STRVAR(decode_doc, "decode(scheme, parts, dst, dtype, threads, /) -> None");

static PyObject *core_decode(PyObject *module, PyObject *args)
{
    PyObject *dst_object;
    qz_matrix dst;
    Input in;
    Call call;
    Py_ssize_t threads;
    int dtype;

    call_init(&call, module);
    if (!PyArg_ParseTuple(args, "OOOin:decode", &in.tuple, &in.parts, &dst_object, &dtype, &threads) ||
        take_matrix(&call, dst_object, 1, dtype, &dst) < 0 || take_input(&call, &in, dst.rows, dst.cols) < 0 ||
        call_begin(&call, threads, matrix_bytes(&dst)) < 0)
        return call_cancel(&call);
    return none_unless(call_end(&call, qz_decode(&in.scheme.row, &in.packed, &dst, call.pool, &call.detail)));
}

PyDoc_STRVAR(compare_doc, "compare(scheme, parts, a, dtype, threads, /) -> a tuple of statistics");

static PyObject *core_compare(PyObject *module, PyObject *args)
{
    qz_stats stats = QZ_STATS_INIT;
    PyObject *a_object;
    qz_matrix a;
    Input in;
    Call call;
    Py_ssize_t threads;
    int dtype;

    call_init(&call, module);
    if (!PyArg_ParseTuple(args, "OOOin:compare", &in.tuple, &in.parts, &a_object, &dtype, &threads) ||
        take_matrix(&call, a_object, 0, dtype, &a) < 0 || take_input(&call, &in, a.rows, a.cols) < 0 ||
        call_begin(&call, threads, matrix_bytes(&a)) < 0)
        return call_cancel(&call);
    if (call_end(&call, qz_compare(&in.scheme.row, &in.packed, &a, call.pool, &stats, &call.detail)) < 0)
        return NULL;
    return stats_tuple(&stats);
}

PyDoc_STRVAR(compare_matrices_doc, "compare_matrices(a, a_dtype, b, b_dtype, threads, /) -> a tuple of statistics");

static PyObject *core_compare_matrices(PyObject *module, PyObject *args)
{
    qz_stats stats = QZ_STATS_INIT;
    PyObject *a_object, *b_object;
    qz_matrix a, b;
    Call call;
    Py_ssize_t threads;
    int a_dtype, b_dtype;

    call_init(&call, module);
    if (!PyArg_ParseTuple(args, "OiOin:compare_matrices", &a_object, &a_dtype, &b_object, &b_dtype, &threads) ||
        take_matrix(&call, a_object, 0, a_dtype, &a) < 0 || take_matrix(&call, b_object, 0, b_dtype, &b) < 0 ||
        call_begin(&call, threads, matrix_bytes(&a)) < 0)
        return call_cancel(&call);
    if (call_end(&call, qz_compare_matrices(&a, &b, call.pool, &stats, &call.detail)) < 0)
        return NULL;
    return stats_tuple(&stats);
}

/* What qz_linear_prepare made, in a capsule of this name. */
static const char weights_name[] = "quantize._core.weights";

static void weights_drop(PyObject *capsule)
{
    qz_linear_prepared_free(PyCapsule_GetPointer(capsule, weights_name));
}

PyDoc_STRVAR(prepare_linear_doc, "prepare_linear(scheme, parts, rows, cols, threads, /) -> (prepared, bytes)");

static PyObject *core_prepare_linear(PyObject *module, PyObject *args)
{
    qz_linear_options options = QZ_LINEAR_OPTIONS_INIT;
    qz_linear_prepared *prepared;
    Input in;
    Call call;
    Py_ssize_t threads;
    unsigned long long rows, cols;

    call_init(&call, module);
    if (!PyArg_ParseTuple(args, "OOKKn:prepare_linear", &in.tuple, &in.parts, &rows, &cols, &threads) ||
        take_input(&call, &in, rows, cols) < 0 || call_begin(&call, threads, in.bytes) < 0)
        return call_cancel(&call);
    options.pool = call.pool;
    options.stop = call_stop;
    options.stop_context = &call;
    if (call_end(&call, qz_linear_prepare(&in.scheme.row, &in.packed, rows, cols, &options, &prepared)) < 0)
        return NULL;
    PyObject *capsule = PyCapsule_New(prepared, weights_name, weights_drop);
    if (!capsule) {
        qz_linear_prepared_free(prepared);
        return NULL;
    }
    return Py_BuildValue("(NK)", capsule, (unsigned long long)qz_linear_prepared_bytes(prepared));
}

PyDoc_STRVAR(linear_doc,
             "linear(scheme, parts, rows, cols, x, dtype, activations, columns, y, prepared, threads, /) -> None");

/* y: a float32 matrix, of any strides. */
static PyObject *core_linear(PyObject *module, PyObject *args)
{
    qz_linear_options options = QZ_LINEAR_OPTIONS_INIT;
    PyObject *x_object, *y_object, *prepared;
    qz_matrix x, y;
    Input in;
    Call call;
    Py_ssize_t threads;
    unsigned long long rows, cols;
    int dtype, activations;

    call_init(&call, module);
    if (!PyArg_ParseTuple(args, "OOKKOiipOOn:linear", &in.tuple, &in.parts, &rows, &cols, &x_object, &dtype,
                          &activations, &options.columns, &y_object, &prepared, &threads) ||
        (prepared != Py_None && !(options.prepared = PyCapsule_GetPointer(prepared, weights_name))) ||
        take_matrix(&call, x_object, 0, dtype, &x) < 0 || take_matrix(&call, y_object, 1, QZ_F32, &y) < 0 ||
        take_input(&call, &in, rows, cols) < 0 || call_begin(&call, threads, work_of(in.bytes, x.rows)) < 0)
        return call_cancel(&call);
    options.activations = (qz_activations)activations;
    options.pool = call.pool;
    options.stop = call_stop;
    options.stop_context = &call;
    return none_unless(
        call_end(&call, qz_linear(&in.scheme.row, &in.packed, rows, cols, &x, &options, &y, &call.detail)));
}

/* What qz_prepare made, in a capsule of this name. */
static const char prepared_name[] = "quantize._core.prepared";

static void prepared_drop(PyObject *capsule)
{
    qz_prepared_free(PyCapsule_GetPointer(capsule, prepared_name));
}

PyDoc_STRVAR(prepare_doc, "prepare(scheme, parts, rows, cols, metric, codes, signs, threads, /) -> object");

static PyObject *core_prepare(PyObject *module, PyObject *args)
{
    qz_prepare_options options = QZ_PREPARE_OPTIONS_INIT;
    qz_prepared *prepared;
    Input in;
    Call call;
    Py_ssize_t threads;
    unsigned long long rows, cols;
    int metric;

    call_init(&call, module);
    if (!PyArg_ParseTuple(args, "OOKKippn:prepare", &in.tuple, &in.parts, &rows, &cols, &metric, &options.codes,
                          &options.signs, &threads) ||
        take_input(&call, &in, rows, cols) < 0 || call_begin(&call, threads, in.bytes) < 0)
        return call_cancel(&call);
    options.metric = (qz_metric)metric;
    options.pool = call.pool;
    options.stop = call_stop;
    options.stop_context = &call;
    if (call_end(&call, qz_prepare(&in.scheme.row, &in.packed, rows, cols, &options, &prepared)) < 0)
        return NULL;
    PyObject *capsule = PyCapsule_New(prepared, prepared_name, prepared_drop);
    if (!capsule)
        qz_prepared_free(prepared);
    return capsule;
}

PyDoc_STRVAR(
    nearest_doc,
    "nearest(scheme, parts, rows, queries, dtype, metric, mask, scores, ids, prepared, approximate, threads, /)"
    " -> None");

/* scores and ids: k float64 and int64 for each query. */
static PyObject *core_nearest(PyObject *module, PyObject *args)
{
    qz_nearest_options options = QZ_NEAREST_OPTIONS_INIT;
    PyObject *queries_object, *mask_object, *scores_object, *ids_object, *prepared;
    Py_buffer *mask = NULL, *scores, *ids;
    qz_matrix queries;
    Input in;
    Call call;
    Py_ssize_t threads;
    unsigned long long rows;
    uint64_t k;
    int dtype, metric;

    call_init(&call, module);
    if (!PyArg_ParseTuple(args, "OOKOiiOOOOpn:nearest", &in.tuple, &in.parts, &rows, &queries_object, &dtype, &metric,
                          &mask_object, &scores_object, &ids_object, &prepared, &options.approximate, &threads) ||
        (prepared != Py_None && !(options.prepared = PyCapsule_GetPointer(prepared, prepared_name))) ||
        take_matrix(&call, queries_object, 0, dtype, &queries) < 0 || take_input(&call, &in, rows, queries.cols) < 0 ||
        (mask_object != Py_None && !(mask = take_flat(&call, mask_object, PyBUF_SIMPLE, 1))) ||
        !(scores = take_flat(&call, scores_object, PyBUF_WRITABLE, sizeof(double))) ||
        !(ids = take_flat(&call, ids_object, PyBUF_WRITABLE, sizeof(int64_t))))
        return call_cancel(&call);
    k = queries.rows ? (uint64_t)scores->len / sizeof(double) / queries.rows : 0;
    if (lengths_agree((size_t)scores->len, (size_t)(queries.rows * k * sizeof(double)),
                      "scores are no rows of one for each query") < 0 ||
        lengths_agree((size_t)ids->len, (size_t)scores->len, "scores and ids differ in length") < 0 ||
        (mask && lengths_agree((size_t)mask->len, (size_t)rows, "mask and rows differ in length") < 0) ||
        call_begin(&call, threads, work_of(in.bytes, queries.rows)) < 0)
        return call_cancel(&call);
    options.metric = (qz_metric)metric;
    options.mask = mask ? mask->buf : NULL;
    options.pool = call.pool;
    options.stop = call_stop;
    options.stop_context = &call;
    return none_unless(call_end(&call, qz_nearest(&in.scheme.row, &in.packed, rows, &queries, k, &options, scores->buf,
                                                  ids->buf, &call.detail)));
}

/* Rows of float32, one after another. Returns 0, or -1 with an exception. */
static int take_vectors(Call *call, PyObject *object, int writable, qz_matrix *x)
{
    if (take_matrix(call, object, writable, QZ_F32, x) < 0)
        return -1;
    if ((x->cols > 1 && x->col_stride != 1) || (x->rows > 1 && x->row_stride != (int64_t)x->cols)) {
        PyErr_SetString(PyExc_ValueError, "vectors are not one after another");
        return -1;
    }
    return 0;
}

PyDoc_STRVAR(normalize_doc, "normalize(x, threads, /) -> None");

static PyObject *core_normalize(PyObject *module, PyObject *args)
{
    PyObject *x_object;
    qz_matrix x;
    Call call;
    Py_ssize_t threads;

    call_init(&call, module);
    if (!PyArg_ParseTuple(args, "On:normalize", &x_object, &threads) || take_vectors(&call, x_object, 1, &x) < 0 ||
        call_begin(&call, threads, matrix_bytes(&x)) < 0)
        return call_cancel(&call);
    return none_unless(call_end(&call, qz_normalize(x.data, x.rows, x.cols, call.pool)));
}

PyDoc_STRVAR(rotate_doc, "rotate(x, seed, back, threads, /) -> None");

static PyObject *core_rotate(PyObject *module, PyObject *args)
{
    PyObject *x_object;
    qz_matrix x;
    Call call;
    Py_ssize_t threads;
    unsigned long long seed;
    int back;

    call_init(&call, module);
    if (!PyArg_ParseTuple(args, "OKpn:rotate", &x_object, &seed, &back, &threads) ||
        take_vectors(&call, x_object, 1, &x) < 0 || call_begin(&call, threads, matrix_bytes(&x)) < 0)
        return call_cancel(&call);
    return none_unless(call_end(&call, qz_rotate(x.data, x.rows, x.cols, seed, back, call.pool)));
}

PyDoc_STRVAR(project_doc, "project(x, matrix, y, threads, /) -> None");

static PyObject *core_project(PyObject *module, PyObject *args)
{
    PyObject *x_object, *matrix_object, *y_object;
    qz_matrix x, matrix, y;
    Call call;
    Py_ssize_t threads;

    call_init(&call, module);
    if (!PyArg_ParseTuple(args, "OOOn:project", &x_object, &matrix_object, &y_object, &threads) ||
        take_vectors(&call, x_object, 0, &x) < 0 || take_vectors(&call, matrix_object, 0, &matrix) < 0 ||
        take_vectors(&call, y_object, 1, &y) < 0 ||
        lengths_agree((size_t)matrix.rows, (size_t)x.cols, "matrix has no row for each column of x") < 0 ||
        lengths_agree((size_t)y.rows, (size_t)x.rows, "x and y differ in their rows") < 0 ||
        lengths_agree((size_t)y.cols, (size_t)matrix.cols, "matrix and y differ in their columns") < 0 ||
        call_begin(&call, threads, work_of(matrix_bytes(&matrix), x.rows)) < 0)
        return call_cancel(&call);
    return none_unless(
        call_end(&call, qz_project(x.data, x.rows, x.cols, matrix.data, matrix.cols, y.data, call.pool)));
}

PyDoc_STRVAR(validate_doc, "validate(scheme, parts, rows, cols, /) -> None");

static PyObject *core_validate(PyObject *module, PyObject *args)
{
    Input in;
    Call call;
    unsigned long long rows, cols;

    call_init(&call, module);
    if (!PyArg_ParseTuple(args, "OOKK:validate", &in.tuple, &in.parts, &rows, &cols) ||
        take_input(&call, &in, rows, cols) < 0 || call_begin(&call, 1, in.bytes) < 0)
        return call_cancel(&call);
    return none_unless(call_end(&call, qz_validate(&in.scheme.row, &in.packed, rows, cols, &call.detail)));
}

/* ----------------------------------------------------------------------------------------------------------
 * What there is
 * ------------------------------------------------------------------------------------------------------- */

PyDoc_STRVAR(scheme_check_doc, "scheme_check(scheme, method, /) -> bool: can this be encoded?");

static PyObject *core_scheme_check(PyObject *module, PyObject *args)
{
    PyObject *tuple;
    Scheme scheme;
    int method;

    (void)module;
    if (!PyArg_ParseTuple(args, "Oi:scheme_check", &tuple, &method) || take_scheme(tuple, &scheme) < 0)
        return NULL;
    return PyBool_FromLong(qz_scheme_check(&scheme.row, (qz_method)method) == QZ_OK);
}

PyDoc_STRVAR(scheme_sizes_doc, "scheme_sizes(scheme, rows, cols, /)\n"
                               "-> (groups, bytes of codes, of scales, of zeros, of supers in a row, of all)");

static PyObject *core_scheme_sizes(PyObject *module, PyObject *args)
{
    qz_detail detail = QZ_DETAIL_INIT;
    qz_sizes sizes = {.size = sizeof(sizes)};
    PyObject *tuple;
    Scheme scheme;
    qz_result result;
    unsigned long long rows, cols;

    if (!PyArg_ParseTuple(args, "OKK:scheme_sizes", &tuple, &rows, &cols) || take_scheme(tuple, &scheme) < 0)
        return NULL;
    result = qz_scheme_sizes(&scheme.row, rows, cols, &sizes);
    if (result != QZ_OK)
        return raise_result(module, result, &detail);
    return Py_BuildValue("(KKKKKK)", (unsigned long long)sizes.row_groups, (unsigned long long)sizes.code_bytes,
                         (unsigned long long)sizes.scale_bytes, (unsigned long long)sizes.zero_bytes,
                         (unsigned long long)sizes.super_bytes, (unsigned long long)sizes.total_bytes);
}

/* Appends `item`, of which it takes the reference, to a list. Without either of them, after an error, there is no list
 * any more. */
static void append(PyObject **list, PyObject *item)
{
    if (*list && (!item || PyList_Append(*list, item) < 0))
        Py_CLEAR(*list);
    Py_XDECREF(item);
}

PyDoc_STRVAR(schemes_doc, "schemes() -> a list of (name, summary, scheme)");

static PyObject *core_schemes(PyObject *module, PyObject *unused)
{
    PyObject *list = PyList_New(0);
    const qz_scheme *scheme;

    (void)module;
    (void)unused;
    for (size_t i = 0; list && (scheme = qz_scheme_at(i)) != NULL; i++)
        append(&list,
               Py_BuildValue("(ssN)", scheme->name, scheme->summary ? scheme->summary : "", scheme_tuple(scheme)));
    return list;
}

PyDoc_STRVAR(rules_doc, "rules() -> a list of names: the i-th is that of the qz_rule i");

static PyObject *core_rules(PyObject *module, PyObject *unused)
{
    PyObject *list = PyList_New(0);
    const char *name;

    (void)module;
    (void)unused;
    for (int i = 0; list && (name = qz_rule_name((qz_rule)i)) != NULL; i++)
        append(&list, PyUnicode_FromString(name));
    return list;
}

PyDoc_STRVAR(dtypes_doc, "dtypes() -> a list of names: the first is that of the qz_dtype 1");

static PyObject *core_dtypes(PyObject *module, PyObject *unused)
{
    PyObject *list = PyList_New(0);
    const char *name;

    (void)module;
    (void)unused;
    for (int i = 1; list && (name = qz_dtype_name((qz_dtype)i)) != NULL; i++)
        append(&list, PyUnicode_FromString(name));
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
    for (size_t i = 0; list && (name = qz_kernels_at(i, &supported)) != NULL; i++)
        append(&list, Py_BuildValue("(sO)", name, supported ? Py_True : Py_False));
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
    PLAIN(linear, METH_VARARGS),
    PLAIN(nearest, METH_VARARGS),
    PLAIN(prepare, METH_VARARGS),
    PLAIN(prepare_linear, METH_VARARGS),
    PLAIN(normalize, METH_VARARGS),
    PLAIN(rotate, METH_VARARGS),
    PLAIN(project, METH_VARARGS),
    PLAIN(validate, METH_VARARGS),
    PLAIN(scheme_check, METH_VARARGS),
    PLAIN(scheme_sizes, METH_VARARGS),
    PLAIN(schemes, METH_NOARGS),
    PLAIN(rules, METH_NOARGS),
    PLAIN(dtypes, METH_NOARGS),
    PLAIN(kernels, METH_NOARGS),
    PLAIN(kernel_sets, METH_NOARGS),
    PLAIN(result_text, METH_O),
    PLAIN(cpu_count, METH_NOARGS),
    {NULL, NULL, 0, NULL},
};

/* The numbers of quantize.h that the Python files speak, under the same names without QZ_. */
static const Constant constants[] = {
    {"F32", QZ_F32},
    {"F64", QZ_F64},
    {"F16", QZ_F16},
    {"BF16", QZ_BF16},
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
    {"DOT", QZ_DOT},
    {"COSINE", QZ_COSINE},
    {"ACTIVATIONS_F32", QZ_ACTIVATIONS_F32},
    {"ACTIVATIONS_I8", QZ_ACTIVATIONS_I8},
    {"ACTIVATIONS_AUTO", QZ_ACTIVATIONS_AUTO},
    {"L2", QZ_L2},
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
    if (add_failure(module, "quantize._core.Failure", "(result, index, count, group, value, number)") < 0 ||
        add_constants(module, constants, sizeof(constants) / sizeof(constants[0])) < 0)
        return -1;
    return PyModule_AddStringConstant(module, "version", qz_version());
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, (void *)(uintptr_t)module_exec},
    SLOT_MULTIPLE_INTERPRETERS SLOT_NO_GIL{0, NULL},
};

DEFINE_MODULE(_core, "The C library behind the quantize package. Use the package instead.")
