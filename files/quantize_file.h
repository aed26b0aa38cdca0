/*
 * quantize_file.h - tensors in files
 *
 * This library reads and writes files that hold named arrays: .npy, .npz, .safetensors and GGUF. It is a layer above
 * quantize.h: it knows headers, names, offsets and safe writing, and nothing about how numbers are quantized.
 *
 *     #include <quantize_file.h>
 *
 *     qz_file_error error = QZ_FILE_ERROR_INIT;
 *     qz_file *file;
 *     if (qz_open("weights.npz", NULL, &file, &error) != QZ_FILE_OK)
 *         return puts(error.message), 1;
 *     for (size_t i = 0; i < qz_tensor_count(file); i++)
 *         puts(qz_tensor_at(file, i)->name);
 *     qz_close(file);
 *
 * Rules that hold for every function:
 *
 *   - Files are not trusted. Whatever their bytes are, a function returns a result: no crash, no hang, no allocation
 *     that a length in the file decides without having been compared with the bytes that are there.
 *   - Files are read with pread and never mapped: a file that shrinks gives an error, not a signal.
 *   - A file that could be understood in two ways is refused, even if other readers accept it: names that occur
 *     twice, bytes that belong to nothing, headers that disagree. The message says so.
 *   - An error's message is one line of printable ASCII, whatever the names in the file hold.
 *   - `error` and `options` may be NULL everywhere.
 *   - A qz_file or qz_writer is used by one thread at a time, with two exceptions: several threads may call qz_read()
 *     and qz_packed_read() of a file together, and several qz_write() and qz_packed_write() of a writer, if what they
 *     write does not overlap. Different files and writers are independent.
 *   - The first member of a structure that a caller hands over is its size, as the caller was compiled. A smaller one,
 *     of an older header, is accepted: what it lacks has its default, and is not written.
 *   - Numbers in memory have the machine's byte order, and numbers in files have that of the file. The functions
 *     convert.
 */
#ifndef QUANTIZE_FILE_H
#define QUANTIZE_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "quantize.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ----------------------------------------------------------------------------------------------------------
 * Results
 *
 * Values are never reused or renumbered.
 * ------------------------------------------------------------------------------------------------------- */

typedef enum qz_file_result {
    QZ_FILE_OK = 0,
    QZ_FILE_ARGUMENT = 1, /* a parameter has no meaning here: range past the end, unknown extension */
    QZ_FILE_FORMAT = 2,   /* the file is malformed, of an unknown kind, or changed while it was read */
    QZ_FILE_LIMIT = 3,    /* the file passes a limit that qz_open_options can raise */
    QZ_FILE_IO = 4,       /* the system refused: no such file, no permission, no space */
    QZ_FILE_EXISTS = 5,   /* the output exists already, or is an input: nothing was changed */
    QZ_FILE_MEMORY = 6,   /* out of memory */
    QZ_FILE_MISSING = 7,  /* the file has no tensor of that name */
    QZ_FILE_REFUSED = 8 /* the output cannot hold a tensor as it is, or not beside the others: its name, type or shape,
                             its scheme, or a number of it has no place in such a file or in the layout */
} qz_file_result;

#define QZ_NO_OFFSET UINT64_MAX

/* An option of qz_open_options or qz_create_options. */
typedef enum qz_file_option {
    QZ_OPTION_NONE = 0,
    QZ_OPTION_MAX_HEADER = 1,
    QZ_OPTION_MAX_RATIO = 2,
    QZ_OPTION_MAX_BYTES = 3,
    QZ_OPTION_ALLOW_TRAILING = 4,
    QZ_OPTION_REPLACE = 5,
    QZ_OPTION_MAX_TABLE = 6,
    QZ_OPTION_VOID2 = 7 /* void2_as_bfloat16, where the type of items says no more than that they have two bytes */
} qz_file_option;

/* What went wrong. A caller sets `size` (QZ_FILE_ERROR_INIT does) and passes it. */
typedef struct qz_file_error {
    size_t size; /* sizeof(qz_file_error) */
    qz_file_result code;
    uint64_t offset;       /* the byte in the file that is to blame, or QZ_NO_OFFSET */
    char message[832];     /* "file: field at byte N: what is wrong; remedy", without a line end */
    int system;            /* errno, where the system refused; 0 otherwise */
    qz_file_option option; /* the option that allows what was refused, where there is one: a program says in its own
                              words how it is set */
    size_t remedy;         /* where in the message its last part begins, which says what to do; 0: there is none */
} qz_file_error;

