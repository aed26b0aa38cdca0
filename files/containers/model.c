/*
 * model.c - the list of tensors that the header of a model's file fills in, within limits of memory
 */
#include "model.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void qz_model_free(qz_model *model)
{
    free(model->tensors);
    qz_names_free(&model->names);
    qz_arena_free(&model->arena);
    *model = (qz_model){0};
}

size_t qz_model_find(const qz_model *model, const char *name, size_t name_length)
{
    return qz_names_find(&model->names, name, name_length);
}

qz_file_result qz_model_charge(qz_model *model, uint64_t count, uint64_t each, const char *label, qz_file_error *error)
{
    const uint64_t bytes = qz_product(count, each);
    if (bytes > model->left)
        return qz_fail_option(error, QZ_FILE_LIMIT, QZ_OPTION_MAX_TABLE, label, NULL, QZ_NO_OFFSET,
                              "the list of its tensors and metadata needs more memory than the limit allows: %" PRIu64
                              " bytes more are wanted, %" PRIu64 " are left",
                              bytes, model->left);
    model->left -= bytes;
    return QZ_FILE_OK;
}

qz_model_limits qz_model_limits_of(uint64_t max_table)
{
    qz_model_limits limits = QZ_MODEL_LIMITS_INIT;
    limits.max_table = max_table;
    if (limits.max_header < max_table)
        limits.max_header = max_table;
    return limits;
}

qz_file_result qz_model_reserve(qz_model *model, size_t capacity, const char *label, qz_file_error *error)
{
    model->tensors = qz_allocate(qz_product(qz_sum(capacity, 1), sizeof *model->tensors));
    model->capacity = capacity;
    return model->tensors ? QZ_FILE_OK : qz_fail_memory(error, label);
}

qz_file_result qz_model_keep_shape(qz_model *model, unsigned rank, const uint64_t *shape, const uint64_t **kept,
                                   const char *label, qz_file_error *error)
{
    qz_file_result result = qz_model_charge(model, rank, sizeof *shape, label, error);
    if (result != QZ_FILE_OK)
        return result;
    uint64_t *copy = qz_arena_get(&model->arena, rank * sizeof *shape);
    if (!copy)
        return qz_fail_memory(error, label);
    if (rank != 0)
        memcpy(copy, shape, rank * sizeof *shape);
    *kept = copy;
    return QZ_FILE_OK;
}

qz_file_result qz_model_add(qz_model *model, const qz_model_tensor *tensor, uint64_t place, const char *label,
                            qz_file_error *error)
{
    char field[QZ_MODEL_FIELD];
    switch (qz_names_add(&model->names, tensor->name, tensor->name_length, model->count)) {
    case QZ_NAME_NEW:
        model->tensors[model->count++] = *tensor;
        return QZ_FILE_OK;
    case QZ_NAME_TWICE:
        return qz_fail(error, QZ_FILE_FORMAT, label, qz_model_field("tensor", tensor->name, tensor->name_length, field),
                       place, "the name occurs twice, so that its meaning is unclear");
    default:
        return qz_fail_memory(error, label);
    }
}

char *qz_model_field(const char *kind, const char *name, size_t name_length, char out[QZ_MODEL_FIELD])
{
    char shown[QZ_NAME_TEXT];
    snprintf(out, QZ_MODEL_FIELD, "%s '%s'", kind, qz_escape(name, name_length, shown, sizeof shown));
    return out;
}

const char *qz_model_name_wrong(const char *name, size_t length)
{
    if (memchr(name, '\0', length))
        return "the name holds the character 0, where other readers cut it off";
    return qz_is_utf8(name, length) ? NULL : "the name is not UTF-8";
}

uint64_t qz_model_round_up(uint64_t value, uint64_t alignment)
{
    return qz_sum(value, alignment - 1) & ~(alignment - 1);
}
