/*
 * gguf_split.h - a GGUF file in several parts: NAME-00001-of-00003.gguf and the others
 *
 *     split.no             u16   which part it is; the first is 0
 *     split.count          u16   how many there are
 *     split.tensors.count  i32   tensors of all parts together
 *
 * The first part has all other keys.
 */
#ifndef QZ_GGUF_SPLIT_H
#define QZ_GGUF_SPLIT_H

#include "../tensors.h"
#include "gguf.h"

/* Opens the other parts, if there are some. `header` is that of `file`. */
qz_file_result qz_gguf_open_parts(qz_file *file, qz_file_error *error);

#endif