#define QZ_FILE_ERROR_INIT                                                                                             \
    {                                                                                                                  \
        sizeof(qz_file_error), QZ_FILE_OK, QZ_NO_OFFSET, "", 0, QZ_OPTION_NONE, 0                                      \
    }

/*
 * Writes `length` bytes of `text` to `out` (at most out_size - 1 characters and a NUL) so that they are safe to
 * print: printable ASCII stays, a backslash is doubled, all else becomes \n, \t, \r, \xNN or, for valid UTF-8,
 * \u{...}. What does not fit ends in "...". Returns `out`. out_size must be at least 8.
 */
QZ_API char *qz_escape(const char *text, size_t length, char *out, size_t out_size);

/* ----------------------------------------------------------------------------------------------------------
 * Tensors
 * ------------------------------------------------------------------------------------------------------- */

/* Types of elements. The first four have the numbers of qz_dtype. */
typedef enum qz_element {
    QZ_ELEMENT_F32 = 1,
    QZ_ELEMENT_F64 = 2,
    QZ_ELEMENT_F16 = 3,
    QZ_ELEMENT_BF16 = 4,
    QZ_ELEMENT_I8 = 16,
    QZ_ELEMENT_I16 = 17,
    QZ_ELEMENT_I32 = 18,
    QZ_ELEMENT_I64 = 19,
    QZ_ELEMENT_U8 = 20,
    QZ_ELEMENT_U16 = 21,
    QZ_ELEMENT_U32 = 22,
    QZ_ELEMENT_U64 = 23,
    QZ_ELEMENT_BOOL = 24,
    QZ_ELEMENT_RAW = 32 /* items of a type that this library does not interpret (strings, complex numbers, dates,
                           records): they are read and written as they are, and counts and ranges are bytes */
} qz_element;

/* Bytes of one element (1 for QZ_ELEMENT_RAW); 0 for a value that is no qz_element. */
QZ_API size_t qz_element_size(qz_element element);

/* "float32", "int8", "bool", "raw", ...; NULL for a value that is no qz_element. */
QZ_API const char *qz_element_name(qz_element element);

#define QZ_MAX_RANK 64

typedef struct qz_tensor {
    const char *name;   /* any bytes but NUL, then a NUL. Escape it before printing; never use it as a path */
    size_t name_length; /* bytes without the NUL */
    qz_element element;
    unsigned rank;         /* at most QZ_MAX_RANK */
    int column_major;      /* not 0: the first axis runs fastest in the data ("Fortran order") */
    const uint64_t *shape; /* rank sizes; may be NULL if rank is 0 */
    uint64_t count;        /* elements: the product of the shape, of QZ_ELEMENT_RAW the bytes of all items */
    uint64_t bytes;        /* count * qz_element_size(element) */
    const char *type;      /* of QZ_ELEMENT_RAW, as NumPy writes it in UTF-8: <U3, <c16, [('x', '<f4')]; else NULL */
    uint64_t type_bytes;   /* bytes of an item of this type; else those of an element */
    int swapped;           /* in a file: its numbers have the other byte order; qz_read() turns them, but no items */
} qz_tensor;

/* ----------------------------------------------------------------------------------------------------------
 * Reading
 * ------------------------------------------------------------------------------------------------------- */

typedef struct qz_file qz_file;

/* Limits that protect against files made to exhaust a machine, and interpretations that a caller must ask for. */
typedef struct qz_open_options {
    size_t size;         /* sizeof(qz_open_options) */
    uint64_t max_header; /* bytes of the header of one array (default 10000) */
    uint64_t max_ratio;  /* uncompressed over compressed bytes of a member of more than QZ_RATIO_FREE bytes, when it is
                            read (default 200) */
    uint64_t max_bytes;  /* uncompressed bytes of a compressed member (default 2^40) */
    int void2_bfloat16;  /* not 0: two-byte void elements (|V2) are bfloat16. They are QZ_ELEMENT_RAW otherwise */
    int allow_trailing;  /* not 0: bytes after the array of an .npy file are ignored. Refused otherwise */
    uint64_t max_table;  /* bytes of memory for what is kept of the headers of a model: names, shapes, metadata, in all
                            its files together, and of the index of these (default 48 MiB, as 150,000 tensors with
                            names of usual length need) */
    int alone; /* not 0: a part of a split GGUF is read without the others. Otherwise the first one is read with
                            all others, and these are refused */
} qz_open_options;

