/*
 * system.h - asks the system for 64-bit offsets and O_TMPFILE
 *
 * The header of every file includes this one first, and every file its own header first.
 */
#ifndef QZ_FILE_SYSTEM_H
#define QZ_FILE_SYSTEM_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#ifndef _FILE_OFFSET_BITS
#define _FILE_OFFSET_BITS 64
#endif

#endif
