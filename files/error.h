/*
 * error.h - error messages that are safe to print
 */
#ifndef QZ_FILE_ERROR_H
#define QZ_FILE_ERROR_H

#include "system.h"

#include "quantize_file.h"

#if !defined(__GNUC__)
#define QZ_PRINTF(text, first)
#elif !defined(QZ_PRINTF) /* windows/posix.h has its own */
#define QZ_PRINTF(text, first) __attribute__((format(printf, text, first)))
#endif

/* Fills *error (if there is one) with "label: field at byte offset: ...", without the parts that are NULL or
 * QZ_NO_OFFSET, and returns `code`. Texts must be printable already. */
qz_file_result qz_fail(qz_file_error *error, qz_file_result code, const char *label, const char *field, uint64_t offset,
                       const char *format, ...) QZ_PRINTF(6, 7);

/* The same for what an option allows. */
qz_file_result qz_fail_option(qz_file_error *error, qz_file_result code, qz_file_option option, const char *label,
                              const char *field, uint64_t offset, const char *format, ...) QZ_PRINTF(7, 8);

/* For a system call that failed: "label: cannot ACTION: reason". Uses errno. */
qz_file_result qz_fail_errno(qz_file_error *error, const char *label, const char *action);

qz_file_result qz_fail_memory(qz_file_error *error, const char *label);

/* Whether the bytes are well-formed UTF-8. */
int qz_is_utf8(const char *text, size_t length);

#define QZ_NAME_TEXT 128 /* room for a name in a message */

#endif