/* Members that expand to no more than this many bytes may have any ratio: an array of zeros is harmless. */
#define QZ_RATIO_FREE ((uint64_t)64 << 20)

#define QZ_OPEN_OPTIONS_INIT                                                                                           \
    {                                                                                                                  \
        sizeof(qz_open_options), 10000, 200, (uint64_t)1 << 40, 0, 0, (uint64_t)48 << 20, 0                            \
    }

/*
 * Opens a file and reads its headers. The content decides what kind it is; an extension that speaks of another known
 * kind is an error. Only regular files are read (a symbolic link to one is).
 *
 * A model in several files is one file here, whose tensors are those of all of them:
 *
 *   - model.safetensors.index.json with the files of its folder that it names, or the first file of a split GGUF,
 *     NAME-00001-of-00003.gguf. All must be there, and have just the tensors that they should.
 *   - A folder stands for the model in it: the .safetensors.index.json, model.safetensors, or the only .safetensors or
 *     .gguf file. One in which two could be meant is refused.
 *
 * A symbolic link that `path` names is followed wherever it leads. One that was found in a folder, or has the name of a
 * part, is followed where it stays in its folder, or is one of Hugging Face's cache (../../blobs/HASH); another is
 * refused, since it could lead to any file of the machine.
 *
 * Of the parts, four are open at a time.
 *
 * On QZ_FILE_OK *file is to be released with qz_close(); otherwise it is NULL. QZ_FILE_IO: there is no such file, or
 * the system refused it; QZ_FILE_FORMAT: what is there is not understood, or is two things; QZ_FILE_LIMIT;
 * QZ_FILE_MEMORY.
 */
QZ_API qz_file_result qz_open(const char *path, const qz_open_options *options, qz_file **file, qz_file_error *error);

/* A folder that is no model can hold several, each in a folder of its own, as the pipelines of diffusers do. Returns
 * the names of these folders, in the order of their bytes, each with a NUL behind it, to be released with free(), and
 * sets *count, which must not be NULL, to their number. NULL and 0: there are none, or no memory for their names. */
QZ_API char *qz_models_in(const char *folder, size_t *count);

/* NULL is allowed. */
QZ_API void qz_close(qz_file *file);

/* "npy", "npz", "safetensors" or "gguf". */
QZ_API const char *qz_container(const qz_file *file);

/* Bytes of the file when it was opened, all its parts included. */
QZ_API uint64_t qz_file_bytes(const qz_file *file);

/* The files that were opened. 0 is the path of the file itself: the one given, or where a folder was given, that of the
 * file in it. Then follow the names that its parts have in the same folder. NULL after the last. */
QZ_API const char *qz_file_path(const qz_file *file, size_t i);

/* What the reader skipped, for people, or NULL if nothing. */
QZ_API const char *qz_note(const qz_file *file);

/* What a safetensors file says of itself: the pairs of its __metadata__, in their order. Both texts are UTF-8, may hold
 * NULs, and a NUL follows each. Of several files, each key counts once, as the first file has it. */
typedef struct qz_metadata {
    const char *key;
    size_t key_length;
    const char *value;
    size_t value_length;
} qz_metadata;

QZ_API size_t qz_metadata_count(const qz_file *file);
QZ_API const qz_metadata *qz_metadata_at(const qz_file *file, size_t i);

/* The tensors, in the order of the file. The array of an .npy file is called "data". Pointers, those of the pairs above
 * too, live until qz_close(); past the last one they are NULL. */
QZ_API size_t qz_tensor_count(const qz_file *file);
QZ_API const qz_tensor *qz_tensor_at(const qz_file *file, size_t i);

/* The name that the file has for the type of a raw tensor whose `type` says no more than its size: of safetensors
 * "F8_E4M3", "F4" and so on; NULL for all others. An output of the same kind keeps it, where qz_declare() is given the
 * tensor as qz_tensor_at() has it, with that very pointer. Items of F4 and F6 are bytes, which the last axis counts. */
QZ_API const char *qz_tensor_stored(const qz_file *file, size_t i);

/* Bytes of a tensor in the file: fewer than those of its values where qz_read() decodes them, as those of ggml's Q6_K.
 * 0 if there is no such tensor. What an archive has compressed counts as it was before. */
