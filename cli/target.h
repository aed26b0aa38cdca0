/*
 * target.h - the output: a file, or a folder if that is the natural form of a model
 */
#ifndef QZ_CLI_TARGET_H
#define QZ_CLI_TARGET_H

#include "source.h"

/* The layout that quantized tensors have in the output: that of --to, or the one that its name implies; NULL if it can
 * have none. */
const char *target_layout(const settings *s, const source *in);

/* Whether there is such a layout as --to names, and an output of that name can have it. */
int target_check_layout(const settings *s);

/* The names of the schemes in an output, each once. */
typedef struct scheme_names {
    size_t count;
    const char *name[64];
} scheme_names;

void note_scheme(scheme_names *schemes, const char *name);

/* The options of an output that is made of these files: the first one's metadata is passed on. */
qz_create_options target_options(const settings *s, const qz_file *const *inputs, size_t count);

/* Begins the output. The options are complete but for those that depend on the kind of output. */
int target_open(const settings *s, const source *in, qz_create_options *options, qz_writer **writer);

/* Where the output is a folder: copies what lies beside the model, and says what it leaves out. Of tensors in the
 * library's own layout config.json tells the scheme, or a list where there are several; what the programs of another
 * layout read there is known to qz_copy_beside(). Floats have neither layout nor schemes: NULL. */
int target_copy_beside(const settings *s, const source *in, qz_writer *writer, const char *layout,
                       const scheme_names *schemes);

#endif
