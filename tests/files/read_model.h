/*
 * read_model.h - what holds of every header that a reader of models accepts or refuses
 */
#ifndef READ_MODEL_H
#define READ_MODEL_H

#include "support.h"

#include "containers/model.h"

/* Tensors lie behind `data` and within the file, and are found by their names. */
static inline void check_model(const qz_model *model, uint64_t data, uint64_t file_bytes)
{
    for (size_t i = 0; i < model->count; i++) {
        const qz_model_tensor *t = &model->tensors[i];
        assert_int_equal(strlen(t->name), t->name_length);
        assert_true(t->offset >= data && t->bytes <= file_bytes && t->offset <= file_bytes - t->bytes);
        assert_int_equal(qz_model_find(model, t->name, t->name_length), i);
    }
}

/* One printable line that names the file; and nothing is left of the model. */
static inline void check_refusal(const qz_model *model, const char *path, qz_file_result result,
                                 const qz_file_error *error)
{
    assert_int_equal(error->code, result);
    assert_non_null(strstr(error->message, strrchr(path, '/') + 1));
    for (const char *c = error->message; *c != '\0'; c++)
        assert_true(*c >= ' ' && *c <= '~');
    assert_null(model->tensors);
}

#endif