QZ_API uint64_t qz_tensor_bytes(const qz_file *file, size_t i);

/* The tensor of that name; SIZE_MAX if there is none. */
QZ_API size_t qz_tensor_find(const qz_file *file, const char *name, size_t name_length);

/*
 * Reads `count` elements from element `first` on, counted in the order of the file, into dst. Elements that end
 * beyond the tensor: QZ_FILE_ARGUMENT. Reading no elements says whether a limit forbids all reading of the tensor
 * (QZ_FILE_LIMIT): ask it before you allocate memory for one.
 *
 * Checksums: reading a tensor from its first to its last element in order checks it with the last range. The first
 * read out of order checks the whole tensor before it returns, so such data is always checked; a compressed tensor
 * is expanded into an unnamed temporary file (in $TMPDIR or /tmp) for that.
 */
QZ_API qz_file_result qz_read(qz_file *file, size_t tensor, uint64_t first, uint64_t count, void *dst,
                              qz_file_error *error);

/* Returns QZ_FILE_FORMAT if size or time of change of the file differ from those at qz_open(). Call it before you keep
 * a result that was computed from the file. */
QZ_API qz_file_result qz_unchanged(const qz_file *file, qz_file_error *error);

/* ----------------------------------------------------------------------------------------------------------
 * Writing
 *
 * The output appears under its name whole and safe on disk, or not at all: bytes go to an unnamed file in the target
 * folder (or, where the system has none, to one called .quantize-<16 hex digits>.tmp), qz_commit() syncs it, gives it
 * its name and syncs the folder. Leftovers of killed runs are removed by the next one. The same tensors give the same
 * bytes: no time, no user, no machine is recorded.
 * ------------------------------------------------------------------------------------------------------- */

typedef struct qz_writer qz_writer;

typedef struct qz_create_options {
    size_t size;                  /* sizeof(qz_create_options) */
    int replace;                  /* not 0: an existing file is replaced, and its permissions are kept */
    int no_fsync;                 /* not 0: faster, but not safe against power loss */
    const qz_file *const *inputs; /* open files that must not be replaced, whatever path names them */
    size_t input_count;
    const char *layout; /* of quantized tensors: "own", "gguf", ... (see below); NULL: qz_layout_of_output() */
    const qz_file *metadata_from; /* NULL, or an open file whose metadata is passed on where the output is of the same
                                     kind: of safetensors what qz_metadata_at() gives, but for what it says of how
                                     tensors are quantized; of GGUF its keys, as they are, with general.file_type and
                                     general.quantization_version made right. It must stay open until qz_commit() */
    uint64_t shard_bytes;         /* not 0: the output is a folder, with a model in files of one kind, see below */
    uint64_t part;                /* of such a folder: what is made of it, see below; 0: all */
} qz_create_options;

#define QZ_CREATE_OPTIONS_INIT                                                                                         \
    {                                                                                                                  \
        sizeof(qz_create_options), 0, 0, NULL, 0, NULL, NULL, 0, 0                                                     \
    }

/* Begins a file. The extension of the path decides the kind. A symbolic link is not followed: it is refused. On
 * QZ_FILE_OK *writer is to be released with qz_commit() or qz_abort(); otherwise it is NULL. QZ_FILE_ARGUMENT: no kind
 * that is written has this extension, or a file was meant where `options` ask for a folder or a part of one;
 * QZ_FILE_EXISTS: something is there that may not be replaced; QZ_FILE_IO, QZ_FILE_MEMORY. */
QZ_API qz_file_result qz_create(const char *path, const qz_create_options *options, qz_writer **writer,
                                qz_file_error *error);

/*
 * A folder as output. Its tensors lie in model.safetensors, or, where they have more than shard_bytes bytes, in
 * model-00001-of-00002.safetensors and so on with model.safetensors.index.json, in the order of their declaration.
 * Where `metadata_from` is a model of safetensors whose file or index has another name, that stands for "model". If
 * `layout` is "gguf", the files are model.gguf, or model-00001-of-00002.gguf and so on: a split GGUF, whose first file
 * has the keys of `metadata_from`, and each of which has the keys that number it. A file has no more than shard_bytes
 * bytes of tensors, unless it holds a single one; a quantized tensor is not divided.
 * The folder must not be there, or be empty; `replace` does not matter. It appears whole, or not at all, as a file
 * does.
 */
