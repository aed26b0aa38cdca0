/*
 * table.h - prints results for people: tables on stdout
 */
#ifndef QZ_CLI_TABLE_H
#define QZ_CLI_TABLE_H

#include "cli.h"

/* A table on stdout: cells are added from left to right, and printed once all widths are known. */
typedef struct table {
    char **cells;
    size_t count, capacity, columns;
    const char *align; /* one character for each column: 'l' or 'r' */
} table;

void table_begin(table *t, const char *align, const char *const *titles);
void table_cell(table *t, const char *format, ...);
void table_print(table *t); /* and releases it */

#endif
