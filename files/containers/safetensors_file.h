/*
 * safetensors_file.h - what .safetensors files and their index have in common as containers
 */
#ifndef QZ_SAFETENSORS_FILE_H
#define QZ_SAFETENSORS_FILE_H

#include "../writer.h"

/* The name that the format has for the type of raw items, where it has one: see container.h. */
const char *qz_safetensors_stored(const qz_tensor *tensor);

#endif