#define QZ_SHARD_BYTES ((uint64_t)5 << 30) /* a usual size */

/*
 * A part of such a folder, for several programs that make one together. All of them declare all tensors; `part` N makes
 * a folder with its Nth file alone, from 1 on, for which the tensors of that file are written; QZ_PART_REST makes one
 * with what is no file of tensors: the index, and what qz_copy_beside() copies. Put into one folder, the files of all
 * parts are those of the whole.
 */
#define QZ_PART_REST UINT64_MAX

/* A file of a folder that is written. */
typedef struct qz_shard {
    size_t size;         /* sizeof(qz_shard), set by the caller */
    char name[64];       /* of the file */
    size_t first, count; /* the tensors in it, as qz_declare() numbers them */
    uint64_t bytes;      /* of these tensors */
} qz_shard;

/* How many files with tensors the folder has, and the file i of them, counted from 0. Nothing can be declared after
 * either. QZ_FILE_ARGUMENT where there is no such file, or the output is no folder. */
QZ_API qz_file_result qz_shard_count(qz_writer *writer, size_t *count, qz_file_error *error);
QZ_API qz_file_result qz_shard_at(qz_writer *writer, size_t i, qz_shard *shard, qz_file_error *error);

/*
 * Copies what lies beside a model that was opened to the folder that is written: all regular files but those of the
 * model, other files with weights (.safetensors, .gguf, .index.json), quantize-manifest.json and quantize-report.html,
 * which are about other files, and pickles (.bin, .pt, .pth, .ckpt, .pkl, .pickle), which can run code. A symbolic link
 * is copied as what it leads to, if qz_open() would follow it there. The files of folders in the folder are copied in
 * the same way, but not those of hidden folders, of folders that are links, and of more than eight in one another.
 *
 * config.json gets a member "quantization_config" of this value (JSON), or loses it where `quantization` is NULL; all
 * its other bytes stay. One of another program stays as well, and so does all of a file that is not understood: no
 * object, nested too deeply, more than 1 MiB, two such members.
 *
 * Where quantized tensors were declared in a layout that qz_create_options.layout names, the member is whosever it was
 * replaced: with NULL by what the programs of that layout read, if they do; one called "quantization", as MLX has it,
 * is put in or taken out in the same way, and quantize_config.json, quant_config.json and hf_quant_config.json, which
 * speak of the layout before, are left out. The same is done where the model has quantized tensors as another program
 * keeps them, since none of these are in the output. Tensors are declared before this call.
 *
 * `note` becomes what was left out or left as it is, for people; empty if nothing. Where it has no room for all, it
 * ends with how many more there are. note_size should be 200 or more; NULL and 0: nobody wants to know.
 * QZ_FILE_ARGUMENT: the output is no folder; QZ_FILE_IO: something beside the model could not be read.
 */
QZ_API qz_file_result qz_copy_beside(qz_writer *writer, const qz_file *model, const char *quantization, char *note,
                                     size_t note_size, qz_file_error *error);

/* Declares the next tensor: name, element, rank, shape and column_major of `tensor` count, and of QZ_ELEMENT_RAW the
 * type; they are copied. All tensors are declared before the first qz_write(). *index, which is what qz_write() wants,
 * may be NULL. In an .npz, names that end in ".int4" are for quantized tensors: see qz_part. */
QZ_API qz_file_result qz_declare(qz_writer *writer, const qz_tensor *tensor, size_t *index, qz_file_error *error);

/* Writes `count` elements from element `first` on. The ranges written to a tensor must cover it once, in any order
 * and mixed with other tensors; in order is faster. */
QZ_API qz_file_result qz_write(qz_writer *writer, size_t tensor, uint64_t first, uint64_t count, const void *src,
                               qz_file_error *error);

/* Completes the file and opens it, before it has its name: nothing can be written to it any more. What it is read for,
 * a comparison with what went in, is done before qz_commit() lets it take the place of an older file, or qz_abort()
 * drops it. It is to be closed before either. */
QZ_API qz_file_result qz_open_written(qz_writer *writer, const qz_open_options *options, qz_file **file,
                                      qz_file_error *error);

/* Completes the file and releases the writer, whatever it returns. An element that was not written, or a write that
 * failed: QZ_FILE_ARGUMENT or the error of that write, and no file. Only if the very last step fails, syncing the
 * folder (QZ_FILE_IO), the file is there, whole, but perhaps not for long if the power goes. */
