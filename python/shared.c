/* shared - what _core and _files have in common; see shared.h */
#include "shared.h"

#include <string.h>

/* ----------------------------------------------------------------------------------------------------------
 * Modules
 * ------------------------------------------------------------------------------------------------------- */

int add_failure(PyObject *module, const char *name, const char *doc)
{
    PyObject **failure = PyModule_GetState(module); /* the first object of the state */

    *failure = PyErr_NewExceptionWithDoc(name, doc, NULL, NULL);
    return *failure ? PyModule_AddObjectRef(module, "Failure", *failure) : -1;
}

int add_constants(PyObject *module, const Constant *constants, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (PyModule_AddIntConstant(module, constants[i].name, constants[i].value) < 0)
            return -1;
    return 0;
}

PyObject *raise_failure(PyObject *failure, PyObject *arguments)
{
    if (arguments) {
        PyErr_SetObject(failure, arguments);
        Py_DECREF(arguments);
    }
    return NULL;
}

/* How many objects the state of a module has. */
static size_t state_objects(PyObject *module)
{
    return (size_t)PyModule_GetDef(module)->m_size / sizeof(PyObject *);
}

int module_traverse(PyObject *module, visitproc visit, void *arg)
{
    PyObject **objects = PyModule_GetState(module);

    for (size_t i = 0; objects && i < state_objects(module); i++)
        Py_VISIT(objects[i]);
    return 0;
}

int module_clear(PyObject *module)
{
    PyObject **objects = PyModule_GetState(module);

    for (size_t i = 0; objects && i < state_objects(module); i++)
        Py_CLEAR(objects[i]);
    return 0;
}

/* ----------------------------------------------------------------------------------------------------------
 * Schemes
 * ------------------------------------------------------------------------------------------------------- */

int take_scheme(PyObject *tuple, Scheme *scheme)
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
    if (table && bytes != (Py_ssize_t)sizeof(scheme->table)) {
        PyErr_SetString(PyExc_ValueError, "a table has 16 float32");
        return -1;
    }
    scheme->row = (qz_scheme){
        .size = sizeof(scheme->row),
        .name = "",
        .summary = "",
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
    if (table) {
        memcpy(scheme->table, table, sizeof(scheme->table));
        scheme->row.table = scheme->table;
    }
    return 0;
}

PyObject *scheme_tuple(const qz_scheme *scheme)
{
    Py_ssize_t bytes = scheme->table ? (Py_ssize_t)(16 * sizeof(float)) : 0;

    return Py_BuildValue("(iiiiKiiKy#i)", (int)scheme->codes, (int)scheme->scale_dtype, (int)scheme->zero,
                         (int)scheme->method, (unsigned long long)scheme->group_size, scheme->positive,
                         (int)scheme->super_dtype, (unsigned long long)scheme->super_size, (const char *)scheme->table,
                         bytes, (int)scheme->rule);
}
