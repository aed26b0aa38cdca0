/*
 * What the modules _core and _files share: the limited API, what a module is made of, and schemes as tuples.
 *
 * Both modules are written for the limited API (one binary for Python 3.11 and later) and without NumPy's headers:
 * arrays arrive through the buffer protocol. The Python files in quantize/ are the only callers, and shapes, types,
 * copies, defaults and messages for people are theirs.
 */
#ifndef QUANTIZE_PYTHON_SHARED_H
#define QUANTIZE_PYTHON_SHARED_H

#if !defined(Py_LIMITED_API) && !defined(QUANTIZE_FULL_API)
#define Py_LIMITED_API 0x030B0000
#endif
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "quantize.h"

/* ----------------------------------------------------------------------------------------------------------
 * Modules
 *
 * The state of a module is a struct of objects and nothing else, of which the first one is `failure`: the class of the
 * exception for a result that is no success.
 * ------------------------------------------------------------------------------------------------------- */

typedef struct {
    const char *name;
    int value;
} Constant;

/* Makes the exception class NAME ("quantize._core.Failure") and adds it to the module. Returns 0, or -1 with an
 * exception; so does the next function. */
int add_failure(PyObject *module, const char *name, const char *doc);

int add_constants(PyObject *module, const Constant *constants, size_t count);

/* Raises an exception of class `failure` with a tuple of arguments, of which it takes the reference; `arguments` may be
 * NULL after an error. Returns NULL. */
PyObject *raise_failure(PyObject *failure, PyObject *arguments);

int module_traverse(PyObject *module, visitproc visit, void *arg);
int module_clear(PyObject *module);

#ifdef Py_mod_multiple_interpreters
#define SLOT_MULTIPLE_INTERPRETERS {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#else
#define SLOT_MULTIPLE_INTERPRETERS
#endif
#ifdef Py_mod_gil
#define SLOT_NO_GIL {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#else
#define SLOT_NO_GIL
#endif

/* Defines the module quantize.NAME out of its State, `methods` and `slots`. */
#define DEFINE_MODULE(module_name, doc)                                                                                \
    static struct PyModuleDef module_def = {                                                                           \
        PyModuleDef_HEAD_INIT,                                                                                         \
        .m_name = "quantize." #module_name,                                                                            \
        .m_doc = doc,                                                                                                  \
        .m_size = sizeof(State),                                                                                       \
        .m_methods = methods,                                                                                          \
        .m_slots = slots,                                                                                              \
        .m_traverse = module_traverse,                                                                                 \
        .m_clear = module_clear,                                                                                       \
    };                                                                                                                 \
    PyMODINIT_FUNC PyInit_##module_name(void);                                                                         \
    PyMODINIT_FUNC PyInit_##module_name(void)                                                                          \
    {                                                                                                                  \
        return PyModuleDef_Init(&module_def);                                                                          \
    }

/* ----------------------------------------------------------------------------------------------------------
 * Schemes
 *
 * Python has a scheme as the tuple (codes, scale_dtype, zero, method, group_size, positive, super_dtype, super_size,
 * table, rule), where table is None or sixteen float32 in a bytes object: SchemeNumbers in quantize/core_types.py.
 * ------------------------------------------------------------------------------------------------------- */

/* A scheme, and room for the table it may point to. */
typedef struct {
    qz_scheme row;
    float table[16];
} Scheme;

/* Reads the tuple. Returns 0, or -1 with an exception. */
int take_scheme(PyObject *tuple, Scheme *scheme);

/* Makes the tuple. */
PyObject *scheme_tuple(const qz_scheme *scheme);

#endif