QZ_API qz_file_result qz_commit(qz_writer *writer, qz_file_error *error);

/* Releases the writer and leaves no file. NULL is allowed. */
QZ_API void qz_abort(qz_writer *writer);

/* ----------------------------------------------------------------------------------------------------------
 * Tensors of eight bits
 *
 * For tensors that lose too much in four bits. A value has a code of one byte, and 32 neighbours in C order, a group,
 * share a scale of float16; the last group may be shorter:
 *
 *     value = code * scale
 *
 * To all readers such a tensor is one of float32, which qz_tensor_at() lists and qz_read() decodes. It lies
 *
 *     own     as NAME.int8, of int8 and the shape of the tensor, and NAME.int8_scales, float16 of one axis
 *     gguf    as blocks of Q8_0: the size of the last axis is a multiple of 32
 * ------------------------------------------------------------------------------------------------------- */

enum { QZ_EIGHT_GROUP = 32 };

/* Numbers of float32, float64, float16 or bfloat16 as float32, rounded to the nearest; 0 for another type. */
QZ_API int qz_element_floats(qz_element element, const void *src, size_t count, float *dst);

/* Bytes of so many values with their scales. */
QZ_API uint64_t qz_eight_bytes(uint64_t count);

/*
 * Encodes values into codes, and a scale for each group, by the rule of ggml's Q8_0:
 *
 *     step = max |x| / 127, scale = step as a float16, code = round(x * (1 / step))
 *
 * in float32, halves rounded away from 0. Returns `count`; or less, the first value of a group that cannot be encoded:
 * it has NaN or an infinity, or its scale would be above 65504.
 */
QZ_API size_t qz_eight_encode(const float *values, size_t count, int8_t *codes, uint16_t *scales);

QZ_API void qz_eight_decode(const int8_t *codes, const uint16_t *scales, size_t count, float *values);

/* Whether a tensor of a file has codes of eight bits. */
QZ_API int qz_eight_is(const qz_file *file, size_t tensor);

/* Reads the codes of `count` values from value `first` on, and the scales of their groups. Both are multiples of 32,
 * unless the last value is among them. QZ_FILE_ARGUMENT: they are not, or the tensor has no codes of eight bits. */
QZ_API qz_file_result qz_eight_read(qz_file *file, size_t tensor, uint64_t first, uint64_t count, int8_t *codes,
                                    uint16_t *scales, qz_file_error *error);

/* Why a tensor of floats cannot be kept in eight bits in a layout, as qz_layout_refuses() says it; NULL if it can.
 * `tensor` NULL: asks about the layout alone. */
QZ_API const char *qz_eight_refuses(const char *layout, const qz_tensor *tensor, char *out, size_t out_size);

/* Declares such a tensor: name and shape of `tensor` count. */
QZ_API qz_file_result qz_eight_declare(qz_writer *writer, const qz_tensor *tensor, size_t *index, qz_file_error *error);

/* Writes codes and scales, in ranges as qz_eight_read() has them, which must cover the tensor once. */
QZ_API qz_file_result qz_eight_write(qz_writer *writer, size_t index, uint64_t first, uint64_t count,
                                     const int8_t *codes, const uint16_t *scales, qz_file_error *error);

/* ----------------------------------------------------------------------------------------------------------
 * Tensors that keep their codes
 *
 * qz_read() decodes some tensors from codes that are neither four bits wide nor floats: ggml's blocks of Q8_0, Q5_0,
 * Q5_1, Q2_K, Q3_K, Q5_K, Q6_K, TQ1_0 and TQ2_0, and the eight bits above. Such a tensor can be copied to another file
 * with its codes instead of its values: blocks to a GGUF file, eight bits to the layouts own and gguf.
 * ------------------------------------------------------------------------------------------------------- */

/* ggml's name for the type of the codes, "Q6_K" for example, which is "Q8_0" for eight bits in any layout; NULL: the
 * tensor is not decoded, or has codes that cannot be copied. */
QZ_API const char *qz_stored_as(const qz_file *file, size_t tensor);

/* Whether the codes of a tensor have a place in a layout. */
QZ_API int qz_stored_stays(const qz_file *file, size_t tensor, const char *layout);

