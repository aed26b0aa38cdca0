/*
 * layout.c - the table of layouts of quantized tensors
 *
 * It finds a layout by its name, and lets every layout look through the tensors of a file.
 */
#include "layout.h"

#include <string.h>

#include "eight.h"
#include "packed_list.h"

/* One row for each layout. */
static const qz_layout *const layouts[] = {
    &qz_layout_own,          &qz_layout_gguf,    &qz_layout_gptq,
    &qz_layout_gptq_v2,      &qz_layout_awq,     &qz_layout_compressed_tensors,
    &qz_layout_modelopt,     &qz_layout_gpt_oss, &qz_layout_mlx,
    &qz_layout_bitsandbytes, &qz_layout_hqq,     &qz_layout_quanto,
    &qz_layout_torchao,
};
enum { LAYOUTS = sizeof layouts / sizeof layouts[0] };

const char *qz_layout_at(size_t i)
{
    return i < LAYOUTS ? layouts[i]->name : NULL;
}

const qz_layout *qz_layout_named(const char *name)
{
    for (size_t i = 0; i < LAYOUTS; i++)
        if (strcmp(layouts[i]->name, name) == 0)
            return layouts[i];
    return NULL;
}

qz_file_result qz_layouts_recognize(qz_file *file, qz_file_error *error)
{
    qz_file_result result = QZ_FILE_OK;
    for (size_t i = 0; i < LAYOUTS && result == QZ_FILE_OK; i++)
        result = layouts[i]->recognize ? layouts[i]->recognize(file, error) : QZ_FILE_OK;
    if (result == QZ_FILE_OK)
        result = qz_eights_recognize(file, error);
    return result == QZ_FILE_OK ? qz_packed_sort(file, error) : result;
}
