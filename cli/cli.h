/*
 * cli.h - what all files of the tool need: the public headers, and exit codes
 *
 *     main.c          the table of commands; signals
 *     args.c          options: one table, one parser
 *     describe.c      both tables as help, manual page and completion
 *     output.c        talk on stderr, progress
 *     text.c          text for people: names, bytes, shapes
 *     table.c json.c  results on stdout, for people and for programs
 *     report.c        the page of --report, with sha256.c
 *     results.c       those for programs: one object, or events meanwhile
 *     source.c        an input file as a list of tensors, quantized or not
 *     target.c        an output: a file, or a folder like that of the input
 *     scheme.c        schemes in words
 *     block.c         a tensor as a matrix, read and written in blocks of bounded size
 *     packed_block.c  the same for quantized tensors
 *     recode.c        the numbers of one scheme as those of another
 *     stats.c         statistics of tensors, and where in a tensor something is
 *     weights.c       the weights of encode
 *     gram.c          GPTQ, with Gram matrices from a file
 *     rules.c         rules by name, and what stays in models
 *     rule_file.c     files of rules
 *     recipe.c        a scheme with its method and axis, from options or words
 *     sample.c        rows of a tensor, on which schemes are tried
 *     imatrix.c       importance matrices of llama.cpp
 *     nonfinite.c     where NaN and infinity are
 *     resources.c     memory and threads
 *     memory_limit.c  what memory can do; bench/ uses it, too
 *     windows.c       how the tool starts on Windows
 *
 *     encode.c        a command, with encode_choose.c, encode_output.c, encode_part.c, encode_plan.c, encode_tensor.c
 *     decode.c convert.c compare.c info.c bench.c      the other commands
 *
 * The tool uses the public headers only.
 */
#ifndef QZ_CLI_H
#define QZ_CLI_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#ifndef _FILE_OFFSET_BITS
#define _FILE_OFFSET_BITS 64
#endif

#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <quantize.h>
#include <quantize_file.h>

/* Exit codes; docs/cli.md explains them. An interrupted run exits with 128 + the signal's number. */
enum { DONE = 0, DIFFERENT = 1, USAGE = 2, MALFORMED = 3, REFUSED = 4, IO_ERROR = 5, LIMIT = 6, INTERNAL = 7 };

#endif