/* Declares a tensor with the name, the shape and the type of codes that one of a file has. QZ_FILE_REFUSED: it has no
 * codes that the output can hold. */
QZ_API qz_file_result qz_stored_declare(qz_writer *writer, const qz_file *file, size_t tensor, size_t *index,
                                        qz_file_error *error);

/* Copies the codes of `count` values from value `first` on; both are multiples of 256 unless the last value is among
 * them. The ranges must cover the tensor once. A block whose scale is not finite: QZ_FILE_FORMAT. */
QZ_API qz_file_result qz_stored_copy(qz_file *file, size_t tensor, qz_writer *writer, size_t index, uint64_t first,
                                     uint64_t count, qz_file_error *error);

/* ----------------------------------------------------------------------------------------------------------
 * Quantized tensors
 *
 * A quantized tensor NAME is kept as one tensor or several, its members. How they lie is a layout:
 *
 *     own     NAME.int4 (what it is), NAME.codes, NAME.scales and, if it has them, NAME.zeros, NAME.supers and
 *             NAME.table, in any kind of file but GGUF, which has no bytes; docs/npz.md of the project has the details
 *     gguf    blocks of codes in a GGUF file: Q4_0, Q4_1, Q4_K, IQ4_NL, IQ4_XS, MXFP4 and NVFP4, which are the schemes
 *             of these names in small letters. A float32 NAME.scale beside NAME.weight of NVFP4 is its super scale
 *     gptq, gptq_v2, awq, compressed-tensors, modelopt, gpt-oss, mlx, bitsandbytes
 *             as these programs keep them in .safetensors files; docs/howto-layouts.md has the details. What names and
 *             shapes leave open is taken from config.json or quantize_config.json beside the file. They are written
 *             in blocks that begin at a multiple of eight rows and columns, and end there or with the matrix
 *
 * Whatever the layout is, data is read and written in the library's plain form. Rows run along the quantized axis: with
 * K = shape[axis], the matrix has (product of the other sizes) rows of K columns, the other axes in their order.
 * ------------------------------------------------------------------------------------------------------- */

enum {
    QZ_MEMBER_HEADER, /* NAME.int4, or whichever tensor stands for the whole in another layout */
    QZ_MEMBER_CODES,
    QZ_MEMBER_SCALES,
    QZ_MEMBER_ZEROS,
    QZ_MEMBER_SUPERS,
    QZ_MEMBER_TABLE,
    QZ_MEMBERS
};

typedef struct qz_packed_tensor {
    size_t size;      /* sizeof(qz_packed_tensor), set by the caller */
    qz_scheme scheme; /* in a file: named like the first row of the scheme table that means the same, group size and
                         type of float scales apart; a caller's table is there until the file is closed */
    unsigned rank;    /* at least 1 */
    unsigned axis;
    uint64_t shape[QZ_MAX_RANK];
    uint64_t rows, cols;
    qz_sizes sizes;             /* of the whole matrix */
    size_t members[QZ_MEMBERS]; /* the tensors of the file or writer; SIZE_MAX for those that there are not */
    const char *layout;         /* its name, as qz_layout_at() has it */
    uint64_t bytes;             /* in the file */
} qz_packed_tensor;

/* Whether tensor i belongs to a quantized tensor. */
typedef enum qz_part {
    QZ_PART_NONE = 0,   /* an ordinary tensor */
    QZ_PART_HEADER = 1, /* the member that stands for the whole. In the layout "own": NAME.int4, if it is of int64 with
                           one axis, or has NAME.codes or NAME.scales beside it */
    QZ_PART_DATA = 2    /* one of the other members */
} qz_part;

QZ_API qz_part qz_packed_part(const qz_file *file, size_t tensor);

/* The quantized tensors, in the order of their headers: a program that lists a file in its order meets the next one at
 * each tensor that is QZ_PART_HEADER. Pointers live until qz_close(); a name has name_length bytes, and no NUL after
 * them. NULL and SIZE_MAX past the end. */
QZ_API size_t qz_packed_count(const qz_file *file);
QZ_API const char *qz_packed_name_at(const qz_file *file, size_t i, size_t *name_length);
QZ_API size_t qz_packed_place_at(const qz_file *file, size_t i); /* the tensor that is its header */

/* The quantized tensor of that name; SIZE_MAX if there is none. */
QZ_API size_t qz_packed_index(const qz_file *file, const char *name, size_t name_length);

/* Finds the quantized tensor `name` (without ".int4") and checks that its parts fit together. QZ_FILE_MISSING if
 * there is none, QZ_FILE_FORMAT if it is not consistent or of a later version of the format. */
QZ_API qz_file_result qz_packed_find(qz_file *file, const char *name, size_t name_length, qz_packed_tensor *packed,
                                     qz_file_error *error);

/* Checks all quantized tensors of a file as qz_packed_find() does, and that none of them has the name of an ordinary
 * one. Programs that list a file by names ask this first: then all of them accept the same files. */
QZ_API qz_file_result qz_packed_check(qz_file *file, qz_file_error *error);

/*
 * Reads rows row .. row + rows - 1, columns col .. col + cols - 1 into the plain form `dst`, as a matrix of its own.
 * `col` must be a multiple of two groups (of 2 if the group is the whole row), and so must `cols` unless it reaches
 * the end of the row; neither may divide the columns of a super scale that has but a part of the row. The bytes are not
 * validated: qz_validate() does that. Without memory for codes (dst->codes NULL) only the numbers beside them are read.
 */
QZ_API qz_file_result qz_packed_read(qz_file *file, const qz_packed_tensor *packed, uint64_t row, uint64_t rows,
                                     uint64_t col, uint64_t cols, const qz_packed *dst, qz_file_error *error);

/* The layout that quantized tensors have in an output of that name; NULL if no output can have it. */
QZ_API const char *qz_layout_of_output(const char *path);

/* The names of the layouts that there are; NULL past the last one. */
QZ_API const char *qz_layout_at(size_t i);

/* Whether outputs can have the layout of that name; others are only read. */
QZ_API int qz_layout_is_written(const char *layout);

/* Why an output of that name cannot have a layout, which is that of one kind of file alone; NULL if it can. A name
 * without the ending of a file is that of a folder. The words may be in `out`, as with qz_layout_refuses(). */
QZ_API const char *qz_layout_refuses_output(const char *layout, const char *path, char *out, size_t out_size);

/* Whether neighbours in a row do not lie together in the layout of that name: blocks of all rows are its fast way. */
QZ_API int qz_layout_is_across(const char *layout);

/* Why a quantized tensor cannot lie in a layout, in words that go on from "it cannot: "; NULL if it can. Rank 0: of any
 * shape. The words may be in `out`, which should have room for 200 characters. */
QZ_API const char *qz_layout_refuses(const char *layout, const qz_scheme *scheme, unsigned rank, const uint64_t *shape,
                                     unsigned axis, char *out, size_t out_size);

/* Some layouts can hold a scheme, but not all numbers of it. Why those of a block of rows x cols cannot lie in one, in
 * the same words; NULL if they can. `block` NULL: "" if it depends on the numbers, and a program that wants to refuse
 * before it writes has to look at them; NULL if all can. */
QZ_API const char *qz_layout_refuses_block(const char *layout, const qz_scheme *scheme, uint64_t rows, uint64_t cols,
                                           const qz_packed *block, char *out, size_t out_size);

/* Bytes of a quantized tensor in a layout; 0 also for one that it refuses. */
QZ_API uint64_t qz_layout_bytes(const char *layout, const qz_scheme *scheme, unsigned rank, const uint64_t *shape,
                                unsigned axis);

/* Declares the members of a quantized tensor and fills *packed. What qz_layout_refuses() is QZ_FILE_REFUSED. No other
 * tensor of the file can have the name that one of its members has or might have. */
QZ_API qz_file_result qz_packed_declare(qz_writer *writer, const char *name, size_t name_length,
                                        const qz_scheme *scheme, unsigned rank, const uint64_t *shape, unsigned axis,
                                        qz_packed_tensor *packed, qz_file_error *error);

/* Writes a block as qz_packed_read() reads one (a group of a whole row is not divided: col 0, all columns). The
 * blocks must cover the matrix once; whole rows in order are the fast way. In a GGUF file, they are whole blocks. Super
 * scales that are those of several blocks are taken from the one that begins the row, or the matrix. */
QZ_API qz_file_result qz_packed_write(qz_writer *writer, const qz_packed_tensor *packed, uint64_t row, uint64_t rows,
                                      uint64_t col, uint64_t cols, const qz_packed *src, qz_file_error *error);

#ifdef __cplusplus
}
#endif

#endif
